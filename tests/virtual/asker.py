"""A request of nobody's: the app is run for it, and what becomes of it is handed to callbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from mizzen.options import ServerOptions
from mizzen.server.gone import Gone
from mizzen.types import ASGIApp
from mizzen.virtual.dispatch import Exchange
from mizzen.virtual.request import SocketRequest


class Callbacks:
    """Hands answers, errors and cookies on."""

    def __init__(
        self,
        options: ServerOptions,
        answer: Callable[[Any], object],
        on_error: Callable[[Exception], object],
        on_cookie: Callable[[bytes], object] | None,
    ) -> None:
        self.options = options
        self.answer = answer
        self.on_error = on_error
        self.on_cookie = on_cookie

    def answered(self, exchange: Exchange, jwr: Any) -> None:
        self.answer(jwr)

    def failed(self, exchange: Exchange, error: Exception) -> None:
        self.on_error(error)

    def cookie_set(self, exchange: Exchange, set_cookie: bytes) -> None:
        assert self.on_cookie is not None
        self.on_cookie(set_cookie)


async def dispatch(
    app: ASGIApp,
    scope: Any,
    body: bytes,
    *,
    answer: Callable[[Any], object],
    gone: Gone,
    max_response: int,
    debug: bool,
    on_error: Callable[[Exception], object],
    on_cookie: Callable[[bytes], object] | None = None,
    timeout: float | None = None,
    cancel: bool = False,
) -> None:
    """Run `app` for one request."""
    options = ServerOptions(max_response=max_response, debug=debug, request_timeout=timeout, cancel_on_disconnect=cancel)
    request = SocketRequest(scope["method"], scope["path"], scope["raw_path"], scope["query_string"], [], body, None)
    asker = Callbacks(options, answer, on_error, on_cookie)
    await Exchange(asker, request, gone, cast("Any", None), None, None if on_cookie is None else b"").run(app, scope)
