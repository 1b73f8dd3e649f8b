"""The examples, served: a request by socket is answered as the same request by HTTP, and does the same to the app."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import BackgroundTasks, FastAPI

from mizzen import Server
from tests.support import until
from tests.virtual.live import FRAMEWORKS, Client, client_of, example, running

FORM = {"content-type": "application/x-www-form-urlencoded"}
BEARER = {"authorization": "Bearer token"}

CASES: dict[str, tuple[int | None, tuple[Any, ...]]] = {  # name: (status if all frameworks agree on it, verb, url, data, headers)
    "lifespan state": (200, ("get", "/hello")),
    "head": (None, ("head", "/hello")),
    "options": (None, ("options", "/hello")),
    "path parameter": (200, ("get", "/items/7")),
    "query in the url": (200, ("get", "/items/7?tag=a%20b")),
    "query as data": (200, ("get", "/items/7", {"tag": "ü&x"})),
    "escaped path": (404, ("get", "/items/%C3%BC")),
    "path parameter that is not valid": (None, ("get", "/items/seven")),
    "json": (201, ("post", "/items", {"name": "ä", "price": 1.5})),
    "json that is not valid": (None, ("post", "/items", {"price": 1})),
    "no body": (None, ("post", "/items")),
    "form": (200, ("post", "/login", {"username": "ada", "password": "a b&c"}, FORM)),
    "bytes": (200, ("put", "/mirror", b"\x00\xff\x01")),
    "not found": (404, ("get", "/nowhere")),
    "method not allowed": (None, ("delete", "/hello")),
    "redirect": (303, ("get", "/moved")),
    "stream": (200, ("get", "/stream")),
    "download": (200, ("get", "/download")),
    "exception": (500, ("get", "/fails")),
    "refused": (401, ("get", "/me")),
    "authorized by header": (200, ("get", "/me", None, BEARER)),
    "cookie": (200, ("get", "/color", {"set": "blue"})),
    "no content": (204, ("post", "/logout")),
}
AGREED_NOWHERE = {"escaped path": {"fastapi": 422}}  # where the route of one framework matches what others' do not
SERVER_SIDE = ("litestar",)
"""Frameworks whose example keeps sessions at the server; the others' sessions are signed cookies."""
WITHOUT_TASKS = ("django",)
"""Frameworks that have nothing that runs after an answer."""


def lasting(headers: dict[str, str]) -> dict[str, str]:
    """Leave out what differs between two requests by HTTP as well: the count of the middleware, and times of the clock."""
    return {name: value for name, value in headers.items() if name not in ("x-requests", "expires")}


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume synchronous iterators:Warning")  # FileResponse is synchronous
@pytest.mark.parametrize("native", [False, True], ids=["asgi", "native"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_request_by_socket_is_answered_as_by_http(framework: str, native: bool) -> None:
    differences: dict[str, Any] = {}
    with example(framework) as module:
        async with running(module.io, native=native) as client:
            for case, (status, arguments) in CASES.items():
                client.http.cookies.clear()
                expected = await client.by_http(*arguments)
                client.http.cookies.clear()
                got = await client.by_socket(*arguments)
                if (got[0], lasting(got[1]), got[2]) != (expected[0], lasting(expected[1]), expected[2]):
                    differences[case] = (got, expected)
                agreed = AGREED_NOWHERE.get(case, {}).get(framework, status)
                if agreed is not None and expected[0] != agreed:
                    differences[f"{case}, status"] = (expected[0], agreed)
                if case == "form":
                    await client.by_socket("post", "/logout")
    assert differences == {}


async def go_through_a_login(client: Client) -> None:
    """Go through a login by socket: what the socket then is, and that HTTP knows nothing of it."""
    assert (await client.by_socket("get", "/me"))[0] == 401
    assert (await client.by_socket("post", "/login", {"username": "ada", "password": "x"}, FORM))[0] == 200
    assert (await client.by_socket("get", "/me"))[2] == {"user": "ada", "authorization": None}
    assert (await client.by_http("get", "/me"))[0] == 401
    assert [(await client.by_socket("get", "/count"))[2] for _ in range(3)] == [1, 2, 3]
    assert (await client.by_socket("get", "/me"))[2] == {"user": "ada", "authorization": None}
    assert (await client.by_socket("post", "/logout"))[0] == 204
    assert (await client.by_socket("get", "/me"))[0] == 401


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_session_lives_in_the_socket(framework: str) -> None:
    with example(framework) as module:
        async with running(module.io) as client:
            await go_through_a_login(client)
            assert [(await client.by_http("get", "/count"))[2] for _ in range(2)] == [1, 2]
            assert (await client.by_socket("get", "/count"))[2] == 1


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_session_of_http_goes_on_in_the_socket(framework: str) -> None:
    with example(framework) as module:
        async with running(module.io) as browser:
            await browser.by_http("post", "/login", {"username": "ada", "password": "x"}, FORM)
            await browser.by_http("get", "/count")
            cookie = "; ".join(f"{name}={value}" for name, value in browser.http.cookies.items())
            async with client_of(browser.url, {"cookie": cookie}) as client:
                assert (await client.by_socket("get", "/me"))[2] == {"user": "ada", "authorization": None}
                assert [(await client.by_socket("get", "/count"))[2] for _ in range(3)] == [2, 3, 4]
                assert (await client.by_socket("post", "/logout"))[0] == 204
                assert (await client.by_socket("get", "/me"))[0] == 401
            # A session at the server is one for both; a signed cookie is the browser's own, and stays what it was.
            assert (await browser.by_http("get", "/count"))[2] == (1 if framework in SERVER_SIDE else 2)


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_cookie_that_an_answer_sets_comes_with_the_next_request(framework: str) -> None:
    with example(framework) as module:
        async with running(module.io) as client, client_of(client.url, {"cookie": "color=red"}) as other:
            for ask in (client.by_http, client.by_socket):
                assert (await ask("get", "/color"))[2] == {"color": None}
                assert (await ask("get", "/color?set=blue"))[2] == {"color": None}
                assert (await ask("get", "/color"))[2] == {"color": "blue"}
            assert (await other.by_socket("get", "/color"))[2] == {"color": "red"}
            assert (await other.by_socket("get", "/color", None, {"cookie": "color=white"}))[2] == {"color": "red"}


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_token_of_the_socket_authorizes(framework: str) -> None:
    with example(framework) as module:
        async with running(module.io) as client:
            (socket,) = module.io.sockets.values()
            socket.headers["authorization"] = "Bearer token"
            assert (await client.by_socket("get", "/me"))[2] == {"user": None, "authorization": "Bearer token"}
            assert (await client.by_socket("get", "/socket"))[2] == {"socket": socket.id}
            assert (await client.by_http("get", "/socket"))[2] == {"socket": None}


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_middleware_counts_requests_of_both_kinds(framework: str) -> None:
    with example(framework) as module:
        async with running(module.io) as client:
            first = int((await client.by_http("get", "/hello"))[1]["x-requests"])
            counts = [int((await ask("get", "/hello"))[1]["x-requests"]) for ask in (client.by_socket, client.by_http, client.by_socket)]
            assert counts == [first + 1, first + 2, first + 3]


@pytest.mark.parametrize("framework", [framework for framework in FRAMEWORKS if framework not in WITHOUT_TASKS])
async def test_what_runs_after_the_answer_runs(framework: str) -> None:
    with example(framework) as module:
        async with running(module.io) as client:
            module.written.clear()
            for word, ask in (("http", client.by_http), ("socket", client.by_socket)):
                assert (await ask("post", f"/later?word={word}"))[::2] == (202, {"done": "later"})
            await until(lambda: sorted(module.written) == ["http", "socket"])  # each in a thread of its own


async def test_the_ack_does_not_wait_for_background_tasks() -> None:
    gate, done = asyncio.Event(), asyncio.Event()
    api = FastAPI()

    async def work() -> None:
        await gate.wait()
        done.set()

    @api.get("/")
    async def route(tasks: BackgroundTasks) -> str:
        tasks.add_task(work)
        return "answered"

    async with running(Server(api)) as client:
        assert (await client.by_socket("get", "/"))[2] == "answered"
        assert not done.is_set()
        gate.set()
        await until(done.is_set)
