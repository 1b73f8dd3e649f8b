"""The options of a server: each one documented, checked, and frozen."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from inspect import iscoroutinefunction
from typing import Literal, TypeAlias, cast

from mizzen.errors import OptionsError
from mizzen.types import TOKEN, ASGIApp, Handshake

Origins: TypeAlias = Literal["*"] | Collection[str] | Callable[[str], bool] | None
AllowRequest: TypeAlias = Callable[[Handshake], bool | Awaitable[bool]]
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\s]+")
# RFC 6265, 4.1.1: the path is "any CHAR except CTLs or ';'"; browsers ignore one that does not start with "/" (5.2.4).
_COOKIE_PATH = re.compile(r"/[ -:<-~]*")
# A leading dot is ignored (RFC 6265, 5.2.3), and an underscore occurs in names of hosts though it may not.
_COOKIE_DOMAIN = re.compile(r"\.?[\w-]+(\.[\w-]+)*", re.ASCII)
_FILE_NAME = re.compile(r"[\w.@+-]+(/[\w.@+-]+)*", re.ASCII)
COMPRESSION_THRESHOLD = 1024
"""Bytes from which on `per_message_deflate=True` and `http_compression=True` compress, as in the Node server."""

TRANSPORTS_VARIABLE = "MIZZEN_TRANSPORTS"
"""The environment variable that says which transports a server offers whose code does not say it."""


def default_transports() -> Collection[str]:
    """Give the transports of a server whose code names none: those of the environment variable, else both."""
    named = os.environ.get(TRANSPORTS_VARIABLE, "")
    return tuple(each.strip() for each in named.split(",") if each.strip()) or ("polling", "websocket")


def check_counts(options: ConnectionStateRecovery | ServerOptions) -> None:
    """Raise OptionsError for a `max_…` that is no whole number of at least 1; None stands for no limit where it is the default."""
    for each in fields(options):
        value = getattr(options, each.name)
        if not each.name.startswith("max_") or isinstance(each.default, float) or (value is None and each.default is None):
            continue
        if not isinstance(value, int) or value < 1:
            raise OptionsError(f"{each.name}={value!r}: expected a whole number, 1 or more")


def check_cors_lists(options: ServerOptions) -> None:
    """Raise OptionsError for lists of methods and headers that could not stand in a CORS answer."""
    for name in ("cors_methods", "cors_allowed_headers", "cors_exposed_headers"):
        given: object = getattr(options, name)
        if given is None and name == "cors_allowed_headers":
            continue
        if isinstance(given, str) or not isinstance(given, Collection):
            raise OptionsError(f"{name}={given!r}: expected a list of names, such as [{given!r}]")
        for each in cast("Collection[object]", given):
            if not isinstance(each, str) or not TOKEN.fullmatch(each):
                raise OptionsError(f"{name}: {each!r} is no name: expected letters, digits and - such as 'x-request-id'")
        object.__setattr__(options, name, tuple(cast("Collection[str]", given)))


def check_client_files(given: Mapping[str, str | os.PathLike[str]]) -> Mapping[str, str]:
    """Give the files that are served by name; raises OptionsError for a name that no URL could have and for a file that is not there."""
    files: dict[str, str] = {}
    for name, path in given.items():
        if not _FILE_NAME.fullmatch(name) or any(part.startswith(".") for part in name.split("/")):
            raise OptionsError(f"client_files: {name!r} is no name of a file: expected one such as 'socket.io.js', without a leading '/'")
        files[name] = os.fspath(path)
        if not os.path.isfile(path):
            raise OptionsError(f"client_files[{name!r}]={os.fspath(path)!r}: there is no such file; build or install it, or leave it out")
    return files


def check_parser(parser: object) -> None:
    """Raise OptionsError for what is no codec (`mizzen.ports.Codec`)."""
    if isinstance(parser, type):
        raise OptionsError(f"parser={parser!r}: expected a codec, not its class; did you mean {parser.__name__}()?")
    for method in ("encode", "encode_event", "encode_ack", "decoder"):
        if not callable(getattr(parser, method, None)):
            raise OptionsError(f"parser={parser!r}: expected a codec such as MsgpackCodec(), with a method {method!r}")


def check_cookie(cookie: Cookie) -> None:
    """Raise OptionsError for a cookie that could not stand in a Set-Cookie header, or that browsers refuse."""
    name, path, domain, max_age = cast("tuple[object, ...]", (cookie.name, cookie.path, cookie.domain, cookie.max_age))
    if not isinstance(name, str) or not TOKEN.fullmatch(name):
        raise OptionsError(f"Cookie(name={name!r}): expected a token: only letters, digits and !#$%&'*+-.^_`|~ may stand in it")
    if path and not (isinstance(path, str) and _COOKIE_PATH.fullmatch(path)):
        raise OptionsError(f"Cookie(path={path!r}): expected a path such as '/app', in ASCII; percent-encode ';' and control characters")
    if domain and not (isinstance(domain, str) and _COOKIE_DOMAIN.fullmatch(domain)):
        raise OptionsError(f"Cookie(domain={domain!r}): expected a host such as 'app.example', in ASCII, without scheme and port")
    if max_age is not None and (not isinstance(max_age, int) or isinstance(max_age, bool) or max_age < 0):
        raise OptionsError(f"Cookie(max_age={max_age!r}): expected whole seconds, or None for a session cookie")
    if cookie.same_site not in ("lax", "strict", "none", None):
        raise OptionsError(f"Cookie(same_site={cookie.same_site!r}): expected 'lax', 'strict', 'none' or None")
    if cookie.same_site == "none" and not cookie.secure:
        raise OptionsError("Cookie(same_site='none', secure=False): browsers refuse such a cookie; add secure=True, which needs HTTPS")
    # RFC 6265bis, 4.1.3
    prefix = name[:9].lower()
    if prefix == "__secure-" and not cookie.secure:
        raise OptionsError(f"Cookie(name={name!r}, secure=False): browsers refuse a cookie of such a name; add secure=True")
    if prefix.startswith("__host-") and not (cookie.secure and path == "/" and not domain):
        raise OptionsError(f"Cookie(name={name!r}): browsers refuse a cookie of such a name without secure=True, path='/' and no domain")


RequestsMode: TypeAlias = Literal["auto", "sails", False]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cookie:
    """The cookie that the polling handshake sets, for load balancers that route by it; its value is the connection's sid.

    `max_age` is in seconds; None makes a session cookie. Raises OptionsError for what may not stand in a Set-Cookie header (RFC 6265,
    4.1.1) and for what browsers refuse.
    """

    name: str = "io"
    path: str = "/"
    http_only: bool = True
    same_site: Literal["lax", "strict", "none"] | None = "lax"
    secure: bool = False
    max_age: int | None = None
    domain: str | None = None

    def __post_init__(self) -> None:
        check_cookie(self)

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
class ConnectionStateRecovery:
    """How clients that were away for a short time go on where they were: their rooms and data are restored, what they missed is sent.

    `max_disconnection_duration` is how long they may be away, in seconds. With `skip_middlewares` the middleware of the namespace does not
    run for them again. `max_history` bounds the bytes of what was sent, and `max_sessions` how many clients that are away, of which each
    namespace keeps the newest.
    """

    max_disconnection_duration: float = 120.0
    skip_middlewares: bool = True
    max_history: int = 64 * 1024 * 1024
    max_sessions: int = 100_000

    def __post_init__(self) -> None:
        duration = cast("object", self.max_disconnection_duration)
        if not isinstance(duration, (int, float)) or not 0 < duration < float("inf"):
            raise OptionsError(f"max_disconnection_duration={duration!r}: expected more than 0 seconds")
        check_counts(self)


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
    max_child_namespaces: int = 10_000
    cleanup_empty_child_namespaces: bool = False
    connection_state_recovery: ConnectionStateRecovery | None = None
    max_pending_acks: int = 10_000
    max_threads: int = 40
    cookie: Cookie | None = None
    cors_origins: Origins = None
    cors_credentials: bool = False
    cors_max_age: int | None = None
    cors_methods: Collection[str] = ("GET", "POST")
    cors_allowed_headers: Collection[str] | None = None
    cors_exposed_headers: Collection[str] = ()
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
    http_compression: bool | int = True
    initial_packet: str | bytes | None = None
    add_trailing_slash: bool = True
    serve_client: bool = True
    client_files: Mapping[str, str | os.PathLike[str]] = field(default_factory=dict[str, "str | os.PathLike[str]"])

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
        check_counts(self)
        for name in ("per_message_deflate", "http_compression"):
            threshold: object = getattr(self, name)
            if threshold is True:
                object.__setattr__(self, name, COMPRESSION_THRESHOLD)
            elif threshold is not False and (not isinstance(threshold, int) or threshold < 1):
                raise OptionsError(f"{name}={threshold!r}: expected True, False or the bytes from which on it compresses")
        check_cors_lists(self)
        object.__setattr__(self, "client_files", check_client_files(self.client_files))
        cookie = cast("object", self.cookie)
        if cookie is not None and not isinstance(cookie, Cookie):
            raise OptionsError(f"cookie={cookie!r}: expected True, False or a Cookie, such as Cookie(name='io', secure=True)")
        first: object = getattr(self, "initial_packet")  # noqa: B009 - anything may have been given
        if not (first is None or isinstance(first, (str, bytes))):
            raise OptionsError(f"initial_packet={first!r}: expected str, bytes or None")
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
