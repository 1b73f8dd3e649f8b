"""The handlers of one connection: which ones an event starts, how many run at once, and what waits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING

from mizzen.handling import ENTRY, Answer, error_answer, failure_of
from mizzen.listeners import Plan
from mizzen.protocol.javascript import number_text
from mizzen.protocol.packet import Packet
from mizzen.server.socket import Socket
from mizzen.server.socket_state import CONNECTED, Turn
from mizzen.signatures import Signature
from mizzen.types import JSON

if TYPE_CHECKING:
    from mizzen.server.connection import Connection
    from mizzen.server.server import Server


class Runner:
    """Runs the handlers of one connection.

    At most `max_handlers` run at once (`running`); further events wait in `inbox`, whose size in bytes is `inbox_size`. While it holds more
    than `max_buffer` the connection is not read. `requests` are the socket requests in flight, and those in the inbox where `max_requests`
    bounds them.
    """

    __slots__ = ("_drain_scheduled", "connection", "inbox", "inbox_size", "requests", "running", "server")

    def __init__(self, server: Server, connection: Connection) -> None:
        self.server: Server = server
        self.connection: Connection = connection
        self.inbox: deque[tuple[Socket, Packet, int, bool]] = deque()
        self.inbox_size: int = 0
        self.running: int = 0
        self.requests: int = 0
        self._drain_scheduled = False

    def take(self, socket: Socket, packet: Packet, size: int) -> None:
        """Take an event of `size` bytes that has come for a socket."""
        options = self.server.options
        counted = False
        if options.max_requests is not None and self._is_request(socket, packet.data[0], packet.data[1:]):
            if self.requests >= options.max_requests:
                self.server.requests.refuse(socket, packet.id)
                return
            counted = True
        if self.running < options.max_handlers and not self.inbox:
            self._start(socket, packet)
            return
        self.requests += counted
        size += ENTRY
        self.inbox.append((socket, packet, size, counted))
        self.inbox_size += size
        if self.inbox_size > options.max_buffer and not self.connection.paused:
            self.connection.pause()

    def launch(self, coroutine: Coroutine[object, object, None]) -> None:
        """Run a coroutine that ends with `finished`."""
        self.running += 1
        self.server.tasks.start(coroutine)

    def forget_inbox(self) -> None:
        """Let go of the events that wait: the connection is over."""
        self.requests -= sum([counted for _, _, _, counted in self.inbox])
        self.inbox.clear()
        self.inbox_size = 0

    def _is_request(self, socket: Socket, name: JSON, args: list[JSON]) -> bool:
        return not socket.listens_to(name) and self.server.requests.takes(socket, name, args)

    def _start(self, socket: Socket, packet: Packet) -> None:
        args = packet.data
        name = args.pop(0)
        if name.__class__ is not str:
            name = number_text(name)
        listeners, own = socket.namespace.listeners, socket.own
        if own is None and listeners.plain:
            plan = listeners.handlers.get(name)
            if plan is not None and len(plan) == 1:  # what nearly every event comes to
                self.running += 1
                self.server.tasks.start(self._run(socket, plan[0], name, args, packet.id))
            else:
                self._dispatch(socket, plan, name, args, packet.id)
            return
        middleware = listeners.middleware if own is None else listeners.middleware + own.middleware
        if middleware:
            counted = self.server.options.max_requests is not None and self._is_request(socket, name, args)
            self.requests += counted
            self.launch(self._ask_middleware(socket, middleware, name, args, packet.id, counted))
        else:
            self._tell(socket, name, args, packet.id)

    async def _ask_middleware(self, socket: Socket, middleware: Plan, name: str, args: list[JSON], id: int | None, counted: bool) -> None:
        """Have the middleware of one event after another decide, so that handlers still start in order of arrival.

        `counted` says whether it is a request that stands in `requests` until it is decided.
        """
        try:
            async with socket.turn(Turn.MIDDLEWARE):
                for each in middleware:
                    if socket.state is not CONNECTED:
                        return
                    await self.server.invoke(each, socket, (name, args), ())
                if socket.state is CONNECTED:
                    # From here on it counts, if it is one, as a request that runs.
                    self.requests -= counted
                    counted = False
                    self._tell(socket, name, args, id)
        except BaseException as caught:
            failure = self._failed(caught, socket, name)
            if id is not None:
                socket.ack(id, failure)
        finally:
            self.requests -= counted
            self.finished()

    def _tell(self, socket: Socket, name: str, args: list[JSON], id: int | None) -> None:
        """Start the catch-all handlers and then those of the event, of the namespace and of the socket."""
        own = socket.own
        watchers = socket.namespace.listeners.any
        for handler in watchers if own is None else watchers + own.any:
            self.launch(self._watch(socket, handler, name, args))
        self._dispatch(socket, socket.take(name) or None, name, args, id)

    async def _watch(self, socket: Socket, handler: Signature, name: str, args: list[JSON]) -> None:
        try:
            await self.server.invoke(handler, socket, (name,), args)
        except BaseException as caught:
            self._failed(caught, socket, name)
        finally:
            self.finished()

    def _dispatch(self, socket: Socket, handlers: Plan | None, name: str, args: list[JSON], id: int | None) -> None:
        if handlers is None:
            if self.server.requests.takes(socket, name, args):
                self.running += 1
                self.requests += 1
                self.server.tasks.start(self._request(socket, name, args, id))
            else:
                self.server.log_unhandled(socket.namespace, name)
        elif len(handlers) == 1:
            self.running += 1
            self.server.tasks.start(self._run(socket, handlers[0], name, args, id))
        else:
            answer = None if id is None else Answer(partial(socket.ack, id), len(handlers))
            for handler in handlers:
                self.running += 1
                self.server.tasks.start(self._run(socket, handler, name, args, None, answer))

    async def _run(
        self, socket: Socket, handler: Signature, name: str, args: list[JSON], id: int | None, answer: Answer | None = None
    ) -> None:
        try:
            if handler.is_async and not handler.ordered:
                values = handler.convert(args)
                if len(values) == 1:  # nearly twice as fast without unpacking
                    result = await handler.call(socket, values[0])
                else:
                    result = await handler.call(socket, *values)
            elif handler.ordered:
                async with socket.turn(Turn.ORDERED):
                    if socket.state is not CONNECTED:
                        return
                    result = await self.server.invoke(handler, socket, (), args)
            else:
                result = await self.server.invoke(handler, socket, (), args)
            if answer is not None:
                answer.result(result)
            elif id is not None:
                socket.ack(id, result)
        except BaseException as caught:
            failure = self._failed(caught, socket, name)
            if answer is not None:
                answer.failed(failure)
            elif id is not None:
                socket.ack(id, failure)
        finally:
            self.running -= 1
            if self.inbox:
                self._go_on()

    def _failed(self, caught: BaseException, socket: Socket, name: str) -> JSON:
        """Report the failure of a handler and give the argument of the ack that tells of it; raise what is no failure."""
        error = failure_of(caught)
        self.server.report(error, socket, name)
        return error_answer(error, self.server.codec.encode_ack, debug=self.server.options.debug)

    async def _request(self, socket: Socket, verb: str, args: list[JSON], id: int | None) -> None:
        try:
            await self.server.requests.answer(socket, verb, args, id)
        except BaseException as caught:
            self.server.requests.broke(failure_of(caught, "the request"), socket, verb, args, id)
        finally:
            self.requests -= 1
            self.finished()

    def finished(self) -> None:
        """Take notice that what was launched has ended."""
        self.running -= 1
        if self.inbox:
            self._go_on()

    def _go_on(self) -> None:
        """Take notice that there is room for what waits."""
        if self.connection.paused:
            self.connection.progressed()
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
            socket, packet, size, counted = self.inbox.popleft()
            self.inbox_size -= size
            self.requests -= counted
            if socket.state is CONNECTED:
                self._start(socket, packet)
        if self.inbox and self.running < limit:
            self._drain_later()
        if self.connection.paused and self.inbox_size <= self.server.options.max_buffer:
            self.connection.resume()
