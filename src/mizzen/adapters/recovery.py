"""Connection state recovery within one process: what was sent, and the sessions of those who may come back."""

from __future__ import annotations

import math
import re
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from itertools import count, islice

from mizzen.adapters.memory import MemoryAdapter
from mizzen.options import ConnectionStateRecovery
from mizzen.ports import AdapterHost, RestoredSession, SavedSession, Target
from mizzen.protocol.encoded import Encoded
from mizzen.protocol.packet import EVENT, Packet

OVERHEAD = 256
"""Bytes that keeping one packet costs besides its data, about."""


OFFSET = re.compile(r"[\w-]{8}\.\d+", re.ASCII)
"""What an offset looks like, of this process or of an earlier one."""


class Sent:
    """One packet that was sent, and to whom; `size` is what keeping it costs, in bytes."""

    __slots__ = ("at", "encoded", "excluded", "offset", "rooms", "size")

    def __init__(self, offset: str, at: float, encoded: Encoded, target: Target) -> None:
        self.offset: str = offset
        self.at: float = at
        # Not the one that goes out, which keeps each form that it is sent in.
        self.encoded: Encoded = Encoded(encoded.data, encoded.attachments)
        self.rooms: tuple[str, ...] | None = target.rooms
        self.excluded: tuple[str, ...] = target.excluded if target.omit is None else (*target.excluded, target.omit.id)
        self.size: int = encoded.size + OVERHEAD

    def is_for(self, rooms: frozenset[str]) -> bool:
        """Say whether it was for a socket in these rooms, its own id among them."""
        return (self.rooms is None or not rooms.isdisjoint(self.rooms)) and rooms.isdisjoint(self.excluded)


class RecoveringAdapter(MemoryAdapter):
    """Keeps what is sent, and the sessions of sockets that have gone, for as long as the options say.

    What is too old is forgotten when the next packet or session comes, and now and then on a server with nothing to do.

    `noticed_within` is how long, in seconds, the end of a connection can go unnoticed. What was sent earlier than that before the end was
    seen has been received, so a client whose last event is no longer kept has not missed anything by that: packets are kept for as much
    longer. With None such a client begins anew, as with the Node server.
    """

    recovers: bool = True

    def __init__(
        self,
        host: AdapterHost,
        options: ConnectionStateRecovery,
        clock: Callable[[], float] = time.monotonic,
        noticed_within: float | None = None,
    ) -> None:
        super().__init__(host)
        self._options = options
        self._clock = clock
        self._noticed_within = noticed_within
        self._kept_for = options.max_disconnection_duration + (noticed_within or 0.0)
        # Offsets are opaque to clients, and those of an earlier process must not be taken for ours.
        self._origin = secrets.token_urlsafe(6)
        self._count = count(1)
        self._sent: deque[Sent] = deque()
        self._size = 0
        # Where each kept packet stands, counted from the first that ever was; the last one that is kept no longer included.
        self._last_offset = f"{self._origin}.0"
        self._positions: dict[str, int] = {self._last_offset: -1}
        self._forgotten = self._last_offset
        self._forgotten_at = -math.inf  # when it was sent
        self._first = 0
        self._sessions: OrderedDict[str, tuple[float, SavedSession]] = OrderedDict()
        self._expires = False

    def last_offset(self) -> str:
        """Give the offset of the last packet that is kept."""
        return self._last_offset

    def next_offset(self) -> str:
        """Make the offset of the next packet; `next` on a counter is one step for threads."""
        return f"{self._origin}.{next(self._count)}"

    def broadcast(self, packet: Packet, encoded: Encoded, target: Target) -> None:
        """Keep and deliver a packet, whose last argument is its offset unless it is volatile."""
        if packet.type is EVENT and packet.id is None and not target.volatile:
            self._keep(Sent(packet.data[-1], self._clock(), encoded, target))
        super().broadcast(packet, encoded, target)

    def _keep(self, sent: Sent) -> None:
        self._positions[sent.offset] = self._first + len(self._sent)
        self._sent.append(sent)
        self._size += sent.size
        self._last_offset = sent.offset
        self._expire_later()
        self._trim(sent.at - self._kept_for)

    def _trim(self, oldest: float) -> None:
        while self._sent and (self._size > self._options.max_history or self._sent[0].at < oldest):
            gone = self._sent.popleft()
            self._size -= gone.size
            self._first += 1
            # A client that has got this one, and no more, misses nothing that is not kept.
            del self._positions[self._forgotten]
            self._forgotten = gone.offset
            self._forgotten_at = gone.at

    def save_session(self, session: SavedSession) -> None:
        """Keep a session whose client may come back."""
        now = self._clock()
        self._sessions[session.pid] = now, session
        self._sessions.move_to_end(session.pid)
        self._expire_later()
        self._trim_sessions(now - self._options.max_disconnection_duration)

    def _trim_sessions(self, oldest: float) -> None:
        while self._sessions and (len(self._sessions) > self._options.max_sessions or next(iter(self._sessions.values()))[0] < oldest):
            self._sessions.popitem(last=False)

    async def restore_session(self, pid: str, offset: str | None) -> RestoredSession | None:
        """Give a session that was saved, once, with what was sent after `offset` (None: since it connected)."""
        saved = self._sessions.pop(pid, None)
        if saved is None or saved[0] < self._clock() - self._options.max_disconnection_duration:
            return None
        session = saved[1]
        position = self._position(saved[0], session, offset)
        if position is None:
            return None
        start = position + 1 - self._first
        rooms = session.rooms | {session.sid}
        missed = [sent.encoded for sent in islice(self._sent, start, None) if sent.is_for(rooms)]
        return RestoredSession(session=session, missed=missed)

    def _position(self, ended: float, session: SavedSession, offset: str | None) -> int | None:
        """Give where the last packet stands that a client has got whose end was seen at `ended`; None if nobody knows."""
        began = self._positions.get(session.since)
        if offset is not None:
            position = self._positions.get(offset)
            if position is not None:
                # Clients keep the offset of their session before this one until an event comes: then they have got nothing since.
                return position if began is None else max(position, began)
            if not OFFSET.fullmatch(offset):
                return None
        if began is not None or not session.watched or self._noticed_within is None:
            return began
        return self._first - 1 if self._forgotten_at <= ended - self._noticed_within else None

    @property
    def awaits_clients(self) -> bool:
        """Whether sessions are kept whose clients may come back."""
        return bool(self._sessions)

    def _expire_later(self) -> None:
        if not self._expires:
            self._expires = True
            self.host.expire_after(self._options.max_disconnection_duration)

    def expire(self) -> None:
        """Forget what is too old, and look again later if anything is left."""
        now = self._clock()
        self._trim(now - self._kept_for)
        self._trim_sessions(now - self._options.max_disconnection_duration)
        self._expires = False
        if self._sent or self._sessions:
            self._expire_later()

    def close(self) -> None:
        """Forget everything: a server that starts again has no packets of its earlier life, and no offset of that comes again."""
        super().close()
        self._sessions.clear()
        self._first += len(self._sent)
        self._sent.clear()
        self._size = 0
        self._positions = {self._last_offset: self._first - 1}
        self._forgotten = self._last_offset
        self._expires = False
