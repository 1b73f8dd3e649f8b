"""Protection against forged requests: the app's own middleware sees socket requests, and works."""

from __future__ import annotations

import secrets
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from mizzen import Server
from mizzen.types import Message, Receive, Scope, Send
from tests.support import serve
from tests.virtual.live import Client, client_of, example

FORM = {"content-type": "application/x-www-form-urlencoded"}


async def transfer(client: Client, headers: dict[str, str] | None = None, data: Any = None) -> int:
    return (await client.by_socket("post", "/transfer", data, headers))[0]


class TestDjango:
    async def test_the_token_of_the_page_counts_in_the_socket(self) -> None:
        with example("django") as module:
            async with serve(module.io) as url, httpx.AsyncClient(base_url=url, trust_env=False) as browser:
                token = (await browser.get("/csrf")).json()
                cookie = f"csrftoken={browser.cookies['csrftoken']}"
                async with client_of(url, {"cookie": cookie, "origin": url}) as client:
                    assert await transfer(client, {"X-CSRFToken": token}) == 200
                    assert await transfer(client, {"X-CSRFToken": browser.cookies["csrftoken"]}) == 200
                    assert await transfer(client, FORM, {"csrfmiddlewaretoken": token}) == 200
                    assert await transfer(client) == 403
                    assert await transfer(client, {"X-CSRFToken": "x" * 32}) == 403
                    assert await transfer(client, {"X-CSRFToken": token, "cookie": "csrftoken=evil"}) == 200  # pinned
                async with client_of(url) as stranger:
                    assert await transfer(stranger, {"X-CSRFToken": token}) == 403

    async def test_a_token_can_be_had_over_the_socket(self) -> None:
        with example("django") as module:
            async with serve(module.io) as url, client_of(url, {"origin": url}) as client:
                token = (await client.by_socket("get", "/csrf"))[2]
                assert await transfer(client, {"X-CSRFToken": token}) == 200
                assert await transfer(client) == 403

    async def test_the_origin_is_the_pages_whatever_the_message_says(self) -> None:
        with example("django") as module:
            pages = "https://pages.example"
            io = Server(module.app, cors_origins=[pages])
            async with serve(io) as url, client_of(url, {"origin": pages}) as client:
                token = (await client.by_socket("get", "/csrf"))[2]
                # the page may connect, but is not in Django's CSRF_TRUSTED_ORIGINS
                assert await transfer(client, {"X-CSRFToken": token}) == 403
                assert await transfer(client, {"X-CSRFToken": token, "Origin": url, "Host": "pages.example"}) == 403


class DoubleSubmit:
    """The usual middleware of Starlette apps: the cookie must come again as a header."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        cookie = request.cookies.get("csrf")
        if request.method not in ("GET", "HEAD", "OPTIONS") and (cookie is None or request.headers.get("x-csrf") != cookie):
            await PlainTextResponse("forged", 403)(scope, receive, send)
            return

        async def send_with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start" and cookie is None:
                message["headers"].append((b"set-cookie", b"csrf=%s; Path=/; SameSite=Strict" % secrets.token_hex(8).encode()))
            await send(message)

        await self._app(scope, receive, send_with_cookie)


class TestStarlette:
    @staticmethod
    def make_server() -> Server:
        async def answer(request: Request) -> Response:
            return PlainTextResponse(request.cookies.get("csrf", ""))

        return Server(
            Starlette(routes=[Route("/", answer), Route("/transfer", answer, methods=["POST"])], middleware=[Middleware(DoubleSubmit)])
        )

    async def test_the_cookie_of_the_page_must_come_as_a_header(self) -> None:
        async with serve(self.make_server()) as url, client_of(url, {"cookie": "csrf=page"}) as client:
            assert await transfer(client) == 403
            assert await transfer(client, {"x-csrf": "other", "cookie": "csrf=other"}) == 403
            assert await transfer(client, {"x-csrf": "page"}) == 200

    async def test_a_cookie_that_the_socket_was_given_counts_too(self) -> None:
        async with serve(self.make_server()) as url, client_of(url) as client:
            assert await transfer(client, {"x-csrf": ""}) == 403
            await client.by_socket("get", "/")
            token = (await client.by_socket("get", "/"))[2]
            assert len(token) == 16
            assert await transfer(client, {"x-csrf": token}) == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example"])
async def test_a_foreign_page_gets_no_socket_at_all(origin: str) -> None:
    from websockets.exceptions import InvalidStatus

    async with serve(TestStarlette.make_server()) as url:
        with pytest.raises(InvalidStatus) as refused:
            async with client_of(url, {"origin": origin}):
                pass
        assert refused.value.response.status_code == 400
