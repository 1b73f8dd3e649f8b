"""An app run for one socket request: its answer, its errors, its end."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from mizzen.server.gone import Gone
from mizzen.types import ASGIApp, Handshake
from mizzen.virtual.dispatch import AnswerRefused, SocketGone
from mizzen.virtual.headers import pin
from mizzen.virtual.request import parse_request
from mizzen.virtual.scope import Kept, build_scope
from tests.virtual.asker import dispatch

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}


def body(text: str = "ok", more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": text.encode(), "more_body": more}


class Exchange:
    """One request to an app: its answers, the errors that were reported, and the switch that makes the socket go."""

    def __init__(self, app: ASGIApp, verb: str = "get", data: Any = None, *, max_response: int = 1_000, debug: bool = False) -> None:
        self.answers: list[Any] = []
        self.errors: list[Exception] = []
        self.gone = Gone()
        self.on_answer: Callable[[], None] = lambda: None
        request = parse_request(verb, [{"url": "/x", "data": data}])
        handshake = Handshake({"type": "http", "headers": [], "query_string": b"", "path": "/"})
        scope = build_scope(Kept(handshake, "root_path"), request, "the socket", {}, None, pin(()))
        self.run = dispatch(
            app,
            scope,
            request.body or b"",
            answer=self._answer,
            gone=self.gone,
            max_response=max_response,
            debug=debug,
            on_error=self.errors.append,
        )

    def _answer(self, jwr: dict[str, Any]) -> None:
        self.answers.append(jwr)
        self.on_answer()


def jwr(text: str, status: int = 200) -> dict[str, Any]:
    return {"body": text, "headers": {"content-type": "text/plain"} if status == 200 else {}, "statusCode": status}


async def test_the_app_gets_the_body_at_once_and_answers() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        assert message == {"type": "http.request", "body": b'{"a":1}', "more_body": False}
        await send(START)
        await send(body(message["body"].decode()))

    exchange = Exchange(app, "post", {"a": 1})
    await exchange.run
    assert exchange.answers == [jwr('{"a":1}')]
    assert exchange.errors == []


async def test_chunks_are_one_body() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(body("a", more=True))
        await send({"type": "http.response.body", "more_body": True})
        await send({"type": "http.response.body", "body": bytearray(b"b")})

    exchange = Exchange(app)
    await exchange.run
    assert exchange.answers == [jwr("ab")]


async def test_the_answer_does_not_wait_for_what_the_app_does_after_it() -> None:
    order: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(body())
        order.append("background")
        await asyncio.sleep(0)
        order.append("done")

    exchange = Exchange(app)
    exchange.on_answer = lambda: order.append("answer")
    await exchange.run
    assert order == ["answer", "background", "done"]


async def test_receive_blocks_until_the_answer_is_complete() -> None:
    events: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()

        async def listen() -> None:
            events.append((await receive())["type"])

        listeners = [asyncio.create_task(listen()), asyncio.create_task(listen())]
        for _ in range(5):
            await asyncio.sleep(0)
        events.append("nothing yet")
        await send(START)
        await send(body())
        await asyncio.gather(*listeners)
        events.append((await receive())["type"])

    await Exchange(app).run
    assert events == ["nothing yet", "http.disconnect", "http.disconnect", "http.disconnect"]


async def test_a_cancelled_receive_leaves_the_others_waiting() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        first, second = asyncio.ensure_future(receive()), asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        assert first.cancelled()
        assert not second.done()
        await send(START)
        await send(body())
        assert (await second)["type"] == "http.disconnect"

    exchange = Exchange(app)
    await exchange.run
    assert exchange.errors == []


async def test_a_listener_that_outlives_the_app_is_told() -> None:
    listeners: list[asyncio.Task[Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        listeners.append(asyncio.create_task(receive()))
        await asyncio.Event().wait()

    task = asyncio.create_task(Exchange(app).run)
    while not listeners:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await listeners[0])["type"] == "http.disconnect"


async def test_when_the_socket_goes_receive_says_so_and_send_raises() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        seen.append((await receive())["type"])
        with pytest.raises(SocketGone):
            await send(START)
        with pytest.raises(OSError, match="gone"):
            await send(body())
        await send(body())

    exchange = Exchange(app)
    task = asyncio.create_task(exchange.run)
    while not exchange.gone._watchers:
        await asyncio.sleep(0)
    exchange.gone.happen()
    await task
    assert seen == ["http.disconnect"]
    assert exchange.answers == []
    assert exchange.errors == []


async def test_an_app_that_starts_when_the_socket_is_gone_has_its_body() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend([(await receive())["type"], (await receive())["type"]])

    exchange = Exchange(app)
    exchange.gone.happen()
    await exchange.run
    assert seen == ["http.request", "http.disconnect"]
    assert (exchange.answers, exchange.errors) == ([], [])


async def test_an_error_of_the_app_is_reported_though_the_socket_is_gone() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("mine")

    exchange = Exchange(app)
    exchange.gone.happen()
    await exchange.run
    assert exchange.answers == []
    assert [str(error) for error in exchange.errors] == ["mine"]


async def test_nothing_stays_behind() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        listener = asyncio.create_task(receive())
        await asyncio.sleep(0)
        await send(START)
        await send(body())
        await listener

    exchange = Exchange(app)
    await exchange.run
    assert not exchange.gone._watchers


@pytest.mark.parametrize("debug", [False, True])
async def test_an_app_that_raises_before_its_answer_is_complete(debug: bool) -> None:
    async def before(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("secret")

    async def within(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(body("half", more=True))
        raise ValueError("secret")

    for app in (before, within):
        exchange = Exchange(app, debug=debug)
        await exchange.run
        [answer] = exchange.answers
        assert [str(error) for error in exchange.errors] == ["secret"]
        assert (answer["statusCode"], answer["headers"]) == (500, {})
        if debug:
            assert answer["body"].startswith("Traceback")
            assert "ValueError: secret" in answer["body"]
        else:
            assert answer["body"] == "Internal Server Error"


async def test_an_app_that_raises_after_its_answer() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 500})
        await send({"type": "http.response.body"})
        raise ValueError("late")

    exchange = Exchange(app)
    await exchange.run
    assert exchange.answers == [{"headers": {}, "statusCode": 500}]
    assert [str(error) for error in exchange.errors] == ["late"]


async def test_an_app_that_returns_without_a_complete_answer() -> None:
    async def silent(scope: Any, receive: Any, send: Any) -> None:
        pass

    async def half(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(body("half", more=True))

    for app, words in ((silent, "without an answer"), (half, "before its answer was complete")):
        exchange = Exchange(app)
        await exchange.run
        assert exchange.answers == [jwr("Internal Server Error", 500)]
        assert words in str(exchange.errors[0])
        assert "GET /x" in str(exchange.errors[0])


class Panic(BaseException):
    """What an extension module raises that no `except Exception` is to catch."""


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("panics", [False, True], ids=["cancelled", "panic"])
async def test_an_app_that_awaits_what_was_cancelled_or_raises_no_exception_has_failed(panics: bool, debug: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if panics:
            raise Panic
        cancelled = asyncio.get_running_loop().create_future()
        cancelled.cancel()
        await cancelled

    exchange = Exchange(app, debug=debug)
    await exchange.run
    (answer,) = exchange.answers
    assert answer["statusCode"] == 500
    assert ("Panic" in answer["body"] or "CancelledError" in answer["body"]) is debug
    assert [type(error.__cause__) for error in exchange.errors] == [Panic if panics else asyncio.CancelledError]
    assert str(exchange.errors[0]).startswith("the app ")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_the_end_of_the_process_is_no_failure_of_the_app(error: type[BaseException]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise error

    exchange = Exchange(app)
    with pytest.raises(error):
        await exchange.run
    assert (exchange.answers, exchange.errors) == ([], [])


async def test_a_cancelled_app_answers_nothing() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await receive()

    exchange = Exchange(app)
    task = asyncio.create_task(exchange.run)
    while not exchange.gone._watchers:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (exchange.answers, exchange.errors) == ([], [])
    assert not exchange.gone._watchers


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([body()], "before 'http.response.start'"),
        ([START, START], "twice"),
        ([{"type": "websocket.accept"}], "'websocket.accept' is no part"),
        ([{"type": "http.response.pathsend", "path": "/etc/passwd"}], "'http.response.pathsend' is no part"),
    ],
)
async def test_messages_that_asgi_does_not_allow(messages: list[dict[str, Any]], words: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    exchange = Exchange(app)
    await exchange.run
    assert exchange.answers == [jwr("Internal Server Error", 500)]
    assert words in str(exchange.errors[0])


@pytest.mark.parametrize("refused", [False, True])
async def test_an_error_whose_context_comes_back_to_itself(refused: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        error: Exception = AnswerRefused("x") if refused else ValueError("mine")
        raise error from ExceptionGroup("of tasks", [error])

    exchange = Exchange(app)
    await asyncio.wait_for(exchange.run, 5)
    assert [str(error) for error in exchange.errors] == ([] if refused else ["mine"])


async def test_nothing_is_answered_twice() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(body())
        await send(body("again"))

    exchange = Exchange(app)
    await exchange.run
    assert exchange.answers == [jwr("ok")]
    assert "after the answer was complete" in str(exchange.errors[0])


async def endless(send: Any, start: dict[str, Any] = START) -> None:
    await send(start)
    while True:
        await send(body("x" * 100, more=True))


async def test_an_answer_may_be_as_large_as_allowed() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "headers": [*START["headers"], (b"content-length", b"1000")]})
        await send(body("x" * 1_000))

    exchange = Exchange(app)
    await exchange.run
    assert exchange.answers == [jwr("x" * 1_000)]


async def test_an_endless_answer_is_refused_and_stopped() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await endless(send)

    exchange = Exchange(app)
    await exchange.run
    assert exchange.answers == [jwr("The answer is larger than a socket may carry (max_response, 1000 bytes). Use HTTP for it.", 501)]
    assert exchange.errors == []


async def test_a_large_answer_that_says_so_is_refused_at_once() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(AnswerRefused):
            await send({**START, "headers": [(b"Content-Length", b"1001")]})
        assert (await receive())["type"] == "http.request"
        assert (await receive())["type"] == "http.disconnect"

    exchange = Exchange(app)
    await exchange.run
    assert [answer["statusCode"] for answer in exchange.answers] == [501]
    assert exchange.errors == []


@pytest.mark.parametrize("verb", ["get", "head"])
async def test_an_event_stream_is_refused_at_once(verb: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await endless(send, {**START, "headers": [(b"Content-Type", b"text/event-stream; charset=utf-8")]})

    exchange = Exchange(app, verb)
    await exchange.run
    [answer] = exchange.answers
    assert answer["statusCode"] == 501
    assert "event stream" in answer["body"]
    assert exchange.errors == []


async def test_the_body_of_an_answer_to_head_goes_nowhere() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "headers": [*START["headers"], (b"content-length", b"5000")]})
        await send(body())

    exchange = Exchange(app, "head")
    await exchange.run
    assert exchange.answers == [{"headers": {"content-type": "text/plain"}, "statusCode": 200}]


async def test_an_endless_answer_to_head_is_answered_and_stopped() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await endless(send)

    exchange = Exchange(app, "head")
    await exchange.run
    assert exchange.answers == [{"headers": {"content-type": "text/plain"}, "statusCode": 200}]
    assert exchange.errors == []


async def test_an_error_that_only_happened_to_follow_a_refusal_is_reported() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        with suppress(OSError):
            await endless(send)
        raise ValueError("mine")

    exchange = Exchange(app)
    await exchange.run
    assert [answer["statusCode"] for answer in exchange.answers] == [501]
    assert [str(error) for error in exchange.errors] == ["mine"]


@pytest.mark.parametrize("wrap", ["raise from", "raise within", "group"])
async def test_a_refusal_in_a_frameworks_words_is_not_reported(wrap: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if wrap == "group":
            async with asyncio.TaskGroup() as group:
                group.create_task(endless(send))
        try:
            await endless(send)
        except OSError as error:
            if wrap == "raise from":
                raise ValueError("disconnected") from error
            raise ValueError("disconnected")  # noqa: B904  # as frameworks do

    exchange = Exchange(app)
    await exchange.run
    assert [answer["statusCode"] for answer in exchange.answers] == [501]
    assert exchange.errors == []


async def guarded(app: Any, gone: Gone, answer: Callable[[dict[str, Any]], None], errors: list[Exception], **limits: Any) -> None:
    request = parse_request("get", [{"url": "/x"}])
    handshake = Handshake({"type": "http", "headers": [], "query_string": b"", "path": "/"})
    scope = build_scope(Kept(handshake, "root_path"), request, "the socket", {}, None, pin(()))
    await dispatch(app, scope, b"", answer=answer, gone=gone, max_response=99, debug=False, on_error=errors.append, **limits)


async def quick(scope: Any, receive: Any, send: Any) -> None:
    await send(START)
    await send(body())


async def test_limits_leave_nothing_behind() -> None:
    class Client:
        def __init__(self) -> None:
            self.answers: list[Any] = []

        def answer(self, jwr: dict[str, Any]) -> None:
            self.answers.append(jwr)

    gone, errors, client = Gone(), [], Client()
    await guarded(quick, gone, client.answer, errors, timeout=1e6, cancel=True)
    assert (client.answers, errors) == ([jwr("ok")], [])
    assert gone._watchers == set()
    forgotten = weakref.ref(client)
    del client
    gc.collect()
    assert forgotten() is None  # no timer holds it


async def test_a_cancellation_of_ours_is_taken_back() -> None:
    gone, answers, errors = Gone(), [], []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        asyncio.get_running_loop().call_soon(gone.happen)
        await asyncio.Event().wait()

    await guarded(app, gone, answers.append, errors, cancel=True)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    assert (answers, errors) == ([], [])


async def test_a_cancellation_of_others_stays_theirs() -> None:
    gone, answers, errors = Gone(), [], []
    started = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(guarded(app, gone, answers.append, errors, cancel=True))
    await started.wait()
    gone.happen()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (answers, errors) == ([], [])


async def test_time_that_runs_out_after_the_socket_has_gone_is_nobodys() -> None:
    gone, answers, errors = Gone(), [], []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        gone.happen()
        await asyncio.sleep(0.005)  # its timer comes after that of the limit

    await guarded(app, gone, answers.append, errors, timeout=0.001)
    assert (answers, errors) == ([], [])


async def test_each_cookie_of_an_answer_is_handed_over() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"Set-Cookie", b"a=1"), (b"content-type", b"text/plain"), (b"set-cookie", b"b=2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send(body())

    answers: list[Any] = []
    cookies: list[bytes] = []
    await guarded(app, Gone(), answers.append, [], on_cookie=cookies.append)
    assert cookies == [b"a=1", b"b=2"]
    assert answers == [jwr("ok")]
