// Every case of sails.io.js in a browser, as JSON lines {case, ok, detail}.
// Usage: node sails.mjs LAX_PORT NONE_PORT [mizzen]: with that, the pages have our own client in the place of sails.io.js.
//
// Two sites of tests/browser/sails_site.py, whose session cookies are SameSite=Lax and SameSite=None. Both serve the page. As page and site they are
// same-origin, of another port (localhost to localhost) or foreign (127.0.0.1 to localhost); neither allows pages of elsewhere.localhost.
// An error on a page or in its console fails the case, unless the case means it.

import assert from "node:assert/strict";

import { launch } from "./browser.mjs";

const [laxPort, nonePort, client] = process.argv.slice(2);
const ours = client === "mizzen"; // it asks for the cookie by fetch(), which runs nothing of the other origin, and polls by fetch()
const TIMEOUT = 10_000;

const site = `http://localhost:${laxPort}`;
const noneSite = `http://localhost:${nonePort}`;
const foreign = `http://127.0.0.1:${nonePort}`; // a page that `site` allows
const foreignOfNone = `http://127.0.0.1:${laxPort}`; // a page that `noneSite` allows
const refused = `http://elsewhere.localhost:${nonePort}`; // a page that `site` does not allow
const refusedOfNone = `http://elsewhere.localhost:${laxPort}`; // a page that `noneSite` does not allow

/** What the functions that run in a page may use. */
function helpers() {
  window.ready = (socket) => new Promise((resolve) => (socket.isConnected() ? resolve(socket) : socket.on("connect", () => resolve(socket))));
  window.once = (socket, event) => {
    return new Promise((resolve) => {
      const listener = (...args) => (socket.off(event, listener), resolve(args));
      socket.on(event, listener);
    });
  };
  window.send = (socket, verb, ...args) => {
    return new Promise((resolve) => {
      socket[verb](...args, (body, jwr) => {
        const plain = body instanceof ArrayBuffer ? [...new Uint8Array(body)] : body;
        resolve({ body: plain, binary: plain !== body, status: jwr.statusCode, headers: jwr.headers, error: jwr.error?.message });
      });
    });
  };
  window.thrown = (act) => {
    try {
      act();
      return null;
    } catch (error) {
      return error.message.split("\n")[0];
    }
  };
  window.overHttp = async (path, data) => {
    const post = { method: "POST", body: JSON.stringify(data), headers: { "content-type": "application/json" } };
    const response = await fetch(path, data === undefined ? {} : post);
    return response.json();
  };
}

/** The pages of one case: one browser profile, and what its pages said and asked for. */
class Pages {
  errors = [];
  lines = []; // of the consoles
  scripts = []; // [URL, status] of what was loaded as a script
  fetches = []; // and by fetch()
  requests = []; // [URL, kind]
  sockets = []; // URLs of WebSockets
  meant = /^$/; // the errors that this case causes

  constructor(context) {
    this.context = context;
  }

  /** Open the page; `configure` runs there in the turn in which sails.io.js was loaded. */
  async open({ at = site, attributes = {}, configure = () => {}, given = null } = {}) {
    const page = await this.context.newPage();
    page.setDefaultTimeout(TIMEOUT);
    page.on("pageerror", (error) => this.fails(`error on the page: ${error.stack ?? error}`));
    page.on("console", (message) => {
      this.lines.push(message.text());
      if (message.type() === "error") this.fails(`error in the console: ${message.text()}`);
    });
    page.on("request", (request) => this.requests.push([request.url(), request.resourceType()]));
    page.on("response", (response) => {
      const kind = response.request().resourceType();
      if (kind === "script" || kind === "fetch") this[kind === "script" ? "scripts" : "fetches"].push([response.url(), response.status()]);
    });
    page.on("websocket", (socket) => this.sockets.push(socket.url()));
    await page.addInitScript(helpers);
    await page.addInitScript(`window.configure = () => (${configure})(${JSON.stringify(given)})`);
    await page.goto(`${at}/page?${new URLSearchParams(attributes)}`);
    return page;
  }

  /** Open the page and wait until `io.socket` is connected. */
  async connected(options) {
    const page = await this.open(options);
    await page.evaluate(() => ready(io.socket).then(() => {}));
    return page;
  }

  fails(text) {
    if (!this.meant.test(text)) this.errors.push(text);
  }

  cookieScripts() {
    const asked = ours ? this.fetches : this.scripts;
    return asked.filter(([url]) => !/^\/(sails\.io\.js|socket\.io\/|login)$/.test(new URL(url).pathname));
  }
}

const mirror = (page) => page.evaluate(() => send(io.socket, "get", "/mirror").then(({ body }) => body));
const logIn = (page, user) => page.evaluate((name) => overHttp("/login", { user: name }), user);
const me = (page) => page.evaluate(() => send(io.socket, "get", "/me"));
const state = () => ({ connected: io.socket.isConnected(), connecting: io.socket.isConnecting(), soon: io.socket.mightBeAboutToAutoConnect() });

/** Runs in a page: connect where that is not allowed. */
async function connectError([url, transports]) {
  const socket = io.sails.connect(url, { useCORSRouteToGetCookie: false, transports });
  const [error] = await Promise.race([once(socket, "connect_error"), once(socket, "connect").then(() => [new Error("it is connected")])]);
  return [error.message, socket.isConnected()];
}

const scriptTag = {
  async connects_by_itself(pages) {
    const page = await pages.open({
      configure: () => {
        const { connect, ...settings } = io.sails;
        window.before = { settings, connect: typeof connect, state: [io.socket.isConnected(), io.socket.mightBeAboutToAutoConnect()] };
      },
    });
    const { settings, connect, state: before } = await page.evaluate(() => window.before);
    assert.equal(connect, "function");
    assert.deepEqual(before, [false, true]);
    assert.equal(settings.sdk.version, "1.2.1");
    assert.equal(settings.sdk.platform, "browser");
    delete settings.sdk;
    const defaults = { autoConnect: true, reconnection: false, useCORSRouteToGetCookie: true, environment: "development", transports: ["websocket"] };
    assert.deepEqual(settings, defaults);
    await page.evaluate(() => ready(io.socket).then(() => {}));
    assert.deepEqual(await page.evaluate(state), { connected: true, connecting: false, soon: false });
    assert.equal(await page.evaluate(() => io.socket.url), site);
    const { handshake, headers } = await mirror(page);
    assert.equal(handshake.__sails_io_sdk_version, "1.2.1");
    assert.equal(handshake.__sails_io_sdk_platform, "browser");
    assert.deepEqual([handshake.EIO, handshake.transport], [ours ? "4" : "3", "websocket"]);
    assert.equal(headers.origin, site);
    assert.deepEqual(pages.cookieScripts(), []);
    assert.ok(!pages.requests.some(([, kind]) => kind === "xhr"));
  },

  async autoConnect(pages) {
    for (const name of ["data-autoConnect", "autoConnect"]) {
      const page = await pages.open({ attributes: { [name]: "false" } });
      await page.waitForFunction(() => io.socket === undefined);
      assert.deepEqual(pages.sockets, []);
    }
    await pages.connected({ attributes: { "data-autoConnect": "true" } });
    await pages.connected({ attributes: { autoConnect: "" } });
  },

  async url(pages) {
    const page = await pages.connected({ at: noneSite, attributes: { "data-url": `${site}/` } });
    assert.equal(await page.evaluate(() => io.socket.url), site);
    assert.equal((await mirror(page)).headers.host, new URL(site).host);
  },

  async transports(pages) {
    const page = await pages.connected({ attributes: { "data-transports": '["polling"]' } });
    assert.equal((await mirror(page)).handshake.transport, "polling");
    const sent = await page.evaluate(async () => [await send(io.socket, "post", "/mirror", { text: "é漢😀" }), await send(io.socket, "get", "/bytes")]);
    assert.deepEqual(sent[0].body.body, { text: "é漢😀" });
    assert.deepEqual([sent[1].body, sent[1].binary], [[0, 1, 255], true]);
    assert.deepEqual(pages.sockets, []);
  },

  async transports_with_upgrade(pages) {
    const page = await pages.connected({ attributes: { "data-transports": '["polling", "websocket"]' } });
    await page.waitForFunction(() => io.socket._raw.io.engine.transport.name === "websocket");
    assert.equal((await mirror(page)).method, "GET");
    assert.equal(pages.sockets.length, 1);
  },

  async headers(pages) {
    const page = await pages.connected({ attributes: { "data-headers": '{"X-Token": "abc", "x-other": "1"}' } });
    const { headers } = await mirror(page);
    assert.deepEqual([headers["x-token"], headers["x-other"]], ["abc", "1"]);
  },

  async environment(pages) {
    await pages.connected({ attributes: { "data-environment": "production" } });
    assert.deepEqual(pages.lines, []);
    await pages.connected({ attributes: { "data-environment": "development" } });
    assert.match(pages.lines.join("\n"), new RegExp(`Now connected to ${site}\\.`));
  },

  async reconnection(pages) {
    const page = await pages.connected({ attributes: { "data-reconnection": "true" } });
    const attempts = await page.evaluate(async () => {
      const [gone, back] = [once(io.socket, "disconnect"), once(io.socket, "reconnect")];
      io.socket._raw.io.engine.close();
      await gone;
      const answer = send(io.socket, "post", "/mirror", { offline: true }); // waits for the connection
      return [await back, (await answer).body.body];
    });
    assert.deepEqual(attempts, [[1], { offline: true }]);
  },

  async path(pages) {
    const page = await pages.connected({ attributes: { "data-path": "/realtime/socket.io" } });
    assert.equal((await mirror(page)).method, "GET");
    assert.equal(new URL(pages.sockets[0]).pathname, "/realtime/socket.io/");
  },

  async data_prefix_wins(pages) {
    const attributes = { headers: '{"x-which": "plain"}', "data-headers": '{"x-which": "data"}', environment: "production" };
    const page = await pages.connected({ attributes });
    assert.equal((await mirror(page)).headers["x-which"], "data");
    assert.equal(await page.evaluate(() => io.sails.environment), "production");
  },

  async wrong_attribute(pages) {
    pages.meant = /Unexpected\/invalid configuration for `headers`/;
    const page = await pages.open({ attributes: { "data-headers": "[1]" } });
    assert.equal(await page.evaluate(() => io.sails), undefined);
  },
};

const settings = {
  async settings_before_connecting(pages) {
    const page = await pages.connected({
      at: noneSite,
      given: site,
      configure: (url) => {
        Object.assign(io.sails, { url, headers: { "x-set": "1" }, query: "?room=a%20b&token=t", environment: "production", timeout: 5000 });
      },
    });
    const { headers, handshake } = await mirror(page);
    assert.equal(headers["x-set"], "1");
    assert.equal(headers.host, new URL(site).host);
    assert.deepEqual([handshake.room, handshake.token, handshake.__sails_io_sdk_version], ["a b", "t", "1.2.1"]);
    assert.deepEqual(pages.lines, []);
  },

  async settings_win_over_attributes(pages) {
    const page = await pages.open({ attributes: { "data-autoConnect": "true" }, configure: () => (io.sails.autoConnect = false) });
    await page.waitForFunction(() => io.socket === undefined);
  },

  async settings_are_defaults_of_connect(pages) {
    const page = await pages.open({ configure: () => (io.sails.autoConnect = false) });
    const seen = await page.evaluate(async () => {
      io.sails.headers = { "x-set": "default" };
      const [first, second] = [await ready(io.sails.connect()), await ready(io.sails.connect({ headers: { "x-set": "own" } }))];
      return Promise.all([first, second].map((socket) => send(socket, "get", "/mirror")));
    });
    assert.deepEqual(seen.map(({ body }) => body.headers["x-set"]), ["default", "own"]);
  },

  async initial_connection_headers(pages) {
    const page = await pages.connected({
      configure: () => {
        io.sails.transports = ["polling"];
        io.sails.initialConnectionHeaders = { "x-first": "1" };
      },
    });
    assert.equal((await mirror(page)).headers["x-first"], "1");
  },

  async nosession(pages) {
    await logIn(await pages.open(), "ada");
    const page = await pages.connected({ configure: () => (io.sails.query = "nosession=true") });
    const { session, headers } = await mirror(page);
    assert.deepEqual([session, headers.cookie], [{}, undefined]);
  },

  async settings_are_locked_while_connected(pages) {
    const page = await pages.connected();
    const [locked, query, headers] = await page.evaluate(() => [
      thrown(() => (io.socket.url = "http://localhost:1")),
      thrown(() => (io.socket.query = "a=1")),
      thrown(() => (io.socket.headers = { "x-late": "1" })),
    ]);
    assert.equal(locked, "Cannot change value of `url` while socket is connected.");
    assert.equal(query, "Cannot change value of `query` while socket is connected.");
    assert.equal(headers, null);
    assert.equal((await mirror(page)).headers["x-late"], "1");
    assert.equal(await page.evaluate(() => thrown(() => ((io.sails.strict = false), (io.socket.query = "a=1")))), null);
  },
};

const requests = {
  async verbs(pages) {
    const page = await pages.connected();
    const answers = await page.evaluate(async () => {
      const made = ["get", "post", "put", "patch", "delete"].map((verb) => send(io.socket, verb, "/mirror?a=1"));
      return [io.socket._raw.id, await Promise.all(made)];
    });
    assert.deepEqual(answers[1].map(({ body }) => body.method), ["GET", "POST", "PUT", "PATCH", "DELETE"]);
    for (const { body, status, error } of answers[1]) {
      assert.deepEqual([body.query, body.socket, status, error], [{ a: "1" }, answers[0], 200, undefined]);
    }
  },

  async request(pages) {
    const page = await pages.connected();
    const all = [
      { url: "/mirror" },
      { method: "POST", url: "/mirror", data: { a: [1, null] } },
      { method: "put", url: "/mirror", params: { b: "é" }, headers: { "X-Own": "1" } },
      { method: "Patch", url: "/mirror", data: {} },
      { method: "delete", url: "/mirror" },
      { method: "options", url: "/mirror" },
    ];
    const seen = (await page.evaluate((list) => Promise.all(list.map((one) => send(io.socket, "request", one))), all)).map(({ body }) => body);
    assert.deepEqual(seen.map(({ method }) => method), ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);
    assert.deepEqual(seen[1].body, { a: [1, null] });
    assert.deepEqual([seen[2].body, seen[2].headers["x-own"]], [{ b: "é" }, "1"]);
    const head = await page.evaluate(() => send(io.socket, "request", { method: "head", url: "/mirror" }));
    assert.deepEqual([head.status, head.body], [200, undefined]);
  },

  async data(pages) {
    const page = await pages.connected();
    const data = { text: "é漢😀\u2028", list: [1, { deep: [null] }], number: 1.5, yes: true };
    const [got, ...sent] = await page.evaluate((value) => {
      return Promise.all(["get", "post", "put", "patch", "delete"].map((verb) => send(io.socket, verb, "/mirror?number=own", value)));
    }, data);
    assert.deepEqual(got.body.query, { text: data.text, list: '{"deep":[null]}', number: "own", yes: "true" });
    assert.equal(got.body.body, null);
    for (const { body } of sent) assert.deepEqual([body.body, body.query], [data, { number: "own" }]);
  },

  async jwr(pages) {
    const page = await pages.connected();
    const [body, jwr, text, pojo, piped] = await page.evaluate(() => {
      return new Promise((resolve) => {
        const done = (body, jwr) => resolve([body, { ...jwr }, String(jwr), jwr.toPOJO(), jwr.pipe().message]);
        io.socket.post("/notes", { text: "jwr" }, done);
      });
    });
    assert.deepEqual(body, { text: "jwr", by: "socket" });
    assert.deepEqual(jwr, { body, statusCode: 201, headers: { "content-type": "application/json", "x-note": "jwr" } });
    assert.match(text, /^\[ResponseFromSails\] .*Status: 201/);
    assert.deepEqual(pojo, jwr);
    assert.match(piped, /not implemented/);
  },

  async errors(pages) {
    const page = await pages.connected();
    const [missing, method, forbidden, invalid, failed, bad] = await page.evaluate(() =>
      Promise.all([
        send(io.socket, "get", "/no/such/route"),
        send(io.socket, "delete", "/notes"),
        send(io.socket, "get", "/forbidden"),
        send(io.socket, "post", "/notes", { text: 5 }),
        send(io.socket, "get", "/fails"),
        send(io.socket, "get", "no-slash"),
      ]),
    );
    assert.deepEqual([missing.status, missing.body], [404, { detail: "Not Found" }]);
    assert.equal(missing.error, 'Server responded with a 404 status code:\n```\n{\n  "detail": "Not Found"\n}\n```');
    assert.deepEqual([method.status, method.headers.allow], [405, "GET"]);
    assert.deepEqual([forbidden.status, forbidden.body], [403, { detail: { code: "E_FORBIDDEN" } }]);
    assert.deepEqual([invalid.status, invalid.body.detail[0].loc], [422, ["body", "text"]]);
    assert.equal(failed.status, 500);
    assert.match(failed.error, /^Server responded with a 500 status code:/);
    assert.ok(!JSON.stringify(failed).includes("secret"));
    assert.equal(bad.status, 400);
    assert.match(bad.error, /^Server responded with a 400 status code:/);
  },

  async answers_that_are_not_json(pages) {
    const page = await pages.connected();
    const paths = ["/text", "/bytes", "/nothing", "/elsewhere"];
    const [text, bytes, nothing, moved] = await page.evaluate((all) => Promise.all(all.map((path) => send(io.socket, "get", path))), paths);
    assert.equal(text.body, "plain é");
    assert.deepEqual([bytes.body, bytes.binary], [[0, 1, 255], true]);
    assert.deepEqual([nothing.body, nothing.status], [undefined, 204]);
    assert.deepEqual([moved.status, moved.headers.location, moved.error], [302, "/mirror", undefined]);
  },

  async binary_data(pages) {
    const page = await pages.connected();
    const seen = await page.evaluate(() => {
      const bytes = new Uint8Array([1, 2, 255]); // which socket.io-client 2.0.3 itself would send as an object of numbers
      const all = [bytes.buffer, new Blob([bytes])];
      return Promise.all(all.map((data) => send(io.socket, "request", { method: "post", url: "/bytes", data })));
    });
    for (const { body } of seen) assert.deepEqual(body, { bytes: [1, 2, 255], type: "application/octet-stream" });
  },

  async form(pages) {
    const page = await pages.connected();
    const headers = { "content-type": "application/x-www-form-urlencoded" };
    const options = { method: "post", url: "/bytes", data: { user: "ada", word: "a b" }, headers };
    const { body } = await page.evaluate((one) => send(io.socket, "request", one), options);
    assert.equal(Buffer.from(body.bytes).toString(), "user=ada&word=a+b");
    assert.equal(body.type, headers["content-type"]);
  },

  async global_headers(pages) {
    const page = await pages.connected({ attributes: { "data-headers": '{"X-Global": "1", "x-other": "2"}' } });
    const [own, without] = await page.evaluate(() =>
      Promise.all([
        send(io.socket, "request", { url: "/mirror", headers: { "x-other": "3", "X-Own": "4" } }),
        send(io.socket, "request", { url: "/mirror", headers: { "X-Global": undefined } }),
      ]),
    );
    const these = ({ body }) => ["x-global", "x-other", "x-own"].map((name) => body.headers[name]);
    assert.deepEqual([these(own), these(without)], [["1", "3", "4"], [undefined, "2", undefined]]);
  },

  async wrong_arguments(pages) {
    const page = await pages.connected();
    const said = await page.evaluate(() => [
      thrown(() => io.socket.get("/mirror", {}, 5)),
      thrown(() => io.socket.get()),
      thrown(() => io.socket.request({ url: "/mirror", method: 5 })),
      thrown(() => io.socket.request({ url: "/mirror", headers: "x" })),
      thrown(() => io.socket.request({ url: "/mirror", data: {}, params: {} })),
    ]);
    const expected = ["Invalid callback function!", "Invalid or missing URL!", "Invalid `method`", "Invalid `headers`", "Cannot specify both"];
    expected.forEach((text, n) => assert.ok(said[n]?.startsWith(text), `${said[n]}: not ${text}`));
  },

  async request_without_callback(pages) {
    const page = await pages.connected();
    const [heard] = await page.evaluate(async () => {
      await send(io.socket, "get", "/notes");
      const heard = once(io.socket, "note");
      io.socket.post("/notes", { text: "no callback" });
      return heard;
    });
    assert.deepEqual(heard, { text: "no callback", by: "socket" });
  },
};

const events = {
  async on_and_off(pages) {
    const page = await pages.connected();
    const heard = await page.evaluate(async () => {
      const heard = [];
      const [kept, removed] = [({ text }) => heard.push(`kept ${text}`), ({ text }) => heard.push(`removed ${text}`)];
      const chained = io.socket.on("note", kept).on("note", removed) === io.socket;
      await send(io.socket, "get", "/notes");
      await send(io.socket, "post", "/notes", { text: "one" });
      io.socket.off("note", removed);
      await send(io.socket, "post", "/notes", { text: "two" });
      io.socket.removeAllListeners();
      await send(io.socket, "post", "/notes", { text: "three" });
      return [chained, ...heard];
    });
    assert.deepEqual(heard, [true, "kept one", "removed one", "kept two"]);
  },

  async broadcast_to_another_page(pages) {
    const [reader, writer] = [await pages.connected(), await pages.connected()];
    await reader.evaluate(async () => {
      await send(io.socket, "get", "/notes");
      window.heard = once(io.socket, "note");
    });
    await writer.evaluate(() => send(io.socket, "post", "/notes", { text: "to all" }));
    assert.deepEqual(await reader.evaluate(() => window.heard), [{ text: "to all", by: "socket" }]);
  },

  async http_post_is_seen_as_an_event(pages) {
    const page = await pages.connected();
    const heard = await page.evaluate(async () => {
      await send(io.socket, "get", "/notes");
      const heard = once(io.socket, "note");
      await overHttp("/notes", { text: "by http" });
      return heard;
    });
    assert.deepEqual(heard, [{ text: "by http", by: "http" }]);
  },

  async plain_event_beside_requests(pages) {
    const page = await pages.connected();
    const reply = await page.evaluate(() => new Promise((resolve) => io.socket._raw.emit("plain", 1, (...args) => resolve(args))));
    assert.deepEqual(reply, ["plain", 1]);
  },
};

const connections = {
  async queue_before_connect(pages) {
    const page = await pages.open({
      configure: () => {
        window.heard = new Promise((resolve) => io.socket.on("note", resolve));
        window.early = [io.socket.isConnected(), io.socket._raw === undefined];
        window.answers = [send(io.socket, "get", "/mirror?n=1"), send(io.socket, "get", "/notes"), send(io.socket, "post", "/notes", { text: "queued" })];
      },
    });
    assert.deepEqual(await page.evaluate(() => window.early), [false, true]);
    const answers = await page.evaluate(() => Promise.all(window.answers));
    assert.deepEqual(answers.map(({ status }) => status), [200, 200, 201]);
    assert.equal(answers[0].body.query.n, "1");
    assert.equal((await page.evaluate(() => window.heard)).text, "queued");
  },

  async second_socket(pages) {
    const page = await pages.connected();
    const [seen, same, connecting] = await page.evaluate(async (url) => {
      const second = io.sails.connect(url, { transports: ["polling"], headers: { "x-second": "1" } });
      const connecting = second.isConnecting();
      await ready(second);
      const answers = [await send(io.socket, "get", "/mirror"), await send(second, "get", "/mirror")];
      second.disconnect();
      return [answers.map(({ body }) => [body.socket, body.headers["x-second"], body.handshake.transport]), io.socket.isConnected(), connecting];
    }, site);
    assert.deepEqual([same, connecting], [true, true]);
    assert.notEqual(seen[0][0], seen[1][0]);
    assert.deepEqual(seen.map(([, header]) => header), [undefined, "1"]);
    assert.deepEqual(seen.map(([, , transport]) => transport), ["websocket", "polling"]);
  },

  async disconnect_and_reconnect(pages) {
    const page = await pages.connected();
    const steps = await page.evaluate(async () => {
      const first = io.socket._raw.id;
      const twice = thrown(() => io.socket.reconnect());
      const gone = once(io.socket, "disconnect");
      io.socket.disconnect();
      const [reason, again] = [await gone, thrown(() => io.socket.disconnect())];
      const queued = send(io.socket, "get", "/mirror");
      const offline = [io.socket.isConnected(), io.socket.isConnecting()];
      io.socket.reconnect();
      const connecting = [io.socket.isConnecting(), thrown(() => io.socket.reconnect())];
      const { body } = await queued;
      return { twice, reason, again, offline, connecting, moved: body.socket === io.socket._raw.id && body.socket !== first };
    });
    assert.deepEqual(steps, {
      twice: "Cannot connect- socket is already connected",
      reason: ["io client disconnect"],
      again: "Cannot disconnect- socket is already disconnected",
      offline: [false, false],
      connecting: [true, "Cannot connect- socket is already connecting"],
      moved: true,
    });
  },

  async requests_in_flight_fail_with_the_connection(pages) {
    const page = await pages.connected();
    const failed = await page.evaluate(() => {
      return new Promise((resolve) => {
        io.socket.get("/never", (error, { statusCode, body }) => resolve({ message: error.message, statusCode, body }));
        send(io.socket, "get", "/mirror").then(() => io.socket.disconnect());
      });
    });
    assert.deepEqual(failed, { message: "The socket disconnected before the request completed.", statusCode: 0, body: null });
  },

  async dropped_by_the_server(pages) {
    const page = await pages.connected({ attributes: { "data-reconnection": "true" } });
    const reason = await page.evaluate(() => {
      const gone = once(io.socket, "disconnect");
      io.socket.post("/drop", () => {});
      return gone;
    });
    assert.deepEqual(reason, ["io server disconnect"]);
    assert.deepEqual(await page.evaluate(state), { connected: false, connecting: false, soon: false });
  },

  async listeners_and_requests_after_reconnection(pages) {
    const page = await pages.connected({
      attributes: { "data-reconnection": "true" },
      configure: () => io.socket.on("note", ({ text }) => (window.heard ??= []).push(text)),
    });
    const heard = await page.evaluate(async () => {
      const back = once(io.socket, "reconnect");
      io.socket._raw.io.engine.close();
      await back;
      await ready(io.socket);
      await send(io.socket, "get", "/notes");
      await send(io.socket, "post", "/notes", { text: "again" });
      return window.heard;
    });
    assert.deepEqual(heard, ["again"]);
  },
};

const sessions = {
  async login_by_http_then_socket(pages) {
    const page = await pages.open({ attributes: { "data-autoConnect": "false" } });
    await logIn(page, "ada");
    const answer = await page.evaluate(async () => send(await ready(io.sails.connect()), "get", "/me"));
    assert.deepEqual([answer.status, answer.body], [200, "ada"]);
  },

  async login_by_http_on_an_earlier_page(pages) {
    await logIn(await pages.open(), "ada");
    for (const transports of ['["websocket"]', '["polling"]']) {
      assert.equal((await me(await pages.connected({ attributes: { "data-transports": transports } }))).body, "ada");
    }
  },

  async login_by_http_reaches_an_open_socket_by_reconnecting(pages) {
    const page = await pages.connected();
    await logIn(page, "ada");
    assert.equal((await me(page)).status, 401);
    await page.evaluate(() => (io.socket.disconnect(), io.socket.reconnect()));
    assert.equal((await me(page)).body, "ada");
  },

  async login_by_socket_is_the_sockets_own(pages) {
    const page = await pages.connected();
    const { status, headers } = await page.evaluate(() => send(io.socket, "post", "/login", { user: "ada" }));
    assert.deepEqual([status, headers["set-cookie"]], [200, undefined]);
    assert.equal((await me(page)).body, "ada");
    assert.deepEqual(await pages.context.cookies(), []);
    assert.deepEqual((await page.evaluate(() => overHttp("/mirror"))).session, {});
    assert.equal((await me(await pages.connected())).status, 401);
  },

  async logout_by_http_cuts_the_socket(pages) {
    await logIn(await pages.open(), "grace");
    const page = await pages.connected();
    assert.equal((await me(page)).body, "grace");
    const reason = await page.evaluate(async () => {
      const gone = once(io.socket, "disconnect");
      await overHttp("/logout", {});
      return gone;
    });
    assert.deepEqual(reason, ["io server disconnect"]);
    await page.evaluate(() => io.socket.reconnect());
    assert.equal((await me(page)).status, 401);
  },

  async a_message_cannot_set_the_cookie_or_the_origin(pages) {
    const page = await pages.connected();
    const headers = { cookie: "session=stolen", origin: "http://bank.example", host: "bank.example" };
    const { body } = await page.evaluate((given) => send(io.socket, "request", { url: "/mirror", headers: given }), headers);
    assert.deepEqual([body.headers.cookie, body.headers.origin, body.headers.host], [undefined, site, new URL(site).host]);
  },
};

const withUrl = (at, url, more = {}) => ({ at, attributes: { "data-url": url }, given: more, configure: (settings) => Object.assign(io.sails, settings) });

const origins = {
  async other_port_gets_a_cookie(pages) {
    const page = await pages.connected(withUrl(noneSite, site));
    assert.deepEqual(pages.cookieScripts(), [[`${site}/__getcookie`, 200]]);
    const { session, headers } = await mirror(page);
    assert.deepEqual([session, headers.origin], [{ guest: true }, noneSite]);
    assert.equal(await page.locator("script").count(), 1); // the answer removed its own element
  },

  async foreign_page_connects(pages) {
    const page = await pages.connected(withUrl(foreign, site));
    assert.deepEqual(pages.cookieScripts(), [[`${site}/__getcookie`, 200]]);
    const { session, headers } = await mirror(page);
    assert.equal(headers.origin, foreign);
    assert.deepEqual(session, {}); // SameSite=Lax does not come along
    const written = await page.evaluate(() => send(io.socket, "post", "/notes", { text: "from afar" }));
    assert.deepEqual([written.status, written.headers["x-note"]], [201, "from afar"]);
  },

  async foreign_page_gets_a_cookie_of_same_site_none(pages) {
    const page = await pages.connected(withUrl(foreignOfNone, noneSite));
    assert.deepEqual(pages.cookieScripts(), [[`${noneSite}/__getcookie`, 200]]);
    assert.deepEqual((await mirror(page)).session, { guest: true });
  },

  async foreign_page_and_the_login_of_the_site(pages) {
    for (const at of [site, noneSite]) {
      await logIn(await pages.open({ at }), "ada");
      const page = await pages.connected(at === site ? withUrl(foreign, site) : withUrl(foreignOfNone, noneSite));
      const { status, body } = await me(page);
      if (at === site) assert.equal(status, 401, "SameSite=Lax keeps the login from pages of other sites");
      else assert.equal(body, "ada");
      await pages.context.clearCookies();
    }
  },

  async without_the_cookie_route(pages) {
    for (const at of [noneSite, foreign]) {
      const page = await pages.connected(withUrl(at, site, { useCORSRouteToGetCookie: false }));
      const { session, headers } = await mirror(page);
      assert.deepEqual([session, headers.origin], [{}, at]);
    }
    assert.deepEqual(pages.cookieScripts(), []);
  },

  async own_cookie_route(pages) {
    const page = await pages.connected(withUrl(noneSite, site, { useCORSRouteToGetCookie: "/own-cookie" }));
    assert.deepEqual(pages.cookieScripts(), [[`${site}/own-cookie`, 200]]);
    assert.deepEqual((await mirror(page)).session, { own: true });
  },

  async cookie_route_for_each_socket(pages) {
    const page = await pages.open({ at: noneSite, attributes: { "data-autoConnect": "false" } });
    const answer = await page.evaluate(async (url) => {
      const first = await ready(io.sails.connect(url));
      const second = await ready(io.sails.connect(url, { useCORSRouteToGetCookie: false }));
      first.disconnect();
      return send(second, "get", "/mirror");
    }, site);
    assert.equal(pages.cookieScripts().length, 1);
    assert.deepEqual(answer.body.session, { guest: true }); // the browser has it by now
  },

  // socket.io-client 2 polls with credentials, whatever it is told, and a browser asks the server whether it may.
  async foreign_page_by_polling(pages) {
    const page = await pages.connected(withUrl(foreignOfNone, noneSite, { transports: ["polling"] })); // with cors_credentials
    const { session, headers, handshake } = await mirror(page);
    assert.deepEqual([session, headers.origin, handshake.transport], [{ guest: true }, foreignOfNone, "polling"]);
  },

  async foreign_page_by_polling_where_credentials_may_not(pages) {
    pages.meant = /blocked by CORS policy.*credentials|Failed to load resource: net::ERR_FAILED/;
    const page = await pages.open({ at: foreign, attributes: { "data-autoConnect": "false" } });
    assert.deepEqual(await page.evaluate(connectError, [site, ["polling"]]), ["xhr poll error", false]);
  },

  async refused_page_gets_no_script(pages) {
    pages.meant = ours ? /status of 404|ERR_BLOCKED_BY_ORB|WebSocket connection to '.*' failed/ : /status of 404|ERR_BLOCKED_BY_ORB/;
    const page = await pages.open({
      ...withUrl(refused, site),
      configure: (settings) => {
        Object.assign(io.sails, settings);
        io.socket.on("connect_error", () => (window.failed = "connect_error"));
        document.addEventListener("error", ({ target }) => (window.failed = target.src), true);
      },
    });
    await page.waitForFunction(() => window.failed);
    assert.equal(await page.evaluate(() => io.socket.isConnected()), false);
    if (ours) {
      assert.deepEqual(pages.cookieScripts(), [[`${site}/__getcookie`, 404]]);
      assert.equal(await page.evaluate(() => window.failed), "connect_error"); // it tries, and the page hears of it
    } else {
      assert.equal(await page.evaluate(() => window.failed), `${site}/__getcookie`);
      assert.deepEqual(pages.sockets, []);
    }
  },

  async refused_page_cannot_connect(pages) {
    pages.meant = /WebSocket connection to 'ws:\/\/localhost:\d+\/socket\.io\/.*' failed/;
    const page = await pages.open({ at: refused, attributes: { "data-autoConnect": "false" } });
    assert.deepEqual(await page.evaluate(connectError, [site, ["websocket"]]), ["websocket error", false]);
    assert.match(pages.lines.join("\n"), /The socket was unable to connect\./);
    assert.equal(pages.sockets.length, 1);
  },

  async refused_page_cannot_connect_by_polling(pages) {
    pages.meant = /blocked by CORS policy|Failed to load resource: net::ERR_FAILED/;
    const page = await pages.open({ at: refusedOfNone, attributes: { "data-autoConnect": "false" } });
    assert.deepEqual(await page.evaluate(connectError, [noneSite, ["polling"]]), ["xhr poll error", false]);
  },
};

// What sails.io.js has not, or does otherwise.
const additions = {
  async made_on_first_use(pages) {
    const page = await pages.open();
    const idle = () => page.evaluate(() => new Promise((resolve) => setTimeout(resolve, 50)));
    await idle();
    await page.evaluate(() => [typeof io.socket, String(Object.prototype.toString.call(io.socket)), io.sails.url]);
    await idle();
    assert.deepEqual([pages.sockets, pages.fetches], [[], []]);
    const seen = await page.evaluate(async () => {
      const soon = io.socket.mightBeAboutToAutoConnect();
      io.socket.query = "early=enough"; // still in the turn of the first use
      const before = io.socket._raw;
      await ready(io.socket);
      return [soon, before, io.socket === io.socket.on("x", () => {})];
    });
    assert.deepEqual(seen, [true, undefined, true]);
    assert.equal((await mirror(page)).handshake.early, "enough");
    assert.equal(pages.sockets.length, 1);
  },

  async promises(pages) {
    const page = await pages.open();
    const seen = await page.evaluate(async () => {
      const early = io.socket.get("/mirror", { a: 1 }); // waits for the connection
      const { body, statusCode, headers, ok } = await early;
      const missing = await io.socket.get("/no/such/route");
      const posted = await io.socket.post("/notes", { text: "promised" });
      const read = await io.socket.request({ url: "/mirror" });
      const lost = io.socket.get("/never");
      io.socket.patch("/never"); // nobody looks at this one
      await io.socket.get("/mirror");
      io.socket.disconnect();
      const error = await lost.catch((reason) => reason.message);
      const first = [body.query, statusCode, headers["content-type"], ok];
      return [first, [missing.statusCode, missing.ok, !!missing.error], posted.statusCode, read.body.method, error];
    });
    assert.deepEqual(seen, [
      [{ a: "1" }, 200, "application/json", true],
      [404, false, true],
      201,
      "GET",
      "The socket disconnected before the request completed.",
    ]);
  },

  async timeout_and_signal(pages) {
    const page = await pages.connected();
    const seen = await page.evaluate(async () => {
      const told = [];
      const told_of = (body, jwr) => told.push([body.name, body.message, jwr.statusCode, jwr.error === body]);
      const late = await io.socket.get("/never", null, { timeout: 30 }, told_of).catch((error) => error.message);
      const controller = new AbortController();
      const given = io.socket.request({ url: "/never", signal: controller.signal }, told_of).catch((error) => error.name);
      controller.abort();
      const before = await io.socket.request({ url: "/never", signal: controller.signal }, told_of).catch((error) => error.name);
      const inTime = await io.socket.get("/mirror", {}, { timeout: 5000, signal: new AbortController().signal });
      io.socket.disconnect();
      const offline = await io.socket.get("/mirror", {}, { timeout: 30 }).catch((error) => error.message);
      return [late, await given, before, inTime.statusCode, offline, told];
    });
    const late = "The socket request got no answer within 30 ms.";
    assert.deepEqual(seen.slice(0, 5), [late, "AbortError", "AbortError", 200, late]);
    assert.deepEqual(seen[5][0], ["Error", late, 0, true]);
    assert.deepEqual(seen[5].slice(1).map(([name, , status]) => [name, status]), [["AbortError", 0], ["AbortError", 0]]);
  },

  async headers_as_functions(pages) {
    const page = await pages.connected();
    const seen = await page.evaluate(async () => {
      let token = 0;
      io.socket.headers = () => ({ authorization: `Bearer ${++token}`, "x-socket": "1" });
      const own = { "x-own": () => "own", "x-socket": undefined };
      const answers = [await io.socket.get("/mirror"), await io.socket.get("/mirror", {}, { headers: own })];
      io.socket.disconnect();
      const waiting = io.socket.get("/mirror"); // asked for when it is sent
      token = 10;
      io.socket.reconnect();
      answers.push(await waiting);
      return [Object.keys(own), ...answers.map(({ body: { headers } }) => [headers.authorization, headers["x-socket"], headers["x-own"]])];
    });
    const [first, second, third] = [["Bearer 1", "1", undefined], ["Bearer 2", undefined, "own"], ["Bearer 11", "1", undefined]];
    assert.deepEqual(seen, [["x-own", "x-socket"], first, second, third]);
  },

  async fetch(pages) {
    pages.meant = /status of 404/;
    const page = await pages.connected();
    const [http, socket] = await page.evaluate(async () => {
      const use = async (fetch) => {
        const headers = { "Content-Type": "application/json", "X-Own": "1" };
        const json = { method: "POST", body: JSON.stringify({ a: ["é", null] }), headers };
        const mirrored = await (await fetch("/mirror?b=1", json)).json();
        const created = await fetch("/notes", { ...json, body: '{"text":"fetched"}' });
        const form = await (await fetch("/bytes", { method: "POST", body: new URLSearchParams({ word: "a b" }) })).json();
        const image = new Blob([new Uint8Array([1, 2, 255])], { type: "image/png" });
        const bytes = await (await fetch("/bytes", { method: "POST", body: image })).json();
        const multipart = new FormData();
        multipart.append("name", "value");
        const parts = await (await fetch("/bytes", { method: "POST", body: multipart })).json();
        const binary = await fetch("/bytes");
        const text = await fetch("/text");
        const nothing = await fetch("/nothing");
        const missing = await fetch(new URL("/no/such/route", location));
        const moved = await fetch(new Request("/elsewhere"));
        const kept = await fetch("/elsewhere", { redirect: "manual" });
        const aborted = await fetch("/never", { signal: AbortSignal.timeout(30) }).catch(({ name }) => name);
        return {
          mirrored: [mirrored.method, mirrored.query, mirrored.body, mirrored.headers["x-own"]],
          created: [created.status, created.headers.get("X-Note"), (await created.json()).text],
          form: [form.type, form.bytes],
          bytes,
          parts: [parts.type.split(";")[0], parts.bytes.length > 50],
          binary: [...new Uint8Array(await binary.arrayBuffer())],
          text: [text.ok, await text.text()],
          nothing: [nothing.status, await nothing.text()],
          missing: [missing.status, missing.ok, await missing.json()],
          moved: [moved.status, (await moved.json()).method],
          kept: kept.type === "opaqueredirect" ? 302 : kept.status,
          aborted,
        };
      };
      const [http, socket] = await Promise.all([use(fetch), use((...args) => io.socket.fetch(...args))]);
      const elsewhere = await io.socket.fetch("http://elsewhere.example/").catch((error) => error.constructor === TypeError);
      const lost = io.socket.fetch("/never").catch((error) => error.constructor === TypeError);
      await io.socket.fetch("/text");
      io.socket.disconnect();
      return [http, { ...socket, elsewhere, lost: await lost }];
    });
    assert.deepEqual(socket, { ...http, elsewhere: true, lost: true });
    assert.deepEqual([http.missing[0], http.created[0], http.aborted], [404, 201, "TimeoutError"]);
  },

  async what_is_removed_stays_removed(pages) {
    const page = await pages.connected({ configure: () => io.socket.on("note", () => (window.heard = true)) });
    const heard = await page.evaluate(async () => {
      io.socket.removeAllListeners();
      io.socket.disconnect().reconnect();
      await io.socket.get("/notes");
      await io.socket.post("/notes", { text: "unheard" });
      return window.heard;
    });
    assert.equal(heard, undefined);
  },

  async query_of_the_url(pages) {
    const page = await pages.open({ attributes: { "data-autoConnect": "false" } });
    const answer = await page.evaluate(async (url) => send(io.sails.connect(`${url}/?room=a%20b`, { query: { token: "t" } }), "get", "/mirror"), site);
    const { handshake } = answer.body;
    assert.deepEqual([handshake.room, handshake.token, handshake.__sails_io_sdk_version], ["a b", "t", "1.2.1"]);
  },

  async plain_events_of_io_socket(pages) {
    const page = await pages.open();
    const seen = await page.evaluate(async () => {
      const early = new Promise((resolve) => io.socket.emit("plain", 1, (...args) => resolve(args)));
      return [await early, await new Promise((resolve) => io.socket.emit("plain", (...args) => resolve(args)))];
    });
    assert.deepEqual(seen, [["plain", 1], ["plain"]]);
  },

  async io_socket_of_ones_own(pages) {
    const page = await pages.open({ attributes: { "data-autoConnect": "false" } });
    await page.waitForFunction(() => io.socket === undefined);
    const seen = await page.evaluate(async () => {
      io.socket = io.sails.connect();
      return [(await io.socket.get("/mirror")).statusCode, io.socket.isConnected()];
    });
    assert.deepEqual(seen, [200, true]);
  },
};

const cases = { ...scriptTag, ...settings, ...requests, ...events, ...connections, ...sessions, ...origins, ...(ours && additions) };

async function outcome(browser, name) {
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`not done after ${TIMEOUT} ms`)), TIMEOUT)));
  const pages = new Pages(await browser.newContext());
  try {
    await Promise.race([cases[name](pages), late]);
    if (pages.errors.length) throw new Error(pages.errors.join("\n"));
    return { case: name, ok: true, detail: "" };
  } catch (error) {
    return { case: name, ok: false, detail: [error?.stack ?? error, ...pages.errors].join("\n") };
  } finally {
    clearTimeout(timer);
    await pages.context.close();
  }
}

const browser = await launch();
let allOk = true;
try {
  for (const name of Object.keys(cases)) {
    const result = await outcome(browser, name);
    allOk &&= result.ok;
    console.log(JSON.stringify(result));
  }
} finally {
  await browser.close();
}
process.exit(allOk ? 0 : 1);
