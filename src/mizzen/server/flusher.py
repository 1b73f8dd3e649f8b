"""One flusher for all connections: what was written in a loop turn leaves in one write per connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

PER_TURN = 256
"""Connections flushed in one turn of the loop, so that a huge broadcast does not stall heartbeats and reading."""


class Flushable(Protocol):
    """A connection with something to send."""

    def flush(self) -> None:
        """Send what there is; never raises."""
        ...


class Flusher:
    """Collects the connections that have something to send and flushes them at the end of the loop's turn."""

    __slots__ = ("_call_soon", "_dirty", "_scheduled")

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._call_soon = call_soon
        self._dirty: list[Flushable] = []
        self._scheduled = False

    def mark(self, connection: Flushable) -> None:
        """Have `connection` flushed; the caller sees to it that it is marked once."""
        self._dirty.append(connection)
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self._run)

    def _run(self) -> None:
        dirty = self._dirty
        if len(dirty) > PER_TURN:
            self._dirty = dirty[PER_TURN:]
            del dirty[PER_TURN:]
            self._call_soon(self._run)
        else:
            self._dirty = []
            self._scheduled = False
        for connection in dirty:
            connection.flush()
