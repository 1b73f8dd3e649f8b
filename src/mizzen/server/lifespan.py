"""The ASGI lifespan, passed on to the wrapped app: the server starts after it and closes before it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from mizzen.types import Message, Receive, Scope, Send

if TYPE_CHECKING:
    from mizzen.server.server import Server

logger: Final = logging.getLogger("mizzen.server")


async def run_lifespan(server: Server, scope: Scope, receive: Receive, send: Send) -> None:
    """Run the lifespan of the wrapped app with the server's own inside it.

    What the app puts into `scope["state"]` is given to socket requests too. An app that knows no lifespan (Django's raises) gets none.
    """
    if server.app is None:
        await _alone(server, receive, send)
        return
    lifespan = _Lifespan(server, scope, receive, send)
    try:
        await server.app(scope, lifespan.receive, lifespan.send)
    except Exception:
        if lifespan.started or lifespan.failed:
            raise
        logger.debug("the app does not take part in the lifespan", exc_info=True)
    finally:
        if lifespan.started:
            await server.close()  # done already, unless the app has ended before its time
    if not lifespan.started and not lifespan.failed:
        await _alone(server, receive, send, received=lifespan.received)


async def _alone(server: Server, receive: Receive, send: Send, *, received: bool = False) -> None:
    if not received:
        await receive()
    server.start()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await server.close()
    await send({"type": "lifespan.shutdown.complete"})


class _Lifespan:
    """What stands between the ASGI server and the app."""

    def __init__(self, server: Server, scope: Scope, receive: Receive, send: Send) -> None:
        self._server = server
        self._scope = scope
        self._receive = receive
        self._send = send
        self.received = False
        self.started = False
        self.failed = False

    async def receive(self) -> Message:
        message = await self._receive()
        self.received = True
        if message["type"] == "lifespan.shutdown":
            await self._server.close()
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "lifespan.startup.complete":
            self.started = True
            self._server.requests.state = self._scope.get("state")
            self._server.start()
        elif kind == "lifespan.startup.failed":
            self.failed = True
        await self._send(message)
