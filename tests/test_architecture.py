"""Who may import whom.

    errors · types · options · annotations · signatures · events · tasks · hooks · mailbox · handling
      ◄─ protocol ◄─ listeners · ports ◄─┬─ server     ◄─ virtual, cli, fastapi
                                         ├─ adapters    never import server
                                         ├─ transports  know connections through ports
                                         └─ client      never imports server, nor server it

`server/server.py` is the composition root: it alone joins adapters, transports and socket requests to the server.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src"

BASE = {
    *(
        "mizzen.errors",
        "mizzen.types",
        "mizzen.options",
        "mizzen.annotations",
        "mizzen.signatures",
        "mizzen.events",
        "mizzen.tasks",
        "mizzen.hooks",
        "mizzen.mailbox",
        "mizzen.handling",
    )
}
CORE = {*BASE, "mizzen.protocol", "mizzen.listeners", "mizzen.ports"}
ARROWS: Mapping[str, set[str]] = {
    "mizzen.errors": BASE,
    "mizzen.types": BASE,
    "mizzen.options": BASE,
    "mizzen.annotations": BASE,
    "mizzen.signatures": BASE,
    "mizzen.events": BASE,
    "mizzen.tasks": BASE,
    "mizzen.hooks": BASE,
    "mizzen.mailbox": BASE,
    "mizzen.handling": BASE,
    "mizzen.protocol": {*BASE, "mizzen.protocol"},
    "mizzen.listeners": {*BASE, "mizzen.protocol"},
    "mizzen.ports": CORE,
    "mizzen.server": {*CORE, "mizzen.server"},
    "mizzen.server.server": {
        *CORE,
        "mizzen.server",
        "mizzen.adapters.memory",
        "mizzen.adapters.recovery",
        "mizzen.transports",
        "mizzen.virtual",
    },
    "mizzen.adapters": {*CORE, "mizzen.adapters"},
    "mizzen.transports": {*CORE, "mizzen.transports"},
    "mizzen.virtual": {*CORE, "mizzen.virtual", "mizzen.server"},
    "mizzen.client": {*CORE, "mizzen.client"},
    "mizzen.fastapi": {*BASE, "mizzen"},
    "mizzen.cli": {*BASE, "mizzen", "mizzen.cli"},
    "mizzen.testing": {*CORE, "mizzen", "mizzen.client", "mizzen.testing"},
    "mizzen.__main__": {"mizzen.cli"},
    "mizzen": {*CORE, "mizzen.server", "mizzen.client", "mizzen.virtual"},
}
"""What each module or package may import; the longest matching name counts."""

FORBIDDEN: Mapping[str, set[str]] = {
    "mizzen.protocol": {"asyncio", "logging", "socket", "threading", "time"},
    "mizzen.transports": {"mizzen.protocol.codec", "mizzen.protocol.packet"},
    "mizzen.virtual": {"mizzen.server.server"},
}
"""What they may not import all the same."""

CORE_DEPENDENCIES = {"click", "msgspec", "orjson", "rich", "uvicorn", "websockets"}
ONLY_IN: Mapping[str, set[str]] = {
    "fastapi": {"mizzen.fastapi"},
    "starlette": {"mizzen.fastapi"},
    "pydantic": {"mizzen.fastapi", "mizzen.annotations"},  # the latter only once a handler's annotation is a pydantic model
    "uvicorn": {"mizzen.cli", "mizzen.transports.native"},
    "aiohttp": {"mizzen.client.http"},  # the constructor of a client imports it
    "yarl": {"mizzen.client.http"},
    "httpx": {"mizzen.client.transport"},  # the constructor of a `SocketTransport` imports it
    "click": {"mizzen.cli"},
    "rich": {"mizzen.cli"},
    "pytest": {"mizzen.testing.plugin"},
}


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module; `deferred` inside a function, `typing` only for annotations."""

    name: str
    line: int
    deferred: bool
    typing: bool


class Module:
    """One module of the package, parsed."""

    def __init__(self, name: str, source: str, is_package: bool, known: set[str]) -> None:
        self.name = name
        self.tree = ast.parse(source)
        self._package = name if is_package else name.rpartition(".")[0]
        self._known = known
        self.imports = list(self._walk(self.tree, deferred=False, typing=False))

    def _walk(self, node: ast.AST, *, deferred: bool, typing: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            match child:
                case ast.Import():
                    for alias in child.names:
                        yield Import(alias.name, child.lineno, deferred, typing)
                case ast.ImportFrom():
                    base = self._resolve(child)
                    for alias in child.names:
                        submodule = f"{base}.{alias.name}"
                        yield Import(submodule if submodule in self._known else base, child.lineno, deferred, typing)
                case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                    for statement in child.body:
                        yield from self._walk(ast.Module([statement], []), deferred=deferred, typing=True)
                    for statement in child.orelse:
                        yield from self._walk(ast.Module([statement], []), deferred=deferred, typing=typing)
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                    yield from self._walk(child, deferred=True, typing=typing)
                case _:
                    yield from self._walk(child, deferred=deferred, typing=typing)

    def _resolve(self, statement: ast.ImportFrom) -> str:
        if not statement.level:
            return statement.module or ""
        parts = self._package.split(".")
        parts = parts[: len(parts) - statement.level + 1]
        return ".".join([*parts, *([statement.module] if statement.module else [])])


def parse(sources: Mapping[str, str], packages: set[str]) -> dict[str, Module]:
    """Parse modules: `sources` by full name, `packages` those that are an `__init__.py`."""
    return {name: Module(name, source, name in packages, set(sources)) for name, source in sources.items()}


def read() -> dict[str, Module]:
    """Parse the package as it stands on disk."""
    sources: dict[str, str] = {}
    packages: set[str] = set()
    for path in sorted((SOURCE / "mizzen").rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(parts)
        if parts[-1] == "__init__":
            name = ".".join(parts[:-1])
            packages.add(name)
        sources[name] = path.read_text(encoding="utf-8")
    return parse(sources, packages)


def covers(prefix: str, name: str) -> bool:
    """Tell whether a name is the prefix or below it; `mizzen` itself is only the public face, not what is below."""
    return name == prefix or (prefix != "mizzen" and name.startswith(prefix + "."))


def rule(rules: Mapping[str, set[str]], name: str) -> set[str] | None:
    """Give the rule of the longest name that covers a module."""
    matching = [prefix for prefix in rules if covers(prefix, name)]
    return rules[max(matching, key=len)] if matching else None


def wrong_arrows(modules: Mapping[str, Module]) -> list[str]:
    found: list[str] = []
    for module in modules.values():
        allowed = rule(ARROWS, module.name)
        if allowed is None:
            found.append(f"{module.name} belongs to no layer: give it one in ARROWS")
            continue
        forbidden = rule(FORBIDDEN, module.name) or set[str]()
        for imported in module.imports:
            inside = imported.name.partition(".")[0] == "mizzen"
            wrong = inside and not any(covers(prefix, imported.name) for prefix in allowed)
            if wrong or any(covers(prefix, imported.name) for prefix in forbidden):
                found.append(f"{module.name}:{imported.line} may not import {imported.name}")
    return found


def wrong_third_parties(modules: Mapping[str, Module]) -> list[str]:
    found: list[str] = []
    users: defaultdict[str, set[str]] = defaultdict(set)
    for module in modules.values():
        for imported in module.imports:
            package = imported.name.partition(".")[0]
            if package == "mizzen" or package in sys.stdlib_module_names:
                continue
            users[package].add(module.name)
            homes = ONLY_IN.get(package)
            if homes is not None and not any(covers(home, module.name) for home in homes):
                found.append(f"{module.name}:{imported.line} may not import {package}: only {', '.join(sorted(homes))}")
            if package == "pydantic" and module.name != "mizzen.fastapi" and not (imported.deferred or imported.typing):
                found.append(f"{module.name}:{imported.line} may import pydantic only inside a function: it need not be installed")
    for package, importers in users.items():
        if package not in CORE_DEPENDENCIES and package not in ONLY_IN and len(importers) > 1:
            found.append(f"the driver {package} is imported in more than one module: {', '.join(sorted(importers))}")
    return found


def asynchronous(modules: Mapping[str, Module]) -> list[str]:
    kinds = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)
    return [
        f"{module.name}:{node.lineno} is asynchronous"
        for module in modules.values()
        if covers("mizzen.protocol", module.name)
        for node in ast.walk(module.tree)
        if isinstance(node, kinds)
    ]


def cycle(modules: Mapping[str, Module]) -> list[str]:
    """Give a cycle of imports that happen at run time, or nothing."""
    graph = {
        module.name: {i.name for i in module.imports if i.name in modules and not i.typing} - {module.name} for module in modules.values()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.fixture(scope="module")
def modules() -> dict[str, Module]:
    found = read()
    assert "mizzen.protocol.packet" in found
    return found


def test_imports_follow_the_arrows(modules: dict[str, Module]):
    assert wrong_arrows(modules) == []


def test_third_parties_stay_where_they_belong(modules: dict[str, Module]):
    assert wrong_third_parties(modules) == []


def test_the_protocol_is_free_of_io(modules: dict[str, Module]):
    assert asynchronous(modules) == []


def test_no_import_cycle(modules: dict[str, Module]):
    assert cycle(modules) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("mizzen.protocol.new", "import asyncio"),
        ("mizzen.protocol.new", "def f():\n    from time import monotonic"),
        ("mizzen.protocol.new", "from mizzen.ports import Transport"),
        ("mizzen.protocol.new", "from ..ports import Transport"),
        ("mizzen.protocol.new", "from .. import ports"),
        ("mizzen.errors", "from mizzen.protocol.packet import Packet"),
        ("mizzen.ports", "from mizzen.server.socket import Socket"),
        ("mizzen.adapters.new", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from mizzen.server.socket import Socket"),
        ("mizzen.transports.new", "from mizzen import adapters"),
        ("mizzen.transports.new", "from mizzen.server import connection"),
        ("mizzen.transports.new", "from mizzen.protocol.codec import JSONCodec"),
        ("mizzen.virtual.new", "from mizzen.server.server import Server"),
        ("mizzen.virtual.new", "from mizzen.server import server"),
        ("mizzen.server.new", "from mizzen.transports import asgi"),
        ("mizzen.server.new", "import mizzen.adapters.memory"),
        ("mizzen.server.new", "import mizzen"),
        ("mizzen.server.server", "import mizzen.adapters.redis"),
        ("mizzen.client.new", "from mizzen.server import connection"),
        ("mizzen.cli.new", "from mizzen.server.server import Server"),
        ("mizzen", "from mizzen.fastapi import CurrentSocket"),
        ("mizzen.unknown", ""),
    ],
)
def test_a_wrong_arrow_is_found(module: str, source: str):
    known = dict.fromkeys(["mizzen.ports", "mizzen.adapters", "mizzen.adapters.redis", "mizzen.transports.asgi"], "")
    known |= dict.fromkeys(["mizzen.server.connection", "mizzen.server.server"], "")
    assert len(wrong_arrows(parse(known | {module: source}, {"mizzen", "mizzen.adapters"}))) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("mizzen.protocol.new", "from mizzen.errors import ProtocolError\nfrom .packet import Packet\nimport struct"),
        ("mizzen.server.server", "from mizzen.adapters.memory import MemoryAdapter\nfrom mizzen.virtual.dispatch import Dispatcher"),
        ("mizzen.virtual.new", "from mizzen.server.socket import Socket"),
        ("mizzen.fastapi", "from mizzen import socket_of"),
        ("mizzen", "from mizzen.server.server import Server"),
    ],
)
def test_a_right_arrow_passes(module: str, source: str):
    assert wrong_arrows(parse({module: source, "mizzen.protocol.packet": ""}, {"mizzen"})) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("mizzen.server.new", "import starlette.requests"),
        ("mizzen.virtual.new", "from fastapi import FastAPI"),
        ("mizzen.annotations", "import pydantic"),
        ("mizzen.server.new", "import rich"),
        ("mizzen.adapters.new", "import redis.asyncio"),
    ],
)
def test_a_wrong_third_party_is_found(module: str, source: str):
    assert len(wrong_third_parties(parse({module: source, "mizzen.adapters.redis": "import redis"}, set()))) == 1


def test_asynchronous_protocol_code_is_found():
    assert len(asynchronous(parse({"mizzen.protocol.new": "async def f(): ...", "mizzen.server.new": "async def f(): ..."}, set()))) == 1


@pytest.mark.parametrize(
    ("first", "found"),
    [
        ("from mizzen.types import Reason", True),
        ("def f():\n    from mizzen.types import Reason", True),
        ("import typing\nif typing.TYPE_CHECKING:\n    from mizzen.types import Reason", False),
    ],
)
def test_a_cycle_is_found(first: str, found: bool):
    modules = parse({"mizzen.errors": first, "mizzen.types": "from mizzen.errors import MizzenError"}, set())
    assert bool(cycle(modules)) is found
