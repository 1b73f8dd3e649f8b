"""Litestar: `mizzen run examples.frameworks.with_litestar:io`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from litestar import Litestar, MediaType, Request, Response, get, post, put
from litestar.background_tasks import BackgroundTask
from litestar.datastructures import Cookie, State
from litestar.enums import RequestEncodingType
from litestar.exceptions import NotAuthorizedException
from litestar.middleware.session.server_side import ServerSideSessionConfig
from litestar.params import Body, FromPath, FromQuery, JSONBody
from litestar.response import File, Redirect, Stream

from mizzen import Server, socket_of

written: list[str] = []
"""What background tasks wrote."""

AnyRequest = Request[Any, Any, State]


@dataclass
class Item:
    name: str
    price: float = 0


@dataclass
class Login:
    username: str
    password: str


async def start(app: Litestar) -> None:
    app.state.greeting = "ahoy"
    app.state.requests = 0


def count_requests(request: AnyRequest) -> None:
    request.app.state.requests += 1


def mark(response: Response[Any]) -> Response[Any]:
    response.headers["x-requests"] = str(app.state.requests)
    return response


@get("/hello", media_type=MediaType.TEXT)
async def hello(state: State) -> str:
    return state.greeting


@get("/items/{id:int}")
async def read_item(id: FromPath[int], tag: FromQuery[str] = "none") -> dict[str, int | str]:
    return {"id": id, "tag": tag}


@post("/items")
async def add_item(data: JSONBody[Item]) -> Item:
    return data


@post("/login", status_code=200)
async def login(request: AnyRequest, data: Annotated[Login, Body(media_type=RequestEncodingType.URL_ENCODED)]) -> dict[str, str]:
    request.set_session({"user": data.username})
    return {"user": data.username}


@post("/logout", status_code=204)
async def logout(request: AnyRequest) -> None:
    request.clear_session()


@get("/me")
async def me(request: AnyRequest) -> dict[str, str | None]:
    user, authorization = request.session.get("user"), request.headers.get("authorization")
    if authorization is None and user is None:
        raise NotAuthorizedException("log in first")
    return {"user": user, "authorization": authorization}


@get("/count")
async def count_visits(request: AnyRequest) -> int:
    visits: int = request.session.get("visits", 0) + 1
    request.session["visits"] = visits
    return visits


@get("/color")
async def color(request: AnyRequest) -> Response[dict[str, str | None]]:
    cookies = [Cookie("color", value=request.query_params["set"], max_age=3600)] if "set" in request.query_params else []
    return Response({"color": request.cookies.get("color")}, cookies=cookies)


@put("/mirror")
async def mirror(request: AnyRequest) -> Response[bytes]:
    return Response((await request.body())[::-1], media_type="application/octet-stream", headers={"X-Mirror": "1"})


@get("/stream")
async def stream() -> Stream:
    async def chunks() -> AsyncIterator[str]:
        for word in ("one ", "two ", "three"):
            yield word

    return Stream(chunks(), media_type="text/plain")


@get("/download")
async def download() -> File:
    return File(Path(__file__).with_name("ahoy.txt"), filename="ahoy.txt")


@get("/moved")
async def moved() -> Redirect:
    return Redirect("/hello", status_code=303)


@get("/fails")
async def fails() -> None:
    raise ValueError("something is wrong")


@post("/later", status_code=202)
async def later(word: FromQuery[str]) -> Response[dict[str, str]]:
    return Response({"done": "later"}, background=BackgroundTask(written.append, word))


@get("/socket")
async def socket_id(request: AnyRequest) -> dict[str, str | None]:
    socket = socket_of(request)
    return {"socket": None if socket is None else socket.id}


sessions = ServerSideSessionConfig()
app = Litestar(
    [
        *(hello, read_item, add_item, login, logout, me, count_visits, color),
        *(mirror, stream, download, moved, fails, later, socket_id),
    ],
    on_startup=[start],
    before_request=count_requests,
    after_request=mark,
    middleware=[sessions.middleware],
    logging_config=None,
)

io = Server(app)
