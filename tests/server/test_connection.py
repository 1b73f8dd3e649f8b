"""Connections without IO: what is queued, when it leaves, how slow a client may be, heartbeats, upgrade, and each kind of end."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.errors import LocalProtocolError
from mizzen.options import ServerOptions
from mizzen.protocol.encoded import Encoded
from mizzen.protocol.engine import CLOSE_PACKET, NOOP_PACKET, PING_PACKET, PONG_PACKET, Due, Link, State
from mizzen.server.connection import Connection
from mizzen.server.sessions import DRAIN_TIME, STALL_TIME, Sessions
from mizzen.types import Handshake, Reason
from tests.support import FakeClock

POLLING, PROBING, WEBSOCKET = Link.POLLING, Link.PROBING, Link.WEBSOCKET
SCOPE = {"type": "http", "path": "/socket.io/", "query_string": b"", "headers": [], "client": ("192.0.2.7", 1234)}


class FakeSocketTransport:
    """Takes one batch at a time, as a WebSocket does; while `stuck`, a send does not return."""

    name = "websocket"

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.stuck = False
        self.sent: list[Encoded] = []
        self.batches = 0
        self.ended: list[Encoded] = []
        self.reading = True
        self.buffered = 0
        self.sending = False

    @property
    def writable(self) -> bool:
        return not self.sending

    def flush(self, out: list[Encoded]) -> bool:
        assert out, "nothing to flush"
        assert not self.ended
        if self.sending:
            return False
        self.batches += 1
        self.sent += out
        if self.stuck:
            self.sending = True
            self.buffered = sum(encoded.size for encoded in out) - max(encoded.size for encoded in out)
        return True

    def finish(self) -> None:
        """Let the send that is under way return."""
        self.sending = False
        self.buffered = 0
        self.connection.flush()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def end(self, last: Encoded) -> None:
        self.ended.append(last)


class FakePollingTransport:
    """Takes packets only while a GET waits."""

    name = "polling"
    buffered = 0
    sending = False

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.writable = False
        self.sent: list[Encoded] = []
        self.batches = 0
        self.ended: list[Encoded] = []
        self.reading = True

    def flush(self, out: list[Encoded]) -> bool:
        assert out, "nothing to flush"
        if not self.writable:
            return False
        self.writable = False
        self.batches += 1
        self.sent += out
        return True

    def get(self) -> None:
        """Let a GET come."""
        self.writable = True
        self.connection.flush()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def end(self, last: Encoded) -> None:
        self.ended.append(last)


class Listener:
    """A consumer that notes what it is told."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.openings = 0
        self.messages: list[str | bytes] = []
        self.ends: list[tuple[Reason, str | None]] = []
        self.react: Callable[[], None] | None = None

    def opened(self) -> None:
        self.openings += 1

    def received(self, message: str | bytes) -> None:
        self.messages.append(message)
        if self.react is not None:
            self.react()

    def closed(self, reason: Reason, details: str | None) -> None:
        self.ends.append((reason, details))


class World:
    """A clock, the sessions on it, and who listens to them."""

    def __init__(self, **options: object) -> None:
        self.clock = FakeClock()
        self.sessions = Sessions(ServerOptions(**options), self.clock, self._accept)  # pyright: ignore[reportArgumentType]
        self.listeners: dict[Connection, Listener] = {}

    def _accept(self, connection: Connection) -> Listener:
        self.listeners[connection] = Listener(connection)
        return self.listeners[connection]

    def socket(self, eio: int = 4) -> tuple[Connection, FakeSocketTransport]:
        """Open a connection on WebSocket; the open packet has been sent."""
        connection = self.sessions.create(Handshake(SCOPE), eio, WEBSOCKET)
        transport = FakeSocketTransport(connection)
        connection.start(transport)
        self.clock.turn()
        assert [encoded.size for encoded in transport.sent] == [len(self.sessions.open_packet(connection))]
        transport.sent.clear()
        transport.batches = 0
        return connection, transport

    def polling(self, eio: int = 4) -> tuple[Connection, FakePollingTransport]:
        """Open a connection on polling; the open packet has been fetched, and no GET waits."""
        connection = self.sessions.create(Handshake(SCOPE), eio, POLLING)
        transport = FakePollingTransport(connection)
        connection.start(transport)
        transport.get()
        self.clock.turn()
        assert len(transport.sent) == 1
        transport.sent.clear()
        transport.batches = 0
        return connection, transport

    def ends(self, connection: Connection) -> list[tuple[Reason, str | None]]:
        return self.listeners[connection].ends

    def check_nothing_is_left(self) -> None:
        """No session, deadline or timer."""
        assert len(self.sessions) == 0
        assert [len(deadlines) for deadlines in self.sessions.heartbeats.values()] == [0] * 4
        assert len(self.sessions.draining) == 0
        assert self.clock.timers == 0


@pytest.fixture
def world() -> World:
    return World()


def text(size: int) -> Encoded:
    """Give a message of `size` bytes."""
    return Encoded(b"4" + b"x" * (size - 1))


A, B, C = Encoded(b"4a"), Encoded(b"4b", (b"blob",)), Encoded(b"4c")


# Opening


def test_the_open_packet_is_first_and_the_consumer_is_told_once(world: World) -> None:
    connection = world.sessions.create(Handshake(SCOPE), 4, POLLING)
    transport = FakePollingTransport(connection)
    connection.start(transport)
    connection.write(A)
    transport.get()
    assert transport.sent[0].data is not None
    assert json.loads(transport.sent[0].data[1:]) == {
        "sid": connection.sid,
        "upgrades": ["websocket"],
        "pingInterval": 25000,
        "pingTimeout": 20000,
        "maxPayload": 1000000,
    }
    assert transport.sent[1:] == [A]
    assert world.listeners[connection].openings == 1
    assert world.sessions.get(connection.sid) is connection
    assert len(connection.sid) == 20


# Out


def test_what_is_written_in_one_turn_leaves_in_one_flush_in_order(world: World) -> None:
    connection, transport = world.socket()
    for encoded in (A, B, C):
        connection.write(encoded)
    assert transport.sent == []
    assert connection.unsent == A.size + B.size + C.size
    world.clock.turn()
    assert (transport.sent, transport.batches, connection.unsent) == ([A, B, C], 1, 0)


def test_what_is_written_during_a_send_waits_for_it_and_follows_in_order(world: World) -> None:
    connection, transport = world.socket()
    transport.stuck = True
    connection.write(A)
    world.clock.turn()
    connection.write(B)
    world.clock.turn()
    connection.write(C)
    world.clock.turn()
    assert transport.sent == [A]
    transport.finish()
    assert transport.sent == [A, B, C]


def test_polling_keeps_everything_until_a_get_comes(world: World) -> None:
    connection, transport = world.polling()
    connection.write(A)
    world.clock.turn()
    connection.write(B)
    world.clock.turn()
    assert transport.sent == []
    transport.get()
    assert (transport.sent, transport.batches) == ([A, B], 1)


def test_a_get_that_waits_is_answered_at_the_end_of_the_turn(world: World) -> None:
    connection, transport = world.polling()
    transport.get()
    connection.write(A)
    connection.write(B)
    assert transport.sent == []
    world.clock.turn()
    assert (transport.sent, transport.batches) == ([A, B], 1)


async def test_drained_returns_when_nothing_waits_any_more(world: World) -> None:
    connection, transport = world.socket()
    await connection.drained()
    transport.stuck = True
    connection.write(A)
    waiters = [asyncio.ensure_future(connection.drained()) for _ in range(2)]
    await asyncio.sleep(0)
    world.clock.turn()
    await asyncio.sleep(0)
    assert not any(waiter.done() for waiter in waiters), "it is being sent"
    transport.finish()
    await asyncio.gather(*waiters)


@pytest.mark.parametrize(
    "end", [lambda connection: connection.lost(Reason.TRANSPORT_CLOSE), lambda connection: connection.receive_all(["1"])]
)
async def test_drained_returns_when_the_connection_ends(world: World, end: Callable[[Connection], None]) -> None:
    connection, _ = world.polling()
    connection.write(A)
    waiter = asyncio.ensure_future(connection.drained())
    await asyncio.sleep(0)
    end(connection)
    await waiter


# Slow consumers


@pytest.fixture(params=["websocket", "polling"])
def slow(request: pytest.FixtureRequest) -> tuple[World, Connection, FakeSocketTransport | FakePollingTransport]:
    """Give a connection with a buffer of 100 bytes whose client reads nothing."""
    world = World(max_buffer=100)
    if request.param == "polling":
        return world, *world.polling()
    connection, transport = world.socket()
    transport.stuck = True
    return world, connection, transport


Slow = tuple[World, Connection, FakeSocketTransport | FakePollingTransport]


def test_one_whole_message_always_fits(slow: Slow) -> None:
    world, connection, _ = slow
    connection.write(text(100_000))
    world.clock.turn()
    world.clock.turn()
    assert not connection.gone
    connection.write(text(100))
    world.clock.turn()
    assert not connection.gone, "max_buffer may wait besides it"


def test_more_than_max_buffer_besides_the_largest_ends_the_connection_at_the_end_of_the_turn(slow: Slow) -> None:
    world, connection, transport = slow
    connection.write(text(10))
    connection.write(text(50))
    connection.write(text(1000))
    connection.write(text(40))
    world.clock.turn()
    assert not connection.gone
    connection.write(text(11))
    connection.write(text(2))
    assert not connection.gone, "a write never closes"
    world.clock.turn()
    assert connection.gone
    assert world.ends(connection) == [(Reason.TRANSPORT_ERROR, "slow consumer")]
    assert transport.ended == [CLOSE_PACKET]
    world.check_nothing_is_left()


def test_many_small_messages_count_together_with_their_attachments(slow: Slow) -> None:
    world, connection, _ = slow
    for _ in range(11):
        connection.write(Encoded(b"4" * 4, (b"x" * 6,)))
    world.clock.turn()
    assert not connection.gone
    connection.write(Encoded(b"4" * 4, (b"x" * 6,)))
    connection.write(Encoded(b"4" * 1))
    world.clock.turn()
    assert connection.gone


def test_a_slow_consumer_touches_no_other_and_is_logged_once_with_its_address(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mizzen.server")
    world = World(max_buffer=100)
    slow, _ = world.polling()
    fine, transport = world.socket()
    message = text(60)
    for _ in range(3):
        for connection in (slow, fine):
            connection.write(message)
        world.clock.turn()
    assert slow.gone
    assert transport.sent == [message] * 3
    assert list(world.sessions.connections.values()) == [fine]
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert slow.sid in record.getMessage()
    assert "192.0.2.7" in record.getMessage()


def test_a_client_that_reads_makes_room_again() -> None:
    world = World(max_buffer=100)
    connection, transport = world.polling()
    for _ in range(50):
        connection.write(text(60))
        world.clock.turn()
        transport.get()
    assert not connection.gone
    assert len(transport.sent) == 50
    assert connection.unsent == 0


# Held for a CONNECT packet


def test_held_bytes_count_and_are_no_longer_counted_twice_when_they_are_written(slow: Slow) -> None:
    world, connection, _ = slow
    connection.write(text(10))
    connection.hold(40)
    connection.hold(50)
    assert (connection.held, connection.unsent) == (90, 100)
    world.clock.turn()
    connection.hold(-90)
    connection.write(text(40))
    connection.write(text(50))
    assert connection.held == 0
    world.clock.turn()
    assert not connection.gone


def test_held_bytes_outlast_a_flush(world: World) -> None:
    connection, transport = world.socket()
    connection.hold(70)
    connection.write(A)
    world.clock.turn()
    assert (transport.sent, connection.unsent, connection.held) == ([A], 70, 70)
    connection.hold(-70)
    world.clock.turn()
    assert (connection.unsent, connection.held) == (0, 0)


def test_too_much_held_ends_the_connection_even_if_nothing_else_is_written() -> None:
    world = World(max_buffer=100)
    connection, _ = world.socket()
    connection.hold(60)
    world.clock.turn()
    assert not connection.gone
    connection.hold(101)  # the largest, which always fits
    connection.hold(41)
    assert not connection.gone
    world.clock.turn()
    assert world.ends(connection) == [(Reason.TRANSPORT_ERROR, "slow consumer")]


def test_one_whole_message_fits_while_it_is_held_too() -> None:
    world = World(max_buffer=100)
    connection, transport = world.socket()
    message = text(1000)
    connection.hold(message.size)
    world.clock.turn()
    assert not connection.gone
    connection.write(A)  # the CONNECT packet
    connection.hold(-message.size)
    connection.write(message)
    world.clock.turn()
    assert transport.sent == [A, message]


# Volatile


def test_volatile_is_dropped_only_while_a_send_is_under_way(world: World) -> None:
    connection, transport = world.socket()
    transport.stuck = True
    connection.write_volatile(A)
    connection.write_volatile(B)  # of the same turn, which does not count
    world.clock.turn()
    connection.write_volatile(C)
    assert connection.unsent == 0
    transport.finish()
    assert transport.sent == [A, B]
    connection.write_volatile(C)
    world.clock.turn()
    assert transport.sent == [A, B, C]


def test_volatile_is_dropped_while_no_get_waits(world: World) -> None:
    connection, transport = world.polling()
    connection.write_volatile(A)
    transport.get()
    connection.write_volatile(B)
    world.clock.turn()
    assert transport.sent == [B]


def test_volatile_is_dropped_during_an_upgrade_even_if_a_get_waits(world: World) -> None:
    connection, transport = world.polling()
    transport.get()
    connection.probe(lambda: None)
    connection.write_volatile(A)
    connection.write(B)
    world.clock.turn()
    assert transport.sent == [B]
    connection.probe_lost()
    transport.get()
    connection.write_volatile(C)
    world.clock.turn()
    assert transport.sent == [B, C]


# Upgrade


def test_an_upgrade_keeps_what_is_queued_and_its_order(world: World) -> None:
    connection, polling = world.polling()
    connection.write(A)
    world.clock.turn()
    assert connection.upgradable
    connection.probe(lambda: None)
    assert (connection.probing, connection.upgradable) == (True, False)
    connection.write(B)
    websocket = FakeSocketTransport(connection)
    connection.upgraded(websocket)
    assert (websocket.sent, polling.sent) == ([A, B], []), "at once"
    connection.write(C)
    world.clock.turn()
    assert websocket.sent == [A, B, C]
    assert connection.engine.link is WEBSOCKET
    assert (connection.probing, connection.upgradable) == (False, False)


def test_polling_goes_on_while_probing(world: World) -> None:
    connection, polling = world.polling()
    connection.probe(lambda: None)
    polling.get()
    connection.write(A)
    world.clock.turn()
    connection.write(B)
    world.clock.turn()
    websocket = FakeSocketTransport(connection)
    connection.upgraded(websocket)
    assert (polling.sent, websocket.sent) == ([A], [B])


def test_a_lost_probe_leaves_the_connection_on_polling_and_hands_out_what_is_queued(world: World) -> None:
    connection, polling = world.polling()
    connection.probe(lambda: None)
    connection.write(A)
    connection.probe_lost()
    connection.probe_lost()
    polling.get()
    assert polling.sent == [A]
    assert connection.upgradable


def test_a_second_probe_is_a_mistake_of_the_caller_and_changes_nothing(world: World) -> None:
    connection, _ = world.polling()
    cancelled: list[str] = []
    connection.probe(lambda: cancelled.append("first"))
    with pytest.raises(LocalProtocolError):
        connection.probe(lambda: cancelled.append("second"))
    connection.lost(Reason.TRANSPORT_ERROR)
    assert cancelled == ["first"]


@pytest.mark.parametrize("closing", [True, False])
def test_an_upgrade_that_comes_after_the_end_is_refused(world: World, closing: bool) -> None:
    connection, polling = world.polling()
    connection.probe(lambda: None)
    (connection.close if closing else connection.lost)(Reason.FORCED_CLOSE)
    websocket = FakeSocketTransport(connection)
    with pytest.raises(LocalProtocolError):
        connection.upgraded(websocket)
    connection.probe_lost()
    assert (connection.transport is polling) is closing


def test_the_end_cancels_the_probe_once_and_a_finished_probe_is_not_cancelled(world: World) -> None:
    cancelled: list[str] = []
    for name in ("gone", "lost", "upgraded"):
        connection, _ = world.polling()
        connection.probe(lambda name=name: cancelled.append(name))
        if name == "lost":
            connection.probe_lost()
        elif name == "upgraded":
            connection.upgraded(FakeSocketTransport(connection))
        connection.lost(Reason.TRANSPORT_CLOSE)
        connection.lost(Reason.TRANSPORT_CLOSE)
    assert cancelled == ["gone"]


def test_the_heartbeat_outlives_the_upgrade(world: World) -> None:
    connection, _ = world.polling()
    world.clock.advance(10)
    connection.probe(lambda: None)
    websocket = FakeSocketTransport(connection)
    connection.upgraded(websocket)
    world.clock.advance(14.75)
    assert websocket.sent == []
    world.clock.advance(0.25)
    assert websocket.sent == [PING_PACKET]


# Closing


def test_closing_a_websocket_sends_what_is_queued_first(world: World) -> None:
    connection, transport = world.socket()
    transport.stuck = True
    connection.write(A)
    world.clock.turn()
    connection.write(B)
    connection.close(Reason.SERVER_SHUTTING_DOWN, "bye")
    assert world.ends(connection) == [(Reason.SERVER_SHUTTING_DOWN, "bye")], "its consumer is told at once"
    world.clock.turn()
    assert (transport.ended, connection.gone) == ([], False)
    transport.finish()
    assert transport.sent == [A, B]
    assert not connection.gone
    transport.finish()
    assert connection.gone
    assert len(transport.ended) == 1
    assert len(world.ends(connection)) == 1
    world.check_nothing_is_left()


def test_closing_with_nothing_queued_ends_within_the_turn(world: World) -> None:
    connection, transport = world.socket()
    connection.close(Reason.FORCED_CLOSE)
    world.clock.turn()
    assert connection.gone
    assert (transport.sent, len(transport.ended)) == ([], 1)
    world.check_nothing_is_left()


def test_closing_on_polling_sends_a_close_packet_behind_what_is_queued(world: World) -> None:
    connection, transport = world.polling()
    connection.write(A)
    connection.close(Reason.FORCED_CLOSE)
    connection.close(Reason.SERVER_SHUTTING_DOWN)
    world.clock.turn()
    assert not connection.gone, "no GET has come for it"
    transport.get()
    assert transport.sent == [A, CLOSE_PACKET]
    assert connection.gone
    assert world.ends(connection) == [(Reason.FORCED_CLOSE, None)]
    world.check_nothing_is_left()


def test_while_closing_nothing_more_is_queued_or_taken(world: World) -> None:
    connection, transport = world.polling()
    connection.close(Reason.FORCED_CLOSE)
    connection.write(A)
    connection.write_volatile(B)
    connection.receive_all(["4late"])
    transport.get()
    assert transport.sent == [CLOSE_PACKET], "a packet behind the close packet is one that nobody reads"
    assert world.listeners[connection].messages == []


@pytest.mark.parametrize("open_on", ["socket", "polling"])
def test_a_drain_takes_half_a_minute_at_most_and_keeps_its_reason(open_on: str) -> None:
    world = World(ping_interval=1000)
    connection, transport = getattr(world, open_on)()
    transport.stuck = True
    connection.write(A)
    world.clock.turn()
    connection.write(B)
    connection.close(Reason.SERVER_SHUTTING_DOWN)
    world.clock.advance(DRAIN_TIME - 0.25)
    assert not connection.gone
    world.clock.advance(0.25)
    assert connection.gone
    assert connection.engine.reason is Reason.SERVER_SHUTTING_DOWN
    assert len(transport.ended) == 1
    assert world.ends(connection) == [(Reason.SERVER_SHUTTING_DOWN, None)]
    world.check_nothing_is_left()


@pytest.mark.parametrize(("eio", "heartbeat"), [(4, "3"), (3, "2")])
def test_signs_of_life_do_not_prolong_a_drain(world: World, eio: int, heartbeat: str) -> None:
    connection, _ = world.polling(eio)
    connection.write(A)
    connection.close(Reason.FORCED_CLOSE)
    for _ in range(int(DRAIN_TIME)):
        assert not connection.gone
        connection.receive_all([heartbeat])
        world.clock.advance(1)
    assert connection.gone
    world.check_nothing_is_left()


def test_the_end_of_a_ping_interval_does_not_cut_a_drain_short(world: World) -> None:
    connection, transport = world.socket()
    transport.stuck = True
    world.clock.advance(24.75)
    connection.write(A)
    world.clock.turn()
    connection.write(B)
    connection.close(Reason.SERVER_SHUTTING_DOWN)
    world.clock.advance(1)
    assert not connection.gone, "its client owes no pong"
    transport.finish()
    transport.finish()
    assert transport.sent == [A, B]
    world.check_nothing_is_left()


def test_a_client_that_owes_a_pong_does_not_hold_up_a_drain_longer_than_it_may_owe_it(world: World) -> None:
    connection, _ = world.polling()
    world.clock.advance(25)
    connection.close(Reason.FORCED_CLOSE)
    world.clock.advance(20)
    assert connection.gone
    assert world.ends(connection) == [(Reason.FORCED_CLOSE, None)]
    world.check_nothing_is_left()


def test_a_client_that_closes_first_ends_the_drain(world: World) -> None:
    connection, _ = world.polling()
    connection.write(A)
    connection.close(Reason.FORCED_CLOSE)
    connection.receive_all(["1"])
    assert connection.gone
    assert world.ends(connection) == [(Reason.FORCED_CLOSE, None)]
    world.check_nothing_is_left()


def test_sessions_that_wait_only_to_say_that_they_close_can_be_forgotten(world: World) -> None:
    idle, _ = world.polling()
    busy, _ = world.polling()
    busy.write(A)
    opened, _ = world.polling()
    for connection in (idle, busy):
        connection.close(Reason.SERVER_SHUTTING_DOWN)
    world.clock.turn()
    world.sessions.forget_idle()
    assert (idle.gone, busy.gone, opened.gone) == (True, False, False)


# Lost


def test_a_lost_connection_is_gone_at_once_with_all_that_was_queued(world: World) -> None:
    connection, transport = world.socket()
    connection.write(A)
    connection.hold(10)
    connection.lost(Reason.TRANSPORT_CLOSE, "reset")
    assert connection.gone
    assert (connection.unsent, connection.held, connection.engine.out) == (0, 0, [])
    assert transport.ended == [CLOSE_PACKET]
    assert world.ends(connection) == [(Reason.TRANSPORT_CLOSE, "reset")]
    world.clock.turn()
    connection.write(B)
    connection.write_volatile(B)
    world.clock.turn()
    assert transport.sent == []
    world.check_nothing_is_left()


def test_a_close_packet_is_answered_with_a_noop(world: World) -> None:
    # On polling "the pending GET is answered `6`"
    connection, transport = world.polling()
    connection.receive_all(["1"])
    assert transport.ended == [NOOP_PACKET]
    assert world.ends(connection) == [(Reason.TRANSPORT_CLOSE, None)]
    world.check_nothing_is_left()


@pytest.mark.parametrize(
    ("packet", "eio", "reason"),
    [
        ("", 4, Reason.PARSE_ERROR),
        ("x", 4, Reason.PARSE_ERROR),
        ("b!", 4, Reason.PARSE_ERROR),
        ("2", 4, Reason.TRANSPORT_ERROR),
        ("3", 3, Reason.TRANSPORT_ERROR),
        ("5", 4, Reason.TRANSPORT_ERROR),
    ],
)
def test_what_breaks_the_protocol_ends_that_connection_and_is_logged_once(
    world: World, caplog: pytest.LogCaptureFixture, packet: str, eio: int, reason: Reason
) -> None:
    caplog.set_level(logging.INFO, "mizzen.server")
    other, _ = world.socket()
    connection, _ = world.socket(eio)
    connection.receive_all([packet])
    ((told, details),) = world.ends(connection)
    assert told is reason
    assert details
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert connection.sid in record.getMessage()
    assert details in record.getMessage()
    assert not other.gone


@pytest.mark.parametrize("packet", ["1", "2", "3", "4x", "6", "x", "", b"x"])
def test_what_comes_after_the_end_has_no_effect(world: World, packet: str | bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mizzen.server")
    connection, transport = world.polling()
    connection.lost(Reason.TRANSPORT_ERROR)
    connection.receive_all([packet])
    world.clock.turn()
    assert transport.ended == [CLOSE_PACKET], "the transport is let go of once"
    assert world.ends(connection) == [(Reason.TRANSPORT_ERROR, None)]
    assert connection.engine.out == []
    assert caplog.records == []
    world.check_nothing_is_left()


def test_a_message_that_makes_its_consumer_close_is_the_last(world: World) -> None:
    connection, _ = world.socket()
    listener = world.listeners[connection]
    listener.react = lambda: connection.close(Reason.FORCED_CLOSE)
    connection.receive_all(["4first"])
    connection.receive_all(["4second"])
    assert listener.messages == ["first"]
    assert listener.ends == [(Reason.FORCED_CLOSE, None)]


def test_a_message_that_makes_its_consumer_lose_the_connection_is_the_last(world: World) -> None:
    connection, transport = world.socket()
    listener = world.listeners[connection]
    listener.react = lambda: connection.lost(Reason.FORCED_CLOSE)
    connection.receive_all(["4first"])
    connection.receive_all([b"second"])
    assert listener.messages == ["first"]
    assert transport.ended == [CLOSE_PACKET]


ENDINGS: dict[str, Callable[[World, Connection], object]] = {
    "close": lambda _, connection: connection.close(Reason.FORCED_CLOSE),
    "lost": lambda _, connection: connection.lost(Reason.TRANSPORT_CLOSE),
    "close packet": lambda _, connection: connection.receive_all(["1"]),
    "garbage": lambda _, connection: connection.receive_all(["?"]),
    "message": lambda _, connection: connection.receive_all(["4x"]),
    "write": lambda _, connection: connection.write(text(40)),
    "hold": lambda _, connection: connection.hold(30),
    "flush": lambda _, connection: connection.flush(),
    "probe lost": lambda _, connection: connection.probe_lost(),
    "pause": lambda _, connection: None if connection.gone else connection.pause(),
    "resume": lambda _, connection: connection.resume(),
    "turn": lambda world, _: world.clock.turn(),
    "time": lambda world, _: world.clock.advance(21),
}


@given(st.booleans(), st.sampled_from([3, 4]), st.booleans(), st.lists(st.sampled_from(list(ENDINGS)), max_size=12))
def test_the_end_is_told_exactly_once_however_it_comes(polling: bool, eio: int, stuck: bool, steps: list[str]) -> None:
    world = World(max_buffer=100)
    connection, transport = world.polling(eio) if polling else world.socket(eio)
    if isinstance(transport, FakeSocketTransport):
        transport.stuck = stuck
    for step in steps:
        ENDINGS[step](world, connection)
        assert len(world.ends(connection)) == (connection.engine.state is not State.OPEN)
    if not connection.gone:
        connection.lost(Reason.TRANSPORT_CLOSE)
    world.clock.turn()
    assert len(world.ends(connection)) == 1
    assert world.ends(connection)[0][0] is connection.engine.reason
    assert len(transport.ended) == 1
    world.check_nothing_is_left()


# Heartbeats


def test_the_server_pings_when_the_interval_has_passed_and_not_before(world: World) -> None:
    connection, transport = world.socket()
    world.clock.advance(24.75)
    assert transport.sent == []
    world.clock.advance(0.25)
    assert transport.sent == [PING_PACKET]
    world.clock.advance(5)
    connection.receive_all(["3"])
    world.clock.advance(24.75)
    assert transport.sent == [PING_PACKET]
    world.clock.advance(0.25)
    assert transport.sent == [PING_PACKET] * 2, "an interval after the pong"


def test_the_ping_timeout_is_exact(world: World) -> None:
    connection, transport = world.socket()
    world.clock.advance(25)
    world.clock.advance(19.75)
    assert not connection.gone
    world.clock.advance(0.25)
    assert world.ends(connection) == [(Reason.PING_TIMEOUT, None)]
    assert transport.ended == [CLOSE_PACKET]
    world.check_nothing_is_left()


def test_a_pong_just_in_time_saves_the_connection(world: World) -> None:
    connection, _ = world.socket()
    for _ in range(5):
        world.clock.advance(25 + 19.75)
        connection.receive_all(["3"])
    assert not connection.gone


def test_a_message_in_place_of_the_pong_gains_one_more_timeout(world: World) -> None:
    connection, _ = world.socket()
    world.clock.advance(25 + 10)
    connection.receive_all(["4part of a long upload"])
    world.clock.advance(10 + 10)
    connection.receive_all(["4another part"])
    world.clock.advance(9.75)
    assert not connection.gone
    world.clock.advance(0.25)
    assert world.ends(connection) == [(Reason.PING_TIMEOUT, None)]


def test_the_extension_of_one_connection_does_not_keep_a_silent_one_alive(world: World) -> None:
    uploading, _ = world.socket()
    world.clock.advance(1)
    silent, _ = world.socket()
    world.clock.advance(24)
    uploading.receive_all(["4part"])
    world.clock.advance(20)
    assert (uploading.gone, silent.gone) == (False, False)
    world.clock.advance(1)
    assert (uploading.gone, silent.gone) == (False, True)


@pytest.mark.parametrize("open_on", ["socket", "polling"])
def test_a_client_of_engine_io_3_pings_and_is_answered(world: World, open_on: str) -> None:
    connection, transport = getattr(world, open_on)(3)
    if isinstance(transport, FakePollingTransport):
        transport.get()
    world.clock.advance(44.75)
    connection.receive_all(["2"])
    world.clock.turn()
    assert transport.sent == [PONG_PACKET], "the server itself pings nobody"
    world.clock.advance(44.75)
    assert not connection.gone
    world.clock.advance(0.25)
    assert world.ends(connection) == [(Reason.PING_TIMEOUT, None)]


def test_messages_of_an_engine_io_3_client_are_not_pings(world: World) -> None:
    connection, _ = world.socket(3)
    world.clock.advance(40)
    connection.receive_all(["4x"])
    world.clock.advance(5)
    assert connection.gone


@pytest.mark.parametrize("eio", [3, 4])
def test_a_thousand_connections_share_one_timer(world: World, eio: int) -> None:
    connections = [world.sessions.create(Handshake(SCOPE), eio, WEBSOCKET) for _ in range(1000)]
    for connection in connections:
        connection.start(FakeSocketTransport(connection))
        world.clock.advance(0.001)
    assert world.clock.timers == 1
    for connection in connections:
        connection.lost(Reason.TRANSPORT_CLOSE)
    world.check_nothing_is_left()


def test_a_pong_that_waited_while_the_loop_was_blocked_saves_the_connection(world: World) -> None:
    pongs, _ = world.socket()
    silent, _ = world.socket()
    world.clock.advance(25)
    world.clock.block(60)
    assert (pongs.gone, silent.gone) == (False, False)
    pongs.receive_all(["3"])
    world.clock.advance(1)
    assert (pongs.gone, silent.gone) == (False, True)


# Pause and resume


@pytest.mark.parametrize("eio", [3, 4])
def test_while_reading_is_paused_there_is_no_heartbeat(world: World, eio: int) -> None:
    connection, transport = world.socket(eio)
    world.clock.advance(10)
    connection.pause()
    assert connection.paused
    assert not any(len(each) for each in world.sessions.heartbeats.values())
    world.clock.advance(STALL_TIME - 1)
    assert (connection.gone, transport.sent) == (False, [])
    connection.resume()
    assert not connection.paused
    wait = 25 if eio == 4 else 45
    world.clock.advance(wait - 0.25)
    assert (connection.gone, transport.sent) == (False, [])
    world.clock.advance(0.25)
    assert (transport.sent == [PING_PACKET]) if eio == 4 else connection.gone


def test_a_pause_in_which_no_handler_ends_is_not_for_ever(world: World) -> None:
    connection, _ = world.socket()
    connection.pause()
    world.clock.advance(STALL_TIME - 1)
    connection.progressed()
    world.clock.advance(STALL_TIME - 1)
    assert not connection.gone
    world.clock.advance(1)
    assert connection.gone
    assert [reason for reason, _ in world.ends(connection)] == [Reason.TRANSPORT_ERROR]
    world.check_nothing_is_left()


def test_a_pause_while_a_pong_is_awaited_gives_it_its_time_anew(world: World) -> None:
    connection, _ = world.socket()
    world.clock.advance(25 + 19)
    connection.pause()
    world.clock.advance(100)
    connection.resume()
    world.clock.advance(19.75)
    assert not connection.gone
    connection.receive_all(["3"])
    world.clock.advance(24.75)
    assert not connection.gone


@pytest.mark.parametrize(("eio", "heartbeat"), [(4, "3"), (3, "2")])
def test_a_heartbeat_in_the_payload_that_made_reading_stop_does_not_start_the_clock(world: World, eio: int, heartbeat: str) -> None:
    connection, _ = world.polling(eio)
    connection.pause()
    connection.receive_all([heartbeat])  # packets of one POST are taken together
    world.clock.advance(STALL_TIME - 1)
    assert not connection.gone
    connection.resume()
    assert sum(map(len, {id(deadlines): deadlines for deadlines in world.sessions.heartbeats.values()}.values())) == 1


def test_the_transport_is_told_to_stop_and_to_read_on(world: World) -> None:
    connection, transport = world.socket()
    connection.pause()
    assert not transport.reading
    connection.resume()
    assert transport.reading


def test_a_transport_that_takes_over_while_reading_is_paused_does_not_read(world: World) -> None:
    connection, _ = world.polling()
    connection.probe(lambda: None)
    connection.pause()
    websocket = FakeSocketTransport(connection)
    connection.upgraded(websocket)
    assert not websocket.reading
    connection.resume()
    assert websocket.reading


async def test_readable_waits_for_resume(world: World) -> None:
    connection, _ = world.socket()
    await connection.readable()
    connection.pause()
    readers = [asyncio.ensure_future(connection.readable()) for _ in range(2)]
    await asyncio.sleep(0)
    assert not any(reader.done() for reader in readers)
    connection.resume()
    await asyncio.gather(*readers)


async def test_readable_waits_on_when_reading_is_paused_again(world: World) -> None:
    connection, _ = world.socket()
    connection.pause()
    reader = asyncio.ensure_future(connection.readable())
    await asyncio.sleep(0)
    connection.resume()
    connection.pause()
    for _ in range(3):
        await asyncio.sleep(0)
    assert not reader.done()
    connection.resume()
    await reader


@pytest.mark.parametrize("close", [True, False])
async def test_the_end_frees_a_reader_that_waits_and_later_ones(world: World, close: bool) -> None:
    connection, _ = world.socket()
    connection.pause()
    reader = asyncio.ensure_future(connection.readable())
    await asyncio.sleep(0)
    (connection.close if close else connection.lost)(Reason.FORCED_CLOSE)
    await reader
    await connection.readable()
    connection.resume()
    world.clock.turn()
    world.check_nothing_is_left()


def test_the_extension_and_the_timeout_are_of_one_length_and_one_queue(world: World) -> None:
    heartbeats = world.sessions.heartbeats
    assert heartbeats[Due.TIMEOUT] is heartbeats[Due.EXTENSION]
    assert {due: deadlines.duration for due, deadlines in heartbeats.items()} == {
        Due.INTERVAL: 25,
        Due.TIMEOUT: 20,
        Due.EXTENSION: 20,
        Due.SILENCE: 45,
    }


def test_what_timers_are_late_does_not_add_up(world: World) -> None:
    connection, transport = world.socket()
    world.clock.block(25.005)  # the loop wakes 5 ms late
    world.clock.turn()
    assert transport.sent == [PING_PACKET]
    world.clock.advance(20 - 0.006)
    assert not connection.gone
    world.clock.advance(0.001)
    assert connection.gone


def test_a_large_message_that_was_held_leaves_no_room_behind(slow: Slow) -> None:
    world, connection, _ = slow
    connection.hold(100_000)
    connection.hold(-100_000)
    connection.write(text(60))
    connection.write(text(60))
    connection.write(text(60))
    world.clock.turn()
    assert connection.gone
