"""A server without a wire, which the test speaks for."""

from __future__ import annotations

import asyncio

from mizzen import Client
from mizzen.client.ports import ClientSession
from mizzen.protocol.encoded import Encoded
from mizzen.types import Reason
from tests.support import WITHIN, until

OPEN = '0{"sid":"s","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}'


class Peer:
    """One connection of a client: `sent` is what it sent as messages; while it is not `reading` the client keeps what it sends."""

    name = "websocket"
    buffered = 0

    def __init__(self, session: ClientSession) -> None:
        self.session = session
        self.sent: list[str | bytes] = []
        self.reading = True
        self.paused = False

    @property
    def writable(self) -> bool:
        return self.reading

    async def open(self) -> None:
        self.session.receive(OPEN)

    def say(self, *packets: str) -> None:
        """Send packets, which come together."""
        self.session.receive_all(packets)

    def cut(self) -> None:
        self.session.lost(Reason.TRANSPORT_CLOSE, "cut")

    def flush(self, out: list[Encoded]) -> None:
        if self.reading:
            for encoded in out:
                self.sent += encoded.messages(4)
            out.clear()

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    async def idle(self) -> None: ...

    async def close(self) -> None: ...


class Peers:
    """The connections that a client has made, in order: `Client(url, transports=[peers])`."""

    def __init__(self) -> None:
        self.made: list[Peer] = []

    def __call__(self, session: ClientSession) -> Peer:
        self.made.append(Peer(session))
        return self.made[-1]

    @property
    def last(self) -> Peer:
        return self.made[-1]

    def has_sent(self, packet: str, connection: int = -1) -> bool:
        """Say whether a connection, the last one if no other is named, has sent this."""
        return bool(self.made[connection:]) and packet in self.made[connection].sent


async def connected(client: Client, peers: Peers, told: str = '{"sid":"main"}') -> Client:
    """Connect a client whose server answers with what is `told`."""
    connecting = asyncio.ensure_future(client.connect())
    await until(lambda: peers.has_sent("40"))
    peers.last.say(f"40{told}")
    await asyncio.wait_for(connecting, WITHIN)
    return client
