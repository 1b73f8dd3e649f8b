"""The cookie jar of a socket, against what RFC 6265 says of browsers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.virtual.cookies import MAX_COOKIE_BYTES, MAX_COOKIES, CookieJar, read_cookies, with_cookies

NOW = 1_700_000_000.0


def jar_with(*set_cookies: bytes, path: bytes = b"/", handshake: bytes = b"") -> CookieJar:
    jar = CookieJar()
    for set_cookie in set_cookies:
        jar.store(set_cookie, path, NOW, handshake)
    return jar


def sent(jar: CookieJar, path: bytes = b"/", handshake: bytes = b"", after: float = 0) -> bytes:
    return jar.merge(handshake, path, NOW + after)


@pytest.mark.parametrize(
    ("set_cookie", "header"),
    [
        (b"a=b", b"a=b"),
        (b"a=b; Path=/; HttpOnly; Secure; SameSite=Lax", b"a=b"),
        (b" a = b ; path=/", b"a=b"),
        (b"a=", b"a="),
        (b'a="b c,d"', b'a="b c,d"'),
        (b"a=b=c==", b"a=b=c=="),
        (b"a=\xc3\xbc", b"a=\xc3\xbc"),
        (b"a=b; Domain=example.com", b"a=b"),
        (b"a=b; Max-Age=10", b"a=b"),
        (b"a=b; Max-Age=ten", b"a=b"),
        (b"a=b; Max-Age=1.5", b"a=b"),
        (b"a=b; Max-Age=" + b"9" * 5000, b"a=b"),
        (b"a=b; Expires=Thu, 01 Jan 2099 00:00:00 GMT", b"a=b"),
        (b"a=b; Expires=Thu, 01-Jan-2099 00:00:00 GMT", b"a=b"),
        (b"a=b; Expires=never", b"a=b"),
        (b"a=b; Expires=Thu, 99 Jan 99999 00:00:00 GMT", b"a=b"),
        (b"a=b; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=5", b"a=b"),
        (b"a=b; Path=", b"a=b"),
        (b"a=b; Path=relative", b"a=b"),
        (b"a=b; ; =;x", b"a=b"),
        (b"a=" + b"x" * (MAX_COOKIE_BYTES - 1), b"a=" + b"x" * (MAX_COOKIE_BYTES - 1)),
        (b"a=b; Max-Age=0", b""),
        (b"a=b; Max-Age=-1", b""),
        (b"a=b; Expires=Thu, 01 Jan 1970 00:00:00 GMT", b""),
        (b"a=b; Expires=Thu, 01-Jan-70 00:00:00 GMT", b""),
        (b"a=b; Expires=Thu, 01 Jan 2099 00:00:00 GMT; Max-Age=0", b""),
        (b"a=b; Max-Age=5; Max-Age=0", b""),
        (b"a", b""),
        (b"", b""),
        (b"=b", b""),
        (b"; Path=/", b""),
        (b"a=b\r\nc", b""),
        (b"a=\x00", b""),
        (b"a=b; Path=/\n", b""),
        (b"a=" + b"x" * MAX_COOKIE_BYTES, b""),
        (b"a=b; Path=/" + b"x" * MAX_COOKIE_BYTES, b""),
        (b"a=b; Path=/other", b""),
    ],
)
def test_what_an_answer_sets(set_cookie: bytes, header: bytes) -> None:
    assert sent(jar_with(set_cookie)) == header


@pytest.mark.parametrize(
    ("scope", "path", "matches"),
    [
        (b"/", b"/", True),
        (b"/", b"/any/thing", True),
        (b"/a", b"/a", True),
        (b"/a", b"/a/", True),
        (b"/a", b"/a/b", True),
        (b"/a", b"/ab", False),
        (b"/a", b"/", False),
        (b"/a/", b"/a/b", True),
        (b"/a/", b"/a", False),
    ],
)
def test_a_cookie_goes_to_its_path_and_below(scope: bytes, path: bytes, matches: bool) -> None:
    assert sent(jar_with(b"a=b; Path=" + scope), path) == (b"a=b" if matches else b"")


@pytest.mark.parametrize(("path", "scope"), [(b"/", b"/"), (b"/login", b"/"), (b"/app/login", b"/app"), (b"/app/", b"/app"), (b"", b"/")])
def test_without_a_path_it_is_the_folder_of_the_request(path: bytes, scope: bytes) -> None:
    jar = jar_with(b"a=b", path=path)
    assert sent(jar, scope) == b"a=b"
    assert sent(jar, b"/elsewhere") == (b"a=b" if scope == b"/" else b"")


def test_the_longer_path_comes_first() -> None:
    assert sent(jar_with(b"a=root; Path=/", b"a=deep; Path=/x/y", b"b=mid; Path=/x"), b"/x/y") == b"a=deep; b=mid; a=root"


def test_the_jar_wins_over_the_handshake() -> None:
    jar = jar_with(b"a=new", handshake=b"a=old; b=1")
    assert sent(jar, handshake=b"a=old; b=1") == b"b=1; a=new"
    assert sent(jar_with(b"a=new; Path=/x"), handshake=b"a=old") == b"a=old"


def test_a_cookie_of_the_handshake_can_be_deleted() -> None:
    jar = jar_with(b"a=; Max-Age=0", handshake=b"a=old; b=1")
    assert sent(jar, handshake=b"a=old; b=1") == b"b=1"
    assert len(jar) == 0
    jar.store(b"a=again", b"/", NOW, b"a=old; b=1")
    assert sent(jar, handshake=b"a=old; b=1") == b"b=1; a=again"


def test_a_deletion_of_what_nobody_sends_leaves_nothing() -> None:
    assert jar_with(b"a=1", b"a=; Max-Age=0")._cookies == {}


def test_a_cookie_ends_and_does_not_bring_the_old_one_back() -> None:
    jar = jar_with(b"a=new; Max-Age=10", handshake=b"a=old")
    assert sent(jar, handshake=b"a=old", after=9) == b"a=new"
    assert sent(jar, handshake=b"a=old", after=10) == b""


def test_the_oldest_goes_when_there_are_too_many() -> None:
    jar = jar_with(*[b"c%d=x" % number for number in range(MAX_COOKIES + 2)], handshake=b"c0=old")
    assert len(jar) == MAX_COOKIES
    header = sent(jar, handshake=b"c0=old")
    assert b"c0=" not in header  # it had been replaced, and so is not the handshake's any more
    assert b"c1=" not in header
    assert b"c51=x" in header


def test_one_that_is_set_again_is_young() -> None:
    jar = jar_with(b"a=1", *[b"c%d=x" % number for number in range(MAX_COOKIES - 1)], b"a=2", b"one=more")
    assert b"a=2" in sent(jar)
    assert b"c0=" not in sent(jar)


def test_those_that_have_ended_go_first() -> None:
    jar = jar_with(b"keep=1", b"short=1; Max-Age=5", *[b"c%d=x" % number for number in range(MAX_COOKIES - 2)])
    jar.store(b"new=1", b"/", NOW + 6, b"")
    assert b"keep=1" in sent(jar, after=6)
    assert len(jar) == MAX_COOKIES


def test_what_hides_is_bounded_by_the_handshake() -> None:
    jar = jar_with(*[b"c%d=; Max-Age=0" % number for number in range(1000)], handshake=b"c1=x; c2=x")
    assert len(jar._cookies) == 2


@pytest.mark.parametrize(
    ("headers", "cookie", "refused"),
    [
        ([(b"host", b"x")], b"", False),
        ([(b"cookie", b"a=b"), (b"cookie", b"c=d")], b"a=b; c=d", False),
        ([(b"nosession", b"true"), (b"cookie", b"a=b")], b"a=b", True),
        ([(b"nosession", b"")], b"", False),
    ],
)
def test_reading(headers: list[tuple[bytes, bytes]], cookie: bytes, refused: bool) -> None:
    assert read_cookies(headers) == (cookie, refused)


def test_one_header_takes_the_place_of_all() -> None:
    headers = [(b"cookie", b"a"), (b"x", b"y"), (b"cookie", b"b")]
    assert with_cookies(headers, b"c=d") == [(b"x", b"y"), (b"cookie", b"c=d")]
    assert with_cookies(headers, b"") == [(b"x", b"y")]


@given(st.lists(st.binary(max_size=40), max_size=60), st.binary(max_size=40), st.binary(max_size=20))
def test_nothing_an_app_sets_breaks_the_header(set_cookies: list[bytes], handshake: bytes, path: bytes) -> None:
    jar = jar_with(*set_cookies, path=path, handshake=handshake)
    header = jar.merge(handshake, path, NOW)
    assert not set(header) - set(handshake) & set(b"\r\n\x00")
    assert len(jar) <= MAX_COOKIES
