"""What is measured: one row of the table each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

Kind = Literal["echo", "binary", "request", "broadcast", "rooms", "polling", "http", "idle", "leave"]
Variant = Literal["plain", "fastapi", "tls", "deflate"]
"""Which of a server's forms a row asks for: the app it wraps, or how it is started."""


@dataclass(frozen=True, slots=True)
class Load:
    """What the generator does in a row."""

    kind: Kind
    connections: int = 100
    in_flight: int = 1
    size: int = 32
    """Bytes of a payload."""

    def options(self, variant: Variant) -> list[str]:
        """Give the options of the generator."""
        numbers = {"--connections": self.connections, "--in-flight": self.in_flight, "--bytes": self.size}
        words = ["--load", self.kind, *(word for name, number in numbers.items() for word in (name, str(number)))]
        return [*words, f"--{variant}"] if variant in ("tls", "deflate") else words

    @property
    def open_files(self) -> int:
        """How many connections the generator, and so the server, has open."""
        if self.kind == "leave":
            return 0
        return self.connections * (2 if self.kind == "polling" else 1)


@dataclass(frozen=True, slots=True)
class Row:
    """A row: one load on each server."""

    name: str
    title: str
    unit: str
    load: Load
    variant: Variant = "plain"
    quick: bool = False
    """Whether `--quick` measures it."""
    stretch: float = 1.0
    """How much longer than usual a turn is."""
    is_request: bool = False
    """Whether it is compared with the same request by HTTP on the same server, instead of with Node."""

    @property
    def is_wireless(self) -> bool:
        """Whether it is measured within a process of Mizzen's, and compared with `FEW` sockets instead of with Node."""
        return self.load.kind == "leave"

    @property
    def is_storm(self) -> bool:
        """Whether connecting is what is measured: then each turn has a server of its own."""
        return self.load.kind == "idle"


def _echo(connections: int, in_flight: int, size: int, *, quick: bool = False) -> Row:
    many = "connection" if connections == 1 else "connections"
    title = f"echo with ack: {connections:,} {many}, {in_flight} in flight, {_bytes(size)}"
    return Row(f"echo-{connections}-{in_flight}-{size}", title, "echo", Load("echo", connections, in_flight, size), quick=quick)


def _broadcast(connections: int, in_flight: int, *, quick: bool = False, stretch: float = 1.0) -> Row:
    name = f"broadcast-{connections}" + ("" if in_flight == 4 else f"-{in_flight}")
    title = f"broadcast to {connections:,}, {in_flight} in flight, 64 B"
    return Row(name, title, "delivery", Load("broadcast", connections, in_flight, 64), quick=quick, stretch=stretch)


def _bytes(size: int) -> str:
    return f"{size // 1024} KiB" if size >= 1024 else f"{size} B"


ROWS: Final = (
    *(
        _echo(connections, in_flight, size, quick=(connections, in_flight, size) in {(100, 1, 32), (100, 1, 1024), (100, 16, 32)})
        for connections in (1, 100, 1000)
        for in_flight in (1, 16)
        for size in (32, 1024)
    ),
    Row("binary", "binary echo with ack: 100 connections, 1 in flight, 1 KiB", "echo", Load("binary", size=1024), quick=True),
    _broadcast(100, 4),
    _broadcast(1000, 1),
    _broadcast(1000, 4, quick=True),
    _broadcast(5000, 4, stretch=2),
    Row(
        "rooms",
        "1,000 rooms of 10 (1,000 connections, each in 10), 100 messages in flight, 64 B",
        "delivery",
        Load("rooms", 1000, 100, 64),
        quick=True,
        stretch=1.2,
    ),
    Row("polling", "polling echo (a POST and a GET): 100 clients, 32 B", "echo", Load("polling"), quick=True),
    Row("tls", "echo with ack over TLS: 100 connections, 1 in flight, 32 B", "echo", Load("echo"), variant="tls", quick=True),
    Row(
        "deflate",
        "broadcast with permessage-deflate: 100 connections, 1 in flight, 2 KiB",
        "delivery",
        Load("broadcast", 100, 1, 2048),
        variant="deflate",
    ),
    Row("request", "socket request to a bare ASGI app, 100 connections", "request", Load("request"), quick=True, is_request=True),
    Row(
        "request-fastapi",
        "socket request to a FastAPI route, 100 connections",
        "request",
        Load("request"),
        variant="fastapi",
        quick=True,
        is_request=True,
    ),
    Row("leave", "one disconnect among 100,000 sockets in 200,000 rooms", "disconnect", Load("leave", 100_000)),
    Row("storm", "connect storm: 10,000 connects, 256 at a time", "connect", Load("idle", 10_000), quick=True),
)

QUICK_STORM: Final = 2_000
FEW: Final = Load("leave", 1_000)


def quick_form(row: Row) -> Row:
    """Give the smaller form that `--quick` measures of a row."""
    if not row.is_storm:
        return row
    title = row.title.replace("10,000", f"{QUICK_STORM:,}")
    return replace(row, title=title, load=replace(row.load, connections=QUICK_STORM))
