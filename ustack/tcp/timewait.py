"""TIME_WAIT, and FIN_WAIT2 without an owner: a connection reduced to what its last segments need.

RFC 9293 section 3.10.7.4 and 3.6.1, RFC 1337; Linux struct tcp_timewait_sock, tcp_timewait_state_process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.drop import Reason
from ustack.sock import TCP_FIN_WAIT2, TCP_TIME_WAIT
from ustack.tcp.control import TCP_RTO_MIN, TCP_TIMEWAIT_LEN, TcpControl
from ustack.tcp.mini import MiniSock
from ustack.tcp.ports import tw_key
from ustack.tcp.reply import send_bare, tcp_v4_send_reset
from ustack.tcp.seq import after, before, between
from ustack.tcp.tables import NO_ISN
from ustack.wire import tcp as wire
from ustack.wire.tcp import TCPHDR_ACK, TCPHDR_FIN, TCPHDR_RST, TCPHDR_SYN, TcpHeader

if TYPE_CHECKING:
    from ustack.packet import Packet
    from ustack.tcp.ports import BindBucket


class TimeWait(MiniSock):
    """One remembered connection; as a timer it is its own end. ``substate`` is TIME_WAIT or FIN_WAIT2."""

    def __init__(self, tp: TcpControl, substate: i64) -> None:
        super().__init__(tp.tables, tp.rcv_saddr, tp.num, tp.daddr, tp.dport, tp.mark)
        self.bucket: BindBucket | None = tp.bind_bucket
        self.bind_key: i64 = tw_key(tp.rcv_saddr, tp.reuseaddr)
        self.substate: i64 = substate
        self.snd_nxt: i64 = tp.snd_nxt
        self.rcv_nxt: i64 = tp.rcv_nxt
        self.rcv_wnd: i64 = tp.tcp_receive_window()
        self.window: i64 = self.rcv_wnd >> tp.rcv_wscale
        self.tstamp_ok = tp.tstamp_ok
        self.ts_recent = tp.ts_recent
        self.tsoffset = tp.tsoffset

    def fire(self) -> None:
        self.kill()

    def insert(self, lasting: i64) -> None:
        """Remember it for ``lasting`` ns."""
        tables = self.tables
        tables.timewait.insert(self)
        if self.bucket is not None:
            tables.ports.add_timewait(self.bucket, self.bind_key)
        self.rearm(lasting)

    def store_ts_recent(self, options: wire.TcpOptions) -> None:
        if self.tstamp_ok and options.saw_tstamp:
            self.ts_recent = options.tsval

    def rearm(self, lasting: i64) -> None:
        self.tables.net.timers.mod_timer(self, self.tables.net.now + lasting)

    def kill(self) -> None:
        """Forget it (inet_twsk_deschedule_put)."""
        tables = self.tables
        tables.net.timers.del_timer(self)
        tables.timewait.remove(self)
        if self.bucket is not None:
            tables.ports.drop_timewait(self.bucket, self.bind_key)
            self.bucket = None

    def send_ack(self) -> None:
        """Say again where the connection ended."""
        send_bare(
            self.tables,
            self.laddr,
            self.raddr,
            self.lport,
            self.rport,
            self.snd_nxt,
            self.rcv_nxt,
            TCPHDR_ACK,
            self.window,
            self.ack_options(),
            mark=self.mark,
        )

    def ack_allowed(self, th: TcpHeader) -> bool:
        """What may answer an ACK of ours is answered once in tcp_invalid_ratelimit, or two would never end; text and
        FINs always are (tcp_oow_rate_limited)."""
        if not th.flags & TCPHDR_SYN and (th.end != th.payload or th.flags & TCPHDR_FIN):
            return True
        if not self.oow_rate_limited():
            return True
        if self.substate == TCP_FIN_WAIT2:
            self.tables.net.mib.tcpext.TCPACKSkippedFinWait2 += 1
        else:
            self.tables.net.mib.tcpext.TCPACKSkippedTimeWait += 1
        return False


def tcp_time_wait(tp: TcpControl, substate: i64, lasting: i64) -> None:
    """Put a TimeWait in ``tp``'s place for ``lasting`` ns; over tcp_max_tw_buckets the connection is just gone."""
    net = tp.net
    if len(tp.tables.timewait) >= net.sysctl.tcp_max_tw_buckets:
        net.mib.tcpext.TCPTimeWaitOverflow += 1
        return
    net.mib.tcpext.TW += 1
    if substate == TCP_TIME_WAIT:
        lasting = TCP_TIMEWAIT_LEN
    TimeWait(tp, substate).insert(max(lasting, TCP_RTO_MIN))


def tcp_timewait_state_process(tw: TimeWait, packet: Packet, th: TcpHeader, listening: bool) -> i64:
    """A segment for a remembered connection. If it opens a new one, which it only may where somebody is ``listening``,
    the answer is the ISN to use for that; NO_ISN: the segment has been dealt with."""
    options = wire.parse_options(packet.buf, th.options, th.payload)
    paws = tw.tstamp_ok and options.saw_tstamp and not th.flags & TCPHDR_RST and before(options.tsval, tw.ts_recent)
    end_seq = (th.seq + (th.end - th.payload) + (1 if th.flags & (TCPHDR_SYN | TCPHDR_FIN) else 0)) & 0xFFFF_FFFF
    if tw.substate == TCP_FIN_WAIT2:
        fin_wait2(tw, packet, th, end_seq, paws, options)
        return NO_ISN
    if not time_wait_reopens(tw, th, paws or not listening, options):
        time_wait(tw, packet, th, end_seq, paws, options)
        return NO_ISN
    # RFC 9293 3.10.7.4 (MAY-2): a SYN may reopen the connection "directly from TIME-WAIT state, if it assigns its
    # initial sequence number for the new connection to be larger than the largest sequence number it used"
    tw.kill()
    tw.tables.net.mib.tcpext.TWRecycled += 1
    return (tw.snd_nxt + 65_535 + 2) & 0xFFFF_FFFF


def time_wait_reopens(tw: TimeWait, th: TcpHeader, refused: bool, options: wire.TcpOptions) -> bool:
    """True for a SYN that is newer than all that came before, by its sequence number or its timestamp."""
    if refused or th.flags & (TCPHDR_SYN | TCPHDR_RST | TCPHDR_ACK | TCPHDR_FIN) != TCPHDR_SYN:
        return False
    return after(th.seq, tw.rcv_nxt) or (tw.tstamp_ok and options.saw_tstamp and before(tw.ts_recent, options.tsval))


def fin_wait2(tw: TimeWait, packet: Packet, th: TcpHeader, end_seq: i64, paws: bool, options: wire.TcpOptions) -> None:
    """The owner is gone and the peer's FIN is awaited; data has nobody to go to."""
    net = tw.tables.net
    in_window = th.seq == tw.rcv_nxt or between(th.seq, tw.rcv_nxt, (tw.rcv_nxt + tw.rcv_wnd) & 0xFFFF_FFFF)
    if paws or not in_window:
        if not th.flags & TCPHDR_RST and tw.ack_allowed(th):
            tw.send_ack()
        return net.drop(packet, Reason.TCP_INVALID_SEQUENCE)
    if th.flags & TCPHDR_RST:
        tw.kill()
        return net.drop(packet, Reason.TCP_RESET)
    if th.flags & TCPHDR_SYN and not before(th.seq, tw.rcv_nxt):
        tcp_v4_send_reset(tw.tables, packet, th, tw.mark)
        tw.kill()
        return net.drop(packet, Reason.TCP_INVALID_SYN)
    if not th.flags & TCPHDR_ACK or not after(end_seq, tw.rcv_nxt) or end_seq == th.seq:
        return net.deliver(packet)
    if not th.flags & TCPHDR_FIN or end_seq != (tw.rcv_nxt + 1) & 0xFFFF_FFFF:
        net.mib.tcpext.TCPAbortOnData += 1
        tcp_v4_send_reset(tw.tables, packet, th, tw.mark)
        tw.kill()
        return net.drop(packet, Reason.TCP_ABORT_ON_DATA)
    tw.substate = TCP_TIME_WAIT
    tw.rcv_nxt = end_seq
    tw.store_ts_recent(options)
    tw.rearm(TCP_TIMEWAIT_LEN)
    tw.send_ack()
    net.deliver(packet)


def time_wait(tw: TimeWait, packet: Packet, th: TcpHeader, end_seq: i64, paws: bool, options: wire.TcpOptions) -> None:
    """TIME_WAIT proper."""
    net = tw.tables.net
    if not paws and th.seq == tw.rcv_nxt and (th.seq == end_seq or th.flags & TCPHDR_RST):
        if th.flags & TCPHDR_RST:
            if net.sysctl.tcp_rfc1337 == 0:
                tw.kill()  # TIME_WAIT assassination (RFC 1337)
            return net.drop(packet, Reason.TCP_RESET)
        tw.rearm(TCP_TIMEWAIT_LEN)
        tw.store_ts_recent(options)
        return net.deliver(packet)
    if not th.flags & TCPHDR_RST:
        # RFC 9293 3.10.7.4: "The only thing that can arrive in this state is a retransmission of the remote FIN.
        # Acknowledge it, and restart the 2 MSL timeout."
        if paws or th.flags & TCPHDR_ACK:
            tw.rearm(TCP_TIMEWAIT_LEN)
        if tw.ack_allowed(th):
            tw.send_ack()
    net.drop(packet, Reason.TCP_RFC7323_PAWS if paws else Reason.TCP_TIMEWAIT)
