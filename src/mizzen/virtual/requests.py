"""Socket requests of a server: which events are requests, and their way through the app to the ack."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, cast

from msgspec import Struct

from mizzen.options import RequestsMode
from mizzen.types import JSON, ASGIApp, Handshake, Scope
from mizzen.virtual.cookies import CookieJar, read_cookies, with_cookies
from mizzen.virtual.dispatch import dispatch
from mizzen.virtual.headers import pin
from mizzen.virtual.invalid import RequestInvalid
from mizzen.virtual.request import VERBS, SocketRequest, parse_request
from mizzen.virtual.scope import SOCKET_EXTENSION, build_scope, kept_of
from mizzen.virtual.scope import socket_of as scope_socket

if TYPE_CHECKING:
    from mizzen.options import ServerOptions
    from mizzen.server.socket import Socket

SDK_VERSION = "__sails_io_sdk_version"
OLDEST_SDK = (0, 11, 0)

NOT_FOUND = "Not Found"


class Requests:
    """Answers the socket requests of one server.

    `app` is what they go to (None: every one is 404), `state` what the lifespan of the app left; both are known only once it has started.
    """

    def __init__(self, options: ServerOptions, report: Callable[[Exception, Socket, str], None]) -> None:
        self.app: ASGIApp | None = None
        self.state: Mapping[str, Any] | None = None
        self._mode: RequestsMode = options.requests
        # Mounted under a path, the server is not the app that answers: that one's root is the outer app's.
        self._root_key = "root_path" if options.requests_to is None else "app_root_path"
        self._options = options
        self._pinned = pin(options.pinned_headers)
        self.report: Callable[[Exception, Socket, str], None] = report

    def takes(self, socket: Socket, name: JSON, args: list[JSON]) -> bool:
        """Say whether an event without a handler is a request.

        It is if it is named after a verb, in the main namespace, and comes from a Sails client or has an object with a string `url` for its
        first argument; in Sails mode the verb is enough.
        """
        if name not in VERBS or self._mode is False or socket.namespace.name != "/":
            return False
        if self._mode == "sails":
            return True
        if args:
            first: dict[str, JSON] = args[0]
            if first.__class__ is dict and first.get("url").__class__ is str:
                return True
        return sdk_version(socket.handshake) is not None

    def answer(self, socket: Socket, verb: str, args: list[JSON], id: int | None) -> Coroutine[Any, Any, None]:
        """Begin one request; the coroutine runs it and acks it."""
        handshake = socket.handshake
        connection = handshake.scope
        try:
            if self._mode == "sails":
                check_sdk(handshake)
            request = parse_request(verb, args, body_of_get=self._mode == "sails")
            scope = build_scope(
                handshake,
                request,
                extra_headers=socket.headers,
                root_path=connection.get(self._root_key, ""),
                state=connection.get("state") if self.state is None else self.state,
                extensions={SOCKET_EXTENSION: socket},
                pinned=self._pinned,
            )
        except RequestInvalid as invalid:
            if id is not None:
                socket.ack(id, (invalid.payload,))
            else:
                socket.emit("sails:parseError", invalid.payload)
            return _nothing()
        app = self.app
        if app is None:
            self.give(socket, id, {"body": NOT_FOUND, "headers": {}, "statusCode": 404})
            return _nothing()
        options = self._options
        asked = _Asked(self, socket, id, request, scope["raw_path"])
        return dispatch(
            app,
            scope,
            request.body or b"",
            answer=asked.answer,
            gone=socket.leaving,
            max_response=options.max_response,
            debug=options.debug,
            on_error=asked.report,
            on_cookie=asked.keep if asked.add_cookies(scope, handshake) else None,
            timeout=options.request_timeout,
            cancel=options.cancel_on_disconnect,
        )

    def refuse(self, socket: Socket, id: int | None) -> None:
        """Answer a request that is one too many."""
        limit = self._options.max_requests
        self.give(socket, id, {"body": f"Too many requests: a socket may have {limit} in flight", "headers": {}, "statusCode": 429})

    def give(self, socket: Socket, id: int | None, jwr: dict[str, JSON]) -> None:
        """Ack a request with its answer."""
        if id is None:
            return
        if not self._options.send_response_headers:
            jwr.pop("headers", None)
        if not self._options.send_status_code:
            jwr.pop("statusCode", None)
        socket.ack(id, (jwr,))


class _Asked(Struct, eq=False):
    """One request: who asked, and what is to become of the answer."""

    requests: Requests
    socket: Socket
    id: int | None
    request: SocketRequest
    path: bytes
    cookie: bytes = b""

    def answer(self, jwr: dict[str, JSON]) -> None:
        self.requests.give(self.socket, self.id, jwr)

    def report(self, error: Exception) -> None:
        self.requests.report(error, self.socket, f"{self.request.method} {self.request.path}")

    def add_cookies(self, scope: Scope, handshake: Handshake) -> bool:
        """Put the socket's cookies into the request, and say whether to keep those of its answer; with `nosession` there are neither."""
        kept, jar = kept_of(handshake), self.socket.jar
        changed = self.request.headers or self.socket.headers  # else the headers are the handshake's
        self.cookie, refused = read_cookies(scope["headers"]) if changed else (kept.cookie, False)
        if refused or kept.refuses_cookies:
            scope["headers"] = with_cookies(scope["headers"], b"")
            return False
        if jar is not None and isinstance(jar, CookieJar):
            scope["headers"] = with_cookies(scope["headers"], jar.merge(self.cookie, self.path, time.time()))
        return True

    def keep(self, set_cookie: bytes) -> None:
        jar = self.socket.jar
        if not isinstance(jar, CookieJar):
            jar = self.socket.jar = CookieJar()
        jar.store(set_cookie, self.path, time.time(), self.cookie)


async def _nothing() -> None:
    """Be what is left to do for a request that has been answered."""


def sdk_version(handshake: Handshake) -> str | None:
    """Give the version that a Sails client tells of itself, by header or query."""
    return handshake.headers.get(SDK_VERSION) or handshake.query.get(SDK_VERSION)


def check_sdk(handshake: Handshake) -> None:
    """Raise RequestInvalid for a client that is no Sails client or too old a one."""
    version = sdk_version(handshake)
    found = re.match(r"v?(\d{1,9})\.(\d{1,9})\.(\d{1,9})", version or "")
    if found is None or tuple(map(int, found.groups())) < OLDEST_SDK:
        oldest = ".".join(map(str, OLDEST_SDK))
        raise RequestInvalid(f"The client is not a Sails socket client of version {oldest} or later: {SDK_VERSION} is {version!r:.100}.")


def socket_of(request: object) -> Socket | None:
    """Give the socket that a request came by, or None when it came over HTTP.

    `request` is an ASGI scope, a WSGI environ made by a2wsgi, or the request object of Starlette, FastAPI, Litestar, Quart, Django or Flask
    (through a2wsgi).
    """
    return cast("Socket | None", scope_socket(request))
