"""Handlers may end the socket, and connect it again, while the client is at something: on Python 3.12 they run within it."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from mizzen import Client
from tests.client.peer import Peers
from tests.support import WITHIN, until

NOWHERE = "http://nowhere"
QUICKLY: dict[str, Any] = {"reconnection_delay": 0.01, "reconnection_delay_max": 0.02}
AT_ONCE = sys.version_info >= (3, 12)


@pytest.fixture
def peers() -> Peers:
    return Peers()


async def connected(client: Client, peers: Peers, told: str = '{"sid":"main"}') -> Client:
    connecting = asyncio.ensure_future(client.connect())
    await until(lambda: peers.has_sent("40"))
    peers.last.say(f"40{told}")
    await asyncio.wait_for(connecting, WITHIN)
    return client


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
            asyncio.ensure_future(client.of("/other").connect())
            await until(lambda: peers.has_sent("40/other,"))
            peers.last.say('40/other,{"sid":"other"}')
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
