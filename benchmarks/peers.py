"""The servers: how each is started, found ready, and ended."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from benchmarks.machine import BUILD, ROOT, certificate, pinned_to
from benchmarks.rows import Variant
from tools.node import environment, node_executable

UWS: Final = "@trufflesuite/uws-js-unofficial"
ADDRESS: Final = ("--host", "127.0.0.1", "--port", "{port}", "--log-level", "error")
TLS: Final = ("--ssl-keyfile", "{key}", "--ssl-certfile", "{certificate}")
UVICORN: Final = (*("-m", "uvicorn", "{app}", *ADDRESS), "--ws", "websockets-sansio", "--no-access-log", "--backlog", "4096")
NO_DEFLATE: Final = ("--ws-per-message-deflate", "false")
MIZZEN_APPS: Final[Mapping[Variant, str]] = {"fastapi": "mizzen_fastapi:io", "deflate": "mizzen_deflate:io"}
STARTING_S: Final = 20.0


class ServerFailed(Exception):
    """A server did not start, ended, or replied wrongly."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server that can be measured."""

    name: str
    title: str
    commands: Mapping[Variant, tuple[str, ...]]
    """What starts each form that it has; `{port}`, `{app}`, `{key}` and `{certificate}` are filled in; `python` and
    `node` are the interpreters."""

    @property
    def takes_requests(self) -> bool:
        """Whether it has socket requests."""
        return "fastapi" in self.commands

    def command(self, variant: Variant, port: int) -> list[str]:
        """Give the command line that starts it."""
        pair = certificate() or (Path(), Path())
        app = f"benchmarks.servers.{MIZZEN_APPS.get(variant, 'mizzen_bare:io')}" if self.takes_requests else PYTHON_SOCKETIO_APP
        words = {"{port}": str(port), "{app}": app, "{key}": str(pair[0]), "{certificate}": str(pair[1])}
        words |= {"python": sys.executable, "node": "" if self.is_python else node_executable()}
        return [words.get(word, word) for word in self.commands[variant]]

    @property
    def is_python(self) -> bool:
        """Whether Python runs it, else Node.js."""
        return self.commands["plain"][0] == "python"


PYTHON_SOCKETIO_APP: Final = "benchmarks.servers.python_socketio_app:app"
_NATIVE: Final = ("python", "-m", "mizzen", "run", "{app}", *ADDRESS)
_EVENTS: Final = ("python", *UVICORN, *NO_DEFLATE)
_PYTHON_SOCKETIO: Final = (*("python", *UVICORN), "--http", "httptools", "--loop", "uvloop", "--lifespan", "off")
_NODE: Final = ("node", "benchmarks/servers/node.mjs", "{port}")
_NODE_TLS: Final = ("--tls", "{key}", "{certificate}")

PEERS: Final = (
    Peer(
        "node",
        "Node socket.io, ws",
        {"plain": (*_NODE, "ws"), "tls": (*_NODE, "ws", *_NODE_TLS), "deflate": (*_NODE, "ws", "--deflate")},
    ),
    Peer("mizzen", "Mizzen", {"plain": _NATIVE, "fastapi": _NATIVE, "deflate": _NATIVE, "tls": (*_NATIVE, *TLS)}),
    Peer(
        "mizzen-asgi",
        "Mizzen by ASGI events",
        {"plain": _EVENTS, "fastapi": _EVENTS, "deflate": ("python", *UVICORN), "tls": (*_EVENTS, *TLS)},
    ),
    Peer("node-uws", "Node socket.io, uWebSockets", {"plain": (*_NODE, "uws"), "tls": (*_NODE, "uws", *_NODE_TLS)}),
    Peer(
        "python-socketio",
        "python-socketio on uvicorn",
        {
            "plain": (*_PYTHON_SOCKETIO, *NO_DEFLATE),
            "deflate": _PYTHON_SOCKETIO,
            "tls": (*_PYTHON_SOCKETIO, *NO_DEFLATE, *TLS),
        },
    ),
)


def reason_against(peer: Peer) -> str | None:
    """Say why a server cannot be started on this machine; None if it can."""
    if peer.is_python:
        return None
    try:
        node = node_executable()
    except RuntimeError as failure:
        return str(failure)
    if not (ROOT / "benchmarks/node_modules/socket.io").is_dir():
        return "its npm packages are not installed; run: make bench"
    if peer.name != "node-uws":
        return None
    addon = "dist/uws_${process.platform}_${process.arch}_${process.versions.modules}.node"
    probe = [node, "-e", f"require(`{ROOT}/benchmarks/node_modules/{UWS}/{addon}`)"]
    if subprocess.run(probe, capture_output=True, check=False, timeout=30).returncode == 0:
        return None
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False, timeout=30).stdout.strip()
    return f"{UWS} brings no build for Node.js {version} on this machine"


class Running:
    """A server that runs; used as a context manager, at whose end it is killed."""

    def __init__(self, peer: Peer, variant: Variant, cpu: int) -> None:
        self.peer = peer
        self.port = _free_port()
        self.log = BUILD / "logs" / f"{peer.name}-{variant}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        env = environment() | {"NODE_ENV": "production", "PYTHONPATH": os.pathsep.join([*_python_path(), str(ROOT)])}
        with self.log.open("w") as log, pinned_to(cpu):
            self.process = subprocess.Popen(
                peer.command(variant, self.port), cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()

    def wait_until_ready(self) -> None:
        """Wait until it takes connections. Raises `ServerFailed` when it ends instead, or takes too long."""
        deadline = time.monotonic() + STARTING_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise ServerFailed(f"ended at once with status {self.process.returncode}{self.last_words()}")
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise ServerFailed(f"took no connections within {STARTING_S:.0f} s{self.last_words()}")

    def last_words(self) -> str:
        """Give the end of its log, for a message."""
        lines = [line.strip() for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        return f": {lines[-1][:200]} ({self.log.relative_to(ROOT)})" if lines else ""

    def pids(self) -> list[int]:
        """Give the ids of its processes: its own and its children's."""
        found = [self.process.pid]
        for pid in found:  # grows while it is walked through
            for path in Path(f"/proc/{pid}/task").glob("*/children"):
                with suppress(OSError):
                    found.extend(map(int, path.read_text().split()))
        return found

    def stop(self) -> None:
        """Kill it."""
        for pid in reversed(self.pids()):
            with suppress(OSError):
                os.kill(pid, 9)
        self.process.wait()


def _python_path() -> list[str]:
    return [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
