"""The table of docs/parity.md: the tests that it names exist, and so does what it says that things are called here."""

from __future__ import annotations

import ast
import inspect
import re
from functools import cache

import pytest

import mizzen
import mizzen.ports
import mizzen.server.announcer
from mizzen import Client, Handshake, Server
from mizzen.server.connection import Connection
from mizzen.server.engine import EngineServer
from tests.documents import DOCS, ROOT
from tests.test_docs import CODE, OPTIONS, missing_names, rows

PAGE = DOCS / "parity.md"
NAMED = re.compile(r"([\w/]+\.py)(?:::(\w+))?")
NAME = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*")
CLIENT_OPTIONS = inspect.signature(Client.__init__).parameters.keys() - {"self"}
WORDS = {"bytes", "dict", "Server(app)", "pid", "sid", "time"}
TABLE = list(rows(PAGE))


@cache
def names_in(path: str) -> frozenset[str]:
    """Give the tests and classes of tests of a file, and the cases that run with JavaScript clients, which are texts in it."""
    tree = ast.parse((ROOT / "tests" / path).read_text())
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.update([node.name] if node.name.lower().startswith("test") else [])
        elif path.startswith(("interop/", "browser/")) and isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.add(node.value)
    return frozenset(names)


def exists(named: str) -> bool:
    """Say whether `server/test_x.py`, or `server/test_x.py::name`, is there."""
    found = NAMED.fullmatch(named)
    if found is None or not (ROOT / "tests" / found[1]).is_file():
        return False
    return found[2] is None or found[2] in names_in(found[1])


def resolves(name: str) -> bool:
    """Say whether something is called this here."""
    if name in OPTIONS | CLIENT_OPTIONS | WORDS:
        return True
    first, *rest = name.split(".")
    if first in ("io", "socket", "namespace"):
        return not list(missing_names(name))
    if name.startswith("mizzen.ports."):
        return hasattr(mizzen.ports, rest[1])
    if hasattr(mizzen, first):
        owner = getattr(mizzen, first)
        return not rest or hasattr(owner, rest[0]) or rest[0] in getattr(owner, "__slots__", ())
    events = mizzen.server.announcer._EVENTS
    return first in events or any(hasattr(each, first) for each in (Connection, EngineServer, Handshake, Server))


def test_there_is_a_table() -> None:
    assert len(TABLE) > 150


@pytest.mark.parametrize("row", TABLE, ids=lambda row: re.sub(r"\W+", "-", row[1][0])[:60])
def test_what_a_row_names_exists(row: tuple[str, list[str]]) -> None:
    _, cells = row
    assert len(cells) == 3
    tests = CODE.findall(cells[2])
    assert tests or "not there" in cells[1], "a row that no test shows has to say that it is not there"
    assert [test for test in tests if not exists(test)] == []
    here = CODE.findall(cells[0] if row[0] == "Options that Node has not" else cells[1])
    assert [name for name in here if NAME.fullmatch(name) and not resolves(name)] == []


def test_every_option_has_a_row() -> None:
    named = {name for _, cells in TABLE for cell in cells[:2] for name in CODE.findall(cell)}
    assert OPTIONS - named == set()


@pytest.mark.parametrize(
    "named", ["server/test_flags.py::test_nothing", "server/test_nothing.py", "nothing", "interop/conftest.py::nothing"]
)
def test_a_test_that_is_not_there_is_found(named: str) -> None:
    assert not exists(named)


@pytest.mark.parametrize("name", ["io.nothing", "nothing", "RemoteSocket.nothing", "mizzen.ports.Nothing", "max_nothing"])
def test_a_name_that_is_not_there_is_found(name: str) -> None:
    assert not resolves(name)
