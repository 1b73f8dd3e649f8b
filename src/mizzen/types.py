"""Types that several layers share: JSON values, ASGI, close reasons, the handshake."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from email.utils import formatdate
from enum import StrEnum
from functools import cached_property
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl, urlsplit

JSON: TypeAlias = Any
"""A value as it travels: None, bool, int, float, str, bytes, a list of such or a dict from str to such."""

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]
"""An ASGI app, called with a Scope, a Receive and a Send; frameworks have types of their own for these, which no common one fits."""


VERBS: Final[Mapping[str, str]] = {verb: verb.upper() for verb in ("get", "post", "put", "patch", "delete", "head", "options")}
"""The events that are socket requests, and the HTTP methods that they stand for."""

TOKEN: Final[re.Pattern[str]] = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII)
"""What the name of a header, or of a cookie, is made of (RFC 9110, 5.6.2; RFC 6265, 4.1.1)."""

NOT_IN_HEADERS: Final[re.Pattern[str]] = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|[^\x00-\xff]")
"""What may not stand in the value of a header: control characters, and what is beyond Latin-1, which is how ASGI servers write headers."""


class Reason(StrEnum):
    """Why a connection or a socket ended: the strings that JavaScript users know."""

    TRANSPORT_CLOSE = "transport close"
    TRANSPORT_ERROR = "transport error"
    PING_TIMEOUT = "ping timeout"
    PARSE_ERROR = "parse error"
    FORCED_CLOSE = "forced close"
    FORCED_SERVER_CLOSE = "forced server close"
    SERVER_SHUTTING_DOWN = "server shutting down"
    SERVER_NAMESPACE_DISCONNECT = "server namespace disconnect"
    CLIENT_NAMESPACE_DISCONNECT = "client namespace disconnect"
    IO_SERVER_DISCONNECT = "io server disconnect"
    IO_CLIENT_DISCONNECT = "io client disconnect"


class RoomEvent(StrEnum):
    """What happens to a room: the names of the events of a Node adapter."""

    CREATE = "create-room"
    DELETE = "delete-room"
    JOIN = "join-room"
    LEAVE = "leave-room"


def parse_query(query_string: bytes) -> dict[str, str]:
    """Give the query of a URL; of a repeated name the last value."""
    query = query_string.decode("latin-1")
    if "%" in query or "+" in query:
        return dict(parse_qsl(query, keep_blank_values=True))
    # Nothing is quoted, as in nearly every request, so that all there is to do is to split: a fifth of what parse_qsl takes.
    fields: dict[str, str] = {}
    for pair in query.split("&"):
        if pair:
            name, _, value = pair.partition("=")
            fields[name] = value
    return fields


def origin_of(url: str) -> str:
    """Give the origin of a page, as a browser would in the header Origin: "null" where its URL has none.

    For requests that have no such header but a Referer.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return "null"
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}" if parts.scheme and host else "null"


class Handshake:
    """What the client sent when it opened the connection.

    `url` is path and query; `address` the client's host as the ASGI server reports it; `xdomain` whether an Origin header came; `secure`
    whether TLS reached this server or a proxy that the server trusts; `issued` the time in seconds since the epoch; `auth` what came
    with the CONNECT packet (None in `allow_request`, which is asked before any). `scope` is the ASGI scope; that of a client which is
    connected to another node of a cluster is empty.
    """

    def __init__(self, scope: Mapping[str, Any], auth: JSON = None) -> None:
        self.scope = scope
        self.auth = auth
        self.issued: float = time.time()

    def with_auth(self, auth: JSON) -> Handshake:
        """Give the handshake of one socket of this connection."""
        copy = Handshake.__new__(Handshake)
        copy.__dict__.update(self.__dict__)
        copy.auth = auth
        return copy

    @cached_property
    def headers(self) -> Mapping[str, str]:
        """The HTTP headers: names in lower case, repeated ones joined by a comma (cookies by a semicolon)."""
        headers: dict[str, str] = {}
        for raw_name, raw_value in self.scope["headers"]:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            if name in headers:
                value = headers[name] + ("; " if name == "cookie" else ", ") + value
            headers[name] = value
        return headers

    @cached_property
    def query(self) -> Mapping[str, str]:
        """The query of the URL; of a repeated name the last one."""
        return parse_query(self.scope["query_string"])

    @cached_property
    def url(self) -> str:
        path: str = self.scope["path"]
        query: str = self.scope["query_string"].decode("latin-1")
        return f"{path}?{query}" if query else path

    @cached_property
    def address(self) -> str | None:
        client = self.scope.get("client")
        return client[0] if client else None

    @cached_property
    def secure(self) -> bool:
        return self.scope.get("scheme") in ("https", "wss")

    @cached_property
    def xdomain(self) -> bool:
        return "origin" in self.headers

    def details(self) -> dict[str, JSON]:
        """Give what nodes of a cluster tell each other: the fields of the Node server, times in milliseconds."""
        return {
            "headers": dict(self.headers),
            "time": formatdate(self.issued),
            "address": self.address,
            "xdomain": self.xdomain,
            "secure": self.secure,
            "issued": round(self.issued * 1000),
            "url": self.url,
            "query": dict(self.query),
            "auth": self.auth,
        }

    @classmethod
    def from_details(cls, details: Mapping[str, JSON]) -> Handshake:
        """Make the handshake of a client of another node from what `details` gave there."""
        handshake = cls({}, details.get("auth"))
        handshake.issued = details.get("issued", 0) / 1000
        known: dict[str, JSON] = {"headers": {}, "query": {}, "url": "", "address": None, "secure": False, "xdomain": False}
        handshake.__dict__.update({name: details.get(name, default) for name, default in known.items()})
        return handshake
