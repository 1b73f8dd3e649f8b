// The types of the global `io` that the script mizzen.js makes.

import type { IO } from "./mizzen.mjs";

declare global {
  const io: IO;
}
