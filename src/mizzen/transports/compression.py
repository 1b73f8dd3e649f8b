"""Compression of HTTP answers: which coding a client takes, and the body in it."""

from __future__ import annotations

import asyncio
import re
import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from collections.abc import MutableMapping

LEVEL: Final = 3
"""zlib's level for answers that are made once: within 2 % of the size that level 6 reaches, in half of its time."""

BEST: Final = 9
"""zlib's level for what is kept."""

LARGE: Final = 64 * 1024
"""Bytes from which on a thread compresses; fewer take less than half a millisecond, not much more than the way to a thread and back."""

WINDOW_BITS: Final = {"gzip": 31, "deflate": 15}
_WEIGHT = re.compile(r"\s*q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*", re.IGNORECASE)


@lru_cache(maxsize=128)
def preferred_coding(accepted: str) -> str | None:
    """Give the coding that an Accept-Encoding header prefers, `gzip` or `deflate`; None where it is better sent as it is.

    RFC 9110, 12.5.3: the highest weight wins, 0 is "not acceptable", `*` stands for every coding that is not named.
    """
    weights: dict[str, float] = {}
    for part in accepted.lower().split(","):
        name, semicolon, parameter = part.strip().partition(";")
        weight = _WEIGHT.fullmatch(parameter)
        if name and (weight or not semicolon):
            name = name.strip()
            weights["gzip" if name == "x-gzip" else name] = float(weight[1]) if weight else 1.0
    others = weights.get("*", 0.0)
    best = max(WINDOW_BITS, key=lambda name: weights.get(name, others))  # gzip, where they are equal
    weight_of_best = weights.get(best, others)
    # Nobody who names a coding wants it less than none, unless it says so.
    return best if weight_of_best > 0 and weight_of_best >= weights.get("identity", 0.0) else None


def compress(body: bytes, coding: str, level: int = LEVEL) -> bytes:
    """Give the body in a coding: `gzip`, or `deflate`, which is the zlib format."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, WINDOW_BITS[coding])
    return compressor.compress(body) + compressor.flush()


async def compress_aside(body: bytes, coding: str) -> bytes:
    """Compress without keeping the event loop from other work: a thread does it where it takes long."""
    return compress(body, coding) if len(body) < LARGE else await asyncio.to_thread(compress, body, coding)


async def compress_once(body: bytes, coding: str, kept: MutableMapping[object, object], key: object) -> bytes:
    """Compress what others will ask for too, once: it is kept under `key`, and who asks meanwhile waits for the same."""
    known = kept.get(key)
    if known is None:
        if len(body) < LARGE:
            known = kept[key] = compress(body, coding)
        else:
            known = kept[key] = asyncio.get_running_loop().create_task(compress_aside(body, coding), name="mizzen-compress")
    if isinstance(known, bytes):
        return known
    compressed = await asyncio.shield(cast("asyncio.Task[bytes]", known))
    kept[key] = compressed
    return compressed
