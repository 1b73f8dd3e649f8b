"""TLS through an HTTP proxy, by CONNECT: with and without credentials, and what is told when the proxy refuses."""

from __future__ import annotations

import socket as sockets
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mizzen import Client, ConnectFailed
from tests.client.test_wires import CERTIFICATE, KEY, WAYS, make, settled, uvicorn_at
from tests.client.tunnel import tunnelling
from tests.support import until


@pytest.fixture(params=WAYS)
def transports(request: pytest.FixtureRequest) -> Any:
    return WAYS[request.param]


@pytest.fixture
def trust() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=CERTIFICATE)


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """A Mizzen server behind TLS."""
    with sockets.create_server(("127.0.0.1", 0)) as listener:
        async with uvicorn_at(make(), listener, ssl_keyfile=KEY, ssl_certfile=CERTIFICATE):
            yield f"https://localhost:{listener.getsockname()[1]}"


async def test_a_tunnel_carries_everything(url: str, trust: ssl.SSLContext, transports: Any):
    async with tunnelling() as tunnel:
        async with Client(url, proxy=tunnel.url, ssl=trust, transports=transports) as client:
            await settled(client, transports)
            assert await client.call("echo", "x" * 300_000) == "x" * 300_000
    assert tunnel.opened
    where = url.removeprefix("https://")
    assert all(head.startswith(f"CONNECT {where} HTTP/1.1\r\n") for head in tunnel.asked), "nothing else is told to the proxy"


async def test_a_proxy_that_asks_for_credentials(url: str, trust: ssl.SSLContext, transports: Any):
    async with tunnelling(credentials="ann:pass word") as tunnel:
        proxy = tunnel.with_credentials("ann:pass%20word")
        async with Client(url, proxy=proxy, ssl=trust, transports=transports) as client:
            await settled(client, transports)
    assert tunnel.opened == len(tunnel.asked)


async def test_it_comes_back_through_the_proxy(url: str, trust: ssl.SSLContext, transports: Any):
    async with tunnelling() as tunnel:
        async with Client(url, proxy=tunnel.url, ssl=trust, transports=transports, reconnection_delay=0.01) as client:
            await settled(client, transports)
            opened, first = tunnel.opened, client.id
            tunnel.cut()
            await until(lambda: client.connected and client.id != first)
            await settled(client, transports)
            assert tunnel.opened > opened


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_the_certificate_that_counts_is_the_servers(url: str, transport: Any):
    async with tunnelling() as tunnel:
        with pytest.raises(ConnectFailed, match="certificate"):
            await Client(url, proxy=tunnel.url, transports=transport).connect()


@pytest.mark.parametrize("transport", ["websocket", "polling"])
@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"credentials": "ann:secret"},
            ["407 Proxy Authentication Required", "proxy='http://user:password@host:port' gives it credentials"],
        ),
        ({"refusal": "502 Bad Gateway"}, ["502 Bad Gateway"]),
        ({"refusal": "403 Forbidden"}, ["403 Forbidden"]),
    ],
)
@pytest.mark.parametrize("scheme", ["https", "http"])
async def test_a_proxy_that_refuses_is_told_of(scheme: str, options: dict[str, Any], told: list[str], transport: Any):
    async with tunnelling(**options) as tunnel:
        proxy = tunnel.with_credentials("bob:hidden")
        with pytest.raises(ConnectFailed, match=f"^{transport}: .*{told[0]}") as failed:
            await Client(f"{scheme}://server.invalid", proxy=proxy, transports=transport).connect()
    message = str(failed.value)
    assert f"the proxy {tunnel.url}" in message
    assert all(word in message for word in told)
    assert "hidden" not in message


async def test_polling_is_tried_though_the_connection_of_the_websocket_was_ended():
    async with tunnelling(refusal="503 Service Unavailable") as tunnel:  # which hangs up after each answer, and does not say so
        with pytest.raises(ConnectFailed) as failed:
            await Client("http://server.invalid", proxy=tunnel.url).connect()
    assert str(failed.value).count("503 Service Unavailable") == 2


@pytest.mark.parametrize("transport", ["websocket", "polling"])
async def test_a_proxy_that_is_not_there_is_told_of(transport: Any):
    with pytest.raises(ConnectFailed, match=r"the proxy http://127\.0\.0\.1:1 cannot be reached: "):
        await Client("https://server.invalid", proxy="http://bob:hidden@127.0.0.1:1", transports=transport).connect()
