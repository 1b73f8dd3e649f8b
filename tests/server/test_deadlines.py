"""Deadlines: one FIFO and one timer for many owners, and no verdict on those that a blocked loop could not serve."""

from __future__ import annotations

import contextlib
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.server.deadlines import LATE, READING_TIME, Deadlines
from tests.support import FakeClock

DURATION = 10.0


class Watched:
    """Deadlines on a clock of their own, with a record of who passed when."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.start = self.clock.now
        self.passed: list[tuple[str, float]] = []
        self.deadlines: Deadlines[str] = Deadlines(self.clock, DURATION, self._note)
        self.arm = self.deadlines.arm
        self.disarm = self.deadlines.disarm

    def _note(self, owner: str) -> None:
        self.passed.append((owner, self.clock.now - self.start))


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_deadlines_pass_in_order_each_at_its_time(watched: Watched) -> None:
    watched.arm("a")
    watched.clock.advance(1)
    watched.arm("b")
    watched.clock.advance(1)
    watched.arm("c")
    watched.clock.advance(100)
    assert watched.passed == [("a", 10), ("b", 11), ("c", 12)]
    assert len(watched.deadlines) == 0
    assert watched.clock.timers == 0


def test_nothing_passes_before_its_time(watched: Watched) -> None:
    watched.arm("a")
    watched.clock.advance(DURATION - 0.001)
    assert watched.passed == []
    watched.clock.advance(0.001)
    assert watched.passed == [("a", 10)]


def test_arming_again_replaces_the_deadline(watched: Watched) -> None:
    watched.arm("a")
    watched.arm("b")
    watched.clock.advance(4)
    watched.arm("a")
    assert len(watched.deadlines) == 2
    watched.clock.advance(100)
    assert watched.passed == [("b", 10), ("a", 14)]


def test_a_disarmed_deadline_does_not_pass(watched: Watched) -> None:
    watched.arm("a")
    watched.arm("b")
    watched.disarm("a")
    watched.disarm("a")
    watched.disarm("never armed")
    watched.clock.advance(100)
    assert watched.passed == [("b", 10)]


def test_disarming_the_last_takes_the_timer_away(watched: Watched) -> None:
    watched.arm("a")
    watched.disarm("a")
    assert (len(watched.deadlines), watched.clock.timers) == (0, 0)
    watched.arm("b")
    watched.clock.advance(DURATION)
    assert watched.passed == [("b", 10)]


def test_there_is_one_timer_however_many_owners(watched: Watched) -> None:
    for number in range(1000):
        watched.arm(str(number))
        watched.clock.advance(0.001)
        assert watched.clock.timers == 1
    watched.clock.advance(5)
    for number in range(1000):
        watched.arm(str(number))
    assert watched.clock.timers == 1


def test_arming_while_deadlines_pass_does_not_delay_the_others(watched: Watched) -> None:
    def again(owner: str) -> None:
        passed.append((owner, watched.clock.now - watched.start))
        if len(passed) == 1:
            deadlines.arm(owner)

    passed: list[tuple[str, float]] = []
    deadlines = Deadlines(watched.clock, DURATION, again)
    deadlines.arm("a")
    watched.clock.advance(0.5)
    deadlines.arm("b")
    watched.clock.advance(100)
    assert passed == [("a", 10), ("b", 10.5), ("a", 20)]


def test_disarming_others_while_deadlines_pass_is_heeded(watched: Watched) -> None:
    def one(owner: str) -> None:
        watched.passed.append((owner, 0))
        for other in "abc":
            deadlines.disarm(other)

    deadlines = Deadlines(watched.clock, DURATION, one)
    for owner in "abc":
        deadlines.arm(owner)
    watched.clock.advance(100)
    assert watched.passed == [("a", 0)]
    assert watched.clock.timers == 0


def test_one_that_fails_does_not_take_the_others_with_it(watched: Watched) -> None:
    def fail(owner: str) -> None:
        watched.passed.append((owner, 0))
        if owner == "a":
            raise RuntimeError(owner)

    deadlines = Deadlines(watched.clock, DURATION, fail)
    for owner in "abc":
        deadlines.arm(owner)
    for _ in range(3):
        with contextlib.suppress(RuntimeError):  # the loop's exception handler takes it
            watched.clock.advance(DURATION)
    assert [owner for owner, _ in watched.passed] == ["a", "b", "c"]
    assert (len(deadlines), watched.clock.timers) == (0, 0)


# A blocked loop


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "mizzen.server" and record.levelno == logging.WARNING]


def test_late_deadlines_are_judged_after_reading(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    watched.arm("pongs")
    watched.arm("silent")
    watched.clock.block(DURATION + 3.2)
    assert watched.passed == [], "what came in meanwhile has not been read"
    watched.disarm("pongs")
    watched.clock.advance(READING_TIME)
    assert [owner for owner, _ in watched.passed] == ["silent"]
    assert len(warnings(caplog)) == 1
    assert "blocked for 3.2 s" in warnings(caplog)[0]


def test_a_blocked_loop_is_logged_once_for_all_its_deadlines(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(100):
        watched.arm(str(number))
    watched.clock.block(DURATION + 5)
    watched.clock.advance(1)
    assert len(watched.passed) == 100
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize("late", [0.0, 0.5, LATE])
def test_a_little_late_is_not_blocked(watched: Watched, caplog: pytest.LogCaptureFixture, late: float) -> None:
    watched.arm("a")
    watched.clock.block(DURATION + late)
    assert [owner for owner, _ in watched.passed] == ["a"]
    assert warnings(caplog) == []


def test_each_time_the_loop_is_blocked_there_is_time_to_read(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        watched.arm("a")
        watched.arm("b")
        watched.clock.block(DURATION + 2)
        assert watched.passed == []
        watched.arm("a")
        watched.disarm("b")
        watched.clock.advance(READING_TIME)
        assert watched.passed == []
        watched.disarm("a")
    assert len(warnings(caplog)) == 3


def test_a_reprieve_that_nobody_needed_does_not_use_up_the_next_one(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    watched.arm("a")
    watched.clock.block(DURATION + 2)
    watched.disarm("a")  # its pong was read, so that nobody is left to be judged
    watched.clock.advance(READING_TIME)
    watched.arm("a")
    watched.clock.block(DURATION + 2)
    assert watched.passed == [], "judged without reading first"
    assert len(warnings(caplog)) == 2


def test_a_loop_that_is_blocked_again_while_it_should_read_judges_at_last(watched: Watched) -> None:
    watched.arm("a")
    watched.clock.block(DURATION + 2)
    watched.clock.block(5)
    watched.clock.advance(READING_TIME)
    assert [owner for owner, _ in watched.passed] == ["a"]


# At random

steps = st.lists(st.tuples(st.sampled_from(["arm", "disarm", "advance"]), st.sampled_from("abcd"), st.integers(0, 24)))


@given(steps)
def test_they_behave_as_a_timer_for_each_owner_would(steps: list[tuple[str, str, int]]) -> None:
    """Each owner arms itself again the first time it passes, as a connection does whose client was heard."""
    clock = FakeClock()
    passed: list[tuple[str, float]] = []
    again: set[str] = set()

    def note(owner: str) -> None:
        passed.append((owner, clock.now))
        if owner not in again:
            again.add(owner)
            deadlines.arm(owner)

    deadlines = Deadlines(clock, DURATION, note)
    model: dict[str, float] = {}
    model_again: set[str] = set()
    expected: list[tuple[str, float]] = []
    for step, owner, quarters in steps:
        if step == "arm":
            deadlines.arm(owner)
            model.pop(owner, None)
            model[owner] = clock.now + DURATION
        elif step == "disarm":
            deadlines.disarm(owner)
            model.pop(owner, None)
        else:
            end = clock.now + quarters / 4
            while model and (first := min(model.items(), key=lambda item: item[1]))[1] <= end:
                expected.append(first)
                del model[first[0]]
                if first[0] not in model_again:
                    model_again.add(first[0])
                    model[first[0]] = first[1] + DURATION
            clock.advance(quarters / 4)
        assert passed == expected
        assert len(deadlines) == len(model)
        assert clock.timers == (1 if model else 0)
