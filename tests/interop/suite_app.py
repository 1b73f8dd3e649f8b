"""The server that the public Socket.IO protocol suite asks for: `/` and `/custom`, which greet with the auth and send back what comes."""

from __future__ import annotations

from mizzen import Server, Socket
from mizzen.types import JSON


def make() -> Server:
    """Make the server."""
    io = Server(ping_interval=0.3, ping_timeout=0.2)
    for name in ("/", "/custom"):
        namespace = io.of(name)

        @namespace.on("connect")
        async def connect(socket: Socket) -> None:
            socket.emit("auth", socket.handshake.auth or {})

        @namespace.on("message")
        async def message(socket: Socket, *args: JSON) -> None:
            socket.emit("message-back", *args)

        @namespace.on("message-with-ack")
        async def message_with_ack(socket: Socket, *args: JSON) -> tuple[JSON, ...]:
            return args

    return io


io = make()
