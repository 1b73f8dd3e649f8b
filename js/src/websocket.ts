// Packets over a WebSocket.

import { isNode } from "./binary.js";
import type { Message } from "./codec.js";
import type { Engine } from "./engine.js";
import { decodePacket, encodePacket, encodeText, type EnginePacket } from "./payload.js";
import { type Transport, transportError } from "./transport.js";

export class WebSocketTransport implements Transport {
  declare readonly name: string;
  writable = false;
  _handle: Transport["_handle"] = () => {};
  private _socket?: WebSocket;

  constructor(
    private _engine: Engine,
    private _options: Record<string, any>,
  ) {}

  open(): void {
    const { protocols, extraHeaders } = this._options;
    // a browser's WebSocket sends no headers of ours; that of Node.js takes them in the place of the protocols
    const more = isNode && extraHeaders ? { protocols, headers: extraHeaders } : protocols;
    const url = this._engine._url(this.name, this._options);
    const fail = (reason: unknown) => this._handle("error", transportError("websocket error", reason));
    let socket: WebSocket;
    try {
      socket = this._socket = more ? new WebSocket(url, more) : new WebSocket(url);
    } catch (error) {
      return queueMicrotask(() => fail(error));
    }
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.writable = true;
      this._handle("open");
    };
    socket.onmessage = ({ data }) => {
      let packet;
      try {
        packet = decodePacket(data);
      } catch (error) {
        return fail(error);
      }
      this._handle("packet", packet);
    };
    socket.onclose = (context) => this._handle("close", { description: "websocket connection closed", context });
    socket.onerror = fail;
  }

  send(packets: EnginePacket[]): void {
    this.writable = false;
    if (this._options.forceBase64) Promise.all(packets.map(encodeText)).then((texts) => this._write(texts));
    else this._write(packets.map(encodePacket));
  }

  close(): void {
    const socket = this._socket;
    // closing one that still connects would be an error in the browser's console
    if (socket?.readyState === 0) socket.onopen = () => socket.close();
    else socket?.close();
  }

  private _write(messages: Message[]): void {
    for (const message of messages) this._socket!.send(message as string | ArrayBuffer);
    // not in this turn, so that `volatile` drops what follows another packet at once
    queueMicrotask(() => {
      this.writable = true;
      this._handle("drain");
    });
  }
}

(WebSocketTransport.prototype as { name: string }).name = "websocket";
