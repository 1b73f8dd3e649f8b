// Echoes large texts and binaries over a compressed WebSocket, and prints what crossed the wire as one line of JSON.
import { createRequire } from "node:module";

const require = createRequire(new URL("../interop/package.json", import.meta.url));
const { io } = require("socket.io-client-4");

const [url, way] = process.argv.slice(2);
const socket = io(url, {
  transports: way === "websocket" ? ["websocket"] : ["polling", "websocket"],
  reconnection: false,
  perMessageDeflate: { threshold: 1024 },
});

await new Promise((resolve) => {
  socket.on("connect", () => {
    if (socket.io.engine.transport.name === "websocket") resolve();
    else socket.io.engine.once("upgrade", resolve);
  });
});
const ws = socket.io.engine.transport.ws;
const same = [];
for (const size of [10, 1_000, 100_000, 300_000]) {
  const text = "abcdefghij é".repeat(size / 10).slice(0, size);
  const data = Buffer.alloc(size, 7);
  const [text2, data2] = await socket.timeout(5000).emitWithAck("echo", text, data);
  same.push(text === text2 && data.equals(Buffer.from(data2)));
}
console.log(
  JSON.stringify({ extensions: ws.extensions, same, read: ws._socket.bytesRead, written: ws._socket.bytesWritten }),
);
socket.close();
