"""A SYN with a Fast Open cookie, and data (RFC 7413 section 4.2; Linux tcp_send_syn_data, tcp_fastopen_cookie_check).

The first connection to a server asks for a cookie; later ones show it, with data in the SYN. A SYN that is lost goes
again bare. A network that swallows such SYNs, or what follows them, stops all Fast Open of this stack for a while, if
tcp_fastopen_blackhole_timeout_sec says for how long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.routing.uapi import RTAX_FASTOPEN_NO_COOKIE
from ustack.tcp.chrono import tcp_chrono_start
from ustack.tcp.control import TCP_CHRONO_BUSY, TFO_CLIENT_NO_COOKIE, TcpControl
from ustack.tcp.mss import tcp_mtu_to_mss, tcp_sync_mss
from ustack.tcp.segment import SKB_OVERHEAD, TcpSkb
from ustack.tcp.transmit import tcp_transmit_skb
from ustack.timer import NSEC_PER_SEC
from ustack.trace.points import Point
from ustack.wire.tcp import TCP_MAX_OPTIONS, TCPHDR_ACK, TCPHDR_PSH

if TYPE_CHECKING:
    from ustack.packet import Buffer

# fastopen_client_fail (tcp_info)
TFO_STATUS_UNSPEC: Final = 0
TFO_COOKIE_UNAVAILABLE: Final = 1
TFO_DATA_NOT_ACKED: Final = 2
TFO_SYN_RETRANSMITTED: Final = 3
#: A pause doubles with each black hole, so often at most.
MAX_DISABLE_SHIFT: Final[i64] = 6


def tcp_send_syn_data(tp: TcpControl, syn: TcpSkb) -> None:
    """Send ``syn``, which is in the retransmission queue already, with what a cookie allows; else ask for a cookie.

    The data goes into the queue as a segment of its own: what the peer does not take of it is sent again as such.
    """
    tp.mss_clamp = tp.advmss
    data = tp.fastopen_data
    tp.fastopen_data = None
    if not tcp_fastopen_cookie_check(tp):
        if tp.fastopen_cookie:
            tp.fastopen_cookie = b""
        tcp_transmit_skb(tp, syn)
    elif not data or not send_with_data(tp, syn, data):
        tcp_transmit_skb(tp, syn)
    tp.fastopen_cookie = None  # not again when the SYN is


def send_with_data(tp: TcpControl, syn: TcpSkb, data: Buffer) -> bool:
    """One segment of SYN, cookie and as much of ``data`` as fits; False if none does.

    "Reserve maximum option space": a middle box may add options of its own.
    """
    if tp.user_mss:
        tp.mss_clamp = min(tp.mss_clamp, tp.user_mss)
    tcp_sync_mss(tp, tp.pmtu)
    space = min(tcp_mtu_to_mss(tp, tp.pmtu) + (tp.tcp_header_len - 20) - TCP_MAX_OPTIONS, len(data))
    if space <= 0:
        return False
    both = TcpSkb(syn.seq, syn.flags)
    both.append(memoryview(data)[:space], space)
    tcp_chrono_start(tp, TCP_CHRONO_BUSY)
    tp.packets_out += 1
    if tp.net.tracer is not None:
        tp.net.tracer.note(Point.TCP_SEND_SYN_DATA, "data with the SYN", {"length": int(space)})
    tcp_transmit_skb(tp, both)
    syn.sent_at = both.sent_at
    both.seq = (both.seq + 1) & 0xFFFF_FFFF
    both.flags = TCPHDR_ACK | TCPHDR_PSH
    tp.in_flight().append(both)
    tp.wmem_queued += space + SKB_OVERHEAD
    tp.write_seq = both.end_seq
    tp.syn_data = True
    tp.net.mib.tcpext.TCPOrigDataSent += 1
    return True


# -- the cookie


def tcp_fastopen_cookie_check(tp: TcpControl) -> bool:
    """Choose the SYN's option and the MSS to reckon with; True if data may go with it."""
    known = tp.tables.metrics.lookup(tp.saddr, tp.daddr)
    tp.fastopen_cookie = b""
    tp.fastopen_exp = False
    if known is not None:
        tp.mss_clamp = known.mss or tp.mss_clamp
        tp.fastopen_cookie = known.cookie
        tp.fastopen_exp = known.exp if known.cookie else known.try_exp == 1
    if tcp_fastopen_active_should_disable(tp):
        tp.fastopen_cookie = None
        return False
    if tcp_fastopen_no_cookie(tp):
        tp.fastopen_cookie = None
        return True
    if tp.fastopen_cookie:
        return True
    tp.fastopen_client_fail = TFO_COOKIE_UNAVAILABLE
    return False


def tcp_fastopen_no_cookie(tp: TcpControl) -> bool:
    """True where data needs none: the sysctl, the socket or the route says so."""
    if tp.net.sysctl.tcp_fastopen & TFO_CLIENT_NO_COOKIE or tp.fastopen_no_cookie:
        return True
    return tp.route_metric(RTAX_FASTOPEN_NO_COOKIE) != 0


def tcp_fastopen_defer_connect(tp: TcpControl) -> bool:
    """TCP_FASTOPEN_CONNECT: True if the SYN shall wait for the data that may go with it."""
    if not tp.fastopen_connect or tp.fastopen_req:
        return False
    if tcp_fastopen_cookie_check(tp):
        tp.defer_connect = True
        return True
    tp.fastopen_req = True  # a cookie for next time
    return False


# -- black holes


def tcp_fastopen_active_disable(tp: TcpControl) -> None:
    """Something on the way does not like Fast Open: none for a while, longer each time in a row."""
    tables = tp.tables
    if tp.net.sysctl.tcp_fastopen_blackhole_timeout_sec:
        tables.tfo_active_disable_stamp = tp.net.now
        tables.tfo_active_disable_times += 1
        tp.net.mib.tcpext.TCPFastOpenBlackhole += 1


def tcp_fastopen_active_should_disable(tp: TcpControl) -> bool:
    """True while the pause lasts. The first connection after it may show that all is well."""
    tables = tp.tables
    pause = tp.net.sysctl.tcp_fastopen_blackhole_timeout_sec * NSEC_PER_SEC
    if pause == 0 or tables.tfo_active_disable_times == 0:
        return False
    shift = min(tables.tfo_active_disable_times - 1, MAX_DISABLE_SHIFT)
    if tp.net.now < tables.tfo_active_disable_stamp + (pause << shift):
        return True
    tp.syn_fastopen_ch = True
    return False


def tcp_fastopen_active_disable_ofo_check(tp: TcpControl) -> None:
    """The end of a connection: a FIN alone, beyond data that never came, was a black hole; data that came was none."""
    if not tp.syn_fastopen:
        return
    if tp.data_segs_in == 0:
        if tp.ofo is not None and len(tp.ofo) == 1 and tp.ofo.segments[0].fin:
            tcp_fastopen_active_disable(tp)
    elif tp.syn_fastopen_ch and tp.tables.tfo_active_disable_times:
        dst = tp.dst_cache
        if dst is None or not dst.local:
            tp.tables.tfo_active_disable_times = 0


def tcp_fastopen_active_detect_blackhole(tp: TcpControl, expired: bool) -> None:
    """The third timeout in a row during or after such a handshake, or the last one there will be."""
    if tp.syn_fastopen or tp.syn_data or tp.syn_data_acked:
        if tp.retransmits == 2 or (tp.retransmits < 2 and expired):
            tcp_fastopen_active_disable(tp)
