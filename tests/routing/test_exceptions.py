"""Path MTUs (RFC 1191; __ip_rt_update_pmtu, struct fib_nh_exception)."""

from __future__ import annotations

import pytest

from tests.routing.links import FAR, OURS, PEER, Links, a, address, received
from ustack.routing import exceptions
from ustack.routing.flow import Flow
from ustack.timer import NSEC_PER_SEC


def host() -> Links:
    links = Links()
    links.route("0.0.0.0/0", "192.0.2.1")
    return links


def mtu(links: Links, daddr: int = FAR) -> tuple[int, bool]:
    dst = links.routing.ip_route_output(Flow(daddr))
    return int(dst.mtu), dst.mtu_locked


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
    before = links.routing.ip_route_output(Flow(FAR))
    links.routing.update_pmtu(FAR, told)
    assert mtu(links) == becomes
    assert links.routing.dst_valid(before) is (becomes == (1500, False))
    assert mtu(links, a("203.0.113.6")) == (1500, False)  # nobody else's path


def test_it_shrinks_step_by_step_and_never_grows() -> None:
    links = host()
    for told, becomes in ((1400, 1400), (1450, 1400), (1000, 1000), (1400, 1000)):
        links.routing.update_pmtu(FAR, told)
        assert mtu(links)[0] == becomes


def test_it_is_forgotten_after_mtu_expires() -> None:
    """RFC 1191 section 6.3: "10 minutes" before a larger estimate is tried again; kept answers must notice."""
    links = host()
    links.routing.update_pmtu(FAR, 1400)
    links.net.now = 300 * NSEC_PER_SEC
    links.routing.update_pmtu(a("203.0.113.6"), 1300)
    for second, far, other in ((599, 1400, 1300), (600, 1500, 1300), (899, 1500, 1300), (900, 1500, 1500)):
        links.net.now = second * NSEC_PER_SEC
        links.net.timers.run(links.net.now)
        assert (mtu(links)[0], mtu(links, a("203.0.113.6"))[0]) == (far, other)
    assert links.routing.exceptions.entries() == [] and not links.routing.exceptions.pending


def test_ourselves_and_the_unreachable_have_no_path() -> None:
    links = Links()
    genid = links.routing.genid
    links.routing.update_pmtu(OURS, 600)
    links.routing.update_pmtu(FAR, 600)
    assert links.routing.exceptions.entries() == [] and links.routing.genid == genid


def test_the_same_again_disturbs_nobody() -> None:
    """A repeated message moves no generation: it cannot be used to empty the caches."""
    links = host()
    links.routing.update_pmtu(FAR, 1400)
    genid = links.routing.genid
    for told in (1400, 1400, 1450):
        links.routing.update_pmtu(FAR, told)
    assert links.routing.genid == genid
    links.routing.update_pmtu(FAR, 551)
    genid = links.routing.genid
    links.routing.update_pmtu(FAR, 550)  # as locked as before
    assert links.routing.genid == genid and mtu(links) == (552, True)


def test_the_oldest_makes_room() -> None:
    """FNHE_HASH_SIZE: bounded however many destinations complain."""
    links = host()
    for number in range(exceptions.FNHE_MAX + 3):
        links.routing.update_pmtu(a("10.0.0.0") + number, 1400)
    assert len(links.routing.exceptions.entries()) == exceptions.FNHE_MAX
    assert mtu(links, a("10.0.0.2")) == (1500, False)
    assert mtu(links, a("10.0.0.3")) == (1400, False)


def test_another_route_may_be_another_path() -> None:
    links = host()
    links.routing.update_pmtu(FAR, 1400)
    links.routing.update_pmtu(PEER, 1300)
    links.routing.add_address(links.eth0, address("192.0.2.9/24"))
    assert (mtu(links), mtu(links, PEER)) == ((1500, False), (1500, False))


@pytest.mark.parametrize(("use_pmtu", "expected"), [(0, 1500), (1, 1400)])
def test_a_router_goes_by_its_links_unless_told(use_pmtu: int, expected: int) -> None:
    """ip_forward_use_pmtu: forged ICMP must not shrink what a router forwards."""
    links = host()
    links.net.conf.inet_forward_change(1)
    links.net.sysctl.ip_forward_use_pmtu = use_pmtu
    links.routing.update_pmtu(FAR, 1400)
    packet = received(links.eth1, a("198.51.100.7"), FAR)
    assert links.routing.ip_route_input(packet) is None and packet.dst is not None
    assert packet.dst.mtu == expected
