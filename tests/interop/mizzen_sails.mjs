// Our own client against a real Sails app, behaviour_sails.cjs, as JSON lines {case, ok, detail}.
// Usage: node mizzen_sails.mjs URL polling|websocket

import assert from "node:assert/strict";

import { needWebSocket } from "./websocket.mjs";

needWebSocket();
const { io } = await import("../../src/mizzen/static/mizzen.mjs");
const [url, way] = process.argv.slice(2);
Object.assign(io.sails, { url, environment: "production", transports: [way] });

const cases = {
  async verbs() {
    const { body, statusCode } = await io.socket.get("/value?a=1", null, { headers: { "x-token": () => "t" } });
    assert.deepEqual([statusCode, body], [200, { query: { a: "1" }, token: "t" }]);
    for (const [verb, status] of [["post", 201], ["put", 200], ["patch", 200], ["delete", 200]]) {
      const answer = await io.socket[verb]("/mirror", { n: [1, null] });
      assert.deepEqual([answer.statusCode, answer.body.method], [status, verb.toUpperCase()]);
      assert.deepEqual(answer.body.body, { n: [1, null] });
    }
  },

  async answers() {
    const missing = await io.socket.get("/missing");
    assert.deepEqual([missing.statusCode, missing.ok, missing.body], [404, false, "Not Found"]);
    const nothing = await io.socket.get("/nothing");
    assert.deepEqual([nothing.statusCode, nothing.body], [204, undefined]);
    assert.deepEqual((await io.socket.get("/bytes")).body, Buffer.from([0, 1, 255]));
  },

  async fetch() {
    const headers = { "content-type": "application/json" };
    const response = await io.socket.fetch("/mirror", { method: "POST", headers, body: '{"a":1}' });
    assert.deepEqual([response.status, await response.json()], [201, { method: "POST", body: { a: 1 } }]);
    assert.equal(await (await io.socket.fetch("/hello")).text(), "hello");
  },

  async connection_that_goes() {
    const lost = io.socket.get("/never");
    await io.socket.get("/hello");
    io.socket.disconnect();
    await assert.rejects(lost, /disconnected before the request completed/);
    const waiting = io.socket.get("/hello");
    io.socket.reconnect();
    assert.equal((await waiting).body, "hello");
  },
};

let allOk = true;
for (const [name, run] of Object.entries(cases)) {
  const late = new Promise((_, reject) => setTimeout(() => reject(new Error("not done in time")), 8000).unref());
  const result = await Promise.race([run(), late]).then(
    () => ({ case: name, ok: true, detail: "" }),
    (error) => ({ case: name, ok: false, detail: String(error?.stack ?? error) }),
  );
  allOk &&= result.ok;
  console.log(JSON.stringify(result));
}
process.exit(allOk ? 0 : 1);
