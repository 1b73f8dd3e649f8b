"""Handlers may end the socket, and connect it again, while the client is at something: on Python 3.12 they run within it."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from mizzen import Client, ClientSocket, ConnectFailed
from tests.client.peer import Peers, connected
from tests.support import WITHIN, until

NOWHERE = "http://nowhere"
QUICKLY: dict[str, Any] = {"reconnection_delay": 0.01, "reconnection_delay_max": 0.02}
AT_ONCE = sys.version_info >= (3, 12)


@pytest.fixture
def peers() -> Peers:
    return Peers()


async def connected_other(other: ClientSocket, peers: Peers) -> None:
    connecting = asyncio.ensure_future(other.connect())
    await until(lambda: peers.has_sent("40/other,"))
    peers.last.say('40/other,{"sid":"other"}')
    await asyncio.wait_for(connecting, WITHIN)


def logged(client: Client) -> list[str]:
    log: list[str] = []
    for event in ("connect", "disconnect", "first", "second"):
        client.on(event, lambda *args, event=event: log.append(event))
    return log


class TestWhileItConnects:
    """After an interruption come `reconnect`, the events that were missed, and `connect`."""

    async def come_back(self, client: Client, peers: Peers, others: bool) -> None:
        """Come back to the session, with two events missed; with others on the connection, which then stands."""
        await connected(client, peers, '{"sid":"main","pid":"secret"}')
        if others:
            await connected_other(client.of("/other"), peers)
        peers.last.cut()
        await until(lambda: peers.has_sent('40{"pid":"secret"}') and (not others or peers.has_sent("40/other,")))
        peers.last.say('42["first"]', '42["second"]', '40{"sid":"main","pid":"secret"}')

    @pytest.mark.parametrize("others", [True, False])
    @pytest.mark.parametrize("where", ["reconnect", "first"])
    async def test_a_handler_that_disconnects_ends_it(self, peers: Peers, where: str, others: bool):
        client = Client(NOWHERE, transports=[peers], **QUICKLY)
        log = logged(client)
        done = asyncio.Event()

        async def leave() -> None:
            log.clear()
            await client.disconnect()
            done.set()

        (client if where == "first" else client.manager).on(where, leave)
        await self.come_back(client, peers, others)
        await asyncio.wait_for(done.wait(), WITHIN)
        await until(lambda: log[-1:] == ["disconnect"])
        assert log.count("connect") == (not AT_ONCE), "which is told before a handler that does not run at once"
        assert (client.active, client.id, client.outbox.connection) == (False, None, None)
        client.emit("later")
        await connected(client, peers, '{"sid":"two"}')
        await until(lambda: peers.has_sent('42["later"]'))
        await client.close()

    @pytest.mark.parametrize("others", [True, False])
    @pytest.mark.parametrize("where", ["reconnect", "first"])
    async def test_a_handler_that_disconnects_and_connects_has_a_new_session(self, peers: Peers, where: str, others: bool):
        client = Client(NOWHERE, transports=[peers], **QUICKLY)
        log = logged(client)
        ids: list[str | None] = []

        async def anew() -> None:
            log.clear()
            await client.disconnect()
            await client.connect()
            ids.append(client.id)

        (client if where == "first" else client.manager).once(where, anew)
        await self.come_back(client, peers, others)
        await until(lambda: peers.has_sent("40"))
        assert not client.connected
        client.emit("later")
        peers.last.say('40{"sid":"two"}')
        await until(lambda: ids == ["two"] and peers.has_sent('42["later"]'))
        await until(lambda: log[-2:] == ["disconnect", "connect"])
        assert log.count("connect") == (1 if AT_ONCE else 2)
        assert len(peers.made) == (2 if others else 3)
        await client.close()

    async def test_what_a_missed_event_is_answered_with_is_sent(self, peers: Peers):
        client = Client(NOWHERE, transports=[peers])
        client.emit("held")

        @client.on("ask")
        async def ask() -> str:
            client.volatile.emit("news")
            return "answer"

        connecting = asyncio.ensure_future(client.connect())
        await until(lambda: peers.has_sent("40"))
        peers.last.say('421["ask"]', '40{"sid":"one"}')
        await asyncio.wait_for(connecting, WITHIN)
        await until(lambda: peers.last.sent == ["40", '42["held"]', '42["news"]', '431["answer"]'])
        await client.close()


class TestWhileTheConnectionIsLost:
    @pytest.mark.parametrize("where", ["close", "disconnect"])
    async def test_what_handlers_send_by_any_socket_waits_for_the_next_connection(self, peers: Peers, where: str):
        client = Client(NOWHERE, transports=[peers], **QUICKLY)
        other = client.of("/other")
        states: list[tuple[bool, bool]] = []
        await connected(client, peers)
        await connected_other(other, peers)

        async def send() -> None:
            states.append((client.connected, other.connected))
            client.emit("kept")
            other.emit("kept")

        if where == "close":
            client.manager.on("close", send)
        else:
            client.on("disconnect", send)
        peers.last.cut()
        await until(lambda: len(peers.made) == 2 and peers.has_sent("40") and peers.has_sent("40/other,"))
        peers.last.say('40{"sid":"two"}', '40/other,{"sid":"other2"}')
        await until(lambda: peers.has_sent('42["kept"]') and peers.has_sent('42/other,["kept"]'))
        assert states == [(False, False)]
        await client.close()

    async def test_a_handler_of_close_that_disconnects_is_the_last_word(self, peers: Peers):
        client = await connected(Client(NOWHERE, transports=[peers], **QUICKLY), peers)
        log = logged(client)
        client.manager.on("close", client.disconnect)
        peers.last.cut()
        await asyncio.wait_for(client.wait_closed(), WITHIN)
        await until(lambda: log == ["disconnect"])
        await client.close()
        assert len(peers.made) == 1


class TestWhileItGivesUp:
    async def test_a_handler_that_connects_again_is_served(self, peers: Peers):
        refusing = True

        def factory(session: Any) -> Any:
            peer = peers(session)
            if refusing:
                peer.open = refuse
            return peer

        async def refuse() -> None:
            raise ConnectFailed("nobody is there")

        client = Client(NOWHERE, transports=[factory])
        other = client.of("/other")

        async def connect_again() -> None:
            nonlocal refusing
            refusing = False
            await client.connect()
            done.set()

        done = asyncio.Event()
        client.once("connect_error", connect_again)
        results = await asyncio.gather(client.connect(), other.connect(), return_exceptions=True)
        assert [type(result) for result in results] == [ConnectFailed, ConnectFailed]
        await until(lambda: peers.has_sent("40"))
        peers.last.say('40{"sid":"one"}')
        await asyncio.wait_for(done.wait(), WITHIN)
        await client.close()


class TestWhileItCloses:
    async def test_a_handler_that_connects_again_gets_a_new_connection(self, peers: Peers):
        client = await connected(Client(NOWHERE, transports=[peers]), peers)
        other = client.of("/other")
        await connected_other(other, peers)
        client.once("disconnect", client.connect)
        closing = asyncio.ensure_future(client.close())
        await until(lambda: len(peers.made) == 2 and peers.has_sent("40"))
        peers.last.say('40{"sid":"two"}')
        await asyncio.wait_for(closing, WITHIN)
        assert [str(packet)[:2] for packet in peers.made[0].sent] == ["40", "40", "41", "41"]
        client.off("disconnect")
        await client.close()


class TestWhileItOpens:
    async def test_a_connection_that_a_handler_cuts_is_followed_by_another(self, peers: Peers):
        client = Client(NOWHERE, transports=[peers], wait_for_server=True, **QUICKLY)

        async def cut() -> None:
            peers.last.cut()

        client.manager.once("open", cut)
        connecting = asyncio.ensure_future(client.connect())
        await until(lambda: len(peers.made) == 2 and peers.has_sent("40"))
        peers.last.say('40{"sid":"one"}')
        await asyncio.wait_for(connecting, WITHIN)
        await client.close()

    async def test_auth_that_cuts_the_connection(self, peers: Peers):
        client = Client(NOWHERE, transports=[peers], wait_for_server=True, **QUICKLY)
        calls: list[int] = []

        def auth() -> None:
            calls.append(1)
            if len(calls) == 1:
                peers.last.cut()

        client.auth = auth
        other = client.of("/other")
        connecting = asyncio.gather(client.connect(), other.connect())
        await until(lambda: len(peers.made) == 2 and peers.has_sent("40") and peers.has_sent("40/other,"))
        peers.last.say('40{"sid":"one"}', '40/other,{"sid":"other"}')
        await asyncio.wait_for(connecting, WITHIN)
        await client.close()

    @pytest.mark.parametrize("packet", ["40", "42"])
    async def test_a_handler_of_packets_that_cuts(self, peers: Peers, packet: str):
        client = Client(NOWHERE, transports=[peers], wait_for_server=True, **QUICKLY)
        await connected(client, peers)

        async def cut() -> None:
            peers.last.cut()

        client.manager.once("packet", cut)
        peers.last.say('42["news"]' if packet == "42" else '40/other,{"sid":"x"}')
        await until(lambda: len(peers.made) == 2 and peers.has_sent("40"))
        peers.last.say('40{"sid":"one"}')
        await until(lambda: client.connected)
        await client.close()
