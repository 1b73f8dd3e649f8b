"""The errors of handlers, as a test sees them."""

from __future__ import annotations

import logging
from types import TracebackType


class LoggedErrors:
    """Collects the errors that Mizzen logs: those of handlers, middleware, hooks and socket requests, of servers and clients.

        with LoggedErrors() as errors:
            ...                        # at the end, what is left of them is raised as AssertionError
            errors.clear()             # they were meant

    Errors that clients make (arguments that do not validate, `ConnectRefused`) are none. It collects whatever is logged by `mizzen` at the
    level ERROR while it is in use, wherever it comes from; the pytest plugin has one for each test that asks for it.
    """

    def __init__(self) -> None:
        self.records: list[logging.LogRecord] = []
        self._handler = _Handler(self.records)

    @property
    def exceptions(self) -> list[BaseException]:
        """The exceptions of the errors that have one, in order."""
        return [record.exc_info[1] for record in self.records if record.exc_info and record.exc_info[1] is not None]

    @property
    def cause(self) -> BaseException | None:
        """The first of the exceptions."""
        return next(iter(self.exceptions), None)

    def clear(self) -> None:
        """Forget them: they were meant."""
        self.records.clear()

    def summary(self) -> str:
        """Say what was logged, a line for each error."""
        return "\n".join(f"  {record.name}: {record.getMessage()}" for record in self.records)

    def check(self) -> None:
        """Raise AssertionError, caused by the first exception, if there are any; they are then forgotten."""
        if not self.records:
            return
        count, summary, cause = len(self.records), self.summary(), self.cause
        self.clear()
        told = "an error was" if count == 1 else f"{count} errors were"
        raise AssertionError(f"{told} logged (`errors.clear()` if that is meant):\n{summary}") from cause

    def start(self) -> None:
        """Begin to collect."""
        logging.getLogger("mizzen").addHandler(self._handler)

    def stop(self) -> None:
        """Collect no more; what was collected stays."""
        logging.getLogger("mizzen").removeHandler(self._handler)

    def explain(self, error: BaseException) -> None:
        """Add what was logged to an exception that fails the test anyway, as a note, and forget it."""
        if self.records:
            error.add_note(f"Mizzen logged meanwhile:\n{self.summary()}")
            self.clear()

    def __enter__(self) -> LoggedErrors:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()
        if error is None:
            self.check()
        else:
            self.explain(error)


class _Handler(logging.Handler):
    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__(logging.ERROR)
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)
