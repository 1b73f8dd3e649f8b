"""Connection state recovery: clients that were away for a short time go on where they were."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mizzen import ConnectionStateRecovery, ConnectRefused, OptionsError, Reason, Server, Socket
from mizzen.adapters.recovery import RecoveringAdapter
from mizzen.ports import AdapterHost, SavedSession
from tests.server.fake_wire import FakeWire, open_fake, settle
from tests.support import open_polling, open_wire, serve, until


@pytest.fixture
async def io() -> AsyncIterator[Server]:
    async with Server(connection_state_recovery=True) as io:
        yield io


class Client:
    """A client with a session: what it knows of it, and what came before its CONNECT packet."""

    def __init__(self, wire: FakeWire, nsp: str) -> None:
        self.wire = wire
        self.nsp = nsp
        self.prefix = "" if nsp == "/" else f"{nsp},"
        self.sid = self.pid = ""
        self.offset: str | None = None
        self.missed: list[Any] = []

    async def connect(self, auth: dict[str, Any] | None = None) -> None:
        """Join the namespace; keep what comes before the answer."""
        await self.wire.send(f"40{self.prefix}{'' if auth is None else json.dumps(auth)}")
        while True:
            message = await self.wire.receive()
            if isinstance(message, str) and message.startswith(f"40{self.prefix}"):
                break
            self.missed.append(self.read(message))
        told = json.loads(message.removeprefix(f"40{self.prefix}"))
        self.sid, self.pid = told["sid"], told["pid"]

    def read(self, message: str | bytes) -> Any:
        """Give an event without its offset, which is kept; anything else as it came."""
        event = re.fullmatch(rf"4(?:2|5\d+-){re.escape(self.prefix)}(\[.*\])", message) if isinstance(message, str) else None
        if event is None:
            return message
        *args, self.offset = json.loads(event[1])
        return args

    async def event(self) -> Any:
        """Give the next event without its offset."""
        return self.read(await self.wire.receive())

    @property
    def auth(self) -> dict[str, str]:
        """What the client sends to have its session back."""
        return {"pid": self.pid} if self.offset is None else {"pid": self.pid, "offset": self.offset}


@asynccontextmanager
async def client(io: Server, nsp: str = "/", auth: dict[str, Any] | None = None) -> AsyncIterator[Client]:
    async with open_fake(io) as wire:
        made = Client(wire, nsp)
        await made.connect(auth)
        yield made


@asynccontextmanager
async def back(io: Server, before: Client, **auth: Any) -> AsyncIterator[Client]:
    """Come back on a new connection."""
    async with open_fake(io) as wire:
        made = Client(wire, before.nsp)
        made.offset = before.offset
        await made.connect(before.auth | auth)
        yield made


async def lose(io: Server, client: Client) -> None:
    """Cut the connection, and wait until the server has seen it."""
    sockets = io.of(client.nsp).sockets
    client.wire.drop()
    await until(lambda: client.sid not in sockets)


class TestRestored:
    async def test_id_rooms_data_and_what_was_missed(self, io: Server) -> None:
        async with client(io) as first:
            socket = io.sockets[first.sid]
            assert socket.recovered is False
            socket.join("a", "b")
            socket.data["name"] = "Ann"
            io.emit("one", 1)
            assert await first.event() == ["one", 1]
            await lose(io, first)
            assert not socket.connected
            io.emit("all", 2)
            io.to("a").emit("room", 3)
            io.to("elsewhere").emit("not mine", 4)
            io.to("elsewhere", "b").emit("rooms", 5)
            io.except_("a").emit("not mine", 6)
            io.to(first.sid).emit("id", 7)
            io.except_(first.sid).emit("not mine", 8)
            socket.emit("own", 9)
            socket.to("a").emit("not mine: its own broadcast", 10)
            async with back(io, first) as again:
                assert again.missed == [["all", 2], ["room", 3], ["rooms", 5], ["id", 7], ["own", 9]]
                assert (again.sid, again.pid) == (first.sid, first.pid)
                now = io.sockets[again.sid]
                assert now is not socket
                assert now.recovered is True
                assert now.rooms == {first.sid, "a", "b"}
                assert now.data == {"name": "Ann"}
                io.to("a").emit("after", 11)
                assert await again.event() == ["after", 11]

    async def test_binary(self, io: Server) -> None:
        async with client(io) as first:
            await lose(io, first)
            io.emit("file", b"\x01", {"more": b"\x02"})
            async with back(io, first) as again:
                placeholders = [{"_placeholder": True, "num": 0}, {"more": {"_placeholder": True, "num": 1}}]
                assert again.missed == [["file", *placeholders], b"\x01", b"\x02"]

    async def test_what_was_received_does_not_come_again(self, io: Server) -> None:
        async with client(io) as first:
            for number in range(5):
                io.emit("n", number)
            assert [await first.event() for _ in range(3)] == [["n", 0], ["n", 1], ["n", 2]]
            await lose(io, first)
            async with back(io, first) as again:
                assert again.missed == [["n", 3], ["n", 4]]

    async def test_missed_packets_then_connect_then_what_was_held(self, io: Server) -> None:
        go_on = asyncio.Event()
        go_on.set()

        @io.on("connect")
        async def connect(socket: Socket) -> None:
            await go_on.wait()

        async with client(io) as first:
            await lose(io, first)
            io.emit("missed")
            go_on.clear()
            async with open_fake(io) as wire:
                again = Client(wire, "/")
                joining = asyncio.create_task(again.connect(first.auth))
                await until(lambda: len(io.of("/").by_pid) == 1)
                io.emit("held")
                go_on.set()
                await joining
                assert again.missed == [["missed"]]
                assert await again.event() == ["held"]
                assert wire.received() == [], "what was held is not sent as missed as well"

    async def test_a_session_without_an_event_is_replayed_from_its_connect(self, io: Server) -> None:
        """The official server forgets a client that got no event yet."""
        io.emit("before the session")
        async with client(io) as first:
            await lose(io, first)
            io.emit("missed", 1)
            async with back(io, first) as again:
                assert (again.sid, again.missed) == (first.sid, [["missed", 1]])

    async def test_the_offset_of_an_earlier_session_is_none_of_this_one(self, io: Server) -> None:
        """Clients keep it until an event comes, and what was sent before they connected was never for them."""
        async with client(io) as first:
            io.emit("x")
            await first.event()
            offset = first.offset
        io.emit("while nobody was there")
        for stale in (offset, "abcdefgh.12"):  # of this process, and of an earlier one
            async with client(io) as second:
                await lose(io, second)
                io.emit("missed")
                second.offset = stale
                async with back(io, second) as again:
                    assert (again.sid, again.missed) == (second.sid, [["missed"]])

    async def test_twice_in_a_row_without_an_event_in_between(self, io: Server) -> None:
        async with client(io) as first:
            io.emit("x")
            await first.event()
            await lose(io, first)
            async with back(io, first) as second:
                assert second.missed == []
                await lose(io, second)
                io.emit("y")
                async with back(io, second) as third:
                    assert (third.sid, third.pid, third.missed) == (first.sid, first.pid, [["y"]])

    async def test_lost_again_before_the_connect_packet(self, io: Server) -> None:
        slow = False

        @io.on("connect")
        async def connect(socket: Socket) -> None:
            if slow:
                await asyncio.Event().wait()

        async with client(io) as first:
            io.sockets[first.sid].join("a")
            await lose(io, first)
            io.to("a").emit("missed")
            slow = True
            async with open_fake(io) as wire:
                await wire.send(f"40{json.dumps(first.auth)}")
                await until(lambda: io.of("/").population == 1)
            await until(lambda: io.of("/").population == 0)
            slow = False
            async with back(io, first) as again:
                assert (again.sid, again.missed) == (first.sid, [["missed"]])
                assert "a" in io.sockets[again.sid].rooms
        await io.close(0)

    async def test_the_data_of_a_refused_client_is_gone(self, io: Server) -> None:
        refusing = False

        @io.on("connect")
        async def connect(socket: Socket) -> None:
            if refusing:
                raise ConnectRefused("no")

        async with client(io) as first:
            await lose(io, first)
            io.emit("missed")
            refusing = True
            async with open_fake(io) as wire:
                await wire.send(f"40{json.dumps(first.auth)}")
                assert await wire.receive() == '44{"message":"no"}'
            refusing = False
            async with back(io, first) as again:
                assert (again.sid != first.sid, again.missed) == (True, [])


class TestOffsets:
    async def test_each_event_has_one_and_no_two_are_alike(self, io: Server) -> None:
        async with client(io) as one:
            socket = io.sockets[one.sid]
            socket.join("r")
            io.emit("a")
            io.to("r").emit("a", "text")
            socket.emit("a")
            socket.compress(False).emit("a")
            offsets: list[Any] = []
            for event in (["a"], ["a", "text"], ["a"], ["a"]):
                assert await one.event() == event
                offsets.append(one.offset)
            assert len(set(offsets)) == 4

    async def test_events_with_an_ack_have_none_and_are_not_replayed(self, io: Server) -> None:
        async with client(io) as first:
            socket = io.sockets[first.sid]
            tasks = [asyncio.create_task(socket.call("ask", 1, timeout=5)), asyncio.create_task(io.call("ask", 2, timeout=5))]
            assert [await first.wire.receive(), await first.wire.receive()] == ['420["ask",1]', '421["ask",2]']
            await lose(io, first)
            await asyncio.gather(*tasks, return_exceptions=True)
            async with back(io, first) as again:
                assert (again.sid, again.missed) == (first.sid, [])

    async def test_volatile_events_are_not_replayed(self, io: Server) -> None:
        async with client(io) as first:
            await lose(io, first)
            io.volatile.emit("v", 1)
            io.volatile.emit("v", "text")
            io.emit("kept")
            async with back(io, first) as again:
                assert again.missed == [["kept"]]

    @pytest.mark.parametrize("args", [(), ("text",), (1, "text")], ids=["the name alone", "text", "text at the end"])
    async def test_a_volatile_event_that_ends_in_text_has_the_offset_before_it(self, io: Server, args: tuple[Any, ...]) -> None:
        """JavaScript clients take any text at the end for the offset."""
        async with client(io) as one:
            io.emit("x")
            await one.event()
            offset = one.offset
            io.volatile.emit("v", *args)
            io.sockets[one.sid].volatile.emit("v", *args)
            for _ in range(2):
                assert await one.event() == ["v", *args]
                assert one.offset == offset

    @pytest.mark.parametrize("last", [1, 1.5, None, True, ["text"], {"a": "text"}])
    async def test_other_volatile_events_are_as_they_were_given(self, io: Server, last: Any) -> None:
        async with client(io) as one:
            io.volatile.emit("v", last)
            assert await one.wire.receive() == f"42{json.dumps(['v', last], separators=(',', ':'))}"

    async def test_a_volatile_event_of_a_thread_has_the_offset_of_when_it_goes(self, io: Server) -> None:
        async with client(io) as one:
            thread = threading.Thread(target=io.volatile.emit, args=("v", "text"))
            thread.start()
            thread.join()
            io.emit("x")  # this is sent first: what the thread asked for waits for the loop
            assert await one.event() == ["x"]
            offset = one.offset
            assert await one.event() == ["v", "text"]
            assert one.offset == offset

    async def test_a_volatile_event_that_cannot_be_encoded_raises_in_its_thread(self, io: Server) -> None:
        def emit() -> None:
            with pytest.raises(TypeError):
                io.volatile.emit("v", object())

        await asyncio.to_thread(emit)

    async def test_emitting_in_threads_loses_and_repeats_nothing(self, io: Server) -> None:
        async with client(io) as first:
            threads = [threading.Thread(target=lambda n=n: [io.emit("n", n, i) for i in range(50)]) for n in range(4)]
            for thread in threads:
                thread.start()
            got = [await first.event() for _ in range(20)]
            await lose(io, first)
            for thread in threads:
                await asyncio.to_thread(thread.join)
            io.emit("end")
            async with back(io, first) as again:
                assert again.missed[-1] == ["end"] or [await again.event()] == [["end"]]
                everything = [event for event in (*got, *again.missed) if event != ["end"]]
                assert len(everything) == 200
                for number in range(4):
                    assert [event[2] for event in everything if event[1] == number] == list(range(50))

    async def test_offsets_never_come_again_after_a_restart(self) -> None:
        io = Server(connection_state_recovery=True)
        offsets: list[str | None] = []
        for _ in range(2):
            async with io, client(io) as one:
                io.emit("x")
                await one.event()
                offsets.append(one.offset)
        other = Server(connection_state_recovery=True)
        async with other, client(other) as one:
            other.emit("x")
            await one.event()
            offsets.append(one.offset)
        assert len(set(offsets)) == 3


class TestNotRestored:
    @pytest.mark.parametrize("auth", [{"pid": "unknown", "offset": "x"}, {"pid": "unknown"}, {"pid": 5}, {"offset": "abcdefgh.1"}])
    async def test_an_unknown_pid(self, io: Server, auth: dict[str, Any]) -> None:
        async with client(io, auth=auth) as one:
            assert (one.missed, io.sockets[one.sid].recovered) == ([], False)
            assert one.pid != auth.get("pid")

    @pytest.mark.parametrize("offset", ["nonsense", "", "é"])
    async def test_an_offset_that_is_none(self, io: Server, offset: str) -> None:
        async with client(io) as first:
            await lose(io, first)
            async with back(io, first, offset=offset) as again:
                assert (again.sid != first.sid, again.pid != first.pid, io.sockets[again.sid].recovered) == (True, True, False)

    async def test_a_session_is_used_once(self, io: Server) -> None:
        async with client(io) as first:
            await lose(io, first)
            async with back(io, first) as second:
                await lose(io, second)
                async with back(io, second) as third:
                    assert third.sid == first.sid
                    assert len(io.sockets) == 1
                    await third.wire.send("41")
                    await until(lambda: not io.sockets)
                    async with back(io, first) as fourth:
                        assert fourth.sid != first.sid

    async def test_pids_are_of_one_namespace(self, io: Server) -> None:
        io.of("/other")
        async with client(io) as first:
            await lose(io, first)
            async with client(io, "/other", first.auth) as other:
                assert other.sid != first.sid
            async with back(io, first) as again:
                assert again.sid == first.sid

    async def test_more_than_a_connection_may_hold_is_not_sent(self) -> None:
        """Else the client would be closed as a slow consumer each time it comes, and come again."""
        async with Server(connection_state_recovery=True, max_buffer=10_000) as io, client(io) as first, client(io) as second:
            await lose(io, second)
            io.emit("x", "y" * 8_000)
            await lose(io, first)
            async with back(io, second) as again:
                assert (again.sid, len(again.missed)) == (second.sid, 1)
            io.emit("x", "y" * 8_000)
            io.emit("x", "y" * 8_000)
            async with back(io, first) as again:
                assert (again.sid != first.sid, again.missed) == (True, [])

    async def test_without_the_option_nothing_is_kept(self) -> None:
        async with Server() as io, open_fake(io) as wire:
            await wire.send('40{"pid":"x","offset":"y"}')
            assert set((await wire.receive_json())[1]) == {"sid"}
            io.emit("x")
            assert await wire.event() == ["x"]
            assert io.sockets.popitem()[1].handshake.auth == {"pid": "x", "offset": "y"}


RECOVERABLE: dict[Reason, Callable[[Server, FakeWire, Socket], Awaitable[object]]] = {}
UNRECOVERABLE: dict[Reason, Callable[[Server, FakeWire, Socket], Awaitable[object]]] = {}


def ends(table: dict[Reason, Callable[[Server, FakeWire, Socket], Awaitable[object]]], reason: Reason) -> Any:
    """Enter what ends a socket for a reason."""

    def register(function: Callable[[Server, FakeWire, Socket], Awaitable[object]]) -> object:
        table[reason] = function
        return function

    return register


@ends(RECOVERABLE, Reason.TRANSPORT_CLOSE)
async def _(io: Server, wire: FakeWire, socket: Socket) -> None:
    wire.drop()


@ends(RECOVERABLE, Reason.TRANSPORT_ERROR)
async def _(io: Server, wire: FakeWire, socket: Socket) -> None:
    await wire.send("2")  # a ping of an Engine.IO 4 client


@ends(RECOVERABLE, Reason.PING_TIMEOUT)
async def _(io: Server, wire: FakeWire, socket: Socket) -> None:
    socket.conn.lost(Reason.PING_TIMEOUT)


@ends(RECOVERABLE, Reason.FORCED_CLOSE)
async def _(io: Server, wire: FakeWire, socket: Socket) -> None:
    await wire.send("4nonsense")


@ends(RECOVERABLE, Reason.FORCED_SERVER_CLOSE)
async def _(io: Server, wire: FakeWire, socket: Socket) -> None:
    await wire.send("40")  # a second CONNECT


@ends(UNRECOVERABLE, Reason.PARSE_ERROR)
async def _(io: Server, wire: FakeWire, socket: Socket) -> None:
    await wire.send("x")


@ends(UNRECOVERABLE, Reason.CLIENT_NAMESPACE_DISCONNECT)
async def _(io: Server, wire: FakeWire, socket: Socket) -> None:
    await wire.send("41")


@ends(UNRECOVERABLE, Reason.SERVER_NAMESPACE_DISCONNECT)
async def _(io: Server, wire: FakeWire, socket: Socket) -> None:
    socket.disconnect()


class TestReasons:
    @pytest.mark.parametrize("reason", [*RECOVERABLE, *UNRECOVERABLE])
    async def test_which_ends_are_recoverable(self, io: Server, reason: Reason) -> None:
        reasons: list[Reason] = []

        @io.on("disconnect")
        async def disconnect(socket: Socket, why: Reason) -> None:
            reasons.append(why)

        async with client(io) as first:
            await (RECOVERABLE | UNRECOVERABLE)[reason](io, first.wire, io.sockets[first.sid])
            await until(lambda: bool(reasons))
            assert reasons == [reason]
            io.emit("missed")
            async with back(io, first) as again:
                recovered = reason in RECOVERABLE
                assert (again.sid == first.sid, again.missed, io.sockets[again.sid].recovered) == (
                    recovered,
                    [["missed"]] if recovered else [],
                    recovered,
                )

    async def test_disconnecting_the_connection_is_not(self, io: Server) -> None:
        async with client(io) as first:
            io.sockets[first.sid].disconnect(close=True)
            await until(lambda: not io.sockets)
            async with back(io, first) as again:
                assert again.sid != first.sid

    async def test_a_server_that_shuts_down_saves_its_sockets(self) -> None:
        """With an adapter that outlives the process they come back to another one."""
        saved: list[SavedSession] = []

        class Saving(RecoveringAdapter):
            def save_session(self, session: SavedSession) -> None:
                saved.append(session)

        def make(host: AdapterHost) -> RecoveringAdapter:
            return Saving(host, ConnectionStateRecovery())

        io = Server(adapter=make)
        async with io, client(io) as first:
            io.sockets[first.sid].join("room")
            await io.close(0.1)
        assert [(session.sid, session.pid, session.rooms) for session in saved] == [(first.sid, first.pid, {"room"})]

    async def test_a_server_that_started_again_knows_nobody(self) -> None:
        io = Server(connection_state_recovery=True)
        async with io, client(io) as first:
            io.emit("x")
            await first.event()
        async with io, back(io, first) as again:
            assert (again.sid != first.sid, again.missed) == (True, [])
            await lose(io, again)
            io.emit("y")
            async with back(io, again) as third:  # its offset is that of the life before
                assert (third.sid, third.missed) == (again.sid, [["y"]])


class TestHandlers:
    @pytest.mark.parametrize("skip", [True, False])
    async def test_middleware_is_skipped_unless_asked_for(self, skip: bool) -> None:
        ran: list[str] = []
        io = Server(connection_state_recovery=ConnectionStateRecovery(skip_middlewares=skip))

        @io.use
        async def middleware(socket: Socket) -> None:
            ran.append(f"middleware {socket.recovered}")

        @io.on("connect")
        async def connect(socket: Socket) -> None:
            ran.append(f"connect {socket.recovered}")

        async with io, client(io) as first:
            assert ran == ["middleware False", "connect False"]
            await lose(io, first)
            async with back(io, first) as second:
                assert ran[2:] == (["connect True"] if skip else ["middleware True", "connect True"])
                await second.wire.send("41")
                await until(lambda: not io.sockets)
                ran.clear()
                async with back(io, first):
                    assert ran == ["middleware False", "connect False"], "a new session is checked like any other"

    async def test_auth_is_what_the_user_gave(self, io: Server) -> None:
        seen: list[Any] = []

        @io.on("connect")
        async def connect(socket: Socket, auth: Any) -> None:
            seen.append((auth, socket.handshake.auth))

        async with client(io, auth={"token": "t"}) as first:
            await lose(io, first)
            async with back(io, first, token="t") as again:
                await lose(io, again)
            async with back(io, first):
                pass
            async with back(io, first, offset="unknown", token="u"):
                pass
        assert seen == [({"token": "t"},) * 2] * 2 + [(None, None), ({"token": "u"},) * 2]

    async def test_what_the_handlers_see_of_one_client(self, io: Server) -> None:
        told: list[str] = []
        io.on("connect", lambda socket: told.append("connect"))
        io.on("disconnect", lambda socket, reason: told.append(reason))
        async with client(io) as first:
            await lose(io, first)
            async with back(io, first):
                pass
            await until(lambda: len(told) == 4)
        assert told == ["connect", "transport close"] * 2

    async def test_a_catch_all_for_outgoing_events_sees_the_event_with_its_offset(self, io: Server) -> None:
        seen: list[Any] = []
        io.on_any_outgoing(lambda socket, name, *args: seen.append((name, args)))
        async with client(io) as one:
            io.sockets[one.sid].emit("x", 1)
            await one.event()
            await until(lambda: bool(seen))
            assert seen == [("x", (1, one.offset))]


class TestHalfOpen:
    async def test_a_client_that_is_back_before_the_server_saw_it_go(self, io: Server) -> None:
        ended: list[tuple[str, str | None]] = []

        @io.on("disconnect")
        async def disconnect(socket: Socket, reason: Reason, details: str | None) -> None:
            ended.append((reason, details))

        async with client(io) as first:
            socket = io.sockets[first.sid]
            socket.join("room")
            io.emit("seen")
            await first.event()
            first.wire.stall()
            io.to("room").emit("sent into the void")
            await settle()
            async with back(io, first) as again:
                assert (again.sid, again.missed) == (first.sid, [["sent into the void"]])
                assert (socket.connected, socket.reason) == (False, Reason.TRANSPORT_CLOSE)
                assert io.sockets == {first.sid: io.sockets[again.sid]}
                assert "room" in io.sockets[again.sid].rooms
                assert len(io.sessions.connections) == 1
                await until(lambda: bool(ended))
                assert ended == [("transport close", "its client came back on a new connection")]
                io.emit("once")
                assert await again.event() == ["once"]

    async def test_the_late_end_of_the_old_connection_harms_nothing(self, io: Server) -> None:
        async with client(io) as first:
            async with back(io, first) as again:
                first.wire.drop()
                await settle()
                assert io.sockets[again.sid].connected
                await lose(io, again)
                async with back(io, again) as third:
                    assert third.sid == first.sid

    async def test_back_while_an_earlier_attempt_still_connects(self, io: Server) -> None:
        slow = [False]

        @io.on("connect")
        async def connect(socket: Socket) -> None:
            if slow[0]:
                await asyncio.Event().wait()

        async with client(io) as first:
            await lose(io, first)
            io.emit("missed")
            slow[0] = True
            async with open_fake(io) as attempt:
                await attempt.send(f"40{json.dumps(first.auth)}")
                await until(lambda: io.of("/").population == 1)
                slow[0] = False
                async with back(io, first) as again:
                    assert (again.sid, again.missed) == (first.sid, [["missed"]])
                    assert await attempt.until_closed() is not None
        await io.close(0)


class TestNamespaces:
    async def test_each_namespace_of_a_connection_has_its_own(self, io: Server) -> None:
        chat = io.of("/chat")
        async with open_fake(io) as wire:
            both = [Client(wire, "/"), Client(wire, "/chat")]
            for each in both:
                await each.connect()
            assert both[0].pid != both[1].pid
            io.emit("x")
            await both[0].event()
            await lose(io, both[0])
        io.emit("main")
        chat.emit("chat")
        async with open_fake(io) as wire:
            again = [Client(wire, "/"), Client(wire, "/chat")]
            for before, now in zip(both, again, strict=True):
                await now.connect(before.auth)
                assert now.sid == before.sid
            assert [now.missed for now in again] == [[["main"]], [["chat"]]]

    async def test_leaving_one_namespace_is_for_good(self, io: Server) -> None:
        chat = io.of("/chat")
        async with open_fake(io) as wire:
            main, other = Client(wire, "/"), Client(wire, "/chat")
            await main.connect()
            await other.connect()
            await wire.send("41/chat,")
            await until(lambda: not chat.sockets)
            await lose(io, main)
        async with back(io, main) as again:
            assert again.sid == main.sid
        async with back(io, other) as again:
            assert again.sid != other.sid

    @pytest.mark.parametrize("cleanup", [False, True])
    async def test_dynamic_namespaces(self, cleanup: bool) -> None:
        io = Server(connection_state_recovery=True, cleanup_empty_child_namespaces=cleanup)
        parent = io.of(re.compile(r"/game-\d+"))
        async with io, client(io, "/game-1") as first:
            io.of("/game-1").sockets[first.sid].join("room")
            parent.emit("x")
            assert await first.event() == ["x"]
            await lose(io, first)
            parent.emit("missed", 1)
            io.of("/game-1").to("room").emit("missed", 2)
            async with back(io, first) as again:
                assert (again.sid, again.missed) == (first.sid, [["missed", 1], ["missed", 2]])

    async def test_an_empty_dynamic_namespace_goes_when_nobody_can_come_back(self) -> None:
        recovery = ConnectionStateRecovery(max_disconnection_duration=0.02)
        io = Server(connection_state_recovery=recovery, cleanup_empty_child_namespaces=True)
        io.of(re.compile(r"/game-\d+"))
        async with io, client(io, "/game-1") as first:
            await lose(io, first)
            assert "/game-1" in io.namespaces
            await until(lambda: "/game-1" not in io.namespaces)


class TestTransports:
    async def test_polling(self, io: Server) -> None:
        async with serve(io) as url:
            async with open_polling(url) as polling:
                await polling.post("40")
                told = json.loads((await polling.get()).text[2:])
                io.sockets[told["sid"]].join("room")
                await polling.post("1")
                await until(lambda: not io.sockets)
            io.to("room").emit("missed", 1)
            io.to("room").emit("file", b"\x01")
            async with open_polling(url) as polling:
                await polling.post(f"40{json.dumps({'pid': told['pid']})}")
                packets = (await polling.get()).text.split("\x1e")
                assert packets[0].startswith('42["missed",1,"')
                assert packets[1].startswith('451-["file",{"_placeholder":true,"num":0},"')
                assert packets[2:] == ["bAQ==", f"40{json.dumps(told, separators=(',', ':'))}"]

    async def test_what_is_recovered_on_polling_goes_on_after_an_upgrade(self, io: Server) -> None:
        async with serve(io) as url:
            async with open_wire(url) as wire:
                await wire.send("40")
                told = (await wire.receive_json())[1]
            await until(lambda: not io.sockets)
            io.emit("missed")
            async with open_polling(url) as polling:
                await polling.post(f"40{json.dumps({'pid': told['pid']})}")
                assert (await polling.get()).text.split("\x1e")[1] == f"40{json.dumps(told, separators=(',', ':'))}"
                waiting = asyncio.create_task(polling.get())
                async with _upgrade(url, polling.sid) as upgraded:
                    await waiting
                    await upgraded.send("5")
                    await until(lambda: io.sockets[told["sid"]].transport == "websocket")
                    io.emit("on")
                    prefix, data = json.loads(str(await upgraded.recv())[2:]), None
                    assert (prefix[0], data) == ("on", None)
            await until(lambda: not io.sockets)
            io.emit("again")
            async with open_wire(url) as wire:
                await wire.send(f"40{json.dumps({'pid': told['pid'], 'offset': prefix[-1]})}")
                assert (await wire.receive_json())[1][0] == "again"
                assert (await wire.receive_json())[1] == told

    async def test_engine_io_3_has_no_recovery_and_sees_the_offset_as_in_node(self, io: Server) -> None:
        async with open_fake(io, eio=3) as wire:
            assert await wire.receive() == "40"
            io.emit("x", 1)
            name, value, offset = await wire.event()
            assert (name, value, type(offset)) == ("x", 1, str)
            assert not io.of("/").by_pid
        await until(lambda: not io.sockets)
        assert not io.of("/").adapter.awaits_clients
        chat = io.of("/chat")
        async with client(io, "/chat") as first:
            await lose(io, first)
            async with open_fake(io, eio=3) as wire:
                assert await wire.receive() == "40"
                await wire.send(f"40/chat?pid={first.pid},")
                assert await wire.receive() == "40/chat,"
                (socket,) = chat.sockets.values()
                assert (socket.recovered, socket.handshake.auth) == (False, {"pid": first.pid})
                assert chat.adapter.awaits_clients


@asynccontextmanager
async def _upgrade(url: str, sid: str) -> AsyncIterator[Any]:
    """Open the WebSocket of a polling session and probe."""
    from websockets.asyncio.client import connect as open_websocket

    address = f"ws{url.removeprefix('http')}/socket.io/?EIO=4&transport=websocket&sid={sid}"
    async with open_websocket(address, ping_interval=None, proxy=None) as connection:
        await connection.send("2probe")
        assert await connection.recv() == "3probe"
        yield connection


class TestOptions:
    async def test_a_running_server_has_its_adapters_expire(self) -> None:
        recovery = ConnectionStateRecovery(max_disconnection_duration=0.02)
        async with Server(connection_state_recovery=recovery, ping_interval=0.05, ping_timeout=0.05) as io, client(io) as first:
            adapter = io.of("/").adapter
            assert isinstance(adapter, RecoveringAdapter)
            io.emit("x")
            await lose(io, first)
            assert (len(adapter._sent), adapter.awaits_clients) == (1, True)
            await until(lambda: not adapter._sent and not adapter.awaits_clients)

    @pytest.mark.parametrize(
        "options",
        [{"max_disconnection_duration": 0}, {"max_disconnection_duration": float("inf")}, {"max_history": 0}, {"max_sessions": 0}],
    )
    def test_options_that_cannot_work(self, options: dict[str, Any]) -> None:
        with pytest.raises(OptionsError, match=next(iter(options))):
            ConnectionStateRecovery(**options)

    def test_the_defaults_are_those_of_node(self) -> None:
        options = ConnectionStateRecovery()
        assert (options.max_disconnection_duration, options.skip_middlewares) == (120.0, True)
