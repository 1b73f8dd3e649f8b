"""The contract of a transport: the same conversation goes the same way over each of them, in both protocols."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

import pytest

from mizzen import ConnectRefused, Reason, Server, Socket
from tests.support import until
from tests.transports import exchange
from tests.transports.exchange import Ends, Peer, WebSocket, nothing_is_left, only_connection
from tests.transports.wire import NativeWebSocket

CARRIERS = ["polling", "websocket", "upgraded", "native", "upgraded native"]
PLACEHOLDER = '{"_placeholder":true,"num":0}'


def make_server() -> Server:
    io = Server()
    chat = io.of("/chat")

    async def echo(socket: Socket, *args: object) -> tuple[object, ...]:
        return args

    async def say(socket: Socket, text: str) -> None:
        socket.broadcast.emit("said", text)

    async def ask(socket: Socket) -> None:
        socket.emit("asked", await socket.call("question", 6, timeout=5))

    async def join_chat(socket: Socket, auth: dict[str, str] | None) -> None:
        if not auth or auth.get("key") != "k":
            raise ConnectRefused("no key")

    io.on("echo", echo)
    io.on("say", say)
    io.on("ask", ask)
    chat.on("connect", join_chat)
    chat.on("echo", echo)
    return io


def way_of(carrier: str) -> tuple[str, exchange.Dial]:
    """Give the steps and the WebSocket of a carrier."""
    return carrier.replace("upgraded native", "upgraded").replace(
        "native", "websocket"
    ), NativeWebSocket if "native" in carrier else WebSocket


def open_peer(io: Server, carrier: str, eio: int) -> AbstractAsyncContextManager[Peer]:
    """Open a session over a carrier, joined to the main namespace."""
    steps, dial = way_of(carrier)
    return exchange.open_peer(io, steps, eio, dial=dial)


async def writable(io: Server) -> None:
    """Wait until the only connection could send now."""
    await until(lambda: only_connection(io).transport.writable and not only_connection(io).engine.out)


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("eio", [3, 4])
async def test_the_same_conversation(carrier: str, eio: int) -> None:
    async with make_server() as io:
        ends = Ends(io)
        chat_ends: list[Reason] = []
        io.of("/chat").on("disconnect", lambda socket, reason: chat_ends.append(reason))
        async with asyncio.timeout(10), open_peer(io, carrier, eio) as peer:
            await events_and_acks(io, peer)
            await binary(io, peer)
            await volatile(io, peer)
            await another_namespace(peer, eio)
            peer.send("41/chat,")
            await until(lambda: chat_ends == [Reason.CLIENT_NAMESPACE_DISCONNECT])
            assert ends.reasons == []
            io.emit("last")
            next(iter(io.sockets.values())).disconnect(close=True)
            assert [await peer.receive(), await peer.receive()] == ['2["last"]', "1"]
            await peer.closed.wait()
        assert ends.reasons == [Reason.SERVER_NAMESPACE_DISCONNECT]
        await until(lambda: nothing_is_left(io))


async def events_and_acks(io: Server, peer: Peer) -> None:
    peer.send('421["echo",1,{"a":[true,null,"é🍰"]}]', '422["echo"]')
    assert await peer.receive() == '31[1,{"a":[true,null,"é🍰"]}]'
    assert await peer.receive() == "32[]"
    peer.send('42["ask"]')
    question = await peer.receive()
    assert isinstance(question, str)
    id, _, rest = question[1:].partition("[")
    assert rest == '"question",6]'
    peer.send(f"43{id}[42]")
    assert await peer.receive() == '2["asked",42]'
    for number in range(50):
        io.emit("n", number)
    assert [await peer.receive() for _ in range(50)] == [f'2["n",{number}]' for number in range(50)]


async def binary(io: Server, peer: Peer) -> None:
    data = bytes(range(256))
    peer.send(f'451-7["echo",{PLACEHOLDER}]', data)
    assert [await peer.receive(), await peer.receive()] == [f"61-7[{PLACEHOLDER}]", data]
    io.emit("b", data)
    io.emit("t")
    assert [await peer.receive() for _ in range(3)] == [f'51-["b",{PLACEHOLDER}]', data, '2["t"]']


async def volatile(io: Server, peer: Peer) -> None:
    await writable(io)
    io.volatile.emit("v", 1)
    io.emit("w")
    assert [await peer.receive(), await peer.receive()] == ['2["v",1]', '2["w"]']


async def another_namespace(peer: Peer, eio: int) -> None:
    peer.send("40/nowhere," if eio == 4 else "40/nowhere")
    refused = await peer.receive()
    assert refused == ('4/nowhere,{"message":"Invalid namespace"}' if eio == 4 else '4/nowhere,"Invalid namespace"')
    peer.send("40/chat," if eio == 4 else "40/chat")
    refused = await peer.receive()
    assert refused == ('4/chat,{"message":"no key"}' if eio == 4 else '4/chat,"no key"')
    peer.send('40/chat,{"key":"k"}' if eio == 4 else "40/chat?key=k")
    joined = await peer.receive()
    assert isinstance(joined, str)
    assert joined.startswith('0/chat,{"sid":"') if eio == 4 else joined in ("0/chat", "0/chat,"), joined
    peer.send('42/chat,5["echo","x"]')
    assert await peer.receive() == '3/chat,5["x"]'


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("eio", [3, 4])
async def test_a_close_packet_of_the_client_ends_the_session(carrier: str, eio: int) -> None:
    async with make_server() as io:
        ends = Ends(io)
        async with open_peer(io, carrier, eio) as peer:
            peer.send("1")
            async with asyncio.timeout(10):
                await peer.closed.wait()
        await until(lambda: nothing_is_left(io))
        assert ends.reasons == [Reason.TRANSPORT_CLOSE]


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("eio", [3, 4])
async def test_closing_the_server_ends_every_session(carrier: str, eio: int) -> None:
    async with make_server() as io:
        ends = Ends(io)
        async with open_peer(io, carrier, eio) as peer:
            await io.close()
            async with asyncio.timeout(10):
                await peer.closed.wait()
        assert ends.reasons == [Reason.SERVER_SHUTTING_DOWN]


async def test_a_broadcast_is_one_for_all_carriers_and_protocols() -> None:
    async with make_server() as io:
        peers = [Peer(io, eio, dial=way_of(carrier)[1]) for carrier in CARRIERS for eio in (3, 4)]
        carriers = [way_of(carrier)[0] for carrier in CARRIERS for _ in (3, 4)]
        for peer, carrier in zip(peers, carriers, strict=True):
            await peer.open(carrier)
            if peer.eio == 4:
                peer.send("40")
            await peer.receive()
        peers[0].send('42["say","hello"]')
        for peer in peers[1:]:
            assert await peer.receive() == '2["said","hello"]'
        assert peers[0].messages.empty()
        for peer in peers:
            await peer.close()
