"""The load generator, as a process that is told when to take its turn."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import time
from types import TracebackType
from typing import Self

import msgspec

from benchmarks.machine import ROOT, Machine, pinned_to
from benchmarks.peers import Running, ServerFailed
from benchmarks.rows import Load, Variant


class Result(msgspec.Struct):
    """What one turn, or connecting, gave."""

    error: str = ""
    units: int = 0
    seconds: float = 0.0
    cpu_us: float = 0.0
    """The server's CPU time per unit."""
    per_s: float = 0.0
    p50_us: float = 0.0
    p99_us: float = 0.0
    kib: float = 0.0
    """Resident memory of the server per connection that was made, when connecting."""
    server_share: float = 0.0
    """Of a CPU."""
    generator_share: float = 0.0


def run_wireless(machine: Machine, load: Load) -> Result:
    """Measure a load that needs no wire, in a process on the servers' CPU. Raises `ServerFailed`."""
    with pinned_to(machine.server_cpu):
        command = [sys.executable, "-m", "benchmarks.servers.rooms", str(load.connections)]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=False, timeout=300)
    if done.returncode != 0:
        raise ServerFailed(f"{' '.join(command)} ended with {done.returncode}")
    return msgspec.json.decode(done.stdout, type=Result)


class Generator:
    """Connections to one server, which work when it is their turn; used as a context manager."""

    def __init__(self, machine: Machine, server: Running, load: Load, variant: Variant) -> None:
        self._server = server
        pids = ",".join(map(str, server.pids()))
        with pinned_to(machine.generator_cpu):
            self._process = subprocess.Popen(
                [machine.generator, "--port", str(server.port), "--pids", pids, *load.options(variant)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        self._unread = b""
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        self._input.close()
        self._output.close()

    def connected(self) -> Result:
        """Wait until all connections are made; give what that cost. Raises `ServerFailed`, as `turn` does."""
        return self._read(within=120)

    def turn(self, warm: float, measured: float) -> Result:
        """Load the server for so many seconds, of which the first are not counted; give what the others cost."""
        try:
            self._input.write(f"{warm} {measured}\n".encode())
            self._input.flush()
        except OSError as failure:
            raise ServerFailed("the generator has ended") from failure
        return self._read(within=warm + measured + 60)

    def _read(self, within: float) -> Result:
        deadline = time.monotonic() + within
        with selectors.DefaultSelector() as selector:
            selector.register(self._output, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not selector.select(deadline - time.monotonic()):
                    raise ServerFailed(f"gave no result within {within:.0f} s")
                data = os.read(self._output.fileno(), 65536)
                if not data:
                    raise ServerFailed(f"the generator ended with status {self._process.wait()}")
                self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        result = msgspec.json.decode(line, type=Result)
        if result.error:
            raise ServerFailed(result.error + self._server.last_words())
        if self._server.process.poll() is not None:
            raise ServerFailed(f"ended under load{self._server.last_words()}")
        return result
