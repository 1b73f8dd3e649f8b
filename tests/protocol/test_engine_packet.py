from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.errors import RemoteProtocolError
from mizzen.protocol import engine_packet
from mizzen.types import Reason
from tests.protocol.vectors import may_refuse


def test_types() -> None:
    names = ("OPEN", "CLOSE", "PING", "PONG", "MESSAGE", "UPGRADE", "NOOP")
    assert [getattr(engine_packet, name) for name in names] == list("0123456")
    assert set("0123456") == engine_packet.TYPES


@pytest.mark.parametrize(("packet", "eio", "message"), [("bAQID", 4, b"\1\2\3"), ("b", 4, b""), ("b4AQID", 3, b"\1\2\3"), ("b4", 3, b"")])
def test_base64(packet: str, eio: int, message: bytes) -> None:
    assert engine_packet.decode_base64(packet, eio) == message


@pytest.mark.parametrize(("packet", "eio"), [("bA", 4), ("b=", 4), ("bAQI€", 4), ("bAQID", 3), ("b", 3), ("b4A", 3)])
def test_base64_refused(packet: str, eio: int) -> None:
    with pytest.raises(RemoteProtocolError, match="base64") as caught:
        engine_packet.decode_base64(packet, eio)
    assert caught.value.reason is Reason.PARSE_ERROR


@given(st.text(), st.sampled_from([3, 4]))
def test_base64_of_anything(text: str, eio: int) -> None:
    with may_refuse(Reason.PARSE_ERROR):
        assert isinstance(engine_packet.decode_base64("b" + text, eio), bytes)
