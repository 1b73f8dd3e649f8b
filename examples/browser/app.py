"""A list that everybody on board adds to, for the three pages of static/.

Run it with `mizzen run examples.browser.app:io`.
"""

from __future__ import annotations

from itertools import count
from pathlib import Path

from fastapi import FastAPI, HTTPException, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field

from mizzen import Server, Socket
from mizzen.fastapi import CurrentSocket

HERE = Path(__file__).parent
LIBRARIES = {
    "htm.mjs": HERE / "node_modules/htm/dist/htm.mjs",
    "react.js": HERE / "node_modules/react/umd/react.production.min.js",
    "react-dom.js": HERE / "node_modules/react-dom/umd/react-dom.production.min.js",
    "vue.mjs": HERE / "node_modules/vue/dist/vue.esm-browser.prod.js",
}


class NewItem(BaseModel):
    """What a page sends."""

    text: str = Field(min_length=1, max_length=60)


class Item(NewItem):
    """What it gets."""

    id: int
    done: bool = False


api = FastAPI(title="To bring on board")
io = Server(api)
ids = count(1)
items: dict[int, Item] = {}


@api.get("/items")
async def read(socket: CurrentSocket) -> list[Item]:
    """List the items; a socket that asks hears of every change from now on."""
    if socket:  # None when the request came over HTTP
        socket.join("items")
    return list(items.values())


@api.post("/items", status_code=201)
async def add(new: NewItem) -> Item:
    """Add an item."""
    item = Item(id=next(ids), text=new.text)
    items[item.id] = item
    io.to("items").emit("item", item)
    return item


@api.patch("/items/{id}")
async def tick(id: int, done: bool) -> Item:
    """Tick an item, or take the tick away."""
    if id not in items:
        raise HTTPException(404, "It is gone.")
    items[id].done = done
    io.to("items").emit("item", items[id])
    return items[id]


@api.delete("/items/{id}", status_code=204)
async def remove(id: int) -> Response:
    """Remove an item."""
    if items.pop(id, None) is not None:
        io.to("items").emit("removed", id)
    return Response(status_code=204)


@io.on("watch")
async def watch(socket: Socket) -> list[Item]:
    """The same as reading over the socket, for a page that uses events only."""
    socket.join("items")
    return list(items.values())


@api.get("/npm/{name}", include_in_schema=False)
async def library(name: str) -> FileResponse:
    """React, Vue and htm as npm has them."""
    path = LIBRARIES.get(name)
    if path is None or not path.is_file():
        raise HTTPException(404, f"No file {name}. Run `npm ci` in examples/browser.")
    return FileResponse(path, media_type="text/javascript")


api.mount("/", StaticFiles(directory=HERE / "static", html=True))
