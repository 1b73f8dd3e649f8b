"""One connection of a client and the sockets on it: connecting, reconnecting, and taking packets to their sockets."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import parse_qsl, urlsplit

from mizzen.client.clock import sleepless
from mizzen.client.connection import Connection
from mizzen.client.dispatch import Dispatcher
from mizzen.client.early import Early
from mizzen.client.ports import ClientSession, ClientTransport, TransportFactory
from mizzen.client.socket import ClientSocket, Told
from mizzen.client.wires import wires_of
from mizzen.errors import ConnectFailed, LocalProtocolError, OptionsError, RemoteProtocolError
from mizzen.handling import failure_of
from mizzen.listeners import Listeners
from mizzen.mailbox import Mailbox
from mizzen.ports import Codec
from mizzen.protocol.backoff import Backoff
from mizzen.protocol.codec import JSONCodec
from mizzen.protocol.packet import ACK, CONNECT, EVENT
from mizzen.types import Reason

if TYPE_CHECKING:
    from mizzen.client.options import Auth, ClientOptions, Strings, TransportName
    from mizzen.ports import PacketDecoder

logger: Final = logging.getLogger("mizzen.client")

Handler = TypeVar("Handler", bound=Callable[..., object])

EVENTS: Final[frozenset[str]] = frozenset(
    ("open", "error", "ping", "packet", "close", "reconnect_attempt", "reconnect_error", "reconnect", "reconnect_failed")
)
SDK: Final = {"__sails_io_sdk_version": "1.2.1", "__sails_io_sdk_platform": "python", "__sails_io_sdk_language": "python"}


class Address:
    """What a URL says: where the server is, the namespace (its path), and the query."""

    __slots__ = ("namespace", "origin", "query")

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https", "ws", "wss") or not parts.netloc:
            raise OptionsError(
                f"{url!r} is not the URL of a server: expected http://host:port, or https, ws, wss; its path is the namespace"
            )
        scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
        self.origin: str = f"{scheme}://{parts.netloc}"
        self.namespace: str = parts.path or "/"
        self.query: dict[str, str] = dict(parse_qsl(parts.query, keep_blank_values=True))


class Manager:
    """One connection to a server, for the sockets of several namespaces; `socket.manager` is the one of a socket.

    One task of it connects, waits for the end of the connection, and connects again. `sockets` are by namespace, `connection` is what
    stands now, if anything does. `clock` gives seconds: by it a server has been silent for too long when something is to be sent.
    """

    def __init__(
        self, url: str, options: ClientOptions, *, random: Callable[[], float] = random.random, clock: Callable[[], float] = sleepless
    ) -> None:
        self.address: Address = Address(url)
        self.url: str = self.address.origin
        self.options: ClientOptions = options
        self.codec: Codec = options.parser or JSONCodec()
        self.sockets: dict[str, ClientSocket] = {}
        self.connection: Connection | None = None
        self.dispatcher: Dispatcher = Dispatcher(options, self._awaits_acks)
        self.early: Early = Early(options.max_buffer)
        self.clock: Callable[[], float] = clock
        self._wires = wires_of(options)
        self._listeners = Listeners(leading=0)
        self._mailbox = Mailbox()
        self._backoff = Backoff(options.reconnection_delay, options.reconnection_delay_max, options.randomization_factor, random)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._runner: asyncio.Task[None] | None = None
        self._closer: asyncio.Task[None] | None = None
        self._decoder: PacketDecoder | None = None
        self._size = 0
        self._upgraded_before = False
        self._established = False  # whether any socket has been accepted since the runner began
        self._failure: ConnectFailed | None = None

    def __repr__(self) -> str:
        return f"<Manager {self.url}{self.options.path} {self.connection or 'not connected'}>"

    # Its own events

    def on(self, event: str, handler: Handler) -> Handler:
        """Register a handler of what happens to the connection itself.

        `open`; `error` (an exception: an attempt failed); `ping`; `packet` (each `Packet` that comes); `close` (reason, details);
        `reconnect_attempt` (its number), `reconnect_error` (an exception), `reconnect` (the number of attempts), `reconnect_failed`.
        Raises LocalProtocolError for any other name.
        """
        self._check(event)
        self._listeners.add(event, handler)
        return handler

    def once(self, event: str, handler: Handler) -> Handler:
        """Do as `on`, for the next time only."""
        self._check(event)
        self._listeners.add(event, handler, once=True)
        return handler

    def off(self, event: str, handler: Callable[..., object] | None = None) -> None:
        """Forget a handler, or without one all of this event."""
        self._listeners.remove(event, handler)

    @staticmethod
    def _check(event: str) -> None:
        if event not in EVENTS:
            raise LocalProtocolError(f"a manager has no event {event!r}: expected one of {', '.join(sorted(EVENTS))}")

    def _fire(self, event: str, *args: object) -> None:
        plan = self._listeners.take(event)
        if plan:
            self.dispatcher.tell(plan, None, event, args)

    # Sockets

    def socket(self, name: str, auth: Auth = None) -> ClientSocket:
        """Give the socket of a namespace, made at its first mention."""
        if not name.startswith("/"):
            name = f"/{name}"
        socket = self.sockets.get(name)
        if socket is None:
            socket = self.sockets[name] = ClientSocket(self, name, auth)
        elif auth is not None:
            socket.auth = auth
        return socket

    @property
    def wanted(self) -> bool:
        """Whether any socket is, or is to be, connected."""
        return any(socket.active for socket in self.sockets.values())

    def _awaits_acks(self) -> bool:
        return any(socket.outbox.awaiting for socket in self.sockets.values())

    # Threads and loops

    def check_thread(self) -> None:
        """Belong to the running loop. Raises LocalProtocolError while the client belongs to another one, and is connected there."""
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        if self._loop is not None and not self._loop.is_closed() and self._runner is not None and not self._runner.done():
            raise LocalProtocolError(
                "this client is connected on another event loop: use it there (in a worker thread by mizzen.from_thread), or disconnect it"
            )
        if self._loop is not None:
            for socket in self.sockets.values():
                socket.forget()
        self._loop = loop
        self._runner = self._closer = self.connection = None
        self.dispatcher.bind(loop)
        self._mailbox.bind(loop)
        if self._wires is not None:
            self._wires.forget()

    async def bind(self) -> None:
        """Do as `check_thread`, and wait until a connection that is being closed is."""
        self.check_thread()
        while self._closer is not None and not self._closer.done():
            await asyncio.wait((self._closer,))

    def post(self, function: Callable[..., object], *args: object) -> None:
        """Call a function on the client's thread: now, if this is it; else in order, as soon as its loop comes to it."""
        self._mailbox.post(function, *args)

    # Running

    def start(self, socket: ClientSocket) -> None:
        """Connect a socket that waits: by what stands already, or by beginning."""
        if self._closer is not None and not self._closer.done():
            return  # which begins anew when it has ended
        connection = self.connection
        if connection is not None and not connection.ended.is_set():
            socket.opened(connection)
        elif self._runner is None or self._runner.done():
            self._begin()

    def _begin(self) -> None:
        assert self._loop is not None
        self._established = False
        self._backoff.reset()
        self._runner = self._loop.create_task(self._run(), name="mizzen-client")

    async def _run(self) -> None:
        """Connect, and again when the connection is lost, as long as there is a socket that wants it."""
        options = self.options
        while self.wanted:
            self._failure = None
            try:
                connection = await self._open()
            except ConnectFailed as error:
                self._failure = error
            except BaseException as caught:
                error = failure_of(caught, "the attempt")
                logger.error("an attempt to connect to %s failed in an unforeseen way", self.url, exc_info=error)
                self._failure = ConnectFailed(f"{type(error).__name__}: {error}")
            else:
                try:
                    await connection.ended.wait()
                finally:
                    await connection.close()
            if not self.wanted:
                return
            if self._failure is not None:
                self._tell_failure(self._failure)
            again = options.reconnection if self._established else options.wait_for_server
            attempts = options.reconnection_attempts
            if not again or (attempts is not None and self._backoff.attempts >= attempts):
                self._give_up()
                return
            await asyncio.sleep(self._backoff.next())
            self._fire("reconnect_attempt", self._backoff.attempts)

    async def _open(self) -> Connection:
        options, address = self.options, self.address
        query = {**address.query, **(SDK if options.sails else {}), **await _strings("query", options.query)}
        headers = await _strings("headers", options.headers)
        connection = Connection(options, f"{address.origin}{options.path}/", query, headers, self, self.clock)
        self._decoder = self.codec.decoder(options.max_attachments)
        self._size = 0
        self.dispatcher.connection = connection
        if "ping" in self._listeners.handlers:
            connection.on_heartbeat = self._heard
        await connection.open(self._factories())
        return connection

    def _heard(self) -> None:
        self.dispatcher.came(self._listeners.take("ping"), "ping", (), 0)

    def _factories(self) -> list[TransportFactory]:
        transports = list(self.options.transports)
        if self._upgraded_before and self.options.remember_upgrade and "websocket" in transports:
            transports.sort(key=lambda each: each != "websocket")
        factories = [self._factory(each) for each in transports]
        return factories if self.options.try_all_transports else factories[:1]

    def _factory(self, transport: TransportName | TransportFactory) -> TransportFactory:
        if callable(transport):
            return transport
        wires = self._wires
        assert wires is not None

        def factory(session: ClientSession) -> ClientTransport:
            return wires.transport(transport, session)

        return factory

    def succeeded(self) -> None:
        """Take notice that a socket has been accepted."""
        self._established = True
        attempts = self._backoff.attempts
        if attempts:
            self._backoff.reset()
            self._fire("reconnect", attempts)

    def attempt_failed(self, socket: ClientSocket, connection: Connection, failure: ConnectFailed) -> None:
        """Take notice that one socket could not be connected, although the connection stands: the whole is tried again."""
        if any(each.connected for each in self.sockets.values()):
            socket.fail(failure, Reason.TRANSPORT_ERROR)  # what works for the others is left alone
        else:
            self.abandon(connection, failure)

    def abandon(self, connection: Connection, failure: ConnectFailed) -> None:
        """End the connection, which is of no use, and have those who wait for it learn why."""
        self._failure = failure
        connection.lost(Reason.TRANSPORT_ERROR, str(failure))

    def _tell_failure(self, error: ConnectFailed) -> None:
        self._fire("error", error)
        if self._backoff.attempts:
            self._fire("reconnect_error", error)
        goes_on = self.options.reconnection if self._established else self.options.wait_for_server
        for socket in list(self.sockets.values()):
            if socket.active and goes_on:
                socket.not_reached(error)

    def _give_up(self) -> None:
        if self._backoff.attempts:
            self._fire("reconnect_failed")
        error = self._failure
        told: list[tuple[ClientSocket, Told | None]] = []
        for socket in self.sockets.values():
            if error is not None:
                told.append((socket, socket.failed(error, Reason.TRANSPORT_ERROR)))
            else:
                told.append((socket, socket.ended(socket.reason or Reason.TRANSPORT_CLOSE, "reconnection is off")))
        for socket, event in told:
            socket.tell(event)

    # The connection

    def opened(self) -> None:
        """Have the sockets connect: the session is open."""
        self.connection = connection = self.dispatcher.connection
        assert connection is not None
        transports = self.options.transports
        first = transports.index("polling") if isinstance(transports, tuple) and "polling" in transports else 0
        upgrades = connection.transport.name == "polling" and self.options.upgrade and "websocket" in connection.engine.upgrades
        if upgrades and isinstance(transports, tuple) and "websocket" in transports[first:]:
            connection.upgrade(self._factory("websocket"))
        self._fire("open")
        for socket in list(self.sockets.values()):
            if self.connection is connection:  # which handlers that start at once may have ended
                socket.opened(connection)

    def received(self, message: str | bytes) -> None:
        """Take one message."""
        self._size += len(message)
        assert self._decoder is not None
        try:
            packet = self._decoder.feed(message)
        except RemoteProtocolError as error:
            if self.connection is not None:
                self.connection.lost(Reason.PARSE_ERROR, str(error))
            return
        if packet is None:
            return
        size, self._size = self._size, 0
        if "packet" in self._listeners.handlers:
            self.dispatcher.came(self._listeners.take("packet"), "packet", (packet,), size)
        kind = packet.type
        if kind is not EVENT and kind is not ACK and packet.nsp == "/" and self.connection is not None:
            self.connection.in_main = kind is CONNECT
        socket = self.sockets.get(packet.nsp)
        if socket is not None:
            socket.received(packet, size)

    def closed(self, reason: Reason, details: str | None) -> None:
        """Take notice that the connection is over."""
        connection, self.connection = self.connection, None
        self._decoder = None  # with what it holds of a packet that will never be whole
        if connection is not None and connection.transport.name == "websocket":
            self._upgraded_before = True
        told = [(socket, socket.lost(reason, details)) for socket in self.sockets.values()]
        self._fire("close", reason, details)
        for socket, event in told:
            socket.tell(event)

    # Closing

    async def leave(self) -> None:
        """Close, if no socket is active any more."""
        if not self.wanted:
            await self.close()

    def leave_soon(self) -> None:
        """End the connection, if no socket is active any more, in a task of its own; handlers that run go on."""
        if not self.wanted and self._loop is not None and (self._closer is None or self._closer.done()):
            self._closer = self._loop.create_task(self._hang_up(), name="mizzen-close")

    async def close(self, grace: float | None = None) -> None:
        """Disconnect every socket, end the connection, and wait for running handlers: `grace` seconds (default: `close_grace`).

        A handler may call it: then it waits for no others.
        """
        if self._loop is None:
            return
        self.check_thread()
        told = [(socket, socket.left()) for socket in self.sockets.values()]
        self.leave_soon()
        for socket, event in told:
            socket.tell(event)
        if self._closer is not None:
            await asyncio.shield(self._closer)
        if not self.dispatcher.tasks.asks and not self.wanted:
            await self.dispatcher.finish(self.options.close_grace if grace is None else grace)

    async def _hang_up(self) -> None:
        connection = self.connection
        if connection is not None:
            await connection.close()
        runner = self._runner
        if runner is not None and not runner.done():
            runner.cancel()
            await asyncio.wait((runner,))
        if self._wires is not None:
            await self._wires.close()
        if self.wanted:  # again, since this began
            self._begin()


async def _strings(name: str, given: Strings) -> dict[str, str]:
    """Give the value of an option that may be a function. Raises ConnectFailed when that fails."""
    if given is None:
        return {}
    try:
        if callable(given):
            value = given()
            given = await value if isinstance(value, Awaitable) else value
        return dict(given)
    except BaseException as caught:
        error = failure_of(caught, "the function")
        raise ConnectFailed(f"the function that gives `{name}` failed: {error!r}") from error
