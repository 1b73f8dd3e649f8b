from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.errors import RemoteProtocolError
from mizzen.protocol.encoded import Encoded
from mizzen.protocol.payload import decode_payload, encode_payload
from mizzen.types import Reason
from tests.protocol.vectors import may_refuse, params

BOTH = params("payloads.json", "both")
# Every way that a payload can travel: Engine.IO revision, whether the client asked for base64.
WAYS = [(4, False), (4, True), (3, True), (3, False)]

texts = st.builds(str.__add__, st.sampled_from("0123456"), st.text(st.characters(exclude_categories=["Cs"])))
units = st.builds(
    Encoded, texts.filter(lambda text: "\x1e" not in text).map(str.encode), st.lists(st.binary(max_size=40), max_size=3).map(tuple)
)


def units_of(packets: list[str | bytes]) -> list[Encoded]:
    return [Encoded(None, [packet]) if isinstance(packet, bytes) else Encoded(packet.encode()) for packet in packets]


@pytest.mark.parametrize("case", BOTH)
@pytest.mark.parametrize(("key", "eio", "base64"), [("eio4", 4, False), ("eio4", 4, True), ("eio3", 3, True)])
def test_text_payload(case: dict[str, Any], key: str, eio: int, base64: bool) -> None:
    assert encode_payload(units_of(case["packets"]), eio, base64) == (case[key].encode(), "text/plain; charset=UTF-8")
    assert decode_payload(case[key].encode(), eio, binary=False) == case["packets"]


@pytest.mark.parametrize("case", BOTH)
def test_binary_payload(case: dict[str, Any]) -> None:
    body, content_type = encode_payload(units_of(case["packets"]), 3, base64=False)
    if "eio3_binary" in case:
        assert (body.hex(), content_type) == (case["eio3_binary"], "application/octet-stream")
        assert decode_payload(body, 3, binary=True) == case["packets"]
    else:
        # "The payload encoding format is as follows when only strings are sent"
        assert (body, content_type) == (case["eio3"].encode(), "text/plain; charset=UTF-8")


@pytest.mark.parametrize("case", params("payloads.json", "decode"))
def test_accepted(case: dict[str, Any]) -> None:
    body = bytes.fromhex(case["hex"]) if "hex" in case else case["body"].encode()
    assert decode_payload(body, case["eio"], binary="hex" in case) == case["packets"]


@pytest.mark.parametrize("case", params("malformed.json", "payloads"))
def test_refused(case: dict[str, Any]) -> None:
    body = bytes.fromhex(case["hex"]) if "hex" in case else case["body"].encode()
    with pytest.raises(RemoteProtocolError, match="The peer sent ") as caught:
        decode_payload(body, case["eio"], case.get("binary", False))
    assert caught.value.reason is Reason.PARSE_ERROR


@pytest.mark.parametrize("case", BOTH)
def test_a_payload_cut_short_never_gives_other_packets(case: dict[str, Any]) -> None:
    for key, eio, binary in (("eio4", 4, False), ("eio3", 3, False), ("eio3_binary", 3, True)):
        if key not in case:
            continue
        body = bytes.fromhex(case[key]) if binary else case[key].encode()
        for end in range(len(body)):
            try:
                packets = decode_payload(body[:end], eio, binary)
            except RemoteProtocolError:
                continue
            # Only the last packet of an Engine.IO 4 payload does not say where it ends.
            whole = packets if eio == 3 else packets[:-1]
            assert whole == case["packets"][: len(whole)]


def test_attachments_follow_their_packet() -> None:
    units = [Encoded(b"2"), Encoded(b"452-[]", [b"\1", b"\2"]), Encoded(b"41")]
    for eio, base64 in WAYS:
        body, content_type = encode_payload(units, eio, base64)
        assert decode_payload(body, eio, content_type == "application/octet-stream") == ["2", "452-[]", b"\1", b"\2", "41"]


def test_no_packets() -> None:
    assert encode_payload([], 4, base64=False)[0] == b""
    assert decode_payload(encode_payload([], 3, base64=False)[0], 3, binary=False) == []


@given(st.lists(units, min_size=1, max_size=5))
def test_round_trip(units: list[Encoded]) -> None:
    packets = [message for unit in units for message in unit.messages(4)]
    for eio, base64 in WAYS:
        body, content_type = encode_payload(units, eio, base64)
        assert decode_payload(body, eio, content_type == "application/octet-stream") == packets


@given(texts.map(str.encode))
def test_engine_io_3_may_hold_any_character(data: bytes) -> None:
    body, _ = encode_payload([Encoded(data), Encoded(b"2")], 3, base64=True)
    assert decode_payload(body, 3, binary=False) == [data.decode(), "2"]


hostile = (
    st.binary()
    | st.text("0123456789:b=\x1e4é😀[]", max_size=60).map(str.encode)
    | st.lists(st.sampled_from([0, 1, 2, 4, 9, 52, 255])).map(bytes)
)


@given(hostile, st.sampled_from([3, 4]), st.booleans())
def test_anything_else_is_refused_and_nothing_more(body: bytes, eio: int, binary: bool) -> None:
    with may_refuse(Reason.PARSE_ERROR):
        packets = decode_payload(body, eio, binary)
        assert all(isinstance(packet, bytes) or packet[0] in "0123456" for packet in packets)
