// What the engine and its transports say to each other.

import type { Engine } from "./engine.js";
import type { EnginePacket } from "./payload.js";

/** What a transport tells: it is open, a packet came, it can write again, it failed, it is closed. */
export type TransportEvent = "open" | "packet" | "drain" | "error" | "close";

/** Why a transport closed. */
export interface CloseDetails {
  description: string;
  context?: unknown;
}

/** An error of a transport: the status of the answer, or what the platform told. */
export interface TransportError extends Error {
  type: "TransportError";
  description?: unknown;
  context?: unknown;
}

/** One way to carry packets. */
export interface Transport {
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

export interface TransportClass {
  new (engine: Engine, options: Record<string, any>): Transport;
  readonly prototype: { readonly name: string };
}

export function transportError(message: string, description?: unknown, context?: unknown): TransportError {
  return Object.assign(new Error(message), { type: "TransportError" as const, description, context });
}
