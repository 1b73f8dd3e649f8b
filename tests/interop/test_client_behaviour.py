"""Mizzen's client against every kind of server: one table of what it does, whoever answers and however the connection fares."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, suppress
from typing import Any, Literal, NamedTuple

import pytest

from mizzen import AckTimeout, Client, ConnectionClosed, ConnectRefused, Reason, StatusError
from mizzen.types import JSON
from tests.client.proxy import Proxy, proxied
from tests.interop.processes import HOST, ServerProcess, free_port, mizzen_server, node_command, node_environment
from tests.support import WITHIN, until


class Kind(NamedTuple):
    """A server, and how the client has to speak to it."""

    server: str
    eio: Literal[3, 4] = 4
    sails: bool = False


KINDS = {
    "mizzen": Kind("mizzen"),
    "mizzen-eio3": Kind("mizzen", eio=3),
    "node": Kind("node"),
    "node-eio3": Kind("node", eio=3),
    "node-2.5": Kind("node-2.5", eio=3),
    "python-socketio": Kind("python-socketio"),
    "sails": Kind("sails", sails=True),
    "sails-eio3": Kind("sails", eio=3, sails=True),
}
WAYS: dict[str, tuple[Literal["websocket", "polling"], ...]] = {
    "websocket": ("websocket",),
    "polling": ("polling",),
    "upgrade": ("polling", "websocket"),
}
QUICKLY: dict[str, Any] = {"reconnection_delay": 0.02, "reconnection_delay_max": 0.1}
BLOB = bytes(range(256))
VALUES: list[JSON] = [None, True, 0, -1.5, 2**53, "é漢😀\x1e\u2028", "", [], {}, {"a": {"b": [None, "c"]}}]


def start(name: str, log: Any) -> ServerProcess:
    if name == "mizzen":
        return mizzen_server("tests.interop.behaviour_app:io", log)
    port = free_port()
    match name:
        case "node" | "node-2.5":
            command = node_command("behaviour_server.mjs", str(port), "socket.io" if name == "node" else "socket.io-2")
        case "sails":
            command = node_command("behaviour_sails.cjs", str(port))
        case _:
            command = [sys.executable, "-m", "tests.interop.behaviour_python_socketio", str(port)]
    return ServerProcess(command, port, log, node_environment())


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ServerProcess]]:
    """Give the servers that run; the test's own fixture starts what is missing."""
    folder = tmp_path_factory.mktemp("servers")
    with ExitStack() as at_the_end:

        class Servers(dict[str, ServerProcess]):
            def __missing__(self, name: str) -> ServerProcess:
                server = self[name] = start(name, folder / f"{name}.log")
                at_the_end.callback(server.end, signal.SIGKILL)
                server.start()
                return server

        yield Servers()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def url(servers: dict[str, ServerProcess], kind: Kind) -> str:
    return f"http://{HOST}:{servers[kind.server].port}"


@pytest.fixture
def options(kind: Kind, way: str) -> dict[str, Any]:
    return {"eio": kind.eio, "sails": kind.sails, "transports": WAYS[way], **QUICKLY}


@pytest.fixture
async def proxy(url: str) -> AsyncIterator[Proxy]:
    async with proxied(url) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
async def nothing_is_left() -> AsyncIterator[None]:
    """No task outlives a client that was closed."""
    before = asyncio.all_tasks()
    yield
    left = {task for task in asyncio.all_tasks() - before if task is not asyncio.current_task() and "mizzen" in repr(task)}
    assert not left


# Without trouble


async def test_it_connects_and_is_gone_in_the_end(url: str, options: dict[str, Any], way: str) -> None:
    client = Client(url, **options)
    ends: list[tuple[Reason, str | None]] = []
    client.on("disconnect", lambda reason, details: ends.append((reason, details)))
    assert not client.active
    async with asyncio.timeout(WITHIN):
        async with client:
            assert client.connected
            assert isinstance(client.id, str)
            assert await client.call("where") == "/"
            if way == "upgrade":
                await until(lambda: client.transport == "websocket", "the upgrade")
            else:
                assert client.transport == way
    assert (client.connected, client.active, client.id, client.transport) == (False, False, None, None)
    assert ends == [(Reason.IO_CLIENT_DISCONNECT, None)]


async def test_values_come_back_as_they_went(url: str, options: dict[str, Any]) -> None:
    async with asyncio.timeout(WITHIN), Client(url, **options) as client:
        echoes = client.events("echoed")
        client.emit("echo", *VALUES)
        client.emit("echo", BLOB, {"deep": [b"", BLOB]}, "text")
        assert await anext(echoes) == tuple(VALUES)
        assert await anext(echoes) == (BLOB, {"deep": [b"", BLOB]}, "text")
        assert await client.call("echo_ack", BLOB) == BLOB
        assert await client.call("echo_ack", "two", [b"\x04"]) == ("two", [b"\x04"])


async def test_both_sides_ask_and_answer(url: str, options: dict[str, Any]) -> None:
    client = Client(url, **options)

    @client.on("question")
    async def answer(question: dict[str, JSON]) -> JSON:
        return {"answer": question, "blob": BLOB}

    async with asyncio.timeout(WITHIN), client:
        assert await client.call("ask", {"why": 1}) == {"answer": {"why": 1}, "blob": BLOB}
        assert await asyncio.gather(*(client.call("echo_ack", number) for number in range(50))) == list(range(50))


async def test_what_was_emitted_before_it_connected_is_sent_in_order(url: str, options: dict[str, Any]) -> None:
    client = Client(url, **options)
    key = uuid.uuid4().hex
    for number in range(20):
        client.emit("note", key, number)
    client.volatile.emit("note", key, "dropped")
    waiting = asyncio.ensure_future(client.call("notes", key))
    async with asyncio.timeout(WITHIN), client:
        assert await waiting == list(range(20))


async def test_namespaces_share_a_connection(url: str, options: dict[str, Any]) -> None:
    async with asyncio.timeout(WITHIN), Client(url, **options) as client:
        async with client.of("/chat") as chat:
            assert await asyncio.gather(client.call("where"), chat.call("where")) == ["/", "/chat"]
            assert chat.manager.connection is client.manager.connection
        assert not chat.active
        assert await client.call("where") == "/", "leaving one namespace leaves the others alone"


async def test_the_path_of_the_url_is_the_namespace(url: str, options: dict[str, Any]) -> None:
    async with asyncio.timeout(WITHIN), Client(f"{url}/chat", **options) as client:
        assert await client.call("where") == "/chat"


async def test_a_refusal_is_told(url: str, options: dict[str, Any], kind: Kind) -> None:
    client = Client(f"{url}/refused", **options)
    errors: list[ConnectRefused] = []
    client.on("connect_error", errors.append)
    with pytest.raises(ConnectRefused) as refused:
        async with asyncio.timeout(WITHIN):
            await client.connect()
    assert refused.value.data == {"code": "E_REFUSED"}
    if kind.eio == 4:
        assert refused.value.message == "no"
    await until(lambda: errors == [refused.value])
    assert not client.active


async def test_what_goes_along_arrives(url: str, options: dict[str, Any], kind: Kind) -> None:
    async def auth() -> dict[str, JSON]:
        return {"key": "secret"}

    client = Client(f"{url}/chat?token=from-url", auth=auth, headers=lambda: {"X-Behaviour": "yes"}, cookies={"taste": "sweet"}, **options)
    async with asyncio.timeout(WITHIN), client:
        seen = await client.call("describe")
    assert (seen["token"], seen["header"]) == ("from-url", "yes")
    assert "taste=sweet" in seen["cookie"]
    if kind.eio == 4:
        assert seen["auth"] == {"key": "secret"}


async def test_many_messages_keep_their_order(url: str, options: dict[str, Any]) -> None:
    async with asyncio.timeout(WITHIN), Client(url, **options) as client:
        key = uuid.uuid4().hex
        burst = client.events("burst")
        client.emit("burst", 200)
        for number in range(200):
            client.emit("note", key, number)
        for number in range(200):
            assert await anext(burst) == (number, None if number % 10 else bytes([number % 256]))
        assert await client.call("notes", key) == list(range(200))


async def test_large_messages(url: str, options: dict[str, Any]) -> None:
    async with asyncio.timeout(WITHIN), Client(url, **options) as client:
        blob = random.randbytes(300_000)
        assert await client.call("echo_ack", "é" * 200_000, blob) == ("é" * 200_000, blob)


async def test_compression(url: str, kind: Kind) -> None:
    async with asyncio.timeout(WITHIN), Client(url, eio=kind.eio, sails=kind.sails, per_message_deflate=64) as client:
        for size in (10, 1_000, 100_000):
            text, blob = "zip" * size, random.randbytes(size)
            assert await client.call("echo_ack", text, blob) == (text, blob)


async def test_the_server_disconnects_and_the_client_comes_back_when_told(url: str, options: dict[str, Any]) -> None:
    client = Client(url, **options)
    ends: list[Reason] = []

    @client.on("disconnect")
    async def come_back(reason: Reason) -> None:
        ends.append(reason)
        if reason is Reason.IO_SERVER_DISCONNECT:
            await client.connect()

    async with asyncio.timeout(WITHIN), client:
        first = client.id
        client.emit("kick")
        await until(lambda: ends == [Reason.IO_SERVER_DISCONNECT])
        await until(lambda: client.connected)
        assert client.id != first
        assert await client.call("where") == "/"


async def test_an_ack_that_never_comes(url: str, options: dict[str, Any]) -> None:
    async with asyncio.timeout(WITHIN), Client(url, **options) as client:
        with pytest.raises(AckTimeout):
            await client.call("silence", timeout=0.05)
        waiting = asyncio.ensure_future(client.call("silence"))
        await client.call("where")
        client.emit("kick")
        with pytest.raises(ConnectionClosed) as closed:
            await waiting
        assert closed.value.reason is Reason.IO_SERVER_DISCONNECT


# Through the proxy


async def test_it_comes_back_after_a_cut(proxy: Proxy, options: dict[str, Any]) -> None:
    client = Client(proxy.url, **options)
    ends: list[Reason] = []
    client.on("disconnect", lambda reason: ends.append(reason))
    async with asyncio.timeout(WITHIN), client:
        for turn, hard in enumerate((False, True, False)):
            await client.call("where")
            waiting = asyncio.ensure_future(client.call("silence"))
            await client.call("where")
            proxy.cut(hard=hard)
            with pytest.raises(ConnectionClosed):
                await waiting
            client.emit("echo", turn)  # kept until it is back
            assert await client.wait_for("echoed") == (turn,)
        assert len(ends) == 3
        assert set(ends) <= {Reason.TRANSPORT_CLOSE, Reason.TRANSPORT_ERROR}


async def test_bytes_that_come_in_pieces_and_late(proxy: Proxy, options: dict[str, Any]) -> None:
    proxy.piece, proxy.delay = 7, 0.0001
    async with asyncio.timeout(WITHIN), Client(proxy.url, **options) as client:
        assert await client.call("echo_ack", "é" * 300, BLOB) == ("é" * 300, BLOB)
        assert await asyncio.gather(*(client.call("echo_ack", number, BLOB) for number in range(5))) == [(n, BLOB) for n in range(5)]


async def test_a_stall_loses_nothing(proxy: Proxy, options: dict[str, Any]) -> None:
    async with asyncio.timeout(WITHIN), Client(proxy.url, **options) as client:
        key = uuid.uuid4().hex
        proxy.stall()
        for number in range(50):
            client.emit("note", key, number)
        waiting = asyncio.ensure_future(client.call("notes", key))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        proxy.go_on()
        assert await waiting == list(range(50))


async def test_what_was_acked_has_arrived_once_whatever_is_cut(proxy: Proxy, options: dict[str, Any]) -> None:
    dice = random.Random(repr(options))
    client = Client(proxy.url, wait_for_server=True, **options)
    key = uuid.uuid4().hex
    acked: list[int] = []
    async with asyncio.timeout(3 * WITHIN), client:
        for number in range(40):
            if dice.random() < 0.2:
                asyncio.get_running_loop().call_later(dice.random() / 100, lambda: proxy.cut(hard=dice.random() < 0.5))
            with suppress(ConnectionClosed):  # whether it has arrived is not known then: it is not sent again
                acked.append(await client.call("note", key, number))
        arrived: list[int] = []
        while not arrived:
            try:
                arrived = await client.call("notes", key)
            except ConnectionClosed:
                continue
    assert set(acked) <= set(arrived), "what was acked has arrived"
    assert len(set(arrived)) == len(arrived), "nothing has arrived twice"
    assert arrived == sorted(arrived)
    assert len(acked) > 20


async def test_with_retries_everything_arrives_in_order_at_least_once(proxy: Proxy, options: dict[str, Any]) -> None:
    dice = random.Random(repr(options))
    client = Client(proxy.url, wait_for_server=True, retries=50, ack_timeout=1.0, **options)
    key = uuid.uuid4().hex
    async with asyncio.timeout(3 * WITHIN), client:
        for number in range(40):
            client.emit("note", key, number)
        while client.outbox.queue:
            proxy.cut(hard=dice.random() < 0.5)
            await asyncio.sleep(0.03 + dice.random() / 20)
        arrived = await client.call("notes", key)
    once = [number for index, number in enumerate(arrived) if index == 0 or arrived[index - 1] != number]
    assert once == list(range(40))


# Requests


async def test_requests_reach_the_routes_of_sails(servers: dict[str, ServerProcess], way: str) -> None:
    url = f"http://{HOST}:{servers['sails'].port}"
    client = Client(url, sails=True, transports=WAYS[way])
    early = asyncio.ensure_future(client.get("/hello"))  # queued before it connects
    async with asyncio.timeout(WITHIN), client:
        hello = await early
        assert (hello.status_code, hello.text, hello.is_success, hello.reason_phrase) == (200, "hello", True, "OK")
        value = await client.get("/value", params={"a": "1 2", "b": [1, True]}, headers={"X-Token": "t"})
        assert value.json() == {"query": {"a": "1 2", "b": ["1", "true"]}, "token": "t"}
        created = await client.post("/mirror", json={"list": [1, None]})
        assert (created.status_code, created.json()) == (201, {"method": "POST", "body": {"list": [1, None]}})
        for verb in ("put", "patch", "delete"):
            mirrored = await client.request(verb, "/mirror", json={"x": 1})
            assert mirrored.json()["method"] == verb.upper()
        assert (await client.get("/bytes")).content == bytes([0, 1, 255])
        assert (await client.get("/nothing")).status_code == 204
        assert (await client.head("/hello")).status_code == 200
        missing = await client.get("/missing")
        with pytest.raises(StatusError, match="404 Not Found") as status:
            missing.raise_for_status()
        assert status.value.response is missing
        with pytest.raises(AckTimeout):
            await client.get("/never", timeout=0.05)
        waiting = asyncio.ensure_future(client.get("/never"))
        await client.get("/hello")
        client.emit("kick")
        with pytest.raises(ConnectionClosed):
            await waiting
