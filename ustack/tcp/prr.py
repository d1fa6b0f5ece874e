"""Proportional rate reduction: how cwnd comes down while data keeps flowing (RFC 6937; Linux tcp_cwnd_reduction)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.tcp.ack_state import FLAG_SND_UNA_ADVANCED
from ustack.tcp.congestion.base import CA_EVENT_COMPLETE_CWR
from ustack.tcp.control import CA_STATES, TCP_CA_CWR, TCP_INFINITE_SSTHRESH, TcpControl
from ustack.tcp.ecn import tcp_ecn_queue_cwr
from ustack.trace.points import Point

if TYPE_CHECKING:
    from ustack.trace.journey import Facts


def tcp_set_ca_state(tp: TcpControl, ca_state: i64) -> None:
    if tp.net.tracer is not None and ca_state != tp.ca_state:
        decision = f"{CA_STATES[int(tp.ca_state)]} to {CA_STATES[int(ca_state)]}"
        facts: Facts = {"cwnd": int(tp.snd_cwnd), "ssthresh": int(min(tp.snd_ssthresh, TCP_INFINITE_SSTHRESH))}
        tp.net.tracer.mark(Point.TCP_SET_CA_STATE, decision, facts)
    tp.congestion.set_state(tp, ca_state)
    tp.ca_state = ca_state


def tcp_init_cwnd_reduction(tp: TcpControl) -> None:
    """Begin one: cwnd goes to ssthresh within a round trip (RFC 6937 section 3: prr_delivered = prr_out = 0)."""
    tp.high_seq = tp.snd_nxt
    tp.tlp_high_seq = 0
    tp.snd_cwnd_cnt = 0
    tp.prior_cwnd = tp.snd_cwnd
    tp.prr_delivered = 0
    tp.prr_out = 0
    tp.snd_ssthresh = tp.congestion.ssthresh(tp)
    tcp_ecn_queue_cwr(tp)


def tcp_cwnd_reduction(tp: TcpControl, newly_acked_sacked: i64, newly_lost: i64, flag: i64) -> None:
    """One ACK that delivered ``newly_acked_sacked`` packets and showed ``newly_lost`` lost sets the window.

    RFC 6937 section 3.1: while "pipe > ssthresh" send "ceil(prr_delivered * ssthresh / RecoverFS) - prr_out", then at
    most one more than was delivered (the slow start bound), and that only while recovery makes progress.
    """
    if newly_acked_sacked <= 0 or tp.prior_cwnd == 0:
        return
    in_flight = tp.tcp_packets_in_flight()
    delta = tp.snd_ssthresh - in_flight
    tp.prr_delivered += newly_acked_sacked
    if delta < 0:
        dividend = tp.snd_ssthresh * tp.prr_delivered + tp.prior_cwnd - 1
        sndcnt = dividend // tp.prior_cwnd - tp.prr_out
    else:
        sndcnt = max(tp.prr_delivered - tp.prr_out, newly_acked_sacked)
        if flag & FLAG_SND_UNA_ADVANCED and newly_lost == 0:
            sndcnt += 1
        sndcnt = min(delta, sndcnt)
    # the first retransmission goes whatever the window says (RFC 6675 section 5, step 4.3)
    sndcnt = max(sndcnt, 0 if tp.prr_out else 1)
    tp.snd_cwnd = in_flight + sndcnt


def tcp_end_cwnd_reduction(tp: TcpControl) -> None:
    """Recovery is over: RFC 6937: "cwnd should be [...] ssthresh at the end", unless it was undone."""
    if tp.congestion.has_cong_control:
        return
    if tp.snd_ssthresh < TCP_INFINITE_SSTHRESH and (tp.ca_state == TCP_CA_CWR or tp.undo_marker):
        tp.snd_cwnd = tp.snd_ssthresh
        tp.snd_cwnd_stamp = tp.net.now
    tp.congestion.cwnd_event(tp, CA_EVENT_COMPLETE_CWR)


def tcp_enter_cwr(tp: TcpControl) -> None:
    """Congestion without loss: ECN, or our own device was full. Nothing to undo."""
    tp.prior_ssthresh = 0
    if tp.ca_state < TCP_CA_CWR:
        tp.undo_marker = 0
        tcp_init_cwnd_reduction(tp)
        tcp_set_ca_state(tp, TCP_CA_CWR)
