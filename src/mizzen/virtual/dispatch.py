"""Run the app for one socket request and answer with what it sends."""

from __future__ import annotations

import asyncio
import traceback
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from msgspec import Struct

from mizzen.virtual.answer import fold_headers, make_jwr

if TYPE_CHECKING:
    from collections.abc import Callable

    from mizzen.server.gone import Gone
    from mizzen.types import JSON, ASGIApp, Message, Scope


class SocketGone(OSError):
    """The socket that a request came by is gone; `send` raises it in the app (ASGI specification 2.4, "Disconnected client")."""


class AnswerRefused(OSError):
    """The app went on sending an answer that was refused already: it is endless, larger than a socket may carry, or too late."""


async def dispatch(
    app: ASGIApp,
    scope: Scope,
    body: bytes,
    *,
    answer: Callable[[dict[str, JSON]], None],
    gone: Gone,
    max_response: int,
    debug: bool,
    on_error: Callable[[Exception], None],
    on_cookie: Callable[[bytes], None] | None = None,
    timeout: float | None = None,
    cancel: bool = False,
) -> None:
    """Run `app` in the current task until it returns, and call `answer` once, with the JWR, as soon as its answer is complete.

    What the app does after its last chunk, such as background tasks, holds up nobody's answer but belongs to this call. An app that raises
    before it has answered gets a 500, with the traceback as its body if `debug`; whatever it raises goes to `on_error`, once, except what
    follows from `send` having raised here. An event stream and an answer of more than `max_response` bytes become a 501, and are stopped.
    Not answered: a request whose socket is gone, and one whose task is cancelled, which is up to whoever cancelled it.

    `on_cookie` gets each Set-Cookie header of the answer. After `timeout` seconds without a complete answer, 504 is the answer, and to the
    app it is as if its client were gone. It then may go on, unless `cancel`: that cancels it, for this as for a socket that is gone.
    """
    exchange = _Exchange(scope["method"], body, answer, gone, max_response, on_cookie)
    guard = None if timeout is None and not cancel else _Guard(exchange, gone, timeout, cancel, on_error, scope)
    try:
        await app(scope, exchange.receive, exchange.send)
    except asyncio.CancelledError:
        if guard is None or not guard.takes_back():
            raise
    except Exception as error:
        if not _is_ours(error):
            on_error(error)
            exchange.fail("".join(traceback.format_exception(error)) if debug else None)
    else:
        if not exchange.complete and not gone:
            problem = "The app returned before its answer was complete" if exchange.status else "The app returned without an answer"
            problem = f"{problem}: {scope['method']} {scope['path']}"
            on_error(RuntimeError(problem))
            exchange.fail(problem if debug else None)
    finally:
        if not exchange.complete:
            exchange.close()
        if guard is not None:
            guard.close()


class _Guard:
    """Watches over a request that may take too long, or whose app is to be cancelled with its socket."""

    __slots__ = ("_cancel", "_cancelled", "_exchange", "_gone", "_on_error", "_task", "_timer", "_what")

    def __init__(
        self, exchange: _Exchange, gone: Gone, timeout: float | None, cancel: bool, on_error: Callable[[Exception], None], scope: Scope
    ) -> None:
        self._exchange = exchange
        self._gone = gone
        self._on_error = on_error
        self._what = f"{scope['method']} {scope['path']}"
        self._task = asyncio.current_task()
        self._cancelled = False
        self._cancel = cancel
        if cancel:
            gone.watch(self._stop)
        self._timer = None if timeout is None else asyncio.get_running_loop().call_later(timeout, self._expire, timeout)

    def _expire(self, timeout: float) -> None:
        if self._exchange.complete or self._gone:
            return
        self._exchange.expire(f"The app did not answer within {timeout:g} seconds.")
        self._on_error(TimeoutError(f"{self._what} was not answered within {timeout:g} seconds (request_timeout)"))
        if self._cancel:
            self._stop()

    def _stop(self) -> None:
        # An app that disconnects its own socket goes on, as it would have without waiting for anything.
        task = self._task
        if task is not None and task is not asyncio.current_task() and not self._cancelled and not self._exchange.answered:
            self._cancelled = True
            task.cancel()

    def takes_back(self) -> bool:
        """Say whether the cancellation that arrives came from here, and from nowhere else."""
        return self._cancelled and self._task is not None and self._task.cancelling() == 1

    def close(self) -> None:
        if self._cancelled and self._task is not None:
            self._task.uncancel()
        if self._timer is not None:
            self._timer.cancel()
        if self._cancel:
            self._gone.unwatch(self._stop)


class _Exchange(Struct, eq=False):
    """The ASGI side of one request: its `receive` and `send`."""

    _method: str
    _body: bytes | None
    _answer: Callable[[dict[str, JSON]], None]
    _gone: Gone
    _max_response: int
    _on_cookie: Callable[[bytes], None] | None
    _headers: dict[str, str] = {}
    _chunks: list[bytes] = []
    _size: int = 0
    _refusal: str | None = None
    _waiters: list[asyncio.Future[None]] | None = None
    status: int = 0
    complete: bool = False
    answered: bool = False
    """Whether the app itself has answered."""

    async def receive(self) -> Message:
        """Give the body, all at once; then, when nothing more can be said to the client, `http.disconnect`."""
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        if not self.complete and not self._gone:
            await self._until_end()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take a part of the answer; the last one answers."""
        kind = message["type"]
        if self.complete or self._gone:
            raise self._objection(kind)
        if kind == "http.response.start":
            self._start(message)
        elif kind == "http.response.body":
            self._add(message)
        else:
            raise RuntimeError(f"{kind!r} is no part of an answer here: send 'http.response.start' and 'http.response.body'")

    def _objection(self, kind: str) -> Exception:
        if self._refusal is not None:
            return AnswerRefused(self._refusal)
        if self._gone:
            return SocketGone("the socket that this request came by is gone")
        return RuntimeError(f"{kind!r} was sent after the answer was complete")

    def _start(self, message: Message) -> None:
        if self.status:
            raise RuntimeError("'http.response.start' was sent twice")
        self.status = int(message["status"])
        headers = self._headers = fold_headers(message.get("headers", ()), self._on_cookie)
        content_type = headers.get("content-type")
        if content_type is not None and content_type[:17].lower() == "text/event-stream":
            self._refuse("An event stream has no end, so it cannot be answered over a socket. Listen to events, or use HTTP.")
        length = headers.get("content-length")
        if length is not None and length.isdecimal() and int(length) > self._max_response and self._method != "HEAD":
            self._refuse_size()

    def _add(self, message: Message) -> None:
        if not self.status:
            raise RuntimeError("'http.response.body' was sent before 'http.response.start'")
        chunk: bytes = message.get("body", b"")
        self._size += len(chunk)
        if self._size > self._max_response:
            if self._method != "HEAD":
                self._refuse_size()
            # Its body goes nowhere, so its size is no fault; but a stream that never ends must be stopped.
            self._refusal = "nobody reads the body of an answer to HEAD"
        elif message.get("more_body"):
            if self._method != "HEAD":
                self._chunks.append(chunk)
            return
        body = b"".join([*self._chunks, chunk]) if self._chunks else bytes(chunk)
        self.answered = True
        self._complete(make_jwr(self._method, self.status, self._headers, body))
        if self._refusal is not None:
            raise AnswerRefused(self._refusal)

    def _refuse_size(self) -> None:
        self._refuse(f"The answer is larger than a socket may carry (max_response, {self._max_response} bytes). Use HTTP for it.")

    def _refuse(self, why: str) -> None:
        self._refusal = why
        self._complete({"body": why, "headers": {}, "statusCode": HTTPStatus.NOT_IMPLEMENTED.value})
        raise AnswerRefused(why)

    def expire(self, why: str) -> None:
        """Answer 504 in place of the app, which is told no more than that nobody listens."""
        self._refusal = why
        self._complete({"body": why, "headers": {}, "statusCode": HTTPStatus.GATEWAY_TIMEOUT.value})

    def fail(self, details: str | None) -> None:
        """Answer 500, unless an answer has gone out or nobody waits for it."""
        if not self.complete and not self._gone:
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            self._complete({"body": details or status.phrase, "headers": {}, "statusCode": status.value})

    def _complete(self, jwr: dict[str, JSON]) -> None:
        self.close()
        self._answer(jwr)

    def close(self) -> None:
        """Take and give no more."""
        self.complete = True
        self._chunks = []
        if self._waiters is not None:
            self._gone.unwatch(self._wake)
            self._wake()

    async def _until_end(self) -> None:
        if self._waiters is None:
            self._waiters = []
            self._gone.watch(self._wake)
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def _wake(self) -> None:
        for waiter in self._waiters or ():
            if not waiter.done():
                waiter.set_result(None)
        self._waiters = None


def _is_ours(error: BaseException | None, seen: frozenset[int] = frozenset()) -> bool:
    """Tell whether an error only says, perhaps in a framework's words, that `send` raised."""
    while error is not None and id(error) not in seen:
        if isinstance(error, (SocketGone, AnswerRefused)):
            return True
        seen |= {id(error)}  # the context of an error that was taken out of a group is that group
        if isinstance(error, BaseExceptionGroup):
            return all(_is_ours(each, seen) for each in cast("BaseExceptionGroup[BaseException]", error).exceptions)
        error = error.__cause__ or error.__context__
    return False
