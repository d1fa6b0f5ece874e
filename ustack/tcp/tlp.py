"""The tail loss probe: when to send it, and what its ACK says (RFC 8985 section 7; Linux tcp_schedule_loss_probe)."""

from __future__ import annotations

from mypy_extensions import i64

from ustack.tcp.ack_state import FLAG_DATA_SACKED, FLAG_DSACK_TLP, FLAG_NOT_DUP, FLAG_SND_UNA_ADVANCED
from ustack.tcp.control import (
    ICSK_TIME_LOSS_PROBE,
    TCP_CA_CWR,
    TCP_CA_OPEN,
    TCP_TIMEOUT_INIT,
    TcpControl,
)
from ustack.tcp.prr import tcp_end_cwnd_reduction, tcp_init_cwnd_reduction, tcp_set_ca_state
from ustack.tcp.rtt import TCP_TIMEOUT_MIN, tcp_rearm_rto, tcp_rto_delta
from ustack.tcp.seq import after, before
from ustack.tcp.undo import tcp_try_keep_open


def tcp_schedule_loss_probe(tp: TcpControl, advancing_rto: bool) -> bool:
    """Let the timer wait for a probe instead of the RTO, if one may be sent; False if not.

    RFC 8985 7.2: "PTO = 2 * SRTT; if FlightSize == 1 segment: PTO += WCDelAckT", and no later than the RTO, which with
    ``advancing_rto`` would begin now.
    """
    if not may_probe(tp):
        return False
    timeout: i64 = TCP_TIMEOUT_INIT
    if tp.srtt:
        timeout = 2 * tp.srtt + (tp.rto_min() if tp.packets_out == 1 else TCP_TIMEOUT_MIN)
    rto = tp.rto if advancing_rto else tcp_rto_delta(tp)
    if rto > 0:
        timeout = min(timeout, rto)
    tp.reset_xmit_timer(ICSK_TIME_LOSS_PROBE, timeout)
    return True


def may_probe(tp: TcpControl) -> bool:
    """With SACK, something in flight, and no recovery going on."""
    early_retrans = tp.net.sysctl.tcp_early_retrans
    return (
        tp.sack_ok
        and tp.packets_out != 0
        and (early_retrans == 3 or early_retrans == 4)
        and (tp.ca_state == TCP_CA_OPEN or tp.ca_state == TCP_CA_CWR)
        and tp.fastopen_rsk is None
    )


def tcp_set_xmit_timer(tp: TcpControl) -> None:
    """New data is acknowledged: the timer starts again, for the probe or for the RTO."""
    if not tcp_schedule_loss_probe(tp, True):
        tcp_rearm_rto(tp)


def tcp_process_tlp_ack(tp: TcpControl, ack: i64, flag: i64) -> None:
    """The probe is out and ``ack`` has come (RFC 8985 7.4): did it repair a loss that nothing else would show?

    If the original had arrived too, a duplicate ACK or D-SACK says so; if not, the window is reduced as for any loss.
    """
    if before(ack, tp.tlp_high_seq):
        return
    if not tp.tlp_retrans or flag & FLAG_DSACK_TLP:
        tp.tlp_high_seq = 0
    elif after(ack, tp.tlp_high_seq):
        tcp_init_cwnd_reduction(tp)  # which ends the episode too
        tcp_set_ca_state(tp, TCP_CA_CWR)
        tcp_end_cwnd_reduction(tp)
        tcp_try_keep_open(tp)
        tp.net.mib.tcpext.TCPLossProbeRecovery += 1
    elif not flag & (FLAG_SND_UNA_ADVANCED | FLAG_NOT_DUP | FLAG_DATA_SACKED):
        tp.tlp_high_seq = 0
