"""One client in one namespace: what handlers get first."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Protocol, cast

from mizzen.errors import ConnectionClosed, LocalProtocolError
from mizzen.ports import Target
from mizzen.protocol.encoded import Encoded
from mizzen.protocol.packet import DISCONNECT, Packet
from mizzen.server.acks import Reply
from mizzen.server.emits import Emits, Rooms, check_event, flatten
from mizzen.server.gone import Gone
from mizzen.server.operator import Operator
from mizzen.types import JSON, Handshake, Reason

if TYPE_CHECKING:
    from mizzen.server.multiplexer import Multiplexer
    from mizzen.server.namespace import Namespace


class SocketState(Enum):
    """How far a socket is: its CONNECT packet has not been written, has been, or it is gone."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    GONE = "gone"


CONNECTING, CONNECTED, GONE = SocketState.CONNECTING, SocketState.CONNECTED, SocketState.GONE


class AckWaiter(Protocol):
    """What waits for the ack of an id."""

    def came(self, socket: Socket, args: Sequence[JSON]) -> None: ...

    def gone(self, socket: Socket, reason: Reason) -> None: ...


class Socket(Emits):
    """One client in one namespace.

    `id` is public: it names the socket, and a room with only this socket in it. `data` and `headers` are yours: `data` for anything,
    `headers` for what goes along with every socket request (`socket.headers["authorization"] = …`). `reason` says why it is gone, None
    before. `emit`, `join`, `leave` and `disconnect` may be called from any thread; once the socket is gone they do nothing.
    """

    __slots__ = (
        "__weakref__",
        "_acks",
        "_auth",
        "_handshake",
        "_held",
        "_leaving",
        "_multiplexer",
        "_thread_turn",
        "data",
        "headers",
        "id",
        "jar",
        "joined",
        "namespace",
        "reason",
        "state",
    )

    def __init__(self, namespace: Namespace, multiplexer: Multiplexer, id: str, auth: JSON) -> None:
        self.id: str = id
        self.namespace: Namespace = namespace
        self.data: dict[str, JSON] = {}
        self.headers: dict[str, str] = {}
        self.joined: set[str] = set()
        self.reason: Reason | None = None
        self.state: SocketState = CONNECTING
        self._multiplexer = multiplexer
        self._auth = auth
        self._handshake: Handshake | None = None
        # What is for this socket before its CONNECT packet is written; None from then on.
        self._held: list[Encoded] | None = []
        self._acks: dict[int, AckWaiter] = {}
        self._thread_turn: asyncio.Lock | None = None
        self._leaving: Gone | None = None
        # What socket requests keep of this socket: the cookies that their answers have set. Made with the first one.
        self.jar: object | None = None

    def __repr__(self) -> str:
        return f"<Socket {self.id} of {self.namespace.name} {self.state.value}>"

    @property
    def connected(self) -> bool:
        """Whether the client has been told that it is connected, and is still there."""
        return self.state is CONNECTED

    @property
    def rooms(self) -> frozenset[str]:
        """The rooms that the socket is in, its own id among them; none once it is gone."""
        return frozenset() if self.state is GONE else frozenset(self.joined | {self.id})

    @property
    def handshake(self) -> Handshake:
        """What the client sent when it connected: headers, query, address, and `auth` of this namespace."""
        if self._handshake is None:
            self._handshake = self._multiplexer.connection.handshake.with_auth(self._auth)
        return self._handshake

    @property
    def transport(self) -> str:
        """What carries the socket's packets now: `polling` or `websocket`."""
        return self._multiplexer.connection.transport.name

    @property
    def thread_turn(self) -> asyncio.Lock:
        """The lock that lets plain functions of this socket run one after another."""
        if self._thread_turn is None:
            self._thread_turn = asyncio.Lock()
        return self._thread_turn

    @property
    def leaving(self) -> Gone:
        """What tells socket requests that their socket is gone."""
        if self._leaving is None:
            self._leaving = Gone()
            if self.state is GONE:
                self._leaving.happen()
        return self._leaving

    # Rooms

    def join(self, *rooms: Rooms) -> None:
        """Join rooms: names, or lists of names."""
        self.namespace.server.post(self._join, flatten(rooms))

    def _join(self, rooms: tuple[str, ...]) -> None:
        if self.state is not GONE:
            self.namespace.adapter.join(self, rooms)

    def leave(self, *rooms: Rooms) -> None:
        """Leave rooms; those that it is not in are ignored."""
        self.namespace.server.post(self.namespace.adapter.leave, self, flatten(rooms))

    # Sending

    def _operator(self) -> Operator:
        return Operator(self.namespace, Target(), self)

    @property
    def broadcast(self) -> Operator:
        """Everybody in the namespace but this socket."""
        return self._operator().broadcast()

    def emit(self, event: str, *args: JSON) -> None:
        """Send an event to this client; encodes, queues and returns. May be called from any thread.

        bytes anywhere in `args` travel as binary attachments. Raises TypeError for arguments that cannot be encoded and LocalProtocolError
        for a reserved name.
        """
        check_event(event)
        namespace = self.namespace
        namespace.server.post(self.write, namespace.server.codec.encode_event(namespace.name, (event, *args), None))

    async def call(self, event: str, *args: JSON, timeout: float | None = None) -> JSON:
        """Send an event to this client and wait for its ack: None, its one argument, or a tuple of several.

        `timeout` in seconds; without one, until the client answers or goes. Raises AckTimeout, ConnectionClosed when the socket goes
        before it answers, RemoteError when the client's handler failed, and LocalProtocolError when `max_pending_acks` others are awaited
        already.
        """
        check_event(event)
        namespace = self.namespace
        reply = Reply(namespace.server.running_loop())
        if self.state is GONE:
            assert self.reason is not None
            raise ConnectionClosed(f"socket {self.id} is gone: {self.reason}", self.reason)
        self.check_acks()
        id = namespace.next_id()
        encoded = namespace.server.codec.encode_event(namespace.name, (event, *args), id)
        self._acks[id] = reply
        self.write(encoded)
        try:
            return await reply.wait(event, timeout)
        finally:
            self._acks.pop(id, None)

    async def drain(self) -> None:
        """Wait until what was emitted to this client has been handed to the network: the backpressure of a producer.

        Returns at once when nothing waits. Raises ConnectionClosed when the socket goes first.
        """
        await self._multiplexer.connection.drained()
        if self.reason is not None:
            raise ConnectionClosed(f"socket {self.id} is gone: {self.reason}", self.reason)

    def disconnect(self, close: bool = False) -> None:
        """Disconnect this client from the namespace, or with `close` from all of them, and end its connection.

        Its side sees `io server disconnect` and does not reconnect by itself.
        """
        self.namespace.server.post(self._disconnect, close)

    def _disconnect(self, close: bool) -> None:
        if self.state is GONE:
            return
        if close:
            self._multiplexer.disconnect_all()
        else:
            self.say_goodbye()

    # What the multiplexer, the adapter and the operator call

    def write(self, encoded: Encoded) -> None:
        """Queue a packet, or hold it until the CONNECT packet is written."""
        held = self._held
        if held is None:
            self._multiplexer.connection.write(encoded)
        elif self.state is CONNECTING:
            held.append(encoded)
            self._multiplexer.connection.hold(encoded.size)

    def write_volatile(self, encoded: Encoded) -> None:
        """Queue a packet, or drop it if it could not be sent now."""
        if self.state is CONNECTED:
            self._multiplexer.connection.write_volatile(encoded)

    def welcome(self, connect: Encoded) -> None:
        """Write the CONNECT packet and what was held."""
        self.state = CONNECTED
        held, self._held = self._held, None
        connection = self._multiplexer.connection
        connection.write(connect)
        if held:
            connection.hold(-sum([encoded.size for encoded in held]))
            for encoded in held:
                connection.write(encoded)

    def say_goodbye(self) -> None:
        """Disconnect from this side; a client that is still connecting is refused."""
        if self.state is CONNECTING:
            self._multiplexer.dismiss(self, "The server disconnected the socket while it connected", None)
            return
        namespace = self.namespace
        self.write(namespace.server.codec.encode(Packet(DISCONNECT, namespace.name)))
        self._multiplexer.part(self, Reason.SERVER_NAMESPACE_DISCONNECT)

    def end(self, reason: Reason) -> None:
        """Be gone: out of all rooms, nothing held, nobody waiting."""
        self.state = GONE
        self.reason = reason
        self.namespace.adapter.remove(self)
        if self._held and not self._multiplexer.connection.gone:
            self._multiplexer.connection.hold(-sum([encoded.size for encoded in self._held]))
        self._held = []  # so that nothing more goes to the connection, which may live on
        acks, self._acks = self._acks, {}
        for waiter in acks.values():
            waiter.gone(self, reason)
        if self._leaving is not None:
            self._leaving.happen()

    def check_acks(self) -> None:
        """Raise LocalProtocolError when as many acks are awaited as may be."""
        limit = self.namespace.server.options.max_pending_acks
        if len(self._acks) >= limit:
            raise LocalProtocolError(f"{limit} acks of socket {self.id} are awaited already (max_pending_acks); give `call` a timeout")

    def expect(self, id: int, waiter: AckWaiter) -> None:
        """Have `waiter` told of the ack `id`."""
        if self.state is GONE:
            assert self.reason is not None
            waiter.gone(self, self.reason)
        else:
            self._acks[id] = waiter

    def expect_no_more(self, id: int) -> None:
        """Take back `expect`."""
        self._acks.pop(id, None)

    async def drained(self) -> None:
        """Do as `drain`, but take no notice of an end."""
        await self._multiplexer.connection.drained()

    def acked(self, id: int, args: Sequence[JSON]) -> None:
        """Take an ack of the client; one that nobody waits for is dropped."""
        waiter = self._acks.pop(id, None)
        if waiter is not None:
            waiter.came(self, args)

    def ack(self, id: int, result: object) -> None:
        """Send an ack: None is none, a tuple several arguments, anything else one. Raises TypeError for what cannot be encoded."""
        namespace = self.namespace
        args = cast("tuple[JSON, ...]", result) if isinstance(result, tuple) else () if result is None else (result,)
        self.write(namespace.server.codec.encode_ack(namespace.name, args, id))
