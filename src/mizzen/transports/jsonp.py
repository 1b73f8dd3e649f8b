"""Polling by script tags (JSONP), which browsers without XMLHttpRequest for other origins need: `j=<n>` in the query."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl

from mizzen.errors import RemoteProtocolError
from mizzen.protocol.javascript import dumps
from mizzen.types import Reason

CONTENT_TYPE: Final = "text/javascript; charset=UTF-8"
MAX_DIGITS = 16
_ESCAPED = re.compile(r"(\\)?\\n")
_NOT_IN_SCRIPTS = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_TABLE = str.maketrans(_NOT_IN_SCRIPTS)


def is_index(index: str) -> bool:
    """Say whether this may stand in the answer: digits only."""
    return index.isascii() and index.isdecimal() and len(index) <= MAX_DIGITS


def encode(payload: bytes, index: str) -> bytes:
    """Give the script that hands a payload to the client's callback `index`.

    U+2028 and U+2029 end a line in older JavaScript, and `</script` or `<!--` end or change a script that stands in HTML.
    """
    text = dumps(payload.decode(), None).decode().translate(_TABLE)
    return f"___eio[{index}]({text});".encode()


def decode(body: bytes) -> bytes:
    """Give the payload of a form: its field `d`, in which `\\n` stands for a line feed and `\\\\n` for `\\n`.

    (A browser would make every line feed of a form two characters.) Raises RemoteProtocolError where there is no such field.
    """
    try:
        fields = parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=False, errors="strict", max_num_fields=10)
    except ValueError:
        fields = []
    for name, value in fields:
        if name == "d":
            return _ESCAPED.sub(lambda match: "\\n" if match[1] else "\n", value).encode()
    raise RemoteProtocolError("a form without a field 'd', which is to hold the payload", Reason.PARSE_ERROR)
