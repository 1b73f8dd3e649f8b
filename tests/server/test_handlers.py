"""Handlers of events: order, threads, arguments, results, and what becomes of their errors."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import re
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest

from mizzen import JSON, ArgumentsInvalid, EventRefused, LocalProtocolError, Server, Socket
from mizzen.protocol.packet import RESERVED_EVENTS
from tests.server.fake_wire import FakeWire, join_fake, multiplexer_of, settle
from tests.support import WITHIN, open_polling, serve, until

E_HANDLER = {"error": {"code": "E_HANDLER", "message": "the handler failed", "details": []}}


@pytest.fixture
async def io() -> AsyncIterator[Server]:
    async with Server() as io:
        io.on("sync", sync)
        yield io


async def sync(socket: Socket) -> int:
    return 1


async def synced(wire: FakeWire) -> None:
    """Have the server handle everything sent so far; nothing else may have come."""
    assert await wire.ask("sync", id=999) == [1]


class TestOrder:
    async def test_handlers_start_in_order_of_arrival(self, io: Server) -> None:
        started: list[int] = []
        gate = asyncio.Event()

        @io.on("n")
        async def n(socket: Socket, number: int) -> None:
            started.append(number)
            await gate.wait()

        async with join_fake(io) as (wire, _):
            await wire.send(*[f'42["n",{number}]' for number in range(50)])
            await synced(wire)
            assert started == [*range(50)]
            gate.set()

    async def test_a_slow_handler_does_not_hold_up_the_next(self, io: Server) -> None:
        gate = asyncio.Event()

        @io.on("slow")
        async def slow(socket: Socket) -> str:
            await gate.wait()
            return "slow"

        async with join_fake(io) as (wire, _):
            await wire.send('421["slow"]')
            await synced(wire)
            gate.set()
            assert await wire.receive() == '431["slow"]'

    async def test_what_a_handler_emits_comes_before_its_ack(self, io: Server) -> None:
        @io.on("talk")
        async def talk(socket: Socket) -> int:
            socket.emit("first")
            await asyncio.sleep(0)
            io.emit("second")
            return 3

        async with join_fake(io) as (wire, _):
            await wire.send('421["talk"]')
            assert [await wire.receive() for _ in range(3)] == ['42["first"]', '42["second"]', "431[3]"]


class TestThreads:
    async def test_a_plain_function_runs_in_a_worker_thread(self, io: Server) -> None:
        @io.on("thread")
        def thread(socket: Socket) -> bool:
            return threading.get_ident() == io._thread

        async with join_fake(io) as (wire, _):
            assert await wire.ask("thread") == [False]

    async def test_plain_functions_of_one_socket_run_one_after_another_in_order(self, io: Server) -> None:
        entered: list[int] = []
        gate = threading.Event()

        @io.on("n")
        def n(socket: Socket, number: int) -> None:
            entered.append(number)
            gate.wait(WITHIN)

        async with join_fake(io) as (wire, _):
            await wire.send(*[f'42["n",{number}]' for number in range(5)])
            await until(lambda: entered)
            for _ in range(20):
                await synced(wire)
            assert entered == [0]
            gate.set()
            await until(lambda: len(entered) == 5)
            assert entered == [*range(5)]

    async def test_plain_functions_of_two_sockets_run_at_once(self, io: Server) -> None:
        both = threading.Barrier(2)

        @io.on("meet")
        def meet(socket: Socket) -> str:
            both.wait(WITHIN)
            return "met"

        async with join_fake(io) as (one, _), join_fake(io) as (two, _):
            assert await asyncio.gather(one.ask("meet"), two.ask("meet")) == [["met"], ["met"]]

    async def test_a_plain_function_blocks_no_async_one(self, io: Server) -> None:
        gate = threading.Event()

        @io.on("block")
        def block(socket: Socket) -> str:
            gate.wait(WITHIN)
            return "unblocked"

        async with join_fake(io) as (wire, _):
            await wire.send('421["block"]')
            await synced(wire)
            gate.set()
            assert await wire.receive() == '431["unblocked"]'

    async def test_max_threads_bounds_plain_functions(self) -> None:
        entered: list[str] = []
        gate = threading.Event()
        async with Server(max_threads=1) as io:

            @io.on("block")
            def block(socket: Socket) -> None:
                entered.append(socket.id)
                gate.wait(WITHIN)

            io.on("sync", sync)
            async with join_fake(io) as (one, _), join_fake(io) as (two, _):
                await one.send('42["block"]')
                await until(lambda: entered)
                await two.send('42["block"]')
                for _ in range(20):
                    await synced(two)
                assert len(entered) == 1
                gate.set()
                await until(lambda: len(entered) == 2)


seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="nothing")


class TestContext:
    @pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
    async def test_context_does_not_leak_from_one_event_to_the_next(self, io: Server, plain: bool) -> None:
        def mark(socket: Socket) -> str:
            before = seen.get()
            seen.set("leaked")
            return before

        async def async_mark(socket: Socket) -> str:
            return mark(socket)

        io.on("mark", mark if plain else async_mark)
        async with join_fake(io) as (wire, _):
            assert [await wire.ask("mark"), await wire.ask("mark")] == [["nothing"]] * 2
        assert seen.get() == "nothing"

    async def test_context_does_not_leak_between_events_of_one_post(self, io: Server) -> None:
        @io.on("mark")
        async def mark(socket: Socket) -> str:
            before = seen.get()
            seen.set("leaked")
            return before

        async with serve(io) as url, open_polling(url) as polling:
            await polling.post("40")
            await polling.get()
            await polling.post('420["mark"]\x1e421["mark"]')
            assert (await polling.get()).text == '430["nothing"]\x1e431["nothing"]'

    async def test_context_does_not_leak_from_connect_handlers(self, io: Server) -> None:
        @io.on("connect")
        async def connect(socket: Socket) -> None:
            seen.set("leaked")

        @io.on("look")
        async def look(socket: Socket) -> str:
            return seen.get()

        async with join_fake(io) as (wire, _):
            assert await wire.ask("look") == ["nothing"]


class TestSeveralHandlers:
    async def test_all_run_in_order_of_registration(self, io: Server) -> None:
        ran: list[int] = []
        for number in range(3):

            async def handler(socket: Socket, number: int = number) -> None:
                ran.append(number)

            io.on("x", handler)
        async with join_fake(io) as (wire, _):
            await wire.send('42["x"]')
            await synced(wire)
        assert ran == [0, 1, 2]

    @pytest.mark.parametrize(
        ("results", "ack"),
        [
            ([None, 2, 3], [2]),
            ([None, None], []),
            ([None, (1, 2)], [1, 2]),
            ([0, 1], [0]),
            ([None, False, None], [False]),
            ([ValueError(), 2], [2]),
            ([1, ValueError()], [1]),
            ([ValueError(), None], [E_HANDLER]),
            ([None, ValueError()], [E_HANDLER]),
            ([ValueError(), ValueError()], [E_HANDLER]),
            ([object(), None], [E_HANDLER]),
            ([None, object()], [E_HANDLER]),
        ],
        ids=lambda value: re.sub(" object at 0x[0-9a-f]+", "", repr(value)),
    )
    @pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
    async def test_the_first_result_that_is_not_none_acks(self, io: Server, results: list[Any], ack: list[Any], plain: bool) -> None:
        ran: list[object] = []
        for result in results:

            def handler(socket: Socket, result: Any = result) -> Any:
                ran.append(result)
                if isinstance(result, Exception):
                    raise result
                return result

            async def async_handler(socket: Socket, result: Any = result) -> Any:
                ran.append(result)
                if isinstance(result, Exception):
                    raise result
                return result

            io.on("x", handler if plain else async_handler)
        async with join_fake(io) as (wire, _):
            assert await wire.ask("x") == ack
            await synced(wire)  # one ack only
            await until(lambda: len(ran) == len(results))
            await until(lambda: multiplexer_of(io).running == 0)


class TestRefusing:
    @pytest.mark.parametrize("plain", [False, True])
    @pytest.mark.parametrize("debug", [False, True])
    async def test_what_an_event_refused_says_is_told(self, caplog: pytest.LogCaptureFixture, plain: bool, debug: bool) -> None:
        io = Server(debug=debug)
        told: list[str] = []

        def refuse(socket: Socket) -> None:
            raise EventRefused("sold out", details=[{"left": 0}])

        async def async_refuse(socket: Socket) -> None:
            refuse(socket)

        io.on("buy", refuse if plain else async_refuse)
        io.on_error(lambda error, socket, where: told.append(str(error)))
        async with io, join_fake(io) as (wire, _):
            assert await wire.ask("buy") == [{"error": {"code": "E_HANDLER", "message": "sold out", "details": [{"left": 0}]}}]
        assert told == ["sold out"]
        assert not [record for record in caplog.records if record.levelname == "ERROR"]

    async def test_middleware_of_events_may_say_why_too(self, io: Server) -> None:
        @io.use
        async def never(socket: Socket, event: str, args: list[object]) -> None:
            raise EventRefused("slowly")

        async with join_fake(io) as (wire, _):
            (answer,) = await wire.ask("buy")
        assert answer["error"]["message"] == "slowly"


class TestArguments:
    async def test_a_missing_argument_is_told(self, io: Server) -> None:
        called: list[str] = []

        @io.on("x")
        async def x(socket: Socket, first: int, second: int) -> None:
            called.append("x")

        async with join_fake(io) as (wire, _):
            (answer,) = await wire.ask("x", 1)
        assert answer["error"]["code"] == "E_ARGUMENTS"
        assert answer["error"]["details"] == [{"argument": "second", "index": 1, "message": "missing"}]
        assert called == []

    async def test_a_default_stands_for_a_missing_argument(self, io: Server) -> None:
        @io.on("x")
        async def x(socket: Socket, first: int, second: int = 2) -> tuple[int, int]:
            return first, second

        async with join_fake(io) as (wire, _):
            assert await wire.ask("x", 1) == [1, 2]

    async def test_surplus_arguments_are_dropped(self, io: Server) -> None:
        @io.on("x")
        async def x(socket: Socket, first: int) -> int:
            return first

        @io.on("y")
        def y(socket: Socket) -> str:
            return "none"

        async with join_fake(io) as (wire, _):
            assert await wire.ask("x", 1, 2, 3) == [1]
            assert await wire.ask("y", 1, 2, 3) == ["none"]

    async def test_untyped_arguments_come_as_they_are(self, io: Server) -> None:
        @io.on("x")
        async def x(socket: Socket, *args: JSON) -> tuple[JSON, ...]:
            return args

        async with join_fake(io) as (wire, _):
            sent = [None, True, 1, 1.5, "é", [1, [2]], {"a": {"b": None}}]
            assert await wire.ask("x", *sent) == sent

    async def test_attachments_come_as_bytes(self, io: Server) -> None:
        @io.on("x")
        async def x(socket: Socket, data: bytes, more: dict[str, bytes]) -> list[int]:
            return [*data, *more["a"]]

        async with join_fake(io) as (wire, _):
            await wire.send('452-1["x",{"_placeholder":true,"num":0},{"a":{"_placeholder":true,"num":1}}]', b"\x01\x02", b"\x03")
            assert await wire.receive() == "431[[1,2,3]]"

    @pytest.mark.parametrize(
        ("name", "registered"),
        [
            ("5", "5"),
            ("-1", "-1"),
            ("0", "0"),
            ("5.0", "5"),
            ("1e21", "1e+21"),
            ("0.00001", "0.00001"),
            ("1e-7", "1e-7"),
            ("1e999", "Infinity"),
        ],
    )
    async def test_a_number_is_a_name_too(self, io: Server, name: str, registered: str) -> None:
        @io.on(registered)
        async def handler(socket: Socket, word: str) -> str:
            return word

        async with join_fake(io) as (wire, _):
            await wire.send(f'421[{name},"a"]')
            assert await wire.receive() == '431["a"]'


@dataclass
class Point:
    x: int
    y: int


class Name(TypedDict):
    first: str


class Order(msgspec.Struct):
    id: int
    note: str | None = None


class User(pydantic.BaseModel):
    name: str
    age: int = pydantic.Field(ge=0)


class TestTypedArguments:
    @pytest.fixture
    async def typed(self, io: Server) -> Server:
        @io.on("point")
        async def point(socket: Socket, point: Point) -> list[Any]:
            return [type(point).__name__, point.x + point.y]

        @io.on("name")
        async def name(socket: Socket, name: Name) -> list[Any]:
            return [type(name).__name__, name["first"]]

        @io.on("order")
        def order(socket: Socket, order: Order) -> list[Any]:
            return [type(order).__name__, order.id]

        @io.on("user")
        async def user(socket: Socket, user: User) -> list[Any]:
            return [type(user).__name__, user.age]

        @io.on("users")
        async def users(socket: Socket, users: list[User], count: int = 0) -> list[Any]:
            return [type(users[0]).__name__, len(users)]

        @io.on("int")
        async def integer(socket: Socket, number: int) -> list[Any]:
            return [type(number).__name__, number]

        @io.on("optional")
        async def optional(socket: Socket, text: str | None) -> list[Any]:
            return [type(text).__name__, text]

        return io

    @pytest.mark.parametrize(
        ("event", "argument", "result"),
        [
            ("point", {"x": 1, "y": 2}, ["Point", 3]),
            ("name", {"first": "a"}, ["dict", "a"]),
            ("order", {"id": 4}, ["Order", 4]),
            ("user", {"name": "a", "age": 5}, ["User", 5]),
            ("users", [{"name": "a", "age": 5}], ["User", 1]),
            ("int", 6, ["int", 6]),
            ("optional", None, ["NoneType", None]),
            ("optional", "a", ["str", "a"]),
        ],
    )
    async def test_what_fits_comes_typed(self, typed: Server, event: str, argument: Any, result: Any) -> None:
        async with join_fake(typed) as (wire, _):
            assert await wire.ask(event, argument) == [result]

    @pytest.mark.parametrize(
        ("event", "argument"),
        [
            ("point", {"x": 1}),
            ("point", {"x": "1", "y": 2}),
            ("point", None),
            ("name", {"first": 1}),
            ("name", []),
            ("order", {"id": "4"}),
            ("user", {"name": "a", "age": -1}),
            ("user", {"name": "a", "age": "5"}),
            ("users", {}),
            ("int", "6"),
            ("int", True),
            ("int", None),
            ("optional", 1),
        ],
    )
    async def test_what_does_not_fit_is_told(self, typed: Server, event: str, argument: Any) -> None:
        errors: list[Exception] = []
        typed.on_error(lambda error, socket, where: errors.append(error))
        async with join_fake(typed) as (wire, _):
            (answer,) = await wire.ask(event, argument)
            error = answer["error"]
            assert list(answer) == ["error"]
            assert (error["code"], type(error["message"])) == ("E_ARGUMENTS", str)
            assert error["details"][0]["index"] == 0
            assert error["details"][0]["argument"] in error["message"]
            assert [type(each) for each in errors] == [ArgumentsInvalid]
            await synced(wire)


class TestNames:
    async def test_an_event_without_handler_is_not_acked_and_logged_once(self, io: Server, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, "mizzen.server")
        async with join_fake(io) as (wire, _):
            await wire.send('421["unknown"]', '422["unknown"]', '423["other"]')
            await synced(wire)
        told = [record for record in caplog.records if "no handler" in record.getMessage()]
        assert [("unknown" in record.getMessage(), record.levelno) for record in told] == [(True, logging.DEBUG), (False, logging.DEBUG)]

    async def test_names_are_exact(self, io: Server) -> None:
        @io.on("a")
        async def a(socket: Socket) -> str:
            return "a"

        async with join_fake(io) as (wire, _):
            await wire.send('421["A"]', '422["a "]', '423["a"]')
            assert await wire.receive() == '433["a"]'

    @pytest.mark.parametrize("name", [*sorted(RESERVED_EVENTS - {"connect", "disconnect", "disconnecting"}), "connection"])
    def test_reserved_names_cannot_be_registered(self, name: str) -> None:
        with pytest.raises(LocalProtocolError, match=name):
            Server().on(name, sync)

    @pytest.mark.parametrize("name", sorted(RESERVED_EVENTS))
    async def test_reserved_names_cannot_be_emitted(self, io: Server, name: str) -> None:
        async with join_fake(io) as (wire, sid):
            socket = io.sockets[sid]
            for emits in (io, io.of("/"), io.to("a"), socket, socket.broadcast, socket.volatile):
                with pytest.raises(LocalProtocolError, match=name):
                    emits.emit(name)
                with pytest.raises(LocalProtocolError, match=name):
                    await emits.call(name)
            await synced(wire)

    @pytest.mark.parametrize("name", sorted(RESERVED_EVENTS))
    async def test_reserved_names_are_no_packets(self, io: Server, name: str) -> None:
        reasons: list[str] = []

        @io.on("disconnect")
        async def disconnect(socket: Socket, reason: str) -> None:
            reasons.append(reason)

        async with join_fake(io) as (wire, _):
            await wire.send(json.dumps([name]).join(("42", "")))
            await wire.until_closed()
        assert reasons == ["forced close"]

    async def test_connection_is_told_to_be_connect(self) -> None:
        with pytest.raises(LocalProtocolError, match="'connect'"):
            Server().on("connection", sync)


class TestResults:
    @pytest.mark.parametrize(
        ("result", "ack"),
        [
            (None, "431[]"),
            ((), "431[]"),
            (0, "431[0]"),
            (False, "431[false]"),
            ("", '431[""]'),
            ((1, 2), "431[1,2]"),
            ((None,), "431[null]"),
            ([1, 2], "431[[1,2]]"),
            ({"a": None}, '431[{"a":null}]'),
            (float("nan"), "431[null]"),
        ],
        ids=repr,
    )
    @pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
    async def test_a_result_is_the_ack(self, io: Server, result: Any, ack: str, plain: bool) -> None:
        async def async_handler(socket: Socket) -> Any:
            return result

        io.on("x", (lambda socket: result) if plain else async_handler)
        async with join_fake(io) as (wire, _):
            await wire.send('421["x"]')
            assert await wire.receive() == ack

    async def test_bytes_are_a_binary_ack(self, io: Server) -> None:
        @io.on("x")
        async def x(socket: Socket) -> tuple[str, bytes]:
            return "a", b"\x00\x01"

        async with join_fake(io) as (wire, _):
            await wire.send('421["x"]')
            assert [await wire.receive(), await wire.receive()] == ['461-1["a",{"_placeholder":true,"num":0}]', b"\x00\x01"]

    async def test_a_result_without_ack_id_goes_nowhere(self, io: Server) -> None:
        @io.on("x")
        async def x(socket: Socket) -> object:
            return object()

        async with join_fake(io) as (wire, _):
            await wire.send('42["x"]')
            await synced(wire)

    async def test_a_result_that_cannot_be_encoded_is_a_failure_of_the_handler(self, io: Server) -> None:
        errors: list[Exception] = []
        io.on_error(lambda error, socket, where: errors.append(error))

        @io.on("x")
        async def x(socket: Socket) -> object:
            return object()

        async with join_fake(io) as (wire, _):
            assert await wire.ask("x") == [E_HANDLER]
        assert [type(error) for error in errors] == [TypeError]

    async def test_a_result_after_the_socket_has_gone_goes_nowhere(self, io: Server, caplog: pytest.LogCaptureFixture) -> None:
        gate = asyncio.Event()

        @io.on("x")
        async def x(socket: Socket) -> int:
            await gate.wait()
            socket.emit("late")
            return 1

        async with join_fake(io) as (wire, _):
            await wire.send('421["x"]')
            await until(lambda: multiplexer_of(io).running)
            await wire.send("41")
            await until(lambda: not io.sockets)
            gate.set()
            await until(lambda: not multiplexer_of(io).running)
            await settle()
            assert wire.received() == []
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


class TestErrors:
    async def test_an_error_is_acked_without_any_detail(self, io: Server) -> None:
        @io.on("x")
        async def x(socket: Socket) -> None:
            raise ValueError("secret")

        async with join_fake(io) as (wire, _):
            assert await wire.ask("x") == [E_HANDLER]
            await synced(wire)

    @pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
    async def test_a_stop_iteration_is_a_failure_as_any_other(self, io: Server, plain: bool) -> None:
        """No future takes one, and a generator around it would end without a word."""
        errors: list[Exception] = []
        io.on_error(lambda error, socket, where: errors.append(error))

        async def async_x(socket: Socket) -> Any:
            return next(iter(()))

        def plain_x(socket: Socket) -> Any:
            return next(iter(()))

        io.on("x", plain_x if plain else async_x)
        io.on("y", lambda socket: 1)
        async with join_fake(io) as (wire, _):
            assert await wire.ask("x") == [E_HANDLER]
            assert await wire.ask("y", id=2) == [1]  # the next in the thread gets its turn
        assert [(type(error), type(error.__cause__)) for error in errors] == [(RuntimeError, StopIteration)]

    async def test_debug_tells_type_text_and_traceback(self) -> None:
        async with Server(debug=True) as io:

            @io.on("x")
            async def handler_of_x(socket: Socket) -> None:
                raise ValueError("secret")

            async with join_fake(io) as (wire, _):
                (answer,) = await wire.ask("x")
        error = answer["error"]
        assert (error["code"], error["message"]) == ("E_HANDLER", "ValueError: secret")
        assert any("handler_of_x" in line for line in error["details"])

    @pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
    async def test_hooks_are_told_of_the_error_with_or_without_ack_id(
        self, io: Server, caplog: pytest.LogCaptureFixture, plain: bool
    ) -> None:
        told: list[tuple[str, Socket | None, str]] = []

        def plain_x(socket: Socket) -> None:
            raise ValueError("oh")

        async def x(socket: Socket) -> None:
            raise ValueError("oh")

        @io.on_error
        def sync_hook(error: Exception, socket: Socket | None, where: str) -> None:
            told.append(("sync", socket, f"{where}: {error}"))

        @io.on_error
        async def async_hook(error: Exception, socket: Socket | None, where: str) -> None:
            await asyncio.sleep(0)
            told.append(("async", socket, f"{where}: {error}"))

        io.on("x", plain_x if plain else x)
        async with join_fake(io) as (wire, sid):
            socket = io.sockets[sid]
            await wire.send('42["x"]')
            await until(lambda: len(told) == 2)
            await synced(wire)
            assert told == [("sync", socket, "x: oh"), ("async", socket, "x: oh")]
            assert await wire.ask("x") == [E_HANDLER]
            await until(lambda: len(told) == 4)
        failures = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert len(failures) == 2
        assert all(record.exc_info and record.exc_info[0] is ValueError for record in failures)

    @pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
    @pytest.mark.parametrize("failure", [RuntimeError, asyncio.CancelledError], ids=["error", "cancelled"])
    async def test_a_hook_that_fails_keeps_neither_the_ack_nor_other_hooks(
        self, io: Server, caplog: pytest.LogCaptureFixture, plain: bool, failure: type[BaseException]
    ) -> None:
        told: list[str] = []

        async def failing(error: Exception, socket: Socket | None, where: str) -> None:
            raise failure("hook")

        def plain_failing(error: Exception, socket: Socket | None, where: str) -> None:
            raise failure("hook")

        io.on_error(plain_failing if plain else failing)
        io.on_error(lambda error, socket, where: told.append(where))

        @io.on("x")
        async def x(socket: Socket) -> None:
            raise ValueError("oh")

        async with join_fake(io) as (wire, _):
            assert await wire.ask("x") == [E_HANDLER]
            await synced(wire)
        assert told == ["x"]
        assert "an on_error hook failed" in caplog.text

    @pytest.mark.parametrize("where", ["handler", "first of two", "last of two", "middleware"])
    @pytest.mark.parametrize(
        ("error", "told"),
        [
            (EventRefused("no", details=[object()]), {"code": "E_HANDLER", "message": "no", "details": []}),
            (ArgumentsInvalid("no", [{"index": object()}]), {"code": "E_ARGUMENTS", "message": "no", "details": []}),
        ],
        ids=["refused", "invalid"],
    )
    async def test_an_error_whose_details_cannot_be_encoded_is_acked_without(
        self, io: Server, caplog: pytest.LogCaptureFixture, where: str, error: Exception, told: JSON
    ) -> None:
        errors: list[Exception] = []
        io.on_error(lambda error, socket, where: errors.append(error))

        async def fail(socket: Socket, *args: object) -> None:
            raise error

        async def succeed(socket: Socket) -> None: ...

        async def fail_first(socket: Socket, event: str, args: list[JSON]) -> None:
            if event == "x":
                raise error

        if where == "middleware":
            io.use(fail_first)
        for handler in {"first of two": (fail, succeed), "last of two": (succeed, fail), "handler": (fail,)}.get(where, (succeed,)):
            io.on("x", handler)
        async with join_fake(io) as (wire, _):
            assert await wire.ask("x") == [{"error": told}]
            await synced(wire)  # one ack only
        assert errors == [error]
        assert f"the details of {type(error).__name__} cannot be sent" in caplog.text

    @pytest.mark.parametrize("which", ["handler", "any", "outgoing"])
    async def test_what_awaits_something_cancelled_has_failed(self, io: Server, which: str) -> None:
        errors: list[tuple[str, str]] = []
        io.on_error(lambda error, socket, where: errors.append((str(error), where)))

        async def wait(socket: Socket, *args: object) -> None:
            cancelled = asyncio.get_running_loop().create_future()
            cancelled.cancel()
            await cancelled

        if which == "any":
            io.on_any(wait)
        elif which == "outgoing":
            io.on_any_outgoing(wait)
        else:
            io.on("x", wait)
        async with join_fake(io) as (wire, sid):
            if which == "handler":
                assert await wire.ask("x") == [E_HANDLER]
            elif which == "any":
                await wire.send('42["x"]')
            else:
                io.sockets[sid].emit("x")
            await until(lambda: not len(io.tasks))
        assert errors == [("the handler awaited something that was cancelled", "x")]

    async def test_arguments_that_do_not_fit_are_no_fault_of_the_server(self, io: Server, caplog: pytest.LogCaptureFixture) -> None:
        @io.on("x")
        async def x(socket: Socket, number: int) -> None: ...

        caplog.set_level(logging.INFO, "mizzen.server")
        async with join_fake(io) as (wire, _):
            await wire.send('42["x","a"]')
            await synced(wire)
        (record,) = [record for record in caplog.records if "refused" in record.getMessage()]
        assert (record.levelno, record.exc_info) == (logging.INFO, None)

    async def test_failing_handlers_never_end_the_connection(self, io: Server) -> None:
        async def fail(socket: Socket, number: int) -> None:
            raise (ValueError(), TimeoutError(), RecursionError(), ExceptionGroup("", [ValueError()]))[number]

        io.on("x", fail)
        async with join_fake(io) as (wire, _):
            for number in range(4):
                assert await wire.ask("x", number) == [E_HANDLER]
            await synced(wire)
            assert multiplexer_of(io).running == 0

    async def test_an_error_without_text_of_its_own_is_one_too(self, io: Server) -> None:
        class Unprintable(Exception):
            def __str__(self) -> str:
                raise RuntimeError

        told: list[str] = []
        io.on_error(lambda error, socket, where: told.append(where))

        @io.on("x")
        async def x(socket: Socket) -> None:
            raise Unprintable

        async with join_fake(io) as (wire, _):
            assert await wire.ask("x") == [E_HANDLER]
        assert told == ["x"]

    @pytest.mark.parametrize("handlers", [1, 2])
    async def test_a_cancelled_handler_ends_neither_connection_nor_server(self, io: Server, handlers: int) -> None:
        async def x(socket: Socket) -> None:
            cancelled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            cancelled.cancel()
            await cancelled

        for _ in range(handlers):
            io.on("x", x)
        async with join_fake(io) as (wire, _):
            await wire.send('42["x"]')
            await synced(wire)
            await until(lambda: multiplexer_of(io).running == 0)

    @pytest.mark.parametrize("handlers", [1, 2])
    async def test_a_handler_whose_own_task_was_cancelled_has_failed(self, io: Server, handlers: int) -> None:
        """A library that lets CancelledError out is a failing handler like any other; its client must not wait for ever."""

        async def x(socket: Socket) -> None:
            raise asyncio.CancelledError

        for _ in range(handlers):
            io.on("x", x)
        async with join_fake(io) as (wire, _):
            await wire.send('421["x"]', '422["sync"]')
            assert [await wire.receive_json(), await wire.receive_json()] == [("431", [E_HANDLER]), ("432", [1])]
