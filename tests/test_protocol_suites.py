"""The cases of the two public protocol test suites, one by one: 24 of Engine.IO, 32 of Socket.IO.

https://github.com/socketio/engine.io-protocol and https://github.com/socketio/socket.io-protocol hold the suites. The second repeats most
of the first under another path: those cases stand here once and run twice, against the server that echoes Engine.IO messages and against
the Socket.IO server. Both ping every 0.3 s and wait 0.2 s.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.interop import engine_echo, suite_app
from tests.support import serve

PING_INTERVAL = 0.3
PING_TIMEOUT = 0.2
WITHIN = 5.0


class Wire:
    """One WebSocket to the server, as its messages; it must be told to answer a ping."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, *messages: str | bytes) -> None:
        for message in messages:
            await self.connection.send(message)

    async def receive(self) -> str | bytes:
        async with asyncio.timeout(WITHIN):
            return await self.connection.recv()

    async def receive_text(self) -> str:
        message = await self.receive()
        assert isinstance(message, str)
        return message

    async def receive_other_than_ping(self) -> str | bytes:
        while (message := await self.receive()) == "2":
            await self.send("3")
        return message

    async def until_closed(self) -> None:
        """Answer nothing until the server closes."""
        async with asyncio.timeout(WITHIN):
            await self.connection.wait_closed()

    async def handshake(self) -> dict[str, Any]:
        """Read the open packet."""
        packet = await self.receive_text()
        assert packet[0] == "0"
        return json.loads(packet[1:])


class Engine:
    """An Engine.IO server at some path; `alive` says what proves that a connection still carries messages."""

    def __init__(self, url: str, path: str) -> None:
        self.url = url
        self.path = path
        self.http = httpx.AsyncClient(base_url=url, trust_env=False, timeout=WITHIN)

    async def request(self, method: str, query: str, body: str | None = None, **options: Any) -> httpx.Response:
        return await self.http.request(method, f"{self.path}?{query}", content=body, **options)

    async def open_session(self) -> str:
        """Open a session by polling; give its sid."""
        response = await self.request("GET", "EIO=4&transport=polling")
        return json.loads(response.text[1:])["sid"]

    async def poll(self, sid: str, **options: Any) -> httpx.Response:
        return await self.request("GET", f"EIO=4&transport=polling&sid={sid}", **options)

    async def push(self, sid: str, payload: str) -> httpx.Response:
        return await self.request("POST", f"EIO=4&transport=polling&sid={sid}", payload)

    async def begin_poll(self, sid: str) -> asyncio.Task[httpx.Response]:
        """Start a poll and return when its request has left."""
        left = asyncio.Event()

        async def trace(event: str, info: object) -> None:
            if event == "http11.receive_response_headers.started":
                left.set()

        task = asyncio.create_task(self.poll(sid, extensions={"trace": trace}))
        await left.wait()
        return task

    @asynccontextmanager
    async def websocket(self, query: str = "EIO=4&transport=websocket") -> AsyncIterator[Wire]:
        url = f"{self.url.replace('http', 'ws', 1)}{self.path}?{query}"
        async with open_websocket(url, ping_interval=None, proxy=None, close_timeout=WITHIN) as connection:
            yield Wire(connection)

    @asynccontextmanager
    async def upgrade(self, sid: str) -> AsyncIterator[Wire]:
        """Open the WebSocket that a session may move to."""
        async with self.websocket(f"EIO=4&transport=websocket&sid={sid}") as wire:
            yield wire

    async def is_alive(self, wire: Wire) -> bool:
        """Tell whether a message that is sent now is answered."""
        if self.path == "/engine.io/":
            await wire.send("4alive")
            return await wire.receive_other_than_ping() == "4alive"
        await wire.send("40/nowhere,")
        return await wire.receive_other_than_ping() == '44/nowhere,{"message":"Invalid namespace"}'


@pytest.fixture(params=["engine", "socket"])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    """Give each of the two servers."""
    async with serve(engine_echo.make() if request.param == "engine" else suite_app.make()) as url:
        server = Engine(url, f"/{request.param}.io/")
        async with server.http:
            yield server


@pytest.fixture
async def echo(engine_echo_url: str) -> AsyncIterator[Engine]:
    """Give the server that echoes Engine.IO messages."""
    server = Engine(engine_echo_url, "/engine.io/")
    async with server.http:
        yield server


@pytest.fixture
async def wire(suite_url: str) -> AsyncIterator[Wire]:
    """Give a WebSocket to the Socket.IO server, the open packet read."""
    server = Engine(suite_url, "/socket.io/")
    async with server.http, server.websocket() as wire:
        await wire.handshake()
        yield wire


@pytest.fixture
async def joined(wire: Wire) -> Wire:
    """Give a WebSocket that is connected to the main namespace."""
    await wire.send("40")
    assert (await wire.receive_text()).startswith("40{")
    assert await wire.receive() == '42["auth",{}]'
    return wire


def check_open_packet(fields: dict[str, Any], upgrades: list[str]) -> None:
    assert isinstance(fields.pop("sid"), str)
    assert fields == {"upgrades": upgrades, "pingInterval": 300, "pingTimeout": 200, "maxPayload": 1_000_000}


class TestHandshake:
    async def test_polling_opens_a_session(self, engine: Engine) -> None:
        response = await engine.request("GET", "EIO=4&transport=polling")
        assert response.status_code == 200
        assert response.text[0] == "0"
        check_open_packet(json.loads(response.text[1:]), ["websocket"])

    @pytest.mark.parametrize("query", ["transport=polling", "EIO=abc&transport=polling"])
    async def test_polling_fails_with_an_invalid_eio(self, engine: Engine, query: str) -> None:
        assert (await engine.request("GET", query)).status_code == 400

    @pytest.mark.parametrize("query", ["EIO=4", "EIO=4&transport=abc"])
    async def test_polling_fails_with_an_invalid_transport(self, engine: Engine, query: str) -> None:
        assert (await engine.request("GET", query)).status_code == 400

    @pytest.mark.parametrize("method", ["POST", "PUT"])
    async def test_polling_fails_with_an_invalid_method(self, engine: Engine, method: str) -> None:
        assert (await engine.request(method, "EIO=4&transport=polling")).status_code == 400

    async def test_websocket_opens_a_session(self, engine: Engine) -> None:
        async with engine.websocket() as wire:
            check_open_packet(await wire.handshake(), [])

    @pytest.mark.parametrize("query", ["transport=websocket", "EIO=abc&transport=websocket"])
    async def test_websocket_fails_with_an_invalid_eio(self, engine: Engine, query: str) -> None:
        await refused_websocket(engine, query)

    @pytest.mark.parametrize("query", ["EIO=4", "EIO=4&transport=abc"])
    async def test_websocket_fails_with_an_invalid_transport(self, engine: Engine, query: str) -> None:
        await refused_websocket(engine, query)


async def refused_websocket(engine: Engine, query: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with engine.websocket(query):
            pass
    assert refused.value.response.status_code == 400


class TestEngineMessages:
    """Only in the suite of Engine.IO."""

    @pytest.mark.parametrize(
        "payload",
        ["4hello", "4test1\x1e4test2\x1e4test3", "4hello\x1ebAQIDBA=="],
        ids=["one_text_packet", "several_text_packets", "text_and_binary"],
    )
    async def test_polling_echoes(self, echo: Engine, payload: str) -> None:
        sid = await echo.open_session()
        pushed = await echo.push(sid, payload)
        assert (pushed.status_code, pushed.text) == (200, "ok")
        polled = await echo.poll(sid)
        assert (polled.status_code, polled.text) == (200, payload)

    async def test_polling_closes_the_session_upon_an_invalid_packet(self, echo: Engine) -> None:
        sid = await echo.open_session()
        assert (await echo.push(sid, "abc")).status_code == 400
        assert (await echo.poll(sid)).status_code == 400

    async def test_polling_closes_the_session_upon_a_second_poll(self, echo: Engine) -> None:
        sid = await echo.open_session()
        first = await echo.begin_poll(sid)
        second = await echo.poll(sid)
        assert ((await first).status_code, (await first).text) == (200, "1")
        assert second.status_code == 400
        assert (await echo.poll(sid)).status_code == 400

    @pytest.mark.parametrize("message", ["4hello", b"\x01\x02\x03\x04"], ids=["text", "binary"])
    async def test_websocket_echoes(self, echo: Engine, message: str | bytes) -> None:
        async with echo.websocket() as wire:
            await wire.handshake()
            await wire.send(message)
            assert await wire.receive() == message

    async def test_websocket_closes_the_session_upon_an_invalid_packet(self, echo: Engine) -> None:
        async with echo.websocket() as wire:
            await wire.handshake()
            await wire.send("abc")
            with pytest.raises(ConnectionClosed):
                await wire.receive()


class TestHeartbeat:
    async def test_polling_pings(self, engine: Engine) -> None:
        sid = await engine.open_session()
        for _ in range(3):
            polled = await engine.poll(sid)
            assert (polled.status_code, polled.text) == (200, "2")
            assert (await engine.push(sid, "3")).status_code == 200

    async def test_polling_session_ends_without_pong(self, engine: Engine) -> None:
        sid = await engine.open_session()
        await asyncio.sleep(PING_INTERVAL + PING_TIMEOUT)
        # The suite asks at this very moment, to 2 ms; here a busy machine may be late, and tests/server measure on a clock of their own.
        async with asyncio.timeout(WITHIN):
            while (await engine.poll(sid)).status_code != 400:
                pass

    async def test_websocket_pings(self, engine: Engine) -> None:
        async with engine.websocket() as wire:
            await wire.handshake()
            for _ in range(3):
                assert await wire.receive() == "2"
                await wire.send("3")

    async def test_websocket_closes_without_pong(self, engine: Engine) -> None:
        async with engine.websocket() as wire:
            await wire.handshake()
            await wire.until_closed()


class TestClose:
    async def test_polling_closes_by_packet(self, engine: Engine) -> None:
        sid = await engine.open_session()
        pending = await engine.begin_poll(sid)
        await engine.push(sid, "1")
        polled = await pending
        assert (polled.status_code, polled.text) == (200, "6")
        assert (await engine.poll(sid)).status_code == 400

    async def test_websocket_closes_by_packet(self, engine: Engine) -> None:
        async with engine.websocket() as wire:
            await wire.handshake()
            await wire.send("1")
            await wire.until_closed()


class TestUpgrade:
    async def test_session_moves_to_websocket(self, engine: Engine) -> None:
        sid = await engine.open_session()
        async with engine.upgrade(sid) as wire:
            await wire.send("2probe")
            assert await wire.receive() == "3probe"
            polled = await engine.poll(sid)
            assert (polled.status_code, polled.text) == (200, "6")
            await wire.send("5")
            assert await engine.is_alive(wire)

    async def test_polls_after_the_upgrade_are_refused(self, engine: Engine) -> None:
        sid = await engine.open_session()
        async with engine.upgrade(sid) as wire:
            await wire.send("2probe", "5")
            assert await wire.receive() == "3probe"
            assert await engine.is_alive(wire)
            assert (await engine.poll(sid)).status_code == 400
            assert await engine.is_alive(wire)

    async def test_second_websocket_after_the_upgrade_is_closed(self, engine: Engine) -> None:
        sid = await engine.open_session()
        async with engine.upgrade(sid) as wire:
            await wire.send("2probe", "5")
            assert await wire.receive() == "3probe"
            async with engine.upgrade(sid) as second:
                with pytest.raises(ConnectionClosed):
                    await second.receive()
            assert await engine.is_alive(wire)


class TestConnect:
    @pytest.mark.parametrize(
        ("packet", "prefix", "auth"),
        [
            ("40", "40", "{}"),
            ('40{"token":"123"}', "40", '{"token":"123"}'),
            ("40/custom,", "40/custom,", "{}"),
            ('40/custom,{"token":"abc"}', "40/custom,", '{"token":"abc"}'),
        ],
        ids=["main", "main_with_auth", "custom", "custom_with_auth"],
    )
    async def test_namespace_accepts(self, wire: Wire, packet: str, prefix: str, auth: str) -> None:
        await wire.send(packet)
        accepted = await wire.receive_text()
        assert accepted.startswith(prefix)
        fields = json.loads(accepted.removeprefix(prefix))
        assert list(fields) == ["sid"]
        assert isinstance(fields["sid"], str)
        assert await wire.receive() == f'{prefix.replace("40", "42", 1)}["auth",{auth}]'

    async def test_unknown_namespace_refuses(self, wire: Wire) -> None:
        await wire.send("40/random")
        assert await wire.receive() == '44/random,{"message":"Invalid namespace"}'

    async def test_invalid_handshake_closes(self, wire: Wire) -> None:
        await wire.send("4abc")
        with pytest.raises(ConnectionClosed):
            await wire.receive()

    async def test_no_handshake_closes(self, wire: Wire) -> None:
        await wire.until_closed()


class TestDisconnect:
    async def test_connection_outlives_the_main_namespace(self, joined: Wire) -> None:
        await joined.send("41")
        assert await joined.receive() == "2"

    async def test_main_namespace_outlives_a_custom_one(self, joined: Wire) -> None:
        assert await joined.receive() == "2"
        await joined.send("3", "40/custom")
        assert (await joined.receive_text()).startswith("40/custom,{")
        assert await joined.receive() == '42/custom,["auth",{}]'
        await joined.send("41/custom", '42["message","message to main namespace"]')
        assert await joined.receive() == '42["message-back","message to main namespace"]'


ATTACHMENTS = (b"\x01\x02\x03", b"\x04\x05\x06")
PLACEHOLDERS = '{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}'


class TestSocketMessages:
    @pytest.mark.parametrize(
        ("sent", "answer"),
        [
            (('42["message",1,"2",{"3":[true]}]',), ('42["message-back",1,"2",{"3":[true]}]',)),
            ((f'452-["message",{PLACEHOLDERS}]', *ATTACHMENTS), (f'452-["message-back",{PLACEHOLDERS}]', *ATTACHMENTS)),
            (('42456["message-with-ack",1,"2",{"3":[false]}]',), ('43456[1,"2",{"3":[false]}]',)),
            ((f'452-789["message-with-ack",{PLACEHOLDERS}]', *ATTACHMENTS), (f"462-789[{PLACEHOLDERS}]", *ATTACHMENTS)),
        ],
        ids=["text", "binary", "ack", "binary_ack"],
    )
    async def test_message_is_answered(self, joined: Wire, sent: tuple[str | bytes, ...], answer: tuple[str | bytes, ...]) -> None:
        await joined.send(*sent)
        assert tuple([await joined.receive_other_than_ping() for _ in answer]) == answer

    @pytest.mark.parametrize(
        "packet",
        ["4abc", "42{}", '42abc["message-with-ack",1,"2",{"3":[false]}]'],
        ids=["unknown_type", "invalid_payload", "invalid_ack_id"],
    )
    async def test_invalid_packet_closes(self, joined: Wire, packet: str) -> None:
        await joined.send(packet)
        with pytest.raises(ConnectionClosed):
            await joined.receive()
