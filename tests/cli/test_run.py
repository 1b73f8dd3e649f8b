"""`mizzen run`: its options, several workers, TLS and Unix sockets, and an end in which every client is told."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import ssl
import sys
import time
from collections.abc import Sequence
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
from tests.support import NATIVE, WITHIN, Wire, join, join_namespace, until
from tests.test_servers import Process, check_log, running

APP = "tests.cli.counting_app:io"
HERE = Path(__file__).resolve().parent
KEY, CERTIFICATE = str(HERE / "localhost.key"), str(HERE / "localhost.crt")
MIZZEN = ("-m", "mizzen", "run", APP, "--port", "{port}")
UVICORN = ("-m", "uvicorn", APP, "--port", "{port}", "--ws", NATIVE)
TARGET = "/socket.io/?EIO=4&transport=websocket"
CLIENTS = 200


async def open_poll(http: httpx.AsyncClient) -> asyncio.Task[httpx.Response]:
    """Open a session on polling that has joined, and leave a GET waiting."""
    opened = await http.get("/socket.io/?EIO=4&transport=polling")
    query = f"/socket.io/?EIO=4&transport=polling&sid={json.loads(opened.text[1:])['sid']}"
    assert (await http.post(query, content="40")).text == "ok"
    assert (await http.get(query)).text.startswith("40{")
    return asyncio.create_task(http.get(query))


def reasons_in(log: str) -> dict[str, int]:
    found = re.search(r'^\{"reasons": (.*)\}$', log, re.MULTILINE)
    assert found, log
    return json.loads(found[1])


@pytest.mark.parametrize("command", [MIZZEN, UVICORN], ids=["mizzen run", "uvicorn --ws"])
async def test_when_it_is_told_to_end_every_client_is_told_in_time(command: Sequence[str]) -> None:
    limits = httpx.Limits(max_connections=None)
    async with AsyncExitStack() as stack:
        process = await stack.enter_async_context(running(command))
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=process.url, timeout=30, limits=limits, trust_env=False))
        polls = [await open_poll(http) for _ in range(CLIENTS)]
        wires = [(await stack.enter_async_context(join(process.url)))[0] for _ in range(CLIENTS)]
        began = time.monotonic()
        ending = asyncio.create_task(process.end(signal.SIGTERM))
        for wire in wires:
            assert await wire.until_closed() == 1000
        for poll in polls:
            answer = await poll
            assert (answer.status_code, answer.text) == (200, "1")
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
