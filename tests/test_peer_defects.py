"""Defects that probes found in other servers, one by one: none of them is here."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import time
from typing import Any

import httpx
import pytest

from mizzen import JSON, ConnectRefused, Server, Socket
from mizzen.adapters.memory import MemoryAdapter
from mizzen.ports import Member, Target
from tests.adapters.fakes import FakeHost, FakeSocket
from tests.support import Wire, join, join_namespace, open_polling, open_wire, serve, until


async def test_a_binary_broadcast_reaches_polling_and_websocket_clients_alike() -> None:
    io = Server()
    async with serve(io) as url, join(url) as (wire, _), open_polling(url) as polling:
        await polling.post("40")
        await polling.get()
        io.emit("x", b"\x01\x02")
        assert await wire.receive() == '451-["x",{"_placeholder":true,"num":0}]'
        assert await wire.receive() == b"\x01\x02"
        assert (await polling.get()).text == '451-["x",{"_placeholder":true,"num":0}]\x1ebAQI='


async def test_a_connect_handler_that_raises_refuses_and_leaves_nothing() -> None:
    io = Server()

    @io.on("connect")
    async def connect(socket: Socket) -> None:
        socket.join("room")
        raise RuntimeError("as it must")

    async with serve(io) as url, open_wire(url) as wire:
        await wire.send("40")
        kind, data = await wire.receive_json()
        assert (kind, data["data"]["code"]) == ("44", "E_HANDLER")
        namespace = io.namespaces["/"]
        assert not namespace.sockets
        assert not namespace.adapter.rooms
        assert not namespace.adapter.members(Target())


async def test_no_event_overtakes_the_connect_packet() -> None:
    io = Server()
    broadcast = asyncio.Event()

    @io.on("connect")
    async def connect(socket: Socket) -> None:
        await broadcast.wait()

    async with serve(io) as url, open_wire(url) as wire:
        await wire.send("40")
        await until(lambda: io.namespaces["/"].adapter.members(Target()))
        io.emit("early")
        broadcast.set()
        first = await wire.receive()
        assert isinstance(first, str)
        assert first.startswith('40{"sid"')
        assert await wire.receive() == '42["early"]'


async def test_a_handler_that_raises_acks_an_error_and_is_reported() -> None:
    io = Server()
    seen: list[str] = []

    @io.on_error
    def hook(error: Exception, socket: Socket | None, where: str) -> None:
        seen.append(where)

    @io.on("fails")
    async def fails(socket: Socket) -> None:
        raise RuntimeError("as it must")

    async with serve(io) as url, join(url) as (wire, _):
        await wire.send('427["fails"]')
        assert (await wire.receive_json())[0] == "437"
        assert seen == ["fails"]


async def test_a_client_that_reads_nothing_costs_no_more_than_max_buffer() -> None:
    limit = 200_000
    io = Server(max_buffer=limit)
    reasons: list[tuple[str, str | None]] = []

    @io.on("disconnect")
    async def disconnect(socket: Socket, reason: str, details: str | None) -> None:
        reasons.append((reason, details))

    async with serve(io) as url, open_polling(url) as polling:
        await polling.post("40")
        await polling.get()
        for _ in range(100):
            io.emit("news", "x" * 10_000)
            await asyncio.sleep(0)
            for connection in io.sessions.connections.values():
                assert connection.unsent <= limit + 20_000
        await until(lambda: reasons)
        assert reasons == [("transport error", "slow consumer")]


async def test_disconnecting_a_client_that_reads_nothing_does_not_wait_for_it() -> None:
    io = Server(close_grace=0.01)
    async with serve(io) as url, open_polling(url) as polling:
        await polling.post("40")
        await polling.get()
        (socket,) = io.sockets.values()
        socket.emit("never read", "x" * 1000)
        socket.disconnect()
        assert not socket.connected
        assert not io.sockets


async def test_a_client_that_joins_nothing_is_closed() -> None:
    io = Server(connect_timeout=0.05)
    async with serve(io) as url, open_wire(url) as wire:
        await wire.until_closed()
        await until(lambda: not io.sessions.connections)


async def test_a_silent_probe_makes_no_busy_loop() -> None:
    io = Server(upgrade_timeout=0.3)
    async with serve(io) as url, open_polling(url) as polling:
        await polling.post("40")
        await polling.get()
        from websockets.asyncio.client import connect

        async with connect(f"ws{url.removeprefix('http')}{polling.query.replace('polling', 'websocket')}", proxy=None) as probe:
            poll = asyncio.create_task(polling.get())
            await probe.wait_closed()  # after upgrade_timeout
            assert not poll.done()
            io.emit("still by polling")
            assert (await poll).text == '42["still by polling"]'


async def test_a_fraction_of_a_second_stays_one() -> None:
    async with serve(Server(ping_interval=0.9, ping_timeout=0.25)) as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:
        opened = json.loads((await http.get("/socket.io/?EIO=4&transport=polling")).text[1:])
        assert (opened["pingInterval"], opened["pingTimeout"]) == (900, 250)


async def test_what_is_no_number_in_json_goes_out_as_null() -> None:
    io = Server()
    async with serve(io) as url, join(url) as (wire, _):
        io.emit("x", math.nan, math.inf, -math.inf, {"deep": [math.nan]})
        assert await wire.receive() == '42["x",null,null,null,{"deep":[null]}]'


async def test_a_disconnect_packet_has_no_data() -> None:
    io = Server()
    io.of("/chat")
    async with serve(io) as url, join(url) as (wire, _):
        await join_namespace(wire, "/chat")
        (chat,) = io.of("/chat").sockets.values()
        chat.disconnect()
        assert await wire.receive() == "41/chat,"
        (main,) = io.sockets.values()
        main.disconnect()
        assert await wire.receive() == "41"


async def test_the_address_is_the_clients() -> None:
    io = Server()
    async with serve(io) as url, join(url) as (_, id):
        assert io.sockets[id].handshake.address == "127.0.0.1"
        assert io.sockets[id].handshake.headers["host"] == url.removeprefix("http://")


@pytest.mark.parametrize("packet", ["42{}", "4z", "42", "40[]", '451-["x"]x', "45-[]", '42["disconnect"]'])
async def test_a_malformed_packet_ends_its_connection_and_no_other(packet: str) -> None:
    io = Server()

    @io.on("echo")
    async def echo(socket: Socket, value: JSON) -> JSON:
        return value

    async with serve(io) as url, join(url) as (bad, _), join(url) as (good, _):
        await bad.send(packet)
        await bad.until_closed()
        await good.send('421["echo",1]')
        assert await good.receive() == "431[1]"


async def test_a_disconnect_handler_that_raises_type_error_runs_once() -> None:
    io = Server()
    ran: list[str] = []
    errors: list[Exception] = []

    @io.on("disconnect")
    async def disconnect(socket: Socket, reason: str) -> None:
        ran.append(reason)
        raise TypeError("its own")

    @io.on_error
    def hook(error: Exception, socket: Socket | None, where: str) -> None:
        errors.append(error)

    async with serve(io) as url:
        async with join(url):
            pass
        await until(lambda: errors)
        assert ran == ["transport close"]
        assert [str(error) for error in errors] == ["its own"]


def test_a_disconnect_costs_what_it_touches_however_many_others_there_are() -> None:
    def cost(sockets: int) -> float:
        adapter = MemoryAdapter(FakeHost())
        members: list[Member] = [FakeSocket(str(index)) for index in range(sockets)]
        for member in members:
            adapter.add(member)
            adapter.join(member, [f"room {member.id}", f"lobby {int(member.id) % 100}"])
        gc.disable()
        began = time.perf_counter()
        for member in members[:500]:
            adapter.remove(member)
        spent = time.perf_counter() - began
        gc.enable()
        return spent

    # Scanning every room would make it a hundred times as much; a busy machine does not.
    assert min(cost(50_000) for _ in range(3)) < 20 * min(cost(500) for _ in range(3))


async def test_mounted_in_an_app_it_is_found_where_it_was_mounted() -> None:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    io = Server()
    app = Starlette(routes=[Mount("/ws", app=io)])
    async with serve(app) as url, open_wire(f"{url}/ws") as wire:
        assert isinstance(wire, Wire)
        await join_namespace(wire)


async def test_a_refusal_tells_its_message_and_data() -> None:
    io = Server()

    @io.on("connect")
    async def connect(socket: Socket, auth: Any) -> None:
        raise ConnectRefused("no", data={"code": 7})

    async with serve(io) as url, open_wire(url) as wire:
        await wire.send("40")
        assert await wire.receive() == '44{"message":"no","data":{"code":7}}'


async def test_an_unknown_namespace_is_told_as_official_servers_tell_it() -> None:
    async with serve(Server()) as url, open_wire(url) as wire:
        await wire.send("40/nowhere,")
        assert await wire.receive() == '44/nowhere,{"message":"Invalid namespace"}'
