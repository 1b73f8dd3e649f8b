"""The options of a server: each one documented, checked, and frozen."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field, fields
from inspect import iscoroutinefunction
from typing import Literal, TypeAlias, cast

from mizzen.errors import OptionsError
from mizzen.types import ASGIApp, Handshake

Origins: TypeAlias = Literal["*"] | Collection[str] | Callable[[str], bool] | None
AllowRequest: TypeAlias = Callable[[Handshake], bool | Awaitable[bool | None] | None]
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\s]+")
DEFLATE_THRESHOLD = 1024
"""Bytes from which on messages are compressed with `per_message_deflate=True`, as in the Node server."""

TRANSPORTS_VARIABLE = "MIZZEN_TRANSPORTS"
"""The environment variable that says which transports a server offers whose code does not say it."""


def default_transports() -> Collection[str]:
    """Give the transports of a server whose code names none: those of the environment variable, else both."""
    named = os.environ.get(TRANSPORTS_VARIABLE, "")
    return tuple(each.strip() for each in named.split(",") if each.strip()) or ("polling", "websocket")


RequestsMode: TypeAlias = Literal["auto", "sails", False]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cookie:
    """The cookie that the polling handshake sets, for load balancers that route by it; its value is the connection's sid.

    `max_age` is in seconds; None makes a session cookie.
    """

    name: str = "io"
    path: str = "/"
    http_only: bool = True
    same_site: Literal["lax", "strict", "none"] | None = "lax"
    secure: bool = False
    max_age: int | None = None
    domain: str | None = None

    def header(self, sid: str) -> bytes:
        """Give the value of the Set-Cookie header."""
        parts = [f"{self.name}={sid}"]
        if self.max_age is not None:
            parts.append(f"Max-Age={self.max_age}")
        if self.domain:
            parts.append(f"Domain={self.domain}")
        if self.path:
            parts.append(f"Path={self.path}")
        if self.http_only:
            parts.append("HttpOnly")
        if self.secure:
            parts.append("Secure")
        if self.same_site:
            parts.append(f"SameSite={self.same_site.capitalize()}")
        return "; ".join(parts).encode("latin-1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """What `Server(app, …)` was given. Times are in seconds, sizes in bytes.

    Names and defaults are those of the Node server in snake_case, `max_payload` (maxHttpBufferSize), `cors_origins` (cors.origin) and
    `allow_eio3` (on here) excepted. `Server` documents each one.
    """

    path: str = "/socket.io"
    transports: Collection[str] = field(default_factory=default_transports)
    allow_upgrades: bool = True
    allow_eio3: bool = True
    ping_interval: float = 25.0
    ping_timeout: float = 20.0
    upgrade_timeout: float = 10.0
    connect_timeout: float = 45.0
    max_payload: int = 1_000_000
    max_attachments: int = 10
    max_buffer: int = 16 * 1024 * 1024
    max_handlers: int = 100
    max_namespaces: int = 100
    max_pending_acks: int = 10_000
    max_threads: int = 40
    cookie: Cookie | None = None
    cors_origins: Origins = None
    cors_credentials: bool = False
    cors_max_age: int | None = None
    allow_request: AllowRequest | None = None
    requests: RequestsMode = "auto"
    requests_to: ASGIApp | None = None
    max_requests: int | None = None
    max_response: int = 16 * 1024 * 1024
    request_timeout: float | None = None
    cancel_on_disconnect: bool = False
    pinned_headers: Collection[str] = ()
    send_response_headers: bool = True
    send_status_code: bool = True
    sails_cookie_path: str | None = "/__getcookie"
    close_grace: float = 10.0
    debug: bool = False
    per_message_deflate: bool | int = False

    def __post_init__(self) -> None:
        if not self.path.startswith("/") or not self.path.strip("/"):
            raise OptionsError(f"path={self.path!r}: expected an absolute path such as '/socket.io'")
        object.__setattr__(self, "path", self.path.rstrip("/"))
        transports = (self.transports,) if isinstance(self.transports, str) else tuple(self.transports)
        object.__setattr__(self, "transports", transports)
        if not transports or not set(transports) <= {"polling", "websocket"}:
            raise OptionsError(f"transports={transports!r}: expected 'polling', 'websocket' or both")
        for name in ("ping_interval", "ping_timeout", "upgrade_timeout", "connect_timeout", "close_grace"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
                raise OptionsError(f"{name}={value!r}: expected seconds")
            if value == 0 and name != "close_grace":
                raise OptionsError(f"{name}={value!r}: expected more than 0 seconds")
        for each in fields(self):
            if each.name.startswith("max_"):
                value = getattr(self, each.name)
                if not (value is None and each.default is None) and (not isinstance(value, int) or value < 1):
                    raise OptionsError(f"{each.name}={value!r}: expected a whole number, 1 or more")
        deflate: object = getattr(self, "per_message_deflate")  # noqa: B009 - anything may have been given
        if deflate is True:
            object.__setattr__(self, "per_message_deflate", DEFLATE_THRESHOLD)
        elif deflate is not False and (not isinstance(deflate, int) or deflate < 1):
            raise OptionsError(f"per_message_deflate={deflate!r}: expected True, False or the bytes from which on messages are compressed")
        limit = cast("object", self.request_timeout)
        if limit is not None and not (isinstance(limit, (int, float)) and 0 < limit < float("inf")):
            raise OptionsError(f"request_timeout={limit!r}: expected more than 0 seconds, or None for no limit")
        if self.sails_cookie_path is not None and not self.sails_cookie_path.startswith("/"):
            raise OptionsError(f"sails_cookie_path={self.sails_cookie_path!r}: expected a path such as '/__getcookie', or None for none")
        if self.requests not in ("auto", "sails", False):
            raise OptionsError(f"requests={self.requests!r}: expected 'auto', 'sails' or False")
        if isinstance(self.cors_origins, str) and self.cors_origins != "*":
            raise OptionsError(
                f"cors_origins={self.cors_origins!r}: expected '*', a list of origins or a function; did you mean [{self.cors_origins!r}]?"
            )
        if iscoroutinefunction(self.cors_origins):
            raise OptionsError(f"cors_origins={self.cors_origins!r}: expected a plain function; allow_request may be async")
        if self.cors_origins is not None and not callable(self.cors_origins) and self.cors_origins != "*":
            object.__setattr__(self, "cors_origins", frozenset(origin.lower() for origin in self.cors_origins))
            for origin in self.cors_origins:
                if origin == "*" or not _ORIGIN.fullmatch(origin):
                    raise OptionsError(f"cors_origins: {origin!r} is not an origin: expected scheme://host[:port] without a path")
