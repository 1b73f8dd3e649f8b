"""What is sent when the server's last ping is too long ago, as after a sleep of the machine: it waits for the next connection."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Literal

import pytest

from mizzen import Client, Reason, Server
from mizzen.client.clock import sleepless
from mizzen.client.options import TransportName
from mizzen.types import Receive, Scope, Send
from tests.client.peer import Peers
from tests.client.proxy import proxied
from tests.support import WITHIN, serve, until

HEARTBEAT = 45.0
"""Seconds that a server of 25 s between pings and 20 s for the answer may be silent."""


class Time:
    """Goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def peers() -> Peers:
    return Peers()


@pytest.fixture
def clock() -> Time:
    return Time()


async def accepted(client: Client, peers: Peers, count: int = 1) -> None:
    """Have the connection of this number accept the main namespace."""
    await until(lambda: len(peers.made) == count and (client.manager.options.eio == 3 or peers.has_sent("40")))
    peers.last.say('40{"sid":"one"}')
    await until(lambda: client.connected)


async def connected(peers: Peers, clock: Time, **options: Any) -> Client:
    client = Client("http://nowhere", transports=[peers], reconnection_delay=0.01, reconnection_delay_max=0.01, **options)
    client.manager.clock = clock
    connecting = asyncio.ensure_future(client.connect())
    await accepted(client, peers)
    await connecting
    return client


async def test_what_is_sent_after_a_sleep_waits_for_the_next_connection(peers: Peers, clock: Time):
    client = await connected(peers, clock)
    ends: list[tuple[Reason, str]] = []
    client.on("disconnect", lambda reason, details: ends.append((reason, details)))
    clock.now += HEARTBEAT + 0.1
    client.emit("first")
    answer = asyncio.ensure_future(client.call("second"))
    client.volatile.emit("dropped")
    await accepted(client, peers, 2)
    peers.last.say('430["done"]')
    assert await asyncio.wait_for(answer, WITHIN) == "done"
    client.emit("third")
    await client.drain()
    assert peers.made[0].sent == ["40"]
    assert peers.made[1].sent == ["40", '42["first"]', '420["second"]', '42["third"]']
    await until(lambda: ends == [(Reason.PING_TIMEOUT, "the server was not heard of for 45 s")])
    await client.close()


@pytest.mark.parametrize(("eio", "heartbeat"), [(4, "2"), (3, "3")])
async def test_every_heartbeat_counts_anew(peers: Peers, clock: Time, eio: Literal[3, 4], heartbeat: str):
    client = await connected(peers, clock, eio=eio)
    for number in range(3):
        clock.now += HEARTBEAT - 1
        client.emit("event", number)
        peers.last.say(heartbeat)
    await client.drain()
    assert [message for message in peers.last.sent if "event" in str(message)] == [f'42["event",{number}]' for number in range(3)]
    clock.now += HEARTBEAT + 1
    client.emit("event", "late")
    await accepted(client, peers, 2)
    await until(lambda: peers.has_sent('42["event","late"]'))
    assert not peers.has_sent('42["event","late"]', 0)
    await client.close()


async def test_nothing_is_told_while_somebody_sends(peers: Peers, clock: Time):
    client = await connected(peers, clock)
    ended = asyncio.ensure_future(client.wait_for("disconnect"))
    await asyncio.sleep(0)
    clock.now += HEARTBEAT + 1
    client.emit("event")
    assert client.connected, "whoever sends goes on first"
    peers.last.say("2")  # which comes too late: what waits goes first, and by another connection
    client.emit("event", "behind")
    assert (await asyncio.wait_for(ended, WITHIN))[0] is Reason.PING_TIMEOUT
    await accepted(client, peers, 2)
    await client.drain()
    assert peers.made[0].sent == ["40"]
    assert peers.last.sent[1:] == ['42["event"]', '42["event","behind"]']
    await client.close()


async def test_a_packet_of_the_queue_is_tried_on_the_next_connection(peers: Peers, clock: Time):
    client = await connected(peers, clock, retries=3, ack_timeout=WITHIN, max_buffer=1_000)
    clock.now += HEARTBEAT + 1
    packet = '420["once","' + "x" * 600 + '"]'
    answer = asyncio.ensure_future(client.call("once", "x" * 600))  # which counts once, and so fits
    await accepted(client, peers, 2)
    await until(lambda: peers.has_sent(packet))
    peers.last.say('430["done"]')
    assert await asyncio.wait_for(answer, WITHIN) == "done"
    assert peers.last.sent == ["40", packet]
    assert peers.made[0].sent == ["40"]
    await client.close()


async def test_what_is_volatile_is_dropped(peers: Peers, clock: Time):
    client = await connected(peers, clock)
    clock.now += HEARTBEAT + 1
    client.volatile.emit("dropped")
    await accepted(client, peers, 2)
    client.emit("after")
    await client.drain()
    assert peers.made[0].sent == ["40"]
    assert peers.last.sent == ["40", '42["after"]']
    await client.close()


async def test_a_connection_that_is_not_read_does_not_grow_old(peers: Peers, clock: Time):
    """Reading stops while handlers cannot keep up; then no ping can be seen."""
    client = await connected(peers, clock)
    connection = client.manager.connection
    assert connection is not None
    connection.pause()
    clock.now += 10 * HEARTBEAT
    client.emit("during")
    connection.resume()
    clock.now += HEARTBEAT - 1
    client.emit("after")
    await client.drain()
    assert peers.last.sent == ["40", '42["during"]', '42["after"]']
    clock.now += 2
    client.emit("late")
    await accepted(client, peers, 2)
    await until(lambda: peers.has_sent('42["late"]'))
    await client.close()


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a client wait for the answer to a Close frame for longer than anything expected may take."""
    monkeypatch.setattr("mizzen.client.websocket.CLOSE_TIME", 2 * WITHIN)


def hurried(url: str, clock: Time, attempts: list[int], *transports: TransportName) -> Client:
    """Give a client that notes each attempt to come back, which it makes when it has let go of what it had."""
    client = Client(url, transports=transports, reconnection_delay=0.01, reconnection_delay_max=0.01)
    client.manager.clock = clock
    client.manager.on("reconnect_attempt", lambda number: attempts.append(number))
    return client


@pytest.mark.usefixtures("patience")
async def test_the_close_handshake_of_a_silent_server_is_not_waited_for(clock: Time):
    attempts: list[int] = []
    async with serve(Server(), native=True) as url, proxied(url) as proxy:
        async with hurried(proxy.url, clock, attempts, "websocket") as client:
            proxy.stall()
            clock.now += HEARTBEAT + 1
            client.emit("event")
            await until(lambda: bool(attempts))
            assert client.reason is Reason.PING_TIMEOUT
            proxy.go_on()
            await until(lambda: client.connected)


@pytest.mark.usefixtures("patience")
async def test_nor_that_of_a_websocket_that_was_being_tried(clock: Time):
    io = Server()
    attempts: list[int] = []
    tried = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        """Take the probe of an upgrade, and never answer it."""
        if scope["type"] != "websocket":
            return await io(scope, receive, send)
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            tried.set()

    async with serve(app) as url, proxied(url) as proxy:
        async with hurried(proxy.url, clock, attempts, "polling", "websocket") as client:
            await asyncio.wait_for(tried.wait(), WITHIN)
            proxy.stall()
            clock.now += HEARTBEAT + 1
            client.emit("event")
            await until(lambda: bool(attempts))
            assert client.reason is Reason.PING_TIMEOUT


def test_the_clock_counts_the_sleep_of_the_machine():
    assert Client("http://nowhere").manager.clock is sleepless
    source = getattr(time, "CLOCK_BOOTTIME", None)
    before = time.clock_gettime(source) if source is not None else time.monotonic()
    between = sleepless()
    after = time.clock_gettime(source) if source is not None else time.monotonic()
    assert before <= between <= after
