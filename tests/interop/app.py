"""The server of the interop tests: what reference_server.mjs is on the reference implementation.

Run by `python -m mizzen run tests.interop.app:io`.
"""

from __future__ import annotations

import asyncio
import os

from mizzen import AckTimeout, ConnectRefused, MsgpackCodec, Server, Socket
from mizzen.types import JSON, Reason
from tests.interop.features import serve_features

# python-socketio's client sometimes leaves without a word and then waits for a ping to its last poll: so there is one every second.
io = Server(ping_interval=1.0, ping_timeout=10.0, parser=MsgpackCodec() if os.environ.get("PARSER") == "msgpack" else None)
streaming: set[str] = set()


def refusal() -> ConnectRefused:
    return ConnectRefused("no", data={"code": "E_REFUSED", "detail": ["é", 1]})


@io.use
async def gate(socket: Socket) -> None:
    if "refuse" in socket.handshake.query:
        raise refusal()


@io.on("connect")
async def connect(socket: Socket) -> None:
    socket.emit("welcome", socket.id)


@io.on("disconnect")
async def disconnect(socket: Socket, reason: Reason) -> None:
    streaming.discard(socket.id)
    io.to("watchers").emit("left", socket.id, reason)


@io.on("echo")
async def echo(socket: Socket, *args: JSON) -> None:
    socket.emit("echoed", *args)


@io.on("echo_ack")
async def echo_ack(socket: Socket, *args: JSON) -> tuple[JSON, ...]:
    return args


@io.on("where")
async def where(socket: Socket) -> str:
    return "/"


@io.on("handshake")
async def handshake(socket: Socket) -> JSON:
    seen = socket.handshake
    token, header = seen.query.get("token"), seen.headers.get("x-interop")
    return {"id": socket.id, "token": token, "header": header, "auth": seen.auth or {}}


@io.on("join")
async def join(socket: Socket, room: str) -> None:
    socket.join(room)


@io.on("leave")
async def leave(socket: Socket, room: str) -> None:
    socket.leave(room)


@io.on("say")
async def say(socket: Socket, room: str, text: str) -> None:
    io.to(room).emit("said", text)


@io.on("say_others")
async def say_others(socket: Socket, room: str, text: str) -> None:
    socket.to(room).emit("said", text)


@io.on("say_except")
async def say_except(socket: Socket, room: str, other: str, text: str) -> None:
    io.to(room).except_(other).emit("said", text)


@io.on("direct")
async def direct(socket: Socket, identity: str, text: str) -> None:
    io.to(identity).emit("said", text)


@io.on("call_me")
async def call_me(socket: Socket, question: JSON) -> JSON:
    return await socket.call("ask", question, timeout=5)


@io.on("call_silent")
async def call_silent(socket: Socket) -> str:
    try:
        await socket.call("silence", timeout=0.1)
    except AckTimeout:
        return "timeout"
    return "answered"


@io.on("units")
async def units(socket: Socket, text: str) -> list[int]:
    encoded = text.encode("utf-16-le", "surrogatepass")
    return [int.from_bytes(encoded[index : index + 2], "little") for index in range(0, len(encoded), 2)]


@io.on("measure")
async def measure(socket: Socket, data: bytes) -> JSON:
    return {"binary": isinstance(data, bytes), "size": len(data), "sum": sum(data)}


@io.on("stream")
async def stream(socket: Socket) -> None:
    streaming.add(socket.id)
    index = 0
    while socket.id in streaming:
        socket.emit("tick", index, None if index % 10 else bytes([index % 256]))
        index += 1
        await asyncio.sleep(0.001)
    socket.emit("ticked")


@io.on("stop")
async def stop(socket: Socket) -> None:
    streaming.discard(socket.id)


@io.on("count")
async def count(socket: Socket, *args: JSON) -> None:
    socket.emit("counted", *args)


@io.on("burst")
async def burst(socket: Socket, size: int, text: str) -> None:
    for index in range(size):
        socket.emit("burst", index, text)


@io.on("volatile")
async def volatile(socket: Socket) -> None:
    for index in range(3):
        socket.volatile.emit("maybe", index)
    socket.emit("certain")


@io.on("kick")
async def kick(socket: Socket) -> None:
    socket.disconnect()


@io.on("kick_connection")
async def kick_connection(socket: Socket) -> None:
    socket.disconnect(close=True)


def serve_namespace(name: str) -> None:
    """Give a namespace the events that tell which one it is."""
    namespace = io.of(name)

    @namespace.on("where")
    async def where(socket: Socket) -> str:
        return name

    namespace.on("echo")(echo)
    namespace.on("echo_ack")(echo_ack)


serve_namespace("/chat")
serve_namespace("/news")


@io.of("/guarded").use
async def guard(socket: Socket) -> None:
    raise refusal()


@io.of("/refused").on("connect")
async def refuse(socket: Socket) -> None:
    raise refusal()


serve_features(io)
