"""ip_select_ident_segs, ip_idents_reserve (RFC 6864, RFC 7739)."""

from __future__ import annotations

import pytest

from tests.routing.links import FAR, OURS, PEER, a
from ustack.ipv4.ident import IP_IDENTS_SZ, IpIdents
from ustack.net import Net
from ustack.sock import Sock
from ustack.timer import NSEC_PER_MSEC, NSEC_PER_SEC


def idents(seed: int = 0) -> tuple[Net, IpIdents]:
    net = Net(bytes([seed] * 16))
    return net, IpIdents(net)


@pytest.mark.parametrize(
    ("connected", "df", "segs", "expected"),
    [
        (True, True, 1, [5, 6, 7]),
        (True, False, 1, [5, 6, 7]),
        (True, True, 10, [5, 15, 25]),
        (False, True, 1, [0, 0, 0]),
    ],
)
def test_ip_select_ident_segs(connected: bool, df: bool, segs: int, expected: list[int]) -> None:
    """A connected socket has a generator of its own; with DF and without a connection the field means nothing."""
    net, table = idents()
    sk = Sock(net, 2, 17)
    sk.inet_id = 5
    sk.daddr = PEER if connected else 0
    assert [table.ip_select_ident_segs(sk, df, OURS, PEER, 17, segs) for _ in range(3)] == expected


def test_a_sockets_counter_wraps_at_16_bits() -> None:
    net, table = idents()
    sk = Sock(net, 2, 17)
    sk.daddr, sk.inet_id = PEER, 0xFFFF
    assert [table.ip_select_ident_segs(sk, False, OURS, PEER, 17, 1) for _ in range(2)] == [0xFFFF, 0]


def test_without_a_socket_the_triple_counts_by_itself() -> None:
    """RFC 6864 4.3: unique for source, destination and protocol; consecutive while it is busy."""
    _, table = idents()
    first = [table.ip_select_ident_segs(None, False, OURS, PEER, 17, 1) for _ in range(5)]
    assert [(b - a) & 0xFFFF for a, b in zip(first, first[1:], strict=False)] == [1] * 4
    batch = table.ip_idents_reserve(OURS, PEER, 17, 40)
    assert (table.ip_idents_reserve(OURS, PEER, 17, 1) - batch) & 0xFFFF == 40


@pytest.mark.parametrize(("saddr", "daddr", "protocol"), [(OURS, FAR, 17), (PEER, OURS, 17), (OURS, PEER, 1)])
def test_other_triples_do_not_show_in_ours(saddr: int, daddr: int, protocol: int) -> None:
    """Idle scan, CVE-2019-10638: what we send to one must not tell another how much."""
    _, table = idents()
    before = table.ip_idents_reserve(OURS, PEER, 17, 1)
    for _ in range(100):
        table.ip_idents_reserve(saddr, daddr, protocol, 1)
    assert (table.ip_idents_reserve(OURS, PEER, 17, 1) - before) & 0xFFFF == 1


def test_no_two_stacks_agree_and_one_seed_repeats() -> None:
    """The hash has a secret: without it a collision could be computed (CVE-2021-45486)."""
    runs = [
        [idents(seed)[1].ip_idents_reserve(OURS, a("10.0.0.0") + i, 17, 1) for i in range(20)] for seed in (0, 1, 0)
    ]
    assert runs[0] == runs[2] != runs[1] and len(set(runs[0])) > 15


def test_a_generator_that_rested_moves_on_by_a_random_step() -> None:
    """ip_idents_reserve: "If the bucket has been unused for N jiffies, add random(0..N)"."""
    net, table = idents()
    steps = []
    last = table.ip_idents_reserve(OURS, PEER, 17, 1)
    for _ in range(50):
        net.now += 100 * NSEC_PER_MSEC
        ident = table.ip_idents_reserve(OURS, PEER, 17, 1)
        steps.append((ident - last) & 0xFFFF)
        last = ident
    assert all(1 <= step <= 100 for step in steps) and len(set(steps)) > 20


def test_a_long_rest_is_no_trouble() -> None:
    net, table = idents()
    net.now = 10**9 * NSEC_PER_SEC
    assert 0 <= table.ip_idents_reserve(OURS, PEER, 17, 1) <= 0xFFFF


def test_destinations_spread_over_the_generators() -> None:
    """IP_IDENTS_SZ generators however many destinations: memory is bounded, and neighbours share none by design."""
    _, table = idents()
    before = {i: table.ip_idents_reserve(OURS, a("10.0.0.0") + i, 17, 1) for i in range(200)}
    after = {i: table.ip_idents_reserve(OURS, a("10.0.0.0") + i, 17, 1) for i in range(200)}
    shared = sum((after[i] - before[i]) & 0xFFFF != 1 for i in before)
    assert shared < 200 * 200 // IP_IDENTS_SZ * 2
