"""`GET /__getcookie`: the script, the app's cookies with it, and to whom it is given."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from mizzen import OptionsError, Server
from mizzen.types import Receive, Scope, Send
from tests.support import serve

SCRIPT = "_sailsIoJSConnect();"
PAGES = "https://pages.example"


class Visits:
    """A middleware that begins a session with every request, as Sails does."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["session"]["visits"] = scope["session"].get("visits", 0) + 1
        await self._app(scope, receive, send)


def make_app(*routes: Any) -> Any:
    return Starlette(routes=routes, middleware=[Middleware(SessionMiddleware, secret_key="x", same_site="none"), Middleware(Visits)])


async def get(app: Any, path: str = "/__getcookie", method: str = "GET", **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app.example") as http:
        return await http.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})


def is_script(response: httpx.Response) -> bool:
    return (response.status_code, response.text) == (200, SCRIPT)


async def test_the_script_comes_with_the_cookie_that_the_app_sets() -> None:
    response = await get(Server(make_app(), cors_origins=[PAGES]), referer=f"{PAGES}/some/page?x", sec_fetch_site="cross-site")
    assert is_script(response)
    assert response.headers["content-type"] == "application/javascript"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["cross-origin-resource-policy"] == "cross-origin"
    assert response.headers["content-length"] == str(len(SCRIPT))
    assert "session=" in response.headers["set-cookie"]
    assert "samesite=none" in response.headers["set-cookie"].lower()


@pytest.mark.parametrize(
    ("headers", "given"),
    [
        ({}, True),  # no browser
        ({"sec_fetch_site": "same-origin"}, True),
        ({"sec_fetch_site": "none"}, True),
        ({"sec_fetch_site": "cross-site"}, False),
        ({"referer": f"{PAGES}/"}, True),
        ({"referer": f"{PAGES}/", "sec_fetch_site": "cross-site"}, True),
        ({"referer": "http://app.example/page"}, True),
        ({"referer": "https://app.example:443/page"}, True),  # TLS may end at a proxy
        ({"referer": "http://app.example:8080/page"}, False),
        ({"referer": "https://evil.example/https://pages.example/"}, False),
        ({"referer": "https://pages.example.evil.example/"}, False),
        ({"referer": "https://pages.example@evil.example/"}, False),
        ({"referer": "http://pages.example/"}, False),
        ({"referer": "http://[/"}, False),
        ({"referer": "about:blank"}, False),
        ({"origin": PAGES, "referer": "https://evil.example/"}, True),
        ({"origin": "https://evil.example", "referer": f"{PAGES}/"}, False),
        ({"origin": "null"}, False),
    ],
)
async def test_to_whom(headers: dict[str, str], given: bool) -> None:
    response = await get(Server(make_app(), cors_origins=[PAGES]), **headers)
    assert is_script(response) is given
    if not given:
        assert (response.status_code, response.text) == (404, "Not Found")


@pytest.mark.parametrize(
    ("referer", "origin"),
    [
        ("https://pages.example/a?b", "https://pages.example"),
        ("https://user:word@pages.example:8443/", "https://pages.example:8443"),
        ("http://[::1]:8000/", "http://[::1]:8000"),
        ("http://[/", "null"),
        ("about:blank", "null"),
        ("//pages.example/", "null"),
        ("https://user@/", "null"),
    ],
)
async def test_a_referer_is_of_the_same_origin_here_and_where_a_script_polls(referer: str, origin: str) -> None:
    asked: list[str] = []

    def allows(origin: str) -> bool:
        asked.append(origin)
        return False

    async with Server(make_app(), cors_origins=allows) as io:
        assert not is_script(await get(io, referer=referer))
        assert (await get(io, "/socket.io/?EIO=4&transport=polling&j=0", referer=referer)).status_code == 403
    assert set(asked) == {origin}
    assert len(asked) >= 2


async def test_without_allowed_origins_only_the_own_host_gets_it() -> None:
    io = Server(make_app())
    assert not is_script(await get(io, referer=f"{PAGES}/"))
    assert is_script(await get(io, referer="http://app.example/"))
    assert is_script(await get(Server(make_app(), cors_origins="*"), referer=f"{PAGES}/"))


@pytest.mark.parametrize(
    ("answer", "own"),
    [
        (PlainTextResponse("mine", media_type="application/javascript"), True),
        (JSONResponse({"mine": True}), True),
        (Response(status_code=204), True),
        (HTMLResponse("<p>The page that a single-page app gives for every path"), False),
        (RedirectResponse("/login"), False),
        (JSONResponse({"detail": "log in"}, 401), False),
        (PlainTextResponse("failed", 500), False),
    ],
)
async def test_a_route_of_the_apps_own_is_not_shadowed(answer: Response, own: bool) -> None:
    async def route(request: Request) -> Response:
        return answer

    app = make_app(Route("/__getcookie", route))
    assert is_script(await get(Server(app))) is not own
    if own:
        assert (await get(Server(app))).content == answer.body


async def test_only_get_and_only_this_path() -> None:
    io = Server(make_app())
    assert (await get(io, method="POST")).status_code == 404
    assert (await get(io, "/__getcookie/")).status_code == 404
    assert (await get(io, "/x/__getcookie")).status_code == 404


async def test_it_can_be_turned_off_or_be_elsewhere() -> None:
    assert (await get(Server(make_app(), sails_cookie_path=None))).status_code == 404
    io = Server(make_app(), sails_cookie_path="/cookie.js")
    assert is_script(await get(io, "/cookie.js"))
    assert not is_script(await get(io))
    with pytest.raises(OptionsError, match="sails_cookie_path='cookie'"):
        Server(sails_cookie_path="cookie")


async def test_without_an_app_there_is_the_script_alone() -> None:
    response = await get(Server())
    assert is_script(response)
    assert "set-cookie" not in response.headers


async def test_mounted_it_is_below_the_mount() -> None:
    outer = Starlette(routes=[Mount("/realtime", Server(requests_to=make_app()))])
    assert is_script(await get(outer, "/realtime/__getcookie"))


async def test_over_a_real_server() -> None:
    async with serve(Server(make_app())) as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:
        assert is_script(await http.get("/__getcookie"))
        assert "session" in http.cookies
