"""Asking the server for the namespace of a socket: what the CONNECT packet carries, and the answer that is to come."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlencode

from mizzen.errors import ConnectFailed
from mizzen.handling import failure_of
from mizzen.protocol.packet import CONNECT, Packet
from mizzen.types import JSON

if TYPE_CHECKING:
    from mizzen.client.connection import Connection
    from mizzen.client.options import Auth, AuthFunction
    from mizzen.client.socket import ClientSocket

Terms: TypeAlias = "tuple[Auth, str | None]"
"""What a socket is asked for with: its `auth`, and the secret of the session that it wants back."""


class Joining:
    """Asks the server for one socket, on the connection that stands.

    The answer comes whatever becomes of the socket meanwhile, and until then nothing more may be asked: servers close a connection on
    which a second CONNECT follows the first, or have two sockets then. So a socket that is given up and connected again before the answer
    waits for that answer. It counts when the socket would ask the same now, and else the socket asks again after it.
    """

    __slots__ = ("_asked", "_attempt", "_differs", "_socket", "_timer")

    def __init__(self, socket: ClientSocket) -> None:
        self._socket = socket
        self._asked: Terms | None = None
        self._attempt: object = None
        self._differs = False
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, connection: Connection) -> None:
        """Ask, or wait for the answer that is still to come; for as long as `connect_timeout`."""
        limit = self._socket.manager.options.connect_timeout
        self._timer = asyncio.get_running_loop().call_later(limit, self._unanswered, connection, limit)
        if connection.eio == 3 and self._socket.name == "/" and connection.in_main is not False:
            self._asked, self._differs = self._terms(), False  # who connects is in the main namespace without asking, and is told so
        elif self._asked is None:
            self.ask(connection)
        else:
            self._differs = self._asked != self._terms()

    def ask(self, connection: Connection) -> None:
        """Send the CONNECT packet, as soon as it is known what it carries."""
        auth, terms = self._socket.auth, self._terms()
        self._attempt = attempt = object()
        if callable(auth):
            self._socket.manager.dispatcher.tasks.start(self._authenticate(connection, attempt, terms, auth))
        else:
            self._say(connection, terms, auth)

    def answered(self) -> bool | None:
        """Take notice of an answer: say whether it is to what the socket asks for now; None if nothing was asked."""
        asked, self._asked = self._asked, None
        return None if asked is None else not self._differs

    def stop(self) -> None:
        """Ask no more: the socket is connected, or given up. An answer may be to come still."""
        self._attempt = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def lost(self) -> None:
        """Expect no answer any more: the connection is gone."""
        self.stop()
        self._asked = None

    def _terms(self) -> Terms:
        auth = self._socket.auth
        return auth if auth is None or callable(auth) else dict(auth), self._socket.recovery.pid

    async def _authenticate(self, connection: Connection, attempt: object, terms: Terms, auth: AuthFunction) -> None:
        socket = self._socket
        try:
            given = auth()
            if given is not None and not isinstance(given, Mapping):
                given = await given
        except BaseException as caught:
            error = failure_of(caught, "the function")
            failure = ConnectFailed(f"the function that gives `auth` failed: {error!r}")
            failure.__cause__ = error
            socket.manager.dispatcher.report(error, socket, "auth")
            if self._attempt is attempt:
                socket.attempt_failed(connection, failure)
        else:
            if self._attempt is attempt:
                self._say(connection, terms, given)

    def _say(self, connection: Connection, terms: Terms, auth: Mapping[str, JSON] | None) -> None:
        codec, name, recovery = self._socket.manager.codec, self._socket.name, self._socket.recovery
        if connection.eio == 3:  # what is `auth` since, socket.io 2 takes from the query of the namespace
            query = f"?{urlencode(dict(auth))}" if auth else ""
            packet = Packet(CONNECT, name + query)
        else:
            data: dict[str, JSON] | None = None if auth is None else dict(auth)
            if recovery.pid is not None:
                data = {"pid": recovery.pid, **({} if recovery.offset is None else {"offset": recovery.offset}), **(data or {})}
            packet = Packet(CONNECT, name, data)
        try:
            encoded = codec.encode(packet)
        except TypeError as error:
            failure = ConnectFailed(f"`auth` cannot be sent: {error}")
            failure.__cause__ = error
            self._socket.attempt_failed(connection, failure)
            return
        connection.write(encoded)
        self._asked, self._differs = terms, False

    def _unanswered(self, connection: Connection, limit: float) -> None:
        failure = ConnectFailed(f"the server did not answer the CONNECT to {self._socket.name} within {limit:g} s")
        self._socket.attempt_failed(connection, failure)
