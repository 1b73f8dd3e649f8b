"""Starlette: `mizzen run examples.frameworks.with_starlette:io`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from mizzen import Server, socket_of

written: list[str] = []
"""What background tasks wrote."""


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
    yield {"greeting": "ahoy"}


async def count(request: Request, following: Callable[[Request], Awaitable[Response]]) -> Response:
    app.state.requests += 1
    response = await following(request)
    response.headers["x-requests"] = str(app.state.requests)
    return response


async def hello(request: Request) -> Response:
    return PlainTextResponse(request.state.greeting)


async def read_item(request: Request) -> Response:
    return JSONResponse({"id": request.path_params["id"], "tag": request.query_params.get("tag", "none")})


async def add_item(request: Request) -> Response:
    item = await request.json()
    if "name" not in item:
        raise HTTPException(422, "an item has a name")
    return JSONResponse(item, 201)


async def login(request: Request) -> Response:
    form = await request.form()
    request.session["user"] = form["username"]
    return JSONResponse({"user": form["username"]})


async def logout(request: Request) -> Response:
    request.session.clear()
    return Response(status_code=204)


async def me(request: Request) -> Response:
    user, authorization = request.session.get("user"), request.headers.get("authorization")
    if authorization is None and user is None:
        raise HTTPException(401, "log in first")
    return JSONResponse({"user": user, "authorization": authorization})


async def count_visits(request: Request) -> Response:
    request.session["visits"] = request.session.get("visits", 0) + 1
    return JSONResponse(request.session["visits"])


async def color(request: Request) -> Response:
    response = JSONResponse({"color": request.cookies.get("color")})
    if "set" in request.query_params:
        response.set_cookie("color", request.query_params["set"], max_age=3600)
    return response


async def mirror(request: Request) -> Response:
    return Response((await request.body())[::-1], media_type="application/octet-stream", headers={"X-Mirror": "1"})


async def stream(request: Request) -> Response:
    async def chunks() -> AsyncIterator[str]:
        for word in ("one ", "two ", "three"):
            yield word

    return StreamingResponse(chunks(), media_type="text/plain")


async def download(request: Request) -> Response:
    return FileResponse(Path(__file__).with_name("ahoy.txt"), filename="ahoy.txt")


async def moved(request: Request) -> Response:
    return RedirectResponse("/hello", 303)


async def fails(request: Request) -> Response:
    raise ValueError("something is wrong")


async def later(request: Request) -> Response:
    return JSONResponse({"done": "later"}, 202, background=BackgroundTask(written.append, request.query_params["word"]))


async def socket_id(request: Request) -> Response:
    socket = socket_of(request)
    return JSONResponse({"socket": None if socket is None else socket.id})


app = Starlette(
    routes=[
        Route("/hello", hello),
        Route("/items/{id:int}", read_item),
        Route("/items", add_item, methods=["POST"]),
        Route("/login", login, methods=["POST"]),
        Route("/logout", logout, methods=["POST"]),
        Route("/me", me),
        Route("/count", count_visits),
        Route("/color", color),
        Route("/mirror", mirror, methods=["PUT"]),
        Route("/stream", stream),
        Route("/download", download),
        Route("/moved", moved),
        Route("/fails", fails),
        Route("/later", later, methods=["POST"]),
        Route("/socket", socket_id),
    ],
    middleware=[Middleware(SessionMiddleware, secret_key="change me"), Middleware(BaseHTTPMiddleware, dispatch=count)],
    lifespan=lifespan,
)
app.state.requests = 0

io = Server(app)
