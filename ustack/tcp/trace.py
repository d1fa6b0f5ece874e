"""What a trace tells of a connection: decisions and facts in words. Built only while somebody looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.packet import CHECKSUM_NONE
from ustack.tcp.control import (
    CA_STATES,
    ICSK_TIME_LOSS_PROBE,
    ICSK_TIME_PROBE0,
    ICSK_TIME_REO_TIMEOUT,
    TCP_CA_LOSS,
    TCP_CA_OPEN,
    TCP_CA_RECOVERY,
)
from ustack.tcp.seq import after, before, distance
from ustack.trace.given import Given
from ustack.trace.words import endpoint, socket_name, usec
from ustack.wire import tcp as wire
from ustack.wire.tcp import TCPHDR_ACK, TCPHDR_PSH, TCPHDR_SYN

if TYPE_CHECKING:
    from ustack.drop import Reason
    from ustack.packet import Packet
    from ustack.tcp.ack_state import AckState
    from ustack.tcp.control import TcpControl
    from ustack.tcp.segment import TcpSkb
    from ustack.trace.journey import Facts
    from ustack.wire.ipv4 import Ipv4Header
    from ustack.wire.tcp import TcpHeader

_FLAG_NAMES: Final = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")


def flags_word(flags: i64) -> str:
    """``PSH,ACK``."""
    bits = int(flags)
    return ",".join([name for bit, name in enumerate(_FLAG_NAMES) if bits >> bit & 1])


# -- segments in


def checksum_words(packet: Packet) -> str:
    """Who has checked it."""
    return "checksum checked here" if packet.ip_summed == CHECKSUM_NONE else "checksum vouched for by the device"


def segment_facts(packet: Packet, iph: Ipv4Header, th: TcpHeader) -> Facts:
    """What its header says."""
    facts: Facts = {
        "from": endpoint(iph.saddr, th.sport),
        "to": endpoint(iph.daddr, th.dport),
        "flags": flags_word(th.flags),
        "seq": int(th.seq),
        "ack": int(th.ack_seq),
        "win": int(th.window),
        "length": int(th.end - th.payload),
    }
    if th.payload > th.options:
        facts["options"] = wire.options_to_str(packet.buf, th.options, th.payload)
    return facts


def lookup_words(tp: TcpControl | None, early: bool) -> str:
    """Which connection it was, and whether that was known before the packet was routed."""
    if tp is None:
        return "none"
    return "found early" if early else socket_name(tp)


def why_slow(tp: TcpControl, th: TcpHeader) -> str:
    """What header prediction did not expect, in the order in which tcp_rcv_established looks."""
    length = th.end - th.payload
    if th.flags & ~TCPHDR_PSH != TCPHDR_ACK:
        return "flags"
    if th.seq != tp.rcv_nxt:
        return "not the next sequence number"
    if tp.ofo is not None:
        return "a hole is open"
    if tp.urg_data:
        return "urgent data"
    other_window = th.window << tp.snd_wscale != tp.snd_wnd
    old = before(th.ack_seq, tp.snd_una)
    if after(th.ack_seq, tp.snd_nxt) or (old and (length or other_window)):
        return "an old or impossible ACK"
    if length and other_window:
        return "another window"
    if length > tp.tcp_receive_window():
        return "beyond the window"
    if tp.rmem_alloc + length > tp.rcvbuf or tp.tables.memory.pressure:
        return "memory"
    return "options"


def verdict(th: TcpHeader, old: Reason | None, refused: Reason | None) -> str:
    """tcp_validate_incoming: PAWS, the sequence number, RST, SYN; the first that objects."""
    if old is not None:
        return f"PAWS: {old.name}"
    if refused is not None:
        return refused.name
    if th.flags & wire.TCPHDR_RST:
        return "RST in the window"
    return "SYN in the window" if th.flags & TCPHDR_SYN else "acceptable"


def window_in(tp: TcpControl) -> Facts:
    """What we expect."""
    return {"rcv_nxt": int(tp.rcv_nxt), "window": int(tp.tcp_receive_window())}


def where_text_lies(tp: TcpControl, th: TcpHeader, end_seq: i64) -> str:
    """tcp_data_queue's decision."""
    if not after(end_seq, tp.rcv_nxt):
        return "duplicate"
    if after(th.seq, tp.rcv_nxt):
        limit = (tp.rcv_nxt + tp.tcp_receive_window()) & 0xFFFF_FFFF
        return "out of order" if before(th.seq, limit) else "beyond the window"
    if th.end > th.payload and tp.tcp_receive_window() == 0:
        return "the window is zero"
    return "in order" if th.seq == tp.rcv_nxt else "partly received before"


def ofo_facts(tp: TcpControl) -> Facts:
    """What lies beyond the hole."""
    blocks = [f"{first}:{beyond}" for first, beyond in tp.selective_acks]
    return {"rcv_nxt": int(tp.rcv_nxt), "held": 0 if tp.ofo is None else len(tp.ofo), "sack": " ".join(blocks)}


def ack_facts(tp: TcpControl, state: AckState, prior_una: i64, prior_lost: i64) -> Facts:
    """What an ACK has done."""
    facts = WindowGiven(tp).facts()
    facts["acked"] = int(distance(prior_una, tp.snd_una))
    if state.sack_delivered:
        facts["sacked"] = int(state.sack_delivered)
    if tp.lost != prior_lost:
        facts["lost"] = int(tp.lost - prior_lost)
    if state.rate.rtt >= 0:
        facts["rtt"] = usec(int(state.rate.rtt))
    facts["srtt"] = usec(int(tp.srtt))
    facts["ca_state"] = CA_STATES[int(tp.ca_state)]
    return facts


# -- segments out


class WindowGiven(Given):
    """What lets segments go: packets of cwnd, bytes of the peer's window."""

    def __init__(self, tp: TcpControl) -> None:
        self.cwnd: i64 = tp.snd_cwnd
        self.in_flight: i64 = tp.tcp_packets_in_flight()
        self.snd_wnd: i64 = distance(tp.snd_una, tp.tcp_wnd_end())

    def facts(self) -> Facts:
        return {"cwnd": self.cwnd, "in_flight": self.in_flight, "snd_wnd": self.snd_wnd}


class Held:
    """What keeps the first of the write queue, since when."""

    def __init__(self, why: str, seq: i64, since: i64) -> None:
        self.why: str = why
        self.seq: i64 = seq
        self.since: i64 = since


def now_held(tp: TcpControl, why: str) -> str:
    """Remember ``why``, for when it goes: it may have had to wait for several things in turn."""
    skb, held = tp.send_head(), tp.held
    if skb is not None:
        seq = skb.seq
        tp.held = Held(why, seq, tp.net.now if held is None or held.seq != seq else held.since)
    return why


class WriteGiven(WindowGiven):
    """A part of the write queue that may go, and what it has waited for, which is over with this."""

    def __init__(self, tp: TcpControl, skb: TcpSkb, mss: i64) -> None:
        super().__init__(tp)
        self.length: i64 = skb.len
        self.mss: i64 = mss
        self.segments: i64 = skb.pcount
        held = tp.held
        self.held: Held | None = held if held is not None and held.seq == skb.seq else None
        self.now: i64 = tp.net.now
        tp.held = None

    def facts(self) -> Facts:
        facts = super().facts()
        facts["length"] = self.length
        facts["mss"] = self.mss
        facts["segments"] = self.segments
        if self.held is not None:
            facts["was"] = self.held.why
            facts["waited"] = usec(int(self.now - self.held.since))
        return facts


class TransmitGiven(Given):
    """The header that goes out."""

    def __init__(
        self, tp: TcpControl, packet: Packet, seq: i64, ack: i64, flags: i64, window: i64, options: bytes, length: i64
    ) -> None:
        self.flags: i64 = flags
        self.seq: i64 = seq
        self.ack: i64 = ack
        self.window: i64 = window
        self.options: bytes = options
        self.length: i64 = length
        self.cwnd: i64 = tp.snd_cwnd
        self.gso_size: i64 = packet.gso_size

    def facts(self) -> Facts:
        facts: Facts = {"flags": flags_word(self.flags), "seq": self.seq, "ack": self.ack, "win": self.window}
        facts["length"] = self.length
        if self.options:
            facts["options"] = wire.options_to_str(self.options, 0, len(self.options))
        if self.length:
            facts["cwnd"] = self.cwnd
        if self.gso_size:
            facts["gso_size"] = self.gso_size
        return facts


def retransmit_cause(tp: TcpControl, skb: TcpSkb) -> str:
    """Why it goes again."""
    if skb.flags & TCPHDR_SYN:
        return "SYN not answered"
    if tp.ca_state == TCP_CA_LOSS:
        return "RTO" if tp.undo_marker else "lost for its size"
    if tp.ca_state == TCP_CA_RECOVERY:
        return "RACK" if tp.sack_ok else "fast retransmit"
    return "TLP" if tp.icsk_pending == ICSK_TIME_LOSS_PROBE or tp.ca_state == TCP_CA_OPEN else "lost"


def retransmit_facts(tp: TcpControl, skb: TcpSkb) -> Facts:
    return {
        "seq": int(skb.seq),
        "length": int(skb.len),
        "sent_before": usec(int(tp.net.now - skb.sent_at)),
        "retransmits": int(tp.retransmits),
        "ca_state": CA_STATES[int(tp.ca_state)],
    }


def timer_facts(tp: TcpControl) -> Facts:
    return {"socket": socket_name(tp), "rto": usec(int(tp.rto)), "backoff": int(tp.backoff)}


def which_timer(pending: i64) -> str:
    """What the retransmission timer had been set for."""
    if pending == ICSK_TIME_REO_TIMEOUT:
        return "reordering window (RACK)"
    if pending == ICSK_TIME_LOSS_PROBE:
        return "loss probe (TLP)"
    return "window probe" if pending == ICSK_TIME_PROBE0 else "retransmission (RTO)"
