"""Every error that Mizzen raises.

MizzenError
├─ ProtocolError
│  ├─ LocalProtocolError     you asked for something that the protocol does not allow
│  └─ RemoteProtocolError    the peer sent something that the protocol does not allow
├─ ConnectFailed             the server was never reached
├─ ConnectRefused            the server (or a `connect` handler) said no
├─ EventRefused              a handler does not do what an event asks, and tells the client why
├─ ConnectionClosed          the connection ended while something was waiting for it
├─ RemoteError               the peer's handler answered with an error
├─ StatusError               (mizzen.client) a socket request was answered with a status that is not 2xx
├─ ArgumentsInvalid          the arguments of an event do not fit the handler's annotations
├─ AckTimeout                no ack in time
└─ OptionsError              an option has a value that cannot work
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mizzen.types import JSON, Reason


class MizzenError(Exception):
    """The base of every error that Mizzen raises."""


class ProtocolError(MizzenError):
    """Somebody broke the Engine.IO or Socket.IO protocol."""


class LocalProtocolError(ProtocolError):
    """This side asked for something that the protocol does not allow."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something that the protocol does not allow.

    `reason` is the reason that the connection is closed with.
    """

    def __init__(self, message: str, reason: Reason) -> None:
        super().__init__(message)
        self.reason = reason


class ConnectFailed(MizzenError):
    """The server was never reached."""


class ConnectRefused(MizzenError):
    """The connection to a namespace was refused.

    A `connect` handler or a middleware raises it to refuse; the client's `connect_error` then has `message` and `data`.
    `allow_request` raises it to refuse the handshake itself.
    """

    def __init__(self, message: str = "Forbidden", *, data: JSON = None) -> None:
        super().__init__(message)
        self.message = message
        self.data = data


class EventRefused(MizzenError):
    """An event is not done as asked: a handler or a middleware raises it to tell the client why.

    Its ack is that of a handler which failed (`E_HANDLER`), with this message and these `details`; of any other error nothing is told.
    """

    def __init__(self, message: str, *, details: Sequence[JSON] = ()) -> None:
        super().__init__(message)
        self.details: list[JSON] = list(details)


class ConnectionClosed(MizzenError):
    """The connection ended while something was waiting for it; `reason` says why."""

    def __init__(self, message: str, reason: Reason) -> None:
        super().__init__(message)
        self.reason = reason


class RemoteError(MizzenError):
    """The peer's handler answered with an error ack.

    `code` is `E_ARGUMENTS` or `E_HANDLER`; `details` is what the peer told of it.
    """

    def __init__(self, message: str, *, code: str, details: Sequence[JSON] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.details: list[JSON] = list(details)


class ArgumentsInvalid(MizzenError):
    """The arguments of an event do not fit the handler's annotations.

    `details` has one object for each argument that does not fit: `{"argument": name, "index": position, "message": why}`.
    """

    def __init__(self, message: str, details: Sequence[JSON]) -> None:
        super().__init__(message)
        self.details: list[JSON] = list(details)


class AckTimeout(MizzenError, TimeoutError):
    """No ack came in time.

    `replies` holds the acks of a broadcast that did come.
    """

    def __init__(self, message: str, *, replies: Sequence[JSON] = ()) -> None:
        super().__init__(message)
        self.replies: list[JSON] = list(replies)


class OptionsError(MizzenError, ValueError):
    """An option has a value that cannot work; the message names it and says what would."""
