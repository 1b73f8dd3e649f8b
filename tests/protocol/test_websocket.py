"""RFC 6455 from the server's side: the cases of the public Autobahn suite, whole, byte by byte and in random pieces; limits; deflate."""

from __future__ import annotations

import random
import struct
import time
import zlib
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.errors import LocalProtocolError
from mizzen.protocol.upgrade import accept_key
from mizzen.protocol.websocket import (
    CLOSED,
    CLOSING,
    DEFLATE_ANSWER,
    OPEN,
    CloseCode,
    Opcode,
    WebSocket,
    accepts_deflate,
    deflate,
    encode_frame,
    encode_message,
)

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
LIMIT = 4 * 1024 * 1024
HELLO = "Hello-µ@ßöäüàá-UTF-8!!"
MASK = b"\x9f\x01\xfe\x3c"

Outcome: TypeAlias = tuple[list[str | bytes], list[tuple[int, bytes]]]
"""The messages that come out, and the frames that are sent in answer."""


def frame(opcode: int, payload: bytes | str = b"", *, fin: bool = True, rsv: int = 0, mask: bytes | None = MASK) -> bytes:
    """Give a client's frame, made without the codec's help."""
    data = payload.encode() if isinstance(payload, str) else payload
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    masked = 0 if mask is None else 0x80
    if len(data) < 126:
        head = bytes((first, masked | len(data)))
    elif len(data) < 65536:
        head = struct.pack("!BBH", first, masked | 126, len(data))
    else:
        head = struct.pack("!BBQ", first, masked | 127, len(data))
    if mask is None:
        return head + data
    key = (mask * (len(data) // 4 + 1))[: len(data)]
    return head + mask + (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(len(data), "big")


def frames_of(data: bytes) -> list[tuple[int, bytes]]:
    """Give opcode and payload of the server's frames."""
    frames: list[tuple[int, bytes]] = []
    while data:
        length, start = data[1], 2
        assert length < 128, "a server does not mask"
        if length == 126:
            length, start = int.from_bytes(data[2:4], "big"), 4
        elif length == 127:
            length, start = int.from_bytes(data[2:10], "big"), 10
        assert data[0] & 0xF0 == 0x80
        frames.append((data[0] & 15, data[start : start + length]))
        data = data[start + length :]
    return frames


def run(pieces: Iterable[bytes], max_size: int = LIMIT, *, inflate: bool = False) -> tuple[Outcome, WebSocket]:
    codec = WebSocket(max_size, inflate=inflate)
    messages: list[str | bytes] = []
    for piece in pieces:
        messages += codec.feed(piece)
        while codec.more:
            messages += codec.feed(b"")
    return (messages, frames_of(b"".join(codec.out))), codec


def code(number: int) -> tuple[int, bytes]:
    return CLOSE, struct.pack("!H", number)


def close(number: int | None = None, reason: bytes = b"") -> bytes:
    return frame(CLOSE, b"" if number is None else struct.pack("!H", number) + reason)


def fragments(opcode: int, pieces: list[bytes | str]) -> bytes:
    last = len(pieces) - 1
    return b"".join(frame(opcode if index == 0 else CONT, piece, fin=index == last) for index, piece in enumerate(pieces))


END = close(1000)
ENDED = [code(1000)]
BROKEN = [code(1002)]
NOT_UTF8 = [code(1007)]
BYTES = bytes(range(256))

Case: TypeAlias = tuple[bytes, list[str | bytes], list[tuple[int, bytes]]]
CASES: dict[str, Case] = {}


def add(name: str, data: bytes, messages: list[str | bytes], answers: list[tuple[int, bytes]]) -> None:
    assert name not in CASES
    CASES[name] = (data, messages, answers)


# 1: framing
for number, size in enumerate((0, 125, 126, 127, 128, 65535, 65536, 65536), 1):
    add(f"1.1.{number}", frame(TEXT, "*" * size) + END, ["*" * size], ENDED)
    add(f"1.2.{number}", frame(BINARY, b"\xfe" * size) + END, [b"\xfe" * size], ENDED)

# 2: pings and pongs
for number, payload in enumerate((b"", b"Hello, world!", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", b"\xfe" * 125), 1):
    add(f"2.{number}", frame(PING, payload) + END, [], [(PONG, payload), *ENDED])
add("2.5", frame(PING, b"\xfe" * 126) + END, [], BROKEN)
add("2.6", frame(PING, b"\xfe" * 125) + END, [], [(PONG, b"\xfe" * 125), *ENDED])
add("2.7", frame(PONG) + END, [], ENDED)
add("2.8", frame(PONG, "unsolicited pong payload") + END, [], ENDED)
add("2.9", frame(PONG, "unsolicited") + frame(PING, "ping payload") + END, [], [(PONG, b"ping payload"), *ENDED])
TEN = [b"payload-%d" % number for number in range(10)]
for number in (10, 11):
    add(f"2.{number}", b"".join(frame(PING, each) for each in TEN) + END, [], [*((PONG, each) for each in TEN), *ENDED])

# 3: reserved bits
PINGED = frame(PING)
add("3.1", frame(TEXT, "Hello, world!", rsv=1) + END, [], BROKEN)
add("3.2", frame(TEXT, "Hello, world!") + frame(TEXT, "Hello, world!", rsv=2) + PINGED, ["Hello, world!"], BROKEN)
add("3.3", frame(TEXT, "Hello, world!") + frame(TEXT, "Hello, world!", rsv=3) + PINGED, ["Hello, world!"], BROKEN)
add("3.4", frame(TEXT, "Hello, world!") + frame(TEXT, "Hello, world!", rsv=4) + PINGED, ["Hello, world!"], BROKEN)
add("3.5", frame(BINARY, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", rsv=5), [], BROKEN)
add("3.6", frame(PING, "Hello, world!", rsv=6), [], BROKEN)
add("3.7", frame(CLOSE, rsv=7), [], BROKEN)

# 4: reserved opcodes
for section, opcodes in ((1, range(3, 8)), (2, range(11, 16))):
    for number, opcode in enumerate(opcodes, 1):
        before: list[str | bytes] = ["Hello, world!"] if number > 2 else []
        start = frame(TEXT, "Hello, world!") if before else b""
        payload = b"" if number % 2 else b"reserved opcode payload"
        add(f"4.{section}.{number}", start + frame(opcode, payload) + PINGED, before, BROKEN)

# 5: fragmentation
add("5.1", fragments(PING, ["fragment1", "fragment2"]), [], BROKEN)
add("5.2", fragments(PONG, ["fragment1", "fragment2"]), [], BROKEN)
TWO = fragments(TEXT, ["fragment1", "fragment2"])
BETWEEN = frame(TEXT, "fragment1", fin=False) + frame(PING, "ping payload") + frame(CONT, "fragment2")
for number in (3, 4, 5):
    add(f"5.{number}", TWO + END, ["fragment1fragment2"], ENDED)
for number in (6, 7, 8):
    add(f"5.{number}", BETWEEN + END, ["fragment1fragment2"], [(PONG, b"ping payload"), *ENDED])
for number, fin in ((9, True), (10, True), (11, True), (12, False), (13, False), (14, False)):
    add(f"5.{number}", frame(CONT, "non-continuation payload", fin=fin) + frame(TEXT, "Hello, world!"), [], BROKEN)
add("5.15", TWO + frame(CONT, "fragment3", fin=False) + frame(TEXT, "fragment4"), ["fragment1fragment2"], BROKEN)
add("5.16", (frame(CONT, "fragment1", fin=False) + frame(TEXT, "fragment2", fin=False) + frame(CONT, "fragment3")) * 2, [], BROKEN)
add("5.17", (frame(CONT, "fragment1") + frame(TEXT, "fragment2", fin=False) + frame(CONT, "fragment3")) * 2, [], BROKEN)
add("5.18", frame(TEXT, "fragment1", fin=False) + frame(TEXT, "fragment2"), [], BROKEN)
FIVE = (
    frame(TEXT, "fragment1", fin=False)
    + frame(CONT, "fragment2", fin=False)
    + frame(PING, "pongme 1!")
    + frame(CONT, "fragment3", fin=False)
    + frame(CONT, "fragment4", fin=False)
    + frame(PING, "pongme 2!")
    + frame(CONT, "fragment5")
)
for number in (19, 20):
    text = "".join(f"fragment{index}" for index in range(1, 6))
    add(f"5.{number}", FIVE + END, [text], [(PONG, b"pongme 1!"), (PONG, b"pongme 2!"), *ENDED])

# 6: UTF-8
add("6.1.1", frame(TEXT) + END, [""], ENDED)
add("6.1.2", fragments(TEXT, ["", "", ""]) + END, [""], ENDED)
add("6.1.3", fragments(TEXT, ["", "middle frame payload", ""]) + END, ["middle frame payload"], ENDED)
ENCODED = HELLO.encode()
add("6.2.1", frame(TEXT, HELLO) + END, [HELLO], ENDED)
add("6.2.2", fragments(TEXT, [ENCODED[:12], ENCODED[12:]]) + END, [HELLO], ENDED)
add("6.2.3", fragments(TEXT, [ENCODED[at : at + 1] for at in range(len(ENCODED))]) + END, [HELLO], ENDED)
GREEK = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"
add("6.2.4", fragments(TEXT, [GREEK[at : at + 1] for at in range(len(GREEK))]) + END, [GREEK.decode()], ENDED)
BAD = GREEK + b"\xed\xa0\x80" + b"edited"
add("6.3.1", frame(TEXT, BAD) + END, [], NOT_UTF8)
add("6.3.2", fragments(TEXT, [BAD[at : at + 1] for at in range(len(BAD))]) + END, [], NOT_UTF8)
# Fail fast: the rest of the message never comes.
add("6.4.1", frame(TEXT, GREEK, fin=False) + frame(CONT, b"\xf4\x90\x80\x80", fin=False), [], NOT_UTF8)
add("6.4.2", frame(TEXT, GREEK + b"\xf4", fin=False) + frame(CONT, b"\x90", fin=False), [], NOT_UTF8)
add("6.4.3", frame(TEXT, GREEK + b"\xf4\x90\x80\x80edited"), [], NOT_UTF8)
add("6.4.4", frame(TEXT, GREEK + b"\xf4\x90edited"), [], NOT_UTF8)

TEXTS: dict[str, list[bytes]] = {
    # Valid sequences are those that Python's own strict decoder takes; `sorted` names them below.
    "6.5": [b"\xce", b"\xce\xba", b"\xce\xba\xe1", b"\xce\xba\xe1\xbd", b"\xce\xba\xe1\xbd\xb9"],
    "6.6": [GREEK[:length] for length in range(1, len(GREEK) + 1)],
    "6.7": [b"\x00", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80"],
    "6.8": [b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"],
    "6.9": [b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"],
    "6.10": [b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf"],
    "6.11": [b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd", b"\xf4\x8f\xbf\xbf", b"\xf4\x90\x80\x80"],
    "6.12": [b"\x80", b"\xbf", *[b"\x80\xbf" * length for length in range(1, 4)], b"\x80\xbf\x80", bytes(range(0x80, 0xC0))],
    "6.13": [b"".join(bytes((lead, 0x20)) for lead in leads) for leads in (range(0xC0, 0xE0), range(0xE0, 0xF0), range(0xF0, 0xF8))]
    + [b"\xf8 \xf9 \xfa \xfb ", b"\xfc \xfd "],
    "6.14": [
        *(b"\xc0", b"\xe0\x80", b"\xf0\x80\x80", b"\xf8\x80\x80\x80", b"\xfc\x80\x80\x80\x80"),
        *(b"\xdf", b"\xef\xbf", b"\xf7\xbf\xbf", b"\xfb\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf"),
    ],
    "6.15": [b"\xc0\xe0\x80\xf0\x80\x80\xf8\x80\x80\x80\xfc\x80\x80\x80\x80\xdf\xef\xbf\xf7\xbf\xbf\xfb\xbf\xbf\xbf\xfd\xbf\xbf\xbf\xbf"],
    "6.16": [b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"],
    "6.17": [b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf", b"\xfc\x80\x80\x80\x80\xaf"],
    "6.18": [b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf8\x87\xbf\xbf\xbf", b"\xfc\x83\xbf\xbf\xbf\xbf"],
    "6.19": [b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xf8\x80\x80\x80\x80", b"\xfc\x80\x80\x80\x80\x80"],
    "6.20": [b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf", b"\xed\xb0\x80", b"\xed\xbe\x80", b"\xed\xbf\xbf"],
    "6.21": [
        high + low
        for high in (b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf")
        for low in (b"\xed\xb0\x80", b"\xed\xbf\xbf")
    ],
    "6.22": [
        *(chr(plane * 0x10000 + 0xFFFE + low).encode() for plane in range(17) for low in (0, 1)),
    ],
    "6.23": ["\ufff9".encode(), *(chr(each).encode() for each in range(0xFFFA, 0x10000))],
}
VALID = {"6.6.2", "6.6.5", "6.6.7", "6.6.9", "6.6.11", "6.11.1", "6.11.2", "6.11.3", "6.11.4", "6.5.2", "6.5.5"}
for section, texts in TEXTS.items():
    for number, text in enumerate(texts, 1):
        name = f"{section}.{number}"
        if name in VALID or section in ("6.7", "6.9", "6.22", "6.23"):
            add(name, frame(TEXT, text) + END, [text.decode()], ENDED)
        else:
            add(name, frame(TEXT, text) + END, [], NOT_UTF8)

# 7: closing
add("7.1.1", frame(TEXT, "Hello World!") + END, ["Hello World!"], ENDED)
add("7.1.2", END + END, [], ENDED)
add("7.1.3", END + PINGED, [], ENDED)
add("7.1.4", END + frame(TEXT, "Hello World!"), [], ENDED)
add("7.1.5", frame(TEXT, "fragment1", fin=False) + END + frame(CONT, "fragment2"), [], ENDED)
add("7.1.6", frame(TEXT, "BAsd7&jh23" * 26214) + frame(TEXT, "Hello World!") + END, ["BAsd7&jh23" * 26214, "Hello World!"], ENDED)
add("7.3.1", close(), [], [(CLOSE, b"")])
add("7.3.2", frame(CLOSE, b"a"), [], BROKEN)
add("7.3.3", close(1000), [], ENDED)
add("7.3.4", close(1000, b"Hello World!"), [], ENDED)
add("7.3.5", close(1000, b"*" * 123), [], ENDED)
add("7.3.6", close(1000, b"*" * 124), [], BROKEN)
add("7.5.1", close(1000, BAD), [], NOT_UTF8)
CODES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999)
for number, status in enumerate(CODES, 1):
    add(f"7.7.{number}", close(status), [], [code(status)])
for number, status in enumerate((0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999), 1):
    add(f"7.9.{number}", close(status), [], BROKEN)
for number, status in enumerate((5000, 65535), 1):
    add(f"7.13.{number}", close(status), [], BROKEN)

# 9: limits and performance, sizes reduced
for number, size in enumerate((64, 256, 1024, 4096), 1):
    text = "BAsd7&jh23"[:8] * (size * 128)
    add(f"9.1.{number}", frame(TEXT, text) + END, [text], ENDED)
    add(f"9.2.{number}", frame(BINARY, text.encode()) + END, [text.encode()], ENDED)
for section, opcode in ((3, TEXT), (4, BINARY)):
    for number, piece in enumerate((64, 256, 1024, 4096, 16384, 65536), 1):
        whole = "*" * 65536
        data = fragments(opcode, [whole[at : at + piece] for at in range(0, len(whole), piece)])
        add(f"9.{section}.{number}", data + END, [whole if opcode == TEXT else whole.encode()], ENDED)
for section, opcode in ((7, TEXT), (8, BINARY)):
    for number, size in enumerate((0, 16, 64, 256, 1024, 4096), 1):
        each: str | bytes = "*" * size if opcode == TEXT else b"*" * size
        add(f"9.{section}.{number}", frame(opcode, each) * 50 + END, [each] * 50, ENDED)

# 10: the sender's fragmentation has nothing to do with the receiver's
whole = "*" * 65536
add("10.1.1", fragments(TEXT, [whole[at : at + 1300] for at in range(0, len(whole), 1300)]) + END, [whole], ENDED)

LARGE = 70_000
"""Bytes of a case that is too long to be cut into single bytes a second time."""


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


@pytest.mark.parametrize("name", CASES)
def test_a_case_of_autobahn_whole(name: str) -> None:
    data, messages, answers = CASES[name]
    assert run([data])[0] == (messages, answers)


@pytest.mark.parametrize("name", [name for name, (data, _, _) in CASES.items() if len(data) < LARGE])
def test_a_case_of_autobahn_byte_by_byte(name: str) -> None:
    data, messages, answers = CASES[name]
    assert run(bytewise(data))[0] == (messages, answers)


@pytest.mark.parametrize("name", CASES)
def test_a_case_of_autobahn_in_random_pieces(name: str) -> None:
    data, messages, answers = CASES[name]
    chance = random.Random(name)
    for _ in range(5 if len(data) < LARGE else 1):
        cuts = sorted({0, len(data), *(chance.randrange(len(data) + 1) for _ in range(chance.randrange(1, 12)))})
        assert run(data[start:end] for start, end in pairwise(cuts))[0] == (messages, answers)


@pytest.mark.parametrize("name", CASES)
def test_a_case_of_autobahn_ends_in_the_state_that_fits(name: str) -> None:
    data, _, answers = CASES[name]
    _, codec = run([data])
    assert codec.state is CLOSED
    assert answers[-1][0] == CLOSE
    told = int.from_bytes(answers[-1][1], "big") or CloseCode.NO_STATUS
    if codec.failure is None:
        assert codec.close_code == told
    else:
        assert codec.failure == told
        assert codec.close_code == CloseCode.ABNORMAL
        assert codec.close_reason
    assert codec.feed(frame(TEXT, "late")) == []


# The opening handshake, masks, frames of our own


def test_the_accept_header_is_that_of_the_specification() -> None:
    assert accept_key(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, CLOSE])
def test_a_frame_that_is_not_masked_is_a_protocol_error_before_its_payload_comes(opcode: int) -> None:
    (messages, answers), codec = run([frame(opcode, b"payload", mask=None)[:2]])
    assert (messages, answers) == ([], BROKEN)
    assert "not masked" in codec.close_reason


@pytest.mark.parametrize("mask", [b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x01\x02\x03\x04"])
@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 125, 126, 1000, 65536])
def test_any_mask_is_undone(mask: bytes, size: int) -> None:
    payload = (BYTES * 257)[:size]
    assert run([frame(BINARY, payload, mask=mask)])[0] == ([payload], [])


@pytest.mark.parametrize("size", [0, 125, 126, 127, 65535, 65536])
def test_frames_of_the_server_have_the_shortest_length_and_no_mask(size: int) -> None:
    data = encode_frame(Opcode.BINARY, b"x" * size)
    assert frames_of(data) == [(BINARY, b"x" * size)]
    assert len(data) - size == (2 if size < 126 else 4 if size < 65536 else 10)


def test_a_pong_tells_who_waits_for_it() -> None:
    codec = WebSocket(100)
    heard: list[bytes] = []
    codec.on_pong = heard.append
    codec.feed(frame(PONG, "a") + frame(PONG))
    assert heard == [b"a", b""]


# Closing from this side


def test_after_our_close_frame_messages_are_still_given_and_pings_not_answered() -> None:
    codec = WebSocket(100)
    codec.close(4001, "enough")
    assert codec.state is CLOSING
    assert frames_of(codec.out.pop()) == [(CLOSE, b"\x0f\xa1enough")]
    assert codec.feed(frame(TEXT, "a") + PINGED + close(4001)) == ["a"]
    assert codec.out == []
    assert (codec.state, codec.close_code) == (CLOSED, 4001)


def test_a_broken_protocol_after_our_close_frame_is_not_answered_by_another() -> None:
    codec = WebSocket(100)
    codec.close()
    codec.out.clear()
    codec.feed(frame(TEXT, rsv=1))
    assert (codec.state, codec.out, codec.failure) == (CLOSED, [], CloseCode.PROTOCOL_ERROR)


def test_closing_twice_says_it_once() -> None:
    codec = WebSocket(100)
    codec.close()
    codec.close()
    assert len(codec.out) == 1


def test_a_reason_that_is_too_long_is_cut_between_characters() -> None:
    codec = WebSocket(100)
    codec.close(1000, "é" * 100)
    ((_, payload),) = frames_of(codec.out[0])
    assert payload[2:].decode() == "é" * 61


@pytest.mark.parametrize("number", [0, 999, 1004, 1006, 1015, 2999, 5000])
def test_a_code_that_nobody_may_send_is_refused_to_us_as_well(number: int) -> None:
    codec = WebSocket(100)
    with pytest.raises(LocalProtocolError, match=str(number)):
        codec.close(number)
    assert codec.state is OPEN


def test_no_status_is_a_close_frame_that_says_nothing() -> None:
    codec = WebSocket(100)
    codec.close(CloseCode.NO_STATUS, "ignored")
    assert frames_of(codec.out[0]) == [(CLOSE, b"")]


def test_the_code_and_reason_of_the_peer_are_kept() -> None:
    _, codec = run([close(4321, "böse".encode())])
    assert (codec.close_code, codec.close_reason, codec.failure) == (4321, "böse", None)


# The size limit


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_as_large_as_may_be_passes(opcode: int) -> None:
    payload = "*" * 100
    assert run([frame(opcode, payload)], 100)[0] == ([payload if opcode == TEXT else payload.encode()], [])


@pytest.mark.parametrize("size", [101, 126, 70_000, 2**40, 2**63 - 1, 2**63, 2**64 - 1])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_that_is_too_large_is_known_by_its_header(opcode: int, size: int) -> None:
    head = bytes((0x80 | opcode, 0x80 | size)) if size < 126 else struct.pack("!BBQ", 0x80 | opcode, 0xFF, size)
    assert run([head], 100)[0] == ([], [code(1009)])


def test_fragments_are_counted_together_before_the_payload_of_the_last_came() -> None:
    assert run([frame(TEXT, "*" * 60, fin=False), frame(CONT, "*" * 41)[:2]], 100)[0] == ([], [code(1009)])
    assert run([fragments(TEXT, ["*" * 60, "*" * 40]) * 2], 100)[0] == (["*" * 100] * 2, [])


def test_control_frames_between_do_not_count() -> None:
    (messages, answers), _ = run([frame(TEXT, "*" * 60, fin=False), frame(PING, "*" * 90), frame(CONT, "*" * 40)], 100)
    assert messages == ["*" * 100]
    assert answers == [(PONG, b"*" * 90)]


def test_fragments_without_payload_keep_nothing() -> None:
    codec = WebSocket(100)
    codec.feed(frame(TEXT, fin=False) + frame(CONT, fin=False) * 10_000)
    held = sum(part.__sizeof__() for part in (getattr(codec, name, None) for name in WebSocket.__slots__) if isinstance(part, bytearray))
    assert held < 500
    assert codec.feed(frame(CONT, "end")) == ["end"]


# Anything at all


@given(data=st.binary(max_size=300), cut=st.integers(0, 300), inflate=st.booleans(), max_size=st.integers(1, 200))
def test_arbitrary_bytes_never_raise_and_read_the_same_in_pieces(data: bytes, cut: int, inflate: bool, max_size: int) -> None:
    whole, codec = run([data], max_size, inflate=inflate)
    pieces, other = run([data[:cut], data[cut:]], max_size, inflate=inflate)
    assert whole == pieces
    assert (codec.state, codec.close_code, codec.failure) == (other.state, other.close_code, other.failure)
    assert all(len(message.encode() if isinstance(message, str) else message) <= max_size for message in whole[0])


FRAMES = st.builds(
    frame,
    st.sampled_from([CONT, TEXT, BINARY, CLOSE, PING, PONG, 3, 11]),
    st.one_of(st.binary(max_size=140), st.text(max_size=40)),
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, 0, 0, 1, 4]),
)


@given(frames=st.lists(FRAMES, max_size=8), seed=st.randoms(use_true_random=False), inflate=st.booleans())
def test_arbitrary_frames_never_raise_and_read_the_same_in_pieces(frames: list[bytes], seed: random.Random, inflate: bool) -> None:
    data = b"".join(frames)
    whole, _ = run([data], 200, inflate=inflate)
    assert run(bytewise(data), 200, inflate=inflate)[0] == whole
    cuts = sorted({0, len(data), *(seed.randrange(len(data) + 1) for _ in range(4))})
    assert run((data[a:b] for a, b in pairwise(cuts)), 200, inflate=inflate)[0] == whole


@given(
    messages=st.lists(st.one_of(st.text(max_size=300), st.binary(max_size=300)), max_size=5),
    size=st.integers(1, 200),
    step=st.integers(1, 50),
)
def test_messages_come_out_as_they_went_in_however_they_are_cut(messages: list[str | bytes], size: int, step: int) -> None:
    data = b""
    for message in messages:
        payload = message.encode() if isinstance(message, str) else message
        pieces: list[bytes | str] = [payload[at : at + size] for at in range(0, len(payload), size)] or [b""]
        data += fragments(TEXT if isinstance(message, str) else BINARY, pieces)
    assert run(data[at : at + step] for at in range(0, len(data), step))[0] == (messages, [])


def seconds(feed: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        feed()
        best = min(best, time.perf_counter() - began)
    return best


@pytest.mark.parametrize("how", ["one frame in small pieces", "many small fragments", "empty fragments", "pings"])
def test_the_work_grows_no_faster_than_the_bytes(how: str) -> None:
    def feed(times: int) -> None:
        if how == "one frame in small pieces":
            data = frame(BINARY, b"x" * times)
            run(data[at : at + 16] for at in range(0, len(data), 16))
        elif how == "many small fragments":
            run([frame(TEXT, "x", fin=False) + frame(CONT, "y", fin=False) * (times // 16)])
        elif how == "empty fragments":
            run([frame(TEXT, fin=False) + frame(CONT, fin=False) * (times // 16)])
        else:
            codec = WebSocket(100)
            codec.feed(PINGED * (times // 16))

    small, large = 40_000, 640_000
    # 16 times the bytes; quadratic work would take 256 times as long
    assert seconds(lambda: feed(large)) < 80 * seconds(lambda: feed(small))


# permessage-deflate (RFC 7692)


def deflated(opcode: int, payload: bytes, pieces: int = 1) -> bytes:
    """Give a compressed message in as many frames."""
    data = deflate(payload)
    size = -(-len(data) // pieces)
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    last = len(parts) - 1
    return b"".join(
        frame(opcode if index == 0 else CONT, part, rsv=0 if index else 4, fin=index == last) for index, part in enumerate(parts)
    )


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_compressed_messages_come_out_whole(pieces: int) -> None:
    text = HELLO * 100
    noise = random.Random(1).randbytes(500)
    data = deflated(TEXT, text.encode(), pieces) + deflated(BINARY, noise, pieces) + frame(TEXT, "plain") + deflated(TEXT, b"")
    expected = ([text, noise, "plain", ""], [])
    assert run([data], inflate=True)[0] == expected
    assert run(bytewise(data), inflate=True)[0] == expected


def test_compressed_messages_need_to_be_agreed_on() -> None:
    assert run([deflated(TEXT, b"Hello")])[0] == ([], BROKEN)


@pytest.mark.parametrize(
    "payload",
    [
        b"\xf2\x48\xcd\xc9\xc9\x07\x00",
        b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
        b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
        b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
    ],
    ids=["fixed Huffman", "no compression", "BFINAL", "two blocks"],
)
def test_the_examples_of_the_specification(payload: bytes) -> None:
    assert run([frame(TEXT, payload, rsv=4)], inflate=True)[0] == (["Hello"], [])


def test_a_message_that_needs_the_context_of_another_is_refused() -> None:
    compressor = zlib.compressobj(wbits=-15)
    first, second = ((compressor.compress(b"abcdefgh" * 9) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4] for _ in range(2))
    (messages, answers), _ = run([frame(TEXT, first, rsv=4), frame(TEXT, second, rsv=4)], inflate=True)
    assert (messages, answers) == (["abcdefgh" * 9], NOT_UTF8)


@pytest.mark.parametrize("payload", [b"\xff\xff\xff", b"\x07garbage", b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00more"])
def test_what_does_not_decompress_ends_the_connection(payload: bytes) -> None:
    assert run([frame(TEXT, payload, rsv=4)], inflate=True)[0] == ([], NOT_UTF8)


def test_compressed_text_must_be_utf8_too() -> None:
    assert run([deflated(TEXT, b"\xed\xa0\x80")], inflate=True)[0] == ([], NOT_UTF8)


@pytest.mark.parametrize(
    "data",
    [frame(PING, b"x", rsv=4), frame(TEXT, b"x", fin=False, rsv=0) + frame(CONT, b"y", rsv=4), frame(TEXT, rsv=6), frame(CLOSE, rsv=4)],
    ids=["ping", "continuation", "another bit", "close"],
)
def test_the_bit_of_compression_belongs_on_the_first_frame_of_a_message_only(data: bytes) -> None:
    assert run([data], inflate=True)[0] == ([], BROKEN)


@pytest.mark.parametrize("noise", [False, True])
def test_a_compressed_message_as_large_as_may_be_passes_and_one_byte_more_does_not(noise: bool) -> None:
    payload = random.Random(2).randbytes(1001) if noise else b"a" * 1001
    # Noise does not get smaller but a little longer.
    assert noise == (len(deflate(payload)) > len(payload))
    for pieces in (1, 3):
        assert run([deflated(BINARY, payload[:1000], pieces)], 1000, inflate=True)[0] == ([payload[:1000]], [])
        assert run([deflated(BINARY, payload, pieces)], 1000, inflate=True)[0] == ([], [code(1009)])


def test_a_bomb_stops_at_the_limit() -> None:
    bomb = deflated(BINARY, bytes(50_000_000))
    assert len(bomb) < 60_000
    codec = WebSocket(100_000, inflate=True)
    assert codec.feed(bomb) == []
    assert codec.failure is CloseCode.MESSAGE_TOO_BIG


# Many small messages that inflate to much


def inflating(sizes: Iterable[int], pieces: int = 1) -> tuple[bytes, list[str | bytes]]:
    """Give compressed messages of these sizes, text and binary by turns, and what comes out."""
    data, messages = b"", list[str | bytes]()
    for number, size in enumerate(sizes):
        payload = b"%d" % (number % 10) * size
        data += deflated(BINARY if number % 2 else TEXT, payload, pieces)
        messages.append(payload if number % 2 else payload.decode())
    return data, messages


@pytest.mark.parametrize("pieces", [1, 3])
def test_no_more_is_inflated_at_once_than_one_message_may_have_and_one_message(pieces: int) -> None:
    data, messages = inflating([400] * 50, pieces)
    codec = WebSocket(1000, inflate=True)
    steps = [codec.feed(data)]
    while codec.more:
        steps.append(codec.feed(b""))
    assert {len(step) for step in steps[:-1]} == {3}
    assert [message for step in steps for message in step] == messages
    assert run(bytewise(data), 1000, inflate=True)[0] == (messages, [])


def test_what_is_not_compressed_is_given_at_once() -> None:
    codec = WebSocket(1000, inflate=True)
    assert len(codec.feed(frame(BINARY, b"x" * 900) * 9 + frame(TEXT, "x" * 900) * 9 + fragments(TEXT, ["x" * 450] * 2) * 9)) == 27
    assert not codec.more


def test_there_is_no_more_after_the_last_byte() -> None:
    data, messages = inflating([400] * 3)
    codec = WebSocket(1000, inflate=True)
    assert codec.feed(data) == messages
    assert not codec.more
    assert codec.feed(data + data[:1])  # the beginning of a frame may be left
    assert codec.more
    assert codec.feed(b"") == []
    assert not codec.more
    assert codec.feed(data[1:]) == messages


def test_what_comes_later_stands_behind_what_is_left() -> None:
    data, messages = inflating([400] * 10)
    late = frame(TEXT, "late text")
    codec = WebSocket(1000, inflate=True)
    got = codec.feed(data)
    for byte in bytewise(late):
        got += codec.feed(byte)
    while codec.more:
        got += codec.feed(b"")
    assert got == [*messages, "late text"]
    assert codec.feed(late) == ["late text"]


@pytest.mark.parametrize(("last", "answers"), [(END, ENDED), (frame(TEXT, rsv=2), BROKEN), (frame(BINARY, b"x" * 1001), [code(1009)])])
def test_answers_and_the_end_come_when_it_is_their_turn(last: bytes, answers: list[tuple[int, bytes]]) -> None:
    data, messages = inflating([400] * 4)
    data = data + frame(PING, "a") + data + last + data
    codec = WebSocket(1000, inflate=True)
    assert codec.feed(data) == messages[:3]
    assert (bool(codec.more), codec.out, codec.state) == (True, [], OPEN)
    assert codec.feed(b"") == [messages[3], *messages[:2]]
    assert (bool(codec.more), len(codec.out), codec.state) == (True, 1, OPEN)
    assert codec.feed(b"") == messages[2:]
    assert (bool(codec.more), codec.state) == (False, CLOSED)
    assert frames_of(b"".join(codec.out)) == [(PONG, b"a"), *answers]
    assert codec.feed(b"") == []
    outcome = (messages * 2, [(PONG, b"a"), *answers])
    assert run([data], 1000, inflate=True)[0] == run(bytewise(data), 1000, inflate=True)[0] == outcome


def test_who_ends_the_connection_reads_no_more_and_who_closes_does() -> None:
    data, messages = inflating([400] * 4)
    for fails in (True, False):
        codec = WebSocket(1000, inflate=True)
        codec.feed(data)
        if fails:
            codec.fail(CloseCode.MESSAGE_TOO_BIG, "of somebody else")
        else:
            codec.close()
        assert bool(codec.more) is not fails
        assert codec.feed(b"") == ([] if fails else messages[3:])
        assert not codec.more


@given(
    sizes=st.lists(st.integers(0, 150), max_size=20),
    pieces=st.integers(1, 3),
    max_size=st.integers(150, 400),
    seed=st.randoms(use_true_random=False),
)
def test_however_much_is_inflated_it_reads_the_same_in_pieces(sizes: list[int], pieces: int, max_size: int, seed: random.Random) -> None:
    data, messages = inflating(sizes, pieces)
    data += frame(PING, "last")
    expected = (messages, [(PONG, b"last")])
    cuts = sorted({0, len(data), *(seed.randrange(len(data) + 1) for _ in range(4))})
    for whole in ([data], bytewise(data), [data[a:b] for a, b in pairwise(cuts)]):
        assert run(whole, max_size, inflate=True)[0] == expected


def test_messages_from_the_threshold_on_are_compressed_if_it_helps() -> None:
    text, noise = b"a" * 100, random.Random(4).randbytes(100)
    assert encode_message(TEXT, text, None) == encode_frame(TEXT, text)
    assert encode_message(TEXT, text, 101) == encode_frame(TEXT, text)
    assert encode_message(BINARY, noise, 1) == encode_frame(BINARY, noise)
    compressed = encode_message(TEXT, text, 100)
    assert compressed[0] == 0x80 | 0x40 | TEXT
    assert zlib.decompressobj(wbits=-15).decompress(compressed[2:] + b"\x00\x00\xff\xff") == text


@pytest.mark.parametrize(
    ("offers", "accepted"),
    [
        ("permessage-deflate", True),
        ("permessage-deflate; client_max_window_bits", True),
        ("permessage-deflate; client_max_window_bits=12", True),
        ('permessage-deflate; client_max_window_bits="15"', True),
        ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", True),
        ("permessage-deflate; server_max_window_bits=15", True),
        ("permessage-deflate; server_max_window_bits=10, permessage-deflate", True),
        ("x-webkit-deflate-frame, permessage-deflate;client_max_window_bits", True),
        ("", False),
        ("x-webkit-deflate-frame", False),
        ("permessage-deflate; server_max_window_bits=10", False),
        ("permessage-deflate; server_max_window_bits", False),
        ("permessage-deflate; client_max_window_bits=7", False),
        ("permessage-deflate; client_max_window_bits=16", False),
        ("permessage-deflate; client_max_window_bits=08", False),
        ("permessage-deflate; server_no_context_takeover=1", False),
        ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", False),
        ("permessage-deflate; unknown", False),
    ],
)
def test_offers_that_the_answer_fits_are_accepted(offers: str, accepted: bool) -> None:
    assert accepts_deflate(offers) is accepted


def test_the_answer_is_one_that_its_own_rules_would_accept() -> None:
    assert accepts_deflate(DEFLATE_ANSWER.decode())


@given(st.text(max_size=60))
def test_no_offer_raises(offers: str) -> None:
    assert accepts_deflate(offers) in (True, False)
