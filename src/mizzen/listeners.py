"""Who listens to which event: what `on`, `once`, `off` and the catch-all listeners keep, on the server and in the client."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Final, ParamSpec, TypeAlias, TypeVar, overload

from mizzen.errors import LocalProtocolError
from mizzen.events import Event, EventName
from mizzen.protocol.packet import RESERVED_EVENTS
from mizzen.signatures import Signature, compile_signature

P = ParamSpec("P")
R = TypeVar("R")
Handler = TypeVar("Handler", bound=Callable[..., object])
Typed: TypeAlias = Callable[P, Awaitable[R] | R]
"""A handler of an `Event`."""

Plan: TypeAlias = tuple[Signature, ...]
"""The handlers of one event, in the order in which they start."""

_changing: Final = threading.RLock()
"""Held by whoever changes listeners, of whichever socket: any thread may."""


class Listeners:
    """The handlers of one namespace, or of one socket.

    `handlers` are those of each event, `any` run for every event that comes, `any_outgoing` for every one that goes, and `middleware`
    before all of them. The first `leading` parameters of a handler are filled by the caller; catch-all handlers get the name of the event
    after them. `plain` says that there is nothing but handlers which stay.
    """

    __slots__ = ("_leading", "any", "any_outgoing", "handlers", "middleware", "plain")

    def __init__(self, leading: int) -> None:
        self._leading = leading
        self.handlers: dict[str, Plan] = {}
        self.any: Plan = ()
        self.any_outgoing: Plan = ()
        self.middleware: Plan = ()
        self.plain: bool = True

    def _compile(self, function: Callable[..., object], more: int = 0) -> Signature:
        return compile_signature(function, leading=self._leading + more)

    def _settle(self) -> None:
        self.plain = not (self.any or self.middleware or any(each.once for plan in self.handlers.values() for each in plan))

    def add(self, event: str, function: Callable[..., object], *, once: bool = False, ordered: bool = False) -> None:
        """Register a handler. Raises TypeError for a signature that cannot work."""
        signature = self._compile(function)
        signature.once, signature.ordered = once, ordered
        with _changing:
            if once:
                self.plain = False  # before it can be found, which may be in another thread
            self._keep(event, (*self.handlers.get(event, ()), signature))

    def remove(self, event: str, function: Callable[..., object] | None) -> None:
        """Forget a handler of an event, the one registered last if it is several times, or with None all of them."""
        with _changing:
            self._keep(event, _without(self.handlers.get(event, ()), function))

    def _keep(self, event: str, plan: Plan) -> None:
        if plan:
            self.handlers[event] = plan
        else:
            self.handlers.pop(event, None)
        self._settle()

    def take(self, event: str) -> Plan:
        """Give the handlers of an event that has come; those that were to run once are forgotten."""
        plan = self.handlers.get(event, ())
        if any(each.once for each in plan):
            with _changing:
                plan = self.handlers.get(event, ())
                self._keep(event, tuple(each for each in plan if not each.once))
        return plan

    def add_any(self, function: Callable[..., object], *, prepend: bool) -> None:
        """Register a handler of every event that comes. Raises TypeError for a signature that cannot work."""
        signature = self._compile(function, 1)
        with _changing:
            self.any = (signature, *self.any) if prepend else (*self.any, signature)
            self._settle()

    def remove_any(self, function: Callable[..., object] | None) -> None:
        """Forget a handler of every event that comes, or with None all of them."""
        with _changing:
            self.any = _without(self.any, function)
            self._settle()

    def add_any_outgoing(self, function: Callable[..., object], *, prepend: bool) -> None:
        """Register a handler of every event that goes. Raises TypeError for a signature that cannot work."""
        signature = self._compile(function, 1)
        with _changing:
            self.any_outgoing = (signature, *self.any_outgoing) if prepend else (*self.any_outgoing, signature)

    def remove_any_outgoing(self, function: Callable[..., object] | None) -> None:
        """Forget a handler of every event that goes, or with None all of them."""
        with _changing:
            self.any_outgoing = _without(self.any_outgoing, function)

    def use(self, function: Callable[..., object]) -> None:
        """Register a middleware, which gets the name of the event and the list of its arguments.

        Raises TypeError for any other signature.
        """
        signature = self._compile(function, 2)
        if signature.required:
            raise TypeError(f"{function!r} cannot be a middleware: it needs more than the name of the event and the list of its arguments")
        with _changing:
            self.middleware = (*self.middleware, signature)
            self._settle()

    def copy(self) -> Listeners:
        """Give listeners with the same handlers, which then go their own ways."""
        copy = Listeners(self._leading)
        copy.handlers = dict(self.handlers)
        copy.any, copy.any_outgoing, copy.middleware, copy.plain = self.any, self.any_outgoing, self.middleware, self.plain
        return copy


def _without(plan: Plan, function: Callable[..., object] | None) -> Plan:
    if function is None:
        return ()
    for index in range(len(plan) - 1, -1, -1):
        if plan[index].function == function:
            return plan[:index] + plan[index + 1 :]
    return plan


def check_event(event: EventName) -> str:
    """Give the plain name of an event. Raises LocalProtocolError for a name that no event may have."""
    if event in RESERVED_EVENTS:
        raise LocalProtocolError(f"{event!r} is a reserved name: Socket.IO uses it itself; choose another")
    return event if type(event) is str else str(event)


def check_listenable(event: str, own: frozenset[str]) -> None:
    """Raise LocalProtocolError for a name that no event may have, those in `own` excepted."""
    if event == "connection" and "connect" in own:
        raise LocalProtocolError("there is no event 'connection': register the handler for 'connect'")
    if event in RESERVED_EVENTS and event not in own:
        raise LocalProtocolError(f"{event!r} is a reserved name: Socket.IO uses it itself; choose another")


class Listens(ABC):
    """What server, namespaces and sockets have in common: all but `on` and `once`, which differ in what their handlers get."""

    __slots__ = ()

    _own_events: frozenset[str] = frozenset()
    """The reserved names that mean something here."""

    @abstractmethod
    def _listeners(self) -> Listeners: ...

    def _listen(
        self, event: EventName, handler: Callable[..., object] | None, *, once: bool = False, ordered: bool = False
    ) -> Callable[..., object]:
        name = str(event)
        check_listenable(name, self._own_events)

        def register(function: Callable[..., object]) -> Callable[..., object]:
            self._listeners().add(name, function, once=once, ordered=ordered)
            return function

        return register if handler is None else register(handler)

    def off(self, event: EventName, handler: Callable[..., object] | None = None) -> None:
        """Forget a handler of an event, or without one all of them; what is not registered is ignored."""
        self._listeners().remove(str(event), handler)

    def on_any(self, handler: Handler, *, prepend: bool = False) -> Handler:
        """Register a handler of every event that comes: it gets the name and the arguments (after the socket, where `on` gives it),
        and starts before the event's own handlers.

        What it returns is no ack. `prepend` puts it before those that are registered already.
        """
        self._listeners().add_any(handler, prepend=prepend)
        return handler

    def off_any(self, handler: Callable[..., object] | None = None) -> None:
        """Forget a handler that `on_any` registered, or without one all of them."""
        self._listeners().remove_any(handler)

    def on_any_outgoing(self, handler: Handler, *, prepend: bool = False) -> Handler:
        """Register a handler of every event that is sent to the peer: it gets what those of `on_any` get.

        Acks are no events."""
        self._listeners().add_any_outgoing(handler, prepend=prepend)
        return handler

    def off_any_outgoing(self, handler: Callable[..., object] | None = None) -> None:
        """Forget a handler that `on_any_outgoing` registered, or without one all of them."""
        self._listeners().remove_any_outgoing(handler)

    @property
    def listeners_any(self) -> tuple[Callable[..., object], ...]:
        """The handlers of every event that comes, in the order in which they start."""
        return tuple(signature.function for signature in self._listeners().any)

    @property
    def listeners_any_outgoing(self) -> tuple[Callable[..., object], ...]:
        """The handlers of every event that goes, in the order in which they start."""
        return tuple(signature.function for signature in self._listeners().any_outgoing)


class Listening(Listens):
    """What listens to the events of one socket: its handlers get the arguments of the event, and nothing before them."""

    __slots__ = ()

    @overload
    def on(self, event: Event[P, R], /, *, ordered: bool = ...) -> Callable[[Typed[P, R]], Typed[P, R]]: ...

    @overload
    def on(self, event: str, /, *, ordered: bool = ...) -> Callable[[Handler], Handler]: ...

    @overload
    def on(self, event: Event[P, R], handler: Typed[P, R], /, *, ordered: bool = ...) -> Typed[P, R]: ...

    @overload
    def on(self, event: str, handler: Handler, /, *, ordered: bool = ...) -> Handler: ...

    def on(self, event: EventName, handler: Callable[..., object] | None = None, /, *, ordered: bool = False) -> Callable[..., object]:
        """Register a handler: `@socket.on("typing")`, or `socket.on("typing", handler)`.

        It gets the arguments of the event, validated by its annotations; what it returns is the ack. Several handlers of one event all
        run, in order of registration. With `ordered` it starts only when the socket's `ordered` handlers before it have ended. Raises
        TypeError for a signature that cannot work and LocalProtocolError for a reserved name.
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
        """Register a handler for the next event of this name only; otherwise as `on`."""
        return self._listen(event, handler, once=True)
