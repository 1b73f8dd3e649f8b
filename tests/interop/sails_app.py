"""The app of the sails.io.js tests: routes that HTTP and sockets share.

Run by `python -m mizzen run tests.interop.sails_app:io`.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

from mizzen import Server, Socket
from mizzen.fastapi import CurrentSocket
from mizzen.types import JSON
from tests.interop.sails_routes import answers

VALUES: dict[str, JSON] = {
    "null": None,
    "zero": 0,
    "false": False,
    "empty": "",
    "list": [1, [2.5, None]],
    "unicode": {"é漢😀": ["\u2028", "\x00"]},
}

api = FastAPI()
io = Server(api)
notes: list[dict[str, JSON]] = []
gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
abandoned: set[str] = set()
api.include_router(answers)


class NewNote(BaseModel):
    text: str
    stars: int = 0


@api.api_route("/mirror", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
async def mirror(request: Request, socket: CurrentSocket) -> JSON:
    body = await request.body()
    return {
        "method": request.method,
        "query": dict(request.query_params),
        "body": json.loads(body) if body else None,
        "headers": dict(request.headers),
        "socket": socket.id if socket else None,
    }


@api.get("/notes")
async def read_notes(socket: CurrentSocket) -> list[JSON]:
    if socket:
        socket.join("notes")
    return notes


@api.post("/notes", status_code=201)
async def write_note(note: NewNote, response: Response, socket: CurrentSocket) -> JSON:
    saved = {"id": len(notes) + 1, "text": note.text, "stars": note.stars, "by": "socket" if socket else "http"}
    notes.append(saved)
    io.to("notes").emit("note", saved)
    response.headers["X-Note"] = str(saved["id"])
    return saved


@api.get("/values/{name}")
async def read_value(name: str) -> JSON:
    return VALUES[name]


@api.post("/bytes")
async def write_bytes(request: Request) -> JSON:
    return {"size": len(await request.body()), "type": request.headers["content-type"]}


@api.get("/gates/{name}")
async def wait(name: str) -> str:
    await gates[name].wait()
    return name


@api.post("/gates/{name}")
async def open_gate(name: str) -> str:
    gates[name].set()
    return name


@api.get("/never/{name}")
async def never(name: str, request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    abandoned.add(name)
    gates[f"abandoned {name}"].set()


@api.post("/drop")
async def drop(socket: CurrentSocket) -> None:
    assert socket is not None
    socket.disconnect()


@io.on("plain")
async def plain(socket: Socket, *args: JSON) -> tuple[JSON, ...]:
    return ("plain", *args)
