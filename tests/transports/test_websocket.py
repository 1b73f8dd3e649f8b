"""Sessions on WebSocket, by ASGI events and on the native path: messages, limits, and the reason that each end is told with."""

from __future__ import annotations

import asyncio
import json

import pytest

from mizzen import Reason, Server, Socket
from tests.support import join, open_wire, serve, until
from tests.transports.exchange import Ends, WebSocket, engine_target, nothing_is_left, only_connection
from tests.transports.paths import PATH, Stuck, dial, dial_session
from tests.transports.wire import NativeWebSocket

BINARY_EVENT = '451-["b",{"_placeholder":true,"num":0}]'


pytestmark = pytest.mark.usefixtures("path")

by_asgi_events = pytest.mark.parametrize("path", ["asgi"], indirect=True)
"""For what only an ASGI server can do."""


async def leave(io: Server, websocket: WebSocket) -> None:
    """Close from the client's side and see that nothing is left."""
    websocket.close(1000)
    await websocket.ended()
    await until(lambda: nothing_is_left(io))


@pytest.mark.parametrize(
    ("eio", "query", "wire"),
    [(4, "", b"\x01\x02\x04"), (3, "", b"\x04\x01\x02\x04"), (4, "b64=1", "bAQIE"), (3, "b64=1", "b4AQIE")],
)
async def test_binary_travels_in_the_form_of_the_protocol_both_ways(eio: int, query: str, wire: str | bytes) -> None:
    async with Server() as io:
        seen: list[object] = []
        io.on("b", lambda socket, data: seen.append(data))
        websocket = await dial_session(io, query, eio=eio)
        io.emit("b", b"\x01\x02\x04")
        assert await websocket.receive() == BINARY_EVENT
        assert await websocket.receive() == wire
        websocket.send(BINARY_EVENT)
        websocket.send(wire)
        await until(lambda: seen == [b"\x01\x02\x04"])
        await leave(io, websocket)


@pytest.mark.parametrize("eio", [3, 4])
async def test_an_empty_attachment_arrives(eio: int) -> None:
    async with Server() as io:
        seen: list[object] = []
        io.on("b", lambda socket, data: seen.append(data))
        websocket = await dial_session(io, eio=eio)
        websocket.send(BINARY_EVENT)
        websocket.send(b"\x04" if eio == 3 else b"")
        await until(lambda: seen == [b""])
        await leave(io, websocket)


async def test_the_attachments_of_a_packet_follow_it_with_nothing_between() -> None:
    async with Server() as io:
        websocket = await dial_session(io)
        for number in range(20):
            io.emit("b", bytes([number]))
            io.emit("t", number)
        for number in range(20):
            assert await websocket.receive() == BINARY_EVENT
            assert await websocket.receive() == bytes([number])
            assert await websocket.receive() == f'42["t",{number}]'
        await leave(io, websocket)


@pytest.mark.parametrize(
    ("message", "fits"),
    [
        ('42["x","' + "a" * 90 + '"]', True),
        ('42["x","' + "a" * 91 + '"]', False),
        ('42["x","' + "é" * 45 + '"]', True),
        ('42["x","' + "é" * 45 + 'a"]', False),
        ('42["x","' + "🍰" * 22 + 'aa"]', True),
        ('42["x","' + "🍰" * 23 + '"]', False),
        (b"a" * 101, False),
        ("x" * 101, False),
    ],
)
async def test_a_message_of_more_than_max_payload_bytes_ends_the_session_with_1009(message: str | bytes, fits: bool) -> None:
    async with Server(max_payload=100) as io:
        ends = Ends(io)
        seen: list[object] = []
        io.on("x", lambda socket, text: seen.append(text))
        websocket = await dial_session(io)
        websocket.send(message)
        if fits:
            await until(lambda: bool(seen))
            await leave(io, websocket)
        else:
            assert await websocket.until_closed() == 1009
            await until(lambda: nothing_is_left(io))
            assert ends.reasons == [Reason.TRANSPORT_ERROR]
            assert seen == []


async def test_with_engine_io_3_the_type_byte_does_not_count_as_payload() -> None:
    async with Server(max_payload=100) as io:
        seen: list[bytes] = []
        io.on("b", lambda socket, data: seen.append(data))
        websocket = await dial_session(io, eio=3)
        websocket.send(BINARY_EVENT)
        websocket.send(b"\x04" + b"a" * 100)
        await until(lambda: seen == [b"a" * 100])
        await leave(io, websocket)


BAD_INPUT: list[tuple[int, str | bytes, Reason]] = [
    (4, "x", Reason.PARSE_ERROR),
    (4, "", Reason.PARSE_ERROR),
    (4, "7", Reason.PARSE_ERROR),
    (4, "\u0664", Reason.PARSE_ERROR),  # a digit, but not one of Engine.IO's
    (4, "\x1e4", Reason.PARSE_ERROR),
    (4, "b!!!!", Reason.PARSE_ERROR),
    (4, "0{}", Reason.PARSE_ERROR),
    (4, "2", Reason.TRANSPORT_ERROR),
    (4, "2probe", Reason.TRANSPORT_ERROR),
    (4, "5", Reason.TRANSPORT_ERROR),
    (3, "3", Reason.TRANSPORT_ERROR),
    (3, b"", Reason.PARSE_ERROR),
    (3, b"\x05abc", Reason.PARSE_ERROR),
    (3, b"4abc", Reason.PARSE_ERROR),
    (4, "4", Reason.FORCED_CLOSE),
    (4, "4x", Reason.FORCED_CLOSE),
    (4, "42", Reason.FORCED_CLOSE),
    (4, "42{}", Reason.FORCED_CLOSE),
    (4, '42["a"', Reason.FORCED_CLOSE),
    (4, '42["connect"]', Reason.FORCED_CLOSE),
    (4, '45-["a"]', Reason.FORCED_CLOSE),
    (4, b"attachment of nothing", Reason.FORCED_CLOSE),
    (3, b"\x04attachment of nothing", Reason.FORCED_CLOSE),
    (4, '42/other,["a"]', Reason.FORCED_SERVER_CLOSE),
    (4, "40", Reason.FORCED_SERVER_CLOSE),
    (4, '44{"message":"x"}', Reason.FORCED_SERVER_CLOSE),
]


@pytest.mark.parametrize(("eio", "message", "reason"), BAD_INPUT)
async def test_bad_input_ends_its_session_with_the_reason_and_touches_no_other(eio: int, message: str | bytes, reason: Reason) -> None:
    async with Server() as io:
        ends = Ends(io)
        good = await dial_session(io)
        bad = await dial_session(io, eio=eio)
        bad.send(message)
        assert await bad.until_closed() in (1000, 1005)
        await until(lambda: len(io.sockets) == 1)
        assert ends.reasons == [reason]
        io.emit("still here")
        assert await good.receive() == '42["still here"]'
        await leave(io, good)


async def test_a_close_packet_closes_at_once() -> None:
    async with Server() as io:
        ends = Ends(io)
        websocket = await dial_session(io)
        websocket.send("1")
        assert await websocket.until_closed() == 1000
        await until(lambda: nothing_is_left(io))
        assert ends.reasons == [Reason.TRANSPORT_CLOSE]


@pytest.mark.parametrize("late", ["1", "2", "3", "5", "x", "42{", '42["late"]', b"late", "41", ""])
async def test_what_comes_after_a_close_packet_is_nothing(late: str | bytes) -> None:
    async with Server() as io:
        ends = Ends(io)
        calls: list[str] = []
        io.on("late", lambda socket: calls.append("late"))
        websocket = await dial_session(io)
        websocket.send("1")
        websocket.send(late)
        assert await websocket.until_closed() == 1000
        await until(lambda: nothing_is_left(io))
        assert ends.reasons == [Reason.TRANSPORT_CLOSE]
        assert calls == []


@pytest.mark.parametrize("late", ["1", "2", "3", "5", "x", "42{", '42["late"]', b"late", "41", ""])
@pytest.mark.parametrize("eio", [3, 4])
async def test_what_comes_after_the_server_has_ended_it_is_nothing(late: str | bytes, eio: int) -> None:
    async with Server() as io:
        ends = Ends(io)
        websocket = await dial_session(io, eio=eio)
        (socket,) = io.sockets.values()
        websocket.send(late)  # on its way when the server decides
        socket.disconnect(close=True)
        websocket.send(late)
        assert await websocket.until_closed() in (1000, 1005)
        await until(lambda: nothing_is_left(io))
        assert len(ends.reasons) == 1


@by_asgi_events
async def test_a_peer_that_vanishes_while_something_is_sent_ends_quietly(caplog: pytest.LogCaptureFixture) -> None:
    async with Server() as io:
        ends = Ends(io)
        websocket = await dial_session(io)
        websocket.gone = True  # `send` raises before `receive` tells of the end
        io.emit("a")
        io.emit("b")
        await asyncio.wait({websocket.task})
        await until(lambda: nothing_is_left(io))
        assert ends.reasons == [Reason.TRANSPORT_CLOSE]
        assert not websocket.task.cancelled()
        assert websocket.task.exception() is None
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


async def test_a_peer_that_vanishes_before_the_open_packet_ends_quietly() -> None:
    async with Server() as io:
        websocket = dial(io, engine_target(transport="websocket"))
        await websocket.accepted()
        websocket.close(1006)
        await asyncio.wait({websocket.task})
        await until(lambda: nothing_is_left(io))
        assert not websocket.task.cancelled()
        assert websocket.task.exception() is None


@by_asgi_events
async def test_a_connection_that_the_asgi_server_cancels_is_over() -> None:
    async with Server() as io:
        ends = Ends(io)
        websocket = await dial_session(io)
        websocket.task.cancel()
        await asyncio.wait({websocket.task})
        assert websocket.task.cancelled()
        await until(lambda: nothing_is_left(io))
        assert ends.reasons == [Reason.TRANSPORT_CLOSE]


async def open_stuck(io: Server) -> Stuck | NativeWebSocket:
    """Open a WebSocket that has joined, and then no longer reads."""
    websocket = await dial_session(io)
    websocket.stop_reading()
    return websocket


async def test_a_client_that_does_not_read_is_given_up_when_more_than_max_buffer_waits() -> None:
    async with Server(max_buffer=1000) as io:
        ends = Ends(io)
        websocket = await open_stuck(io)
        io.emit("first", "a" * 5000)  # one whole message always fits
        await until(lambda: only_connection(io).transport.sending)
        assert not only_connection(io).gone
        io.emit("second", "a" * 900)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not only_connection(io).gone
        io.emit("third", "a" * 900)
        io.emit("fourth", "a" * 900)
        await until(lambda: nothing_is_left(io))
        assert ends.reasons == [Reason.TRANSPORT_ERROR]
        await asyncio.wait({websocket.task})
        assert not websocket.task.cancelled()
        assert websocket.task.exception() is None


async def test_closing_the_server_gives_up_a_client_that_does_not_read() -> None:
    io = Server()
    ends = Ends(io)
    io.start()
    websocket = await open_stuck(io)
    io.emit("a")
    await until(lambda: only_connection(io).transport.sending)
    await io.close(grace=0.02)
    assert ends.reasons == [Reason.SERVER_SHUTTING_DOWN]
    assert nothing_is_left(io)
    await asyncio.wait({websocket.task})
    assert websocket.task.exception() is None


async def test_a_volatile_packet_is_dropped_while_a_send_has_not_returned() -> None:
    async with Server() as io:
        websocket = await open_stuck(io)
        io.volatile.emit("one")
        io.volatile.emit("of the same turn")
        await until(lambda: only_connection(io).transport.sending)
        io.volatile.emit("dropped")
        io.emit("kept")
        websocket.read_on()
        for name in ("one", "of the same turn", "kept"):
            assert await websocket.receive() == f'42["{name}"]'
        await leave(io, websocket)


# Over a real connection: what each way to end looks like to the handler


async def test_the_client_closes() -> None:
    io = Server()
    ends = Ends(io)
    async with serve(io, native=PATH.native) as url:
        async with join(url) as (wire, _):
            await wire.connection.close()
        await until(lambda: nothing_is_left(io))
        assert ends.reasons == [Reason.TRANSPORT_CLOSE]


async def test_the_connection_breaks() -> None:
    io = Server()
    ends = Ends(io)
    async with serve(io, native=PATH.native) as url, join(url) as (wire, _):
        wire.connection.transport.abort()
        await until(lambda: nothing_is_left(io))
        assert ends.reasons == [Reason.TRANSPORT_CLOSE]


async def test_the_client_says_that_it_closes() -> None:
    io = Server()
    ends = Ends(io)
    async with serve(io, native=PATH.native) as url, join(url) as (wire, _):
        await wire.send("1")
        assert await wire.until_closed() == 1000
        await until(lambda: nothing_is_left(io))
        assert ends.reasons == [Reason.TRANSPORT_CLOSE]


async def test_the_client_leaves_the_namespace_and_the_connection_lives_on() -> None:
    io = Server()
    ends = Ends(io)
    async with serve(io, native=PATH.native) as url, join(url) as (wire, _):
        await wire.send("41")
        await until(lambda: ends.reasons == [Reason.CLIENT_NAMESPACE_DISCONNECT])
        assert not only_connection(io).gone
        await wire.send("40")
        assert (await wire.receive_json())[0] == "40"


async def test_a_client_that_answers_no_ping_times_out() -> None:
    io = Server(ping_interval=0.01, ping_timeout=0.02)
    ends = Ends(io)
    async with serve(io, native=PATH.native) as url, open_wire(url) as wire:
        await wire.connection.send("40")
        await until(lambda: ends.reasons == [Reason.PING_TIMEOUT])
        assert await wire.until_closed() in (1000, 1005)
        await until(lambda: nothing_is_left(io))


async def test_a_client_of_engine_io_3_that_sends_no_ping_times_out() -> None:
    io = Server(ping_interval=0.01, ping_timeout=0.02)
    ends = Ends(io)
    async with serve(io, native=PATH.native) as url, open_wire(url, eio=3) as wire:
        await until(lambda: ends.reasons == [Reason.PING_TIMEOUT])
        await wire.until_closed()
        await until(lambda: nothing_is_left(io))


async def test_a_malformed_packet() -> None:
    io = Server()
    ends = Ends(io)
    async with serve(io, native=PATH.native) as url:
        async with join(url) as (wire, _):
            await wire.send("x")
            await wire.until_closed()
        async with join(url) as (wire, _):
            await wire.send("42{")
            await wire.until_closed()
        await until(lambda: nothing_is_left(io))
        assert ends.reasons == [Reason.PARSE_ERROR, Reason.FORCED_CLOSE]


async def test_the_server_disconnects_a_socket_and_keeps_or_closes_its_connection() -> None:
    io = Server()
    ends = Ends(io)
    async with serve(io, native=PATH.native) as url, join(url) as (wire, id):
        io.sockets[id].disconnect()
        assert await wire.receive() == "41"
        await until(lambda: ends.reasons == [Reason.SERVER_NAMESPACE_DISCONNECT])
        await wire.send("40")
        id = (await wire.receive_json())[1]["sid"]
        io.sockets[id].disconnect(close=True)
        assert await wire.receive() == "41"
        assert await wire.until_closed() == 1000
        assert ends.reasons == [Reason.SERVER_NAMESPACE_DISCONNECT] * 2


async def test_the_server_closes_and_what_was_emitted_before_still_arrives() -> None:
    io = Server()
    ends = Ends(io)
    async with serve(io, native=PATH.native) as url, join(url) as (wire, _):
        io.emit("last", "a" * 100_000)
        await io.close()
        assert ends.reasons == [Reason.SERVER_SHUTTING_DOWN]
        name, _ = await wire.receive_json()
        assert name == "42"
        assert await wire.until_closed() == 1000
        assert nothing_is_left(io)


async def test_a_disconnect_handler_is_told_details() -> None:
    io = Server(max_payload=100)
    told: list[tuple[Reason, str | None]] = []

    async def disconnect(socket: Socket, reason: Reason, details: str | None) -> None:
        told.append((reason, details))

    io.on("disconnect", disconnect)
    async with serve(io, native=PATH.native) as url, join(url) as (wire, _):
        await wire.send("a" * 101)
        assert await wire.until_closed() == 1009
        await until(lambda: bool(told))
        ((reason, details),) = told
        assert reason == Reason.TRANSPORT_ERROR
        assert details
        assert "max_payload" in details


async def test_a_client_that_joins_nothing_is_closed_in_time() -> None:
    io = Server(connect_timeout=0.02, ping_interval=5)
    async with serve(io, native=PATH.native) as url, open_wire(url) as wire:
        assert await wire.until_closed() == 1000
        await until(lambda: nothing_is_left(io))


async def test_a_client_that_has_joined_once_is_not_bothered_by_the_connect_timeout() -> None:
    io = Server(connect_timeout=0.02)
    async with serve(io, native=PATH.native) as url, join(url) as (wire, _):
        await until(lambda: len(io.unconnected) == 0)
        await wire.send('4299["x"]')
        assert not only_connection(io).gone


async def test_a_heartbeat_keeps_a_session_of_each_protocol_alive() -> None:
    io = Server(ping_interval=0.01, ping_timeout=5)
    async with serve(io, native=PATH.native) as url:
        async with open_wire(url) as wire:
            for _ in range(3):
                assert await wire.connection.recv() == "2"
                await wire.connection.send("3")
        async with open_wire(url, eio=3) as wire:
            assert await wire.receive() == "40"
            for _ in range(3):
                await wire.send("2")
                assert await wire.receive() == "3"


async def test_the_open_packet_comes_first_and_names_the_session() -> None:
    async with Server() as io:
        websocket = dial(io, engine_target(transport="websocket"))
        await websocket.accepted()
        opened = await websocket.receive()
        assert isinstance(opened, str)
        assert json.loads(opened[1:])["sid"] == only_connection(io).sid
        await leave(io, websocket)
