"""What server and client have in common in handling events: names, answers and failures."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from mizzen.signatures import error_ack, parse_error_ack
from mizzen.types import JSON

logger: Final = logging.getLogger("mizzen")

Encode: TypeAlias = Callable[[str, Sequence[JSON], int | None], object]
"""A codec's `encode_ack`."""

ENTRY: Final = 256
"""Bytes that one waiting event costs besides its message, about."""


class Answer:
    """The ack of an event with several handlers: the first result that is not None, else an error if there was one, else none.

    `ack` sends it; raises TypeError for what cannot be encoded.
    """

    __slots__ = ("_ack", "_error", "_left", "_sent")

    def __init__(self, ack: Callable[[object], None], handlers: int) -> None:
        self._ack = ack
        self._left = handlers
        self._error: JSON = None
        self._sent = False

    def result(self, value: object) -> None:
        """Take what a handler returned. Raises TypeError for what cannot be encoded; the handler has then failed."""
        if value is not None and not self._sent:
            self._ack(value)
            self._sent = True
        self._done()

    def failed(self, error: JSON) -> None:
        """Take the error of a handler that failed."""
        self._error = error
        self._done()

    def _done(self) -> None:
        self._left -= 1
        if not self._left and not self._sent:
            self._ack(self._error)


def unpack(args: Sequence[JSON]) -> JSON:
    """Give what `call` returns for an ack: None, the one argument, or a tuple of several. Raises RemoteError for an error ack."""
    error = parse_error_ack(args)
    if error is None:
        return None if not args else args[0] if len(args) == 1 else tuple(args)
    try:
        raise error
    finally:
        del error  # its traceback holds this frame, and so the frame must not hold it


def failure_of(caught: BaseException, whose: str = "the handler") -> Exception:
    """Give the failure of a function of the user's; raise what is none: this side cancels it, or the process is to end."""
    if isinstance(caught, Exception):
        return caught
    if isinstance(caught, (KeyboardInterrupt, SystemExit, GeneratorExit)):
        raise caught
    if isinstance(caught, asyncio.CancelledError):
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise caught
        failure = RuntimeError(f"{whose} awaited something that was cancelled")
    else:
        failure = RuntimeError(f"{whose} raised {caught!r}, which is no Exception")
    failure.__cause__ = caught
    return failure


def error_answer(error: Exception, encode: Encode, *, debug: bool) -> JSON:
    """Give the argument of the ack that tells the peer of a failure: one that can be encoded, or the peer would wait for it in vain.

    Details that cannot are left out, which the log says.
    """
    answer = error_ack(error, debug=debug)
    try:
        encode("/", (answer,), 0)
    except Exception as problem:
        logger.error("the details of %s cannot be sent to the peer, which is told the rest: %s", type(error).__name__, problem)
        answer["error"]["details"] = []
    return answer
