"""The delays between attempts to connect."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.protocol.backoff import Backoff


def test_the_delay_doubles_up_to_the_longest_and_begins_anew():
    backoff = Backoff(1.0, 5.0, 0.0, lambda: 0.5)
    assert [backoff.next() for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert backoff.attempts == 5
    backoff.reset()
    assert (backoff.next(), backoff.attempts) == (1.0, 1)


@pytest.mark.parametrize(("chance", "delays"), [(0.0, [0.5, 1.0, 2.0, 2.5]), (1.0, [1.5, 3.0, 5.0, 5.0])])
def test_chance_spreads_each_delay(chance: float, delays: list[float]):
    backoff = Backoff(1.0, 5.0, 0.5, lambda: chance)
    assert [backoff.next() for _ in range(4)] == delays


def test_clients_of_a_server_that_is_gone_for_long_do_not_come_back_together():
    delays: set[float] = set()
    for seed in range(100):
        backoff = Backoff(1.0, 5.0, 0.5, random.Random(seed).random)
        delays.add([backoff.next() for _ in range(20)][-1])
    assert len(delays) == 100
    assert max(delays) - min(delays) > 2


@given(st.floats(0.001, 10), st.floats(0.001, 100), st.floats(0, 1), st.integers(1, 2000), st.floats(0, 1))
def test_no_delay_is_negative_or_longer_than_the_longest(delay: float, longest: float, jitter: float, attempts: int, chance: float):
    backoff = Backoff(delay, longest, jitter, lambda: chance)
    assert all(0 <= backoff.next() <= longest for _ in range(attempts))
