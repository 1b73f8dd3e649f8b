// socket.io-client 4 over a connection that is cut, as JSON lines {case, ok, detail}.
// Usage: node recovery.mjs URL polling|websocket|upgrade CASE...

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import net from "node:net";

const [url, way, ...wanted] = process.argv.slice(2);
delete globalThis.WebSocket;
const require = createRequire(import.meta.url);
const { io, Manager } = require("socket.io-client-4");
const TIMEOUT = 10_000;
const control = io(`${url}/control`, { transports: ["websocket"] });
let rooms = 0;

function once(emitter, event) {
  return new Promise((resolve) => emitter.once(event, (...args) => resolve(args)));
}

const tell = (event, ...args) => control.timeout(TIMEOUT).emitWithAck(event, ...args);

async function until(condition) {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 2));
}

const say = (socket, room, ...args) => tell("say", socket.nsp, [room], [], args);

// What stands between client and server: it can be cut, and let nobody through.
class Line {
  static async open() {
    const line = new Line();
    const { hostname, port } = new URL(url);
    line.pairs = new Set();
    line.down = false;
    line.server = net.createServer((client) => {
      if (line.down) return client.destroy();
      const server = net.connect(Number(port), hostname);
      const pair = [client, server];
      line.pairs.add(pair);
      client.pipe(server);
      server.pipe(client);
      for (const end of pair) {
        end.on("error", () => {});
        end.on("close", () => {
          if (!line.silent.has(end)) pair.forEach((each) => each.destroy());
          line.pairs.delete(pair);
        });
      }
    });
    line.silent = new Set();
    await new Promise((resolve) => line.server.listen(0, "127.0.0.1", resolve));
    line.url = `http://127.0.0.1:${line.server.address().port}`;
    return line;
  }

  // Both ends see that the other is gone.
  cut() {
    this.down = true;
    for (const pair of [...this.pairs]) pair.forEach((end) => end.destroy());
  }

  // Only the client does: the server goes on writing to a connection that nobody reads.
  cutForClient() {
    this.down = true;
    for (const [client, server] of [...this.pairs]) {
      this.silent.add(client);
      client.unpipe(server);
      server.unpipe(client);
      server.resume();
      client.destroy();
    }
  }

  mend() {
    this.down = false;
  }

  close() {
    this.server.close();
    for (const pair of [...this.pairs]) pair.forEach((end) => end.destroy());
  }
}

// A client on a line; `events` is what it got of what was said, without offsets.
class Client {
  static async open(nsp = "/", manager) {
    const client = new Client();
    client.line = manager ? null : await Line.open();
    const transports = way === "upgrade" ? ["polling", "websocket"] : [way];
    const options = { transports, reconnectionDelay: 20, reconnectionDelayMax: 40, randomizationFactor: 0 };
    client.manager = manager ?? new Manager(client.line.url, options);
    client.socket = client.manager.socket(nsp, { auth: { token: "t" } });
    client.events = [];
    client.socket.onAny((name, ...args) => client.events.push([name, ...args]));
    await once(client.socket, "connect");
    await client.upgraded();
    client.id = client.socket.id;
    client.room = `room ${++rooms}`;
    await client.ask("join", client.room);
    return client;
  }

  // While it upgrades, the server has no poll to answer, and drops what is volatile.
  async upgraded() {
    const { engine } = this.manager;
    if (way === "upgrade" && engine.transport.name !== "websocket") await once(engine, "upgrade");
  }

  ask(event, ...args) {
    return this.socket.timeout(TIMEOUT).emitWithAck(event, ...args);
  }

  // Have something said to its room and wait for it.
  async hear(...args) {
    const [name] = args;
    const heard = once(this.socket, name);
    await say(this.socket, this.room, ...args);
    await heard;
  }

  // Cut the connection, do something when the server has seen it, and come back.
  async away(act = async () => {}) {
    await this.lose();
    await act();
    await this.back();
  }

  // Wait until the server could send at once: a polling client's poll is there.
  async isWritable() {
    await until(() => tell("writable", this.socket.nsp, this.id));
  }

  async lose() {
    await this.isWritable(); // a polling client is missed only if its poll was there
    const lost = once(this.socket, "disconnect");
    this.line.cut();
    await lost;
    await until(async () => !(await tell("present", this.socket.nsp, this.id)));
  }

  async back() {
    const connected = once(this.socket, "connect");
    this.line.mend();
    await connected;
    await this.upgraded();
  }

  // What it got, without the offset at the end of each.
  get plain() {
    return this.events.map(([name, ...args]) => [name, ...args.slice(0, -1)]);
  }

  async isRecovered(expected = true) {
    assert.equal(this.socket.recovered, expected, "recovered");
    assert.equal(this.socket.id === this.id, expected, "same id");
    assert.equal((await this.ask("state")).recovered, expected, "recovered on the server");
  }

  close() {
    this.socket.disconnect();
    this.manager.engine.close();
    this.line?.close();
  }
}

const cases = {
  async rooms_data_and_missed_packets(client) {
    await client.ask("join", "other");
    await client.ask("set", { n: 1 });
    await client.hear("first", 1);
    await client.away(async () => {
      await say(client.socket, client.room, "missed", 2);
      await say(client.socket, "elsewhere", "not mine");
      await tell("say", "/", [client.room], ["other"], ["not mine"]);
      await say(client.socket, client.id, "mine", 3);
      await tell("say_volatile", "/", [client.room], ["not mine", 4]);
    });
    await client.isRecovered();
    assert.deepEqual(await client.ask("state"), { recovered: true, rooms: ["other", client.room].sort(), value: { n: 1 } });
    await client.hear("last", 5);
    assert.deepEqual(client.plain, [["first", 1], ["missed", 2], ["mine", 3], ["last", 5]]);
  },

  async binary(client) {
    await client.hear("first", Buffer.from([1]));
    await client.away(() => say(client.socket, client.room, "missed", Buffer.from([2, 3]), { deep: [Buffer.from([4])] }));
    await client.isRecovered();
    assert.deepEqual(client.plain, [["first", Buffer.from([1])], ["missed", Buffer.from([2, 3]), { deep: [Buffer.from([4])] }]]);
  },

  async twice_without_an_event_in_between(client) {
    await client.hear("first");
    await client.away();
    await client.isRecovered();
    await client.away(() => say(client.socket, client.room, "missed"));
    await client.isRecovered();
    assert.deepEqual(client.plain, [["first"], ["missed"]]);
  },

  async again_and_again(client) {
    const expected = [["first", -1]];
    await client.hear("first", -1);
    for (let number = 0; number < 5; number++) {
      await client.away(async () => {
        for (let each = 0; each < 3; each++) await say(client.socket, client.room, "missed", 3 * number + each);
      });
      await client.isRecovered();
      await client.hear("between", number);
      for (let each = 0; each < 3; each++) expected.push(["missed", 3 * number + each]);
      expected.push(["between", number]);
    }
    assert.deepEqual(client.plain, expected);
  },

  async acks_are_not_replayed(client) {
    await client.hear("first");
    const asked = once(client.socket, "asked");
    await tell("ask", "/", client.id);
    await asked;
    await client.away();
    await client.isRecovered();
    assert.deepEqual(client.events.map(([name]) => name), ["first", "asked"]);
  },

  async several_namespaces(client) {
    const chat = await Client.open("/chat", client.manager);
    await client.hear("first");
    await chat.hear("first of chat");
    await client.away(async () => {
      await say(client.socket, client.room, "missed");
      await say(chat.socket, chat.room, "missed of chat");
    });
    if (!chat.socket.connected) await once(chat.socket, "connect");
    await client.isRecovered();
    await chat.isRecovered();
    assert.deepEqual([client.plain, chat.plain], [[["first"], ["missed"]], [["first of chat"], ["missed of chat"]]]);
  },

  async dynamic_namespace() {
    const client = await Client.open("/dynamic-1");
    try {
      await client.hear("first");
      await client.away(() => say(client.socket, client.room, "missed"));
      await client.isRecovered();
      assert.deepEqual(client.plain, [["first"], ["missed"]]);
    } finally {
      client.close();
    }
  },

  async leaving_is_for_good(client) {
    await client.hear("first");
    client.socket.disconnect();
    const connected = once(client.socket, "connect");
    client.socket.connect();
    await connected;
    await client.isRecovered(false);
    assert.deepEqual((await client.ask("state")).rooms, []);
  },

  async without_any_event_before(client) {
    await client.away(() => say(client.socket, client.room, "missed", 1));
    await client.isRecovered();
    assert.deepEqual(client.plain, [["missed", 1]]);
  },

  async volatile_events_leave_the_offset_alone(client) {
    await client.hear("first");
    for (const args of [["v"], ["v", "text"], ["v", 1], ["v", "more", "text"]]) {
      await client.isWritable();
      const heard = once(client.socket, "v");
      await tell("say_volatile", "/", [client.room], args);
      await heard;
      await client.away(() => say(client.socket, client.room, "missed", ...args));
      await client.isRecovered();
    }
    const seen = client.events.map(([name]) => name);
    assert.deepEqual(seen, ["first", ...Array(4).fill(["v", "missed"]).flat()]);
  },

  async back_before_the_server_saw_it_go(client) {
    await client.hear("first");
    const lost = once(client.socket, "disconnect");
    client.line.cutForClient();
    await lost;
    assert.equal(await tell("present", "/", client.id), true);
    await say(client.socket, client.room, "missed", 1);
    await client.back();
    await client.isRecovered();
    await client.hear("last");
    assert.deepEqual(client.plain, [["first"], ["missed", 1], ["last"]]);
    assert.equal(await tell("present", "/", client.id), true);
  },
};

async function run(name) {
  const client = await Client.open();
  try {
    await cases[name](client);
  } finally {
    client.close();
  }
}

async function report(name) {
  const late = new Promise((_, reject) => setTimeout(() => reject(new Error(`not done after ${TIMEOUT} ms`)), TIMEOUT));
  const result = await Promise.race([run(name), late]).then(
    () => ({ case: name, ok: true, detail: "" }),
    (error) => ({ case: name, ok: false, detail: String(error?.stack ?? error) }),
  );
  console.log(JSON.stringify(result));
  return result.ok;
}

await once(control, "connect");
const results = [];
for (const name of wanted) results.push(await report(name));
process.exit(results.every(Boolean) ? 0 : 1);
