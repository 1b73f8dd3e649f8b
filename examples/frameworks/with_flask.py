"""Flask, through a2wsgi: `mizzen run examples.frameworks.with_flask:io`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from a2wsgi import WSGIMiddleware
from flask import Flask, Response, abort, jsonify, redirect, request, send_file, session
from flask.typing import ResponseReturnValue

from mizzen import Server, socket_of

written: list[str] = []
"""What was written after an answer had gone out."""

app = Flask(__name__)
app.secret_key = "change me"
counted = {"requests": 0}


@app.before_request
def count() -> None:
    counted["requests"] += 1


@app.after_request
def mark(response: Response) -> Response:
    response.headers["x-requests"] = str(counted["requests"])
    return response


@app.get("/hello")
def hello() -> ResponseReturnValue:
    return Response("ahoy", mimetype="text/plain")


@app.get("/items/<int:id>")
def read_item(id: int) -> ResponseReturnValue:
    return {"id": id, "tag": request.args.get("tag", "none")}


@app.post("/items")
def add_item() -> ResponseReturnValue:
    item = request.get_json()
    if "name" not in item:
        abort(422)
    return item, 201


@app.post("/login")
def login() -> ResponseReturnValue:
    session["user"] = request.form["username"]
    return {"user": request.form["username"]}


@app.post("/logout")
def logout() -> ResponseReturnValue:
    session.clear()
    return "", 204


@app.get("/me")
def me() -> ResponseReturnValue:
    user, authorization = session.get("user"), request.headers.get("authorization")
    if authorization is None and user is None:
        abort(401)
    return {"user": user, "authorization": authorization}


@app.get("/count")
def count_visits() -> ResponseReturnValue:
    session["visits"] = session.get("visits", 0) + 1
    return jsonify(session["visits"])


@app.get("/color")
def color() -> ResponseReturnValue:
    response = jsonify({"color": request.cookies.get("color")})
    if "set" in request.args:
        response.set_cookie("color", request.args["set"], max_age=3600)
    return response


@app.put("/mirror")
def mirror() -> ResponseReturnValue:
    return Response(request.get_data()[::-1], mimetype="application/octet-stream", headers={"X-Mirror": "1"})


@app.get("/stream")
def stream() -> ResponseReturnValue:
    def chunks() -> Iterator[bytes]:
        yield from (b"one ", b"two ", b"three")

    return Response(chunks(), mimetype="text/plain")


@app.get("/download")
def download() -> ResponseReturnValue:
    return send_file(Path(__file__).with_name("ahoy.txt"), as_attachment=True)


@app.get("/moved")
def moved() -> ResponseReturnValue:
    return redirect("/hello", 303)


@app.get("/fails")
def fails() -> ResponseReturnValue:
    raise ValueError("something is wrong")


@app.post("/later")
def later() -> ResponseReturnValue:
    word = request.args["word"]
    response = jsonify({"done": "later"})
    response.status_code = 202
    response.call_on_close(lambda: written.append(word))
    return response


@app.get("/socket")
def socket_id() -> ResponseReturnValue:
    socket = socket_of(request)
    return {"socket": None if socket is None else socket.id}


wsgi: Any = app  # the types of Flask and a2wsgi do not meet
io = Server(WSGIMiddleware(wsgi))
