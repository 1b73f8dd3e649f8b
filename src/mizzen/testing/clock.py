"""A clock that jumps: heartbeats, timeouts and expiries in no time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final

TURNS: Final = 50
"""Turns of the loop in which whatever was set off comes to its end where no thread, network or timer is waited for."""


async def settle() -> None:
    """Let everything run that can run at once: what was emitted arrives, its handlers run as far as they get without waiting for something.

    Not waited for are timers, other processes, and threads, in which plain (`def`) handlers run: for those wait for what they bring about.
    """
    for _ in range(TURNS):
        await asyncio.sleep(0)


class Clock:
    """Lets the time of the running event loop jump, and with it all that waits for it.

        with Clock() as clock:
            async with TestClient(io) as socket:
                await clock.jump(60)      # pings, pongs and timeouts of a minute happen, in their order
                assert socket.connected

    It is the time of `loop.time()`: heartbeats, `asyncio.sleep`, `asyncio.timeout`, recovery and reconnection follow it; `time.time()` does
    not. In between, time goes on as always. It never goes back: the loop stays as far ahead as it was brought, also when the clock is left.
    A jump does not wait for threads, in which plain (`def`) handlers run, nor for other processes: have them finish first.
    """

    def __init__(self) -> None:
        self._loop: asyncio.BaseEventLoop | None = None
        self._time: _Time | None = None
        self._slow = 0.0

    def __enter__(self) -> Clock:
        """Begin. Raises TypeError on event loops other than asyncio's own (uvloop)."""
        loop = asyncio.get_running_loop()
        if not isinstance(loop, asyncio.BaseEventLoop):
            raise TypeError(f"Clock works with asyncio's own event loops, not with {type(loop).__module__}.{type(loop).__name__}")
        time: object = vars(loop).get("time")
        if not isinstance(time, _Time):
            time = vars(loop)["time"] = _Time(loop.time)
        self._loop, self._time = loop, time
        # In debug mode the loop would take a jump for a callback that blocked it.
        self._slow, loop.slow_callback_duration = loop.slow_callback_duration, float("inf")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.slow_callback_duration = self._slow

    async def jump(self, seconds: float) -> None:
        """Let `seconds` pass: every timer that falls due runs at its own moment, in order, with what it sets off."""
        loop, time = self._loop, self._time
        if loop is None or time is None:
            raise RuntimeError("use the clock as `with Clock() as clock:`")
        await settle()  # what was emitted just now belongs to the time before
        end = time() + seconds
        while True:
            # asyncio has no public way to ask for the timers that are set.
            timers: list[asyncio.TimerHandle] = vars(loop)["_scheduled"]
            first = min((timer.when() for timer in timers if not timer.cancelled()), default=end)
            if first >= end:
                break
            time.forward(first - time())
            await settle()
        time.forward(end - time())
        await settle()


class _Time:
    """Stands in for `loop.time`."""

    def __init__(self, real: Callable[[], float]) -> None:
        self._real = real
        self._ahead = 0.0

    def __call__(self) -> float:
        return self._real() + self._ahead

    def forward(self, seconds: float) -> None:
        self._ahead += max(0.0, seconds)
