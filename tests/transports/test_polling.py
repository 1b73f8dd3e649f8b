"""HTTP long-polling: payloads of both protocols, one GET and one POST at a time, and every way in which a session ends."""

from __future__ import annotations

import asyncio
import base64

import pytest

from mizzen import Reason, Server, Socket
from tests.support import until
from tests.transports.exchange import Ends, Peer, Request, ask, engine_target, handshake, nothing_is_left, only_connection, open_peer

BAD_REQUEST = (400, 3, "Bad request")
UNKNOWN_SESSION = (400, 1, "Session ID unknown")
TEXT = "text/plain; charset=UTF-8"
BINARY = "application/octet-stream"


async def open_session(io: Server, eio: int = 4, query: str = "") -> str:
    """Open a session, join the main namespace (Engine.IO 3 is in it from the start); give the target of its requests."""
    target = engine_target(query, eio=eio, sid=(await handshake(io, query, eio=eio))["sid"])
    if eio == 4:
        assert (await ask(io, "POST", target, b"40")).status == 200
        assert (await ask(io, "GET", target)).body.startswith(b"40{")
    return target


async def waiting(io: Server, target: str) -> Request:
    """Begin a GET and wait until it waits."""
    poll = Request(io, "GET", target)
    await until(lambda: only_connection(io).transport.writable)
    return poll


BINARY_EVENT = b'451-["b",{"_placeholder":true,"num":0}]'


@pytest.mark.parametrize(
    ("eio", "query", "content_type", "expected"),
    [
        (4, "", TEXT, b'42["t","caf\xc3\xa9 \xf0\x9f\x8d\xb0"]\x1e' + BINARY_EVENT + b"\x1ebAQID"),
        (4, "b64=1", TEXT, b'42["t","caf\xc3\xa9 \xf0\x9f\x8d\xb0"]\x1e' + BINARY_EVENT + b"\x1ebAQID"),
        (
            3,
            "",
            BINARY,
            b'\x00\x02\x00\xff42["t","caf\xc3\xa9 \xf0\x9f\x8d\xb0"]\x00\x03\x09\xff' + BINARY_EVENT + b"\x01\x04\xff\x04\x01\x02\x03",
        ),
        (3, "b64=1", TEXT, b'17:42["t","caf\xc3\xa9 \xf0\x9f\x8d\xb0"]39:' + BINARY_EVENT + b"6:b4AQID"),
    ],
)
async def test_a_poll_is_answered_in_the_payload_of_its_protocol(eio: int, query: str, content_type: str, expected: bytes) -> None:
    async with Server() as io:
        target = await open_session(io, eio, query)
        poll = await waiting(io, target)
        io.emit("t", "café 🍰")
        io.emit("b", b"\x01\x02\x03")
        answer = await poll.answer()
        assert answer.body == expected
        assert answer.header("content-type") == content_type
        assert answer.header("cache-control") == "no-store"
        assert answer.header("content-length") == str(len(expected))


async def test_engine_io_3_counts_utf16_units_and_answers_text_as_text() -> None:
    async with Server() as io:
        target = await open_session(io, 3)
        io.emit("t", "🍰")
        answer = await ask(io, "GET", target)
        assert answer.body.decode() == '12:42["t","🍰"]'
        assert answer.header("content-type") == TEXT


@pytest.mark.parametrize(
    ("eio", "body", "content_type"),
    [
        (4, b'42["t","caf\xc3\xa9"]\x1e451-["b",{"_placeholder":true,"num":0}]\x1ebAQID', "text/plain;charset=UTF-8"),
        (3, b'14:42["t","caf\xc3\xa9"]39:451-["b",{"_placeholder":true,"num":0}]6:b4AQID', "text/plain;charset=UTF-8"),
        (
            3,
            b'\x00\x01\x05\xff42["t","caf\xc3\xa9"]\x00\x03\x09\xff451-["b",{"_placeholder":true,"num":0}]\x01\x04\xff\x04\x01\x02\x03',
            BINARY,
        ),
    ],
)
@pytest.mark.parametrize("chunks", [1, 3, 0], ids=["whole", "chunked", "byte by byte"])
async def test_a_post_brings_text_and_binary(eio: int, body: bytes, content_type: str, chunks: int) -> None:
    async with Server() as io:
        seen: list[object] = []
        io.on("t", lambda socket, text: seen.append(text))
        io.on("b", lambda socket, data: seen.append(data))
        target = await open_session(io, eio)
        post = Request(io, "POST", target, None, {"content-type": content_type})
        step = -(-len(body) // chunks) if chunks else 1
        for start in range(0, len(body), step):
            post.chunk(body[start : start + step])
        post.chunk(b"", more=False)
        answer = await post.answer()
        assert (answer.status, answer.body, answer.header("content-type")) == (200, b"ok", "text/html")
        await until(lambda: len(seen) == 2)
        assert seen == ["café", b"\x01\x02\x03"]


@pytest.mark.parametrize("eio", [3, 4])
async def test_one_get_takes_everything_that_waits(eio: int) -> None:
    async with Server() as io:
        target = await open_session(io, eio)
        for number in range(100):
            io.emit("n", number)
            if number % 10 == 0:
                await asyncio.sleep(0)
        body = (await ask(io, "GET", target)).body.decode()
        positions = [body.index(f'42["n",{number}]') for number in range(100)]
        assert positions == sorted(positions)
        poll = await waiting(io, target)
        assert poll.sent.empty()
        io.emit("last")
        assert b"last" in (await poll.answer()).body


@pytest.mark.parametrize(("eio", "close_packet"), [(4, b"1"), (3, b"1:1")])
async def test_a_second_get_at_once_ends_the_session(eio: int, close_packet: bytes) -> None:
    async with Server() as io:
        ends = Ends(io)
        target = await open_session(io, eio)
        poll = await waiting(io, target)
        assert (await ask(io, "GET", target)).error == BAD_REQUEST
        answer = await poll.answer()
        assert (answer.status, answer.body) == (200, close_packet)
        await until(lambda: nothing_is_left(io))
        assert ends.reasons == [Reason.TRANSPORT_ERROR]
        assert (await ask(io, "GET", target)).error == UNKNOWN_SESSION


@pytest.mark.parametrize("late", [b"40", b'42["late"]', b"1", b"2", b"3", b"5", b"6", b"x", b"bAQID", b"0", b"2\x1e1\x1e3"])
@pytest.mark.parametrize("eio", [3, 4])
async def test_a_second_post_at_once_ends_the_session_and_what_the_first_still_brings_is_nothing(eio: int, late: bytes) -> None:
    async with Server() as io:
        ends = Ends(io)
        calls: list[str] = []
        io.on("late", lambda socket: calls.append("late"))
        target = await open_session(io, eio)
        if eio == 3:
            late = b"".join(b"%d:%b" % (len(packet), packet) for packet in late.replace(b"bA", b"b4A").split(b"\x1e"))
        poll = await waiting(io, target)
        first = Request(io, "POST", target, None)
        first.chunk(b"")
        await asyncio.sleep(0)
        assert (await ask(io, "POST", target, b"6" if eio == 4 else b"1:6")).error == BAD_REQUEST
        assert (await poll.answer()).body == (b"1" if eio == 4 else b"1:1")
        first.chunk(late, more=False)
        assert (await first.answer()).status in (200, 400)
        await until(lambda: nothing_is_left(io))
        assert ends.reasons == [Reason.TRANSPORT_ERROR]
        assert calls == []


@pytest.mark.parametrize(
    ("eio", "body"),
    [
        (4, b""),
        (4, b"x"),
        (4, b"7"),
        (4, b"4\x1e"),
        (4, b"\x1e4"),
        (4, b"6\x1e\x1e6"),
        (4, b"b!!!!"),
        (4, b"bAQI"),
        (4, b"4\xff"),
        (4, b"d=42"),
        (3, b""),
        (3, b"40"),
        (3, b"3:40"),
        (3, b"-1:4"),
        (3, b"a:4"),
        (3, b"2:x0"),
        (3, b"6:b4!!!!"),
        (3, b"99999999999999999999:4"),
        (3, b"2:\xff\xff"),
    ],
)
async def test_a_malformed_payload_is_refused_and_ends_the_session(eio: int, body: bytes) -> None:
    async with Server() as io:
        ends = Ends(io)
        target = await open_session(io, eio)
        poll = await waiting(io, target)
        assert (await ask(io, "POST", target, body)).error == BAD_REQUEST
        assert (await poll.answer()).body == (b"1" if eio == 4 else b"1:1")
        await until(lambda: nothing_is_left(io))
        assert ends.reasons == [Reason.PARSE_ERROR]


async def test_what_stood_before_the_malformed_packet_is_not_taken_either() -> None:
    async with Server() as io:
        calls: list[str] = []
        io.on("before", lambda socket: calls.append("before"))
        target = await open_session(io)
        assert (await ask(io, "POST", target, b'42["before"]\x1ex')).error == BAD_REQUEST
        await until(lambda: nothing_is_left(io))
        assert calls == []


@pytest.mark.parametrize("content_type", [BINARY, "application/octet-stream; charset=x", "Application/Octet-Stream"])
async def test_engine_io_4_knows_no_binary_body(content_type: str) -> None:
    async with Server() as io:
        ends = Ends(io)
        target = await open_session(io)
        poll = await waiting(io, target)
        assert (await ask(io, "POST", target, b"4", {"content-type": content_type})).error == BAD_REQUEST
        assert (await poll.answer()).body == b"1"
        await until(lambda: nothing_is_left(io))
        assert ends.reasons == [Reason.TRANSPORT_ERROR]


@pytest.mark.parametrize(
    ("packet", "reason"), [(b"2", Reason.TRANSPORT_ERROR), (b"5", Reason.TRANSPORT_ERROR), (b"0{}", Reason.PARSE_ERROR)]
)
async def test_a_packet_that_a_client_may_not_send_ends_the_session(packet: bytes, reason: Reason) -> None:
    async with Server() as io:
        ends = Ends(io)
        target = await open_session(io)
        await ask(io, "POST", target, packet)
        await until(lambda: nothing_is_left(io))
        assert ends.reasons == [reason]


async def test_a_malformed_socket_io_packet_ends_the_session_with_forced_close() -> None:
    async with Server() as io:
        ends = Ends(io)
        target = await open_session(io)
        poll = await waiting(io, target)
        assert (await ask(io, "POST", target, b"42{")).status == 200
        assert (await poll.answer()).body == b"1"
        await until(lambda: nothing_is_left(io))
        assert ends.reasons == [Reason.FORCED_CLOSE]


@pytest.mark.parametrize("declared", [True, False], ids=["content-length", "chunked"])
@pytest.mark.parametrize("eio", [3, 4])
async def test_a_body_that_is_too_large_is_refused_and_the_session_survives(eio: int, declared: bool) -> None:
    async with Server(max_payload=20) as io:
        target = await open_session(io, eio)
        headers = {"content-length": "21"} if declared else {}
        post = Request(io, "POST", target, None, headers)
        if not declared:
            post.chunk(b"4" * 11)
            post.chunk(b"4" * 10)
        answer = await post.answer()
        assert (answer.status, answer.body) == (413, b"")
        assert (await ask(io, "POST", target, b"4" + b'2["x","aaaaaaaaaaa"]'[:19] if eio == 4 else b'15:42["x","aaaaa"]')).status == 200
        assert not only_connection(io).gone


@pytest.mark.parametrize("length", ["99999999999999999999999999", "9" * 5000, "21"])
async def test_any_declared_length_that_is_too_large_is_refused_without_reading(length: str) -> None:
    async with Server(max_payload=20) as io:
        target = await open_session(io)
        assert (await Request(io, "POST", target, None, {"content-length": length}).answer()).status == 413
        assert not only_connection(io).gone


async def test_a_body_of_exactly_max_payload_is_taken() -> None:
    async with Server(max_payload=30) as io:
        seen: list[str] = []
        io.on("x", lambda socket, text: seen.append(text))
        target = await open_session(io)
        body = b'42["x","' + b"a" * 20 + b'"]'
        assert len(body) == 30
        assert (await ask(io, "POST", target, body)).status == 200
        await until(lambda: seen == ["a" * 20])


async def test_a_poll_that_the_client_cuts_off_ends_the_session() -> None:
    async with Server() as io:
        ends = Ends(io)
        poll = await waiting(io, await open_session(io))
        poll.hang_up()
        await poll.ended()
        await until(lambda: nothing_is_left(io))
        assert ends.reasons == [Reason.TRANSPORT_ERROR]
        assert poll.sent.empty()


async def test_a_poll_that_the_server_cancels_ends_the_session() -> None:
    async with Server() as io:
        ends = Ends(io)
        poll = await waiting(io, await open_session(io))
        poll.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await poll.task
        await until(lambda: nothing_is_left(io))
        assert ends.reasons == [Reason.TRANSPORT_ERROR]


async def test_a_post_that_the_client_cuts_off_ends_the_session() -> None:
    async with Server() as io:
        ends = Ends(io)
        target = await open_session(io)
        post = Request(io, "POST", target, None)
        post.chunk(b"4")
        post.hang_up()
        await asyncio.wait({post.task})
        assert post.task.exception() is None
        await until(lambda: nothing_is_left(io))
        assert ends.reasons == [Reason.TRANSPORT_ERROR]


@pytest.mark.parametrize(("eio", "close", "noop"), [(4, b"1", b"6"), (3, b"1:1", b"1:6")])
async def test_a_close_packet_ends_the_session_and_the_waiting_poll_gets_a_noop(eio: int, close: bytes, noop: bytes) -> None:
    async with Server() as io:
        ends = Ends(io)
        target = await open_session(io, eio)
        poll = await waiting(io, target)
        answer = await ask(io, "POST", target, close)
        assert (answer.status, answer.body) == (200, b"ok")
        answer = await poll.answer()
        assert (answer.status, answer.body) == (200, noop)
        await until(lambda: nothing_is_left(io))
        assert ends.reasons == [Reason.TRANSPORT_CLOSE]


async def test_what_stands_behind_a_close_packet_is_not_taken() -> None:
    async with Server() as io:
        calls: list[str] = []
        io.on("after", lambda socket: calls.append("after"))
        target = await open_session(io)
        assert (await ask(io, "POST", target, b'1\x1e42["after"]\x1e1')).status == 200
        await until(lambda: nothing_is_left(io))
        assert calls == []


@pytest.mark.parametrize("pending", [True, False], ids=["a poll waits", "no poll waits"])
async def test_a_close_by_the_server_tells_what_is_left_and_then_the_end(pending: bool) -> None:
    async with Server() as io:
        ends = Ends(io)
        target = await open_session(io)
        poll = await waiting(io, target) if pending else None
        (socket,) = io.sockets.values()
        socket.emit("last")
        socket.disconnect(close=True)
        socket.emit("too late")
        assert (await (poll or Request(io, "GET", target)).answer()).body == b'42["last"]\x1e41\x1e1'
        await until(lambda: nothing_is_left(io))
        assert ends.reasons == [Reason.SERVER_NAMESPACE_DISCONNECT]
        assert (await ask(io, "GET", target)).error == UNKNOWN_SESSION


@pytest.mark.parametrize("eio", [3, 4])
async def test_closing_the_server_answers_the_waiting_poll_with_the_end(eio: int) -> None:
    io = Server()
    ends = Ends(io)
    io.start()
    target = await open_session(io, eio)
    poll = await waiting(io, target)
    await io.close()
    assert (await poll.answer()).body == (b"1" if eio == 4 else b"1:1")
    assert ends.reasons == [Reason.SERVER_SHUTTING_DOWN]
    assert nothing_is_left(io)


async def test_a_client_that_never_polls_again_times_out() -> None:
    async with Server(ping_interval=0.01, ping_timeout=0.01) as io:
        ends = Ends(io)
        await open_session(io)
        await until(lambda: nothing_is_left(io))
        assert ends.reasons == [Reason.PING_TIMEOUT]


@pytest.mark.parametrize("eio", [3, 4])
async def test_a_client_that_joins_nothing_is_closed_in_time(eio: int) -> None:
    async with Server(connect_timeout=0.02) as io:
        target = engine_target(eio=eio, sid=(await handshake(io, eio=eio))["sid"])
        if eio == 3:
            # socket.io 2 is in the main namespace without asking
            await until(lambda: len(io.sockets) == 1)
            assert len(io.unconnected) == 0
        else:
            assert (await ask(io, "GET", target)).body == b"1"
            await until(lambda: nothing_is_left(io))


async def test_a_heartbeat_goes_by_polls_and_posts() -> None:
    async with Server(ping_interval=0.01, ping_timeout=5) as io:
        target = await open_session(io)
        for _ in range(3):
            assert (await ask(io, "GET", target)).body == b"2"
            assert (await ask(io, "POST", target, b"3")).status == 200
    async with Server() as io:
        target = await open_session(io, 3)
        for _ in range(3):
            assert (await ask(io, "POST", target, b"1:2")).status == 200
            assert (await ask(io, "GET", target)).body == b"1:3"


async def test_one_binary_broadcast_reaches_polling_and_websocket_clients_of_both_protocols() -> None:
    payload = bytes(range(256))
    async with Server() as io:
        forms = [
            ("polling", 4, ""),
            ("websocket", 4, ""),
            ("polling", 3, ""),
            ("websocket", 3, ""),
            ("polling", 3, "b64=1"),
            ("polling", 4, "b64=1"),
        ]
        peers = [Peer(io, eio, query=query) for _, eio, query in forms]
        for peer, (carrier, eio, _) in zip(peers, forms, strict=True):
            await peer.open(carrier)
            if eio == 4:
                peer.send("40")
            await peer.receive()
        io.emit("b", payload, {"again": payload})
        for peer in peers:
            assert await peer.receive() == '52-["b",{"_placeholder":true,"num":0},{"again":{"_placeholder":true,"num":1}}]'
            assert [await peer.receive(), await peer.receive()] == [payload, payload]
        for peer in peers:
            await peer.close()


async def test_b64_is_asked_for_by_the_session_and_holds_for_all_its_polls() -> None:
    async with Server() as io:
        sid = (await handshake(io, "b64=1", eio=3))["sid"]
        target = engine_target(eio=3, sid=sid)
        io.emit("b", b"\x00\xff")
        answer = await ask(io, "GET", target)
        assert answer.header("content-type") == TEXT
        assert answer.body.endswith(b"b4" + base64.b64encode(b"\x00\xff"))


async def test_a_volatile_packet_goes_only_where_a_poll_waits() -> None:
    async with Server() as io:
        target = await open_session(io)
        io.volatile.emit("dropped")
        poll = await waiting(io, target)
        io.volatile.emit("sent")
        io.volatile.emit("of the same turn")
        assert (await poll.answer()).body == b'42["sent"]\x1e42["of the same turn"]'
        io.volatile.emit("dropped")
        io.emit("kept")
        assert (await ask(io, "GET", target)).body == b'42["kept"]'


async def test_while_the_inbox_is_full_the_post_waits() -> None:
    go_on = asyncio.Event()
    seen: list[int] = []

    async def slow(socket: Socket, number: int, padding: str) -> None:
        await go_on.wait()
        seen.append(number)

    async with Server(max_handlers=1, max_buffer=300) as io:
        io.on("n", slow)
        target = await open_session(io)
        packets = [f'42["n",{number},"{"a" * 100}"]' for number in range(6)]
        post = Request(io, "POST", target, "\x1e".join(packets).encode())
        await until(lambda: only_connection(io).paused)
        assert post.sent.empty()
        go_on.set()
        assert (await post.answer()).status == 200
        await until(lambda: len(seen) == 6)
        assert seen == list(range(6))


async def test_a_peer_that_leaves_by_itself_leaves_nothing() -> None:
    async with Server() as io:
        for eio in (3, 4):
            async with open_peer(io, "polling", eio) as peer:
                await peer.sent()
                io.emit("x")
                assert await peer.receive() == '2["x"]'
            await until(lambda: nothing_is_left(io))
