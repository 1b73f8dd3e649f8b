"""Which requests are let in, and how the others are refused: status, code, message, and the order of the checks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mizzen import Server, Socket
from mizzen.types import Receive, Scope, Send
from tests.support import until
from tests.transports.exchange import Request, WebSocket, ask, engine_target, handshake, make_scope, nothing_is_left, only_connection

UNKNOWN_TRANSPORT = (400, 0, "Transport unknown")
UNKNOWN_SESSION = (400, 1, "Session ID unknown")
BAD_METHOD = (400, 2, "Bad handshake method")
BAD_REQUEST = (400, 3, "Bad request")
BAD_VERSION = (400, 5, "Unsupported protocol version")
CLOSING = (503, 3, "Server is shutting down")


@pytest.fixture
async def io() -> AsyncIterator[Server]:
    async with Server() as io:
        yield io


@pytest.mark.parametrize(
    ("method", "query", "expected"),
    [
        ("GET", "EIO=4", UNKNOWN_TRANSPORT),
        ("GET", "EIO=4&transport=", UNKNOWN_TRANSPORT),
        ("GET", "EIO=4&transport=tube", UNKNOWN_TRANSPORT),
        ("GET", "EIO=4&transport=Polling", UNKNOWN_TRANSPORT),
        ("GET", "EIO=4&transport=webtransport", UNKNOWN_TRANSPORT),
        ("GET", "EIO=4&transport=__proto__", UNKNOWN_TRANSPORT),
        ("GET", "", UNKNOWN_TRANSPORT),
        ("GET", "EIO=4&transport=polling&sid=abc", UNKNOWN_SESSION),
        ("GET", "EIO=4&transport=polling&sid=__proto__", UNKNOWN_SESSION),
        ("POST", "EIO=4&transport=polling&sid=abc", UNKNOWN_SESSION),
        ("POST", "EIO=4&transport=polling", BAD_METHOD),
        ("PUT", "EIO=4&transport=polling", BAD_METHOD),
        ("DELETE", "EIO=4&transport=polling", BAD_METHOD),
        ("HEAD", "EIO=4&transport=polling", BAD_METHOD),
        ("GET", "EIO=4&transport=websocket", BAD_REQUEST),
        ("GET", "transport=polling", BAD_VERSION),
        ("GET", "EIO=&transport=polling", BAD_VERSION),
        ("GET", "EIO=2&transport=polling", BAD_VERSION),
        ("GET", "EIO=5&transport=polling", BAD_VERSION),
        ("GET", "EIO=04&transport=polling", BAD_VERSION),
        ("GET", "EIO=4.0&transport=polling", BAD_VERSION),
        ("GET", "EIO=+4&transport=polling", BAD_VERSION),
        ("GET", "EIO=%EF%BC%94&transport=polling", BAD_VERSION),
        ("GET", "EIO=abc&transport=polling", BAD_VERSION),
    ],
)
async def test_a_refused_request_is_answered_with_status_code_and_message(
    io: Server, method: str, query: str, expected: tuple[int, int, str]
) -> None:
    answer = await ask(io, method, f"/socket.io/?{query}")
    assert answer.error == expected
    assert nothing_is_left(io)


@pytest.mark.parametrize(
    ("method", "query", "expected"),
    [
        ("POST", "EIO=9&transport=tube&sid=abc", UNKNOWN_TRANSPORT),
        ("PUT", "EIO=9&transport=polling&sid=abc", UNKNOWN_SESSION),
        ("POST", "EIO=9&transport=polling", BAD_METHOD),
        ("GET", "EIO=9&transport=websocket", BAD_REQUEST),
        ("POST", "EIO=4&transport=websocket", BAD_METHOD),
        ("GET", "EIO=4&transport=websocket&sid=abc", UNKNOWN_SESSION),
    ],
)
async def test_of_several_faults_the_first_in_the_order_of_engine_io_is_told(
    io: Server, method: str, query: str, expected: tuple[int, int, str]
) -> None:
    # transport, then sid; without a sid: method, then whether it is a WebSocket, then the protocol
    assert (await ask(io, method, f"/socket.io/?{query}")).error == expected


@pytest.mark.parametrize("eio", [3, 4])
@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD"])
async def test_a_session_takes_get_and_post_only_and_survives_the_rest(io: Server, method: str, eio: int) -> None:
    fields = await handshake(io, eio=eio)
    target = engine_target(eio=eio, sid=fields["sid"])
    assert (await ask(io, method, target)).error == BAD_REQUEST
    assert (await ask(io, "POST", target, b"6" if eio == 4 else b"1:6")).status == 200


@pytest.mark.parametrize(
    ("eio", "query", "expected"),
    [
        (4, "EIO=3", BAD_REQUEST),
        (3, "EIO=4", BAD_REQUEST),
        (4, "EIO=5", BAD_VERSION),
        (3, "", BAD_VERSION),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_protocol_is_that_of_the_session(io: Server, eio: int, query: str, expected: tuple[int, int, str], method: str) -> None:
    sid = (await handshake(io, eio=eio))["sid"]
    target = f"/socket.io/?{query}&transport=polling&sid={sid}"
    assert (await ask(io, method, target)).error == expected
    websocket = WebSocket(io, target.replace("polling", "websocket"))
    assert (await websocket.refusal()).body.decode() == expected[2]
    assert not only_connection(io).gone


async def test_a_session_on_websocket_takes_no_polls(io: Server) -> None:
    websocket = WebSocket(io, engine_target(transport="websocket"))
    await websocket.accepted()
    opened = await websocket.receive()
    assert isinstance(opened, str)
    target = engine_target(sid=json.loads(opened[1:])["sid"])
    assert (await ask(io, "GET", target)).error == BAD_REQUEST
    assert (await ask(io, "POST", target, b"4")).error == BAD_REQUEST
    assert (await ask(io, "GET", target.replace("polling", "websocket"))).error == BAD_REQUEST
    assert not only_connection(io).gone
    websocket.close()
    await websocket.ended()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("EIO=4&transport=tube", "Transport unknown"),
        ("EIO=4&transport=polling", "Transport unknown"),
        ("EIO=4", "Transport unknown"),
        ("EIO=4&transport=websocket&sid=abc", "Session ID unknown"),
        ("EIO=2&transport=websocket", "Unsupported protocol version"),
        ("transport=websocket", "Unsupported protocol version"),
    ],
)
async def test_a_websocket_is_refused_with_400_and_the_message_before_the_upgrade(io: Server, query: str, message: str) -> None:
    answer = await WebSocket(io, f"/socket.io/?{query}").refusal()
    assert (answer.status, answer.body.decode(), answer.header("content-type")) == (400, message, "text/html")
    assert answer.header("content-length") == str(len(message))
    assert nothing_is_left(io)


async def test_where_a_server_cannot_answer_a_websocket_request_it_is_closed_unaccepted(io: Server) -> None:
    websocket = WebSocket(io, engine_target(transport="websocket", sid="abc"), extensions=())
    assert (await websocket.next())["type"] == "websocket.close"
    await websocket.ended()


@pytest.mark.parametrize("eio", [3, 4])
async def test_the_open_packet_has_exactly_five_fields_with_times_in_milliseconds(eio: int) -> None:
    async with Server(ping_interval=0.9, ping_timeout=0.25, max_payload=1234) as io:
        answer = await ask(io, "GET", engine_target(eio=eio))
        fields = json.JSONDecoder().raw_decode(answer.body[answer.body.index(b"{") :].decode())[0]
        assert fields == {
            "sid": only_connection(io).sid,
            "upgrades": ["websocket"],
            "pingInterval": 900,
            "pingTimeout": 250,
            "maxPayload": 1234,
        }
        assert len(fields["sid"]) == 20


@pytest.mark.parametrize(
    ("add_trailing_slash", "path", "status"),
    [
        (True, "/socket.io/", 200),
        (True, "/socket.io/x", 200),
        (True, "/socket.io", 404),
        (False, "/socket.io/", 200),
        (False, "/socket.io", 200),
        (False, "/socket.iox", 404),
    ],
)
async def test_the_path_without_its_last_slash_is_the_servers_if_it_is_told_so(add_trailing_slash: bool, path: str, status: int) -> None:
    async with Server(close_grace=0, add_trailing_slash=add_trailing_slash) as io:
        assert (await ask(io, "GET", f"{path}?EIO=4&transport=polling")).status == status
        websocket = WebSocket(io, f"{path}?EIO=4&transport=websocket")
        assert (await websocket.next())["type"] == ("websocket.accept" if status == 200 else "websocket.close")
        websocket.close()


@pytest.mark.parametrize("path", ["/", "/socket.iox/", "/socket", "/a/socket.io/", "/SOCKET.IO/"])
async def test_other_paths_go_to_the_app_untouched(path: str) -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await send({"type": "http.response.start", "status": 299, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async with Server(app) as io:
        assert (await ask(io, "GET", path, headers={"origin": "http://foreign.example"})).status == 299
        assert seen[0]["path"] == path
        scope = make_scope("http", path, None, method="GET")
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await io(scope, asyncio.Queue[Any]().get, send)
        assert seen[1] is scope


async def test_the_option_path_moves_the_endpoint() -> None:
    async with Server(path="/realtime/") as io:
        assert (await ask(io, "GET", "/realtime/?EIO=4&transport=polling")).status == 200
        assert (await ask(io, "GET", "/socket.io/?EIO=4&transport=polling")).status == 404


@pytest.mark.parametrize(("eio", "status"), [(3, 400), (4, 200)])
async def test_without_allow_eio3_only_protocol_4_is_spoken(eio: int, status: int) -> None:
    async with Server(allow_eio3=False) as io:
        answer = await ask(io, "GET", engine_target(eio=eio))
        assert answer.status == status
        if status == 400:
            assert answer.error == BAD_VERSION
            assert (await WebSocket(io, engine_target(transport="websocket", eio=3)).refusal()).body == b"Unsupported protocol version"


async def test_a_transport_that_is_not_offered_is_unknown() -> None:
    async with Server(transports=["polling"]) as io:
        fields = await handshake(io)
        assert fields["upgrades"] == []
        for sid in (None, fields["sid"]):
            answer = await WebSocket(io, engine_target(transport="websocket", sid=sid)).refusal()
            assert answer.body == b"Transport unknown"
        assert (await ask(io, "GET", engine_target(transport="websocket"))).error == UNKNOWN_TRANSPORT
    async with Server(transports=["websocket"]) as io:
        assert (await ask(io, "GET", engine_target())).error == UNKNOWN_TRANSPORT
        assert (await ask(io, "POST", engine_target(sid="abc"), b"4")).error == UNKNOWN_TRANSPORT
        websocket = WebSocket(io, engine_target(transport="websocket"))
        await websocket.accepted()
        websocket.close()
        await websocket.ended()


async def test_without_allow_upgrades_none_is_offered_and_a_probe_is_let_in_and_closed() -> None:
    async with Server(allow_upgrades=False) as io:
        fields = await handshake(io)
        assert fields["upgrades"] == []
        websocket = WebSocket(io, engine_target(transport="websocket", sid=fields["sid"]))
        await websocket.accepted()
        assert await websocket.until_closed() == 1000
        assert not only_connection(io).gone
        assert not only_connection(io).probing


async def test_a_handshake_on_websocket_offers_no_upgrade(io: Server) -> None:
    websocket = WebSocket(io, engine_target(transport="websocket"))
    await websocket.accepted()
    opened = await websocket.receive()
    assert isinstance(opened, str)
    assert json.loads(opened[1:])["upgrades"] == []
    websocket.close()
    await websocket.ended()


async def test_while_it_closes_no_session_is_made_but_those_that_are_may_finish() -> None:
    io = Server()
    go_on = asyncio.Event()

    async def slow(socket: Socket) -> str:
        await go_on.wait()
        return "done"

    io.on("slow", slow)
    io.start()
    target = engine_target(sid=(await handshake(io))["sid"])
    assert (await ask(io, "POST", target, b"40")).status == 200
    await ask(io, "GET", target)
    assert (await ask(io, "POST", target, b'420["slow"]')).status == 200
    closing = asyncio.create_task(io.close())
    await until(lambda: not io.sessions.accepting)
    assert (await ask(io, "GET", engine_target())).error == CLOSING
    answer = await WebSocket(io, engine_target(transport="websocket")).refusal()
    assert (answer.status, answer.body) == (503, b"Server is shutting down")
    poll = Request(io, "GET", target)
    assert (await ask(io, "POST", target, b"6")).status == 200
    go_on.set()
    assert (await poll.answer()).body.startswith(b'430["done"]')
    await closing
    assert nothing_is_left(io)


async def test_a_client_that_goes_before_the_websocket_is_accepted_leaves_nothing(io: Server) -> None:
    websocket = WebSocket(io, engine_target(transport="websocket"))
    websocket.close(1006)
    await asyncio.wait({websocket.task})
    await until(lambda: nothing_is_left(io))
