"""The one error of everything that a client can get wrong in a socket request."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING

from mizzen.errors import MizzenError

if TYPE_CHECKING:
    from mizzen.types import JSON

_CODE = "SAILS:HOOK:SOCKETS:PARSE_VIRTUAL_REQ"
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 100
_short.maxlevel = 2


class RequestInvalid(MizzenError):
    """The client's event is not a request that HTTP could carry.

    `payload` is what the client is told, as the ack or, where there is none to answer, as the event `sails:parseError`: Sails' own parse
    error, less the stack, and made a JWR by `body`, `headers` and `statusCode`, without which sails.io.js takes it for a success.
    """

    def __init__(self, details: str) -> None:
        super().__init__(details)
        self.payload: dict[str, JSON] = {
            "code": _CODE,
            "name": f"Error ({_CODE}):",
            "status": 400,
            "statusCode": 400,
            "message": "Failed to parse incoming socket.io request.",
            "details": details,
            "body": details,
            "headers": {},
        }


def shown(value: object) -> str:
    """Give a value as an error message shows it: short, whatever it is."""
    try:
        return _short.repr(value)
    except ValueError:  # an int of more digits than Python writes
        return f"a {type(value).__name__}"
