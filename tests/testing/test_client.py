"""The in-process client: what it shares with the app, what it tells a test, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.applications import Starlette
from starlette.routing import Mount

from mizzen import Client, ConnectFailed, ConnectRefused, Event, Handshake, MsgpackCodec, Reason, RemoteError, Server, Socket
from mizzen.testing import ClientFactory, InProcess, TestClient, lifespan, linked_pair, settle
from mizzen.types import Receive, Scope, Send

BLOB = bytes(range(256))
transaction: contextvars.ContextVar[str] = contextvars.ContextVar("transaction", default="none")


def echo(io: Server) -> Server:
    @io.on("echo")
    async def handler(socket: Socket, *args: Any) -> tuple[Any, ...]:
        socket.emit("echoed", *args)
        return args

    return io


# What it reaches


async def test_events_and_acks_both_ways() -> None:
    io = echo(Server())
    async with TestClient(io) as client:
        client.on("ask", lambda a, b: a + b)
        assert await client.call("echo", 1, {"a": BLOB}) == (1, {"a": BLOB})
        assert await client.receive("echoed") == (1, {"a": BLOB})
        assert client.id is not None
        assert await io.sockets[client.id].call("ask", 1, 2) == 3


@pytest.mark.parametrize("eio", [3, 4])
@pytest.mark.parametrize("parser", [None, MsgpackCodec()])
async def test_every_protocol_and_parser(eio: Any, parser: MsgpackCodec | None) -> None:
    async with TestClient(echo(Server(parser=parser)), eio=eio, parser=parser) as client:
        assert await client.call("echo", "é", BLOB, {"n": [BLOB, 1]}) == ("é", BLOB, {"n": [BLOB, 1]})
        assert await client.receive("echoed") == ("é", BLOB, {"n": [BLOB, 1]})


async def test_two_clients_and_a_room() -> None:
    io = Server()

    @io.on("join")
    async def join(socket: Socket, room: str) -> None:
        socket.join(room)
        socket.to(room).emit("joined", socket.id)

    async with TestClient(io) as ada, TestClient(io) as bob:
        await ada.call("join", "lobby")
        await bob.call("join", "lobby")
        assert await ada.receive("joined") == (bob.id,)
        await bob.receive_nothing()


async def test_namespaces_of_one_connection() -> None:
    io = Server()
    chat = io.of("/chat")

    @chat.on("connect")
    async def connect(socket: Socket, auth: dict[str, str]) -> None:
        if auth.get("token") != "abc":
            raise ConnectRefused("no", data={"code": 1})
        socket.emit("welcome")

    async with TestClient(io) as client:
        with pytest.raises(ConnectRefused, match="no") as refused:
            await client.of("chat", auth={"token": "x"}).connect()
        assert refused.value.data == {"code": 1}
        async with client.of("/chat", auth={"token": "abc"}) as socket:
            assert socket is client.of("/chat")
            assert await client.of("/chat").receive("welcome") == ()
            chat.emit("news")
            assert await client.of("/chat").receive() == ("news",)
        assert client.connected
        assert client.unread() == []
    async with TestClient(io, "/chat", auth={"token": "abc"}) as socket:
        assert await socket.receive("welcome") == ()
        assert len(io.sessions.connections) == 1


async def test_socket_requests_share_the_app_s_state_and_the_test_s_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    api = FastAPI()
    io = Server(api)
    loop = asyncio.get_running_loop()
    rows: list[str] = []

    class Database:
        async def add(self, row: str) -> int:
            assert asyncio.get_running_loop() is loop
            rows.append(row)
            return len(rows)

    @api.post("/messages")
    async def post(request: Request) -> dict[str, object]:
        added = await request.app.state.database.add((await request.json())["text"])
        io.emit("message", added)
        return {"id": added, "transaction": transaction.get()}

    monkeypatch.setattr(api.state, "database", Database(), raising=False)
    transaction.set("the test's")
    async with TestClient(io) as client, httpx.AsyncClient(transport=httpx.ASGITransport(io), base_url="http://testserver") as http:
        response = await client.post("/messages", json={"text": "ahoy"})
        assert (response.status_code, response.json()) == (200, {"id": 1, "transaction": "the test's"})
        assert (await http.post("/messages", json={"text": "by HTTP"})).json()["id"] == 2
        assert [await client.receive("message"), await client.receive("message")] == [(1,), (2,)]
    assert rows == ["ahoy", "by HTTP"]


async def test_the_app_runs_in_the_context_of_the_test_and_not_the_other_way_round() -> None:
    io = Server()
    seen: list[str] = []

    @io.on("see")
    async def see(socket: Socket) -> str:
        transaction_of_test = transaction.get()
        transaction.set("the handler's")
        socket.emit("seen")
        return transaction_of_test

    @io.use
    async def middleware(socket: Socket) -> None:
        transaction.set("the middleware's")

    transaction.set("the test's")
    async with TestClient(io) as client:

        @client.on("seen")
        async def note() -> None:
            seen.append(transaction.get())

        assert await client.call("see") == "the test's"
        await settle()
    assert seen == ["the test's"]


@pytest.mark.parametrize("framework", [FastAPI, Starlette])
async def test_a_server_that_is_mounted_under_a_path(framework: Any) -> None:
    io = echo(Server())
    if framework is FastAPI:
        app: Any = FastAPI()
        app.mount("/realtime", io)
    else:
        app = Starlette(routes=[Mount("/realtime", io)])
    async with TestClient(app, path="/realtime/socket.io") as client:
        assert await client.call("echo", 1) == 1
    with pytest.raises(ConnectFailed, match=r"refused the WebSocket at /socket\.io/ without a word .* is `path` right\?"):
        await TestClient(app).connect()
    async with linked_pair(io, app=app, path="/realtime/socket.io") as (client, socket):
        assert socket.id == client.id


async def test_a_linked_pair_is_both_ends_of_one_socket() -> None:
    io = Server()
    io.of("/chat")
    async with linked_pair(io, "chat", auth={"token": "abc"}, headers={"X-Who": "ada"}) as (client, socket):
        assert socket is io.of("/chat").sockets[client.id or ""]
        assert client.name == "/chat"
        assert socket.handshake.auth == {"token": "abc"}
        assert socket.handshake.headers["x-who"] == "ada"
        socket.on("from client", lambda n: n + 1)
        assert await client.call("from client", 1) == 2
        socket.emit("from server")
        assert await client.receive() == ("from server",)
    assert not io.of("/chat").sockets


async def test_typed_events() -> None:
    io = Server()
    add = Event[[int, int], int]("add")

    @io.on(add)
    async def handler(socket: Socket, a: int, b: int) -> int:
        socket.emit(add, a, b)
        return a + b

    async with TestClient(io) as client:
        assert await client.call(add, 1, 2) == 3
        assert await client.receive(add) == (1, 2)


# The handshake


async def test_the_app_sees_what_the_test_gives() -> None:
    handshakes: list[Handshake] = []

    def allow(handshake: Handshake) -> bool:
        handshakes.append(handshake)
        return True

    io = Server(allow_request=allow)
    client = TestClient(
        io,
        "https://example.com/chat?a=1",
        query={"b": "ü"},
        headers={"Authorization": "Bearer x"},
        cookies={"sid": "1"},
        client=("192.0.2.1", 9),
    )
    io.of("/chat")
    async with client:
        assert client.name == "/chat"
    [handshake] = handshakes
    assert handshake.query["a"] == "1"
    assert handshake.query["b"] == "ü"
    assert handshake.headers["authorization"] == "Bearer x"
    assert handshake.headers["cookie"] == "sid=1"
    assert handshake.headers["host"] == "example.com"
    assert handshake.headers["user-agent"] == "testclient"
    assert handshake.secure
    assert handshake.address == "192.0.2.1"


async def test_headers_and_cookies_of_the_client_may_be_functions_and_replace_the_usual_ones() -> None:
    io = Server()
    async with linked_pair(io, headers=lambda: {"User-Agent": "mine", "Cookie": "a=b"}) as (_, socket):
        assert socket.handshake.headers["user-agent"] == "mine"
        assert socket.handshake.headers["cookie"] == "a=b"


async def test_cookies_that_the_handshake_sets_go_along_with_the_next_one() -> None:
    seen: list[str] = []
    io = Server()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(dict(scope["headers"]).get(b"cookie", b"").decode())

        async def with_cookie(message: Any) -> None:
            if message["type"] == "websocket.accept":
                cookies = [b"sid=2; HttpOnly; Path=/", b"gone=; Max-Age=0"] if len(seen) == 1 else []
                message = {**message, "headers": [(b"Set-Cookie", each) for each in cookies]}
            await send(message)

        await io(scope, receive, with_cookie)

    client = TestClient(app, cookies={"gone": "1", "kept": "1"})
    for _ in range(2):
        async with client:
            pass
    assert seen == ["gone=1; kept=1", "kept=1; sid=2"]


# Refusals and failures


async def test_a_connect_handler_refuses() -> None:
    io = Server()

    @io.on("connect")
    async def connect(socket: Socket) -> None:
        raise ConnectRefused("full", data={"retry": 5})

    with pytest.raises(ConnectRefused, match="full") as refused:
        async with TestClient(io):
            pytest.fail("it was let in")
    assert refused.value.data == {"retry": 5}
    assert not io.sessions.connections


@pytest.mark.parametrize(
    ("options", "said"), [({"allow_request": lambda handshake: False}, "400: Forbidden"), ({"transports": ["polling"]}, "400: ")]
)
async def test_a_handshake_that_is_refused_says_what_the_app_said(options: Any, said: str) -> None:
    with pytest.raises(ConnectFailed, match=f"websocket: the app answered {said}"):
        await TestClient(Server(**options)).connect()


async def test_an_app_that_fails_in_the_handshake_is_the_cause() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError("boom")

    with pytest.raises(ConnectFailed, match=r"the app raised ZeroDivisionError\('boom'\)") as failed:
        await TestClient(app).connect()
    assert isinstance(failed.value.__cause__, ZeroDivisionError)


async def test_an_app_that_fails_later_is_logged_and_closes_the_client(caplog: pytest.LogCaptureFixture) -> None:
    io = Server()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        serving = asyncio.create_task(io(scope, receive, send))
        await asyncio.sleep(0)
        try:
            await going
            raise ZeroDivisionError("boom")
        finally:
            serving.cancel()

    going = asyncio.get_running_loop().create_future()
    async with TestClient(app) as client:
        going.set_result(None)
        assert await client.wait_closed() == Reason.TRANSPORT_CLOSE
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.name == "mizzen.testing"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ZeroDivisionError)


async def test_an_app_that_returns_or_is_cancelled_in_the_handshake() -> None:
    async def returns(scope: Scope, receive: Receive, send: Send) -> None: ...

    async def cancelled(scope: Scope, receive: Receive, send: Send) -> None:
        raise asyncio.CancelledError

    with pytest.raises(ConnectFailed, match="the app returned"):
        await TestClient(returns).connect()
    with pytest.raises(ConnectFailed, match="the app was cancelled"):
        await TestClient(cancelled).connect()


async def test_an_error_of_a_handler_reaches_the_test_s_call() -> None:
    io = Server(debug=True)

    @io.on("boom")
    async def boom(socket: Socket) -> None:
        raise ZeroDivisionError("why")

    async with TestClient(io) as client:
        with pytest.raises(RemoteError, match="why") as failed:
            await client.call("boom")
    assert failed.value.code == "E_HANDLER"


async def test_the_server_s_disconnect_is_seen() -> None:
    io = Server()

    @io.on("kick")
    async def kick(socket: Socket) -> None:
        socket.emit("bye")
        socket.disconnect()

    async with TestClient(io) as client:
        client.emit("kick")
        assert await client.wait_closed() == Reason.IO_SERVER_DISCONNECT
        assert await client.receive("bye") == ()
        with pytest.raises(AssertionError, match=r"no event 'more' came, and .* is closed \(io server disconnect\)"):
            await client.receive("more")


# What came


async def test_events_are_kept_in_order_until_they_are_taken() -> None:
    io = Server()
    async with linked_pair(io) as (client, socket):
        for n in range(3):
            socket.emit("a", n)
            socket.emit("b", n)
        assert await client.receive("b") == (0,)
        await settle()
        assert client.unread() == [("a", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]
        assert client.unread("a") == [(0,), (1,), (2,)]
        assert await client.receive() == ("a", 0)
        assert await client.receive("b") == (1,)
        assert client.unread() == [("a", 1), ("a", 2), ("b", 2)]


async def test_order_is_the_server_s_even_where_handlers_are_slow() -> None:
    io = Server()
    gate = asyncio.Event()
    async with linked_pair(io) as (client, socket):

        @client.on("n")
        async def slow(n: int) -> None:
            await gate.wait()

        for n in range(300):  # more than handlers of a client run at once
            socket.emit("n", n)
        assert [await client.receive("n") for _ in range(300)] == [(n,) for n in range(300)]
        gate.set()


async def test_two_tasks_may_wait_each_for_its_own() -> None:
    async with linked_pair(Server()) as (client, socket):
        async with asyncio.TaskGroup() as tasks:
            first, second = tasks.create_task(client.receive("first")), tasks.create_task(client.receive("second"))
            await settle()
            socket.emit("second", 2)
            await settle()
            socket.emit("first", 1)
        assert (first.result(), second.result()) == ((1,), (2,))


async def test_what_does_not_come_is_told_with_what_came_instead() -> None:
    async with linked_pair(Server()) as (client, socket):
        socket.emit("other")
        with pytest.raises(AssertionError, match=r"^no event 'hello' came within 0\.01 s; there is 'other'$"):
            await client.receive("hello", timeout=0.01)
        assert await client.receive("other") == ()
        with pytest.raises(AssertionError, match=r"^no event came within 0\.01 s; there is nothing$"):
            await client.receive(timeout=0.01)


async def test_what_does_not_come_because_a_handler_failed_is_told_with_its_error() -> None:
    io = Server()

    @io.on("ask")
    async def ask(socket: Socket) -> None:
        raise ZeroDivisionError("boom")

    async with TestClient(io) as client:
        client.emit("ask")
        told = r"no event 'answer' came within 0\.05 s; there is nothing\n.*\n  mizzen.server: 'ask' of .* failed: ZeroDivisionError"
        with pytest.raises(AssertionError, match=told) as failed:
            await client.receive("answer", timeout=0.05)
        assert isinstance(failed.value.__cause__, ZeroDivisionError)


async def test_a_client_that_is_not_connected_does_not_wait() -> None:
    with pytest.raises(AssertionError, match="connect it first"):
        await TestClient(Server()).receive("hello")


async def test_nothing_is_what_came_when_all_has_run() -> None:
    io = Server()

    @io.on("a")
    async def a(socket: Socket) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        socket.emit("b", 1)

    async with TestClient(io) as client:
        await client.receive_nothing()
        client.emit("a")
        await client.receive_nothing("c")
        with pytest.raises(AssertionError, match=r"expected no event 'b' of .*, but there is \(1,\)"):
            await client.receive_nothing("b")
        with pytest.raises(AssertionError, match=r"expected no event of .*, but there is \('b', 1\)"):
            await client.receive_nothing()


# Losing the connection


async def test_a_cut_is_known_to_both_sides() -> None:
    io = Server()
    gone: list[str] = []

    @io.on("disconnect")
    async def disconnect(socket: Socket, reason: str) -> None:
        gone.append(reason)

    async with TestClient(io) as client:
        client.cut()
        assert await client.wait_closed() == Reason.TRANSPORT_CLOSE
        await settle()
        assert gone == [Reason.TRANSPORT_CLOSE]
        assert not io.sessions.connections
        client.cut()
        await client.connect()
        assert len(io.sockets) == 1
    assert gone == [Reason.TRANSPORT_CLOSE, Reason.CLIENT_NAMESPACE_DISCONNECT]


async def test_what_was_sent_before_a_cut_arrives_and_what_comes_after_it_does_not() -> None:
    io = Server()
    seen: list[int] = []

    @io.on("n")
    async def n(socket: Socket, value: int) -> None:
        seen.append(value)

    async with linked_pair(io) as (client, socket):
        client.emit("n", 1)
        await client.drain()
        client.cut()
        client.emit("n", 2)
        socket.emit("late")
        await settle()
        assert seen == [1]
        assert client.unread() == []


# Nothing is left


@asynccontextmanager
async def no_new_tasks() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    assert asyncio.all_tasks() - before == set()


async def test_no_task_is_left_after_any_end() -> None:
    io = Server()
    done: list[str] = []

    @io.on("disconnect")
    async def disconnect(socket: Socket) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        done.append("disconnect")

    @io.on("kick")
    async def kick(socket: Socket) -> None:
        socket.disconnect(close=True)

    async with no_new_tasks():
        async with TestClient(io):
            pass
        assert done == ["disconnect"]
    async with no_new_tasks(), TestClient(io) as client:
        client.emit("kick")
        await client.wait_closed()
    async with no_new_tasks(), TestClient(io) as client:
        client.cut()
    async with no_new_tasks(), TestClient(io) as client:
        client.cut(silently=True)
    async with no_new_tasks(), TestClient(io, reconnection=True) as client:
        client.cut()
    async with no_new_tasks():
        with pytest.raises(ZeroDivisionError):
            async with TestClient(io) as client, client.of("/"):
                raise ZeroDivisionError
    assert not io.sessions.connections
    assert not io.sockets


async def test_a_client_that_is_cancelled_while_it_connects_leaves_nothing() -> None:
    asked = asyncio.Event()

    async def allow(handshake: Handshake) -> bool:
        asked.set()
        await asyncio.get_running_loop().create_future()
        return True

    async with no_new_tasks():
        client = TestClient(Server(allow_request=allow))
        connecting = asyncio.create_task(client.connect())
        await asked.wait()
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting


async def test_a_receive_that_is_cancelled_takes_nothing() -> None:
    async with linked_pair(Server()) as (client, socket):
        waiting = asyncio.create_task(client.receive("hello"))
        await settle()
        waiting.cancel()
        await settle()
        socket.emit("hello", 1)
        assert await client.receive("hello") == (1,)


# The lifespan


async def test_the_lifespan_of_the_app_runs_around_the_block() -> None:
    told: list[str] = []

    @asynccontextmanager
    async def resources(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        told.append("up")
        yield {"pool": "the pool"}
        told.append("down")

    api = FastAPI(lifespan=resources)
    io = Server(api)

    @api.get("/pool")
    async def pool(request: Request) -> str:
        return request.state.pool

    async with lifespan(io) as app:
        assert told == ["up"]
        assert io in Server.running()
        async with TestClient(app) as client, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://testserver") as http:
            assert (await client.get("/pool")).json() == "the pool"
            assert (await http.get("/pool")).json() == "the pool"
    assert told == ["up", "down"]
    assert io not in Server.running()


async def test_an_app_without_a_lifespan_runs_without_one() -> None:
    async def raises(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "websocket", "no lifespan here"
        await io(scope, receive, send)

    io = echo(Server())
    async with lifespan(raises) as app, TestClient(app) as client:
        assert await client.call("echo", 1) == 1
    await io.close()
    async with lifespan(echo(Server())) as app, TestClient(app) as client:
        assert await client.call("echo", 1) == 1


@pytest.mark.parametrize("when", ["startup", "shutdown"])
async def test_a_lifespan_that_fails_fails_the_test(when: str) -> None:
    @asynccontextmanager
    async def resources(app: Starlette) -> AsyncIterator[None]:
        if when == "startup":
            raise ZeroDivisionError("boom")
        yield
        raise ZeroDivisionError("boom")

    async with no_new_tasks():
        with pytest.raises(RuntimeError, match=f"the {when} of the app failed: (?s:.*)boom") as failed:
            async with lifespan(Server(Starlette(lifespan=resources))):
                assert when == "shutdown"
        assert isinstance(failed.value.__cause__, ZeroDivisionError)


# More than TestClient has options for


async def test_a_plain_client_with_all_its_options_goes_over_the_same_wire() -> None:
    network = InProcess(echo(Server()))
    async with Client("http://testserver", transports=[network], retries=2, ack_timeout=1, reconnection_delay=0.01) as client:
        assert await client.call("echo", 1) == 1
        network.cut()
        assert await client.call("echo", 2) == 2


def test_the_fixture_s_factory_takes_what_the_client_takes() -> None:
    client, factory = inspect.signature(TestClient), inspect.signature(ClientFactory.__call__)
    assert list(client.parameters.values()) == list(factory.parameters.values())[1:]


async def test_what_was_emitted_is_handled_before_the_block_ends() -> None:
    io = Server()
    seen: list[str] = []

    @io.on("last words")
    async def last_words(socket: Socket) -> None:
        seen.append("last words")

    @io.on("disconnect")
    async def disconnect(socket: Socket) -> None:
        seen.append("disconnect")

    async with TestClient(io) as client:
        client.emit("last words")
    assert seen == ["last words", "disconnect"]


async def test_a_server_that_was_closed_starts_anew() -> None:
    io = echo(Server())
    for _ in range(2):
        async with lifespan(io) as app, TestClient(app) as client:
            assert await client.call("echo", 1) == 1
        async with TestClient(io) as client:
            assert await client.call("echo", 1) == 1
        await io.close()


async def test_handlers_in_threads_end_before_the_block_of_the_last_client_does() -> None:
    io = Server()
    done: list[str] = []

    @io.on("work")
    def work(socket: Socket) -> None:
        time.sleep(0.01)
        done.append("work")

    @io.on("disconnect")
    def disconnect(socket: Socket) -> None:
        time.sleep(0.01)
        done.append("disconnect")

    async with TestClient(io) as client:
        client.emit("work")
    assert done == ["work", "disconnect"]
    assert len(io.tasks) == 0
