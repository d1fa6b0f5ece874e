"""What is sent when: the windows, Nagle, super-segments, pacing (Linux net/ipv4/tcp_output.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.packet import NET_XMIT_DROP
from ustack.sock import (
    TCP_CLOSE,
    TCP_CLOSE_WAIT,
    TCP_CLOSING,
    TCP_ESTABLISHED,
    TCP_FIN_WAIT1,
    TCP_LAST_ACK,
)
from ustack.tcp.chrono import tcp_chrono_start, tcp_chrono_stop
from ustack.tcp.control import (
    ICSK_TIME_PROBE0,
    TCP_CHRONO_BUSY,
    TCP_CHRONO_RWND_LIMITED,
    TCP_NAGLE_OFF,
    TCP_NAGLE_PUSH,
    TcpControl,
)
from ustack.tcp.cwnd import tcp_cwnd_validate, tcp_in_cwnd_reduction
from ustack.tcp.fragment import tcp_fragment, tcp_skb_join
from ustack.tcp.mss import tcp_current_mss
from ustack.tcp.mtu import PROBE_WAIT, tcp_mtu_probe
from ustack.tcp.pacing import tcp_pacing_check
from ustack.tcp.retransmit import tcp_xmit_retransmit_queue
from ustack.tcp.rtt import tcp_probe0_when
from ustack.tcp.segment import SKB_OVERHEAD, TcpSkb, split_pieces
from ustack.tcp.sent import tcp_event_new_data_sent
from ustack.tcp.seq import before
from ustack.tcp.states import in_set
from ustack.tcp.tlp import tcp_schedule_loss_probe
from ustack.tcp.trace import WindowGiven, WriteGiven, now_held
from ustack.tcp.transmit import tcp_send_bare, tcp_transmit_skb
from ustack.tcp.tso import (
    HELD,
    HELD_BY_CWND,
    HELD_BY_RWND,
    held_by,
    tcp_mss_split_point,
    tcp_nagle_test,
    tcp_snd_room,
    tcp_snd_wnd_test,
    tcp_tso_segs,
    tcp_tso_should_defer,
)
from ustack.trace.points import Point
from ustack.trace.words import SocketGiven
from ustack.wire.tcp import TCPHDR_ACK, TCPHDR_FIN, TCPHDR_PSH

if TYPE_CHECKING:
    from ustack.packet import Buffer

# push_one of tcp_write_xmit
PUSH_ALL: Final[i64] = 0
PUSH_ONE: Final[i64] = 1
PUSH_PROBE: Final[i64] = 2  #: a loss probe: one segment, whatever cwnd says
# what tcp_write_wakeup tells
WAKEUP_PROBED: Final[i64] = 1  #: it was a bare probe
WAKEUP_LOST: Final[i64] = 2  #: it was lost in our own device's queue

#: States in which what waited for the device or for the pacing timer is still sent.
MAY_GO_ON: Final[i64] = (
    (1 << TCP_ESTABLISHED) | (1 << TCP_FIN_WAIT1) | (1 << TCP_CLOSING) | (1 << TCP_CLOSE_WAIT) | (1 << TCP_LAST_ACK)
)


def tcp_push_pending_frames(tp: TcpControl) -> None:
    """Send what may be sent (__tcp_push_pending_frames)."""
    if tp.write_queue and tp.state != TCP_CLOSE:
        tcp_push(tp, tp.nonagle)


def tcp_push(tp: TcpControl, nonagle: i64) -> None:
    """Send what ``nonagle`` lets go; if nothing is in flight and all is stuck, arm the window probe."""
    if tcp_write_xmit(tp, nonagle):
        tcp_check_probe_timer(tp)


def tcp_push_one(tp: TcpControl) -> None:
    """Send one burst: the user is giving more, and what is complete need not wait for it."""
    tcp_write_xmit(tp, TCP_NAGLE_PUSH, PUSH_ONE)


def tcp_check_probe_timer(tp: TcpControl) -> None:
    """With nothing in flight no ACK will come by itself: a closed window needs probing (RFC 9293 MUST-36)."""
    if tp.packets_out == 0 and tp.icsk_pending == 0:
        tp.reset_xmit_timer(ICSK_TIME_PROBE0, tcp_probe0_when(tp))


def tcp_write_xmit(tp: TcpControl, nonagle: i64, push_one: i64 = PUSH_ALL) -> bool:
    """Send from the head of the write queue while windows, Nagle and pacing allow.

    True if all is stuck with nothing in flight. ``push_one``: PUSH_ONE or PUSH_PROBE for a single burst.
    """
    mss = tcp_current_mss(tp)
    max_segs = tcp_tso_segs(tp, mss)
    queue = tp.writes()
    held: i64 = 0
    sent: i64 = 0
    if tp.mtup_enabled and push_one == PUSH_ALL:
        probed = tcp_mtu_probe(tp)
        if probed == PROBE_WAIT:
            return False
        sent = max(probed, 0)
    while queue:
        if tcp_pacing_check(tp):
            break
        skb = queue[0]
        quota = min(tcp_cwnd_test(tp), max_segs)
        if quota == 0:
            if push_one != PUSH_PROBE:
                break
            quota = 1
        if skb.len < quota * mss and len(queue) > 1:
            tcp_grow_skb(tp, skb, quota * mss - skb.len)
        skb.set_pcount(mss)
        length = sendable_length(tp, skb, mss, quota, max_segs, nonagle, push_one)
        if length < 0:
            held = -length
            break
        if tcp_small_queue_check(tp):
            break
        if length < skb.len:
            queue.insert(1, tcp_fragment(tp, skb, length))
            skb.set_pcount(mss)
        if tp.net.tracer is not None:
            tp.net.tracer.note(Point.TCP_WRITE_XMIT, "goes", WriteGiven(tp, skb, mss))
        if tcp_transmit_skb(tp, skb):
            break
        tcp_event_new_data_sent(tp, skb, mss)
        sent += skb.pcount
        if push_one != PUSH_ALL:
            break
    return tcp_write_done(tp, sent, held, push_one)


def tcp_write_done(tp: TcpControl, sent: i64, held: i64, push_one: i64) -> bool:
    """``sent`` packets went, and ``held`` says what kept the next one: account for both; see tcp_write_xmit."""
    if tp.net.tracer is not None and tp.write_queue and push_one == PUSH_ALL:
        tp.net.tracer.here(Point.TCP_WRITE_HELD, now_held(tp, held_by(tp, held)), WindowGiven(tp))
    if held == HELD_BY_RWND:
        tcp_chrono_start(tp, TCP_CHRONO_RWND_LIMITED)
    elif tp.chrono_type == TCP_CHRONO_RWND_LIMITED:
        tcp_chrono_stop(tp, TCP_CHRONO_RWND_LIMITED)
    is_cwnd_limited = held == HELD_BY_CWND or tp.tcp_packets_in_flight() >= tp.snd_cwnd
    if sent or is_cwnd_limited:
        tcp_cwnd_validate(tp, is_cwnd_limited)
    if sent == 0:
        return tp.packets_out == 0 and tp.send_head() is not None
    if tcp_in_cwnd_reduction(tp):
        tp.prr_out += sent
    if push_one != PUSH_PROBE:
        tcp_schedule_loss_probe(tp, False)
    return False


def tcp_cwnd_test(tp: TcpControl) -> i64:
    """Packets that cwnd lets go now, at most half of it: two bursts in flight keep ACKs coming."""
    cwnd = tp.snd_cwnd
    in_flight = tp.tcp_packets_in_flight()
    if in_flight >= cwnd:
        return 0
    return min(max(cwnd >> 1, 1), cwnd - in_flight)


def sendable_length(
    tp: TcpControl, skb: TcpSkb, mss: i64, quota: i64, max_segs: i64, nonagle: i64, push_one: i64
) -> i64:
    """How many bytes of ``skb`` go now; negative for none: -HELD, -HELD_BY_CWND or -HELD_BY_RWND."""
    if not tcp_snd_wnd_test(tp, skb, mss):
        return -HELD_BY_RWND
    last = len(tp.writes()) == 1
    if skb.pcount == 1:
        # only the last skb can get more data: what is followed by more goes
        return skb.len if tcp_nagle_test(tp, skb, mss, nonagle if last else TCP_NAGLE_PUSH) else -HELD
    if push_one == PUSH_ALL:
        why = tcp_tso_should_defer(tp, skb, max_segs, last)
        if why:
            return -why
    if tp.urg_mode:
        return mss
    return tcp_mss_split_point(tp, skb, mss, quota, nonagle, last)


def tcp_skb_can_collapse_to(skb: TcpSkb) -> bool:
    """False after MSG_EOR: what comes next begins a segment."""
    return not skb.eor


def tcp_grow_skb(tp: TcpControl, skb: TcpSkb, amount: i64) -> None:
    """Fill ``skb``, the first of the write queue, up from the next one by at most ``amount`` bytes."""
    queue = tp.writes()
    following = queue[1]
    if not tcp_skb_can_collapse_to(skb) or following.len == 0:
        return
    if following.len > amount:
        moved: list[Buffer]
        moved, following.pieces = split_pieces(following.pieces, amount)
        skb.pieces = skb.pieces + moved
        skb.len += amount
        following.len -= amount
        skb.end_seq = following.seq = (following.seq + amount) & 0xFFFF_FFFF
        return
    del queue[1]
    tcp_skb_join(tp, skb, following)


def tcp_small_queue_check(tp: TcpControl) -> bool:
    """True while the device has more than it can take: what waits here instead is neither dropped nor late news.

    TCP small queues: no connection fills the device's queue with what could as well wait in its own. It is
    resumed at the end of a batch, once the device's queue is empty (tcp_tsq_handler).
    """
    if tp.packets_out == 0 or not tcp_device_busy(tp):
        return False
    tcp_throttle(tp)
    return True


def tcp_device_busy(tp: TcpControl) -> bool:
    """True while frames wait in the queue of the device that ours leave by."""
    dst = tp.dst_cache
    return dst is not None and dst.dev.queue.qlen != 0


def tcp_throttle(tp: TcpControl) -> None:
    """Let it wait for the device: tcp_tsq_handler goes on."""
    if not tp.tsq_throttled:
        tp.tsq_throttled = True
        tp.tables.throttled.append(tp)


def tcp_tsq_handler(tp: TcpControl) -> None:
    """Send what waited for the device."""
    tp.tsq_throttled = False
    if tp.net.tracer is not None:
        tp.net.tracer.call(Point.TCP_TSQ_HANDLER, "the device has room", SocketGiven(tp))
    tcp_tsq_write(tp)


def tcp_tsq_write(tp: TcpControl) -> None:
    """The device or the pacing timer lets more go: first what is lost, then what is new."""
    if not in_set(tp.state, MAY_GO_ON):
        return
    if tp.lost_out > tp.retrans_out and tp.snd_cwnd > tp.tcp_packets_in_flight():
        tcp_xmit_retransmit_queue(tp)
    tcp_write_xmit(tp, tp.nonagle)


# -- segments without new data


def tcp_send_fin(tp: TcpControl) -> None:
    """Close our side: the FIN rides on the last unsent skb, or goes alone (tcp_send_fin)."""
    queue = tp.writes()
    if tp.net.tracer is not None:
        tp.net.tracer.note(Point.TCP_SEND_FIN, "with the last data" if queue else "alone")
    if queue:
        tail = queue[-1]
        tail.flags |= TCPHDR_FIN
        tail.end_seq = (tail.end_seq + 1) & 0xFFFF_FFFF
    else:
        queue.append(TcpSkb(tp.write_seq, TCPHDR_ACK | TCPHDR_FIN))
        tcp_chrono_start(tp, TCP_CHRONO_BUSY)
        tp.wmem_queued += SKB_OVERHEAD
    tp.write_seq = (tp.write_seq + 1) & 0xFFFF_FFFF
    tp.fin_queued = True
    tcp_push(tp, TCP_NAGLE_OFF)


def tcp_write_wakeup(tp: TcpControl) -> i64:
    """Provoke an ACK with what the window lets go, else with a byte it already has; WAKEUP_* says how it went.

    RFC 9293 3.8.6.1 (MUST-36): "The transmitting host SHOULD send the first zero-window probe when a zero window has
    existed for the retransmission timeout period."
    """
    skb = tp.send_head()
    probe = skb is None or not before(skb.seq, tp.tcp_wnd_end())
    if tp.net.tracer is not None:
        facts = WindowGiven(tp).facts()
        facts["probes_out"] = int(tp.probes_out)
        tp.net.tracer.note(Point.TCP_WRITE_WAKEUP, "a probe" if probe else "what the window lets go", facts)
    if skb is None or probe:
        return WAKEUP_PROBED | lost_here(tcp_xmit_probe_skb(tp))
    mss = tcp_current_mss(tp)
    length = min(tcp_snd_room(tp, skb), mss)
    if before(tp.pushed_seq, skb.end_seq):
        tp.pushed_seq = skb.end_seq
    if length < skb.len:
        tp.writes().insert(1, tcp_fragment(tp, skb, length))
    skb.flags |= TCPHDR_PSH
    skb.set_pcount(mss)
    code = tcp_transmit_skb(tp, skb)
    if code == 0:
        tcp_event_new_data_sent(tp, skb, mss)
    return lost_here(code)


def lost_here(code: i64) -> i64:
    return WAKEUP_LOST if code == NET_XMIT_DROP else 0


def tcp_xmit_probe_skb(tp: TcpControl) -> i64:
    """A segment the peer must answer: its sequence number lies one before the window (keepalive, zero window)."""
    return tcp_send_bare(tp, (tp.snd_una - 1) & 0xFFFF_FFFF, TCPHDR_ACK)
