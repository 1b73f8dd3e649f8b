"""Ten thousand connections are opened, abused and dropped, and nothing of them is left."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import struct
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import pytest

from mizzen import JSON, ConnectRefused, Server, Socket
from mizzen.ports import Target
from mizzen.server.connection import Connection
from mizzen.server.deadlines import Deadlines
from mizzen.server.multiplexer import Multiplexer
from mizzen.types import Receive, Scope, Send
from tests.support import join, serve, until

CONNECTIONS = 10_000
AT_ONCE = 100

Abuse = Callable[["Peer"], Awaitable[None]]
ABUSES: list[Abuse] = []


def abuse(function: Abuse) -> Abuse:
    """Add one way to behave badly."""
    ABUSES.append(function)
    return function


class Peer:
    """A bare TCP client of one connection, which may be dropped at any point."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.opened: list[asyncio.StreamWriter] = []

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        self.opened.append(writer)
        return reader, writer

    def drop(self) -> None:
        """Cut everything off, without a goodbye."""
        for writer in self.opened:
            writer.transport.abort()

    async def ask(self, head: str, body: bytes = b"") -> bytes:
        """Send one HTTP request on a connection of its own; give the whole answer, head and body."""
        reader, writer = await self.connect()
        request = f"{head} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(request.encode() + body)
        return await reader.read()

    async def open_polling(self, eio: int = 4) -> str:
        """Open a session; give the path of its requests."""
        answer = await self.ask(f"GET /socket.io/?EIO={eio}&transport=polling")
        sid = answer.partition(b'"sid":"')[2][:20].decode()
        return f"/socket.io/?EIO={eio}&transport=polling&sid={sid}"

    async def open_websocket(self, query: str = "EIO=4") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a WebSocket; what the server sends from then on is not read."""
        reader, writer = await self.connect()
        head = (
            f"GET /socket.io/?transport=websocket&{query} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        writer.write(head.encode())
        await reader.readuntil(b"\r\n\r\n")
        return reader, writer


def frame(payload: str | bytes) -> bytes:
    """Give a masked frame; the mask is zero."""
    opcode = 0x81 if isinstance(payload, str) else 0x82
    data = payload.encode() if isinstance(payload, str) else payload
    length = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack("!H", len(data))
    return bytes([opcode]) + length + bytes(4) + data


def sends(*messages: str | bytes, query: str = "EIO=4") -> Abuse:
    """Make the abuse of sending these messages over a WebSocket, and reading until the server has closed or answered."""

    async def act(peer: Peer) -> None:
        reader, writer = await peer.open_websocket(query)
        writer.write(b"".join([frame(message) for message in messages]))
        await reader.read(1)

    return act


@abuse
async def leaves_at_once(peer: Peer) -> None:
    await peer.connect()


@abuse
async def sends_half_a_request(peer: Peer) -> None:
    _, writer = await peer.connect()
    writer.write(b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost:")


@abuse
async def opens_polling_and_vanishes(peer: Peer) -> None:
    await peer.open_polling()


@abuse
async def joins_by_polling_and_vanishes(peer: Peer) -> None:
    path = await peer.open_polling()
    await peer.ask(f"POST {path}", b'40\x1e42["join","lobby"]')


@abuse
async def cuts_a_poll_off(peer: Peer) -> None:
    path = await peer.open_polling()
    await peer.ask(f"POST {path}", b"40")
    await peer.ask(f"GET {path}")
    _, writer = await peer.connect()
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await asyncio.sleep(0)


@abuse
async def cuts_a_post_off(peer: Peer) -> None:
    path = await peer.open_polling()
    _, writer = await peer.connect()
    writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n42".encode())
    await asyncio.sleep(0)


@abuse
async def posts_garbage(peer: Peer) -> None:
    path = await peer.open_polling()
    await peer.ask(f"POST {path}", b"\xff\xfe garbage")


@abuse
async def posts_a_length_that_lies(peer: Peer) -> None:
    path = await peer.open_polling(3)
    await peer.ask(f"POST {path}", b"9999999999999:4")


@abuse
async def polls_twice_at_once(peer: Peer) -> None:
    path = await peer.open_polling()
    await asyncio.gather(peer.ask(f"GET {path}"), peer.ask(f"GET {path}"))


@abuse
async def probes_and_vanishes(peer: Peer) -> None:
    path = await peer.open_polling()
    await peer.open_websocket(path.partition("&transport=polling&")[2] + "&EIO=4")


@abuse
async def probes_with_garbage(peer: Peer) -> None:
    path = await peer.open_polling()
    reader, writer = await peer.open_websocket(path.partition("&transport=polling&")[2] + "&EIO=4")
    writer.write(frame("2probe") + frame("garbage"))
    await reader.read(1)


@abuse
async def asks_for_what_is_not_there(peer: Peer) -> None:
    for query in ("", "EIO=2&transport=polling", "EIO=4&transport=carrier-pigeon", "EIO=4&transport=polling&sid=nobody", "%00&&=&EIO=4"):
        await peer.ask(f"GET /socket.io/?{query}")


ABUSES += [
    sends("40", '42["join","lobby"]'),
    sends("40", "40/chat,", '42/chat,["join","lobby"]'),
    sends("40/nowhere,", *[f"40/nowhere-{index}," for index in range(20)]),
    sends("40/refused,"),
    sends('40/typed,"auth that is no object"'),
    sends("40", "40"),
    sends('42["before CONNECT"]'),
    sends("40", '42["typed","no number"]', '421["typed"]', '422["fails"]', '42["nobody handles it",1]'),
    sends("40", '451-["binary",{"_placeholder":true,"num":0}]'),
    sends("40", '452-["binary",{"_placeholder":true,"num":7}]', b"\x01", b"\x02"),
    sends("40", '45999999999999999999-["binary"]'),
    sends("40", b"nobody announced it"),
    sends("40", "42[" * 50),
    sends("40", "4" + "2" * 100 + "[]"),
    sends("40", '42{"not":"an array"}', '42["disconnect"]'),
    sends("40", "430[1]", "43[2]", "4399999999999999999999[3]"),
    sends("40", "44", '44{"message":"no"}'),
    sends("40", "41", "41", '42["join","lobby"]'),
    sends("x", ""),
    sends("2", "3", "5", "0{}"),
    sends("1"),
    sends("40", '420["get",null]', '42["get"]', '421["get",{"url":"/x\\r\\nY: z","headers":{"a":"\\u0000"}}]', '42["slow"]'),
    sends('420["get",null]', query="EIO=3&__sails_io_sdk_version=foo"),
    sends('42["join","lobby"]', "2", query="EIO=3"),
    sends("4z", query="EIO=3"),
    sends(b"\x02no message", query="EIO=3"),
    sends("40", "b====", query="EIO=4&b64=1"),
    sends("40", '42["slow"]', '421["slow"]', '421["get",{"url":"/slow"}]'),
    sends("40/slow,", "41/slow,"),
]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer what comes over the socket; `/slow` waits until its client has gone."""
    if scope["path"] == "/slow":
        await receive()
        await receive()
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def make_server() -> Server:
    io = Server(app, ping_interval=0.4, ping_timeout=0.4, connect_timeout=0.5, upgrade_timeout=0.5)

    @io.on("join")
    async def join(socket: Socket, room: str) -> None:
        socket.join(room)
        io.to(room).emit("joined", socket.id)

    io.of("/chat").on("join", join)

    @io.on("typed")
    async def typed(socket: Socket, number: int) -> int:
        return number

    @io.on("fails")
    async def fails(socket: Socket) -> None:
        raise RuntimeError("as it must")

    @io.on("slow")
    async def wait(socket: Socket) -> JSON:
        return await socket.call("a question that nobody answers")

    @io.of("/slow").on("connect")
    async def connect_slowly(socket: Socket) -> None:
        await asyncio.sleep(0.05)

    @io.of("/typed").on("connect")
    async def connect_typed(socket: Socket, auth: dict[str, str]) -> None: ...

    @io.of("/refused").on("connect")
    async def refuse(socket: Socket) -> None:
        raise ConnectRefused("no")

    return io


def alive() -> int:
    """Count the connections and sockets that are not garbage; other tests may have left some."""
    gc.collect()
    return sum(type(each) in (Connection, Multiplexer, Socket) for each in gc.get_objects())


@pytest.mark.timeout(300)
async def test_nothing_is_left_of_ten_thousand_abusive_connections(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)  # half of them log a line
    io = make_server()
    others = asyncio.all_tasks()
    other_objects = alive()
    async with serve(io) as url:
        address = urlsplit(url)
        assert address.hostname is not None
        assert address.port is not None
        servers_own = asyncio.all_tasks()
        host, port = address.hostname, address.port
        kinds = itertools.cycle(ABUSES)
        left = itertools.count()

        async def misbehave() -> None:
            while next(left) < CONNECTIONS:
                peer = Peer(host, port)
                try:
                    async with asyncio.timeout(20):
                        await next(kinds)(peer)
                except (ConnectionError, asyncio.IncompleteReadError):
                    pass  # the server cut it off: as it may
                finally:
                    peer.drop()

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(misbehave())

        # The server is as good as new.
        async with join(url) as (wire, _):
            await wire.send('421["typed",7]')
            assert await wire.receive() == "431[7]"

        await until(lambda: not io.sessions.connections, "no session is left")
        await until(lambda: not len(io.tasks), "no handler is left")
        for namespace in io.namespaces.values():
            assert not namespace.sockets
            assert not namespace.adapter.rooms
            assert not namespace.adapter.members(Target())
        assert not len(io.unconnected)
        deadlines: list[Deadlines[Connection]] = [*io.sessions.heartbeats.values(), io.sessions.draining]
        assert [len(each) for each in deadlines] == [0] * len(deadlines)
        await until(lambda: asyncio.all_tasks() <= servers_own | others | {asyncio.current_task()}, "no task is left")
        await until(lambda: alive() <= other_objects, "no object is left")
