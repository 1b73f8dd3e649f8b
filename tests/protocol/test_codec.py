from __future__ import annotations

from base64 import b64decode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.errors import RemoteProtocolError
from mizzen.protocol.codec import Decoder, JSONCodec
from mizzen.protocol.packet import ACK, CONNECT, CONNECT_ERROR, DISCONNECT, EVENT, RESERVED_EVENTS, Packet, PacketType
from mizzen.types import Reason
from tests.protocol.vectors import may_refuse, params

CODEC = JSONCodec()
BOTH = params("packets.json", "both")


def packet_of(case: dict[str, Any]) -> Packet:
    fields = case["packet"]
    return Packet(PacketType[fields["type"]], fields.get("nsp", "/"), fields.get("data"), fields.get("id"))


def messages_of(case: dict[str, Any]) -> list[str | bytes]:
    attachments = params_bytes(case.get("attachments", []))
    return [case["text"], *attachments]


def params_bytes(encoded: list[str]) -> list[bytes]:
    return [b64decode(text) for text in encoded]


def feed_all(decoder: Decoder, messages: list[str | bytes]) -> Packet | None:
    """Feed the messages of one packet: only the last may complete it."""
    *first, last = messages
    for message in first:
        assert decoder.feed(message) is None
    return decoder.feed(last)


@pytest.mark.parametrize("case", BOTH)
def test_encode(case: dict[str, Any]) -> None:
    text, *attachments = messages_of(case)
    encoded = CODEC.encode(packet_of(case))
    assert encoded.messages(4) == (f"4{text}", *attachments)


@pytest.mark.parametrize("case", BOTH + params("packets.json", "decode"))
def test_decode(case: dict[str, Any]) -> None:
    assert feed_all(CODEC.decoder(), messages_of(case)) == packet_of(case)


@pytest.mark.parametrize("case", BOTH)
def test_text_cut_short_never_gives_a_packet_with_a_payload(case: dict[str, Any]) -> None:
    text = case["text"]
    for end in range(len(text)):
        with may_refuse(Reason.FORCED_CLOSE):
            packet = CODEC.decoder().feed(text[:end])
            # What JavaScript takes for a whole packet, too: CONNECT and DISCONNECT need no payload.
            assert packet is None or (packet.data is None and packet.type in (CONNECT, DISCONNECT))


def test_one_decoder_takes_all_packets_in_a_row() -> None:
    decoder = CODEC.decoder()
    for case in (param.values[0] for param in BOTH):
        assert feed_all(decoder, messages_of(case)) == packet_of(case)


@pytest.mark.parametrize("case", params("malformed.json", "packets"))
def test_refused(case: dict[str, Any]) -> None:
    decoder = CODEC.decoder()
    *good, bad = case["messages"]
    for message in good:
        decoder.feed(message)
    with pytest.raises(RemoteProtocolError, match="The peer sent ") as caught:
        decoder.feed(bad)
    assert caught.value.reason is Reason.FORCED_CLOSE
    for message in ('2["foo"]', '51-["foo"]', b"", "0"):
        with pytest.raises(RemoteProtocolError, match="after an error") as caught:
            decoder.feed(message)
        assert caught.value.reason is Reason.FORCED_CLOSE


@pytest.mark.parametrize("limit", [0, 1, 3, 20])
def test_max_attachments(limit: int) -> None:
    def header(count: int) -> str:
        return f'5{count}-["foo"]'

    if limit:
        assert CODEC.decoder(max_attachments=limit).feed(header(limit)) is None
    with pytest.raises(RemoteProtocolError, match="at most"):
        CODEC.decoder(max_attachments=limit).feed(header(limit + 1))


def test_placeholders_may_stand_as_deep_as_json_nests() -> None:
    depth = 1_020
    decoder = CODEC.decoder()
    decoder.feed(f'51-["foo",{"[" * depth}{{"_placeholder":true,"num":0}}{"]" * depth}]')
    packet = decoder.feed(b"x")
    assert packet is not None
    data = packet.data[1]
    for _ in range(depth):
        (data,) = data
    assert data == b"x"


def test_nesting_has_an_end() -> None:
    with pytest.raises(RemoteProtocolError, match="not JSON"):
        CODEC.decoder().feed(f'2["foo",{"[" * 100_000}')


@pytest.mark.parametrize("name", sorted(RESERVED_EVENTS))
def test_the_encoder_leaves_names_to_its_callers(name: str) -> None:
    assert CODEC.encode_event("/", [name], None).data == f'42["{name}"]'.encode()


def test_encode_event_is_the_short_way_to_the_same() -> None:
    for nsp in ("/", "/é"):
        for id_ in (None, 0, 7):
            for args in (["a"], ["a", b"1", {"b": bytearray(b"2")}]):
                direct, packet = CODEC.encode_event(nsp, args, id_), CODEC.encode(Packet(EVENT, nsp, args, id_))
                assert direct.messages(4) == packet.messages(4)


def test_a_tuple_of_arguments_is_an_array() -> None:
    assert CODEC.encode_event("/", ("a", 1)).data == b'42["a",1]'


@pytest.mark.parametrize("type_", [CONNECT, CONNECT_ERROR])
def test_bytes_have_no_place_outside_events_and_acks(type_: PacketType) -> None:
    with pytest.raises(TypeError, match="only be sent in the arguments"):
        CODEC.encode(Packet(type_, "/", {"token": b"secret"}))


def test_what_is_said_at_disconnection_is_not_sent() -> None:
    assert CODEC.encode(Packet(DISCONNECT, "/a", {"why": 1})).data == b"41/a,"


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary(max_size=20)
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12)
namespaces = st.just("/") | st.text(st.characters(exclude_characters=",", exclude_categories=["Cs"])).map(lambda name: "/" + name)
ids = st.none() | st.integers(0, 2**53)
names = st.text().filter(lambda name: name not in RESERVED_EVENTS)
packets = (
    st.builds(lambda nsp, name, args, id_: Packet(EVENT, nsp, [name, *args], id_), namespaces, names, st.lists(values, max_size=4), ids)
    | st.builds(lambda nsp, args, id_: Packet(ACK, nsp, args, id_), namespaces, st.lists(values, max_size=4), ids)
    | st.builds(Packet, st.just(CONNECT), namespaces, st.none() | st.dictionaries(st.text(), st.text(), max_size=3))
    | st.builds(Packet, st.just(DISCONNECT), namespaces)
    | st.builds(Packet, st.just(CONNECT_ERROR), namespaces, st.text() | st.dictionaries(st.text(), st.text(), max_size=3))
)


@given(packets)
def test_round_trip(packet: Packet) -> None:
    text, *attachments = CODEC.encode(packet).messages(4)
    assert isinstance(text, str)
    assert text[0] == "4"
    assert feed_all(CODEC.decoder(max_attachments=1_000), [text[1:], *attachments]) == packet


looks_like_a_packet = st.from_regex(
    r'[0-7]?([0-9]{0,3}-)?(/[a-z,?]{0,5},?)?[0-9]{0,20}(\[("[a-z]*",?|[0-9.,eE-]|\{"_placeholder":true,"num":[0-9-]+\},?)*\]|\{\}|null)?'
)
messages = st.one_of(
    st.text(), st.binary(max_size=10), looks_like_a_packet, st.text('0123456-/,[]{}":\\ud8e', max_size=40), st.text(st.characters())
)


@given(st.lists(messages, max_size=6))
def test_anything_else_is_refused_and_nothing_more(sequence: list[str | bytes]) -> None:
    decoder = CODEC.decoder(max_attachments=2)
    with may_refuse(Reason.FORCED_CLOSE):
        for message in sequence:
            packet = decoder.feed(message)
            assert packet is None or packet.type in (CONNECT, DISCONNECT, EVENT, ACK, CONNECT_ERROR)
