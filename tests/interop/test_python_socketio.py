"""python-socketio's clients, as PyPI gives them, over every way to connect; against the reference implementation too."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import socketio
from engineio.payload import Payload
from socketio.exceptions import ConnectionError as NotConnected

from tests.interop.conftest import ServerOf
from tests.interop.processes import ServerProcess

SERVERS = ("mizzen", "node")
WAYS = {"polling": ["polling"], "websocket": ["websocket"], "upgrade": ["polling", "websocket"]}
WITHIN = 10
QUICKLY: dict[str, Any] = {"reconnection_delay": 0.05, "reconnection_delay_max": 0.2, "randomization_factor": 0}
REFUSAL = {"message": "no", "data": {"code": "E_REFUSED", "detail": ["é", 1]}}

Connect = Callable[..., Awaitable[socketio.AsyncClient]]


def everything() -> list[Any]:
    return [None, True, 0, -1.5, 2**53, "é漢😀\x1e\u2028", "", [], {}, {"a": {"b": [None, "c"]}}]


class Inbox:
    """The arguments of one event's occurrences, in order."""

    def __init__(self, client: socketio.AsyncClient, event: str, namespace: str = "/") -> None:
        self.queue: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()
        client.on(event, self._put, namespace=namespace)

    async def _put(self, *args: Any) -> None:
        self.queue.put_nowait(args)

    async def get(self) -> tuple[Any, ...]:
        return await asyncio.wait_for(self.queue.get(), WITHIN)


@pytest.fixture(params=SERVERS)
def url(request: pytest.FixtureRequest, server_of: ServerOf) -> str:
    return server_of(request.param).url


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def connect(url: str, way: str) -> AsyncIterator[Connect]:
    """Give a function that connects a client, which is disconnected at the end."""
    clients: list[socketio.AsyncClient] = []

    async def connect(client: socketio.AsyncClient | None = None, *, query: str = "", **options: Any) -> socketio.AsyncClient:
        client = client or socketio.AsyncClient(reconnection=False)
        clients.append(client)
        await client.connect(url + query, transports=WAYS[way], wait_timeout=WITHIN, **options)
        return client

    yield connect
    for client in clients:
        await client.disconnect()
        await client.shutdown()


async def test_transport(connect: Connect, way: str) -> None:
    client = await connect()
    assert client.transport() == ("polling" if way == "polling" else "websocket")


async def test_events_and_acks(connect: Connect) -> None:
    client = socketio.AsyncClient(reconnection=False)
    echoed = Inbox(client, "echoed")
    await connect(client)
    await client.emit("echo", tuple(everything()))
    assert await echoed.get() == tuple(everything())
    assert await client.call("echo_ack", tuple(everything())) == tuple(everything())
    assert await client.call("echo_ack", "one") == "one"
    assert await client.call("echo_ack") is None


async def test_handshake(connect: Connect) -> None:
    client = await connect(query="?token=t%26n", auth={"token": "ä😀"}, headers={"X-Interop": "yes"})
    identity = client.get_sid()
    assert await client.call("handshake") == {"id": identity, "token": "t&n", "header": "yes", "auth": {"token": "ä😀"}}


async def test_binary(connect: Connect) -> None:
    client = socketio.AsyncClient(reconnection=False)
    echoed = Inbox(client, "echoed")
    await connect(client)
    sent = (b"\x00\x04\xff", "é", {"nested": [b"", {"more": b"x" * 1000}]}, bytearray(b"array"))
    await client.emit("echo", sent)
    assert await echoed.get() == sent
    assert await client.call("echo_ack", sent) == sent
    assert await client.call("measure", b"\x01\xfa") == {"binary": True, "size": 2, "sum": 251}


async def test_ack_from_the_client(connect: Connect) -> None:
    client = socketio.AsyncClient(reconnection=False)

    async def answer(question: Any) -> Any:
        return {"question": question, "bytes": b"\x01"}

    client.on("ask", answer)
    await connect(client)
    assert await client.call("call_me", "why") == {"question": "why", "bytes": b"\x01"}


async def test_order(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its client refuses a payload of more than 16 packets unless told otherwise, which no server can know.
    monkeypatch.setattr(Payload, "max_decode_packets", 1000)
    client = socketio.AsyncClient(reconnection=False)
    counted = Inbox(client, "counted")
    await connect(client)
    for index in range(200):
        await client.emit("count", index)
    assert [await counted.get() for _ in range(200)] == [(index,) for index in range(200)]


async def test_large(connect: Connect) -> None:
    client = await connect()
    text, data = "é漢😀" * 20_000, bytes(range(250)) * 800
    assert await client.call("echo_ack", (text, data)) == (text, data)


async def test_namespaces(connect: Connect) -> None:
    client = socketio.AsyncClient(reconnection=False)
    echoed = Inbox(client, "echoed", "/chat")
    await connect(client, namespaces=["/", "/chat", "/news"])
    assert [await client.call("where", namespace=name) for name in ("/", "/chat", "/news")] == ["/", "/chat", "/news"]
    await client.emit("echo", b"\x07", namespace="/chat")
    assert await echoed.get() == (b"\x07",)


async def test_unknown_namespace(connect: Connect) -> None:
    client = socketio.AsyncClient(reconnection=False)
    refused = Inbox(client, "connect_error", "/unknown")
    with pytest.raises(NotConnected):
        await connect(client, namespaces=["/unknown"])
    ((error,)) = await refused.get()
    assert error["message"] == "Invalid namespace"


@pytest.mark.parametrize("namespace", ["/guarded", "/refused"])
async def test_refusal(connect: Connect, namespace: str) -> None:
    client = socketio.AsyncClient(reconnection=False)
    refused = Inbox(client, "connect_error", namespace)
    with pytest.raises(NotConnected):
        await connect(client, namespaces=[namespace])
    assert await refused.get() == (REFUSAL,)


async def test_rooms(connect: Connect) -> None:
    clients = [socketio.AsyncClient(reconnection=False) for _ in range(3)]
    said = [Inbox(client, "said") for client in clients]
    for client in clients:
        await connect(client)
    room = f"room {clients[0].get_sid()}"
    await clients[0].call("join", room)
    await clients[1].call("join", room)
    await clients[2].call("say", (room, "to the room"))
    await clients[0].call("say_others", (room, "to the others"))
    for client in clients:
        await client.call("echo_ack", "fence")
    assert [inbox.queue.qsize() for inbox in said] == [1, 2, 0]
    assert await said[0].get() == await said[1].get() == ("to the room",)
    assert await said[1].get() == ("to the others",)


async def test_disconnected_by_the_server(connect: Connect) -> None:
    client = socketio.AsyncClient(reconnection=False)
    gone = Inbox(client, "disconnect")
    await connect(client)
    await client.emit("kick")
    assert await gone.get() == ("server disconnect",)


# Not polling and SIGTERM: this client takes the close packet, which answers its poll then, for a wish not to see it again.
RESTARTS = [*((way, signal.SIGKILL) for way in WAYS), ("websocket", signal.SIGTERM), ("upgrade", signal.SIGTERM)]


@pytest.mark.parametrize(("way", "how"), [pytest.param(way, how, id=f"{way}-{how.name}") for way, how in RESTARTS])
@pytest.mark.parametrize("server_to_end", SERVERS, indirect=True)
async def test_reconnection_after_a_restart(server_to_end: ServerProcess, way: str, how: signal.Signals) -> None:
    client = socketio.AsyncClient(**QUICKLY)
    connected, gone = [Inbox(client, "connect", namespace) for namespace in ("/", "/chat")], Inbox(client, "disconnect")
    try:
        await client.connect(server_to_end.url, transports=WAYS[way], namespaces=["/", "/chat"])
        for inbox in connected:
            await inbox.get()
        first = client.get_sid()
        await asyncio.to_thread(server_to_end.end, how)
        await gone.get()
        await asyncio.to_thread(server_to_end.start)
        for inbox in connected:
            await inbox.get()
        assert client.get_sid() != first
        assert await client.call("echo_ack", "again") == "again"
        assert await client.call("where", namespace="/chat") == "/chat"
    finally:
        await client.disconnect()
        await client.shutdown()


def test_the_synchronous_client(url: str, way: str) -> None:
    client = socketio.Client(reconnection=False)
    echoed: list[tuple[Any, ...]] = []
    arrived, gone = threading.Event(), threading.Event()

    def on_echoed(*args: Any) -> None:
        echoed.append(args)
        arrived.set()

    client.on("echoed", on_echoed)
    client.on("ask", lambda question: {"question": question})
    client.on("disconnect", lambda reason: gone.set())
    client.connect(url, transports=WAYS[way], namespaces=["/", "/chat"], wait_timeout=WITHIN)
    assert client.transport() == ("polling" if way == "polling" else "websocket")
    client.emit("echo", (b"\x00\xff", *everything()))
    assert arrived.wait(WITHIN)
    assert echoed == [(b"\x00\xff", *everything())]
    assert client.call("echo_ack", (1, b"two")) == (1, b"two")
    assert client.call("call_me", "why") == {"question": "why"}
    assert client.call("where", namespace="/chat") == "/chat"
    # Its own disconnect() may forget to tell the server, and then waits for the next ping to a poll: so the server does it.
    client.emit("kick_connection")
    assert gone.wait(WITHIN)
