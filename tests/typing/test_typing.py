"""What pyright says of events.py: which lines are wrong."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from tools.node import environment, node_executable

ROOT = Path(__file__).resolve().parent.parent.parent
PYRIGHT = ROOT / "tools/node_modules/pyright/index.js"
CHECKED = Path(__file__).with_name("events.py")


def broken_lines(folder: Path) -> set[int]:
    """Have pyright check events.py without its ignore comments; give the numbers of the lines that it finds fault with."""
    if not PYRIGHT.is_file():
        raise RuntimeError(f"{PYRIGHT} is missing; run: make test")
    bare = re.sub("  # pyright: ignore.*", "", CHECKED.read_text(encoding="utf-8"))
    (folder / "events.py").write_text(bare, encoding="utf-8")
    config = {"extraPaths": [str(ROOT / "src")], "pythonVersion": "3.11"}
    (folder / "pyrightconfig.json").write_text(json.dumps(config), encoding="utf-8")
    answer = subprocess.run(
        [node_executable(), str(PYRIGHT), "--pythonpath", sys.executable, "--project", str(folder), "--outputjson"],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    return {each["range"]["start"]["line"] + 1 for each in json.loads(answer.stdout)["generalDiagnostics"]}


def test_what_is_wrong_is_an_error_and_nothing_else_is(tmp_path: Path) -> None:
    lines = CHECKED.read_text(encoding="utf-8").splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if "# pyright: ignore" in line}
    assert len(wrong) > 15
    assert {number: lines[number - 1] for number in wrong ^ broken_lines(tmp_path)} == {}
