"""Whom an event is for and how it goes: what `to`, `except_`, `volatile` … make."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Self, TypedDict, Unpack, cast

from mizzen.errors import LocalProtocolError
from mizzen.events import EventName
from mizzen.listeners import check_event
from mizzen.ports import Target
from mizzen.protocol.encoded import Encoded
from mizzen.protocol.packet import EVENT, Packet
from mizzen.server.acks import Replies
from mizzen.server.emits import Broadcasts, Converses, Rooms, flatten
from mizzen.server.remote import RemoteSocket
from mizzen.types import JSON

if TYPE_CHECKING:
    from mizzen.server.namespace import Namespace, ParentNamespace
    from mizzen.server.socket import Socket


NO_TEXT = (int, float, list, tuple, dict, bytes, bytearray, memoryview, type(None))
"""What is never sent as a string."""


class Flags(TypedDict, total=False):
    """How an event goes; see `Target`."""

    volatile: bool
    local: bool
    compress: bool
    timeout: float


class Operator(Broadcasts):
    """Whom an event is for and how it goes; immutable. Made by `to`, `except_`, `volatile`, `local`, `compress` and `timeout`."""

    __slots__ = ("_namespace", "_target")

    def __init__(self, namespace: Namespace, target: Target) -> None:
        self._namespace = namespace
        self._target = target

    def _operator(self) -> Operator:
        return self

    def narrowed(self, rooms: Iterable[Rooms]) -> Operator:
        """Give the operator for `to(*rooms)`."""
        return type(self)(self._namespace, replace(self._target, rooms=(self._target.rooms or ()) + flatten(rooms)))

    def excluding(self, rooms: Iterable[Rooms]) -> Operator:
        """Give the operator for `except_(*rooms)`."""
        return type(self)(self._namespace, replace(self._target, excluded=self._target.excluded + flatten(rooms)))

    def changed(self, **flags: Unpack[Flags]) -> Self:
        """Give the operator with other flags."""
        return type(self)(self._namespace, replace(self._target, **flags))

    def transmit(self, event: EventName, args: Sequence[JSON]) -> None:
        """Do what `emit` does."""
        namespace, target = self._namespace, self._target
        adapter = namespace.adapter
        data: list[JSON] = [check_event(event), *args]
        publish = adapter.broadcast
        if adapter.recovers:
            publish = self._publisher()
            # What is kept tells the client how far it has got in its last argument.
            if not target.volatile:
                data.append(adapter.next_offset())
            elif not isinstance(data[-1], NO_TEXT):
                # The official client takes the last argument of any event for an offset if it is a string, even the name alone.
                if not namespace.server.is_here():
                    # What is the last offset is known only when its turn comes; what cannot be encoded raises here.
                    namespace.server.codec.encode_event(namespace.name, data, None)
                    namespace.server.post(self.transmit, event, args)
                    return
                data.append(adapter.last_offset())
        encoded = namespace.server.codec.encode_event(namespace.name, data, None)
        if not target.compress:
            encoded.compress = False
        namespace.server.post(publish, Packet(EVENT, namespace.name, data), encoded, target)

    def _publisher(self) -> Callable[[Packet, Encoded, Target], None]:
        """Give what takes a packet that is to be kept."""
        return self._namespace.adapter.broadcast

    async def ask(self, event: EventName, args: Sequence[JSON], timeout: float | None) -> list[JSON]:
        """Do what `call` does."""
        target = self._target
        limit = target.timeout if timeout is None else timeout
        namespace = self._namespace
        data: list[JSON] = [check_event(event), *args]
        loop = namespace.server.running_loop()
        id = namespace.next_id()
        encoded = namespace.server.codec.encode_event(namespace.name, data, id)
        if not target.compress:
            encoded.compress = False
        replies = Replies(loop, id)
        try:
            namespace.adapter.broadcast_with_ack(Packet(EVENT, namespace.name, data, id), encoded, replace(target, timeout=limit), replies)
            return await replies.wait(data[0], limit)
        finally:
            replies.forget()

    async def fetch_sockets(self) -> list[RemoteSocket]:
        namespace = self._namespace
        namespace.server.running_loop()
        return [RemoteSocket(namespace, details) for details in await namespace.adapter.fetch_sockets(self._target)]

    def sockets_join(self, *rooms: Rooms) -> None:
        self._namespace.server.post(self._namespace.adapter.join_sockets, self._target, flatten(rooms))

    def sockets_leave(self, *rooms: Rooms) -> None:
        self._namespace.server.post(self._namespace.adapter.leave_sockets, self._target, flatten(rooms))

    def disconnect_sockets(self, close: bool = False) -> None:
        self._namespace.server.post(self._namespace.adapter.disconnect_sockets, self._target, close)

    async def drain(self) -> None:
        for member in list(self._namespace.adapter.members(self._target)):
            await cast("Socket", member).drained()


class SocketOperator(Converses):
    """How an event for one socket goes; immutable. Made by `volatile`, `compress` and `timeout` of a socket.

    `to`, `except_` and `local` turn it into a broadcast that leaves this socket out.
    """

    __slots__ = ("_socket", "_target")

    def __init__(self, socket: Socket, target: Target) -> None:
        self._socket = socket
        self._target = target

    def _operator(self) -> SocketOperator:
        return self

    def _everybody(self) -> Operator:
        return Operator(self._socket.namespace, replace(self._target, omit=self._socket))

    def changed(self, **flags: Unpack[Flags]) -> Self:
        """Give the operator with other flags."""
        return type(self)(self._socket, replace(self._target, **flags))

    def _emit(self, event: EventName, args: Sequence[JSON]) -> None:
        self.transmit(event, args)

    def transmit(self, event: EventName, args: Sequence[JSON]) -> None:
        """Do what `emit` does."""
        socket, target = self._socket, self._target
        namespace = socket.namespace
        if namespace.adapter.recovers:
            KeptOperator(socket, target).transmit(event, args)
            return
        data: list[JSON] = [check_event(event), *args]
        encoded = namespace.server.codec.encode_event(namespace.name, data, None)
        if not target.compress:
            encoded.compress = False
        namespace.server.post(socket.deliver, encoded, target.volatile)
        if namespace.watched:
            namespace.server.post(namespace.notify, socket, data)

    async def ask(self, event: EventName, args: Sequence[JSON], timeout: float | None) -> JSON:
        """Do what `call` does."""
        target = self._target
        limit = target.timeout if timeout is None else timeout
        return await self._socket.ask(event, args, limit, compress=target.compress, volatile=target.volatile)


class KeptOperator(Operator):
    """The operator of what is emitted to one socket, where the adapter keeps packets: it need not know the socket yet."""

    __slots__ = ("_socket",)

    def __init__(self, socket: Socket, target: Target) -> None:
        super().__init__(socket.namespace, replace(target, rooms=(socket.id,)))
        self._socket = socket

    def _publisher(self) -> Callable[[Packet, Encoded, Target], None]:
        return self._socket.publish


class ParentOperator(Operator):
    """The operator of a parent namespace: what it does, it does in each of the namespaces that came of it."""

    __slots__ = ()

    def _children(self) -> list[Operator]:
        parent = cast("ParentNamespace", self._namespace)
        return [Operator(child, self._target) for child in list(parent.children.values())]

    def transmit(self, event: EventName, args: Sequence[JSON]) -> None:
        """Do what `emit` does."""
        self._namespace.server.codec.encode_event("/", [check_event(event), *args], None)  # so that it raises with no child, too
        for child in self._children():
            child.transmit(event, args)

    async def ask(self, event: EventName, args: Sequence[JSON], timeout: float | None) -> list[JSON]:
        """Do what `call` does."""
        raise LocalProtocolError(f"{self._namespace!r} cannot wait for acks: call one of its namespaces, `socket.namespace` in a handler")

    async def fetch_sockets(self) -> list[RemoteSocket]:
        raise LocalProtocolError(f"{self._namespace!r} has no sockets of its own: ask one of its namespaces, `io.of(name)`")

    def sockets_join(self, *rooms: Rooms) -> None:
        for child in self._children():
            child.sockets_join(*rooms)

    def sockets_leave(self, *rooms: Rooms) -> None:
        for child in self._children():
            child.sockets_leave(*rooms)

    def disconnect_sockets(self, close: bool = False) -> None:
        for child in self._children():
            child.disconnect_sockets(close)

    async def drain(self) -> None:
        for child in self._children():
            await child.drain()
