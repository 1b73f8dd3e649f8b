"""A namespace and sockets as an adapter sees them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Sequence

from mizzen.ports import AckWaiter, Member, SocketDetails
from mizzen.protocol.codec import JSONCodec
from mizzen.protocol.encoded import Encoded
from mizzen.protocol.packet import Packet
from mizzen.types import JSON, RoomEvent


class FakeHost:
    """A namespace that keeps what its adapter tells it."""

    def __init__(self, name: str = "/") -> None:
        self.name = name
        self.watched = False
        self.packets: list[tuple[Packet, list[str]]] = []
        self.events: list[tuple[RoomEvent, str, str | None]] = []
        self.expiries: list[float] = []
        self.room_watcher: Callable[[RoomEvent, str, str | None], None] | None = None

    def watch_rooms(self) -> None:
        """Ask to be told of rooms."""
        self.room_watcher = lambda what, room, id: self.events.append((what, room, id))

    def sent(self, packet: Packet, members: Collection[Member]) -> None:
        self.packets.append((packet, [member.id for member in members]))

    async def answer_nodes(self, args: Sequence[JSON]) -> JSON:
        return [self.name, *args]

    def encode(self, packet: Packet) -> Encoded:
        return JSONCodec().encode(packet)

    def next_id(self) -> int:
        return 0

    def start(self, coroutine: Coroutine[object, object, None]) -> None:
        raise AssertionError("an adapter of one process has nothing to run")

    def expire_after(self, seconds: float) -> None:
        self.expiries.append(seconds)


class FakeSocket:
    """A member of rooms that keeps what is done with it."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.joined: set[str] = set()
        self.written: list[Encoded] = []
        self.volatile: list[Encoded] = []
        self.connected = True
        self.disconnected: list[bool] = []
        self.waiters: dict[int, AckWaiter] = {}

    def __repr__(self) -> str:
        return self.id

    def write(self, encoded: Encoded) -> None:
        self.written.append(encoded)

    def write_volatile(self, encoded: Encoded) -> None:
        self.volatile.append(encoded)

    def disconnect(self, close: bool = False) -> None:
        self.disconnected.append(close)

    def expect(self, id: int, waiter: AckWaiter) -> None:
        assert not self.written, "what it waits for has been sent already"
        self.waiters[id] = waiter

    def expect_no_more(self, id: int) -> None:
        self.waiters.pop(id, None)

    def details(self) -> SocketDetails:
        return SocketDetails(id=self.id, handshake={}, rooms=frozenset(self.joined | {self.id}), data={})
