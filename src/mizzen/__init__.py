"""Realtime for Python: Socket.IO, and socket requests that run through the routes of your web app.

from fastapi import FastAPI
from mizzen import Server, Socket

api = FastAPI()
io = Server(api)                      # io is the ASGI app: `mizzen run app:io`, or `uvicorn app:io`
"""

from mizzen.client.client import Client
from mizzen.client.response import Response, StatusError
from mizzen.client.socket import ClientSocket
from mizzen.client.sync import SyncClient, SyncClientSocket
from mizzen.client.transport import SocketTransport
from mizzen.errors import (
    AckTimeout,
    ArgumentsInvalid,
    ConnectFailed,
    ConnectionClosed,
    ConnectRefused,
    EventRefused,
    LocalProtocolError,
    MizzenError,
    OptionsError,
    ProtocolError,
    RemoteError,
    RemoteProtocolError,
)
from mizzen.events import Event
from mizzen.options import ConnectionStateRecovery, Cookie
from mizzen.protocol.codec import JSONCodec
from mizzen.protocol.engine_packet import EnginePacket
from mizzen.protocol.msgpack import MsgpackCodec
from mizzen.server.connection import Connection
from mizzen.server.engine import RefusedRequest, ResponseHeaders
from mizzen.server.namespace import Namespace, ParentNamespace
from mizzen.server.operator import Operator, SocketOperator
from mizzen.server.remote import RemoteSocket
from mizzen.server.server import Server
from mizzen.server.socket import Socket
from mizzen.tasks import from_thread
from mizzen.types import JSON, Handshake, Reason, RoomEvent
from mizzen.virtual.requests import socket_of

__all__ = [
    "JSON",
    "AckTimeout",
    "ArgumentsInvalid",
    "Client",
    "ClientSocket",
    "ConnectFailed",
    "ConnectRefused",
    "Connection",
    "ConnectionClosed",
    "ConnectionStateRecovery",
    "Cookie",
    "EnginePacket",
    "Event",
    "EventRefused",
    "Handshake",
    "JSONCodec",
    "LocalProtocolError",
    "MizzenError",
    "MsgpackCodec",
    "Namespace",
    "Operator",
    "OptionsError",
    "ParentNamespace",
    "ProtocolError",
    "Reason",
    "RefusedRequest",
    "RemoteError",
    "RemoteProtocolError",
    "RemoteSocket",
    "Response",
    "ResponseHeaders",
    "RoomEvent",
    "Server",
    "Socket",
    "SocketOperator",
    "SocketTransport",
    "StatusError",
    "SyncClient",
    "SyncClientSocket",
    "from_thread",
    "socket_of",
]
