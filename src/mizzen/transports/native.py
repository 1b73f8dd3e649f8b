"""The native path: a WebSocket protocol class for uvicorn, from the frames straight to the connection and back.

    uvicorn app:io --ws mizzen.transports.native:WebSocketProtocol        (`mizzen run` does it by itself)

Each WebSocket is offered to the app with an extension of the ASGI scope that holds the wire. Mizzen's endpoint takes it: from then on no
ASGI event, queue or task stands between the socket and the session. Every other app ignores it and gets ASGI events from this class.
"""

from __future__ import annotations

import asyncio
import logging
from base64 import b64decode
from collections import deque
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Protocol, cast
from urllib.parse import unquote

from mizzen.protocol.engine_packet import MESSAGE_BYTE
from mizzen.protocol.websocket import CLOSED, OPEN, CloseCode, Opcode, WebSocket, accept_key, encode_frame
from mizzen.types import Message, Reason, Scope

if TYPE_CHECKING:
    from mizzen.ports import Session
    from mizzen.protocol.encoded import Encoded

WIRE = "mizzen.wire"
"""The key in `scope["extensions"]` that holds the wire."""

CLOSE_TIME = 5.0
"""Seconds that the peer has to answer our Close frame."""

JOIN_UP_TO = 64 * 1024
"""Bytes that are joined for one write; more go out as they are, uncopied."""

logger: Final = logging.getLogger("uvicorn.error")

Headers = Iterable[tuple[bytes, bytes]]


class UvicornConfig(Protocol):
    """What the class needs of `uvicorn.Config`."""

    loaded: bool
    loaded_app: Any
    root_path: str
    ws_max_size: int

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


class NativeTransport(asyncio.Protocol):
    """Carries one session on a WebSocket; the event loop calls it directly.

    `writable` is true until the loop says that the socket's buffer is full.
    """

    __slots__ = (
        *("_base64", "_closing", "_codec", "_connections", "_eio", "_largest", "_paused", "_receive", "_session", "_transport", "_wire"),
    )

    name: str = "websocket"

    def __init__(self, wire: WebSocketProtocol, session: Session, base64: bool) -> None:
        self._wire: WebSocketProtocol | None = wire
        self._session = session
        self._codec = wire.codec
        self._transport = wire.transport
        self._connections = wire.connections
        self._base64 = base64
        self._eio = session.eio
        self._receive = self._receive_eio3 if session.eio == 3 else session.receive
        self._paused = False
        self._largest = 0
        self._closing = False

    # What the event loop calls

    def data_received(self, data: bytes) -> None:
        codec = self._codec
        for message in codec.feed(data):
            self._receive(message)
        if codec.out:
            self._transport.write(b"".join(codec.out))
            codec.out.clear()
        if codec.state is CLOSED:
            self._finish()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._session.ready()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._paused = False
        self._closing = True
        self._session.lost(Reason.TRANSPORT_CLOSE, None if exc is None else str(exc))

    # What the session calls

    @property
    def writable(self) -> bool:
        return not self._paused

    @property
    def sending(self) -> bool:
        return self._paused

    @property
    def buffered(self) -> int:
        return max(0, self._transport.get_write_buffer_size() - self._largest) if self._paused else 0

    def flush(self, out: list[Encoded]) -> bool:
        """Write everything at once, unless the socket's buffer is full."""
        if self._paused:
            return False
        eio, base64 = self._eio, self._base64
        if len(out) == 1:
            self._largest = out[0].size
            self._transport.write(out[0].frames(eio, base64))
            return True
        frames = [encoded.frames(eio, base64) for encoded in out]
        self._largest = max(map(len, frames))
        if sum(map(len, frames)) <= JOIN_UP_TO:
            self._transport.write(b"".join(frames))
        else:
            self._transport.writelines(frames)
        return True

    def end(self, last: Encoded) -> None:
        """Close the WebSocket; one whose buffer is full is cut off."""
        if self._closing:
            return
        self._closing = True
        if self._paused:
            self._transport.abort()
            return
        codec = self._codec
        if codec.state is OPEN:
            codec.close()
            self._transport.write(b"".join(codec.out))
            codec.out.clear()
            asyncio.get_running_loop().call_later(CLOSE_TIME, self._transport.close)
        else:
            self._transport.close()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    async def serve(self, receive: object) -> None:
        """Take over from ASGI events; this returns at once, and the app's coroutine with it."""
        wire, self._wire = self._wire, None
        assert wire is not None
        self._paused = wire.paused
        for event in wire.hand_over(self):
            if event["type"] == "websocket.receive":
                text = event.get("text")
                self._receive(event["bytes"] if text is None else text)
            else:
                self._session.lost(Reason.TRANSPORT_CLOSE)

    # The end

    def shutdown(self) -> None:
        """Take notice that uvicorn stops: the server of this session closes, and then the connection with it."""
        self._session.shut_down()

    def _receive_eio3(self, packet: str | bytes) -> None:
        if isinstance(packet, bytes):
            if packet[:1] != MESSAGE_BYTE:
                self._session.lost(Reason.PARSE_ERROR, "a binary packet that is not a message")
                return
            packet = packet[1:]
        self._session.receive(packet)

    def _finish(self) -> None:
        """The peer has closed, or broken the protocol: there is nothing more to read."""
        code = self._codec.close_code
        if code == CloseCode.ABNORMAL:
            self._session.lost(Reason.TRANSPORT_ERROR, self._codec.close_reason)
        else:
            self._session.lost(Reason.TRANSPORT_CLOSE)
        self._transport.close()


class WebSocketProtocol(asyncio.Protocol):
    """What uvicorn makes of an HTTP connection that asks for a WebSocket: the handshake, then ASGI events until the wire is taken.

    It stands in uvicorn's set of connections, so that limits, log and shutdown count it.
    """

    __slots__ = (
        *("_asgi_version", "_client", "_closing", "_denial", "_drained", "_events", "_key", "_loop", "_server_state", "_taken", "_waiter"),
        *("app", "app_state", "codec", "connections", "paused", "root_path", "scope", "transport"),
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
        self._asgi_version = config.asgi_version
        self._server_state = server_state
        self._loop = _loop or asyncio.get_running_loop()
        self._key = b""
        self._events: deque[Message] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._drained: asyncio.Event | None = None
        self._denial: tuple[int, list[tuple[bytes, bytes]], list[bytes]] | None = None
        self._taken = False
        self._closing = False

    transport: asyncio.Transport
    scope: Scope
    _client: tuple[str, int] | None

    # What the event loop and uvicorn call

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Take the request's head, which uvicorn hands over as bytes, and then frames."""
        if not self._key:
            self._handshake(data)
            return
        codec = self.codec
        for message in codec.feed(data):
            self._put({"type": "websocket.receive", "text" if isinstance(message, str) else "bytes": message})
        self._write_answers()
        if codec.state is CLOSED and not self._closing:
            self._closing = True
            self._put({"type": "websocket.disconnect", "code": codec.close_code, "reason": codec.close_reason})
            self.transport.close()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self._drained is not None:
            self._drained.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self)
        self._closing = True
        self.resume_writing()
        self._put({"type": "websocket.disconnect", "code": self.codec.close_code or CloseCode.ABNORMAL})

    def shutdown(self) -> None:
        """Take notice that uvicorn stops."""
        if self._key and self.codec.state is OPEN:
            self.codec.close(CloseCode.SERVICE_RESTART)
            self._write_answers()
        self._put({"type": "websocket.disconnect", "code": CloseCode.SERVICE_RESTART})
        self._closing = True
        self.transport.close()

    # The handshake

    def _handshake(self, head: bytes) -> None:
        lines = head.split(b"\r\n")
        method, target, _ = lines[0].split(b" ", 2)
        headers = [(name.lower(), value.strip()) for name, _, value in [line.partition(b":") for line in lines[1:] if line]]
        found = dict(headers)
        key = found.get(b"sec-websocket-key", b"")
        if method != b"GET" or not _is_key(key):
            self._respond(400, [], b"not a WebSocket handshake: GET with a Sec-WebSocket-Key of 16 bytes is needed")
            return
        if found.get(b"sec-websocket-version") != b"13":
            # "if this version does not match a version understood by the server" (4.4)
            self._respond(426, [(b"sec-websocket-version", b"13")], b"only version 13 of the WebSocket protocol is known")
            return
        self._key = key
        self.scope = self._make_scope(target, headers, found.get(b"sec-websocket-protocol", b""))
        self._events.append({"type": "websocket.connect"})
        # uvicorn leaves a reference cycle between its HTTP protocol and the parser of it behind; broken once it has let go.
        self._loop.call_soon(_break_cycle, self.transport.get_protocol())
        task = self._loop.create_task(self._run(), name="mizzen-websocket")
        self._server_state.tasks.add(task)
        task.add_done_callback(self._server_state.tasks.discard)

    def _make_scope(self, target: bytes, headers: list[tuple[bytes, bytes]], protocols: bytes) -> Scope:
        raw_path, _, query = target.partition(b"?")
        path = raw_path.decode("ascii")
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

    async def _run(self) -> None:
        try:
            await self.app(self.scope, self.receive, self.send)
        except ClientGone:
            pass
        except BaseException as error:
            if not isinstance(error, asyncio.CancelledError):
                logger.exception("Exception in ASGI application\n")
            if self._key and not self._taken:
                self._respond(500, [], b"Internal Server Error")
            elif not self._closing and not isinstance(self.transport.get_protocol(), NativeTransport):
                self._close(CloseCode.INTERNAL_ERROR, "")
        else:
            if self.transport.get_protocol() is self and not self._closing:
                if not self._taken:
                    logger.error("ASGI callable returned without completing handshake.")
                    self._respond(500, [], b"Internal Server Error")
                else:
                    self._close(CloseCode.NORMAL, "")

    def _respond(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Answer with HTTP and close."""
        if self._closing:
            return
        self._closing = True
        names = {name.lower() for name, _ in headers}
        extra: list[tuple[bytes, bytes]] = [(b"connection", b"close")]
        if b"content-length" not in names:
            extra.append((b"content-length", b"%d" % len(body)))
        if b"content-type" not in names:
            extra.append((b"content-type", b"text/plain; charset=utf-8"))
        self.transport.write(_head(status, [*self._server_state.default_headers, *headers, *extra]) + body)
        self._log(str(status))
        self._put({"type": "websocket.disconnect", "code": CloseCode.ABNORMAL})
        self.transport.close()

    def _log(self, outcome: str) -> None:
        if logger.isEnabledFor(logging.INFO) and self._key:
            path = self.scope["path"]
            query = self.scope["query_string"].decode("latin-1")
            client = f"{self._client[0]}:{self._client[1]}" if self._client else ""
            logger.info('%s - "WebSocket %s" %s', client, f"{path}?{query}" if query else path, outcome)

    # ASGI events

    async def receive(self) -> Message:
        """Give the next ASGI event; the socket is not read while one waits."""
        while not self._events:
            self._waiter = self._loop.create_future()
            await self._waiter
        event = self._events.popleft()
        if not self._events and not self.transport.is_closing():
            self.transport.resume_reading()
        return event

    def _put(self, event: Message) -> None:
        self._events.append(event)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if event["type"] == "websocket.receive" and not self.transport.is_closing():
            self.transport.pause_reading()

    async def send(self, message: Message) -> None:
        """Take an ASGI event of the app; waits while the socket's buffer is full, and raises OSError once the client is gone."""
        kind = message["type"]
        if not self._taken:
            self._answer_handshake(kind, message)
            return
        if self._closing:
            raise ClientGone("the WebSocket is closed")
        if kind == "websocket.send":
            data = message.get("bytes")
            if data is not None:
                self.transport.write(encode_frame(Opcode.BINARY, data))
            else:
                self.transport.write(encode_frame(Opcode.TEXT, message["text"].encode()))
            if self.paused:
                self._drained = asyncio.Event()
                await self._drained.wait()
        elif kind == "websocket.close":
            self._close(message.get("code") or CloseCode.NORMAL, message.get("reason") or "")
        else:
            raise RuntimeError(f"Expected ASGI message 'websocket.send' or 'websocket.close', but got '{kind}'.")

    def _answer_handshake(self, kind: str, message: Message) -> None:
        if self._closing:
            raise ClientGone("the client went before the handshake was answered")
        if self._denial is not None and kind == "websocket.http.response.body":
            status, headers, body = self._denial
            body.append(message.get("body", b""))
            if not message.get("more_body", False):
                self._respond(status, headers, b"".join(body))
        elif kind == "websocket.accept":
            self._taken = True
            headers = [(b"upgrade", b"websocket"), (b"connection", b"Upgrade"), (b"sec-websocket-accept", accept_key(self._key))]
            if message.get("subprotocol"):
                headers.append((b"sec-websocket-protocol", message["subprotocol"].encode("latin-1")))
            self.transport.write(_head(101, [*headers, *self._server_state.default_headers, *message.get("headers", ())]))
            self._log("[accepted]")
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
        self._closing = True
        self._put({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.resume_reading()
        self._loop.call_later(CLOSE_TIME, self.transport.close)

    def _write_answers(self) -> None:
        if self.codec.out:
            self.transport.write(b"".join(self.codec.out))
            self.codec.out.clear()

    # The wire

    def carry(self, session: Session, max_payload: int, base64: bool) -> NativeTransport:
        """Give the transport that takes this WebSocket over, once it is served, for a session."""
        self.codec.max_size = max_payload
        return NativeTransport(self, session, base64)

    def hand_over(self, native: NativeTransport) -> list[Message]:
        """Have the event loop call `native` from now on; give the events that nobody has read."""
        events = list(self._events)
        self._events.clear()
        self.connections.discard(self)
        if not self.transport.is_closing():
            self.connections.add(native)
            self.transport.set_protocol(native)
            self.transport.resume_reading()
        return events


def _is_key(key: bytes) -> bool:
    try:
        return len(b64decode(key, validate=True)) == 16
    except ValueError:
        return False


def _head(status: int, headers: Headers) -> bytes:
    lines = [b"HTTP/1.1 %d %b" % (status, HTTPStatus(status).phrase.encode("ascii"))]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _break_cycle(http: object) -> None:
    for name in ("parser", "cycle", "conn", "pipeline", "flow"):
        if getattr(http, name, None) is not None:
            setattr(http, name, None)
