"""__ip_do_redirect: whose word on a better gateway is believed (RFC 1122 3.2.2.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.routing.links import ALL_HOSTS, BROADCAST, FAR, OURS, PEER, PEER_1, FakeDevice, Links, a, received
from ustack.dst import RTCF_REDIRECTED, Dst
from ustack.routing.fib_types import FibConfig
from ustack.routing.flow import Flow
from ustack.routing.nexthop import NexthopObjConfig
from ustack.routing.redirect import GatewayProbe
from ustack.routing.uapi import NLM_F_CREATE, RTNH_F_DEAD
from ustack.timer import NSEC_PER_SEC

if TYPE_CHECKING:
    from ustack.device.net_device import NetDevice

BETTER = a("192.0.2.77")
OFF_LINK = a("10.9.9.9")


class Probe(GatewayProbe):
    """A neighbour table in which nobody has answered yet, until ``known``."""

    def __init__(self) -> None:
        super().__init__()
        self.known = True
        self.asked: list[tuple[int, str]] = []

    def resolved(self, addr: int, dev: NetDevice) -> bool:
        self.asked.append((int(addr), dev.name))
        return self.known


class Host(Links):
    """A default route by PEER."""

    def __init__(self) -> None:
        super().__init__()
        self.route("0.0.0.0/0", "192.0.2.1")
        self.probe = Probe()
        self.routing.redirects.probe = self.probe

    def way(self, daddr: int = FAR) -> Dst:
        return self.routing.ip_route_output(Flow(daddr))

    def redirect(
        self, gateway: int = BETTER, sender: int = PEER, code: int = 1, daddr: int = FAR, dev: FakeDevice | None = None
    ) -> None:
        """``sender`` says that ``gateway`` is better for ``daddr``."""
        packet = received(self.eth0 if dev is None else dev, sender, OURS)
        packet.icmp_saddr = sender
        self.routing.ipv4_redirect(Flow(daddr), packet, code, gateway)


def test_the_gateway_in_use_may_name_another_for_one_destination() -> None:
    host = Host()
    host.way()
    host.redirect()
    dst = host.way()
    assert (dst.gateway, dst.uses_gateway, dst.redirected) == (BETTER, True, True)
    assert dst.flags() & RTCF_REDIRECTED and host.probe.asked == [(BETTER, "eth0")]
    assert host.way() is dst and host.way(a("203.0.113.6")).gateway == PEER


def test_only_the_new_gateway_may_redirect_again() -> None:
    """rt_gw4 must be old_gw."""
    host = Host()
    host.redirect()
    host.redirect(a("192.0.2.99"), sender=PEER)
    assert host.way().gateway == BETTER
    host.redirect(a("192.0.2.99"), sender=BETTER)
    assert host.way().gateway == a("192.0.2.99")


REFUSED = [
    ("the same gateway", PEER, PEER, 1),
    ("from somebody who is not our gateway: CVE-1999-0265", BETTER, a("192.0.2.66"), 1),
    ("from the destination", BETTER, FAR, 1),
    ("a group", ALL_HOSTS, PEER, 1),
    ("the limited broadcast", BROADCAST, PEER, 1),
    ("nobody", 0, PEER, 1),
    ("ourselves: a loop", OURS, PEER, 1),
    ("our link's broadcast", a("192.0.2.255"), PEER, 1),
    ("a code that does not exist", BETTER, PEER, 4),
]


@pytest.mark.parametrize(("why", "gateway", "sender", "code"), REFUSED, ids=[row[0] for row in REFUSED])
def test_who_is_not_believed(why: str, gateway: int, sender: int, code: int) -> None:
    host = Host()
    genid = host.routing.fib.genid
    before = host.way()
    host.redirect(gateway, sender, code)
    assert host.way() is before and host.routing.exceptions.entries() == [] and host.routing.fib.genid == genid


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_all_four_codes_mean_the_host(code: int) -> None:
    """RFC 1122 3.2.2.2 and Linux: "A Redirect for a network [...] is treated as one for the host"."""
    host = Host()
    host.redirect(code=code)
    assert host.way().gateway == BETTER


@pytest.mark.parametrize(
    ("forwarding", "everywhere", "here", "believed"),
    [(0, 1, 0, True), (0, 0, 1, True), (0, 0, 0, False), (1, 1, 1, True), (1, 1, 0, False), (1, 0, 1, False)],
)
def test_accept_redirects(forwarding: int, everywhere: int, here: int, believed: bool) -> None:
    """IN_DEV_RX_REDIRECTS: a host believes if either switch is on, a router if both are."""
    host = Host()
    host.eth0.in_dev.cnf.forwarding = forwarding
    host.net.conf.all.accept_redirects = everywhere
    host.eth0.in_dev.cnf.accept_redirects = here
    host.redirect()
    assert (host.way().gateway == BETTER) is believed


def test_a_router_does_not_believe_by_default() -> None:
    """RFC 1812 5.2.7.2: routers do not listen to redirects."""
    host = Host()
    host.net.conf.inet_forward_change(1)
    host.redirect()
    assert host.way().gateway == PEER


@pytest.mark.parametrize(
    ("shared", "secure", "gateway", "believed"),
    [
        (1, 1, OFF_LINK, True),  # shared media: one link, several subnets
        (1, 0, OFF_LINK, True),
        (0, 0, OFF_LINK, False),
        (0, 0, BETTER, True),
        (0, 1, BETTER, False),  # on the link, but no route of ours names it
        (0, 1, a("192.0.2.88"), True),  # one does
    ],
)
def test_shared_media_and_secure_redirects(shared: int, secure: int, gateway: int, believed: bool) -> None:
    host = Host()
    host.route("10.1.0.0/16", "192.0.2.88")
    conf = host.eth0.in_dev.cnf
    host.net.conf.all.shared_media = conf.shared_media = shared
    host.net.conf.all.secure_redirects = conf.secure_redirects = secure
    host.redirect(gateway)
    assert (host.way().gateway == gateway) is believed


def secured() -> Host:
    """A host that asks for more than the word of its gateway."""
    host = Host()
    host.net.conf.all.shared_media = host.eth0.in_dev.cnf.shared_media = 0
    return host


def test_secure_redirects_a_next_hop_object_is_no_routes_own_gateway() -> None:
    """ip_fib_check_default walks the hops that routes have themselves (fib_info_devhash)."""
    host = secured()
    cfg = NexthopObjConfig(7, BETTER, host.eth0.ifindex)
    cfg.nlflags = NLM_F_CREATE
    host.routing.fib.semantics.nexthops.rtm_newnexthop(cfg)
    route = FibConfig(a("10.1.0.0"), 16)
    route.nh_id, route.nlflags = 7, NLM_F_CREATE
    host.routing.fib.rtm_newroute(route)
    host.redirect()
    assert host.way().gateway == PEER
    host.route("10.2.0.0/16", "192.0.2.77")
    host.redirect()
    assert host.way().gateway == BETTER


def test_secure_redirects_a_gateway_on_another_link_or_a_dead_one_does_not_count() -> None:
    host = secured()
    host.route("10.1.0.0/16", "192.0.2.77")
    host.route("10.3.0.0/16", "198.51.100.77")
    check = host.routing.redirects.ip_fib_check_default
    assert check(BETTER, host.eth0) and not check(BETTER, host.eth1) and not check(a("192.0.2.99"), host.eth0)
    assert check(a("198.51.100.77"), host.eth1) and not check(a("198.51.100.77"), host.eth0)
    (fi,) = [fi for fi in host.routing.fib.semantics.infos_of(host.eth1) if fi.nhs()[0].gateway]
    fi.nhs()[0].flags |= RTNH_F_DEAD
    assert not check(a("198.51.100.77"), host.eth1)


def test_it_is_the_device_it_came_in_by_that_counts() -> None:
    host = Host()
    host.eth1.in_dev.cnf.accept_redirects = host.net.conf.all.accept_redirects = 0
    host.redirect(dev=host.eth1)
    assert host.way().gateway == PEER
    host.redirect(dev=host.eth0)
    assert host.way().gateway == BETTER


def test_a_gateway_that_does_not_answer_is_asked_first() -> None:
    """__ip_do_redirect: neigh_event_send, and believed the next time it is said."""
    host = Host()
    host.probe.known = False
    host.redirect()
    assert host.way().gateway == PEER and host.probe.asked == [(BETTER, "eth0")]
    host.probe.known = True
    host.redirect()
    assert host.way().gateway == BETTER


def test_it_lasts_for_route_gc_timeout() -> None:
    host = Host()
    host.redirect()
    host.way()
    for second, gateway in ((299, BETTER), (300, PEER)):
        host.net.now = second * NSEC_PER_SEC
        host.net.timers.run(host.net.now)
        assert host.way().gateway == gateway


def test_a_connections_route_is_looked_up_again() -> None:
    """ip_do_redirect with kill_route: the socket's Dst is told to hold no longer."""
    host = Host()
    dst = host.way()
    packet = received(host.eth0, PEER, OURS)
    packet.icmp_saddr = PEER
    host.routing.ip_do_redirect(dst, Flow(FAR), packet, 1, BETTER)
    assert not host.routing.dst_valid(dst) and host.way().gateway == BETTER


def test_a_path_mtu_and_a_gateway_may_both_be_known() -> None:
    host = Host()
    host.redirect()
    host.routing.update_pmtu(Flow(FAR), 1400)
    dst = host.way()
    assert (dst.gateway, dst.mtu) == (BETTER, 1400)
    (fnhe,) = host.routing.exceptions.entries()
    assert (fnhe.gateway, fnhe.pmtu) == (BETTER, 1400)


def test_what_is_not_routed_cannot_be_redirected() -> None:
    host = Host()
    host.routing.del_route(0, 0)
    host.redirect()
    assert host.routing.exceptions.entries() == []


def test_a_neighbour_cannot_be_redirected() -> None:
    """On the link there is no gateway whose word it could be."""
    host = Host()
    host.redirect(sender=PEER, daddr=a("192.0.2.50"))
    host.redirect(sender=PEER_1, daddr=a("192.0.2.50"))
    assert host.way(a("192.0.2.50")).gateway == 0
