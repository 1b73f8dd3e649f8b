// All client versions over all ways to connect, across one restart of the server, as JSON lines {case, ok, detail}.
// Usage: node reconnection.mjs URL [mizzen], with that our own client only.
// Prints {"ready": true} when the server is to be ended and started again on the same port.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

import { needWebSocket } from "./websocket.mjs";

const [url, ours] = process.argv.slice(2);
if (ours) needWebSocket();
const require = createRequire(import.meta.url);
const TIMEOUT = 30_000;

function once(socket, event) {
  return new Promise((resolve) => socket.once(event, (...args) => resolve(args)));
}

function ask(socket, event, ...args) {
  return new Promise((resolve) => socket.emit(event, ...args, (...reply) => resolve(reply)));
}

async function start(version, way) {
  const transports = way === "upgrade" ? ["polling", "websocket"] : [way];
  const options = { transports, forceNew: true, reconnectionDelay: 50, reconnectionDelayMax: 200, query: { token: "kept" } };
  const io = ours ? (await import("../../src/mizzen/static/mizzen.mjs")).io : require(`socket.io-client-${version}`);
  const main = io(`${url}/`, options);
  const chat = main.io.socket("/chat");
  await Promise.all([once(main, "connect"), once(chat, "connect")]);
  const engine = main.io.engine;
  if (way === "upgrade" && engine.transport.name !== "websocket") await new Promise((resolve) => engine.once("upgrade", resolve));
  const name = `client${version}-${way}`;
  await ask(main, "join", name);
  return { name, main, chat };
}

async function across({ name: room, main, chat }) {
  const before = main.id;
  const [reason] = await once(main, "disconnect");
  assert.match(reason, /^transport (close|error)$/);
  const counted = once(main, "counted");
  main.emit("count", "written while offline");
  await Promise.all([once(main, "connect"), once(chat, "connect")]);
  assert.notEqual(main.id, before);
  assert.deepEqual(await counted, ["written while offline"]);
  assert.deepEqual(await ask(main, "echo_ack", "again", Buffer.from([1])), ["again", Buffer.from([1])]);
  assert.deepEqual(await ask(chat, "where"), ["/chat"]);
  assert.equal((await ask(main, "handshake"))[0].token, "kept");
  const said = [];
  main.on("said", (text) => said.push(text));
  await ask(main, "say", room, "left with the old server");
  await ask(main, "join", room);
  await ask(main, "say", room, "joined again");
  await ask(main, "echo_ack");
  assert.deepEqual(said, ["joined again"]);
}

async function report(client) {
  const late = new Promise((_, reject) => setTimeout(() => reject(new Error(`not done after ${TIMEOUT} ms`)), TIMEOUT));
  const result = await Promise.race([across(client), late]).then(
    () => ({ case: client.name, ok: true, detail: "" }),
    (error) => ({ case: client.name, ok: false, detail: String(error?.stack ?? error) }),
  );
  console.log(JSON.stringify(result));
  return result.ok;
}

setTimeout(() => {
  console.error("the clients did not connect in time");
  process.exit(2);
}, 2 * TIMEOUT);

const clients = await Promise.all((ours ? ["mizzen"] : [2, 3, 4]).flatMap((version) => ["polling", "websocket", "upgrade"].map((way) => start(version, way))));
const results = Promise.all(clients.map(report));
console.log(JSON.stringify({ ready: true }));
process.exit((await results).every(Boolean) ? 0 : 1);
