"""The types of Engine.IO packets: the first character of each text packet.

Between a transport and the engine a packet is one `str`, its type digit first, or one `bytes`: a binary message as the user sent it,
without the type byte that Engine.IO 3 puts before it on the wire.
"""

from __future__ import annotations

from binascii import a2b_base64
from typing import Final, NamedTuple

from mizzen.errors import RemoteProtocolError
from mizzen.types import Reason

OPEN: Final = "0"
CLOSE: Final = "1"
PING: Final = "2"
PONG: Final = "3"
MESSAGE: Final = "4"
UPGRADE: Final = "5"
NOOP: Final = "6"

TYPES: Final[frozenset[str]] = frozenset((OPEN, CLOSE, PING, PONG, MESSAGE, UPGRADE, NOOP))
"""Every type that a text packet may start with."""

MESSAGE_BYTE: Final = b"\x04"
"""What Engine.IO 3 puts before a binary message, on WebSocket and in binary payloads: the type as a number, not as a digit."""


_NAMES = {OPEN: "open", CLOSE: "close", PING: "ping", PONG: "pong", MESSAGE: "message", UPGRADE: "upgrade", NOOP: "noop"}


class EnginePacket(NamedTuple):
    """One Engine.IO packet: its type by name (`message`, `ping` …) and what it carries, bytes for a binary message."""

    type: str
    data: str | bytes = ""

    @classmethod
    def parse(cls, packet: str) -> EnginePacket:
        """Make one of a text packet with its type digit."""
        return cls(_NAMES.get(packet[:1], "error"), packet[1:])


def decode_base64(packet: str, eio: int) -> bytes:
    """Decode a text packet that starts with `b`: a binary message where the wire carries only text.

    Raises `RemoteProtocolError` with `Reason.PARSE_ERROR` unless it is base64 with its padding (`b4…` for Engine.IO 3).
    """
    # "an identifier `b` is put before a packet encoding that contains binary data": in Engine.IO 3 the type follows it.
    if eio == 3 and packet[1:2] != MESSAGE:
        raise RemoteProtocolError("The peer sent a base64 packet that is not a message", Reason.PARSE_ERROR)
    text = packet[2 if eio == 3 else 1 :]
    try:
        # Some versions of `strict_mode` let more padding than is due pass, which the length and the last four tell.
        if not len(text) % 4 and not text.endswith("==="):
            return a2b_base64(text, strict_mode=True)
    except ValueError:  # binascii.Error is one, and so is text that is not ASCII
        pass
    raise RemoteProtocolError("The peer sent a binary packet that is not base64", Reason.PARSE_ERROR)
