"""The one figure that is no speed: how large the client is that a page loads."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.machine import ROOT
from benchmarks.peers import Peer
from benchmarks.table import Cell, Line

CLIENTS: Final[Mapping[str, Path]] = {
    "node": ROOT / "benchmarks/node_modules/socket.io/client-dist/socket.io.min.js",
    "mizzen": ROOT / "src/mizzen/static/mizzen.js",
}
"""The smallest file that each server brings, minified."""


def size_line(peers: Sequence[Peer]) -> Line:
    """Give the line of the browser clients' sizes; a server that brings none is not in it."""
    sizes = {peer.name: len(gzip.compress(CLIENTS[peer.name].read_bytes(), 9)) / 1024 for peer in peers if peer.name in CLIENTS}
    base = sizes.get(peers[0].name)
    ratios = {name: None if base is None else size / base for name, size in sizes.items()}
    return Line("browser client, gzipped", "KiB", {name: Cell(ratios[name], ratios[name], ratios[name], sizes[name]) for name in sizes})
