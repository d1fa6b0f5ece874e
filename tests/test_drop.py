"""The closed list of reasons: every effect names what exists."""

from __future__ import annotations

import pytest

from ustack.counters import Mib
from ustack.drop import EFFECTS, SILENT, Reason
from ustack.net import Net
from ustack.packet import Packet


def test_reasons_have_numbers_of_their_own() -> None:
    assert len({int(reason) for reason in Reason}) == len(Reason) == len(Reason.__members__)
    assert int(Reason.NOT_SPECIFIED) == 0


def test_every_counter_of_an_effect_exists() -> None:
    known = Mib().snapshot()
    assert [name for effect in EFFECTS.values() for name in effect.counters if name not in known] == []


def test_every_icmp_error_is_an_error() -> None:
    """RFC 792: destination unreachable, time exceeded, parameter problem."""
    for effect in EFFECTS.values():
        if effect.icmp is not None:
            icmp_type, code = effect.icmp
            assert icmp_type in (3, 11, 12) and 0 <= code <= 15


@pytest.mark.parametrize(
    ("reason", "icmp"),
    [
        (Reason.NEIGH_FAILED, (3, 1)),
        (Reason.IP_NOPROTO, (3, 2)),
        (Reason.TTL_EXPIRED, (11, 0)),
        (Reason.PKT_TOO_BIG, (3, 4)),
    ],
)
def test_which_losses_are_told_to_the_sender(reason: Reason, icmp: tuple[int, int]) -> None:
    """RFC 1812 4.3.3.1, 5.2.7.1, 5.3.1; RFC 1122 3.2.2.1; RFC 1191."""
    assert EFFECTS[reason].icmp == icmp


@pytest.mark.parametrize(
    "reason",
    [
        Reason.OTHERHOST,
        Reason.IP_CSUM,
        Reason.IP_INVALID_SOURCE,
        Reason.UNICAST_IN_L2_MULTICAST,
        Reason.IP_NOPROTO_QUIET,
        Reason.NETFILTER_DROP,
        Reason.ICMP_MALFORMED,
        Reason.NEIGH_QUEUEFULL,
    ],
)
def test_which_losses_are_silent(reason: Reason) -> None:
    """RFC 1122 3.2.2: no error about what is broken, not for us, or itself suspect."""
    assert EFFECTS.get(reason, SILENT).icmp is None


@pytest.mark.parametrize("reason", list(Reason))
def test_dropping_moves_exactly_the_counters_of_its_effect(reason: Reason) -> None:
    net = Net(bytes(16))
    packet = Packet(b"")
    net.receive(packet)
    before = net.mib.snapshot()
    net.drop(packet, reason)
    after = net.mib.snapshot()
    expected = dict.fromkeys(EFFECTS.get(reason, SILENT).counters, 1) | {"Path.dropped": 1}
    assert {name: after[name] - before[name] for name in after if after[name] != before[name]} == expected
    assert net.drops == {reason: 1}
