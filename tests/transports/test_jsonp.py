"""Polling by script tags: the script that answers a GET, the form of a POST, and which pages may do it."""

from __future__ import annotations

import json
import re
from urllib.parse import quote, urlencode

import pytest

from mizzen import Server, Socket
from mizzen.errors import RemoteProtocolError
from mizzen.transports import jsonp
from mizzen.types import JSON
from tests.support import until
from tests.transports.exchange import HOST, Answer, Request, ask, engine_target, only_connection

PAGE = {"referer": f"http://{HOST}/page?x=1"}
FORM = {"content-type": "application/x-www-form-urlencoded"}
FORBIDDEN = (403, 4, "Forbidden")
BAD_REQUEST = (400, 3, "Bad request")
SCRIPT = re.compile(r"___eio\[(\d+)\]\((\"[^<>&\u2028\u2029]*\")\);")


def payload(answer: Answer, index: int = 0) -> str:
    """Give what a script hands to the callback."""
    assert answer.status == 200
    assert answer.header("content-type") == "text/javascript; charset=UTF-8"
    assert answer.header("x-content-type-options") == "nosniff"
    found = SCRIPT.fullmatch(answer.body.decode())
    assert found, answer.body
    assert int(found[1]) == index
    return json.loads(found[2])


async def open_script(io: Server, eio: int = 3, index: int = 0) -> str:
    """Open a session and join; give the target of its requests."""
    answer = await ask(io, "GET", engine_target(f"j={index}", eio=eio), headers=PAGE)
    text = payload(answer, index)
    sid = json.loads(text[text.index("{") : text.index("}") + 1])["sid"]
    target = engine_target(f"j={index}", eio=eio, sid=sid)
    if eio == 4:
        assert (await ask(io, "POST", target, b"d=40", PAGE | FORM)).body == b"ok"
        assert payload(await ask(io, "GET", target, headers=PAGE), index).startswith("40{")
    return target


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("2:40", '"2:40"'),
        ('42["a"]', '"42[\\"a\\"]"'),
        ("a\\b\n", '"a\\\\b\\n"'),
        ("\u2028\u2029", '"\\u2028\\u2029"'),
        ("</script><!--", '"\\u003c/script\\u003e\\u003c!--"'),
        ("&amp;", '"\\u0026amp;"'),
        ("café 🍰", '"café 🍰"'),
        ("\x00\x1e\x7f", '"\\u0000\\u001e\x7f"'),
    ],
)
def test_the_script_holds_a_string_that_is_safe_in_scripts_and_pages(text: str, script: str) -> None:
    encoded = jsonp.encode(text.encode(), "7").decode()
    assert encoded == f"___eio[7]({script});"
    assert json.loads(script) == text


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"d=2%3A40", b"2:40"),
        (b"d=4%3A42%5B%5D", b"4:42[]"),
        (b"d=a%5Cnb", b"a\nb"),
        (b"d=a%5C%5Cnb", b"a\\nb"),
        (b"d=a%5C%5C%5Cnb", b"a\\\\nb"),
        (b"d=%5Ct%5C%5C", b"\\t\\\\"),
        (b"d=caf%C3%A9+%F0%9F%8D%B0", "café 🍰".encode()),
        (b"x=1&d=2%3A40&d=2%3A41", b"2:40"),
        (b"d=", b""),
    ],
)
def test_the_form_gives_the_payload_with_its_line_feeds(body: bytes, expected: bytes) -> None:
    assert jsonp.decode(body) == expected


@pytest.mark.parametrize("body", [b"", b"2:40", b"x=1", b"d%ff=1", b"d=%ff", b"\xff=\xff", b"&".join([b"x=1"] * 11) + b"&d=1"])
def test_a_form_without_a_payload_is_refused(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="'d'"):
        jsonp.decode(body)


@pytest.mark.parametrize("text", ["", "a\nb", "a\\nb", "\\\\n", "\r\n", '42["\\\\n\\n"]', "&=+%"])
def test_what_the_client_writes_comes_back(text: str) -> None:
    # as engine.io-client 3 writes it into its form
    written = text.replace("\\n", "\\\n").replace("\n", "\\n")
    assert jsonp.decode(urlencode({"d": written}).encode()) == text.encode()


@pytest.mark.parametrize("eio", [3, 4])
async def test_messages_go_both_ways(eio: int) -> None:
    got: list[JSON] = []
    async with Server(close_grace=0) as io:

        @io.on("echo")
        async def echo(socket: Socket, *args: JSON) -> tuple[JSON, ...]:
            got.append(args)
            return args

        target = await open_script(io, eio, 12)
        event = '421["echo","line\\nfeed </script>","é"]'
        body = event if eio == 4 else f"{len(event)}:{event}"
        escaped = body.replace("\\n", "\\\n").replace("\n", "\\n")
        posted = await ask(io, "POST", target, f"d={quote(escaped, safe='')}".encode(), PAGE | FORM)
        assert (posted.status, posted.body, posted.header("content-type")) == (200, b"ok", "text/html")
        assert "431" in payload(await ask(io, "GET", target, headers=PAGE), 12)
        assert got == [("line\nfeed </script>", "é")]


@pytest.mark.parametrize(
    ("eio", "expected"),
    [(3, '39:451-["b",{"_placeholder":true,"num":0}]6:b4AQID'), (4, '451-["b",{"_placeholder":true,"num":0}]\x1ebAQID')],
)
async def test_binary_is_text_there(eio: int, expected: str) -> None:
    async with Server(close_grace=0) as io:
        target = await open_script(io, eio)
        io.emit("b", b"\x01\x02\x03")
        assert payload(await ask(io, "GET", target, headers=PAGE)) == expected


async def test_a_long_script_is_compressed_as_a_whole() -> None:
    async with Server(close_grace=0) as io:
        target = await open_script(io)
        request = Request(io, "GET", target, headers=PAGE | {"accept-encoding": "deflate"})
        await until(lambda: only_connection(io).transport.writable)
        io.emit("m", "long " * 1000)
        answer = await request.answer()
        assert answer.header("content-encoding") == "deflate"
        assert len(answer.body) < 1000


@pytest.mark.parametrize("index", ["", "x", "0x", "-1", "1.0", "0];alert(1)//", "%D9%A1", "9" * 17])
async def test_an_index_that_is_no_number_is_refused(index: str) -> None:
    async with Server(close_grace=0) as io:
        assert (await ask(io, "GET", engine_target(f"j={index}"), headers=PAGE)).error == BAD_REQUEST
        assert not io.sessions.connections


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, False),
        ({"referer": f"http://{HOST}/"}, True),
        ({"referer": f"https://{HOST}"}, True),
        ({"referer": "https://page.example/a/b?c"}, True),
        ({"referer": "https://page.example/", "sec-fetch-site": "cross-site"}, True),
        ({"referer": "https://foreign.example/"}, False),
        ({"referer": f"https://foreign.example/?http://{HOST}/"}, False),
        ({"referer": f"https://{HOST}@foreign.example/"}, False),
        ({"referer": f"https://{HOST}.foreign.example/"}, False),
        ({"referer": "about:blank"}, False),
        ({"referer": ""}, False),
        ({"referer": "http://["}, False),
        ({"sec-fetch-site": "same-origin"}, False),
        ({"origin": f"http://{HOST}"}, True),
        ({"origin": "https://page.example"}, True),
        ({"origin": "https://foreign.example", "referer": f"http://{HOST}/"}, False),
        ({"origin": "null", "referer": f"http://{HOST}/"}, False),
    ],
)
async def test_only_pages_that_say_who_they_are_may_poll_by_script(headers: dict[str, str], allowed: bool) -> None:
    async with Server(close_grace=0, cors_origins=["https://page.example"]) as io:
        answer = await ask(io, "GET", engine_target("j=0"), headers=headers)
        if allowed:
            payload(answer)
        else:
            assert answer.error == FORBIDDEN
        assert len(io.sessions.connections) == allowed


async def test_each_request_of_such_a_session_has_to_say_it() -> None:
    async with Server(close_grace=0) as io:
        target = await open_script(io)
        assert (await ask(io, "POST", target, b"d=1%3A6", FORM)).error == FORBIDDEN
        assert (await ask(io, "GET", target)).error == FORBIDDEN
        assert io.sessions.connections


async def test_a_form_that_holds_nothing_ends_the_session() -> None:
    async with Server(close_grace=0) as io:
        target = await open_script(io)
        assert (await ask(io, "POST", target, b"x=1", PAGE | FORM)).error == BAD_REQUEST
        assert not io.sessions.connections
