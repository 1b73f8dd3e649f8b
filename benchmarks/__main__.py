"""Measure servers under load: Mizzen beside Node's Socket.IO and python-socketio.

python -m benchmarks [--quick] [--only ROW,…] [--servers NAME,…] [--turns N] [--list]

The figure is the server's CPU time per unit of work. Each server has one CPU, the load generator another. Servers take turns, so ratios
hold whatever the machine is doing; times compare only within one run. Every reply is checked; a server with a wrong one fails in that row.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.machine import Machine, MachineError, prepare
from benchmarks.measure import Bench, Outcome, Pace, lanes_of
from benchmarks.peers import PEERS, Peer, reason_against
from benchmarks.plot import make_plot
from benchmarks.rows import ROWS, Row, quick_form
from benchmarks.sizes import size_line
from benchmarks.table import command, disturbance, failures, heading, lines_of, make_markdown, make_table, versions, write_json

RESULTS = Path(__file__).resolve().parent / "results"
FULL = Pace(warm=0.1, measured=0.4, turns=8, storms=3, keeps_servers=False)
QUICK = Pace(warm=0.05, measured=0.2, turns=4, storms=1, keeps_servers=True)


def main() -> int:
    """Run the command line that the module's docstring shows; give the exit status: 1 if a server failed, 2 if something is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS
    )
    parser.add_argument("--quick", action="store_true", help="fewer rows, shorter turns: two minutes")
    parser.add_argument("--only", metavar="ROW,…", help="only these rows")
    parser.add_argument("--servers", metavar="NAME,…", help="only these servers; ratios refer to the first, by default node")
    parser.add_argument("--turns", type=int, metavar="N", help=f"turns of each server in a row ({FULL.turns}, with --quick {QUICK.turns})")
    parser.add_argument(
        "--output", type=Path, default=RESULTS, metavar="FOLDER", help="where the JSON, Markdown and SVG go (benchmarks/results)"
    )
    parser.add_argument("--list", action="store_true", help="show rows and servers, and measure nothing")
    options = parser.parse_args()
    if options.turns is not None and options.turns < 1:
        parser.error("--turns must be at least 1")
    pace: Pace = QUICK if options.quick else FULL
    if options.turns:
        pace = Pace(pace.warm, pace.measured, options.turns, min(options.turns, pace.storms), pace.keeps_servers)
    if options.list:
        show_choices()
        return 0
    rows = choose_rows(parser, options.only, quick=options.quick)
    return run(rows, choose_peers(parser, options.servers), pace, options.output)


def choose_rows(parser: argparse.ArgumentParser, names: str | None, *, quick: bool) -> list[Row]:
    """Give the rows to measure."""
    known = {row.name: row for row in ROWS}
    unknown = [name for name in (names or "").split(",") if name and name not in known]
    if unknown:
        parser.error(f"no row {', '.join(unknown)}; there are: {', '.join(known)}")
    chosen = [known[name] for name in names.split(",") if name] if names else [row for row in ROWS if row.quick or not quick]
    return [quick_form(row) for row in chosen] if quick else chosen


def choose_peers(parser: argparse.ArgumentParser, names: str | None) -> list[Peer]:
    """Give the servers to measure."""
    known = {peer.name: peer for peer in PEERS}
    unknown = [name for name in (names or "").split(",") if name and name not in known]
    if unknown:
        parser.error(f"no server {', '.join(unknown)}; there are: {', '.join(known)}")
    return [known[name] for name in names.split(",") if name] if names else list(PEERS)


def show_choices() -> None:
    """Print what can be measured."""
    console = Console(highlight=False)
    for row in ROWS:
        console.print(f"{row.name:18}{row.title}{'' if row.quick else '  (not with --quick)'}")
    console.print()
    for peer in PEERS:
        console.print(f"{peer.name:18}{peer.title}")


def run(rows: Sequence[Row], wanted: Sequence[Peer], pace: Pace, output: Path) -> int:
    """Measure, and tell."""
    messages = Console(stderr=True, highlight=False)
    machine = prepare()
    peers: list[Peer] = []
    for peer in wanted:
        reason = reason_against(peer)
        if reason is None:
            peers.append(peer)
        else:
            messages.print(f"left out: {peer.title}: {reason}", style="yellow")
    if not peers:
        raise MachineError("No server is left to measure.")
    outcomes = measure_all(rows, peers, machine, pace, messages)
    lines = [*(line for outcome in outcomes for line in lines_of(outcome)), size_line(peers)]
    about = f"{disturbance(outcomes)} `{command()}`; " + ", ".join(f"{name} {value}" for name, value in versions().items())
    markdown = f"{heading(peers)}.\n\n{make_markdown(lines, peers)}\n\n{about}\n"
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / "latest.json", outcomes)
    (output / "latest.md").write_text(markdown, encoding="utf-8")
    (output / "latest.svg").write_text(make_plot(lines, peers), encoding="utf-8")
    if sys.stdout.isatty():
        console = Console(highlight=False)
        console.print(make_table(lines, peers))
        console.print(about)
    else:
        print(markdown)
    wrong = failures(outcomes)
    for failure in wrong:
        messages.print(f"FAILED {failure}", style="red", markup=False, soft_wrap=True)
    messages.print(f"written: latest.json, latest.md and latest.svg in {output}", markup=False, soft_wrap=True)
    return 1 if wrong else 0


def measure_all(rows: Sequence[Row], peers: Sequence[Peer], machine: Machine, pace: Pace, messages: Console) -> list[Outcome]:
    """Measure the rows one after the other, with a progress bar."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    # No refreshing by itself: while a server has its turn, this process must be quiet.
    with Progress(*columns, console=messages, auto_refresh=False) as progress:
        task = progress.add_task("starting", total=sum(len(lanes_of(row, peers)) * pace.turns_of(row) for row in rows))

        def tell(what: str) -> None:
            progress.update(task, advance=1, description=what, refresh=messages.is_terminal)

        bench = Bench(machine, pace, tell)
        try:
            return [bench.measure(row, peers) for row in rows]
        finally:
            bench.close()


def end(number: int, frame: FrameType | None) -> None:
    """End on a signal as on an error, so that no server is left behind."""
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end)
    try:
        sys.exit(main())
    except MachineError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
