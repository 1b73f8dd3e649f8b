"""One packet in its wire forms, each made at most once however many connections it goes to."""

from __future__ import annotations

from binascii import b2a_base64
from enum import Enum
from typing import TYPE_CHECKING, Any

from mizzen.protocol.engine_packet import MESSAGE_BYTE
from mizzen.protocol.websocket import Opcode, encode_frame, encode_message, encode_text

if TYPE_CHECKING:
    from collections.abc import Sequence


class Form(Enum):
    """How a polling payload writes its records."""

    EIO4 = 4
    """Text as it is, binary as `b` and base64; records are separated by U+001E."""
    EIO3_TEXT = 3
    """`<length in UTF-16 code units>:<packet>`, binary as `b4` and base64."""
    EIO3_BINARY = 0
    """`00` (string) or `01` (binary), the decimal digits of the length in bytes as the bytes 0 to 9, `ff`, the packet."""


class Encoded:
    """One Engine.IO unit as it is sent: a text packet and the binary messages that belong to it.

    `data` is the UTF-8 text with its Engine.IO type digit (`b'42["x"]'`, `b"2"`), or None when the unit is only binary. `attachments`
    follow it in this order and nothing may come between. `size` is the number of bytes to send, without framing. `compress` says whether
    it is worth compressing; who sends it may set it to False.
    """

    __slots__ = ("_forms", "_frames", "_text", "attachments", "compress", "data", "size")

    def __init__(self, data: bytes | None, attachments: Sequence[bytes] = ()) -> None:
        self.data: bytes | None = data
        self.attachments: Sequence[bytes] = attachments
        size = 0 if data is None else len(data)
        if attachments:
            size += sum(map(len, attachments))
        self.size: int = size
        self.compress: bool = True
        self._text: tuple[str | bytes, ...] | None = None
        self._frames: bytes | None = None
        self._forms: dict[object, Any] | None = None

    def messages(self, eio: int, base64: bool = False) -> tuple[str | bytes, ...]:
        """Give the WebSocket messages: the text first, then the binaries, which Engine.IO 3 prefixes with their type.

        With `base64` the binaries are text too, for a client that asked for it (`b64=1`).
        """
        text = self._text
        if text is None:
            text = self._text = () if self.data is None else (self.data.decode(),)
        if not self.attachments:
            return text
        if self._forms is None:
            self._forms = {}
        messages: tuple[str | bytes, ...] | None = self._forms.get((eio, base64))
        if messages is None:
            messages = (*text, *[_binary_message(each, eio, base64) for each in self.attachments])
            self._forms[(eio, base64)] = messages
        return messages

    def frames(self, eio: int, base64: bool = False) -> bytes:
        """Give the WebSocket frames of all messages, one after another, as a server sends them."""
        frames = self._frames
        if frames is None:
            frames = self._frames = b"" if self.data is None else encode_text(self.data)
        return self._with_attachments(frames, eio, base64) if self.attachments else frames

    def _with_attachments(self, frames: bytes, eio: int, base64: bool) -> bytes:
        if self._forms is None:
            self._forms = {}
        form = ("frames", eio, base64)
        whole: bytes | None = self._forms.get(form)
        if whole is None:
            for attachment in self.attachments:
                message = _binary_message(attachment, eio, base64)
                frames += encode_text(message.encode()) if isinstance(message, str) else encode_frame(Opcode.BINARY, message)
            whole = self._forms[form] = frames
        return whole

    def deflated_frames(self, eio: int, base64: bool, threshold: int) -> bytes:
        """Give the WebSocket frames of all messages, those of at least `threshold` bytes compressed (permessage-deflate)."""
        if self.size < threshold or not self.compress:
            return self.frames(eio, base64)
        if self._forms is None:
            self._forms = {}
        form = ("deflated", eio, base64, threshold) if self.attachments else ("deflated", threshold)
        frames: bytes | None = self._forms.get(form)
        if frames is None:
            frames = b"" if self.data is None else encode_message(Opcode.TEXT, self.data, threshold)
            for attachment in self.attachments:
                message = _binary_message(attachment, eio, base64)
                binary = isinstance(message, bytes)
                frames += encode_message(Opcode.BINARY if binary else Opcode.TEXT, message if binary else message.encode(), threshold)
            self._forms[form] = frames
        return frames

    @property
    def kept(self) -> dict[object, Any]:
        """Where others keep what they have made of this unit, under keys of their own."""
        if self._forms is None:
            self._forms = {}
        return self._forms

    def records(self, form: Form) -> tuple[bytes, ...]:
        """Give the records of a polling payload, one for each message."""
        if self._forms is None:
            self._forms = {}
        records: tuple[bytes, ...] | None = self._forms.get(form)
        if records is None:
            records = self._forms[form] = _RECORDS[form](self.data, self.attachments)
        return records

    def __repr__(self) -> str:
        return f"Encoded({self.data!r}, attachments={len(self.attachments)})"


def _binary_message(attachment: bytes, eio: int, base64: bool) -> str | bytes:
    if base64:
        return ("b4" if eio == 3 else "b") + b2a_base64(attachment, newline=False).decode("ascii")
    # "When sending binary data, the packet type id is sent in the first byte of the binary contents"
    return MESSAGE_BYTE + attachment if eio == 3 else attachment


def _records_eio4(data: bytes | None, attachments: Sequence[bytes]) -> tuple[bytes, ...]:
    binaries = (b"b" + b2a_base64(attachment, newline=False) for attachment in attachments)
    return tuple(binaries) if data is None else (data, *binaries)


def _records_eio3_text(data: bytes | None, attachments: Sequence[bytes]) -> tuple[bytes, ...]:
    packets = [b"b4" + b2a_base64(attachment, newline=False) for attachment in attachments]
    if data is not None:
        packets.insert(0, data)
    return tuple(b"%d:%b" % (_utf16_length(packet), packet) for packet in packets)


def _records_eio3_binary(data: bytes | None, attachments: Sequence[bytes]) -> tuple[bytes, ...]:
    binaries = (_length_prefix(b"\x01", 1 + len(attachment)) + MESSAGE_BYTE + attachment for attachment in attachments)
    return tuple(binaries) if data is None else (_length_prefix(b"\x00", len(data)) + data, *binaries)


def _utf16_length(packet: bytes) -> int:
    """Count as JavaScript's `length` does, where a character beyond U+FFFF counts two."""
    return len(packet) if packet.isascii() else len(packet.decode().encode("utf-16-le")) // 2


def _length_prefix(kind: bytes, length: int) -> bytes:
    return kind + bytes(map(int, str(length))) + b"\xff"


_RECORDS = {Form.EIO4: _records_eio4, Form.EIO3_TEXT: _records_eio3_text, Form.EIO3_BINARY: _records_eio3_binary}
