"""WebSocket as a transport: frames straight to the session and back, with no task, queue or await between."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from mizzen.client.ports import ClientSession
from mizzen.errors import ConnectFailed
from mizzen.protocol.websocket import CLOSED, OPEN, CloseCode, Opcode, WebSocket, encode_masked_frame, encode_message
from mizzen.types import Reason

if TYPE_CHECKING:
    from mizzen.client.http import HTTP, Wire
    from mizzen.client.options import ClientOptions
    from mizzen.protocol.encoded import Encoded

TEXT, BINARY = int(Opcode.TEXT), int(Opcode.BINARY)
LARGE: Final = 65_536
CLOSE_TIME: Final = 1.0
"""Seconds that the server has to answer a Close frame."""


class WebSocketTransport(asyncio.Protocol):
    """A WebSocket, for one session."""

    name: str = "websocket"

    __slots__ = (
        *("_base64", "_codec", "_deflate", "_eio3", "_http", "_lost", "_paused", "_reading", "_threshold", "_transport", "_wire"),
        "session",
    )

    def __init__(self, session: ClientSession, http: HTTP, options: ClientOptions) -> None:
        self.session: ClientSession = session
        self._http = http
        self._codec = WebSocket(options.max_payload, client=True)
        self._base64 = options.force_base64
        self._eio3 = session.eio == 3
        self._threshold: int | None = None
        self._deflate = options.per_message_deflate
        self._transport: asyncio.Transport | None = None
        self._wire: Wire | None = None
        self._lost: asyncio.Event = asyncio.Event()
        self._paused = False
        self._reading = True

    async def open(self) -> None:
        session = self.session
        wire = await self._http.upgrade(session.base_url, session.query("websocket"), session.headers, self)
        self._wire, self._transport = wire, wire.transport
        if wire.deflated:
            self._codec.inflate = True
            self._threshold = int(self._deflate)
        if wire.early:
            self.data_received(wire.early)
        if wire.transport.is_closing():
            raise ConnectFailed(f"websocket: {session.base_url} closed the connection right after its handshake")

    # What asyncio calls

    def data_received(self, data: bytes) -> None:
        codec = self._codec
        while True:
            messages = codec.feed(data)
            if self._eio3:
                # "When sending binary data, the packet type id is sent in the first byte of the binary contents"
                messages = [message if isinstance(message, str) else message[1:] for message in messages]
            if messages:
                self.session.receive_all(messages)
            if codec.out:
                self._answer()
            if codec.state is CLOSED:
                self._closed()
            if not codec.more or not self._reading:
                return
            data = b""

    def _answer(self) -> None:
        out, self._codec.out = self._codec.out, []
        # A server that pings and does not read gets no pong, or they would pile up here.
        if self._transport is not None and (not self._paused or self._codec.state is not OPEN):
            self._transport.writelines(out)

    def _closed(self) -> None:
        """Tell the session why the WebSocket was closed."""
        codec = self._codec
        told = f": {codec.close_reason}" if codec.close_reason else ""
        if codec.failure is CloseCode.MESSAGE_TOO_BIG:
            self.session.lost(Reason.TRANSPORT_ERROR, f"the server sent{told.removeprefix(':')}; the option max_payload allows no more")
        elif codec.failure is not None:
            self.session.lost(Reason.TRANSPORT_ERROR, f"the server broke the WebSocket protocol{told}")
        else:
            self.session.lost(Reason.TRANSPORT_CLOSE, f"the server closed the WebSocket with code {codec.close_code}{told}")
        if self._transport is not None:
            self._transport.close()

    def eof_received(self) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._lost.set()
        if self._codec.state is not CLOSED:
            reason = Reason.TRANSPORT_CLOSE if exc is None else Reason.TRANSPORT_ERROR
            self.session.lost(reason, "the connection was cut" if exc is None else f"the connection was lost: {exc!r}")
        self._release()
        self.session.ready()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self.session.ready()

    # What the session calls

    @property
    def buffered(self) -> int:
        # Only what exceeds the mark up to which the system's own buffer is spoken of as the network.
        return self._transport.get_write_buffer_size() if self._paused and self._transport is not None else 0

    @property
    def writable(self) -> bool:
        return self._transport is not None and not self._paused

    def flush(self, out: list[Encoded]) -> None:
        transport = self._transport
        if transport is None or self._paused:
            return  # lost, which the session has learned; or the network takes no more, and `session.ready` calls again
        eio, base64, threshold = 3 if self._eio3 else 4, self._base64, self._threshold
        frames: list[bytes] = []
        for encoded in out:
            if encoded.data is not None and threshold is None:
                frames.append(encode_masked_frame(TEXT, encoded.data))
                if not encoded.attachments:
                    continue
                messages = encoded.messages(eio, base64)[1:]
            else:
                messages = encoded.messages(eio, base64)
            for message in messages:
                if isinstance(message, str):
                    frames.append(encode_message(TEXT, message.encode(), threshold, masked=True))
                else:
                    frames.append(encode_message(BINARY, message, threshold, masked=True))
        out.clear()
        transport.write(frames[0] if len(frames) == 1 else b"".join(frames))

    def pause_reading(self) -> None:
        self._reading = False
        if self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._reading = True
        if self._codec.more:
            # Not here and now, where the session is not ready for it; the network is not read before.
            asyncio.get_running_loop().call_soon(self._read_on)
        elif self._transport is not None and not self._transport.is_reading():
            self._transport.resume_reading()

    def _read_on(self) -> None:
        """Take what the codec has left of the last read, and then the network on; what is lost meanwhile is not read any more."""
        if self._reading and self._transport is not None and not self._transport.is_closing():
            self.data_received(b"")
            if self._reading:
                self.resume_reading()

    async def idle(self) -> None: ...

    async def close(self) -> None:
        transport = self._transport
        if transport is not None and self.session.silent:
            transport.abort()
        elif transport is not None:
            self._codec.close()
            self._answer()
            self.resume_reading()  # the server's Close frame, or the end, has to be seen
            try:
                async with asyncio.timeout(CLOSE_TIME):
                    await self._lost.wait()
            except TimeoutError:
                transport.abort()
        self._release()

    def _release(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.release()
