"""Middleware: of connections `(socket)` and of packets `(socket, event, args)`, of namespaces and of single sockets."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from mizzen import JSON, ArgumentsInvalid, ConnectRefused, Server, Socket
from tests.server.fake_wire import FakeWire, join_fake, multiplexer_of, open_fake, settle
from tests.support import WITHIN, until

E_HANDLER = {"error": {"code": "E_HANDLER", "message": "the handler failed", "details": []}}


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


async def echo(socket: Socket, *args: JSON) -> tuple[JSON, ...]:
    return args


class TestKinds:
    async def test_what_it_takes_says_what_it_is_for(self, io: Server) -> None:
        seen: list[str] = []

        @io.use
        async def connecting(socket: Socket) -> None:
            seen.append(f"connect, connected: {socket.connected}")

        @io.use
        async def packet(socket: Socket, event: str, args: list[JSON]) -> None:
            seen.append(f"packet {event} {args}")

        @io.on("connect")
        async def connect(socket: Socket) -> None:
            @socket.use
            async def own(event: str, args: list[JSON]) -> None:
                seen.append(f"own {event} {args}")

        io.on("echo", echo)
        async with join_fake(io) as (wire, _):
            assert await wire.ask("echo", 1, [2]) == [1, [2]]
        assert seen == ["connect, connected: False", "packet echo [1, [2]]", "own echo [1, [2]]"]

    async def test_callables_of_all_sorts(self, io: Server) -> None:
        seen: list[str] = []

        class Checks:
            async def __call__(self, socket: Socket, event: str, args: list[JSON]) -> None:
                seen.append("object")

            def method(self, socket: Socket, event: str, args: list[JSON]) -> None:
                seen.append(f"method, in the loop's thread: {threading.get_ident() == io._thread}")

        async def general(what: str, socket: Socket, event: str, args: list[JSON], more: int = 0) -> None:
            seen.append(what)

        io.use(Checks())
        io.use(Checks().method)
        io.use(functools.partial(general, "partial"))
        async with join_fake(io) as (wire, _):
            await synced(wire)
        assert seen == ["object", "method, in the loop's thread: False", "partial"]

    @pytest.mark.parametrize(
        "middleware", [lambda: None, lambda socket, event: None, lambda socket, event, args, more: None], ids=["none", "two", "four"]
    )
    def test_any_other_signature_is_refused(self, middleware: Callable[..., object]) -> None:
        with pytest.raises(TypeError):
            Server().use(middleware)

    async def test_any_other_signature_of_a_socket_is_refused(self, io: Server) -> None:
        async with join_fake(io):
            for wrong in (lambda event: None, lambda event, args, more: None):
                with pytest.raises(TypeError):
                    one(io).use(wrong)

    async def test_it_is_that_of_its_namespace(self, io: Server) -> None:
        seen: list[str] = []
        io.of("/a").use(lambda socket, event, args: seen.append(event))
        io.of("/b").on("x", lambda socket: 1)
        async with join_fake(io, "/b") as (wire, _):
            await wire.send('42/b,1["x"]')
            assert await wire.receive() == "43/b,1[1]"
        assert seen == []

    async def test_one_of_a_socket_is_for_it_alone(self, io: Server) -> None:
        seen: list[str] = []
        async with join_fake(io) as (_, sid), join_fake(io) as (other, _):
            io.sockets[sid].use(lambda event, args: seen.append(event))
            await synced(other)
        assert seen == []


class TestOrder:
    async def test_one_after_another_then_the_handlers(self, io: Server) -> None:
        seen: list[str] = []

        def stage(name: str) -> Callable[..., Any]:
            async def middleware(socket: Socket, event: str, args: list[JSON]) -> None:
                await asyncio.sleep(0)
                seen.append(name)

            return middleware

        io.use(stage("first"))
        io.use(stage("second"))
        io.on_any(lambda socket, event: seen.append("any"))
        io.on("x", lambda socket: seen.append("handler"))
        async with join_fake(io) as (wire, _):

            @one(io).use
            async def own(event: str, args: list[JSON]) -> None:
                await asyncio.sleep(0)
                seen.append("own")

            assert await wire.ask("x") == []
        assert seen == ["first", "second", "own", "any", "handler"]

    async def test_handlers_start_in_order_of_arrival_though_middleware_waits(self, io: Server) -> None:
        seen: list[int] = []
        gates = [asyncio.Event() for _ in range(5)]

        @io.use
        async def wait(socket: Socket, event: str, args: list[JSON]) -> None:
            if event == "n":
                await gates[args[0]].wait()

        @io.on("n")
        async def n(socket: Socket, number: int) -> None:
            seen.append(number)

        async with join_fake(io) as (wire, _):
            await wire.send(*[f'42["n",{number}]' for number in range(5)])
            for gate in reversed(gates):
                await settle(10)
                assert seen == []
                gate.set()
            await synced(wire)
            assert seen == [0, 1, 2, 3, 4]

    async def test_two_sockets_do_not_wait_for_each_other(self, io: Server) -> None:
        gate = asyncio.Event()

        @io.use
        async def wait(socket: Socket, event: str, args: list[JSON]) -> None:
            if event == "wait":
                await gate.wait()

        async with join_fake(io) as (slow, _), join_fake(io) as (quick, _):
            await slow.send('42["wait"]')
            await settle()
            await synced(quick)
            gate.set()

    async def test_namespaces_of_one_connection_do_not_wait_for_each_other(self, io: Server) -> None:
        gate = asyncio.Event()

        @io.of("/slow").use
        async def wait(socket: Socket, event: str, args: list[JSON]) -> None:
            await gate.wait()

        async with join_fake(io, "/slow") as (wire, _):
            await wire.send("40", '42/slow,["x"]')
            await wire.receive()
            await synced(wire)
            gate.set()

    async def test_acks_do_not_wait_for_it(self, io: Server) -> None:
        @io.use
        async def ask(socket: Socket, event: str, args: list[JSON]) -> None:
            args.append(await socket.call("who", timeout=WITHIN))

        io.on("echo", echo)
        async with join_fake(io) as (wire, _):
            await wire.send('421["echo"]')
            assert await wire.receive() == '420["who"]'
            await wire.send('430["me"]')
            assert await wire.receive() == '431["me"]'

    async def test_one_that_a_handler_registers_is_there_for_what_comes_then(self, io: Server) -> None:
        seen: list[str] = []

        @io.on("guard")
        async def guard(socket: Socket) -> None:
            socket.use(lambda event, args: seen.append(event))

        async with join_fake(io) as (wire, _):
            await wire.ask("guard")
            await wire.send('42["x"]', '42["y"]')
            await synced(wire)
        assert seen == ["x", "y", "sync"]


class TestArguments:
    async def test_they_may_be_changed_in_place(self, io: Server) -> None:
        @io.use
        async def change(socket: Socket, event: str, args: list[JSON]) -> None:
            args[0] += 1
            args.append("added")

        heard: list[JSON] = []
        io.on_any(lambda socket, event, *args: heard.extend(args))

        @io.on("x")
        async def x(socket: Socket, number: int, text: str) -> JSON:
            return [number, text]

        async with join_fake(io) as (wire, _):
            assert await wire.ask("x", 1) == [[2, "added"]]
            assert heard == [2, "added"]

    async def test_they_are_validated_after_it(self, io: Server) -> None:
        @io.use
        async def change(socket: Socket, event: str, args: list[JSON]) -> None:
            args[:] = [int(argument) for argument in args]

        @io.on("x")
        async def x(socket: Socket, number: int) -> int:
            return number

        async with join_fake(io) as (wire, _):
            assert await wire.ask("x", "17") == [17]

    async def test_attachments(self, io: Server) -> None:
        @io.use
        async def change(socket: Socket, event: str, args: list[JSON]) -> None:
            assert args == [{"data": b"abc"}]
            args[0]["data"] += b"d"

        @io.on("x")
        async def x(socket: Socket, value: JSON) -> JSON:
            return value["data"]

        async with join_fake(io) as (wire, _):
            await wire.send('451-1["x",{"data":{"_placeholder":true,"num":0}}]', b"abc")
            assert await wire.receive() == '461-1[{"_placeholder":true,"num":0}]'
            assert await wire.receive() == b"abcd"

    async def test_an_event_that_is_named_by_a_number(self, io: Server) -> None:
        seen: list[str] = []
        io.use(lambda socket, event, args: seen.append(event))
        io.on("5", lambda socket: "five")
        async with join_fake(io) as (wire, _):
            await wire.send("421[5]")
            assert await wire.receive() == '431["five"]'
        assert seen == ["5"]


class TestRefusing:
    @pytest.mark.parametrize("level", ["namespace", "socket"])
    @pytest.mark.parametrize("plain", [True, False])
    async def test_raising_refuses_acks_an_error_and_is_reported(
        self, io: Server, level: str, plain: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        ran: list[str] = []
        errors: list[tuple[str, Socket | None, str]] = []
        io.on_error(lambda error, socket, where: errors.append((str(error), socket, where)))

        def refuse(event: str) -> None:
            if event == "x":
                raise PermissionError("not you")

        async def of_namespace(socket: Socket, event: str, args: list[JSON]) -> None:
            refuse(event)

        async def of_socket(event: str, args: list[JSON]) -> None:
            refuse(event)

        def plain_of_namespace(socket: Socket, event: str, args: list[JSON]) -> None:
            refuse(event)

        def plain_of_socket(event: str, args: list[JSON]) -> None:
            refuse(event)

        io.on("x", lambda socket: ran.append("handler"))
        io.on_any(lambda socket, event: ran.append("any"))
        async with join_fake(io) as (wire, _):
            if level == "namespace":
                io.use(plain_of_namespace if plain else of_namespace)
                io.use(lambda socket, event, args: ran.append("later"))
            else:
                one(io).use(plain_of_socket if plain else of_socket)
                one(io).use(lambda event, args: ran.append("later"))
            with caplog.at_level(logging.CRITICAL, "mizzen.server"):
                assert await wire.ask("x") == [E_HANDLER]
                assert ran == []
                await wire.send('42["x"]')  # without an id there is nothing to answer
                await synced(wire)
            assert errors == [("not you", one(io), "x")] * 2
            assert ran == ["later", "any"]

    async def test_arguments_invalid_tells_what_is_wrong(self, io: Server) -> None:
        @io.use
        async def check(socket: Socket, event: str, args: list[JSON]) -> None:
            if not args:
                raise ArgumentsInvalid("an argument is missing", [{"argument": "it", "index": 0, "message": "missing"}])

        io.on("echo", echo)
        async with join_fake(io) as (wire, _):
            (reply,) = await wire.ask("echo")
            assert reply["error"]["code"] == "E_ARGUMENTS"
            assert reply["error"]["details"] == [{"argument": "it", "index": 0, "message": "missing"}]

    async def test_a_cancelled_wait_refuses(self, io: Server, caplog: pytest.LogCaptureFixture) -> None:
        @io.use
        async def check(socket: Socket, event: str, args: list[JSON]) -> None:
            if event == "x":
                future = asyncio.get_running_loop().create_future()
                future.cancel()
                await future

        async with join_fake(io) as (wire, _):
            with caplog.at_level(logging.CRITICAL, "mizzen.server"):
                assert await wire.ask("x") == [E_HANDLER]
                await synced(wire)

    async def test_the_next_event_goes_on(self, io: Server, caplog: pytest.LogCaptureFixture) -> None:
        numbers: list[int] = []

        @io.use
        async def odd(socket: Socket, event: str, args: list[JSON]) -> None:
            await asyncio.sleep(0)
            if event == "n" and args[0] % 2 == 0:
                raise ValueError("even")

        io.on("n", lambda socket, number: numbers.append(number))
        async with join_fake(io) as (wire, _):
            with caplog.at_level(logging.CRITICAL, "mizzen.server"):
                await wire.send(*[f'42["n",{number}]' for number in range(6)])
                await synced(wire)
                await until(lambda: len(numbers) == 3)
        assert numbers == [1, 3, 5]

    @pytest.mark.parametrize("debug", [True, False])
    async def test_the_client_is_told_why_only_in_debug(self, debug: bool, caplog: pytest.LogCaptureFixture) -> None:
        async with Server(debug=debug) as io:

            @io.use
            async def refuse(socket: Socket, event: str, args: list[JSON]) -> None:
                raise ConnectRefused("secret")

            async with join_fake(io) as (wire, _):
                with caplog.at_level(logging.CRITICAL, "mizzen.server"):
                    (reply,) = await wire.ask("x")
                assert ("secret" in str(reply)) == debug
                assert one(io).connected

    async def test_once_is_not_used_up_by_what_was_refused(self, io: Server, caplog: pytest.LogCaptureFixture) -> None:
        @io.use
        async def check(socket: Socket, event: str, args: list[JSON]) -> None:
            if args == ["bad"]:
                raise ValueError("bad")

        io.once("x", lambda socket, value: value)
        async with join_fake(io) as (wire, _):
            with caplog.at_level(logging.CRITICAL, "mizzen.server"):
                assert await wire.ask("x", "bad") == [E_HANDLER]
            assert await wire.ask("x", "good") == ["good"]


class TestRequests:
    async def test_socket_requests_pass_it_too(self, io: Server, caplog: pytest.LogCaptureFixture) -> None:
        seen: list[tuple[str, JSON]] = []

        @io.use
        async def check(socket: Socket, event: str, args: list[JSON]) -> None:
            seen.append((event, args[0]["url"]))
            if args[0]["url"] == "/secret":
                raise PermissionError("no")
            args[0]["url"] = "/moved"

        async with join_fake(io) as (wire, _):
            with caplog.at_level(logging.CRITICAL, "mizzen.server"):
                (reply,) = await wire.ask("get", {"url": "/x"})
                assert reply["statusCode"] == 404
                assert await wire.ask("post", {"url": "/secret"}) == [E_HANDLER]
        assert seen == [("get", "/x"), ("post", "/secret")]

    async def test_what_it_changes_is_what_the_app_gets(self) -> None:
        paths: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                paths.append(scope["path"])
                await send({"type": "http.response.start", "status": 204, "headers": []})
                await send({"type": "http.response.body", "body": b""})

        async with Server(app) as io, join_fake(io) as (wire, _):

            @io.use
            async def move(socket: Socket, event: str, args: list[JSON]) -> None:
                args[0]["url"] = "/moved"

            (reply,) = await wire.ask("get", {"url": "/x"})
            assert (reply["statusCode"], paths) == (204, ["/moved"])


class Gate:
    """A middleware that holds up what has `"wait"` for its only argument, and refuses what says so."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.waiting = 0

    async def __call__(self, socket: Socket, event: str, args: list[JSON]) -> None:
        if event in ("get", "x"):
            self.waiting += 1
            try:
                await self.gate.wait()
            finally:
                self.waiting -= 1
            if args and "refuse" in str(args[0]):
                raise ValueError("refused")
            if args and "unmake" in str(args[0]):
                args.clear()


class TestCounters:
    def app(self, gate: asyncio.Event) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                await gate.wait()
                await send({"type": "http.response.start", "status": 204, "headers": []})
                await send({"type": "http.response.body", "body": b""})

        return app

    async def test_requests_are_counted_from_their_arrival_on(self, caplog: pytest.LogCaptureFixture) -> None:
        app_gate, gate = asyncio.Event(), Gate()
        async with Server(self.app(app_gate), max_requests=2) as io:
            io.use(gate)
            async with join_fake(io) as (wire, _):
                multiplexer = multiplexer_of(io)
                for id in range(5):  # all within one turn of the loop
                    multiplexer.received(f'2{id}["get",{{"url":"/x"}}]')
                assert multiplexer.requests == 2
                for id in (2, 3, 4):
                    prefix, (reply,) = await wire.receive_json()
                    assert (prefix, reply["statusCode"]) == (f"43{id}", 429)
                gate.gate.set()
                await settle()
                assert multiplexer.requests == 2
                app_gate.set()
                assert [(await wire.receive_json())[1][0]["statusCode"] for _ in range(2)] == [204, 204]
                await until(lambda: multiplexer.requests == multiplexer.running == 0)

    @pytest.mark.parametrize("what", ["let by", "refuse", "unmake", "gone", "wire lost", "handler"])
    async def test_counters_come_back_to_zero(self, what: str, caplog: pytest.LogCaptureFixture) -> None:
        app_gate, gate = asyncio.Event(), Gate()
        app_gate.set()
        async with Server(self.app(app_gate), max_requests=10, max_handlers=3) as io:
            io.use(gate)
            if what == "handler":
                io.on("get", lambda socket, request: 1)
            async with join_fake(io) as (wire, _):
                multiplexer = multiplexer_of(io)
                with caplog.at_level(logging.CRITICAL, "mizzen.server"):
                    for id in range(6):
                        multiplexer.received(f'2{id}["get",{{"url":"/{what}"}}]')
                    await until(lambda: gate.waiting == 1)
                    assert multiplexer.running == 3
                    assert multiplexer.requests == (0 if what == "handler" else 6)
                    if what == "gone":
                        await wire.send("41")
                        await until(lambda: not io.sockets)
                    elif what == "wire lost":
                        wire.drop()
                        await until(lambda: not io.sockets)
                    gate.gate.set()
                    await until(lambda: not len(io.tasks))
                    await settle()
                assert (multiplexer.requests, multiplexer.running) == (0, 0)

    async def test_without_max_requests_nothing_is_counted_twice(self) -> None:
        app_gate, gate = asyncio.Event(), Gate()
        gate.gate.set()
        async with Server(self.app(app_gate)) as io:
            io.use(gate)
            async with join_fake(io) as (wire, _):
                multiplexer = multiplexer_of(io)
                await wire.send(*[f'42{id}["get",{{"url":"/x"}}]' for id in range(4)])
                await until(lambda: multiplexer.requests == 4)
                assert multiplexer.running == 4
                app_gate.set()
                await until(lambda: multiplexer.requests == multiplexer.running == 0)

    async def test_middleware_counts_in_max_handlers(self) -> None:
        gate = Gate()
        async with Server(max_handlers=2) as io:
            io.use(gate)
            ran: list[int] = []
            io.on("x", lambda socket, number: ran.append(number))
            async with join_fake(io) as (wire, _):
                multiplexer = multiplexer_of(io)
                await wire.send(*[f'42["x",{number}]' for number in range(7)])
                await settle()
                assert (multiplexer.running, len(multiplexer.inbox), gate.waiting) == (2, 5, 1)
                gate.gate.set()
                await until(lambda: len(ran) == 7)
                assert ran == [*range(7)]
                await until(lambda: not multiplexer.running and not multiplexer.inbox)

    async def test_thousands_of_events_pass_it_in_order(self, io: Server) -> None:
        seen: list[int] = []
        io.use(_nothing)

        @io.on("n")
        async def n(socket: Socket, number: int) -> None:
            seen.append(number)

        async with join_fake(io) as (wire, _):
            await wire.send(*[f'42["n",{number}]' for number in range(3000)])
            await synced(wire)
            assert seen == [*range(3000)]
            await until(lambda: multiplexer_of(io).running == 0)


async def _nothing(socket: Socket, event: str, args: list[JSON]) -> None: ...


class TestGone:
    @pytest.mark.parametrize("end", ["client", "server", "wire"])
    async def test_a_socket_that_goes_meanwhile_has_no_more_done_for_it(self, io: Server, end: str) -> None:
        gate, ran = Gate(), list[str]()
        io.use(gate)
        io.use(lambda socket, event, args: ran.append("later"))
        io.on("x", lambda socket: ran.append("handler"))
        io.on_any(lambda socket, event: ran.append("any"))
        async with join_fake(io) as (wire, _):
            multiplexer = multiplexer_of(io)
            await wire.send('421["x"]', '422["x"]')
            await until(lambda: gate.waiting)
            if end == "client":
                await wire.send("41")
            elif end == "server":
                one(io).disconnect()
            else:
                wire.drop()
            await until(lambda: not io.sockets)
            gate.gate.set()
            await until(lambda: not len(io.tasks))
            assert (ran, multiplexer.running) == ([], 0)
            assert [message for message in wire.received() if message != "41"] == []

    async def test_one_that_disconnects_the_socket_ends_it(self, io: Server) -> None:
        ran: list[str] = []

        @io.use
        async def kick(socket: Socket, event: str, args: list[JSON]) -> None:
            socket.disconnect()

        io.use(lambda socket, event, args: ran.append("later"))
        io.on("x", lambda socket: ran.append("handler"))
        async with join_fake(io) as (wire, _):
            await wire.send('421["x"]')
            assert await wire.receive() == "41"
            await until(lambda: not len(io.tasks))
        assert ran == []

    async def test_a_server_that_closes_lets_it_finish(self, io: Server) -> None:
        gate = Gate()
        io.use(gate)
        io.on("x", lambda socket: "done")
        async with join_fake(io) as (wire, _):
            await wire.send('421["x"]')
            await until(lambda: gate.waiting)
            closing = asyncio.create_task(io.close())
            await settle(3)
            gate.gate.set()
            assert await wire.receive() == '431["done"]'
            await closing


class TestConnecting:
    async def test_socket_use_in_a_connect_middleware_is_there_for_the_first_event(self, io: Server) -> None:
        seen: list[str] = []

        @io.use
        async def guard(socket: Socket) -> None:
            socket.use(lambda event, args: seen.append(event))

        async with join_fake(io) as (wire, _):
            await synced(wire)
        assert seen == ["sync"]

    async def test_what_it_emits_follows_connect(self, io: Server) -> None:
        @io.use
        async def greet(socket: Socket) -> None:
            socket.emit("early")
            socket.compress(False).emit("early, too")

        async with open_fake(io) as wire:
            await wire.send("40")
            assert (await wire.receive_json())[0] == "40"
            assert [await wire.event(), await wire.event()] == [["early"], ["early, too"]]
