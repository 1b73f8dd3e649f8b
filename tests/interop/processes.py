"""Servers and Node scripts as processes of their own, on loopback ports that the system chose."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.node import environment as node_environment
from tools.node import node_executable

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PACKAGES = HERE / "node_modules"
HOST = "127.0.0.1"
READY_WITHIN = 20.0
ENDED_WITHIN = 10.0


def free_port() -> int:
    """Give a port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


class ServerProcess:
    """A server that can be ended and started again on the same port; its output goes to `log`."""

    def __init__(self, command: Sequence[str], port: int, log: Path, environment: Mapping[str, str]) -> None:
        self.command = list(command)
        self.port = port
        self.url = f"http://{HOST}:{port}"
        self.log = log
        self.environment = dict(environment)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it accepts connections; raise `RuntimeError` with its output if it never does."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, cwd=ROOT, env=self.environment, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + READY_WITHIN
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection((HOST, self.port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        self.end(signal.SIGKILL)
        raise RuntimeError(f"{' '.join(self.command)} did not listen on port {self.port}:\n{self.output}")

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it and wait until it is gone; a server that does not obey in time is killed, and that is an error."""
        process, self.process = self.process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(ENDED_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise RuntimeError(f"{' '.join(self.command)} did not end within {ENDED_WITHIN} s of {how.name}:\n{self.output}") from None

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")


def mizzen_server(app: str, log: Path, **environment: str) -> ServerProcess:
    """Give a server that runs `app` (module:attribute) by `mizzen run`."""
    port = free_port()
    command = [sys.executable, "-m", "mizzen", "run", app, "--host", HOST, "--port", str(port)]
    return ServerProcess(command, port, log, os.environ | {"PYTHONUNBUFFERED": "1"} | environment)


def reference_server(log: Path, *arguments: str) -> ServerProcess:
    """Give a server that runs the same events on the reference implementation."""
    port = free_port()
    return ServerProcess(node_command("reference_server.mjs", str(port), *arguments), port, log, node_environment())


def node_command(script: str, *arguments: str) -> list[str]:
    """Give the command for a script of this folder; raise `RuntimeError` when its packages are not installed."""
    if not PACKAGES.is_dir():
        raise RuntimeError(f"{PACKAGES} is missing; run: make setup")
    return [node_executable(), str(HERE / script), *arguments]


@dataclass(frozen=True)
class Outcome:
    """What a script says of one case."""

    ok: bool
    detail: str


class Script:
    """A Node script of this folder that prints JSON lines."""

    def __init__(self, name: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            node_command(name, *arguments), env=node_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def until_ready(self) -> None:
        """Wait for the line that says that the script is ready; raise `RuntimeError` if it ends before."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line or "ready" not in json.loads(line):
            raise RuntimeError(f"the script is not ready:\n{line}{self.process.communicate()[1]}")

    def outcomes(self, within: float) -> dict[str, Outcome]:
        """Wait for the end and give what it says of each case; the key "" has the exit status and the standard error."""
        try:
            output, errors = self.process.communicate(timeout=within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            output, errors = self.process.communicate()
            errors += f"\nnot done within {within} s"
        outcomes = {record["case"]: Outcome(record["ok"], record["detail"]) for record in _records(output)}
        status = self.process.returncode
        outcomes[""] = Outcome(status == 0, f"exit status {status}\n{errors}")
        return outcomes


def _records(output: str) -> Iterator[Mapping[str, Any]]:
    for line in output.splitlines():
        record = json.loads(line)
        if "case" in record:
            yield record
