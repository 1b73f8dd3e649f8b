"""The two paths of a WebSocket, over which the tests of its contract run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.transports.paths import PATH


@pytest.fixture(params=["asgi", "native"])
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    """Have WebSockets come by ASGI events, or by the native path."""
    PATH.native = request.param == "native"
    yield request.param
    PATH.native = False
