"""Waiting for acks: of one socket, or of all that a broadcast reached."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from mizzen.errors import AckTimeout, ConnectionClosed
from mizzen.signatures import parse_error_ack
from mizzen.types import JSON, Reason

if TYPE_CHECKING:
    from mizzen.server.socket import Socket


def unpack(args: Sequence[JSON]) -> JSON:
    """Give what `call` returns for an ack: None, the one argument, or a tuple of several. Raises RemoteError for an error ack."""
    error = parse_error_ack(args)
    if error is not None:
        raise error
    return None if not args else args[0] if len(args) == 1 else tuple(args)


class Reply:
    """The ack that one `call` to one socket waits for."""

    __slots__ = ("_future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._future: asyncio.Future[Sequence[JSON]] = loop.create_future()

    def came(self, socket: Socket, args: Sequence[JSON]) -> None:
        if not self._future.done():
            self._future.set_result(args)

    def gone(self, socket: Socket, reason: Reason) -> None:
        if not self._future.done():
            self._future.set_exception(ConnectionClosed(f"socket {socket.id} was gone before its ack came: {reason}", reason))

    async def wait(self, event: str, timeout: float | None) -> JSON:
        """Give the ack. Raises AckTimeout, ConnectionClosed or RemoteError."""
        try:
            async with asyncio.timeout(timeout):
                return unpack(await self._future)
        except TimeoutError:
            raise AckTimeout(f"no ack of {event!r} within {timeout} s") from None


class Replies:
    """The acks that one `call` to many sockets waits for; a socket that goes is waited for no longer."""

    __slots__ = ("_all", "_missing", "_replies")

    def __init__(self, loop: asyncio.AbstractEventLoop, sockets: Collection[Socket]) -> None:
        self._missing = set(sockets)
        self._replies: list[JSON] = []
        self._all: asyncio.Future[None] = loop.create_future()
        self._check()

    def came(self, socket: Socket, args: Sequence[JSON]) -> None:
        if socket in self._missing:
            self._replies.append(args[0] if args else None)
            self._missing.discard(socket)
            self._check()

    def gone(self, socket: Socket, reason: Reason) -> None:
        self._missing.discard(socket)
        self._check()

    def _check(self) -> None:
        if not self._missing and not self._all.done():
            self._all.set_result(None)

    async def wait(self, event: str, timeout: float | None) -> list[JSON]:
        """Give the first argument of each ack, in order of arrival. Raises AckTimeout, whose `replies` are those that came."""
        try:
            async with asyncio.timeout(timeout):
                await self._all
        except TimeoutError:
            missing = len(self._missing)
            raise AckTimeout(f"{missing} acks of {event!r} did not come within {timeout} s", replies=self._replies) from None
        return self._replies
