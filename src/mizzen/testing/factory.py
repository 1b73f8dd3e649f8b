"""What the fixture `mizzen_client` gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from mizzen.client.options import Auth, Strings
from mizzen.ports import Codec
from mizzen.testing.client import WITHIN, TestClient
from mizzen.testing.errors import LoggedErrors
from mizzen.types import ASGIApp


class ClientFactory:
    """What the fixture `mizzen_client` gives: call it to make a client.

    `errors` are the errors that Mizzen has logged in this test, those of handlers among them. What is left of them at the end of the test
    fails it: a test that means one takes it out, `mizzen_client.errors.clear()`.
    """

    def __init__(self, errors: LoggedErrors) -> None:
        self.errors: LoggedErrors = errors

    def __call__(
        self,
        app: ASGIApp,
        url: str = "/",
        *,
        auth: Auth = None,
        path: str = "/socket.io",
        eio: Literal[3, 4] = 4,
        query: Strings = None,
        headers: Strings = None,
        cookies: Mapping[str, str] | None = None,
        client: tuple[str, int] = ("testclient", 50000),
        sails: bool = False,
        reconnection: bool = False,
        reconnection_delay: float = 1.0,
        connect_timeout: float = WITHIN,
        ack_timeout: float | None = WITHIN,
        parser: Codec | None = None,
    ) -> TestClient:
        """Make a client: `async with mizzen_client(io, "/chat") as socket:`; see `mizzen.testing.TestClient`."""
        return TestClient(
            app,
            url,
            auth=auth,
            path=path,
            eio=eio,
            query=query,
            headers=headers,
            cookies=cookies,
            client=client,
            sails=sails,
            reconnection=reconnection,
            reconnection_delay=reconnection_delay,
            connect_timeout=connect_timeout,
            ack_timeout=ack_timeout,
            parser=parser,
        )
