// One Engine.IO connection: its transport, the upgrade to a better one, and the heartbeat.

import type { Message } from "./codec.js";
import { Emitter } from "./emitter.js";
import { type EnginePacket, sizeOf } from "./payload.js";
import { PollingTransport } from "./polling.js";
import { later } from "./timers.js";
import type { CloseDetails, Transport, TransportClass, TransportEvent } from "./transport.js";
import { parseQuery, parseUrl } from "./url.js";
import { WebSocketTransport } from "./websocket.js";

export interface EngineOptions {
  /** The path that the server listens on; "/socket.io" unless told. */
  path?: string;
  /** Whether the path ends with a slash; true unless told. */
  addTrailingSlash?: boolean;
  /** The transports that are tried, the first one first: "polling" and "websocket" unless told. */
  transports?: ("polling" | "websocket" | "webtransport" | TransportClass)[] | string[];
  /** Options by the name of a transport, which win over the others. */
  transportOptions?: Record<string, Record<string, any>>;
  /** Whether to go on to a better transport; true unless told. */
  upgrade?: boolean;
  /** Whether to begin with a WebSocket if the last one succeeded; false unless told. */
  rememberUpgrade?: boolean;
  /** Whether to try the next transport when the first does not connect; false unless told. */
  tryAllTransports?: boolean;
  /** Sent with every request. */
  query?: string | Record<string, any>;
  /** Sent with every request of polling; with the WebSocket handshake only in Node.js. */
  extraHeaders?: Record<string, string>;
  /** Whether requests to another origin bring cookies; false unless told. */
  withCredentials?: boolean;
  /** Whether bytes go as base64; false unless told. */
  forceBase64?: boolean;
  /** Whether requests have a time stamp in their query; unless told, those of polling do. */
  timestampRequests?: boolean;
  /** The name of that parameter; "t" unless told. */
  timestampParam?: string;
  /** How long a polling request may last, in milliseconds; unless told, for ever. */
  requestTimeout?: number;
  /** WebSocket subprotocols. */
  protocols?: string | string[];
  /** Whether to close silently when the page is about to go; false unless told. */
  closeOnBeforeunload?: boolean;
  /** Whether timers let Node.js end; false unless told. */
  autoUnref?: boolean;
  /** Not needed here; accepted for code that has it. */
  useNativeTimers?: boolean;
  /** What only Node.js could use is accepted, and without effect. */
  agent?: any;
  pfx?: any;
  key?: any;
  passphrase?: string;
  cert?: any;
  ca?: any;
  ciphers?: string;
  rejectUnauthorized?: boolean;
  localAddress?: string;
  perMessageDeflate?: any;
}

const TRANSPORTS: Record<string, TransportClass> = { polling: PollingTransport, websocket: WebSocketTransport };
const PAGE_EVENTS = ["offline", "beforeunload", "pagehide", "pageshow", "visibilitychange", "resume"];
const LOOPBACK = /^(localhost|127\.[\d.]+|\[::1])(:|$)/;

let count = 0;

/** Whether the last connection could use a WebSocket. */
let webSocketWorks = false;

export interface EngineEvents {
  open: () => void;
  handshake: (data: Record<string, any>) => void;
  packet: (packet: EnginePacket) => void;
  packetCreate: (packet: EnginePacket) => void;
  data: (data: Message) => void;
  message: (data: Message) => void;
  drain: () => void;
  flush: () => void;
  ping: () => void;
  pong: () => void;
  error: (error: Error) => void;
  upgrading: (transport: Transport) => void;
  upgrade: (transport: Transport) => void;
  upgradeError: (error: Error) => void;
  close: (reason: string, description?: CloseDetails | Error) => void;
}

export class Engine extends Emitter<{}, {}, EngineEvents> {
  id?: string;
  readyState: "opening" | "open" | "closing" | "closed" = "opening";
  /** Whether it is about to change its transport: nothing is written meanwhile. */
  upgrading = false;
  writeBuffer: EnginePacket[] = [];
  transport!: Transport;
  readonly secure: boolean;
  readonly opts: EngineOptions;

  private _host: string;
  private _transports: TransportClass[];
  private _sent = 0; // how many of `writeBuffer` the transport has and has not written
  private _patience = 0; // how long to wait for a ping
  private _deadline = Infinity; // when the next ping is overdue
  private _cancel?: () => void; // that timer
  private _maxPayload?: number;

  constructor(uri: string | undefined, opts: EngineOptions) {
    super();
    const { host, secure } = parseUrl(uri);
    this._host = host;
    this.secure = secure;
    const path = (opts.path || "/socket.io").replace(/\/$/, "") + (opts.addTrailingSlash === false ? "" : "/");
    this.opts = { ...opts, path, query: parseQuery(opts.query) };
    const names = (opts.transports || Object.keys(TRANSPORTS)) as (string | TransportClass)[];
    this._transports = names
      .map((one) => (typeof one === "string" ? TRANSPORTS[one] : one))
      // Node.js before 22 has no WebSocket; where nothing else may be used, the error tells so
      .filter((one) => one && (one !== WebSocketTransport || globalThis.WebSocket || names.length < 2));
    for (const name of PAGE_EVENTS) globalThis.addEventListener?.(name, this, true);
    this._open();
  }

  /** @internal Give the URL of a request. */
  _url(name: string, options: EngineOptions, sid = this.id): string {
    const polling = name === "polling";
    const query = new URLSearchParams({ ...(options.query as object), EIO: "4", transport: name });
    if (sid) query.set("sid", sid);
    if (options.timestampRequests ?? polling) query.set(options.timestampParam || "t", Date.now().toString(36) + (count++).toString(36));
    if (options.forceBase64) query.set("b64", "1");
    return `${polling ? "http" : "ws"}${this.secure ? "s" : ""}://${this._host}${options.path}?${query}`;
  }

  /** Send a message. */
  write(data: Message): this {
    return this._send({ type: "message", data });
  }

  /** The same as `write`. */
  send(data: Message): this {
    return this.write(data);
  }

  /** Close when all is written. */
  close(): this {
    if (this._isAlive()) {
      this.readyState = "closing";
      const close = () => this._close("forced close");
      const afterUpgrade = () => {
        if (this.upgrading) this.once("upgrade", close).once("upgradeError", close);
        else close();
      };
      if (this.writeBuffer.length) this.once("drain", afterUpgrade);
      else afterUpgrade();
    }
    return this;
  }

  /** @internal Tell whether the ping is overdue: timers of a hidden page may be late, so whoever writes asks. */
  _isOverdue(): boolean {
    const overdue = Date.now() > this._deadline;
    if (overdue) queueMicrotask(() => this._close("ping timeout"));
    return overdue;
  }

  /** @internal Called with the events of the page. */
  handleEvent(event: Event): void {
    const { type } = event;
    if (type === "offline") {
      if (!LOOPBACK.test(this._host)) this._close("transport close", { description: "network connection lost", context: event });
    } else if (type === "pagehide" && (event as PageTransitionEvent).persisted) {
      // a page with a connection might not be kept; this one may come back, and connects again then
      this._close("transport close", { description: "page hidden", context: event });
    } else if (type === "pagehide" || (type === "beforeunload" && this.opts.closeOnBeforeunload)) {
      this.transport._handle = () => {};
      this.transport.close();
    } else this._isOverdue();
  }

  private _isAlive(): boolean {
    return this.readyState === "opening" || this.readyState === "open";
  }

  private _create(transport: TransportClass): Transport {
    return new transport(this, { ...this.opts, ...this.opts.transportOptions?.[transport.prototype.name] });
  }

  private _open(): void {
    const remembered = this.opts.rememberUpgrade && webSocketWorks && this._transports.includes(WebSocketTransport);
    const first = remembered ? WebSocketTransport : this._transports[0];
    if (!first) queueMicrotask(() => this._fail(new Error("No transports available")));
    else {
      this._use(this._create(first));
      this.transport.open();
    }
  }

  private _use(transport: Transport): void {
    this.transport = transport;
    transport._handle = (event, detail) => {
      if (transport === this.transport) this._on(event, detail);
    };
  }

  private _on(event: TransportEvent, detail: any): void {
    if (this.readyState === "closed") return;
    if (event === "packet") this._receive(detail);
    else if (event === "drain") this._drain();
    else if (event === "error") this._fail(detail);
    else if (event === "close") this._close("transport close", detail);
  }

  private _receive(packet: EnginePacket): void {
    this._fire("packet", packet);
    if (packet.type === "open") this._handshake(packet.data as string);
    else if (packet.type === "ping") {
      this._send({ type: "pong" });
      this._fire("ping");
      this._fire("pong");
      this._awaitPing();
    } else if (packet.type === "message") {
      this._fire("data", packet.data);
      this._fire("message", packet.data);
    }
  }

  private _handshake(text: string): void {
    let data;
    try {
      data = JSON.parse(text);
    } catch (error) {
      return this._fail(error as Error);
    }
    this._fire("handshake", data);
    this.id = data.sid;
    this._patience = data.pingInterval + data.pingTimeout;
    this._maxPayload = data.maxPayload;
    // a user may have closed it meanwhile; then it only had to learn the session that it leaves
    if (this.readyState !== "opening") return;
    this.readyState = "open";
    webSocketWorks = this.transport.name === "websocket";
    this._fire("open");
    this._flush();
    this._awaitPing();
    // a listener may have closed it
    if (this.opts.upgrade === false || (this.readyState as string) !== "open") return;
    for (const transport of this._transports) if (data.upgrades?.includes(transport.prototype.name)) this._probe(transport);
  }

  private _awaitPing(): void {
    this._cancel?.();
    // a listener of the same packet may have closed it
    if (this.readyState === "closed") return;
    this._deadline = Date.now() + this._patience;
    this._cancel = later(this._patience, () => this._close("ping timeout"), this.opts.autoUnref);
  }

  private _probe(transport: TransportClass): void {
    const probe = this._create(transport);
    let over = false;
    const fail = (why: unknown) => {
      if (over) return;
      over = true;
      probe.close();
      if (this.upgrading) {
        this.upgrading = false;
        if (this.readyState !== "closed") {
          this.transport.resume?.();
          this._flush();
        }
      }
      this._fire("upgradeError", new Error(`probe error: ${why}`));
    };
    webSocketWorks = false;
    probe._handle = (event, detail) => {
      if (event === "open") probe.send([{ type: "ping", data: "probe" }]);
      else if (event === "error" || event === "close") fail(event === "error" ? detail : "transport closed");
      else if (event === "packet" && !this.upgrading) {
        if (detail.type !== "pong" || detail.data !== "probe") return fail("not answered");
        this.upgrading = true;
        const paused = this.transport.pause!();
        this._fire("upgrading", probe);
        paused.then(() => {
          if (over || this.readyState === "closed") return;
          over = true;
          this._use(probe);
          probe.send([{ type: "upgrade" }]);
          webSocketWorks = true;
          this.upgrading = false;
          this._fire("upgrade", probe);
          this._flush();
        });
      }
    };
    this.once("close", () => fail("socket closed"));
    probe.open();
  }

  private _send(packet: EnginePacket): this {
    if (this._isAlive()) {
      this._fire("packetCreate", packet);
      this.writeBuffer.push(packet);
      this._flush();
    }
    return this;
  }

  private _flush(): void {
    if (this.readyState === "closed" || this.upgrading || !this.transport.writable || !this.writeBuffer.length) return;
    const packets = this._writable();
    this._sent = packets.length;
    this.transport.send(packets);
    this._fire("flush");
  }

  /** Give as many packets as the server takes in one request; the first goes in any case. */
  private _writable(): EnginePacket[] {
    const { writeBuffer, _maxPayload } = this;
    if (_maxPayload && this.transport.name === "polling" && writeBuffer.length > 1) {
      let size = -1;
      for (let index = 0; index < writeBuffer.length; index++) {
        size += sizeOf(writeBuffer[index].data) + 2; // with its type, and a separator before it
        if (index && size > _maxPayload) return writeBuffer.slice(0, index);
      }
    }
    return writeBuffer.slice();
  }

  private _drain(): void {
    this.writeBuffer.splice(0, this._sent);
    this._sent = 0; // the packets of an upgrade are not in the buffer
    if (this.writeBuffer.length) this._flush();
    else this._fire("drain");
  }

  private _fail(error: Error): void {
    webSocketWorks = false;
    if (this.opts.tryAllTransports && this._transports.length > 1 && this.readyState === "opening") {
      this._transports.shift();
      this.transport.close();
      return this._open();
    }
    this._fire("error", error);
    this._close("transport error", error);
  }

  private _close(reason: string, details?: CloseDetails | Error): void {
    if (this.readyState === "closed") return;
    this.readyState = "closed";
    this._cancel?.();
    this._deadline = Infinity;
    for (const name of PAGE_EVENTS) globalThis.removeEventListener?.(name, this, true);
    this.transport?.close();
    this.id = undefined;
    this._fire("close", reason, details);
    this.writeBuffer = [];
    this._sent = 0;
  }
}
