"""struct sockaddr_in in the three forms that the socket calls take."""

from __future__ import annotations

import errno
import socket as host
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ustack.inet.sockaddr import AF_INET, AF_UNSPEC, INADDR_ANY, INADDR_BROADCAST, SockaddrIn, sockaddr_in


def test_a_pair_is_read_as_python_reads_it() -> None:
    assert sockaddr_in(("192.0.2.1", 80)) == SockaddrIn(0xC000_0201, 80)


@pytest.mark.parametrize(("name", "addr"), [("", INADDR_ANY), ("<broadcast>", INADDR_BROADCAST)])
def test_pythons_names_for_any_and_broadcast(name: str, addr: int) -> None:
    assert sockaddr_in((name, 1)).addr == addr


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_that_does_not_fit_is_einval(port: int) -> None:
    with pytest.raises(OSError) as caught:
        sockaddr_in(("", port))
    assert caught.value.errno == errno.EINVAL


def test_a_name_is_not_resolved_here() -> None:
    with pytest.raises(ValueError):
        sockaddr_in(("localhost", 80))


@given(st.integers(0, 0xFFFF_FFFF), st.integers(0, 0xFFFF))
def test_bytes_are_the_structure_of_c(addr: int, port: int) -> None:
    raw = SockaddrIn(addr, port).to_bytes()
    assert len(raw) == 16 and int.from_bytes(raw[:2], sys.byteorder) == host.AF_INET
    assert raw[2:4] == port.to_bytes(2, "big") and raw[4:8] == addr.to_bytes(4, "big")
    assert sockaddr_in(raw) == SockaddrIn(addr, port)


@pytest.mark.parametrize("length", range(16))
def test_a_short_structure_is_einval(length: int) -> None:
    with pytest.raises(OSError) as caught:
        sockaddr_in(SockaddrIn(1, 2).to_bytes()[:length])
    assert caught.value.errno == errno.EINVAL


def test_a_family_alone_is_enough_to_say_unspec() -> None:
    assert sockaddr_in(bytes(2)).family == AF_UNSPEC


@given(st.binary(max_size=40))
def test_no_bytes_whatever_do_more_than_einval(raw: bytes) -> None:
    try:
        address = sockaddr_in(raw)
    except OSError as error:
        assert error.errno == errno.EINVAL
    else:
        assert 0 <= address.port <= 0xFFFF and 0 <= address.addr <= 0xFFFF_FFFF


def test_a_structure_is_copied_so_that_a_hook_cannot_rewrite_the_callers() -> None:
    mine = SockaddrIn(1, 2)
    theirs = sockaddr_in(mine)
    theirs.port = 3
    assert mine.port == 2


def test_equality_and_text() -> None:
    here = SockaddrIn(0xC000_0201, 7)
    assert repr(here) == "192.0.2.1:7" and here.pair() == ("192.0.2.1", 7)
    assert here != SockaddrIn(0xC000_0201, 7, AF_UNSPEC) and here != "192.0.2.1:7"
    assert len({here, SockaddrIn(0xC000_0201, 7, AF_INET)}) == 1
