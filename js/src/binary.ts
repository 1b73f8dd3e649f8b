// What counts as bytes, and base64 for the transports that carry only text.

export type Binary = ArrayBuffer | ArrayBufferView | Blob;

const runtime = globalThis as { process?: { versions?: { node?: string } }; Buffer?: { from(bytes: ArrayBuffer): ArrayBuffer } };

/** Whether this is Node.js, or what says that it is the same. */
export const isNode = !!runtime.process?.versions?.node;

/** Tell whether a value goes as bytes. A value of another realm (a frame's) has another constructor, hence its name. */
export function isBinary(value: unknown): value is Binary {
  return ArrayBuffer.isView(value) || /^\[object (ArrayBuffer|Blob|File)]$/.test(Object.prototype.toString.call(value));
}

/** Give received bytes as what code for this platform expects: a Buffer in Node.js. */
export function received(bytes: ArrayBuffer): ArrayBuffer {
  return isNode ? runtime.Buffer!.from(bytes) : bytes;
}

/** Write bytes as base64. */
export async function toBase64(binary: Binary): Promise<string> {
  const bytes = new Uint8Array(await new Response(binary as BodyInit).arrayBuffer());
  let text = "";
  // as many arguments as every engine takes
  for (let start = 0; start < bytes.length; start += 8192) text += String.fromCharCode(...bytes.subarray(start, start + 8192));
  return btoa(text);
}

/** Read base64; throws when it is none. */
export function fromBase64(text: string): ArrayBuffer {
  // `atob` lets spaces and missing padding pass
  if (text.length % 4 || /\s/.test(text)) throw new Error("invalid base64");
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0)).buffer;
}
