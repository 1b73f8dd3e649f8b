"""What other threads ask of the server, done on its loop in order."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

logger: Final = logging.getLogger("mizzen.server")

PER_TURN = 1_000
"""Calls that are done in one turn of the loop."""


class Mail:
    """Calls that wait for the loop's thread, which is woken once for as many as there are."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._calls: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self._announced = False

    def post(self, function: Callable[..., object], args: tuple[object, ...]) -> None:
        """Have `function` called on the loop's thread; may be called from any thread."""
        with self._lock:
            self._calls.append((function, args))
            if self._announced:
                return
            self._announced = True
        try:
            self._loop.call_soon_threadsafe(self._read)
        except RuntimeError:  # the loop has been closed: nobody reads what would pile up here
            with self._lock:
                self._calls.clear()
                self._announced = False

    def _read(self) -> None:
        """Do what has been posted, so much of it in one turn of the loop that nothing else has to wait for long."""
        for _ in range(PER_TURN):
            with self._lock:
                if not self._calls:
                    self._announced = False
                    return
                function, args = self._calls.popleft()
            try:
                function(*args)
            except Exception:
                logger.exception("what another thread asked for failed")
        self._loop.call_soon(self._read)
