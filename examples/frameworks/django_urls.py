"""The views of the Django example."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

from django.http import FileResponse, HttpResponse, HttpResponseRedirect, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.middleware.csrf import get_token
from django.urls import path
from django.utils.decorators import async_only_middleware
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from mizzen import socket_of

Request: TypeAlias = Any
"""A `django.http.HttpRequest`; Django has no types, and that class alone knows nothing of what middleware puts into it."""

counted = {"requests": 0}


@async_only_middleware
def count(following: Callable[[Request], Awaitable[HttpResponseBase]]) -> Callable[[Request], Awaitable[HttpResponseBase]]:
    async def middleware(request: Request) -> HttpResponseBase:
        counted["requests"] += 1
        response = await following(request)
        response.headers["x-requests"] = str(counted["requests"])
        return response

    return middleware


async def hello(request: Request) -> HttpResponse:
    return HttpResponse(b"ahoy", content_type="text/plain")


async def read_item(request: Request, id: int) -> HttpResponse:
    return JsonResponse({"id": id, "tag": request.GET.get("tag", "none")})


@csrf_exempt
async def add_item(request: Request) -> HttpResponse:
    item = json.loads(request.body)
    return JsonResponse(item, status=201) if "name" in item else JsonResponse({"name": "missing"}, status=422)


@csrf_exempt
async def login(request: Request) -> HttpResponse:
    request.session["user"] = request.POST["username"]
    return JsonResponse({"user": request.POST["username"]})


@csrf_exempt
async def logout(request: Request) -> HttpResponse:
    request.session.flush()
    return HttpResponse(status=204)


async def me(request: Request) -> HttpResponse:
    user, authorization = request.session.get("user"), request.headers.get("authorization")
    if authorization is None and user is None:
        return HttpResponse(b"log in first", status=401)
    return JsonResponse({"user": user, "authorization": authorization})


async def count_visits(request: Request) -> HttpResponse:
    request.session["visits"] = request.session.get("visits", 0) + 1
    return JsonResponse(request.session["visits"], safe=False)


async def color(request: Request) -> HttpResponse:
    response = JsonResponse({"color": request.COOKIES.get("color")})
    if "set" in request.GET:
        response.set_cookie("color", request.GET["set"], max_age=3600)
    return response


@csrf_exempt
async def mirror(request: Request) -> HttpResponse:
    return HttpResponse(request.body[::-1], content_type="application/octet-stream", headers={"X-Mirror": "1"})


async def stream(request: Request) -> StreamingHttpResponse:
    async def chunks() -> AsyncIterator[bytes]:
        for word in (b"one ", b"two ", b"three"):
            yield word

    return StreamingHttpResponse(chunks(), content_type="text/plain")


def download(request: Request) -> FileResponse:
    return FileResponse(Path(__file__).with_name("ahoy.txt").open("rb"), as_attachment=True)


async def moved(request: Request) -> HttpResponse:
    response = HttpResponseRedirect("/hello")
    response.status_code = 303
    return response


async def fails(request: Request) -> HttpResponse:
    raise ValueError("something is wrong")


async def csrf_token(request: Request) -> HttpResponse:
    return JsonResponse(get_token(request), safe=False)


@require_POST
def transfer(request: Request) -> HttpResponse:
    return HttpResponse(b"done", content_type="text/plain")


async def socket_id(request: Request) -> HttpResponse:
    socket = socket_of(request)
    return JsonResponse({"socket": None if socket is None else socket.id})


urlpatterns = [
    path("hello", hello),
    path("items/<int:id>", read_item),
    path("items", add_item),
    path("login", login),
    path("logout", logout),
    path("me", me),
    path("count", count_visits),
    path("color", color),
    path("mirror", mirror),
    path("stream", stream),
    path("download", download),
    path("moved", moved),
    path("fails", fails),
    path("csrf", csrf_token),
    path("transfer", transfer),
    path("socket", socket_id),
]
