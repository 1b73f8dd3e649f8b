// The connection that several sockets share: opens it, and opens it again when it is lost.

import { backoff } from "./backoff.js";
import { Decoder, Encoder, type Packet } from "./codec.js";
import { type DefaultEventsMap, Emitter, type EventsMap } from "./emitter.js";
import { Engine, type EngineOptions } from "./engine.js";
import { later } from "./timers.js";
import { Socket, type DisconnectDescription, type SocketOptions } from "./socket.js";

export interface ManagerOptions extends EngineOptions {
  /** Whether to open a connection of its own; false unless told. */
  forceNew: boolean;
  /** Whether to share the connection with other sockets to the same server; true unless told. */
  multiplex: boolean;
  /** The path that the server listens on; "/socket.io" unless told. */
  path: string;
  /** Whether to connect again when the connection is lost; true unless told. */
  reconnection: boolean;
  /** How often to try in a row; for ever unless told. */
  reconnectionAttempts: number;
  /** How long to wait before the first attempt, in milliseconds; 1000 unless told. It doubles with each. */
  reconnectionDelay: number;
  /** The longest wait, in milliseconds; 5000 unless told. */
  reconnectionDelayMax: number;
  /** The part of a wait that is left to chance, 0 to 1; 0.5 unless told. */
  randomizationFactor: number;
  /** How long connecting may take, in milliseconds, or false; 20000 unless told. */
  timeout: number | false;
  /** Whether to connect at once; true unless told. */
  autoConnect: boolean;
  /** Another parser than that of Socket.IO; the server must have it too. */
  parser: any;
}

export interface ManagerReservedEvents {
  open: () => void;
  error: (error: Error) => void;
  ping: () => void;
  packet: (packet: Packet) => void;
  close: (reason: string, description?: DisconnectDescription) => void;
  reconnect_failed: () => void;
  reconnect_attempt: (attempt: number) => void;
  reconnect_error: (error: Error) => void;
  reconnect: (attempt: number) => void;
}

interface Accessor<Value, Owner> {
  /** Give the setting. */
  (): Value;
  /** Change the setting. */
  (value: Value): Owner;
}

interface Settings {
  reconnection: boolean;
  reconnectionAttempts: number;
  reconnectionDelay: number;
  reconnectionDelayMax: number;
  randomizationFactor: number;
  timeout: number | false;
}

const DEFAULTS: Settings = {
  reconnection: true,
  reconnectionAttempts: Infinity,
  reconnectionDelay: 1000,
  reconnectionDelayMax: 5000,
  randomizationFactor: 0.5,
  timeout: 20000,
};

const WAKING = ["online", "pageshow", "visibilitychange", "resume"];

export interface Manager<ListenEvents extends EventsMap, EmitEvents extends EventsMap> {
  reconnection: Accessor<boolean, this>;
  reconnectionAttempts: Accessor<number, this>;
  reconnectionDelay: Accessor<number, this>;
  reconnectionDelayMax: Accessor<number, this>;
  randomizationFactor: Accessor<number, this>;
  timeout: Accessor<number | false, this>;
}

export class Manager<ListenEvents extends EventsMap = DefaultEventsMap, EmitEvents extends EventsMap = ListenEvents> extends Emitter<
  {},
  {},
  ManagerReservedEvents
> {
  /** The connection underneath. */
  engine!: Engine;
  readonly opts: Partial<ManagerOptions>;
  /** @internal */
  nsps: Record<string, Socket<any, any>> = {};
  /** @internal */
  _reconnecting = false;
  /** @internal */
  _readyState: "opening" | "open" | "closed" = "closed";
  /** @internal */
  _autoConnect: boolean;

  private _uri?: string;
  private _settings = {} as Settings;
  private _attempts = 0;
  private _stopped = false; // by the user: no attempt may follow
  private _undo: (() => void)[] = [];
  private _encoder: Encoder;
  private _decoder: Decoder;

  constructor(opts: Partial<ManagerOptions>);
  constructor(uri?: string, opts?: Partial<ManagerOptions>);
  constructor(uri?: string | Partial<ManagerOptions>, opts?: Partial<ManagerOptions>);
  constructor(uri?: string | Partial<ManagerOptions>, opts?: Partial<ManagerOptions>) {
    super();
    if (uri && typeof uri === "object") [opts, uri] = [uri, undefined];
    this._uri = uri as string | undefined;
    this.opts = opts || {};
    const parser = this.opts.parser || { Encoder, Decoder };
    this._encoder = new parser.Encoder();
    this._decoder = new parser.Decoder();
    for (const name in DEFAULTS) {
      const setting = name as keyof Settings;
      this._settings[setting] = (this.opts[setting] ?? DEFAULTS[setting]) as never;
      this[setting] = ((...values: never[]) => {
        if (!values.length) return this._settings[setting];
        if (setting === "reconnection" && !values[0]) this._stopped = true;
        this._settings[setting] = values[0];
        return this;
      }) as never;
    }
    this._autoConnect = this.opts.autoConnect !== false;
    if (this._autoConnect) this.open();
  }

  /** Connect, unless that is under way or done. */
  open(done?: (error?: Error) => void): this {
    if (this._readyState !== "closed") return this;
    this._readyState = "opening";
    this._stopped = false;
    const engine = (this.engine = new Engine(this._uri, this.opts));
    const fail = (error: Error) => {
      this._cleanUp();
      this._readyState = "closed";
      this._error(error);
      if (done) done(error);
      else if (this._settings.reconnection && !this._reconnecting && !this._attempts) this._reconnect();
    };
    this._listen(engine, "open", () => {
      this._opened();
      done?.();
    });
    this._listen(engine, "error", fail);
    const { timeout } = this._settings;
    if (timeout !== false) {
      this._later(timeout, () => {
        fail(new Error("timeout"));
        engine.close();
      });
    }
    return this;
  }

  /** The same as `open`. */
  connect(done?: (error?: Error) => void): this {
    return this.open(done);
  }

  /** Give the socket of a namespace. */
  socket(nsp: string, opts?: Partial<SocketOptions>): Socket<ListenEvents, EmitEvents> {
    let socket = this.nsps[nsp];
    if (!socket) socket = this.nsps[nsp] = new Socket(this as Manager<any, any>, nsp, opts);
    else if (this._autoConnect && !socket.active) socket.connect();
    return socket;
  }

  /** Close the connection, and with it all sockets. */
  disconnect(): void {
    this._stopped = true;
    this._reconnecting = false;
    this._closed("forced close");
  }

  /** @internal Close the connection if no socket needs it. */
  _release(): void {
    if (!this._active().length) this.disconnect();
  }

  /** @internal Send a packet. */
  _packet(packet: Packet): void {
    for (const message of this._encoder.encode(packet)) this.engine.write(message);
  }

  private _active(): Socket<any, any>[] {
    return Object.values(this.nsps).filter((socket) => socket.active);
  }

  private _opened(): void {
    this._cleanUp();
    this._readyState = "open";
    this._fire("open");
    const { engine } = this;
    this._listen(engine, "ping", () => this._fire("ping"));
    this._listen(engine, "data", (data) => {
      try {
        this._decoder.add(data);
      } catch (error) {
        this._closed("parse error", error as Error);
      }
    });
    this._listen(engine, "error", (error) => this._error(error));
    this._listen(engine, "close", (reason, details) => this._closed(reason, details));
    this._listen(this._decoder, "decoded", (packet) => {
      // later, so that an error in a listener is not one of the protocol
      queueMicrotask(() => {
        this._fire("packet", packet);
        const socket = this.nsps[packet.nsp];
        if (socket?.active) socket._receive(packet);
      });
    });
    for (const socket of this._active()) socket._opened();
  }

  private _error(error: Error): void {
    this._fire("error", error);
    for (const socket of this._active()) socket._failed(error);
  }

  private _closed(reason: string, details?: DisconnectDescription): void {
    this._cleanUp();
    this.engine?.close();
    this._attempts = 0;
    this._readyState = "closed";
    this._fire("close", reason, details);
    for (const socket of this._active()) socket._closed(reason as Socket.DisconnectReason, details);
    // what a hidden page lost is no loss: it is there again when the page is
    const hidden = (details as { context?: Event })?.context?.type === "pagehide";
    if (this._settings.reconnection || hidden) this._reconnect();
  }

  private _reconnect(): void {
    if (this._reconnecting || this._stopped) return;
    const { reconnectionAttempts, reconnectionDelay, reconnectionDelayMax, randomizationFactor } = this._settings;
    // 0 means the default, as in socket.io-client
    if (this._attempts >= (reconnectionAttempts || Infinity)) {
      this._attempts = 0;
      this._fire("reconnect_failed");
      return;
    }
    this._reconnecting = true;
    let tried = false;
    const attempt = () => {
      if (tried || this._stopped) return;
      tried = true;
      this._cleanUp();
      this._fire("reconnect_attempt", this._attempts);
      // a listener may have closed it
      if (this._stopped as boolean) return;
      this.open((error) => {
        this._reconnecting = false;
        if (error) {
          if (this._settings.reconnection) this._reconnect();
          this._fire("reconnect_error", error);
        } else {
          const attempts = this._attempts;
          this._attempts = 0;
          this._fire("reconnect", attempts);
        }
      });
    };
    this._later(backoff(this._attempts++, reconnectionDelay || 1000, reconnectionDelayMax || 5000, randomizationFactor), attempt);
    // there is no need to wait when the network or the page comes back
    const wake = () => globalThis.document?.visibilityState !== "hidden" && attempt();
    for (const name of WAKING) {
      globalThis.addEventListener?.(name, wake, true);
      this._undo.push(() => globalThis.removeEventListener?.(name, wake, true));
    }
  }

  private _listen(emitter: Emitter<any, any, any>, event: string, listener: (...args: any[]) => void): void {
    emitter.on(event, listener);
    this._undo.push(() => emitter.off(event, listener));
  }

  private _later(delay: number, act: () => void): void {
    this._undo.push(later(delay, act, this.opts.autoUnref));
  }

  private _cleanUp(): void {
    for (const undo of this._undo.splice(0)) undo();
    this._decoder.destroy();
  }
}
