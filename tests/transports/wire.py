"""The native path without a network: the WebSocket class on a transport that the test holds the other end of."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from typing import Any

from mizzen.protocol.upgrade import accept_key
from mizzen.transports.native import WebSocketProtocol
from mizzen.types import ASGIApp, Message
from tests.support import WITHIN
from tests.transports.exchange import HOST, Answer, WebSocket

KEY = base64.b64encode(bytes(range(16)))
MASK = b"\x01\x02\x03\x04"
HIGH_WATER = 0
"""Bytes in the buffer of the transport above which it says so: none, so that a client that stops reading is known at the first write."""


def client_frame(opcode: int, payload: bytes, *, fin: bool = True, rsv1: bool = False) -> bytes:
    """Give a frame as clients send it."""
    first = (0x80 if fin else 0) | (0x40 if rsv1 else 0) | opcode
    size = len(payload)
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 65536:
        head = bytes((first, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, 0xFF)) + size.to_bytes(8, "big")
    return head + MASK + bytes(byte ^ MASK[index & 3] for index, byte in enumerate(payload))


class Config:
    """What the class needs of uvicorn's configuration."""

    loaded = True
    root_path = ""
    asgi_version = "3.0"
    ws_max_size = 16 * 1024 * 1024

    def __init__(self, app: ASGIApp, ping_interval: float | None = None, ping_timeout: float | None = None) -> None:
        self.loaded_app = app
        self.ws_ping_interval = ping_interval
        self.ws_ping_timeout = ping_timeout

    def load(self) -> None:
        raise AssertionError("it is loaded")


class State:
    """What the class needs of uvicorn's state."""

    def __init__(self) -> None:
        self.connections: set[Any] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.default_headers: list[tuple[bytes, bytes]] = [(b"server", b"test")]


class Pipe(asyncio.Transport):
    """The server's end of a connection. What it writes is in `written`; while `stuck` it stays in the buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()
        self.protocol: Any = None
        self.incoming: list[bytes] = []
        self.written = bytearray()
        self.buffer = bytearray()
        self.arrived = asyncio.Event()
        self.stuck = False
        self.reading = True
        self.closing = False
        self.closed = asyncio.Event()
        self.full = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("192.0.2.7", 40000), "sockname": ("192.0.2.1", 80)}.get(name, default)

    def get_protocol(self) -> Any:
        return self.protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.closed.is_set()
        self.reading = True
        self.loop.call_soon(self._deliver)

    def feed(self, data: bytes) -> None:
        """Give bytes of the client."""
        self.incoming.append(data)
        self.loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        while self.incoming and self.reading and not self.closing:
            self.protocol.data_received(self.incoming.pop(0))

    def write(self, data: Any) -> None:
        assert not self.closed.is_set(), "written to a connection that is lost"
        if self.closing:
            return
        if self.stuck:
            self.buffer += data
            if len(self.buffer) > HIGH_WATER and not self.full:
                self.full = True
                self.protocol.pause_writing()
        else:
            self.written += data
            self.arrived.set()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def get_write_buffer_size(self) -> int:
        return len(self.buffer)

    def read_on(self) -> None:
        """Let what is in the buffer reach the client, and what follows."""
        self.stuck = False
        data, self.buffer = self.buffer, bytearray()
        self.written += data
        self.arrived.set()
        if self.full:
            self.full = False
            self.protocol.resume_writing()
        if self.closing:
            self.loop.call_soon(self.lose)

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            if not self.buffer:
                self.loop.call_soon(self.lose)

    def abort(self) -> None:
        self.closing = True
        self.buffer.clear()
        self.loop.call_soon(self.lose)

    def lose(self, error: Exception | None = None) -> None:
        """End the connection."""
        if not self.closed.is_set():
            self.closing = True
            self.closed.set()
            self.arrived.set()
            self.protocol.connection_lost(error)


class NativeWebSocket(WebSocket):
    """A client's WebSocket on the native path, with the methods of the one by ASGI events."""

    def __init__(
        self,
        app: ASGIApp,
        target: str,
        headers: Mapping[str, str] | None = None,
        *,
        config: Config | None = None,
        state: State | None = None,
    ) -> None:
        self.pipe = Pipe()
        self.state = state or State()
        self.protocol = WebSocketProtocol(config or Config(app), self.state, {})
        self.gone = self.closed = False
        self._open = False
        self._fragments: list[bytes] = []
        fields = {
            "host": HOST,
            "upgrade": "websocket",
            "connection": "Upgrade",
            "sec-websocket-version": "13",
            "sec-websocket-key": KEY.decode(),
        } | {name.lower(): value for name, value in (headers or {}).items()}
        head = f"GET {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n"
        # As uvicorn does: the head is given before the transport knows its new protocol.
        self.protocol.connection_made(self.pipe)
        self.protocol.data_received(head.encode("latin-1"))
        self.pipe.protocol = self.protocol
        self.task = asyncio.create_task(self._until_lost())

    @property
    def inbox(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self

    def put_nowait(self, message: Message) -> None:
        """Take notice of a close, as the queue of the ASGI side does."""
        self.close(message["code"])

    async def _until_lost(self) -> None:
        await self.pipe.closed.wait()

    def send(self, message: str | bytes) -> None:
        self.pipe.feed(client_frame(1, message.encode()) if isinstance(message, str) else client_frame(2, message))

    def close(self, code: int = 1005) -> None:
        self.gone = True
        if code == 1006:
            self.pipe.lose()
        else:
            self.pipe.feed(client_frame(8, b"" if code == 1005 else code.to_bytes(2, "big")))

    async def head(self) -> tuple[int, list[tuple[str, str]]]:
        """Wait for the head of the response; give status and headers."""
        async with asyncio.timeout(WITHIN):
            while (end := self.pipe.written.find(b"\r\n\r\n")) < 0:
                await self._more()
        lines = bytes(self.pipe.written[:end]).decode("latin-1").split("\r\n")
        del self.pipe.written[: end + 4]
        headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines[1:])]
        assert dict(headers)["server"] == "test"
        return int(lines[0].split()[1]), headers

    async def accepted(self) -> Message:
        status, headers = await self.head()
        assert status == 101, (status, self.pipe.written)
        assert dict(headers)["sec-websocket-accept"] == accept_key(KEY).decode()
        self._open = True
        return {"type": "websocket.accept", "headers": [(name.encode(), value.encode()) for name, value in headers]}

    async def refusal(self) -> Answer:
        status, headers = await self.head()
        await self.ended()
        return Answer(status, headers, bytes(self.pipe.written))

    async def _more(self) -> None:
        assert not self.pipe.closed.is_set(), "the connection is closed"
        self.pipe.arrived.clear()
        await self.pipe.arrived.wait()

    async def frame(self) -> tuple[int, bytes]:
        """Wait for a frame; give its first byte and the payload."""
        written = self.pipe.written
        async with asyncio.timeout(WITHIN):
            while len(written) < 2:
                await self._more()
            assert written[1] < 128, "a server does not mask"
            start = {126: 4, 127: 10}.get(written[1], 2)
            while len(written) < start:
                await self._more()
            size = written[1] if start == 2 else int.from_bytes(written[2:start], "big")
            while len(written) < start + size:
                await self._more()
        first, payload = written[0], bytes(written[start : start + size])
        del written[: start + size]
        return first, payload

    async def next(self) -> Message:
        if not self._open:
            return await self.accepted()
        first, payload = await self.frame()
        if first == 0x88:
            assert not self.closed, "a second Close frame"
            self.closed = True
            return {"type": "websocket.close", "code": int.from_bytes(payload[:2], "big") or 1005, "reason": payload[2:].decode()}
        assert not self.closed, "sent after the Close frame"
        if first == 0x81:
            return {"type": "websocket.send", "text": payload.decode()}
        assert first == 0x82, first
        return {"type": "websocket.send", "bytes": payload}

    def stop_reading(self) -> None:
        """Read no more from now on."""
        self.pipe.stuck = True

    def read_on(self) -> None:
        self.pipe.read_on()

    async def ended(self) -> None:
        """Wait until the connection is closed and nothing of it is left."""
        async with asyncio.timeout(WITHIN):
            await self.pipe.closed.wait()
            while self.state.tasks:
                await asyncio.sleep(0)
        assert not self.state.connections
