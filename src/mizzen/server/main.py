"""What a server does as its main namespace, and with its namespaces."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, overload

from mizzen.events import EventName
from mizzen.listeners import Handler, Listeners
from mizzen.ports import Target
from mizzen.server.emits import Broadcasts
from mizzen.server.listening import SocketListening
from mizzen.server.namespace import NODE_TIMEOUT, Namespace, ParentNamespace, RoomHook
from mizzen.server.namespaces import Accepts, NamespaceHook, Namespaces, PatternAccepts
from mizzen.server.operator import Operator
from mizzen.types import JSON

if TYPE_CHECKING:
    from mizzen.server.socket import Socket


class MainNamespace(Broadcasts, SocketListening):
    """What stands before all namespaces: it makes them, and what is said to it is said to the main one, `/`."""

    namespaces: Namespaces

    @overload
    def of(self, name: str, *, ordered: bool = ...) -> Namespace: ...

    @overload
    def of(self, name: re.Pattern[str] | Accepts, *, ordered: bool = ...) -> ParentNamespace: ...

    def of(self, name: str | re.Pattern[str] | Accepts, *, ordered: bool = False) -> Namespace:
        """Give the namespace `name` (such as "/chat"), made at its first mention; clients may connect to it from then on.

        A compiled pattern, which has to match the whole name, or a function `(name, auth)`, plain or async, that says True gives what makes
        namespaces when clients ask for them: they get the handlers and middleware that are registered on it, and what it emits goes to all
        of them. It is asked only for namespaces that do not exist; to decide on each client use middleware. With `ordered` the handlers of
        one socket's events run one after another, as far as they are registered from then on.

        A namespace that a pattern accepts is made of it, whoever mentions it first. It stays if that is before the server runs; else it may
        go when nobody is in it (see `cleanup_empty_child_namespaces`, `max_child_namespaces`). Raises LocalProtocolError when too many are
        in use.
        """
        if isinstance(name, str):
            return self.namespaces.of(name, ordered=ordered)
        if isinstance(name, re.Pattern):
            return self.namespaces.add_parent(name.pattern, PatternAccepts(name), ordered=ordered)
        if not callable(name):
            raise TypeError(f"{name!r} is no namespace: expected a name such as '/chat', a compiled pattern, or a function of (name, auth)")
        return self.namespaces.add_parent(getattr(name, "__qualname__", repr(name)), name, ordered=ordered)

    def include(self, namespace: Namespace) -> Namespace:
        """Mount a namespace that was made elsewhere: `chat = Namespace("/chat")`, `io.include(chat)`.

        Raises LocalProtocolError when there is another one of its name already, or when it is part of another server.
        """
        return self.namespaces.include(namespace)

    def on_new_namespace(self, hook: NamespaceHook) -> NamespaceHook:
        """Register a hook, plain or async, that is called with each namespace that comes into being, the main one excepted."""
        self.namespaces.hooks.add(hook)
        return hook

    @property
    def _main(self) -> Namespace:
        return self.namespaces.get("/") or self.namespaces.of("/")

    def _listeners(self) -> Listeners:
        return self._main.listeners

    def _listen(
        self, event: EventName, handler: Callable[..., object] | None, *, once: bool = False, ordered: bool = False
    ) -> Callable[..., object]:
        return super()._listen(event, handler, once=once, ordered=ordered or self._main.ordered)

    def on_any_outgoing(self, handler: Handler, *, prepend: bool = False) -> Handler:
        return self._main.on_any_outgoing(handler, prepend=prepend)

    def use(self, middleware: Handler) -> Handler:
        """Register a middleware of the main namespace; see `Namespace.use`."""
        return self._main.use(middleware)

    def on_room(self, hook: RoomHook) -> RoomHook:
        """Register a hook for rooms of the main namespace; see `Namespace.on_room`."""
        return self._main.on_room(hook)

    @overload
    def on_server_side(self, event: EventName) -> Callable[[Handler], Handler]: ...

    @overload
    def on_server_side(self, event: EventName, handler: Handler) -> Handler: ...

    def on_server_side(self, event: EventName, handler: Callable[..., object] | None = None) -> Callable[..., object]:
        """Register a handler of events that other nodes send to the main namespace; see `Namespace.on_server_side`."""
        register = self._main.on_server_side(event)
        return register if handler is None else register(handler)

    def server_side_emit(self, event: EventName, *args: JSON) -> None:
        """Send an event to the other nodes of the cluster; see `Namespace.server_side_emit`."""
        self._main.server_side_emit(event, *args)

    async def server_side_call(self, event: EventName, *args: JSON, timeout: float = NODE_TIMEOUT) -> list[JSON]:
        """Send an event to the other nodes of the cluster and give their answers; see `Namespace.server_side_call`."""
        return await self._main.server_side_call(event, *args, timeout=timeout)

    def _operator(self) -> Operator:
        return Operator(self._main, Target())

    @property
    def sockets(self) -> dict[str, Socket]:
        """The connected sockets of the main namespace, by id."""
        return self._main.sockets
