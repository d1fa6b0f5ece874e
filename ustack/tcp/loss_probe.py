"""The tail loss probe is due: new data, or the last segment again (RFC 8985 7.3; Linux tcp_send_loss_probe)."""

from __future__ import annotations

from ustack.tcp.control import ICSK_TIME_NONE, TCP_NAGLE_OFF, TcpControl
from ustack.tcp.fragment import tcp_fragment_rtx
from ustack.tcp.mss import tcp_current_mss
from ustack.tcp.output import PUSH_PROBE, tcp_write_xmit
from ustack.tcp.retransmit import send_again
from ustack.tcp.rtt import tcp_rearm_rto
from ustack.tcp.tso import tcp_snd_wnd_test


def tcp_send_loss_probe(tp: TcpControl) -> None:
    """Provoke an ACK that shows what is lost at the tail; at most one probe is outstanding. Then the RTO waits."""
    if tp.tlp_high_seq == 0 and probe(tp):
        tp.tlp_high_seq = tp.snd_nxt
        tp.net.mib.tcpext.TCPLossProbes += 1
        tp.icsk_pending = ICSK_TIME_NONE  # the RTO begins now
    tcp_rearm_rto(tp)


def probe(tp: TcpControl) -> bool:
    """Send it; False if nothing could go. RFC 8985 7.3: "If an unsent segment exists and [...] receive window allows":
    "Transmit a segment of new data", else "Retransmit the highest-sequence segment sent so far"."""
    mss = tcp_current_mss(tp)
    tp.tlp_retrans = False
    skb = tp.send_head()
    if skb is not None and tcp_snd_wnd_test(tp, skb, mss):
        had = tp.packets_out
        tcp_write_xmit(tp, TCP_NAGLE_OFF, PUSH_PROBE)
        return tp.packets_out > had
    last = tp.in_flight().last()
    if last is None:
        return False
    if last.pcount > 1 and last.len > (last.pcount - 1) * mss:
        last = tcp_fragment_rtx(tp, last, (last.pcount - 1) * mss, mss)
    if last is None or send_again(tp, last, 1):
        return False
    tp.tlp_retrans = True
    return True
