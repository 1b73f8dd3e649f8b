"""What a server can make grow in the client has a bound, whatever it sends and does not read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from mizzen import Client, ConnectFailed, Reason, Server, Socket
from mizzen.client.http import HTTP
from mizzen.client.websocket import WebSocketTransport
from mizzen.protocol.websocket import Opcode, encode_frame, encode_message
from tests.client.peer import Peers, connected
from tests.support import WITHIN, serve, until

NOWHERE = "http://nowhere"
QUICKLY: dict[str, Any] = {"reconnection_delay": 0.01, "reconnection_delay_max": 0.02}
KILO = "x" * 1_000


@pytest.fixture
def peers() -> Peers:
    return Peers()


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


class TestHalfReceivedPackets:
    TEXT = '452-["blobs",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]'
    LARGE = b"x" * 50_000

    async def test_a_whole_packet_fits_whatever_max_buffer_is(self, peers: Peers):
        client = Client(NOWHERE, transports=[peers], max_buffer=10_000)
        got = client.events("blobs")
        await connected(client, peers)
        peers.last.session.receive_all([self.TEXT, self.LARGE, self.LARGE])
        assert await anext(got) == (self.LARGE, self.LARGE)
        await client.close()

    async def test_nothing_is_kept_of_one_whose_connection_is_lost(self, peers: Peers):
        client = Client(NOWHERE, transports=[peers], reconnection=False)
        got = client.events("blobs")
        await connected(client, peers)
        manager = client.manager
        peers.last.session.receive_all([self.TEXT, self.LARGE])
        assert manager._decoder is not None
        peers.last.cut()
        assert manager._decoder is None
        peers.last.session.receive_all([self.LARGE])
        await client.wait_closed()
        assert [args async for args in got] == []


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


class TestCompressedMessages:
    """Small ones inflate to much: no more of one read is taken than there is room for."""

    async def test_no_more_waits_for_handlers_than_may_and_nothing_is_lost(self):
        count, text = 3_000, KILO * 10
        io = Server(per_message_deflate=True, max_buffer=100_000_000)
        gate = asyncio.Event()
        began: list[int] = []
        most = 0

        @io.on("go")
        async def go(socket: Socket) -> None:
            for number in range(count):
                socket.emit("n", number, text)

        async with serve(io, native=True) as url:
            options: dict[str, Any] = {"per_message_deflate": True, "max_payload": 50_000, "max_buffer": 200_000, "max_handlers": 2}
            client = Client(url, transports=("websocket",), close_grace=0, **options)
            dispatcher = client.manager.dispatcher

            @client.on("n")
            async def n(number: int, text: str) -> None:
                nonlocal most
                began.append(number)
                most = max(most, dispatcher._inbox_size)
                await gate.wait()

            async with client:
                client.emit("go")
                connection = client.manager.connection
                assert connection is not None
                await until(lambda: connection.paused)
                for _ in range(5):
                    await asyncio.sleep(0)
                most = max(most, dispatcher._inbox_size)
                assert 200_000 < most < 200_000 + 50_000 + 3 * len(text)
                gate.set()
                await until(lambda: len(began) == count)
                assert began == [*range(count)]
                assert 200_000 < most < 200_000 + 50_000 + 3 * len(text)
                assert not connection.paused

    @pytest.fixture
    def transport(self) -> WebSocketTransport:
        """Give a transport that has agreed to compression, and has paused in the middle of ten messages, a ping and a Close frame."""
        options = Client(NOWHERE, max_payload=2_500).manager.options
        session = FakeSession()
        transport = WebSocketTransport(cast("Any", session), HTTP(options), options)
        session.transport = transport
        transport._transport = cast("Any", FakeWire())
        transport._codec.inflate = True
        session.pauses = True
        messages = [encode_message(Opcode.TEXT, f"{number}{KILO}".encode(), 1) for number in range(10)]
        transport.data_received(b"".join(messages) + encode_frame(Opcode.PING, b"?") + encode_frame(Opcode.CLOSE, b"\x0f\xa1"))
        assert session.numbers == [0, 1, 2]
        return transport

    async def test_what_is_left_is_read_on_in_order_before_the_network_is(self, transport: WebSocketTransport):
        session, wire = cast("FakeSession", transport.session), cast("FakeWire", transport._transport)
        transport.resume_reading()
        assert not wire.reading
        assert session.numbers == [0, 1, 2]
        transport.pause_reading()
        await asyncio.sleep(0)
        assert session.numbers == [0, 1, 2], "paused again"
        transport.resume_reading()
        await asyncio.sleep(0)
        assert session.numbers == [0, 1, 2, 3, 4, 5]
        assert not wire.reading
        session.pauses = False
        transport.resume_reading()
        assert not wire.written
        await asyncio.sleep(0)
        assert session.numbers == [*range(10)]
        assert len(wire.written) == 2
        assert session.ends == ["the server closed the WebSocket with code 4001"]
        assert not wire.reading, "it is closed"

    async def test_what_is_left_when_the_connection_is_lost_is_not_read_any_more(self, transport: WebSocketTransport):
        session = cast("FakeSession", transport.session)
        session.pauses = False
        transport.resume_reading()
        transport.connection_lost(None)
        await asyncio.sleep(0)
        transport.resume_reading()
        await asyncio.sleep(0)
        assert session.numbers == [0, 1, 2]
        assert session.ends == ["the connection was cut"]

    async def test_who_closes_finds_the_close_frame_behind_what_is_left(self, transport: WebSocketTransport):
        session, wire = cast("FakeSession", transport.session), cast("FakeWire", transport._transport)
        session.pauses = False
        closing = asyncio.ensure_future(transport.close())
        await until(lambda: wire.closed)
        transport.connection_lost(None)
        await closing
        assert session.numbers == [*range(10)]
        assert transport._codec.close_code == 4001


class FakeWire:
    """What asyncio gives a protocol to write to."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.paused = self.closed = False

    @property
    def reading(self) -> bool:
        return not self.paused and not self.closed

    def writelines(self, pieces: Sequence[bytes]) -> None:
        self.written += pieces

    def is_reading(self) -> bool:
        return self.reading

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def close(self) -> None:
        self.closed = True


class FakeSession:
    """What a transport tells of what comes: `numbers` of the messages, and how it ended. With `pauses` it stops at every read."""

    eio = 4
    silent = False

    def __init__(self) -> None:
        self.transport: WebSocketTransport | None = None
        self.numbers: list[int] = []
        self.ends: list[str] = []
        self.pauses = False

    def receive_all(self, packets: Sequence[str | bytes]) -> None:
        self.numbers += [int(packet[:1]) for packet in packets]
        if self.pauses and self.transport is not None:
            self.transport.pause_reading()

    def lost(self, reason: Reason, details: str) -> None:
        self.ends.append(details)

    def ready(self) -> None: ...


async def test_what_the_queue_of_retries_has_accepted_goes_however_much_another_socket_sends(peers: Peers):
    client = Client(NOWHERE, transports=[peers], max_buffer=1_000, retries=1, ack_timeout=WITHIN)
    other = client.of("/other")
    other.emit("accepted", KILO)
    connecting = asyncio.gather(client.connect(), other.connect())
    await until(lambda: peers.has_sent("40/other,"))
    peers.last.reading = False
    client.emit("unsent", KILO)
    peers.last.say('40{"sid":"main"}', '40/other,{"sid":"other"}')
    await asyncio.wait_for(connecting, WITHIN)
    peers.last.reading = True
    peers.last.session.ready()
    await until(lambda: any('["accepted"' in str(packet) for packet in peers.last.sent))
    await client.close()
