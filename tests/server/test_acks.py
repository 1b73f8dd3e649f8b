"""Acks both ways: of one socket, of a broadcast, and when they never come."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from mizzen import (
    JSON,
    AckTimeout,
    ConnectionClosed,
    LocalProtocolError,
    MizzenError,
    Reason,
    RemoteError,
    Server,
    Socket,
    from_thread,
)
from mizzen.testing import Clock, TestClient, linked_pair
from tests.server.fake_wire import FakeWire, join_fake, join_nsp, multiplexer_of, open_fake, settle
from tests.support import WITHIN, open_polling, serve, until


@pytest.fixture
async def io() -> AsyncIterator[Server]:
    async with Server() as io:
        yield io


async def asked(wire: FakeWire) -> tuple[int, list[Any]]:
    """Take an event that wants an ack; give the id and the event."""
    prefix, data = await wire.receive_json()
    assert prefix.startswith("42")
    return int(prefix[2:]), data


async def call(io: Server, sid: str, *args: JSON, timeout: float | None = None) -> asyncio.Task[JSON]:
    task: asyncio.Task[JSON] = asyncio.create_task(io.sockets[sid].call("ask", *args, timeout=timeout))
    await asyncio.sleep(0)
    return task


class TestOneSocket:
    @pytest.mark.parametrize(
        ("ack", "result"), [("[]", None), ("[1]", 1), ("[null]", None), ("[[1,2]]", [1, 2]), ("[1,2]", (1, 2)), ('["a",{}]', ("a", {}))]
    )
    async def test_call_gives_none_one_or_a_tuple(self, io: Server, ack: str, result: JSON) -> None:
        async with join_fake(io) as (wire, sid):
            task = await call(io, sid, 5)
            id, event = await asked(wire)
            assert event == ["ask", 5]
            await wire.send(f"43{id}{ack}")
            assert await task == result

    async def test_a_binary_event_is_acked_by_a_binary_ack(self, io: Server) -> None:
        async with join_fake(io) as (wire, sid):
            task = await call(io, sid, b"\x01", [b"\x02"])
            header = await wire.receive()
            assert header == '452-0["ask",{"_placeholder":true,"num":0},[{"_placeholder":true,"num":1}]]'
            assert [await wire.receive(), await wire.receive()] == [b"\x01", b"\x02"]
            await wire.send('461-0[{"_placeholder":true,"num":0}]', b"\x03")
            assert await task == b"\x03"

    async def test_a_binary_ack_of_engine_io_3(self, io: Server) -> None:
        async with open_fake(io, eio=3) as wire:
            assert await wire.receive() == "40"
            (sid,) = io.sockets
            task = await call(io, sid, b"\x01")
            assert [await wire.receive(), await wire.receive()] == ['451-0["ask",{"_placeholder":true,"num":0}]', b"\x04\x01"]
            await wire.send('461-0[{"_placeholder":true,"num":0}]', b"\x04\x03")
            assert await task == b"\x03"

    async def test_ids_are_not_shared_by_calls(self, io: Server) -> None:
        async with join_fake(io) as (wire, sid):
            tasks = [await call(io, sid, number) for number in range(3)]
            ids = [(await asked(wire))[0] for _ in tasks]
            assert len({*ids}) == 3
            for number in (2, 0, 1):
                await wire.send(f"43{ids[number]}[{number}]")
            assert await asyncio.gather(*tasks) == [0, 1, 2]

    async def test_ids_count_from_0_in_each_namespace(self, io: Server) -> None:
        io.of("/chat")
        async with join_fake(io) as (wire, sid):
            chat = io.of("/chat").sockets[await join_nsp(wire, "/chat")]
            tasks = [await call(io, sid), asyncio.create_task(chat.call("ask"))]
            assert [await wire.receive(), await wire.receive()] == ['420["ask"]', '42/chat,0["ask"]']
            await wire.send("43/chat,0[2]", "430[1]")
            assert await asyncio.gather(*tasks) == [1, 2]

    async def test_no_ack_in_time_is_ack_timeout(self, io: Server) -> None:
        async with join_fake(io) as (wire, sid):
            with pytest.raises(AckTimeout, match="ask") as error:
                await io.sockets[sid].call("ask", timeout=0.01)
            assert isinstance(error.value, TimeoutError)
            assert isinstance(error.value, MizzenError)
            assert error.value.replies == []
            id, _ = await asked(wire)
            await wire.send(f"43{id}[1]")  # too late: dropped
            assert await wire_lives(io, wire)
            assert not io.sockets[sid]._acks

    async def test_the_operator_timeout_counts(self, io: Server) -> None:
        with Clock() as clock:
            async with linked_pair(io) as (_, socket):
                calls = [asyncio.create_task(call) for call in (socket.timeout(10).call("ask"), io.timeout(100).call("ask", timeout=10))]
                await clock.jump(9)
                assert not any(call.done() for call in calls)
                await clock.jump(2)
                for call in calls:
                    with pytest.raises(AckTimeout):
                        await call

    @pytest.mark.parametrize(
        ("end", "reason"),
        [("41", Reason.CLIENT_NAMESPACE_DISCONNECT), ("1", Reason.TRANSPORT_CLOSE), ("4abc", Reason.FORCED_CLOSE)],
    )
    async def test_a_socket_that_goes_ends_the_waiting(self, io: Server, end: str, reason: Reason) -> None:
        async with join_fake(io) as (wire, sid):
            task = await call(io, sid)
            await asked(wire)
            await wire.send(end)
            with pytest.raises(ConnectionClosed) as error:
                await task
            assert error.value.reason == reason
            assert str(reason) in str(error.value)

    async def test_disconnecting_ends_the_waiting(self, io: Server) -> None:
        async with join_fake(io) as (_, sid):
            task = await call(io, sid)
            io.sockets[sid].disconnect()
            with pytest.raises(ConnectionClosed) as error:
                await task
            assert error.value.reason is Reason.SERVER_NAMESPACE_DISCONNECT

    async def test_calling_a_socket_that_is_gone(self, io: Server) -> None:
        async with join_fake(io) as (wire, sid):
            socket = io.sockets[sid]
            await wire.send("41")
            await until(lambda: not socket.connected)
            with pytest.raises(ConnectionClosed) as error:
                await socket.call("ask")
            assert error.value.reason is Reason.CLIENT_NAMESPACE_DISCONNECT
            assert wire.received() == []

    @pytest.mark.parametrize("code", ["E_ARGUMENTS", "E_HANDLER"])
    async def test_an_error_ack_is_remote_error(self, io: Server, code: str) -> None:
        async with join_fake(io) as (wire, sid):
            task = await call(io, sid)
            id, _ = await asked(wire)
            await wire.send(f'43{id}[{{"error":{{"code":"{code}","message":"no","details":[1]}}}}]')
            with pytest.raises(RemoteError, match="no") as error:
                await task
            assert (error.value.code, error.value.details) == (code, [1])

    @pytest.mark.parametrize(
        "ack",
        [
            [{"error": {"code": "E_OTHER", "message": "no"}}],
            [{"error": {"code": "E_HANDLER", "message": 1}}],
            [{"error": {"code": "E_HANDLER", "message": "no"}, "more": 1}],
            [{"error": "E_HANDLER"}],
        ],
    )
    async def test_what_only_looks_like_an_error_is_data(self, io: Server, ack: list[JSON]) -> None:
        async with join_fake(io) as (wire, sid):
            task = await call(io, sid)
            id, _ = await asked(wire)
            await wire.send(f"43{id}{io.codec.encode_event('/', ack, None).data.decode()[2:]}")  # pyright: ignore[reportOptionalMemberAccess]
            assert await task == ack[0]

    async def test_an_ack_that_nobody_waits_for_is_dropped(self, io: Server) -> None:
        async with join_fake(io) as (wire, _):
            await wire.send("4399[1]", '461-100[{"_placeholder":true,"num":0}]', b"a")
            assert await wire_lives(io, wire)

    async def test_the_second_ack_of_an_id_is_dropped(self, io: Server) -> None:
        async with join_fake(io) as (wire, sid):
            task = await call(io, sid)
            id, _ = await asked(wire)
            await wire.send(f"43{id}[1]", f"43{id}[2]")
            assert await task == 1
            assert await wire_lives(io, wire)

    async def test_an_ack_without_id_is_against_the_protocol(self, io: Server) -> None:
        async with join_fake(io) as (wire, _):
            await wire.send("43[1]")
            await wire.until_closed()

    async def test_another_socket_cannot_ack(self, io: Server) -> None:
        async with join_fake(io) as (one, sid), join_fake(io) as (two, _):
            task = await call(io, sid)
            id, _ = await asked(one)
            await two.send(f'43{id}["forged"]')
            assert await wire_lives(io, two)
            await one.send(f'43{id}["mine"]')
            assert await task == "mine"

    async def test_max_pending_acks_bounds_what_is_awaited(self) -> None:
        async with Server(max_pending_acks=2) as io, join_fake(io) as (wire, sid):
            tasks = [await call(io, sid), await call(io, sid)]
            with pytest.raises(LocalProtocolError, match="max_pending_acks"):
                await io.sockets[sid].call("ask")
            ids = [(await asked(wire))[0] for _ in tasks]
            await wire.send(f"43{ids[0]}[1]")
            assert await tasks[0] == 1
            third = await call(io, sid)
            id, _ = await asked(wire)
            await wire.send(f"43{ids[1]}[2]", f"43{id}[3]")
            assert [await tasks[1], await third] == [2, 3]

    async def test_a_cancelled_call_leaves_nothing(self, io: Server) -> None:
        async with join_fake(io) as (_, sid):
            task = await call(io, sid)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not io.sockets[sid]._acks

    async def test_arguments_that_cannot_be_encoded_leave_nothing(self, io: Server) -> None:
        async with join_fake(io) as (wire, sid):
            for emits in (io, io.sockets[sid], io.to(sid)):
                with pytest.raises(TypeError):
                    await emits.call("ask", object())
            assert not io.sockets[sid]._acks
            assert wire.received() == []

    async def test_a_call_over_polling(self, io: Server) -> None:
        async with serve(io) as url, open_polling(url) as polling:
            await polling.post("40")
            await polling.get()
            (sid,) = io.sockets
            task = await call(io, sid)
            assert (await polling.get()).text == '420["ask"]'
            await polling.post("430[1]")
            assert await task == 1


async def wire_lives(io: Server, wire: FakeWire) -> bool:
    """Say whether the client still gets events; nothing else may have come."""
    io.emit("alive")
    return await wire.receive() == '42["alive"]'


class TestThreads:
    async def test_a_plain_handler_calls_through_from_thread(self, io: Server) -> None:
        @io.on("start")
        def start(socket: Socket) -> JSON:
            return from_thread(socket.call, "ask", 1, timeout=WITHIN)

        async with TestClient(io) as client:
            client.on("ask", lambda n: n + 1)
            assert await client.call("start") == 2

    async def test_from_thread_raises_what_call_raises(self, io: Server) -> None:
        @io.on("start")
        def start(socket: Socket) -> str:
            try:
                from_thread(socket.call, "ask", timeout=0.001)
            except AckTimeout:
                return "timeout"
            return "none"

        async with TestClient(io) as client:
            assert await client.call("start") == "timeout"
            assert await client.receive("ask") == ()

    async def test_from_thread_on_the_loop_is_refused(self, io: Server) -> None:
        async with join_fake(io) as (_, sid):
            with pytest.raises(LocalProtocolError, match="await"):
                from_thread(io.sockets[sid].call, "ask")

    async def test_from_thread_in_a_thread_that_knows_no_loop_is_refused(self, io: Server) -> None:
        errors: list[BaseException] = []

        async def nothing() -> None: ...

        def run() -> None:
            try:
                from_thread(nothing)
            except LocalProtocolError as error:
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        await asyncio.to_thread(thread.join)
        assert len(errors) == 1


class TestBroadcast:
    @pytest.fixture
    async def three(self, io: Server) -> AsyncIterator[list[FakeWire]]:
        async with AsyncExitStack() as stack:
            wires: list[FakeWire] = []
            for _ in range(3):
                wire, sid = await stack.enter_async_context(join_fake(io))
                io.sockets[sid].join("room")
                wires.append(wire)
            yield wires

    async def start(self, io: Server, timeout: float | None = None) -> asyncio.Task[JSON]:
        task: asyncio.Task[JSON] = asyncio.create_task(io.to("room").call("ask", timeout=timeout))
        await asyncio.sleep(0)
        return task

    async def test_replies_come_in_order_of_arrival(self, io: Server, three: list[FakeWire]) -> None:
        task = await self.start(io)
        ids = [(await asked(wire))[0] for wire in three]
        assert len({*ids}) == 1  # one id for all, so that the event is encoded once
        for number in (2, 0, 1):
            await three[number].send(f"43{ids[0]}[{number}]")
            await settle(3)
        assert await task == [2, 0, 1]

    async def test_only_first_arguments_are_replies(self, io: Server, three: list[FakeWire]) -> None:
        task = await self.start(io)
        for wire, ack in zip(three, ("[]", "[1,2]", "[[3]]"), strict=True):
            id, _ = await asked(wire)
            await wire.send(f"43{id}{ack}")
            await settle(3)
        assert await task == [None, 1, [3]]

    async def test_no_recipients_are_no_replies(self, io: Server) -> None:
        assert await io.to("nobody").call("ask") == []

    async def test_partial_replies_on_timeout(self, io: Server, three: list[FakeWire]) -> None:
        task = await self.start(io, timeout=0.05)
        id, _ = await asked(three[1])
        await three[1].send(f"43{id}[1]")
        with pytest.raises(AckTimeout, match="2 acks") as error:
            await task
        assert error.value.replies == [1]
        assert not any(socket._acks for socket in io.sockets.values())

    async def test_a_recipient_that_leaves_is_not_waited_for(self, io: Server, three: list[FakeWire]) -> None:
        task = await self.start(io)
        ids = [(await asked(wire))[0] for wire in three]
        await three[0].send(f"43{ids[0]}[0]")
        await three[1].send("41")
        three[2].drop()
        assert await task == [0]

    async def test_all_recipients_leave(self, io: Server, three: list[FakeWire]) -> None:
        task = await self.start(io)
        for wire in three:
            wire.drop()
        assert await task == []

    async def test_a_reply_counts_once(self, io: Server, three: list[FakeWire]) -> None:
        task = await self.start(io)
        ids = [(await asked(wire))[0] for wire in three]
        await three[0].send(f"43{ids[0]}[0]", f"43{ids[0]}[0]", f"43{ids[0]}[0]")
        await settle()
        assert not task.done()
        for wire in three[1:]:
            await wire.send(f"43{ids[0]}[1]")
        assert await task == [0, 1, 1]

    async def test_who_joins_later_is_not_asked(self, io: Server, three: list[FakeWire]) -> None:
        task = await self.start(io)
        async with join_fake(io) as (late, sid):
            io.sockets[sid].join("room")
            for wire in three:
                id, _ = await asked(wire)
                await wire.send(f"43{id}[0]")
            assert await task == [0, 0, 0]
            assert late.received() == []

    async def test_a_socket_asks_the_others(self, io: Server, three: list[FakeWire]) -> None:
        @io.on("start")
        async def start(socket: Socket) -> JSON:
            return await socket.to("room").call("ask", timeout=WITHIN)

        await three[0].send('425["start"]')
        for wire in three[1:]:
            id, _ = await asked(wire)
            await wire.send(f"43{id}[1]")
        assert await three[0].receive() == "435[[1,1]]"

    async def test_error_acks_are_replies_as_they_are(self, io: Server, three: list[FakeWire]) -> None:
        task = await self.start(io)
        for wire in three:
            id, _ = await asked(wire)
            await wire.send(f'43{id}[{{"error":{{"code":"E_HANDLER","message":"no","details":[]}}}}]')
        assert await task == [{"error": {"code": "E_HANDLER", "message": "no", "details": []}}] * 3

    async def test_max_pending_acks_bounds_broadcasts_too(self) -> None:
        """A peer that never answers must not be able to make each `io.call` without timeout a leak."""
        async with Server(max_pending_acks=2) as io, join_fake(io) as (_, sid):
            tasks = [asyncio.create_task(io.call("ask", timeout=WITHIN)) for _ in range(5)]
            await settle(5)
            assert len(io.sockets[sid]._acks) <= 2
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class TestFromClient:
    async def test_ids_go_back_as_they_came(self, io: Server) -> None:
        @io.on("x")
        async def x(socket: Socket) -> int:
            return 1

        async with join_fake(io) as (wire, _):
            for id in (0, 1, 9007199254740991):
                await wire.send(f'42{id}["x"]')
                assert await wire.receive() == f"43{id}[1]"

    async def test_ids_are_those_of_the_namespace(self, io: Server) -> None:
        @io.of("/chat").on("x")
        async def x(socket: Socket) -> int:
            return 1

        async with join_fake(io, "/chat") as (wire, _):
            await wire.send('42/chat,3["x"]')
            assert await wire.receive() == "43/chat,3[1]"
            assert multiplexer_of(io).running == 0
