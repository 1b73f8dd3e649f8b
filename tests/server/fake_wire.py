"""A WebSocket client without a network: it is the ASGI server too, so that a test decides when a `send` returns."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from mizzen import Server
from mizzen.server.connection import Connection
from mizzen.server.multiplexer import Multiplexer
from mizzen.types import ASGIApp, Message
from tests.support import WITHIN


class FakeWire:
    """What a client sends and gets. `stall` keeps the `send` of the app from returning; `read` counts what the app has received."""

    def __init__(self, app: ASGIApp, query: str, headers: Mapping[str, str], eio: int) -> None:
        self.read = 0
        self.close_code: int | None = None
        self._eio = eio
        self._incoming: asyncio.Queue[Message] = asyncio.Queue()
        self._outgoing: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._incoming.put_nowait({"type": "websocket.connect"})
        scope = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": "/socket.io/",
            "raw_path": b"/socket.io/",
            "root_path": "",
            "query_string": f"EIO={eio}&transport=websocket{query and '&' + query}".encode(),
            "headers": [(b"host", b"test"), *[(name.encode(), value.encode()) for name, value in headers.items()]],
            "client": ("192.0.2.1", 1234),
            "server": ("test", 80),
            "subprotocols": [],
            "extensions": {"websocket.http.response": {}},
        }
        self.task: asyncio.Task[None] = asyncio.ensure_future(app(scope, self._receive, self._send))
        self.task.add_done_callback(lambda _: self._outgoing.put_nowait(None))

    async def _receive(self) -> Message:
        message = await self._incoming.get()
        self.read += message["type"] == "websocket.receive"
        return message

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.send":
            await self._flowing.wait()
            text = message.get("text")
            self._outgoing.put_nowait(message["bytes"] if text is None else text)
        elif kind == "websocket.close":
            self.close_code = message["code"]
            self._outgoing.put_nowait(None)
        elif kind == "websocket.http.response.start":
            self.close_code = message["status"]
            self._outgoing.put_nowait(None)

    def stall(self) -> None:
        """Read no more: the app's next `send` does not return."""
        self._flowing.clear()

    def flow(self) -> None:
        """Read on."""
        self._flowing.set()

    def drop(self) -> None:
        """Be gone without a word."""
        self._incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})

    async def send(self, *messages: str | bytes) -> None:
        """Send messages; they are read as soon as the app reads."""
        for message in messages:
            kind = "text" if isinstance(message, str) else "bytes"
            self._incoming.put_nowait({"type": "websocket.receive", kind: message})

    async def receive_any(self) -> str | bytes | None:
        """Give the next message, pings too; None at the end."""
        async with asyncio.timeout(WITHIN):
            return await self._outgoing.get()

    async def receive(self) -> str | bytes:
        """Give the next message that is not a ping, which is answered."""
        while True:
            message = await self.receive_any()
            assert message is not None, f"the server has closed the connection ({self.close_code})"
            if message != "2":
                return message
            await self.send("3")

    async def receive_json(self) -> tuple[str, Any]:
        """Give the next message, text, split where its JSON begins."""
        message = await self.receive()
        assert isinstance(message, str), message
        start = min((index for index in (message.find("["), message.find("{"), message.find('"')) if index >= 0), default=len(message))
        return message[:start], json.loads(message[start:]) if start < len(message) else None

    async def event(self) -> list[Any]:
        """Give name and arguments of the next message, which is an event of the main namespace."""
        prefix, data = await self.receive_json()
        assert prefix == "42", (prefix, data)
        return data

    async def ask(self, event: str, *args: Any, id: int = 7) -> list[Any]:
        """Send an event with an ack id; give the arguments of the ack, which is the next message."""
        await self.send(f"42{id}{json.dumps([event, *args])}")
        prefix, data = await self.receive_json()
        assert prefix == f"43{id}", (prefix, data)
        return data

    async def until_closed(self) -> int:
        """Wait until the server has closed; give the close code, or the HTTP status that refused; 0 if it went without a word."""
        async with asyncio.timeout(WITHIN):
            while await self._outgoing.get() is not None:
                pass
        return self.close_code or 0

    def received(self) -> list[str | bytes]:
        """Give what has come and was not received yet."""
        messages: list[str | bytes] = []
        while not self._outgoing.empty():
            message = self._outgoing.get_nowait()
            if message is not None:
                messages.append(message)
        return messages


@asynccontextmanager
async def open_fake(app: ASGIApp, query: str = "", *, headers: Mapping[str, str] | None = None, eio: int = 4) -> AsyncIterator[FakeWire]:
    """Open a WebSocket and read the open packet; nothing is joined (Engine.IO 3 joins `/` by itself)."""
    wire = FakeWire(app, query, headers or {}, eio)
    try:
        opened = await wire.receive()
        assert isinstance(opened, str)
        assert opened[0] == "0"
        yield wire
    finally:
        wire.flow()
        wire.drop()
        async with asyncio.timeout(WITHIN):
            await wire.task


@asynccontextmanager
async def join_fake(app: ASGIApp, nsp: str = "/", auth: object = None, query: str = "") -> AsyncIterator[tuple[FakeWire, str]]:
    """Open a WebSocket and join a namespace with Engine.IO 4; give the wire and the id of the socket."""
    async with open_fake(app, query) as wire:
        yield wire, await join_nsp(wire, nsp, auth)


async def join_nsp(wire: FakeWire, nsp: str = "/", auth: object = None) -> str:
    """Join a namespace; give the id of the socket."""
    prefix = "40" if nsp == "/" else f"40{nsp},"
    await wire.send(prefix + ("" if auth is None else json.dumps(auth)))
    got, data = await wire.receive_json()
    assert got == prefix, (got, data)
    return data["sid"]


async def settle(turns: int = 50) -> None:
    """Let the loop turn so often that whatever can happen without a peer, a thread or a timer has happened."""
    for _ in range(turns):
        await asyncio.sleep(0)


def connection_of(io: Server) -> Connection:
    """Give the only connection of a server."""
    (connection,) = io.sessions.connections.values()
    return connection


def multiplexer_of(io: Server) -> Multiplexer:
    """Give the Socket.IO side of the only connection of a server."""
    consumer = connection_of(io).consumer
    assert isinstance(consumer, Multiplexer)
    return consumer
