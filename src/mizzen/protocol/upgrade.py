"""The HTTP side of a WebSocket handshake, as a server answers it (RFC 6455, 4.2)."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable
from hashlib import sha1
from http import HTTPStatus
from typing import Final, TypeAlias

GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

Headers: TypeAlias = Iterable[tuple[bytes, bytes]]


def accept_key(key: bytes) -> bytes:
    """Give the Sec-WebSocket-Accept header for a Sec-WebSocket-Key (4.2.2)."""
    return b64encode(sha1(key + GUID, usedforsecurity=False).digest())


def is_key(key: bytes) -> bool:
    """Say whether a Sec-WebSocket-Key is one: 16 bytes in base64."""
    try:
        return len(b64decode(key, validate=True)) == 16
    except ValueError:
        return False


def response_head(status: int, headers: Headers) -> bytes:
    """Give the head of an HTTP answer, up to the empty line."""
    lines = [b"HTTP/1.1 %d %b" % (status, _phrase(status))]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode("ascii")
    except ValueError:  # a code that HTTP does not know is allowed, and needs no phrase
        return b""
