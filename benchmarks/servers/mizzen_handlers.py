"""The events that the load generator sends, for a Mizzen server."""

from __future__ import annotations

from mizzen import Server, Socket
from mizzen.types import JSON


def register(io: Server) -> None:
    """Give the server its handlers: what node.mjs and python_socketio_app.py have, too."""

    @io.on("echo")
    async def echo(socket: Socket, value: JSON) -> JSON:
        return value

    @io.on("broadcast")
    async def broadcast(socket: Socket, value: JSON) -> None:
        io.emit("msg", value)

    @io.on("join")
    async def join(socket: Socket, room: str) -> None:
        socket.join(room)

    @io.on("room")
    async def to_room(socket: Socket, room: str, value: JSON) -> None:
        io.to(room).emit("msg", value)
