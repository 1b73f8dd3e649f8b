"""A socket as all nodes of a cluster see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar, overload

from mizzen.errors import ConnectionClosed
from mizzen.events import Event, EventName
from mizzen.handling import unpack
from mizzen.ports import SocketDetails
from mizzen.types import JSON, Handshake, Reason

if TYPE_CHECKING:
    from mizzen.server.emits import Rooms
    from mizzen.server.namespace import Namespace

P = ParamSpec("P")
R = TypeVar("R")


class RemoteSocket:
    """What `fetch_sockets` gives: a socket of this node or of another one, as it was then.

    `id`, `rooms`, `handshake` and `data` are those of the socket; changes of `data` stay here. The methods reach the socket where it is.
    """

    __slots__ = ("_namespace", "data", "handshake", "id", "rooms")

    def __init__(self, namespace: Namespace, details: SocketDetails) -> None:
        self._namespace = namespace
        self.id: str = details.id
        self.rooms: frozenset[str] = details.rooms
        self.handshake: Handshake = Handshake.from_details(details.handshake)
        self.data: dict[str, JSON] = details.data

    def __repr__(self) -> str:
        return f"<RemoteSocket {self.id} of {self._namespace.name}>"

    @overload
    def emit(self, event: Event[P, R], /, *args: P.args, **kwargs: P.kwargs) -> None: ...

    @overload
    def emit(self, event: str, /, *args: JSON) -> None: ...

    def emit(self, event: EventName, /, *args: JSON) -> None:
        """Send an event to this client. Raises what `Socket.emit` raises."""
        self._namespace.to(self.id).transmit(event, args)

    @overload
    async def call(self, event: Event[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    @overload
    async def call(self, event: str, /, *args: JSON, timeout: float | None = ...) -> JSON: ...

    async def call(self, event: EventName, /, *args: JSON, timeout: float | None = None) -> JSON:
        """Send an event to this client and wait for its ack; give the ack's first argument.

        `timeout` in seconds. Raises AckTimeout, RemoteError for an error ack, and ConnectionClosed when the socket is gone or not yet
        connected.
        """
        replies = await self._namespace.to(self.id).ask(event, args, timeout)
        if not replies:
            raise ConnectionClosed(f"socket {self.id} is gone, or is not connected yet", Reason.TRANSPORT_CLOSE)
        return unpack(replies[:1])

    def join(self, *rooms: Rooms) -> None:
        """Have it join rooms: names, or lists of names."""
        self._namespace.to(self.id).sockets_join(*rooms)

    def leave(self, *rooms: Rooms) -> None:
        """Have it leave rooms."""
        self._namespace.to(self.id).sockets_leave(*rooms)

    def disconnect(self, close: bool = False) -> None:
        """Disconnect it from the namespace, or with `close` end its connection."""
        self._namespace.to(self.id).disconnect_sockets(close)
