"""Run the app for one socket request and answer with what it sends."""

from __future__ import annotations

import asyncio
import traceback
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol, cast

from msgspec import Struct

from mizzen.handling import failure_of
from mizzen.virtual.answer import JSON_TYPE, fold_headers, make_jwr

if TYPE_CHECKING:
    from mizzen.options import ServerOptions
    from mizzen.server.gone import Gone
    from mizzen.server.socket import Socket
    from mizzen.types import JSON, ASGIApp, Message, Scope
    from mizzen.virtual.request import SocketRequest


class SocketGone(OSError):
    """The socket that a request came by is gone; `send` raises it in the app (ASGI specification 2.4, "Disconnected client")."""


class AnswerRefused(OSError):
    """The app went on sending an answer that was refused already: it is endless, larger than a socket may carry, or too late."""


class Asker(Protocol):
    """Whom the requests of one server are for: it gets their answers, and what went wrong."""

    @property
    def options(self) -> ServerOptions: ...

    def answered(self, exchange: Exchange, jwr: dict[str, JSON]) -> None:
        """Take the one answer of a request. Raises TypeError for what cannot be sent: it is then not answered yet."""
        ...

    def failed(self, exchange: Exchange, error: Exception) -> None:
        """Take what the app raised, or an error about how it answered."""
        ...

    def cookie_set(self, exchange: Exchange, set_cookie: bytes) -> None:
        """Take a Set-Cookie header of an answer."""
        ...


class Exchange(Struct, eq=False):
    """One request and its answer: what runs the app for it, and the ASGI side, `receive` and `send`.

    `cookie` is the cookie header that the client itself sends; None if nobody keeps the cookies of the answer.
    """

    asker: Asker
    request: SocketRequest
    gone: Gone
    socket: Socket
    id: int | None
    cookie: bytes | None
    status: int = 0
    complete: bool = False
    refused: bool = False
    """Whether it was answered in place of the app."""
    _received: bool = False
    _headers: dict[str, str] | None = None
    _chunks: list[bytes] | None = None
    _size: int = 0
    _refusal: str | None = None
    _waiters: list[asyncio.Future[None]] | None = None

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Run `app` in the current task until it returns, and give the asker one answer, the JWR, as soon as it is complete.

        What the app does after its last chunk, such as background tasks, holds up nobody's answer but belongs to this call. An app that
        raises before it has answered gets a 500, with the traceback as its body if `debug`; whatever it raises is reported, once, except
        what follows from `send` having raised here. An event stream and an answer of more than `max_response` bytes become a 501, and are
        stopped. Not answered: a request whose socket is gone, and one whose task is cancelled, which is up to whoever cancelled it. An app
        that awaited something which was cancelled has failed.

        After `request_timeout` seconds without a complete answer, 504 is the answer, and to the app it is as if its client were gone. It
        then may go on, unless `cancel_on_disconnect`: that cancels it, for this as for a socket that is gone.
        """
        options = self.asker.options
        guard = None if options.request_timeout is None and not options.cancel_on_disconnect else _Guard(self, scope)
        try:
            await app(scope, self.receive, self.send)
        except asyncio.CancelledError as caught:
            if guard is None or not guard.takes_back():
                self._failed(caught)
        except BaseException as caught:
            self._failed(caught)
        else:
            if not self.complete and not self.gone.happened:
                problem = "The app returned before its answer was complete" if self.status else "The app returned without an answer"
                problem = f"{problem}: {scope['method']} {scope['path']}"
                self.asker.failed(self, RuntimeError(problem))
                self._fail(problem if options.debug else None)
        finally:
            if not self.complete:
                self.complete = True
                self._wake()
            if guard is not None:
                guard.close()

    async def receive(self) -> Message:
        """Give the body, all at once; then, when nothing more can be said to the client, `http.disconnect`."""
        if not self._received:
            self._received = True
            return {"type": "http.request", "body": self.request.body or b"", "more_body": False}
        if not self.complete and not self.gone.happened:
            await self._until_end()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take a part of the answer; the last one answers."""
        kind = message["type"]
        if self.complete or self.gone.happened:
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
        if self.gone.happened:
            return SocketGone("the socket that this request came by is gone")
        return RuntimeError(f"{kind!r} was sent after the answer was complete")

    def _start(self, message: Message) -> None:
        if self.status:
            raise RuntimeError("'http.response.start' was sent twice")
        self.status = int(message["status"])
        headers = self._headers = fold_headers(message.get("headers", ()), None if self.cookie is None else self._keep_cookie)
        content_type = headers.get("content-type")
        if content_type is not None and content_type != JSON_TYPE and content_type[:17].lower() == "text/event-stream":
            self._refuse("An event stream has no end, so it cannot be answered over a socket. Listen to events, or use HTTP.")
        length = headers.get("content-length")
        if length is not None and length.isdecimal() and int(length) > self.asker.options.max_response and self.request.method != "HEAD":
            self._refuse_size()

    def _keep_cookie(self, set_cookie: bytes) -> None:
        self.asker.cookie_set(self, set_cookie)

    def _add(self, message: Message) -> None:
        if not self.status:
            raise RuntimeError("'http.response.body' was sent before 'http.response.start'")
        chunk: bytes = message.get("body", b"")
        chunks = self._chunks
        size = len(chunk) if chunks is None else self._size + len(chunk)
        if size > self.asker.options.max_response:
            if self.request.method != "HEAD":
                self._refuse_size()
            # Its body goes nowhere, so its size is no fault; but a stream that never ends must be stopped.
            self._refusal = "nobody reads the body of an answer to HEAD"
        elif message.get("more_body"):
            self._size = size
            if chunks is None:
                chunks = self._chunks = []
            if self.request.method != "HEAD":
                chunks.append(chunk)
            return
        if chunks is not None:
            chunk = b"".join([*chunks, chunk])
            self._chunks = None
        elif chunk.__class__ is not bytes:
            chunk = bytes(chunk)
        self._complete(make_jwr(self.request.method, self.status, self._headers or {}, chunk))
        if self._refusal is not None:
            raise AnswerRefused(self._refusal)

    def _refuse_size(self) -> None:
        limit = self.asker.options.max_response
        self._refuse(f"The answer is larger than a socket may carry (max_response, {limit} bytes). Use HTTP for it.")

    def _refuse(self, why: str) -> None:
        self._replace(why, HTTPStatus.NOT_IMPLEMENTED)
        raise AnswerRefused(why)

    def expire(self, why: str) -> None:
        """Answer 504 in place of the app, which is told no more than that nobody listens."""
        self._replace(why, HTTPStatus.GATEWAY_TIMEOUT)

    def _replace(self, why: str, status: HTTPStatus) -> None:
        self.refused, self._refusal = True, why
        self._chunks = None
        self._complete({"body": why, "headers": {}, "statusCode": status.value})

    def _failed(self, caught: BaseException) -> None:
        """Report what the app raised, and answer in its place; raise what is no failure of its."""
        error = failure_of(caught, "the app")
        if not _is_ours(error):
            self.asker.failed(self, error)
            self._fail("".join(traceback.format_exception(error)) if self.asker.options.debug else None)

    def _fail(self, details: str | None) -> None:
        """Answer 500, unless an answer has gone out or nobody waits for it."""
        if not self.complete and not self.gone.happened:
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            self._complete({"body": details or status.phrase, "headers": {}, "statusCode": status.value})

    def _complete(self, jwr: dict[str, JSON]) -> None:
        self.complete = True
        try:
            self.asker.answered(self, jwr)
        except BaseException:
            self.complete = False
            raise
        if self._waiters is not None:
            self._wake()

    async def _until_end(self) -> None:
        if self._waiters is None:
            self._waiters = []
            self.gone.watch(self._wake)
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def _wake(self) -> None:
        self.gone.unwatch(self._wake)
        for waiter in self._waiters or ():
            if not waiter.done():
                waiter.set_result(None)
        self._waiters = None


class _Guard:
    """Watches over a request that may take too long, or whose app is to be cancelled with its socket."""

    __slots__ = ("_cancel", "_cancelled", "_exchange", "_task", "_timer", "_what")

    def __init__(self, exchange: Exchange, scope: Scope) -> None:
        options = exchange.asker.options
        self._exchange = exchange
        self._what = f"{scope['method']} {scope['path']}"
        self._task = asyncio.current_task()
        self._cancelled = False
        self._cancel = options.cancel_on_disconnect
        if self._cancel:
            exchange.gone.watch(self._stop)
        timeout = options.request_timeout
        self._timer = None if timeout is None else asyncio.get_running_loop().call_later(timeout, self._expire, timeout)

    def _expire(self, timeout: float) -> None:
        exchange = self._exchange
        if exchange.complete or exchange.gone.happened:
            return
        exchange.expire(f"The app did not answer within {timeout:g} seconds.")
        exchange.asker.failed(exchange, TimeoutError(f"{self._what} was not answered within {timeout:g} seconds (request_timeout)"))
        if self._cancel:
            self._stop()

    def _stop(self) -> None:
        # An app that disconnects its own socket goes on, as it would have without waiting for anything.
        task = self._task
        answered = self._exchange.complete and not self._exchange.refused
        if task is not None and task is not asyncio.current_task() and not self._cancelled and not answered:
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
            self._exchange.gone.unwatch(self._stop)


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
