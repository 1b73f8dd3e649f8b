// What becomes of a connection when the network, the page or the server goes away, as JSON lines {case, ok, detail}.
// Usage: node lifecycle.mjs polling|websocket|upgrade [URL]
//
// With a URL, that is of tests/browser/lifecycle_app.py, which is ended and started by who reads the lines {"ask": "stop" | "start"} and
// answers each with a line; without, the reference implementation is the server. Every page comes through a proxy of its own.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { connect, createServer } from "node:net";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath, pathToFileURL } from "node:url";

import { launch } from "./browser.mjs";

const [way, given] = process.argv.slice(2);
const TIMEOUT = 15_000;
const here = dirname(fileURLToPath(import.meta.url));
const built = join(here, "../../src/mizzen/static");
const transports = way === "upgrade" ? ["polling", "websocket"] : [way];
const PAGE = `<!doctype html><title>a page</title><link rel="icon" href="data:,"><script src="/mizzen.js"></script>`;

// ----- servers

class OtherProcess {
  constructor(url) {
    this.port = Number(new URL(url).port);
    this.answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  }

  async ask(what) {
    console.log(JSON.stringify({ ask: what }));
    await this.answers.next();
  }

  start = () => this.ask("start");
  stop = () => this.ask("stop");
}

class Reference {
  port = 0;

  async start() {
    const { Server } = createRequire(join(here, "../interop/package.json"))("socket.io");
    const io = (this.io = new Server({ pingInterval: 300, pingTimeout: 700, connectionStateRecovery: {} }));
    io.on("connection", (socket) => {
      socket.on("disconnect", (reason) => io.to("watchers").emit("left", socket.id, reason));
      socket.on("echo", (...args) => args.pop()(...args));
      socket.on("join", (room, ack) => (socket.join(room), ack()));
      socket.on("say", (room, text, ack) => (io.to(room).emit("said", text), ack?.()));
    });
    io.listen(this.port);
    if (!io.httpServer.listening) await once(io.httpServer, "listening");
    this.port = io.httpServer.address().port;
  }

  async stop() {
    this.io.httpServer.closeAllConnections();
    await this.io.close();
  }
}

/** Stands between a page and the server. */
class Proxy {
  refuses = false; // new connections
  swallows = false; // what comes from either side, as a network that is gone without a word
  idle = 0; // after how many milliseconds without data it closes a connection
  pairs = new Set();

  async listen(target) {
    this.server = createServer((client) => {
      if (this.refuses) return client.destroy();
      const upstream = connect(target, "localhost");
      const pair = [client, upstream];
      this.pairs.add(pair);
      for (const [from, to] of [pair, [upstream, client]]) {
        from.on("data", (data) => this.swallows || to.write(data));
        from.on("error", () => {});
        from.on("close", () => (this.pairs.delete(pair), to.destroy()));
        if (this.idle) from.setTimeout(this.idle, () => from.destroy());
      }
    });
    this.server.listen(0, "localhost");
    await once(this.server, "listening");
    this.port = this.server.address().port;
    return this;
  }

  cut() {
    for (const [client] of this.pairs) client.destroy();
  }

  close() {
    this.server.close();
    this.cut();
  }
}

// ----- pages

/** What the functions that run in a page may use. */
function helpers(transports) {
  window.heard = [];
  window.start = async (options = {}) => {
    const socket = (window.socket = io({ transports, reconnectionDelay: 20, reconnectionDelayMax: 50, ...options }));
    socket.on("connect", () => heard.push("connect")).on("disconnect", (reason, details) => heard.push([reason, details?.description]));
    await new Promise((resolve) => socket.once("connect", resolve));
    const { engine } = socket.io;
    if (transports.length > 1 && engine.transport.name === "polling") await new Promise((resolve) => engine.once("upgrade", resolve));
    return socket.id;
  };
  window.until = (holds) => {
    return new Promise((resolve) => {
      const look = () => (holds() ? resolve() : requestAnimationFrame(look));
      look();
    });
  };
  window.reconnected = () => until(() => heard.length > 2 && socket.connected);
}

class World {
  errors = [];
  proxies = [];

  constructor(context, server, watcher) {
    Object.assign(this, { context, server, watcher });
  }

  async proxy() {
    const proxy = await new Proxy().listen(this.server.port);
    this.proxies.push(proxy);
    return proxy;
  }

  /** Open a page whose server is the proxy. A name that is not localhost's own stands for one on the network. */
  async open(proxy, host = "net.localhost") {
    const page = await this.context.newPage();
    page.setDefaultTimeout(TIMEOUT);
    page.on("pageerror", (error) => this.errors.push(`error on the page: ${error.stack ?? error}`));
    await page.addInitScript(helpers, transports);
    await page.goto(`http://${host}:${proxy.port}/page`);
    return page;
  }

  /** Wait until the server knows that a socket is gone. */
  left(id) {
    return new Promise((resolve) => this.watcher.on("left", (who, reason) => who === id && resolve(reason)));
  }
}

const echo = (page, value) => page.evaluate((given) => socket.timeout(5000).emitWithAck("echo", given), value);
const LOST = /^(transport (close|error)|ping timeout)$/;

const cases = {
  async two_tabs(world) {
    const proxy = await world.proxy();
    const [first, second] = [await world.open(proxy), await world.open(proxy)];
    const ids = [await first.evaluate(() => start()), await second.evaluate(() => start())];
    assert.notEqual(ids[0], ids[1]);
    for (const page of [first, second]) {
      await page.evaluate(() => {
        socket.on("said", (text) => heard.push(text));
        return socket.emitWithAck("join", "tabs");
      });
    }
    await second.evaluate(() => void socket.emit("say", "tabs", "hello"));
    for (const page of [first, second]) await page.waitForFunction(() => heard.includes("hello"));
    const gone = world.left(ids[1]);
    await second.close();
    assert.match(await gone, LOST);
    assert.equal(await echo(first, "still here"), "still here");
    assert.deepEqual(await first.evaluate(() => heard), ["connect", "hello"]);
  },

  // it does not wait for its next attempt, which would be a minute later
  async dropped_network(world) {
    const page = await world.open(await world.proxy());
    await page.evaluate(() => start({ reconnectionDelay: 60_000, reconnectionDelayMax: 60_000, randomizationFactor: 0 }));
    await world.context.setOffline(true);
    await page.waitForFunction(() => !socket.connected);
    await page.evaluate(() => void (window.answer = socket.emitWithAck("echo", "written while offline")));
    await world.context.setOffline(false);
    assert.equal(await page.evaluate(() => answer), "written while offline");
    const [, [reason, why]] = await page.evaluate(() => heard);
    if (way === "polling") assert.match(reason, LOST);
    else assert.deepEqual([reason, why], ["transport close", "network connection lost"]);
  },

  async a_server_on_the_same_machine_needs_no_network(world) {
    const page = await world.open(await world.proxy(), "localhost");
    await page.evaluate(() => start());
    await page.evaluate(() => window.dispatchEvent(new Event("offline")));
    assert.equal(await echo(page, 1), 1);
    assert.deepEqual(await page.evaluate(() => heard), ["connect"]);
  },

  // a debugger stops all that the page does: this browser without a window leaves a page alone that it is told to freeze
  async frozen_page(world) {
    const page = await world.open(await world.proxy());
    const id = await page.evaluate(() => start());
    const gone = world.left(id);
    const session = await world.context.newCDPSession(page);
    await session.send("Debugger.enable");
    await session.send("Debugger.pause");
    assert.match(await gone, LOST);
    await session.send("Debugger.disable");
    await page.evaluate(() => reconnected());
    assert.match((await page.evaluate(() => heard))[1][0], LOST);
    assert.equal(await echo(page, "thawed"), "thawed");
  },

  async network_that_is_gone_without_a_word(world) {
    const proxy = await world.proxy();
    const page = await world.open(proxy);
    await page.evaluate(() => start());
    proxy.swallows = true;
    await page.waitForFunction(() => !socket.connected);
    assert.equal((await page.evaluate(() => heard))[1][0], "ping timeout");
    proxy.swallows = false;
    proxy.cut();
    await page.evaluate(() => reconnected());
    assert.equal(await echo(page, "back"), "back");
  },

  // a hidden page's timers come up to a minute late: here the one of the ping timeout never does
  async late_timers(world) {
    const proxy = await world.proxy();
    const page = await world.open(proxy);
    await page.evaluate(() => {
      const { setTimeout } = window;
      window.setTimeout = (act, delay, ...args) => setTimeout(act, delay === 1000 ? 2 ** 31 - 1 : delay, ...args);
    });
    for (const notice of ["emit", "visibilitychange", "resume"]) {
      await page.evaluate(() => (window.socket?.disconnect(), (heard.length = 0), start({ forceNew: true })));
      proxy.swallows = true;
      const kept = await page.evaluate(async (notice) => {
        const since = Date.now();
        await until(() => Date.now() - since > 1100);
        const before = socket.connected;
        if (notice === "emit") window.answer = socket.emitWithAck("echo", "kept");
        else document.dispatchEvent(new Event(notice));
        return [before, socket.sendBuffer.length];
      }, notice);
      assert.deepEqual(kept, [true, notice === "emit" ? 1 : 0]);
      await page.waitForFunction(() => !socket.connected);
      assert.equal((await page.evaluate(() => heard))[1][0], "ping timeout");
      proxy.swallows = false;
      proxy.cut();
      await page.evaluate(() => reconnected());
      if (notice === "emit") assert.equal(await page.evaluate(() => answer), "kept");
    }
  },

  async proxy_that_closes_idle_connections(world) {
    const proxy = await world.proxy();
    proxy.idle = 150; // a ping comes after 300
    const page = await world.open(proxy);
    const answers = await page.evaluate(async () => {
      await start({ retries: 20, ackTimeout: 500, forceNew: true });
      const answers = [];
      while (heard.filter((one) => one === "connect").length < 4) {
        answers.push(await socket.emitWithAck("echo", answers.length));
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
      return answers;
    });
    answers.forEach((answer, index) => assert.equal(answer, index));
    const reasons = (await page.evaluate(() => heard)).filter(Array.isArray);
    assert.ok(reasons.length >= 3);
    for (const [reason] of reasons) assert.match(reason, LOST);
  },

  async proxy_more_patient_than_the_ping_interval(world) {
    const proxy = await world.proxy();
    proxy.idle = 900;
    const page = await world.open(proxy);
    await page.evaluate(async () => {
      await start();
      let pings = 0;
      await new Promise((resolve) => socket.io.on("ping", () => ++pings === 5 && resolve()));
    });
    assert.deepEqual(await page.evaluate(() => heard), ["connect"]);
  },

  async what_was_missed_is_recovered(world) {
    const proxy = await world.proxy();
    const page = await world.open(proxy);
    const before = await page.evaluate(async () => {
      const id = await start();
      await socket.emitWithAck("join", id);
      const first = new Promise((resolve) => socket.on("said", (text) => (heard.push(text), resolve())));
      socket.emit("say", id, "before");
      await first;
      return id;
    });
    const gone = world.left(before);
    proxy.refuses = true;
    proxy.cut();
    assert.match(await gone, LOST);
    await world.watcher.emitWithAck("say", before, "meanwhile");
    proxy.refuses = false;
    await page.waitForFunction(() => heard.includes("meanwhile") && socket.connected);
    assert.deepEqual(await page.evaluate(() => [socket.id, socket.recovered]), [before, true]);
    const [first, text, [reason], ...rest] = await page.evaluate(() => heard);
    assert.deepEqual([first, text, rest], ["connect", "before", ["meanwhile", "connect"]]);
    assert.match(reason, LOST);
  },

  // Also the one that does not reconnect by itself: a page that comes back has lost nothing. This browser keeps no pages, hence the events.
  async back_and_forward(world) {
    const page = await world.open(await world.proxy());
    const never = { reconnection: false, reconnectionDelay: 60_000, reconnectionDelayMax: 60_000, randomizationFactor: 0 };
    const id = await page.evaluate((options) => start(options), never);
    const gone = world.left(id);
    await page.evaluate(() => dispatchEvent(new PageTransitionEvent("pagehide", { persisted: true })));
    assert.match(await gone, LOST);
    assert.deepEqual(await page.evaluate(() => heard), ["connect", ["transport close", "page hidden"]]);
    await page.evaluate(() => dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true })));
    await page.evaluate(() => reconnected());
    assert.equal(await echo(page, "here again"), "here again");
  },

  async server_restart(world) {
    const page = await world.open(await world.proxy());
    await page.evaluate(() => start());
    await world.server.stop();
    await page.waitForFunction(() => !socket.connected);
    await page.evaluate(() => void (window.answer = socket.emitWithAck("echo", "written while it was gone")));
    await world.server.start();
    assert.equal(await page.evaluate(() => answer), "written while it was gone");
    assert.match((await page.evaluate(() => heard))[1][0], LOST);
    assert.equal(await page.evaluate(() => socket.recovered), false);
  },
};

async function outcome(browser, server, watcher, name) {
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`not done after ${TIMEOUT} ms`)), TIMEOUT)));
  const context = await browser.newContext();
  await context.route("**/page*", (route) => route.fulfill({ contentType: "text/html", body: PAGE }));
  const script = { contentType: "text/javascript", body: readFileSync(join(built, "mizzen.js")) };
  await context.route("**/mizzen.js", (route) => route.fulfill(script));
  const world = new World(context, server, watcher);
  try {
    await Promise.race([cases[name](world), late]);
    if (world.errors.length) throw new Error(world.errors.join("\n"));
    return { case: name, ok: true, detail: "" };
  } catch (error) {
    // a page that is stopped says nothing
    const said = (page) => Promise.race([page.evaluate(() => heard), new Promise((resolve) => setTimeout(resolve, 500, "?"))]);
    const heard = await Promise.all(context.pages().map((page) => said(page).catch(() => "?")));
    return { case: name, ok: false, detail: [error?.stack ?? error, JSON.stringify(heard), ...world.errors].join("\n") };
  } finally {
    clearTimeout(timer);
    await context.close();
    for (const proxy of world.proxies) proxy.close();
  }
}

const server = given ? new OtherProcess(given) : new Reference();
if (!given) await server.start();
// the client itself, in Node.js, hears who leaves
const { io } = await import(pathToFileURL(join(built, "mizzen.mjs")));
const watcher = io(`http://localhost:${server.port}`, { transports: ["polling"] });
await watcher.emitWithAck("join", "watchers");
const browser = await launch();
let allOk = true;
const run = async (name) => {
  const result = await outcome(browser, server, watcher, name);
  allOk &&= result.ok;
  console.log(JSON.stringify(result));
};
try {
  const names = Object.keys(cases).filter((name) => name !== "server_restart");
  const runner = async () => {
    for (let name = names.shift(); name; name = names.shift()) await run(name);
  };
  await Promise.all([runner(), runner(), runner(), runner()]);
  await run("server_restart"); // of all pages' server
} finally {
  await browser.close();
}
process.exit(allOk ? 0 : 1);
