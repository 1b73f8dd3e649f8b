"""Options: their defaults are the reference's, and a value that cannot work is refused by name."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, asdict, fields
from pathlib import Path
from typing import Any

import pytest

from mizzen import Server
from mizzen.errors import MizzenError, OptionsError
from mizzen.options import Cookie, ServerOptions


def test_the_defaults_are_those_of_node_in_seconds_and_bytes() -> None:
    options = ServerOptions()
    assert options.path == "/socket.io"
    assert options.connect_timeout == 45
    assert (options.ping_interval, options.ping_timeout) == (25, 20)
    assert options.upgrade_timeout == 10
    assert options.max_payload == 1_000_000
    assert tuple(options.transports) == ("polling", "websocket")
    assert options.allow_upgrades is True
    assert options.allow_request is None
    assert options.cookie is None
    assert options.cors_origins is None
    assert options.cors_credentials is False
    assert options.max_attachments == 10


def test_the_defaults_that_are_our_own() -> None:
    options = ServerOptions()
    assert options.allow_eio3 is True
    assert options.max_buffer == 16 * 1024 * 1024
    assert options.max_handlers == 100
    assert options.max_namespaces == 100
    assert options.max_requests is None
    assert options.requests == "auto"
    assert options.debug is False


def test_options_are_frozen_and_go_by_name_only() -> None:
    options = ServerOptions()
    with pytest.raises(FrozenInstanceError):
        options.max_payload = 1  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(TypeError):
        ServerOptions("/socket.io")  # pyright: ignore[reportCallIssue]


def refused(**options: Any) -> str:
    with pytest.raises(OptionsError) as caught:
        ServerOptions(**options)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, MizzenError)
    return str(caught.value)


SECONDS = ["ping_interval", "ping_timeout", "upgrade_timeout", "connect_timeout"]
COUNTS = [field.name for field in fields(ServerOptions) if field.name.startswith("max_")]


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("value", [0, 0.0, -1, -0.5, math.nan])
def test_times_are_more_than_nothing(name: str, value: float) -> None:
    message = refused(**{name: value})
    assert message.startswith(f"{name}={value!r}")
    assert "seconds" in message


@pytest.mark.parametrize("name", [*SECONDS, "close_grace"])
@pytest.mark.parametrize("value", ["25", None, [25]])
def test_times_are_numbers(name: str, value: object) -> None:
    assert refused(**{name: value}).startswith(f"{name}={value!r}")


@pytest.mark.parametrize("name", ["ping_interval", "ping_timeout"])
def test_times_that_the_client_is_told_are_finite(name: str) -> None:
    assert refused(**{name: math.inf}).startswith(f"{name}=inf")


@pytest.mark.parametrize("value", [-1, -0.001, math.nan])
def test_the_grace_is_not_negative(value: float) -> None:
    assert refused(close_grace=value).startswith(f"close_grace={value!r}")


def test_there_may_be_no_grace() -> None:
    assert ServerOptions(close_grace=0).close_grace == 0


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", [0, -1, 1.5, 1e6, "10"])
def test_limits_are_whole_numbers_from_one(name: str, value: object) -> None:
    message = refused(**{name: value})
    assert message.startswith(f"{name}={value!r}")
    assert "whole number" in message


@pytest.mark.parametrize("name", COUNTS)
def test_a_limit_of_one_is_a_limit(name: str) -> None:
    one: dict[str, Any] = {name: 1}
    assert getattr(ServerOptions(**one), name) == 1


def test_only_limits_that_are_off_by_default_may_be_off() -> None:
    off = {name for name in COUNTS if getattr(ServerOptions(), name) is None}
    assert off == {"max_requests"}
    assert ServerOptions(max_requests=None).max_requests is None
    for name in set(COUNTS) - off:
        assert refused(**{name: None}).startswith(f"{name}=None")


@pytest.mark.parametrize("path", ["", "/", "//", "///", "socket.io", "http://host/socket.io"])
def test_the_path_is_absolute_and_not_the_root(path: str) -> None:
    message = refused(path=path)
    assert message.startswith(f"path={path!r}")
    assert "'/socket.io'" in message


@pytest.mark.parametrize(("path", "kept"), [("/socket.io", "/socket.io"), ("/socket.io/", "/socket.io"), ("/a/b//", "/a/b")])
def test_a_slash_at_the_end_of_the_path_is_stripped(path: str, kept: str) -> None:
    assert ServerOptions(path=path).path == kept


@pytest.mark.parametrize("transports", [[], "", ["webtransport"], ["polling", "flash"], ["Polling"]])
def test_transports_are_those_that_there_are(transports: object) -> None:
    message = refused(transports=transports)
    assert message.startswith("transports=")
    assert "'polling', 'websocket' or both" in message


@pytest.mark.parametrize("transports", ["websocket", ["websocket"], {"websocket"}])
def test_one_transport_may_be_given_alone(transports: Any) -> None:
    assert ServerOptions(transports=transports).transports == ("websocket",)


@pytest.mark.parametrize("requests", ["yes", "", True, None])
def test_requests_are_auto_sails_or_off(requests: object) -> None:
    assert refused(requests=requests).startswith(f"requests={requests!r}")


@pytest.mark.parametrize("requests", ["auto", "sails", False])
def test_each_way_of_requests_is_accepted(requests: Any) -> None:
    assert ServerOptions(requests=requests).requests == requests


def test_one_origin_alone_is_taken_for_a_slip_that_the_message_mends() -> None:
    message = refused(cors_origins="https://app.example")
    assert message.startswith("cors_origins='https://app.example'")
    assert "['https://app.example']" in message


@pytest.mark.parametrize(
    "origin", ["*", "app.example", "https://app.example/", "https://app.example/path", "https://app.example?x", "://", "https://", ""]
)
def test_what_no_browser_sends_as_an_origin_is_refused(origin: str) -> None:
    message = refused(cors_origins=["https://fine.example", origin])
    assert message.startswith("cors_origins")
    assert repr(origin) in message


@pytest.mark.parametrize("origin", ["https://app.example", "http://localhost:3000", "http://[::1]:8000", "capacitor://localhost"])
def test_origins_are_scheme_host_and_port(origin: str) -> None:
    assert ServerOptions(cors_origins=[origin]).cors_origins == {origin}


def test_origins_may_be_all_none_or_a_function() -> None:
    def allowed(origin: str) -> bool:
        return True

    assert ServerOptions(cors_origins="*").cors_origins == "*"
    assert ServerOptions(cors_origins=None).cors_origins is None
    assert ServerOptions(cors_origins=[]).cors_origins == frozenset()
    assert ServerOptions(cors_origins=allowed).cors_origins is allowed


@pytest.mark.parametrize("name", ["cors_methods", "cors_allowed_headers", "cors_exposed_headers"])
@pytest.mark.parametrize("value", ["GET", 5, ["a b"], ["x:y"], ["a\r\nb: c"], [""], ["é"], [None]])
def test_cors_lists_are_lists_of_names(name: str, value: object) -> None:
    assert refused(**{name: value}).startswith(name)


def test_cors_lists_are_kept_as_they_are_given() -> None:
    options = ServerOptions(cors_methods=["GET", "PUT"], cors_allowed_headers=["x-a"], cors_exposed_headers=("x-b", "x-c"))
    assert options.cors_methods == ("GET", "PUT")
    assert options.cors_allowed_headers == ("x-a",)
    assert options.cors_exposed_headers == ("x-b", "x-c")
    assert ServerOptions().cors_allowed_headers is None


@pytest.mark.parametrize("name", ["cors_methods", "cors_exposed_headers"])
def test_only_the_allowed_headers_may_be_what_is_asked_for(name: str) -> None:
    assert refused(**{name: None}).startswith(f"{name}=None")


# Compression, and what is served


@pytest.mark.parametrize("name", ["http_compression", "per_message_deflate"])
def test_compression_is_on_off_or_from_a_size_on(name: str) -> None:
    for given, kept in ((True, 1024), (False, False), (1, 1), (4096, 4096)):
        options: dict[str, Any] = {name: given}
        assert getattr(ServerOptions(**options), name) == kept
    for wrong in (0, -1, 1.5, "1024", None):
        assert refused(**{name: wrong}).startswith(f"{name}={wrong!r}")


def test_polls_are_compressed_and_the_client_is_served_by_default() -> None:
    options = ServerOptions()
    assert options.http_compression == 1024
    assert options.per_message_deflate is False
    assert options.serve_client is True
    assert options.client_files == {}
    assert options.add_trailing_slash is True
    assert options.initial_packet is None


def test_files_of_the_client_are_there(tmp_path: Path) -> None:
    script = tmp_path / "a.js"
    message = refused(client_files={"a.js": script})
    assert message.startswith("client_files['a.js']=")
    assert "there is no such file" in message
    script.write_text("")
    assert ServerOptions(client_files={"v1/a.js": script}).client_files == {"v1/a.js": str(script)}
    assert refused(client_files={"../a.js": script}).startswith("client_files: '../a.js'")


@pytest.mark.parametrize("packet", [5, ["x"], {"a": 1}, True])
def test_the_initial_packet_is_a_message(packet: object) -> None:
    assert refused(initial_packet=packet).startswith(f"initial_packet={packet!r}")


# The cookie


def test_the_cookie_is_that_of_node() -> None:
    # `cookie: true` there gives `io=<sid>; Path=/; HttpOnly; SameSite=Lax`
    assert Cookie().header("abc") == b"io=abc; Path=/; HttpOnly; SameSite=Lax"


@pytest.mark.parametrize(
    ("changes", "header"),
    [
        ({"name": "sid"}, b"sid=abc; Path=/; HttpOnly; SameSite=Lax"),
        ({"path": "/app"}, b"io=abc; Path=/app; HttpOnly; SameSite=Lax"),
        ({"http_only": False}, b"io=abc; Path=/; SameSite=Lax"),
        ({"same_site": None}, b"io=abc; Path=/; HttpOnly"),
        ({"same_site": "strict"}, b"io=abc; Path=/; HttpOnly; SameSite=Strict"),
        ({"same_site": "none", "secure": True}, b"io=abc; Path=/; HttpOnly; Secure; SameSite=None"),
        ({"max_age": 0}, b"io=abc; Max-Age=0; Path=/; HttpOnly; SameSite=Lax"),
        ({"max_age": 60, "domain": "app.example"}, b"io=abc; Max-Age=60; Domain=app.example; Path=/; HttpOnly; SameSite=Lax"),
    ],
)
def test_every_part_of_the_cookie_has_its_effect(changes: dict[str, Any], header: bytes) -> None:
    assert Cookie(**changes).header("abc") == header
    assert set(changes) <= set(asdict(Cookie()))


@pytest.mark.parametrize("character", ["\r", "\n", "\r\n", "\0", "\x1f", "\x7f", ";", "é", "\u2028"])
@pytest.mark.parametrize(("name", "value"), [("name", "io"), ("path", "/app"), ("domain", "app.example")])
def test_nothing_breaks_out_of_the_cookie(name: str, value: str, character: str) -> None:
    for given in (f"{value}{character}", f"{value[:2]}{character}{value[2:]}", f"{value}{character} Domain=evil.example"):
        changes: dict[str, Any] = {name: given}
        with pytest.raises(OptionsError) as caught:
            Cookie(**changes)
        assert str(caught.value).startswith(f"Cookie({name}={given!r}): expected ")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"name": ""}, "token"),
        ({"name": "a=b"}, "token"),
        ({"name": "a b"}, "token"),
        ({"name": None}, "token"),
        ({"path": "app"}, "'/app'"),
        ({"path": b"/app"}, "'/app'"),
        ({"domain": "https://app.example"}, "without scheme"),
        ({"domain": "app.example:8000"}, "without scheme and port"),
        ({"domain": "app example"}, "'app.example'"),
        ({"domain": "app..example"}, "'app.example'"),
        ({"max_age": -1}, "whole seconds"),
        ({"max_age": 1.5}, "whole seconds"),
        ({"max_age": "60; Secure"}, "whole seconds"),
        ({"max_age": True}, "whole seconds"),
        ({"same_site": "Lax"}, "'lax'"),
        ({"same_site": "lax; Domain=evil.example"}, "'lax'"),
    ],
)
def test_a_cookie_that_cannot_work_is_refused(changes: dict[str, Any], expected: str) -> None:
    ((name, value),) = changes.items()
    with pytest.raises(OptionsError) as caught:
        Cookie(**changes)
    assert str(caught.value).startswith(f"Cookie({name}={value!r}): expected ")
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"same_site": "none"},
        {"name": "__Secure-io"},
        {"name": "__HOST-io"},
        {"name": "__Host-io", "secure": True, "path": "/app"},
        {"name": "__Host-io", "secure": True, "domain": "app.example"},
    ],
)
def test_a_cookie_that_browsers_refuse_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(OptionsError, match=r"browsers refuse .* secure=True"):
        Cookie(**changes)


@pytest.mark.parametrize(
    ("changes", "header"),
    [
        ({"name": "!#$%&'*+-.^_`|~09azAZ"}, b"!#$%&'*+-.^_`|~09azAZ=abc; Path=/; HttpOnly; SameSite=Lax"),
        ({"path": '/a b/%3B,"=~'}, b'io=abc; Path=/a b/%3B,"=~; HttpOnly; SameSite=Lax'),
        ({"path": ""}, b"io=abc; HttpOnly; SameSite=Lax"),
        ({"domain": ""}, b"io=abc; Path=/; HttpOnly; SameSite=Lax"),
        ({"domain": ".my_app-1.example"}, b"io=abc; Domain=.my_app-1.example; Path=/; HttpOnly; SameSite=Lax"),
        ({"name": "__Secure-io", "secure": True}, b"__Secure-io=abc; Path=/; HttpOnly; Secure; SameSite=Lax"),
        ({"name": "__Host-io", "secure": True}, b"__Host-io=abc; Path=/; HttpOnly; Secure; SameSite=Lax"),
    ],
)
def test_whatever_may_stand_in_a_cookie_does(changes: dict[str, Any], header: bytes) -> None:
    assert Cookie(**changes).header("abc") == header


@pytest.mark.parametrize("given", ["io", {"name": "io"}, 1, Cookie])
def test_the_option_cookie_is_a_cookie(given: object) -> None:
    assert refused(cookie=given).startswith(f"cookie={given!r}: expected ")
    with pytest.raises(OptionsError):
        Server(cookie=given)  # pyright: ignore[reportArgumentType]
