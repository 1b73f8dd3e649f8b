"""The tasks of a server: every one owned, waited for at the end, and never lost to the garbage collector."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from mizzen.errors import LocalProtocolError

P = ParamSpec("P")
T = TypeVar("T")

current_loop: contextvars.ContextVar[asyncio.AbstractEventLoop] = contextvars.ContextVar("mizzen.loop")
"""The loop that the code of this context belongs to; copied into the threads that run its plain functions."""

_handler: contextvars.ContextVar[asyncio.Task[object] | None] = contextvars.ContextVar("mizzen.handler", default=None)
"""The task that waits for the plain function of this thread."""


class Tasks:
    """Starts handlers and keeps them until they end."""

    def __init__(self, loop: asyncio.AbstractEventLoop, max_threads: int) -> None:
        self._loop = loop
        self._tasks: set[asyncio.Task[None]] = set()
        self._max_threads = max_threads
        self._threads: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, task: object) -> bool:
        return task in self._tasks

    if sys.version_info >= (3, 12):

        def start(self, coroutine: Coroutine[object, object, None]) -> None:
            """Run a coroutine in a task with its own copy of the context; it starts at once and may end before this returns."""
            task = asyncio.Task(coroutine, loop=self._loop, eager_start=True)
            if not task.done():
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
    else:

        def start(self, coroutine: Coroutine[object, object, None]) -> None:
            """Run a coroutine in a task with its own copy of the context; tasks start in the order of these calls."""
            task = asyncio.Task(coroutine, loop=self._loop, name="mizzen")  # without a name it would be given one at once, which costs more
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def in_thread(self, function: Callable[..., T], *args: object) -> T:
        """Run a plain function in a worker thread, in a copy of the current context.

        Raises what it raises, but RuntimeError for a StopIteration, as where a coroutine raises one.
        """
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._max_threads, thread_name_prefix="mizzen")
        context = contextvars.copy_context()
        context.run(current_loop.set, self._loop)
        context.run(_handler.set, asyncio.current_task())
        return await self._loop.run_in_executor(self._threads, _call, context, function, args)

    def _others(self) -> set[asyncio.Task[None]]:
        """Give all tasks but the one that asks, itself or from the thread of its plain function."""
        return self._tasks - {asyncio.current_task(), _handler.get()}

    @property
    def asks(self) -> bool:
        """Whether one of these tasks asks, itself or from the thread of its plain function."""
        return asyncio.current_task() in self._tasks or _handler.get() in self._tasks

    async def wait(self, timeout: float) -> bool:
        """Wait until every task has ended, the one that asks excepted; say whether they all did within `timeout` seconds."""
        end = self._loop.time() + timeout
        while others := self._others():  # tasks may start others
            left = end - self._loop.time()
            if left <= 0:
                return False
            await asyncio.wait(others, timeout=left)
        return True

    async def cancel(self) -> None:
        """Cancel what still runs and let go of the threads; a plain function cannot be stopped, so it is not waited for."""
        await asyncio.sleep(0)  # a task that has not begun would be cancelled without a trace
        others = self._others()
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=1.0)
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None


def _call(context: contextvars.Context, function: Callable[..., T], args: tuple[object, ...]) -> T:
    """Call a function in a worker thread."""
    try:
        return context.run(function, *args)
    except StopIteration as stop:
        # No future takes one, so that whoever waits for this would wait for ever. PEP 479: it "is replaced with RuntimeError".
        raise RuntimeError(f"{getattr(function, '__qualname__', function)!s} raised StopIteration") from stop


def from_thread(function: Callable[P, Coroutine[object, object, T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call an async function from a worker thread and wait for its result.

    For the threads that run plain (`def`) handlers and endpoints: `reply = from_thread(socket.call, "ask", 1, timeout=5)`. Raises what the
    function raises, and LocalProtocolError where it cannot work: on the event loop's own thread (await it there) and in threads that were
    started without the context of a handler.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise LocalProtocolError("from_thread was called on the event loop's thread, which it would block: await the function instead")
    loop = current_loop.get(None)
    if loop is None:
        raise LocalProtocolError(
            "from_thread does not know the event loop here: call it in a plain handler, or run the thread in a copy of its context"
        )
    return asyncio.run_coroutine_threadsafe(function(*args, **kwargs), loop).result()
