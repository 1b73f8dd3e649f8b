"""The events of the client's behaviour table on python-socketio's server.

Usage: python -m tests.interop.behaviour_python_socketio PORT
"""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import Any

import socketio
import uvicorn
from socketio.exceptions import ConnectionRefusedError

io = socketio.AsyncServer(async_mode="asgi", ping_interval=1, ping_timeout=10, namespaces=["/", "/chat", "/refused"])
notes: defaultdict[str, list[Any]] = defaultdict(list)
seen: dict[str, Any] = {}


def serve(name: str) -> None:
    async def connect(sid: str, environ: dict[str, Any], auth: Any) -> None:
        query = dict(pair.split("=", 1) for pair in environ["QUERY_STRING"].split("&") if "=" in pair)
        header, cookie = environ.get("HTTP_X_BEHAVIOUR"), environ.get("HTTP_COOKIE")
        seen[sid] = {"id": sid, "token": query.get("token"), "header": header, "cookie": cookie, "auth": auth or {}}

    async def echo(sid: str, *args: Any) -> None:
        await io.emit("echoed", args, to=sid, namespace=name)

    async def echo_ack(sid: str, *args: Any) -> tuple[Any, ...]:
        return args

    async def where(sid: str) -> str:
        return name

    async def describe(sid: str) -> Any:
        return seen[sid]

    async def ask(sid: str, question: Any) -> Any:
        return await io.call("question", question, to=sid, namespace=name, timeout=5)

    async def silence(sid: str) -> Any:
        await io.call("never answered", to=sid, namespace=name, timeout=60)

    async def kick(sid: str) -> None:
        await io.disconnect(sid, namespace=name)

    async def burst(sid: str, count: int) -> None:
        for index in range(count):
            await io.emit("burst", (index, None if index % 10 else bytes([index % 256])), to=sid, namespace=name)

    async def note(sid: str, key: str, value: Any) -> Any:
        notes[key].append(value)
        return value

    async def read_notes(sid: str, key: str) -> Any:
        return notes[key]

    for handler in (connect, echo, echo_ack, where, describe, ask, silence, kick, burst, note):
        io.on(handler.__name__, handler, namespace=name)
    io.on("notes", read_notes, namespace=name)


for each in ("/", "/chat"):
    serve(each)


async def refuse(sid: str, environ: dict[str, Any], auth: Any) -> None:
    raise ConnectionRefusedError("no", {"code": "E_REFUSED"})


io.on("connect", refuse, namespace="/refused")

if __name__ == "__main__":
    uvicorn.run(socketio.ASGIApp(io), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", ws_ping_interval=None)
