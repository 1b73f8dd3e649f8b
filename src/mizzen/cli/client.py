"""`mizzen client URL`: a terminal client, to talk with a server by hand, from scripts and through pipes."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NoReturn, cast

import click

from mizzen import JSON, OptionsError, SyncClient, SyncClientSocket
from mizzen.cli.output import Output, Screen
from mizzen.cli.session import COMMANDS, Exit, Leave, Session, code_of, request, told
from mizzen.cli.values import ValueInvalid, parse_value
from mizzen.types import VERBS

TRANSPORTS: Final[Mapping[str, Sequence[Literal["websocket", "polling"]]]] = {
    "websocket": ("websocket",),
    "polling": ("polling",),
    "both": ("websocket", "polling"),
}
HISTORY: Final = 1_000
TIMEOUT: Final = 10.0

CONNECTION_OPTIONS: Final = (
    click.option("--namespace", "-n", metavar="NAME", help="Namespace to join. [default: the path of URL]"),
    click.option("--auth", metavar="JSON", help="What to send with the connection to the namespace: a JSON object."),
    click.option("--header", "-H", "headers", multiple=True, metavar="'NAME: VALUE'", help="Header of every HTTP request; repeatable."),
    click.option("--transport", type=click.Choice(list(TRANSPORTS)), default="both", show_default=True, help="How to connect."),
    click.option("--path", default="/socket.io", show_default=True, help="Path that the server listens on."),
    click.option("--eio", type=click.Choice(["3", "4"]), default="4", show_default=True, help="Engine.IO protocol; 3 for Socket.IO 2."),
    click.option("--sails", is_flag=True, help="Say what a Sails server asks of its clients."),
    click.option("--insecure", "-k", is_flag=True, help="Trust any certificate."),
)


def connection_options(command: Any) -> Any:
    """Give a command the options that say how to connect."""
    for option in reversed(CONNECTION_OPTIONS):
        command = option(command)
    return command


def client_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """Give the parameters of `Client` for what `connection_options` were given."""
    return {
        "auth": auth_of(options["auth"]),
        "headers": dict(_header(each) for each in options["headers"]),
        "transports": TRANSPORTS[options["transport"]],
        "path": options["path"],
        "eio": int(options["eio"]),
        "sails": options["sails"],
        "ssl": not options["insecure"],
    }


def auth_of(text: str | None) -> Mapping[str, JSON] | None:
    """Read the option --auth."""
    value: JSON = None if text is None else value_of(text)
    if value is not None and not isinstance(value, dict):
        raise click.BadParameter(f'{text} is no JSON object, such as \'{{"token": "…"}}\'', param_hint="--auth")
    return cast("Mapping[str, JSON] | None", value)


def value_of(text: str) -> JSON:
    """Read a value of the command line."""
    try:
        return parse_value(text)
    except ValueInvalid as error:
        raise click.UsageError(str(error)) from None


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.BadParameter(f"{text!r} is no header: expected 'NAME: VALUE'", param_hint="--header")
    return name.strip(), value.strip()


@click.command("client", context_settings={"max_content_width": 100})
@click.argument("url")
@click.argument("values", nargs=-1)
@click.option("--emit", metavar="EVENT", help="Send an event with VALUES, and end.")
@click.option("--call", metavar="EVENT", help="Send an event with VALUES, and print what it is answered with.")
@click.option("--get", metavar="PATH", help="Make a GET request of the app behind the server, and print the answer.")
@click.option("--post", metavar="PATH", help="Make a POST request with VALUE as the body.")
@click.option("--put", metavar="PATH", help="Make a PUT request.")
@click.option("--patch", metavar="PATH", help="Make a PATCH request.")
@click.option("--delete", metavar="PATH", help="Make a DELETE request.")
@click.option("--head", metavar="PATH", help="Make a HEAD request; prints the headers.")
@click.option("--options", metavar="PATH", help="Make an OPTIONS request; prints the headers.")
@click.option("--include", "-i", is_flag=True, help="Print status and headers of answers to requests, too.")
@click.option("--listen", is_flag=True, help="Print events as they come, after the rest has been done.")
@click.option("--count", type=click.IntRange(1), help="End after so many events.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), help="Seconds to wait. [default: 10, or for ever with --listen]")
@click.option("--jsonl", is_flag=True, help="Print one line of JSON for each event and answer.")
@connection_options
def client(url: str, values: Sequence[str], **options: Any) -> None:
    """Talk with the Socket.IO server at URL, such as http://localhost:8000 or http://localhost:8000/chat.

    Without options it is interactive: type `help`. From a pipe it takes one command a line, the same ones.

    VALUES are JSON; a word that is none is text, and @file stands for the bytes of a file:

    \b
      mizzen client URL --call join lobby '{"silent": true}'
      mizzen client URL --post /rooms/lobby/messages '{"text": "hello"}'
      mizzen client URL --listen --count 10 --jsonl
      echo 'emit typing lobby' | mizzen client URL

    \b
    It ends with
      0   all went well
      1   the answer was an error: of the event's handler, or a status of 400 or more
      2   the command line, or a command, cannot work
      3   the server was not reached
      4   the server refused the connection
      5   nothing came in time
      6   the connection ended before the answer, or before --count events, came
      130 Ctrl-C
    Of several commands from a pipe, the first that fails decides; the others are run all the same.
    """
    actions = [(name, options[name]) for name in ("emit", "call", *VERBS) if options[name] is not None]
    if len(actions) > 1:
        raise click.UsageError(f"--{actions[0][0]} and --{actions[1][0]}: one at a time; from a pipe there may be several commands")
    if values and not actions:
        raise click.UsageError(f"{values[0]!r} is for nothing: VALUES follow --emit, --call, or a request")
    if options["count"] and not options["listen"]:
        raise click.UsageError("--count has no effect without --listen")
    interactive = not actions and not options["listen"] and sys.stdin.isatty() and sys.stdout.isatty()
    waits = options["timeout"] or TIMEOUT
    again = interactive or options["listen"]
    try:
        made = SyncClient(url, **client_arguments(options), connect_timeout=waits, close_grace=0.0, reconnection=again)
    except (OptionsError, ImportError) as error:
        raise click.UsageError(str(error)) from None
    socket = made if options["namespace"] is None else made.of(options["namespace"], auth=auth_of(options["auth"]))
    output = Screen() if interactive else Output(jsonl=options["jsonl"])
    session = Session(made, socket, output, waits, heads=interactive or options["include"] or options["head"] or options["options"])
    try:
        code = _run(session, actions[0] if actions else None, values, options, interactive=interactive)
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    except BrokenPipeError:
        _lose_stdout()
        code = Exit.OK
    finally:
        with contextlib.suppress(KeyboardInterrupt):
            made.close()
    _end(code)


def _end(code: Exit) -> NoReturn:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.exit(code)
    _lose_stdout()
    sys.exit(code)


def _lose_stdout() -> None:
    """Have Python not complain once more, at the end, that nobody reads what it printed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(session: Session, action: tuple[str, str] | None, values: Sequence[str], options: Mapping[str, Any], *, interactive: bool) -> Exit:
    socket, output = session.socket, session.output
    listener = Listener(options["count"]) if options["listen"] else None
    session.live = interactive
    session.watch(socket, lambda name, args: output.event(socket.name, name, args))
    if listener is not None:
        socket.on_any(listener.came)
        socket.on("disconnect", listener.gone)  # after the session's, which tells of it
    try:
        socket.connect()
        if interactive:
            return _interact(session, cast("Screen", output))
        code = Exit.OK
        if action is not None:
            code = _act(session, action, values)
        elif listener is None or not sys.stdin.isatty():
            code = _read(session, listener)
        if listener is not None and not code:
            code = listener.print(socket, output, options["timeout"])
        if socket.connected:
            socket.drain()
    except Exception as error:
        code = code_of(error)
        output.failure(told(error))
    return code


def _act(session: Session, action: tuple[str, str], values: Sequence[str]) -> Exit:
    """Do what the command line asks for."""
    name, target = action
    given = [value_of(each) for each in values]
    try:
        if name == "emit":
            session.socket.emit(target, *given)
        elif name == "call":
            session.output.result(session.socket.call(target, *given, timeout=session.timeout))
        else:
            request(session, name, target, given)
    except Exception as error:
        code = code_of(error)
        if str(error):
            session.output.failure(told(error))
        return code
    return Exit.OK


def _read(session: Session, listener: Listener | None) -> Exit:
    """Run the commands that come from a pipe."""
    first = Exit.OK
    try:
        for line in sys.stdin:
            if listener is not None:
                listener.show(session.socket, session.output)
            code = session.run(line)
            first = first or code
    except Leave:
        pass
    return first


def _interact(session: Session, screen: Screen) -> Exit:
    screen.note(f"connected to {session.client.manager.url}{session.socket.name}; `help` names the commands, Ctrl-D ends")
    with _History():
        while True:
            try:
                line = screen.ask(f"{session.socket.name}> ")
                session.run(line)
            except KeyboardInterrupt:
                screen.note("interrupted; Ctrl-D ends")
            except EOFError:
                screen.note("")
                return Exit.OK
            except Leave:
                return Exit.OK


class Listener:
    """What --listen prints, by the thread that waits for it."""

    def __init__(self, count: int | None) -> None:
        self._left = count
        self._events: queue.SimpleQueue[tuple[str, Sequence[JSON]] | None] = queue.SimpleQueue()

    def came(self, name: str, *args: JSON) -> None:
        self._events.put((name, args))

    def gone(self, reason: str, details: str | None) -> None:
        self._events.put(None)

    def show(self, socket: SyncClientSocket, output: Output) -> None:
        """Print what has come, without waiting."""
        while self._left != 0 and not self._events.empty():
            self._print(self._events.get(), socket, output)

    def _print(self, event: tuple[str, Sequence[JSON]] | None, socket: SyncClientSocket, output: Output) -> None:
        if event is not None:
            output.event(socket.name, *event)
            if self._left is not None:
                self._left -= 1

    def print(self, socket: SyncClientSocket, output: Output, timeout: float | None) -> Exit:
        """Print until there have been enough, or the time is over."""
        end = None if timeout is None else time.monotonic() + timeout
        while self._left != 0:
            try:
                event = self._events.get(timeout=None if end is None else max(end - time.monotonic(), 0))
            except queue.Empty:
                if self._left is None:
                    return Exit.OK
                output.failure(f"{self._left} more events were to come within {timeout:g} s")
                return Exit.TIMEOUT
            self._print(event, socket, output)
            if event is None and not socket.active:
                return Exit.DISCONNECTED
        return Exit.OK


class _History:
    """Lines that were typed, kept from one time to the next, and completion of commands; where there is readline."""

    def __enter__(self) -> None:
        try:
            import readline
        except ImportError:
            return
        state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
        self._path = Path(state, "mizzen", "history").expanduser()
        with contextlib.suppress(OSError):
            readline.read_history_file(self._path)
        readline.set_history_length(HISTORY)
        readline.set_completer(_complete)
        readline.set_completer_delims(" ")
        libedit = "libedit" in (readline.__doc__ or "")
        readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")

    def __exit__(self, *error: object) -> None:
        readline = sys.modules.get("readline")
        if readline is None:
            return
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(self._path)


def _complete(text: str, state: int) -> str | None:
    matching = [f"{name} " for name in COMMANDS if name.startswith(text)]
    return matching[state] if state < len(matching) else None
