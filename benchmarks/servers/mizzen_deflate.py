"""Mizzen with compression of WebSocket messages."""

from __future__ import annotations

from benchmarks.servers.mizzen_bare import hello
from benchmarks.servers.mizzen_handlers import register
from mizzen import Server

io = Server(hello, per_message_deflate=True)
register(io)
