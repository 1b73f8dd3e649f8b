"""Deadlines of many connections without a timer or task for each: one FIFO per duration, one timer per FIFO."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, Protocol, TypeVar

logger: Final = logging.getLogger("mizzen.server")

LATE = 1.0
"""Seconds: a deadline found later than this says that the event loop was blocked, not that the peer was silent."""

TIMER_ERROR = 0.01
"""Seconds that an event loop's timers may be late without anything being blocked."""

READING_TIME = 0.1
"""Seconds given to the loop to read what came in while it was blocked, before late deadlines are judged."""

Owner = TypeVar("Owner", bound=Hashable)


class Timer(Protocol):
    """What `Clock.call_at` gives back."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """What deadlines need of time; an asyncio event loop is one."""

    def time(self) -> float: ...

    def call_at(self, when: float, callback: Callable[[], object], /) -> Timer: ...


class Deadlines(Generic[Owner]):
    """Deadlines that are all `duration` seconds after they were armed, so that the order of arming is the order of passing.

    `passed(owner)` is called for each that passes, which is thereby disarmed. An owner has at most one; arming again replaces it.
    """

    __slots__ = ("_at", "_clock", "_forgiven", "_judging", "_passed", "_timer", "duration", "passed_at")

    def __init__(self, clock: Clock, duration: float, passed: Callable[[Owner], None]) -> None:
        self.duration: float = duration
        self._clock = clock
        self._passed = passed
        self._at: OrderedDict[Owner, float] = OrderedDict()
        self._timer: Timer | None = None
        self._forgiven = False
        self._judging = False
        # While `passed` runs: when the deadline passed, so that one that follows from it need not inherit what the timer was late.
        self.passed_at: float | None = None

    def __len__(self) -> int:
        return len(self._at)

    def arm(self, owner: Owner, start: float | None = None) -> None:
        """Set the owner's deadline anew, counting from `start` if given, else from now."""
        when = (self._clock.time() if start is None else start) + self.duration
        self._at[owner] = when
        self._at.move_to_end(owner)
        if self._timer is None and not self._judging:
            self._timer = self._clock.call_at(when, self._wake)

    def disarm(self, owner: Owner) -> None:
        """Forget the owner's deadline, if it has one."""
        if self._at.pop(owner, None) is not None and not self._at and self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._forgiven = False

    def _wake(self) -> None:
        self._timer = None
        now = self._clock.time()
        first = next(iter(self._at.values()), None)
        if first is not None and now - first > LATE and not self._forgiven:
            logger.warning("the event loop was blocked for %.1f s: a handler (or a library it calls) works without await", now - first)
            self._forgiven = True
            self._timer = self._clock.call_at(now + READING_TIME, self._wake)
            return
        self._forgiven = False
        self._judging = True
        try:
            while self._at:
                owner, when = next(iter(self._at.items()))
                if when > now:
                    break
                del self._at[owner]
                self.passed_at = when if now - when < TIMER_ERROR else now
                self._passed(owner)
        finally:
            self._judging = False
            self.passed_at = None
            if self._at:
                self._timer = self._clock.call_at(next(iter(self._at.values())), self._wake)
