"""Rooms and broadcast of one namespace in one process."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from mizzen.ports import Member, Target
from mizzen.protocol.encoded import Encoded
from mizzen.protocol.packet import Packet


class MemoryAdapter:
    """Sets of sockets by room; a socket's own id is a room that costs nothing."""

    def __init__(self) -> None:
        self.rooms: dict[str, set[Member]] = {}
        self._sockets: dict[str, Member] = {}

    def add(self, member: Member) -> None:
        """Make a socket reachable: from now on broadcasts to everybody and to its id get to it."""
        self._sockets[member.id] = member

    def remove(self, member: Member) -> None:
        """Take a socket out of everything; costs as much as it has joined."""
        self._sockets.pop(member.id, None)
        self.leave(member, tuple(member.joined))

    def join(self, member: Member, rooms: Iterable[str]) -> None:
        for room in rooms:
            if room != member.id:
                member.joined.add(room)
                self.rooms.setdefault(room, set()).add(member)

    def leave(self, member: Member, rooms: Iterable[str]) -> None:
        for room in rooms:
            if room in member.joined:
                member.joined.discard(room)
                members = self.rooms[room]
                members.discard(member)
                if not members:
                    del self.rooms[room]

    def members(self, target: Target) -> Collection[Member]:
        """Give the sockets that the target names; not to be kept, not to be changed."""
        members: Collection[Member]
        if len(target.rooms) == 1:
            members = self._room(target.rooms[0])
        elif target.rooms:
            members = set[Member]().union(*[self._room(room) for room in target.rooms])
        else:
            members = self._sockets.values()
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

    def broadcast(self, packet: Packet, encoded: Encoded, target: Target) -> None:
        """Deliver a packet; `encoded` is its encoded form, shared by all recipients."""
        if target.volatile:
            for member in self.members(target):
                member.write_volatile(encoded)
        else:
            for member in self.members(target):
                member.write(encoded)

    def close(self) -> None:
        for member in set[Member]().union(*self.rooms.values()):
            member.joined.clear()
        self.rooms.clear()
        self._sockets.clear()
