"""IPv4 options: checked, filled in on the way, built, echoed (Linux net/ipv4/ip_options.c; RFC 791 section 3.1).

Offsets are those within the IP header, as the kernel keeps them and as an ICMP parameter problem points: the first
option byte is 20; 0 means "not there". The bytes themselves are ``IpOptions.data``; nothing is read beyond it.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from librt.strings import BytesWriter
from mypy_extensions import i64

from ustack.dst import RTN_LOCAL, RTN_UNICAST, RTN_UNSPEC
from ustack.sock import error
from ustack.timer import NSEC_PER_MSEC
from ustack.wire import ipv4
from ustack.wire.ipv4 import (
    IP_HLEN,
    IP_MAX_OPTIONS,
    IPOPT_COPY,
    IPOPT_END,
    IPOPT_LSRR,
    IPOPT_NOOP,
    IPOPT_RA,
    IPOPT_RR,
    IPOPT_SSRR,
    IPOPT_TIMESTAMP,
    Ipv4Header,
)
from ustack.wire.octets import u32

if TYPE_CHECKING:
    from ustack.net import Net
    from ustack.packet import Packet
    from ustack.routing.route import Routing

# flags of the timestamp option (include/uapi/linux/ip.h)
IPOPT_TS_TSONLY: Final = 0
IPOPT_TS_TSANDADDR: Final = 1
IPOPT_TS_PRESPEC: Final = 3

#: RFC 791: a time that is not milliseconds since midnight UT has the high bit set. The stack's clock has no midnight.
_NON_STANDARD_TIME: Final[i64] = 0x8000_0000
#: ``pp_ptr`` of options without a fault.
NO_PROBLEM: Final = -1


class IpOptions:
    """The options of one header, understood (struct ip_options)."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)  #: whole words, at most 40 bytes
        self.pp_ptr: i64 = NO_PROBLEM  #: where the fault is
        self.faddr: i64 = 0  #: first hop of a source route
        self.nexthop: i64 = 0  #: next hop of a source route that has come to us
        self.srr: i64 = 0
        self.rr: i64 = 0
        self.ts: i64 = 0
        self.router_alert: i64 = 0
        self.is_strictroute: bool = False
        self.srr_is_hit: bool = False
        self.is_changed: bool = False  #: ``data`` differs from what the header says
        self.rr_needaddr: bool = False  #: the slot before the pointer waits for the address we send from
        self.ts_needtime: bool = False
        self.ts_needaddr: bool = False

    def put(self, at: i64, value: i64) -> None:
        """Write 32 bits at header offset ``at``."""
        start = at - IP_HLEN
        self.data[start : start + 4] = int(value & 0xFFFF_FFFF).to_bytes(4, "big")
        self.is_changed = True

    def get(self, at: i64) -> i64:
        """The 32 bits at header offset ``at``."""
        return u32(bytes(self.data), at - IP_HLEN)


class _Compiler:
    """One walk over the options (__ip_options_compile). Every method answers where the fault is, or NO_PROBLEM."""

    def __init__(self, data: bytes, routing: Routing | None, spec_dst: i64, now: i64) -> None:
        """``routing`` is None for options that a user sets; ``spec_dst``: our address that the packet was sent to."""
        self.opt = IpOptions(data)
        self.routing: Routing | None = routing
        self.spec_dst: i64 = spec_dst
        self.now: i64 = now
        self.takes_any: bool = routing is not None  #: options that we do not know, too
        self.is_echo: bool = False  #: for an answer: an option that is full goes along as it is

    def run(self) -> i64:
        data = self.opt.data
        at: i64 = 0
        end: i64 = len(data)
        while at < end:
            kind = data[at]
            if kind == IPOPT_END:
                return self._end(at)
            if kind == IPOPT_NOOP:
                at += 1
                continue
            # a length of 0 or 1 would never end, one beyond the header reads what is not ours (CVE-2005-2577)
            if end - at < 2 or data[at + 1] < 2 or data[at + 1] > end - at:
                return IP_HLEN + at
            fault = self._option(kind, at, data[at + 1])
            if fault != NO_PROBLEM:
                return fault
            at += data[at + 1]
        return NO_PROBLEM

    def _end(self, at: i64) -> i64:
        """RFC 791: the rest is padding; what hides there must not travel on."""
        rest = self.opt.data[at:]
        if any(rest):
            self.opt.data[at:] = bytes(len(rest))
            self.opt.is_changed = True
        return NO_PROBLEM

    def _option(self, kind: i64, at: i64, length: i64) -> i64:
        if kind == IPOPT_SSRR or kind == IPOPT_LSRR:
            return self._source_route(at, length)
        if kind == IPOPT_RR:
            return self._record_route(at, length)
        if kind == IPOPT_TIMESTAMP:
            return self._timestamp(at, length)
        if kind == IPOPT_RA:
            if length < 4:
                return IP_HLEN + at + 1
            if self.opt.data[at + 2] == 0 and self.opt.data[at + 3] == 0:
                self.opt.router_alert = IP_HLEN + at
            return NO_PROBLEM
        # RFC 1122 3.2.1.8: "MUST silently ignore the options they do not understand"; not every user may send them
        return NO_PROBLEM if self.takes_any else IP_HLEN + at

    def _source_route(self, at: i64, length: i64) -> i64:
        opt = self.opt
        where = IP_HLEN + at
        # RFC 1812 5.2.4.1: a datagram with more than one source route option is wrong
        fault = self._shape(at, length, 3, 4, opt.srr != 0)
        if fault != NO_PROBLEM:
            return fault
        if self.routing is None:
            if opt.data[at + 2] != 4 or length < 7 or (length - 3) & 3:
                return where + 1
            # the header's destination is the first hop; the last place is for the true destination (ip_options_build)
            opt.faddr = opt.get(where + 3)
            opt.data[at + 3 : at + length - 4] = opt.data[at + 7 : at + length]
        opt.is_strictroute = opt.data[at] == IPOPT_SSRR
        opt.srr = where
        return NO_PROBLEM

    def _shape(self, at: i64, length: i64, least: i64, first_pointer: i64, seen: bool) -> i64:
        """What options with a pointer have in common."""
        if seen:
            return IP_HLEN + at
        if length < least:
            return IP_HLEN + at + 1
        return IP_HLEN + at + 2 if self.opt.data[at + 2] < first_pointer else NO_PROBLEM

    def _record_route(self, at: i64, length: i64) -> i64:
        opt = self.opt
        fault = self._shape(at, length, 3, 4, opt.rr != 0)
        if fault != NO_PROBLEM:
            return fault
        pointer: i64 = opt.data[at + 2]
        if pointer <= length:
            if pointer + 3 > length:
                return IP_HLEN + at + 2
            if self.routing is not None:
                opt.put(IP_HLEN + at + pointer - 1, self.spec_dst)
            opt.data[at + 2] = pointer + 4
            opt.rr_needaddr = True
        opt.rr = IP_HLEN + at
        return NO_PROBLEM

    def _timestamp(self, at: i64, length: i64) -> i64:
        opt = self.opt
        fault = self._shape(at, length, 4, 5, opt.ts != 0)
        if fault != NO_PROBLEM:
            return fault
        flags: i64 = opt.data[at + 3]
        if opt.data[at + 2] <= length:
            fault = self._stamp(at, length, flags & 0xF)
        elif flags & 0xF != IPOPT_TS_PRESPEC and not self.is_echo:
            # RFC 791: "the number of IP modules that cannot register timestamps due to lack of space"
            if flags >> 4 == 15:
                return IP_HLEN + at + 3
            if self.routing is not None:
                opt.data[at + 3] = flags + 0x10
                opt.is_changed = True
        if fault == NO_PROBLEM:
            opt.ts = IP_HLEN + at
        return fault

    def _stamp(self, at: i64, length: i64, kind: i64) -> i64:
        """There is room for one more time, with or without an address."""
        opt = self.opt
        pointer: i64 = opt.data[at + 2]
        slot = IP_HLEN + at + pointer - 1
        needed: i64 = 7 if kind == IPOPT_TS_TSANDADDR or kind == IPOPT_TS_PRESPEC else 3
        if pointer + needed > length:
            return IP_HLEN + at + 2
        routing = self.routing
        if kind == IPOPT_TS_TSONLY:
            if routing is not None:
                opt.put(slot, timestamp(self.now))
        elif kind == IPOPT_TS_TSANDADDR:
            if routing is not None:
                opt.put(slot, self.spec_dst)
                opt.put(slot + 4, timestamp(self.now))
            opt.ts_needaddr = True
        elif kind == IPOPT_TS_PRESPEC:
            if routing is None or routing.inet_addr_type(opt.get(slot)) == RTN_UNICAST:
                return NO_PROBLEM  # somebody else's turn
            opt.put(slot + 4, timestamp(self.now))
        else:
            return NO_PROBLEM if self.takes_any else IP_HLEN + at + 3
        opt.data[at + 2] = pointer + (4 if needed == 3 else 8)
        opt.ts_needtime = True
        return NO_PROBLEM


def timestamp(now: i64) -> i64:
    """A time for the option: milliseconds of the stack's own clock (inet_current_timestamp)."""
    return (now // NSEC_PER_MSEC) & 0x7FFF_FFFF | _NON_STANDARD_TIME


def ip_options_compile(data: bytes, routing: Routing, spec_dst: i64, now: i64) -> IpOptions:
    """Check a received header's options and fill in what asks for us; look at ``pp_ptr`` before anything else."""
    compiler = _Compiler(data, routing, spec_dst, now)
    compiler.opt.pp_ptr = compiler.run()
    return compiler.opt


def ip_options_get(data: bytes, raw: bool = False) -> IpOptions:
    """What a user sets with IP_OPTIONS, ready for ip_options_build (ip_options_get). Raises EINVAL.

    ``raw``: he has CAP_NET_RAW, and may send options that nobody knows.
    """
    if len(data) > IP_MAX_OPTIONS:
        raise error(errno.EINVAL)
    compiler = _Compiler(ipv4.padded(data), None, 0, 0)
    compiler.takes_any = raw
    if compiler.run() != NO_PROBLEM:
        raise error(errno.EINVAL)
    return compiler.opt


def ip_options_build(opt: IpOptions, daddr: i64, source: i64, now: i64) -> bytes:
    """The bytes for a header of ours: ``daddr`` is the true destination, ``source`` the address we send from."""
    out = IpOptions(bytes(opt.data))
    data = out.data
    if opt.srr:
        out.put(opt.srr + data[opt.srr - IP_HLEN + 1] - 4, daddr)
    if opt.rr_needaddr:
        out.put(opt.rr + data[opt.rr - IP_HLEN + 2] - 5, source)
    if opt.ts_needaddr:
        out.put(opt.ts + data[opt.ts - IP_HLEN + 2] - 9, source)
    if opt.ts_needtime:
        out.put(opt.ts + data[opt.ts - IP_HLEN + 2] - 5, timestamp(now))
    return bytes(data)


def ip_options_echo(opt: IpOptions, routing: Routing) -> IpOptions:
    """Options for the answer to a packet with ``opt``: routes and times go on being recorded (__ip_options_echo).

    With a ``pp_ptr`` there is to be no answer: the options have a place left that is too small for what goes there.
    A source route is not reversed: whoever forges one would steer our answer (CVE-2021-31344).
    """
    # RFC 1122 3.2.2.6: "If a Record Route and/or Timestamp option is received in an ICMP Echo Request, this option
    # (these options) SHOULD be updated to include the current host and included in the IP header of the Echo Reply"
    data = b""
    for where in (opt.rr, opt.ts):
        if where:
            start = where - IP_HLEN
            data += bytes(opt.data[start : start + opt.data[start + 1]])
    echo = _Compiler(ipv4.padded(data), None, 0, 0)
    echo.is_echo = True
    fault = echo.run()
    if fault != NO_PROBLEM:
        refused = IpOptions(b"")
        refused.pp_ptr = fault
        return refused
    return echo.opt


def ip_options_fragment(options: bytes) -> bytes:
    """The options of every fragment but the first: what is not to be copied becomes no-operations.

    RFC 791: "The copied flag indicates that this option is copied into all fragments on fragmentation."
    """
    data = bytearray(options)
    at: i64 = 0
    end: i64 = len(data)
    while at < end and data[at] != IPOPT_END:
        if data[at] == IPOPT_NOOP:
            at += 1
            continue
        length: i64 = data[at + 1] if at + 1 < end else 0
        if length < 2 or length > end - at:
            break
        if data[at] & IPOPT_COPY == 0:
            data[at : at + length] = bytes((IPOPT_NOOP,)) * int(length)
        at += length
    return bytes(data)


def ip_options_rcv_srr(packet: Packet, iph: Ipv4Header, opt: IpOptions, routing: Routing) -> i64:
    """A source route that we accept: where does it lead from here? (ip_options_rcv_srr)

    0: go on with ``packet.dst``; -1: drop; else the header offset to complain about.
    """
    dst = packet.dst
    if packet.pkt_type != 0 or dst is None:
        return -1
    if dst.rt_type == RTN_UNICAST:
        # RFC 1812 5.2.4.1: not at us, and strict: the route was not followed
        return 16 if opt.is_strictroute else 0
    if dst.rt_type != RTN_LOCAL:
        return -1
    at = opt.srr - IP_HLEN
    pointer: i64 = opt.data[at + 2]
    length: i64 = opt.data[at + 1]
    while pointer <= length:
        if pointer + 3 > length:
            return opt.srr + 2
        nexthop = opt.get(opt.srr + pointer - 1)
        rt_type = _route_hop(packet, iph, nexthop, routing)
        if rt_type == RTN_UNICAST:
            opt.nexthop = nexthop
            opt.srr_is_hit = True
            return 0
        if rt_type != RTN_LOCAL:
            return -1
        # "Superfast 8) loopback forward": the hop is ourselves as well
        iph.daddr = nexthop
        start = iph.start + 16
        packet.buf = b"".join((packet.buf[:start], int(nexthop).to_bytes(4, "big"), packet.buf[start + 4 :]))
        opt.is_changed = True
        pointer += 4
    return 0


def _route_hop(packet: Packet, iph: Ipv4Header, hop: i64, routing: Routing) -> i64:
    """Let ``packet`` go by ``hop``: RTN_*, RTN_UNSPEC where no way leads there."""
    came_to = iph.daddr
    iph.daddr = hop
    reason = routing.ip_route_input(packet)
    iph.daddr = came_to
    return RTN_UNSPEC if reason is not None or packet.dst is None else packet.dst.rt_type


def ip_forward_options(packet: Packet, iph: Ipv4Header, opt: IpOptions, routing: Routing, net: Net) -> None:
    """Put the address we send from where the options ask for it, in a packet that leaves (ip_forward_options)."""
    dst = packet.dst
    if dst is None:
        return
    source = routing.ip_rt_get_source(packet, dst)
    data = opt.data
    if opt.rr_needaddr:
        opt.put(opt.rr + data[opt.rr - IP_HLEN + 2] - 5, source)
    if opt.srr_is_hit:
        at = opt.srr - IP_HLEN
        iph.daddr = opt.nexthop
        opt.put(opt.srr + data[at + 2] - 1, source)
        data[at + 2] += 4
        if opt.ts_needaddr:
            # only then, as in Linux: who is on no source route tells where it came in
            opt.put(opt.ts + data[opt.ts - IP_HLEN + 2] - 9, source)
    if opt.is_changed:
        write_options(packet, iph, opt)


def write_options(packet: Packet, iph: Ipv4Header, opt: IpOptions) -> None:
    """Write the header of ``packet`` anew with ``opt`` and what ``iph`` says; the offsets stay."""
    out = BytesWriter()
    out.write(packet.buf[: iph.start])
    ipv4.emit(
        out,
        iph.tos,
        iph.total_len,
        iph.ident,
        iph.frag_off,
        iph.ttl,
        iph.protocol,
        iph.saddr,
        iph.daddr,
        bytes(opt.data),
    )
    out.write(packet.buf[iph.start + iph.header_len :])
    packet.buf = out.getvalue()
    opt.is_changed = False
