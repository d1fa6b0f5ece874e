"""What an administrator may do to neighbours: requests of ``ip neigh``, answers of net/core/neighbour.c."""

from __future__ import annotations

import errno

import pytest

from tests.neighbour.lan import FAR, OTHER, OTHER_MAC, OUR_MAC, OURS, PEER, PEER_MAC, SEC, FakeDevice, Lan, Listener
from ustack.device.net_device import BROADCAST_MAC, IFF_LOOPBACK, IFF_UP
from ustack.neighbour.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NeighConfig,
    neigh_add,
    neigh_delete,
    neigh_get,
    pneigh_get,
)
from ustack.neighbour.states import (
    NUD_DELAY,
    NUD_FAILED,
    NUD_INCOMPLETE,
    NUD_NONE,
    NUD_PERMANENT,
    NUD_PROBE,
    NUD_REACHABLE,
    NUD_STALE,
)
from ustack.neighbour.table import NO_LLADDR, NTF_EXT_LEARNED, NTF_PROXY, NTF_ROUTER, NTF_USE
from ustack.net import RTM_DELNEIGH, RTM_NEWNEIGH
from ustack.timer import NEVER
from ustack.wire.arp import ARPOP_REQUEST

ADD = NLM_F_CREATE | NLM_F_EXCL
REPLACE = NLM_F_CREATE | NLM_F_REPLACE
CHANGE = NLM_F_REPLACE


@pytest.fixture
def lan() -> Lan:
    return Lan()


def add(lan: Lan, lladdr: int = PEER_MAC, state: int = NUD_PERMANENT, nlflags: int = ADD, flags: int = 0) -> None:
    neigh_add(lan.table, NeighConfig(PEER, lan.dev, lladdr, state, flags), nlflags)


def refused(lan: Lan, cfg: NeighConfig, nlflags: int = ADD) -> tuple[int | None, str]:
    with pytest.raises(OSError) as raised:
        neigh_add(lan.table, cfg, nlflags)
    return raised.value.errno, raised.value.strerror or ""


# -- add, change, replace


def test_add_makes_one_and_only_once(lan: Lan) -> None:
    add(lan)
    assert (lan.state(), lan.entry().lladdr) == (NUD_PERMANENT, PEER_MAC)
    assert refused(lan, NeighConfig(PEER, lan.dev, OTHER_MAC)) == (errno.EEXIST, "File exists")
    assert lan.entry().lladdr == PEER_MAC


def test_change_wants_one_that_is_there(lan: Lan) -> None:
    assert refused(lan, NeighConfig(PEER, lan.dev, PEER_MAC), CHANGE)[0] == errno.ENOENT
    add(lan)
    add(lan, OTHER_MAC, NUD_STALE, CHANGE)
    assert (lan.state(), lan.entry().lladdr) == (NUD_STALE, OTHER_MAC)


def test_replace_takes_either(lan: Lan) -> None:
    add(lan, nlflags=REPLACE)
    add(lan, OTHER_MAC, nlflags=REPLACE)
    assert (lan.state(), lan.entry().lladdr) == (NUD_PERMANENT, OTHER_MAC)


def test_without_replace_an_address_that_is_known_stays(lan: Lan) -> None:
    """NEIGH_UPDATE_F_OVERRIDE is for NLM_F_REPLACE alone; the same address may change its state."""
    add(lan, state=NUD_STALE)
    add(lan, OTHER_MAC, NUD_REACHABLE, NLM_F_CREATE)
    assert (lan.state(), lan.entry().lladdr) == (NUD_STALE, PEER_MAC)
    add(lan, PEER_MAC, NUD_REACHABLE, NLM_F_CREATE)
    assert lan.state() == NUD_REACHABLE


def test_an_address_is_needed_unless_one_is_known(lan: Lan) -> None:
    """Nothing is left behind, where the kernel leaves an entry in state NONE."""
    assert refused(lan, NeighConfig(PEER, lan.dev)) == (errno.EINVAL, "No link layer address given")
    assert lan.table.entries() == []
    lan.send()
    assert refused(lan, NeighConfig(PEER, lan.dev), REPLACE) == (errno.EINVAL, "No link layer address given")
    lan.answer()
    add(lan, NO_LLADDR, NUD_PERMANENT, REPLACE)
    assert (lan.state(), lan.entry().lladdr) == (NUD_PERMANENT, PEER_MAC)


def test_a_device_is_needed(lan: Lan) -> None:
    assert refused(lan, NeighConfig(PEER, None, PEER_MAC)) == (errno.EINVAL, "Device not specified")


@pytest.mark.parametrize("state", [NUD_NONE, NUD_INCOMPLETE, NUD_FAILED])
def test_states_without_an_address(lan: Lan, state: int) -> None:
    add(lan, NO_LLADDR, state)
    assert lan.state() == state
    lan.send()
    assert lan.state() == NUD_INCOMPLETE and lan.table.queued == 1
    lan.settle()
    assert lan.state() == NUD_FAILED and lan.table.queued == 0


@pytest.mark.parametrize(("state", "then"), [(NUD_PROBE, NUD_FAILED), (NUD_DELAY, NUD_FAILED)])
def test_states_that_ask(lan: Lan, state: int, then: int) -> None:
    """Their timer runs from now on; DELAY becomes PROBE at once."""
    add(lan, state=state)
    lan.settle()
    assert [arp[:2] for arp in lan.arps()] == [(PEER_MAC, ARPOP_REQUEST)] * 3 and lan.state() == then


def test_reachable_by_hand_holds_as_long_as_by_answer(lan: Lan) -> None:
    add(lan, state=NUD_REACHABLE)
    lan.wait(lan.table.reachable_time(lan.parms) - 1)
    assert lan.state() == NUD_REACHABLE
    lan.wait(1)
    assert lan.state() == NUD_STALE


def test_failing_by_hand_fails_what_waits(lan: Lan) -> None:
    listener = Listener()
    lan.net.rtnl_watchers.append(listener)
    lan.send()
    add(lan, NO_LLADDR, NUD_FAILED, REPLACE)
    assert lan.table.queued == 0 and lan.icmp.sent == [(3, 1)]
    assert listener.heard == [(RTM_NEWNEIGH, PEER, NUD_FAILED)]
    assert lan.net.timers.next_deadline() == NEVER


def test_used_confirmed_and_updated_tell_when(lan: Lan) -> None:
    """ip -s neigh: a state that proves nothing counts as confirmed twice base_reachable_time ago."""
    lan.wait(100 * SEC)
    add(lan, state=NUD_STALE)
    entry = lan.entry()
    assert (lan.net.now - entry.used, lan.net.now - entry.confirmed, lan.net.now - entry.updated) == (0, 60 * SEC, 0)
    lan.wait(10 * SEC)
    add(lan, state=NUD_PERMANENT, nlflags=REPLACE)
    assert (lan.net.now - entry.used, lan.net.now - entry.confirmed, lan.net.now - entry.updated) == (10 * SEC, 0, 0)
    lan.wait(SEC)
    add(lan, OTHER_MAC, NUD_PERMANENT, REPLACE)
    assert (lan.net.now - entry.confirmed, lan.net.now - entry.updated) == (0, 0)


def test_changes_are_told_once(lan: Lan) -> None:
    listener = Listener()
    lan.net.rtnl_watchers.append(listener)
    add(lan, state=NUD_STALE)
    add(lan, state=NUD_STALE, nlflags=REPLACE)
    add(lan, OTHER_MAC, NUD_STALE, nlflags=REPLACE)
    add(lan, NO_LLADDR, NUD_FAILED, nlflags=REPLACE)
    add(lan, NO_LLADDR, NUD_FAILED, nlflags=REPLACE)
    assert [heard[2] for heard in listener.heard] == [NUD_STALE, NUD_STALE, NUD_FAILED]


def test_loopback_has_one_for_all_addresses(lan: Lan) -> None:
    """arp_constructor: the key is INADDR_ANY there."""
    lo = FakeDevice("lo", 0)
    lo.flags = IFF_UP | IFF_LOOPBACK
    lan.devices.register_netdevice(lo)
    neigh_add(lan.table, NeighConfig(OURS, lo, PEER_MAC), ADD)
    assert [entry.addr for entry in lan.table.entries()] == [0]
    assert neigh_get(lan.table, FAR, lo) is lan.entry(0)


# -- flags


def test_ext_learned_is_spared_by_the_collector(lan: Lan) -> None:
    """NTF_EXT_LEARNED: a routing daemon's; an update without it gives it back."""
    add(lan, state=NUD_STALE, flags=NTF_EXT_LEARNED | NTF_ROUTER)
    assert lan.table.gc_entries == 0 and lan.entry().flags == NTF_EXT_LEARNED | NTF_ROUTER
    add(lan, state=NUD_STALE, nlflags=REPLACE)
    assert lan.table.gc_entries == 1 and lan.entry().flags == 0


def test_the_protocol_is_kept(lan: Lan) -> None:
    neigh_add(lan.table, NeighConfig(PEER, lan.dev, PEER_MAC, protocol=4), ADD)
    add(lan, OTHER_MAC, nlflags=REPLACE)
    assert lan.entry().protocol == 4


def test_use_asks_as_a_packet_would(lan: Lan) -> None:
    """NTF_USE: ``ip neigh add ADDR dev DEV use``."""
    add(lan, NO_LLADDR, NUD_NONE, flags=NTF_USE)
    assert lan.state() == NUD_INCOMPLETE and lan.entry().probes == 4 and len(lan.arps()) == 1
    lan.answer()
    assert lan.state() == NUD_REACHABLE


def test_use_of_a_stale_one_begins_to_verify_it(lan: Lan) -> None:
    add(lan, state=NUD_STALE)
    add(lan, NO_LLADDR, NUD_NONE, nlflags=REPLACE, flags=NTF_USE)
    assert lan.state() == NUD_DELAY


# -- proxies


def test_proxy_entries(lan: Lan) -> None:
    cfg = NeighConfig(FAR, lan.dev, flags=NTF_PROXY, protocol=3)
    neigh_add(lan.table, cfg, ADD)
    neigh_add(lan.table, cfg, ADD)
    assert pneigh_get(lan.table, FAR, lan.dev).permanent and lan.table.entries() == []
    neigh_delete(lan.table, FAR, lan.dev, NTF_PROXY)
    with pytest.raises(OSError) as raised:
        neigh_delete(lan.table, FAR, lan.dev, NTF_PROXY)
    assert raised.value.errno == errno.ENOENT
    with pytest.raises(OSError) as raised:
        pneigh_get(lan.table, FAR, lan.dev)
    assert (raised.value.errno, raised.value.strerror) == (errno.ENOENT, "Proxy neighbour entry not found")
    neigh_add(lan.table, NeighConfig(FAR, None, flags=NTF_PROXY), ADD)
    assert pneigh_get(lan.table, FAR, lan.dev).dev is None


# -- get, delete, flush


def test_get(lan: Lan) -> None:
    add(lan)
    assert neigh_get(lan.table, PEER, lan.dev) is lan.entry()
    for addr, dev, code, text in (
        (OTHER, lan.dev, errno.ENOENT, "Neighbour entry not found"),
        (PEER, None, errno.EINVAL, "No device specified"),
    ):
        with pytest.raises(OSError) as raised:
            neigh_get(lan.table, addr, dev)
        assert (raised.value.errno, raised.value.strerror) == (code, text)


def test_delete_fails_it_and_then_forgets_it(lan: Lan) -> None:
    """neigh_delete is an update to FAILED, told of, and then the end, told of as well; of PERMANENT entries too."""
    add(lan)
    listener = Listener()
    lan.net.rtnl_watchers.append(listener)
    neigh_delete(lan.table, PEER, lan.dev)
    assert listener.heard == [(RTM_NEWNEIGH, PEER, NUD_FAILED), (RTM_DELNEIGH, PEER, NUD_FAILED)]
    assert lan.table.entries() == [] and lan.table.gc_entries == 0
    for addr, dev, code in ((PEER, lan.dev, errno.ENOENT), (PEER, None, errno.EINVAL)):
        with pytest.raises(OSError) as raised:
            neigh_delete(lan.table, addr, dev)
        assert raised.value.errno == code


def test_a_full_table_refuses_what_is_not_permanent(lan: Lan) -> None:
    lan.net.sysctl.gc_thresh1 = lan.net.sysctl.gc_thresh2 = lan.net.sysctl.gc_thresh3 = 1
    lan.send(OTHER)
    assert refused(lan, NeighConfig(PEER, lan.dev, PEER_MAC, NUD_STALE)) == (
        errno.ENOBUFS, "No buffer space available",
    )  # fmt: skip
    add(lan)
    neigh_add(lan.table, NeighConfig(FAR, lan.dev, PEER_MAC, NUD_STALE, NTF_EXT_LEARNED), ADD)
    assert lan.table.gc_entries == 1 and len(lan.table.entries()) == 3


def test_what_is_set_by_hand_is_used(lan: Lan) -> None:
    add(lan, BROADCAST_MAC)
    lan.send()
    assert lan.dev.take()[0][:12] == int(BROADCAST_MAC).to_bytes(6, "big") + OUR_MAC.to_bytes(6, "big")
