"""The same small app in every framework that Mizzen must not be told from HTTP in."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from types import ModuleType
from typing import Annotated, Any

import litestar as star
from fastapi import Body, FastAPI, Form, HTTPException, Query
from litestar import MediaType, delete, get, post, put
from litestar.enums import RequestEncodingType
from litestar.params import Body as LitestarBody
from litestar.params import FromPath, JSONBody
from litestar.response import Redirect, Stream
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from mizzen.virtual.scope import socket_of


async def chunks() -> AsyncIterator[bytes]:
    for chunk in (b"one ", b"two ", b"three"):
        yield chunk


def seen(headers: Any) -> dict[str, str | None]:
    return {name: headers.get(name) for name in ("host", "cookie", "x-own", "content-type", "content-length", "user-agent")}


def starlette() -> Any:
    async def form(request: Request) -> Response:
        return JSONResponse(dict(await request.form()))

    async def json(request: Request) -> Response:
        return JSONResponse(await request.json(), 201)

    async def raw(request: Request) -> Response:
        return Response((await request.body())[::-1], media_type="application/octet-stream")

    async def boom(request: Request) -> Response:
        raise ValueError("boom")

    async def custom(request: Request) -> Response:
        response = PlainTextResponse("", headers={"X-One": "1", "vary": "accept"})
        response.headers.append("vary", "cookie")
        response.set_cookie("a", "b")
        return response

    async def count(request: Request, following: Callable[[Request], Any]) -> Response:
        response = await following(request)
        response.headers["x-middleware"] = "1"
        return response

    return Starlette(
        routes=[
            Route("/hello", lambda request: PlainTextResponse("ok!")),
            Route("/query", lambda request: JSONResponse([list(pair) for pair in request.query_params.multi_items()])),
            Route("/item/{id}", lambda request: JSONResponse(request.path_params)),
            Route("/json", json, methods=["POST"]),
            Route("/form", form, methods=["POST"]),
            Route("/bytes", raw, methods=["PUT"]),
            Route("/headers", lambda request: JSONResponse(seen(request.headers)), methods=["GET", "POST", "DELETE"]),
            Route("/redirect", lambda request: RedirectResponse("/hello", 302)),
            Route("/empty", lambda request: Response(status_code=204)),
            Route("/boom", boom),
            Route("/stream", lambda request: StreamingResponse(chunks(), media_type="text/plain")),
            Route("/custom", custom),
            Route("/socket", lambda request: JSONResponse(socket_of(request))),
        ],
        middleware=[Middleware(GZipMiddleware, minimum_size=1), Middleware(BaseHTTPMiddleware, dispatch=count)],
    )


def fastapi() -> Any:
    api = FastAPI()

    @api.get("/hello", response_class=PlainTextResponse)
    async def hello() -> str:
        return "ok!"

    @api.get("/query")
    async def query(request: Request, a: Annotated[list[str] | None, Query()] = None) -> Any:
        return [list(pair) for pair in request.query_params.multi_items()] if a is None else [["a", value] for value in a]

    @api.get("/item/{id}")
    def item(id: str) -> Any:
        return {"id": id}

    @api.post("/json", status_code=201)
    async def json(value: Annotated[Any, Body()]) -> Any:
        return value

    @api.post("/form")
    async def form(username: Annotated[str, Form()], password: Annotated[str, Form()]) -> Any:
        return {"username": username, "password": password}

    @api.put("/bytes")
    async def raw(request: Request) -> Response:
        return Response((await request.body())[::-1], media_type="application/octet-stream")

    @api.api_route("/headers", methods=["GET", "POST", "DELETE"])
    async def headers(request: Request) -> Any:
        return seen(request.headers)

    @api.get("/redirect")
    async def redirect() -> RedirectResponse:
        return RedirectResponse("/hello", 302)

    @api.get("/empty", status_code=204)
    async def empty() -> None:
        return None

    @api.get("/boom")
    async def boom() -> None:
        raise ValueError("boom")

    @api.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(chunks(), media_type="text/plain")

    @api.get("/custom", response_class=PlainTextResponse)
    async def custom(response: Response) -> str:
        response.headers["X-One"] = "1"
        response.set_cookie("a", "b")
        return ""

    @api.get("/socket")
    async def socket(request: Request) -> Any:
        return socket_of(request)

    @api.get("/number/{number}")
    async def number(number: int, limit: int = 10) -> int:
        if number < 0:
            raise HTTPException(418, {"why": "negative"})
        return number + limit

    return api


def litestar() -> Any:
    @get("/hello", media_type=MediaType.TEXT)
    async def hello() -> str:
        return "ok!"

    @get("/query")
    async def query(request: star.Request[Any, Any, Any]) -> list[list[str]]:
        return [list(pair) for pair in request.query_params.multi_items()]

    @get("/item/{id:str}")
    async def item(id: FromPath[str]) -> dict[str, str]:
        return {"id": id}

    @post("/json")
    async def json(data: JSONBody[Any]) -> Any:
        return data

    @post("/form", status_code=200)
    async def form(data: Annotated[dict[str, str], LitestarBody(media_type=RequestEncodingType.URL_ENCODED)]) -> dict[str, str]:
        return data

    @put("/bytes")
    async def raw(request: star.Request[Any, Any, Any]) -> star.Response[bytes]:
        return star.Response((await request.body())[::-1], media_type="application/octet-stream")

    @get("/headers")
    async def headers(request: star.Request[Any, Any, Any]) -> dict[str, str | None]:
        return seen(request.headers)

    @post("/headers", status_code=200)
    async def post_headers(request: star.Request[Any, Any, Any]) -> dict[str, str | None]:
        return seen(request.headers)

    @delete("/headers", status_code=200)
    async def delete_headers(request: star.Request[Any, Any, Any]) -> dict[str, str | None]:
        return seen(request.headers)

    @get("/redirect")
    async def redirect() -> Redirect:
        return Redirect("/hello", status_code=302)

    @get("/empty", status_code=204)
    async def empty() -> None:
        return None

    @get("/boom")
    async def boom() -> None:
        raise ValueError("boom")

    @get("/stream")
    async def stream() -> Stream:
        return Stream(chunks(), media_type="text/plain")

    @get("/custom", media_type=MediaType.TEXT)
    async def custom() -> star.Response[str]:
        response = star.Response("", headers={"X-One": "1"}, media_type=MediaType.TEXT)
        response.set_cookie("a", "b")
        return response

    @get("/socket")
    async def socket(request: star.Request[Any, Any, Any]) -> Any:
        return star.Response(socket_of(request), media_type=MediaType.JSON)

    routes = [hello, query, item, json, form, raw, headers, post_headers, delete_headers, redirect, empty, boom, stream, custom, socket]
    return star.Litestar(routes, openapi_config=None, logging_config=None)


def quart() -> Any:
    from quart import Quart, Response, jsonify, redirect, request

    app: Any = Quart("app")

    @app.get("/hello")
    async def hello() -> Any:
        return Response("ok!", mimetype="text/plain")

    @app.get("/query")
    async def query() -> Any:
        return jsonify([list(pair) for pair in request.args.items(multi=True)])

    @app.get("/item/<id>")
    async def item(id: str) -> dict[str, str]:
        return {"id": id}

    @app.post("/json")
    async def json() -> Any:
        return jsonify(await request.get_json()), 201

    @app.post("/form")
    async def form() -> Any:
        return dict(await request.form)

    @app.put("/bytes")
    async def raw() -> Any:
        data: Any = await request.get_data(as_text=False)
        return Response(data[::-1], mimetype="application/octet-stream")

    @app.route("/headers", methods=["GET", "POST", "DELETE"])
    async def headers() -> Any:
        return seen(request.headers)

    app.add_url_rule("/redirect", "redirect", lambda: redirect("/hello"))
    app.add_url_rule("/empty", "empty", lambda: ("", 204))

    @app.get("/boom")
    async def boom() -> Any:
        raise ValueError("boom")

    @app.get("/stream")
    async def stream() -> Any:
        return Response(chunks(), mimetype="text/plain")

    @app.get("/custom")
    async def custom() -> Any:
        response = Response("", mimetype="text/plain", headers={"X-One": "1"})
        response.set_cookie("a", "b")
        return response

    @app.get("/socket")
    async def socket() -> Any:
        return jsonify(socket_of(request))

    return app


def django() -> Any:
    import json as stdlib_json

    from django.conf import settings
    from django.core.asgi import get_asgi_application
    from django.http import HttpRequest, HttpResponse, JsonResponse, QueryDict, StreamingHttpResponse
    from django.urls import path

    def query(request: HttpRequest) -> Any:
        return JsonResponse([[key, value] for key, values in request.GET.lists() for value in values], safe=False)

    def boom(request: HttpRequest) -> Any:
        raise ValueError("boom")

    def custom(request: HttpRequest) -> Any:
        response = HttpResponse(b"", content_type="text/plain", headers={"X-One": "1"})
        response.set_cookie("a", "b")
        return response

    def form(request: HttpRequest) -> Any:
        posted: QueryDict = request.POST
        return JsonResponse(posted.dict())

    def hello(request: HttpRequest) -> Any:
        return HttpResponse(status=405) if request.method == "DELETE" else HttpResponse(b"ok!", content_type="text/plain")

    if not settings.configured:
        urls: Any = ModuleType("mizzen_test_urls")
        urls.urlpatterns = [
            path("hello", hello),
            path("query", query),
            path("item/<id>", lambda request, id: JsonResponse({"id": id})),
            path("json", lambda request: JsonResponse(stdlib_json.loads(request.body), safe=False, status=201)),
            path("form", form),
            path("bytes", lambda request: HttpResponse(request.body[::-1], content_type="application/octet-stream")),
            path("headers", lambda request: JsonResponse(seen(request.headers))),
            path("redirect", lambda request: HttpResponse(status=302, headers={"location": "/hello"})),
            path("empty", lambda request: HttpResponse(status=204)),
            path("boom", boom),
            path("stream", lambda request: StreamingHttpResponse(chunks(), content_type="text/plain")),
            path("custom", custom),
            path("socket", lambda request: JsonResponse(socket_of(request), safe=False)),
        ]
        sys.modules[urls.__name__] = urls
        settings.configure(
            ROOT_URLCONF=urls.__name__,
            ALLOWED_HOSTS=["*"],
            SECRET_KEY="x",
            MIDDLEWARE=["django.middleware.http.ConditionalGetMiddleware", "django.middleware.common.CommonMiddleware"],
            LOGGING_CONFIG=None,
        )
    return get_asgi_application()


def flask() -> Any:
    from a2wsgi import WSGIMiddleware
    from flask import Flask, Response, jsonify, redirect, request

    app: Any = Flask("app")
    app.add_url_rule("/hello", "hello", lambda: Response("ok!", mimetype="text/plain"))
    app.add_url_rule("/query", "query", lambda: jsonify([list(pair) for pair in request.args.items(multi=True)]))
    app.add_url_rule("/item/<id>", "item", lambda id: {"id": id})
    app.add_url_rule("/json", "json", lambda: (jsonify(request.get_json()), 201), methods=["POST"])
    app.add_url_rule("/form", "form", lambda: dict(request.form), methods=["POST"])
    app.add_url_rule("/bytes", "bytes", lambda: Response(request.get_data()[::-1], mimetype="application/octet-stream"), methods=["PUT"])
    app.add_url_rule("/headers", "headers", lambda: seen(request.headers), methods=["GET", "POST", "DELETE"])
    app.add_url_rule("/redirect", "redirect", lambda: redirect("/hello"))
    app.add_url_rule("/empty", "empty", lambda: ("", 204))
    app.add_url_rule("/stream", "stream", lambda: Response(iter((b"one ", b"two ", b"three")), mimetype="text/plain"))
    app.add_url_rule("/socket", "socket", lambda: jsonify(socket_of(request)))

    @app.get("/boom")
    def boom() -> Any:
        raise ValueError("boom")

    @app.get("/custom")
    def custom() -> Any:
        response = Response("", mimetype="text/plain", headers={"X-One": "1"})
        response.set_cookie("a", "b")
        return response

    return WSGIMiddleware(app)


APPS: dict[str, Callable[[], Any]] = {
    "starlette": starlette,
    "fastapi": fastapi,
    "litestar": litestar,
    "quart": quart,
    "django": django,
    "flask": flask,
}
