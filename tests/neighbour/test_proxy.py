"""Proxy ARP: who is answered for, when, and who must wait (arp_fwd_proxy, pneigh_*; RFC 1027, RFC 3069)."""

from __future__ import annotations

import errno

import pytest

from tests.neighbour.lan import FAR, OTHER, OTHER_MAC, OUR_MAC, PEER, PEER_MAC, SEC, FakeDevice, Lan
from ustack.device.net_device import Address
from ustack.drop import Reason
from ustack.neighbour.pneigh import MAX_PROXIES
from ustack.neighbour.states import NUD_STALE
from ustack.timer import NEVER
from ustack.wire.arp import ARPOP_REPLY, ARPOP_REQUEST
from ustack.wire.ipv4 import str_to_addr

BEHIND = str_to_addr("203.0.113.77")
ANSWER = (PEER_MAC, ARPOP_REPLY, OUR_MAC, BEHIND, PEER_MAC, PEER)


class Router(Lan):
    """Two devices that forward; 203.0.113.77 lies behind the second."""

    def __init__(self) -> None:
        super().__init__()
        self.out: FakeDevice = self.add_device("eth1", OTHER_MAC)
        self.out.addresses.append(Address(str_to_addr("198.51.100.2"), 24))
        self.oracle.routes = {BEHIND: self.out, OTHER: self.dev}
        self.net.conf.inet_forward_change(1)
        self.cnf = self.dev.in_dev.cnf
        self.parms.proxy_delay_cs = 0

    def answered(self, tpa: int = BEHIND, asker: int = PEER) -> bool:
        self.dev.take()
        self.ask(tpa=tpa, addr=asker)
        return self.arps() != []


@pytest.fixture
def router() -> Router:
    return Router()


# -- by setting


def test_a_router_answers_for_what_it_forwards_to(router: Router) -> None:
    assert not router.answered()
    router.cnf.proxy_arp = 1
    router.ask(tpa=BEHIND)
    assert router.arps() == [ANSWER]
    assert router.state() == NUD_STALE, "who asks is learned"


def test_all_switches_it_on_everywhere(router: Router) -> None:
    router.net.conf.all.proxy_arp = 1
    assert router.answered()


def test_a_host_answers_for_nobody(router: Router) -> None:
    router.cnf.proxy_arp = 1
    router.cnf.forwarding = 0
    assert not router.answered()


def test_nobody_is_answered_for_who_lies_on_the_asker_s_link(router: Router) -> None:
    """ "if (rt->dst.dev == dev) return 0"."""
    router.cnf.proxy_arp = 1
    assert not router.answered(OTHER)


def test_nor_for_who_lies_nowhere(router: Router) -> None:
    router.cnf.proxy_arp = 1
    assert not router.answered(FAR)


@pytest.mark.parametrize(
    ("medium", "other", "answered"),
    [(0, 0, True), (0, -1, True), (-1, 0, False), (1, 0, True), (1, 1, False), (1, 2, True), (1, -1, False)],
)
def test_medium_id(router: Router, medium: int, other: int, answered: bool) -> None:
    """Two devices on one medium: the host hears the question itself."""
    router.cnf.proxy_arp = 1
    router.cnf.medium_id = medium
    router.out.in_dev.cnf.medium_id = other
    assert router.answered() == answered


def test_private_vlan(router: Router) -> None:
    """proxy_arp_pvlan: hosts on one link that hear only us; not "self probes"."""
    router.cnf.proxy_arp_pvlan = 1
    assert router.answered(OTHER) and not router.answered()
    router.oracle.routes[PEER] = router.dev
    router.dev.take()
    router.hear(ARPOP_REQUEST, PEER_MAC, PEER, PEER)
    assert router.arps() == []


# -- by entry


def test_an_entry_answers_for_one_address(router: Router) -> None:
    router.table.proxies.pneigh_create(BEHIND, router.dev)
    assert router.answered() and not router.answered(FAR)


@pytest.mark.parametrize("on", ["dev", "out", "any"])
def test_an_entry_belongs_to_a_device_or_to_all(router: Router, on: str) -> None:
    dev = {"dev": router.dev, "out": router.out, "any": None}[on]
    router.table.proxies.pneigh_create(BEHIND, dev)
    assert router.answered() == (on != "out")


def test_entries_come_and_go(router: Router) -> None:
    """pneigh_create changes one that serves already; pneigh_delete wants the device exactly."""
    proxies = router.table.proxies
    proxies.pneigh_create(BEHIND, router.dev, 8, 3)
    again = proxies.pneigh_create(BEHIND, router.dev, 8, 4, True)
    assert [(entry.protocol, entry.permanent) for entry in proxies.pneigh_dump()] == [(4, True)]
    proxies.pneigh_create(BEHIND, None)
    assert proxies.pneigh_lookup(BEHIND, router.out) is not again
    with pytest.raises(OSError) as raised:
        proxies.pneigh_delete(BEHIND, router.out)
    assert raised.value.errno == errno.ENOENT
    proxies.pneigh_delete(BEHIND, None)
    proxies.pneigh_delete(BEHIND, router.dev)
    assert proxies.pneigh_dump() == [] and proxies.pneigh_lookup(BEHIND, router.dev) is None


def test_entries_are_bounded(router: Router) -> None:
    proxies = router.table.proxies
    for addr in range(MAX_PROXIES):
        proxies.pneigh_create(addr, router.dev)
    with pytest.raises(OSError) as raised:
        proxies.pneigh_create(MAX_PROXIES, router.dev)
    assert raised.value.errno == errno.ENOBUFS
    proxies.pneigh_delete(0, router.dev)
    proxies.pneigh_create(MAX_PROXIES, router.dev)


# -- later


def test_an_answer_to_a_broadcast_waits_up_to_proxy_delay(router: Router) -> None:
    """pneigh_enqueue: the host itself, if it is there, is to be first."""
    router.cnf.proxy_arp = 1
    router.parms.proxy_delay_cs = 80
    delays = []
    for _ in range(50):
        start = router.net.now
        router.ask(tpa=BEHIND)
        assert router.arps() == [] and len(router.table.waiting()) == 1
        router.at(router.net.timers.next_deadline())
        while router.table.waiting():
            router.at(router.net.timers.next_deadline())
        assert router.arps() == [ANSWER]
        delays.append(router.net.now - start)
    assert max(delays) < 8 * SEC // 10 and max(delays) > 4 * SEC // 10 and len(set(delays)) > 40
    assert router.balanced() and router.net.drops == {}


def test_a_unicast_question_is_answered_at_once(router: Router) -> None:
    router.cnf.proxy_arp = 1
    router.parms.proxy_delay_cs = 80
    router.hear(ARPOP_REQUEST, PEER_MAC, PEER, BEHIND)
    assert router.arps() == [ANSWER]


def test_what_waits_is_judged_anew(router: Router) -> None:
    """parp_redo is arp_process again."""
    router.cnf.proxy_arp = 1
    router.parms.proxy_delay_cs = 80
    router.ask(tpa=BEHIND)
    router.cnf.proxy_arp = 0
    router.wait(SEC)
    assert router.arps() == [] and router.table.waiting() == [] and router.parms.qlen == 0
    assert router.balanced()


def test_no_more_than_proxy_qlen_wait(router: Router) -> None:
    """ "if (p->qlen > NEIGH_VAR(p, PROXY_QLEN))": one more than it says."""
    router.cnf.proxy_arp = 1
    router.parms.proxy_delay_cs, router.parms.proxy_qlen = 80, 3
    for _ in range(10):
        router.ask(tpa=BEHIND)
    assert len(router.table.waiting()) == 4 and router.net.drops == {Reason.NEIGH_QUEUEFULL: 6}
    router.wait(SEC)
    assert len(router.arps()) == 4 and router.balanced()


def test_what_waits_on_a_device_that_goes_down_is_lost(router: Router) -> None:
    router.cnf.proxy_arp = 1
    router.parms.proxy_delay_cs = 80
    router.ask(tpa=BEHIND)
    router.devices.dev_close(router.dev)
    assert router.table.waiting() == [] and router.net.drops == {Reason.NEIGH_DEAD: 1} and router.parms.qlen == 0
    assert router.balanced() and router.table.proxies.pending is False
    assert router.net.timers.next_deadline() == NEVER
