"""Connection state recovery with socket.io-client 4.8 over connections that are cut.

Each case is a function of recovery.mjs. The reference implementation passes those of `COMMON`; the others are what it does not do.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.interop.processes import HOST, Outcome, Script, ServerProcess, free_port, mizzen_server, node_command, node_environment

WAYS = ("polling", "websocket", "upgrade")
COMMON = (
    "rooms_data_and_missed_packets",
    "binary",
    "twice_without_an_event_in_between",
    "again_and_again",
    "acks_are_not_replayed",
    "several_namespaces",
    "dynamic_namespace",
    "leaving_is_for_good",
)
OURS = ("without_any_event_before", "volatile_events_leave_the_offset_alone", "back_before_the_server_saw_it_go")
CASES: dict[str, tuple[str, ...]] = {"mizzen": COMMON + OURS, "mizzen by ASGI events": COMMON + OURS, "node": COMMON}

Outcomes = Callable[[str, str], Mapping[str, Outcome]]


def start(name: str, log: Path) -> ServerProcess:
    """Give a server of recovery.mjs, running."""
    app = "tests.interop.recovery_app:io"
    if name == "mizzen":
        server = mizzen_server(app, log)
    else:
        port = free_port()
        by_events = [sys.executable, "-m", "uvicorn", app, "--ws", "websockets-sansio", "--host", HOST, "--port", str(port)]
        command = by_events if name != "node" else node_command("recovery_server.mjs", str(port))
        server = ServerProcess(command, port, log, node_environment() if name == "node" else os.environ)
    server.start()
    return server


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcomes]:
    """Give what recovery.mjs says of every case; it runs once for each server and way."""
    folder = tmp_path_factory.mktemp("servers")
    servers: dict[str, ServerProcess] = {}
    done: dict[tuple[str, str], Mapping[str, Outcome]] = {}

    def outcomes(name: str, way: str) -> Mapping[str, Outcome]:
        if name not in servers:
            servers[name] = start(name, folder / f"{name}.log")
        if (name, way) not in done:
            seen = Script("recovery.mjs", servers[name].url, way, *CASES[name]).outcomes(within=60)
            log = servers[name].output
            done[name, way] = {**seen, "log": Outcome("Traceback" not in log, log)}
        return done[name, way]

    yield outcomes
    for server in servers.values():
        server.end(signal.SIGKILL)


@pytest.mark.parametrize(
    ("server", "way", "case"), [(server, way, case) for server, cases in CASES.items() for way in WAYS for case in (*cases, "log")]
)
def test_client(outcomes: Outcomes, server: str, way: str, case: str) -> None:
    seen = outcomes(server, way)
    assert case in seen, f"recovery.mjs never came to this case: {seen[''].detail}"
    assert seen[case].ok, seen[case].detail
