"""The ASGI side of a test: requests and WebSockets that the test drives event by event, and an Engine.IO client on top of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from mizzen import Reason, Server, Socket
from mizzen.protocol.encoded import Encoded
from mizzen.protocol.payload import decode_payload, encode_payload
from mizzen.server.connection import Connection
from mizzen.types import ASGIApp, Message
from tests.support import WITHIN

HOST = "example.com"


class PeerGone(OSError):
    """What a server raises from `send` once the client has gone (ASGI: "a server-specific subclass of OSError")."""


def make_scope(kind: str, target: str, headers: Mapping[str, str] | None, **more: Any) -> dict[str, Any]:
    """Give the ASGI scope of a request for `target`: a path and its query."""
    path, _, query = target.partition("?")
    fields = {"host": HOST} | {name.lower(): value for name, value in (headers or {}).items()}
    return {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "http" if kind == "http" else "ws",
        "path": path,
        "raw_path": path.encode("ascii"),
        "root_path": "",
        "query_string": query.encode("latin-1"),
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields.items()],
        "client": ("192.0.2.7", 40000),
        "server": (HOST, 80),
    } | more


def engine_target(query: str = "", *, transport: str = "polling", eio: int | str = 4, sid: str | None = None) -> str:
    """Give path and query of an Engine.IO request."""
    return f"/socket.io/?EIO={eio}&transport={transport}{'' if sid is None else '&sid=' + sid}{query and '&' + query}"


@dataclass
class Answer:
    """An HTTP response, whole."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Give the one header of this name, or None; fails where there are two."""
        values = [value for each, value in self.headers if each == name]
        assert len(values) < 2, f"{name} came twice: {values}"
        return values[0] if values else None

    @property
    def error(self) -> tuple[int, int, str]:
        """Status, code and message of an error of Engine.IO."""
        assert self.header("content-type") == "application/json"
        fields = json.loads(self.body)
        assert list(fields) == ["code", "message"]
        return self.status, fields["code"], fields["message"]


class Exchange:
    """One run of the app; `send` and `receive` are strict about what ASGI allows."""

    def __init__(self, app: ASGIApp, scope: dict[str, Any]) -> None:
        self.inbox: asyncio.Queue[Message] = asyncio.Queue()
        self.sent: asyncio.Queue[Message] = asyncio.Queue()
        self.gone = False
        self.task = asyncio.create_task(self._run(app, scope))

    async def _run(self, app: ASGIApp, scope: dict[str, Any]) -> None:
        await app(scope, self.inbox.get, self._send)

    async def _send(self, message: Message) -> None:
        await asyncio.sleep(0)
        if self.gone:
            raise PeerGone
        self.sent.put_nowait(message)

    async def next(self) -> Message:
        """Give what the app sends next; raises what it raised instead."""
        waiting = asyncio.create_task(self.sent.get())
        async with asyncio.timeout(WITHIN):
            await asyncio.wait({waiting, self.task}, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done() and self.sent.empty():
                waiting.cancel()
                self.task.result()
                raise AssertionError("the app returned without an answer")
            return await waiting

    async def ended(self) -> None:
        """Wait until the app has returned; raises what it raised."""
        async with asyncio.timeout(WITHIN):
            await self.task


class Request(Exchange):
    """One HTTP request; its body is whole unless `body` is None, then `chunk` gives it."""

    def __init__(self, app: ASGIApp, method: str, target: str, body: bytes | None = b"", headers: Mapping[str, str] | None = None) -> None:
        fields = dict(headers or {})
        if body:
            fields.setdefault("content-length", str(len(body)))
        super().__init__(app, make_scope("http", target, fields, method=method))
        if body is not None:
            self.chunk(body, more=False)

    def chunk(self, body: bytes, *, more: bool = True) -> None:
        """Give a part of the body."""
        self.inbox.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def hang_up(self) -> None:
        """Cut the connection, as a client does that goes away."""
        self.gone = True
        self.inbox.put_nowait({"type": "http.disconnect"})

    async def answer(self) -> Answer:
        """Wait for the response."""
        start = await self.next()
        assert start["type"] == "http.response.start"
        body = b""
        more = True
        while more:
            part = await self.next()
            assert part["type"] == "http.response.body"
            body += part.get("body", b"")
            more = part.get("more_body", False)
        await self.ended()
        answer = Answer(start["status"], [(name.decode(), value.decode("latin-1")) for name, value in start["headers"]], body)
        assert answer.header("content-length") in (None, str(len(body)))
        return answer


class WebSocket(Exchange):
    """One WebSocket, from its request on."""

    def __init__(
        self,
        app: ASGIApp,
        target: str,
        headers: Mapping[str, str] | None = None,
        *,
        extensions: tuple[str, ...] = ("websocket.http.response",),
    ) -> None:
        super().__init__(app, make_scope("websocket", target, headers, subprotocols=[], extensions={name: {} for name in extensions}))
        self.inbox.put_nowait({"type": "websocket.connect"})
        self.closed = False

    async def _send(self, message: Message) -> None:
        await super()._send(message)
        assert not self.closed, f"sent after the close: {message}"
        self.closed = message["type"] == "websocket.close"

    def send(self, message: str | bytes) -> None:
        """Give the app a message."""
        self.inbox.put_nowait(
            {"type": "websocket.receive", "text": message} if isinstance(message, str) else {"type": "websocket.receive", "bytes": message}
        )

    def close(self, code: int = 1005) -> None:
        """Close from the client's side; 1006 is a connection that broke."""
        self.gone = True
        self.inbox.put_nowait({"type": "websocket.disconnect", "code": code})

    async def accepted(self) -> Message:
        """Wait for the 101."""
        message = await self.next()
        assert message["type"] == "websocket.accept", message
        return message

    async def receive(self) -> str | bytes:
        """Wait for a message."""
        message = await self.next()
        assert message["type"] == "websocket.send", message
        packet = message.get("text")
        return message["bytes"] if packet is None else packet

    async def until_closed(self) -> int:
        """Wait for the close of the app, past messages; give the code."""
        while (message := await self.next())["type"] != "websocket.close":
            assert message["type"] == "websocket.send", message
        self.inbox.put_nowait({"type": "websocket.disconnect", "code": message["code"]})
        await self.ended()
        return message["code"]

    async def refusal(self) -> Answer:
        """Wait for the response instead of a 101."""
        start = await self.next()
        assert start["type"] == "websocket.http.response.start", start
        body = await self.next()
        assert body["type"] == "websocket.http.response.body"
        await self.ended()
        return Answer(start["status"], [(name.decode(), value.decode("latin-1")) for name, value in start["headers"]], body["body"])


Dial: TypeAlias = Callable[[ASGIApp, str], WebSocket]
"""How a WebSocket is opened: by ASGI events, or on the native path."""


async def ask(app: ASGIApp, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
    """Make one HTTP request; give the response."""
    return await Request(app, method, target, body, headers).answer()


async def handshake(app: ASGIApp, query: str = "", *, eio: int = 4, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Open a session on polling; give the fields of its open packet."""
    answer = await ask(app, "GET", engine_target(query, eio=eio), headers=headers)
    assert answer.status == 200, answer
    fields: dict[str, Any] = json.JSONDecoder().raw_decode(answer.body[answer.body.index(b"{") :].decode())[0]
    return fields


def only_connection(io: Server) -> Connection:
    """Give the one connection that there is."""
    (connection,) = io.sessions.connections.values()
    return connection


class Ends:
    """Remembers why each socket ended: a `disconnect` handler."""

    def __init__(self, io: Server) -> None:
        self.reasons: list[Reason] = []
        io.on("disconnect", self._ended)

    async def _ended(self, socket: Socket, reason: Reason) -> None:
        assert socket.reason == reason
        self.reasons.append(reason)


def nothing_is_left(io: Server) -> bool:
    """Say whether no connection, socket, room, task or deadline is left."""
    sessions = io.sessions
    return not (
        sessions.connections
        or len(io.tasks)
        or len(io.unconnected)
        or len(sessions.draining)
        or any(len(deadlines) for deadlines in sessions.heartbeats.values())
        or any(namespace.sockets or namespace.adapter.rooms for namespace in io.namespaces.values())
    )


class Peer:
    """An Engine.IO client of its own making: polls, upgrades as the reference client does, answers pings; messages wait in `messages`."""

    def __init__(self, app: ASGIApp, eio: int, *, query: str = "", dial: Dial = WebSocket) -> None:
        self.app = app
        self.dial = dial
        self.eio = eio
        self.query = query
        self.sid = ""
        self.messages: asyncio.Queue[str | bytes] = asyncio.Queue()
        self.closed = asyncio.Event()
        self.transport = "polling"
        self._outbox: list[str | bytes] = []
        self._posting: asyncio.Task[None] | None = None
        self._held = False
        self._pausing = False
        self._websocket: WebSocket | None = None
        self._reader: asyncio.Task[None] | None = None

    async def open(self, carrier: str) -> None:
        """Open the session: `polling`, `websocket`, or `upgraded` from one to the other."""
        if carrier == "websocket":
            self._websocket = self.dial(self.app, engine_target(self.query, transport="websocket", eio=self.eio))
            await self._websocket.accepted()
            self.transport = "websocket"
            self._reader = asyncio.create_task(self._read(self._websocket))
            while not self.sid:
                await asyncio.sleep(0)
            return
        answer = await ask(self.app, "GET", engine_target(self.query, eio=self.eio))
        self._payload(answer)
        assert self.sid
        self._reader = asyncio.create_task(self._poll())
        if carrier == "upgraded":
            await self.upgrade()

    def send(self, *packets: str | bytes) -> None:
        """Send packets, in order: text with its type digit, binary messages bare."""
        self._outbox.extend(packets)
        self._flush()

    async def sent(self) -> None:
        """Wait until what was sent has been taken."""
        while self._outbox or self._posting is not None:
            await asyncio.sleep(0)

    async def receive(self) -> str | bytes:
        """Give the next message, without its type digit."""
        async with asyncio.timeout(WITHIN):
            return await self.messages.get()

    async def upgrade(self, between: Callable[[], None] = lambda: None) -> None:
        """Move to WebSocket; `between` is called between the steps."""
        websocket = self.dial(self.app, engine_target(self.query, transport="websocket", eio=self.eio, sid=self.sid))
        await websocket.accepted()
        between()
        websocket.send("2probe")
        assert await websocket.receive() == "3probe"
        between()
        # The client pauses: its last GET ends (the server sees to that), and so do its POSTs; what is sent meanwhile waits.
        self._pausing = self._held = True
        assert self._reader is not None
        await self._reader
        while self._posting is not None:
            await asyncio.sleep(0)
        between()
        websocket.send("5")
        self._websocket = websocket
        self.transport = "websocket"
        self._reader = asyncio.create_task(self._read(websocket))
        self._held = False
        between()
        self._flush()

    async def close(self) -> None:
        """Go away, if that has not happened, and wait until the session's requests have ended."""
        if self._websocket is not None and not self._websocket.closed:
            self._websocket.close()
        elif not self.closed.is_set():
            self.send("1")
        assert self._reader is not None
        async with asyncio.timeout(WITHIN):
            await asyncio.gather(self._reader, *([self._posting] if self._posting else []))

    def _flush(self) -> None:
        if self._held or not self._outbox:
            return
        if self._websocket is not None:
            outbox, self._outbox = self._outbox, []
            for packet in outbox:
                self._websocket.send(b"\x04" + packet if isinstance(packet, bytes) and self.eio == 3 else packet)
        elif self._posting is None:
            self._posting = asyncio.create_task(self._post())

    async def _post(self) -> None:
        while self._outbox and not self._held:
            outbox, self._outbox = self._outbox, []
            units = [Encoded(packet.encode()) if isinstance(packet, str) else Encoded(None, [packet]) for packet in outbox]
            body, content_type = encode_payload(units, self.eio, base64=False)
            answer = await ask(self.app, "POST", engine_target(eio=self.eio, sid=self.sid), body, {"content-type": content_type})
            assert (answer.status, answer.body) == (200, b"ok"), answer
        self._posting = None

    async def _poll(self) -> None:
        while not self.closed.is_set():
            answer = await ask(self.app, "GET", engine_target(self.query, eio=self.eio, sid=self.sid))
            if answer.status != 200:
                self.closed.set()
                return
            self._payload(answer)
            if self._pausing:
                return

    def _payload(self, answer: Answer) -> None:
        binary = answer.header("content-type") == "application/octet-stream"
        for packet in decode_payload(answer.body, self.eio, binary):
            self._take(packet)

    async def _read(self, websocket: WebSocket) -> None:
        while True:
            try:
                message = await websocket.next()
            except AssertionError:
                break
            if message["type"] == "websocket.close":
                websocket.inbox.put_nowait({"type": "websocket.disconnect", "code": message["code"]})
                break
            packet = message.get("text")
            if packet is None:
                packet = message["bytes"]
                if self.eio == 3:
                    assert packet[0] == 4
                    packet = packet[1:]
            self._take(packet)
        self.closed.set()
        await websocket.ended()

    def _take(self, packet: str | bytes) -> None:
        if isinstance(packet, bytes):
            self.messages.put_nowait(packet)
        elif packet[0] == "4":
            self.messages.put_nowait(packet[1:])
        elif packet[0] == "0":
            self.sid = json.loads(packet[1:])["sid"]
        elif packet[0] == "1":
            self.closed.set()
        elif packet == "2":
            self.send("3")
        else:
            assert packet in ("3", "6"), packet


@asynccontextmanager
async def open_peer(app: ASGIApp, carrier: str, eio: int, *, query: str = "", dial: Dial = WebSocket) -> AsyncIterator[Peer]:
    """Open a session, joined to the main namespace."""
    peer = Peer(app, eio, query=query, dial=dial)
    await peer.open(carrier)
    if eio == 4:
        peer.send("40")
    joined = await peer.receive()
    assert isinstance(joined, str)
    assert joined.startswith("0")
    try:
        yield peer
    finally:
        await peer.close()
