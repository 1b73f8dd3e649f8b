// One namespace of a connection: events in both directions, and their acks.

import { type Packet, PacketType, RESERVED } from "./codec.js";
import { type AnyListener, type DefaultEventsMap, Emitter, type EventNames, type EventParams, type EventsMap } from "./emitter.js";
import type { Manager } from "./manager.js";
import { later } from "./timers.js";
import type { CloseDetails } from "./transport.js";

type PrependTimeoutError<T extends any[]> = {
  [K in keyof T]: T[K] extends (...args: infer Params) => infer Result ? (err: Error, ...args: Params) => Result : T[K];
};

/** Events whose acks get an error first, as after `timeout()`. */
export type DecorateAcknowledgements<E> = {
  [K in keyof E]: E[K] extends (...args: infer Params) => infer Result ? (...args: PrependTimeoutError<Params>) => Result : E[K];
};

export type Last<T extends any[]> = T extends [...infer _, infer L] ? L : any;
export type AllButLast<T extends any[]> = T extends [...infer H, infer _] ? H : any[];
export type FirstArg<T> = T extends (arg: infer Param) => infer _ ? Param : any;

export interface SocketOptions {
  /** Sent when the namespace is joined; a function is asked each time. */
  auth?: { [key: string]: any } | ((give: (data: object) => void) => void);
  /** How often an event is sent again that was not acknowledged in time; with it, events go one after another. */
  retries?: number;
  /** How long an ack may take, in milliseconds; for ever unless told. */
  ackTimeout?: number;
}

export type DisconnectDescription = Error | CloseDetails;

export interface SocketReservedEvents {
  connect: () => void;
  connect_error: (err: Error & { data?: any; description?: any; context?: any }) => void;
  disconnect: (reason: Socket.DisconnectReason, description?: DisconnectDescription) => void;
}

interface Flags {
  compress?: boolean;
  volatile?: boolean;
  timeout?: number;
  /** It comes from the queue, so it is not queued again. */
  _queued?: boolean;
}

export interface Ack extends AnyListener {
  /** Its first argument is an error, or null. */
  _withError?: boolean;
}

interface QueuedEvent {
  _args: unknown[];
  _flags: Flags;
  _pending: boolean;
  _tries: number;
}

/** Take one listener, or all, out of a list. */
function without(listeners: AnyListener[], listener?: AnyListener): AnyListener[] {
  const index = listeners.indexOf(listener!);
  return listener ? listeners.filter((_, position) => position !== index) : [];
}

export class Socket<ListenEvents extends EventsMap = DefaultEventsMap, EmitEvents extends EventsMap = ListenEvents> extends Emitter<
  ListenEvents,
  EmitEvents,
  SocketReservedEvents
> {
  /** The connection, which other namespaces may share. */
  readonly io: Manager<ListenEvents, EmitEvents>;
  /** What the server calls this socket; undefined while disconnected. */
  id: string | undefined;
  /** Whether the server has accepted it. */
  connected = false;
  /** Whether the last reconnection restored the state, and no event was missed. */
  recovered = false;
  /** Whether it is connected, or will connect by itself. */
  active = false;
  /** Sent when the namespace is joined; a function is asked each time. */
  auth: SocketOptions["auth"];
  /** Events that came before the server accepted the socket. */
  receiveBuffer: ReadonlyArray<any>[] = [];
  /** Events that wait for the connection. */
  sendBuffer: Packet[] = [];

  /** The namespace. */
  readonly nsp: string;
  private _options: SocketOptions;
  private _flags: Flags = {};
  private _acks = new Map<number, Ack>();
  private _nextId = 0;
  private _queue: QueuedEvent[] = [];
  private _pid?: string; // with which the server finds the state of this socket again
  private _offset?: string; // of the last event that came
  private _any: AnyListener[] = [];
  private _anyOutgoing: AnyListener[] = [];

  constructor(io: Manager<ListenEvents, EmitEvents>, nsp: string, opts?: Partial<SocketOptions>) {
    super();
    this.io = io;
    this.nsp = nsp;
    this.auth = opts?.auth;
    this._options = { ...opts };
    if (io._autoConnect) this.connect();
  }

  /** Whether the server has not accepted it. */
  get disconnected(): boolean {
    return !this.connected;
  }

  /** Connect. */
  connect(): this {
    if (this.connected) return this;
    const { io, active } = this;
    this.active = true;
    if (!io._reconnecting) io.open();
    // an active one has asked already; to ask twice is an error of the protocol
    if (!active && io._readyState === "open") this._opened();
    return this;
  }

  /** The same as `connect`. */
  open(): this {
    return this.connect();
  }

  /** Leave the namespace; the last one closes the connection. */
  disconnect(): this {
    if (this.connected) this._packet({ type: PacketType.DISCONNECT });
    this._leave();
    if (this.connected) this._closed("io client disconnect");
    return this;
  }

  /** The same as `disconnect`. */
  close(): this {
    return this.disconnect();
  }

  /** Emit the event "message". */
  send(...args: any[]): this {
    return this.emit("message" as never, ...(args as never));
  }

  /** Send an event. A function as last argument gets the answer. */
  override emit<Ev extends EventNames<EmitEvents>>(ev: Ev, ...args: EventParams<EmitEvents, Ev>): this {
    if (RESERVED.has(ev)) throw new Error(`"${String(ev)}" is a reserved event name`);
    const flags = this._flags;
    this._flags = {};
    const data: unknown[] = [ev, ...args];
    if (this._options.retries && !flags._queued && !flags.volatile) {
      this._enqueue(data, flags);
      return this;
    }
    const packet: Packet = { type: PacketType.EVENT, nsp: this.nsp, data, options: { compress: flags.compress !== false } };
    const { engine } = this.io;
    const dropped = flags.volatile && !(this.connected && engine.transport.writable);
    const now = this.connected && !engine._isOverdue();
    if (typeof data[data.length - 1] === "function") this._expect((packet.id = this._nextId++), data.pop() as Ack, flags.timeout);
    if (dropped) return this;
    if (now) this._write(packet);
    else this.sendBuffer.push(packet);
    return this;
  }

  /** Send an event and wait for its answer. */
  emitWithAck<Ev extends EventNames<EmitEvents>>(
    ev: Ev,
    ...args: AllButLast<EventParams<EmitEvents, Ev>>
  ): Promise<FirstArg<Last<EventParams<EmitEvents, Ev>>>> {
    return new Promise((resolve, reject) => {
      const ack: Ack = (error, value) => (error ? reject(error) : resolve(value));
      ack._withError = true;
      this.emit(ev, ...([...args, ack] as EventParams<EmitEvents, Ev>));
    });
  }

  /** Let the next event be compressed, or not. A browser decides by itself. */
  compress(compress: boolean): this {
    this._flags.compress = compress;
    return this;
  }

  /** Drop the next event if it cannot be sent now. */
  get volatile(): this {
    this._flags.volatile = true;
    return this;
  }

  /** Give the ack of the next event this time, in milliseconds; it gets an error first, or null. */
  timeout(timeout: number): Socket<ListenEvents, DecorateAcknowledgements<EmitEvents>> {
    this._flags.timeout = timeout;
    return this as never;
  }

  /** Add a listener of every event that comes. */
  onAny(listener: AnyListener): this {
    this._any = [...this._any, listener];
    return this;
  }

  /** Add one that is called before the others. */
  prependAny(listener: AnyListener): this {
    this._any = [listener, ...this._any];
    return this;
  }

  /** Remove one of them, or all. */
  offAny(listener?: AnyListener): this {
    this._any = without(this._any, listener);
    return this;
  }

  /** Give them. */
  listenersAny(): AnyListener[] {
    return this._any;
  }

  /** Add a listener of every event that goes. */
  onAnyOutgoing(listener: AnyListener): this {
    this._anyOutgoing = [...this._anyOutgoing, listener];
    return this;
  }

  /** Add one that is called before the others. */
  prependAnyOutgoing(listener: AnyListener): this {
    this._anyOutgoing = [listener, ...this._anyOutgoing];
    return this;
  }

  /** Remove one of them, or all. */
  offAnyOutgoing(listener?: AnyListener): this {
    this._anyOutgoing = without(this._anyOutgoing, listener);
    return this;
  }

  /** Give them. */
  listenersAnyOutgoing(): AnyListener[] {
    return this._anyOutgoing;
  }

  /** @internal The connection is open. */
  _opened(): void {
    const join = (auth?: object) => {
      const data = this._pid ? { pid: this._pid, offset: this._offset, ...auth } : auth;
      this._packet({ type: PacketType.CONNECT, data });
    };
    if (typeof this.auth === "function") this.auth(join);
    else join(this.auth);
  }

  /** @internal The connection could not be opened, or failed. */
  _failed(error: Error): void {
    if (!this.connected) this._fire("connect_error", error);
  }

  /** @internal The connection is closed, or the namespace left. */
  _closed(reason: Socket.DisconnectReason, details?: DisconnectDescription): void {
    this.connected = false;
    this.id = undefined;
    this._fire("disconnect", reason, details);
    for (const [id, ack] of [...this._acks]) {
      if (this.sendBuffer.some((packet) => packet.id === id)) continue;
      this._acks.delete(id);
      if (ack._withError) ack.call(this, new Error("socket has been disconnected"));
    }
  }

  /** @internal A packet for this namespace came. */
  _receive({ type, data, id }: Packet): void {
    if (type === PacketType.CONNECT) {
      if (data?.sid) this._accepted(data.sid, data.pid);
      else this._failed(new Error("The server speaks Socket.IO 2, this client does not."));
    } else if (type === PacketType.EVENT || type === PacketType.BINARY_EVENT) {
      const args = data || [];
      if (id !== undefined && id !== null) args.push(this._acknowledge(id));
      if (this.connected) this._dispatch(args);
      else this.receiveBuffer.push(Object.freeze(args));
    } else if (type === PacketType.ACK || type === PacketType.BINARY_ACK) {
      const ack = this._acks.get(id!);
      this._acks.delete(id!);
      ack?.apply(this, ack._withError ? [null, ...data] : data);
    } else if (type === PacketType.DISCONNECT) {
      this._leave();
      this._closed("io server disconnect");
    } else {
      this._leave();
      this._fire("connect_error", Object.assign(new Error(data.message ?? data), { data: data.data }));
    }
  }

  private _accepted(sid: string, pid?: string): void {
    this.id = sid;
    this.recovered = !!pid && this._pid === pid;
    this._pid = pid;
    this.connected = true;
    for (const args of this.receiveBuffer.splice(0)) this._dispatch(args);
    for (const packet of this.sendBuffer.splice(0)) this._write(packet);
    this._drainQueue(true);
    this._fire("connect");
  }

  private _dispatch(args: readonly any[]): void {
    for (const listener of this._any) listener.apply(this, args as any[]);
    this._fire(args[0], ...args.slice(1));
    // with recovery the server adds an argument to every event: its offset
    const last = args[args.length - 1];
    if (this._pid && typeof last === "string") this._offset = last;
  }

  private _acknowledge(id: number): AnyListener {
    let done = false;
    return (...data) => {
      if (done) return;
      done = true;
      this._packet({ type: PacketType.ACK, id, data });
    };
  }

  private _expect(id: number, ack: Ack, timeout = this._options.ackTimeout): void {
    let expected = ack;
    if (timeout !== undefined) {
      const cancel = later(timeout, () => {
        this._acks.delete(id);
        this.sendBuffer = this.sendBuffer.filter((packet) => packet.id !== id);
        ack.call(this, new Error("operation has timed out"));
      });
      expected = (...args) => {
        cancel();
        ack.apply(this, args);
      };
      expected._withError = true;
    }
    this._acks.set(id, expected);
  }

  private _enqueue(args: unknown[], flags: Flags): void {
    const ack = typeof args[args.length - 1] === "function" ? (args.pop() as AnyListener) : undefined;
    const event: QueuedEvent = { _args: args, _flags: { ...flags, _queued: true }, _pending: false, _tries: 0 };
    args.push((error: Error | null, ...answer: unknown[]) => {
      if (event !== this._queue[0]) return; // the ack of an earlier try has come already
      event._pending = false;
      if (!error || event._tries > this._options.retries!) {
        this._queue.shift();
        ack?.(error, ...answer);
      }
      this._drainQueue();
    });
    this._queue.push(event);
    this._drainQueue();
  }

  private _drainQueue(again = false): void {
    const [event] = this._queue;
    if (!this.connected || !event || (event._pending && !again)) return;
    event._pending = true;
    event._tries++;
    this._flags = { ...event._flags };
    (this.emit as AnyListener).apply(this, event._args);
  }

  /** Send an event, and tell who listens to all of them. */
  private _write(packet: Packet): void {
    for (const listener of this._anyOutgoing) listener.apply(this, packet.data);
    this._packet(packet);
  }

  private _packet(packet: Omit<Packet, "nsp">): void {
    this.io._packet({ ...packet, nsp: this.nsp });
  }

  private _leave(): void {
    this.active = false;
    this.io._release();
  }
}

export namespace Socket {
  export type DisconnectReason =
    | "io server disconnect"
    | "io client disconnect"
    | "ping timeout"
    | "transport close"
    | "transport error"
    | "parse error";
}
