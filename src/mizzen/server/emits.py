"""To whom, and how: the chain of `to`, `except_`, `volatile` … that ends in `emit` or `call`, written once for server, namespace and
socket."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, ParamSpec, TypeAlias, TypeVar, cast, overload

from mizzen.events import Event, EventName
from mizzen.types import JSON

if TYPE_CHECKING:
    from mizzen.server.operator import Operator, SocketOperator
    from mizzen.server.remote import RemoteSocket

P = ParamSpec("P")
R = TypeVar("R")
Made = TypeVar("Made", bound="Operator | SocketOperator", covariant=True)
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


def check_unnamed(arguments: Mapping[str, JSON]) -> None:
    """Raise TypeError for arguments that were given by name."""
    if arguments:
        raise TypeError(f"the arguments of an event have no names: {', '.join(arguments)}")


class Emits(ABC, Generic[Made]):
    """What server, namespace, socket and operators have in common: each call gives a new operator, which may be kept and used again."""

    __slots__ = ()

    @abstractmethod
    def _operator(self) -> Made: ...

    @abstractmethod
    def _everybody(self) -> Operator:
        """Give what `to` and `except_` choose from."""

    @abstractmethod
    def _emit(self, event: EventName, args: Sequence[JSON]) -> None: ...

    def to(self, *rooms: Rooms) -> Operator:
        """Name the sockets in any of `rooms` (names, or lists of names); a socket's id is a room.

        A socket in several gets the event once. Without any room, `to(*[])` or `to([])`, it is nobody.
        """
        return self._everybody().narrowed(rooms)

    def in_(self, *rooms: Rooms) -> Operator:
        """Do as `to`."""
        return self.to(*rooms)

    def except_(self, *rooms: Rooms) -> Operator:
        """Leave out the sockets in any of `rooms`."""
        return self._everybody().excluding(rooms)

    @property
    def volatile(self) -> Made:
        """Drop the event for each socket that could not be sent to now; a `call` waits in vain for the acks of those."""
        return self._operator().changed(volatile=True)

    @property
    def local(self) -> Operator:
        """Stay on this node of a cluster; of a socket: everybody there but this one."""
        return self._everybody().changed(local=True)

    def compress(self, compress: bool) -> Made:
        """Say whether what is sent may be compressed, where the connection compresses at all; without it, it may."""
        return self._operator().changed(compress=compress)

    def timeout(self, seconds: float) -> Made:
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
        check_unnamed(kwargs)
        self._emit(event, args)

    def send(self, *args: JSON) -> None:
        """Emit the event `message`."""
        self._emit("message", args)


class Broadcasts(Emits["Operator"]):
    """What server, namespace and operator have in common: they speak to many sockets."""

    __slots__ = ()

    def _everybody(self) -> Operator:
        return self._operator()

    def _emit(self, event: EventName, args: Sequence[JSON]) -> None:
        self._operator().transmit(event, args)

    @overload
    async def call(self, event: Event[P, R], /, *args: P.args, **kwargs: P.kwargs) -> list[R]: ...

    @overload
    async def call(self, event: str, /, *args: JSON, timeout: float | None = ...) -> list[JSON]: ...

    async def call(self, event: EventName, /, *args: JSON, timeout: float | None = None, **kwargs: JSON) -> list[JSON]:
        """Send an event and wait for the ack of each socket that it reaches; give a list of their first arguments.

        Sockets whose middleware or `connect` handlers still run are not asked.

        `timeout` in seconds (default: that of `timeout()`, else until every socket has answered or gone). Raises AckTimeout, whose
        `replies` are the acks that came, and LocalProtocolError when `max_pending_acks` others of a socket are awaited already.
        """
        check_unnamed(kwargs)
        return await self._operator().ask(event, args, timeout)

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
        """Wait until what was emitted to these sockets has been handed to the network; those that go meanwhile, and those whose `connect`
        handlers still run, are not waited for.

        The backpressure of a producer. On ASGI servers `handed` means that the server's `send` has returned; with polling, that a GET took
        it. Sockets of other nodes are not waited for.
        """
        await self._operator().drain()


class Converses(Emits["SocketOperator"]):
    """What a socket and its operator have in common: they speak to one client."""

    __slots__ = ()

    @abstractmethod
    async def ask(self, event: EventName, args: Sequence[JSON], timeout: float | None) -> JSON:
        """Do what `call` does."""

    @overload
    async def call(self, event: Event[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    @overload
    async def call(self, event: str, /, *args: JSON, timeout: float | None = ...) -> JSON: ...

    async def call(self, event: EventName, /, *args: JSON, timeout: float | None = None, **kwargs: JSON) -> JSON:
        """Send an event to this client and wait for its ack: None, its one argument, or a tuple of several.

        `timeout` in seconds (default: that of `timeout()`, else until the client answers or goes). Raises AckTimeout, ConnectionClosed when
        the socket goes before it answers, RemoteError when the client's handler failed, and LocalProtocolError when `max_pending_acks`
        others are awaited already, and while middleware or `connect` handlers of this socket run: its client cannot answer yet.
        """
        check_unnamed(kwargs)
        return await self.ask(event, args, timeout)
