"""Why packets are lost: one closed list, and what each reason counts and answers (Linux enum skb_drop_reason).

A packet is lost in exactly one way, ``Net.drop(packet, reason)``. EFFECTS is the only place that knows which SNMP
counter a reason moves and which ICMP error it causes.
"""

from __future__ import annotations

from enum import IntEnum, auto
from typing import TYPE_CHECKING, Final, NamedTuple

from ustack.wire.icmp import type_and_code
from ustack.wire.ipv4 import IPPROTO_UDP

if TYPE_CHECKING:
    from mypy_extensions import i64

    from ustack.packet import Packet
    from ustack.trace.journey import Facts

# ICMP types and codes that reasons cause (RFC 792); the wire layer's constants would be an arrow upwards.
_UNREACHABLE: Final = 3
_TIME_EXCEEDED: Final = 11
_PARAMETERPROB: Final = 12


class Reason(IntEnum):
    """Names as in include/net/dropreason-core.h; the comment says where it happens when the name does not."""

    NOT_SPECIFIED = 0
    # devices
    DEV_DOWN = auto()
    DEV_MALFORMED = auto()  #: shorter than a link-layer header, or longer than the device's MTU allows
    UNHANDLED_PROTO = auto()  #: no packet type registered for the EtherType
    OTHERHOST = auto()
    INVALID_PROTO = auto()  #: not IPv4 where only that will do
    QDISC_DROP = auto()  #: the device's queue is full
    GSO_SEG = auto()  #: a super-segment that could not be cut
    SKB_CSUM = auto()  #: a checksum that could not be completed
    CPU_BACKLOG = auto()  #: a software device's receive queue is full
    MAC_INVALID_SOURCE = auto()  #: to a bridge, from an address that no station can have
    MAC_IEEE_MAC_CONTROL = auto()  #: to a bridge: a pause frame, which ends at the cable
    BRIDGE_INGRESS_STP_STATE = auto()  #: at a port that does not work
    NO_TX_TARGET = auto()  #: no port of the bridge to leave by
    # neighbours
    ARP_INVALID = auto()
    ARP_IGNORED = auto()  #: well-formed and none of our business
    ARP_PVLAN_DISABLE = auto()  #: out where it came in, and proxy_arp_pvlan is off
    NEIGH_CREATEFAIL = auto()
    NEIGH_QUEUEFULL = auto()
    NEIGH_FAILED = auto()
    NEIGH_DEAD = auto()
    # IPv4
    IP_INHDR = auto()
    IP_CSUM = auto()
    PKT_TOO_SMALL = auto()
    IP_OPTIONS = auto()  #: malformed options
    IP_SOURCE_ROUTED = auto()  #: accept_source_route is off
    IP_INADDRERRORS = auto()
    IP_INNOROUTES = auto()
    IP_LOCAL_SOURCE = auto()  #: from the wire with one of our own addresses
    IP_INVALID_SOURCE = auto()  #: martian
    IP_INVALID_DEST = auto()
    IP_LOCALNET = auto()  #: 127/8 on a wire
    IP_RPFILTER = auto()
    UNICAST_IN_L2_MULTICAST = auto()
    IP_NOPROTO = auto()
    IP_NOPROTO_QUIET = auto()  #: the same, where no ICMP error may be sent
    IP_OUTNOROUTES = auto()
    IP_FORWARDING_OFF = auto()
    IP_HOSTUNREACH = auto()  #: the route found says unreachable
    IP_PROHIBITED = auto()  #: the route found says prohibit
    IP_BLACKHOLE = auto()  #: the route found says blackhole
    IP_SR_FAILED = auto()  #: strict source route, and the next hop is not on the link
    TTL_EXPIRED = auto()
    PKT_TOO_BIG = auto()
    FRAG_REASM_TIMEOUT = auto()
    FRAG_TOO_FAR = auto()
    FRAG_OVERLAP = auto()
    FRAG_INVALID = auto()
    FRAG_NOMEM = auto()
    FRAG_QUEUE_FREED = auto()  #: lost with the datagram it waited for, whose end is counted once, elsewhere
    DUP_FRAG = auto()
    NETFILTER_DROP = auto()
    NF_QUEUE_UNBOUND = auto()  #: for a listener, and nobody listens
    NF_QUEUE_FULL = auto()
    NF_REPEAT_LIMIT = auto()
    # ICMP
    ICMP_CSUM = auto()
    ICMP_MALFORMED = auto()
    ICMP_IGNORED = auto()  #: a type that is not answered, or an echo while icmp_echo_ignore_*
    ICMP_UNKNOWN = auto()  #: a type nobody knows, or one that must not come by broadcast
    # transport
    NO_SOCKET = auto()
    SOCKET_RCVBUFF = auto()
    RAW_RCVBUFF = auto()  #: the same of a raw or ping socket, which no SNMP group counts
    SOCKET_FILTER = auto()
    SOCKET_CLOSE = auto()
    UDP_MALFORMED = auto()
    UDP_CSUM = auto()
    IGNORED_MULTI = auto()  #: UDP multicast or broadcast without a listener
    TCP_NOT_UNICAST = auto()  #: sent to more hosts than one
    TCP_MALFORMED = auto()
    TCP_TRUNCATED = auto()  #: shorter than a header, or than its header says that it is
    TCP_CSUM = auto()
    TCP_MINTTL = auto()
    TCP_FLAGS = auto()  #: a combination of flags without meaning in this state
    TCP_ZEROWINDOW = auto()
    TCP_OLD_DATA = auto()
    TCP_OVERWINDOW = auto()
    TCP_OFOMERGE = auto()
    TCP_OFO_DROP = auto()
    TCP_OFO_QUEUE_PRUNE = auto()
    PROTO_MEM = auto()  #: in order, but over the receive buffer
    TCP_RFC7323_PAWS = auto()
    TCP_RFC7323_PAWS_ACK = auto()  #: an ACK that was overtaken: old, and no reason for an answer
    TCP_RFC7323_TW_PAWS = auto()
    TCP_RFC7323_TSECR = auto()  #: echoes a timestamp that was not sent
    TCP_OLD_SEQUENCE = auto()
    TCP_INVALID_SEQUENCE = auto()
    TCP_INVALID_END_SEQUENCE = auto()  #: beyond the window, and there is something to read
    TCP_INVALID_ACK_SEQUENCE = auto()
    TCP_INVALID_SYN = auto()
    TCP_RESET = auto()  #: delivered its message: the connection is gone
    TCP_CLOSE = auto()
    TCP_OLD_ACK = auto()
    TCP_TOO_OLD_ACK = auto()
    TCP_ACK_UNSENT_DATA = auto()
    TCP_LISTEN_OVERFLOW = auto()
    TCP_REQQ_FULL = auto()
    TCP_LISTEN_UNPROVEN = auto()  #: the last quarter of the backlog is for peers that are known
    TCP_DEFER_ACCEPT = auto()  #: the handshake's ACK, where the owner waits for data
    TCP_MD5UNEXPECTED = auto()  #: signed, though no key was agreed on
    TCP_AOUNEXPECTED = auto()
    TCP_AUTH_HDR = auto()  #: a signature option that is none
    TCP_ABORT_ON_DATA = auto()
    TCP_TIMEWAIT = auto()
    STACK_CLOSED = auto()


class Effect(NamedTuple):
    """What losing a packet moves: ``counters`` as Group.Name, and the ICMP error (type, code) or None."""

    counters: tuple[str, ...] = ()
    icmp: tuple[int, int] | None = None


SILENT: Final = Effect()

EFFECTS: Final[dict[Reason, Effect]] = {
    Reason.NEIGH_FAILED: Effect(icmp=(_UNREACHABLE, 1)),
    Reason.NEIGH_QUEUEFULL: Effect(("Neigh.unresolved_discards",)),
    Reason.NEIGH_CREATEFAIL: Effect(("Neigh.table_fulls",)),
    Reason.IP_INHDR: Effect(("Ip.InHdrErrors",)),
    Reason.IP_CSUM: Effect(("Ip.InHdrErrors", "Ip.InCsumErrors")),
    Reason.PKT_TOO_SMALL: Effect(("Ip.InTruncatedPkts",)),
    Reason.IP_OPTIONS: Effect(("Ip.InHdrErrors",), (_PARAMETERPROB, 0)),
    Reason.IP_SOURCE_ROUTED: Effect(("Ip.InHdrErrors",)),
    Reason.IP_INADDRERRORS: Effect(("Ip.InAddrErrors",)),
    Reason.IP_INNOROUTES: Effect(("Ip.InNoRoutes",), (_UNREACHABLE, 0)),
    Reason.IP_FORWARDING_OFF: Effect(("Ip.InAddrErrors",)),
    Reason.IP_HOSTUNREACH: Effect(icmp=(_UNREACHABLE, 1)),
    Reason.IP_PROHIBITED: Effect(icmp=(_UNREACHABLE, 13)),
    Reason.IP_SR_FAILED: Effect(icmp=(_UNREACHABLE, 5)),
    Reason.IP_RPFILTER: Effect(("TcpExt.IPReversePathFilter",)),
    Reason.IP_NOPROTO: Effect(("Ip.InUnknownProtos",), (_UNREACHABLE, 2)),
    Reason.IP_NOPROTO_QUIET: Effect(("Ip.InUnknownProtos",)),
    Reason.IP_OUTNOROUTES: Effect(("Ip.OutNoRoutes",)),
    Reason.TTL_EXPIRED: Effect(("Ip.InHdrErrors",), (_TIME_EXCEEDED, 0)),
    Reason.PKT_TOO_BIG: Effect(("Ip.FragFails",), (_UNREACHABLE, 4)),
    Reason.FRAG_REASM_TIMEOUT: Effect(("Ip.ReasmTimeout", "Ip.ReasmFails")),
    Reason.FRAG_TOO_FAR: Effect(("Ip.ReasmFails",)),
    Reason.FRAG_OVERLAP: Effect(("Ip.ReasmOverlaps", "Ip.ReasmFails")),
    Reason.FRAG_INVALID: Effect(("Ip.ReasmFails",)),
    Reason.FRAG_NOMEM: Effect(("Ip.ReasmFails",)),
    Reason.QDISC_DROP: Effect(("Ip.OutDiscards",)),
    Reason.ICMP_CSUM: Effect(("Icmp.InCsumErrors", "Icmp.InErrors")),
    Reason.ICMP_MALFORMED: Effect(("Icmp.InErrors",)),
    Reason.ICMP_UNKNOWN: Effect(("Icmp.InErrors",)),
    Reason.SOCKET_RCVBUFF: Effect(("Udp.RcvbufErrors", "Udp.InErrors")),
    Reason.UDP_MALFORMED: Effect(("Udp.InErrors",)),
    Reason.UDP_CSUM: Effect(("Udp.InCsumErrors", "Udp.InErrors")),
    Reason.IGNORED_MULTI: Effect(("Udp.IgnoredMulti",)),
    Reason.TCP_MALFORMED: Effect(("Tcp.InErrs",)),
    Reason.TCP_CSUM: Effect(("Tcp.InCsumErrors", "Tcp.InErrs")),
    Reason.TCP_MINTTL: Effect(("TcpExt.TCPMinTTLDrop",)),
    Reason.TCP_ZEROWINDOW: Effect(("TcpExt.TCPZeroWindowDrop",)),
    Reason.TCP_OFO_DROP: Effect(("TcpExt.TCPOFODrop",)),
    Reason.TCP_OFO_QUEUE_PRUNE: Effect(("TcpExt.OfoPruned",)),
    Reason.PROTO_MEM: Effect(("TcpExt.TCPRcvQDrop",)),
    Reason.TCP_OFOMERGE: Effect(("TcpExt.TCPOFOMerge",)),
    Reason.TCP_RFC7323_PAWS: Effect(("TcpExt.PAWSEstab",)),
    Reason.TCP_RFC7323_PAWS_ACK: Effect(("TcpExt.PAWSOldAck",)),
    Reason.TCP_RFC7323_TW_PAWS: Effect(("TcpExt.PAWSTimewait",)),
    Reason.TCP_RFC7323_TSECR: Effect(("TcpExt.TSEcrRejected",)),
    Reason.TCP_LISTEN_UNPROVEN: Effect(("TcpExt.ListenDrops",)),
    Reason.TCP_DEFER_ACCEPT: Effect(("TcpExt.TCPDeferAcceptDrop",)),
    Reason.TCP_MD5UNEXPECTED: Effect(("TcpExt.TCPMD5Unexpected",)),
    Reason.TCP_AOUNEXPECTED: Effect(("TcpExt.TCPAOKeyNotFound",)),
    Reason.TCP_LISTEN_OVERFLOW: Effect(("TcpExt.ListenOverflows", "TcpExt.ListenDrops")),
    Reason.TCP_REQQ_FULL: Effect(("TcpExt.TCPReqQFullDrop", "TcpExt.ListenDrops")),
}


#: What else is counted where the packet is lost, whoever loses it: said in a trace, done there. Those without a group
#: are the device's.
COUNTED_THERE: Final[dict[Reason, tuple[str, ...]]] = {
    Reason.DEV_MALFORMED: ("rx_errors", "rx_length_errors"),
    Reason.UNHANDLED_PROTO: ("rx_dropped",),
    Reason.CPU_BACKLOG: ("rx_dropped",),
    Reason.QDISC_DROP: ("tx_dropped",),
    Reason.SKB_CSUM: ("tx_dropped",),
    Reason.IP_FORWARDING_OFF: ("RtCache.in_no_route",),
    Reason.IP_INNOROUTES: ("RtCache.in_no_route",),
    Reason.IP_HOSTUNREACH: ("RtCache.in_no_route",),
    Reason.IP_PROHIBITED: ("RtCache.in_no_route",),
    Reason.IP_BLACKHOLE: ("RtCache.in_no_route",),
}


def drop_facts(packet: Packet, reason: Reason, effect: Effect, info: i64) -> Facts:
    """What a drop moves and causes, in words; ``info`` is the second word of the ICMP error."""
    facts: Facts = {}
    counters = effect.counters + COUNTED_THERE.get(reason, ())
    if reason is Reason.NO_SOCKET and packet.iph is not None and packet.iph.protocol == IPPROTO_UDP:
        counters = ("Udp.NoPorts",)
    if counters:
        facts["counters"] = " ".join(counters)
    if effect.icmp is not None:
        facts["icmp"] = type_and_code(*effect.icmp)
        if info != 0:
            facts["info"] = info
    return facts
