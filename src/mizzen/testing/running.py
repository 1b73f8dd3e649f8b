"""The lifespan of an app, for tests whose app needs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from mizzen.types import ASGIApp, Message, Receive, Scope, Send


@asynccontextmanager
async def lifespan(app: ASGIApp) -> AsyncGenerator[ASGIApp]:
    """Run the lifespan of an app around a block of a test, as an ASGI server does; give the app to be used in it.

        async with lifespan(io) as app, TestClient(app) as socket:
            ...

    What the lifespan puts into its state is there for every request to the app that is given. An app that knows no lifespan runs without
    one. A `Server` starts with it, and closes with it. Raises RuntimeError when the app says that it cannot start or stop.
    """
    running = _Running(app)
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


class _Running:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._state: dict[str, object] = {}
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._answers: asyncio.Queue[Message | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._takes_part = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, "state": self._state.copy()}, receive, send)

    async def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="mizzen-lifespan")
        self._takes_part = await self._ask("startup")

    async def stop(self) -> None:
        if self._takes_part:
            await self._ask("shutdown")
        assert self._task is not None
        await asyncio.wait((self._task,))

    async def _ask(self, what: str) -> bool:
        """Say whether the app has done it, or takes no part in such things."""
        assert self._task is not None
        self._events.put_nowait({"type": f"lifespan.{what}"})
        try:
            answer = await self._answers.get()
        except BaseException:
            self._task.cancel()
            raise
        if answer is None:
            failure = self._failure()
            if self._takes_part and failure is not None:
                raise RuntimeError(f"the app did not finish its {what}: {failure!r}") from failure
            return False
        if answer["type"] == f"lifespan.{what}.failed":
            await asyncio.wait((self._task,))
            raise RuntimeError(f"the {what} of the app failed: {answer.get('message') or repr(self._failure())}") from self._failure()
        return True

    def _failure(self) -> BaseException | None:
        assert self._task is not None
        return self._task.exception() if self._task.done() and not self._task.cancelled() else None

    async def _run(self) -> None:
        scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self._state}
        try:
            await self._app(scope, self._events.get, self._send)
        finally:
            # Not before the task has ended, with the exception that it may end with.
            asyncio.get_running_loop().call_soon(self._answers.put_nowait, None)

    async def _send(self, message: Message) -> None:
        self._answers.put_nowait(message)
