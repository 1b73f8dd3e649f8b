"""Whom an event is for and how it goes: what `to`, `except_`, `volatile` … make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from mizzen.errors import LocalProtocolError
from mizzen.events import EventName
from mizzen.ports import Target
from mizzen.protocol.packet import EVENT, Packet
from mizzen.server.acks import Replies
from mizzen.server.emits import Emits, Rooms, check_event, flatten
from mizzen.server.remote import RemoteSocket
from mizzen.types import JSON

if TYPE_CHECKING:
    from mizzen.server.namespace import Namespace, ParentNamespace
    from mizzen.server.socket import Socket


NO_TEXT = (int, float, list, tuple, dict, bytes, bytearray, memoryview, type(None))
"""What is never sent as a string."""


class Operator(Emits):
    """Whom an event is for and how it goes; immutable. Made by `to`, `except_`, `volatile`, `local`, `compress` and `timeout`.

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
        return type(self)(self._namespace, replace(target, rooms=target.rooms + flatten(rooms), omit=self._only or target.omit))

    def excluding(self, rooms: Iterable[Rooms]) -> Operator:
        """Give the operator for `except_(*rooms)`."""
        target = self._target
        return type(self)(self._namespace, replace(target, excluded=target.excluded + flatten(rooms), omit=self._only or target.omit))

    def broadcast(self) -> Operator:
        """Give the operator for everybody but the socket that it was made from."""
        return self.narrowed(())

    def changed(
        self, *, volatile: bool | None = None, local: bool | None = None, compress: bool | None = None, timeout: float | None = None
    ) -> Operator:
        """Give the operator with one flag changed; `local` of one socket is for all others, as in Node."""
        if local and self._only is not None:
            return self.broadcast().changed(local=True)
        target = self._target
        return type(self)(
            self._namespace,
            replace(
                target,
                volatile=target.volatile if volatile is None else volatile,
                local=target.local if local is None else local,
                compress=target.compress if compress is None else compress,
                timeout=target.timeout if timeout is None else timeout,
            ),
            self._only,
        )

    def _whole_target(self) -> Target:
        return self._target if self._only is None else replace(self._target, rooms=(self._only.id,))

    def transmit(self, event: EventName, args: Sequence[JSON]) -> None:
        """Do what `emit` does."""
        namespace, only, target = self._namespace, self._only, self._target
        adapter = namespace.adapter
        data: list[JSON] = [check_event(event), *args]
        if adapter.recovers:
            # What is kept goes by the adapter, and tells the client how far it has got in its last argument.
            if only is not None:
                only, target = None, self._whole_target()
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
        if only is None:
            namespace.server.post(adapter.broadcast, Packet(EVENT, namespace.name, data), encoded, target)
            return
        namespace.server.post(only.deliver, encoded, target.volatile)
        if namespace.watched:
            namespace.server.post(namespace.notify, only, data)

    async def ask(self, event: EventName, args: Sequence[JSON], timeout: float | None) -> JSON:
        """Do what `call` does."""
        target = self._target
        limit = target.timeout if timeout is None else timeout
        if self._only is not None:
            return await self._only.ask(event, args, limit, compress=target.compress, volatile=target.volatile)
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
        return [RemoteSocket(namespace, details) for details in await namespace.adapter.fetch_sockets(self._whole_target())]

    def sockets_join(self, *rooms: Rooms) -> None:
        self._namespace.server.post(self._namespace.adapter.join_sockets, self._whole_target(), flatten(rooms))

    def sockets_leave(self, *rooms: Rooms) -> None:
        self._namespace.server.post(self._namespace.adapter.leave_sockets, self._whole_target(), flatten(rooms))

    def disconnect_sockets(self, close: bool = False) -> None:
        self._namespace.server.post(self._namespace.adapter.disconnect_sockets, self._whole_target(), close)

    async def drain(self) -> None:
        for member in list(self._namespace.adapter.members(self._whole_target())):
            await cast("Socket", member).drained()


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

    async def ask(self, event: EventName, args: Sequence[JSON], timeout: float | None) -> JSON:
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
