// The small parts: backoff, emitter, URLs, arguments and answers of requests.

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";

import { load } from "./modules.mjs";

const { backoff, Emitter, parseUrl } = await load("backoff", "emitter", "url");
const { check, fromRequest, JWR, mergeHeaders, toResponse } = await load("requests");

test("delays double up to the greatest, and chance never exceeds it", () => {
  const middles = [0, 1, 2, 3, 4, 40].map((attempt) => backoff(attempt, 1000, 5000, 0, 0.5));
  assert.deepEqual(middles, [1000, 2000, 4000, 5000, 5000, 5000]);
  assert.deepEqual([0, 0.5, 1].map((random) => backoff(0, 1000, 5000, 0.5, random)), [500, 1000, 1500]);
  assert.deepEqual([0, 0.5, 1].map((random) => backoff(9, 1000, 5000, 0.5, random)), [2500, 3750, 5000]);
});

test("clients that lost the same server do not come back at once", () => {
  const delays = new Set(Array.from({ length: 100 }, () => backoff(9, 1000, 5000, 0.5)));
  assert.ok(delays.size > 50, `${delays.size} different delays of 100`);
});

test("listeners are called in order, once if so wished, and removed by what was given", () => {
  const heard = [];
  const emitter = new Emitter();
  const [first, second, third] = ["first", "second", "third"].map((name) => (...args) => heard.push([name, ...args]));
  emitter.on("a", first).once("a", second).addListener("a", third).once("a", first);
  assert.deepEqual(emitter.listeners("a"), [first, second, third, first]);
  emitter.off("a", first);
  emitter.emit("a", 1, 2);
  emitter.emit("a", 3);
  emitter.removeListener("a", third).emit("a", 4);
  assert.deepEqual(heard, [["second", 1, 2], ["third", 1, 2], ["first", 1, 2], ["third", 3]]);
  assert.equal(emitter.hasListeners("a"), false);
});

test("all listeners of an event, or of all events, are removed", () => {
  const emitter = new Emitter();
  emitter.on("a", assert.fail).on("b", assert.fail).off("a").emit("a");
  assert.equal(emitter.hasListeners("b"), true);
  emitter.removeAllListeners().emit("b");
});

test("a listener that removes another lets this call reach it", () => {
  const emitter = new Emitter();
  let heard = 0;
  const second = () => heard++;
  emitter.on("a", () => emitter.off("a", second)).on("a", second);
  emitter.emit("a").emit("a");
  assert.equal(heard, 1);
});

test("a name that all objects have is a name like others", () => {
  const emitter = new Emitter();
  emitter.emit("constructor");
  assert.deepEqual(emitter.listeners("__proto__"), []);
});

afterEach(() => delete globalThis.location);

for (const [url, page, expected] of [
  ["http://a.example", null, { secure: false, host: "a.example", path: "/", query: undefined }],
  ["https://a.example:443/chat?a=b%20c&d=#x", null, { secure: true, host: "a.example", path: "/chat", query: { a: "b c", d: "" } }],
  ["wss://user:pass@a.example:80/é/ü", null, { secure: true, host: "a.example:80", path: "/é/ü", query: undefined }],
  ["ws://[::1]:80", null, { secure: false, host: "[::1]", path: "/", query: undefined }],
  ["a.example:3000/x", null, { secure: true, host: "a.example:3000", path: "/x", query: undefined }],
  ["a.example:3000", "http://page.example", { secure: false, host: "a.example:3000", path: "/", query: undefined }],
  ["//a.example", "https://page.example", { secure: true, host: "a.example", path: "/", query: undefined }],
  ["/chat?a=1", "https://page.example:8443", { secure: true, host: "page.example:8443", path: "/chat", query: { a: "1" } }],
  ["/chat//x", "http://page.example", { secure: false, host: "page.example", path: "/chat//x", query: undefined }],
  [undefined, "https://page.example:8443", { secure: true, host: "page.example:8443", path: "/", query: undefined }],
]) {
  test(`${url} on ${page}`, () => {
    if (page) globalThis.location = new URL(page);
    assert.deepEqual(parseUrl(url), expected);
  });
}

test("arguments of a request that are none are told", () => {
  const problem = (options, callback) => {
    try {
      check(options, callback);
    } catch (error) {
      return error.message.split("\n")[0];
    }
  };
  assert.equal(problem({}), "Invalid or missing URL!");
  assert.equal(problem({ url: 5 }), "Invalid or missing URL!");
  assert.match(problem({ url: "/", method: 5 }), /^Invalid `method`/);
  assert.match(problem({ url: "/", headers: [] }), /^Invalid `headers`/);
  assert.match(problem({ url: "/", params: "x" }), /^Invalid `params`/);
  assert.match(problem({ url: "/", data: "x" }), /^Invalid `data`/);
  assert.match(problem({ url: "/", data: {}, params: {} }), /^Cannot specify both/);
  assert.equal(problem({ url: "/" }, "callback"), "Invalid callback function!");
  assert.equal(problem({ url: "/", method: "get", headers: () => ({}), data: [], params: null }, () => {}), undefined);
});

test("headers may be functions, and those of the request win", () => {
  let asked = 0;
  const socket = () => ({ a: "1", b: () => `b${++asked}`, c: "3" });
  const given = { c: undefined, d: () => 4 };
  assert.deepEqual(mergeHeaders(socket, given), { a: "1", b: "b1", c: undefined, d: 4 });
  assert.deepEqual(mergeHeaders(undefined, { d: "5" }), { d: "5" });
  assert.deepEqual([given.c, typeof given.d, asked], [undefined, "function", 1]);
});

test("an answer of Sails that could not read the request is an error", () => {
  const jwr = new JWR({ code: "SAILS:HOOK:SOCKETS:PARSE_VIRTUAL_REQ", status: 400 });
  assert.deepEqual([jwr.statusCode, jwr.ok, jwr.headers], [400, false, {}]);
  assert.match(jwr.error.message, /^Server responded with a 400 status code:/);
});

test("an answer without a status is one of success", () => {
  const jwr = new JWR({ body: 0 });
  assert.deepEqual([jwr.statusCode, jwr.ok, "error" in jwr, jwr.toPOJO()], [200, true, false, { body: 0, headers: {}, statusCode: 200 }]);
});

async function asked(init, url = "http://a.example/x?y=1#z") {
  const { signal, ...options } = await fromRequest(new Request(url, init));
  assert.equal(signal.aborted, false);
  return options;
}

test("a Request becomes a socket request", async () => {
  assert.deepEqual(await asked(), { method: "GET", url: "/x?y=1", headers: {}, data: undefined });
  const json = { "content-type": "application/json" };
  const post = (body, headers = {}) => asked({ method: "post", body, headers });
  const posted = await post('{"a":[1]}', { ...json, "X-A": "1" });
  assert.deepEqual(posted, { method: "POST", url: "/x?y=1", headers: { ...json, "x-a": "1" }, data: { a: [1] } });
  assert.deepEqual((await post('"text"', json)).data, new TextEncoder().encode('"text"').buffer);
  const form = await post(new URLSearchParams({ a: "b c" }));
  assert.equal(form.headers["content-type"], "application/x-www-form-urlencoded;charset=UTF-8");
  assert.equal(new TextDecoder().decode(form.data), "a=b+c");
  assert.deepEqual((await post(new Uint8Array([1, 2]))).data, new Uint8Array([1, 2]).buffer);
});

test("an answer becomes a Response", async () => {
  const json = { "content-type": "application/json" };
  const response = (body, headers, statusCode = 200) => toResponse(new JWR({ body, headers, statusCode }));
  assert.deepEqual(await response({ a: 1 }, json).json(), { a: 1 });
  assert.equal(await response("text", json).json(), "text");
  assert.equal(await response(null, json).json(), null);
  assert.equal(await response("text", { "content-type": "text/plain" }).text(), "text");
  assert.deepEqual(new Uint8Array(await response(new Uint8Array([1, 2]).buffer, {}).arrayBuffer()), new Uint8Array([1, 2]));
  const missing = response({ detail: "no" }, { ...json, "x-a": "1" }, 404);
  assert.deepEqual([missing.status, missing.ok, missing.headers.get("X-A")], [404, false, "1"]);
  for (const status of [204, 304]) assert.deepEqual([response("", {}, status).status, response("", {}, status).body], [status, null]);
});
