"""Which hop and which source a packet gets (fib_select_multipath, fib_select_default, fib_result_prefsrc)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.routing.hosts import Host, hop
from tests.routing.links import a, shown
from ustack.routing.fib_select import upper_bound
from ustack.routing.fib_types import FibInfo, FibResult, Reachability
from ustack.routing.flow import RT_SCOPE_HOST, Flow
from ustack.routing.nexthop import NexthopObjConfig
from ustack.routing.uapi import (
    NLM_F_APPEND,
    NLM_F_CREATE,
    NUD_INCOMPLETE,
    NUD_NONE,
    NUD_REACHABLE,
    RT_TABLE_MAIN,
    RTNH_F_DEAD,
)

if TYPE_CHECKING:
    from ustack.device.net_device import NetDevice

STALE, FAILED = 0x04, 0x20
TOP = (1 << 31) - 1


class Neighbours(Reachability):
    """States of neighbours by their address; what is not here was never asked for."""

    def __init__(self) -> None:
        self.states: dict[str, int] = {}
        self.asked: list[str] = []

    def nud_state(self, addr: int, dev: NetDevice) -> int:
        self.asked.append(shown(addr))
        return self.states.get(shown(addr), NUD_NONE)


class Selecting(Host):
    """a0 and a1 as Host has them, and the states of neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.neighbours = Neighbours()
        self.semantics.reachability = self.neighbours

    def bounds(self, fi: FibInfo) -> list[int]:
        return [int(nh.upper_bound) for nh in fi.nh]

    def select(self, fi: FibInfo, mp_hash: int, saddr: str = "") -> str:
        """The gateway that was chosen."""
        res = FibResult()
        res.fi, res.nhc = fi, fi.nhs()[0]
        self.semantics.fib_select_multipath(res, mp_hash, a(saddr) if saddr else 0)
        assert res.nhc is fi.nhs()[int(res.nh_sel)]
        return shown(res.nhc.gateway)

    def default(self, via: str, priority: int = 0, tos: int = 0) -> None:
        self.route("0.0.0.0/0", via, nlflags=NLM_F_CREATE | NLM_F_APPEND, priority=priority, tos=tos)

    def get(self, **given: int) -> str:
        """ip route get 203.0.113.1: the gateway."""
        res = FibResult()
        flow = Flow(a("203.0.113.1"))
        for name, value in given.items():
            setattr(flow, name, value)
        assert self.fib.fib_lookup(flow, res) == 0
        self.semantics.fib_select_path(flow, res, 0)
        assert res.nhc is not None
        return shown(res.nhc.gateway)

    def group(self, *weights: int) -> FibInfo:
        """A route through a group of objects with gateways 192.0.2.2, 198.51.100.3, 192.0.2.4, ..."""
        members = []
        for at, weight in enumerate(weights):
            self.nexthop(at + 1, f"{('198.51.100', '192.0.2')[at % 2 == 0]}.{at + 2}", (self.a1, self.a0)[at % 2 == 0])
            members.append((at + 1, weight))
        cfg = NexthopObjConfig(100)
        cfg.group = members
        self.semantics.nexthops.rtm_newnexthop(cfg)
        return self.create(self.config(nh_id=100, scope=0))


@pytest.fixture
def host() -> Selecting:
    return Selecting()


# -- fib_rebalance


def test_fib_rebalance_weights(host: Selecting) -> None:
    """DIV_ROUND_CLOSEST_ULL(weights so far << 31, total) - 1."""
    fi = host.create(host.several(hop("192.0.2.2"), hop("198.51.100.2", weight=2), hop("192.0.2.3")))
    assert host.bounds(fi) == [(1 << 29) - 1, 3 * (1 << 29) - 1, TOP]
    thirds = host.create(host.several(hop("192.0.2.2"), hop("198.51.100.2"), hop("192.0.2.3")))
    assert host.bounds(thirds) == [715_827_882, 1_431_655_764, TOP]


def test_fib_rebalance_one_hop_has_no_share(host: Selecting) -> None:
    assert host.bounds(host.create(host.config("192.0.2.2"))) == [-1]


def test_fib_rebalance_dead_hops_have_none(host: Selecting) -> None:
    fi = host.create(host.several(hop("192.0.2.2"), hop("198.51.100.2"), hop("192.0.2.3")))
    host.devices.dev_close(host.a0)
    assert host.bounds(fi) == [-1, TOP, -1]
    host.devices.dev_open(host.a0)
    assert host.bounds(fi) == [715_827_882, 1_431_655_764, TOP]
    host.devices.dev_close(host.a0)
    host.devices.dev_close(host.a1)
    assert host.bounds(fi) == [-1, -1, -1] and fi.flags & RTNH_F_DEAD


def test_fib_rebalance_linkdown_counts_where_the_device_says_so(host: Selecting) -> None:
    fi = host.create(host.several(hop("192.0.2.2"), hop("198.51.100.2")))
    host.devices.netif_carrier_off(host.a1)
    assert host.bounds(fi) == [(1 << 30) - 1, TOP]
    host.devices.netif_carrier_on(host.a1)
    host.a1.in_dev.cnf.ignore_routes_with_linkdown = 1
    host.devices.netif_carrier_off(host.a1)
    assert host.bounds(fi) == [TOP, -1]
    assert host.select(fi, 5) == host.select(fi, TOP) == "192.0.2.2"


@given(st.lists(st.integers(1, 256), min_size=2, max_size=20))
def test_upper_bounds_share_out_all_hashes_by_weight(weights: list[int]) -> None:
    total = sum(weights)
    bounds = [int(upper_bound(sum(weights[: at + 1]), total)) for at in range(len(weights))]
    assert bounds[-1] == TOP
    shares = [bound - before for before, bound in zip([-1, *bounds], bounds, strict=False)]
    assert all(abs(share - (weight << 31) / total) <= 1 for share, weight in zip(shares, weights, strict=True))


# -- fib_select_multipath


def test_fib_select_multipath_by_hash(host: Selecting) -> None:
    fi = host.create(host.several(hop("192.0.2.2"), hop("198.51.100.2", weight=3)))
    edge = (1 << 29) - 1
    chosen = [host.select(fi, mp_hash) for mp_hash in (0, edge, edge + 1, TOP)]
    assert chosen == ["192.0.2.2", "192.0.2.2", "198.51.100.2", "198.51.100.2"]
    assert host.neighbours.asked == []


def test_fib_select_multipath_spreads_by_weight(host: Selecting) -> None:
    fi = host.create(host.several(hop("192.0.2.2"), hop("198.51.100.2", weight=2), hop("192.0.2.3", weight=5)))
    hashes = [host.net.entropy.u32() >> 1 for _ in range(4000)]
    chosen = [host.select(fi, mp_hash) for mp_hash in hashes]
    shares = [chosen.count(gateway) / 500 for gateway in ("192.0.2.2", "198.51.100.2", "192.0.2.3")]
    assert all(abs(share - weight) < 0.3 for share, weight in zip(shares, (1, 2, 5), strict=True))


def test_fib_select_multipath_prefers_hops_with_the_packets_source(host: Selecting) -> None:
    """What speaks as 192.0.2.1 leaves where that address is; the first such hop if none of them has the hash."""
    fi = host.create(host.several(hop("192.0.2.2"), hop("192.0.2.3"), hop("198.51.100.2")))
    third = 715_827_882
    chosen = [host.select(fi, at * third + 10, "192.0.2.1") for at in range(3)]
    assert chosen == ["192.0.2.2", "192.0.2.3", "192.0.2.2"]
    assert {host.select(fi, at * third + 10, "198.51.100.1") for at in range(3)} == {"198.51.100.2"}
    chosen = [host.select(fi, at * third + 10, "127.0.0.1") for at in range(3)]
    assert chosen == ["192.0.2.2", "192.0.2.3", "198.51.100.2"], "a source that no hop has"


def test_fib_select_multipath_use_neigh(host: Selecting) -> None:
    """net.ipv4.fib_multipath_use_neigh: without it nobody asks; what was never resolved counts as good."""
    fi = host.create(host.several(hop("192.0.2.2"), hop("198.51.100.2"), hop(dev=host.a0)))
    host.neighbours.states = {"192.0.2.2": FAILED}
    assert host.select(fi, 0) == "192.0.2.2"
    host.net.sysctl.fib_multipath_use_neigh = 1
    assert host.select(fi, 0) == "198.51.100.2"
    assert host.select(fi, TOP) == "0.0.0.0"
    assert host.neighbours.asked == ["192.0.2.2", "198.51.100.2", "192.0.2.2", "198.51.100.2"], "a bare device is good"
    host.neighbours.states = {"192.0.2.2": STALE}
    assert host.select(fi, 0) == "192.0.2.2"


def test_fib_select_multipath_the_first_good_one_if_none_has_the_hash(host: Selecting) -> None:
    fi = host.create(host.several(hop("192.0.2.2"), hop("192.0.2.3"), hop("198.51.100.2")))
    host.net.sysctl.fib_multipath_use_neigh = 1
    host.neighbours.states = {"192.0.2.2": NUD_INCOMPLETE, "198.51.100.2": FAILED}
    assert host.select(fi, TOP) == "192.0.2.3"


def test_fib_select_multipath_leaves_the_result_if_no_hop_is_good(host: Selecting) -> None:
    fi = host.create(host.several(hop("192.0.2.2"), hop("198.51.100.2")))
    host.net.sysctl.fib_multipath_use_neigh = 1
    host.neighbours.states = {"192.0.2.2": FAILED, "198.51.100.2": FAILED}
    assert host.select(fi, TOP) == "192.0.2.2"


# -- nexthop_select_path_hthr


def test_nexthop_select_path_by_weight(host: Selecting) -> None:
    fi = host.group(1, 3)
    edge = (1 << 29) - 1
    assert [host.select(fi, mp_hash) for mp_hash in (0, edge, edge + 1, TOP)] == ["192.0.2.2"] * 2 + [
        "198.51.100.3"
    ] * 2


def test_nexthop_select_path_always_looks_at_neighbours(host: Selecting) -> None:
    fi = host.group(1, 1)
    host.neighbours.states = {"192.0.2.2": FAILED}
    assert host.select(fi, 0) == "198.51.100.3"
    host.neighbours.states = {"198.51.100.3": FAILED}
    assert host.select(fi, TOP) == "192.0.2.2"
    host.neighbours.states = {"192.0.2.2": FAILED, "198.51.100.3": FAILED}
    assert host.select(fi, TOP) == "192.0.2.2", "none is good: the first"


# -- fib_select_default, as `ip route get` showed it step by step


def test_fib_select_default_goes_on_to_the_next_gateway(host: Selecting) -> None:
    for via in ("192.0.2.2", "192.0.2.3", "198.51.100.4", "198.51.100.5"):
        host.default(via)
    states = host.neighbours.states
    assert [host.get(), host.get()] == ["192.0.2.2", "192.0.2.2"], "never asked counts as alive"
    states["192.0.2.2"] = FAILED
    assert [host.get(), host.get()] == ["192.0.2.3", "192.0.2.3"]
    states["192.0.2.3"] = NUD_REACHABLE
    assert [host.get(), host.get()] == ["192.0.2.3", "192.0.2.3"]
    states["192.0.2.3"] = FAILED
    states["198.51.100.4"] = STALE
    assert [host.get(), host.get()] == ["198.51.100.4", "198.51.100.5"], "perhaps alive: the next has its turn"
    states["198.51.100.4"] = states["198.51.100.5"] = FAILED
    tried = [host.get() for _ in range(6)]
    assert tried == ["192.0.2.2", "192.0.2.2", "192.0.2.3", "198.51.100.4", "198.51.100.5", "192.0.2.2"]


def test_fib_select_default_incomplete_is_no_last_resort(host: Selecting) -> None:
    host.default("192.0.2.2")
    host.default("192.0.2.3")
    host.neighbours.states = {"192.0.2.2": FAILED, "192.0.2.3": NUD_INCOMPLETE}
    assert [host.get() for _ in range(4)] == ["192.0.2.2"] * 4


def test_fib_select_default_only_the_best_metric(host: Selecting) -> None:
    host.default("192.0.2.2", priority=1)
    host.default("192.0.2.3", priority=2)
    host.neighbours.states = {"192.0.2.2": FAILED}
    assert host.get() == "192.0.2.2"


def test_fib_select_default_only_the_flows_tos(host: Selecting) -> None:
    host.default("192.0.2.2")
    host.default("192.0.2.3")
    host.default("198.51.100.4", tos=0x10)
    host.default("198.51.100.5", tos=0x10)
    host.neighbours.states = {"192.0.2.2": FAILED, "198.51.100.4": FAILED}
    assert [host.get(), host.get(tos=0x10)] * 2 == ["192.0.2.3", "198.51.100.5"] * 2


def test_fib_select_default_one_alone_is_not_doubted(host: Selecting) -> None:
    host.default("192.0.2.2")
    host.neighbours.states = {"192.0.2.2": FAILED}
    assert host.get() == "192.0.2.2" and host.neighbours.asked == []


def test_fib_select_default_not_where_the_device_is_given(host: Selecting) -> None:
    host.default("192.0.2.2")
    host.default("192.0.2.3")
    host.neighbours.states = {"192.0.2.2": FAILED}
    assert host.get(oif=host.a0.ifindex) == "192.0.2.2" and host.neighbours.asked == []


def test_fib_select_default_not_for_longer_prefixes(host: Selecting) -> None:
    for via in ("192.0.2.2", "192.0.2.3"):
        host.route("203.0.113.0/24", via, nlflags=NLM_F_CREATE | NLM_F_APPEND)
    host.neighbours.states = {"192.0.2.2": FAILED}
    assert host.get() == "192.0.2.2"


def test_fib_select_default_remembers_in_the_table(host: Selecting) -> None:
    host.default("192.0.2.2")
    host.default("192.0.2.3")
    table = host.fib.fib_get_table(RT_TABLE_MAIN)
    assert table is not None and table.get_default(0, 0) == -1
    host.neighbours.states = {"192.0.2.2": FAILED}
    host.get()
    assert table.get_default(0, 0) == 1
    host.devices.dev_close(host.a0)
    assert table.tb_num_default == 0


# -- fib_result_prefsrc


def result(fi: FibInfo) -> FibResult:
    res = FibResult()
    res.fi, res.nhc = fi, fi.nhs()[0]
    return res


def test_fib_result_prefsrc(host: Selecting) -> None:
    res = result(host.create(host.config("192.0.2.2")))
    assert shown(host.semantics.fib_result_prefsrc(res)) == "192.0.2.1"
    res = result(host.create(host.config("192.0.2.2", prefsrc=a("198.51.100.1"))))
    assert shown(host.semantics.fib_result_prefsrc(res)) == "198.51.100.1"
    assert host.semantics.fib_result_prefsrc(FibResult()) == 0


def test_fib_result_prefsrc_is_chosen_anew_when_addresses_change(host: Selecting) -> None:
    """nh_saddr is good while nh_saddr_genid is the addresses' (dev_addr_genid)."""
    fi = host.create(host.config("198.51.100.2"))
    (nh,) = fi.nh
    nh.saddr = 1  # what is kept is used
    assert host.semantics.fib_result_prefsrc(result(fi)) == 1
    host.add("203.0.113.77/32", host.lo)
    assert shown(host.semantics.fib_result_prefsrc(result(fi))) == "198.51.100.1"
    assert shown(nh.saddr) == "198.51.100.1"


def test_fib_result_prefsrc_by_the_gateways_subnet(host: Selecting) -> None:
    host.add("203.0.113.129/25", host.a0)
    fi = host.create(host.config("203.0.113.130"))
    assert shown(host.semantics.fib_result_prefsrc(result(fi))) == "203.0.113.129"


def test_fib_select_path_chooses_the_source_last(host: Selecting) -> None:
    host.fib.rtm_newroute(host.several(hop("192.0.2.2"), hop("198.51.100.2")))
    for mp_hash, source in ((0, "192.0.2.1"), (TOP, "198.51.100.1")):
        flow, res = Flow(a("203.0.113.1")), FibResult()
        host.fib.fib_lookup(flow, res)
        host.semantics.fib_select_path(flow, res, mp_hash)
        assert shown(flow.saddr) == source
    flow = Flow(a("203.0.113.1"), a("127.0.0.1"))
    host.fib.fib_lookup(flow, res)
    host.semantics.fib_select_path(flow, res, 0)
    assert shown(flow.saddr) == "127.0.0.1", "the one that is given stays"


def test_fib_select_path_of_a_flow_with_a_device(host: Selecting) -> None:
    host.fib.rtm_newroute(host.several(hop("192.0.2.2"), hop("198.51.100.2")))
    flow, res = Flow(a("203.0.113.1"), oif=host.a1.ifindex), FibResult()
    host.fib.fib_lookup(flow, res)
    host.semantics.fib_select_path(flow, res, 0)
    assert res.nhc is not None and shown(res.nhc.gateway) == "198.51.100.2"


def test_fib_select_path_local_route(host: Selecting) -> None:
    flow, res = Flow(a("192.0.2.1")), FibResult()
    host.fib.fib_lookup(flow, res)
    host.semantics.fib_select_path(flow, res, 0)
    assert res.scope == RT_SCOPE_HOST and shown(flow.saddr) == "192.0.2.1"
