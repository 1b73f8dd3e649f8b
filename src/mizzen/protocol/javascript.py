"""JSON with JavaScript's semantics: what `JSON.stringify` and `JSON.parse` of the peer mean, on top of orjson.

orjson does nearly all the work. What it refuses and JavaScript does not (lone surrogates, integers beyond 64 bits, numbers beyond a
double, keys that are no strings) goes a slower way, which is taken only when orjson has failed.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID

import msgspec
import orjson

from mizzen.errors import RemoteProtocolError
from mizzen.types import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

    from mizzen.types import JSON

MAX_DEPTH: Final = 1_000
"""How deep a value may nest when it is encoded; of what comes in, orjson's own limit of 1,024 stands."""

_MAX_DEPTH_IN: Final = 1_024  # orjson's own

_OPTIONS: Final = orjson.OPT_UTC_Z  # `toISOString` of a date ends in Z
_NATIVE_LEAVES: Final = (datetime, date, time, UUID)
BINARY: Final = (bytes, bytearray, memoryview)
_ACCEPTED: Final = (
    "None, bool, int, float, str, bytes, list, tuple, set, dict, datetime, UUID, Decimal, Enum, "
    "dataclass, msgspec.Struct or a pydantic model"
)
LEAST_INTEGER: Final = -(2**63)
GREATEST_INTEGER: Final = 2**64 - 1
DOUBLE_BITS: Final = 1_024  # an integer of more bits is beyond every double

# orjson refuses half a surrogate pair and a number beyond every double; `JSON.parse` takes both. Only such text is parsed again.
_MAY_BE_REFUSED_WRONGLY: Final = re.compile(r"\\u[dD][89a-fA-F]|[eE]\+?\d{3}|\d{19}")


# --- out -------------------------------------------------------------------------------------------------------------------------


def dumps(value: JSON, attachments: list[bytes] | None = None) -> bytes:
    """Encode `value` as `JSON.stringify` would write it.

    bytes, bytearray and memoryview are appended to `attachments` and leave `{"_placeholder":true,"num":n}` behind; without a list they
    cannot be encoded. NaN and infinities become null; keys that are None, bool or numbers become strings as in JavaScript. Raises
    `TypeError` for what has no meaning in JSON, for circular references and for more than 1,000 levels of nesting.
    """
    try:
        return orjson.dumps(value, None, _OPTIONS)  # nearly everything is plain, and a hook costs as much again
    except TypeError:
        pass
    return _dumps_more(value, attachments)


def _dumps_more(value: JSON, attachments: list[bytes] | None) -> bytes:
    """Encode what may not be plain."""

    def hook(item: Any) -> JSON:
        if attachments is not None and isinstance(item, BINARY):
            return _lift(cast("bytes", item), attachments)
        return _plain(item)

    try:
        return orjson.dumps(value, hook, _OPTIONS)
    except TypeError:
        if attachments is not None:
            attachments.clear()
        return _JSONWriter(attachments).write(value)


def _lift(item: bytes, attachments: list[bytes]) -> dict[str, JSON]:
    attachments.append(bytes(item))
    return {"_placeholder": True, "num": len(attachments) - 1}


def _plain(value: Any) -> JSON:
    """Turn what orjson does not know into what it does; raises `TypeError` for the rest."""
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value, builtin_types=(*BINARY, *_NATIVE_LEAVES), enc_hook=_plain)
    if isinstance(value, (tuple, deque, AbstractSet)):
        return list(cast("tuple[JSON, ...]", value))
    if isinstance(value, Mapping):
        return dict(cast("Mapping[JSON, JSON]", value))
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, float):
        return float(value)
    # A pydantic model, known by its method: an app without pydantic does not pay for the import.
    model_dump = getattr(value, "model_dump", None)
    if callable(model_dump) and not isinstance(value, type):
        return model_dump(mode="json", by_alias=True)
    raise TypeError(f"{_name(value)} cannot be sent")


def _name(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__qualname__}"
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


class _Open:
    """A list or an object that is being written."""

    __slots__ = ("closing", "identity", "is_object", "items", "key")

    def __init__(self, items: Iterator[tuple[JSON, JSON]], is_object: bool, closing: bytes, identity: int) -> None:
        self.items = items
        self.is_object = is_object
        self.closing = closing
        self.identity = identity
        self.key: JSON = None


class Writer:
    """The slow way out: writes what the quick encoder refuses, without recursion, and says which part of the value cannot be sent.

    A subclass knows how a format writes the parts: `begin` a list or an object of so many items (it gives what closes it), `key` of an
    item (None in a list), `text`, `integer`, `number`, `binary`, and `leaf` for None, booleans, dates and UUIDs.
    """

    __slots__ = ("open", "out", "owners")

    def __init__(self) -> None:
        self.out: list[bytes] = []
        self.open: list[_Open] = []
        # Keeps what is open alive: an identity is only that of one object while the object lives.
        self.owners: dict[int, object] = {}

    def begin(self, is_object: bool, size: int) -> bytes:
        raise NotImplementedError

    def key(self, key: str | None) -> None:
        raise NotImplementedError

    def text(self, value: str) -> None:
        raise NotImplementedError

    def integer(self, value: int) -> None:
        raise NotImplementedError

    def number(self, value: float) -> None:
        raise NotImplementedError

    def binary(self, value: bytes) -> None:
        raise NotImplementedError

    def leaf(self, value: Any) -> None:
        raise NotImplementedError

    def write(self, root: JSON) -> bytes:
        """Give the whole value. Raises `TypeError` for what cannot be sent."""
        self.value(root)
        while self.open:
            container = self.open[-1]
            for key, item in container.items:
                container.key = key
                self.key(self._key_of(key) if container.is_object else None)
                self.value(item)
                if self.open[-1] is not container:
                    break
            else:
                self.out.append(container.closing)
                self.open.pop()
                del self.owners[container.identity]
        return b"".join(self.out)

    def value(self, value: Any) -> None:
        """Write one value, or begin it if it holds others."""
        owner = value
        while isinstance(value, Enum):
            value = value.value
        if value is None or isinstance(value, (bool, *_NATIVE_LEAVES)):
            self.leaf(value)
        elif isinstance(value, str):
            self.text(value)
        elif isinstance(value, int):
            self.integer(value)
        elif isinstance(value, float):
            self.number(float(value))
        elif isinstance(value, list):
            self._enter(owner, list(enumerate(cast("list[JSON]", value))), False)
        elif isinstance(value, dict):
            self._enter(owner, list(cast("dict[JSON, JSON]", value).items()), True)
        elif isinstance(value, BINARY):
            self.binary(bytes(cast("bytes", value)))
        elif is_dataclass(value) and not isinstance(value, type):
            self._enter(owner, _fields(value), True)
        else:
            self._converted(owner, value)

    def _converted(self, owner: object, value: object) -> None:
        try:
            plain = _plain(value)
        except Exception as error:
            # A converter of the user's may raise anything; the caller of `emit` is promised a TypeError that says where.
            if isinstance(error, TypeError) and str(error) == f"{_name(value)} cannot be sent":
                raise TypeError(f"{error}{self.where()}: make it {_ACCEPTED} first") from None
            raise TypeError(f"{_name(value)} cannot be sent{self.where()}: {type(error).__name__}: {error}") from error
        if isinstance(plain, list):
            self._enter(owner, list(enumerate(cast("list[JSON]", plain))), False)
        elif isinstance(plain, dict):
            self._enter(owner, list(cast("dict[JSON, JSON]", plain).items()), True)
        else:
            self.value(plain)

    def _enter(self, owner: object, items: list[tuple[JSON, JSON]], is_object: bool) -> None:
        identity = id(owner)
        if identity in self.owners:
            raise TypeError(f"A circular reference cannot be sent: a {_name(owner)} contains itself{self.where()}")
        if len(self.open) >= MAX_DEPTH:
            raise TypeError(f"A value nested deeper than {MAX_DEPTH} levels cannot be sent")
        self.owners[identity] = owner
        self.open.append(_Open(iter(items), is_object, self.begin(is_object, len(items)), identity))

    def _key_of(self, key: Any) -> str:
        while isinstance(key, Enum):
            key = key.value
        if isinstance(key, _NATIVE_LEAVES):
            return orjson.dumps(key, None, _OPTIONS)[1:-1].decode()
        name = property_name(key)
        if name is None:
            raise TypeError(f"{_name(key)} cannot be the key of an object{self.where()}: make it a str first")
        return name

    def where(self) -> str:
        """Say where in the value the part stands that is being written."""
        if not self.open:
            return ""
        shown = [f"[{container.key!r}]" for container in self.open[:8]]
        return f" (at {''.join(shown)}{'…' if len(self.open) > 8 else ''})"


class _JSONWriter(Writer):
    """Writes JSON."""

    __slots__ = ("attachments",)

    def __init__(self, attachments: list[bytes] | None) -> None:
        super().__init__()
        self.attachments = attachments

    def begin(self, is_object: bool, size: int) -> bytes:
        self.out.append(b"{" if is_object else b"[")
        return b"}" if is_object else b"]"

    def key(self, key: str | None) -> None:
        out = self.out
        if out[-1] != b"[" and out[-1] != b"{":
            out.append(b",")
        if key is not None:
            out.append(_string(key))
            out.append(b":")

    def text(self, value: str) -> None:
        self.out.append(_string(value))

    def integer(self, value: int) -> None:
        self.out.append(b"null" if value.bit_length() > DOUBLE_BITS else int.__repr__(value).encode())

    def number(self, value: float) -> None:
        self.out.append(orjson.dumps(value))

    def binary(self, value: bytes) -> None:
        if self.attachments is None:
            raise TypeError(f"bytes can only be sent in the arguments of an event or of an ack{self.where()}")
        self.value(_lift(value, self.attachments))

    def leaf(self, value: Any) -> None:
        self.out.append(orjson.dumps(value, None, _OPTIONS))


def property_name(key: object) -> str | None:
    """Give the name that JavaScript makes of a key, or None of what has no sensible one."""
    if isinstance(key, str):
        return key
    if key is None:
        return "null"
    if isinstance(key, bool):
        return "true" if key else "false"
    return number_text(key) if isinstance(key, (int, float)) else None


def _string(value: str) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:
        # "well-formed JSON.stringify": half a surrogate pair is written as its escape.
        return encode_basestring_ascii(value).encode()


def number_text(value: int | float) -> str:
    """Write a number as JavaScript's `Number::toString` does, save that an int keeps all its digits as far as a double goes."""
    if isinstance(value, int):
        if value.bit_length() <= DOUBLE_BITS:
            return int.__repr__(value)
        return "Infinity" if value > 0 else "-Infinity"
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    if not value:
        return "0"
    digits = float.__repr__(value)
    if 1e-6 <= abs(value) < 1e21:
        return format(Decimal(digits), "f").removesuffix(".0")
    mantissa, exponent = digits.split("e")
    return f"{mantissa}e{int(exponent):+d}"


def _fields(value: Any) -> list[tuple[JSON, JSON]]:
    """Give what orjson writes of a dataclass: its attributes in order, but none that starts with an underscore."""
    names = value.__dict__ if hasattr(value, "__dict__") else value.__dataclass_fields__
    return [(name, getattr(value, name)) for name in names if not name.startswith("_")]


# --- in --------------------------------------------------------------------------------------------------------------------------


def loads(text: str | bytes) -> JSON:
    """Decode JSON as `JSON.parse` would read it.

    Half a surrogate pair stays half a pair; integers beyond 64 bits become floats, numbers beyond a double infinite. NaN and Infinity
    are not JSON. Raises `RemoteProtocolError` with `Reason.FORCED_CLOSE` for anything else that is not JSON, or that nests deeper than
    1,024 levels (CPython 3.11 stops at its recursion limit, 1,000 frames, where the text is one that orjson refuses wrongly).
    """
    try:
        return orjson.loads(text)
    except ValueError as error:
        refused = str(error)
    try:
        if isinstance(text, bytes):
            text = text.decode()
        if _MAY_BE_REFUSED_WRONGLY.search(text):
            return _not_too_deep(_SLOW.decode(text))
    except (ValueError, RecursionError) as error:
        refused = str(error)
    raise RemoteProtocolError(f"The peer sent text that is not JSON: {refused}", Reason.FORCED_CLOSE) from None


def _not_too_deep(value: JSON) -> JSON:
    level: list[JSON] = [value]
    for _ in range(_MAX_DEPTH_IN + 1):
        lists = [cast("list[JSON]", item) for item in level if isinstance(item, list)]
        objects = [cast("dict[str, JSON]", item) for item in level if isinstance(item, dict)]
        if not lists and not objects:
            return value
        level = [item for each in lists for item in each] + [item for each in objects for item in each.values()]
    raise ValueError("depth limit exceeded")


def _integer(digits: str) -> int | float:
    # The length guard comes first: `int` takes quadratic time, or refuses, where `float` is quick.
    if len(digits) <= 20 and LEAST_INTEGER <= (value := int(digits)) <= GREATEST_INTEGER:
        return value
    return float(digits)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


_SLOW: Final = json.JSONDecoder(parse_int=_integer, parse_constant=_no_constant)
