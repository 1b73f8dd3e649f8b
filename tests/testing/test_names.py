"""What `mizzen.testing` offers: its names are pinned and explained, and it needs nothing that Mizzen does not."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mizzen import testing

NAMES = ["ClientFactory", "Clock", "InProcess", "LoggedErrors", "TestClient", "TestSocket", "lifespan", "linked_pair", "settle"]


def test_the_public_names() -> None:
    assert sorted(testing.__all__) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_has_a_docstring(name: str) -> None:
    assert getattr(testing, name).__doc__.strip()


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("mizzen.testing", {"aiohttp", "pytest", "fastapi", "starlette", "uvicorn", "click", "rich", "pydantic", "httpx"}),
        ("mizzen.testing.plugin", {"aiohttp", "fastapi", "starlette", "uvicorn", "click", "rich", "pydantic", "httpx"}),
    ],
)
def test_importing_it_imports_no_framework(module: str, absent: set[str]) -> None:
    script = f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    loaded = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "mizzen" in loaded
    assert not absent & set(loaded)
