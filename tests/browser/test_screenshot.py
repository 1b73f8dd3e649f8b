"""The browser itself: that it starts, takes steps, takes pictures and tells errors."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.nodejs import run_node


def page(html: str) -> str:
    return "data:text/html;charset=utf-8," + quote(html)


async def test_takes_steps_and_a_picture(tmp_path: Path):
    picture = tmp_path / "page.png"
    url = page("<button onclick='this.textContent = 1 + 1'>press</button>")
    steps = "await page.click('button'); return await page.textContent('button')"
    result = await run_node("browser/screenshot.mjs", url, "390", "200", str(picture), steps)
    assert json.loads(result) == "2"
    header = picture.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", header[16:24]) == (390, 200)


@pytest.mark.parametrize(
    ("html", "told"),
    [
        ("<script>throw new Error('thrown here')</script>", "error on the page: Error: thrown here"),
        ("<script>console.error('logged here')</script>", "error in the console: logged here"),
    ],
)
async def test_an_error_of_the_page_fails_the_run(tmp_path: Path, html: str, told: str):
    with pytest.raises(AssertionError, match=told):
        await run_node("browser/screenshot.mjs", page(html), "390", "200", str(tmp_path / "page.png"))
