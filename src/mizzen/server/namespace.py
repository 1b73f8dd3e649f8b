"""A namespace: its handlers, middleware and sockets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar, overload

from mizzen.errors import LocalProtocolError
from mizzen.ports import Adapter, Target
from mizzen.protocol.packet import RESERVED_EVENTS
from mizzen.server.emits import Emits
from mizzen.server.operator import Operator
from mizzen.signatures import Signature, compile_signature

if TYPE_CHECKING:
    from mizzen.server.server import Server
    from mizzen.server.socket import Socket

Handler = TypeVar("Handler", bound=Callable[..., object])
Middleware = Callable[["Socket"], Awaitable[None] | None]

LIFECYCLE = ("connect", "disconnect")


class Namespace(Emits):
    """What `io.of("/chat")` gives. `sockets` holds the connected ones by id."""

    def __init__(self, server: Server, name: str, adapter: Adapter) -> None:
        self.server = server
        self.name = name
        self.adapter = adapter
        self.sockets: dict[str, Socket] = {}
        self.handlers: dict[str, tuple[Signature, ...]] = {}
        self.middleware: tuple[Signature, ...] = ()
        self._last_id = -1

    def __repr__(self) -> str:
        return f"<Namespace {self.name}: {len(self.sockets)} sockets>"

    @overload
    def on(self, event: str) -> Callable[[Handler], Handler]: ...

    @overload
    def on(self, event: str, handler: Handler) -> Handler: ...

    def on(self, event: str, handler: Handler | None = None) -> Handler | Callable[[Handler], Handler]:
        """Register a handler: `@io.on("typing")`, or `io.on("typing", handler)`.

        It gets the socket and then the arguments, validated by its annotations; what it returns is the ack. `connect` handlers get the
        socket and, if they take it, `auth`, and refuse by raising ConnectRefused; `disconnect` handlers the socket and, if they take them,
        the reason and its details. Several handlers of one event all run, in order of registration. Raises TypeError for a signature that
        cannot work and LocalProtocolError for a reserved name.
        """
        if handler is None:
            return lambda function: self.on(event, function)
        if event == "connection":
            raise LocalProtocolError("there is no event 'connection': register the handler for 'connect'")
        if event in RESERVED_EVENTS and event not in LIFECYCLE:
            raise LocalProtocolError(f"{event!r} is a reserved name: Socket.IO uses it itself; choose another")
        self.handlers[event] = (*self.handlers.get(event, ()), compile_signature(handler, leading=1))
        return handler

    def use(self, middleware: Handler) -> Handler:
        """Register a middleware: `async def (socket)`, run before the `connect` handlers, in order; it refuses by raising
        ConnectRefused."""
        signature = compile_signature(middleware, leading=1)
        if signature.required:
            raise TypeError(f"{middleware!r} cannot be a middleware: expected a function of the socket alone")
        self.middleware = (*self.middleware, signature)
        return middleware

    @property
    def has_lifecycle(self) -> bool:
        """Whether joining or leaving it runs handlers."""
        return bool(self.middleware) or "connect" in self.handlers or "disconnect" in self.handlers

    def _operator(self) -> Operator:
        return Operator(self, Target())

    def next_id(self) -> int:
        """Give the next ack id; they count from 0 for the whole namespace, so that a broadcast can be encoded once."""
        self._last_id += 1
        return self._last_id
