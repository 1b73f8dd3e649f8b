"""Closing a server: nobody new, those who run may finish, everybody is told, nothing is left, and it can start again."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncIterator

import httpx
import pytest

from mizzen import Server, Socket
from mizzen.adapters.recovery import RecoveringAdapter
from mizzen.types import JSON, ASGIApp, Receive, Scope, Send
from tests.server.fake_wire import FakeWire, connection_of, join_fake, open_fake, settle
from tests.support import WITHIN, open_polling, open_wire, serve, until


@pytest.fixture
async def io() -> AsyncIterator[Server]:
    io = Server()
    io.start()
    yield io
    await io.close(0)


class Gate:
    """A handler of the event `work` that waits until it is let through."""

    def __init__(self, io: Server) -> None:
        self.gate = asyncio.Event()
        self.started = 0
        self.cancelled = 0

        @io.on("work")
        async def work(socket: Socket) -> str:
            self.started += 1
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            return "done"


def record_ends(io: Server) -> list[str]:
    reasons: list[str] = []

    @io.on("disconnect")
    async def disconnect(socket: Socket, reason: str) -> None:
        await asyncio.sleep(0)
        reasons.append(reason)

    return reasons


def assert_nothing_left(io: Server) -> None:
    assert len(io.sessions) == 0
    assert len(io.tasks) == 0
    assert len(io.unconnected) == 0
    assert len(io.sessions.draining) == 0
    assert sum(len(deadlines) for deadlines in io.sessions.heartbeats.values()) == 0
    for namespace in io.namespaces.values():
        assert not namespace.sockets
        assert not namespace.adapter.rooms
    assert io not in Server.running()


class TestGoodbye:
    async def test_sockets_get_the_reason_and_clients_see_transport_close(self, io: Server) -> None:
        reasons = record_ends(io)
        async with join_fake(io) as (one, _), join_fake(io) as (two, _), open_fake(io) as idle:
            io.emit("last")
            await io.close()
            for wire in (one, two):
                assert await wire.receive() == '42["last"]'
                assert await wire.receive_any() is None  # no DISCONNECT packet: the client shall come back by itself
                assert wire.close_code == 1000
            assert await idle.until_closed() == 1000
        assert reasons == ["server shutting down"] * 2
        assert_nothing_left(io)

    async def test_running_handlers_finish_and_their_acks_arrive(self, io: Server) -> None:
        gate = Gate(io)
        reasons = record_ends(io)
        async with join_fake(io) as (wire, _):
            await wire.send('421["work"]')
            await until(lambda: gate.started)
            closing = asyncio.create_task(io.close(WITHIN))
            await settle()
            assert not closing.done()
            assert reasons == []
            gate.gate.set()
            await closing
            assert [await wire.receive(), await wire.receive_any()] == ['431["done"]', None]
        assert reasons == ["server shutting down"]
        assert gate.cancelled == 0

    async def test_plain_handlers_finish_too(self, io: Server) -> None:
        started, gate = threading.Event(), threading.Event()

        @io.on("work")
        def work(socket: Socket) -> str:
            started.set()
            gate.wait(WITHIN)
            return "done"

        async with join_fake(io) as (wire, _):
            await wire.send('421["work"]')
            await until(started.is_set)
            closing = asyncio.create_task(io.close(WITHIN))
            await settle()
            gate.set()
            await closing
            assert [await wire.receive(), await wire.receive_any()] == ['431["done"]', None]

    async def test_running_requests_finish_and_their_answers_arrive(self) -> None:
        gate, started = asyncio.Event(), asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            started.set()
            await gate.wait()
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"ok"})

        io = Server(app)
        async with io, join_fake(io) as (wire, _):
            await wire.send('421["get",{"url":"/"}]')
            await started.wait()
            closing = asyncio.create_task(io.close(WITHIN))
            await settle()
            gate.set()
            await closing
            prefix, (answer,) = await wire.receive_json()
            assert (prefix, answer["statusCode"], answer["body"]) == ("431", 200, "ok")

    async def test_a_running_handler_may_still_ask_its_client(self, io: Server) -> None:
        started = asyncio.Event()

        @io.on("work")
        async def work(socket: Socket) -> JSON:
            started.set()
            await settle()
            return await socket.call("ask")

        async with join_fake(io) as (wire, _):
            await wire.send('421["work"]')
            await started.wait()
            closing = asyncio.create_task(io.close(WITHIN))
            assert await wire.receive() == '420["ask"]'
            await wire.send("430[5]")
            assert await wire.receive() == "431[5]"
            await closing

    async def test_disconnect_handlers_finish(self, io: Server) -> None:
        ended: list[str] = []

        @io.on("disconnect")
        async def disconnect(socket: Socket) -> None:
            await settle()
            ended.append(socket.id)

        async with join_fake(io) as (_, sid):
            await io.close()
        assert ended == [sid]

    @pytest.mark.parametrize(("eio", "packets"), [(3, '10:42["last"]1:1'), (4, '42["last"]\x1e1')])
    async def test_a_poll_that_waits_is_answered_with_what_is_left_and_a_close_packet(self, io: Server, eio: int, packets: str) -> None:
        async with serve(io) as url, open_polling(url, eio=eio) as polling:
            if eio == 4:
                await polling.post("40")
                await polling.get()
            poll = asyncio.create_task(polling.get())
            await until(lambda: connection_of(io).transport.writable)
            io.emit("last")
            await io.close(WITHIN)
            assert (await poll).text == packets
        assert_nothing_left(io)

    async def test_what_no_poll_waits_for_is_kept_for_the_next(self, io: Server) -> None:
        async with serve(io) as url, open_polling(url) as polling:
            await polling.post("40")
            await polling.get()
            io.emit("last")
            closing = asyncio.create_task(io.close(WITHIN))
            await settle()
            assert not closing.done()
            assert (await polling.get()).text == '42["last"]\x1e1'
            await closing
        assert_nothing_left(io)

    @pytest.mark.parametrize("eio", [3, 4])
    async def test_a_polling_client_gets_the_ack_of_a_running_handler_and_then_a_close_packet(self, io: Server, eio: int) -> None:
        """A client that is just coming for its next poll must see `transport close`, not an error of the transport."""
        gate = Gate(io)
        async with serve(io) as url, open_polling(url, eio=eio) as polling:
            if eio == 4:
                await polling.post("40")
                await polling.get()
            packet = '421["work"]'
            await polling.post(packet if eio == 4 else f"{len(packet)}:{packet}")
            await until(lambda: gate.started)
            got: list[str] = []

            async def poll() -> None:
                while (response := await polling.get()).status_code == 200:
                    got.append(response.text)

            polls = asyncio.create_task(poll())
            closing = asyncio.create_task(io.close(WITHIN))
            await settle()
            gate.gate.set()
            await closing
            await polls
            assert got[0].removeprefix("11:").startswith('431["done"]')
            assert got[-1].endswith("1")
        assert_nothing_left(io)

    async def test_a_polling_client_that_polls_not_holds_nobody_up(self, io: Server) -> None:
        reasons = record_ends(io)
        async with serve(io) as url, open_polling(url) as polling:
            await polling.post("40")
            await polling.get()
            async with asyncio.timeout(WITHIN / 2):  # far less than the grace time
                await io.close(WITHIN)
            assert reasons == ["server shutting down"]
            assert_nothing_left(io)

    async def test_over_a_real_network(self, io: Server) -> None:
        async with serve(io) as url, open_wire(url) as wire:
            await wire.send("40")
            await wire.receive()
            await io.close()
            assert await wire.until_closed() == 1000


class TestNobodyNew:
    async def test_new_handshakes_are_answered_with_503(self, io: Server) -> None:
        gate = Gate(io)
        async with serve(io) as url, join_fake(io) as (wire, _):
            await wire.send('42["work"]')
            await until(lambda: gate.started)
            closing = asyncio.create_task(io.close(WITHIN))
            await settle()
            async with httpx.AsyncClient(trust_env=False) as http:
                response = await http.get(f"{url}/socket.io/?EIO=4&transport=polling")
            assert response.status_code == 503
            assert await FakeWire(io, "", {}, 4).until_closed() == 503
            gate.gate.set()
            await closing

    async def test_the_wrapped_app_still_answers(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        io = Server(app)
        gate = Gate(io)
        async with serve(io, lifespan="off") as url:
            io.start()
            async with join_fake(io) as (wire, _):
                await wire.send('42["work"]')
                await until(lambda: gate.started)
                closing = asyncio.create_task(io.close(WITHIN))
                await settle()
                async with httpx.AsyncClient(trust_env=False) as http:
                    assert (await http.get(f"{url}/")).status_code == 204
                gate.gate.set()
                await closing

    async def test_no_new_events_are_handled(self, io: Server) -> None:
        gate = Gate(io)
        async with join_fake(io) as (wire, _):
            await wire.send('421["work"]')
            await until(lambda: gate.started)
            closing = asyncio.create_task(io.close(WITHIN))
            await settle()
            await wire.send('422["work"]')
            await settle()
            gate.gate.set()
            await closing
            assert gate.started == 1
            assert [await wire.receive(), await wire.receive_any()] == ['431["done"]', None]


class TestGrace:
    async def test_handlers_that_do_not_end_are_cancelled(self, io: Server, caplog: pytest.LogCaptureFixture) -> None:
        gate = Gate(io)
        async with join_fake(io) as (wire, _):
            await wire.send('421["work"]')
            await until(lambda: gate.started)
            await io.close(0.01)
            assert gate.cancelled == 1
            assert await wire.receive_any() is None
        assert "did not end within the grace time" in caplog.text
        assert_nothing_left(io)

    async def test_requests_that_do_not_end_are_cancelled(self) -> None:
        ends: list[str] = []
        started = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ends.append("cancelled")
                raise

        io = Server(app)
        io.start()
        async with join_fake(io) as (wire, _):
            await wire.send('421["get",{"url":"/"}]')
            await started.wait()
            await io.close(0.01)
            assert ends == ["cancelled"]
            assert await wire.receive_any() is None
        assert_nothing_left(io)

    async def test_the_option_close_grace_is_the_default(self) -> None:
        io = Server(close_grace=0.01)
        io.start()
        gate = Gate(io)
        async with join_fake(io) as (wire, _):
            await wire.send('421["work"]')
            await until(lambda: gate.started)
            await asyncio.wait_for(io.close(), WITHIN / 2)
        assert gate.cancelled == 1

    async def test_disconnect_handlers_run_though_another_handler_used_the_grace_time_up(self, io: Server) -> None:
        gate = Gate(io)
        started: list[str] = []

        @io.on("disconnect")
        async def disconnect(socket: Socket, reason: str) -> None:
            started.append(reason)

        async with join_fake(io) as (wire, _):
            await wire.send('421["work"]')
            await until(lambda: gate.started)
            await io.close(0.01)
        assert started == ["server shutting down"]

    async def test_a_connect_handler_that_does_not_end_is_cancelled(self, io: Server) -> None:
        started = asyncio.Event()
        reasons = record_ends(io)

        @io.on("connect")
        async def connect(socket: Socket) -> None:
            started.set()
            await asyncio.Event().wait()

        async with open_fake(io) as wire:
            await wire.send("40")
            await started.wait()
            await io.close(0.01)
            assert await wire.receive_any() is None
        assert reasons == []
        assert_nothing_left(io)

    async def test_a_plain_handler_that_does_not_end_is_not_waited_for(self, io: Server) -> None:
        started, gate = threading.Event(), threading.Event()

        @io.on("work")
        def work(socket: Socket) -> None:
            started.set()
            gate.wait(WITHIN)

        try:
            async with join_fake(io) as (wire, _):
                await wire.send('421["work"]')
                await until(started.is_set)
                await asyncio.wait_for(io.close(0.01), WITHIN / 2)
        finally:
            gate.set()

    async def test_a_client_that_does_not_read_is_not_waited_for(self, io: Server) -> None:
        async with join_fake(io) as (wire, _):
            wire.stall()
            io.emit("x")
            await settle()
            await asyncio.wait_for(io.close(0.01), WITHIN / 2)
            assert_nothing_left(io)


class TestAgain:
    @pytest.mark.parametrize("thread", [False, True])
    async def test_it_starts_again_in_the_same_process(self, thread: bool) -> None:
        io = Server()

        @io.on("echo")
        async def echo(socket: Socket, word: str) -> str:
            socket.join("room")
            io.to("room").emit("heard", word)
            return word

        async def life() -> None:
            async with io, join_fake(io) as (wire, _):
                await wire.send('421["echo","a"]')
                assert [await wire.receive(), await wire.receive()] == ['42["heard","a"]', '431["a"]']

        await life()
        assert_nothing_left(io)
        await (asyncio.to_thread(asyncio.run, life()) if thread else life())
        await life()
        assert_nothing_left(io)

    async def test_closing_twice_is_harmless(self, io: Server) -> None:
        async with join_fake(io):
            await io.close()
            await io.close()
        await Server().close()

    async def test_closing_at_once_from_two_places_waits_for_both(self, io: Server) -> None:
        gate = Gate(io)
        async with join_fake(io) as (wire, _):
            await wire.send('421["work"]')
            await until(lambda: gate.started)
            closings = [asyncio.create_task(io.close(WITHIN)) for _ in range(2)]
            await settle()
            assert not any(closing.done() for closing in closings)
            gate.gate.set()
            await asyncio.gather(*closings)
        assert_nothing_left(io)

    async def test_starting_twice_is_harmless(self, io: Server) -> None:
        async with join_fake(io):
            io.start()
            assert len(io.sockets) == 1

    async def test_a_handler_may_close_the_server(self, io: Server) -> None:
        closed: list[bool] = []

        @io.on("close")
        async def close(socket: Socket) -> None:
            await io.close(WITHIN)
            closed.append(True)

        async with join_fake(io) as (wire, _):
            await wire.send('42["close"]')
            await wire.until_closed()
            await until(lambda: closed)
        await settle()
        assert_nothing_left(io)

    async def test_async_with_starts_and_closes(self) -> None:
        io = Server()
        reasons = record_ends(io)
        async with io:
            assert io in Server.running()
            wire = FakeWire(io, "", {}, 4)
            await wire.receive()
            await wire.send("40")
            await wire.receive()
        assert reasons == ["server shutting down"]
        await wire.task
        assert_nothing_left(io)

    async def test_the_lifespan_starts_and_closes(self) -> None:
        io = Server()
        reasons = record_ends(io)
        async with serve(io) as url:
            assert io in Server.running()
            async with open_wire(url) as wire:
                await wire.send("40")
                await wire.receive()
                await until(lambda: io.sockets)
                await io.close()
        assert reasons == ["server shutting down"]
        assert_nothing_left(io)

    async def test_no_task_is_left(self) -> None:
        before = asyncio.all_tasks()
        app: ASGIApp | None = None
        io = Server(app)
        gate = Gate(io)
        async with io:
            async with join_fake(io) as (wire, _), join_fake(io), open_fake(io):
                await wire.send('42["work"]', '42["work"]')
                await until(lambda: gate.started == 2)
                await io.close(0.01)
        await settle()
        assert asyncio.all_tasks() == before

    async def test_what_threads_ask_of_a_server_that_has_closed_is_dropped(self) -> None:
        io = Server(connection_state_recovery=True)
        async with io:
            io.emit("kept")
        io.emit("too late")
        await asyncio.to_thread(io.emit, "too late")
        await settle()
        adapter = io.of("/").adapter
        assert isinstance(adapter, RecoveringAdapter)
        assert adapter.expire() is None
        assert len(adapter._sent) == 0

    def test_what_threads_ask_of_a_loop_that_was_closed_does_not_pile_up(self) -> None:
        class Asked:
            def do(self) -> None: ...

        io = Server()

        async def start() -> None:
            io.start()

        asyncio.run(start())
        asked = [Asked() for _ in range(3)]
        left = [weakref.ref(each) for each in asked]

        def post() -> None:
            while asked:
                io.post(asked.pop().do)

        thread = threading.Thread(target=post)
        thread.start()
        thread.join()
        assert [each() for each in left] == [None] * 3
