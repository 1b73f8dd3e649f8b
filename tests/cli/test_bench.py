"""`mizzen bench`: what it measures, what it prints, and how it ends."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import subprocess
import sys
from array import array
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fastapi import FastAPI, HTTPException

from mizzen import ConnectRefused, Server, Socket
from mizzen.cli import main
from mizzen.cli.bench import SPARE_FILES, raise_file_limit
from mizzen.cli.load import Load, Plan, Results
from tests.support import WITHIN, serve, until

NOBODY = "http://127.0.0.1:1"


class Seen:
    """What the server has seen."""

    def __init__(self) -> None:
        self.sizes: set[int] = set()
        self.now = 0
        self.most = 0


def make(seen: Seen) -> Server:
    api = FastAPI()

    @api.get("/fine")
    async def fine() -> int:
        return 1

    @api.get("/wrong")
    async def wrong() -> None:
        raise HTTPException(503)

    io = Server(api, close_grace=0.0)

    @io.on("echo")
    async def echo(socket: Socket, text: str) -> str:
        seen.sizes.add(len(text))
        return text

    @io.on("slow")
    async def slow(socket: Socket, text: str) -> int:
        seen.now += 1
        seen.most = max(seen.most, seen.now)
        await asyncio.sleep(0.05)
        seen.now -= 1
        return 1

    @io.on("kick")
    async def kick(socket: Socket, text: str) -> None:
        socket.disconnect()

    @io.of("/full").on("connect")
    async def connect(socket: Socket) -> None:
        raise ConnectRefused("full")

    return io


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def io(seen: Seen) -> Server:
    return make(seen)


@pytest.fixture
async def url(io: Server) -> AsyncIterator[str]:
    async with serve(io) as url:
        yield url


async def run(url: str, *arguments: str) -> Result:
    """Run `mizzen bench` to its end, in a thread."""
    async with asyncio.timeout(2 * WITHIN):
        result = await asyncio.to_thread(CliRunner().invoke, main, ["bench", url, "-c", "5", "-d", "0.1", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


async def figures(url: str, *arguments: str) -> dict[str, Any]:
    result = await run(url, "--json", *arguments)
    assert result.stderr == ""
    return json.loads(result.stdout) | {"code": result.exit_code}


async def test_an_event_is_measured(io: Server, seen: Seen, url: str) -> None:
    told = await figures(url, "--size", "77")
    assert told["code"] == 0
    assert (told["connected"], told["failed"], told["errors"], told["disconnected"]) == (5, 0, {}, 0)
    assert told["messages"] > 0
    assert 0 < told["rate"] * told["seconds"] <= told["messages"] + 1
    latency = told["latency_ms"]
    assert list(latency) == ["p50", "p90", "p99", "max"]
    assert sorted(latency.values()) == list(latency.values())
    assert told["client_cpu_us_per_message"] > 0
    assert seen.sizes == {77}
    await until(lambda: not io.sessions.connections)


async def test_requests_are_measured(url: str) -> None:
    told = await figures(url, "--get", "/fine")
    assert (told["code"], told["errors"]) == (0, {})
    told = await figures(url, "--get", "/wrong")
    assert told["code"] == 1
    assert told["errors"] == {"503 Service Unavailable": told["messages"]}


@pytest.mark.parametrize("in_flight", [1, 4])
async def test_so_many_are_in_flight(seen: Seen, url: str, in_flight: int) -> None:
    await figures(url, "--event", "slow", "--in-flight", str(in_flight))
    assert seen.most == 5 * in_flight


async def test_a_rate_is_kept(url: str) -> None:
    told = await figures(url, "--rate", "200")
    assert 0 < told["messages"] <= 20


async def test_with_a_rate_the_latency_counts_from_when_it_was_due(url: str) -> None:
    # One client that is answered after 50 ms cannot do 1,000 in a second: the later ones wait for their turn.
    told = await figures(url, "--event", "slow", "--rate", "1000", "-c", "1")
    assert told["messages"] < 20
    assert told["latency_ms"]["max"] > 20


async def test_events_that_come_are_counted(io: Server, url: str) -> None:
    async def tell() -> None:
        await until(lambda: len(io.sockets) == 5)
        while True:
            io.emit("news", 1)
            await asyncio.sleep(0.005)

    telling = asyncio.create_task(tell())
    told = await figures(url, "--listen", "news")
    telling.cancel()
    assert (told["code"], told["latency_ms"]) == (0, {})
    assert told["messages"] >= 5


async def test_no_answer_is_an_error_of_its_kind(url: str) -> None:
    told = await figures(url, "--event", "nobody", "--timeout", "0.05")
    assert told["code"] == 1
    assert list(told["errors"]) == ["AckTimeout: no ack of 'nobody' within 0.05 s"]


async def test_connections_that_are_lost_are_told(url: str) -> None:
    told = await figures(url, "--event", "kick")
    assert (told["code"], told["disconnected"]) == (1, 5)
    assert told["errors"]["disconnected: io server disconnect"] == 5


async def test_clients_that_are_refused_are_told(url: str) -> None:
    told = await figures(url, "--namespace", "/full")
    assert (told["code"], told["connected"], told["failed"]) == (3, 0, 5)
    assert told["errors"] == {"ConnectRefused: full": 5}


async def test_a_server_that_is_not_there() -> None:
    told = await figures(NOBODY)
    assert (told["code"], told["connected"], told["failed"]) == (3, 0, 5)


async def test_polling_is_measured(url: str) -> None:
    told = await figures(url, "--transport", "polling")
    assert (told["code"], told["connected"]) == (0, 5)
    assert told["messages"] > 0


async def test_the_table(url: str) -> None:
    result = await run(url)
    assert result.exit_code == 0
    for shown in ("echo, 0.1 s", "connected", "5 of 5", "messages", "rate", "latency p50", "latency p99", "latency max", "client CPU"):
        assert shown in result.stdout
    assert result.stderr == ""  # no progress bar where nobody looks on
    result = await run(url, "--event", "nobody", "--timeout", "0.05")
    assert "× AckTimeout: no ack of 'nobody'" in result.stdout


async def test_clients_come_as_fast_as_told(url: str) -> None:
    told = await figures(url, "--ramp-up", "50")
    assert told["connected"] == 5
    assert told["connect_seconds"] >= 3.5 / 50


async def test_the_progress_is_told(url: str) -> None:
    seen: list[tuple[str, float]] = []
    plan = Plan(
        url=url,
        arguments={"auth": None},
        namespace=None,
        connections=4,
        ramp_up=None,
        event="echo",
        path=None,
        listen=None,
        size=1,
        in_flight=1,
        rate=None,
        duration=0.25,
        timeout=WITHIN,
    )
    results = await Load(plan, lambda phase, done: seen.append((phase, done))).run()
    assert results.connected == 4
    assert [done for phase, done in seen if phase == "connecting"] == [0.25, 0.5, 0.75, 1.0]
    measuring = [done for phase, done in seen if phase == "measuring"]
    assert measuring
    assert measuring == sorted(measuring)
    assert seen[-1][0] == "closing"


async def test_ctrl_c_prints_what_was_measured_until_then(seen: Seen, url: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "mizzen", "bench", url, "-c", "2", "-d", "1000", "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    await until(lambda: seen.sizes)
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(WITHIN):
        output, errors = await process.communicate()
    assert (process.returncode, errors) == (130, b"")
    told = json.loads(output)
    assert told["connected"] == 2
    assert 0 < told["seconds"] < 1000


def test_percentiles() -> None:
    results = Results()
    assert results.percentiles() == {}
    results.latencies = array("d", [number / 1000 for number in range(101)])
    assert results.percentiles() == {"p50": 50.0, "p90": 90.0, "p99": 99.0, "max": 100.0}


@pytest.fixture
def limit() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("limit")
def test_the_file_limit_is_raised_within_what_is_allowed() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    raise_file_limit(100)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 256
    raise_file_limit(500)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 500 + SPARE_FILES


def test_a_file_limit_that_is_too_low_is_told() -> None:
    script = f"""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1024))
from mizzen.cli import main
main(["bench", {NOBODY!r}, "-c", "5000"])
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    told = " ".join(ended.stderr.split())
    assert ended.returncode == 2
    assert "5,000 connections need 5,064 open files, and this process may have 1,024" in told
    assert told.endswith("or use --connections 960")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--get", "/", "--listen", "x"), "one at a time"),
        (("-c", "0"), "not in the range"),
        (("--duration", "0"), "not in the range"),
        (("--auth", "1"), "no JSON object"),
    ],
)
def test_a_command_line_that_cannot_work_is_told(arguments: tuple[str, ...], told: str) -> None:
    result = CliRunner().invoke(main, ["bench", NOBODY, *arguments])
    assert result.exit_code == 2
    assert told in result.output.replace("\n", " ")
