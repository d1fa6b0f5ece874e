"""Path MTU discovery without ICMP (RFC 4821; Linux tcp_mtu_probe, tcp_mtup_probe_success, tcp_mtu_probing).

Between what is known to get through (search_low) and what the peer takes (search_high) lies the path's MTU. Now and
then a segment is sent that is larger than the others; whether it arrives halves the interval. Where large segments
vanish without a word (a black hole), the timer turns probing on, and the segments small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.tcp.control import TCP_CA_OPEN, TcpControl
from ustack.tcp.cwnd import tcp_current_ssthresh
from ustack.tcp.mss import HEADERS, tcp_current_mss, tcp_mss_to_mtu, tcp_mtu_to_mss, tcp_sync_mss
from ustack.tcp.pacing import tcp_pacing_check
from ustack.tcp.segment import SKB_OVERHEAD, TcpSkb
from ustack.tcp.sent import tcp_event_new_data_sent
from ustack.tcp.seq import after, distance
from ustack.tcp.transmit import tcp_transmit_skb
from ustack.timer import NSEC_PER_SEC
from ustack.trace.points import Point
from ustack.wire.tcp import TCPHDR_ACK, TCPHDR_FIN, TCPHDR_PSH

if TYPE_CHECKING:
    from collections import deque

    from ustack.trace.journey import Facts

#: What tcp_mtu_probe found.
PROBE_NONE: Final[i64] = -1  #: nothing to probe: send as usual
PROBE_WAIT: Final[i64] = 0  #: wait until there is room for a probe
PROBE_SENT: Final[i64] = 1
#: A window below this could not afford to lose a probe.
PROBE_MIN_CWND: Final[i64] = 11


def tcp_mtu_probe(tp: TcpControl) -> i64:
    """Send a probe if it is time for one: PROBE_NONE, PROBE_WAIT or PROBE_SENT.

    RFC 4821 section 7.4: with no probe outstanding and nothing lost, with enough data, and with a window that has room
    for the probe and for the segments after it that tell of its loss.
    """
    if not tp.mtup_enabled or tp.mtup_probe_size or tp.ca_state != TCP_CA_OPEN or tp.snd_cwnd < PROBE_MIN_CWND:
        return PROBE_NONE
    if tp.selective_acks or tp.duplicate_sack is not None:
        return PROBE_NONE  # headers that vary are no measure
    size = tcp_mtu_to_mss(tp, (tp.mtup_search_high + tp.mtup_search_low) >> 1)
    interval = tp.mtup_search_high - tp.mtup_search_low
    if size > tcp_mtu_to_mss(tp, tp.mtup_search_high) or interval < max(1, tp.net.sysctl.tcp_probe_threshold):
        tcp_mtu_check_reprobe(tp)
        return PROBE_NONE
    mss = tcp_current_mss(tp)
    needed = size + (tp.reordering + 1) * mss
    if distance(tp.snd_nxt, tp.write_seq) < needed or tp.snd_wnd < needed:
        return PROBE_NONE
    if after((tp.snd_nxt + needed) & 0xFFFF_FFFF, tp.tcp_wnd_end()):
        return PROBE_WAIT
    in_flight = tp.tcp_packets_in_flight()
    if in_flight + 2 > tp.snd_cwnd:
        return PROBE_NONE if in_flight == 0 else PROBE_WAIT
    queue = tp.writes()
    if not tcp_can_coalesce_send_queue_head(queue, size) or tcp_pacing_check(tp):
        return PROBE_NONE
    return send_probe(tp, join_head(tp, queue, size, mss), mss)


def tcp_can_coalesce_send_queue_head(queue: deque[TcpSkb], size: i64) -> bool:
    """True if no record ends (MSG_EOR) within the first ``size`` bytes."""
    left = size
    for skb in queue:
        if left <= skb.len:
            return True
        if skb.eor:
            return False
        left -= skb.len
    return False


def join_head(tp: TcpControl, queue: deque[TcpSkb], size: i64, mss: i64) -> TcpSkb:
    """Take the first ``size`` bytes off the write queue and put them before it again as one skb."""
    probe = TcpSkb(queue[0].seq, TCPHDR_ACK)
    tp.wmem_queued += SKB_OVERHEAD
    while probe.len < size:
        skb = queue[0]
        wanted = size - probe.len
        if skb.len > wanted:
            rest = skb.split(wanted, mss)
            queue[0] = rest
            probe.flags |= skb.flags & ~(TCPHDR_FIN | TCPHDR_PSH)
        else:
            queue.popleft()
            tp.wmem_queued -= SKB_OVERHEAD
            probe.flags |= skb.flags
            probe.eor = skb.eor
        probe.pieces += skb.pieces
        probe.len += skb.len
        probe.end_seq = skb.end_seq
    queue.appendleft(probe)
    return probe


def send_probe(tp: TcpControl, probe: TcpSkb, mss: i64) -> i64:
    """Send it as it is: one datagram, not cut to the size of the others."""
    if tp.net.tracer is not None:
        facts: Facts = {"mtu": int(tcp_mss_to_mtu(tp, probe.len)), "low": int(tp.mtup_search_low)}
        tp.net.tracer.note(Point.TCP_MTU_PROBE, "", {**facts, "high": int(tp.mtup_search_high)})
    code = tcp_transmit_skb(tp, probe)
    if code:
        return PROBE_NONE
    tp.snd_cwnd -= 1  # it is two segments' worth
    tcp_event_new_data_sent(tp, probe, mss)
    tp.mtup_probe_size = tcp_mss_to_mtu(tp, probe.len)
    tp.mtu_probe_seq_start = probe.seq
    tp.mtu_probe_seq_end = probe.end_seq
    return PROBE_SENT


def tcp_mtu_check_reprobe(tp: TcpControl) -> None:
    """The search is over; paths change, so it begins again after tcp_probe_interval (RFC 4821 section 7.2)."""
    if tp.net.now - tp.mtup_probe_timestamp >= tp.net.sysctl.tcp_probe_interval * NSEC_PER_SEC:
        mss = tcp_current_mss(tp)
        tp.mtup_probe_size = 0
        tp.mtup_search_high = tp.mss_clamp + HEADERS
        tp.mtup_search_low = tcp_mss_to_mtu(tp, mss)
        tp.mtup_probe_timestamp = tp.net.now


def tcp_mtup_probe_success(tp: TcpControl) -> None:
    """The probe has arrived: its size is what is known to get through, and cwnd counts larger segments from now on."""
    tp.prior_ssthresh = tcp_current_ssthresh(tp)
    tp.snd_cwnd = max(1, tp.snd_cwnd * tcp_mss_to_mtu(tp, tp.mss_cache) // tp.mtup_probe_size)
    tp.snd_cwnd_cnt = 0
    tp.snd_cwnd_stamp = tp.net.now
    tp.snd_ssthresh = tcp_current_ssthresh(tp)
    tp.mtup_search_low = tp.mtup_probe_size
    tp.mtup_probe_size = 0
    tcp_sync_mss(tp, tp.pmtu)
    tp.net.mib.tcpext.TCPMTUPSuccess += 1


def tcp_mtup_probe_failed(tp: TcpControl) -> None:
    """The probe was lost, and what came after it was not: that is no congestion (RFC 4821 section 7.7)."""
    tp.mtup_search_high = tp.mtup_probe_size - 1
    tp.mtup_probe_size = 0
    tp.net.mib.tcpext.TCPMTUPFail += 1


def tcp_mtu_probing(tp: TcpControl) -> None:
    """Timeouts in a row, R1 reached: a black hole perhaps (RFC 4821 section 7.7, RFC 2923 section 2.1).

    Probing begins, with it smaller segments; if it was on already they become smaller still.
    """
    sysctl = tp.net.sysctl
    if sysctl.tcp_mtu_probing == 0:
        return
    if not tp.mtup_enabled:
        tp.mtup_enabled = True
        tp.mtup_probe_timestamp = tp.net.now
    else:
        mss = min(sysctl.tcp_base_mss, tcp_mtu_to_mss(tp, tp.mtup_search_low) >> 1)
        mss = max(mss, sysctl.tcp_mtu_probe_floor, sysctl.tcp_min_snd_mss)
        tp.mtup_search_low = tcp_mss_to_mtu(tp, mss)
    tcp_sync_mss(tp, tp.pmtu)
