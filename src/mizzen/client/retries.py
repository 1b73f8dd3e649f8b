"""Packets that are sent until they are acked: one at a time, in order, each at least once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mizzen.errors import AckTimeout, ConnectionClosed
from mizzen.types import JSON, Reason

if TYPE_CHECKING:
    from mizzen.client.outbox import Outbox


class Entry:
    """One packet of the queue; `future` is what a `call` waits for."""

    __slots__ = ("args", "future", "size", "timer", "tried", "tries")

    def __init__(self, args: Sequence[JSON], size: int, future: asyncio.Future[Sequence[JSON]] | None) -> None:
        self.args: Sequence[JSON] = args
        self.size: int = size
        self.future: asyncio.Future[Sequence[JSON]] | None = future
        self.tries: int = 0
        self.tried: asyncio.Future[Sequence[JSON]] | None = None
        self.timer: asyncio.TimerHandle | None = None


class RetryQueue:
    """The queue of one socket: the next packet goes when the one before was acked, or given up after `retries` more tries.

    As in the JavaScript client every try is a new packet with a new ack id, and one that a disconnection cuts off counts.
    """

    __slots__ = ("_ack_timeout", "_entries", "_outbox", "_retries")

    def __init__(self, outbox: Outbox, retries: int, ack_timeout: float) -> None:
        self._outbox = outbox
        self._retries = retries
        self._ack_timeout = ack_timeout
        self._entries: deque[Entry] = deque()

    def __bool__(self) -> bool:
        return bool(self._entries)

    def put(self, args: Sequence[JSON], size: int, future: asyncio.Future[Sequence[JSON]] | None = None) -> Entry:
        """Add a packet at the end."""
        entry = Entry(args, size, future)
        self._outbox.reserve(size)
        self._entries.append(entry)
        self.send()
        return entry

    def withdraw(self, entry: Entry) -> None:
        """Take a packet back; harmless when it is done."""
        if entry in self._entries:
            self._remove(entry)
            self.send()

    def send(self) -> None:
        """Send the first packet, if it is not on its way already. Never raises: it was accepted when it was put."""
        connection = self._outbox.connection
        if not self._entries or self._entries[0].tried is not None or connection is None or not connection.alive():
            return
        entry = self._entries[0]
        entry.tries += 1
        id, entry.tried = self._outbox.write_reserved(connection, entry.args)
        entry.tried.add_done_callback(lambda tried: self._over(entry, tried))
        entry.timer = asyncio.get_running_loop().call_later(self._ack_timeout, self._late, id, entry)

    def _late(self, id: int, entry: Entry) -> None:
        self._outbox.expect_no_more(id)
        if entry.tried is not None and not entry.tried.done():
            entry.tried.set_exception(AckTimeout(f"no ack of {entry.args[0]!r} within {self._ack_timeout:g} s, in {entry.tries} tries"))

    def _over(self, entry: Entry, tried: asyncio.Future[Sequence[JSON]]) -> None:
        """Go on after a try: with the next packet, or with another try of this one."""
        error = None if tried.cancelled() else tried.exception()
        if entry not in self._entries:
            return
        if entry.timer is not None:
            entry.timer.cancel()
        entry.tried = None
        if tried.cancelled() or (error is not None and entry.tries <= self._retries):
            self.send()
            return
        self._remove(entry)
        future = entry.future
        if error is None:
            if future is not None and not future.done():
                future.set_result(tried.result())
        elif future is None:
            assert isinstance(error, Exception)
            socket = self._outbox.socket
            socket.manager.dispatcher.report(error, socket, str(entry.args[0]))
        elif not future.done():
            future.set_exception(error)
        self.send()

    def _remove(self, entry: Entry) -> None:
        self._entries.remove(entry)
        self._outbox.reserve(-entry.size)
        self._outbox.changed()
        if entry.timer is not None:
            entry.timer.cancel()

    def fail_calls(self, message: str, reason: Reason) -> None:
        """Let those that wait know that the socket is closed for good; packets that nobody waits for stay, for when it connects again."""
        for entry in [entry for entry in self._entries if entry.future is not None]:
            self._remove(entry)
            if entry.future is not None and not entry.future.done():
                entry.future.set_exception(ConnectionClosed(message, reason))
