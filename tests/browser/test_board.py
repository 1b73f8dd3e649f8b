"""The demo in a browser: two sides, one over HTTP, one over the socket, and what each sees of the other.

BOARD_PICTURES=1 puts the pictures that the test takes into docs/.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.interop.processes import ROOT, ServerProcess, mizzen_server
from tests.nodejs import node

WIDTHS = (1280, 390)


@pytest.fixture
def board(tmp_path: Path) -> Iterator[ServerProcess]:
    """Give the running demo, with a file of its own."""
    server = mizzen_server("examples.board.app:io", tmp_path / "server.log")
    server.environment["BOARD_DB"] = str(tmp_path / "board.sqlite3")
    server.start()
    yield server
    server.end()


@pytest.mark.timeout(180)
async def test_two_sides_of_one_board(board: ServerProcess, tmp_path: Path):
    async with node("browser/board.mjs", board.url, str(tmp_path)) as process:
        async for asked, text in questions(process):
            answer(process, do(board, asked, text))
        _, errors = await process.communicate()
    assert process.returncode == 0, f"{errors.decode()}\nThe server said:\n{board.output}"
    for word in ("Traceback", "ERROR", "WARNING"):
        assert word not in board.output
    for width in WIDTHS:
        taken = tmp_path / f"board-{width}.png"
        assert picture_width(taken) == width
        assert taken.stat().st_size > 20_000, "an empty page would be smaller"
        if os.environ.get("BOARD_PICTURES"):
            shutil.copyfile(taken, ROOT / "docs" / taken.name)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_documentation_has_a_picture(width: int):
    assert picture_width(ROOT / f"docs/board-{width}.png") == width


async def test_http_and_the_documentation_know_the_same_routes(board: ServerProcess):
    async with httpx.AsyncClient(base_url=board.url) as client:
        missing = await client.get("/rooms/nowhere/messages")
        assert (missing.status_code, missing.json()) == (404, {"detail": "There is no room “nowhere”."})
        gone = await client.patch("/rooms/lobby/messages/999", json={"done": True})
        assert gone.status_code == 404
        nothing = await client.patch("/rooms/lobby/messages/1", json={})
        assert "give a text, or done, or both" in nothing.text
        assert nothing.status_code == 422
        elsewhere = await client.delete("/rooms/ideas/messages/1")
        assert elsewhere.status_code == 404, "a message is only reached through its own room"
        paths = (await client.get("/openapi.json")).json()["paths"]
    assert set(paths) == {"/rooms", "/rooms/{room}/messages", "/rooms/{room}/messages/{id}"}


async def questions(process: Process) -> AsyncIterator[tuple[str, str | None]]:
    """Give what the script asks for, until it is done or ends."""
    assert process.stdout is not None
    async for line in process.stdout:
        question = json.loads(line)
        if question["ask"] == "done":
            return
        yield question["ask"], question.get("text")


def answer(process: Process, value: object) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(value).encode() + b"\n")


def do(board: ServerProcess, asked: str, text: str | None) -> object:
    lobby = f"{board.url}/rooms/lobby/messages"
    match asked:
        case "read":
            return [message["text"] for message in httpx.get(lobby).json()]
        case "post":
            return httpx.post(lobby, json={"author": "Curl", "text": text}).raise_for_status().status_code
        case "stop":
            return board.end(signal.SIGINT)  # as Ctrl-C does
        case "start":
            return board.start()
        case _:
            raise ValueError(f"the script asks for {asked!r}")


def picture_width(path: Path) -> int:
    """Give the width of a PNG file, which its header tells."""
    header = path.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    width: int = struct.unpack(">I", header[16:20])[0]
    return width
