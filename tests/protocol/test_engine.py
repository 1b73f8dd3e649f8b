"""The engine: its table of states for both roles, control packets, heartbeats, and whatever else may come in."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from itertools import product
from math import inf
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mizzen
from mizzen.errors import LocalProtocolError, RemoteProtocolError
from mizzen.protocol.encoded import Encoded
from mizzen.protocol.engine import PING_PACKET, PONG_PACKET, TRANSITIONS, Due, Engine, Event, Link, Place, Role, State
from mizzen.types import JSON, Reason
from tests.protocol.vectors import may_refuse

OPENING, OPEN, CLOSING, GONE = State.OPENING, State.OPEN, State.CLOSING, State.GONE
POLLING, PROBING, PAUSING, WEBSOCKET = Link.POLLING, Link.PROBING, Link.PAUSING, Link.WEBSOCKET

PLACES = [
    pytest.param(role, place, id=f"{role.value}-{place[0].value}-{place[1].value}") for role in Role for place in product(State, Link)
]
STARTS: list[Place] = [(OPENING, POLLING), (OPENING, WEBSOCKET)]
ENDS = {Event.LINK_LOST: GONE, Event.CLOSE: GONE, Event.HEARTBEAT_OVERDUE: GONE}

# "The side that pings: the server in protocol 4, the client in protocol 3."
PINGING = [(Role.SERVER, 4), (Role.CLIENT, 3)]
ANSWERING = [(Role.CLIENT, 4), (Role.SERVER, 3)]
KINDS = PINGING + ANSWERING

OPEN_FIELDS: dict[str, JSON] = {"sid": "s1", "upgrades": ["websocket"], "pingInterval": 25000, "pingTimeout": 20000, "maxPayload": 1000000}


def engine_at(role: Role, place: Place, eio: int = 4) -> Engine:
    """Give an engine that stands at a place, however it got there."""
    engine = Engine(role, eio, place[1])
    engine.state = place[0]
    return engine


def opened(role: Role, eio: int, link: Link = POLLING) -> Engine:
    """Give an engine that has just opened; its first deadline is still in `due`."""
    engine = Engine(role, eio, link)
    engine.opened()
    return engine


def moved_on(engine: Engine, state: State, reason: Reason = Reason.SERVER_SHUTTING_DOWN) -> Engine:
    """Take an open engine to CLOSING or GONE, and its deadline away."""
    engine.transition(Event.DRAIN, reason)
    if state is GONE:
        engine.transition(Event.DRAINED)
    engine.due = None
    return engine


def refused(engine: Engine, packet: str | bytes) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as caught:
        engine.receive(packet)
    return caught.value


def open_packet(**changes: JSON) -> str:
    return "0" + json.dumps({key: value for key, value in {**OPEN_FIELDS, **changes}.items() if value is not ...})


# The table


@pytest.mark.parametrize(("role", "place"), PLACES)
def test_an_event_moves_as_listed_and_is_otherwise_refused_without_a_trace(role: Role, place: Place) -> None:
    row = TRANSITIONS[role].get(place, {})
    for event in Event:
        engine = engine_at(role, place)
        if event in row:
            engine.transition(event, Reason.TRANSPORT_CLOSE)
            target = row[event]
            assert (engine.state, engine.link) == (target if isinstance(target, tuple) else (target, place[1])), event
            assert engine.reason is (None if engine.state is OPEN else Reason.TRANSPORT_CLOSE)
        else:
            with pytest.raises(LocalProtocolError, match=f"'{event.value}'.*{place[0].value} on {place[1].value}"):
                engine.transition(event, Reason.TRANSPORT_CLOSE)
            assert (engine.state, engine.link, engine.reason) == (*place, None)
        assert engine.out == []


def test_every_event_happens_somewhere() -> None:
    sources = [path.read_text("utf-8") for path in Path(mizzen.__file__).parent.rglob("*.py")]
    assert {name for source in sources for name in re.findall(r"\.transition\(Event\.(\w+)", source)} == {event.name for event in Event}


def test_the_open_rows_of_the_server_are_those_of_the_design() -> None:
    table = TRANSITIONS[Role.SERVER]
    drain = Event.DRAIN
    assert table[OPEN, POLLING] == {Event.PROBE: (OPEN, PROBING), drain: (CLOSING, POLLING), **ENDS}
    assert table[OPEN, PROBING] == {
        Event.UPGRADE: (OPEN, WEBSOCKET),
        Event.PROBE_LOST: (OPEN, POLLING),
        drain: (CLOSING, PROBING),
        **ENDS,
    }
    assert table[OPEN, WEBSOCKET] == {drain: (CLOSING, WEBSOCKET), **ENDS}
    assert (OPEN, PAUSING) not in table, "only a client pauses its polling"


def test_a_client_upgrades_only_by_an_answered_probe() -> None:
    table = TRANSITIONS[Role.CLIENT]
    assert Event.UPGRADE not in table[OPEN, POLLING]
    assert Event.UPGRADE not in table[OPEN, PROBING]
    assert table[OPEN, PROBING][Event.PROBE_ANSWERED] == (OPEN, PAUSING)
    assert table[OPEN, PAUSING][Event.UPGRADE] == (OPEN, WEBSOCKET)


def targets(role: Role, place: Place) -> set[Place]:
    return {target if isinstance(target, tuple) else (target, place[1]) for target in TRANSITIONS[role].get(place, {}).values()}


@pytest.mark.parametrize("role", Role)
def test_every_place_is_reached_and_leads_to_gone_in_one_step_however_it_stands(role: Role) -> None:
    reached: set[Place] = set()
    ahead = list(STARTS)
    while ahead:
        place = ahead.pop()
        if place not in reached:
            reached.add(place)
            ahead.extend(targets(role, place))
    assert {place for place in reached if place[0] is not GONE} == set(TRANSITIONS[role]), (
        "a row that nothing leads to, or a place without a row"
    )
    for place, row in TRANSITIONS[role].items():
        assert row.items() >= ENDS.items(), place
        if place[0] is CLOSING:
            assert row[Event.DRAINED] is GONE


@pytest.mark.parametrize("role", Role)
def test_nothing_leads_back(role: Role) -> None:
    order = list(State)
    for place in TRANSITIONS[role]:
        for state, link in targets(role, place):
            assert order.index(state) >= order.index(place[0]), "a session never becomes younger"
            assert place[1] is not WEBSOCKET or link is WEBSOCKET, "a WebSocket is never left for polling"
    assert not any(state is GONE for state, _ in TRANSITIONS[role])


@given(st.sampled_from(Role), st.sampled_from(STARTS), st.lists(st.tuples(st.sampled_from(Event), st.sampled_from(Reason))))
def test_gone_is_entered_once_and_keeps_the_first_reason(role: Role, start: Place, events: list[tuple[Event, Reason]]) -> None:
    engine = engine_at(role, start)
    first: Reason | None = None
    entered = 0
    for event, reason in events:
        before = engine.state
        try:
            engine.transition(event, reason)
        except LocalProtocolError:
            assert engine.state is before
            continue
        assert before is not GONE
        entered += engine.state is GONE
        if first is None and engine.state in (CLOSING, GONE):
            first = reason
        assert engine.reason is first
    assert entered == (engine.state is GONE)


# Packets


@pytest.mark.parametrize(("role", "eio"), KINDS)
@pytest.mark.parametrize("link", [POLLING, WEBSOCKET])
def test_messages_are_given_back_without_their_type(role: Role, eio: int, link: Link) -> None:
    engine = opened(role, eio, link)
    assert engine.receive('42["é"]') == '2["é"]'
    assert engine.receive("4") == ""
    assert engine.receive(b"\x04\x00") == b"\x04\x00"
    assert engine.receive(b"") == b""
    assert engine.receive("b4AQI=" if eio == 3 else "bAQI=") == b"\x01\x02"
    assert engine.out == []


@pytest.mark.parametrize("eio", [3, 4])
@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("packet", ["4", b"", "6", "1"])
def test_every_packet_is_a_sign_of_life(role: Role, eio: int, packet: str | bytes) -> None:
    engine = opened(role, eio)
    engine.receive(packet)
    assert engine.heard


@pytest.mark.parametrize(("role", "eio"), ANSWERING)
def test_the_side_that_answers_pongs_each_ping_and_takes_no_pong(role: Role, eio: int) -> None:
    engine = opened(role, eio)
    assert engine.due is Due.SILENCE
    engine.due = None
    assert engine.receive("2") is None
    assert (engine.out, engine.due) == ([PONG_PACKET], Due.SILENCE)
    assert refused(engine, "3").reason is Reason.TRANSPORT_ERROR
    assert engine.state is OPEN, "the shell closes, with the reason that the error carries"


@pytest.mark.parametrize(("role", "eio"), PINGING)
def test_the_side_that_pings_takes_no_ping(role: Role, eio: int) -> None:
    engine = opened(role, eio)
    assert refused(engine, "2").reason is Reason.TRANSPORT_ERROR
    assert refused(engine, "2probe").reason is Reason.TRANSPORT_ERROR
    assert engine.out == []


@pytest.mark.parametrize(("role", "eio"), KINDS)
@pytest.mark.parametrize("link", [POLLING, WEBSOCKET])
def test_a_close_packet_ends_the_session(role: Role, eio: int, link: Link) -> None:
    engine = opened(role, eio, link)
    assert engine.receive("1") is None
    assert (engine.state, engine.reason) == (GONE, Reason.TRANSPORT_CLOSE)


@pytest.mark.parametrize(("role", "eio"), KINDS)
def test_a_noop_does_nothing(role: Role, eio: int) -> None:
    engine = opened(role, eio)
    engine.due = None
    assert engine.receive("6") is None
    assert (engine.state, engine.out, engine.due) == (OPEN, [], None)


@pytest.mark.parametrize(("role", "eio"), KINDS)
@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        ("5", Reason.TRANSPORT_ERROR),  # the upgrade packet belongs on the probe's WebSocket
        ("", Reason.PARSE_ERROR),
        ("7", Reason.PARSE_ERROR),
        ("hello", Reason.PARSE_ERROR),
        ("b!", Reason.PARSE_ERROR),
        ("b4===", Reason.PARSE_ERROR),
        ("٤x", Reason.PARSE_ERROR),
    ],
)
def test_what_is_no_packet_is_refused_with_its_reason(role: Role, eio: int, packet: str, reason: Reason) -> None:
    engine = opened(role, eio)
    assert refused(engine, packet).reason is reason
    assert (engine.state, engine.out) == (OPEN, [])


def test_a_refusal_shows_no_more_than_the_packets_beginning() -> None:
    assert len(str(refused(opened(Role.SERVER, 4), "x" * 100_000))) < 200


@pytest.mark.parametrize(("role", "eio"), KINDS)
def test_an_open_packet_of_an_open_session_is_refused_for_what_it_is(role: Role, eio: int) -> None:
    engine = opened(role, eio)
    error = refused(engine, open_packet())
    assert error.reason in (Reason.PARSE_ERROR, Reason.TRANSPORT_ERROR)
    assert "expected a type digit" not in str(error), "0 is one; what is wrong is that the session is open already"


@given(st.sampled_from(KINDS), st.sampled_from([OPEN, CLOSING, GONE]), st.lists(st.text() | st.binary() | st.sampled_from("0123456b")))
def test_whatever_comes_raises_nothing_but_a_remote_protocol_error(
    kind: tuple[Role, int], state: State, packets: list[str | bytes]
) -> None:
    engine = opened(*kind)
    if state is not OPEN:
        moved_on(engine, state)
    for packet in packets:
        with suppress(RemoteProtocolError):
            message = engine.receive(packet)
            assert message is None or engine.state is OPEN


# While closing, and after


@pytest.mark.parametrize(("role", "eio"), KINDS)
@pytest.mark.parametrize("state", [CLOSING, GONE])
def test_after_the_close_no_message_is_taken(role: Role, eio: int, state: State) -> None:
    engine = moved_on(opened(role, eio), state)
    for packet in ("4late", b"late", "b4AQI=" if eio == 3 else "bAQI=", "6"):
        assert engine.receive(packet) is None
    assert (engine.state, engine.out, engine.due) == (state, [], None)


@pytest.mark.parametrize(("role", "eio"), KINDS)
@pytest.mark.parametrize("packet", ["0{}", "1", "2", "3", "5", "7", ""])
def test_to_a_session_that_is_gone_nothing_happens_any_more(role: Role, eio: int, packet: str) -> None:
    engine = moved_on(opened(role, eio), GONE, Reason.SERVER_SHUTTING_DOWN)
    assert engine.receive(packet) is None
    assert (engine.state, engine.reason) == (GONE, Reason.SERVER_SHUTTING_DOWN)
    assert (engine.out, engine.due) == ([], None)


@pytest.mark.parametrize(("role", "eio"), PINGING)
def test_a_closing_session_is_gone_without_its_pong_and_keeps_its_reason(role: Role, eio: int) -> None:
    engine = opened(role, eio)
    engine.overdue()
    moved_on(engine, CLOSING, Reason.SERVER_SHUTTING_DOWN)
    engine.overdue()
    assert (engine.state, engine.reason) == (GONE, Reason.SERVER_SHUTTING_DOWN)


@pytest.mark.parametrize(("role", "eio"), PINGING)
def test_a_closing_session_pings_no_more_and_is_not_ended_by_a_ping_that_it_did_not_send(role: Role, eio: int) -> None:
    engine = moved_on(opened(role, eio), CLOSING)
    engine.overdue()
    assert (engine.state, engine.out) == (CLOSING, [])


@pytest.mark.parametrize(("role", "eio"), KINDS)
def test_a_close_packet_ends_a_closing_session_with_its_first_reason(role: Role, eio: int) -> None:
    engine = moved_on(opened(role, eio), CLOSING, Reason.SERVER_SHUTTING_DOWN)
    assert engine.receive("1") is None
    assert (engine.state, engine.reason) == (GONE, Reason.SERVER_SHUTTING_DOWN)


# Heartbeats


@pytest.mark.parametrize(("role", "eio"), PINGING)
def test_ping_pong_interval(role: Role, eio: int) -> None:
    engine = opened(role, eio)
    for count in range(1, 4):
        assert engine.due is Due.INTERVAL
        engine.overdue()
        assert (engine.due, engine.out) == (Due.TIMEOUT, [PING_PACKET] * count)
        engine.receive("3")
    assert engine.state is OPEN


@pytest.mark.parametrize(("role", "eio"), PINGING)
def test_no_pong_and_nothing_else_is_a_ping_timeout(role: Role, eio: int) -> None:
    engine = opened(role, eio)
    engine.receive("4before the ping, so that it counts for nothing")
    engine.overdue()
    engine.overdue()
    assert (engine.state, engine.reason) == (GONE, Reason.PING_TIMEOUT)


@pytest.mark.parametrize(("role", "eio"), PINGING)
@pytest.mark.parametrize("sign", ["4part of a long upload", b"part", "6"])
def test_a_sign_of_life_puts_the_timeout_off_once_only(role: Role, eio: int, sign: str | bytes) -> None:
    engine = opened(role, eio)
    engine.overdue()
    engine.receive(sign)
    engine.overdue()
    assert (engine.state, engine.due) == (OPEN, Due.EXTENSION)
    engine.receive(sign)
    engine.overdue()
    assert (engine.state, engine.reason) == (GONE, Reason.PING_TIMEOUT)


@pytest.mark.parametrize(("role", "eio"), PINGING)
def test_a_pong_in_the_extension_begins_a_new_interval_with_an_extension_of_its_own(role: Role, eio: int) -> None:
    engine = opened(role, eio)
    for _ in range(2):
        engine.overdue()
        engine.receive("4x")
        engine.overdue()
        assert engine.due is Due.EXTENSION
        engine.receive("3")
        assert engine.due is Due.INTERVAL
    assert engine.out == [PING_PACKET, PING_PACKET]


@pytest.mark.parametrize(("role", "eio"), ANSWERING)
def test_silence_is_a_ping_timeout_at_once(role: Role, eio: int) -> None:
    engine = opened(role, eio)
    engine.receive("4messages are not pings")
    engine.overdue()
    assert (engine.state, engine.reason, engine.out) == (GONE, Reason.PING_TIMEOUT, [])


@pytest.mark.parametrize(("role", "eio"), KINDS)
def test_resuming_begins_the_wait_anew_where_it_was(role: Role, eio: int) -> None:
    engine = opened(role, eio)
    first = engine.due
    engine.suspend()
    assert engine.due is None
    engine.resume()
    assert engine.due is first
    if (role, eio) in PINGING:
        engine.overdue()
        engine.suspend()
        engine.resume()
        assert engine.due is Due.TIMEOUT
        engine.overdue()
        assert engine.due is Due.EXTENSION, "silence while nothing was read says nothing"


@given(st.sampled_from(PINGING), st.lists(st.sampled_from(["overdue", "3", "4x", "6"])))
def test_between_a_ping_and_the_timeout_there_is_at_most_one_extension(kind: tuple[Role, int], steps: list[str]) -> None:
    engine = opened(*kind)
    waited, heard = 0, False  # deadlines passed since the last pong; whether something came since the ping
    for step in steps:
        if step == "overdue":
            engine.overdue()
            waited += 1
            if waited == 1:
                heard = False
            expected = waited == 1 or (waited == 2 and heard)
            assert (engine.state is OPEN) == expected
            if not expected:
                return
        else:
            engine.receive(step)
            heard = True
            if step == "3":
                waited = 0
                assert engine.due is Due.INTERVAL


# The client's open packet


@pytest.mark.parametrize(("eio", "due"), [(4, Due.SILENCE), (3, Due.INTERVAL)])
@pytest.mark.parametrize("link", [POLLING, WEBSOCKET])
def test_the_open_packet_opens_a_client(eio: int, due: Due, link: Link) -> None:
    engine = Engine(Role.CLIENT, eio, link)
    assert engine.receive(open_packet(unknown={"is": "ignored"})) is None
    assert (engine.state, engine.link, engine.due) == (OPEN, link, due)
    assert (engine.sid, engine.upgrades, engine.max_payload) == ("s1", ("websocket",), 1_000_000)
    assert (engine.ping_interval, engine.ping_timeout) == (25.0, 20.0), "in seconds"


def test_a_server_may_leave_out_max_payload() -> None:
    engine = Engine(Role.CLIENT, 3, POLLING)
    engine.receive(open_packet(maxPayload=..., upgrades=[]))
    assert (engine.state, engine.upgrades, engine.max_payload) == (OPEN, (), 0)


@pytest.mark.parametrize(
    "packet",
    [
        "0",
        "0{",
        "0null",
        "0[]",
        "01",
        '0"sid"',
        "0{}",
        *(open_packet(**{name: ...}) for name in ("sid", "upgrades", "pingInterval", "pingTimeout")),
        open_packet(pingInterval="25000"),
        open_packet(pingTimeout=None),
        open_packet(upgrades=None),
        open_packet(upgrades=5),
    ],
)
def test_a_malformed_open_packet_is_refused(packet: str) -> None:
    engine = Engine(Role.CLIENT, 4, POLLING)
    error = refused(engine, packet)
    assert error.reason is Reason.PARSE_ERROR
    assert "open packet" in str(error)
    assert engine.state is OPENING


@pytest.mark.parametrize(
    "packet",
    [
        open_packet(sid=None),
        open_packet(sid={}),
        open_packet(upgrades="websocket"),
        open_packet(upgrades=[1]),
        open_packet(upgrades={"websocket": 1}),
        open_packet(pingInterval=-1),
        open_packet(pingTimeout=-1),
        open_packet(pingInterval=True),
        open_packet().replace("25000", "1e999"),
        open_packet(maxPayload="1"),
        open_packet(maxPayload=-1),
        open_packet(maxPayload=[]),
    ],
)
def test_an_open_packet_with_a_field_of_the_wrong_kind_is_refused(packet: str) -> None:
    engine = Engine(Role.CLIENT, 4, POLLING)
    assert refused(engine, packet).reason is Reason.PARSE_ERROR
    assert engine.state is OPENING


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.text().map("0".__add__)
    | values.map(lambda value: "0" + json.dumps(value))
    | st.dictionaries(st.sampled_from(list(OPEN_FIELDS)), values | st.just(...)).map(lambda changes: open_packet(**changes))
)
def test_an_open_packet_opens_with_sound_fields_or_raises_nothing_but_a_remote_protocol_error(packet: str) -> None:
    engine = Engine(Role.CLIENT, 4, POLLING)
    with may_refuse(Reason.PARSE_ERROR):
        engine.receive(packet)
    if engine.state is not OPENING:
        assert engine.state is OPEN
        assert isinstance(engine.sid, str)
        assert all(isinstance(name, str) for name in engine.upgrades)
        assert 0 <= engine.ping_interval < inf
        assert 0 <= engine.ping_timeout < inf
        assert isinstance(engine.max_payload, int)
        assert engine.max_payload >= 0


def test_before_the_open_packet_a_client_takes_no_message() -> None:
    engine = Engine(Role.CLIENT, 4, POLLING)
    assert engine.receive("4early") is None
    assert engine.receive(b"early") is None
    assert engine.state is OPENING


def test_a_server_takes_no_open_packet() -> None:
    engine = opened(Role.SERVER, 4)
    refused(engine, open_packet())
    assert engine.sid == ""


def test_out_survives_the_upgrade() -> None:
    engine = opened(Role.SERVER, 4)
    engine.out.append(Encoded(b"4a"))
    out = engine.out
    for event in (Event.PROBE, Event.UPGRADE):
        engine.transition(event)
    assert engine.out is out
    assert [encoded.data for encoded in out] == [b"4a"]
