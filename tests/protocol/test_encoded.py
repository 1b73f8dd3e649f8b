from __future__ import annotations

import pytest

from mizzen.protocol.encoded import Encoded, Form

TEXT = Encoded('42["é"]'.encode())
BINARY = Encoded(None, [b"\1\2", b""])
BOTH = Encoded(b"451-[]", [b"\1\2\3"])


@pytest.mark.parametrize(("encoded", "size"), [(TEXT, 8), (BINARY, 2), (BOTH, 9), (Encoded(b"2"), 1), (Encoded(None), 0)])
def test_size_counts_the_bytes(encoded: Encoded, size: int) -> None:
    assert encoded.size == size


@pytest.mark.parametrize(
    ("encoded", "eio4", "eio3"),
    [
        (TEXT, ('42["é"]',), ('42["é"]',)),
        (BINARY, (b"\1\2", b""), (b"\4\1\2", b"\4")),
        (BOTH, ("451-[]", b"\1\2\3"), ("451-[]", b"\4\1\2\3")),
    ],
)
def test_messages(encoded: Encoded, eio4: tuple[str | bytes, ...], eio3: tuple[str | bytes, ...]) -> None:
    assert encoded.messages(4) == eio4
    assert encoded.messages(3) == eio3
    assert encoded.messages(4) == eio4


@pytest.mark.parametrize(
    ("encoded", "eio4", "eio3"),
    [(TEXT, ('42["é"]',), ('42["é"]',)), (BINARY, ("bAQI=", "b"), ("b4AQI=", "b4")), (BOTH, ("451-[]", "bAQID"), ("451-[]", "b4AQID"))],
)
def test_messages_in_base64(encoded: Encoded, eio4: tuple[str, ...], eio3: tuple[str, ...]) -> None:
    assert encoded.messages(4, base64=True) == eio4
    assert encoded.messages(3, base64=True) == eio3


@pytest.mark.parametrize(
    ("form", "records"),
    [
        (Form.EIO4, (b"451-[]", b"bAQID")),
        (Form.EIO3_TEXT, (b"6:451-[]", b"6:b4AQID")),
        (Form.EIO3_BINARY, (b"\x00\x06\xff451-[]", b"\x01\x04\xff\x04\1\2\3")),
    ],
)
def test_records(form: Form, records: tuple[bytes, ...]) -> None:
    assert BOTH.records(form) == records


@pytest.mark.parametrize("encoded", [TEXT, BINARY, BOTH], ids=["text", "binary", "both"])
def test_each_form_is_made_once(encoded: Encoded) -> None:
    for eio in (3, 4):
        for base64 in (False, True):
            assert encoded.messages(eio, base64) is encoded.messages(eio, base64)
    for form in Form:
        assert encoded.records(form) is encoded.records(form)


def test_length_in_binary_records_has_as_many_digits_as_it_needs() -> None:
    (record,) = Encoded(b"4" * 1_203).records(Form.EIO3_BINARY)
    assert record[:6] == b"\x00\x01\x02\x00\x03\xff"


def test_repr() -> None:
    assert repr(BOTH) == "Encoded(b'451-[]', attachments=1)"
