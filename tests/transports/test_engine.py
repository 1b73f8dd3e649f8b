"""`io.engine`: its hooks, its middleware, the ids of sessions, and what becomes of an error in any of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request as StarletteRequest
from starlette.responses import Response

from mizzen import ConnectRefused, Cookie, Handshake, Reason, Server, Socket
from mizzen.server.connection import Connection
from mizzen.server.engine import EngineServer, RefusedRequest, ResponseHeaders
from mizzen.types import ASGIApp, Message, Receive, Scope, Send
from tests.support import join, open_polling, serve, until
from tests.transports.exchange import Answer, Request, ask, engine_target, handshake, only_connection, open_peer
from tests.transports.paths import dial

BAD_REQUEST = (400, 3, "Bad request")
WEBSOCKET = engine_target(transport="websocket")


@pytest.fixture
async def io() -> AsyncIterator[Server]:
    async with Server(close_grace=0) as io:
        yield io


class Errors:
    """Remembers what `on_error` hooks are told."""

    def __init__(self, io: Server) -> None:
        self.seen: list[tuple[str, str]] = []
        io.on_error(self._hook)

    def _hook(self, error: Exception, socket: Socket | None, where: str) -> None:
        assert socket is None
        self.seen.append((where, str(error)))


# Counting


async def test_it_counts_the_connections_of_the_process(io: Server, path: str) -> None:
    assert isinstance(io.engine, EngineServer)
    assert io.engine.clients_count == 0
    async with open_peer(io, "polling", 4), open_peer(io, "websocket", 3, dial=dial) as peer:
        assert io.engine.clients_count == 2
        assert peer.sid in [connection.id for connection in io.engine.connections]
    await until(lambda: io.engine.clients_count == 0)


def test_before_it_starts_there_are_none() -> None:
    io = Server()
    assert (io.engine.clients_count, io.engine.connections) == (0, [])


# Ids


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_the_user_may_make_the_ids_of_sessions(io: Server, path: str, asynchronous: bool) -> None:
    def make(handshake: Handshake) -> str:
        return f"id-of-{handshake.query['who']}"

    async def make_later(handshake: Handshake) -> str:
        await asyncio.sleep(0)
        return make(handshake)

    assert io.engine.generate_id(make_later if asynchronous else make) in (make_later, make)
    assert (await handshake(io, "who=a"))["sid"] == "id-of-a"
    websocket = dial(io, WEBSOCKET + "&who=b")
    await websocket.accepted()
    opened = await websocket.receive()
    assert isinstance(opened, str)
    assert '"sid":"id-of-b"' in opened
    websocket.send("40")
    await websocket.receive()
    (socket,) = io.sockets.values()
    assert socket.id != "id-of-b"  # that of the session stays a secret between the client and the server
    assert socket.conn.id == "id-of-b"
    websocket.close()


def failing(handshake: Handshake) -> str:
    raise RuntimeError("no more ids")


async def failing_later(handshake: Handshake) -> str:
    raise RuntimeError("no more ids")


async def cancelled_later(handshake: Handshake) -> str:
    raise asyncio.CancelledError


BAD_IDS: list[Any] = [
    failing,
    failing_later,
    cancelled_later,
    *(lambda handshake, id=id: id for id in ("", None, 7, b"x", "a b", "a;b", 'a"b', "é", "a\n", "x" * 257)),
]


@pytest.mark.parametrize("make", BAD_IDS)
async def test_a_failure_to_make_an_id_refuses_the_session(io: Server, path: str, make: Any, caplog: pytest.LogCaptureFixture) -> None:
    errors = Errors(io)
    refused: list[RefusedRequest] = []
    io.engine.on_connection_error(refused.append)
    io.engine.generate_id(make)
    assert (await ask(io, "GET", engine_target())).error == BAD_REQUEST
    denied = await dial(io, WEBSOCKET).refusal()
    assert (denied.status, denied.body) == (400, b"Bad request")
    assert not io.sessions.connections
    assert [each.context["name"] for each in refused] == ["ID_GENERATION_ERROR"] * 2
    assert isinstance(refused[0].context["error"], (RuntimeError, ValueError))
    assert [where for where, _ in errors.seen] == ["generate_id"] * 2
    assert "generate_id" in caplog.text


async def test_an_id_that_is_in_use_refuses_the_second_session_and_spares_the_first(io: Server, path: str) -> None:
    io.engine.generate_id(lambda handshake: "same")
    await handshake(io)
    first = only_connection(io)
    assert (await ask(io, "GET", engine_target())).error == BAD_REQUEST
    assert (await dial(io, WEBSOCKET).refusal()).status == 400
    assert only_connection(io) is first
    first.lost(Reason.TRANSPORT_CLOSE)
    assert (await handshake(io))["sid"] == "same"


async def test_two_websockets_that_get_one_id_at_the_same_time_share_nothing(io: Server, path: str) -> None:
    io.engine.generate_id(lambda handshake: "same")
    websockets = [dial(io, WEBSOCKET) for _ in range(2)]
    for websocket in websockets:
        await websocket.accepted() if path == "asgi" else None
    await until(lambda: len(io.sessions.connections) == 1)
    for websocket in websockets:
        websocket.close()
    await until(lambda: not io.sessions.connections)


async def test_a_server_that_closes_while_an_id_is_made_makes_no_session() -> None:
    making, go_on = asyncio.Event(), asyncio.Event()
    io = Server(close_grace=0)
    io.start()

    @io.engine.generate_id
    async def make(handshake: Handshake) -> str:
        making.set()
        await go_on.wait()
        return "late"

    request = Request(io, "GET", engine_target())
    await making.wait()
    closing = asyncio.create_task(io.close())
    await until(lambda: not io.sessions.accepting)
    go_on.set()
    assert (await request.answer()).status == 503
    await closing


# Headers


def names(headers: ResponseHeaders) -> list[str]:
    return sorted(headers)


async def test_hooks_see_and_change_the_headers_of_every_answer_of_a_session(path: str) -> None:
    seen: list[tuple[str, str, str | None]] = []
    async with Server(close_grace=0, cookie=Cookie()) as io:

        @io.engine.on_initial_headers
        def first(headers: ResponseHeaders, handshake: Handshake) -> None:
            seen.append(("first", handshake.scope["type"], handshake.query.get("sid")))
            headers["x-first"] = "yes"
            headers.append("set-cookie", "server=a1")

        @io.engine.on_headers
        async def each(headers: ResponseHeaders, handshake: Handshake) -> None:
            await asyncio.sleep(0)
            seen.append(("each", handshake.scope["type"], handshake.query.get("sid")))
            headers["X-Each"] = handshake.scope.get("method", "websocket")

        opened = await ask(io, "GET", engine_target())
        sid = only_connection(io).sid
        assert opened.header("x-first") == "yes"
        assert opened.header("x-each") == "GET"
        cookies = [value for name, value in opened.headers if name == "set-cookie"]
        assert cookies == [f"io={sid}; Path=/; HttpOnly; SameSite=Lax", "server=a1"]
        posted = await ask(io, "POST", engine_target(sid=sid), b"40")
        assert (posted.header("x-first"), posted.header("x-each")) == (None, "POST")
        polled = await ask(io, "GET", engine_target(sid=sid))
        assert (polled.header("x-first"), polled.header("x-each")) == (None, "GET")
        upgrade = dial(io, engine_target(transport="websocket", sid=sid))
        accepted = dict((await upgrade.accepted())["headers"])
        assert accepted[b"x-each"] == b"websocket"
        assert b"x-first" not in accepted
        upgrade.close()
        websocket = dial(io, WEBSOCKET)
        accepted = dict((await websocket.accepted())["headers"])
        assert accepted[b"x-first"] == b"yes"
        assert accepted[b"set-cookie"] == b"server=a1"
        websocket.close()
        assert seen == [
            *(("first", "http", None), ("each", "http", None), ("each", "http", sid), ("each", "http", sid)),
            *(("each", "websocket", sid), ("first", "websocket", None), ("each", "websocket", None)),
        ]


async def test_errors_preflights_and_files_are_not_told(io: Server) -> None:
    seen: list[Handshake] = []
    io.engine.on_headers(lambda headers, handshake: seen.append(handshake))
    for method, target in (("GET", engine_target(eio=9)), ("OPTIONS", engine_target()), ("GET", "/socket.io/mizzen.js")):
        await ask(io, method, target)
    assert seen == []


async def test_a_headers_hook_that_fails_breaks_nothing(io: Server, path: str, caplog: pytest.LogCaptureFixture) -> None:
    errors = Errors(io)

    @io.engine.on_initial_headers
    def initial(headers: ResponseHeaders, handshake: Handshake) -> None:
        raise RuntimeError("first")

    @io.engine.on_headers
    async def each(headers: ResponseHeaders, handshake: Handshake) -> None:
        headers["x-bad"] = "split\r\nin two: yes"

    @io.engine.on_headers
    async def cancelled(headers: ResponseHeaders, handshake: Handshake) -> None:
        raise asyncio.CancelledError

    @io.engine.on_headers
    def last(headers: ResponseHeaders, handshake: Handshake) -> None:
        headers["x-last"] = "still"

    answer = await ask(io, "GET", engine_target())
    assert answer.status == 200
    assert answer.header("x-last") == "still"
    assert answer.header("x-bad") is None
    websocket = dial(io, WEBSOCKET)
    assert (b"x-last", b"still") in (await websocket.accepted())["headers"]
    websocket.close()
    assert [where for where, _ in errors.seen] == ["on_initial_headers", "on_headers", "on_headers"] * 2
    assert "may not stand in the value of header 'x-bad'" in errors.seen[1][1]
    assert "RuntimeError: first" in caplog.text


async def test_hooks_cannot_break_the_length(io: Server) -> None:
    @io.engine.on_headers
    def each(headers: ResponseHeaders, handshake: Handshake) -> None:
        del headers["Content-Type"]
        headers["content-type"] = "text/plain"

    answer = await ask(io, "GET", engine_target())
    assert answer.header("content-type") == "text/plain"
    assert answer.header("content-length") == str(len(answer.body))


def test_headers_are_a_mapping_without_case() -> None:
    headers = ResponseHeaders([(b"vary", b"Origin"), (b"set-cookie", b"a=1")])
    headers.append("Set-Cookie", "b=2")
    headers["VARY"] = "Accept"
    assert names(headers) == ["set-cookie", "vary"]
    assert len(headers) == 2
    assert headers["Vary"] == "Accept"
    assert headers.get_all("set-cookie") == ["a=1", "b=2"]
    assert headers["set-cookie"] == "a=1, b=2"
    assert headers.get("nothing") is None
    assert "Set-Cookie" in headers
    del headers["SET-COOKIE"]
    assert dict(headers) == {"vary": "Accept"}
    with pytest.raises(KeyError):
        del headers["set-cookie"]
    for name, value in (("a b", "x"), ("", "x"), ("é", "x"), ("x", "a\nb"), ("x", "\x00"), ("x", "日")):
        with pytest.raises(ValueError, match="may"):
            headers[name] = value
    assert "vary" in repr(headers)


# Refusals


async def test_every_refused_request_is_told_with_its_context(path: str) -> None:
    refused: list[RefusedRequest] = []
    async with Server(close_grace=0, allow_eio3=True, allow_request=lambda handshake: "no" not in handshake.query) as io:
        io.engine.on_connection_error(refused.append)
        sid = (await handshake(io))["sid"]
        async with open_peer(io, "websocket", 4, dial=dial) as peer:
            cases: list[tuple[str, str, int, dict[str, object]]] = [
                ("GET", "/socket.io/?EIO=4&transport=tube", 0, {"transport": "tube"}),
                ("GET", "/socket.io/?EIO=4", 0, {"transport": None}),
                ("GET", engine_target(sid="gone"), 1, {"sid": "gone"}),
                ("POST", engine_target(), 2, {"method": "POST"}),
                ("GET", WEBSOCKET, 3, {"name": "TRANSPORT_HANDSHAKE_ERROR"}),
                (
                    "GET",
                    engine_target(sid=peer.sid),
                    3,
                    {"name": "TRANSPORT_MISMATCH", "transport": "polling", "previous_transport": "websocket"},
                ),
                ("GET", engine_target(sid=sid, eio=3), 3, {"name": "PROTOCOL_MISMATCH", "protocol": 3, "previous_protocol": 4}),
                ("PUT", engine_target(sid=sid), 3, {"name": "BAD_METHOD", "method": "PUT"}),
                ("GET", engine_target("j=x"), 4, {"name": "FORBIDDEN_ORIGIN", "origin": "(none; a script tag without a Referer)"}),
                ("GET", engine_target("no=1"), 4, {"message": "Forbidden"}),
                ("GET", engine_target(eio=9), 5, {"protocol": "9"}),
            ]
            for method, target, code, context in cases:
                answer = await ask(io, method, target)
                last = refused.pop()
                assert not refused
                assert (last.code, last.context) == (code, context)
                assert answer.error[1:] == (last.code, last.message)
                assert last.handshake.url == target
            mismatch = dial(io, engine_target(transport="websocket", sid=sid, eio=3))
            assert (await mismatch.refusal()).status == 400
            assert refused.pop().context == {"name": "PROTOCOL_MISMATCH", "protocol": 3, "previous_protocol": 4}
            foreign = dial(io, WEBSOCKET, {"origin": "https://foreign.example"})
            assert (await foreign.refusal()).body == b"Forbidden"
            assert refused.pop().context == {"name": "FORBIDDEN_ORIGIN", "origin": "https://foreign.example"}
            assert not refused
        assert io.sessions.get(sid) is not None


async def test_what_allow_request_says_is_told() -> None:
    def refuse(handshake: Handshake) -> bool:
        raise ConnectRefused("not you")

    refused: list[RefusedRequest] = []
    async with Server(allow_request=refuse) as io:

        @io.engine.on_connection_error
        async def hear(error: RefusedRequest) -> None:
            await asyncio.sleep(0)
            refused.append(error)

        assert (await ask(io, "GET", engine_target())).error == (403, 4, "not you")
    assert [(each.code, each.message, each.context) for each in refused] == [(4, "not you", {"message": "not you"})]


async def test_requests_that_overlap_or_cannot_be_read_are_told(io: Server) -> None:
    refused: list[RefusedRequest] = []
    io.engine.on_connection_error(refused.append)
    target = engine_target(sid=(await handshake(io))["sid"])
    first = Request(io, "GET", target)
    await until(lambda: only_connection(io).transport.writable)
    assert (await ask(io, "GET", target)).error == BAD_REQUEST
    await first.answer()
    target = engine_target(sid=(await handshake(io))["sid"])
    assert (await ask(io, "POST", target, b"?")).error == BAD_REQUEST
    assert [each.context for each in refused] == [{"name": "OVERLAPPING_POLLS"}, {"name": "INVALID_PAYLOAD"}]


async def test_a_refusal_hook_that_fails_breaks_nothing(io: Server, path: str) -> None:
    errors = Errors(io)

    @io.engine.on_connection_error
    def hear(error: RefusedRequest) -> None:
        raise RuntimeError("hear")

    assert (await ask(io, "GET", engine_target(eio=9))).status == 400
    assert (await dial(io, engine_target(transport="websocket", eio=9)).refusal()).status == 400
    assert errors.seen == [("on_connection_error", "hear")] * 2


# Connections


async def test_each_connection_is_told_before_anything_comes_over_it(io: Server, path: str) -> None:
    seen: list[tuple[str, int, str, str]] = []
    errors = Errors(io)

    @io.engine.on_connection
    def fails(connection: Connection) -> None:
        raise RuntimeError("opened")

    @io.engine.on_connection
    def opened(connection: Connection) -> None:
        seen.append((connection.id, connection.protocol, connection.transport.name, connection.ready_state))

    @io.on("connect")
    async def connect(socket: Socket) -> None:
        assert seen[-1][0] == socket.conn.id

    async with open_peer(io, "polling", 4) as first, open_peer(io, "websocket", 3, dial=dial) as second:
        assert seen == [(first.sid, 4, "polling", "open"), (second.sid, 3, "websocket", "open")]
    assert errors.seen == [("on_connection", "opened")] * 2


async def test_hooks_outlive_a_restart() -> None:
    seen: list[str] = []
    io = Server(close_grace=0)
    io.engine.on_connection(lambda connection: seen.append(connection.id))
    for _ in range(2):
        async with io:
            assert (await handshake(io))["sid"] == seen[-1]
    assert len(seen) == 2


# Middleware


class Tag:
    """Adds a header to every answer, and what it was given to the scope."""

    def __init__(self, app: ASGIApp, name: str, log: list[str]) -> None:
        self.app = app
        self.name = name
        self.log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.log.append(f"{self.name} {scope['type']}")
        scope["tags"] = [*scope.get("tags", ()), self.name]

        async def tagged(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                message = {**message, "headers": [*message["headers"], (b"x-tag", self.name.encode())]}
            await send(message)

        await self.app(scope, receive, tagged)


async def test_middleware_stands_around_the_requests_of_the_engine_only(path: str) -> None:
    log: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"the app's"})

    async with Server(app, close_grace=0) as io:
        io.engine.use(Tag, "outer", log)
        assert (await ask(io, "GET", "/elsewhere")).body == b"the app's"
        assert log == []
        assert [value for name, value in (await ask(io, "GET", engine_target())).headers if name == "x-tag"] == ["outer"]
        io.engine.use(Tag, name="inner", log=log)  # at any time
        log.clear()
        websocket = dial(io, WEBSOCKET)
        headers = (await websocket.accepted())["headers"]
        assert [value for name, value in headers if name == b"x-tag"] == [b"inner", b"outer"]
        await websocket.receive()
        websocket.send("40")
        await websocket.receive()
        (socket,) = io.sockets.values()
        assert socket.handshake.scope["tags"] == ["outer", "inner"]
        assert log == ["outer websocket", "inner websocket"]
        websocket.close()


async def test_middleware_of_starlette_gives_the_handshake_its_session(path: str) -> None:
    sessions: list[object] = []
    async with Server(close_grace=0) as io:
        io.engine.use(SessionMiddleware, secret_key="of the test", session_cookie="s")

        @io.engine.on_headers
        def visit(headers: ResponseHeaders, handshake: Handshake) -> None:
            handshake.scope["session"]["visits"] = handshake.scope["session"].get("visits", 0) + 1

        @io.on("connect")
        async def connect(socket: Socket) -> None:
            sessions.append(socket.handshake.scope["session"])

        answer = await ask(io, "GET", engine_target())
        cookie = (answer.header("set-cookie") or "").partition(";")[0]
        assert cookie.startswith("s=")
        websocket = dial(io, WEBSOCKET, {"cookie": cookie})
        await websocket.accepted()
        await websocket.receive()
        websocket.send("40")
        await websocket.receive()
        assert sessions == [{"visits": 2}]
        websocket.close()


async def test_middleware_lives_as_long_as_the_server_and_is_made_at_once() -> None:
    made: list[ASGIApp] = []

    def counting(app: ASGIApp) -> ASGIApp:
        made.append(app)
        return app

    io = Server(close_grace=0)
    io.engine.use(counting)
    assert len(made) == 1
    with pytest.raises(TypeError, match="surplus"):
        io.engine.use(counting, surplus=1)
    for _ in range(2):
        async with io:
            await handshake(io)
            io.engine.use(counting)
            await handshake(io)
    assert len(made) == 3


async def test_middleware_that_only_knows_requests_and_responses_lets_polls_wait(path: str) -> None:
    async def served_by(request: StarletteRequest, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["x-served-by"] = "a1"
        return response

    io = Server(close_grace=0)
    io.engine.use(BaseHTTPMiddleware, dispatch=served_by)
    async with serve(io, native=path == "native") as url:
        async with open_polling(url) as polling:
            assert (await polling.post("40")).headers["x-served-by"] == "a1"
            assert (await polling.get()).text.startswith("40{")
            waiting = asyncio.create_task(polling.get())
            await until(lambda: only_connection(io).transport.writable)
            io.emit("m", "a" * 5000)
            answer = await waiting
            assert answer.headers["content-encoding"] == "gzip"
            assert answer.text == f'42["m","{"a" * 5000}"]'
        async with join(url) as (wire, _):
            io.emit("n")
            assert await wire.receive() == '42["n"]'


async def test_middleware_may_answer_by_itself(io: Server, path: str) -> None:
    def guard(app: ASGIApp) -> ASGIApp:
        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"content-length", b"2")]})
                await send({"type": "websocket.http.response.body", "body": b"no"})
            else:
                await send({"type": "http.response.start", "status": 401, "headers": []})
                await send({"type": "http.response.body", "body": b"no"})

        return guarded

    io.engine.use(guard)
    refused: list[RefusedRequest] = []
    io.engine.on_connection_error(refused.append)
    answers: list[Answer] = [await ask(io, "GET", engine_target()), await dial(io, WEBSOCKET).refusal()]
    assert [(answer.status, answer.body) for answer in answers] == [(401, b"no")] * 2
    assert not io.sessions.connections
    assert refused == []


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (RuntimeError, "broken middleware"),
        (asyncio.CancelledError, "the middleware awaited something that was cancelled"),
    ],
    ids=["error", "cancelled"],
)
async def test_middleware_that_fails_refuses_the_request(
    io: Server, path: str, caplog: pytest.LogCaptureFixture, failure: type[BaseException], told: str
) -> None:
    def broken(app: ASGIApp) -> ASGIApp:
        async def fail(scope: Scope, receive: Receive, send: Send) -> None:
            raise failure("broken middleware")

        return fail

    errors = Errors(io)
    refused: list[RefusedRequest] = []
    io.engine.on_connection_error(refused.append)
    io.engine.use(broken)
    assert (await ask(io, "GET", engine_target())).error == BAD_REQUEST
    denied = await dial(io, WEBSOCKET).refusal()
    assert (denied.status, denied.body) == (400, b"Bad request")
    assert [each.context["name"] for each in refused] == ["MIDDLEWARE_FAILURE"] * 2
    assert errors.seen == [("middleware", told)] * 2
    assert f"RuntimeError: {told}" in caplog.text


async def test_middleware_that_fails_after_the_answer_is_the_servers_business(io: Server, caplog: pytest.LogCaptureFixture) -> None:
    def late(app: ASGIApp) -> ASGIApp:
        async def fail(scope: Scope, receive: Receive, send: Send) -> None:
            await app(scope, receive, send)
            raise RuntimeError("too late")

        return fail

    io.engine.use(late)
    caplog.set_level(logging.ERROR)
    request = Request(io, "GET", engine_target())
    with pytest.raises(RuntimeError, match="too late"):
        await request.answer()
    assert len(io.sessions.connections) == 1
