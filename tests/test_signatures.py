from __future__ import annotations

import asyncio
import dataclasses
import datetime
import enum
import functools
import subprocess
import sys
import typing
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, NewType, TypedDict

import annotated_types
import msgspec
import pydantic
import pydantic.dataclasses
import pytest
import typing_extensions
from hypothesis import given
from hypothesis import strategies as st

from mizzen.annotations import MAX_DETAILS
from mizzen.errors import ArgumentsInvalid, EventRefused, RemoteError
from mizzen.signatures import Signature, compile_signature, error_ack, parse_error_ack
from mizzen.types import JSON, Reason

if TYPE_CHECKING:
    from somewhere import Unreachable  # pyright: ignore[reportMissingImports]


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


@dataclasses.dataclass
class Even:
    n: int

    def __post_init__(self) -> None:
        if self.n % 2:
            raise ValueError("n is odd")


@dataclasses.dataclass
class Tree:
    children: list[Tree]


@dataclasses.dataclass
class Other:
    z: int


class Shape(TypedDict):
    points: list[Point]


class Pair(NamedTuple):
    a: int
    b: str


class Upload(msgspec.Struct):
    name: str
    body: bytes


class Auth(pydantic.BaseModel):
    token: str
    expires: datetime.datetime | None = None


class Photo(pydantic.BaseModel):
    at: datetime.datetime
    colour: Colour
    size: tuple[int, int]
    body: bytes
    extra: dict[str, Any] = {}


class Signed(pydantic.BaseModel):
    at: datetime.datetime
    body: Annotated[bytes, pydantic.AfterValidator(lambda body: _signed(body))]


def _signed(body: bytes) -> bytes:
    if not body.startswith(b"\xff"):
        raise ValueError("not signed")
    return body


@pydantic.dataclasses.dataclass
class Checked:
    n: int


@dataclasses.dataclass
class Envelope:
    auth: Auth


class Deferred(pydantic.BaseModel, defer_build=True):
    n: int


class Unfinished(pydantic.BaseModel):
    it: Nowhere  # type: ignore # noqa: F821  # pyright: ignore


class Stranger:
    pass


class Holder(msgspec.Struct):
    auth: Auth


@dataclasses.dataclass
class Lost:
    it: Nowhere  # type: ignore # noqa: F821  # pyright: ignore


UserId = NewType("UserId", str)
UTC = datetime.UTC
MOON = datetime.datetime(1969, 7, 20, 20, 17, tzinfo=UTC)
ID = uuid.UUID(int=5)


def one(annotation: object) -> Signature:
    """Compile a handler of one argument with this annotation."""

    def handler(it: object) -> None: ...

    handler.__annotations__ = {"it": annotation}
    return compile_signature(handler, leading=0)


def refusal(signature: Signature, *args: JSON) -> list[JSON]:
    with pytest.raises(ArgumentsInvalid) as caught:
        signature.convert(args)
    return caught.value.details


ACCEPTED: list[tuple[object, JSON, object]] = [
    (Any, b"x", b"x"),
    (object, [1], [1]),
    (JSON, None, None),
    (Any | None, 5, 5),
    (str, "a", "a"),
    (str, Reason.PARSE_ERROR, "parse error"),
    (Reason, Reason.PARSE_ERROR, Reason.PARSE_ERROR),
    (Reason, "parse error", Reason.PARSE_ERROR),
    (int, 5, 5),
    (int, 5.0, 5),
    (int, 2**70, 2**70),
    (float, 5.5, 5.5),
    (float, 5, 5.0),
    (bool, True, True),
    (bytes, b"x", b"x"),
    (bytearray, b"x", bytearray(b"x")),
    (memoryview, b"x", memoryview(b"x")),
    (list, [1], [1]),
    (dict, {"a": 1}, {"a": 1}),
    (dict[str, Any], {"a": b"x"}, {"a": b"x"}),
    (list[object], [b"x"], [b"x"]),
    (None, None, None),
    (str | None, None, None),
    (str | bytes, b"x", b"x"),
    (str | bytes, "x", "x"),
    (int | None, 5.0, 5),
    (float | str, 5, 5.0),
    (int | float, 5.0, 5.0),
    (int | float, 5, 5),
    (UserId, "u", "u"),
    (Literal["a", 1], 1, 1),
    (Literal["a", 1], 1.0, 1),
    (Literal["parse error"], Reason.PARSE_ERROR, "parse error"),
    (Colour, "red", Colour.RED),
    (datetime.datetime, "1969-07-20T20:17:00Z", MOON),
    (uuid.UUID, str(ID), ID),
    (Decimal, "1.5", Decimal("1.5")),
    (list[int], [1, 2.0], [1, 2]),
    (list[bytes], [b"x"], [b"x"]),
    (tuple[int, str], [1, "a"], (1, "a")),
    (set[str], ["a", "a"], {"a"}),
    (dict[str, list[int]], {"a": [1]}, {"a": [1]}),
    (dict[int, bytes], {"1": b"x"}, {1: b"x"}),
    (dict[str, object], {"a": [b"x"]}, {"a": [b"x"]}),
    (Point, {"x": 1}, Point(1)),
    (Point, {"x": 1.0, "unknown": 1}, Point(1)),
    (Point | None, None, None),
    (Point | str, "p", "p"),
    (Tree, {"children": [{"children": []}]}, Tree([Tree([])])),
    (Shape, {"points": [{"x": 1}]}, {"points": [Point(1)]}),
    (Pair, [1, "b"], Pair(1, "b")),
    (Upload, {"name": "n", "body": b"x"}, Upload("n", b"x")),
    (Annotated[int, msgspec.Meta(ge=0)], 0, 0),
    (Annotated[str, "a remark"], "a", "a"),
    (Auth, {"token": "t", "expires": "1969-07-20T20:17:00Z"}, Auth(token="t", expires=MOON)),
    (Auth | None, None, None),
    (Auth | None, {"token": "t"}, Auth(token="t")),
    (list[Auth], [{"token": "t"}], [Auth(token="t")]),
    (Envelope, {"auth": {"token": "t"}}, Envelope(Auth(token="t"))),
    (Checked, {"n": 1.0}, Checked(1)),
    (Deferred, {"n": 1}, Deferred(n=1)),
    (Auth | Point, {"x": 1}, Point(1)),
    (pydantic.PositiveInt, 1, 1),
    (pydantic.PositiveInt, 2**70, 2**70),
    (Annotated[str, annotated_types.MaxLen(2)], "ab", "ab"),
    (Annotated[int, pydantic.Field(gt=1)], 2, 2),
    (Annotated[str, pydantic.AfterValidator(str.upper)], "a", "A"),
    (
        Photo,
        {"at": "1969-07-20T20:17:00Z", "colour": "red", "size": [1, 2], "body": b"\xff", "extra": {"deep": [b"\xfe"]}},
        Photo(at=MOON, colour=Colour.RED, size=(1, 2), body=b"\xff", extra={"deep": [b"\xfe"]}),
    ),
    (Photo | Auth, {"token": "t"}, Auth(token="t")),
    (Signed, {"at": "1969-07-20T20:17:00Z", "body": b"\xff"}, Signed(at=MOON, body=b"\xff")),
    (Annotated[bytes, pydantic.Field(max_length=1)], b"\xff", b"\xff"),
]


@pytest.mark.parametrize(("annotation", "value", "expected"), ACCEPTED, ids=str)
def test_an_argument_that_fits(annotation: object, value: JSON, expected: object) -> None:
    [converted] = one(annotation).convert([value])
    assert converted == expected
    assert type(converted) is type(expected) or isinstance(value, Reason)


MOONSHOT = {"at": "1969-07-20T20:17:00Z", "colour": "red", "size": [1, 2], "body": b"\xff"}
REFUSED: list[tuple[object, JSON, str, str | None]] = [
    (str, 5, "Expected `str`, got `int`", None),
    (str, None, "Expected `str`, got `null`", None),
    (str, b"x", "Expected `str`, got `bytes`", None),
    (int, "5", "Expected `int`, got `str`", None),
    (int, True, "Expected `int`, got `bool`", None),
    (int, 5.5, "Expected `int`, got `float`", None),
    (int, 1e300, "Expected `int`, got `float`", None),
    (int, float("inf"), "Expected `int`, got `float`", None),
    (float, "5", "Expected `float`, got `str`", None),
    (float, True, "Expected `float`, got `bool`", None),
    (float, 10**400, "Expected `float`, got `int`", None),
    (bool, 1, "Expected `bool`, got `int`", None),
    (bytes, "aGk=", "Expected `bytes`, got `str`", None),
    (bytearray, "aGk=", "Expected `bytes`, got `str`", None),
    (memoryview, "aGk=", "Expected `bytes`, got `str`", None),
    (list[bytes], ["aGk="], "Expected `bytes`, got `str`", "$[0]"),
    (Upload, {"name": "n", "body": "aGk="}, "Expected `bytes`, got `str`", "$.body"),
    (list, {}, "Expected `array`, got `object`", None),
    (dict, [], "Expected `object`, got `array`", None),
    (None, 0, "Expected `null`, got `int`", None),
    (str | None, 5, "Expected `null | str`, got `int`", None),
    (UserId, 5, "Expected `str`, got `int`", None),
    (Literal["a", 1], "b", "Invalid enum value 'b'", None),
    (Literal["a"], "x - at `$[0]", "Invalid enum value 'x - at `$[0]'", None),
    (Colour, "blue", "Invalid enum value 'blue'", None),
    (datetime.datetime, 5, "Expected `datetime`, got `int`", None),
    (datetime.datetime, "\ud800", "surrogates not allowed", None),
    (uuid.UUID, "x", "Invalid UUID", None),
    (list[int], [1, "2"], "Expected `int`, got `str`", "$[1]"),
    (dict[int, str], {"x": "y"}, "Expected `int`, got `str` (a key)", None),
    (tuple[int, str], [1], "length 2", None),
    (Point, {"y": 1}, "missing required field `x`", None),
    (Even, {"n": 1}, "n is odd", None),
    (Shape, {"points": [{"x": "1"}]}, "Expected `int`, got `str`", "$.points[0].x"),
    (Annotated[int, msgspec.Meta(ge=0)], -1, "Expected `int` >= 0", None),
    (Auth, {"token": 5}, "valid string", "$.token"),
    (Auth, {}, "Field required", "$.token"),
    (Auth, {"token": "t", "expires": 5}, "valid datetime", "$.expires"),
    (Auth, None, "object", None),
    (Auth, "\ud800", "Invalid JSON", None),
    (Auth | None, 5, "object", None),
    (Envelope, {"auth": {}}, "Field required", "$.auth.token"),
    (list[Checked], [{"n": "1"}], "valid integer", "$[0].n"),
    (pydantic.PositiveInt, 0, "greater than 0", None),
    (Annotated[str, annotated_types.MaxLen(2)], "abc", "at most 2", None),
    (Photo, {**MOONSHOT, "size": [1, "2"]}, "valid integer", "$.size[1]"),
    (Photo, {**MOONSHOT, "colour": b"red"}, "Input should be 'red'", "$.colour"),
    (Photo, {**MOONSHOT, "at": 5}, "valid datetime", "$.at"),
    (Signed, {"at": "1969-07-20T20:17:00Z", "body": b"\xfe"}, "not signed", "$.body"),
    (Annotated[bytes, pydantic.Field(max_length=1)], b"\xff\xff", "at most 1 byte", None),
]


@pytest.mark.parametrize(("annotation", "value", "message", "path"), REFUSED, ids=str)
def test_an_argument_that_does_not_fit(annotation: object, value: JSON, message: str, path: str | None) -> None:
    [detail] = refusal(one(annotation), value)
    assert message in detail.pop("message")
    assert detail == {"argument": "it", "index": 0} | ({} if path is None else {"path": path})


def test_what_is_nested_too_deeply_is_refused() -> None:
    value: JSON = {"children": []}
    for _ in range(20_000):
        value = {"children": [value]}
    assert refusal(one(Tree), value) == [{"argument": "it", "index": 0, "message": "nested too deeply"}]


def test_all_failing_and_missing_arguments_are_told() -> None:
    def handler(socket: object, room: str, count: int, point: Point, tail: str, late: str) -> None: ...

    signature = compile_signature(handler, leading=1)
    with pytest.raises(ArgumentsInvalid, match=r"^argument 'room': Expected `str`, got `int` \(and 3 more\)$") as caught:
        signature.convert([1, 2, {"x": "x"}])
    assert caught.value.details == [
        {"argument": "room", "index": 0, "message": "Expected `str`, got `int`"},
        {"argument": "point", "index": 2, "message": "Expected `int`, got `str`", "path": "$.x"},
        {"argument": "tail", "index": 3, "message": "missing"},
        {"argument": "late", "index": 4, "message": "missing"},
    ]


def test_details_are_bounded() -> None:
    def plain(*numbers: int) -> None: ...
    def model(*names: list[Annotated[str, pydantic.Field(max_length=1)]]) -> None: ...

    assert len(refusal(compile_signature(plain, leading=0), *["x"] * 1000)) == MAX_DETAILS
    assert len(refusal(compile_signature(model, leading=0), [1] * 60, [1] * 1000)) == MAX_DETAILS


def test_surplus_arguments_are_dropped_and_defaults_left_to_the_function() -> None:
    def typed(room: str, count: int = 3, *, flag: bool = False, **rest: int) -> None: ...
    def untyped(a, b=2) -> None: ...  # type: ignore

    signature = compile_signature(typed, leading=0)
    assert signature.convert(["a"]) == ["a"]
    assert signature.convert(("a", 1)) == ["a", 1]
    assert signature.convert(["a", 1, "surplus", None]) == ["a", 1]
    assert refusal(signature) == [{"argument": "room", "index": 0, "message": "missing"}]
    assert [detail["argument"] for detail in refusal(signature, "a", None)] == ["count"]
    signature = compile_signature(untyped, leading=0)
    assert signature.convert([None]) == [None]
    assert signature.convert([1, 2, 3]) == [1, 2]
    assert refusal(signature) == [{"argument": "a", "index": 0, "message": "missing"}]


def test_the_given_list_is_neither_kept_nor_changed() -> None:
    args = [1, 2]
    converted = compile_signature(lambda *args: None, leading=0).convert(args)
    converted.append(3)
    assert args == [1, 2]


def test_the_rest_is_converted_one_by_one() -> None:
    def handler(room: str, *points: Point) -> None: ...
    def whole(*args: int) -> None: ...

    signature = compile_signature(handler, leading=0)
    assert signature.convert(["a"]) == ["a"]
    assert signature.convert(["a", {"x": 1}, {"x": 2}]) == ["a", Point(1), Point(2)]
    assert refusal(signature, "a", {"x": 1}, {}) == [
        {"argument": "points", "index": 2, "message": "Object missing required field `x`"},
    ]
    # The socket comes in *args as well; what the annotation says holds for what the peer sent.
    assert compile_signature(whole, leading=1).convert([1, 2.0]) == [1, 2]


def test_untyped_tells_that_no_value_is_looked_at() -> None:
    def untyped(socket: Stranger, a, b: Any, *c: JSON) -> None: ...  # type: ignore
    def typed(socket: Stranger, a: str) -> None: ...
    def typed_rest(*a: str) -> None: ...

    assert compile_signature(untyped, leading=1).untyped
    assert not compile_signature(typed, leading=1).untyped
    assert not compile_signature(typed_rest, leading=0).untyped


def test_connect_and_disconnect_handlers() -> None:
    def connect(socket: object, auth: Auth | None) -> None: ...
    def connect_only(socket: object) -> None: ...
    def disconnect(socket: object, reason: str, details: object = None) -> None: ...

    assert compile_signature(connect, leading=1).convert((None,)) == [None]
    assert compile_signature(connect, leading=1).convert(({"token": "t"},)) == [Auth(token="t")]
    assert compile_signature(connect_only, leading=1).convert((None,)) == []
    stranger = Stranger()
    converted = compile_signature(disconnect, leading=1).convert((Reason.PING_TIMEOUT, stranger))
    assert converted == ["ping timeout", stranger]


class Handlers:
    async def method(self, room: str) -> None: ...

    @classmethod
    def of_class(cls, room: str) -> None: ...

    async def __call__(self, room: str) -> None: ...


async def coroutine(room: str, count: int) -> None: ...


def decorated(function: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(function)
    def wrapper(*args: object) -> object:
        return function(*args)

    return wrapper


CALLABLES: list[tuple[Callable[..., object], bool]] = [
    (coroutine, True),
    (functools.partial(coroutine, count=5), True),
    (functools.partial(functools.partial(coroutine), count=5), True),
    (Handlers().method, True),
    (Handlers(), True),
    (functools.partial(Handlers()), True),
    (functools.partial(Handlers().method), True),
    (Handlers.of_class, False),
    (decorated(Handlers.of_class), False),
]


@pytest.mark.parametrize(("function", "is_async"), CALLABLES, ids=str)
def test_every_kind_of_callable(function: Callable[..., object], is_async: bool) -> None:
    signature = compile_signature(function, leading=0)
    assert signature.function is function
    assert signature.is_async is is_async
    assert signature.convert(["a", 1])[0] == "a"
    assert refusal(signature, 5, 1) == [{"argument": "room", "index": 0, "message": "Expected `str`, got `int`"}]


def test_builtins_take_everything() -> None:
    assert compile_signature(print, leading=0).convert([1, "b"]) == [1, "b"]
    assert compile_signature([].append, leading=0).convert([1]) == [1]
    without_signature = compile_signature(getattr, leading=0)
    assert without_signature.untyped
    assert without_signature.convert([1, 2, 3]) == [1, 2, 3]
    assert not without_signature.is_async


def test_an_async_function_of_asyncio_can_be_registered() -> None:
    assert compile_signature(asyncio.sleep, leading=0).is_async


# Names in annotations


def test_a_class_local_to_the_function_that_registers() -> None:
    @dataclasses.dataclass
    class Local:
        x: int

    def handler(it: Local, them: list[Local]) -> None: ...

    class Nested:
        def handler(self, it: Local) -> None: ...

    assert compile_signature(handler, leading=0).convert([{"x": 1}, [{"x": 2}]]) == [Local(1), [Local(2)]]
    assert compile_signature(Nested().handler, leading=0).convert([{"x": 1}]) == [Local(1)]


def test_a_class_in_the_closure() -> None:
    def make() -> tuple[Callable[..., object], type]:
        @dataclasses.dataclass
        class Local:
            x: int

        def handler(it: Local) -> object:
            return Local

        return handler, Local

    handler, local = make()
    assert compile_signature(handler, leading=0).convert([{"x": 1}]) == [local(1)]


def test_a_handler_that_names_itself_is_registered_before_its_name_is_bound() -> None:
    def register(function: Callable[..., object]) -> Signature:
        return compile_signature(function, leading=0)

    @register
    def handler(it: Point) -> object:
        return handler

    assert handler.convert([{"x": 1}]) == [Point(1)]


def test_names_are_those_of_the_wrapped_function_not_of_the_decorator() -> None:
    elsewhere: dict[str, Any] = {"functools": functools}
    exec("def decorate(f):\n    @functools.wraps(f)\n    def wrapper(*args): return f(*args)\n    return wrapper", elsewhere)

    @elsewhere["decorate"]
    def handler(it: Point) -> None: ...

    assert compile_signature(handler, leading=0).convert([{"x": 1}]) == [Point(1)]


def test_unresolvable_names_of_what_the_framework_fills_do_not_matter() -> None:
    def handler(socket: Unreachable, room: str) -> Unreachable: ...

    assert compile_signature(handler, leading=1).convert(["a"]) == ["a"]


Name = typing_extensions.TypeAliasType("Name", str | None)
Login = typing_extensions.TypeAliasType("Login", Auth | Point)
Place = typing_extensions.TypeAliasType("Place", Point | None)


def test_aliases() -> None:
    assert one(Name).convert([None]) == [None]
    assert one(Login).convert([{"token": "t"}]) == [Auth(token="t")]
    assert one(Place).convert([{"x": 1}]) == [Point(1)]


# Errors at registration


def keyword_only(*, room: str) -> None: ...
def no_socket() -> None: ...
async def async_generator(room: str) -> typing.AsyncIterator[str]:
    yield room


def generator(room: str) -> typing.Iterator[str]:
    yield room


def unresolvable(room: Unreachable) -> None: ...
def broken(room: datetime.nothing) -> None: ...  # type: ignore # pyright: ignore


@pytest.mark.parametrize(
    ("function", "leading", "words"),
    [
        (5, 0, ["callable", "5"]),
        (keyword_only, 0, ["keyword_only", "'room'", "positional"]),
        (functools.partial(coroutine, room="a"), 0, ["coroutine", "'count'", "positional"]),
        (no_socket, 1, ["no_socket", "socket", "first parameter"]),
        (async_generator, 0, ["async_generator", "generator", "return"]),
        (generator, 0, ["generator", "return"]),
        (unresolvable, 0, ["unresolvable", "'room'", "'Unreachable'", "TYPE_CHECKING"]),
        (broken, 0, ["broken", "'room'", "nothing"]),
    ],
)
def test_functions_that_cannot_be_handlers(function: Callable[..., object], leading: int, words: list[str]) -> None:
    with pytest.raises(TypeError) as caught:
        compile_signature(function, leading=leading)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("annotation", "word"),
    [
        (Stranger, "Stranger"),
        (list[Stranger], "Stranger"),
        (Stranger | None, "Stranger"),
        (Point | Other, "more than one dataclass"),
        (list[str | bytes], "str-like"),
        (Callable[[int], None], "Callable"),
        (complex, "complex"),
        (msgspec.Raw, "Raw"),
        (Lost, "Nowhere"),
        (Unfinished, "Nowhere"),
        (Holder, "Auth"),
        (Auth | Holder, "Holder"),
        (Auth | Stranger, "Stranger"),
        (5, "5"),
    ],
    ids=str,
)
def test_annotations_that_no_argument_can_be_checked_against(annotation: object, word: str) -> None:
    with pytest.raises(TypeError) as caught:
        one(annotation)
    message = str(caught.value)
    assert word in message
    assert "handler" in message
    assert "'it'" in message


def test_pydantic_is_imported_only_when_an_annotation_needs_it() -> None:
    program = """
import sys
from mizzen.signatures import compile_signature
def handler(a: str, b: list[int], c: dict[str, float]): ...
assert compile_signature(handler, leading=0).convert(["a", [1], {}]) == ["a", [1], {}]
assert "pydantic" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


# Whatever a peer sends

WORDS = st.sampled_from(["a", "x", "y", "n", "token", "expires", "points", "children", "body", "name", "red", "1", "2020-01-01T00:00:00Z"])
TEXT = WORDS | st.text(st.characters(exclude_categories=()), max_size=5)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.binary(max_size=16)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=12)


def several(a: str, b: Point | None = None, *rest: Annotated[int, msgspec.Meta(ge=0)]) -> None: ...


SIGNATURES = [one(annotation) for annotation in dict.fromkeys(annotation for annotation, *_ in ACCEPTED)] + [
    compile_signature(function, leading=0) for function in (several, print, coroutine)
]


@given(signature=st.sampled_from(SIGNATURES), args=st.lists(VALUES, max_size=4))
def test_any_arguments_are_converted_or_refused(signature: Signature, args: list[JSON]) -> None:
    details: list[JSON] = []
    try:
        assert len(signature.convert(args)) <= len(args)
    except ArgumentsInvalid as refused:
        details = refused.details or [{}]
    for detail in details:
        assert {*detail} in ({"argument", "index", "message"}, {"argument", "index", "message", "path"})
        assert isinstance(detail["message"], str)


# Error acks


def test_the_ack_of_invalid_arguments_tells_all() -> None:
    error = ArgumentsInvalid("argument 'a': missing", [{"argument": "a", "index": 0, "message": "missing"}])
    expected = {"error": {"code": "E_ARGUMENTS", "message": "argument 'a': missing", "details": error.details}}
    assert error_ack(error, debug=False) == error_ack(error, debug=True) == expected


def test_the_ack_of_a_failed_handler_tells_nothing_outside_debug() -> None:
    try:
        raise KeyError("secret")
    except KeyError as caught:
        error = caught
    assert error_ack(error, debug=False) == {"error": {"code": "E_HANDLER", "message": "the handler failed", "details": []}}
    told = error_ack(error, debug=True)["error"]
    assert (told["code"], told["message"]) == ("E_HANDLER", "KeyError: 'secret'")
    assert told["details"][0].startswith("Traceback")
    assert told["details"][-1] == "KeyError: 'secret'"
    assert not any("\n" in line for line in told["details"])


def test_an_error_that_cannot_be_printed_is_still_told() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert error_ack(Mute(), debug=True)["error"]["message"] == "Mute: <its text cannot be had: RuntimeError>"

    class MuteRefusal(Mute, EventRefused): ...

    assert error_ack(MuteRefusal("x"), debug=False)["error"]["message"] == "<its text cannot be had: RuntimeError>"


@pytest.mark.parametrize("debug", [False, True])
def test_an_error_ack_is_read_back(debug: bool) -> None:
    for sent in (ArgumentsInvalid("m", [{"argument": "a", "index": 0, "message": "missing"}]), ValueError("v")):
        ack = error_ack(sent, debug=debug)
        error = parse_error_ack([ack])
        assert isinstance(error, RemoteError)
        assert {"code": error.code, "message": str(error), "details": error.details} == ack["error"]


def test_an_error_ack_without_usable_details() -> None:
    for reply in ({"code": "E_HANDLER", "message": "m"}, {"code": "E_HANDLER", "message": "m", "details": "none"}):
        error = parse_error_ack([{"error": reply}])
        assert error is not None
        assert error.details == []


TOLD = {"code": "E_HANDLER", "message": "m", "details": []}


@pytest.mark.parametrize(
    "args",
    [
        [],
        [None],
        ["error"],
        [{"error": TOLD}, None],
        [{"error": TOLD, "more": 1}],
        [{"Error": TOLD}],
        [{}],
        [{"error": "m"}],
        [{"error": {**TOLD, "code": "E_OTHER"}}],
        [{"error": {**TOLD, "code": ["E_HANDLER"]}}],
        [{"error": {**TOLD, "message": 5}}],
        [{"error": {"code": "E_HANDLER"}}],
        [[{"error": TOLD}]],
    ],
    ids=str,
)
def test_all_else_is_data(args: list[JSON]) -> None:
    assert parse_error_ack(args) is None


class Scan(pydantic.BaseModel):
    name: str
    taken: datetime.datetime
    image: bytes


MOMENT = datetime.datetime(2024, 1, 2, 3, tzinfo=datetime.UTC)


def test_a_datetime_that_a_parser_brought_is_one() -> None:
    def handler(moment: datetime.datetime, scan: Scan) -> None: ...

    moment, scan = compile_signature(handler, leading=0).convert([MOMENT, {"name": "s", "taken": MOMENT, "image": b"i"}])
    assert moment == MOMENT
    assert scan == Scan(name="s", taken=MOMENT, image=b"i")


@pytest.mark.parametrize("scan", [{"name": MOMENT, "taken": MOMENT, "image": b""}, {"name": 2**70, "taken": "no", "image": MOMENT}])
def test_a_datetime_beside_what_is_wrong_is_refused_as_ever(scan: JSON) -> None:
    def handler(scan: Scan) -> None: ...

    with pytest.raises(ArgumentsInvalid):
        compile_signature(handler, leading=0).convert([scan])
