"""The browser's sails.io.js 1.2.1, as npm gives it, and our own client in its place, in Chromium: same origin and cross-origin.

Each case is a function of sails.mjs, against a FastAPI app wrapped by Mizzen.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from tests.interop.processes import PACKAGES, ROOT, Outcome, Script, ServerProcess, mizzen_server

CLIENTS = {
    "sails.io.js": PACKAGES / "sails.io.js-dist/sails.io.js",
    "mizzen": ROOT / "src/mizzen/static/mizzen.js",
}

CASES = (
    "connects_by_itself",
    "autoConnect",
    "url",
    "transports",
    "transports_with_upgrade",
    "headers",
    "environment",
    "reconnection",
    "path",
    "data_prefix_wins",
    "wrong_attribute",
    "settings_before_connecting",
    "settings_win_over_attributes",
    "settings_are_defaults_of_connect",
    "initial_connection_headers",
    "nosession",
    "settings_are_locked_while_connected",
    "verbs",
    "request",
    "data",
    "jwr",
    "errors",
    "answers_that_are_not_json",
    "binary_data",
    "form",
    "global_headers",
    "wrong_arguments",
    "request_without_callback",
    "on_and_off",
    "broadcast_to_another_page",
    "http_post_is_seen_as_an_event",
    "plain_event_beside_requests",
    "queue_before_connect",
    "second_socket",
    "disconnect_and_reconnect",
    "requests_in_flight_fail_with_the_connection",
    "dropped_by_the_server",
    "listeners_and_requests_after_reconnection",
    "login_by_http_then_socket",
    "login_by_http_on_an_earlier_page",
    "login_by_http_reaches_an_open_socket_by_reconnecting",
    "login_by_socket_is_the_sockets_own",
    "logout_by_http_cuts_the_socket",
    "a_message_cannot_set_the_cookie_or_the_origin",
    "other_port_gets_a_cookie",
    "foreign_page_connects",
    "foreign_page_gets_a_cookie_of_same_site_none",
    "foreign_page_and_the_login_of_the_site",
    "without_the_cookie_route",
    "own_cookie_route",
    "cookie_route_for_each_socket",
    "foreign_page_by_polling",
    "foreign_page_by_polling_where_credentials_may_not",
    "refused_page_gets_no_script",
    "refused_page_cannot_connect",
    "refused_page_cannot_connect_by_polling",
)

ADDITIONS = (
    "made_on_first_use",
    "promises",
    "timeout_and_signal",
    "headers_as_functions",
    "fetch",
    "what_is_removed_stays_removed",
    "query_of_the_url",
    "plain_events_of_io_socket",
    "io_socket_of_ones_own",
)


@dataclass(frozen=True)
class Sites:
    """Two servers, each of which allows the pages of the other one's origins; they differ in the SameSite of their session's cookie."""

    lax: ServerProcess
    none: ServerProcess


@pytest.fixture(scope="module", params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    """Give the name of the client that the pages have."""
    if not CLIENTS[request.param].is_file():
        raise RuntimeError(f"{CLIENTS[request.param]} is missing; run: make setup")
    return request.param


@pytest.fixture(scope="module")
def sites(client: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    """Give both sites, running."""
    folder = tmp_path_factory.mktemp("sites")
    lax, none = (mizzen_server("tests.browser.sails_site:io", folder / f"{name}.log") for name in ("lax", "none"))
    for server, other, cookies in ((lax, none, "lax"), (none, lax, "none")):
        allowed = f"http://localhost:{other.port} http://127.0.0.1:{other.port}"
        server.environment |= {"SITE_ALLOWS": allowed, "SITE_COOKIES": cookies, "SITE_CLIENT": str(CLIENTS[client])}
    try:
        lax.start()
        none.start()
        yield Sites(lax, none)
    finally:
        lax.end(signal.SIGKILL)  # how it ends when asked to is another test
        none.end(signal.SIGKILL)


@pytest.fixture(scope="module")
def outcomes(client: str, sites: Sites) -> Mapping[str, Outcome]:
    """Give what sails.mjs says of every case; it runs once for each client."""
    ours = ["mizzen"] if client == "mizzen" else []
    return Script("../browser/sails.mjs", str(sites.lax.port), str(sites.none.port), *ours).outcomes(within=150)


@pytest.mark.timeout(180)  # the first one waits for them all
@pytest.mark.parametrize("case", CASES)
def test_page(outcomes: Mapping[str, Outcome], case: str) -> None:
    assert case in outcomes, f"sails.mjs never came to this case: {outcomes[''].detail}"
    assert outcomes[case].ok, outcomes[case].detail


@pytest.mark.timeout(180)
@pytest.mark.parametrize("client", ["mizzen"], indirect=True)
@pytest.mark.parametrize("case", ADDITIONS)
def test_what_our_client_adds(outcomes: Mapping[str, Outcome], case: str) -> None:
    assert case in outcomes, f"sails.mjs never came to this case: {outcomes[''].detail}"
    assert outcomes[case].ok, outcomes[case].detail


@pytest.mark.timeout(180)
def test_no_case_is_left_out(client: str, outcomes: Mapping[str, Outcome]) -> None:
    additions = ADDITIONS if client == "mizzen" else ()
    assert set(outcomes) - {""} == {*CASES, *additions}


@pytest.mark.timeout(180)
def test_only_the_failing_route_and_the_refused_page_are_in_the_log(client: str, outcomes: Mapping[str, Outcome], sites: Sites) -> None:
    for server, other in ((sites.lax, sites.none), (sites.none, sites.lax)):
        assert server.is_running
        refusals = [line for line in server.output.splitlines() if "refused a request of origin" in line]
        # sails.io.js does not try to connect where it got no script
        tried_without = client == "mizzen" and server is sites.lax
        assert len(refusals) == 1 + tried_without, server.output
        assert all(f"http://elsewhere.localhost:{other.port} " in refusal for refusal in refusals)
    assert sites.lax.output.count("Traceback") == 1, sites.lax.output
    assert "RuntimeError: the secret of the stack" in sites.lax.output
    assert "Traceback" not in sites.none.output
