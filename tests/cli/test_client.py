"""`mizzen client`: what it prints, how it ends, and how it is to type in."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import shlex
import signal
import sys
import types
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import PlainTextResponse, Response

from mizzen import ConnectRefused, Server, Socket
from mizzen.cli import main
from mizzen.cli.session import COMMANDS
from mizzen.cli.values import ValueInvalid, parse_value, parse_values, to_line, to_name, to_plain, to_text
from tests.documents import DOCS, blocks
from tests.support import WITHIN, serve

NOBODY = "http://127.0.0.1:1"


def make() -> Server:
    api = FastAPI()

    @api.get("/rooms")
    async def rooms(limit: int = 1) -> list[int]:
        return list(range(limit))

    @api.get("/no")
    async def no() -> None:
        raise HTTPException(404, "no such room")

    @api.get("/text")
    async def text() -> PlainTextResponse:
        return PlainTextResponse("plain \x1b[31mtext")

    @api.get("/bytes")
    async def binary() -> Response:
        return Response(b"\x00\xff", media_type="image/x")

    @api.api_route("/body", methods=["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    async def body(request: Request) -> list[Any]:
        return [request.method, request.headers.get("x-own"), (await request.body()).decode()]

    io = Server(api, close_grace=0.0)

    @io.on("echo")
    async def echo(socket: Socket, *args: Any) -> tuple[Any, ...]:
        return args

    @io.on("tell")
    async def tell(socket: Socket, *args: Any) -> None:
        socket.emit(*args)

    @io.on("count")
    async def count(socket: Socket, upto: int) -> None:
        for number in range(upto):
            socket.emit("number", number)

    @io.on("fail")
    async def fail(socket: Socket) -> None:
        raise ValueError

    @io.on("kick")
    async def kick(socket: Socket) -> None:
        socket.disconnect()

    @io.on("header")
    async def header(socket: Socket) -> Any:
        return [socket.handshake.headers.get("x-own"), socket.conn.transport.name]

    @io.of("/chat").on("connect")
    async def connect(socket: Socket, auth: Any = None) -> None:
        if auth is None:
            raise ConnectRefused("who are you", data={"code": 1})

    @io.of("/chat").on("auth")
    async def auth(socket: Socket) -> Any:
        return socket.handshake.auth

    return io


class Ended:
    """How a command ended: its exit code, and what it printed."""

    def __init__(self, code: int, output: str, errors: str) -> None:
        self.code = code
        self.output = output
        self.errors = errors

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.output.splitlines()]


def command(url: str, *arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "mizzen", "client", url, *arguments]


async def client(url: str, *arguments: str, typed: str | None = None) -> Ended:
    """Run `mizzen client` to its end, in a thread; `typed` comes from a pipe."""
    async with asyncio.timeout(WITHIN):
        result = await asyncio.to_thread(CliRunner().invoke, main, ["client", url, *arguments], typed)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return Ended(result.exit_code, result.stdout, result.stderr)


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with serve(make()) as url:
        yield url


# Values


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", []),
        (' 1 "two"  {"three": [4, 5]} six ', [1, "two", {"three": [4, 5]}, "six"]),
        ("null true -1.5e3", [None, True, -1500.0]),
        ("12a 1,2 nul it's", ["12a", "1,2", "nul", "it's"]),
        ('[1]\t"a b"', [[1], "a b"]),
    ],
)
def test_a_line_is_json_and_words(text: str, values: list[Any]) -> None:
    assert list(parse_values(text)) == values


def test_a_file_is_its_bytes(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"\x00\xff")
    assert list(parse_values(f"@{file} 1")) == [b"\x00\xff", 1]
    assert parse_value(f"@{file}") == b"\x00\xff"
    assert parse_value('"@file"') == "@file"
    assert parse_value("two words") == "two words"


@pytest.mark.parametrize("text", ["{a", "[1", '"open', "@/no/such/file", '"a"b'])
def test_what_looks_like_json_and_is_none_is_told(text: str) -> None:
    with pytest.raises(ValueInvalid):
        list(parse_values(text))


def test_nothing_that_comes_steers_a_terminal() -> None:
    hostile = "\x1b[31m\x9b31m\u2028\x7f\ud800"
    for text in (to_line(hostile), to_text([hostile] * 20), to_name(hostile), to_line({hostile: 1})):
        assert not set("\x1b\x9b\u2028\x7f") & set(text)
        text.encode()
    assert to_plain("a\tb\n\x1b[31m\x9b") == "a\tb\n\\x1b[31m\\x9b"
    assert to_line(b"\xff") == '{"base64": "/w=="}'
    assert (to_name("chat message"), to_name("chat:message")) == ('"chat message"', "chat:message")


# One thing at a time


async def test_a_call_prints_its_answer(url: str) -> None:
    ended = await client(url, "--call", "echo", "1", '{"a": [true]}', "two words")
    assert (ended.code, ended.output, ended.errors) == (0, '[1, {"a": [true]}, "two words"]\n', "")


async def test_long_answers_are_indented(url: str) -> None:
    value = {"a": "x" * 80}
    ended = await client(url, "--call", "echo", json.dumps(value))
    assert ended.output == json.dumps(value, indent=2) + "\n"


async def test_an_event_is_sent_before_it_ends(url: str) -> None:
    told = await client(url, "--emit", "tell", "news", "1", "--listen", "--count", "1")
    assert (told.code, told.output) == (0, "← news 1\n")


@pytest.mark.parametrize(
    ("arguments", "code", "output", "error"),
    [
        (("--get", "/rooms?limit=2"), 0, "[0, 1]\n", ""),
        (("--get", "/no"), 1, '{"detail": "no such room"}\n', "404 Not Found\n"),
        (("--get", "/text"), 0, "plain \\x1b[31mtext\n", ""),
        (("--post", "/body", '{"a": 1}', "-H", "X-Own: yes"), 0, '["POST", "yes", "{\\"a\\":1}"]\n', ""),
        (("--put", "/body", "word"), 0, '["PUT", null, "\\"word\\""]\n', ""),
        (("--patch", "/body"), 0, '["PATCH", null, ""]\n', ""),
        (("--delete", "/body"), 0, '["DELETE", null, ""]\n', ""),
        (("--get", "/rooms", "-i"), 0, "200 OK\ncontent-type: application/json\n[0]\n", ""),
        (("--head", "/text"), 1, "405 Method Not Allowed\nallow: GET\ncontent-type: application/json\n", ""),
        (("--call", "fail"), 1, "", "E_HANDLER: the handler failed\n"),
        (("--call", "nobody", "--timeout", "0.05"), 5, "", "no ack of 'nobody' within 0.05 s\n"),
        (("--listen", "--count", "1", "--timeout", "0.05"), 5, "", "1 more events were to come within 0.05 s\n"),
        (("--listen", "--timeout", "0.05"), 0, "", ""),
        (("--emit", "kick", "--listen"), 6, "", "/ is disconnected: io server disconnect\n"),
        (("-n", "/chat", "--call", "auth"), 4, "", "refused: who are you {'code': 1}\n"),
        (("-n", "/chat", "--auth", '{"a": 1}', "--call", "auth"), 0, '{"a": 1}\n', ""),
        (("--call", "header", "-H", "X-Own: yes", "--transport", "polling"), 0, '["yes", "polling"]\n', ""),
        (("--call", "header", "--transport", "websocket"), 0, '[null, "websocket"]\n', ""),
        (("--call", "connect"), 2, "", "'connect' is a reserved name: Socket.IO uses it itself; choose another\n"),
        (("--get", "rooms"), 2, "", "it needs a path, which begins with /\n"),
    ],
)
async def test_what_it_prints_and_how_it_ends(url: str, arguments: tuple[str, ...], code: int, output: str, error: str) -> None:
    ended = await client(url, *arguments)
    head = "--head" in arguments and ended.output.splitlines()[0] == output.splitlines()[0]
    assert (ended.code, output if head else ended.output, ended.errors) == (code, output, error)


async def test_the_namespace_may_stand_in_the_url(url: str) -> None:
    ended = await client(f"{url}/chat", "--auth", '{"a": 1}', "--call", "auth")
    assert (ended.code, ended.output) == (0, '{"a": 1}\n')


async def test_a_server_that_is_not_there() -> None:
    ended = await client(NOBODY, "--call", "echo")
    assert (ended.code, ended.output) == (3, "")
    assert "failed" in ended.errors


async def test_bytes_are_printed_as_they_are(url: str) -> None:
    process = await asyncio.create_subprocess_exec(*command(url, "--get", "/bytes"), stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert output == b"\x00\xff"


async def test_lines_of_json_for_programs(url: str) -> None:
    events = await client(url, "--emit", "count", "3", "--listen", "--count", "2", "--jsonl")
    assert events.lines == [{"event": "number", "args": [0]}, {"event": "number", "args": [1]}]
    assert (await client(url, "--call", "echo", "1", "--jsonl")).lines == [{"result": 1}]
    (response,) = (await client(url, "--get", "/rooms", "--jsonl")).lines
    assert response == {"status": 200, "headers": {"content-type": "application/json"}, "body": [0]}
    (error,) = (await client(url, "--get", "/no", "--jsonl")).lines
    assert error["status"] == 404


async def test_ctrl_c_ends_it(url: str) -> None:
    process = await asyncio.create_subprocess_exec(*command(url, "--emit", "count", "1", "--listen"), stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    async with asyncio.timeout(WITHIN):
        assert await process.stdout.readline() == "← number 0\n".encode()
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130


async def test_a_reader_that_goes_is_no_error(url: str) -> None:
    mine, theirs = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *command(url, "--emit", "count", "20000", "--listen"), stdout=theirs, stderr=asyncio.subprocess.PIPE
    )
    os.close(theirs)
    assert await asyncio.to_thread(os.read, mine, 5) == "← nu".encode()[:5]
    os.close(mine)
    async with asyncio.timeout(2 * WITHIN):
        _, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--call", "a", "--get", "/"), "one at a time"),
        (("1",), "is for nothing"),
        (("--count", "1"), "no effect without --listen"),
        (("--auth", "[]"), "no JSON object"),
        (("--auth", "{a"), "is not JSON"),
        (("-H", "nothing"), "is no header"),
        (("--timeout", "0"), "not in the range"),
    ],
)
def test_a_command_line_that_cannot_work_is_told(arguments: tuple[str, ...], told: str) -> None:
    result = CliRunner().invoke(main, ["client", NOBODY, *arguments])
    assert result.exit_code == 2
    assert told in result.output.replace("\n", " ")


def test_a_url_that_is_none_is_told() -> None:
    result = CliRunner().invoke(main, ["client", "localhost", "--listen"])
    assert (result.exit_code, "is not the URL of a server" in result.output) == (2, True)


def test_the_help_names_the_exit_codes() -> None:
    result = CliRunner().invoke(main, ["client", "--help"])
    assert [line.split()[0] for line in result.output.partition("It ends with")[2].splitlines() if line.strip()][:8] == [
        *("0", "1", "2", "3", "4", "5", "6", "130")
    ]


# The documentation


async def test_the_page_shows_what_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    page = DOCS / "command-line.md"
    module = types.ModuleType("page_of_the_command_line")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # where annotations are resolved
    exec("".join(block.code for block in blocks(page) if block.language == "python"), vars(module))
    shown = "".join(block.code for block in blocks(page) if block.language == "console")
    ran = 0
    async with serve(module.io) as url:
        for example in shown.split("$ ")[1:]:
            line, _, output = example.partition("\n")
            first, _, second = line.rpartition(" | ")
            typed = shlex.split(first)[1].replace("\\n", "\n") if first else None
            words = shlex.split(second.replace("http://localhost:8000", "URL"))
            assert words[:3] == ["mizzen", "client", "URL"]
            ended = await client(url, *words[3:], typed=typed)
            assert (ended.output, ended.code) == (output, 0), line
            ran += 1
    assert ran == 5


@pytest.mark.parametrize("name", ["client", "bench"])
def test_the_page_names_every_option(name: str) -> None:
    text = (DOCS / "command-line.md").read_text()
    options = [parameter.opts[0] for parameter in main.commands[name].params if isinstance(parameter, click.Option)]
    assert len(options) > 15
    assert [option for option in options if option not in text] == []


def test_the_page_names_every_command() -> None:
    text = (DOCS / "command-line.md").read_text()
    assert [name for name in COMMANDS if not re.search(rf"`{name}\b", text)] == []


# From a pipe


async def test_commands_come_from_a_pipe(url: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\x01")
    typed = f"""
        # a comment
        call echo 1 "two words" {{"a": [1, 2]}}
        call echo @{tmp_path}/file
        get /rooms
        emit count 2
        wait number
        wait number 5
        join /chat {{"token": 1}}
        call auth
        use /
        leave /chat
        status
    """
    ended = await client(url, typed=typed)
    assert ended.code == 0, ended.errors
    lines = ended.output.splitlines()
    assert lines[:6] == ['[1, "two words", {"a": [1, 2]}]', '{"base64": "AQ=="}', "[0]", "← number 0", "← number 1", '{"token": 1}']
    assert lines[6].startswith(f"* {url}/  connected by websocket as ")
    assert lines[7] == f"  {url}/chat  disconnected"


async def test_the_first_command_that_fails_decides(url: str) -> None:
    ended = await client(url, typed="call echo 1\nget /no\nnonsense\nwait nothing 0.01\ncall echo 2\nemit\nuse /x\nexit\ncall echo 3")
    assert ended.code == 1
    assert ended.output.splitlines() == ["1", '{"detail": "no such room"}', "2"]
    assert ended.errors.splitlines() == [
        "404 Not Found",
        "there is no command 'nonsense'; `help` names them all",
        "no nothing within 0.01 s",
        "it needs the name of an event: emit EVENT [VALUE…]",
        "/x has not been joined (/): use [NAMESPACE]".replace("[NAMESPACE]", "NAMESPACE"),
    ]


async def test_what_is_listened_to_goes_on_after_the_pipe(url: str) -> None:
    ended = await client(url, "--listen", "--count", "3", "--jsonl", typed="emit count 3\n")
    assert [line["args"] for line in ended.lines] == [[0], [1], [2]]


# By hand


class Terminal:
    """A terminal with `mizzen client` in it."""

    def __init__(self, master: int, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.screen = ""
        self._master = master
        self._more = asyncio.Event()
        asyncio.get_running_loop().add_reader(master, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._master, 65_536)
        except OSError:  # nobody has the other end open any more
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._master)
        self.screen = re.sub(r"\x1b\[[0-9;]*m", "", self.screen + data.decode())  # without colours
        self._more.set()

    async def shows(self, text: str) -> None:
        """Wait until a text is shown, after what was waited for before."""
        async with asyncio.timeout(WITHIN):
            while text not in self.screen:
                self._more.clear()
                await self._more.wait()
        self.screen = self.screen.partition(text)[2]

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())


@asynccontextmanager
async def terminal(url: str, home: Path) -> AsyncIterator[Terminal]:
    settings = home / "inputrc"
    settings.write_text("set enable-bracketed-paste off\n")
    master, slave = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "import os, sys; os.login_tty(0); os.execv(sys.argv[1], sys.argv[1:])", *command(url)),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=os.environ | {"XDG_STATE_HOME": str(home), "TERM": "xterm", "COLUMNS": "120", "INPUTRC": str(settings)},
    )
    os.close(slave)
    shown = Terminal(master, process)
    try:
        yield shown
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        asyncio.get_running_loop().remove_reader(master)
        os.close(master)


async def test_by_hand(url: str, tmp_path: Path) -> None:
    async with terminal(url, tmp_path) as shown:
        await shown.shows("`help` names the commands")
        await shown.shows("/> ")
        shown.type("call echo 1\r")
        await shown.shows("1\r\n")
        await shown.shows("/> ")
        shown.type("get /rooms\r")
        await shown.shows("200 OK")
        await shown.shows("[0]")
        shown.type("join /chat {}\r")
        await shown.shows("/chat> ")
        shown.type("call auth\r")
        await shown.shows("{}\r\n")
        shown.type("nonsense\r")
        await shown.shows("there is no command")
        shown.type("help call\r")
        await shown.shows("call EVENT [VALUE…]")
        await shown.shows("/chat> ")
        shown.type("\x04")
        async with asyncio.timeout(WITHIN):
            assert await shown.process.wait() == 0
    assert (tmp_path / "mizzen" / "history").read_text().splitlines()[-3:] == ["call auth", "nonsense", "help call"]


async def test_events_are_shown_above_what_is_being_typed(tmp_path: Path) -> None:
    io = make()
    async with serve(io) as url, terminal(url, tmp_path) as shown:
        await shown.shows("/> ")
        shown.type("call ec")
        await shown.shows("call ec")
        io.emit("news", {"a": 1})
        await shown.shows('\x1b[2K← news {"a": 1}\r\n/> call ec')
        shown.type("ho 1\r")
        await shown.shows("\n1\r\n")
        shown.type("live off\r")
        await shown.shows("/> ")
        io.emit("news", 2)
        shown.type("call echo 3\r")
        await shown.shows("3\r\n3\r\n")
        assert "news" not in shown.screen


async def test_ctrl_c_interrupts_a_call_and_not_the_client(url: str, tmp_path: Path) -> None:
    async with terminal(url, tmp_path) as shown:
        await shown.shows("/> ")
        shown.type("call nobody\r")
        await shown.shows("nobody\r\n")
        await asyncio.sleep(0.05)  # in which it begins to wait; sooner the key would empty the line
        shown.type("\x03")
        await shown.shows("interrupted")
        await shown.shows("/> ")
        shown.type("call echo 1\r")
        await shown.shows("1\r\n1\r\n")
        shown.type("exit\r")
        async with asyncio.timeout(WITHIN):
            assert await shown.process.wait() == 0
