// Socket.IO packets, protocol revision 5, from and to Engine.IO messages.

import { type Binary, isBinary } from "./binary.js";
import { Emitter } from "./emitter.js";

export const protocol = 5;

export const enum PacketType {
  CONNECT,
  DISCONNECT,
  EVENT,
  ACK,
  CONNECT_ERROR,
  BINARY_EVENT,
  BINARY_ACK,
}

export interface Packet {
  type: PacketType;
  nsp: string;
  data?: any;
  id?: number;
  options?: { compress?: boolean };
}

/** What one Engine.IO message holds. */
export type Message = string | Binary;

/** Names that no event may have. */
export const RESERVED = new Set<unknown>(["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"]);

const MAX_ATTACHMENTS = 10;

// type, attachments, namespace, id, JSON
const FORMAT = /^([0-6])(?:(\d+)-)?(?:(\/[^,]*),?)?(\d{1,16})?([^]*)$/;

function holdsBinary(value: any): boolean {
  if (!value || typeof value !== "object") return false;
  if (isBinary(value)) return true;
  if (typeof value.toJSON === "function") return holdsBinary(value.toJSON());
  return Object.values(value).some(holdsBinary);
}

/** Writes packets. */
export class Encoder {
  /** Give the messages of a packet: the text, then its attachments. */
  encode({ type, nsp, data, id }: Packet): Message[] {
    const attachments: Binary[] = [];
    function replace(this: any, key: string, value: unknown) {
      const given = this[key]; // `value` went through toJSON, which Node.js's Buffer has
      return isBinary(given) ? { ["_placeholder"]: true, num: attachments.push(given) - 1 } : value;
    }
    const json = data === undefined ? "" : JSON.stringify(data, holdsBinary(data) ? replace : undefined);
    const count = attachments.length;
    const head = count ? `${type + 3}${count}-` : type;
    return [`${head}${nsp && nsp !== "/" ? nsp + "," : ""}${id ?? ""}${json}`, ...attachments];
  }
}

/** Tell whether a value is an object, but no array. */
export function isDictionary(value: unknown): boolean {
  return !!value && typeof value === "object" && !Array.isArray(value);
}

function isValid(type: PacketType, data: any): boolean {
  if (type === PacketType.DISCONNECT) return data === undefined;
  if (type === PacketType.CONNECT) return data === undefined || isDictionary(data);
  if (type === PacketType.CONNECT_ERROR) return typeof data === "string" || isDictionary(data);
  if (!Array.isArray(data)) return false;
  return type === PacketType.ACK || typeof data[0] === "number" || (typeof data[0] === "string" && !RESERVED.has(data[0]));
}

/** Put the attachments where their placeholders are. */
function fill(value: any, attachments: Binary[]): any {
  if (!value || typeof value !== "object") return value;
  if (value["_placeholder"] === true) {
    if (Number.isInteger(value.num) && value.num in attachments) return attachments[value.num];
    throw new Error("illegal attachments");
  }
  for (const key of Object.keys(value)) value[key] = fill(value[key], attachments);
  return value;
}

/** Reads packets: event `decoded` for each. */
export class Decoder extends Emitter<{}, {}, { decoded: (packet: Packet) => void }> {
  private _packet?: Packet;
  private _missing = 0;
  private _attachments: Binary[] = [];

  /** Take one message; throws when it breaks the protocol. */
  add(message: Message): void {
    if ((typeof message === "string") === this._missing > 0) throw new Error("invalid packet");
    if (typeof message === "string") this._read(message);
    else {
      this._attachments.push(message);
      this._missing--;
    }
    if (this._missing) return;
    const packet = this._packet!;
    if (this._attachments.length) packet.data = fill(packet.data, this._attachments);
    this.destroy();
    this._fire("decoded", packet);
  }

  /** Forget a packet whose attachments have not come. */
  destroy(): void {
    this._packet = undefined;
    this._missing = 0;
    this._attachments = [];
  }

  private _read(text: string): void {
    const [, digit, count, nsp = "/", id, json] = FORMAT.exec(text) || [];
    const binary = +digit > 4;
    const type = binary ? +digit - 3 : +digit;
    const data = json ? JSON.parse(json) : undefined;
    if (
      !digit ||
      binary !== !!count ||
      (count && !(+count > 0 && +count <= MAX_ATTACHMENTS)) ||
      (id && BigInt(id) > 2 ** 53) || // beyond, two ids would be the same number
      !isValid(type, data)
    ) {
      throw new Error("invalid packet");
    }
    this._packet = { type, nsp, data, id: id ? +id : undefined };
    this._missing = +(count || 0);
  }
}
