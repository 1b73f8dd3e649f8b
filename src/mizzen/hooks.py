"""Functions of users that are told of what happens, and cannot stop it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Final, Generic, ParamSpec

from mizzen.handling import failure_of
from mizzen.tasks import Tasks

logger: Final = logging.getLogger("mizzen.server")

P = ParamSpec("P")


class Hooks(Generic[P]):
    """The hooks of one kind, plain or async, in order of registration; `name` is what users call them, for the log."""

    __slots__ = ("_functions", "_name")

    def __init__(self, name: str) -> None:
        self._name = name
        self._functions: tuple[Callable[P, Awaitable[None] | None], ...] = ()

    def __bool__(self) -> bool:
        return bool(self._functions)

    def add(self, function: Callable[P, Awaitable[None] | None]) -> None:
        """Register a hook."""
        self._functions = (*self._functions, function)

    def copy(self) -> Hooks[P]:
        """Give the same hooks, which then go their own ways."""
        copy: Hooks[P] = Hooks(self._name)
        copy._functions = self._functions
        return copy

    def run(self, tasks: Tasks, *args: P.args, **kwargs: P.kwargs) -> None:
        """Call every hook; async ones run on in tasks. An error of one is logged and stops nothing."""
        for function in self._functions:
            try:
                result = function(*args, **kwargs)
                if isawaitable(result):
                    tasks.start(self._finish(result))
            except BaseException as caught:
                self._failed(caught)

    async def _finish(self, result: Awaitable[None]) -> None:
        try:
            await result
        except BaseException as caught:
            self._failed(caught)

    def _failed(self, caught: BaseException) -> None:
        logger.error("an %s hook failed", self._name, exc_info=failure_of(caught, "the hook"))
