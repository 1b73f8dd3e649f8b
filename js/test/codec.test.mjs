// Socket.IO packets by the vectors, in both directions.

import assert from "node:assert/strict";
import { test } from "node:test";

import { load, vectors } from "./modules.mjs";

const { Decoder, Encoder } = await load("codec");
const { both, decode } = vectors("packets.json");
const TYPES = ["CONNECT", "DISCONNECT", "EVENT", "ACK", "CONNECT_ERROR"];

function packetOf({ type, nsp = "/", id, data }) {
  return { type: TYPES.indexOf(type), nsp, id, data };
}

function decodeAll(messages) {
  const decoder = new Decoder();
  const packets = [];
  decoder.on("decoded", (packet) => packets.push(packet));
  for (const message of messages) decoder.add(message);
  return packets;
}

const bytes = (text) => Buffer.from(text, "base64");

for (const { name, packet, text, attachments = [] } of both) {
  test(`encodes ${name}`, () => {
    assert.deepEqual(new Encoder().encode(packetOf(packet)), [text, ...attachments.map(bytes)]);
  });
}

for (const { name, packet, text, attachments = [] } of [...both, ...decode]) {
  test(`decodes ${name}`, () => assert.deepEqual(decodeAll([text, ...attachments.map(bytes)]), [packetOf(packet)]));
}

for (const { name, messages } of vectors("malformed.json").packets) {
  test(`refuses ${name}`, () => {
    const decoder = new Decoder();
    for (const message of messages.slice(0, -1)) decoder.add(message);
    assert.throws(() => decoder.add(messages.at(-1)), Error);
  });
}

test("a half-received packet can be forgotten", () => {
  const decoder = new Decoder();
  decoder.add('51-["a",{"_placeholder":true,"num":0}]');
  decoder.destroy();
  const packets = [];
  decoder.on("decoded", ({ data }) => packets.push(data));
  decoder.add('2["b"]');
  assert.deepEqual(packets, [["b"]]);
});

test("all kinds of bytes become attachments, and toJSON is obeyed elsewhere", () => {
  const view = new Uint8Array([0, 1, 2, 3]).subarray(1, 3);
  const blob = new Blob(["x"]);
  const { buffer } = new Uint8Array([9]);
  const data = ["e", view, { blob }, [buffer], new DataView(buffer), new Date(0), { toJSON: () => ({ view }) }];
  const messages = new Encoder().encode({ type: 2, nsp: "/", data });
  const at = (num) => ({ _placeholder: true, num });
  assert.equal(messages[0], `55-${JSON.stringify(["e", at(0), { blob: at(1) }, [at(2)], at(3), new Date(0), { view: at(4) }])}`);
  assert.deepEqual(messages.slice(1), [view, blob, buffer, data[4], view]);
});

test("what JSON cannot write goes as JavaScript writes it", () => {
  const [text] = new Encoder().encode({ type: 2, nsp: "/", data: ["e", undefined, NaN, Infinity, { gone: undefined }, () => {}] });
  assert.equal(text, '2["e",null,null,null,{},null]');
});

const json = vectors("json.json");
for (const { value, text } of [...json.both, ...json.encode]) {
  test(`writes ${text}`, () => assert.equal(new Encoder().encode({ type: 2, nsp: "/", data: ["e", value] })[0], `2["e",${text}]`));
}
for (const { value, text } of [...json.both, ...json.decode]) {
  test(`reads ${text}`, () => assert.deepEqual(decodeAll([`2["e",${text}]`])[0].data[1], value));
}
for (const { text, string } of json.numbers) {
  test(`makes ${string} of ${text}`, () => assert.equal(String(decodeAll([`2["e",${text}]`])[0].data[1]), string));
}
for (const text of json.refused) {
  // nothing, and a space, are an argument that is missing
  test(`refuses the JSON ${text}`, () => assert.throws(() => decodeAll([`2["e",${text}]`])));
}
