"""The browser client's source in js/: its own tests, its types, and that what is served was built from it."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tools.node import environment, node_executable

ROOT = Path(__file__).resolve().parents[2]
JS = ROOT / "js"
STATIC = ROOT / "src/mizzen/static"
BUILT = {"mizzen.js", "mizzen.js.map", "mizzen.mjs", "mizzen.mjs.map", "mizzen.d.ts", "mizzen.d.mts"}
MOST_BYTES = 10 * 1024  # gzipped
UNITS = sorted((JS / "test").glob("*.test.mjs"))


def run_node(*arguments: str) -> str:
    """Run Node.js in js/ and give what it printed."""
    if not (JS / "node_modules").is_dir():
        raise RuntimeError(f"{JS / 'node_modules'} is missing; run: make setup")
    done = subprocess.run([node_executable(), *arguments], cwd=JS, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("file", UNITS, ids=lambda path: path.name)
def test_unit(file: Path) -> None:
    told = run_node("--test", "--test-reporter=spec", str(file))
    assert "fail 0" in told
    assert "skipped 0" in told


def test_there_are_units() -> None:
    assert len(UNITS) >= 3


@pytest.mark.parametrize("project", [".", "test"])
def test_types(project: str) -> None:
    run_node("node_modules/typescript/bin/tsc", "--noEmit", "--project", project)


def test_what_is_served_was_built_from_the_source(tmp_path: Path) -> None:
    run_node("build.mjs", "--out", str(tmp_path))
    built = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    served = {path.name: path.read_bytes() for path in STATIC.iterdir()}
    assert set(built) == set(served) == BUILT
    assert [name for name in built if built[name] != served[name]] == [], "run: make js"


def test_the_source_map_tells_paths_of_the_project_only() -> None:
    for name in ("mizzen.js.map", "mizzen.mjs.map"):
        sources = json.loads((STATIC / name).read_text())["sources"]
        assert sources
        assert all(source.startswith("src/") and source.endswith(".ts") for source in sources), sources


@pytest.mark.parametrize("name", ["mizzen.js", "mizzen.mjs"])
def test_size(name: str) -> None:
    size = len(gzip.compress((STATIC / name).read_bytes(), 9))
    assert size <= MOST_BYTES


def test_the_npm_package_serves_imports_and_requires(tmp_path: Path) -> None:
    run_node("build.mjs", "--package", "--out", str(tmp_path))
    tell = """
        io.sails.autoConnect = false;
        console.log([typeof io, io === io.io, typeof io.Manager, typeof io.socket.get, io.protocol].join());
    """
    required = run_node("-e", f"const io = require({json.dumps(str(tmp_path / 'mizzen.cjs'))}); {tell}")
    imported = run_node("--input-type=module", "-e", f"import io from {json.dumps((tmp_path / 'mizzen.mjs').as_uri())}; {tell}")
    assert required.strip() == imported.strip() == "function,true,function,function,5"
    package = json.loads((JS / "package.json").read_text())
    main = package["exports"]["."]
    targets = [Path(path) for path in (*main["import"].values(), *main["require"].values(), package["exports"]["./mizzen.js"])]
    assert {path.name for path in targets} <= {path.name for path in tmp_path.iterdir()}
    assert {path.parent.name for path in targets} == {"dist"}


def test_the_wheel_has_the_client(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name.removeprefix("mizzen/static/") for name in archive.namelist() if name.startswith("mizzen/static/")}
    assert names == BUILT
