"""The cookies of one socket: what answers set goes along with its later requests, as in a browser (RFC 6265).

`http.cookies` is of no use here: it reads the Cookie header, not Set-Cookie; it drops all of a header in which one value offends it; and
paths, lifetimes and limits would be ours to add all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from email.utils import mktime_tz, parsedate_tz

MAX_COOKIES = 50
"""How many cookies one socket keeps; the one that was set the longest ago has to go (RFC 6265, 6.1: at least 50)."""

MAX_COOKIE_BYTES = 4096
"""How long name and value may be together; a longer cookie is not kept (RFC 6265, 6.1: at least 4096)."""

Header = tuple[bytes, bytes]

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_MAX_AGE = re.compile(rb"(-?)(\d+)")
_SPACE = b" \t"
_FOREVER = float("inf")


class CookieJar:
    """Keeps what Set-Cookie said; where a name is in the jar too, the handshake's cookie is not sent any more.

    All is for one host, the handshake's, by one client: `Domain` does not matter (behind a proxy that rewrites `Host` it cannot be
    checked), nor do `Secure`, `HttpOnly` and `SameSite`, which speak of other hosts, of scripts and of other sites. A cookie of the
    handshake that was deleted or replaced stays so: what hides it is never dropped.
    """

    __slots__ = ("_cookies",)

    def __init__(self) -> None:
        # (name, path) → (value, when it ends); a value of None hides the handshake's cookie of that name.
        self._cookies: dict[tuple[bytes, bytes], tuple[bytes | None, float]] = {}

    def __len__(self) -> int:
        """How many cookies are kept, those that only hide one of the handshake not counted."""
        return sum(value is not None for value, _ in self._cookies.values())

    def store(self, set_cookie: bytes, path: bytes, now: float, handshake: bytes) -> None:
        """Take a Set-Cookie header that answered a request to `path`.

        `now` is the time in seconds since the epoch, `handshake` the cookie header that the client itself sends. What is no cookie is
        ignored, as in browsers.
        """
        parsed = _parse(set_cookie)
        if parsed is None:
            return
        name, value, attributes = parsed
        scope = attributes.get(b"path", b"")
        key = (name, scope if scope.startswith(b"/") else _default_path(path))
        end = _end(attributes, now)
        self._cookies.pop(key, None)
        if end <= now:
            self._hide(key, handshake)
            return
        self._cookies[key] = (value, end)
        if len(self._cookies) > MAX_COOKIES:
            self._make_room(now, handshake)

    def _hide(self, key: tuple[bytes, bytes], handshake: bytes) -> None:
        if any(name == key[0] for name, _ in _pairs(handshake)):
            self._cookies[key] = (None, _FOREVER)

    def _make_room(self, now: float, handshake: bytes) -> None:
        alive = [key for key, (value, _) in self._cookies.items() if value is not None]
        ended = [key for key in alive if self._cookies[key][1] <= now]
        for key in ended or alive[: max(0, len(alive) - MAX_COOKIES)]:
            del self._cookies[key]
            self._hide(key, handshake)

    def merge(self, handshake: bytes, path: bytes, now: float) -> bytes:
        """Give the cookie header of a request to `path`: the handshake's cookies that the jar does not name, then its own."""
        chosen = [
            (scope, name, value if now < end else None) for (name, scope), (value, end) in self._cookies.items() if _matches(path, scope)
        ]
        # "Cookies with longer paths are listed before cookies with shorter paths" (RFC 6265, 5.4)
        chosen.sort(key=lambda cookie: -len(cookie[0]))
        hidden = {name for _, name, _ in chosen}
        pairs = [pair for name, pair in _pairs(handshake) if name not in hidden]
        pairs += [name + b"=" + value for _, name, value in chosen if value is not None]
        return b"; ".join(pairs)


def read_cookies(headers: Iterable[Header]) -> tuple[bytes, bool]:
    """Give the cookie header of a request, its parts joined, and whether the header `nosession` asks for none."""
    cookie, refused = b"", False
    for name, value in headers:
        if name == b"cookie":
            cookie = cookie + b"; " + value if cookie else value
        elif name == b"nosession" and value:
            refused = True
    return cookie, refused


def with_cookies(headers: Sequence[Header], cookie: bytes) -> list[Header]:
    """Give headers with this cookie header, or, if it is empty, with none."""
    kept = [header for header in headers if header[0] != b"cookie"]
    if cookie:
        kept.append((b"cookie", cookie))
    return kept


def _pairs(cookie: bytes) -> list[Header]:
    """Cut a cookie header into names and `name=value`."""
    return [(pair.partition(b"=")[0].strip(_SPACE), pair.strip(_SPACE)) for pair in cookie.split(b";") if pair.strip(_SPACE)]


def _parse(set_cookie: bytes) -> tuple[bytes, bytes, dict[bytes, bytes]] | None:
    if _CONTROL.search(set_cookie):
        return None
    pair, *rest = set_cookie.split(b";")
    raw_name, equals, raw_value = pair.partition(b"=")
    name, value = raw_name.strip(_SPACE), raw_value.strip(_SPACE)
    if not equals or not name or len(name) + len(value) > MAX_COOKIE_BYTES:
        return None
    attributes: dict[bytes, bytes] = {}
    for attribute in rest:
        key, _, said = attribute.partition(b"=")
        attributes[key.strip(_SPACE).lower()] = said.strip(_SPACE)  # the last of each counts (RFC 6265, 5.3)
    if len(attributes.get(b"path", b"")) > MAX_COOKIE_BYTES:
        return None
    return name, value, attributes


def _end(attributes: dict[bytes, bytes], now: float) -> float:
    # "If a cookie has both the Max-Age and the Expires attribute, the Max-Age attribute has precedence" (RFC 6265, 4.1.2.2)
    age = _MAX_AGE.fullmatch(attributes.get(b"max-age", b""))
    if age is not None:
        return 0.0 if age[1] else now + float(age[2][:15])
    expires = attributes.get(b"expires")
    if expires is None:
        return _FOREVER
    try:
        date = parsedate_tz(expires.decode("latin-1"))
        return _FOREVER if date is None else float(mktime_tz(date))
    except (ValueError, OverflowError, TypeError):  # a date that there is none of
        return _FOREVER


def _default_path(path: bytes) -> bytes:
    # RFC 6265, 5.1.4: up to, but not with, the last slash
    return path[: path.rfind(b"/")] or b"/"


def _matches(path: bytes, scope: bytes) -> bool:
    # RFC 6265, 5.1.4
    return path == scope or (path.startswith(scope) and (scope.endswith(b"/") or path[len(scope) : len(scope) + 1] == b"/"))
