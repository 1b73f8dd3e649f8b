"""How long to wait before the next attempt: longer each time, and never the same for all clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_DOUBLINGS: Final = 32


class Backoff:
    """The delays between attempts to connect, in seconds; `attempts` counts those that `next` has given a delay for.

    They double from `delay` up to `max_delay`, and `random` (0 to 1) spreads each by the part `jitter` of itself. The JavaScript client
    clamps what it has spread, so that from the fifth attempt on all clients of a server that was gone come back at the same moment. Here
    the delay is clamped first: it never exceeds `max_delay`, and no two clients wait equally long.
    """

    __slots__ = ("_delay", "_jitter", "_max_delay", "_random", "attempts")

    def __init__(self, delay: float, max_delay: float, jitter: float, random: Callable[[], float]) -> None:
        self._delay = delay
        self._max_delay = max_delay
        self._jitter = jitter
        self._random = random
        self.attempts: int = 0

    def next(self) -> float:
        """Give the delay before the next attempt."""
        middle = min(self._delay * 2 ** min(self.attempts, _MOST_DOUBLINGS), self._max_delay)
        self.attempts += 1
        least, most = middle * (1 - self._jitter), min(middle * (1 + self._jitter), self._max_delay)
        return least + (most - least) * self._random()

    def reset(self) -> None:
        """Begin anew: an attempt has succeeded."""
        self.attempts = 0
