"""An app that says at its end, as a line of JSON, why its sockets ended."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request

from mizzen import Reason, Server, Socket

reasons: Counter[str] = Counter()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    print(json.dumps({"reasons": reasons}), flush=True)


api = FastAPI(lifespan=lifespan)
io = Server(api, close_grace=5)


@api.get("/client")
async def client(request: Request) -> dict[str, object]:
    assert request.client is not None
    return {"host": request.client.host, "scheme": request.url.scheme, "root": request.scope["root_path"], "path": request.scope["path"]}


@io.on("client")
async def client_by_socket(socket: Socket) -> dict[str, object]:
    handshake = socket.handshake
    return {"host": handshake.address, "secure": handshake.secure, "root": handshake.scope["root_path"], "path": handshake.scope["path"]}


@io.on("carrier")
async def carrier(socket: Socket) -> str:
    return type(socket.conn.transport).__name__


@api.get("/where")
async def where() -> dict[str, int]:
    return {"process": os.getpid()}


@io.on("where")
async def where_by_socket(socket: Socket) -> int:
    return os.getpid()


@io.on("shout")
async def shout(socket: Socket) -> None:
    io.emit("shouted", os.getpid())


@io.on("disconnect")
async def disconnect(socket: Socket, reason: Reason) -> None:
    reasons[reason] += 1
