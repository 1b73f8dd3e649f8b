"""Until middleware has let a socket pass nobody reaches it; until its CONNECT packet nobody waits for its acks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mizzen import (
    ConnectionClosed,
    ConnectionStateRecovery,
    ConnectRefused,
    LocalProtocolError,
    Reason,
    RoomEvent,
    Server,
    Socket,
    from_thread,
)
from tests.server.fake_wire import FakeWire, connection_of, join_fake, open_fake, settle
from tests.support import WITHIN, until


@pytest.fixture
async def io() -> AsyncIterator[Server]:
    async with Server() as io:
        yield io


class Gate:
    """A middleware, or a `connect` handler, in which a socket waits that says so in its `auth`."""

    def __init__(self) -> None:
        self.waiting: list[Socket] = []
        self._verdict: asyncio.Future[ConnectRefused | None] = asyncio.get_running_loop().create_future()

    async def __call__(self, socket: Socket) -> None:
        if isinstance(socket.handshake.auth, dict) and "wait" in socket.handshake.auth:
            self.waiting.append(socket)
            refusal = await self._verdict
            if refusal is not None:
                raise refusal

    def open(self) -> None:
        self._verdict.set_result(None)

    def refuse(self) -> None:
        self._verdict.set_result(ConnectRefused("no"))


@asynccontextmanager
async def waiting(io: Server, gate: Gate, **auth: Any) -> AsyncIterator[tuple[FakeWire, Socket]]:
    """A client whose socket waits at the gate."""
    async with open_fake(io) as wire:
        await wire.send(f"40{json.dumps({'wait': 1} | auth)}")
        await until(lambda: len(gate.waiting) == 1)
        yield wire, gate.waiting[0]


async def admitted(wire: FakeWire) -> None:
    """Take the CONNECT packet."""
    assert (await wire.receive_json())[0] == "40"


class TestInMiddleware:
    @pytest.fixture
    async def gate(self, io: Server) -> Gate:
        gate = Gate()
        io.use(gate)
        return gate

    async def test_nobody_lists_it(self, io: Server, gate: Gate) -> None:
        async with join_fake(io) as (_, sid), waiting(io, gate) as (wire, socket):
            assert [each.id for each in await io.fetch_sockets()] == [sid]
            assert await io.to(socket.id).fetch_sockets() == []
            gate.open()
            await admitted(wire)
            assert {each.id for each in await io.fetch_sockets()} == {sid, socket.id}

    async def test_nobody_puts_it_into_rooms_or_disconnects_it(self, io: Server, gate: Gate) -> None:
        async with waiting(io, gate) as (wire, socket):
            io.sockets_join("vip")
            io.to(socket.id).sockets_join("vip")
            io.disconnect_sockets()
            assert io.of("/").adapter.rooms == {}
            gate.open()
            await admitted(wire)
            assert socket.rooms == {socket.id}

    async def test_what_is_broadcast_is_not_for_it_and_not_kept(self, io: Server, gate: Gate) -> None:
        async with join_fake(io) as (other, _), waiting(io, gate) as (wire, socket):
            socket.join("r")
            io.emit("all", "x" * 1000)
            io.to("r").emit("room")
            io.to(socket.id).emit("id")
            assert await other.event() == ["all", "x" * 1000]
            assert socket.conn.held == 0
            socket.emit("its own")
            assert socket.conn.held > 0
            gate.open()
            await admitted(wire)
            io.to("r").emit("end")
            assert [await wire.event(), await wire.event()] == [["its own"], ["end"]]

    async def test_nobody_waits_for_its_ack(self, io: Server, gate: Gate) -> None:
        async with waiting(io, gate) as (wire, _):
            assert await asyncio.wait_for(io.call("x"), WITHIN) == []
            gate.open()
            await admitted(wire)
            await settle()
            assert wire.received() == []

    async def test_rooms_it_joins_are_its_rooms_when_it_has_passed(self, io: Server, gate: Gate) -> None:
        told: list[tuple[RoomEvent, str]] = []
        io.on_room(lambda what, room, id: told.append((what, room)))
        seen: list[frozenset[str]] = []

        @io.on("connect")
        async def connect(socket: Socket) -> None:
            seen.append(socket.rooms)

        async with waiting(io, gate) as (wire, socket):
            socket.join("a", "b", socket.id)
            socket.leave("b", "never joined", socket.id)
            assert socket.rooms == {"a", socket.id}
            assert (io.of("/").adapter.rooms, told) == ({}, [])
            gate.open()
            await admitted(wire)
            assert seen == [{"a", socket.id}]
            assert io.of("/").adapter.rooms == {"a": {socket}}
            assert told == [(RoomEvent.CREATE, "a"), (RoomEvent.JOIN, "a")]
            socket.leave("a")
            assert io.of("/").adapter.rooms == {}

    @pytest.mark.parametrize("how", ["refused", "gone", "disconnected"])
    async def test_one_that_does_not_pass_was_never_there(self, io: Server, gate: Gate, how: str) -> None:
        told: list[str] = []
        io.on_room(lambda what, room, id: told.append(room))
        async with waiting(io, gate) as (wire, socket):
            connection = connection_of(io)
            socket.join("a")
            socket.emit("x")
            if how == "gone":
                wire.drop()
                await until(lambda: socket.reason is not None)
            elif how == "disconnected":
                socket.disconnect()
            else:
                gate.refuse()
            if how != "gone":
                assert str(await wire.receive()).startswith("44{")
            socket.join("b")
            socket.leave("a")
            assert (io.of("/").adapter.rooms, told, io.of("/").population, connection.held) == ({}, [], 0, 0)
            assert (socket.rooms, await io.fetch_sockets()) == (frozenset(), [])
            if how != "refused":
                gate.open()
                await until(lambda: not len(io.tasks))
                assert (io.of("/").adapter.rooms, await io.fetch_sockets(), wire.received()) == ({}, [], [])


class TestInConnectHandlers:
    @pytest.fixture
    async def gate(self, io: Server) -> Gate:
        gate = Gate()
        io.on("connect", gate)
        return gate

    @pytest.mark.parametrize("middleware", [True, False])
    async def test_it_is_listed_and_what_is_broadcast_follows_connect(self, io: Server, gate: Gate, middleware: bool) -> None:
        if middleware:
            io.use(lambda socket: None)
        async with waiting(io, gate) as (wire, socket):
            assert [each.id for each in await io.fetch_sockets()] == [socket.id]
            io.sockets_join("vip")
            io.to("vip").emit("x")
            gate.open()
            await admitted(wire)
            assert await wire.event() == ["x"]
            assert socket.rooms == {"vip", socket.id}

    async def test_many_are_asked_without_it(self, io: Server, gate: Gate) -> None:
        async with join_fake(io) as (other, _), waiting(io, gate) as (wire, _):
            asking = asyncio.create_task(io.call("who", timeout=WITHIN))
            assert await other.receive() == '420["who"]'
            await other.send('430["me"]')
            assert await asking == ["me"]
            gate.open()
            await admitted(wire)
            await settle()
            assert wire.received() == [], "it was not asked"

    async def test_one_that_asks_all_does_not_wait_for_itself(self, io: Server) -> None:
        answers: list[Any] = []

        @io.on("connect")
        async def connect(socket: Socket) -> None:
            answers.append(await io.call("who"))

        async with join_fake(io):
            assert answers == [[]]

    async def test_a_remote_socket_cannot_answer_yet(self, io: Server, gate: Gate) -> None:
        async with waiting(io, gate):
            (remote,) = await io.fetch_sockets()
            with pytest.raises(ConnectionClosed, match="not connected yet"):
                await asyncio.wait_for(remote.call("who"), WITHIN)
            gate.open()


class TestCall:
    """Its client, which does not know yet that it is connected, answers nothing: the handlers cannot wait for that."""

    @pytest.mark.parametrize("place", ["middleware", "connect"])
    @pytest.mark.parametrize(
        "call",
        [
            lambda socket: socket.call("who", timeout=WITHIN),
            lambda socket: socket.timeout(WITHIN).call("who"),
            lambda socket: socket.volatile.timeout(WITHIN).call("who"),
        ],
        ids=["socket", "operator", "volatile"],
    )
    async def test_before_it_is_connected_it_raises_and_nothing_is_sent(
        self, io: Server, place: str, call: Callable[[Socket], Awaitable[Any]]
    ) -> None:
        raised: list[str] = []

        async def ask(socket: Socket) -> None:
            with pytest.raises(LocalProtocolError, match="call it in a handler of its events") as error:
                await call(socket)
            raised.append(str(error.value))

        if place == "middleware":
            io.use(ask)
        else:
            io.on("connect", ask)
        async with join_fake(io) as (wire, sid):
            assert [sid in each for each in raised] == [True]
            await settle()
            assert wire.received() == []

    async def test_one_that_went_meanwhile_is_gone(self, io: Server) -> None:
        raised: list[Reason] = []

        @io.on("connect")
        async def connect(socket: Socket) -> None:
            socket.disconnect()
            with pytest.raises(ConnectionClosed) as error:
                await socket.call("who", timeout=WITHIN)
            raised.append(error.value.reason)

        async with open_fake(io) as wire:
            await wire.send("40")
            assert str(await wire.receive()).startswith("44{")
            assert raised == [Reason.SERVER_NAMESPACE_DISCONNECT]

    async def test_in_a_task_that_the_handler_starts_last(self, io: Server) -> None:
        tasks: list[asyncio.Task[Any]] = []

        @io.on("connect")
        async def connect(socket: Socket) -> None:
            tasks.append(asyncio.create_task(socket.call("who", timeout=WITHIN)))

        async with join_fake(io) as (wire, _):
            assert await wire.receive() == '420["who"]'
            await wire.send('430["me"]')
            assert await tasks[0] == "me"


class TestDrain:
    """What is emitted before the CONNECT packet waits for it, and that waits for the handlers: they cannot wait for what they emitted."""

    @pytest.mark.parametrize("place", ["middleware", "connect"])
    @pytest.mark.parametrize("plain", [True, False])
    async def test_before_it_is_connected_it_raises(self, io: Server, place: str, plain: bool) -> None:
        raised: list[str] = []

        async def drain(socket: Socket) -> None:
            socket.emit("early")
            with pytest.raises(LocalProtocolError, match="emit and drain in a handler of its events") as error:
                await asyncio.wait_for(socket.drain(), WITHIN)
            raised.append(str(error.value))

        def drain_in_a_thread(socket: Socket) -> None:
            from_thread(drain, socket)

        handler = drain_in_a_thread if plain else drain
        if place == "middleware":
            io.use(handler)
        else:
            io.on("connect", handler)
        async with join_fake(io) as (wire, sid):
            assert [sid in each for each in raised] == [True]
            assert await wire.event() == ["early"]
            await io.sockets[sid].drain()

    async def test_in_a_task_that_the_handler_starts_last(self) -> None:
        tasks: list[asyncio.Task[None]] = []

        async def export(socket: Socket) -> None:
            for number in range(20):
                socket.emit("row", number, "x" * 1000)
                await socket.drain()

        async with Server(max_buffer=2000) as io:

            @io.on("connect")
            async def connect(socket: Socket) -> None:
                tasks.append(asyncio.create_task(export(socket)))

            async with join_fake(io) as (wire, _):
                assert [(await wire.event())[1] for _ in range(20)] == [*range(20)]
                await tasks[0]

    async def test_many_are_drained_without_it(self, io: Server) -> None:
        gate = Gate()
        io.on("connect", gate)
        async with join_fake(io) as (other, _), waiting(io, gate) as (wire, socket):
            io.emit("x")
            io.of("/").to(socket.id).emit("y")
            await asyncio.wait_for(io.drain(), WITHIN)
            await asyncio.wait_for(io.to(socket.id).drain(), WITHIN)
            assert (other.received(), wire.received()) == (['42["x"]'], [])
            gate.open()
            await admitted(wire)
            assert [await wire.event(), await wire.event()] == [["x"], ["y"]]


class TestRecovery:
    """Where packets are kept, none may be lost, come twice, or come to one who was not there yet."""

    @pytest.fixture
    async def io(self) -> AsyncIterator[Server]:
        async with Server(connection_state_recovery=ConnectionStateRecovery(skip_middlewares=False)) as io:
            yield io

    @pytest.fixture
    async def gate(self, io: Server) -> Gate:
        gate = Gate()
        io.use(gate)
        return gate

    @staticmethod
    async def session(wire: FakeWire) -> dict[str, str]:
        prefix, told = await wire.receive_json()
        assert prefix == "40"
        return told

    async def test_what_middleware_emits_follows_connect_with_an_offset(self, io: Server) -> None:
        @io.use
        async def greet(socket: Socket) -> None:
            data = {"number": 1}
            socket.emit("1", data)
            data["number"] = 2  # what goes is what was given
            socket.volatile.emit("dropped, as any before CONNECT")
            socket.compress(False).emit("2")

        @io.use
        def in_a_thread(socket: Socket) -> None:
            socket.emit("3")
            with pytest.raises(TypeError):
                socket.emit("4", object())

        async with open_fake(io) as wire:
            await wire.send("40")
            await self.session(wire)
            events = [await wire.event() for _ in range(3)]
            assert [event[:-1] for event in events] == [["1", {"number": 1}], ["2"], ["3"]]
            assert len({event[-1] for event in events}) == 3
            assert connection_of(io).held == 0

    async def test_what_was_emitted_in_middleware_is_recovered_and_what_was_broadcast_meanwhile_not(self, io: Server, gate: Gate) -> None:
        async with waiting(io, gate) as (wire, socket):
            io.emit("before it was there")
            socket.join("r")
            socket.emit("its own", 1)
            io.to("r").emit("before it was there")
            socket.emit("its own", 2)
            gate.open()
            told = await self.session(wire)
            assert [(await wire.event())[:-1] for _ in range(2)] == [["its own", 1], ["its own", 2]]
            wire.drop()  # say that these two got lost on the way
            await until(lambda: not io.sockets)
        async with open_fake(io) as wire:
            await wire.send(f"40{json.dumps({'pid': told['pid']})}")
            assert [(await wire.event())[:-1] for _ in range(2)] == [["its own", 1], ["its own", 2]]
            assert (await self.session(wire))["sid"] == told["sid"]

    @pytest.mark.parametrize("refused", [True, False])
    async def test_one_that_is_back_misses_nothing_while_middleware_runs(self, io: Server, gate: Gate, refused: bool) -> None:
        async with join_fake(io) as (wire, sid):
            io.sockets[sid].join("r")
            pid = next(iter(io.of("/").by_pid))
            wire.drop()
            await until(lambda: not io.sockets)
        io.to("r").emit("missed")
        async with waiting(io, gate, pid=pid) as (wire, socket):
            assert socket.id == sid
            io.to("r").emit("held")
            socket.emit("held, too")
            assert wire.received() == []
            if refused:
                gate.refuse()
                assert await wire.receive() == '44{"message":"no"}'
                assert (io.of("/").adapter.rooms, io.of("/").population, connection_of(io).held) == ({}, 0, 0)
            else:
                gate.open()
                assert (await wire.event())[:-1] == ["missed"]
                assert (await self.session(wire))["sid"] == sid
                io.to("r").emit("end")
                assert [(await wire.event())[:-1] for _ in range(3)] == [["held"], ["held, too"], ["end"]]
