"""The clock that jumps: what waits for time happens at its own moment, in order, and time never goes back."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from typing import Any

import pytest
import uvloop

from mizzen import AckTimeout, ConnectionStateRecovery, Reason, Server, Socket
from mizzen.testing import Clock, TestClient, linked_pair, settle

# The clock itself


async def test_timers_run_at_their_moments_in_order_and_see_what_they_set_off() -> None:
    loop = asyncio.get_running_loop()
    seen: list[tuple[str, float]] = []

    def note(name: str) -> None:
        seen.append((name, round(loop.time() - start, 1)))

    async def sleeper() -> None:
        await asyncio.sleep(10)
        note("slept")
        await asyncio.sleep(10)
        note("slept again")

    loop.call_later(15, note, "set before the clock")
    sleeping = asyncio.create_task(sleeper())
    await settle()
    with Clock() as clock:
        start = loop.time()
        loop.call_later(30, note, "later")
        loop.call_later(5, loop.call_later, 3, note, "set by a timer")
        loop.call_later(6, note, "cancelled").cancel()
        await clock.jump(30)
        assert seen == [("set by a timer", 8.0), ("slept", 10.0), ("set before the clock", 15.0), ("slept again", 20.0), ("later", 30.0)]
        assert sleeping.done()
        assert 30 <= loop.time() - start < 31


async def test_several_jumps_add_up() -> None:
    loop = asyncio.get_running_loop()
    with Clock() as clock:
        start = loop.time()
        fired: list[int] = []
        for n in range(1, 6):
            loop.call_later(n * 10, fired.append, n)
        await clock.jump(9)
        assert fired == []
        await clock.jump(1)
        assert fired == [1]
        await clock.jump(30.5)
        assert fired == [1, 2, 3, 4]
        assert 40.5 <= loop.time() - start < 41.5


async def test_time_goes_on_between_jumps() -> None:
    with Clock() as clock:
        await clock.jump(100)
        loop = asyncio.get_running_loop()
        start = loop.time()
        await asyncio.sleep(0.01)
        assert loop.time() - start >= 0.01


async def test_a_clock_within_a_clock_is_the_same_time() -> None:
    loop = asyncio.get_running_loop()
    with Clock() as outer:
        start = loop.time()
        fired: list[str] = []
        loop.call_later(15, fired.append, "outer's")
        with Clock() as inner:
            loop.call_later(5, fired.append, "inner's")
            await inner.jump(10)
        assert fired == ["inner's"]
        await outer.jump(5)
        assert fired == ["inner's", "outer's"]
        assert 15 <= loop.time() - start < 16


async def test_time_does_not_go_back_when_the_clock_is_left_and_all_else_is_as_before() -> None:
    loop = asyncio.get_running_loop()
    slow, real = loop.slow_callback_duration, time.monotonic() - loop.time()
    start = loop.time()
    fired: list[int] = []

    async def fail() -> None:
        with Clock() as clock:
            await clock.jump(100)
            loop.call_later(0.01, fired.append, 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert 100 <= loop.time() - start < 101
    assert loop.slow_callback_duration == slow
    await asyncio.sleep(0.02)
    assert fired == [1], "what was set within is due when it was"
    assert abs((time.monotonic() - loop.time()) - (real - 100)) < 1
    with Clock() as again:
        await again.jump(10)
        assert 110 <= loop.time() - start < 112


async def test_the_test_s_own_timeouts_hold() -> None:
    with Clock() as clock:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await clock.jump(20)
        async with asyncio.timeout(20):
            await clock.jump(10)


async def test_it_jumps_only_while_it_is_in_use() -> None:
    clock = Clock()
    with pytest.raises(RuntimeError, match="use the clock as `with Clock"):
        await clock.jump(1)
    with clock:
        await clock.jump(1)
    with pytest.raises(RuntimeError, match="use the clock as `with Clock"):
        await clock.jump(1)


def test_uvloop_is_told_to_be_none_of_its_loops() -> None:
    async def use() -> None:
        with pytest.raises(TypeError, match=r"^Clock works with asyncio's own event loops, not with uvloop\.Loop"):
            with Clock():
                pass

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(use())


def test_debug_mode_takes_no_jump_for_a_callback_that_blocks(caplog: pytest.LogCaptureFixture) -> None:
    async def use() -> None:
        with Clock() as clock:
            await clock.jump(100)

    with asyncio.Runner(debug=True) as runner:
        runner.run(use())
    assert not [record for record in caplog.records if record.name == "asyncio" and "took" in record.getMessage()]


# What it is for


async def test_heartbeats_go_on_for_an_hour() -> None:
    io = Server(ping_interval=25, ping_timeout=20)
    pings = 0
    client = TestClient(io)

    def ping() -> None:
        nonlocal pings
        pings += 1

    client.manager.on("ping", ping)
    with Clock() as clock:
        async with client:
            before = list(io.sockets)
            await clock.jump(3590)
            assert client.connected
            assert list(io.sockets) == before
    assert pings >= 143, "one every 25 s"


@pytest.mark.parametrize("eio", [3, 4])
async def test_a_silent_peer_is_found_by_both_sides(eio: Any) -> None:
    io = Server(ping_interval=25, ping_timeout=20)
    gone: list[tuple[str, float]] = []
    loop = asyncio.get_running_loop()

    @io.on("disconnect")
    async def disconnect(socket: Socket, reason: str) -> None:
        gone.append((reason, loop.time() - start))

    with Clock() as clock:
        async with TestClient(io, eio=eio) as client:
            start = loop.time()
            client.cut(silently=True)
            await clock.jump(44)
            assert client.connected
            assert gone == []
            await clock.jump(2)
            assert not client.connected
            assert client.reason == Reason.PING_TIMEOUT
    [(reason, after)] = gone
    assert reason == Reason.PING_TIMEOUT
    assert 44 < after < 46


async def test_a_call_times_out() -> None:
    io = Server()

    @io.on("ask")
    async def ask(socket: Socket) -> None:
        await asyncio.sleep(100)

    with Clock() as clock:
        async with TestClient(io, ack_timeout=30) as client:
            call = asyncio.create_task(client.call("ask"))
            await clock.jump(29)
            assert not call.done()
            await clock.jump(2)
            with pytest.raises(AckTimeout):
                await call
            await clock.jump(70)


async def test_reconnection_takes_its_delays() -> None:
    refusing = False
    attempts: list[float] = []
    loop = asyncio.get_running_loop()

    def allow(handshake: Any) -> bool:
        attempts.append(loop.time())
        return not refusing

    io = Server(allow_request=allow)
    with Clock() as clock:
        async with TestClient(io, reconnection=True) as client:
            first = client.id
            refusing = True
            client.cut()
            await clock.jump(0.9)
            assert len(attempts) == 1
            await clock.jump(3)  # after 1 s, then 2 s
            assert len(attempts) == 3
            refusing = False
            await clock.jump(4)
            assert client.connected
            assert client.id != first
    assert [round(later - earlier) for earlier, later in pairwise(attempts)] == [1, 2, 4]


@pytest.mark.parametrize("away", [100, 140])
async def test_a_client_that_was_away_is_restored_within_its_time(away: float) -> None:
    io = Server(connection_state_recovery=ConnectionStateRecovery(max_disconnection_duration=120))
    with Clock() as clock:
        async with TestClient(io, reconnection=True, reconnection_delay=away) as client:
            assert client.id is not None
            io.sockets[client.id].join("room")
            io.to("room").emit("news", 1)
            assert (await client.receive("news"))[0] == 1
            client.cut()
            await settle()
            io.to("room").emit("news", 2)
            await clock.jump(away + 1)
            assert client.connected
            if away < 120:
                assert client.recovered
                assert (await client.receive("news"))[0] == 2
            else:
                assert not client.recovered
                await client.receive_nothing()


async def test_plain_handlers_are_waited_for_by_what_they_bring_about() -> None:
    io = Server()

    @io.on("ask")
    def ask(socket: Socket) -> int:
        time.sleep(0.001)
        socket.emit("asked")
        return 1

    with Clock() as clock:
        async with linked_pair(io) as (client, _):
            assert await client.call("ask") == 1
            await client.receive("asked")
            await clock.jump(3600)
            assert client.connected
