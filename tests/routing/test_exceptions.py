"""What next hops know of single destinations (RFC 1191; __ip_rt_update_pmtu, struct fib_nh_exception)."""

from __future__ import annotations

import pytest

from tests.routing.links import FAR, PEER, PEER_1, Links, a, address, received
from ustack.device.core import NETDEV_CHANGEMTU
from ustack.dst import Dst
from ustack.routing import exceptions
from ustack.routing.exceptions import FibNhException, FnheTable
from ustack.routing.fib_types import FibConfig, FibNh, NexthopConfig
from ustack.routing.flow import Flow
from ustack.routing.multipath import mix
from ustack.routing.uapi import NLM_F_CREATE
from ustack.timer import NSEC_PER_SEC

OTHER = a("203.0.113.6")


def host() -> Links:
    links = Links()
    links.route("0.0.0.0/0", "192.0.2.1")
    return links


def way(links: Links, daddr: int = FAR) -> Dst:
    return links.routing.ip_route_output(Flow(daddr))


def tell(links: Links, mtu: int, daddr: int = FAR) -> None:
    """A router says that ``mtu`` bytes fit."""
    links.routing.update_pmtu(Flow(daddr), mtu)


def mtu(links: Links, daddr: int = FAR) -> tuple[int, bool]:
    dst = way(links, daddr)
    return int(dst.mtu), dst.mtu_locked


def known(links: Links) -> list[tuple[int, int]]:
    return sorted((int(fnhe.daddr), int(fnhe.pmtu)) for fnhe in links.routing.exceptions.entries())


@pytest.mark.parametrize(
    ("told", "becomes"),
    [
        (1400, (1400, False)),
        (1499, (1499, False)),
        (552, (552, False)),
        (551, (552, True)),  # ip_rt_min_pmtu: no smaller, and no DF any more
        (68, (552, True)),
        (0, (552, True)),  # RFC 1191 section 5: a router that does not say
        (1500, (1500, False)),  # RFC 1191 section 3: never raise
        (9000, (1500, False)),
        (-1, (1500, False)),
    ],
)
def test_what_a_router_says(told: int, becomes: tuple[int, bool]) -> None:
    links = host()
    before = way(links)
    tell(links, told)
    assert mtu(links) == becomes
    # "Exception created; mark the cached routes for the nexthop stale, so anyone caching it rechecks"
    assert links.routing.dst_valid(before) is (not 0 <= told <= 1500)
    assert mtu(links, OTHER) == (1500, False)  # nobody else's path


def test_it_shrinks_step_by_step_and_never_grows() -> None:
    links = host()
    for told, becomes in ((1400, 1400), (1450, 1400), (1000, 1000), (1400, 1000)):
        tell(links, told)
        assert mtu(links)[0] == becomes


def test_who_has_its_route_learns_of_a_smaller_mtu_in_place() -> None:
    """update_or_create_fnhe: "Update all cached dsts too"."""
    links = host()
    tell(links, 1400)
    kept = way(links)
    tell(links, 1300)
    assert way(links) is kept and links.routing.dst_valid(kept) and kept.mtu == 1300


def test_it_is_forgotten_after_mtu_expires() -> None:
    """RFC 1191 section 6.3: "10 minutes" before a larger estimate is tried again; kept answers must notice."""
    links = host()
    tell(links, 1400)
    kept = way(links)
    links.net.now = 300 * NSEC_PER_SEC
    tell(links, 1300, OTHER)
    for second, far, other in ((599, 1400, 1300), (600, 1500, 1300), (899, 1500, 1300), (900, 1500, 1500)):
        links.net.now = second * NSEC_PER_SEC
        links.net.timers.run(links.net.now)
        assert links.routing.dst_valid(kept) is (second < 600)
        assert (mtu(links)[0], mtu(links, OTHER)[0]) == (far, other)
    assert known(links) == [] and not links.routing.exceptions.pending


def test_expired_it_does_not_count_even_before_the_timer_has_run() -> None:
    """find_exception deletes what it finds expired."""
    links = host()
    tell(links, 1400)
    links.net.now = 700 * NSEC_PER_SEC
    links.routing.rt_cache_flush()
    assert mtu(links) == (1500, False) and known(links) == []


def test_the_unreachable_have_no_path() -> None:
    links = Links()
    tell(links, 600)
    assert known(links) == []


def test_the_same_again_disturbs_nobody() -> None:
    """A repeated message moves no generation: it cannot be used to make us look everything up anew."""
    links = host()
    tell(links, 1400)
    genid, kept, neighbour = links.routing.fib.genid, way(links), way(links, OTHER)
    for told in (1400, 1400, 1450):
        tell(links, told)
    tell(links, 551)
    tell(links, 550)  # as locked as before
    assert links.routing.fib.genid == genid and way(links) is kept and way(links, OTHER) is neighbour
    assert mtu(links) == (552, True)


def test_it_lasts_longer_if_it_is_said_again_after_half_its_time() -> None:
    """__ip_rt_update_pmtu: time_before(jiffies, expires - mtu_expires / 2)."""
    links = host()
    for second, expires in ((0, 600), (200, 600), (301, 901)):
        links.net.now = second * NSEC_PER_SEC
        tell(links, 1400)
        (fnhe,) = links.routing.exceptions.entries()
        assert fnhe.expires == expires * NSEC_PER_SEC


def test_a_route_that_comes_or_goes_elsewhere_changes_no_path() -> None:
    """Unlike the answers, exceptions live as long as their next hop: another prefix is no news of this path."""
    links = host()
    tell(links, 1400)
    links.routing.add_address(links.eth1, address("10.0.0.1/24"))
    links.route("10.1.0.0/16", "198.51.100.1")
    assert mtu(links) == (1400, False)
    links.route("203.0.113.0/24", "198.51.100.1")  # another next hop, of which nothing is known
    assert mtu(links) == (1500, False)
    links.routing.del_route(a("203.0.113.0"), 24)
    assert mtu(links) == (1400, False)


def test_route_flush_forgets_all() -> None:
    """net.ipv4.route.flush: fnhe_genid_bump."""
    links = host()
    tell(links, 1400)
    tell(links, 1300, PEER)
    links.routing.flush()
    assert known(links) == [] and (mtu(links), mtu(links, PEER)) == ((1500, False), (1500, False))
    tell(links, 1200)
    assert known(links) == [(FAR, 1200)] and mtu(links) == (1200, False)


def test_all_hops_of_a_multipath_route_hear_of_it() -> None:
    """Nobody knows by which of them the packet went."""
    links = Links()
    cfg = FibConfig(0, 0)
    cfg.nlflags = NLM_F_CREATE
    cfg.multipath = [NexthopConfig(links.eth0.ifindex, PEER), NexthopConfig(links.eth1.ifindex, PEER_1)]
    links.routing.fib.rtm_newroute(cfg)
    tell(links, 1400)
    assert known(links) == [(FAR, 1400), (FAR, 1400)] and mtu(links) == (1400, False)


@pytest.mark.parametrize(
    ("pmtu", "locked", "new", "orig", "becomes"),
    [
        (1400, False, 1300, 1500, (1300, False)),  # the first hop is narrower than the path was
        (1400, False, 1450, 1500, (1400, False)),
        (1400, False, 9000, 1400, (9000, False)),  # the first hop limited it: the path may be wider
        (552, True, 1300, 1500, (552, True)),
        (552, True, 500, 1500, (500, False)),
    ],
)
def test_fib_nhc_update_mtu(pmtu: int, locked: bool, new: int, orig: int, becomes: tuple[int, bool]) -> None:
    table = FnheTable(7)
    fnhe = FibNhException(FAR, 0)
    fnhe.pmtu, fnhe.mtu_locked = pmtu, locked
    table.insert(fnhe, 5)
    table.update_mtu(new, orig)
    assert (fnhe.pmtu, fnhe.mtu_locked) == becomes


def test_a_device_whose_mtu_changes_changes_the_paths_behind_it() -> None:
    links = host()
    tell(links, 1400)
    links.eth0.mtu = 1300
    links.devices.call_netdevice_notifiers(NETDEV_CHANGEMTU, links.eth0)
    assert mtu(links) == (1300, False)


# -- forwarding


@pytest.mark.parametrize(("told", "ours", "theirs"), [(1400, 1400, 1500), (500, 552, 552)])
def test_a_router_goes_by_its_links_unless_told(told: int, ours: int, theirs: int) -> None:
    """ip_dst_mtu_maybe_forward: forged ICMP must not shrink what a router forwards (ip_forward_use_pmtu), but for a
    locked one."""
    links = host()
    links.net.conf.inet_forward_change(1)
    tell(links, told)
    for _ in range(2):
        packet = received(links.eth1, a("198.51.100.7"), FAR)
        assert links.routing.ip_route_input(packet) is None and packet.dst is not None
        assert (packet.dst.mtu, packet.dst.mtu_forward) == (ours, theirs)
    another = received(links.eth1, a("198.51.100.7"), OTHER)
    assert links.routing.ip_route_input(another) is None and another.dst is not None
    assert another.dst is not packet.dst and another.dst.mtu == 1500


# -- bounds


def test_a_chain_is_short_whatever_is_said() -> None:
    """CVE-2021-20322: the hash is secret, a chain has at most ten and one, at random; the oldest makes room."""
    links = host()
    for number in range(3 * exceptions.FNHE_HASH_SIZE):
        links.net.now += 1
        tell(links, 1400, a("10.0.0.0") + number)
    nhc = next(iter(fi.nh[0] for fi in links.routing.fib.semantics.infos if fi is not None and fi.nh[0].exceptions))
    table = nhc.exceptions
    assert table is not None
    chains = [table.chain(fnhe.daddr) for fnhe in table.entries()]
    assert all(chain is not None and len(chain) <= 2 * exceptions.FNHE_RECLAIM_DEPTH for chain in chains)
    assert table.count == len(table.entries()) <= 3 * exceptions.FNHE_HASH_SIZE
    assert mtu(links, a("10.0.0.0") + 3 * exceptions.FNHE_HASH_SIZE - 1) == (1400, False)


def test_the_oldest_of_a_chain_goes_and_its_route_with_it() -> None:
    """fnhe_remove_oldest: by when it was last used for a route."""
    links = host()
    room, nhc = links.routing.exceptions, FibNh(links.eth0, PEER)
    expires = links.net.now + 100 * NSEC_PER_SEC
    table = nhc.exceptions = FnheTable(0)
    same = [addr for addr in range(1, 200_000) if table_key(table, addr) == table_key(table, 1)]
    first = room.update_or_create_fnhe(nhc, same[0], 0, 1400, False, expires)
    dst = Dst(1, links.eth0, links.routing.fib.genid)
    assert room.rt_bind_exception(dst, first, same[0], True) and first.rth_output is dst
    for addr in same[1:20]:
        links.net.now += 1
        room.update_or_create_fnhe(nhc, addr, 0, 1400, False, expires)
    assert room.find_exception(nhc, same[0]) is None and not links.routing.dst_valid(dst)
    assert room.find_exception(nhc, same[19]) is not None and table.count <= 11
    assert links.net.mib.rt_cache.fnhe_evicted == 20 - table.count > 0


def table_key(table: FnheTable, addr: int) -> int:
    return int(mix(table.secret, addr)) % int(exceptions.FNHE_HASH_SIZE)
