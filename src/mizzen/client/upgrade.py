"""The move from polling to WebSocket, while messages go on both ways."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

from mizzen.errors import ConnectFailed
from mizzen.protocol.encoded import Encoded
from mizzen.protocol.engine import PROBE_PING, PROBE_PONG, UPGRADE_PACKET, Event, Link, State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mizzen.client.connection import Connection
    from mizzen.client.ports import TransportFactory
    from mizzen.types import Reason

logger: Final = logging.getLogger("mizzen.client")


class Probe:
    """What the new transport takes for its session until it carries the connection."""

    def __init__(self, connection: Connection) -> None:
        self.base_url: str = connection.base_url
        self.headers: dict[str, str] = connection.headers
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.over: bool = False
        self._connection = connection

    @property
    def eio(self) -> int:
        return self._connection.eio

    @property
    def polling(self) -> bool:
        return False

    @property
    def max_payload(self) -> int:
        return self._connection.max_payload

    @property
    def silent(self) -> bool:
        return self._connection.silent

    def query(self, transport: str) -> dict[str, str]:
        return self._connection.query(transport)

    def receive(self, packet: str | bytes) -> None:
        if packet == PROBE_PONG and not self.answered.done():
            self.answered.set_result(None)

    def receive_all(self, packets: Sequence[str | bytes]) -> None:
        for packet in packets:
            self.receive(packet)

    def ready(self) -> None: ...

    def lost(self, reason: Reason, details: str) -> None:
        self.over = True
        if not self.answered.done():
            self.answered.set_exception(ConnectFailed(details))


class Upgrade:
    """One attempt to upgrade; a failure leaves the connection on polling, as it was."""

    __slots__ = ("_connection", "_factory", "_limit", "_task")

    def __init__(self, connection: Connection, factory: TransportFactory, limit: float) -> None:
        self._connection = connection
        self._factory = factory
        self._limit = limit
        self._task = asyncio.get_running_loop().create_task(self._run(), name="mizzen-upgrade")

    def abort(self) -> None:
        """Give up soon."""
        self._task.cancel()

    async def cancel(self) -> None:
        """Give up, and wait until nothing is left of it."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait((self._task,))

    async def _run(self) -> None:
        connection, engine = self._connection, self._connection.engine
        probe = Probe(connection)
        transport = self._factory(probe)
        carried = False
        try:
            engine.transition(Event.PROBE)
            async with asyncio.timeout(self._limit):
                await transport.open()
                transport.flush([Encoded(PROBE_PING.encode())])
                await probe.answered
                engine.transition(Event.PROBE_ANSWERED)
                # "client waits for its poll to finish, sends `5`": nothing more may come or go by polling then
                await connection.transport.idle()
            if engine.state is State.OPEN and not probe.over:
                engine.transition(Event.UPGRADE)
                polling, connection.transport = connection.transport, transport
                transport.session = connection
                carried = True
                transport.flush([UPGRADE_PACKET])
                if connection.paused:
                    transport.pause_reading()
                connection.flush()
                await polling.close()
        except (ConnectFailed, TimeoutError) as error:
            logger.debug("the upgrade to WebSocket failed, the connection stays on polling: %s", error)
        finally:
            if not carried:
                probe.answered.cancel()
                if probe.answered.done() and not probe.answered.cancelled():
                    probe.answered.exception()
                if engine.state is not State.GONE and engine.link in (Link.PROBING, Link.PAUSING):
                    engine.transition(Event.PROBE_LOST)
                    connection.transport.resume_reading()  # which polls on, if it had paused
                    connection.flush()
                await transport.close()
