"""The pytest plugin; pytest finds it by itself where Mizzen is installed."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from mizzen.testing.errors import LoggedErrors
from mizzen.testing.factory import ClientFactory

ERRORS = pytest.StashKey[LoggedErrors]()


@pytest.fixture
def mizzen_errors(request: pytest.FixtureRequest) -> Iterator[LoggedErrors]:
    """The errors that Mizzen logs in this test, those of handlers among them; what is left of them at its end fails the test."""
    errors = LoggedErrors()
    errors.start()
    request.node.stash[ERRORS] = errors
    try:
        yield errors
    finally:
        errors.stop()
    errors.check()


@pytest.fixture
def mizzen_client(mizzen_errors: LoggedErrors) -> ClientFactory:
    """Make clients of an app in the same process: `mizzen_client(io, "/chat")`; errors of handlers fail the test."""
    return ClientFactory(mizzen_errors)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail the test itself, and not only the end of its fixtures."""
    try:
        result = yield
    except BaseException as error:
        errors = item.stash.get(ERRORS, None)
        if errors is not None:
            errors.explain(error)
        raise
    errors = item.stash.get(ERRORS, None)
    if errors is not None:
        errors.check()
    return result
