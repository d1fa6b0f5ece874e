"""SYN cookies: a handshake that nothing is remembered of (RFC 4987 section 3.6; Linux net/ipv4/syncookies.c).

While the queue of half-open connections is full, the SYN-ACK's sequence number says all that is needed later: a keyed
hash of the four-tuple and the peer's ISN, the minute, and which MSS. What else was agreed on goes into the low bits of
the SYN-ACK's timestamp, which the handshake's ACK echoes; without timestamps there is no scaling and no SACK.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.entropy import keyed_hash
from ustack.routing.metrics import RTAX_FEATURE_ECN
from ustack.routing.uapi import RTAX_FEATURES
from ustack.tcp.mini import tcp_parse_handshake
from ustack.tcp.request import RequestSock, inet_csk_route_req
from ustack.timer import NSEC_PER_MSEC, NSEC_PER_SEC
from ustack.trace.points import Point
from ustack.wire import tcp as wire
from ustack.wire.tcp import TCPHDR_ACK, TCPHDR_RST, TCPHDR_SYN, TcpHeader

if TYPE_CHECKING:
    from ustack.dst import Dst
    from ustack.packet import Packet
    from ustack.tcp.control import TcpControl
    from ustack.tcp.tables import TcpTables
    from ustack.wire.ipv4 import Ipv4Header

COOKIEBITS: Final[i64] = 24
COOKIEMASK: Final[i64] = (1 << COOKIEBITS) - 1
#: Minutes that a cookie is good for: this one and the last.
MAX_SYNCOOKIE_AGE: Final[i64] = 2
TCP_SYNCOOKIE_PERIOD: Final[i64] = 60 * NSEC_PER_SEC
TCP_SYNCOOKIE_VALID: Final[i64] = MAX_SYNCOOKIE_AGE * TCP_SYNCOOKIE_PERIOD
#: What an MSS is rounded down to, in two bits' worth of values.
MSSTAB: Final = (536, 1300, 1440, 1460)

# the low bits of the timestamp
TSBITS: Final[i64] = 6
TS_OPT_WSCALE_MASK: Final[i64] = 0xF  #: all ones: no scaling
TS_OPT_SACK: Final[i64] = 1 << 4
TS_OPT_ECN: Final[i64] = 1 << 5


def tcp_synq_overflow(listener: TcpControl) -> None:
    """Remember that cookies go out; once a second is often enough."""
    now = listener.net.now
    if listener.synq_overflow == 0 or not 0 <= now - listener.synq_overflow <= NSEC_PER_SEC:
        listener.synq_overflow = max(now, 1)


def tcp_synq_no_recent_overflow(listener: TcpControl) -> bool:
    """True if no cookie can be underway: whoever comes with one has guessed it (CVE-2001-0851)."""
    last = listener.synq_overflow
    return last == 0 or not -NSEC_PER_SEC <= listener.net.now - last <= TCP_SYNCOOKIE_VALID


# -- the sequence number


def cookie_hash(tables: TcpTables, iph: Ipv4Header, th: TcpHeader, count: i64, which: i64) -> i64:
    message = b"%d %d %d %d %d" % (iph.saddr, iph.daddr, th.sport, th.dport, count)
    return keyed_hash(tables.syncookie_secret[which], message) & 0xFFFF_FFFF


def cookie_v4_init_sequence(listener: TcpControl, iph: Ipv4Header, th: TcpHeader, req: RequestSock) -> i64:
    """The ISN that says it all; ``req.mss`` becomes what it says of the MSS (secure_tcp_syn_cookie)."""
    tables = listener.tables
    data: i64 = len(MSSTAB) - 1
    while data and req.mss < MSSTAB[data]:
        data -= 1
    req.mss = MSSTAB[data]
    tcp_synq_overflow(listener)
    listener.net.mib.tcpext.SyncookiesSent += 1
    count = listener.net.now // TCP_SYNCOOKIE_PERIOD
    first = cookie_hash(tables, iph, th, 0, 0)
    second = (cookie_hash(tables, iph, th, count, 1) + data) & COOKIEMASK
    return (first + th.seq + (count << COOKIEBITS) + second) & 0xFFFF_FFFF


def cookie_v4_check_sequence(tables: TcpTables, iph: Ipv4Header, th: TcpHeader) -> i64:
    """The MSS that the ACK's cookie says, 0 if it is none, or too old (__cookie_v4_check)."""
    count = tables.net.now // TCP_SYNCOOKIE_PERIOD
    rest: i64 = (th.ack_seq - 1 - cookie_hash(tables, iph, th, 0, 0) - (th.seq - 1)) & 0xFFFF_FFFF
    age: i64 = (count - (rest >> COOKIEBITS)) & (0xFFFF_FFFF >> COOKIEBITS)
    if age >= MAX_SYNCOOKIE_AGE:
        return 0
    data: i64 = (rest - cookie_hash(tables, iph, th, count - age, 1)) & COOKIEMASK
    return MSSTAB[data] if data < len(MSSTAB) else 0


# -- the timestamp


def cookie_init_timestamp(req: RequestSock, now: i64) -> i64:
    """The clock of a SYN-ACK with a cookie (ms, without the offset): at most 64 ms slow, its low bits the options."""
    options = req.snd_wscale if req.wscale_ok else TS_OPT_WSCALE_MASK
    if req.sack_ok:
        options |= TS_OPT_SACK
    if req.ecn_ok:
        options |= TS_OPT_ECN
    clock = now // NSEC_PER_MSEC
    stamp = clock >> TSBITS << TSBITS | options
    return stamp if stamp <= clock else stamp - (i64(1) << TSBITS)


def cookie_timestamp_decode(req: RequestSock, options: wire.TcpOptions, offset: i64) -> bool:
    """Take back what the echoed timestamp says into ``options``; False for what we cannot have offered."""
    sysctl = req.tables.net.sysctl
    options.wscale = wire.NO_WSCALE
    options.sack_ok = False
    if not options.saw_tstamp:
        return True
    said: i64 = (options.tsecr - offset) & 0xFFFF_FFFF
    options.sack_ok = said & TS_OPT_SACK != 0
    if options.sack_ok and sysctl.tcp_sack == 0:
        return False
    req.ecn_ok = said & TS_OPT_ECN != 0
    if said & TS_OPT_WSCALE_MASK == TS_OPT_WSCALE_MASK:
        return True
    options.wscale = said & TS_OPT_WSCALE_MASK
    return options.wscale <= wire.TCP_MAX_WSCALE and sysctl.tcp_window_scaling != 0


def cookie_ecn_ok(req: RequestSock, dst: Dst) -> bool:
    return req.tables.net.sysctl.tcp_ecn != 0 or dst.metric(RTAX_FEATURES) & RTAX_FEATURE_ECN != 0


# -- the handshake's ACK


def cookie_v4_check(listener: TcpControl, packet: Packet, th: TcpHeader) -> RequestSock | None:
    """The request that a SYN-ACK with a cookie did without, as the ACK tells of it; None if there was none.

    ``packet``: for a listener, known neither as a connection nor as a request.
    """
    net = listener.net
    iph = packet.iph
    assert iph is not None
    if th.flags & (TCPHDR_ACK | TCPHDR_RST | TCPHDR_SYN) != TCPHDR_ACK or net.sysctl.tcp_syncookies == 0:
        return None
    if tcp_synq_no_recent_overflow(listener):
        return None
    mss = cookie_v4_check_sequence(listener.tables, iph, th)
    if packet.journey is not None:
        packet.journey.step(
            Point.COOKIE_V4_CHECK, "a cookie of ours" if mss else "none of our cookies", {"mss": int(mss)}
        )
    if mss == 0:
        net.mib.tcpext.SyncookiesFailed += 1
        return None
    net.mib.tcpext.SyncookiesRecv += 1
    options = tcp_parse_handshake(net, packet, th)
    options.mss = mss
    dst = inet_csk_route_req(listener, packet, iph, th)
    if dst is None:
        return None
    irs: i64 = (th.seq - 1) & 0xFFFF_FFFF
    req = RequestSock(listener, packet, th, dst, irs, (th.ack_seq - 1) & 0xFFFF_FFFF)
    req.sent_at = 0
    if not cookie_timestamp_decode(req, options, req.tsoffset):
        return None
    req.take_options(options)
    req.ecn_ok = req.ecn_ok and cookie_ecn_ok(req, dst)
    return req
