"""The README's app and client run as they stand there."""

from __future__ import annotations

import ast
import re
import sys
import types
from pathlib import Path
from typing import Any

import httpx

from mizzen import Server
from tests.nodejs import PACKAGES, node
from tests.support import serve

README = Path(__file__).resolve().parent.parent / "README.md"


def block(language: str, number: int = 0) -> str:
    """Give a code block of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)[number]


def load_app() -> Server:
    module = types.ModuleType("readme_app")
    sys.modules[module.__name__] = module  # annotations are resolved there
    exec(compile(block("python"), "README.md", "exec"), module.__dict__)
    return module.io


async def test_the_app_answers_http() -> None:
    async with serve(load_app()) as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:
        posted = await http.post("/rooms/lobby/messages", json={"author": "ada", "text": "ahoy"})
        assert (posted.status_code, posted.json()) == (201, {"author": "ada", "text": "ahoy"})
        assert (await http.get("/rooms/lobby/messages")).json() == [{"author": "ada", "text": "ahoy"}]
        assert (await http.post("/rooms/lobby/messages", json={})).status_code == 422


async def test_the_javascript_client_talks_to_the_app(tmp_path: Path) -> None:
    async with serve(load_app()) as url:
        script = (
            block("js")
            .replace("http://localhost:8000", url)
            .replace('"socket.io-client"', f'"{PACKAGES}/socket.io-client-4/build/esm/index.js"')
        )
        path = tmp_path / "client.mjs"
        path.write_text(script)
        printed: list[str] = []
        async with node(str(path)) as process:
            assert process.stdout is not None
            while len(printed) < 3 and (line := await process.stdout.readline()):
                printed.append(line.decode().strip())
        assert printed == ["ack: 1", "status: 200", "event: ahoy"]


async def test_the_python_client_talks_to_the_app() -> None:
    async with serve(load_app()) as url:
        source = block("python", 1).replace("http://localhost:8000", url)
        code = compile(source, "README.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        names: dict[str, Any] = {}
        await types.FunctionType(code, names)()
        assert (names["reply"].status_code, names["reply"].json()) == (200, [])
        assert not names["socket"].active
