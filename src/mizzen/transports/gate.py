"""Who may come in: origins, CORS, and the checks of a request before a session sees it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from inspect import isawaitable
from typing import Final
from urllib.parse import urlsplit

from mizzen.errors import ConnectRefused
from mizzen.options import ServerOptions
from mizzen.ports import Session, SessionStore
from mizzen.protocol.javascript import dumps
from mizzen.transports import jsonp
from mizzen.types import Handshake

logger: Final = logging.getLogger("mizzen.server")

Headers = list[tuple[bytes, bytes]]

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class Fault(Enum):
    """Why a request is refused: the code and message of engine.io, and the HTTP status."""

    TRANSPORT_UNKNOWN = (400, 0, "Transport unknown")
    SESSION_UNKNOWN = (400, 1, "Session ID unknown")
    BAD_HANDSHAKE_METHOD = (400, 2, "Bad handshake method")
    BAD_REQUEST = (400, 3, "Bad request")
    FORBIDDEN = (403, 4, "Forbidden")
    UNSUPPORTED_PROTOCOL = (400, 5, "Unsupported protocol version")
    SHUTTING_DOWN = (503, 3, "Server is shutting down")


class Refusal(Exception):
    """A request that gets no further; `message` is what the client is told, `context` what the server's own hooks are told besides."""

    def __init__(self, fault: Fault, message: str | None = None, context: Mapping[str, object] | None = None) -> None:
        self.status, self.code, text = fault.value
        self.message: str = message or text
        self.context: dict[str, object] = dict(context or {})
        super().__init__(self.message)

    def body(self) -> bytes:
        """Give the body of an HTTP answer: `{"code": …, "message": …}`."""
        return dumps({"code": self.code, "message": self.message}, None)


@dataclass(frozen=True, slots=True)
class Admission:
    """A request that may go on: to its session, or, without one, to a new session of protocol `eio`.

    `base64` says whether it takes text only, `script` the index of its callback, if it is a script tag that polls.
    """

    eio: int
    session: Session | None
    base64: bool
    script: str | None


class Gate:
    """The checks that every request of every transport passes, in the order of engine.io."""

    def __init__(self, options: ServerOptions, sessions: SessionStore) -> None:
        self._options = options
        self._sessions = sessions

    def check_origin(self, handshake: Handshake, *, websocket: bool) -> None:
        """Raise Refusal for a page of another site.

        A browser sends cookies with every WebSocket, whatever page opened it, so that a foreign page could act as the user. `Origin: null`
        is foreign. Script tags (`j=` in the query) tell no Origin, and any page may read what they load: their Referer has to say that the
        page may.
        """
        headers = handshake.headers
        origin = headers.get("origin")
        if origin is None and not websocket and "j" in handshake.query:
            origin = jsonp.origin_of(headers.get("referer", "")) or "(none; a script tag without a Referer)"
        if origin is None:
            if headers.get("sec-fetch-site") != "cross-site":
                return
            origin = "(none; Sec-Fetch-Site: cross-site)"
        elif is_own_host(origin, headers.get("host", "")) or self.allows(origin):
            return
        logger.warning(
            "refused a request of origin %s for host %s from %s: not the own host and not in cors_origins",
            _printable(origin),
            _printable(headers.get("host", "(none)")),
            handshake.address,
        )
        raise Refusal(Fault.FORBIDDEN, context={"name": "FORBIDDEN_ORIGIN", "origin": origin})

    def allows(self, origin: str) -> bool:
        """Say whether the option `cors_origins` names this origin."""
        allowed = self._options.cors_origins
        if allowed is None:
            return False
        if allowed == "*":
            return True
        if callable(allowed):
            try:
                return allowed(origin) is True
            except Exception:
                logger.exception("cors_origins failed; the origin %s was refused", _printable(origin))
                return False
        return origin.lower() in allowed

    def cors_headers(self, handshake: Handshake) -> Headers:
        """Give the CORS headers of an answer; none for the own host and without Origin."""
        options = self._options
        if options.cors_origins is None:
            return []
        headers: Headers = []
        origin = handshake.headers.get("origin")
        if options.cors_origins != "*" or options.cors_credentials:
            headers.append((b"vary", b"Origin"))
        if origin is None or not self.allows(origin):
            return headers
        # "*" may not stand beside credentials (Fetch standard, CORS protocol and credentials)
        anybody = options.cors_origins == "*" and not options.cors_credentials
        headers.append((b"access-control-allow-origin", b"*" if anybody else origin.encode("latin-1")))
        if options.cors_credentials:
            headers.append((b"access-control-allow-credentials", b"true"))
        if options.cors_exposed_headers:
            headers.append((b"access-control-expose-headers", ",".join(options.cors_exposed_headers).encode("ascii")))
        return headers

    def preflight_headers(self, handshake: Handshake) -> Headers:
        """Give the headers that answer a CORS preflight."""
        headers = self.cors_headers(handshake)
        if not any(name == b"access-control-allow-origin" for name, _ in headers):
            return headers
        headers.append((b"access-control-allow-methods", ",".join(self._options.cors_methods).encode("ascii")))
        allowed = self._options.cors_allowed_headers
        if allowed is None:
            wanted = handshake.headers.get("access-control-request-headers")
            if wanted:
                add_vary(headers, b"Access-Control-Request-Headers")
                headers.append((b"access-control-allow-headers", wanted.encode("latin-1")))
        elif allowed:
            headers.append((b"access-control-allow-headers", ",".join(allowed).encode("ascii")))
        if self._options.cors_max_age is not None:
            headers.append((b"access-control-max-age", str(self._options.cors_max_age).encode("ascii")))
        return headers

    def admit(self, handshake: Handshake, method: str, *, websocket: bool) -> Admission:
        """Check the query and the method, of a WebSocket handshake or of a plain request; raise Refusal where they do not fit."""
        query = handshake.query
        transport = query.get("transport")
        if transport not in self._options.transports or (websocket and transport != "websocket"):
            raise Refusal(Fault.TRANSPORT_UNKNOWN, context={"transport": transport})
        sid = query.get("sid")
        session = None
        if sid is not None:
            session = self._sessions.get(sid)
            if session is None:
                raise Refusal(Fault.SESSION_UNKNOWN, context={"sid": sid})
        elif method != "GET":
            raise Refusal(Fault.BAD_HANDSHAKE_METHOD, context={"method": method})
        if transport == "websocket" and not websocket:
            raise Refusal(Fault.BAD_REQUEST, context={"name": "TRANSPORT_HANDSHAKE_ERROR"})
        eio = self._protocol(query)
        if session is None:
            if not self._sessions.accepting:
                raise Refusal(Fault.SHUTTING_DOWN, context={"name": "SHUTTING_DOWN"})
        else:
            _check_session(session, eio, method, websocket=websocket)
        script = None if websocket else query.get("j")
        if script is not None and not jsonp.is_index(script):
            raise Refusal(Fault.BAD_REQUEST, context={"name": "INVALID_JSONP_INDEX", "j": script})
        return Admission(eio, session, "b64" in query, script)

    def _protocol(self, query: Mapping[str, str]) -> int:
        eio = query.get("EIO")
        if eio == "4":
            return 4
        if eio == "3" and self._options.allow_eio3:
            return 3
        raise Refusal(Fault.UNSUPPORTED_PROTOCOL, context={"protocol": eio})

    async def ask_application(self, handshake: Handshake) -> None:
        """Let the option `allow_request` decide on a new session."""
        ask = self._options.allow_request
        if ask is None:
            return
        try:
            allowed = ask(handshake)
            if isawaitable(allowed):
                allowed = await allowed
        except ConnectRefused as refusal:
            raise Refusal(Fault.FORBIDDEN, refusal.message, {"message": refusal.message}) from None
        except Exception:
            logger.exception("allow_request failed; the request of %s was refused", handshake.address)
            raise Refusal(Fault.FORBIDDEN, context={"message": "Forbidden"}) from None
        if allowed is False:
            raise Refusal(Fault.FORBIDDEN, context={"message": "Forbidden"})
        if not self._sessions.accepting:
            raise Refusal(Fault.SHUTTING_DOWN, context={"name": "SHUTTING_DOWN"})


def _check_session(session: Session, eio: int, method: str, *, websocket: bool) -> None:
    if eio != session.eio:
        raise Refusal(Fault.BAD_REQUEST, context={"name": "PROTOCOL_MISMATCH", "protocol": eio, "previous_protocol": session.eio})
    if not websocket and session.transport.name != "polling":
        context = {"name": "TRANSPORT_MISMATCH", "transport": "polling", "previous_transport": session.transport.name}
        raise Refusal(Fault.BAD_REQUEST, context=context)
    if not websocket and method not in ("GET", "POST"):
        raise Refusal(Fault.BAD_REQUEST, context={"name": "BAD_METHOD", "method": method})


def add_vary(headers: Headers, name: bytes) -> None:
    """Say that the answer depends on this header of the request."""
    for index, (each, value) in enumerate(headers):
        if each == b"vary":
            headers[index] = (each, value + b", " + name)
            return
    headers.append((b"vary", name))


def is_own_host(origin: str, host: str) -> bool:
    """Say whether an Origin is of the host that the request went to: same name and port, the scheme not compared.

    TLS often ends at a proxy, so the page's `https` meets `http` here; a default port is that of the Origin's scheme.
    """
    try:
        parts = urlsplit(origin)
        default = DEFAULT_PORTS.get(parts.scheme)
        if default is None or not parts.hostname:
            return False
        own = urlsplit(f"//{host}")
        return parts.hostname == own.hostname and (parts.port or default) == (own.port or default)
    except ValueError:
        return False


def _printable(text: str) -> str:
    return repr(text[:200])[1:-1]
