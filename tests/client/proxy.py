"""A TCP proxy between a client and a server that cuts, delays, splits and stalls."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class Proxy:
    """What happens to the bytes on their way; change it at any time.

    `delay` is in seconds and for each piece, `piece` the most bytes that go on at once (0: as they came). While `stalled` nothing moves,
    and while `refusing` new connections are closed at once. `accepted` counts the connections that there have been.
    """

    def __init__(self, host: str, port: int) -> None:
        self.url: str = ""
        self.delay: float = 0.0
        self.piece: int = 0
        self.refusing: bool = False
        self.accepted: int = 0
        self._target = (host, port)
        self._moving = asyncio.Event()
        self._moving.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def stall(self) -> None:
        self._moving.clear()

    def go_on(self) -> None:
        self._moving.set()

    def cut(self, *, hard: bool = False) -> None:
        """End all connections; `hard` resets them."""
        for writer in self._writers:
            if hard:
                writer.transport.abort()
            else:
                writer.close()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self.refusing:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        writers = {writer}
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._target)
            writers.add(server_writer)
            self._writers |= writers
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, server_writer))
                both.create_task(self._pump(server_reader, writer))
        except (OSError, asyncio.CancelledError):
            pass  # the connection is over, for whichever reason
        finally:
            for each in writers:
                each.transport.abort()
            self._writers -= writers
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                size = self.piece or len(data)
                for start in range(0, len(data), size):
                    if self.delay:
                        await asyncio.sleep(self.delay)
                    await self._moving.wait()
                    writer.write(data[start : start + size])
                    await writer.drain()
        writer.close()

    async def end(self) -> None:
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for _ in range(3):
            await asyncio.sleep(0)  # in which aborted transports close


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[Proxy]:
    """Give a proxy in front of the server at `url`; its own URL is `proxy.url`."""
    target = urlsplit(url)
    assert target.hostname is not None
    assert target.port is not None
    proxy = Proxy(target.hostname, target.port)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.end()
        await server.wait_closed()
