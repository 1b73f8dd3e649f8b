"""The public names are pinned: a name that comes or goes must be meant, and be changed here too."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib.resources import files

import pytest

import mizzen
from mizzen import errors

ERRORS = [
    "AckTimeout",
    "ArgumentsInvalid",
    "ConnectFailed",
    "ConnectRefused",
    "ConnectionClosed",
    "EventRefused",
    "LocalProtocolError",
    "MizzenError",
    "OptionsError",
    "ProtocolError",
    "RemoteError",
    "RemoteProtocolError",
]
NAMES = [
    *ERRORS,
    "JSON",
    "Client",
    "ClientSocket",
    "Connection",
    "ConnectionStateRecovery",
    "Cookie",
    "EnginePacket",
    "Event",
    "Handshake",
    "JSONCodec",
    "MsgpackCodec",
    "Namespace",
    "Operator",
    "ParentNamespace",
    "Reason",
    "RefusedRequest",
    "RemoteSocket",
    "ResponseHeaders",
    "Response",
    "RoomEvent",
    "Server",
    "Socket",
    "SocketOperator",
    "SocketTransport",
    "StatusError",
    "SyncClient",
    "SyncClientSocket",
    "from_thread",
    "socket_of",
]
FRAMEWORKS = ["aiohttp", "click", "django", "fastapi", "flask", "httpx", "litestar", "pydantic", "quart", "rich", "starlette", "uvicorn"]


def test_the_public_names():
    assert sorted(mizzen.__all__) == sorted(NAMES)
    assert len(set(mizzen.__all__)) == len(mizzen.__all__)


def test_every_error_is_public():
    defined = [name for name, value in vars(errors).items() if inspect.isclass(value) and value.__module__ == errors.__name__]
    assert sorted(defined) == ERRORS


@pytest.mark.parametrize("name", [name for name in NAMES if name != "JSON"])
def test_a_public_name_has_a_docstring(name: str):
    documentation = getattr(mizzen, name).__doc__
    assert documentation
    first_line = documentation.strip().splitlines()[0]
    assert first_line.endswith((".", ":")) or ". " in first_line or "; " in first_line, "the first line is one sentence"


def test_importing_mizzen_imports_no_framework():
    script = "import sys, mizzen; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "mizzen" in loaded
    assert not set(FRAMEWORKS) & set(loaded)


def test_the_package_says_that_it_is_typed():
    assert files("mizzen").joinpath("py.typed").is_file()
