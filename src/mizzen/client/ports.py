"""What the client is to its transports, and they to it: implement `ClientTransport` to carry its packets over something new."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from mizzen.protocol.encoded import Encoded
from mizzen.types import Reason


class ClientSession(Protocol):
    """What a transport sees of the connection that it carries."""

    base_url: str
    """Where the server is: scheme, host and port, then the path of Socket.IO with its slash at the end."""

    headers: dict[str, str]
    """The HTTP headers of this attempt to connect."""

    @property
    def eio(self) -> int:
        """The Engine.IO protocol: 3 or 4."""
        ...

    @property
    def polling(self) -> bool:
        """Whether a polling transport is to send its next request: False once the session is over or moves to WebSocket."""
        ...

    @property
    def max_payload(self) -> int:
        """The largest body of a POST that the server takes, in bytes; 0 where it did not say."""
        ...

    @property
    def silent(self) -> bool:
        """Whether the session is over because the server was not heard of: nobody is there to answer a farewell."""
        ...

    def query(self, transport: str) -> dict[str, str]:
        """Give the query of the next request: the user's, `EIO`, `transport`, and `sid` once there is one."""
        ...

    def receive(self, packet: str | bytes) -> None:
        """Take one Engine.IO packet: text with its type digit, or a binary message; never raises."""
        ...

    def receive_all(self, packets: Sequence[str | bytes]) -> None:
        """Take packets that came at once: what is written in answer leaves when the last one has been taken."""
        ...

    def ready(self) -> None:
        """The transport can take packets again."""
        ...

    def lost(self, reason: Reason, details: str) -> None:
        """The wire is gone, or what came over it cannot be borne; never raises, and only the first time counts."""
        ...


class ClientTransport(Protocol):
    """What carries the packets of a connection: made for one, opened once, closed once."""

    name: str
    """`polling` or `websocket`: what stands in the query, and how the session behaves (`websocket` for all that is no polling)."""

    session: ClientSession
    """Whom the packets go to; it changes once, at the end of an upgrade."""

    @property
    def buffered(self) -> int:
        """Bytes that were taken by `flush` and are not sent."""
        ...

    @property
    def writable(self) -> bool:
        """Whether a packet could be sent now; a volatile packet is dropped where not."""
        ...

    async def open(self) -> None:
        """Reach the server; from then on packets go to `session.receive`, and the end to `session.lost`. Raises ConnectFailed."""
        ...

    def flush(self, out: list[Encoded]) -> None:
        """Take from the front of `out` what can be sent now, and remove it there; call `session.ready` when more can."""
        ...

    def pause_reading(self) -> None:
        """Read no more from the wire."""
        ...

    def resume_reading(self) -> None: ...

    async def idle(self) -> None:
        """Wait until no request is under way; the session asks for it when `polling` has become False."""
        ...

    async def close(self) -> None:
        """Let go of the wire, after what was flushed has been sent or could not be; never raises."""
        ...


TransportFactory: TypeAlias = Callable[[ClientSession], ClientTransport]
"""Makes the transport of one attempt to connect; given in the option `transports` in place of a name."""
