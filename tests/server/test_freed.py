"""Sockets and connections that have gone are freed at once: nothing of them waits for the cyclic garbage collector."""

from __future__ import annotations

import gc
import logging
import re
import weakref
from collections.abc import Iterator

import pytest

from mizzen import ConnectionStateRecovery, ConnectRefused, Namespace, RemoteError, Server, Socket
from mizzen.types import Receive, Scope, Send
from tests.server.fake_wire import join_fake, open_fake, settle
from tests.support import open_wire, serve, until


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("an app that fails")


class Watched:
    """A server, and weak references to each socket that came and to its connection."""

    def __init__(self) -> None:
        self.io = Server(app)
        self.seen: list[weakref.ref[object]] = []
        watch = self.namespace("/watched")
        watch.on("fails", self.fails)
        watch.on("plain", self.plain)
        watch.on("ordered", self.fails, ordered=True)
        watch.on("asks", self.asks)
        watch.on("asks in vain", self.asks_in_vain)
        watch.on("asks all", self.asks_all)
        watch.on("listens", self.listens)
        ends = self.namespace("/ends")
        ends.on("disconnecting", self.fails)
        ends.on("disconnect", self.fails)
        self.namespace("/refused").on("connect", self.refuses)
        self.namespace("/failed").on("connect", self.fails)
        self.namespace("/failed-plain").on("connect", self.plain)
        self.namespace("/typed").on("connect", self.typed)
        self.namespace("/slow").on("connect", self.slow)
        self.namespace("/listening").on("connect", self.listens_and_refuses)
        failing = self.namespace("/middleware")
        failing.use(self.packet)

    def namespace(self, name: str) -> Namespace:
        namespace = self.io.of(name)
        namespace.use(self.comes)
        return namespace

    async def comes(self, socket: Socket) -> None:
        self.seen += [weakref.ref(socket), weakref.ref(socket.conn)]

    async def fails(self, socket: Socket) -> None:
        raise RuntimeError("as it must")

    def plain(self, socket: Socket) -> None:
        raise RuntimeError("as it must")

    async def refuses(self, socket: Socket) -> None:
        raise ConnectRefused("no")

    async def typed(self, socket: Socket, auth: dict[str, str]) -> None: ...

    async def slow(self, socket: Socket) -> None:
        await settle()

    async def packet(self, socket: Socket, event: str, args: list[object]) -> None:
        raise RuntimeError("as it must")

    async def asks(self, socket: Socket) -> None:
        try:
            await socket.call("question")
        except RemoteError:
            socket.emit("answered")

    async def asks_in_vain(self, socket: Socket) -> None:
        await socket.call("question", timeout=0.001)

    async def asks_all(self, socket: Socket) -> None:
        await self.io.of("/watched").call("question", timeout=0.001)

    async def listens(self, socket: Socket) -> None:
        @socket.on("echo")
        @socket.once("disconnect")
        async def answer() -> None:
            socket.emit("gone?")

        @socket.on_any
        async def hear(event: str) -> None:
            socket.emit("heard", event)

    async def listens_and_refuses(self, socket: Socket) -> None:
        await self.listens(socket)
        raise ConnectRefused("no")

    def freed(self) -> bool:
        return bool(self.seen) and all(each() is None for each in self.seen)


CASES: dict[str, tuple[str, ...]] = {
    "is cut off": ("40/watched,",),
    "leaves": ("40/watched,", "41/watched,"),
    "a handler fails": ("40/watched,", '42/watched,1["fails"]', '42/watched,["fails"]', '42/watched,["ordered"]', '42/watched,["plain"]'),
    "packet middleware fails": ("40/middleware,", '42/middleware,1["x"]', '42/middleware,["x"]'),
    "goes before it answers": ("40/watched,", '42/watched,["asks"]'),
    "answers with an error": ("40/watched,", '42/watched,["asks"]', '43/watched,0[{"error":{"code":"E_HANDLER","message":"no"}}]'),
    "does not answer in time": ("40/watched,", '42/watched,["asks in vain"]', '42/watched,["asks all"]'),
    "has handlers of its own": ("40/watched,", '42/watched,["listens"]', '42/watched,["echo"]'),
    "its end fails": ("40/ends,",),
    "refused": ("40/refused,",),
    "refused with handlers of its own": ("40/listening,",),
    "connect fails": ("40/failed,",),
    "connect fails in a thread": ("40/failed-plain,",),
    "auth does not fit": ('40/typed,{"a":1}',),
    "goes while it connects": ("40/slow,",),
    "breaks the protocol": ("40/watched,", "42nonsense"),
    "a request fails": ("40/watched,", "40", '420["get",{"url":"/"}]'),
}


@pytest.mark.parametrize("messages", [pytest.param(messages, id=name.replace(" ", "-")) for name, messages in CASES.items()])
async def test_a_socket_that_has_gone(messages: tuple[str, ...], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL + 1, "mizzen")  # a record would hold the error and its traceback
    watched = Watched()
    async with watched.io as io:
        async with open_fake(io) as wire:
            for number, message in enumerate(messages, 1):
                await wire.send(message)
                if "/slow" not in message:
                    await until(lambda number=number: wire.read == number)
                    await settle()
            if "/slow" not in messages[0]:
                await until(lambda: not len(io.tasks) or messages[-1] == '42/watched,["asks"]')
        await until(lambda: not len(io.tasks) and not io.sessions.connections)
        await until(watched.freed, "everything is freed")


@pytest.mark.parametrize("native", [False, True])
async def test_over_a_real_server(native: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL + 1, "mizzen")
    watched = Watched()
    async with serve(watched.io, native=native) as url:
        for messages in CASES.values():
            async with open_wire(url) as wire:
                await wire.send(messages[0])
                await wire.receive()
                await wire.send(*messages[1:])
        await until(lambda: not len(watched.io.tasks) and not watched.io.sessions.connections)
        await until(watched.freed, "everything is freed")


async def test_a_connection_that_never_joined_anything() -> None:
    io = Server()
    seen: list[weakref.ref[object]] = []
    io.engine.on_connection(lambda connection: seen.append(weakref.ref(connection)))
    async with io:
        async with open_fake(io):
            pass
        async with open_fake(io) as wire:
            await wire.send("x")
            await wire.until_closed()
        assert len(seen) == 2
        await until(lambda: all(each() is None for each in seen), "everything is freed")


async def lifetime(seconds: float, *, until_forgotten: bool) -> weakref.ref[Server]:
    """Have a server run that keeps sockets for `seconds`, and close it while it keeps some, or when it has forgotten them."""
    io = Server(connection_state_recovery=ConnectionStateRecovery(max_disconnection_duration=seconds))
    io.of("/other")
    io.of(re.compile("/child-.*"))
    async with io:
        for name in ("/", "/other", "/child-1"):
            async with join_fake(io, name):
                io.of(name).emit("kept")
        if until_forgotten:
            await until(lambda: not any(namespace.adapter.awaits_clients for namespace in io.namespaces.values()))
        else:
            assert all(namespace.adapter.awaits_clients for namespace in io.namespaces.values())
    return weakref.ref(io)


@pytest.mark.parametrize(("seconds", "until_forgotten"), [(120.0, False), (0.001, True)])
async def test_nothing_of_a_closed_server_stays_in_the_loop(seconds: float, until_forgotten: bool) -> None:
    server = await lifetime(seconds, until_forgotten=until_forgotten)
    gc.collect()  # a server is a web of cycles; what the loop holds is not collected
    assert server() is None


async def test_nothing_of_a_namespace_that_was_dropped_stays_in_the_loop() -> None:
    async with Server(connection_state_recovery=True, max_child_namespaces=1) as io:
        io.of(re.compile("/child-.*"))
        async with join_fake(io, "/child-1"):
            child = weakref.ref(io.of("/child-1"))
        assert child() is not None
        async with join_fake(io, "/child-2"):  # for which there is room without the other
            gc.collect()
            assert child() is None
