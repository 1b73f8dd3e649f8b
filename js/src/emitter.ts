// Listeners by event name, with the methods and the types that users of socket.io-client know.

export interface EventsMap {
  [event: string]: any;
}

export interface DefaultEventsMap {
  [event: string]: (...args: any[]) => void;
}

export type EventNames<Map extends EventsMap> = keyof Map & (string | symbol);

export type EventParams<Map extends EventsMap, Ev extends EventNames<Map>> = Parameters<Map[Ev]>;

export type ReservedOrUserEventNames<Reserved extends EventsMap, User extends EventsMap> = EventNames<Reserved> | EventNames<User>;

export type ReservedOrUserListener<
  Reserved extends EventsMap,
  User extends EventsMap,
  Ev extends ReservedOrUserEventNames<Reserved, User>,
> = Ev extends EventNames<Reserved> ? Reserved[Ev] : Ev extends EventNames<User> ? User[Ev] : never;

export type AnyListener = (...args: any[]) => void;

interface Registered extends AnyListener {
  /** The listener that was given to `once`. */
  _given?: AnyListener;
}

/** Calls listeners by event name, in the order in which they were added. */
export class Emitter<ListenEvents extends EventsMap, EmitEvents extends EventsMap, ReservedEvents extends EventsMap = {}> {
  private _listeners: Record<PropertyKey, Registered[]> = Object.create(null);

  /** Add a listener. */
  on<Ev extends ReservedOrUserEventNames<ReservedEvents, ListenEvents>>(
    event: Ev,
    listener: ReservedOrUserListener<ReservedEvents, ListenEvents, Ev>,
  ): this {
    (this._listeners[event] ||= []).push(listener);
    return this;
  }

  /** Add a listener that is called once. */
  once<Ev extends ReservedOrUserEventNames<ReservedEvents, ListenEvents>>(
    event: Ev,
    listener: ReservedOrUserListener<ReservedEvents, ListenEvents, Ev>,
  ): this {
    const registered: Registered = (...args) => {
      this.off(event, registered as typeof listener);
      (listener as AnyListener).apply(this, args);
    };
    registered._given = listener;
    return this.on(event, registered as typeof listener);
  }

  /** Remove one listener, all of an event, or all. */
  off<Ev extends ReservedOrUserEventNames<ReservedEvents, ListenEvents>>(
    event?: Ev,
    listener?: ReservedOrUserListener<ReservedEvents, ListenEvents, Ev>,
  ): this {
    if (event === undefined) this._listeners = Object.create(null);
    else if (!listener) delete this._listeners[event];
    else {
      const all = this._listeners[event] || [];
      const index = all.findIndex((one) => one === listener || one._given === listener);
      if (index >= 0) all.splice(index, 1);
    }
    return this;
  }

  /** Call the listeners of an event. */
  emit<Ev extends EventNames<EmitEvents>>(event: Ev, ...args: EventParams<EmitEvents, Ev>): this {
    return this._fire(event, ...args);
  }

  /** Call the listeners of an event; a subclass may let `emit` do something else. */
  protected _fire(event: PropertyKey, ...args: unknown[]): this {
    this._listeners[event]?.slice().forEach((listener) => listener.apply(this, args));
    return this;
  }

  /** Give the listeners of an event. */
  listeners<Ev extends ReservedOrUserEventNames<ReservedEvents, ListenEvents>>(
    event: Ev,
  ): ReservedOrUserListener<ReservedEvents, ListenEvents, Ev>[] {
    return (this._listeners[event] || []).map((one) => one._given || one) as ReservedOrUserListener<ReservedEvents, ListenEvents, Ev>[];
  }

  /** Tell whether an event has listeners. */
  hasListeners<Ev extends ReservedOrUserEventNames<ReservedEvents, ListenEvents>>(event: Ev): boolean {
    return !!this._listeners[event]?.length;
  }
}

export interface Emitter<ListenEvents extends EventsMap, EmitEvents extends EventsMap, ReservedEvents extends EventsMap = {}> {
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

const methods = Emitter.prototype;
methods.addListener = methods.addEventListener = methods.on;
methods.removeListener = methods.removeEventListener = methods.removeAllListeners = methods.off;
