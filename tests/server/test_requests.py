"""Socket requests through the whole server: which events are requests, what comes back, and what the app sees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel

from mizzen import OptionsError, Server, Socket, socket_of
from mizzen.fastapi import CurrentSocket
from mizzen.options import RequestsMode
from mizzen.types import Receive, Scope, Send
from mizzen.virtual.dispatch import AnswerRefused
from tests.server.fake_wire import FakeWire, connection_of, join_fake, join_nsp, multiplexer_of, open_fake, settle
from tests.support import join, open_polling, open_wire, serve, until

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

    @pytest.mark.parametrize(
        ("name", "value", "words"),
        [
            ("x-user", 42, r"socket.headers\['x-user'\]: the value is of type int"),
            ("x-user", b"secret", r"socket.headers\['x-user'\]: the value is of type bytes"),
            (42, "x", r"socket.headers\[42\]: the name is of type int"),
        ],
    )
    @pytest.mark.parametrize("debug", [False, True])
    async def test_a_header_of_the_sockets_own_that_is_no_string_is_the_apps_mistake(
        self, name: Any, value: Any, words: str, debug: bool
    ) -> None:
        async with Server(make_api(), debug=debug) as io, join_fake(io) as (wire, sid):
            told: list[tuple[Exception, str]] = []
            io.on_error(lambda error, socket, where: told.append((error, where)))
            io.sockets[sid].headers[name] = value
            answer = await request(wire, "get", {"url": "/hello?a=1"})
            assert (answer["statusCode"], answer["headers"]) == (500, {})
            assert answer["body"] == "Internal Server Error" or debug
            assert ("TypeError: socket.headers" in answer["body"]) is debug
            assert "secret" not in answer["body"]
            ((error, where),) = told
            assert where == "GET /hello"
            with pytest.raises(TypeError, match=words):
                raise error
            await wire.send('42["get",{"url":"/hello"}]')  # without an id nobody is answered, but it is reported
            await until(lambda: len(told) == 2)
            io.sockets[sid].headers.clear()
            assert (await request(wire, "get", {"url": "/hello"}))["statusCode"] == 200
            await until(lambda: not multiplexer_of(io).requests)

    async def test_whatever_stops_a_request_before_the_app_it_is_answered_and_reported(self) -> None:
        class Unreadable(dict[str, str]):
            def items(self) -> Any:
                raise asyncio.CancelledError

        async with served() as (io, wire):
            told: list[tuple[Exception, str]] = []
            io.on_error(lambda error, socket, where: told.append((error, where)))
            (socket,) = io.sockets.values()
            socket.headers = Unreadable(x="y")
            assert await request(wire, "get", {"url": "/hello"}) == {"body": "Internal Server Error", "headers": {}, "statusCode": 500}
            assert [(type(error), where) for error, where in told] == [(RuntimeError, "GET /hello")]

    async def test_an_answer_that_cannot_be_sent_becomes_a_500(self) -> None:
        """JSON that is nested too deeply, for one."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
            await send({"type": "http.response.body", "body": b"[" * 1_020 + b"]" * 1_020})

        async with Server(app) as io, join_fake(io) as (wire, _):
            told: list[tuple[Exception, str]] = []
            io.on_error(lambda error, socket, where: told.append((error, where)))
            assert await request(wire, "get", {"url": "/"}) == {"body": "Internal Server Error", "headers": {}, "statusCode": 500}
            assert [(type(error), where) for error, where in told] == [(TypeError, "GET /")]

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


class TestCookies:
    """Sessions of real frameworks are in tests/virtual/test_live.py."""

    @staticmethod
    async def cookies(wire: FakeWire, url: str = "/headers", **payload: Any) -> str | None:
        return (await request(wire, "get", {"url": url, **payload}))["body"]["cookie"]

    @staticmethod
    def make_api() -> FastAPI:
        api = make_api()

        @api.get("/set")
        async def set_cookie(response: Response, name: str, value: str = "", path: str = "/", age: int | None = None) -> None:
            response.set_cookie(name, value, path=path, max_age=age)

        @api.get("/deep/headers")
        async def headers(request: Request) -> dict[str, str | None]:
            return {"cookie": request.headers.get("cookie")}

        return api

    async def test_a_cookie_that_is_set_comes_along_and_is_not_told_the_client(self) -> None:
        async with Server(self.make_api()) as io, open_fake(io, headers={"cookie": "a=1; b=2"}) as wire:
            socket = io.sockets[await join_nsp(wire)]
            assert await self.cookies(wire) == "a=1; b=2"
            assert socket.jar is None
            answer = await request(wire, "get", {"url": "/set?name=a&value=3"})
            assert (answer["statusCode"], "set-cookie" in answer["headers"]) == (200, False)
            assert await self.cookies(wire) == "b=2; a=3"
            await request(wire, "get", {"url": "/set?name=b&age=0"})
            assert await self.cookies(wire) == "a=3"
            await request(wire, "get", {"url": "/set?name=c&value=d&path=/deep"})
            assert await self.cookies(wire) == "a=3"
            assert await self.cookies(wire, "/deep/headers") == "c=d; a=3"

    async def test_sockets_share_nothing(self) -> None:
        async with Server(self.make_api()) as io, join_fake(io) as (wire, _), join_fake(io) as (other, _):
            await request(wire, "get", {"url": "/set?name=a&value=3"})
            assert await self.cookies(other) is None
            assert await self.cookies(wire) == "a=3"

    async def test_the_cookie_of_the_message_is_ignored_and_that_of_the_server_counts(self) -> None:
        async with Server(self.make_api()) as io, open_fake(io, headers={"cookie": "a=1"}) as wire:
            socket = io.sockets[await join_nsp(wire)]
            assert await self.cookies(wire, headers={"Cookie": "a=evil"}) == "a=1"
            socket.headers["cookie"] = "own=1"
            assert await self.cookies(wire) == "own=1"
            await request(wire, "get", {"url": "/set?name=a&value=3"})
            assert await self.cookies(wire) == "own=1; a=3"

    @pytest.mark.parametrize("where", ["handshake", "query", "message", "socket"])
    async def test_with_nosession_there_are_no_cookies(self, where: str) -> None:
        headers = {"cookie": "a=1"} | ({"nosession": "true"} if where == "handshake" else {})
        async with Server(self.make_api()) as io, open_fake(io, "nosession=true" if where == "query" else "", headers=headers) as wire:
            socket = io.sockets[await join_nsp(wire)]
            payload: dict[str, Any] = {"headers": {"nosession": "true"}} if where == "message" else {}
            if where == "socket":
                socket.headers["nosession"] = "true"
            assert await self.cookies(wire, **payload) is None
            await request(wire, "get", {"url": "/set?name=a&value=3"} | payload)
            assert socket.jar is None
            if where == "message":  # it speaks for itself alone
                assert await self.cookies(wire) == "a=1"

    async def test_a_polling_client_keeps_its_cookies_through_the_upgrade(self) -> None:
        async with serve(Server(self.make_api())) as url, open_polling(url, headers={"cookie": "a=1"}) as polling:
            await polling.post("40")
            await polling.get()
            await polling.post('421["get",{"url":"/set?name=b&value=2"}]')
            await polling.get()
            await polling.post('422["get",{"url":"/headers"}]')
            assert '"cookie":"a=1; b=2"' in (await polling.get()).text


class TestTime:
    async def test_a_request_that_takes_too_long_is_504_and_the_app_sees_a_disconnect(self) -> None:
        seen: list[str] = []
        errors: list[tuple[str, str]] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            seen.append((await receive())["type"])
            with pytest.raises(AnswerRefused):
                await send({"type": "http.response.start", "status": 200, "headers": []})
            seen.append("went on")

        async with Server(app, request_timeout=0.01) as io, join_fake(io) as (wire, _):
            io.on_error(lambda error, socket, where: errors.append((type(error).__name__, where)))
            answer = await request(wire, "get", {"url": "/slow"})
            assert answer == {"body": "The app did not answer within 0.01 seconds.", "headers": {}, "statusCode": 504}
            await until(lambda: not len(io.tasks))
            assert seen == ["http.disconnect", "went on"]
            assert errors == [("TimeoutError", "GET /slow")]
            assert wire.received() == []

    async def test_an_app_that_goes_on_after_504_keeps_its_place_until_it_ends(self) -> None:
        gate = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await gate.wait()

        async with Server(app, request_timeout=0.01, max_requests=1) as io, join_fake(io) as (wire, _):
            assert (await request(wire, "get", {"url": "/"}))["statusCode"] == 504
            assert (await request(wire, "get", {"url": "/"}))["statusCode"] == 429
            gate.set()
            await until(lambda: not len(io.tasks))
            assert wire.received() == []

    async def test_an_answer_in_time_is_the_only_one(self) -> None:
        async with served(request_timeout=1e6, cancel_on_disconnect=True) as (io, wire):
            errors: list[Exception] = []
            io.on_error(lambda error, socket, where: errors.append(error))
            assert await request(wire, "get", {"url": "/hello"}) == OK
            await until(lambda: not len(io.tasks))
            assert errors == []

    @pytest.mark.parametrize("end", ["timeout", "drop", "41", "disconnect"])
    async def test_the_app_is_cancelled_if_that_is_asked_for(self, end: str) -> None:
        ends: list[str] = []
        errors: list[Exception] = []
        started = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ends.append("cancelled")
                raise

        options: dict[str, Any] = {"request_timeout": 0.01} if end == "timeout" else {}
        async with Server(app, cancel_on_disconnect=True, **options) as io:
            io.on_error(lambda error, socket, where: errors.append(error))
            async with join_fake(io) as (wire, sid):
                await wire.send('421["get",{"url":"/"}]')
                await started.wait()
                if end == "timeout":
                    assert (await wire.receive_json())[1][0]["statusCode"] == 504
                elif end == "drop":
                    wire.drop()
                elif end == "41":
                    await wire.send("41")
                else:
                    io.sockets[sid].disconnect()
                await until(lambda: not len(io.tasks))
            assert ends == ["cancelled"]
            assert [type(error) for error in errors] == ([TimeoutError] if end == "timeout" else [])

    async def test_what_follows_the_answer_is_not_cancelled(self) -> None:
        gate = asyncio.Event()
        ends: list[str] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})
            await gate.wait()
            ends.append("done")

        async with Server(app, cancel_on_disconnect=True) as io:
            async with join_fake(io) as (wire, sid):
                assert (await request(wire, "get", {"url": "/"}))["statusCode"] == 204
                io.sockets[sid].disconnect()
                await until(lambda: not io.sockets)
                await settle()
                gate.set()
                await until(lambda: not len(io.tasks))
            assert ends == ["done"]

    async def test_an_app_that_disconnects_its_own_socket_is_not_cancelled(self) -> None:
        ends: list[str] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            socket = socket_of(scope)
            assert socket is not None
            socket.disconnect()
            await asyncio.sleep(0)
            ends.append("done")

        async with Server(app, cancel_on_disconnect=True) as io, join_fake(io) as (wire, _):
            await wire.send('421["get",{"url":"/"}]')
            await until(lambda: ends == ["done"])
            await until(lambda: not len(io.tasks))

    async def test_a_graceful_close_waits_for_the_answer(self) -> None:
        gate = asyncio.Event()
        api = make_api()

        @api.get("/slow")
        async def slow() -> str:
            await gate.wait()
            return "slow"

        io = Server(api, cancel_on_disconnect=True)
        async with io, join_fake(io) as (wire, _):
            await wire.send('421["get",{"url":"/slow"}]')
            await until(lambda: multiplexer_of(io).running)
            closing = asyncio.create_task(io.close())
            await settle()
            assert not closing.done()
            gate.set()
            assert (await wire.receive_json())[1][0]["body"] == "slow"
            await closing

    @pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "5"])
    def test_a_timeout_is_seconds(self, value: Any) -> None:
        with pytest.raises(OptionsError, match="request_timeout="):
            Server(request_timeout=value)


class TestSails:
    async def test_data_of_a_get_is_query_and_body(self) -> None:
        api = FastAPI()

        @api.get("/")
        async def both(request: Request) -> dict[str, Any]:
            return {"query": dict(request.query_params), "body": (await request.body()).decode()}

        modes: tuple[tuple[RequestsMode, str], ...] = (("sails", '{"a":1}'), ("auto", ""))
        for mode, body in modes:
            async with Server(api, requests=mode) as io, join_fake(io, query=SDK) as (wire, _):
                assert (await request(wire, "get", {"url": "/?b=2", "data": {"a": 1}}))["body"] == {
                    "query": {"b": "2", "a": "1"},
                    "body": body,
                }
                assert (await request(wire, "get", {"url": "/", "data": {}}))["body"] == {"query": {}, "body": ""}

    async def test_headers_and_status_may_be_left_out(self) -> None:
        async with served(send_response_headers=False) as (_, wire):
            assert await request(wire, "get", {"url": "/hello"}) == {"body": "ok!", "statusCode": 200}
            assert (await request(wire, "get", {"url": "no slash"}))["statusCode"] == 400
        async with served(send_status_code=False, send_response_headers=False) as (_, wire):
            assert await request(wire, "get", {"url": "/hello"}) == {"body": "ok!"}
            assert await request(wire, "get", {"url": "/nowhere"}) == {"body": {"detail": "Not Found"}}
            assert (await request(wire, "get", {"url": "no slash"}))["statusCode"] == 400  # or it would be taken for a success

    async def test_the_address_is_the_one_that_trusted_proxies_tell(self) -> None:
        api = FastAPI()

        @api.get("/address")
        async def address(request: Request) -> list[Any]:
            return [request.client.host if request.client else None, request.url.scheme]

        forwarded = {"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https"}
        # uvicorn trusts proxies on its own host (forwarded_allow_ips)
        async with serve(Server(api)) as url, join(url, headers=forwarded) as (wire, _):
            await wire.send('421["get",{"url":"/address","headers":{"x-forwarded-for":"6.6.6.6"}}]')
            _, (answer,) = await wire.receive_json()
            async with httpx.AsyncClient(trust_env=False) as http:
                response = await http.get(f"{url}/address", headers=forwarded)
            assert answer["body"] == response.json() == ["203.0.113.9", "https"]


class TestDisconnecting:
    async def test_the_sockets_of_a_room_are_disconnected(self) -> None:
        reasons: list[str] = []
        io = Server(make_api())

        @io.on("disconnect")
        async def disconnect(socket: Socket, reason: str) -> None:
            reasons.append(reason)

        async with io, join_fake(io) as (one, _), join_fake(io) as (two, _), join_fake(io) as (other, _):
            for wire in (one, two):
                await request(wire, "get", {"url": "/join/user:1"})
            io.to("user:1").emit("bye")
            io.in_("user:1").disconnect_sockets()
            for wire in (one, two):
                assert await wire.event() == ["bye"]
                assert await wire.receive() == "41"
            assert await request(other, "get", {"url": "/hello"}) == OK
            await until(lambda: len(reasons) == 2)
            assert set(reasons) == {"server namespace disconnect"}
            (left,) = io.sockets.values()
            io.to(left.id).disconnect_sockets(close=True)
            assert await other.receive() == "41"
            await other.until_closed()

    async def test_all_sockets_but_some(self) -> None:
        async with served() as (io, wire), join_fake(io) as (kept, sid):
            io.except_(sid).disconnect_sockets(True)
            assert await wire.receive() == "41"
            await wire.until_closed()
            assert await request(kept, "get", {"url": "/hello"}) == OK
            io.disconnect_sockets()
            assert await kept.receive() == "41"
            assert io.sockets == {}

    async def test_a_logout_by_http_cuts_the_sockets_that_the_login_has(self) -> None:
        """The example of docs/socket-requests.md."""
        api = FastAPI()
        io = Server(api)
        sessions = {"s1": "ada"}

        @io.on("connect")
        async def connect(socket: Socket) -> None:
            session = socket.handshake.headers.get("cookie", "").removeprefix("sid=")
            if session in sessions:
                socket.join(f"session:{session}")

        @api.post("/logout", status_code=204)
        async def logout(request: Request) -> None:
            session = request.cookies["sid"]
            del sessions[session]
            io.in_(f"session:{session}").disconnect_sockets()

        async with io, open_fake(io, headers={"cookie": "sid=s1"}) as wire, join_fake(io) as (other, _):
            await join_nsp(wire)
            async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://test", cookies={"sid": "s1"}) as http:
                assert (await http.post("/logout")).status_code == 204
            assert await wire.receive() == "41"
            await settle()
            assert other.received() == []
            assert len(io.sockets) == 1
