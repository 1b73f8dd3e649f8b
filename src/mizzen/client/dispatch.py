"""Running the handlers of a client's sockets: each in a task of its own, so many at once as may, in the order of what came."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from mizzen.errors import ArgumentsInvalid, EventRefused
from mizzen.handling import ENTRY, Answer, error_answer, failure_of
from mizzen.hooks import Hooks
from mizzen.signatures import Signature
from mizzen.tasks import Tasks
from mizzen.types import JSON, Reason

if TYPE_CHECKING:
    from mizzen.client.connection import Connection
    from mizzen.client.options import ClientOptions
    from mizzen.client.socket import ClientSocket
    from mizzen.listeners import Plan

logger: Final = logging.getLogger("mizzen.client")

ErrorHook: TypeAlias = "Callable[[Exception, ClientSocket | None, str], Awaitable[None] | None]"


class Dispatcher:
    """Takes events to the handlers that they are for.

    At most `max_handlers` run at once; further events wait in an inbox. While that holds more than `max_buffer` bytes the connection is
    not read, unless somebody waits for an ack, which may lie behind what is not read; with twice as much it is given up. What becomes of
    the connection itself (`connect`, `disconnect` …) never waits; the manager's `ping` and `packet`, which the server sends at will, do.
    """

    __slots__ = (
        "_awaiting",
        "_drain_scheduled",
        "_inbox",
        "_inbox_largest",
        "_inbox_size",
        "_loop",
        "_options",
        "connection",
        "error_hooks",
        "running",
        "tasks",
    )

    tasks: Tasks

    def __init__(self, options: ClientOptions, awaiting: Callable[[], bool]) -> None:
        self._options = options
        self._awaiting = awaiting
        self._inbox: deque[tuple[Callable[[], None], int]] = deque()
        self._inbox_largest = 0
        self._inbox_size = 0
        self._drain_scheduled = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self.connection: Connection | None = None
        self.running: int = 0
        self.error_hooks: Hooks[Exception, ClientSocket | None, str] = Hooks("on_error")

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run on this loop from now on."""
        self._loop = loop
        self.tasks = Tasks(loop, self._options.max_threads)
        self._inbox.clear()
        self._inbox_size = self.running = 0

    # Events

    def event(self, socket: ClientSocket, name: str, args: list[JSON], id: int | None, size: int) -> None:
        """Start the handlers of an event, or have it wait."""
        if self.running < self._options.max_handlers and not self._inbox:
            self._start(socket, name, args, id, self.connection)
        else:
            self._wait(partial(self._start, socket, name, args, id, self.connection), size)

    def came(self, plan: Plan, where: str, args: Sequence[JSON], size: int) -> None:
        """Start handlers of the manager that hear of all that comes, or have them wait, as those of events."""
        if self.running < self._options.max_handlers and not self._inbox:
            self.tell(plan, None, where, args)
        else:
            self._wait(partial(self.tell, plan, None, where, args), size)

    def _wait(self, start: Callable[[], None], size: int) -> None:
        size += ENTRY
        self._inbox_largest = max(self._inbox_largest, size) if self._inbox else size
        self._inbox.append((start, size))
        self._inbox_size += size
        if self._inbox_size > self._options.max_buffer:
            self._full()

    def _full(self) -> None:
        connection, limit = self.connection, self._options.max_buffer
        if connection is None or connection.paused:
            return
        if not self._awaiting():
            connection.pause()
        elif self._inbox_size - self._inbox_largest > 2 * limit:  # one whole message always fits
            told = f"{self._inbox_size} bytes of events wait for handlers (max_buffer={limit}), which wait for acks that do not come"
            connection.lost(Reason.TRANSPORT_ERROR, told)

    def _start(self, socket: ClientSocket, name: str, args: list[JSON], id: int | None, connection: Connection | None) -> None:
        listeners = socket.listeners
        if listeners.any:
            self.tell(listeners.any, socket, name, (name, *args))
        plan = listeners.take(name)
        if plan:
            answer = None if id is None else Answer(partial(socket.outbox.ack, connection, id), len(plan))
            for handler in plan:
                self.running += 1
                self.tasks.start(self._run(socket, handler, name, args, answer))

    def tell(self, plan: Plan, socket: ClientSocket | None, where: str, args: Sequence[JSON]) -> None:
        """Start handlers whose result nobody waits for."""
        for handler in plan:
            self.running += 1
            self.tasks.start(self._run(socket, handler, where, args, None))

    async def _run(self, socket: ClientSocket | None, handler: Signature, where: str, args: Sequence[JSON], answer: Answer | None) -> None:
        try:
            if handler.is_async and not handler.ordered:
                result = await handler.call(*handler.convert(args))
            else:
                result = await self._invoke(socket, handler, args)
            if answer is not None:
                answer.result(result)
        except BaseException as caught:
            error = failure_of(caught)
            self.report(error, socket, where)
            if answer is not None and socket is not None:
                answer.failed(error_answer(error, socket.manager.codec.encode_ack, debug=False))
        finally:
            self._finished()

    async def _invoke(self, socket: ClientSocket | None, handler: Signature, args: Sequence[JSON]) -> object:
        """Call a handler that has to wait for its turn: those that are `ordered`, and plain functions, which run in a thread."""
        converted = handler.convert(args)
        async with contextlib.AsyncExitStack() as turns:
            if handler.ordered and socket is not None:
                await turns.enter_async_context(socket.turn)
            if handler.is_async:
                return await handler.call(*converted)
            if socket is not None:
                await turns.enter_async_context(socket.thread_turn)
            return await self.tasks.in_thread(handler.function, *converted)

    def _finished(self) -> None:
        self.running -= 1
        if self._inbox and not self._drain_scheduled and self._loop is not None:
            # Not here and now: a handler that ends at once would go deeper with every event.
            self._drain_scheduled = True
            self._loop.call_soon(self._drain)

    def _drain(self) -> None:
        self._drain_scheduled = False
        limit = self._options.max_handlers
        for _ in range(limit):
            if not self._inbox or self.running >= limit:
                break
            start, size = self._inbox.popleft()
            self._inbox_size -= size
            start()
        connection = self.connection
        if connection is not None and connection.paused and self._inbox_size <= self._options.max_buffer:
            connection.resume()
        if self._inbox and self.running < limit and self._loop is not None:
            self._drain_scheduled = True
            self._loop.call_soon(self._drain)

    # Ending

    async def finish(self, grace: float) -> None:
        """Wait for handlers within `grace` seconds, then cancel them; the one that calls this is left alone."""
        if not await self.tasks.wait(grace) and grace:
            logger.warning("%d handlers did not end within %g s (close_grace) and were cancelled", len(self.tasks), grace)
        self._inbox.clear()
        self._inbox_size = 0
        await self.tasks.cancel()

    # Errors

    def report(self, error: Exception, socket: ClientSocket | None, where: str) -> None:
        """Log an error of a handler, with its traceback if it is not the server's, and tell the hooks."""
        if isinstance(error, (ArgumentsInvalid, EventRefused)):
            logger.warning("%r of %r was refused: %s", where, socket, error)
        else:
            logger.error("%r of %r failed: %r", where, socket, error, exc_info=error)
        self.error_hooks.run(self.tasks, error, socket, where)
