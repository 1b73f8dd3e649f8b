"""An HTTP proxy that makes tunnels (CONNECT), as those of companies do; it sees nothing of what goes through them."""

from __future__ import annotations

import asyncio
import contextlib
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Tunnel:
    """The proxy: `url` is where it is, `asked` the heads of the requests that came.

    `credentials` are the `user:password` that it asks for, `refusal` is a status line that it answers everything with.
    """

    def __init__(self, credentials: str | None = None, refusal: str | None = None) -> None:
        self.url: str = ""
        self.asked: list[str] = []
        self.opened: int = 0
        self._expected = None if credentials is None else f"Proxy-Authorization: Basic {b64encode(credentials.encode()).decode()}"
        self._refusal = refusal
        self._writers: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """End all tunnels."""
        for writer in self._writers:
            writer.transport.abort()

    def with_credentials(self, credentials: str) -> str:
        return self.url.replace("://", f"://{credentials}@")

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.asked.append(head)
            refusal = self._refusal
            if self._expected is not None and self._expected not in head.split("\r\n"):
                refusal = '407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="ours"'
            if refusal is not None:
                writer.write(f"HTTP/1.1 {refusal}\r\nContent-Length: 0\r\n\r\n".encode())
                await writer.drain()
                return
            method, target, _ = head.split(" ", 2)
            assert method == "CONNECT"
            there_reader, there_writer = await asyncio.open_connection(*target.rsplit(":", 1))
            with contextlib.closing(there_writer):
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                self.opened += 1
                self._writers |= {writer, there_writer}
                await asyncio.gather(self._pump(reader, there_writer), self._pump(there_reader, writer))
                self._writers -= {writer, there_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def tunnelling(*, credentials: str | None = None, refusal: str | None = None) -> AsyncIterator[Tunnel]:
    """Run a proxy."""
    tunnel = Tunnel(credentials, refusal)
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await tunnel.accept(reader, writer)
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    tunnel.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield tunnel
    finally:
        server.close()
        while tasks:  # which end by themselves: client and server have closed what they had
            await asyncio.wait(set(tasks))
        await server.wait_closed()
