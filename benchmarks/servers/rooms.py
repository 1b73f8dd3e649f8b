"""What one disconnect costs among many sockets, each in two rooms of its own; there is no wire.

python -m benchmarks.servers.rooms SOCKETS
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time

import msgspec

from mizzen import Server
from mizzen.protocol.encoded import Encoded
from mizzen.protocol.engine import Link
from mizzen.server.connection import Connection
from mizzen.types import Handshake, Reason

DISCONNECTS = 500


class Nothing:
    """A transport that takes everything and sends nothing."""

    name = "websocket"
    buffered = 0
    writable = True
    sending = False

    def flush(self, out: list[Encoded]) -> bool:
        return True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def end(self, last: Encoded) -> None: ...


async def measure(sockets: int) -> float:
    """Give the CPU time of one disconnect, in µs."""
    io = Server()
    async with io:
        connections = [connect(io) for _ in range(sockets)]
        for number, socket in enumerate(io.sockets.values()):
            socket.join(f"a {number}", f"b {number}")
        gc.collect()
        gc.freeze()
        began = time.process_time()
        for connection in connections[:: sockets // DISCONNECTS]:
            connection.lost(Reason.TRANSPORT_CLOSE)
        spent = time.process_time() - began
        assert len(io.sockets) == sockets - DISCONNECTS
    return spent / DISCONNECTS * 1e6


def connect(io: Server) -> Connection:
    """Make a connection and join the main namespace."""
    connection = io.sessions.create(Handshake({}), 4, Link.WEBSOCKET)
    connection.start(Nothing())
    connection.receive_all(["40"])
    return connection


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode({"units": DISCONNECTS, "cpu_us": asyncio.run(measure(int(sys.argv[1])))}))
