"""Set the project up: the virtual environment, and the npm packages of the folders that are named.

python tools/setup.py [--venv FOLDER] [--lowest] [FOLDER_WITH_PACKAGE_JSON …]

Run by `make`, with any Python 3.11 or later; needs nothing but the standard library. What is made ends with a key: a hash of all
that it was made from. Where the key is right nothing is done. Where it is missing or wrong (an interrupted run, changed
requirements, a moved folder, an interpreter that is gone) it is made anew, from nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
import venv
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements-dev.txt"
LOWEST = ROOT / "tools/lowest.py"
KEY = ".mizzen-key"


def main() -> None:
    """Make what is missing."""
    parser = argparse.ArgumentParser(prog="tools/setup.py")
    parser.add_argument("--venv", default=".venv", help="folder of the virtual environment, from the project's root (default: .venv)")
    parser.add_argument("--lowest", action="store_true", help="with the lowest versions that pyproject.toml allows")
    parser.add_argument("packages", nargs="*", help="folders with a package.json, from the project's root")
    arguments = parser.parse_args()
    folder = ROOT / arguments.venv
    with one_at_a_time():
        if read_key(folder) != venv_key(folder, arguments.lowest):
            make_venv(folder, arguments.lowest)
        for name in arguments.packages:
            packages = ROOT / name
            if read_key(packages / "node_modules") != packages_key(packages):
                install_packages(packages, folder)


@contextmanager
def one_at_a_time() -> Generator[None, None, None]:
    """Let a second `make` wait until the first has set up."""
    if os.name == "nt":
        yield
        return
    import fcntl

    (ROOT / ".cache").mkdir(exist_ok=True)
    with (ROOT / ".cache/setup.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another make that is setting up")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def venv_key(folder: Path, lowest: bool) -> str:
    """Hash what the virtual environment depends on; the empty string when its interpreter does not run."""
    try:
        answer = subprocess.run(
            [python_of(folder), "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    built_from = json.dumps([project["build-system"], project["project"]], sort_keys=True)
    # The scripts in bin/ and the editable install hold absolute paths, hence the folder.
    versions = [file.read_text(encoding="utf-8") for file in (REQUIREMENTS, *([LOWEST] if lowest else []))]
    return digest(str(folder), answer.stdout.strip(), *versions, built_from)


def packages_key(folder: Path) -> str:
    """Hash what the installed npm packages depend on."""
    return digest(*((folder / name).read_text(encoding="utf-8") for name in ("package.json", "package-lock.json", ".npmrc")))


def make_venv(folder: Path, lowest: bool) -> None:
    """Make the virtual environment with all that is pinned, or the lowest of it, and the project itself as an editable install."""
    shown = folder.relative_to(ROOT)
    discard(folder)
    say(f"making {shown} with Python {sys.version.split()[0]} ({sys.executable})")
    venv.create(folder, with_pip=True, symlinks=os.name != "nt")
    python = python_of(folder)
    pip = [python, "-m", "pip", "install", "--no-input", "--progress-bar=off"]
    # Wheels only: a missing one is told at once, instead of by a compiler that is not there.
    run(
        f"installing the pinned packages of {REQUIREMENTS.name} into {shown} (about a minute)",
        [*pip, "--only-binary=:all:", "-r", str(REQUIREMENTS)],
    )
    if lowest:
        run("replacing what Mizzen depends on by the lowest versions that pyproject.toml allows", [python, str(LOWEST)])
    run("installing mizzen itself, editable", [*pip, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)])
    write_key(folder, venv_key(folder, lowest))


def install_packages(folder: Path, environment: Path) -> None:
    """Install the npm packages that the folder's lock file pins."""
    shown = folder.relative_to(ROOT)
    discard(folder / "node_modules")
    run(
        f"installing the npm packages of {shown}",
        [python_of(environment), str(ROOT / "tools/node.py"), "npm", "ci", "--no-progress", "--loglevel=error"],
        cwd=folder,
    )
    write_key(folder / "node_modules", packages_key(folder))


def run(what: str, command: Sequence[str], cwd: Path = ROOT) -> None:
    """Run a long command: on a terminal its last line is shown while it runs; its whole output only if it fails."""
    say(what)
    started = time.monotonic()
    output: list[str] = []
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONPATH")}
    env |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore", "PIP_USER": "0", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            output.append(line)
            if sys.stdout.isatty():
                width = shutil.get_terminal_size().columns - 4
                print(f"\r\x1b[K   {line.strip()[:width]}", end="", flush=True)
    if sys.stdout.isatty():
        print("\r\x1b[K", end="")
    if process.returncode != 0:
        print("".join(output), file=sys.stderr)
        sys.exit(f"setup failed: {what}: exit status {process.returncode} of: {' '.join(command)}")
    print(f"   done in {time.monotonic() - started:.0f} s", flush=True)


def say(what: str) -> None:
    """Tell the user what starts."""
    print(f"» {what}", flush=True)


def python_of(folder: Path) -> str:
    """Give the path of a virtual environment's interpreter."""
    return str(folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))


def discard(folder: Path) -> None:
    """Remove a folder, the key first, so that an interrupted removal does not look finished."""
    with suppress(OSError):
        (folder / KEY).unlink()
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def read_key(folder: Path) -> str | None:
    """Give the key that the last finished run left."""
    with suppress(OSError):
        return (folder / KEY).read_text(encoding="utf-8")
    return None


def write_key(folder: Path, key: str) -> None:
    """Mark a folder as finished."""
    if not key:
        sys.exit(f"setup failed: {python_of(folder)} was made but does not run")
    (folder / KEY).write_text(key, encoding="utf-8")


def digest(*parts: str) -> str:
    """Hash some texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nsetup interrupted; the next make goes on from here")
