"""Taking turns: each server is loaded for half a second at a time, so that a slow moment of the machine hits all alike."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from collections.abc import Generator as Generating
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from statistics import median

from benchmarks.load import Generator, Result, run_wireless
from benchmarks.machine import SPARE_FILES, Machine, busy_seconds, used_seconds
from benchmarks.peers import Peer, Running, ServerFailed
from benchmarks.rows import FEW, Load, Row, Variant

WARM_UP = Load("echo", 100)
SETTLING_S = 0.5
"""After the warm-up of a server whose memory is measured."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long and how often."""

    warm: float
    """Seconds at the start of a turn that are not counted."""
    measured: float
    turns: int
    storms: int
    """Turns of a row that starts a server for each."""
    keeps_servers: bool
    """Whether a server goes on from row to row; else each row has fresh ones."""

    def turns_of(self, row: Row) -> int:
        """Give the number of turns of each server in a row."""
        return self.storms if row.is_storm or row.is_wireless else self.turns


@dataclass(slots=True)
class Lane:
    """One server under one load in one row."""

    peer: Peer
    load: Load
    base: Lane | None = None
    """The lane that ratios refer to."""
    results: list[Result] = field(default_factory=list[Result])
    failure: str = ""

    def ratios(self, value: Callable[[Result], float]) -> list[float]:
        """Give this lane's value over the base's, turn by turn; nothing if either failed."""
        if self.failure or self.base is None or self.base.failure:
            return []
        pairs = zip(map(value, self.results), map(value, self.base.results), strict=False)
        return [mine / other for mine, other in pairs if other]

    def median(self, value: Callable[[Result], float]) -> float:
        """Give the median of a value over the turns."""
        return median(map(value, self.results))

    @contextmanager
    def attempt(self) -> Generating[None, None, None]:
        """Let a failing server drop out of its row, and remember why."""
        try:
            yield
        except ServerFailed as failure:
            self.failure = str(failure)
            self.results.clear()


@dataclass(frozen=True, slots=True)
class Outcome:
    """A row, measured."""

    row: Row
    lanes: tuple[Lane, ...]
    left_out: str = ""
    """Why nothing was measured."""
    other_load: float = 0.0
    """The share of the two CPUs that other processes used meanwhile; a storm does not tell."""


class OtherLoad:
    """What other processes use of the two CPUs, from when this is made on."""

    def __init__(self, machine: Machine, pids: Sequence[int]) -> None:
        self._cpus = machine.server_cpu, machine.generator_cpu
        self._pids = [*pids, os.getpid()]
        self._since = time.monotonic()
        self._before = self._others()

    def share(self) -> float:
        """Give their share so far."""
        return max(0.0, self._others() - self._before) / (time.monotonic() - self._since) / len(self._cpus)

    def _others(self) -> float:
        return busy_seconds(self._cpus) - used_seconds(self._pids)


class Bench:
    """Measures rows. Servers that it keeps are killed by `close`."""

    def __init__(self, machine: Machine, pace: Pace, progress: Callable[[str], None]) -> None:
        self._machine = machine
        self._pace = pace
        self._progress = progress
        self._running: dict[tuple[str, Variant], Running] = {}

    def close(self) -> None:
        """Kill all servers that still run."""
        while self._running:
            self._running.popitem()[1].stop()

    def measure(self, row: Row, peers: Sequence[Peer]) -> Outcome:
        """Measure one row on the servers that can do it; those that fail say so in their lanes."""
        lacking = self._lacking(row)
        if lacking:
            return Outcome(row, (), lacking)
        lanes = lanes_of(row, peers)
        other_load = 0.0
        if row.is_storm:
            self.close()  # thousands of open files each
            for turn in range(self._pace.storms):
                self._take_turns(row, lanes, turn, lambda lane: self._storm(row, lane))
        elif row.is_wireless:
            for turn in range(self._pace.storms):
                self._take_turns(row, lanes, turn, lambda lane: run_wireless(self._machine, lane.load))
        else:
            with ExitStack() as stack:
                generators = self._connect(row, lanes, stack)
                others = OtherLoad(self._machine, [*self._server_pids(), *(generator.pid for generator in generators.values())])
                for turn in range(self._pace.turns):
                    self._take_turns(row, lanes, turn, lambda lane: self._turn(row, generators[id(lane)]))
                other_load = others.share()
        for lane in lanes:
            if lane.failure:
                self._forget(lane.peer, row.variant)
        if not self._pace.keeps_servers:
            self.close()
        return Outcome(row, lanes, other_load=other_load)

    def _take_turns(self, row: Row, lanes: Sequence[Lane], turn: int, take: Callable[[Lane], Result]) -> None:
        for lane in lanes if turn % 2 == 0 else reversed(lanes):
            self._progress(f"{row.name} {turn + 1}/{self._pace.turns_of(row)} {lane.peer.name}")
            if not lane.failure:
                with lane.attempt():
                    lane.results.append(take(lane))

    def _lacking(self, row: Row) -> str:
        wanted = row.load.open_files + SPARE_FILES
        if wanted > self._machine.file_limit:
            return f"needs {wanted:,} open files, the limit is {self._machine.file_limit:,}: raise it (ulimit -Hn)"
        if row.variant in ("tls", "deflate") and row.variant not in self._machine.features:
            return f"needs the C headers of {'OpenSSL (libssl-dev)' if row.variant == 'tls' else 'zlib (zlib1g-dev)'}"
        return ""

    def _connect(self, row: Row, lanes: Sequence[Lane], stack: ExitStack) -> dict[int, Generator]:
        """Start the servers that do not run yet, and a warmed-up generator for each lane, by the lane's id."""
        servers: dict[int, Running] = {}
        for lane in lanes:
            with lane.attempt():
                key = lane.peer.name, row.variant
                if key not in self._running:
                    self._running[key] = Running(lane.peer, row.variant, self._machine.server_cpu)
                servers[id(lane)] = self._running[key]
        generators: dict[int, Generator] = {}
        for lane in lanes:
            if lane.failure:
                continue
            with lane.attempt():
                server = servers[id(lane)]
                server.wait_until_ready()
                generator = Generator(self._machine, server, lane.load, row.variant)
                generators[id(lane)] = stack.enter_context(generator)
                generator.connected()
                self._turn(row, generator)  # not counted
        return generators

    def _turn(self, row: Row, generator: Generator) -> Result:
        return generator.turn(self._pace.warm, self._pace.measured * row.stretch)

    def _storm(self, row: Row, lane: Lane) -> Result:
        """Connect to a server of its own: memory that was used once does not come back."""
        with Running(lane.peer, row.variant, self._machine.server_cpu) as server:
            server.wait_until_ready()
            for load in (Load("idle", 300), WARM_UP):
                with Generator(self._machine, server, load, row.variant) as generator:
                    generator.connected()
                    generator.turn(0.1, 0.3)
            time.sleep(SETTLING_S)
            with Generator(self._machine, server, lane.load, row.variant) as generator:
                return generator.connected()

    def _server_pids(self) -> list[int]:
        return [pid for server in self._running.values() for pid in server.pids()]

    def _forget(self, peer: Peer, variant: Variant) -> None:
        server = self._running.pop((peer.name, variant), None)
        if server:
            server.stop()


def lanes_of(row: Row, peers: Sequence[Peer]) -> tuple[Lane, ...]:
    """Give the lanes of a row, each base before those that refer to it."""
    able = [peer for peer in peers if row.variant in peer.commands and (peer.takes_requests or not row.is_request)]
    if row.is_wireless:
        ours = [peer for peer in able if peer.name == "mizzen"]
        few = [Lane(peer, FEW) for peer in ours]
        return (*few, *(Lane(base.peer, row.load, base) for base in few))
    if not row.is_request:
        lanes = [Lane(peer, row.load) for peer in able]
        for lane in lanes:
            lane.base = lanes[0] if lane.peer is peers[0] or lanes[0].peer is peers[0] else None
        return tuple(lanes)
    pairs: list[Lane] = []
    for peer in able:
        by_http = Lane(peer, Load("http", row.load.connections))
        pairs += [by_http, Lane(peer, row.load, by_http)]
    return tuple(pairs)
