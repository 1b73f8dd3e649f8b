"""The pages of examples/browser in a real browser: plain HTML, React and Vue, and what each sees of the others."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.interop.processes import ROOT, mizzen_server
from tests.nodejs import run_node


@pytest.mark.timeout(120)
async def test_three_pages_of_one_list(tmp_path: Path) -> None:
    if not (ROOT / "examples/browser/node_modules").is_dir():
        raise RuntimeError("examples/browser/node_modules is missing; run: make setup")
    server = mizzen_server("examples.browser.app:io", tmp_path / "server.log")
    server.start()
    try:
        await run_node("browser/examples.mjs", server.url, str(tmp_path))
    finally:
        server.end(signal.SIGKILL)
    assert "Traceback" not in server.output
    for name in ("html", "react", "vue"):
        assert (tmp_path / f"{name}.png").stat().st_size > 8_000, "an empty page would be smaller"
