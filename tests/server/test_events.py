"""Events with types at run time: they are the names that they stand for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mizzen import Event, MsgpackCodec, RemoteError, Server, Socket, from_thread
from mizzen.protocol.codec import JSONCodec
from mizzen.protocol.packet import EVENT, Packet
from tests.server.fake_wire import FakeWire, join_fake, settle
from tests.support import WITHIN

typing = Event[[str], int]("typing")


@pytest.fixture
async def io() -> AsyncIterator[Server]:
    async with Server() as io:
        yield io


async def acked(wire: FakeWire, ack: str) -> None:
    """Ack the call that comes next."""
    message = await wire.receive()
    assert isinstance(message, str)
    id = message[2 : message.index("[")]
    assert message[2 + len(id) :] == '["typing","lobby"]'
    await wire.send(f"43{id}{ack}")


class TestEvent:
    def test_it_is_the_name(self) -> None:
        name: Any = typing
        assert isinstance(name, str)
        assert name == "typing"
        assert hash(name) == hash("typing")
        assert f"{name} {name!r}" == "typing 'typing'"
        assert not hasattr(name, "__dict__")
        assert Event("typing") == name

    @pytest.mark.parametrize("codec", [JSONCodec(), MsgpackCodec()])
    def test_it_goes_as_any_name_with_each_parser(self, codec: JSONCodec | MsgpackCodec) -> None:
        name: Any = typing
        for event in (name, "typing"):
            encoded = codec.encode_event("/", [event, event], None)
            assert encoded.messages(4) == codec.encode_event("/", ["typing", "typing"], None).messages(4)
            assert codec.encode(Packet(EVENT, "/", [event])).messages(4) == codec.encode(Packet(EVENT, "/", ["typing"])).messages(4)

    async def test_emit_and_call_of_every_target(self, io: Server) -> None:
        heard: list[tuple[type, str]] = []

        @io.on_any_outgoing
        async def watch(socket: Socket, event: str, room: str) -> None:
            heard.append((type(event), event + " " + room))

        async with join_fake(io) as (wire, sid):
            socket = io.sockets[sid]
            (remote,) = await io.fetch_sockets()
            for target in (io, io.of("/"), io.to(sid), socket, socket.volatile, remote):
                target.emit(typing, "lobby")
                assert await wire.event() == ["typing", "lobby"]
                task = asyncio.ensure_future(target.call(typing, "lobby"))
                await acked(wire, "[7]")
                assert await task in (7, [7])
            task = asyncio.ensure_future(socket.call(typing, "lobby"))
            await acked(wire, '[{"error":{"code":"E_HANDLER","message":"no","details":[]}}]')
            with pytest.raises(RemoteError):
                await task
        assert heard == [(str, "typing lobby")] * 13

    async def test_handlers(self, io: Server) -> None:
        @io.on(typing)
        async def of_server(socket: Socket, room: str) -> int:
            return len(room)

        async with join_fake(io) as (wire, sid):
            assert await wire.ask("typing", "lobby") == [5]
            assert (await wire.ask("typing", 5))[0]["error"]["code"] == "E_ARGUMENTS"
            io.off(typing, of_server)

            @io.sockets[sid].once(typing)
            async def once(room: str) -> int:
                return -1

            assert await wire.ask("typing", "lobby") == [-1]
            await wire.send('427["typing","lobby"]')
            await settle()
            assert wire.received() == []

    async def test_from_a_thread(self, io: Server) -> None:
        @io.on("ask me")
        def ask_me(socket: Socket) -> int:
            socket.emit(typing, "lobby")
            return from_thread(socket.call, typing, "lobby") + from_thread(socket.call, "typing", "lobby", timeout=WITHIN)

        async with join_fake(io) as (wire, _):
            await wire.send('425["ask me"]')
            assert await wire.event() == ["typing", "lobby"]
            await acked(wire, "[1]")
            await acked(wire, "[2]")
            assert await wire.receive() == "435[3]"
