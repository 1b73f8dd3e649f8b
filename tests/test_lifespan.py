"""The lifespan passed on to the wrapped app, its state, and servers that are mounted inside another app."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.applications import Starlette
from starlette.routing import Mount
from websockets.asyncio.client import connect as open_websocket

from mizzen import Reason, Server, Socket
from mizzen.types import ASGIApp, Message, Receive, Scope, Send
from tests.support import WITHIN, Wire, join, serve, until
from tests.transports.exchange import WebSocket, ask, engine_target, nothing_is_left
from tests.virtual.apps import APPS


class Lifespan:
    """The lifespan as an ASGI server runs it."""

    def __init__(self, app: ASGIApp) -> None:
        self.state: dict[str, Any] = {}
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._sent: asyncio.Queue[Message] = asyncio.Queue()
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        self.task = asyncio.create_task(self._run(app, scope))

    async def _run(self, app: ASGIApp, scope: dict[str, Any]) -> None:
        await app(scope, self._inbox.get, self._sent.put)

    async def ask(self, what: str) -> Message:
        """Send `lifespan.startup` or `lifespan.shutdown` and give the answer; raises what the app raised instead."""
        self._inbox.put_nowait({"type": f"lifespan.{what}"})
        answer = asyncio.create_task(self._sent.get())
        async with asyncio.timeout(WITHIN):
            await asyncio.wait({answer, self.task}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done() and self._sent.empty():
                answer.cancel()
                self.task.result()
                raise AssertionError("the app returned without an answer")
            return await answer

    async def whole(self) -> None:
        """Start up and shut down."""
        assert (await self.ask("startup"))["type"] == "lifespan.startup.complete"
        assert (await self.ask("shutdown"))["type"] == "lifespan.shutdown.complete"
        await self.task


async def request(wire: Wire, url: str, id: int = 1) -> Any:
    """Make a socket request; give the body of its answer."""
    await wire.send(f'42{id}["get",{json.dumps({"url": url})}]')
    head, (answer,) = await wire.receive_json()
    assert head == f"43{id}"
    assert answer["statusCode"] == 200, answer
    return answer["body"]


async def test_the_server_starts_after_the_app_and_closes_before_it() -> None:
    order: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        order.append(f"startup, sockets {'run' if io.dispatching else 'wait'}")
        yield
        order.append(f"shutdown, {len(io.sockets)} sockets, sockets {'run' if io.dispatching else 'are closed'}")

    io = Server(FastAPI(lifespan=lifespan))

    async def disconnect(socket: Socket, reason: Reason) -> None:
        await asyncio.sleep(0)
        order.append(reason)

    io.on("disconnect", disconnect)
    life = Lifespan(io)
    assert (await life.ask("startup"))["type"] == "lifespan.startup.complete"
    assert io.dispatching
    websocket = WebSocket(io, engine_target(transport="websocket"))
    await websocket.accepted()
    websocket.send("40")
    await until(lambda: len(io.sockets) == 1)
    assert (await life.ask("shutdown"))["type"] == "lifespan.shutdown.complete"
    await life.task
    assert await websocket.until_closed() == 1000
    assert order == ["startup, sockets wait", "server shutting down", "shutdown, 0 sockets, sockets are closed"]
    assert nothing_is_left(io)


async def test_the_state_of_the_lifespan_is_seen_by_http_and_by_socket_requests() -> None:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, object]]:
        yield {"pool": ["one"], "name": "the state"}

    api = FastAPI(lifespan=lifespan)

    @api.get("/state")
    async def state(request: Request) -> list[object]:
        request.state.mine = "of this request"
        request.state.pool.append("x")
        return [request.state.name, len(request.state.pool)]

    @api.get("/mine")
    async def mine(request: Request) -> bool:
        return hasattr(request.state, "mine")

    io = Server(api)
    async with serve(io, lifespan="on") as url, join(url) as (wire, _):
        assert await request(wire, "/state") == ["the state", 2]
        # the pool is one and the same, the namespace around it is each request's own
        assert await request(wire, "/state", 2) == ["the state", 3]
        assert await request(wire, "/mine", 3) is False


async def test_an_app_that_raises_on_a_lifespan_gets_none() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError("can only handle ASGI/HTTP connections")

    io = Server(app)
    await Lifespan(io).whole()


async def test_django_gets_none() -> None:
    await Lifespan(Server(APPS["django"]())).whole()


@pytest.mark.parametrize("reads", [False, True], ids=["at once", "after the startup event"])
async def test_an_app_that_returns_from_a_lifespan_gets_none(reads: bool) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if reads:
            await receive()

    io = Server(app)
    life = Lifespan(io)
    assert (await life.ask("startup"))["type"] == "lifespan.startup.complete"
    assert io.dispatching
    assert (await life.ask("shutdown"))["type"] == "lifespan.shutdown.complete"
    await life.task
    assert not io.dispatching


async def test_a_failure_to_start_is_passed_on() -> None:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        raise LookupError("no database")
        yield

    io = Server(Starlette(lifespan=lifespan))
    life = Lifespan(io)
    answer = await life.ask("startup")
    assert answer["type"] == "lifespan.startup.failed"
    assert "no database" in answer["message"]
    with pytest.raises(LookupError):
        await life.task
    assert not io.dispatching


async def test_a_failure_to_shut_down_is_passed_on() -> None:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        raise LookupError("the database is stuck")

    io = Server(Starlette(lifespan=lifespan))
    life = Lifespan(io)
    await life.ask("startup")
    assert (await life.ask("shutdown"))["type"] == "lifespan.shutdown.failed"
    with pytest.raises(LookupError):
        await life.task
    assert not io.dispatching


async def test_a_lifespan_that_is_cancelled_while_it_starts_is_cancelled() -> None:
    started = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        started.set()
        await asyncio.Event().wait()

    io = Server(app)
    life = Lifespan(io)
    answer = asyncio.create_task(life.ask("startup"))
    await started.wait()
    life.task.cancel()
    await asyncio.wait({life.task}, timeout=1)
    answer.cancel()
    assert life.task.cancelled()
    assert not io.dispatching


async def test_without_an_app_the_server_has_a_lifespan_of_its_own() -> None:
    io = Server()
    life = Lifespan(io)
    await life.ask("startup")
    assert io.dispatching
    answer = await ask(io, "GET", "/elsewhere")
    assert (answer.status, answer.body) == (404, b"Not Found")
    websocket = WebSocket(io, "/elsewhere")
    assert (await websocket.next())["type"] == "websocket.close"
    await life.ask("shutdown")
    await life.task
    assert not io.dispatching


async def test_a_server_can_be_started_again_after_it_has_closed() -> None:
    io = Server()
    for _ in range(2):
        await Lifespan(io).whole()
        async with io:
            assert (await ask(io, "GET", engine_target())).status == 200


async def test_two_lifespans_at_once_of_wrapped_servers_nest() -> None:
    inner = Server(path="/inner")
    outer = Server(inner, path="/outer")
    life = Lifespan(outer)
    await life.ask("startup")
    assert inner.dispatching
    assert outer.dispatching
    for path in ("/inner", "/outer"):
        assert (await ask(outer, "GET", engine_target().replace("/socket.io", path))).status == 200
    await life.ask("shutdown")
    await life.task
    assert not inner.dispatching


# Mounted


def mounted(io: Server, kind: str) -> ASGIApp:
    """Give an app that has the server under /ws."""
    if kind == "starlette":
        return Starlette(routes=[Mount("/ws", app=io)])
    api = FastAPI()
    api.mount("/ws", io)
    return api


@pytest.mark.parametrize("kind", ["starlette", "fastapi"])
async def test_under_a_mount_it_answers_below_that_path_and_starts_with_the_first_request(kind: str) -> None:
    io = Server()
    calls: list[str] = []
    io.on("hello", lambda socket, name: calls.append(name))
    async with serve(mounted(io, kind)) as url:
        assert not io.dispatching
        async with join(f"{url}/ws") as (wire, _):
            assert io.dispatching
            await wire.send('42["hello","you"]')
            await until(lambda: calls == ["you"])
        await io.close()


async def test_requests_to_names_the_app_that_socket_requests_go_to() -> None:
    api = FastAPI()

    @api.get("/where")
    async def where(request: Request) -> list[str]:
        return [request.url.path, request.scope.get("root_path", "")]

    io = Server(requests_to=api)
    api.mount("/ws", io)
    async with serve(api) as url, join(f"{url}/ws") as (wire, _):
        assert await request(wire, "/where") == ["/where", ""]
        await io.close()


async def test_a_mounted_server_runs_inside_the_lifespan_of_the_outer_app() -> None:
    io = Server()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with io:
            yield
        assert not io.dispatching

    api = FastAPI(lifespan=lifespan)
    api.mount("/ws", io)
    life = Lifespan(api)
    assert (await life.ask("startup"))["type"] == "lifespan.startup.complete"
    assert io.dispatching
    assert (await ask(api, "GET", "/ws" + engine_target())).status == 200
    assert (await life.ask("shutdown"))["type"] == "lifespan.shutdown.complete"
    await life.task


@pytest.mark.parametrize(
    ("root", "path", "ours"),
    [
        ("/api", "/api/socket.io/", True),  # uvicorn and Starlette leave the whole path in place
        ("/api", "/socket.io/", True),  # others cut the root off
        ("", "/socket.io/", True),
        ("/api", "/other/socket.io/", False),
        ("/api", "/apisocket.io/", False),
        ("/api", "/api/socket.iox/", False),
        ("", "/api/socket.io/", False),
        ("/socket.io", "/socket.io/socket.io/", True),
    ],
)
async def test_the_root_path_is_not_part_of_the_path(root: str, path: str, ours: bool) -> None:
    async with Server() as io:

        async def under_root(scope: Scope, receive: Receive, send: Send) -> None:
            scope["root_path"] = root
            await io(scope, receive, send)

        answer = await ask(under_root, "GET", f"{path}?EIO=4&transport=polling")
        assert answer.status == (200 if ours else 404)


async def test_the_websockets_of_the_wrapped_app_are_its_own() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": scope["path"]})
            await send({"type": "websocket.close", "code": 4001})

    async with serve(Server(app)) as url:
        async with open_websocket(f"ws{url.removeprefix('http')}/own", proxy=None) as connection:
            assert await connection.recv() == "/own"
            await connection.wait_closed()
            assert connection.close_code == 4001
