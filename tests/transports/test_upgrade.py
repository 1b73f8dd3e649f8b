"""From polling to WebSocket: nothing lost, nothing reordered, and a failed attempt that leaves the session where it was."""

from __future__ import annotations

import asyncio

import pytest

from mizzen import Reason, Server
from tests.support import until
from tests.transports.exchange import (
    Ends,
    Peer,
    Request,
    WebSocket,
    ask,
    engine_target,
    handshake,
    nothing_is_left,
    only_connection,
    open_peer,
)
from tests.transports.paths import dial

pytestmark = pytest.mark.usefixtures("path")

EVENTS = 400


async def open_session(io: Server) -> str:
    """Open a session that has joined; give its sid."""
    sid = (await handshake(io))["sid"]
    assert (await ask(io, "POST", engine_target(sid=sid), b"40")).status == 200
    assert (await ask(io, "GET", engine_target(sid=sid))).body.startswith(b"40{")
    return sid


async def open_probe(io: Server, sid: str, *messages: str | bytes) -> WebSocket:
    """Open the second WebSocket of a session and send what its client says."""
    websocket = dial(io, engine_target(transport="websocket", sid=sid))
    await websocket.accepted()
    for message in messages:
        websocket.send(message)
    return websocket


async def upgraded(io: Server, sid: str) -> WebSocket:
    """Take a session to WebSocket."""
    websocket = await open_probe(io, sid, "2probe")
    assert await websocket.receive() == "3probe"
    websocket.send("5")
    await until(lambda: only_connection(io).transport.name == "websocket")
    return websocket


async def polling_works(io: Server, sid: str) -> None:
    """See that the session still carries messages by polling."""
    assert not only_connection(io).probing
    io.emit("by polling")
    assert (await ask(io, "GET", engine_target(sid=sid))).body == b'42["by polling"]'


def numbers_in(peer: Peer, binary: bool) -> list[int]:
    """Give the numbers of the events that a peer has received so far."""
    numbers: list[int] = []
    while not peer.messages.empty():
        message = peer.messages.get_nowait()
        if isinstance(message, bytes):
            assert binary
            numbers.append(int.from_bytes(message, "big"))
        elif message.startswith('2["n",'):
            numbers.append(int(message[6:-1]))
        else:
            assert message == '51-["n",{"_placeholder":true,"num":0}]', message
    return numbers


@pytest.mark.parametrize("pace", [0, 1, 7], ids=["a burst each turn", "one each turn", "seven each turn"])
@pytest.mark.parametrize("eio", [3, 4])
async def test_under_load_nothing_is_lost_or_reordered_in_either_direction(eio: int, pace: int) -> None:
    received: list[int] = []

    def is_binary(number: int) -> bool:
        return number % 10 == 3

    async def take(socket: object, number: object) -> None:
        received.append(int.from_bytes(number, "big") if isinstance(number, bytes) else number)  # pyright: ignore[reportArgumentType]

    async with Server() as io:
        io.on("n", take)
        async with open_peer(io, "polling", eio, dial=dial) as peer:
            phase = [0]

            def step() -> None:
                phase[0] += 1

            async def talk_down() -> None:
                for number in range(EVENTS):
                    io.emit("n", number.to_bytes(4, "big") if is_binary(number) else number)
                    await breathe(number)

            async def talk_up() -> None:
                for number in range(EVENTS):
                    if is_binary(number):
                        peer.send('451-["n",{"_placeholder":true,"num":0}]', number.to_bytes(4, "big"))
                    else:
                        peer.send(f'42["n",{number}]')
                    await breathe(number)

            async def breathe(number: int) -> None:
                # A fifth of the events in each phase of the upgrade, whatever that takes.
                while phase[0] * EVENTS // 5 <= number and phase[0] < 5:
                    await asyncio.sleep(0)
                if pace and number % pace == 0:
                    await asyncio.sleep(0)

            step()
            async with asyncio.timeout(10):
                async with asyncio.TaskGroup() as group:
                    group.create_task(talk_down())
                    group.create_task(talk_up())
                    await peer.upgrade(step)
                await peer.sent()
                await until(lambda: len(received) >= EVENTS)
                await until(lambda: numbers_are_complete(peer))
            assert received == list(range(EVENTS))
            assert numbers_in(peer, binary=True) == list(range(EVENTS))
            assert only_connection(io).transport.name == "websocket"
        await until(lambda: nothing_is_left(io))


def numbers_are_complete(peer: Peer) -> bool:
    """Say whether all events have come: those with an attachment are two messages."""
    return peer.messages.qsize() >= EVENTS + EVENTS // 10


@pytest.mark.parametrize("eio", [3, 4])
async def test_after_the_upgrade_the_session_is_the_same(eio: int) -> None:
    async with Server() as io:
        ends = Ends(io)
        async with open_peer(io, "polling", eio, dial=dial) as peer:
            (socket,) = io.sockets.values()
            socket.join("room")
            assert socket.transport == "polling"
            await peer.upgrade()
            await until(lambda: socket.transport == "websocket")
            io.to("room").emit("x", b"\x01")
            assert await peer.receive() == '51-["x",{"_placeholder":true,"num":0}]'
            assert await peer.receive() == b"\x01"
        await until(lambda: nothing_is_left(io))
        assert ends.reasons == [Reason.TRANSPORT_CLOSE]


async def test_a_silent_probe_stops_no_message_and_answers_no_poll_by_itself() -> None:
    async with Server() as io:
        sid = await open_session(io)
        probe = await open_probe(io, sid)
        await until(lambda: only_connection(io).probing)
        poll = Request(io, "GET", engine_target(sid=sid))
        await until(lambda: only_connection(io).transport.writable)
        for _ in range(50):
            await asyncio.sleep(0)
        assert poll.sent.empty()
        io.emit("a")
        assert (await poll.answer()).body == b'42["a"]'
        assert (await ask(io, "POST", engine_target(sid=sid), b'42["b"]')).status == 200
        probe.close()
        await probe.ended()
        await polling_works(io, sid)


async def test_after_the_probe_polls_are_answered_with_a_noop_but_not_in_a_busy_loop() -> None:
    loop = asyncio.get_running_loop()
    async with Server() as io:
        sid = await open_session(io)
        poll = Request(io, "GET", engine_target(sid=sid))
        await until(lambda: only_connection(io).transport.writable)
        probe = await open_probe(io, sid, "2probe")
        assert await probe.receive() == "3probe"
        assert (await poll.answer()).body == b"6"
        began = loop.time()
        for _ in range(2):
            assert (await ask(io, "GET", engine_target(sid=sid))).body == b"6"
        assert loop.time() - began > 0.1  # engine.io: one each 100 ms
        io.emit("a")
        assert (await ask(io, "GET", engine_target(sid=sid))).body == b'42["a"]'
        probe.close()
        await probe.ended()
        await polling_works(io, sid)


@pytest.mark.parametrize("first", ["garbage", "", "2", "3probe", "5", "2prob", "2probe2", "6", '42["x"]', b"2probe"])
async def test_anything_but_a_probe_closes_the_probe_only(first: str | bytes) -> None:
    async with Server() as io:
        sid = await open_session(io)
        probe = await open_probe(io, sid, first)
        assert await probe.until_closed() == 1000
        await polling_works(io, sid)
        await upgraded(io, sid)


@pytest.mark.parametrize("second", ["garbage", "", "2probe", "4", "55", "6", '42["x"]', b"5"])
async def test_anything_but_the_upgrade_after_the_probe_closes_the_probe_only(second: str | bytes) -> None:
    async with Server() as io:
        sid = await open_session(io)
        probe = await open_probe(io, sid, "2probe", second)
        assert await probe.receive() == "3probe"
        assert await probe.until_closed() == 1000
        await polling_works(io, sid)
        await upgraded(io, sid)


@pytest.mark.parametrize("messages", [[], ["2probe"]], ids=["before the probe", "after the probe"])
async def test_a_client_that_goes_while_it_probes_keeps_its_session(messages: list[str]) -> None:
    async with Server() as io:
        sid = await open_session(io)
        probe = await open_probe(io, sid, *messages)
        if messages:
            assert await probe.receive() == "3probe"
        probe.close(1006)
        await asyncio.wait({probe.task})
        assert probe.task.exception() is None
        await polling_works(io, sid)


@pytest.mark.parametrize("messages", [[], ["2probe"]], ids=["before the probe", "after the probe"])
async def test_an_upgrade_that_takes_longer_than_upgrade_timeout_is_given_up(messages: list[str]) -> None:
    async with Server(upgrade_timeout=0.02) as io:
        sid = await open_session(io)
        probe = await open_probe(io, sid, *messages)
        assert await probe.until_closed() == 1000
        await polling_works(io, sid)


async def test_a_second_probe_is_let_in_and_closed_and_the_first_goes_on() -> None:
    async with Server() as io:
        sid = await open_session(io)
        first = await open_probe(io, sid, "2probe")
        assert await first.receive() == "3probe"
        second = await open_probe(io, sid, "2probe")
        assert await second.until_closed() == 1000
        assert only_connection(io).probing
        first.send("5")
        await until(lambda: only_connection(io).transport.name == "websocket")
        io.emit("x")
        assert await first.receive() == '42["x"]'


async def test_a_probe_for_a_session_on_websocket_is_let_in_and_closed() -> None:
    async with Server() as io:
        sid = await open_session(io)
        first = await upgraded(io, sid)
        second = await open_probe(io, sid, "2probe")
        assert await second.until_closed() == 1000
        io.emit("x")
        assert await first.receive() == '42["x"]'
        for method in ("GET", "POST"):
            assert (await ask(io, method, engine_target(sid=sid), b"4" if method == "POST" else b"")).error == (400, 3, "Bad request")
        first.send('42["y"]')
        await asyncio.sleep(0)
        assert not only_connection(io).gone


async def test_a_probe_of_an_ended_session_is_refused() -> None:
    async with Server() as io:
        sid = await open_session(io)
        await ask(io, "POST", engine_target(sid=sid), b"1")
        answer = await dial(io, engine_target(transport="websocket", sid=sid)).refusal()
        assert (answer.status, answer.body) == (400, b"Session ID unknown")


@pytest.mark.parametrize("messages", [[], ["2probe"]], ids=["before the probe", "after the probe"])
@pytest.mark.parametrize("end", ["close packet", "malformed", "two polls", "server", "io.close"])
async def test_a_session_that_ends_while_it_probes_closes_the_probe(messages: list[str], end: str) -> None:
    async with Server() as io:
        ends = Ends(io)
        sid = await open_session(io)
        target = engine_target(sid=sid)
        probe = await open_probe(io, sid, *messages)
        if messages:
            assert await probe.receive() == "3probe"
        await until(lambda: only_connection(io).probing)
        poll = Request(io, "GET", target)
        await until(lambda: only_connection(io).transport.writable)
        if end == "close packet":
            await ask(io, "POST", target, b"1")
        elif end == "malformed":
            await ask(io, "POST", target, b"x")
        elif end == "two polls":
            await ask(io, "GET", target)
        elif end == "server":
            next(iter(io.sockets.values())).disconnect(close=True)
        else:
            await io.close()
        assert await probe.until_closed() == 1000
        assert (await poll.answer()).status == 200
        await until(lambda: nothing_is_left(io))
        assert len(ends.reasons) == 1


async def test_an_upgrade_packet_that_comes_while_the_session_closes_moves_nothing() -> None:
    async with Server() as io:
        sid = await open_session(io)
        probe = await open_probe(io, sid, "2probe")
        assert await probe.receive() == "3probe"
        io.emit("last")
        next(iter(io.sockets.values())).disconnect(close=True)
        probe.send("5")
        assert await probe.until_closed() == 1000
        # what is left still goes out the way it was to go
        assert (await ask(io, "GET", engine_target(sid=sid))).body == b'42["last"]\x1e41\x1e1'
        await until(lambda: nothing_is_left(io))


async def test_a_poll_that_still_waits_at_the_upgrade_is_answered_and_takes_no_message_with_it() -> None:
    async with Server() as io:
        ends = Ends(io)
        sid = await open_session(io)
        probe = await open_probe(io, sid, "2probe")
        assert await probe.receive() == "3probe"
        poll = Request(io, "GET", engine_target(sid=sid))
        await until(lambda: only_connection(io).transport.writable)
        probe.send("5")
        await until(lambda: only_connection(io).transport.name == "websocket")
        for number in range(20):
            io.emit("n", number)
        for number in range(20):
            assert await probe.receive() == f'42["n",{number}]'
        answer = await poll.answer()
        assert b"42" not in answer.body
        assert not only_connection(io).gone
        assert ends.reasons == []


async def test_a_poll_that_still_waits_at_the_upgrade_may_be_cut_off() -> None:
    async with Server() as io:
        ends = Ends(io)
        sid = await open_session(io)
        probe = await open_probe(io, sid, "2probe")
        assert await probe.receive() == "3probe"
        poll = Request(io, "GET", engine_target(sid=sid))
        await until(lambda: only_connection(io).transport.writable)
        probe.send("5")
        await until(lambda: only_connection(io).transport.name == "websocket")
        poll.hang_up()
        await poll.ended()
        io.emit("x")
        assert await probe.receive() == '42["x"]'
        assert ends.reasons == []


async def test_a_poll_that_is_cut_off_while_it_probes_ends_the_session() -> None:
    async with Server() as io:
        ends = Ends(io)
        sid = await open_session(io)
        probe = await open_probe(io, sid, "2probe")
        assert await probe.receive() == "3probe"
        poll = Request(io, "GET", engine_target(sid=sid))
        await until(lambda: only_connection(io).transport.writable)
        poll.hang_up()
        assert await probe.until_closed() == 1000
        await until(lambda: nothing_is_left(io))
        assert ends.reasons == [Reason.TRANSPORT_ERROR]


async def test_a_volatile_packet_is_dropped_while_it_probes() -> None:
    async with Server() as io:
        sid = await open_session(io)
        probe = await open_probe(io, sid, "2probe")
        assert await probe.receive() == "3probe"
        poll = Request(io, "GET", engine_target(sid=sid))
        await until(lambda: only_connection(io).transport.writable)
        io.volatile.emit("dropped")
        io.emit("kept")
        assert (await poll.answer()).body == b'42["kept"]'
        probe.send("5")
        await until(lambda: only_connection(io).transport.name == "websocket")
        io.volatile.emit("sent")
        assert await probe.receive() == '42["sent"]'


async def test_a_ping_that_falls_into_the_upgrade_is_answered_where_it_arrives() -> None:
    async with Server(ping_interval=0.02, ping_timeout=5) as io:
        sid = await open_session(io)
        probe = await open_probe(io, sid, "2probe")
        assert await probe.receive() == "3probe"
        assert b"2" in (await ask(io, "GET", engine_target(sid=sid))).body.split(b"\x1e")
        probe.send("5")
        await until(lambda: only_connection(io).transport.name == "websocket")
        probe.send("3")
        assert await probe.receive() == "2"


async def test_a_second_probe_whose_client_goes_at_once_ends_quietly() -> None:
    async with Server() as io:
        sid = await open_session(io)
        first = await upgraded(io, sid)
        second = await open_probe(io, sid, "2probe")
        second.close(1006)
        await asyncio.wait({second.task})
        assert second.task.exception() is None
        io.emit("x")
        assert await first.receive() == '42["x"]'
