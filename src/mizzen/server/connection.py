"""One Engine.IO session on the server: the engine, its transport, and what waits to be sent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from mizzen.errors import RemoteProtocolError
from mizzen.protocol.encoded import Encoded
from mizzen.protocol.engine import CLOSE_PACKET, NOOP_PACKET, Engine, Event, Link, Role, State
from mizzen.protocol.engine_packet import PING, PONG, TYPES, EnginePacket
from mizzen.server.announcer import Announcer
from mizzen.server.nobody import NOBODY, NOWHERE
from mizzen.types import Handshake, Reason

if TYPE_CHECKING:
    from mizzen.ports import Consumer, Transport
    from mizzen.server.deadlines import Deadlines
    from mizzen.server.sessions import Sessions

logger: Final = logging.getLogger("mizzen.server")

OPEN, CLOSING, GONE = State.OPEN, State.CLOSING, State.GONE
PROBING, WEBSOCKET = Link.PROBING, Link.WEBSOCKET
ReadyState: TypeAlias = Literal["opening", "open", "closing", "closed"]
READY_STATES: Final[dict[State, ReadyState]] = {State.OPENING: "opening", OPEN: "open", CLOSING: "closing", GONE: "closed"}


class Connection(Announcer):
    """One client, whatever carries its packets: an Engine.IO session, and the sockets of all its namespaces. `socket.conn` is one.

    `id`, `protocol`, `transport.name` (`polling` or `websocket`), `remote_address`, `ready_state`, `buffered`, `handshake`, `close` and
    `on` are for users; they work on the server's event loop.

    Everything that is to be sent goes through `write` into the engine's `out` and leaves in `flush`, once per turn of the loop. `held` is
    the part of `unsent` (bytes) that does not stand in `out` yet, because its socket's CONNECT packet has to come first.
    """

    __slots__ = (
        *("__weakref__", "_cancel_probe", "_drained", "_heartbeat", "_largest_held", "_resumed", "consumer", "dirty", "engine"),
        *("handshake", "held", "paused", "sessions", "sid", "suspended", "transport", "unsent"),
    )

    transport: Transport
    consumer: Consumer

    def __init__(self, sessions: Sessions, sid: str, handshake: Handshake, eio: int, link: Link) -> None:
        self.sessions: Sessions = sessions
        self.sid: str = sid
        self.handshake: Handshake = handshake
        self.engine: Engine = Engine(Role.SERVER, eio, link)
        self.unsent: int = 0
        self.held: int = 0
        self._largest_held = 0
        self.dirty: bool = False
        self.paused: bool = False
        self.suspended: bool = False  # whether the heartbeat ever was
        self._heartbeat: Deadlines[Connection] | None = None
        self._resumed: asyncio.Event | None = None
        self._cancel_probe: Callable[[], None] | None = None
        self._drained: asyncio.Event | None = None
        self._listeners = None

    def __repr__(self) -> str:
        return f"<Connection {self.sid} {self.engine.state.value} on {self.engine.link.value}>"

    @property
    def id(self) -> str:
        """The id of the session. Who knows it can speak in the client's place: never show it to anybody else."""
        return self.sid

    @property
    def protocol(self) -> int:
        """The version of Engine.IO: 4, or 3 for socket.io-client 1 and 2."""
        return self.engine.eio

    @property
    def remote_address(self) -> str | None:
        """The host of the client, as the ASGI server reports it."""
        return self.handshake.address

    @property
    def ready_state(self) -> ReadyState:
        """How far the connection is: `opening`, `open`, `closing` (what is left is being sent) or `closed`."""
        return READY_STATES[self.engine.state]

    @property
    def buffered(self) -> int:
        """Bytes that wait to be sent."""
        return self.unsent + self.transport.buffered

    @property
    def eio(self) -> int:
        return self.engine.eio

    @property
    def gone(self) -> bool:
        return self.engine.state is GONE

    @property
    def upgradable(self) -> bool:
        return self.engine.state is OPEN and self.engine.link is Link.POLLING

    @property
    def probing(self) -> bool:
        return self.engine.link is PROBING

    def start(self, transport: Transport) -> None:
        """Open the session on its first transport."""
        self.transport = transport
        sessions = self.sessions
        self.engine.out.append(Encoded(sessions.open_packet(self)))
        if sessions.initial_packet is not None:
            self.engine.out.append(sessions.initial_packet)
        self._mark()
        self.engine.opened()
        self._arm()
        if sessions.on_open is not None:
            sessions.on_open(self)
        self.consumer.opened()

    # In

    def receive_all(self, packets: Iterable[str | bytes]) -> None:
        """Take the packets of one read; what they are answered with at once leaves in one write, now. Never raises."""
        self.dirty = True  # so that nothing marks it for the flusher
        engine = self.engine
        try:
            for packet in packets:
                if packet.__class__ is str and packet and packet[0] == "4" and self._listeners is None:
                    # What `engine.receive` does with a text message, which nearly every packet is; who is not open has no consumer.
                    engine.heard = True
                    self.consumer.received(packet[1:])
                else:
                    self._receive(packet)
        finally:
            self.flush()

    def _receive(self, packet: str | bytes) -> None:
        if self.gone:
            return
        try:
            message = self.engine.receive(packet)
        except RemoteProtocolError as error:
            self.lost(error.reason, str(error))
            return
        if message is not None:
            if self._listeners is not None:
                self._announce("packet", EnginePacket("message", message))
            self.consumer.received(message)
        elif self.gone:
            self._gone(None, NOOP_PACKET)
        else:
            self._follow()
            if self._listeners is not None and packet[:1] in TYPES:
                self._announce("packet", EnginePacket.parse(str(packet)))
                if packet[:1] in (PING, PONG):
                    self._announce("heartbeat")

    def _follow(self) -> None:
        """Do what the engine left to do: a deadline to set, an answer to send."""
        if self.engine.due is not None:
            self._arm()
        if self.engine.out:
            self._mark()

    def pause(self) -> None:
        """Stop reading, and with it the heartbeat, until `resume`."""
        self.paused = self.suspended = True
        self.transport.pause_reading()
        self.engine.suspend()
        self.sessions.stalled.arm(self)
        if self._heartbeat is not None:
            self._heartbeat.disarm(self)

    def progressed(self) -> None:
        """Take notice that a handler has ended while reading is stopped, so that it may still go on."""
        self.sessions.stalled.arm(self)

    def stall(self) -> None:
        """End the session: none of its handlers ends, perhaps because each waits for an ack that lies unread behind what they hold up."""
        self.lost(Reason.TRANSPORT_ERROR, "none of its handlers ended for too long, and more waits for them than may")

    def resume(self) -> None:
        """Read on."""
        self._wake_reader()
        if self.engine.state is OPEN:
            self.engine.resume()
            self._arm()

    async def readable(self) -> None:
        """Wait until more may be received."""
        while self.paused:
            if self._resumed is None:
                self._resumed = asyncio.Event()
            await self._resumed.wait()

    # Out

    def write(self, encoded: Encoded) -> None:
        """Queue a packet: it leaves at the end of the loop's turn, or when the transport can."""
        engine = self.engine
        if engine.state is not OPEN:
            return
        engine.out.append(encoded)
        self.unsent += encoded.size
        if not self.dirty:
            self.dirty = True
            self.sessions.flusher.mark(self)

    def write_volatile(self, encoded: Encoded) -> None:
        """Queue a packet unless it could not be sent now."""
        if self.transport.writable and self.engine.link is not PROBING:
            self.write(encoded)

    def hold(self, size: int) -> None:
        """Count bytes that wait for a CONNECT packet; negative: they wait no longer."""
        self.held += size
        self._largest_held = max(self._largest_held, size) if self.held else 0
        self.unsent += size
        self._mark()

    def _mark(self) -> None:
        if not self.dirty:
            self.dirty = True
            self.sessions.flusher.mark(self)

    def flush(self) -> None:
        """Give the transport what is queued, if it can take it; end a connection that cannot keep up. Never raises.

        The flusher calls it, and the transport when it can take packets again.
        """
        self.dirty = False
        engine = self.engine
        out = engine.out
        try:
            if out and self.transport.flush(out):
                engine.out = []
                self.unsent = self.held
                if self._listeners is not None:
                    self._announce_sent(out)
        except Exception:
            logger.exception("connection %s from %s closed: what it was sent could not be written", self.sid, self.handshake.address)
            self.lost(Reason.TRANSPORT_ERROR, "what was sent could not be written")
            return
        waits = engine.out or self.transport.sending
        if (waits or self.held) and self._overflows():
            self.lost(Reason.TRANSPORT_ERROR, "slow consumer")
        elif waits:
            pass
        elif engine.state is CLOSING:
            engine.transition(Event.DRAINED)
            self._gone(None, CLOSE_PACKET)
        elif self._drained is not None:
            self._wake_drained()

    async def drained(self) -> None:
        """Wait until nothing waits to be sent, or the session is gone."""
        while self.engine.state is not GONE and (self.engine.out or self.transport.sending):
            if self._drained is None:
                self._drained = asyncio.Event()
            await self._drained.wait()

    def _wake_drained(self) -> None:
        if self._drained is not None:
            self._drained.set()
            self._drained = None

    def _overflows(self) -> bool:
        limit = self.sessions.options.max_buffer
        if self.unsent + self.transport.buffered <= limit:
            return False
        # One whole message always fits, so only what waits besides the largest one counts.
        largest = max([self._largest_held, *[encoded.size for encoded in self.engine.out]])
        return self.unsent + self.transport.buffered - largest > limit

    # Upgrade

    def probe(self, cancel: Callable[[], None]) -> None:
        """Begin an upgrade; `cancel` is called when the session ends before the upgrade does."""
        self.engine.transition(Event.PROBE)
        self._cancel_probe = cancel

    def probe_lost(self) -> None:
        """Stay on polling: the probe failed."""
        self._cancel_probe = None
        if self.engine.link is PROBING and self.engine.state is not GONE:
            self.engine.transition(Event.PROBE_LOST)
            self.flush()

    def upgraded(self, transport: Transport) -> None:
        """Move to the new transport; `out` stays where it is, so nothing is lost or reordered."""
        self.engine.transition(Event.UPGRADE)
        self._cancel_probe = None
        self.transport = transport
        if self.paused:
            transport.pause_reading()
        if self._listeners is not None:
            self._announce("upgrade", transport.name)
        self.flush()

    # The end

    def close(self, reason: Reason = Reason.FORCED_CLOSE, details: str | None = None) -> None:
        """End the connection, and with it its sockets: no more messages come; what is queued is still sent."""
        if self.engine.state is not OPEN:
            return
        self.engine.transition(Event.DRAIN, reason)
        if self.engine.link is not WEBSOCKET:
            self.engine.out.append(CLOSE_PACKET)
        self.sessions.draining.arm(self)
        self._wake_reader()
        self._mark()
        self._tell(details)

    def shut_down(self) -> None:
        """The ASGI server stops: have the server of this session closed."""
        self.sessions.shut_down()

    def lost(self, reason: Reason, details: str | None = None) -> None:
        """End the session at once: the wire is gone, or what came over it cannot be borne."""
        if self.engine.state is not GONE:
            self.engine.transition(Event.LINK_LOST, reason)
            self._gone(details, CLOSE_PACKET)

    def overdue(self) -> None:
        """Take notice that the heartbeat's deadline has passed."""
        self.engine.overdue()
        if self.engine.state is GONE:
            self._gone(None, CLOSE_PACKET)
        else:
            self._follow()

    def _gone(self, details: str | None, last: Encoded) -> None:
        self.engine.out = []
        self.unsent = self.held = 0
        if self._heartbeat is not None:
            self._heartbeat.disarm(self)
            self._heartbeat = None
        self.sessions.remove(self)
        self._wake_reader()
        self._wake_drained()
        transport, self.transport = self.transport, NOWHERE
        cancel_probe, self._cancel_probe = self._cancel_probe, None
        try:
            transport.end(last)
            if cancel_probe is not None:
                cancel_probe()
        finally:
            self._tell(details)
            if self._listeners is not None:
                self._announce("close", self.engine.reason, details)
                self._listeners = None

    def _tell(self, details: str | None) -> None:
        consumer, self.consumer = self.consumer, NOBODY
        assert self.engine.reason is not None
        if details is not None and consumer is not NOBODY:
            logger.info("connection %s from %s closed (%s): %s", self.sid, self.handshake.address, self.engine.reason, details)
        consumer.closed(self.engine.reason, details)

    def _wake_reader(self) -> None:
        if self.paused:
            self.paused = False
            self.sessions.stalled.disarm(self)
            self.transport.resume_reading()
        if self._resumed is not None:
            self._resumed.set()
            self._resumed = None

    def _arm(self) -> None:
        due = self.engine.due
        if due is None:
            return
        self.engine.due = None
        if self.paused:
            return
        deadlines = self.sessions.heartbeats[due]
        start = None
        if self._heartbeat is not None:
            start = self._heartbeat.passed_at
            if self._heartbeat is not deadlines:
                self._heartbeat.disarm(self)
        self._heartbeat = deadlines
        deadlines.arm(self, start)
