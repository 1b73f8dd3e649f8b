// The events of recovery_app.py on the reference implementation.
// Usage: node recovery_server.mjs PORT

import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const { Server } = require("socket.io");

const io = new Server({ connectionStateRecovery: { maxDisconnectionDuration: 60_000 } });

function serve(namespace) {
  namespace.on("connection", (socket) => {
    socket.on("join", (...rooms) => {
      const ack = rooms.pop();
      socket.join(rooms);
      ack();
    });
    socket.on("set", (value, ack) => ((socket.data.value = value), ack()));
    socket.on("state", (ack) => {
      const rooms = [...socket.rooms].filter((room) => room !== socket.id).sort();
      ack({ recovered: socket.recovered, rooms, value: socket.data.value ?? null });
    });
  });
}

for (const name of ["/", "/chat", /^\/dynamic-\d+$/]) serve(io.of(name));

io.of("/control").on("connection", (socket) => {
  socket.on("say", (nsp, rooms, excluded, args, ack) => (io.of(nsp).to(rooms).except(excluded).emit(...args), ack()));
  socket.on("say_volatile", (nsp, rooms, args, ack) => (io.of(nsp).to(rooms).volatile.emit(...args), ack()));
  socket.on("ask", (nsp, id, ack) => {
    io.of(nsp).sockets.get(id).timeout(200).emitWithAck("asked").catch(() => {});
    ack();
  });
  socket.on("writable", (nsp, id, ack) => ack(io.of(nsp).sockets.get(id).conn.transport.writable));
  socket.on("present", (nsp, id, ack) => ack(io.of(nsp).sockets.has(id)));
});

io.listen(Number(process.argv[2]));
