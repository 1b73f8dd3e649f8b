"""FastAPI: `mizzen run examples.frameworks.with_fastapi:io`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import BackgroundTasks, FastAPI, Form, Header, HTTPException, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse, RedirectResponse, StreamingResponse
from pydantic import BaseModel
from starlette.middleware.sessions import SessionMiddleware

from mizzen import Server
from mizzen.fastapi import CurrentSocket

written: list[str] = []
"""What background tasks wrote."""


class Item(BaseModel):
    name: str
    price: float = 0


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
    yield {"greeting": "ahoy"}


app = FastAPI(lifespan=lifespan)
app.add_middleware(SessionMiddleware, secret_key="change me")
app.state.requests = 0


@app.middleware("http")
async def count(request: Request, following: Callable[[Request], Awaitable[Response]]) -> Response:
    app.state.requests += 1
    response = await following(request)
    response.headers["x-requests"] = str(app.state.requests)
    return response


@app.get("/hello", response_class=PlainTextResponse)
async def hello(request: Request) -> str:
    return request.state.greeting


@app.get("/items/{id}")
async def read_item(id: int, tag: str = "none") -> dict[str, int | str]:
    return {"id": id, "tag": tag}


@app.post("/items", status_code=201)
async def add_item(item: Item) -> Item:
    return item


@app.post("/login")
async def login(request: Request, username: Annotated[str, Form()], password: Annotated[str, Form()]) -> dict[str, str]:
    request.session["user"] = username
    return {"user": username}


@app.post("/logout", status_code=204)
async def logout(request: Request) -> None:
    request.session.clear()


@app.get("/me")
async def me(request: Request, authorization: Annotated[str | None, Header()] = None) -> dict[str, str | None]:
    user = request.session.get("user")
    if authorization is None and user is None:
        raise HTTPException(401, "log in first")
    return {"user": user, "authorization": authorization}


@app.get("/count")
async def count_visits(request: Request) -> int:
    request.session["visits"] = request.session.get("visits", 0) + 1
    return request.session["visits"]


@app.get("/color")
async def color(request: Request, response: Response, set: str | None = None) -> dict[str, str | None]:
    if set is not None:
        response.set_cookie("color", set, max_age=3600)
    return {"color": request.cookies.get("color")}


@app.put("/mirror")
async def mirror(request: Request) -> Response:
    return Response((await request.body())[::-1], media_type="application/octet-stream", headers={"X-Mirror": "1"})


@app.get("/stream")
async def stream() -> StreamingResponse:
    async def chunks() -> AsyncIterator[str]:
        for word in ("one ", "two ", "three"):
            yield word

    return StreamingResponse(chunks(), media_type="text/plain")


@app.get("/download")
async def download() -> FileResponse:
    return FileResponse(Path(__file__).with_name("ahoy.txt"), filename="ahoy.txt")


@app.get("/moved")
async def moved() -> RedirectResponse:
    return RedirectResponse("/hello", 303)


@app.get("/fails")
async def fails() -> None:
    raise ValueError("something is wrong")


@app.post("/later", status_code=202)
async def later(tasks: BackgroundTasks, word: str) -> dict[str, str]:
    tasks.add_task(written.append, word)
    return {"done": "later"}


@app.get("/socket")
async def socket_id(socket: CurrentSocket) -> dict[str, str | None]:
    return {"socket": None if socket is None else socket.id}


io = Server(app)
