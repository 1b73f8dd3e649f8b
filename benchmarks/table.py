"""What was measured, as a table for people and as JSON for programs."""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

import msgspec
from rich.table import Table

from benchmarks.load import Result
from benchmarks.measure import Lane, Outcome
from benchmarks.peers import Peer
from tools.node import node_executable

GENERATOR_LIMIT = 0.9
"""Above this share of its CPU the generator may have been what limited a server; the CPU time per unit is right all the same."""

QUIET = 0.1
"""Other processes may use this share of the two CPUs before the table warns."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A server's figure in a line."""

    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    """The least and the greatest ratio of a turn."""
    value: float = 0.0
    failure: str = ""

    def text(self, unit: str) -> str:
        """Give what the table shows: the ratio first."""
        if self.failure:
            return "FAILED"
        value = f"{self.value:.{0 if self.value >= 100 else 1}f} {unit}"
        return value if self.ratio is None else f"{self.ratio:.2f} ({value})"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table."""

    title: str
    unit: str
    cells: Mapping[str, Cell]
    """By the server's name; one that cannot do this is not there."""
    left_out: str = ""


def lines_of(outcome: Outcome) -> list[Line]:
    """Give the lines that a row makes: one, and from a storm also the memory."""
    row = outcome.row
    title = f"{row.title}, ÷ the same by HTTP" if row.is_request else f"{row.title}, ÷ 1,000 in 2,000" if row.is_wireless else row.title
    lines = [_line(outcome, title, "µs", lambda result: result.cpu_us)]
    if row.is_storm:
        lines.append(_line(outcome, f"idle memory per connection, at {row.load.connections:,}", "KiB", lambda result: result.kib))
    return lines


def _line(outcome: Outcome, title: str, unit: str, value: Callable[[Result], float]) -> Line:
    shown = [lane for lane in outcome.lanes if not (outcome.row.is_request or outcome.row.is_wireless) or lane.base is not None]
    return Line(title, unit, {lane.peer.name: _cell(lane, value) for lane in shown}, outcome.left_out)


def _cell(lane: Lane, value: Callable[[Result], float]) -> Cell:
    if lane.failure or not lane.results:
        return Cell(failure=lane.failure or "no result")
    ratios = lane.ratios(value)
    if not ratios:
        return Cell(value=lane.median(value))
    return Cell(median(ratios), min(ratios), max(ratios), lane.median(value))


def make_table(lines: Sequence[Line], peers: Sequence[Peer]) -> Table:
    """Make the table for a terminal."""
    table = Table(title=heading(peers), title_justify="left")
    table.add_column("server CPU per unit of work")
    for peer in peers:
        table.add_column(peer.title, justify="right")
    for cells in _texts(lines, peers):
        table.add_row(*cells)
    return table


def make_markdown(lines: Sequence[Line], peers: Sequence[Peer]) -> str:
    """Make the same table in Markdown."""
    rows = [["server CPU per unit of work", *(peer.title for peer in peers)], ["---", *("--:" for _ in peers)], *_texts(lines, peers)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def heading(peers: Sequence[Peer]) -> str:
    """Say how to read the table."""
    return f"× {peers[0].title} (median of the turns), then the value; less is better"


def _texts(lines: Sequence[Line], peers: Sequence[Peer]) -> list[list[str]]:
    rows: list[list[str]] = []
    for line in lines:
        if line.left_out:
            rows.append([f"{line.title}: {line.left_out}", *("–" for _ in peers)])
            continue
        rows.append([line.title, *(line.cells[peer.name].text(line.unit) if peer.name in line.cells else "–" for peer in peers)])
    return rows


def failures(outcomes: Sequence[Outcome]) -> list[str]:
    """Give what went wrong."""
    return [f"{outcome.row.name}: {lane.peer.name}: {lane.failure}" for outcome in outcomes for lane in outcome.lanes if lane.failure]


def disturbance(outcomes: Sequence[Outcome]) -> str:
    """Say how much other processes disturbed."""
    shares = [outcome.other_load for outcome in outcomes if outcome.lanes and not (outcome.row.is_storm or outcome.row.is_wireless)]
    if not shares:
        return ""
    again = ": measure again when less is going on" if median(shares) > QUIET else ""
    return f"Other processes used {median(shares):.0%} of the two CPUs (at most {max(shares):.0%} in a row){again}."


def versions() -> dict[str, str]:
    """Say what was measured, and on what."""
    node = subprocess.run([node_executable(), "--version"], capture_output=True, text=True, check=False, timeout=30).stdout.strip()
    packages = {name: version(name) for name in ("mizzen", "uvicorn", "uvloop", "websockets", "python-socketio", "fastapi")}
    cpu = next((line.partition(":")[2].strip() for line in _cpu_info() if line.startswith("model name")), platform.machine())
    return {"python": platform.python_version(), "node": node, **packages, "kernel": platform.release(), "cpu": cpu}


def _cpu_info() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def write_json(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write every single result."""
    rows = [
        {
            "name": outcome.row.name,
            "title": outcome.row.title,
            "unit": outcome.row.unit,
            "left_out": outcome.left_out,
            "other_load": round(outcome.other_load, 3),
            "lanes": [
                {
                    "server": lane.peer.name,
                    "load": lane.load,
                    "base": None if lane.base is None else {"server": lane.base.peer.name, "load": lane.base.load.kind},
                    "failure": lane.failure,
                    "ratios": lane.ratios(lambda result: result.cpu_us),
                    "limited_by_generator": any(result.generator_share > GENERATOR_LIMIT for result in lane.results),
                    "turns": lane.results,
                }
                for lane in outcome.lanes
            ],
        }
        for outcome in outcomes
    ]
    document = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "command": command(), "versions": versions(), "rows": rows}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")


def command() -> str:
    """Give the command that measures this again."""
    return f'make bench ARGS="{" ".join(sys.argv[1:])}"' if sys.argv[1:] else "make bench"
