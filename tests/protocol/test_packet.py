from __future__ import annotations

import pytest

from mizzen.protocol.packet import ACK, BINARY_ACK, BINARY_EVENT, CONNECT, CONNECT_ERROR, DISCONNECT, EVENT, Packet, PacketType


def test_types_are_numbered_as_on_the_wire() -> None:
    assert list(PacketType) == [CONNECT, DISCONNECT, EVENT, ACK, CONNECT_ERROR, BINARY_EVENT, BINARY_ACK]
    assert list(PacketType) == list(range(7))


@pytest.mark.parametrize(
    "other",
    [Packet(ACK, "/a", ["x"], 1), Packet(EVENT, "/b", ["x"], 1), Packet(EVENT, "/a", ["y"], 1), Packet(EVENT, "/a", ["x"]), "packet", None],
)
def test_packets_are_equal_by_all_that_they_hold(other: object) -> None:
    assert Packet(EVENT, "/a", ["x"], 1) == Packet(EVENT, "/a", ["x"], 1)
    assert Packet(EVENT, "/a", ["x"], 1) != other


def test_repr_shows_everything() -> None:
    assert repr(Packet(EVENT, "/a", ["x", 1], 7)) == "Packet(EVENT, '/a', ['x', 1], id=7)"
