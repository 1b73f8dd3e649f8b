"""One Socket.IO packet (protocol revision 5)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from msgspec import Struct

from mizzen.types import JSON


class PacketType(IntEnum):
    """The type of a Socket.IO packet: the first character of its text."""

    CONNECT = 0
    DISCONNECT = 1
    EVENT = 2
    ACK = 3
    CONNECT_ERROR = 4
    BINARY_EVENT = 5
    BINARY_ACK = 6


# `is EVENT` costs a tenth of `is PacketType.EVENT` where it is asked once per message.
CONNECT: Final = PacketType.CONNECT
DISCONNECT: Final = PacketType.DISCONNECT
EVENT: Final = PacketType.EVENT
ACK: Final = PacketType.ACK
CONNECT_ERROR: Final = PacketType.CONNECT_ERROR
BINARY_EVENT: Final = PacketType.BINARY_EVENT
BINARY_ACK: Final = PacketType.BINARY_ACK

RESERVED_EVENTS: Final[frozenset[str]] = frozenset(
    ("connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener")
)
"""Event names that no peer may send: JavaScript's sockets use them for themselves."""


class Packet(Struct, gc=False):
    """A decoded packet, or one to encode.

    `type` is never BINARY_EVENT or BINARY_ACK: binary data stands in `data` as bytes. `nsp` is the namespace; in a CONNECT of a
    socket.io 2 client it still carries its query string. `id` asks for, or answers, an ack. `data` is

    - EVENT: a list, the event name first; ACK: the list of arguments;
    - CONNECT: a dict (auth, or what the server answers) or None;
    - CONNECT_ERROR: a dict, or a str from a socket.io 2 server; DISCONNECT: None.
    """

    # A struct is made in half the time that a class with slots takes; what it holds is never part of a reference cycle.
    type: PacketType
    nsp: str = "/"
    data: JSON = None
    id: int | None = None

    def __repr__(self) -> str:
        return f"Packet({self.type.name}, {self.nsp!r}, {self.data!r}, id={self.id!r})"
