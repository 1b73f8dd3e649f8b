// The modules of src/ for the tests, and the vectors that they share with the Python ones.

import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));

/** Give the exports of a module of src/, or of several. */
export async function load(...names) {
  const contents = names.map((name) => `export * from "./${name}.ts";`).join("\n");
  const stdin = { contents, resolveDir: join(here, "../src"), loader: "ts" };
  const { outputFiles } = await build({ stdin, bundle: true, format: "esm", write: false, target: "node20" });
  return import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString("base64")}`);
}

/** Read a file of vectors, with the stand-ins for bytes and for unwritable numbers replaced. */
export function vectors(file) {
  return JSON.parse(readFileSync(join(here, "../../vectors", file), "utf8"), (_, value) => {
    const keys = value && typeof value === "object" ? Object.keys(value).join() : "";
    if (keys === "$binary") return Buffer.from(value.$binary, "base64");
    if (keys === "$number") return Number(value.$number);
    return value;
  });
}
