"""How a socket of a `SyncClient` sends and asks: what `Emits` and `Requests` are to the async client."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ParamSpec, TypeVar, overload
from weakref import finalize

from mizzen.events import Event, EventName
from mizzen.listeners import check_event
from mizzen.types import JSON

if TYPE_CHECKING:
    from mizzen.client.emits import Emits, Flagged
    from mizzen.client.portal import Portal
    from mizzen.client.requests import Data, Params, Requests
    from mizzen.client.response import Response
    from mizzen.client.streams import Args, EventStream

P = ParamSpec("P")
R = TypeVar("R")


class SyncEmits(ABC):
    """What a socket and its flags have in common."""

    __slots__ = ()

    @property
    @abstractmethod
    def _portal(self) -> Portal: ...

    @property
    @abstractmethod
    def _sender(self) -> Emits: ...

    @overload
    def emit(self, event: Event[P, R], /, *args: P.args, **kwargs: P.kwargs) -> None: ...

    @overload
    def emit(self, event: str, /, *args: JSON) -> None: ...

    def emit(self, event: EventName, /, *args: JSON) -> None:
        """Send an event; encodes, queues and returns, as `ClientSocket.emit` does, and raises the same."""
        name = check_event(event)
        self._portal.do(lambda: self._sender.emit(name, *args))

    def send(self, *args: JSON) -> None:
        """Send the event `message`."""
        self._portal.do(lambda: self._sender.send(*args))

    @overload
    def call(self, event: Event[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    @overload
    def call(self, event: str, /, *args: JSON, timeout: float | None = ...) -> JSON: ...

    def call(self, event: EventName, /, *args: JSON, timeout: float | None = None) -> JSON:
        """Send an event and wait for its ack: None, its one argument, or a tuple of several; raises what `ClientSocket.call` does."""
        name = check_event(event)
        return self._portal.run(lambda: self._sender.call(name, *args, timeout=timeout))

    @property
    def volatile(self) -> SyncFlagged:
        """Drop the event if it cannot be sent now: `socket.volatile.emit("position", x, y)`."""
        return SyncFlagged(self._portal, self._sender.volatile)

    def timeout(self, seconds: float) -> SyncFlagged:
        """Let `call` wait for at most so many seconds: `socket.timeout(5).call("ask")`."""
        return SyncFlagged(self._portal, self._sender.timeout(seconds))


class SyncFlagged(SyncEmits):
    """A socket with flags; it may be kept and used again."""

    __slots__ = ("_entrance", "_flagged")

    def __init__(self, portal: Portal, flagged: Flagged) -> None:
        self._entrance = portal
        self._flagged = flagged

    @property
    def _portal(self) -> Portal:
        return self._entrance

    @property
    def _sender(self) -> Flagged:
        return self._flagged


class SyncRequests(ABC):
    """The verbs of HTTP, over a socket."""

    __slots__ = ()

    @property
    @abstractmethod
    def _portal(self) -> Portal: ...

    @property
    @abstractmethod
    def _requests(self) -> Requests: ...

    def request(
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
        """Make a request over the socket, and give its answer; parameters and errors are those of `ClientSocket.request`."""
        requests = self._requests
        return self._portal.run(
            lambda: requests.request(method, url, params=params, json=json, data=data, headers=headers, timeout=timeout)
        )

    def get(
        self, url: str, *, params: Params | None = None, headers: Mapping[str, str] | None = None, timeout: float | None = None
    ) -> Response:
        """Make a GET request; see `request`."""
        return self.request("get", url, params=params, headers=headers, timeout=timeout)

    def head(
        self, url: str, *, params: Params | None = None, headers: Mapping[str, str] | None = None, timeout: float | None = None
    ) -> Response:
        """Make a HEAD request; see `request`."""
        return self.request("head", url, params=params, headers=headers, timeout=timeout)

    def options(
        self, url: str, *, params: Params | None = None, headers: Mapping[str, str] | None = None, timeout: float | None = None
    ) -> Response:
        """Make an OPTIONS request; see `request`."""
        return self.request("options", url, params=params, headers=headers, timeout=timeout)

    def delete(
        self, url: str, *, params: Params | None = None, headers: Mapping[str, str] | None = None, timeout: float | None = None
    ) -> Response:
        """Make a DELETE request; see `request`."""
        return self.request("delete", url, params=params, headers=headers, timeout=timeout)

    def post(
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
        return self.request("post", url, params=params, json=json, data=data, headers=headers, timeout=timeout)

    def put(
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
        return self.request("put", url, params=params, json=json, data=data, headers=headers, timeout=timeout)

    def patch(
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
        return self.request("patch", url, params=params, json=json, data=data, headers=headers, timeout=timeout)


class SyncEventStream(Iterator["Args"]):
    """The arguments of each event of one name, as tuples, in order; it ends when the socket is closed for good.

    It begins when it is made. One thread may iterate; see `EventStream` for a consumer that falls behind.
    """

    def __init__(self, portal: Portal, stream: EventStream) -> None:
        self._portal = portal
        self._stream = stream
        # The loop's own thread is to drop the last reference, since that unregisters it.
        finalize(self, portal.post, stream.close).atexit = False

    def __iter__(self) -> SyncEventStream:
        return self

    def __next__(self) -> Args:
        args = self._portal.run(self._next)
        if args is None:
            raise StopIteration
        return args

    async def _next(self) -> Args | None:
        try:
            return await anext(self._stream)
        except StopAsyncIteration:
            return None

    def close(self) -> None:
        """End it; what is held may still be read."""
        self._portal.do(self._stream.close)
