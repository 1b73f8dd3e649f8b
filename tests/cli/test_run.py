"""`mizzen run`: its options, several workers, TLS and Unix sockets, and an end in which every client is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import resource
import signal
import ssl
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from websockets.asyncio.client import connect as open_websocket
from websockets.asyncio.client import unix_connect

from mizzen import Server
from mizzen.cli import main
from mizzen.errors import OptionsError
from tests.support import NATIVE, WITHIN, Wire, join, join_namespace, open_polling, open_wire, until
from tests.test_servers import Process, check_log, running

APP = "tests.cli.counting_app:io"
HERE = Path(__file__).resolve().parent
KEY, CERTIFICATE = str(HERE / "localhost.key"), str(HERE / "localhost.crt")
MIZZEN = ("-m", "mizzen", "run", APP, "--port", "{port}")
UVICORN = ("-m", "uvicorn", APP, "--port", "{port}", "--ws", NATIVE)
TARGET = "/socket.io/?EIO=4&transport=websocket"
GUNICORN = ("-m", "gunicorn", APP, "--bind", "127.0.0.1:{port}", "--worker-class", "tests.cli.gunicorn_worker.NativeWorker")
CLIENTS = 500
AT_ONCE = 25
"""Clients that connect at the same time; uvicorn's backlog holds more, but not those of every system."""


class Poller:
    """A client on polling, on one kept-alive connection: quicker than a whole HTTP client, of which there are many here."""

    def __init__(self, url: str) -> None:
        self._port = int(url.rpartition(":")[2])
        self._query = "EIO=4&transport=polling"

    async def ask(self, method: str = "GET", body: str = "") -> tuple[int, str]:
        """Make a request; give status and body."""
        head = f"{method} /socket.io/?{self._query} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nContent-Length: {len(body)}\r\n\r\n"
        self._writer.write((head + body).encode())
        answer = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = re.search(r"\r\ncontent-length: (\d+)\r\n", answer)
        assert length, answer
        return int(answer.split()[1]), (await self._reader.readexactly(int(length[1]))).decode()

    async def wait(self) -> asyncio.Task[tuple[int, str]]:
        """Open a session that has joined, and leave a GET waiting."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        _, opened = await self.ask()
        self._query += f"&sid={json.loads(opened[1:])['sid']}"
        assert await self.ask("POST", "40") == (200, "ok")
        status, joined = await self.ask()
        assert (status, joined[:3]) == (200, "40{")
        return asyncio.create_task(self.ask())

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


def reasons_in(log: str) -> dict[str, int]:
    found = re.search(r'^\{"reasons": (.*)\}$', log, re.MULTILINE)
    assert found, log
    return json.loads(found[1])


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process, and those that it starts, have the files open that so many clients need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 8 * CLIENTS) if hard < 0 else min(hard, max(soft, 8 * CLIENTS)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
@pytest.mark.parametrize("command", [MIZZEN, UVICORN, GUNICORN], ids=["mizzen run", "uvicorn --ws", "gunicorn"])
async def test_when_it_is_told_to_end_every_client_is_told_in_time(command: Sequence[str]) -> None:
    async with AsyncExitStack() as stack:
        process = await stack.enter_async_context(running(command))
        pollers = [Poller(process.url) for _ in range(CLIENTS)]
        polls: list[asyncio.Task[tuple[int, str]]] = []
        wires: list[Wire] = []
        for start in range(0, CLIENTS, AT_ONCE):
            polls += await asyncio.gather(*[poller.wait() for poller in pollers[start : start + AT_ONCE]])
            joined = await asyncio.gather(*[stack.enter_async_context(join(process.url)) for _ in range(AT_ONCE)])
            wires += [wire for wire, _ in joined]
        began = time.monotonic()
        ending = asyncio.create_task(process.end(signal.SIGTERM))
        assert await asyncio.gather(*[wire.until_closed() for wire in wires]) == [1000] * CLIENTS
        assert await asyncio.gather(*polls) == [(200, "1")] * CLIENTS
        await asyncio.gather(*[poller.close() for poller in pollers])
        assert await ending in (0, -signal.SIGTERM)
        assert time.monotonic() - began < 5  # the grace of the app
        assert reasons_in(process.log) == {"server shutting down": 2 * CLIENTS}
        check_log(process.log)
        assert not re.search(r"\bERROR\b", process.log), process.log


async def process_of(url: str) -> tuple[Wire, int]:
    """Open a WebSocket of its own; give it and the id of the process that it got to."""
    connection = await open_websocket(f"ws{url.removeprefix('http')}{TARGET}", proxy=None, ping_interval=None)
    wire = Wire(connection)
    await wire.receive()
    await join_namespace(wire)
    await wire.send('420["where"]')
    answer = await wire.receive()
    assert isinstance(answer, str)
    return wire, json.loads(answer[3:])[0]


async def test_several_workers_serve_websocket_only_and_say_what_that_means() -> None:
    async with running([*MIZZEN, "--workers", "2"]) as process:
        log = process.log
        assert "WebSocket only" in log
        assert "its own worker only" in log
        async with httpx.AsyncClient(base_url=process.url, trust_env=False) as http:
            refused = await http.get("/socket.io/?EIO=4&transport=polling")
            assert (refused.status_code, refused.json()) == (400, {"code": 0, "message": "Transport unknown"})
        wires = [await process_of(process.url) for _ in range(6)]
        shouter, pid = wires[0]
        await shouter.send('42["shout"]')
        for wire, own in wires:
            if own == pid:
                assert await wire.receive() == f'42["shouted",{pid}]'
        closing = [asyncio.create_task(wire.until_closed()) for wire, _ in wires]
        # All clients may have come to the worker that was there first; the other has nothing to tell before it has started.
        await until(lambda: process.log.count("Application startup complete.") == 2)
        assert await process.end(signal.SIGTERM) == 0
        assert await asyncio.gather(*closing) == [1000] * len(wires)
        counts = [json.loads(line)["reasons"] for line in process.log.splitlines() if line.startswith('{"reasons"')]
        assert len(counts) == 2
        assert sum(count.get("server shutting down", 0) for count in counts) == len(wires)
        check_log(process.log)


@pytest.mark.parametrize(
    ("transports", "status", "said"),
    [("both", 200, "sticky sessions"), ("polling", 200, "sticky sessions"), ("websocket", 400, "WebSocket only")],
)
async def test_several_workers_offer_what_they_are_told_to(transports: str, status: int, said: str) -> None:
    async with running([*MIZZEN, "--workers", "2", "--transports", transports]) as process:
        assert said in process.log
        async with httpx.AsyncClient(base_url=process.url, trust_env=False) as http:
            assert (await http.get("/socket.io/?EIO=4&transport=polling")).status_code == status
        if status == 200:
            await until(lambda: "keeps each client with one worker" in process.log)
        assert await process.end(signal.SIGTERM) == 0


async def test_one_worker_may_be_told_what_to_offer() -> None:
    async with running([*MIZZEN, "--transports", "websocket"]) as process:
        async with httpx.AsyncClient(base_url=process.url, trust_env=False) as http:
            assert (await http.get("/socket.io/?EIO=4&transport=polling")).status_code == 400


async def test_tls_carries_messages_and_the_close() -> None:
    context = ssl.create_default_context(cafile=CERTIFICATE)
    async with running([*MIZZEN, "--ssl-keyfile", KEY, "--ssl-certfile", CERTIFICATE]) as process:
        address = f"wss{process.url.removeprefix('http')}{TARGET}"
        async with open_websocket(address, ssl=context, proxy=None) as connection:
            wire = Wire(connection)
            await wire.receive()
            await join_namespace(wire)
            await wire.send(f'42["nobody listens","{"a" * 900_000}"]')
            await wire.send('421["where"]')
            assert isinstance(await wire.receive(), str)
            ending = asyncio.create_task(process.end(signal.SIGTERM))
            assert await wire.until_closed() == 1000
        assert await ending in (0, -signal.SIGTERM)
        assert reasons_in(process.log) == {"server shutting down": 1}
        check_log(process.log)


async def test_a_key_with_a_password_needs_it() -> None:
    context = ssl.create_default_context(cafile=CERTIFICATE)
    encrypted = [*MIZZEN, "--ssl-keyfile", str(HERE / "localhost.encrypted.key"), "--ssl-certfile", CERTIFICATE]
    async with running([*encrypted, "--ssl-keyfile-password", "ahoy"]) as process:
        address = f"wss{process.url.removeprefix('http')}{TARGET}"
        async with open_websocket(address, ssl=context, proxy=None) as connection:
            assert str(await connection.recv()).startswith("0{")
    command = [argument.replace("{port}", "0") for argument in encrypted]
    refused = await asyncio.create_subprocess_exec(
        *(sys.executable, *command, "--ssl-keyfile-password", "wrong"),
        cwd=HERE.parent.parent,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(WITHIN):
        output, _ = await refused.communicate()
    assert refused.returncode not in (0, None), output


async def told_of_the_client(url: str, headers: Mapping[str, str] | None = None) -> tuple[dict[str, object], dict[str, object]]:
    """Give what the app sees of a client over HTTP, and over a WebSocket."""
    async with httpx.AsyncClient(base_url=url, trust_env=False, headers=dict(headers or {})) as http:
        over_http = (await http.get("/client")).json()
    async with join(url, headers=headers) as (wire, _):
        await wire.send('421["client"]')
        _, (over_websocket,) = await wire.receive_json()
    return over_http, over_websocket


FORWARDED = {"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https"}


@pytest.mark.parametrize(
    ("options", "trusted"),
    [
        ([], True),
        (["--no-proxy-headers"], False),
        (["--proxy-headers", "--forwarded-allow-ips", "192.0.2.1"], False),
        (["--forwarded-allow-ips", "192.0.2.1,127.0.0.1"], True),
    ],
)
async def test_proxies_that_are_trusted_say_who_the_client_is(options: Sequence[str], trusted: bool) -> None:
    async with running([*MIZZEN, *options]) as process:
        over_http, over_websocket = await told_of_the_client(process.url, FORWARDED)
    host = "203.0.113.9" if trusted else "127.0.0.1"
    assert (over_http["host"], over_http["scheme"]) == (host, "https" if trusted else "http")
    assert (over_websocket["host"], over_websocket["secure"]) == (host, trusted)


async def test_the_path_under_which_a_proxy_serves_it_is_known() -> None:
    async with running([*MIZZEN, "--root-path", "/below"]) as process:
        # such a proxy takes the path off what it passes on
        over_http, over_websocket = await told_of_the_client(process.url)
        assert (over_http["root"], over_http["path"]) == ("/below", "/below/client")
        assert (over_websocket["root"], over_websocket["path"]) == ("/below", "/below/socket.io/")
        async with open_polling(process.url) as polling:
            assert (await polling.post("40")).text == "ok"


async def test_an_idle_connection_is_kept_as_long_as_it_is_told_to() -> None:
    async with running([*MIZZEN, "--timeout-keep-alive", "0"]) as process:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(process.url.rpartition(":")[2]))
        writer.write(b"GET /where HTTP/1.1\r\nHost: localhost\r\n\r\n")
        began = time.monotonic()
        async with asyncio.timeout(WITHIN):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200")
        assert time.monotonic() - began < 4  # without the option it is kept for 5 s
        writer.close()


async def test_beyond_its_limit_http_is_answered_with_503_and_websockets_count() -> None:
    async with running([*MIZZEN, "--limit-concurrency", "3"]) as process:

        async def status() -> int:
            async with httpx.AsyncClient(base_url=process.url, trust_env=False) as http:
                return (await http.get("/where", headers={"connection": "close"})).status_code

        assert await status() == 200
        async with open_wire(process.url):
            assert await status() == 200
            async with open_wire(process.url):
                assert await status() == 503
        async with asyncio.timeout(WITHIN):
            while await status() != 200:
                await asyncio.sleep(0.01)


async def test_gunicorn_serves_natively_with_a_worker_of_uvicorns() -> None:
    async with running([*GUNICORN, "--workers", "2"]) as process:
        async with join(process.url) as (wire, _):
            await wire.send('421["carrier"]')
            assert await wire.receive() == '431["NativeTransport"]'
            await wire.send(f'42["nobody listens","{"a" * 900_000}"]')
            await wire.send('422["where"]')
            assert isinstance(await wire.receive(), str)
            ending = asyncio.create_task(process.end(signal.SIGTERM))
            assert await wire.until_closed() == 1000
        assert await ending == 0
        check_log(process.log)


async def test_a_unix_socket_is_served_and_removed_at_the_end(tmp_path: Path) -> None:
    path = str(tmp_path / "mizzen.sock")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mizzen", "run", APP, "--uds", path),
        cwd=HERE.parent.parent,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        await until(lambda: os.path.exists(path) or process.returncode is not None)
        async with unix_connect(path, uri=f"ws://localhost{TARGET}") as connection:
            wire = Wire(connection)
            await wire.receive()
            await join_namespace(wire)
        process.terminate()
        async with asyncio.timeout(WITHIN):
            output, _ = await process.communicate()
        assert process.returncode in (0, -signal.SIGTERM), output
        assert "/socket.io/?EIO=4&transport=websocket" in output.decode()
        assert not os.path.exists(path)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_change_starts_it_again_and_clients_see_it_close(tmp_path: Path) -> None:
    watched = tmp_path / "watched.py"
    watched.write_text("")
    async with running([*MIZZEN, "--reload", "--reload-dir", str(tmp_path)]) as process:
        wire, before = await process_of(process.url)
        closing = asyncio.create_task(wire.until_closed())
        await until(lambda: rewrite(watched) and closing.done())
        assert closing.result() == 1000
        wire, after = await process_of_next(process)
        assert after != before
        await wire.connection.close()
        await process.end(signal.SIGTERM)
        check_log(process.log)


def rewrite(path: Path) -> bool:
    path.write_text(path.read_text() + "#\n")
    return True


async def process_of_next(process: Process) -> tuple[Wire, int]:
    async with asyncio.timeout(3 * WITHIN):
        while True:
            try:
                return await process_of(process.url)
            except OSError:
                await asyncio.sleep(0.02)


def test_the_environment_says_which_transports_a_server_offers_whose_code_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIZZEN_TRANSPORTS", " websocket ")
    assert Server().options.transports == ("websocket",)
    assert Server(transports=["polling"]).options.transports == ("polling",)
    monkeypatch.setenv("MIZZEN_TRANSPORTS", "polling,websocket")
    assert Server().options.transports == ("polling", "websocket")
    monkeypatch.setenv("MIZZEN_TRANSPORTS", "")
    assert Server().options.transports == ("polling", "websocket")
    monkeypatch.setenv("MIZZEN_TRANSPORTS", "webtransport")
    with pytest.raises(OptionsError, match="webtransport"):
        Server()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["app"], "did you mean app:io?"),
        (["tests.nothing:io"], "tests.nothing"),
        (["tests.nothing:io", "--workers", "2"], "tests.nothing"),
        ([APP, "--reload", "--workers", "2"], "--reload is for one process"),
        ([APP, "--reload-dir", "."], "no effect without --reload"),
        ([APP, "--ssl-keyfile", KEY], "needs --ssl-certfile"),
        ([APP, "--ssl-certfile", "nowhere.pem"], "nowhere.pem"),
        ([APP, "--workers", "0"], "x>=1"),
        ([APP, "--transports", "carrier-pigeon"], "carrier-pigeon"),
    ],
)
def test_what_cannot_work_is_refused_with_a_word_on_why(arguments: list[str], said: str) -> None:
    # The variable is put back at the end.
    result = CliRunner(env={"MIZZEN_TRANSPORTS": ""}).invoke(main, ["run", *arguments])
    assert result.exit_code == 2
    assert said in result.output


def test_the_help_names_the_options_of_uvicorn() -> None:
    output = CliRunner().invoke(main, ["run", "--help"]).output
    for option in (
        "--uds",
        "--reload",
        "--workers",
        "--ssl-keyfile-password",
        "--forwarded-allow-ips",
        "--root-path",
        "--limit-concurrency",
    ):
        assert option in output


@pytest.mark.parametrize(("level", "logged"), [("trace", True), ("info", True), ("warning", False)])
async def test_the_log_has_a_line_for_each_request_from_level_info_on(level: str, logged: bool) -> None:
    async with running([*MIZZEN, "--log-level", level]) as process:
        await told_of_the_client(process.url)
        assert ('"GET /client HTTP/1.1" 200' in process.log) is logged
