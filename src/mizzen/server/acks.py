"""Waiting for acks: of one socket, or of all that a broadcast reached."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

from mizzen.errors import AckTimeout, ConnectionClosed
from mizzen.handling import unpack
from mizzen.ports import Member
from mizzen.types import JSON, Reason


class Reply:
    """The ack that one `call` to one socket waits for."""

    __slots__ = ("_future", "_gone")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._future: asyncio.Future[Sequence[JSON]] = loop.create_future()
        # Not an exception in the future: its traceback would hold this, which holds the future.
        self._gone: tuple[str, Reason] | None = None

    def came(self, socket: Member, args: Sequence[JSON]) -> None:
        if not self._future.done():
            self._future.set_result(args)

    def gone(self, socket: Member, reason: Reason) -> None:
        if not self._future.done():
            self._gone = (f"socket {socket.id} was gone before its ack came: {reason}", reason)
            self._future.set_result(())

    async def wait(self, event: str, timeout: float | None) -> JSON:
        """Give the ack. Raises AckTimeout, ConnectionClosed or RemoteError."""
        try:
            async with asyncio.timeout(timeout):
                args = await self._future
        except TimeoutError:
            raise AckTimeout(f"no ack of {event!r} within {timeout} s") from None
        if self._gone is not None:
            raise ConnectionClosed(*self._gone)
        return unpack(args)


class Replies:
    """The acks that one `call` to many sockets waits for; a socket that goes is waited for no longer."""

    __slots__ = ("_all", "_id", "_missing", "_nodes", "_others", "_over", "_replies")

    def __init__(self, loop: asyncio.AbstractEventLoop, id: int) -> None:
        self._id = id
        self._missing: set[Member] = set()
        # Other nodes that have not said how many sockets got it, and sockets of theirs that have not answered.
        self._nodes = 0
        self._others = 0
        self._over: tuple[Callable[[], None], ...] = ()
        self._replies: list[JSON] = []
        self._all: asyncio.Future[None] = loop.create_future()

    def expect(self, members: Collection[Member]) -> None:
        """Wait for the acks of these sockets. Raises LocalProtocolError when one of them is waited for too often already."""
        self._missing.update(members)
        for member in members:
            member.expect(self._id, self)
        self._check()

    def expect_others(self, *, nodes: int = 0, sockets: int = 0) -> None:
        """Wait for so many more nodes and sockets of other nodes; negative: for so many less."""
        self._nodes += nodes
        self._others += sockets
        self._check()

    def replied(self, argument: JSON) -> None:
        """Take the first argument of the ack of another node's socket."""
        if not self._all.done():
            self._replies.append(argument)
            self._others -= 1
            self._check()

    def came(self, socket: Member, args: Sequence[JSON]) -> None:
        if socket in self._missing:
            self._replies.append(args[0] if args else None)
            self._missing.discard(socket)
            self._check()

    def gone(self, socket: Member, reason: Reason) -> None:
        self._missing.discard(socket)
        self._check()

    def _check(self) -> None:
        # An ack may overtake the count of its node, so that there are fewer than none to come.
        if not self._missing and self._nodes <= 0 and self._others <= 0 and not self._all.done():
            self._all.set_result(None)

    def when_over(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when nobody waits any more."""
        self._over += (callback,)

    async def wait(self, event: str, timeout: float | None) -> list[JSON]:
        """Give the first argument of each ack, in order of arrival. Raises AckTimeout, whose `replies` are those that came."""
        try:
            async with asyncio.timeout(timeout):
                await self._all
        except TimeoutError:
            missing = len(self._missing) + max(self._others, 0)
            silent = f", {self._nodes} nodes said nothing" if self._nodes > 0 else ""
            raise AckTimeout(f"{missing} acks of {event!r} did not come within {timeout} s{silent}", replies=self._replies) from None
        return self._replies

    def forget(self) -> None:
        """Wait no more."""
        for member in self._missing:
            member.expect_no_more(self._id)
        for callback in self._over:
            callback()
