"""The Engine.IO session, sans-IO: one table of states for both roles, heartbeats and control packets.

The shell hands over packets, in the unit that every transport shares: `str` for a text packet with its type digit, `bytes` for a binary
message. `Engine.receive` answers control packets by itself, appending to `out`, and gives back messages. It never looks at a clock: when a
deadline has to be set anew it leaves its kind in `due`, and the shell calls `overdue` when it passes.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, TypeAlias

import msgspec

from mizzen.errors import LocalProtocolError, RemoteProtocolError
from mizzen.protocol.encoded import Encoded
from mizzen.protocol.engine_packet import decode_base64
from mizzen.types import Reason


class Role(Enum):
    """Which end of the connection this is."""

    SERVER = "server"
    CLIENT = "client"


class State(Enum):
    """How far the session is."""

    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    GONE = "gone"


class Link(Enum):
    """What carries the packets; PROBING: still polling, while a WebSocket is tried; PAUSING: probed, the last poll is awaited (client
    only)."""

    POLLING = "polling"
    PROBING = "probing"
    PAUSING = "pausing"
    WEBSOCKET = "websocket"


class Event(Enum):
    """What moves a session from one state to another."""

    OPENED = "opened"
    PROBE = "probe"
    PROBE_ANSWERED = "probe answered"
    UPGRADE = "upgrade"
    PROBE_LOST = "probe lost"
    LINK_LOST = "link lost"
    CLOSE = "close"
    HEARTBEAT_OVERDUE = "heartbeat overdue"
    DRAIN = "drain"
    DRAINED = "drained"


class Due(Enum):
    """The deadline that a session waits for: INTERVAL until its next ping, TIMEOUT for the pong, EXTENSION for the pong once more, SILENCE
    for the peer's next ping."""

    INTERVAL = "interval"
    TIMEOUT = "timeout"
    EXTENSION = "extension"
    SILENCE = "silence"


OPENING, OPEN, CLOSING, GONE = State.OPENING, State.OPEN, State.CLOSING, State.GONE
POLLING, PROBING, PAUSING, WEBSOCKET = Link.POLLING, Link.PROBING, Link.PAUSING, Link.WEBSOCKET
Place: TypeAlias = tuple[State, Link]
Row: TypeAlias = dict[Event, Place | State]

_ENDS: Row = {Event.LINK_LOST: GONE, Event.CLOSE: GONE, Event.HEARTBEAT_OVERDUE: GONE}
_CLOSING_ENDS: Row = _ENDS | {Event.DRAINED: GONE}


def _row(state: State, link: Link, moves: Row) -> dict[Place, Row]:
    ends = _CLOSING_ENDS if state is CLOSING else _ENDS
    drain: Row = {Event.DRAIN: (CLOSING, link)} if state is OPEN else {}
    return {(state, link): moves | drain | ends}


# PROBE_LOST is the probe's link, LINK_LOST the current one. An event that a row does not list is a protocol error.
TRANSITIONS: dict[Role, dict[Place, Row]] = {
    Role.SERVER: {
        **_row(OPENING, POLLING, {Event.OPENED: (OPEN, POLLING)}),
        **_row(OPENING, WEBSOCKET, {Event.OPENED: (OPEN, WEBSOCKET)}),
        **_row(OPEN, POLLING, {Event.PROBE: (OPEN, PROBING)}),
        **_row(OPEN, PROBING, {Event.UPGRADE: (OPEN, WEBSOCKET), Event.PROBE_LOST: (OPEN, POLLING)}),
        **_row(OPEN, WEBSOCKET, {}),
        **_row(CLOSING, POLLING, {}),
        **_row(CLOSING, PROBING, {Event.PROBE_LOST: (CLOSING, POLLING)}),
        **_row(CLOSING, WEBSOCKET, {}),
    },
    Role.CLIENT: {
        **_row(OPENING, POLLING, {Event.OPENED: (OPEN, POLLING)}),
        **_row(OPENING, WEBSOCKET, {Event.OPENED: (OPEN, WEBSOCKET)}),
        **_row(OPEN, POLLING, {Event.PROBE: (OPEN, PROBING)}),
        **_row(OPEN, PROBING, {Event.PROBE_ANSWERED: (OPEN, PAUSING), Event.PROBE_LOST: (OPEN, POLLING)}),
        **_row(OPEN, PAUSING, {Event.UPGRADE: (OPEN, WEBSOCKET), Event.PROBE_LOST: (OPEN, POLLING)}),
        **_row(OPEN, WEBSOCKET, {}),
        **_row(CLOSING, POLLING, {}),
        **_row(CLOSING, PROBING, {Event.PROBE_LOST: (CLOSING, POLLING)}),
        **_row(CLOSING, PAUSING, {Event.PROBE_LOST: (CLOSING, POLLING)}),
        **_row(CLOSING, WEBSOCKET, {}),
    },
}

CLOSE_PACKET = Encoded(b"1")
PING_PACKET = Encoded(b"2")
PONG_PACKET = Encoded(b"3")
UPGRADE_PACKET = Encoded(b"5")
NOOP_PACKET = Encoded(b"6")
PROBE_PING, PROBE_PONG = "2probe", "3probe"


_Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=2**53)]


class _OpenFields(msgspec.Struct, rename="camel"):
    sid: str
    upgrades: tuple[str, ...]
    ping_interval: _Milliseconds
    ping_timeout: _Milliseconds
    max_payload: Annotated[int, msgspec.Meta(ge=0)] = 0


_OPEN_FIELDS = msgspec.json.Decoder(_OpenFields)


class Engine:
    """One Engine.IO session of either role.

    `out` holds what is to be sent, in order, and outlives a change of transport. `heard` is set by every packet that arrives; a pong that
    is overdue although something else was heard since the ping gets one more period (as engine.io 6.6.10 gives it), so that a long upload
    is not taken for silence.
    """

    __slots__ = (
        "due",
        "eio",
        "heard",
        "link",
        "max_payload",
        "out",
        "ping_interval",
        "ping_timeout",
        "reason",
        "role",
        "sid",
        "state",
        "upgrades",
        "_waits",
    )

    def __init__(self, role: Role, eio: int, link: Link) -> None:
        self.role: Role = role
        self.eio: int = eio
        self.state: State = OPENING
        self.link: Link = link
        self.out: list[Encoded] = []
        self.reason: Reason | None = None
        self.due: Due | None = None
        self.heard: bool = False
        self.sid: str = ""
        self.upgrades: tuple[str, ...] = ()
        self.ping_interval: float = 0.0
        self.ping_timeout: float = 0.0
        self.max_payload: int = 0
        # The side that pings: the server in protocol 4, the client in protocol 3.
        self._waits = Due.INTERVAL if (role is Role.SERVER) == (eio == 4) else Due.SILENCE

    def transition(self, event: Event, reason: Reason | None = None) -> None:
        """Move as the table says; `reason` is kept where the session leaves OPEN.

        Raises LocalProtocolError where the state does not list the event: the caller asked for what cannot be.
        """
        row = TRANSITIONS[self.role].get((self.state, self.link))
        place = row.get(event) if row is not None else None
        if place is None:
            raise LocalProtocolError(f"{event.value!r} cannot happen to a session that is {self.state.value} on {self.link.value}")
        if isinstance(place, State):
            self.state = place
        else:
            self.state, self.link = place
        if self.state is not OPEN and self.reason is None:
            self.reason = reason

    def opened(self) -> None:
        """Enter OPEN: the open packet is in `out` (server) or has come (client)."""
        self.transition(Event.OPENED)
        self.due = self._waits

    def receive(self, packet: str | bytes) -> str | bytes | None:
        """Take one packet; give back its message, or None if it was a control packet, which is then answered.

        Raises RemoteProtocolError for what the peer may not send, with the reason to close with.
        """
        if self.state is GONE:
            return None
        self.heard = True
        if isinstance(packet, bytes):
            if self.state is not OPEN:
                return None
            return packet
        kind = packet[:1]
        if kind == "4":
            return packet[1:] if self.state is OPEN else None
        if kind == "b":
            return decode_base64(packet, self.eio) if self.state is OPEN else None
        self._control(kind, packet)
        return None

    def _control(self, kind: str, packet: str) -> None:
        if kind == "2":
            if self._waits is not Due.SILENCE:
                raise RemoteProtocolError("a ping came from the side that has to answer pings", Reason.TRANSPORT_ERROR)
            if not self.out or self.out[-1] is not PONG_PACKET:  # one says as much as many, to a client that pings and does not read
                self.out.append(PONG_PACKET)
            self.due = Due.SILENCE
        elif kind == "3":
            if self._waits is Due.SILENCE:
                raise RemoteProtocolError("a pong came, but no ping was sent", Reason.TRANSPORT_ERROR)
            self._waits = self.due = Due.INTERVAL
        elif kind == "1":
            self.transition(Event.CLOSE, Reason.TRANSPORT_CLOSE)
        elif kind == "0" and self.role is Role.CLIENT and self.state is OPENING:
            self._open(packet)
        elif kind == "0":
            raise RemoteProtocolError("an open packet came, but the session is open already", Reason.PARSE_ERROR)
        elif kind == "5":
            raise RemoteProtocolError("an upgrade packet came, but no upgrade is under way", Reason.TRANSPORT_ERROR)
        elif kind != "6":
            raise RemoteProtocolError(f"{packet[:20]!r} is not an Engine.IO packet: expected a type digit", Reason.PARSE_ERROR)

    def _open(self, packet: str) -> None:
        try:
            fields = _OPEN_FIELDS.decode(packet[1:].encode())
        except (msgspec.MsgspecError, ValueError) as error:
            raise RemoteProtocolError(f"the open packet is malformed: {error}", Reason.PARSE_ERROR) from error
        self.sid, self.upgrades, self.max_payload = fields.sid, fields.upgrades, fields.max_payload
        self.ping_interval, self.ping_timeout = fields.ping_interval / 1000, fields.ping_timeout / 1000
        self.opened()

    def overdue(self) -> None:
        """Take notice that the deadline last left in `due` has passed: ping, wait on, or be GONE with `ping timeout`.

        A session that is closing does not ping any more, but it waits no longer than one that does.
        """
        if self._waits is Due.INTERVAL:
            if self.state is OPEN:
                self.out.append(PING_PACKET)
            self.heard = False
            self._waits = self.due = Due.TIMEOUT
        elif self._waits is Due.TIMEOUT and self.heard:
            self._waits = self.due = Due.EXTENSION
        else:
            self.transition(Event.HEARTBEAT_OVERDUE, Reason.PING_TIMEOUT)

    def suspend(self) -> None:
        """Wait for nothing: reading has stopped, so that the peer's pings and pongs cannot be seen."""
        self.due = None

    def resume(self) -> None:
        """Begin the heartbeat's current wait anew: reading goes on."""
        self.heard = True
        self.due = self._waits
