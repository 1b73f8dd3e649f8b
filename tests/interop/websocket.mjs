// The WebSocket of the browser's kind, which Node.js before 22 has only if it is asked for it.

import { spawnSync } from "node:child_process";

/** Run this script again with a WebSocket, in the place of this process, if it has none. */
export function needWebSocket() {
  if (globalThis.WebSocket) return;
  const { status } = spawnSync(process.execPath, ["--experimental-websocket", ...process.argv.slice(1)], { stdio: "inherit" });
  process.exit(status ?? 1);
}
