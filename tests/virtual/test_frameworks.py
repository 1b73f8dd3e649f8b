"""The same request by HTTP (httpx, in process) and by socket, to the same app: the answers must not differ."""

from __future__ import annotations

import asyncio
import gc
from typing import Any, cast

import httpx
import pytest
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, HttpResponse
from fastapi import BackgroundTasks, FastAPI
from starlette.responses import StreamingResponse

from mizzen.server.gone import Gone
from mizzen.types import ASGIApp, Handshake
from mizzen.virtual.headers import pin
from mizzen.virtual.request import parse_request
from mizzen.virtual.scope import Kept, build_scope
from tests.virtual.apps import APPS
from tests.virtual.asker import dispatch

COMMON = {"host": "app.example", "user-agent": "test", "cookie": "sid=1"}
LEFT_OUT = {"set-cookie", "content-length", "date", "server", "connection", "transfer-encoding", "keep-alive"}
FORM = "application/x-www-form-urlencoded"

CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {  # name: (verb, payload, arguments of httpx)
    "text": ("get", {"url": "/hello", "data": {}}, {"url": "/hello"}),
    "absolute url": ("get", {"url": "http://other/hello#x"}, {"url": "/hello"}),
    "head": ("head", {"url": "/hello"}, {"url": "/hello"}),
    "options": ("options", {"url": "/hello", "data": {}}, {"url": "/hello"}),
    "method not allowed": ("delete", {"url": "/hello", "data": {}}, {"url": "/hello"}),
    "not found": ("get", {"url": "/nosuch"}, {"url": "/nosuch"}),
    "double slash": ("get", {"url": "//hello"}, {"url": "http://app.example//hello"}),
    "query": ("get", {"url": "/query?a=1&a=%C3%BC+x"}, {"url": "/query?a=1&a=%C3%BC+x"}),
    "data of a get": ("get", {"url": "/query", "data": {"a": [1, "ü x"]}}, {"url": "/query", "params": {"a": [1, "ü x"]}}),
    "path parameter": ("get", {"url": "/item/7"}, {"url": "/item/7"}),
    "escaped path parameter": ("get", {"url": "/item/f%20o%C3%B6"}, {"url": "/item/f%20o%C3%B6"}),
    "path beyond ASCII": ("get", {"url": "/item/ö x"}, {"url": "/item/ö x"}),
    "path that is not UTF-8": ("get", {"url": "/item/%FF"}, {"url": "/item/%FF"}),
    "json": ("post", {"url": "/json", "data": {"a": [1, None, "ü"]}}, {"url": "/json", "json": {"a": [1, None, "ü"]}}),
    "json array": ("post", {"url": "/json", "data": [1, {"a": 2}]}, {"url": "/json", "json": [1, {"a": 2}]}),
    "json string": ("post", {"url": "/json", "data": "s"}, {"url": "/json", "json": "s"}),
    "form": (
        "post",
        {"url": "/form", "headers": {"content-type": FORM}, "data": {"username": "jö", "password": "a b&c"}},
        {"url": "/form", "data": {"username": "jö", "password": "a b&c"}},
    ),
    "bytes": ("put", {"url": "/bytes", "data": b"\x00\xff\x01"}, {"url": "/bytes", "content": b"\x00\xff\x01"}),
    "headers": ("get", {"url": "/headers", "headers": {"X-Own": "1"}}, {"url": "/headers", "headers": {"X-Own": "1"}}),
    "pinned headers": ("get", {"url": "/headers", "headers": {"Host": "evil", "Cookie": "sid=2", "X_Pinned": "1"}}, {"url": "/headers"}),
    "headers of a body": ("post", {"url": "/headers", "data": {"a": 1}}, {"url": "/headers", "content": b'{"a":1}'}),
    "headers of no body": ("post", {"url": "/headers"}, {"url": "/headers"}),
    "headers of a delete": ("delete", {"url": "/headers", "data": {}}, {"url": "/headers"}),
    "redirect": ("get", {"url": "/redirect"}, {"url": "/redirect"}),
    "no content": ("get", {"url": "/empty"}, {"url": "/empty"}),
    "exception": ("get", {"url": "/boom"}, {"url": "/boom"}),
    "stream": ("get", {"url": "/stream"}, {"url": "/stream"}),
    "custom headers, no text": ("get", {"url": "/custom"}, {"url": "/custom"}),
}
FASTAPI_CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "valid": ("get", {"url": "/number/7", "data": {"limit": 5}}, {"url": "/number/7?limit=5"}),
    "invalid path parameter": ("get", {"url": "/number/seven"}, {"url": "/number/seven"}),
    "invalid query": ("get", {"url": "/number/7", "data": {"limit": "x"}}, {"url": "/number/7?limit=x"}),
    "HTTPException": ("get", {"url": "/number/-1"}, {"url": "/number/-1"}),
    "no body": ("post", {"url": "/json"}, {"url": "/json"}),
    "incomplete form": (
        "post",
        {"url": "/form", "headers": {"content-type": FORM}, "data": {"username": "j"}},
        {"url": "/form", "data": {"username": "j"}},
    ),
    "no form": ("post", {"url": "/form", "data": {"username": "j"}}, {"url": "/form", "json": {"username": "j"}}),
}


async def by_http(app: ASGIApp, verb: str, arguments: dict[str, Any]) -> dict[str, Any]:
    transport = httpx.ASGITransport(cast("Any", app), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://app.example") as client:
        client.headers = httpx.Headers({**COMMON, "accept-encoding": "identity"})
        if "content" in arguments:
            kind = "application/json" if verb == "post" else "application/octet-stream"
            arguments = {"headers": {"content-type": kind}, **arguments}
        response = await client.request(verb.upper(), **arguments)
    headers = {name.lower(): value for name, value in response.headers.items() if name.lower() not in LEFT_OUT}
    jwr: dict[str, Any] = {"headers": headers, "statusCode": response.status_code}
    kind = headers.get("content-type", "")
    if verb == "head" or response.status_code == 204:
        return jwr
    if "json" in kind:
        try:
            jwr["body"] = response.json()
        except ValueError:  # Litestar sends a str as it is, whatever the content type
            jwr["body"] = response.text
    elif kind.startswith("text/"):
        jwr["body"] = response.text
    elif response.content:
        jwr["body"] = response.content
    return jwr


def scope_of(verb: str, payload: dict[str, Any]) -> tuple[Any, bytes]:
    request = parse_request(verb, [payload])
    handshake = Handshake(
        {
            "type": "websocket",
            "scheme": "ws",
            "path": "/socket.io/",
            "query_string": b"EIO=4&transport=websocket",
            "headers": [(name.encode(), value.encode()) for name, value in COMMON.items()]
            + [(b"connection", b"Upgrade"), (b"upgrade", b"websocket"), (b"sec-websocket-key", b"x"), (b"accept-encoding", b"gzip")],
            "client": ("127.0.0.1", 123),
            "server": ("app.example", 80),
        }
    )
    scope = build_scope(Kept(handshake, "root_path"), request, "the socket", {}, {}, pin(("x-pinned",)))
    return scope, request.body or b""


async def by_socket(
    app: ASGIApp, verb: str, payload: dict[str, Any], errors: list[Exception] | None = None, max_response: int = 100_000
) -> Any:
    scope, body = scope_of(verb, payload)
    answers: list[Any] = []
    errors = [] if errors is None else errors
    await dispatch(app, scope, body, answer=answers.append, gone=Gone(), max_response=max_response, debug=False, on_error=errors.append)
    [answer] = answers
    return answer


@pytest.mark.parametrize("framework", APPS)
@pytest.mark.parametrize("case", CASES)
async def test_a_request_by_socket_is_answered_as_by_http(framework: str, case: str) -> None:
    app = APPS[framework]()
    verb, payload, arguments = CASES[case]
    expected = await by_http(app, verb, arguments)
    assert await by_socket(app, verb, payload) == expected
    if case not in ("head", "not found", "double slash", "method not allowed", "exception", "options", "path that is not UTF-8"):
        assert expected["statusCode"] < 400


@pytest.mark.parametrize("case", FASTAPI_CASES)
async def test_fastapi_validates_as_by_http(case: str) -> None:
    app = APPS["fastapi"]()
    verb, payload, arguments = FASTAPI_CASES[case]
    expected = await by_http(app, verb, arguments)
    assert await by_socket(app, verb, payload) == expected
    assert expected["statusCode"] == {"valid": 200, "HTTPException": 418}.get(case, 422)


@pytest.mark.parametrize("framework", APPS)
async def test_the_app_finds_its_socket(framework: str) -> None:
    app = APPS[framework]()
    assert (await by_socket(app, "get", {"url": "/socket"}))["body"] == "the socket"
    assert (await by_http(app, "get", {"url": "/socket"}))["body"] is None


@pytest.mark.parametrize("framework", APPS)
async def test_an_exception_is_reported_at_most_once(framework: str) -> None:
    errors: list[Exception] = []
    answer = await by_socket(APPS[framework](), "get", {"url": "/boom"}, errors)
    assert answer["statusCode"] == 500
    # Starlette answers and raises again; the others keep it to their own log.
    assert [str(error) for error in errors] == (["boom"] if framework in ("starlette", "fastapi") else [])


@pytest.mark.filterwarnings("ignore:Unclosed file:ResourceWarning")  # Django does not close the request's body when `send` raises
@pytest.mark.parametrize("framework", APPS)
async def test_a_stream_that_is_too_long_is_refused_and_the_app_ends(framework: str) -> None:
    errors: list[Exception] = []
    answer = await by_socket(APPS[framework](), "get", {"url": "/stream"}, errors, max_response=5)
    assert answer["statusCode"] == 501
    assert "max_response, 5 bytes" in answer["body"]
    assert errors == []
    gc.collect()


@pytest.mark.filterwarnings("ignore:Unclosed file:ResourceWarning")  # as above
@pytest.mark.parametrize("url", ["/hello", "/stream", "/json"])
@pytest.mark.parametrize("framework", APPS)
async def test_a_socket_that_goes_is_no_error_of_the_app(framework: str, url: str) -> None:
    scope, body = scope_of("post" if url == "/json" else "get", {"url": url, "data": {"a": 1}})
    gone, answers, errors = Gone(), [], []
    gone.happen()
    run = dispatch(APPS[framework](), scope, body, answer=answers.append, gone=gone, max_response=99, debug=False, on_error=errors.append)
    await asyncio.wait_for(run, 10)
    assert (answers, errors) == ([], [])
    gc.collect()


async def test_background_tasks_hold_up_nothing() -> None:
    order: list[str] = []
    api = FastAPI()

    @api.get("/")
    async def route(tasks: BackgroundTasks) -> str:
        tasks.add_task(lambda: order.append("task"))
        return "x"

    scope, body = scope_of("get", {"url": "/"})
    gone, errors = Gone(), []
    await dispatch(
        api, scope, body, answer=lambda jwr: order.append(jwr["body"]), gone=gone, max_response=99, debug=False, on_error=errors.append
    )
    assert order == ["x", "task"]
    assert errors == []


async def test_django_cancels_the_view_of_a_socket_that_is_gone() -> None:
    APPS["django"]()
    started, cancelled = asyncio.Event(), asyncio.Event()

    class Handler(ASGIHandler):
        async def get_response_async(self, request: HttpRequest) -> HttpResponse:
            started.set()
            try:
                return await asyncio.Future()
            except asyncio.CancelledError:
                cancelled.set()
                raise

    scope, body = scope_of("get", {"url": "/"})
    gone, answers, errors = Gone(), [], []
    task = asyncio.create_task(
        dispatch(
            cast("Any", Handler()), scope, body, answer=answers.append, gone=gone, max_response=99, debug=False, on_error=errors.append
        )
    )
    await started.wait()
    gone.happen()
    await task
    assert cancelled.is_set()
    assert (answers, errors) == ([], [])


async def test_a_starlette_stream_stops_when_its_socket_goes() -> None:
    gone, answers, errors = Gone(), [], []

    async def forever() -> Any:
        while True:
            yield b"x"
            gone.happen()

    scope, body = scope_of("get", {"url": "/"})
    app: Any = StreamingResponse(cast("Any", forever()))
    await dispatch(app, scope, body, answer=answers.append, gone=gone, max_response=99, debug=False, on_error=errors.append)
    assert (answers, errors) == ([], [])
