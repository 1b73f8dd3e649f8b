"""What the terminal client prints: for people, or as lines of JSON for programs."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Generator, Sequence
from typing import Final

from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.text import Text

from mizzen import JSON, Response
from mizzen.cli.values import to_line, to_name, to_plain, to_text

_highlight: Final = JSONHighlighter()


def json_text(value: JSON) -> Text:
    """Give a value as coloured JSON."""
    return _highlight(Text(to_text(value)))


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise  # the error that rich is handling: that nobody reads any more is for the command to take, and no failure


class Output:
    """Prints answers and events to stdout, and what else there is to say to stderr; any thread may call."""

    def __init__(self, *, jsonl: bool = False, namespaces: bool = False) -> None:
        self.jsonl = jsonl
        self.namespaces = namespaces
        self._lock = threading.Lock()
        self._console = _Console(soft_wrap=True, highlight=False)
        self._errors = _Console(stderr=True, soft_wrap=True, highlight=False)

    def _print(self, text: Text | str, *, error: bool = False) -> None:
        with self._lock:
            (self._errors if error else self._console).print(text, markup=False)

    def event(self, namespace: str, name: str, args: Sequence[JSON]) -> None:
        """Show an event that came."""
        if self.jsonl:
            self._line({"event": name, "args": list(args), **({"namespace": namespace} if self.namespaces else {})})
            return
        text = Text.assemble(("← ", "bold cyan"), (f"{namespace} " if self.namespaces else "", "dim"), (to_name(name), "bold cyan"))
        for arg in args:
            text.append(" ").append_text(json_text(arg))
        self._print(text)

    def result(self, value: JSON) -> None:
        """Show what a call was answered with."""
        if self.jsonl:
            self._line({"result": value})
        else:
            self._print(json_text(value))

    def response(self, response: Response, *, head: bool = False) -> None:
        """Show the answer to a request; `head` says whether with its status and headers."""
        if self.jsonl:
            self._line({"status": response.status_code, "headers": dict(response.headers), "body": response.body})
            return
        if head or response.is_error:
            style = "bold red" if response.is_error else "bold green"
            status = Text(f"{response.status_code} {response.reason_phrase}".rstrip(), style)
            self._print(status, error=response.is_error and not head)
        if head:
            for name, value in response.headers.items():
                self._print(Text.assemble((f"{to_plain(name)}: ", "dim"), (to_plain(value), "dim")))
        self._body(response)

    def _body(self, response: Response) -> None:
        body: JSON = response.body
        if isinstance(body, bytes) and not sys.stdout.isatty():
            with self._lock:
                sys.stdout.flush()
                sys.stdout.buffer.write(body)
                sys.stdout.buffer.flush()
        elif isinstance(body, bytes):
            self._print(Text(f"({len(body):,} bytes)", "dim"))
        elif isinstance(body, str) and "json" not in response.headers.get("content-type", ""):
            self._print(to_plain(body))
        elif body is not None or "json" in response.headers.get("content-type", ""):
            self._print(json_text(body))

    def note(self, text: str) -> None:
        """Say what happens to the connection."""
        self._print(Text(to_plain(text), "dim"), error=True)

    def failure(self, text: str) -> None:
        """Say what went wrong."""
        self._print(Text(to_plain(text), "bold red"), error=True)

    def help(self, text: Text) -> None:
        """Show what was asked for."""
        self._print(text)

    def _line(self, value: JSON) -> None:
        with self._lock:
            sys.stdout.write(to_line(value) + "\n")
            sys.stdout.flush()


class Screen(Output):
    """Prints above the line that is being typed, and puts that back."""

    def __init__(self) -> None:
        super().__init__()
        self._prompt: str | None = None
        self._errors = self._console

    def _print(self, text: Text | str, *, error: bool = False) -> None:
        with self._lock:
            prompt = self._prompt
            if prompt is not None:
                sys.stdout.write("\r\x1b[2K")
                sys.stdout.flush()
            self._console.print(text, markup=False)
            if prompt is not None:
                sys.stdout.write(prompt + _typed())
                sys.stdout.flush()

    def ask(self, prompt: str) -> str:
        """Read a line. Raises EOFError and KeyboardInterrupt."""
        with self._prompting(prompt):
            return input(prompt)

    @contextlib.contextmanager
    def _prompting(self, prompt: str) -> Generator[None]:
        self._prompt = prompt
        try:
            yield
        finally:
            with self._lock:
                self._prompt = None


def _typed() -> str:
    """Give what stands in the line that is being typed."""
    readline = sys.modules.get("readline")
    return readline.get_line_buffer() if readline is not None else ""
