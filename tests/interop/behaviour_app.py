"""The events of the client's behaviour table on Mizzen: what behaviour.mjs is on Node.js.

Run by `python -m mizzen run tests.interop.behaviour_app:io`.
"""

from __future__ import annotations

from collections import defaultdict

from mizzen import ConnectRefused, Namespace, Server, Socket
from mizzen.types import JSON

io = Server(ping_interval=1.0, ping_timeout=10.0, per_message_deflate=64)
notes: defaultdict[str, list[JSON]] = defaultdict(list)


def serve(namespace: Namespace) -> None:
    """Give a namespace the events."""

    @namespace.on("echo")
    async def echo(socket: Socket, *args: JSON) -> None:
        socket.emit("echoed", *args)

    @namespace.on("echo_ack")
    async def echo_ack(socket: Socket, *args: JSON) -> tuple[JSON, ...]:
        return args

    @namespace.on("where")
    async def where(socket: Socket) -> str:
        return namespace.name

    @namespace.on("describe")
    async def describe(socket: Socket) -> JSON:
        seen = socket.handshake
        token, header, cookie = seen.query.get("token"), seen.headers.get("x-behaviour"), seen.headers.get("cookie")
        return {"id": socket.id, "token": token, "header": header, "cookie": cookie, "auth": seen.auth or {}}

    @namespace.on("ask")
    async def ask(socket: Socket, question: JSON) -> JSON:
        return await socket.call("question", question, timeout=5)

    @namespace.on("silence")
    async def silence(socket: Socket) -> None:
        await socket.call("never answered")

    @namespace.on("kick")
    async def kick(socket: Socket) -> None:
        socket.disconnect()

    @namespace.on("kick_connection")
    async def kick_connection(socket: Socket) -> None:
        socket.disconnect(close=True)

    @namespace.on("burst")
    async def burst(socket: Socket, count: int) -> None:
        for index in range(count):
            socket.emit("burst", index, None if index % 10 else bytes([index % 256]))

    @namespace.on("note")
    async def note(socket: Socket, key: str, value: JSON) -> JSON:
        notes[key].append(value)
        return value

    @namespace.on("notes")
    async def read_notes(socket: Socket, key: str) -> list[JSON]:
        return notes[key]


for name in ("/", "/chat"):
    serve(io.of(name))


@io.of("/refused").use
async def refuse(socket: Socket) -> None:
    raise ConnectRefused("no", data={"code": "E_REFUSED"})
