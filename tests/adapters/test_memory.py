"""The contract of every adapter: rooms as sets of sockets, and who a broadcast reaches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.adapters.memory import MemoryAdapter
from mizzen.adapters.recovery import RecoveringAdapter
from mizzen.options import ConnectionStateRecovery
from mizzen.ports import Adapter, AdapterHost, Member, Target
from mizzen.protocol.codec import JSONCodec
from mizzen.protocol.encoded import Encoded
from mizzen.protocol.packet import EVENT, Packet
from mizzen.types import JSON, Reason, RoomEvent
from tests.adapters.fakes import FakeHost, FakeSocket

ADAPTERS: list[Callable[[AdapterHost], Adapter]] = [MemoryAdapter, lambda host: RecoveringAdapter(host, ConnectionStateRecovery())]
PACKET = Packet(EVENT, "/", ["news"])
ENCODED = JSONCodec().encode(PACKET)


@pytest.fixture(params=ADAPTERS, ids=["memory", "recovering"])
def adapter(request: pytest.FixtureRequest) -> Adapter:
    return request.param(FakeHost())


def sockets(adapter: Adapter, rooms: dict[str, Iterable[str]]) -> dict[str, FakeSocket]:
    """Add a socket for each id, in the rooms given for it."""
    made = {id: FakeSocket(id) for id in rooms}
    for id, socket in made.items():
        adapter.add(socket)
        adapter.join(socket, rooms[id])
    return made


def reached(adapter: Adapter, *rooms: str, excluded: tuple[str, ...] = (), omit: Member | None = None) -> list[str]:
    """Give the ids that a target names, sorted; one that is named twice stands there twice."""
    return sorted(member.id for member in adapter.members(Target(rooms=rooms or None, excluded=excluded, omit=omit)))


# Whom a target names


@pytest.fixture
def three(adapter: Adapter) -> dict[str, FakeSocket]:
    """Give three sockets: A in a and ab, B in b and ab, C in none."""
    return sockets(adapter, {"A": ["a", "ab"], "B": ["b", "ab"], "C": []})


@pytest.mark.parametrize(
    ("rooms", "excluded", "expected"),
    [
        ((), (), "ABC"),
        (("a",), (), "A"),
        (("ab",), (), "AB"),
        (("a", "b"), (), "AB"),
        (("a", "ab"), (), "AB"),  # once each
        (("ab", "ab"), (), "AB"),
        (("nobody",), (), ""),  # a room of no members is not everybody
        (("nobody", "a"), (), "A"),
        ((), ("a",), "BC"),
        ((), ("a", "b"), "C"),
        ((), ("nobody",), "ABC"),
        (("ab",), ("a",), "B"),
        (("a",), ("a",), ""),
        (("a", "b"), ("ab",), ""),
        (("C",), (), "C"),  # an id is a room
        (("C", "a"), (), "AC"),
        (("A", "a"), (), "A"),
        ((), ("C",), "AB"),
        (("ab",), ("B",), "A"),
        (("A",), ("ab",), ""),
    ],
)
def test_a_target_is_the_union_of_its_rooms_less_those_excluded(
    adapter: Adapter, three: dict[str, FakeSocket], rooms: tuple[str, ...], excluded: tuple[str, ...], expected: str
) -> None:
    assert reached(adapter, *rooms, excluded=excluded) == list(expected)


@pytest.mark.parametrize(
    ("rooms", "excluded", "expected"), [((), (), "BC"), (("ab",), (), "B"), (("A",), (), ""), ((), ("b",), "C"), (("a", "C"), (), "C")]
)
def test_the_socket_that_sends_is_omitted(
    adapter: Adapter, three: dict[str, FakeSocket], rooms: tuple[str, ...], excluded: tuple[str, ...], expected: str
) -> None:
    assert reached(adapter, *rooms, excluded=excluded, omit=three["A"]) == list(expected)


def test_others_may_join_the_room_that_an_id_names(adapter: Adapter, three: dict[str, FakeSocket]) -> None:
    adapter.join(three["A"], ["C"])
    assert reached(adapter, "C") == ["A", "C"]
    assert reached(adapter, "C", "A") == ["A", "C"]
    assert reached(adapter, excluded=("C",)) == ["B"]
    adapter.remove(three["C"])
    assert reached(adapter, "C") == ["A"], "the room outlives the socket that it is named after"


# Joining and leaving


def test_joining_and_leaving_twice_is_joining_and_leaving_once(adapter: Adapter) -> None:
    a = sockets(adapter, {"A": ["x", "x"]})["A"]
    adapter.join(a, ["x"])
    assert (reached(adapter, "x"), a.joined) == (["A"], {"x"})
    adapter.leave(a, ["x", "x", "never joined"])
    adapter.leave(a, ["x"])
    assert (reached(adapter, "x"), a.joined) == ([], set())


def test_empty_rooms_vanish(adapter: Adapter, three: dict[str, FakeSocket]) -> None:
    assert set(adapter.rooms) == {"a", "b", "ab"}
    adapter.leave(three["A"], ["a", "ab"])
    assert set(adapter.rooms) == {"b", "ab"}
    adapter.remove(three["B"])
    assert set(adapter.rooms) == set()


def test_an_own_id_is_a_room_that_costs_nothing_and_cannot_be_left(adapter: Adapter) -> None:
    a = sockets(adapter, {"A": ["A"]})["A"]
    assert (set(adapter.rooms), a.joined) == (set(), set())
    adapter.leave(a, ["A"])
    assert reached(adapter, "A") == ["A"]


def test_a_removed_socket_is_reached_by_nothing(adapter: Adapter, three: dict[str, FakeSocket]) -> None:
    adapter.remove(three["A"])
    adapter.remove(three["A"])
    assert (reached(adapter), reached(adapter, "ab"), reached(adapter, "A")) == (["B", "C"], ["B"], [])
    assert three["A"].joined == set()


def test_a_socket_that_was_never_added_is_removed_without_harm(adapter: Adapter, three: dict[str, FakeSocket]) -> None:
    adapter.remove(FakeSocket("stranger"))
    assert reached(adapter) == ["A", "B", "C"]


def test_a_closed_adapter_is_empty_and_its_sockets_may_still_leave(adapter: Adapter, three: dict[str, FakeSocket]) -> None:
    adapter.close()
    assert (set(adapter.rooms), reached(adapter)) == (set(), [])
    for socket in three.values():
        adapter.leave(socket, ["ab"])
        adapter.remove(socket)
    adapter.close()


# Broadcast


def test_a_broadcast_writes_one_shared_form_to_each_once(adapter: Adapter, three: dict[str, FakeSocket]) -> None:
    adapter.broadcast(PACKET, ENCODED, Target(rooms=("a", "b", "ab")))
    assert [three[id].written for id in "ABC"] == [[ENCODED], [ENCODED], []]
    assert three["A"].written[0] is ENCODED
    assert not any(socket.volatile for socket in three.values())


def test_a_volatile_broadcast_may_be_dropped_by_each(adapter: Adapter, three: dict[str, FakeSocket]) -> None:
    adapter.broadcast(PACKET, ENCODED, Target(omit=three["B"], volatile=True))
    assert [three[id].volatile for id in "ABC"] == [[ENCODED], [], [ENCODED]]
    assert not any(socket.written for socket in three.values())


def test_a_broadcast_to_everybody_goes_out_in_the_order_of_arrival(adapter: Adapter) -> None:
    ids = [f"s{number}" for number in range(50)]
    order: list[str] = []

    class Noting(FakeSocket):
        def write(self, encoded: Encoded) -> None:
            order.append(self.id)

    for id in ids:
        adapter.add(Noting(id))
    adapter.broadcast(PACKET, ENCODED, Target())
    assert order == ids


# Who is to answer


class FakeAcks:
    """Keeps what it is told of a broadcast that asks for acks."""

    def __init__(self) -> None:
        self.expected: list[list[str]] = []

    def expect(self, members: Collection[Member]) -> None:
        for member in members:
            member.expect(0, NobodyWaits())
        self.expected.append([member.id for member in members])

    def expect_others(self, *, nodes: int = 0, sockets: int = 0) -> None:
        raise AssertionError("there is no other node")

    def replied(self, argument: JSON) -> None:
        raise AssertionError("there is no other node")

    def when_over(self, callback: Callable[[], None]) -> None:
        raise AssertionError("there is nothing to clean up")


class NobodyWaits:
    """Waits for an ack that is of no interest."""

    def came(self, member: Member, args: Sequence[JSON]) -> None: ...

    def gone(self, member: Member, reason: Reason) -> None: ...


def test_who_is_to_answer_is_told_before_the_packet_goes(adapter: Adapter, three: dict[str, FakeSocket]) -> None:
    acks = FakeAcks()
    adapter.broadcast_with_ack(PACKET, ENCODED, Target(rooms=("ab",)), acks)  # the sockets assert the order
    assert acks.expected == [["A", "B"]] or acks.expected == [["B", "A"]]
    assert [three[id].written for id in "ABC"] == [[ENCODED], [ENCODED], []]


def test_those_who_are_not_connected_are_not_asked(adapter: Adapter, three: dict[str, FakeSocket]) -> None:
    three["A"].connected = False
    acks = FakeAcks()
    adapter.broadcast_with_ack(PACKET, ENCODED, Target(rooms=("ab",)), acks)
    assert acks.expected == [["B"]]
    assert [three[id].written for id in "AB"] == [[], [ENCODED]]
    adapter.broadcast(PACKET, ENCODED, Target(rooms=("ab",)))
    assert [three[id].written for id in "AB"] == [[ENCODED], [ENCODED, ENCODED]]


def test_a_broadcast_that_reaches_nobody_says_so(adapter: Adapter) -> None:
    acks = FakeAcks()
    adapter.broadcast_with_ack(PACKET, ENCODED, Target(rooms=("nobody",)), acks)
    assert acks.expected == [[]]


def test_a_packet_that_asks_for_acks_is_not_kept() -> None:
    adapter = RecoveringAdapter(FakeHost(), ConnectionStateRecovery())
    adapter.broadcast_with_ack(Packet(EVENT, "/", ["x"], 1), ENCODED, Target(), FakeAcks())
    assert not adapter._sent


# Across the namespace


async def test_what_is_known_of_sockets(adapter: Adapter, three: dict[str, FakeSocket]) -> None:
    found = await adapter.fetch_sockets(Target(rooms=("ab",)))
    assert {details.id: details.rooms for details in found} == {"A": {"A", "a", "ab"}, "B": {"B", "b", "ab"}}
    assert await adapter.fetch_sockets(Target(rooms=("nobody",))) == []


@pytest.mark.parametrize("rooms", [(), ("ab",), ("a", "b"), ("A", "B")])
def test_sockets_may_join_the_room_that_names_them_and_leave_it(
    adapter: Adapter, three: dict[str, FakeSocket], rooms: tuple[str, ...]
) -> None:
    target = Target(rooms=rooms or None, excluded=("C",))
    adapter.join_sockets(target, ("ab", "new", "a", "b"))
    assert (reached(adapter, "new"), reached(adapter, "a"), reached(adapter, "b")) == (["A", "B"],) * 3
    adapter.leave_sockets(target, ("new", "ab"))
    assert (reached(adapter, "new"), reached(adapter, "ab")) == ([], [])
    assert set(adapter.rooms) == {"a", "b"}


def test_sockets_that_go_when_they_are_disconnected_do_not_disturb(adapter: Adapter) -> None:
    class Going(FakeSocket):
        def disconnect(self, close: bool = False) -> None:
            super().disconnect(close)
            adapter.remove(self)

    going = [Going(str(number)) for number in range(20)]
    for socket in going:
        adapter.add(socket)
        adapter.join(socket, ["room"])
    adapter.disconnect_sockets(Target(rooms=("room",), omit=going[0]), close=True)
    assert [socket.disconnected for socket in going] == [[], *[[True]] * 19]
    assert (reached(adapter), reached(adapter, "room")) == (["0"], ["0"])
    adapter.disconnect_sockets(Target(), close=False)
    assert (going[0].disconnected, reached(adapter)) == ([False], [])


async def test_alone_no_node_answers(adapter: Adapter) -> None:
    adapter.emit_to_nodes(("x", 1))
    assert await adapter.call_nodes(("x", 1), 0.0) == []


# What is told of rooms


def test_rooms_are_made_before_they_are_joined_and_go_after_they_are_left() -> None:
    for make in ADAPTERS:
        host = FakeHost()
        adapter = make(host)
        host.watch_rooms()
        a, b = sockets(adapter, {"A": ["x", "x"], "B": ["x"]}).values()
        assert host.events == [
            (RoomEvent.CREATE, "x", None),
            (RoomEvent.JOIN, "x", "A"),
            (RoomEvent.JOIN, "x", "B"),
        ]
        host.events.clear()
        adapter.leave(a, ["x", "never joined"])
        adapter.remove(b)
        assert host.events == [
            (RoomEvent.LEAVE, "x", "A"),
            (RoomEvent.LEAVE, "x", "B"),
            (RoomEvent.DELETE, "x", None),
        ]


def test_a_hook_may_end_the_socket_whose_joining_it_is_told_of() -> None:
    host = FakeHost()
    adapter = MemoryAdapter(host)
    socket = FakeSocket("A")
    adapter.add(socket)
    host.room_watcher = lambda what, room, id: adapter.remove(socket)
    adapter.join(socket, ("x", "y"))
    assert adapter.rooms == {}
    assert socket.joined == set()


def test_nothing_is_told_of_the_room_that_an_own_id_names() -> None:
    for make in ADAPTERS:
        host = FakeHost()
        adapter = make(host)
        host.watch_rooms()
        a, b = sockets(adapter, {"A": ["A"], "B": []}).values()
        adapter.leave(a, ["A"])
        assert host.events == []
        adapter.join(b, ["A"])  # of that of another it is
        assert host.events == [(RoomEvent.CREATE, "A", None), (RoomEvent.JOIN, "A", "B")]
        host.events.clear()
        adapter.remove(a)
        assert host.events == []


def test_what_is_sent_is_told_while_somebody_listens() -> None:
    for make in ADAPTERS:
        host = FakeHost()
        adapter = make(host)
        sockets(adapter, {"A": ["x"], "B": []})
        packet = Packet(EVENT, "/", ["news", "offset"])
        adapter.broadcast(packet, ENCODED, Target(rooms=("x",)))
        assert host.packets == []
        host.watched = True
        adapter.broadcast(packet, ENCODED, Target(rooms=("x",)))
        adapter.broadcast_with_ack(PACKET, ENCODED, Target(omit=None, rooms=("B",)), FakeAcks())
        assert host.packets == [(packet, ["A"]), (PACKET, ["B"])]


# Cost


class CountingRooms(dict[str, set[Member]]):
    """Rooms that count how they are used."""

    def __init__(self) -> None:
        super().__init__()
        self.touched: set[str] = set()

    def __getitem__(self, room: str) -> set[Member]:
        self.touched.add(room)
        return super().__getitem__(room)

    def get(self, room: str, default: set[Member] | None = None) -> set[Member] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.touched.add(room)
        return super().get(room, default)

    def __iter__(self):
        raise AssertionError("it looks at every room there is")

    def items(self):
        raise AssertionError("it looks at every room there is")

    def values(self):
        raise AssertionError("it looks at every room there is")


def test_leaving_all_touches_only_the_rooms_joined() -> None:
    adapter = MemoryAdapter(FakeHost())
    rooms = adapter.rooms = CountingRooms()
    made = sockets(adapter, {f"s{number}": [f"r{number}", "all"] for number in range(100)})
    rooms.touched.clear()
    adapter.remove(made["s7"])
    assert rooms.touched <= {"r7", "all"}
    assert len(rooms) == 100


# Against a model

IDS = "ABCD"
ROOMS = ["x", "y", "z", "A", "B"]

steps = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "join", "leave"]), st.sampled_from(IDS), st.lists(st.sampled_from(ROOMS), max_size=3))
)
some_rooms = st.lists(st.sampled_from([*ROOMS, "C", "nobody"]), max_size=3).map(tuple)


@pytest.mark.parametrize("make", ADAPTERS, ids=["memory", "recovering"])
@given(steps=steps, rooms=some_rooms, excluded=some_rooms, omit=st.sampled_from([None, *IDS]))
def test_the_rooms_are_those_of_a_naive_model(
    make: Callable[[AdapterHost], Adapter],
    steps: list[tuple[str, str, list[str]]],
    rooms: tuple[str, ...],
    excluded: tuple[str, ...],
    omit: str | None,
) -> None:
    adapter = make(FakeHost())
    everybody = {id: FakeSocket(id) for id in IDS}
    present: set[str] = set()
    joined: dict[str, set[str]] = {id: set() for id in IDS}
    for step, id, named in steps:
        socket = everybody[id]
        if step == "add":
            adapter.add(socket)
            present.add(id)
        elif id not in present:
            continue  # only sockets that are there join, leave and go
        elif step == "remove":
            adapter.remove(socket)
            present.discard(id)
            joined[id].clear()
        elif step == "join":
            adapter.join(socket, named)
            joined[id].update(named)
        else:
            adapter.leave(socket, named)
            joined[id].difference_update(named)
        assert {room: {member.id for member in members} for room, members in adapter.rooms.items()} == {
            room: members for room in ROOMS if (members := {id for id in present if room in joined[id] and room != id})
        }
        assert all(everybody[id].joined == joined[id] - {id} for id in IDS)

    def in_any(id: str, rooms: tuple[str, ...]) -> bool:
        return id in rooms or any(room in joined[id] for room in rooms)

    expected = sorted(id for id in present if (not rooms or in_any(id, rooms)) and not in_any(id, excluded) and id != omit)
    assert reached(adapter, *rooms, excluded=excluded, omit=everybody[omit] if omit else None) == expected
