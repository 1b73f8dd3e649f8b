"""What other threads ask of an event loop, done there in the order in which it was asked."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

logger: Final = logging.getLogger("mizzen")

PER_TURN: Final = 1_000
"""Calls that are done in one turn of the loop, so that nothing else has to wait for long."""


class Mailbox:
    """Calls functions on the thread of one event loop.

    While it is bound to none, a function is called where that is asked for, or with `drops` not at all.
    """

    __slots__ = ("_announced", "_calls", "_drops", "_lock", "_loop", "_thread")

    def __init__(self, *, drops: bool = False) -> None:
        self._drops = drops
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: int | None = None
        self._calls: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self._lock = threading.Lock()
        self._announced = False

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Belong to the loop that runs in this thread."""
        self._loop = loop
        self._thread = threading.get_ident()
        self._calls.clear()
        self._announced = False

    def unbind(self) -> None:
        """Belong to no loop."""
        self._loop = self._thread = None

    def post(self, function: Callable[..., object], *args: object) -> None:
        """Call a function: now, if this is the loop's thread; else in order, as soon as the loop comes to it."""
        if threading.get_ident() == self._thread:
            function(*args)
            return
        loop = self._loop
        if loop is None:
            if not self._drops:
                function(*args)
            return
        with self._lock:
            self._calls.append((function, args))
            if self._announced:
                return
            self._announced = True
        try:
            loop.call_soon_threadsafe(self._read)
        except RuntimeError:  # the loop has been closed
            with self._lock:
                self._calls.clear()
                self._announced = False

    def _read(self) -> None:
        for _ in range(PER_TURN):
            with self._lock:
                if not self._calls:
                    self._announced = False
                    return
                function, args = self._calls.popleft()
            try:
                function(*args)
            except Exception as error:
                logger.exception("what another thread asked for failed: %r", error)
        if self._loop is not None:
            self._loop.call_soon(self._read)
