"""How many handlers of a connection run at once, and what becomes of what comes meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mizzen import Reason, Server, Socket
from mizzen.types import Receive, Scope, Send
from tests.server.fake_wire import connection_of, join_fake, multiplexer_of, settle
from tests.support import open_polling, serve, until


class Gated:
    """A handler of the event `n` that writes down its argument and waits until it is let through."""

    def __init__(self, io: Server) -> None:
        self.started: list[int] = []
        self.ended: list[int] = []
        self._gate = asyncio.Semaphore(0)

        @io.on("n")
        async def n(socket: Socket, number: int, ballast: str = "") -> int:
            self.started.append(number)
            await self._gate.acquire()
            self.ended.append(number)
            return number

    def let(self, handlers: int) -> None:
        for _ in range(handlers):
            self._gate.release()


class App:
    """A web app whose answers wait until they are let through."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.gate = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.started.append(scope["path"])
        await self.gate.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"ok"})


class TestMaxHandlers:
    async def test_so_many_run_at_once_and_the_others_follow_in_order(self) -> None:
        async with Server(max_handlers=2) as io:
            gated = Gated(io)
            async with join_fake(io) as (wire, _):
                await wire.send(*[f'42{number}["n",{number}]' for number in range(6)])
                await settle()
                assert gated.started == [0, 1]
                assert len(multiplexer_of(io).inbox) == 4
                gated.let(1)
                assert await wire.receive() == "430[0]"
                await settle()
                assert gated.started == [0, 1, 2]
                gated.let(5)
                assert [await wire.receive() for _ in range(5)] == [f"43{number}[{number}]" for number in range(1, 6)]
                assert gated.started == [*range(6)]
                multiplexer = multiplexer_of(io)
                await until(lambda: not multiplexer.running)
                assert (len(multiplexer.inbox), multiplexer.inbox_size) == (0, 0)

    async def test_it_counts_for_each_connection(self) -> None:
        async with Server(max_handlers=1) as io:
            gated = Gated(io)
            async with join_fake(io) as (one, _), join_fake(io) as (two, _):
                await one.send('42["n",1]', '42["n",2]')
                await two.send('42["n",3]', '42["n",4]')
                await settle()
                assert sorted(gated.started) == [1, 3]
                gated.let(4)

    async def test_all_namespaces_of_a_connection_share_it(self) -> None:
        started: list[str] = []
        gate = asyncio.Event()
        async with Server(max_handlers=1) as io:
            for name in ("/", "/a"):

                @io.of(name).on("x")
                async def x(socket: Socket) -> None:
                    started.append(socket.namespace.name)
                    await gate.wait()

            async with join_fake(io) as (wire, _):
                await wire.send("40/a,")
                await wire.receive()
                await wire.send('42["x"]', '42/a,["x"]')
                await settle()
                assert started == ["/"]
                gate.set()
                await until(lambda: len(started) == 2)

    async def test_a_handler_that_fails_makes_room(self) -> None:
        async with Server(max_handlers=1) as io:

            @io.on("x")
            async def x(socket: Socket, number: int) -> int:
                await asyncio.sleep(0)
                if number % 2:
                    raise ValueError
                return number

            async with join_fake(io) as (wire, _):
                await wire.send(*[f'42{number}["x",{number}]' for number in range(6)])
                acks = [await wire.receive_json() for _ in range(6)]
                assert [prefix for prefix, _ in acks] == [f"43{number}" for number in range(6)]

    async def test_thousands_of_events_are_handled_in_order_without_recursion(self) -> None:
        got: list[int] = []
        async with Server(max_handlers=1) as io:

            @io.on("x")
            async def x(socket: Socket, number: int) -> None:
                got.append(number)
                if number == 0:
                    await settle()

            async with join_fake(io) as (wire, _):
                await wire.send(*[f'42["x",{number}]' for number in range(5000)])
                await until(lambda: len(got) == 5000)
        assert got == [*range(5000)]

    @pytest.mark.parametrize("end", ["41", "1"], ids=["socket", "connection"])
    async def test_what_waits_is_dropped_when_its_socket_or_connection_goes(self, end: str) -> None:
        async with Server(max_handlers=1) as io:
            gated = Gated(io)
            async with join_fake(io) as (wire, _):
                multiplexer = multiplexer_of(io)
                await wire.send('42["n",1]', '42["n",2]', '42["n",3]')
                await until(lambda: gated.started)
                await wire.send(end)
                await until(lambda: not io.sockets)
                gated.let(3)
                await until(lambda: not len(io.tasks))
                await until(lambda: not multiplexer.inbox)
                await settle()
                assert gated.started == [1]
                assert (multiplexer.running, multiplexer.inbox_size) == (0, 0)
                assert len(io.sessions) == (end == "41")


class TestNotHeldUp:
    async def test_acks_pongs_and_close_are_handled_at_once(self) -> None:
        async with Server(max_handlers=1, ping_interval=0.01) as io:
            gated = Gated(io)
            async with join_fake(io) as (wire, sid):
                await wire.send('42["n",1]', '42["n",2]')
                await settle()
                call = asyncio.create_task(io.sockets[sid].call("ask"))
                pings = acked = 0
                while pings < 3 or not acked:
                    message = await wire.receive_any()
                    if message == "2":  # the next one comes only if its pong was taken
                        pings += 1
                        await wire.send("3")
                    else:
                        assert message == '420["ask"]'
                        await wire.send("430[5]")
                        acked += 1
                assert await call == 5
                assert gated.started == [1]
                await wire.send("1")
                await wire.until_closed()
                assert len(io.sessions) == 0
                gated.let(2)

    async def test_a_hundred_handlers_that_call_their_client_over_websocket(self) -> None:
        async with Server(max_handlers=100) as io:
            add_asking(io)
            async with join_fake(io) as (wire, _):
                await wire.send(*[f'42{number}["x",{number}]' for number in range(150)])
                for number in range(150):
                    prefix, data = await wire.receive_json()
                    while prefix.startswith("43"):  # an ack of an earlier one
                        prefix, data = await wire.receive_json()
                    assert data == ["ask", number]
                    await wire.send(f"43{prefix[2:]}[{number}]")
                multiplexer = multiplexer_of(io)
                await until(lambda: not multiplexer.running)
                assert (len(multiplexer.inbox), multiplexer.inbox_size) == (0, 0)

    async def test_a_hundred_handlers_that_call_their_client_over_polling(self) -> None:
        async with Server(max_handlers=100) as io:
            add_asking(io)
            async with serve(io) as url, open_polling(url) as polling:
                await polling.post("40")
                await polling.get()
                await polling.post("\x1e".join([f'42{number}["x",{number}]' for number in range(150)]))
                asked = acked = 0
                while acked < 150:
                    answers: list[str] = []
                    for packet in (await polling.get()).text.split("\x1e"):
                        if packet.startswith("43"):
                            acked += 1
                        else:
                            answers.append(f"43{packet[2 : packet.index('[')]}[1]")
                            asked += 1
                    if answers:
                        assert (await polling.post("\x1e".join(answers))).text == "ok"
                assert asked == 150


def add_asking(io: Server) -> None:
    """Add a handler that asks its client before it answers."""

    @io.on("x")
    async def x(socket: Socket, number: int) -> Any:
        return await socket.call("ask", number)


BALLAST = "x" * 500


def heavy(number: int) -> str:
    return f'42{number}["n",{number},"{BALLAST}"]'


class TestMaxBuffer:
    async def test_reading_stops_when_the_inbox_is_full_and_goes_on_later(self) -> None:
        async with Server(max_handlers=1, max_buffer=2000) as io:
            gated = Gated(io)
            async with join_fake(io) as (wire, _):
                before = wire.read
                await wire.send(*[heavy(number) for number in range(20)])
                await settle()
                assert connection_of(io).paused
                assert wire.read - before < 8  # one that runs, and what makes 2,000 bytes
                assert multiplexer_of(io).inbox_size < 2000 + len(heavy(10))
                gated.let(20)
                assert [(await wire.receive_json())[0] for _ in range(20)] == [f"43{number}" for number in range(20)]
                assert gated.ended == [*range(20)]
                assert not connection_of(io).paused

    async def test_others_read_on(self) -> None:
        async with Server(max_handlers=1, max_buffer=2000) as io:
            gated = Gated(io)

            @io.on("other")
            async def other(socket: Socket) -> int:
                return 1

            async with join_fake(io) as (full, _), join_fake(io) as (wire, _):
                await full.send(*[heavy(number) for number in range(20)])
                await settle()
                assert await wire.ask("other") == [1]
                gated.let(20)

    async def test_the_heartbeat_is_suspended_meanwhile(self) -> None:
        async with Server(max_handlers=1, max_buffer=2000, ping_interval=0.02, ping_timeout=0.02) as io:
            gated = Gated(io)
            async with join_fake(io) as (wire, _):
                connection = connection_of(io)
                await wire.send(*[heavy(number) for number in range(20)])
                await until(lambda: connection.paused)
                for _ in range(3):
                    async with join_fake(io) as (silent, _):
                        assert (await silent.until_closed()) == 1000  # its pong is overdue, and so would be that of the other
                assert not connection.gone
                gated.let(20)
                for _ in range(20):
                    await wire.receive()
                while await wire.receive_any() != "2":  # the heartbeat goes on,
                    pass
                await wire.until_closed()  # and misses the pong

    async def test_a_post_is_answered_once_its_messages_fit(self) -> None:
        async with Server(max_handlers=1, max_buffer=2000, close_grace=0.01) as io:
            gated = Gated(io)
            async with serve(io) as url, open_polling(url) as polling:
                await polling.post("40")
                await polling.get()
                assert (await polling.post(heavy(0))).text == "ok"
                post = asyncio.create_task(polling.post("\x1e".join([heavy(number) for number in range(1, 20)])))
                await until(lambda: connection_of(io).paused)
                await settle()
                assert not post.done()
                gated.let(20)
                assert (await post).text == "ok"
                await until(lambda: len(gated.ended) == 20)
                assert gated.ended == [*range(20)]

    async def test_the_server_may_close_it_while_full(self) -> None:
        async with Server(max_handlers=1, max_buffer=2000) as io:
            gated = Gated(io)
            async with join_fake(io) as (wire, sid):
                await wire.send(*[heavy(number) for number in range(20)])
                await until(lambda: connection_of(io).paused)
                io.sockets[sid].disconnect(close=True)
                await wire.until_closed()
                await until(lambda: not len(io.sessions))
                gated.let(20)
                await until(lambda: not len(io.tasks))
                assert gated.started == [0]

    async def test_a_client_that_goes_while_full_leaves_nothing(self) -> None:
        async with Server(max_handlers=1, max_buffer=2000) as io:
            gated = Gated(io)
            async with join_fake(io) as (wire, _):
                await wire.send(*[heavy(number) for number in range(20)])
                await until(lambda: connection_of(io).paused)
                wire.drop()
                gated.let(20)
                await until(lambda: not len(io.sessions))
                await until(lambda: not len(io.tasks))

    async def test_a_client_that_goes_while_full_is_noticed_though_all_handlers_wait_for_it(self) -> None:
        """Else a client that fills its inbox and is gone stays for ever: nothing is read, and no heartbeat runs."""
        async with Server(max_handlers=1, max_buffer=2000) as io:

            @io.on("n")
            async def n(socket: Socket, number: int, ballast: str) -> None:
                await socket.call("ask")

            async with join_fake(io) as (wire, _):
                number = 0
                while not connection_of(io).paused:
                    await wire.send(heavy(number))
                    await settle(5)
                    number += 1
                wire.drop()
                try:
                    await until(lambda: not len(io.sessions))
                finally:
                    for connection in list(io.sessions.connections.values()):
                        connection.lost(Reason.TRANSPORT_CLOSE)


class TestRequests:
    @pytest.mark.parametrize("first", ["request", "event"])
    async def test_requests_count_in_max_handlers(self, first: str) -> None:
        app = App()
        async with Server(app, max_handlers=1) as io:
            gated = Gated(io)
            async with join_fake(io) as (wire, _):
                request, event = '421["get",{"url":"/a"}]', '422["n",2]'
                await wire.send(*((request, event) if first == "request" else (event, request)))
                await settle()
                assert (app.started, gated.started) == ((["/a"], []) if first == "request" else ([], [2]))
                app.gate.set()
                gated.let(1)
                assert {(await wire.receive_json())[0] for _ in range(2)} == {"431", "432"}

    async def test_max_requests_answers_429_before_the_inbox(self) -> None:
        app = App()
        async with Server(app, max_handlers=1, max_requests=2) as io:
            gated = Gated(io)
            async with join_fake(io) as (wire, _):
                await wire.send(*[f'42{number}["get",{{"url":"/{number}"}}]' for number in range(4)], '427["n",7]')
                for number in (2, 3):
                    prefix, (answer,) = await wire.receive_json()
                    assert (prefix, answer["statusCode"]) == (f"43{number}", 429)
                    assert answer["headers"] == {}
                assert app.started == ["/0"]
                app.gate.set()
                gated.let(1)
                assert [(await wire.receive_json())[0] for _ in range(3)] == ["430", "431", "437"]
                await wire.send('428["get",{"url":"/8"}]')  # there is room again
                _, (answer,) = await wire.receive_json()
                assert answer["statusCode"] == 200
                await settle()
                assert multiplexer_of(io).requests == 0

    async def test_a_verb_with_a_handler_is_no_request_to_count(self) -> None:
        async with Server(App(), max_requests=1) as io:

            @io.on("get")
            async def get(socket: Socket, data: dict[str, str]) -> str:
                return data["url"]

            async with join_fake(io) as (wire, _):
                for number in range(3):
                    assert await wire.ask("get", {"url": str(number)}) == [str(number)]

    async def test_requests_that_wait_are_given_back_with_their_socket(self) -> None:
        app = App()
        async with Server(app, max_handlers=1, max_requests=2) as io:
            async with join_fake(io) as (wire, _):
                await wire.send('421["get",{"url":"/1"}]', '422["get",{"url":"/2"}]', "41")
                await until(lambda: not io.sockets)
                app.gate.set()
                await until(lambda: not len(io.tasks))
                await settle()
                assert multiplexer_of(io).requests == 0
                assert app.started == ["/1"]
