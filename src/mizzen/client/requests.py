"""Socket requests: events named after the verbs of HTTP, answered by the routes of the app behind the server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast
from urllib.parse import urlencode

from mizzen.client.response import Response
from mizzen.errors import LocalProtocolError
from mizzen.signatures import parse_error_ack
from mizzen.types import JSON, VERBS

Params: TypeAlias = Mapping[str, JSON] | Sequence[tuple[str, JSON]]
Data: TypeAlias = Mapping[str, JSON] | str | bytes


class Requests(ABC):
    """The verbs of HTTP, over a socket."""

    __slots__ = ()

    @abstractmethod
    async def request_ack(self, event: str, args: Sequence[JSON], timeout: float | None, *, volatile: bool = False) -> Sequence[JSON]:
        """Send an event and give the arguments of its ack."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        params: Params | None = None,
        json: JSON = None,
        data: Data | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Response:
        """Make a request over the socket; `url` is a path, with a query if wanted.

        `params` are added to the query, `json` is a body of JSON, `data` a form (a mapping) or a body as it is (str, bytes); not both.
        `timeout` is in seconds; without one it waits for the answer as long as the connection stands. While the socket is not connected
        the request waits. Raises AckTimeout, ConnectionClosed when the connection is lost before the answer comes, and RemoteError when
        the server has no such route for sockets but a handler that failed. A status such as 404 is an answer: see `raise_for_status`.
        """
        verb = method.lower()
        if verb not in VERBS:
            raise LocalProtocolError(f"{method!r} is not a method of socket requests: expected one of {', '.join(sorted(VERBS.values()))}")
        sent = {name.lower(): value for name, value in (headers or {}).items()}
        body: JSON = json
        if data is not None:
            if json is not None:
                raise LocalProtocolError("json and data: a request has one body")
            body = dict(data) if isinstance(data, Mapping) else data
            kind = "application/x-www-form-urlencoded" if isinstance(data, Mapping) else None
            kind = "text/plain; charset=utf-8" if isinstance(data, str) else kind
            if kind is not None:
                sent.setdefault("content-type", kind)
        if params:
            url = f"{url}{'&' if '?' in url else '?'}{urlencode(_pairs(params), doseq=True)}"
        request: dict[str, JSON] = {"method": verb, "headers": sent, "url": url}
        if body is not None:
            request["data"] = body
        args = await self.request_ack(verb, (request,), timeout)
        error = parse_error_ack(args)
        if error is not None:
            raise error
        return Response.of(verb, url, args[0] if args else None)

    async def get(
        self, url: str, *, params: Params | None = None, headers: Mapping[str, str] | None = None, timeout: float | None = None
    ) -> Response:
        """Make a GET request; see `request`."""
        return await self.request("get", url, params=params, headers=headers, timeout=timeout)

    async def head(
        self, url: str, *, params: Params | None = None, headers: Mapping[str, str] | None = None, timeout: float | None = None
    ) -> Response:
        """Make a HEAD request; see `request`."""
        return await self.request("head", url, params=params, headers=headers, timeout=timeout)

    async def options(
        self, url: str, *, params: Params | None = None, headers: Mapping[str, str] | None = None, timeout: float | None = None
    ) -> Response:
        """Make an OPTIONS request; see `request`."""
        return await self.request("options", url, params=params, headers=headers, timeout=timeout)

    async def delete(
        self, url: str, *, params: Params | None = None, headers: Mapping[str, str] | None = None, timeout: float | None = None
    ) -> Response:
        """Make a DELETE request; see `request`."""
        return await self.request("delete", url, params=params, headers=headers, timeout=timeout)

    async def post(
        self,
        url: str,
        *,
        params: Params | None = None,
        json: JSON = None,
        data: Data | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Response:
        """Make a POST request; see `request`."""
        return await self.request("post", url, params=params, json=json, data=data, headers=headers, timeout=timeout)

    async def put(
        self,
        url: str,
        *,
        params: Params | None = None,
        json: JSON = None,
        data: Data | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Response:
        """Make a PUT request; see `request`."""
        return await self.request("put", url, params=params, json=json, data=data, headers=headers, timeout=timeout)

    async def patch(
        self,
        url: str,
        *,
        params: Params | None = None,
        json: JSON = None,
        data: Data | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Response:
        """Make a PATCH request; see `request`."""
        return await self.request("patch", url, params=params, json=json, data=data, headers=headers, timeout=timeout)


def _pairs(params: Params) -> list[tuple[str, JSON]]:
    """Write values as httpx does: true, false, and nothing for None."""
    pairs = params.items() if isinstance(params, Mapping) else params
    return [(name, [_text(item) for item in _values(value)]) for name, value in pairs]


def _values(value: JSON) -> Sequence[JSON]:
    return cast("Sequence[JSON]", value) if isinstance(value, (list, tuple)) else (value,)


def _text(value: JSON) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
