"""The site of the JSONP tests: a page with socket.io-client 2.5, which the server gives it, and an echo.

Run by `python -m mizzen run tests.browser.jsonp_site:io`. SITE_ALLOWS: the origins that may connect, with spaces between.
"""

from __future__ import annotations

import os
from pathlib import Path

from mizzen import Server, Socket
from mizzen.types import JSON, Receive, Scope, Send

CLIENT = Path(__file__).resolve().parent.parent / "interop/node_modules/socket.io-client-2/dist/socket.io.js"
PAGE = b'<!doctype html><meta charset="utf-8"><title>JSONP</title><script src="/socket.io/socket.io.js"></script><body></body>'


async def page(scope: Scope, receive: Receive, send: Send) -> None:
    """Give the page, whatever the path."""
    status = 404 if scope["path"] == "/favicon.ico" else 200
    headers = [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", str(len(PAGE)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": PAGE})


io = Server(page, cors_origins=os.environ["SITE_ALLOWS"].split(), client_files={"socket.io.js": CLIENT})


@io.on("echo")
async def echo(socket: Socket, *args: JSON) -> tuple[JSON, ...]:
    return args


@io.on("shout")
async def shout(socket: Socket, what: str) -> None:
    io.emit("shouted", what)
