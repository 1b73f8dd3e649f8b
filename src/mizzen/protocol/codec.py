"""Socket.IO packets (protocol revision 5) as text with JSON and binary attachments.

    <type>[<# of attachments>-][<namespace>,][<ack id>][JSON]

socket.io 2 clients (revision 4) write events and acks the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from mizzen.errors import RemoteProtocolError
from mizzen.protocol.encoded import Encoded
from mizzen.protocol.javascript import dumps, loads
from mizzen.protocol.packet import (
    ACK,
    BINARY_ACK,
    BINARY_EVENT,
    CONNECT,
    DISCONNECT,
    EVENT,
    RESERVED_EVENTS,
    Packet,
    PacketType,
)
from mizzen.types import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mizzen.types import JSON

MAX_DIGITS: Final = 16
"""How many digits a number in a header may have; 2**53 has 16."""

MAX_ID: Final = 2**53
"""Integers beyond it are not exact in JavaScript, so no peer counts that far."""

_TYPES: Final = {str(int(type_)): type_ for type_ in PacketType}
_LATEST: Final = MAX_DIGITS + 1  # where JSON begins at the latest, behind a type and an id
_DEAD: Final = -1


class JSONCodec:
    """Encodes packets and makes decoders: the parser that `socket.io-parser` is in JavaScript."""

    def encode(self, packet: Packet) -> Encoded:
        """Encode any packet, as an Engine.IO message; raises `TypeError` for data that cannot be sent."""
        kind = packet.type
        if kind is EVENT:
            return self.encode_event(packet.nsp, packet.data, packet.id)
        if kind is ACK:
            return self.encode_ack(packet.nsp, packet.data, packet.id)
        payload = b"" if packet.data is None or kind is DISCONNECT else dumps(packet.data)
        return Encoded(_header(f"4{kind:d}", packet.nsp, None, ()) + payload)

    def encode_event(self, nsp: str, args: Sequence[JSON], id: int | None = None) -> Encoded:
        """Encode an event, whose name is `args[0]`; raises `TypeError` for arguments that cannot be sent."""
        attachments: list[bytes] = []
        data = dumps(args, attachments)
        if nsp == "/" and id is None and not attachments:
            return Encoded(b"42" + data)
        return Encoded(_header("45" if attachments else "42", nsp, id, attachments) + data, attachments)

    def encode_ack(self, nsp: str, args: Sequence[JSON], id: int | None) -> Encoded:
        """Encode the answer to an event of this id; raises `TypeError` for arguments that cannot be sent."""
        attachments: list[bytes] = []
        data = dumps(args, attachments)
        if nsp == "/" and id is not None and not attachments:
            return Encoded(b"43%d%b" % (id, data))
        return Encoded(_header("46" if attachments else "43", nsp, id, attachments) + data, attachments)

    def decoder(self, max_attachments: int = 10) -> Decoder:
        """Make the decoder of one connection; `max_attachments` bounds the binary attachments of a packet."""
        return Decoder(max_attachments)


def _header(start: str, nsp: str, id: int | None, attachments: Sequence[bytes]) -> bytes:
    header = f"{start}{len(attachments)}-" if attachments else start
    # "the namespace (if different than the main namespace ("/")), followed by a comma"
    if nsp != "/":
        header = f"{header}{nsp},"
    return (header if id is None else f"{header}{id}").encode()


class Decoder:
    """Puts the packets of one connection together from its messages.

    After an error it is dead: the connection is to be closed, and each further message raises again.
    """

    __slots__ = ("_attachments", "_max_attachments", "_missing", "_packet")

    def __init__(self, max_attachments: int = 10) -> None:
        self._max_attachments = max_attachments
        self._missing = 0
        self._packet: Packet | None = None
        self._attachments: list[bytes] = []

    def feed(self, message: str | bytes) -> Packet | None:
        """Take one message (text without its Engine.IO type, or an attachment); give the packet that it completes, if any.

        Raises `RemoteProtocolError` with `Reason.FORCED_CLOSE`, and nothing else, for what breaks the protocol.
        """
        try:
            if isinstance(message, str) and not self._missing:
                # Nearly every message is an event or an ack of the main namespace: before its "[" stands at most an id.
                start = message.find("[", 1, _LATEST)
                digit = message[0] if start > 0 else ""
                kind = EVENT if digit == "2" else ACK if digit == "3" else None
                if kind is not None:
                    digits = message[1:start]
                    if not digits or (digits.isascii() and digits.isdecimal()):
                        data = loads(message[start:])
                        packet = Packet(kind, "/", data, int(digits) if digits else None)
                        if kind is EVENT and data:
                            name = data[0]
                            if name.__class__ is str and name not in RESERVED_EVENTS:
                                return packet
                        return checked(packet)
            if not isinstance(message, str):
                return self._feed_attachment(message)
            if self._missing:
                raise refused("text while binary attachments were missing" if self._missing > 0 else "a message after an error")
            return self._feed_text(message)
        except RemoteProtocolError:
            self._missing = _DEAD
            self._packet = None
            self._attachments = []
            raise

    def _feed_text(self, message: str) -> Packet | None:
        kind = _TYPES.get(message[:1])
        if kind is None:
            raise refused(f"a packet of unknown type {message[0]!r}" if message else "an empty packet")
        position = 1
        count = 0
        if kind is BINARY_EVENT or kind is BINARY_ACK:
            count, position = self._attachment_count(message)
            kind = EVENT if kind is BINARY_EVENT else ACK
        nsp = "/"
        if message.startswith("/", position):
            # "0/admin?token=1,": a socket.io 2 client's query is part of what stands before the comma.
            comma = message.find(",", position)
            nsp, position = (message[position:comma], comma + 1) if comma >= 0 else (message[position:], len(message))
        id_, position = _ack_id(message, position)
        if position < len(message):
            packet = Packet(kind, nsp, loads(message[position:]), id_)
            if packet.data is None:
                raise refused(f"a {kind.name} packet with null for its payload")
        else:
            packet = Packet(kind, nsp, None, id_)
        checked(packet)
        if not count:
            return packet
        self._packet = packet
        self._missing = count
        return None

    def _attachment_count(self, message: str) -> tuple[int, int]:
        dash = message.find("-", 1, MAX_DIGITS + 2)
        digits = message[1:dash] if dash > 0 else ""
        if not (digits.isdecimal() and digits.isascii()):
            raise refused("a binary packet without '<number of attachments>-'")
        count = int(digits)
        if count < 1:
            raise refused("a binary packet without attachments")
        if count > self._max_attachments:
            raise refused(f"a packet with {count} attachments where at most {self._max_attachments} are allowed (`max_attachments`)")
        return count, dash + 1

    def _feed_attachment(self, message: bytes) -> Packet | None:
        packet = self._packet
        if packet is None:
            raise refused("a message after an error" if self._missing else "a binary message that no packet announced")
        self._attachments.append(message)
        self._missing -= 1
        if self._missing:
            return None
        _reconstruct(packet.data, self._attachments)
        self._packet = None
        self._attachments = []
        return packet


def _ack_id(message: str, position: int) -> tuple[int | None, int]:
    start, end = position, len(message)
    limit = start + MAX_DIGITS
    while position < end and "0" <= message[position] <= "9":
        position += 1
        if position > limit:
            raise refused(f"an ack id of more than {MAX_DIGITS} digits")
    if position == start:
        return None, position
    id_ = int(message[start:position])
    if id_ > MAX_ID:
        raise refused(f"the ack id {id_}, beyond the integers that JavaScript counts exactly")
    return id_, position


def checked(packet: Packet) -> Packet:
    """Give the packet back if its payload is one that its type may have, as `socket.io-parser` checks it.

    Raises `RemoteProtocolError` with `Reason.FORCED_CLOSE`, for reserved event names too.
    """
    kind, data = packet.type, packet.data
    if kind is EVENT:
        if data.__class__ is not list or not data:
            raise refused("an EVENT whose payload is not an array with the name of the event")
        name = data[0]
        if name.__class__ is str:
            if name in RESERVED_EVENTS:
                raise refused(f"an event with the reserved name {name!r}")
        elif name.__class__ is not int and name.__class__ is not float:
            raise refused("an EVENT whose name is neither a string nor a number")
        return packet
    if kind is ACK:
        valid = isinstance(data, list)
    elif kind is CONNECT:
        valid = data is None or isinstance(data, dict)
    elif kind is DISCONNECT:
        valid = data is None
    else:  # CONNECT_ERROR
        valid = isinstance(data, (str, dict))
    if not valid:
        raise refused(f"a {kind.name} packet with a payload that it may not have")
    return packet


def _reconstruct(root: JSON, attachments: list[bytes]) -> None:
    """Put the attachments where their placeholders stand, in place and without recursion, which hostile nesting would exhaust."""
    stack: list[JSON] = [root]
    while stack:
        container = stack.pop()
        places = enumerate(cast("list[JSON]", container)) if isinstance(container, list) else container.items()
        for place, item in places:
            if isinstance(item, dict):
                found = cast("dict[str, JSON]", item)
                # Assigning to a key that exists does not disturb the iteration.
                if found.get("_placeholder") is True:
                    container[place] = _attachment(found.get("num"), attachments)
                else:
                    stack.append(found)
            elif isinstance(item, list):
                stack.append(item)


def _attachment(num: JSON, attachments: list[bytes]) -> bytes:
    if isinstance(num, int) and not isinstance(num, bool) and 0 <= num < len(attachments):
        return attachments[num]
    raise refused("illegal attachments: a placeholder without its attachment")


def refused(what: str) -> RemoteProtocolError:
    """Make the error of a packet that breaks the protocol."""
    return RemoteProtocolError(f"The peer sent {what}", Reason.FORCED_CLOSE)
