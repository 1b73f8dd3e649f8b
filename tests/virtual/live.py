"""What tests of running apps share: the examples, one app a framework, and a client that asks them both ways."""

from __future__ import annotations

import importlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
from django.conf import settings
from django.test.utils import override_settings

from mizzen import Server
from tests.support import WITHIN, Wire, join, serve
from tests.virtual.apps import APPS

FRAMEWORKS = ("fastapi", "starlette", "litestar", "quart", "django", "flask")
LEFT_OUT = frozenset(("set-cookie", "content-length", "date", "server", "connection", "transfer-encoding", "keep-alive"))
"""Headers of an HTTP answer that a JWR does not have."""

Answer = tuple[int, dict[str, str], Any]
"""Status, headers and body; the body is None where there is none."""


@contextmanager
def example(framework: str) -> Iterator[Any]:
    """Give the module of an example; Django's settings, of which a process has one set, are the example's meanwhile."""
    if framework != "django":
        yield importlib.import_module(f"examples.frameworks.with_{framework}")
        return
    if not settings.configured:
        APPS["django"]()
    module = importlib.import_module("examples.frameworks.django_settings")
    with override_settings(**{name: getattr(module, name) for name in dir(module) if name.isupper()}):
        yield importlib.import_module("examples.frameworks.with_django")


class Client:
    """Asks one running app by HTTP and by socket."""

    def __init__(self, url: str, http: httpx.AsyncClient, wire: Wire) -> None:
        self.url = url
        self.http = http
        self.wire = wire
        self._id = 0

    async def by_http(self, verb: str, url: str, data: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """Ask as httpx does: data is the query, the form, JSON or bytes."""
        headers = dict(headers or {})
        arguments: dict[str, Any] = {}
        if isinstance(data, bytes):
            arguments["content"] = data
            headers.setdefault("content-type", "application/octet-stream")
        elif data is not None:
            kind = "params" if verb in ("get", "head") else "data" if "urlencoded" in headers.get("content-type", "") else "json"
            arguments[kind] = data
        response = await self.http.request(verb.upper(), url, headers=headers, **arguments)
        seen: dict[str, str] = {}
        for raw_name, value in response.headers.multi_items():
            name = raw_name.lower()
            if name not in LEFT_OUT:
                seen[name] = f"{seen[name]}, {value}" if name in seen else value
        kind = seen.get("content-type", "")
        if verb == "head" or (not response.content and not kind.startswith("text/")) or response.status_code == 204:
            return response.status_code, seen, None
        if "json" in kind:
            return response.status_code, seen, response.json()
        return response.status_code, seen, response.text if kind.startswith("text/") else response.content

    async def by_socket(self, verb: str, url: str, data: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """Ask as a raw Socket.IO client does; the JWR must be the next message."""
        jwr = await self.ask(verb, {"url": url, "data": data, "headers": headers or {}})
        assert set(jwr) <= {"body", "headers", "statusCode"}
        return jwr["statusCode"], jwr["headers"], jwr.get("body")

    async def ask(self, verb: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Send a request and give its JWR, attachments put in."""
        self._id += 1
        data = payload.get("data")
        if isinstance(data, bytes):
            payload = payload | {"data": {"_placeholder": True, "num": 0}}
            await self.wire.send(f"451-{self._id}{json.dumps([verb, payload])}", data)
        else:
            await self.wire.send(f"42{self._id}{json.dumps([verb, payload])}")
        prefix, (jwr,) = await self.wire.receive_json()
        if prefix == f"461-{self._id}":
            jwr["body"] = await self.wire.receive()
        else:
            assert prefix == f"43{self._id}", (prefix, jwr)
        return jwr


@asynccontextmanager
async def running(app: Server, *, native: bool = False, headers: dict[str, str] | None = None, query: str = "") -> AsyncIterator[Client]:
    """Serve an app and open one socket to it; `headers` go with every HTTP request and with the handshake."""
    async with serve(app, native=native) as url, client_of(url, headers, query) as client:
        yield client


@asynccontextmanager
async def client_of(url: str, headers: dict[str, str] | None = None, query: str = "") -> AsyncIterator[Client]:
    """Give a client of its own of an app that is served already."""
    async with join(url, query=query, headers=headers) as (wire, _):
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=WITHIN) as http:
            http.headers = httpx.Headers({"accept-encoding": "identity"} | (headers or {}))
            yield Client(url, http, wire)
