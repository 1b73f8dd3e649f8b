// The events of app.py on the reference implementation: what a client script proves here, it may demand of Mizzen.
// Usage: node reference_server.mjs PORT [msgpack]

import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const { Server } = require("socket.io");

const parser = process.argv[3] === "msgpack" ? { parser: require("socket.io-msgpack-parser") } : {};
const io = new Server({ allowEIO3: true, pingInterval: 1000, pingTimeout: 10_000, ...parser });

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

// What features.py does.
const features = io.of("/features");

features.on("connection", (socket) => {
  const heard = [], sent = [];
  socket.use((packet, next) => {
    if (packet[0] === "double") packet[1] *= 2;
    next(packet[0] === "guarded" && packet[1] === "bad" ? new Error("bad") : undefined);
  });
  socket.on("error", () => {});
  socket.on("double", (number, ack) => ack(number));
  socket.on("guarded", (text) => socket.emit("passed", text));
  socket.once("first", (number) => socket.emit("first", number));
  socket.onAny((event) => heard.push(event));
  socket.onAnyOutgoing((event) => sent.push(event));
  socket.on("disconnecting", (reason) => {
    const rooms = [...socket.rooms].filter((room) => room !== socket.id).sort();
    socket.to("watchers").emit("leaving", socket.id, rooms, reason);
  });
  socket.on("heard", (ack) => ack(heard));
  socket.on("sent", (ack) => ack(sent));
  socket.on("join", (...args) => {
    const ack = args.pop();
    socket.join(args);
    ack();
  });
  socket.on("poll", (room, seconds, ack) =>
    features.to(room).timeout(seconds * 1000).emit("vote", Buffer.from([1]), (error, replies) => ack({ replies, late: error !== null })));
  socket.on("who", async (room, ack) =>
    ack((await features.in(room).fetchSockets()).map(({ id, rooms }) => ({ id, rooms: [...rooms].sort() }))));
  socket.on("move", (source, target, ack) => {
    features.in(source).socketsJoin([target]);
    features.in(source).socketsLeave(source);
    ack();
  });
  socket.on("clear", (room, ack) => (features.in(room).disconnectSockets(), ack()));
  socket.on("flags", (room, ack) => {
    socket.send("one", Buffer.from([1]));
    socket.compress(false).emit("said", "self");
    socket.to([room]).emit("said", "to");
    socket.to(room).except(["nobody", "left out"]).emit("said", "except");
    socket.broadcast.emit("said", "broadcast");
    socket.local.emit("said", "local");
    features.to(room).compress(true).local.emit("said", "all");
    ack();
  });
});

const rooms = io.of(/^\/room-[0-9]+$/);
const keyed = io.of((name, auth, next) => next(null, name.startsWith("/keyed-") && auth.key === 1));

for (const parent of [rooms, keyed]) {
  parent.on("connection", (socket) => {
    socket.on("say", (text, ack) => (socket.nsp.emit("said", text), ack(socket.nsp.name)));
    socket.on("say_everywhere", (text, ack) => (rooms.emit("said", text), ack()));
  });
}

io.listen(Number(process.argv[2]));
