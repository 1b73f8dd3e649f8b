"""sails.io.js 1.2.1 with socket.io-client 2.0.3, as npm gives them, against a FastAPI app wrapped by Mizzen.

Each case is a function of sails.cjs.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.interop.conftest import ServerOf
from tests.interop.processes import Outcome, Script

CASES = (
    "connect",
    "io_socket_connects_by_itself",
    "verbs",
    "verbs_by_request",
    "data",
    "data_of_get_is_its_query",
    "headers",
    "headers_of_the_handshake",
    "values",
    "answers_that_are_not_json",
    "binary_data",
    "jwr",
    "not_found",
    "method_not_allowed",
    "forbidden",
    "validation",
    "server_error",
    "request_that_is_none",
    "queue_before_connect",
    "broadcast_to_another_client",
    "event_comes_before_the_answer",
    "http_post_is_seen_as_an_event",
    "socket_post_is_seen_by_http_get",
    "slow_request_blocks_no_other",
    "many_requests_at_once",
    "disconnect_with_a_request_in_flight",
    "dropped_by_the_server_with_a_request_in_flight",
    "reconnect",
    "reconnection_by_itself",
    "plain_event_beside_requests",
    "polling",
)


@pytest.fixture(scope="module")
def outcomes(server_of: ServerOf) -> Mapping[str, Outcome]:
    """Give what sails.cjs says of every case; it runs once."""
    return Script("sails.cjs", server_of("sails").url).outcomes(within=50)


@pytest.mark.parametrize("case", CASES)
def test_client(outcomes: Mapping[str, Outcome], case: str) -> None:
    assert case in outcomes, f"sails.cjs never came to this case: {outcomes[''].detail}"
    assert outcomes[case].ok, outcomes[case].detail


def test_no_case_is_left_out(outcomes: Mapping[str, Outcome]) -> None:
    assert set(outcomes) - {""} == set(CASES)


def test_only_the_failing_route_is_in_the_log(outcomes: Mapping[str, Outcome], server_of: ServerOf) -> None:
    server = server_of("sails")
    assert server.is_running
    assert server.output.count("Traceback") == 1, server.output
    assert "RuntimeError: the secret of the stack" in server.output
