// What every server of the client's behaviour table does, on socket.io 4.8 or 2.5.
// Usage: node behaviour_server.mjs PORT socket.io|socket.io-2

import { createServer } from "node:http";
import { createRequire } from "node:module";

import { serveBehaviour } from "./behaviour.mjs";

const [port, name] = process.argv.slice(2);
const options = { pingInterval: 1000, pingTimeout: 10_000, allowEIO3: true, maxHttpBufferSize: 1e6, perMessageDeflate: { threshold: 64 } };
const http = createServer();
const io = createRequire(import.meta.url)(name)(http, options);
serveBehaviour(io);
http.listen(Number(port), "127.0.0.1");
