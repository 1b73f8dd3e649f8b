"""Namespaces: made by name, made elsewhere and included, and made when a client asks for them; what their parents do."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from mizzen import JSON, ConnectionStateRecovery, ConnectRefused, LocalProtocolError, Namespace, Reason, RoomEvent, Server, Socket
from mizzen.adapters.recovery import RecoveringAdapter
from mizzen.ports import AdapterHost, RestoredSession
from mizzen.server.namespace import ParentNamespace
from mizzen.server.namespaces import MAX_NAME
from tests.server.fake_wire import FakeWire, join_fake, join_nsp, multiplexer_of, open_fake, settle
from tests.support import open_polling, serve, until

ROOMS = re.compile("/room-[0-9]+")


@pytest.fixture
async def io() -> AsyncIterator[Server]:
    async with Server() as io:
        yield io


async def refused(wire: FakeWire, nsp: str, auth: str = "") -> str:
    """Ask for a namespace that is refused; give the message."""
    await wire.send(f"40{nsp},{auth}")
    prefix, data = await wire.receive_json()
    assert prefix == f"44{nsp},", (prefix, data)
    return data["message"]


class Errors:
    """An `on_error` hook that keeps what it is told."""

    def __init__(self, io: Server) -> None:
        self.seen: list[tuple[str, str]] = []
        io.on_error(self.hook)

    def hook(self, error: Exception, socket: Socket | None, where: str) -> None:
        self.seen.append((str(error), where))


class Decision:
    """A function for `io.of` that says yes to all names, and only when it may."""

    def __init__(self, accepted: bool = True) -> None:
        self.asked: list[tuple[str, JSON]] = []
        self.gate = asyncio.Event()
        self.accepted = accepted

    async def __call__(self, name: str, auth: JSON) -> bool:
        self.asked.append((name, auth))
        await self.gate.wait()
        return self.accepted


class TestStatic:
    async def test_a_name_gives_one_namespace_whether_or_not_it_begins_with_a_slash(self, io: Server) -> None:
        assert io.of("/chat") is io.of("chat") is io.namespaces["/chat"]
        assert io.of("/chat") is not io.of("/Chat")
        assert io.of("/").sockets is io.sockets

    async def test_a_namespace_may_be_made_while_the_server_runs(self, io: Server) -> None:
        async with open_fake(io) as wire:
            assert await refused(wire, "/late") == "Invalid namespace"
            io.of("/late")
            await join_nsp(wire, "/late")

    @pytest.mark.parametrize("name", [5, None, b"/chat", re.compile(b"/chat")])
    async def test_what_is_no_name_is_told(self, io: Server, name: Any) -> None:
        with pytest.raises(TypeError, match="namespace"):
            io.of(name)

    @pytest.mark.parametrize("first", [True, False])
    async def test_ordered_counts_at_any_mention(self, io: Server, first: bool) -> None:
        if not first:
            io.of("/chat")
        assert io.of("/chat", ordered=True).ordered
        assert io.of("/chat").ordered

    async def test_representations_name_it(self, io: Server) -> None:
        assert repr(io.of("/chat")) == "<Namespace /chat: 0 sockets>"
        assert repr(io.of(ROOMS)) == "<ParentNamespace /room-[0-9]+: 0 namespaces>"


class TestInclude:
    async def test_a_namespace_made_elsewhere_is_mounted_with_all_that_it_has(self, io: Server) -> None:
        chat = Namespace("chat")
        seen: list[str] = []

        @chat.use
        async def gate(socket: Socket) -> None:
            seen.append("middleware")

        @chat.on("connect")
        async def connect(socket: Socket) -> None:
            seen.append("connect")

        @chat.on("shout")
        async def shout(socket: Socket, text: str) -> str:
            socket.namespace.emit("heard", text)
            return text.upper()

        assert io.include(chat) is chat
        assert io.of("/chat") is chat
        assert chat.name == "/chat"
        assert chat.server is io
        async with join_fake(io, "/chat") as (wire, sid):
            assert seen == ["middleware", "connect"]
            await wire.send('42/chat,1["shout","hi"]')
            assert await wire.receive() == '42/chat,["heard","hi"]'
            assert await wire.receive() == '43/chat,1["HI"]'
            assert list(chat.sockets) == [sid]

    async def test_including_it_twice_is_harmless(self, io: Server) -> None:
        chat = io.include(Namespace("/chat"))
        assert io.include(chat) is chat
        async with join_fake(io, "/chat"):
            assert len(chat.sockets) == 1

    async def test_it_belongs_to_one_server(self, io: Server) -> None:
        chat = io.include(Namespace("/chat"))
        other = Server()
        with pytest.raises(LocalProtocolError, match="'/chat' is part of another server: make one for each"):
            other.include(chat)
        assert "/chat" not in other.namespaces
        assert chat.server is io

    async def test_a_name_that_is_taken_is_told(self, io: Server) -> None:
        present = io.of("/chat")
        with pytest.raises(LocalProtocolError, match=re.escape("`io.of('/chat')`")):
            io.include(Namespace("/chat"))
        assert io.of("/chat") is present

    @pytest.mark.parametrize("early", [True, False])
    async def test_the_main_namespace_may_be_included_before_it_is_mentioned(self, early: bool) -> None:
        io, main = Server(), Namespace("/")

        @main.on("where")
        async def where(socket: Socket) -> str:
            return "main"

        if not early:
            io.on("x", where)
            with pytest.raises(LocalProtocolError, match="already"):
                io.include(main)
            return
        io.include(main)
        async with io, join_fake(io) as (wire, _):
            assert await wire.ask("where") == ["main"]
            assert list(main.sockets) == list(io.sockets)

    @pytest.mark.parametrize(
        "use",
        [
            lambda chat: chat.emit("x"),
            lambda chat: chat.to("room").emit("x"),
            lambda chat: chat.adapter,
            lambda chat: chat.server,
            lambda chat: chat.server_side_emit("x"),
            lambda chat: chat.sockets_join("x"),
            lambda chat: chat.disconnect_sockets(),
        ],
    )
    def test_before_that_it_says_what_to_do(self, use: Callable[[Namespace], object]) -> None:
        with pytest.raises(
            LocalProtocolError, match=re.escape("namespace '/chat' is not part of a server yet: call `io.include(namespace)` first")
        ):
            use(Namespace("/chat"))

    @pytest.mark.parametrize("use", [lambda chat: chat.call("x"), lambda chat: chat.fetch_sockets(), lambda chat: chat.drain()])
    async def test_before_that_awaiting_says_what_to_do(self, use: Callable[[Namespace], Any]) -> None:
        with pytest.raises(LocalProtocolError, match=re.escape("io.include")):
            await use(Namespace("/chat"))

    def test_a_name_that_it_has_not_is_told_as_ever(self) -> None:
        with pytest.raises(AttributeError, match="'Namespace' object has no attribute 'emitt'"):
            Namespace("/chat").emitt  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


class TestPattern:
    @pytest.mark.parametrize("name", ["/room-12", "/room-0"])
    async def test_a_name_that_matches_is_made(self, io: Server, name: str) -> None:
        parent = io.of(ROOMS)
        async with join_fake(io, name) as (_, sid):
            child = io.namespaces[name]
            assert child.parent is parent
            assert parent.children == {name: child}
            assert list(child.sockets) == [sid]
            assert not parent.sockets

    @pytest.mark.parametrize("name", ["/room-", "/room-1x", "/my/room-1", "/ROOM-1", "/room-1\n"])
    async def test_the_whole_name_must_match(self, io: Server, name: str) -> None:
        io.of(ROOMS)
        async with open_fake(io) as wire:
            assert await refused(wire, name) == "Invalid namespace"
        assert name not in io.namespaces

    async def test_a_name_may_be_so_long(self, io: Server) -> None:
        io.of(re.compile("/x+"))
        async with open_fake(io) as wire:
            await join_nsp(wire, "/" + "x" * (MAX_NAME - 1))
            assert await refused(wire, "/" + "x" * MAX_NAME) == "Invalid namespace"

    async def test_flags_of_the_pattern_count(self, io: Server) -> None:
        io.of(re.compile("/room-[a-z]+", re.IGNORECASE))
        async with join_fake(io, "/room-ABC"):
            pass

    async def test_the_same_pattern_gives_the_same_parent(self, io: Server) -> None:
        parent = io.of(ROOMS)
        assert io.of(re.compile(ROOMS.pattern)) is parent
        assert io.of(re.compile(ROOMS.pattern, re.IGNORECASE)) is not parent
        assert io.of(ROOMS, ordered=True).ordered
        assert len(io.namespaces.parents) == 2

    async def test_the_first_that_matches_has_it(self, io: Server) -> None:
        first, second = io.of(re.compile("/a.*")), io.of(re.compile("/.*"))
        async with open_fake(io) as wire:
            await join_nsp(wire, "/ab")
            await join_nsp(wire, "/b")
        assert ([*first.children], [*second.children]) == (["/ab"], ["/b"])

    async def test_of_a_name_that_matches_gives_a_child(self, io: Server) -> None:
        parent = io.of(ROOMS)

        @parent.on("x")
        async def x(socket: Socket) -> str:
            return socket.namespace.name

        child = io.of("room-1")
        assert child.parent is parent
        async with join_fake(io, "/room-1") as (wire, _):
            assert io.namespaces["/room-1"] is child
            await wire.send('42/room-1,1["x"]')
            assert await wire.receive() == '43/room-1,1["/room-1"]'

    async def test_the_main_namespace_is_nobodys_child(self) -> None:
        io = Server(cleanup_empty_child_namespaces=True)
        parent = io.of(re.compile(".*"))
        io.on("x", lambda socket: 1)
        async with io:
            for _ in range(2):
                async with join_fake(io) as (wire, _):
                    assert await wire.ask("x") == [1]
        assert not parent.children

    async def test_a_name_that_exists_is_not_matched(self, io: Server) -> None:
        static = io.of("/room-1")
        parent = io.of(ROOMS)
        async with join_fake(io, "/room-1"):
            assert len(static.sockets) == 1
        assert not parent.children

    async def test_socket_io_2_gets_one_too(self, io: Server) -> None:
        io.of(ROOMS)
        async with open_fake(io, eio=3) as wire:
            assert await wire.receive() == "40"
            await wire.send("40/room-1?token=t,")
            assert await wire.receive() == "40/room-1,"
            (socket,) = io.namespaces["/room-1"].sockets.values()
            assert socket.handshake.auth == {"token": "t"}

    async def test_over_polling(self, io: Server) -> None:
        io.of(ROOMS)
        async with serve(io) as url, open_polling(url) as polling:
            await polling.post("40/room-7,")
            assert (await polling.get()).text.startswith('40/room-7,{"sid"')


class TestFunction:
    @pytest.mark.parametrize("is_async", [True, False])
    async def test_it_is_asked_with_name_and_auth(self, io: Server, is_async: bool) -> None:
        asked: list[tuple[str, JSON]] = []

        def plain(name: str, auth: JSON) -> bool:
            asked.append((name, auth))
            return auth == {"key": 1}

        async def decide(name: str, auth: JSON) -> bool:
            await asyncio.sleep(0)
            return plain(name, auth)

        io.of(decide if is_async else plain)
        async with open_fake(io) as wire:
            assert await refused(wire, "/a", '{"key":2}') == "Invalid namespace"
            assert await refused(wire, "/a") == "Invalid namespace"
            await join_nsp(wire, "/a", {"key": 1})
            assert asked == [("/a", {"key": 2}), ("/a", None), ("/a", {"key": 1})]
            assert io.namespaces["/a"].sockets

    async def test_it_is_not_asked_again_for_a_child_that_exists(self, io: Server) -> None:
        asked: list[str] = []

        @io.of
        async def parent(name: str, auth: JSON) -> bool:
            asked.append(name)
            return True

        for _ in range(3):
            async with join_fake(io, "/a"):
                pass
        assert asked == ["/a"]

    async def test_parents_are_asked_in_order_until_one_says_yes(self, io: Server) -> None:
        asked: list[str] = []

        def parent(name: str, answer: bool) -> ParentNamespace:
            def decide(_: str, auth: JSON) -> bool:
                asked.append(name)
                return answer

            return io.of(decide)

        parent("no", False)
        io.of(re.compile("/only-this"))
        yes = parent("yes", True)
        parent("never", True)
        async with join_fake(io, "/a"):
            assert asked == ["no", "yes"]
            assert [*yes.children] == ["/a"]

    @pytest.mark.parametrize("answer", [None, False, 1, "yes"])
    async def test_nothing_but_true_is_yes(self, io: Server, answer: Any) -> None:
        io.of(lambda name, auth: answer)
        async with open_fake(io) as wire:
            assert await refused(wire, "/a") == "Invalid namespace"

    @pytest.mark.parametrize("is_async", [True, False])
    async def test_one_that_raises_refuses_and_is_reported(self, io: Server, is_async: bool, caplog: pytest.LogCaptureFixture) -> None:
        errors = Errors(io)

        def plain(name: str, auth: JSON) -> bool:
            raise ZeroDivisionError("oops")

        async def decide(name: str, auth: JSON) -> bool:
            return plain(name, auth)

        io.of(decide if is_async else plain)
        io.of(re.compile("/.*"))  # who comes later decides nothing that an earlier one could not
        async with open_fake(io) as wire:
            with caplog.at_level(logging.CRITICAL, "mizzen.server"):
                assert await refused(wire, "/a") == "Invalid namespace"
            assert errors.seen == [("oops", "io.of")]
            assert "/a" not in io.namespaces
            await join_nsp(wire)
            assert multiplexer_of(io).running == 0

    async def test_the_same_function_gives_the_same_parent(self, io: Server) -> None:
        def decide(name: str, auth: JSON) -> bool:
            return True

        assert io.of(decide) is io.of(decide)

    async def test_two_clients_who_ask_at_once_share_one(self, io: Server) -> None:
        decision = Decision()
        parent = io.of(decision)
        async with open_fake(io) as one, open_fake(io) as two:
            await one.send("40/a,")
            await two.send("40/a,")
            await until(lambda: len(decision.asked) == 2)
            decision.gate.set()
            for wire in (one, two):
                prefix, _ = await wire.receive_json()
                assert prefix == "40/a,"
            assert len(parent.children["/a"].sockets) == 2

    async def test_what_is_made_by_hand_meanwhile_is_taken(self, io: Server) -> None:
        decision = Decision(accepted=False)
        io.of(decision)
        async with open_fake(io) as wire:
            await wire.send("40/a,")
            await until(lambda: decision.asked)
            static = io.of("/a")
            decision.gate.set()
            await wire.receive_json()
            assert len(static.sockets) == 1

    @pytest.mark.parametrize("cleanup", [True, False])
    async def test_a_client_that_goes_while_it_is_asked_joins_nothing(self, cleanup: bool) -> None:
        decision = Decision()
        async with Server(cleanup_empty_child_namespaces=cleanup) as io:
            parent = io.of(decision)
            async with open_fake(io) as wire:
                await wire.send("40/a,")
                await until(lambda: decision.asked)
            decision.gate.set()
            await until(lambda: not len(io.tasks))
            assert [child.population for child in parent.children.values()] == ([] if cleanup else [0])

    async def test_a_second_connect_while_it_is_asked_closes(self, io: Server) -> None:
        decision = Decision()
        io.of(decision)
        async with open_fake(io) as wire:
            await wire.send("40/a,", "40/a,")
            assert await wire.until_closed() == 1000
            decision.gate.set()
            await until(lambda: not len(io.tasks))
            assert not any(namespace.population for namespace in io.namespaces.values())

    @pytest.mark.parametrize("packet", ['42/a,["x"]', "41/a,", "43/a,1[]"])
    async def test_packets_for_it_while_it_is_asked_close(self, io: Server, packet: str) -> None:
        decision = Decision()
        io.of(decision)
        async with open_fake(io) as wire:
            await wire.send("40/a,", packet)
            await wire.until_closed()
            decision.gate.set()

    async def test_other_namespaces_go_on_while_it_is_asked(self, io: Server) -> None:
        decision = Decision()
        io.of(decision)
        io.on("x", lambda socket: 1)
        async with open_fake(io) as wire:
            await wire.send("40/a,")
            await join_nsp(wire)
            assert await wire.ask("x") == [1]
            decision.gate.set()
            assert (await wire.receive_json())[0] == "40/a,"

    async def test_what_is_being_asked_counts_in_max_namespaces(self) -> None:
        decision = Decision()
        async with Server(max_namespaces=1) as io:
            io.of(decision)
            async with open_fake(io) as wire:
                await wire.send("40/a,")
                assert "join 1" in await refused(wire, "/b")
                decision.gate.set()
                assert (await wire.receive_json())[0] == "40/a,"

    async def test_asking_counts_in_max_handlers(self) -> None:
        decision = Decision()
        async with Server(max_handlers=1) as io:
            io.of(decision)
            async with open_fake(io) as wire:
                await wire.send("40/a,")
                assert await refused(wire, "/b") == "Too many handlers are running for this connection"
                decision.gate.set()
                assert (await wire.receive_json())[0] == "40/a,"
                await join_nsp(wire, "/b")

    async def test_a_server_that_closes_meanwhile_refuses(self) -> None:
        decision = Decision()
        async with Server() as io:
            io.of(decision)
            async with open_fake(io) as wire:
                await wire.send("40/a,")
                await until(lambda: decision.asked)
                closing = asyncio.create_task(io.close())
                await settle(3)
                decision.gate.set()
                assert await wire.receive() == '44/a,{"message":"Server is shutting down"}'
                await closing


class TestInheritance:
    async def test_a_child_has_what_its_parent_had_when_it_was_made(self, io: Server) -> None:
        parent = io.of(ROOMS)
        seen: list[str] = []

        @parent.use
        async def gate(socket: Socket) -> None:
            seen.append(f"use {socket.namespace.name}")

        @parent.use
        async def check(socket: Socket, event: str, args: list[JSON]) -> None:
            seen.append(f"check {event}")

        @parent.on("connect")
        async def connect(socket: Socket) -> None:
            seen.append(f"connect {socket.namespace.name}")

        @parent.on_any
        async def watch(socket: Socket, event: str) -> None:
            seen.append(f"any {event}")

        @parent.on_any_outgoing
        async def watch_out(socket: Socket, event: str) -> None:
            seen.append(f"out {event}")

        @parent.on("x")
        async def x(socket: Socket) -> int:
            return 1

        @parent.on("disconnect")
        async def disconnect(socket: Socket, reason: Reason) -> None:
            seen.append(f"disconnect {reason}")

        async with join_fake(io, "/room-1") as (wire, sid):
            await wire.send('42/room-1,1["x"]')
            assert await wire.receive() == "43/room-1,1[1]"
            io.namespaces["/room-1"].sockets[sid].emit("y")
            await wire.receive()
            await wire.send("41/room-1,")
            await until(lambda: seen[-1].startswith("disconnect"))
        assert seen == [
            *("use /room-1", "connect /room-1", "check x", "any x", "out y"),
            "disconnect client namespace disconnect",
        ]

    async def test_what_comes_later_is_for_later_children(self, io: Server) -> None:
        parent = io.of(ROOMS)
        async with open_fake(io) as wire:
            await join_nsp(wire, "/room-1")
            parent.on("x", lambda socket: 1)
            await join_nsp(wire, "/room-2")
            await wire.send('42/room-1,1["x"]', '42/room-2,1["x"]')
            assert await wire.receive() == "43/room-2,1[1]"

    async def test_a_child_is_alone_with_what_it_registers(self, io: Server) -> None:
        parent = io.of(ROOMS)
        told: list[str] = []
        one, two = io.of("/room-1"), io.of("/room-2")
        one.on("x", lambda socket: 1)
        one.on_room(lambda what, room, id: told.append(room))
        one.on_server_side("s", lambda: 1)
        one.use(lambda socket, event, args: None)
        assert "x" not in two.listeners.handlers
        assert "x" not in parent.listeners.handlers
        assert two.listeners.middleware == parent.listeners.middleware == ()
        async with join_fake(io, "/room-2") as (_, sid):
            two.sockets[sid].join("r")
            assert told == []
        assert await two.answer_nodes(["s"]) is None
        assert await one.answer_nodes(["s"]) == 1

    async def test_room_hooks_are_inherited(self, io: Server) -> None:
        parent = io.of(ROOMS)
        told: list[tuple[RoomEvent, str, str | None]] = []
        parent.on_room(lambda what, room, id: told.append((what, room, id)))
        async with join_fake(io, "/room-1") as (_, sid):
            io.namespaces["/room-1"].sockets[sid].join("r")
        await until(lambda: len(told) == 4)
        assert told == [
            (RoomEvent.CREATE, "r", None),
            (RoomEvent.JOIN, "r", sid),
            (RoomEvent.LEAVE, "r", sid),
            (RoomEvent.DELETE, "r", None),
        ]

    async def test_a_middleware_of_the_parent_refuses(self, io: Server) -> None:
        @io.of(ROOMS).use
        async def gate(socket: Socket) -> None:
            raise ConnectRefused("no", data={"name": socket.namespace.name})

        async with open_fake(io) as wire:
            await wire.send("40/room-1,")
            assert await wire.receive() == '44/room-1,{"message":"no","data":{"name":"/room-1"}}'

    async def test_once_of_a_parent_is_once_in_each_child(self, io: Server) -> None:
        parent = io.of(ROOMS)
        seen: list[str] = []

        @parent.once("x")
        async def x(socket: Socket) -> None:
            seen.append(socket.namespace.name)

        async with open_fake(io) as wire:
            for name in ("/room-1", "/room-2"):
                await join_nsp(wire, name)
                await wire.send(f'42{name},["x"]', f'42{name},["x"]')
            await settle()
        assert seen == ["/room-1", "/room-2"]

    async def test_ordered_is_inherited(self, io: Server) -> None:
        io.of(ROOMS, ordered=True)
        async with join_fake(io, "/room-1"):
            assert io.namespaces["/room-1"].ordered


@pytest.fixture
async def family(io: Server) -> AsyncIterator[tuple[Server, ParentNamespace, dict[str, FakeWire], dict[str, Socket]]]:
    """A parent with two children and one client in each; another namespace that is none of them."""
    parent = io.of(ROOMS)
    io.of("/else")
    wires: dict[str, FakeWire] = {}
    sockets: dict[str, Socket] = {}
    async with AsyncExitStack() as stack:
        for name in ("/room-1", "/room-2", "/else"):
            wires[name], sid = await stack.enter_async_context(join_fake(io, name))
            sockets[name] = io.namespaces[name].sockets[sid]
        yield io, parent, wires, sockets


Family = tuple[Server, ParentNamespace, dict[str, FakeWire], dict[str, Socket]]


class TestParentSends:
    async def reached(self, family: Family) -> dict[str, list[str | bytes]]:
        """Give what came in each namespace."""
        await settle()
        return {name: wire.received() for name, wire in family[2].items()}

    async def test_emit_is_for_all_children(self, family: Family) -> None:
        family[1].emit("x", 1)
        assert await self.reached(family) == {"/room-1": ['42/room-1,["x",1]'], "/room-2": ['42/room-2,["x",1]'], "/else": []}

    async def test_binary(self, family: Family) -> None:
        family[1].emit("x", b"\x01")
        got = await self.reached(family)
        assert got["/room-1"] == ['451-/room-1,["x",{"_placeholder":true,"num":0}]', b"\x01"]
        assert got["/room-2"] == ['451-/room-2,["x",{"_placeholder":true,"num":0}]', b"\x01"]

    async def test_rooms_and_exceptions(self, family: Family) -> None:
        _, parent, _, sockets = family
        sockets["/room-1"].join("r")
        parent.to("r").emit("in")
        parent.except_("r").emit("out")
        parent.in_("r", "nobody").except_(sockets["/room-1"].id).emit("none")
        parent.to(sockets["/room-2"].id).send("you")
        assert await self.reached(family) == {
            "/room-1": ['42/room-1,["in"]'],
            "/room-2": ['42/room-2,["out"]', '42/room-2,["message","you"]'],
            "/else": [],
        }

    async def test_volatile(self, family: Family) -> None:
        _, parent, wires, _ = family
        wires["/room-1"].stall()
        parent.emit("first")
        await settle()
        parent.volatile.emit("maybe")
        wires["/room-1"].flow()
        assert await self.reached(family) == {
            "/room-1": ['42/room-1,["first"]'],
            "/room-2": ['42/room-2,["first"]', '42/room-2,["maybe"]'],
            "/else": [],
        }

    async def test_from_a_thread_in_order_and_as_it_was_then(self, family: Family) -> None:
        parent = family[1]
        value = [0]

        def work() -> None:
            for _ in range(20):
                parent.emit("x", value)
                value[0] += 1
            parent.to("r").sockets_join("s")

        thread = threading.Thread(target=work)
        thread.start()
        await asyncio.to_thread(thread.join)
        got = await self.reached(family)
        assert got["/room-1"] == [f'42/room-1,["x",[{number}]]' for number in range(20)]
        assert got["/room-2"] == [f'42/room-2,["x",[{number}]]' for number in range(20)]

    @pytest.mark.parametrize("children", [True, False])
    async def test_what_cannot_be_encoded_raises_and_sends_nothing(self, io: Server, children: bool) -> None:
        parent = io.of(ROOMS)
        if children:
            io.of("/room-1")
        with pytest.raises(TypeError):
            parent.emit("x", object())
        with pytest.raises(LocalProtocolError, match="reserved"):
            parent.emit("connect")

    async def test_rooms_of_all_children(self, family: Family) -> None:
        _, parent, _, sockets = family
        parent.sockets_join("a", ["b"])
        assert all({"a", "b"} <= sockets[name].rooms for name in ("/room-1", "/room-2"))
        assert "a" not in sockets["/else"].rooms
        parent.to(sockets["/room-1"].id).sockets_leave("a")
        assert ("a" in sockets["/room-1"].rooms, "a" in sockets["/room-2"].rooms) == (False, True)

    async def test_disconnect_sockets(self, family: Family) -> None:
        family[1].disconnect_sockets()
        assert await self.reached(family) == {"/room-1": ["41/room-1,"], "/room-2": ["41/room-2,"], "/else": []}
        assert not any(child.sockets for child in family[1].children.values())

    async def test_drain_waits_for_all(self, family: Family) -> None:
        _, parent, wires, _ = family
        wires["/room-2"].stall()
        parent.emit("x")
        task = asyncio.create_task(parent.drain())
        await settle()
        assert not task.done()
        wires["/room-2"].flow()
        await task

    async def test_what_needs_answers_says_whom_to_ask(self, family: Family) -> None:
        parent = family[1]
        with pytest.raises(LocalProtocolError, match=re.escape("socket.namespace")):
            await parent.call("x")
        with pytest.raises(LocalProtocolError, match=re.escape("io.of(name)")):
            await parent.to("r").fetch_sockets()
        with pytest.raises(LocalProtocolError, match=re.escape("io.of(name)")):
            await parent.server_side_call("x")
        with pytest.raises(LocalProtocolError, match=re.escape("io.of(name)")):
            parent.adapter  # noqa: B018

    async def test_there_is_nobody_to_send_to_before_there_are_children(self, io: Server) -> None:
        io.of(ROOMS).emit("x")
        io.of(ROOMS).server_side_emit("x")


class TestNewNamespace:
    async def test_the_hook_is_told_of_each_but_the_main_one(self, io: Server) -> None:
        made: list[str] = []
        io.on_new_namespace(lambda namespace: made.append(namespace.name))
        io.of(ROOMS)
        io.of("/a")
        io.of("/a")
        io.include(Namespace("/b"))
        io.of("/room-1")
        async with open_fake(io) as wire:
            for name in ("/", "/a", "/room-1", "/room-2"):
                await join_nsp(wire, name)
        assert made == ["/a", "/b", "/room-1", "/room-2"]

    async def test_what_it_registers_is_there_for_the_first_client(self, io: Server) -> None:
        @io.on_new_namespace
        def hook(namespace: Namespace) -> None:
            @namespace.use
            async def gate(socket: Socket) -> None:
                raise ConnectRefused("by the hook")

        io.of(ROOMS)
        async with open_fake(io) as wire:
            assert await refused(wire, "/room-1") == "by the hook"

    async def test_an_async_hook_runs_on(self, io: Server) -> None:
        made: list[str] = []
        gate = asyncio.Event()

        @io.on_new_namespace
        async def hook(namespace: Namespace) -> None:
            await gate.wait()
            made.append(namespace.name)

        io.of(ROOMS)
        async with join_fake(io, "/room-1"):
            gate.set()
            await until(lambda: made == ["/room-1"])

    @pytest.mark.parametrize("is_async", [True, False])
    async def test_before_the_server_runs_it_is_told_when_it_does(self, is_async: bool) -> None:
        io, made = Server(), list[str]()

        async def async_hook(namespace: Namespace) -> None:
            made.append(namespace.name)

        def hook(namespace: Namespace) -> None:
            made.append(namespace.name)

        io.of("/before")
        io.on_new_namespace(async_hook if is_async else hook)
        io.of("/after")
        assert made == []
        for _ in range(2):  # and only once, however often the server starts
            async with io:
                await settle(3)
                assert made == ["/before", "/after"]

    @pytest.mark.parametrize("is_async", [True, False])
    async def test_one_that_fails_stops_nothing(self, io: Server, is_async: bool, caplog: pytest.LogCaptureFixture) -> None:
        made: list[str] = []

        @io.on_new_namespace
        def plain(namespace: Namespace) -> None:
            if not is_async:
                raise ValueError("oops")

        @io.on_new_namespace
        async def fails(namespace: Namespace) -> None:
            if is_async:
                raise ValueError("oops")

        io.on_new_namespace(lambda namespace: made.append(namespace.name))
        io.of(ROOMS)
        async with join_fake(io, "/room-1"):
            assert made == ["/room-1"]
        await until(lambda: "an on_new_namespace hook failed" in caplog.text)


class TestCleanup:
    @pytest.fixture
    async def io(self) -> AsyncIterator[Server]:
        async with Server(cleanup_empty_child_namespaces=True) as io:
            yield io

    async def test_a_child_goes_with_its_last_socket(self, io: Server) -> None:
        parent = io.of(ROOMS)
        async with join_fake(io, "/room-1") as (one, _):
            first = io.namespaces["/room-1"]
            async with join_fake(io, "/room-1"):
                pass
            assert io.namespaces["/room-1"] is first
            await one.send("41/room-1,")
            await until(lambda: "/room-1" not in io.namespaces)
            assert not parent.children
            await join_nsp(one, "/room-1")
            assert io.namespaces["/room-1"] is not first
            assert len(io.namespaces["/room-1"].sockets) == 1
        await until(lambda: not parent.children)

    async def test_its_disconnect_handlers_still_run(self, io: Server) -> None:
        parent = io.of(ROOMS)
        seen: list[str] = []

        @parent.on("disconnect")
        async def disconnect(socket: Socket) -> None:
            socket.namespace.emit("left")  # to nobody
            seen.append(socket.namespace.name)

        async with join_fake(io, "/room-1"):
            pass
        await until(lambda: seen == ["/room-1"])

    @pytest.mark.parametrize("by", ["middleware", "connect", "goodbye"])
    async def test_a_child_whose_only_client_is_refused_goes(self, io: Server, by: str) -> None:
        parent = io.of(ROOMS)

        async def refuse(socket: Socket) -> None:
            if by == "goodbye":
                socket.disconnect()
            else:
                raise ConnectRefused("no")

        if by == "middleware":
            parent.use(refuse)
        else:
            parent.on("connect", refuse)
        async with open_fake(io) as wire:
            await refused(wire, "/room-1")
            assert "/room-1" not in io.namespaces
            assert not parent.children

    async def test_a_child_stays_while_another_client_is_connecting(self, io: Server) -> None:
        parent = io.of(ROOMS)
        gate = asyncio.Event()
        gate.set()

        @parent.use
        async def wait(socket: Socket) -> None:
            await gate.wait()

        async with open_fake(io) as one, open_fake(io) as two:
            await join_nsp(one, "/room-1")
            child = io.namespaces["/room-1"]
            gate.clear()
            await two.send("40/room-1,")
            await one.send("41/room-1,")
            await until(lambda: not child.sockets)
            gate.set()
            await two.receive_json()
            assert io.namespaces["/room-1"] is child
            assert len(child.sockets) == 1

    async def test_what_the_program_set_up_before_it_ran_stays(self) -> None:
        io = Server(cleanup_empty_child_namespaces=True)
        parent = io.of(ROOMS)
        io.of("/room-1").on("x", lambda socket: 1)
        async with io:
            for _ in range(2):
                async with join_fake(io, "/room-1") as (wire, _):
                    await wire.send('42/room-1,1["x"]')
                    assert await wire.receive() == "43/room-1,1[1]"
            assert [*parent.children] == ["/room-1"]

    async def test_static_namespaces_stay(self, io: Server) -> None:
        io.of("/static")
        async with join_fake(io, "/static"):
            pass
        assert "/static" in io.namespaces

    async def test_without_the_option_children_stay(self) -> None:
        async with Server() as io:
            parent = io.of(ROOMS)
            async with join_fake(io, "/room-1"):
                pass
            await until(lambda: not io.sessions.connections)
            assert [*parent.children] == ["/room-1"]

    async def test_a_child_stays_while_a_session_of_it_is_restored(self) -> None:
        gate, asked = asyncio.Event(), asyncio.Event()

        class SlowAdapter(RecoveringAdapter):
            async def restore_session(self, pid: str, offset: str | None) -> RestoredSession | None:
                asked.set()
                await gate.wait()
                return None

        def adapter(host: AdapterHost) -> SlowAdapter:
            return SlowAdapter(host, ConnectionStateRecovery())

        async with Server(cleanup_empty_child_namespaces=True, adapter=adapter) as io:
            parent = io.of(ROOMS)
            async with open_fake(io) as one, open_fake(io) as two:
                await join_nsp(one, "/room-1")
                (child,) = parent.children.values()
                await two.send('40/room-1,{"pid":"nobody"}')
                await asked.wait()
                await one.send("41/room-1,")
                await until(lambda: not child.sockets)
                gate.set()
                await two.receive_json()
                assert io.namespaces["/room-1"] is child
                assert len(child.sockets) == 1


class TestMaxChildNamespaces:
    async def test_more_than_that_are_refused_while_they_are_in_use(self, caplog: pytest.LogCaptureFixture) -> None:
        async with Server(max_child_namespaces=2) as io:
            parent, other = io.of(ROOMS), io.of(re.compile("/other-.*"))
            async with open_fake(io) as wire:
                await join_nsp(wire, "/room-1")
                await join_nsp(wire, "/other-1")
                assert await refused(wire, "/room-2") == "Too many namespaces are in use"
                assert "max_child_namespaces" in caplog.text
                with pytest.raises(
                    LocalProtocolError, match=re.escape("'/room-2' cannot be made: 2 others are in use (max_child_namespaces)")
                ):
                    io.of("/room-2")
                await join_nsp(wire)  # static ones do not count
                await wire.send("41/room-1,")
                await join_nsp(wire, "/room-2")
            assert ([*parent.children], [*other.children]) == (["/room-2"], ["/other-1"])
            assert "/room-1" not in io.namespaces

    async def test_empty_ones_make_room(self) -> None:
        async with Server(max_child_namespaces=3) as io:
            parent = io.of(ROOMS)
            async with open_fake(io) as wire:
                for number in range(20):
                    await join_nsp(wire, f"/room-{number}")
                    await wire.send(f"41/room-{number},")
                await settle()
                assert len(parent.children) <= 3
                assert len(io.namespaces) == len(parent.children) + 1

    async def test_the_log_says_so_once_however_often_clients_ask(self, caplog: pytest.LogCaptureFixture) -> None:
        async with Server(max_child_namespaces=1) as io:
            io.of(ROOMS)
            async with open_fake(io) as wire:
                await join_nsp(wire, "/room-1")
                for number in range(2, 12):
                    assert await refused(wire, f"/room-{number}") == "Too many namespaces are in use"
        assert caplog.text.count("max_child_namespaces") == 1

    async def test_asking_in_vain_costs_the_same_however_many_are_in_use(self) -> None:
        async with Server(max_child_namespaces=3) as io:
            parent = io.of(ROOMS)
            async with open_fake(io) as wire:
                for number in range(3):
                    await join_nsp(wire, f"/room-{number}")
                assert await refused(wire, "/room-3") == "Too many namespaces are in use"
                parent.children = Unlooked(parent.children)
                for number in range(3, 9):
                    assert await refused(wire, f"/room-{number}") == "Too many namespaces are in use"
                await wire.send("41/room-0,")
                await join_nsp(wire, "/room-3")
            assert "/room-0" not in io.namespaces


class Unlooked(dict[str, Namespace]):
    """Namespaces by name that nobody may look through."""

    def __iter__(self) -> Any:
        raise AssertionError("all namespaces were looked at")

    keys = values = items = __iter__


class TestLifecycle:
    async def test_a_restarted_server_has_its_own_and_makes_children_anew(self) -> None:
        io = Server()
        chat = io.include(Namespace("/chat"))
        parent = io.of(ROOMS)
        lasting = io.of("/room-0")
        for each in (chat, parent, lasting):
            each.on("where", lambda socket: socket.namespace.name)
        for _ in range(3):
            async with io, open_fake(io) as wire:
                for name in ("/chat", "/room-0", "/room-1"):
                    sid = await join_nsp(wire, name)
                    await wire.send(f'42{name},1["where"]')
                    assert await wire.receive() == f'43{name},1["{name}"]'
                    io.namespaces[name].sockets[sid].join("r")
            assert not chat.sockets
            assert not chat.adapter.rooms
            assert [*parent.children] == ["/room-0"]
            assert {name: namespace.population for name, namespace in io.namespaces.items()} == {"/": 0, "/chat": 0, "/room-0": 0}

    async def test_children_are_closed_with_the_server(self) -> None:
        async with Server() as io:
            parent = io.of(ROOMS)
            seen: list[tuple[str, str]] = []

            @parent.on("disconnect")
            async def disconnect(socket: Socket, reason: Reason) -> None:
                seen.append((socket.namespace.name, reason))

            async with join_fake(io, "/room-1") as (wire, _):
                await io.close()
                await wire.until_closed()
        assert seen == [("/room-1", "server shutting down")]
        assert not parent.children
