"""`socket.conn`: what it says of the connection, and what may be listened to on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mizzen import Reason, Server, Socket
from mizzen.protocol.encoded import Encoded
from mizzen.protocol.engine_packet import EnginePacket
from mizzen.server.connection import Connection
from tests.support import until
from tests.transports.exchange import Peer, ask, engine_target, handshake, only_connection, open_peer
from tests.transports.paths import dial, dial_session


@pytest.fixture
async def io() -> AsyncIterator[Server]:
    async with Server(close_grace=0) as io:
        yield io


Events = list[tuple[Any, ...]]


def heard(connection: Connection, *names: Any) -> Events:
    """Listen to events; give the list that they go to."""
    events: Events = []
    for name in names:
        connection.on(name, lambda *args, name=name: events.append((name, *args)))
    return events


@asynccontextmanager
async def joined(io: Server, carrier: str, eio: int) -> AsyncIterator[tuple[Peer, Connection]]:
    async with open_peer(io, carrier, eio, dial=dial) as peer:
        yield peer, only_connection(io)


@pytest.mark.parametrize("eio", [3, 4])
async def test_it_says_what_the_connection_is(io: Server, path: str, eio: int) -> None:
    async with open_peer(io, "websocket", eio, query="token=x", dial=dial) as peer:
        (socket,) = io.sockets.values()
        conn = socket.conn
        assert conn is socket.conn is only_connection(io)
        assert conn.id == peer.sid
        assert conn.protocol == eio
        assert conn.transport.name == socket.transport == "websocket"
        assert conn.remote_address == "192.0.2.7"
        assert conn.ready_state == "open"
        assert conn.buffered == 0
        assert conn.handshake.query["token"] == "x"
        conn.write(Encoded(b"4" + b"x" * 99))
        assert conn.buffered == 100
    await until(lambda: conn.ready_state == "closed")
    assert conn.buffered == 0


async def test_the_namespaces_of_a_client_share_it(io: Server) -> None:
    io.of("/a")
    async with joined(io, "polling", 4) as (peer, connection):
        peer.send("40/a,")
        await peer.receive()
        (first,), (second,) = io.sockets.values(), io.of("/a").sockets.values()
        assert first.conn is second.conn is connection


async def test_it_is_closing_while_something_is_left(io: Server) -> None:
    sid = (await handshake(io))["sid"]
    connection = only_connection(io)
    connection.close()
    assert connection.ready_state == "closing"
    assert (await ask(io, "GET", engine_target(sid=sid))).body == b"1"
    assert connection.ready_state == "closed"


async def test_closing_it_ends_every_socket_of_the_client(path: str) -> None:
    reasons: list[Reason] = []
    async with Server(close_grace=0) as io:
        io.on("disconnect", _remember(reasons))
        websocket = await dial_session(io)
        connection = only_connection(io)
        events = heard(connection, "close")
        connection.close()
        assert await websocket.until_closed() == 1000
        await until(lambda: reasons == [Reason.FORCED_CLOSE])
        assert events == [("close", Reason.FORCED_CLOSE, None)]
        connection.close()  # once more does nothing


def _remember(reasons: list[Reason]) -> Callable[[Socket, Reason], Awaitable[None]]:
    async def disconnect(socket: Socket, reason: Reason) -> None:
        reasons.append(reason)

    return disconnect


# Events


@pytest.mark.parametrize("carrier", ["polling", "websocket", "upgraded"])
@pytest.mark.parametrize("eio", [3, 4])
async def test_packets_are_told_in_both_directions(io: Server, path: str, carrier: str, eio: int) -> None:
    @io.on("echo")
    async def echo(socket: Socket, data: bytes) -> None:
        socket.emit("echoed", data)

    async with joined(io, carrier, eio) as (peer, connection):
        events = heard(connection, "packet", "packet_create")
        placeholder = '{"_placeholder":true,"num":0}'
        peer.send(f'451-["echo",{placeholder}]', b"\x01\x02")
        await until(lambda: len(events) == 4)
        assert events == [
            ("packet", EnginePacket("message", f'51-["echo",{placeholder}]')),
            ("packet", EnginePacket("message", b"\x01\x02")),
            ("packet_create", EnginePacket("message", f'51-["echoed",{placeholder}]')),
            ("packet_create", EnginePacket("message", b"\x01\x02")),
        ]


async def test_the_heartbeat_of_protocol_4_is_told(path: str) -> None:
    async with Server(close_grace=0, ping_interval=0.01) as io:
        websocket = await dial_session(io)
        events = heard(only_connection(io), "packet", "packet_create", "heartbeat")
        assert await websocket.receive() == "2"
        websocket.send("3")
        await until(lambda: ("heartbeat",) in events)
        assert events[:3] == [("packet_create", EnginePacket("ping")), ("packet", EnginePacket("pong")), ("heartbeat",)]
        websocket.close()


async def test_the_heartbeat_of_protocol_3_is_told(io: Server, path: str) -> None:
    websocket = await dial_session(io, eio=3)
    events = heard(only_connection(io), "packet", "packet_create", "heartbeat")
    websocket.send("2")
    assert await websocket.receive() == "3"
    assert events == [("packet", EnginePacket("ping")), ("heartbeat",), ("packet_create", EnginePacket("pong"))]
    websocket.close()


async def test_what_is_no_packet_is_not_told(io: Server, path: str) -> None:
    websocket = await dial_session(io)
    events = heard(only_connection(io), "packet", "heartbeat", "close")
    websocket.send("?")
    await websocket.until_closed()
    assert [event[0] for event in events] == ["close"]
    assert events[0][1] == Reason.PARSE_ERROR


async def test_the_upgrade_is_told(io: Server, path: str) -> None:
    async with joined(io, "polling", 4) as (peer, connection):
        events = heard(connection, "upgrade")
        connection.on("upgrade", lambda name: events.append((connection.transport.name,)))
        await peer.upgrade()
        await until(lambda: len(events) == 2)
        assert events == [("upgrade", "websocket"), ("websocket",)]


async def test_what_waits_is_told_when_it_has_gone(io: Server, path: str) -> None:
    websocket = await dial_session(io)
    connection = only_connection(io)
    events: list[int] = []
    connection.on("drain", lambda: events.append(connection.unsent))
    io.emit("a")
    io.emit("b")
    assert events == []
    assert [await websocket.receive(), await websocket.receive()] == ['42["a"]', '42["b"]']
    assert events == [0]
    websocket.close()


@pytest.mark.parametrize(("code", "reason"), [(1000, Reason.TRANSPORT_CLOSE), (1006, Reason.TRANSPORT_CLOSE)])
async def test_the_end_is_told_once(io: Server, path: str, code: int, reason: Reason) -> None:
    websocket = await dial_session(io)
    events = heard(only_connection(io), "close")
    websocket.close(code)
    await until(lambda: events)
    assert [event[:2] for event in events] == [("close", reason)]
    assert not io.sessions.connections


async def test_a_listener_may_run_once_or_be_forgotten(io: Server, path: str) -> None:
    websocket = await dial_session(io)
    connection = only_connection(io)
    calls: list[str] = []

    @connection.once("packet")
    def first(packet: EnginePacket) -> None:
        calls.append("once")

    @connection.on("packet")
    def each(packet: EnginePacket) -> None:
        calls.append("each")

    connection.on("packet", first)
    connection.off("packet", each)
    connection.off("packet", each)  # it is ignored
    connection.off("drain")
    for _ in range(2):
        websocket.send('42["x"]')
    await until(lambda: len(calls) == 3)
    assert calls == ["once", "once", "once"]  # the first registration once, the second one each time
    connection.off("packet")
    websocket.send('42["x"]')
    websocket.send('42["y"]')
    websocket.close()
    await until(lambda: connection.ready_state == "closed")
    assert len(calls) == 3


async def test_a_listener_that_fails_is_logged_and_breaks_nothing(io: Server, path: str, caplog: pytest.LogCaptureFixture) -> None:
    websocket = await dial_session(io)
    connection = only_connection(io)

    def fails(*args: object) -> None:
        raise RuntimeError("in a listener")

    for name in ("packet", "packet_create", "drain", "close"):
        connection.on(name, fails)
    events = heard(connection, "close")
    io.emit("still")
    assert await websocket.receive() == '42["still"]'
    websocket.send('42["x"]')
    websocket.close()
    await until(lambda: events)
    assert caplog.text.count("RuntimeError: in a listener") == 4


@pytest.mark.parametrize("event", ["packet", "packet_create", "drain", "heartbeat"])
async def test_a_listener_may_end_the_connection(path: str, event: Any) -> None:
    reasons: list[Reason] = []
    async with Server(close_grace=0, ping_interval=0.01) as io:
        io.on("disconnect", _remember(reasons))
        websocket = await dial_session(io)
        connection = only_connection(io)
        connection.on(event, lambda *args: connection.lost(Reason.FORCED_CLOSE))
        io.emit("x")
        websocket.send("3")
        await until(lambda: reasons)
        assert reasons == [Reason.FORCED_CLOSE]
        assert not io.sessions.connections
        websocket.close()
        await websocket.ended()


async def test_a_listener_may_end_a_connection_in_the_middle_of_a_broadcast(io: Server, path: str) -> None:
    websockets = [await dial_session(io) for _ in range(3)]
    for connection in list(io.sessions.connections.values())[:2]:
        connection.on("packet_create", lambda packet, connection=connection: connection.lost(Reason.FORCED_CLOSE))
    io.emit("x")
    assert await websockets[2].receive() == '42["x"]'
    await until(lambda: len(io.sockets) == 1)
    for websocket in websockets:
        websocket.close()


async def test_what_cannot_listen_is_refused(io: Server) -> None:
    async with joined(io, "polling", 4) as (_, connection):
        unknown: Any = "data"
        with pytest.raises(ValueError, match="no event 'data': expected one of close, drain, heartbeat"):
            connection.on(unknown)
        with pytest.raises(TypeError, match="expected a plain function"):
            connection.on("close", asyncio.sleep)
        nothing: Any = "x"
        with pytest.raises(TypeError, match="expected a plain function"):
            connection.on("close", nothing)


# The packet that every client gets first


@pytest.mark.parametrize(("packet", "expected"), [("hello é", "4hello é"), (b"\x01\x02", b"\x01\x02")])
async def test_the_initial_packet_follows_the_open_packet(path: str, packet: str | bytes, expected: str | bytes) -> None:
    async with Server(close_grace=0, initial_packet=packet) as io:
        websocket = dial(io, engine_target(transport="websocket"))
        await websocket.accepted()
        opened = await websocket.receive()
        assert isinstance(opened, str)
        assert opened.startswith("0{")
        assert await websocket.receive() == expected
        websocket.send("40")
        joined = await websocket.receive()
        assert isinstance(joined, str)
        assert joined.startswith("40{")
        websocket.close()


@pytest.mark.parametrize(("eio", "expected"), [(4, b"}\x1e4hello"), (3, b"}6:4hello2:40")])
async def test_a_poll_gets_it_with_the_open_packet(eio: int, expected: bytes) -> None:
    async with Server(close_grace=0, initial_packet="hello") as io:
        answer = await ask(io, "GET", engine_target(eio=eio))
        assert answer.body.endswith(expected)


@pytest.mark.parametrize("carrier", ["polling", "websocket"])
async def test_a_connection_may_be_closed_as_soon_as_it_is_told(path: str, carrier: str) -> None:
    sockets: list[Socket] = []
    async with Server(close_grace=0) as io:
        io.on("connect", _keep(sockets))
        io.engine.on_connection(lambda connection: connection.close())
        if carrier == "polling":
            answer = await ask(io, "GET", engine_target(eio=3))
            assert answer.body.endswith(b"1:1")
        else:
            websocket = dial(io, engine_target(transport="websocket", eio=3))
            await websocket.accepted()
            assert await websocket.until_closed() == 1000
        assert not io.sessions.connections
        assert sockets == []


def _keep(sockets: list[Socket]) -> Callable[[Socket], Awaitable[None]]:
    async def connect(socket: Socket) -> None:
        sockets.append(socket)

    return connect


async def test_a_connection_may_be_closed_by_its_upgrade(path: str) -> None:
    reasons: list[Reason] = []
    async with Server(close_grace=0) as io:
        io.on("disconnect", _remember(reasons))
        async with joined(io, "polling", 4) as (peer, connection):
            connection.on("upgrade", lambda name: connection.close())
            await peer.upgrade()
            async with asyncio.timeout(5):
                await peer.closed.wait()
        assert not io.sessions.connections
        await until(lambda: reasons == [Reason.FORCED_CLOSE])
