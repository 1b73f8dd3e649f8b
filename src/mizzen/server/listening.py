"""Registering handlers: those of server and namespaces get the socket first, those of one socket do not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeAlias, TypeVar, overload

from mizzen.events import Event, EventName
from mizzen.listeners import Handler, Listeners, Listens
from mizzen.signatures import Signature

if TYPE_CHECKING:
    from mizzen.server.socket import Socket

P = ParamSpec("P")
R = TypeVar("R")
Typed: TypeAlias = "Callable[Concatenate[Socket, P], Awaitable[R] | R]"
"""A handler of an `Event`."""

LIFECYCLE = frozenset(("connect", "disconnect", "disconnecting"))


class SocketListening(Listens):
    """What listens to the events of all sockets of a namespace: its handlers get the socket first, and then the arguments."""

    __slots__ = ()

    _own_events: frozenset[str] = LIFECYCLE

    @overload
    def on(self, event: Event[P, R], /, *, ordered: bool = ...) -> Callable[[Typed[P, R]], Typed[P, R]]: ...

    @overload
    def on(self, event: str, /, *, ordered: bool = ...) -> Callable[[Handler], Handler]: ...

    @overload
    def on(self, event: Event[P, R], handler: Typed[P, R], /, *, ordered: bool = ...) -> Typed[P, R]: ...

    @overload
    def on(self, event: str, handler: Handler, /, *, ordered: bool = ...) -> Handler: ...

    def on(self, event: EventName, handler: Callable[..., object] | None = None, /, *, ordered: bool = False) -> Callable[..., object]:
        """Register a handler: `@io.on("typing")`, or `io.on("typing", handler)`.

        It gets the socket and then the arguments, validated by its annotations; what it returns is the ack. Several handlers of one event
        all run, in order of registration. With `ordered` it starts only when the `ordered` handlers of the socket's earlier events have
        ended; so does one for `disconnecting` or `disconnect`.

        `connect` handlers get the socket and, if they take it, `auth`, and refuse by raising ConnectRefused. `disconnecting` and then
        `disconnect` handlers get the socket and, if they take them, the reason and its details; while those of `disconnecting` run,
        `socket.rooms` still names the rooms that it was in.

        Raises TypeError for a signature that cannot work and LocalProtocolError for a reserved name.
        """
        return self._listen(event, handler, ordered=ordered)

    @overload
    def once(self, event: Event[P, R], /) -> Callable[[Typed[P, R]], Typed[P, R]]: ...

    @overload
    def once(self, event: str, /) -> Callable[[Handler], Handler]: ...

    @overload
    def once(self, event: Event[P, R], handler: Typed[P, R], /) -> Typed[P, R]: ...

    @overload
    def once(self, event: str, handler: Handler, /) -> Handler: ...

    def once(self, event: EventName, handler: Callable[..., object] | None = None, /) -> Callable[..., object]:
        """Register a handler for the next event of this name only, whichever socket sends it; otherwise as `on`."""
        return self._listen(event, handler, once=True)


class OwnListeners(Listeners):
    """The handlers of one socket: called as those of its namespace, with the socket first, of which they see nothing."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(0)

    def _compile(self, function: Callable[..., object], more: int = 0) -> Signature:
        signature = super()._compile(function, more)
        call = signature.call
        signature.call = lambda _socket, *args: call(*args)  # pyright: ignore[reportUnknownLambdaType] - passes on what it is given
        return signature
