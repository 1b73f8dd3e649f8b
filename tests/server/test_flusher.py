"""The flusher: one flush for each marked connection, at the end of the turn, and not too many in one."""

from __future__ import annotations

from collections.abc import Callable

from mizzen.server.flusher import PER_TURN, Flusher
from tests.support import FakeClock


class Marked:
    """A connection that notes when it is flushed, and may do something then."""

    def __init__(self, log: list[object], name: object, then: Callable[[], None] | None = None) -> None:
        self.log = log
        self.name = name
        self.then = then

    def flush(self) -> None:
        self.log.append(self.name)
        if self.then is not None:
            self.then()


def test_nothing_is_flushed_before_the_turn_ends() -> None:
    clock, log = FakeClock(), list[object]()
    flusher = Flusher(clock.call_soon)
    for name in "abc":
        flusher.mark(Marked(log, name))
    assert log == []
    clock.turn()
    assert log == ["a", "b", "c"]
    clock.turn()
    assert log == ["a", "b", "c"]


def test_the_loop_is_asked_once_for_a_turn_and_not_at_all_when_nothing_is_marked() -> None:
    asked: list[Callable[[], None]] = []
    flusher = Flusher(asked.append)
    for name in range(10):
        flusher.mark(Marked([], name))
    assert len(asked) == 1
    asked.pop()()
    assert asked == []
    flusher.mark(Marked([], "next"))
    assert len(asked) == 1


def test_a_turn_flushes_at_most_256() -> None:
    clock, log = FakeClock(), list[object]()
    flusher = Flusher(clock.call_soon)
    count = 2 * PER_TURN + 1
    for name in range(count):
        flusher.mark(Marked(log, name))
    assert PER_TURN == 256
    for turn in (PER_TURN, 2 * PER_TURN, count, count):
        clock.turn()
        assert log == list(range(turn))


def test_exactly_a_turns_worth_needs_one_turn() -> None:
    asked: list[Callable[[], None]] = []
    log: list[object] = []
    flusher = Flusher(asked.append)
    for name in range(PER_TURN):
        flusher.mark(Marked(log, name))
    asked.pop()()
    assert len(log) == PER_TURN
    assert asked == []


def test_what_is_marked_between_the_turns_of_a_huge_broadcast_waits_its_turn() -> None:
    clock, log = FakeClock(), list[object]()
    flusher = Flusher(clock.call_soon)
    for name in range(PER_TURN + 1):
        flusher.mark(Marked(log, name))
    clock.turn()
    flusher.mark(Marked(log, "later"))
    clock.turn()
    assert log[-2:] == [PER_TURN, "later"]


def test_marked_while_flushing_is_flushed_in_the_next_turn() -> None:
    clock, log = FakeClock(), list[object]()
    flusher = Flusher(clock.call_soon)
    second = Marked(log, "second")
    flusher.mark(Marked(log, "first", lambda: flusher.mark(second)))
    clock.turn()
    assert log == ["first"]
    clock.turn()
    assert log == ["first", "second"]
    clock.turn()
    assert log == ["first", "second"]


def test_marked_while_a_huge_broadcast_is_flushed_is_neither_lost_nor_flushed_twice() -> None:
    clock, log = FakeClock(), list[object]()
    flusher = Flusher(clock.call_soon)
    for name in range(PER_TURN + 10):
        flusher.mark(Marked(log, name, (lambda name=name: flusher.mark(Marked(log, -name))) if 0 < name < 20 else None))
    for _ in range(5):
        clock.turn()
    assert log == [*range(PER_TURN + 10), *range(-1, -20, -1)]
