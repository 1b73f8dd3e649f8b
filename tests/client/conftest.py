"""What the tests of the client share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest


@pytest.fixture(autouse=True)
async def nothing_is_left() -> AsyncIterator[None]:
    """No task of a client outlives it."""
    yield
    left = [task for task in asyncio.all_tasks() if "mizzen/client" in repr(task)]
    assert not left
