"""All Engine.IO sessions of a server, by sid, with what they share: deadlines and the flusher."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import secrets
from collections.abc import Callable
from typing import Protocol

from mizzen.options import ServerOptions
from mizzen.ports import Consumer
from mizzen.protocol.encoded import Encoded
from mizzen.protocol.engine import Due, Link, State
from mizzen.server.connection import Connection
from mizzen.server.deadlines import Clock, Deadlines
from mizzen.server.flusher import Flusher
from mizzen.types import Handshake, Reason

DRAIN_TIME = 30.0
"""Seconds that a closing session waits for a poll to hand out what is left; as engine.io does."""


STALL_TIME = 600.0
"""Seconds that a connection whose reading is stopped may go without any of its handlers ending."""


class Loop(Clock, Protocol):
    """What sessions need of the event loop."""

    def call_soon(self, callback: Callable[[], None], /) -> object: ...


class Sessions:
    """Makes, finds and forgets connections.

    `accept` is called with each new connection and gives what takes its messages: Socket.IO, or any other consumer. `shut_down` is called
    when the ASGI server closes a connection because it stops. `on_open` is called with each connection once it is open, before anything is
    received over it; it never raises.
    """

    def __init__(
        self,
        options: ServerOptions,
        loop: Loop,
        accept: Callable[[Connection], Consumer],
        shut_down: Callable[[], None] | None = None,
    ) -> None:
        self.options = options
        self.accepting = True
        self.connections: dict[str, Connection] = {}
        self.flusher: Flusher = Flusher(loop.call_soon)
        self.on_open: Callable[[Connection], None] | None = None
        first = options.initial_packet
        self.initial_packet: Encoded | None = None
        if first is not None:
            self.initial_packet = Encoded(b"4" + first.encode()) if isinstance(first, str) else Encoded(None, (first,))
        interval, timeout = options.ping_interval, options.ping_timeout
        waits_for_pong = Deadlines(loop, timeout, Connection.overdue)
        self.heartbeats: dict[Due, Deadlines[Connection]] = {
            Due.INTERVAL: Deadlines(loop, interval, Connection.overdue),
            Due.TIMEOUT: waits_for_pong,
            Due.EXTENSION: waits_for_pong,
            Due.SILENCE: Deadlines(loop, interval + timeout, Connection.overdue),
        }
        self.stalled: Deadlines[Connection] = Deadlines(loop, STALL_TIME, Connection.stall)
        self.draining: Deadlines[Connection] = Deadlines(loop, DRAIN_TIME, self._drained)
        self._accept = accept
        self.shut_down: Callable[[], None] = shut_down or self.end_all
        self._emptied: asyncio.Event | None = None
        self._count = secrets.randbits(24)

    def __len__(self) -> int:
        return len(self.connections)

    def get(self, sid: str) -> Connection | None:
        return self.connections.get(sid)

    def create(self, handshake: Handshake, eio: int, link: Link, sid: str | None = None) -> Connection:
        """Make a connection; it lives from `start` on. `sid` is its id, if users make them: one that no other connection has."""
        connection = Connection(self, self.new_id() if sid is None else sid, handshake, eio, link)
        connection.consumer = self._accept(connection)
        self.connections[connection.sid] = connection
        return connection

    def remove(self, connection: Connection) -> None:
        """Forget a connection that is gone."""
        self.connections.pop(connection.sid, None)
        self.draining.disarm(connection)
        if not self.connections and self._emptied is not None:
            self._emptied.set()

    def end_all(self) -> None:
        """End every session at once."""
        for connection in list(self.connections.values()):
            connection.lost(Reason.SERVER_SHUTTING_DOWN)

    def forget_idle(self) -> None:
        """End the closing sessions that wait for a poll which would tell their client nothing but that they are closing."""
        for connection in list(self.connections.values()):
            if connection.engine.state is State.CLOSING and not connection.unsent and not connection.transport.sending:
                connection.lost(Reason.SERVER_SHUTTING_DOWN)

    async def emptied(self, timeout: float) -> None:
        """Wait until no connection is left, for at most `timeout` seconds."""
        if self.connections and timeout > 0:
            self._emptied = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._emptied.wait(), timeout)

    def new_id(self) -> str:
        """Make an id: 20 characters, as Node's, of which the last 4 count up so that no two are the same."""
        self._count = (self._count + 1) & 0xFFFFFF
        return base64.urlsafe_b64encode(secrets.token_bytes(12) + self._count.to_bytes(3, "big")).decode("ascii")

    def open_packet(self, connection: Connection) -> bytes:
        """Give the open packet: exactly these five fields, times in milliseconds."""
        options = self.options
        may_upgrade = connection.engine.link is Link.POLLING and options.allow_upgrades and "websocket" in options.transports
        fields = {
            "sid": connection.sid,
            "upgrades": ["websocket"] if may_upgrade else [],
            "pingInterval": round(options.ping_interval * 1000),
            "pingTimeout": round(options.ping_timeout * 1000),
            "maxPayload": options.max_payload,
        }
        return b"0" + json.dumps(fields, separators=(",", ":")).encode("ascii")

    @staticmethod
    def _drained(connection: Connection) -> None:
        connection.lost(Reason.TRANSPORT_CLOSE, "nobody came for what was left")
