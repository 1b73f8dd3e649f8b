"""What an annotation asks of an argument, compiled once to a check and a conversion.

| annotation | an argument must be |
|---|---|
| none, `Any`, `object`, `JSON` | anything; it is passed on untouched |
| `str`, `bool`, `bytes`, `list`, `dict`, `None` and unions of such | exactly of that type; text is never decoded to bytes |
| `int` | an integer; True is none, 5.0 is one: JavaScript knows no difference and writes 5, Python peers write 5.0 |
| `float` | a number; the handler gets a float |
| dataclass, TypedDict, Struct, Enum, Literal, datetime, UUID, `list[T]`, `Annotated[T, Meta(...)]` … | as in `msgspec.convert`, strict |
| anything with pydantic or `annotated_types` inside | as in pydantic's `validate_json(strict=True)`; attachments go into bytes |

None of it looks at more than the one argument: what holds between arguments is the handler's business.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import re
import typing
from enum import Enum
from types import NoneType, SimpleNamespace, UnionType
from typing import Protocol, cast

import msgspec
import orjson
from msgspec import inspect as type_infos

if typing.TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydantic import ValidationError

    from mizzen.types import JSON

MAX_DETAILS = 100
"""At most so many details are told of one call, so that a small message cannot ask for a huge answer."""

_MAX_SAFE_INTEGER = 2**53 - 1
_PLAIN = frozenset({str, int, float, bool, bytes, list, dict, NoneType})
_JSON_NAMES: dict[type, str] = {list: "array", dict: "object", NoneType: "null"}
_BYTES_LIKE = (bytes, bytearray, memoryview)
_LISTS: tuple[object, ...] = (list[typing.Any], list[object])
_DICTS: tuple[object, ...] = (dict[str, typing.Any], dict[str, object])


class Refused(Exception):
    """One argument does not fit; `problems` holds (message, path)."""

    def __init__(self, problems: list[tuple[str, str | None]]) -> None:
        self.problems: list[tuple[str, str | None]] = problems


class _Box(Protocol):
    value: object


def compile_annotation(annotation: object) -> tuple[frozenset[type] | None, Callable[[JSON], object]]:
    """Give the types whose values fit as they are (None: all), and the conversion of others, which raises Refused.

    Raises TypeError for an annotation that nothing can be checked against.
    """
    while typing.get_origin(annotation) is None and type(annotation).__name__ == "TypeAliasType":  # also that of typing_extensions
        annotation = cast("SimpleNamespace", annotation).__value__
    members = [*_members(annotation)]
    if typing.Any in members or object in members:
        return None, untouched
    if _PLAIN.issuperset(members):
        plain = frozenset(cast("list[type]", members))
        return plain, functools.partial(_convert_plain, plain)
    convert = _pydantic_converter(annotation) if _has_pydantic(annotation, {}) else _msgspec_converter(annotation)
    # None is a member of its own in every union, so it needs no converter.
    return frozenset({NoneType} & {*members}), convert


def untouched(value: JSON) -> object:
    """Give the value as it came."""
    return value


def _members(annotation: object) -> Iterator[object]:
    """Give what a union is made of; what is the same as a builtin is given as that."""
    origin = typing.get_origin(annotation)
    if origin is typing.Union or origin is UnionType:
        for member in typing.get_args(annotation):
            yield from _members(member)
    elif isinstance(annotation, typing.NewType):
        yield from _members(annotation.__supertype__)
    elif origin is None and type(annotation).__name__ == "TypeAliasType":
        yield from _members(cast("SimpleNamespace", annotation).__value__)
    elif annotation in _LISTS:
        yield list
    elif annotation in _DICTS:
        yield dict
    else:
        yield annotation


# Builtins


def _convert_plain(plain: frozenset[type], value: JSON) -> object:
    if type(value) is int and float in plain:
        try:
            return float(value)
        except OverflowError:
            pass
    if type(value) is float and int in plain and _is_integral(value):
        return int(value)
    if isinstance(value, str) and str in plain:  # a Reason, which disconnect handlers get
        return value
    got: type = cast("object", value).__class__
    expected = " | ".join(sorted(_JSON_NAMES.get(each, each.__name__) for each in plain))
    raise Refused([(f"Expected `{expected}`, got `{_JSON_NAMES.get(got, got.__name__)}`", None)])


def _is_integral(value: float) -> bool:
    return value.is_integer() and -_MAX_SAFE_INTEGER <= value <= _MAX_SAFE_INTEGER


def _as_javascript(leaf: JSON) -> JSON:
    if isinstance(leaf, Enum):  # a Reason, which no peer sends but disconnect handlers get
        return leaf.value
    return int(leaf) if type(leaf) is float and _is_integral(leaf) else leaf


def _leaves(value: JSON) -> Iterator[JSON]:
    stack: list[JSON] = [value]
    while stack:
        each = stack.pop()
        if isinstance(each, list):
            stack.extend(cast("list[JSON]", each))
        elif isinstance(each, dict):
            stack.extend(cast("dict[str, JSON]", each).values())
        else:
            yield each


def _map_leaves(function: Callable[[JSON], JSON], value: JSON) -> JSON:
    if isinstance(value, list):
        return [_map_leaves(function, item) for item in cast("list[JSON]", value)]
    if isinstance(value, dict):
        return {key: _map_leaves(function, item) for key, item in cast("dict[str, JSON]", value).items()}
    return function(value)


def _tolerant(attempt: Callable[[JSON], object]) -> Callable[[JSON], object]:
    """Try once more with whole numbers written as JavaScript does, 5.0 as 5: msgspec and pydantic refuse 5.0 for an int."""

    def convert(value: JSON) -> object:
        try:
            try:
                return attempt(value)
            except Refused:
                if not any(_as_javascript(leaf) is not leaf for leaf in _leaves(value)):
                    raise
            return attempt(_map_leaves(_as_javascript, value))
        except RecursionError:
            raise Refused([("nested too deeply", None)]) from None

    return convert


# msgspec


def _msgspec_converter(annotation: object) -> Callable[[JSON], object]:
    try:
        described = [*_described(type_infos.type_info(annotation), set())]
    except NameError as error:
        raise TypeError(f"a field of it names {error.name!r}, which cannot be found at module level") from error
    for each in described:
        if isinstance(each, type_infos.CustomType) and each.cls is not object:
            raise TypeError(f"nothing in JSON becomes a {each.cls.__qualname__}")
        if isinstance(each, type_infos.RawType | type_infos.ExtType):
            raise TypeError(f"{type(each).__name__} only exists while bytes are decoded")
    # Without this msgspec decodes text as base64 wherever bytes are expected; with it, it takes bytes only. It costs 0.3 µs a call.
    takes_bytes = any(isinstance(each, type_infos.BytesType | type_infos.ByteArrayType | type_infos.MemoryViewType) for each in described)
    str_keys = any(isinstance(each, type_infos.DictType) and not isinstance(each.key_type, type_infos.StrType) for each in described)
    # msgspec.convert builds its tables anew on each call for anything but a Struct, which caches them (1.1 µs against 0.2).
    box = cast("type[_Box]", msgspec.defstruct("Argument", [("value", annotation)], array_like=True))
    unbox: Callable[[tuple[JSON]], _Box]
    if takes_bytes:
        unbox = functools.partial(msgspec.convert, type=box, builtin_types=_BYTES_LIKE, str_keys=str_keys)
    elif str_keys:
        unbox = functools.partial(msgspec.convert, type=box, str_keys=True)
    else:
        unbox = functools.partial(msgspec.convert, type=box)

    def attempt(value: JSON) -> object:
        try:
            return unbox((value,)).value
        except msgspec.ValidationError as error:
            raise Refused([_without_box(str(error))]) from None
        except (OverflowError, ValueError) as error:
            # A lone surrogate, or a number that no machine holds; those that a dataclass raises come as ValidationError.
            raise Refused([(str(error), None)]) from None

    return _tolerant(attempt)


def _described(node: object, seen: set[int]) -> Iterator[type_infos.Type]:
    if isinstance(node, tuple):
        for item in cast("tuple[object, ...]", node):
            yield from _described(item, seen)
    elif isinstance(node, type_infos.Type | type_infos.Field) and id(node) not in seen:
        seen.add(id(node))
        if isinstance(node, type_infos.Type):
            yield node
        for name in node.__struct_fields__:
            if name not in ("default", "default_factory"):
                yield from _described(getattr(node, name), seen)


def _without_box(message: str) -> tuple[str, str | None]:
    """Split "Expected `int`, got `str` - at `$[0].a`" into message and path, the box's own index taken out."""
    text, _, place = message.rpartition(" - at ")
    if not place.endswith("`"):
        return message, None
    key, _, path = place.rpartition("`$[0]")
    path = path.rstrip("`")
    return text + (" (a key)" if key else ""), f"${path}" if path else None


# pydantic


def _has_pydantic(annotation: object, seen: dict[int, object]) -> bool:
    """Look for pydantic anywhere inside, without importing it.

    `annotated_types` counts: they are pydantic's constraints (`PositiveInt` is one), and msgspec would silently not check them.
    """
    if id(annotation) in seen:
        return False
    seen[id(annotation)] = annotation
    if hasattr(annotation, "__get_pydantic_core_schema__") or hasattr(annotation, "__pydantic_core_schema__"):
        return True
    # NewType, TypeAliasType, TypeVar.
    inner: list[object] = [getattr(annotation, name, None) for name in ("__supertype__", "__value__", "__bound__")]
    inner.extend(typing.get_args(annotation))
    if typing.get_origin(annotation) is typing.Annotated:
        metadata: tuple[object, ...] = getattr(annotation, "__metadata__", ())
        kinds = [kind.__module__.partition(".")[0] for each in metadata for kind in type(each).__mro__]
        if "pydantic" in kinds or "annotated_types" in kinds:
            return True
    if dataclasses.is_dataclass(annotation) or typing.is_typeddict(annotation) or hasattr(annotation, "_fields"):
        with contextlib.suppress(NameError, TypeError):  # msgspec will say the same, and better
            inner.extend(typing.get_type_hints(annotation, include_extras=True).values())
    return any(_has_pydantic(each, seen) for each in inner)


def _pydantic_converter(annotation: object) -> Callable[[JSON], object]:
    try:
        import pydantic
    except ImportError as error:
        raise TypeError("pydantic is not installed") from error
    try:
        adapter: pydantic.TypeAdapter[object] = pydantic.TypeAdapter(cast("type[object]", annotation))
        if not adapter.pydantic_complete:
            adapter.rebuild(raise_errors=True)
    except (pydantic.errors.PydanticUserError, NameError, TypeError) as error:
        raise TypeError(str(error).partition("\n")[0]) from error

    def attempt(value: JSON) -> object:
        try:
            try:
                text = orjson.dumps(value)  # NaN and infinities become null, as JSON.stringify has it
            except TypeError:  # attachments inside, or what orjson cannot write: big integers, lone surrogates
                if not any(isinstance(leaf, bytes) for leaf in _leaves(value)):
                    return adapter.validate_json(json.dumps(value, default=str), strict=True)
                return _validate_with_bytes(adapter, value, pydantic.ValidationError)
            return adapter.validate_json(text, strict=True)
        except pydantic.ValidationError as error:
            raise Refused(_problems(error)) from None

    return _tolerant(attempt)


class _Adapter(Protocol):
    def validate_python(self, value: object, /, *, strict: bool | None = None) -> object: ...
    def validate_json(self, value: str, /, *, strict: bool | None = None) -> object: ...


def _validate_with_bytes(adapter: _Adapter, value: JSON, invalid: type[ValidationError]) -> object:
    """Validate strictly what JSON cannot hold.

    pydantic has no mode that takes bytes but treats all else as JSON: strict Python mode refuses a string for a datetime and a list for
    a tuple, lax mode takes "5" for an int. So: strict mode first, which settles most models (2.7 µs); else the same value with text of the
    same length for each attachment must pass as strict JSON, and lax mode then makes the result from the real value (10 µs). What is left
    of lax mode: an attachment where a str is expected is decoded as UTF-8.
    """
    try:
        return adapter.validate_python(value, strict=True)
    except invalid:
        pass
    stand_ins: set[str] = set()

    def stand_in(leaf: JSON) -> JSON:
        if not isinstance(leaf, bytes):
            return leaf
        text = "\x7f" * len(leaf)
        stand_ins.add(text)
        return text

    try:
        adapter.validate_json(json.dumps(_map_leaves(stand_in, value), default=str), strict=True)
    except invalid as error:
        # A validator that looks into the bytes refuses the stand-in; it judges the real ones below.
        if any(not isinstance(each["input"], str) or each["input"] not in stand_ins for each in error.errors(include_url=False)):
            raise
    return adapter.validate_python(value)


_IDENTIFIER = re.compile(r"[^\W\d]\w*")


def _problems(error: ValidationError) -> list[tuple[str, str | None]]:
    problems: list[tuple[str, str | None]] = []
    for each in error.errors(include_url=False, include_context=False, include_input=False)[:MAX_DETAILS]:
        path = "$"
        for step in each["loc"]:
            path += f".{step}" if isinstance(step, str) and _IDENTIFIER.fullmatch(step) else f"[{step!r}]"
        problems.append((each["msg"], path if each["loc"] else None))
    return problems
