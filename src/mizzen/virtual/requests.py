"""Socket requests of a server: which events are requests, and their way through the app to the ack."""

from __future__ import annotations

import re
import time
import traceback
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from mizzen.options import RequestsMode
from mizzen.types import JSON, VERBS, ASGIApp, Handshake, Scope
from mizzen.virtual.cookies import CookieJar, read_cookies, with_cookies
from mizzen.virtual.dispatch import Exchange
from mizzen.virtual.headers import pin
from mizzen.virtual.invalid import RequestInvalid
from mizzen.virtual.request import parse_request
from mizzen.virtual.scope import Kept, build_scope, kept_of
from mizzen.virtual.scope import socket_of as scope_socket

if TYPE_CHECKING:
    from mizzen.options import ServerOptions
    from mizzen.server.socket import Socket

SDK_VERSION = "__sails_io_sdk_version"
OLDEST_SDK = (0, 11, 0)


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
        self.options: ServerOptions = options
        self._pinned = pin(options.pinned_headers)
        sent = {"headers": options.send_response_headers, "statusCode": options.send_status_code}
        self._unsent = [key for key, wanted in sent.items() if not wanted]
        self._report = report

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
        """Begin one request; the coroutine runs it and acks it. Whatever it or this raises is to be told to `broke`."""
        handshake = socket.handshake
        sails = self._mode == "sails"
        try:
            if sails:
                check_sdk(handshake)
            request = parse_request(verb, args, sails)
            kept, own = kept_of(handshake, self._root_key), socket.headers
            scope = build_scope(kept, request, socket, own, kept.state if self.state is None else self.state, self._pinned)
        except RequestInvalid as invalid:
            if id is not None:
                socket.ack(id, (invalid.payload,))
            else:
                socket.emit("sails:parseError", invalid.payload)
            return _nothing()
        app = self.app
        if app is None:
            self._give(socket, id, HTTPStatus.NOT_FOUND, HTTPStatus.NOT_FOUND.phrase)
            return _nothing()
        cookie: bytes | None = kept.cookie
        if own or request.headers or kept.refuses_cookies or socket.jar is not None:
            cookie = _choose_cookies(scope, kept, socket.jar)
        return Exchange(self, request, socket.leaving, socket, id, cookie).run(app, scope)

    def refuse(self, socket: Socket, id: int | None) -> None:
        """Answer a request that is one too many."""
        limit = self.options.max_requests
        self._give(socket, id, HTTPStatus.TOO_MANY_REQUESTS, f"Too many requests: a socket may have {limit} in flight")

    def answered(self, exchange: Exchange, jwr: dict[str, JSON]) -> None:
        """Ack a request with its answer."""
        if exchange.id is not None:
            if self._unsent:
                self._shorten(jwr)
            exchange.socket.ack(exchange.id, (jwr,))

    def broke(self, error: Exception, socket: Socket, verb: str, args: list[JSON], id: int | None) -> None:
        """Report what stopped a request on its way to the app, or its answer, and answer 500."""
        try:
            request = parse_request(verb, args, self._mode == "sails")
            where = f"{request.method} {request.path}"
        except Exception:  # perhaps that which broke
            where = verb.upper()
        self._report(error, socket, where)
        details = "".join(traceback.format_exception(error)) if self.options.debug else HTTPStatus.INTERNAL_SERVER_ERROR.phrase
        self._give(socket, id, HTTPStatus.INTERNAL_SERVER_ERROR, details)

    def _give(self, socket: Socket, id: int | None, status: HTTPStatus, body: str) -> None:
        """Ack a request that does not reach the app."""
        if id is not None:
            jwr: dict[str, JSON] = {"body": body, "headers": {}, "statusCode": status.value}
            self._shorten(jwr)
            socket.ack(id, (jwr,))

    def _shorten(self, jwr: dict[str, JSON]) -> None:
        for key in self._unsent:
            jwr.pop(key, None)

    def failed(self, exchange: Exchange, error: Exception) -> None:
        """Tell the server what went wrong in a request."""
        request = exchange.request
        self._report(error, exchange.socket, f"{request.method} {request.path}")

    def cookie_set(self, exchange: Exchange, set_cookie: bytes) -> None:
        """Keep a cookie that an answer has set for the later requests of its socket."""
        socket = exchange.socket
        jar = socket.jar
        if not isinstance(jar, CookieJar):
            jar = socket.jar = CookieJar()
        path = kept_of(socket.handshake, self._root_key).raw_root_path + exchange.request.raw_path
        jar.store(set_cookie, path, time.time(), exchange.cookie or b"")


def _choose_cookies(scope: Scope, kept: Kept, jar: object | None) -> bytes | None:
    """Put the socket's cookies into the request, and give what the client itself sends.

    With `nosession` there are none, and none are kept: None.
    """
    cookie, refused = read_cookies(scope["headers"])
    if refused or kept.refuses_cookies:
        scope["headers"] = with_cookies(scope["headers"], b"")
        return None
    if isinstance(jar, CookieJar):
        scope["headers"] = with_cookies(scope["headers"], jar.merge(cookie, scope["raw_path"], time.time()))
    return cookie


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
