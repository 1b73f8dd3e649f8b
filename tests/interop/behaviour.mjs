// The events of the client's behaviour table, for any server of the socket.io kind, Sails' own included.

const notes = new Map();

function refusal() {
  const error = new Error("no");
  error.data = { code: "E_REFUSED" };
  return error;
}

function describe(socket) {
  const { query, headers, auth } = socket.handshake;
  return { id: socket.id, token: query.token ?? null, header: headers["x-behaviour"] ?? null, cookie: headers.cookie ?? null, auth: auth ?? {} };
}

function serve(socket, namespace) {
  socket.on("echo", (...args) => socket.emit("echoed", ...args));
  socket.on("echo_ack", (...args) => args.pop()(...args));
  socket.on("where", (ack) => ack(namespace));
  socket.on("describe", (ack) => ack(describe(socket)));
  socket.on("ask", (question, ack) => socket.emit("question", question, (...answer) => ack(...answer)));
  socket.on("silence", () => {});
  socket.on("kick", () => socket.disconnect());
  socket.on("kick_connection", () => socket.disconnect(true));
  socket.on("drop", () => socket.conn.close());
  socket.on("burst", (count) => {
    for (let index = 0; index < count; index++) socket.emit("burst", index, index % 10 ? null : Buffer.from([index % 256]));
  });
  // What has arrived, by key: nothing that was acked may be missing, and nothing may stand there twice that must not.
  socket.on("note", (key, value, ack) => {
    notes.set(key, [...(notes.get(key) ?? []), value]);
    if (ack) ack(value);
  });
  socket.on("notes", (key, ack) => ack(notes.get(key) ?? []));
}

export function serveBehaviour(io) {
  for (const name of ["/", "/chat"]) io.of(name).on("connection", (socket) => serve(socket, name));
  io.of("/refused").use((socket, next) => next(refusal()));
}
