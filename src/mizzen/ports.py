"""Every extension point on one page: what a transport, an adapter, a codec and a consumer of messages are to the rest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mizzen.protocol.encoded import Encoded
from mizzen.protocol.engine import Link
from mizzen.protocol.packet import Packet
from mizzen.types import JSON, ASGIApp, Handshake, Reason, RoomEvent


class Transport(Protocol):
    """What carries the packets of one connection at the moment."""

    name: str
    """`polling` or `websocket`."""

    @property
    def buffered(self) -> int:
        """Bytes that were taken by `flush` and are not sent, the largest packet among them not counted."""
        ...

    @property
    def writable(self) -> bool:
        """Whether a packet could be sent now; a volatile packet is dropped where not."""
        ...

    @property
    def sending(self) -> bool:
        """Whether a packet is being sent, so that what is buffered waits behind it."""
        ...

    def flush(self, out: list[Encoded]) -> bool:
        """Take all of `out` (it then belongs to the transport), or nothing and give False; then call `flush` of the connection later."""
        ...

    def pause_reading(self) -> None:
        """Read no more from the wire, as far as the transport reads by itself."""
        ...

    def resume_reading(self) -> None: ...

    def end(self, last: Encoded) -> None:
        """Let go of the wire, now; `last` is what a poll that waits is answered with."""
        ...


class Consumer(Protocol):
    """What takes the messages of one connection: Socket.IO, or anything else that speaks over Engine.IO."""

    def opened(self) -> None:
        """The open packet has been queued: from now on messages may be sent."""
        ...

    def received(self, message: str | bytes) -> None:
        """One whole message has come."""
        ...

    def closed(self, reason: Reason, details: str | None) -> None:
        """The connection is over for its messages; called once, after `opened`."""
        ...


class AckWaiter(Protocol):
    """What waits for the acks of one id."""

    def came(self, member: Member, args: Sequence[JSON], /) -> None:
        """The ack of a member has come."""
        ...

    def gone(self, member: Member, reason: Reason, /) -> None:
        """A member is gone before its ack came."""
        ...


class Write(Protocol):
    """Queues a packet."""

    def __call__(self, encoded: Encoded, /) -> None: ...


class Member(Protocol):
    """What an adapter sees of a socket."""

    id: str
    joined: set[str]
    """The rooms that it is in, its own id not among them."""

    @property
    def connected(self) -> bool:
        """Whether its client has been told that it is connected: before, no ack can come of it."""
        ...

    @property
    def write(self) -> Write:
        """What queues a packet; it never raises, never closes, never calls a user."""
        ...

    def write_volatile(self, encoded: Encoded) -> None:
        """Queue a packet, or drop it if it could not be sent now."""
        ...

    def disconnect(self, close: bool = False) -> None:
        """Disconnect it from the namespace, or with `close` end its connection."""
        ...

    def details(self) -> SocketDetails:
        """Give what other nodes may know of it."""
        ...

    def expect(self, id: int, waiter: AckWaiter) -> None:
        """Have `waiter` told of the ack of a packet with this id, which is about to be written. Raises LocalProtocolError when too many are
        awaited already."""
        ...

    def expect_no_more(self, id: int) -> None:
        """Take back `expect`."""
        ...


@dataclass(slots=True, kw_only=True)
class Target:
    """Whom a broadcast is for: members of any of `rooms` (None: everybody; empty: nobody) less those in any of `excluded` and `omit`.

    A socket's id names a room with only that socket in it. `timeout` is in seconds.
    """

    rooms: tuple[str, ...] | None = None
    excluded: tuple[str, ...] = ()
    omit: Member | None = None
    volatile: bool = False
    local: bool = False
    compress: bool = True
    timeout: float | None = None

    @property
    def spans_nodes(self) -> bool:
        """Whether sockets of other nodes may be among them: to be asked before anything is told to those."""
        return not self.local and self.rooms != ()


@dataclass(slots=True, kw_only=True)
class SocketDetails:
    """What nodes tell each other of a socket; `handshake` has the fields that `Handshake.details` gives."""

    id: str
    handshake: Mapping[str, JSON]
    rooms: frozenset[str]
    data: dict[str, JSON]


@dataclass(slots=True, kw_only=True)
class SavedSession:
    """What is kept of a socket whose client may come back.

    `pid` is the secret by which the client proves who it is; `since` the offset that was the last when it connected; `watched` says that
    its heartbeat was never suspended, so that its end was seen in time.
    """

    sid: str
    pid: str
    rooms: frozenset[str]
    data: dict[str, JSON]
    since: str
    watched: bool = True


@dataclass(slots=True, kw_only=True)
class RestoredSession:
    """A session that was restored, with the packets that its client has missed, in order."""

    session: SavedSession
    missed: Sequence[Encoded]


class Acks(Protocol):
    """What collects the acks of a broadcast. It is over when nothing is waited for, so other nodes have to be named before members."""

    def expect(self, members: Collection[Member]) -> None:
        """Wait for the acks of these members of this node, which are about to get the packet. Raises LocalProtocolError when one of them
        is waited for too often already."""
        ...

    def expect_others(self, *, nodes: int = 0, sockets: int = 0) -> None:
        """Wait for so many more nodes to say how many of their sockets got the packet, and for the acks of so many more sockets of theirs;
        negative: for so many less. A node that says n is `expect_others(nodes=-1, sockets=n)`."""
        ...

    def replied(self, argument: JSON) -> None:
        """The first argument of the ack of another node's socket has come."""
        ...

    def when_over(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when nobody waits any more: all acks have come, or it was given up."""
        ...


class AdapterHost(Protocol):
    """What an adapter sees of its namespace."""

    name: str

    def sent(self, packet: Packet, members: Collection[Member]) -> None:
        """Take notice that a packet went to these members; to be called only while `watched`."""
        ...

    watched: bool
    """Whether anybody listens to what is sent."""

    @property
    def room_watcher(self) -> Callable[[RoomEvent, str, str | None], None] | None:
        """What is told of rooms: what has happened, the room, and which socket has joined or left; None while nobody asks."""
        ...

    async def answer_nodes(self, args: Sequence[JSON]) -> JSON:
        """Give what this node answers to a `server_side_call` of another one: the name of the event, then its arguments. An error of a
        handler is reported, and answered as to a client."""
        ...

    def encode(self, packet: Packet) -> Encoded:
        """Encode a packet of another node. Raises TypeError for data that cannot be encoded."""
        ...

    def next_id(self) -> int:
        """Make the id of a packet that another node wants acks of: ids are each node's own."""
        ...

    def start(self, coroutine: Coroutine[object, object, None]) -> None:
        """Run a coroutine in a task of the server, which ends it when it closes."""
        ...

    def expire_after(self, seconds: float) -> None:
        """Have `Adapter.expire` called then, once."""
        ...


class Adapter(Protocol):
    """Rooms and broadcast of one namespace. One that joins nodes to a cluster does for all of them what this port says of members."""

    recovers: bool
    """Whether it keeps packets and sessions, so that a client that was away for a short time may go on where it was."""

    @property
    def rooms(self) -> Mapping[str, Collection[Member]]:
        """The sockets of each room on this node."""
        ...

    def add(self, member: Member) -> None:
        """Make a socket that middleware has let pass reachable: from now on broadcasts to everybody and to its id get to it."""
        ...

    def remove(self, member: Member) -> None:
        """Take a socket out of everything; costs as much as it has joined."""
        ...

    def join(self, member: Member, rooms: Iterable[str]) -> None: ...

    def leave(self, member: Member, rooms: Iterable[str]) -> None: ...

    def members(self, target: Target) -> Collection[Member]:
        """Give the sockets on this node that the target names; not to be kept, not to be changed."""
        ...

    def broadcast(self, packet: Packet, encoded: Encoded, target: Target) -> None:
        """Deliver a packet; `encoded` is its encoded form, shared by all recipients."""
        ...

    def broadcast_with_ack(self, packet: Packet, encoded: Encoded, target: Target, acks: Acks) -> None:
        """Deliver a packet whose recipients answer, and tell `acks` who they are before it goes out. Those who are not connected yet are
        none of them: a `connect` handler that waited for the ack of its own socket would wait for ever."""
        ...

    async def fetch_sockets(self, target: Target) -> Sequence[SocketDetails]:
        """Give what is known of the sockets that the target names."""
        ...

    def join_sockets(self, target: Target, rooms: tuple[str, ...]) -> None:
        """Have the sockets that the target names join rooms."""
        ...

    def leave_sockets(self, target: Target, rooms: tuple[str, ...]) -> None:
        """Have the sockets that the target names leave rooms."""
        ...

    def disconnect_sockets(self, target: Target, close: bool) -> None:
        """Disconnect the sockets that the target names."""
        ...

    def emit_to_nodes(self, args: Sequence[JSON]) -> None:
        """Send an event (its name, then its arguments) to the other nodes."""
        ...

    async def call_nodes(self, args: Sequence[JSON], timeout: float) -> list[JSON]:
        """Send an event to the other nodes and give what each answers. `timeout` in seconds."""
        ...

    def last_offset(self) -> str:
        """Give the offset of the last packet that is kept; asked only where `recovers`."""
        ...

    def next_offset(self) -> str:
        """Make the offset of the next packet that is to be kept. May be called from any thread."""
        ...

    def save_session(self, session: SavedSession) -> None:
        """Keep a session whose client may come back."""
        ...

    async def restore_session(self, pid: str, offset: str | None) -> RestoredSession | None:
        """Give a session that was saved, once, with what was sent after `offset` (None: since it connected); None where it or the offset is
        not known, or too old."""
        ...

    @property
    def awaits_clients(self) -> bool:
        """Whether sessions are kept whose clients may come back, so that an empty namespace is still of use."""
        ...

    def expire(self) -> None:
        """Forget what is too old: the time is over that was asked for with `AdapterHost.expire_after`."""
        ...

    def close(self) -> None:
        """Forget everything."""
        ...


AdapterFactory = Callable[[AdapterHost], Adapter]
"""What makes the adapter of a namespace."""


class PacketDecoder(Protocol):
    """Makes packets of one connection's messages."""

    def feed(self, message: str | bytes) -> Packet | None:
        """Take one Engine.IO message; give the packet that it completes. Raises RemoteProtocolError, nothing else."""
        ...


class Codec(Protocol):
    """How Socket.IO packets are written: the `parser` of the Node server. One per server."""

    def encode(self, packet: Packet) -> Encoded:
        """Raises TypeError for data that cannot be encoded."""
        ...

    def encode_event(self, nsp: str, args: Sequence[JSON], id: int | None) -> Encoded: ...

    def encode_ack(self, nsp: str, args: Sequence[JSON], id: int | None) -> Encoded: ...

    def decoder(self, max_attachments: int) -> PacketDecoder: ...


class Session(Protocol):
    """What a transport sees of the connection that it carries."""

    sid: str
    handshake: Handshake
    transport: Transport
    paused: bool
    """Whether reading has to stop until `readable` returns."""

    @property
    def eio(self) -> int:
        """The Engine.IO protocol: 3 or 4."""
        ...

    @property
    def gone(self) -> bool:
        """Whether the session is over and nothing more is to be sent."""
        ...

    @property
    def upgradable(self) -> bool:
        """Whether a probe may begin: the session is open, on polling, and not probing."""
        ...

    @property
    def probing(self) -> bool:
        """Whether an upgrade is under way."""
        ...

    def start(self, transport: Transport) -> None:
        """Open the session on its first transport."""
        ...

    def receive_all(self, packets: Iterable[str | bytes]) -> None:
        """Take the Engine.IO packets of one read; what they are answered with at once leaves in one write. Never raises."""
        ...

    def flush(self) -> None:
        """Send what is written: the transport can take packets again. Never raises."""
        ...

    def shut_down(self) -> None:
        """The ASGI server stops: close whatever this session belongs to."""
        ...

    async def readable(self) -> None:
        """Wait until more may be received."""
        ...

    def lost(self, reason: Reason, details: str | None = None) -> None:
        """The wire is gone, or what came over it cannot be borne."""
        ...

    def probe(self, cancel: Callable[[], None]) -> None:
        """Begin an upgrade; `cancel` is called when the session ends before the upgrade does."""
        ...

    def probe_lost(self) -> None:
        """The upgrade failed; the session stays on polling."""
        ...

    def upgraded(self, transport: Transport) -> None:
        """Move to the new transport. Raises LocalProtocolError when the session no longer can."""
        ...


class SessionStore(Protocol):
    """What the HTTP side sees of all sessions."""

    accepting: bool
    """False while the server closes: new sessions are answered with 503."""

    def get(self, sid: str) -> Session | None: ...

    def create(self, handshake: Handshake, eio: int, link: Link, sid: str | None = None) -> Session:
        """Make a session; `sid` is that of the user's own making, which no session has yet."""
        ...


class EngineHooks(Protocol):
    """What the HTTP side asks and tells the user of the engine."""

    def wrap(self, app: ASGIApp) -> None:
        """Put the middleware around this app, which is what serves the engine's requests."""
        ...

    @property
    def entrance(self) -> ASGIApp | None:
        """The outermost middleware around the engine's requests; None where there is none."""
        ...

    @property
    def generates_ids(self) -> bool:
        """Whether the user makes the ids of sessions."""
        ...

    async def new_id(self, handshake: Handshake) -> str:
        """Make the id of a session. Raises whatever the user's function raises, and ValueError for what is no id."""
        ...

    @property
    def edits_headers(self) -> bool:
        """Whether anybody wants to see the headers of answers."""
        ...

    async def edit_headers(self, headers: list[tuple[bytes, bytes]], handshake: Handshake, *, first: bool) -> list[tuple[bytes, bytes]]:
        """Give the headers as the user wants them; `first` says whether this answer is the session's first. Never raises."""
        ...

    async def refused(self, code: int, message: str, context: dict[str, object], handshake: Handshake) -> None:
        """Take notice that a request was refused. Never raises."""
        ...

    def failed(self, error: Exception, where: str) -> None:
        """Take notice that something of the user's failed."""
        ...
