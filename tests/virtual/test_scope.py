"""The ASGI scope of a socket request, and its pinned headers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mizzen.types import Handshake
from mizzen.virtual.headers import is_pinned, pin
from mizzen.virtual.pinned import NAMES, PREFIXES
from mizzen.virtual.request import parse_request
from mizzen.virtual.scope import SOCKET_EXTENSION, Kept, build_scope, socket_of

HANDSHAKE = {
    "type": "websocket",
    "asgi": {"version": "3.0", "spec_version": "2.3"},
    "http_version": "1.1",
    "scheme": "wss",
    "path": "/mount/socket.io/",
    "raw_path": b"/mount/socket.io/",
    "query_string": b"EIO=4&transport=websocket",
    "root_path": "/mount",
    "headers": [
        (b"host", b"app.example"),
        (b"origin", b"https://app.example"),
        (b"cookie", b"sid=1"),
        (b"user-agent", b"test"),
        (b"authorization", b"Basic x"),
        (b"x-forwarded-for", b"10.0.0.1"),
        (b"x-forwarded-for", b"10.0.0.2"),
        (b"accept-language", b"de"),
        (b"connection", b"Upgrade"),
        (b"upgrade", b"websocket"),
        (b"sec-websocket-key", b"k"),
        (b"sec-websocket-version", b"13"),
        (b"sec-fetch-site", b"same-origin"),
        (b"accept-encoding", b"gzip"),
        (b"content-type", b"text/plain"),
        (b"content-length", b"7"),
        (b"transfer-encoding", b"chunked"),
        (b"keep-alive", b"1"),
        (b"te", b"trailers"),
    ],
    "client": ("192.0.2.1", 5000),
    "server": ("192.0.2.2", 443),
    "subprotocols": ["x"],
    "state": {"from": "the mounted app"},
    "app": object(),
    "user": "leaked",
    "path_params": {"x": 1},
    "extensions": {"websocket.http.response": {}, "http.response.pathsend": {}, "tls": {}},
}
KEPT = [
    (b"host", b"app.example"),
    (b"origin", b"https://app.example"),
    (b"cookie", b"sid=1"),
    (b"user-agent", b"test"),
    (b"authorization", b"Basic x"),
    (b"x-forwarded-for", b"10.0.0.1"),
    (b"x-forwarded-for", b"10.0.0.2"),
    (b"accept-language", b"de"),
    (b"sec-fetch-site", b"same-origin"),
]


def build(verb: str = "get", payload: dict[str, Any] | None = None, **options: Any) -> Any:
    given: dict[str, Any] = {"socket": "socket", "extra_headers": {}, "state": None, "pinned": pin(())} | options
    # The root path of the app that answers may be another than that of the server.
    kept = Kept(Handshake(given.pop("handshake", HANDSHAKE) | {"app_root_path": given.pop("root_path", "")}), "app_root_path")
    return build_scope(kept, parse_request(verb, [{"url": "/a%20b?x=1"} | (payload or {})]), **given)


def test_the_whole_scope() -> None:
    assert build() == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "https",
        "path": "/a b",
        "raw_path": b"/a%20b",
        "query_string": b"x=1",
        "root_path": "",
        "headers": KEPT,
        "client": ("192.0.2.1", 5000),
        "server": ("192.0.2.2", 443),
        "extensions": {SOCKET_EXTENSION: "socket"},
    }


@pytest.mark.parametrize(("scheme", "expected"), [("ws", "http"), ("wss", "https"), ("http", "http"), ("https", "https")])
def test_the_scheme_is_that_of_http(scheme: str, expected: str) -> None:
    assert build(handshake=HANDSHAKE | {"scheme": scheme})["scheme"] == expected


def test_what_a_handshake_may_leave_out_has_its_default() -> None:
    scope = build(handshake={"type": "http", "path": "/", "query_string": b"", "headers": []})
    assert (scope["scheme"], scope["client"], scope["server"], scope["headers"]) == ("http", None, None, [])


def test_the_root_path_is_that_of_the_app_that_answers() -> None:
    scope = build(root_path="/ä")
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/ä", "/ä/a b", b"/%C3%A4/a%20b")


def test_nothing_is_shared_between_requests() -> None:
    state, socket = {"db": object()}, object()
    kept, request = Kept(Handshake(HANDSHAKE), "root_path"), parse_request("get", [{"url": "/"}])
    first, second = [build_scope(kept, request, socket, {}, state, pin(())) for _ in range(2)]
    first["state"]["user"] = "root"
    first["asgi"]["x"] = first["extensions"]["x"] = first["x"] = 1
    first["headers"].append((b"x", b"y"))
    assert second["state"] == state
    assert second["state"]["db"] is state["db"]
    assert second["extensions"] == {SOCKET_EXTENSION: socket}
    assert second["asgi"] == {"version": "3.0", "spec_version": "2.4"}
    assert second["headers"] == KEPT
    assert "x" not in second
    assert "user" not in state


def headers_of(scope: Any) -> dict[bytes, list[bytes]]:
    headers: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name, []).append(value)
    return headers


def test_the_socket_and_then_the_message_lay_headers_over_those_of_the_handshake() -> None:
    scope = build(
        payload={"headers": {"Accept-Language": "fr", "X-Own": "message", "x-new": "1"}},
        extra_headers={"Authorization": "Bearer t", "X-Own": "socket", "Cookie": "sid=2", "X-Forwarded-For": "1.1.1.1"},
    )
    headers = headers_of(scope)
    assert headers[b"authorization"] == [b"Bearer t"]
    assert headers[b"cookie"] == [b"sid=2"]
    assert headers[b"x-forwarded-for"] == [b"1.1.1.1"]
    assert headers[b"x-own"] == [b"message"]
    assert headers[b"x-new"] == [b"1"]
    assert headers[b"accept-language"] == [b"fr"]
    assert headers[b"host"] == [b"app.example"]


def test_a_socket_sets_no_header_that_frames_the_request() -> None:
    scope = build("post", {"data": {"a": 1}}, extra_headers={"Content-Length": "9", "content-type": "x/y", "Connection": "close", "X": "1"})
    headers = headers_of(scope)
    assert headers[b"content-length"] == [b"7"]
    assert headers[b"content-type"] == [b"application/json"]
    assert b"connection" not in headers
    assert headers[b"x"] == [b"1"]


PINNED = [
    *("Host", "origin", "cookie", "forwarded", "via", "x-real-ip", "X-Forwarded-For", "x-forwarded-proto", "x-forwarded-host"),
    *("x-forwarded-user", "remote-user", "remote-addr", "x-remote-user", "x-client-ip", "x-client-cert", "x-ssl-client-verify"),
    *("x-auth-request-user", "x-auth-request-email", "sec-fetch-site", "sec-websocket-protocol", "proxy-authorization", "proxy-x"),
    *("X_Real_IP", "x_forwarded_for", "REMOTE_USER", "x-ssl_client-verify"),
    *("CF-Connecting-IP", "x-ms-client-principal", "x-ms-client-principal-id", "X_Amzn_OIDC_Data", "Tailscale-User-Login", "fly-client-ip"),
    *("X-My_User", "x-my-user", "X-My-Group", "x_my-group"),
]


@pytest.mark.parametrize("name", PINNED)
def test_a_message_cannot_set_what_apps_trust_a_proxy_to_set(name: str) -> None:
    pinned = pin(("X-My-Group", "X_My_User"))
    assert is_pinned(name.lower().encode(), pinned)
    plain, scope = build(pinned=pinned), build(payload={"headers": {name: "evil"}}, pinned=pinned)
    assert scope["headers"] == plain["headers"]


def test_the_beginnings_of_pinned_names_can_be_searched_in_order() -> None:
    assert list(PREFIXES) == sorted(PREFIXES)
    names = (*PREFIXES, *NAMES)
    assert [name for name in names if sum(name.startswith(prefix) for prefix in PREFIXES) != (name in PREFIXES)] == []
    assert all(name == name.lower() and b"_" not in name for name in names)


def test_the_documentation_names_what_is_pinned() -> None:
    page = (Path(__file__).parents[2] / "docs/socket-requests.md").read_text("utf-8")
    names = [name.decode() for name in NAMES] + [f"{prefix.decode()}*" for prefix in PREFIXES]
    assert [name for name in names if f"`{name}`" not in page] == []


@pytest.mark.parametrize(
    "name", ["authorization", "x-csrf-token", "x-forward", "accept", "remote", "cookies", "x-my-users", "x-key", "a", "zz"]
)
def test_a_message_can_set_other_headers(name: str) -> None:
    assert headers_of(build(payload={"headers": {name: "1"}}, pinned=pin(("x-my-user",))))[name.encode()] == [b"1"]


def test_a_body_has_its_type_and_length() -> None:
    assert build("post", {"data": {"a": "ä"}})["headers"] == [
        *KEPT,
        (b"content-type", b"application/json"),
        (b"content-length", b"10"),
    ]


@pytest.mark.parametrize(("verb", "expected"), [("post", [b"0"]), ("put", [b"0"]), ("patch", [b"0"]), ("delete", None), ("get", None)])
def test_no_body_has_a_length_only_where_one_could_be(verb: str, expected: list[bytes] | None) -> None:
    headers = headers_of(build(verb))
    assert headers.get(b"content-length") == expected
    assert b"content-type" not in headers


class Request:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


@pytest.mark.parametrize(
    "source",
    [
        build(socket="s"),
        Request(scope=build(socket="s")),
        Request(environ={"REQUEST_METHOD": "GET", "asgi.scope": build(socket="s")}),
        {"REQUEST_METHOD": "GET", "asgi.scope": build(socket="s")},
    ],
    ids=["scope", "request", "WSGI request", "environ"],
)
def test_the_socket_of_a_request(source: object) -> None:
    assert socket_of(source) == "s"


@pytest.mark.parametrize(
    "source",
    [{"type": "http"}, {"type": "http", "extensions": None}, HANDSHAKE, Request(environ={}), Request(scope=None), Request(), None, 7],
)
def test_a_request_over_http_has_no_socket(source: object) -> None:
    assert socket_of(source) is None
