"""POSTs that bring more than may wait for handlers: no more is taken than there is room for, and nothing is lost or reordered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from mizzen import Reason, Server, Socket
from mizzen.handling import ENTRY
from mizzen.server.connection import Connection
from mizzen.types import Message
from tests.server.fake_wire import multiplexer_of, settle
from tests.support import until
from tests.transports.exchange import Ends, Request, WebSocket, ask, engine_target, handshake, make_scope, nothing_is_left, only_connection

LIMIT = 10 * (ENTRY + 20)
"""Bytes that may wait: about ten events."""


class Full:
    """A server whose only handler of an event `n` waits until it is let through, and a session on polling."""

    def __init__(self, io: Server, target: str) -> None:
        self.io = io
        self.target = target
        self.began: list[int] = []
        self.gate = asyncio.Semaphore(0)
        self.ends = Ends(io)
        self.connection: Connection = only_connection(io)
        io.on("n", self._n)

    async def _n(self, socket: Socket, number: int) -> None:
        self.began.append(number)
        await self.gate.acquire()

    def open(self) -> None:
        """Let every handler through from now on."""
        for _ in range(10_000):
            self.gate.release()

    async def post(self, *packets: str) -> Request:
        """Begin a POST, and wait until what it brings has to wait."""
        post = Request(self.io, "POST", self.target, "\x1e".join(packets).encode())
        await until(lambda: self.connection.paused)
        await settle()
        assert post.sent.empty()
        return post


@asynccontextmanager
async def full() -> AsyncIterator[Full]:
    async with Server(max_handlers=1, max_buffer=LIMIT, close_grace=0.01) as io:
        target = engine_target(sid=(await handshake(io))["sid"])
        await ask(io, "POST", target, b"40")
        await ask(io, "GET", target)
        yield Full(io, target)


def events(count: int) -> list[str]:
    return [f'42["n",{number}]' for number in range(count)]


async def test_a_post_of_tiny_events_takes_no_more_room_than_there_is() -> None:
    async with full() as session:
        post = await session.post(*events(300))
        multiplexer = multiplexer_of(session.io)
        sizes: list[int] = []
        for number in range(300):
            await until(lambda number=number: len(session.began) == number + 1)
            sizes.append(multiplexer.inbox_size)
            session.gate.release()
        assert LIMIT / 2 < max(sizes) <= LIMIT + ENTRY + 20
        answer = await post.answer()
        assert (answer.status, answer.body) == (200, b"ok")
        assert session.began == [*range(300)]
        await until(lambda: not multiplexer.running)
        assert (len(multiplexer.inbox), multiplexer.inbox_size) == (0, 0)


async def test_a_post_is_answered_when_all_of_it_fits_and_not_before() -> None:
    async with full() as session:
        post = await session.post(*events(30))
        multiplexer = multiplexer_of(session.io)
        while post.sent.empty():
            assert session.connection.paused
            session.gate.release()
            await settle()
        assert len(session.began) + len(multiplexer.inbox) == 30
        assert LIMIT / 2 < multiplexer.inbox_size <= LIMIT
        session.open()
        await post.answer()
        await until(lambda: len(session.began) == 30)


async def test_one_packet_that_fills_the_inbox_makes_its_post_wait_too() -> None:
    async with full() as session:
        await ask(session.io, "POST", session.target, "\x1e".join(events(8)).encode())
        post = await session.post(f'42["n",8,"{"x" * LIMIT}"]')
        session.open()
        assert (await post.answer()).status == 200
        await until(lambda: session.began == [*range(9)])


async def test_what_lies_behind_events_that_wait_waits_too() -> None:
    """As on a WebSocket, which is not read meanwhile: here an ack, an event of another namespace, and the end."""
    async with full() as session:
        io, order = session.io, list[str]()
        io.of("/other").on("x", lambda socket: order.append("x"))
        await ask(io, "POST", session.target, b"40/other,")
        await ask(io, "GET", session.target)
        (socket,) = io.sockets.values()

        async def ask_client() -> None:
            order.append(str(await socket.call("ask")))

        call = asyncio.create_task(ask_client())
        assert (await ask(io, "GET", session.target)).body == b'420["ask"]'
        post = await session.post(*events(30), "430[5]", '42/other,["x"]', "1")
        assert not call.done()
        assert order == []
        assert not session.connection.gone
        session.open()
        assert (await post.answer()).status == 200
        await call
        await until(lambda: nothing_is_left(io))
        assert order[0] == "5"
        assert session.began == [*range(len(session.began))]
        assert session.ends.reasons == [Reason.TRANSPORT_CLOSE]


async def test_a_packet_that_breaks_the_protocol_does_so_when_it_is_its_turn() -> None:
    async with full() as session:
        post = await session.post(*events(30), "42nonsense", *events(5))
        assert not session.connection.gone
        session.open()
        assert (await post.answer()).status == 200
        await until(lambda: bool(session.ends.reasons))
        assert session.ends.reasons == [Reason.FORCED_CLOSE]
        assert session.began == [*range(len(session.began))]


@pytest.mark.parametrize(
    "end",
    [
        lambda session: session.connection.lost(Reason.TRANSPORT_ERROR),
        lambda session: session.connection.close(),
        lambda session: [socket.disconnect(close=True) for socket in list(session.io.sockets.values())],
    ],
    ids=["lost", "closed", "disconnected"],
)
async def test_the_session_may_end_meanwhile(end: Callable[[Full], object]) -> None:
    async with full() as session:
        post = await session.post(*events(30))
        end(session)
        assert (await post.answer()).status == 200
        if not session.connection.gone:
            await ask(session.io, "GET", session.target)  # which takes what is left
        session.open()
        await until(lambda: nothing_is_left(session.io))
        assert session.began == [0]


async def test_closing_the_server_meanwhile_answers_the_post() -> None:
    async with full() as session:
        post = await session.post(*events(30))
        await session.io.close(grace=0)
        assert (await post.answer()).status == 200
        assert session.began == [0]
        assert session.ends.reasons == [Reason.SERVER_SHUTTING_DOWN]


async def test_a_client_that_goes_meanwhile_is_noticed_though_all_handlers_wait() -> None:
    async with full() as session:
        post = await session.post(*events(30))
        post.hang_up()
        await post.ended()
        assert post.sent.empty()
        assert session.connection.gone
        session.open()
        await until(lambda: nothing_is_left(session.io))
        assert session.began == [0]
        assert session.ends.reasons == [Reason.TRANSPORT_ERROR]


async def test_a_post_that_the_server_cancels_meanwhile_ends_the_session() -> None:
    """Else the client's next POST would follow a gap."""
    async with full() as session:
        post = await session.post(*events(30))
        post.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await post.task
        assert session.connection.gone
        session.open()
        await until(lambda: nothing_is_left(session.io))
        assert session.began == [0]


async def test_a_second_post_meanwhile_ends_the_session() -> None:
    async with full() as session:
        post = await session.post(*events(30))
        assert (await ask(session.io, "POST", session.target, b"3")).error == (400, 3, "Bad request")
        await post.answer()
        session.open()
        await until(lambda: nothing_is_left(session.io))
        assert session.began == [0]


@pytest.mark.parametrize("fails", [False, True], ids=["gives the body again", "fails"])
async def test_middleware_whose_receive_knows_nothing_of_the_client(fails: bool) -> None:
    """Some reads the body and gives it again, at once, as often as it is asked."""
    async with full() as session:
        body = "\x1e".join(events(30)).encode()
        asked: list[None] = []
        sent: list[Message] = []

        async def receive() -> Message:
            asked.append(None)
            if fails and len(asked) > 1:
                raise RuntimeError("the body has been read")
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        post = asyncio.create_task(session.io(make_scope("http", session.target, None, method="POST"), receive, send))
        await until(lambda: session.connection.paused)
        await settle()
        assert not sent
        session.open()
        await post
        assert sent[0]["status"] == 200
        await until(lambda: session.began == [*range(30)])


async def test_a_client_that_upgrades_meanwhile_is_owed_what_it_posted() -> None:
    """The reference client waits for its POST first."""
    async with full() as session:
        post = await session.post(*events(30))
        websocket = WebSocket(session.io, engine_target(transport="websocket", sid=session.connection.sid))
        await websocket.accepted()
        websocket.send("2probe")
        assert await websocket.receive() == "3probe"
        websocket.send("5")
        await until(lambda: session.connection.transport.name == "websocket")
        multiplexer = multiplexer_of(session.io)
        while post.sent.empty():
            assert multiplexer.inbox_size <= LIMIT + ENTRY + 20
            session.gate.release()
            await settle()
        session.open()
        assert (await post.answer()).status == 200
        await until(lambda: session.began == [*range(30)])
        websocket.close()
        await websocket.ended()


async def test_a_poll_is_answered_meanwhile() -> None:
    async with full() as session:
        post = await session.post(*events(30))
        session.io.emit("x")
        assert (await ask(session.io, "GET", session.target)).body == b'42["x"]'
        session.open()
        await post.answer()


async def test_while_there_is_room_all_packets_of_a_post_are_taken_and_answered_together() -> None:
    async with full() as session:
        for name in "abc":
            session.io.of(name)
        poll = Request(session.io, "GET", session.target)
        await until(lambda: session.connection.transport.writable)
        await ask(session.io, "POST", session.target, b"40/a,\x1e40/b,\x1e40/c,")
        assert [packet[:5] for packet in (await poll.answer()).body.split(b"\x1e")] == [b"40/a,", b"40/b,", b"40/c,"]


async def test_attachments_stay_with_their_event() -> None:
    """The rest of a binary event belongs to what has to be taken before anything else."""
    async with full() as session:
        got: list[bytes] = []
        session.io.on("b", lambda socket, data: got.append(data))
        post = await session.post(*events(30), '451-["b",{"_placeholder":true,"num":0}]', "bAQID", *events(2))
        session.open()
        await post.answer()
        await until(lambda: got == [b"\1\2\3"])
        await until(lambda: session.began == [*range(30), 0, 1])
