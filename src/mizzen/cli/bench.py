"""`mizzen bench URL`: how much a server bears."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable, Generator
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from mizzen import Client, OptionsError
from mizzen.cli.client import client_arguments, connection_options
from mizzen.cli.load import Load, Plan, Results
from mizzen.cli.session import Exit

SPARE_FILES: Final = 64
"""Open files of the process besides its connections."""


@click.command("bench", context_settings={"max_content_width": 100})
@click.argument("url")
@click.option("--connections", "-c", default=100, show_default=True, type=click.IntRange(1), help="Clients, each with its connection.")
@click.option(
    "--ramp-up", type=click.FloatRange(0, min_open=True), metavar="N", help="Clients that connect per second. [default: 100 at a time]"
)
@click.option("--duration", "-d", default=10.0, show_default=True, type=click.FloatRange(0, min_open=True), help="Seconds to measure.")
@click.option("--event", default="echo", show_default=True, help="Event to send; its handler has to ack.")
@click.option("--size", default=32, show_default=True, type=click.IntRange(0), help="Characters of text to send with it.")
@click.option("--get", metavar="PATH", help="Make GET requests of the app behind the server instead.")
@click.option("--listen", metavar="EVENT", help="Send nothing, and count the events that come.")
@click.option("--in-flight", default=1, show_default=True, type=click.IntRange(1), help="Messages of each client that await an answer.")
@click.option(
    "--rate", type=click.FloatRange(0, min_open=True), metavar="N", help="Messages per second, all together. [default: as acks come]"
)
@click.option("--timeout", default=10.0, show_default=True, type=click.FloatRange(0, min_open=True), help="Seconds to wait for an answer.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@connection_options
def bench(url: str, connections: int, as_json: bool, **options: Any) -> None:
    """Measure how much the server at URL bears.

    \b
      mizzen bench URL -c 1000 --in-flight 4             an event `echo`, which has to be acked
      mizzen bench URL -c 1000 --rate 5000               5,000 messages per second, however long answers take
      mizzen bench URL --get /rooms                      requests of the app behind the server
      mizzen bench URL -c 5000 --listen news             what a broadcast comes to

    With --rate the latency counts from when a message was due. One process is one CPU: when the client's CPU is near 100 %, run several.

    It ends with 0 when all was answered, 1 when some was not or a connection was lost, 2 when the command line cannot work, 3 when no
    client could connect, 130 on Ctrl-C, after printing what was measured until then.
    """
    raise_file_limit(connections)
    if options["get"] is not None and options["listen"] is not None:
        raise click.UsageError("--get and --listen: one at a time")
    plan = Plan(
        url=url,
        arguments=client_arguments(options),
        namespace=options["namespace"],
        connections=connections,
        ramp_up=options["ramp_up"],
        event=options["event"],
        path=options["get"],
        listen=options["listen"],
        size=options["size"],
        in_flight=options["in_flight"],
        rate=options["rate"],
        duration=options["duration"],
        timeout=options["timeout"],
    )
    try:
        Client(url, **plan.arguments)
    except (OptionsError, ImportError) as error:
        raise click.UsageError(str(error)) from None
    code = Exit.OK
    with _progress() as progress:
        load = Load(plan, progress)
        try:
            asyncio.run(load.run())
        except KeyboardInterrupt:
            code = Exit.INTERRUPTED
    results = load.results
    if as_json:
        click.echo(json.dumps(results.as_json()))
    else:
        Console().print(_table(plan, results))
    sys.exit(code or _code(results))


def _code(results: Results) -> Exit:
    if not results.connected:
        return Exit.NOT_REACHED
    return Exit.ERROR_ANSWER if results.refusals or results.errors else Exit.OK


def raise_file_limit(connections: int) -> None:
    """Have this process open as many files as it needs. Raises UsageError where it may not."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    needed = connections + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise click.UsageError(
            f"{connections:,} connections need {needed:,} open files, and this process may have {hard:,}: "
            f"raise the hard limit (`ulimit -Hn`, or LimitNOFILE of systemd), or use --connections {max(hard - SPARE_FILES, 1)}"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


@contextlib.contextmanager
def _progress() -> Generator[Callable[[str, float], None]]:
    """Show how far it is, where somebody looks on."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda phase, done: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=1.0)

        def show(phase: str, done: float) -> None:
            progress.update(task, description=phase, completed=done)

        yield show


def _table(plan: Plan, results: Results) -> Table:
    told = results.as_json()
    what = f"GET {plan.path}" if plan.path is not None else f"listening to {plan.listen}" if plan.listen is not None else plan.event
    table = Table(title=f"{what}, {told['seconds']:g} s", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    failed = f", {told['failed']:,} failed" if told["failed"] else ""
    table.add_row("connected", f"{told['connected']:,} of {plan.connections:,} in {told['connect_seconds']:g} s{failed}")
    table.add_row("messages", f"{told['messages']:,}")
    table.add_row("rate", f"{told['rate']:,.0f}/s")
    for name, value in told["latency_ms"].items():
        table.add_row(f"latency {name}", f"{value:,.2f} ms")
    per_message = f", {told['client_cpu_us_per_message']:g} µs a message" if results.messages else ""
    table.add_row("client CPU", f"{told['client_cpu_percent']:g} %{per_message}")
    if results.lost:
        table.add_row("disconnected", f"{results.lost:,}", style="red")
    for kind, count in (results.errors + results.refusals).most_common():
        table.add_row("errors", f"{count:,} × {kind}", style="red")
    return table
