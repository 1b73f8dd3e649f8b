"""Handler signatures: compiled once at registration, applied to the arguments of every event; and what errors ack.

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
import inspect
import json
import re
import sys
import traceback
import typing
from enum import Enum
from types import NoneType, SimpleNamespace, UnionType
from typing import Protocol, cast

import msgspec
import orjson
from msgspec import inspect as type_infos

from mizzen.errors import ArgumentsInvalid, RemoteError

if typing.TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from pydantic import ValidationError

    from mizzen.types import JSON

MAX_DETAILS = 100
"""At most so many details are told of one call, so that a small message cannot ask for a huge answer."""

_MAX_SAFE_INTEGER = 2**53 - 1
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_PLAIN = frozenset({str, int, float, bool, bytes, list, dict, NoneType})
_JSON_NAMES: dict[type, str] = {list: "array", dict: "object", NoneType: "null"}
_BYTES_LIKE = (bytes, bytearray, memoryview)
_LISTS: tuple[object, ...] = (list[typing.Any], list[object])
_DICTS: tuple[object, ...] = (dict[str, typing.Any], dict[str, object])
_REMEDY = "use builtins, a dataclass, TypedDict, msgspec.Struct or pydantic model, or no annotation to take the value as it came"


class _Refused(Exception):
    """One argument does not fit; `problems` holds (message, path)."""

    def __init__(self, problems: list[tuple[str, str | None]]) -> None:
        self.problems = problems


class _Box(Protocol):
    value: object


class _Parameter:
    """One positional parameter: values whose type is in `settled` are passed on as they are (None: all), others go through `convert`."""

    __slots__ = ("convert", "name", "settled")

    def __init__(self, name: str, settled: frozenset[type] | None, convert: Callable[[JSON], object]) -> None:
        self.name: str = name
        self.settled: frozenset[type] | None = settled
        self.convert: Callable[[JSON], object] = convert


class Signature:
    """What a handler takes, made by `compile_signature`.

    `function` is the handler, `is_async` whether it is a coroutine function (a plain function that returns a coroutine is not). `untyped`
    is True when `convert` looks at no value at all: it then only counts them.
    """

    __slots__ = ("_most", "_parameters", "_quick_most", "_required", "_rest", "_settled", "call", "function", "is_async", "untyped")

    def __init__(
        self,
        function: Callable[..., object],
        *,
        is_async: bool,
        parameters: Sequence[_Parameter],
        required: int,
        rest: _Parameter | None,
    ) -> None:
        self.function: Callable[..., object] = function
        self.call: Callable[..., Awaitable[object]] = cast("Callable[..., Awaitable[object]]", function)
        self.is_async: bool = is_async
        self._parameters = tuple(parameters)
        self._settled = tuple(parameter.settled for parameter in parameters)
        self._required = required
        self._rest = rest
        self._most = len(parameters) if rest is None else sys.maxsize
        self._quick_most = sys.maxsize if rest is None or rest.settled is None else len(parameters)
        self.untyped: bool = self._quick_most == sys.maxsize and all(settled is None for settled in self._settled)
        if any(settled is not None and settled <= {NoneType} for settled in self._settled):
            self._quick_most = -1  # one of them needs its converter nearly always

    @property
    def required(self) -> int:
        """How many arguments it needs besides the leading ones."""
        return self._required

    def convert(self, args: Sequence[JSON]) -> list[object]:
        """Give the arguments to call the function with, after the leading ones.

        Surplus arguments are dropped; missing ones that have a default are left out. Raises ArgumentsInvalid, whose details name every
        argument that does not fit (the first 100 problems). Whatever else a validator of the user's raises passes through.
        """
        count = len(args)
        if count > self._most:
            args = args[: self._most]
        if self._required <= count <= self._quick_most:
            if self.untyped:
                return list(args)
            for settled, value in zip(self._settled, args):  # noqa: B905 - the shorter one counts, and strict=False costs a keyword
                if settled is not None and type(value) not in settled:
                    break
            else:
                return list(args)
        return self._convert_each(args)

    def _convert_each(self, args: Sequence[JSON]) -> list[object]:
        parameters = self._parameters
        converted: list[object] = []
        details: list[JSON] = []
        for index, value in enumerate(args):
            parameter = parameters[index] if index < len(parameters) else cast("_Parameter", self._rest)
            if parameter.settled is None or type(value) in parameter.settled:
                converted.append(value)
                continue
            try:
                converted.append(parameter.convert(value))
            except _Refused as refused:
                for message, path in refused.problems:
                    detail = {"argument": parameter.name, "index": index, "message": message}
                    details.append(detail if path is None else {**detail, "path": path})
                if len(details) >= MAX_DETAILS:
                    break
        absent = range(len(args), self._required)
        details.extend({"argument": parameters[index].name, "index": index, "message": "missing"} for index in absent)
        if details:
            first = details[0]
            more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
            raise ArgumentsInvalid(f"argument {first['argument']!r}: {first['message']}{more}", details[:MAX_DETAILS])
        return converted


def compile_signature(function: Callable[..., object], *, leading: int) -> Signature:
    """Compile what a handler takes, once, when it is registered.

    `leading` is how many positional parameters the framework fills by itself: 1 for handlers that get the socket first. Their annotations
    are not looked at. A builtin that tells no signature takes everything. Raises TypeError, naming the function and what to do, when it
    is not callable, is a generator, takes fewer than `leading` arguments, has a keyword-only parameter without a default, or has an
    annotation that cannot be resolved or that no JSON value can become.
    """
    name = _name_of(function)
    target = _unwrap_partial(function)
    called: object = target if inspect.isroutine(target) or isinstance(target, type) else getattr(target, "__call__", None)  # noqa: B004
    if called is None:
        raise TypeError(f"a handler must be a function or another callable, not {function!r}")
    if inspect.isasyncgenfunction(called) or inspect.isgeneratorfunction(called):
        raise TypeError(f"handler {name} is a generator, whose body would never run: return a value instead of yielding, or emit each one")
    is_async = inspect.iscoroutinefunction(called)
    try:
        found = _signature_of(function)
    except ValueError:  # "no signature found for builtin"
        return Signature(function, is_async=is_async, parameters=(), required=0, rest=_Parameter("args", None, _pass))
    positional = [parameter for parameter in found if parameter.kind in _POSITIONAL]
    rest = next((parameter for parameter in found if parameter.kind is inspect.Parameter.VAR_POSITIONAL), None)
    for parameter in found:
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and parameter.default is inspect.Parameter.empty:
            raise TypeError(
                f"handler {name} has the keyword-only parameter {parameter.name!r} without a default: "
                "arguments of an event come by position, so make it positional or give it a default"
            )
    if len(positional) < leading and rest is None:
        raise TypeError(
            f"handler {name} takes {len(positional)} positional arguments, but {leading} must come first: "
            "write the socket as its first parameter, for example `def handler(socket, ...)`"
        )
    taken = positional[leading:]
    namespaces = _Namespaces(called, name)
    return Signature(
        function,
        is_async=is_async,
        parameters=[_compile_parameter(parameter, namespaces) for parameter in taken],
        required=sum(parameter.default is inspect.Parameter.empty for parameter in taken),
        rest=None if rest is None else _compile_parameter(rest, namespaces),
    )


def error_ack(error: Exception, *, debug: bool) -> dict[str, JSON]:
    """Give the one argument of the ack that tells the peer that its event failed.

    Arguments that do not fit are told in full. Of any other error nothing is told, unless `debug`: then its type, text and traceback.
    """
    if isinstance(error, ArgumentsInvalid):
        return {"error": {"code": "E_ARGUMENTS", "message": str(error), "details": error.details}}
    if not debug:
        return {"error": {"code": "E_HANDLER", "message": "the handler failed", "details": []}}
    try:
        text = str(error)
    except Exception as unprintable:  # __str__ of the user's own class; it must not hide the error
        text = f"<its text cannot be had: {type(unprintable).__name__}>"
    lines = "".join(traceback.format_exception(error)).splitlines()
    return {"error": {"code": "E_HANDLER", "message": f"{type(error).__name__}: {text}", "details": [*lines]}}


def parse_error_ack(args: Sequence[JSON]) -> RemoteError | None:
    """Give the error that an ack tells of, or None when it is data.

    An error is exactly one argument: an object with the single key `error`, whose `code` is E_ARGUMENTS or E_HANDLER and whose `message`
    is a string. Anything else is data, however much it looks like an error.
    """
    if len(args) != 1 or not isinstance(args[0], dict):
        return None
    reply = cast("dict[str, JSON]", args[0])
    told: JSON = reply.get("error") if len(reply) == 1 else None
    if not isinstance(told, dict):
        return None
    told = cast("dict[str, JSON]", told)
    code, message, details = told.get("code"), told.get("message"), told.get("details")
    if code not in ("E_ARGUMENTS", "E_HANDLER") or not isinstance(message, str):
        return None
    return RemoteError(message, code=code, details=cast("list[JSON]", details) if isinstance(details, list) else ())


# Registration: which function, which annotations


def _pass(value: JSON) -> object:
    return value


def _unwrap_partial(function: object) -> object:
    while isinstance(function, functools.partial):
        function = cast("functools.partial[object]", function).func
    return function


def _name_of(function: object) -> str:
    target = _unwrap_partial(function)
    return f"{getattr(target, '__module__', None)}.{getattr(target, '__qualname__', type(target).__qualname__)}"


def _signature_of(function: Callable[..., object]) -> list[inspect.Parameter]:
    if sys.version_info >= (3, 14):
        # Annotations are evaluated lazily there; names that do not resolve must stay forward references, the leading ones among them.
        import annotationlib

        return [*inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF).parameters.values()]
    return [*inspect.signature(function).parameters.values()]


class _Namespaces:
    """Where the names of a handler's annotations are looked up: its globals, its closure, the functions that are defining it."""

    def __init__(self, called: object, name: str) -> None:
        function: object = inspect.unwrap(cast("Callable[..., object]", called))
        function = getattr(function, "__func__", function)
        self.name = name
        module = sys.modules.get(getattr(function, "__module__", None) or "")
        self.globals: dict[str, object] = getattr(function, "__globals__", None) or vars(module or typing)
        self.locals: dict[str, object] = {}
        # A string annotation leaves no trace in the closure, so a class that is local to the function that registers the handler is
        # found only in that function's frame, which is still running.
        qualname: str = getattr(function, "__qualname__", "")
        frame = inspect.currentframe()
        while frame is not None:
            if frame.f_globals is self.globals and qualname.startswith(f"{frame.f_code.co_qualname}."):
                self.locals = {**frame.f_locals, **self.locals}
            frame = frame.f_back
        if inspect.isfunction(function):
            for free, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
                with contextlib.suppress(ValueError):  # empty: the name is bound only after the decorator that we run in
                    self.locals[free] = cell.cell_contents
            self.locals.update({each.__name__: each for each in getattr(function, "__type_params__", ())})

    def resolve(self, parameter: inspect.Parameter) -> object:
        """Give the annotation of one parameter; the others may stay unresolvable, as `socket: Socket` under TYPE_CHECKING does."""
        holder = SimpleNamespace(__annotations__={"it": parameter.annotation})
        try:
            return typing.get_type_hints(holder, self.globals, self.locals, include_extras=True)["it"]
        except NameError as error:
            raise TypeError(
                f"handler {self.name}: the annotation of parameter {parameter.name!r} names {error.name!r}, which cannot be found: "
                "define or import it at module level (not under TYPE_CHECKING) before the handler is registered"
            ) from error
        except (AttributeError, SyntaxError, TypeError) as error:
            raise TypeError(f"handler {self.name}: the annotation of parameter {parameter.name!r} is not a type: {error}") from error


def _compile_parameter(parameter: inspect.Parameter, namespaces: _Namespaces) -> _Parameter:
    if parameter.annotation is inspect.Parameter.empty:
        return _Parameter(parameter.name, None, _pass)
    annotation = namespaces.resolve(parameter)
    while typing.get_origin(annotation) is None and type(annotation).__name__ == "TypeAliasType":  # also that of typing_extensions
        annotation = cast("SimpleNamespace", annotation).__value__
    members = [*_members(annotation)]
    if typing.Any in members or object in members:
        return _Parameter(parameter.name, None, _pass)
    if _PLAIN.issuperset(members):
        plain = frozenset(cast("list[type]", members))
        return _Parameter(parameter.name, plain, functools.partial(_convert_plain, plain))
    try:
        convert = _pydantic_converter(annotation) if _has_pydantic(annotation, {}) else _msgspec_converter(annotation)
    except TypeError as error:
        raise TypeError(
            f"handler {namespaces.name}: parameter {parameter.name!r} has the type {inspect.formatannotation(annotation)}, "
            f"which an argument of an event cannot be checked against ({error}): {_REMEDY}"
        ) from error
    # None is a member of its own in every union, so it needs no converter.
    return _Parameter(parameter.name, frozenset({NoneType} & {*members}), convert)


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
    raise _Refused([(f"Expected `{expected}`, got `{_JSON_NAMES.get(got, got.__name__)}`", None)])


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
            except _Refused:
                if not any(_as_javascript(leaf) is not leaf for leaf in _leaves(value)):
                    raise
            return attempt(_map_leaves(_as_javascript, value))
        except RecursionError:
            raise _Refused([("nested too deeply", None)]) from None

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
            raise _Refused([_without_box(str(error))]) from None
        except (OverflowError, ValueError) as error:
            # A lone surrogate, or a number that no machine holds; those that a dataclass raises come as ValidationError.
            raise _Refused([(str(error), None)]) from None

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
                    return adapter.validate_json(json.dumps(value), strict=True)
                return _validate_with_bytes(adapter, value, pydantic.ValidationError)
            return adapter.validate_json(text, strict=True)
        except pydantic.ValidationError as error:
            raise _Refused(_problems(error)) from None

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
        adapter.validate_json(json.dumps(_map_leaves(stand_in, value)), strict=True)
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
