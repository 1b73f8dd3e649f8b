"""The Socket.IO side of one connection: its decoder, its sockets by namespace, and how they come and go."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import parse_qsl

from mizzen.errors import ArgumentsInvalid, ConnectRefused, RemoteProtocolError
from mizzen.handling import failure_of
from mizzen.listeners import Plan
from mizzen.ports import RestoredSession, SavedSession
from mizzen.protocol.encoded import Encoded
from mizzen.protocol.packet import ACK, CONNECT, CONNECT_ERROR, DISCONNECT, EVENT, Packet
from mizzen.server.handlers import Runner
from mizzen.server.namespaces import TooManyNamespaces
from mizzen.server.socket import Socket
from mizzen.server.socket_state import ARRIVING, CONNECTED, GONE, Pass, Turn
from mizzen.signatures import Signature
from mizzen.types import JSON, Reason

if TYPE_CHECKING:
    from mizzen.ports import PacketDecoder
    from mizzen.server.connection import Connection
    from mizzen.server.namespace import Namespace
    from mizzen.server.server import Server

logger: Final = logging.getLogger("mizzen.server")


NONE: Final[frozenset[str]] = frozenset()


class Multiplexer(Runner):
    """Takes the messages of one connection to the sockets and handlers that they are for.

    Acks and what concerns the connection itself never wait for handlers. `joining` names the namespaces of which it is not decided yet
    whether they exist, or whether a session of theirs is restored; None once the connection is over.
    """

    __slots__ = ("_size", "decoder", "joining", "sockets")

    def __init__(self, server: Server, connection: Connection) -> None:
        super().__init__(server, connection)
        self.decoder: PacketDecoder = server.codec.decoder(server.options.max_attachments)
        self.sockets: dict[str, Socket] = {}
        self.joining: frozenset[str] | None = NONE
        self._size = 0

    # The connection

    def opened(self) -> None:
        """Wait for the first CONNECT; Engine.IO 3 clients are in the main namespace without asking."""
        self.server.unconnected.arm(self)
        if self.connection.eio == 3:
            self._connect("/", None)

    def closed(self, reason: Reason, details: str | None) -> None:
        """End every socket: the connection is over."""
        self.server.unconnected.disarm(self)
        self.forget_inbox()
        self.joining = None
        for socket in list(self.sockets.values()):
            self.part(socket, reason, details)

    def overdue(self) -> None:
        """Close a client that has not joined any namespace in time."""
        self.connection.close(Reason.FORCED_SERVER_CLOSE, "no namespace was joined within connect_timeout")

    def received(self, message: str | bytes) -> None:
        """Take one message."""
        size = len(message)
        try:
            packet = self.decoder.feed(message)
            if packet is None:
                self._size += size
                return
            if self._size:
                size += self._size
                self._size = 0
            kind = packet.type
            if kind is EVENT:
                socket = self.sockets.get(packet.nsp)
                if socket is None or socket.state is not CONNECTED:
                    socket = self._socket(packet)
                if self.server.dispatching:
                    self.take(socket, packet, size)
            elif kind is ACK:
                socket = self._socket(packet)
                if packet.id is None:
                    raise RemoteProtocolError("an ACK without an id", Reason.FORCED_SERVER_CLOSE)
                socket.acked(packet.id, packet.data)
            elif kind is CONNECT:
                self._connect(packet.nsp, packet.data)
            elif kind is DISCONNECT:
                self.part(self._socket(packet), Reason.CLIENT_NAMESPACE_DISCONNECT)
            else:
                raise RemoteProtocolError("a CONNECT_ERROR, which only servers send", Reason.FORCED_SERVER_CLOSE)
        except RemoteProtocolError as error:
            self.connection.close(error.reason, str(error))

    def _socket(self, packet: Packet) -> Socket:
        socket = self.sockets.get(packet.nsp)
        if socket is None or socket.state is not CONNECTED:
            # Node: "invalid state"
            raise RemoteProtocolError(f"a packet for {packet.nsp[:100]!r}, which is not connected", Reason.FORCED_SERVER_CLOSE)
        return socket

    # Connecting

    def _connect(self, nsp: str, auth: JSON) -> None:
        name = nsp
        if self.connection.eio == 3:  # what is `auth` since, socket.io 2 sends in the query of the namespace
            name, _, query = nsp.partition("?")
            auth = dict(parse_qsl(query, keep_blank_values=True)) if query else auth
        joining = self.joining
        if joining is None:
            return
        if name in self.sockets or name in joining:
            raise RemoteProtocolError(f"a second CONNECT to {name[:100]!r}", Reason.FORCED_SERVER_CLOSE)
        limit = self.server.options.max_namespaces
        if len(self.sockets) + len(joining) >= limit:
            self._refuse(name, f"Too many namespaces: one connection may join {limit}", None)
            return
        if not self.server.dispatching:
            self._refuse(name, "Server is shutting down", None)
            return
        namespace = self.server.namespaces.get(name)
        if namespace is not None:
            self._enter(namespace, auth)
        elif not self.server.namespaces.parents:
            self._refuse(name, "Invalid namespace", None)
        elif self.running >= self.server.options.max_handlers:
            self._refuse(name, "Too many handlers are running for this connection", None)
        else:
            self.joining = joining | {name}
            self.launch(self._find(name, auth))

    async def _find(self, name: str, auth: JSON) -> None:
        """Have the parent namespaces decide on a name that is not known."""
        found: Namespace | None = None
        problem = "Invalid namespace"
        try:
            found = await self.server.namespaces.find(name, auth)
        except TooManyNamespaces:
            problem = "Too many namespaces are in use"
        except BaseException as caught:
            self.server.report(failure_of(caught, "the function"), None, "io.of")
        finally:
            self.finished()
        if self._settle(name):
            if found is None:
                self._refuse(name, problem, None)
            elif not self.server.dispatching:
                self._refuse(name, "Server is shutting down", None)
            else:
                self._enter(found, auth)
        if found is not None and not found.population:  # nobody came of it
            self.server.namespaces.left(found)

    def _settle(self, name: str) -> bool:
        """Take a name out of `joining`; say whether the connection is still there."""
        if self.joining is None:
            return False
        self.joining -= {name}
        return True

    def _enter(self, namespace: Namespace, auth: JSON) -> None:
        recovers = namespace.adapter.recovers and self.connection.eio == 4
        if self.running >= self.server.options.max_handlers and (namespace.has_lifecycle or recovers):
            self._refuse(namespace.name, "Too many handlers are running for this connection", None)
            return
        if recovers and isinstance(auth, dict):
            fields = cast("dict[str, JSON]", auth)
            pid, offset = fields.get("pid"), fields.get("offset")
            if isinstance(pid, str) and (offset is None or isinstance(offset, str)) and self.joining is not None:
                # What the client adds by itself is not what its user gave for `auth`.
                rest = {name: value for name, value in fields.items() if name not in ("pid", "offset")}
                self.joining |= {namespace.name}
                namespace.population += 1
                self.launch(self._restore(namespace, rest or None, pid, offset))
                return
        self._begin(namespace, auth, None)

    async def _restore(self, namespace: Namespace, auth: JSON, pid: str, offset: str | None) -> None:
        """Look for the session that a client wants back; without one it begins anew."""
        restored: RestoredSession | None = None
        try:
            present = namespace.by_pid.get(pid)
            if present is not None:
                present.replace()
            restored = await namespace.adapter.restore_session(pid, offset)
            if restored is not None and not self._fits(restored.missed):
                restored = None
        except BaseException as caught:
            self.server.report(failure_of(caught), None, "connect")
        finally:
            namespace.population -= 1
            self.finished()
        if self._settle(namespace.name):
            self._begin(namespace, auth, restored)
            return
        if restored is not None:
            namespace.adapter.save_session(restored.session)
        if not namespace.population:
            self.server.namespaces.left(namespace)

    def _fits(self, missed: Sequence[Encoded]) -> bool:
        """Say whether a client that takes what it missed is no slow consumer by that alone, which would go on for ever."""
        sizes = [encoded.size for encoded in missed]
        return sum(sizes) - max(sizes, default=0) <= self.server.options.max_buffer

    def _begin(self, namespace: Namespace, auth: JSON, restored: RestoredSession | None) -> None:
        """Make the socket, and have middleware and `connect` handlers decide on it."""
        session = None if restored is None else restored.session
        socket = Socket(namespace, self, self._new_id(namespace.name) if session is None else session.sid, auth, session)
        self.sockets[namespace.name] = socket
        namespace.population += 1
        missed: Sequence[Encoded] = ()
        middleware = namespace.middleware
        if restored is not None:
            # Whatever middleware says of it: what is sent from now on is not among what it has missed.
            self._let_in(socket, restored.session)
            missed = restored.missed
            if self.server.skips_middleware:
                middleware = ()
        elif not middleware:
            self._let_in(socket, None)
        handlers = namespace.listeners.take("connect")
        if middleware or handlers:
            self.launch(self._admit(socket, auth, middleware, handlers, missed))
        else:
            self._welcome(socket, missed)

    def _let_in(self, socket: Socket, session: SavedSession | None) -> None:
        """Have the adapter know a socket that middleware has let pass, or that was restored."""
        namespace = socket.namespace
        adapter = namespace.adapter
        if adapter.recovers and self.connection.eio == 4:
            pid, since = (self.server.new_secret(), adapter.last_offset()) if session is None else (session.pid, session.since)
            socket.proof = Pass(pid, since)
            namespace.by_pid[pid] = socket
        if session is not None:
            socket.joined.update(session.rooms)
        socket.enter()

    def _new_id(self, name: str) -> str:
        if self.connection.eio == 3:
            return self.connection.sid if name == "/" else f"{name}#{self.connection.sid}"
        return self.server.sessions.new_id()

    async def _admit(self, socket: Socket, auth: JSON, middleware: Plan, handlers: Plan, missed: Sequence[Encoded]) -> None:
        try:
            for each in middleware:
                await self.server.invoke(each, socket, (), ())
                if socket.state is GONE:  # nothing has begun for it that would have to end
                    socket.forget()
                    return
            if socket.state is ARRIVING:
                self._let_in(socket, None)
            for handler in handlers:
                # `auth` is None where the client sent none, so that `auth: Auth | None` need not have a default.
                await self.server.invoke(handler, socket, (), (auth,))
        except ConnectRefused as refusal:
            self._turn_away(socket, refusal.message, refusal.data)
        except ArgumentsInvalid as error:
            self.server.report(error, socket, "connect")
            self._turn_away(socket, "auth is not valid", {"code": "E_ARGUMENTS", "message": str(error), "details": error.details})
        except BaseException as caught:
            self._turn_away(socket, "the connect handler failed", self._failed(caught, socket, "connect")["error"])
        else:
            self._welcome(socket, missed)
        finally:
            self.finished()

    def _welcome(self, socket: Socket, missed: Sequence[Encoded]) -> None:
        namespace = socket.namespace
        if socket.state is GONE:
            # It went, or was disconnected, while it connected; what the handlers set up is theirs to take down.
            assert socket.reason is not None
            self._farewell(socket, socket.reason, None)
            return
        self.server.unconnected.disarm(self)
        namespace.sockets[socket.id] = socket
        data = None
        if self.connection.eio == 4:
            data = {"sid": socket.id} if socket.proof is None else {"sid": socket.id, "pid": socket.proof.pid}
        socket.welcome(self.server.codec.encode(Packet(CONNECT, namespace.name, data)), missed)

    def _turn_away(self, socket: Socket, message: str, data: JSON) -> None:
        """Refuse a socket whose `connect` has failed, if it is still there; none of its handlers will run."""
        if socket.state is not GONE:
            self.dismiss(socket, message, data)
        socket.forget()

    def dismiss(self, socket: Socket, message: str, data: JSON) -> None:
        """Refuse a socket that is connecting; whether its `disconnect` handlers run is up to its `connect` handlers, which may not have
        ended."""
        del self.sockets[socket.namespace.name]
        socket.end(Reason.SERVER_NAMESPACE_DISCONNECT)
        self._refuse(socket.namespace.name, message, data)

    def _refuse(self, name: str, message: str, data: JSON) -> None:
        answer: JSON = {"message": message}
        if self.connection.eio == 3:
            answer = message if data is None else data
        elif data is not None:
            answer["data"] = data
        try:
            encoded = self.server.codec.encode(Packet(CONNECT_ERROR, name, answer))
        except TypeError as error:
            logger.error("the data of ConnectRefused(%r) cannot be sent: %s", message, error)
            self._refuse(name, str(message), None)
            return
        self.connection.write(encoded)

    # Leaving

    def part(self, socket: Socket, reason: Reason, details: str | None = None) -> None:
        """End one socket and have its `disconnect` handlers run, now or when its `connect` has succeeded."""
        was_connected = socket.state is CONNECTED
        if socket.state is GONE:
            return
        self.sockets.pop(socket.namespace.name, None)
        socket.namespace.sockets.pop(socket.id, None)
        socket.end(reason)
        if was_connected:
            self._farewell(socket, reason, details)

    def disconnect_all(self) -> None:
        """Disconnect every socket of the connection, then end it."""
        for socket in list(self.sockets.values()):
            socket.say_goodbye()
        self.connection.close(Reason.FORCED_SERVER_CLOSE)

    def _farewell(self, socket: Socket, reason: Reason, details: str | None) -> None:
        leaving = socket.take("disconnecting")
        if leaving:
            self.launch(self._say_leaving(socket, leaving, reason, details))
        else:
            socket.forget_rooms()
            self._say_gone(socket, reason, details)

    async def _say_leaving(self, socket: Socket, leaving: Plan, reason: Reason, details: str | None) -> None:
        """Run the `disconnecting` handlers, for which the rooms are still named, and then the others."""
        try:
            for handler in leaving:
                await self._say_farewell(socket, handler, "disconnecting", reason, details)
        finally:
            socket.forget_rooms()
            self.finished()
        self._say_gone(socket, reason, details)

    def _say_gone(self, socket: Socket, reason: Reason, details: str | None) -> None:
        handlers = socket.take("disconnect")
        socket.forget_handlers()
        for handler in handlers:
            self.launch(self._say_farewell(socket, handler, "disconnect", reason, details, counted=True))

    async def _say_farewell(
        self, socket: Socket, handler: Signature, event: str, reason: Reason, details: str | None, *, counted: bool = False
    ) -> None:
        try:
            if handler.ordered:
                async with socket.turn(Turn.ORDERED):
                    await self.server.invoke(handler, socket, (), (reason, details))
            else:
                await self.server.invoke(handler, socket, (), (reason, details))
        except BaseException as caught:
            self.server.report(failure_of(caught), socket, event)
        finally:
            if counted:
                self.finished()
