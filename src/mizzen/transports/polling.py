"""HTTP long-polling: a GET waits for packets, a POST brings them."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from mizzen.errors import RemoteProtocolError
from mizzen.protocol.encoded import Encoded
from mizzen.protocol.engine import NOOP_PACKET
from mizzen.protocol.payload import decode_payload, encode_payload
from mizzen.transports import jsonp
from mizzen.transports.gate import Fault, Refusal
from mizzen.types import Reason, Receive

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
        self._waiting: asyncio.Future[Payload | None] | None = None
        self._posting = False
        self._probed = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def writable(self) -> bool:
        return self._waiting is not None and not self._waiting.done()

    def flush(self, out: list[Encoded]) -> bool:
        """Answer the GET that waits, with everything."""
        return self._answer(out)

    def pause_reading(self) -> None:
        """Nothing: who reads waits for `readable`."""

    def resume_reading(self) -> None: ...

    def end(self, last: Encoded) -> None:
        """Answer the GET that waits, if one does: there will be no more."""
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
        waiting = self._waiting
        if waiting is not None and not waiting.done():
            self._forget()
            context = {"name": "TRANSPORT_MISMATCH", "transport": "polling", "previous_transport": "websocket"}
            waiting.set_exception(Refusal(Fault.BAD_REQUEST, context=context))

    def _answer_soon(self) -> None:
        # engine.io looks every 100 ms while an upgrade is under way, so that a client that polls on is not answered in a busy loop.
        self._act_soon(lambda: self._answer([NOOP_PACKET]))

    def _act_soon(self, act: Callable[[], object]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(NOOP_INTERVAL, act)

    def _answer(self, packets: list[Encoded]) -> bool:
        waiting = self._waiting
        if waiting is None or waiting.done():
            return False
        body, content_type = encode_payload(packets, self._session.eio, self.base64)
        if self.script is not None:
            body, content_type = jsonp.encode(body, self.script), jsonp.CONTENT_TYPE
        self._forget()
        waiting.set_result((body, content_type, packets))
        return True

    def _forget(self) -> None:
        self._waiting = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def get(self, receive: Receive) -> Payload | None:
        """Wait for packets and give them; None when the client has gone away. Raises Refusal for a second GET at once."""
        session = self._session
        if self._waiting is not None:
            # "the client MUST NOT send several GET requests at once": neither is then known to be the live one
            session.lost(Reason.TRANSPORT_ERROR, "two polls at once")
            raise Refusal(Fault.BAD_REQUEST, context={"name": "OVERLAPPING_POLLS"})
        loop = asyncio.get_running_loop()
        waiting = self._waiting = loop.create_future()
        session.flush()
        if waiting.done():
            return waiting.result()
        if session.probing and self._probed:
            self._answer_soon()
        watch = _start(_watch(receive, waiting), loop)
        try:
            return await waiting
        finally:
            watch.cancel()
            if self._waiting is waiting:
                self._forget()
                if session.transport is self:
                    session.lost(Reason.TRANSPORT_ERROR, "the poll was cut off")

    async def post(self, headers: Mapping[bytes, bytes], receive: Receive, max_payload: int) -> bool | None:
        """Take the packets of a POST; False when the body is larger than `max_payload` bytes, None when the client has gone away.

        This returns once there was room for all of them, or the session is over. Raises Refusal.
        """
        session = self._session
        if self._posting:
            session.lost(Reason.TRANSPORT_ERROR, "two posts at once")
            raise Refusal(Fault.BAD_REQUEST, context={"name": "OVERLAPPING_POSTS"})
        self._posting = True
        try:
            content_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
            length = headers.get(b"content-length", b"")
            binary = content_type == b"application/octet-stream"
            if binary and session.eio == 4:
                session.lost(Reason.TRANSPORT_ERROR, "a binary body, which Engine.IO 4 does not know")
                raise Refusal(Fault.BAD_REQUEST, context={"name": "INVALID_PAYLOAD"})
            if length.isdigit() and int(length[:20]) > max_payload:
                return False
            body = await _read(receive, max_payload)
            if body is None:
                return False
            left = iter(self._decode(body, binary))
            session.receive_all(self._until_full(left))
            while session.paused:
                await self._room(receive)
                session.receive_all(self._until_full(left))
            return True
        except _PostCutOff:
            session.lost(Reason.TRANSPORT_ERROR, "the post was cut off")
            return None
        except asyncio.CancelledError:
            # So some servers tell that the client has gone. What was not taken is missing, whatever comes next.
            session.lost(Reason.TRANSPORT_ERROR, "the post was cut off")
            raise
        finally:
            self._posting = False

    def _decode(self, body: bytes, binary: bool) -> list[str | bytes]:
        session = self._session
        try:
            return decode_payload(body if self.script is None else jsonp.decode(body), session.eio, binary)
        except RemoteProtocolError as error:
            session.lost(error.reason, str(error))
            raise Refusal(Fault.BAD_REQUEST, context={"name": "INVALID_PAYLOAD"}) from None

    def _until_full(self, packets: Iterator[str | bytes]) -> Iterator[str | bytes]:
        """Give packets as long as there is room for more."""
        session = self._session
        for packet in packets:
            yield packet
            if session.paused:
                return

    async def _room(self, receive: Receive) -> None:
        """Wait until more may be received. Raises _PostCutOff when the client goes away."""
        room = asyncio.ensure_future(self._session.readable())
        # The whole body has come. "http.disconnect" is all that may follow, but middleware that has read the body may give it again.
        event = asyncio.ensure_future(receive())
        try:
            await asyncio.wait((room, event), return_when=asyncio.FIRST_COMPLETED)
            if event.done() and event.exception() is None and event.result()["type"] == "http.disconnect":
                raise _PostCutOff
            await room
        finally:
            room.cancel()
            event.cancel()


class _PostCutOff(Exception):
    pass


async def _watch(receive: Receive, waiting: asyncio.Future[Payload | None]) -> None:
    """End the wait of a poll when its client goes away."""
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    except Exception:
        logger.debug("the server cannot say whether the client of a poll is there", exc_info=True)
    if not waiting.done():
        waiting.set_result(None)


def _start(coroutine: Coroutine[object, object, None], loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
    """Run a coroutine in a task; where Python can, it starts at once, which saves a turn of the loop."""
    if sys.version_info >= (3, 12):
        return asyncio.Task(coroutine, loop=loop, eager_start=True)
    return loop.create_task(coroutine)


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
