"""The board: FastAPI routes that HTTP and sockets share, and the events that keep every page live.

Run it with `mizzen run examples.board.app:io`. The environment variable BOARD_DB names the SQLite file.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel

from mizzen import Server, Socket
from mizzen.fastapi import CurrentSocket

from .store import Author, Change, Message, NewMessage, NewRoom, Room, Store

HERE = Path(__file__).parent

store = Store(os.environ.get("BOARD_DB") or str(HERE / "var/board.sqlite3"))
watchers: Counter[str] = Counter()  # room → how many sockets watch it


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Open the store while the server runs."""
    store.open()
    yield
    store.close()


api = FastAPI(title="Mizzen board", lifespan=lifespan)
io = Server(api)


# --- Routes: each answers an HTTP request and a socket request alike ---------------------------------------------------


@api.get("/rooms")
async def rooms() -> list[Room]:
    """List the rooms."""
    return [room.model_copy(update={"present": watchers[room.name]}) for room in await store.rooms()]


@api.post("/rooms", status_code=201)
async def open_room(new: NewRoom) -> Room:
    """Open a room and tell everybody."""
    if not await store.add_room(new.name):
        raise HTTPException(409, f"There is a room “{new.name}” already.")
    room = Room(name=new.name, messages=0)
    io.emit("room", room)
    return room


@api.get("/rooms/{room}/messages")
async def messages(room: str, socket: CurrentSocket, limit: Annotated[int, Query(ge=1, le=200)] = 100) -> list[Message]:
    """List the last messages of a room; a socket that asks gets the room's events from now on."""
    await need(room)
    if socket:  # None when the request came over HTTP
        watch(socket, room)  # before reading: a message posted meanwhile is then in the list, an event, or both
    return await store.messages(room, limit)


@api.post("/rooms/{room}/messages", status_code=201)
async def post(room: str, message: NewMessage) -> Message:
    """Store a message and send it to everybody in the room."""
    await need(room)
    saved = await store.add(room, message)
    io.to(room).emit("message", saved)
    return saved


@api.patch("/rooms/{room}/messages/{id}")
async def change(room: str, id: int, change: Change) -> Message:
    """Edit a message, or tick it."""
    changed = await store.change(room, id, change)
    if changed is None:
        raise HTTPException(404, "This message is gone.")
    io.to(room).emit("updated", changed)
    return changed


@api.delete("/rooms/{room}/messages/{id}", status_code=204)
async def remove(room: str, id: int) -> Response:
    """Delete a message."""
    if not await store.remove(room, id):
        raise HTTPException(404, "This message is gone.")
    io.to(room).emit("removed", {"room": room, "id": id})
    return Response(status_code=204)


# --- Events: what has no place in HTTP ---------------------------------------------------------------------------------


class Typing(BaseModel):
    """Who writes, and where."""

    room: str
    author: Author


@io.on("watch")
async def start_watching(socket: Socket, room: str) -> bool:
    """Follow a room without asking for its messages, for a page that reads them over HTTP; the ack tells whether it exists."""
    if not await store.has_room(room):
        return False
    watch(socket, room)
    return True


@io.on("typing")
async def typing(socket: Socket, typing: Typing) -> None:
    """Pass on that somebody writes; worth nothing a second later, so volatile."""
    if typing.room in socket.rooms:
        socket.to(typing.room).volatile.emit("typing", typing)


@io.on("disconnect")
async def disconnect(socket: Socket) -> None:
    """Count the socket out of the room it watched."""
    unwatch(socket)


def watch(socket: Socket, room: str) -> None:
    """Let a socket follow one room, in place of the one that it followed before."""
    if socket.connected and socket.data.get("room") != room:  # one that left meanwhile would never be counted out
        unwatch(socket)
        socket.join(room)
        socket.data["room"] = room
        watchers[room] += 1
        io.to(room).emit("presence", {"room": room, "present": watchers[room]})


def unwatch(socket: Socket) -> None:
    """Take a socket out of the room that it followed, if any."""
    room = socket.data.pop("room", None)
    if room is not None:
        socket.leave(room)
        watchers[room] -= 1
        io.to(room).emit("presence", {"room": room, "present": watchers[room]})


async def need(room: str) -> None:
    """Answer 404 when there is no such room."""
    if not await store.has_room(room):
        raise HTTPException(404, f"There is no room “{room}”.")


# --- The page ----------------------------------------------------------------------------------------------------------


@api.get("/", include_in_schema=False)
async def page() -> FileResponse:
    """The page with the two sides."""
    return FileResponse(HERE / "static/index.html")


api.mount("/static", StaticFiles(directory=HERE / "static"))
