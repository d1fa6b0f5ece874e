"""TIME_WAIT, and FIN_WAIT2 without an owner: a connection reduced to what its last segments need.

RFC 9293 section 3.10.7.4 and 3.6.1, RFC 1337; Linux struct tcp_timewait_sock, tcp_timewait_state_process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.drop import Reason
from ustack.routing.devinet import ipv4_is_loopback
from ustack.sock import STATE_NAMES, TCP_FIN_WAIT2, TCP_TIME_WAIT
from ustack.tcp.control import TCP_TIMEWAIT_LEN, TcpControl
from ustack.tcp.mini import MiniSock, tcp_in_window, tcp_paws_reject
from ustack.tcp.ports import tw_key
from ustack.tcp.reply import tcp_v4_send_reset
from ustack.tcp.seq import after, before
from ustack.tcp.tables import NO_ISN
from ustack.timer import NSEC_PER_MSEC, NSEC_PER_SEC
from ustack.trace.points import Point
from ustack.trace.words import usec
from ustack.wire import tcp as wire
from ustack.wire.tcp import TCPHDR_ACK, TCPHDR_FIN, TCPHDR_RST, TCPHDR_SYN, TcpHeader

if TYPE_CHECKING:
    from ustack.packet import Packet
    from ustack.tcp.ports import BindBucket
    from ustack.trace.journey import Facts

#: What lasts no longer than this is counted apart, as none that has waited (__inet_twsk_schedule).
TW_KILL: Final[i64] = 4 * NSEC_PER_SEC


class TimeWait(MiniSock):
    """One remembered connection; as a timer it is its own end. ``substate`` is TIME_WAIT or FIN_WAIT2."""

    def __init__(self, tp: TcpControl, substate: i64) -> None:
        super().__init__(tp.tables, tp.rcv_saddr, tp.num, tp.daddr, tp.dport, tp.mark)
        self.bucket: BindBucket | None = tp.bind_bucket
        self.bind_key: i64 = tw_key(tp.rcv_saddr, tp.reuseaddr, tp.reuseport)
        self.substate: i64 = substate
        self.snd_nxt: i64 = tp.snd_nxt
        self.rcv_nxt: i64 = tp.rcv_nxt
        self.rcv_wnd: i64 = tp.tcp_receive_window()
        self.window: i64 = self.rcv_wnd >> tp.rcv_wscale
        self.tstamp_ok = tp.tstamp_ok
        self.ts_recent = tp.ts_recent
        self.ts_recent_stamp = tp.ts_recent_stamp if tp.tstamp_ok else 0
        self.tsoffset = tp.tsoffset
        self.tos: i64 = tp.tos
        self.bound_dev_if = tp.bound_dev_if
        self.entered: i64 = tp.net.now  #: TIME_WAIT (entry_stamp)

    def fire(self) -> None:
        self.kill()

    def insert(self, lasting: i64) -> None:
        """Remember it for ``lasting`` ns."""
        tables = self.tables
        tables.timewait.insert(self)
        if self.bucket is not None:
            tables.ports.add_timewait(self.bucket, self.bind_key)
        self.rearm(lasting)

    def store_ts_recent(self, options: wire.TcpOptions) -> bool:
        """Remember the segment's timestamp; True if it has one."""
        if not self.tstamp_ok or not options.saw_tstamp:
            return False
        self.ts_recent = options.tsval
        self.ts_recent_stamp = self.tables.net.now
        return True

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

    def recycle(self) -> i64:
        """Make way for a new connection of the same two ends: the ISN to begin it with, beyond all that was sent."""
        self.kill()
        return (self.snd_nxt + 65_535 + 2) & 0xFFFF_FFFF

    def send_ack(self) -> None:
        """Say again where the connection ended."""
        self.tcp_v4_send_ack(self.snd_nxt, self.rcv_nxt, self.window, self.tos, self.bound_dev_if)

    def unique(self, chosen: bool) -> bool:
        """True if a connect may have the same four-tuple already (RFC 6191; tcp_twsk_unique).

        Timestamps tell the segments of both apart. ``chosen``: not by the user, so there are other ports, and
        tcp_tw_reuse says whether this one will do: 2 only on this host, where nothing is delayed for long.
        """
        sysctl = self.tables.net.sysctl
        if self.ts_recent_stamp == 0:
            return False
        if not chosen:
            return True
        reuse = sysctl.tcp_tw_reuse if self.substate == TCP_TIME_WAIT else 0
        if reuse == 2 and not (ipv4_is_loopback(self.raddr) or ipv4_is_loopback(self.laddr)):
            return False
        return reuse != 0 and self.tables.net.now - self.entered > sysctl.tcp_tw_reuse_delay * NSEC_PER_MSEC

    def ack_allowed(self, th: TcpHeader) -> bool:
        """Whether the segment may be answered (tcp_timewait_check_oow_rate_limit)."""
        if not self.oow_rate_limited(th):
            return True
        if self.substate == TCP_FIN_WAIT2:
            self.tables.net.mib.tcpext.TCPACKSkippedFinWait2 += 1
        else:
            self.tables.net.mib.tcpext.TCPACKSkippedTimeWait += 1
        return False


def tcp_twsk_take(tp: TcpControl) -> i64:
    """Take the place of a TimeWait with ``tp``'s four-tuple, which was found to be ``unique``: the ISN to begin with,
    and its peer's last timestamp; NO_ISN if there is none."""
    tw = tp.tables.timewait.lookup(tp.daddr, tp.dport, tp.rcv_saddr, tp.num, tp.bound_dev_if)
    if tw is None:
        return NO_ISN
    tp.ts_recent = tw.ts_recent
    tp.ts_recent_stamp = tw.ts_recent_stamp
    tp.net.mib.tcpext.TWRecycled += 1
    return tw.recycle()


def tcp_time_wait(tp: TcpControl, substate: i64, lasting: i64) -> None:
    """Put a TimeWait in ``tp``'s place for ``lasting`` ns; over tcp_max_tw_buckets the connection is just gone."""
    net = tp.net
    if len(tp.tables.timewait) >= net.sysctl.tcp_max_tw_buckets:
        net.mib.tcpext.TCPTimeWaitOverflow += 1
        return
    if substate == TCP_FIN_WAIT2:
        lasting = max(lasting, (tp.rto << 2) - (tp.rto >> 1))
    if net.tracer is not None:
        net.tracer.mark(Point.TCP_TIME_WAIT, f"{STATE_NAMES[int(substate)]} for {usec(int(lasting))}")
    if lasting <= TW_KILL:
        net.mib.tcpext.TWKilled += 1
    else:
        net.mib.tcpext.TW += 1
    TimeWait(tp, substate).insert(lasting)


def tcp_timewait_state_process(tw: TimeWait, packet: Packet, th: TcpHeader, listening: bool) -> i64:
    """A segment for a remembered connection. If it opens a new one, which it only may where somebody is ``listening``,
    the answer is the ISN to use for that; NO_ISN: the segment has been dealt with."""
    if packet.journey is not None:
        facts: Facts = {"rcv_nxt": int(tw.rcv_nxt), "snd_nxt": int(tw.snd_nxt)}
        packet.journey.step(Point.TCP_TIMEWAIT_STATE_PROCESS, STATE_NAMES[int(tw.substate)], facts)
    options = wire.parse_options(packet.buf, th.options, th.payload)
    paws = tw.tstamp_ok and options.saw_tstamp and tcp_paws_reject(tw, options, th.flags & TCPHDR_RST != 0)
    end_seq = th.end_seq()
    if tw.substate == TCP_FIN_WAIT2:
        fin_wait2(tw, packet, th, end_seq, paws, options)
        return NO_ISN
    if not time_wait_reopens(tw, th, paws, options):
        time_wait(tw, packet, th, end_seq, paws, options)
        return NO_ISN
    if not listening:
        tw.send_ack()
        tw.tables.net.drop(packet, Reason.TCP_TIMEWAIT)
        return NO_ISN
    # RFC 9293 3.10.7.4 (MAY-2): a SYN may reopen the connection "directly from TIME-WAIT state, if it assigns its
    # initial sequence number for the new connection to be larger than the largest sequence number it used"
    return tw.recycle()


def time_wait_reopens(tw: TimeWait, th: TcpHeader, refused: bool, options: wire.TcpOptions) -> bool:
    """True for a SYN that is newer than all that came before, by its sequence number or its timestamp."""
    if refused or th.flags & (TCPHDR_SYN | TCPHDR_RST | TCPHDR_ACK | TCPHDR_FIN) != TCPHDR_SYN:
        return False
    return after(th.seq, tw.rcv_nxt) or (tw.tstamp_ok and options.saw_tstamp and before(tw.ts_recent, options.tsval))


def fin_wait2(tw: TimeWait, packet: Packet, th: TcpHeader, end_seq: i64, paws: bool, options: wire.TcpOptions) -> None:
    """The owner is gone and the peer's FIN is awaited; data has nobody to go to."""
    net = tw.tables.net
    in_window = tcp_in_window(th.seq, end_seq, tw.rcv_nxt, (tw.rcv_nxt + tw.rcv_wnd) & 0xFFFF_FFFF)
    if paws or not in_window:
        if tw.ack_allowed(th):  # a RST too: a peer that means it will know better where we are
            tw.send_ack()
        return net.drop(packet, Reason.TCP_INVALID_SEQUENCE)
    if th.flags & TCPHDR_RST:
        tw.kill()
        return net.drop(packet, Reason.TCP_RESET)
    if th.flags & TCPHDR_SYN and not before(th.seq, tw.rcv_nxt):
        tcp_v4_send_reset(tw.tables, packet, th, Reason.TCP_INVALID_SYN, tw.mark)
        tw.kill()
        return net.drop(packet, Reason.TCP_INVALID_SYN)
    if not th.flags & TCPHDR_ACK or not after(end_seq, tw.rcv_nxt) or end_seq == th.seq:
        return net.deliver(packet)
    if not th.flags & TCPHDR_FIN or end_seq != (tw.rcv_nxt + 1) & 0xFFFF_FFFF:
        tcp_v4_send_reset(tw.tables, packet, th, Reason.TCP_ABORT_ON_DATA, tw.mark)
        tw.kill()
        return net.drop(packet, Reason.TCP_ABORT_ON_DATA)
    tw.substate = TCP_TIME_WAIT
    tw.rcv_nxt = end_seq
    if tw.store_ts_recent(options):
        tw.entered = net.now
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
            else:
                tw.store_ts_recent(options)
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
    net.drop(packet, Reason.TCP_RFC7323_TW_PAWS if paws else Reason.TCP_TIMEWAIT)
