"""socket.io-client 2.5, 3.1 and 4.8 as npm gives them, over every way to connect.

Each case is a function of clients.mjs. All of them run against the reference implementation too: a case that fails there is wrong itself.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping

import pytest

from tests.interop.conftest import ServerOf
from tests.interop.processes import Outcome, Script, ServerProcess

SERVERS = ("mizzen", "node")
WAYS = ("polling", "websocket", "upgrade")
CASES: dict[int, tuple[str, ...]] = {
    2: (
        "connect",
        "handshake",
        "transport",
        "welcome_follows_connect",
        "arguments",
        "unicode",
        "lone_surrogates",
        "unicode_in_one_payload",
        "ack_many",
        "ack_from_client",
        "ack_timeout_of_server",
        "ack_without_listener",
        "binary",
        "binary_typed_array",
        "binary_ack",
        "binary_as_base64",
        "large",
        "order",
        "namespaces",
        "namespace_unknown",
        "rooms",
        "refused_by_middleware",
        "refused_by_connect_handler",
        "refused_in_main_namespace",
        "disconnected_by_server",
        "connection_closed_by_server",
        "disconnected_by_client",
        "connection_closed_by_client",
        "volatile",
    )
}
CASES[3] = (*CASES[2], "volatile_of_client", "auth_function")
CASES[4] = (
    *CASES[3],
    "ack_timeout_of_client",
    "retries",
    "dynamic_namespaces",
    "namespaces_by_function",
    "packet_middleware",
    "catch_all_and_once",
    "disconnecting",
    "broadcast_acks",
    "across_the_namespace",
    "flags",
)

Outcomes = Callable[[str, int, str], Mapping[str, Outcome]]


def runs() -> Iterator[tuple[str, int, str]]:
    for server in SERVERS:
        for version in CASES:
            for way in WAYS:
                yield server, version, way


@pytest.fixture(scope="module")
def outcomes(server_of: ServerOf) -> Outcomes:
    """Give what clients.mjs says of every case; it runs once for each server, client and way."""
    done: dict[tuple[str, int, str], Mapping[str, Outcome]] = {}

    def outcomes(server: str, version: int, way: str) -> Mapping[str, Outcome]:
        key = (server, version, way)
        if key not in done:
            done[key] = Script("clients.mjs", server_of(server).url, str(version), way).outcomes(within=50)
        return done[key]

    return outcomes


@pytest.mark.parametrize(
    ("server", "version", "way", "case"),
    [
        pytest.param(server, version, way, case, id=f"{server}-client{version}-{way}-{case}")
        for server, version, way in runs()
        for case in CASES[version]
    ],
)
def test_client(outcomes: Outcomes, server: str, version: int, way: str, case: str) -> None:
    seen = outcomes(server, version, way)
    assert case in seen, f"clients.mjs never came to this case: {seen[''].detail}"
    assert seen[case].ok, seen[case].detail


@pytest.mark.parametrize(("server", "version", "way"), [pytest.param(*run, id=f"{run[0]}-client{run[1]}-{run[2]}") for run in runs()])
def test_no_case_is_left_out(outcomes: Outcomes, server: str, version: int, way: str) -> None:
    assert set(outcomes(server, version, way)) - {""} == set(CASES[version])


def test_nothing_went_wrong_in_the_server(outcomes: Outcomes, server_of: ServerOf) -> None:
    for version in CASES:
        for way in WAYS:
            outcomes("mizzen", version, way)
    server = server_of("mizzen")
    assert server.is_running
    assert "Traceback" not in server.output


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "ended"])
@pytest.mark.parametrize("server_to_end", SERVERS, indirect=True)
def test_reconnection_after_a_restart(server_to_end: ServerProcess, how: signal.Signals) -> None:
    script = Script("reconnection.mjs", server_to_end.url)
    script.until_ready()
    server_to_end.end(how)
    server_to_end.start()
    outcomes = script.outcomes(within=40)
    assert {name: outcome.detail for name, outcome in outcomes.items() if not outcome.ok} == {}
    assert set(outcomes) == {f"client{version}-{way}" for version in CASES for way in WAYS} | {""}
