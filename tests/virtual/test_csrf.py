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

from mizzen import ConnectFailed, Server
from mizzen.testing import TestClient
from mizzen.types import Message, Receive, Scope, Send
from tests.virtual.live import example

SITE = "http://testserver"


async def transfer(client: TestClient, headers: dict[str, str] | None = None, form: dict[str, str] | None = None) -> int:
    return (await client.post("/transfer", data=form, headers=headers)).status_code


class TestDjango:
    async def test_the_token_of_the_page_counts_in_the_socket(self) -> None:
        with example("django") as module:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(module.io), base_url=SITE) as browser:
                token = (await browser.get("/csrf")).json()
                cookies = {"csrftoken": browser.cookies["csrftoken"]}
            async with TestClient(module.io, headers={"origin": SITE}, cookies=cookies) as client:
                assert await transfer(client, {"X-CSRFToken": token}) == 200
                assert await transfer(client, {"X-CSRFToken": cookies["csrftoken"]}) == 200
                assert await transfer(client, form={"csrfmiddlewaretoken": token}) == 200
                assert await transfer(client) == 403
                assert await transfer(client, {"X-CSRFToken": "x" * 32}) == 403
                assert await transfer(client, {"X-CSRFToken": token, "cookie": "csrftoken=evil"}) == 200  # pinned
            async with TestClient(module.io) as stranger:
                assert await transfer(stranger, {"X-CSRFToken": token}) == 403

    async def test_a_token_can_be_had_over_the_socket(self) -> None:
        with example("django") as module:
            async with TestClient(module.io, headers={"origin": SITE}) as client:
                token = (await client.get("/csrf")).json()
                assert await transfer(client, {"X-CSRFToken": token}) == 200
                assert await transfer(client) == 403

    async def test_the_origin_is_the_pages_whatever_the_message_says(self) -> None:
        with example("django") as module:
            pages = "https://pages.example"
            async with TestClient(Server(module.app, cors_origins=[pages]), headers={"origin": pages}) as client:
                token = (await client.get("/csrf")).json()
                # the page may connect, but is not in Django's CSRF_TRUSTED_ORIGINS
                assert await transfer(client, {"X-CSRFToken": token}) == 403
                assert await transfer(client, {"X-CSRFToken": token, "Origin": SITE, "Host": "pages.example"}) == 403


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
        async with TestClient(self.make_server(), cookies={"csrf": "page"}) as client:
            assert await transfer(client) == 403
            assert await transfer(client, {"x-csrf": "other", "cookie": "csrf=other"}) == 403
            assert await transfer(client, {"x-csrf": "page"}) == 200

    async def test_a_cookie_that_the_socket_was_given_counts_too(self) -> None:
        async with TestClient(self.make_server()) as client:
            assert await transfer(client, {"x-csrf": ""}) == 403
            await client.get("/")
            token = (await client.get("/")).text
            assert len(token) == 16
            assert await transfer(client, {"x-csrf": token}) == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://testserver.evil.example"])
async def test_a_foreign_page_gets_no_socket_at_all(origin: str) -> None:
    with pytest.raises(ConnectFailed, match="the app answered 400"):
        await TestClient(TestStarlette.make_server(), headers={"origin": origin}).connect()
