"""python-socketio, as an ASGI app."""

# python-socketio comes without types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUntypedFunctionDecorator=false, reportOptionalCall=false

from __future__ import annotations

import socketio

from mizzen.types import JSON

sio = socketio.AsyncServer(async_mode="asgi")


@sio.on("echo")
async def echo(sid: str, value: JSON) -> JSON:
    """Ack the value."""
    return value


@sio.on("broadcast")
async def broadcast(sid: str, value: JSON) -> None:
    """Send the value to all."""
    await sio.emit("msg", value)


@sio.on("join")
async def join(sid: str, room: str) -> None:
    """Join a room."""
    await sio.enter_room(sid, room)


@sio.on("room")
async def to_room(sid: str, room: str, value: JSON) -> None:
    """Send the value to the room."""
    await sio.emit("msg", value, room=room)


app = socketio.ASGIApp(sio)
