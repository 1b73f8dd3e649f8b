// Engine.IO packets, protocol revision 4, and the body of a polling request, which holds several.

import { type Binary, fromBase64, isBinary, received, toBase64 } from "./binary.js";
import type { Message } from "./codec.js";

export interface EnginePacket {
  type: string;
  data?: Message;
}

const TYPES = ["open", "close", "ping", "pong", "message", "upgrade", "noop"];
const SEPARATOR = "\x1e";

/** Give what a WebSocket sends of a packet. */
export function encodePacket({ type, data }: EnginePacket): Message {
  return isBinary(data) ? data : TYPES.indexOf(type) + (data ?? "");
}

/** Give the same for a connection that carries only text. */
export async function encodeText(packet: EnginePacket): Promise<string> {
  const data = encodePacket(packet);
  return typeof data === "string" ? data : "b" + (await toBase64(data));
}

/** Read a packet; throws when it is none. */
export function decodePacket(data: string | ArrayBuffer): EnginePacket {
  if (typeof data !== "string") return { type: "message", data: received(data) };
  if (data[0] === "b") return { type: "message", data: received(fromBase64(data.slice(1))) };
  const type = TYPES[data[0] as unknown as number];
  if (!type) throw new Error("invalid packet");
  return { type, data: data.slice(1) };
}

/** Write the body of a polling request. */
export async function encodePayload(packets: EnginePacket[]): Promise<string> {
  return (await Promise.all(packets.map(encodeText))).join(SEPARATOR);
}

/** Read the body of the answer to a polling request; throws when it is none. */
export function decodePayload(text: string): EnginePacket[] {
  return text.split(SEPARATOR).map(decodePacket);
}

/** Give how many bytes a packet's data takes in the body of a polling request. */
export function sizeOf(data: Message | undefined): number {
  if (data === undefined) return 0;
  const { size } = new Blob([data as string | Blob]);
  return typeof data === "string" ? size : Math.ceil((size as number) * 1.33);
}

export type { Binary };
