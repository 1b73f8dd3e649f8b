"""What carries a session on the native path: the event loop calls it with bytes, and it writes finished frames."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from mizzen.protocol.engine_packet import MESSAGE_BYTE
from mizzen.protocol.websocket import CLOSED, OPEN, CloseCode
from mizzen.types import Message, Reason

if TYPE_CHECKING:
    from mizzen.options import ServerOptions
    from mizzen.ports import Session
    from mizzen.protocol.encoded import Encoded
    from mizzen.transports.native import WebSocketProtocol

CLOSE_TIME = 5.0
"""Seconds that the peer has to answer our Close frame, and to take what was sent before."""

JOIN_UP_TO = 64 * 1024
"""Bytes that are joined for one write; more go out as they are, uncopied."""


class NativeTransport(asyncio.Protocol):
    """Carries one session on a WebSocket; the event loop calls it directly.

    `writable` is true until the loop says that the socket's buffer is full.
    """

    __slots__ = (
        *("_base64", "_closing", "_codec", "_connections", "_deflate", "_eio", "_largest", "_receive", "_session"),
        *("_transport", "_wire", "sending"),
    )

    name: str = "websocket"

    def __init__(self, wire: WebSocketProtocol, session: Session, options: ServerOptions, base64: bool) -> None:
        self._wire: WebSocketProtocol | None = wire
        self._session = session
        self._codec = wire.codec
        self._transport = wire.transport
        self._connections: set[Any] = wire.connections
        self._base64 = base64
        self._eio = session.eio
        # With Engine.IO 3 the first byte of a binary message is its type and no payload.
        self._codec.max_size = options.max_payload + (session.eio == 3)
        self._receive = self._receive_eio3 if session.eio == 3 else session.receive_all
        self._deflate = int(options.per_message_deflate) if self._codec.inflate else 0
        self.sending: bool = wire.paused
        self._largest = 0
        # True as soon as it is closed, or then the timer that cuts off a peer which takes too long.
        self._closing: asyncio.TimerHandle | bool = False

    # What the event loop calls

    def data_received(self, data: bytes) -> None:
        codec = self._codec
        while True:
            messages = codec.feed(data)
            if messages:
                self._receive(messages)
            if codec.out:
                # A peer that does not read what it asks for gets no pongs, so that they do not pile up.
                if not self.sending or codec.state is not OPEN:
                    self._transport.write(b"".join(codec.out))
                codec.out.clear()
            if codec.state is CLOSED:
                self._finish()
            if not codec.more or self._session.paused:
                return
            data = b""

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self.sending = True

    def resume_writing(self) -> None:
        self.sending = False
        self._session.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self.sending = False
        closing, self._closing = self._closing, True
        if not isinstance(closing, bool):
            closing.cancel()
        self._session.lost(Reason.TRANSPORT_CLOSE, None if exc is None else str(exc))

    # What the session calls

    @property
    def writable(self) -> bool:
        return not self.sending

    @property
    def buffered(self) -> int:
        return max(0, self._transport.get_write_buffer_size() - self._largest) if self.sending else 0

    def flush(self, out: list[Encoded]) -> bool:
        """Write everything at once, unless the socket's buffer is full."""
        if self.sending:
            return False
        eio, base64 = self._eio, self._base64
        if self._deflate:
            frames = [encoded.deflated_frames(eio, base64, self._deflate) for encoded in out]
        elif len(out) == 1:
            encoded = out[0]
            self._largest = encoded.size
            self._transport.write(encoded.frames(eio, base64))
            return True
        else:
            frames = [encoded.frames(eio, base64) for encoded in out]
        self._largest = max(map(len, frames))
        if sum(map(len, frames)) <= JOIN_UP_TO:
            self._transport.write(b"".join(frames))
        else:
            self._transport.writelines(frames)
        return True

    def end(self, last: Encoded) -> None:
        """Close the WebSocket; one whose buffer is full is cut off."""
        if self._closing:
            return
        self._closing = True
        if self.sending:
            self._transport.abort()
            return
        codec = self._codec
        if codec.state is OPEN:
            codec.close()
        if codec.out:
            self._transport.write(b"".join(codec.out))
            codec.out.clear()
        if codec.state is CLOSED:
            self._transport.close()
        if codec.state is not CLOSED or self._transport.get_write_buffer_size():
            self._closing = asyncio.get_running_loop().call_later(CLOSE_TIME, self._transport.abort)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport.is_closing():
            return
        if self._codec.more:
            # Not here and now, where the session is not ready for it; the socket is not read before.
            asyncio.get_running_loop().call_soon(self._read_on)
        else:
            self._transport.resume_reading()

    def _read_on(self) -> None:
        """Take what the codec has left of the last read, and then the socket on; what is lost meanwhile is not read any more."""
        if not self._session.paused and not self._transport.is_closing():
            self.data_received(b"")
            if not self._session.paused:
                self.resume_reading()

    async def serve(self, receive: object) -> None:
        """Take over from ASGI events; this returns at once, and the app's coroutine with it."""
        wire, self._wire = self._wire, None
        assert wire is not None
        events: list[Message] = wire.hand_over(self, read=not self._session.paused)
        self.sending = wire.paused
        for event in events:
            if event["type"] == "websocket.receive":
                text = event.get("text")
                self._receive([event["bytes"] if text is None else text])
            else:
                self._closing = True  # the wire has seen to it
                self._finish()
        if self._codec.more:
            self._read_on()

    # The end

    def shutdown(self) -> None:
        """Take notice that uvicorn stops: the server of this session closes, and then the connection with it."""
        self._session.shut_down()

    def _receive_eio3(self, packets: list[str | bytes]) -> None:
        taken: list[str | bytes] = []
        for packet in packets:
            if isinstance(packet, bytes):
                if packet[:1] != MESSAGE_BYTE:
                    self._session.receive_all(taken)
                    self._session.lost(Reason.PARSE_ERROR, "a binary packet that is not a message")
                    return
                packet = packet[1:]
            elif len(packet) * 4 >= self._codec.max_size and len(packet.encode()) == self._codec.max_size:
                # The codec lets one byte more pass, which text has no use for.
                self._session.receive_all(taken)
                self._codec.fail(CloseCode.MESSAGE_TOO_BIG, "")
                self._finish()
                return
            taken.append(packet)
        self._session.receive_all(taken)

    def _finish(self) -> None:
        """The peer has closed, or broken the protocol: there is nothing more to read."""
        codec = self._codec
        if codec.failure is None:
            self._session.lost(Reason.TRANSPORT_CLOSE)
        elif codec.failure is CloseCode.MESSAGE_TOO_BIG:
            limit = codec.max_size - (self._eio == 3)
            self._session.lost(Reason.TRANSPORT_ERROR, f"a message of more than max_payload ({limit}) bytes")
        else:
            self._session.lost(Reason.TRANSPORT_ERROR, codec.close_reason)
        self._transport.close()
