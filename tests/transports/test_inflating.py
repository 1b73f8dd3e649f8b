"""Compressed messages that inflate to much: no more of one read is taken than there is room for, and nothing is lost or reordered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import connect as open_websocket

from mizzen import Reason, Server, Socket
from mizzen.handling import ENTRY
from mizzen.protocol.websocket import deflate
from mizzen.server.connection import Connection
from mizzen.transports.native import WIRE
from mizzen.types import Receive, Scope, Send
from tests.server.fake_wire import multiplexer_of, settle
from tests.support import Wire, serve, until
from tests.transports.exchange import Ends, ask, engine_target, handshake, nothing_is_left, only_connection
from tests.transports.wire import NativeWebSocket, client_frame

OFFER = {"sec-websocket-extensions": "permessage-deflate"}
TEXT = "a" * 10_000
PAYLOAD, BUFFER = 50_000, 200_000
ROOM = BUFFER + PAYLOAD + 2 * (len(TEXT) + ENTRY + 100) + ENTRY * (PAYLOAD // len(TEXT))
"""What may wait at most: `max_buffer`, and what is inflated at once, which is `max_payload` and a message more."""


def events(count: int, first: int = 0) -> bytes:
    """Give the frames of events `n`, each of which inflates to more than a hundred times its size."""
    return b"".join(client_frame(1, deflate(f'42["n",{number},"{TEXT}"]'.encode()), rsv1=True) for number in range(first, first + count))


class Full:
    """A server whose handler of an event `n` waits until it is let through, and notes how much waits besides."""

    def __init__(self) -> None:
        self.io = Server(per_message_deflate=True, max_payload=PAYLOAD, max_buffer=BUFFER, max_handlers=2, close_grace=0.01)
        self.ends = Ends(self.io)
        self.began: list[int] = []
        self.most = 0
        self.gate = asyncio.Event()
        self.io.on("n", self._n)

    async def _n(self, socket: Socket, number: int, text: str) -> None:
        self.began.append(number)
        self.measure()
        await self.gate.wait()

    def measure(self) -> None:
        if self.io.sessions.connections:
            self.most = max(self.most, multiplexer_of(self.io).inbox_size)

    @property
    def connection(self) -> Connection:
        return only_connection(self.io)

    async def filled(self) -> None:
        """Wait until no more is read."""
        await until(lambda: self.connection.paused)
        await settle()
        self.measure()
        assert BUFFER < self.most <= ROOM


@asynccontextmanager
async def full(eio: int = 4) -> AsyncIterator[tuple[Full, NativeWebSocket]]:
    """Give a session by a WebSocket without a network."""
    server = Full()
    async with server.io as io:
        websocket = NativeWebSocket(io, engine_target(transport="websocket", eio=eio), OFFER)
        await websocket.accepted()
        await websocket.frame()
        if eio == 4:
            websocket.send("40")
        await websocket.frame()
        yield server, websocket


async def test_a_client_that_sends_a_bomb_of_small_messages_makes_no_more_wait_than_may() -> None:
    server = Full()
    count = 3_000  # 30 MB, which come in about 150 KB
    async with serve(server.io, native=True) as url:
        address = f"ws{url.removeprefix('http')}{engine_target(transport='websocket')}"
        async with open_websocket(address, proxy=None, compression="deflate") as connection:
            wire = Wire(connection)
            await wire.receive()
            await wire.send("40")
            await wire.receive()
            bomb = events(count)
            assert len(bomb) < 256 * 1024
            connection.transport.write(bomb)
            pong = asyncio.ensure_future(await connection.ping())
            await server.filled()
            assert not pong.done()
            server.gate.set()
            await until(lambda: len(server.began) == count)
            assert server.began == [*range(count)]
            assert BUFFER < server.most <= ROOM
            await pong
            multiplexer = multiplexer_of(server.io)
            await until(lambda: not multiplexer.running)
            assert (len(multiplexer.inbox), multiplexer.inbox_size, server.connection.paused) == (0, 0, False)
            await wire.send('42["n",-1,""]')  # and it is read on
            await until(lambda: server.began[-1] == -1)


@pytest.mark.parametrize("eio", [3, 4])
async def test_what_is_left_is_read_on_in_order_before_what_comes_later(eio: int) -> None:
    async with full(eio) as (server, websocket):
        websocket.pipe.feed(events(100) + client_frame(9, b"here"))
        websocket.pipe.feed(events(100, 100))
        await server.filled()
        assert len(websocket.pipe.incoming) == 1
        assert not websocket.pipe.written
        server.gate.set()
        assert await websocket.frame() == (0x8A, b"here")
        await until(lambda: len(server.began) == 200)
        assert server.began == [*range(200)]
        assert server.most <= ROOM
        websocket.close(1006)


async def test_a_session_that_pauses_again_at_once_takes_nothing() -> None:
    async with full() as (server, websocket):
        websocket.pipe.feed(events(100))
        await server.filled()
        waits = len(multiplexer_of(server.io).inbox)
        server.connection.resume()
        server.connection.pause()
        await settle()
        assert len(multiplexer_of(server.io).inbox) == waits
        assert not websocket.pipe.reading
        server.gate.set()
        await until(lambda: server.began == [*range(100)])
        await until(lambda: websocket.pipe.reading)
        websocket.close(1006)


@pytest.mark.parametrize(
    ("last", "code", "reason"),
    [(client_frame(8, b"\x0f\xa1"), 4001, Reason.TRANSPORT_CLOSE), (client_frame(3, b""), 1002, Reason.TRANSPORT_ERROR)],
    ids=["Close frame", "broken"],
)
async def test_the_end_of_what_is_left_is_the_end_when_it_is_its_turn(last: bytes, code: int, reason: Reason) -> None:
    async with full() as (server, websocket):
        websocket.pipe.feed(events(100) + last)
        await server.filled()
        assert server.ends.reasons == []
        server.gate.set()
        assert await websocket.until_closed() == code
        await websocket.ended()
        await until(lambda: nothing_is_left(server.io))
        assert server.ends.reasons == [reason]
        assert server.began == [*range(len(server.began))]
        assert len(server.began) > 50


async def test_what_is_left_of_a_connection_that_is_lost_is_not_read_any_more() -> None:
    """As what waits in the inbox, and as what is not compressed, which waits in the system's buffer."""
    async with full() as (server, websocket):
        websocket.pipe.feed(events(100) + client_frame(9, b"here"))
        await server.filled()
        before = len(server.began)
        server.connection.resume()  # it is about to be read on
        websocket.pipe.lose(ConnectionResetError())
        server.gate.set()
        await until(lambda: nothing_is_left(server.io))
        await settle()
        assert len(server.began) == before
        assert server.ends.reasons == [Reason.TRANSPORT_CLOSE]
        assert not websocket.pipe.written


@pytest.mark.parametrize("end", ["close", "lost"])
async def test_a_server_that_closes_finds_the_close_frame_behind_what_is_left(end: str) -> None:
    async with full() as (server, websocket):
        websocket.pipe.feed(events(100))
        await server.filled()
        before = len(server.began)
        if end == "close":
            server.connection.close()
        else:
            server.connection.lost(Reason.TRANSPORT_ERROR)
        websocket.close(1000)
        assert await websocket.until_closed() == 1000
        await websocket.ended()
        assert websocket.protocol.codec.close_code == 1000, "it was cut off"
        server.gate.set()
        await until(lambda: nothing_is_left(server.io))
        assert len(server.began) == before


async def probing(server: Full) -> NativeWebSocket:
    """Open a session on polling, and a WebSocket that it may move to."""
    sid = (await handshake(server.io))["sid"]
    target = engine_target(sid=sid)
    await ask(server.io, "POST", target, b"40")
    await ask(server.io, "GET", target)
    websocket = NativeWebSocket(server.io, engine_target(transport="websocket", sid=sid), OFFER)
    await websocket.accepted()
    return websocket


async def test_a_bomb_together_with_the_upgrade_is_read_on_too() -> None:
    server = Full()
    async with server.io:
        websocket = await probing(server)
        websocket.pipe.feed(client_frame(1, b"2probe"))
        assert await websocket.receive() == "3probe"
        websocket.pipe.feed(client_frame(1, b"5") + events(100))
        websocket.pipe.feed(events(100, 100))
        await server.filled()
        server.gate.set()
        await until(lambda: len(server.began) == 200)
        assert server.began == [*range(200)]
        websocket.close(1006)


async def test_a_websocket_that_asks_for_an_upgrade_and_sends_a_bomb_holds_little() -> None:
    server = Full()
    async with server.io:
        websocket = await probing(server)
        websocket.pipe.feed(events(100) + client_frame(8, b"\x0f\xa1"))
        protocol = websocket.protocol
        most = 0
        while not websocket.pipe.closed.is_set():
            most = max(most, sum(len(event.get("text", "")) for event in protocol._events))
            await asyncio.sleep(0)
        assert 0 < most <= PAYLOAD + 2 * len(TEXT)
        # The probe failed, so the server closes; the client's Close frame lies behind what nobody takes.
        assert await websocket.until_closed() == 1000
        await websocket.ended()
        assert server.began == []


async def test_who_takes_the_events_of_a_websocket_gets_all_of_them_in_order() -> None:
    """As the endpoint does until the session has the WebSocket."""
    texts: list[str] = []
    most = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal most
        wire = scope["extensions"][WIRE]
        await receive()
        await send({"type": "websocket.accept", "headers": wire.deflate("permessage-deflate")})
        wire.codec.max_size = PAYLOAD
        while (event := await receive())["type"] == "websocket.receive":
            texts.append(event["text"])
            most = max(most, len(wire._events))
            await asyncio.sleep(0)

    websocket = NativeWebSocket(app, "/")
    await websocket.accepted()
    websocket.pipe.feed(events(100))
    websocket.send("later")
    websocket.close(4001)
    assert await websocket.until_closed() == 4001
    await websocket.ended()
    assert texts == [*[f'42["n",{number},"{TEXT}"]' for number in range(100)], "later"]
    assert most == PAYLOAD // len(TEXT)
