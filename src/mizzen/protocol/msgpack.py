"""Socket.IO packets as MessagePack: what `socket.io-msgpack-parser` is in JavaScript, which both sides then have to use.

One packet is one binary Engine.IO message: a map of `type`, `nsp`, `data` and `id`, where bytes stand in `data` as they are. JavaScript's
side is written by notepack.io 2.2, whose extension type 0 is `undefined`, a Date or an ArrayBuffer.
"""

from __future__ import annotations

import ctypes
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

import orjson
from msgspec.msgpack import Decoder as Unpacker
from msgspec.msgpack import Encoder as Packer
from msgspec.msgpack import Ext

from mizzen.errors import RemoteProtocolError
from mizzen.protocol.codec import MAX_ID, checked, refused
from mizzen.protocol.encoded import Encoded
from mizzen.protocol.javascript import DOUBLE_BITS, GREATEST_INTEGER, LEAST_INTEGER, Writer, property_name
from mizzen.protocol.packet import ACK, CONNECT, CONNECT_ERROR, DISCONNECT, EVENT, Packet, PacketType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mizzen.types import JSON

MAX_DEPTH_IN: Final = 1_024
"""How deep what comes in may nest, as with JSON."""

_TYPES: Final = {int(kind): kind for kind in (CONNECT, DISCONNECT, EVENT, ACK, CONNECT_ERROR)}
_CONTAINERS: Final = frozenset((list, dict))
_STRINGS: Final = frozenset((str,))
_NOTHING_ELSE: Final = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)

_pack: Final = Packer().encode


class MsgpackCodec:
    """Encodes packets and makes decoders for clients that use `socket.io-msgpack-parser`.

    Values are JSON's, and bytes inline. Besides, a datetime with a time zone is a Date in JavaScript, and a Date arrives as a datetime in
    UTC; NaN and infinities stay what they are. `undefined` is None.
    """

    def encode(self, packet: Packet) -> Encoded:
        """Encode any packet, as an Engine.IO message; raises `TypeError` for data that cannot be sent."""
        # "invalid payload", says the parser in JavaScript of a DISCONNECT with `data`, even if that is null.
        bare = packet.data is None or packet.type is DISCONNECT
        return _message(packet.type, packet.nsp, b"" if bare else _encode(packet.data), packet.id)

    def encode_event(self, nsp: str, args: Sequence[JSON], id: int | None = None) -> Encoded:
        """Encode an event, whose name is `args[0]`; raises `TypeError` for arguments that cannot be sent."""
        return _message(EVENT, nsp, _encode(args), id)

    def encode_ack(self, nsp: str, args: Sequence[JSON], id: int | None) -> Encoded:
        """Encode the answer to an event of this id; raises `TypeError` for arguments that cannot be sent."""
        return _message(ACK, nsp, _encode(args), id)

    def decoder(self, max_attachments: int = 10) -> MsgpackDecoder:
        """Make the decoder of one connection; there are no attachments to bound."""
        return MsgpackDecoder()


def _message(kind: PacketType, nsp: str, data: bytes, id: int | None) -> Encoded:
    packet = b"%c\xa4type%c\xa3nsp%b" % (0x82 + bool(data) + (id is not None), kind, _encode(nsp))
    if data:
        packet += b"\xa4data" + data
    if id is not None:
        packet += b"\xa2id" + _pack(id)
    return Encoded(None, (packet,))


# --- out -------------------------------------------------------------------------------------------------------------------------


def _encode(value: JSON) -> bytes:
    if _is_plain(value, _NOTHING_ELSE):
        try:
            return _pack(value)
        except Exception:  # whatever it is: the writer can do it, or says what is wrong with which part of the value
            pass
    return _Writer().write(value)


def _is_plain(value: JSON, options: int) -> bool:
    """Tell whether keys are strings all through, and nothing is in there but JSON and bytes.

    orjson, which refuses all else, looks through a value in a tenth of the time that a loop here would take.
    """
    try:
        orjson.dumps(value, _stand_in, options)
    except TypeError:
        return False
    return True


def _stand_in(value: object) -> None:
    if value.__class__ is not bytes and value.__class__ is not bytearray:
        raise TypeError


class _Writer(Writer):
    """Writes MessagePack."""

    __slots__ = ()

    def begin(self, is_object: bool, size: int) -> bytes:
        small, large = (0x80, 0xDE) if is_object else (0x90, 0xDC)
        if size < 0x10:
            self.out.append(b"%c" % (small | size))
        elif size < 0x10000:
            self.out.append(b"%c%b" % (large, size.to_bytes(2)))
        else:
            self.out.append(b"%c%b" % (large + 1, size.to_bytes(4)))
        return b""

    def key(self, key: str | None) -> None:
        if key is not None:
            self.text(key)

    def text(self, value: str) -> None:
        try:
            self.out.append(_pack(str(value)))
        except UnicodeEncodeError:
            # There is no half a surrogate pair in UTF-8: U+FFFD, as Node.js writes it.
            self.out.append(_pack(value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")))

    def integer(self, value: int) -> None:
        if LEAST_INTEGER <= value <= GREATEST_INTEGER:
            self.out.append(_pack(int(value)))
        else:  # what JSON.parse makes of as many digits
            self.out.append(_pack(None if value.bit_length() > DOUBLE_BITS else _double(value)))

    def number(self, value: float) -> None:
        self.out.append(_pack(value))

    def binary(self, value: bytes) -> None:
        self.out.append(_pack(value))

    def leaf(self, value: Any) -> None:
        if isinstance(value, datetime) and value.tzinfo is not None:
            milliseconds = (value - _EPOCH) // _MILLISECOND
            self.out.append(_pack(Ext(0, milliseconds.to_bytes(8, signed=True))))
        elif isinstance(value, (date, time)):  # ISO 8601, a datetime without a time zone too: it is no moment, so it is no Date
            self.out.append(_pack(value.isoformat()))
        else:
            self.out.append(_pack(value))


def _double(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


# --- in --------------------------------------------------------------------------------------------------------------------------


class MsgpackDecoder:
    """Makes packets of one connection's messages; each message is one packet, so nothing is ever held.

    After an error it is dead: the connection is to be closed, and each further message raises again.
    """

    __slots__ = ("_dead",)

    def __init__(self) -> None:
        self._dead = False

    def feed(self, message: str | bytes) -> Packet:
        """Take one message; give its packet.

        Raises `RemoteProtocolError` with `Reason.FORCED_CLOSE`, and nothing else, for what breaks the protocol.
        """
        try:
            if self._dead:
                raise refused("a message after an error")
            if isinstance(message, str):
                raise refused("text where packets are MessagePack; both sides have to use the same parser")
            return _packet_of(_decode(message))
        except RemoteProtocolError:
            self._dead = True
            raise


def _packet_of(value: JSON) -> Packet:
    if not isinstance(value, dict):
        raise refused("a packet that is no map")
    fields = cast("dict[str, JSON]", value)  # `options`, which clients send along, means something to their own encoder only
    number = fields.get("type")
    kind = _TYPES.get(number) if isinstance(number, int) and not isinstance(number, bool) else None
    if kind is None:
        raise refused(f"a packet of unknown type {number!r:.100}")
    nsp = fields.get("nsp")
    if not isinstance(nsp, str):
        raise refused("a packet without a namespace")
    id_ = fields.get("id")
    if id_ is not None and not (id_.__class__ is int and 0 <= id_ <= MAX_ID):
        raise refused(f"a packet with the ack id {id_!r:.100}, which is none")
    return checked(Packet(kind, nsp, fields.get("data"), id_))


def _decode(message: bytes) -> JSON:
    try:
        # Only with these headers are an ArrayBuffer of 1 or 8 bytes and `undefined` or a Date distinct.
        ambiguous = b"\xc7\x01\x00" in message or b"\xc7\x08\x00" in message
        value = _decode_by_headers(message) if ambiguous else _unpack(message)
        _normalize(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise refused(f"a message that is not MessagePack: {error}") from None
    return value


def _extension(code: int, data: memoryview) -> JSON:
    if code != 0:
        return [code, bytes(data)]
    if len(data) == 1:
        return None  # undefined
    return _date(data) if len(data) == 8 else bytes(data)


_unpack: Final = Unpacker(ext_hook=_extension).decode


def _decode_by_headers(message: bytes) -> JSON:
    # msgspec does not tell an extension's header, but gives views into the buffer, so that it can be found in front of them.
    buffer = bytearray(message)
    start = ctypes.addressof(ctypes.c_char.from_buffer(buffer))

    def extension(code: int, data: memoryview) -> JSON:
        if code == 0 and len(data) in (1, 8):
            position = ctypes.addressof(ctypes.c_char.from_buffer(data)) - start
            if buffer[position - 3] == 0xC7 and buffer[position - 2] == len(data):
                return bytes(data)
        return _extension(code, data)

    return Unpacker(ext_hook=extension).decode(buffer)


def _date(data: memoryview) -> datetime | None:
    milliseconds = int.from_bytes(data, signed=True)
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:  # before the year 1 or after 9999
        return None


def _normalize(root: JSON) -> None:
    """Make keys strings, as JavaScript does, and refuse what nests too deeply."""
    if _is_plain(root, 0) or root.__class__ not in _CONTAINERS:
        return
    level: list[JSON] = [root]
    for _ in range(MAX_DEPTH_IN + 1):
        deeper: list[JSON] = []
        for container in level:
            values = container
            if container.__class__ is dict:
                if not _STRINGS.issuperset(map(type, container)):
                    _rename(container)
                values = container.values()
            if not _CONTAINERS.isdisjoint(map(type, values)):
                deeper += [item for item in values if item.__class__ in _CONTAINERS]
        if not deeper:
            return
        level = deeper
    raise ValueError("depth limit exceeded")


def _rename(container: dict[JSON, JSON]) -> None:
    items = list(container.items())
    container.clear()
    for key, item in items:
        name = property_name(key)
        if name is None:
            raise ValueError(f"a key that is {type(key).__name__}")
        container[name] = item
