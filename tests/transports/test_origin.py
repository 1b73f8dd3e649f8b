"""Which pages may connect: the Origin check on every request, CORS, and what else the handshake asks or sets."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from mizzen import ConnectRefused, Cookie, Handshake, Server
from mizzen.options import Origins
from tests.transports.exchange import Answer, Request, WebSocket, ask, engine_target, handshake, nothing_is_left, only_connection
from tests.transports.paths import dial

FORBIDDEN = (403, 4, "Forbidden")
PAGE = "https://page.example"
FOREIGN = {"origin": "http://foreign.example"}

OWN = [
    ("http://example.com", "example.com"),
    ("http://example.com:80", "example.com"),
    ("http://example.com", "example.com:80"),
    ("https://example.com:443", "example.com"),
    ("https://example.com", "example.com:443"),
    ("https://example.com", "example.com"),  # TLS ends at a proxy: the scheme is not compared
    ("ws://example.com", "example.com:80"),
    ("wss://example.com", "example.com:443"),
    ("http://example.com:8000", "example.com:8000"),
    ("https://example.com:8000", "example.com:8000"),
    ("http://EXAMPLE.com", "example.COM"),
    ("HTTP://example.com", "example.com"),
    ("http://localhost:3000", "localhost:3000"),
    ("http://192.0.2.1:8000", "192.0.2.1:8000"),
    ("http://[::1]:8000", "[::1]:8000"),
    ("http://[::1]", "[::1]"),
    ("https://[2001:DB8::1]", "[2001:db8::1]:443"),
]
ELSEWHERE = [
    ("null", "example.com"),
    ("null", "null"),
    ("http://foreign.example", "example.com"),
    ("http://example.com:8001", "example.com:8000"),
    ("http://example.com:8000", "example.com"),
    ("http://example.com", "example.com:8000"),
    ("https://example.com", "example.com:80"),  # the default port is that of the Origin's scheme
    ("http://example.com", "example.com:443"),
    ("https://example.com:80", "example.com:443"),
    ("http://sub.example.com", "example.com"),
    ("http://example.com", "sub.example.com"),
    ("http://example.com.foreign.example", "example.com"),
    ("http://notexample.com", "example.com"),
    ("http://example.com@foreign.example", "example.com"),
    ("http://foreign.example#example.com", "example.com"),
    ("http://foreign.example?example.com", "example.com"),
    ("http://foreign.example/example.com", "example.com"),
    ("http://[::1]:8000", "[::2]:8000"),
    ("http://[::1]", "localhost"),
    ("http://127.0.0.1", "localhost"),
    ("", "example.com"),
    ("example.com", "example.com"),
    ("//example.com", "example.com"),
    ("http://", "example.com"),
    ("http:example.com", "example.com"),
    ("http://example.com:port", "example.com"),
    ("http://example.com:99999", "example.com"),
    ("http://example.com:-80", "example.com"),
    ("http://[::1", "[::1]"),
    ("http://]", "example.com"),
    ("http://example.com http://foreign.example", "example.com"),
    ("http://example.com, http://foreign.example", "example.com"),
    ("file://", "example.com"),
    ("file://example.com", "example.com"),
    ("chrome-extension://example.com", "example.com"),
    ("javascript:example.com", "example.com"),
    ("http://example.com", ""),
    ("http://example.com", "example.com:port"),
    ("http://example.com", "[example.com"),
    ("http://caf\xe9.example", "cafe.example"),
]


@pytest.mark.parametrize(("origin", "host"), OWN)
async def test_a_page_of_the_own_host_may_connect(origin: str, host: str) -> None:
    async with Server() as io:
        assert (await ask(io, "GET", engine_target(), headers={"origin": origin, "host": host})).status == 200


@pytest.mark.parametrize(("origin", "host"), ELSEWHERE)
async def test_a_page_of_any_other_origin_may_not(origin: str, host: str) -> None:
    async with Server() as io:
        headers = {"origin": origin, "host": host}
        assert (await ask(io, "GET", engine_target(), headers=headers)).error == FORBIDDEN
        answer = await WebSocket(io, engine_target(transport="websocket"), headers).refusal()
        assert (answer.status, answer.body) == (400, b"Forbidden")
        assert nothing_is_left(io)


@pytest.mark.parametrize(
    ("site", "status"),
    [("cross-site", 403), ("same-origin", 200), ("same-site", 200), ("none", 200), ("", 200), ("nonsense", 200), (None, 200)],
)
async def test_without_origin_only_a_request_that_says_it_is_cross_site_is_refused(site: str | None, status: int) -> None:
    headers = {} if site is None else {"sec-fetch-site": site}
    async with Server() as io:
        answer = await ask(io, "GET", engine_target(), headers=headers)
        assert answer.status == status
        websocket = WebSocket(io, engine_target(transport="websocket"), headers)
        if status == 403:
            assert answer.error == FORBIDDEN
            assert (await websocket.refusal()).status == 400
        else:
            await websocket.accepted()
            websocket.close()
            await websocket.ended()


async def test_with_an_origin_it_alone_decides() -> None:
    async with Server(cors_origins=[PAGE]) as io:
        for origin in ("http://example.com", PAGE):
            headers = {"origin": origin, "sec-fetch-site": "cross-site"}
            assert (await ask(io, "GET", engine_target(), headers=headers)).status == 200
        headers = {"origin": "http://foreign.example", "sec-fetch-site": "same-origin"}
        assert (await ask(io, "GET", engine_target(), headers=headers)).status == 403


@pytest.mark.parametrize("eio", [3, 4])
async def test_every_request_of_every_transport_is_checked_and_a_refused_one_harms_no_session(eio: int) -> None:
    async with Server() as io:
        sid = (await handshake(io, eio=eio))["sid"]
        target = engine_target(eio=eio, sid=sid)
        requests: list[tuple[str, str]] = [
            ("GET", engine_target(eio=eio)),
            ("GET", target),
            ("POST", target),
            ("PUT", target),
            ("OPTIONS", target),
            ("GET", engine_target(sid="unknown")),
        ]
        for method, each in requests:
            answer = await ask(io, method, each, b"1" if method == "POST" else b"", headers=FOREIGN)
            assert answer.error == FORBIDDEN, (method, each)
            assert answer.header("access-control-allow-origin") is None
        for each in (engine_target(transport="websocket", eio=eio), engine_target(transport="websocket", eio=eio, sid=sid)):
            assert (await WebSocket(io, each, FOREIGN).refusal()).body == b"Forbidden"
        connection = only_connection(io)
        assert not connection.gone
        assert not connection.probing


@pytest.mark.parametrize(
    ("allowed", "origin", "may"),
    [
        ([PAGE], PAGE, True),
        ([PAGE], "http://page.example", False),
        ([PAGE], "https://page.example:8443", False),
        ([PAGE], "https://sub.page.example", False),
        ([PAGE], "null", False),
        ([PAGE, "http://other.example:81"], "http://other.example:81", True),
        ([], PAGE, False),
        ([], "http://example.com", True),
        ("*", PAGE, True),
        ("*", "null", True),
        (lambda origin: origin.endswith(".page.example"), "https://a.page.example", True),
        (lambda origin: origin.endswith(".page.example"), PAGE, False),
        (lambda origin: origin == "null", "null", True),
    ],
)
async def test_the_option_cors_origins_lets_other_origins_in(allowed: Origins, origin: str, may: bool) -> None:
    headers = {"origin": origin}
    async with Server(cors_origins=allowed) as io:
        assert ((await ask(io, "GET", engine_target(), headers=headers)).status == 200) is may
        websocket = WebSocket(io, engine_target(transport="websocket"), headers)
        if may:
            await websocket.accepted()
            websocket.close()
            await websocket.ended()
        else:
            assert (await websocket.refusal()).status == 400


async def test_an_allowed_origin_may_do_all_that_a_session_needs() -> None:
    headers = {"origin": PAGE}
    async with Server(cors_origins=[PAGE]) as io:
        fields = await handshake(io, headers=headers)
        target = engine_target(sid=fields["sid"])
        poll = Request(io, "GET", target, headers=headers)
        assert (await ask(io, "POST", target, b"40", headers)).status == 200
        assert (await poll.answer()).body.startswith(b"40{")
        websocket = WebSocket(io, engine_target(transport="websocket", sid=fields["sid"]), headers)
        await websocket.accepted()
        websocket.send("2probe")
        assert await websocket.receive() == "3probe"
        websocket.close()
        await websocket.ended()


async def test_the_log_says_which_option_would_let_the_origin_in(caplog: pytest.LogCaptureFixture) -> None:
    async with Server() as io:
        await ask(io, "GET", engine_target(), headers=FOREIGN)
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    line = record.getMessage()
    for part in ("http://foreign.example", "example.com", "192.0.2.7", "cors_origins"):
        assert part in line


@pytest.mark.parametrize("header", ["origin", "host"])
async def test_nothing_in_a_header_forges_or_floods_the_log(caplog: pytest.LogCaptureFixture, header: str) -> None:
    evil = "http://x\r\nWARNING forged\x1b[2J\x00\x7f\x85\x9b" + "a" * 10_000
    async with Server() as io:
        await ask(io, "GET", engine_target(), headers=FOREIGN | {header: evil})
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    line = record.getMessage()
    assert line.isprintable()
    assert "forged" in line
    assert len(line) < 1000


# CORS


def cors_of(answer: Answer) -> dict[str, str]:
    return {name: value for name, value in answer.headers if name.startswith("access-control-") or name == "vary"}


@pytest.mark.parametrize(
    ("allowed", "credentials", "origin", "expected"),
    [
        (None, False, "http://example.com", {}),
        (None, False, None, {}),
        ([PAGE], False, PAGE, {"access-control-allow-origin": PAGE, "vary": "Origin"}),
        ([PAGE], True, PAGE, {"access-control-allow-origin": PAGE, "access-control-allow-credentials": "true", "vary": "Origin"}),
        ([PAGE], True, None, {"vary": "Origin"}),
        ([PAGE], True, "http://example.com", {"vary": "Origin"}),
        ("*", False, PAGE, {"access-control-allow-origin": "*"}),
        ("*", False, None, {}),
        ("*", True, PAGE, {"access-control-allow-origin": PAGE, "access-control-allow-credentials": "true", "vary": "Origin"}),
        (lambda origin: origin == PAGE, False, PAGE, {"access-control-allow-origin": PAGE, "vary": "Origin"}),
    ],
)
async def test_cors_headers_stand_on_every_answer(
    allowed: Origins, credentials: bool, origin: str | None, expected: dict[str, str]
) -> None:
    headers = {} if origin is None else {"origin": origin}
    async with Server(cors_origins=allowed, cors_credentials=credentials, max_payload=10) as io:
        opened = await ask(io, "GET", engine_target(), headers=headers)
        target = engine_target(sid=only_connection(io).sid)
        poll = Request(io, "GET", target, headers=headers)
        taken = await ask(io, "POST", target, b"40", headers)
        too_large = await ask(io, "POST", target, b"4" * 11, headers)
        refused = await ask(io, "GET", engine_target(sid="unknown"), headers=headers)
        statuses = []
        for answer in (opened, taken, too_large, refused, await poll.answer()):
            statuses.append(answer.status)
            assert cors_of(answer) == expected
        assert statuses == [200, 200, 413, 400, 200]


@pytest.mark.parametrize("transport", ["polling", "websocket"])
async def test_a_function_that_fails_lets_nobody_in_and_raises_nothing(transport: str, caplog: pytest.LogCaptureFixture) -> None:
    def knows(origin: str) -> bool:
        return {PAGE: True}[origin]

    async with Server(cors_origins=knows) as io:
        if transport == "polling":
            answer = await ask(io, "GET", engine_target(), headers=FOREIGN)
            assert (answer.status, cors_of(answer)) == (403, {"vary": "Origin"})
        else:
            websocket = WebSocket(io, engine_target(transport="websocket"), FOREIGN)
            assert (await websocket.refusal()).status == 400
    assert "cors_origins failed" in caplog.text


async def test_the_101_has_the_cors_headers_too() -> None:
    async with Server(cors_origins=[PAGE], cors_credentials=True) as io:
        websocket = WebSocket(io, engine_target(transport="websocket"), {"origin": PAGE})
        headers = dict((await websocket.accepted())["headers"])
        assert headers[b"access-control-allow-origin"] == PAGE.encode()
        assert headers[b"access-control-allow-credentials"] == b"true"
        websocket.close()
        await websocket.ended()


PREFLIGHT = {"origin": PAGE, "access-control-request-method": "POST", "access-control-request-headers": "content-type,x-own"}


async def test_a_preflight_is_answered_with_204_and_what_is_allowed() -> None:
    async with Server(cors_origins=[PAGE], cors_credentials=True, cors_max_age=600) as io:
        answer = await ask(io, "OPTIONS", engine_target(sid="any"), headers=PREFLIGHT)
        assert (answer.status, answer.body) == (204, b"")
        assert answer.header("access-control-allow-origin") == PAGE
        assert answer.header("access-control-allow-credentials") == "true"
        assert answer.header("access-control-max-age") == "600"
        assert answer.header("access-control-allow-headers") == "content-type,x-own"
        assert {"GET", "POST"} <= set((answer.header("access-control-allow-methods") or "").split(","))
        assert "Origin" in (answer.header("vary") or "")
        assert nothing_is_left(io)


async def test_a_preflight_says_nothing_of_what_is_not_set() -> None:
    async with Server(cors_origins="*") as io:
        answer = await ask(io, "OPTIONS", engine_target(), headers={"origin": PAGE, "access-control-request-method": "POST"})
        assert answer.status == 204
        assert answer.header("access-control-allow-origin") == "*"
        for name in ("access-control-allow-credentials", "access-control-max-age", "access-control-allow-headers"):
            assert answer.header(name) is None


async def test_a_preflight_of_a_foreign_page_allows_it_nothing() -> None:
    async with Server(cors_origins=[PAGE], cors_credentials=True, cors_max_age=600) as io:
        answer = await ask(io, "OPTIONS", engine_target(), headers=PREFLIGHT | FOREIGN)
        assert answer.error == FORBIDDEN
        assert not {name for name in cors_of(answer) if name.startswith("access-control-")}


async def test_a_preflight_allows_the_methods_and_headers_that_are_named() -> None:
    async with Server(cors_origins=[PAGE], cors_methods=["GET", "POST", "PUT"], cors_allowed_headers=["x-token", "content-type"]) as io:
        answer = await ask(io, "OPTIONS", engine_target(), headers=PREFLIGHT)
        assert answer.header("access-control-allow-methods") == "GET,POST,PUT"
        assert answer.header("access-control-allow-headers") == "x-token,content-type"
        assert answer.header("vary") == "Origin"


async def test_a_preflight_may_allow_no_headers_at_all() -> None:
    async with Server(cors_origins=[PAGE], cors_allowed_headers=[]) as io:
        assert (await ask(io, "OPTIONS", engine_target(), headers=PREFLIGHT)).header("access-control-allow-headers") is None


async def test_where_a_preflight_allows_what_it_asks_for_it_says_so() -> None:
    async with Server(cors_origins=[PAGE]) as io:
        answer = await ask(io, "OPTIONS", engine_target(), headers=PREFLIGHT)
        assert answer.header("vary") == "Origin, Access-Control-Request-Headers"


async def test_scripts_of_allowed_pages_may_read_the_headers_that_are_named(path: str) -> None:
    async with Server(close_grace=0, cors_origins=[PAGE], cors_exposed_headers=["x-a", "x-b"]) as io:
        for method in ("GET", "OPTIONS"):
            allowed = await ask(io, method, engine_target(), headers={"origin": PAGE, "access-control-request-method": "POST"})
            assert allowed.header("access-control-expose-headers") == "x-a,x-b"
        assert (await ask(io, "GET", engine_target())).header("access-control-expose-headers") is None
        websocket = dial(io, engine_target(transport="websocket"), {"origin": PAGE})
        assert (b"access-control-expose-headers", b"x-a,x-b") in (await websocket.accepted())["headers"]
        websocket.close()


# The cookie


async def test_without_the_option_no_cookie_is_set() -> None:
    async with Server() as io:
        assert (await ask(io, "GET", engine_target())).header("set-cookie") is None


@pytest.mark.parametrize(
    ("cookie", "expected"),
    [
        (True, "io={sid}; Path=/; HttpOnly; SameSite=Lax"),
        (
            Cookie(name="lb", path="/rt", http_only=False, same_site="none", secure=True, max_age=60, domain="example.com"),
            "lb={sid}; Max-Age=60; Domain=example.com; Path=/rt; Secure; SameSite=None",
        ),
        (Cookie(same_site=None), "io={sid}; Path=/; HttpOnly"),
    ],
)
async def test_the_cookie_is_set_by_the_polling_handshake_only(cookie: Cookie | bool, expected: str) -> None:
    async with Server(cookie=cookie) as io:
        opened = await ask(io, "GET", engine_target())
        sid = only_connection(io).sid
        assert opened.header("set-cookie") == expected.format(sid=sid)
        target = engine_target(sid=sid)
        poll = Request(io, "GET", target)
        assert (await ask(io, "POST", target, b"40")).header("set-cookie") is None
        assert (await poll.answer()).header("set-cookie") is None
        websocket = WebSocket(io, engine_target(transport="websocket"))
        assert b"set-cookie" not in dict((await websocket.accepted())["headers"])
        websocket.close()
        await websocket.ended()


# allow_request


class Undecided:
    def __bool__(self) -> bool:
        raise LookupError("the truth is away")


ANSWERS: dict[str, object] = {
    "true": True,
    "truthy": "yes",
    "false": False,
    "none": None,
    "empty": "",
    "zero": 0,
    "undecided": Undecided(),
}


class Denied:
    """An `allow_request` that does what its kind says, and remembers what it was asked."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.asked: list[Handshake] = []

    def __call__(self, handshake: Handshake) -> Any:
        self.asked.append(handshake)
        if self.kind == "refusal":
            raise ConnectRefused("come back tomorrow")
        if self.kind == "exception":
            raise LookupError("the database is away")
        if self.kind == "cancelled":
            raise asyncio.CancelledError
        return ANSWERS[self.kind]

    async def later(self, handshake: Handshake) -> Any:
        await asyncio.sleep(0)
        return self(handshake)

    async def not_awaited(self, handshake: Handshake) -> Any:
        return self.later(handshake)


@pytest.mark.parametrize("how", ["__call__", "later", "not_awaited"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        *(("true", None), ("truthy", None)),
        *((kind, "Forbidden") for kind in ("false", "none", "empty", "zero", "undecided", "exception", "cancelled")),
        ("refusal", "come back tomorrow"),
    ],
)
async def test_allow_request_decides_on_new_sessions(kind: str, message: str | None, how: str, caplog: pytest.LogCaptureFixture) -> None:
    decide = Denied(kind)
    async with Server(allow_request=getattr(decide, how)) as io:
        answer = await ask(io, "GET", engine_target("token=1"), headers={"x-key": "k"})
        websocket = WebSocket(io, engine_target("token=1", transport="websocket"), {"x-key": "k"})
        if message is None:
            assert answer.status == 200
            await websocket.accepted()
            websocket.close()
            await websocket.ended()
        else:
            assert answer.error == (403, 4, message)
            refusal = await websocket.refusal()
            assert (refusal.status, refusal.body.decode()) == (400, message)
            assert nothing_is_left(io)
        assert [(each.query["token"], each.headers["x-key"], each.auth) for each in decide.asked] == [("1", "k", None)] * 2
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == (2 if kind in ("exception", "undecided", "cancelled") else 0)
    for record in errors:
        assert record.exc_info
        assert isinstance(record.exc_info[1], RuntimeError if kind == "cancelled" else LookupError)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    if kind in ("none", "empty", "zero"):
        assert len(warnings) == 2
        assert all(f"allow_request gave {ANSWERS[kind]!r}; the request" in each and "expected True" in each for each in warnings)
    else:
        assert warnings == []


async def test_allow_request_is_asked_once_for_each_session_and_after_the_other_checks() -> None:
    decide = Denied("true")
    async with Server(allow_request=decide) as io:
        await ask(io, "GET", engine_target(), headers=FOREIGN)
        await ask(io, "GET", engine_target(transport="tube"))
        await ask(io, "POST", engine_target())
        assert decide.asked == []
        target = engine_target(sid=(await handshake(io))["sid"])
        poll = Request(io, "GET", target)
        await ask(io, "POST", target, b"40")
        await poll.answer()
        probe = WebSocket(io, target.replace("polling", "websocket"))
        await probe.accepted()
        probe.close()
        await probe.ended()
        assert len(decide.asked) == 1


async def test_a_server_that_closes_while_allow_request_thinks_makes_no_session() -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def allow(handshake: Handshake) -> bool:
        asked.set()
        await go_on.wait()
        return True

    io = Server(allow_request=allow)
    request = Request(io, "GET", engine_target())
    await asked.wait()
    await io.close()
    go_on.set()
    assert (await request.answer()).error == (503, 3, "Server is shutting down")
