"""What carries the packets of a client to an app in the same process: the events of an ASGI WebSocket."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Iterable, Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import unquote, urlencode, urlsplit

from mizzen.client.ports import ClientSession
from mizzen.errors import ConnectFailed
from mizzen.protocol.encoded import Encoded
from mizzen.types import ASGIApp, Message, Reason, Scope

logger: Final = logging.getLogger("mizzen.testing")

NORMAL_CLOSURE: Final = 1000
ABNORMAL_CLOSURE: Final = 1006
CLOSE_TIME: Final = 5.0
"""Seconds that the app has to end after its WebSocket is closed."""


class InProcess:
    """Transports for a `mizzen.Client` that reach an ASGI app in the same process and event loop, without a port.

        client = mizzen.Client("http://testserver", transports=[InProcess(io)], retries=3, ack_timeout=1)

    It is for what `TestClient` has no option for. `cookies` go along with every handshake, and those that the answer to one sets with the
    next; `client` is the address that the app sees. `wire` is the transport of the last attempt to connect.
    """

    def __init__(self, app: ASGIApp, *, cookies: Mapping[str, str] | None = None, client: tuple[str, int] = ("testclient", 50000)) -> None:
        self.app: ASGIApp = app
        self.cookies: dict[str, str] = dict(cookies or {})
        self.client: tuple[str, int] = client
        self.wire: InProcessTransport | None = None

    def __call__(self, session: ClientSession) -> InProcessTransport:
        """Make the transport of one attempt to connect."""
        self.wire = InProcessTransport(session, self)
        return self.wire

    def cut(self, *, silently: bool = False) -> None:
        """Lose the connection, as a network does: both sides learn that it is gone, or `silently` neither, until a heartbeat is missed."""
        if self.wire is not None:
            self.wire.cut(silently=silently)


class InProcessTransport:
    """Calls an ASGI app as a server would for one WebSocket, in a task of the running event loop.

    What the client sends waits in a queue until the app asks for it; what the app sends is with the client when its `send` returns. While
    the client reads nothing, `send` does not return. The app runs in the context in which the client was told to connect.
    """

    name: str = "websocket"
    writable: bool = True

    def __init__(self, session: ClientSession, to: InProcess) -> None:
        self.session: ClientSession = session
        self._to = to
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reading = asyncio.Event()
        self._reading.set()
        self._cut = False
        self._denial: tuple[int, bytes] | None = None
        self._context = contextvars.copy_context()
        self._task: asyncio.Task[None] | None = None

    @property
    def buffered(self) -> int:
        return 0

    async def open(self) -> None:
        """Open the WebSocket. Raises ConnectFailed when the app refuses it, with what the app says, or fails."""
        scope = self._scope()
        self._events.put_nowait({"type": "websocket.connect"})
        self._task = asyncio.get_running_loop().create_task(self._run(scope), name="mizzen-testing")
        await self._answered

    async def _run(self, scope: Scope) -> None:
        why = "the app returned"
        try:
            await self._to.app(scope, self._events.get, self._send)
        except asyncio.CancelledError:
            why = "the app was cancelled"
            raise
        except Exception as error:
            why = f"the app raised {error!r}"
            if self._answered.done():
                logger.error("the app failed while it served a WebSocket: %r", error, exc_info=error)
            else:
                failure = ConnectFailed(f"websocket: {why}")
                failure.__cause__ = error
                self._answered.set_exception(failure)
        finally:
            self._end(why)

    def _scope(self) -> Scope:
        session, to = self.session, self._to
        parts = urlsplit(session.base_url)
        headers = {
            "host": parts.netloc,
            "user-agent": "testclient",
            "connection": "Upgrade",
            "upgrade": "websocket",
            "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
            "sec-websocket-version": "13",
            **({"cookie": "; ".join(f"{name}={value}" for name, value in to.cookies.items())} if to.cookies else {}),
            **{name.lower(): value for name, value in session.headers.items()},
        }
        secure = parts.scheme == "https"
        return {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if secure else "ws",
            "server": (parts.hostname, parts.port or (443 if secure else 80)),
            "client": to.client,
            "root_path": "",
            "path": unquote(parts.path),
            "raw_path": parts.path.encode("ascii"),
            "query_string": urlencode(session.query("websocket")).encode("ascii"),
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
            "subprotocols": [],
            "state": {},
            "extensions": {"websocket.http.response": {}},
        }

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.send":
            await self._reading.wait()
            if not self._cut:
                # Handlers of the client are not to find what the app has put into its context.
                self._context.run(self.session.receive, self._packet(message))
        elif kind == "websocket.accept":
            self._keep_cookies(message.get("headers", ()))
            if not self._answered.done():
                self._answered.set_result(None)
        elif kind == "websocket.close":
            if self._answered.done():
                self._end(f"the app closed the WebSocket with code {message.get('code', NORMAL_CLOSURE)}")
            else:
                path = urlsplit(self.session.base_url).path
                self._end(f"the app refused the WebSocket at {path} without a word (servers answer 403): is `path` right?")
        elif kind == "websocket.http.response.start":
            self._denial = message["status"], b""
        elif kind == "websocket.http.response.body" and self._denial is not None:
            status, body = self._denial
            self._denial = status, body + message.get("body", b"")
            if not message.get("more_body", False):
                self._end(f"the app answered {status}: {self._denial[1].decode(errors='replace')}")

    def _packet(self, message: Message) -> str | bytes:
        text: str | None = message.get("text")
        if text is not None:
            return text
        data = bytes(message["bytes"])
        # "When sending binary data, the packet type id is sent in the first byte of the binary contents"
        return data[1:] if self.session.eio == 3 else data

    def _keep_cookies(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        for name, value in headers:
            if name.lower() != b"set-cookie":
                continue
            try:
                cookies = SimpleCookie(value.decode("latin-1"))
            except CookieError:
                continue
            for each in cookies.values():
                if each["max-age"] == "0":
                    self._to.cookies.pop(each.key, None)
                else:
                    self._to.cookies[each.key] = each.value

    def _end(self, why: str) -> None:
        if not self._answered.done():
            self._answered.set_exception(ConnectFailed(f"websocket: {why}"))
        if not self._cut:
            self._context.run(self.session.lost, Reason.TRANSPORT_CLOSE, why)

    def cut(self, *, silently: bool) -> None:
        """Lose the WebSocket; with `silently` nobody is told."""
        if self._cut:
            return
        if not silently:
            self._events.put_nowait({"type": "websocket.disconnect", "code": ABNORMAL_CLOSURE, "reason": ""})
            self._end("the test cut the connection")
        self._cut = True

    # What the session calls

    def flush(self, out: list[Encoded]) -> None:
        """Take everything: the app gets it one after another."""
        if not self._cut:
            for encoded in out:
                for message in encoded.messages(self.session.eio, False):
                    self._events.put_nowait({"type": "websocket.receive", "text" if isinstance(message, str) else "bytes": message})
        out.clear()

    def pause_reading(self) -> None:
        self._reading.clear()

    def resume_reading(self) -> None:
        self._reading.set()

    async def idle(self) -> None: ...

    async def close(self) -> None:
        """Be gone, and wait until the app has taken notice; an app that does not is cancelled."""
        self._events.put_nowait({"type": "websocket.disconnect", "code": NORMAL_CLOSURE, "reason": ""})
        self._cut = True
        self._reading.set()
        undecided = self._answered.cancel() or self._answered.cancelled()
        task = self._task
        if task is None:
            return
        if not undecided:
            self._answered.exception()  # it has been told
            await asyncio.wait((task,), timeout=CLOSE_TIME)
            if not task.done():
                logger.error("the app went on for %g s after its WebSocket was closed, and was cancelled", CLOSE_TIME)
        task.cancel()  # one that still thinks about the handshake need not any more
        await asyncio.wait((task,))
