"""Routes with an answer of each kind, for the apps that sails.io.js is tested against in Node.js and in a browser."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Response
from fastapi.responses import PlainTextResponse, RedirectResponse

answers = APIRouter()


@answers.get("/text")
async def read_text() -> PlainTextResponse:
    return PlainTextResponse("plain é")


@answers.get("/bytes")
async def read_bytes() -> Response:
    return Response(bytes([0, 1, 255]), media_type="application/octet-stream")


@answers.get("/nothing", status_code=204)
async def read_nothing() -> None:
    return None


@answers.get("/elsewhere")
async def go_elsewhere() -> RedirectResponse:
    return RedirectResponse("/mirror", 302)


@answers.get("/forbidden")
async def forbid() -> None:
    raise HTTPException(403, {"code": "E_FORBIDDEN"})


@answers.get("/fails")
async def fail() -> None:
    raise RuntimeError("the secret of the stack")
