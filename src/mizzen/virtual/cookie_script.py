"""The script that sails.io.js on a page of another origin loads before it connects, so that its WebSocket handshake brings a cookie."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mizzen.types import ASGIApp, Handshake, Message, Receive, Scope, Send, origin_of

SCRIPT: Final = b"_sailsIoJSConnect();"
_HEADERS: Final = (
    (b"content-type", b"application/javascript"),
    (b"content-length", b"%d" % len(SCRIPT)),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    # else pages that are cross-origin isolated could not load it
    (b"cross-origin-resource-policy", b"cross-origin"),
)


class CookieScript:
    """Answers `GET /__getcookie` with the script, and with the cookies that the app sets for this request.

    The app is asked first, so that its middleware may set a session cookie. What it answers stands if it is a success and no page: then the
    route is its own. Its 404, a login page or the page that single-page apps give for every path become the script. Pages of origins that
    may not connect get what the app says. `may_connect` is asked with an origin and the host that the request went to.
    """

    def __init__(self, app: ASGIApp, may_connect: Callable[[str, str], bool]) -> None:
        self._app = app
        self._may_connect = may_connect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "GET" and self._is_allowed(Handshake(scope)):
            send = _Replacing(send).send
        await self._app(scope, receive, send)

    def _is_allowed(self, request: Handshake) -> bool:
        # A script element sends no Origin; Referer tells the page's unless that page withholds it.
        headers = request.headers
        origin, referer = headers.get("origin"), headers.get("referer")
        if not origin and not referer:
            return headers.get("sec-fetch-site") != "cross-site"
        return self._may_connect(origin or origin_of(referer or ""), headers.get("host", ""))


class _Replacing:
    """Passes an answer on, or puts the script in its place."""

    __slots__ = ("_replaced", "_send")

    def __init__(self, send: Send) -> None:
        self._send = send
        self._replaced = False

    async def send(self, message: Message) -> None:
        if self._replaced:
            return
        if message["type"] != "http.response.start":
            await self._send(message)
            return
        headers = [(name.lower(), value) for name, value in message.get("headers", ())]
        is_page = any(name == b"content-type" and value.lower().startswith(b"text/html") for name, value in headers)
        if 200 <= message["status"] < 300 and not is_page:
            await self._send(message)
            return
        self._replaced = True
        cookies = [header for header in headers if header[0] == b"set-cookie"]
        await self._send({"type": "http.response.start", "status": 200, "headers": [*_HEADERS, *cookies]})
        await self._send({"type": "http.response.body", "body": SCRIPT})
