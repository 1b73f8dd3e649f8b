"""How those who work for a socket learn that it is gone."""

from __future__ import annotations

from collections.abc import Callable


class Gone:
    """Tells the requests of one socket that it is gone.

    One object per socket serves all its requests, and costs a request nothing unless the app waits for `http.disconnect`. To be used on the
    event loop's thread only. `happened` says whether the socket is gone.
    """

    __slots__ = ("_watchers", "happened")

    def __init__(self) -> None:
        self.happened: bool = False
        self._watchers: set[Callable[[], None]] = set()

    def happen(self) -> None:
        """Say that the socket is gone."""
        self.happened = True
        watchers, self._watchers = self._watchers, set()
        for watcher in watchers:
            watcher()

    def watch(self, watcher: Callable[[], None]) -> None:
        """Have a callback called when the socket goes."""
        self._watchers.add(watcher)

    def unwatch(self, watcher: Callable[[], None]) -> None:
        """Forget a callback; one that is not known is ignored."""
        self._watchers.discard(watcher)
