"""httpx over a socket: the only module that knows httpx, imported once a `SocketTransport` is made."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Final, Self, TypeAlias
from urllib.parse import parse_qsl

from mizzen.client.requests import Data
from mizzen.client.response import Response
from mizzen.client.socket import ClientSocket
from mizzen.client.sync import SyncClientSocket
from mizzen.errors import AckTimeout, ConnectionClosed, LocalProtocolError, MizzenError
from mizzen.types import JSON, VERBS

if TYPE_CHECKING:
    import httpx

    class Base(httpx.AsyncBaseTransport, httpx.BaseTransport):
        """What httpx calls a transport."""

else:

    class Base:
        """httpx asks a transport for its methods only, and need not be installed."""


_OF_HTTP: Final = frozenset(("host", "connection", "content-length", "transfer-encoding", "accept-encoding"))
"""Headers of a request that speak of the HTTP connection, which there is none of."""

_BODILESS: Final = frozenset((204, 304))
_FORM: Final = "application/x-www-form-urlencoded"

_Body: TypeAlias = tuple[JSON, Data | None]
"""What a request is given as `json` and as `data`."""


class SocketTransport(Base):
    """Has httpx make its requests over a socket: the code that makes them stays as it is.

        async with mizzen.Client("http://localhost:8000") as socket:
            async with httpx.AsyncClient(transport=mizzen.SocketTransport(socket), base_url="http://localhost:8000") as http:
                rooms = (await http.get("/rooms", params={"limit": 10})).json()

    With a `SyncClient` it is for `httpx.Client`. All requests go to the socket's server, whatever host their URL names; give it to `mounts`
    to have only some go there. The socket stays its owner's: it has to be connected, and is not closed. Raises ImportError without httpx.

    JSON bodies and forms travel as values, text as text, other bodies (files) as bytes; an answer comes as one piece. Cookies are those of
    the connection: what answers set the server keeps for this socket, and a `cookie` header does not reach the app.

    Errors are those of httpx: ReadTimeout and ConnectTimeout (the timeouts `read` and `connect` count), ConnectError, ReadError,
    RemoteProtocolError and LocalProtocolError.
    """

    def __init__(self, socket: ClientSocket | SyncClientSocket) -> None:
        try:
            import_module("httpx")
        except ImportError as error:
            raise ImportError("SocketTransport is for httpx, which is not installed: pip install httpx") from error
        self._socket = socket

    def __repr__(self) -> str:
        return f"<SocketTransport over {self._socket!r}>"

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Make a request of `httpx.AsyncClient`."""
        socket = self._socket
        if not isinstance(socket, ClientSocket):
            raise LocalProtocolError("httpx.AsyncClient needs a SocketTransport over mizzen.Client; this one is over a SyncClient")
        content = await request.aread()
        with _errors(socket, request):
            json, data = _body(request, content)
            return _answer(
                request.method,
                await socket.request(
                    request.method, _path(request), json=json, data=data, headers=_headers(request), timeout=_timeout(socket, request)
                ),
            )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Make a request of `httpx.Client`."""
        socket = self._socket
        if not isinstance(socket, SyncClientSocket):
            raise LocalProtocolError("httpx.Client needs a SocketTransport over mizzen.SyncClient; this one is over an async client")
        content = request.read()
        with _errors(socket, request):
            json, data = _body(request, content)
            return _answer(
                request.method,
                socket.request(
                    request.method, _path(request), json=json, data=data, headers=_headers(request), timeout=_timeout(socket, request)
                ),
            )

    # What httpx asks of every transport; the socket is its owner's.

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None: ...

    async def aclose(self) -> None:
        """Do nothing: the socket is its owner's."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...

    def close(self) -> None:
        """Do nothing: the socket is its owner's."""


def _path(request: httpx.Request) -> str:
    return request.url.raw_path.decode("ascii")


def _headers(request: httpx.Request) -> dict[str, str]:
    return {name: value for name, value in request.headers.items() if name not in _OF_HTTP}


def _body(request: httpx.Request, content: bytes) -> _Body:
    """Give the body in the form that a server of any kind understands: as a value where it is one."""
    import httpx

    if request.method.lower() not in VERBS:
        raise httpx.LocalProtocolError(f"{request.method} is not a method of socket requests", request=request)
    if not content:
        return None, None
    if request.method in ("GET", "HEAD"):
        raise httpx.LocalProtocolError(f"a {request.method} request over a socket has no body", request=request)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == "application/json" or kind.endswith("+json"):
            value: JSON = json.loads(content, parse_constant=_refuse)
            return (value, None) if value is not None else (None, content)
        if kind == _FORM:
            return None, _form(content.decode("ascii"))
        return None, content.decode() if kind.startswith("text/") else content
    except ValueError:
        return None, content  # whatever it is, it is for the app to say


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _form(text: str) -> Data:
    form: dict[str, JSON] = {}
    for name, value in parse_qsl(text, keep_blank_values=True, strict_parsing=True):
        values: list[str] = form.setdefault(name, [])
        values.append(value)
    return {name: values if len(values) > 1 else values[0] for name, values in form.items()}


def _timeout(socket: ClientSocket | SyncClientSocket, request: httpx.Request) -> float | None:
    """Give the seconds that the answer may take, with the connecting that goes before."""
    timeouts: dict[str, float | None] = request.extensions.get("timeout", {})
    read = timeouts.get("read")
    if socket.connected or read is None:
        return read
    connect = timeouts.get("connect")
    return None if connect is None else connect + read


@contextmanager
def _errors(socket: ClientSocket | SyncClientSocket, request: httpx.Request) -> Generator[None]:
    """Raise the errors of httpx in place of our own."""
    import httpx

    if not socket.active:
        raise httpx.ConnectError(f"{socket!r} is not connected: call its connect() before the request", request=request)
    try:
        yield
    except AckTimeout as error:
        kind = httpx.ReadTimeout if socket.connected else httpx.ConnectTimeout
        raise kind(str(error), request=request) from error
    except ConnectionClosed as error:
        raise httpx.ReadError(str(error), request=request) from error
    except LocalProtocolError as error:
        raise httpx.LocalProtocolError(str(error), request=request) from error
    except MizzenError as error:
        raise httpx.RemoteProtocolError(str(error), request=request) from error


def _answer(method: str, response: Response) -> httpx.Response:
    import httpx

    content = b"" if method == "HEAD" or response.status_code in _BODILESS else response.content
    return httpx.Response(response.status_code, headers=dict(response.headers), stream=httpx.ByteStream(content))
