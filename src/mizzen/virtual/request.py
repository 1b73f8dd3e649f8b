"""From the event of a socket to the request that HTTP would have carried."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, cast
from urllib.parse import parse_qsl, quote_plus

import orjson
from msgspec import Struct

from mizzen.protocol import javascript
from mizzen.types import VERBS
from mizzen.virtual.headers import json_number, parse_headers
from mizzen.virtual.invalid import RequestInvalid, shown
from mizzen.virtual.url import parse_url, utf8

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mizzen.types import JSON

_IN_QUERY = frozenset(("get", "head"))
# sails.io.js sends {} with every call that was given no data. Over HTTP these verbs then have no body; the others have the object that a
# Sails action finds in `req.body`.
_EMPTY_IS_ABSENT = frozenset(("delete", "options"))
_JSON_TYPE = b"application/json"
_FORM_TYPE = b"application/x-www-form-urlencoded"
_BYTES_TYPE = b"application/octet-stream"


class SocketRequest(Struct, gc=False):
    """A request that came by socket, checked.

    `path` is percent-decoded and `raw_path` is not, both without any root path; `headers` are the message's alone, names in lower case and
    once each, without content type and length. `body` is None where HTTP would send none. Where there is a body there is a `content_type`.
    """

    method: str
    path: str
    raw_path: bytes
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes | None
    content_type: bytes | None


def parse_request(verb: str, args: Sequence[JSON], body_of_get: bool = False) -> SocketRequest:
    """Make a request of an event: `verb` is its name, one of `VERBS`, and `args` what followed the name.

    There is one argument, an object with `url` and, if wanted, `headers`, `data` and `params`. Its `method` means nothing, as in Sails.
    `data` is laid over `params` where both are objects; else data that is anything but null or {} replaces them. Null is no data.

    GET and HEAD put data into the query, where keys of the URL itself win: arrays repeat the key, scalars are JSON text without quotes,
    objects JSON text; the keys of an array as a whole are its indices. With the other verbs data is a JSON body, or in the urlencoded form
    where the header `content-type` asks for it; bytes go as they are, and so does a string whose content type is not JSON. {} is a body
    with POST, PUT and PATCH only, because sails.io.js sends it with every call without data. With `body_of_get`, data of GET and HEAD is a
    body as well, as Sails actions find it in `req.body`. Raises `RequestInvalid`, and nothing else.
    """
    if len(args) != 1 or args[0].__class__ is not dict:
        raise RequestInvalid(_wrong_arguments(verb, args))
    payload: dict[str, JSON] = args[0]
    path, raw_path, query = parse_url(payload.get("url"))
    headers: list[tuple[bytes, bytes]] = []
    body = content_type = None
    given = payload.get("headers")
    if given is not None and given != {}:
        parsed = parse_headers(given)
        content_type = parsed.pop(b"content-type", None)
        headers += parsed.items()
    data = payload.get("data")
    if "params" in payload:
        data = _merge(payload["params"], data)
    if verb in _IN_QUERY:
        content_type = None
        if data is not None and data != {}:
            query = _add_to_query(query, data)
            if body_of_get:
                body, content_type = _encode_body(data, None)
    elif data is not None and (data != {} or verb not in _EMPTY_IS_ABSENT):
        body, content_type = _encode_body(data, content_type)
    else:
        content_type = None
    return SocketRequest(VERBS[verb], path, raw_path, query, headers, body, content_type)


def _wrong_arguments(verb: str, args: Sequence[JSON]) -> str:
    if len(args) > 1:
        return f"Too many arguments: '{verb}' takes one object and, if an answer is wanted, an ack; {shown(args[1])} is neither."
    return f'No url provided in request: {shown(args[0]) if args else "nothing"}. Send one object, such as {{"url": "/users"}}.'


def _merge(params: JSON, data: JSON) -> JSON:
    if params is None or params == {}:
        return data
    if data is None or data == {}:
        return params
    if isinstance(params, dict) and isinstance(data, dict):
        return cast("dict[str, JSON]", params) | cast("dict[str, JSON]", data)
    return data


def _encode_body(data: JSON, content_type: bytes | None) -> tuple[bytes, bytes]:
    if isinstance(data, bytes):
        return data, content_type or _BYTES_TYPE
    if content_type is None:
        return _json(data), _JSON_TYPE
    kind = content_type.partition(b";")[0].strip().lower()
    if kind == _JSON_TYPE or kind.endswith(b"+json"):
        return _json(data), content_type
    if isinstance(data, str):
        return utf8(data), content_type
    if kind == _FORM_TYPE:
        return _urlencode(_pairs(data)), content_type
    raise RequestInvalid(
        f"Data that is {shown(data)} cannot be sent as {content_type.decode('latin-1')}: send a string or bytes, "
        f"or the content type {_JSON_TYPE.decode()} or {_FORM_TYPE.decode()}."
    )


def _add_to_query(query: bytes, data: JSON) -> bytes:
    pairs = _pairs(data)
    if not query:
        return _urlencode(pairs)
    own = {key for key, _ in parse_qsl(query.decode("ascii"), keep_blank_values=True)}
    more = _urlencode([(key, value) for key, value in pairs if key not in own])
    return query + b"&" + more if more else query


def _pairs(data: JSON) -> list[tuple[str, JSON]]:
    if isinstance(data, dict):
        return list(cast("dict[str, JSON]", data).items())
    if isinstance(data, list):
        return [(str(index), value) for index, value in enumerate(cast("list[JSON]", data))]
    raise RequestInvalid(f"Data that is {shown(data)} has no names to send it by in a query or a form: send an object.")


def _urlencode(pairs: list[tuple[str, JSON]]) -> bytes:
    encoded: list[str] = []
    for key, value in pairs:
        name = quote_plus(utf8(key))
        values = cast("list[JSON]", value) if isinstance(value, list) else (value,)
        encoded += [f"{name}={quote_plus(_scalar(item))}" for item in values]
    return "&".join(encoded).encode("ascii")


def _scalar(value: JSON) -> bytes:
    if isinstance(value, str):
        return utf8(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return json_number(value).encode("ascii")
    return _json(value).strip(b'"') if isinstance(value, datetime) else _json(value)


def _json(value: JSON) -> bytes:
    try:
        return orjson.dumps(value, _attachment, orjson.OPT_UTC_Z)
    except TypeError:
        try:
            return javascript.dumps(value)
        except TypeError as error:
            raise RequestInvalid(f"The data cannot be written as JSON: {error}.") from None


def _attachment(value: object) -> list[int]:
    # What a Sails action finds in `req.body` for an attachment inside of an object.
    if isinstance(value, bytes):
        return list(value)
    raise TypeError
