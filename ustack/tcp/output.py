"""What is sent when: Nagle, the windows, super-segments, retransmission (Linux net/ipv4/tcp_output.c)."""

from __future__ import annotations

import errno
from typing import Final

from mypy_extensions import i64

from ustack.sock import TCP_CLOSE
from ustack.tcp.control import (
    ICSK_TIME_PROBE0,
    ICSK_TIME_RETRANS,
    TCP_CA_LOSS,
    TCP_CA_RECOVERY,
    TCP_MSS_DEFAULT,
    TCP_NAGLE_CORK,
    TCP_NAGLE_OFF,
    TCP_NAGLE_PUSH,
    TIMESTAMP_LEN,
    TcpControl,
)
from ustack.tcp.rtt import rto_after_backoff, tcp_probe0_when
from ustack.tcp.segment import SKB_OVERHEAD, TCPCB_EVER_RETRANS, TCPCB_LOST, TCPCB_SACKED_RETRANS, TcpSkb
from ustack.tcp.seq import after, before, distance
from ustack.tcp.transmit import tcp_send_bare, tcp_transmit_skb
from ustack.timer import NSEC_PER_MSEC
from ustack.wire.tcp import TCPHDR_ACK, TCPHDR_FIN, TCPHDR_PSH, TCPHDR_SYN

#: No window makes segments smaller than an IPv4 datagram of 68 bytes holds (bytes, options not counted).
MIN_HALF_WINDOW: Final[i64] = 68 - 20
#: tcp_tso_win_divisor: a super-segment is worth sending when it fills a third of the window.
TSO_WIN_DIVISOR: Final[i64] = 3
#: Nor is any worth a pause longer than this after the last one (ns).
TSO_DEFER_MAX: Final[i64] = NSEC_PER_MSEC
#: Longest run of headers before the payload of a super-segment: IPv4 20 and TCP 60 (bytes).
MAX_TCP_HEADER: Final[i64] = 80
#: Answer of sendable_length: it could go, but is worth waiting for cwnd to let more go with it.
DEFERRED: Final[i64] = -2


def tcp_sync_mss(tp: TcpControl, pmtu: i64) -> i64:
    """Recompute the segment size from the path MTU, the peer's MSS and our options (tcp_sync_mss)."""
    mss = min(pmtu - 40, tp.mss_clamp)
    if tp.user_mss:
        mss = min(mss, tp.user_mss)
    mss = max(mss, tp.net.sysctl.tcp_min_snd_mss)
    if tp.tstamp_ok:
        mss -= TIMESTAMP_LEN
    # RFC 9293 3.8.6.2.1 (MUST-38): a window that is never larger than this must not wait for one that is: a segment
    # is at most half of the largest seen, or all of a tiny one (tcp_bound_to_half_wnd)
    cutoff = tp.max_window >> 1 if tp.max_window > TCP_MSS_DEFAULT else tp.max_window
    if cutoff and mss > cutoff:
        mss = max(cutoff, MIN_HALF_WINDOW)
    tp.pmtu = pmtu
    tp.mss_cache = mss
    return mss


def tcp_size_goal(tp: TcpControl) -> i64:
    """Bytes one skb should carry: as many full segments as the device cuts, at most half the largest window."""
    mss = tp.mss_cache
    gso_max = tp.dst_cache.dev.gso_max_size if tp.dst_cache is not None else mss
    goal = gso_max - 1 - MAX_TCP_HEADER
    if tp.max_window > 536:
        goal = min(goal, max(tp.max_window >> 1, mss))
    return max(goal // mss * mss, mss)


def tcp_push_pending_frames(tp: TcpControl) -> None:
    """Send what may be sent (__tcp_push_pending_frames)."""
    if tp.write_queue and tp.state != TCP_CLOSE:
        tcp_push(tp, tp.nonagle)


def tcp_push(tp: TcpControl, nonagle: i64) -> None:
    """Send what ``nonagle`` lets go; if nothing is in flight and all is stuck, arm the window probe."""
    if tcp_write_xmit(tp, nonagle):
        tcp_check_probe_timer(tp)


def tcp_check_probe_timer(tp: TcpControl) -> None:
    """With nothing in flight no ACK will come by itself: a closed window needs probing (RFC 9293 MUST-36)."""
    if tp.packets_out == 0 and tp.icsk_pending == 0:
        tp.reset_xmit_timer(ICSK_TIME_PROBE0, tcp_probe0_when(tp))


def tcp_write_xmit(tp: TcpControl, nonagle: i64) -> bool:
    """Send from the head of the write queue while windows and Nagle allow; True if all is stuck, nothing in flight."""
    queue = tp.writes()
    cwnd_limited = False
    sent = False
    while queue:
        skb = queue[0]
        skb.set_pcount(tp.mss_cache)
        quota = tp.snd_cwnd - tp.tcp_packets_in_flight()
        if quota <= 0:
            cwnd_limited = True
            break
        length = sendable_length(tp, skb, quota, len(queue) == 1, nonagle)
        if length < 0 or tcp_small_queue_check(tp):
            cwnd_limited = length == DEFERRED and quota * tp.mss_cache <= skb.len
            break
        if length < skb.len:
            queue.insert(1, tcp_fragment(tp, skb, length))
        tcp_transmit_skb(tp, skb)
        tcp_event_new_data_sent(tp, skb)
        sent = True
    cwnd_limited = cwnd_limited or tp.tcp_packets_in_flight() >= tp.snd_cwnd
    if sent or cwnd_limited:
        tcp_cwnd_validate(tp, cwnd_limited)
    return not sent and tp.packets_out == 0 and len(queue) > 0


def tcp_fragment(tp: TcpControl, skb: TcpSkb, length: i64) -> TcpSkb:
    """Cut ``skb`` after ``length`` bytes and charge for the second one, which is given back (tcp_fragment)."""
    tp.wmem_queued += SKB_OVERHEAD
    return skb.split(length, tp.mss_cache)


def tcp_small_queue_check(tp: TcpControl) -> bool:
    """True while the device has more than it can take: what waits here instead is neither dropped nor late news.

    TCP small queues: no connection fills the device's queue with what could as well wait in its own. It is
    resumed at the end of a batch, once the device's queue is empty (tcp_tsq_handler).
    """
    dst = tp.dst_cache
    if dst is None or dst.dev.queue.qlen == 0 or tp.packets_out == 0:
        return False
    if not tp.tsq_throttled:
        tp.tsq_throttled = True
        tp.tables.throttled.append(tp)
    return True


def tcp_tsq_handler(tp: TcpControl) -> None:
    """Send what waited for the device."""
    tp.tsq_throttled = False
    tcp_push_pending_frames(tp)


def sendable_length(tp: TcpControl, skb: TcpSkb, quota: i64, last: bool, nonagle: i64) -> i64:
    """How many bytes of ``skb`` may go now, negative for not even the first segment."""
    mss = tp.mss_cache
    room = distance(skb.seq, tp.tcp_wnd_end())
    if room > 0x7FFF_FFFF:
        room = 0
    if skb.len <= mss:
        if distance(skb.seq, skb.end_seq) > room or not tcp_nagle_test(tp, skb, last, nonagle):
            return -1
        return skb.len
    limit = min(quota * mss, room)
    if limit < mss:
        return -1
    if tcp_tso_should_defer(tp, skb, limit, last):
        return DEFERRED if quota * mss < room else -1
    if limit >= skb.len:
        # a small tail of a super-segment waits for Nagle like any other small segment
        tail = skb.len % mss
        if tail and last and not tcp_nagle_test(tp, skb, last, nonagle):
            return skb.len - tail
        return skb.len
    return limit // mss * mss


def tcp_nagle_test(tp: TcpControl, skb: TcpSkb, last: bool, nonagle: i64) -> bool:
    """True if Nagle lets it go (RFC 9293 SHLD-7; Minshall's variant: wait only while a small segment is in flight).

    Only the last skb of the queue can be small: what is followed by more is sent.
    """
    if not last or nonagle & TCP_NAGLE_PUSH or skb.flags & TCPHDR_FIN or skb.flags & TCPHDR_SYN:
        return True
    if skb.len >= tp.mss_cache and skb.len % tp.mss_cache == 0:
        return True
    if nonagle & TCP_NAGLE_CORK:
        return False
    if nonagle & TCP_NAGLE_OFF or tp.packets_out == 0:
        return True
    return not (after(tp.snd_sml, tp.snd_una) and not after(tp.snd_sml, tp.snd_nxt))


def tcp_tso_should_defer(tp: TcpControl, skb: TcpSkb, limit: i64, last: bool) -> bool:
    """True to wait for an ACK that lets a larger super-segment go (tcp_tso_should_defer)."""
    if skb.flags & TCPHDR_FIN or tp.ca_state >= TCP_CA_RECOVERY or tp.packets_out == 0:
        return False
    if tp.net.now - tp.lsndtime > TSO_DEFER_MAX or not ack_is_near(tp):
        return False
    if limit >= tcp_size_goal(tp) or (not last and limit >= skb.len):
        return False
    chunk = min(tp.snd_wnd, tp.snd_cwnd * tp.mss_cache) // TSO_WIN_DIVISOR
    return limit < chunk


def ack_is_near(tp: TcpControl) -> bool:
    """True if half a round trip or more has passed since the oldest segment in flight went out."""
    head = tp.rtx_head()
    return head is not None and tp.net.now - head.sent_at >= tp.srtt >> 1


def tcp_event_new_data_sent(tp: TcpControl, skb: TcpSkb) -> None:
    """``skb`` was sent for the first time: it moves to the retransmission queue."""
    tp.writes().popleft()
    tp.in_flight().append(skb)
    idle = tp.packets_out == 0
    tp.snd_nxt = skb.end_seq
    tp.packets_out += skb.pcount
    tp.net.mib.tcpext.TCPOrigDataSent += skb.pcount
    if skb.len < skb.pcount * tp.mss_cache:
        tp.snd_sml = skb.end_seq
    if idle:
        tcp_rearm_rto(tp)


def tcp_rearm_rto(tp: TcpControl) -> None:
    """RFC 6298 (5.1) to (5.3): running while data is in flight, off when all is acknowledged, restarted by new ACKs."""
    if tp.packets_out == 0:
        tp.clear_xmit_timer()
    else:
        tp.reset_xmit_timer(ICSK_TIME_RETRANS, rto_after_backoff(tp))


def tcp_cwnd_validate(tp: TcpControl, cwnd_limited: bool) -> None:
    """Remember how much of cwnd was in use in this round trip: an unused window must not grow (RFC 7661's concern)."""
    new_round = not before(tp.snd_una, tp.cwnd_usage_seq)
    if new_round or cwnd_limited or (not tp.is_cwnd_limited and tp.packets_out > tp.max_packets_out):
        tp.is_cwnd_limited = cwnd_limited
        tp.max_packets_out = tp.packets_out
        tp.cwnd_usage_seq = tp.snd_nxt


def tcp_cwnd_restart(tp: TcpControl) -> None:
    """RFC 5681 section 4.1: after an idle RTO "cwnd SHOULD be reduced to at most RW", halved once for each RTO idle."""
    idle = tp.net.now - tp.lsndtime
    if tp.packets_out or idle <= tp.rto:
        return
    restart = min(tp.init_cwnd(), tp.snd_cwnd)
    cwnd = tp.snd_cwnd
    if tp.ca_state != TCP_CA_RECOVERY:
        tp.snd_ssthresh = max(tp.snd_ssthresh, (cwnd >> 1) + (cwnd >> 2))
    while idle > tp.rto and cwnd > restart:
        idle -= tp.rto
        cwnd >>= 1
    tp.snd_cwnd = max(cwnd, restart)
    tp.max_packets_out = 0


# -- retransmission


def tcp_retransmit_skb(tp: TcpControl, skb: TcpSkb, segs: i64) -> i64:
    """Send ``skb`` again, its first ``segs`` segments; 0 or an errno, EAGAIN where the window has shrunk below it."""
    room = distance(skb.seq, tp.tcp_wnd_end())
    if room > 0x7FFF_FFFF:
        room = 0
    if room == 0 and skb.seq != tp.snd_una:
        return errno.EAGAIN
    limit = max(min(room, segs * tp.mss_cache), tp.mss_cache)
    if skb.len > limit:
        tcp_fragment_rtx(tp, skb, limit // tp.mss_cache * tp.mss_cache)
    first = tp.retrans_stamp == 0
    code = tcp_transmit_skb(tp, skb)
    mib = tp.net.mib
    if code:
        mib.tcpext.TCPRetransFail += 1
        return code
    mib.tcp.RetransSegs += skb.pcount
    if skb.flags & TCPHDR_SYN:
        mib.tcpext.TCPSynRetrans += 1
    if not skb.sacked & TCPCB_SACKED_RETRANS:
        tp.retrans_out += skb.pcount
    skb.sacked |= TCPCB_SACKED_RETRANS | TCPCB_EVER_RETRANS
    if first:
        tp.retrans_stamp = tp.net.now
    return 0


def tcp_fragment_rtx(tp: TcpControl, skb: TcpSkb, length: i64) -> None:
    """Cut an skb of the retransmission queue after ``length`` bytes, its counts divided."""
    before_cut = skb.pcount
    rest = tcp_fragment(tp, skb, length)
    queue = tp.in_flight()
    queue.insert(queue.index(skb) + 1, rest)
    gained = skb.pcount + rest.pcount - before_cut
    tp.packets_out += gained
    if skb.sacked & TCPCB_LOST:
        tp.lost_out += gained
    if skb.sacked & TCPCB_SACKED_RETRANS:
        tp.retrans_out += gained


def tcp_xmit_retransmit_queue(tp: TcpControl) -> None:
    """Send again what is marked lost, as cwnd allows."""
    if tp.lost_out == 0 or not tp.rtx_queue:
        return
    mib = tp.net.mib.tcpext
    for skb in list(tp.rtx_queue):
        segs = tp.snd_cwnd - tp.tcp_packets_in_flight()
        if tp.ca_state == TCP_CA_RECOVERY and skb is tp.rtx_head():
            segs = max(segs, 1)  # RFC 6582 3.2: the first unacknowledged segment, whatever the window
        if segs <= 0 or tp.retrans_out >= tp.lost_out:
            return
        if not skb.sacked & TCPCB_LOST or skb.sacked & TCPCB_SACKED_RETRANS:
            continue
        if tcp_retransmit_skb(tp, skb, segs):
            return
        if tp.ca_state == TCP_CA_LOSS:
            mib.TCPSlowStartRetrans += skb.pcount
        else:
            mib.TCPFastRetrans += skb.pcount


# -- segments without new data


def tcp_send_fin(tp: TcpControl) -> None:
    """Close our side: the FIN rides on the last unsent skb, or goes alone (tcp_send_fin)."""
    queue = tp.writes()
    if queue:
        tail = queue[-1]
        tail.flags |= TCPHDR_FIN
        tail.end_seq = (tail.end_seq + 1) & 0xFFFF_FFFF
    else:
        queue.append(TcpSkb(tp.write_seq, TCPHDR_ACK | TCPHDR_FIN))
        tp.wmem_queued += SKB_OVERHEAD
    tp.write_seq = (tp.write_seq + 1) & 0xFFFF_FFFF
    tp.fin_queued = True
    tcp_push(tp, TCP_NAGLE_OFF)


def tcp_write_wakeup(tp: TcpControl) -> i64:
    """Provoke an ACK with what the window lets go, else with a byte it already has; 1 if it was such a probe.

    RFC 9293 3.8.6.1 (MUST-36): "The transmitting host SHOULD send the first zero-window probe when a zero window has
    existed for the retransmission timeout period."
    """
    skb = tp.send_head()
    room = distance(tp.snd_nxt, tp.tcp_wnd_end())
    if skb is None or not before(skb.seq, tp.tcp_wnd_end()) or room > 0x7FFF_FFFF:
        tcp_xmit_probe_skb(tp)
        return 1
    length = min(room, tp.mss_cache)
    if 0 < length < skb.len:
        tp.writes().insert(1, tcp_fragment(tp, skb, length))
    skb.flags |= TCPHDR_PSH
    skb.set_pcount(tp.mss_cache)
    tcp_transmit_skb(tp, skb)
    tcp_event_new_data_sent(tp, skb)
    return 0


def tcp_xmit_probe_skb(tp: TcpControl) -> None:
    """A segment the peer must answer: its sequence number lies one before the window (keepalive, zero window)."""
    tcp_send_bare(tp, (tp.snd_una - 1) & 0xFFFF_FFFF, TCPHDR_ACK)
