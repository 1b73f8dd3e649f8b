"""The ASGI scope of a socket request, and the way back from a request to its socket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from mizzen.virtual.cookies import Header, read_cookies
from mizzen.virtual.headers import FRAMING, encode_headers, is_pinned

if TYPE_CHECKING:
    from mizzen.types import Handshake, Scope
    from mizzen.virtual.request import SocketRequest

SOCKET_EXTENSION = "mizzen.socket"
"""The key in `scope["extensions"]` that holds the socket which a request came by."""

_SCHEMES = {"ws": "http", "wss": "https"}
# An answer that the app compressed for the browser's WebSocket would arrive compressed at the script.
_HANDSHAKE_ONLY = FRAMING | {b"accept-encoding"}
_HANDSHAKE_ONLY_PREFIXES = (b"sec-websocket-", b"content-")
_BODY_EXPECTED = frozenset(("POST", "PUT", "PATCH"))
_KEPT = "socket requests"


class Kept:
    """What the requests of one handshake have in common.

    `root_path` is that of the app that answers, which may be another than the handshake's; `state` what a lifespan left that is not ours.
    """

    __slots__ = ("cookie", "fields", "headers", "raw_root_path", "refuses_cookies", "root_path", "state")

    def __init__(self, handshake: Handshake, root_key: str) -> None:
        connection = handshake.scope
        scheme = connection.get("scheme", "http")
        self.root_path: str = connection.get(root_key, "")
        self.raw_root_path: bytes = quote(self.root_path).encode("ascii")
        self.state: Mapping[str, Any] | None = connection.get("state")
        # Every key of a scope, so that a copy has room for all of them.
        self.fields: dict[str, Any] = {
            "type": "http",
            "asgi": None,
            "http_version": "1.1",
            "method": None,
            "scheme": _SCHEMES.get(scheme, scheme),
            "path": None,
            "raw_path": None,
            "query_string": None,
            "root_path": self.root_path,
            "headers": None,
            "client": connection.get("client"),
            "server": connection.get("server"),
            "extensions": None,
        }
        self.headers: list[Header] = [
            (name, value)
            for name, value in connection["headers"]
            if name not in _HANDSHAKE_ONLY and not name.startswith(_HANDSHAKE_ONLY_PREFIXES)
        ]
        cookie, refuses = read_cookies(self.headers)
        self.cookie: bytes = cookie
        self.refuses_cookies: bool = refuses or (b"nosession" in connection["query_string"] and bool(handshake.query.get("nosession")))


def kept_of(handshake: Handshake, root_key: str) -> Kept:
    """Give what the requests of a handshake have in common; made with the first one, and kept with the handshake.

    `root_key` names the root path of the app that answers in the handshake's scope.
    """
    kept: Kept | None = handshake.__dict__.get(_KEPT)
    if kept is None:
        kept = handshake.__dict__[_KEPT] = Kept(handshake, root_key)
    return kept


def build_scope(
    kept: Kept,
    request: SocketRequest,
    socket: object,
    extra_headers: Mapping[str, str],
    state: Mapping[str, Any] | None,
    pinned: frozenset[bytes],
) -> Scope:
    """Build the HTTP scope (ASGI 3.0, specification 2.4) of one request: a new dict, since frameworks write into it.

    The headers are the handshake's, less those of the connection and of its own body; over them `extra_headers`, which the server set and
    may name anything; over those the message's, less pinned names (`pinned` comes from `headers.pin`). Address, host and scheme are the
    handshake's, as the middleware around the server left them. `state`, what the app's lifespan left, is copied so that one request does
    not see what another put there. Of the handshake's extensions none is passed on: they tell what its server can do, such as sending a
    file by path.
    """
    if extra_headers or request.headers:
        own = encode_headers(extra_headers) if extra_headers else {}
        for name, value in request.headers:
            if not is_pinned(name, pinned):
                own[name] = value
        headers = [header for header in kept.headers if header[0] not in own]
        headers += own.items()
    else:
        headers = kept.headers.copy()
    if request.body is not None:
        if request.content_type is not None:
            headers.append((b"content-type", request.content_type))
        headers.append((b"content-length", b"%d" % len(request.body)))
    elif request.method in _BODY_EXPECTED:
        # "a user agent SHOULD send Content-Length in a request when the method defines a meaning for enclosed content" (RFC 9110, 8.6)
        headers.append((b"content-length", b"0"))
    scope = kept.fields.copy()
    scope["asgi"] = {"version": "3.0", "spec_version": "2.4"}
    scope["method"] = request.method
    scope["path"] = kept.root_path + request.path
    scope["raw_path"] = kept.raw_root_path + request.raw_path
    scope["query_string"] = request.query
    scope["headers"] = headers
    scope["extensions"] = {SOCKET_EXTENSION: socket}
    if state is not None:
        scope["state"] = dict(state)
    return scope


def socket_of(source: object) -> object | None:
    """Give the socket that a request came by, or None when it came over HTTP.

    `source` is an ASGI scope, a WSGI environ made by a2wsgi, or the request object of Starlette, FastAPI, Litestar, Quart, Django or Flask
    (through a2wsgi). Anything else counts as HTTP.
    """
    if not isinstance(source, dict):
        scope = getattr(source, "scope", None)
        source = scope if scope is not None else getattr(source, "environ", source)
    if not isinstance(source, Mapping):
        return None
    scope = cast("Mapping[str, Any]", source)
    scope = scope.get("asgi.scope", scope)
    extensions = scope.get("extensions")
    return extensions.get(SOCKET_EXTENSION) if extensions else None
