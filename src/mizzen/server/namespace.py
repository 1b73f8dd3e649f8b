"""A namespace: its handlers, middleware and sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from typing import TYPE_CHECKING, TypeAlias, cast, overload

from mizzen.errors import LocalProtocolError
from mizzen.events import EventName
from mizzen.handling import error_answer, failure_of
from mizzen.hooks import Hooks
from mizzen.listeners import Handler, Listeners, Plan
from mizzen.ports import Adapter, Member, Target
from mizzen.protocol.encoded import Encoded
from mizzen.protocol.packet import Packet
from mizzen.server.emits import Broadcasts
from mizzen.server.listening import SocketListening
from mizzen.server.operator import Operator, ParentOperator
from mizzen.signatures import Signature, compile_signature
from mizzen.types import JSON, RoomEvent

if TYPE_CHECKING:
    from mizzen.server.server import Server
    from mizzen.server.socket import Socket

RoomHook: TypeAlias = Callable[[RoomEvent, str, str | None], Awaitable[None] | None]

NODE_RESERVED = frozenset(("connect", "connection", "new_namespace"))
"""Events that Node servers emit on a namespace themselves, so that they cannot come from another node."""

NODE_TIMEOUT = 5.0
"""Seconds that other nodes have to answer, as in the Node server."""


class Namespace(Broadcasts, SocketListening):
    """One namespace, such as "/chat": made by `io.of("/chat")`, or in any module and mounted later.

        chat = Namespace("/chat")

        @chat.on("message")
        async def message(socket: Socket, text: str) -> None: ...

        io.include(chat)

    `sockets` holds the connected ones by id. With `ordered` the handlers of one socket's events run one after another. Until it is mounted
    it takes handlers only.
    """

    server: Server
    adapter: Adapter

    def __init__(self, name: str, *, ordered: bool = False) -> None:
        self.name: str = name if name.startswith("/") else f"/{name}"
        self.ordered: bool = ordered
        self.sockets: dict[str, Socket] = {}
        self.parent: ParentNamespace | None = None
        # Whether it stays although a pattern has made it.
        self.lasting: bool = False
        self.listeners: Listeners = Listeners(1)
        self.middleware: Plan = ()
        # Sockets that are connecting or connected.
        self.population: int = 0
        # The sockets that may be recovered, by the secret that proves it.
        self.by_pid: dict[str, Socket] = {}
        self.watched: bool = False
        self._node_handlers: dict[str, Plan] = {}
        self._room_hooks: Hooks[RoomEvent, str, str | None] = Hooks("on_room")
        self._last_id = -1
        # What the adapter is to be woken by.
        self._timers: dict[object, asyncio.TimerHandle] = {}

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            if name in ("server", "adapter"):
                raise LocalProtocolError(f"namespace {self.name!r} is not part of a server yet: call `io.include(namespace)` first")
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"<Namespace {self.name}: {len(self.sockets)} sockets>"

    def mount(self, server: Server) -> None:
        """Become part of a server; `Server.include` does it."""
        self.server = server
        self.adapter = server.adapter_factory(self)

    # Handlers

    def _listeners(self) -> Listeners:
        return self.listeners

    def _listen(
        self, event: EventName, handler: Callable[..., object] | None, *, once: bool = False, ordered: bool = False
    ) -> Callable[..., object]:
        return super()._listen(event, handler, once=once, ordered=ordered or self.ordered)

    def use(self, middleware: Handler) -> Handler:
        """Register a middleware, plain or async; it refuses by raising.

        One that takes the socket alone runs before the `connect` handlers, and refuses the client with ConnectRefused. One that takes
        `(socket, event, args)` runs for each event of a client before any handler, socket requests included; an error that it raises is
        treated like one of the handler. `args` is the list of the arguments, which it may change. Middleware runs in order of
        registration.
        """
        signature = compile_signature(middleware, leading=1)
        if signature.required == 0:
            self.middleware = (*self.middleware, signature)
        elif signature.required == 2:
            self.listeners.use(middleware)
        else:
            raise TypeError(f"{middleware!r} cannot be a middleware: expected a function of (socket) or of (socket, event, args)")
        return middleware

    def on_any_outgoing(self, handler: Handler, *, prepend: bool = False) -> Handler:
        self.watched = True
        return super().on_any_outgoing(handler, prepend=prepend)

    def on_room(self, hook: RoomHook) -> RoomHook:
        """Register a hook for rooms: `(what, room, id)`, plain or async.

        It is called when a room is made or goes, and when a socket joins or leaves. `what` is a RoomEvent; `id` the socket's, None where
        the room itself is meant. The rooms that sockets' ids name are not told of.
        """
        self._room_hooks.add(hook)
        return hook

    @property
    def has_lifecycle(self) -> bool:
        """Whether joining or leaving it runs handlers."""
        handlers = self.listeners.handlers
        return bool(self.middleware) or "connect" in handlers or "disconnect" in handlers or "disconnecting" in handlers

    # Sending

    def _operator(self) -> Operator:
        return Operator(self, Target())

    def next_id(self) -> int:
        """Give the next ack id; they count from 0 for the whole namespace, so that a broadcast can be encoded once."""
        self._last_id += 1
        return self._last_id

    # Other nodes

    @overload
    def on_server_side(self, event: EventName) -> Callable[[Handler], Handler]: ...

    @overload
    def on_server_side(self, event: EventName, handler: Handler) -> Handler: ...

    def on_server_side(self, event: EventName, handler: Callable[..., object] | None = None) -> Callable[..., object]:
        """Register a handler of an event that another node sends with `server_side_emit` or `server_side_call`.

        It gets the arguments, and what it returns is the answer. Raises LocalProtocolError for a name that Node servers emit themselves.
        """
        name = check_node_event(event)

        def register(function: Callable[..., object]) -> Callable[..., object]:
            self._node_handlers[name] = (*self._node_handlers.get(name, ()), compile_signature(function, leading=0))
            return function

        return register if handler is None else register(handler)

    def server_side_emit(self, event: EventName, *args: JSON) -> None:
        """Send an event to the other nodes of the cluster; without one, to nobody. May be called from any thread.

        Raises LocalProtocolError for a name that Node servers emit themselves.
        """
        self.server.post(self.adapter.emit_to_nodes, (check_node_event(event), *args))

    async def server_side_call(self, event: EventName, *args: JSON, timeout: float = NODE_TIMEOUT) -> list[JSON]:
        """Send an event to the other nodes of the cluster and give what each answers; without other nodes an empty list.

        `timeout` in seconds. Raises LocalProtocolError for a name that Node servers emit themselves, and what the adapter raises when
        answers do not come.
        """
        name = check_node_event(event)
        self.server.running_loop()
        return await self.adapter.call_nodes((name, *args), timeout)

    # What the adapter calls

    @property
    def room_watcher(self) -> Callable[[RoomEvent, str, str | None], None] | None:
        """What is told of rooms; None while nobody asks."""
        return self._tell_of_room if self._room_hooks else None

    def _tell_of_room(self, what: RoomEvent, room: str, id: str | None) -> None:
        self._room_hooks.run(self.server.tasks, what, room, id)

    def sent(self, packet: Packet, members: Collection[Member]) -> None:
        """Take notice that a packet went to these members: tell those who listen to what goes."""
        for member in list(members):  # what listens may make them join and leave
            self.notify(cast("Socket", member), packet.data)

    def notify(self, socket: Socket, data: Sequence[JSON]) -> None:
        """Tell those who listen to what goes to a socket; to one that is gone nothing goes."""
        if socket.reason is not None:
            return
        own = socket.own
        plan = self.listeners.any_outgoing + own.any_outgoing if own is not None else self.listeners.any_outgoing
        for handler in plan:
            self.server.tasks.start(self._watch(handler, socket, data))

    async def _watch(self, handler: Signature, socket: Socket, data: Sequence[JSON]) -> None:
        try:
            await self.server.invoke(handler, socket, (data[0],), data[1:])
        except BaseException as caught:
            self.server.report(failure_of(caught), socket, cast("str", data[0]))

    async def answer_nodes(self, args: Sequence[JSON]) -> JSON:
        """Give what this node answers to a `server_side_call`: the first result of a handler that is not None, else an error if there was
        one, as in an ack."""
        answer: JSON = None
        failure: JSON = None
        encode = self.server.codec.encode_ack
        for handler in self._node_handlers.get(args[0], ()):
            try:
                converted = handler.convert(args[1:])
                result = await handler.call(*converted) if handler.is_async else await self.server.tasks.in_thread(handler.call, *converted)
                if answer is None and result is not None:
                    encode(self.name, (result,), 0)  # it raises here what the adapter could tell nobody
                    answer = result
            except BaseException as caught:
                error = failure_of(caught)
                self.server.report(error, None, args[0])
                failure = error_answer(error, encode, debug=self.server.options.debug)
        return failure if answer is None else answer

    def encode(self, packet: Packet) -> Encoded:
        """Encode a packet of another node."""
        return self.server.codec.encode(packet)

    def start(self, coroutine: Coroutine[object, object, None]) -> None:
        """Run a coroutine of the adapter."""
        self.server.tasks.start(coroutine)

    def expire_after(self, seconds: float) -> None:
        """Have the adapter forget what is too old then."""
        key = object()
        self._timers[key] = self.server.running_loop().call_later(seconds, self._expire, key)

    def _expire(self, key: object) -> None:
        del self._timers[key]
        self.adapter.expire()
        if not self.population:
            self.server.namespaces.left(self)

    def forget(self) -> None:
        """Forget rooms, and what the adapter keeps and wants to forget later: the server closes, or the namespace goes."""
        self.adapter.close()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()


class ParentNamespace(Namespace):
    """What `io.of(pattern)` and `io.of(function)` give: the handlers and middleware of all namespaces whose names it accepts.

    A namespace gets them when its first client comes. What is emitted here goes to the sockets of all of them.
    """

    def __init__(self, name: str, accepts: Callable[[str, JSON], bool | Awaitable[bool]], *, ordered: bool = False) -> None:
        super().__init__(name, ordered=ordered)
        self.name = name
        self.accepts = accepts
        self.children: dict[str, Namespace] = {}

    def __repr__(self) -> str:
        return f"<ParentNamespace {self.name}: {len(self.children)} namespaces>"

    def mount(self, server: Server) -> None:
        """Become part of a server. The rooms are those of the namespaces that come of it, so it has no adapter."""
        self.server = server

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            if name == "adapter" and "server" in vars(self):
                raise LocalProtocolError(f"{self!r} has no rooms of its own: ask one of its namespaces, `io.of(name)`")
            return super().__getattr__(name)

    def server_side_emit(self, event: EventName, *args: JSON) -> None:
        for child in list(self.children.values()):
            child.server_side_emit(event, *args)

    async def server_side_call(self, event: EventName, *args: JSON, timeout: float = NODE_TIMEOUT) -> list[JSON]:
        raise LocalProtocolError(f"{self!r} cannot wait for answers: ask one of its namespaces, `io.of(name)`")

    def make_child(self, name: str) -> Namespace:
        """Make the namespace `name`, with all that is registered here so far."""
        child = Namespace(name, ordered=self.ordered)
        child.parent = self
        child.listeners = self.listeners.copy()
        child.middleware = self.middleware
        child.watched = self.watched
        child._node_handlers = dict(self._node_handlers)
        child._room_hooks = self._room_hooks.copy()
        self.children[name] = child
        return child

    def _operator(self) -> Operator:
        return ParentOperator(self, Target())


def check_node_event(event: EventName) -> str:
    """Give the plain name of an event between nodes. Raises LocalProtocolError for a name that no event between nodes may have."""
    if event in NODE_RESERVED:
        raise LocalProtocolError(f"{event!r} cannot be sent to other nodes: Node servers emit it themselves; choose another name")
    return str(event)
