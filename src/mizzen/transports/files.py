"""The files of the browser client, served under the server's path."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import mimetypes
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Final

from mizzen.transports.compression import BEST, compress, preferred_coding

Headers = list[tuple[bytes, bytes]]

STATIC: Final = Path(__file__).resolve().parent.parent / "static"
"""Where the package keeps the built client."""

ALIASES: Final = {"socket.io.js": "mizzen.js", "socket.io.min.js": "mizzen.js", "socket.io.esm.min.js": "mizzen.mjs"}
"""Under which names of a Node server pages find the client, too: it has the same interface."""

WORTH_COMPRESSING: Final = 1024
CACHE_CONTROL: Final = b"public, max-age=0"
SCRIPT = "text/javascript; charset=utf-8"  # RFC 9239
TYPES: Final = {
    ".js": SCRIPT,
    ".mjs": SCRIPT,
    ".cjs": SCRIPT,
    ".map": "application/json; charset=utf-8",
    ".json": "application/json; charset=utf-8",
    ".ts": "text/plain; charset=utf-8",
    ".mts": "text/plain; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".wasm": "application/wasm",
}


class File:
    """One file, read at the first request for it and kept, in each coding that was asked for."""

    def __init__(self, path: str | PathLike[str]) -> None:
        path = Path(path)
        self._path = path
        self.content_type: str = TYPES.get(path.suffix.lower()) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        self._tag = ""
        self._bodies: dict[str, bytes] = {}

    def _read(self, coding: str) -> bytes:
        body = self._bodies.get("")
        if body is None:
            body = self._path.read_bytes()
            # What was read first stays: the tag and every coding are of the same content.
            body = self._bodies.setdefault("", body)
            self._tag = base64.urlsafe_b64encode(hashlib.sha256(body).digest()[:15]).decode("ascii")
        if coding:
            body = self._bodies.setdefault(coding, compress(body, coding, BEST))
        return body

    async def body(self, coding: str) -> bytes:
        """Give the content in a coding (`""`: as it is). Raises OSError when the file cannot be read."""
        body = self._bodies.get(coding)
        return await asyncio.to_thread(self._read, coding) if body is None else body

    def tag(self, coding: str) -> str:
        """Give the entity tag; each coding has one of its own (RFC 9110, 8.8.3.3)."""
        return f'"{self._tag}-{coding}"' if coding else f'"{self._tag}"'

    def is_known(self, if_none_match: str) -> bool:
        """Say whether an If-None-Match header names this content, in whatever coding, by strong or weak tag."""
        tags = {self.tag(coding) for coding in ("", "gzip", "deflate")}
        known = [each.strip().removeprefix("W/") for each in if_none_match.split(",")]
        return "*" in known or not tags.isdisjoint(known)


class Files:
    """The files that are served, by name: those of the package, and those that the user names."""

    def __init__(self, *, bundled: bool, named: Mapping[str, str | PathLike[str]]) -> None:
        self._files: dict[str, File] = {path.name: File(path) for path in (_bundle() if bundled else ())}
        self._files |= {alias: self._files[name] for alias, name in ALIASES.items() if name in self._files}
        self._files |= {name: File(path) for name, path in named.items()}

    def get(self, name: str) -> File | None:
        """Give the file of exactly this name."""
        return self._files.get(name)

    @staticmethod
    async def answer(file: File, accept_encoding: str, if_none_match: str) -> tuple[int, Headers, bytes]:
        """Give status, headers and body for a GET of a file with these headers. Raises OSError when it cannot be read."""
        plain = await file.body("")
        worth = len(plain) >= WORTH_COMPRESSING
        coding = (preferred_coding(accept_encoding) or "") if worth else ""
        headers: Headers = [(b"cache-control", CACHE_CONTROL), (b"etag", file.tag(coding).encode("ascii"))]
        if worth:
            headers.append((b"vary", b"Accept-Encoding"))
        if file.is_known(if_none_match):
            return 304, headers, b""
        headers += [(b"content-type", file.content_type.encode("ascii")), (b"x-content-type-options", b"nosniff")]
        if coding:
            headers.append((b"content-encoding", coding.encode("ascii")))
        return 200, headers, await file.body(coding)


def _bundle() -> Iterable[Path]:
    if not STATIC.is_dir():
        return ()
    return [path for path in STATIC.iterdir() if path.is_file() and path.name[0] not in "._" and path.suffix != ".py"]
