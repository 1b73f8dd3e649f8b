"""What is read of a request's head: its query, and the headers that say where it comes from, as servers give them."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen import Server
from mizzen.transports.gate import LONGEST_HOST, is_own_host
from mizzen.types import Message, parse_query
from tests.transports.exchange import Request, ask, engine_target, handshake, make_scope, only_connection

FOREIGN = "http://foreign.example"


@given(st.text(alphabet="ab&=%+;2\xe9 ", max_size=30))
def test_a_query_is_read_as_the_standard_library_reads_it(query: str) -> None:
    expected = dict(parse_qsl(query, keep_blank_values=True))
    assert parse_query(query.encode("latin-1")) == expected


@pytest.mark.parametrize("name", ["origin", "Origin", "ORIGIN"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_origin_is_seen_in_whatever_case_the_server_gives_its_name(name: str, method: str) -> None:
    async with Server() as io:
        target = engine_target(sid=(await handshake(io))["sid"])
        scope = make_scope("http", target, {"content-length": "2"}, method=method)
        scope["headers"].append((name.encode("ascii"), FOREIGN.encode("ascii")))
        status = await status_of(io, scope)
        assert status == 403
        assert not only_connection(io).gone


@pytest.mark.parametrize("origins", [(FOREIGN, "http://example.com"), ("http://example.com", FOREIGN), ("http://example.com",) * 2])
async def test_two_origins_are_none(origins: tuple[str, str]) -> None:
    async with Server(cors_origins=[FOREIGN]) as io:
        scope = make_scope("http", engine_target(), None, method="GET")
        scope["headers"] += [(b"origin", origin.encode("ascii")) for origin in origins]
        assert await status_of(io, scope) == 403


async def status_of(io: Server, scope: dict[str, object]) -> int:
    statuses: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"40", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await io(scope, receive, send)
    (status,) = statuses
    return status


def test_no_host_is_longer_than_any_name_can_be() -> None:
    host = "a" * (LONGEST_HOST - len("http://"))
    assert is_own_host(f"http://{host}", host)
    assert not is_own_host(f"http://{host}a", f"{host}a")


async def test_what_one_page_may_says_nothing_of_another() -> None:
    async with Server() as io:
        for _ in range(2):
            for origin, status in (("http://example.com", 200), (FOREIGN, 403)):
                assert (await ask(io, "GET", engine_target(), headers={"origin": origin})).status == status
                assert (await ask(io, "GET", engine_target(), headers={"origin": origin, "host": "foreign.example"})).status != status


async def test_a_function_is_asked_about_an_origin_with_every_request() -> None:
    may = {FOREIGN}
    async with Server(cors_origins=lambda origin: origin in may) as io:
        target = engine_target(sid=(await handshake(io))["sid"])
        headers = {"origin": FOREIGN}
        assert (await Request(io, "POST", target, b"40", headers).answer()).status == 200
        may.clear()
        assert (await Request(io, "POST", target, b"40", headers).answer()).status == 403
