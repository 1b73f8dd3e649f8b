"""The client: a socket that brings its own connection."""

from __future__ import annotations

import ssl as tls
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Literal, Self

from mizzen.client.manager import Manager
from mizzen.client.options import Auth, ClientOptions, Strings, TransportName
from mizzen.client.ports import TransportFactory
from mizzen.client.socket import ClientSocket
from mizzen.ports import Codec

if TYPE_CHECKING:
    from mizzen.client.http import HTTPSession


class Client(ClientSocket):
    """A client of a Socket.IO server: the socket of the URL's namespace, with a connection of its own.

        socket = mizzen.Client("http://localhost:8000")     # does nothing yet: register first, so that nothing is missed
        socket.on("message", print)
        async with socket:                                  # connects, and disconnects at the end
            await socket.call("join", "lobby")

    `of` gives sockets of other namespaces on the same connection. The end of `async with` disconnects them too. Needs the extra `client`.
    """

    def __init__(
        self,
        url: str,
        *,
        auth: Auth = None,
        path: str = "/socket.io",
        transports: Collection[TransportName | TransportFactory] = ("websocket", "polling"),
        try_all_transports: bool = True,
        upgrade: bool = True,
        remember_upgrade: bool = False,
        eio: Literal[3, 4] = 4,
        query: Strings = None,
        headers: Strings = None,
        force_base64: bool = False,
        timestamp_requests: bool | None = None,
        timestamp_param: str = "t",
        sails: bool = False,
        wait_for_server: bool = False,
        reconnection: bool = True,
        reconnection_attempts: int | None = None,
        reconnection_delay: float = 1.0,
        reconnection_delay_max: float = 5.0,
        randomization_factor: float = 0.5,
        connect_timeout: float = 20.0,
        request_timeout: float | None = None,
        ack_timeout: float | None = None,
        retries: int | None = None,
        close_grace: float = 5.0,
        max_payload: int = 100 * 1024 * 1024,
        max_attachments: int = 100,
        max_buffer: int = 16 * 1024 * 1024,
        max_handlers: int = 100,
        max_pending_acks: int = 10_000,
        max_threads: int = 40,
        per_message_deflate: bool | int = False,
        ssl: tls.SSLContext | bool = True,
        proxy: str | None = None,
        cookies: Mapping[str, str] | None = None,
        uds: str | None = None,
        http_session: HTTPSession | None = None,
        parser: Codec | None = None,
    ) -> None:
        """Make a client; nothing is sent before `connect`. Times are in seconds, sizes in bytes.

        `url` is `http://host:port` (or https, ws, wss); its path is the namespace, its query goes along with every request. Raises
        OptionsError for options that cannot work, and ImportError without aiohttp.

        - `auth`: what the CONNECT packet of the namespace carries: a dict, or a function (plain or async), called at each attempt.
        - `path`: where the server listens; its own `path` option.
        - `transports`: in which order they are tried: "websocket", "polling", or factories of your own (`mizzen.client.ports`).
          `try_all_transports`: whether the next one is tried when one cannot connect. `upgrade`: whether a connection that began with
          polling moves to a WebSocket that stands after it in `transports`. `remember_upgrade`: whether it begins with WebSocket once one
          has worked.
        - `eio`: the Engine.IO protocol: 4, or 3 for servers of Socket.IO 1 and 2.
        - `query`, `headers`: strings for every request: a mapping, or a function (plain or async), called at each attempt.
        - `force_base64`: whether binary travels as text. `timestamp_requests`, `timestamp_param`: whether requests carry a number that
          keeps caches from answering (None: those of polling do), and its name.
        - `sails`: whether to tell a Sails server what it asks of its clients: without it Sails refuses the connection.
        - `wait_for_server`: whether `connect` goes on trying when the server cannot be reached at first. Without it, it raises.
        - `reconnection`: whether a connection that was lost is made again; `reconnection_attempts`: how often it is tried (None: for
          ever); `reconnection_delay`, `reconnection_delay_max`: the first delay, which doubles, and the longest; `randomization_factor`:
          the part of it that is left to chance.
        - `connect_timeout`: how long each transport may take to connect, and each namespace to answer. `request_timeout`: how long an
          HTTP request of polling may take, the waiting ones too (None: as long as it takes).
        - `ack_timeout`: how long `call` waits by default. `retries`: how often a packet that is not acked within `ack_timeout` is sent
          again; with it, packets go one at a time, in order, each at least once (None: each is sent once).
        - `close_grace`: how long running handlers may take at the end.
        - `max_payload`: the largest message that is accepted. `max_attachments`: the most binary attachments of one packet.
        - `max_buffer`: what may wait to be sent, to be handled, or for the answer to CONNECT; acks may be as much again. `max_handlers`:
          how many handlers run at once; further events wait. `max_pending_acks`: how many acks of one socket may be awaited.
          `max_threads`: how many plain (`def`) handlers run at once.
        - `per_message_deflate`: whether messages on WebSocket are compressed where the server agrees: those of 1024 bytes and more, or of
          as many as given.
        - `ssl`: a context, or False to trust any certificate. `proxy`: the URL of an HTTP proxy, `http://user:password@host:port`.
          `cookies`: to begin with; those that the server sets are kept, for all transports. `uds`: the path of a unix socket to connect
          to. `http_session`: an `aiohttp.ClientSession` to use instead of an own one; it is not closed, and its middlewares do not see
          polling.
        - `parser`: how packets are written, if not as JSON; the server must use the same.
        """
        options = ClientOptions(
            path=path,
            transports=transports,
            try_all_transports=try_all_transports,
            upgrade=upgrade,
            remember_upgrade=remember_upgrade,
            eio=eio,
            query=query,
            headers=headers,
            force_base64=force_base64,
            timestamp_requests=timestamp_requests,
            timestamp_param=timestamp_param,
            sails=sails,
            wait_for_server=wait_for_server,
            reconnection=reconnection,
            reconnection_attempts=reconnection_attempts,
            reconnection_delay=reconnection_delay,
            reconnection_delay_max=reconnection_delay_max,
            randomization_factor=randomization_factor,
            connect_timeout=connect_timeout,
            request_timeout=request_timeout,
            ack_timeout=ack_timeout,
            retries=retries,
            close_grace=close_grace,
            max_payload=max_payload,
            max_attachments=max_attachments,
            max_buffer=max_buffer,
            max_handlers=max_handlers,
            max_pending_acks=max_pending_acks,
            max_threads=max_threads,
            per_message_deflate=per_message_deflate,
            ssl=ssl,
            proxy=proxy,
            cookies=cookies,
            uds=uds,
            http_session=http_session,
            parser=parser,
        )
        manager = Manager(url, options)
        super().__init__(manager, manager.address.namespace, auth)
        manager.sockets[self.name] = self

    async def close(self) -> None:
        """Disconnect all sockets of the connection and end it; harmless when there is none. `connect` begins anew."""
        await self.manager.close()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        # After an error handlers are cancelled at once, as a task group does it.
        await self.manager.close(None if error is None else 0.0)
