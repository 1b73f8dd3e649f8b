"""A client and a server of bytes and rules alone: two engines and two codecs talk to each other with no IO at all."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.errors import LocalProtocolError
from mizzen.protocol.codec import JSONCodec
from mizzen.protocol.encoded import Encoded
from mizzen.protocol.engine import (
    CLOSE_PACKET,
    NOOP_PACKET,
    PROBE_PING,
    PROBE_PONG,
    UPGRADE_PACKET,
    Due,
    Engine,
    Event,
    Link,
    Role,
    State,
)
from mizzen.protocol.packet import ACK, CONNECT, DISCONNECT, EVENT, Packet
from mizzen.protocol.payload import decode_payload, encode_payload
from mizzen.types import JSON, Reason

OPEN, CLOSING, GONE = State.OPEN, State.CLOSING, State.GONE
POLLING, PROBING, PAUSING, WEBSOCKET = Link.POLLING, Link.PROBING, Link.PAUSING, Link.WEBSOCKET
CODEC = JSONCodec()

Body = tuple[bytes, bool]
"""A polling body, and whether its content type says that it is binary."""

BLOB = bytes(range(256))


class Side:
    """One end: an engine, a decoder, and what a shell would keep beside them."""

    def __init__(self, role: Role, eio: int, link: Link, base64: bool) -> None:
        self.engine = Engine(role, eio, link)
        self.decoder = CODEC.decoder()
        self.received: list[Packet] = []
        self.armed: Due | None = None
        self._base64 = base64

    def send(self, type: JSON, data: JSON = None, id: int | None = None, nsp: str = "/") -> None:
        self.engine.out.append(CODEC.encode(Packet(type, nsp, data, id)))

    def take(self, packet: str | bytes) -> None:
        """Receive one packet, as a shell does."""
        message = self.engine.receive(packet)
        if message is not None and (whole := self.decoder.feed(message)) is not None:
            self.received.append(whole)
        self.follow()

    def follow(self) -> None:
        if self.engine.due is not None:
            self.armed, self.engine.due = self.engine.due, None

    def overdue(self) -> None:
        """Let the deadline pass that is armed."""
        self.engine.overdue()
        self.follow()

    def flush(self) -> list[Encoded]:
        out, self.engine.out = self.engine.out, []
        return out

    def body(self, packets: Sequence[Encoded]) -> Body:
        body, content_type = encode_payload(packets, self.engine.eio, self._base64)
        return body, content_type == "application/octet-stream"

    def messages(self, packets: Sequence[Encoded]) -> list[str | bytes]:
        return [message for packet in packets for message in packet.messages(self.engine.eio, self._base64)]

    def events(self) -> list[JSON]:
        return [packet.data for packet in self.received if packet.type is EVENT]


class Pair:
    """A client, a server and what is on its way between them; nothing moves but by `steps`, one at a time and in any order."""

    def __init__(self, eio: int, link: Link = POLLING, base64: bool = False, singly: bool = False) -> None:
        self.eio = eio
        self.client = Side(Role.CLIENT, eio, link, base64)
        self.server = Side(Role.SERVER, eio, link, base64)
        self.singly = singly
        self.get_waits = link is POLLING  # at the server
        self.responses: deque[Body] = deque()  # to GETs, at most one
        self.posts: deque[Body] = deque()  # at most one
        self.up: deque[str | bytes] = deque()  # the WebSocket, one direction each
        self.down: deque[str | bytes] = deque()
        self.probed = False
        fields = {"sid": "s1", "upgrades": ["websocket"], "pingInterval": 25000, "pingTimeout": 20000, "maxPayload": 1000000}
        self.server.engine.out.append(Encoded(b"0" + json.dumps(fields).encode()))
        self.server.engine.opened()
        self.server.follow()

    # What can happen next

    def steps(self) -> list[Callable[[], None]]:
        client, server = self.client.engine, self.server.engine
        steps: list[Callable[[], None]] = []
        if self.get_waits and (server.out or (server.link is PROBING and self.probed)) and server.link is not WEBSOCKET:
            steps.append(self.answer_get)
        if self.responses:
            steps.append(self.take_response)
        if client.out and not self.posts and client.state in (OPEN, CLOSING) and client.link in (POLLING, PROBING):
            steps.append(self.post)
        if self.posts:
            steps.append(self.take_post)
        if client.link is PAUSING and not self.posts and not self.responses and not self.get_waits:
            steps.append(self.upgrade)
        if client.link is WEBSOCKET and client.out:
            steps.append(lambda: self.up.extend(self.client.messages(self.some(self.client))))
        if server.link is WEBSOCKET and server.out:
            steps.append(lambda: self.down.extend(self.server.messages(self.some(self.server))))
        if self.up:
            steps.append(self.take_up)
        if self.down:
            steps.append(self.take_down)
        return steps

    def some(self, side: Side) -> list[Encoded]:
        """Give what goes out in one go: everything, or one packet."""
        out = side.flush()
        if self.singly:
            side.engine.out = out[1:]
            return out[:1]
        return out

    def settle(self) -> None:
        """Let everything happen that can, fairly."""
        for turn in range(10_000):
            steps = self.steps()
            if not steps:
                return
            steps[turn % len(steps)]()
        raise AssertionError("it never comes to rest")

    # Polling

    def answer_get(self) -> None:
        self.get_waits = False
        self.responses.append(self.server.body(self.some(self.server) or [NOOP_PACKET]))

    def take_response(self) -> None:
        body, binary = self.responses.popleft()
        for packet in decode_payload(body, self.eio, binary):
            self.client.take(packet)
        self.get_waits = self.client.engine.state in (OPEN, CLOSING) and self.client.engine.link in (POLLING, PROBING)

    def post(self) -> None:
        self.posts.append(self.client.body(self.some(self.client)))

    def take_post(self) -> None:
        body, binary = self.posts.popleft()
        for packet in decode_payload(body, self.eio, binary):
            self.server.take(packet)

    # WebSocket and upgrade

    def probe(self) -> None:
        self.client.engine.transition(Event.PROBE)
        self.up.append(PROBE_PING)

    def upgrade(self) -> None:
        self.client.engine.transition(Event.UPGRADE)
        self.up.extend(self.client.messages([UPGRADE_PACKET]))

    def take_up(self) -> None:
        packet = self._off_wire(self.up.popleft())
        if self.server.engine.link is WEBSOCKET:
            self.server.take(packet)
        elif packet == PROBE_PING:
            self.server.engine.transition(Event.PROBE)
            self.probed = True
            self.down.append(PROBE_PONG)
        else:
            assert packet == "5"
            self.server.engine.transition(Event.UPGRADE)

    def take_down(self) -> None:
        packet = self._off_wire(self.down.popleft())
        if self.client.engine.link is PROBING:
            assert packet == PROBE_PONG
            self.client.engine.transition(Event.PROBE_ANSWERED)
        else:
            self.client.take(packet)

    def _off_wire(self, message: str | bytes) -> str | bytes:
        if self.eio == 3 and isinstance(message, bytes):
            assert message[:1] == b"\x04"
            return message[1:]
        return message


# Engine.IO, link, base64, one packet at a time
WAYS = [
    pytest.param((eio, link, base64, singly), id=f"eio{eio}-{link.value}{'-base64' * base64}{'-singly' * singly}")
    for eio in (4, 3)
    for link in (POLLING, WEBSOCKET)
    for base64 in (False, True)
    for singly in (False, True)
]


@pytest.fixture(params=WAYS)
def pair(request: pytest.FixtureRequest) -> Pair:
    """Give a pair that has shaken hands and joined the main namespace."""
    return connected(Pair(*request.param))


@pytest.fixture(params=[(4, False), (4, True), (3, False), (3, True)], ids=str)
def polling_pair(request: pytest.FixtureRequest) -> Pair:
    """Give a connected pair on polling; for Engine.IO 3 and 4, in batches and singly."""
    return connected(Pair(request.param[0], singly=request.param[1]))


def connected(pair: Pair) -> Pair:
    pair.settle()
    if pair.eio == 4:
        pair.client.send(CONNECT, {"token": "t"})
        pair.settle()
        assert pair.server.received.pop().data == {"token": "t"}
        pair.server.send(CONNECT, {"sid": "abc"})
    else:
        pair.server.send(CONNECT)  # the main namespace is joined without being asked for
    pair.settle()
    accepted = pair.client.received.pop()
    assert (accepted.type, accepted.nsp, accepted.data) == (CONNECT, "/", {"sid": "abc"} if pair.eio == 4 else None)
    return pair


def test_the_open_packet_opens_both_sides(pair: Pair) -> None:
    client = pair.client.engine
    assert (client.state, pair.server.engine.state) == (OPEN, OPEN)
    assert (client.sid, client.upgrades) == ("s1", ("websocket",))
    assert {pair.client.armed, pair.server.armed} == {Due.SILENCE, Due.INTERVAL}
    assert pair.server.armed is (Due.INTERVAL if pair.eio == 4 else Due.SILENCE), "the server pings in 4, the client in 3"


def test_events_go_both_ways_in_order(pair: Pair) -> None:
    sent = [["message", number, {"text": "é€\U0001f600\x1e"}] for number in range(5)]
    for data in sent:
        pair.client.send(EVENT, data)
        pair.server.send(EVENT, data)
    pair.settle()
    assert pair.server.events() == sent
    assert pair.client.events() == sent


def test_binary_keeps_its_place_between_texts(pair: Pair) -> None:
    sent: list[JSON] = [["a"], ["b", BLOB, {"deep": [b"", b"\x04"]}], ["c"], ["d", b"\x00"], ["e"]]
    for data in sent:
        pair.client.send(EVENT, data)
        pair.server.send(EVENT, data)
    pair.settle()
    assert pair.server.events() == sent
    assert pair.client.events() == sent


@pytest.mark.parametrize("nsp", ["/", "/admin"])
def test_acks_find_their_event_both_ways(pair: Pair, nsp: str) -> None:
    for asker, answerer in ((pair.client, pair.server), (pair.server, pair.client)):
        for id in (0, 1, 12345):
            asker.send(EVENT, ["question", b"?"], id, nsp)
        pair.settle()
        for packet in answerer.received:
            answerer.send(ACK, [packet.data[1], BLOB], packet.id, packet.nsp)
        answerer.received.clear()
        pair.settle()
        assert [(packet.type, packet.nsp, packet.id, packet.data) for packet in asker.received] == [
            (ACK, nsp, id, [b"?", BLOB]) for id in (0, 1, 12345)
        ]
        asker.received.clear()


def test_pings_are_answered_and_the_interval_begins_anew(pair: Pair) -> None:
    pinger, answerer = (pair.server, pair.client) if pair.eio == 4 else (pair.client, pair.server)
    for _ in range(3):
        assert pinger.armed is Due.INTERVAL
        answerer.armed = None
        pinger.overdue()
        assert pinger.armed is Due.TIMEOUT
        pair.settle()
        assert (pinger.armed, answerer.armed) == (Due.INTERVAL, Due.SILENCE)
    assert pair.client.received == pair.server.received == []


def test_a_namespace_is_left_without_ending_the_connection(pair: Pair) -> None:
    pair.client.send(DISCONNECT, nsp="/admin")
    pair.settle()
    assert [(packet.type, packet.nsp) for packet in pair.server.received] == [(DISCONNECT, "/admin")]
    assert (pair.client.engine.state, pair.server.engine.state) == (OPEN, OPEN)


@pytest.mark.parametrize("closer", ["client", "server"])
def test_closing_sends_what_is_queued_first(pair: Pair, closer: str) -> None:
    near, far = (pair.client, pair.server) if closer == "client" else (pair.server, pair.client)
    near.send(EVENT, ["last", BLOB])
    near.engine.transition(Event.DRAIN, Reason.FORCED_CLOSE)
    near.engine.out.append(CLOSE_PACKET)
    far.send(EVENT, ["too late"])
    pair.settle()
    assert far.events() == [["last", BLOB]]
    assert (far.engine.state, far.engine.reason) == (GONE, Reason.TRANSPORT_CLOSE)
    near.engine.transition(Event.DRAINED)
    assert (near.engine.state, near.engine.reason) == (GONE, Reason.FORCED_CLOSE)
    assert near.events() == [], "a closing side takes no more messages"


def test_a_lost_link_ends_each_side_for_itself(pair: Pair) -> None:
    pair.client.engine.transition(Event.LINK_LOST, Reason.TRANSPORT_CLOSE)
    pair.server.engine.transition(Event.LINK_LOST, Reason.TRANSPORT_ERROR)
    assert (pair.client.engine.reason, pair.server.engine.reason) == (Reason.TRANSPORT_CLOSE, Reason.TRANSPORT_ERROR)


# Upgrade


def test_both_sides_upgrade_and_go_on(polling_pair: Pair) -> None:
    pair = polling_pair
    pair.probe()
    pair.settle()
    assert (pair.client.engine.link, pair.server.engine.link) == (WEBSOCKET, WEBSOCKET)
    for side in (pair.client, pair.server):
        side.send(EVENT, ["after", BLOB])
    pair.settle()
    assert pair.server.events() == pair.client.events() == [["after", BLOB]]


def test_what_is_sent_at_every_stage_of_the_upgrade_arrives_once_and_in_order(polling_pair: Pair) -> None:
    pair = polling_pair
    count = 0

    def send() -> None:
        nonlocal count
        count += 1
        pair.client.send(EVENT, ["n", count, b"x"])
        pair.server.send(EVENT, ["n", count, b"x"])

    send()
    pair.probe()
    for turn in range(30):
        send()
        if steps := pair.steps():
            steps[turn % len(steps)]()
    pair.settle()
    assert (pair.client.engine.link, pair.server.engine.link) == (WEBSOCKET, WEBSOCKET)
    expected = [["n", number + 1, b"x"] for number in range(count)]
    assert pair.server.events() == expected
    assert pair.client.events() == expected


def test_a_probe_that_fails_leaves_polling_as_it_was(polling_pair: Pair) -> None:
    pair = polling_pair
    pair.probe()
    pair.server.send(EVENT, ["during"])
    pair.take_up()
    for side in (pair.client, pair.server):
        side.engine.transition(Event.PROBE_LOST)
    pair.down.clear()
    pair.client.send(EVENT, ["after"])
    pair.settle()
    assert (pair.client.engine.link, pair.server.engine.link) == (POLLING, POLLING)
    assert pair.client.events() == [["during"]]
    assert pair.server.events() == [["after"]]
    pair.probed = False
    pair.probe()
    pair.settle()
    assert pair.server.engine.link is WEBSOCKET, "and it may be tried again"


def test_a_client_whose_probe_is_lost_while_it_pauses_polls_on(polling_pair: Pair) -> None:
    pair = polling_pair
    pair.probe()
    pair.take_up()
    pair.take_down()
    assert pair.client.engine.link is PAUSING
    pair.client.engine.transition(Event.PROBE_LOST)
    pair.server.engine.transition(Event.PROBE_LOST)
    pair.server.send(EVENT, ["on"])
    pair.settle()
    assert pair.client.events() == [["on"]]


def test_a_session_that_closes_while_it_probes_does_not_upgrade(polling_pair: Pair) -> None:
    pair = polling_pair
    pair.probe()
    pair.take_up()
    pair.server.engine.transition(Event.DRAIN, Reason.SERVER_SHUTTING_DOWN)
    pair.server.engine.out.append(CLOSE_PACKET)
    with pytest.raises(LocalProtocolError):
        pair.server.engine.transition(Event.UPGRADE)
    pair.answer_get()
    while not any(b"1" in body for body, _ in pair.responses):  # singly, other packets may stand before it
        pair.take_response()
        pair.answer_get()
    pair.take_response()
    assert (pair.client.engine.state, pair.client.engine.reason) == (GONE, Reason.TRANSPORT_CLOSE)


# At random

choices = st.lists(st.integers(0, 10_000), max_size=150)


@given(st.sampled_from([3, 4]), st.sampled_from([POLLING, WEBSOCKET]), st.booleans(), st.booleans(), st.booleans(), choices)
def test_no_interleaving_of_sends_deliveries_pings_and_an_upgrade_loses_or_reorders_anything(
    eio: int, link: Link, base64: bool, singly: bool, upgrades: bool, choices: list[int]
) -> None:
    pair = connected(Pair(eio, link, base64, singly))
    pinger = pair.server if eio == 4 else pair.client
    sent: dict[Side, list[JSON]] = {pair.client: [], pair.server: []}

    def send(side: Side, *blobs: bytes) -> None:
        sent[side].append(["n", len(sent[side]), *blobs])
        side.send(EVENT, sent[side][-1])

    may_probe = upgrades and link is POLLING
    for choice in choices:
        actions = [
            lambda: send(pair.client),
            lambda: send(pair.server),
            lambda: send(pair.client, b"x", BLOB),
            lambda: send(pair.server, b"", b"\x04"),
            *pair.steps(),
            *pair.steps(),  # twice as likely, so that queues also empty
        ]
        if may_probe:
            actions.append(pair.probe)
        if pinger.armed is Due.INTERVAL:
            actions.append(pinger.overdue)
        action = actions[choice % len(actions)]
        if action == pair.probe:
            may_probe = False
        action()
    if may_probe:
        pair.probe()
    pair.settle()
    assert pair.server.events() == sent[pair.client]
    assert pair.client.events() == sent[pair.server]
    assert (pair.client.engine.state, pair.server.engine.state) == (OPEN, OPEN)
    expected = WEBSOCKET if upgrades or link is WEBSOCKET else POLLING
    assert (pair.client.engine.link, pair.server.engine.link) == (expected, expected)
    assert pinger.armed is Due.INTERVAL
