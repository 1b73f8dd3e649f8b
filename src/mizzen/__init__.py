"""Realtime for Python: Socket.IO, and socket requests that run through the routes of your web app.

from fastapi import FastAPI
from mizzen import Server, Socket

api = FastAPI()
io = Server(api)                      # io is the ASGI app: `mizzen run app:io`, or `uvicorn app:io`
"""

from mizzen.errors import (
    AckTimeout,
    ArgumentsInvalid,
    ConnectFailed,
    ConnectionClosed,
    ConnectRefused,
    LocalProtocolError,
    MizzenError,
    OptionsError,
    ProtocolError,
    RemoteError,
    RemoteProtocolError,
)
from mizzen.options import Cookie
from mizzen.server.namespace import Namespace
from mizzen.server.server import Server
from mizzen.server.socket import Socket
from mizzen.server.tasks import from_thread
from mizzen.types import JSON, Handshake, Reason
from mizzen.virtual.requests import socket_of

__all__ = [
    "JSON",
    "AckTimeout",
    "ArgumentsInvalid",
    "ConnectFailed",
    "ConnectRefused",
    "ConnectionClosed",
    "Cookie",
    "Handshake",
    "LocalProtocolError",
    "MizzenError",
    "Namespace",
    "OptionsError",
    "ProtocolError",
    "Reason",
    "RemoteError",
    "RemoteProtocolError",
    "Server",
    "Socket",
    "from_thread",
    "socket_of",
]
