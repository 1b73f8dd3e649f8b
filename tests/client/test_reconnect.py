"""Coming back after an interruption: the events of it, what is sent again, and what was missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mizzen import AckTimeout, Client, ConnectionClosed, Reason, Server, Socket
from tests.client.proxy import Proxy, proxied
from tests.support import WITHIN, serve, until

QUICKLY: dict[str, Any] = {"reconnection_delay": 0.01, "reconnection_delay_max": 0.02}
seen: list[Any] = []


def make(**options: Any) -> Server:
    io = Server(**options)
    seen.clear()

    @io.on("echo")
    async def echo(socket: Socket, *args: Any) -> tuple[Any, ...]:
        return args

    @io.on("note")
    async def note(socket: Socket, value: Any) -> Any:
        seen.append(value)
        return value

    @io.on("silence")
    async def silence(socket: Socket) -> None:
        await socket.call("unanswered")

    return io


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    async with serve(make(), native=True) as url, proxied(url) as proxy:
        yield proxy


async def test_every_event_of_a_reconnection(proxy: Proxy):
    client = Client(proxy.url, **QUICKLY)
    events: list[tuple[Any, ...]] = []

    def note(name: str) -> Any:
        async def handler(*args: Any) -> None:  # plain functions run in threads, whose order is nobody's
            events.append((name, *args))

        return handler

    for name in ("open", "close", "reconnect_attempt", "reconnect_error", "reconnect", "reconnect_failed", "error"):
        client.manager.on(name, note(name))
    client.on("connect", note("connect"))
    client.on("disconnect", note("disconnect"))
    async with client:
        first = client.id
        proxy.refusing = True
        proxy.cut()
        await until(lambda: sum(event[0] == "reconnect_error" for event in events) >= 2)
        assert not client.connected
        assert client.active
        proxy.refusing = False
        await until(lambda: client.connected)
        assert client.id != first
        await until(lambda: {"reconnect", "connect"} <= {event[0] for event in events[4:]})
    names = [event[0] for event in events]
    assert (set(names[:2]), set(names[2:4])) == ({"open", "connect"}, {"close", "disconnect"})
    attempts = [event[1] for event in events if event[0] == "reconnect_attempt"]
    assert attempts == list(range(1, len(attempts) + 1))
    assert ("reconnect", len(attempts)) in events
    assert next(event[1] for event in events if event[0] == "disconnect") in (Reason.TRANSPORT_CLOSE, Reason.TRANSPORT_ERROR)


async def test_reconnection_gives_up_after_so_many_attempts(proxy: Proxy):
    client = Client(proxy.url, reconnection_attempts=2, **QUICKLY)
    failed = asyncio.Event()
    client.manager.once("reconnect_failed", failed.set)
    async with client:
        stream = client.events("never")
        waiting = asyncio.ensure_future(client.call("silence"))
        await client.call("echo")
        proxy.refusing = True
        proxy.cut()
        await asyncio.wait_for(failed.wait(), WITHIN)
        with pytest.raises(ConnectionClosed):
            await waiting
        assert not client.active
        assert [args async for args in stream] == []
        proxy.refusing = False
        await client.connect()  # begins anew
        assert await client.call("echo", 1) == 1


async def test_without_reconnection_the_socket_is_closed_for_good(proxy: Proxy):
    async with Client(proxy.url, reconnection=False) as client:
        proxy.cut()
        assert await asyncio.wait_for(client.wait_closed(), WITHIN) in (Reason.TRANSPORT_CLOSE, Reason.TRANSPORT_ERROR)


async def test_all_namespaces_come_back(proxy: Proxy):
    io = make()
    io.of("/chat").on("where", lambda socket: "/chat")
    async with serve(io) as url, proxied(url) as proxy:
        async with Client(proxy.url, **QUICKLY) as client, client.of("/chat") as chat:
            proxy.cut()
            await until(lambda: not chat.connected)
            assert await chat.call("where") == "/chat"
            assert await client.call("echo", 1) == 1


@pytest.mark.parametrize("transports", ["websocket", "polling"])
async def test_a_server_that_is_not_heard_of_is_given_up(transports: Any):
    async with serve(make(ping_interval=0.05, ping_timeout=0.45)) as url, proxied(url) as proxy:
        client = Client(proxy.url, transports=transports, **QUICKLY)
        ends: list[tuple[Reason, str]] = []
        pings: list[None] = []
        client.on("disconnect", lambda reason, details: ends.append((reason, details)))
        client.manager.on("ping", lambda: pings.append(None))
        async with client:
            await until(lambda: len(pings) > 15)  # which is longer than it may be silent
            assert client.connected
            assert not ends
            proxy.stall()
            await until(lambda: bool(ends))
            assert ends[0] == (Reason.PING_TIMEOUT, "the server was not heard of for 0.5 s")
            proxy.go_on()
            assert await client.call("echo", 1) == 1


async def test_with_engineio_3_the_client_pings():
    async with serve(make(ping_interval=0.05, ping_timeout=0.45)) as url, proxied(url) as proxy:
        client = Client(proxy.url, eio=3, **QUICKLY)
        reasons: list[Reason] = []
        pings: list[None] = []
        client.on("disconnect", lambda reason: reasons.append(reason))
        client.manager.on("ping", lambda: pings.append(None))
        async with client:
            await until(lambda: len(pings) > 15)
            assert client.connected
            proxy.stall()
            await until(lambda: reasons == [Reason.PING_TIMEOUT])
            proxy.go_on()
            assert await client.call("echo", 1) == 1


async def test_retries_repeat_what_is_not_acked_in_order(proxy: Proxy):
    io = make()
    ignored = {1, 3}

    @io.on("moody")
    async def moody(socket: Socket, value: int) -> int:
        seen.append(value)
        if value in ignored:
            ignored.discard(value)
            await socket.call("unanswered")
        return value

    async with serve(io) as url, Client(url, retries=2, ack_timeout=0.05) as client:
        assert await asyncio.gather(*(client.call("moody", number) for number in range(5))) == [0, 1, 2, 3, 4]
    assert seen == [0, 1, 1, 2, 3, 3, 4]


async def test_retries_end_and_the_queue_goes_on(proxy: Proxy):
    errors: list[tuple[str, str]] = []
    client = Client(proxy.url, retries=2, ack_timeout=0.01)
    client.on_error(lambda error, socket, event: errors.append((type(error).__name__, event)))
    async with client:
        client.emit("silence")
        with pytest.raises(AckTimeout, match="in 3 tries"):
            await client.call("silence")
        client.emit("note", "after")
        await client.drain()
        assert seen == ["after"]
    assert errors == [("AckTimeout", "silence")]


# Connection state recovery


async def test_what_was_missed_comes_after_a_recovery():
    io = make(connection_state_recovery=True)

    @io.on("join")
    async def join(socket: Socket) -> None:
        socket.join("room")
        socket.data["kept"] = True

    async with serve(io, native=True) as url, proxied(url) as proxy:
        client = Client(proxy.url, **QUICKLY)
        got: list[tuple[Any, ...]] = []
        connects: list[bool] = []

        @client.on("news")
        async def news(number: int, text: str = "default") -> None:
            got.append((number, text))

        client.on("connect", lambda: connects.append(client.recovered))
        async with client:
            await client.call("join")
            io.to("room").emit("news", 1)
            await until(lambda: got == [(1, "default")])
            first = client.id
            assert first is not None
            proxy.refusing = True
            proxy.cut()
            await until(lambda: not client.connected and not io.sockets)
            io.to("room").emit("news", 2, "missed")
            io.emit("news", 3, "missed too")
            proxy.refusing = False
            await until(lambda: len(got) == 3)
            assert got[1:] == [(2, "missed"), (3, "missed too")]
            assert client.recovered
            assert client.id == first
            io.sockets[first].volatile.emit("news", 4, "volatile has no offset")
            await until(lambda: got[-1] == (4, "volatile has no offset"))
    assert connects == [False, True]


async def test_nothing_is_recovered_after_a_disconnect_of_ones_own():
    async with serve(make(connection_state_recovery=True)) as url:
        client = Client(url)
        async with client:
            first = client.id
        async with client:
            assert client.id != first
            assert not client.recovered
