"""Clients for tests, which reach an app in the same process."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, Literal

from mizzen import Client, ClientSocket, Server, Socket
from mizzen.client.options import Auth, Strings
from mizzen.client.streams import Args, Streams
from mizzen.errors import LocalProtocolError
from mizzen.events import EventName
from mizzen.ports import Codec
from mizzen.testing.clock import settle
from mizzen.testing.errors import LoggedErrors
from mizzen.testing.transport import InProcess
from mizzen.types import JSON, ASGIApp, Reason

WITHIN: Final = 5.0
"""Seconds that a test waits by default for what is to come."""

GRACE: Final = 0.5
"""Seconds that handlers have to end after the last client has left; where that is not enough, the test closes the Server itself."""

OWN: Final = frozenset(("connect", "disconnect", "connect_error"))
"""Events that a socket makes itself."""


class Kept(Streams):
    """The streams of a socket, which also keep what comes, in the order in which it came: each event with its name first."""

    __slots__ = ("_changed", "events")

    def __init__(self) -> None:
        super().__init__()
        self.events: deque[Args] = deque()
        self._changed: asyncio.Event | None = None

    def __bool__(self) -> bool:
        return True

    def push(self, event: str, args: Sequence[JSON]) -> None:
        super().push(event, args)
        if event not in OWN:
            self.events.append((event, *args))
            self._wake()

    def end(self, message: str, reason: Reason) -> None:
        super().end(message, reason)
        self._wake()

    def take(self, event: EventName | None) -> Args | None:
        """Take out the first event, or the first of a name."""
        for index, each in enumerate(self.events):
            if event is None or each[0] == event:
                del self.events[index]
                return each
        return None

    async def changed(self) -> None:
        """Wait until an event comes, or the end."""
        if self._changed is None:
            self._changed = asyncio.Event()
        await self._changed.wait()

    def _wake(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()


class TestSocket(ClientSocket):
    """A socket that keeps the events that come, in order, until `receive` takes them; `of` gives those of other namespaces.

    Handlers, `events` and `wait_for` get them as well.
    """

    __test__ = False  # it is none of pytest's test classes

    streams: Streams
    _kept: Kept

    def keep(self) -> None:
        """Begin to keep events."""
        self._kept = self.streams = Kept()

    async def receive(self, event: EventName | None = None, *, timeout: float = WITHIN) -> Args:
        """Give the arguments of the first event of this name that was not taken yet; waits for it, at most `timeout` seconds.

        Without a name: the first event of any, its name before its arguments. Raises AssertionError, which says what came instead, when it
        does not come, or cannot as the socket is closed; caused by the error of a handler, if one failed meanwhile.
        """
        errors = LoggedErrors()
        errors.start()
        try:
            async with asyncio.timeout(timeout):
                while (found := self._kept.take(event)) is None:
                    if not self.active:
                        why = self.reason or "connect it first"
                        raise self._nothing(event, f"came, and {self!r} is closed ({why})", errors) from errors.cause
                    await self._kept.changed()
        except TimeoutError:
            raise self._nothing(event, f"came within {timeout:g} s", errors) from errors.cause
        finally:
            errors.stop()
        return found if event is None else found[1:]

    def _nothing(self, event: EventName | None, what: str, errors: LoggedErrors) -> AssertionError:
        name = "event" if event is None else f"event {event!r}"
        logged = f"\nMizzen logged meanwhile:\n{errors.summary()}" if errors.records else ""
        came = ", ".join(repr(each[0]) for each in self._kept.events) or "nothing"
        return AssertionError(f"no {name} {what}; there is {came}{logged}")

    async def receive_nothing(self, event: EventName | None = None) -> None:
        """Raise AssertionError if an event (of this name) is there that was not taken, after all has run that can (see `settle`)."""
        await settle()
        if unread := self.unread(event):
            name = "event" if event is None else f"event {event!r}"
            raise AssertionError(f"expected no {name} of {self!r}, but there is {', '.join(map(repr, unread))}")

    def unread(self, event: EventName | None = None) -> list[Args]:
        """Give the arguments of the events of this name that have come and were not taken; they stay.

        Without a name: all events, each with its name before its arguments.
        """
        if event is None:
            return list(self._kept.events)
        return [each[1:] for each in self._kept.events if each[0] == event]

    def of(self, name: str, *, auth: Auth = None) -> TestSocket:
        """Give the socket of another namespace of the same connection, the same one each time; it is not connected yet.

        `auth` is what its CONNECT packet carries; without it, what it had.
        """
        name = name if name.startswith("/") else f"/{name}"
        sockets = self.manager.sockets
        if name not in sockets:
            made = sockets[name] = TestSocket(self.manager, name, auth)
            made.keep()
            return made
        socket = self.manager.socket(name, auth)
        assert isinstance(socket, TestSocket)
        return socket


class TestClient(TestSocket, Client):
    """A `mizzen.Client` of an ASGI app in the same process and event loop, without a port or a thread.

        async with TestClient(io, "/chat", auth={"token": "abc"}) as socket:
            socket.emit("join", "lobby")
            assert await socket.receive("joined") == ("lobby",)
            response = await socket.get("/rooms/lobby/messages")

    `app` is the Server or any app that it is part of. Besides what every client can do, it keeps the events that come, in order, until
    `receive` takes them. It speaks over a WebSocket of ASGI events and does not reconnect unless told to. The app runs in the context
    (`contextvars`) in which the client connects. The lifespan of the app does not run: see `lifespan`.
    """

    def __init__(
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
    ) -> None:
        """Make a client of `app`; nothing is sent before `connect`.

        `url` is the namespace, or a whole URL (`https://example.com/chat`) where the app looks at scheme and host; `path` is where the
        Server is, from the root of `app`; `cookies` go along with the handshake, and those that it sets with the next; `client` is the
        address that the app sees. `connect_timeout` and `ack_timeout` are how long `connect` and `call` wait by default, in seconds. With
        `reconnection` a lost connection is made again after exactly `reconnection_delay` seconds, and if that fails after twice as many and
        so on, 5 at most or what was given. The others are those of `Client`; for what is missing use a `Client` over `InProcess`.
        """
        self.network: InProcess = InProcess(app, cookies=cookies, client=client)
        super().__init__(
            url if "://" in url else f"http://testserver{url if url.startswith('/') else '/' + url}",
            auth=auth,
            path=path,
            transports=(self.network,),
            eio=eio,
            query=query,
            headers=headers,
            sails=sails,
            reconnection=reconnection,
            reconnection_delay=reconnection_delay,
            reconnection_delay_max=max(5.0, reconnection_delay),
            randomization_factor=0.0,
            connect_timeout=connect_timeout,
            ack_timeout=ack_timeout,
            parser=parser,
        )
        self.keep()

    async def connect(self) -> None:
        """Connect, as every client does; a `Server` that was closed, with its lifespan perhaps, starts anew."""
        app = self.network.app
        if isinstance(app, Server):
            app.start()
        await super().connect()

    def cut(self, *, silently: bool = False) -> None:
        """Lose the connection, as a network does: both sides learn that it is gone, or `silently` neither, until a heartbeat is missed."""
        self.network.cut(silently=silently)

    async def close(self) -> None:
        """Let what was emitted be handled, disconnect all sockets of the connection, and end it.

        Then what handlers and requests of the app still do may end, as the Server's `close` lets it: shortly, after the last client.
        """
        if self.active:
            await settle()
        await super().close()
        await _finish()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        if self.active and error is None:
            await settle()
        await super().__aexit__(kind, error, traceback)
        await _finish()


async def _finish() -> None:
    """Let handlers of the servers of this loop end, where no client is left that they may be waiting for."""
    await settle()
    loop = asyncio.get_running_loop()
    for server in Server.running():
        with contextlib.suppress(LocalProtocolError):  # one of another thread
            if server.running_loop() is loop and not server.sessions.connections:
                await server.tasks.wait(GRACE)


@asynccontextmanager
async def linked_pair(
    io: Server,
    namespace: str = "/",
    *,
    auth: Auth = None,
    headers: Strings = None,
    app: ASGIApp | None = None,
    path: str = "/socket.io",
) -> AsyncGenerator[tuple[TestClient, Socket]]:
    """Connect a client; give it together with the server's socket of it.

        async with linked_pair(io) as (client, socket):
            socket.emit("hello")
            await client.receive("hello")

    Where `io` is part of another app, `app` is that one, and `path` where the Server is in it.
    """
    async with TestClient(app or io, namespace, auth=auth, headers=headers, path=path) as client:
        assert client.id is not None
        yield client, io.of(client.name).sockets[client.id]
