"""A small app that the tests serve with every ASGI server."""

from __future__ import annotations

from fastapi import FastAPI

from mizzen import Server, Socket
from mizzen.fastapi import CurrentSocket

api = FastAPI()
# A poll that waits when uvicorn stops is answered by the next ping, for which uvicorn waits.
io = Server(api, ping_interval=0.5, ping_timeout=10)


@api.get("/hello/{name}")
async def hello(name: str, socket: CurrentSocket) -> dict[str, object]:
    return {"hello": name, "by socket": socket is not None}


@io.on("echo")
async def echo(socket: Socket, *args: object) -> tuple[object, ...]:
    return args


@io.on("binary")
async def binary(socket: Socket, data: bytes) -> None:
    io.emit("reversed", data[::-1])
