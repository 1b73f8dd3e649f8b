// What a script tag loads: the global `io`, with the settings that its attributes have.

import { io } from "./io.js";
import { addSails } from "./sails.js";

(globalThis as { io?: unknown }).io = io;
addSails(io, globalThis.document?.currentScript as HTMLScriptElement | null);
