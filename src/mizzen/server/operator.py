"""Whom an event is for and how it goes: what `to`, `except_`, `volatile` … make."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from mizzen.ports import Target
from mizzen.protocol.packet import EVENT, Packet
from mizzen.server.acks import Replies
from mizzen.server.emits import Emits, Rooms, check_event, flatten
from mizzen.types import JSON

if TYPE_CHECKING:
    from mizzen.server.namespace import Namespace
    from mizzen.server.socket import Socket


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
        for socket in sockets:
            socket.check_acks()
        replies = Replies(loop, sockets)
        for socket in sockets:
            socket.expect(id, replies)
            socket.write(encoded)
        try:
            return await replies.wait(event, limit)
        finally:
            for socket in sockets:
                socket.expect_no_more(id)

    def disconnect_sockets(self, close: bool = False) -> None:
        self._namespace.server.post(self._disconnect_sockets, close)

    def _disconnect_sockets(self, close: bool) -> None:
        members = [self._only] if self._only is not None else self._namespace.adapter.members(self._target)
        for member in list(members):  # those who leave change the set
            cast("Socket", member).disconnect(close)

    async def drain(self) -> None:
        sockets = [self._only] if self._only is not None else [cast("Socket", m) for m in self._namespace.adapter.members(self._target)]
        for socket in sockets:
            await socket.drained()
