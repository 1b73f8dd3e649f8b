"""Measure where the time of an echo and of a socket request goes, in this process and without a network.

python -m benchmarks.hot_path [--quick]

Each figure is the best of many rounds, in microseconds; the rounds of all stages take turns. A whole message goes from the bytes of its
frame to the bytes of the answer's. What the kernel, the sockets and the event loop's turns cost comes on top: `make bench` has that.
"""

from __future__ import annotations

import asyncio
import gc
import platform
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any, cast

import uvloop
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from benchmarks.micro import measure
from mizzen import Handshake, JSONCodec, Server, Socket
from mizzen.options import ServerOptions
from mizzen.protocol.websocket import apply_mask
from mizzen.server.gone import Gone
from mizzen.transports.native import WebSocketProtocol
from mizzen.types import JSON, Receive, Scope, Send
from mizzen.virtual.answer import fold_headers, make_jwr
from mizzen.virtual.dispatch import Exchange
from mizzen.virtual.headers import pin
from mizzen.virtual.request import parse_request
from mizzen.virtual.scope import Kept, build_scope

HEADERS = (
    b"host: 127.0.0.1:8000\r\nuser-agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0\r\n"
    b"accept: */*\r\naccept-encoding: gzip, deflate\r\naccept-language: en-US,en;q=0.9\r\n"
)
UPGRADE = b"connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
ECHO = '42123["echo","xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"]'
REQUEST = '42123["get",{"url":"/hello/0123"}]'
BATCH = 2_000


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with what follows /hello/."""
    body = b'{"hello":"%s"}' % scope["path"][7:].encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Wire(asyncio.Transport):
    """A transport that drops what is written, and counts the writes."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        self._protocol: asyncio.BaseProtocol | None = None

    def write(self, data: object) -> None:
        self.writes += 1

    def writelines(self, list_of_data: object) -> None:
        self.writes += 1

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name in ("peername", "sockname") else default

    def is_closing(self) -> bool:
        return False

    def close(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0


def frame(text: str) -> bytes:
    """Give a short text message as a client frames it."""
    mask, payload = b"\x01\x02\x03\x04", text.encode()
    return bytes((0x81, 0x80 | len(payload))) + mask + apply_mask(payload, mask)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def best(feed: Callable[[], object], messages: int, rounds: int) -> float:
    """Give the best time of a message in microseconds, less that of the two turns of the loop in which its answer leaves."""
    took, idle = float("inf"), float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(BATCH // messages):
            feed()
            await turns(2)
        middle = time.perf_counter()
        for _ in range(BATCH // messages):
            await turns(2)
        took, idle = min(took, middle - start), min(idle, time.perf_counter() - middle)
    return (took - idle) / BATCH * 1e6


async def whole(rounds: int) -> dict[str, float]:
    """Measure whole messages: echo and socket request by Mizzen's WebSocket class, the same request by uvicorn's HTTP."""
    io = Server(hello)

    @io.on("echo")
    async def echo(socket: Socket, value: object) -> object:
        return value

    assert echo is not None
    config = Config(io, access_log=False, log_config=None, ws=WebSocketProtocol)
    config.load()
    wire, state = Wire(), ServerState()
    upgrade = WebSocketProtocol(config, state, {})
    upgrade.connection_made(wire)
    wire.set_protocol(upgrade)
    upgrade.data_received(b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n" + HEADERS + UPGRADE + b"\r\n")
    await turns(10)
    connection = wire.get_protocol()
    assert isinstance(connection, asyncio.Protocol)
    connection.data_received(frame("40"))
    await turns(10)

    http_wire = Wire()
    http = HttpToolsProtocol(config, state, {})
    http.connection_made(http_wire)
    http_request = b"GET /hello/0123 HTTP/1.1\r\n" + HEADERS + b"\r\n"

    found: dict[str, float] = {}
    for name, message, count in (("echo with ack", ECHO, 1), ("echo with ack, 16 at once", ECHO, 16), ("socket request", REQUEST, 1)):
        data, before = frame(message) * count, wire.writes
        connection.data_received(data)
        await turns(5)
        assert wire.writes == before + 1, f"{name} was not answered"
        found[name] = await best(lambda data=data: connection.data_received(data), count, rounds)
    found["the same request by HTTP"] = await best(lambda: http.data_received(http_request), 1, rounds)
    assert http_wire.writes
    await io.close(0)
    return found


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise RuntimeError("the coroutine waits")


class Asker:
    """Wants nothing of what becomes of its requests."""

    def __init__(self) -> None:
        self.options = ServerOptions()

    def answered(self, exchange: Exchange, jwr: JSON) -> None: ...

    def failed(self, exchange: Exchange, error: Exception) -> None: ...

    def cookie_set(self, exchange: Exchange, set_cookie: bytes) -> None: ...


def stages() -> dict[str, Callable[[], object]]:
    """Give the stages of a socket request, and those of an echo that it does not have."""
    codec, gone, socket = JSONCodec(), Gone(), cast("Socket", object())
    decoder = codec.decoder()
    pairs = [line.partition(b": ") for line in (HEADERS + UPGRADE).splitlines()]
    headers = [(name, value) for name, _, value in pairs]
    handshake = Handshake({"type": "websocket", "scheme": "ws", "path": "/socket.io/", "query_string": b"EIO=4", "headers": headers})
    args: list[JSON] = [{"url": "/hello/0123"}]
    request, pinned, body = parse_request("get", args), pin(()), b'{"hello":"0123"}'
    answer_headers = [(b"content-type", b"application/json"), (b"content-length", b"16")]

    kept, asker = Kept(handshake, "root_path"), Asker()

    def scope_of() -> Scope:
        return build_scope(kept, request, socket, {}, None, pinned)

    scope = scope_of()

    async def drop(_: object) -> None: ...

    def app_by_exchange() -> None:
        run(Exchange(asker, request, gone, socket, 1, b"").run(hello, scope))

    def jwr() -> dict[str, JSON]:
        return make_jwr("GET", 200, fold_headers(answer_headers), body)

    answer = jwr()
    return {
        "request: decode the packet": lambda: decoder.feed(REQUEST[1:]),
        "request: parse": lambda: parse_request("get", args),
        "request: scope": scope_of,
        "request: run the app (with the next two)": app_by_exchange,
        "request:   the app's own": lambda: run(hello(scope, None, drop)),  # pyright: ignore[reportArgumentType]
        "request:   the JWR": jwr,
        "request: encode the ack": lambda: codec.encode_ack("/", (answer,), 123),
        "echo: decode the packet": lambda: decoder.feed(ECHO[1:]),
        "echo: encode the ack": lambda: codec.encode_ack("/", ("x" * 32,), 123),
        "echo: encode the ack and its frame": lambda: codec.encode_ack("/", ("x" * 32,), 123).frames(4),
    }


def main() -> None:
    """Measure and print."""
    rounds, seconds = (3, 0.002) if "--quick" in sys.argv[1:] else (15, 0.01)
    gc.collect()
    gc.freeze()
    print(f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}; µs\n")
    for name, took in uvloop.run(whole(rounds)).items():
        print(f"{name:44}{took:7.2f}")
    print()
    named = stages()
    for name, took in zip(named, measure(list(named.values()), rounds, seconds), strict=True):
        print(f"{name:44}{took * 1e6:7.2f}")


if __name__ == "__main__":
    main()
