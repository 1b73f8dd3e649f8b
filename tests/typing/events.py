"""What type checkers say of events with types, and of those that are plain strings.

pyright checks this file. Each line that is wrong says so in an ignore comment; one that pyright finds no error in is an error itself
(`reportUnnecessaryTypeIgnoreComment`), so that every error here is a real one.
"""

from __future__ import annotations

from typing import Any, assert_type

from mizzen import JSON, Event, Namespace, Reason, Server, Socket, from_thread
from mizzen.server.operator import Operator
from mizzen.server.remote import RemoteSocket

typing = Event[[str], int]("typing")
nothing = Event[[], None]("nothing")
many = Event[[str, int, bytes], tuple[str, int]]("many")
anything = Event[..., Any]("anything")

io = Server()
chat = Namespace("/chat")


def emits(socket: Socket, operator: Operator, remote: RemoteSocket) -> None:
    io.emit(typing, "lobby")
    chat.emit(typing, "lobby")
    operator.emit(typing, "lobby")
    socket.emit(typing, "lobby")
    remote.emit(typing, "lobby")
    io.to("room", ["a", "b"]).except_("c").volatile.local.compress(False).timeout(2).emit(many, "a", 1, b"b")
    socket.broadcast.emit(nothing)
    io.emit(anything, 1, "2", None)

    io.emit(typing, 5)  # pyright: ignore[reportArgumentType, reportCallIssue]
    chat.emit(typing)  # pyright: ignore[reportCallIssue]
    operator.emit(typing, "lobby", "more")  # pyright: ignore[reportCallIssue]
    socket.emit(typing, b"lobby")  # pyright: ignore[reportArgumentType, reportCallIssue]
    remote.emit(typing, None)  # pyright: ignore[reportArgumentType, reportCallIssue]
    io.emit(nothing, 1)  # pyright: ignore[reportCallIssue]
    io.emit(many, "a", "1", b"b")  # pyright: ignore[reportArgumentType, reportCallIssue]


async def calls(socket: Socket, operator: Operator, remote: RemoteSocket) -> None:
    assert_type(await socket.call(typing, "lobby"), int)
    assert_type(await remote.call(typing, "lobby"), int)
    assert_type(await socket.call(many, "a", 1, b"b"), tuple[str, int])
    assert_type(await socket.call(nothing), None)
    assert_type(await socket.call("typing", "lobby", timeout=5), JSON)
    assert_type(await socket.timeout(5).call(typing, "lobby"), int)
    assert_type(await socket.broadcast.call(typing, "lobby"), list[int])
    assert_type(await io.timeout(5).call(typing, "lobby"), list[int])
    assert_type(await operator.call(typing, "lobby"), list[int])

    await socket.call(typing, 5)  # pyright: ignore[reportArgumentType, reportCallIssue]
    await operator.call(typing)  # pyright: ignore[reportCallIssue]
    await io.call(typing, "lobby", 1)  # pyright: ignore[reportCallIssue]
    await chat.call(typing, 1)  # pyright: ignore[reportArgumentType, reportCallIssue]
    await remote.call(typing, 1)  # pyright: ignore[reportArgumentType, reportCallIssue]


@io.on(typing)
async def on_typing(socket: Socket, room: str) -> int:
    return len(room)


@chat.on(typing, ordered=True)
def on_typing_plain(socket: Socket, room: str) -> int:
    return len(room)


@io.once(many)
async def once_many(socket: Socket, text: str, number: int, data: bytes) -> tuple[str, int]:
    return text, number


@io.on(typing)  # pyright: ignore[reportArgumentType]
async def wrong_argument(socket: Socket, room: int) -> int:
    return room


@chat.on(typing)  # pyright: ignore[reportArgumentType]
async def wrong_result(socket: Socket, room: str) -> str:
    return room


@io.once(typing)  # pyright: ignore[reportArgumentType]
async def no_socket(room: str) -> int:
    return 1


@io.on(many)  # pyright: ignore[reportArgumentType]
async def too_few(socket: Socket, text: str) -> tuple[str, int]:
    return text, 1


def of_one_socket(socket: Socket) -> None:
    @socket.on(typing)
    async def on_typing(room: str) -> int:
        return len(room)

    @socket.once(typing)
    def once_typing(room: str) -> int:
        return len(room)

    socket.on(typing, lambda room: len(room))
    io.on(typing, lambda socket, room: len(socket.id) + len(room))

    @socket.on(typing)  # pyright: ignore[reportArgumentType]
    async def wrong_argument(room: int) -> int:
        return room

    @socket.once(typing)  # pyright: ignore[reportArgumentType]
    async def with_socket(socket: Socket, room: str) -> int:
        return 1


# Names that are strings are as comfortable as ever.


@io.on("join")
async def join(socket: Socket, *rooms: str) -> None:
    socket.join(rooms)


@io.on("disconnect")
def disconnect(socket: Socket, reason: Reason, details: str | None) -> None: ...


@chat.once("connect")
async def connect(socket: Socket, auth: dict[str, str] | None) -> None:
    @socket.on("own")
    async def own(number: int = 1) -> int:
        return number

    assert_type(await own(2), int)


async def strings(socket: Socket) -> None:
    socket.emit("x", 1, {"a": [None, b"b"]})
    io.on("y", print)
    socket.on("z", lambda: 1)
    await io.to("room").call("x", 1, timeout=5)
    io.off("y", print)
    assert_type(join, Any)  # pyright: ignore[reportAssertTypeFailure] - a decorator leaves the function what it is


def in_a_thread(socket: Socket) -> None:
    assert_type(from_thread(socket.call, "ask", 1, timeout=5), JSON)
    assert_type(from_thread(socket.call, typing, "lobby"), int)
    from_thread(socket.drain)
    from_thread(io.to("room").call, "ask", timeout=1.5)
    from_thread(socket.call, 5)  # pyright: ignore[reportArgumentType, reportCallIssue]


@io.on_server_side("ask")
async def of_nodes(number: int) -> int:
    return number


async def between_nodes() -> None:
    assert_type(await of_nodes(1), int)
    assert_type(await chat.server_side_call("ask", 1, timeout=2), list[JSON])
    io.server_side_emit(typing, "lobby")
    io.off(typing, on_typing)
