"""AckState: what is learnt of one ACK on its way through tcp_ack (Linux FLAG_*, struct tcp_sacktag_state)."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from ustack.tcp.rate import RateSample

FLAG_DATA: Final[i64] = 0x01  #: the segment carries data
FLAG_WIN_UPDATE: Final[i64] = 0x02
FLAG_DATA_ACKED: Final[i64] = 0x04
FLAG_RETRANS_DATA_ACKED: Final[i64] = 0x08  #: ... some of which had been retransmitted
FLAG_SYN_ACKED: Final[i64] = 0x10
FLAG_DATA_SACKED: Final[i64] = 0x20
FLAG_ECE: Final[i64] = 0x40
FLAG_LOST_RETRANS: Final[i64] = 0x80  #: a retransmission was found lost
FLAG_SLOWPATH: Final[i64] = 0x100
FLAG_ORIG_SACK_ACKED: Final[i64] = 0x200  #: something never retransmitted, below high_seq, arrived
FLAG_SND_UNA_ADVANCED: Final[i64] = 0x400
FLAG_DSACKING_ACK: Final[i64] = 0x800
FLAG_SET_XMIT_TIMER: Final[i64] = 0x1000
FLAG_SACK_RENEGING: Final[i64] = 0x2000  #: the new head of the queue was sacked before
FLAG_ACK_MAYBE_DELAYED: Final[i64] = 0x10000
FLAG_DSACK_TLP: Final[i64] = 0x20000  #: D-SACK of the loss probe

FLAG_ACKED: Final[i64] = 0x14
FLAG_NOT_DUP: Final[i64] = 0x17
FLAG_CA_ALERT: Final[i64] = 0x860
FLAG_FORWARD_PROGRESS: Final[i64] = 0x34

# what tcp_fastretrans_alert wants sent once cwnd is known
REXMIT_NONE: Final[i64] = 0
REXMIT_LOST: Final[i64] = 1
REXMIT_NEW: Final[i64] = 2  #: F-RTO: new data


class AckState:
    """One object per stack, reset for every ACK: the fast path allocates nothing."""

    def __init__(self) -> None:
        self.flag: i64 = 0
        self.rexmit: i64 = REXMIT_NONE
        self.reord: i64 = 0  #: first sequence number whose delivery showed reordering
        self.first_sackt: i64 = -1  #: when the first and the last of what is newly sacked were sent, -1 for none
        self.last_sackt: i64 = -1
        self.first_ackt: i64 = -1  #: the same of what is newly acknowledged and was sent once
        self.last_ackt: i64 = -1
        self.sack_delivered: i64 = 0  #: packets
        self.position: i64 = 0  #: where the walk of the queue for this ACK has come to
        self.rate: RateSample = RateSample()

    def reset(self) -> None:
        self.flag = 0
        self.rexmit = REXMIT_NONE
        self.first_sackt = -1
        self.last_sackt = -1
        self.sack_delivered = 0
        rate = self.rate
        rate.prior_mstamp = 0
        rate.prior_delivered = 0
        rate.prior_delivered_ce = 0
        rate.delivered = -1
        rate.interval = -1
        rate.rtt = -1
        rate.losses = 0
        rate.acked_sacked = 0
        rate.prior_in_flight = 0
        rate.last_end_seq = 0
        rate.is_app_limited = False
        rate.is_retrans = False
        rate.is_ack_delayed = False


def tcp_ack_is_dubious(flag: i64, ca_open: bool) -> bool:
    """True if the ACK tells of trouble, or comes in the middle of some (tcp_ack_is_dubious)."""
    return not ca_open or flag & FLAG_NOT_DUP == 0 or flag & FLAG_CA_ALERT != 0
