"""Run scripts of the tests on Node.js.

A machine without Node.js, or without the npm packages, fails the test: `make setup` brings both.
"""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from tools.node import environment, node_executable

TESTS = Path(__file__).resolve().parent
PACKAGES = TESTS / "interop/node_modules"


@asynccontextmanager
async def node(script: str, *arguments: str, env: Mapping[str, str] | None = None) -> AsyncIterator[Process]:
    """Start a script (its path from `tests/`) with pipes for input and output; it is killed at the end if it still runs."""
    if not PACKAGES.is_dir():
        raise RuntimeError(f"{PACKAGES} is missing; run: make setup")
    process = await asyncio.create_subprocess_exec(
        node_executable(), str(TESTS / script), *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment() | dict(env or {})
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def run_node(script: str, *arguments: str, env: Mapping[str, str] | None = None) -> str:
    """Run a script to its end and give what it printed; the test fails, with what the script said, when the script fails."""
    async with node(script, *arguments, env=env) as process:
        output, errors = await process.communicate()
    if process.returncode != 0:
        raise AssertionError(f"{script} ended with {process.returncode}\n{output.decode()}\n{errors.decode()}")
    return output.decode()
