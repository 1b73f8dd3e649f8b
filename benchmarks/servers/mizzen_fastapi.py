"""Mizzen around FastAPI, with the same route as the bare app."""

from __future__ import annotations

from fastapi import FastAPI

from benchmarks.servers.mizzen_handlers import register
from mizzen import Server

api = FastAPI()
io = Server(api)
register(io)


@api.get("/hello/{name}")
async def hello(name: str) -> dict[str, str]:
    """Answer with what follows /hello/."""
    return {"hello": name}
