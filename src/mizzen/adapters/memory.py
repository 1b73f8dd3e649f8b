"""Rooms and broadcast of one namespace in one process."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TypeAlias

from mizzen.ports import Acks, AdapterHost, Member, RestoredSession, SavedSession, SocketDetails, Target
from mizzen.protocol.encoded import Encoded
from mizzen.protocol.packet import Packet
from mizzen.types import JSON, RoomEvent

RoomChange: TypeAlias = tuple[RoomEvent, str, str | None]
"""What happened to a room, and the id of the socket, if it is about one."""


class MemoryAdapter:
    """Sets of sockets by room; a socket's own id is a room that costs nothing, and of which nothing is told."""

    recovers: bool = False

    def __init__(self, host: AdapterHost) -> None:
        self.host = host
        self.rooms: dict[str, set[Member]] = {}
        self._sockets: dict[str, Member] = {}

    def add(self, member: Member) -> None:
        """Make a socket reachable: from now on broadcasts to everybody and to its id get to it."""
        self._sockets[member.id] = member

    def remove(self, member: Member) -> None:
        """Take a socket out of everything; costs as much as it has joined."""
        if self._sockets.get(member.id) is member:
            del self._sockets[member.id]
        self.leave(member, tuple(member.joined))

    def join(self, member: Member, rooms: Iterable[str]) -> None:
        told: list[RoomChange] | None = None if self.host.room_watcher is None else []
        for room in rooms:
            if room == member.id or room in member.joined:
                continue
            member.joined.add(room)
            members = self.rooms.get(room)
            if members is None:
                self.rooms[room] = {member}
            else:
                members.add(member)
            if told is not None:
                if members is None:
                    told.append((RoomEvent.CREATE, room, None))
                told.append((RoomEvent.JOIN, room, member.id))
        if told:
            self._tell(told)

    def leave(self, member: Member, rooms: Iterable[str]) -> None:
        told: list[RoomChange] | None = None if self.host.room_watcher is None else []
        for room in rooms:
            if room not in member.joined:
                continue
            member.joined.discard(room)
            members = self.rooms[room]
            members.discard(member)
            if not members:
                del self.rooms[room]
            if told is not None:
                told.append((RoomEvent.LEAVE, room, member.id))
                if not members:
                    told.append((RoomEvent.DELETE, room, None))
        if told:
            self._tell(told)

    def _tell(self, told: list[RoomChange]) -> None:
        # When all is done: a hook may make sockets join, leave and go.
        tell = self.host.room_watcher
        if tell is not None:
            for what, room, id in told:
                tell(what, room, id)

    def members(self, target: Target) -> Collection[Member]:
        """Give the sockets that the target names; not to be kept, not to be changed."""
        members: Collection[Member]
        rooms = target.rooms
        if rooms is None:
            members = self._sockets.values()
        elif len(rooms) == 1:
            members = self._room(rooms[0])
        else:
            members = set[Member]().union(*[self._room(room) for room in rooms])
        if target.excluded or target.omit is not None:
            excluded = set[Member]().union(*[self._room(room) for room in target.excluded])
            if target.omit is not None:
                excluded.add(target.omit)
            members = [member for member in members if member not in excluded]
        return members

    def _room(self, room: str) -> Collection[Member]:
        members = self.rooms.get(room)
        alone = self._sockets.get(room)
        if alone is None:
            return members or ()
        return (alone,) if members is None else members | {alone}

    # Sending

    def broadcast(self, packet: Packet, encoded: Encoded, target: Target) -> None:
        """Deliver a packet; `encoded` is its encoded form, shared by all recipients."""
        members = self.members(target)
        if target.volatile:
            for member in members:
                member.write_volatile(encoded)
        else:
            for member in members:
                member.write(encoded)
        if self.host.watched:
            self.host.sent(packet, members)

    def broadcast_with_ack(self, packet: Packet, encoded: Encoded, target: Target, acks: Acks) -> None:
        """Deliver a packet whose recipients answer, and tell `acks` who they are before it goes out."""
        members = [member for member in self.members(target) if member.connected]
        acks.expect(members)
        for member in members:
            if target.volatile:
                member.write_volatile(encoded)
            else:
                member.write(encoded)
        if self.host.watched:
            self.host.sent(packet, members)

    # Across the namespace

    async def fetch_sockets(self, target: Target) -> Sequence[SocketDetails]:
        """Give what is known of the sockets that the target names."""
        return [member.details() for member in self.members(target)]

    def join_sockets(self, target: Target, rooms: tuple[str, ...]) -> None:
        """Have the sockets that the target names join rooms."""
        for member in list(self.members(target)):
            self.join(member, rooms)

    def leave_sockets(self, target: Target, rooms: tuple[str, ...]) -> None:
        """Have the sockets that the target names leave rooms."""
        for member in list(self.members(target)):
            self.leave(member, rooms)

    def disconnect_sockets(self, target: Target, close: bool) -> None:
        """Disconnect the sockets that the target names."""
        for member in list(self.members(target)):  # those who leave change the set
            member.disconnect(close)

    def emit_to_nodes(self, args: Sequence[JSON]) -> None:
        """Do nothing: there is no other node."""

    async def call_nodes(self, args: Sequence[JSON], timeout: float) -> list[JSON]:
        """Give no answers: there is no other node."""
        return []

    # Recovery

    def last_offset(self) -> str:
        """Give nothing: no packet is kept."""
        return ""

    def next_offset(self) -> str:
        """Give nothing: no packet is kept."""
        return ""

    def save_session(self, session: SavedSession) -> None:
        """Do nothing: no session is kept."""

    async def restore_session(self, pid: str, offset: str | None) -> RestoredSession | None:
        """Give None: no session is kept."""
        return None

    @property
    def awaits_clients(self) -> bool:
        """Say no: no session is kept."""
        return False

    def expire(self) -> None:
        """Do nothing: nothing is kept."""

    def close(self) -> None:
        """Forget everything."""
        for member in set[Member]().union(*self.rooms.values()):
            member.joined.clear()
        self.rooms.clear()
        self._sockets.clear()
