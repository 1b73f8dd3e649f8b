"""Our own JavaScript client in Node.js, in the place of socket.io-client 4.8: the same cases, against the same servers."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.interop.conftest import ServerOf
from tests.interop.processes import Outcome, Script, ServerProcess, free_port, node_command
from tests.interop.test_socketio_clients import CASES, SERVERS, WAYS
from tools.node import environment as node_environment

RUNS = [(server, way) for server in SERVERS for way in WAYS]


@pytest.fixture(scope="module")
def seen(server_of: ServerOf) -> dict[tuple[str, str], Mapping[str, Outcome]]:
    """Give what clients.mjs says of every case, by server and way."""
    return {(server, way): Script("clients.mjs", server_of(server).url, "mizzen", way).outcomes(within=50) for server, way in RUNS}


@pytest.mark.timeout(180)  # the first one waits for them all
@pytest.mark.parametrize(
    ("server", "way", "case"), [pytest.param(*run, case, id=f"{run[0]}-{run[1]}-{case}") for run in RUNS for case in CASES[4]]
)
def test_client(seen: dict[tuple[str, str], Mapping[str, Outcome]], server: str, way: str, case: str) -> None:
    outcomes = seen[server, way]
    assert case in outcomes, f"clients.mjs never came to this case: {outcomes[''].detail}"
    assert outcomes[case].ok, outcomes[case].detail


@pytest.mark.timeout(180)
def test_nothing_went_wrong_in_the_server(seen: dict[tuple[str, str], Mapping[str, Outcome]], server_of: ServerOf) -> None:
    assert seen
    server = server_of("mizzen")
    assert server.is_running
    assert "Traceback" not in server.output


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("server", ["mizzen-msgpack", "node-msgpack"])
def test_with_the_parser_of_messagepack(server_of: ServerOf, server: str, way: str) -> None:
    outcomes = Script("clients.mjs", server_of(server).url, "mizzen", way, "msgpack").outcomes(within=50)
    assert {case: outcome.detail for case, outcome in outcomes.items() if not outcome.ok} == {}
    assert len(outcomes) > 30


@pytest.mark.timeout(90)
def test_requests_to_a_real_sails_app(tmp_path: Path) -> None:
    port = free_port()
    server = ServerProcess(node_command("behaviour_sails.cjs", str(port)), port, tmp_path / "log", node_environment())
    server.start()
    try:
        for way in ("websocket", "polling"):
            outcomes = Script("mizzen_sails.mjs", server.url, way).outcomes(within=40)
            assert {case: outcome.detail for case, outcome in outcomes.items() if not outcome.ok} == {}
            assert len(outcomes) == 5
    finally:
        server.end(signal.SIGKILL)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "ended"])
@pytest.mark.parametrize("server_to_end", SERVERS, indirect=True)
def test_reconnection_after_a_restart(server_to_end: ServerProcess, how: signal.Signals) -> None:
    script = Script("reconnection.mjs", server_to_end.url, "mizzen")
    script.until_ready()
    server_to_end.end(how)
    server_to_end.start()
    outcomes = script.outcomes(within=40)
    assert {name: outcome.detail for name, outcome in outcomes.items() if not outcome.ok} == {}
    assert set(outcomes) == {f"clientmizzen-{way}" for way in WAYS} | {""}
