"""The parser of a server: packets as MessagePack, and by a codec of one's own, over every transport."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mizzen import ConnectRefused, JSONCodec, MsgpackCodec, OptionsError, Server, Socket
from mizzen.types import Receive, Scope, Send
from tests.support import join, open_polling, open_wire, serve

DOCUMENTATION = Path(__file__).resolve().parents[2] / "docs/parsers.md"
pack, unpack = msgspec.msgpack.encode, msgspec.msgpack.decode


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the request's body, as bytes."""
    assert scope["type"] == "http"
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"image/png")]})
    await send({"type": "http.response.body", "body": body})


def make(**options: Any) -> Server:
    io = Server(app, **options)

    @io.on("connect")
    async def connect(socket: Socket, auth: Any) -> None:
        if auth == {"refuse": b"me"}:
            raise ConnectRefused("no", data=b"why")

    @io.on("echo")
    async def echo(socket: Socket, *args: Any) -> tuple[Any, ...]:
        socket.emit("echoed", *args)
        return args

    @io.on("at")
    async def at(socket: Socket, moment: datetime) -> list[object]:
        return [moment.year, moment]

    @io.on("ask_back")
    async def ask_back(socket: Socket) -> Any:
        return await socket.call("question", b"?")

    return io


@asynccontextmanager
async def serving(native: bool) -> AsyncIterator[str]:
    async with serve(make(parser=MsgpackCodec()), native=native) as url:
        yield url


ARGS = ["é", b"\0\xff", {"list": [b"", 1.5, None]}]


@pytest.mark.parametrize("native", [False, True], ids=["asgi", "native"])
async def test_messages_on_websocket_are_binary(native: bool) -> None:
    async with serving(native) as url, open_wire(url) as wire:

        async def receive() -> Any:
            message = await wire.receive()
            assert isinstance(message, bytes)
            return unpack(message)

        await wire.send(pack({"type": 0, "nsp": "/", "data": {"a": b"auth"}}))
        connected = await receive()
        assert connected.keys() == {"type", "nsp", "data"}
        assert (connected["type"], connected["nsp"], [*connected["data"]]) == (0, "/", ["sid"])
        await wire.send(pack({"type": 2, "nsp": "/", "data": ["echo", *ARGS], "id": 300, "options": {"compress": True}}))
        assert await receive() == {"type": 2, "nsp": "/", "data": ["echoed", *ARGS]}
        assert await receive() == {"type": 3, "nsp": "/", "data": ARGS, "id": 300}
        await wire.send(pack({"type": 2, "nsp": "/", "data": ["ask_back"], "id": 1}))
        question = await receive()
        assert question["data"] == ["question", b"?"]
        await wire.send(pack({"type": 3, "nsp": "/", "data": [b"!"], "id": question["id"]}))
        assert await receive() == {"type": 3, "nsp": "/", "data": [b"!"], "id": 1}
        await wire.send(pack({"type": 2, "nsp": "/", "data": ["at", datetime(2024, 1, 2, tzinfo=UTC)], "id": 2}))
        assert await receive() == {
            "type": 3,
            "nsp": "/",
            "data": [[2024, msgspec.msgpack.Ext(0, (1_704_153_600_000).to_bytes(8))]],
            "id": 2,
        }
        await wire.send(pack({"type": 0, "nsp": "/none"}))
        assert await receive() == {"type": 4, "nsp": "/none", "data": {"message": "Invalid namespace"}}


@pytest.mark.parametrize("native", [False, True], ids=["asgi", "native"])
async def test_engine_io_3_marks_them_as_messages(native: bool) -> None:
    async with serving(native) as url, open_wire(url, eio=3) as wire:
        assert await wire.receive() == b"\x04" + pack({"type": 0, "nsp": "/"})
        await wire.send(b"\x04" + pack({"type": 2, "nsp": "/", "data": ["echo", b"1"]}))
        assert await wire.receive() == b"\x04" + pack({"type": 2, "nsp": "/", "data": ["echoed", b"1"]})


@pytest.mark.parametrize(("eio", "query", "mark"), [(4, "", "b"), (3, "b64=1", "b4")])
async def test_polling_carries_them_as_base64(eio: int, query: str, mark: str) -> None:
    def record(packet: Any) -> str:
        text = mark + b64encode(pack(packet)).decode()
        return text if eio == 4 else f"{len(text)}:{text}"

    async with serving(False) as url, open_polling(url, query, eio=eio) as polling:
        polling.query += query and f"&{query}"
        if eio == 4:  # Engine.IO 3 joins by itself, perhaps before the first poll
            await polling.post(record({"type": 0, "nsp": "/"}))
            connected = (await polling.get()).text
            assert unpack(b64decode(connected.removeprefix(mark)))["type"] == 0
        await polling.post(record({"type": 2, "nsp": "/", "data": ["echo", *ARGS]}))
        answer = ""
        while not answer.endswith(record({"type": 2, "nsp": "/", "data": ["echoed", *ARGS]})):
            answer = (await polling.get()).text
            assert answer


async def test_polling_of_engine_io_3_carries_them_as_bytes() -> None:
    async with serving(False) as url, open_polling(url, eio=3) as polling:
        message = b"\x04" + pack({"type": 2, "nsp": "/", "data": ["echo", *ARGS]})
        body = b"\x01" + bytes(map(int, str(len(message)))) + b"\xff" + message
        await polling.post(body, headers={"content-type": "application/octet-stream"})
        answer = b""
        while b"echoed" not in answer:
            answer = (await polling.get()).content
        assert unpack(answer[answer.rindex(b"\xff\x04") + 2 :]) == {"type": 2, "nsp": "/", "data": ["echoed", *ARGS]}


async def test_a_refusal_may_hold_bytes() -> None:
    async with serving(False) as url, open_wire(url) as wire:
        await wire.send(pack({"type": 0, "nsp": "/", "data": {"refuse": b"me"}}))
        message = await wire.receive()
        assert isinstance(message, bytes)
        assert unpack(message) == {"type": 4, "nsp": "/", "data": {"message": "no", "data": b"why"}}


async def test_a_socket_request_is_answered_in_the_same_form() -> None:
    async with serving(False) as url, open_wire(url) as wire:
        await wire.send(pack({"type": 0, "nsp": "/"}))
        await wire.receive()
        await wire.send(pack({"type": 2, "nsp": "/", "data": ["post", {"url": "/", "data": b"\x89PNG"}], "id": 0}))
        message = await wire.receive()
        assert isinstance(message, bytes)
        answer = {"body": b"\x89PNG", "headers": {"content-type": "image/png"}, "statusCode": 200}
        assert unpack(message) == {"type": 3, "nsp": "/", "data": [answer], "id": 0}


@pytest.mark.parametrize("message", ['40{"a":1}', b"\xc1", b"\x80"])
async def test_a_client_with_another_parser_loses_its_connection_and_no_other_does(message: str | bytes) -> None:
    async with serving(False) as url, open_wire(url) as wire, open_wire(url) as other:
        await wire.send(message)
        await wire.until_closed()
        await other.send(pack({"type": 0, "nsp": "/"}))
        assert isinstance(await other.receive(), bytes)


async def test_json_is_what_there_is_without_the_option() -> None:
    for options in ({}, {"parser": None}, {"parser": JSONCodec()}):
        async with serve(make(**options)) as url, join(url) as (wire, _):
            await wire.send('42["echo",1]')
            assert await wire.receive() == '42["echoed",1]'


@pytest.mark.parametrize(
    ("parser", "message"),
    [(MsgpackCodec, r"did you mean MsgpackCodec\(\)"), ("msgpack", "with a method 'encode_event'"), (object(), "with a method 'encode'")],
)
def test_what_is_no_parser_is_refused(parser: Any, message: str) -> None:
    with pytest.raises(OptionsError, match=message) as caught:
        Server(parser=parser)
    assert str(caught.value).startswith("parser=")


async def test_the_documented_codec_of_ones_own() -> None:
    section = DOCUMENTATION.read_text().partition("## A parser of your own")[2]
    found = re.search(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert found is not None
    module: dict[str, Any] = {}
    exec(compile(found.group(1), DOCUMENTATION.name, "exec"), module)
    assert isinstance(module["io"], Server)
    async with serve(make(parser=module["ArrayCodec"]())) as url, open_wire(url) as wire:
        await wire.send('4[0, "/", null, null]')
        connected = await wire.receive()
        assert isinstance(connected, str)
        assert connected.startswith('4[0, "/", null, {"sid": "')
        await wire.send('4[2, "/", 7, ["echo", "x"]]')
        assert await wire.receive() == '4[2, "/", null, ["echoed", "x"]]'
        assert await wire.receive() == '4[3, "/", 7, ["x"]]'
        await wire.send('4[2, "/", null, ["disconnect"]]')
        await wire.until_closed()
