"""Measure the protocol core: what one message costs, as a multiple of what `json` alone costs on the same text in the same run.

python benchmarks/micro.py [--quick]

Ratios, not times, compare between machines. Each number is the best of several rounds, and the rounds of all cases take turns, so
that a busy moment of the machine hits none of them alone. The times in microseconds are shown for orientation.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from timeit import Timer

from mizzen.protocol.codec import JSONCodec
from mizzen.protocol.encoded import Encoded
from mizzen.protocol.payload import decode_payload, encode_payload
from mizzen.types import JSON

SMALL: JSON = ["message", {"room": "lobby", "text": "x" * 20}]
LARGE: JSON = ["rows", [{"id": n, "name": f"name {n}", "tags": ["a", "b"], "score": n / 7} for n in range(100)]]
BINARY: JSON = ["upload", {"name": "picture", "data": bytes(1024)}]
POLLED = 10


@dataclass(frozen=True, slots=True)
class Case:
    """One operation; `baseline` is what `json` needs for the same data."""

    group: str
    name: str
    operation: Callable[[], object]
    baseline: Callable[[], object]


def compact(value: JSON) -> str:
    """Encode as JavaScript's `JSON.stringify` does."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def cases() -> Sequence[Case]:
    """Give all cases; what an operation needs is made here, once."""
    codec = JSONCodec()
    found: list[Case] = []
    for group, event in (("small event", SMALL), ("large event", LARGE)):
        found += event_cases(codec, group, event)
    text = compact(["upload", {"name": "picture", "data": None}])
    announced = "51-" + compact(["upload", {"name": "picture", "data": {"_placeholder": True, "num": 0}}])
    attachment = bytes(1024)
    binary_decoder = codec.decoder()

    def feed_binary() -> object:
        binary_decoder.feed(announced)
        return binary_decoder.feed(attachment)

    found += [
        Case(
            "1 KiB binary",
            "encode",
            lambda: codec.encode_event("/", BINARY, None),
            lambda: json.dumps(["upload", {"name": "picture", "data": None}]),
        ),
        Case("1 KiB binary", "decode", feed_binary, lambda: json.loads(text)),
    ]
    return found


def event_cases(codec: JSONCodec, group: str, event: JSON) -> list[Case]:
    """Give the cases of one event without attachments."""
    text = compact(event)
    encoded = codec.encode_event("/", event, None)
    data = encoded.data
    assert data is not None
    decoder = codec.decoder()
    fresh = [Encoded(data) for _ in range(POLLED)]
    body = encode_payload(fresh, 4, base64=True)[0]

    def dumps() -> object:
        return compact(event)

    def loads() -> object:
        return json.loads(text)

    def dumps_all() -> object:
        return [compact(event) for _ in range(POLLED)]

    def loads_all() -> object:
        return [json.loads(text) for _ in range(POLLED)]

    return [
        Case(group, "encode", lambda: codec.encode_event("/", event, None), dumps),
        Case(group, "WebSocket messages, first recipient", lambda: Encoded(data).messages(4), dumps),
        Case(group, "WebSocket messages, each further one", lambda: encoded.messages(4), dumps),
        Case(group, "decode", lambda: decoder.feed("2" + text), loads),
        Case(group, "decode, asking for an ack", lambda: decoder.feed("217" + text), loads),
        Case(
            group,
            f"polling payload of {POLLED}, encode",
            lambda: encode_payload([Encoded(data) for _ in range(POLLED)], 4, base64=True),
            dumps_all,
        ),
        Case(group, f"polling payload of {POLLED}, split", lambda: decode_payload(body, 4, binary=False), loads_all),
    ]


def measure(functions: Sequence[Callable[[], object]], rounds: int, seconds: float) -> list[float]:
    """Give the best time of each function, in seconds a call."""
    timers: list[tuple[Timer, int]] = []
    for function in functions:
        timer = Timer(function)
        once = timer.timeit(100) / 100
        timers.append((timer, max(1, int(seconds / once))))
    best = [float("inf")] * len(functions)
    for _ in range(rounds):
        for index, (timer, number) in enumerate(timers):
            best[index] = min(best[index], timer.timeit(number) / number)
    return best


def main() -> None:
    """Measure and print the table."""
    quick = "--quick" in sys.argv[1:]
    table = cases()
    times = measure(
        [function for case in table for function in (case.operation, case.baseline)], 2 if quick else 7, 0.002 if quick else 0.05
    )
    print(f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}; 1.00 is `json` on the same data\n")
    print(f"{'':52}{'× json':>8}{'µs':>10}{'json µs':>10}")
    for index, case in enumerate(table):
        took, json_took = times[2 * index], times[2 * index + 1]
        print(f"{case.group + ': ' + case.name:52}{took / json_took:8.2f}{took * 1e6:10.3f}{json_took * 1e6:10.3f}")


if __name__ == "__main__":
    main()
