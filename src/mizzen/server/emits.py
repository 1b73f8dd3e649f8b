"""To whom, and how: the chain of `to`, `except_`, `volatile` … that ends in `emit` or `call`, written once for server, namespace and
socket."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ParamSpec, TypeAlias, TypeVar, cast, overload

from mizzen.errors import LocalProtocolError
from mizzen.events import Event, EventName
from mizzen.protocol.packet import RESERVED_EVENTS
from mizzen.types import JSON

if TYPE_CHECKING:
    from mizzen.server.operator import Operator
    from mizzen.server.remote import RemoteSocket

P = ParamSpec("P")
R = TypeVar("R")
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


def check_event(event: EventName) -> str:
    """Give the plain name of an event. Raises LocalProtocolError for a name that no event may have."""
    if event in RESERVED_EVENTS:
        raise LocalProtocolError(f"{event!r} is a reserved name: Socket.IO uses it itself; choose another")
    return event if type(event) is str else str(event)


class Emits(ABC):
    """What server, namespace, socket and operator have in common: each call gives a new operator, which may be kept and used again."""

    __slots__ = ()

    @abstractmethod
    def _operator(self) -> Operator: ...

    def _emit(self, event: EventName, args: Sequence[JSON]) -> None:
        self._operator().transmit(event, args)

    async def _call(self, event: EventName, args: Sequence[JSON], timeout: float | None) -> JSON:
        return await self._operator().ask(event, args, timeout)

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
        """Drop the event for each socket that could not be sent to now; a `call` waits in vain for the acks of those."""
        return self._operator().changed(volatile=True)

    @property
    def local(self) -> Operator:
        """Stay on this node of a cluster; of a socket: everybody there but this one."""
        return self._operator().changed(local=True)

    def compress(self, compress: bool) -> Operator:
        """Say whether what is sent may be compressed, where the connection compresses at all; without it, it may."""
        return self._operator().changed(compress=compress)

    def timeout(self, seconds: float) -> Operator:
        """Let `call` wait for at most so many seconds."""
        return self._operator().changed(timeout=seconds)

    @overload
    def emit(self, event: Event[P, R], /, *args: P.args, **kwargs: P.kwargs) -> None: ...

    @overload
    def emit(self, event: str, /, *args: JSON) -> None: ...

    def emit(self, event: EventName, /, *args: JSON, **kwargs: JSON) -> None:
        """Send an event; encodes, queues and returns. May be called from any thread.

        bytes anywhere in `args` travel as binary attachments. Raises TypeError for arguments that cannot be encoded and LocalProtocolError
        for a reserved name.
        """
        if kwargs:
            raise TypeError(f"the arguments of an event have no names: {', '.join(kwargs)}")
        self._emit(event, args)

    def send(self, *args: JSON) -> None:
        """Emit the event `message`."""
        self._emit("message", args)

    @overload
    async def call(self, event: Event[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    @overload
    async def call(self, event: str, /, *args: JSON, timeout: float | None = ...) -> JSON: ...

    async def call(self, event: EventName, /, *args: JSON, timeout: float | None = None, **kwargs: JSON) -> JSON:
        """Send an event and wait for the acks.

        Of one socket (`socket.call`) the ack is given: None, its one argument, or a tuple of several. Of all others the acks of each socket
        that the event reaches: a list of their first arguments.

        `timeout` in seconds (default: that of `timeout()`, else until every socket has answered or gone). Raises AckTimeout, whose
        `replies` are the acks that came, and LocalProtocolError when `max_pending_acks` others are awaited already. A call to one socket
        also raises ConnectionClosed when it goes before it answers, and RemoteError when the client's handler failed.
        """
        if kwargs:
            raise TypeError(f"the arguments of an event have no names: {', '.join(kwargs)}")
        return await self._call(event, args, timeout)

    async def fetch_sockets(self) -> list[RemoteSocket]:
        """Give the sockets that this names, on all nodes of the cluster."""
        return await self._operator().fetch_sockets()

    def sockets_join(self, *rooms: Rooms) -> None:
        """Have these sockets, on all nodes of the cluster, join rooms; may be called from any thread."""
        self._operator().sockets_join(*rooms)

    def sockets_leave(self, *rooms: Rooms) -> None:
        """Have these sockets, on all nodes of the cluster, leave rooms; may be called from any thread."""
        self._operator().sockets_leave(*rooms)

    def disconnect_sockets(self, close: bool = False) -> None:
        """Disconnect these sockets from the namespace, or with `close` end their connections; may be called from any thread.

        Their clients see `io server disconnect` and do not reconnect by themselves. What was emitted to them before is sent first.
        """
        self._operator().disconnect_sockets(close)

    async def drain(self) -> None:
        """Wait until what was emitted to these sockets has been handed to the network; those that go meanwhile are not waited for.

        The backpressure of a producer. On ASGI servers `handed` means that the server's `send` has returned; with polling, that a GET took
        it. Sockets of other nodes are not waited for.
        """
        await self._operator().drain()
