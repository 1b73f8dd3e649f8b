// Socket requests: an HTTP request that goes as an event, and its answer that comes as the ack.

import { type Binary, isBinary } from "./binary.js";
import { isDictionary } from "./codec.js";

/** A header's value, or a function that is asked for it whenever a request is sent. */
export type HeaderValue = string | number | boolean | null | undefined | (() => string | number | boolean | null | undefined);

/** Headers by name, or a function that is asked for them whenever a request is sent. */
export type RequestHeaders = Record<string, HeaderValue> | (() => Record<string, HeaderValue>);

export interface RequestLimits {
  /** Headers of this request, beside those of the socket. */
  headers?: RequestHeaders;
  /** How long to wait for the answer, in milliseconds, from now; for ever unless told. */
  timeout?: number;
  /** Gives up waiting. The server is not told. */
  signal?: AbortSignal;
}

export interface RequestOptions extends RequestLimits {
  url: string;
  /** "get" unless told. */
  method?: string;
  /** The body; of a GET, HEAD or DELETE the query. */
  data?: object | Binary | null;
  /** The same as `data`. */
  params?: object | Binary | null;
}

/** Called with the body of an answer, or with an error when none came. */
export type RequestCallback = (body: any, jwr: JWR) => void;

/** The answer to a socket request. */
export class JWR {
  body: any;
  headers: Record<string, string>;
  /** The HTTP status; 0 when there was no answer. */
  statusCode: number;
  /** Present when there was no answer, or when its status is below 200 or from 400 on. */
  error?: Error;

  constructor(answer: { body?: any; headers?: Record<string, string>; statusCode?: number; status?: number }, error?: Error) {
    this.body = answer.body;
    this.headers = answer.headers || {};
    // what Sails could not read it answers without a statusCode, but with a status
    this.statusCode = answer.statusCode ?? answer.status ?? 200;
    if (error) this.error = error;
    else if (!this.ok) {
      this.error = new Error(
        `Server responded with a ${this.statusCode} status code:\n\`\`\`\n${JSON.stringify(this.body, null, 2)}\n\`\`\``,
      );
    }
  }

  /** Whether the status is one of success, or of a redirection. */
  get ok(): boolean {
    return this.statusCode >= 200 && this.statusCode < 400;
  }

  toString(): string {
    return `[ResponseFromSails]  -- Status: ${this.statusCode}  -- Headers: ${this.headers}  -- Body: ${this.body}`;
  }

  toPOJO(): { body: any; headers: Record<string, string>; statusCode: number } {
    const { body, headers, statusCode } = this;
    return { body, headers, statusCode };
  }

  pipe(): Error {
    return new Error("Streaming is not implemented.");
  }
}

/** Throw what is wrong with the arguments of a request. */
export function check(options: RequestOptions, callback: unknown): void {
  const { url, method, headers, params, data } = options;
  const must = (holds: unknown, problem: string) => {
    if (!holds) throw new TypeError(`${problem}\nUsage: socket.request({ url, method, data, headers }, [callback])`);
  };
  const isObject = (value: unknown) => !value || typeof value === "object";
  const invalid = (name: string) => `Invalid \`${name}\` provided (should be a `;
  must(callback === undefined || typeof callback === "function", "Invalid callback function!");
  must(url && typeof url === "string", "Invalid or missing URL!");
  must(!method || typeof method === "string", invalid("method") + 'string like "post" or "put")');
  must(!headers || typeof headers === "function" || isDictionary(headers), invalid("headers") + "dictionary with string values)");
  must(isObject(params), invalid("params") + "dictionary with JSON-serializable values)");
  must(isObject(data), invalid("data") + "dictionary with JSON-serializable values)");
  must(!params || !data, "Cannot specify both `params` and `data`!  They are aliases of each other.");
}

/** Give the headers of a request, with those of its socket that it does not name itself. */
export function mergeHeaders(...all: (RequestHeaders | undefined)[]): Record<string, unknown> {
  const merged: Record<string, unknown> = {};
  for (const headers of all) Object.assign(merged, typeof headers === "function" ? headers() : headers);
  for (const name in merged) {
    const value = merged[name];
    if (typeof value === "function") merged[name] = value();
  }
  return merged;
}

const isJson = (headers: Record<string, string>) => /[/+]json\b/.test(headers["content-type"]);

/** Give the options of the socket request that says what a `Request` says. */
export async function fromRequest(request: Request): Promise<RequestOptions> {
  const { method, url, signal } = request;
  const { pathname, search } = new URL(url);
  const headers = Object.fromEntries(request.headers);
  const bytes = await request.arrayBuffer();
  let data: object | undefined = bytes.byteLength ? bytes : undefined;
  if (data && isJson(headers)) {
    const value = JSON.parse(new TextDecoder().decode(bytes));
    if (value && typeof value === "object") data = value;
  }
  return { method, url: pathname + search, headers, data, signal };
}

/** Give the `Response` that says what an answer says. */
export function toResponse({ body, headers, statusCode }: JWR): Response {
  // these have none by definition, and `Response` insists on it
  const none = body === undefined || [204, 205, 304].includes(statusCode);
  const plain = isBinary(body) || (typeof body === "string" && !isJson(headers));
  return new Response(none ? null : plain ? (body as BodyInit) : JSON.stringify(body), { status: statusCode, headers });
}
