"""HTTP by aiohttp: the only module that knows it, imported once a client is made that needs it."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from os import urandom
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from mizzen.errors import ConnectFailed
from mizzen.protocol.upgrade import accept_key
from mizzen.protocol.websocket import accepts_deflate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mizzen.client.options import ClientOptions

HTTPSession: TypeAlias = aiohttp.ClientSession
"""What the option `http_session` takes."""

UNLIMITED: Final = aiohttp.ClientTimeout(total=None)
SHOWN: Final = 200
"""Characters of an answer that an error tells."""

CREDENTIALS: Final = "; proxy='http://user:password@host:port' gives it credentials"

DEFLATE_OFFER: Final = "permessage-deflate; client_no_context_takeover; server_no_context_takeover"


class Answer:
    """The answer to one request of long-polling."""

    __slots__ = ("binary", "body")

    def __init__(self, body: bytes, binary: bool) -> None:
        self.body: bytes = body
        self.binary: bool = binary


class _Early:
    """Takes what came behind the head of the answer, before the protocol is changed."""

    def __init__(self) -> None:
        self.data: bytes = b""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.data += data
        return False, b""

    def feed_eof(self) -> None: ...


class Wire:
    """An open WebSocket connection: `transport` has been given the new protocol, `early` came before."""

    __slots__ = ("_response", "deflated", "early", "transport")

    def __init__(self, response: aiohttp.ClientResponse, transport: asyncio.Transport, early: bytes, deflated: bool) -> None:
        self._response = response
        self.transport: asyncio.Transport = transport
        self.early: bytes = early
        self.deflated: bool = deflated

    def release(self) -> None:
        """Tell aiohttp that the connection is over."""
        self._response.close()


class HTTP:
    """The HTTP side of one client: its cookies, TLS, proxy and kept-alive connections."""

    def __init__(self, options: ClientOptions) -> None:
        self._options = options
        self._own: aiohttp.ClientSession | None = None

    def _session(self) -> aiohttp.ClientSession:
        given = self._options.http_session
        if given is not None:
            return given
        if self._own is None or self._own.closed:
            uds = self._options.uds
            self._own = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(uds) if uds is not None else aiohttp.TCPConnector(limit=0),
                cookies=self._options.cookies,
                cookie_jar=aiohttp.CookieJar(unsafe=True),  # cookies of servers that are named by an address count too
                timeout=UNLIMITED,
            )
        return self._own

    def forget(self) -> None:
        """Begin anew: the event loop of the session is no more."""
        self._own = None

    async def close(self) -> None:
        """Let go of everything but what was given."""
        own, self._own = self._own, None
        if own is not None:
            await own.close()

    async def fetch(
        self, method: str, url: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes | None = None, content_type: str = ""
    ) -> Answer:
        """Make a request of long-polling. Raises ConnectFailed for whatever is not an answer of status 200."""
        options = self._options
        sent = {"Accept": "*/*", **headers, **({"Content-Type": content_type} if body is not None else {})}
        try:
            async with asyncio.timeout(options.request_timeout):
                async with self._session().request(
                    method,
                    URL(f"{url}?{urlencode(query)}", encoded=True),
                    data=body,
                    headers=sent,
                    ssl=options.ssl,
                    proxy=options.proxy,
                    timeout=UNLIMITED,
                    allow_redirects=False,
                    # The first may be repeated: whoever refused a WebSocket before may have hung up without saying so.
                    middlewares=(_once,) if "sid" in query else (),
                ) as response:
                    content = await self._read(response)
                    if response.status != 200:
                        raise ConnectFailed(f"polling: {method} {url} was answered with {_told(response, content, options.proxy)}")
                    return Answer(content, response.content_type == "application/octet-stream")
        except TimeoutError:
            raise ConnectFailed(f"polling: {method} {url} was not answered in time (request_timeout)") from None
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectFailed(f"polling: {method} {url} failed: {_reason(error, options.proxy)}") from error

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        limit = self._options.max_payload
        content = bytearray()
        async for chunk in response.content.iter_any():
            content += chunk
            if len(content) > limit:
                raise ConnectFailed(f"polling: the server sent more than {limit} bytes at once (max_payload)")
        return bytes(content)

    async def upgrade(self, url: str, query: Mapping[str, str], headers: Mapping[str, str], protocol: asyncio.Protocol) -> Wire:
        """Open a WebSocket and have its bytes go to `protocol`. Raises ConnectFailed."""
        options = self._options
        key = b64encode(urandom(16))
        sent = {
            **headers,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": key.decode(),
        }
        if options.per_message_deflate is not False:
            sent["Sec-WebSocket-Extensions"] = DEFLATE_OFFER
        try:
            response = await self._session().request(
                "GET",
                URL(f"{url}?{urlencode(query)}", encoded=True),
                headers=sent,
                ssl=options.ssl,
                proxy=options.proxy,
                timeout=UNLIMITED,
                allow_redirects=False,
                read_until_eof=False,
            )
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectFailed(f"websocket: {url} failed: {_reason(error, options.proxy)}") from error
        try:
            if response.status != 101:
                content = await self._read(response)
                raise ConnectFailed(f"websocket: {url} was answered with {_told(response, content, options.proxy)}")
            extensions = response.headers.get("Sec-WebSocket-Extensions", "")
            self._check(url, response, key, extensions)
            return _take_over(response, protocol, bool(extensions))
        except (aiohttp.ClientError, OSError) as error:
            response.close()
            raise ConnectFailed(f"websocket: {url} failed: {_reason(error, options.proxy)}") from error
        except BaseException:
            response.close()
            raise

    def _check(self, url: str, response: aiohttp.ClientResponse, key: bytes, extensions: str) -> None:
        headers = response.headers
        # "If the response lacks an |Upgrade| header field … the client MUST _Fail the WebSocket Connection_" (RFC 6455, 4.1)
        if headers.get("Upgrade", "").lower() != "websocket" or headers.get("Sec-WebSocket-Accept") != accept_key(key).decode():
            raise ConnectFailed(f"websocket: {url} was answered by something that does not speak WebSocket")
        offered = self._options.per_message_deflate is not False
        if extensions and not (offered and "server_no_context_takeover" in extensions and accepts_deflate(extensions)):
            raise ConnectFailed(f"websocket: {url} agreed to the extensions {extensions!r}, which were not asked for")


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from repeating a GET that was cut: what the server had answered is lost, and a second answer would hide it."""
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        told = _reason(error, None if request.proxy is None else str(request.proxy))
        raise ConnectFailed(f"polling: {request.method} {request.url.with_query(None)} failed: {told}") from error


def _take_over(response: aiohttp.ClientResponse, protocol: asyncio.Protocol, deflated: bool) -> Wire:
    connection = response.connection
    handler = connection.protocol if connection is not None else None
    transport = handler.transport if handler is not None else None
    if handler is None or transport is None:
        raise ConnectFailed("websocket: the connection was lost right after its handshake")
    handler.read_timeout = None
    early = _Early()
    handler.set_parser(early, None)  # gives it what came behind the head, if anything did
    transport.set_protocol(protocol)
    return Wire(response, transport, early.data, deflated)


def _told(response: aiohttp.ClientResponse, content: bytes, proxy: str | None) -> str:
    """Say what an answer is: its status, its text unless that is a page, and that it may be of the proxy."""
    page = response.content_type == "text/html"
    text = "" if page else " ".join(content[:SHOWN].decode("utf-8", "replace").split())
    hint = " (is this the path of Socket.IO?)" if response.status == 404 else ""
    if proxy is not None and response.url.scheme == "http":  # with https, the proxy has no say in what the server answers
        hint = f" (by the server, or by {_named(proxy)}){hint}" if response.status != 407 else f" (by {_named(proxy)}{CREDENTIALS})"
    return f"{response.status} {response.reason or ''}{': ' + text if text else ''}{hint}"


def _reason(error: Exception, proxy: str | None) -> str:
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"{_named(proxy)} refused: {error.status} {error.message}{CREDENTIALS if error.status == 407 else ''}"
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return f"{_named(proxy)} cannot be reached: {error}"
    return str(error) or type(error).__name__


def _named(proxy: str | None) -> str:
    """Name a proxy, without its password."""
    return "the proxy" if proxy is None else f"the proxy {URL(proxy).with_user(None)}"
