"""What the namespace /features, and the dynamic ones, of the interop tests' server do; reference_server.mjs does the same.

Two things differ on purpose, and no case asks for them: an event that a packet middleware refuses is acked with an error here and not at
all by Node, and a broadcast call without a timeout waits for all here and fails after a millisecond there.
"""

from __future__ import annotations

import re
from typing import Any, cast

from mizzen import JSON, AckTimeout, ArgumentsInvalid, Server, Socket


def serve_features(io: Server) -> None:
    """Set all of it up."""
    serve_dynamic(io)
    features = io.of("/features")
    heard: dict[str, list[str]] = {}
    sent: dict[str, list[str]] = {}

    @features.on("connect")
    async def connect(socket: Socket) -> None:
        heard[socket.id], sent[socket.id] = [], []

        @socket.use
        async def guard(event: str, args: list[JSON]) -> None:
            if event == "double":
                args[0] *= 2
            if event == "guarded" and args[0] == "bad":
                raise ArgumentsInvalid("bad", [])  # which is no error of the server, so that its log says nothing of it

        @socket.on("double")
        async def double(number: int) -> int:
            return number

        @socket.on("guarded")
        async def guarded(text: str) -> None:
            socket.emit("passed", text)

        @socket.once("first")
        async def first(number: int) -> None:
            socket.emit("first", number)

        @socket.on_any
        async def hear(event: str) -> None:
            heard[socket.id].append(event)

        @socket.on_any_outgoing
        async def see(event: str) -> None:
            sent[socket.id].append(event)

    @features.on("disconnecting")
    async def disconnecting(socket: Socket, reason: str) -> None:
        socket.to("watchers").emit("leaving", socket.id, sorted(socket.rooms - {socket.id}), reason)

    @features.on("heard")
    async def get_heard(socket: Socket) -> JSON:
        return [*heard[socket.id]]

    @features.on("sent")
    async def get_sent(socket: Socket) -> JSON:
        return [*sent[socket.id]]

    @features.on("join")
    async def join(socket: Socket, *rooms: str) -> None:
        socket.join(rooms)

    @features.on("poll")
    async def poll(socket: Socket, room: str, seconds: float) -> JSON:
        try:
            return {"replies": cast("list[Any]", await features.to(room).timeout(seconds).call("vote", b"\x01")), "late": False}
        except AckTimeout as late:
            return {"replies": late.replies, "late": True}

    @features.on("who")
    async def who(socket: Socket, room: str) -> JSON:
        return [{"id": each.id, "rooms": sorted(each.rooms)} for each in await features.in_(room).fetch_sockets()]

    @features.on("move")
    async def move(socket: Socket, source: str, target: str) -> None:
        features.in_(source).sockets_join([target])
        features.in_(source).sockets_leave(source)

    @features.on("clear")
    async def clear(socket: Socket, room: str) -> None:
        features.in_(room).disconnect_sockets()

    @features.on("flags")
    async def flags(socket: Socket, room: str) -> None:
        socket.send("one", b"\x01")
        socket.compress(False).emit("said", "self")
        socket.to([room]).emit("said", "to")
        socket.to(room).except_(["nobody", "left out"]).emit("said", "except")
        socket.broadcast.emit("said", "broadcast")
        socket.local.emit("said", "local")
        features.to(room).compress(True).local.emit("said", "all")


def serve_dynamic(io: Server) -> None:
    """Make namespaces when clients ask for them."""
    rooms = io.of(re.compile("/room-[0-9]+"))

    @io.of
    async def keyed(name: str, auth: JSON) -> bool:
        return name.startswith("/keyed-") and auth == {"key": 1}

    for parent in (rooms, keyed):

        @parent.on("say")
        async def say(socket: Socket, text: JSON) -> str:
            socket.namespace.emit("said", text)
            return socket.namespace.name

        @parent.on("say_everywhere")
        async def say_everywhere(socket: Socket, text: str) -> None:
            rooms.emit("said", text)
