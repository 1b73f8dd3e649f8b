"""The same small app on every ASGI server: both transports, the upgrade, HTTP and socket requests, and a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sys
import tempfile
import tomllib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import IO

import httpx
import pytest
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import InvalidMessage, InvalidStatus
from websockets.typing import Origin

from tests.support import NATIVE, WITHIN, Polling, Wire, join, join_namespace, open_polling

ROOT = Path(__file__).resolve().parent.parent
APP = "tests.transports.served:io"
PLACEHOLDER = '{"_placeholder":true,"num":0}'
PYTEST = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
WARNINGS = ",".join(["default", *(rule for rule in PYTEST["filterwarnings"] if rule.startswith("ignore:"))])
"""Every warning is told, less those that no test minds."""

SANSIO = "uvicorn, h11, sans-IO websockets"
UVICORN = tuple(int(part) for part in version("uvicorn").split(".")[:3])


def free_port() -> int:
    """Give a port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def uvicorn_command(*more: str) -> list[str]:
    return ["-m", "uvicorn", APP, "--port", "{port}", *more]


COMMANDS = {
    "uvicorn": uvicorn_command(),
    SANSIO: uvicorn_command("--http", "h11", "--ws", "websockets-sansio", "--loop", "asyncio"),
    "uvicorn, native": uvicorn_command("--ws", NATIVE),
    "uvicorn, h11, native": uvicorn_command("--http", "h11", "--ws", NATIVE, "--loop", "asyncio"),
    "uvicorn, httptools, wsproto": uvicorn_command("--http", "httptools", "--ws", "wsproto"),
    "hypercorn": ["-m", "hypercorn", APP, "--bind", "127.0.0.1:{port}", "--graceful-timeout", "2"],
    "granian": ["-m", "granian", APP, "--interface", "asgi", "--port", "{port}", "--workers-kill-timeout", "3"],
    "mizzen": ["-m", "mizzen", "run", APP, "--port", "{port}"],
}


class Process:
    """A server in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, output: IO[bytes]) -> None:
        self.process = process
        self.url = url
        self._output = output

    @property
    def log(self) -> str:
        """What it has printed so far."""
        self._output.seek(0)
        return self._output.read().decode(errors="replace")

    async def end(self, how: signal.Signals) -> int:
        """End it; give the exit code."""
        self.process.send_signal(how)
        async with asyncio.timeout(WITHIN):
            return await self.process.wait()


@asynccontextmanager
async def running(server: str | Sequence[str]) -> AsyncIterator[Process]:
    """Run the app on a server, or a command of Python's with `{port}` in it, until the end of the block."""
    port = free_port()
    with tempfile.TemporaryFile() as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *[argument.replace("{port}", str(port)) for argument in (COMMANDS[server] if isinstance(server, str) else server)],
            cwd=ROOT,
            env=os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": WARNINGS},
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # hypercorn and granian have workers, which are to go with them
        )
        served = Process(process, f"http://127.0.0.1:{port}", output)
        try:
            async with asyncio.timeout(3 * WITHIN):
                while not await listens(port):
                    assert process.returncode is None, served.log
                    await asyncio.sleep(0.01)
            yield served
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def listens(port: int) -> bool:
    """Say whether a server accepts connections on a port."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


async def receive_by_polling(polling: Polling, count: int) -> list[str]:
    """Poll until `count` packets have come, answering pings."""
    packets: list[str] = []
    async with asyncio.timeout(WITHIN):
        while len(packets) < count:
            for packet in (await polling.get()).text.split("\x1e"):
                if packet == "2":
                    assert (await polling.post("3")).text == "ok"
                else:
                    packets.append(packet)
    assert len(packets) == count, packets
    return packets


async def talk_by_polling(polling: Polling) -> None:
    assert (await polling.post("40")).text == "ok"
    (joined,) = await receive_by_polling(polling, 1)
    assert joined.startswith('40{"sid":')
    assert (await polling.post('421["echo","é🍰"]')).status_code == 200
    assert await receive_by_polling(polling, 1) == ['431["é🍰"]']
    assert (await polling.post(f'451-["binary",{PLACEHOLDER}]\x1ebAQID')).status_code == 200
    assert await receive_by_polling(polling, 2) == [f'451-["reversed",{PLACEHOLDER}]', "bAwIB"]
    assert (await polling.post('422["get",{"url":"/hello/you"}]')).status_code == 200
    (answer,) = await receive_by_polling(polling, 1)
    assert json.loads(answer[3:])[0]["body"] == {"hello": "you", "by socket": True}


async def talk_by_websocket(wire: Wire) -> None:
    await wire.send('421["echo","é🍰"]')
    assert await wire.receive() == '431["é🍰"]'
    await wire.send(f'451-["binary",{PLACEHOLDER}]', b"\x01\x02\x03")
    assert [await wire.receive(), await wire.receive()] == [f'451-["reversed",{PLACEHOLDER}]', b"\x03\x02\x01"]
    await wire.send('422["get",{"url":"/hello/you"}]')
    head, (answer,) = await wire.receive_json()
    assert (head, answer["statusCode"], answer["body"]) == ("432", 200, {"hello": "you", "by socket": True})
    await wire.send(f'423["echo","{"a" * 200_000}"]')
    assert len(await wire.receive()) == 200_000 + 7


async def upgrade(url: str) -> None:
    """Open a session on polling, move it to WebSocket, and talk there."""
    async with open_polling(url) as polling:
        address = f"ws{url.removeprefix('http')}/socket.io/?EIO=4&transport=websocket&sid={polling.sid}"
        async with open_websocket(address, ping_interval=None, proxy=None) as connection:
            wire = Wire(connection)
            poll = asyncio.create_task(polling.get())
            await wire.send("2probe")
            assert await connection.recv() == "3probe"
            packets = (await poll).text.split("\x1e")
            await wire.send("5")
            if "2" in packets:
                await wire.send("3")
            await join_namespace(wire)
            await talk_by_websocket(wire)
            assert (await polling.get()).json() == {"code": 3, "message": "Bad request"}


async def status_before_the_body(url: str, target: str, length: int) -> int:
    """Announce a body, send none of it, and give the status of the answer."""
    host = url.removeprefix("http://")
    reader, writer = await asyncio.open_connection(*host.split(":"))
    writer.write(f"POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n".encode("ascii"))
    async with asyncio.timeout(WITHIN):
        line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return int(line.split()[1])


async def refusals(url: str, server: str) -> None:
    """See that refusals reach the client as they should, and that a foreign page is kept out."""
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        answer = await http.get("/socket.io/?EIO=4&transport=polling&sid=unknown")
        assert (answer.status_code, answer.json()) == (400, {"code": 1, "message": "Session ID unknown"})
        answer = await http.get("/socket.io/?EIO=4&transport=polling", headers={"origin": "http://foreign.example"})
        assert (answer.status_code, answer.json()) == (403, {"code": 4, "message": "Forbidden"})
        answer = await http.get("/socket.io/?EIO=4&transport=polling", headers={"origin": url})
        assert answer.status_code == 200
        sid = json.loads(answer.text[1:])["sid"]
        assert await status_before_the_body(url, f"/socket.io/?EIO=4&transport=polling&sid={sid}", 1_000_001) == 413
        assert (await http.post(f"/socket.io/?EIO=4&transport=polling&sid={sid}", content=b"6")).text == "ok"
    address = f"ws{url.removeprefix('http')}/socket.io/?EIO=4&transport=websocket"
    # Before that version uvicorn's sans-IO class sent a Content-Length of its own beside the app's, and clients refuse an answer with two.
    unreadable = server == SANSIO and UVICORN < (0, 52, 1)
    with pytest.raises(InvalidMessage if unreadable else InvalidStatus) as refused:
        await open_websocket(address, origin=Origin("http://foreign.example"), proxy=None)
    if isinstance(refused.value, InvalidStatus):
        # 400 where the server lets an app answer a WebSocket request, else its own 403
        assert refused.value.response.status_code in (400, 403)


def check_log(log: str) -> None:
    """See that nothing went wrong that only the log tells."""
    for bad in ("Traceback", "Exception", "never retrieved", "never awaited", "Warning:", "was destroyed"):
        assert bad not in log, log


@pytest.mark.parametrize("server", COMMANDS)
async def test_an_asgi_server_carries_everything_and_ends_cleanly(server: str) -> None:
    async with running(server) as process:
        url = process.url
        async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
            assert (await http.get("/hello/you")).json() == {"hello": "you", "by socket": False}
        async with open_polling(url) as polling:
            await talk_by_polling(polling)
            async with join(url) as (wire, _):
                await talk_by_websocket(wire)
            await polling.post("1")
        await upgrade(url)
        await refusals(url, server)
        async with join(url) as (wire, _):
            wire.connection.transport.abort()
        code = await process.end(signal.SIGTERM)
        # uvicorn raises the signal again once it has shut down
        assert code in ((0, -signal.SIGTERM) if server.startswith(("uvicorn", "mizzen")) else (0,)), process.log
        check_log(process.log)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("server", ["mizzen", "uvicorn", "uvicorn, native"])
async def test_a_signal_ends_the_server_and_clients_of_both_transports_see_it(server: str, how: signal.Signals) -> None:
    async with running(server) as process, open_polling(process.url) as polling, join(process.url) as (wire, _):
        await polling.post("40")
        await receive_by_polling(polling, 1)
        poll = asyncio.create_task(polling.get())
        await wire.send('421["echo"]')
        assert await wire.receive() == "431[]"
        ending = asyncio.create_task(process.end(how))
        close_code = await wire.until_closed()
        answer = await poll
        assert answer.status_code == 200
        if server == "mizzen":
            assert close_code == 1000
            assert answer.text.split("\x1e")[-1] == "1"
        else:
            assert close_code in (1000, 1012)  # "service restart"
            assert answer.text in ("1", "2")
        code = await ending
        assert code in (0, -how), process.log
        check_log(process.log)
        assert not re.search(r"\bERROR\b", process.log), process.log


async def test_clients_come_back_to_a_server_that_was_started_again() -> None:
    for _ in range(2):
        async with running("mizzen") as process:
            async with join(process.url) as (wire, _):
                await talk_by_websocket(wire)
            assert await process.end(signal.SIGTERM) in (0, -signal.SIGTERM)
