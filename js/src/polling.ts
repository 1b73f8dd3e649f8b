// Packets over HTTP: a GET waits for what comes, a POST brings what goes.

import type { Engine } from "./engine.js";
import { decodePayload, encodePayload, type EnginePacket } from "./payload.js";
import { later } from "./timers.js";
import { type Transport, transportError } from "./transport.js";

const POST_ERROR = "xhr post error";

/** How long a closed connection waits, in milliseconds, for the answers to its last requests. */
const LAST_ANSWERS = 3000;

export class PollingTransport implements Transport {
  declare readonly name: string;
  writable = false;
  _handle: Transport["_handle"] = () => {};
  private _abort = new AbortController();
  private _state?: "open" | "paused" | "closed";
  private _poll?: Promise<void>;
  private _polling = false;
  private _post?: Promise<void>;

  constructor(
    private _engine: Engine,
    private _options: Record<string, any>,
  ) {}

  open(): void {
    this._polling = true;
    const text = this._fetch("xhr poll error");
    const packets = text.then((text) => (text === undefined ? [] : decodePayload(text)));
    const taken = packets.then((packets) => {
      for (const packet of packets) {
        if (this._state === "closed") {
          // the session began only now, and would last
          if (packet.type === "open") this._leave(JSON.parse(packet.data as string).sid);
          return;
        }
        if (!this._state) {
          this._state = "open";
          this.writable = true;
        }
        if (packet.type === "close") {
          this._state = "closed";
          return this._handle("close", { description: "transport closed by the server" });
        }
        this._handle("packet", packet);
      }
      return packets.length;
    }, this._fail("parse error"));
    // after the listeners of what came, as one may close it
    this._poll = taken.then((more) => {
      this._polling = false;
      if (this._state === "open" && more) this.open();
    });
  }

  send(packets: EnginePacket[]): void {
    this.writable = false;
    const answer = encodePayload(packets).then((body) => this._fetch(POST_ERROR, body), this._fail(POST_ERROR));
    this._post = answer.then((answer) => {
      if (answer === undefined) return;
      this.writable = true;
      this._handle("drain");
    });
  }

  pause(): Promise<unknown> {
    this._state = "paused";
    return Promise.all([this._poll, this._post]);
  }

  resume(): void {
    this._state = "open";
    if (!this._polling) this.open();
  }

  close(): void {
    const { _state } = this;
    this._state = "closed";
    if (_state && _state !== "closed") this._leave(this._engine.id);
    later(LAST_ANSWERS, () => this._abort.abort(), true);
  }

  /** Tell the server that a session ends. */
  private _leave(sid: string | undefined): void {
    this._fetch(POST_ERROR, "1", sid);
  }

  /** Make a request and give its answer; undefined when there is none, which `_handle` was told with the message. */
  private async _fetch(message: string, body?: string, sid = this._engine.id): Promise<string | undefined> {
    const { extraHeaders, withCredentials, requestTimeout } = this._options;
    const abort = () => this._abort.abort();
    const timer = requestTimeout && setTimeout(abort, requestTimeout);
    let reason: unknown, context: unknown;
    try {
      const response = await fetch(this._engine._url(this.name, this._options, sid), {
        method: body === undefined ? "GET" : "POST",
        body,
        // a type that needs no leave of another origin
        headers: { ...(body !== undefined && { "content-type": "text/plain;charset=UTF-8" }), ...extraHeaders },
        credentials: withCredentials ? "include" : "same-origin",
        cache: "no-store",
        keepalive: this._state === "closed", // the page may be going
        signal: this._abort.signal,
      });
      if (response.ok) return await response.text();
      reason = response.status;
      context = response;
    } catch (error) {
      reason = error;
    } finally {
      clearTimeout(timer);
    }
    this._fail(message)(reason, context);
  }

  private _fail(message: string) {
    return (reason: unknown, context?: unknown) => this._handle("error", transportError(message, reason, context));
  }
}

(PollingTransport.prototype as { name: string }).name = "polling";
