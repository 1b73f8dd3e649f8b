// The interface of sails.io.js: io.socket, io.sails, and sockets that send requests.

import { isNode } from "./binary.js";
import { Emitter } from "./emitter.js";
import type { IO } from "./io.js";
import {
  check,
  fromRequest,
  JWR,
  mergeHeaders,
  type RequestCallback,
  type RequestHeaders,
  type RequestLimits,
  type RequestOptions,
  toResponse,
} from "./requests.js";
import type { Ack, Socket } from "./socket.js";
import { parseQuery, parseUrl } from "./url.js";

/** What a socket can be told; what it is not told it takes from `io.sails` when it connects. */
export interface SailsOptions {
  /** The server; the page's own unless told. */
  url?: string;
  /** The transports that are tried; ["websocket"] unless told. */
  transports?: string[];
  /** Sent with the handshake. */
  query?: string | Record<string, any>;
  /** The path that the server listens on; "/socket.io" unless told. */
  path?: string;
  /** Headers of every request. */
  headers?: RequestHeaders;
  /** Headers of the handshake; a browser sends them only by polling. */
  initialConnectionHeaders?: Record<string, string>;
  /** Whether to share the connection with other sockets of this server; false unless told. */
  multiplex?: boolean;
  /** Whether to connect again when the connection is lost; false unless told. */
  reconnection?: boolean;
  reconnectionAttempts?: number;
  reconnectionDelay?: number;
  reconnectionDelayMax?: number;
  randomizationFactor?: number;
  /** How long connecting may take, in milliseconds. */
  timeout?: number | false;
  /** Not for browsers; accepted for code that has it. */
  rejectUnauthorized?: boolean;
  /** Whether a page of another origin asks the server for a cookie before it connects, or the path where; true unless told. */
  useCORSRouteToGetCookie?: boolean | string;
}

export interface Sails extends SailsOptions {
  /** Whether `io.socket` connects by itself once it is used; true unless told. */
  autoConnect: boolean;
  /** "production" lets the console be silent. */
  environment: string;
  /** What the server is told of this client. */
  sdk: { version: string; language: string; platform: string; versionString: string };
  /** Whether changing an option of a connected socket throws; true unless told. */
  strict?: boolean;
  /** Make a socket, which connects at once. */
  connect(url?: string | SailsOptions | null, options?: SailsOptions): SailsSocket;
}

interface Verb {
  (url: string, callback?: RequestCallback): Promise<JWR>;
  (url: string, data?: RequestOptions["data"], callback?: RequestCallback): Promise<JWR>;
  (url: string, data?: RequestOptions["data"], limits?: RequestLimits, callback?: RequestCallback): Promise<JWR>;
}

const OPTIONS = (
  "url transports query path headers initialConnectionHeaders multiplex reconnection reconnectionAttempts reconnectionDelay " +
  "reconnectionDelayMax randomizationFactor timeout rejectUnauthorized useCORSRouteToGetCookie"
).split(" ") as (keyof SailsOptions)[];

const VERBS = ["get", "post", "put", "patch", "delete", "head", "options"] as const;

// From the script tag, each with what it must be.
const ATTRIBUTES: Record<string, string> = {
  autoConnect: "boolean",
  reconnection: "boolean",
  environment: "string",
  headers: "object",
  url: "string",
  transports: "array",
  path: "string",
};

const MANAGER_EVENTS = ["reconnect", "reconnect_attempt", "reconnect_error", "reconnect_failed", "error", "ping"] as const;

export interface SailsSocket extends SailsOptions, Record<(typeof VERBS)[number], Verb> {}

/** A socket that sends requests to the routes of the server's app. */
export class SailsSocket extends Emitter<any, any> {
  /** The socket underneath, once it has begun to connect. */
  _raw?: Socket;
  private _io: IO;
  private _settings: SailsOptions;
  private _connecting = false;
  /** @internal */
  _soon = false;
  private _attempt = 0; // to tell whether what was waited for is still wanted
  private _waiting: (() => void)[] = []; // for the connection

  constructor(io: IO, options: SailsOptions = {}) {
    super();
    this._io = io;
    this._settings = { ...options };
  }

  /** Tell whether it is connected. */
  isConnected(): boolean {
    return !!this._raw?.connected;
  }

  /** Tell whether it connects for the first time since it was told to. */
  isConnecting(): boolean {
    return this._connecting;
  }

  /** Tell whether it will connect by itself at the end of this turn. */
  mightBeAboutToAutoConnect(): boolean {
    return this._soon;
  }

  /** Connect again after a disconnection. */
  reconnect(): this {
    if (this._connecting || this.isConnected()) {
      throw new Error(`Cannot connect- socket is already ${this._connecting ? "connecting" : "connected"}`);
    }
    return this._connect();
  }

  /** Disconnect, and do not try again. */
  disconnect(): this {
    if (!this._connecting && !this._raw?.active) throw new Error("Cannot disconnect- socket is already disconnected");
    this._attempt++;
    this._connecting = false;
    this._raw?.disconnect();
    return this;
  }

  /** Send what waits for the connection. */
  replay(): this {
    for (const act of this._waiting.splice(0)) act();
    return this;
  }

  /** Send an event of Socket.IO to the server. */
  override emit(event: string | symbol, ...args: any[]): this {
    this._whenConnected(() => this._raw!.emit(event as string, ...args));
    return this;
  }

  /**
   * Send a request.
   *
   * While the socket is not connected it waits. The promise gives the answer, whatever its status; it is rejected when none can come.
   */
  request(options: RequestOptions, callback?: RequestCallback): Promise<JWR> {
    options = { ...options };
    check(options, callback);
    const { timeout, signal } = options;
    const promise = new Promise<JWR>((resolve, reject) => {
      let done = false;
      const settle = (error: Error | null, answer?: object) => {
        if (done) return;
        done = true;
        clearTimeout(timer);
        signal?.removeEventListener("abort", abort);
        const jwr = new JWR(answer || { body: null, statusCode: 0 }, error || undefined);
        if (error) reject(error);
        else resolve(jwr);
        callback?.(error || jwr.body, jwr);
      };
      const abort = () => settle(signal!.reason);
      const late = () => settle(new Error(`The socket request got no answer within ${timeout} ms.`));
      const timer = timeout !== undefined ? setTimeout(late, timeout) : undefined;
      signal?.addEventListener("abort", abort);
      if (signal?.aborted) queueMicrotask(abort);
      const send = () => !done && this._send(options, settle);
      this._whenConnected(send);
    });
    // who gave a callback need not look at the promise
    promise.catch(() => {});
    return promise;
  }

  /** Send a request by the interface of the global `fetch`. */
  async fetch(input: string | URL | Request, init?: RequestInit): Promise<Response> {
    const base = this._url();
    const request = new Request(input instanceof Request ? input : new URL(input, base), init);
    if (new URL(request.url).origin !== new URL(base).origin) throw new TypeError(`${request.url} is not of ${base}`);
    const again = request.clone();
    let jwr;
    try {
      jwr = await this.request(await fromRequest(request));
    } catch (error) {
      throw request.signal.aborted ? error : new TypeError((error as Error).message);
    }
    const { headers, statusCode } = jwr;
    if (!headers.location || ![301, 302, 303, 307, 308].includes(statusCode) || request.redirect !== "follow") return toResponse(jwr);
    const target = new URL(headers.location, request.url);
    const repeat = statusCode > 303 || /^(GET|HEAD)$/.test(request.method);
    return this.fetch(repeat ? new Request(target, again) : new Request(target, { signal: request.signal }));
  }

  /** Begin to connect. */
  _connect(): this {
    const { sails } = this._io;
    for (const name of OPTIONS) this._settings[name] ??= sails[name] as never;
    const url = (this._settings.url = this._url());
    const { useCORSRouteToGetCookie: route } = this._settings;
    const attempt = ++this._attempt;
    const open = () => attempt === this._attempt && this._open(url);
    this._connecting = true;
    if (route && !isNode && new URL(url).origin !== globalThis.location?.origin) {
      const path = route === true ? "/__getcookie" : route;
      fetch(new URL(path, url), { mode: "no-cors", credentials: "include" }).then(open, open);
    } else open();
    return this;
  }

  /** Give the server's URL. */
  private _url(): string {
    const url = this.url || this._io.sails.url || globalThis.location?.origin;
    if (!url) throw new Error("No server to connect to: set io.sails.url.");
    return url.replace(/\/$/, "");
  }

  private _open(url: string): void {
    const { sails } = this._io;
    const log = (text: string) => sails.environment !== "production" && console.log(text);
    const { query, multiplex, initialConnectionHeaders, ...options } = this._settings;
    const raw = (this._raw = this._io(url, {
      ...(options as object),
      forceNew: !multiplex,
      extraHeaders: initialConnectionHeaders,
      withCredentials: true,
      query: {
        ...parseUrl(url).query,
        ...parseQuery(query),
        ...parseQuery(sails.sdk.versionString),
      },
    }));
    // of a socket that another has replaced nothing is heard any more
    const tell = (event: string, ...args: unknown[]) => raw === this._raw && this._fire(event, ...args);
    raw.onAny(tell);
    raw.on("connect", () => {
      this._connecting = false;
      log(`  |>    Now connected to ${url}.`);
      this.replay();
      tell("connect");
    });
    raw.on("connect_error", (error) => {
      if (this._connecting) log(`The socket was unable to connect. (${error.message})`);
      this._connecting = false;
      tell("connect_error", error);
    });
    raw.on("disconnect", (reason, details) => {
      this._connecting = false;
      log(`Disconnected from ${url} (${reason}).`);
      tell("disconnect", reason, ...(details ? [details] : []));
    });
    for (const event of MANAGER_EVENTS) {
      raw.io.on(event, (...args: any[]) => {
        if (!raw.active) return;
        tell(event, ...args);
        // names of socket.io-client 2
        if (event === "reconnect_attempt") {
          log(`Reconnecting to ${url} (attempt #${args[0]}).`);
          tell("reconnecting", ...args);
        } else if (event === "ping") tell("pong");
      });
    }
  }

  private _whenConnected(act: () => void): void {
    if (this.isConnected()) act();
    else this._waiting.push(act);
  }

  private _send({ method, url, data, params, headers }: RequestOptions, settle: (error: Error | null, answer?: object) => void): void {
    const verb = (method || "get").toLowerCase();
    let merged;
    try {
      merged = mergeHeaders(this.headers, headers);
    } catch (error) {
      return settle(error as Error);
    }
    const ack: Ack = (error, answer) => {
      settle(error && new Error("The socket disconnected before the request completed."), answer);
    };
    ack._withError = true;
    this._raw!.emit(verb, { method: verb, headers: merged, data: data ?? params ?? undefined, url }, ack);
  }
}

for (const name of OPTIONS) {
  Object.defineProperty(SailsSocket.prototype, name, {
    get(this: any) {
      return this._settings[name];
    },
    set(this: any, value: unknown) {
      if (name !== "headers" && value !== this._settings[name]) {
        if (this.isConnected() && this._io.sails.strict !== false) {
          throw new Error(`Cannot change value of \`${name}\` while socket is connected.`);
        }
        // what is under way would use the old value; `reconnect()` takes the new one
        if (this._raw?.active && !this.isConnected()) this.disconnect();
      }
      this._settings[name] = value;
    },
  });
}

for (const verb of VERBS) {
  SailsSocket.prototype[verb] = function (this: SailsSocket, url: string, data?: any, limits?: any, callback?: any) {
    if (typeof data === "function") [data, limits, callback] = [undefined, undefined, data];
    if (limits && typeof limits !== "object") [limits, callback] = [undefined, limits];
    return this.request({ ...limits, method: verb, url, data }, callback);
  };
}

function attributes(script: HTMLScriptElement): Partial<Sails> {
  const settings: Record<string, unknown> = {};
  for (const [name, type] of Object.entries(ATTRIBUTES)) {
    const text = script.getAttribute("data-" + name) ?? script.getAttribute(name);
    if (text === null) continue;
    let value: unknown = text;
    try {
      value = text || type !== "boolean" ? JSON.parse(text) : true;
    } catch {
      // then it is a string
    }
    if ((Array.isArray(value) ? "array" : typeof value) !== type) {
      throw new Error(`Unexpected/invalid configuration for \`${name}\` provided in script tag: \`${text}\`. Should be of type ${type}.`);
    }
    settings[name] = value;
  }
  return settings;
}

/** Add `sails` and `socket` to `io`. */
export function addSails(io: IO, script?: HTMLScriptElement | null): void {
  const given = script ? attributes(script) : {};
  const locals = (globalThis as { SAILS_LOCALS?: { _environment?: string } }).SAILS_LOCALS;
  const production = /#production|\.min\.js/.test(script?.src || "") || /^(production|staging)$/.test(locals?.["_environment"] || "");
  const version = "1.2.1"; // of sails.io.js, whose interface this is
  const platform = isNode ? "node" : "browser";
  const sails: Sails = (io.sails = {
    autoConnect: true,
    reconnection: false,
    useCORSRouteToGetCookie: true,
    environment: production ? "production" : "development",
    sdk: {
      version,
      language: "javascript",
      platform,
      versionString: `__sails_io_sdk_version=${version}&__sails_io_sdk_platform=${platform}&__sails_io_sdk_language=javascript`,
    },
    transports: ["websocket"],
    ...given,
    connect(url, options) {
      if (url && typeof url === "object") [options, url] = [url, undefined];
      return new SailsSocket(io, { ...options, ...(url && { url }) })._connect();
    },
  });
  const target = new SailsSocket(io);
  const isOff = () => sails.autoConnect === false || (sails as { autoconnect?: boolean }).autoconnect === false;
  let used = false;
  const use = (key: PropertyKey) => {
    // symbols are asked for by who only looks at it
    if (used || typeof key === "symbol") return;
    used = target._soon = true;
    setTimeout(() => {
      target._soon = false;
      if (current === socket && !target._raw) target._connect();
    });
  };
  const socket = new Proxy(target, {
    get(...of) {
      use(of[1]);
      return Reflect.get(...of);
    },
    set(...of) {
      use(of[1]);
      return Reflect.set(...of);
    },
  });
  let current: SailsSocket | undefined = socket;
  Object.defineProperty(io, "socket", {
    configurable: true,
    enumerable: true,
    get: () => current,
    set: (value) => (current = value),
  });
  setTimeout(() => {
    if (current === socket && isOff()) current = undefined;
  });
}
