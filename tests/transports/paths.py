"""Which way WebSockets come in the test that runs: by ASGI events or by the native path."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from mizzen.types import ASGIApp
from tests.transports.exchange import WebSocket, engine_target
from tests.transports.wire import NativeWebSocket


class Path:
    """The one that the fixture `path` has chosen."""

    native = False


PATH = Path()


class Stuck(WebSocket):
    """A WebSocket by ASGI events whose client may stop reading: `send` does not return until it reads on."""

    def __init__(self, app: ASGIApp, target: str, headers: Mapping[str, str] | None = None) -> None:
        self._reading = asyncio.Event()
        self._reading.set()
        super().__init__(app, target, headers)

    def stop_reading(self) -> None:
        """Read no more from now on."""
        self._reading.clear()

    def read_on(self) -> None:
        self._reading.set()

    async def _send(self, message: object) -> None:
        await self._reading.wait()
        await super()._send(message)  # pyright: ignore[reportArgumentType]


def dial(app: ASGIApp, target: str, headers: Mapping[str, str] | None = None) -> Stuck | NativeWebSocket:
    """Open a WebSocket."""
    return NativeWebSocket(app, target, headers) if PATH.native else Stuck(app, target, headers)


async def dial_session(app: ASGIApp, query: str = "", *, eio: int = 4) -> Stuck | NativeWebSocket:
    """Open a WebSocket that has joined the main namespace."""
    websocket = dial(app, engine_target(query, transport="websocket", eio=eio))
    await websocket.accepted()
    opened = await websocket.receive()
    assert isinstance(opened, str)
    assert opened.startswith("0{")
    if eio == 4:
        websocket.send("40")
    joined = await websocket.receive()
    assert isinstance(joined, str)
    assert joined.startswith("40")
    return websocket
