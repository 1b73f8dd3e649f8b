"""Every extension point on one page: what a transport, an adapter, a codec and a consumer of messages are to the rest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mizzen.protocol.encoded import Encoded
from mizzen.protocol.engine import Link
from mizzen.protocol.packet import Packet
from mizzen.types import JSON, Handshake, Reason


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
        """Take all of `out` (it then belongs to the transport), or nothing and give False; then call `ready` of the connection later."""
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


class Member(Protocol):
    """What an adapter sees of a socket."""

    id: str
    joined: set[str]
    """The rooms that it is in, its own id not among them."""

    def write(self, encoded: Encoded) -> None:
        """Queue a packet; never raises, never closes, never calls a user."""
        ...

    def write_volatile(self, encoded: Encoded) -> None:
        """Queue a packet, or drop it if it could not be sent now."""
        ...


@dataclass(slots=True, kw_only=True)
class Target:
    """Whom a broadcast is for: members of any of `rooms` (everybody if there are none) less those in any of `excluded` and `omit`.

    A socket's id names a room with only that socket in it.
    """

    rooms: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    omit: Member | None = None
    volatile: bool = False
    local: bool = False
    timeout: float | None = None


class Adapter(Protocol):
    """Rooms and broadcast of one namespace."""

    @property
    def rooms(self) -> Mapping[str, Collection[Member]]:
        """The sockets of each room on this node."""
        ...

    def add(self, member: Member) -> None:
        """Make a socket reachable: from now on broadcasts to everybody and to its id get to it."""
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

    def close(self) -> Awaitable[None] | None: ...


class PacketDecoder(Protocol):
    """Makes packets of one connection's messages."""

    @property
    def pending(self) -> int:
        """Bytes held of a packet that is not complete."""
        ...

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

    def receive(self, packet: str | bytes) -> None:
        """Take one Engine.IO packet; never raises."""
        ...

    def shut_down(self) -> None:
        """The ASGI server stops: close whatever this session belongs to."""
        ...

    async def readable(self) -> None:
        """Wait until more may be received."""
        ...

    def ready(self) -> None:
        """The transport can take packets again."""
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

    def create(self, handshake: Handshake, eio: int, link: Link) -> Session: ...
