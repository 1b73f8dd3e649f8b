"""To whom, and how: the chain of `to`, `except_`, `volatile` … that ends in `emit` or `call`, written once for server, namespace and
socket."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias, cast

from mizzen.errors import LocalProtocolError
from mizzen.ports import Target
from mizzen.protocol.packet import EVENT, RESERVED_EVENTS, Packet
from mizzen.server.acks import Replies
from mizzen.types import JSON

if TYPE_CHECKING:
    from mizzen.server.namespace import Namespace
    from mizzen.server.socket import Socket

Rooms: TypeAlias = str | Iterable[str]


def flatten(rooms: Iterable[Rooms]) -> tuple[str, ...]:
    """Give the room names of `("a", ["b", "c"])`."""
    names: list[str] = []
    for room in rooms:
        if isinstance(room, str):
            names.append(room)
        else:
            names.extend(room)
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

    async def drain(self) -> None:
        """Wait until what was emitted to these sockets has been handed to the network; those that go meanwhile are not waited for.

        The backpressure of a producer. On ASGI servers `handed` means that the server's `send` has returned; with polling, that a GET took
        it."""
        await self._operator().drain()


class Operator(Emits):
    """Whom an event is for and how it goes; immutable. Made by `to`, `except_`, `volatile`, `local` and `timeout`.

    With `only` set it is for that one socket; `to` turns it into a broadcast that leaves this socket out.
    """

    __slots__ = ("_namespace", "_only", "_target")

    def __init__(self, namespace: Namespace, target: Target, only: Socket | None = None) -> None:
        self._namespace = namespace
        self._target = target
        self._only = only

    def _operator(self) -> Operator:
        return self

    def narrowed(self, rooms: Iterable[Rooms]) -> Operator:
        """Give the operator for `to(*rooms)`."""
        target = self._target
        return Operator(self._namespace, replace(target, rooms=target.rooms + flatten(rooms), omit=self._only or target.omit))

    def excluding(self, rooms: Iterable[Rooms]) -> Operator:
        """Give the operator for `except_(*rooms)`."""
        target = self._target
        return Operator(self._namespace, replace(target, excluded=target.excluded + flatten(rooms), omit=self._only or target.omit))

    def broadcast(self) -> Operator:
        """Give the operator for everybody but the socket that it was made from."""
        return self.narrowed(())

    def changed(self, *, volatile: bool | None = None, local: bool | None = None, timeout: float | None = None) -> Operator:
        """Give the operator with one flag changed."""
        target = self._target
        return Operator(
            self._namespace,
            replace(
                target,
                volatile=target.volatile if volatile is None else volatile,
                local=target.local if local is None else local,
                timeout=target.timeout if timeout is None else timeout,
            ),
            self._only,
        )

    def emit(self, event: str, *args: JSON) -> None:
        check_event(event)
        namespace, only = self._namespace, self._only
        data = [event, *args]
        encoded = namespace.server.codec.encode_event(namespace.name, data, None)
        if only is not None:
            namespace.server.post(only.write_volatile if self._target.volatile else only.write, encoded)
        else:
            namespace.server.post(namespace.adapter.broadcast, Packet(EVENT, namespace.name, data), encoded, self._target)

    async def call(self, event: str, *args: JSON, timeout: float | None = None) -> JSON:
        limit = self._target.timeout if timeout is None else timeout
        if self._only is not None:
            return await self._only.call(event, *args, timeout=limit)
        check_event(event)
        namespace = self._namespace
        loop = namespace.server.running_loop()
        id = namespace.next_id()
        encoded = namespace.server.codec.encode_event(namespace.name, [event, *args], id)
        # The memory adapter's members are the sockets of this server.
        sockets = [cast("Socket", member) for member in namespace.adapter.members(self._target)]
        replies = Replies(loop, sockets)
        for socket in sockets:
            socket.expect(id, replies)
            socket.write(encoded)
        try:
            return await replies.wait(event, limit)
        finally:
            for socket in sockets:
                socket.expect_no_more(id)

    async def drain(self) -> None:
        sockets = [self._only] if self._only is not None else [cast("Socket", m) for m in self._namespace.adapter.members(self._target)]
        for socket in sockets:
            await socket.drained()
