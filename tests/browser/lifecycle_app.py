"""The server of lifecycle.mjs: impatient, and remembering who was there a moment ago.

Run by `python -m mizzen run tests.browser.lifecycle_app:io`.
"""

from __future__ import annotations

from mizzen import Server, Socket
from mizzen.types import JSON, Reason

io = Server(ping_interval=0.3, ping_timeout=0.7, connection_state_recovery=True)


@io.on("disconnect")
async def disconnect(socket: Socket, reason: Reason) -> None:
    io.to("watchers").emit("left", socket.id, reason)


@io.on("echo")
async def echo(socket: Socket, *args: JSON) -> tuple[JSON, ...]:
    return args


@io.on("join")
async def join(socket: Socket, room: str) -> None:
    socket.join(room)


@io.on("say")
async def say(socket: Socket, room: str, text: str) -> None:
    io.to(room).emit("said", text)
