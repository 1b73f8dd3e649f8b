"""MessagePack packets: byte for byte those of socket.io-msgpack-parser, and no harm in whatever else comes."""

from __future__ import annotations

import math
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.errors import RemoteProtocolError
from mizzen.protocol.encoded import Encoded, Form
from mizzen.protocol.msgpack import MAX_DEPTH_IN, MsgpackCodec
from mizzen.protocol.packet import ACK, CONNECT, CONNECT_ERROR, DISCONNECT, EVENT, RESERVED_EVENTS, Packet
from mizzen.types import Reason
from tests.protocol.vectors import may_refuse

CODEC = MsgpackCodec()
X31 = "78" * 31

# Written by socket.io-msgpack-parser 3.0.2; ours are the same.
SAME: dict[str, Packet] = {
    "82a47479706500a36e7370a12f": Packet(CONNECT),
    "82a47479706501a36e7370a52f63686174": Packet(DISCONNECT, "/chat"),
    "84a47479706502a36e7370a62f61646d696ea46461746191a3666f6fa269640d": Packet(EVENT, "/admin", ["foo"], 13),
    "84a47479706503a36e7370a12fa46461746190a2696400": Packet(ACK, "/", [], 0),
    "84a47479706503a36e7370a12fa464617461920102a26964cd012c": Packet(ACK, "/", [1, 2], 300),
    "83a47479706504a36e7370a22f78a46461746182a76d657373616765a26e6fa46461746181a4636f646501": Packet(
        CONNECT_ERROR, "/x", {"message": "no", "data": {"code": 1}}
    ),
    "83a47479706504a36e7370a22f78a464617461a26e6f": Packet(CONNECT_ERROR, "/x", "no"),
    "83a47479706502a36e7370a12fa4646174619201cb4004000000000000": Packet(EVENT, "/", [1, 2.5]),
    "83a47479706502a36e7370a12fa464617461dc0017a16501ff7fcc80e0d0dfccffcd0100cdffffce00010000d080d1ff7fd18000d2ffff7fffce80000000"
    "cf0000000100000000d280000000d3ffffffff7fffffffcf001fffffffffffffd3ffe0000000000001cb3ff8000000000000cb7ff0000000000000": Packet(
        EVENT,
        "/",
        [
            *("e", 1, -1, 127, 128, -32, -33, 255, 256, 65535, 65536, -128, -129, -32768, -32769),
            *(2**31, 2**32, -(2**31), -(2**31) - 1, 2**53 - 1, 1 - 2**53, 1.5, math.inf),
        ],
    ),
    f"83a47479706502a36e7370a12fa46461746199a165c0c3c2a0a2c3a9a4f09f9880bf{X31}d920{X31}78": Packet(
        EVENT, "/", ["e", None, True, False, "", "é", "😀", "x" * 31, "x" * 32]
    ),
    "83a47479706502a36e7370a12fa46461746195a165c4020102d7000000000000000000d700ffffffffffffffffd700000000e8d4a51000": Packet(
        EVENT,
        "/",
        [
            *("e", b"\1\2", datetime(1970, 1, 1, tzinfo=UTC), datetime(1969, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)),
            datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC),
        ],
    ),
}
# What it writes and we write otherwise: `undefined`, `options`, what is an ArrayBuffer there.
DECODED: dict[str, Packet] = {
    "83a47479706500a36e7370a12fa46461746182a3736964a3616263a3706964d40000": Packet(CONNECT, "/", {"sid": "abc", "pid": None}),
    "83a47479706500a36e7370a12fa464617461d40000": Packet(CONNECT),
    "83a47479706501a36e7370a12fa464617461c0": Packet(DISCONNECT),
    "84a47479706502a36e7370a12fa46461746192a16583a161d40000a1629180a080a76f7074696f6e7381a8636f6d7072657373c3": Packet(
        EVENT, "/", ["e", {"a": None, "b": [{}], "": {}}]
    ),
    "83a47479706502a36e7370a12fa46461746199a165c4020102c70300010203c70000c7010000c708000000000000000000d7000000000000000000"
    "d700ffffffffffffffff91d40000": Packet(
        EVENT,
        "/",
        [
            *("e", b"\1\2", b"\1\2\3", b"", b"\0", bytes(8)),
            *(datetime(1970, 1, 1, tzinfo=UTC), datetime(1969, 12, 31, 23, 59, 59, 999000, tzinfo=UTC), [None]),
        ],
    ),
    "83a47479706502a36e7370a12fa46461746192a165d700001eb208c2dc0000": Packet(EVENT, "/", ["e", None]),  # the last Date that there is
    "83a47479706502a36e7370a12fa46461746192a165a4f0908080": Packet(EVENT, "/", ["e", "\U00010000"]),  # half a surrogate pair
    "83a47479706502a36e7370a12fa46461746192a165ca3fc00000": Packet(EVENT, "/", ["e", 1.5]),
    "83a47479706502a36e7370a12fa46461746192a165d6ff3b9aca00": Packet(EVENT, "/", ["e", datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)]),
    "83a47479706502a36e7370a12fa46461746192a165d40507": Packet(EVENT, "/", ["e", [5, b"\7"]]),
    "83a47479706502a36e7370a12fa46461746192a1658402c0c0c0c3c0cb3ff8000000000000c0": Packet(
        EVENT, "/", ["e", {"2": None, "null": None, "true": None, "1.5": None}]
    ),
}
EMPTY = b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data"


def only(encoded: Encoded) -> bytes:
    """Give the one message that a packet is."""
    assert encoded.data is None
    (message,) = encoded.attachments
    assert encoded.size == len(message)
    return message


def encoded_data(value: Any) -> bytes:
    message = only(CODEC.encode_event("/", ["e", value], None))
    start = EMPTY + b"\x92\xa1e"
    assert message.startswith(start)
    return message[len(start) :]


def echoed(value: Any) -> Any:
    packet = CODEC.decoder().feed(only(CODEC.encode_event("/", ["e", value], None)))
    name, back = packet.data
    assert name == "e"
    return back


@pytest.mark.parametrize(("wire", "packet"), SAME.items())
def test_encode(wire: str, packet: Packet) -> None:
    assert only(CODEC.encode(packet)).hex() == wire


@pytest.mark.parametrize(("wire", "packet"), [*SAME.items(), *DECODED.items()])
def test_decode(wire: str, packet: Packet) -> None:
    assert CODEC.decoder().feed(bytes.fromhex(wire)) == packet


def test_not_a_number_stays_one() -> None:
    assert encoded_data(math.nan).hex() == "cb7ff8000000000000"
    assert math.isnan(echoed(math.nan))


def test_the_hot_paths_write_what_encode_writes() -> None:
    assert only(CODEC.encode_event("/a", ("x", b"1"), 7)) == only(CODEC.encode(Packet(EVENT, "/a", ["x", b"1"], 7)))
    assert only(CODEC.encode_ack("/a", (b"1",), 7)) == only(CODEC.encode(Packet(ACK, "/a", [b"1"], 7)))


def test_a_disconnect_has_no_data() -> None:
    # "invalid payload" for any, even null: https://github.com/socketio/socket.io-msgpack-parser
    assert b"data" not in only(CODEC.encode(Packet(DISCONNECT, "/", None)))
    assert b"data" not in only(CODEC.encode(Packet(DISCONNECT, "/", {"a": 1})))


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param("", id="nothing"),
        pytest.param("c1", id="a byte that has no meaning"),
        pytest.param("82a47479706500a36e7370a1", id="cut short"),
        pytest.param("82a47479706500a36e7370a12f00", id="trailing bytes"),
        pytest.param("00", id="a number"),
        pytest.param("c0", id="nil"),
        pytest.param("90", id="an array"),
        pytest.param("80", id="an empty map"),
        pytest.param("81a36e7370a12f", id="no type"),
        pytest.param("82a474797065ffa36e7370a12f", id="type -1"),
        pytest.param("83a47479706505a36e7370a12fa46461746191a165", id="type 5: binary events are plain ones"),
        pytest.param("82a474797065c3a36e7370a12f", id="type true"),
        pytest.param("82a47479706590a36e7370a12f", id="type []"),
        pytest.param("82a474797065a132a36e7370a12f", id="type '2'"),
        pytest.param("81a47479706500", id="no namespace"),
        pytest.param("82a47479706500a36e737001", id="namespace 1"),
        pytest.param("82a47479706500a36e7370c4012f", id="namespace in bytes"),
        pytest.param("82a47479706500a36e7370c0", id="namespace nil"),
        pytest.param("82a47479706502a36e7370a12f", id="an event without data"),
        pytest.param("83a47479706502a36e7370a12fa46461746190", id="an event without a name"),
        pytest.param("83a47479706502a36e7370a12fa46461746191c0", id="an event named nil"),
        pytest.param("83a47479706502a36e7370a12fa46461746191c3", id="an event named true"),
        pytest.param("83a47479706502a36e7370a12fa464617461a165", id="an event whose data is a string"),
        pytest.param("83a47479706502a36e7370a12fa46461746181a165c0", id="an event whose data is a map"),
        pytest.param("84a47479706502a36e7370a12fa46461746191a165a26964ff", id="id -1"),
        pytest.param("84a47479706502a36e7370a12fa46461746191a165a26964c3", id="id true"),
        pytest.param("84a47479706502a36e7370a12fa46461746191a165a26964a131", id="id '1'"),
        pytest.param("84a47479706502a36e7370a12fa46461746191a165a26964cb7ff8000000000000", id="id NaN"),
        pytest.param("84a47479706502a36e7370a12fa46461746191a165a26964cf0020000000000001", id="an id beyond 2**53"),
        pytest.param("82a47479706503a36e7370a12f", id="an ack without data"),
        pytest.param("83a47479706501a36e7370a12fa46461746180", id="a disconnect with data"),
        pytest.param("83a47479706500a36e7370a12fa46461746190", id="a connect with an array"),
        pytest.param("83a47479706504a36e7370a12fa464617461c0", id="a connect error with nil"),
        pytest.param("83a47479706502a36e7370a12fa46461746192a165a1ff", id="a string that is not UTF-8"),
        pytest.param("83a47479706502a36e7370a12fa464617461ddffffffff", id="an array of 4 G"),
        pytest.param("83a47479706502a36e7370a12fa464617461dfffffffff", id="a map of 4 G"),
        pytest.param("83a47479706502a36e7370a12fa464617461dbffffffff", id="a string of 4 G"),
        pytest.param("83a47479706502a36e7370a12fa464617461c6ffffffff", id="bytes of 4 G"),
        pytest.param("83a47479706502a36e7370a12fa464617461c9ffffffff00", id="an extension of 4 G"),
        pytest.param("83a47479706502a36e7370a12fa46461746192a165d7ffffffffffffffffff", id="a timestamp that is none"),
        pytest.param("83a47479706502a36e7370a12fa46461746192a165c700ff", id="an empty timestamp"),
        pytest.param("83a47479706502a36e7370a12fa46461746192a1658190c0", id="a key that is an array"),
        pytest.param("83a47479706502a36e7370a12fa46461746192a1658180c0", id="a key that is a map"),
        pytest.param("83a47479706502a36e7370a12fa46461746192a16581c40161c0", id="a key that is bytes"),
        pytest.param("83a47479706502a36e7370a12fa46461746192a16581d40507c0", id="a key that is an extension"),
        pytest.param("83a47479706502a36e7370a12fa46461746192a16581c7010007c0", id="a key that is an ArrayBuffer"),
    ],
)
def test_refused(wire: str) -> None:
    decoder = CODEC.decoder()
    with pytest.raises(RemoteProtocolError, match="The peer sent ") as caught:
        decoder.feed(bytes.fromhex(wire))
    assert caught.value.reason is Reason.FORCED_CLOSE
    with pytest.raises(RemoteProtocolError, match="after an error"):
        decoder.feed(bytes.fromhex("82a47479706500a36e7370a12f"))


@pytest.mark.parametrize("name", sorted(RESERVED_EVENTS))
def test_no_peer_may_send_a_reserved_event(name: str) -> None:
    with pytest.raises(RemoteProtocolError, match="reserved"):
        CODEC.decoder().feed(only(CODEC.encode_event("/", [name], None)))


def test_text_tells_of_the_wrong_parser() -> None:
    with pytest.raises(RemoteProtocolError, match="the same parser"):
        CODEC.decoder().feed('2["e"]')


@pytest.mark.parametrize("depth", [MAX_DEPTH_IN + 1, 5_000, 500_000])
@pytest.mark.parametrize("unit", [b"\x91", b"\x81\xa1a"], ids=["arrays", "maps"])
def test_nesting_has_an_end(depth: int, unit: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match=r"not MessagePack: .*depth"):
        CODEC.decoder().feed(EMPTY + b"\x92\xa1e" + unit * depth + b"\xc0")


def test_nesting_of_hundreds_of_levels_is_taken() -> None:
    packet = CODEC.decoder().feed(EMPTY + b"\x92\xa1e" + b"\x91" * 500 + b"\xc0")
    value = packet.data[1]
    for _ in range(500):
        (value,) = value
    assert value is None


@given(st.binary(max_size=200))
def test_garbage_is_refused_and_does_nothing_worse(message: bytes) -> None:
    for whole in (message, EMPTY + b"\x92\xa1e" + message, EMPTY + b"\x92\xa1e\x81" + message):
        with may_refuse(Reason.FORCED_CLOSE):
            CODEC.decoder().feed(whole)


@given(st.sampled_from([*SAME, *DECODED]), st.data())
def test_a_packet_with_changed_bytes_is_refused_or_another_packet(wire: str, data: st.DataObject) -> None:
    message = bytearray.fromhex(wire)
    for _ in range(data.draw(st.integers(1, 3))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    with may_refuse(Reason.FORCED_CLOSE):
        CODEC.decoder().feed(bytes(message))


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | TEXT | st.binary(),
    lambda values: st.lists(values, max_size=5) | st.dictionaries(TEXT, values, max_size=5),
)


@given(st.sampled_from(["/", "/chat", "/é"]), st.lists(VALUES, max_size=4), st.none() | st.integers(0, 2**53))
def test_what_is_encoded_decodes_to_the_same(nsp: str, args: list[Any], id_: int | None) -> None:
    decoder = CODEC.decoder()
    for packet in (Packet(EVENT, nsp, ["event", *args], id_), Packet(ACK, nsp, args, id_ or 0), Packet(CONNECT, nsp, {"a": args})):
        assert decoder.feed(only(CODEC.encode(packet))) == packet


@given(st.lists(st.binary(max_size=9) | st.datetimes(timezones=st.just(UTC)) | st.just(b"\xc7\x08\x00") | st.just("\x01\x00"), max_size=6))
def test_headers_of_extensions_may_stand_anywhere(args: list[Any]) -> None:
    def extension(value: Any) -> Any:
        return value if isinstance(value, (str, datetime)) else msgspec.msgpack.Ext(0, value)

    packed = b"".join(
        # An extension of 1 or 8 bytes that is an ArrayBuffer has the long header, which msgspec does not write.
        b"\xc7%c\x00%b" % (len(value), value) if isinstance(value, bytes) else encoded_data(value)
        for value in args
    )
    packet = CODEC.decoder().feed(EMPTY + b"\xdc" + (len(args) + 1).to_bytes(2) + b"\xa1e" + packed)
    milliseconds = [value.replace(microsecond=value.microsecond // 1000 * 1000) if isinstance(value, datetime) else value for value in args]
    assert packet.data == ["e", *milliseconds]


# Values of Python's


class Colour(Enum):
    RED = "red"


class Shape(msgspec.Struct):
    name: str
    at: datetime
    image: bytes


@dataclass
class Point:
    x: int
    y: bytes


Pair = namedtuple("Pair", "a b")
MOMENT = datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=timezone(timedelta(hours=2)))


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Colour.RED, "red"),
        ({Colour.RED: 1}, {"red": 1}),
        ({1: "a", None: "b", 2.0: "d"}, {"1": "a", "null": "b", "2": "d"}),
        ((1, (2,)), [1, [2]]),
        ({7}, [7]),
        (Pair(1, 2), [1, 2]),
        (OrderedDict(a=1), {"a": 1}),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"abcd")[::2], b"ac"),
        (Decimal("1.50"), "1.50"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (date(2024, 2, 29), "2024-02-29"),
        (datetime(2024, 2, 29, 12), "2024-02-29T12:00:00"),
        (MOMENT, datetime(2024, 2, 29, 10, 30, 15, 123000, tzinfo=UTC)),
        (Point(1, b"2"), {"x": 1, "y": b"2"}),
        (2**64, float(2**64)),
        (-(2**63) - 1, float(-(2**63))),
        (10**400, None),
        ("a\ud83d", "a\ufffd"),
        ({"\ude00": "😀"}, {"\ufffd": "😀"}),
        ([{}] * 20, [{}] * 20),
        ([MOMENT] + [0] * 70_000, [datetime(2024, 2, 29, 10, 30, 15, 123000, tzinfo=UTC)] + [0] * 70_000),
        ({str(i): i for i in range(16)} | {1: 2}, {str(i): i for i in range(16)} | {"1": 2}),
    ],
    ids=repr,
)
def test_values_arrive_as_javascript_has_them(value: Any, plain: Any) -> None:
    assert echoed(value) == plain
    assert echoed({"deep": [value]}) == {"deep": [plain]}


def test_a_struct_keeps_its_bytes_and_moments() -> None:
    assert echoed(Shape("s", MOMENT, b"png")) == {"name": "s", "at": datetime(2024, 2, 29, 10, 30, 15, 123000, tzinfo=UTC), "image": b"png"}


def circle() -> list[Any]:
    ring: list[Any] = [1]
    ring.append({"again": ring})
    return ring


def nest(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), r"object cannot be sent \(at \[1\]\): make it"),
        ({"a": [int]}, r"the class int cannot be sent \(at \[1\]\['a'\]\[0\]\)"),
        ({"a": {(1, 2): 3}}, r"tuple cannot be the key of an object \(at \[1\]\['a'\]\[\(1, 2\)\]\)"),
        ({b"a": 1}, "bytes cannot be the key"),
        (circle(), "circular"),
        (nest(1_000), "deeper than 1000 levels"),
        (nest(100_000), "deeper than 1000 levels"),
    ],
    ids=["object", "class", "tuple key", "bytes key", "circle", "deep", "very deep"],
)
def test_what_cannot_be_sent_is_a_type_error_that_says_where(value: Any, message: str) -> None:
    for encode in (CODEC.encode_event, CODEC.encode_ack):
        with pytest.raises(TypeError, match=message):
            encode("/", ["e", value], 1)


def test_a_value_may_be_shared() -> None:
    shared = {"a": [1]}
    assert echoed([shared, shared]) == [shared, shared]


# Only binary: every form that a packet is sent in


def test_every_form_of_a_packet_that_is_only_binary() -> None:
    encoded = CODEC.encode(Packet(CONNECT))
    message = only(encoded)
    base64 = "gqR0eXBlAKNuc3ChLw=="
    assert encoded.messages(4) == (message,)
    assert encoded.messages(3) == (b"\x04" + message,)
    assert encoded.messages(4, base64=True) == (f"b{base64}",)
    assert encoded.messages(3, base64=True) == (f"b4{base64}",)
    assert encoded.frames(4) == b"\x82\x0d" + message
    assert encoded.frames(3) == b"\x82\x0e\x04" + message
    assert encoded.frames(4, base64=True) == b"\x81\x15b" + base64.encode()
    assert encoded.deflated_frames(4, False, 1_000) == encoded.frames(4)
    long = CODEC.encode(Packet(CONNECT, "/", {"a": "a" * 100}))
    assert long.deflated_frames(4, False, 1)[0] == 0xC2  # FIN, RSV1 (compressed), binary
    assert encoded.records(Form.EIO4) == (b"b" + base64.encode(),)
    assert encoded.records(Form.EIO3_TEXT) == (b"22:b4" + base64.encode(),)
    assert encoded.records(Form.EIO3_BINARY) == (b"\x01\x01\x04\xff\x04" + message,)


@pytest.mark.parametrize(
    "value", [Reason.PING_TIMEOUT, {Reason.PING_TIMEOUT: 1}, msgspec.UNSET, msgspec.Raw(b"1"), timedelta(1), msgspec.msgpack.Ext(1, b"")]
)
def test_nothing_slips_by_in_a_form_of_msgspecs_own(value: Any) -> None:
    if isinstance(value, (Reason, dict)):
        assert echoed(value) in ("ping timeout", {"ping timeout": 1})
        return
    with pytest.raises(TypeError, match="cannot be sent"):
        encoded_data([value])
