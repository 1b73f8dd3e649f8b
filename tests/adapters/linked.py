"""Servers of one process as the nodes of a cluster, over the port of adapters alone: what travels is JSON, as between Node's servers."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import IntEnum
from itertools import count
from typing import Any

from mizzen.adapters.memory import MemoryAdapter
from mizzen.errors import AckTimeout
from mizzen.ports import Acks, AdapterHost, Member, SocketDetails, Target
from mizzen.protocol.encoded import Encoded
from mizzen.protocol.packet import EVENT, Packet
from mizzen.types import JSON, Reason

TIMEOUT = 5.0
"""Seconds that nodes have to answer where the target does not say it."""


class Kind(IntEnum):
    """The messages of Node's cluster adapters."""

    BROADCAST = 3
    SOCKETS_JOIN = 4
    SOCKETS_LEAVE = 5
    DISCONNECT_SOCKETS = 6
    FETCH_SOCKETS = 7
    FETCH_SOCKETS_RESPONSE = 8
    SERVER_SIDE_EMIT = 9
    SERVER_SIDE_EMIT_RESPONSE = 10
    BROADCAST_CLIENT_COUNT = 11
    BROADCAST_ACK = 12
    ADAPTER_CLOSE = 13


class LinkedBus:
    """Carries messages to the adapters of the other nodes, in order, one turn of the loop later; `texts` is what has travelled."""

    def __init__(self) -> None:
        self.nodes: list[LinkedAdapter] = []
        self.deaf: set[str] = set()
        self.texts: list[str] = []

    def node(self, uid: str) -> Callable[[AdapterHost], LinkedAdapter]:
        """Give what makes the adapters of one server."""
        return lambda host: LinkedAdapter(host, self, uid)

    def others(self, adapter: LinkedAdapter) -> list[LinkedAdapter]:
        """Give the adapters of the same namespace on other nodes."""
        return [each for each in self.nodes if each is not adapter and each.host.name == adapter.host.name]

    def publish(self, adapter: LinkedAdapter, kind: Kind, data: Mapping[str, JSON]) -> None:
        """Send a message to them; those that are deaf do not get it."""
        text = json.dumps({"uid": adapter.uid, "nsp": adapter.host.name, "type": kind, "data": data}, default=_write_bytes)
        self.texts.append(text)
        loop = asyncio.get_running_loop()
        for other in self.others(adapter):
            if other.uid not in self.deaf:
                loop.call_soon(other.receive, text)


def _write_bytes(value: object) -> JSON:
    assert isinstance(value, bytes)
    return {"$bytes": base64.b64encode(value).decode()}


def _read_bytes(value: dict[str, JSON]) -> JSON:
    return base64.b64decode(value["$bytes"]) if "$bytes" in value else value


class Relay:
    """Tells the node that asks how many sockets of this one were asked, and what each answers."""

    def __init__(self, adapter: LinkedAdapter, id: int, request: str) -> None:
        self._adapter = adapter
        self._id = id
        self._request = request

    def expect(self, members: Collection[Member]) -> None:
        for member in members:
            member.expect(self._id, self)
        self._adapter.publish(Kind.BROADCAST_CLIENT_COUNT, requestId=self._request, clientCount=len(members))

    def came(self, member: Member, args: Sequence[JSON]) -> None:
        self._adapter.publish(Kind.BROADCAST_ACK, requestId=self._request, packet=args[0] if args else None)

    def gone(self, member: Member, reason: Reason) -> None:
        """Say nothing: there is no word for it."""

    def expect_others(self, *, nodes: int = 0, sockets: int = 0) -> None:
        raise AssertionError("each node speaks for itself")

    def replied(self, argument: JSON) -> None:
        raise AssertionError("each node speaks for itself")

    def when_over(self, callback: Callable[[], None]) -> None:
        raise AssertionError("each node speaks for itself")


class Asked:
    """A broadcast whose acks are collected here: what each other node owes, None while it has not said how many sockets it asked."""

    def __init__(self, acks: Acks, uids: Collection[str]) -> None:
        self.acks = acks
        self.owed: dict[str, int | None] = dict.fromkeys(uids)

    def counted(self, uid: str, sockets: int) -> None:
        self.owed[uid] = sockets
        self.acks.expect_others(nodes=-1, sockets=sockets)

    def replied(self, uid: str, argument: JSON) -> None:
        owed = self.owed.get(uid)
        if owed:
            self.owed[uid] = owed - 1
            self.acks.replied(argument)

    def left(self, uid: str) -> None:
        if uid in self.owed:
            owed = self.owed.pop(uid)
            self.acks.expect_others(nodes=-1 if owed is None else 0, sockets=-(owed or 0))


class Collected:
    """A question to nodes: who has not answered, and the answers."""

    def __init__(self, uids: Collection[str]) -> None:
        self.missing = set(uids)
        self.answers: list[JSON] = []
        self.all = asyncio.Event()
        self.answered(None)

    def answered(self, uid: str | None, *answers: JSON) -> None:
        self.missing.discard(uid or "")
        self.answers += answers
        if not self.missing:
            self.all.set()


class LinkedAdapter(MemoryAdapter):
    """One namespace of one node."""

    def __init__(self, host: AdapterHost, bus: LinkedBus, uid: str) -> None:
        super().__init__(host)
        self.uid = uid
        self.bus = bus
        self.asked: dict[str, Asked] = {}
        self.collected: dict[str, Collected] = {}
        self._requests = count()
        bus.nodes.append(self)

    def publish(self, kind: Kind, **data: JSON) -> None:
        """Send a message to the other nodes."""
        self.bus.publish(self, kind, data)

    def _request(self) -> tuple[str, list[str]]:
        return f"{self.uid}-{next(self._requests)}", [other.uid for other in self.bus.others(self)]

    # What this node's server asks

    def broadcast(self, packet: Packet, encoded: Encoded, target: Target) -> None:
        if target.spans_nodes:
            self.publish(Kind.BROADCAST, opts=_options(target), packet={"type": packet.type, "data": packet.data})
        super().broadcast(packet, encoded, target)

    def broadcast_with_ack(self, packet: Packet, encoded: Encoded, target: Target, acks: Acks) -> None:
        if target.spans_nodes:
            request, uids = self._request()
            self.asked[request] = Asked(acks, uids)
            acks.when_over(lambda: self._forget(request))
            acks.expect_others(nodes=len(uids))
            self.publish(Kind.BROADCAST, opts=_options(target), packet={"type": packet.type, "data": packet.data}, requestId=request)
        super().broadcast_with_ack(packet, encoded, target, acks)

    def _forget(self, request: str) -> None:
        del self.asked[request]

    async def fetch_sockets(self, target: Target) -> Sequence[SocketDetails]:
        here = await super().fetch_sockets(target)
        if not target.spans_nodes:
            return here
        found = await self._ask(Kind.FETCH_SOCKETS, target.timeout or TIMEOUT, opts=_options(target))
        return [*here, *[SocketDetails(**{**each, "rooms": frozenset(each["rooms"])}) for each in found]]

    def join_sockets(self, target: Target, rooms: tuple[str, ...]) -> None:
        if target.spans_nodes:
            self.publish(Kind.SOCKETS_JOIN, opts=_options(target), rooms=rooms)
        super().join_sockets(target, rooms)

    def leave_sockets(self, target: Target, rooms: tuple[str, ...]) -> None:
        if target.spans_nodes:
            self.publish(Kind.SOCKETS_LEAVE, opts=_options(target), rooms=rooms)
        super().leave_sockets(target, rooms)

    def disconnect_sockets(self, target: Target, close: bool) -> None:
        if target.spans_nodes:
            self.publish(Kind.DISCONNECT_SOCKETS, opts=_options(target), close=close)
        super().disconnect_sockets(target, close)

    def emit_to_nodes(self, args: Sequence[JSON]) -> None:
        self.publish(Kind.SERVER_SIDE_EMIT, packet=args)

    async def call_nodes(self, args: Sequence[JSON], timeout: float) -> list[JSON]:
        return await self._ask(Kind.SERVER_SIDE_EMIT, timeout, packet=args)

    async def _ask(self, kind: Kind, timeout: float, **data: JSON) -> list[JSON]:
        request, uids = self._request()
        collected = self.collected[request] = Collected(uids)
        self.publish(kind, requestId=request, **data)
        try:
            async with asyncio.timeout(timeout):
                await collected.all.wait()
        except TimeoutError:
            raise AckTimeout(f"{len(collected.missing)} nodes did not answer within {timeout} s", replies=collected.answers) from None
        finally:
            del self.collected[request]
        return collected.answers

    def close(self) -> None:
        super().close()
        self.publish(Kind.ADAPTER_CLOSE)
        self.bus.nodes = [each for each in self.bus.nodes if each is not self]

    # What comes from other nodes

    def receive(self, text: str) -> None:
        """Take a message."""
        message = json.loads(text, object_hook=_read_bytes)
        uid, data = message["uid"], message["data"]
        match Kind(message["type"]):
            case Kind.BROADCAST:
                self._deliver(data)
            case Kind.SOCKETS_JOIN:
                super().join_sockets(_target(data["opts"]), tuple(data["rooms"]))
            case Kind.SOCKETS_LEAVE:
                super().leave_sockets(_target(data["opts"]), tuple(data["rooms"]))
            case Kind.DISCONNECT_SOCKETS:
                super().disconnect_sockets(_target(data["opts"]), data["close"])
            case Kind.FETCH_SOCKETS:
                found = [_fields(member.details()) for member in self.members(_target(data["opts"]))]
                self.publish(Kind.FETCH_SOCKETS_RESPONSE, requestId=data["requestId"], sockets=found)
            case Kind.SERVER_SIDE_EMIT:
                self.host.start(self._answer(data))
            case Kind.BROADCAST_CLIENT_COUNT if data["requestId"] in self.asked:
                self.asked[data["requestId"]].counted(uid, data["clientCount"])
            case Kind.BROADCAST_ACK if data["requestId"] in self.asked:
                self.asked[data["requestId"]].replied(uid, data["packet"])
            case Kind.FETCH_SOCKETS_RESPONSE if data["requestId"] in self.collected:
                self.collected[data["requestId"]].answered(uid, *data["sockets"])
            case Kind.SERVER_SIDE_EMIT_RESPONSE if data["requestId"] in self.collected:
                self.collected[data["requestId"]].answered(uid, data["packet"])
            case Kind.ADAPTER_CLOSE:
                for asked in list(self.asked.values()):
                    asked.left(uid)
                for collected in list(self.collected.values()):
                    collected.answered(uid)
            case _:
                pass  # an answer to another node, or one that comes too late

    def _deliver(self, data: Mapping[str, Any]) -> None:
        target = _target(data["opts"])
        args = data["packet"]["data"]
        if "requestId" in data:
            packet = Packet(EVENT, self.host.name, args, self.host.next_id())
            assert packet.id is not None
            super().broadcast_with_ack(packet, self.host.encode(packet), target, Relay(self, packet.id, data["requestId"]))
        else:
            packet = Packet(EVENT, self.host.name, args)
            super().broadcast(packet, self.host.encode(packet), target)

    async def _answer(self, data: Mapping[str, Any]) -> None:
        answer = await self.host.answer_nodes(data["packet"])
        if "requestId" in data:
            self.publish(Kind.SERVER_SIDE_EMIT_RESPONSE, requestId=data["requestId"], packet=answer)


def _options(target: Target) -> JSON:
    excluded = target.excluded if target.omit is None else (*target.excluded, target.omit.id)
    flags = {name: True for name, value in (("volatile", target.volatile),) if value}
    return {"rooms": target.rooms or (), "except": excluded, "flags": flags}


def _target(options: Mapping[str, Any]) -> Target:
    return Target(
        rooms=tuple(options["rooms"]) or None, excluded=tuple(options["except"]), volatile=options["flags"].get("volatile", False)
    )


def _fields(details: SocketDetails) -> JSON:
    return {"id": details.id, "handshake": details.handshake, "rooms": sorted(details.rooms), "data": details.data}
