"""httpx over a socket: the same code, and the same answers, as over HTTP."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI, Form, HTTPException, Request, UploadFile
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from pydantic import BaseModel
from starlette.middleware.sessions import SessionMiddleware

from mizzen import Client, LocalProtocolError, Server, SocketTransport, SyncClient
from mizzen.fastapi import CurrentSocket
from tests.support import WITHIN, serve


class Note(BaseModel):
    text: str
    count: int = 1


def make() -> Server:
    api = FastAPI()
    api.add_middleware(SessionMiddleware, secret_key="secret")
    api.add_middleware(GZipMiddleware, minimum_size=10)

    @api.api_route("/seen/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
    async def seen(request: Request) -> dict[str, Any]:
        kept = ("content-type", "accept", "user-agent", "x-own", "authorization")
        return {
            "method": request.method,
            "path": request.url.path,
            "query": request.url.query,
            "headers": {name: request.headers.get(name) for name in kept},
            "body": (await request.body()).decode("latin-1"),
        }

    @api.post("/notes", status_code=201)
    async def notes(note: Note) -> Note:
        return note

    @api.post("/form")
    async def form(text: Annotated[str, Form()], tags: Annotated[list[str], Form()]) -> list[Any]:
        return [text, tags]

    @api.post("/files")
    async def files(file: UploadFile, text: Annotated[str, Form()]) -> list[Any]:
        return [file.filename, file.content_type, (await file.read()).hex(), text]

    @api.get("/text")
    async def text() -> PlainTextResponse:
        return PlainTextResponse("é" * 100, headers={"x-own": "yes"})

    @api.get("/bytes")
    async def binary() -> Response:
        return Response(bytes(range(256)), media_type="application/octet-stream")

    @api.get("/nothing", status_code=204)
    async def nothing() -> None: ...

    @api.get("/redirect")
    async def redirect(request: Request) -> RedirectResponse:
        return RedirectResponse(request.url_for("text"), 303)

    @api.get("/refused")
    async def refused() -> None:
        raise HTTPException(403, "no")

    @api.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse((f"line {number}\n" for number in range(3)), media_type="text/plain")

    @api.get("/count")
    async def count(request: Request) -> int:
        request.session["count"] = request.session.get("count", 0) + 1
        return request.session["count"]

    @api.get("/slow")
    async def slow() -> None:
        await asyncio.sleep(60)

    @api.get("/way")
    async def way(socket: CurrentSocket) -> str:
        return "socket" if socket else "HTTP"

    return Server(api, close_grace=0.0, cancel_on_disconnect=True)


Ask = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]
JSON_HEADERS = {"content-type": "application/json"}
ASKED: dict[str, Ask] = {
    "a path": lambda http: http.get("/seen/a%20b/é?x=%2F&y="),
    "params": lambda http: http.get("/seen/", params={"a": [1, "2 &"], "b": True, "c": None}),
    "json": lambda http: http.post("/seen/", json={"é": [1, 2.5, None, {"a": "b"}]}),
    "json null": lambda http: http.put("/seen/", json=None, content="null", headers=JSON_HEADERS),
    "json of text": lambda http: http.put("/seen/", content='"text"', headers=JSON_HEADERS),
    "json that is none": lambda http: http.patch("/seen/", content="{nothing", headers=JSON_HEADERS),
    "json with NaN": lambda http: http.patch("/seen/", content="[NaN]", headers=JSON_HEADERS),
    "problem+json": lambda http: http.post("/seen/", content="[1]", headers={"content-type": "application/problem+json"}),
    "a form": lambda http: http.post("/seen/", data={"a": "1 &é", "b": ["2", "3"]}),
    "text": lambda http: http.post("/seen/", content="é", headers={"content-type": "text/plain; charset=utf-8"}),
    "text that is none": lambda http: http.post("/seen/", content=b"\xff", headers={"content-type": "text/plain"}),
    "bytes": lambda http: http.post("/seen/", content=bytes(range(256)), headers={"content-type": "application/x-own"}),
    "headers": lambda http: http.delete("/seen/", headers={"X-Own": "1", "User-Agent": "me", "Accept": "text/x"}, auth=("ada", "secret")),
    "options": lambda http: http.options("/seen/"),
    "head": lambda http: http.head("/text"),
    "validated": lambda http: http.post("/notes", json={"text": "a", "count": 2}),
    "refused by validation": lambda http: http.post("/notes", json={"count": "many"}),
    "a form that is read": lambda http: http.post("/form", data={"text": "a", "tags": ["b", "c"]}),
    "a text answer": lambda http: http.get("/text"),
    "a binary answer": lambda http: http.get("/bytes"),
    "no content": lambda http: http.get("/nothing"),
    "an error": lambda http: http.get("/refused"),
    "not found": lambda http: http.get("/nowhere"),
    "a redirect": lambda http: http.get("/redirect"),
    "a redirect that is followed": lambda http: http.get("/redirect", follow_redirects=True),
    "files": lambda http: http.post("/files", files={"file": ("a.bin", bytes(range(256)), "image/x")}, data={"text": "é"}),
}


@pytest.mark.parametrize("asked", ASKED)
async def test_the_answer_is_that_of_http(asked: str) -> None:
    async with serve(make()) as url, Client(url) as socket:
        async with (
            httpx.AsyncClient(base_url=url, trust_env=False) as by_http,
            httpx.AsyncClient(base_url=url, transport=SocketTransport(socket)) as by_socket,
        ):
            expected, given = await ASKED[asked](by_http), await ASKED[asked](by_socket)
    assert given.status_code == expected.status_code
    assert given.url == expected.url
    assert len(given.history) == len(expected.history)
    if expected.content and "application/json" in expected.headers.get("content-type", ""):
        mine, theirs = given.json(), expected.json()
        if isinstance(mine, dict) and "json" in asked and "body" in mine:
            mine["body"], theirs["body"] = ("".join(each["body"].split()) for each in (mine, theirs))
        assert mine == theirs
    else:
        assert given.content == expected.content
    for name in ("content-type", "x-own", "location"):
        assert given.headers.get(name) == expected.headers.get(name), name


async def test_requests_go_over_the_socket() -> None:
    async with serve(make()) as url, Client(url) as socket:
        async with httpx.AsyncClient(base_url="http://whatever", transport=SocketTransport(socket)) as http:
            assert (await http.get("/way")).json() == "socket"
        assert socket.connected


async def test_a_stream_is_one_piece() -> None:
    async with serve(make()) as url, Client(url) as socket:
        async with httpx.AsyncClient(base_url=url, transport=SocketTransport(socket)) as http, http.stream("GET", "/stream") as response:
            assert [line async for line in response.aiter_lines()] == ["line 0", "line 1", "line 2"]


async def test_cookies_are_kept_for_the_socket() -> None:
    async with serve(make()) as url, Client(url) as socket:
        async with httpx.AsyncClient(base_url=url, transport=SocketTransport(socket)) as http:
            assert [(await http.get("/count")).json() for _ in range(3)] == [1, 2, 3]
            assert not http.cookies


async def test_only_what_is_mounted_goes_over_the_socket() -> None:
    async with serve(make()) as url, Client(url) as socket:
        async with httpx.AsyncClient(mounts={"http://socket": SocketTransport(socket)}, trust_env=False) as http:
            assert [(await http.get(f"{base}/way")).json() for base in ("http://socket", url)] == ["socket", "HTTP"]


async def test_errors_are_those_of_httpx() -> None:
    async with serve(make()) as url:
        socket = Client(url)
        async with httpx.AsyncClient(base_url=url, transport=SocketTransport(socket), timeout=0.02) as http:
            with pytest.raises(httpx.ConnectError, match="call its connect"):
                await http.get("/text")
            async with socket:
                with pytest.raises(httpx.ReadTimeout) as late:
                    await http.get("/slow")
                assert late.value.request.url.path == "/slow"
                with pytest.raises(httpx.LocalProtocolError, match="TRACE"):
                    await http.request("TRACE", "/text")
                with pytest.raises(httpx.LocalProtocolError, match="has no body"):
                    await http.request("GET", "/text", json=1)
                waiting = asyncio.ensure_future(http.get("/slow", timeout=None))
                while not socket.outbox._acks:
                    await asyncio.sleep(0)
                await socket.disconnect()
                with pytest.raises(httpx.ReadError):
                    await waiting


async def test_a_server_without_socket_requests_is_a_protocol_error() -> None:
    io = Server(requests=False)

    @io.on("get")
    async def get(*args: Any) -> None:
        raise ValueError

    async with serve(io) as url, Client(url) as socket:
        async with httpx.AsyncClient(base_url=url, transport=SocketTransport(socket)) as http:
            with pytest.raises(httpx.RemoteProtocolError):
                await http.get("/text")


async def test_while_it_is_not_connected_the_connecting_may_take_its_time() -> None:
    socket = Client("http://127.0.0.1:1", wait_for_server=True)
    connecting = asyncio.ensure_future(socket.connect())
    while not socket.active:
        await asyncio.sleep(0)
    async with httpx.AsyncClient(base_url="http://app", transport=SocketTransport(socket)) as http:
        with pytest.raises(httpx.ConnectTimeout):
            await http.get("/", timeout=httpx.Timeout(0.01))
    connecting.cancel()
    await asyncio.wait((connecting,))


async def test_the_sync_client_is_for_the_sync_httpx() -> None:
    def talk(url: str) -> list[Any]:
        with SyncClient(url) as socket, httpx.Client(base_url=url, transport=SocketTransport(socket)) as http:
            note = http.post("/notes", json={"text": "a"})
            file = http.post("/files", files={"file": ("a", b"\0")}, data={"text": "b"}).json()
            with pytest.raises(httpx.ReadTimeout):
                http.get("/slow", timeout=0.02)
            return [http.get("/way").json(), note.status_code, note.json(), file]

    async with serve(make()) as url:
        async with asyncio.timeout(WITHIN):
            told = await asyncio.to_thread(talk, url)
    assert told == ["socket", 201, {"text": "a", "count": 1}, ["a", "application/octet-stream", "00", "b"]]


async def test_the_wrong_kind_of_client_is_told() -> None:
    async with httpx.AsyncClient(transport=SocketTransport(SyncClient("http://127.0.0.1:1"))) as http:
        with pytest.raises(LocalProtocolError, match=r"needs a SocketTransport over mizzen\.Client"):
            await http.get("http://app/")
    with httpx.Client(transport=SocketTransport(Client("http://127.0.0.1:1"))) as http:
        with pytest.raises(LocalProtocolError, match=r"needs a SocketTransport over mizzen\.SyncClient"):
            http.get("http://app/")


def test_without_httpx_it_says_what_to_install() -> None:
    script = """
import sys
sys.modules["httpx"] = None
from mizzen import *
try:
    SocketTransport(Client("http://127.0.0.1:1"))
except ImportError as error:
    print(error)
"""
    ended = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "SocketTransport is for httpx, which is not installed: pip install httpx"
