// node build.mjs [--package] [--out FOLDER]
//
// Builds what Python serves into src/mizzen/static/, or with --package what npm publishes into dist/. The same source gives the same bytes.

import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const { values } = parseArgs({ options: { package: { type: "boolean" }, out: { type: "string" } } });
const out = resolve(values.out ?? join(here, values.package ? "dist" : "../src/mizzen/static"));

async function bundle(entry, name, format, footer) {
  const { outputFiles } = await build({
    absWorkingDir: here,
    entryPoints: [`src/${entry}.ts`],
    outfile: name, // here, so that a source map does not depend on where it goes
    write: false,
    bundle: true,
    minify: true,
    sourcemap: true,
    format,
    footer: footer && { js: footer },
    target: ["chrome91", "edge91", "firefox90", "safari14.1", "node20"],
    charset: "utf8",
    legalComments: "none",
    // names that begin with _ are ours alone, except those that users of sails.io.js know
    mangleProps: /^_./,
    reserveProps: /^_(raw|connect)$/,
    logLevel: "warning",
  });
  for (const { path, contents } of outputFiles) writeFileSync(join(out, basename(path)), contents);
}

/** Join the declarations of all modules: one file, of which only the names that are meant for users are exported. */
function declarations() {
  const folder = mkdtempSync(join(tmpdir(), "mizzen-types-"));
  try {
    const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");
    const options = ["--project", here, "--declaration", "--emitDeclarationOnly", "--outDir", folder];
    execFileSync(process.execPath, [tsc, ...options], { stdio: ["ignore", "inherit", "inherit"] });
    const modules = "emitter binary codec payload transport polling websocket engine socket manager requests sails io";
    const texts = modules.split(" ").map((name) => readFileSync(join(folder, `${name}.d.ts`), "utf8"));
    const exported = readFileSync(join(folder, "index.d.ts"), "utf8");
    return [...texts.map(internal), publicTypes(texts, exported), exported.replace(/^import .*\n/gm, "")].join("\n");
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Take out of a module's declarations what is for other modules only. */
function internal(text) {
  return text
    .replace(/^import [^;]*;\n/gm, "")
    .replace(/^export (type )?\{[^}]*\};\n/gm, "")
    .replace(/^(\/\*\*.*\*\/\n)?export declare (function .*;|const enum [^}]*\}|const (?!io:|protocol).*;)\n/gm, "")
    .replace(/^( *\/\*\*.*\*\/\n)? +private .*;\n/gm, "")
    .replace(/\bPacketType\b/g, "number")
    .replace(/^export (declare |interface |type )/gm, (_, kind) => (kind === "declare " ? kind : `declare ${kind}`));
}

/** Export the types that the modules export, but for those of classes that are exported anyway. */
function publicTypes(texts, exported) {
  const names = texts.flatMap((text) => [...text.matchAll(/^export (?:interface|type|declare class) (\w+)/gm)].map(([, name]) => name));
  const only = [...new Set(names)].filter((name) => !new RegExp(`^export \\{.*\\b${name}( |,|;)`, "m").test(exported));
  return `export type { ${only.sort().join(", ")} };`;
}

const GLOBAL = `// The types of the global \`io\` that the script mizzen.js makes.

import type { IO } from "./mizzen.mjs";

declare global {
  const io: IO;
}
`;

mkdirSync(out, { recursive: true });
await bundle("index", "mizzen.mjs", "esm");
await bundle("script", "mizzen.js", "iife");
const types = `// Made by js/build.mjs.\n\n${declarations()}`;
writeFileSync(join(out, "mizzen.d.mts"), types);
writeFileSync(join(out, "mizzen.d.ts"), GLOBAL);
if (values.package) {
  // what CommonJS programs get is the function `io`, which has the other names
  await bundle("index", "mizzen.cjs", "cjs", "module.exports = Object.assign(module.exports.io, module.exports);");
  writeFileSync(join(out, "mizzen.d.cts"), `import { io } from "./mizzen.mjs";\nexport = io;\n`);
}
