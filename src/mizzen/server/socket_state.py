"""How far a socket is, and what of it happens one after another."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from mizzen.types import Reason

RECOVERABLE = frozenset(Reason) - {Reason.SERVER_NAMESPACE_DISCONNECT, Reason.CLIENT_NAMESPACE_DISCONNECT, Reason.PARSE_ERROR}
"""Why a socket may be gone whose client may have it back, as in the Node server."""


class SocketState(Enum):
    """How far a socket is: middleware decides on it, its `connect` handlers do, its CONNECT packet has been written, or it is gone.

    While it is ARRIVING the adapter does not know it: it is nobody's to list, to broadcast to, or to put into rooms.
    """

    ARRIVING = "arriving"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    GONE = "gone"


ARRIVING, CONNECTING, CONNECTED, GONE = SocketState.ARRIVING, SocketState.CONNECTING, SocketState.CONNECTED, SocketState.GONE


class Turn(Enum):
    """What of one socket happens one after another: its middleware, its `ordered` handlers, its plain handlers (in threads)."""

    MIDDLEWARE = "middleware"
    ORDERED = "ordered"
    THREAD = "thread"


class Pass(NamedTuple):
    """By what a client proves that it may have this socket back: the secret, and what had been sent when it connected."""

    pid: str
    since: str
