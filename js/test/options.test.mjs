// Options of the connection, each against a server that is a function: what it is asked, and what becomes of its answers.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { load } from "./modules.mjs";

const { io, Manager } = await load("io", "manager");

const OPEN = { upgrades: [], pingInterval: 25_000, pingTimeout: 20_000, maxPayload: 1_000_000 };
const turn = () => new Promise((resolve) => setTimeout(resolve));
const until = async (holds) => {
  while (!holds()) await turn();
};

let server, made;

/** Answers the first GET of a session with a handshake and each CONNECT with its acceptance; other GETs wait for `say`. */
class Server {
  requests = [];
  posts = [];
  sessions = 0;
  waiting = {}; // by session: what answers its GET
  queue = {};
  open = { ...OPEN };

  fetch = (url, init) => {
    const request = { url: new URL(url), ...init };
    this.requests.push(request);
    const sid = request.url.searchParams.get("sid");
    if (init.method === "POST") return Promise.resolve(this.take(init.body, sid));
    if (!sid) return Promise.resolve(new Response(`0${JSON.stringify({ ...this.open, sid: `s${++this.sessions}` })}`));
    return new Promise((resolve, reject) => {
      init.signal.addEventListener("abort", () => reject(init.signal.reason));
      this.waiting[sid] = (text) => resolve(new Response(text));
      this.flush(sid);
    });
  };

  take(body, sid) {
    this.posts.push(body);
    for (const packet of body.split("\x1e")) {
      if (packet.startsWith("40")) this.say(`40${packet.slice(2).replace(/\{.*/, "")}{"sid":"x"}`, sid);
    }
    return new Response("ok");
  }

  say(text, sid = `s${this.sessions}`) {
    (this.queue[sid] ??= []).push(text);
    this.flush(sid);
  }

  flush(sid) {
    if (!this.queue[sid]?.length || !this.waiting[sid]) return;
    this.waiting[sid](this.queue[sid].splice(0).join("\x1e"));
    delete this.waiting[sid];
  }
}

const connect = (url = "http://a.example", options = {}) => {
  const socket = io(url, { transports: ["polling"], forceNew: true, ...options });
  made.push(socket);
  return socket;
};
const connected = async (...args) => {
  const socket = connect(...args);
  await new Promise((resolve) => socket.once("connect", resolve));
  return socket;
};

const real = globalThis.fetch;
beforeEach(() => {
  server = new Server();
  made = [];
  globalThis.fetch = server.fetch;
});
afterEach(async () => {
  for (const socket of made) socket.io.disconnect();
  await turn();
  globalThis.fetch = real;
});

test("requests say the revision, the transport, the session, and when", async () => {
  await connected("http://a.example/?token=t%20k");
  const [first, second] = server.requests.map(({ url }) => url);
  assert.equal(first.origin + first.pathname, "http://a.example/socket.io/");
  assert.deepEqual([...first.searchParams.keys()], ["token", "EIO", "transport", "t"]);
  assert.deepEqual(["token", "EIO", "transport"].map((name) => first.searchParams.get(name)), ["t k", "4", "polling"]);
  assert.equal(second.searchParams.get("sid"), "s1");
  assert.notEqual(first.searchParams.get("t"), second.searchParams.get("t"));
});

test("path, addTrailingSlash, query, timestampParam, timestampRequests, forceBase64", async () => {
  await connected(undefined, { path: "/live", addTrailingSlash: false, query: { a: "1" }, timestampParam: "when", forceBase64: true });
  const [{ url }] = server.requests;
  assert.equal(url.pathname, "/live");
  assert.deepEqual([...url.searchParams.keys()], ["a", "EIO", "transport", "when", "b64"]);
  await connected(undefined, { timestampRequests: false, query: "b=2" });
  const last = server.requests.findLast((request) => !request.url.searchParams.has("sid")).url;
  assert.equal(last.search, "?b=2&EIO=4&transport=polling");
});

test("withCredentials and extraHeaders, and transportOptions that win over them", async () => {
  await connected();
  await connected(undefined, { withCredentials: true, extraHeaders: { "x-a": "1" } });
  await connected(undefined, { extraHeaders: { "x-a": "1" }, transportOptions: { polling: { extraHeaders: { "x-a": "2" } } } });
  const [plain, given, own] = server.requests.filter(({ method, url }) => method === "GET" && !url.searchParams.has("sid"));
  assert.deepEqual([plain.credentials, plain.headers], ["same-origin", {}]);
  assert.deepEqual([given.credentials, given.headers], ["include", { "x-a": "1" }]);
  assert.deepEqual(own.headers, { "x-a": "2" });
  const [post] = server.requests.filter(({ method }) => method === "POST").slice(-1);
  assert.deepEqual(post.headers, { "content-type": "text/plain;charset=UTF-8", "x-a": "2" });
});

test("requestTimeout ends a request that is not answered", async () => {
  const socket = await connected(undefined, { requestTimeout: 20, reconnection: false });
  const [reason, error] = await new Promise((resolve) => socket.once("disconnect", (...args) => resolve(args)));
  assert.deepEqual([reason, error.message], ["transport error", "xhr poll error"]);
});

test("timeout ends an attempt to connect", async () => {
  globalThis.fetch = () => new Promise(() => {});
  const socket = connect(undefined, { timeout: 20, reconnection: false });
  const error = await new Promise((resolve) => socket.once("connect_error", resolve));
  assert.equal(error.message, "timeout");
  assert.equal(socket.io.engine.readyState, "closed");
});

test("a refused request tells its status", async () => {
  globalThis.fetch = async () => new Response("no", { status: 403 });
  const socket = connect(undefined, { reconnection: false });
  const error = await new Promise((resolve) => socket.once("connect_error", resolve));
  assert.deepEqual([error.message, error.description, error.type], ["xhr poll error", 403, "TransportError"]);
});

test("reconnectionAttempts and the delays, which may be changed later", async () => {
  const options = { autoConnect: false, reconnectionAttempts: 3, reconnectionDelay: 7, randomizationFactor: 0 };
  const manager = new Manager("http://a.example", options);
  const settings = ["reconnection", "reconnectionAttempts", "reconnectionDelay", "reconnectionDelayMax", "randomizationFactor", "timeout"];
  assert.deepEqual(settings.map((name) => manager[name]()), [true, 3, 7, 5000, 0, 20_000]);
  assert.equal(manager.reconnectionDelayMax(9).timeout(false), manager);
  assert.deepEqual([manager.reconnectionDelayMax(), manager.timeout()], [9, false]);
  globalThis.fetch = async () => new Response("no", { status: 500 });
  const attempts = [];
  manager.on("reconnect_attempt", (attempt) => attempts.push(attempt));
  manager.open();
  await new Promise((resolve) => manager.once("reconnect_failed", resolve));
  assert.deepEqual(attempts, [1, 2, 3]);
});

test("autoConnect false waits until it is told", async () => {
  const socket = connect(undefined, { autoConnect: false });
  await turn();
  assert.deepEqual([server.requests.length, socket.active], [0, false]);
  socket.connect();
  await until(() => socket.connected);
});

test("a namespace is joined once, however often connect() is called", async () => {
  const socket = connect();
  socket.connect();
  await until(() => socket.io._readyState === "open");
  socket.connect();
  await until(() => socket.connected);
  await turn();
  assert.deepEqual(server.posts, ["40"]);
});

test("auth goes with the namespace, and a function is asked each time", async () => {
  let asked = 0;
  const socket = await connected("http://a.example/chat", { auth: (give) => give({ asked: ++asked }), reconnectionDelay: 1 });
  socket.io.engine.close();
  await until(() => server.posts.length > 2 && socket.connected);
  assert.deepEqual(server.posts.filter((body) => body.startsWith("40")), ['40/chat,{"asked":1}', '40/chat,{"asked":2}']);
});

test("no more goes in one request than the server takes", async () => {
  server.open.maxPayload = 20;
  const socket = await connected();
  server.posts = [];
  for (let index = 0; index < 5; index++) socket.emit("e", index);
  await until(() => server.posts.join("\x1e").split("\x1e").length === 5);
  assert.deepEqual(server.posts, ['42["e",0]', '42["e",1]\x1e42["e",2]', '42["e",3]\x1e42["e",4]']);
});

test("a ping that does not come ends the connection", async () => {
  Object.assign(server.open, { pingInterval: 10, pingTimeout: 20 });
  const socket = await connected(undefined, { reconnection: false });
  const pings = [];
  socket.io.on("ping", () => pings.push(Date.now()));
  server.say("2");
  const reason = await new Promise((resolve) => socket.once("disconnect", resolve));
  assert.deepEqual([reason, pings.length], ["ping timeout", 1]);
  assert.ok(server.posts.includes("3"));
});

test("what breaks the protocol ends the connection", async () => {
  for (const [text, expected] of [['42{"no":"array"}', "parse error"], ['451-["e"]\x1e42["f"]', "parse error"], ["x", "transport error"]]) {
    const socket = await connected(undefined, { reconnection: false });
    const gone = new Promise((resolve) => socket.once("disconnect", resolve));
    server.say(text);
    assert.equal(await gone, expected, text);
  }
});

test("a close packet of the server ends the connection without a word", async () => {
  const socket = await connected(undefined, { reconnection: false });
  const posts = server.posts.length;
  server.say("1");
  const details = await new Promise((resolve) => socket.once("disconnect", (...args) => resolve(args)));
  assert.deepEqual(details, ["transport close", { description: "transport closed by the server" }]);
  assert.equal(server.posts.length, posts);
});

test("the session of a connection that is closed while it opens is left", async () => {
  const socket = connect();
  socket.disconnect();
  await until(() => server.posts.length === 1);
  const post = server.requests.find(({ method }) => method === "POST");
  assert.deepEqual([post.body, post.url.searchParams.get("sid"), socket.connected], ["1", "s1", false]);
});

test("recovery: the id of the state and the last offset come along, and what the server says of it counts", async () => {
  const socket = connect(undefined, { reconnectionDelay: 1, auth: { token: "t" } });
  const accept = (sid, pid) => `40{"sid":"${sid}","pid":"${pid}"}`;
  server.take = (body) => (server.posts.push(body), new Response("ok"));
  await until(() => server.posts.length === 1);
  server.say(`${accept("x", "p1")}\x1e42["news",1,"offset-7"]\x1e42["count",5]`);
  await until(() => socket.connected);
  await turn();
  socket.io.engine.close();
  await until(() => server.posts.filter((body) => body.startsWith("40")).length === 2);
  assert.deepEqual(JSON.parse(server.posts.at(-1).slice(2)), { pid: "p1", offset: "offset-7", token: "t" });
  const heard = [];
  socket.on("missed", (...args) => heard.push(args));
  server.say(`42["missed","offset-8"]\x1e${accept("x", "p1")}`);
  await until(() => socket.connected);
  assert.deepEqual([socket.recovered, socket.id, heard], [true, "x", [["offset-8"]]]);
});

test("pages that go: closeOnBeforeunload closes without a word, and without it the page may stay", async () => {
  const page = new EventTarget();
  globalThis.addEventListener = page.addEventListener.bind(page);
  globalThis.removeEventListener = page.removeEventListener.bind(page);
  try {
    const [stays, closes] = [await connected(), await connected(undefined, { closeOnBeforeunload: true })];
    const heard = [];
    for (const socket of [stays, closes]) socket.on("disconnect", (reason) => heard.push(reason));
    server.posts = [];
    page.dispatchEvent(new Event("beforeunload"));
    assert.deepEqual([server.posts, heard], [["1"], []]);
    page.dispatchEvent(new Event("pagehide"));
    assert.deepEqual([server.posts, heard], [["1", "1"], []]);
  } finally {
    delete globalThis.addEventListener;
    delete globalThis.removeEventListener;
  }
});
