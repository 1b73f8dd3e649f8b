// The function `io`.

import type { DefaultEventsMap, EventsMap } from "./emitter.js";
import { Manager, type ManagerOptions } from "./manager.js";
import { protocol } from "./codec.js";
import { Socket, type SocketOptions } from "./socket.js";
import type { Sails, SailsSocket } from "./sails.js";
import { parseUrl } from "./url.js";

const managers: Record<string, Manager> = {};

type Options = Partial<ManagerOptions & SocketOptions>;

function connect(uri?: string | Options, opts?: Options): Socket {
  if (uri && typeof uri === "object") [opts, uri] = [uri, undefined];
  const options: Options = { ...opts };
  const url = uri as string | undefined;
  const { host, secure, path, query } = parseUrl(url);
  if (query && !options.query) options.query = query;
  const key = `${secure}${host}${options.path || ""}`;
  const shared = managers[key];
  const own = options.forceNew || (options as { "force new connection"?: boolean })["force new connection"];
  const apart = own || options.multiplex === false || shared?.nsps[path];
  const manager = apart ? new Manager(url, options) : (managers[key] ||= new Manager(url, options));
  return manager.socket(path, options);
}

export interface IO {
  /** Give the socket of a namespace of a server; it connects at once unless told not to. */
  <ListenEvents extends EventsMap = DefaultEventsMap, EmitEvents extends EventsMap = ListenEvents>(opts?: Options): Socket<
    ListenEvents,
    EmitEvents
  >;
  <ListenEvents extends EventsMap = DefaultEventsMap, EmitEvents extends EventsMap = ListenEvents>(uri: string, opts?: Options): Socket<
    ListenEvents,
    EmitEvents
  >;
  protocol: typeof protocol;
  Manager: typeof Manager;
  Socket: typeof Socket;
  io: IO;
  connect: IO;
  /** Defaults of sockets that send requests. */
  sails: Sails;
  /** A socket that sends requests. It connects when it is used for the first time, unless `io.sails.autoConnect` is false. */
  socket: SailsSocket;
}

export const io = Object.assign(connect, { protocol, Manager, Socket, connect, io: connect }) as unknown as IO;
