"""JSON values as they are typed and as they are shown."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, cast

from mizzen import JSON

_UNSAFE: Final = re.compile(r"[\x7f-\x9f\u2028\u2029]")
_WORD: Final = re.compile(r"\S+")
_SPACE: Final = re.compile(r"\s*")
_NAME: Final = re.compile(r"[\w.:/@-]+", re.ASCII)
_DECODER: Final = json.JSONDecoder()

SHORT: Final = 72
"""Characters of JSON that are shown in one line."""


class ValueInvalid(ValueError):
    """What was typed is no value; the message says why."""


def parse_values(text: str) -> Iterator[JSON]:
    """Give the values of a line, in which white space parts them: JSON, `@file` for the bytes of a file, or words, which are strings.

    Raises ValueInvalid for what begins as JSON and is none, and for a file that cannot be read.
    """
    position = cast("re.Match[str]", _SPACE.match(text)).end()
    while position < len(text):
        try:
            value, end = _DECODER.raw_decode(text, position)
            if end < len(text) and not text[end].isspace():
                raise ValueError
        except ValueError:
            word = cast("re.Match[str]", _WORD.match(text, position))
            value, end = _of_word(word[0]), word.end()
        yield value
        position = cast("re.Match[str]", _SPACE.match(text, end)).end()


def parse_value(text: str) -> JSON:
    """Give the one value of an argument of the command line; as `parse_values`, but white space is part of a string."""
    try:
        return json.loads(text)
    except ValueError:
        return _of_word(text)


def _of_word(word: str) -> JSON:
    if word[:1] in ("{", "[", '"'):
        raise ValueInvalid(f"{word} is not JSON; in JSON all strings and keys are in double quotes")
    if word[:1] != "@":
        return word
    try:
        return Path(word[1:]).expanduser().read_bytes()
    except OSError as error:
        raise ValueInvalid(f'{word}: {error.strerror}; for the text itself write "{word}" with its quotes') from None


def _default(value: object) -> JSON:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    raise TypeError(f"{value!r} is not JSON")


def to_line(value: JSON) -> str:
    """Write a value as JSON in one line; bytes are `{"base64": …}`. Nothing in it can steer a terminal."""
    text = json.dumps(value, ensure_ascii=False, default=_default)
    # Unpaired surrogates, which JSON may hold, cannot be printed.
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode("utf-8", "backslashreplace").decode()


def to_text(value: JSON) -> str:
    """Write a value as JSON for reading: in one line if it is short."""
    line = to_line(value)
    if len(line) <= SHORT:
        return line
    text = json.dumps(value, ensure_ascii=False, default=_default, indent=2)
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode("utf-8", "backslashreplace").decode()


def to_name(name: str) -> str:
    """Write the name of an event: as it is, or in quotes if it holds anything unusual."""
    return name if _NAME.fullmatch(name) else to_line(name)


def to_plain(text: str) -> str:
    """Give a text of the server's with what could steer a terminal shown instead of done; line ends and tabs stay."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda found: f"\\x{ord(found[0]):02x}", text)
