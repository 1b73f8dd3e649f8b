"""The files of the browser client: what is served under the path, to whom, and how browsers keep it."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from mizzen import OptionsError, Server
from mizzen.transports.files import ALIASES, STATIC
from mizzen.types import Message
from tests.support import serve
from tests.transports.exchange import Answer, ask, engine_target, make_scope

SOURCE = "// é\n" + "export const answer = 42;\n" * 100
FOREIGN = {"origin": "https://foreign.example", "sec-fetch-site": "cross-site"}
SCRIPT = "text/javascript; charset=utf-8"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "client.js"
    path.write_text(SOURCE, encoding="utf-8")
    return path


async def get(io: Server, name: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> Answer:
    return await ask(io, method, f"/socket.io/{name}", headers=headers)


async def test_a_file_is_served_under_the_name_that_it_was_given(script: Path) -> None:
    async with Server(client_files={"socket.io.js": script}) as io:
        answer = await get(io, "socket.io.js")
        assert answer.status == 200
        assert answer.body == SOURCE.encode()
        assert answer.header("content-type") == SCRIPT
        assert answer.header("cache-control") == "public, max-age=0"
        assert answer.header("x-content-type-options") == "nosniff"
        assert answer.header("content-length") == str(len(SOURCE.encode()))
        tag = answer.header("etag")
        assert tag is not None
        assert tag[0] == tag[-1] == '"'
        assert not io.sessions.connections


async def test_a_query_makes_no_difference_to_a_file(script: Path) -> None:
    async with Server(client_files={"socket.io.js": script}) as io:
        assert (await get(io, "socket.io.js?EIO=4&transport=polling")).body == SOURCE.encode()


@pytest.mark.parametrize(("coding", "decode"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
async def test_it_is_compressed_as_the_browser_asks(script: Path, coding: str, decode: object) -> None:
    assert callable(decode)
    async with Server(client_files={"a.js": script}) as io:
        plain = await get(io, "a.js")
        answer = await get(io, "a.js", {"accept-encoding": f"br, {coding}"})
        assert answer.header("content-encoding") == coding
        assert answer.header("vary") == plain.header("vary") == "Accept-Encoding"
        assert answer.header("content-type") == SCRIPT
        assert len(answer.body) < 200
        assert decode(answer.body) == SOURCE.encode()
        # another representation of the same content has a tag of its own (RFC 9110, 8.8.3.3)
        assert answer.header("etag") != plain.header("etag")


async def test_it_is_read_and_compressed_once(script: Path) -> None:
    async with Server(client_files={"a.js": script}) as io:
        first = await get(io, "a.js", {"accept-encoding": "gzip"})
        script.unlink()
        assert (await get(io, "a.js", {"accept-encoding": "gzip"})).body is not None
        assert (await get(io, "a.js")).body == gzip.decompress(first.body)


async def test_small_files_are_not_worth_compressing(tmp_path: Path) -> None:
    path = tmp_path / "small.txt"
    path.write_text("small")
    async with Server(client_files={"small.txt": path}) as io:
        answer = await get(io, "small.txt", {"accept-encoding": "gzip"})
        assert answer.body == b"small"
        assert answer.header("content-encoding") is answer.header("vary") is None


@pytest.mark.parametrize("accepted", ["", "gzip"])
async def test_a_browser_that_has_it_is_told_so(script: Path, accepted: str) -> None:
    async with Server(client_files={"a.js": script}) as io:
        tag = (await get(io, "a.js", {"accept-encoding": accepted})).header("etag")
        assert tag is not None
        for known in (tag, f"W/{tag}", f'"other", {tag}', f'"other" ,W/{tag}', "*"):
            answer = await get(io, "a.js", {"accept-encoding": accepted, "if-none-match": known})
            assert (answer.status, answer.body) == (304, b"")
            assert answer.header("etag") == tag
            assert answer.header("cache-control") == "public, max-age=0"
            assert answer.header("content-length") is None
        for unknown in ('"other"', tag.strip('"'), ""):
            assert (await get(io, "a.js", {"accept-encoding": accepted, "if-none-match": unknown})).status == 200


async def test_the_tag_is_of_the_content(tmp_path: Path) -> None:
    tags: list[str | None] = []
    for text in ("one", "two", "one"):
        path = tmp_path / "a.js"
        path.write_text(text)
        async with Server(client_files={"a.js": path}) as io:
            tags.append((await get(io, "a.js")).header("etag"))
    assert tags[0] == tags[2] != tags[1]


async def test_head_gives_the_headers_only(script: Path) -> None:
    async with Server(client_files={"a.js": script}) as io:
        got, head = await get(io, "a.js"), await ask_head(io, "a.js")
        assert head == got.headers


async def ask_head(io: Server, name: str) -> list[tuple[str, str]]:
    """Give the headers of the answer to HEAD, whose length is that of what GET would give."""
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("nothing is read")

    async def send(message: Message) -> None:
        sent.append(message)

    await io(make_scope("http", f"/socket.io/{name}", None, method="HEAD"), receive, send)
    start, body = sent
    assert start["status"] == 200
    assert body["body"] == b""
    return [(key.decode(), value.decode()) for key, value in start["headers"]]


async def test_any_page_may_load_it_and_scripts_of_allowed_ones_may_read_it(script: Path) -> None:
    async with Server(client_files={"a.js": script}, cors_origins=["https://page.example"]) as io:
        foreign = await get(io, "a.js", FOREIGN)
        assert foreign.body == SOURCE.encode()
        assert foreign.header("access-control-allow-origin") is None
        assert foreign.header("vary") == "Accept-Encoding, Origin"
        allowed = await get(io, "a.js", {"origin": "https://page.example"})
        assert allowed.header("access-control-allow-origin") == "https://page.example"


@pytest.mark.parametrize(
    "name", ["b.js", "A.js", "a.js/", "a.js/x", "/a.js", "x/a.js", "../socket.io/b.js", "..%2fa.js", ".", "a.js%00", "a"]
)
async def test_only_exact_names_are_served(script: Path, name: str) -> None:
    async with Server(client_files={"a.js": script}) as io:
        assert (await get(io, name)).status == 400


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_files_are_only_read(script: Path, method: str) -> None:
    async with Server(client_files={"a.js": script}) as io:
        assert (await get(io, "a.js", method=method)).error == (400, 0, "Transport unknown")


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("a.js", SCRIPT),
        ("a.mjs", SCRIPT),
        ("a.js.map", "application/json; charset=utf-8"),
        ("a.d.ts", "text/plain; charset=utf-8"),
        ("a.css", "text/css; charset=utf-8"),
        ("a.wasm", "application/wasm"),
        ("a.svg", "image/svg+xml"),
        ("a.what", "application/octet-stream"),
        ("a", "application/octet-stream"),
    ],
)
async def test_the_type_is_that_of_the_file(tmp_path: Path, name: str, content_type: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"x")
    async with Server(client_files={name: path}) as io:
        assert (await get(io, name)).header("content-type") == content_type


async def test_names_may_have_folders(script: Path) -> None:
    async with Server(client_files={"v4/socket.io.min.js": script}) as io:
        assert (await get(io, "v4/socket.io.min.js")).body == SOURCE.encode()


async def test_a_server_that_is_mounted_serves_them_too(script: Path) -> None:
    async with Server(path="/realtime", client_files={"a.js": script}) as io:
        assert (await ask(io, "GET", "/realtime/a.js")).body == SOURCE.encode()
        assert (await ask(io, "GET", "/socket.io/a.js")).status == 404


async def test_a_file_that_vanishes_before_it_was_read_is_not_found(script: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with Server(client_files={"a.js": script}) as io:
        script.unlink()
        assert (await get(io, "a.js")).status == 404
        assert "cannot be read" in caplog.text
        script.write_text("back")
        assert (await get(io, "a.js")).body == b"back"


def test_a_file_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match=r"client_files\['a.js'\].*nothing.js.*there is no such file"):
        Server(client_files={"a.js": tmp_path / "nothing.js"})
    with pytest.raises(OptionsError, match="there is no such file"):
        Server(client_files={"a.js": tmp_path})


@pytest.mark.parametrize("name", ["", "/a.js", "../a.js", "a/../b.js", "a//b.js", ".env", "a/.env", "a.js?x", "a b.js", "é.js", "a/"])
def test_a_name_that_no_file_could_be_reached_by_is_refused(script: Path, name: str) -> None:
    with pytest.raises(OptionsError, match="is no name of a file"):
        Server(client_files={name: script})


@pytest.mark.parametrize("name", ["mizzen.js", "mizzen.mjs", "mizzen.js.map", "mizzen.mjs.map"])
async def test_the_client_of_the_package_is_served_unless_switched_off(name: str) -> None:
    async with Server(close_grace=0) as io:
        answer = await get(io, name)
        assert answer.status == 200
        assert answer.body == (STATIC / name).read_bytes()
    async with Server(serve_client=False) as io:
        assert (await get(io, name)).status == 400


async def test_a_file_of_the_user_stands_before_one_of_the_package(script: Path) -> None:
    async with Server(client_files={"mizzen.js": script}) as io:
        assert (await get(io, "mizzen.js")).body == SOURCE.encode()


async def test_over_a_real_server_a_browser_gets_304(script: Path) -> None:
    async with serve(Server(client_files={"a.js": script}), native=True) as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:
        first = await http.get("/socket.io/a.js")
        assert first.text == SOURCE
        assert first.headers["content-encoding"] == "gzip"
        again = await http.get("/socket.io/a.js", headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        head = await http.head("/socket.io/a.js")
        assert head.headers["content-length"] == first.headers["content-length"]
        assert (await http.get(engine_target())).text.startswith("0{")


@pytest.mark.parametrize(("alias", "name"), sorted(ALIASES.items()))
async def test_pages_find_the_client_under_the_names_of_a_node_server(alias: str, name: str) -> None:
    async with Server() as io:
        assert (await get(io, alias)).body == (STATIC / name).read_bytes()


async def test_a_file_of_the_users_goes_before_an_alias(script: Path) -> None:
    async with Server(client_files={"socket.io.js": script}) as io:
        assert (await get(io, "socket.io.js")).body == SOURCE.encode()
