"""Emitting: to whom, how, how often it is encoded, from which thread, and what a client that does not read costs."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
from websockets.asyncio.client import connect as open_websocket

from mizzen import JSON, ConnectionClosed, Reason, Server, Socket
from mizzen.protocol.codec import JSONCodec
from mizzen.protocol.encoded import Encoded, Form
from mizzen.server.operator import Operator
from tests.server.fake_wire import FakeWire, connection_of, join_fake, open_fake, settle
from tests.support import WITHIN, open_polling, open_wire, serve, until


@pytest.fixture
async def io() -> AsyncIterator[Server]:
    async with Server() as io:
        yield io


class People:
    """Three clients: a is in room x, b in x and y, c in y."""

    def __init__(self, io: Server, wires: dict[str, FakeWire], sockets: dict[str, Socket]) -> None:
        self.io = io
        self.wires = wires
        self.sockets = sockets

    async def reached(self) -> str:
        """Say who got events since the last call, each letter as often as it got one."""
        self.io.emit("end")
        reached = ""
        for name, wire in self.wires.items():
            while await wire.receive() != '42["end"]':
                reached += name
        return reached


@pytest.fixture
async def people(io: Server) -> AsyncIterator[People]:
    async with AsyncExitStack() as stack:
        wires: dict[str, FakeWire] = {}
        sockets: dict[str, Socket] = {}
        for name, rooms in (("a", ["x"]), ("b", ["x", "y"]), ("c", ["y"])):
            wires[name], sid = await stack.enter_async_context(join_fake(io))
            sockets[name] = io.sockets[sid]
            sockets[name].join(rooms)
        yield People(io, wires, sockets)


class TestWhom:
    @pytest.mark.parametrize(
        ("choose", "reached"),
        [
            (lambda p: p.io, "abc"),
            (lambda p: p.io.of("/"), "abc"),
            (lambda p: p.io.to("x"), "ab"),
            (lambda p: p.io.in_("y"), "bc"),
            (lambda p: p.io.to("x", "y"), "abc"),
            (lambda p: p.io.to(["x", "y"]), "abc"),
            (lambda p: p.io.to({"x"}, "y"), "abc"),
            (lambda p: p.io.to("x").to("y"), "abc"),
            (lambda p: p.io.to("x").in_("y"), "abc"),
            (lambda p: p.io.to("nobody"), ""),
            (lambda p: p.io.to("nobody", "x"), "ab"),
            (lambda p: p.io.except_("x"), "c"),
            (lambda p: p.io.except_("x", "y"), ""),
            (lambda p: p.io.except_(["x", "nobody"]), "c"),
            (lambda p: p.io.to("x").except_("y"), "a"),
            (lambda p: p.io.except_("y").to("x"), "a"),
            (lambda p: p.io.to("x", "y").except_("x").except_("y"), ""),
            (lambda p: p.io.to(p.sockets["a"].id), "a"),
            (lambda p: p.io.to(p.sockets["a"].id, "y"), "abc"),
            (lambda p: p.io.except_(p.sockets["a"].id), "bc"),
            (lambda p: p.io.to("x").except_(p.sockets["a"].id), "b"),
            (lambda p: p.io.local, "abc"),
            (lambda p: p.io.local.to("x"), "ab"),
            (lambda p: p.io.volatile.to("x"), "ab"),
            (lambda p: p.io.to("x").volatile, "ab"),
            (lambda p: p.io.timeout(1).to("x"), "ab"),
            (lambda p: p.sockets["a"], "a"),
            (lambda p: p.sockets["a"].volatile, "a"),
            (lambda p: p.sockets["a"].local, "bc"),
            (lambda p: p.sockets["a"].timeout(1), "a"),
            (lambda p: p.sockets["a"].broadcast, "bc"),
            (lambda p: p.sockets["a"].broadcast.volatile, "bc"),
            (lambda p: p.sockets["a"].to("x"), "b"),
            (lambda p: p.sockets["a"].to("x", "y"), "bc"),
            (lambda p: p.sockets["a"].to("x").to("y"), "bc"),
            (lambda p: p.sockets["a"].volatile.to("x"), "b"),
            (lambda p: p.sockets["a"].to(p.sockets["a"].id), ""),
            (lambda p: p.sockets["a"].to(p.sockets["c"].id), "c"),
            (lambda p: p.sockets["a"].except_("x"), "c"),
            (lambda p: p.sockets["a"].broadcast.except_("y"), ""),
            (lambda p: p.sockets["b"].to("x").except_("y"), "a"),
        ],
    )
    async def test_each_recipient_gets_it_once(self, people: People, choose: Callable[[People], Operator], reached: str) -> None:
        choose(people).emit("x", 1)
        assert await people.reached() == reached

    async def test_other_namespaces_are_not_reached(self, people: People) -> None:
        people.io.of("/other").emit("x")
        people.io.of("/other").to("x").emit("x")
        assert await people.reached() == ""

    async def test_an_operator_never_changes_and_may_be_used_again(self, people: People) -> None:
        x = people.io.to("x")
        others = [x.to("y"), x.except_("y"), x.volatile, x.local, x.timeout(1), x.in_("nobody")]
        assert len({id(each) for each in (x, *others)}) == 7
        for _ in range(2):
            x.emit("x")
            assert await people.reached() == "ab"
        own = people.sockets["a"].volatile
        own.to("y")
        own.emit("x")
        assert await people.reached() == "a"

    async def test_events_of_one_sender_come_in_order(self, people: People) -> None:
        for number in range(3):
            people.io.emit("n", number)
            people.sockets["a"].emit("own", number)
            people.io.to("x").emit("x", number)
        got = [await people.wires["a"].event() for _ in range(9)]
        assert got == [event for number in range(3) for event in (["n", number], ["own", number], ["x", number])]

    async def test_attachments_are_broadcast(self, people: People) -> None:
        people.io.to("x").emit("file", b"\x01", {"more": [b"\x02"]})
        for name in "ab":
            wire = people.wires[name]
            assert await wire.receive() == '452-["file",{"_placeholder":true,"num":0},{"more":[{"_placeholder":true,"num":1}]}]'
            assert [await wire.receive(), await wire.receive()] == [b"\x01", b"\x02"]


class TestRooms:
    async def test_joining_and_leaving(self, io: Server, people: People) -> None:
        a = people.sockets["a"]
        assert a.rooms == {a.id, "x"}
        a.join("p", ["q", "x"])
        assert a.rooms == {a.id, "x", "p", "q"}
        a.leave("p", ["q", "nobody"])
        assert a.rooms == {a.id, "x"}
        io.to("p").emit("x")
        assert await people.reached() == ""
        assert {*io.of("/").adapter.rooms} == {"x", "y"}

    async def test_nobody_leaves_the_room_of_its_own_id(self, people: People) -> None:
        a = people.sockets["a"]
        a.leave(a.id)
        people.io.to(a.id).emit("x")
        assert await people.reached() == "a"

    async def test_a_socket_that_goes_leaves_its_rooms(self, io: Server, people: People) -> None:
        people.wires["a"].drop()
        people.wires["b"].drop()
        await until(lambda: len(io.sockets) == 1)
        assert {*io.of("/").adapter.rooms} == {"y"}

    async def test_a_socket_that_is_gone_joins_and_gets_nothing(self, io: Server, people: People) -> None:
        a, wire = people.sockets["a"], people.wires.pop("a")
        await wire.send("41")
        await until(lambda: not a.connected)
        a.join("late")
        a.leave("x")
        a.emit("x")
        a.volatile.emit("x")
        a.disconnect()
        io.to(a.id).emit("x")
        assert "late" not in io.of("/").adapter.rooms
        assert await people.reached() == ""
        assert wire.received() == []

    async def test_a_socket_that_is_gone_still_reaches_others(self, io: Server, people: People) -> None:
        a, wire = people.sockets["a"], people.wires.pop("a")
        await wire.send("1")
        await until(lambda: not a.connected)
        a.broadcast.emit("left")
        assert await people.reached() == "bc"


class WatchedEncoded(Encoded):
    """Remembers what it gave for which form."""

    __slots__ = ("given",)

    def __init__(self, data: bytes | None, attachments: Sequence[bytes] = ()) -> None:
        super().__init__(data, attachments)
        self.given: dict[object, list[object]] = {}

    def messages(self, eio: int, base64: bool = False) -> tuple[str | bytes, ...]:
        messages = super().messages(eio, base64)
        self.given.setdefault((eio, base64), []).append(messages)
        return messages

    def records(self, form: Form) -> tuple[bytes, ...]:
        records = super().records(form)
        self.given.setdefault(form, []).append(records)
        return records


class CountingCodec(JSONCodec):
    """Counts events that are encoded, and watches the forms they take."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[WatchedEncoded] = []

    def encode_event(self, nsp: str, args: Sequence[JSON], id: int | None = None) -> Encoded:
        encoded = super().encode_event(nsp, args, id)
        self.events.append(WatchedEncoded(encoded.data, encoded.attachments))
        return self.events[-1]


class TestEncodedOnce:
    @pytest.mark.parametrize("call", [False, True], ids=["emit", "call"])
    async def test_a_broadcast_is_encoded_once_for_all(self, io: Server, call: bool) -> None:
        io.codec = codec = CountingCodec()
        async with AsyncExitStack() as stack:
            wires = [(await stack.enter_async_context(join_fake(io)))[0] for _ in range(10)]
            if call:
                task = asyncio.create_task(io.call("x", 1))
                for wire in wires:
                    assert await wire.receive() == '420["x",1]'
                    await wire.send("430[]")
                await task
            else:
                io.emit("x", 1)
                for wire in wires:
                    assert await wire.event() == ["x", 1]
        assert len(codec.events) == 1

    async def test_each_wire_form_is_made_once(self, io: Server) -> None:
        io.codec = codec = CountingCodec()
        async with AsyncExitStack() as stack:
            url = await stack.enter_async_context(serve(io))
            wires = [(await stack.enter_async_context(join_fake(io)))[0] for _ in range(3)]
            for query in ("", "", "b64=1", "b64=1"):
                wires.append(await stack.enter_async_context(open_fake(io, query, eio=3)))
                assert await wires[-1].receive() == "40"
            polls = [await stack.enter_async_context(open_polling(url)) for _ in range(2)]
            polls += [await stack.enter_async_context(open_polling(url, query, eio=3)) for query in ("", "", "b64=1", "b64=1")]
            for poll in polls[:2]:  # with Engine.IO 3 the CONNECT packet came along with the handshake
                await poll.post("40")
                await poll.get()
            io.emit("x", b"\x01")
            for wire in wires:
                assert str(await wire.receive()).startswith("451-")
                assert await wire.receive() in (b"\x01", b"\x04\x01", "b4AQ==")
            for poll in polls:
                assert b"451-" in (await poll.get()).content
        (encoded,) = codec.events
        assert {*encoded.given} == {(4, False), (3, False), (3, True), Form.EIO4, Form.EIO3_TEXT, Form.EIO3_BINARY}
        for form, given in encoded.given.items():
            assert len(given) == (3 if form == (4, False) else 2)
            assert len({id(each) for each in given}) == 1, form
        texts = {id(given[0][0]) for form, given in encoded.given.items() if isinstance(form, tuple)}  # pyright: ignore[reportIndexIssue]
        assert len(texts) == 1  # the text is the same whatever the protocol


class TestArguments:
    async def test_arguments_are_encoded_at_once(self, io: Server) -> None:
        async with join_fake(io) as (wire, _):
            value = {"n": 1}
            io.emit("x", value)
            value["n"] = 2
            assert await wire.event() == ["x", {"n": 1}]

    async def test_what_cannot_be_encoded_raises_type_error_and_sends_nothing(self, people: People) -> None:
        a = people.sockets["a"]
        for emits in (people.io, people.io.of("/"), people.io.to("x"), a, a.broadcast, a.volatile):
            with pytest.raises(TypeError):
                emits.emit("x", object())
        assert await people.reached() == ""

    async def test_nothing_happens_before_the_server_runs_and_after(self) -> None:
        io = Server()
        io.emit("early")
        io.to("x").emit("early")
        with pytest.raises(TypeError):
            io.emit("early", object())
        async with io, join_fake(io) as (wire, _):
            io.emit("now")
            assert await wire.event() == ["now"]
        io.emit("late")


class TestThreads:
    async def test_emits_of_one_thread_come_in_order(self, io: Server, people: People) -> None:
        a = people.sockets["a"]

        def run() -> None:
            for number in range(0, 30, 3):
                io.emit("n", number)
                io.to("x").emit("n", number + 1)
                a.emit("n", number + 2)

        await asyncio.to_thread(run)
        assert [(await people.wires["a"].event())[1] for _ in range(30)] == [*range(30)]

    async def test_join_leave_emit_and_disconnect_keep_their_order(self, io: Server, people: People) -> None:
        c = people.sockets["c"]

        def run() -> None:
            io.to("p").emit("before")
            c.join("p")
            io.to("p").emit("in")
            c.leave("p")
            io.to("p").emit("after")
            c.disconnect()
            c.emit("gone")

        await asyncio.to_thread(run)
        assert [await people.wires["c"].receive(), await people.wires["c"].receive()] == ['42["in"]', "41"]
        await settle()
        assert people.wires["c"].received() == []

    async def test_type_error_is_raised_in_the_caller(self, io: Server, people: People) -> None:
        for emits in (io, people.sockets["a"]):
            with pytest.raises(TypeError):
                await asyncio.to_thread(emits.emit, "x", object())
        assert await people.reached() == ""

    async def test_arguments_are_encoded_in_the_caller(self, io: Server) -> None:
        threads: list[int] = []

        class Codec(JSONCodec):
            def encode_event(self, nsp: str, args: Sequence[JSON], id: int | None = None) -> Encoded:
                threads.append(threading.get_ident())
                return super().encode_event(nsp, args, id)

        io.codec = Codec()
        await asyncio.to_thread(io.emit, "x")
        assert threads
        assert threading.get_ident() not in threads

    async def test_no_emit_of_many_threads_is_left_lying(self, io: Server) -> None:
        """The one wake-up must not be lost when two threads post at the same moment."""
        interval = sys.getswitchinterval()
        async with join_fake(io) as (wire, _):
            start = threading.Barrier(8)

            def run(thread: int) -> None:
                start.wait(WITHIN)
                for number in range(300):
                    io.emit("n", thread, number)

            threads = [threading.Thread(target=run, args=(thread,)) for thread in range(8)]
            sys.setswitchinterval(1e-6)
            try:
                for thread in threads:
                    thread.start()
                got: dict[int, list[int]] = {thread: [] for thread in range(8)}
                for _ in range(8 * 300):
                    _, thread, number = await wire.event()
                    got[thread].append(number)
            finally:
                sys.setswitchinterval(interval)
                for thread in threads:
                    await asyncio.to_thread(thread.join)
            assert all(numbers == [*range(300)] for numbers in got.values())

    async def test_two_threads_that_post_at_once_wake_the_loop(self, io: Server) -> None:
        """Both append before either looks how many there are: the moment that a stress test meets by luck only."""
        both = threading.Barrier(2)

        class Calls(deque[Any]):
            def append(self, item: Any) -> None:
                super().append(item)
                with suppress(threading.BrokenBarrierError):  # a lock that lets only one of them in is as good
                    both.wait(0.1)

        io._mailbox._calls = Calls()
        async with join_fake(io) as (wire, _):
            await asyncio.gather(*[asyncio.to_thread(io.emit, "x", number) for number in range(2)])
            assert {(await wire.event())[1] for _ in range(2)} == {0, 1}


class TestVolatile:
    async def test_a_websocket_that_is_being_written_to_gets_none(self, io: Server, people: People) -> None:
        wire = people.wires["a"]
        wire.stall()
        io.emit("stuck")
        await settle()
        io.volatile.emit("volatile")
        io.to("x").volatile.emit("volatile")
        people.sockets["a"].volatile.emit("volatile")
        io.emit("kept")
        await settle()
        wire.flow()
        assert [await wire.event(), await wire.event()] == [["stuck"], ["kept"]]
        for name in "bc":
            got = people.wires[name].received()
            assert got[:2] == ['42["stuck"]', '42["volatile"]']

    async def test_packets_of_the_same_turn_do_not_count(self, io: Server, people: People) -> None:
        people.sockets["a"].emit("1")
        people.sockets["a"].volatile.emit("2")
        io.volatile.emit("3")
        assert [(await people.wires["a"].event())[0] for _ in range(3)] == ["1", "2", "3"]

    async def test_it_gets_them_again_once_it_reads(self, people: People) -> None:
        wire, a = people.wires["a"], people.sockets["a"]
        wire.stall()
        a.emit("stuck")
        await settle()
        wire.flow()
        assert await wire.event() == ["stuck"]
        await settle()
        a.volatile.emit("volatile")
        assert await wire.event() == ["volatile"]

    async def test_polling_gets_them_only_while_a_get_waits(self, io: Server) -> None:
        async with serve(io) as url, open_polling(url) as polling:
            await polling.post("40")
            await polling.get()
            io.volatile.emit("no poll waits")
            await settle()
            poll = asyncio.create_task(polling.get())
            await until(lambda: connection_of(io).transport.writable)
            io.volatile.emit("waits")
            assert (await poll).text == '42["waits"]'
            io.emit("queued")
            await settle()
            io.volatile.emit("queued already")
            assert (await polling.get()).text == '42["queued"]'

    async def test_none_during_an_upgrade(self, io: Server) -> None:
        async with serve(io) as url, open_polling(url) as polling:
            await polling.post("40")
            await polling.get()
            poll = asyncio.create_task(polling.get())
            await until(lambda: connection_of(io).transport.writable)
            address = f"ws{url.removeprefix('http')}/socket.io/?EIO=4&transport=websocket&sid={polling.sid}"
            async with open_websocket(address, proxy=None) as upgraded:
                await upgraded.send("2probe")
                assert await upgraded.recv() == "3probe"
                io.volatile.emit("volatile")
                assert (await poll).text == "6"
                io.volatile.emit("volatile")
                io.emit("kept")
                await upgraded.send("5")
                assert await upgraded.recv() == '42["kept"]'
                io.volatile.emit("again")
                assert await upgraded.recv() == '42["again"]'


class TestDrain:
    @pytest.mark.parametrize("who", ["socket", "io", "room", "namespace"])
    async def test_drain_waits_until_it_was_sent(self, io: Server, people: People, who: str) -> None:
        a = people.sockets["a"]
        drains = {"socket": a, "io": io, "room": io.to("x"), "namespace": io.of("/")}[who]
        wire = people.wires["a"]
        await asyncio.wait_for(drains.drain(), WITHIN)  # nothing waits
        wire.stall()
        io.emit("x")
        task = asyncio.create_task(drains.drain())
        await settle()
        assert not task.done()
        wire.flow()
        await asyncio.wait_for(task, WITHIN)
        assert wire.received() == ['42["x"]']

    async def test_drain_covers_what_was_emitted_in_the_same_turn(self, people: People) -> None:
        people.sockets["a"].emit("x")
        await people.sockets["a"].drain()
        assert people.wires["a"].received() == ['42["x"]']

    async def test_others_are_not_waited_for(self, io: Server, people: People) -> None:
        people.wires["c"].stall()
        io.emit("x")
        await asyncio.wait_for(io.to("x").drain(), WITHIN)
        await asyncio.wait_for(people.sockets["a"].drain(), WITHIN)

    async def test_drain_of_a_socket_that_goes_raises(self, io: Server, people: People) -> None:
        people.wires["a"].stall()
        people.sockets["a"].emit("x")
        task = asyncio.create_task(people.sockets["a"].drain())
        all_of_them = asyncio.create_task(io.drain())
        await settle()
        people.wires["a"].drop()
        with pytest.raises(ConnectionClosed) as error:
            await task
        assert error.value.reason is Reason.TRANSPORT_CLOSE
        await asyncio.wait_for(all_of_them, WITHIN)

    async def test_drain_of_a_socket_that_is_gone_raises(self, people: People) -> None:
        people.sockets["a"].disconnect()
        with pytest.raises(ConnectionClosed) as error:
            await people.sockets["a"].drain()
        assert error.value.reason is Reason.SERVER_NAMESPACE_DISCONNECT

    async def test_polling_is_drained_by_a_get(self, io: Server) -> None:
        async with serve(io) as url, open_polling(url) as polling:
            await polling.post("40")
            await polling.get()
            io.emit("x")
            task = asyncio.create_task(io.drain())
            await settle()
            assert not task.done()
            assert (await polling.get()).text == '42["x"]'
            await asyncio.wait_for(task, WITHIN)

    async def test_a_producer_that_drains_holds_little(self, io: Server, people: People) -> None:
        most = 0
        for _ in range(50):
            io.emit("x", "x" * 1000)
            most = max(most, *[connection.unsent + connection.transport.buffered for connection in io.sessions.connections.values()])
            await io.drain()
        assert most < 2000


class TestSlowConsumer:
    @pytest.fixture
    async def io(self) -> AsyncIterator[Server]:
        async with Server(max_buffer=10_000) as io:
            yield io

    async def test_it_is_closed_while_others_notice_nothing(self, io: Server, people: People) -> None:
        ends: list[tuple[Socket, str, str | None]] = []

        @io.on("disconnect")
        async def disconnect(socket: Socket, reason: str, details: str | None) -> None:
            ends.append((socket, reason, details))

        people.wires["a"].stall()
        for number in range(30):
            io.emit("n", number, "x" * 1000)
            await settle(5)
        await until(lambda: ends)
        assert ends == [(people.sockets["a"], "transport error", "slow consumer")]
        for name in "bc":
            assert [(await people.wires[name].event())[1] for _ in range(30)] == [*range(30)]
        assert len(io.sessions) == 2

    async def test_a_client_that_never_reads_costs_no_more_than_max_buffer(self, io: Server, people: People) -> None:
        people.wires["a"].stall()
        connection = next(each for each in io.sessions.connections.values() if each is people.sockets["a"]._multiplexer.connection)
        most = 0
        for _ in range(100):
            io.emit("x", "x" * 100)
            await settle(3)
            most = max(most, connection.unsent + connection.transport.buffered)
        assert 9_000 < most <= 10_000 + 111  # one whole message always fits
        for _ in range(10):
            io.emit("x", "x" * 100)
            await settle(3)
        assert connection.gone
        assert connection.unsent + len(connection.engine.out) == 0

    async def test_closing_is_the_flushers_work(self, io: Server, people: People) -> None:
        """`emit` itself never closes, so that iterating a room is safe."""
        people.wires["a"].stall()
        for _ in range(30):
            io.emit("x", "x" * 1000)
            people.sockets["a"].emit("x", "x" * 1000)
        assert people.sockets["a"].connected
        await until(lambda: not people.sockets["a"].connected)

    async def test_one_whole_message_always_fits(self, io: Server, people: People) -> None:
        io.emit("big", "x" * 50_000)
        assert await people.wires["a"].event() == ["big", "x" * 50_000]
        io.emit("attached", b"x" * 50_000)
        assert str(await people.wires["a"].receive()).startswith("451-")
        assert await people.wires["a"].receive() == b"x" * 50_000

    async def test_one_whole_message_fits_behind_a_small_one(self, io: Server, people: People) -> None:
        """A client that reads well must not be closed because a small packet left in the same turn."""
        people.sockets["a"].emit("small")
        people.sockets["a"].emit("big", "x" * 50_000)
        assert [(await people.wires["a"].event())[0] for _ in range(2)] == ["small", "big"]

    async def test_a_client_that_never_polls_is_closed(self, io: Server) -> None:
        ends: list[tuple[str, str | None]] = []

        @io.on("disconnect")
        async def disconnect(socket: Socket, reason: str, details: str | None) -> None:
            ends.append((reason, details))

        async with serve(io) as url, open_polling(url) as polling:
            await polling.post("40")
            await polling.get()
            for _ in range(30):
                io.emit("x", "x" * 1000)
                await settle(3)
            await until(lambda: ends)
            assert ends == [("transport error", "slow consumer")]
            assert len(io.sessions) == 0
            assert (await polling.get()).status_code == 400

    async def test_closing_a_stalled_client_does_not_hang(self, io: Server, people: People) -> None:
        """A peer's server hangs when it disconnects such a client."""
        people.wires["a"].stall()
        people.sockets["a"].emit("x")
        await settle()
        people.sockets["a"].disconnect(close=True)
        assert not people.sockets["a"].connected
        await asyncio.wait_for(io.close(0.05), WITHIN)
        assert len(io.sessions) == 0

    async def test_over_a_real_network(self, io: Server) -> None:
        async with serve(io) as url, open_wire(url) as wire:
            await wire.send("40")
            await until(lambda: io.sockets)
            connection = connection_of(io)
            async with asyncio.timeout(WITHIN):
                while not connection.gone:
                    io.emit("x", b"x" * 1_000_000)
                    assert connection.unsent + connection.transport.buffered <= 2_010_000
                    await asyncio.sleep(0)
            assert len(io.sessions) == 0
