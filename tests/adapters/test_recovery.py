"""What a recovering adapter keeps, for how long, and who gets what of it."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from mizzen.adapters.recovery import OVERHEAD, RecoveringAdapter
from mizzen.options import ConnectionStateRecovery
from mizzen.ports import SavedSession, Target
from mizzen.protocol.codec import JSONCodec
from mizzen.protocol.packet import EVENT, Packet
from tests.adapters.fakes import FakeHost


class History:
    """A recovering adapter with a clock of its own, and what a session that begins now would get of it."""

    def __init__(self, noticed_within: float | None = None, **options: Any) -> None:
        self.now = 100.0
        self.host = FakeHost()
        self.adapter = RecoveringAdapter(self.host, ConnectionStateRecovery(**options), lambda: self.now, noticed_within)
        self._codec = JSONCodec()
        self._last_pid = 0
        self.start = self.adapter.last_offset()

    def send(self, text: str, *rooms: str) -> str:
        """Send an event; give its offset."""
        offset = self.adapter.next_offset()
        packet = Packet(EVENT, "/", ["x", text, offset])
        self.adapter.broadcast(packet, self._codec.encode(packet), Target(rooms=rooms or None))
        return offset

    def save(self, rooms: frozenset[str] = frozenset(), since: str | None = None, *, watched: bool = True) -> str:
        """Save a session that began now; give its pid."""
        self._last_pid += 1
        pid = str(self._last_pid)
        since = self.adapter.last_offset() if since is None else since
        self.adapter.save_session(SavedSession(sid=f"s{pid}", pid=pid, rooms=rooms, data={}, since=since, watched=watched))
        return pid

    def old(self, *, watched: bool = True) -> str:
        """Save a session that began before anything was sent; give its pid."""
        return self.save(since=self.start, watched=watched)

    async def restore(self, pid: str, offset: str | None = None) -> list[str] | None:
        """Give the texts that were missed, or None."""
        restored = await self.adapter.restore_session(pid, offset)
        if restored is None:
            return None
        return [json.loads((encoded.data or b"")[2:])[1] for encoded in restored.missed]

    @property
    def kept(self) -> int:
        """How many packets are kept."""
        return len(self.adapter._sent)


@pytest.mark.parametrize(("away", "restored"), [(9.9, True), (10.0, True), (10.1, False)])
async def test_a_session_lives_as_long_as_the_client_may_be_away(away: float, restored: bool) -> None:
    history = History(max_disconnection_duration=10.0)
    pid = history.save()
    history.now += away
    assert await history.restore(pid) == ([] if restored else None)


async def test_packets_live_as_long() -> None:
    history = History(max_disconnection_duration=10.0)
    first = history.send("1")
    history.now += 5
    second = history.send("2")
    history.now += 6
    third = history.send("3")
    assert history.kept == 2
    assert await history.restore(history.old(), first) == ["2", "3"], "who has got the last one that is gone misses nothing"
    assert await history.restore(history.old(), second) == ["3"]
    assert await history.restore(history.old(), third) == []
    history.now += 5
    fourth = history.send("4")
    assert await history.restore(history.old(), first) is None, "2 is gone too"
    assert await history.restore(history.old(), fourth) == []


@pytest.mark.parametrize("heard", ["an event long ago", "nothing", "an event of an earlier process"])
async def test_a_quiet_client_of_a_busy_server(heard: str) -> None:
    """Its last event is no longer kept, but what went since has been received, or the end would have been seen earlier."""
    history = History(max_disconnection_duration=10.0, noticed_within=5.0)
    offset = {"an event long ago": history.send("1"), "nothing": None, "an event of an earlier process": "abcdefgh.7"}[heard]
    for _ in range(100):
        history.now += 1
        history.send("for others", "elsewhere")
    history.send("into the void")
    history.now += 4.9
    pid = history.old()
    history.now += 9.9
    history.send("missed")
    assert history.kept == 3
    assert await history.restore(pid, offset) == ["into the void", "missed"]


@pytest.mark.parametrize(("noticed_within", "restored"), [(None, None), (5.0, ["x", "y"])])
async def test_what_may_not_have_been_received_and_is_no_longer_kept_is_not_passed_over(
    noticed_within: float | None, restored: list[str] | None
) -> None:
    history = History(max_history=2 * (OVERHEAD + 40), noticed_within=noticed_within)
    offset = history.send("1")
    history.send("2")
    history.now += 6
    history.send("x")
    history.send("y")
    assert history.kept == 2
    assert await history.restore(history.old(), offset) == restored, "2 went six seconds before the end: it has been received"
    history.send("z")
    assert await history.restore(history.old(), offset) is None, "x went when the connection ended, and is not kept"


async def test_an_end_that_may_have_been_seen_late_vouches_for_nothing() -> None:
    history = History(max_disconnection_duration=10.0, noticed_within=5.0)
    offset = history.send("1")
    for _ in range(20):
        history.now += 1
        history.send("for others", "elsewhere")
    assert await history.restore(history.old(watched=False), offset) is None
    assert await history.restore(history.old(), offset) == []


async def test_bytes_are_bounded() -> None:
    history = History(max_history=10 * (OVERHEAD + 40))
    offsets = [history.send("x" * 10) for _ in range(1000)]
    size = sum(sent.size for sent in history.adapter._sent)
    assert size <= 10 * (OVERHEAD + 40)
    assert history.kept >= 8
    kept = history.kept
    assert len(history.adapter._positions) == kept + 1
    assert len(await history.restore(history.old(), offsets[-kept - 1]) or []) == kept
    assert await history.restore(history.old(), offsets[-kept - 2]) is None


async def test_one_packet_that_is_too_large_is_not_kept() -> None:
    history = History(max_history=1000)
    before = history.send("small")
    large = history.send("x" * 2000)
    assert history.kept == 0
    assert await history.restore(history.old(), before) is None
    assert await history.restore(history.old(), large) == []
    history.send("small again")
    assert await history.restore(history.old(), large) == ["small again"]


async def test_sessions_are_bounded_and_the_newest_stay() -> None:
    history = History(max_sessions=3)
    pids = [history.save() for _ in range(5)]
    assert [await history.restore(pid) is not None for pid in pids] == [False, False, True, True, True]


async def test_a_session_that_is_saved_again_is_new() -> None:
    history = History(max_sessions=2)
    one, two = history.save(), history.save()
    session = (await history.adapter.restore_session(one, None)).session  # pyright: ignore[reportOptionalMemberAccess]
    history.adapter.save_session(session)
    history.save()
    assert (await history.restore(two), await history.restore(one)) == (None, [])


async def test_an_idle_server_lets_go() -> None:
    history = History(max_disconnection_duration=10.0)
    last = history.send("x")
    history.save()
    assert history.host.expiries == [10.0], "one timer, however much is kept"
    assert history.adapter.awaits_clients
    history.now += 9
    history.adapter.expire()
    assert (history.kept, history.host.expiries) == (1, [10.0] * 2)
    history.now += 10
    history.adapter.expire()
    assert (history.kept, history.adapter.awaits_clients, history.host.expiries) == (0, False, [10.0] * 2)
    assert await history.restore(history.save(), last) == []
    assert history.host.expiries == [10.0] * 3
    history.save()
    history.adapter.expire()
    assert history.host.expiries == [10.0] * 4, "sessions alone are looked after too"


async def test_a_closed_adapter_keeps_nothing() -> None:
    history = History()
    for _ in range(3):
        history.send("x")
    pid = history.save()
    history.adapter.close()
    assert (history.kept, history.adapter._size, len(history.adapter._positions)) == (0, 0, 1)
    assert await history.restore(pid) is None
    pid = history.save()
    history.send("new")
    assert await history.restore(pid) == ["new"]


def test_keeping_a_packet_costs_the_same_however_many_are_kept() -> None:
    def calls(packets: int) -> int:
        history = History(max_history=packets * (OVERHEAD + 60))
        for _ in range(packets):
            history.send("x" * 20)
        count = 0

        def trace(frame: object, event: str, argument: object) -> None:
            nonlocal count
            count += 1

        sys.setprofile(trace)
        try:
            for _ in range(100):
                history.send("x" * 20)
        finally:
            sys.setprofile(None)
        return count

    assert calls(10_000) <= 1.1 * calls(100)
