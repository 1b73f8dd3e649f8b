"""An app that says at its end, as a line of JSON, why its sockets ended."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from mizzen import Reason, Server, Socket

reasons: Counter[str] = Counter()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    print(json.dumps({"reasons": reasons}), flush=True)


api = FastAPI(lifespan=lifespan)
io = Server(api, close_grace=5)


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
