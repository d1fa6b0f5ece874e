"""What a route lookup would answer, told in full (Linux inet_rtm_getroute, rt_fill_info): ``ip route get``."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from librt.strings import BytesWriter
from mypy_extensions import i64

from ustack.dst import RTCF_DOREDIRECT
from ustack.packet import Packet
from ustack.routing.fib_types import FibAlias, FibResult
from ustack.routing.flow import INET_DSCP_MASK, Flow
from ustack.routing.uapi import RT_TABLE_MAIN, RTAX_LOCK, RTAX_MTU, RTM_F_CLONED
from ustack.sock import error
from ustack.timer import NSEC_PER_SEC
from ustack.wire import ipv4
from ustack.wire.ethernet import ETH_P_IP
from ustack.wire.ipv4 import IP_HLEN, IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP
from ustack.wire.octets import put_u16

if TYPE_CHECKING:
    from ustack.dst import Dst
    from ustack.routing.route import Routing

#: What follows the header of the made-up packet.
_ICMP_ECHO_HEADER = b"\x08\0\0\0\0\0\0\0"
_L4_LEN = 20


class RouteQuestion:
    """A lookup that is asked for. ``uid`` -1: nobody's, which for our own packets means root's."""

    def __init__(self, dst: i64, src: i64 = 0, tos: i64 = 0, oif: i64 = 0, iif: i64 = 0) -> None:
        self.dst: i64 = dst
        self.src: i64 = src
        self.tos: i64 = tos
        self.oif: i64 = oif
        self.iif: i64 = iif  #: not 0: of a packet that came in there
        self.mark: i64 = 0
        self.uid: i64 = -1
        self.ipproto: i64 = 0  #: 0: UDP
        self.sport: i64 = 0
        self.dport: i64 = 0
        self.fibmatch: bool = False  #: the route itself instead of what becomes of the packet
        self.lookup_table: bool = False  #: tell the table it was found in (RTM_F_LOOKUP_TABLE), else main


class RouteAnswer:
    """The way as the kernel's message has it (struct rtmsg and its attributes); 0 stands for an absent one."""

    def __init__(self, dst: i64, src: i64) -> None:
        self.dst: i64 = dst
        self.src: i64 = src
        self.rt_type: i64 = 0
        self.tos: i64 = 0  #: of the route
        self.table: i64 = RT_TABLE_MAIN
        self.flags: i64 = 0  #: RTM_F_*, and RTCF_* above its lower 16 bits
        self.oif: i64 = 0
        self.gateway: i64 = 0
        self.prefsrc: i64 = 0
        self.iif: i64 = 0
        self.mark: i64 = 0
        self.uid: i64 = -1
        self.metrics: dict[int, int] = {}
        self.cc_algo: str = ""
        self.expires: i64 = -1  #: seconds left of a path MTU or a redirect; -1: neither
        self.alias: FibAlias | None = None  #: the route itself, and nothing else, if ``fibmatch`` was asked for


def inet_rtm_getroute(routing: Routing, ask: RouteQuestion) -> RouteAnswer:
    """Raises the lookup's errno: ENODEV, ENETUNREACH, EHOSTUNREACH, EACCES, EINVAL."""
    flow = Flow(ask.dst, ask.src, ask.oif, ask.tos, ask.ipproto or IPPROTO_UDP, ask.sport, ask.dport, ask.mark)
    flow.uid = ask.uid if ask.uid >= 0 else 0
    packet = getroute_packet(ask)
    res = FibResult()
    if ask.iif != 0:
        dst = _input(routing, ask, packet, res)
    else:
        packet.dev = routing.inet.loopback_dev
        dst = routing.output_route.ip_route_output_key_hash_rcu(flow, res, packet)
    answer = RouteAnswer(ask.dst, ask.src)
    if ask.lookup_table:
        answer.table = 0 if res.table is None else res.table.tb_id
    if ask.fibmatch:
        if res.fi is None:
            raise error(errno.EHOSTUNREACH)
        answer.alias = FibAlias(res.prefix, res.prefixlen, res.tos, dst.rt_type, answer.table, res.fi)
        return answer
    rt_fill_info(answer, ask, flow, dst, res, routing.net.now)
    if packet.redirected:
        answer.flags |= RTCF_DOREDIRECT
    return answer


def _input(routing: Routing, ask: RouteQuestion, packet: Packet, res: FibResult) -> Dst:
    dev = routing.devices.by_index(ask.iif)
    if dev is None:
        raise error(errno.ENODEV)
    packet.dev = packet.in_dev = dev
    packet.mark = ask.mark
    route_input = routing.input_route
    reason = route_input.ip_route_input_rcu(packet, ask.dst, ask.src, ask.tos & INET_DSCP_MASK, dev, res)
    dst = packet.dst
    if reason is None and dst is not None:
        return dst
    raise error(int(route_input.no_route_errno) or errno.EINVAL)


def rt_fill_info(answer: RouteAnswer, ask: RouteQuestion, flow: Flow, dst: Dst, res: FibResult, now: i64) -> None:
    """What ``dst`` says."""
    answer.tos = res.tos
    answer.rt_type = dst.rt_type
    answer.flags = (dst.flags() & ~0xFFFF) | RTM_F_CLONED
    answer.oif = dst.dev.ifindex
    answer.gateway = dst.gateway if dst.uses_gateway else 0
    answer.mark = ask.mark
    if ask.iif != 0:
        answer.iif = ask.iif
        answer.uid = ask.uid
    else:
        answer.prefsrc = flow.saddr if flow.saddr != ask.src else 0
        answer.uid = max(ask.uid, 0)
    if dst.fi is not None:
        answer.metrics = dict(dst.fi.metrics)
        answer.cc_algo = dst.fi.cc_algo
    if dst.expires == 0:
        return
    left = max(dst.expires - now, 0)
    answer.expires = left // NSEC_PER_SEC
    if left > 0 and dst.pmtu != 0:
        answer.metrics[RTAX_MTU] = int(dst.pmtu)
        if dst.mtu_locked:
            answer.metrics[RTAX_LOCK] = answer.metrics.get(RTAX_LOCK, 0) | 1 << RTAX_MTU


def getroute_packet(ask: RouteQuestion) -> Packet:
    """A packet made up for the lookup, so that rules and multipath find ports (inet_rtm_getroute_build_skb)."""
    protocol = ask.ipproto or IPPROTO_UDP
    out = BytesWriter()
    ipv4.emit(out, ask.tos & 0xFF, IP_HLEN + _L4_LEN, 0, 0, 0, protocol, ask.src, ask.dst)
    if protocol == IPPROTO_TCP or protocol == IPPROTO_UDP:
        put_u16(out, ask.sport)
        put_u16(out, ask.dport)
    elif protocol == IPPROTO_ICMP:
        out.write(_ICMP_ECHO_HEADER)
    out.write(bytes(_L4_LEN))
    packet = Packet(out.getvalue())
    packet.iph = ipv4.parse(packet.buf, 0, packet.end)
    packet.transport_header = IP_HLEN
    packet.protocol = ETH_P_IP
    return packet
