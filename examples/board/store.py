"""The board's memory: rooms and messages in one SQLite file."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Self, TypeVar

from pydantic import AfterValidator, BaseModel, StringConstraints, model_validator

Result = TypeVar("Result")


def room_name(name: str) -> str:
    """Refuse what does not look well in a path."""
    if re.fullmatch(r"[a-z0-9][a-z0-9-]{0,23}", name) is None:
        raise ValueError("use small letters, digits and hyphens, at most 24, a letter or digit first")
    return name


RoomName = Annotated[str, AfterValidator(room_name)]
Author = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=24)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=280)]

SCHEMA = """
CREATE TABLE IF NOT EXISTS rooms (name TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    room TEXT NOT NULL REFERENCES rooms(name),
    author TEXT NOT NULL,
    text TEXT NOT NULL,
    done INTEGER NOT NULL DEFAULT 0,
    edited INTEGER NOT NULL DEFAULT 0,
    created TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS messages_by_room ON messages (room, id);
"""

WELCOME = [
    ("lobby", "Write on the left and it goes out as an HTTP request. Write on the right and it goes through the socket."),
    ("lobby", "Both land in the same route, and both sides hear about it. The log under each side shows what went over the wire."),
    ("ideas", "Tick a note when it is done, edit it, delete it: PATCH and DELETE work both ways too."),
]


class NewRoom(BaseModel):
    """What a client sends to open a room."""

    name: RoomName


class Room(BaseModel):
    """A room as it is listed: how many messages it holds and how many sockets watch it now."""

    name: str
    messages: int
    present: int = 0


class NewMessage(BaseModel):
    """What a client sends to post a message."""

    author: Author
    text: Text


class Change(BaseModel):
    """What a client sends to edit a message or to tick it."""

    text: Text | None = None
    done: bool | None = None

    @model_validator(mode="after")
    def changes_something(self) -> Self:
        """Refuse a change that changes nothing."""
        if self.text is None and self.done is None:
            raise ValueError("give a text, or done, or both")
        return self


class Message(BaseModel):
    """A message as it is stored and sent."""

    id: int
    room: str
    author: str
    text: str
    done: bool
    edited: bool
    created: str


class Store:
    """Rooms and messages in the SQLite file at `path` (":memory:" keeps them until `close`)."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Open the file, make what is missing, and put a welcome on an empty board."""
        if self.path != ":memory:":
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        connection.executescript(SCHEMA)
        if connection.execute("SELECT 1 FROM rooms").fetchone() is None:
            with connection:
                connection.executemany("INSERT OR IGNORE INTO rooms VALUES (?)", [(room,) for room, _ in WELCOME])
                for room, text in WELCOME:
                    insert(connection, room, "Mizzen", text)
        self._connection = connection

    def close(self) -> None:
        """Close the file. Closing twice does nothing."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    async def rooms(self) -> list[Room]:
        """Every room, by name."""
        query = "SELECT name, COUNT(id) AS messages FROM rooms LEFT JOIN messages ON room = name GROUP BY name ORDER BY name"
        return await self._run(lambda db: [Room.model_validate(dict(row)) for row in db.execute(query)])

    async def add_room(self, name: str) -> bool:
        """Open a room; False when it is there already."""
        return await self._run(lambda db: db.execute("INSERT OR IGNORE INTO rooms VALUES (?)", (name,)).rowcount > 0)

    async def has_room(self, name: str) -> bool:
        """Whether there is such a room."""
        return await self._run(lambda db: db.execute("SELECT 1 FROM rooms WHERE name = ?", (name,)).fetchone() is not None)

    async def messages(self, room: str, limit: int) -> list[Message]:
        """The last `limit` messages of a room, oldest first."""
        query = "SELECT * FROM (SELECT * FROM messages WHERE room = ? ORDER BY id DESC LIMIT ?) ORDER BY id"
        return await self._run(lambda db: [Message.model_validate(dict(row)) for row in db.execute(query, (room, limit))])

    async def add(self, room: str, message: NewMessage) -> Message:
        """Store a message of a room that exists."""
        return await self._run(lambda db: insert(db, room, message.author, message.text))

    async def change(self, room: str, id: int, change: Change) -> Message | None:
        """Edit or tick a message; None when there is no such message in this room."""
        query = (
            "UPDATE messages SET edited = edited OR (:text IS NOT NULL AND :text <> text), text = COALESCE(:text, text),"
            " done = COALESCE(:done, done) WHERE id = :id AND room = :room RETURNING *"
        )

        def update(db: sqlite3.Connection) -> Message | None:
            row = db.execute(query, {"text": change.text, "done": change.done, "id": id, "room": room}).fetchone()
            return Message.model_validate(dict(row)) if row is not None else None

        return await self._run(update)

    async def remove(self, room: str, id: int) -> bool:
        """Delete a message; False when there is no such message in this room."""
        return await self._run(lambda db: db.execute("DELETE FROM messages WHERE id = ? AND room = ?", (id, room)).rowcount > 0)

    async def _run(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        def locked() -> Result:
            with self._lock:
                if self._connection is None:
                    raise RuntimeError("the store is not open; the application's lifespan opens it")
                with self._connection:  # commits, or rolls back what raised
                    return work(self._connection)

        return await asyncio.to_thread(locked)  # a slow disk must not stop the event loop


def insert(db: sqlite3.Connection, room: str, author: str, text: str) -> Message:
    """Add one message and give it back as it was stored."""
    created = datetime.now(UTC).isoformat(timespec="milliseconds")
    query = "INSERT INTO messages (room, author, text, created) VALUES (?, ?, ?, ?) RETURNING *"
    return Message.model_validate(dict(db.execute(query, (room, author, text, created)).fetchone()))
