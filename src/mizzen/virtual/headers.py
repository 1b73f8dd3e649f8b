"""Header rules of socket requests: what a message may set, and what it may not."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, cast

from mizzen.protocol.javascript import number_text
from mizzen.types import NOT_IN_HEADERS, TOKEN
from mizzen.virtual.invalid import RequestInvalid, shown
from mizzen.virtual.pinned import NAMES, PREFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mizzen.types import JSON

MAX_HEADERS = 100
MAX_HEADER_BYTES = 16 * 1024

# They speak of one HTTP connection or of the framing on it (RFC 9110, 7.6.1); a socket request has neither.
HOP_BY_HOP = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection"),
        *(b"te", b"trailer", b"transfer-encoding", b"upgrade"),
    )
)
FRAMING = HOP_BY_HOP | {b"content-length", b"expect"}


def parse_headers(headers: JSON) -> dict[bytes, bytes]:
    """Check the headers of a message: lower-case names to values, the last of names that differ only in case.

    Values are made strings as Sails makes them: numbers and booleans as JavaScript writes them, an array as its elements joined by commas.
    A null drops the header. Headers that frame an HTTP message are left out. Raises `RequestInvalid` for what HTTP could not carry, and
    beyond 100 headers or 16 KiB.
    """
    if headers is None:
        return {}
    if not isinstance(headers, dict):
        raise RequestInvalid(f"Invalid headers: {shown(headers)}. They are an object of names and strings.")
    given = cast("dict[str, JSON]", headers)
    if len(given) > MAX_HEADERS:
        raise RequestInvalid(f"Too many headers: {len(given)}, where at most {MAX_HEADERS} are allowed.")
    parsed: dict[bytes, bytes] = {}
    size = 0
    for name, value in given.items():
        if value is None:
            continue
        header = make_header(name, value if isinstance(value, str) else _text(name, value))
        size += len(header[0]) + len(header[1])
        if size > MAX_HEADER_BYTES:
            raise RequestInvalid(f"The headers are too large: names and values may have {MAX_HEADER_BYTES} bytes together.")
        if header[0] not in FRAMING:
            parsed[header[0]] = header[1]
    return parsed


def make_header(name: str, value: str) -> tuple[bytes, bytes]:
    """Make an ASGI header, white space around the value stripped.

    Raises `RequestInvalid` for a name that is not a token (RFC 9110, 5.6.2) and for a value with control characters or beyond Latin-1.
    """
    if not TOKEN.fullmatch(name):
        raise RequestInvalid(f"Invalid header name {shown(name)}: only letters, digits and !#$%&'*+-.^_`|~ may stand in it.")
    value = value.strip(" \t")
    if bad := NOT_IN_HEADERS.search(value):
        raise RequestInvalid(f"Invalid value of header {shown(name)}: {bad.group()!r} may not stand in a header. Percent-encode it.")
    return name.lower().encode("ascii"), value.encode("latin-1")


def pin(names: Iterable[str]) -> frozenset[bytes]:
    """Make the set of pinned names that `is_pinned` and `build_scope` take: those by default, and further ones in any case."""
    return NAMES.union(name.lower().replace("_", "-").encode("latin-1") for name in names)


def is_pinned(name: bytes, pinned: frozenset[bytes]) -> bool:
    """Tell whether a message may not set this header (a lower-case name), because apps trust it to come from a proxy or from a browser."""
    name = name.replace(b"_", b"-")  # WSGI and CGI make HTTP_X_REAL_IP of both x-real-ip and x_real_ip
    return name in pinned or name.startswith(PREFIXES[bisect_right(PREFIXES, name) - 1])


def encode_headers(headers: Mapping[str, str]) -> dict[bytes, bytes]:
    """Encode headers that the server set itself, less those that frame an HTTP message and the content type, which is the message's.

    Raises `RequestInvalid` as `make_header` does: a value may hold what the client sent, such as a token of `auth`. Raises TypeError for
    what is no string, which is the app's own mistake.
    """
    for name, value in cast("Mapping[object, object]", headers).items():
        if not isinstance(name, str) or not isinstance(value, str):
            what, wrong = ("value", value) if isinstance(name, str) else ("name", name)
            told = f"socket.headers[{shown(name)}]: the {what} is of type {type(wrong).__name__}"
            raise TypeError(f"{told}, but names and values of headers are of type str: make it one first")
    encoded = dict([make_header(name, value) for name, value in headers.items()])
    for name in FRAMING.intersection(encoded):
        del encoded[name]
    encoded.pop(b"content-type", None)
    return encoded


def json_number(value: int | float) -> str:
    """Write a number as JavaScript does; what is no number in JSON is null."""
    text = number_text(value)
    return text if text[-1].isdigit() else "null"


def _text(name: str, value: JSON) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return json_number(value)
    items = cast("list[JSON] | None", value if isinstance(value, list) else None)
    if items is not None and not any(isinstance(item, (list, dict, bytes)) for item in items):
        return ",".join("" if item is None else _text(name, item) for item in items)
    raise RequestInvalid(
        f"Invalid value of header {shown(name)}: {shown(cast('object', value))}. It is a string, a number, a boolean or an array of such."
    )
