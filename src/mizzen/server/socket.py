"""One client in one namespace: what handlers get first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from mizzen.errors import ConnectionClosed, LocalProtocolError
from mizzen.events import EventName
from mizzen.listeners import Handler, Listeners, Listening, Plan, check_event
from mizzen.ports import AckWaiter, SavedSession, SocketDetails, Target, Write
from mizzen.protocol.encoded import Encoded
from mizzen.protocol.packet import DISCONNECT, Packet
from mizzen.server.acks import Reply
from mizzen.server.emits import Converses, Rooms, flatten
from mizzen.server.gone import Gone
from mizzen.server.listening import OwnListeners
from mizzen.server.operator import Operator, SocketOperator
from mizzen.server.socket_state import ARRIVING, CONNECTED, CONNECTING, GONE, RECOVERABLE, Pass, SocketState, Turn
from mizzen.types import JSON, Handshake, Reason

if TYPE_CHECKING:
    from mizzen.server.connection import Connection
    from mizzen.server.multiplexer import Multiplexer
    from mizzen.server.namespace import Namespace


class Socket(Converses, Listening):
    """One client in one namespace.

    `id` is public: it names the socket, and a room with only this socket in it. `data` and `headers` are yours: `data` for anything,
    `headers` for what goes along with every socket request (`socket.headers["authorization"] = …`). `reason` says why it is gone, None
    before. `recovered` says that its client was here before: `id`, `data` and rooms are those of then. Handlers that are registered here
    (`socket.on`) get the arguments only, and run after those of the namespace.

    `emit`, `join`, `leave` and `disconnect` may be called from any thread; once the socket is gone they do nothing.
    """

    _own_events: frozenset[str] = frozenset(("disconnect", "disconnecting"))

    __slots__ = (
        "__weakref__",
        "_acks",
        "_auth",
        "_early",
        "_handshake",
        "_held",
        "_last_rooms",
        "_leaving",
        "_multiplexer",
        "_over",
        "_turns",
        "data",
        "headers",
        "id",
        "jar",
        "joined",
        "namespace",
        "own",
        "proof",
        "reason",
        "recovered",
        "state",
        "write",
    )

    def __init__(self, namespace: Namespace, multiplexer: Multiplexer, id: str, auth: JSON, session: SavedSession | None = None) -> None:
        self.id: str = id
        self.namespace: Namespace = namespace
        self.data: dict[str, JSON] = {}
        self.headers: dict[str, str] = {}
        self.joined: set[str] = set()
        self.reason: Reason | None = None
        self.state: SocketState = ARRIVING
        self._multiplexer = multiplexer
        self._auth = auth
        self._handshake: Handshake | None = None
        # What is for this socket before its CONNECT packet is written; None from then on.
        self._held: list[Encoded] | None = []
        # What was emitted to this socket before the adapter knew it, where the adapter keeps packets.
        self._early: list[tuple[Packet, Encoded, Target]] | None = None
        # Queues a packet, or holds it until the CONNECT packet is written; to be called on the server's thread.
        self.write: Write = self.deliver
        self._acks: dict[int, AckWaiter] = {}
        self._turns: dict[Turn, asyncio.Lock] | None = None
        # What it was in when it left, for as long as the handlers of `disconnecting` run.
        self._last_rooms: frozenset[str] = frozenset()
        self.own: OwnListeners | None = None
        self._over = False
        self.proof: Pass | None = None
        self.recovered: bool = session is not None
        if session is not None:
            self.data = session.data
        self._leaving: Gone | None = None
        # What socket requests keep of this socket: the cookies that their answers have set. Made with the first one.
        self.jar: object | None = None

    def __repr__(self) -> str:
        return f"<Socket {self.id} of {self.namespace.name} {self.state.value}>"

    @property
    def connected(self) -> bool:
        """Whether the client has been told that it is connected, and is still there."""
        return self.state is CONNECTED

    @property
    def rooms(self) -> frozenset[str]:
        """The rooms that the socket is in, its own id among them; none once it is gone and its `disconnecting` handlers have ended."""
        return self._last_rooms if self.state is GONE else frozenset(self.joined | {self.id})

    @property
    def handshake(self) -> Handshake:
        """What the client sent when it connected: headers, query, address, and `auth` of this namespace."""
        if self._handshake is None:
            self._handshake = self._multiplexer.connection.handshake.with_auth(self._auth)
        return self._handshake

    @property
    def transport(self) -> str:
        """What carries the socket's packets now: `polling` or `websocket`."""
        return self._multiplexer.connection.transport.name

    @property
    def conn(self) -> Connection:
        """The connection that carries this socket and those of the client's other namespaces."""
        return self._multiplexer.connection

    def turn(self, of: Turn) -> asyncio.Lock:
        """Give the lock that lets what is alike of this socket run one after another."""
        if self._turns is None:
            self._turns = {}
        lock = self._turns.get(of)
        if lock is None:
            lock = self._turns[of] = asyncio.Lock()
        return lock

    @property
    def leaving(self) -> Gone:
        """What tells socket requests that their socket is gone."""
        if self._leaving is None:
            self._leaving = Gone()
            if self.state is GONE:
                self._leaving.happen()
        return self._leaving

    # Handlers

    def _listeners(self) -> Listeners:
        if self._over:
            return OwnListeners()  # nothing would ever call what is kept
        if self.own is None:
            self.own = OwnListeners()
        return self.own

    def _listen(
        self, event: EventName, handler: Callable[..., object] | None, *, once: bool = False, ordered: bool = False
    ) -> Callable[..., object]:
        return super()._listen(event, handler, once=once, ordered=ordered or self.namespace.ordered)

    def on_any_outgoing(self, handler: Handler, *, prepend: bool = False) -> Handler:
        self.namespace.watched = True
        return super().on_any_outgoing(handler, prepend=prepend)

    def use(self, middleware: Handler) -> Handler:
        """Register a middleware of this socket: `(event, args)`, otherwise as one of `(socket, event, args)` for `Namespace.use`."""
        self._listeners().use(middleware)
        return middleware

    # Rooms

    def join(self, *rooms: Rooms) -> None:
        """Join rooms: names, or lists of names."""
        self.namespace.server.post(self._join, flatten(rooms))

    def _join(self, rooms: tuple[str, ...]) -> None:
        if self.state is ARRIVING:
            self.joined.update(rooms)
        elif self.state is not GONE:
            self.namespace.adapter.join(self, rooms)

    def leave(self, *rooms: Rooms) -> None:
        """Leave rooms; those that it is not in are ignored."""
        self.namespace.server.post(self._leave, flatten(rooms))

    def _leave(self, rooms: tuple[str, ...]) -> None:
        if self.state is ARRIVING:
            self.joined.difference_update(rooms)
        else:
            self.namespace.adapter.leave(self, rooms)

    # Sending

    def _operator(self) -> SocketOperator:
        return SocketOperator(self, Target())

    def _everybody(self) -> Operator:
        return self.broadcast

    @property
    def broadcast(self) -> Operator:
        """Everybody in the namespace but this socket."""
        return Operator(self.namespace, Target(omit=self))

    def _emit(self, event: EventName, args: Sequence[JSON]) -> None:
        namespace = self.namespace
        if namespace.watched or namespace.adapter.recovers:
            self._operator().transmit(event, args)
            return
        encoded = namespace.server.codec.encode_event(namespace.name, (check_event(event), *args), None)
        namespace.server.post(self.deliver, encoded)

    async def ask(
        self, event: EventName, args: Sequence[JSON], timeout: float | None, *, compress: bool = True, volatile: bool = False
    ) -> JSON:
        """Do what `call` does."""
        name = check_event(event)
        namespace = self.namespace
        reply = Reply(namespace.server.running_loop())
        if self.state is not CONNECTED:
            if self.reason is not None:
                raise ConnectionClosed(f"socket {self.id} is gone: {self.reason}", self.reason)
            raise self._too_early("call", "its client can answer", "call it")
        self.check_acks()
        id = namespace.next_id()
        data = [name, *args]
        encoded = namespace.server.codec.encode_event(namespace.name, data, id)
        if not compress:
            encoded.compress = False
        self._acks[id] = reply
        if volatile:
            self.write_volatile(encoded)
        else:
            self.write(encoded)
        if namespace.watched:
            namespace.notify(self, data)
        try:
            return await reply.wait(name, timeout)
        finally:
            self._acks.pop(id, None)

    async def drain(self) -> None:
        """Wait until what was emitted to this client has been handed to the network: the backpressure of a producer.

        Returns at once when nothing waits. Raises ConnectionClosed when the socket goes first, and LocalProtocolError while its middleware
        or `connect` handlers run: what is emitted then waits for them to end.
        """
        if self.state is ARRIVING or self.state is CONNECTING:
            raise self._too_early("drain", "anything is sent to its client", "emit and drain")
        await self._multiplexer.connection.drained()
        if self.reason is not None:
            raise ConnectionClosed(f"socket {self.id} is gone: {self.reason}", self.reason)

    def _too_early(self, what: str, before: str, instead: str) -> LocalProtocolError:
        return LocalProtocolError(
            f"{what} of socket {self.id} while its middleware or `connect` handlers run, which have to end before {before}: {instead} in a "
            "handler of its events, or in a task that the last `connect` handler starts as the last thing it does"
        )

    def disconnect(self, close: bool = False) -> None:
        """Disconnect this client from the namespace, or with `close` from all of them, and end its connection.

        Its side sees `io server disconnect` and does not reconnect by itself.
        """
        self.namespace.server.post(self._disconnect, close)

    def _disconnect(self, close: bool) -> None:
        if self.state is GONE:
            return
        if close:
            self._multiplexer.disconnect_all()
        else:
            self.say_goodbye()

    # What the multiplexer, the adapter and the operator call

    def enter(self) -> None:
        """Be known to the adapter, in the rooms joined so far: what is broadcast from now on is for this socket, too."""
        self.state = CONNECTING
        adapter = self.namespace.adapter
        adapter.add(self)
        if self.joined:
            rooms, self.joined = self.joined, set()
            adapter.join(self, rooms)
        if self._early is not None:
            early, self._early = self._early, None
            for packet, encoded, target in early:
                adapter.broadcast(packet, encoded, target)

    def publish(self, packet: Packet, encoded: Encoded, target: Target) -> None:
        """Have the adapter keep and deliver a packet for this socket, as soon as it knows the socket."""
        if self.state is not ARRIVING:
            self.namespace.adapter.broadcast(packet, encoded, target)
        elif self._early is None:
            self._early = [(packet, encoded, target)]
        else:
            self._early.append((packet, encoded, target))

    def deliver(self, encoded: Encoded, volatile: bool = False) -> None:
        """Do what `write` or `write_volatile` does, whatever has become of the socket since another thread asked for it."""
        if volatile:
            self.write_volatile(encoded)
            return
        held = self._held
        if held is None:
            self._multiplexer.connection.write(encoded)
        elif self.state is not GONE:
            held.append(encoded)
            self._multiplexer.connection.hold(encoded.size)

    def write_volatile(self, encoded: Encoded) -> None:
        """Queue a packet, or drop it if it could not be sent now."""
        if self.state is CONNECTED:
            self._multiplexer.connection.write_volatile(encoded)

    def welcome(self, connect: Encoded, missed: Sequence[Encoded]) -> None:
        """Write what was missed, the CONNECT packet, and what was held."""
        self.state = CONNECTED
        held, self._held = self._held, None
        connection = self._multiplexer.connection
        self.write = connection.write
        for encoded in missed:
            connection.write(encoded)
        connection.write(connect)
        if held:
            connection.hold(-sum([encoded.size for encoded in held]))
            for encoded in held:
                connection.write(encoded)

    def say_goodbye(self) -> None:
        """Disconnect from this side; a client that is still connecting is refused."""
        if self.state is not CONNECTED:
            self._multiplexer.dismiss(self, "The server disconnected the socket while it connected", None)
            return
        namespace = self.namespace
        self.write(namespace.server.codec.encode(Packet(DISCONNECT, namespace.name)))
        self._multiplexer.part(self, Reason.SERVER_NAMESPACE_DISCONNECT)

    def end(self, reason: Reason) -> None:
        """Be gone: out of all rooms, nothing held, nobody waiting."""
        namespace = self.namespace
        if self.listens_to("disconnecting"):
            self._last_rooms = self.rooms
        if self.proof is not None:
            self._save(self.proof, reason)
        arriving = self.state is ARRIVING
        self.state = GONE  # before hooks are told of its rooms, which may do something with it
        self.reason = reason
        if arriving:
            self.joined.clear()
            self._early = None
        else:
            namespace.adapter.remove(self)
        namespace.population -= 1
        if not namespace.population:
            namespace.server.namespaces.left(namespace)
        if self._held and not self._multiplexer.connection.gone:
            self._multiplexer.connection.hold(-sum([encoded.size for encoded in self._held]))
        self.write = _discard
        self._held = []  # so that nothing more goes to the connection, which may live on
        acks, self._acks = self._acks, {}
        for waiter in acks.values():
            waiter.gone(self, reason)
        if self._leaving is not None:
            self._leaving.happen()

    def _save(self, proof: Pass, reason: Reason) -> None:
        namespace = self.namespace
        if namespace.by_pid.get(proof.pid) is self:
            del namespace.by_pid[proof.pid]
        # One that was to be restored again and has not been told so is as it was, for the next time.
        if (self.state is CONNECTED or self.recovered) and reason in RECOVERABLE:
            watched = not self._multiplexer.connection.suspended
            namespace.adapter.save_session(
                SavedSession(sid=self.id, pid=proof.pid, rooms=frozenset(self.joined), data=self.data, since=proof.since, watched=watched)
            )

    def forget_rooms(self) -> None:
        """Be in no room any more: the handlers of `disconnecting` have ended."""
        self._last_rooms = frozenset()

    def forget_handlers(self) -> None:
        """Let go of the socket's own handlers, for which nothing comes any more: made in a function that has the socket they hold it in
        turn."""
        self.own = None
        self._over = True

    def forget(self) -> None:
        """Be in no room and have no handlers: none will run any more."""
        self.forget_rooms()
        self.forget_handlers()

    def listens_to(self, event: str) -> bool:
        """Say whether there is a handler, of the namespace or of the socket."""
        return event in self.namespace.listeners.handlers or (self.own is not None and event in self.own.handlers)

    def take(self, event: str) -> Plan:
        """Give the handlers of an event that has come: those of the namespace, then those of the socket."""
        plan = self.namespace.listeners.take(event)
        return plan if self.own is None else plan + self.own.take(event)

    def replace(self) -> None:
        """Be gone: the client is here again, on a new connection, before the old one was seen to be lost."""
        self._multiplexer.connection.lost(Reason.TRANSPORT_CLOSE, "its client came back on a new connection")

    def details(self) -> SocketDetails:
        """Give what other nodes may know of it."""
        return SocketDetails(id=self.id, handshake=self.handshake.details(), rooms=self.rooms, data=dict(self.data))

    def check_acks(self) -> None:
        """Raise LocalProtocolError when as many acks are awaited as may be."""
        limit = self.namespace.server.options.max_pending_acks
        if len(self._acks) >= limit:
            raise LocalProtocolError(f"{limit} acks of socket {self.id} are awaited already (max_pending_acks); give `call` a timeout")

    def expect(self, id: int, waiter: AckWaiter) -> None:
        """Have `waiter` told of the ack `id`. Raises what `check_acks` raises."""
        self.check_acks()
        if self.state is GONE:
            assert self.reason is not None
            waiter.gone(self, self.reason)
        else:
            self._acks[id] = waiter

    def expect_no_more(self, id: int) -> None:
        """Take back `expect`."""
        self._acks.pop(id, None)

    async def drained(self) -> None:
        """Do as `drain`, but take no notice of an end."""
        await self._multiplexer.connection.drained()

    def acked(self, id: int, args: Sequence[JSON]) -> None:
        """Take an ack of the client; one that nobody waits for is dropped."""
        waiter = self._acks.pop(id, None)
        if waiter is not None:
            waiter.came(self, args)

    def ack(self, id: int, result: object) -> None:
        """Send an ack: None is none, a tuple several arguments, anything else one. Raises TypeError for what cannot be encoded."""
        namespace = self.namespace
        args = cast("tuple[JSON, ...]", result) if isinstance(result, tuple) else () if result is None else (result,)
        self.write(namespace.server.codec.encode_ack(namespace.name, args, id))


def _discard(encoded: Encoded) -> None:
    """Be what writes for a socket that is gone."""
