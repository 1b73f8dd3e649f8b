"""A CONNECT is answered once, whatever has become of the socket meanwhile: no second one follows it before."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import pytest

from mizzen import Client, ClientSocket, ConnectFailed, ConnectRefused, Reason, Server, Socket
from tests.client.peer import Peers, connected
from tests.support import WITHIN, serve, until

NOWHERE = "http://nowhere"
QUICKLY: dict[str, Any] = {"reconnection_delay": 0.01, "reconnection_delay_max": 0.02}


@pytest.fixture
def peers() -> Peers:
    return Peers()


async def asked(socket: ClientSocket, peers: Peers, packet: str = "40/slow,") -> asyncio.Future[None]:
    """Give a `connect` that waits for the answer of the server."""
    connecting = asyncio.ensure_future(socket.connect())
    await until(lambda: peers.has_sent(packet))
    return connecting


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def give_up(socket: ClientSocket, connecting: asyncio.Future[None], how: str) -> None:
    if how == "cancel":
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
    else:
        await socket.disconnect()
        with pytest.raises(ConnectFailed, match="is closed: io client disconnect"):
            await connecting


def said(peers: Peers) -> list[str | bytes]:
    """Give what was sent about the slow namespace."""
    return [packet for packet in peers.last.sent if "/slow" in str(packet)]


HOWS = pytest.mark.parametrize("how", ["cancel", "disconnect"])


@HOWS
async def test_the_answer_counts_for_a_socket_that_was_given_up_and_connects_again(peers: Peers, how: str):
    client = await connected(Client(NOWHERE, transports=[peers]), peers)
    slow = client.of("/slow", auth={"token": 1})
    for _ in range(3):
        connecting = await asked(slow, peers, '40/slow,{"token":1}')
        await turns()
        await give_up(slow, connecting, how)
    connecting = asyncio.ensure_future(slow.connect())
    await turns()
    peers.last.say('40/slow,{"sid":"one"}')
    await asyncio.wait_for(connecting, WITHIN)
    assert (slow.id, client.connected) == ("one", True)
    assert said(peers) == ['40/slow,{"token":1}']
    await client.close()


@HOWS
async def test_the_server_is_told_when_nobody_asks_again(peers: Peers, how: str):
    client = await connected(Client(NOWHERE, transports=[peers]), peers)
    slow = client.of("/slow")
    await give_up(slow, await asked(slow, peers), how)
    peers.last.say('40/slow,{"sid":"one"}')
    await until(lambda: said(peers) == ["40/slow,", "41/slow,"])
    assert (slow.active, client.connected) == (False, True)
    connecting = asyncio.ensure_future(slow.connect())
    await until(lambda: said(peers) == ["40/slow,", "41/slow,", "40/slow,"])
    peers.last.say('40/slow,{"sid":"two"}')
    await asyncio.wait_for(connecting, WITHIN)
    assert slow.id == "two"
    await client.close()


@HOWS
async def test_a_late_refusal_is_one_when_it_is_asked_again(peers: Peers, how: str):
    client = await connected(Client(NOWHERE, transports=[peers]), peers)
    slow = client.of("/slow")
    await give_up(slow, await asked(slow, peers), how)
    connecting = asyncio.ensure_future(slow.connect())
    await turns()
    peers.last.say('44/slow,{"message":"no"}')
    with pytest.raises(ConnectRefused, match="no"):
        await asyncio.wait_for(connecting, WITHIN)
    assert said(peers) == ["40/slow,"]
    await client.close()


async def test_a_late_refusal_that_nobody_waits_for_leaves_nothing(peers: Peers):
    client = await connected(Client(NOWHERE, transports=[peers]), peers)
    slow = client.of("/slow")
    errors: list[Exception] = []
    slow.on("connect_error", errors.append)
    await give_up(slow, await asked(slow, peers), "cancel")
    peers.last.say('44/slow,{"message":"no"}')
    await turns()
    assert (said(peers), errors) == (["40/slow,"], [])
    connecting = asyncio.ensure_future(slow.connect())
    await until(lambda: said(peers) == ["40/slow,"] * 2)
    peers.last.say('40/slow,{"sid":"two"}')
    await asyncio.wait_for(connecting, WITHIN)
    await client.close()


@pytest.mark.parametrize(("answer", "first"), [('40/slow,{"sid":"one"}', ["41/slow,"]), ('44/slow,{"message":"no"}', [])])
async def test_who_asks_with_another_auth_gets_an_answer_to_that(peers: Peers, answer: str, first: list[str]):
    client = await connected(Client(NOWHERE, transports=[peers]), peers)
    token: dict[str, Any] = {"token": 1}
    slow = client.of("/slow", auth=token)
    await give_up(slow, await asked(slow, peers, '40/slow,{"token":1}'), "cancel")
    token["token"] = 2
    connecting = asyncio.ensure_future(slow.connect())
    await turns()
    peers.last.say('42/slow,["for the first"]', answer)
    await until(lambda: said(peers) == ['40/slow,{"token":1}', *first, '40/slow,{"token":2}'])
    assert not connecting.done()
    assert client.manager.early.size == 0, "what came before belongs to a session that is over"
    peers.last.say('40/slow,{"sid":"two"}')
    await asyncio.wait_for(connecting, WITHIN)
    assert (slow.id, client.connected) == ("two", True)
    await client.close()


async def test_auth_that_is_changed_while_it_connects_counts_the_next_time(peers: Peers):
    client = await connected(Client(NOWHERE, transports=[peers]), peers)
    slow = client.of("/slow", auth={"token": 1})
    connecting = await asked(slow, peers, '40/slow,{"token":1}')
    slow.auth = {"token": 2}
    peers.last.say('40/slow,{"sid":"one"}')
    await asyncio.wait_for(connecting, WITHIN)
    assert said(peers) == ['40/slow,{"token":1}']
    await client.close()


async def test_a_session_that_was_asked_for_again_is_not_taken_after_a_disconnect_of_ones_own(peers: Peers):
    client = Client(NOWHERE, transports=[peers], **QUICKLY)
    slow = client.of("/slow")
    got: list[str] = []
    slow.on("missed", got.append)
    await connected(client, peers)
    connecting = await asked(slow, peers)
    peers.last.say('40/slow,{"sid":"one","pid":"secret"}')
    await asyncio.wait_for(connecting, WITHIN)
    peers.last.cut()
    await until(lambda: peers.has_sent('40/slow,{"pid":"secret"}'))
    peers.last.say('40{"sid":"main2"}')
    await slow.disconnect()
    connecting = asyncio.ensure_future(slow.connect())
    await turns()
    peers.last.say('42/slow,["missed","text"]', '40/slow,{"sid":"one","pid":"secret"}')
    await until(lambda: said(peers) == ['40/slow,{"pid":"secret"}', "41/slow,", "40/slow,"])
    peers.last.say('40/slow,{"sid":"two","pid":"other"}')
    await asyncio.wait_for(connecting, WITHIN)
    await turns()
    assert (slow.id, slow.recovered, got) == ("two", False, [])
    await client.close()


@pytest.mark.parametrize("again", ["before", "after"])
async def test_the_next_connection_owes_no_answer(peers: Peers, again: str):
    client = await connected(Client(NOWHERE, transports=[peers], **QUICKLY), peers)
    slow = client.of("/slow")
    connecting = await asked(slow, peers)
    await give_up(slow, connecting, "cancel")
    if again == "before":
        connecting = asyncio.ensure_future(slow.connect())
        await turns()
    peers.last.cut()
    await until(lambda: len(peers.made) == 2 and peers.has_sent("40"))
    peers.last.say('40{"sid":"main2"}')
    if again == "after":
        connecting = asyncio.ensure_future(slow.connect())
    await until(lambda: said(peers) == ["40/slow,"])
    peers.last.say('40/slow,{"sid":"two"}')
    await asyncio.wait_for(connecting, WITHIN)
    assert said(peers) == ["40/slow,"]
    await client.close()


async def test_an_answer_that_never_comes_is_waited_for_and_the_others_go_on(peers: Peers):
    client = await connected(Client(NOWHERE, transports=[peers]), peers)
    client.manager.options = replace(client.manager.options, connect_timeout=0.02)  # for slow only
    slow = client.of("/slow")
    for _ in range(2):
        with pytest.raises(ConnectFailed, match=r"did not answer the CONNECT to /slow within 0.02 s"):
            await asyncio.wait_for(slow.connect(), WITHIN)
    assert (said(peers), client.connected) == (["40/slow,"], True)
    await client.close()


@pytest.mark.parametrize("fails", [True, False])
async def test_auth_of_an_attempt_that_was_given_up_is_not_used(peers: Peers, fails: bool):
    client = await connected(Client(NOWHERE, transports=[peers]), peers)
    tokens: list[asyncio.Future[dict[str, int]]] = []

    async def auth() -> Mapping[str, int]:
        tokens.append(asyncio.get_running_loop().create_future())
        return await tokens[-1]

    slow = client.of("/slow", auth=auth)
    connecting = asyncio.ensure_future(slow.connect())
    await until(lambda: len(tokens) == 1)
    await give_up(slow, connecting, "cancel")
    connecting = asyncio.ensure_future(slow.connect())
    await until(lambda: len(tokens) == 2)
    if fails:
        tokens[0].set_exception(ValueError("no token today"))
    else:
        tokens[0].set_result({"token": 1})
    await turns()
    assert (said(peers), connecting.done()) == ([], False)
    tokens[1].set_result({"token": 2})
    await until(lambda: said(peers) == ['40/slow,{"token":2}'])
    peers.last.say('40/slow,{"sid":"one"}')
    await asyncio.wait_for(connecting, WITHIN)
    await client.close()


@pytest.mark.parametrize("name", ["/", "/other"])
@pytest.mark.parametrize("auth", [{"token": object()}, lambda: {"token": object()}])
async def test_auth_that_cannot_be_sent_is_told(peers: Peers, name: str, auth: Any):
    client = Client(NOWHERE, transports=[peers])
    socket = client.of(name, auth=auth)
    if name != "/":
        await connected(client, peers)
    with pytest.raises(ConnectFailed, match=r"`auth` cannot be sent: .* \['token'\]"):
        await asyncio.wait_for(socket.connect(), WITHIN)
    assert (socket.active, client.connected) == (False, name != "/")
    await client.close()


async def test_engineio_3_in_the_main_namespace_that_was_not_wanted(peers: Peers):
    client = Client(f"{NOWHERE}/chat", transports=[peers], eio=3)
    main = client.of("/")
    connecting = await asked(client, peers, "40/chat,")
    peers.last.say("40", "40/chat,")
    await asyncio.wait_for(connecting, WITHIN)
    await until(lambda: peers.has_sent("41"))
    connecting = await asked(main, peers, "40")
    assert not main.connected
    peers.last.say("40")
    await asyncio.wait_for(connecting, WITHIN)
    await client.close()


async def test_engineio_3_the_main_namespace_that_was_given_up_and_connects_again(peers: Peers):
    client = Client(f"{NOWHERE}/chat", transports=[peers], eio=3)
    connecting = await asked(client, peers, "40/chat,")
    peers.last.say("40/chat,")
    await asyncio.wait_for(connecting, WITHIN)
    main = client.of("/")
    connecting = asyncio.ensure_future(main.connect())
    await turns()
    await give_up(main, connecting, "cancel")
    connecting = asyncio.ensure_future(main.connect())
    await turns()
    peers.last.say("40")
    await asyncio.wait_for(connecting, WITHIN)
    assert peers.last.sent == ["40/chat,"]
    await client.close()


@pytest.mark.parametrize("eio", [3, 4])
async def test_a_slow_namespace_takes_no_other_down(eio: Literal[3, 4]):
    io = Server()
    entered, may_go_on = asyncio.Event(), asyncio.Event()
    ends: list[Reason] = []

    @io.of("/slow").on("connect")
    async def think(socket: Socket) -> None:
        entered.set()
        await may_go_on.wait()

    io.of("/slow").on("echo", lambda socket, value: value)
    async with serve(io) as url, Client(url, eio=eio) as client:
        client.on("disconnect", ends.append)
        slow = client.of("/slow")
        connecting = asyncio.ensure_future(slow.connect())
        await asyncio.wait_for(entered.wait(), WITHIN)
        await give_up(slow, connecting, "cancel")
        connecting = asyncio.ensure_future(slow.connect())
        await turns()
        may_go_on.set()
        await asyncio.wait_for(connecting, WITHIN)
        assert await slow.call("echo", 1) == 1
        assert (client.connected, ends, len(io.of("/slow").sockets)) == (True, [], 1)
