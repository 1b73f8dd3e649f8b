"""Every flag on every target: server, namespace, socket, operator, and what `fetch_sockets` gives; binary data anywhere, both ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Any, cast

import pytest

from mizzen import JSON, AckTimeout, ConnectionClosed, LocalProtocolError, RemoteError, Server, Socket
from mizzen.adapters.memory import MemoryAdapter
from mizzen.ports import Acks, AdapterHost, Target
from mizzen.protocol.encoded import Encoded
from mizzen.protocol.packet import Packet
from tests.server.fake_wire import FakeWire, join_fake, settle
from tests.support import WITHIN, until


class SpyAdapter(MemoryAdapter):
    """Keeps the targets and packets that it was given, and does as ever."""

    def __init__(self, host: AdapterHost) -> None:
        super().__init__(host)
        self.targets: list[Target] = []
        self.encoded: list[Encoded] = []

    def broadcast(self, packet: Packet, encoded: Encoded, target: Target) -> None:
        self.targets.append(target)
        self.encoded.append(encoded)
        super().broadcast(packet, encoded, target)

    def broadcast_with_ack(self, packet: Packet, encoded: Encoded, target: Target, acks: Acks) -> None:
        self.targets.append(target)
        self.encoded.append(encoded)
        super().broadcast_with_ack(packet, encoded, target, acks)


class Chat:
    """Three clients of the namespace /chat: a in room x, b in x and y, c in y."""

    def __init__(self, io: Server, wires: dict[str, FakeWire], sockets: dict[str, Socket]) -> None:
        self.io = io
        self.namespace = io.of("/chat")
        self.adapter = cast("SpyAdapter", self.namespace.adapter)
        self.wires = wires
        self.sockets = sockets
        self.a = sockets["a"]

    async def came(self) -> dict[str, list[str]]:
        """Give what came to whom since the last call; who got nothing is left out."""
        await settle()
        came = {name: [cast("str", message).removeprefix("42/chat,") for message in wire.received()] for name, wire in self.wires.items()}
        return {name: messages for name, messages in came.items() if messages}

    async def reached(self) -> str:
        """Say who got something since the last call, each letter as often as it did."""
        return "".join(name * len(messages) for name, messages in (await self.came()).items())

    async def ack(self, name: str, *args: JSON) -> None:
        """Have a client answer the call that has come to it."""
        prefix, _ = await self.wires[name].receive_json()
        id = prefix.removeprefix("42/chat,")
        body = ",".join(f'"{argument}"' if isinstance(argument, str) else str(argument) for argument in args)
        await self.wires[name].send(f"43/chat,{id}[{body}]")
        await settle(5)


@pytest.fixture
async def chat() -> AsyncIterator[Chat]:
    async with Server(adapter=SpyAdapter) as io, AsyncExitStack() as stack:
        wires: dict[str, FakeWire] = {}
        sockets: dict[str, Socket] = {}
        namespace = io.of("/chat")
        for name, rooms in (("a", ["x"]), ("b", ["x", "y"]), ("c", ["y"])):
            wires[name], sid = await stack.enter_async_context(join_fake(io, "/chat"))
            sockets[name] = namespace.sockets[sid]
            sockets[name].join(rooms)
        # One more, in the main namespace, who must get nothing of all this.
        wires["m"], sid = await stack.enter_async_context(join_fake(io))
        io.sockets[sid].join("x", "y")
        yield Chat(io, wires, sockets)
        assert wires["m"].received() == []


TARGETS: dict[str, tuple[Callable[[Chat], Any], str]] = {
    "namespace": (lambda chat: chat.namespace, "abc"),
    "socket": (lambda chat: chat.a, "a"),
    "operator": (lambda chat: chat.namespace.to("x"), "ab"),
    "operator of a socket": (lambda chat: chat.a.to("x", "y"), "bc"),
    "broadcast": (lambda chat: chat.a.broadcast, "bc"),
}
ALL = pytest.mark.parametrize("name", TARGETS)
MANY = pytest.mark.parametrize("name", [name for name in TARGETS if name != "socket"])


def target_of(chat: Chat, name: str) -> tuple[Any, str]:
    choose, reached = TARGETS[name]
    return choose(chat), reached


class TestWhom:
    @ALL
    @pytest.mark.parametrize(
        ("narrow", "to", "excluded"),
        [
            (lambda t: t.to("y"), "y", ""),
            (lambda t: t.in_("y"), "y", ""),
            (lambda t: t.to("x", "y"), "xy", ""),
            (lambda t: t.to(["x", "y"]), "xy", ""),
            (lambda t: t.to(("x",), "y"), "xy", ""),
            (lambda t: t.to("x").in_("y"), "xy", ""),
            (lambda t: t.to(iter(["y"])), "y", ""),
            (lambda t: t.to({"x": 1}), "x", ""),
            (lambda t: t.to("z"), "z", ""),
            (lambda t: t.to([]), None, ""),
            (lambda t: t.to(), None, ""),
            (lambda t: t.to([]).to("y"), "y", ""),
            (lambda t: t.except_("y"), "", "y"),
            (lambda t: t.except_("x", "y"), "", "xy"),
            (lambda t: t.except_(["x"]), "", "x"),
            (lambda t: t.except_("x").except_("z"), "", "xz"),
            (lambda t: t.to("x", "y").except_("y"), "xy", "y"),
            (lambda t: t.except_("y").to("x"), "x", "y"),
        ],
    )
    async def test_rooms_one_or_many(self, chat: Chat, name: str, narrow: Callable[[Any], Any], to: str | None, excluded: str) -> None:
        target, _ = target_of(chat, name)
        narrow(target).emit("it")
        rooms = {*(to or "")} | {"operator": {"x"}, "operator of a socket": {"x", "y"}}.get(name, set())  # rooms add up
        expected = ""
        for each, its in (("a", {"x"}), ("b", {"x", "y"}), ("c", {"y"})):
            itself = each == "a" and name in ("socket", "operator of a socket", "broadcast")
            if not itself and ((not rooms and to is not None) or rooms & its) and not its & {*excluded}:
                expected += each
        assert await chat.reached() == expected

    @pytest.mark.parametrize("wrong", [5, None, ["x", 5], [["x"]], b"x"])
    async def test_what_is_no_room_is_told(self, chat: Chat, wrong: Any) -> None:
        for method in (chat.namespace.to, chat.namespace.in_, chat.namespace.except_, chat.a.to, chat.a.join, chat.a.leave):
            with pytest.raises(TypeError):
                method(wrong)

    async def test_the_server_itself_is_the_main_namespace(self, chat: Chat) -> None:
        chat.io.emit("x", 1)
        chat.io.to("x").volatile.local.compress(False).send("hello")
        await settle()
        assert chat.wires["m"].received() == ['42["x",1]', '42["message","hello"]']


class TestSend:
    @ALL
    async def test_it_is_the_event_message(self, chat: Chat, name: str) -> None:
        target, reached = target_of(chat, name)
        target.send("hello", 1)
        target.send()
        assert await chat.came() == {each: ['["message","hello",1]', '["message"]'] for each in reached}


class TestVolatile:
    @ALL
    async def test_it_is_dropped_for_who_could_not_be_sent_to(self, chat: Chat, name: str) -> None:
        target, reached = target_of(chat, name)
        slow = reached[0]
        chat.wires[slow].stall()
        chat.sockets[slow].emit("fills")
        await settle()
        target.volatile.emit("maybe")
        target.emit("sure")
        chat.wires[slow].flow()
        came = await chat.came()
        assert came.pop(slow) == ['["fills"]', '["sure"]']
        assert came == {each: ['["maybe"]', '["sure"]'] for each in reached[1:]}

    @ALL
    async def test_a_call_whose_event_was_dropped_has_no_reply(self, chat: Chat, name: str) -> None:
        target, reached = target_of(chat, name)
        slow = reached[0]
        chat.wires[slow].stall()
        chat.sockets[slow].emit("fills")
        await settle()
        task = asyncio.ensure_future(target.volatile.timeout(0.05).call("maybe"))
        await settle()
        for each in reached[1:]:
            await chat.ack(each, each)
        with pytest.raises(AckTimeout) as error:
            await task
        assert error.value.replies == [*reached[1:]]
        chat.wires[slow].flow()
        assert await chat.came() == {slow: ['["fills"]']}

    @ALL
    async def test_a_call_that_could_be_sent_is_answered(self, chat: Chat, name: str) -> None:
        target, reached = target_of(chat, name)
        task = asyncio.ensure_future(target.volatile.call("it", timeout=WITHIN))
        for each in reached:
            await chat.ack(each, each)
        assert await task == ("a" if name == "socket" else [*reached])


class TestCompress:
    def written(self, chat: Chat) -> list[Encoded]:
        """Give what was written to the connections in this turn of the loop, whichever way it went."""
        return [encoded for socket in chat.sockets.values() for encoded in socket.conn.engine.out]

    @ALL
    @pytest.mark.parametrize("compress", [True, False, None])
    async def test_what_is_sent_is_marked(self, chat: Chat, name: str, compress: bool | None) -> None:
        target, reached = target_of(chat, name)
        operator = target if compress is None else target.compress(compress)
        await settle()
        operator.emit("it")
        written = self.written(chat)
        assert [encoded.compress for encoded in written] == [compress is not False] * len(reached)
        assert {id(encoded) for encoded in written} == {id(written[0])}

    @ALL
    @pytest.mark.parametrize("compress", [True, False])
    async def test_calls_too(self, chat: Chat, name: str, compress: bool) -> None:
        target, reached = target_of(chat, name)
        await settle()
        written: list[Encoded] = []
        task = asyncio.ensure_future(target.compress(compress).call("it"))
        asyncio.get_running_loop().call_soon(lambda: written.extend(self.written(chat)))
        await settle()
        assert [encoded.compress for encoded in written] == [compress] * len(reached)
        task.cancel()


class TestLocal:
    @ALL
    async def test_the_adapter_is_told(self, chat: Chat, name: str) -> None:
        target, reached = target_of(chat, name)
        target.local.emit("it")
        assert chat.adapter.targets[-1].local
        # In Node, too, `socket.local` is for all others.
        assert await chat.reached() == ("bc" if name == "socket" else reached)
        target.emit("it")
        assert [target.local for target in chat.adapter.targets] == ([True] if name == "socket" else [True, False])


class TestTimeout:
    @ALL
    @pytest.mark.parametrize("how", ["flag", "argument"])
    async def test_replies_that_do_not_come_in_time(self, chat: Chat, name: str, how: str) -> None:
        target, reached = target_of(chat, name)
        call = target.timeout(0.05).call("it", 1) if how == "flag" else target.call("it", 1, timeout=0.05)
        task = asyncio.ensure_future(call)
        for each in reached[1:]:
            await chat.ack(each, each)
        with pytest.raises(AckTimeout, match="'it'") as error:
            await task
        assert isinstance(error.value, TimeoutError)
        assert error.value.replies == [*reached[1:]]
        assert not any(socket._acks for socket in chat.sockets.values())

    @ALL
    async def test_the_argument_wins_over_the_flag(self, chat: Chat, name: str) -> None:
        target, reached = target_of(chat, name)
        task = asyncio.ensure_future(target.timeout(1e-9).call("it", timeout=WITHIN))
        await settle()
        for each in reached:
            await chat.ack(each, each)
        assert await task == ("a" if name == "socket" else [*reached])

    @ALL
    async def test_the_adapter_is_told_how_long(self, chat: Chat, name: str) -> None:
        target, reached = target_of(chat, name)
        for operator, seconds in ((target.timeout(3), 3), (target.timeout(3).timeout(4), 4)):
            task = asyncio.ensure_future(operator.call("it"))
            for each in reached:
                await chat.ack(each, 1)
            await task
            if name != "socket":
                assert chat.adapter.targets[-1].timeout == seconds

    async def test_it_does_nothing_to_emit(self, chat: Chat) -> None:
        chat.namespace.timeout(1e-9).emit("it")
        assert await chat.reached() == "abc"


class TestChains:
    @ALL
    async def test_flags_add_up_in_any_order_and_never_change_what_they_were_made_from(self, chat: Chat, name: str) -> None:
        target, _ = target_of(chat, name)
        steps: list[Callable[[Any], Any]] = [
            lambda t: t.to("x"),
            lambda t: t.except_("nobody"),
            lambda t: t.volatile,
            lambda t: t.local,
            lambda t: t.compress(False),
            lambda t: t.timeout(2),
        ]
        for order in (steps, steps[::-1], steps[3:] + steps[:3]):
            stages = [target]
            for step in order:
                stages.append(step(stages[-1]))
            assert all(before is not after for before, after in pairwise(stages))
            made = stages[-1]._operator()._target
            assert "x" in made.rooms
            assert made.excluded == ("nobody",)
            assert (made.volatile, made.local, made.compress, made.timeout) == (True, True, False, 2)
            first = stages[1]._operator()._target
            assert sum([bool(first.excluded), first.volatile, first.local, not first.compress, first.timeout is not None]) <= 1

    async def test_an_operator_of_a_socket_that_has_gone_still_reaches_others(self, chat: Chat) -> None:
        operators = [chat.a.to("x"), chat.a.broadcast, chat.a.local, chat.a.volatile, chat.a.compress(True)]
        chat.a.disconnect()
        assert await chat.came() == {"a": ["41/chat,"]}
        for operator in operators:
            operator.emit("it")
        assert await chat.reached() == "bbbcc"


class TestAcross:
    @MANY
    async def test_fetch_sockets(self, chat: Chat, name: str) -> None:
        target, reached = target_of(chat, name)
        chat.a.data["name"] = "Ann"
        sockets = await target.fetch_sockets()
        assert sorted(socket.id for socket in sockets) == sorted(chat.sockets[each].id for each in reached)
        for socket in sockets:
            own = chat.namespace.sockets[socket.id]
            assert (socket.rooms, socket.data) == (own.rooms, own.data)
            assert socket.data is not own.data
            assert socket.handshake.address == "192.0.2.1"

    @MANY
    async def test_join_leave_and_disconnect(self, chat: Chat, name: str) -> None:
        target, reached = target_of(chat, name)
        target.sockets_join("p", ["q", "r"])
        assert "".join(each for each, socket in chat.sockets.items() if {"p", "q", "r"} <= socket.rooms) == reached
        target.sockets_leave("p", ["q"])
        assert {room for socket in chat.sockets.values() for room in socket.rooms if room in "pqr"} == {"r"}
        target.disconnect_sockets()
        assert await chat.came() == {each: ["41/chat,"] for each in reached}
        assert "".join(each for each, socket in chat.sockets.items() if not socket.connected) == reached

    async def test_disconnect_with_close_ends_the_connections(self, chat: Chat) -> None:
        chat.namespace.to("x").disconnect_sockets(close=True)
        for each in "ab":
            assert await chat.wires[each].until_closed() == 1000
        assert chat.sockets["c"].connected

    async def test_what_was_emitted_before_is_sent_first(self, chat: Chat) -> None:
        chat.namespace.emit("bye")
        chat.namespace.disconnect_sockets(close=True)
        assert (await chat.came())["a"][:1] == ['["bye"]']

    async def test_a_remote_socket_does_what_a_socket_does(self, chat: Chat) -> None:
        (remote,) = await chat.namespace.to(chat.a.id).fetch_sockets()
        remote.emit("it", 1)
        assert await chat.came() == {"a": ['["it",1]']}
        remote.join("p", ["q"])
        remote.leave("q")
        assert "p" in chat.a.rooms
        assert "q" not in chat.a.rooms
        task = asyncio.ensure_future(remote.call("ask", timeout=WITHIN))
        await chat.ack("a", "yes")
        assert await task == "yes"
        with pytest.raises(AckTimeout):
            await remote.call("ask", timeout=0.01)
        await chat.came()
        remote.disconnect()
        assert await chat.came() == {"a": ["41/chat,"]}
        with pytest.raises(ConnectionClosed):
            await remote.call("ask", timeout=WITHIN)

    async def test_an_error_ack_of_a_remote_socket_raises(self, chat: Chat) -> None:
        (remote,) = await chat.namespace.to(chat.a.id).fetch_sockets()
        task = asyncio.ensure_future(remote.call("ask"))
        prefix, _ = await chat.wires["a"].receive_json()
        await chat.wires["a"].send(
            f'43/chat,{prefix.removeprefix("42/chat,")}[{{"error":{{"code":"E_HANDLER","message":"no","details":[]}}}}]'
        )
        with pytest.raises(RemoteError, match="no"):
            await task


class TestReplies:
    @pytest.mark.parametrize("name", [name for name in TARGETS if name != "socket"])
    async def test_all_that_came_in_order_of_arrival(self, chat: Chat, name: str) -> None:
        target, reached = target_of(chat, name)
        task = asyncio.ensure_future(target.call("it", timeout=WITHIN))
        for each in reached[::-1]:
            await chat.ack(each, each)
        assert await task == [*reached[::-1]]

    @ALL
    async def test_reserved_names_and_what_cannot_be_encoded(self, chat: Chat, name: str) -> None:
        target, _ = target_of(chat, name)
        with pytest.raises(LocalProtocolError, match="reserved"):
            await target.call("disconnect")
        with pytest.raises(LocalProtocolError, match="reserved"):
            target.emit("disconnect")
        with pytest.raises(TypeError):
            await target.call("it", object())
        with pytest.raises(TypeError):
            target.emit("it", object())
        assert await chat.reached() == ""
        assert not any(socket._acks for socket in chat.sockets.values())

    async def test_arguments_have_no_names(self, chat: Chat) -> None:
        with pytest.raises(TypeError, match="the arguments of an event have no names: b, c"):
            chat.namespace.emit("it", b=1, c=2)  # pyright: ignore[reportArgumentType, reportCallIssue]
        with pytest.raises(TypeError, match="the arguments of an event have no names: b"):
            await chat.a.call("it", b=1)  # pyright: ignore[reportArgumentType, reportCallIssue]


PLACES: list[tuple[list[Any], str, int]] = [
    ([b"\x00"], '[{"_placeholder":true,"num":0}]', 1),
    (["é", b"\x00", None], '["é",{"_placeholder":true,"num":0},null]', 1),
    ([{"a": {"b": [1, b"\x00"]}}], '[{"a":{"b":[1,{"_placeholder":true,"num":0}]}}]', 1),
    ([[b"\x00", [b"\x01"]], {"c": b"\x02"}], '[[{0},[{1}]],{"c":{2}}]', 3),
    ([{"a": 1}, [], b""], '[{"a":1},[],{"_placeholder":true,"num":0}]', 1),
]


def _text(template: str) -> str:
    for number in range(3):
        template = template.replace(f"{{{number}}}", f'{{"_placeholder":true,"num":{number}}}')
    return template


def attachments_of(value: Any) -> list[bytes]:
    """Give the bytes within a value, in order."""
    if isinstance(value, bytes):
        return [value]
    if isinstance(value, dict):
        value = [*value.values()]
    return [each for item in value for each in attachments_of(item)] if isinstance(value, list) else []


class TestBinary:
    @pytest.mark.parametrize(("args", "template", "count"), PLACES)
    @pytest.mark.parametrize("name", ["namespace", "socket"])
    async def test_anywhere_in_what_is_emitted(self, chat: Chat, name: str, args: list[Any], template: str, count: int) -> None:
        target, _ = target_of(chat, name)
        target.emit("it", *args)
        wire = chat.wires["a"]
        assert await wire.receive() == f'45{count}-/chat,["it",{_text(template)[1:]}'
        assert [await wire.receive() for _ in range(count)] == attachments_of(args)

    @pytest.mark.parametrize(("args", "template", "count"), PLACES)
    async def test_anywhere_in_what_comes_and_in_its_ack(self, chat: Chat, args: list[Any], template: str, count: int) -> None:
        seen: list[Any] = []

        @chat.namespace.on("it")
        async def it(socket: Socket, *given: JSON) -> Any:
            seen.extend(given)
            return given

        wire = chat.wires["a"]
        await wire.send(f'45{count}-/chat,7["it",{_text(template)[1:]}', *attachments_of(args))
        assert await wire.receive() == f"46{count}-/chat,7{_text(template)}"
        assert [await wire.receive() for _ in range(count)] == attachments_of(args)
        assert seen == args

    @pytest.mark.parametrize(("args", "template", "count"), PLACES)
    async def test_anywhere_in_an_ack_that_comes(self, chat: Chat, args: list[Any], template: str, count: int) -> None:
        task = asyncio.ensure_future(chat.a.call("it"))
        wire = chat.wires["a"]
        prefix, _ = await wire.receive_json()
        id = prefix.removeprefix("42/chat,")
        await wire.send(f"46{count}-/chat,{id}{_text(template)}", *attachments_of(args))
        assert await task == (args[0] if len(args) == 1 else tuple(args))

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    async def test_all_sorts_of_bytes(self, chat: Chat, kind: Callable[[bytes], Any]) -> None:
        chat.a.emit("it", [kind(b"abc")])
        wire = chat.wires["a"]
        assert await wire.receive() == '451-/chat,["it",[{"_placeholder":true,"num":0}]]'
        assert await wire.receive() == b"abc"

    async def test_what_is_changed_afterwards_goes_as_it_was(self, chat: Chat) -> None:
        data = bytearray(b"abc")
        chat.namespace.emit("it", data)
        data[:] = b"xyz"
        wire = chat.wires["b"]
        await wire.receive()
        assert await wire.receive() == b"abc"

    async def test_from_a_thread(self, chat: Chat) -> None:
        await asyncio.to_thread(chat.namespace.emit, "it", {"data": b"abc"})
        wire = chat.wires["b"]
        await until(lambda: not wire._outgoing.empty())
        await wire.receive()
        assert await wire.receive() == b"abc"
