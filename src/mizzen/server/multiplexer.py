"""The Socket.IO side of one connection: its decoder, its sockets by namespace, and the handlers that run for it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from mizzen.errors import ArgumentsInvalid, ConnectRefused, RemoteProtocolError
from mizzen.protocol.packet import ACK, CONNECT, CONNECT_ERROR, DISCONNECT, EVENT, Packet
from mizzen.server.socket import CONNECTED, GONE, Socket
from mizzen.signatures import Signature, error_ack
from mizzen.types import JSON, Reason

if TYPE_CHECKING:
    from mizzen.ports import PacketDecoder
    from mizzen.server.connection import Connection
    from mizzen.server.server import Server

logger: Final = logging.getLogger("mizzen.server")


ENTRY = 256
"""Bytes that one waiting event costs besides its message, about."""


class Answer:
    """The ack of an event with several handlers: the first result that is not None, else an error if there was one, else none."""

    __slots__ = ("_error", "_id", "_left", "_sent", "_socket")

    def __init__(self, socket: Socket, id: int, handlers: int) -> None:
        self._socket = socket
        self._id = id
        self._left = handlers
        self._error: object = None
        self._sent = False

    def result(self, value: object) -> None:
        """Take what a handler returned. Raises TypeError for what cannot be encoded; the handler has then failed."""
        if value is not None and not self._sent:
            self._socket.ack(self._id, value)
            self._sent = True
        self._done()

    def failed(self, error: object) -> None:
        """Take the error of a handler that failed."""
        self._error = error
        self._done()

    def _done(self) -> None:
        self._left -= 1
        if not self._left and not self._sent:
            self._socket.ack(self._id, self._error)


class Multiplexer:
    """Takes the messages of one connection to the sockets and handlers that they are for.

    At most `max_handlers` handlers run at once; further events wait in `inbox`, whose size in bytes is `inbox_size`. While it holds more
    than `max_buffer` the connection is not read. Acks and what concerns the connection itself never wait. `requests` are the socket
    requests in flight or in the inbox; they are counted up only where `max_requests` bounds them.
    """

    __slots__ = ("_drain_scheduled", "_size", "connection", "decoder", "inbox", "inbox_size", "requests", "running", "server", "sockets")

    def __init__(self, server: Server, connection: Connection) -> None:
        self.server: Server = server
        self.connection: Connection = connection
        self.decoder: PacketDecoder = server.codec.decoder(server.options.max_attachments)
        self.sockets: dict[str, Socket] = {}
        self.inbox: deque[tuple[Socket, Packet, int]] = deque()
        self.inbox_size: int = 0
        self.running: int = 0
        self.requests: int = 0
        self._size = 0
        self._drain_scheduled = False

    # The connection

    def opened(self) -> None:
        """Wait for the first CONNECT; Engine.IO 3 clients are in the main namespace without asking."""
        self.server.unconnected.arm(self)
        if self.connection.eio == 3:
            self._connect("/", None)

    def closed(self, reason: Reason, details: str | None) -> None:
        """End every socket: the connection is over."""
        self.server.unconnected.disarm(self)
        self.inbox.clear()
        self.inbox_size = 0
        for socket in list(self.sockets.values()):
            self.part(socket, reason, details)

    def overdue(self) -> None:
        """Close a client that has not joined any namespace in time."""
        self.connection.close(Reason.FORCED_SERVER_CLOSE, "no namespace was joined within connect_timeout")

    def received(self, message: str | bytes) -> None:
        """Take one message."""
        self._size += len(message)
        try:
            packet = self.decoder.feed(message)
            if packet is None:
                return
            size, self._size = self._size, 0
            kind = packet.type
            if kind is EVENT:
                self._event(packet, size)
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
        if name in self.sockets:
            raise RemoteProtocolError(f"a second CONNECT to {name[:100]!r}", Reason.FORCED_SERVER_CLOSE)
        namespace = self.server.namespaces.get(name)
        if namespace is None:
            self._refuse(name, "Invalid namespace", None)
            return
        limit = self.server.options.max_namespaces
        if len(self.sockets) >= limit:
            self._refuse(name, f"Too many namespaces: one connection may join {limit}", None)
            return
        if not self.server.dispatching:
            self._refuse(name, "Server is shutting down", None)
            return
        if self.running >= self.server.options.max_handlers and namespace.has_lifecycle:
            self._refuse(name, "Too many handlers are running for this connection", None)
            return
        socket = Socket(namespace, self, self._new_id(name), auth)
        self.sockets[name] = socket
        namespace.adapter.add(socket)
        if namespace.middleware or "connect" in namespace.handlers:
            self.running += 1
            self.server.tasks.start(self._admit(socket, auth))
        else:
            self._welcome(socket)

    def _new_id(self, name: str) -> str:
        if self.connection.eio == 3:
            return self.connection.sid if name == "/" else f"{name}#{self.connection.sid}"
        return self.server.sessions.new_id()

    async def _admit(self, socket: Socket, auth: JSON) -> None:
        namespace = socket.namespace
        try:
            for middleware in namespace.middleware:
                await self.server.invoke(middleware, socket, ())
            for handler in namespace.handlers.get("connect", ()):
                # `auth` is None where the client sent none, so that `auth: Auth | None` need not have a default.
                await self.server.invoke(handler, socket, (auth,))
        except ConnectRefused as refusal:
            self.dismiss(socket, refusal.message, refusal.data)
        except ArgumentsInvalid as error:
            self.server.report(error, socket, "connect")
            self.dismiss(socket, "auth is not valid", {"code": "E_ARGUMENTS", "message": str(error), "details": error.details})
        except BaseException as caught:
            error = failure_of(caught)
            self.server.report(error, socket, "connect")
            self.dismiss(socket, "the connect handler failed", error_ack(error, debug=self.server.options.debug)["error"])
        else:
            self._welcome(socket)
        finally:
            self._finished()

    def _welcome(self, socket: Socket) -> None:
        namespace = socket.namespace
        if socket.state is GONE:
            # Its client went while it connected; what the handlers set up is theirs to take down.
            assert socket.reason is not None
            self._farewell(socket, socket.reason, None)
            return
        self.server.unconnected.disarm(self)
        namespace.sockets[socket.id] = socket
        data = {"sid": socket.id} if self.connection.eio == 4 else None
        socket.welcome(self.server.codec.encode(Packet(CONNECT, namespace.name, data)))

    def dismiss(self, socket: Socket, message: str, data: JSON) -> None:
        """Refuse a socket that is connecting."""
        if socket.state is not GONE:
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
            self._refuse(name, message, None)
            return
        self.connection.write(encoded)

    # Leaving

    def part(self, socket: Socket, reason: Reason, details: str | None = None) -> None:
        """End one socket and have its `disconnect` handlers run, if its `connect` succeeded."""
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
        for handler in socket.namespace.handlers.get("disconnect", ()):
            self.running += 1
            self.server.tasks.start(self._say_farewell(socket, handler, reason, details))

    async def _say_farewell(self, socket: Socket, handler: Signature, reason: Reason, details: str | None) -> None:
        try:
            await self.server.invoke(handler, socket, (reason, details))
        except BaseException as caught:
            self.server.report(failure_of(caught), socket, "disconnect")
        finally:
            self._finished()

    # Events

    def _event(self, packet: Packet, size: int) -> None:
        socket = self.sockets.get(packet.nsp)
        if socket is None or socket.state is not CONNECTED:
            socket = self._socket(packet)
        server = self.server
        if not server.dispatching:
            return
        options = server.options
        if options.max_requests is not None and self._is_request(socket, packet):
            if self.requests >= options.max_requests:
                server.requests.refuse(socket, packet.id)
                return
            self.requests += 1
        if self.running < options.max_handlers and not self.inbox:
            self._start(socket, packet)
            return
        size += ENTRY
        self.inbox.append((socket, packet, size))
        self.inbox_size += size
        if self.inbox_size > options.max_buffer and not self.connection.paused:
            self.connection.pause()

    def _is_request(self, socket: Socket, packet: Packet) -> bool:
        name, *args = packet.data
        return name not in socket.namespace.handlers and self.server.requests.takes(socket, name, args)

    def _start(self, socket: Socket, packet: Packet) -> None:
        name, *args = packet.data
        if name.__class__ is not str:
            name = number_name(name)
        namespace = socket.namespace
        handlers = namespace.handlers.get(name)
        if handlers is None:
            if self.server.requests.takes(socket, name, args):
                self.running += 1
                self.server.tasks.start(self._request(socket, name, args, packet.id))
            else:
                self.server.log_unhandled(namespace, name)
        elif len(handlers) == 1:
            self.running += 1
            self.server.tasks.start(self._run(socket, handlers[0], name, args, packet.id))
        else:
            answer = None if packet.id is None else Answer(socket, packet.id, len(handlers))
            for handler in handlers:
                self.running += 1
                self.server.tasks.start(self._run(socket, handler, name, args, None, answer))

    async def _run(
        self, socket: Socket, handler: Signature, name: str, args: list[JSON], id: int | None, answer: Answer | None = None
    ) -> None:
        try:
            if socket.state is not CONNECTED:
                return  # it went before its handler could start
            if handler.is_async:
                result = await handler.call(socket, *handler.convert(args))
            else:
                result = await self.server.invoke(handler, socket, args)
            if answer is not None:
                answer.result(result)
            elif id is not None:
                socket.ack(id, result)
        except BaseException as caught:
            error = failure_of(caught)
            self.server.report(error, socket, name)
            failure = error_ack(error, debug=self.server.options.debug)
            if answer is not None:
                answer.failed(failure)
            elif id is not None:
                socket.ack(id, failure)
        finally:
            self._finished()

    async def _request(self, socket: Socket, verb: str, args: list[JSON], id: int | None) -> None:
        try:
            await self.server.requests.answer(socket, verb, args, id)
        finally:
            if self.server.options.max_requests is not None:
                self.requests -= 1
            self._finished()

    def _finished(self) -> None:
        self.running -= 1
        if self.connection.paused:
            self.connection.progressed()
        if self.inbox:
            self._drain_later()

    def _drain_later(self) -> None:
        # Not here and now: a handler that ends at once would go deeper with every event.
        if not self._drain_scheduled:
            self._drain_scheduled = True
            asyncio.get_running_loop().call_soon(self._drain)

    def _drain(self) -> None:
        self._drain_scheduled = False
        limit = self.server.options.max_handlers
        # Handlers that end at once do not count as running, so that without a limit of its own this turn might never end.
        for _ in range(limit):
            if not self.inbox or self.running >= limit:
                break
            socket, packet, size = self.inbox.popleft()
            self.inbox_size -= size
            if socket.state is CONNECTED:
                self._start(socket, packet)
            elif self._is_request(socket, packet):
                self.requests -= 1
        if self.inbox and self.running < limit:
            self._drain_later()
        if self.connection.paused and self.inbox_size <= self.server.options.max_buffer:
            self.connection.resume()


def failure_of(caught: BaseException) -> Exception:
    """Give the failure of a handler; raise what is none: the server cancels it, or the process is to end."""
    if isinstance(caught, Exception):
        return caught
    task = asyncio.current_task()
    if not isinstance(caught, asyncio.CancelledError) or (task is not None and task.cancelling()):
        raise caught
    failure = RuntimeError("the handler awaited something that was cancelled")
    failure.__cause__ = caught
    return failure


def number_name(name: JSON) -> str:
    """Give the name of an event that is named by a number, as JavaScript makes it."""
    return str(int(name)) if isinstance(name, float) and name.is_integer() else str(name)
