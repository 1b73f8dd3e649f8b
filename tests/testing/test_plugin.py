"""The pytest plugin, in runs of pytest of its own: what fails, with which words, and under which other plugins."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from mizzen import Server, Socket
from mizzen.testing import ClientFactory, LoggedErrors, linked_pair
from mizzen.testing import plugin as the_plugin

APP = """
import asyncio
import pytest
from mizzen import RemoteError, Server

@pytest.fixture
def io():
    io = Server()

    @io.on("boom")
    async def boom(socket):
        raise ZeroDivisionError("in the handler")

    @io.on("disconnect")
    async def disconnect(socket):
        if socket.data.get("fails"):
            raise ZeroDivisionError("at the end")

    @io.on("fail at the end")
    async def fail(socket):
        socket.data["fails"] = True

    return io
"""

TESTS = """
async def test_passes(mizzen_client, io):
    async with mizzen_client(io) as client:
        assert client.connected

async def test_fails(mizzen_client, io):
    async with mizzen_client(io) as client:
        client.emit("boom")
        client.emit("boom")

async def test_is_meant(mizzen_client, io):
    async with mizzen_client(io) as client:
        with pytest.raises(RemoteError):
            await client.call("boom")
    assert isinstance(mizzen_client.errors.cause, ZeroDivisionError)
    mizzen_client.errors.clear()

async def test_fails_anyway(mizzen_client, io):
    async with mizzen_client(io) as client:
        client.emit("boom")
        await client.receive("answer", timeout=0.05)

@pytest.fixture
async def connected(mizzen_client, io):
    async with mizzen_client(io) as client:
        yield client

async def test_fails_at_its_end(connected):
    connected.emit("fail at the end")
    await connected.receive_nothing()

async def test_other_clients(mizzen_errors, io):
    from mizzen.testing import TestClient
    async with TestClient(io) as client:
        client.emit("boom")

async def test_without_the_fixture(io):
    from mizzen.testing import TestClient
    async with TestClient(io) as client:
        client.emit("boom")
"""

OUTCOMES = {
    "test_passes": "PASSED",
    "test_fails": "FAILED",
    "test_is_meant": "PASSED",
    "test_fails_anyway": "FAILED",
    "test_fails_at_its_end": "ERROR",
    "test_other_clients": "FAILED",
    "test_without_the_fixture": "PASSED",
}


def run_pytest(folder: Path, source: str, *options: str) -> tuple[dict[str, str], str]:
    """Run a file of tests; give the outcome of each, and what was printed."""
    (folder / "test_it.py").write_text(source)
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    command = [sys.executable, "-m", "pytest", "-rA", "--color=no", "-p", "no:cacheprovider", *options, "test_it.py"]
    printed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout
    found = re.findall(r"^(PASSED|FAILED|ERROR|SKIPPED) test_it\.py::(\w+)", printed, re.MULTILINE)
    return {name: outcome for outcome, name in found}, printed


def test_errors_of_handlers_fail_the_test_with_pytest_asyncio(tmp_path: Path) -> None:
    outcomes, printed = run_pytest(
        tmp_path, APP + TESTS, "-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function", "-p", "no:anyio"
    )
    assert outcomes == OUTCOMES, printed
    assert "AssertionError: 2 errors were logged (`errors.clear()` if that is meant):" in printed
    assert re.search(r"\n(E +)?  mizzen\.server: 'boom' of <Socket .*> failed: ZeroDivisionError\('in the handler'\)", printed)
    assert 'raise ZeroDivisionError("in the handler")' in printed, "with the traceback of the first"
    assert "no event 'answer' came within 0.05 s; there is nothing" in printed
    assert "Mizzen logged meanwhile:" in printed
    assert "AssertionError: an error was logged (`errors.clear()` if that is meant):" in printed
    assert "ZeroDivisionError('at the end')" in printed


def test_it_works_the_same_with_anyio(tmp_path: Path) -> None:
    backend = '\n@pytest.fixture\ndef anyio_backend():\n    return "asyncio"\n\npytestmark = pytest.mark.anyio\n'
    outcomes, printed = run_pytest(tmp_path, APP + backend + TESTS, "-p", "no:asyncio")
    assert outcomes == OUTCOMES, printed


def test_pytest_finds_it_by_itself() -> None:
    [point] = [each for each in entry_points(group="pytest11") if each.name == "mizzen"]
    assert point.load() is the_plugin


# Here, with this project's own plugins


async def test_the_fixture_makes_clients_of_any_kind(mizzen_client: ClientFactory) -> None:
    io = Server()
    io.of("/chat")
    async with mizzen_client(io, "/chat", headers={"a": "b"}, eio=3) as client:
        assert client.name == "/chat"
        assert io.of("/chat").sockets


async def test_errors_are_those_that_mizzen_logs_while_it_is_in_use() -> None:
    io = Server()

    @io.on("boom")
    async def boom(socket: Socket, text: str) -> None:
        raise ZeroDivisionError(text)

    async with linked_pair(io) as (client, _):
        client.emit("boom", "before")
        await client.receive_nothing()
        with LoggedErrors() as errors:
            client.emit("boom", 1)  # arguments that are no str: the client's error
            client.emit("boom", "within")
            await client.receive_nothing()
            assert [str(each) for each in errors.exceptions] == ["within"]
            errors.clear()
        client.emit("boom", "after")
        await client.receive_nothing()
        assert not errors.records


def test_errors_without_an_exception_are_told_too() -> None:
    def run() -> None:
        with LoggedErrors():
            logging.getLogger("mizzen.server").error("something is %s", "wrong")

    with pytest.raises(AssertionError, match=r"an error was logged .*\n  mizzen.server: something is wrong") as failed:
        run()
    assert failed.value.__cause__ is None


def test_an_exception_of_the_block_is_told_with_the_errors() -> None:
    def run() -> None:
        with LoggedErrors():
            logging.getLogger("mizzen").error("first")
            raise KeyError("second")

    with pytest.raises(KeyError) as failed:
        run()
    assert failed.value.__notes__ == ["Mizzen logged meanwhile:\n  mizzen: first"]
