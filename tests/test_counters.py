"""Counters: one object a group, Linux's names, the same compiled and not."""

from __future__ import annotations

import pytest

from ustack.counters import Mib, counter_names


def test_a_new_mib_is_all_zero_and_shares_nothing() -> None:
    first, second = Mib(), Mib()
    assert set(first.snapshot().values()) == {0}
    first.ip.InReceives += 1
    assert second.ip.InReceives == 0 and Mib().ip.InReceives == 0


def test_counting_is_an_addition_and_shows_in_the_snapshot() -> None:
    mib = Mib()
    mib.tcp.InSegs += 2
    mib.path.received += 1
    moved = {name: value for name, value in mib.snapshot().items() if value != 0}
    assert moved == {"Tcp.InSegs": 2, "Path.received": 1}


def test_a_snapshot_does_not_move_any_more() -> None:
    mib = Mib()
    before = mib.snapshot()
    mib.udp.NoPorts += 1
    assert before["Udp.NoPorts"] == 0


@pytest.mark.parametrize("name", sorted(Mib().snapshot()))
def test_bump_moves_the_counter_of_that_name_and_no_other(name: str) -> None:
    mib = Mib()
    mib.bump(name)
    mib.bump(name)
    assert {other: value for other, value in mib.snapshot().items() if value != 0} == {name: 2}


@pytest.mark.parametrize("name", ["Nobody.InSegs", "Tcp.Nothing", "Tcp", ""])
def test_an_unknown_counter_is_an_error_of_the_caller(name: str) -> None:
    with pytest.raises((KeyError, AttributeError)):
        Mib().bump(name)


def test_groups_are_linux_s_and_hold_the_same_objects() -> None:
    mib = Mib()
    groups = mib.groups()
    assert list(groups)[:5] == ["Ip", "Icmp", "Udp", "Tcp", "TcpExt"]
    assert groups["Ip"] is mib.ip and groups["TcpExt"] is mib.tcpext and groups["Path"] is mib.path


def test_names_are_in_the_order_of_the_class() -> None:
    """As /proc/net/snmp shows them."""
    assert counter_names(type(Mib().udp))[:4] == ("InDatagrams", "NoPorts", "InErrors", "OutDatagrams")
    assert counter_names(type(Mib().path)) == ("received", "delivered", "forwarded", "dropped")


def test_counters_are_large() -> None:
    mib = Mib()
    mib.path.received = 2**62
    mib.path.received += 1
    assert mib.snapshot()["Path.received"] == 2**62 + 1
