"""From events to requests and from answers to JWRs, by vectors/requests.json."""

from __future__ import annotations

import json
from base64 import b64decode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mizzen.errors import MizzenError
from mizzen.types import VERBS
from mizzen.virtual.answer import fold_headers, make_jwr
from mizzen.virtual.headers import MAX_HEADER_BYTES, MAX_HEADERS
from mizzen.virtual.invalid import RequestInvalid
from mizzen.virtual.request import SocketRequest, parse_request

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "requests.json").read_text())


def revive(value: Any) -> Any:
    """Put bytes where the vectors have {"base64": …}."""
    if isinstance(value, dict):
        return b64decode(value["base64"]) if value.keys() == {"base64"} else {key: revive(item) for key, item in value.items()}
    return [revive(item) for item in value] if isinstance(value, list) else value


def as_bytes(body: str | bytes) -> bytes:
    return body.encode() if isinstance(body, str) else body


def cases(kind: str) -> Any:
    return pytest.mark.parametrize("case", [pytest.param(revive(case), id=case["name"]) for case in VECTORS[kind]])


def plain(request: SocketRequest) -> dict[str, Any]:
    return {
        "method": request.method,
        "path": request.path,
        "raw_path": request.raw_path.decode("ascii"),
        "query": request.query.decode("ascii"),
        "headers": [[name.decode("ascii"), value.decode("latin-1")] for name, value in request.headers],
        "body": request.body,
        "content_type": request.content_type and request.content_type.decode("latin-1"),
    }


@cases("valid")
def test_an_event_is_the_request_that_http_would_carry(case: dict[str, Any]) -> None:
    verb, *args = case["event"]
    expected = {"query": "", "headers": [], "body": None, "content_type": None, "raw_path": case["request"]["path"]} | case["request"]
    if expected["body"] is not None:
        expected["body"] = as_bytes(expected["body"])
    assert plain(parse_request(verb, args)) == expected


@cases("invalid")
def test_what_http_could_not_carry_is_a_parse_error(case: dict[str, Any]) -> None:
    verb, *args = case["event"]
    with pytest.raises(RequestInvalid) as caught:
        parse_request(verb, args)
    payload = caught.value.payload
    assert case["details"] in payload["details"]
    assert payload == {
        "code": "SAILS:HOOK:SOCKETS:PARSE_VIRTUAL_REQ",
        "name": "Error (SAILS:HOOK:SOCKETS:PARSE_VIRTUAL_REQ):",
        "status": 400,
        "statusCode": 400,
        "message": "Failed to parse incoming socket.io request.",
        "details": payload["details"],
        "body": payload["details"],
        "headers": {},
    }
    assert isinstance(caught.value, MizzenError)


@cases("answers")
def test_an_answer_becomes_a_jwr(case: dict[str, Any]) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in case["headers"]]
    jwr = make_jwr(case.get("method", "GET"), case.get("status", 200), fold_headers(headers), as_bytes(case["body"]))
    assert jwr == case["jwr"]
    assert type(jwr.get("body")) is type(case["jwr"].get("body"))


def test_every_verb_gives_its_method() -> None:
    assert {verb: parse_request(verb, [{"url": "/"}]).method for verb in VERBS} == {
        "get": "GET",
        "post": "POST",
        "put": "PUT",
        "patch": "PATCH",
        "delete": "DELETE",
        "head": "HEAD",
        "options": "OPTIONS",
    }


def test_headers_are_bounded_in_number() -> None:
    headers = {f"x-{index}": "1" for index in range(MAX_HEADERS)}
    assert len(parse_request("get", [{"url": "/", "headers": headers}]).headers) == MAX_HEADERS
    with pytest.raises(RequestInvalid, match="Too many headers: 101"):
        parse_request("get", [{"url": "/", "headers": {**headers, "y": "1"}}])


def test_headers_are_bounded_in_size() -> None:
    value = "v" * (MAX_HEADER_BYTES - 1)
    assert parse_request("get", [{"url": "/", "headers": {"x": value}}]).headers == [(b"x", value.encode())]
    with pytest.raises(RequestInvalid, match="too large"):
        parse_request("get", [{"url": "/", "headers": {"x": value + "v"}}])


def test_an_error_about_something_huge_is_short() -> None:
    for payload in ({"url": "x" * 1_000_000}, {"url": ["x"] * 1_000_000}, {"url": {"a" * 1_000: "b" * 1_000}}, {"url": 10**5000}):
        with pytest.raises(RequestInvalid) as caught:
            parse_request("get", [payload])
        assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize(
    "number", [10**5000, -(2**1024), float("inf"), float("-inf"), float("nan")], ids=["5001 digits", "1025 bits", "inf", "-inf", "nan"]
)
def test_what_is_no_number_in_json_is_null_as_text_too(number: float) -> None:
    request = parse_request("get", [{"url": "/", "data": {"a": number}, "headers": {"x-a": number}}])
    assert (request.query, request.headers) == (b"a=null", [(b"x-a", b"null")])
    assert parse_request("post", [{"url": "/", "data": {"a": number}}]).body == b'{"a":null}'


def test_data_nested_deeper_than_json_goes_is_refused() -> None:
    data: Any = []
    for _ in range(5_000):
        data = [data]
    for verb, payload in (("post", data), ("get", {"a": {"b": data}})):
        with pytest.raises(RequestInvalid, match="cannot be written as JSON"):
            parse_request(verb, [{"url": "/", "data": payload}])


def test_a_long_path_costs_linear_time() -> None:
    url = "/a/." * 200_000 + "/é"
    assert parse_request("get", [{"url": url}]).path == "/a" * 200_000 + "/é"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.text(st.characters(categories=["Cs"])) | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)
URLS = st.text("/.%?#&=:ahtps2eE \u00e9\ud800\r\n\x00[]\\@", max_size=30)
PAYLOADS = st.fixed_dictionaries(
    {"url": URLS.map(lambda text: "/" + text) | URLS | JSON_VALUES},
    optional={
        "headers": JSON_VALUES | st.dictionaries(st.sampled_from(["content-type", "x", "Content-Type", "a b"]), JSON_VALUES),
        "data": JSON_VALUES,
        "params": JSON_VALUES,
        "method": JSON_VALUES,
    },
)


@example(verb="delete", args=[{"url": "/", "headers": {"content-type": "text/plain"}}])
@given(verb=st.sampled_from(sorted(VERBS)), args=st.lists(PAYLOADS | JSON_VALUES, max_size=2) | PAYLOADS.map(lambda payload: [payload]))
def test_whatever_comes_in_raises_nothing_else(verb: str, args: list[Any]) -> None:
    try:
        request = parse_request(verb, args)
    except RequestInvalid as error:
        json.dumps(error.payload)
        return
    assert request.path.startswith("/")
    target = request.raw_path + b"?" + request.query
    assert not any(byte <= 0x20 or byte >= 0x7F for byte in target)
    assert b"#" not in target
    assert not {b".", b".."} & set(request.raw_path.lower().replace(b"%2e", b".").split(b"/"))
    for name, value in request.headers:
        assert name == name.lower()
        assert not set(name + value) & set(b"\r\n\0")
    assert (request.body is None) == (request.content_type is None)
    if verb in ("get", "head"):
        assert request.body is None


def test_a_date_of_another_parser_is_written_as_javascript_writes_it() -> None:
    at = datetime(2024, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    assert parse_request("get", [{"url": "/", "data": {"at": at}}]).query == b"at=2024-01-02T03%3A04%3A05.678000Z"
    assert parse_request("post", [{"url": "/", "data": {"at": at}}]).body == b'{"at":"2024-01-02T03:04:05.678000Z"}'
