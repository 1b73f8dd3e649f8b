"""RFC 6455 for either side, sans-IO: bytes in, messages out; pings and closing are answered by itself.

Section numbers in comments are those of RFC 6455.
"""

from __future__ import annotations

import codecs
import os
import struct
import zlib
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Final

from mizzen.errors import LocalProtocolError

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform without the compiled module
    from websockets.utils import apply_mask

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_CONTROL: Final = 125
_LARGE: Final = 65_536
_TEXT_HEADS: Final = tuple(bytes((0x81, length)) for length in range(126))
_TAIL: Final = b"\x00\x00\xff\xff"
_WINDOW_BITS: Final = frozenset(("8", "9", "10", "11", "12", "13", "14", "15"))


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


def _may_be_sent(code: int) -> bool:
    return code in _SENDABLE or 3000 <= code < 5000


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


def encode_frame(opcode: int, payload: bytes, rsv1: bool = False) -> bytes:
    """Give one whole frame of the server, which is not masked (5.1)."""
    length = len(payload)
    first = 0x80 | (0x40 if rsv1 else 0) | opcode
    if length < 126:
        return bytes((first, length)) + payload
    if length < _LARGE:
        return struct.pack("!BBH", first, 126, length) + payload
    return struct.pack("!BBQ", first, 127, length) + payload


def encode_text(payload: bytes) -> bytes:
    """Give the frame of a whole text message of the server, which nearly every one is."""
    length = len(payload)
    return _TEXT_HEADS[length] + payload if length < 126 else encode_frame(Opcode.TEXT, payload)


def encode_masked_frame(opcode: int, payload: bytes, rsv1: bool = False) -> bytes:
    """Give one whole frame of a client: "a client MUST mask all frames that it sends to the server" (5.1)."""
    key = os.urandom(4)  # "The masking key needs to be unpredictable" (5.3)
    length = len(payload)
    first = 0x80 | (0x40 if rsv1 else 0) | opcode
    if length < 126:
        head = bytes((first, 0x80 | length))
    elif length < _LARGE:
        head = struct.pack("!BBH", first, 0x80 | 126, length)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, length)
    return head + key + apply_mask(payload, key)


def deflate(payload: bytes) -> bytes:
    """Compress one message without context of others (RFC 7692, 7.2.1)."""
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[: -len(_TAIL)]


def encode_message(opcode: int, payload: bytes, threshold: int | None = None, masked: bool = False) -> bytes:
    """Give a message as one frame, compressed if it has at least `threshold` bytes and gets smaller by it; None: never.

    `masked` makes it the frame of a client.
    """
    encode = encode_masked_frame if masked else encode_frame
    if threshold is not None and len(payload) >= threshold:
        compressed = deflate(payload)
        if len(compressed) < len(payload):
            # "set the RSV1 bit to 1" on the first frame of a compressed message (RFC 7692, 6)
            return encode(opcode, compressed, rsv1=True)
    return encode(opcode, payload)


DEFLATE_ANSWER: Final = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"
"""The Sec-WebSocket-Extensions header that agrees to compression: neither side keeps a context, so one compressed frame serves all."""


def accepts_deflate(offers: str) -> bool:
    """Say whether a Sec-WebSocket-Extensions header offers a permessage-deflate that `DEFLATE_ANSWER` is an answer to."""
    return any(_is_deflate(offer) for offer in offers.split(","))


def _is_deflate(offer: str) -> bool:
    name, *parameters = [part.strip() for part in offer.split(";")]
    seen: set[str] = set()
    for parameter in parameters:
        key, separator, value = [part.strip() for part in parameter.partition("=")]
        value = value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
        # "A server MUST decline an extension negotiation offer" with a parameter that is unknown, has a bad value or comes twice (7.1)
        if key in seen:
            return False
        seen.add(key)
        if key in ("server_no_context_takeover", "client_no_context_takeover"):
            if separator:
                return False
        elif key == "client_max_window_bits":
            if separator and value not in _WINDOW_BITS:
                return False
        elif key != "server_max_window_bits" or value != "15":
            # A smaller window of ours would need a compressed form of its own.
            return False
    return name == "permessage-deflate"


class WebSocket:
    """One connection's frames.

    `feed` gives the messages that bytes complete; `out` collects what is to be sent in answer (pongs, the Close frame), and the shell
    sends and empties it. A message of more than `max_size` bytes ends the connection as soon as a header tells of it. `inflate` says that
    permessage-deflate was agreed on, without context takeover. `more` is what `feed` has left, because it has inflated more than `max_size`
    bytes at once: bytes and a position in them; `feed(b"")` goes on there. `on_pong` is called with the payload of each pong.
    `failure` is the code that the peer was told when it broke the protocol, and `close_code` then ABNORMAL. With `client` it is the
    client's side.
    """

    __slots__ = (
        *("_at_start", "_buffer", "_decoder", "_encode", "_fragments", "_have", "_key_size", "_need", "_opcode", "_rsv1", "_size"),
        *("close_code", "close_reason", "failure", "inflate", "max_size", "more", "on_pong", "out", "state"),
    )

    def __init__(self, max_size: int, *, inflate: bool = False, client: bool = False) -> None:
        self.max_size = max_size
        self._encode = encode_masked_frame if client else encode_frame
        # What comes to a server is masked, and what comes to a client is not (5.1).
        self._key_size = 0 if client else 4
        self.state: WebSocketState = OPEN
        self.out: list[bytes] = []
        self.on_pong: Callable[[bytes], None] | None = None
        self.close_code: int | None = None
        self.close_reason: str = ""
        self.failure: CloseCode | None = None
        self.inflate: bool = inflate
        self.more: tuple[bytes, int] | None = None
        # Bytes of a frame that is not complete; looked at once `_need` bytes are there, so that a slow frame costs no more than its size.
        self._buffer: bytearray = bytearray()
        self._have = 0
        self._need = 2
        # The message that fragments are coming for; 0 is none.
        self._opcode = 0
        self._rsv1 = False
        self._fragments = bytearray()
        self._size = 0
        self._decoder: codecs.IncrementalDecoder | None = None
        # Whether a message from a client begins with the next byte.
        self._at_start = not client

    def feed(self, data: bytes) -> list[str | bytes]:
        """Take bytes; give the messages that they complete, text as str. Never raises: a broken protocol closes."""
        size = len(data)
        if self._at_start and 8 <= size <= self.max_size and data[0] == 0x81:
            # One whole text frame of a client and nothing else, as nearly every read brings it: `key` is where its masking key begins.
            second = data[1]
            key = 2 if second == size + 122 < 254 else 4 if second == 254 and data[2] << 8 | data[3] == size - 8 else 0
            if key:
                try:
                    return [apply_mask(data[key + 4 :], data[key : key + 4]).decode()]
                except UnicodeDecodeError:
                    self.fail(CloseCode.INVALID_DATA, "text that is not UTF-8")
                    return []
        messages: list[str | bytes] = []
        position = 0
        if self.more is not None:
            rest, position = self.more
            self.more = None
            if data:
                data, position = rest[position:] + data, 0
            else:
                data = rest
        elif self._have:
            self._buffer += data
            self._have += len(data)
            if self._have < self._need:
                return messages
            data = bytes(self._buffer)
            self._buffer.clear()
            self._have = 0
        end = len(data)
        inflated = 0
        key_size = self._key_size
        try:
            while self.state is not CLOSED:
                start = position + 2
                if end < start:
                    self._need = 2
                    break
                first, length = data[position], data[position + 1]
                if (length < 0x80) == (key_size > 0):
                    # "a server MUST close the connection upon receiving a frame that is not masked", and a client if it is (5.1)
                    raise _Failure(CloseCode.PROTOCOL_ERROR, "a frame that is not masked" if key_size else "a frame that is masked")
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
                if length > self.max_size - self._size and not first & 8 and not self._may_shrink(first, length):
                    raise _Failure(CloseCode.MESSAGE_TOO_BIG, f"a message of more than {self.max_size} bytes")
                stop = start + key_size + length
                if end < stop:
                    self._need = stop - position
                    break
                payload = apply_mask(data[start + 4 : stop], data[start : start + 4]) if key_size else data[start:stop]
                position = stop
                if first == 0x81:
                    messages.append(payload.decode())
                else:
                    inflated += self._take(first, payload, messages)
                    if inflated > self.max_size and position < end:
                        self.more = data, position
                        break
        except UnicodeDecodeError:
            self.fail(CloseCode.INVALID_DATA, "text that is not UTF-8")
        except _Failure as failure:
            self.fail(failure.code, failure.reason)
        else:
            if position < end and self.more is None and self.state is not CLOSED:
                self._buffer += data[position:] if position else data
                self._have = end - position
        self._at_start = not (self._have or self._opcode or self.more or self.state is CLOSED or not key_size)
        return messages

    def _may_shrink(self, first: int, length: int) -> bool:
        """Say whether a frame is of a compressed message that may still fit: what cannot be compressed gets a little longer by it."""
        compressed = first & 0x40 or (self._rsv1 and not first & 0x0F)
        return bool(compressed) and self._size + length <= self.max_size + (self.max_size >> 10) + 64

    def _check(self, first: int, length: int) -> None:
        """Check the first byte of any frame but a whole text."""
        opcode = first & 0x0F
        if first & 0x30 or (first & 0x40 and not (self.inflate and opcode in (Opcode.TEXT, Opcode.BINARY))):
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

    def _take(self, first: int, payload: bytes, messages: list[str | bytes]) -> int:
        """Take a frame; give the bytes that a message has got by being inflated."""
        opcode = first & 0x0F
        if opcode >= Opcode.CLOSE:
            if opcode == Opcode.PING:
                # "unless it already received a Close frame"; after our own there is no point
                if self.state is OPEN:
                    self.out.append(self._encode(Opcode.PONG, payload))
            elif opcode == Opcode.CLOSE:
                self._closed_by_peer(payload)
            elif self.on_pong is not None:
                self.on_pong(payload)
        elif first & 0x80 and opcode == Opcode.BINARY and not first & 0x40:
            messages.append(payload)
        else:
            return self._gather(first, payload, messages)
        return 0

    def _gather(self, first: int, payload: bytes, messages: list[str | bytes]) -> int:
        """Take a fragment, or a whole message that is compressed; give the bytes that it has when it is inflated."""
        if first & 0x0F:
            self._opcode = first & 0x0F
            self._rsv1 = bool(first & 0x40)
            if self._opcode == Opcode.TEXT and not self._rsv1:
                self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._size += len(payload)
        if self._decoder is not None:
            self._decoder.decode(payload)  # fails fast on text that is not UTF-8 (8.1)
        self._fragments += payload
        if not first & 0x80:
            return 0
        if self._decoder is not None:
            self._decoder.decode(b"", True)
        whole = bytes(self._fragments)
        if self._rsv1:
            whole = self._decompress(whole)
        messages.append(whole.decode() if self._opcode == Opcode.TEXT else whole)
        self._opcode = self._size = 0
        self._fragments.clear()
        self._decoder = None
        return len(whole) if self._rsv1 else 0

    def _decompress(self, data: bytes) -> bytes:
        decompressor = zlib.decompressobj(wbits=-15)
        try:
            # One byte more than may be, so that a bomb is known without being blown up.
            whole = decompressor.decompress(data + _TAIL, self.max_size + 1)
        except zlib.error as error:
            raise _Failure(CloseCode.INVALID_DATA, f"a message that is not compressed as agreed: {error}") from None
        if len(whole) > self.max_size:
            raise _Failure(CloseCode.MESSAGE_TOO_BIG, f"a message of more than {self.max_size} bytes")
        # A peer may end with a block that has BFINAL set and pad it (RFC 7692, 7.2.3.4).
        if decompressor.unused_data not in (b"", _TAIL, b"\x00" + _TAIL):
            raise _Failure(CloseCode.INVALID_DATA, "a compressed message with something behind its end")
        return whole

    def _closed_by_peer(self, payload: bytes) -> None:
        code = CloseCode.NO_STATUS.value
        if payload:
            if len(payload) == 1:
                raise _Failure(CloseCode.PROTOCOL_ERROR, "a Close frame with half a code")
            code = int.from_bytes(payload[:2], "big")
            if not _may_be_sent(code):
                raise _Failure(CloseCode.PROTOCOL_ERROR, f"the close code {code}, which nobody may send")
            self.close_reason = payload[2:].decode()
        self.close_code = code
        if self.state is OPEN:
            # "the endpoint typically echos the status code it received" (5.5.1)
            self.out.append(self._encode(Opcode.CLOSE, payload[:2]))
        self.state = CLOSED

    def fail(self, code: CloseCode, reason: str) -> None:
        """End the connection: the peer sent what cannot be borne."""
        if self.state is OPEN:
            self.out.append(self._encode(Opcode.CLOSE, struct.pack("!H", code)))
        self.close_code = CloseCode.ABNORMAL
        self.close_reason = reason
        self.failure = code
        self.state = CLOSED
        self._at_start = False
        self.more = None
        self._fragments.clear()
        self._decoder = None

    def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Say that we close; what comes until the peer's own Close frame is still given.

        A reason is cut to the 123 bytes that fit. NO_STATUS says nothing. Raises LocalProtocolError for a code that nobody may send.
        """
        if code == CloseCode.NO_STATUS:
            payload = b""
        elif _may_be_sent(code):
            text = reason.encode(errors="replace")[: MAX_CONTROL - 2].decode(errors="ignore")
            payload = struct.pack("!H", code) + text.encode()
        else:
            raise LocalProtocolError(
                f"the close code {code} must not be sent: use 1000 to 1003, 1007 to 1014 or 3000 to 4999 (RFC 6455, 7.4)"
            )
        if self.state is OPEN:
            self.out.append(self._encode(Opcode.CLOSE, payload))
            self.state = CLOSING
