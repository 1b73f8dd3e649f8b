"""The ASGI application that answers under the server's path: handshakes, polls, WebSockets and upgrades."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Final, cast

from mizzen.errors import LocalProtocolError
from mizzen.handling import failure_of
from mizzen.protocol.engine import PROBE_PING, PROBE_PONG, Link
from mizzen.protocol.engine_packet import UPGRADE
from mizzen.transports.carrier import NativeTransport
from mizzen.transports.compression import compress_aside, compress_once, preferred_coding
from mizzen.transports.files import File, Files
from mizzen.transports.gate import Fault, Gate, Headers, Refusal, Request, add_vary
from mizzen.transports.native import WIRE, WebSocketProtocol
from mizzen.transports.polling import NOOP_INTERVAL, PollingTransport
from mizzen.transports.websocket import NORMAL_CLOSURE, WebSocketTransport
from mizzen.types import ASGIApp, Handshake, Message, Reason, Receive, Scope, Send

if TYPE_CHECKING:
    from mizzen.options import ServerOptions
    from mizzen.ports import EngineHooks, Session, SessionStore, Transport
    from mizzen.protocol.encoded import Encoded

logger: Final = logging.getLogger("mizzen.server")

NO_STORE: Final = (b"cache-control", b"no-store")
OK: Final[Headers] = [(b"content-type", b"text/html")]
"""Of the answer to a POST: "text/html is required instead of text/plain to avoid an unwanted download dialog" in old browsers."""


class Probe(Enum):
    """What becomes of a WebSocket that a polling session may move to; LEFT: its client has closed it."""

    UPGRADED = "upgraded"
    FAILED = "failed"
    LEFT = "left"


class Endpoint:
    """Engine.IO over ASGI, for sessions whose messages go wherever their consumer takes them; and the files of the browser client."""

    def __init__(self, options: ServerOptions, sessions: SessionStore, hooks: EngineHooks | None = None) -> None:
        self._options = options
        self._sessions = sessions
        self._hooks = hooks
        self._gate = Gate(options, sessions)
        self._files = Files(bundled=options.serve_client, named=options.client_files)
        self._folder = options.path + "/"
        self._compress_from = int(options.http_compression)
        if hooks is not None:
            hooks.wrap(self._serve)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        hooks = self._hooks
        middleware = None if hooks is None else hooks.entrance
        if hooks is None or middleware is None:
            return self._serve(scope, receive, send)
        return self._serve_within(middleware, hooks, scope, receive, send)

    def _serve(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return self._websocket(scope, receive, send) if scope["type"] == "websocket" else self._http(scope, receive, send)

    async def _serve_within(self, middleware: ASGIApp, hooks: EngineHooks, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve within the user's middleware; refuse what it fails for."""
        answered = False

        async def watch(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await middleware(scope, receive, watch)
        except BaseException as caught:
            if answered:
                raise
            error = failure_of(caught, "the middleware")
            hooks.failed(error, "middleware")
            request = Request(scope)
            refusal = Refusal(Fault.BAD_REQUEST, context={"name": "MIDDLEWARE_FAILURE", "error": error})
            if scope["type"] == "websocket":
                await self._deny(request, send, refusal)
            else:
                await self._refuse(request, send, refusal)

    # HTTP

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        method: str = scope["method"]
        file = self._files.get(scope["path"].rpartition(self._folder)[2])
        if file is not None and method in ("GET", "HEAD"):
            await self._give(file, request, method, send)
            return
        try:
            self._gate.check_origin(request, websocket=False)
            if method == "OPTIONS":
                await _respond(send, 204, self._gate.preflight_headers(request))
                return
            session = self._gate.admit(request, method, websocket=False)
            if session is None:
                await self._open_polling(request, receive, send)
            elif method == "GET":
                await self._poll(request, session, receive, send)
            else:
                await self._post(request, session, receive, send)
        except Refusal as refusal:
            await self._refuse(request, send, refusal)

    async def _refuse(self, request: Request, send: Send, refusal: Refusal) -> None:
        await self._tell_of(refusal, request)
        headers = [(b"content-type", b"application/json"), *self._gate.cors_headers(request)]
        await _respond(send, refusal.status, headers, refusal.body())

    async def _tell_of(self, refusal: Refusal, request: Request) -> None:
        if self._hooks is not None:
            await self._hooks.refused(refusal.code, refusal.message, refusal.context, request.handshake)

    async def _give(self, file: File, request: Request, method: str, send: Send) -> None:
        """Give a file of the client to whoever asks: there is nothing secret in it."""
        try:
            status, headers, body = await self._files.answer(file, request.header(b"accept-encoding"), request.header(b"if-none-match"))
        except OSError:
            logger.exception("a file of the client cannot be read")
            status, headers, body = 404, [], b""
        for name, value in self._gate.cors_headers(request):
            if name == b"vary":
                add_vary(headers, value)
            else:
                headers.append((name, value))
        await _respond(send, status, headers, body, only_head=method == "HEAD")

    async def _new_id(self, handshake: Handshake) -> str | None:
        """Let the user make the id of a new session; None where no user does."""
        hooks = self._hooks
        if hooks is None or not hooks.generates_ids:
            return None
        try:
            sid = await hooks.new_id(handshake)
            if self._sessions.get(sid) is not None:
                raise ValueError(f"generate_id gave {sid!r}, which another connection has")
        except BaseException as caught:
            error = failure_of(caught, "the function")
            hooks.failed(error, "generate_id")
            raise Refusal(Fault.BAD_REQUEST, context={"name": "ID_GENERATION_ERROR", "error": error}) from None
        if not self._sessions.accepting:
            raise Refusal(Fault.SHUTTING_DOWN, context={"name": "SHUTTING_DOWN"})
        return sid

    def _edits(self) -> EngineHooks | None:
        """Give who lets the user see and change the headers of an answer; None where no user wants to."""
        hooks = self._hooks
        return hooks if hooks is not None and hooks.edits_headers else None

    async def _open_polling(self, request: Request, receive: Receive, send: Send) -> None:
        handshake = request.handshake
        await self._gate.ask_application(handshake)
        sid = await self._new_id(handshake)
        session = self._sessions.create(handshake, request.eio, Link.POLLING, sid)
        session.start(PollingTransport(session, request.base64, request.script))
        cookie = self._options.cookie
        more: Headers = [(b"set-cookie", cookie.header(session.sid))] if cookie else []
        await self._poll(request, session, receive, send, more)

    async def _poll(self, request: Request, session: Session, receive: Receive, send: Send, more: Headers | None = None) -> None:
        transport = session.transport
        assert isinstance(transport, PollingTransport)
        payload = await transport.get(receive)
        if payload is None:
            return
        body, content_type, packets = payload
        headers = [(b"content-type", content_type.encode("ascii")), NO_STORE, *self._gate.cors_headers(request)]
        if more is not None:
            headers += more
        if transport.script is not None:
            headers.append((b"x-content-type-options", b"nosniff"))
        try:
            if self._compress_from and len(body) >= self._compress_from and any(packet.compress for packet in packets):
                add_vary(headers, b"Accept-Encoding")
                coding = preferred_coding(request.header(b"accept-encoding"))
                if coding is not None:
                    headers.append((b"content-encoding", coding.encode("ascii")))
                    body = await _compress(body, coding, packets, session.eio, transport)
            hooks = self._edits()
            if hooks is not None:
                headers = await hooks.edit_headers(headers, request.handshake, first=more is not None)
            await _respond(send, 200, headers, body)
        except BaseException:
            session.lost(Reason.TRANSPORT_ERROR, "the answer to a poll could not be sent")
            raise

    async def _post(self, request: Request, session: Session, receive: Receive, send: Send) -> None:
        transport = session.transport
        assert isinstance(transport, PollingTransport)
        fits = await transport.post(request.headers, receive, self._options.max_payload)
        headers = self._gate.cors_headers(request)
        if fits is None:
            return  # there is nobody to answer any more
        if not fits:
            await _respond(send, 413, headers)
            return
        headers = OK + headers
        hooks = self._edits()
        if hooks is not None:
            headers = await hooks.edit_headers(headers, request.handshake, first=False)
        await _respond(send, 200, headers, b"ok")

    # WebSocket

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        handshake = request.handshake
        await receive()  # websocket.connect
        sid = None
        try:
            self._gate.check_origin(request, websocket=True)
            upgrading = self._gate.admit(request, "GET", websocket=True)
            if upgrading is None:
                await self._gate.ask_application(handshake)
                sid = await self._new_id(handshake)
        except Refusal as refusal:
            await self._deny(request, send, refusal)
            return
        wire = cast("Mapping[str, object]", scope.get("extensions") or {}).get(WIRE)
        headers = self._gate.cors_headers(request)
        if isinstance(wire, WebSocketProtocol) and self._options.per_message_deflate:
            headers = [*headers, *wire.deflate(request.header(b"sec-websocket-extensions"))]
        hooks = self._edits()
        if hooks is not None:
            headers = await hooks.edit_headers(headers, handshake, first=upgrading is None)
        await send({"type": "websocket.accept", "headers": headers})
        if upgrading is not None:
            transport = self._transport(wire, upgrading, send, request)
            await self._upgrade(upgrading, transport, receive, send)
            return
        if not self._sessions.accepting or (sid is not None and self._sessions.get(sid) is not None):
            await _close(send)  # the server began to close meanwhile, or another connection got the same id
            return
        session = self._sessions.create(handshake, request.eio, Link.WEBSOCKET, sid)
        transport = self._transport(wire, session, send, request)
        session.start(transport)
        await transport.serve(receive)

    def _transport(self, wire: object, session: Session, send: Send, request: Request) -> WebSocketTransport | NativeTransport:
        if isinstance(wire, WebSocketProtocol):
            return wire.carry(session, self._options, request.base64)
        return WebSocketTransport(session, send, self._options.max_payload, request.base64)

    async def _upgrade(self, session: Session, transport: WebSocketTransport | NativeTransport, receive: Receive, send: Send) -> None:
        if not session.upgradable or not self._options.allow_upgrades:
            # A probe for a session that is probing or on WebSocket already touches nothing, nor does it overtake what the first is told.
            await asyncio.sleep(NOOP_INTERVAL)
            await _close(send)
            return
        polling = session.transport
        assert isinstance(polling, PollingTransport)
        limit = asyncio.timeout(self._options.upgrade_timeout)

        def cancel() -> None:
            with contextlib.suppress(RuntimeError):  # its time is up in this very turn of the loop
                limit.reschedule(0)

        session.probe(cancel)
        outcome = Probe.FAILED
        try:
            async with limit:
                outcome = await self._probe(session, polling, transport, receive, send)
        except TimeoutError:
            logger.debug("the upgrade of connection %s was not finished in time", session.sid)
        finally:
            if outcome is not Probe.UPGRADED:
                session.probe_lost()
        if outcome is Probe.UPGRADED:
            await transport.serve(receive)
        elif outcome is Probe.FAILED:
            await _close(send)

    async def _probe(self, session: Session, polling: PollingTransport, transport: Transport, receive: Receive, send: Send) -> Probe:
        """Answer the probe and wait for the upgrade packet; say what has become of it."""
        for expected in (PROBE_PING, UPGRADE):
            event = await receive()
            if event["type"] == "websocket.disconnect":
                return Probe.LEFT
            if event.get("text") != expected:
                return Probe.FAILED
            if expected is PROBE_PING:
                await send({"type": "websocket.send", "text": PROBE_PONG})
                polling.probed()
        try:
            session.upgraded(transport)
        except LocalProtocolError:
            return Probe.FAILED  # the session ended meanwhile
        polling.left()
        return Probe.UPGRADED

    async def _deny(self, request: Request, send: Send, refusal: Refusal) -> None:
        """Refuse before the upgrade: engine.io answers 400 with the message, whatever the fault."""
        await self._tell_of(refusal, request)
        if "websocket.http.response" not in (request.scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": NORMAL_CLOSURE})  # such a server answers 403
            return
        body = refusal.message.encode()
        status = refusal.status if refusal.status == 503 else 400
        headers = [(b"content-type", b"text/html"), (b"content-length", str(len(body)).encode("ascii"))]
        await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body})
        # uvicorn logs an error for an app that returns before its transport has closed, which takes one turn of the loop.
        await asyncio.sleep(0)


async def _respond(send: Send, status: int, headers: Headers, body: bytes = b"", *, only_head: bool = False) -> None:
    """Answer; `headers` are nobody else's."""
    if status not in (204, 304):
        headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if only_head else body})


async def _compress(body: bytes, coding: str, packets: list[Encoded], eio: int, transport: PollingTransport) -> bytes:
    if len(packets) == 1 and transport.script is None:
        # A broadcast: every client that polls gets the same.
        return await compress_once(body, coding, packets[0].kept, (coding, eio, transport.base64))
    return await compress_aside(body, coding)


async def _close(send: Send) -> None:
    with contextlib.suppress(OSError):  # the client has gone meanwhile (ASGI specification 2.4)
        await send({"type": "websocket.close", "code": NORMAL_CLOSURE})
