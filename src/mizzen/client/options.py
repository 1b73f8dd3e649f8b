"""The options of a client: each one documented at `Client`, checked here, and frozen."""

from __future__ import annotations

import re
import ssl
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from mizzen.client.ports import TransportFactory
from mizzen.errors import OptionsError
from mizzen.ports import Codec
from mizzen.types import JSON

if TYPE_CHECKING:
    from mizzen.client.http import HTTPSession

AuthFunction: TypeAlias = Callable[[], Mapping[str, JSON] | Awaitable[Mapping[str, JSON] | None] | None]
Auth: TypeAlias = Mapping[str, JSON] | AuthFunction | None
Strings: TypeAlias = Mapping[str, str] | Callable[[], Mapping[str, str] | Awaitable[Mapping[str, str]]] | None
TransportName: TypeAlias = Literal["websocket", "polling"]

DEFLATE_THRESHOLD = 1024
"""Bytes from which on messages are compressed with `per_message_deflate=True`, as in the JavaScript client."""

_PROXY = re.compile(r"https?://[^/]", re.IGNORECASE)
_SECONDS = ("reconnection_delay", "reconnection_delay_max", "connect_timeout", "close_grace")
_LIMITED = ("request_timeout", "ack_timeout")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """What `Client(url, …)` was given. Times are in seconds, sizes in bytes."""

    path: str
    transports: Collection[TransportName | TransportFactory]
    try_all_transports: bool
    upgrade: bool
    remember_upgrade: bool
    eio: Literal[3, 4]
    query: Strings
    headers: Strings
    force_base64: bool
    timestamp_requests: bool | None
    timestamp_param: str
    sails: bool
    wait_for_server: bool
    reconnection: bool
    reconnection_attempts: int | None
    reconnection_delay: float
    reconnection_delay_max: float
    randomization_factor: float
    connect_timeout: float
    request_timeout: float | None
    ack_timeout: float | None
    retries: int | None
    close_grace: float
    max_payload: int
    max_attachments: int
    max_buffer: int
    max_handlers: int
    max_pending_acks: int
    max_threads: int
    per_message_deflate: bool | int
    ssl: ssl.SSLContext | bool
    proxy: str | None
    cookies: Mapping[str, str] | None
    uds: str | None
    http_session: HTTPSession | None
    parser: Codec | None

    def __post_init__(self) -> None:
        if not self.path.startswith("/"):
            raise OptionsError(f"path={self.path!r}: expected an absolute path such as '/socket.io'")
        object.__setattr__(self, "path", self.path.rstrip("/"))
        self._check_transports()
        if self.eio not in (3, 4):
            raise OptionsError(f"eio={self.eio!r}: expected 4, or 3 for a socket.io 2 server")
        for name in _SECONDS:
            self._check_seconds(name, getattr(self, name), may_be_zero=name == "close_grace")
        for name in _LIMITED:
            if getattr(self, name) is not None:
                self._check_seconds(name, getattr(self, name), may_be_zero=False)
        if not 0 <= self.randomization_factor <= 1:
            raise OptionsError(f"randomization_factor={self.randomization_factor!r}: expected 0 to 1")
        for name in (each.name for each in fields(self)):
            value = getattr(self, name)
            if name.startswith("max_") and (not isinstance(value, int) or value < 1):
                raise OptionsError(f"{name}={value!r}: expected a whole number, 1 or more")
        for name in ("reconnection_attempts", "retries"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 0):
                raise OptionsError(f"{name}={value!r}: expected a whole number, 0 or more, or None")
        if self.retries is not None and self.ack_timeout is None:
            raise OptionsError("retries without ack_timeout: a try would never be given up; say how long each may take")
        if self.per_message_deflate is True:
            object.__setattr__(self, "per_message_deflate", DEFLATE_THRESHOLD)
        if self.proxy is not None and not _PROXY.match(self.proxy):
            raise OptionsError(f"proxy={self.proxy.rpartition('@')[2]!r}: expected the URL of an HTTP proxy such as 'http://host:port'")
        if self.uds is not None and self.http_session is not None:
            raise OptionsError("uds and http_session: make the session with aiohttp.UnixConnector instead")
        if self.cookies is not None and self.http_session is not None:
            raise OptionsError("cookies and http_session: give the cookies to the session instead")

    def _check_transports(self) -> None:
        transports = (self.transports,) if isinstance(self.transports, str) else tuple(self.transports)
        object.__setattr__(self, "transports", transports)
        for each in cast("tuple[object, ...]", transports):
            if each not in ("websocket", "polling") and not callable(each):
                raise OptionsError(f"transports={transports!r}: expected 'websocket', 'polling' or factories of transports")
        if not transports:
            raise OptionsError("transports=(): expected at least one")

    @staticmethod
    def _check_seconds(name: str, value: object, *, may_be_zero: bool) -> None:
        if not isinstance(value, (int, float)) or not 0 <= value < float("inf") or (value == 0 and not may_be_zero):
            raise OptionsError(f"{name}={value!r}: expected {'' if may_be_zero else 'more than 0 '}seconds")
