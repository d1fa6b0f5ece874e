"""What a congestion control algorithm decides (Linux struct tcp_congestion_ops). Windows are in packets of one MSS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, mypyc_attr

if TYPE_CHECKING:
    from ustack.tcp.control import TcpControl
    from ustack.tcp.rate import RateSample

# enum tcp_ca_event
CA_EVENT_TX_START: Final = 0  #: first transmission when nothing is in flight
CA_EVENT_CWND_RESTART: Final = 1  #: cwnd was reduced after idling
CA_EVENT_COMPLETE_CWR: Final = 2  #: recovery or CWR has ended
CA_EVENT_LOSS: Final = 3  #: a retransmission timeout
CA_EVENT_ECN_NO_CE: Final = 4  #: data without CE came in
CA_EVENT_ECN_IS_CE: Final = 5

# enum tcp_ca_ack_event_flags
CA_ACK_SLOWPATH: Final = 1
CA_ACK_WIN_UPDATE: Final = 2
CA_ACK_ECE: Final = 4


@mypyc_attr(allow_interpreted_subclasses=True)
class CongestionState:
    """What an algorithm keeps of one connection (icsk_ca_priv); each has its own subclass."""


@mypyc_attr(allow_interpreted_subclasses=True)
class CongestionOps:
    """One object per algorithm, shared by its connections: it keeps nothing of its own, but in ``tp.ca_priv``.

    Anybody may write one, in plain Python too, and register it (registry.py); the three attributes below are then set
    on the object, not on its class. Methods may be called before ``init``: a SYN may be lost.
    """

    name: str = "none"
    #: The algorithm sets cwnd and the pacing rate itself, in cong_control, instead of cong_avoid and PRR.
    has_cong_control: bool = False
    needs_ecn: bool = False  #: TCP_CONG_NEEDS_ECN

    def init(self, tp: TcpControl) -> None:
        """The connection is established, or has just switched to this algorithm."""

    def release(self, tp: TcpControl) -> None:
        """It is closed, or switches to another one."""

    def ssthresh(self, tp: TcpControl) -> i64:
        """The slow start threshold after a loss; at least 2."""
        raise NotImplementedError

    def cong_avoid(self, tp: TcpControl, ack: i64, acked: i64) -> None:
        """``acked`` packets were acknowledged while the window was what limited us: open it."""
        raise NotImplementedError

    def set_state(self, tp: TcpControl, ca_state: i64) -> None:
        """The connection's ca_state is about to change."""

    def cwnd_event(self, tp: TcpControl, event: i64) -> None:
        """One of CA_EVENT_*."""

    def in_ack_event(self, tp: TcpControl, flags: i64) -> None:
        """An ACK is being processed; CA_ACK_* bits."""

    def pkts_acked(self, tp: TcpControl, acked: i64, rtt: i64, in_flight: i64) -> None:
        """``acked`` packets were acknowledged or sacked, ``rtt`` ns after they were sent (-1: not known);
        ``in_flight`` packets were when the newest of them was sent."""

    def cong_control(self, tp: TcpControl, ack: i64, flag: i64, rs: RateSample) -> None:
        """Every ACK, after loss detection; only with ``has_cong_control``."""

    def min_tso_segs(self, tp: TcpControl) -> i64:
        """Segments of a super-segment at least; 0: tcp_min_tso_segs."""
        return 0

    def undo_cwnd(self, tp: TcpControl) -> i64:
        """The window to go back to when a loss turned out to be none."""
        raise NotImplementedError

    def sndbuf_expand(self, tp: TcpControl) -> i64:
        """How many cwnd the send buffer should hold."""
        return 2

    def get_info(self, tp: TcpControl) -> bytes:
        """TCP_CC_INFO: the algorithm's struct of union tcp_cc_info; b"" for none."""
        return b""
