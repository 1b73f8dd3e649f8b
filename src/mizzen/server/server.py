"""The server: the ASGI app that wraps another one, and the root where everything is put together."""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from enum import Enum
from os import PathLike
from typing import Final, TypeVar

from mizzen.adapters.memory import MemoryAdapter
from mizzen.adapters.recovery import RecoveringAdapter
from mizzen.errors import ArgumentsInvalid, EventRefused, LocalProtocolError
from mizzen.hooks import Hooks
from mizzen.mailbox import Mailbox
from mizzen.options import (
    AllowRequest,
    ConnectionStateRecovery,
    Cookie,
    Origins,
    RequestsMode,
    ServerOptions,
    check_parser,
    default_transports,
)
from mizzen.ports import Adapter, AdapterFactory, AdapterHost, Codec
from mizzen.protocol.codec import JSONCodec
from mizzen.server.deadlines import Deadlines
from mizzen.server.engine import EngineServer
from mizzen.server.lifespan import run_lifespan
from mizzen.server.main import MainNamespace
from mizzen.server.multiplexer import Multiplexer
from mizzen.server.namespace import Namespace
from mizzen.server.namespaces import Namespaces
from mizzen.server.sessions import Sessions
from mizzen.server.socket import Socket
from mizzen.server.socket_state import Turn
from mizzen.signatures import Signature
from mizzen.tasks import Tasks, current_loop
from mizzen.transports.asgi import Endpoint
from mizzen.transports.gate import Gate, is_own_host
from mizzen.types import JSON, ASGIApp, Reason, Receive, Scope, Send
from mizzen.virtual.cookie_script import CookieScript
from mizzen.virtual.requests import Requests

logger: Final = logging.getLogger("mizzen.server")

ErrorHook = Callable[[Exception, Socket | None, str], Awaitable[None] | None]
Hook = TypeVar("Hook", bound=ErrorHook)
EventLoop = asyncio.AbstractEventLoop

_running: weakref.WeakSet[Server] = weakref.WeakSet()


POLL_TIME = 0.3
"""Seconds that clients have, when the server closes, to poll for the close packet."""


class Phase(Enum):
    """What a server is doing; IDLE: it has not started yet, and starts with the first request."""

    IDLE = "idle"
    RUNNING = "running"
    CLOSING = "closing"
    CLOSED = "closed"


class Server(MainNamespace):
    """A Socket.IO server that wraps a web app: both are reached at one address, and socket requests go through the app's own routes.

        io = Server(app)        # io is the ASGI app to serve

    Without `app` it answers under `path` only. It starts with the ASGI lifespan, or with the first request where none comes (mounted under
    a path, for instance; then `requests_to` names the app that socket requests go to).
    """

    def __init__(
        self,
        app: ASGIApp | None = None,
        *,
        path: str = "/socket.io",
        transports: Collection[str] | None = None,
        allow_upgrades: bool = True,
        allow_eio3: bool = True,
        parser: Codec | None = None,
        ping_interval: float = 25.0,
        ping_timeout: float = 20.0,
        upgrade_timeout: float = 10.0,
        connect_timeout: float = 45.0,
        max_payload: int = 1_000_000,
        max_attachments: int = 10,
        max_buffer: int = 16 * 1024 * 1024,
        max_handlers: int = 100,
        max_namespaces: int = 100,
        max_child_namespaces: int = 10_000,
        cleanup_empty_child_namespaces: bool = False,
        connection_state_recovery: ConnectionStateRecovery | bool = False,
        adapter: AdapterFactory | None = None,
        max_pending_acks: int = 10_000,
        max_threads: int = 40,
        cookie: Cookie | bool = False,
        cors_origins: Origins = None,
        cors_credentials: bool = False,
        cors_max_age: int | None = None,
        cors_methods: Collection[str] = ("GET", "POST"),
        cors_allowed_headers: Collection[str] | None = None,
        cors_exposed_headers: Collection[str] = (),
        allow_request: AllowRequest | None = None,
        requests: RequestsMode = "auto",
        requests_to: ASGIApp | None = None,
        max_requests: int | None = None,
        max_response: int = 16 * 1024 * 1024,
        request_timeout: float | None = None,
        cancel_on_disconnect: bool = False,
        pinned_headers: Collection[str] = (),
        send_response_headers: bool = True,
        send_status_code: bool = True,
        sails_cookie_path: str | None = "/__getcookie",
        close_grace: float = 10.0,
        debug: bool = False,
        per_message_deflate: bool | int = False,
        http_compression: bool | int = True,
        initial_packet: str | bytes | None = None,
        add_trailing_slash: bool = True,
        serve_client: bool = True,
        client_files: Mapping[str, str | PathLike[str]] | None = None,
    ) -> None:
        """Make a server; raises OptionsError for options that cannot work. Times are in seconds, sizes in bytes.

        - `path`: where clients connect; the `path` option of theirs. `add_trailing_slash`: whether only what is below `<path>/` is the
          server's, where clients go unless told otherwise; with False `<path>` itself is too, for clients with `addTrailingSlash: false`.
        - `transports`: which of `polling` and `websocket` are offered; None: those of the environment variable MIZZEN_TRANSPORTS, which
          `mizzen run --transports` sets, else both. `allow_upgrades`: whether polling clients may move to WebSocket.
        - `allow_eio3`: whether socket.io-client 1 and 2 and sails.io.js (Engine.IO 3) may connect.
        - `parser`: how packets are written, which clients have to match: `MsgpackCodec()`, a codec of your own, or None for `JSONCodec()`.
        - `ping_interval`, `ping_timeout`: how often a ping goes out, and how long its pong may take.
        - `upgrade_timeout`: how long an upgrade may take. `connect_timeout`: how long a client may take to join its first namespace.
        - `max_payload`: the largest message, and the largest polling body, that is accepted.
        - `max_attachments`: the most binary attachments of one packet.
        - `max_buffer`: what may wait to be sent to a connection, or to be handled for it.
        - `max_handlers`: how many handlers and requests of one connection run at once; further events wait.
        - `connection_state_recovery`: whether clients that were away for a short time go on where they were, with their rooms and `data`
          and what they missed; True is `ConnectionStateRecovery()`.
        - `adapter`: what makes the adapter of each namespace; None for rooms within this process.
        - `max_child_namespaces`: how many namespaces may come of those that are given by a pattern or a function, all together.
          `cleanup_empty_child_namespaces`: whether each of them goes with its last socket; else when there are too many.
        - `max_namespaces`: how many one connection may join. `max_pending_acks`: how many acks of one socket may be awaited.
        - `max_threads`: how many plain (`def`) handlers run at once.
        - `cookie`: a cookie with the sid, set by the polling handshake, for load balancers; True is `Cookie()`.
        - `cors_origins`: pages of which other origins may connect: "*", a list such as `["https://example.com"]`, or a function. Pages of
          the own host always may. `cors_credentials`: whether they may send cookies. `cors_max_age`: how long a preflight may be
          remembered. `cors_methods`, `cors_allowed_headers`: what a preflight allows (None: the headers that it asks for);
          `cors_exposed_headers`: headers of answers that scripts of such pages may read.
        - `allow_request`: asked before a session is made, with the handshake; True admits, False or ConnectRefused refuses.
        - `requests`: which events are socket requests: "auto" (those of Sails clients and those that look like one), "sails" (every event
          named after a verb, from Sails clients only), False (none). `requests_to`: the app that they go to, if not `app`.
        - `max_requests`: how many one socket may have in flight (None: `max_handlers` bounds them). `max_response`: the largest answer.
        - `request_timeout`: how long a socket request may take before it is answered with 504 (None: as long as it takes).
          `cancel_on_disconnect`: whether the app is cancelled then, and when the socket goes before the app has answered.
        - `pinned_headers`: names of headers that your proxies set and a socket request must not.
        - `send_response_headers`, `send_status_code`: whether answers to socket requests have `headers` and `statusCode`.
        - `sails_cookie_path`: where sails.io.js on pages of other origins fetches a script that gets it a cookie; None: nowhere.
        - `close_grace`: how long `close` waits for handlers. `debug`: whether errors tell clients their traceback.
        - `per_message_deflate`: whether messages to and from clients that offer it are compressed on WebSocket: those of 1024 bytes and
          more, or of as many as given. A broadcast is compressed once. It has a say with Mizzen's own WebSocket class only (`mizzen run`):
          any other ASGI server negotiates by itself (uvicorn: `--ws-per-message-deflate`).
        - `http_compression`: whether answers to polls are compressed for clients that take gzip or deflate: those of 1024 bytes and more,
          or of as many as given; not those with nothing in them but what was sent with `compress(False)`.
        - `initial_packet`: a message that every client gets as the first one, before any of Socket.IO's; it needs a client that knows it.
        - `serve_client`: whether Mizzen's browser client is served under `<path>/`: `mizzen.js`, `mizzen.mjs`. `client_files`: more files
          to serve there, by name: `{"socket.io.js": "node_modules/socket.io-client/dist/socket.io.js"}`. Each is read once.
        """
        self.options: ServerOptions = ServerOptions(
            path=path,
            transports=default_transports() if transports is None else transports,
            allow_upgrades=allow_upgrades,
            allow_eio3=allow_eio3,
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            upgrade_timeout=upgrade_timeout,
            connect_timeout=connect_timeout,
            max_payload=max_payload,
            max_attachments=max_attachments,
            max_buffer=max_buffer,
            max_handlers=max_handlers,
            max_namespaces=max_namespaces,
            max_child_namespaces=max_child_namespaces,
            cleanup_empty_child_namespaces=cleanup_empty_child_namespaces,
            connection_state_recovery=ConnectionStateRecovery() if connection_state_recovery is True else connection_state_recovery or None,
            max_pending_acks=max_pending_acks,
            max_threads=max_threads,
            cookie=Cookie() if cookie is True else cookie or None,
            cors_origins=cors_origins,
            cors_credentials=cors_credentials,
            cors_max_age=cors_max_age,
            cors_methods=cors_methods,
            cors_allowed_headers=cors_allowed_headers,
            cors_exposed_headers=cors_exposed_headers,
            allow_request=allow_request,
            requests=requests,
            requests_to=requests_to,
            max_requests=max_requests,
            max_response=max_response,
            request_timeout=request_timeout,
            cancel_on_disconnect=cancel_on_disconnect,
            pinned_headers=pinned_headers,
            send_response_headers=send_response_headers,
            send_status_code=send_status_code,
            sails_cookie_path=sails_cookie_path,
            close_grace=close_grace,
            debug=debug,
            per_message_deflate=per_message_deflate,
            http_compression=http_compression,
            initial_packet=initial_packet,
            add_trailing_slash=add_trailing_slash,
            serve_client=serve_client,
            client_files=client_files or {},
        )
        self.engine: EngineServer = EngineServer(lambda error, where: self.report(error, None, where))
        self.app = app
        if parser is not None:
            check_parser(parser)
        self.codec: Codec = JSONCodec() if parser is None else parser
        self.requests: Requests = Requests(self.options, self.report)
        self.requests.app = requests_to or app
        self.adapter_factory: AdapterFactory = adapter or self._make_adapter
        self.namespaces: Namespaces = Namespaces(self)
        self._phase = Phase.IDLE
        self.dispatching: bool = False  # whether events still go to handlers
        self._error_hooks: Hooks[Exception, Socket | None, str] = Hooks("on_error")
        self._unhandled: set[tuple[str, str]] = set()
        self._loop: EventLoop | None = None
        self._thread: int | None = None
        self._mailbox = Mailbox(drops=True)
        # Calls a function on the server's thread: now, if this is it; else in order, as soon as its loop comes to it.
        self.post: Callable[..., None] = self._mailbox.post
        self._closed: asyncio.Event | None = None
        self._closer: asyncio.Task[None] | None = None

    sessions: Sessions
    tasks: Tasks
    unconnected: Deadlines[Multiplexer]
    _endpoint: Endpoint
    _cookie_script: CookieScript

    # Handlers

    def on_error(self, hook: Hook) -> Hook:
        """Register a hook for errors of handlers and socket requests: `(error, socket, where)`, plain or async.

        `where` is the event, or the method and path of a request. The log has the error with its traceback in any case.
        """
        self._error_hooks.add(hook)
        return hook

    # Running

    @staticmethod
    def running() -> list[Server]:
        """Give the servers of this process that run; `mizzen run` closes them before uvicorn closes their connections."""
        return list(_running)

    def new_secret(self) -> str:
        """Make what proves that a client had a socket."""
        return secrets.token_urlsafe(18)

    @property
    def skips_middleware(self) -> bool:
        """Whether the middleware of namespaces lets those by whose session is restored."""
        recovery = self.options.connection_state_recovery
        return recovery is not None and recovery.skip_middlewares

    def _make_adapter(self, host: AdapterHost) -> Adapter:
        recovery = self.options.connection_state_recovery
        if recovery is None:
            return MemoryAdapter(host)
        # From a ping whose pong came as late as it may to the end of the wait for the next pong; each wait may be extended once. And as
        # much again, for a loop that was blocked.
        noticed_within = 2 * (self.options.ping_interval + 4 * self.options.ping_timeout)
        return RecoveringAdapter(host, recovery, self._time, noticed_within)

    def _time(self) -> float:
        return time.monotonic() if self._loop is None else self._loop.time()

    def _is_orphaned(self) -> bool:
        """Say whether the loop that the server ran on was closed without a word."""
        return self._loop is not None and self._loop.is_closed()

    def running_loop(self) -> EventLoop:
        """Give the event loop that the server runs on. Raises LocalProtocolError before it has started and in other threads."""
        if self._loop is None or threading.get_ident() != self._thread:
            raise LocalProtocolError("this awaits, so it works on the server's event loop only: in a worker thread use mizzen.from_thread")
        return self._loop

    def start(self) -> None:
        """Start on the running event loop; done by the lifespan or the first request, and harmless when running."""
        if self._phase in (Phase.RUNNING, Phase.CLOSING) and not self._is_orphaned():
            return
        self.namespaces.of("/")
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._thread = threading.get_ident()
        self._closed = None
        self._mailbox.bind(loop)
        self.tasks = Tasks(loop, self.options.max_threads)
        self.unconnected = Deadlines(loop, self.options.connect_timeout, Multiplexer.overdue)
        self.sessions = Sessions(self.options, loop, lambda connection: Multiplexer(self, connection), self._close_soon)
        self.engine.attach(self.sessions)
        self._endpoint = Endpoint(self.options, self.sessions, self.engine)
        allows = Gate(self.options, self.sessions).allows
        self._cookie_script = CookieScript(self.app or _nothing, lambda origin, host: is_own_host(origin, host) or allows(origin))
        self._phase = Phase.RUNNING
        self.dispatching = True
        self.namespaces.started()
        _running.add(self)

    async def close(self, grace: float | None = None) -> None:
        """Close gracefully within `grace` seconds (default: the option `close_grace`), then at any rate.

        No new sessions (503) and no new events; running handlers and requests may finish and answer; then every socket gets the reason
        `server shutting down`, what is queued is sent, and clients see `transport close`, so that they come back by themselves.
        """
        if self._phase in (Phase.IDLE, Phase.CLOSED):
            return
        loop = self.running_loop()
        if self._closed is not None:
            await self._closed.wait()
            return
        self._closed = asyncio.Event()
        grace = self.options.close_grace if grace is None else grace
        end = loop.time() + grace
        self._phase = Phase.CLOSING
        self.dispatching = False
        self.sessions.accepting = False
        try:
            # A handler that hangs leaves a part of the time to those for `disconnect`.
            await self.tasks.wait(grace - min(2.0, grace / 4))
            for connection in list(self.sessions.connections.values()):
                connection.close(Reason.SERVER_SHUTTING_DOWN)
            # Polling clients that come back at once are told; those that do not have nothing to wait for but the close packet.
            await self.sessions.emptied(min(POLL_TIME, end - loop.time()))
            self.sessions.forget_idle()
            if not await self.tasks.wait(end - loop.time()):
                logger.warning("%d handlers did not end within the grace time and were cancelled", len(self.tasks))
            await self.tasks.cancel()
            await self.sessions.emptied(end - loop.time())
        finally:
            self.sessions.end_all()
            self.namespaces.close()
            self._phase = Phase.CLOSED
            self._loop = self._thread = None
            self._mailbox.unbind()
            _running.discard(self)
            self._closed.set()

    def _close_soon(self) -> None:
        if self._closed is None and self._loop is not None:
            self._closer = self._loop.create_task(self.close(), name="mizzen-close")

    async def __aenter__(self) -> Server:
        self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    def is_here(self) -> bool:
        """Say whether this is the thread that the server runs on."""
        return threading.get_ident() == self._thread

    # Calling handlers

    async def invoke(self, handler: Signature, socket: Socket, leading: tuple[JSON, ...], args: Sequence[JSON]) -> object:
        """Call a handler with a socket, what comes before the arguments, and the arguments, which are validated.

        A plain function runs in a thread, those of one socket one after another.
        """
        converted = handler.convert(args)
        if handler.is_async:
            return await handler.call(socket, *leading, *converted)
        async with socket.turn(Turn.THREAD):
            return await self.tasks.in_thread(handler.call, socket, *leading, *converted)

    def report(self, error: Exception, socket: Socket | None, where: str) -> None:
        """Log an error of a handler, with its traceback if it is not the client's, and tell the hooks."""
        if isinstance(error, (ArgumentsInvalid, EventRefused)):
            logger.info("%r of %r was refused: %s", where, socket, error)
        else:
            logger.error("%r of %r failed: %r", where, socket, error, exc_info=error)
        self._error_hooks.run(self.tasks, error, socket, where)

    def log_unhandled(self, namespace: Namespace, event: str) -> None:
        """Say once for each name that an event has no handler; Node does not ack it either."""
        key = (namespace.name, event[:100])
        if logger.isEnabledFor(logging.DEBUG) and key not in self._unhandled and len(self._unhandled) < 1000:
            self._unhandled.add(key)
            logger.debug("no handler for %r in %s: it is ignored, and not acked", event[:100], namespace.name)

    # ASGI

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await run_lifespan(self, scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        if loop is not self._loop and (self._phase is Phase.IDLE or self._is_orphaned()):
            self.start()
        current_loop.set(loop)
        path = _path_of(scope)
        own = self.options.path
        if path.startswith(own + "/") or (path == own and not self.options.add_trailing_slash):
            await self._endpoint(scope, receive, send)
        elif path == self.options.sails_cookie_path and kind == "http":
            await self._cookie_script(scope, receive, send)
        else:
            await (self.app or _nothing)(scope, receive, send)


def _path_of(scope: Scope) -> str:
    """Give the path below the root: under a mount some frameworks leave the whole path in place, others cut the root off."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if not root:
        return path
    root = root.rstrip("/")
    return path[len(root) :] if path.startswith(root + "/") else path


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Be the app where there is none."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"Not Found"})
    else:
        await receive()
        await send({"type": "websocket.close", "code": 1000})
