"""Many sockets in many rooms: what is done costs as much as it touches, not as much as there is."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import pytest

from mizzen.adapters.memory import MemoryAdapter
from mizzen.adapters.recovery import RecoveringAdapter
from mizzen.options import ConnectionStateRecovery
from mizzen.ports import AckWaiter, Adapter, SocketDetails, Target
from mizzen.protocol.codec import JSONCodec
from mizzen.protocol.encoded import Encoded
from mizzen.protocol.packet import EVENT, Packet
from tests.adapters.fakes import FakeHost

FEW, MANY = 1_000, 100_000
REPEATED = 200
FRIENDS = 10
"""Sockets in each room that several share."""
PACKET = Packet(EVENT, "/", ["news", "offset"])
ENCODED = JSONCodec().encode(PACKET)


class Light:
    """A socket that is little else than the rooms that it is in."""

    connected: bool = True

    __slots__ = ("id", "joined", "writes")

    def __init__(self, id: str) -> None:
        self.id = id
        self.joined: set[str] = set()
        self.writes = 0

    def write(self, encoded: Encoded) -> None:
        self.writes += 1

    def write_volatile(self, encoded: Encoded) -> None:
        self.writes += 1

    def disconnect(self, close: bool = False) -> None: ...

    def details(self) -> SocketDetails:
        return SocketDetails(id=self.id, handshake={}, rooms=frozenset(self.joined), data={})

    def expect(self, id: int, waiter: AckWaiter) -> None: ...

    def expect_no_more(self, id: int) -> None: ...


class Crowd:
    """So many sockets in twice as many rooms: each is in one or two of its own, and in one with nine others."""

    def __init__(self, adapter: Adapter, size: int) -> None:
        self.adapter = adapter
        self.sockets = [Light(f"s{number}") for number in range(size)]
        for number, socket in enumerate(self.sockets):
            adapter.add(socket)
            adapter.join(socket, [f"own {number}", f"own too {number}" if number % FRIENDS else f"shared {number // FRIENDS}"])
        for number in range(0, size, FRIENDS):
            for socket in self.sockets[number : number + FRIENDS]:
                adapter.join(socket, [f"shared {number // FRIENDS}"])


Operation = Callable[[Crowd, int], object]
OPERATIONS: dict[str, Operation] = {
    "join": lambda crowd, number: crowd.adapter.join(crowd.sockets[number], ["new", f"newer {number}"]),
    "leave": lambda crowd, number: crowd.adapter.leave(crowd.sockets[number], [f"own {number}"]),
    "disconnect": lambda crowd, number: crowd.adapter.remove(crowd.sockets[number]),
    "to one": lambda crowd, number: crowd.adapter.broadcast(PACKET, ENCODED, Target(rooms=(f"s{number}",))),
    "to a room": lambda crowd, number: crowd.adapter.broadcast(PACKET, ENCODED, Target(rooms=(f"shared {number // FRIENDS}",))),
    "to two rooms": lambda crowd, number: crowd.adapter.broadcast(
        PACKET, ENCODED, Target(rooms=(f"shared {number // FRIENDS}", f"own {number}"))
    ),
    "to others in a room": lambda crowd, number: crowd.adapter.broadcast(
        PACKET, ENCODED, Target(rooms=(f"shared {number // FRIENDS}",), omit=crowd.sockets[number])
    ),
    "to a room but not to another": lambda crowd, number: crowd.adapter.broadcast(
        PACKET, ENCODED, Target(rooms=(f"shared {number // FRIENDS}",), excluded=(f"own {number}",))
    ),
    "members of a room join another": lambda crowd, number: crowd.adapter.join_sockets(
        Target(rooms=(f"shared {number // FRIENDS}",)), (f"new {number}",)
    ),
}


def crowds(size: int) -> list[Crowd]:
    """Give a crowd for each adapter."""
    return [
        Crowd(MemoryAdapter(FakeHost()), size),
        Crowd(RecoveringAdapter(FakeHost(), ConnectionStateRecovery(max_history=100_000)), size),
    ]


def spent(crowd: Crowd, operation: Operation, turn: int) -> float:
    """Give the seconds that it takes for some sockets, which are others in each turn."""
    size = len(crowd.sockets)
    numbers = [(turn * REPEATED + each) * (size // FEW) for each in range(REPEATED)]
    began = time.process_time()
    for number in numbers:
        operation(crowd, number)
    return time.process_time() - began


@pytest.fixture(scope="module")
def few() -> list[Crowd]:
    return crowds(FEW)


@pytest.fixture(scope="module")
def many() -> list[Crowd]:
    return crowds(MANY)


def test_there_are_twice_as_many_rooms_as_sockets(many: list[Crowd]) -> None:
    for crowd in many:
        assert len(crowd.adapter.rooms) == 2 * MANY
        assert len(crowd.adapter.members(Target())) == MANY


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "disconnect"] + ["disconnect"])
def test_it_costs_what_it_touches(few: list[Crowd], many: list[Crowd], name: str) -> None:
    """To look at everything there is would make it a hundred times as much; that memory is far away makes it some times as much."""
    gc.disable()
    try:
        for one, other in zip(few, many, strict=True):
            turns = range(FEW // REPEATED)
            assert min(spent(other, OPERATIONS[name], turn) for turn in turns) < 20 * min(
                spent(one, OPERATIONS[name], turn) for turn in turns
            )
    finally:
        gc.enable()


def test_a_broadcast_to_everybody_is_linear() -> None:
    def per_socket(size: int) -> float:
        crowd = Crowd(MemoryAdapter(FakeHost()), size)
        began = time.process_time()
        crowd.adapter.broadcast(PACKET, ENCODED, Target())
        took = time.process_time() - began
        assert all(socket.writes == 1 for socket in crowd.sockets)
        return took / size

    assert min(per_socket(20_000) for _ in range(3)) < 10 * min(per_socket(2_000) for _ in range(3))
