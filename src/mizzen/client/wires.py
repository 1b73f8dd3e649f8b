"""The transports that have names, over HTTP; only a client that asks for one needs aiohttp."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mizzen.client.polling import PollingTransport
from mizzen.client.websocket import WebSocketTransport

if TYPE_CHECKING:
    from mizzen.client.http import HTTP
    from mizzen.client.options import ClientOptions, TransportName
    from mizzen.client.ports import ClientSession, ClientTransport


class Wires:
    """Makes the transports of one client; they share its HTTP side."""

    def __init__(self, options: ClientOptions, http: HTTP) -> None:
        self._options = options
        self._http = http

    def transport(self, name: TransportName, session: ClientSession) -> ClientTransport:
        """Give a transport that is not open yet."""
        if name == "polling":
            return PollingTransport(session, self._http, self._options)
        return WebSocketTransport(session, self._http, self._options)

    def forget(self) -> None:
        """Begin anew: the event loop of what there was is no more."""
        self._http.forget()

    async def close(self) -> None:
        """Let go of the connections that are kept alive."""
        await self._http.close()


def wires_of(options: ClientOptions) -> Wires | None:
    """Give what makes the named transports, or None where none is named. Raises ImportError, which says what to install."""
    if all(callable(each) for each in options.transports):
        return None
    try:
        from mizzen.client.http import HTTP
    except ImportError as error:
        if error.name is not None and error.name.partition(".")[0] not in ("aiohttp", "yarl"):
            raise
        raise ImportError("mizzen.Client needs aiohttp for its connections: pip install 'mizzen[client]'", name=error.name) from error
    return Wires(options, HTTP(options))
