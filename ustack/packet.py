"""Packet: one frame on its way through the stack (Linux struct sk_buff).

A received packet is the whole frame as the device delivered it, in one ``bytes``; a packet to be sent is a linear
part with the headers, and payload pieces behind it that are never joined. ``bytes`` cannot change, so a clone shares
them and nobody can write into another's packet; a header that must change is written anew in front.

    received    buf  |<- Ethernet ->|<- IPv4 ->|<- TCP ->|<- payload ->|<- padding ->|
                     ^              ^          ^         ^             ^
                     mac_header     network_   transport_ data         end
                                    header     header

    to be sent  buf  |<- Ethernet ->|<- IPv4 ->|<- TCP ->|<- small payload ->|   frags  [ view ][ view ] ...
                     ^              ^          ^                             ^          |<- frags_len ->|
                     mac_header=0   network_   transport_header              end=len(buf)
                                    header

``data`` moves up as the layers take their headers off (skb_pull), ``end`` moves down as they trim (skb_trim).
All offsets count from the first byte of ``buf``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, mypyc_attr

if TYPE_CHECKING:
    from ustack.device.net_device import NetDevice
    from ustack.dst import Dst
    from ustack.ipv4.options import IpOptions
    from ustack.sock import Sock
    from ustack.trace.journey import Journey
    from ustack.wire.ipv4 import Ipv4Header

Buffer = bytes | memoryview

# pkt_type (include/uapi/linux/if_packet.h)
PACKET_HOST: Final = 0
PACKET_BROADCAST: Final = 1
PACKET_MULTICAST: Final = 2
PACKET_OTHERHOST: Final = 3
PACKET_OUTGOING: Final = 4

# ip_summed (include/linux/skbuff.h, "checksumming of received/transmitted packets")
CHECKSUM_NONE: Final = 0  #: nobody checked it; or, going out, it is complete in the packet
CHECKSUM_UNNECESSARY: Final = 1  #: the device vouches for it
CHECKSUM_PARTIAL: Final = 3  #: the field holds the pseudo-header sum; the device (or csum_help) does the rest

# gso_type
SKB_GSO_NONE: Final = 0
SKB_GSO_TCPV4: Final = 1
SKB_GSO_TCP_ECN: Final = 2  #: a flag beside TCPV4: CWR only on the first segment

#: What sending answers where an errno would stand, if the device's queue had no room: congestion of our own making.
NET_XMIT_DROP: Final = -1


class Packet:
    """struct sk_buff; see the module's picture. Lengths and offsets in bytes, times in ns."""

    def __init__(self, buf: bytes, dev: NetDevice | None = None) -> None:
        self.buf: bytes = buf
        self.frags: list[Buffer] | None = None
        self.frags_len: i64 = 0
        self.mac_header: i64 = 0
        self.network_header: i64 = 0
        self.transport_header: i64 = 0
        self.data: i64 = 0
        self.end: i64 = len(buf)
        self.dev: NetDevice | None = dev  #: where it came in; once routed out, where it goes
        self.in_dev: NetDevice | None = dev  #: where it came in, None for our own
        self.dst: Dst | None = None
        self.sk: Sock | None = None  #: who sends it, charged for it until it has left; or, found early, who receives it
        self.iph: Ipv4Header | None = None  #: the parsed network header, once ip_rcv or ip_output has looked
        self.opt: IpOptions | None = None  #: the compiled IPv4 options, if the header has any (IPCB(skb)->opt)
        self.protocol: i64 = 0  #: EtherType
        self.pkt_type: i64 = PACKET_HOST
        self.mark: i64 = 0
        self.priority: i64 = 0
        self.tstamp: i64 = 0
        self.ip_summed: i64 = CHECKSUM_NONE
        self.csum_start: i64 = 0  #: PARTIAL: where summing begins (offset in buf)
        self.csum_offset: i64 = 0  #: PARTIAL: where the sum goes, from csum_start
        self.gso_size: i64 = 0  #: payload bytes per segment of a super-segment, 0 for an ordinary packet
        self.gso_type: i64 = SKB_GSO_NONE
        self.redirected: bool = False  #: leaves where it came in, and its sender is there (IPSKB_DOREDIRECT)
        self.forwarded: bool = False  #: IPSKB_FORWARDED
        self.icmp_saddr: i64 = 0  #: who sent the ICMP error that is being looked into
        self.congested: bool = False  #: lost for want of room in the device's queue (NET_XMIT_DROP)
        self.journey: Journey | None = None  #: its steps, if somebody asked to see them
        self.accounted: bool = False  #: received from a device and not yet delivered, forwarded or dropped

    @property
    def len(self) -> i64:
        """Bytes from ``data`` to the end, pieces included (skb->len)."""
        return self.end - self.data + self.frags_len

    @property
    def truesize(self) -> i64:
        """Bytes it is charged with wherever memory is bounded: its data and Linux's bookkeeping (SKB_TRUESIZE)."""
        linear: i64 = len(self.buf)
        return linear + self.frags_len + SKB_OVERHEAD

    def pull(self, length: i64) -> None:
        """Take a header of ``length`` bytes off the front (__skb_pull)."""
        self.data += length

    def trim(self, length: i64) -> None:
        """Cut what lies beyond ``length`` bytes from ``data`` (pskb_trim); received packets only."""
        self.end = self.data + length

    def payload(self) -> bytes:
        """A copy of the bytes from ``data`` on, joined."""
        if self.frags is None:
            return self.buf[self.data : self.end]
        return self.buf[self.data : self.end] + b"".join(self.frags)

    def push_mac_header(self, header: bytes) -> None:
        """Put a link-layer header before the network header (dev_hard_header); ``data`` points at it afterwards."""
        shift: i64 = len(header) - self.network_header
        if self.network_header == 0 and self.end == len(self.buf):
            self.buf = header + self.buf
        else:
            self.buf = header + self.buf[self.network_header : self.end]
        self._moved(shift)
        self.mac_header = 0
        self.data = 0

    def replace_network_header(self, header: bytes, old_len: i64) -> None:
        """Write the network header anew (``old_len``: its length so far); long payload becomes a piece, not a copy."""
        after = self.network_header + old_len
        shift: i64 = len(header) - after
        rest: i64 = self.end - after
        if rest > COPYBREAK:
            # keep the transport header linear: checksum offload and the fragmenter look at it there
            linear = after + LINEAR_MIN
            piece = memoryview(self.buf)[linear : self.end]
            self.frags = [piece] if self.frags is None else [piece, *self.frags]
            self.frags_len += self.end - linear
            self.end = linear
        self.buf = header + self.buf[after : self.end]
        self._moved(shift)
        self.network_header = 0
        self.mac_header = 0
        self.data = 0

    def linearize(self) -> None:
        """Join the pieces to the linear part (skb_linearize)."""
        if self.frags is not None:
            self.buf = self.buf[: self.end] + b"".join(self.frags)
            self.frags = None
            self.frags_len = 0
            self.end = len(self.buf)

    def clone(self) -> Packet:
        """Another packet over the same bytes (skb_clone), owned by nobody."""
        other = Packet(self.buf, self.dev)
        other.frags = None if self.frags is None else self.frags[:]
        other.frags_len = self.frags_len
        other.mac_header = self.mac_header
        other.network_header = self.network_header
        other.transport_header = self.transport_header
        other.data = self.data
        other.end = self.end
        other.in_dev = self.in_dev
        other.dst = self.dst
        other.iph = self.iph
        other.opt = self.opt
        other.protocol = self.protocol
        other.pkt_type = self.pkt_type
        other.mark = self.mark
        other.priority = self.priority
        other.tstamp = self.tstamp
        other.ip_summed = self.ip_summed
        other.csum_start = self.csum_start
        other.csum_offset = self.csum_offset
        other.gso_size = self.gso_size
        other.gso_type = self.gso_type
        return other

    def _moved(self, shift: i64) -> None:
        """The bytes now lie ``shift`` further on."""
        self.network_header += shift
        self.transport_header += shift
        self.csum_start += shift
        self.end = len(self.buf)


#: What Linux spends on a packet besides its data: sk_buff and skb_shared_info, aligned (x86-64, bytes).
SKB_OVERHEAD: Final[i64] = 576
#: Below this many bytes a copy is cheaper than a view (bytes; drivers call it rx_copybreak).
COPYBREAK: Final[i64] = 512
#: What stays linear of a packet whose payload becomes a piece: the longest transport header (TCP, 60 bytes).
LINEAR_MIN: Final[i64] = 60


@mypyc_attr(allow_interpreted_subclasses=True)
class PacketHandler:
    """Where a packet goes on: a protocol's receive function, a hook's okfn, a route's input or output."""

    def handle(self, packet: Packet) -> None:
        raise NotImplementedError
