// Made by js/build.mjs.

declare interface EventsMap {
    [event: string]: any;
}
declare interface DefaultEventsMap {
    [event: string]: (...args: any[]) => void;
}
declare type EventNames<Map extends EventsMap> = keyof Map & (string | symbol);
declare type EventParams<Map extends EventsMap, Ev extends EventNames<Map>> = Parameters<Map[Ev]>;
declare type ReservedOrUserEventNames<Reserved extends EventsMap, User extends EventsMap> = EventNames<Reserved> | EventNames<User>;
declare type ReservedOrUserListener<Reserved extends EventsMap, User extends EventsMap, Ev extends ReservedOrUserEventNames<Reserved, User>> = Ev extends EventNames<Reserved> ? Reserved[Ev] : Ev extends EventNames<User> ? User[Ev] : never;
declare type AnyListener = (...args: any[]) => void;
/** Calls listeners by event name, in the order in which they were added. */
declare class Emitter<ListenEvents extends EventsMap, EmitEvents extends EventsMap, ReservedEvents extends EventsMap = {}> {
    /** Add a listener. */
    on<Ev extends ReservedOrUserEventNames<ReservedEvents, ListenEvents>>(event: Ev, listener: ReservedOrUserListener<ReservedEvents, ListenEvents, Ev>): this;
    /** Add a listener that is called once. */
    once<Ev extends ReservedOrUserEventNames<ReservedEvents, ListenEvents>>(event: Ev, listener: ReservedOrUserListener<ReservedEvents, ListenEvents, Ev>): this;
    /** Remove one listener, all of an event, or all. */
    off<Ev extends ReservedOrUserEventNames<ReservedEvents, ListenEvents>>(event?: Ev, listener?: ReservedOrUserListener<ReservedEvents, ListenEvents, Ev>): this;
    /** Call the listeners of an event. */
    emit<Ev extends EventNames<EmitEvents>>(event: Ev, ...args: EventParams<EmitEvents, Ev>): this;
    /** Call the listeners of an event; a subclass may let `emit` do something else. */
    protected _fire(event: PropertyKey, ...args: unknown[]): this;
    /** Give the listeners of an event. */
    listeners<Ev extends ReservedOrUserEventNames<ReservedEvents, ListenEvents>>(event: Ev): ReservedOrUserListener<ReservedEvents, ListenEvents, Ev>[];
    /** Tell whether an event has listeners. */
    hasListeners<Ev extends ReservedOrUserEventNames<ReservedEvents, ListenEvents>>(event: Ev): boolean;
}
declare interface Emitter<ListenEvents extends EventsMap, EmitEvents extends EventsMap, ReservedEvents extends EventsMap = {}> {
    /** The same as `on`. */
    addListener: this["on"];
    /** The same as `on`. */
    addEventListener: this["on"];
    /** The same as `off`. */
    removeListener: this["off"];
    /** The same as `off`. */
    removeEventListener: this["off"];
    /** The same as `off`. */
    removeAllListeners: this["off"];
}

declare type Binary = ArrayBuffer | ArrayBufferView | Blob;

declare const protocol = 5;
declare interface Packet {
    type: number;
    nsp: string;
    data?: any;
    id?: number;
    options?: {
        compress?: boolean;
    };
}
/** What one Engine.IO message holds. */
declare type Message = string | Binary;
/** Writes packets. */
declare class Encoder {
    /** Give the messages of a packet: the text, then its attachments. */
    encode({ type, nsp, data, id }: Packet): Message[];
}
/** Reads packets: event `decoded` for each. */
declare class Decoder extends Emitter<{}, {}, {
    decoded: (packet: Packet) => void;
}> {
    /** Take one message; throws when it breaks the protocol. */
    add(message: Message): void;
    /** Forget a packet whose attachments have not come. */
    destroy(): void;
}

declare interface EnginePacket {
    type: string;
    data?: Message;
}

/** What a transport tells: it is open, a packet came, it can write again, it failed, it is closed. */
declare type TransportEvent = "open" | "packet" | "drain" | "error" | "close";
/** Why a transport closed. */
declare interface CloseDetails {
    description: string;
    context?: unknown;
}
/** An error of a transport: the status of the answer, or what the platform told. */
declare interface TransportError extends Error {
    type: "TransportError";
    description?: unknown;
    context?: unknown;
}
/** One way to carry packets. */
declare interface Transport {
    readonly name: string;
    /** Whether packets may be sent now. */
    writable: boolean;
    /** Called with what happens. */
    _handle: (event: TransportEvent, detail?: any) => void;
    open(): void;
    /** Send packets; "drain" tells when the next may follow. */
    send(packets: EnginePacket[]): void;
    close(): void;
    /** Finish what is under way and begin nothing more. */
    pause?(): Promise<unknown>;
    /** Go on after a pause. */
    resume?(): void;
}
declare interface TransportClass {
    new (engine: Engine, options: Record<string, any>): Transport;
    readonly prototype: {
        readonly name: string;
    };
}

declare class PollingTransport implements Transport {
    readonly name: string;
    writable: boolean;
    _handle: Transport["_handle"];
    constructor(_engine: Engine, _options: Record<string, any>);
    open(): void;
    send(packets: EnginePacket[]): void;
    pause(): Promise<unknown>;
    resume(): void;
    close(): void;
}

declare class WebSocketTransport implements Transport {
    readonly name: string;
    writable: boolean;
    _handle: Transport["_handle"];
    constructor(_engine: Engine, _options: Record<string, any>);
    open(): void;
    send(packets: EnginePacket[]): void;
    close(): void;
}

declare interface EngineOptions {
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
declare interface EngineEvents {
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
declare class Engine extends Emitter<{}, {}, EngineEvents> {
    id?: string;
    readyState: "opening" | "open" | "closing" | "closed";
    /** Whether it is about to change its transport: nothing is written meanwhile. */
    upgrading: boolean;
    writeBuffer: EnginePacket[];
    transport: Transport;
    readonly secure: boolean;
    readonly opts: EngineOptions;
    constructor(uri: string | undefined, opts: EngineOptions);
    /** Send a message. */
    write(data: Message): this;
    /** The same as `write`. */
    send(data: Message): this;
    /** Close when all is written. */
    close(): this;
}

type PrependTimeoutError<T extends any[]> = {
    [K in keyof T]: T[K] extends (...args: infer Params) => infer Result ? (err: Error, ...args: Params) => Result : T[K];
};
/** Events whose acks get an error first, as after `timeout()`. */
declare type DecorateAcknowledgements<E> = {
    [K in keyof E]: E[K] extends (...args: infer Params) => infer Result ? (...args: PrependTimeoutError<Params>) => Result : E[K];
};
declare type Last<T extends any[]> = T extends [...infer _, infer L] ? L : any;
declare type AllButLast<T extends any[]> = T extends [...infer H, infer _] ? H : any[];
declare type FirstArg<T> = T extends (arg: infer Param) => infer _ ? Param : any;
declare interface SocketOptions {
    /** Sent when the namespace is joined; a function is asked each time. */
    auth?: {
        [key: string]: any;
    } | ((give: (data: object) => void) => void);
    /** How often an event is sent again that was not acknowledged in time; with it, events go one after another. */
    retries?: number;
    /** How long an ack may take, in milliseconds; for ever unless told. */
    ackTimeout?: number;
}
declare type DisconnectDescription = Error | CloseDetails;
declare interface SocketReservedEvents {
    connect: () => void;
    connect_error: (err: Error & {
        data?: any;
        description?: any;
        context?: any;
    }) => void;
    disconnect: (reason: Socket.DisconnectReason, description?: DisconnectDescription) => void;
}
declare interface Ack extends AnyListener {
    /** Its first argument is an error, or null. */
    _withError?: boolean;
}
declare class Socket<ListenEvents extends EventsMap = DefaultEventsMap, EmitEvents extends EventsMap = ListenEvents> extends Emitter<ListenEvents, EmitEvents, SocketReservedEvents> {
    /** The connection, which other namespaces may share. */
    readonly io: Manager<ListenEvents, EmitEvents>;
    /** What the server calls this socket; undefined while disconnected. */
    id: string | undefined;
    /** Whether the server has accepted it. */
    connected: boolean;
    /** Whether the last reconnection restored the state, and no event was missed. */
    recovered: boolean;
    /** Whether it is connected, or will connect by itself. */
    active: boolean;
    /** Sent when the namespace is joined; a function is asked each time. */
    auth: SocketOptions["auth"];
    /** Events that came before the server accepted the socket. */
    receiveBuffer: ReadonlyArray<any>[];
    /** Events that wait for the connection. */
    sendBuffer: Packet[];
    /** The namespace. */
    readonly nsp: string;
    constructor(io: Manager<ListenEvents, EmitEvents>, nsp: string, opts?: Partial<SocketOptions>);
    /** Whether the server has not accepted it. */
    get disconnected(): boolean;
    /** Connect. */
    connect(): this;
    /** The same as `connect`. */
    open(): this;
    /** Leave the namespace; the last one closes the connection. */
    disconnect(): this;
    /** The same as `disconnect`. */
    close(): this;
    /** Emit the event "message". */
    send(...args: any[]): this;
    /** Send an event. A function as last argument gets the answer. */
    emit<Ev extends EventNames<EmitEvents>>(ev: Ev, ...args: EventParams<EmitEvents, Ev>): this;
    /** Send an event and wait for its answer. */
    emitWithAck<Ev extends EventNames<EmitEvents>>(ev: Ev, ...args: AllButLast<EventParams<EmitEvents, Ev>>): Promise<FirstArg<Last<EventParams<EmitEvents, Ev>>>>;
    /** Let the next event be compressed, or not. A browser decides by itself. */
    compress(compress: boolean): this;
    /** Drop the next event if it cannot be sent now. */
    get volatile(): this;
    /** Give the ack of the next event this time, in milliseconds; it gets an error first, or null. */
    timeout(timeout: number): Socket<ListenEvents, DecorateAcknowledgements<EmitEvents>>;
    /** Add a listener of every event that comes. */
    onAny(listener: AnyListener): this;
    /** Add one that is called before the others. */
    prependAny(listener: AnyListener): this;
    /** Remove one of them, or all. */
    offAny(listener?: AnyListener): this;
    /** Give them. */
    listenersAny(): AnyListener[];
    /** Add a listener of every event that goes. */
    onAnyOutgoing(listener: AnyListener): this;
    /** Add one that is called before the others. */
    prependAnyOutgoing(listener: AnyListener): this;
    /** Remove one of them, or all. */
    offAnyOutgoing(listener?: AnyListener): this;
    /** Give them. */
    listenersAnyOutgoing(): AnyListener[];
}
declare namespace Socket {
    type DisconnectReason = "io server disconnect" | "io client disconnect" | "ping timeout" | "transport close" | "transport error" | "parse error";
}

declare interface ManagerOptions extends EngineOptions {
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
declare interface ManagerReservedEvents {
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
declare interface Manager<ListenEvents extends EventsMap, EmitEvents extends EventsMap> {
    reconnection: Accessor<boolean, this>;
    reconnectionAttempts: Accessor<number, this>;
    reconnectionDelay: Accessor<number, this>;
    reconnectionDelayMax: Accessor<number, this>;
    randomizationFactor: Accessor<number, this>;
    timeout: Accessor<number | false, this>;
}
declare class Manager<ListenEvents extends EventsMap = DefaultEventsMap, EmitEvents extends EventsMap = ListenEvents> extends Emitter<{}, {}, ManagerReservedEvents> {
    /** The connection underneath. */
    engine: Engine;
    readonly opts: Partial<ManagerOptions>;
    constructor(opts: Partial<ManagerOptions>);
    constructor(uri?: string, opts?: Partial<ManagerOptions>);
    constructor(uri?: string | Partial<ManagerOptions>, opts?: Partial<ManagerOptions>);
    /** Connect, unless that is under way or done. */
    open(done?: (error?: Error) => void): this;
    /** The same as `open`. */
    connect(done?: (error?: Error) => void): this;
    /** Give the socket of a namespace. */
    socket(nsp: string, opts?: Partial<SocketOptions>): Socket<ListenEvents, EmitEvents>;
    /** Close the connection, and with it all sockets. */
    disconnect(): void;
}

/** A header's value, or a function that is asked for it whenever a request is sent. */
declare type HeaderValue = string | number | boolean | null | undefined | (() => string | number | boolean | null | undefined);
/** Headers by name, or a function that is asked for them whenever a request is sent. */
declare type RequestHeaders = Record<string, HeaderValue> | (() => Record<string, HeaderValue>);
declare interface RequestLimits {
    /** Headers of this request, beside those of the socket. */
    headers?: RequestHeaders;
    /** How long to wait for the answer, in milliseconds, from now; for ever unless told. */
    timeout?: number;
    /** Gives up waiting. The server is not told. */
    signal?: AbortSignal;
}
declare interface RequestOptions extends RequestLimits {
    url: string;
    /** "get" unless told. */
    method?: string;
    /** The body; of a GET, HEAD or DELETE the query. */
    data?: object | Binary | null;
    /** The same as `data`. */
    params?: object | Binary | null;
}
/** Called with the body of an answer, or with an error when none came. */
declare type RequestCallback = (body: any, jwr: JWR) => void;
/** The answer to a socket request. */
declare class JWR {
    body: any;
    headers: Record<string, string>;
    /** The HTTP status; 0 when there was no answer. */
    statusCode: number;
    /** Present when there was no answer, or when its status is below 200 or from 400 on. */
    error?: Error;
    constructor(answer: {
        body?: any;
        headers?: Record<string, string>;
        statusCode?: number;
        status?: number;
    }, error?: Error);
    /** Whether the status is one of success, or of a redirection. */
    get ok(): boolean;
    toString(): string;
    toPOJO(): {
        body: any;
        headers: Record<string, string>;
        statusCode: number;
    };
    pipe(): Error;
}

/** What a socket can be told; what it is not told it takes from `io.sails` when it connects. */
declare interface SailsOptions {
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
declare interface Sails extends SailsOptions {
    /** Whether `io.socket` connects by itself once it is used; true unless told. */
    autoConnect: boolean;
    /** "production" lets the console be silent. */
    environment: string;
    /** What the server is told of this client. */
    sdk: {
        version: string;
        language: string;
        platform: string;
        versionString: string;
    };
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
declare const VERBS: readonly ["get", "post", "put", "patch", "delete", "head", "options"];
declare interface SailsSocket extends SailsOptions, Record<(typeof VERBS)[number], Verb> {
}
/** A socket that sends requests to the routes of the server's app. */
declare class SailsSocket extends Emitter<any, any> {
    /** The socket underneath, once it has begun to connect. */
    _raw?: Socket;
    constructor(io: IO, options?: SailsOptions);
    /** Tell whether it is connected. */
    isConnected(): boolean;
    /** Tell whether it connects for the first time since it was told to. */
    isConnecting(): boolean;
    /** Tell whether it will connect by itself at the end of this turn. */
    mightBeAboutToAutoConnect(): boolean;
    /** Connect again after a disconnection. */
    reconnect(): this;
    /** Disconnect, and do not try again. */
    disconnect(): this;
    /** Send what waits for the connection. */
    replay(): this;
    /** Send an event of Socket.IO to the server. */
    emit(event: string | symbol, ...args: any[]): this;
    /**
     * Send a request.
     *
     * While the socket is not connected it waits. The promise gives the answer, whatever its status; it is rejected when none can come.
     */
    request(options: RequestOptions, callback?: RequestCallback): Promise<JWR>;
    /** Send a request by the interface of the global `fetch`. */
    fetch(input: string | URL | Request, init?: RequestInit): Promise<Response>;
    /** Begin to connect. */
    _connect(): this;
}

type Options = Partial<ManagerOptions & SocketOptions>;
declare interface IO {
    /** Give the socket of a namespace of a server; it connects at once unless told not to. */
    <ListenEvents extends EventsMap = DefaultEventsMap, EmitEvents extends EventsMap = ListenEvents>(opts?: Options): Socket<ListenEvents, EmitEvents>;
    <ListenEvents extends EventsMap = DefaultEventsMap, EmitEvents extends EventsMap = ListenEvents>(uri: string, opts?: Options): Socket<ListenEvents, EmitEvents>;
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
declare const io: IO;

export type { Ack, AllButLast, AnyListener, Binary, CloseDetails, Decoder, DecorateAcknowledgements, DefaultEventsMap, DisconnectDescription, Emitter, Encoder, Engine, EngineEvents, EngineOptions, EnginePacket, EventNames, EventParams, EventsMap, FirstArg, HeaderValue, IO, Last, ManagerOptions, ManagerReservedEvents, Message, Packet, RequestCallback, RequestHeaders, RequestLimits, RequestOptions, ReservedOrUserEventNames, ReservedOrUserListener, Sails, SailsOptions, SocketOptions, SocketReservedEvents, Transport, TransportClass, TransportError, TransportEvent };
export { io, io as connect, io as default, JWR, Manager, protocol, SailsSocket, Socket };
export { PollingTransport as Fetch, PollingTransport as XHR, PollingTransport as NodeXHR };
export { WebSocketTransport as WebSocket, WebSocketTransport as NodeWebSocket };
