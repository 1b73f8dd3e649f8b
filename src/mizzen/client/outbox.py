"""What one socket sends: at once, or when it is connected; and the acks that it waits for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from mizzen.client.retries import RetryQueue
from mizzen.errors import AckTimeout, ConnectionClosed, LocalProtocolError
from mizzen.types import JSON, Reason

if TYPE_CHECKING:
    from mizzen.client.connection import Connection
    from mizzen.client.options import ClientOptions
    from mizzen.client.socket import ClientSocket
    from mizzen.ports import Codec
    from mizzen.protocol.encoded import Encoded


class Outbox:
    """Everything that a socket sends, in order.

    `connection` is set while the socket is connected; without it packets are held, up to `max_buffer` bytes, and also once the server has
    been silent for so long that they could not arrive. Acks are awaited by id; those of packets that are held outlive an interruption,
    those of packets that were sent do not.
    """

    __slots__ = ("_acks", "_changed", "_codec", "_held", "_held_size", "_next_id", "_options", "connection", "queue", "socket")

    def __init__(self, socket: ClientSocket, codec: Codec, options: ClientOptions) -> None:
        self.socket: ClientSocket = socket
        self.connection: Connection | None = None
        self._codec = codec
        self._options = options
        self._acks: dict[int, asyncio.Future[Sequence[JSON]]] = {}
        self._next_id = 0
        self._held: deque[tuple[Encoded, int | None]] = deque()
        self._held_size = 0
        self._changed: asyncio.Event | None = None
        self.queue: RetryQueue | None = None
        if options.retries is not None and options.ack_timeout is not None:
            self.queue = RetryQueue(self, options.retries, options.ack_timeout)

    def forget(self) -> None:
        """Do as `ended`, where nobody can be told any more."""
        self.connection = self._changed = None
        self._acks.clear()
        self._forget_calls()

    # Sending

    def emit(self, args: Sequence[JSON], *, volatile: bool) -> None:
        """Send an event, whose name is `args[0]`; may be called from any thread."""
        post = self.socket.manager.post
        encoded = self._codec.encode_event(self.socket.name, args, None)
        if volatile:
            post(self._write_volatile, encoded)
        elif self.queue is not None:
            post(self.queue.put, args, encoded.size)
        else:
            post(self._write, encoded, None)

    async def ask(self, args: Sequence[JSON], timeout: float | None, *, volatile: bool) -> Sequence[JSON]:
        """Send an event and give the arguments of its ack."""
        if self.queue is not None and not volatile:
            return await self._ask_in_queue(self.queue, args, timeout)
        if timeout is None:
            timeout = self._options.ack_timeout
        id, reply = self.expect()
        timer: asyncio.TimerHandle | None = None
        try:
            encoded = self._codec.encode_event(self.socket.name, args, id)
            if volatile:
                self._write_volatile(encoded)
            else:
                self._write(encoded, id)
            if timeout is not None:
                timer = asyncio.get_running_loop().call_later(timeout, _late, reply, args[0], timeout)
            return await reply
        finally:
            if timer is not None:
                timer.cancel()
            self.expect_no_more(id)

    async def _ask_in_queue(self, queue: RetryQueue, args: Sequence[JSON], timeout: float | None) -> Sequence[JSON]:
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Sequence[JSON]] = loop.create_future()
        entry = queue.put(args, self._codec.encode_event(self.socket.name, args, None).size, reply)
        timer = None if timeout is None else loop.call_later(timeout, _late, reply, args[0], timeout)
        try:
            return await reply
        finally:
            if timer is not None:
                timer.cancel()
            queue.withdraw(entry)

    def write_reserved(self, connection: Connection, args: Sequence[JSON]) -> tuple[int, asyncio.Future[Sequence[JSON]]]:
        """Write one event that has been counted by `reserve`; give its ack's id, and what its arguments come to."""
        id, reply = self._next_ack()
        connection.write(self._codec.encode_event(self.socket.name, args, id))
        return id, reply

    def _write(self, encoded: Encoded, id: int | None) -> None:
        connection = self.connection
        if connection is None or not connection.alive():
            self.reserve(encoded.size)
            self._held.append((encoded, id))
            return
        if connection.unsent and connection.unsent + encoded.size > self._options.max_buffer:
            raise self._full(connection.unsent)
        if id is not None and len(self._acks) == 1:
            connection.write_now(encoded)  # a caller that waits for each answer spares a turn of the loop
        else:
            connection.write(encoded)

    def _write_volatile(self, encoded: Encoded) -> None:
        connection = self.connection
        if connection is not None and connection.alive() and connection.writable:
            connection.write(encoded)

    def ack(self, connection: Connection | None, id: int, result: object) -> None:
        """Answer an event that came by `connection`: None is no argument, a tuple several, anything else one.

        Raises TypeError for what cannot be encoded.
        """
        args = cast("tuple[JSON, ...]", result) if isinstance(result, tuple) else () if result is None else (result,)
        encoded = self._codec.encode_ack(self.socket.name, args, id)
        # An id means something only on the connection that it came by.
        if connection is not None and connection is self.connection:
            connection.answer(encoded)

    # What waits

    def reserve(self, size: int) -> None:
        """Count bytes that wait for a connection. Raises LocalProtocolError when they are more than may be."""
        if size > 0 and self._held_size and self._held_size + size > self._options.max_buffer:
            raise self._full(self._held_size)
        self._held_size += size

    def _full(self, size: int) -> LocalProtocolError:
        return LocalProtocolError(
            f"{size} bytes of {self.socket!r} wait to be sent already (max_buffer): await socket.drain() between emits, "
            "use socket.volatile, or allow more"
        )

    async def drain(self) -> None:
        """Wait until what was emitted has been handed to the network."""
        while self._held or self.queue:
            socket = self.socket
            if not socket.active:
                raise ConnectionClosed(f"{socket!r} is not connected, and its events wait", socket.reason or Reason.IO_CLIENT_DISCONNECT)
            if self._changed is None:
                self._changed = asyncio.Event()
            await self._changed.wait()
        if self.connection is not None:
            await self.connection.drained()

    def changed(self) -> None:
        """Have those that drain look again."""
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()

    # Acks

    def expect(self) -> tuple[int, asyncio.Future[Sequence[JSON]]]:
        """Give an id for an ack, and what its arguments come to. Raises LocalProtocolError when too many are awaited."""
        limit = self._options.max_pending_acks
        if len(self._acks) >= limit:
            raise LocalProtocolError(f"{limit} acks of {self.socket!r} are awaited already (max_pending_acks); give `call` a timeout")
        return self._next_ack()

    def _next_ack(self) -> tuple[int, asyncio.Future[Sequence[JSON]]]:
        connection = self.connection
        if connection is not None and connection.paused:
            connection.resume()  # the ack may lie behind what is not read
        id = self._next_id
        self._next_id += 1
        reply = self._acks[id] = asyncio.get_running_loop().create_future()
        return id, reply

    @property
    def awaiting(self) -> bool:
        """Whether an ack of something that was sent is awaited."""
        return self.connection is not None and bool(self._acks)

    def expect_no_more(self, id: int) -> None:
        """Take back `expect`, and the packet if it waits for the connection."""
        self._acks.pop(id, None)
        for position, (encoded, held) in enumerate(self._held):
            if held == id:
                del self._held[position]
                self._held_size -= encoded.size
                self.changed()
                return

    def acked(self, id: int, args: Sequence[JSON]) -> None:
        """Take an ack of the server; one that nobody waits for is dropped."""
        reply = self._acks.pop(id, None)
        if reply is not None and not reply.done():
            reply.set_result(args)

    # The connection

    def connected(self, connection: Connection) -> None:
        """Send what was held, and from now on everything at once."""
        self.connection = connection
        held, self._held = self._held, deque()
        for encoded, _ in held:
            self._held_size -= encoded.size
            connection.write(encoded)
        self.changed()
        if self.queue is not None:
            self.queue.send()

    def lost(self, message: str, reason: Reason) -> None:
        """Hold what comes, and let those know that wait for acks of what was sent."""
        self.connection = None
        waiting = {id for _, id in self._held}
        for id, reply in list(self._acks.items()):
            if id not in waiting:
                del self._acks[id]
                if not reply.done():
                    reply.set_exception(ConnectionClosed(message, reason))

    def ended(self, message: str, reason: Reason) -> None:
        """Do as `lost`, for all acks: the socket does not come back by itself. Packets that nobody waits for stay, for when it does."""
        self._forget_calls()
        self.lost(message, reason)
        if self.queue is not None:
            self.queue.fail_calls(message, reason)
        self.changed()

    def _forget_calls(self) -> None:
        for encoded, id in self._held:
            if id is not None:
                self._held_size -= encoded.size
        self._held = deque(each for each in self._held if each[1] is None)


def _late(reply: asyncio.Future[Sequence[JSON]], event: JSON, timeout: float) -> None:
    if not reply.done():
        reply.set_exception(AckTimeout(f"no ack of {event!r} within {timeout:g} s"))
