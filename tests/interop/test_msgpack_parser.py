"""socket.io-client 4 with socket.io-msgpack-parser: the cases of the other clients, and what only MessagePack can carry."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from tests.interop.conftest import ServerOf
from tests.interop.processes import Outcome, Script
from tests.interop.test_socketio_clients import CASES as JSON_CASES
from tests.interop.test_socketio_clients import WAYS

SERVERS = ("mizzen-msgpack", "node-msgpack")
CASES = ({*JSON_CASES[4]} - {"lone_surrogates", "unicode_in_one_payload"}) | {"what_json_has_not", "array_buffers"}

Outcomes = Callable[[str, str], Mapping[str, Outcome]]


@pytest.fixture(scope="module")
def outcomes(server_of: ServerOf) -> Outcomes:
    """Give what clients.mjs says of every case; it runs once for each server and way."""
    done: dict[tuple[str, str], Mapping[str, Outcome]] = {}

    def outcomes(server: str, way: str) -> Mapping[str, Outcome]:
        if (server, way) not in done:
            done[server, way] = Script("clients.mjs", server_of(server).url, "4", way, "msgpack").outcomes(within=50)
        return done[server, way]

    return outcomes


@pytest.mark.parametrize("case", sorted(CASES))
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("server", SERVERS)
def test_client(outcomes: Outcomes, server: str, way: str, case: str) -> None:
    seen = outcomes(server, way)
    assert case in seen, f"clients.mjs never came to this case: {seen[''].detail}"
    assert seen[case].ok, seen[case].detail


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("server", SERVERS)
def test_no_case_is_left_out(outcomes: Outcomes, server: str, way: str) -> None:
    assert set(outcomes(server, way)) - {""} == CASES


def test_nothing_went_wrong_in_the_server(outcomes: Outcomes, server_of: ServerOf) -> None:
    for way in WAYS:
        outcomes("mizzen-msgpack", way)
    server = server_of("mizzen-msgpack")
    assert server.is_running
    assert "protocol/msgpack.py" not in server.output
