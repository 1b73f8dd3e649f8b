"""HTTP long-polling: a GET waits for packets, a POST brings them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from mizzen.errors import RemoteProtocolError
from mizzen.protocol.encoded import Encoded
from mizzen.protocol.engine import NOOP_PACKET
from mizzen.protocol.payload import decode_payload, encode_payload
from mizzen.transports import jsonp
from mizzen.transports.gate import Fault, Refusal
from mizzen.types import Reason, Receive, Scope

if TYPE_CHECKING:
    from mizzen.ports import Session

logger: Final = logging.getLogger("mizzen.server")

NOOP_INTERVAL = 0.1
"""Seconds after which a poll is answered with a noop while the client upgrades; as engine.io does."""

Payload = tuple[bytes, str, list[Encoded]]
"""The body of an answer, its content type, and the packets that are in it."""


class PollingTransport:
    """One session's polls. What is to be sent stays with the session until a GET comes.

    `writable` is true while a GET waits. `base64` says whether binary has to be text; `script` is the index of the client's callback, for a
    session that is polled by script tags.
    """

    __slots__ = ("_posting", "_probed", "_session", "_timer", "_waiting", "base64", "script")

    name: str = "polling"
    buffered: int = 0
    sending: bool = False

    def __init__(self, session: Session, base64: bool, script: str | None = None) -> None:
        self._session = session
        self.base64: bool = base64 or script is not None
        self.script: str | None = script
        self._waiting: asyncio.Future[Payload] | None = None
        self._posting = False
        self._probed = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def writable(self) -> bool:
        return self._waiting is not None and not self._waiting.done()

    def flush(self, out: list[Encoded]) -> bool:
        """Answer the GET that waits, with everything."""
        if not self.writable:
            return False
        self._answer(out)
        return True

    def pause_reading(self) -> None:
        """Nothing: who reads waits for `readable`."""

    def resume_reading(self) -> None: ...

    def end(self, last: Encoded) -> None:
        """Answer the GET that waits, if one does: there will be no more."""
        if self._waiting is not None:
            self._answer([last])

    def probed(self) -> None:
        """Answer polls with a noop from now on, so that the client may leave polling behind."""
        self._probed = True
        if self._waiting is not None:
            self._answer_soon()

    def left(self) -> None:
        """Refuse the GET that waits: a client lets its last poll end before it upgrades, so this one came too late.

        Not at once: it may have overtaken the probe, whose answer it is not to overtake as well.
        """
        if self._waiting is not None:
            self._act_soon(self._refuse)

    def _refuse(self) -> None:
        waiting = self._done_waiting()
        if waiting is not None:
            context = {"name": "TRANSPORT_MISMATCH", "transport": "polling", "previous_transport": "websocket"}
            waiting.set_exception(Refusal(Fault.BAD_REQUEST, context=context))

    def _answer_soon(self) -> None:
        # engine.io looks every 100 ms while an upgrade is under way, so that a client that polls on is not answered in a busy loop.
        self._act_soon(lambda: self._answer([NOOP_PACKET]))

    def _act_soon(self, act: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(NOOP_INTERVAL, act)

    def _answer(self, packets: list[Encoded]) -> None:
        waiting = self._done_waiting()
        if waiting is not None:
            body, content_type = encode_payload(packets, self._session.eio, self.base64)
            if self.script is not None:
                body, content_type = jsonp.encode(body, self.script), jsonp.CONTENT_TYPE
            waiting.set_result((body, content_type, packets))

    def _done_waiting(self) -> asyncio.Future[Payload] | None:
        waiting, self._waiting = self._waiting, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return None if waiting is None or waiting.done() else waiting

    async def get(self, receive: Receive) -> Payload | None:
        """Wait for packets and give them; None when the client has gone away. Raises Refusal for a second GET at once."""
        session = self._session
        if self._waiting is not None:
            # "the client MUST NOT send several GET requests at once": neither is then known to be the live one
            session.lost(Reason.TRANSPORT_ERROR, "two polls at once")
            raise Refusal(Fault.BAD_REQUEST, context={"name": "OVERLAPPING_POLLS"})
        loop = asyncio.get_running_loop()
        waiting = self._waiting = loop.create_future()
        session.ready()
        if waiting.done():
            return waiting.result()
        if session.probing and self._probed:
            self._answer_soon()
        gone = loop.create_task(_disconnected(receive), name="mizzen-poll")
        gone.add_done_callback(lambda task: (task.cancelled() or task.exception(), waiting.cancel()))
        try:
            return await waiting
        except asyncio.CancelledError:
            if not gone.done():
                raise  # this request itself was cancelled
            return None
        finally:
            gone.cancel()
            if self._waiting is waiting:
                self._done_waiting()
                if session.transport is self:
                    session.lost(Reason.TRANSPORT_ERROR, "the poll was cut off")

    async def post(self, scope: Scope, receive: Receive, max_payload: int) -> bool | None:
        """Take the packets of a POST; False when the body is larger than `max_payload` bytes, None when the client has gone away.

        Raises Refusal.
        """
        session = self._session
        if self._posting:
            session.lost(Reason.TRANSPORT_ERROR, "two posts at once")
            raise Refusal(Fault.BAD_REQUEST, context={"name": "OVERLAPPING_POSTS"})
        self._posting = True
        try:
            content_type = length = b""
            for name, value in scope["headers"]:
                if name == b"content-type":
                    content_type = value.partition(b";")[0].strip().lower()
                elif name == b"content-length":
                    length = value
            binary = content_type == b"application/octet-stream"
            if binary and session.eio == 4:
                session.lost(Reason.TRANSPORT_ERROR, "a binary body, which Engine.IO 4 does not know")
                raise Refusal(Fault.BAD_REQUEST, context={"name": "INVALID_PAYLOAD"})
            if length.isdigit() and int(length[:20]) > max_payload:
                return False
            body = await _read(receive, max_payload)
            if body is None:
                return False
            self._take(body, binary)
            if session.paused:
                await session.readable()
            return True
        except _PostCutOff:
            session.lost(Reason.TRANSPORT_ERROR, "the post was cut off")
            return None
        finally:
            self._posting = False

    def _take(self, body: bytes, binary: bool) -> None:
        session = self._session
        try:
            packets = decode_payload(body if self.script is None else jsonp.decode(body), session.eio, binary)
        except RemoteProtocolError as error:
            session.lost(error.reason, str(error))
            raise Refusal(Fault.BAD_REQUEST, context={"name": "INVALID_PAYLOAD"}) from None
        for packet in packets:
            session.receive(packet)
            if session.gone:
                break


class _PostCutOff(Exception):
    pass


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _read(receive: Receive, limit: int) -> bytes | None:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _PostCutOff
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            return None
        if not message.get("more_body", False):
            return chunk if not chunks else b"".join((*chunks, chunk))
        chunks.append(chunk)
