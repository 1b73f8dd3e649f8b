// The parts of a URL, in the forms that socket.io-client takes.

export interface ParsedUrl {
  secure: boolean;
  /** With its port, unless that is the scheme's own. */
  host: string;
  /** The namespace. */
  path: string;
  query?: Record<string, string>;
}

/** Read a query string, or take what was read already. */
export function parseQuery(query: string | Record<string, any> | undefined): Record<string, any> | undefined {
  return typeof query === "string" ? Object.fromEntries(new URLSearchParams(query)) : query;
}

/** Read a URL; what is missing comes from the page's. The path is not encoded, as it names a namespace. */
export function parseUrl(url?: string): ParsedUrl {
  const page = globalThis.location;
  url ??= page.origin;
  if (/^\/(?!\/)/.test(url)) url = `//${page.host}${url}`;
  if (!/^\w+:\/\//.test(url)) url = `${page ? page.protocol : "https:"}//${url.replace(/^\/\//, "")}`;
  const [, scheme, authority, path, query] = /^(\w+):\/\/(?:[^/?#@]*@)?([^/?#]*)([^?#]*)(?:\?([^#]*))?/.exec(url)!;
  const secure = /[ps]s$/.test(scheme); // of https and wss
  const host = authority.replace(secure ? /:443$/ : /:80$/, "");
  return { secure, host, path: path || "/", query: parseQuery(query) };
}
