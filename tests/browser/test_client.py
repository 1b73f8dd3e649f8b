"""Our own JavaScript client in Chromium, against Mizzen and against the reference implementation, over every way to connect.

Each case is a function of client.mjs, or of lifecycle.mjs: what becomes of a connection when the network, the page or the server goes away.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.interop.processes import Outcome, Script, ServerProcess, mizzen_server, node_command, reference_server
from tools.node import environment as node_environment

SERVERS = ("mizzen", "node")
WAYS = ("polling", "websocket", "upgrade")
CASES = (
    "connect",
    "a_page_that_does_not_use_it_opens_nothing",
    "module",
    "arguments",
    "binary_from_the_page",
    "binary_to_the_page",
    "binary_as_base64",
    "ack_of_the_page",
    "large",
    "more_than_one_payload_holds",
    "order_across_an_upgrade",
    "namespaces_share_a_connection",
    "volatile_timeout_retries",
    "listeners_of_all_events",
    "auth_and_query",
    "refusals",
    "a_server_that_is_not_there",
    "disconnected_by_the_server",
    "disconnected_by_the_page",
    "a_page_that_goes_tells_the_server",
    "a_socket_that_is_closed_while_it_connects",
    "an_error_in_a_listener_is_only_its_own",
    "workers",
)
UPGRADE_CASES = (
    *CASES,
    "without_upgrade",
    "remember_upgrade",
    "try_all_transports",
    "an_upgrade_that_fails_leaves_polling",
    "an_upgrade_that_fails_halfway_leaves_polling",
)
LIFECYCLE_CASES = (
    "two_tabs",
    "dropped_network",
    "a_server_on_the_same_machine_needs_no_network",
    "frozen_page",
    "network_that_is_gone_without_a_word",
    "late_timers",
    "proxy_that_closes_idle_connections",
    "proxy_more_patient_than_the_ping_interval",
    "what_was_missed_is_recovered",
    "back_and_forward",
    "server_restart",
)
RUNS = [(server, way) for server in SERVERS for way in WAYS]

OutcomesOf = Callable[[str, str], Mapping[str, Outcome]]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OutcomesOf]:
    """Give what client.mjs says of every case; it runs once for each server and way."""
    folder = tmp_path_factory.mktemp("servers")
    servers = {"mizzen": mizzen_server("tests.interop.app:io", folder / "mizzen.log"), "node": reference_server(folder / "node.log")}
    done: dict[tuple[str, str], Mapping[str, Outcome]] = {}

    def outcomes(server: str, way: str) -> Mapping[str, Outcome]:
        if (server, way) not in done:
            if not servers[server].is_running:
                servers[server].start()
            done[server, way] = Script("../browser/client.mjs", f"http://localhost:{servers[server].port}", way).outcomes(within=100)
            assert "Traceback" not in servers[server].output
        return done[server, way]

    yield outcomes
    for server in servers.values():
        server.end(signal.SIGKILL)  # how it ends when asked to is another test


def cases_of(way: str) -> tuple[str, ...]:
    return UPGRADE_CASES if way == "upgrade" else CASES


@pytest.mark.timeout(120)  # the first of a run waits for them all
@pytest.mark.parametrize(
    ("server", "way", "case"), [pytest.param(*run, case, id=f"{run[0]}-{run[1]}-{case}") for run in RUNS for case in cases_of(run[1])]
)
def test_page(outcomes: OutcomesOf, server: str, way: str, case: str) -> None:
    seen = outcomes(server, way)
    assert case in seen, f"client.mjs never came to this case: {seen[''].detail}"
    assert seen[case].ok, seen[case].detail


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("server", "way"), RUNS)
def test_no_case_is_left_out(outcomes: OutcomesOf, server: str, way: str) -> None:
    assert set(outcomes(server, way)) - {""} == set(cases_of(way))


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("server", "way"), RUNS)
def test_lifecycle(server: str, way: str, tmp_path: Path) -> None:
    if server == "node":
        seen = lifecycle(way, None)
    else:
        ours = mizzen_server("tests.browser.lifecycle_app:io", tmp_path / "server.log")
        ours.start()
        try:
            seen = lifecycle(way, ours)
        finally:
            ours.end(signal.SIGKILL)
        assert "Traceback" not in ours.output
    assert {case: detail for case, (ok, detail) in seen.items() if not ok} == {}
    assert set(seen) == set(LIFECYCLE_CASES)


def lifecycle(way: str, server: ServerProcess | None) -> dict[str, tuple[bool, str]]:
    """Run lifecycle.mjs and do to the server what it asks for; give what it says of each case."""
    url = [f"http://localhost:{server.port}"] if server else []
    command = node_command("../browser/lifecycle.mjs", way, *url)
    seen: dict[str, tuple[bool, str]] = {}
    with subprocess.Popen(command, env=node_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as script:
        assert script.stdin is not None
        assert script.stdout is not None
        for line in script.stdout:
            match json.loads(line):
                case {"ask": "stop"}:
                    assert server is not None
                    server.end()
                case {"ask": "start"}:
                    assert server is not None
                    server.start()
                case {"case": str(case), "ok": bool(ok), "detail": str(detail)}:
                    seen[case] = (ok, detail)
                    continue
                case other:
                    raise ValueError(f"the script says {other!r}")
            script.stdin.write("\n")
            script.stdin.flush()
    return seen
