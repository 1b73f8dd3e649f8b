"""Reads the pages of the documentation and runs what stands on them.

The ```python blocks of a page are one module, from top to bottom; `await` may stand outside functions. `# → value` behind a statement is an
assertion: what the statement gives (what `print` prints) equals the value, and it is a failure if the statement is never reached. Comments
`<!-- try … -->` hold Python code that readers do not see: it stands between the blocks, and has `client`, `web` and `until` to drive them.
The ```js blocks with `// → text` run on Node.js against the page's `io`, and have to print these lines.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed as WireClosed

from mizzen import ConnectRefused, Server
from mizzen.ports import Codec
from mizzen.protocol.packet import ACK, CONNECT, CONNECT_ERROR, DISCONNECT, EVENT, Packet
from tests.nodejs import PACKAGES, node
from tests.support import WITHIN, serve, until

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
_ITEM = re.compile(r"^```(?P<language>\w*)\n(?P<code>.*?)^```$|^<!-- try\n(?P<hidden>.*?)^-->$", re.MULTILINE | re.DOTALL)
_EXPECTED = re.compile(r"\s# → (?P<text>.*)$")
_JS_EXPECTED = re.compile(r"// → (?P<text>.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One block of code; `line` is the one that it starts in, `hidden` says that readers do not see it."""

    language: str
    code: str
    line: int
    hidden: bool = False


def blocks(page: Path) -> Iterator[Block]:
    """Give the blocks of code of a page, in order."""
    text = page.read_text()
    for found in _ITEM.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        if found["hidden"] is not None:
            yield Block("python", found["hidden"], line, hidden=True)
        else:
            yield Block(found["language"], found["code"], line)


class Peer:
    """A client as far as the pages need one: `emit`, `call`, `event` for the next event, `on` for what it answers to a call."""

    def __init__(self, connection: ClientConnection, codec: Codec, nsp: str) -> None:
        self.id: str = ""
        self.pid: str | None = None
        self.closed = asyncio.Event()
        self._connection = connection
        self._codec = codec
        self._nsp = nsp
        self._events: asyncio.Queue[list[Any]] = asyncio.Queue()
        self._acks: dict[int, asyncio.Future[Any]] = {}
        self._answers: dict[str, Callable[..., Any]] = {}
        self._connected: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read())

    async def join(self, auth: Any) -> None:
        await self._send(Packet(CONNECT, self._nsp, auth))
        async with asyncio.timeout(WITHIN):
            accepted = await self._connected
        self.id, self.pid = accepted["sid"], accepted.get("pid")

    def on(self, event: str, answer: Callable[..., Any]) -> None:
        self._answers[event] = answer

    async def emit(self, event: str, *args: Any) -> None:
        await self._send(Packet(EVENT, self._nsp, [event, *args]))

    async def call(self, event: str, *args: Any) -> Any:
        """Give what the ack holds: None, the one argument, or a list of several."""
        id = len(self._acks)
        self._acks[id] = asyncio.get_running_loop().create_future()
        await self._send(Packet(EVENT, self._nsp, [event, *args], id))
        async with asyncio.timeout(WITHIN):
            reply = await self._acks[id]
        return reply[0] if len(reply) == 1 else reply or None

    async def event(self) -> list[Any]:
        """Give the next event: its name and arguments."""
        async with asyncio.timeout(WITHIN):
            return await self._events.get()

    async def leave(self) -> None:
        await self._send(Packet(DISCONNECT, self._nsp))

    async def drop(self) -> None:
        """Lose the wire."""
        self._connection.transport.abort()
        await self.closed.wait()

    async def end(self) -> None:
        await self._connection.close()
        await self._reader

    async def _send(self, packet: Packet) -> None:
        for message in self._codec.encode(packet).messages(4):
            await self._connection.send(message)

    async def _read(self) -> None:
        decoder = self._codec.decoder(10)
        try:
            async for message in self._connection:
                if message == "2":
                    await self._connection.send("3")
                elif isinstance(message, bytes) or message[:1] == "4":
                    packet = decoder.feed(message[1:] if isinstance(message, str) else message)
                    if packet is not None and packet.nsp == self._nsp:
                        await self._take(packet)
        except WireClosed:
            pass
        finally:
            self.closed.set()

    async def _take(self, packet: Packet) -> None:
        if packet.type is CONNECT:
            self._connected.set_result(packet.data)
        elif packet.type is CONNECT_ERROR:
            self._connected.set_exception(ConnectRefused(packet.data["message"], data=packet.data.get("data")))
        elif packet.type is DISCONNECT:
            self.closed.set()
        elif packet.type is ACK:
            assert packet.id is not None
            self._acks[packet.id].set_result(packet.data)
        elif packet.id is None:
            self._events.put_nowait(packet.data)
        elif packet.data[0] in self._answers:
            await self._send(Packet(ACK, self._nsp, [self._answers[packet.data[0]](*packet.data[1:])], packet.id))


class Page:
    """One page while it runs."""

    def __init__(self, path: Path, stack: AsyncExitStack) -> None:
        self._path = path
        self._stack = stack
        self._module = types.ModuleType(f"page_{path.stem.lower().replace('-', '_')}")
        self._urls: dict[int, str] = {}
        self._open: set[int] = set()  # lines whose expectation has not been met yet
        self._texts: dict[int, str] = {}
        self._helpers = {"client": self._client, "web": self._web, "until": until, "_expect": self._expect}
        sys.modules[self._module.__name__] = self._module  # annotations are resolved there

    async def run(self) -> None:
        """Run all blocks; raises what they raise."""
        try:
            for block in blocks(self._path):
                if block.language == "python":
                    await self._python(block)
                elif block.language in ("js", "javascript") and _JS_EXPECTED.search(block.code):
                    await self._javascript(block)
        finally:
            del sys.modules[self._module.__name__]
        assert not self._open, f"{self._path.name}: lines {sorted(self._open)} expect something and were never reached"

    async def _python(self, block: Block) -> None:
        name = f"{self._path.name} (snippet)"  # no file of that name, which pytest would take for Python
        source = block.code
        if "http://localhost:8000" in source and "io" in vars(self._module):
            source = source.replace("http://localhost:8000", await self._url())
        tree = ast.parse("\n" * block.line + source, name)
        lines = block.code.splitlines()
        for number, line in enumerate(lines, block.line + 1):
            if found := _EXPECTED.search(line):
                self._texts[number] = found["text"]
                self._open.add(number)
        tree = ast.fix_missing_locations(_Expectations(set(self._texts)).visit(tree))
        code = compile(tree, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        namespace = vars(self._module)
        namespace |= self._helpers
        result = eval(code, namespace)
        if inspect.iscoroutine(result):
            await result

    def _expect(self, line: int, value: Any) -> Any:
        self._open.discard(line)
        expected = eval(self._texts[line], vars(self._module))
        assert value == expected, f"{self._path.name}:{line}: expected {expected!r}, got {value!r}"
        return value

    async def _url(self, app: Any = None) -> str:
        """Serve an app, if it is not served yet; by default the `io` of the page."""
        app = vars(self._module)["io"] if app is None else app
        if id(app) not in self._urls:
            self._urls[id(app)] = await self._stack.enter_async_context(serve(app))
            if isinstance(app, Server):
                self._stack.push_async_callback(app.close, 0.1)  # a snippet may leave handlers that never end
        return self._urls[id(app)]

    async def _client(
        self, nsp: str = "/", auth: Any = None, *, app: Any = None, path: str = "/socket.io", headers: dict[str, str] | None = None
    ) -> Peer:
        """Connect a client to the `io` of the page. Raises ConnectRefused."""
        url = await self._url(app)
        address = f"ws{url.removeprefix('http')}{path}/?EIO=4&transport=websocket"
        connection = await open_websocket(address, ping_interval=None, proxy=None, close_timeout=WITHIN, additional_headers=headers)
        server: Server = vars(self._module)["io"]
        peer = Peer(connection, server.codec, nsp)
        self._stack.push_async_callback(peer.end)
        await peer.join(auth)
        return peer

    async def _web(self, app: Any = None) -> httpx.AsyncClient:
        """Give a client for the HTTP side of the page's `io`."""
        return await self._stack.enter_async_context(httpx.AsyncClient(base_url=await self._url(app), trust_env=False))

    async def _javascript(self, block: Block) -> None:
        wanted = [found["text"].strip() for found in _JS_EXPECTED.finditer(block.code)]
        url = await self._url()
        code = block.code.replace("http://localhost:8000", url)
        code = code.replace('from "mizzen-client"', f'from "{ROOT}/tests/interop/mizzen_client.mjs"')
        for name, path in (("socket.io-client", "socket.io-client-4/build/esm/index.js"), ("socket.io-msgpack-parser", None)):
            place = f"{PACKAGES}/{path or name + '/index.js'}"
            code = code.replace(f'from "{name}"', f'from "{place}"')
        printed: list[str] = []
        folder = self._stack.enter_context(_temporary_folder())
        script = folder / "snippet.mjs"
        script.write_text(code)
        async with asyncio.timeout(WITHIN * 2), node(str(script)) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            while len(printed) < len(wanted) and (line := await process.stdout.readline()):
                printed.append(line.decode().rstrip("\n"))
            errors = "" if len(printed) == len(wanted) else (await process.stderr.read()).decode()
        assert printed == wanted, f"{self._path.name}:{block.line}: expected {wanted}, printed {printed} {errors}"


def _temporary_folder() -> Any:
    import tempfile

    class Folder(tempfile.TemporaryDirectory[str]):
        def __enter__(self) -> Any:
            return Path(super().__enter__())

    return Folder()


class _Expectations(ast.NodeTransformer):
    """Makes assertions of statements that end in lines with `# →`."""

    def __init__(self, lines: set[int]) -> None:
        self._lines = lines

    def _ask(self, line: int, value: ast.expr) -> ast.Call:
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "print":
            value = value.args[0] if len(value.args) == 1 else ast.Tuple(value.args, ast.Load())
        return ast.Call(ast.Name("_expect", ast.Load()), [ast.Constant(line), value], [])

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        self.generic_visit(node)
        if node.end_lineno in self._lines:
            return ast.copy_location(ast.Expr(self._ask(node.end_lineno, node.value)), node)
        return node

    def visit_Return(self, node: ast.Return) -> ast.AST:
        self.generic_visit(node)
        if node.end_lineno in self._lines and node.value is not None:
            return ast.copy_location(ast.Return(self._ask(node.end_lineno, node.value)), node)
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST | list[ast.AST]:
        self.generic_visit(node)
        if node.end_lineno in self._lines:
            node.value = self._ask(node.end_lineno, node.value)
        return node


async def run_page(path: Path) -> None:
    """Run a page from top to bottom."""
    async with AsyncExitStack() as stack:
        await Page(path, stack).run()
