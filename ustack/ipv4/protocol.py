"""Who takes an IPv4 packet once it has arrived (Linux net/ipv4/protocol.c, ip_protocol_deliver_rcu).

A transport registers itself under its protocol number; raw sockets are asked first and get copies.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, mypyc_attr

from ustack.drop import Reason
from ustack.sock import error
from ustack.trace.points import Point
from ustack.wire.ipv4 import protocol_name

if TYPE_CHECKING:
    from ustack.net import Net
    from ustack.packet import Packet
    from ustack.sock import Sock
    from ustack.wire.ipv4 import Ipv4Header

MAX_INET_PROTOS: Final = 256
#: Headers within headers: how often one packet may be handed on to another protocol (CVE-2016-8666).
RESUBMIT_LIMIT: Final = 8


@mypyc_attr(allow_interpreted_subclasses=True)
class NetProtocol:
    """struct net_protocol: a transport protocol, as IPv4 sees it."""

    def handler(self, packet: Packet) -> None:
        """Take a received packet: it ends here, in deliver or drop.

        ``packet.iph`` is parsed, ``data`` and ``transport_header`` are at the transport header, the packet ends where
        the IP header says and is not a fragment.
        """
        raise NotImplementedError

    def early_demux(self, packet: Packet, iph: Ipv4Header) -> None:
        """Find the connection of a packet that is not routed yet, for who has one knows the way (early_demux).

        May set ``packet.sk``, and ``packet.dst`` to the route that the socket's last packet came by (sk_edemux). The
        packet was sent to us alone on the link, it is no fragment and its transport header at ``transport_header``;
        nothing of that is checked yet.
        """

    def err_handler(self, packet: Packet, icmp_type: i64, code: i64, info: i64) -> None:
        """Hear of an ICMP error about something we sent; read only, the caller ends ``packet``.

        ``packet.iph`` is the quoted header and ``data`` points at it; ``transport_header`` at what follows it, of
        which eight bytes at least are there. ``info``: the MTU for ICMP_FRAG_NEEDED (host order), the gateway of a
        redirect, the pointer of a parameter problem.
        """


@mypyc_attr(allow_interpreted_subclasses=True)
class RawDelivery:
    """What the raw room offers (net/ipv4/raw.c); the default has no sockets."""

    def raw_local_deliver(self, packet: Packet) -> bool:
        """Give every matching socket a clone; True if there was one. The packet stays the caller's."""
        return False

    def raw_icmp_error(self, packet: Packet, protocol: i64, icmp_type: i64, code: i64, info: i64) -> None:
        """Tell matching sockets of an ICMP error; ``packet`` as for NetProtocol.err_handler."""


class Protocols:
    """The registry of one stack; ``inet_protos[number]`` is None where nobody is registered."""

    def __init__(self, net: Net) -> None:
        self.net: Net = net
        self.inet_protos: list[NetProtocol | None] = [None] * MAX_INET_PROTOS
        self.raw: RawDelivery = RawDelivery()
        self._depth: i64 = 0

    def inet_add_protocol(self, protocol: i64, handler: NetProtocol) -> None:
        """Register. Raises EEXIST if the number is taken, EINVAL if it is none."""
        if not 0 <= protocol < MAX_INET_PROTOS:
            raise error(errno.EINVAL)
        if self.inet_protos[protocol] is not None:
            raise error(errno.EEXIST)
        self.inet_protos[protocol] = handler

    def inet_del_protocol(self, protocol: i64, handler: NetProtocol) -> None:
        """Take the registration back. Raises ENOENT if ``handler`` is not the one registered."""
        if not 0 <= protocol < MAX_INET_PROTOS or self.inet_protos[protocol] is not handler:
            raise error(errno.ENOENT)
        self.inet_protos[protocol] = None

    def ip_protocol_deliver(self, packet: Packet, protocol: i64) -> None:
        """Raw sockets first, then the protocol's handler (ip_protocol_deliver_rcu)."""
        raw = self.raw.raw_local_deliver(packet)
        ipprot = self.inet_protos[protocol]
        if packet.journey is not None:
            whom = "to its handler" if ipprot is not None else "raw sockets only" if raw else "nobody speaks it"
            packet.journey.step(Point.IP_PROTOCOL_DELIVER, whom, {"protocol": protocol_name(protocol)})
        if ipprot is not None:
            # counted first: the handler may answer, and whoever reads counters then must see what caused it
            self.net.mib.ip.InDelivers += 1
            ipprot.handler(packet)
        elif raw:
            self.net.mib.ip.InDelivers += 1
            self.net.deliver(packet)
        else:
            # RFC 1122 3.2.2.1: Protocol Unreachable, "when the designated transport protocol is not supported"
            self.net.drop(packet, Reason.IP_NOPROTO)

    def resubmit(self, packet: Packet, protocol: i64) -> None:
        """For a handler that took a header off (a tunnel): the packet again, as the next header's protocol."""
        if self._depth >= RESUBMIT_LIMIT:
            return self.net.drop(packet, Reason.IP_NOPROTO_QUIET)
        self._depth += 1
        self.ip_protocol_deliver(packet, protocol)
        self._depth -= 1


def sk_edemux(packet: Packet, sk: Sock, genid: i64) -> None:
    """``packet`` is for ``sk``, and goes the way of the last one if that holds and it comes from the same device."""
    packet.sk = sk
    dst, dev = sk.rx_dst, packet.in_dev
    if dst is not None and dev is not None and dst.genid == genid and sk.rx_dst_ifindex == dev.ifindex:
        packet.dst = dst


def inet_sk_rx_dst_set(sk: Sock, packet: Packet) -> None:
    """Remember for sk_edemux: the next one comes the same way."""
    dev = packet.in_dev
    if packet.dst is not sk.rx_dst and dev is not None:
        sk.rx_dst = packet.dst
        sk.rx_dst_ifindex = dev.ifindex
