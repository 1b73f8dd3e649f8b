"""The server's side of RFC 6455, sans-IO: bytes in, messages out; pings and closing are answered by itself.

Section numbers in comments are those of RFC 6455.
"""

from __future__ import annotations

import codecs
import struct
import zlib
from base64 import b64encode
from enum import Enum, IntEnum
from hashlib import sha1
from typing import TYPE_CHECKING, Final

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform without the compiled module
    from websockets.utils import apply_mask

if TYPE_CHECKING:
    from collections.abc import Callable

GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
MAX_CONTROL: Final = 125
_LARGE: Final = 65_536
_TAIL: Final = b"\x00\x00\xff\xff"


class Opcode(IntEnum):
    """What a frame is (5.2)."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class CloseCode(IntEnum):
    """Why a WebSocket is closed (7.4.1); NO_STATUS and ABNORMAL are never sent."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS = 1005
    ABNORMAL = 1006
    INVALID_DATA = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012


_SENDABLE: Final = frozenset((1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014))


class WebSocketState(Enum):
    """OPEN; CLOSING: our Close frame is out; CLOSED: the peer's has come, or it broke the protocol, and nothing more is read."""

    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


OPEN, CLOSING, CLOSED = WebSocketState.OPEN, WebSocketState.CLOSING, WebSocketState.CLOSED


class _Failure(Exception):
    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def accept_key(key: bytes) -> bytes:
    """Give the Sec-WebSocket-Accept header for a Sec-WebSocket-Key (4.2.2)."""
    return b64encode(sha1(key + GUID, usedforsecurity=False).digest())


def encode_frame(opcode: int, payload: bytes, rsv1: bool = False) -> bytes:
    """Give one whole frame of the server, which is not masked (5.1)."""
    length = len(payload)
    first = 0x80 | (0x40 if rsv1 else 0) | opcode
    if length < 126:
        return bytes((first, length)) + payload
    if length < _LARGE:
        return struct.pack("!BBH", first, 126, length) + payload
    return struct.pack("!BBQ", first, 127, length) + payload


def deflate(payload: bytes) -> bytes:
    """Compress one message without context of others (RFC 7692, 7.2.1)."""
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[: -len(_TAIL)]


class WebSocket:
    """One connection's frames.

    `feed` gives the messages that bytes complete; `out` collects what is to be sent in answer (pongs, the Close frame), and the shell
    sends and empties it. A message of more than `max_size` bytes ends the connection as soon as a header tells of it. `inflate` says that
    permessage-deflate was agreed on, without context takeover. `on_pong` is called with the payload of each pong."""

    __slots__ = (
        *("_buffer", "_decoder", "_fragments", "_have", "_inflate", "_need", "_opcode", "_rsv1", "_size"),
        *("close_code", "close_reason", "max_size", "on_pong", "out", "state"),
    )

    def __init__(self, max_size: int, *, inflate: bool = False) -> None:
        self.max_size = max_size
        self.state: WebSocketState = OPEN
        self.out: list[bytes] = []
        self.on_pong: Callable[[bytes], None] | None = None
        self.close_code: int | None = None
        self.close_reason: str = ""
        self._inflate = inflate
        # Bytes of a frame that is not complete; joined once `_need` bytes are there, so that a slow frame costs no more than its size.
        self._buffer: list[bytes] = []
        self._have = 0
        self._need = 2
        # The message that fragments are coming for; 0 is none.
        self._opcode = 0
        self._rsv1 = False
        self._fragments: list[bytes] = []
        self._size = 0
        self._decoder: codecs.IncrementalDecoder | None = None

    def feed(self, data: bytes) -> list[str | bytes]:
        """Take bytes; give the messages that they complete, text as str. Never raises: a broken protocol closes."""
        messages: list[str | bytes] = []
        if self._have:
            self._buffer.append(data)
            self._have += len(data)
            if self._have < self._need:
                return messages
            data = b"".join(self._buffer)
            self._buffer.clear()
            self._have = 0
        position, end = 0, len(data)
        try:
            while self.state is not CLOSED:
                start = position + 2
                if end < start:
                    self._need = 2
                    break
                first, length = data[position], data[position + 1]
                if length < 0x80:
                    # "a server MUST close the connection upon receiving a frame that is not masked" (5.1)
                    raise _Failure(CloseCode.PROTOCOL_ERROR, "a frame that is not masked")
                length &= 0x7F
                if length > MAX_CONTROL:
                    start += 2 if length == 126 else 8
                    if end < start:
                        self._need = start - position
                        break
                    length = int.from_bytes(data[position + 2 : start], "big")
                if first != 0x81:
                    self._check(first, length)
                elif self._opcode:
                    raise _Failure(CloseCode.PROTOCOL_ERROR, "a new message before the last one was complete")
                if length > self.max_size - self._size and not first & 8:
                    raise _Failure(CloseCode.MESSAGE_TOO_BIG, f"a message of more than {self.max_size} bytes")
                stop = start + 4 + length
                if end < stop:
                    self._need = stop - position
                    break
                payload = apply_mask(data[start + 4 : stop], data[start : start + 4])
                position = stop
                if first == 0x81:
                    messages.append(payload.decode())
                else:
                    self._take(first, payload, messages)
        except UnicodeDecodeError:
            self._fail(CloseCode.INVALID_DATA, "text that is not UTF-8")
        except _Failure as failure:
            self._fail(failure.code, failure.reason)
        else:
            if position < end and self.state is not CLOSED:
                self._buffer.append(data[position:] if position else data)
                self._have = end - position
        return messages

    def _check(self, first: int, length: int) -> None:
        """Check the first byte of any frame but a whole text."""
        opcode = first & 0x0F
        if first & 0x30 or (first & 0x40 and not (self._inflate and opcode in (Opcode.TEXT, Opcode.BINARY))):
            # "MUST be 0 unless an extension is negotiated that defines meanings for non-zero values" (5.2)
            raise _Failure(CloseCode.PROTOCOL_ERROR, "reserved bits are set")
        if opcode >= Opcode.CLOSE:
            # "All control frames MUST have a payload length of 125 bytes or less and MUST NOT be fragmented" (5.5)
            if opcode > Opcode.PONG:
                raise _Failure(CloseCode.PROTOCOL_ERROR, f"a frame of the reserved opcode {opcode}")
            if not first & 0x80:
                raise _Failure(CloseCode.PROTOCOL_ERROR, "a control frame in fragments")
            if length > MAX_CONTROL:
                raise _Failure(CloseCode.PROTOCOL_ERROR, "a control frame of more than 125 bytes")
        elif opcode == Opcode.CONTINUATION:
            if not self._opcode:
                raise _Failure(CloseCode.PROTOCOL_ERROR, "a continuation of no message")
        elif opcode > Opcode.BINARY:
            raise _Failure(CloseCode.PROTOCOL_ERROR, f"a frame of the reserved opcode {opcode}")
        elif self._opcode:
            raise _Failure(CloseCode.PROTOCOL_ERROR, "a new message before the last one was complete")

    def _take(self, first: int, payload: bytes, messages: list[str | bytes]) -> None:
        opcode = first & 0x0F
        if opcode >= Opcode.CLOSE:
            if opcode == Opcode.PING:
                # "unless it already received a Close frame"; after our own there is no point
                if self.state is OPEN:
                    self.out.append(encode_frame(Opcode.PONG, payload))
            elif opcode == Opcode.CLOSE:
                self._closed_by_peer(payload)
            elif self.on_pong is not None:
                self.on_pong(payload)
        elif first & 0x80 and opcode == Opcode.BINARY and not first & 0x40:
            messages.append(payload)
        else:
            self._gather(first, payload, messages)

    def _gather(self, first: int, payload: bytes, messages: list[str | bytes]) -> None:
        """Take a fragment, or a whole message that is compressed."""
        if first & 0x0F:
            self._opcode = first & 0x0F
            self._rsv1 = bool(first & 0x40)
            if self._opcode == Opcode.TEXT and not self._rsv1:
                self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._size += len(payload)
        if self._decoder is not None:
            self._decoder.decode(payload)  # fails fast on text that is not UTF-8 (8.1)
        self._fragments.append(payload)
        if not first & 0x80:
            return
        if self._decoder is not None:
            self._decoder.decode(b"", True)
        whole = b"".join(self._fragments)
        if self._rsv1:
            whole = self._decompress(whole)
        messages.append(whole.decode() if self._opcode == Opcode.TEXT else whole)
        self._opcode = self._size = 0
        self._fragments.clear()
        self._decoder = None

    def _decompress(self, data: bytes) -> bytes:
        decompressor = zlib.decompressobj(wbits=-15)
        try:
            whole = decompressor.decompress(data + _TAIL, self.max_size)
        except zlib.error as error:
            raise _Failure(CloseCode.PROTOCOL_ERROR, f"a message that is not compressed as agreed: {error}") from None
        if decompressor.unconsumed_tail:
            raise _Failure(CloseCode.MESSAGE_TOO_BIG, f"a message of more than {self.max_size} bytes")
        return whole

    def _closed_by_peer(self, payload: bytes) -> None:
        code = CloseCode.NO_STATUS.value
        if payload:
            if len(payload) == 1:
                raise _Failure(CloseCode.PROTOCOL_ERROR, "a Close frame with half a code")
            code = int.from_bytes(payload[:2], "big")
            if not (code in _SENDABLE or 3000 <= code < 5000):
                raise _Failure(CloseCode.PROTOCOL_ERROR, f"the close code {code}, which nobody may send")
            self.close_reason = payload[2:].decode()
        self.close_code = code
        if self.state is OPEN:
            # "the endpoint typically echos the status code it received" (5.5.1)
            self.out.append(encode_frame(Opcode.CLOSE, payload[:2]))
        self.state = CLOSED

    def _fail(self, code: CloseCode, reason: str) -> None:
        if self.state is OPEN:
            self.out.append(encode_frame(Opcode.CLOSE, struct.pack("!H", code)))
        self.close_code = CloseCode.ABNORMAL
        self.close_reason = reason
        self.state = CLOSED
        self._fragments.clear()

    def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Say that we close; what comes until the peer's own Close frame is still given."""
        if self.state is OPEN:
            payload = struct.pack("!H", code) + reason.encode()[: MAX_CONTROL - 2]
            self.out.append(encode_frame(Opcode.CLOSE, payload))
            self.state = CLOSING
