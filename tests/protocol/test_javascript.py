from __future__ import annotations

import json
import sys
from collections import OrderedDict, UserDict, deque, namedtuple
from dataclasses import InitVar, dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from types import MappingProxyType
from typing import Any, ClassVar, cast
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.errors import RemoteProtocolError
from mizzen.protocol.javascript import MAX_DEPTH, dumps, loads, number_text
from mizzen.types import JSON, Reason
from tests.protocol.vectors import may_refuse, params

Point = namedtuple("Point", "x y")


class Colour(Enum):
    RED = "red"
    NESTED = ("a", 1)


class Level(IntEnum):
    HIGH = 3


class Word(StrEnum):
    YES = "yes"


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


class Ratio(float):
    """Such as numpy's float64."""


class Number(int):
    pass


@dataclass
class Plain:
    a: int
    b: Any = None
    _hidden: int = 5
    shared: ClassVar[int] = 7
    only_at_start: InitVar[int] = 8
    made: list[int] = field(default_factory=list, init=False)


@dataclass(slots=True)
class Slotted:
    a: int
    b: Any = None
    _hidden: int = 5


class Row(msgspec.Struct, rename="camel", tag="row"):
    first_name: str
    blob: bytes
    when: datetime
    price: Decimal
    tags: set[str]
    more: Any = None


class Model(pydantic.BaseModel):
    first_name: str = pydantic.Field(alias="firstName")
    when: datetime
    price: Decimal
    tags: set[str]


class Unwilling(pydantic.BaseModel):
    more: Any = None

    def model_dump(self, **_: object) -> dict[str, Any]:
        raise LookupError("not today")


NOON = datetime(2026, 1, 2, 12, 0, 0, 5000, tzinfo=UTC)
HUGE = 2**70

CASES: list[tuple[Any, str]] = [
    ((1, (2,)), "[1,[2]]"),
    (Point(1, 2), "[1,2]"),
    (deque([1, 2]), "[1,2]"),
    ({1}, "[1]"),
    (frozenset([1]), "[1]"),
    ({"a": 1}.keys(), '["a"]'),
    (OrderedDict(b=1, a=2), '{"b":1,"a":2}'),
    (UserDict(a={1}), '{"a":[1]}'),
    (MappingProxyType({"a": 1}), '{"a":1}'),
    (NOON, '"2026-01-02T12:00:00.005000Z"'),
    (datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=2))), '"2026-01-02T00:00:00+02:00"'),
    (datetime(2026, 1, 2), '"2026-01-02T00:00:00"'),
    (date(2026, 1, 2), '"2026-01-02"'),
    (time(1, 2, 3), '"01:02:03"'),
    (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
    (Decimal("1.50"), '"1.50"'),
    (Colour.RED, '"red"'),
    (Colour.NESTED, '["a",1]'),
    (Level.HIGH, "3"),
    (Word.YES, '"yes"'),
    (Text("as it is"), '"as it is"'),
    (Ratio(1.5), "1.5"),
    (Ratio("nan"), "null"),
    (Number(7), "7"),
    (True, "true"),
    (-0.0, "-0.0"),
    (Plain(1, {2}), '{"a":1,"b":[2],"made":[]}'),
    (Slotted(1, Plain(2)), '{"a":1,"b":{"a":2,"b":null,"made":[]}}'),
    (
        Row("Ada", b"xyz", NOON, Decimal("1.5"), {"t"}, {1}),
        '{"type":"row","firstName":"Ada","blob":{"_placeholder":true,"num":0},"when":"2026-01-02T12:00:00.005000Z","price":"1.5","tags":["t"],"more":[1]}',
    ),
    (
        Row("Ada", b"", NOON, Decimal(1), set(), Model(firstName="B", when=NOON, price=Decimal(2), tags=set())),
        '{"type":"row","firstName":"Ada","blob":{"_placeholder":true,"num":0},"when":"2026-01-02T12:00:00.005000Z","price":"1","tags":[],'
        '"more":{"firstName":"B","when":"2026-01-02T12:00:00.005000Z","price":"2","tags":[]}}',
    ),
    (
        Model(firstName="Ada", when=NOON, price=Decimal("1.5"), tags={"t"}),
        '{"firstName":"Ada","when":"2026-01-02T12:00:00.005000Z","price":"1.5","tags":["t"]}',
    ),
    (b"x", '{"_placeholder":true,"num":0}'),
    (["", bytearray(b"x"), {"a": memoryview(b"yz")[::2]}], '["",{"_placeholder":true,"num":0},{"a":{"_placeholder":true,"num":1}}]'),
]

KEYS: list[tuple[Any, str]] = [
    (1, "1"),
    (-1, "-1"),
    (None, "null"),
    (True, "true"),
    (False, "false"),
    (1.0, "1"),
    (-1.5, "-1.5"),
    (0.1, "0.1"),
    (-0.0, "0"),
    (1e20, "100000000000000000000"),
    (1e21, "1e+21"),
    (1.5e300, "1.5e+300"),
    (0.000001, "0.000001"),
    (1.5e-7, "1.5e-7"),
    (float("nan"), "NaN"),
    (float("inf"), "Infinity"),
    (float("-inf"), "-Infinity"),
    (2**1023, str(2**1023)),
    (2**1024, "Infinity"),
    (-(10**5000), "-Infinity"),
    (Level.HIGH, "3"),
    (Word.YES, "yes"),
    (Text("t"), "t"),
    (date(2026, 1, 2), "2026-01-02"),
    (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ("\ud800", "\\ud800"),
    ('"', '\\"'),
]


@pytest.mark.parametrize("case", params("json.json", "both", "encode"))
def test_encode(case: dict[str, Any]) -> None:
    assert dumps(case["value"]) == case["text"].encode()


@pytest.mark.parametrize("case", params("json.json", "both", "decode"))
def test_decode(case: dict[str, Any]) -> None:
    for text in (case["text"], case["text"].encode()):
        value = loads(text)
        assert value == case["value"]
        assert type(value) is type(case["value"])


@pytest.mark.parametrize("case", params("json.json", "numbers"))
def test_a_number_is_the_string_that_javascript_makes_of_it(case: dict[str, Any]) -> None:
    assert number_text(cast("float", loads(case["text"]))) == case["string"]


@pytest.mark.parametrize("text", params("json.json", "refused"))
def test_refused(text: str) -> None:
    for form in (text, text.encode()):
        with pytest.raises(RemoteProtocolError, match="not JSON") as caught:
            loads(form)
        assert caught.value.reason is Reason.FORCED_CLOSE


@pytest.mark.parametrize("data", [b'"\xff"', b'"\xed\xa0\x80"', b"\xff\xfe1\x00", '"\ud800"', b'["\\ud800","\xff"]'])
def test_what_is_not_utf8_is_refused(data: str | bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="not JSON"):
        loads(data)


@pytest.mark.parametrize(("value", "text"), CASES, ids=[type(value).__name__ for value, _ in CASES])
def test_types_of_python(value: Any, text: str) -> None:
    assert dumps(value, []) == text.encode()


@pytest.mark.parametrize(("value", "text"), CASES, ids=[type(value).__name__ for value, _ in CASES])
def test_the_slow_way_writes_the_same(value: Any, text: str) -> None:
    attachments: list[bytes] = []
    assert dumps([value, HUGE], attachments) == f"[{text},{HUGE}]".encode()
    assert len(attachments) == text.count("_placeholder")


@pytest.mark.parametrize(("key", "text"), KEYS, ids=[repr(text) for _, text in KEYS])
def test_keys(key: Any, text: str) -> None:
    assert dumps({key: 1}) == f'{{"{text}":1}}'.encode()


def test_attachments_are_lifted_in_order() -> None:
    for more in ([], [HUGE]):
        attachments: list[bytes] = []
        changing = bytearray(b"b")
        dumps([b"a", {"x": changing, "y": [memoryview(b"c")]}, *more], attachments)
        changing[0] = 0
        assert attachments == [b"a", b"b", b"c"]
        assert all(type(attachment) is bytes for attachment in attachments)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2**64 - 1, "18446744073709551615"),
        (2**64, "18446744073709551616"),
        (-(2**63) - 1, "-9223372036854775809"),
        (2**1024 - 1, str(2**1024 - 1)),
        (2**1024, "null"),
        (-(10**5000), "null"),
    ],
    ids=["64 bits", "65 bits", "-64 bits", "1024 bits", "1025 bits", "-5000 digits"],
)
def test_integers_keep_their_digits_as_far_as_a_double_goes(value: int, text: str) -> None:
    assert dumps(value) == text.encode()


def nested(depth: int, innermost: JSON) -> JSON:
    value = innermost
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


@pytest.mark.parametrize("depth", [250, 300, MAX_DEPTH])
def test_nesting(depth: int) -> None:
    for innermost in (1, HUGE):
        text = dumps(nested(depth, innermost)).decode()
        assert (text.count("[") + text.count("{"), text.count("]") + text.count("}")) == (depth, depth)


def test_nesting_has_an_end() -> None:
    for depth in (MAX_DEPTH + 1, 100_000):
        value = nested(depth, 1)
        with pytest.raises(TypeError, match="deeper than 1000"):
            dumps(value)
        while value != 1:  # a deep structure is taken apart from outside, or its destructor would recurse
            (value,) = value.values() if isinstance(value, dict) else value


def test_circular_references() -> None:
    circle: list[JSON] = [1]
    circle.append({"again": circle})
    with pytest.raises(TypeError, match=r"circular .* \(at \[1\]\['again'\]\)"):
        dumps(circle)
    mapping: UserDict[str, JSON] = UserDict()
    mapping["self"] = mapping
    with pytest.raises(TypeError, match="circular"):
        dumps(mapping)
    item = Plain(1)
    item.b = item
    with pytest.raises(TypeError, match="circular"):
        dumps(item)


def test_one_object_in_two_places_is_no_circle() -> None:
    shared = [1]
    assert dumps([shared, shared, {"a": shared}, HUGE]) == f'[[1],[1],{{"a":[1]}},{HUGE}]'.encode()


class Nothing:
    pass


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Nothing(), r"Nothing cannot be sent: make it None, bool"),
        ({"user": [1, Nothing()]}, r"Nothing cannot be sent \(at \['user'\]\[1\]\): make it None, bool"),
        (Plain(1, Nothing()), r"Nothing cannot be sent \(at \['b'\]\)"),
        (Plain, "the class Plain cannot be sent"),
        (Model, "the class Model cannot be sent"),
        (1j, "complex cannot be sent"),
        (len, "builtin_function_or_method cannot be sent"),
        ((i for i in "ab"), "generator cannot be sent"),
        ({(1, 2): 3}, r"tuple cannot be the key of an object \(at \[\(1, 2\)\]\)"),
        ({b"a": 3}, "bytes cannot be the key"),
        ([Unwilling()], r"Unwilling cannot be sent \(at \[0\]\): LookupError: not today"),
        (Row("a", b"", NOON, Decimal(1), set(), Nothing()), r"Row cannot be sent: TypeError: .*Nothing cannot be sent"),
    ],
)
def test_what_cannot_be_sent(value: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        dumps(value, [])


def test_bytes_without_a_place_for_attachments() -> None:
    with pytest.raises(TypeError, match=r"bytes can only be sent in the arguments of an event or of an ack \(at \['a'\]\)"):
        dumps({"a": b"x"})


def test_a_failure_shows_the_first_levels_of_where_it_was() -> None:
    with pytest.raises(TypeError, match=r"\(at (\[('a'|0)\]){8}…\)"):
        dumps(nested(20, Nothing()))


@pytest.mark.parametrize("innermost", ["1", '"\\ud800"'])
def test_what_comes_in_may_nest_only_so_deep(innermost: str) -> None:
    for depth in (1_025, 200_000):
        with pytest.raises(RemoteProtocolError, match="not JSON"):
            loads("[" * depth + innermost + "]" * depth)
    assert loads("[" * 500 + innermost + "]" * 500)
    assert loads("[" * 1_024 + "1" + "]" * 1_024)


def test_long_numbers_take_no_time() -> None:
    assert loads("9" * 1_000_000) == float("inf")
    assert loads("[-" + "9" * 1_000_000 + "]") == [float("-inf")]
    assert loads("0." + "1" * 1_000_000) == pytest.approx(1 / 9)
    assert len("9" * 1_000_000) > sys.get_int_max_str_digits()


def test_nothing_is_parsed_twice_without_need() -> None:
    # What orjson refuses for good keeps orjson's message, which says where it went wrong.
    with pytest.raises(RemoteProtocolError, match="trailing comma"):
        loads("[1,]")


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters())
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner), max_leaves=20)


def as_javascript(value: JSON) -> JSON:
    """Say what a value is after its numbers have been JavaScript's."""
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return float(value)
    if isinstance(value, list):
        return [as_javascript(item) for item in value]
    if isinstance(value, dict):
        return {joined(key): as_javascript(item) for key, item in value.items()}
    return joined(value) if isinstance(value, str) else value


def joined(text: str) -> str:
    """Join the halves of surrogate pairs, which are one character in JavaScript."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


@given(values)
def test_round_trip(value: JSON) -> None:
    text = dumps(value)
    assert loads(text) == loads(text.decode()) == as_javascript(value)


@given(values)
def test_both_ways_out_agree(value: JSON) -> None:
    fast, slow = dumps(value), dumps([value, HUGE])
    assert slow == b"[" + fast + b",%d]" % HUGE
    assert json.loads(fast) == json.loads(json.dumps(value))


bits = st.lists(
    st.sampled_from(['"', "\\ud800", "\\uDC00", "\\", "1e309", "9" * 20, "[", "]", "{", "}", ":", ",", "-", "NaN", "1", " ", "null"])
).map("".join)


@given(st.text(st.characters()) | st.binary() | bits)
def test_anything_else_is_refused_and_nothing_more(text: str | bytes) -> None:
    with may_refuse(Reason.FORCED_CLOSE):
        loads(text)
