"""Listening: `on`, `once`, `off` and the catch-all handlers of server, namespace and socket; `disconnecting` and `disconnect`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from mizzen import JSON, ConnectionClosed, ConnectRefused, LocalProtocolError, Namespace, Reason, Server, Socket
from mizzen.listeners import Listeners, Plan
from mizzen.protocol.packet import RESERVED_EVENTS
from tests.server.fake_wire import FakeWire, join_fake, multiplexer_of, open_fake, settle
from tests.support import WITHIN, until


@pytest.fixture
async def io() -> AsyncIterator[Server]:
    async with Server() as io:
        io.on("sync", lambda socket: 1)
        yield io


async def synced(wire: FakeWire) -> None:
    """Have the server handle everything sent so far; nothing else may have come."""
    assert await wire.ask("sync", id=999) == [1]


def one(io: Server) -> Socket:
    """Give the only socket of the main namespace."""
    (socket,) = io.sockets.values()
    return socket


class TestSocketLevel:
    async def test_its_handlers_get_the_arguments_only(self, io: Server) -> None:
        @io.on("connect")
        async def connect(socket: Socket) -> None:
            @socket.on("add")
            async def add(a: int, b: int = 10) -> int:
                return a + b

            @socket.on("plain")
            def plain(*args: JSON) -> JSON:
                return [threading.get_ident() == io._thread, *args]

        async with join_fake(io) as (wire, _):
            assert await wire.ask("add", 1, 2) == [3]
            assert await wire.ask("add", 1) == [11]
            assert await wire.ask("plain", 1, None, "x") == [[False, 1, None, "x"]]

    async def test_they_are_validated(self, io: Server) -> None:
        called: list[JSON] = []

        async with join_fake(io) as (wire, _):

            @one(io).on("add")
            async def add(a: int) -> None:
                called.append(a)

            (reply,) = await wire.ask("add", "one")
            assert reply["error"]["code"] == "E_ARGUMENTS"
            assert reply["error"]["details"][0]["argument"] == "a"
            assert reply["error"]["details"][0]["index"] == 0
            (reply,) = await wire.ask("add")
            assert reply["error"]["details"][0]["message"] == "missing"
        assert called == []

    async def test_their_signatures_are_checked_at_registration(self, io: Server) -> None:
        async with join_fake(io):
            with pytest.raises(TypeError, match="keyword-only"):

                @one(io).on("x")
                async def x(*, needed: int) -> None: ...

    async def test_they_run_after_those_of_the_namespace_and_one_ack_goes_out(self, io: Server) -> None:
        ran: list[str] = []

        @io.on("x")
        async def of_namespace(socket: Socket, value: int) -> None:
            ran.append(f"namespace {value}")

        async with join_fake(io) as (wire, _):

            @one(io).on("x")
            async def of_socket(value: int) -> str:
                ran.append(f"socket {value}")
                return "socket"

            assert await wire.ask("x", 1) == ["socket"]
            assert ran == ["namespace 1", "socket 1"]

    async def test_they_are_for_one_socket_alone(self, io: Server) -> None:
        async with join_fake(io) as (wire, sid), join_fake(io) as (other, _):
            io.sockets[sid].on("x", lambda: "mine")
            assert await wire.ask("x") == ["mine"]
            await other.send('421["x"]')
            await synced(other)

    async def test_one_that_fails_is_reported_with_its_socket(self, io: Server) -> None:
        seen: list[tuple[str, Socket | None, str]] = []
        io.on_error(lambda error, socket, where: seen.append((str(error), socket, where)))
        async with join_fake(io) as (wire, _):

            @one(io).on("x")
            async def x() -> None:
                raise ValueError("oops")

            (reply,) = await wire.ask("x")
            assert reply["error"]["code"] == "E_HANDLER"
            assert seen == [("oops", one(io), "x")]

    async def test_off_takes_them_away(self, io: Server) -> None:
        async with join_fake(io) as (wire, _):
            socket = one(io)

            def x() -> int:
                return 1

            socket.on("x", x)
            socket.off("x", x)
            socket.off("y")
            await wire.send('421["x"]')
            await synced(wire)

    async def test_a_verb_with_a_handler_of_the_socket_is_no_request(self, io: Server) -> None:
        async with join_fake(io) as (wire, _):
            one(io).on("get", lambda what: what["url"])
            assert await wire.ask("get", {"url": "/x"}) == ["/x"]
            one(io).off("get")
            (reply,) = await wire.ask("get", {"url": "/x"})
            assert reply["statusCode"] == 404


Level = Callable[[Server], Any]
LEVELS: list[Any] = [
    pytest.param(lambda io: io, id="server"),
    pytest.param(lambda io: io.of("/"), id="namespace"),
    pytest.param(one, id="socket"),
]


def taking(level: Any, function: Callable[..., object]) -> Callable[..., object]:
    """Give a handler for a level: that of a socket gets no socket first."""
    if isinstance(level, Socket):
        return lambda *args: function(*args)
    return lambda socket, *args: function(*args)


class TestOnce:
    @pytest.mark.parametrize("level", LEVELS)
    async def test_it_runs_for_the_first_event_only(self, io: Server, level: Level) -> None:
        seen: list[int] = []
        async with join_fake(io) as (wire, _):
            listens = level(io)
            listens.once("x", taking(listens, seen.append))
            await wire.send('42["x",1]', '42["x",2]', '42["x",3]')
            await until(lambda: seen)
            await synced(wire)
            assert seen == [1]

    @pytest.mark.parametrize("level", LEVELS)
    async def test_two_events_of_the_same_turn_run_it_once(self, io: Server, level: Level) -> None:
        seen: list[int] = []
        async with join_fake(io) as (wire, _):
            listens = level(io)
            listens.once("x", taking(listens, seen.append))
            multiplexer = multiplexer_of(io)
            for number in range(3):
                multiplexer.received(f'2["x",{number}]')
            await until(lambda: seen)
            await synced(wire)
            assert seen == [0]

    async def test_it_acks(self, io: Server) -> None:
        @io.once("x")
        async def x(socket: Socket, value: int) -> int:
            return value + 1

        async with join_fake(io) as (wire, _):
            assert await wire.ask("x", 1) == [2]
            await wire.send('421["x",1]')
            await synced(wire)

    async def test_others_of_the_event_stay(self, io: Server) -> None:
        seen: list[str] = []
        io.on("x", lambda socket: seen.append("always"))
        io.once("x", lambda socket: seen.append("once"))
        io.on("x", lambda socket: 7)
        async with join_fake(io) as (wire, _):
            assert await wire.ask("x") == [7]
            assert await wire.ask("x") == [7]
        assert seen == ["always", "once", "always"]

    async def test_arguments_that_do_not_fit_use_it_up(self, io: Server) -> None:
        @io.once("x")
        async def x(socket: Socket, value: int) -> None: ...

        async with join_fake(io) as (wire, _):
            assert "error" in (await wire.ask("x", "no"))[0]
            await wire.send('421["x",1]')
            await synced(wire)

    async def test_one_of_the_namespace_is_used_up_by_any_socket(self, io: Server) -> None:
        seen: list[str] = []
        io.once("x", lambda socket: seen.append(socket.id))
        async with join_fake(io) as (first, sid), join_fake(io) as (second, _):
            await first.send('42["x"]')
            await until(lambda: seen)
            await second.send('42["x"]')
            await synced(second)
        assert seen == [sid]

    async def test_off_takes_it_away_before_it_ran(self, io: Server) -> None:
        def x(socket: Socket) -> int:
            return 1

        io.once("x", x)
        io.off("x", x)
        async with join_fake(io) as (wire, _):
            await wire.send('421["x"]')
            await synced(wire)

    async def test_a_handler_may_register_itself_again(self, io: Server) -> None:
        seen: list[int] = []

        async def x(socket: Socket, number: int) -> None:
            seen.append(number)
            if number < 3:
                io.once("x", x)

        io.once("x", x)
        async with join_fake(io) as (wire, _):
            for number in range(1, 6):
                await wire.send(f'42["x",{number}]')
                await synced(wire)
        assert seen == [1, 2, 3]

    async def test_once_connect_is_for_the_next_client(self, io: Server) -> None:
        seen: list[str] = []
        io.once("connect", lambda socket: seen.append(socket.id))
        async with join_fake(io) as (_, sid), join_fake(io):
            assert seen == [sid]

    async def test_once_disconnect_is_for_the_next_to_go(self, io: Server) -> None:
        seen: list[str] = []
        io.once("disconnect", lambda socket: seen.append("disconnect"))
        io.once("disconnecting", lambda socket: seen.append("disconnecting"))
        for _ in range(2):
            async with join_fake(io):
                pass
            await until(lambda: not io.sessions.connections and not len(io.tasks))
        assert seen == ["disconnecting", "disconnect"]

    def test_before_it_can_be_found_it_is_known_to_run_once(self) -> None:
        # A thread may register it while the loop looks for handlers.
        listeners = Listeners(0)
        seen: list[bool] = []

        class Watched(dict[str, Plan]):
            def __setitem__(self, event: str, plan: Plan) -> None:
                seen.append(listeners.plain)
                super().__setitem__(event, plan)

        listeners.handlers = Watched()
        listeners.add("event", lambda: None, once=True)
        assert seen == [False]

    async def test_nothing_but_plain_handlers_is_as_quick_as_before(self, io: Server) -> None:
        """The slow way is for those who use it, and only for as long."""
        listeners = io.of("/").listeners
        assert listeners.plain
        io.once("x", lambda socket: 1)
        assert not listeners.plain
        async with join_fake(io) as (wire, _):
            await wire.ask("x")
        assert listeners.plain
        watch = io.on_any(lambda socket, event: None)
        assert not listeners.plain
        io.off_any(watch)
        assert listeners.plain


class TestOff:
    async def test_one_or_all(self, io: Server) -> None:
        seen: list[str] = []

        async def first(socket: Socket) -> None:
            seen.append("first")

        async def second(socket: Socket) -> None:
            seen.append("second")

        for handler in (first, second, first):
            io.on("x", handler)
        async with join_fake(io) as (wire, _):
            await wire.ask("x")
            io.off("x", first)  # the one that was registered last
            await wire.ask("x")
            io.off("x", first)
            await wire.ask("x")
            io.on("x", first)
            io.off("x")
            await wire.send('421["x"]')
            await synced(wire)
        assert seen == ["first", "second", "first", "first", "second", "second"]

    async def test_what_is_not_registered_is_ignored(self, io: Server) -> None:
        io.off("never")
        io.off("sync", print)
        async with join_fake(io) as (wire, _):
            await synced(wire)

    async def test_a_bound_method_is_found_again(self, io: Server) -> None:
        class App:
            async def x(self, socket: Socket) -> int:
                return 1

        app = App()
        io.on("x", app.x)
        io.off("x", app.x)
        assert "x" not in io.of("/").listeners.handlers

    async def test_inside_a_handler(self, io: Server) -> None:
        seen: list[str] = []

        @io.on("x")
        async def x(socket: Socket) -> None:
            seen.append("x")
            io.off("x", x)
            io.off("x", after)

        @io.on("x")
        async def after(socket: Socket) -> int:
            seen.append("after")  # it was there when the event came
            return 1

        async with join_fake(io) as (wire, _):
            assert await wire.ask("x") == [1]
            await wire.send('421["x"]')
            await synced(wire)
        assert seen == ["x", "after"]

    async def test_connect_and_disconnect(self, io: Server) -> None:
        seen: list[str] = []
        for event in ("connect", "disconnect", "disconnecting"):
            io.on(event, lambda socket: seen.append("?"))
            io.off(event)
        async with join_fake(io):
            pass
        await until(lambda: not io.sessions.connections)
        assert seen == []

    async def test_a_handler_that_runs_is_not_stopped(self, io: Server) -> None:
        gate = asyncio.Event()

        @io.on("x")
        async def x(socket: Socket) -> int:
            await gate.wait()
            return 1

        async with join_fake(io) as (wire, _):
            await wire.send('421["x"]')
            await synced(wire)
            io.off("x")
            gate.set()
            assert await wire.receive() == "431[1]"


class TestOnAny:
    async def test_it_gets_every_event_before_its_handlers(self, io: Server) -> None:
        seen: list[tuple[Any, ...]] = []

        @io.on("x")
        async def x(socket: Socket, value: int) -> int:
            seen.append(("x", value))
            return value

        @io.on_any
        async def watch(socket: Socket, event: str, *args: JSON) -> str:
            seen.append(("any", socket.id, event, *args))
            return "no ack"

        async with join_fake(io) as (wire, sid):

            @one(io).on_any
            async def own(event: str, *args: JSON) -> str:
                seen.append(("own", event, *args))
                return "no ack"

            assert await wire.ask("x", 1) == [1]
            assert seen == [("any", sid, "x", 1), ("own", "x", 1), ("x", 1)]

    async def test_it_hears_what_has_no_handler_but_does_not_ack_it(self, io: Server) -> None:
        seen: list[str] = []

        @io.on_any
        async def watch(socket: Socket, event: str) -> str:
            seen.append(event)
            return "no ack"

        async with join_fake(io) as (wire, _):
            await wire.send('421["nobody",1]', '42["other"]', '42[5,"number"]')
            await synced(wire)
        assert seen == ["nobody", "other", "5", "sync"]

    async def test_it_hears_socket_requests_which_are_answered(self, io: Server) -> None:
        seen: list[str] = []
        io.on_any(lambda socket, event, *args: seen.append(event))
        async with join_fake(io) as (wire, _):
            (reply,) = await wire.ask("get", {"url": "/x"})
            assert reply["statusCode"] == 404
            assert seen == ["get"]

    async def test_it_hears_neither_acks_nor_the_coming_and_going(self, io: Server) -> None:
        seen: list[str] = []
        io.on_any(lambda socket, event: seen.append(event))
        async with join_fake(io) as (wire, _):
            call = asyncio.create_task(one(io).call("ask"))
            await wire.receive()
            await wire.send("430[1]")
            assert await call == 1
        await until(lambda: not io.sessions.connections)
        assert seen == []

    async def test_order_and_prepend(self, io: Server) -> None:
        order: list[str] = []

        def watcher(name: str) -> Callable[..., object]:
            async def watch(*args: object) -> None:
                order.append(name)

            return watch

        second, first, third = watcher("second"), watcher("first"), watcher("third")
        io.on_any(second)
        io.on_any(third)
        io.on_any(first, prepend=True)
        assert io.listeners_any == (first, second, third)
        async with join_fake(io) as (wire, _):
            fifth, fourth = watcher("fifth"), watcher("fourth")
            socket = one(io)
            socket.on_any(fifth)
            socket.on_any(fourth, prepend=True)
            assert socket.listeners_any == (fourth, fifth)
            await synced(wire)
        assert order == ["first", "second", "third", "fourth", "fifth"]

    @pytest.mark.parametrize("level", LEVELS)
    async def test_off_any_takes_one_or_all(self, io: Server, level: Level) -> None:
        async with join_fake(io) as (wire, _):
            listens = level(io)
            seen: list[str] = []

            async def a(*args: object) -> None:
                seen.append("a")

            async def b(*args: object) -> None:
                seen.append("b")

            for handler in (a, b, b):
                assert listens.on_any(handler) is handler
            listens.off_any(b)
            assert listens.listeners_any == (a, b)
            await synced(wire)
            listens.off_any()
            assert listens.listeners_any == ()
            await synced(wire)
            assert seen == ["a", "b"]

    async def test_one_that_fails_is_reported_and_keeps_nothing(self, io: Server) -> None:
        seen: list[tuple[str, str]] = []
        io.on_error(lambda error, socket, where: seen.append((str(error), where)))

        @io.on_any
        async def watch(socket: Socket, event: str) -> None:
            raise ValueError("oops")

        async with join_fake(io) as (wire, _):
            await synced(wire)
            assert seen == [("oops", "sync")]
            await settle()
            assert multiplexer_of(io).running == 0

    async def test_its_arguments_are_validated(self, io: Server) -> None:
        seen: list[int] = []
        errors: list[str] = []
        io.on_error(lambda error, socket, where: errors.append(where))

        @io.on_any
        async def watch(socket: Socket, event: str, number: int) -> None:
            seen.append(number)

        async with join_fake(io) as (wire, _):
            await wire.send('42["x",1]', '42["x","no"]')
            await synced(wire)
        assert (seen, errors) == ([1], ["x", "sync"])

    async def test_a_plain_one_runs_in_a_thread(self, io: Server) -> None:
        seen: list[bool] = []
        io.on_any(lambda socket, event: seen.append(threading.get_ident() == io._thread))
        async with join_fake(io) as (wire, _):
            await wire.send('42["x"]')
            await until(lambda: seen)
            assert seen == [False]

    async def test_it_counts_in_max_handlers(self) -> None:
        gate = asyncio.Event()
        async with Server(max_handlers=1) as io, join_fake(io) as (wire, _):

            @io.on_any
            async def watch(socket: Socket, event: str) -> None:
                await gate.wait()

            await wire.send('42["x"]', '42["x"]', '42["x"]')
            await settle()
            multiplexer = multiplexer_of(io)
            assert (multiplexer.running, len(multiplexer.inbox)) == (1, 2)
            gate.set()
            await until(lambda: not multiplexer.running and not multiplexer.inbox)

    def test_one_that_takes_no_event_is_refused(self, io: Server) -> None:
        with pytest.raises(TypeError, match="positional"):
            io.on_any(lambda socket: None)


class TestOnAnyOutgoing:
    async def sent(self, io: Server, level: Level, send: Callable[[Server, Socket], object]) -> list[tuple[Any, ...]]:
        """Have something sent to a client; give what a listener heard of it."""
        seen: list[tuple[Any, ...]] = []
        async with join_fake(io) as (wire, _):
            listens, socket = level(io), one(io)
            socket.join("room")

            async def watch(*args: Any) -> None:
                seen.append(args if isinstance(listens, Socket) else args[1:])
                assert args[0] is socket or isinstance(listens, Socket)

            assert listens.on_any_outgoing(watch) is watch
            assert listens.listeners_any_outgoing == (watch,)
            send(io, socket)
            assert await wire.event() == ["x", 1, [2]]
            await settle()
            seen_then = list(seen)
            listens.off_any_outgoing(watch)
            send(io, socket)
            await settle()
            assert seen == seen_then
        return seen

    @pytest.mark.parametrize("level", LEVELS)
    @pytest.mark.parametrize(
        "send",
        [
            pytest.param(lambda io, socket: socket.emit("x", 1, [2]), id="emit"),
            pytest.param(lambda io, socket: socket.volatile.emit("x", 1, [2]), id="volatile"),
            pytest.param(lambda io, socket: socket.compress(False).emit("x", 1, [2]), id="compress"),
            pytest.param(lambda io, socket: io.emit("x", 1, [2]), id="broadcast"),
            pytest.param(lambda io, socket: io.to("room", "nobody").emit("x", 1, [2]), id="room"),
            pytest.param(lambda io, socket: io.volatile.to("room").emit("x", 1, [2]), id="volatile room"),
            pytest.param(lambda io, socket: io.to(socket.id).local.emit("x", 1, [2]), id="id"),
        ],
    )
    async def test_it_hears_what_goes(self, io: Server, level: Level, send: Callable[[Server, Socket], object]) -> None:
        assert await self.sent(io, level, send) == [("x", 1, [2])]

    @pytest.mark.parametrize("level", LEVELS)
    async def test_it_hears_calls(self, io: Server, level: Level) -> None:
        seen: list[str] = []
        async with join_fake(io) as (wire, _):
            listens, socket = level(io), one(io)

            async def watch(*args: Any) -> None:
                seen.append(args[-1])

            listens.on_any_outgoing(watch)
            for id, call in enumerate(
                (socket.call("ask", "socket"), io.to(socket.id).call("ask", "room"), socket.volatile.call("ask", "v"))
            ):
                task = asyncio.ensure_future(call)
                await wire.receive()
                await wire.send(f"43{id}[]")
                await task
        assert seen == ["socket", "room", "v"]

    async def test_it_hears_no_acks(self, io: Server) -> None:
        seen: list[str] = []
        io.on_any_outgoing(lambda socket, event: seen.append(event))
        async with join_fake(io) as (wire, _):
            one(io).on_any_outgoing(lambda event: seen.append(event))
            await synced(wire)
            await until(lambda: not len(io.tasks))
        assert seen == []

    async def test_a_broadcast_is_heard_for_each_socket_that_gets_it(self, io: Server) -> None:
        seen: list[str] = []

        @io.on_any_outgoing
        async def watch(socket: Socket, event: str) -> None:
            seen.append(socket.id)

        async with join_fake(io) as (_, a), join_fake(io) as (_, b), join_fake(io) as (_, c):
            io.to(a, b).except_(b).emit("x")
            await settle()
            assert seen == [a]
            io.sockets[a].broadcast.emit("x")
            await settle()
            assert sorted(seen[1:]) == sorted([b, c])

    async def test_one_of_a_socket_hears_nothing_of_others(self, io: Server) -> None:
        seen: list[str] = []
        async with join_fake(io) as (_, a), join_fake(io) as (_, b):
            io.sockets[a].on_any_outgoing(lambda event: seen.append(event))
            io.sockets[b].emit("other")
            io.to(b).emit("other")
            io.emit("all")
            await until(lambda: seen)
            await settle()
        assert seen == ["all"]

    async def test_what_it_does_to_rooms_disturbs_no_broadcast(self, io: Server) -> None:
        @io.on_any_outgoing
        async def watch(socket: Socket, event: str) -> None:
            socket.leave("room")
            socket.disconnect()

        async with join_fake(io) as (one_wire, a), join_fake(io) as (other_wire, b):
            for sid in (a, b):
                io.sockets[sid].join("room")
            io.to("room").emit("x")
            for wire in (one_wire, other_wire):
                assert await wire.receive() == '42["x"]'
                assert await wire.receive() == "41"

    async def test_nothing_is_heard_of_what_goes_to_nobody(self, io: Server) -> None:
        seen: list[str] = []
        io.on_any_outgoing(lambda socket, event: seen.append(event))
        async with join_fake(io) as (wire, _):
            socket = one(io)
            await wire.send("41")
            await until(lambda: not socket.connected)
        socket.emit("late")
        io.emit("nobody")
        with pytest.raises(ConnectionClosed):
            await socket.call("late")
        await settle()
        assert not len(io.tasks)
        assert seen == []

    async def test_one_that_fails_is_reported_and_the_event_goes(self, io: Server) -> None:
        seen: list[tuple[str, str]] = []
        io.on_error(lambda error, socket, where: seen.append((str(error), where)))

        @io.on_any_outgoing
        async def watch(socket: Socket, event: str) -> None:
            raise ValueError("oops")

        async with join_fake(io) as (wire, _):
            io.emit("x")
            assert await wire.receive() == '42["x"]'
            await until(lambda: seen == [("oops", "x")])

    async def test_prepend_and_off_all(self, io: Server) -> None:
        def first(socket: Socket, event: str) -> None: ...

        def second(socket: Socket, event: str) -> None: ...

        io.on_any_outgoing(second)
        io.on_any_outgoing(first, prepend=True)
        assert io.listeners_any_outgoing == (first, second) == io.of("/").listeners_any_outgoing
        io.off_any_outgoing()
        assert io.listeners_any_outgoing == ()

    async def test_from_a_thread(self, io: Server) -> None:
        seen: list[str] = []
        io.on_any_outgoing(lambda socket, event: seen.append(event))
        async with join_fake(io) as (wire, _):
            await asyncio.to_thread(one(io).emit, "from a thread")
            assert await wire.event() == ["from a thread"]
            await until(lambda: seen == ["from a thread"])


class Leaving:
    """What `disconnecting` and `disconnect` handlers saw."""

    def __init__(self, io: Server) -> None:
        self.seen: list[tuple[Any, ...]] = []
        io.on("disconnecting", self.disconnecting)
        io.on("disconnect", self.disconnect)

    async def disconnecting(self, socket: Socket, reason: Reason, details: str | None) -> None:
        before = sorted(socket.rooms - {socket.id})
        await asyncio.sleep(0)
        assert sorted(socket.rooms - {socket.id}) == before
        self.seen.append(("disconnecting", reason, before, socket.connected))

    async def disconnect(self, socket: Socket, reason: Reason) -> None:
        self.seen.append(("disconnect", reason, sorted(socket.rooms), socket.connected))


class TestDisconnecting:
    @pytest.mark.parametrize(
        ("end", "reason"),
        [
            (lambda io, wire: wire.send("41"), Reason.CLIENT_NAMESPACE_DISCONNECT),
            (lambda io, wire: one(io).disconnect(), Reason.SERVER_NAMESPACE_DISCONNECT),
            (lambda io, wire: one(io).disconnect(close=True), Reason.SERVER_NAMESPACE_DISCONNECT),
            (lambda io, wire: io.disconnect_sockets(), Reason.SERVER_NAMESPACE_DISCONNECT),
            (lambda io, wire: wire.drop(), Reason.TRANSPORT_CLOSE),
            (lambda io, wire: wire.send("4nonsense"), Reason.FORCED_CLOSE),
            (lambda io, wire: io.close(), Reason.SERVER_SHUTTING_DOWN),
        ],
    )
    async def test_its_rooms_are_still_named_and_disconnect_follows(
        self, io: Server, end: Callable[[Server, FakeWire], Any], reason: Reason
    ) -> None:
        leaving = Leaving(io)
        async with join_fake(io) as (wire, _):
            one(io).join("a", "b")
            ended = end(io, wire)
            if ended is not None:
                await ended
            await until(lambda: len(leaving.seen) == 2)
        assert leaving.seen == [("disconnecting", reason, ["a", "b"], False), ("disconnect", reason, [], False)]
        assert not io.of("/").adapter.rooms

    async def test_others_of_its_rooms_can_be_told(self, io: Server) -> None:
        @io.on("disconnecting")
        async def disconnecting(socket: Socket) -> None:
            for room in socket.rooms - {socket.id}:
                socket.to(room).emit("left", room)

        async with join_fake(io) as (wire, other):
            io.sockets[other].join("a")
            async with join_fake(io) as (_, sid):
                io.sockets[sid].join("a")
            assert await wire.event() == ["left", "a"]

    async def test_broadcasts_reach_it_no_more(self, io: Server) -> None:
        gate = asyncio.Event()

        @io.on("disconnecting")
        async def disconnecting(socket: Socket) -> None:
            await gate.wait()

        async with join_fake(io) as (wire, sid):
            io.sockets[sid].join("a")
            await wire.send("41")
            await until(lambda: not io.sockets)
            io.to("a").emit("x")
            io.emit("x")
            await settle()
            assert wire.received() == []
            gate.set()

    @pytest.mark.parametrize("is_async", [True, False])
    async def test_disconnect_waits_for_all_of_them(self, io: Server, is_async: bool) -> None:
        seen: list[str] = []
        gate, thread_gate = asyncio.Event(), threading.Event()

        async def slow(socket: Socket) -> None:
            await gate.wait()
            seen.append("slow")

        def slow_thread(socket: Socket) -> None:
            thread_gate.wait(WITHIN)
            seen.append("slow")

        io.on("disconnecting", slow if is_async else slow_thread)
        io.on("disconnecting", lambda socket: seen.append("second"))
        io.on("disconnect", lambda socket: seen.append("disconnect"))
        async with join_fake(io):
            pass
        await settle()
        assert seen == []
        gate.set()
        thread_gate.set()
        await until(lambda: len(seen) == 3)
        assert seen == ["slow", "second", "disconnect"]

    async def test_one_that_raises_is_reported_and_the_rest_goes_on(self, io: Server) -> None:
        seen: list[str] = []
        errors: list[tuple[str, str]] = []
        io.on_error(lambda error, socket, where: errors.append((str(error), where)))

        @io.on("disconnecting")
        async def fails(socket: Socket) -> None:
            raise ValueError("oops")

        io.on("disconnecting", lambda socket: seen.append("second"))
        io.on("disconnect", lambda socket: seen.append("disconnect"))
        async with join_fake(io):
            socket = one(io)
            socket.join("a")
        await until(lambda: seen == ["second", "disconnect"])
        assert errors == [("oops", "disconnecting")]
        assert socket.rooms == frozenset()

    async def test_at_the_level_of_a_socket(self, io: Server) -> None:
        seen: list[tuple[Any, ...]] = []

        @io.on("connect")
        async def connect(socket: Socket) -> None:
            socket.join("a")

            @socket.on("disconnecting")
            async def disconnecting(reason: Reason) -> None:
                seen.append(("disconnecting", reason, sorted(socket.rooms - {socket.id})))

            @socket.on("disconnect")
            def disconnect(reason: Reason, details: str | None = None) -> None:
                seen.append(("disconnect", reason, details, sorted(socket.rooms)))

            socket.once("disconnect", lambda: seen.append(("once",)))

        io.on("disconnect", lambda socket: seen.append(("namespace",)))
        async with join_fake(io):
            pass
        await until(lambda: len(seen) == 4)
        assert seen[0] == ("disconnecting", "transport close", ["a"])
        assert sorted(each[0] for each in seen[1:]) == ["disconnect", "namespace", "once"]
        assert ("disconnect", "transport close", None, []) in seen

    @pytest.mark.parametrize("by", ["middleware", "connect"])
    async def test_a_refused_socket_has_neither_and_no_rooms_are_left(self, io: Server, by: str) -> None:
        leaving = Leaving(io)
        sockets: list[Socket] = []

        async def refuse(socket: Socket) -> None:
            sockets.append(socket)
            socket.join("a")
            raise ConnectRefused("no")

        if by == "middleware":
            io.use(refuse)
        else:
            io.on("connect", refuse)
        async with open_fake(io) as wire:
            await wire.send("40")
            await wire.receive()
        await settle()
        assert leaving.seen == []
        assert sockets[0].rooms == frozenset()
        assert not io.of("/").adapter.rooms

    async def test_a_client_that_goes_during_middleware_begins_nothing(self, io: Server) -> None:
        leaving = Leaving(io)
        gate, ran, sockets = asyncio.Event(), list[str](), list[Socket]()

        @io.use
        async def slow(socket: Socket) -> None:
            socket.join("a")
            sockets.append(socket)
            await gate.wait()

        io.use(lambda socket: ran.append("use"))
        io.on("connect", lambda socket: ran.append("connect"))
        async with open_fake(io) as wire:
            await wire.send("40")
            await until(lambda: sockets)
        gate.set()
        await until(lambda: not len(io.tasks))
        assert (ran, leaving.seen, sockets[0].rooms) == ([], [], frozenset())

    async def test_a_client_that_goes_during_connect_is_taken_leave_of(self, io: Server) -> None:
        leaving = Leaving(io)
        gate, sockets = asyncio.Event(), list[Socket]()

        @io.on("connect")
        async def slow(socket: Socket) -> None:
            socket.join("a")
            sockets.append(socket)
            await gate.wait()

        async with open_fake(io) as wire:
            await wire.send("40")
            await until(lambda: sockets)
        await until(lambda: not io.sessions.connections)
        assert leaving.seen == []
        gate.set()
        await until(lambda: len(leaving.seen) == 2)
        assert leaving.seen == [("disconnecting", "transport close", ["a"], False), ("disconnect", "transport close", [], False)]

    async def test_a_server_that_closes_waits_for_them(self, io: Server) -> None:
        seen: list[str] = []

        @io.on("disconnecting")
        async def disconnecting(socket: Socket) -> None:
            for _ in range(5):
                await asyncio.sleep(0)
            seen.append("disconnecting")

        @io.on("disconnect")
        async def disconnect(socket: Socket) -> None:
            for _ in range(5):
                await asyncio.sleep(0)
            seen.append("disconnect")

        async with join_fake(io):
            await io.close()
            assert seen == ["disconnecting", "disconnect"]

    async def test_nothing_of_it_remains(self, io: Server) -> None:
        Leaving(io)
        async with join_fake(io):
            multiplexer = multiplexer_of(io)
        await until(lambda: not len(io.tasks))
        assert multiplexer.running == 0
        assert not multiplexer.sockets


class TestNames:
    @pytest.mark.parametrize("name", sorted(RESERVED_EVENTS))
    async def test_reserved_names_have_no_handlers(self, io: Server, name: str) -> None:
        own = {"connect", "disconnect", "disconnecting"}
        async with join_fake(io):
            for listens, means in ((io, own), (io.of("/"), own), (Namespace("/x"), own), (one(io), own - {"connect"})):
                for register in (listens.on, listens.once):
                    if name in means:
                        register(name, lambda *args: None)
                    else:
                        with pytest.raises(LocalProtocolError, match=f"'{name}' is a reserved name"):
                            register(name, lambda *args: None)

    async def test_connection_is_told_to_be_connect(self, io: Server) -> None:
        with pytest.raises(LocalProtocolError, match="register the handler for 'connect'"):
            io.once("connection", lambda socket: None)

    @pytest.mark.parametrize("level", LEVELS)
    @pytest.mark.parametrize(("number", "name"), [("7", "7"), ("-1", "-1"), ("2.0", "2"), ("1.5", "1.5"), ("0", "0")])
    async def test_events_may_be_named_by_numbers(self, io: Server, level: Level, number: str, name: str) -> None:
        async with join_fake(io) as (wire, _):
            listens = level(io)
            listens.on(name, taking(listens, lambda value: value))
            await wire.send(f'421[{number},"it"]')
            assert await wire.receive() == '431["it"]'
            listens.off(name)
            listens.once(name, taking(listens, lambda value: [value]))
            await wire.send(f'422[{number},"it"]')
            assert await wire.receive() == '432[["it"]]'

    async def test_decorators_give_the_function_back(self, io: Server) -> None:
        async def handler(socket: Socket) -> None: ...

        async def own() -> None: ...

        assert io.on("a")(handler) is io.on("b", handler) is io.once("c")(handler) is io.once("d", handler) is handler
        async with join_fake(io):
            socket = one(io)
            assert socket.on("a")(own) is socket.on("b", own) is socket.once("c")(own) is socket.once("d", own) is own
