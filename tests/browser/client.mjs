// Every case of our own client in a page, over one way to connect, as JSON lines {case, ok, detail}.
// Usage: node client.mjs URL polling|websocket|upgrade [CASE …]
//
// The server is tests/interop/app.py or reference_server.mjs; the page and the client's files stand in for files of that server.
// An error on a page or in its console fails the case.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { launch } from "./browser.mjs";

const [url, way, ...chosen] = process.argv.slice(2);
const TIMEOUT = 10_000;
const transports = way === "upgrade" ? ["polling", "websocket"] : [way];
const built = join(dirname(fileURLToPath(import.meta.url)), "../../src/mizzen/static");
const client = (name) => readFileSync(join(built, name), "utf8");
const SCRIPT = '<!doctype html><title>a page</title><link rel="icon" href="data:,"><script src="/mizzen.js"></script>';
const MODULE = `<!doctype html><title>a page</title><link rel="icon" href="data:,">
  <script type="module">
    import standard, * as names from "/mizzen.mjs";
    Object.assign(window, { io: names.io, names, standard });
  </script>`;

/** What the functions that run in a page may use. */
function helpers([transports, nowhere]) {
  window.nowhere = nowhere;
  window.connect = (path = "/", options = {}) => io(path, { transports, forceNew: true, reconnection: false, ...options });
  window.once = (socket, event) => new Promise((resolve) => socket.once(event, (...args) => resolve(args)));
  window.connected = async (path, options) => {
    const socket = connect(path, options);
    await Promise.race([once(socket, "connect"), once(socket, "connect_error").then(([error]) => Promise.reject(error))]);
    return socket;
  };
  window.ask = (socket, event, ...args) => new Promise((resolve) => socket.emit(event, ...args, (...reply) => resolve(reply)));
  window.upgraded = async ({ io: { engine } }) => {
    if (transports.length > 1 && engine.transport.name === "polling") await new Promise((resolve) => engine.once("upgrade", resolve));
  };
  window.listed = (bytes) => [...new Uint8Array(bytes)];
  window.engineClosed = (socket) => new Promise((resolve) => socket.io.engine.once("close", resolve));
}

class Pages {
  errors = [];
  requests = [];
  sockets = [];
  meant = /^$/;

  constructor(context) {
    this.context = context;
  }

  async open(html = SCRIPT) {
    const page = await this.context.newPage();
    page.setDefaultTimeout(TIMEOUT);
    page.on("pageerror", (error) => this.fails(`error on the page: ${error.stack ?? error}`));
    page.on("console", (message) => message.type() === "error" && this.fails(`error in the console: ${message.text()}`));
    page.on("request", (request) => this.requests.push(request.url()));
    page.on("websocket", (socket) => this.sockets.push(socket.url()));
    await this.context.route(`${url}/page`, (route) => route.fulfill({ contentType: "text/html", body: html }));
    await page.addInitScript(helpers, [transports, nowhere]);
    await page.goto(`${url}/page`);
    await page.waitForFunction(() => window.io);
    return page;
  }

  fails(text) {
    // so a browser calls the probe of a session that was closed meanwhile
    const late = way === "upgrade" && /handshake: Unexpected response code: 400/.test(text);
    if (!late && !this.meant.test(text)) this.errors.push(text);
  }
}

const cases = {
  async connect(pages) {
    const page = await pages.open();
    const seen = await page.evaluate(async () => {
      const socket = await connected();
      await upgraded(socket);
      const [handshake] = await ask(socket, "handshake");
      return [typeof socket.id, handshake.id === socket.id, socket.active, socket.disconnected, socket.io.engine.transport.name];
    });
    assert.deepEqual(seen, ["string", true, true, false, way === "polling" ? "polling" : "websocket"]);
  },

  async a_page_that_does_not_use_it_opens_nothing(pages) {
    const page = await pages.open();
    await page.evaluate(() => new Promise((resolve) => setTimeout(resolve, 100)));
    await page.evaluate(() => (io.socket, io.sails.url));
    await page.evaluate(() => new Promise((resolve) => setTimeout(resolve, 100)));
    assert.deepEqual([pages.sockets, pages.requests], [[], [`${url}/page`, `${url}/mizzen.js`]]);
  },

  async module(pages) {
    const page = await pages.open(MODULE);
    const seen = await page.evaluate(async () => {
      const socket = await connected();
      const { Manager, Socket, connect, protocol } = names;
      const kinds = [socket instanceof Socket, socket.io instanceof Manager];
      return [...kinds, connect === io, standard === io, protocol, io.protocol, await ask(socket, "where")];
    });
    assert.deepEqual(seen, [true, true, true, true, 5, 5, ["/"]]);
  },

  async arguments(pages) {
    const page = await pages.open();
    const args = [null, 0, "", true, "é漢😀\u2028", 1.5, { a: [{ b: null }], _placeholder: "no" }, [[]]];
    const seen = await page.evaluate(async (given) => {
      const socket = await connected();
      const back = once(socket, "echoed");
      socket.emit("echo", ...given);
      return [await back, await ask(socket, "echo_ack", ...given), await ask(socket, "echo_ack")];
    }, args);
    assert.deepEqual(seen, [args, args, []]);
  },

  async binary_from_the_page(pages) {
    const page = await pages.open();
    const seen = await page.evaluate(async () => {
      const socket = await connected();
      const whole = new Uint8Array([9, 1, 2, 250, 9]);
      const part = whole.subarray(1, 4);
      const views = [part, new DataView(whole.buffer, 1, 3), new Uint8ClampedArray(part)];
      const all = [part.slice().buffer, ...views, new Blob([part]), new File([part], "name")];
      const early = await Promise.all(all.map((bytes) => ask(socket, "measure", bytes)));
      await upgraded(socket);
      return [...early, ...(await Promise.all(all.map((bytes) => ask(socket, "measure", bytes))))];
    });
    assert.deepEqual(seen, Array(12).fill([{ binary: true, size: 3, sum: 253 }]));
  },

  async binary_to_the_page(pages) {
    const page = await pages.open();
    const seen = await page.evaluate(async () => {
      const socket = await connected();
      const sent = [new Uint8Array([1, 255]), { deep: [new Uint8Array([2])] }, new ArrayBuffer(0)];
      const [first, { deep }, empty] = await ask(socket, "echo_ack", ...sent);
      return [first instanceof ArrayBuffer, listed(first), listed(deep[0]), empty.byteLength];
    });
    assert.deepEqual(seen, [true, [1, 255], [2], 0]);
  },

  async binary_as_base64(pages) {
    const page = await pages.open();
    const seen = await page.evaluate(async () => {
      const socket = await connected("/", { forceBase64: true });
      await upgraded(socket);
      const [bytes, blob] = await ask(socket, "echo_ack", new Uint8Array([1, 255]), new Blob(["x"]));
      return [listed(bytes), listed(blob)];
    });
    assert.deepEqual(seen, [[1, 255], [120]]);
  },

  async ack_of_the_page(pages) {
    const page = await pages.open();
    const seen = await page.evaluate(async () => {
      const socket = await connected();
      socket.on("ask", (question, answer) => (answer({ question }), answer("twice")));
      return ask(socket, "call_me", "why");
    });
    assert.deepEqual(seen, [{ question: "why" }]);
  },

  async large(pages) {
    const page = await pages.open();
    const seen = await page.evaluate(async () => {
      const socket = await connected();
      const bytes = new Uint8Array(400_000).map((_, index) => index % 251);
      const [text] = await ask(socket, "echo_ack", "é漢😀".repeat(20_000));
      const [back] = await ask(socket, "echo_ack", bytes);
      return [text === "é漢😀".repeat(20_000), listed(back).every((byte, index) => byte === index % 251), back.byteLength];
    });
    assert.deepEqual(seen, [true, true, 400_000]);
  },

  async more_than_one_payload_holds(pages) {
    const page = await pages.open();
    const [inOrder, posts] = await page.evaluate(async () => {
      const socket = connect("/", { upgrade: false });
      const posts = [];
      socket.io.engine.on("flush", () => posts.push(1));
      const counted = [];
      const all = new Promise((resolve) => {
        socket.on("counted", (index, text) => counted.push(text.length === 300_000 && index) === 6 && resolve());
      });
      for (let index = 0; index < 6; index++) socket.emit("count", index, "x".repeat(300_000));
      await all;
      return [counted.join(), posts.length];
    });
    assert.equal(inOrder, "0,1,2,3,4,5");
    assert.ok(posts >= (way === "websocket" ? 1 : 3), `${posts} writes`);
  },

  async order_across_an_upgrade(pages) {
    const page = await pages.open();
    const [counted, ticks, before] = await page.evaluate(async () => {
      const socket = await connected();
      const [counted, ticks] = [[], []];
      socket.on("counted", (index) => counted.push(index)).on("tick", (index) => ticks.push(index));
      socket.emit("stream");
      let sent = 0, before = null;
      upgraded(socket).then(() => (before = sent));
      while (before === null || sent < before + 50) {
        socket.emit("count", sent++);
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      const ended = once(socket, "ticked");
      socket.emit("stop");
      await Promise.all([ended, ask(socket, "echo_ack")]);
      return [counted, ticks, before];
    });
    for (const list of [counted, ticks]) list.forEach((index, position) => assert.equal(index, position));
    assert.equal(counted.length, before + 50);
    assert.ok(ticks.length > 0);
  },

  async namespaces_share_a_connection(pages) {
    const page = await pages.open();
    const seen = await page.evaluate(async (transports) => {
      const [main, chat, news] = ["/", "/chat", "/news"].map((path) => io(path, { transports }));
      const where = await Promise.all([main, chat, news].map((socket) => ask(socket, "where")));
      const again = io("/chat", { transports });
      const other = io("/news", { transports, multiplex: false });
      await once(other, "connect");
      const managers = [main, chat, news, again, other].map((socket) => [main, again, other].findIndex(({ io }) => io === socket.io));
      const ids = new Set([main.id, chat.id, news.id]).size;
      chat.disconnect();
      const [left] = await ask(news, "where");
      const still = main.io.engine.readyState;
      const gone = engineClosed(main);
      main.disconnect();
      news.disconnect();
      return [where, managers, ids, left, still, await gone];
    }, transports);
    assert.deepEqual(seen, [[["/"], ["/chat"], ["/news"]], [0, 0, 0, 1, 2], 3, "/news", "open", "forced close"]);
  },

  async volatile_timeout_retries(pages) {
    const page = await pages.open();
    const seen = await page.evaluate(async () => {
      const offline = connect("/", { autoConnect: false });
      offline.volatile.emit("count", "dropped");
      offline.emit("count", "kept");
      const kept = once(offline, "counted");
      offline.connect();
      const late = await offline.timeout(50).emitWithAck("nobody_listens").catch((error) => error.message);
      const answered = await offline.timeout(5000).emitWithAck("echo_ack", 1);
      const retrying = connect("/", { retries: 1, ackTimeout: 50 });
      const lost = await new Promise((resolve) => retrying.emit("nobody_listens", (error) => resolve(error.message)));
      const next = await new Promise((resolve) => retrying.emit("echo_ack", "next", (error, value) => resolve([error, value])));
      return [await kept, late, answered, lost, next];
    });
    assert.deepEqual(seen, [["kept"], "operation has timed out", 1, "operation has timed out", [null, "next"]]);
  },

  async listeners_of_all_events(pages) {
    const page = await pages.open();
    const seen = await page.evaluate(async () => {
      const socket = await connected();
      await ask(socket, "echo_ack"); // by now it was welcomed
      const heard = [];
      const removed = () => heard.push("removed");
      socket.onAny((...args) => heard.push(["in", ...args])).prependAny((name) => heard.push(["first", name]));
      socket.onAny(removed).offAny(removed);
      socket.onAnyOutgoing((...args) => heard.push(["out", ...args]));
      const back = once(socket, "echoed");
      socket.emit("echo", 1);
      await back;
      const counts = [socket.listenersAny().length, socket.listenersAnyOutgoing().length];
      socket.offAny().offAnyOutgoing();
      await ask(socket, "echo_ack");
      return [heard, counts];
    });
    assert.deepEqual(seen, [[["out", "echo", 1], ["first", "echoed"], ["in", "echoed", 1]], [2, 1]]);
  },

  async auth_and_query(pages) {
    const page = await pages.open();
    const seen = await page.evaluate(async () => {
      const socket = await connected("/?token=t%20k", { auth: (give) => setTimeout(() => give({ made: "late" })) });
      return ask(socket, "handshake");
    });
    assert.deepEqual([seen[0].auth, seen[0].token], [{ made: "late" }, "t k"]);
  },

  async refusals(pages) {
    const page = await pages.open();
    const seen = await page.evaluate(async () => {
      const refused = async (path, options) => {
        const socket = connect(path, options);
        const [error] = await once(socket, "connect_error");
        return [error.message, error.data, socket.active];
      };
      return Promise.all([refused("/unknown"), refused("/guarded"), refused("/refused"), refused("/", { query: { refuse: "1" } })]);
    });
    const no = ["no", { code: "E_REFUSED", detail: ["é", 1] }, false];
    assert.deepEqual(seen, [["Invalid namespace", undefined, false], no, no, no]);
  },

  async a_server_that_is_not_there(pages) {
    pages.meant = /ERR_CONNECTION_REFUSED/;
    const page = await pages.open();
    const seen = await page.evaluate(async () => {
      const socket = connect(nowhere, { reconnection: true, reconnectionAttempts: 2, reconnectionDelay: 5 });
      const heard = [];
      for (const event of ["reconnect_attempt", "reconnect_error", "error"]) {
        socket.io.on(event, (value) => heard.push([event, value.message ?? value]));
      }
      const failed = once(socket.io, "reconnect_failed");
      const [error] = await once(socket, "connect_error");
      await failed;
      return [error.message, error.type, socket.active, heard];
    });
    const text = way === "websocket" ? "websocket error" : "xhr poll error";
    assert.deepEqual(seen.slice(0, 3), [text, "TransportError", true]);
    const attempt = (number) => [["reconnect_attempt", number], ["error", text], ["reconnect_error", text]];
    assert.deepEqual(seen[3], [["error", text], ...attempt(1), ...attempt(2)]);
  },

  async disconnected_by_the_server(pages) {
    const page = await pages.open();
    const seen = await page.evaluate(async () => {
      const socket = await connected("/", { reconnection: true });
      const gone = once(socket, "disconnect");
      socket.emit("kick");
      const [reason] = await gone;
      const left = [socket.connected, socket.active, socket.id];
      socket.connect();
      await once(socket, "connect");
      return [reason, left, await ask(socket, "where")];
    });
    assert.deepEqual(seen, ["io server disconnect", [false, false, undefined], ["/"]]);
  },

  async disconnected_by_the_page(pages) {
    const page = await pages.open();
    const seen = await page.evaluate(async () => {
      const watcher = await connected();
      await ask(watcher, "join", "watchers");
      const socket = await connected();
      const { id } = socket;
      const pending = socket.timeout(5000).emitWithAck("nobody_listens").catch((error) => error.message);
      const left = new Promise((resolve) => watcher.on("left", (who, reason) => who === id && resolve(reason)));
      const gone = once(socket, "disconnect");
      socket.disconnect();
      return [(await gone)[0], await left, await pending];
    });
    assert.deepEqual(seen, ["io client disconnect", "client namespace disconnect", "socket has been disconnected"]);
  },

  // else the server would learn of it by the ping timeout, 11 s later
  async a_page_that_goes_tells_the_server(pages) {
    const [watcher, leaving] = [await pages.open(), await pages.open()];
    const id = await leaving.evaluate(async () => {
      window.socket = await connected();
      await upgraded(window.socket);
      return window.socket.id;
    });
    await watcher.evaluate(async (who) => {
      const socket = await connected();
      await ask(socket, "join", "watchers");
      window.left = new Promise((resolve) => socket.on("left", (one) => one === who && resolve(true)));
    }, id);
    await leaving.goto("about:blank");
    assert.equal(await watcher.evaluate(() => Promise.race([left, new Promise((resolve) => setTimeout(resolve, 5000))])), true);
  },

  async a_socket_that_is_closed_while_it_connects(pages) {
    const page = await pages.open();
    const seen = await page.evaluate(async () => {
      const watcher = await connected();
      await ask(watcher, "join", "watchers");
      const socket = connect();
      socket.on("connect", () => (window.wrong = true));
      await new Promise((resolve) => setTimeout(resolve, 0));
      socket.disconnect();
      const again = await connected();
      return [await ask(again, "where"), window.wrong];
    });
    assert.deepEqual(seen, [["/"], undefined]);
  },

  async an_error_in_a_listener_is_only_its_own(pages) {
    pages.meant = /meant/;
    const page = await pages.open();
    const seen = await page.evaluate(async () => {
      const socket = await connected();
      socket.once("echoed", () => {
        throw new Error("meant");
      });
      socket.emit("echo");
      return ask(socket, "echo_ack", "still here");
    });
    assert.deepEqual(seen, ["still here"]);
  },

  async workers(pages) {
    const page = await pages.open();
    const seen = await page.evaluate(async ([base, transports]) => {
      const use = `
        const socket = io(${JSON.stringify(base)}, { transports: ${JSON.stringify(transports)}, forceNew: true });
        socket.emit("echo_ack", new Uint8Array([1, 2]), (bytes) => postMessage([typeof window, bytes.byteLength]));`;
      const run = (source, options) => {
        const worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })), options);
        return new Promise((resolve, reject) => {
          worker.onmessage = ({ data }) => resolve(data);
          worker.onerror = ({ message }) => reject(new Error(message));
        });
      };
      const classic = run(`importScripts("${base}/mizzen.js");${use}`);
      const module = run(`import { io } from "${base}/mizzen.mjs";${use}`, { type: "module" });
      return Promise.all([classic, module]);
    }, [url, transports]);
    assert.deepEqual(seen, [["undefined", 2], ["undefined", 2]]);
  },
};

if (way === "upgrade") {
  Object.assign(cases, {
    async without_upgrade(pages) {
      const page = await pages.open();
      const seen = await page.evaluate(async () => {
        const socket = await connected("/", { upgrade: false });
        await ask(socket, "where");
        return socket.io.engine.transport.name;
      });
      assert.deepEqual([seen, pages.sockets], ["polling", []]);
    },

    async remember_upgrade(pages) {
      const page = await pages.open();
      const seen = await page.evaluate(async () => {
        await upgraded(await connected());
        const [remembers, forgets] = [await connected("/", { rememberUpgrade: true }), connect()];
        return [remembers, forgets].map((socket) => socket.io.engine.transport.name);
      });
      assert.deepEqual(seen, ["websocket", "polling"]);
    },

    async try_all_transports(pages) {
      pages.meant = /WebSocket connection to .* failed/;
      const page = await pages.open();
      const seen = await page.evaluate(async () => {
        const Real = window.WebSocket;
        window.WebSocket = class extends Real {
          constructor() {
            super(nowhere.replace("http", "ws"));
          }
        };
        const options = { transports: ["websocket", "polling"], upgrade: false };
        const [error] = await once(connect("/", options), "connect_error");
        const socket = await connected("/", { ...options, tryAllTransports: true });
        return [error.message, socket.io.engine.transport.name, await ask(socket, "where")];
      });
      assert.deepEqual(seen, ["websocket error", "polling", ["/"]]);
    },

    async an_upgrade_that_fails_leaves_polling(pages) {
      pages.meant = /WebSocket connection to .* failed/;
      const page = await pages.open();
      const seen = await page.evaluate(async () => {
        const Real = window.WebSocket;
        window.WebSocket = class extends Real {
          constructor() {
            super(nowhere.replace("http", "ws"));
          }
        };
        const socket = connect();
        const [error] = await once(socket.io.engine, "upgradeError");
        return [error.message, socket.io.engine.transport.name, await ask(socket, "where")];
      });
      assert.match(seen[0], /^probe error: /);
      assert.deepEqual(seen.slice(1), ["polling", ["/"]]);
    },

    async an_upgrade_that_fails_halfway_leaves_polling(pages) {
      const page = await pages.open();
      const seen = await page.evaluate(async () => {
        const Real = window.WebSocket;
        let made;
        window.WebSocket = class extends Real {
          constructor(...args) {
            super(...args);
            made = this;
          }
        };
        const socket = connect();
        const { engine } = socket.io;
        const counted = once(socket, "counted");
        engine.once("upgrading", () => {
          socket.emit("count", "while it upgrades");
          made.onclose(new CloseEvent("close")); // before the poll ends, for which the upgrade waits
        });
        const [error] = await once(engine, "upgradeError");
        return [error.message, await counted, engine.transport.name, await ask(socket, "where")];
      });
      assert.deepEqual(seen, ["probe error: transport closed", ["while it upgrades"], "polling", ["/"]]);
    },
  });
}

async function outcome(browser, name) {
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`not done after ${TIMEOUT} ms`)), TIMEOUT)));
  const context = await browser.newContext();
  await context.route(/\/mizzen\.m?js$/, (route) => {
    const name = new URL(route.request().url()).pathname.slice(1);
    return route.fulfill({ contentType: "text/javascript", headers: { "access-control-allow-origin": "*" }, body: client(name) });
  });
  const pages = new Pages(context);
  try {
    await Promise.race([cases[name](pages), late]);
    if (pages.errors.length) throw new Error(pages.errors.join("\n"));
    return { case: name, ok: true, detail: "" };
  } catch (error) {
    return { case: name, ok: false, detail: [error?.stack ?? error, ...pages.errors].join("\n") };
  } finally {
    clearTimeout(timer);
    await context.close();
  }
}

/** Give the URL of a port that nobody listens on. */
async function unusedUrl() {
  const server = createServer().listen(0, "localhost");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  return `http://localhost:${port}/`;
}

const nowhere = await unusedUrl();
const browser = await launch();
let allOk = true;
try {
  const names = chosen.length ? chosen : Object.keys(cases);
  const runner = async () => {
    for (let name = names.shift(); name; name = names.shift()) {
      const result = await outcome(browser, name);
      allOk &&= result.ok;
      console.log(JSON.stringify(result));
    }
  };
  await Promise.all([runner(), runner(), runner()]);
} finally {
  await browser.close();
}
process.exit(allOk ? 0 : 1);
