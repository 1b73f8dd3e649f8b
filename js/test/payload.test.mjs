// Engine.IO packets and polling payloads by the vectors, in both directions.

import assert from "node:assert/strict";
import { test } from "node:test";

import { load, vectors } from "./modules.mjs";

const { decodePayload, encodePayload, sizeOf } = await load("payload");
const { both } = vectors("payloads.json");
const TYPES = ["open", "close", "ping", "pong", "message", "upgrade", "noop"];

function packetOf(unit) {
  return typeof unit === "string" ? { type: TYPES[unit[0]], data: unit.slice(1) } : { type: "message", data: unit };
}

for (const { name, packets, eio4 } of both) {
  test(`encodes ${name}`, async () => assert.equal(await encodePayload(packets.map(packetOf)), eio4));
  test(`decodes ${name}`, () => assert.deepEqual(decodePayload(eio4), packets.map(packetOf)));
}

// what is no UTF-8 is for fetch() to replace, and other revisions are not spoken
for (const { name, body } of vectors("malformed.json").payloads.filter(({ eio, body }) => eio === 4 && body !== undefined)) {
  test(`refuses ${name}`, () => assert.throws(() => decodePayload(body), Error));
}

test("any kind of bytes goes as base64", async () => {
  const view = new Uint8Array([0, 1, 2, 3]).subarray(1, 3);
  const packets = [view, view.buffer, new Blob([view]), new DataView(view.buffer, 2)].map((data) => ({ type: "message", data }));
  assert.equal(await encodePayload(packets), ["bAQI=", "bAAECAw==", "bAQI=", "bAgM="].join("\x1e"));
});

test("a large attachment survives", async () => {
  const data = new Uint8Array(300_000).map((_, index) => index % 251);
  const [packet] = decodePayload(await encodePayload([{ type: "message", data }]));
  assert.deepEqual(new Uint8Array(packet.data), data);
});

test("the size is that in bytes, of base64 where it is one", () => {
  assert.deepEqual([sizeOf(undefined), sizeOf("é€😀"), sizeOf(new Uint8Array(3)), sizeOf(new Blob(["abc"]))], [0, 9, 4, 4]);
});
