"""Who may come in: origins, CORS, and the checks of a request before a session sees it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from enum import Enum
from functools import lru_cache
from inspect import isawaitable
from typing import Final, NoReturn
from urllib.parse import urlsplit

from mizzen.errors import ConnectRefused
from mizzen.handling import failure_of
from mizzen.options import ServerOptions
from mizzen.ports import Session, SessionStore
from mizzen.protocol.javascript import dumps
from mizzen.transports import jsonp
from mizzen.types import Handshake, Scope, origin_of, parse_query

logger: Final = logging.getLogger("mizzen.server")

Headers = list[tuple[bytes, bytes]]

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
PROTOCOLS: Final = {"4": 4, "3": 3}
LONGEST_HOST: Final = 512
"""Characters of an Origin or Host that are looked at: a DNS name has at most 253, what stands around it in an Origin far fewer."""


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


class Request:
    """One request, as far as the checks look at it: most belong to a session that knows its handshake, and are told nothing but yes.

    `headers` are as they came, names in lower case, repeated ones joined by a comma; `handshake` is made for who asks for it. Once it is
    admitted, `eio` is the protocol, `base64` says whether it takes text only, and `script` is the index of its callback, if it is a script
    tag that polls.
    """

    __slots__ = ("_handshake", "headers", "query", "scope")

    def __init__(self, scope: Scope) -> None:
        self.scope: Scope = scope
        pairs: list[tuple[bytes, bytes]] = scope["headers"]
        # Lower-cased, whatever the server has done: one that gives names as they came must not let a foreign Origin in.
        headers = {name.lower(): value for name, value in pairs}
        if len(headers) != len(pairs):
            headers = _joined(pairs)
        self.headers: dict[bytes, bytes] = headers
        self.query: dict[str, str] = parse_query(scope["query_string"])
        self._handshake: Handshake | None = None

    def header(self, name: bytes) -> str:
        """Give the text of a header; without it, none."""
        return self.headers.get(name, b"").decode("latin-1")

    @property
    def eio(self) -> int:
        return PROTOCOLS[self.query["EIO"]]

    @property
    def base64(self) -> bool:
        return "b64" in self.query

    @property
    def script(self) -> str | None:
        return self.query.get("j")

    @property
    def handshake(self) -> Handshake:
        """This request as users see it."""
        if self._handshake is None:
            self._handshake = Handshake(self.scope)
        return self._handshake


def _joined(pairs: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for name, value in pairs:
        name = name.lower()
        headers[name] = headers[name] + b", " + value if name in headers else value
    return headers


class Gate:
    """The checks that every request of every transport passes, in the order of engine.io."""

    def __init__(self, options: ServerOptions, sessions: SessionStore) -> None:
        self._options = options
        self._sessions = sessions
        self._cors = options.cors_origins is not None
        # "*" may not stand beside credentials (Fetch standard, CORS protocol and credentials)
        self._anybody = options.cors_origins == "*" and not options.cors_credentials
        self._granted: Headers = []
        if options.cors_credentials:
            self._granted.append((b"access-control-allow-credentials", b"true"))
        if options.cors_exposed_headers:
            self._granted.append((b"access-control-expose-headers", ",".join(options.cors_exposed_headers).encode("ascii")))

    def check_origin(self, request: Request, *, websocket: bool) -> None:
        """Raise Refusal for a page of another site.

        A browser sends cookies with every WebSocket, whatever page opened it, so that a foreign page could act as the user. `Origin: null`
        is foreign. Script tags (`j=` in the query) tell no Origin, and any page may read what they load: their Referer has to say that the
        page may.
        """
        headers = request.headers
        if b"origin" in headers:
            origin = request.header(b"origin")
        elif not websocket and "j" in request.query:
            referer = request.header(b"referer")
            origin = origin_of(referer) if referer else "(none; a script tag without a Referer)"
        elif headers.get(b"sec-fetch-site") == b"cross-site":
            self._refuse_origin("(none; Sec-Fetch-Site: cross-site)", request)
        else:
            return
        if not is_own_host(origin, request.header(b"host")) and not self.allows(origin):
            self._refuse_origin(origin, request)

    def _refuse_origin(self, origin: str, request: Request) -> NoReturn:
        logger.warning(
            "refused a request of origin %s for host %s from %s: not the own host and not in cors_origins",
            _printable(origin),
            _printable(request.header(b"host") or "(none)"),
            request.handshake.address,
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
            except BaseException as caught:
                failure = failure_of(caught, "the function")
                logger.error("cors_origins failed; the origin %s was refused", _printable(origin), exc_info=failure)
                return False
        return origin.lower() in allowed

    def cors_headers(self, request: Request) -> Headers:
        """Give the CORS headers of an answer; none for the own host and without Origin."""
        if not self._cors:
            return []
        headers: Headers = [] if self._anybody else [(b"vary", b"Origin")]
        origin = request.headers.get(b"origin")
        if origin is not None and self.allows(origin.decode("latin-1")):
            headers.append((b"access-control-allow-origin", b"*" if self._anybody else origin))
            headers += self._granted
        return headers

    def preflight_headers(self, request: Request) -> Headers:
        """Give the headers that answer a CORS preflight."""
        headers = self.cors_headers(request)
        if not any(name == b"access-control-allow-origin" for name, _ in headers):
            return headers
        headers.append((b"access-control-allow-methods", ",".join(self._options.cors_methods).encode("ascii")))
        allowed = self._options.cors_allowed_headers
        if allowed is None:
            wanted = request.headers.get(b"access-control-request-headers")
            if wanted:
                add_vary(headers, b"Access-Control-Request-Headers")
                headers.append((b"access-control-allow-headers", wanted))
        elif allowed:
            headers.append((b"access-control-allow-headers", ",".join(allowed).encode("ascii")))
        if self._options.cors_max_age is not None:
            headers.append((b"access-control-max-age", str(self._options.cors_max_age).encode("ascii")))
        return headers

    def admit(self, request: Request, method: str, *, websocket: bool) -> Session | None:
        """Give the session of a WebSocket handshake or a plain request; None when it opens one. Raises Refusal for what does not fit."""
        query = request.query
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
        eio = PROTOCOLS.get(query.get("EIO", ""))
        if eio is None or (eio == 3 and not self._options.allow_eio3):
            raise Refusal(Fault.UNSUPPORTED_PROTOCOL, context={"protocol": query.get("EIO")})
        if session is not None:
            _check_session(session, eio, method, websocket=websocket)
        elif not self._sessions.accepting:
            raise Refusal(Fault.SHUTTING_DOWN, context={"name": "SHUTTING_DOWN"})
        if not websocket and "j" in query and not jsonp.is_index(query["j"]):
            raise Refusal(Fault.BAD_REQUEST, context={"name": "INVALID_JSONP_INDEX", "j": query["j"]})
        return session

    async def ask_application(self, handshake: Handshake) -> None:
        """Let the option `allow_request` decide on a new session: only what is true admits it."""
        ask = self._options.allow_request
        if ask is None:
            return
        try:
            answer: object = ask(handshake)
            while isawaitable(answer):  # again where a function forgot to await what it gives back
                answer = await answer
            allowed = bool(answer)
        except ConnectRefused as refusal:
            raise Refusal(Fault.FORBIDDEN, refusal.message, {"message": refusal.message}) from None
        except BaseException as caught:
            failure = failure_of(caught, "the function")
            logger.error("allow_request failed; the request of %s was refused", handshake.address, exc_info=failure)
            raise Refusal(Fault.FORBIDDEN, context={"message": "Forbidden"}) from None
        if not allowed:
            if answer is not False:
                logger.warning("allow_request gave %r; the request of %s was refused: expected True or False", answer, handshake.address)
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
    return len(origin) <= LONGEST_HOST and len(host) <= LONGEST_HOST and _is_own_host(origin, host)


@lru_cache(maxsize=256)  # a page of the own host says the same with every poll
def _is_own_host(origin: str, host: str) -> bool:
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
