"""The site of the sails.io.js tests in a browser: a page, and routes that HTTP and sockets share.

Run by `python -m mizzen run tests.browser.sails_site:io`. SITE_ALLOWS: the origins that may connect, with spaces between; SITE_COOKIES:
"lax" or "none", the SameSite of the session's cookie; with "none", pages of those origins may also poll with their cookies.
"""

from __future__ import annotations

import html
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, cast

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse, HTMLResponse
from pydantic import BaseModel
from starlette.middleware.sessions import SessionMiddleware

from mizzen import Server, Socket
from mizzen.fastapi import CurrentSocket
from mizzen.types import JSON, ASGIApp, Receive, Scope, Send
from tests.interop.sails_routes import answers

HERE = Path(__file__).resolve().parent
PAGE = (HERE / "sails_page/index.html").read_text()
CLIENT = os.environ["SITE_CLIENT"]
ALLOWED = os.environ["SITE_ALLOWS"].split()
SAME_SITE = cast("Literal['lax', 'none']", os.environ["SITE_COOKIES"])


class Guests:
    """A middleware that begins a session with the request that sails.io.js makes for a cookie."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/__getcookie":
            scope["session"]["guest"] = True
        await self._app(scope, receive, send)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with mounted:
        yield


api = FastAPI(lifespan=lifespan)
api.add_middleware(Guests)
api.add_middleware(SessionMiddleware, secret_key="of the tests", same_site=SAME_SITE, https_only=SAME_SITE == "none")
io = Server(api, cors_origins=ALLOWED, cors_credentials=SAME_SITE == "none")
mounted = Server(requests_to=api)
api.mount("/realtime", mounted)
api.include_router(answers)


class Note(BaseModel):
    text: str


class Login(BaseModel):
    user: str


@api.get("/page")
async def page(request: Request) -> HTMLResponse:
    """Give the page; the query holds the attributes of its script element."""
    attributes = "".join(f' {name}="{html.escape(value)}"' for name, value in request.query_params.items())
    return HTMLResponse(PAGE.replace("ATTRIBUTES", attributes))


@api.get("/sails.io.js")
async def client() -> FileResponse:
    return FileResponse(CLIENT, media_type="text/javascript")


@api.api_route("/mirror", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
async def mirror(request: Request, socket: CurrentSocket) -> JSON:
    body = await request.body()
    return {
        "method": request.method,
        "query": dict(request.query_params),
        "body": json.loads(body) if body else None,
        "headers": dict(request.headers),
        "session": dict(request.session),
        "socket": socket.id if socket else None,
        "handshake": dict(socket.handshake.query) if socket else None,
    }


@api.get("/notes")
async def hear_notes(socket: CurrentSocket) -> JSON:
    assert socket is not None
    socket.join("notes")
    return None


@api.post("/notes", status_code=201)
async def write_note(note: Note, response: Response, socket: CurrentSocket) -> JSON:
    saved = {"text": note.text, "by": "socket" if socket else "http"}
    io.to("notes").emit("note", saved)
    response.headers["X-Note"] = note.text
    return saved


@api.post("/bytes")
async def write_bytes(request: Request) -> JSON:
    return {"bytes": list(await request.body()), "type": request.headers["content-type"]}


@api.get("/never")
async def never(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


@api.post("/drop")
async def drop(socket: CurrentSocket) -> None:
    assert socket is not None
    socket.disconnect()


@api.post("/login")
async def log_in(login: Login, request: Request) -> JSON:
    request.session["user"] = login.user
    return login.user


@api.get("/me")
async def read_me(request: Request, socket: CurrentSocket) -> JSON:
    user = request.session.get("user")
    if user is None:
        raise HTTPException(401, "log in first")
    if socket:
        socket.join(f"user:{user}")
    return user


@api.post("/logout")
async def log_out(request: Request) -> None:
    io.in_(f"user:{request.session.pop('user')}").disconnect_sockets()


@api.get("/own-cookie")
async def read_own_cookie(request: Request) -> Response:
    request.session["own"] = True
    return Response("_sailsIoJSConnect();", media_type="text/javascript")


@io.on("plain")
async def plain(socket: Socket, *args: JSON) -> tuple[JSON, ...]:
    return ("plain", *args)
