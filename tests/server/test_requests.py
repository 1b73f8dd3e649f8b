"""Socket requests through the whole server: which events are requests, what comes back, and what the app sees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel

from mizzen import Server, Socket, socket_of
from mizzen.fastapi import CurrentSocket
from mizzen.types import Receive, Scope, Send
from tests.server.fake_wire import FakeWire, connection_of, join_fake, join_nsp, multiplexer_of, open_fake, settle
from tests.support import open_wire, serve, until

SDK = "__sails_io_sdk_version=1.2.1&__sails_io_sdk_platform=node&__sails_io_sdk_language=javascript"
OK = {"body": "ok!", "headers": {"content-type": "text/plain; charset=utf-8"}, "statusCode": 200}


class Message(BaseModel):
    text: str
    stars: int = 0


def make_api() -> FastAPI:
    api = FastAPI()

    @api.api_route("/hello", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
    async def hello() -> Response:
        return PlainTextResponse("ok!")

    @api.get("/query")
    async def query(a: int, b: str = "none") -> dict[str, Any]:
        return {"a": a, "b": b}

    @api.post("/messages", status_code=201)
    async def post(message: Message) -> Message:
        return message

    @api.get("/forbidden")
    async def forbidden() -> None:
        raise HTTPException(403, "no")

    @api.get("/boom")
    async def boom() -> None:
        raise ValueError("secret")

    @api.get("/sync")
    def sync() -> list[int]:
        return [1]

    @api.get("/empty", status_code=204)
    async def empty() -> None: ...

    @api.get("/bytes")
    async def binary() -> Response:
        return Response(b"\x00\x01", media_type="application/octet-stream")

    @api.get("/me")
    async def me(socket: CurrentSocket, request: Request) -> JSONResponse:
        assert socket is socket_of(request)
        assert socket is socket_of(request.scope)
        return JSONResponse(None if socket is None else socket.id)

    @api.get("/join/{room}")
    async def join(room: str, socket: CurrentSocket) -> bool:
        if socket:
            socket.join(room)
        return socket is not None

    @api.get("/headers")
    async def headers(request: Request) -> dict[str, str | None]:
        return {name: request.headers.get(name) for name in ("authorization", "x-own", "cookie", "user-agent", "host")}

    @api.middleware("http")
    async def mark(request: Request, following: Any) -> Response:
        response = await following(request)
        if request.url.path == "/empty":
            response.headers["x-middleware"] = "1"
        return response

    return api


@asynccontextmanager
async def served(query: str = "", **options: Any) -> AsyncIterator[tuple[Server, FakeWire]]:
    async with Server(make_api(), **options) as io, join_fake(io, query=query) as (wire, _):
        yield io, wire


async def request(wire: FakeWire, verb: str, *args: Any) -> Any:
    (answer,) = await wire.ask(verb, *args)
    return answer


class TestAnswers:
    @pytest.mark.parametrize("verb", ["get", "post", "put", "patch", "delete", "options"])
    async def test_every_verb_reaches_its_route(self, verb: str) -> None:
        async with served() as (_, wire):
            assert await request(wire, verb, {"url": "/hello"}) == OK

    async def test_head_has_no_body(self) -> None:
        async with served() as (_, wire):
            answer = await request(wire, "head", {"url": "/hello"})
            assert (answer["statusCode"], "body" in answer) == (200, False)

    async def test_data_is_query_or_body(self) -> None:
        async with served() as (_, wire):
            answer = await request(wire, "get", {"url": "/query?a=1", "data": {"b": "x"}})
            assert (answer["statusCode"], answer["body"]) == (200, {"a": 1, "b": "x"})
            answer = await request(wire, "post", {"url": "/messages", "data": {"text": "hi", "stars": 2}})
            assert (answer["statusCode"], answer["body"]) == (201, {"text": "hi", "stars": 2})

    async def test_the_verb_is_the_event_whatever_the_payload_says(self) -> None:
        async with served() as (_, wire):
            answer = await request(wire, "get", {"url": "/messages", "method": "post", "data": {"text": "hi"}})
            assert answer["statusCode"] == 405

    async def test_the_apps_own_errors_come_through(self) -> None:
        async with served() as (_, wire):
            assert (await request(wire, "get", {"url": "/nowhere"}))["statusCode"] == 404
            forbidden = await request(wire, "get", {"url": "/forbidden"})
            assert (forbidden["statusCode"], forbidden["body"]) == (403, {"detail": "no"})
            invalid = await request(wire, "post", {"url": "/messages", "data": {"stars": "many"}})
            assert invalid["statusCode"] == 422
            assert {problem["loc"][-1] for problem in invalid["body"]["detail"]} == {"text", "stars"}

    async def test_an_app_that_raises_is_500_without_stack_and_told_to_the_hooks_once(self) -> None:
        async with served() as (io, wire):
            told: list[tuple[str, Socket | None, str]] = []
            io.on_error(lambda error, socket, where: told.append((str(error), socket, where)))
            answer = await request(wire, "get", {"url": "/boom"})
            assert answer["statusCode"] == 500
            assert "secret" not in str(answer)
            assert "Traceback" not in str(answer)
            (socket,) = io.sockets.values()
            await until(lambda: told)
            await settle()
            assert told == [("secret", socket, "GET /boom")]
            assert await request(wire, "get", {"url": "/hello"}) == OK

    async def test_debug_shows_the_stack_of_an_app_that_only_raises(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            raise ValueError("secret")

        for debug in (False, True):
            async with Server(app, debug=debug) as io, join_fake(io) as (wire, _):
                answer = await request(wire, "get", {"url": "/"})
                assert answer["statusCode"] == 500
                assert ("ValueError: secret" in answer["body"]) is debug

    async def test_plain_endpoints_empty_answers_and_bytes(self) -> None:
        async with served() as (_, wire):
            assert (await request(wire, "get", {"url": "/sync"}))["body"] == [1]
            empty = await request(wire, "get", {"url": "/empty"})
            assert (empty["statusCode"], "body" in empty, empty["headers"]["x-middleware"]) == (204, False, "1")
            await wire.send('421["get",{"url":"/bytes"}]')
            header = str(await wire.receive())
            assert header.startswith('461-1[{"body":{"_placeholder":true,"num":0},')
            assert await wire.receive() == b"\x00\x01"

    async def test_a_request_without_ack_id_runs_and_answers_nothing(self) -> None:
        async with served() as (io, wire):
            await wire.send('42["get",{"url":"/join/room"}]', '42["get",{"url":"/nowhere"}]', '42["get",{"url":"/boom"}]')
            await until(lambda: "room" in io.of("/").adapter.rooms)
            assert await request(wire, "get", {"url": "/hello"}) == OK

    async def test_a_slow_request_holds_up_no_other(self) -> None:
        gate = asyncio.Event()
        api = make_api()

        @api.get("/slow")
        async def slow() -> str:
            await gate.wait()
            return "slow"

        async with Server(api) as io, join_fake(io) as (wire, _):
            await wire.send('421["get",{"url":"/slow"}]')
            assert await request(wire, "get", {"url": "/hello"}) == OK
            gate.set()
            prefix, (answer,) = await wire.receive_json()
            assert (prefix, answer["body"]) == ("431", "slow")

    async def test_without_an_app_every_request_is_404(self) -> None:
        async with Server() as io, join_fake(io) as (wire, _):
            assert await request(wire, "get", {"url": "/"}) == {"body": "Not Found", "headers": {}, "statusCode": 404}

    async def test_requests_to_names_another_app(self) -> None:
        async def outer(scope: Scope, receive: Receive, send: Send) -> None:
            raise AssertionError("not this one")

        async with Server(outer, requests_to=make_api()) as io, join_fake(io) as (wire, _):
            assert await request(wire, "get", {"url": "/hello"}) == OK

    async def test_an_answer_larger_than_max_response_is_501(self) -> None:
        async with served(max_response=2) as (_, wire):
            assert (await request(wire, "get", {"url": "/hello"}))["statusCode"] == 501

    async def test_over_a_real_server_http_and_socket_meet(self) -> None:
        import httpx

        io = Server(make_api())
        async with serve(io) as url, open_wire(url) as wire, httpx.AsyncClient(base_url=url, trust_env=False) as http:
            await wire.send("40")
            await wire.receive()
            await wire.send('421["post",{"url":"/messages","data":{"text":"hi"}}]')
            _, (answer,) = await wire.receive_json()
            response = await http.post("/messages", json={"text": "hi"})
            assert (answer["statusCode"], answer["body"]) == (response.status_code, response.json())
            assert (await http.get("/me")).json() is None


class TestWhichEvents:
    @pytest.mark.parametrize(
        ("mode", "query", "event", "status"),
        [
            ("auto", "", '["get",{"url":"/hello"}]', 200),
            ("auto", "", '["get",{"url":""}]', 400),
            ("auto", "", '["get",{"url":5}]', None),
            ("auto", "", '["get",{}]', None),
            ("auto", "", '["get","/hello"]', None),
            ("auto", "", '["get",null]', None),
            ("auto", "", '["get"]', None),
            ("auto", "", '["get",{"url":"/hello"},5]', 400),
            ("auto", "", '["GET",{"url":"/hello"}]', None),
            ("auto", "", '["trace",{"url":"/hello"}]', None),
            ("auto", "", '["own",{"url":"/hello"}]', None),
            ("auto", SDK, '["get",{"url":"/hello"}]', 200),
            ("auto", SDK, '["get",{}]', 400),
            ("auto", SDK, '["get",null]', 400),
            ("auto", SDK, '["get"]', 400),
            ("auto", SDK, '["get","/hello"]', 400),
            ("auto", SDK, '["GET",{"url":"/hello"}]', None),
            ("auto", "__sails_io_sdk_version=0.10.0", '["get",{"url":"/hello"}]', 200),
            ("sails", SDK, '["get",{"url":"/hello"}]', 200),
            ("sails", SDK, '["get",null]', 400),
            ("sails", "", '["get",{"url":"/hello"}]', 400),
            ("sails", "", '["get",5]', 400),
            ("sails", "__sails_io_sdk_version=0.10.0", '["get",{"url":"/hello"}]', 400),
            ("sails", "__sails_io_sdk_version=0.11.0", '["get",{"url":"/hello"}]', 200),
            ("sails", "__sails_io_sdk_version=0.11.0-rc1", '["get",{"url":"/hello"}]', 200),
            ("sails", "__sails_io_sdk_version=99.0.0", '["get",{"url":"/hello"}]', 200),
            ("sails", "__sails_io_sdk_version=foo", '["get",{"url":"/hello"}]', 400),
            (False, "", '["get",{"url":"/hello"}]', None),
            (False, SDK, '["get",{"url":"/hello"}]', None),
            (False, SDK, '["get",null]', None),
        ],
    )
    async def test_an_event_is_a_request(self, mode: Any, query: str, event: str, status: int | None) -> None:
        async with served(query, requests=mode) as (io, wire):

            @io.on("sync")
            async def sync(socket: Socket) -> None: ...

            await wire.send(f"421{event}")
            if status is not None:
                prefix, (answer,) = await wire.receive_json()
                assert (prefix, answer["statusCode"]) == ("431", status)
            assert await wire.ask("sync") == []  # no other answer

    async def test_the_sdk_version_may_be_a_header(self) -> None:
        async with Server(make_api(), requests="sails") as io:
            async with open_fake(io, headers={"__sails_io_sdk_version": "1.2.1"}) as wire:
                await join_nsp(wire)
                assert await request(wire, "get", {"url": "/hello"}) == OK

    async def test_only_the_main_namespace_takes_requests(self) -> None:
        async with served(SDK) as (io, wire):
            io.of("/chat")
            await join_nsp(wire, "/chat")
            await wire.send('42/chat,1["get",{"url":"/hello"}]')
            assert await request(wire, "get", {"url": "/hello"}) == OK

    @pytest.mark.parametrize("mode", ["auto", "sails"])
    async def test_a_handler_of_that_name_comes_first(self, mode: Any) -> None:
        async with served(SDK, requests=mode) as (io, wire):

            @io.on("get")
            async def get(socket: Socket, what: Any = None) -> str:
                return "handler"

            assert await wire.ask("get", {"url": "/hello"}) == ["handler"]
            assert await request(wire, "post", {"url": "/hello"}) == OK

    async def test_a_handler_of_another_namespace_does_not(self) -> None:
        async with served() as (io, wire):

            @io.of("/chat").on("get")
            async def get(socket: Socket) -> str:
                return "handler"

            assert await request(wire, "get", {"url": "/hello"}) == OK


class TestParseErrors:
    async def test_the_ack_is_sails_object_made_a_jwr_without_stack(self) -> None:
        async with served(SDK) as (io, wire):
            errors: list[Exception] = []
            io.on_error(lambda error, socket, where: errors.append(error))
            answer = await request(wire, "get", {"no": "url"})
            assert answer["code"] == "SAILS:HOOK:SOCKETS:PARSE_VIRTUAL_REQ"
            assert (answer["status"], answer["statusCode"], answer["headers"]) == (400, 400, {})
            assert answer["message"] == "Failed to parse incoming socket.io request."
            assert answer["body"] == answer["details"]
            assert "stack" not in answer
            assert errors == []

    async def test_without_ack_id_it_is_an_event(self) -> None:
        async with served(SDK) as (_, wire):
            await wire.send('42["get",{"no":"url"}]')
            name, error = await wire.event()
            assert name == "sails:parseError"
            assert (error["code"], error["statusCode"]) == ("SAILS:HOOK:SOCKETS:PARSE_VIRTUAL_REQ", 400)

    @pytest.mark.parametrize("eio", [3, 4])
    @pytest.mark.parametrize(
        ("query", "frame", "answer"),
        [
            ("__sails_io_sdk_version=1.2.1", '420["get",null]', 400),
            ("__sails_io_sdk_version=1.2.1", '42["get"]', None),
            ("__sails_io_sdk_version=foo", '420["get",{"url":"/hello"}]', 400),
            ("__sails_io_sdk_version=1.2.1", '420["get",{"url":"/hello"}]', 200),
        ],
        ids=["null_payload", "no_payload_no_ack", "version_that_is_none", "control"],
    )
    async def test_frames_that_end_a_sails_process(self, eio: int, query: str, frame: str, answer: int | None) -> None:
        async with Server(make_api(), requests="sails") as io, open_fake(io, query, eio=eio) as wire:
            if eio == 4:
                await wire.send("40")
            await wire.receive()
            await wire.send(frame)
            prefix, data = await wire.receive_json()
            if answer is None:
                assert (prefix, data[0]) == ("42", "sails:parseError")
            else:
                assert (prefix, data[0]["statusCode"]) == ("430", answer)
            assert not connection_of(io).gone
            await until(lambda: multiplexer_of(io).running == 0)

    @pytest.mark.parametrize(
        "payload",
        [
            {"url": "/hello", "headers": {"x-bad": "a\r\nb: c"}},
            {"url": "/hello", "headers": {"bad name": "a"}},
            {"url": "/he\r\nllo"},
            {"url": "/query", "data": 5},
            {"url": "no slash"},
            {"url": "/" + "x" * 100_000},
            {"url": "/%00"},
            {"url": "/hello", "headers": [1]},
            {"url": "/hello", "headers": None, "data": None, "params": None},
        ],
    )
    async def test_bad_payloads_answer_and_leave_the_connection_alone(self, payload: Any) -> None:
        async with served(SDK) as (_, wire):
            assert 200 <= (await request(wire, "get", payload))["statusCode"] < 500
            assert await request(wire, "get", {"url": "/hello"}) == OK


class TestSocket:
    async def test_the_app_gets_the_socket(self) -> None:
        async with served() as (io, wire):
            (sid,) = io.sockets
            assert (await request(wire, "get", {"url": "/me"}))["body"] == sid

    async def test_the_app_may_join_rooms(self) -> None:
        async with served() as (io, wire):
            assert (await request(wire, "get", {"url": "/join/lobby"}))["body"] is True
            io.to("lobby").emit("hello")
            assert await wire.event() == ["hello"]

    async def test_what_the_app_emits_comes_before_the_answer(self) -> None:
        api = make_api()
        io = Server(api)

        @api.get("/talk")
        async def talk() -> str:
            io.emit("said")
            return "done"

        async with io, join_fake(io) as (wire, _):
            await wire.send('421["get",{"url":"/talk"}]')
            assert await wire.event() == ["said"]
            assert (await wire.receive_json())[0] == "431"

    async def test_headers_of_the_socket_go_along_with_every_request(self) -> None:
        async with Server(make_api()) as io:
            async with open_fake(io, headers={"cookie": "a=b", "user-agent": "tests"}) as wire:
                socket = io.sockets[await join_nsp(wire)]
                got = (await request(wire, "get", {"url": "/headers"}))["body"]
                assert got == {"authorization": None, "x-own": None, "cookie": "a=b", "user-agent": "tests", "host": "test"}
                socket.headers["authorization"] = "Bearer x"
                socket.headers["X-Own"] = "é"
                got = (await request(wire, "get", {"url": "/headers"}))["body"]
                assert got["authorization"] == "Bearer x"
                assert got["x-own"] in ("é", "Ã©")
                del socket.headers["authorization"]
                assert (await request(wire, "get", {"url": "/headers"}))["body"]["authorization"] is None

    async def test_a_header_set_in_the_connect_handler_goes_along(self) -> None:
        async with Server(make_api()) as io:

            @io.on("connect")
            async def connect(socket: Socket, auth: dict[str, str]) -> None:
                socket.headers["authorization"] = f"Bearer {auth['token']}"

            async with join_fake(io, auth={"token": "t"}) as (wire, _):
                assert (await request(wire, "get", {"url": "/headers"}))["body"]["authorization"] == "Bearer t"

    @pytest.mark.parametrize("end", ["drop", "41", "disconnect"])
    async def test_the_app_sees_http_disconnect_when_the_socket_goes(self, end: str) -> None:
        seen: list[str] = []
        errors: list[Exception] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append((await receive())["type"])
            seen.append((await receive())["type"])
            await send({"type": "http.response.start", "status": 200, "headers": []})

        async with Server(app) as io:
            io.on_error(lambda error, socket, where: errors.append(error))
            async with join_fake(io) as (wire, sid):
                await wire.send('421["get",{"url":"/"}]')
                await until(lambda: seen)
                await settle()
                assert seen == ["http.request"]
                if end == "drop":
                    wire.drop()
                elif end == "41":
                    await wire.send("41")
                else:
                    io.sockets[sid].disconnect()
                await until(lambda: len(seen) == 2)
                await until(lambda: not len(io.tasks))
            assert seen == ["http.request", "http.disconnect"]
            assert errors == []

    async def test_a_socket_that_goes_with_its_request_is_not_answered(self) -> None:
        errors: list[Exception] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        async with Server(app) as io, join_fake(io) as (wire, _):
            io.on_error(lambda error, socket, where: errors.append(error))
            await wire.send('421["get",{"url":"/1"}]', "41")
            await until(lambda: not io.sockets)
            await until(lambda: not len(io.tasks))
            await settle()
            assert (wire.received(), errors) == ([], [])

    async def test_engine_io_3_clients_ask_as_well(self) -> None:
        async with Server(make_api()) as io, open_fake(io, SDK, eio=3) as wire:
            assert await wire.receive() == "40"
            assert (await request(wire, "get", {"url": "/me"}))["body"] == connection_of(io).sid
