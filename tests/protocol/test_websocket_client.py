"""The client's side of RFC 6455: against the server's side, and against what a server may not send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.protocol.websocket import (
    CLOSED,
    CloseCode,
    Opcode,
    WebSocket,
    encode_frame,
    encode_masked_frame,
    encode_message,
)

messages = st.lists(st.one_of(st.text(max_size=300), st.binary(max_size=300), st.just("é" * 70_000)), max_size=5)


@given(messages, st.integers(1, 40), st.booleans())
def test_what_a_client_sends_a_server_understands_and_the_other_way_round(sent: list[str | bytes], piece: int, deflated: bool):
    for client_sends in (True, False):
        receiver = WebSocket(1_000_000, client=not client_sends, inflate=deflated)
        data = b""
        for message in sent:
            opcode, payload = (Opcode.TEXT, message.encode()) if isinstance(message, str) else (Opcode.BINARY, message)
            data += encode_message(opcode, payload, 64 if deflated else None, masked=client_sends)
        received: list[str | bytes] = []
        for start in range(0, len(data), piece * 97):
            received += receiver.feed(data[start : start + piece * 97])
        assert received == sent
        assert receiver.state is not CLOSED


@pytest.mark.parametrize("client", [True, False])
def test_a_frame_that_is_masked_the_wrong_way_ends_the_connection(client: bool):
    side = WebSocket(100, client=client)
    encode = encode_masked_frame if client else encode_frame
    assert side.feed(encode(Opcode.TEXT, b"2")) == []
    assert (side.state, side.failure) == (CLOSED, CloseCode.PROTOCOL_ERROR)


def test_a_client_masks_its_answers_and_its_close():
    client, server = WebSocket(100, client=True), WebSocket(100)
    client.feed(encode_frame(Opcode.PING, b"are you there"))
    pongs: list[bytes] = []
    server.on_pong = pongs.append
    server.feed(b"".join(client.out))
    assert pongs == [b"are you there"]
    client.out.clear()
    client.close(1000, "bye")
    server.feed(b"".join(client.out))
    assert (server.close_code, server.close_reason) == (1000, "bye")
    client.feed(b"".join(server.out))
    assert (client.state, client.close_code) == (CLOSED, 1000)


def test_no_two_frames_have_the_same_mask():
    assert len({encode_masked_frame(Opcode.TEXT, b"2")[2:6] for _ in range(100)}) > 95
