"""The servers that the real clients talk to: Mizzen's, and the reference implementation's, which proves the clients' scripts."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.interop.processes import ServerProcess, mizzen_server, reference_server

ServerOf = Callable[[str], ServerProcess]


@pytest.fixture(scope="session")
def server_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerOf]:
    """Give the running server of a name: "node", "mizzen", both also with "-msgpack", or "sails" (a FastAPI app wrapped by Mizzen)."""
    folder = tmp_path_factory.mktemp("servers")
    servers: dict[str, ServerProcess] = {}
    with ExitStack() as at_the_end:

        def server_of(name: str) -> ServerProcess:
            if name not in servers:
                server = servers[name] = new_server(name, folder / f"{name}.log")
                at_the_end.callback(server.end, signal.SIGKILL)  # how it ends when asked to is another test
                server.start()
            return servers[name]

        yield server_of


@pytest.fixture
def server_to_end(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Give a running server of one test alone, which may end it and start it again; its parameter is the name."""
    server = new_server(request.param, tmp_path_factory.mktemp("server") / "log")
    server.start()
    yield server
    server.end(signal.SIGKILL)


def new_server(name: str, log: Path) -> ServerProcess:
    match name:
        case "node":
            return reference_server(log)
        case "mizzen":
            return mizzen_server("tests.interop.app:io", log)
        case "node-msgpack":
            return reference_server(log, "msgpack")
        case "mizzen-msgpack":
            return mizzen_server("tests.interop.app:io", log, PARSER="msgpack")
        case "sails":
            return mizzen_server("tests.interop.sails_app:io", log)
        case _:
            raise ValueError(f"no server is called {name!r}")
