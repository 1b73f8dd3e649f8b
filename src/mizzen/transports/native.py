"""The native path: a WebSocket protocol class for uvicorn, from the frames straight to the connection and back.

    uvicorn app:io --ws mizzen.transports.native:WebSocketProtocol        (`mizzen run` does it by itself)

Each WebSocket is offered to the app with an extension of the ASGI scope that holds the wire. Mizzen's endpoint takes it: from then on no
ASGI event, queue or task stands between the socket and the session. Every other app ignores it and gets ASGI events from this class, which
obeys uvicorn's options `ws_max_size`, `ws_ping_interval` and `ws_ping_timeout` and compresses nothing.

Frames that come in one segment with the request's head are lost: uvicorn drops them. No client may send any before it has the answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Protocol, cast
from urllib.parse import quote, unquote

from mizzen.protocol.upgrade import Headers, accept_key, is_key, response_head
from mizzen.protocol.websocket import (
    CLOSED,
    DEFLATE_ANSWER,
    OPEN,
    CloseCode,
    Opcode,
    WebSocket,
    accepts_deflate,
    encode_frame,
)
from mizzen.transports.carrier import CLOSE_TIME, NativeTransport
from mizzen.types import Message, Scope

if TYPE_CHECKING:
    from mizzen.options import ServerOptions
    from mizzen.ports import Session

WIRE = "mizzen.wire"
"""The key in `scope["extensions"]` that holds the wire."""

logger: Final = logging.getLogger("uvicorn.error")


class UvicornConfig(Protocol):
    """What the class needs of `uvicorn.Config`."""

    loaded: bool
    loaded_app: Any
    root_path: str
    ws_max_size: int
    ws_ping_interval: float | None
    ws_ping_timeout: float | None

    @property
    def asgi_version(self) -> str: ...

    def load(self) -> None: ...


class UvicornState(Protocol):
    """What the class needs of `uvicorn.server.ServerState`."""

    connections: set[Any]
    tasks: set[asyncio.Task[None]]
    default_headers: list[tuple[bytes, bytes]]


class ClientGone(OSError):
    """The WebSocket is gone; `send` raises it in the app (ASGI specification 2.4)."""


class Phase(Enum):
    """HANDSHAKE: not answered; ACCEPTED; TAKEN: a session has the wire; ENDED: the app has closed or refused; GONE: the client has."""

    HANDSHAKE = "handshake"
    ACCEPTED = "accepted"
    TAKEN = "taken"
    ENDED = "ended"
    GONE = "gone"


class WebSocketProtocol(asyncio.Protocol):
    """What uvicorn makes of an HTTP connection that asks for a WebSocket: the handshake, then ASGI events until the wire is taken.

    It stands in uvicorn's set of connections, so that limits, log and shutdown count it.
    """

    __slots__ = (
        *("_asgi_version", "_client", "_config", "_denial", "_drained", "_early", "_events", "_key", "_loop", "_phase", "_server_state"),
        *("_timer", "_waiter", "app", "app_state", "codec", "connections", "paused", "root_path", "scope", "transport"),
    )

    def __init__(
        self,
        config: UvicornConfig,
        server_state: UvicornState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self.app: Any = config.loaded_app
        self.app_state = app_state
        self.root_path: str = config.root_path
        self.connections: set[Any] = server_state.connections
        self.codec: WebSocket = WebSocket(config.ws_max_size)
        self.paused: bool = False
        self._config = config
        self._asgi_version = config.asgi_version
        self._server_state = server_state
        self._loop = _loop or asyncio.get_running_loop()
        self._key = b""
        self._early = b""
        self._events: deque[Message] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._drained: asyncio.Event | None = None
        self._denial: tuple[int, list[tuple[bytes, bytes]], list[bytes]] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._phase = Phase.HANDSHAKE

    transport: asyncio.Transport
    scope: Scope
    _client: tuple[str, int] | None

    # What the event loop and uvicorn call

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Take the request's head, which uvicorn hands over as bytes, and then frames."""
        if self._phase is Phase.HANDSHAKE:
            if not self._key:
                self._handshake(data)
            else:
                # A client must wait for the answer (4.1); what it sends nevertheless is not answered before.
                self._early += data
                self.transport.pause_reading()
            return
        codec = self.codec
        while True:
            for message in codec.feed(data):
                # The app that has closed reads no more.
                if self._phase is Phase.ACCEPTED:
                    self._put({"type": "websocket.receive", "text" if isinstance(message, str) else "bytes": message})
            self._write_answers()
            if codec.state is CLOSED:
                self._gone(codec.failure or codec.close_code or CloseCode.ABNORMAL, codec.close_reason)
                self.transport.close()
                if self.transport.get_write_buffer_size():
                    self._timer = self._loop.call_later(CLOSE_TIME, self.transport.abort)
            # More is there only where Mizzen's endpoint has agreed to compression, before it takes the wire.
            if not codec.more or (self._events and self._phase is Phase.ACCEPTED):
                return
            data = b""

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self._drained is not None:
            self._drained.set()
            self._drained = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self)
        self._gone(CloseCode.ABNORMAL)
        self.resume_writing()
        self._let_go()

    def shutdown(self) -> None:
        """Take notice that uvicorn stops."""
        if self._phase is Phase.HANDSHAKE:
            self._respond(503, [], b"the server is shutting down")
        elif self._phase is Phase.ACCEPTED:
            self._close(CloseCode.SERVICE_RESTART, "")
            self._phase = Phase.GONE

    # The handshake

    def _handshake(self, head: bytes) -> None:
        lines = head.split(b"\r\n")
        method, target, _ = lines[0].split(b" ", 2)
        headers = [(name.lower(), value.strip()) for name, _, value in [line.partition(b":") for line in lines[1:] if line]]
        found = dict(headers)
        key = found.get(b"sec-websocket-key", b"")
        if method != b"GET" or not is_key(key) or not target.isascii():
            self._respond(400, [], b"not a WebSocket handshake: GET with a Sec-WebSocket-Key of 16 bytes is needed")
            return
        if found.get(b"sec-websocket-version") != b"13":
            # "if this version does not match a version understood by the server" (4.4)
            self._respond(426, [(b"sec-websocket-version", b"13")], b"only version 13 of the WebSocket protocol is known")
            return
        self._key = key
        self.scope = self._make_scope(target, headers)
        self._events.append({"type": "websocket.connect"})
        # uvicorn leaves a reference cycle between its HTTP protocol and the parser of it behind; broken once it has let go.
        self._loop.call_soon(_break_cycle, self.transport.get_protocol())
        task = self._loop.create_task(self._run(self.scope), name="mizzen-websocket")
        self._server_state.tasks.add(task)
        task.add_done_callback(self._server_state.tasks.discard)

    def _make_scope(self, target: bytes, headers: list[tuple[bytes, bytes]]) -> Scope:
        raw_path, _, query = target.partition(b"?")
        path = raw_path.decode("ascii")
        protocols = b",".join(value for name, value in headers if name == b"sec-websocket-protocol")
        get = self.transport.get_extra_info
        client, server = get("peername"), get("sockname")  # tuples, or text for a unix socket
        self._client = (client[0], client[1]) if isinstance(client, tuple) else None
        return {
            "type": "websocket",
            "asgi": {"version": self._asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if get("sslcontext") else "ws",
            "server": (server[0], server[1]) if isinstance(server, tuple) else (server, None),
            "client": self._client,
            "root_path": self.root_path,
            "path": self.root_path + (unquote(path) if "%" in path else path),
            "raw_path": self.root_path.encode("ascii") + raw_path,
            "query_string": query,
            "headers": headers,
            "subprotocols": [each.strip().decode("latin-1") for each in protocols.split(b",") if each.strip()],
            "state": self.app_state.copy(),
            "extensions": {"websocket.http.response": {}, WIRE: self},
        }

    async def _run(self, scope: Scope) -> None:
        try:
            await self.app(scope, self.receive, self.send)
        except ClientGone:
            pass
        except BaseException as error:
            if not isinstance(error, asyncio.CancelledError):
                logger.exception("Exception in ASGI application\n")
            if self._phase is Phase.HANDSHAKE:
                self._respond(500, [], b"Internal Server Error")
            elif self._phase is Phase.ACCEPTED:
                self._close(CloseCode.INTERNAL_ERROR, "")
        else:
            if self._phase is Phase.HANDSHAKE:
                logger.error("ASGI callable returned without completing handshake.")
                self._respond(500, [], b"Internal Server Error")
            elif self._phase is Phase.ACCEPTED:
                self._close(CloseCode.NORMAL, "")

    def _respond(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Answer with HTTP and close."""
        names = {name.lower() for name, _ in headers}
        extra: list[tuple[bytes, bytes]] = [(b"connection", b"close")]
        if b"content-length" not in names:
            extra.append((b"content-length", b"%d" % len(body)))
        if b"content-type" not in names:
            extra.append((b"content-type", b"text/plain; charset=utf-8"))
        self.transport.write(response_head(status, [*self._server_state.default_headers, *headers, *extra]) + body)
        self._log(str(status))
        self._gone(CloseCode.ABNORMAL)
        self._phase = Phase.ENDED
        self.transport.close()

    def _log(self, outcome: str) -> None:
        if logger.isEnabledFor(logging.INFO) and self._key:
            path = quote(self.scope["path"])
            query = self.scope["query_string"].decode("latin-1")
            client = f"{self._client[0]}:{self._client[1]}" if self._client else ""
            logger.info('%s - "WebSocket %s" %s', client, f"{path}?{query}" if query else path, outcome)

    # ASGI events

    async def receive(self) -> Message:
        """Give the next ASGI event; the socket is not read while one waits."""
        self._keep_alive()
        while not self._events:
            self._waiter = self._loop.create_future()
            await self._waiter
        event = self._events.popleft()
        if not self._events and self._phase is Phase.ACCEPTED and not self.transport.is_closing():
            self.transport.resume_reading()
            if self.codec.more:
                self.data_received(b"")
        return event

    def _put(self, event: Message) -> None:
        self._events.append(event)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if event["type"] == "websocket.receive" and not self.transport.is_closing():
            self.transport.pause_reading()

    def _gone(self, code: int, reason: str = "") -> None:
        """Tell the app, once, that the WebSocket is over."""
        if self._phase in (Phase.HANDSHAKE, Phase.ACCEPTED):
            self._put({"type": "websocket.disconnect", "code": int(code), "reason": reason})
        if self._phase is not Phase.TAKEN:
            self._phase = Phase.GONE
        if self._timer is not None:
            self._timer.cancel()

    async def send(self, message: Message) -> None:
        """Take an ASGI event of the app; waits while the socket's buffer is full, and raises OSError once the client is gone."""
        kind = message["type"]
        if self._phase is Phase.HANDSHAKE:
            self._answer_handshake(kind, message)
        elif self._phase is Phase.GONE:
            raise ClientGone("the WebSocket is closed")
        elif self._phase is not Phase.ACCEPTED:
            raise RuntimeError(f"Unexpected ASGI message '{kind}', after the WebSocket was closed or refused.")
        elif kind == "websocket.send":
            data = message.get("bytes")
            self.transport.write(
                encode_frame(Opcode.TEXT, message["text"].encode()) if data is None else encode_frame(Opcode.BINARY, bytes(data))
            )
            self._keep_alive()
            if self.paused:
                await self._writable()
        elif kind == "websocket.close":
            code = message.get("code")
            self._close(CloseCode.NORMAL if code is None else code, message.get("reason") or "")
        else:
            raise RuntimeError(f"Expected ASGI message 'websocket.send' or 'websocket.close', but got '{kind}'.")

    async def _writable(self) -> None:
        while self.paused:
            if self._drained is None:
                self._drained = asyncio.Event()
            await self._drained.wait()
        if self._phase is Phase.GONE:
            raise ClientGone("the WebSocket is closed")

    def _answer_handshake(self, kind: str, message: Message) -> None:
        if self._denial is not None:
            if kind != "websocket.http.response.body":
                raise RuntimeError(f"Expected ASGI message 'websocket.http.response.body', but got '{kind}'.")
            status, headers, body = self._denial
            body.append(message.get("body", b""))
            if not message.get("more_body", False):
                self._respond(status, headers, b"".join(body))
        elif kind == "websocket.accept":
            headers = [(b"upgrade", b"websocket"), (b"connection", b"Upgrade"), (b"sec-websocket-accept", accept_key(self._key))]
            if message.get("subprotocol"):
                headers.append((b"sec-websocket-protocol", message["subprotocol"].encode("latin-1")))
            self.transport.write(response_head(101, [*headers, *self._server_state.default_headers, *message.get("headers", ())]))
            self._phase = Phase.ACCEPTED
            self._log("[accepted]")
            if self._early:
                early, self._early = self._early, b""
                self.transport.resume_reading()
                self.data_received(early)
        elif kind == "websocket.close":
            self._respond(403, [], b"")
        elif kind == "websocket.http.response.start":
            self._denial = (message["status"], list(message.get("headers", ())), [])
        else:
            raise RuntimeError(
                f"Expected ASGI message 'websocket.accept', 'websocket.close' or 'websocket.http.response.start', but got '{kind}'."
            )

    def _close(self, code: int, reason: str) -> None:
        self.codec.close(code, reason)
        self._write_answers()
        self._gone(code, reason)
        self._phase = Phase.ENDED
        self.transport.resume_reading()
        self._timer = self._loop.call_later(CLOSE_TIME, self.transport.abort)
        if self.codec.more:
            self.data_received(b"")

    def _write_answers(self) -> None:
        if self.codec.out:
            # A peer that does not read what it asks for gets no pongs, so that they do not pile up.
            if not self.paused or self.codec.state is not OPEN:
                self.transport.write(b"".join(self.codec.out))
            self.codec.out.clear()

    # Pings, for apps that have no heartbeat of their own

    def _keep_alive(self) -> None:
        interval = self._config.ws_ping_interval
        if self._timer is None and interval and self._phase is Phase.ACCEPTED:
            self.codec.on_pong = self._ponged
            self._timer = self._loop.call_later(interval, self._ping)

    def _ping(self) -> None:
        self.transport.write(encode_frame(Opcode.PING, b"alive"))
        timeout = self._config.ws_ping_timeout
        if timeout is None:
            self._ponged(b"")
        else:
            self._timer = self._loop.call_later(timeout, self._silent)

    def _ponged(self, payload: bytes) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._keep_alive()

    def _silent(self) -> None:
        if self._events:
            self._ponged(b"")  # reading has stopped until the app takes what has come, and a pong may lie behind it
            return
        self._close(CloseCode.INTERNAL_ERROR, "keepalive ping timeout")
        self._phase = Phase.GONE
        self.transport.close()

    # The wire

    def deflate(self, offers: str) -> Headers:
        """Agree to compression if the client offers it in this Sec-WebSocket-Extensions header; give the header that says so."""
        if not accepts_deflate(offers):
            return []
        self.codec.inflate = True
        return [(b"sec-websocket-extensions", DEFLATE_ANSWER)]

    def carry(self, session: Session, options: ServerOptions, base64: bool) -> NativeTransport:
        """Give the transport that takes this WebSocket over, once it is served, for a session."""
        return NativeTransport(self, session, options, base64)

    def hand_over(self, native: NativeTransport, *, read: bool) -> list[Message]:
        """Have the event loop call `native` from now on; give the events that nobody has read."""
        events = list(self._events)
        self._events.clear()
        self.connections.discard(self)
        self.codec.on_pong = None
        if self._phase is Phase.ACCEPTED:
            if self._timer is not None:
                self._timer.cancel()
            self.connections.add(native)
            self.transport.set_protocol(native)
            if read:
                self.transport.resume_reading()
        self._phase = Phase.TAKEN
        self._let_go()
        return events

    def _let_go(self) -> None:
        """Undo the reference cycle between this and the scope."""
        if self._key:
            self.scope["extensions"].pop(WIRE, None)


def _break_cycle(http: object) -> None:
    for name in ("parser", "cycle", "conn", "pipeline", "flow"):
        if getattr(http, name, None) is not None:
            setattr(http, name, None)
