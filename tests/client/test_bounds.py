"""What a server can make grow in the client has a bound, whatever it sends and does not read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from mizzen import Client, ConnectFailed, Reason
from mizzen.client.http import HTTP
from mizzen.client.websocket import WebSocketTransport
from mizzen.protocol.websocket import Opcode, encode_frame
from tests.client.peer import Peers
from tests.support import WITHIN, until

NOWHERE = "http://nowhere"
QUICKLY: dict[str, Any] = {"reconnection_delay": 0.01, "reconnection_delay_max": 0.02}
KILO = "x" * 1_000


@pytest.fixture
def peers() -> Peers:
    return Peers()


async def connected(client: Client, peers: Peers, told: str = '{"sid":"one"}') -> None:
    connecting = asyncio.ensure_future(client.connect())
    await until(lambda: peers.has_sent("40"))
    peers.last.say(f"40{told}")
    await asyncio.wait_for(connecting, WITHIN)


class TestEventsBeforeTheAnswerToConnect:
    async def test_more_than_max_buffer_ends_the_connection(self, peers: Peers):
        client = Client(NOWHERE, transports=[peers], max_buffer=10_000)
        got = client.events("early")
        connecting = asyncio.ensure_future(client.connect())
        await until(lambda: peers.has_sent("40"))
        for _ in range(1_000):
            peers.last.say(f'42["early","{KILO}"]')
        assert client.manager.early.size == 0, "nothing is kept of a connection that is given up"
        with pytest.raises(ConnectFailed, match=r"bytes of events to / before it answered the CONNECT \(max_buffer=10000\)"):
            await asyncio.wait_for(connecting, WITHIN)
        assert (client.active, client.reason) == (False, Reason.TRANSPORT_ERROR)
        assert [args async for args in got] == []

    async def test_as_many_as_fit_are_handled_and_make_room(self, peers: Peers):
        client = Client(NOWHERE, transports=[peers], max_buffer=10_000)
        got = client.events("early")
        connecting = asyncio.ensure_future(client.connect())
        await until(lambda: peers.has_sent("40"))
        peers.last.say(f'42["early","{KILO * 50}"]')  # one of any size
        for number in range(7):
            peers.last.say(f'42["early",{number},"{KILO}"]')
        assert client.manager.early.size > 57_000
        peers.last.say('40{"sid":"one"}')
        await asyncio.wait_for(connecting, WITHIN)
        assert client.manager.early.size == 0
        assert len((await anext(got))[0]) == 50_000
        assert [(await anext(got))[0] for _ in range(7)] == list(range(7))
        await client.close()

    async def test_all_namespaces_share_the_bound(self, peers: Peers):
        client = Client(NOWHERE, transports=[peers], max_buffer=10_000)
        both = [asyncio.ensure_future(socket.connect()) for socket in (client, client.of("/b"))]
        await until(lambda: peers.has_sent("40") and peers.has_sent("40/b,"))
        for _ in range(6):
            peers.last.say(f'42["early","{KILO}"]', f'42/b,["early","{KILO}"]')
        for connecting in both:
            with pytest.raises(ConnectFailed, match="max_buffer"):
                await asyncio.wait_for(connecting, WITHIN)

    async def test_a_namespace_that_is_refused_or_left_makes_room(self, peers: Peers):
        client = Client(NOWHERE, transports=[peers], max_buffer=10_000)
        await connected(client, peers)
        for name, end in (("/refused", '44/refused,{"message":"no"}'), ("/left", "")):
            connecting = asyncio.ensure_future(client.of(name).connect())
            await until(lambda name=name: peers.has_sent(f"40{name},"))
            peers.last.say(f'42{name},["early","{KILO}"]')
            assert client.manager.early.size > 1_000
            if end:
                peers.last.say(end)
            else:
                client.of(name).say_goodbye()
            await asyncio.wait((connecting,))
            assert connecting.exception() is not None
            assert client.manager.early.size == 0
        await client.close()

    async def test_a_session_that_missed_too_much_is_not_asked_for_again(self, peers: Peers):
        client = Client(NOWHERE, transports=[peers], max_buffer=10_000, **QUICKLY)
        errors: list[str] = []
        client.on("connect_error", lambda error: errors.append(str(error)))
        await connected(client, peers, '{"sid":"one","pid":"secret"}')
        peers.last.cut()
        await until(lambda: peers.has_sent('40{"pid":"secret"}'))
        for _ in range(20):
            peers.last.say(f'42["missed","{KILO}"]')
        await until(lambda: len(peers.made) == 3 and peers.has_sent("40"))
        peers.last.say('40{"sid":"two","pid":"other"}')
        await until(lambda: client.connected and bool(errors))
        assert not client.recovered
        assert "max_buffer=10000" in errors[0]
        await client.close()


class TestEventsThatWaitForHandlers:
    async def test_while_an_ack_is_awaited_it_is_read_on_up_to_twice_max_buffer(self, peers: Peers):
        client = Client(NOWHERE, transports=[peers], max_handlers=1, max_buffer=10_000, reconnection=False, close_grace=0)
        ends: list[str] = []
        client.on("disconnect", lambda reason, details: ends.append(details))

        @client.on("work")
        async def work(filler: str) -> None:
            await client.call("may I")

        await connected(client, peers)
        peers.last.say(f'42["work","{KILO * 50}"]')
        await until(lambda: client.outbox.awaiting)
        peers.last.say(f'42["work","{KILO * 50}"]')  # one of any size
        for _ in range(15):
            peers.last.say(f'42["work","{KILO}"]')
        assert client.connected
        assert not peers.last.paused
        for _ in range(5):
            peers.last.say(f'42["work","{KILO}"]')
        assert not client.connected
        await until(lambda: bool(ends))
        assert "(max_buffer=10000), which wait for acks that do not come" in ends[0]
        await client.close()


class TestAnswers:
    async def test_a_server_that_asks_and_does_not_read_is_given_up(self, peers: Peers):
        client = Client(NOWHERE, transports=[peers], max_buffer=10_000, reconnection=False)
        ends: list[tuple[Reason, str]] = []
        client.on("disconnect", lambda reason, details: ends.append((reason, details)))

        @client.on("ask")
        async def ask() -> str:
            return KILO

        await connected(client, peers)
        peers.last.reading = False
        for number in range(1_000):
            peers.last.say(f'42{number}["ask"]')
            await asyncio.sleep(0)
        await until(lambda: bool(ends))
        assert ends[0][0] is Reason.TRANSPORT_ERROR
        assert "answers to what it asked wait to be sent (max_buffer=10000)" in ends[0][1]

    async def test_one_that_reads_may_ask_for_any_amount(self, peers: Peers):
        client = Client(NOWHERE, transports=[peers], max_buffer=10_000)

        @client.on("ask")
        async def ask(length: int) -> str:
            return "x" * length

        await connected(client, peers)
        for number in range(50):
            peers.last.reading = number % 10 == 0
            peers.last.say(f'42{number}["ask",{50_000 if number % 10 == 1 else 1_000}]')  # one of any size besides
            await until(lambda: not client.manager.dispatcher.running)
            assert client.connected
        peers.last.reading = True
        peers.last.session.ready()
        assert sum(str(message).startswith("43") for message in peers.last.sent) == 50
        await client.close()

    async def test_goodbyes_to_a_namespace_that_was_left_count_too(self, peers: Peers):
        client = Client(NOWHERE, transports=[peers], max_buffer=1_000, reconnection=False)
        client.of("/left")
        await connected(client, peers)
        peers.last.reading = False
        for _ in range(1_000):
            peers.last.say('40/left,{"sid":"again"}')
        assert client.manager.connection is None
        assert await asyncio.wait_for(client.wait_closed(), WITHIN) is Reason.TRANSPORT_ERROR

    @pytest.mark.parametrize("reads", [True, False])
    async def test_a_server_that_pings_and_does_not_read_gets_no_pongs(self, reads: bool):
        options = Client(NOWHERE).manager.options
        wire = FakeWire()
        transport = WebSocketTransport(cast("Any", FakeSession()), HTTP(options), options)
        transport._transport = cast("Any", wire)
        if not reads:
            transport.pause_writing()
        for _ in range(100):
            transport.data_received(encode_frame(Opcode.PING, b"x" * 100))
        assert len(wire.written) == (100 if reads else 0)
        transport.resume_writing()
        transport.data_received(encode_frame(Opcode.PING, b"now"))
        assert len(wire.written) == (101 if reads else 1)


class TestHandlersOfTheManager:
    @pytest.mark.parametrize(("event", "packet"), [("packet", f'431["{KILO}"]'), ("ping", "2")])
    async def test_no_more_than_max_handlers_run_and_max_buffer_waits(self, peers: Peers, event: str, packet: str):
        client = Client(NOWHERE, transports=[peers], max_handlers=2, max_buffer=20_000)
        gate = asyncio.Event()
        heard, most = 0, 0

        async def hear(*args: Any) -> None:
            nonlocal heard, most
            most = max(most, client.manager.dispatcher.running)
            await gate.wait()
            heard += 1

        client.manager.on(event, hear)
        await connected(client, peers)
        said = 0
        while not peers.last.paused and said < 1_000:
            peers.last.say(packet)
            said += 1
        assert peers.last.paused
        assert said < 100
        gate.set()
        await until(lambda: heard >= said)
        assert most == 2
        assert not peers.last.paused
        await client.close()


class FakeWire:
    """What asyncio gives a protocol to write to."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def writelines(self, pieces: Sequence[bytes]) -> None:
        self.written += pieces


class FakeSession:
    """What a transport tells of what comes."""

    eio = 4

    def ready(self) -> None: ...
