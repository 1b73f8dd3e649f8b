"""What the documentation says is so: its snippets run, its links lead somewhere, what it names exists."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import engineio
import pytest
import socketio

import mizzen
import mizzen.cli
import mizzen.testing
from mizzen import ConnectionStateRecovery, Cookie, Handshake, RemoteSocket, RoomEvent, Server, Socket
from mizzen.server.connection import Connection
from tests.documents import DOCS, ROOT, blocks, run_page
from tests.nodejs import PACKAGES, run_node

PAGES = sorted(DOCS.glob("*.md"))
ALL = [ROOT / "README.md", *PAGES]
GUIDES = [DOCS / f"from-{other}.md" for other in ("python-socketio", "flask-socketio", "socketio-node")]
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
OPTIONS = inspect.signature(Server.__init__).parameters.keys() - {"self", "app"}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """Give the text without blocks of code and comments."""
    return re.sub(r"^```.*?^```$|<!--.*?-->", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def rows(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Give the rows of all tables: the heading above, and the cells."""
    heading = ""
    lines = prose(page).splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if line.startswith("|") and not re.match(r"\|[ :|-]+\|$", line) and not re.match(r"\|[ :|-]+\|$", following):
            yield heading, [cell.strip() for cell in line.strip("|").split("|")]


# Snippets


@pytest.mark.parametrize("page", ALL, ids=name_of)
async def test_the_python_of_a_page_runs_and_gives_what_it_says(page: Path) -> None:
    await run_page(page)


@pytest.mark.parametrize(
    "snippet",
    [
        "```python\n1 + 1  # → 3\n```\n",
        "```python\ndef never():\n    return 1  # → 1\n```\n",
        "<!-- try\nassert False\n-->\n",
        "```python\nfrom mizzen import Server\nio = Server()\n```\n```js\nconsole.log(1); // → 2\n```\n",
        "```python\nfrom mizzen import Server\nio = Server()\n```\n```js\n// → 2\n```\n",
    ],
)
async def test_a_page_that_says_what_is_not_so_fails(snippet: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(snippet)
    with pytest.raises(AssertionError):
        await run_page(page)


async def test_javascript_is_javascript(tmp_path: Path) -> None:
    snippets = {f"{page.name}:{block.line}": block.code for page in ALL for block in blocks(page) if block.language in ("js", "javascript")}
    assert snippets
    (tmp_path / "snippets.json").write_text(json.dumps(snippets))
    script = tmp_path / "check.mjs"
    # `…` stands for what the reader puts there; `import` may not stand in a function
    script.write_text("""
        import { readFileSync } from "node:fs";
        import vm from "node:vm";
        for (const [place, code] of Object.entries(JSON.parse(readFileSync(process.argv[2], "utf8")))) {
          const body = code.replace(/^import .*$/gm, "").replaceAll("…", "0");
          try { new vm.Script(`(async () => {${body}\\n})`); } catch (error) { console.log(`${place}: ${error}`); }
        }
    """)
    assert await run_node(str(script), str(tmp_path / "snippets.json")) == ""


@pytest.mark.parametrize(("name", "least"), [("run", 6), ("client", 6), ("bench", 2)])
def test_options_of_commands_exist(name: str, least: int) -> None:
    command = click.Group.get_command(mizzen.cli.main, click.Context(mizzen.cli.main), name)
    assert command is not None
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help", "-h"}
    found = 0
    for page in ALL:
        shell = [block.code for block in blocks(page) if block.language in ("sh", "console", "shell", "bash", "text")]
        for line in "\n".join([*shell, *CODE.findall(page.read_text())]).splitlines():
            if f"mizzen {name} " in line:
                options = re.findall(r"(?<![\w-])--?[a-z][a-z-]*", line.partition("#")[0])
                found += len(options)
                assert known.issuperset(options), f"{page.name}: {line}"
    assert found >= least


# Links


def anchors(page: Path) -> set[str]:
    """Give the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", ALL, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", CODE.sub("", prose(page))):
        if not target.startswith(("http://", "https://", "mailto:")):
            path, _, anchor = target.partition("#")
            there = (page.parent / path).resolve() if path else page
            assert there.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(there), f"{page.name}: {target}"


def test_every_page_stands_in_the_index() -> None:
    index = (DOCS / "README.md").read_text()
    assert [page.name for page in PAGES if page.name != "README.md" and f"({page.name})" not in index] == []
    assert "(docs/README.md)" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in ("socket-requests.md", "performance.md")], ids=name_of)
def test_lines_outside_tables_are_at_most_140_wide(page: Path) -> None:
    wide = [number for number, line in enumerate(page.read_text().splitlines(), 1) if len(line) > 140 and not line.startswith("|")]
    assert wide == []


@pytest.mark.parametrize("page", ALL, ids=name_of)
def test_the_rows_of_a_table_have_as_many_cells_as_its_head(page: Path) -> None:
    for table in re.findall(r"(?:^\|.*\|$\n?)+", prose(page), re.MULTILINE):
        assert len({line.count("|") - line.count("\\|") for line in table.splitlines()}) == 1, table


# Options


def written(default: object) -> str:
    """Give how a default is written in a table."""
    if isinstance(default, int) and not isinstance(default, bool):
        return f"{default >> 20} MiB" if default >= 1 << 20 and not default % (1 << 20) else f"{default:,}"
    return str(default) if isinstance(default, float) else "`" + repr(default).replace("'", '"') + "`"


def test_every_option_is_there_with_its_default() -> None:
    documented = {cells[0].strip("`"): cells[1] for _, cells in rows(DOCS / "options.md") if cells[0].startswith("`")}
    parameters = inspect.signature(Server.__init__).parameters
    assert documented.keys() >= OPTIONS
    for name in OPTIONS:
        default = parameters[name].default
        assert documented[name].partition(":")[0] == written(default), name


def test_every_option_of_recovery_and_of_the_cookie_is_there() -> None:
    documented = {cells[0].strip("`"): cells[1] for _, cells in rows(DOCS / "recovery.md")}
    for each in fields(ConnectionStateRecovery):
        assert documented[each.name] == written(each.default)
    text = (DOCS / "options.md").read_text()
    for each in fields(Cookie):
        assert f"{each.name}={each.default!r}".replace("'", '"') in text


# Names


SERVER = Server()
NAMESPACE = SERVER.of("/")
HANDSHAKE = Handshake({"headers": [], "query_string": b"", "path": "/"})
ROOTS: dict[str, Any] = {
    "io": SERVER,
    "Server": Server,
    "socket": Socket,
    "namespace": NAMESPACE,
    "chat": NAMESPACE,
    "admin": NAMESPACE,
    "workspaces": SERVER.of(re.compile("/w")),
    "mizzen": mizzen,
    "Reason": mizzen.Reason,
    "RoomEvent": RoomEvent,
    "RemoteSocket": RemoteSocket,
    "TestClient": mizzen.testing.TestClient,
    "client": mizzen.testing.TestClient,
}
LEADS_TO: dict[str, Any] = {
    **dict.fromkeys(("to", "in_", "except_", "volatile", "local", "compress", "timeout", "broadcast"), SERVER.to("a")),
    "of": NAMESPACE,
    "namespace": NAMESPACE,
    "engine": SERVER.engine,
    "options": SERVER.options,
    "conn": Connection,
    "handshake": HANDSHAKE,
    "adapter": NAMESPACE.adapter,
}
CHAIN = re.compile(rf"(?<![\w.@/-])({'|'.join(ROOTS)})((?:\.\w+(?:\([^()]*\))?)+)")
CLIENTS = ("browser.md", "client.md", "sync-client.md")  # there `io` and `socket` are the client's
FOREIGN = {"io.socket", "io.sails", "socket.io"}  # the interface of sails.io.js, and a name


def missing_names(text: str) -> Iterator[str]:
    for root, chain in CHAIN.findall(text):
        here = ROOTS[root]
        for name in re.findall(r"\.(\w+)", re.sub(r"\([^()]*\)", "", chain)):
            if f"{root}.{name}" in FOREIGN or name in ("md", "js", "mjs", "run", "testing"):
                break
            if not hasattr(here, name):
                yield f"{root}{chain}: {name}"
                break
            if name not in LEADS_TO:
                break
            here = LEADS_TO[name]


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in CLIENTS], ids=name_of)
def test_what_is_named_exists(page: Path) -> None:
    if page in GUIDES:  # the first column is in the other server's words
        text = "\n".join(span for _, cells in rows(page) for cell in cells[1:2] for span in CODE.findall(cell))
    else:
        text = "\n".join(CODE.findall(prose(page)))
    assert list(missing_names(text)) == []


def test_what_is_named_is_looked_at() -> None:
    assert list(missing_names("io.to(room).nothing, socket.conn.id, socket.handshake.nothing, io.nothing()")) == [
        "io.to(room).nothing: nothing",
        "socket.handshake.nothing: nothing",
        "io.nothing(): nothing",
    ]


# Guides


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_a_guide_says_for_each_row_what_stands_there_here(page: Path) -> None:
    for heading, cells in rows(page):
        if heading != "What is different":
            assert cells[1], cells
        if heading == "Options" and not cells[1].startswith("not there"):
            for name in CODE.findall(cells[1]):
                if re.fullmatch(r"[a-z_]+", name):
                    assert name in OPTIONS | {"ordered"}, cells


def words(page: Path) -> set[str]:
    """Give the words in the first columns of a guide's tables, their heads included."""
    return {word for line in prose(page).splitlines() if line.startswith("|") for word in re.findall(r"\w+", line.split("|")[1])}


def public(*classes: type) -> set[str]:
    return {name for each in classes for name in dir(each) if not name.startswith("_")}


def test_the_guide_from_python_socketio_is_complete() -> None:
    parameters = {
        name
        for function in (socketio.AsyncServer.__init__, engineio.AsyncServer.__init__, socketio.ASGIApp.__init__)
        for name in inspect.signature(function).parameters
    } - {"self", "kwargs", "socketio_server"}
    exported = {name for name, value in vars(socketio).items() if not name.startswith("_") and not inspect.ismodule(value)}
    arguments = {name for call in ("emit", "call") for name in inspect.signature(getattr(socketio.AsyncServer, call)).parameters}
    wanted = public(socketio.AsyncServer, socketio.AsyncNamespace) | parameters | exported | arguments
    ours = {"Namespace", "AsyncClientNamespace", "ClientNamespace", "self", "sid", "data", "event", "Server", "timeout"}
    assert wanted - ours - words(DOCS / "from-python-socketio.md") == set()


FLASK_SOCKETIO = [
    "SocketIO",
    "init_app",
    "on",
    "on_error",
    "on_error_default",
    "on_event",
    "event",
    "on_namespace",
    "emit",
    "call",
    "send",
    "close_room",
    "run",
    "stop",
    "start_background_task",
    "sleep",
    "test_client",
    "join_room",
    "leave_room",
    "rooms",
    "disconnect",
    "ConnectionRefusedError",
    "path",
    "resource",
    "message_queue",
    "channel",
    "client_manager",
    "async_mode",
    "manage_session",
    "cors_allowed_origins",
    "cors_credentials",
    "ping_interval",
    "ping_timeout",
    "max_http_buffer_size",
    "async_handlers",
    "always_connect",
    "json",
    "cookie",
    "http_compression",
    "compression_threshold",
    "transports",
    "allow_upgrades",
    "logger",
    "engineio_logger",
    "monitor_clients",
    "broadcast",
    "include_self",
    "skip_sid",
    "callback",
    "to",
    "namespace",
]


def test_the_guide_from_flask_socketio_is_complete() -> None:
    assert set(FLASK_SOCKETIO) - words(DOCS / "from-flask-socketio.md") == set()


def declared(file: str, kind: str, name: str) -> set[str]:
    """Give the public members of a class or interface of a package's TypeScript declarations."""
    text = (PACKAGES / file).read_text()
    found = re.search(rf"^(?:export )?(?:declare )?(?:abstract )?{kind} {name}\b.*?^}}", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"{kind} {name} in {file}"
    body = re.sub(r"/\*.*?\*/", "", found.group(0), flags=re.DOTALL)
    return set(re.findall(r"^    (?:readonly |get |set |static )?([a-z]\w*)[?]?[(:<]", body, re.MULTILINE)) - {"constructor"}


def node_options() -> set[str]:
    engine = "engine.io/build/server.d.ts"
    options = declared(engine, "interface", "ServerOptions") | declared(engine, "interface", "AttachOptions")
    return options | declared("socket.io/dist/index.d.ts", "interface", "ServerOptions")


def test_options_have_the_names_that_node_gives_them() -> None:
    known = node_options() | {"cors"}
    named: set[str] = set()
    for heading, cells in rows(DOCS / "options.md"):
        if heading in ("Connections", "Messages", "Limits", "Other origins", "Files"):
            told = CODE.findall(cells[2])
            if told or not cells[2]:  # else words: Node has none
                first = told[0].partition(".")[0] if told else re.sub(r"_(.)", lambda found: found[1].upper(), cells[0].strip("`"))
                assert first in known, cells
                named.add(first)
        elif heading == "Options of Node that are not here":
            named.update(each.partition(":")[0].partition(".")[0] for each in CODE.findall(cells[0]))
    assert known - named == set()


def test_the_guide_from_node_is_complete() -> None:
    options = node_options()
    members = declared("socket.io/dist/index.d.ts", "class", "Server")
    members |= declared("socket.io/dist/socket.d.ts", "class", "Socket")
    members |= declared("socket.io/dist/namespace.d.ts", "class", "Namespace")
    members |= declared("socket.io/dist/broadcast-operator.d.ts", "class", "BroadcastOperator")
    members |= declared("socket.io/dist/broadcast-operator.d.ts", "class", "RemoteSocket")
    assert {"pingInterval", "path", "maxHttpBufferSize", "emitWithAck", "fetchSockets", "to", "recovered"} <= options | members
    assert (options | members) - words(DOCS / "from-socketio-node.md") == set()


# Tests that are named


def test_the_tests_that_pages_name_exist() -> None:
    found = 0
    for page in PAGES:
        for path, name in re.findall(r"`(tests/[\w/.]+\.py)(?:::(\w+))?`", page.read_text()):
            found += 1
            tree = ast.parse((ROOT / path).read_text())
            known = {each.name for each in ast.walk(tree) if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))}
            assert not name or name in known, f"{page.name}: {path}::{name}"
    assert found > 30
