"""The native path: an app's own WebSockets by ASGI events, the handshake, flow control, compression, and what is left at the end."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import random
import weakref
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from mizzen import Reason, Server, Socket
from mizzen.errors import OptionsError
from mizzen.protocol.websocket import deflate
from mizzen.transports.carrier import NativeTransport
from mizzen.transports.native import WIRE, WebSocketProtocol
from mizzen.types import ASGIApp, Message, Receive, Scope, Send
from tests.nodejs import run_node
from tests.support import NATIVE, Wire, join, serve, until
from tests.transports import wire
from tests.transports.exchange import Ends, engine_target, handshake, nothing_is_left, only_connection
from tests.transports.paths import dial_session
from tests.transports.wire import KEY, Config, NativeWebSocket, Pipe, State, client_frame

pytestmark = pytest.mark.usefixtures("path")
native_only = pytest.mark.parametrize("path", ["native"], indirect=True)

Part = Callable[[Receive, Send], Awaitable[None]]
ACCEPT: Message = {"type": "websocket.accept"}
TARGET = "/own?x=1"


class Own:
    """An app with one WebSocket of its own; it keeps the scope and what it has received."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.scope: Scope = {}
        self.received: list[Message] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope

        async def remember() -> Message:
            event = await receive()
            self.received.append(event)
            return event

        assert (await receive())["type"] == "websocket.connect"
        await self.part(remember, send)


async def read_to_the_end(receive: Receive, send: Send) -> None:
    await send(ACCEPT)
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def open_own(part: Part, **options: Any) -> tuple[Own, NativeWebSocket]:
    own = Own(part)
    websocket = NativeWebSocket(own, TARGET, **options)
    await websocket.accepted()
    return own, websocket


# An app's own WebSockets


@native_only
async def test_frameworks_have_their_websockets_through_the_class() -> None:
    api = FastAPI()
    ends: list[tuple[int, str]] = []

    @api.websocket("/ws/{name}")
    async def talk(websocket: WebSocket, name: str) -> None:
        await websocket.accept(subprotocol="b", headers=[(b"x-name", name.encode())])
        try:
            await websocket.send_text(await websocket.receive_text() + "!")
            await websocket.send_bytes(await websocket.receive_bytes() + b"!")
            await websocket.receive_text()
        except WebSocketDisconnect as end:
            ends.append((end.code, end.reason))

    async with serve(Server(api), native=True) as url:
        address = f"ws{url.removeprefix('http')}/ws/me"
        async with open_websocket(address, subprotocols=[Subprotocol("a"), Subprotocol("b")], proxy=None) as connection:
            assert connection.subprotocol == "b"
            assert connection.response is not None
            assert connection.response.headers["x-name"] == "me"
            await connection.send("text é")
            assert await connection.recv() == "text é!"
            await connection.send(b"\x00\xff")
            assert await connection.recv() == b"\x00\xff!"
            await connection.close(4001, "enough")
        await until(lambda: ends == [(4001, "enough")])
        with pytest.raises(InvalidStatus) as refused:
            await open_websocket(f"ws{url.removeprefix('http')}/nowhere", proxy=None)
        assert refused.value.response.status_code == 403


@native_only
async def test_the_scope_is_the_one_that_uvicorn_gives() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            seen.append(dict(scope))
            await receive()
            await send(ACCEPT)
            await send({"type": "websocket.close", "code": 1000})

    for native in (False, True):
        async with serve(app, native=native) as url:
            headers = [("X-Twice", "1"), ("x-twice", "2")]
            address = f"ws{url.removeprefix('http')}/a%20b/%C3%A9?q=%20&r"
            subprotocols = [Subprotocol("one"), Subprotocol("two")]
            async with open_websocket(address, additional_headers=headers, subprotocols=subprotocols, proxy=None, compression=None) as ws:
                await ws.wait_closed()
    theirs, ours = seen
    changing = {b"host", b"sec-websocket-key"}
    for scope in seen:
        scope["headers"] = sorted(tuple(header) for header in scope["headers"] if header[0] not in changing)
        assert scope["client"][0] == scope["server"][0] == "127.0.0.1"
        del scope["client"], scope["server"]
        scope["extensions"] = {"websocket.http.response": {}}
        scope["asgi"] = {"version": scope["asgi"]["version"]}
    assert ours == theirs


@native_only
async def test_an_app_receives_text_bytes_and_the_end_of_the_client() -> None:
    own, websocket = await open_own(read_to_the_end)
    websocket.send("é")
    websocket.send(b"\x00")
    websocket.close(4321)
    await websocket.ended()
    assert own.received == [
        {"type": "websocket.receive", "text": "é"},
        {"type": "websocket.receive", "bytes": b"\x00"},
        {"type": "websocket.disconnect", "code": 4321, "reason": ""},
    ]
    assert await websocket.frame() == (0x88, (4321).to_bytes(2, "big"))


@native_only
@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (client_frame(3, b""), 1002),
        (client_frame(1, b"\xff"), 1007),
        (client_frame(2, b"x" * 101), 1009),
        (client_frame(8, b""), 1005),
    ],
)
async def test_what_breaks_the_protocol_is_told_to_both_sides(sent: bytes, code: int) -> None:
    own = Own(read_to_the_end)
    config = Config(own)
    config.ws_max_size = 100
    websocket = NativeWebSocket(own, TARGET, config=config)
    await websocket.accepted()
    websocket.pipe.feed(sent)
    assert (await websocket.next())["code"] == code
    await websocket.ended()
    assert [(event["type"], event["code"]) for event in own.received] == [("websocket.disconnect", code)]


@native_only
async def test_an_app_closes_and_reads_nothing_more_but_the_end() -> None:
    async def close(receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await send({"type": "websocket.close", "code": 4002, "reason": "bye"})
        await receive()
        with pytest.raises(RuntimeError, match="closed"):
            await send({"type": "websocket.send", "text": "late"})
        with pytest.raises(RuntimeError, match="closed"):
            await send({"type": "websocket.close"})

    own, websocket = await open_own(close)
    websocket.send("on its way")
    assert await websocket.next() == {"type": "websocket.close", "code": 4002, "reason": "bye"}
    # Messages that nobody takes do not keep the client's Close frame from being read, and the connection ends at once.
    for _ in range(5):
        websocket.send("on its way")
    assert not websocket.pipe.closing
    websocket.close(4002)
    await websocket.ended()
    assert own.received == [{"type": "websocket.disconnect", "code": 4002, "reason": "bye"}]


@native_only
async def test_a_close_code_that_nobody_may_send_is_an_error_of_the_app(caplog: pytest.LogCaptureFixture) -> None:
    async def close(receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await send({"type": "websocket.close", "code": 1006})

    _, websocket = await open_own(close)
    assert (await websocket.next())["code"] == 1011
    websocket.close(1011)
    await websocket.ended()
    assert "1006" in caplog.text


@native_only
async def test_an_app_that_does_not_close_is_closed_for() -> None:
    async def leave(receive: Receive, send: Send) -> None:
        await send(ACCEPT)

    _, websocket = await open_own(leave)
    assert await websocket.until_closed() == 1000


@native_only
async def test_an_app_that_fails_is_logged_and_its_client_told(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        raise ValueError("of the app")

    _, websocket = await open_own(fail)
    assert await websocket.until_closed() == 1011
    await websocket.ended()
    assert "ValueError: of the app" in caplog.text


@native_only
@pytest.mark.parametrize("how", ["fails", "returns", "returns in the middle of a denial"])
async def test_an_app_that_does_not_answer_the_handshake_gets_500(how: str, caplog: pytest.LogCaptureFixture) -> None:
    async def part(receive: Receive, send: Send) -> None:
        if how == "fails":
            raise ValueError("of the app")
        if how != "returns":
            await send({"type": "websocket.http.response.start", "status": 401, "headers": []})

    answer = await NativeWebSocket(Own(part), TARGET).refusal()
    assert (answer.status, answer.body) == (500, b"Internal Server Error")
    assert ("ValueError" if how == "fails" else "without completing handshake") in caplog.text


@native_only
async def test_an_app_refuses() -> None:
    async def refuse(receive: Receive, send: Send) -> None:
        await send({"type": "websocket.close", "code": 4003})
        await receive()

    own = Own(refuse)
    answer = await NativeWebSocket(own, TARGET).refusal()
    assert (answer.status, answer.body, answer.header("content-length")) == (403, b"", "0")
    assert own.received == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}]


@native_only
@pytest.mark.parametrize("status", [401, 302, 499])
async def test_an_app_denies_with_a_response_of_its_own(status: int) -> None:
    async def deny(receive: Receive, send: Send) -> None:
        await send({"type": "websocket.http.response.start", "status": status, "headers": [(b"content-type", b"text/x"), (b"x-a", b"b")]})
        await send({"type": "websocket.http.response.body", "body": b"not ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"you"})
        with pytest.raises(RuntimeError, match="refused"):
            await send(ACCEPT)

    answer = await NativeWebSocket(Own(deny), TARGET).refusal()
    assert (answer.status, answer.body) == (status, b"not you")
    assert (answer.header("content-type"), answer.header("x-a"), answer.header("content-length")) == ("text/x", "b", "7")


@native_only
async def test_the_sending_app_waits_while_the_client_does_not_read_each_of_its_tasks() -> None:
    done: list[str] = []

    async def two(receive: Receive, send: Send) -> None:
        async def one(name: str) -> None:
            await send({"type": "websocket.send", "text": name})
            done.append(name)

        await send(ACCEPT)
        await receive()
        await asyncio.gather(one("a"), one("b"))
        await receive()

    _, websocket = await open_own(two)
    websocket.stop_reading()
    websocket.send("go")
    await until(lambda: len(websocket.pipe.buffer) == 6)
    for _ in range(10):
        await asyncio.sleep(0)
    assert done == []
    websocket.read_on()
    assert [await websocket.receive(), await websocket.receive()] == ["a", "b"]
    await until(lambda: sorted(done) == ["a", "b"])
    websocket.close(1000)
    await websocket.ended()


@native_only
async def test_a_client_that_vanishes_raises_oserror_in_a_send_that_waits_and_in_later_ones() -> None:
    raised: list[str] = []

    async def push(receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await receive()
        for _ in range(3):
            try:
                await send({"type": "websocket.send", "bytes": b"x"})
            except OSError as error:
                raised.append(str(error))
        raised.append((await receive())["type"])

    own, websocket = await open_own(push)
    websocket.stop_reading()
    websocket.send("go")
    await until(lambda: bool(websocket.pipe.buffer))
    websocket.close(1006)
    await websocket.ended()
    assert raised == ["the WebSocket is closed"] * 3 + ["websocket.disconnect"]
    assert own.received[-1] == {"type": "websocket.disconnect", "code": 1006, "reason": ""}


@native_only
async def test_an_app_that_lets_the_error_of_a_vanished_client_pass_leaves_no_trace_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def push(receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        while True:
            await send({"type": "websocket.send", "text": "x"})
            await asyncio.sleep(0)

    _, websocket = await open_own(push)
    await websocket.receive()
    websocket.close(1006)
    await websocket.ended()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@native_only
async def test_the_socket_is_not_read_while_a_message_waits_for_the_app() -> None:
    go_on = asyncio.Event()

    async def slow(receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await go_on.wait()
        while (await receive())["type"] == "websocket.receive":
            pass

    own, websocket = await open_own(slow)
    for number in range(10):
        websocket.send(str(number))
    await until(lambda: len(websocket.pipe.incoming) == 9)
    go_on.set()
    websocket.close(1000)
    await websocket.ended()
    assert [event.get("text") for event in own.received] == [*map(str, range(10)), None]


@native_only
async def test_frames_that_come_before_the_answer_wait_for_it() -> None:
    go_on = asyncio.Event()

    async def late(receive: Receive, send: Send) -> None:
        await go_on.wait()
        await read_to_the_end(receive, send)

    own = Own(late)
    websocket = NativeWebSocket(own, TARGET)
    websocket.pipe.feed(client_frame(9, b"early") + client_frame(1, b"early"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not websocket.pipe.written
    go_on.set()
    await websocket.accepted()
    assert await websocket.frame() == (0x8A, b"early")
    websocket.close(1000)
    await websocket.ended()
    assert own.received[0]["text"] == "early"


@native_only
async def test_a_client_that_answers_no_ping_of_an_own_websocket_is_closed() -> None:
    own = Own(read_to_the_end)
    websocket = NativeWebSocket(own, TARGET, config=Config(own, 0.005, 0.01))
    await websocket.accepted()
    for _ in range(3):
        first, payload = await websocket.frame()
        assert first == 0x89
        websocket.pipe.feed(client_frame(10, payload))
    assert (await websocket.frame())[0] == 0x89
    assert await websocket.next() == {"type": "websocket.close", "code": 1011, "reason": "keepalive ping timeout"}
    await websocket.ended()
    assert own.received[0]["code"] == 1011


@native_only
async def test_a_client_that_asks_for_pongs_and_reads_none_makes_nothing_pile_up() -> None:
    async with Server() as io:
        websocket = await dial_session(io)
        websocket.stop_reading()
        for _ in range(1000):
            websocket.pipe.feed(client_frame(9, b"x" * 125))  # pyright: ignore[reportAttributeAccessIssue]
        await until(lambda: not websocket.pipe.incoming)  # pyright: ignore[reportAttributeAccessIssue]
        assert len(websocket.pipe.buffer) <= 127  # pyright: ignore[reportAttributeAccessIssue]
        websocket.close(1006)
        await websocket.ended()


# The handshake


async def answer_to(head: str, app: ASGIApp | None = None) -> tuple[int, str, State]:
    """Give a request's head to the class; give status and text of its answer."""
    pipe, state = Pipe(), State()
    protocol = WebSocketProtocol(Config(app or Own(read_to_the_end)), state, {})
    pipe.protocol = protocol
    protocol.connection_made(pipe)
    protocol.data_received(head.replace("\n", "\r\n").encode("latin-1"))
    await until(pipe.closed.is_set)
    return int(pipe.written[9:12]), pipe.written.decode("latin-1"), state


@native_only
@pytest.mark.parametrize(
    ("change", "status"),
    [
        (("GET", "POST"), 400),
        ((f"Sec-WebSocket-Key: {KEY.decode()}\n", ""), 400),
        ((KEY.decode(), "c2hvcnQ="), 400),
        ((KEY.decode(), "not base64!"), 400),
        (("/own", "/\xe9"), 400),
        (("13", "8"), 426),
        (("Sec-WebSocket-Version: 13\n", ""), 426),
    ],
)
async def test_a_bad_handshake_is_answered_by_http(change: tuple[str, str], status: int) -> None:
    head = f"GET /own HTTP/1.1\nHost: x\nUpgrade: websocket\nSec-WebSocket-Key: {KEY.decode()}\nSec-WebSocket-Version: 13\n\n"
    assert change[0] in head
    got, text, state = await answer_to(head.replace(*change))
    assert got == status
    assert "connection: close" in text
    assert ("sec-websocket-version: 13" in text) == (status == 426)
    assert not state.connections
    assert not state.tasks


@native_only
async def test_uvicorn_hands_bad_handshakes_over(caplog: pytest.LogCaptureFixture) -> None:
    async with serve(Own(read_to_the_end), native=True, lifespan="off") as url:
        host, port = url.removeprefix("http://").split(":")
        for version, key, status in (("8", KEY.decode(), b"426"), ("13", "x", b"400")):
            reader, writer = await asyncio.open_connection(host, int(port))
            head = f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            writer.write(f"{head}Sec-WebSocket-Version: {version}\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
            assert (await reader.readline()).split()[1] == status
            writer.close()
            await writer.wait_closed()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_the_log_has_the_line_that_uvicorn_writes(path: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "uvicorn.error")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if "refuse" in scope["path"]:
            await send({"type": "websocket.close"})
        else:
            await send(ACCEPT)
            await receive()

    async with serve(app, native=path == "native", lifespan="off") as url:
        address = f"ws{url.removeprefix('http')}"
        async with open_websocket(f"{address}/a%0Ab/%C3%A9?c=%0A", proxy=None) as connection:
            port = connection.local_address[1]
        with pytest.raises(InvalidStatus):
            await open_websocket(f"{address}/refuse", proxy=None)
    lines = [record.getMessage() for record in caplog.records if "WebSocket" in record.getMessage()]
    assert lines[0] == f'127.0.0.1:{port} - "WebSocket /a%0Ab/%C3%A9?c=%0A" [accepted]'
    assert lines[1].endswith(' - "WebSocket /refuse" 403')


# The end of uvicorn


@native_only
async def test_shutdown_in_the_middle_of_a_handshake_answers_503() -> None:
    async def wait(receive: Receive, send: Send) -> None:
        await receive()
        with pytest.raises(RuntimeError, match="refused"):
            await send(ACCEPT)

    own = Own(wait)
    websocket = NativeWebSocket(own, TARGET)
    await asyncio.sleep(0)
    websocket.protocol.shutdown()
    assert (await websocket.refusal()).status == 503
    assert own.received[0]["code"] == 1006


@native_only
async def test_shutdown_closes_an_own_websocket() -> None:
    own, websocket = await open_own(read_to_the_end)
    websocket.protocol.shutdown()
    assert (await websocket.next())["code"] == 1012
    websocket.close(1012)
    await websocket.ended()
    assert own.received[0]["code"] == 1012


@native_only
async def test_the_first_shutdown_closes_the_server_of_all_sessions_gracefully() -> None:
    io = Server()
    ends = Ends(io)
    io.start()
    websockets = [await dial_session(io) for _ in range(3)]
    io.emit("last")
    assert isinstance(websockets[0], NativeWebSocket)
    websockets[0].pipe.protocol.shutdown()
    for websocket in websockets:
        assert await websocket.receive() == '42["last"]'
        assert await websocket.until_closed() == 1000
    await until(lambda: ends.reasons == [Reason.SERVER_SHUTTING_DOWN] * 3)


# What is left


def alive(kind: type) -> int:
    """Count the objects of a class."""
    return sum(type(each) is kind for each in gc.get_objects())


@native_only
async def test_nothing_of_the_handshake_outlives_it_and_nothing_of_a_connection_its_end() -> None:
    async with Server() as io:
        gc.collect()
        gc.disable()
        try:
            websocket = await dial_session(io)
            assert isinstance(websocket, NativeWebSocket)
            assert WIRE not in only_connection(io).handshake.scope["extensions"]
            assert alive(WebSocketProtocol) == alive(NativeTransport) == 1
            del websocket.protocol  # the test's own
            await until(lambda: not websocket.state.tasks)
            assert alive(WebSocketProtocol) == 0
            websocket.close(1000)
            await websocket.ended()
            websocket.pipe.protocol = None  # as asyncio's transport does
            await until(lambda: nothing_is_left(io))
            await until(lambda: alive(NativeTransport) == 0, "a reference cycle keeps it")
        finally:
            gc.enable()


def cutting(pipe: Pipe) -> list[asyncio.TimerHandle]:
    """Give the timers that would cut a connection off."""
    scheduled: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # pyright: ignore[reportAttributeAccessIssue]
    return [timer for timer in scheduled if timer._callback == pipe.abort]


async def open_either(kind: str) -> tuple[NativeWebSocket, Callable[[], object]]:
    """Open a session or an app's own WebSocket; give it and what closes it on the server."""
    if kind == "session":
        io = Server()
        io.start()
        websocket = await dial_session(io)
        assert isinstance(websocket, NativeWebSocket)
        return websocket, only_connection(io).close

    over = asyncio.Event()

    async def close(receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await send({"type": "websocket.send", "text": "hello"})
        await over.wait()

    _, websocket = await open_own(close)
    assert await websocket.receive() == "hello"
    return websocket, over.set


either = pytest.mark.parametrize("kind", ["session", "own"])


@native_only
@either
async def test_who_answers_the_close_frame_leaves_no_timer_behind(kind: str) -> None:
    websocket, close = await open_either(kind)
    pipe = websocket.pipe
    gc.collect()
    gc.disable()
    try:
        close()
        assert (await websocket.next())["code"] == 1000
        assert len(cutting(pipe)) == 1
        websocket.close(1000)
        await websocket.ended()
        assert not cutting(pipe)
        pipe.protocol = None  # as asyncio's transport does
        kept = weakref.ref(pipe)
        del websocket, close, pipe
        await until(lambda: kept() is None, "something keeps it")
    finally:
        gc.enable()


@native_only
@either
async def test_who_does_not_answer_the_close_frame_is_cut_off(kind: str) -> None:
    websocket, close = await open_either(kind)
    close()
    assert (await websocket.next())["code"] == 1000
    (timer,) = cutting(websocket.pipe)
    timer._run()
    await websocket.ended()


@native_only
@either
@pytest.mark.parametrize("first", ["server", "client"])
@pytest.mark.parametrize("takes", [True, False])
async def test_who_closes_and_does_not_take_what_was_sent_is_cut_off(
    kind: str, first: str, takes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "HIGH_WATER", 1000)  # what is sent fits into the buffer
    websocket, close = await open_either(kind)
    pipe = websocket.pipe
    websocket.stop_reading()
    if first == "server":
        close()
        await until(lambda: bool(pipe.buffer))
    websocket.close(1000)
    await until(lambda: pipe.closing)
    assert pipe.buffer
    (timer,) = cutting(pipe)
    if takes:
        websocket.read_on()
        assert (await websocket.next())["code"] == 1000
    else:
        timer._run()
    close()  # the app's part ends
    await websocket.ended()
    assert not cutting(pipe)


@native_only
async def test_who_closes_as_it_upgrades_and_does_not_take_what_was_sent_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "HIGH_WATER", 1000)
    async with Server() as io:
        sid = (await handshake(io))["sid"]
        websocket = NativeWebSocket(io, engine_target(transport="websocket", sid=sid))
        await websocket.accepted()
        websocket.send("2probe")
        assert await websocket.receive() == "3probe"
        websocket.stop_reading()
        websocket.pipe.feed(client_frame(1, b"5") + client_frame(8, b""))
        await until(lambda: nothing_is_left(io))
        assert websocket.pipe.buffer
        (timer,) = cutting(websocket.pipe)
        timer._run()
        await websocket.ended()
        assert not cutting(websocket.pipe)


@native_only
async def test_neither_an_upgrade_nor_an_own_websocket_leaves_a_cycle_behind() -> None:
    own = Own(read_to_the_end)
    io = Server(own)
    async with serve(io, native=True, lifespan="off") as url:
        gc.collect()
        gc.disable()
        try:
            async with join(url):
                pass
            await until(lambda: nothing_is_left(io))
            async with open_websocket(f"ws{url.removeprefix('http')}/own", proxy=None):
                pass
            await until(lambda: len(own.received) == 1)
            own.scope = {}
            for kind in (HttpToolsProtocol, WebSocketProtocol, NativeTransport):
                await until(lambda kind=kind: alive(kind) == 0, "a reference cycle keeps it")
        finally:
            gc.enable()


@native_only
async def test_a_connection_that_breaks_while_the_session_is_made_is_over() -> None:
    async with Server() as io:
        ends = Ends(io)
        websocket = NativeWebSocket(io, engine_target(transport="websocket"))
        # The transport knows of the end, and tells of it later.
        websocket.pipe.loop.call_soon(setattr, websocket.pipe, "closing", True)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        websocket.pipe.lose(ConnectionResetError("reset"))
        await until(lambda: nothing_is_left(io))
        await until(lambda: not websocket.state.tasks)
        assert not websocket.state.connections
        assert ends.reasons == []


@native_only
async def test_a_connection_that_is_closed_and_lost_while_it_is_handed_over_raises_nothing() -> None:
    """The loop still calls the class that made the handshake, because its transport was closing when it handed over."""
    async with Server() as io:
        websocket = NativeWebSocket(io, engine_target(transport="websocket"))
        protocol = websocket.pipe.protocol
        await until(lambda: websocket.pipe.protocol is not protocol)
        protocol.connection_lost(None)
        protocol.connection_lost(None)
        websocket.pipe.lose(None)
        await until(lambda: nothing_is_left(io))


# Flow control over a real connection


async def test_a_client_that_never_reads_costs_no_more_than_max_buffer_and_nobody_else_notices(path: str) -> None:
    io = Server(max_buffer=300_000, ping_interval=30)
    told: list[tuple[Reason, str | None]] = []

    async def disconnect(socket: Socket, reason: Reason, details: str | None) -> None:
        told.append((reason, details))

    io.on("disconnect", disconnect)
    async with serve(io, native=path == "native") as url, join(url) as (good, _), join(url) as (bad, _):
        bad.connection.transport.pause_reading()
        connection = list(io.sessions.connections.values())[1]
        text = "a" * 50_000
        most = sent = 0
        while not told:
            io.emit("x", text)
            sent += 1
            assert await good.receive() == f'42["x","{text}"]'
            if not connection.gone:
                most = max(most, connection.unsent + connection.transport.buffered)
            assert sent < 1000, "it is never given up"
        assert told == [(Reason.TRANSPORT_ERROR, "slow consumer")]
        assert most <= 300_000 + 2 * 50_100
        assert len(io.sockets) == 1
        bad.connection.transport.abort()


async def test_a_client_whose_inbox_is_full_is_read_no_further_until_it_drains(path: str) -> None:
    io = Server(max_buffer=10_000, max_handlers=2)
    go_on = asyncio.Event()
    seen: list[int] = []

    async def slow(socket: Socket, number: int, text: str) -> None:
        await go_on.wait()
        seen.append(number)

    io.on("x", slow)
    count = 4_000
    async with serve(io, native=path == "native") as url, join(url) as (wire, _):
        connection = only_connection(io)

        async def send() -> None:
            for number in range(count):
                await wire.send(f'42["x",{number},"{"a" * 5_000}"]')

        sending = asyncio.create_task(send())
        await until(lambda: connection.paused)
        for _ in range(200):
            await asyncio.sleep(0)
        assert not sending.done()  # the socket's buffers are full: nobody reads
        go_on.set()
        await sending
        await until(lambda: len(seen) == count)
        assert seen == list(range(count))
        assert not connection.paused


# permessage-deflate

OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}


@asynccontextmanager
async def compressed(io: Server, eio: int = 4) -> AsyncIterator[NativeWebSocket]:
    async with io:
        websocket = NativeWebSocket(io, engine_target(transport="websocket", eio=eio), OFFER)
        accepted = await websocket.accepted()
        assert dict(accepted["headers"])[b"sec-websocket-extensions"] == (
            b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"
        )
        await websocket.frame()
        if eio == 4:
            websocket.send("40")
        await websocket.frame()
        yield websocket
        websocket.close(1006)
        await websocket.ended()


def inflated(frame: tuple[int, bytes], first: int) -> bytes:
    assert frame[0] == first | 0x40, "it is not compressed"
    return zlib.decompressobj(wbits=-15).decompress(frame[1] + b"\x00\x00\xff\xff")


@native_only
@pytest.mark.parametrize(("option", "threshold"), [(True, 1024), (100, 100)])
async def test_messages_of_at_least_the_threshold_are_compressed(option: bool | int, threshold: int) -> None:
    async with compressed(Server(per_message_deflate=option)) as websocket:
        io = websocket.protocol.app
        small, large = "a" * (threshold - 11), "a" * (threshold - 10)  # 10 bytes are around them
        io.emit("x", small)
        assert (await websocket.frame())[0] == 0x81
        io.emit("x", large)
        assert inflated(await websocket.frame(), 0x81) == f'42["x","{large}"]'.encode()


@native_only
@pytest.mark.parametrize("eio", [3, 4])
async def test_attachments_are_compressed_each_by_its_own_size(eio: int) -> None:
    async with compressed(Server(per_message_deflate=True), eio) as websocket:
        websocket.protocol.app.emit("x", b"a" * 5000, b"b")
        assert (await websocket.frame())[0] == 0x81
        prefix = b"\x04" if eio == 3 else b""
        assert inflated(await websocket.frame(), 0x82) == prefix + b"a" * 5000
        assert await websocket.frame() == (0x82, prefix + b"b")


@native_only
async def test_a_compressed_broadcast_is_made_once() -> None:
    async with Server(per_message_deflate=True) as io:
        websockets: list[NativeWebSocket] = []
        for headers in (OFFER, OFFER, None):
            websockets.append(NativeWebSocket(io, engine_target(transport="websocket"), headers))
            await websockets[-1].accepted()
            await websockets[-1].frame()
            websockets[-1].send("40")
            await websockets[-1].frame()
        sent: list[object] = []
        for websocket in websockets:
            flush = websocket.pipe.write
            websocket.pipe.write = lambda data, flush=flush: (sent.append(data), flush(data))[1]
        text = json.dumps(random.Random(1).choices(range(10), k=3000))
        io.emit("x", text)
        first, second, plain = [await websocket.frame() for websocket in websockets]
        assert first == second
        assert inflated(first, 0x81) == plain[1]
        for websocket in websockets:
            websocket.close(1006)
            await websocket.ended()


@native_only
async def test_compressed_messages_of_the_client_are_read_and_bombs_are_not() -> None:
    seen: list[str] = []
    io = Server(per_message_deflate=True, max_payload=10_000)
    ends = Ends(io)
    io.on("x", lambda socket, text: seen.append(text))
    async with compressed(io) as websocket:
        websocket.pipe.feed(client_frame(1, deflate(b'42["x","' + b"a" * 9_000 + b'"]'), rsv1=True))
        await until(lambda: seen == ["a" * 9_000])
        websocket.pipe.feed(client_frame(1, deflate(b'42["x","' + b"a" * 9_999_990 + b'"]'), rsv1=True))
        assert (await websocket.next())["code"] == 1009
        await until(lambda: ends.reasons == [Reason.TRANSPORT_ERROR])


@native_only
@pytest.mark.parametrize(
    ("option", "offer"),
    [(False, "permessage-deflate"), (True, ""), (True, "permessage-deflate; server_max_window_bits=9")],
)
async def test_without_the_option_or_an_offer_that_fits_nothing_is_compressed(option: bool, offer: str) -> None:
    async with Server(per_message_deflate=option) as io:
        websocket = NativeWebSocket(io, engine_target(transport="websocket"), {"sec-websocket-extensions": offer})
        assert b"sec-websocket-extensions" not in dict((await websocket.accepted())["headers"])
        await websocket.frame()
        websocket.send("40")
        await websocket.frame()
        io.emit("x", "a" * 5000)
        assert (await websocket.frame())[0] == 0x81
        websocket.pipe.feed(client_frame(1, deflate(b'42["x"]'), rsv1=True))
        assert (await websocket.next())["code"] == 1002
        await websocket.ended()


@native_only
@pytest.mark.parametrize("way", ["websocket", "polling"], ids=["at once", "by an upgrade"])
async def test_the_javascript_client_and_the_server_compress_for_each_other(way: str) -> None:
    io = Server(per_message_deflate=True)
    frames: list[bool] = []

    async def echo(socket: Socket, text: str, data: bytes) -> list[str | bytes]:
        frames.append(socket.transport == "websocket")
        return [text, data]

    io.on("echo", echo)
    async with serve(io, native=True) as url:
        printed = json.loads(await run_node("transports/deflate.mjs", url, way))
        assert printed["extensions"].startswith("permessage-deflate")
        assert printed["same"] == [True] * 4
        # Both sides sent about 400 KB of text that repeats, in far fewer bytes.
        assert printed["read"] < 100_000
        assert printed["written"] < 100_000
        assert frames == [True] * 4


async def test_the_client_of_websockets_may_be_compressed_with(path: str) -> None:
    io = Server(per_message_deflate=True)
    io.on("echo", lambda socket, text: text)
    async with serve(io, native=path == "native") as url:
        address = f"ws{url.removeprefix('http')}{engine_target(transport='websocket')}"
        async with open_websocket(address, proxy=None, compression="deflate") as connection:
            # By ASGI events the server negotiates, and this one is told not to.
            assert bool(connection.protocol.extensions) == (path == "native")
            wire = Wire(connection)
            await wire.receive()
            await wire.send("40")
            await wire.receive()
            for size in (10, 1_000, 100_000, 900_000):
                await wire.send(f'420["echo","{"é" * (size // 2)}"]')
                assert await wire.receive() == f'430["{"é" * (size // 2)}"]'


@native_only
@pytest.mark.parametrize("value", [0, -1, "yes", None, 1.5])
def test_the_threshold_is_a_number_of_bytes(value: Any) -> None:
    with pytest.raises(OptionsError, match=f"per_message_deflate={value!r}"):
        Server(per_message_deflate=value)


@native_only
def test_uvicorn_takes_the_class_by_its_name() -> None:
    config = uvicorn.Config(Server(), ws=NATIVE, log_config=None)
    config.load()
    assert config.ws_protocol_class is not None
    assert config.ws_protocol_class.__module__ == "mizzen.transports.native"
