"""The board, tested as its author would: in process, with a store of the test's own, and without a browser."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator

import httpx
import pytest

from examples.board import app as board
from examples.board.store import Store
from mizzen import RemoteError
from mizzen.testing import ClientFactory, TestClient, lifespan
from mizzen.types import ASGIApp

MESSAGE = {"author": "ada", "text": "ahoy"}


@pytest.fixture
async def app(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ASGIApp]:
    monkeypatch.setattr(board, "store", Store(":memory:"))
    monkeypatch.setattr(board, "watchers", Counter[str]())
    async with lifespan(board.io) as app:
        yield app


@pytest.fixture
async def ada(app: ASGIApp, mizzen_client: ClientFactory) -> AsyncIterator[TestClient]:
    async with mizzen_client(app) as client:
        yield client


@pytest.fixture
async def bob(app: ASGIApp, mizzen_client: ClientFactory) -> AsyncIterator[TestClient]:
    async with mizzen_client(app) as client:
        yield client


@pytest.fixture
async def http(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://testserver") as http:
        yield http


async def open_room(client: TestClient, name: str) -> None:
    assert (await client.post("/rooms", json={"name": name})).status_code == 201
    await client.receive("room")


async def test_a_room_is_opened_for_all_and_once(ada: TestClient, bob: TestClient, http: httpx.AsyncClient) -> None:
    await open_room(ada, "tests")
    assert await bob.receive("room") == ({"name": "tests", "messages": 0, "present": 0},)
    assert (await bob.post("/rooms", json={"name": "tests"})).status_code == 409
    assert "tests" in [room["name"] for room in (await http.get("/rooms")).json()]


async def test_who_reads_a_room_gets_its_events_until_he_reads_another(ada: TestClient, bob: TestClient, http: httpx.AsyncClient) -> None:
    for name in ("one", "two"):
        await open_room(ada, name)
        assert await bob.receive("room")
    assert (await ada.get("/rooms/one/messages")).json() == []
    assert await ada.receive() == ("presence", {"room": "one", "present": 1})
    assert await bob.call("watch", "one") is True
    assert await ada.receive() == ("presence", {"room": "one", "present": 2})
    posted = (await http.post("/rooms/one/messages", json=MESSAGE)).json()
    assert await ada.receive("message") == (posted,)
    await ada.get("/rooms/two/messages")
    await bob.get("/rooms/one/messages")
    changed = await bob.patch(f"/rooms/one/messages/{posted['id']}", json={"done": True})
    assert changed.json() == posted | {"done": True}
    assert await bob.receive("updated") == (changed.json(),)
    assert (await bob.delete(f"/rooms/one/messages/{posted['id']}")).status_code == 204
    assert await bob.receive("removed") == ({"room": "one", "id": posted["id"]},)
    assert [name for name, *_ in ada.unread()] == ["presence"], "of the room that it reads now"


async def test_typing_is_passed_on_within_the_room_only(
    ada: TestClient, bob: TestClient, app: ASGIApp, mizzen_client: ClientFactory
) -> None:
    await open_room(ada, "quiet")
    async with mizzen_client(app) as stranger:
        for client in (ada, bob):
            assert await client.call("watch", "quiet") is True
        stranger.emit("typing", {"room": "quiet", "author": "eve"})
        ada.emit("typing", {"room": "quiet", "author": "ada"})
        assert await bob.receive("typing") == ({"room": "quiet", "author": "ada"},)
        await bob.receive_nothing("typing")
        await ada.receive_nothing("typing")


async def test_who_leaves_is_counted_out(ada: TestClient, app: ASGIApp, mizzen_client: ClientFactory) -> None:
    await open_room(ada, "busy")
    await ada.call("watch", "busy")
    async with mizzen_client(app) as other:
        await other.call("watch", "busy")
    async with mizzen_client(app) as cut:
        await cut.call("watch", "busy")
        cut.cut()
    present = [(await ada.receive("presence"))[0]["present"] for _ in range(5)]
    assert present == [1, 2, 1, 2, 1]


async def test_what_is_not_valid_is_refused(ada: TestClient) -> None:
    assert (await ada.post("/rooms", json={"name": ""})).status_code == 422
    assert (await ada.get("/rooms/nowhere/messages")).status_code == 404
    assert await ada.call("watch", "nowhere") is False
    with pytest.raises(RemoteError) as refused:
        await ada.call("typing", {"room": "nowhere"})
    assert refused.value.code == "E_ARGUMENTS"
