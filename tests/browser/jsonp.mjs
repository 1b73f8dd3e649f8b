// socket.io-client 2.5 by JSONP alone (forceJSONP), as JSON lines {case, ok, detail}.
// Usage: node jsonp.mjs PORT. The page comes from localhost, or, for other origins, from 127.0.0.1 (allowed) and elsewhere.localhost (not allowed).

import assert from "node:assert/strict";

import { launch } from "./browser.mjs";

const [port] = process.argv.slice(2);
const site = `http://localhost:${port}`;
const options = { transports: ["polling"], forceJSONP: true, upgrade: false, reconnection: false, forceNew: true };

/** Open a page, connect from it to the site, and give both with what was loaded as a script. */
async function connect(context, at, settings = {}) {
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  const seen = [];
  page.on("response", (response) => seen.push([response.request().resourceType(), response.request().method(), response.status(), response.headers()]));
  await page.goto(`${at}/page`);
  await page.evaluate(
    ([url, given]) => {
      window.socket = io(url, given);
      window.outcome = new Promise((resolve) => {
        socket.on("connect", () => resolve("connect"));
        socket.on("connect_error", () => resolve("connect_error"));
      });
    },
    [site, { ...options, ...settings }],
  );
  return { page, seen, outcome: await page.evaluate(() => window.outcome) };
}

const echoed = (page, ...args) =>
  page.evaluate((given) => new Promise((resolve) => socket.emit("echo", ...given, (...back) => resolve(back))), args);

async function talk(context, at) {
  const { page, seen, outcome } = await connect(context, at);
  assert.equal(outcome, "connect");
  const hard = ["line\nfeed", "carriage\r\nreturn", "back\\slash \\n", "\u2028\u2029", "</script><!-- ]]>", "café 🍰", "&=+%20;", "\"'`", "\t\u0000"];
  assert.deepEqual(await echoed(page, ...hard), hard);
  const long = "é".repeat(20_000);
  assert.deepEqual(await echoed(page, long), [long]);
  const bytes = await page.evaluate(
    () => new Promise((resolve) => socket.emit("echo", new Uint8Array([0, 1, 128, 255]).buffer, (back) => resolve([...new Uint8Array(back)]))),
  );
  assert.deepEqual(bytes, [0, 1, 128, 255]);
  const heard = page.evaluate(() => new Promise((resolve) => socket.on("shouted", resolve)));
  await page.evaluate(() => socket.emit("shout", "to all"));
  assert.equal(await heard, "to all");
  const engine = seen.filter(([, , , headers]) => /javascript/.test(headers["content-type"]) && headers["cache-control"] === "no-store");
  assert.ok(engine.length > 3, "it polled by script tags");
  assert.ok(engine.some(([, , , headers]) => headers["content-encoding"] === "gzip"), "the long one was compressed");
  assert.ok(seen.some(([, method]) => method === "POST"), "it posted forms");
  assert.ok(!seen.some(([kind]) => kind === "xhr" || kind === "fetch" || kind === "websocket"));
  await page.evaluate(() => socket.close());
}

const cases = {
  own_page: (context) => talk(context, site),
  allowed_page: (context) => talk(context, `http://127.0.0.1:${port}`),

  async refused_page(context) {
    const { outcome, seen } = await connect(context, `http://elsewhere.localhost:${port}`, { timeout: 500 });
    assert.equal(outcome, "connect_error"); // a script that does not come is known by its time only
    assert.ok(!seen.some(([, , , headers]) => headers["cache-control"] === "no-store"));
  },

  async client_is_cached(context) {
    const page = await context.newPage();
    const statuses = [];
    page.on("response", (response) => response.url().endsWith("/socket.io.js") && statuses.push([response.status(), response.headers()]));
    await page.goto(`${site}/page`);
    const [[status, headers]] = statuses;
    assert.equal(status, 200);
    assert.equal(headers["content-encoding"], "gzip");
    const again = await page.evaluate(async (tag) => (await fetch("/socket.io/socket.io.js", { headers: { "if-none-match": tag }, cache: "no-store" })).status, headers.etag);
    assert.equal(again, 304);
  },
};

const browser = await launch();
try {
  for (const [name, run] of Object.entries(cases)) {
    const context = await browser.newContext();
    let detail = "";
    try {
      await run(context);
    } catch (error) {
      detail = String(error.stack ?? error);
    }
    console.log(JSON.stringify({ case: name, ok: !detail, detail }));
    await context.close();
  }
} finally {
  await browser.close();
}
