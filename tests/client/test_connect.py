"""Connecting and disconnecting: what raises, what is told, and what is left."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest

from mizzen import (
    AckTimeout,
    Client,
    ConnectFailed,
    ConnectionClosed,
    ConnectRefused,
    LocalProtocolError,
    OptionsError,
    Reason,
    Server,
    Socket,
)
from tests.client.proxy import proxied
from tests.support import WITHIN, serve, until

NOBODY = "http://127.0.0.1:1"


@pytest.fixture
def io() -> Server:
    io = Server()

    @io.on("echo")
    async def echo(socket: Socket, *args: Any) -> tuple[Any, ...]:
        return args

    @io.on("kick")
    async def kick(socket: Socket) -> None:
        socket.disconnect()

    return io


async def test_a_server_that_is_not_there_raises_with_what_each_transport_met():
    client = Client(NOBODY)
    errors: list[Exception] = []
    client.on("connect_error", errors.append)
    with pytest.raises(ConnectFailed, match=r"websocket: .* failed.*; polling: GET .* failed") as failed:
        await client.connect()
    assert isinstance(failed.value.__cause__, ExceptionGroup)
    assert len(failed.value.__cause__.exceptions) == 2
    await until(lambda: errors == [failed.value])
    assert (client.active, client.reason) == (False, Reason.TRANSPORT_ERROR)


async def test_one_transport_only_is_tried_when_told():
    with pytest.raises(ConnectFailed, match=r"^websocket: ") as failed:
        await Client(NOBODY, try_all_transports=False).connect()
    assert not isinstance(failed.value.__cause__, ExceptionGroup)


async def test_async_with_does_not_run_its_body_when_it_cannot_connect():
    ran = False
    with pytest.raises(ConnectFailed):
        async with Client(NOBODY):
            ran = True
    assert not ran


async def test_it_falls_back_to_polling(io: Server):
    io = Server(transports=["polling"])
    async with serve(io) as url, Client(url) as client:
        assert client.transport == "polling"


async def test_waiting_for_a_server_that_comes_later(io: Server):
    async with serve(io) as url, proxied(url) as proxy:
        proxy.refusing = True
        client = Client(proxy.url, wait_for_server=True, reconnection_delay=0.01, reconnection_delay_max=0.01)
        errors: list[Exception] = []
        attempts: list[int] = []
        client.on("connect_error", errors.append)
        client.manager.on("reconnect_attempt", attempts.append)
        connecting = asyncio.ensure_future(client.connect())
        await until(lambda: len(errors) >= 3)
        assert client.active
        assert attempts[:2] == [1, 2]
        proxy.refusing = False
        await asyncio.wait_for(connecting, WITHIN)
        assert client.connected
        await client.close()


async def test_waiting_ends_when_the_attempts_are_used_up():
    client = Client(NOBODY, wait_for_server=True, reconnection_attempts=2, reconnection_delay=0.001)
    failed: list[str] = []
    client.manager.on("reconnect_failed", lambda: failed.append("failed"))
    with pytest.raises(ConnectFailed):
        await client.connect()
    await until(lambda: failed == ["failed"])


async def test_connect_that_is_cancelled_stops_trying():
    client = Client(NOBODY, wait_for_server=True, reconnection_delay=0.01)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await client.connect()
    assert not client.active
    assert client.manager.connection is None


async def test_a_server_that_says_nothing_is_given_up():
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(ConnectFailed, match=r"within 0.05 s \(connect_timeout\)"):
            await Client(url, connect_timeout=0.05).connect()
        for _ in range(5):
            await asyncio.sleep(0.001)


async def test_a_namespace_that_does_not_answer_is_given_up():
    io = Server(close_grace=0.1)

    @io.use
    async def think(socket: Socket) -> None:
        await asyncio.sleep(60)

    async with serve(io) as url:
        with pytest.raises(ConnectFailed, match=r"did not answer the CONNECT to / within 0.05 s"):
            await Client(url, connect_timeout=0.05).connect()


async def test_a_refused_namespace_leaves_the_others_alone(io: Server):
    @io.of("/no").use
    async def refuse(socket: Socket) -> None:
        raise ConnectRefused("not you", data={"why": 1})

    async with serve(io) as url, Client(url) as client:
        with pytest.raises(ConnectRefused, match="not you") as refused:
            await client.of("/no").connect()
        assert refused.value.data == {"why": 1}
        assert await client.call("echo", 1) == 1
        with pytest.raises(ConnectRefused, match="Invalid namespace"):
            await client.of("/unknown").connect()


async def test_connect_and_disconnect_at_any_time(io: Server):
    async with serve(io) as url:
        client = Client(url)
        await client.disconnect()  # harmless
        for _ in range(3):
            await client.connect()
            await client.connect()  # harmless
            assert await client.call("echo", 1) == 1
            await client.disconnect()
            await client.disconnect()
            assert client.id is None
        await asyncio.gather(*(client.connect() for _ in range(3)))
        await client.close()
        assert io.sockets == {}


async def test_a_namespace_that_is_left_while_it_connects():
    io = Server()
    entered, may_go_on = asyncio.Event(), asyncio.Event()
    slow = io.of("/slow")

    @slow.on("connect")
    async def think(socket: Socket) -> None:
        entered.set()
        await may_go_on.wait()

    async with serve(io) as url, Client(url) as client:
        connecting = asyncio.ensure_future(client.of("/slow").connect())
        await asyncio.wait_for(entered.wait(), WITHIN)
        connecting.cancel()
        await asyncio.wait((connecting,))
        may_go_on.set()
        await until(lambda: not slow.sockets and not client.of("/slow").active)
        assert client.connected, "the connection stands"


async def test_a_handler_may_disconnect_and_connect(io: Server):
    async with serve(io) as url:
        client = Client(url)
        done = asyncio.Event()

        @client.on("connect")
        async def leave() -> None:
            await client.disconnect()
            done.set()

        await client.connect()
        async with asyncio.timeout(WITHIN):
            await done.wait()
            assert not client.active
            client.off("connect")

            @client.on("disconnect")
            async def come_back(reason: Reason) -> None:
                if reason is Reason.IO_SERVER_DISCONNECT:
                    await client.connect()

            await client.connect()
            first = client.id
            client.emit("kick")
            await until(lambda: client.connected and client.id != first)
            await client.close()


@pytest.mark.parametrize("option", ["auth", "query", "headers"])
async def test_a_function_of_an_option_that_awaits_something_cancelled_has_failed(io: Server, option: str):
    async def give() -> dict[str, str]:
        raise asyncio.CancelledError

    options: dict[str, Any] = {option: give}
    async with serve(io) as url:
        client = Client(url, connect_timeout=WITHIN, **options)
        with pytest.raises(ConnectFailed, match=f"the function that gives `{option}` failed: .*awaited something that was cancelled"):
            await asyncio.wait_for(client.connect(), WITHIN / 2)
        await client.close()


async def test_auth_is_asked_for_at_each_attempt():
    io = Server()
    seen: list[Any] = []

    @io.on("connect")
    async def connect(socket: Socket, auth: Any) -> None:
        seen.append(auth)

    tokens = iter("abc")

    async def auth() -> dict[str, str]:
        return {"token": next(tokens)}

    async with serve(io) as url:
        client = Client(url, auth=auth)
        for _ in range(2):
            async with client:
                pass
        client.auth = {"token": "fixed"}
        async with client, client.of("/", auth=None):
            pass
    assert seen == [{"token": "a"}, {"token": "b"}, {"token": "fixed"}]


@pytest.mark.parametrize("option", ["auth", "query", "headers"])
async def test_a_function_that_fails_is_told(io: Server, option: str):
    def fail() -> Any:
        raise ValueError("no token today")

    given: dict[str, Any] = {option: fail}
    async with serve(io) as url:
        with pytest.raises(ConnectFailed, match=rf"gives `{option}` failed: ValueError\('no token today'\)"):
            await Client(url, **given).connect()


async def test_calls_that_wait_for_a_connection_learn_that_none_comes():
    client = Client(NOBODY)
    waiting = asyncio.ensure_future(client.call("question"))
    await asyncio.sleep(0)
    with pytest.raises(ConnectFailed):
        await client.connect()
    with pytest.raises(ConnectionClosed, match="is closed: transport error"):
        await waiting


def test_one_client_in_several_event_loops(io: Server):
    client = Client("http://127.0.0.1:9")

    async def once() -> Any:
        async with serve(Server(close_grace=0.1)) as url:
            client.manager.address.origin = url
            waiting = asyncio.ensure_future(client.call("anything", timeout=0.05))
            async with client:
                with pytest.raises(AckTimeout):
                    await waiting
                return client.connected

    assert asyncio.run(once())
    assert asyncio.run(once())


async def test_wait_closed_gives_the_reason(io: Server):
    async with serve(io) as url:
        client = Client(url)
        assert await client.wait_closed() is None
        await client.connect()
        waiting = asyncio.ensure_future(client.wait_closed())
        client.emit("kick")
        assert await asyncio.wait_for(waiting, WITHIN) is Reason.IO_SERVER_DISCONNECT
        await client.close()


async def test_the_end_waits_for_handlers_and_then_cancels_them(io: Server):
    ends: list[str] = []
    async with serve(io) as url:
        client = Client(url, close_grace=0.05)

        @client.on("disconnect")
        async def short() -> None:
            await asyncio.sleep(0.001)
            ends.append("short")

        @client.on("connect")
        async def endless() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ends.append("cancelled")
                raise

        async with client:
            pass
    assert ends == ["short", "cancelled"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "localhost:8000"}, "is not the URL of a server"),
        ({"url": "/chat"}, "is not the URL of a server"),
        ({"path": "socket.io"}, "path='socket.io'"),
        ({"transports": []}, "at least one"),
        ({"transports": ["webtransport"]}, "expected 'websocket', 'polling'"),
        ({"eio": 5}, "eio=5"),
        ({"reconnection_delay": 0}, "more than 0 seconds"),
        ({"ack_timeout": -1}, "ack_timeout=-1"),
        ({"randomization_factor": 2}, "0 to 1"),
        ({"max_buffer": 0}, "max_buffer=0"),
        ({"retries": 3}, "retries without ack_timeout"),
        ({"retries": -1, "ack_timeout": 1}, "retries=-1"),
        ({"proxy": "127.0.0.1:3128"}, "proxy='127.0.0.1:3128': expected the URL of an HTTP proxy"),
        ({"proxy": "socks5://me:secret@host:1080"}, "proxy='host:1080'"),
        ({"proxy": ""}, "proxy=''"),
        ({"uds": "/x", "http_session": object()}, "uds and http_session"),
    ],
)
def test_an_option_that_cannot_work_is_refused(options: dict[str, Any], message: str):
    with pytest.raises(OptionsError, match=message):
        Client(options.pop("url", NOBODY), **options)


async def test_two_loops_at_once_are_refused(io: Server):
    async with serve(io) as url, Client(url) as client:
        with pytest.raises(LocalProtocolError, match="another event loop"):
            await asyncio.to_thread(lambda: asyncio.run(client.connect()))


def test_without_aiohttp_it_says_what_to_install():
    script = """
import sys
sys.modules["aiohttp"] = None
import mizzen
try:
    mizzen.Client("http://localhost")
except ImportError as error:
    print(error)
mizzen.Client("http://localhost", transports=[lambda session: None])
"""
    told = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True).stdout
    assert "pip install 'mizzen[client]'" in told


async def test_the_main_namespace_of_engineio_3_at_any_time(io: Server):
    io.of("/chat").on("where", lambda socket: "/chat")
    async with serve(io) as url, Client(f"{url}/chat", eio=3) as chat:
        assert await chat.call("where") == "/chat"
        main = chat.of("/")  # in which the connection is already
        for _ in range(2):
            async with main:
                assert await main.call("echo", 1) == 1
        assert await chat.call("where") == "/chat"
