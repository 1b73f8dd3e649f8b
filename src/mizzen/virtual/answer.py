"""From the app's answer to the JWR: the object that the ack of a socket request carries."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import orjson

from mizzen.errors import RemoteProtocolError
from mizzen.protocol import javascript
from mizzen.virtual.headers import HOP_BY_HOP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mizzen.types import JSON

JSON_TYPE = "application/json"

# They belong to the HTTP answer that there is none of; cookies stay out of the reach of scripts.
_LEFT_OUT = HOP_BY_HOP | {b"date", b"server", b"set-cookie"}
_USUAL = (b"content-type", b"content-length", b"cache-control", b"etag", b"last-modified", b"location", b"vary", b"content-encoding")
# What nearly every answer's headers are called in the JWR; "": left out.
_NAMES = dict.fromkeys(_LEFT_OUT, "") | {name: name.decode() for name in _USUAL}
_BODILESS = frozenset((204, 304))
_TEXT_TYPES = frozenset(
    f"application/{name}"
    for name in (
        *("xml", "javascript", "x-javascript", "ecmascript", "x-www-form-urlencoded"),
        *("yaml", "x-yaml", "toml", "sql", "graphql", "x-ndjson", "jsonl"),
    )
)
_CHARSET = re.compile(r';\s*charset\s*=\s*"?([^\s";]+)', re.IGNORECASE)


def fold_headers(headers: Iterable[tuple[bytes, bytes]], on_cookie: Callable[[bytes], None] | None = None) -> dict[str, str]:
    """Give the headers of an answer as text, their names in lower case, repeated ones joined.

    Those of the HTTP connection and `set-cookie date server` are left out; each Set-Cookie goes to `on_cookie`.
    """
    folded: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name = _NAMES.get(raw_name)
        if name is None:
            raw_name = raw_name.lower()
            name = _NAMES.get(raw_name)
            if name is None:
                name = raw_name.decode("latin-1")
        if name:
            value = raw_value.decode("latin-1")
            folded[name] = f"{folded[name]}, {value}" if name in folded else value
        elif on_cookie is not None and raw_name.lower() == b"set-cookie":
            on_cookie(raw_value)
    return folded


def make_jwr(method: str, status: int, headers: dict[str, str], body: bytes) -> dict[str, JSON]:
    """Make the JWR of a complete answer: `{"body": …, "headers": {…}, "statusCode": …}`.

    `headers` come from `fold_headers`; they become part of it, without `content-length`. A JSON body becomes its value, text a string, all
    else bytes; JSON that is none stays text. There is no key `body` where HTTP has no body, for HEAD, 204 and 304, nor for an empty body,
    unless it is text: that is the empty string, which Sails tells from none.
    """
    headers.pop("content-length", None)
    if method == "HEAD" or status in _BODILESS or status < 200:
        return {"headers": headers, "statusCode": status}
    content_type = headers.get("content-type", "")
    value: JSON = body
    if body and "content-encoding" in headers and headers["content-encoding"] != "identity":
        pass
    elif content_type == JSON_TYPE or _is_json(content_type):
        if body:
            try:
                value = orjson.loads(body)
            except ValueError:
                value = _decode_json(body)
    elif _is_text(content_type):
        return {"body": _decode_text(body, content_type), "headers": headers, "statusCode": status}
    if body:
        return {"body": value, "headers": headers, "statusCode": status}
    return {"headers": headers, "statusCode": status}


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _is_json(content_type: str) -> bool:
    kind = _kind(content_type)
    return kind == JSON_TYPE or kind == "text/json" or kind.endswith("+json")


def _is_text(content_type: str) -> bool:
    kind = _kind(content_type)
    return kind.startswith("text/") or kind in _TEXT_TYPES or kind.endswith("+xml")


def _decode_json(body: bytes) -> JSON:
    """Make what can be made of JSON that the quick way refuses."""
    text = body.decode("utf-8-sig", "replace")  # fetch() skips a byte order mark too, and puts U+FFFD where there is no character
    try:
        return javascript.loads(text)
    except RemoteProtocolError:
        return text


def _decode_text(body: bytes, content_type: str) -> str:
    charset = _CHARSET.search(content_type)
    if charset and charset[1].lower() not in ("utf-8", "utf8"):
        try:
            return body.decode(charset[1], "replace")
        except (LookupError, ValueError):  # no such charset, or, with a NUL in the name, no charset at all
            pass
    return body.decode("utf-8-sig", "replace")
