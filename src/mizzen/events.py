"""Events with types: an `Event` may stand wherever the name of an event may, and type checkers then know its arguments and its ack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, ParamSpec, TypeAlias, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

if TYPE_CHECKING:

    class AnyEvent:
        """An event with types, whichever. At run time it is a str."""

        # For type checkers it is none: what takes any name, with any arguments, would else take an Event with wrong ones.
        def __init__(self, name: str) -> None: ...

else:

    class AnyEvent(str):
        """An event with types, whichever."""

        __slots__ = ()


class Event(AnyEvent, Generic[P, R]):
    """The name of an event together with the types of its arguments and of its ack.

        typing = Event[[str], int]("typing")      # one str, acked with an int

        @io.on(typing)
        async def handler(socket: Socket, room: str) -> int: ...

        socket.emit(typing, "lobby")              # checked by the type checker
        count = await socket.call(typing, "lobby")

    It is a str, and nothing else at run time: what handlers are sent is validated by the annotations of their own parameters.
    """

    __slots__ = ()


EventName: TypeAlias = str | AnyEvent
"""The name of an event, with or without types."""
