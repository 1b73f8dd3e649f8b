"""Joining namespaces and leaving them: middleware, `connect` handlers, refusals, what is held before CONNECT, `disconnect` handlers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pydantic
import pytest

from mizzen import JSON, ConnectRefused, Reason, Server, Socket
from tests.server.fake_wire import FakeWire, connection_of, join_fake, join_nsp, multiplexer_of, open_fake, settle
from tests.support import open_polling, serve, until


@pytest.fixture
async def io() -> AsyncIterator[Server]:
    async with Server() as io:
        yield io


def record_reasons(io: Server) -> list[str]:
    """Have a `disconnect` handler write the reasons down."""
    reasons: list[str] = []

    @io.on("disconnect")
    async def disconnect(socket: Socket, reason: str) -> None:
        reasons.append(reason)

    return reasons


def assert_nothing_left(io: Server) -> None:
    """Assert that the server knows of nobody."""
    assert len(io.sessions) == 0
    assert len(io.tasks) == 0
    assert len(io.unconnected) == 0
    for namespace in io.namespaces.values():
        assert not namespace.sockets
        assert not namespace.adapter.rooms
        assert not namespace.adapter._sockets  # pyright: ignore[reportAttributeAccessIssue]


class TestMiddleware:
    async def test_middleware_runs_in_order_before_connect_handlers(self, io: Server) -> None:
        ran: list[str] = []

        def step(name: str) -> Callable[..., Any]:
            async def run(socket: Socket) -> None:
                assert not socket.connected
                await asyncio.sleep(0)
                ran.append(name)

            return run

        io.on("connect", step("connect 1"))
        io.use(step("use 1"))
        io.on("connect", step("connect 2"))
        io.use(step("use 2"))
        async with join_fake(io) as (_, sid):
            assert ran == ["use 1", "use 2", "connect 1", "connect 2"]
            assert io.sockets[sid].connected

    async def test_a_plain_middleware_runs_in_a_thread(self, io: Server) -> None:
        loops: list[bool] = []

        @io.use
        def look(socket: Socket) -> None:
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                loops.append(False)

        async with join_fake(io):
            assert loops == [False]

    async def test_the_first_refusal_ends_the_chain(self, io: Server) -> None:
        ran: list[str] = []

        @io.use
        async def refuse(socket: Socket) -> None:
            raise ConnectRefused("no")

        @io.use
        async def never(socket: Socket) -> None:
            ran.append("use")

        @io.on("connect")
        async def connect(socket: Socket) -> None:
            ran.append("connect")

        async with open_fake(io) as wire:
            await wire.send("40")
            assert await wire.receive() == '44{"message":"no"}'
        assert ran == []

    async def test_middleware_is_that_of_its_namespace(self, io: Server) -> None:
        @io.of("/chat").use
        async def refuse(socket: Socket) -> None:
            raise ConnectRefused("not here")

        async with join_fake(io) as (wire, _):
            await wire.send("40/chat,")
            assert await wire.receive() == '44/chat,{"message":"not here"}'

    async def test_a_middleware_that_fails_refuses(self, io: Server) -> None:
        errors: list[tuple[str, str]] = []
        io.on_error(lambda error, socket, where: errors.append((str(error), where)))

        @io.use
        async def fail(socket: Socket) -> None:
            raise ValueError("secret")

        async with open_fake(io) as wire:
            await wire.send("40")
            prefix, answer = await wire.receive_json()
            assert (prefix, answer["data"]["code"]) == ("44", "E_HANDLER")
            assert "secret" not in str(answer)
        assert [error for error, _ in errors] == ["secret"]


@dataclass
class Auth:
    token: str


class Model(pydantic.BaseModel):
    token: str


class TestRefusal:
    @pytest.mark.parametrize(
        ("refusal", "answer"),
        [
            (ConnectRefused(), {"message": "Forbidden"}),
            (ConnectRefused("no"), {"message": "no"}),
            (ConnectRefused("no", data={"code": "E_AUTH"}), {"message": "no", "data": {"code": "E_AUTH"}}),
            (ConnectRefused("no", data=0), {"message": "no", "data": 0}),
        ],
    )
    @pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
    async def test_connect_refused_tells_message_and_data(
        self, io: Server, refusal: ConnectRefused, answer: JSON, plain: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        reasons = record_reasons(io)
        errors: list[Exception] = []
        io.on_error(lambda error, socket, where: errors.append(error))

        async def connect(socket: Socket) -> None:
            raise refusal

        def plain_connect(socket: Socket) -> None:
            raise refusal

        io.on("connect", plain_connect if plain else connect)
        async with open_fake(io) as wire:
            await wire.send("40")
            assert await wire.receive_json() == ("44", answer)
            assert not multiplexer_of(io).sockets
            assert not connection_of(io).gone
        await settle()
        assert_nothing_left(io)
        assert (reasons, errors) == ([], [])
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]

    async def test_data_that_cannot_be_encoded_refuses_without(self, io: Server, caplog: pytest.LogCaptureFixture) -> None:
        @io.on("connect")
        async def connect(socket: Socket) -> None:
            raise ConnectRefused("no", data=object())

        async with open_fake(io) as wire:
            await wire.send("40")
            assert await wire.receive() == '44{"message":"no"}'
        assert "ConnectRefused('no')" in caplog.text

    async def test_a_message_that_cannot_be_encoded_is_sent_as_text(self, io: Server) -> None:
        message: Any = ValueError

        @io.on("connect")
        async def connect(socket: Socket) -> None:
            raise ConnectRefused(message)

        async with open_fake(io) as wire:
            await wire.send("40")
            assert await wire.receive_json() == ("44", {"message": "<class 'ValueError'>"})

    async def test_a_refused_client_may_try_again(self, io: Server) -> None:
        @io.on("connect")
        async def connect(socket: Socket, auth: JSON) -> None:
            if not auth:
                raise ConnectRefused

        async with open_fake(io) as wire:
            await wire.send("40")
            assert (await wire.receive_json())[0] == "44"
            sid = await join_nsp(wire, auth={"token": "a"})
            assert [*io.sockets] == [sid]

    async def test_a_connect_handler_that_fails_refuses_and_is_in_no_room(self, io: Server) -> None:
        """A peer's server leaves such a client hanging, in rooms and without an answer."""
        errors: list[tuple[str, str]] = []
        reasons = record_reasons(io)
        io.on_error(lambda error, socket, where: errors.append((str(error), where)))

        @io.on("connect")
        async def connect(socket: Socket) -> None:
            socket.join("room")
            raise ValueError("secret")

        async with open_fake(io) as wire:
            await wire.send("40")
            prefix, answer = await wire.receive_json()
            assert (prefix, answer["data"]["code"]) == ("44", "E_HANDLER")
            assert "secret" not in str(answer)
            io.emit("to all")
            io.to("room").emit("to room")
            await settle()
            assert wire.received() == []
            assert not io.of("/").adapter.rooms
        assert (errors, reasons) == ([("secret", "connect")], [])

    async def test_debug_tells_why_a_connect_handler_failed(self) -> None:
        async with Server(debug=True) as io:

            @io.on("connect")
            async def connect(socket: Socket) -> None:
                raise ValueError("secret")

            async with open_fake(io) as wire:
                await wire.send("40")
                assert "secret" in (await wire.receive_json())[1]["data"]["message"]

    async def test_a_connect_handler_that_lets_a_cancellation_out_refuses(self, io: Server) -> None:
        @io.on("connect")
        async def connect(socket: Socket) -> None:
            raise asyncio.CancelledError

        async with open_fake(io) as wire:
            await wire.send("40")
            assert (await wire.receive_json())[0] == "44"
            assert not multiplexer_of(io).sockets


class TestAuth:
    @pytest.mark.parametrize("auth", [None, {}, {"token": "a", "n": [1]}])
    async def test_auth_comes_as_it_was_sent(self, io: Server, auth: JSON) -> None:
        got: list[JSON] = []

        @io.on("connect")
        async def connect(socket: Socket, auth: JSON) -> None:
            got.extend((auth, socket.handshake.auth))

        async with join_fake(io, auth=auth):
            assert got == [auth, auth]

    @pytest.mark.parametrize("kind", [Auth, Model])
    async def test_auth_comes_typed(self, io: Server, kind: type[Any]) -> None:
        got: list[object] = []

        async def connect(socket: Socket, auth: Any) -> None:
            got.append(auth)

        connect.__annotations__["auth"] = kind
        io.on("connect", connect)
        async with join_fake(io, auth={"token": "a"}):
            assert got == [kind(token="a")]

    @pytest.mark.parametrize("auth", [None, {}, {"token": 1}])
    async def test_auth_that_does_not_fit_refuses(self, io: Server, auth: JSON) -> None:
        called: list[object] = []

        @io.on("connect")
        async def connect(socket: Socket, auth: Auth) -> None:
            called.append(auth)

        async with open_fake(io) as wire:
            await wire.send("40" + ("" if auth is None else str(auth).replace("'", '"')))
            prefix, answer = await wire.receive_json()
            assert prefix == "44"
            assert answer["data"]["code"] == "E_ARGUMENTS"
            assert answer["data"]["details"][0]["argument"] == "auth"
            assert isinstance(answer["message"], str)
        assert called == []

    async def test_no_auth_is_none_where_it_may_be(self, io: Server) -> None:
        got: list[object] = []

        @io.on("connect")
        async def connect(socket: Socket, auth: Auth | None) -> None:
            got.append(auth)

        async with join_fake(io):
            assert got == [None]

    async def test_each_namespace_has_its_own_auth(self, io: Server) -> None:
        io.of("/chat")
        async with open_fake(io) as wire:
            main = io.of("/").sockets, await join_nsp(wire, "/", {"for": "main"})
            chat = io.of("/chat").sockets, await join_nsp(wire, "/chat", {"for": "chat"})
            assert [sockets[sid].handshake.auth["for"] for sockets, sid in (main, chat)] == ["main", "chat"]


class TestNamespaces:
    async def test_several_namespaces_share_a_connection(self, io: Server) -> None:
        for name in ("/", "/a", "/b"):

            @io.of(name).on("where")
            async def where(socket: Socket) -> str:
                return socket.namespace.name

        async with open_fake(io) as wire:
            ids = [await join_nsp(wire, name) for name in ("/", "/a", "/b")]
            assert len({*ids, connection_of(io).sid}) == 4
            await wire.send('421["where"]', '42/a,2["where"]', '42/b,3["where"]')
            assert [await wire.receive() for _ in ids] == ['431["/"]', '43/a,2["/a"]', '43/b,3["/b"]']
            io.of("/a").emit("only a")
            assert await wire.receive() == '42/a,["only a"]'
            await wire.send("41/a,")
            await until(lambda: not io.of("/a").sockets)
            assert len(multiplexer_of(io).sockets) == 2

    async def test_a_namespace_may_be_joined_without_the_main_one(self, io: Server) -> None:
        io.of("/a")
        async with join_fake(io, "/a"):
            assert not io.sockets

    async def test_a_name_needs_no_slash(self, io: Server) -> None:
        assert io.of("a") is io.of("/a")

    async def test_an_unknown_namespace_is_refused_and_nothing_else(self, io: Server) -> None:
        async with join_fake(io) as (wire, _):
            await wire.send("40/unknown,")
            assert await wire.receive() == '44/unknown,{"message":"Invalid namespace"}'
            assert "/unknown" not in io.namespaces
            assert not connection_of(io).gone

    async def test_max_namespaces_bounds_one_connection(self) -> None:
        async with Server(max_namespaces=2) as io:
            for name in ("/a", "/b"):
                io.of(name)
            async with join_fake(io) as (wire, _):
                await join_nsp(wire, "/a")
                await wire.send("40/b,")
                prefix, answer = await wire.receive_json()
                assert prefix == "44/b,"
                assert "2" in answer["message"]
                await wire.send("41/a,")
                await join_nsp(wire, "/b")

    async def test_connecting_sockets_count_in_max_namespaces(self) -> None:
        gate = asyncio.Event()
        async with Server(max_namespaces=1) as io:

            @io.on("connect")
            async def connect(socket: Socket) -> None:
                await gate.wait()

            io.of("/a")
            async with open_fake(io) as wire:
                await wire.send("40", "40/a,")
                assert (await wire.receive_json())[0] == "44/a,"
                gate.set()
                assert (await wire.receive_json())[0] == "40"

    @pytest.mark.parametrize("slow", [False, True], ids=["connected", "connecting"])
    async def test_a_second_connect_closes(self, io: Server, slow: bool) -> None:
        gate = asyncio.Event()
        if not slow:
            gate.set()
        reasons = record_reasons(io)

        @io.on("connect")
        async def connect(socket: Socket) -> None:
            await gate.wait()

        async with open_fake(io) as wire:
            await wire.send("40", "40")
            await wire.until_closed()
            gate.set()
        await until(lambda: reasons)
        assert reasons == [Reason.FORCED_SERVER_CLOSE]

    @pytest.mark.parametrize("packet", ['42["x"]', "430[]", "41", '42/a,["x"]', '44{"message":"no"}', '420["x",1]'])
    async def test_packets_for_what_is_not_connected_close(self, io: Server, packet: str) -> None:
        called: list[str] = []

        @io.on("x")
        async def x(socket: Socket) -> None:
            called.append("x")

        async with open_fake(io) as wire:
            await wire.send(packet)
            await wire.until_closed()
        assert called == []

    async def test_an_event_while_connecting_closes(self, io: Server) -> None:
        gate = asyncio.Event()
        called: list[str] = []

        @io.on("connect")
        async def connect(socket: Socket) -> None:
            await gate.wait()

        @io.on("x")
        async def x(socket: Socket) -> None:
            called.append("x")

        async with open_fake(io) as wire:
            await wire.send("40", '42["x"]')
            await wire.until_closed()
            gate.set()
        assert called == []

    async def test_one_peer_that_misbehaves_is_no_other_peers_business(self, io: Server) -> None:
        async with join_fake(io) as (good, _), open_fake(io) as bad:
            await bad.send("42[]")
            await bad.until_closed()
            io.emit("alive")
            assert await good.event() == ["alive"]


class TestHeld:
    async def test_everything_before_connect_is_held_and_follows_in_order(self, io: Server) -> None:
        @io.use
        async def middleware(socket: Socket) -> None:
            socket.emit("1 middleware")
            socket.join("room")
            await asyncio.sleep(0)

        @io.on("connect")
        async def connect(socket: Socket) -> None:
            io.to("room").emit("2 room")
            io.emit("3 all")
            await settle()
            socket.emit("4", b"attached")
            io.to(socket.id).emit("5 id")
            await settle()

        @io.on("connect")
        def in_a_thread(socket: Socket) -> None:
            socket.emit("6 thread")
            io.to("room").emit("7 thread")

        async with open_fake(io) as wire:
            await wire.send("40")
            prefix, data = await wire.receive_json()
            assert (prefix, [*data]) == ("40", ["sid"])
            assert [await wire.receive() for _ in range(8)] == [
                '42["1 middleware"]',
                '42["2 room"]',
                '42["3 all"]',
                '451-["4",{"_placeholder":true,"num":0}]',
                b"attached",
                '42["5 id"]',
                '42["6 thread"]',
                '42["7 thread"]',
            ]
            assert connection_of(io).held == 0

    async def test_a_slow_connect_handler_delays_what_others_broadcast(self, io: Server) -> None:
        """A peer's server delivers such events before the CONNECT packet."""
        gate = asyncio.Event()

        @io.on("connect")
        async def connect(socket: Socket, auth: JSON) -> None:
            if auth:
                await gate.wait()

        async with join_fake(io) as (fast, _), open_fake(io) as slow:
            await slow.send('40{"slow":1}')
            await until(lambda: len(io.tasks))
            for number in range(3):
                io.emit("n", number)
                assert await fast.event() == ["n", number]
            assert slow.received() == []
            gate.set()
            assert (await slow.receive_json())[0] == "40"
            assert [await slow.event() for _ in range(3)] == [["n", 0], ["n", 1], ["n", 2]]

    async def test_over_polling_too(self, io: Server) -> None:
        @io.on("connect")
        async def connect(socket: Socket) -> None:
            socket.emit("early")
            await settle()
            io.emit("late")

        async with serve(io) as url, open_polling(url) as polling:
            await polling.post("40")
            packets = (await polling.get()).text.split("\x1e")
            while len(packets) < 3:
                packets += (await polling.get()).text.split("\x1e")
            assert packets[0].startswith("40{")
            assert packets[1:] == ['42["early"]', '42["late"]']

    async def test_one_namespace_holds_nothing_of_another(self, io: Server) -> None:
        gate = asyncio.Event()

        @io.of("/slow").on("connect")
        async def connect(socket: Socket) -> None:
            socket.emit("held")
            await gate.wait()

        async with join_fake(io) as (wire, _):
            await wire.send("40/slow,")
            await until(lambda: connection_of(io).held)
            io.emit("main")
            assert await wire.event() == ["main"]
            gate.set()
            assert (await wire.receive_json())[0] == "40/slow,"
            assert await wire.receive() == '42/slow,["held"]'

    async def test_a_refusal_drops_what_was_held_and_counts_it_no_more(self, io: Server) -> None:
        held: list[int] = []

        @io.of("/no").on("connect")
        async def connect(socket: Socket) -> None:
            socket.emit("secret", "x" * 1000)
            io.of("/no").emit("secret")
            await settle()
            held.append(connection_of(io).held)
            raise ConnectRefused("no")

        async with join_fake(io) as (wire, _):
            await wire.send("40/no,")
            assert await wire.receive() == '44/no,{"message":"no"}'
            assert held[0] > 1000
            await settle()
            connection = connection_of(io)
            assert (connection.held, connection.unsent) == (0, 0)
            io.of("/no").emit("secret")
            io.emit("end")
            assert await wire.event() == ["end"]

    async def test_what_is_held_counts_in_max_buffer(self) -> None:
        gate = asyncio.Event()
        async with Server(max_buffer=10_000) as io:

            @io.on("connect")
            async def connect(socket: Socket) -> None:
                for _ in range(20):
                    socket.emit("x", "x" * 1000)
                await gate.wait()

            async with open_fake(io) as wire:
                await wire.send("40")
                await wire.until_closed()
                gate.set()
            await settle()
            assert_nothing_left(io)

    async def test_one_whole_message_of_a_connect_handler_fits_whatever_its_size(self) -> None:
        async with Server(max_buffer=1000) as io:

            @io.on("connect")
            async def connect(socket: Socket) -> None:
                socket.emit("snapshot", "x" * 5000)
                await settle()

            async with open_fake(io) as wire:
                await wire.send("40")
                assert (await wire.receive_json())[0] == "40"
                assert await wire.event() == ["snapshot", "x" * 5000]

    async def test_volatile_packets_before_connect_are_dropped(self, io: Server) -> None:
        @io.on("connect")
        async def connect(socket: Socket) -> None:
            socket.volatile.emit("volatile")
            io.volatile.emit("volatile")
            io.to(socket.id).volatile.emit("volatile")
            await settle()
            socket.emit("kept")

        async with open_fake(io) as wire:
            await wire.send("40")
            assert (await wire.receive_json())[0] == "40"
            assert await wire.event() == ["kept"]

    async def test_a_socket_that_connects_is_in_no_list_yet(self, io: Server) -> None:
        listed: list[int] = []

        @io.on("connect")
        async def connect(socket: Socket) -> None:
            listed.append(len(io.sockets))

        async with join_fake(io):
            assert (listed, len(io.sockets)) == ([0], 1)

    async def test_disconnecting_in_a_connect_handler_refuses_nothing_later(self, io: Server) -> None:
        """The socket is gone when the handler returns; no CONNECT packet may follow."""

        @io.of("/x").on("connect")
        async def connect(socket: Socket) -> None:
            socket.disconnect()

        async with join_fake(io) as (wire, _):
            await wire.send("40/x,")
            await settle()
            assert not io.of("/x").sockets
            assert not [message for message in wire.received() if str(message).startswith("40")]
            assert len(io.tasks) == 0


class TestGoneWhileConnecting:
    @pytest.mark.parametrize("refuses", [False, True], ids=["succeeds", "refuses"])
    async def test_disconnect_handlers_run_only_if_connect_succeeded(self, io: Server, refuses: bool) -> None:
        gate, started = asyncio.Event(), asyncio.Event()
        reasons = record_reasons(io)
        errors: list[Exception] = []
        io.on_error(lambda error, socket, where: errors.append(error))

        @io.on("connect")
        async def connect(socket: Socket) -> None:
            socket.join("room")
            socket.emit("x")
            started.set()
            await gate.wait()
            socket.join("late")
            socket.emit("late")
            if refuses:
                raise ConnectRefused

        async with open_fake(io) as wire:
            await wire.send("40")
            await started.wait()
            wire.drop()
            await until(lambda: not len(io.sessions))
            assert not io.of("/").adapter.rooms
            assert reasons == []
            gate.set()
        await until(lambda: not len(io.tasks))
        assert reasons == ([] if refuses else [Reason.TRANSPORT_CLOSE])
        assert errors == []
        assert_nothing_left(io)

    @pytest.mark.parametrize("refuses", [False, True], ids=["succeeds", "refuses"])
    @pytest.mark.parametrize("leaves", ["client", "server", "server, connection"])
    async def test_the_sockets_own_handlers_run_as_those_of_the_namespace(self, io: Server, leaves: str, refuses: bool) -> None:
        told: list[tuple[str, str, list[str]]] = []
        sockets: list[Socket] = []
        gate, started = asyncio.Event(), asyncio.Event()

        def tell(whose: str) -> Callable[..., None]:
            return lambda socket, reason: told.append((whose, reason, sorted(socket.rooms - {socket.id})))

        for event in ("disconnecting", "disconnect"):
            io.on(event, tell(f"{event} namespace"))

        @io.on("connect")
        async def connect(socket: Socket) -> None:
            sockets.append(socket)
            socket.join("room")
            for event in ("disconnecting", "disconnect"):
                socket.on(event, partial(tell(f"{event} own"), socket))
            if leaves == "client":
                started.set()
                await gate.wait()
            else:
                socket.disconnect(close="connection" in leaves)
            if refuses:
                raise ConnectRefused

        async with open_fake(io) as wire:
            await wire.send("40")
            if leaves == "client":
                await started.wait()
                wire.drop()
                await until(lambda: not len(io.sessions))
                gate.set()
            await until(lambda: sockets and not len(io.tasks))
            reason = Reason.TRANSPORT_CLOSE if leaves == "client" else Reason.SERVER_NAMESPACE_DISCONNECT
            expected = [("disconnecting namespace", reason, ["room"]), ("disconnecting own", reason, ["room"])]
            expected += [("disconnect namespace", reason, []), ("disconnect own", reason, [])]
            assert sorted(told) == ([] if refuses else sorted(expected))
        assert sockets[0].own is None, "what is registered on a socket holds it"
        assert_nothing_left(io)


class TestConnectTimeout:
    async def test_a_client_that_joins_nothing_is_closed(self) -> None:
        async with Server(connect_timeout=0.02) as io, open_fake(io) as wire:
            await wire.until_closed()
            await settle()
            assert_nothing_left(io)

    async def test_a_refused_client_is_closed_too(self) -> None:
        async with Server(connect_timeout=0.02) as io, open_fake(io) as wire:
            await wire.send("40/unknown,")
            assert (await wire.receive_json())[0] == "44/unknown,"
            await wire.until_closed()

    async def test_a_client_that_has_joined_is_not(self) -> None:
        async with Server(connect_timeout=0.02) as io, join_fake(io), open_fake(io) as idle:
            await idle.until_closed()  # it came later, so the deadline of the first is over
            assert len(io.sockets) == 1

    async def test_a_client_that_joined_and_left_is_not(self) -> None:
        async with Server(connect_timeout=0.02) as io, join_fake(io) as (wire, _), open_fake(io) as idle:
            await wire.send("41")
            await idle.until_closed()
            assert len(io.sessions) == 1


class TestDisconnect:
    @pytest.mark.parametrize(
        ("packet", "reason"),
        [
            ("41", Reason.CLIENT_NAMESPACE_DISCONNECT),
            ("1", Reason.TRANSPORT_CLOSE),
            ("abc", Reason.PARSE_ERROR),
            ("4abc", Reason.FORCED_CLOSE),
            ("40", Reason.FORCED_SERVER_CLOSE),
            ("2", Reason.TRANSPORT_ERROR),
        ],
    )
    async def test_reasons_are_those_of_javascript(self, io: Server, packet: str, reason: Reason) -> None:
        reasons = record_reasons(io)
        async with join_fake(io) as (wire, sid):
            socket = io.sockets[sid]
            await wire.send(packet)
            await until(lambda: reasons)
            assert reasons == [reason]
            assert (socket.reason, socket.connected, socket.rooms) == (reason, False, frozenset())

    async def test_a_lost_wire_is_transport_close(self, io: Server) -> None:
        reasons = record_reasons(io)
        async with join_fake(io) as (wire, _):
            wire.drop()
            await until(lambda: reasons)
        assert reasons == [Reason.TRANSPORT_CLOSE]

    async def test_a_pong_that_does_not_come_is_ping_timeout(self) -> None:
        async with Server(ping_interval=0.01, ping_timeout=0.01) as io:
            reasons = record_reasons(io)
            async with join_fake(io) as (wire, _):
                await wire.until_closed()
            assert reasons == [Reason.PING_TIMEOUT]

    async def test_handlers_take_socket_reason_and_details_as_they_like(self, io: Server) -> None:
        got: list[tuple[object, ...]] = []

        @io.on("disconnect")
        async def one(socket: Socket) -> None:
            got.append((socket.id,))

        @io.on("disconnect")
        async def two(socket: Socket, reason: Reason) -> None:
            got.append((socket.id, reason))

        @io.on("disconnect")
        async def three(socket: Socket, reason: str, details: str | None) -> None:
            got.append((socket.id, reason, details))

        @io.on("disconnect")
        async def untyped(socket, reason, details=None):  # noqa: ANN001, ANN202, RUF100
            got.append((socket.id, reason, details))

        async with join_fake(io) as (wire, sid):
            await wire.send("4abc")
            await until(lambda: len(got) == 4)
        assert got[:2] == [(sid,), (sid, "forced close")]
        assert got[2] == got[3]
        assert got[2][:2] == (sid, "forced close")
        assert isinstance(got[2][2], str)

    async def test_details_are_none_where_there_are_none(self, io: Server) -> None:
        got: list[str | None] = []

        @io.on("disconnect")
        def disconnect(socket: Socket, reason: str, details: str | None) -> None:
            got.append(details)

        async with join_fake(io) as (wire, _):
            await wire.send("41")
            await until(lambda: got)
        assert got == [None]

    async def test_a_disconnect_handler_that_fails_is_called_once_and_reported(self, io: Server) -> None:
        """A peer's server calls it again with fewer arguments when it raises TypeError."""
        called: list[str] = []
        errors: list[tuple[str, str]] = []
        io.on_error(lambda error, socket, where: errors.append((str(error), where)))

        @io.on("disconnect")
        async def failing(socket: Socket, reason: str) -> None:
            called.append("failing")
            raise TypeError("mine")

        @io.on("disconnect")
        async def other(socket: Socket) -> None:
            called.append("other")

        async with join_fake(io) as (wire, _):
            await wire.send("41")
            await until(lambda: len(called) == 2)
        await settle()
        assert (called, errors) == (["failing", "other"], [("mine", "disconnect")])

    async def test_each_socket_of_a_connection_is_told_once(self, io: Server) -> None:
        got: list[str] = []
        for name in ("/", "/a"):

            @io.of(name).on("disconnect")
            async def disconnect(socket: Socket) -> None:
                got.append(socket.namespace.name)

        async with join_fake(io) as (wire, _):
            await join_nsp(wire, "/a")
            await wire.send("1")
            await until(lambda: len(got) == 2)
        await settle()
        assert sorted(got) == ["/", "/a"]

    async def test_the_server_disconnects_from_a_namespace(self, io: Server) -> None:
        reasons = record_reasons(io)
        io.of("/a")
        async with join_fake(io) as (wire, sid):
            await join_nsp(wire, "/a")
            socket = io.sockets[sid]
            socket.emit("last")
            socket.disconnect()
            socket.emit("never")
            socket.disconnect()
            assert [await wire.receive(), await wire.receive()] == ['42["last"]', "41"]
            await until(lambda: reasons)
            io.of("/a").emit("still there")
            assert await wire.receive() == '42/a,["still there"]'
        assert reasons == [Reason.SERVER_NAMESPACE_DISCONNECT]

    async def test_disconnect_with_close_ends_the_connection(self, io: Server) -> None:
        got: list[tuple[str, str]] = []
        for name in ("/", "/a"):

            @io.of(name).on("disconnect")
            async def disconnect(socket: Socket, reason: str) -> None:
                got.append((socket.namespace.name, reason))

        async with join_fake(io) as (wire, sid):
            await join_nsp(wire, "/a")
            io.sockets[sid].emit("last")
            io.sockets[sid].disconnect(close=True)
            assert [await wire.receive() for _ in range(3)] == ['42["last"]', "41", "41/a,"]
            await wire.until_closed()
        await until(lambda: len(got) == 2)
        assert sorted(got) == [(name, "server namespace disconnect") for name in ("/", "/a")]

    async def test_a_socket_that_left_may_join_again(self, io: Server) -> None:
        async with join_fake(io) as (wire, sid):
            await wire.send("41")
            again = await join_nsp(wire)
            assert again != sid
            assert [*io.sockets] == [again]


class TestEngineIO3:
    async def test_the_main_namespace_is_joined_without_asking(self, io: Server) -> None:
        async with open_fake(io, eio=3) as wire:
            assert await wire.receive() == "40"
            assert [*io.sockets] == [connection_of(io).sid]

    async def test_what_was_held_follows(self, io: Server) -> None:
        @io.on("connect")
        async def connect(socket: Socket) -> None:
            socket.emit("early")
            await settle()

        async with open_fake(io, eio=3) as wire:
            assert [await wire.receive(), await wire.receive()] == ["40", '42["early"]']

    async def test_ids_name_namespace_and_connection(self, io: Server) -> None:
        io.of("/chat")
        async with open_fake(io, eio=3) as wire:
            assert await wire.receive() == "40"
            await wire.send("40/chat,")
            assert await wire.receive() == "40/chat,"
            assert [*io.of("/chat").sockets] == [f"/chat#{connection_of(io).sid}"]

    async def test_the_query_of_a_namespace_is_its_auth(self, io: Server) -> None:
        got: list[JSON] = []

        @io.of("/chat").on("connect")
        async def connect(socket: Socket, auth: JSON) -> None:
            got.append(auth)

        async with open_fake(io, eio=3) as wire:
            await wire.receive()
            await wire.send("40/chat?token=a%20b&empty=,")
            assert str(await wire.receive()).startswith("40/chat")
        assert got == [{"token": "a b", "empty": ""}]

    @pytest.mark.parametrize(
        ("refusal", "answer"),
        [
            (ConnectRefused("no"), '44/chat,"no"'),
            (ConnectRefused("no", data={"code": 1}), '44/chat,{"code":1}'),
        ],
    )
    async def test_a_refusal_is_an_error_packet(self, io: Server, refusal: ConnectRefused, answer: str) -> None:
        @io.of("/chat").on("connect")
        async def connect(socket: Socket) -> None:
            raise refusal

        async with open_fake(io, eio=3) as wire:
            await wire.receive()
            await wire.send("40/chat,")
            assert await wire.receive() == answer

    async def test_the_main_namespace_may_be_refused(self, io: Server) -> None:
        @io.on("connect")
        async def connect(socket: Socket) -> None:
            raise ConnectRefused("no")

        async with open_fake(io, eio=3) as wire:
            assert await wire.receive() == '44"no"'

    async def test_an_unknown_namespace_is_an_error_packet(self, io: Server) -> None:
        async with open_fake(io, eio=3) as wire:
            await wire.receive()
            await wire.send("40/unknown,")
            assert await wire.receive() == '44/unknown,"Invalid namespace"'

    async def test_client_pings_are_answered(self, io: Server) -> None:
        async with open_fake(io, eio=3) as wire:
            await wire.receive()
            await wire.send("2")
            assert await wire.receive() == "3"


async def test_sockets_know_what_their_client_sent(io: Server) -> None:
    async with open_fake(io, "token=a&token=b", headers={"x-own": "1"}) as wire:
        sid = await join_nsp(wire)
        socket = io.sockets[sid]
        assert isinstance(wire, FakeWire)
        assert socket.handshake.query["token"] == "b"
        assert socket.handshake.headers["x-own"] == "1"
        assert socket.handshake.address == "192.0.2.1"
        assert socket.transport == "websocket"
        assert socket.rooms == {sid}
