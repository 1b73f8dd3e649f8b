"""The namespaces of a server: those with a name, and those that come into being when a client asks for them."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from mizzen.errors import LocalProtocolError
from mizzen.hooks import Hooks
from mizzen.server.namespace import Namespace, ParentNamespace
from mizzen.types import JSON

if TYPE_CHECKING:
    from mizzen.server.server import Server

logger: Final = logging.getLogger("mizzen.server")

MAX_NAME = 1_000
"""Characters of the longest name that a namespace may get which a client asks for: it stays when the client is long gone."""

Accepts: TypeAlias = Callable[[str, JSON], bool | Awaitable[bool]]
NamespaceHook: TypeAlias = Callable[[Namespace], Awaitable[None] | None]


class TooManyNamespaces(LocalProtocolError):
    """As many dynamic namespaces are in use as may be."""


class Namespaces(dict[str, Namespace]):
    """All namespaces by name; `parents` make further ones, and are asked in order of registration."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server
        self.parents: list[ParentNamespace] = []
        self.hooks: Hooks[Namespace] = Hooks("on_new_namespace")
        # Those that came into being before the server runs, on whose tasks the hooks depend.
        self._unannounced: list[Namespace] = []
        self._children = 0
        # Children that have been empty; some may not be any more.
        self._idle: dict[Namespace, None] = {}
        self._told = False  # whether the log says that there are too many

    def of(self, name: str, *, ordered: bool = False) -> Namespace:
        """Give the namespace of a name, made at its first mention; one that a pattern accepts is a child of it.

        Raises TooManyNamespaces.
        """
        if not name.startswith("/"):
            name = f"/{name}"
        namespace = self.get(name) or self._child_of_pattern(name) or self.include(Namespace(name))
        if ordered:
            namespace.ordered = True
        return namespace

    def _child_of_pattern(self, name: str) -> Namespace | None:
        if name != "/":  # which every server has from the start
            for parent in self.parents:
                if isinstance(parent.accepts, PatternAccepts) and parent.accepts(name, None):
                    # What a program sets up before it serves anybody is there to stay.
                    return self._adopt(parent, name, lasting=not self._server.dispatching)
        return None

    def include(self, namespace: Namespace) -> Namespace:
        """Mount a namespace. Raises LocalProtocolError when there is another one of its name."""
        present = self.setdefault(namespace.name, namespace)
        if present is not namespace:
            raise LocalProtocolError(
                f"there is a namespace {namespace.name!r} already: register your handlers with `io.of({namespace.name!r})`, "
                "or include yours before it is first mentioned"
            )
        if "server" in vars(namespace):
            if namespace.server is not self._server:
                del self[namespace.name]
                raise LocalProtocolError(f"namespace {namespace.name!r} is part of another server: make one for each")
            return namespace
        namespace.mount(self._server)
        self._announce(namespace)
        return namespace

    def add_parent(self, name: str, accepts: Accepts, *, ordered: bool = False) -> ParentNamespace:
        """Give what accepts names of namespaces that do not exist yet, made at its first mention."""
        for parent in self.parents:
            if parent.accepts == accepts:
                if ordered:
                    parent.ordered = True
                return parent
        parent = ParentNamespace(name, accepts, ordered=ordered)
        parent.mount(self._server)
        self.parents.append(parent)
        return parent

    async def find(self, name: str, auth: JSON) -> Namespace | None:
        """Give the namespace that a client asks for, or None where there is none and nobody wants to make it.

        Raises TooManyNamespaces, and what a function raises that was given to `io.of`.
        """
        if len(name) > MAX_NAME:
            return None
        for parent in list(self.parents):
            accepted = parent.accepts(name, auth)
            if isawaitable(accepted):
                accepted = await accepted
            present = self.get(name)  # another client may have been quicker
            if present is not None:
                return present
            if accepted is True:
                return self._adopt(parent, name)
        return None

    def _adopt(self, parent: ParentNamespace, name: str, *, lasting: bool = False) -> Namespace:
        limit = self._server.options.max_child_namespaces
        if self._children >= limit and not lasting:
            self._make_room()
            if self._children >= limit:
                if not self._told:  # once, however often clients ask
                    self._told = True
                    logger.warning("namespace %r cannot be made: max_child_namespaces (%d) others are in use", name[:100], limit)
                raise TooManyNamespaces(f"namespace {name!r} cannot be made: {limit} others are in use (max_child_namespaces)")
        self._told = False
        child = self[name] = parent.make_child(name)
        child.lasting = lasting
        child.mount(self._server)
        self._children += not lasting
        self._idle[child] = None
        self._announce(child)
        return child

    def _make_room(self) -> None:
        """Drop the children that are empty; it costs no more than their coming and going did."""
        idle, self._idle = self._idle, {}
        for child in idle:
            if not child.population and self.get(child.name) is child:
                self._drop(child)

    def _announce(self, namespace: Namespace) -> None:
        if namespace.name == "/":
            return
        if self._server.dispatching:
            self.hooks.run(self._server.tasks, namespace)
        else:
            self._unannounced.append(namespace)

    def started(self) -> None:
        """Tell the hooks of the namespaces that came into being before the server ran."""
        unannounced, self._unannounced = self._unannounced, []
        for namespace in unannounced:
            self._announce(namespace)

    def left(self, namespace: Namespace) -> None:
        """Take notice that a namespace has no socket any more."""
        if namespace.parent is None or self.get(namespace.name) is not namespace:
            return
        if self._server.options.cleanup_empty_child_namespaces and not namespace.adapter.awaits_clients:
            self._drop(namespace)
        else:
            self._idle[namespace] = None

    def _drop(self, child: Namespace) -> None:
        if child.lasting:
            return
        parent = cast("ParentNamespace", child.parent)
        del self[child.name], parent.children[child.name]
        self._idle.pop(child, None)
        self._children -= 1
        child.forget()

    def close(self) -> None:
        """Forget rooms, and the namespaces that clients brought into being."""
        for namespace in list(self.values()):
            if namespace.parent is None or namespace.lasting:
                namespace.forget()
            else:
                self._drop(namespace)


class PatternAccepts:
    """Accepts the names that a regular expression matches as a whole."""

    __slots__ = ("_pattern",)

    def __init__(self, pattern: re.Pattern[str]) -> None:
        if not isinstance(cast("object", pattern.pattern), str):
            raise TypeError(f"{pattern!r} matches bytes: names of namespaces are str")
        self._pattern = pattern

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PatternAccepts) and self._pattern == other._pattern

    def __hash__(self) -> int:
        return hash(self._pattern)

    def __call__(self, name: str, auth: JSON) -> bool:
        return self._pattern.fullmatch(name) is not None
