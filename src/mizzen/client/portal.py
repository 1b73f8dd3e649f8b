"""An event loop in a thread of its own, and the way in for the threads that wait for it."""

from __future__ import annotations

import asyncio
import atexit
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

from mizzen.errors import ConnectionClosed, LocalProtocolError
from mizzen.tasks import current_loop
from mizzen.types import Reason

if TYPE_CHECKING:
    from mizzen.client.client import Client

T = TypeVar("T")

FAREWELL: Final = 2.0
"""Seconds that the end of the process waits for a client to say goodbye."""

INTERRUPTED: Final = 5.0
"""Seconds that a call which Ctrl-C interrupted may take to end."""

_ENDED: Final = "the client was closed while a call waited for it"


class Portal:
    """The event loop of one `SyncClient`: a thread that the first call starts, and that ends once nothing is connected and no call waits.

    Any thread may call, but not that of the loop itself, which would wait for itself.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._thread: LoopThread | None = None
        self._calls = 0
        self._idle = False

    def run(self, function: Callable[[], Coroutine[object, object, T]], *, ends: bool = False) -> T:
        """Run a coroutine on the loop and wait for its result.

        The thread ends after it if nothing has been connected since it was started; with `ends`, if nothing is.

        Raises what the coroutine raises. When the wait is interrupted, by Ctrl-C for instance, the coroutine is cancelled first. Raises
        LocalProtocolError on the loop's own thread.
        """
        thread = self._enter()
        try:
            return thread.run(self._ending(function) if ends else function)
        finally:
            self._leave(thread)

    def do(self, function: Callable[[], T]) -> T:
        """Call a plain function on the loop's thread: at once, where this is it."""
        thread = self._thread
        if thread is not None and thread.is_current:
            return function()

        async def call() -> T:
            return function()

        return self.run(call)

    def post(self, function: Callable[[], object]) -> None:
        """Have a function called on the loop's thread, if that runs, without waiting."""
        thread = self._thread
        if thread is not None:
            with suppress(RuntimeError):  # it has just ended
                thread.loop.call_soon_threadsafe(function)

    def _ending(self, function: Callable[[], Coroutine[object, object, T]]) -> Callable[[], Coroutine[object, object, T]]:
        async def call() -> T:
            try:
                return await function()
            finally:
                self._idle = not self._client.manager.wanted

        return call

    def _enter(self) -> LoopThread:
        with self._lock:
            thread = self._thread
            if thread is None:
                client = self._client
                thread = LoopThread(client.manager.bind, lambda: client.manager.close(0.0), client.manager.options.close_grace)
                thread.start()
                self._thread = thread
                self._idle = True
            elif thread.is_current:
                raise LocalProtocolError(
                    "a SyncClient was called on the thread of its own event loop, which would wait for itself: "
                    "write the handler with `def`, so that it runs in a worker thread, or use mizzen.Client"
                )
            elif not thread.is_alive:
                raise LocalProtocolError("the process was forked after this SyncClient was used: make one in each process")
            self._calls += 1
            return thread

    def _leave(self, thread: LoopThread) -> None:
        with self._lock:
            self._calls -= 1
            if self._calls or not self._idle:
                return
            self._thread = None
            self._idle = False
        thread.stop()
        if current_loop.get(None) is not thread.loop:  # else this is a handler, which the thread waits for
            thread.join(None)


class LoopThread:
    """One run of an event loop: `begin` is awaited first, `farewell` only when the process ends before `stop`."""

    loop: asyncio.AbstractEventLoop
    _end: asyncio.Event

    def __init__(self, begin: Callable[[], Awaitable[None]], farewell: Callable[[], Awaitable[None]], grace: float) -> None:
        self._begin = begin
        self._farewell = farewell
        self._grace = grace
        self._ready: Future[None] = Future()
        self._waiting: set[Future[None]] = set()
        self._exiting = False
        self._thread = threading.Thread(target=self._main, name="mizzen-client", daemon=True)

    @property
    def is_current(self) -> bool:
        """Whether this is the thread that asks."""
        return threading.get_ident() == self._thread.ident

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs; it does not in a process that was forked off."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start it, and return once it can be used."""
        _exits.watch(self)
        self._thread.start()
        self._ready.result()

    def stop(self) -> None:
        """Have it end, after the tasks that still run."""
        with suppress(RuntimeError):  # it has ended
            self.loop.call_soon_threadsafe(self._end.set)

    def exit(self) -> None:
        """Have it end with the process: it says goodbye, and waits for nobody."""
        self._exiting = True
        if self._ready.done():
            self.stop()

    def join(self, timeout: float | None) -> None:
        """Wait for its end."""
        self._thread.join(timeout)

    def _main(self) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._serve())
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)
        finally:
            _exits.forget(self)
            for result in list(self._waiting):
                if not result.done():
                    result.set_exception(ConnectionClosed(_ENDED, Reason.IO_CLIENT_DISCONNECT))

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        await self._begin()
        self._ready.set_result(None)
        await self._end.wait()
        if self._exiting:
            with suppress(Exception):
                async with asyncio.timeout(FAREWELL / 2):
                    await self._farewell()
            return
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=self._grace)

    def run(self, function: Callable[[], Coroutine[object, object, T]]) -> T:
        """Run a coroutine there and wait for its result."""
        done: Future[None] = Future()
        tasks: list[asyncio.Task[T]] = []

        def start() -> None:
            try:
                task = self.loop.create_task(function())
            except BaseException as error:
                done.set_exception(error)
            else:
                tasks.append(task)
                task.add_done_callback(lambda _: done.done() or done.set_result(None))

        self._waiting.add(done)
        try:
            try:
                self.loop.call_soon_threadsafe(start)
            except RuntimeError:
                raise ConnectionClosed(_ENDED, Reason.IO_CLIENT_DISCONNECT) from None
            _wait(done)
        except BaseException:
            if not done.done():
                self._cancel(tasks, done)
            raise
        finally:
            self._waiting.discard(done)
        try:
            return tasks[0].result()
        except asyncio.CancelledError:
            raise ConnectionClosed(_ENDED, Reason.IO_CLIENT_DISCONNECT) from None
        finally:
            tasks.clear()  # an error that is raised holds this frame, which must not hold the error

    def _cancel(self, tasks: list[asyncio.Task[T]], done: Future[None]) -> None:
        """Cancel what nobody waits for any more, and wait for its end, so that the client is as it was."""

        def cancel() -> None:
            for task in tasks:
                task.cancel()

        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(cancel)
            wait((done,), INTERRUPTED)


class _Exits:
    """Ends the threads that are left at the end of the process."""

    def __init__(self) -> None:
        self._threads: set[LoopThread] = set()
        self._lock = threading.Lock()
        self._registered = False

    def watch(self, thread: LoopThread) -> None:
        with self._lock:
            if not self._registered:
                # Before the threads of plain handlers are waited for, which may wait for an ack; `atexit` comes after that.
                register: Callable[[Callable[[], None]], object] = getattr(threading, "_register_atexit", atexit.register)
                register(self._end)
                self._registered = True
            self._threads.add(thread)

    def forget(self, thread: LoopThread) -> None:
        with self._lock:
            self._threads.discard(thread)

    def _end(self) -> None:
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.exit()
        for thread in threads:
            thread.join(FAREWELL)


_exits: Final = _Exits()


def _wait(done: Future[None]) -> None:
    if sys.platform == "win32":
        while not done.done():
            wait((done,), 0.1)  # Windows does not interrupt a wait
    done.result()
