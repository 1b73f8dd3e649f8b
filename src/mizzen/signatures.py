"""Handler signatures: compiled once at registration, applied to the arguments of every event; and what errors ack.

What an annotation asks of an argument stands in `annotations`.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import traceback
import typing
from types import NoneType, SimpleNamespace
from typing import cast

from mizzen.annotations import MAX_DETAILS, Refused, compile_annotation, untouched
from mizzen.errors import ArgumentsInvalid, EventRefused, RemoteError

if typing.TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mizzen.types import JSON

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_REMEDY = "use builtins, a dataclass, TypedDict, msgspec.Struct or pydantic model, or no annotation to take the value as it came"


class _Parameter:
    """One positional parameter: values whose type is in `settled` are passed on as they are (None: all), others go through `convert`."""

    __slots__ = ("convert", "name", "settled")

    def __init__(self, name: str, settled: frozenset[type] | None, convert: Callable[[JSON], object]) -> None:
        self.name: str = name
        self.settled: frozenset[type] | None = settled
        self.convert: Callable[[JSON], object] = convert


class Signature:
    """What a handler takes, made by `compile_signature`.

    `function` is the handler, `call` what is called for it, `is_async` whether it is a coroutine function (a plain function that returns a
    coroutine is not). `untyped` is True when `convert` looks at no value at all: it then only counts them. `once` and `ordered` say how
    it was registered.
    """

    __slots__ = (
        *("_most", "_parameters", "_quick_most", "_required", "_rest", "_settled"),
        *("call", "function", "is_async", "once", "ordered", "untyped"),
    )

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
        self.once: bool = False
        self.ordered: bool = False
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
        if self.untyped and count == self._required:
            return list(args)
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
            except Refused as refused:
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
        return Signature(function, is_async=is_async, parameters=(), required=0, rest=_Parameter("args", None, untouched))
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

    Arguments that do not fit are told in full, and what an EventRefused says. Of any other error nothing is told, unless `debug`: then its
    type, text and traceback.
    """
    if isinstance(error, (ArgumentsInvalid, EventRefused)):
        code = "E_ARGUMENTS" if isinstance(error, ArgumentsInvalid) else "E_HANDLER"
        return {"error": {"code": code, "message": _text_of(error), "details": error.details}}
    if not debug:
        return {"error": {"code": "E_HANDLER", "message": "the handler failed", "details": []}}
    text = _text_of(error)
    lines = "".join(traceback.format_exception(error)).splitlines()
    return {"error": {"code": "E_HANDLER", "message": f"{type(error).__name__}: {text}", "details": [*lines]}}


def _text_of(error: Exception) -> str:
    try:
        return str(error)
    except Exception as unprintable:  # __str__ of the user's own class; it must not hide the error
        return f"<its text cannot be had: {type(unprintable).__name__}>"


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
        return _Parameter(parameter.name, None, untouched)
    annotation = namespaces.resolve(parameter)
    try:
        return _Parameter(parameter.name, *compile_annotation(annotation))
    except TypeError as error:
        raise TypeError(
            f"handler {namespaces.name}: parameter {parameter.name!r} has the type {inspect.formatannotation(annotation)}, "
            f"which an argument of an event cannot be checked against ({error}): {_REMEDY}"
        ) from error
