"""What an attacker can send: nothing that an app trusts can be forged, nothing grows without bound, and nobody else notices."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from mizzen import Server
from mizzen.types import Receive, Scope, Send
from mizzen.virtual.pinned import NAMES, PREFIXES
from tests.server.fake_wire import FakeWire, join_fake
from tests.support import Wire, join, serve, until

BY_DEFAULT = [name.decode() for name in NAMES] + [
    f"{prefix.decode()}user" if prefix.endswith(b"-") else prefix.decode() for prefix in PREFIXES
]
TRUSTED = dict.fromkeys(BY_DEFAULT, "real") | {
    "cookie": "sid=real",
    "forwarded": "for=192.0.2.1",
    "x-forwarded-for": "192.0.2.1",
    "x-forwarded-proto": "http",
    "x-forwarded-host": "app.example",
    "sec-fetch-site": "same-origin",
}
BY_HANDSHAKE = {name: value for name, value in TRUSTED.items() if name not in ("host", "origin")}
OPTIONAL = {"authorization": "Bearer real", "x-user": "ada", "X-Email": "ada@example.com", "x_groups": "staff"}
"""What an application pins besides."""


async def mirror(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the headers that an app sees."""
    if scope["type"] == "lifespan":
        raise NotImplementedError
    pairs = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps([pairs, scope["client"][0], scope["scheme"]]).encode()})


@asynccontextmanager
async def attacked(headers: dict[str, str] | None = None, **options: Any) -> AsyncIterator[Wire]:
    async with serve(Server(mirror, **options)) as url, join(url, headers=headers) as (wire, _):
        yield wire


async def ask(wire: Wire | FakeWire, payload: dict[str, Any], verb: str = "get") -> Any:
    await wire.send("421" + json.dumps([verb, payload]))
    prefix, (answer,) = await wire.receive_json()
    assert prefix == "431"
    return answer


def spellings(name: str) -> list[str]:
    return [name, name.upper(), name.title(), name.replace("-", "_"), name.replace("-", "_").upper()]


@pytest.mark.parametrize("present", [True, False], ids=["set_by_the_proxy", "not_set"])
async def test_no_header_that_apps_trust_can_be_set(present: bool) -> None:
    async with attacked(BY_HANDSHAKE | OPTIONAL if present else None, pinned_headers=OPTIONAL) as wire:
        before = await ask(wire, {"url": "/"})
        assert (["x-forwarded-user", "real"] in before["body"][0]) is present
        for name in (*TRUSTED, *OPTIONAL):
            for spelling in spellings(name):
                answer = await ask(wire, {"url": "/", "headers": {spelling: "forged"}})
                assert answer["statusCode"] == 200
                assert "forged" not in str(answer["body"]), spelling
                assert answer["body"] == before["body"], spelling


async def test_what_is_not_pinned_can_be_set() -> None:
    """So that the test above tests something."""
    async with attacked() as wire:
        for name in (*OPTIONAL, "x-own", "accept-language", "x-auth-token", "x-api-key", "x-request-id", "x-csrf-token", "x-a", "0", "zz"):
            name = name.lower()
            assert [name, "forged"] in (await ask(wire, {"url": "/", "headers": {name: "forged"}}))["body"][0]


@pytest.mark.parametrize("name", ["connection", "transfer-encoding", "content-length", "upgrade", "te", "trailer", "keep-alive", "expect"])
async def test_no_header_that_frames_a_message_can_be_set(name: str) -> None:
    async with attacked() as wire:
        for spelling in (name, name.upper()):
            answer = await ask(wire, {"url": "/", "headers": {spelling: "999"}, "data": {"a": 1}}, "post")
            assert [value for found, value in answer["body"][0] if found == name] == (["7"] if name == "content-length" else [])


@pytest.mark.parametrize(
    "payload",
    [
        {"url": "/", "headers": {"x": "a\r\nhost: evil"}},
        {"url": "/", "headers": {"x": "a\nb"}},
        {"url": "/", "headers": {"x": "a\x00b"}},
        {"url": "/", "headers": {"x\r\nhost": "evil"}},
        {"url": "/", "headers": {"x:": "evil"}},
        {"url": "/", "headers": {"": "evil"}},
        {"url": "/", "headers": {"hö": "evil"}},
        {"url": "/", "headers": {"x": "\u20ac"}},
        {"url": "/", "headers": {f"x{number}": "1" for number in range(101)}},
        {"url": "/", "headers": {"x": "1" * (16 * 1024)}},
        {"url": "/", "headers": {"x": {"a": 1}}},
        {"url": "/", "headers": 7},
        {"url": "/\r\nHost: evil"},
        {"url": "/\x00"},
        {"url": "/%zz"},
        {"url": "evil"},
        {"url": "file:///etc/passwd"},
        {"url": "javascript:alert(1)"},
        {"url": "/", "data": 7},
        {"url": "/", "data": "text"},
    ],
)
async def test_what_http_could_not_carry_is_400(payload: dict[str, Any]) -> None:
    async with Server(mirror) as io, join_fake(io) as (wire, _):
        answer = await ask(wire, payload)
        assert (answer["statusCode"], answer["code"]) == (400, "SAILS:HOOK:SOCKETS:PARSE_VIRTUAL_REQ")
        assert len(json.dumps(answer)) < 2_000
        assert (await ask(wire, {"url": "/"}))["statusCode"] == 200


async def test_a_message_that_is_too_large_ends_its_own_connection_only() -> None:
    async with serve(Server(mirror, max_payload=10_000)) as url, join(url) as (wire, _), join(url) as (other, _):
        await wire.send("421" + json.dumps(["post", {"url": "/", "data": "x" * 20_000}]))
        await wire.until_closed()
        assert (await ask(other, {"url": "/"}))["statusCode"] == 200


async def test_data_that_is_nested_deep_ends_no_other_connection() -> None:
    async with serve(Server(mirror)) as url, join(url) as (wire, _), join(url) as (other, _):
        await wire.send('421["post",{"url":"/","data":' + "[" * 100_000 + "]" * 100_000 + "}]")
        await wire.until_closed()
        assert (await ask(other, {"url": "/"}))["statusCode"] == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example", "http://127.0.0.1:81"])
async def test_a_foreign_page_does_not_get_in(origin: str) -> None:
    async with serve(Server(mirror)) as url:
        with pytest.raises(InvalidStatus):
            async with join(url, headers={"origin": origin}):
                pass
        async with join(url, headers={"origin": url}) as (wire, _):
            answer = await ask(wire, {"url": "/", "headers": {"origin": "https://evil.example"}})
            assert ["origin", url] in answer["body"][0]


class Slow:
    """An app whose answers wait, and which knows how many requests it has at once."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.done = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        for _ in range(3):
            await asyncio.sleep(0)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": scope["path"].encode()})
        self.running -= 1
        self.done += 1


@pytest.mark.parametrize(("sockets", "each"), [(1, 2_000), (10, 1_000)])
async def test_ten_thousand_requests_at_once_are_all_answered_and_bounded(sockets: int, each: int) -> None:
    app = Slow()
    async with Server(app, max_handlers=50) as io, AsyncExitStack() as stack:
        wires = [(await stack.enter_async_context(join_fake(io)))[0] for _ in range(sockets)]
        for wire in wires:
            await wire.send(*[f'42{number}["get",{{"url":"/{number}"}}]' for number in range(each)])
        for wire in wires:
            answered: set[int] = set()
            for _ in range(each):
                prefix, (answer,) = await wire.receive_json()
                number = int(prefix[2:])
                assert answer["body"] == f"/{number}"
                answered.add(number)
            assert answered == set(range(each))
        assert app.done == sockets * each
        assert 50 <= app.most <= 50 * sockets
        await until(lambda: not len(io.tasks))
        assert all(wire.received() == [] for wire in wires)


async def test_requests_beyond_max_requests_are_429_each_and_at_once() -> None:
    gate = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await gate.wait()
        await mirror(scope, receive, send)

    async with Server(app, max_requests=10) as io, join_fake(io) as (wire, _):
        await wire.send(*[f'42{number}["get",{{"url":"/"}}]' for number in range(1_000)])
        statuses = [(await wire.receive_json())[1][0]["statusCode"] for _ in range(990)]
        assert statuses == [429] * 990
        gate.set()
        assert [(await wire.receive_json())[1][0]["statusCode"] for _ in range(10)] == [200] * 10


async def test_a_flood_of_requests_is_not_read_on_while_the_inbox_is_full() -> None:
    gate = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await gate.wait()
        await mirror(scope, receive, send)

    async with Server(app, max_handlers=2, max_buffer=10_000) as io, join_fake(io) as (wire, _):
        (connection,) = io.sessions.connections.values()
        await wire.send(*[f'42{number}["get",{{"url":"/"}}]' for number in range(1_000)])
        await until(lambda: connection.paused)
        read = wire.read
        assert read < 100
        gate.set()
        for _ in range(1_000):
            assert (await wire.receive_json())[1][0]["statusCode"] == 200


async def test_cookies_of_an_answer_are_bounded() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        cookies = [(b"set-cookie", b"c%d=%s" % (number, b"x" * 4_000)) for number in range(500)]
        await send({"type": "http.response.start", "status": 200, "headers": cookies})
        await send({"type": "http.response.body", "body": str(sum(len(value) for _, value in scope["headers"])).encode()})

    async with Server(app) as io, join_fake(io) as (wire, _):
        size: str | bytes = ""
        for _ in range(3):
            await wire.send('421["get",{"url":"/"}]')
            await wire.receive()
            size = await wire.receive()
        assert isinstance(size, bytes)
        assert 50 * 4_000 < int(size) < 51 * 4_100
