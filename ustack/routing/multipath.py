"""Which of several next hops a flow takes (Linux fib_multipath_hash, ip_multipath_l3_keys; RFC 2992).

The hash is keyed with a secret of the stack's and symmetric: what answers a packet, and an ICMP error about it, takes
the same way. Policies (net.ipv4.fib_multipath_hash_policy): 0 addresses, 1 addresses, protocol and ports, 2 the
addresses of the innermost packet, 3 the fields that fib_multipath_hash_fields names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.routing.siphash import flow_hash_from_keys_seed
from ustack.wire import ipv4
from ustack.wire.icmp import ICMP_HLEN, is_error
from ustack.wire.ipv4 import IP_MF, IP_OFFSET, IPPROTO_ICMP, IPPROTO_IPIP, IPPROTO_TCP, IPPROTO_UDP
from ustack.wire.octets import u16

if TYPE_CHECKING:
    from ustack.net import Net
    from ustack.packet import Packet
    from ustack.routing.flow import Flow
    from ustack.wire.ipv4 import Ipv4Header

# net.ipv4.fib_multipath_hash_fields
FIB_MULTIPATH_HASH_FIELD_SRC_IP: Final[i64] = 0x1
FIB_MULTIPATH_HASH_FIELD_DST_IP: Final[i64] = 0x2
FIB_MULTIPATH_HASH_FIELD_IP_PROTO: Final[i64] = 0x4
FIB_MULTIPATH_HASH_FIELD_SRC_PORT: Final[i64] = 0x10
FIB_MULTIPATH_HASH_FIELD_DST_PORT: Final[i64] = 0x20
FIB_MULTIPATH_HASH_FIELD_INNER_SRC_IP: Final[i64] = 0x40
FIB_MULTIPATH_HASH_FIELD_INNER_DST_IP: Final[i64] = 0x80
FIB_MULTIPATH_HASH_FIELD_INNER_IP_PROTO: Final[i64] = 0x100
FIB_MULTIPATH_HASH_FIELD_INNER_SRC_PORT: Final[i64] = 0x400
FIB_MULTIPATH_HASH_FIELD_INNER_DST_PORT: Final[i64] = 0x800
_OUTER: Final[i64] = 0x3F
_INNER: Final[i64] = 0xFC0
_INNER_SHIFT: Final = 6

_M1: Final[i64] = 0x7FEB_352D
_M2: Final[i64] = 0x68E3_1DA5
_U32: Final[i64] = 0xFFFF_FFFF


def mix(seed: i64, value: i64) -> i64:
    """32 bits of ``value`` under ``seed``: a mixer that compiles to a handful of instructions. Both are 32 bits wide.

    No product needs more than 63 bits, so that it is the same interpreted and compiled.
    """
    word = (seed ^ value) & _U32
    word = ((word ^ (word >> 16)) * _M1) & _U32
    word = ((word ^ (word >> 15)) * _M2) & _U32
    return word ^ (word >> 16)


class FlowKeys:
    """What is hashed (struct flow_keys)."""

    def __init__(self) -> None:
        self.src: i64 = 0
        self.dst: i64 = 0
        self.proto: i64 = 0
        self.sport: i64 = 0
        self.dport: i64 = 0

    def set(self, src: i64, dst: i64, proto: i64 = 0, sport: i64 = 0, dport: i64 = 0) -> None:
        self.src, self.dst, self.proto, self.sport, self.dport = src, dst, proto, sport, dport


class MultipathHash:
    """fib_multipath_hash of one stack."""

    def __init__(self, net: Net) -> None:
        self.net: Net = net
        self._secret: i64 = net.entropy.u32()
        self._keys = FlowKeys()
        self._inner = FlowKeys()

    def fib_multipath_hash(self, flow: Flow | None, packet: Packet | None) -> i64:
        """31 bits for ``packet``, which is forwarded or answered by an ICMP error, else for ``flow`` of our own.

        ``flow.multipath_hash``, if it is not 0, has a say too.
        """
        keys = self._keys
        policy = self.net.sysctl.fib_multipath_hash_policy
        if packet is not None:
            self._packet_keys(packet, policy)
        elif flow is not None:
            self._flow_keys(flow, policy)
        word = self._from_keys(keys)
        if flow is not None and flow.multipath_hash != 0:
            word = mix(word, flow.multipath_hash)
        return word >> 1

    def _flow_keys(self, flow: Flow, policy: i64) -> None:
        keys = self._keys
        if policy == 1:
            keys.set(flow.saddr, flow.daddr, flow.proto, flow.sport, flow.dport)
        elif policy == 3:
            keys.set(flow.saddr, flow.daddr, flow.proto, flow.sport, flow.dport)
            _only(keys, self.net.sysctl.fib_multipath_hash_fields & _OUTER)
        else:
            keys.set(flow.saddr, flow.daddr)

    def _packet_keys(self, packet: Packet, policy: i64) -> None:
        iph = packet.iph
        keys = self._keys
        if iph is None:
            keys.set(0, 0)
        elif policy == 1:
            flow_dissect(packet, iph, keys)
        elif policy == 3:
            self._custom_keys(packet, iph)
        else:
            inner = innermost(packet, iph) if policy == 2 else iph
            if inner is iph:
                inner = ip_multipath_l3_keys(packet, iph)
            keys.set(inner.saddr, inner.daddr)

    def _custom_keys(self, packet: Packet, iph: Ipv4Header) -> None:
        """fib_multipath_custom_hash_skb: the outer packet's fields and, of a tunnel's, the inner one's."""
        keys, inner = self._keys, self._inner
        fields = self.net.sysctl.fib_multipath_hash_fields
        flow_dissect(packet, iph, keys)
        _only(keys, fields & _OUTER)
        inside = innermost(packet, iph)
        if fields & _INNER != 0 and inside is not iph:
            flow_dissect(packet, inside, inner)
            _only(inner, fields >> _INNER_SHIFT)
            keys.proto = mix(self._from_keys(inner), keys.proto)

    def _from_keys(self, keys: FlowKeys) -> i64:
        """flow_hash_from_keys: addresses and ports in their order of size, so that both directions are one."""
        seed = self.net.sysctl.fib_multipath_hash_seed
        if seed != 0:
            return flow_hash_from_keys_seed(seed, keys.src, keys.dst, keys.proto, keys.sport, keys.dport)
        src, dst, sport, dport = keys.src, keys.dst, keys.sport, keys.dport
        if dst < src:
            src, dst = dst, src
        if dport < sport:
            sport, dport = dport, sport
        word = mix(self._secret, src)
        word = mix(word, dst)
        word = mix(word, sport << 16 | dport)
        return mix(word, keys.proto)


def _only(keys: FlowKeys, fields: i64) -> None:
    """Forget what ``fields`` do not name."""
    keys.set(
        keys.src if fields & FIB_MULTIPATH_HASH_FIELD_SRC_IP else 0,
        keys.dst if fields & FIB_MULTIPATH_HASH_FIELD_DST_IP else 0,
        keys.proto if fields & FIB_MULTIPATH_HASH_FIELD_IP_PROTO else 0,
        keys.sport if fields & FIB_MULTIPATH_HASH_FIELD_SRC_PORT else 0,
        keys.dport if fields & FIB_MULTIPATH_HASH_FIELD_DST_PORT else 0,
    )


def flow_dissect(packet: Packet, iph: Ipv4Header, keys: FlowKeys) -> None:
    """Addresses, protocol and ports of the packet whose header ``iph`` is (skb_flow_dissect_flow_keys).

    A fragment has no ports, not even the first: all of a datagram must take one way.
    """
    at = iph.start + iph.header_len
    protocol = iph.protocol
    ported = (protocol == IPPROTO_TCP or protocol == IPPROTO_UDP) and iph.frag_off & (IP_MF | IP_OFFSET) == 0
    if ported and at + 4 <= packet.end:
        keys.set(iph.saddr, iph.daddr, protocol, u16(packet.buf, at), u16(packet.buf, at + 2))
    else:
        keys.set(iph.saddr, iph.daddr, protocol)


def fib4_rules_early_flow_dissect(packet: Packet, keys: FlowKeys) -> None:
    """The same for rules, which may ask for protocol and ports; what has no IP header has none."""
    iph = packet.iph
    if iph is None:
        keys.set(0, 0)
    else:
        flow_dissect(packet, iph, keys)


def ip_multipath_l3_keys(packet: Packet, iph: Ipv4Header) -> Ipv4Header:
    """The header whose addresses count: that of the packet an ICMP error quotes, or ``iph``."""
    if iph.protocol != IPPROTO_ICMP or iph.frag_off & IP_OFFSET != 0:
        return iph
    at = iph.start + iph.header_len
    if at >= packet.end or not is_error(packet.buf[at]):
        return iph
    inner = ipv4.parse(packet.buf, at + ICMP_HLEN, packet.end)
    return iph if inner is None else inner


def innermost(packet: Packet, iph: Ipv4Header) -> Ipv4Header:
    """The header of the packet that a tunnel's carries, as far as IPv4 goes in IPv4; else ``iph``."""
    inner: Ipv4Header | None = iph
    while inner is not None and inner.protocol == IPPROTO_IPIP and inner.frag_off & IP_OFFSET == 0:
        iph = inner
        inner = ipv4.parse(packet.buf, iph.start + iph.header_len, packet.end)
    return iph if inner is None else inner
