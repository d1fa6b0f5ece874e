"""inet_rtm_getroute: what ``ip route get`` is told; every case was asked of a kernel (6.18) as well."""

from __future__ import annotations

import errno

import pytest

from tests.routing.links import ALL_HOSTS, BROADCAST, FAR, LOCALHOST, OURS, OURS_1, PEER, PEER_1, Links, a, shown
from ustack.dst import (
    RTCF_BROADCAST,
    RTCF_DOREDIRECT,
    RTCF_LOCAL,
    RTCF_MULTICAST,
    RTCF_REDIRECTED,
    RTN_BROADCAST,
    RTN_LOCAL,
    RTN_MULTICAST,
    RTN_UNICAST,
    RTN_UNREACHABLE,
)
from ustack.routing.fib_rules import FibRuleConfig
from ustack.routing.fib_types import FibConfig
from ustack.routing.flow import Flow
from ustack.routing.getroute import RouteAnswer, RouteQuestion
from ustack.routing.uapi import (
    FR_ACT_NOP,
    NLM_F_CREATE,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    RTAX_ADVMSS,
    RTAX_LOCK,
    RTAX_MTU,
    RTM_F_CLONED,
)
from ustack.timer import NSEC_PER_SEC
from ustack.wire.ipv4 import IPPROTO_ICMP, IPPROTO_TCP

NEIGHBOUR = a("192.0.2.77")
DIRECTED = a("192.0.2.255")


def router() -> Links:
    links = Links()
    links.net.conf.inet_forward_change(1)
    return links


def get(links: Links, dst: int, src: int = 0, oif: str = "", iif: str = "") -> RouteAnswer:
    ask = RouteQuestion(dst, src)
    out, into = links.devices.by_name(oif), links.devices.by_name(iif)
    ask.oif = 0 if out is None else out.ifindex
    ask.iif = 0 if into is None else into.ifindex
    return links.routing.rtm_getroute(ask)


OUT = [
    (PEER, 0, "", RTN_UNICAST, "eth0", OURS, 0),
    (PEER, OURS, "", RTN_UNICAST, "eth0", 0, 0),  # what was given is not told again
    (a("239.1.2.3"), 0, "eth1", RTN_MULTICAST, "eth1", OURS_1, RTCF_MULTICAST),
    (ALL_HOSTS, 0, "eth1", RTN_MULTICAST, "eth1", OURS_1, RTCF_MULTICAST | RTCF_LOCAL),
    (BROADCAST, 0, "eth1", RTN_BROADCAST, "eth1", OURS_1, RTCF_BROADCAST | RTCF_LOCAL),
    (DIRECTED, 0, "", RTN_BROADCAST, "eth0", OURS, RTCF_BROADCAST | RTCF_LOCAL),
    (OURS, 0, "", RTN_LOCAL, "lo", OURS, RTCF_LOCAL),
    (OURS, 0, "eth0", RTN_LOCAL, "lo", OURS, RTCF_LOCAL),
    (0, 0, "", RTN_LOCAL, "lo", LOCALHOST, RTCF_LOCAL),
    (0, 0, "eth1", RTN_LOCAL, "lo", OURS_1, RTCF_LOCAL),
    (a("0.0.0.9"), 0, "eth1", RTN_UNICAST, "eth1", OURS_1, 0),
    (FAR, 0, "eth0", RTN_UNICAST, "eth0", OURS, 0),
]


@pytest.mark.parametrize(("dst", "src", "oif", "rt_type", "dev", "prefsrc", "flags"), OUT)
def test_out(dst: int, src: int, oif: str, rt_type: int, dev: str, prefsrc: int, flags: int) -> None:
    links = Links()
    answer = get(links, dst, src, oif)
    out = links.devices.by_name(dev)
    assert out is not None and (answer.dst, answer.src) == (dst, src)
    assert (answer.rt_type, answer.oif, shown(answer.prefsrc)) == (rt_type, out.ifindex, shown(prefsrc))
    assert answer.flags == flags | RTM_F_CLONED and (answer.uid, answer.iif, answer.expires) == (0, 0, -1)
    assert answer.table == RT_TABLE_MAIN and answer.metrics == {}


IN = [
    (OURS, PEER, RTN_LOCAL, "lo", RTCF_LOCAL),
    (OURS, DIRECTED, RTN_LOCAL, "lo", RTCF_LOCAL),
    (PEER_1, PEER, RTN_UNICAST, "eth1", 0),
    (NEIGHBOUR, PEER, RTN_UNICAST, "eth0", RTCF_DOREDIRECT),
    (NEIGHBOUR, FAR, RTN_UNICAST, "eth0", 0),
    (DIRECTED, PEER, RTN_BROADCAST, "lo", RTCF_BROADCAST | RTCF_LOCAL),
    (ALL_HOSTS, PEER, RTN_MULTICAST, "lo", RTCF_MULTICAST | RTCF_LOCAL),
]


@pytest.mark.parametrize(("dst", "src", "rt_type", "dev", "flags"), IN)
def test_in(dst: int, src: int, rt_type: int, dev: str, flags: int) -> None:
    links = router()
    answer = get(links, dst, src, iif="eth0")
    out = links.devices.by_name(dev)
    assert out is not None and (answer.rt_type, answer.oif) == (rt_type, out.ifindex)
    assert answer.flags == flags | RTM_F_CLONED and answer.iif == links.eth0.ifindex
    assert (answer.prefsrc, answer.uid) == (0, -1)


@pytest.mark.parametrize(
    ("dst", "src", "iif", "forwarding", "code"),
    [
        (PEER, FAR, "", 0, errno.ENETUNREACH),
        (PEER, ALL_HOSTS, "", 0, errno.EINVAL),
        (PEER, LOCALHOST, "", 0, errno.EINVAL),
        (FAR, 0, "", 0, errno.ENETUNREACH),
        (OURS, OURS, "eth0", 1, errno.EINVAL),
        (LOCALHOST, LOCALHOST, "lo", 1, errno.EINVAL),
        (a("239.1.2.3"), PEER, "eth0", 1, errno.EINVAL),
        (PEER_1, PEER, "eth0", 0, errno.EHOSTUNREACH),
        (FAR, PEER, "eth0", 0, errno.EHOSTUNREACH),
        (FAR, PEER, "eth0", 1, errno.ENETUNREACH),
        (a("10.1.2.3"), PEER, "eth0", 1, errno.EHOSTUNREACH),
        (a("10.1.2.3"), 0, "", 1, errno.EHOSTUNREACH),
    ],
)
def test_errors(dst: int, src: int, iif: str, forwarding: int, code: int) -> None:
    links = Links()
    links.net.conf.inet_forward_change(forwarding)
    links.routing.add_route(a("10.0.0.0"), 8, rt_type=RTN_UNREACHABLE)
    with pytest.raises(OSError) as failure:
        get(links, dst, src, iif=iif)
    assert failure.value.errno == code


def test_a_device_that_is_not_there() -> None:
    links = Links()
    for ask in (RouteQuestion(PEER, oif=77), RouteQuestion(PEER, iif=77)):
        with pytest.raises(OSError) as failure:
            links.routing.rtm_getroute(ask)
        assert failure.value.errno == errno.ENODEV


def with_metrics(links: Links) -> None:
    cfg = FibConfig(a("203.0.113.0"), 24)
    cfg.gateway, cfg.tos = PEER, 0x08
    cfg.metrics = {RTAX_MTU: 1300, RTAX_ADVMSS: 1200}
    cfg.nlflags = NLM_F_CREATE
    links.routing.fib.rtm_newroute(cfg)


@pytest.mark.parametrize("iif", ["", "eth0"])
def test_gateway_metrics_tos_and_mark(iif: str) -> None:
    links = router()
    with_metrics(links)
    ask = RouteQuestion(FAR, PEER if iif else 0, 0x08, iif=links.eth0.ifindex if iif else 0)
    ask.mark, ask.uid = 7, 9
    answer = links.routing.rtm_getroute(ask)
    assert (answer.gateway, answer.tos, answer.mark, answer.uid) == (PEER, 0x08, 7, 9)
    assert answer.metrics == {RTAX_MTU: 1300, RTAX_ADVMSS: 1200}


def test_what_the_path_has_told() -> None:
    """A path's MTU stands for the route's, with the time it has left; a redirect's gateway too."""
    links = Links()
    links.route("203.0.113.0/24", "192.0.2.1")
    links.routing.update_pmtu(Flow(FAR), 500)
    links.net.now = 10 * NSEC_PER_SEC
    answer = get(links, FAR)
    assert answer.metrics == {RTAX_MTU: 552, RTAX_LOCK: 1 << RTAX_MTU} and answer.expires == 590
    fi = next(fi for fi in links.routing.fib.semantics.infos if fi is not None and fi.nh[0].gateway == PEER)
    links.routing.exceptions.update_or_create_fnhe(fi.nh[0], FAR, NEIGHBOUR, 0, False, 40 * NSEC_PER_SEC)
    answer = get(links, FAR)
    assert answer.gateway == NEIGHBOUR and answer.flags & RTCF_REDIRECTED and answer.expires == 30


@pytest.mark.parametrize(
    ("dst", "src", "iif", "prefix", "rt_type"),
    [
        (PEER, 0, "", "192.0.2.0/24", RTN_UNICAST),
        (OURS, 0, "", "192.0.2.2/32", RTN_LOCAL),
        (DIRECTED, PEER, "eth0", "192.0.2.255/32", RTN_BROADCAST),
        (PEER_1, PEER, "eth0", "198.51.100.0/24", RTN_UNICAST),
    ],
)
def test_fibmatch(dst: int, src: int, iif: str, prefix: str, rt_type: int) -> None:
    """The route itself; its table only if asked for, and while local is a part of main's trie that is main."""
    links = router()
    ask = RouteQuestion(dst, src, iif=links.eth0.ifindex if iif else 0)
    ask.fibmatch = True
    alias = links.routing.rtm_getroute(ask).alias
    assert alias is not None and f"{shown(alias.key)}/{alias.prefixlen}" == prefix
    assert (alias.rt_type, alias.tb_id) == (rt_type, RT_TABLE_MAIN) and alias.fi.nhs()[0].dev is not None
    ask.lookup_table = True
    alias = links.routing.rtm_getroute(ask).alias
    assert alias is not None and alias.tb_id == RT_TABLE_MAIN
    nothing = FibRuleConfig(action=FR_ACT_NOP)
    nothing.priority = 9
    links.routing.fib.rules.fib_nl_newrule(nothing)
    alias = links.routing.rtm_getroute(ask).alias
    assert alias is not None and alias.tb_id == (RT_TABLE_MAIN if rt_type == RTN_UNICAST else RT_TABLE_LOCAL)


@pytest.mark.parametrize(
    ("dst", "src", "oif", "iif"), [(FAR, 0, "eth0", ""), (ALL_HOSTS, 0, "eth0", ""), (ALL_HOSTS, PEER, "", "eth0")]
)
def test_fibmatch_without_a_route(dst: int, src: int, oif: str, iif: str) -> None:
    """What was decided without the tables is EHOSTUNREACH to who asks for the route."""
    links = Links()
    ask = RouteQuestion(dst, src, oif=links.eth0.ifindex if oif else 0, iif=links.eth0.ifindex if iif else 0)
    ask.fibmatch = True
    with pytest.raises(OSError) as failure:
        links.routing.rtm_getroute(ask)
    assert failure.value.errno == errno.EHOSTUNREACH


@pytest.mark.parametrize("iif", ["", "eth0"])
def test_rules_see_protocol_and_ports(iif: str) -> None:
    """ "u8 ip_proto = IPPROTO_UDP": that is what is asked about unless something else is said."""
    links = router()
    links.route("203.0.113.0/24", "198.51.100.1")
    rule = FibRuleConfig(action=7)
    rule.priority, rule.ip_proto, rule.dport = 5, IPPROTO_TCP, (80, 90)
    links.routing.fib.rules.fib_nl_newrule(rule)
    for ipproto, dport, refused in (
        (0, 80, False),
        (IPPROTO_TCP, 79, False),
        (IPPROTO_TCP, 80, True),
        (IPPROTO_ICMP, 80, False),
    ):
        ask = RouteQuestion(FAR, PEER if iif else 0, iif=links.eth0.ifindex if iif else 0)
        ask.ipproto, ask.sport, ask.dport = ipproto, 1000, dport
        if refused:
            with pytest.raises(OSError) as failure:
                links.routing.rtm_getroute(ask)
            assert failure.value.errno == errno.ENETUNREACH
        else:
            assert links.routing.rtm_getroute(ask).gateway == PEER_1
