// The server of Socket.IO's authors.   node node.mjs PORT ws|uws [--tls KEY CERTIFICATE] [--deflate]

import { readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { createRequire } from "node:module";
import { Server } from "socket.io";

const [port, engine, ...flags] = process.argv.slice(2);
const [key, certificate] = flags.includes("--tls") ? flags.slice(flags.indexOf("--tls") + 1) : [];
const options = { perMessageDeflate: flags.includes("--deflate") };

function overUWebSockets() {
  // A prebuilt addon: one file for each platform and version of Node's binary interface.
  const addon = `uws_${process.platform}_${process.arch}_${process.versions.modules}.node`;
  const uws = createRequire(import.meta.url)(`@trufflesuite/uws-js-unofficial/dist/${addon}`);
  const app = key ? new uws.SSLApp({ key_file_name: key, cert_file_name: certificate }) : new uws.App();
  const io = new Server(options);
  io.attachApp(app);
  app.listen("127.0.0.1", Number(port), (listening) => listening || process.exit(1));
  return io;
}

function overWs() {
  const server = key ? https.createServer({ key: readFileSync(key), cert: readFileSync(certificate) }) : http.createServer();
  server.listen(Number(port), "127.0.0.1", 4096);
  return new Server(server, options);
}

const io = engine === "uws" ? overUWebSockets() : overWs();

io.on("connection", (socket) => {
  socket.on("echo", (value, ack) => ack(value));
  socket.on("broadcast", (value) => io.emit("msg", value));
  socket.on("join", (room, ack) => {
    socket.join(room);
    ack();
  });
  socket.on("room", (room, value) => io.to(room).emit("msg", value));
});
