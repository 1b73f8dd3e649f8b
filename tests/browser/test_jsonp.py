"""socket.io-client 2.5 by JSONP in Chromium: from the own page, from an allowed one of another origin, and from one that is not.

Each case is a function of jsonp.mjs. The client's file comes from the server too.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping

import pytest

from tests.interop.processes import Outcome, Script, mizzen_server

CASES = ("own_page", "allowed_page", "refused_page", "client_is_cached")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Outcome]:
    """Give what jsonp.mjs says of every case; it runs once."""
    server = mizzen_server("tests.browser.jsonp_site:io", tmp_path_factory.mktemp("site") / "log")
    server.environment |= {"SITE_ALLOWS": f"http://127.0.0.1:{server.port}"}
    server.start()
    try:
        found = Script("../browser/jsonp.mjs", str(server.port)).outcomes(within=60)
        assert "Traceback" not in server.output, server.output
        assert server.output.count(f"refused a request of origin http://elsewhere.localhost:{server.port} ") == 1, server.output
        return found
    finally:
        server.end(signal.SIGKILL)  # how it ends when asked to is another test


@pytest.mark.timeout(90)  # the first one waits for them all
@pytest.mark.parametrize("case", CASES)
def test_page(outcomes: Mapping[str, Outcome], case: str) -> None:
    assert case in outcomes, f"jsonp.mjs never came to this case: {outcomes[''].detail}"
    assert outcomes[case].ok, outcomes[case].detail


def test_no_case_is_left_out(outcomes: Mapping[str, Outcome]) -> None:
    assert set(outcomes) - {""} == set(CASES)
