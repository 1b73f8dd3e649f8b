"""The client for code that is not async: the same names, from any thread, and an end that hangs nowhere."""

from __future__ import annotations

import asyncio
import inspect
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_overloads

import pytest

from mizzen import (
    AckTimeout,
    Client,
    ClientSocket,
    ConnectFailed,
    ConnectionClosed,
    ConnectRefused,
    LocalProtocolError,
    MsgpackCodec,
    Reason,
    RemoteError,
    Server,
    Socket,
    SyncClient,
    SyncClientSocket,
    from_thread,
)
from mizzen.client.emits import Flagged
from mizzen.client.streams import EventStream
from mizzen.client.sync_parts import SyncEventStream, SyncFlagged
from tests.support import WITHIN, serve

PORTAL = "mizzen-client"


class Served:
    """A server in a thread of its own, so that a test may wait with its own thread."""

    def __init__(self, app: Any) -> None:
        self.url = ""
        self._app = app
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        async with serve(self._app) as self.url:
            self._ready.set()
            await self._over.wait()

    def __enter__(self) -> Served:
        self._thread.start()
        assert self._ready.wait(WITHIN)
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()


def make() -> Server:
    io = Server(close_grace=0.0)

    @io.on("echo")
    async def echo(socket: Socket, *args: Any) -> tuple[Any, ...]:
        return args

    @io.on("ask")
    async def ask(socket: Socket, *args: Any) -> object:
        return await socket.call(*args, timeout=WITHIN)

    @io.on("tell")
    async def tell(socket: Socket, *args: Any) -> None:
        socket.emit(*args)

    @io.on("fail")
    async def fail(socket: Socket) -> None:
        raise RuntimeError("no")

    @io.on("silent")
    async def silent(socket: Socket) -> None:
        await asyncio.sleep(60)

    @io.on("kick")
    async def kick(socket: Socket) -> None:
        socket.disconnect()

    @io.of("/chat").on("where")
    async def where(socket: Socket) -> str:
        return "chat"

    @io.of("/no").use
    async def refuse(socket: Socket) -> None:
        raise ConnectRefused("not you", data={"why": 1})

    return io


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with Served(make()) as served:
        yield served.url


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def portals() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == PORTAL]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    until(lambda: not portals())


# The same names


INTERNAL = {
    *("ask", "attempt_failed", "end", "ended", "fail", "failed", "forget", "left", "listeners", "lost", "not_reached", "opened", "outbox"),
    *("received", "recovery", "request_ack", "say_goodbye", "send_event", "streams", "tell", "thread_turn", "turn"),
}
"""What `ClientSocket` has for the manager, and for the facade."""
SYNC_NAMES = re.compile(r"\b(ClientSocket|Flagged|EventStream|ErrorHook)\b")


def public(kind: type, instance: object | None = None) -> set[str]:
    names = {*dir(kind), *(vars(instance) if instance is not None else ())}
    return {name for name in names if not name.startswith("_")}


def expected(function: Callable[..., object]) -> str:
    """Give the signature that the facade of a function must have."""
    return SYNC_NAMES.sub(r"Sync\1", str(inspect.signature(function)))


def check_parity(kind: type, facade: type, names: set[str]) -> None:
    for name in sorted(names):
        mine, theirs = inspect.getattr_static(facade, name, None), inspect.getattr_static(kind, name, None)
        if not inspect.isfunction(theirs):
            assert mine is not None, f"{facade.__name__}.{name} is missing"
            continue
        assert inspect.isfunction(mine), f"{facade.__name__}.{name} is missing"
        assert not inspect.iscoroutinefunction(mine)
        assert str(inspect.signature(mine)) == expected(theirs), name
        assert [str(inspect.signature(each)) for each in get_overloads(mine)] == [expected(each) for each in get_overloads(theirs)], name


def test_the_facade_has_every_name_of_the_client_with_its_signature() -> None:
    client = Client("http://127.0.0.1:1")
    names = public(Client, client)
    check_parity(Client, SyncClient, names - INTERNAL)
    check_parity(ClientSocket, SyncClientSocket, public(ClientSocket, client.of("/x")) - INTERNAL)
    check_parity(Flagged, SyncFlagged, {name for name in public(Flagged) if inspect.isroutine(getattr(Flagged, name))})
    check_parity(EventStream, SyncEventStream, public(EventStream) - {"push"})


def test_the_facade_has_no_name_of_its_own() -> None:
    assert public(SyncClient) <= public(Client, Client("http://127.0.0.1:1"))


def test_the_options_are_those_of_the_client() -> None:
    theirs = dict(inspect.signature(Client).parameters)
    del theirs["http_session"]  # it belongs to an event loop
    assert {name: (each.default, each.annotation) for name, each in inspect.signature(SyncClient).parameters.items()} == {
        name: (each.default, each.annotation) for name, each in theirs.items()
    }


def test_every_option_reaches_the_client() -> None:
    others: dict[str, Any] = {
        "path": "/other",
        "max_payload": 77,
        "transports": ("polling",),
        "eio": 3,
        "timestamp_requests": True,
        "timestamp_param": "x",
        "randomization_factor": 0.25,
        "reconnection_attempts": 7,
        "request_timeout": 7.0,
        "ack_timeout": 7.0,
        "per_message_deflate": 77,
        "parser": MsgpackCodec(),
        "proxy": "http://proxy",
        "uds": "/socket",
        "query": {"a": "b"},
        "headers": {"a": "b"},
        "cookies": {"a": "b"},
    }
    for name, parameter in inspect.signature(SyncClient).parameters.items():
        if name in ("url", "auth", "retries"):
            continue
        default = parameter.default
        value = others.get(name, not default if isinstance(default, bool) else default and default * 2)
        options = SyncClient("http://127.0.0.1:1", **{name: value})._client.manager.options
        assert value != default
        assert getattr(options, name) == value, name
    client = SyncClient("http://127.0.0.1:1", auth={"a": 1}, retries=3, ack_timeout=1)
    assert (client.auth, client._client.manager.options.retries) == ({"a": 1}, 3)


# What it does


def test_a_conversation(url: str) -> None:
    socket = SyncClient(url)
    seen: list[Any] = []
    socket.on("message", lambda *args: seen.append(args))
    assert (socket.connected, socket.active, socket.id, socket.transport) == (False, False, None, None)
    with socket as entered:
        assert entered is socket
        assert (socket.connected, socket.active, socket.transport, socket.recovered) == (True, True, "websocket", False)
        assert socket.id
        assert socket.call("echo", 1, b"2") == (1, b"2")
        assert socket.timeout(WITHIN).call("echo", 1) == 1
        socket.emit("tell", "message", "hi")
        socket.volatile.emit("tell", "message", "you")
        socket.drain()
        until(lambda: len(seen) == 2)
        assert sorted(seen) == [("hi",), ("you",)]
    assert (socket.connected, socket.reason) == (False, Reason.IO_CLIENT_DISCONNECT)
    assert not portals()


def test_what_is_emitted_before_it_connects_is_sent_then(url: str) -> None:
    socket = SyncClient(url)
    socket.emit("tell", "greeting", 1)
    greetings = socket.events("greeting")
    with socket:
        assert next(greetings) == (1,)


def test_errors_keep_their_types_and_show_the_caller(url: str) -> None:
    with SyncClient(url) as socket:
        with pytest.raises(RemoteError, match="the handler failed") as failed:
            socket.call("fail")
        assert "test_errors_keep_their_types_and_show_the_caller" in "".join(traceback.format_exception(failed.value))
        with pytest.raises(AckTimeout):
            socket.call("silent", timeout=0.01)
        with pytest.raises(TypeError):
            socket.emit("echo", object())
        with pytest.raises(LocalProtocolError, match="reserved"):
            socket.emit("connect")
        with pytest.raises(TimeoutError):
            socket.wait_for("nothing", timeout=0.01)
        with pytest.raises(ConnectRefused, match="not you") as refused:
            socket.of("/no").connect()
        assert refused.value.data == {"why": 1}
        with pytest.raises(LocalProtocolError, match="not a method"):
            socket.request("brew", "/")
    with pytest.raises(ConnectFailed):
        SyncClient("http://127.0.0.1:1").connect()


def test_another_namespace_is_the_same_object_each_time(url: str) -> None:
    with SyncClient(url) as socket:
        chat = socket.of("chat", auth={"a": 1})
        assert chat is socket.of("/chat")
        assert socket.of("/") is socket
        assert (chat.auth, chat.name) == ({"a": 1}, "/chat")
        with chat:
            assert chat.call("where") == "chat"
        assert socket.connected
        chat.connect()
    assert not chat.connected


def test_events_are_iterated_over_until_the_socket_is_closed(url: str) -> None:
    with SyncClient(url) as socket:
        stream = socket.events("number")
        for number in range(3):
            socket.emit("tell", "number", number)
        socket.emit("kick")
        assert list(stream) == [(0,), (1,), (2,)]
        assert socket.wait_closed() is Reason.IO_SERVER_DISCONNECT


def test_a_stream_that_is_left_is_forgotten(url: str) -> None:
    with SyncClient(url) as socket:
        stream = socket.events("number")
        socket.emit("tell", "number", 1)
        assert next(stream) == (1,)
        assert socket._socket.streams
        del stream
        until(lambda: not socket._socket.streams)


def test_what_happens_to_the_connection_is_told(url: str) -> None:
    socket = SyncClient(url)
    told: list[str] = []
    socket.manager.on("open", lambda: told.append("open"))
    socket.manager.once("close", lambda reason, details: told.append("close"))
    socket.on("connect", lambda: told.append("connect"))
    socket.on("disconnect", lambda reason, details: told.append("disconnect"))
    with socket:
        pass
    assert sorted(told) == ["close", "connect", "disconnect", "open"]
    assert socket.manager.url == url


def test_an_error_hook_gets_the_socket_of_the_facade(url: str) -> None:
    socket = SyncClient(url)
    heard: list[Any] = []

    @socket.on_error
    def hook(error: Exception, where: SyncClientSocket | None, event: str) -> None:
        heard.append((repr(error), where, event))

    @socket.on("boom")
    def boom() -> None:
        raise ValueError("boom")

    with socket:
        with pytest.raises(RemoteError):
            socket.call("ask", "boom")
        assert heard == [("ValueError('boom')", socket, "boom")]


# Threads


def test_plain_handlers_may_use_the_client(url: str) -> None:
    with SyncClient(url) as socket:

        @socket.on("question")
        def question(text: str) -> str:
            asides = socket.events("aside")
            socket.emit("tell", "aside", threading.current_thread().name)
            (aside,) = next(asides)
            assert from_thread(socket._client.call, "echo", 2) == 2
            return f"{aside.partition('_')[0]} {socket.call('echo', text)}"

        assert socket.call("ask", "question", "why") == "mizzen why"


@pytest.mark.parametrize("how", ["close", "disconnect"])
def test_a_plain_handler_may_end_the_client(url: str, how: str) -> None:
    socket = SyncClient(url, close_grace=WITHIN * 10)
    over = threading.Event()

    @socket.on("end")
    def end() -> None:
        getattr(socket, how)()
        over.set()

    socket.connect()
    socket.emit("tell", "end")
    assert socket.wait_closed() is Reason.IO_CLIENT_DISCONNECT
    assert over.wait(WITHIN)


def test_what_is_asked_of_a_client_that_is_not_connected_leaves_no_thread(url: str) -> None:
    socket = SyncClient(url)
    said = socket.events("said")
    socket.emit("tell", "said", 1)
    assert not portals()
    with socket:
        assert next(said) == (1,)
    assert socket.wait_closed() is Reason.IO_CLIENT_DISCONNECT
    assert not portals()
    with pytest.raises(AckTimeout):
        socket.call("echo", timeout=0.01)
    assert not portals()


def test_an_emit_after_the_end_neither_waits_for_handlers_nor_ends_them(url: str) -> None:
    socket = SyncClient(url, close_grace=0.0)
    log: list[str] = []
    release = threading.Event()

    @socket.on("work")
    async def work() -> None:
        log.append("begun")
        while not release.is_set():
            await asyncio.sleep(0.001)
        log.append("done")

    socket.connect()
    socket.emit("tell", "work")
    until(lambda: log)
    socket.emit("kick")
    assert socket.wait_closed() is Reason.IO_SERVER_DISCONNECT
    socket.emit("later")
    assert log == ["begun"]
    release.set()
    until(lambda: log == ["begun", "done"])
    socket.close()


def test_an_async_handler_that_would_wait_for_itself_is_told(url: str) -> None:
    with SyncClient(url) as socket:
        errors: list[str] = []

        @socket.on("question")
        async def question() -> str:
            socket.emit("tell", "aside")  # does not wait
            try:
                socket.call("echo", 1)
            except LocalProtocolError as error:
                errors.append(str(error))
            return "answer"

        asides = socket.events("aside")
        assert socket.call("ask", "question") == "answer"
        assert "own event loop" in errors[0]
        assert next(asides) == ()


def test_many_threads_use_one_client(url: str) -> None:
    with SyncClient(url) as socket, ThreadPoolExecutor(8) as threads:

        def work(worker: int) -> bool:
            def handler(*args: Any) -> None: ...

            for number in range(25):
                socket.on(f"event {worker} {number}", handler)
                assert socket.call("echo", worker, number) == (worker, number)
                socket.emit("tell", "count")
            return True

        counted = socket.events("count")
        assert all(threads.map(work, range(8)))
        assert [next(counted) for _ in range(200)] == [()] * 200
        assert len(socket._socket.listeners.handlers) == 200


def test_handlers_registered_at_the_same_time_are_all_kept() -> None:
    socket = SyncClient("http://127.0.0.1:1")
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: [socket.on("event", lambda: None) for _ in range(100)], range(8)))
    assert len(socket._socket.listeners.handlers["event"]) == 800


def test_connecting_from_several_threads_gives_one_connection(url: str) -> None:
    socket = SyncClient(url)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: socket.connect(), range(8)))
        ids = set(threads.map(lambda _: socket.id, range(8)))
    assert len(ids) == 1
    assert len(portals()) == 1
    socket.close()


def test_a_namespace_that_is_given_up_and_connected_again_from_another_thread() -> None:
    io, entered, may_go_on = make(), threading.Event(), threading.Event()

    @io.of("/slow").on("connect")
    def think(socket: Socket) -> None:
        entered.set()
        may_go_on.wait(WITHIN)

    with Served(io) as served, SyncClient(served.url) as socket, ThreadPoolExecutor(2) as threads:
        ends: list[Reason] = []
        socket.on("disconnect", ends.append)
        slow = socket.of("/slow")
        first = threads.submit(slow.connect)
        assert entered.wait(WITHIN)
        slow.disconnect()
        with pytest.raises(ConnectFailed, match="is closed: io client disconnect"):
            first.result(WITHIN)
        second = threads.submit(slow.connect)
        until(lambda: slow.active)
        assert socket.call("echo", 1) == 1, "the server has got what was sent before"
        may_go_on.set()
        second.result(WITHIN)
        assert (slow.connected, socket.connected, ends) == (True, True, [])


def test_it_may_be_used_where_another_event_loop_runs(url: str) -> None:
    async def notebook() -> int:
        with SyncClient(url) as socket:
            return socket.call("echo", 1)

    assert asyncio.run(notebook()) == 1


# The end


def test_it_connects_anew_after_it_was_closed(url: str) -> None:
    socket = SyncClient(url)
    for _ in range(3):
        with socket:
            assert socket.call("echo", 1) == 1
        assert not portals()
    socket.emit("tell", "later")  # is kept
    later = socket.events("later")
    with socket:
        assert next(later) == ()


def test_those_that_wait_are_told_that_it_was_closed(url: str) -> None:
    socket = SyncClient(url)
    socket.connect()

    def outcome(function: Callable[[], object]) -> object:
        try:
            return function()
        except ConnectionClosed as error:
            return error.reason

    stream = socket.events("nothing")
    with ThreadPoolExecutor(4) as threads:
        waiting = [
            threads.submit(outcome, each)
            for each in (lambda: socket.call("silent"), lambda: socket.wait_for("nothing"), socket.wait_closed, lambda: list(stream))
        ]
        until(lambda: socket._client.outbox._acks and socket._client.streams._waiters and socket._client._closing)
        socket.close()
        assert [each.result(WITHIN) for each in waiting] == [Reason.IO_CLIENT_DISCONNECT] * 3 + [[]]
    assert not portals()


def test_an_error_in_the_block_does_not_wait_for_handlers(url: str) -> None:
    socket = SyncClient(url, close_grace=1000)
    started = threading.Event()

    @socket.on("work")
    async def work() -> None:
        started.set()
        await asyncio.sleep(1000)

    def fail() -> None:
        with socket:
            socket.emit("tell", "work")
            assert started.wait(WITHIN)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


def test_ctrl_c_interrupts_a_call_and_leaves_the_client_usable(url: str) -> None:
    with SyncClient(url) as socket:
        for waiting in (lambda: socket.call("silent"), lambda: socket.wait_for("nothing"), lambda: next(socket.events("nothing"))):
            main = threading.main_thread().ident
            assert main is not None
            timer = threading.Timer(0.02, signal.pthread_kill, (main, signal.SIGINT))
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                waiting()
            timer.join()
            assert socket.call("echo", 1) == 1
        assert not socket._client.outbox._acks
        assert not socket._client.streams


def test_ctrl_c_while_it_connects() -> None:
    socket = SyncClient("http://127.0.0.1:1", wait_for_server=True)
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        socket.connect()
    timer.join()
    assert not socket.active


@pytest.mark.parametrize(
    ("work", "printed"),
    [
        ("", ""),
        ("threading.Thread(target=lambda: socket.call('silent'), daemon=True).start()", ""),
        ("socket.on('question', lambda: socket.call('silent')); socket.emit('tell', 'question'); time.sleep(0.1)", ""),
        ("stream = socket.events('x'); print(socket.call('echo', 1))", "1"),
        ("raise SystemExit", ""),
    ],
    ids=["idle", "a call in a thread", "a handler that waits", "a stream", "exit"],
)
def test_the_process_ends_although_nobody_closed_it(url: str, work: str, printed: str) -> None:
    script = f"import mizzen, threading, time\nsocket = mizzen.SyncClient({url!r})\nsocket.connect()\n{work}\n"
    ended = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=WITHIN, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == printed
    assert "never awaited" not in ended.stderr
    assert "was destroyed" not in ended.stderr


def test_a_forked_process_is_told(url: str) -> None:
    script = f"""
import mizzen, os, sys
socket = mizzen.SyncClient({url!r})
socket.connect()
child = os.fork()
if not child:
    try:
        socket.call("echo", 1)
    except mizzen.LocalProtocolError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(socket.call("echo", 2))
"""
    command = [sys.executable, "-W", "ignore", "-c", script]  # 3.12 warns of any fork with threads
    ended = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN, check=False)
    assert ended.stdout.splitlines() == ["the process was forked after this SyncClient was used: make one in each process", "2"], (
        ended.stderr
    )
