"""One Engine.IO session of the client: the engine, its transport, what waits to be sent, and the heartbeat."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from mizzen.client.upgrade import Upgrade
from mizzen.errors import ConnectFailed, RemoteProtocolError
from mizzen.protocol.encoded import Encoded
from mizzen.protocol.engine import CLOSE_PACKET, Engine, Event, Link, Role, State
from mizzen.types import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mizzen.client.options import ClientOptions
    from mizzen.client.ports import ClientTransport, TransportFactory
    from mizzen.ports import Consumer

logger: Final = logging.getLogger("mizzen.client")

OPENING, OPEN, CLOSING, GONE = State.OPENING, State.OPEN, State.CLOSING, State.GONE
POLLING, PROBING, WEBSOCKET = Link.POLLING, Link.PROBING, Link.WEBSOCKET

LATE: Final = 1.0
"""Seconds by which a deadline is found too late only because the loop was blocked: what has come meanwhile is read first."""

NEVER: Final = float("inf")

CLOSE_TIME: Final = 2.0
"""Seconds that a connection has, when it closes, to send what is queued."""


class Connection:
    """One session, whatever carries its packets: all that is sent goes through `write` and leaves once per turn of the loop.

    `ended` is set when it is over; `reason` and `details` then say why. `in_main` is for Engine.IO 3, where the server puts every
    connection into the main namespace without being asked: None until it has said so.
    """

    __slots__ = (
        *("_answers", "_base_query", "_clock", "_deadline", "_dirty", "_drained", "_expires", "_largest_answer", "_loop", "_opened"),
        *("_options", "_timer", "_upgrade", "base_url", "consumer"),
        *("details", "ended", "engine", "headers", "in_main", "on_heartbeat", "paused", "transport", "unsent"),
    )

    transport: ClientTransport

    def __init__(
        self,
        options: ClientOptions,
        base_url: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        consumer: Consumer,
        clock: Callable[[], float],
    ) -> None:
        self.base_url: str = base_url
        self.headers: dict[str, str] = dict(headers)
        self.consumer: Consumer = consumer
        self.engine: Engine = Engine(Role.CLIENT, options.eio, WEBSOCKET)
        self.ended: asyncio.Event = asyncio.Event()
        self.details: str | None = None
        self.in_main: bool | None = None
        self.paused: bool = False
        self.unsent: int = 0
        self.on_heartbeat: Callable[[], None] | None = None
        self._options = options
        self._answers = 0
        self._largest_answer = 0
        self._base_query = dict(query)
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._dirty = False
        self._drained: asyncio.Event | None = None
        self._clock = clock
        self._expires = NEVER
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._upgrade: Upgrade | None = None

    # What transports see

    @property
    def eio(self) -> int:
        return self.engine.eio

    @property
    def polling(self) -> bool:
        return self.engine.state in (OPEN, CLOSING) and self.engine.link in (POLLING, PROBING)

    @property
    def max_payload(self) -> int:
        return self.engine.max_payload

    @property
    def silent(self) -> bool:
        return self.engine.reason is Reason.PING_TIMEOUT

    @property
    def gone(self) -> bool:
        """Whether the session is over."""
        return self.engine.state is GONE

    @property
    def reason(self) -> Reason:
        """Why the session is over."""
        return self.engine.reason or Reason.TRANSPORT_CLOSE

    def query(self, transport: str) -> dict[str, str]:
        """Give the query of a request."""
        query = self._base_query | {"EIO": str(self.engine.eio), "transport": transport}
        if self.engine.sid:
            query["sid"] = self.engine.sid
        if self._options.force_base64:
            query["b64"] = "1"
        stamped = self._options.timestamp_requests
        if stamped or (stamped is None and transport == "polling"):
            # Only so that no cache between answers one request with the other's answer.
            query[self._options.timestamp_param] = f"{int(self._loop.time() * 1e6):x}"
        return query

    def receive(self, packet: str | bytes) -> None:
        """Take one Engine.IO packet; never raises."""
        engine = self.engine
        if engine.state is OPEN and packet.__class__ is str and packet[:1] == "4":
            # What `engine.receive` does with a text message, which nearly every packet is.
            engine.heard = True
            self.consumer.received(packet[1:])
            return
        if engine.state is GONE:
            return
        opening = engine.state is OPENING
        try:
            message = engine.receive(packet)
        except RemoteProtocolError as error:
            self.lost(error.reason, str(error))
            return
        if message is not None:
            self.consumer.received(message)
        elif self.gone:
            self._end("the server closed the session")
        else:
            if opening and engine.state is OPEN:
                # Now, as the server's first packets may have come together with the open packet.
                self.consumer.opened()
                if not self._opened.done():
                    self._opened.set_result(None)
            elif engine.due is not None and self.on_heartbeat is not None:
                self.on_heartbeat()
            self._follow()

    def receive_all(self, packets: Sequence[str | bytes]) -> None:
        """Take packets that came at once; what is written meanwhile leaves at the end, without another turn of the loop."""
        self._dirty = True
        try:
            for packet in packets:
                self.receive(packet)
        finally:
            self.flush()

    def ready(self) -> None:
        """Send on: the transport can take packets again."""
        self.flush()
        self._wake_drained()

    def lost(self, reason: Reason, details: str) -> None:
        """End the session: its wire is gone, or what came over it cannot be borne."""
        if self.engine.state is OPENING:
            if not self._opened.done():
                self._opened.set_exception(ConnectFailed(details))
        elif self.engine.state is not GONE:
            self.engine.transition(Event.LINK_LOST, reason)
            self._end(details)

    # Opening and closing

    async def open(self, factories: Sequence[TransportFactory]) -> None:
        """Reach the server by the first transport that can. Raises ConnectFailed, caused by an ExceptionGroup if several could not."""
        failures: list[ConnectFailed] = []
        for factory in factories:
            try:
                await self._open(factory)
            except ConnectFailed as failure:
                failures.append(failure)
            else:
                return
        if len(failures) == 1:
            raise failures[0]
        told = "; ".join(str(failure) for failure in failures)
        raise ConnectFailed(told) from ExceptionGroup("no transport could reach the server", failures)

    async def _open(self, factory: TransportFactory) -> None:
        self.transport = transport = factory(self)
        self.engine = Engine(Role.CLIENT, self._options.eio, POLLING if transport.name == "polling" else WEBSOCKET)
        self._opened = self._loop.create_future()
        limit = self._options.connect_timeout
        try:
            async with asyncio.timeout(limit):
                await transport.open()
                await self._opened
        except TimeoutError:
            if self.engine.state is OPEN:
                return  # the session is, whatever the transport still waits for
            failure = ConnectFailed(f"{transport.name}: no session with {self.base_url} was opened within {limit:g} s (connect_timeout)")
            await self._abandon(transport)
            raise failure from None
        except ConnectFailed as failure:
            if self.engine.state is OPENING:
                await self._abandon(transport)
                raise
            self.lost(Reason.TRANSPORT_ERROR, str(failure))  # it was open, if not for long
        except BaseException:
            await self._abandon(transport)
            raise

    async def _abandon(self, transport: ClientTransport) -> None:
        if not self._opened.cancel() and not self._opened.cancelled():
            self._opened.exception()  # it has been told, or nobody asks any more
        was_open = self.engine.state is OPEN
        self.engine.state = GONE
        self._disarm()
        if was_open:
            self._end("given up")
        await transport.close()

    def upgrade(self, factory: TransportFactory) -> None:
        """Begin to move from polling to WebSocket."""
        self._upgrade = Upgrade(self, factory, self._options.connect_timeout)

    async def close(self) -> None:
        """Close gracefully: send what is queued, tell the server, and let go of the wire."""
        engine = self.engine
        if self._upgrade is not None:
            await self._upgrade.cancel()
        if engine.state is OPEN:
            if self.transport.name == "polling":
                engine.out.append(CLOSE_PACKET)
            engine.transition(Event.DRAIN, Reason.FORCED_CLOSE)
            self.flush()
            try:
                async with asyncio.timeout(CLOSE_TIME):
                    await self.drained()
            except TimeoutError:
                logger.debug("what was queued for %s could not be sent before it closed", self.base_url)
            if not self.gone:
                engine.transition(Event.DRAINED)
            self._end("closed by this side")
        self._disarm()
        await self.transport.close()

    def _end(self, details: str) -> None:
        """Tell the consumer, once, that the session is over."""
        if self.ended.is_set():
            return
        self.details = details
        self._disarm()
        self.ended.set()
        self._wake_drained()
        if self._upgrade is not None:
            self._upgrade.abort()
        self.consumer.closed(self.reason, details)

    # Heartbeat

    def _follow(self) -> None:
        """Do what the engine left to do: a deadline to set, an answer to send."""
        engine = self.engine
        if engine.due is not None:
            due, engine.due = engine.due, None
            waits = {"interval": engine.ping_interval, "silence": engine.ping_interval + engine.ping_timeout}
            self._arm(waits.get(due.value, engine.ping_timeout))
            self._expires = self._clock() + engine.ping_interval + engine.ping_timeout
        if engine.out:
            self._mark()

    def _arm(self, seconds: float) -> None:
        self._deadline = self._loop.time() + seconds
        timer = self._timer
        if timer is not None:
            if timer.when() <= self._deadline:
                return  # it finds the deadline moved when it fires
            timer.cancel()
        self._timer = self._loop.call_at(self._deadline, self._fire)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        now = self._loop.time()
        if self._deadline > now:
            self._timer = self._loop.call_at(self._deadline, self._fire)
        elif now > self._deadline + LATE:
            logger.warning(
                "the event loop was blocked for %.1f s; a handler that computes for long should be a plain function", now - self._deadline
            )
            self._deadline = now
            self._timer = self._loop.call_later(0.001, self._fire)  # after what has come meanwhile is read
        elif self.engine.state in (OPEN, CLOSING) and not self.paused:
            self.engine.overdue()
            if self.gone:
                self._silent()
            else:
                self._follow()

    def alive(self) -> bool:
        """Say whether the server may know this session still. If it cannot, as its last ping is too long ago, the session ends soon.

        The timer finds that out too, but later: it does not count the time in which the machine slept, and waits while the loop is blocked.
        """
        if self._clock() <= self._expires:
            return True
        if not self.gone:
            self.engine.transition(Event.HEARTBEAT_OVERDUE, Reason.PING_TIMEOUT)
            self._loop.call_soon(self._silent)  # not while somebody sends
        return False

    def _silent(self) -> None:
        seconds = self.engine.ping_interval + self.engine.ping_timeout
        self._end(f"the server was not heard of for {seconds:g} s")

    # Out

    def write(self, encoded: Encoded) -> None:
        """Queue a packet: it leaves at the end of the loop's turn, or when the transport can."""
        if self.engine.state is OPEN:
            self.engine.out.append(encoded)
            self.unsent += encoded.size
            if not self._dirty:
                self._dirty = True
                self._loop.call_soon(self.flush)

    def write_now(self, encoded: Encoded) -> None:
        """Do as `write`, but without waiting for the end of the turn: the writer has nothing else to send."""
        if self._dirty:
            self.write(encoded)
        elif self.engine.state is OPEN:
            self.engine.out.append(encoded)
            self.unsent += encoded.size
            self.flush()

    def answer(self, encoded: Encoded) -> None:
        """Do as `write`, with what the server has asked for: one that asks, and does not read the answers, is given up."""
        self.write(encoded)
        self._answers += encoded.size
        self._largest_answer = max(self._largest_answer, encoded.size)
        limit = self._options.max_buffer
        # One whole message always fits, so only what waits besides the largest one counts.
        if self._answers - self._largest_answer > limit:
            told = f"the server does not read: {self._answers} bytes of answers to what it asked wait to be sent (max_buffer={limit})"
            self.lost(Reason.TRANSPORT_ERROR, told)

    @property
    def writable(self) -> bool:
        """Whether a packet could be sent now; never during an upgrade."""
        engine = self.engine
        if engine.state is not OPEN or engine.link not in (POLLING, WEBSOCKET):
            return False
        # Packets of this turn do not count.
        return self.transport.writable and (self._dirty or not engine.out)

    def _mark(self) -> None:
        if not self._dirty:
            self._dirty = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Hand to the transport what it takes."""
        self._dirty = False
        engine = self.engine
        out = engine.out
        if out and engine.state in (OPEN, CLOSING) and engine.link is not Link.PAUSING:
            before = len(out)
            self.transport.flush(out)
            if not out:
                self.unsent = self._answers = self._largest_answer = 0
            elif len(out) < before:
                self.unsent = sum([encoded.size for encoded in out])
                self._answers = min(self._answers, self.unsent)
        if self._drained is not None:
            self._wake_drained()

    async def drained(self) -> None:
        """Wait until everything that was written has been handed to the network, or the session is over."""
        while self.engine.state in (OPEN, CLOSING) and (self.engine.out or self.transport.buffered):
            if self._drained is None:
                self._drained = asyncio.Event()
            await self._drained.wait()

    def _wake_drained(self) -> None:
        if self._drained is not None and (self.engine.state is GONE or not (self.engine.out or self.transport.buffered)):
            self._drained.set()
            self._drained = None

    # In, when handlers cannot keep up

    def pause(self) -> None:
        """Stop reading, and with it the heartbeat, until `resume`."""
        self.paused = True
        self.transport.pause_reading()
        self.engine.suspend()
        self._expires = NEVER
        self._disarm()

    def resume(self) -> None:
        """Read on."""
        self.paused = False
        self.transport.resume_reading()
        if self.engine.state is OPEN:
            self.engine.resume()
            self._follow()
