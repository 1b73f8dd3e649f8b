"""Events that come before the server has answered the CONNECT of their namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from mizzen.handling import ENTRY
from mizzen.types import JSON

if TYPE_CHECKING:
    from mizzen.client.socket import ClientSocket

EarlyEvent: TypeAlias = tuple[list[JSON], int | None, int]
"""The data of an EVENT packet, its ack id, and the bytes that it came in."""


class Early:
    """Keeps them, by socket, for all namespaces of one connection: up to `limit` bytes besides the largest event, which always fits.

    They are those that a session missed which is being recovered; a server has no reason to send others.
    """

    __slots__ = ("_events", "_largest", "_limit", "size")

    def __init__(self, limit: int) -> None:
        self.size: int = 0
        self._events: dict[ClientSocket, list[EarlyEvent]] = {}
        self._largest = 0
        self._limit = limit

    def put(self, socket: ClientSocket, data: list[JSON], id: int | None, size: int) -> bool:
        """Keep an event; say whether there may be so much."""
        if not self._events:
            self._largest = 0
        self._events.setdefault(socket, []).append((data, id, size))
        self._largest = max(self._largest, size + ENTRY)
        self.size += size + ENTRY
        return self.size - self._largest <= self._limit

    def take(self, socket: ClientSocket) -> list[EarlyEvent]:
        """Give the events of a socket, in order, and keep them no longer."""
        events = self._events.pop(socket, [])
        self.size -= sum([size + ENTRY for _, _, size in events])
        return events
