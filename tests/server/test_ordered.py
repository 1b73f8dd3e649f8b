"""`ordered=True`: the events of one socket are handled one after another."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from mizzen import Namespace, Reason, Server, Socket
from tests.server.fake_wire import FakeWire, join_fake, multiplexer_of, settle
from tests.support import WITHIN, until


@pytest.fixture
async def io() -> AsyncIterator[Server]:
    async with Server() as io:
        io.on("sync", sync)
        yield io


async def sync(socket: Socket) -> int:
    return 1


async def synced(wire: FakeWire) -> None:
    """Have the server handle everything sent so far; nothing else may have come."""
    assert await wire.ask("sync", id=999) == [1]


def one(io: Server) -> Socket:
    """Give the only socket of the main namespace."""
    (socket,) = io.sockets.values()
    return socket


class Steps:
    """A handler that waits to be let on, once for each event."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._steps = asyncio.Semaphore(0)

    async def __call__(self, socket: Socket, number: int) -> int:
        self.seen.append(f"begin {number}")
        await self._steps.acquire()
        self.seen.append(f"end {number}")
        if number < 0:
            raise ValueError("negative")
        return number

    def let_on(self, events: int = 1) -> None:
        for _ in range(events):
            self._steps.release()


def in_order(*numbers: int) -> list[str]:
    return [f"{what} {number}" for number in numbers for what in ("begin", "end")]


class TestOneAfterAnother:
    async def test_an_event_waits_for_the_one_before_it(self, io: Server) -> None:
        steps = Steps()
        io.on("n", steps, ordered=True)
        async with join_fake(io) as (wire, _):
            await wire.send(*[f'42{number}["n",{number}]' for number in range(4)])
            for number in range(4):
                await synced(wire)
                assert steps.seen == [*in_order(*range(number)), f"begin {number}"]
                steps.let_on()
                assert await wire.receive() == f"43{number}[{number}]"

    async def test_without_it_they_do_not_wait(self, io: Server) -> None:
        steps = Steps()
        io.on("n", steps)
        async with join_fake(io) as (wire, _):
            await wire.send('42["n",1]', '42["n",2]')
            await synced(wire)
            assert steps.seen == ["begin 1", "begin 2"]
            steps.let_on(2)

    async def test_different_ordered_events_wait_for_each_other(self, io: Server) -> None:
        steps = Steps()
        io.on("a", steps, ordered=True)
        io.on("b", steps, ordered=True)
        async with join_fake(io) as (wire, _):
            await wire.send('42["a",1]', '42["b",2]', '42["a",3]')
            await synced(wire)
            steps.let_on(3)
            await until(lambda: len(steps.seen) == 6)
        assert steps.seen == in_order(1, 2, 3)

    async def test_unordered_ones_are_not_held_up(self, io: Server) -> None:
        steps = Steps()
        io.on("n", steps, ordered=True)
        io.on("free", lambda socket: "free")
        async with join_fake(io) as (wire, _):
            await wire.send('42["n",1]', '42["n",2]')
            assert await wire.ask("free") == ["free"]
            assert steps.seen == ["begin 1"]
            steps.let_on(2)

    async def test_two_sockets_do_not_wait_for_each_other(self, io: Server) -> None:
        steps = Steps()
        io.on("n", steps, ordered=True)
        async with join_fake(io) as (first, _), join_fake(io) as (second, _):
            await first.send('42["n",1]')
            await second.send('42["n",2]')
            await until(lambda: len(steps.seen) == 2)
            steps.let_on(2)

    async def test_two_namespaces_of_one_connection_do_not_either(self, io: Server) -> None:
        steps = Steps()
        io.on("n", steps, ordered=True)
        io.of("/b").on("n", steps, ordered=True)
        async with join_fake(io) as (wire, _):
            await wire.send("40/b,")
            await wire.receive()
            await wire.send('42["n",1]', '42/b,["n",2]')
            await until(lambda: steps.seen == ["begin 1", "begin 2"])
            steps.let_on(2)

    async def test_several_ordered_handlers_of_one_event_run_in_order_of_registration(self, io: Server) -> None:
        seen: list[str] = []

        def handler(name: str) -> Callable[..., Any]:
            async def run(socket: Socket, number: int) -> None:
                for _ in range(3):
                    await asyncio.sleep(0)
                seen.append(f"{name}{number}")

            return run

        io.on("n", handler("a"), ordered=True)
        io.on("n", handler("b"), ordered=True)
        async with join_fake(io) as (wire, _):
            await wire.send('42["n",1]')
            assert await wire.ask("n", 2) == []
        assert seen == ["a1", "b1", "a2", "b2"]

    async def test_at_the_level_of_a_socket(self, io: Server) -> None:
        steps = Steps()
        async with join_fake(io) as (wire, _):
            socket = one(io)

            @socket.on("n", ordered=True)
            async def n(number: int) -> int:
                return await steps(socket, number)

            io.on("m", steps, ordered=True)
            await wire.send('42["n",1]', '42["m",2]', '42["n",3]')
            await synced(wire)
            assert steps.seen == ["begin 1"]
            steps.let_on(3)
            await until(lambda: len(steps.seen) == 6)
        assert steps.seen == in_order(1, 2, 3)

    async def test_behind_middleware(self, io: Server) -> None:
        steps = Steps()

        @io.use
        async def turns(socket: Socket, event: str, args: list[Any]) -> None:
            if args and args[0] == 1:
                for _ in range(10):
                    await asyncio.sleep(0)

        io.on("n", steps, ordered=True)
        async with join_fake(io) as (wire, _):
            await wire.send(*[f'42["n",{number}]' for number in range(1, 4)])
            steps.let_on(3)
            await until(lambda: len(steps.seen) == 6)
        assert steps.seen == in_order(1, 2, 3)

    async def test_hundreds_in_order(self, io: Server) -> None:
        seen: list[int] = []

        @io.on("n", ordered=True)
        async def n(socket: Socket, number: int) -> None:
            if number % 7 == 0:
                await asyncio.sleep(0)
            seen.append(number)

        async with join_fake(io) as (wire, _):
            await wire.send(*[f'42["n",{number}]' for number in range(500)])
            await until(lambda: len(seen) == 500)
        assert seen == [*range(500)]


class TestThreads:
    async def test_plain_functions_and_async_ones_wait_for_each_other(self, io: Server) -> None:
        seen: list[str] = []
        gate = threading.Event()
        steps = Steps()

        @io.on("plain", ordered=True)
        def plain(socket: Socket, number: int) -> None:
            seen.append(f"begin {number}")
            gate.wait(WITHIN)
            seen.append(f"end {number}")

        steps.seen = seen
        io.on("n", steps, ordered=True)
        async with join_fake(io) as (wire, _):
            await wire.send('42["plain",1]', '42["n",2]', '42["plain",3]')
            await until(lambda: seen == ["begin 1"])
            for _ in range(5):
                await synced(wire)
            assert seen == ["begin 1"]
            gate.set()
            await until(lambda: seen == [*in_order(1), "begin 2"])
            steps.let_on()
            await until(lambda: len(seen) == 6)
        assert seen == in_order(1, 2, 3)


class TestNamespace:
    @pytest.mark.parametrize("name", ["/", "/chat"])
    @pytest.mark.parametrize("how", ["of", "class", "later"])
    async def test_ordered_on_a_namespace_is_for_all_its_events(self, name: str, how: str) -> None:
        io, steps = Server(), Steps()
        if how == "of":
            namespace = io.of(name, ordered=True)
        elif how == "class":
            namespace = io.include(Namespace(name, ordered=True))
        else:
            io.of(name)
            namespace = io.of(name, ordered=True)
        listens = io if name == "/" else namespace
        listens.on("a", steps)
        listens.on("b", steps)
        prefix = "42" if name == "/" else f"42{name},"
        async with io, join_fake(io, name) as (wire, sid):
            socket = namespace.sockets[sid]

            @socket.on("own")
            async def own(number: int) -> None:
                await steps(socket, number)

            await wire.send(*[f'{prefix}["{event}",{number}]' for number, event in enumerate(("a", "b", "own", "a"))])
            await settle()
            assert steps.seen == ["begin 0"]
            steps.let_on(4)
            await until(lambda: len(steps.seen) == 8)
        assert steps.seen == in_order(0, 1, 2, 3)

    async def test_other_namespaces_are_as_ever(self, io: Server) -> None:
        io.of("/chat", ordered=True)
        steps = Steps()
        io.on("n", steps)
        async with join_fake(io) as (wire, _):
            await wire.send('42["n",1]', '42["n",2]')
            await until(lambda: len(steps.seen) == 2)
            steps.let_on(2)

    async def test_once_in_an_ordered_namespace_waits_too(self) -> None:
        io, steps = Server(), Steps()
        io.of("/", ordered=True)
        io.once("a", steps)
        io.on("b", steps)
        async with io, join_fake(io) as (wire, _):
            await wire.send('42["b",1]', '42["a",2]', '42["a",3]')
            await settle()
            assert steps.seen == ["begin 1"]
            steps.let_on(2)
            await until(lambda: len(steps.seen) == 4)
        assert steps.seen == in_order(1, 2)


class TestWhileTheyWait:
    async def test_acks_are_handled_at_once(self, io: Server) -> None:
        @io.on("n", ordered=True)
        async def n(socket: Socket, number: int) -> Any:
            return [number, await socket.call("ask", timeout=WITHIN)]

        async with join_fake(io) as (wire, _):
            await wire.send('421["n",1]', '422["n",2]')
            assert await wire.receive() == '420["ask"]'
            await wire.send('430["yes"]')
            assert await wire.receive() == '431[[1,"yes"]]'
            assert await wire.receive() == '421["ask"]'
            await wire.send('431["no"]')
            assert await wire.receive() == '432[[2,"no"]]'

    async def test_one_that_raises_lets_the_next_go(self, io: Server, caplog: pytest.LogCaptureFixture) -> None:
        steps = Steps()
        io.on("n", steps, ordered=True)
        async with join_fake(io) as (wire, _):
            steps.let_on(3)
            with caplog.at_level(logging.CRITICAL, "mizzen.server"):
                await wire.send('421["n",-1]', '422["n","no number"]', '423["n",2]')
                assert (await wire.receive_json())[1][0]["error"]["code"] == "E_HANDLER"
                assert (await wire.receive_json())[1][0]["error"]["code"] == "E_ARGUMENTS"
                assert await wire.receive() == "433[2]"

    @pytest.mark.parametrize("end", ["client", "server", "wire"])
    async def test_a_socket_that_goes_has_none_begin_any_more(self, io: Server, end: str) -> None:
        steps = Steps()
        io.on("n", steps, ordered=True)
        async with join_fake(io) as (wire, _):
            multiplexer = multiplexer_of(io)
            await wire.send('421["n",1]', '422["n",2]', '423["n",3]')
            await until(lambda: steps.seen)
            if end == "client":
                await wire.send("41")
            elif end == "server":
                one(io).disconnect()
            else:
                wire.drop()
            await until(lambda: not io.sockets)
            steps.let_on(3)
            await until(lambda: not len(io.tasks))
            assert steps.seen == in_order(1)
            assert multiplexer.running == 0

    @pytest.mark.parametrize("namespace", [True, False])
    async def test_an_ordered_disconnect_handler_waits_for_what_still_runs(self, namespace: bool) -> None:
        io, steps = Server(), Steps()
        io.of("/", ordered=namespace)
        io.on("n", steps, ordered=True)

        @io.on("disconnecting", ordered=True)
        async def disconnecting(socket: Socket) -> None:
            steps.seen.append(f"disconnecting {sorted(socket.rooms - {socket.id})}")

        @io.on("disconnect", ordered=True)
        async def disconnect(socket: Socket, reason: Reason) -> None:
            steps.seen.append(f"disconnect {reason}")

        async with io:
            async with join_fake(io) as (wire, _):
                one(io).join("r")
                await wire.send('42["n",1]', '42["n",2]')
                await until(lambda: steps.seen)
            await settle()
            assert steps.seen == ["begin 1"]
            steps.let_on()
            await until(lambda: len(steps.seen) == 4)
            assert steps.seen == [*in_order(1), "disconnecting ['r']", "disconnect transport close"]

    async def test_those_who_wait_count_in_max_handlers(self) -> None:
        steps = Steps()
        async with Server(max_handlers=3) as io:
            io.on("n", steps, ordered=True)
            async with join_fake(io) as (wire, _):
                await wire.send(*[f'42["n",{number}]' for number in range(8)])
                await settle()
                multiplexer = multiplexer_of(io)
                assert (multiplexer.running, len(multiplexer.inbox), steps.seen) == (3, 5, ["begin 0"])
                steps.let_on(8)
                await until(lambda: len(steps.seen) == 16)
                assert steps.seen == in_order(*range(8))
                await until(lambda: multiplexer.running == 0)

    async def test_a_server_that_closes_lets_them_finish_in_order(self, io: Server) -> None:
        steps = Steps()
        io.on("n", steps, ordered=True)
        async with join_fake(io) as (wire, _):
            await wire.send('421["n",1]', '422["n",2]')
            await until(lambda: steps.seen)
            closing = asyncio.create_task(io.close())
            await settle(3)
            steps.let_on(2)
            assert [await wire.receive(), await wire.receive()] == ["431[1]", "432[2]"]
            await closing
