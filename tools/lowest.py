"""Put the lowest versions that pyproject.toml allows into the virtual environment whose Python runs this.

.venv-oldest/bin/python tools/lowest.py

Meant are Mizzen's dependencies, those of its own extras, and what the extras that it asks for bring (`uvicorn[standard]`: httptools,
uvloop and more). Of these the lowest that has a wheel for this Python is taken, since uvicorn for one allows an uvloop that was never
built for it; and of what came by an extra, the lowest that goes together with all that is installed. Everything else stays as it is.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
WHEELS = "--only-binary=:all:"


def main() -> None:
    """Install the direct dependencies first: only they can tell what their extras ask for."""
    pip("install", "--upgrade", "pip")  # the bundled one lists versions without a wheel too
    direct = direct_requirements()
    chosen = {name: versions_of(name, allowed)[0] for name, allowed in merged(direct).items()}
    pip("install", WHEELS, *(f"{name}=={version}" for name, version in chosen.items()))
    for name, allowed in merged(brought_by(direct)).items():
        if name not in chosen:
            chosen[name] = lowest_that_fits(name, allowed)
            pip("install", WHEELS, f"{name}=={chosen[name]}")
    print("\n".join(f"{name}=={version}" for name, version in sorted(chosen.items())))


def direct_requirements() -> list[Requirement]:
    """Read what pyproject.toml asks for, that of its own extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups: list[list[str]] = [project["dependencies"], *project["optional-dependencies"].values()]
    return [Requirement(line) for group in groups for line in group]


def brought_by(direct: Sequence[Requirement]) -> list[Requirement]:
    """Read what the installed versions want in addition for the extras that they were asked for with."""
    importlib.invalidate_caches()
    lines = ((Requirement(line), asked.extras) for asked in direct for line in importlib.metadata.requires(asked.name) or ())
    return [brought for brought, extras in lines if brought.marker and any(brought.marker.evaluate({"extra": extra}) for extra in extras)]


def merged(requirements: Sequence[Requirement]) -> dict[str, SpecifierSet]:
    """Put what is said of each package together."""
    allowed: dict[str, SpecifierSet] = {}
    for requirement in requirements:
        name = canonicalize_name(requirement.name)
        allowed[name] = allowed.get(name, SpecifierSet()) & requirement.specifier
    return allowed


def versions_of(name: str, allowed: SpecifierSet) -> list[Version]:
    """Ask the registry for the versions that have a wheel for this Python, the lowest first."""
    if not allowed:
        sys.exit(f"{name} has no lower bound, so there is no oldest version of it to test: give it one in pyproject.toml")
    answer = pip("index", "versions", WHEELS, name)
    listed = re.search(r"^Available versions: (.+)$", answer, re.MULTILINE)
    versions = sorted(allowed.filter(Version(text) for text in listed[1].split(", "))) if listed else []
    if not versions:
        sys.exit(f"the registry has no wheel of {name}{allowed} for Python {sys.version.split()[0]}: raise the bound in pyproject.toml")
    return versions


def lowest_that_fits(name: str, allowed: SpecifierSet) -> Version:
    """Find the lowest version that pip would install without a change to any other package."""
    for version in versions_of(name, allowed):
        report = json.loads(pip("install", WHEELS, "--quiet", "--dry-run", "--report=-", f"{name}=={version}"))
        if len(report["install"]) <= 1:
            return version
    sys.exit(f"no version of {name}{allowed} goes together with what {sys.prefix} holds")


def pip(*arguments: str) -> str:
    """Run pip; give what it prints, or end with what it complains of."""
    command = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check", *arguments]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode != 0:
        sys.exit(f"{answer.stderr}exit status {answer.returncode} of: {' '.join(command)}")
    return answer.stdout


if __name__ == "__main__":
    main()
