"""ARP as a device's settings have it: whom it answers, with what address it asks, what it drops (ip-sysctl.rst)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.neighbour.lan import (
    EVIL_MAC,
    FAR,
    OTHER,
    OTHER_MAC,
    OUR_MAC,
    OURS,
    PEER,
    PEER_MAC,
    SEC,
    Lan,
    Listener,
    arp_of,
    ipv4_packet,
)
from ustack.device.net_device import BROADCAST_MAC, IFF_NOARP, IFF_UP, Address
from ustack.drop import Reason
from ustack.in_device import RouteCache
from ustack.neighbour.states import NUD_FAILED, NUD_PERMANENT, NUD_REACHABLE, NUD_STALE
from ustack.net import RTM_DELNEIGH, RTM_GETNEIGH, RTM_NEWNEIGH
from ustack.wire.arp import ARPOP_REPLY, ARPOP_REQUEST
from ustack.wire.ipv4 import str_to_addr

if TYPE_CHECKING:
    from tests.neighbour.lan import FakeDevice

SECOND = str_to_addr("198.51.100.2")
SECOND_PEER = str_to_addr("198.51.100.9")
BEHIND = str_to_addr("203.0.113.77")


@pytest.fixture
def lan() -> Lan:
    return Lan()


def second(lan: Lan) -> FakeDevice:
    """Another device, 198.51.100.2/24, on a link of its own."""
    dev = lan.add_device("eth1", OTHER_MAC)
    dev.addresses.append(Address(SECOND, 24))
    return dev


def answers(lan: Lan, addr: int, asker: int = PEER) -> bool:
    """Whether a question for ``addr`` on the first device is answered; it is consumed either way if it is ours."""
    lan.dev.take()
    lan.ask(addr=asker, tpa=addr)
    replies = [arp for arp in lan.arps() if arp[1] == ARPOP_REPLY]
    assert len(replies) <= 1
    return replies == [(PEER_MAC, ARPOP_REPLY, OUR_MAC, addr, PEER_MAC, asker)]


# -- arp_ignore


@pytest.mark.parametrize(
    ("mode", "own", "own_for_stranger", "others", "host_scope"),
    [
        (0, True, True, True, True),
        (1, True, True, False, True),
        (2, True, False, False, True),
        (3, True, True, True, False),
        (4, True, True, True, True),
        (7, True, True, True, True),
        (8, False, False, False, False),
        (9, True, True, True, True),
    ],
)
def test_arp_ignore(lan: Lan, mode: int, own: bool, own_for_stranger: bool, others: bool, host_scope: bool) -> None:
    """0 any address of ours; 1 of the device; 2 of it, in the asker's subnet; 3 not of scope host; 8 none."""
    second(lan)
    private = Address(str_to_addr("192.0.2.50"), 24, scope=254)
    lan.dev.addresses.append(private)
    lan.net.conf.all.arp_ignore = mode
    assert answers(lan, OURS) == own
    assert answers(lan, OURS, FAR) == own_for_stranger
    assert answers(lan, SECOND) == others
    assert answers(lan, private.local) == host_scope


@pytest.mark.parametrize(("mode", "answered"), [(0, True), (1, False), (8, False)])
def test_arp_ignore_holds_for_probes_too(lan: Lan, mode: int, answered: bool) -> None:
    """arp_process, sip 0: "!arp_ignore(in_dev, sip, tip)"."""
    second(lan)
    lan.dev.in_dev.cnf.arp_ignore = mode
    lan.hear(ARPOP_REQUEST, PEER_MAC, 0, SECOND, dst=BROADCAST_MAC)
    assert (lan.arps() != []) == answered and lan.net.drops == {}


def test_the_larger_of_all_and_the_device_s_own_counts(lan: Lan) -> None:
    """IN_DEV_MAXCONF."""
    lan.net.conf.all.arp_ignore = 8
    lan.dev.in_dev.cnf.arp_ignore = 1
    assert not answers(lan, OURS)
    lan.net.conf.all.arp_ignore = 0
    assert answers(lan, OURS)


def test_who_is_not_answered_is_not_learned_either(lan: Lan) -> None:
    lan.dev.in_dev.cnf.arp_ignore = 8
    lan.ask()
    assert lan.table.entries() == [] and lan.net.drops == {}


# -- arp_filter, routes


def test_arp_filter_answers_only_where_we_would_answer_by(lan: Lan) -> None:
    """ "reply only if the route back to the asker goes out of the same interface"."""
    other = second(lan)
    lan.net.conf.all.arp_filter = 1
    lan.oracle.routes = {PEER: other}
    before = lan.net.mib.tcpext.ArpFilter
    assert not answers(lan, OURS)
    assert lan.net.mib.tcpext.ArpFilter == before + 1
    lan.oracle.routes = {PEER: lan.dev}
    assert answers(lan, OURS)
    lan.oracle.routes = {}
    assert not answers(lan, OURS), "no route back, no answer"
    assert lan.net.mib.tcpext.ArpFilter == before + 1


def test_a_question_from_who_cannot_be_there_is_not_answered(lan: Lan) -> None:
    """ip_route_input refuses it: rp_filter."""
    lan.oracle.martians = {PEER}
    assert not answers(lan, OURS) and lan.table.entries() == []
    assert lan.net.drops == {Reason.ARP_IGNORED: 1}


# -- arp_announce


def solicited(lan: Lan, saddr: int, mode: int) -> int:
    """The source of our question for a packet from ``saddr``."""
    lan.dev.in_dev.cnf.arp_announce = mode
    lan.table.output(PEER, lan.dev, ipv4_packet(saddr, PEER, b"x"))
    return lan.arps()[0][3]


@pytest.mark.parametrize(
    ("mode", "same_subnet", "other_subnet"), [(0, True, True), (1, True, False), (2, False, False), (3, True, True)]
)
def test_arp_announce(mode: int, same_subnet: bool, other_subnet: bool) -> None:
    """0: any address of ours that the packet has; 1: only one in the target's subnet; 2: always the best one."""
    beside = str_to_addr("192.0.2.77")
    for saddr, kept in ((beside, same_subnet), (SECOND, other_subnet)):
        lan = Lan()
        second(lan)
        lan.dev.addresses.append(Address(beside, 24))
        assert solicited(lan, saddr, mode) == (saddr if kept else OURS)


def test_a_forwarded_packet_s_source_is_never_announced() -> None:
    for mode in (0, 1, 2):
        assert solicited(Lan(), FAR, mode) == OURS


# -- solicitations by number


def test_questions_by_unicast_then_by_broadcast_again(lan: Lan) -> None:
    """ucast_solicit, then mcast_resolicit more by broadcast before it fails (neigh_max_probes)."""
    lan.parms.ucast_solicit, lan.parms.mcast_resolicit = 2, 2
    lan.reachable()
    lan.settle()
    lan.send()
    lan.settle()
    assert [arp[0] for arp in lan.arps()] == [PEER_MAC, PEER_MAC, BROADCAST_MAC, BROADCAST_MAC]
    assert lan.state() == NUD_FAILED and lan.entry().probes == 4


def test_a_program_is_asked_before_everybody(lan: Lan) -> None:
    """app_solicit: neigh_app_ns sends RTM_GETNEIGH instead of ARP."""
    listener = Listener()
    lan.net.rtnl_watchers.append(listener)
    lan.parms.app_solicit = 2
    lan.send()
    lan.settle()
    asked = [heard for heard in listener.heard if heard[0] == RTM_GETNEIGH]
    assert len(asked) == 2 and len(lan.arps()) == 3
    assert lan.net.now == 5 * SEC


def test_a_program_alone_may_resolve(lan: Lan) -> None:
    lan.parms.mcast_solicit, lan.parms.app_solicit = 0, 1
    packet = lan.send()
    assert lan.arps() == []
    lan.table.neigh_add(PEER, lan.dev, PEER_MAC, NUD_REACHABLE)
    assert lan.dev.take() == [packet.buf]


def test_probes_are_counted_as_the_kernel_counts(lan: Lan) -> None:
    """Those by broadcast begin at ucast_solicit: ``ip -s neigh`` shows 6 after three of them."""
    lan.send()
    assert lan.entry().probes == 4
    lan.settle()
    assert lan.entry().probes == 6


def test_each_device_has_its_own_settings(lan: Lan) -> None:
    other = second(lan)
    other.in_dev.arp_parms.mcast_solicit = 1
    lan.send()
    lan.table.output(SECOND_PEER, other, ipv4_packet(SECOND, SECOND_PEER, b"x"))
    lan.settle()
    assert len(lan.arps()) == 3 and len(other.take()) == 1


def test_locktime_is_the_device_s(lan: Lan) -> None:
    lan.parms.locktime_cs = 0
    lan.reachable()
    lan.wait(1)
    lan.hear(ARPOP_REPLY, OTHER_MAC, PEER, OURS)
    assert lan.entry().lladdr == OTHER_MAC


# -- dropping


def test_gratuitous_arp_may_be_dropped(lan: Lan) -> None:
    lan.reachable()
    lan.wait(2 * SEC)
    lan.dev.in_dev.cnf.drop_gratuitous_arp = 1
    lan.dev.in_dev.cnf.arp_accept = 1
    for op in (ARPOP_REQUEST, ARPOP_REPLY):
        lan.hear(op, EVIL_MAC, PEER, PEER, dst=BROADCAST_MAC, tha=EVIL_MAC)
        lan.hear(op, EVIL_MAC, OTHER, OTHER, dst=BROADCAST_MAC, tha=EVIL_MAC)
    assert lan.entry().lladdr == PEER_MAC and len(lan.table.entries()) == 1
    assert lan.net.drops == {Reason.ARP_IGNORED: 4}


def test_loopback_addresses_are_for_route_localnet(lan: Lan) -> None:
    local = str_to_addr("127.0.0.5")
    lan.dev.addresses.append(Address(local, 8))
    assert not answers(lan, local)
    lan.dev.in_dev.cnf.route_localnet = 1
    assert answers(lan, local)


def test_our_other_device_on_the_link_is_heard_with_accept_local(lan: Lan) -> None:
    """Two devices of ours on one wire: a martian, unless somebody wants to test with it."""
    second(lan)
    lan.hear(ARPOP_REQUEST, OTHER_MAC, SECOND, OURS, dst=BROADCAST_MAC)
    assert lan.arps() == []
    lan.dev.in_dev.cnf.accept_local = 1
    lan.hear(ARPOP_REQUEST, OTHER_MAC, SECOND, OURS, dst=BROADCAST_MAC)
    assert lan.arps() == [(OTHER_MAC, ARPOP_REPLY, OUR_MAC, OURS, OTHER_MAC, SECOND)]


# -- what devices do


def test_addresses_are_announced_when_the_device_comes_up_or_gets_another_mac(lan: Lan) -> None:
    """arp_notify (inetdev_event); without it silence."""
    lan.dev.addresses.append(Address(OTHER, 24))
    lan.devices.dev_close(lan.dev)
    lan.devices.dev_open(lan.dev)
    assert lan.arps() == []
    lan.net.conf.all.arp_notify = 1
    lan.devices.dev_close(lan.dev)
    lan.devices.dev_set_mac_address(lan.dev, EVIL_MAC)
    assert lan.arps() == [], "down"
    lan.devices.dev_open(lan.dev)
    lan.devices.dev_set_mac_address(lan.dev, OUR_MAC)
    announced = lan.arps()
    assert [(arp[0], arp[1], arp[2], arp[3], arp[5]) for arp in announced] == [
        (BROADCAST_MAC, ARPOP_REQUEST, mac, addr, addr) for mac in (EVIL_MAC, OUR_MAC) for addr in (OURS, OTHER)
    ]


class Flushes(RouteCache):
    def __init__(self) -> None:
        self.count = 0

    def rt_cache_flush(self) -> None:
        self.count += 1


def test_another_mac_forgets_everything_and_what_routes_keep(lan: Lan) -> None:
    """arp_netdev_event, NETDEV_CHANGEADDR: neigh_changeaddr, rt_cache_flush; PERMANENT entries go as well."""
    lan.net.conf.route_cache = flushes = Flushes()
    listener = Listener()
    lan.reachable()
    lan.table.neigh_add(OTHER, lan.dev, OTHER_MAC)
    lan.net.rtnl_watchers.append(listener)
    lan.devices.dev_set_mac_address(lan.dev, EVIL_MAC)
    assert lan.table.entries() == [] and flushes.count == 1
    assert listener.heard == [(RTM_DELNEIGH, PEER, NUD_REACHABLE), (RTM_DELNEIGH, OTHER, NUD_PERMANENT)]


def test_arp_switched_on_and_off_forgets_everything(lan: Lan) -> None:
    lan.reachable()
    lan.devices.dev_change_flags(lan.dev, lan.dev.flags | IFF_NOARP)
    assert lan.table.entries() == []


def test_another_flag_forgets_nothing(lan: Lan) -> None:
    lan.reachable()
    lan.devices.dev_change_flags(lan.dev, lan.dev.flags | 0x1100)
    assert lan.state() == NUD_REACHABLE


def test_a_lost_carrier_forgets_what_was_learned(lan: Lan) -> None:
    """neigh_carrier_down spares what is PERMANENT; arp_evict_nocarrier."""
    lan.reachable()
    lan.table.neigh_add(OTHER, lan.dev, OTHER_MAC)
    lan.table.proxies.pneigh_create(BEHIND, lan.dev, permanent=True)
    lan.table.proxies.pneigh_create(FAR, lan.dev)
    lan.dev.in_dev.cnf.arp_evict_nocarrier = 0
    lan.devices.netif_carrier_off(lan.dev)
    assert len(lan.table.entries()) == 2 and len(lan.table.proxies.pneigh_dump()) == 2
    lan.devices.netif_carrier_on(lan.dev)
    lan.dev.in_dev.cnf.arp_evict_nocarrier = 1
    lan.devices.netif_carrier_off(lan.dev)
    assert [entry.addr for entry in lan.table.entries()] == [OTHER]
    assert [entry.addr for entry in lan.table.proxies.pneigh_dump()] == [BEHIND]


def test_a_device_that_goes_down_forgets_everything(lan: Lan) -> None:
    listener = Listener()
    lan.reachable()
    lan.table.neigh_add(OTHER, lan.dev, OTHER_MAC)
    lan.table.proxies.pneigh_create(BEHIND, lan.dev, permanent=True)
    lan.table.proxies.pneigh_create(FAR, None)
    lan.net.rtnl_watchers.append(listener)
    lan.devices.dev_close(lan.dev)
    assert lan.table.entries() == [] and [entry.addr for entry in lan.table.proxies.pneigh_dump()] == [FAR]
    assert [heard[0] for heard in listener.heard] == [RTM_DELNEIGH] * 2
    assert lan.dev.flags & IFF_UP == 0


# -- what programs are told


def test_state_changes_are_told_but_for_questions_and_delays(lan: Lan) -> None:
    """neigh_timer_handler, __neigh_update: INCOMPLETE and DELAY are nobody's business."""
    listener = Listener()
    lan.net.rtnl_watchers.append(listener)
    lan.send()
    assert listener.heard == []
    lan.answer()
    lan.settle()
    assert listener.heard == [(RTM_NEWNEIGH, PEER, NUD_REACHABLE), (RTM_NEWNEIGH, PEER, NUD_STALE)]
    lan.send()
    assert len(listener.heard) == 2
    lan.settle()
    assert [heard[2] for heard in listener.heard[2:]] == [0x10, NUD_FAILED]
    lan.table.neigh_delete(PEER, lan.dev)
    assert listener.heard[4:] == [(RTM_DELNEIGH, PEER, NUD_FAILED)]


def test_another_address_is_told_even_if_the_state_stays(lan: Lan) -> None:
    lan.ask()
    lan.wait(2 * SEC)
    listener = Listener()
    lan.net.rtnl_watchers.append(listener)
    lan.ask()
    assert listener.heard == []
    lan.ask(OTHER_MAC)
    assert listener.heard == [(RTM_NEWNEIGH, PEER, NUD_STALE)] and lan.entry().lladdr == OTHER_MAC


def test_a_question_shows_where_it_came_from(lan: Lan) -> None:
    lan.send()
    frames = lan.dev.take()
    assert arp_of(frames[0]) == (BROADCAST_MAC, ARPOP_REQUEST, OUR_MAC, OURS, 0, PEER)
