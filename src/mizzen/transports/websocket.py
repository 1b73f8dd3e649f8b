"""WebSocket by ASGI events: one writer and one reader for each connection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mizzen.errors import RemoteProtocolError
from mizzen.protocol.engine_packet import MESSAGE_BYTE
from mizzen.types import Reason, Receive, Send

if TYPE_CHECKING:
    from mizzen.ports import Session
    from mizzen.protocol.encoded import Encoded

NORMAL_CLOSURE = 1000
MESSAGE_TOO_BIG = 1009


class WebSocketTransport:
    """One session's WebSocket. The coroutine that serves the ASGI connection is the writer; reading has a task of its own.

    `writable` is true while no `send` of the writer is under way.
    """

    __slots__ = (
        "_base64",
        "_batch",
        "_code",
        "_ended",
        "_given_up",
        "_left",
        "_max_payload",
        "_send",
        "_session",
        "_task",
        "_wake",
        "buffered",
    )

    name: str = "websocket"

    def __init__(self, session: Session, send: Send, max_payload: int, base64: bool) -> None:
        self._session = session
        self._send = send
        self._max_payload = max_payload
        self._base64 = base64
        self._batch: list[Encoded] | None = None
        self._wake: asyncio.Future[None] | None = None
        self._task: asyncio.Task[object] | None = None
        self._ended = False  # there is no more to send
        self._left = False  # the peer has closed its side
        self._given_up = False  # a send was stuck when the session ended
        self._code = NORMAL_CLOSURE
        self.buffered: int = 0

    @property
    def writable(self) -> bool:
        return self._batch is None

    @property
    def sending(self) -> bool:
        return self._batch is not None

    def flush(self, out: list[Encoded]) -> bool:
        """Hand `out` to the writer, if it has nothing else to do."""
        if self._batch is not None:
            return False
        self._batch = out
        if len(out) > 1:
            sizes = [encoded.size for encoded in out]
            self.buffered = sum(sizes) - max(sizes)
        self._wake_writer()
        return True

    def pause_reading(self) -> None:
        """Nothing: who reads waits for `readable`."""

    def resume_reading(self) -> None: ...

    def end(self, last: Encoded) -> None:
        """Have the writer close the WebSocket; a send that is stuck is given up."""
        self._ended = True
        if self._batch is not None and self._task is not None:
            self._given_up = True
            self._task.cancel()
        self._wake_writer()

    def _wake_writer(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def serve(self, receive: Receive) -> None:
        """Carry packets until the session or the WebSocket ends."""
        loop = asyncio.get_running_loop()
        task = self._task = asyncio.current_task()
        assert task is not None
        reader = loop.create_task(self._read(receive), name="mizzen-reader")
        try:
            await self._write(loop)
        except asyncio.CancelledError:
            self._task = None
            self._session.lost(Reason.TRANSPORT_CLOSE, "the ASGI server cancelled the connection")
            if not self._given_up or task.uncancel() > 0:
                raise
        except Exception as error:
            # A server tells of a vanished peer by an exception of its own kind.
            self._task = None
            self._session.lost(Reason.TRANSPORT_CLOSE, str(error) or type(error).__name__)
        finally:
            self._task = None
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _write(self, loop: asyncio.AbstractEventLoop) -> None:
        session, send = self._session, self._send
        while not self._ended:
            batch = self._batch
            if batch is None:
                self._wake = loop.create_future()
                await self._wake
                continue
            for encoded in batch:
                for message in encoded.messages(session.eio, self._base64):
                    await send(
                        {"type": "websocket.send", "text": message}
                        if isinstance(message, str)
                        else {"type": "websocket.send", "bytes": message}
                    )
                if self._ended:
                    break
                self.buffered = max(0, self.buffered - encoded.size)
            self._batch = None
            self.buffered = 0
            session.flush()
        if not self._left:
            await send({"type": "websocket.close", "code": self._code})

    async def _read(self, receive: Receive) -> None:
        session, limit = self._session, self._max_payload
        take = session.receive_all
        binary_prefix = session.eio == 3
        try:
            while True:
                event = await receive()
                if event["type"] != "websocket.receive":
                    self._left = True
                    break
                packet: str | bytes | None = event.get("text")
                if packet is None:
                    packet = event["bytes"]
                    assert packet is not None
                    if binary_prefix:
                        if packet[:1] != MESSAGE_BYTE:
                            raise RemoteProtocolError("a binary packet that is not a message", Reason.PARSE_ERROR)
                        packet = packet[1:]
                # A character takes at most four bytes, so that most text need not be encoded to know.
                if len(packet) > limit or (
                    isinstance(packet, str) and len(packet) * 4 > limit and len(packet.encode("utf-8", "surrogatepass")) > limit
                ):
                    self._code = MESSAGE_TOO_BIG
                    session.lost(Reason.TRANSPORT_ERROR, f"a message of more than max_payload ({limit}) bytes")
                    return
                if session.paused:
                    # Here and not before reading: so one receive is always under way, which a client that goes makes known.
                    await session.readable()
                take((packet,))
                if self._ended:
                    return
        except RemoteProtocolError as error:
            session.lost(error.reason, str(error))
        except Exception as error:
            session.lost(Reason.TRANSPORT_ERROR, f"reading failed: {error!r}")
        else:
            session.lost(Reason.TRANSPORT_CLOSE)
