"""Which last arguments are offsets, and which are the user's own."""

from __future__ import annotations

import pytest

from mizzen.client.recovery import Recovery, is_offset

NOW = 1_760_000_000.0  # October 2025


@pytest.mark.parametrize("offset", ["Pd2JO00", "Pd2JO00.1", "1760000000123-0", "68e4a1800123456789abcdef", "AbCd-_12.77"])
def test_offsets_of_all_adapters_are_known(offset: str):
    assert is_offset(offset, NOW)


@pytest.mark.parametrize("text", ["", "message", "hello there", "2025-10-09", "12345-1", "0" * 24, "Zzzzzzz", "room.1", "a" * 7, "Pd2JO0"])
def test_other_texts_are_not(text: str):
    assert not is_offset(text, NOW)


@pytest.mark.parametrize("value", [None, 1, b"Pd2JO00", ["Pd2JO00"]])
def test_only_a_string_is_one(value: object):
    assert not is_offset(value, NOW)


def test_an_offset_is_taken_off_and_another_text_is_not():
    recovery = Recovery()
    recovery.connected("secret", None)
    args = ["text", "AbCd-_12.1"]
    recovery.take(args)
    assert (args, recovery.offset) == (["text"], "AbCd-_12.1")
    args = ["text", "of a volatile event"]
    recovery.take(args)
    assert (args, recovery.offset) == (["text", "of a volatile event"], "AbCd-_12.1")


def test_offsets_of_an_unknown_form_are_used_as_the_javascript_client_does():
    recovery = Recovery()
    recovery.connected("secret", None)
    args = [1, "offset/1"]
    recovery.take(args)
    assert (args, recovery.offset) == ([1, "offset/1"], "offset/1")


def test_a_session_is_recovered_when_the_secret_is_the_same():
    recovery = Recovery()
    assert not recovery.connected("a", "0")
    assert recovery.connected("a", None)
    assert not recovery.connected("b", "1")
    assert recovery.offset == "1"
    assert not recovery.connected(None, None)
    assert not recovery.connected(None, None)
