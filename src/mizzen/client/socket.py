"""One namespace of a client's connection: what events are sent to and come from."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from mizzen.client.dispatch import ErrorHook
from mizzen.client.emits import Emits, Flagged
from mizzen.client.joining import Joining
from mizzen.client.outbox import Outbox
from mizzen.client.recovery import Recovery
from mizzen.client.requests import Requests
from mizzen.client.streams import Args, EventStream, Streams
from mizzen.errors import ConnectFailed, ConnectRefused
from mizzen.events import EventName
from mizzen.handling import unpack
from mizzen.listeners import Listeners, Listening
from mizzen.protocol.javascript import number_text
from mizzen.protocol.packet import ACK, CONNECT, DISCONNECT, EVENT, Packet
from mizzen.types import JSON, Reason

if TYPE_CHECKING:
    from mizzen.client.connection import Connection
    from mizzen.client.manager import Manager
    from mizzen.client.options import Auth
    from mizzen.protocol.encoded import Encoded


class SocketState(Enum):
    """How far a socket is; IDLE: it is not connected and does not try to be; WAITING: for the connection; CONNECTING: for the answer of
    its namespace."""

    IDLE = "idle"
    WAITING = "waiting"
    CONNECTING = "connecting"
    CONNECTED = "connected"


IDLE, WAITING, CONNECTING, CONNECTED = SocketState.IDLE, SocketState.WAITING, SocketState.CONNECTING, SocketState.CONNECTED

Told: TypeAlias = tuple[str, Sequence[JSON]]
"""An event of the socket itself, and its arguments."""

MAX_EVENTS: Final = 1024
_NO_PID: Final = "the server gave no id in its answer: it speaks Socket.IO 2, for which the client needs the option eio=3"


class ClientSocket(Requests, Emits, Listening):
    """One namespace of a connection, on the client.

    `id` is what the server calls it, None while it is not connected. `recovered` says whether the last connect took up the session before,
    with nothing missed. `auth` is what the namespace's CONNECT packet carries: a dict, or a function (plain or async) that is called at
    each attempt; it may be changed at any time. `emit` may be called from any thread.
    """

    _own_events: frozenset[str] = frozenset(("connect", "disconnect", "connect_error"))

    def __init__(self, manager: Manager, name: str, auth: Auth = None) -> None:
        self.manager: Manager = manager
        self.name: str = name
        self.auth: Auth = auth
        self.id: str | None = None
        self.recovered: bool = False
        self.reason: Reason | None = None
        self.turn: asyncio.Lock = asyncio.Lock()
        self.thread_turn: asyncio.Lock = asyncio.Lock()
        self.listeners: Listeners = Listeners(leading=0)
        self.streams: Streams = Streams()
        self._state = IDLE
        self.recovery: Recovery = Recovery()
        self._joining = Joining(self)
        self._opening: list[asyncio.Future[None]] = []
        self._closing: list[asyncio.Future[None]] = []
        self.outbox: Outbox = Outbox(self, manager.codec, manager.options)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.manager.url}{self.name} {self._state.value}>"

    def _listeners(self) -> Listeners:
        return self.listeners

    # State

    @property
    def connected(self) -> bool:
        """Whether the server has accepted the socket, and the connection stands."""
        return self._state is CONNECTED

    @property
    def active(self) -> bool:
        """Whether the socket is connected, or will be by itself as soon as the server can be reached."""
        return self._state is not IDLE

    @property
    def transport(self) -> str | None:
        """What carries the socket's packets now: `polling`, `websocket`, or None without a connection."""
        connection = self.manager.connection
        return None if connection is None else connection.transport.name

    # Connecting

    async def connect(self) -> None:
        """Connect, and return once the server has accepted the socket; harmless when it is connected.

        Raises ConnectRefused when the server refuses the namespace, and ConnectFailed when it cannot be reached: at the first attempt, or,
        with the option `wait_for_server`, when `reconnection_attempts` are used up. Once it has connected, it comes back by itself after
        an interruption. When this is cancelled, the socket stops trying.
        """
        await self.manager.bind()
        if self._state is CONNECTED:
            return
        opening: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._opening.append(opening)
        if self._state is IDLE:
            self._state, self.reason = WAITING, None
            self.manager.start(self)
        try:
            await opening
        except (ConnectFailed, ConnectRefused):
            await self.manager.leave()
            raise
        except BaseException:
            await self.disconnect()
            raise

    async def disconnect(self) -> None:
        """Disconnect, and stay so until `connect`; what is queued is sent first. Harmless when it is not connected.

        The handlers of `disconnect` get the reason `io client disconnect`. With the last socket that is active the connection ends too:
        then this waits for running handlers (the option `close_grace`), but for the one that called it.
        """
        self.say_goodbye()
        await self.manager.leave()

    def say_goodbye(self) -> None:
        """Do as `disconnect`, without waiting for an end of the connection."""
        self.tell(self.left())

    def left(self) -> Told | None:
        """Do as `say_goodbye`, but for the handlers: give what `tell` is to tell them."""
        connection = self.manager.connection
        if connection is not None and self._state is CONNECTED:
            connection.write(self._goodbye(connection))
        return self.ended(Reason.IO_CLIENT_DISCONNECT, None)

    def _goodbye(self, connection: Connection) -> Encoded:
        if self.name == "/":
            connection.in_main = False
        return self.manager.codec.encode(Packet(DISCONNECT, self.name))

    async def wait_closed(self) -> Reason | None:
        """Wait until the socket is closed for good: by either side, refused, or because reconnection was given up. Gives the reason.

        Returns at once when it is not active.
        """
        while self._state is not IDLE:
            closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._closing.append(closing)
            await closing
        return self.reason

    async def __aenter__(self) -> ClientSocket:
        await self.connect()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        await self.disconnect()

    # Sending

    def _flagged(self) -> Flagged:
        return Flagged(self, False, None)

    def _emit(self, event: str, args: Sequence[JSON]) -> None:
        self.send_event(event, args, volatile=False)

    async def _call(self, event: str, args: Sequence[JSON], timeout: float | None) -> JSON:
        return await self.ask(event, args, timeout, volatile=False)

    def send_event(self, event: str, args: Sequence[JSON], *, volatile: bool) -> None:
        """Do as `emit`; a volatile event is dropped where it cannot be sent now."""
        self.outbox.emit((event, *args), volatile=volatile)
        if self.listeners.any_outgoing:
            self.manager.post(self._tell_outgoing, event, args)

    def _tell_outgoing(self, event: str, args: Sequence[JSON]) -> None:
        self.manager.dispatcher.tell(self.listeners.any_outgoing, self, event, (event, *args))

    async def ask(self, event: str, args: Sequence[JSON], timeout: float | None, *, volatile: bool) -> JSON:
        """Do as `call`."""
        return unpack(await self.request_ack(event, args, timeout, volatile=volatile))

    async def request_ack(self, event: str, args: Sequence[JSON], timeout: float | None, *, volatile: bool = False) -> Sequence[JSON]:
        """Send an event and give the arguments of its ack."""
        self.manager.check_thread()
        if self.listeners.any_outgoing:
            self._tell_outgoing(event, args)
        return await self.outbox.ask((event, *args), timeout, volatile=volatile)

    async def drain(self) -> None:
        """Wait until what was emitted has been handed to the network: the backpressure of a producer.

        While the socket is active but not connected, it waits for that first. Raises ConnectionClosed when the socket is not active and
        something waits to be sent.
        """
        await self.outbox.drain()

    # Events, besides handlers

    def events(self, event: EventName, *, max_events: int = MAX_EVENTS) -> EventStream:
        """Iterate over the events of one name: `async for args in socket.events("message")`, where `args` is a tuple.

        It begins now, and ends when the socket is closed for good (see `wait_closed`), but not when the connection is interrupted. A
        consumer that falls more than `max_events` behind gets LocalProtocolError. Also takes `connect`, `disconnect`, `connect_error`.
        """
        return self.streams.open(str(event), max_events)

    async def wait_for(self, event: EventName, *, timeout: float | None = None) -> Args:
        """Wait for the next event of this name and give its arguments as a tuple.

        Raises TimeoutError after `timeout` seconds, and ConnectionClosed when the socket is closed for good before it comes.
        """
        async with asyncio.timeout(timeout):
            return await self.streams.wait_for(str(event))

    def on_error(self, hook: ErrorHook) -> ErrorHook:
        """Register a hook for errors of handlers: `(error, socket, event)`, plain or async; it hears of all sockets of the connection.

        The log (`mizzen.client`) has the error with its traceback in any case.
        """
        self.manager.dispatcher.error_hooks.add(hook)
        return hook

    def of(self, name: str, *, auth: Auth = None) -> ClientSocket:
        """Give the socket of another namespace of the same connection, the same one each time; it is not connected yet.

        `auth` is what its CONNECT packet carries; without it, what it had.
        """
        return self.manager.socket(name, auth)

    # What the manager calls

    def forget(self) -> None:
        """Be as before `connect`: what was going on has ended with its event loop. What was emitted stays."""
        self.turn, self.thread_turn = asyncio.Lock(), asyncio.Lock()
        self._state, self.id = IDLE, None
        self.recovery = Recovery()
        self._joining.lost()
        self.manager.early.take(self)
        self._opening.clear()
        self._closing.clear()
        self.outbox.forget()

    def opened(self, connection: Connection) -> None:
        """Ask the server for this namespace, now that there is a connection."""
        if self._state is not WAITING:
            return
        self._state = CONNECTING
        if connection.eio == 3 and self.name == "/" and connection.in_main:
            self._connected(None)
        else:
            self._joining.begin(connection)

    def attempt_failed(self, connection: Connection, failure: ConnectFailed) -> None:
        """Take notice that the socket could not be connected, if it is still to be."""
        if self._state is CONNECTING and self.manager.connection is connection:
            self.manager.attempt_failed(self, connection, failure)

    def received(self, packet: Packet, size: int) -> None:
        """Take one packet."""
        kind = packet.type
        if kind is EVENT:
            if self._state is CONNECTED:
                self._event(packet.data, packet.id, size)
            elif self._state is CONNECTING:  # missed packets of a session that is being recovered come before the answer
                self._early(packet.data, packet.id, size)
        elif kind is ACK:
            if packet.id is not None:
                self.outbox.acked(packet.id, packet.data)
        elif kind is DISCONNECT:
            self.end(Reason.IO_SERVER_DISCONNECT, None)
        else:
            self._answered(packet)

    def _answered(self, packet: Packet) -> None:
        """Take the answer to a CONNECT, which may come when it is not wanted any more, or not so."""
        connection = self.manager.connection
        if connection is None or self._state is CONNECTED:
            return
        counts = self._joining.answered()
        if self._state is CONNECTING and counts:
            if packet.type is CONNECT:
                self._connected(packet.data)
            else:
                self._refused(packet.data)
            return
        self.manager.early.take(self)
        if packet.type is CONNECT:
            connection.answer(self._goodbye(connection))
        if self._state is CONNECTING and counts is False:
            self._joining.ask(connection)

    def _early(self, data: list[JSON], id: int | None, size: int) -> None:
        manager, connection = self.manager, self.manager.connection
        if manager.early.put(self, data, id, size) or connection is None:
            return
        self.recovery = Recovery()  # or else the same would come again
        told = f"the server sent {manager.early.size} bytes of events to {self.name} before it answered the CONNECT"
        manager.abandon(connection, ConnectFailed(f"{told} (max_buffer={manager.options.max_buffer})"))

    def _event(self, data: list[JSON], id: int | None, size: int) -> None:
        name, *args = data
        if name.__class__ is not str:
            name = number_text(name)
        # "every EVENT without ack id and not volatile gets an extra last argument"
        if id is None and self.recovery.pid is not None:
            self.recovery.take(args)
        if self.streams:
            self.streams.push(name, args)
        listeners = self.listeners
        if name in listeners.handlers or listeners.any:
            self.manager.dispatcher.event(self, name, args, id, size)

    def _connected(self, data: JSON) -> None:
        connection = self.manager.connection
        assert connection is not None
        told = cast("dict[str, JSON]", data) if isinstance(data, dict) else {}
        id, pid, offset = told.get("sid"), told.get("pid"), told.get("offset")
        if connection.eio == 3:
            id = connection.engine.sid if self.name == "/" else f"{self.name}#{connection.engine.sid}"
        if not isinstance(id, str):
            self.manager.attempt_failed(self, connection, ConnectFailed(_NO_PID))
            return
        self._joining.stop()
        self.id = id
        self.recovered = self.recovery.connected(pid if isinstance(pid, str) else None, offset if isinstance(offset, str) else None)
        self._state = CONNECTED
        missed = self.manager.early.take(self)
        self.outbox.connected(connection)
        for opening in self._opening:
            if not opening.done():
                opening.set_result(None)
        self._opening.clear()
        # From here on handlers run, which may start at once, and end it.
        self.manager.succeeded()
        for event in missed:
            if self._state is CONNECTED:
                self._event(*event)
        if self._state is CONNECTED:
            self.tell(self._pushed("connect", ()))

    def _refused(self, data: JSON) -> None:
        message, details = "refused", data
        if isinstance(data, str):  # socket.io 2
            message, details = data, None
        elif isinstance(data, dict) and "message" in data:
            told = cast("dict[str, JSON]", data)
            message, details = str(told["message"]), told.get("data")
        self.fail(ConnectRefused(message, data=details), Reason.IO_SERVER_DISCONNECT)

    def not_reached(self, error: ConnectFailed) -> None:
        """Tell that an attempt failed, and that there will be others."""
        self.tell(self._pushed("connect_error", (error,)))

    def lost(self, reason: Reason, details: str | None) -> Told | None:
        """The connection is gone; the socket comes back with the next one. Gives what `tell` is to tell when every socket knows."""
        self._joining.lost()
        if self._state is IDLE:
            return None
        was_connected = self._state is CONNECTED
        self._state, self.reason, self.id = WAITING, reason, None
        self.manager.early.take(self)
        self.outbox.lost(f"the connection was lost before the ack came: {reason} ({details})", reason)
        return self._pushed("disconnect", (reason, details)) if was_connected else None

    def fail(self, error: ConnectFailed | ConnectRefused, reason: Reason) -> None:
        """Be closed for good: the namespace, or the server, cannot be had."""
        self.tell(self.failed(error, reason))

    def failed(self, error: ConnectFailed | ConnectRefused, reason: Reason) -> Told | None:
        """Do as `fail`, but for the handlers: give what `tell` is to tell them."""
        for opening in self._opening:
            if not opening.done():
                opening.set_exception(error)
        self._opening.clear()
        return self._ended(reason, str(error), ("connect_error", (error,)))

    def end(self, reason: Reason, details: str | None) -> None:
        """Be closed for good, until `connect`."""
        self.tell(self.ended(reason, details))

    def ended(self, reason: Reason, details: str | None) -> Told | None:
        """Do as `end`, but for the handlers: give what `tell` is to tell them."""
        return self._ended(reason, details, ("disconnect", (reason, details)) if self._state is CONNECTED else None)

    def _ended(self, reason: Reason, details: str | None, told: Told | None) -> Told | None:
        if self._state is IDLE:
            return None
        self._state, self.reason, self.id = IDLE, reason, None
        self.recovery = Recovery()
        self._joining.stop()
        self.manager.early.take(self)
        message = f"{self.name} of {self.manager.url} is closed: {reason}" + (f" ({details})" if details else "")
        self.outbox.ended(message, reason)
        for opening in self._opening:
            if not opening.done():
                opening.set_exception(ConnectFailed(message))
        self._opening.clear()
        if told is not None:
            self._pushed(*told)
        self.streams.end(message, reason)
        for closing in self._closing:
            if not closing.done():
                closing.set_result(None)
        self._closing.clear()
        # Before handlers run, so that one of them that connects gets a new connection.
        self.manager.leave_soon()
        return told

    def _pushed(self, event: str, args: Sequence[JSON]) -> Told:
        if self.streams:
            self.streams.push(event, args)
        return event, args

    def tell(self, told: Told | None) -> None:
        """Start the handlers of what became of the socket. They may start at once, and change what the caller has looked at before."""
        if told is not None:
            event, args = told
            plan = self.listeners.take(event)
            if plan:
                self.manager.dispatcher.tell(plan, self, event, args)
