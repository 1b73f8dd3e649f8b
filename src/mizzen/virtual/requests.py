"""Socket requests of a server: which events are requests, and their way through the app to the ack."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from mizzen.options import RequestsMode
from mizzen.types import JSON, ASGIApp, Handshake, Scope
from mizzen.virtual.cookies import CookieJar, read_cookies, with_cookies
from mizzen.virtual.dispatch import dispatch
from mizzen.virtual.headers import pin
from mizzen.virtual.invalid import RequestInvalid
from mizzen.virtual.request import VERBS, parse_request
from mizzen.virtual.scope import SOCKET_EXTENSION, build_scope
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
        self._mounted = options.requests_to is not None
        self._options = options
        self._pinned = pin(options.pinned_headers)
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
        first = args[0] if args else None
        if isinstance(first, dict) and isinstance(cast("dict[str, JSON]", first).get("url"), str):
            return True
        return sdk_version(socket.handshake) is not None

    async def answer(self, socket: Socket, verb: str, args: list[JSON], id: int | None) -> None:
        """Run one request and ack it."""
        handshake = socket.handshake
        try:
            if self._mode == "sails":
                check_sdk(handshake)
            request = parse_request(verb, args, body_of_get=self._mode == "sails")
            scope = build_scope(
                handshake,
                request,
                extra_headers=socket.headers,
                root_path=self._root_path(handshake),
                state=handshake.scope.get("state") if self.state is None else self.state,
                extensions={SOCKET_EXTENSION: socket},
                pinned=self._pinned,
            )
        except RequestInvalid as invalid:
            if id is not None:
                socket.ack(id, (invalid.payload,))
            else:
                socket.emit("sails:parseError", invalid.payload)
            return
        app = self.app
        if app is None:
            self._give(socket, id, {"body": NOT_FOUND, "headers": {}, "statusCode": 404})
            return
        options = self._options
        await dispatch(
            app,
            scope,
            request.body or b"",
            answer=lambda jwr: self._give(socket, id, jwr),
            gone=socket.leaving,
            max_response=options.max_response,
            debug=options.debug,
            on_error=lambda error: self._report(error, socket, f"{request.method} {request.path}"),
            on_cookie=_add_cookies(socket, scope),
            timeout=options.request_timeout,
            cancel=options.cancel_on_disconnect,
        )

    def refuse(self, socket: Socket, id: int | None) -> None:
        """Answer a request that is one too many."""
        limit = self._options.max_requests
        self._give(socket, id, {"body": f"Too many requests: a socket may have {limit} in flight", "headers": {}, "statusCode": 429})

    def _root_path(self, handshake: Handshake) -> str:
        # Mounted under a path, the server is not the app that answers: that one's root is the outer app's.
        return handshake.scope.get("app_root_path" if self._mounted else "root_path", "")

    def _give(self, socket: Socket, id: int | None, jwr: dict[str, JSON]) -> None:
        if id is None:
            return
        if not self._options.send_response_headers:
            jwr.pop("headers", None)
        if not self._options.send_status_code:
            jwr.pop("statusCode", None)
        socket.ack(id, (jwr,))


def _add_cookies(socket: Socket, scope: Scope) -> Callable[[bytes], None] | None:
    """Put the socket's cookies into a request, and give what takes those of its answer; with `nosession` there are neither."""
    cookie, refused = read_cookies(scope["headers"])
    if refused or (b"nosession" in socket.handshake.scope["query_string"] and socket.handshake.query.get("nosession")):
        scope["headers"] = with_cookies(scope["headers"], b"")
        return None
    path: bytes = scope["raw_path"]
    if isinstance(socket.jar, CookieJar):
        scope["headers"] = with_cookies(scope["headers"], socket.jar.merge(cookie, path, time.time()))

    def keep(set_cookie: bytes) -> None:
        jar = socket.jar
        if not isinstance(jar, CookieJar):
            jar = socket.jar = CookieJar()
        jar.store(set_cookie, path, time.time(), cookie)

    return keep


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
