"""The commands of the terminal client: one line each, typed or from a pipe."""

from __future__ import annotations

import enum
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias, cast

from rich.text import Text

from mizzen import (
    JSON,
    ConnectFailed,
    ConnectionClosed,
    ConnectRefused,
    LocalProtocolError,
    Reason,
    RemoteError,
    SyncClient,
    SyncClientSocket,
)
from mizzen.cli.output import Output
from mizzen.cli.values import ValueInvalid, parse_values, to_name

KEPT: Final = 1_000
"""Events that are kept for `wait`."""


class Exit(enum.IntEnum):
    """What the process ends with."""

    OK = 0
    ERROR_ANSWER = 1
    USAGE = 2
    NOT_REACHED = 3
    REFUSED = 4
    TIMEOUT = 5
    DISCONNECTED = 6
    INTERRUPTED = 130


class Usage(Exception):
    """A command was not given what it needs; the message says what."""


class Leave(Exception):
    """The user has had enough."""


ERRORS: Final[Sequence[tuple[type[Exception], Exit]]] = (
    (RemoteError, Exit.ERROR_ANSWER),
    (ConnectFailed, Exit.NOT_REACHED),
    (ConnectRefused, Exit.REFUSED),
    (ConnectionClosed, Exit.DISCONNECTED),
    (TimeoutError, Exit.TIMEOUT),
    (LocalProtocolError, Exit.USAGE),
    (TypeError, Exit.USAGE),
    (ValueInvalid, Exit.USAGE),
    (Usage, Exit.USAGE),
)
"""What an error means for the exit code."""


def code_of(error: Exception) -> Exit:
    """Give the exit code of an error; raise it, if it is none that is foreseen."""
    for kind, code in ERRORS:
        if isinstance(error, kind):
            return code
    raise error


def told(error: Exception) -> str:
    """Say what went wrong, in one line."""
    if isinstance(error, ConnectRefused):
        return f"refused: {error}" + (f" {error.data}" if error.data is not None else "")
    if isinstance(error, RemoteError):
        return f"{error.code}: {error}"
    return str(error) or type(error).__name__


Run: TypeAlias = "Callable[[Session, str], None]"


class Command:
    """One command: `usage` is what follows its name."""

    __slots__ = ("help", "run", "usage")

    def __init__(self, usage: str, help: str, run: Run) -> None:
        self.usage: str = usage
        self.help: str = help
        self.run: Run = run


class Session:
    """A client and the namespace that commands are for."""

    def __init__(self, client: SyncClient, socket: SyncClientSocket, output: Output, timeout: float | None, *, heads: bool = False) -> None:
        self.client = client
        self.socket = socket
        self.output = output
        self.timeout = timeout
        self.live: bool = True
        self.names: set[str] = set()
        self.joined: dict[str, SyncClientSocket] = {}
        self.heads = heads
        self._again = False
        self._came: deque[tuple[SyncClientSocket, str, Sequence[JSON]]] = deque(maxlen=KEPT)
        self._something = threading.Condition()

    def watch(self, socket: SyncClientSocket, show: Callable[[str, Sequence[JSON]], None]) -> None:
        """Show what happens to a socket; `show` takes its events."""
        self.joined[socket.name] = socket

        @socket.on_any
        def came(name: str, *args: JSON) -> None:
            self.names.add(name)
            if self.live:
                show(name, args)
            with self._something:
                self._came.append((socket, name, args))
                self._something.notify_all()

        @socket.on("disconnect")
        def gone(reason: str, details: str | None) -> None:
            self._again = socket.active
            with self._something:
                self._something.notify_all()
            if reason != "io client disconnect":
                again = "; trying to connect again" if socket.active else ""
                self.output.note(f"{socket.name} is disconnected: {reason}{again}")

        @socket.on("connect")
        def back() -> None:
            if self._again:
                self.output.note(f"{socket.name} is connected again" + (", and nothing was missed" if socket.recovered else ""))

    def take(self, name: str, timeout: float | None) -> Sequence[JSON]:
        """Wait for an event that has come since the last command, or will; give its arguments."""
        socket = self.socket

        def come() -> bool:
            while self._came and (self._came[0][0] is not socket or self._came[0][1] != name):
                self._came.popleft()
            return bool(self._came) or not socket.active

        with self._something:
            if not self._something.wait_for(come, timeout):
                raise TimeoutError(f"no {to_name(name)} within {timeout:g} s")
            if not self._came:
                raise ConnectionClosed(f"{socket.name} is disconnected", socket.reason or Reason.IO_CLIENT_DISCONNECT)
            return self._came.popleft()[2]

    def run(self, line: str) -> Exit:
        """Run one command and say how it went."""
        name, _, rest = line.strip().partition(" ")
        if not name or name.startswith("#"):
            return Exit.OK
        try:
            command = COMMANDS.get(name)
            if command is None:
                raise Usage(f"there is no command {name!r}; `help` names them all")
            if command.run is not _wait:
                self._came.clear()
            try:
                command.run(self, rest.strip())
            except Usage as usage:
                raise Usage(f"{usage}: {name} {command.usage}") from None
        except Exception as error:
            code = code_of(error)
            if str(error):
                self.output.failure(told(error))
            return code
        return Exit.OK


class ErrorAnswer(RemoteError):
    """A request was answered with a status of 400 or more, which has been shown."""

    def __init__(self) -> None:
        super().__init__("", code="")


def _event(text: str) -> tuple[str, Sequence[JSON]]:
    """Give the name of an event and its arguments."""
    values = list(parse_values(text))
    if not values or not isinstance(values[0], (str, int, float)):
        raise Usage("it needs the name of an event")
    return str(values[0]), values[1:]


def _emit(session: Session, rest: str) -> None:
    name, args = _event(rest)
    session.socket.emit(name, *args)


def _call(session: Session, rest: str) -> None:
    name, args = _event(rest)
    session.output.result(session.socket.call(name, *args, timeout=session.timeout))


def request(session: Session, verb: str, path: str, body: Sequence[JSON]) -> None:
    """Make a request and show its answer. Raises ErrorAnswer for a status of 400 or more."""
    if not path.startswith("/"):
        raise Usage("it needs a path, which begins with /")
    if len(body) > 1:
        raise Usage(f"{len(body)} bodies are more than one")
    value: JSON = body[0] if body else None
    data = value if isinstance(value, bytes) else None
    response = session.socket.request(verb, path, json=None if data is not None else value, data=data, timeout=session.timeout)
    session.output.response(response, head=session.heads)
    if response.is_error:
        raise ErrorAnswer


def _request(verb: str) -> Run:
    def run(session: Session, rest: str) -> None:
        path, _, body = rest.partition(" ")
        request(session, verb, path, list(parse_values(body)))

    return run


def _namespace(session: Session, rest: str) -> SyncClientSocket:
    name = rest.split()[0] if rest else session.socket.name
    socket = session.joined.get(name if name.startswith("/") else f"/{name}")
    if socket is None:
        raise Usage(f"{name} has not been joined ({', '.join(session.joined)})")
    return socket


def _join(session: Session, rest: str) -> None:
    name, _, auth = rest.partition(" ")
    if not name:
        raise Usage("it needs the name of a namespace")
    given = list(parse_values(auth))
    if len(given) > 1 or (given and not isinstance(given[0], dict)):
        raise Usage("what follows the namespace is one JSON object")
    socket = session.client.of(name, auth=cast("Mapping[str, JSON] | None", given[0] if given else None))
    output = session.output
    if socket.name not in session.joined:
        session.watch(socket, lambda event, args: output.event(socket.name, event, args))
    output.namespaces = True
    socket.connect()
    session.socket = socket


def _leave(session: Session, rest: str) -> None:
    _namespace(session, rest).disconnect()


def _use(session: Session, rest: str) -> None:
    session.socket = _namespace(session, rest)


def _connect(session: Session, rest: str) -> None:
    session.socket.connect()


def _wait(session: Session, rest: str) -> None:
    name, args = _event(rest)
    if len(args) > 1 or (args and not isinstance(args[0], (int, float))):
        raise Usage("what follows the event is a number of seconds")
    came = session.take(name, args[0] if args else session.timeout)
    if not session.live:
        session.output.event(session.socket.name, name, came)


def _live(session: Session, rest: str) -> None:
    if rest not in ("on", "off"):
        raise Usage("it is on or off")
    session.live = rest == "on"


def _status(session: Session, rest: str) -> None:
    for socket in session.joined.values():
        here = "*" if socket is session.socket else " "
        state = (
            f"connected by {socket.transport} as {socket.id}"
            if socket.connected
            else "trying to connect"
            if socket.active
            else "disconnected"
        )
        session.output.help(Text.assemble(f"{here} {session.client.manager.url}", (socket.name, "bold"), f"  {state}"))


def _help(session: Session, rest: str) -> None:
    known = {rest: COMMANDS[rest]} if rest in COMMANDS else COMMANDS
    width = max(len(f"{name} {command.usage}") for name, command in known.items())
    text = Text()
    for name, command in known.items():
        text.append(f"{name} {command.usage}".ljust(width), "bold").append(f"  {command.help}\n")
    text.append("\nA value is JSON, a word (which is text), or @file for the bytes of a file.")
    if session.names:
        text.append(f"\nEvents that came: {', '.join(sorted(to_name(name) for name in session.names))}")
    session.output.help(text)


def _exit(session: Session, rest: str) -> None:
    raise Leave


COMMANDS: Final[dict[str, Command]] = {
    "emit": Command("EVENT [VALUE…]", "send an event", _emit),
    "call": Command("EVENT [VALUE…]", "send an event and show what it is answered with", _call),
    "get": Command("PATH", "make a request of the app behind the server, as over HTTP", _request("get")),
    **{
        verb: Command("PATH [VALUE]", f"a {verb.upper()} request, with a body if wanted", _request(verb))
        for verb in ("post", "put", "patch", "delete")
    },
    **{verb: Command("PATH", f"the same for {verb.upper()}", _request(verb)) for verb in ("head", "options")},
    "join": Command("NAMESPACE [OBJECT]", "join a namespace, with the object as auth; commands are for it from then on", _join),
    "use": Command("NAMESPACE", "have commands be for a namespace that was joined", _use),
    "leave": Command("[NAMESPACE]", "disconnect from a namespace", _leave),
    "connect": Command("", "connect again after leave, or when the server has disconnected", _connect),
    "wait": Command("EVENT [SECONDS]", "wait for an event and show it", _wait),
    "live": Command("on|off", "show events as they come, or do not", _live),
    "status": Command("", "show what is connected", _status),
    "help": Command("[COMMAND]", "show this", _help),
    "exit": Command("", "disconnect and end; so does Ctrl-D", _exit),
}
