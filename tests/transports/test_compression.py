"""HTTP compression of polls, and what `compress` says of a single message, on every transport."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import zlib

import pytest

from mizzen import Server
from mizzen.protocol.encoded import Encoded
from mizzen.transports import compression
from mizzen.transports.compression import LARGE, compress, preferred_coding
from tests.support import until
from tests.transports.exchange import Answer, Request, ask, engine_target, handshake, only_connection
from tests.transports.wire import NativeWebSocket

LONG = "a long word " * 200
EVENT = ('42["m","' + LONG + '"]').encode()
DECODERS = {"gzip": gzip.decompress, "deflate": zlib.decompress, None: bytes}


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        ("", None),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate", "gzip"),
        ("deflate, gzip", "gzip"),
        ("gzip, deflate, br, zstd", "gzip"),
        ("br", None),
        ("br, zstd", None),
        ("identity", None),
        ("*", "gzip"),
        ("GZIP", "gzip"),
        ("x-gzip", "gzip"),
        ("gzip;q=0.5, deflate;q=0.8", "deflate"),
        ("gzip;q=0.5,deflate", "deflate"),
        ("gzip;q=0", None),
        ("gzip;q=0.000, deflate", "deflate"),
        ("gzip;q=0, *", "deflate"),
        ("*;q=0", None),
        ("gzip, *;q=0", "gzip"),
        ("identity, gzip;q=0.5", None),
        ("identity;q=0.5, gzip", "gzip"),
        ("identity;q=0, gzip;q=0.1", "gzip"),
        ("gzip; q=0.3", "gzip"),
        ("gzip;Q=0", None),
        ("gzip;q=2", None),
        ("gzip;q=abc", None),
        ("gzip;q=-1", None),
        (" , ,gzip", "gzip"),
        ("gzipx", None),
    ],
)
def test_the_coding_is_the_one_that_the_client_likes_best(accepted: str, expected: str | None) -> None:
    assert preferred_coding(accepted) == expected


async def poll(io: Server, accepted: str | None = "gzip", *, query: str = "", eio: int = 4) -> tuple[Request, str]:
    """Open a session that has joined and leave a GET waiting; give it and the target."""
    target = engine_target(query, eio=eio, sid=(await handshake(io, query, eio=eio))["sid"])
    if eio == 4:
        await ask(io, "POST", target, b"40")
        await ask(io, "GET", target)
    request = Request(io, "GET", target, headers={} if accepted is None else {"accept-encoding": accepted})
    await until(lambda: any(each.transport.writable for each in io.sessions.connections.values() if each.sid in target))
    return request, target


def plain(answer: Answer) -> bytes:
    """Give the body of an answer, whatever its coding."""
    return DECODERS[answer.header("content-encoding")](answer.body)


@pytest.mark.parametrize("accepted", ["gzip", "deflate"])
@pytest.mark.parametrize("eio", [3, 4])
async def test_a_large_answer_to_a_poll_is_compressed_as_the_client_asks(accepted: str, eio: int) -> None:
    async with Server(close_grace=0) as io:
        request, _ = await poll(io, accepted, eio=eio)
        io.emit("m", LONG)
        answer = await request.answer()
        assert answer.header("content-encoding") == accepted
        assert answer.header("content-type") == "text/plain; charset=UTF-8"
        assert answer.header("vary") == "Accept-Encoding"
        assert len(answer.body) < len(LONG) / 10
        assert plain(answer) == (EVENT if eio == 4 else b"%d:%b" % (len(EVENT), EVENT))


@pytest.mark.parametrize("accepted", [None, "br", "gzip;q=0", "identity"])
async def test_a_client_that_takes_no_coding_gets_none(accepted: str | None) -> None:
    async with Server(close_grace=0) as io:
        request, _ = await poll(io, accepted)
        io.emit("m", LONG)
        answer = await request.answer()
        assert answer.header("content-encoding") is None
        assert answer.header("vary") == "Accept-Encoding"  # another one would have got something else
        assert answer.body == EVENT


@pytest.mark.parametrize(("more", "compressed"), [(0, True), (-1, False)])
async def test_answers_are_compressed_from_the_threshold_on(more: int, compressed: bool) -> None:
    empty = len('42["m",""]')
    async with Server(close_grace=0) as io:
        request, _ = await poll(io)
        io.emit("m", "a" * (1024 - empty + more))
        answer = await request.answer()
        assert (answer.header("content-encoding") == "gzip") is compressed
        assert (answer.header("vary") is not None) is compressed
        assert len(plain(answer)) == 1024 + more


@pytest.mark.parametrize(("option", "size", "compressed"), [(False, 5000, False), (True, 5000, True), (100, 200, True), (100, 50, False)])
async def test_the_option_switches_it_off_or_sets_the_threshold(option: bool | int, size: int, compressed: bool) -> None:
    async with Server(close_grace=0, http_compression=option) as io:
        request, _ = await poll(io)
        io.emit("m", "a" * size)
        answer = await request.answer()
        assert (answer.header("content-encoding") == "gzip") is compressed


async def test_vary_names_the_origin_too_where_the_answer_depends_on_it() -> None:
    async with Server(close_grace=0, cors_origins=["https://page.example"]) as io:
        request, _ = await poll(io)
        io.emit("m", LONG)
        assert (await request.answer()).header("vary") == "Origin, Accept-Encoding"


@pytest.mark.parametrize(
    ("flags", "compressed"), [([True], True), ([False], False), ([False, False], False), ([False, True], True), ([True, False], True)]
)
async def test_an_answer_is_compressed_if_one_of_its_messages_may_be(flags: list[bool], compressed: bool) -> None:
    async with Server(close_grace=0) as io:
        request, _ = await poll(io)
        for flag in flags:
            encoded = Encoded(EVENT)
            encoded.compress = flag
            only_connection(io).write(encoded)
        answer = await request.answer()
        assert (answer.header("content-encoding") == "gzip") is compressed
        assert plain(answer) == b"\x1e".join([EVENT] * len(flags))


@pytest.mark.parametrize("text", [LONG, "b" * (2 * LARGE)], ids=["small", "large"])
async def test_a_broadcast_is_compressed_once_for_all_who_poll(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    calls: list[int] = []

    def counting(body: bytes, coding: str, level: int = 3) -> bytes:
        calls.append(len(body))
        return compress(body, coding, level)

    monkeypatch.setattr(compression, "compress", counting)
    async with Server(close_grace=0) as io:
        requests = [(await poll(io))[0] for _ in range(5)]
        io.emit("m", text)
        answers = [await request.answer() for request in requests]
    event = f'42["m","{text}"]'.encode()
    assert [plain(answer) for answer in answers] == [event] * 5
    assert {answer.header("content-encoding") for answer in answers} == {"gzip"}
    assert calls == [len(event)]


async def test_a_large_body_is_compressed_while_the_loop_does_other_work() -> None:
    body = json.dumps([{"id": id, "square": id * id} for id in range(120_000)]).encode()
    turns = 0

    async def other_work() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other_work())
    compressed = await compression.compress_aside(body, "gzip")
    task.cancel()
    assert gzip.decompress(compressed) == body
    assert turns > 10


async def test_a_poll_that_is_cut_off_while_its_answer_is_compressed_ends_its_session(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, may_go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def slow(body: bytes, coding: str, level: int = 3) -> bytes:
        loop.call_soon_threadsafe(begun.set)
        may_go_on.wait()
        return compress(body, coding, level)

    monkeypatch.setattr(compression, "compress", slow)
    async with Server(close_grace=0) as io:
        request, _ = await poll(io)
        io.emit("m", "c" * (2 * LARGE))
        await begun.wait()
        request.task.cancel()
        try:
            with pytest.raises(asyncio.CancelledError):
                await request.ended()
            assert not io.sessions.connections
        finally:
            may_go_on.set()


# permessage-deflate


def frames_of(data: bytes) -> list[tuple[bool, bytes]]:
    """Give RSV1 and payload of each frame of a server."""
    frames: list[tuple[bool, bytes]] = []
    while data:
        size, start = data[1], 2
        if size == 126:
            size, start = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, start = int.from_bytes(data[2:10], "big"), 10
        frames.append((bool(data[0] & 0x40), data[start : start + size]))
        data = data[start + size :]
    return frames


@pytest.mark.parametrize("compress", [True, False])
def test_a_message_says_itself_whether_its_frame_is_compressed(compress: bool) -> None:
    encoded = Encoded(EVENT, (b"\x01" * 2000,))
    encoded.compress = compress
    frames = frames_of(encoded.deflated_frames(4, False, 1024))
    assert [flag for flag, _ in frames] == [compress, compress]
    assert ([payload for _, payload in frames] == [EVENT, b"\x01" * 2000]) is not compress


async def test_on_the_native_path_a_message_goes_uncompressed_where_it_says_so() -> None:
    headers = {"sec-websocket-extensions": "permessage-deflate"}
    async with Server(close_grace=0, per_message_deflate=True) as io:
        websocket = NativeWebSocket(io, engine_target(transport="websocket"), headers)
        await websocket.accepted()
        await websocket.receive()
        connection = only_connection(io)
        sizes: list[int] = []
        for flag in (True, False):
            websocket.pipe.written.clear()
            encoded = Encoded(EVENT)
            encoded.compress = flag
            connection.write(encoded)
            await until(lambda: len(websocket.pipe.written) > 0)
            sizes.append(len(websocket.pipe.written))
        assert sizes[0] < 200
        assert sizes[1] == len(EVENT) + 4
        websocket.close()
