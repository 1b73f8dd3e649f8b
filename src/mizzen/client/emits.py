"""How a client's socket sends: `emit`, `send` and `call`, and the flags before them, written once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ParamSpec, TypeVar, overload

from mizzen.events import Event, EventName
from mizzen.listeners import check_event
from mizzen.types import JSON

if TYPE_CHECKING:
    from mizzen.client.socket import ClientSocket

P = ParamSpec("P")
R = TypeVar("R")


class Emits(ABC):
    """What a socket and its flags have in common."""

    __slots__ = ()

    @abstractmethod
    def _emit(self, event: str, args: Sequence[JSON]) -> None: ...

    @abstractmethod
    async def _call(self, event: str, args: Sequence[JSON], timeout: float | None) -> JSON: ...

    @abstractmethod
    def _flagged(self) -> Flagged: ...

    @overload
    def emit(self, event: Event[P, R], /, *args: P.args, **kwargs: P.kwargs) -> None: ...

    @overload
    def emit(self, event: str, /, *args: JSON) -> None: ...

    def emit(self, event: EventName, /, *args: JSON) -> None:
        """Send an event; encodes, queues and returns. May be called from any thread.

        While the socket is not connected the event is kept and sent once it is, up to `max_buffer` bytes. bytes anywhere in `args` travel
        as binary attachments. Raises TypeError for arguments that cannot be encoded, LocalProtocolError for a reserved name, and when
        `max_buffer` bytes wait already.
        """
        self._emit(check_event(event), args)

    def send(self, *args: JSON) -> None:
        """Send the event `message`."""
        self._emit("message", args)

    @overload
    async def call(self, event: Event[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    @overload
    async def call(self, event: str, /, *args: JSON, timeout: float | None = ...) -> JSON: ...

    async def call(self, event: EventName, /, *args: JSON, timeout: float | None = None) -> JSON:
        """Send an event and wait for its ack: None, its one argument, or a tuple of several.

        `timeout` in seconds; without one that of `timeout()`, else `ack_timeout`, else until the server answers. Raises AckTimeout,
        ConnectionClosed when the connection is lost before the ack comes, RemoteError when the server's handler failed, and what `emit`
        raises. While the socket is not connected the event waits as with `emit`.
        """
        return await self._call(check_event(event), args, timeout)

    @property
    def volatile(self) -> Flagged:
        """Drop the event if it cannot be sent now: `socket.volatile.emit("position", x, y)`."""
        flagged = self._flagged()
        return Flagged(flagged.socket, True, flagged.seconds)

    def timeout(self, seconds: float) -> Flagged:
        """Let `call` wait for at most so many seconds: `await socket.timeout(5).call("ask")`."""
        flagged = self._flagged()
        return Flagged(flagged.socket, flagged.is_volatile, seconds)


class Flagged(Emits):
    """A socket with flags; it may be kept and used again."""

    __slots__ = ("is_volatile", "seconds", "socket")

    def __init__(self, socket: ClientSocket, is_volatile: bool, seconds: float | None) -> None:
        self.socket: ClientSocket = socket
        self.is_volatile: bool = is_volatile
        self.seconds: float | None = seconds

    def _flagged(self) -> Flagged:
        return self

    def _emit(self, event: str, args: Sequence[JSON]) -> None:
        self.socket.send_event(event, args, volatile=self.is_volatile)

    async def _call(self, event: str, args: Sequence[JSON], timeout: float | None) -> JSON:
        return await self.socket.ask(event, args, self.seconds if timeout is None else timeout, volatile=self.is_volatile)
