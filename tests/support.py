"""What tests of the server share: servers in the test's own loop, and clients that speak the bare wire."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal

import httpx
import uvicorn
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket

from mizzen.types import ASGIApp

NATIVE = "mizzen.transports.native:WebSocketProtocol"

WITHIN = 10.0
"""Seconds that anything expected may take; far more than it does, so that a slow machine fails nothing."""


@asynccontextmanager
async def serve(app: ASGIApp, *, native: bool = False, lifespan: Literal["auto", "on", "off"] = "auto") -> AsyncIterator[str]:
    """Serve an app with uvicorn in this loop, on a loopback port that the system chose; give its URL.

    WebSockets come by ASGI events, or with `native` by Mizzen's own protocol class.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            ws=NATIVE if native else "auto",
            lifespan=lifespan,
            ws_ping_interval=None,
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=2,
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server._serve([listener]))  # without uvicorn's signal handlers, which are the test runner's
        async with asyncio.timeout(WITHIN):
            while not server.started:
                assert not task.done(), "the server did not start"
                await asyncio.sleep(0)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


class Wire:
    """A client on a WebSocket, as messages; it answers pings of Engine.IO 4 while it receives."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, *messages: str | bytes) -> None:
        for message in messages:
            await self.connection.send(message)

    async def receive(self) -> str | bytes:
        """Give the next message that is not a ping."""
        async with asyncio.timeout(WITHIN):
            while (message := await self.connection.recv()) == "2":
                await self.connection.send("3")
        return message

    async def receive_json(self) -> tuple[str, Any]:
        """Give the next text message, split where its JSON begins."""
        message = await self.receive()
        assert isinstance(message, str)
        start = min((index for index in (message.find("["), message.find("{")) if index >= 0), default=len(message))
        return message[:start], json.loads(message[start:]) if start < len(message) else None

    async def until_closed(self) -> int:
        """Wait until the server has closed; give the close code."""
        async with asyncio.timeout(WITHIN):
            await self.connection.wait_closed()
        return self.connection.close_code or 0


@asynccontextmanager
async def open_wire(url: str, query: str = "", *, headers: Mapping[str, str] | None = None, eio: int = 4) -> AsyncIterator[Wire]:
    """Open a WebSocket and read the open packet; nothing is joined (Engine.IO 3 joins `/` by itself)."""
    address = f"ws{url.removeprefix('http')}/socket.io/?EIO={eio}&transport=websocket{query and '&' + query}"
    async with open_websocket(
        address, ping_interval=None, proxy=None, additional_headers=dict(headers or {}), close_timeout=WITHIN
    ) as connection:
        wire = Wire(connection)
        opened = await wire.receive()
        assert isinstance(opened, str)
        assert opened[0] == "0"
        yield wire


@asynccontextmanager
async def join(url: str, nsp: str = "/", query: str = "", *, headers: Mapping[str, str] | None = None) -> AsyncIterator[tuple[Wire, str]]:
    """Open a WebSocket, join a namespace with Engine.IO 4; give the wire and the id of the socket."""
    async with open_wire(url, query, headers=headers) as wire:
        yield wire, await join_namespace(wire, nsp)


async def join_namespace(wire: Wire, nsp: str = "/", auth: object = None) -> str:
    """Join a namespace; give the id of the socket."""
    prefix = "" if nsp == "/" else f"{nsp},"
    await wire.send(f"40{prefix}{'' if auth is None else json.dumps(auth)}")
    message = await wire.receive()
    assert isinstance(message, str)
    assert message.startswith(f"40{prefix}" + "{"), message
    return json.loads(message[2 + len(prefix) :])["sid"]


class Polling:
    """A client on long-polling: one session, its GETs and POSTs."""

    def __init__(self, http: httpx.AsyncClient, sid: str, eio: int) -> None:
        self.http = http
        self.sid = sid
        self.query = f"/socket.io/?EIO={eio}&transport=polling&sid={sid}"

    async def get(self) -> httpx.Response:
        return await self.http.get(self.query)

    async def post(self, body: str | bytes, **kwargs: Any) -> httpx.Response:
        return await self.http.post(self.query, content=body, **kwargs)


@asynccontextmanager
async def open_polling(url: str, query: str = "", *, headers: Mapping[str, str] | None = None, eio: int = 4) -> AsyncIterator[Polling]:
    """Open a session on long-polling."""
    async with httpx.AsyncClient(base_url=url, timeout=WITHIN, headers=dict(headers or {}), trust_env=False) as http:
        response = await http.get(f"/socket.io/?EIO={eio}&transport=polling{query and '&' + query}")
        assert response.status_code == 200, response.text
        start = response.text.index("{")
        yield Polling(http, json.JSONDecoder().raw_decode(response.text[start:])[0]["sid"], eio)


async def until(condition: Any, what: str = "the condition") -> None:
    """Let the loop run until `condition()` holds; no time is assumed, only that it holds some day."""
    async with asyncio.timeout(WITHIN):
        while not condition():
            await asyncio.sleep(0.001)
    assert condition(), what


class FakeClock:
    """A loop's clock and timers, moved by the test: `advance` runs what falls due, in order."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._timers: list[_FakeTimer] = []
        self._soon: list[Any] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Any, /) -> _FakeTimer:
        timer = _FakeTimer(when, callback)
        self._timers.append(timer)
        return timer

    def call_soon(self, callback: Any, /) -> None:
        self._soon.append(callback)

    @property
    def timers(self) -> int:
        """How many timers are set."""
        return sum(not timer.cancelled for timer in self._timers)

    def turn(self) -> None:
        """Run what was to be called soon, once."""
        soon, self._soon = self._soon, []
        for callback in soon:
            callback()

    def advance(self, seconds: float) -> None:
        """Let time pass, waking timers when they are due."""
        end = self.now + seconds
        while due := [timer for timer in self._timers if not timer.cancelled and timer.when <= end]:
            first = min(due, key=lambda timer: timer.when)
            self._timers.remove(first)
            self.now = max(self.now, first.when)
            first.callback()
        self.now = end
        self.turn()

    def block(self, seconds: float) -> None:
        """Let time pass without waking anything, as a handler does that never awaits; what is due then wakes late."""
        self.now += seconds
        for timer in [timer for timer in self._timers if not timer.cancelled and timer.when <= self.now]:
            self._timers.remove(timer)
            timer.callback()


class _FakeTimer:
    def __init__(self, when: float, callback: Any) -> None:
        self.when = when
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True
