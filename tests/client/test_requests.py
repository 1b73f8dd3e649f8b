"""Socket requests of the client, to the routes of an app behind Mizzen, and the answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from fastapi import FastAPI, Form, Request
from fastapi.responses import PlainTextResponse
from fastapi.responses import Response as HTTPResponse

from mizzen import AckTimeout, Client, ConnectionClosed, LocalProtocolError, RemoteError, Response, Server, Socket, StatusError
from tests.support import serve

api = FastAPI()
io = Server(api, close_grace=0.1)


@api.api_route("/mirror", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def mirror(request: Request) -> dict[str, Any]:
    body = await request.body()
    return {
        "method": request.method,
        "query": request.url.query,
        "type": request.headers.get("content-type"),
        "token": request.headers.get("x-token"),
        "body": body.decode("latin-1"),
    }


@api.post("/form")
async def form(name: Annotated[str, Form()], tag: Annotated[list[str], Form()]) -> list[Any]:
    return [name, tag]


@api.get("/text")
async def text() -> PlainTextResponse:
    return PlainTextResponse("plain é")


@api.get("/bytes")
async def read_bytes() -> HTTPResponse:
    return HTTPResponse(bytes([0, 255]), media_type="application/octet-stream")


@api.delete("/nothing", status_code=204)
async def nothing() -> None: ...


@api.get("/never")
async def never() -> None:
    await asyncio.sleep(60)


@io.on("kick")
async def kick(socket: Socket) -> None:
    socket.disconnect()


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with serve(io, native=True) as url, Client(url) as client:
        yield client


@pytest.mark.parametrize("verb", ["post", "put", "patch", "delete"])
async def test_each_verb_carries_json(client: Client, verb: str):
    answer = await client.request(verb.upper(), "/mirror?a=1", params={"b": [True, None]}, json={"x": [1]}, headers={"X-Token": "t"})
    assert answer.json() == {
        "method": verb.upper(),
        "query": "a=1&b=true&b=",
        "type": "application/json",
        "token": "t",
        "body": '{"x":[1]}',
    }
    assert (answer.status_code, answer.reason_phrase, answer.is_success) == (200, "OK", True)
    assert answer.headers["Content-Type"] == "application/json"


async def test_get_head_and_options(client: Client):
    assert (await client.get("/mirror", params=[("a", 1), ("a", 2)])).json()["query"] == "a=1&a=2"
    assert (await client.options("/mirror")).json()["method"] == "OPTIONS"
    answer = await client.head("/text")
    assert (answer.status_code, answer.content) == (405, b"")


async def test_forms_and_bodies_as_they_are(client: Client):
    assert (await client.post("/form", data={"name": "é", "tag": ["a", "b"]})).json() == ["é", ["a", "b"]]
    answer = (await client.post("/mirror", data="text")).json()
    assert (answer["body"], answer["type"]) == ("text", "text/plain; charset=utf-8")
    answer = (await client.post("/mirror", data=b"\x00\xff", headers={"Content-Type": "image/x"})).json()
    assert (answer["body"], answer["type"]) == ("\x00\xff", "image/x")
    with pytest.raises(LocalProtocolError, match="one body"):
        await client.post("/mirror", json=1, data="x")
    with pytest.raises(LocalProtocolError, match="'TRACE' is not a method"):
        await client.request("TRACE", "/")


async def test_answers_of_each_kind(client: Client):
    assert (await client.get("/text")).text == "plain é"
    assert (await client.get("/text")).content == "plain é".encode()
    assert (await client.get("/bytes")).content == b"\x00\xff"
    empty = await client.delete("/nothing")
    assert (empty.status_code, empty.content, empty.text, empty.json()) == (204, b"", "", None)


async def test_a_status_is_an_answer_unless_asked(client: Client):
    missing = await client.get("/missing")
    assert (missing.status_code, missing.is_client_error, missing.is_error, missing.json()) == (404, True, True, {"detail": "Not Found"})
    with pytest.raises(StatusError, match="GET /missing was answered with 404 Not Found") as status:
        missing.raise_for_status()
    assert status.value.response is missing
    assert (await client.get("/text")).raise_for_status().text == "plain é"


async def test_requests_that_get_no_answer(client: Client):
    with pytest.raises(AckTimeout):
        await client.get("/never", timeout=0.02)
    waiting = asyncio.ensure_future(client.get("/never"))
    await client.get("/text")
    client.emit("kick")
    with pytest.raises(ConnectionClosed):
        await waiting


async def test_an_event_handler_of_that_name_that_fails():
    plain = Server()

    @plain.on("get")
    async def get(socket: Socket, request: int) -> None: ...

    async with serve(plain) as url, Client(url) as client:
        with pytest.raises(RemoteError):
            await client.get("/x")


def test_a_response_of_what_other_servers_answer():
    assert Response.of("get", "/", {"body": {"a": 1}}).json() == {"a": 1}
    assert Response.of("get", "/", {"body": "text", "statusCode": 200, "headers": {}}).text == "text"
    assert Response.of("get", "/", "bare").text == "bare"
    assert Response.of("get", "/", {"statusCode": 299, "headers": None}).reason_phrase == ""
    with pytest.raises(ValueError, match="not JSON"):
        Response(200, {}, "no json").json()
    assert Response(200, {"content-type": "application/json"}, None).text == "null"
    assert repr(Response(404, {}, None)) == "<Response [404 Not Found]>"
    assert Response(302, {}, None).is_redirect
    assert Response(500, {}, None).is_server_error
    headers = Response(200, {"X-One": "1"}, None).headers
    assert (headers["x-one"], "X-ONE" in headers, dict(headers), len(headers)) == ("1", True, {"x-one": "1"}, 1)
