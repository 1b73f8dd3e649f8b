"""Across the namespace: sockets named by rooms are fetched, moved and disconnected, on one node and on those of a cluster."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from mizzen import JSON, AckTimeout, ConnectionClosed, EventRefused, LocalProtocolError, Reason, RemoteError, Server, Socket
from mizzen.server.operator import Operator
from mizzen.server.remote import RemoteSocket
from mizzen.types import RoomEvent
from tests.adapters.linked import LinkedAdapter, LinkedBus
from tests.server.fake_wire import FakeWire, join_fake, join_nsp, open_fake, settle
from tests.support import WITHIN, until


class Person:
    """A client and its socket."""

    def __init__(self, wire: FakeWire, socket: Socket) -> None:
        self.wire = wire
        self.socket = socket

    async def answer(self, *args: Any) -> list[Any]:
        """Take an event that wants an ack and answer it; give the event."""
        prefix, event = await self.wire.receive_json()
        assert re.fullmatch(r"42\d+", prefix), prefix
        await self.wire.send(f"43{prefix[2:]}{json.dumps(args)}")
        return event


class World:
    """Clients a (in room x) and b (in x and y) of one server, c (in y) and d (in none) of another, which may be the same."""

    def __init__(self, servers: tuple[Server, Server], bus: LinkedBus | None, people: dict[str, Person]) -> None:
        self.io, self.other = servers
        self.bus = bus
        self.people = people

    @property
    def names(self) -> dict[str, str]:
        """The letters by socket id."""
        return {person.socket.id: name for name, person in self.people.items()}

    def socket(self, name: str) -> Socket:
        return self.people[name].socket

    def told(self) -> str:
        """Say who has got anything since the last call, in order of names."""
        return "".join(name for name, person in self.people.items() if person.wire.received())


@pytest.fixture(params=["one node", "two nodes"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        bus = LinkedBus() if request.param == "two nodes" else None
        first = await stack.enter_async_context(Server(adapter=bus.node("1") if bus else None))
        second = await stack.enter_async_context(Server(adapter=bus.node("2"))) if bus else first
        people: dict[str, Person] = {}
        for name, io, rooms in (("a", first, ["x"]), ("b", first, ["x", "y"]), ("c", second, ["y"]), ("d", second, [])):
            wire, sid = await stack.enter_async_context(join_fake(io, auth={"name": name}))
            people[name] = Person(wire, io.sockets[sid])
            people[name].socket.join(rooms)
            people[name].socket.data["name"] = name
        yield World((first, second), bus, people)


TARGETS: list[tuple[Callable[[World], Any], str]] = [
    (lambda w: w.io, "abcd"),
    (lambda w: w.other, "abcd"),
    (lambda w: w.io.of("/"), "abcd"),
    (lambda w: w.io.to("x"), "ab"),
    (lambda w: w.io.to("y"), "bc"),
    (lambda w: w.other.to("x", "y"), "abc"),
    (lambda w: w.io.to("nobody"), ""),
    (lambda w: w.io.except_("x"), "cd"),
    (lambda w: w.other.except_("x"), "cd"),
    (lambda w: w.io.to("y").except_("x"), "c"),
    (lambda w: w.io.to(w.socket("d").id), "d"),
    (lambda w: w.io.except_(w.socket("d").id), "abc"),
    (lambda w: w.socket("a").broadcast, "bcd"),
    (lambda w: w.socket("b").to("y"), "c"),
    (lambda w: w.socket("c").to("y"), "b"),
    (lambda w: w.socket("c").broadcast.except_("x"), "d"),
    (lambda w: w.io.volatile.to("x"), "ab"),
]
SAME = pytest.mark.parametrize(("choose", "named"), TARGETS)


class TestEachTarget:
    @SAME
    async def test_emit(self, world: World, choose: Callable[[World], Operator], named: str) -> None:
        choose(world).emit("news", 1, {"file": b"\x01"})
        await settle()
        assert world.told() == named

    @SAME
    async def test_fetch_sockets(self, world: World, choose: Callable[[World], Operator], named: str) -> None:
        found = await choose(world).fetch_sockets()
        assert sorted(world.names[socket.id] for socket in found) == list(named)

    @SAME
    async def test_sockets_join_and_leave(self, world: World, choose: Callable[[World], Operator], named: str) -> None:
        target = choose(world)
        target.sockets_join("new", ["newer"])
        await settle()
        joined = [name for name, person in world.people.items() if {"new", "newer"} <= person.socket.rooms]
        assert joined == list(named)
        target.sockets_leave("new")
        await settle()
        left = [name for name, person in world.people.items() if "newer" in person.socket.rooms and "new" not in person.socket.rooms]
        assert left == list(named)

    @SAME
    async def test_disconnect_sockets(self, world: World, choose: Callable[[World], Operator], named: str) -> None:
        target = choose(world)
        target.emit("before")
        target.disconnect_sockets()
        await settle()
        for name, person in world.people.items():
            assert person.socket.connected is (name not in named)
            assert person.wire.received() == (['42["before"]', "41"] if name in named else [])

    @SAME
    async def test_call(self, world: World, choose: Callable[[World], Operator], named: str) -> None:
        task = asyncio.create_task(choose(world).call("ask", 5, timeout=WITHIN))
        for name in named:
            assert await world.people[name].answer(name, "more") == ["ask", 5]
        assert sorted(await task) == list(named)
        assert world.told() == ""

    @SAME
    async def test_from_a_thread(self, world: World, choose: Callable[[World], Operator], named: str) -> None:
        target = choose(world)

        def move() -> None:
            target.sockets_join("new", "old")
            target.sockets_leave("old")
            target.emit("hello")

        for work in (move, target.disconnect_sockets):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            await settle()
            assert world.told() == named
            if work == move:
                assert [name for name, person in world.people.items() if person.socket.rooms & {"new", "old"} == {"new"}] == list(named)
        assert [name for name, person in world.people.items() if not person.socket.connected] == list(named)


class TestRemoteSockets:
    async def one(self, world: World, name: str) -> RemoteSocket:
        (remote,) = await world.io.to(world.socket(name).id).fetch_sockets()
        return remote

    @pytest.mark.parametrize("name", ["b", "c"])
    async def test_what_is_told_of_a_socket(self, world: World, name: str) -> None:
        socket = world.socket(name)
        remote = await self.one(world, name)
        assert isinstance(remote, RemoteSocket)
        assert (remote.id, remote.rooms, remote.data) == (socket.id, socket.rooms, {"name": name})
        for field in ("headers", "query", "url", "address", "secure", "xdomain", "auth"):
            assert getattr(remote.handshake, field) == getattr(socket.handshake, field), field
        assert remote.handshake.auth == {"name": name}
        assert remote.handshake.issued == pytest.approx(socket.handshake.issued, abs=0.001)
        remote.data["name"] = "changed"
        assert socket.data == {"name": name}

    @pytest.mark.parametrize("name", ["a", "d"])
    async def test_it_is_reached_where_it_is(self, world: World, name: str) -> None:
        person = world.people[name]
        remote = await self.one(world, name)
        remote.emit("hello", b"\x01")
        assert await person.wire.receive() == '451-["hello",{"_placeholder":true,"num":0}]'
        assert await person.wire.receive() == b"\x01"
        remote.join("new", ["newer"])
        await settle()
        assert {"new", "newer"} <= person.socket.rooms
        remote.leave("new")
        await settle()
        assert person.socket.rooms & {"new", "newer"} == {"newer"}
        remote.disconnect()
        assert await person.wire.receive() == "41"
        assert world.told() == ""

    async def test_disconnecting_its_connection(self, world: World) -> None:
        (await self.one(world, "d")).disconnect(close=True)
        assert await world.people["d"].wire.until_closed() == 1000

    @pytest.mark.parametrize("name", ["a", "d"])
    async def test_call_gives_the_first_argument(self, world: World, name: str) -> None:
        remote = await self.one(world, name)
        task = asyncio.create_task(remote.call("ask", 1, timeout=WITHIN))
        assert await world.people[name].answer({"n": 2}, 3) == ["ask", 1]
        assert await task == {"n": 2}

    @pytest.mark.parametrize("name", ["a", "d"])
    async def test_call_raises_what_a_call_to_a_socket_raises(self, world: World, name: str) -> None:
        remote = await self.one(world, name)
        task = asyncio.create_task(remote.call("ask", timeout=WITHIN))
        await world.people[name].answer({"error": {"code": "E_HANDLER", "message": "no", "details": []}})
        with pytest.raises(RemoteError, match="no"):
            await task
        with pytest.raises(AckTimeout):
            await remote.call("ask", timeout=0.01)
        world.people[name].socket.disconnect()
        await settle()
        with pytest.raises(ConnectionClosed, match="gone"):
            await remote.call("ask", timeout=WITHIN)

    async def test_a_socket_that_is_gone_is_reached_by_nothing(self, world: World) -> None:
        remote = await self.one(world, "d")
        world.socket("d").disconnect()
        await settle()
        world.told()
        remote.emit("x")
        remote.join("room")
        remote.disconnect()
        await settle()
        assert world.told() == ""
        assert not await world.io.to(remote.id).fetch_sockets()


class TestNodes:
    async def test_alone_there_is_nobody_to_answer(self) -> None:
        async with Server() as io:
            io.on_server_side("ask", lambda: 1)
            io.server_side_emit("ask")
            assert await io.server_side_call("ask", timeout=0.01) == []
            assert await io.of("/chat").server_side_call("ask") == []

    @pytest.mark.parametrize("name", ["connect", "connection", "new_namespace"])
    async def test_names_that_node_servers_emit_themselves(self, name: str) -> None:
        async with Server() as io:
            with pytest.raises(LocalProtocolError, match=name):
                io.server_side_emit(name)
            with pytest.raises(LocalProtocolError, match=name):
                await io.server_side_call(name)
            with pytest.raises(LocalProtocolError, match=name):
                io.on_server_side(name, lambda: None)

    async def test_who_awaits_has_to_be_on_the_loop(self) -> None:
        async with Server() as io:

            def work() -> None:
                for call in (io.fetch_sockets(), io.server_side_call("x"), io.call("x")):
                    with pytest.raises(LocalProtocolError, match="from_thread"):
                        call.send(None)

            await asyncio.to_thread(work)


class Three:
    """Three nodes, each with one client, who is in room r."""

    def __init__(self, bus: LinkedBus, servers: list[Server], people: list[Person]) -> None:
        self.bus = bus
        self.servers = servers
        self.people = people
        self.io = servers[0]

    @property
    def adapter(self) -> LinkedAdapter:
        """The adapter of the first node."""
        adapter = self.io.of("/").adapter
        assert isinstance(adapter, LinkedAdapter)
        return adapter


@pytest.fixture
async def three() -> AsyncIterator[Three]:
    async with AsyncExitStack() as stack:
        bus = LinkedBus()
        servers: list[Server] = []
        people: list[Person] = []
        for uid in "123":
            io = await stack.enter_async_context(Server(adapter=bus.node(uid), close_grace=0.1))
            wire, sid = await stack.enter_async_context(join_fake(io))
            io.sockets[sid].join("r")
            servers.append(io)
            people.append(Person(wire, io.sockets[sid]))
        yield Three(bus, servers, people)
        assert not any(each.asked or each.collected for each in bus.nodes), "a request is kept that nobody waits for"


class TestCluster:
    async def test_local_stays_on_this_node(self, three: Three) -> None:
        before = len(three.bus.texts)
        local = three.io.local
        local.emit("x")
        local.to("r").sockets_join("new")
        assert len(await local.fetch_sockets()) == 1
        task = asyncio.create_task(local.call("ask", timeout=WITHIN))
        assert [await three.people[0].wire.receive(), await three.people[0].answer(1)] == ['42["x"]', ["ask"]]
        assert await task == [1]
        local.disconnect_sockets()
        await settle()
        assert [person.socket.connected for person in three.people] == [False, True, True]
        assert ["new" in person.socket.rooms for person in three.people[1:]] == [False, False]
        assert not any(person.wire.received() for person in three.people[1:])
        assert len(three.bus.texts) == before

    async def test_a_packet_travels_without_an_id_and_each_node_gives_it_one_of_its_own(self, three: Three) -> None:
        busy = [asyncio.create_task(three.people[1].socket.call("own", timeout=WITHIN)) for _ in range(3)]
        await settle()
        for _ in busy:
            await three.people[1].answer()
        await asyncio.gather(*busy)
        task = asyncio.create_task(three.io.call("ask", timeout=WITHIN))
        ids = [(await person.wire.receive_json())[0] for person in three.people]
        assert ids == ["420", "423", "420"]
        for person, id in zip(three.people, ids, strict=True):
            await person.wire.send(f"43{id[2:]}[{id[2:]}]")
        assert sorted(await task) == [0, 0, 3]
        request = next(json.loads(text) for text in three.bus.texts if '"requestId"' in text)
        assert request["data"]["packet"] == {"type": 2, "data": ["ask"]}

    async def test_a_call_that_reaches_nobody_waits_for_the_counts_alone(self, three: Three) -> None:
        assert await three.io.to("nobody").call("ask", timeout=WITHIN) == []

    async def test_a_call_that_reaches_only_others_waits_for_them(self, three: Three) -> None:
        task = asyncio.create_task(three.people[0].socket.to("r").call("ask", timeout=WITHIN))
        await three.people[2].answer("c")
        await settle()
        assert not task.done()
        await three.people[1].answer("b")
        assert await task == ["c", "b"]

    async def test_the_timeout_carries_the_replies_of_all_nodes(self, three: Three) -> None:
        task = asyncio.create_task(three.io.call("ask", timeout=0.05))
        await three.people[0].answer("a")
        await three.people[2].answer("c")
        with pytest.raises(AckTimeout, match=r"^1 acks of 'ask'") as error:
            await task
        assert error.value.replies == ["a", "c"]
        await three.people[1].answer("too late")
        await settle()
        assert error.value.replies == ["a", "c"]

    async def test_a_node_that_says_nothing(self, three: Three) -> None:
        three.bus.deaf.add("3")
        task = asyncio.create_task(three.io.call("ask", timeout=0.05))
        await three.people[0].answer("a")
        await three.people[1].answer("b")
        with pytest.raises(AckTimeout, match="1 nodes said nothing") as error:
            await task
        assert error.value.replies == ["a", "b"]

    async def test_an_ack_may_overtake_the_count_of_its_node(self, three: Three) -> None:
        task = asyncio.create_task(three.io.call("ask", timeout=WITHIN))
        await settle(1)
        (asked,) = three.adapter.asked.values()
        asked.acks.replied("early")
        await three.people[0].answer("a")
        for person in three.people[1:]:
            await person.wire.receive()
        await settle()
        assert not task.done(), "one of the other nodes' two sockets has not answered"
        asked.acks.replied("late")
        assert await task == ["early", "a", "late"]

    async def test_a_node_that_leaves_is_waited_for_no_longer(self, three: Three) -> None:
        task = asyncio.create_task(three.io.call("ask", timeout=WITHIN))
        await three.people[0].answer("a")
        await three.people[1].answer("b")
        await three.people[2].wire.receive()
        await settle()
        assert not task.done()
        await three.servers[2].close(0)
        assert await task == ["a", "b"]

    async def test_a_call_that_is_given_up_is_forgotten(self, three: Three) -> None:
        task = asyncio.create_task(three.io.call("ask"))
        await settle()
        assert len(three.adapter.asked) == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not three.adapter.asked
        assert not three.people[0].socket._acks

    async def test_volatile_travels(self, three: Three) -> None:
        three.people[1].wire.stall()
        three.people[1].socket.emit("fills the wire")
        await settle()
        three.io.volatile.emit("v")
        await settle()
        three.people[1].wire.flow()
        await settle()
        assert [person.wire.received() for person in three.people] == [['42["v"]'], ['42["fills the wire"]'], ['42["v"]']]

    async def test_what_goes_is_heard_where_it_goes(self, three: Three) -> None:
        seen: list[str] = []
        three.servers[2].on_any_outgoing(lambda socket, name, *args: seen.append(f"{name}{list(args)}"))
        three.io.emit("x", 1)
        await until(lambda: bool(seen))
        assert seen == ["x[1]"]

    async def test_namespaces_do_not_mix(self, three: Three) -> None:
        for io in three.servers:
            io.of("/chat")
        async with open_fake(three.servers[1]) as wire:
            await join_nsp(wire, "/chat")
            three.io.of("/chat").emit("x")
            assert await wire.receive() == '42/chat,["x"]'
            assert len(await three.io.of("/chat").fetch_sockets()) == 1
        assert not any(person.wire.received() for person in three.people)

    async def test_a_parent_reaches_its_namespaces_on_all_nodes(self, three: Three) -> None:
        parents = [io.of(re.compile("/room-.")) for io in three.servers]
        assert len(three.bus.nodes) == 3, "a parent has no sockets of its own, and so no adapter"
        async with open_fake(three.servers[0]) as one, open_fake(three.servers[1]) as two:
            for wire in (one, two):
                await join_nsp(wire, "/room-a")
            parents[0].emit("x")
            assert [await one.receive(), await two.receive()] == ['42/room-a,["x"]'] * 2

    async def test_fetching_from_a_node_that_says_nothing(self, three: Three) -> None:
        three.bus.deaf.add("2")
        with pytest.raises(AckTimeout, match="1 nodes"):
            await three.io.timeout(0.02).fetch_sockets()
        three.bus.deaf.clear()
        assert len(await three.io.timeout(WITHIN).fetch_sockets()) == 3


class TestServerSide:
    async def test_an_event_goes_to_the_other_nodes(self, three: Three) -> None:
        got: list[Any] = []
        for number, io in enumerate(three.servers):
            io.on_server_side("hello", lambda *args, number=number: got.append((number, *args)))
        three.io.server_side_emit("hello", 1, b"\x02")
        await until(lambda: len(got) == 2)
        assert sorted(got) == [(1, 1, b"\x02"), (2, 1, b"\x02")]

    async def test_a_call_gives_what_each_answers(self, three: Three) -> None:
        for number, io in enumerate(three.servers):

            async def ask(name: str, number: int = number) -> JSON:
                return {name: number}

            io.on_server_side("ask", ask)
        assert sorted(await three.io.server_side_call("ask", "n"), key=str) == [{"n": 1}, {"n": 2}]

    async def test_plain_handlers_run_in_a_thread(self, three: Three) -> None:
        threads: list[str] = []
        three.servers[1].on_server_side("ask", lambda: threads.append(threading.current_thread().name))
        await three.io.server_side_call("ask")
        assert threads[0].startswith("mizzen")

    async def test_the_first_answer_that_is_not_none_counts(self, three: Three) -> None:
        for result in (None, "first", "second"):
            three.servers[1].on_server_side("ask", lambda result=result: result)
        assert sorted(await three.io.server_side_call("ask"), key=str) == [None, "first"]

    async def test_a_handler_that_fails_is_reported_there_and_answered_as_an_ack_is(self, three: Three) -> None:
        reported: list[tuple[Exception, str]] = []
        failing = three.servers[1]
        failing.on_error(lambda error, socket, where: reported.append((error, where)))

        @failing.on_server_side("ask")
        async def ask(number: int) -> int:
            return 1 // number

        assert {"error": {"code": "E_HANDLER", "message": "the handler failed", "details": []}} in await three.io.server_side_call("ask", 0)
        answers = await three.io.server_side_call("ask", "no number")
        assert [answer["error"]["code"] for answer in answers if answer] == ["E_ARGUMENTS"]
        assert [(type(error).__name__, where) for error, where in reported] == [("ZeroDivisionError", "ask"), ("ArgumentsInvalid", "ask")]

    @pytest.mark.parametrize("raises", [False, True], ids=["result", "details"])
    async def test_what_cannot_be_encoded_is_no_answer_to_wait_for(self, three: Three, raises: bool) -> None:
        reported: list[type[Exception]] = []
        three.servers[1].on_error(lambda error, socket, where: reported.append(type(error)))
        broken: Any = object()

        @three.servers[1].on_server_side("ask")
        async def ask() -> JSON:
            if raises:
                raise EventRefused("the handler failed", details=[broken])
            return [broken]

        answers = await three.io.server_side_call("ask", timeout=WITHIN)
        assert {"error": {"code": "E_HANDLER", "message": "the handler failed", "details": []}} in answers
        assert reported == [EventRefused if raises else TypeError]

    async def test_a_handler_that_awaits_something_cancelled_has_failed(self, three: Three) -> None:
        reported: list[str] = []
        three.servers[1].on_error(lambda error, socket, where: reported.append(where))

        @three.servers[1].on_server_side("ask")
        async def ask() -> None:
            raise asyncio.CancelledError

        assert {"error": {"code": "E_HANDLER", "message": "the handler failed", "details": []}} in await three.io.server_side_call("ask")
        assert reported == ["ask"]

    async def test_the_timeout_carries_the_answers_that_came(self, three: Three) -> None:
        three.servers[1].on_server_side("ask", lambda: 2)
        three.bus.deaf.add("3")
        with pytest.raises(AckTimeout) as error:
            await three.io.server_side_call("ask", timeout=0.2)
        assert error.value.replies == [2]

    async def test_a_node_that_leaves_meanwhile_is_not_waited_for(self, three: Three) -> None:
        async def never() -> None:
            await asyncio.Event().wait()

        three.servers[1].on_server_side("ask", lambda: 2)
        three.servers[2].on_server_side("ask", never)
        task = asyncio.create_task(three.io.server_side_call("ask", timeout=WITHIN))
        await settle()
        await three.servers[2].close(0)
        assert await task == [2]


class TestRoomHooks:
    async def test_what_happens_to_rooms_is_told(self) -> None:
        told: list[tuple[RoomEvent, str, str | None]] = []
        async with Server() as io:

            @io.on_room
            async def room(what: RoomEvent, room: str, id: str | None) -> None:
                told.append((what, room, id))

            async with join_fake(io) as (_, one), join_fake(io) as (wire, two):
                io.sockets[one].join("x")
                io.sockets[two].join("x", "y")
                io.sockets[one].leave("x")
                await settle()
                assert told == [
                    ("create-room", "x", None),
                    ("join-room", "x", one),
                    ("join-room", "x", two),
                    ("create-room", "y", None),
                    ("join-room", "y", two),
                    ("leave-room", "x", one),
                ]
                told.clear()
                wire.drop()
                await until(lambda: len(told) == 4)
                assert set(told[::2]) == {("leave-room", "x", two), ("leave-room", "y", two)}
                assert [(what, id) for what, _, id in told[1::2]] == [("delete-room", None)] * 2

    async def test_hooks_of_a_namespace_are_of_it_alone(self) -> None:
        told: list[str] = []
        async with Server() as io:
            io.of("/chat").on_room(lambda what, room, id: told.append(f"{what} {room}"))
            async with join_fake(io) as (wire, sid):
                io.sockets[sid].join("main")
                chat = io.of("/chat").sockets[await join_nsp(wire, "/chat")]
                chat.join("talk")
                assert told == ["create-room talk", "join-room talk"]

    async def test_a_hook_finds_a_socket_that_goes_gone(self) -> None:
        ended: list[Reason] = []
        async with Server() as io:
            io.on("disconnect", lambda socket, reason: ended.append(reason))
            async with join_fake(io) as (wire, sid):
                socket = io.sockets[sid]
                socket.join("room")

                @io.on_room
                def hook(what: RoomEvent, room: str, id: str | None) -> None:
                    socket.join("lobby")
                    socket.disconnect()

                wire.drop()
                await until(lambda: ended)
                await settle()
            assert ended == [Reason.TRANSPORT_CLOSE]
            assert io.of("/").adapter.rooms == {}
            assert io.of("/").population == 0

    async def test_a_hook_that_fails_stops_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        async with Server() as io:

            @io.on_room
            def broken(what: RoomEvent, room: str, id: str | None) -> None:
                raise ValueError("hook")

            async with join_fake(io) as (_, sid):
                io.sockets[sid].join("x")
                assert "x" in io.sockets[sid].rooms
        assert "an on_room hook failed" in caplog.text
