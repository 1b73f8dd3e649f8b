"""What the table of docs/parity.md names and no other test shows: small facts of the Node server, seen over the bare wire."""

from __future__ import annotations

import json
import time

import pytest

from mizzen import ConnectionStateRecovery, LocalProtocolError, Reason, Server, Socket
from mizzen.adapters.memory import MemoryAdapter
from mizzen.options import RequestsMode
from mizzen.ports import AdapterHost
from mizzen.protocol.packet import RESERVED_EVENTS
from mizzen.types import Receive, Scope, Send
from tests.server.fake_wire import connection_of, join_fake, join_nsp, open_fake, settle
from tests.transports.exchange import ask, engine_target, only_connection


async def test_the_option_adapter_makes_one_for_each_namespace_and_closes_it() -> None:
    made: list[tuple[str, list[str]]] = []

    class Adapter(MemoryAdapter):
        def __init__(self, host: AdapterHost) -> None:
            super().__init__(host)
            self.log: list[str] = []
            made.append((host.name, self.log))

        def close(self) -> None:
            self.log.append("closed")
            super().close()

    async with Server(adapter=Adapter) as io:
        io.of("/chat")
        async with join_fake(io, "/chat"):
            assert sorted(made) == [("/", []), ("/chat", [])]
            assert isinstance(io.of("/chat").adapter, Adapter)
    assert sorted(made) == [("/", ["closed"]), ("/chat", ["closed"])]


async def test_ids_have_20_characters_and_no_two_are_alike() -> None:
    async with Server() as io:
        sessions: set[str] = set()
        sockets: set[str] = set()
        for _ in range(50):
            async with join_fake(io) as (_, id):
                sessions.add(connection_of(io).sid)
                sockets.add(id)
        assert {len(id) for id in sessions | sockets} == {20}
        assert len(sessions | sockets) == 100  # the id of a socket, which is public, is not the one of its session


async def requested(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the headers that the app gets."""
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(headers).encode()})


@pytest.mark.parametrize(("requests", "answered"), [("auto", True), (False, False)])
async def test_without_requests_a_verb_is_an_event_as_any_other(requests: RequestsMode, answered: bool) -> None:
    heard: list[str] = []
    async with Server(requested, requests=requests) as io, join_fake(io) as (wire, _):

        @io.on_any
        async def hear(socket: Socket, event: str) -> None:
            heard.append(event)

        @io.on("last")
        async def last(socket: Socket) -> None: ...

        await wire.send('421["get",{"url":"/"}]')
        await settle()
        await wire.send('422["last"]')
        first = (await wire.receive_json())[0]
        assert first == ("431" if answered else "432")
        await settle()
        assert heard == ["get", "last"]


@pytest.mark.parametrize(("pinned", "seen"), [((), "the client's"), (("x-real-user",), "the proxy's")])
async def test_pinned_headers_are_those_of_the_handshake(pinned: tuple[str, ...], seen: str) -> None:
    async with Server(requested, pinned_headers=pinned) as io, open_fake(io, headers={"x-real-user": "the proxy's"}) as wire:
        await wire.send("40")
        await wire.receive()
        await wire.send('421["get",{"url":"/","headers":{"x-real-user":"the client\'s"}}]')
        _, data = await wire.receive_json()
        assert data[0]["body"]["x-real-user"] == seen


@pytest.mark.parametrize(("limit", "fits"), [(1, False), (2, True)])
async def test_max_attachments_bounds_those_of_a_packet(limit: int, fits: bool) -> None:
    async with Server(max_attachments=limit) as io:

        @io.on("two")
        async def two(socket: Socket, first: bytes, second: bytes) -> int:
            return len(first) + len(second)

        async with join_fake(io) as (wire, _):
            await wire.send('452-1["two",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]', b"a", b"bc")
            if fits:
                assert await wire.receive() == "431[3]"
            else:
                assert await wire.until_closed() == 1000


@pytest.mark.parametrize("message", ['450-["x"]', "42", "42/,", "421", "44", '44{"message":"no"}'])
async def test_what_is_malformed_is_forced_close(message: str) -> None:
    reasons: list[Reason] = []
    async with Server() as io:

        @io.on("disconnect")
        async def disconnect(socket: Socket, reason: Reason) -> None:
            reasons.append(reason)

        async with join_fake(io) as (wire, _):
            await wire.send(message)
            assert await wire.until_closed() == 1000
    # A CONNECT_ERROR of a client may be well formed, and fits no state nevertheless.
    assert reasons == [Reason.FORCED_SERVER_CLOSE if message.startswith("44{") else Reason.FORCED_CLOSE]


async def test_a_binary_packet_without_attachments_is_refused() -> None:
    await test_what_is_malformed_is_forced_close('450-["x"]')


async def test_an_event_without_a_payload_is_refused() -> None:
    await test_what_is_malformed_is_forced_close("42")


async def test_a_disconnect_is_not_echoed_and_the_transport_stays_open() -> None:
    async with Server() as io:
        io.of("/chat")
        async with join_fake(io) as (wire, _):
            await wire.send("41")
            await settle()
            assert wire.received() == []
            await wire.send("40/chat,")
            assert (await wire.receive_json())[0] == "40/chat,"


@pytest.mark.parametrize("recovery", [True, False, ConnectionStateRecovery(max_disconnection_duration=1)])
async def test_the_answer_to_connect_has_a_pid_only_with_recovery(recovery: bool | ConnectionStateRecovery) -> None:
    async with Server(connection_state_recovery=recovery) as io, open_fake(io) as wire:
        await wire.send("40")
        _, data = await wire.receive_json()
        assert set(data) == ({"sid", "pid"} if recovery else {"sid"})


async def test_the_headers_of_polls_and_posts() -> None:
    async with Server() as io:
        opened = await ask(io, "GET", engine_target())
        assert (opened.header("content-type") or "").lower() == "text/plain; charset=utf-8"
        assert opened.header("cache-control") == "no-store"
        assert opened.header("content-length") == str(len(opened.body))
        posted = await ask(io, "POST", engine_target(sid=only_connection(io).sid), b"40")
        assert (posted.status, posted.body, posted.header("content-type")) == (200, b"ok", "text/html")


def test_the_reserved_names_are_those_of_node() -> None:
    assert {"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"} == RESERVED_EVENTS
    io = Server()
    for name in RESERVED_EVENTS:
        with pytest.raises(LocalProtocolError, match=name):
            io.emit(name)


@pytest.mark.parametrize("origin", [None, "http://test"])
async def test_what_a_socket_knows(origin: str | None) -> None:
    async with Server() as io:
        chat = io.of("/chat")
        before = time.time()
        async with open_fake(io, "a=1&b=x%20y", headers={"x-own": "1", **({"origin": origin} if origin else {})}) as wire:
            id = await join_nsp(wire, "/chat", {"token": "t"})
            socket = chat.sockets[id]
            assert (socket.id, socket.connected, socket.recovered, socket.namespace) == (id, True, False, chat)
            assert (socket.data, socket.rooms, socket.conn) == ({}, {id}, connection_of(io))
            handshake = socket.handshake
            assert handshake.headers["x-own"] == "1"
            assert handshake.query == {"EIO": "4", "transport": "websocket", "a": "1", "b": "x y"}
            assert handshake.url == "/socket.io/?EIO=4&transport=websocket&a=1&b=x%20y"
            assert handshake.auth == {"token": "t"}
            assert (handshake.address, handshake.secure, handshake.xdomain) == ("192.0.2.1", False, origin is not None)
            assert before <= handshake.issued <= time.time()
            assert handshake.scope["path"] == "/socket.io/"
        assert (socket.connected, socket.rooms, socket.reason) == (False, frozenset(), Reason.TRANSPORT_CLOSE)
