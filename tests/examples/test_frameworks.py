"""Every example of a framework, tested as its users would: in process, by socket and by HTTP, with its lifespan."""

from __future__ import annotations

import httpx
import pytest

from mizzen.testing import ClientFactory, lifespan
from tests.virtual.live import FRAMEWORKS, example


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_route_answers_both_ways(framework: str, mizzen_client: ClientFactory) -> None:
    with example(framework) as module:
        async with (
            lifespan(module.io) as app,
            mizzen_client(app) as client,
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://testserver") as http,
        ):
            item = await client.post("/items", json={"name": "ä", "price": 1.5})
            assert (item.status_code, item.json()) == (201, {"name": "ä", "price": 1.5})
            assert (await http.post("/items", json={"name": "ä", "price": 1.5})).json() == item.json()
            assert (await client.get("/items/7", params={"tag": "b"})).json() == {"id": 7, "tag": "b"}
            assert (await client.get("/socket")).json() == {"socket": client.id}
            assert (await http.get("/socket")).json() == {"socket": None}
            assert (await client.get("/hello")).text == (await http.get("/hello")).text == "ahoy"
