"""The server of recovery.mjs: what recovery_server.mjs is on the reference implementation.

Run by `python -m mizzen run tests.interop.recovery_app:io`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re

from mizzen import AckTimeout, ConnectionStateRecovery, Server, Socket
from mizzen.errors import ConnectionClosed
from mizzen.server.namespace import Namespace
from mizzen.types import JSON

io = Server(connection_state_recovery=ConnectionStateRecovery(max_disconnection_duration=60.0))


def serve_namespace(namespace: Namespace) -> None:
    """Give a namespace the events of clients."""

    @namespace.on("join")
    async def join(socket: Socket, *rooms: str) -> None:
        socket.join(rooms)

    @namespace.on("set")
    async def set_data(socket: Socket, value: JSON) -> None:
        socket.data["value"] = value

    @namespace.on("state")
    async def state(socket: Socket) -> JSON:
        rooms = sorted(socket.rooms - {socket.id})
        return {"recovered": socket.recovered, "rooms": rooms, "value": socket.data.get("value")}


for each in (io.of("/"), io.of("/chat"), io.of(re.compile(r"/dynamic-\d+"))):
    serve_namespace(each)
control = io.of("/control")


@control.on("say")
async def say(socket: Socket, nsp: str, rooms: list[str], excluded: list[str], args: list[JSON]) -> None:
    io.of(nsp).to(rooms).except_(excluded).emit(*args)


@control.on("say_volatile")
async def say_volatile(socket: Socket, nsp: str, rooms: list[str], args: list[JSON]) -> None:
    io.of(nsp).to(rooms).volatile.emit(*args)


@control.on("ask")
async def ask(socket: Socket, nsp: str, id: str) -> None:
    asked = io.of(nsp).sockets[id]

    async def wait() -> None:
        with contextlib.suppress(AckTimeout, ConnectionClosed):
            await asked.call("asked", timeout=0.2)

    waiting.add(task := asyncio.create_task(wait()))
    task.add_done_callback(waiting.discard)


waiting: set[asyncio.Task[None]] = set()


@control.on("writable")
async def writable(socket: Socket, nsp: str, id: str) -> bool:
    return io.of(nsp).sockets[id].conn.transport.writable


@control.on("present")
async def present(socket: Socket, nsp: str, id: str) -> bool:
    return id in io.of(nsp).sockets
