"""What all tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Generator

import pytest
from hypothesis import settings

from tests.interop import engine_echo, suite_app
from tests.support import serve

settings.register_profile("mizzen", deadline=None, print_blob=True, derandomize="CI" in os.environ)
settings.load_profile("mizzen")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # What a shell starts in the background ignores Ctrl-C, and so would the programs that tests start and send it to.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In continuous integration a skipped test is a failed one: a peer that is missing there must be noticed."""
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, which continuous integration does not allow: {report.longrepr}"
    return report


@pytest.fixture
async def engine_echo_url() -> AsyncIterator[str]:
    """Give the URL of a server that echoes Engine.IO messages under /engine.io/."""
    async with serve(engine_echo.make()) as url:
        yield url


@pytest.fixture
async def suite_url() -> AsyncIterator[str]:
    """Give the URL of the server that the public Socket.IO protocol suite asks for."""
    async with serve(suite_app.make()) as url:
        yield url
