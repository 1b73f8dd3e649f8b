// The events of app.py on the reference implementation: what a client script proves here, it may demand of Mizzen.
// Usage: node reference_server.mjs PORT

import { createRequire } from "node:module";

const { Server } = createRequire(import.meta.url)("socket.io");

const io = new Server({ allowEIO3: true, pingInterval: 1000, pingTimeout: 10_000 });

function refuse() {
  const error = new Error("no");
  error.data = { code: "E_REFUSED", detail: ["é", 1] };
  return error;
}

function units(text) {
  return Array.from({ length: text.length }, (_, index) => text.charCodeAt(index));
}

function common(socket, namespace) {
  socket.on("echo", (...args) => socket.emit("echoed", ...args));
  socket.on("echo_ack", (...args) => args.pop()(...args));
  socket.on("where", (ack) => ack(namespace));
}

function onRooms(socket) {
  socket.on("join", (room, ack) => (socket.join(room), ack()));
  socket.on("leave", (room, ack) => (socket.leave(room), ack()));
  socket.on("say", (room, text, ack) => (io.to(room).emit("said", text), ack()));
  socket.on("say_others", (room, text, ack) => (socket.to(room).emit("said", text), ack()));
  socket.on("say_except", (room, other, text, ack) => (io.to(room).except(other).emit("said", text), ack()));
  socket.on("direct", (id, text, ack) => (io.to(id).emit("said", text), ack()));
}

function onCalls(socket) {
  socket.on("call_me", async (question, ack) => ack(await socket.timeout(5000).emitWithAck("ask", question)));
  socket.on("call_silent", (ack) => socket.timeout(100).emit("silence", (error) => ack(error ? "timeout" : "answered")));
  socket.on("units", (text, ack) => ack(units(text)));
  socket.on("measure", (bytes, ack) => ack({ binary: Buffer.isBuffer(bytes), size: bytes.length, sum: bytes.reduce((sum, byte) => sum + byte, 0) }));
  socket.on("handshake", (ack) => {
    const { query, headers, auth } = socket.handshake;
    ack({ id: socket.id, token: query.token ?? null, header: headers["x-interop"] ?? null, auth: auth ?? {} });
  });
}

function onStreams(socket) {
  let streaming = false;
  socket.on("stream", async () => {
    streaming = true;
    for (let index = 0; streaming; index++) {
      socket.emit("tick", index, index % 10 ? null : Buffer.from([index % 256]));
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    socket.emit("ticked");
  });
  socket.on("stop", () => { streaming = false; });
  socket.on("count", (...args) => socket.emit("counted", ...args));
  socket.on("burst", (count, text) => {
    for (let index = 0; index < count; index++) socket.emit("burst", index, text);
  });
  socket.on("volatile", () => {
    for (let index = 0; index < 3; index++) socket.volatile.emit("maybe", index);
    socket.emit("certain");
  });
}

io.use((socket, next) => next(socket.handshake.query.refuse ? refuse() : undefined));

io.on("connection", (socket) => {
  socket.emit("welcome", socket.id);
  common(socket, "/");
  onRooms(socket);
  onCalls(socket);
  onStreams(socket);
  socket.on("kick", () => socket.disconnect());
  socket.on("kick_connection", () => socket.disconnect(true));
  socket.on("disconnect", (reason) => io.to("watchers").emit("left", socket.id, reason));
});

for (const name of ["/chat", "/news"]) {
  io.of(name).on("connection", (socket) => common(socket, name));
}
io.of("/guarded").use((socket, next) => next(refuse()));
io.of("/refused").use((socket, next) => next(refuse()));

io.listen(Number(process.argv[2]));
