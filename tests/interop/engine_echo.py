"""An Engine.IO server on /engine.io/ that sends every message back: Mizzen's engine and transports with another consumer of messages."""

from __future__ import annotations

import asyncio

from mizzen.options import ServerOptions
from mizzen.protocol.encoded import Encoded
from mizzen.server.connection import Connection
from mizzen.server.sessions import Sessions
from mizzen.transports.asgi import Endpoint
from mizzen.types import ASGIApp, Reason, Receive, Scope, Send

PATH = "/engine.io"


class Echo:
    """The consumer of one connection: what comes goes back."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def opened(self) -> None: ...

    def received(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self.connection.write(Encoded(b"4" + message.encode("utf-8", "surrogatepass")))
        else:
            self.connection.write(Encoded(None, (message,)))

    def closed(self, reason: Reason, details: str | None) -> None: ...


class EngineEcho:
    """The ASGI app; it starts in the loop that calls it first."""

    def __init__(self, options: ServerOptions) -> None:
        self.options = options
        self.endpoint: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.live(receive, send)
            return
        if self.endpoint is None:
            self.endpoint = Endpoint(self.options, Sessions(self.options, asyncio.get_running_loop(), Echo))
        await self.endpoint(scope, receive, send)

    async def live(self, receive: Receive, send: Send) -> None:
        """Answer the server's lifespan events."""
        while (event := await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        assert event["type"] == "lifespan.shutdown"
        await send({"type": "lifespan.shutdown.complete"})


def make() -> EngineEcho:
    """Make the app."""
    return EngineEcho(ServerOptions(path=PATH, ping_interval=0.3, ping_timeout=0.2))


app = make()
