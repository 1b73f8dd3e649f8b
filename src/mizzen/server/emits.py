"""To whom, and how: the chain of `to`, `except_`, `volatile` … that ends in `emit` or `call`, written once for server, namespace and
socket."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias, cast

from mizzen.errors import LocalProtocolError
from mizzen.protocol.packet import RESERVED_EVENTS
from mizzen.types import JSON

if TYPE_CHECKING:
    from mizzen.server.operator import Operator

Rooms: TypeAlias = str | Iterable[str]


def flatten(rooms: Iterable[Rooms]) -> tuple[str, ...]:
    """Give the room names of `("a", ["b", "c"])`."""
    names: list[str] = []
    for room in rooms:
        for name in (room,) if isinstance(room, str) else cast("Iterable[object]", room):
            if not isinstance(name, str):
                raise TypeError(f"{name!r} is not the name of a room: expected str, or lists of str")
            names.append(name)
    return tuple(names)


def check_event(event: str) -> None:
    """Raise LocalProtocolError for a name that no event may have."""
    if event in RESERVED_EVENTS:
        raise LocalProtocolError(f"{event!r} is a reserved name: Socket.IO uses it itself; choose another")


class Emits(ABC):
    """What server, namespace, socket and operator have in common: each call gives a new operator, which may be kept and used again."""

    __slots__ = ()

    @abstractmethod
    def _operator(self) -> Operator: ...

    def to(self, *rooms: Rooms) -> Operator:
        """Name the sockets in any of `rooms` (names, or lists of names); a socket's id is a room. A socket in several gets the event
        once."""
        return self._operator().narrowed(rooms)

    def in_(self, *rooms: Rooms) -> Operator:
        """Do as `to`."""
        return self.to(*rooms)

    def except_(self, *rooms: Rooms) -> Operator:
        """Leave out the sockets in any of `rooms`."""
        return self._operator().excluding(rooms)

    @property
    def volatile(self) -> Operator:
        """Drop the event for each socket that could not be sent to now."""
        return self._operator().changed(volatile=True)

    @property
    def local(self) -> Operator:
        """Stay on this node of a cluster."""
        return self._operator().changed(local=True)

    def timeout(self, seconds: float) -> Operator:
        """Let `call` wait for at most so many seconds."""
        return self._operator().changed(timeout=seconds)

    def emit(self, event: str, *args: JSON) -> None:
        """Send an event; encodes, queues and returns. May be called from any thread.

        bytes anywhere in `args` travel as binary attachments. Raises TypeError for arguments that cannot be encoded and LocalProtocolError
        for a reserved name.
        """
        self._operator().emit(event, *args)

    async def call(self, event: str, *args: JSON, timeout: float | None = None) -> JSON:
        """Send an event and wait for the ack of each socket that it reaches; give a list of their first arguments.

        `timeout` in seconds (default: that of `timeout()`, else until every socket has answered or gone). Raises AckTimeout, whose
        `replies` are the acks that came.
        """
        return await self._operator().call(event, *args, timeout=timeout)

    def disconnect_sockets(self, close: bool = False) -> None:
        """Disconnect these sockets from the namespace, or with `close` end their connections; may be called from any thread.

        Their clients see `io server disconnect` and do not reconnect by themselves. What was emitted to them before is sent first.
        """
        self._operator().disconnect_sockets(close)

    async def drain(self) -> None:
        """Wait until what was emitted to these sockets has been handed to the network; those that go meanwhile are not waited for.

        The backpressure of a producer. On ASGI servers `handed` means that the server's `send` has returned; with polling, that a GET took
        it.
        """
        await self._operator().drain()
