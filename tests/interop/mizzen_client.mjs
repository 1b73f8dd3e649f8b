// Our own client for snippets that run in Node.js, with a WebSocket where Node.js has none.

import { createRequire } from "node:module";

globalThis.WebSocket ??= createRequire(import.meta.url)("ws");

export * from "../../src/mizzen/static/mizzen.mjs";
export { default } from "../../src/mizzen/static/mizzen.mjs";
