"""What stands in for the consumer and the transport of a connection that has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mizzen.protocol.encoded import Encoded
    from mizzen.types import Reason


class Nobody:
    """The consumer of a connection that has ended, so that each end is told once."""

    def opened(self) -> None: ...

    def received(self, message: str | bytes) -> None: ...

    def closed(self, reason: Reason, details: str | None) -> None: ...


NOBODY = Nobody()


class Nowhere:
    """The transport of a connection that has ended, so that it and its last one do not keep each other alive."""

    name: str = "none"
    buffered: int = 0
    writable: bool = False
    sending: bool = False

    def flush(self, out: list[Encoded]) -> bool:
        return True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def end(self, last: Encoded) -> None: ...


NOWHERE = Nowhere()
