"""A clock for what the other side counts too: it goes on while this machine sleeps."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Final


def _source() -> Callable[[], float]:
    if sys.platform == "linux":
        return partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if sys.platform == "darwin":
        return partial(time.clock_gettime, time.CLOCK_MONOTONIC)  # unlike `time.monotonic`, which stops
    return time.monotonic


sleepless: Final[Callable[[], float]] = _source()
"""Gives the seconds since some moment, those in which the machine slept among them.

The clock of event loops does not count these on Linux and macOS, so that no timer says how old a connection is after a sleep; the time of
day would, but it can be set.
"""
