"""Events as something to iterate over or to wait for, beside the handlers."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeAlias

from mizzen.errors import ConnectionClosed, LocalProtocolError
from mizzen.types import JSON, Reason

Args: TypeAlias = tuple[JSON, ...]


class EventStream(AsyncIterator[Args]):
    """The arguments of each event of one name, as tuples, in order; it ends when the socket is closed for good.

    It begins when it is made, so that nothing is missed between that and the first step. One task may iterate. A consumer that falls more
    than `max_events` behind gets what is held, and then LocalProtocolError: nothing is dropped in silence.
    """

    def __init__(self, event: str, max_events: int) -> None:
        self._event = event
        self._max_events = max_events
        self._held: deque[Args] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False
        self._overrun = False

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> Args:
        while not self._held:
            if self._overrun:
                raise LocalProtocolError(
                    f"the consumer of events({self._event!r}) fell more than {self._max_events} events behind: "
                    "read faster, or allow more with max_events"
                )
            if self._ended:
                raise StopAsyncIteration
            if self._waiter is not None:
                raise LocalProtocolError(f"two tasks iterate over one stream of {self._event!r}: give each its own")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._held.popleft()

    def close(self) -> None:
        """End it; what is held may still be read."""
        self._ended = True
        self._wake()

    def push(self, args: Args) -> None:
        """Take one event."""
        if self._ended:
            return
        if len(self._held) >= self._max_events:
            self._overrun = self._ended = True
        else:
            self._held.append(args)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Streams:
    """The streams and the waiting tasks of one socket, by event."""

    __slots__ = ("_streams", "_waiters")

    def __init__(self) -> None:
        # Weakly: a stream whose `async for` was left is of no use to anybody.
        self._streams: dict[str, list[weakref.ref[EventStream]]] = {}
        self._waiters: dict[str, list[asyncio.Future[Args]]] = {}

    def __contains__(self, event: str) -> bool:
        return event in self._streams or event in self._waiters

    def __bool__(self) -> bool:
        return bool(self._streams or self._waiters)

    def open(self, event: str, max_events: int) -> EventStream:
        """Begin a stream."""
        stream = EventStream(event, max_events)
        self._streams.setdefault(event, []).append(weakref.ref(stream, self._forget(event)))
        return stream

    def _forget(self, event: str) -> Callable[[weakref.ref[EventStream]], None]:
        streams = self._streams

        def forget(reference: weakref.ref[EventStream]) -> None:
            left = [each for each in streams.get(event, ()) if each is not reference]
            if left:
                streams[event] = left
            else:
                streams.pop(event, None)

        return forget

    async def wait_for(self, event: str) -> Args:
        """Wait for the next event of a name. Raises ConnectionClosed when the socket is closed for good before."""
        future: asyncio.Future[Args] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(event, []).append(future)
        try:
            return await future
        finally:
            left = [each for each in self._waiters.get(event, ()) if each is not future]
            if left:
                self._waiters[event] = left
            else:
                self._waiters.pop(event, None)

    def push(self, event: str, args: Sequence[JSON]) -> None:
        """Give an event to those that iterate over it or wait for it."""
        for future in self._waiters.get(event, ()):
            if not future.done():
                future.set_result(tuple(args))
        for reference in tuple(self._streams.get(event, ())):
            stream = reference()
            if stream is not None:
                stream.push(tuple(args))

    def end(self, message: str, reason: Reason) -> None:
        """End all: the socket is closed for good."""
        for futures in tuple(self._waiters.values()):
            for future in futures:
                if not future.done():
                    future.set_exception(ConnectionClosed(message, reason))
        for references in tuple(self._streams.values()):
            for reference in references:
                stream = reference()
                if stream is not None:
                    stream.close()
        self._streams.clear()
