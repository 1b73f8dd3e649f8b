// A headless Chromium for the tests, from the npm package that carries it: no root, no system libraries, nothing to download.

import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const peers = createRequire(join(here, "../interop/package.json"));
const cache = join(here, "../../.cache");

// Only the font that comes with the browser, so that a page looks the same on every machine.
const fontsConfig = (home) => `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir prefix="relative">.</dir>
  <cachedir>${join(home, "fonts/cache")}</cachedir>
</fontconfig>
`;

/** Unpack the browser once, next to the place where it will be, so that an interrupted run leaves nothing half done. */
async function unpack() {
  const entry = peers.resolve("@sparticuz/chromium");
  const root = entry.slice(0, entry.lastIndexOf("/build/"));
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const home = join(cache, `chromium-${version}`);
  if (!existsSync(home)) {
    mkdirSync(cache, { recursive: true });
    const fresh = mkdtempSync(join(cache, "unpacking-"));
    // The package unpacks into the folder for temporary files, and its system libraries only where it believes to be on Amazon Linux.
    const before = { TMPDIR: process.env.TMPDIR, AWS_EXECUTION_ENV: process.env.AWS_EXECUTION_ENV };
    Object.assign(process.env, { TMPDIR: fresh, AWS_EXECUTION_ENV: "AWS_Lambda_nodejs20.x" });
    try {
      const { default: chromium } = await import(pathToFileURL(join(root, "build/esm/index.js")));
      await chromium.executablePath();
      renameSync(fresh, home);
    } catch (error) {
      rmSync(fresh, { recursive: true, force: true });
      if (!existsSync(home)) throw error; // else another process was faster
    } finally {
      for (const [name, value] of Object.entries(before)) {
        if (value === undefined) delete process.env[name];
        else process.env[name] = value;
      }
    }
  }
  return home;
}

/** Start the browser; the caller closes it. */
export async function launch() {
  const home = await unpack();
  writeFileSync(join(home, "fonts/fonts.conf"), fontsConfig(home)); // each time, as the project's folder may have moved
  const { chromium } = peers("playwright-core");
  return chromium.launch({
    executablePath: join(home, "chromium"),
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--font-render-hinting=none", "--disable-background-networking"],
    env: {
      ...process.env,
      FONTCONFIG_PATH: join(home, "fonts"),
      LD_LIBRARY_PATH: [join(home, "al2023/lib"), process.env.LD_LIBRARY_PATH].filter(Boolean).join(":"),
    },
  });
}
