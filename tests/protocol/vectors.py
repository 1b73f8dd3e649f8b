"""Reads the vectors that the Python and the JavaScript tests share."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mizzen.errors import RemoteProtocolError
from mizzen.types import Reason

DIRECTORY = Path(__file__).parents[2] / "vectors"


def load(file: str) -> dict[str, Any]:
    """Read one file, with the stand-ins for bytes and for unwritable numbers replaced."""
    return json.loads((DIRECTORY / file).read_text("utf-8"), object_hook=_stand_in)


def params(file: str, *sections: str) -> list[Any]:
    """Give the cases of some sections as parameters of a test, named by their names."""
    content = load(file)
    cases = [(section, case) for section in sections for case in content[section]]
    return [pytest.param(case, id=f"{section}: {_title(case)}") for section, case in cases]


@contextmanager
def may_refuse(reason: Reason) -> Generator[None]:
    """Let what is inside raise a `RemoteProtocolError` with this reason, and no other error."""
    try:
        yield
    except RemoteProtocolError as error:
        if error.reason is not reason:
            raise


def _title(case: Any) -> str:
    if not isinstance(case, dict):
        return ascii(case)
    return ascii(case.get("name", case.get("text")))[1:-1] + (f" ({case['eio']})" if "eio" in case else "")


def _stand_in(value: dict[str, Any]) -> Any:
    if value.keys() == {"$binary"}:
        return b64decode(value["$binary"], validate=True)
    if value.keys() == {"$number"}:
        return float(value["$number"])
    return value
