// Every case of sails.io.js with the socket.io-client that it is made for, as JSON lines {case, ok, detail}.
// Usage: node sails.cjs URL

// Node.js 22 and later have a WebSocket of the browser's kind, which clients of socket.io 2 would take and which sends no headers.
delete globalThis.WebSocket;
const assert = require("node:assert/strict");
const io = require("sails.io.js")(require("socket.io-client-2.0.3"));

const url = process.argv[2];
const TIMEOUT = 5000;

io.sails.environment = "production"; // no ships on the console
io.sails.url = url;

let open = [];
let count = 0;
let run = ""; // names the gates and notes of one case, also against a server that knows an earlier run

function connect(options = {}) {
  const socket = io.sails.connect(url, options);
  open.push(socket);
  return socket;
}

function once(socket, event) {
  return new Promise((resolve) => {
    const listener = (...args) => (socket.off(event, listener), resolve(args));
    socket.on(event, listener);
  });
}

async function connected(options) {
  const socket = connect(options);
  await once(socket, "connect");
  return socket;
}

function request(socket, options) {
  return new Promise((resolve) => socket.request(options, (body, jwr) => resolve({ body, jwr })));
}

function send(socket, verb, path, data) {
  return new Promise((resolve) => {
    const done = (body, jwr) => resolve({ body, jwr });
    if (data === undefined) socket[verb](path, done);
    else socket[verb](path, data, done);
  });
}

function next(socket, event, matches) {
  return new Promise((resolve) => socket.on(event, (value) => matches(value) && resolve(value)));
}

async function overHttp(path, options) {
  const response = await fetch(url + path, options);
  return response.json();
}

function postNote(text) {
  return overHttp("/notes", { method: "POST", body: JSON.stringify({ text }), headers: { "content-type": "application/json" } });
}

function succeeded({ body, jwr }, status = 200) {
  assert.equal(jwr.statusCode, status, JSON.stringify(body));
  assert.ok(!jwr.error);
  assert.deepEqual(jwr.body, body);
  return body;
}

function failed({ body, jwr }, status) {
  assert.equal(jwr.statusCode, status, JSON.stringify(body));
  assert.ok(jwr.error instanceof Error);
  assert.ok(jwr.error.message.startsWith(`Server responded with a ${status} status code:`), jwr.error.message);
  return body;
}

const cases = {
  async connect() {
    const socket = connect();
    assert.equal(socket.isConnecting(), true);
    await once(socket, "connect");
    assert.equal(socket.isConnected(), true);
    assert.equal(socket.isConnecting(), false);
  },

  async io_socket_connects_by_itself() {
    open.push(io.socket);
    assert.equal(succeeded(await send(io.socket, "get", "/mirror")).method, "GET");
  },

  async verbs() {
    const socket = await connected();
    for (const verb of ["get", "post", "put", "patch", "delete"]) {
      const seen = succeeded(await send(socket, verb, "/mirror?a=1"));
      assert.equal(seen.method, verb.toUpperCase());
      assert.deepEqual(seen.query, { a: "1" });
      assert.equal(seen.socket, socket._raw.id);
    }
  },

  async verbs_by_request() {
    const socket = await connected();
    for (const method of ["GET", "post", "Put", "patch", "delete"]) {
      assert.equal(succeeded(await request(socket, { method, url: "/mirror" })).method, method.toUpperCase());
    }
    assert.equal(succeeded(await request(socket, { url: "/mirror" })).method, "GET");
    assert.equal((await request(socket, { method: "head", url: "/mirror" })).jwr.statusCode, 200);
    assert.equal(succeeded(await request(socket, { method: "options", url: "/mirror" })).method, "OPTIONS");
  },

  async data() {
    const socket = await connected();
    const data = { text: "é漢😀", list: [1, { deep: [null] }], number: 1.5, yes: true };
    for (const verb of ["post", "put", "patch", "delete"]) {
      assert.deepEqual(succeeded(await send(socket, verb, "/mirror", data)).body, data);
    }
    assert.deepEqual(succeeded(await send(socket, "post", "/mirror", [1, { a: 2 }])).body, [1, { a: 2 }]);
    assert.deepEqual(succeeded(await request(socket, { method: "post", url: "/mirror", params: { a: 1 } })).body, { a: 1 });
    assert.deepEqual(succeeded(await request(socket, { method: "post", url: "/mirror", data: { a: 1 } })).body, { a: 1 });
  },

  async data_of_get_is_its_query() {
    const socket = await connected();
    const seen = succeeded(await send(socket, "get", "/mirror?b=own%20é", { a: "x&y", b: "lost", n: 5, o: { deep: 1 } }));
    assert.deepEqual(seen.query, { a: "x&y", b: "own é", n: "5", o: '{"deep":1}' });
    assert.equal(seen.body, null);
  },

  async headers() {
    const socket = await connected({ headers: { "X-Global": "1", "x-other": "2" } });
    const { headers } = succeeded(await request(socket, { url: "/mirror", headers: { "X-Own": "3", "x-other": "4" } }));
    assert.deepEqual([headers["x-global"], headers["x-other"], headers["x-own"]], ["1", "4", "3"]);
    const again = succeeded(await request(socket, { url: "/mirror", headers: { "X-Global": undefined } })).headers;
    assert.deepEqual([again["x-global"], again["x-other"], again["x-own"]], [undefined, "2", undefined]);
  },

  async headers_of_the_handshake() {
    const socket = await connected({ initialConnectionHeaders: { cookie: "session=mine", "x-first": "1" } });
    const { headers } = succeeded(await request(socket, { url: "/mirror", headers: { cookie: "session=stolen" } }));
    assert.equal(headers.cookie, "session=mine");
    assert.equal(headers["x-first"], "1");
  },

  async values() {
    const socket = await connected();
    const values = { null: null, zero: 0, false: false, empty: "", list: [1, [2.5, null]], unicode: { "é漢😀": ["\u2028", "\0"] } };
    for (const [name, value] of Object.entries(values)) {
      assert.deepEqual(succeeded(await send(socket, "get", `/values/${name}`)), value);
    }
  },

  async answers_that_are_not_json() {
    const socket = await connected();
    assert.equal(succeeded(await send(socket, "get", "/text")), "plain é");
    assert.deepEqual(succeeded(await send(socket, "get", "/bytes")), Buffer.from([0, 1, 255]));
    assert.equal(succeeded(await send(socket, "get", "/nothing"), 204), undefined);
    const { jwr } = await send(socket, "get", "/elsewhere");
    assert.equal(jwr.statusCode, 302);
    assert.equal(jwr.headers.location, "/mirror");
  },

  async binary_data() {
    const socket = await connected();
    const options = { method: "post", url: "/bytes", data: Buffer.from([1, 2, 3, 4]) };
    assert.deepEqual(succeeded(await request(socket, options)), { size: 4, type: "application/octet-stream" });
  },

  async jwr() {
    const socket = await connected();
    const { body, jwr } = await send(socket, "post", "/notes", { text: "jwr", stars: 3 });
    succeeded({ body, jwr }, 201);
    assert.equal(body.stars, 3);
    assert.equal(jwr.headers["x-note"], String(body.id));
    assert.match(jwr.headers["content-type"], /^application\/json/);
    assert.match(jwr.toString(), /201/);
  },

  async not_found() {
    assert.deepEqual(failed(await send(await connected(), "get", "/no/such/route"), 404), { detail: "Not Found" });
  },

  async method_not_allowed() {
    failed(await send(await connected(), "delete", "/notes"), 405);
  },

  async forbidden() {
    assert.deepEqual(failed(await send(await connected(), "get", "/forbidden"), 403), { detail: { code: "E_FORBIDDEN" } });
  },

  async validation() {
    const body = failed(await send(await connected(), "post", "/notes", { text: 5 }), 422);
    assert.deepEqual(body.detail[0].loc, ["body", "text"]);
  },

  async server_error() {
    const socket = await connected();
    const { body, jwr } = await send(socket, "get", "/fails");
    failed({ body, jwr }, 500);
    assert.ok(!JSON.stringify(jwr.toPOJO()).includes("secret"));
    succeeded(await send(socket, "get", "/mirror"));
  },

  async request_that_is_none() {
    const socket = await connected();
    for (const path of ["", "no-slash", "/bad%escape"]) failed(await send(socket, "get", path), 400);
    failed(await request(socket, { url: "/mirror", headers: { "bad name": "1" } }), 400);
    for (const argument of [null, 5, [], {}]) {
      const reply = await new Promise((resolve) => socket._raw.emit("get", argument, (...args) => resolve(args)));
      assert.equal(reply.length, 1);
      assert.equal(reply[0].statusCode, 400);
      assert.equal(reply[0].stack, undefined);
    }
    succeeded(await send(socket, "get", "/mirror"));
  },

  async queue_before_connect() {
    const socket = connect();
    const order = [];
    const noted = next(socket, "note", ({ text }) => text === `queued ${run}`);
    const answers = ["/mirror?n=1", "/notes", "/mirror?n=2"].map((path) =>
      send(socket, "get", path).then((answer) => (order.push(path), succeeded(answer))));
    assert.equal(socket.isConnected(), false);
    const [first, , last] = await Promise.all(answers);
    assert.deepEqual([first.query.n, last.query.n], ["1", "2"]);
    assert.equal(order.length, 3);
    await postNote(`queued ${run}`);
    await noted;
  },

  async broadcast_to_another_client() {
    const [writer, reader] = [await connected(), await connected()];
    succeeded(await send(reader, "get", "/notes"));
    const noted = next(reader, "note", ({ text }) => text === `broadcast ${run}`);
    const saved = succeeded(await send(writer, "post", "/notes", { text: `broadcast ${run}` }), 201);
    assert.deepEqual(await noted, saved);
  },

  async event_comes_before_the_answer() {
    const socket = await connected();
    succeeded(await send(socket, "get", "/notes"));
    const order = [];
    socket.on("note", ({ text }) => text === `before ${run}` && order.push("event"));
    await send(socket, "post", "/notes", { text: `before ${run}` }).then(() => order.push("answer"));
    assert.deepEqual(order, ["event", "answer"]);
  },

  async http_post_is_seen_as_an_event() {
    const socket = await connected();
    succeeded(await send(socket, "get", "/notes"));
    const noted = next(socket, "note", ({ text }) => text === `by http ${run}`);
    const saved = await postNote(`by http ${run}`);
    assert.deepEqual(await noted, saved);
    assert.equal(saved.by, "http");
  },

  async socket_post_is_seen_by_http_get() {
    const saved = succeeded(await send(await connected(), "post", "/notes", { text: `by socket ${run}` }), 201);
    assert.equal(saved.by, "socket");
    assert.ok((await overHttp("/notes")).some(({ id, text }) => id === saved.id && text === saved.text));
    assert.equal((await overHttp("/mirror")).socket, null);
  },

  async slow_request_blocks_no_other() {
    const socket = await connected();
    const order = [];
    const slow = send(socket, "get", `/gates/${run}`).then((answer) => (order.push("slow"), succeeded(answer)));
    succeeded(await send(socket, "get", "/mirror"));
    order.push("quick");
    succeeded(await send(socket, "post", `/gates/${run}`));
    assert.equal(await slow, run);
    assert.deepEqual(order, ["quick", "slow"]);
  },

  async many_requests_at_once() {
    const socket = await connected();
    const answers = await Promise.all(Array.from({ length: 40 }, (_, n) => send(socket, "post", "/mirror", { n })));
    assert.deepEqual(answers.map((answer) => succeeded(answer).body.n), Array.from({ length: 40 }, (_, n) => n));
  },

  async disconnect_with_a_request_in_flight() {
    const socket = await connected();
    const answer = send(socket, "get", `/never/${run}`);
    succeeded(await send(socket, "get", "/mirror")); // the server has the first one by now
    socket.disconnect();
    const { body, jwr } = await answer;
    assert.match(body.message, /disconnected before the request completed/);
    assert.equal(jwr.statusCode, 0);
    assert.equal(await overHttp(`/gates/abandoned ${run}`), `abandoned ${run}`);
  },

  async dropped_by_the_server_with_a_request_in_flight() {
    const socket = await connected();
    const answer = send(socket, "get", `/never/${run}`);
    const gone = once(socket, "disconnect");
    socket.post("/drop", () => {});
    assert.equal((await answer).jwr.statusCode, 0);
    assert.deepEqual(await gone, ["io server disconnect"]);
    assert.equal(await overHttp(`/gates/abandoned ${run}`), `abandoned ${run}`);
  },

  async reconnect() {
    const socket = await connected();
    const first = socket._raw.id;
    socket.disconnect();
    assert.throws(() => socket.disconnect(), /already disconnected/);
    socket.reconnect();
    const noted = next(socket, "note", ({ text }) => text === `reconnected ${run}`);
    await once(socket, "connect");
    assert.notEqual(socket._raw.id, first);
    succeeded(await send(socket, "get", "/notes"));
    await postNote(`reconnected ${run}`);
    await noted;
  },

  async reconnection_by_itself() {
    const socket = await connected({ reconnection: true, reconnectionDelay: 20 });
    const gone = once(socket, "disconnect");
    socket._raw.io.engine.close();
    await gone;
    assert.equal(socket.isConnected(), false);
    assert.equal(succeeded(await send(socket, "post", "/mirror", { offline: true })).body.offline, true);
  },

  async plain_event_beside_requests() {
    const socket = await connected();
    const reply = await new Promise((resolve) => socket._raw.emit("plain", 1, (...args) => resolve(args)));
    assert.deepEqual(reply, ["plain", 1]);
  },

  async polling() {
    const socket = await connected({ transports: ["polling"] });
    succeeded(await send(socket, "get", "/notes"));
    const noted = next(socket, "note", ({ text }) => text === `polled ${run}`);
    const saved = succeeded(await send(socket, "post", "/notes", { text: `polled ${run}` }), 201);
    assert.deepEqual(await noted, saved);
    assert.deepEqual(succeeded(await send(socket, "get", "/bytes")), Buffer.from([0, 1, 255]));
  },
};

let stray = null;
process.on("uncaughtException", (error) => (stray = error));
process.on("unhandledRejection", (error) => (stray = error));

async function outcome(name) {
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`not done after ${TIMEOUT} ms`)), TIMEOUT)));
  try {
    run = `${process.pid}-${++count}`;
    await Promise.race([cases[name](), late]);
    if (stray) throw stray;
    return { case: name, ok: true, detail: "" };
  } catch (error) {
    return { case: name, ok: false, detail: String(error?.stack ?? error) };
  } finally {
    stray = null;
    clearTimeout(timer);
    open.filter((socket) => socket._raw).forEach((socket) => socket._raw.disconnect());
    open = [];
  }
}

(async () => {
  let allOk = true;
  for (const name of Object.keys(cases)) {
    const result = await outcome(name);
    allOk &&= result.ok;
    console.log(JSON.stringify(result));
  }
  process.exit(allOk ? 0 : 1);
})();
