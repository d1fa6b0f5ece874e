"""Fast Open cookies and signatures among TCP's options (RFC 7413 section 4.1.1, RFC 2385, RFC 5925)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ustack.wire import tcp


@settings(max_examples=200)
@given(st.sampled_from([0, 4, 6, 8, 10, 12, 14, 16]), st.booleans())
def test_a_cookie_comes_back_and_the_option_is_whole_words(length: int, exp: bool) -> None:
    cookie = bytes(range(length))
    option = tcp.fastopen_option(cookie, exp)
    assert len(option) % 4 == 0
    found = tcp.parse_options(option, 0, len(option))
    assert found.cookie == cookie and found.cookie_exp is exp
    assert ("cookiereq" if not cookie else cookie.hex()) in tcp.options_to_str(option, 0, len(option))


@pytest.mark.parametrize("length", [1, 2, 3, 5, 15, 18])
def test_other_lengths_are_no_cookie(length: int) -> None:
    """ "The length MUST be even", 4 to 16."""
    option = bytes((34, 2 + length)) + bytes(length)
    assert tcp.parse_options(option, 0, len(option)).cookie is None


@settings(max_examples=300)
@given(st.binary(max_size=40))
def test_looking_for_a_signature_never_fails(options: bytes) -> None:
    found = tcp.find_signature(options, 0, len(options))
    assert found in (tcp.NO_SIGNATURE, tcp.SIGNATURE_MD5, tcp.SIGNATURE_AO, tcp.SIGNATURE_MALFORMED)
    if b"\x13" not in options and b"\x1d" not in options:
        assert found in (tcp.NO_SIGNATURE, tcp.SIGNATURE_MALFORMED)
    if len(options) < tcp.TCPOLEN_MD5SIG and b"\x1d" not in options:
        assert found in (tcp.NO_SIGNATURE, tcp.SIGNATURE_MALFORMED if b"\x13" in options else tcp.NO_SIGNATURE)
