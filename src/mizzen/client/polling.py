"""HTTP long-polling as a transport: one GET that waits, and one POST at a time."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Final

from mizzen.client.ports import ClientSession
from mizzen.errors import ConnectFailed, RemoteProtocolError
from mizzen.protocol.encoded import Form
from mizzen.protocol.payload import decode_payload, encode_payload
from mizzen.types import Reason

if TYPE_CHECKING:
    from mizzen.client.http import HTTP
    from mizzen.client.options import ClientOptions
    from mizzen.protocol.encoded import Encoded


MAX_PACKETS: Final = 16
"""How many packets one POST may have: python-engineio closes the session for more."""


class PollingTransport:
    """Long-polling, for one session."""

    name: str = "polling"

    def __init__(self, session: ClientSession, http: HTTP, options: ClientOptions) -> None:
        self.session: ClientSession = session
        self.buffered: int = 0
        self._http = http
        self._base64 = options.force_base64
        self._get: asyncio.Task[None] | None = None
        self._post: asyncio.Task[None] | None = None
        self._reading = asyncio.Event()
        self._reading.set()

    async def open(self) -> None:
        try:
            self.session.receive_all(await self._fetch())
        except RemoteProtocolError as error:
            hint = "; a server of Socket.IO 1 or 2 needs the option eio=3" if self.session.eio == 4 else ""
            raise ConnectFailed(f"polling: {self.session.base_url} did not answer as a Socket.IO server: {error}{hint}") from error
        self._poll()

    def _poll(self) -> None:
        if (self._get is None or self._get.done()) and self.session.polling:
            self._get = asyncio.get_running_loop().create_task(self._poll_on(), name="mizzen-poll")

    async def _poll_on(self) -> None:
        session = self.session
        try:
            while session.polling:
                session.receive_all(await self._fetch())
                await self._reading.wait()
        except RemoteProtocolError as error:
            session.lost(error.reason, str(error))
        except ConnectFailed as error:
            session.lost(Reason.TRANSPORT_ERROR, str(error))

    async def _fetch(self) -> list[str | bytes]:
        session = self.session
        answer = await self._http.fetch("GET", session.base_url, session.query(self.name), session.headers)
        return decode_payload(answer.body, session.eio, answer.binary)

    # What the session calls

    @property
    def writable(self) -> bool:
        return self._post is None

    def flush(self, out: list[Encoded]) -> None:
        if self._post is not None:
            return  # a second POST at a time would be refused; `session.ready` calls again
        count = self._fitting(out)
        packets = out[:count]
        del out[:count]
        body, content_type = encode_payload(packets, self.session.eio, self._base64)
        self.buffered = len(body)
        self._post = asyncio.get_running_loop().create_task(self._send(body, content_type), name="mizzen-post")

    def _fitting(self, out: list[Encoded]) -> int:
        """Count the packets from the front that one body may hold; the first always goes."""
        limit = self.session.max_payload or sys.maxsize
        size, packets = -1, 0
        for count, encoded in enumerate(out):
            records = encoded.records(Form.EIO4)
            size += sum([len(record) + 1 for record in records])
            packets += len(records)
            if size > limit or packets > MAX_PACKETS:
                return max(count, 1)
        return len(out)

    async def _send(self, body: bytes, content_type: str) -> None:
        session = self.session
        try:
            await self._http.fetch("POST", session.base_url, session.query(self.name), session.headers, body, content_type)
        except ConnectFailed as error:
            session.lost(Reason.TRANSPORT_ERROR, str(error))
        finally:
            self._post = None
            self.buffered = 0
        session.ready()

    def pause_reading(self) -> None:
        self._reading.clear()

    def resume_reading(self) -> None:
        self._reading.set()
        self._poll()

    async def idle(self) -> None:
        if tasks := self._tasks():
            await asyncio.wait(tasks)

    async def close(self) -> None:
        tasks = self._tasks()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _tasks(self) -> list[asyncio.Task[None]]:
        own = asyncio.current_task()
        return [task for task in (self._get, self._post) if task is not None and task is not own and not task.done()]
