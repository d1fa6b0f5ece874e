"""Addresses, prefixes, times and ranges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cli.ip.recorder import ip
from ustack.cli.ip import values
from ustack.cli.ip.values import Prefix
from ustack.cli.ip.words import Mistake
from ustack.wire.ipv4 import addr_to_str

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("text", "addr"),
    [
        ("192.0.2.1", "192.0.2.1"), ("10", "10.0.0.0"), ("10.1", "10.1.0.0"), ("1.2.3", "1.2.3.0"),
        ("0x0a.010.1.2", "10.8.1.2"), ("256.0.0.1", None), ("1.2.3.4.5", None), ("", None), ("1..2", None),
        ("1.2.3.", None), ("-1.2.3.4", None), ("1.2.3.4x", None), ("fe80::1", None),
    ],
)  # fmt: skip
def test_addresses(text: str, addr: str | None) -> None:
    assert values.parse_address(text) == (None if addr is None else ip(addr))


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("192.0.2.0/24", Prefix(ip("192.0.2.0"), 24, True)), ("10.6/16", Prefix(ip("10.6.0.0"), 16, True)),
        ("192.0.2.1", Prefix(ip("192.0.2.1"), 32)), ("10.0.0.0/255.0.0.0", Prefix(ip("10.0.0.0"), 8, True)),
        ("0/0", Prefix(0, 0, True)), ("0/0.0.0.0", Prefix(0, 0, True)), ("default", Prefix(0, 0, True, "default")),
        ("any", Prefix(0, 0, True, "any")), ("192.0.2.0/33", None), ("192.0.2.0/", None), ("x/24", None),
        ("10.0.0.0/255.0.255.0", None), ("10.0.0.0/255.x", None), ("/24", None),
    ],
)  # fmt: skip
def test_prefixes(text: str, prefix: Prefix | None) -> None:
    assert values.parse_prefix(text) == prefix


def test_what_any_means() -> None:
    assert Prefix(0, 0, True, "any").anything and Prefix(0, 0, True, "all").anything
    assert not Prefix(0, 0, True, "default").anything and not Prefix(0, 0, True).anything


def test_prefixes_hold_each_other() -> None:
    outer = Prefix(ip("192.0.2.0"), 24)
    assert outer.covers(ip("192.0.2.200")) and not outer.covers(ip("192.0.3.0"))
    assert outer.holds(ip("192.0.2.128"), 25) and not outer.holds(ip("192.0.0.0"), 16)
    assert Prefix(0, 0).covers(ip("203.0.113.1"))


@given(st.integers(0, 0xFFFF_FFFF), st.integers(0, 32))
@settings(max_examples=100)
def test_what_is_printed_is_read_again(addr: int, length: int) -> None:
    network = addr >> (32 - length) << (32 - length)
    assert values.parse_address(addr_to_str(addr)) == addr
    found = values.parse_prefix(values.format_prefix(network, length))
    assert found is not None and (found.addr, found.length) == (network, length)


def test_complaints_name_the_family() -> None:
    for call, text in (
        (lambda: values.address("x"), 'Error: inet address is expected rather than "x".\n'),
        (lambda: values.address("x", inet=False), 'Error: any valid address is expected rather than "x".\n'),
        (lambda: values.prefix("x"), 'Error: inet prefix is expected rather than "x".\n'),
        (lambda: values.prefix("x", inet=False), 'Error: any valid prefix is expected rather than "x".\n'),
    ):
        with pytest.raises(Mistake) as caught:
            call()
        assert (caught.value.text, caught.value.status) == (text, 1)
    assert values.address("any") == 0


def test_link_addresses() -> None:
    assert values.link_address("02:00:00:00:00:0a") == bytes([2, 0, 0, 0, 0, 10])
    assert values.link_address("2:0:0:0:0:a") == bytes([2, 0, 0, 0, 0, 10])
    assert values.link_address("foo") == b"\x0f"  # which is too short, as whoever needs it finds
    assert values.link_address("192.0.2.1") == bytes([192, 0, 2, 1])
    for wrong in ("zz", "100:0", "02:", "1.2.3.4.5", ""):
        with pytest.raises(Mistake, match="is invalid lladdr"):
            values.link_address(wrong)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("5", (5, False)), ("5ms", (5, True)), ("5s", (5000, True)), ("1.5s", (1500, True)), ("1.2", (2, False)),
        (".5sec", (500, True)), ("2msecs", (2, True)), ("100us", None), ("-1", None), ("x", None), ("", None),
        ("1e400", None), ("100000000s", (1_215_752_193, True)),
    ],
)  # fmt: skip
def test_times(text: str, found: tuple[int, bool] | None) -> None:
    """What does not fit 32 bits wraps around, as in iproute2."""
    assert values.parse_time(text) == found


def test_times_are_printed() -> None:
    assert [values.format_time(t) for t in (0, 250, 1000, 2500, 142_010_369)] == [
        "0ms",
        "250ms",
        "1s",
        "2.5s",
        "142010s",
    ]


def test_ranges() -> None:
    assert values.port_range("80") == (80, 80) and values.port_range("1000-2000") == (1000, 2000)
    assert values.port_range("5-") == (5, 5) and values.port_range("70000") == (4464, 4464)  # as sscanf has it
    assert values.uid_range("0-100") == (0, 100)
    assert values.marked("5") == (5, None) and values.marked("0x5/0xff") == (5, 255) and values.marked("0/1") == (0, 1)
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: values.port_range("x"), "invalid port range"),
        (lambda: values.uid_range("5"), "invalid UID range"),
        (lambda: values.uid_range("x-5"), "invalid UID range"),
        (lambda: values.marked("x"), "fwmark value is invalid"),
        (lambda: values.marked("5/x"), "fwmask value is invalid"),
    ]
    for call, text in calls:
        with pytest.raises(Mistake, match=text):
            call()
