"""Write requirements-dev.txt anew: the newest versions that go together of all that pyproject.toml names.

python tools/pins.py

Run it on the oldest Python that is supported, so that what only that one needs is pinned too.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MARKERS = {"uvloop": "sys_platform != 'win32'"}
HEADER = "# Every package that development and the tests need, pinned. Written by: make pins\n"


def main() -> None:
    """Resolve in an empty virtual environment and write down what it then holds."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        pip = [f"{folder}/bin/python", "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", "--upgrade", "pip"], check=True)  # the bundled one may not know --group
        subprocess.run([*pip, "install", "--quiet", "--only-binary=:all:", "--group", "dev", ".[client]"], cwd=ROOT, check=True)
        frozen = subprocess.run([*pip, "freeze", "--exclude", "mizzen"], capture_output=True, text=True, check=True).stdout
    pins = [f"{pin}; {MARKERS[name]}" if (name := re.split("==", pin)[0].lower()) in MARKERS else pin for pin in frozen.splitlines()]
    if strange := [pin for pin in pins if not re.match(r"[\w.-]+==\S+", pin)]:
        sys.exit(f"not from a registry, so not pinned: {strange}")
    (ROOT / "requirements-dev.txt").write_text(HEADER + "\n".join(pins) + "\n", encoding="utf-8")
    print(f"{len(pins)} packages pinned")


if __name__ == "__main__":
    main()
