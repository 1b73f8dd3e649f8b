// Every case of one client version over one way to connect, as JSON lines {case, ok, detail}.
// Usage: node clients.mjs URL 2|3|4|mizzen polling|websocket|upgrade [msgpack], where mizzen is our own client

import assert from "node:assert/strict";
import { createRequire } from "node:module";

import { needWebSocket } from "./websocket.mjs";

const [url, version, way, parserName] = process.argv.slice(2);
const ours = version === "mizzen";
const major = ours ? 4 : Number(version);
if (ours) needWebSocket();
// Node.js 22 and later have a WebSocket of the browser's kind, which clients of socket.io 2 would take and which sends no headers.
else delete globalThis.WebSocket;
const require = createRequire(import.meta.url);
const io = ours ? (await import("../../src/mizzen/static/mizzen.mjs")).io : require(`socket.io-client-${version}`);
const msgpack = parserName === "msgpack";
const parser = msgpack ? { parser: require("socket.io-msgpack-parser") } : {};
const transports = way === "upgrade" ? ["polling", "websocket"] : [way];
const TIMEOUT = 8000;
const REFUSAL = { code: "E_REFUSED", detail: ["é", 1] };

let open = [];

function connect(path = "/", options = {}) {
  const socket = io(url + path, { transports, forceNew: true, reconnection: false, ...parser, ...options });
  open.push(socket);
  return socket;
}

function once(socket, event) {
  return new Promise((resolve) => socket.once(event, (...args) => resolve(args)));
}

async function connected(path, options) {
  const socket = connect(path, options);
  const failed = once(socket, major === 2 ? "error" : "connect_error").then(([error]) => {
    throw new Error(`not connected: ${error?.message ?? JSON.stringify(error)}`);
  });
  failed.catch(() => {});
  await Promise.race([once(socket, "connect"), failed]);
  return socket;
}

function ask(socket, event, ...args) {
  return new Promise((resolve) => socket.emit(event, ...args, (...reply) => resolve(reply)));
}

let names = 0;
const started = Date.now();

// Namespaces stay: two runs against one server must not meet in them.
function unique() {
  return started * 1000 + names++;
}

async function fence(socket) {
  assert.deepEqual(await ask(socket, "echo_ack", "fence"), ["fence"]);
}

async function upgraded(socket) {
  const engine = socket.io.engine;
  if (way === "upgrade" && engine.transport.name !== "websocket") await new Promise((resolve) => engine.once("upgrade", resolve));
}

// Clients 2 and 3 lose a connect() that comes while their old WebSocket is still closing.
async function reopened(socket) {
  const engine = socket.io.engine;
  if (engine.readyState !== "closed") await new Promise((resolve) => engine.once("close", resolve));
  socket.connect();
  await once(socket, "connect");
  await fence(socket);
}

async function echoes(socket, ...args) {
  const back = once(socket, "echoed");
  socket.emit("echo", ...args);
  assert.deepEqual(await back, args);
  assert.deepEqual(await ask(socket, "echo_ack", ...args), args);
}

async function refusal(socket) {
  socket.on("connect", () => assert.fail("connected although refused"));
  const [error] = await once(socket, major === 2 ? "error" : "connect_error");
  if (major === 2) return assert.deepEqual(error, REFUSAL);
  assert.equal(error.message, "no");
  assert.deepEqual(error.data, REFUSAL);
}

function inOrder(indices, least) {
  assert.ok(indices.length >= least, `${indices.length} of at least ${least} messages`);
  indices.forEach((index, position) => assert.equal(index, position, `message ${index} at position ${position}`));
}

const cases = {
  async connect() {
    const socket = await connected();
    assert.equal(typeof socket.id, "string");
    assert.equal((await ask(socket, "handshake"))[0].id, socket.id);
  },

  async handshake() {
    const auth = major === 2 ? {} : { token: "ä😀", nested: { list: [1, null] } };
    const socket = await connected("/", { auth, query: { token: "t k&n" }, extraHeaders: { "x-interop": "yes" } });
    assert.deepEqual((await ask(socket, "handshake"))[0], { id: socket.id, token: "t k&n", header: "yes", auth });
  },

  async transport() {
    const socket = await connected();
    await upgraded(socket);
    assert.equal(socket.io.engine.transport.name, way === "polling" ? "polling" : "websocket");
    await echoes(socket, way);
  },

  async welcome_follows_connect() {
    const socket = connect();
    const order = [];
    socket.on("connect", () => order.push("connect"));
    const [id] = await new Promise((resolve) => socket.on("welcome", (...args) => (order.push("welcome"), resolve(args))));
    assert.deepEqual(order, ["connect", "welcome"]);
    assert.equal(id, socket.id);
  },

  async arguments() {
    const socket = await connected();
    await echoes(socket);
    await echoes(socket, null);
    await echoes(socket, 0, "", false, true, [], {});
    await echoes(socket, 1.5, -0.25, 5e-324, 9007199254740991, -9007199254740991, 2 ** 63);
    if (!msgpack) await echoes(socket, 1e21, 1.7976931348623157e308, 2 ** 64, 1e100); // which notepack.io 2 writes wrong
    await echoes(socket, { a: { b: [{ c: [[["deep"]]] }] }, "": 1, "key é": null, _placeholder: "no", num: 0 });
    if (!msgpack) await echoes(socket, JSON.parse('{"__proto__":[1]}'));
  },

  async unicode() {
    const socket = await connected();
    for (const text of ["é", "漢字", "😀", "a\u0000b\u001e\u007f\u2028\u2029", "\ufeff", '"\\/\b\f\n\r\t', "👩‍👩‍👧‍👦"]) {
      await echoes(socket, text, { [text]: text });
      assert.deepEqual(await ask(socket, "units", text), [Array.from({ length: text.length }, (_, i) => text.charCodeAt(i))]);
    }
  },

  async lone_surrogates() {
    const socket = await connected();
    for (const text of ["\ud83d", "a\ude00b", "\ude00\ud83d", "😀\ud83d"]) {
      await echoes(socket, text, { [text]: [text] });
      assert.deepEqual(await ask(socket, "units", text), [Array.from({ length: text.length }, (_, i) => text.charCodeAt(i))]);
    }
  },

  async unicode_in_one_payload() {
    const socket = await connected();
    const text = "é漢😀\ud83d";
    const got = [];
    const all = new Promise((resolve) => socket.on("burst", (...args) => got.push(args) === 20 && resolve()));
    socket.emit("burst", 10, text);
    socket.emit("burst", 10, text);
    await all;
    assert.deepEqual(got, Array.from({ length: 20 }, (_, index) => [index % 10, text]));
  },

  async ack_many() {
    const socket = await connected();
    const replies = await Promise.all(Array.from({ length: 50 }, (_, index) => ask(socket, "echo_ack", index, [index])));
    assert.deepEqual(replies, Array.from({ length: 50 }, (_, index) => [index, [index]]));
  },

  async ack_from_client() {
    const socket = await connected();
    socket.on("ask", (question, answer) => answer({ question }));
    assert.deepEqual(await ask(socket, "call_me", "why"), [{ question: "why" }]);
    assert.deepEqual(await ask(socket, "call_me", null), [{ question: null }]);
  },

  async ack_timeout_of_server() {
    const socket = await connected();
    assert.deepEqual(await ask(socket, "call_silent"), ["timeout"]);
    await fence(socket);
  },

  async ack_without_listener() {
    const socket = await connected();
    let acked = false;
    socket.emit("nobody_listens", 1, () => (acked = true));
    await fence(socket);
    assert.equal(acked, false);
  },

  async binary() {
    const socket = await connected();
    const [reply] = await ask(socket, "measure", Buffer.from([1, 2, 250]));
    assert.deepEqual(reply, { binary: true, size: 3, sum: 253 });
    await echoes(socket, Buffer.from([0, 1, 4, 255]));
    await echoes(socket, Buffer.alloc(0), "text", Buffer.from("four"));
    await echoes(socket, { a: Buffer.from([1]), b: [{ c: Buffer.from([2]) }, "x", null] }, "é", [Buffer.from([3])]);
  },

  async binary_typed_array() {
    const socket = await connected();
    const array = Uint8Array.from([1, 2, 3]);
    const [bytes] = await ask(socket, "echo_ack", major === 2 ? array.buffer : array);
    assert.deepEqual(Buffer.from(bytes), Buffer.from([1, 2, 3]));
  },

  async binary_ack() {
    const socket = await connected();
    socket.on("ask", (question, answer) => answer({ size: question.length, bytes: Buffer.concat([question, question]) }));
    assert.deepEqual(await ask(socket, "call_me", Buffer.from([7, 8])), [{ size: 2, bytes: Buffer.from([7, 8, 7, 8]) }]);
  },

  async binary_as_base64() {
    const socket = await connected("/", { forceBase64: true });
    await echoes(socket, Buffer.from([0, 1, 4, 255]), "é", { b: Buffer.from("text") });
    await upgraded(socket);
    await echoes(socket, Buffer.from([0, 1, 4, 255]), "é", { b: Buffer.from("text") });
  },

  async large() {
    const socket = await connected();
    await echoes(socket, "x".repeat(200_000));
    await echoes(socket, "é漢😀".repeat(20_000));
    const bytes = Buffer.from(Array.from({ length: 200_000 }, (_, index) => index % 251));
    await echoes(socket, bytes);
  },

  async order() {
    const socket = connect();
    const ticks = [], counted = [];
    let sent = 0, ticksAtUpgrade = null, sentAtUpgrade = null;
    await once(socket, "connect");
    upgraded(socket).then(() => ([ticksAtUpgrade, sentAtUpgrade] = [ticks.length, sent]));
    const ended = once(socket, "ticked");
    const returned = new Promise((resolve) => socket.on("counted", (index, extra) => {
      counted.push(index);
      if (index % 10 === 0 && !Buffer.from([index % 256]).equals(extra)) resolve(new Error(`message ${index} lost its bytes`));
      if (index === -1) resolve();
    }));
    socket.on("tick", (index) => ticks.push(index));
    socket.emit("stream");
    while (sent < 200 || sentAtUpgrade === null || sent < sentAtUpgrade + 50 || ticks.length < Math.max(200, ticksAtUpgrade + 50)) {
      socket.emit("count", sent, sent % 10 ? null : Buffer.from([sent % 256]));
      sent++;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    socket.emit("stop");
    socket.emit("count", -1);
    await ended;
    const error = await returned;
    if (error) throw error;
    assert.equal(counted.pop(), -1);
    assert.equal(counted.length, sent);
    inOrder(counted, 200);
    inOrder(ticks, 200);
    if (way === "upgrade") assert.ok(sentAtUpgrade > 0, "nothing was sent before the upgrade");
  },

  async namespaces() {
    const main = await connected();
    const manager = main.io;
    const chat = manager.socket("/chat"), news = manager.socket("/news");
    await Promise.all([once(chat, "connect"), once(news, "connect")]);
    assert.deepEqual(await Promise.all([main, chat, news].map((socket) => ask(socket, "where"))), [["/"], ["/chat"], ["/news"]]);
    await Promise.all([main, chat, news].map((socket, index) => echoes(socket, index, Buffer.from([index]))));
    assert.equal(new Set([main.id, chat.id, news.id]).size, 3);
    chat.disconnect();
    await echoes(main, "still here");
    await echoes(news, "here too");
    chat.connect();
    await once(chat, "connect");
    assert.deepEqual(await ask(chat, "where"), ["/chat"]);
  },

  async namespace_unknown() {
    const main = await connected();
    const socket = main.io.socket("/unknown");
    const [error] = await once(socket, major === 2 ? "error" : "connect_error");
    assert.equal(error.message ?? error, "Invalid namespace");
    await fence(main);
  },

  async rooms() {
    const [a, b, c] = await Promise.all([connected(), connected(), connected()]);
    const room = `room ${a.id}`;
    const heard = { a: [], b: [], c: [] };
    for (const [name, socket] of Object.entries({ a, b, c })) socket.on("said", (text) => heard[name].push(text));
    await Promise.all([ask(a, "join", room), ask(b, "join", room)]);
    await ask(b, "join", "other");
    await ask(c, "say", room, "to the room");
    await ask(a, "say_others", room, "to the others");
    await ask(c, "say_except", room, "other", "to a alone");
    await ask(a, "direct", c.id, "to c");
    await ask(b, "leave", room);
    await ask(c, "say", room, "after leaving");
    await Promise.all([fence(a), fence(b), fence(c)]);
    assert.deepEqual(heard, {
      a: ["to the room", "to a alone", "after leaving"],
      b: ["to the room", "to the others"],
      c: ["to c"],
    });
  },

  async refused_by_middleware() {
    const main = await connected();
    await refusal(main.io.socket("/guarded"));
    await fence(main);
  },

  async refused_by_connect_handler() {
    const main = await connected();
    await refusal(main.io.socket("/refused"));
    await fence(main);
  },

  async refused_in_main_namespace() {
    await refusal(connect("/", { query: { refuse: "1" } }));
  },

  async disconnected_by_server() {
    const socket = await connected();
    const gone = once(socket, "disconnect");
    socket.emit("kick");
    assert.equal((await gone)[0], "io server disconnect");
    await reopened(socket);
  },

  async connection_closed_by_server() {
    const socket = await connected();
    const gone = once(socket, "disconnect");
    socket.emit("kick_connection");
    assert.ok(["io server disconnect", "transport close"].includes((await gone)[0]));
  },

  async disconnected_by_client() {
    const watcher = await connected();
    await ask(watcher, "join", "watchers");
    const socket = await connected();
    const id = socket.id;
    const left = new Promise((resolve) => watcher.on("left", (who, reason) => who === id && resolve(reason)));
    socket.disconnect();
    assert.equal(await left, "client namespace disconnect");
    await reopened(socket);
    assert.notEqual(socket.id, id);
  },

  async connection_closed_by_client() {
    const watcher = await connected();
    await ask(watcher, "join", "watchers");
    const socket = await connected();
    await upgraded(socket);
    const id = socket.id;
    const left = new Promise((resolve) => watcher.on("left", (who, reason) => who === id && resolve(reason)));
    socket.io.engine.close();
    assert.equal(await left, "transport close");
  },

  async volatile() {
    const socket = await connected();
    await upgraded(socket);
    let maybe = [];
    socket.on("maybe", (index) => maybe.push(index));
    for (let round = 0; round < 20 && maybe.length === 0; round++) {
      const certain = once(socket, "certain");
      socket.emit("volatile");
      await certain;
      assert.deepEqual(maybe, [...maybe].sort());
    }
    assert.equal(maybe[0], 0);
  },
};

if (major >= 3) {
  cases.volatile_of_client = async () => {
    const socket = await connected();
    await upgraded(socket);
    const back = once(socket, "echoed");
    let arrived = false;
    back.then(() => (arrived = true));
    for (let round = 0; round < 100 && !arrived; round++) {
      await new Promise((resolve) => setTimeout(resolve, 1)); // its WebSocket is not writable in the turn of another emit
      socket.volatile.emit("echo", "maybe");
      await fence(socket);
    }
    assert.deepEqual(await back, ["maybe"]);
  };

  cases.auth_function = async () => {
    const socket = await connected("/", { auth: (give) => give({ made: "late" }) });
    assert.deepEqual((await ask(socket, "handshake"))[0].auth, { made: "late" });
  };
}

if (major >= 4) {
  cases.ack_timeout_of_client = async () => {
    const socket = await connected();
    await assert.rejects(socket.timeout(50).emitWithAck("nobody_listens"), /operation has timed out/);
    assert.equal(await socket.timeout(5000).emitWithAck("echo_ack", 1), 1);
  };

  cases.retries = async () => {
    const socket = await connected("/", { retries: 2, ackTimeout: 5000 });
    assert.equal(await socket.emitWithAck("echo_ack", "kept"), "kept");
  };

  cases.dynamic_namespaces = async () => {
    const main = await connected();
    const [one, two] = [`/room-${unique()}`, `/room-${unique()}`].map((name) => main.io.socket(name));
    const [other] = await Promise.all([connected(one.nsp), once(one, "connect"), once(two, "connect")]);
    const heard = { one: [], two: [], other: [] };
    for (const [name, socket] of Object.entries({ one, two, other })) socket.on("said", (text) => heard[name].push(text));
    assert.deepEqual(await ask(one, "say", "in one"), [one.nsp]);
    assert.deepEqual(await ask(two, "say", Buffer.from([2])), [two.nsp]);
    await ask(other, "say_everywhere", "everywhere");
    await Promise.all([one, two, other].map((socket) => ask(socket, "say_everywhere", socket.nsp)));
    const seen = (list) => list.slice(0, 2);
    assert.deepEqual([seen(heard.one), seen(heard.two), seen(heard.other)], [
      ["in one", "everywhere"], [Buffer.from([2]), "everywhere"], ["in one", "everywhere"],
    ]);
    const unknown = main.io.socket("/room-x");
    assert.equal((await once(unknown, "connect_error"))[0].message, "Invalid namespace");
    await fence(main);
  };

  cases.namespaces_by_function = async () => {
    const name = `/keyed-${unique()}`;
    const refused = connect(name, { auth: { key: 2 } });
    assert.equal((await once(refused, "connect_error"))[0].message, "Invalid namespace");
    const sockets = await Promise.all([1, 2, 3].map(() => connected(name, { auth: { key: 1 } })));
    const said = Promise.all(sockets.map((socket) => once(socket, "said")));
    assert.deepEqual(await ask(sockets[0], "say", "hello"), [name]);
    assert.deepEqual(await said, [["hello"], ["hello"], ["hello"]]);
    const late = await connected(name); // who comes later is not asked for a key
    assert.deepEqual(await ask(late, "say", "late"), [name]);
  };

  cases.packet_middleware = async () => {
    const socket = await connected("/features");
    const passed = [];
    socket.on("passed", (text) => passed.push(text));
    assert.deepEqual(await ask(socket, "double", 21), [42]);
    for (const text of ["good", "bad", "better"]) socket.emit("guarded", text);
    assert.deepEqual(await ask(socket, "double", 1), [2]);
    assert.deepEqual(passed, ["good", "better"]);
  };

  cases.catch_all_and_once = async () => {
    const socket = await connected("/features");
    const first = once(socket, "first");
    socket.emit("first", 1);
    socket.emit("first", 2);
    assert.deepEqual(await first, [1]);
    socket.emit("nobody listens", Buffer.from([1]));
    await ask(socket, "flags", "nobody");
    assert.deepEqual((await ask(socket, "heard"))[0], ["first", "first", "nobody listens", "flags", "heard"]);
    assert.deepEqual((await ask(socket, "sent"))[0], ["first", "message", "said"]);
  };

  cases.disconnecting = async () => {
    const watcher = await connected("/features");
    await ask(watcher, "join", "watchers");
    for (const [leave, reason] of [
      [(socket) => socket.disconnect(), "client namespace disconnect"],
      [(socket) => socket.io.engine.close(), "transport close"],
    ]) {
      const socket = await connected("/features");
      await upgraded(socket);
      const { id } = socket;
      await ask(socket, "join", "b", "a");
      const leaving = new Promise((resolve) => watcher.on("leaving", (who, ...rest) => who === id && resolve(rest)));
      leave(socket);
      assert.deepEqual(await leaving, [["a", "b"], reason]);
    }
  };

  cases.broadcast_acks = async () => {
    const [a, b, c] = await Promise.all([1, 2, 3].map(() => connected("/features")));
    const room = `room ${a.id}`;
    await Promise.all([a, b, c].map((socket) => ask(socket, "join", room)));
    a.on("vote", (bytes, answer) => answer(bytes[0], "dropped"));
    b.on("vote", (bytes, answer) => answer(Buffer.from([bytes[0], 2])));
    const replies = ({ replies }) => replies.map((reply) => JSON.stringify(reply)).sort();
    const [late] = await ask(a, "poll", room, 0.15);
    assert.deepEqual([late.late, replies(late)], [true, replies({ replies: [1, Buffer.from([1, 2])] })]);
    c.on("vote", (bytes, answer) => answer());
    const [done] = await ask(a, "poll", room, 5);
    assert.equal(done.late, false);
    assert.deepEqual(replies({ replies: done.replies.map((reply) => reply ?? null) }), replies({ replies: [1, Buffer.from([1, 2]), null] }));
    assert.deepEqual(await ask(a, "poll", "nobody", 5), [{ replies: [], late: false }]);
  };

  cases.across_the_namespace = async () => {
    const [a, b, c] = await Promise.all([1, 2, 3].map(() => connected("/features")));
    const [from, to] = [`from ${a.id}`, `to ${a.id}`];
    await Promise.all([a, b].map((socket) => ask(socket, "join", from)));
    const byId = (x, y) => (x.id < y.id ? -1 : 1);
    const expected = (room) => [a, b].map(({ id }) => ({ id, rooms: [id, room].sort() })).sort(byId);
    assert.deepEqual((await ask(c, "who", from))[0].sort(byId), expected(from));
    await ask(c, "move", from, to);
    assert.deepEqual((await ask(c, "who", from))[0], []);
    assert.deepEqual((await ask(c, "who", to))[0].sort(byId), expected(to));
    const gone = Promise.all([a, b].map((socket) => once(socket, "disconnect")));
    await ask(c, "clear", to);
    assert.deepEqual((await gone).map(([reason]) => reason), ["io server disconnect", "io server disconnect"]);
    assert.deepEqual((await ask(c, "who", to))[0], []);
  };

  cases.flags = async () => {
    const [a, b, c] = await Promise.all([1, 2, 3].map(() => connected("/features")));
    const room = `room ${a.id}`;
    await Promise.all([a, b].map((socket) => ask(socket, "join", room)));
    await ask(c, "join", "left out");
    const heard = { a: [], b: [], c: [] };
    for (const [name, socket] of Object.entries({ a, b, c })) socket.on("said", (text) => heard[name].push(text));
    const message = once(a, "message");
    await ask(a, "flags", room);
    assert.deepEqual(await message, ["one", Buffer.from([1])]);
    await Promise.all([b, c].map((socket) => ask(socket, "heard")));
    assert.deepEqual(heard, { a: ["self", "all"], b: ["to", "except", "broadcast", "local", "all"], c: ["broadcast", "local"] });
  };
}

if (msgpack) {
  // Half a surrogate pair is nothing that UTF-8 could carry.
  delete cases.lone_surrogates;
  delete cases.unicode_in_one_payload;

  cases.what_json_has_not = async () => {
    const socket = await connected();
    await echoes(socket, new Date(0), { at: new Date(-1), then: [new Date(1_732_233_600_123)] }, NaN, Infinity, -Infinity);
    const [nothing, rest] = await ask(socket, "echo_ack", undefined, { a: undefined, b: [undefined] });
    assert.equal(nothing ?? null, null);
    assert.equal(rest.a ?? rest.b[0] ?? null, null);
  };

  cases.array_buffers = async () => {
    const socket = await connected();
    for (const size of [0, 1, 2, 4, 8, 16, 255, 256, 70_000]) {
      const bytes = Uint8Array.from({ length: size }, (_, index) => index % 256);
      const [at, back, buffer] = await ask(socket, "echo_ack", new Date(size), bytes, bytes.buffer);
      assert.deepEqual(at, new Date(size));
      assert.deepEqual([Buffer.from(back), Buffer.from(buffer)], [Buffer.from(bytes), Buffer.from(bytes)]);
    }
  };
}

async function run(name) {
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`not done after ${TIMEOUT} ms`)), TIMEOUT)));
  try {
    await Promise.race([cases[name](), late]);
    return { case: name, ok: true, detail: "" };
  } catch (error) {
    return { case: name, ok: false, detail: String(error?.stack ?? error) };
  } finally {
    clearTimeout(timer);
    open.forEach((socket) => socket.disconnect());
    open = [];
  }
}

let failed = null;
process.on("uncaughtException", (error) => (failed = error));
process.on("unhandledRejection", (error) => (failed = error));

let allOk = true;
for (const name of Object.keys(cases)) {
  const result = await run(name);
  if (result.ok && failed) Object.assign(result, { ok: false, detail: String(failed.stack ?? failed) });
  failed = null;
  allOk &&= result.ok;
  console.log(JSON.stringify(result));
}
process.exit(allOk ? 0 : 1);
