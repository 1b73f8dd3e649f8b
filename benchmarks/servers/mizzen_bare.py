"""Mizzen around a bare ASGI app, which answers `GET /hello/…`."""

from __future__ import annotations

from benchmarks.servers.mizzen_handlers import register
from mizzen import Server
from mizzen.types import Receive, Scope, Send


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with what follows /hello/."""
    body = b'{"hello":"%s"}' % scope["path"][7:].encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


io = Server(hello)
register(io)
