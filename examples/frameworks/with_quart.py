"""Quart: `mizzen run examples.frameworks.with_quart:io`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from quart import Quart, Response, abort, jsonify, redirect, request, send_file, session
from quart.typing import ResponseReturnValue

from mizzen import Server, socket_of

written: list[str] = []
"""What background tasks wrote."""

app = Quart(__name__)
app.secret_key = "change me"
counted = {"requests": 0}
state: dict[str, str] = {}


@app.before_serving
async def start() -> None:
    state["greeting"] = "ahoy"


@app.before_request
async def count() -> None:
    counted["requests"] += 1


@app.after_request
async def mark(response: Response) -> Response:
    response.headers["x-requests"] = str(counted["requests"])
    return response


@app.get("/hello")
async def hello() -> ResponseReturnValue:
    return Response(state["greeting"], mimetype="text/plain")


@app.get("/items/<int:id>")
async def read_item(id: int) -> ResponseReturnValue:
    return {"id": id, "tag": request.args.get("tag", "none")}


@app.post("/items")
async def add_item() -> ResponseReturnValue:
    item = await request.get_json()
    if "name" not in item:
        abort(422)
    return item, 201


@app.post("/login")
async def login() -> ResponseReturnValue:
    form = await request.form
    session["user"] = form["username"]
    return {"user": form["username"]}


@app.post("/logout")
async def logout() -> ResponseReturnValue:
    session.clear()
    return "", 204


@app.get("/me")
async def me() -> ResponseReturnValue:
    user, authorization = session.get("user"), request.headers.get("authorization")
    if authorization is None and user is None:
        abort(401)
    return {"user": user, "authorization": authorization}


@app.get("/count")
async def count_visits() -> ResponseReturnValue:
    session["visits"] = session.get("visits", 0) + 1
    return jsonify(session["visits"])


@app.get("/color")
async def color() -> ResponseReturnValue:
    response = jsonify({"color": request.cookies.get("color")})
    if "set" in request.args:
        response.set_cookie("color", request.args["set"], max_age=3600)
    return response


@app.put("/mirror")
async def mirror() -> ResponseReturnValue:
    return Response((await request.get_data())[::-1], mimetype="application/octet-stream", headers={"X-Mirror": "1"})


@app.get("/stream")
async def stream() -> ResponseReturnValue:
    async def chunks() -> AsyncIterator[bytes]:
        for word in (b"one ", b"two ", b"three"):
            yield word

    return Response(chunks(), mimetype="text/plain")


@app.get("/download")
async def download() -> ResponseReturnValue:
    return await send_file(Path(__file__).with_name("ahoy.txt"), as_attachment=True)


@app.get("/moved")
async def moved() -> ResponseReturnValue:
    return redirect("/hello", 303)


@app.get("/fails")
async def fails() -> ResponseReturnValue:
    raise ValueError("something is wrong")


@app.post("/later")
async def later() -> ResponseReturnValue:
    async def write(word: str) -> None:
        written.append(word)

    app.add_background_task(write, request.args["word"])
    return {"done": "later"}, 202


@app.get("/socket")
async def socket_id() -> ResponseReturnValue:
    socket = socket_of(request)
    return {"socket": None if socket is None else socket.id}


io = Server(app)
