"""What carries the client: TLS, unix sockets, proxies, cookies, limits, parsers, and transports of one's own."""

from __future__ import annotations

import asyncio
import socket as sockets
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import aiohttp
import pytest
import uvicorn

from mizzen import Client, ConnectFailed, Cookie, MsgpackCodec, Reason, Server, Socket
from mizzen.client.ports import ClientSession
from mizzen.protocol.encoded import Encoded
from tests.client.proxy import proxied
from tests.support import NATIVE, WITHIN, serve, until

CERTIFICATES = Path(__file__).resolve().parent.parent / "cli"
KEY, CERTIFICATE = str(CERTIFICATES / "localhost.key"), str(CERTIFICATES / "localhost.crt")
WAYS: dict[str, tuple[Literal["websocket", "polling"], ...]] = {
    "websocket": ("websocket",),
    "polling": ("polling",),
    "upgrade": ("polling", "websocket"),
}


def make(**options: Any) -> Server:
    io = Server(**options)

    @io.on("echo")
    async def echo(socket: Socket, *args: Any) -> tuple[Any, ...]:
        return args

    @io.on("headers")
    async def headers(socket: Socket) -> dict[str, str]:
        return dict(socket.handshake.headers)

    @io.on("send")
    async def send(socket: Socket, size: int) -> None:
        socket.emit("sent", "x" * size)

    return io


@asynccontextmanager
async def uvicorn_at(app: Any, listener: sockets.socket, **options: Any) -> AsyncIterator[None]:
    """Serve an app on a socket."""
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws=NATIVE, timeout_graceful_shutdown=2, **options))
    task = asyncio.create_task(server._serve([listener]))
    await until(lambda: server.started)
    try:
        yield
    finally:
        server.should_exit = True
        await task


@pytest.fixture(params=WAYS)
def transports(request: pytest.FixtureRequest) -> Any:
    return WAYS[request.param]


async def settled(client: Client, transports: Any) -> None:
    """Wait for the upgrade, if there is to be one."""
    await until(lambda: client.transport == transports[-1])
    assert await client.call("echo", "é", b"\x00\x04") == ("é", b"\x00\x04")


async def test_tls(transports: Any):
    with sockets.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://localhost:{listener.getsockname()[1]}"
        async with uvicorn_at(make(), listener, ssl_keyfile=KEY, ssl_certfile=CERTIFICATE):
            with pytest.raises(ConnectFailed, match="certificate"):
                await Client(url, transports=transports).connect()
            context = ssl.create_default_context(cafile=CERTIFICATE)
            for trust in (context, False):
                async with Client(url, transports=transports, ssl=trust) as client:
                    await settled(client, transports)


async def test_unix_sockets(transports: Any, tmp_path: Path):
    path = str(tmp_path / "s")
    with sockets.socket(sockets.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        async with uvicorn_at(make(), listener), Client("http://app", uds=path, transports=transports) as client:
            await settled(client, transports)


async def test_http_proxies(transports: Any):
    """A proxy for plain HTTP is asked with whole URLs; ours only looks at where they point, and passes everything on."""
    asked: list[bytes] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.split()[1])
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        there_writer.write(head.replace(b"http://nowhere.invalid", b"", 1).replace(b"keep-alive", b"close"))

        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65_536):
                target.write(data)
            target.close()

        await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer), return_exceptions=True)

    async with serve(make()) as url:
        port = int(url.rpartition(":")[2])
        async with await asyncio.start_server(relay, "127.0.0.1", 0) as server:
            proxy = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with Client("http://nowhere.invalid", proxy=proxy, transports=("websocket",)) as client:
                await settled(client, ("websocket",))
    assert asked[0].startswith(b"http://nowhere.invalid/socket.io/?EIO=4")


async def test_cookies_are_kept_for_all_transports():
    seen: list[tuple[str, str]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            seen.append((scope["type"], dict(scope["headers"]).get(b"cookie", b"").decode()))
        await io(scope, receive, send)

    io = make(cookie=Cookie(name="route"))
    async with serve(app) as url, Client(url, transports=("polling", "websocket"), cookies={"mine": "1"}) as client:
        await settled(client, ("polling", "websocket"))
    assert seen[0] == ("http", "mine=1")
    assert all("mine=1" in cookie for _, cookie in seen)
    assert all("route=" in cookie for _, cookie in seen[1:])
    assert "websocket" in dict(seen)


async def test_a_server_cannot_set_any_number_of_cookies_or_of_any_size():
    sent: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        """Refuse every handshake, with as many cookies as one head may hold."""
        if scope["type"] != "http":
            return await io(scope, receive, send)
        batch = len(sent)
        names = [*(b"%d-%d=%s" % (batch, number, b"x" * 100) for number in range(40)), b"large%d=%s" % (batch, b"x" * 5_000)]
        sent.append(sum(key == b"cookie" and len(value) for key, value in scope["headers"]))
        await send({"type": "http.response.start", "status": 503, "headers": [(b"set-cookie", name) for name in names]})
        await send({"type": "http.response.body"})

    io = make()
    async with serve(app) as url:
        client = Client(url, transports=("polling",), wait_for_server=True, reconnection_delay=0.001, reconnection_delay_max=0.001)
        connecting = asyncio.ensure_future(client.connect())
        await until(lambda: len(sent) == 20)  # with 800 cookies, and 20 large ones
        wires = client.manager._wires
        assert wires is not None
        kept = [cookie.value for cookie in wires._http._session().cookie_jar]
        await client.close()
        await asyncio.wait((connecting,))
        assert connecting.exception() is not None
    # RFC 6265, 6.1: "At least 50 cookies per domain", and "at least 4096 bytes per cookie"
    assert 50 <= len(kept) <= 200
    assert max(map(len, kept)) == 100
    assert max(sent) < 20_000


async def test_a_session_of_ones_own_is_used_and_left_open(transports: Any):
    async with serve(make()) as url, aiohttp.ClientSession(headers={"X-Mine": "yes"}) as http:
        async with Client(url, http_session=http, transports=transports) as client:
            await settled(client, transports)
            assert (await client.call("headers"))["x-mine"] == "yes"
        assert not http.closed


@pytest.mark.parametrize("transports", ["websocket", "polling"])
async def test_a_message_that_is_too_large_says_so(transports: Any):
    async with serve(make(), native=True) as url:
        client = Client(url, transports=transports, max_payload=10_000, reconnection=False)
        ends: list[tuple[Reason, str]] = []
        client.on("disconnect", lambda reason, details: ends.append((reason, details)))
        async with client:
            client.emit("send", 9_000)
            await client.wait_for("sent", timeout=WITHIN)
            client.emit("send", 20_000)
            await until(lambda: bool(ends))
    reason, details = ends[0]
    assert reason is Reason.TRANSPORT_ERROR
    assert "10000 bytes" in details
    assert "max_payload" in details


async def test_messages_of_many_megabytes():
    async with serve(make(max_payload=50_000_000, max_buffer=100_000_000), native=True) as url, Client(url) as client:
        blob = bytes(12_000_000)
        assert await client.call("echo", blob) == blob


@pytest.mark.parametrize("way", WAYS)
async def test_polling_splits_what_the_server_would_not_take_at_once(way: str):
    async with serve(make(max_payload=5_000)) as url, Client(url, transports=WAYS[way]) as client:
        assert await asyncio.gather(*(client.call("echo", "x" * 2_000) for _ in range(20))) == ["x" * 2_000] * 20


async def test_binary_as_text():
    async with serve(make(), native=True) as url:
        for transports in WAYS.values():
            async with Client(url, transports=transports, force_base64=True) as client:
                await settled(client, transports)


@pytest.mark.parametrize("eio", [3, 4])
async def test_messages_at_any_time_of_an_upgrade(eio: Literal[3, 4]):
    async with serve(make(), native=True) as url, proxied(url) as proxy:
        proxy.delay = 0.002
        async with Client(proxy.url, transports=("polling", "websocket"), eio=eio) as client:
            replies: list[asyncio.Future[Any]] = []
            while client.transport != "websocket":
                replies.append(asyncio.ensure_future(client.call("echo", len(replies), b"blob")))
                await asyncio.sleep(0.001)
            replies.append(asyncio.ensure_future(client.call("echo", len(replies), b"blob")))
            assert [(await reply)[0] for reply in replies] == list(range(len(replies)))
            assert len(replies) > 5


async def test_an_upgrade_that_fails_leaves_polling_as_it_was():
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})
        else:
            await io(scope, receive, send)

    io = make()
    async with serve(app) as url, Client(url, transports=("polling", "websocket")) as client:
        for number in range(20):
            assert await client.call("echo", number) == number
            await asyncio.sleep(0.002)
        assert client.transport == "polling"


async def test_remember_upgrade():
    async with serve(make()) as url, proxied(url) as proxy:
        async with Client(proxy.url, transports=("polling", "websocket"), remember_upgrade=True, reconnection_delay=0.01) as client:
            await settled(client, ("polling", "websocket"))
            opened: list[str | None] = []
            client.manager.on("open", lambda: opened.append(client.transport))
            proxy.cut()
            await until(lambda: opened == ["websocket"])


@pytest.mark.parametrize(
    ("options", "there", "absent"),
    [
        ({"transports": "polling"}, "t=", "b64="),
        ({"transports": "websocket"}, "EIO=4&transport=websocket", "&t="),
        ({"transports": "websocket", "timestamp_requests": True, "timestamp_param": "stamp"}, "stamp=", "&t="),
        ({"transports": "polling", "timestamp_requests": False}, "transport=polling", "&t="),
        ({"force_base64": True}, "b64=1", "&t="),
        ({"query": {"a": "1 2"}}, "a=1+2", "sdk_version="),
        ({"sails": True}, "__sails_io_sdk_version=", "b64="),
        ({"path": "/elsewhere/"}, "transport=websocket", "b64="),
    ],
)
async def test_what_stands_in_the_query(options: dict[str, Any], there: str, absent: str):
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            seen.append(scope["query_string"].decode())
        await io(scope, receive, send)

    io = make(path=options.get("path", "/socket.io"))
    async with serve(app) as url, Client(url, **options) as client:
        assert await client.call("echo", 1) == 1
    assert all(there in query and absent not in query for query in seen)


async def test_too_many_attachments():
    io = make()
    io.on("many", lambda socket: socket.emit("blobs", [b"x"] * 5))
    async with serve(io) as url, Client(url, max_attachments=4, reconnection=False) as client:
        client.emit("many")
        assert await asyncio.wait_for(client.wait_closed(), WITHIN) is Reason.PARSE_ERROR


async def test_a_request_of_polling_that_takes_too_long():
    async with serve(make()) as url:
        async with Client(url, transports=("polling",), request_timeout=0.05, reconnection=False) as client:
            assert await asyncio.wait_for(client.wait_closed(), WITHIN) is Reason.TRANSPORT_ERROR


async def test_so_many_plain_handlers_at_once():
    running, most = 0, 0
    gate = threading.Event()

    def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        gate.wait(WITHIN)
        running -= 1

    io = make()
    async with serve(io) as url, Client(url, max_threads=2) as client:
        for name in ("/a", "/b", "/c"):
            io.of(name)
            client.of(name).on("work", work)
            await client.of(name).connect()
        for name in ("/a", "/b", "/c"):
            io.of(name).emit("work")
        await until(lambda: running == 2 and client.manager.dispatcher.running == 3)
        gate.set()
        await until(lambda: not client.manager.dispatcher.running)
        assert most == 2


async def test_another_parser():
    async with serve(make(parser=MsgpackCodec())) as url, Client(url, parser=MsgpackCodec()) as client:
        assert await client.call("echo", {"a": [1, b"\x00", None]}, 2**40) == ({"a": [1, b"\x00", None]}, 2**40)


async def test_a_transport_of_ones_own():
    class Loop:
        """Answers as the smallest server there can be, without any wire."""

        name = "websocket"
        buffered = 0
        writable = True

        def __init__(self, session: ClientSession) -> None:
            self.session = session

        async def open(self) -> None:
            self.session.receive('0{"sid":"s","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000}')

        def flush(self, out: list[Encoded]) -> None:
            for encoded in out:
                for message in encoded.messages(4):
                    assert isinstance(message, str)
                    if message.startswith("40"):
                        self.session.receive('40{"sid":"one"}')
                    elif message.startswith("42"):
                        self.session.receive(message)
            out.clear()

        def pause_reading(self) -> None: ...

        def resume_reading(self) -> None: ...

        async def idle(self) -> None: ...

        async def close(self) -> None: ...

    async with Client("http://nowhere", transports=[Loop]) as client:
        got = client.events("mirrored")
        client.emit("mirrored", 1)
        assert await anext(got) == (1,)
        assert client.id == "one"
