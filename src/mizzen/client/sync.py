"""The client for code that is not async: the same names, on an event loop in a thread of its own."""

from __future__ import annotations

import ssl as tls
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TYPE_CHECKING, Literal, Self, TypeAlias, TypeVar

from mizzen.client.client import Client
from mizzen.client.manager import Manager
from mizzen.client.options import Auth, Strings, TransportName
from mizzen.client.portal import Portal
from mizzen.client.ports import TransportFactory
from mizzen.client.socket import MAX_EVENTS, ClientSocket
from mizzen.client.streams import Args
from mizzen.client.sync_parts import SyncEmits, SyncEventStream, SyncRequests
from mizzen.events import EventName
from mizzen.listeners import Listeners, Listening
from mizzen.ports import Codec
from mizzen.types import Reason

if TYPE_CHECKING:
    from mizzen.client.emits import Emits
    from mizzen.client.requests import Requests

Handler = TypeVar("Handler", bound=Callable[..., object])

SyncErrorHook: TypeAlias = "Callable[[Exception, SyncClientSocket | None, str], Awaitable[None] | None]"


class SyncManager:
    """The connection of a `SyncClient`: what happens to it, as events; `socket.manager` is the one of a socket."""

    def __init__(self, portal: Portal, manager: Manager) -> None:
        self._portal = portal
        self._manager = manager
        self._sockets: dict[str, SyncClientSocket] = {}

    def __repr__(self) -> str:
        return f"<Sync{repr(self._manager)[1:]}"

    @property
    def url(self) -> str:
        """Where the server is: scheme, host and port."""
        return self._manager.url

    def on(self, event: str, handler: Handler) -> Handler:
        """Register a handler of what happens to the connection itself; see `Manager.on` for the events."""
        return self._manager.on(event, handler)

    def once(self, event: str, handler: Handler) -> Handler:
        """Do as `on`, for the next time only."""
        return self._manager.once(event, handler)

    def off(self, event: str, handler: Callable[..., object] | None = None) -> None:
        """Forget a handler, or without one all of this event."""
        self._manager.off(event, handler)

    def socket(self, name: str, auth: Auth = None) -> SyncClientSocket:
        """Give the socket of a namespace, made at its first mention."""
        return self.facade(self._portal.do(lambda: self._manager.socket(name, auth)))

    def facade(self, socket: ClientSocket) -> SyncClientSocket:
        """Give what stands for a socket of the async client, the same each time."""
        return self._sockets.get(socket.name) or self._sockets.setdefault(socket.name, SyncClientSocket(self._portal, socket, self))

    def adopt(self, facade: SyncClientSocket) -> None:
        """Have it stand for the socket of its namespace from now on."""
        self._sockets[facade.name] = facade


class SyncClientSocket(SyncRequests, SyncEmits, Listening):
    """One namespace of a connection: a `ClientSocket` for code that is not async.

    Every method may be called from any thread. Plain handlers run in worker threads and may call them too; on the thread of the client's
    own event loop, where async handlers run, those that wait raise LocalProtocolError.
    """

    _own_events: frozenset[str] = frozenset(("connect", "disconnect", "connect_error"))

    def __init__(self, portal: Portal, socket: ClientSocket, manager: SyncManager) -> None:
        self._entrance = portal
        self._socket = socket
        self._manager = manager

    def __repr__(self) -> str:
        return repr(self._socket).replace(f"<{type(self._socket).__name__}", f"<{type(self).__name__}", 1)

    @property
    def _portal(self) -> Portal:
        return self._entrance

    @property
    def _sender(self) -> Emits:
        return self._socket

    @property
    def _requests(self) -> Requests:
        return self._socket

    def _listeners(self) -> Listeners:
        return self._socket.listeners

    # State

    @property
    def manager(self) -> SyncManager:
        """The connection: what happens to it, as events."""
        return self._manager

    @property
    def name(self) -> str:
        """The namespace."""
        return self._socket.name

    @property
    def auth(self) -> Auth:
        """What the namespace's CONNECT packet carries: a dict, or a function that is called at each attempt; may be changed at any time."""
        return self._socket.auth

    @auth.setter
    def auth(self, auth: Auth) -> None:
        self._socket.auth = auth

    @property
    def id(self) -> str | None:
        """What the server calls the socket, None while it is not connected."""
        return self._socket.id

    @property
    def recovered(self) -> bool:
        """Whether the last connect took up the session before, with nothing missed."""
        return self._socket.recovered

    @property
    def reason(self) -> Reason | None:
        """Why it was disconnected the last time."""
        return self._socket.reason

    @property
    def connected(self) -> bool:
        """Whether the server has accepted the socket, and the connection stands."""
        return self._socket.connected

    @property
    def active(self) -> bool:
        """Whether the socket is connected, or will be by itself as soon as the server can be reached."""
        return self._socket.active

    @property
    def transport(self) -> str | None:
        """What carries the socket's packets now: `polling`, `websocket`, or None without a connection."""
        return self._socket.transport

    # Connecting

    def connect(self) -> None:
        """Connect, and return once the server has accepted the socket; raises what `ClientSocket.connect` does."""
        self._entrance.run(self._socket.connect, ends=True)

    def disconnect(self) -> None:
        """Disconnect, and stay so until `connect`; what is queued is sent first. Harmless when it is not connected."""
        self._entrance.run(self._socket.disconnect, ends=True)

    def wait_closed(self) -> Reason | None:
        """Wait until the socket is closed for good, and give the reason."""
        return self._entrance.run(self._socket.wait_closed)

    def drain(self) -> None:
        """Wait until what was emitted has been handed to the network; raises what `ClientSocket.drain` does."""
        self._entrance.run(self._socket.drain)

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        self.disconnect()

    # Events, besides handlers

    def events(self, event: EventName, *, max_events: int = MAX_EVENTS) -> SyncEventStream:
        """Iterate over the events of one name: `for args in socket.events("message")`, where `args` is a tuple.

        It begins now, and ends when the socket is closed for good; see `ClientSocket.events`.
        """
        return SyncEventStream(self._entrance, self._entrance.do(lambda: self._socket.events(event, max_events=max_events)))

    def wait_for(self, event: EventName, *, timeout: float | None = None) -> Args:
        """Wait for the next event of this name and give its arguments as a tuple; raises what `ClientSocket.wait_for` does."""
        return self._entrance.run(lambda: self._socket.wait_for(event, timeout=timeout))

    def on_error(self, hook: SyncErrorHook) -> SyncErrorHook:
        """Register a hook for errors of handlers: `(error, socket, event)`; it hears of all sockets of the connection.

        It runs on the event loop, so it must not wait.
        """

        def hear(error: Exception, socket: ClientSocket | None, where: str) -> Awaitable[None] | None:
            return hook(error, None if socket is None else self._manager.facade(socket), where)

        self._socket.on_error(hear)
        return hook

    def of(self, name: str, *, auth: Auth = None) -> SyncClientSocket:
        """Give the socket of another namespace of the same connection, the same one each time; it is not connected yet.

        `auth` is what its CONNECT packet carries; without it, what it had.
        """
        return self._manager.socket(name, auth)


class SyncClient(SyncClientSocket):
    """A client of a Socket.IO server for code that is not async: the names and parameters of `Client`.

        socket = mizzen.SyncClient("http://localhost:8000")     # does nothing yet: register first, so that nothing is missed
        socket.on("message", print)
        with socket:                                            # connects, and disconnects at the end
            socket.call("join", "lobby")

    It is an async client on an event loop in a thread of its own, which the first call starts and `close` ends; it ends with the process,
    too. Any thread may use it. Ctrl-C interrupts a call that waits, and leaves the client usable. Needs the extra `client`.
    """

    def __init__(
        self,
        url: str,
        *,
        auth: Auth = None,
        path: str = "/socket.io",
        transports: Collection[TransportName | TransportFactory] = ("websocket", "polling"),
        try_all_transports: bool = True,
        upgrade: bool = True,
        remember_upgrade: bool = False,
        eio: Literal[3, 4] = 4,
        query: Strings = None,
        headers: Strings = None,
        force_base64: bool = False,
        timestamp_requests: bool | None = None,
        timestamp_param: str = "t",
        sails: bool = False,
        wait_for_server: bool = False,
        reconnection: bool = True,
        reconnection_attempts: int | None = None,
        reconnection_delay: float = 1.0,
        reconnection_delay_max: float = 5.0,
        randomization_factor: float = 0.5,
        connect_timeout: float = 20.0,
        request_timeout: float | None = None,
        ack_timeout: float | None = None,
        retries: int | None = None,
        close_grace: float = 5.0,
        max_payload: int = 100 * 1024 * 1024,
        max_attachments: int = 100,
        max_buffer: int = 16 * 1024 * 1024,
        max_handlers: int = 100,
        max_pending_acks: int = 10_000,
        max_threads: int = 40,
        per_message_deflate: bool | int = False,
        ssl: tls.SSLContext | bool = True,
        proxy: str | None = None,
        cookies: Mapping[str, str] | None = None,
        uds: str | None = None,
        parser: Codec | None = None,
    ) -> None:
        """Make a client; nothing is sent before `connect`. Times are in seconds, sizes in bytes.

        The options are those of `Client`, which explains them, but for `http_session`, which belongs to an event loop of the caller's.
        Functions among them (`auth`, `query`, `headers`) are called on the client's event loop: plain ones must not wait. Raises
        OptionsError for options that cannot work, and ImportError without aiohttp.
        """
        client = Client(
            url,
            auth=auth,
            path=path,
            transports=transports,
            try_all_transports=try_all_transports,
            upgrade=upgrade,
            remember_upgrade=remember_upgrade,
            eio=eio,
            query=query,
            headers=headers,
            force_base64=force_base64,
            timestamp_requests=timestamp_requests,
            timestamp_param=timestamp_param,
            sails=sails,
            wait_for_server=wait_for_server,
            reconnection=reconnection,
            reconnection_attempts=reconnection_attempts,
            reconnection_delay=reconnection_delay,
            reconnection_delay_max=reconnection_delay_max,
            randomization_factor=randomization_factor,
            connect_timeout=connect_timeout,
            request_timeout=request_timeout,
            ack_timeout=ack_timeout,
            retries=retries,
            close_grace=close_grace,
            max_payload=max_payload,
            max_attachments=max_attachments,
            max_buffer=max_buffer,
            max_handlers=max_handlers,
            max_pending_acks=max_pending_acks,
            max_threads=max_threads,
            per_message_deflate=per_message_deflate,
            ssl=ssl,
            proxy=proxy,
            cookies=cookies,
            uds=uds,
            parser=parser,
        )
        portal = Portal(client)
        super().__init__(portal, client, SyncManager(portal, client.manager))
        self._client = client
        self._manager.adopt(self)

    def close(self) -> None:
        """Disconnect all sockets of the connection, end it, and end the thread; `connect` begins anew."""
        self._entrance.run(self._client.close, ends=True)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        self._entrance.run(lambda: self._client.__aexit__(kind, error, traceback), ends=True)
