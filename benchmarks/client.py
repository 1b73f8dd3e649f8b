"""Measure the Python clients: Mizzen's beside python-socketio's, in one run against one server.

python -m benchmarks.client [--messages N] [--turns N] [--clients N]

The figure is the CPU time of the client's process per message, which goes to the server and comes back. The clients take turns, each in a
process of its own, so the ratio holds whatever the machine is doing. At the end one process holds many clients at once.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import subprocess
import sys
import time
from importlib import import_module
from statistics import median
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table

from benchmarks.machine import SPARE_FILES, raise_file_limit, two_cpus
from benchmarks.peers import PEERS, Running

WINDOWS = (1, 16)
"""Calls in flight."""


class Caller(Protocol):
    """What both clients have."""

    async def call(self, event: str, data: str, /) -> object: ...


async def mizzen_turn(url: str, messages: int, window: int) -> float:
    """Give the CPU seconds of so many calls by Mizzen's client."""
    from mizzen import Client

    async with Client(url, transports=("websocket",)) as client:
        return await turn(client, messages, window)


async def python_socketio_turn(url: str, messages: int, window: int) -> float:
    """Give the CPU seconds of so many calls by python-socketio's client."""
    module: Any = import_module("socketio")  # it has no types
    client = module.AsyncClient()
    await client.connect(url, transports=["websocket"])
    used = await turn(client, messages, window)
    await client.disconnect()
    return used


async def turn(client: Caller, messages: int, window: int) -> float:
    """Call so often, so many at once, and give the CPU seconds."""

    async def work() -> None:
        for _ in range(messages // window):
            await client.call("echo", "x" * 32)

    began = time.process_time()
    await asyncio.gather(*(work() for _ in range(window)))
    return time.process_time() - began


async def crowd_turn(url: str, clients: int, at_once: int) -> float:
    """Connect so many clients, have each call once, and print what one of them costs; give the CPU seconds."""
    from mizzen import Client

    crowd = [Client(url, transports=("websocket",)) for _ in range(clients)]
    turn = asyncio.Semaphore(at_once)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    async def connect(client: Client) -> None:
        async with turn:
            await client.connect()

    began = time.process_time()
    await asyncio.gather(*map(connect, crowd))
    connected = time.process_time() - began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert await asyncio.gather(*(client.call("echo", number) for number, client in enumerate(crowd))) == list(range(clients))
    used = time.process_time() - began
    await asyncio.gather(*(client.close() for client in crowd))
    print(f"{clients} clients in one process: {connected / clients * 1e6:.0f} µs and {memory / clients:.0f} KiB each")
    return used


TURNS = {"mizzen": mizzen_turn, "python-socketio": python_socketio_turn, "crowd": crowd_turn}


def measure(name: str, url: str, count: int, window: int) -> tuple[float, str]:
    """Run one turn in a process of its own; give its CPU seconds, and what it printed before."""
    command = [sys.executable, "-m", "benchmarks.client", "--turn", name, url, str(count), str(window)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return float(lines[-1]), "\n".join(lines[:-1])


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.client", description="Measure the Python clients.")
    parser.add_argument("--messages", type=int, default=4_000, help="calls in each turn")
    parser.add_argument("--turns", type=int, default=5, help="turns of each client")
    parser.add_argument("--clients", type=int, default=5_000, help="clients that one process holds; 0 leaves it out")
    parser.add_argument("--turn", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    limit = raise_file_limit()
    if given.turn is not None:
        name, url, count, window = given.turn
        print(asyncio.run(TURNS[name](url, int(count), int(window))))
        return
    console = Console()
    table = Table("calls in flight", "mizzen, µs", "python-socketio, µs", "ratio")
    server = next(peer for peer in PEERS if peer.name == "mizzen")
    server_cpu, client_cpu = two_cpus()
    os.sched_setaffinity(0, {client_cpu})
    with Running(server, "plain", server_cpu) as running:
        running.wait_until_ready()
        url = f"http://127.0.0.1:{running.port}"
        for window in WINDOWS:
            pairs = [
                tuple(measure(name, url, given.messages, window)[0] / given.messages * 1e6 for name in ("mizzen", "python-socketio"))
                for _ in range(given.turns)
            ]
            mine, other = (median(pair[side] for pair in pairs) for side in (0, 1))
            table.add_row(str(window), f"{mine:.1f}", f"{other:.1f}", f"{median(pair[0] / pair[1] for pair in pairs):.2f}")
        console.print(table)
        clients = min(given.clients, limit - SPARE_FILES)
        if clients:
            console.print(measure("crowd", url, clients, 100)[1])


if __name__ == "__main__":
    main()
