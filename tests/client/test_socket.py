"""Events on a client's socket: handlers, acks, flags, buffers, streams and threads."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from mizzen import (
    AckTimeout,
    ArgumentsInvalid,
    Client,
    ClientSocket,
    ConnectionClosed,
    Event,
    EventRefused,
    LocalProtocolError,
    Reason,
    RemoteError,
    Server,
    Socket,
    from_thread,
)
from tests.client.peer import Peers
from tests.client.proxy import proxied
from tests.support import WITHIN, serve, until


@pytest.fixture
def io() -> Server:
    io = Server()

    @io.on("echo")
    async def echo(socket: Socket, *args: Any) -> tuple[Any, ...]:
        return args

    @io.on("relay")
    async def relay(socket: Socket, *args: Any) -> None:
        socket.emit(*args)

    @io.on("ask")
    async def ask(socket: Socket, *args: Any) -> Any:
        try:
            return await socket.call(*args, timeout=5)
        except RemoteError as error:
            return ["RemoteError", error.code, str(error), error.details]

    @io.on("silence")
    async def silence(socket: Socket) -> None:
        await socket.call("unanswered")

    @io.on("kick")
    async def kick(socket: Socket) -> None:
        socket.disconnect()

    return io


@pytest.fixture
async def url(io: Server) -> AsyncIterator[str]:
    async with serve(io, native=True) as url:
        yield url


@dataclass
class Point:
    x: int
    y: int


# Handlers


@pytest.mark.parametrize(
    ("name", "registered"), [("5.0", "5"), ("1e21", "1e+21"), ("0.00001", "0.00001"), ("1e-7", "1e-7"), ("-1e999", "-Infinity")]
)
async def test_an_event_that_is_named_by_a_number(name: str, registered: str) -> None:
    peers, got = Peers(), list[str]()
    client = Client("http://127.0.0.1:1", transports=[peers], reconnection=False)
    client.on(registered, got.append)
    connecting = asyncio.create_task(client.connect())
    await until(lambda: bool(peers.made) and peers.has_sent("40"))
    peers.last.say('40{"sid":"one"}', f'42[{name},"a"]')
    await connecting
    await until(lambda: got == ["a"])
    await client.disconnect()


async def test_handlers_get_typed_arguments_and_answer(url: str):
    client = Client(url)

    @client.on("add")
    async def add(point: Point, more: int = 0) -> int:
        return point.x + point.y + more

    async with client:
        assert await client.call("ask", "add", {"x": 1, "y": 2}) == 3
        assert await client.call("ask", "add", {"x": 1, "y": 2}, 10) == 13


async def test_arguments_that_do_not_fit_are_refused(url: str):
    client = Client(url)
    errors: list[tuple[Exception, ClientSocket | None, str]] = []
    client.on_error(lambda error, socket, event: errors.append((error, socket, event)))

    @client.on("typed")
    async def typed(number: int) -> int:
        return number

    async with client:
        kind, code, _, details = await client.call("ask", "typed", "one")
        assert (kind, code, details[0]["argument"]) == ("RemoteError", "E_ARGUMENTS", "number")
    error, socket, event = errors[0]
    assert isinstance(error, ArgumentsInvalid)
    assert (socket, event) == (client, "typed")


async def test_a_handler_that_fails_tells_the_hooks_and_nothing_of_it_the_server(url: str, caplog: pytest.LogCaptureFixture):
    client = Client(url)
    told = asyncio.Event()

    @client.on_error
    async def hook(error: Exception, socket: ClientSocket | None, event: str) -> None:
        assert (str(error), event) == ("secret", "fail")
        told.set()

    @client.on("fail")
    def fail() -> None:
        raise ValueError("secret")

    async with client:
        answer = await client.call("ask", "fail")
        assert answer[:2] == ["RemoteError", "E_HANDLER"]
        assert "secret" not in repr(answer)
        await asyncio.wait_for(told.wait(), WITHIN)
    assert "ValueError: secret" in caplog.text


@pytest.mark.parametrize("handlers", [1, 2])
async def test_what_cannot_be_encoded_is_acked_as_an_error_all_the_same(url: str, caplog: pytest.LogCaptureFixture, handlers: int):
    client = Client(url)
    errors: list[Exception] = []
    client.on_error(lambda error, socket, event: errors.append(error))

    async def refuse() -> None:
        raise EventRefused("no", details=[object()])

    async def give() -> object:
        return object()

    async def nothing() -> None: ...

    for event, handler in (("refuse", refuse), ("give", give)):
        for each in (handler, nothing)[:handlers]:
            client.on(event, each)
    async with client:
        assert await client.call("ask", "refuse") == ["RemoteError", "E_HANDLER", "no", []]
        assert await client.call("ask", "give") == ["RemoteError", "E_HANDLER", "the handler failed", []]
    assert [type(error) for error in errors] == [EventRefused, TypeError]
    assert "the details of EventRefused cannot be sent" in caplog.text


async def test_a_stop_iteration_of_a_plain_handler_is_a_failure_as_any_other(url: str):
    client = Client(url)
    errors: list[Exception] = []
    client.on_error(lambda error, socket, event: errors.append(error))
    client.on("exhausted", lambda: next(iter(())))

    async with client:
        assert await client.call("ask", "exhausted") == ["RemoteError", "E_HANDLER", "the handler failed", []]
    assert [(type(error), type(error.__cause__)) for error in errors] == [(RuntimeError, StopIteration)]


async def test_a_plain_handler_runs_in_a_thread_and_may_call_back(url: str):
    client = Client(url)

    @client.on("blocking")
    def blocking(number: int) -> list[Any]:
        assert threading.current_thread() is not threading.main_thread()
        client.emit("relay", "seen", number)
        return [number, from_thread(client.call, "echo", number + 1)]

    async with client:
        seen = client.events("seen")
        assert await client.call("ask", "blocking", 1) == [1, 2]
        assert await anext(seen) == (1,)


async def test_several_handlers_and_the_first_answer(url: str):
    client = Client(url)
    order: list[str] = []

    @client.on("many")
    async def first() -> None:
        order.append("first")

    @client.on("many")
    async def second() -> str:
        order.append("second")
        return "answer"

    @client.once("many")
    async def third() -> str:
        order.append("third")
        return "too late"

    async with client:
        assert await client.call("ask", "many") == "answer"
        assert await client.call("ask", "many") == "answer"
        client.off("many", second)
        assert await client.call("ask", "many") is None
    assert order == ["first", "second", "third", "first", "second", "first"]


async def test_ordered_handlers_wait_for_each_other(url: str):
    client = Client(url)
    order: list[int] = []

    @client.on("step", ordered=True)
    async def step(number: int) -> None:
        await asyncio.sleep(0.005 * (3 - number))
        order.append(number)

    async with client:
        for number in range(3):
            client.emit("relay", "step", number)
        await until(lambda: len(order) == 3)
    assert order == [0, 1, 2]


async def test_catch_all_listeners(url: str):
    client = Client(url)
    came: list[tuple[Any, ...]] = []
    went: list[tuple[Any, ...]] = []
    client.on_any(lambda *args: came.append(args))
    client.on_any_outgoing(lambda *args: went.append(args))
    async with client:
        client.emit("relay", "one", 1)
        await client.call("echo", 2)
        await until(lambda: len(came) == 1 and len(went) == 2)
    assert came == [("one", 1)]
    assert went == [("relay", "one", 1), ("echo", 2)]


async def test_so_many_handlers_at_once_and_no_more(url: str):
    client = Client(url, max_handlers=3, max_buffer=5_000)
    running, most, done = 0, 0, 0

    @client.on("work")
    async def work(filler: str) -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        await client.call("echo", 1)  # an ack is read although reading events has stopped … or it could not go on
        running -= 1
        done += 1

    async with client:
        for _ in range(30):
            client.emit("relay", "work", "x" * 100)
        await until(lambda: done == 30)
    assert most == 3


# Sending


async def test_an_event_with_types(url: str):
    double = Event[[int], int]("echo")
    async with Client(url) as client:
        answer: int = await client.call(double, 21)
        assert answer == 21
        client.emit(double, 1)
        assert await client.timeout(5).call(double, 1) == 1


async def test_what_cannot_be_sent_is_refused(url: str):
    async with Client(url) as client:
        with pytest.raises(LocalProtocolError, match="reserved name"):
            client.emit("disconnect")
        with pytest.raises(TypeError):
            client.emit("echo", object())
        with pytest.raises(TypeError):
            await client.call("echo", object())
        assert await client.call("echo", 1) == 1


async def test_timeouts(url: str):
    async with Client(url, ack_timeout=0.02) as client:
        with pytest.raises(AckTimeout, match=r"no ack of 'silence' within 0.02 s"):
            await client.call("silence")
        with pytest.raises(AckTimeout, match=r"within 0.01 s"):
            await client.timeout(0.01).call("silence")
        with pytest.raises(TimeoutError):
            await client.call("silence", timeout=0.01)


async def test_a_call_that_timed_out_before_it_connected_is_not_sent(url: str, io: Server):
    seen: list[Any] = []
    io.on("late", lambda socket, value: seen.append(value))
    client = Client(url)
    with pytest.raises(AckTimeout):
        await client.call("late", "dropped", timeout=0.001)
    waiting = asyncio.ensure_future(client.call("late", "cancelled"))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait((waiting,))
    client.emit("late", "kept")
    async with client:
        await client.call("echo")
        await until(lambda: bool(seen))
    assert seen == ["kept"]


async def test_volatile_is_dropped_while_it_cannot_be_sent(url: str):
    client = Client(url)
    client.volatile.emit("relay", "got", "before")
    async with client:
        got = client.events("got")
        client.volatile.emit("relay", "got", "now")
        assert await anext(got) == ("now",)


async def test_the_buffer_of_a_socket_that_is_not_connected_is_bounded():
    client = Client("http://127.0.0.1:1", max_buffer=1_000)
    client.emit("large", "x" * 5_000)  # one whole message always fits
    with pytest.raises(LocalProtocolError, match=r"wait to be sent already \(max_buffer\)"):
        client.emit("large", "x" * 500)


async def test_drain_is_the_backpressure_of_a_producer(url: str):
    async with proxied(url) as proxy:
        async with Client(proxy.url, max_buffer=200_000) as client:
            await client.drain()
            proxy.stall()

            async def produce() -> None:
                while True:
                    client.emit("relay", "got", "x" * 50_000)
                    await asyncio.sleep(0)

            with pytest.raises(LocalProtocolError, match="max_buffer"):
                await asyncio.wait_for(produce(), WITHIN)
            draining = asyncio.ensure_future(client.drain())
            await asyncio.sleep(0.01)
            assert not draining.done()
            proxy.go_on()
            await asyncio.wait_for(draining, WITHIN)


async def test_drain_waits_for_a_connection_and_says_when_there_is_none(url: str):
    client = Client(url)
    client.emit("relay", "got")
    with pytest.raises(ConnectionClosed, match="is not connected"):
        await client.drain()
    async with client:
        await client.drain()


async def test_other_threads_emit_in_order(url: str):
    async with Client(url) as client:
        got = client.events("got")

        def work() -> None:
            for number in range(100):
                client.emit("relay", "got", number)

        await asyncio.to_thread(work)
        assert [(await anext(got))[0] for _ in range(100)] == list(range(100))


async def test_too_many_acks(url: str):
    async with Client(url, max_pending_acks=1) as client:
        waiting = asyncio.ensure_future(client.call("silence"))
        await asyncio.sleep(0)
        with pytest.raises(LocalProtocolError, match="max_pending_acks"):
            await client.call("echo")
        waiting.cancel()
        await asyncio.wait((waiting,))
        assert await client.call("echo", 1) == 1


# Streams


async def test_a_stream_ends_when_the_socket_is_closed_for_good(url: str):
    client = Client(url)
    stream = client.events("got")
    async with client:
        for number in range(3):
            client.emit("relay", "got", number, b"x")
        client.emit("kick")
        assert [args async for args in stream] == [(0, b"x"), (1, b"x"), (2, b"x")]


async def test_a_stream_that_nobody_reads_is_not_endless(url: str):
    async with Client(url) as client:
        stream = client.events("got", max_events=2)
        for number in range(5):
            client.emit("relay", "got", number)
        await client.call("echo")
        assert [await anext(stream), await anext(stream)] == [(0,), (1,)]
        with pytest.raises(LocalProtocolError, match="more than 2 events behind"):
            await anext(stream)


async def test_a_stream_that_is_left_is_forgotten(url: str):
    async with Client(url) as client:
        client.emit("relay", "got")
        async for _ in client.events("got"):
            break
        gc.collect()
        assert not client.streams


async def test_wait_for(url: str):
    client = Client(url)
    connected = asyncio.ensure_future(client.wait_for("connect"))
    await asyncio.sleep(0)
    async with client:
        assert await connected == ()
        waiting = asyncio.ensure_future(client.wait_for("got", timeout=WITHIN))
        await asyncio.sleep(0)
        client.emit("relay", "got", 1, 2)
        assert await waiting == (1, 2)
        with pytest.raises(TimeoutError):
            await client.wait_for("got", timeout=0.001)
        waiting = asyncio.ensure_future(client.wait_for("got"))
        ended = asyncio.ensure_future(client.wait_for("disconnect"))
        await asyncio.sleep(0)
        client.emit("kick")
        with pytest.raises(ConnectionClosed) as closed:
            await waiting
        assert closed.value.reason is Reason.IO_SERVER_DISCONNECT
        assert await ended == (Reason.IO_SERVER_DISCONNECT, None)
        assert not client.streams
