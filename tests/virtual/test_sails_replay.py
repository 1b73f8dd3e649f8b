"""What was recorded of a real Sails server, sent to a running Mizzen: what reaches the app, and what comes back."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed

from mizzen import Server
from mizzen.types import Receive, Scope, Send
from tests.support import Wire, join_namespace, open_wire, serve

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "sails.json").read_text())
ROWS: list[dict[str, Any]] = VECTORS["rows"]
SENTINEL = "/the-end"


class App:
    """Writes down what reaches it, and answers as a row says."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] = {}
        self.reached: list[dict[str, Any]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        answer: dict[str, Any] = {"status": 200, "headers": {}, "body": ""}
        if scope["path"] != SENTINEL:
            answer = self.answer
            self.reached.append(
                {
                    "method": scope["method"],
                    "path": scope["path"],
                    "query": scope["query_string"].decode(),
                    "body": (await receive())["body"].decode() or None,
                    "headers": {name.decode(): value.decode() for name, value in scope["headers"]},
                }
            )
        if "raises" in answer:
            raise RuntimeError(answer["raises"])
        headers = [(name.encode(), value.encode()) for name, value in answer["headers"].items()]
        await send({"type": "http.response.start", "status": answer["status"], "headers": headers})
        body = answer["body"]
        await send({"type": "http.response.body", "body": base64.b64decode(body["base64"]) if isinstance(body, dict) else body.encode()})


async def replay(url: str, row: dict[str, Any]) -> dict[str, Any]:
    """Send the frame of a row; give what came back."""
    eio = row.get("eio", 3)
    async with open_wire(url, row.get("query", VECTORS["query"]), headers=row.get("handshake"), eio=eio) as wire:
        if eio == 4:
            await join_namespace(wire)
        else:
            assert await wire.receive() == "40"
        await wire.send(row["frame"])
        if "attachment" in row:
            await wire.send(base64.b64decode(row["attachment"]))
        try:
            await wire.send("42999" + json.dumps(["get", {"url": SENTINEL}]))
            return await until_sentinel(wire)
        except ConnectionClosed:
            return {"kind": "closed"}


async def until_sentinel(wire: Wire) -> dict[str, Any]:
    came: dict[str, Any] = {"kind": "none"}
    while True:
        message = await wire.receive()
        assert isinstance(message, str), message
        if message.startswith("43999["):
            return came
        assert came == {"kind": "none"}, "a frame is answered at most once"
        if message.startswith(("430[", "461-0[")):
            (jwr,) = json.loads(message[message.index("[") :])
            if message.startswith("461-0["):
                attachment = await wire.receive()
                assert isinstance(attachment, bytes)
                jwr["body"] = {"base64": base64.b64encode(attachment.removeprefix(b"\x04")).decode()}
            came = shape({"kind": "ack"} | jwr)
        elif message.startswith("42["):
            name, error = json.loads(message[2:])
            came = shape({"kind": "event", "event": name} | error)
        else:
            came = {"kind": "text", "text": message}


def shape(came: dict[str, Any]) -> dict[str, Any]:
    if "code" in came:
        assert came["body"] == came["details"]
        assert "stack" not in came
        return {key: came[key] for key in ("kind", "event", "code", "statusCode") if key in came}
    came["headers"].pop("content-type", None)
    return came


async def test_what_sails_was_sent() -> None:
    app = App()
    differences: dict[str, Any] = {}
    async with serve(Server(app, requests="sails"), native=True) as url:
        for row in ROWS:
            app.answer, app.reached = row.get("answer", {"raises": "it should not have come here"}), []
            came = await replay(url, row)
            if came != row["ack"]:
                differences[f"{row['name']}: ack"] = (came, row["ack"])
            reached = [reached_as(reached, row["reaches"]) for reached in app.reached] if "reaches" in row else app.reached
            expected = [row["reaches"]] if "reaches" in row else []
            if reached != expected:
                differences[f"{row['name']}: app"] = (reached, expected)
    assert differences == {}


def reached_as(reached: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """Leave out what a row does not speak of."""
    headers = reached.pop("headers")
    return reached | {"headers": {name: headers.get(name) for name in expected["headers"]}} if "headers" in expected else reached


def test_each_difference_has_its_reason() -> None:
    for row in ROWS:
        assert ("reason" in row) is ("sails" in row or row.get("differs") == "request"), row["name"]
        assert row.get("sails") != row["ack"], row["name"]
    assert len({row["name"] for row in ROWS}) == len(ROWS)
