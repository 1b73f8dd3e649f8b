"""The `url` of a socket request: what a browser would put into the request line for it."""

from __future__ import annotations

import re
from string import ascii_letters, digits
from urllib.parse import quote, unquote

from mizzen.virtual.invalid import RequestInvalid, shown

_ABSOLUTE = re.compile(r"(?:https?|wss?)://[^/?#]+", re.ASCII | re.IGNORECASE)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PATH_SAFE = "%/:@!$&'()*+,;=~"
_QUERY_SAFE = _PATH_SAFE + "?[]"


def _leaving(safe: str) -> bytes:
    """Make the table for `bytes.translate` that leaves unreserved and `safe` characters, and these alone, as they are."""
    kept = (ascii_letters + digits + "-._~" + safe).encode()
    return bytes([code if code in kept else ord("/") for code in range(256)])


_PLAIN_PATH = _leaving(_PATH_SAFE.replace("%", ""))
_PLAIN_QUERY = _leaving(_QUERY_SAFE)


def parse_url(url: object) -> tuple[str, bytes, bytes]:
    """Cut a URL into the decoded path, the path as it travels and the query, as the ASGI scope has them.

    An absolute URL counts for its path and query only: the host is the handshake's. The fragment is dropped, dot segments (`%2e` too) are
    resolved as browsers do, and what may not stand in a URL is percent-encoded as UTF-8. Raises `RequestInvalid` for everything that HTTP
    could not carry: no leading slash, control characters, an escape in the path that is none.
    """
    if not isinstance(url, str) or not url:
        raise RequestInvalid(f"Invalid url: {shown(url)}. A request needs a `url`, a non-empty string such as '/users/7?full=1'.")
    if url[0] == "/" and "/." not in url and url.isascii():
        plain, _, rest = url.partition("?") if "?" in url else (url, "", "")
        raw_path, query = plain.encode(), rest.encode()
        # Nothing to decode, to encode or to normalise: nearly every URL that is sent.
        if raw_path.translate(_PLAIN_PATH) == raw_path and (not query or query.translate(_PLAIN_QUERY) == query):
            return plain, raw_path, query
    if control := _CONTROL.search(url):
        raise RequestInvalid(f"Invalid url: {shown(url)} holds the control character {control.group()!r}. Percent-encode it.")
    target = url.partition("#")[0]
    if absolute := _ABSOLUTE.match(target):
        target = target[absolute.end() :]
        if not target.startswith("/"):
            target = "/" + target
    if not target.startswith("/"):
        raise RequestInvalid(f"Invalid url: {shown(url)}. A path starts with a slash, an absolute URL with http:// and a host.")
    path, _, query = target.partition("?")
    if bad := _BAD_ESCAPE.search(path):
        raise RequestInvalid(
            f"Invalid url: {shown(path[bad.start() : bad.start() + 3])} in {shown(url)} is not a percent escape. Send a literal % as %25."
        )
    raw = remove_dot_segments(quote(utf8(path), _PATH_SAFE))
    # ASGI servers put U+FFFD where the escapes are not UTF-8 and pass the query on as it came: so does this.
    return unquote(raw), raw.encode("ascii"), quote(utf8(query), _QUERY_SAFE).encode("ascii")


def remove_dot_segments(path: str) -> str:
    """Resolve `.` and `..` in a path that starts with a slash (RFC 3986, 5.2.4); `%2e` counts as a dot, as it does in browsers."""
    if "/." not in path and "/%2" not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")[1:]
    last = len(segments) - 1
    for index, segment in enumerate(segments):
        dots = segment.replace("%2e", ".").replace("%2E", ".")
        if dots not in (".", ".."):
            kept.append(segment)
            continue
        if dots == ".." and kept:
            kept.pop()
        if index == last:
            kept.append("")
    return "/" + "/".join(kept)


def utf8(text: str) -> bytes:
    """Encode a string that came from JavaScript: a lone surrogate becomes U+FFFD, as in every URL and form that a browser sends."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()
