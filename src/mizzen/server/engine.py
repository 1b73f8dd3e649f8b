"""What users see of the Engine.IO side of a server: `io.engine`."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from mizzen.handling import failure_of
from mizzen.types import NOT_IN_HEADERS, TOKEN, ASGIApp, Handshake, Receive, Scope, Send

if TYPE_CHECKING:
    from mizzen.server.connection import Connection
    from mizzen.server.sessions import Sessions

RawHeaders: TypeAlias = list[tuple[bytes, bytes]]
# What may stand in a cookie without quotes (RFC 6265, 4.1.1, `cookie-octet`) may stand in a query too, once it is quoted there.
_ID = re.compile(r"[!#-+\--:<-\[\]-~]{1,256}")


class ResponseHeaders(MutableMapping[str, str]):
    """The headers of one answer, as hooks may change them: `headers["x-served-by"] = "a1"`; names in any case.

    `append` adds a further header of a name that is there already, as Set-Cookie needs. Raises ValueError for what no header may hold.
    """

    __slots__ = ("raw",)

    def __init__(self, raw: RawHeaders) -> None:
        self.raw: RawHeaders = raw

    def __getitem__(self, name: str) -> str:
        values = self.get_all(name)
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def __setitem__(self, name: str, value: str) -> None:
        header = _header(name, value)
        self.raw[:] = [each for each in self.raw if each[0] != header[0]]
        self.raw.append(header)

    def __delitem__(self, name: str) -> None:
        left = [each for each in self.raw if each[0] != name.lower().encode("latin-1")]
        if len(left) == len(self.raw):
            raise KeyError(name)
        self.raw[:] = left

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.decode("latin-1") for name, _ in self.raw))

    def __len__(self) -> int:
        return len({name for name, _ in self.raw})

    def __repr__(self) -> str:
        return f"ResponseHeaders({self.raw!r})"

    def get_all(self, name: str) -> list[str]:
        """Give the values of every header of this name."""
        wanted = name.lower().encode("latin-1")
        return [value.decode("latin-1") for each, value in self.raw if each == wanted]

    def append(self, name: str, value: str) -> None:
        """Add a header, whatever others of this name there are."""
        self.raw.append(_header(name, value))


def _header(name: str, value: str) -> tuple[bytes, bytes]:
    if not TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a header: only letters, digits and !#$%&'*+-.^_`|~ may stand in it")
    if bad := NOT_IN_HEADERS.search(value):
        raise ValueError(f"{bad.group()!r} may not stand in the value of header {name!r}: percent-encode it")
    return name.lower().encode("ascii"), value.encode("latin-1")


@dataclass(frozen=True, slots=True)
class RefusedRequest:
    """A request that was refused before it got to a session: what `on_connection_error` hooks get.

    `code` and `message` are what the client was told (0 Transport unknown, 1 Session ID unknown, 2 Bad handshake method, 3 Bad request,
    4 Forbidden, 5 Unsupported protocol version); `context` says more, for instance `{"name": "PROTOCOL_MISMATCH", …}`; `handshake` is the
    request.
    """

    code: int
    message: str
    context: dict[str, object]
    handshake: Handshake


IdGenerator: TypeAlias = Callable[[Handshake], str | Awaitable[str]]
HeadersHook: TypeAlias = Callable[[ResponseHeaders, Handshake], Awaitable[None] | None]
RefusalHook: TypeAlias = Callable[[RefusedRequest], Awaitable[None] | None]
ConnectionHook: TypeAlias = "Callable[[Connection], None]"
IdFunction = TypeVar("IdFunction", bound=IdGenerator)
OfHeaders = TypeVar("OfHeaders", bound=HeadersHook)
OfRefusals = TypeVar("OfRefusals", bound=RefusalHook)
OfConnections = TypeVar("OfConnections", bound="Callable[[Connection], None]")
Report: TypeAlias = Callable[[Exception, str], None]


class _Layer:
    """One middleware, `app`, and the place inside it, which is called as an app: where the next middleware goes, or all that it wraps."""

    __slots__ = ("_engine", "app", "inner")

    app: ASGIApp

    def __init__(self, engine: EngineServer) -> None:
        self._engine = engine
        self.inner: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self.inner or self._engine.inside)(scope, receive, send)


async def _not_started(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("the server has not started")


class EngineServer:
    """The Engine.IO side of a server, `io.engine`: its HTTP requests and connections, whatever is said over them.

    Hooks may be registered at any time, by decorator or by call; those of HTTP may be async, and their answer then waits for them. One that
    fails breaks nothing: the error goes to the log and to the `on_error` hooks of the server.
    """

    __slots__ = (
        "_connection_hooks",
        "_generator",
        "_headers_hooks",
        "_initial_hooks",
        "_inside",
        "_layers",
        "_refusal_hooks",
        "_report",
        "_sessions",
    )

    def __init__(self, report: Report) -> None:
        self._inside: ASGIApp = _not_started
        self._layers: list[_Layer] = []
        self._report = report
        self._sessions: Sessions | None = None
        self._generator: IdGenerator | None = None
        self._initial_hooks: list[HeadersHook] = []
        self._headers_hooks: list[HeadersHook] = []
        self._refusal_hooks: list[RefusalHook] = []
        self._connection_hooks: list[ConnectionHook] = []

    # What users call

    @property
    def clients_count(self) -> int:
        """How many clients are connected to this process: connections, not sockets."""
        return 0 if self._sessions is None else len(self._sessions)

    @property
    def connections(self) -> list[Connection]:
        """The connections of this process now."""
        return [] if self._sessions is None else list(self._sessions.connections.values())

    def generate_id(self, function: IdFunction) -> IdFunction:
        """Have `function(handshake)`, plain or async, make the id of each new connection.

        Ids have to be unique and secret: who knows one can speak in its client's place. A function that fails, or gives what is no id or is
        in use, refuses the connection: 400 with code 3, context `ID_GENERATION_ERROR`.
        """
        self._generator = function
        return function

    def on_connection(self, hook: OfConnections) -> OfConnections:
        """Register a hook for each new connection, called with it before anything is received over it; a plain function."""
        self._connection_hooks.append(hook)
        if self._sessions is not None:
            self._sessions.on_open = self._opened
        return hook

    def on_initial_headers(self, hook: OfHeaders) -> OfHeaders:
        """Register a hook `(headers, handshake)` for the first answer of each session; it may change the headers."""
        self._initial_hooks.append(hook)
        return hook

    def on_headers(self, hook: OfHeaders) -> OfHeaders:
        """Register a hook `(headers, handshake)` for every answer of a session: to GET, POST and the WebSocket's request.

        It may change the headers; `handshake` is the request that is answered. Errors, preflights and files are not told.
        """
        self._headers_hooks.append(hook)
        return hook

    def on_connection_error(self, hook: OfRefusals) -> OfRefusals:
        """Register a hook for every request that is refused; it gets a RefusedRequest."""
        self._refusal_hooks.append(hook)
        return hook

    def use(self, middleware: Callable[..., ASGIApp], *args: Any, **options: Any) -> None:
        """Put an ASGI middleware around the requests of the engine only: each HTTP request and WebSocket under the server's path.

            io.engine.use(SessionMiddleware, secret_key="…")

        It is called as `middleware(app, *args, **options)` and gives an ASGI app; the first one registered is the outermost. It may answer
        by itself, and may put things into the scope, which is `handshake.scope` then. One that raises before there is an answer refuses the
        request: 400 with code 3, context `MIDDLEWARE_FAILURE`. To wrap the app's own requests too, wrap the server: `Middleware(io)`.
        """
        layer = _Layer(self)
        layer.app = middleware(layer, *args, **options)
        if self._layers:
            self._layers[-1].inner = layer.app
        self._layers.append(layer)

    # What the server and the transports call

    def attach(self, sessions: Sessions) -> None:
        """Look after these sessions from now on: the server has started."""
        self._sessions = sessions
        sessions.on_open = self._opened if self._connection_hooks else None

    def _opened(self, connection: Connection) -> None:
        for hook in self._connection_hooks:
            try:
                hook(connection)
            except BaseException as caught:
                self._report(failure_of(caught, "the hook"), "on_connection")

    @property
    def inside(self) -> ASGIApp:
        """What stands inside all middleware."""
        return self._inside

    def wrap(self, app: ASGIApp) -> None:
        self._inside = app

    @property
    def entrance(self) -> ASGIApp | None:
        return self._layers[0].app if self._layers else None

    @property
    def generates_ids(self) -> bool:
        return self._generator is not None

    async def new_id(self, handshake: Handshake) -> str:
        assert self._generator is not None
        made = self._generator(handshake)
        id = cast("object", await made if isawaitable(made) else made)
        if not isinstance(id, str) or not _ID.fullmatch(id):
            raise ValueError(f"generate_id gave {id!r}: expected a str of 1 to 256 characters, such as may stand in a cookie")
        return id

    @property
    def edits_headers(self) -> bool:
        return bool(self._headers_hooks or self._initial_hooks)

    async def edit_headers(self, headers: RawHeaders, handshake: Handshake, *, first: bool) -> RawHeaders:
        edited = ResponseHeaders(list(headers))
        if first:
            await self._tell(self._initial_hooks, "on_initial_headers", edited, handshake)
        await self._tell(self._headers_hooks, "on_headers", edited, handshake)
        return edited.raw

    async def refused(self, code: int, message: str, context: dict[str, object], handshake: Handshake) -> None:
        if self._refusal_hooks:
            await self._tell(self._refusal_hooks, "on_connection_error", RefusedRequest(code, message, context, handshake))

    def failed(self, error: Exception, where: str) -> None:
        self._report(error, where)

    async def _tell(self, hooks: list[Any], where: str, *args: object) -> None:
        for hook in hooks:
            try:
                result = hook(*args)
                if isawaitable(result):
                    await result
            except BaseException as caught:
                self._report(failure_of(caught, "the hook"), where)
