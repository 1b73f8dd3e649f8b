"""What users may listen to on a connection: `socket.conn.on("upgrade", …)`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypeVar, get_args, overload

from mizzen.handling import failure_of
from mizzen.protocol.engine_packet import EnginePacket

if TYPE_CHECKING:
    from mizzen.protocol.encoded import Encoded

logger: Final = logging.getLogger("mizzen.server")

ConnectionEvent: TypeAlias = Literal["upgrade", "packet", "packet_create", "drain", "heartbeat", "close"]
"""What happens to a connection, and what its listeners get.

- `upgrade`: it has moved to WebSocket; they get the name of the transport.
- `packet`: an Engine.IO packet has come, `packet_create`: one goes out; they get an EnginePacket.
- `drain`: what waited to be sent has been given to the transport.
- `heartbeat`: the client has answered a ping (with Engine.IO 3: sent one).
- `close`: it is over; they get the reason, and details or None.
"""

Listener = TypeVar("Listener", bound=Callable[..., object])
_EVENTS: frozenset[str] = frozenset(get_args(ConnectionEvent))


class Announcer:
    """Keeps listeners, which are plain functions, called at once; one that fails is logged and breaks nothing.

    Without listeners it costs nothing but the question whether there are any.
    """

    __slots__ = ("_listeners",)

    _listeners: dict[str, list[tuple[Callable[..., object], bool]]] | None

    @overload
    def on(self, event: ConnectionEvent) -> Callable[[Listener], Listener]: ...

    @overload
    def on(self, event: ConnectionEvent, listener: Listener) -> Listener: ...

    def on(self, event: ConnectionEvent, listener: Callable[..., object] | None = None) -> object:
        """Call a plain function whenever this happens, from the event loop of the server: it must not block.

        Raises ValueError for an event that there is not, and TypeError for what cannot be called.
        """
        return self._listen(event, listener, once=False)

    @overload
    def once(self, event: ConnectionEvent) -> Callable[[Listener], Listener]: ...

    @overload
    def once(self, event: ConnectionEvent, listener: Listener) -> Listener: ...

    def once(self, event: ConnectionEvent, listener: Callable[..., object] | None = None) -> object:
        """Call a plain function the next time that this happens; otherwise as `on`."""
        return self._listen(event, listener, once=True)

    def off(self, event: ConnectionEvent, listener: Callable[..., object] | None = None) -> None:
        """Forget a listener, or without one all of the event; what is not registered is ignored."""
        listeners = self._listeners
        if listeners is None or event not in listeners:
            return
        listeners[event] = [each for each in listeners[event] if listener is not None and each[0] != listener]
        if not any(listeners.values()):
            self._listeners = None

    def _listen(self, event: str, listener: Callable[..., object] | None, *, once: bool) -> Callable[..., object]:
        if event not in _EVENTS:
            raise ValueError(f"a connection has no event {event!r}: expected one of {', '.join(sorted(_EVENTS))}")

        def register(function: Callable[..., object]) -> Callable[..., object]:
            if not callable(function) or iscoroutinefunction(function):
                raise TypeError(f"{function!r} cannot listen to {event!r}: expected a plain function, which may start a task")
            if self._listeners is None:
                self._listeners = {}
            self._listeners.setdefault(event, []).append((function, once))
            return function

        return register if listener is None else register(listener)

    def _announce(self, event: ConnectionEvent, *args: object) -> None:
        listeners = self._listeners
        if listeners is None:
            return
        for each in list(listeners.get(event, ())):
            if each[1] and each in listeners[event]:
                listeners[event].remove(each)
            try:
                each[0](*args)
            except BaseException as caught:
                logger.error("a listener of %r of %r failed", event, self, exc_info=failure_of(caught, "the listener"))

    def _announce_sent(self, out: list[Encoded]) -> None:
        # Here and not where they are queued: whoever queues them may be in the middle of a broadcast, which no user's function may disturb.
        for encoded in out:
            if encoded.data is not None:
                self._announce("packet_create", EnginePacket.parse(encoded.data.decode()))
            for attachment in encoded.attachments:
                self._announce("packet_create", EnginePacket("message", attachment))
        self._announce("drain")
