"""Polling payloads: several Engine.IO packets in the body of one HTTP request or response."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mizzen.errors import RemoteProtocolError
from mizzen.protocol.encoded import Form
from mizzen.protocol.engine_packet import MESSAGE_BYTE, TYPES, decode_base64
from mizzen.types import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mizzen.protocol.encoded import Encoded

SEPARATOR: Final = "\x1e"
TEXT: Final = "text/plain; charset=UTF-8"
BINARY: Final = "application/octet-stream"

MAX_LENGTH_DIGITS: Final = 16  # every integer that JavaScript counts exactly; more is no length of anything


def encode_payload(packets: Sequence[Encoded], eio: int, base64: bool) -> tuple[bytes, str]:
    """Give the body and its content type for `packets`, in order.

    `base64` says that the client asked for text only (`b64=1`); it matters to Engine.IO 3, as 4 always writes base64.
    """
    if eio != 3:
        records: list[bytes] = []
        for packet in packets:
            if packet.attachments or packet.data is None:
                records += packet.records(Form.EIO4)
            else:
                records.append(packet.data)  # text is its own record
        return b"\x1e".join(records), TEXT
    form = Form.EIO3_TEXT if base64 or not any(packet.attachments for packet in packets) else Form.EIO3_BINARY
    body = b"".join([record for packet in packets for record in packet.records(form)])
    # An Engine.IO 3 payload of no packets is one record of no characters: its parsers refuse an empty body.
    return body or b"0:", BINARY if form is Form.EIO3_BINARY else TEXT


def decode_payload(body: bytes, eio: int, binary: bool) -> list[str | bytes]:
    """Split the body of a request into packets: text with its type digit, binary messages bare.

    `binary` says that the content type is `application/octet-stream`, which only Engine.IO 3 knows. Raises `RemoteProtocolError` with
    `Reason.PARSE_ERROR` for whatever is not a whole payload, and takes time linear in the length of the body.
    """
    if binary:
        if eio != 3:
            raise _refused("a binary payload; Engine.IO 4 sends text/plain with base64 in it")
        return _decode_binary_eio3(body)
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise _refused(f"a payload that is not UTF-8 (byte {error.start})") from None
    return _decode_eio4(text) if eio != 3 else _decode_text_eio3(text)


def _decode_eio4(text: str) -> list[str | bytes]:
    packets: list[str | bytes] = []
    for record in text.split(SEPARATOR):
        first = record[:1]
        if first in TYPES:
            packets.append(record)
        elif first == "b":
            packets.append(decode_base64(record, eio=4))
        else:
            raise _refused(f"a packet of unknown type {first!r} in a payload" if first else "an empty packet in a payload")
    return packets


def _decode_text_eio3(text: str) -> list[str | bytes]:
    packets: list[str | bytes] = []
    # "length: length of the packet in characters": JavaScript's, which are UTF-16 code units. They are cut from UTF-16 where the two
    # may differ, so that no length has to be searched for.
    utf16 = b"" if text.isascii() else text.encode("utf-16-le")
    total = len(utf16) // 2 if utf16 else len(text)
    if not total:
        raise _refused("an empty payload")

    def cut(start: int, end: int, errors: str = "strict") -> str:
        return utf16[2 * start : 2 * end].decode("utf-16-le", errors) if utf16 else text[start:end]

    position = 0
    while position < total:
        digits, colon, _ = cut(position, position + MAX_LENGTH_DIGITS + 1, "replace").partition(":")
        if not colon or not (digits.isascii() and digits.isdecimal()):
            raise _refused("a payload without '<length>:' where a packet should start")
        start = position + len(digits) + 1
        position = start + int(digits)
        if position > total:
            raise _refused(f"a payload that ends {position - total} characters before its last packet does")
        if position > start:  # an empty record carries nothing: `0:` is the payload of no packets
            try:
                packet = cut(start, position)
            except UnicodeDecodeError:
                raise _refused("a packet length that cuts a character of two code units in half") from None
            packets.append(_text_packet_eio3(packet))
    return packets


def _decode_binary_eio3(body: bytes) -> list[str | bytes]:
    packets: list[str | bytes] = []
    position, total = 0, len(body)
    if not total:
        raise _refused("an empty payload")
    while position < total:
        kind = body[position]
        mark = body.find(b"\xff", position + 1, position + MAX_LENGTH_DIGITS + 2)
        digits = body[position + 1 : mark]
        if kind > 1 or mark < 0 or not digits or max(digits) > 9:
            raise _refused("a binary payload without a type, a length and 0xff where a packet should start")
        length = int("".join(map(str, digits)))
        start = mark + 1
        position = start + length
        if position > total:
            raise _refused(f"a binary payload that ends {position - total} bytes before its last packet does")
        packet = body[start:position]
        if kind == 0:
            try:
                packets.append(_text_packet_eio3(packet.decode()))
            except UnicodeDecodeError:
                raise _refused("a string in a binary payload that is not UTF-8") from None
        elif packet[:1] == MESSAGE_BYTE:
            packets.append(packet[1:])
        else:
            raise _refused("a binary packet in a payload that is not a message")
    return packets


def _text_packet_eio3(packet: str) -> str | bytes:
    first = packet[:1]
    if first == "b":
        return decode_base64(packet, eio=3)
    if first not in TYPES:
        raise _refused(f"a packet of unknown type {first!r} in a payload" if first else "an empty packet in a payload")
    return packet


def _refused(what: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"The peer sent {what}", Reason.PARSE_ERROR)
