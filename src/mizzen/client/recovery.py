"""What a socket keeps in order to get, after an interruption, what it has missed."""

from __future__ import annotations

import re
import time
from typing import Final

from mizzen.types import JSON

_ALPHABET: Final = {letter: value for value, letter in enumerate("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_")}
_YEAST: Final = re.compile(r"([0-9A-Za-z_-]{7})(\.[0-9A-Za-z_-]+)?")
_ENTRY_ID: Final = re.compile(r"\d{10,16}-\d{1,10}")
_MIZZEN: Final = re.compile(r"[0-9A-Za-z_-]{8}\.\d{1,16}")
_OBJECT_ID: Final = re.compile(r"[0-9a-f]{24}")
_NEAR: Final = 366 * 86_400
"""Seconds that the clock of a server may differ from ours."""


def is_offset(value: JSON, now: float) -> bool:
    """Tell whether a last argument is an offset, as the adapters make them: Node's in memory, Redis streams, MongoDB, Mizzen's.

    The packet itself does not say it: a volatile event has none, and its last argument may be a string of its own.
    """
    if not isinstance(value, str):
        return False
    stamp = _YEAST.fullmatch(value)
    if stamp is not None:
        milliseconds = 0
        for letter in stamp[1]:
            milliseconds = milliseconds * 64 + _ALPHABET[letter]
        return abs(milliseconds / 1000 - now) < _NEAR
    entry = _ENTRY_ID.fullmatch(value)
    if entry is not None:
        return abs(int(value.partition("-")[0]) / 1000 - now) < _NEAR
    if _MIZZEN.fullmatch(value) is not None:
        return True
    return _OBJECT_ID.fullmatch(value) is not None and abs(int(value[:8], 16) - now) < _NEAR


class Recovery:
    """The secret that the server gave the socket, and the offset of the last event that came.

    The JavaScript client takes any last argument that is a string for the offset, and leaves it to the handlers. Here only what is an
    offset counts, and is taken off; a server whose offsets have another form is served as the JavaScript client would.
    """

    __slots__ = ("_known_form", "offset", "pid")

    def __init__(self) -> None:
        self.pid: str | None = None
        self.offset: str | None = None
        self._known_form = False

    def connected(self, pid: str | None, offset: str | None) -> bool:
        """Take what the server told of a new connection; say whether the session is the one before."""
        recovered = pid is not None and pid == self.pid
        if not recovered:
            self._known_form = offset is not None
            self.offset = offset
        self.pid = pid
        return recovered

    def take(self, args: list[JSON]) -> None:
        """Remember the offset that an event carries as its last argument, and take it off."""
        if not args or not isinstance(args[-1], str):
            return
        if is_offset(args[-1], time.time()):
            self._known_form = True
            self.offset = args.pop()
        elif not self._known_form:
            self.offset = args[-1]
