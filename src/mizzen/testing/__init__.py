"""For tests of apps: clients without a port, a clock that jumps, and a pytest plugin.

    from mizzen.testing import TestClient

    async def test_chat():
        async with TestClient(io) as socket:
            assert await socket.call("add", 1, 2) == 3

Everything runs in the event loop of the test, so that fixtures, transactions and patches of the test are those of the app. With the plugin,
which pytest finds by itself, the fixture `mizzen_client` makes such clients, and errors of handlers fail the test.
"""

from mizzen.testing.client import TestClient, TestSocket, linked_pair
from mizzen.testing.clock import Clock, settle
from mizzen.testing.errors import LoggedErrors
from mizzen.testing.factory import ClientFactory
from mizzen.testing.running import lifespan
from mizzen.testing.transport import InProcess

__all__ = ["ClientFactory", "Clock", "InProcess", "LoggedErrors", "TestClient", "TestSocket", "lifespan", "linked_pair", "settle"]
