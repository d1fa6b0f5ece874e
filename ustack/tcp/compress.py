"""ACK compression: when many segments come beyond a hole, not each of them is answered (Linux tcp_comp_sack_*).

The first three duplicate ACKs go at once, so that the sender's loss recovery begins; those after them wait together
for a twentieth of a round trip, at most a millisecond, since each says all that the one before it said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.sock import TCP_CLOSE
from ustack.tcp.control import TCP_FASTRETRANS_THRESH, TcpTimer
from ustack.tcp.transmit import tcp_send_ack
from ustack.trace.points import Point
from ustack.trace.words import usec

if TYPE_CHECKING:
    from ustack.tcp.control import TcpControl
    from ustack.trace.journey import Facts


class CompressedAckTimer(TcpTimer):
    """The ACKs held back have waited long enough: one for all of them (tcp_compressed_ack_kick)."""

    def fire(self) -> None:
        tracer = self.tp.net.tracer
        if tracer is not None:
            tracer.call(Point.TCP_COMPRESSED_ACK_KICK, "", {"held": int(self.tp.compressed_ack)})
            tracer.resume(self.tp.journey)
        tcp_sack_compress_send_ack(self.tp)


def tcp_sack_compress_send_ack(tp: TcpControl) -> None:
    """Send now what compression holds back, if it does; one of them is not saved, so it is not counted."""
    if tp.compressed_ack == 0 or tp.state == TCP_CLOSE:
        return
    held = tp.compressed_ack
    tp.clear_compressed_ack()
    tp.net.mib.tcpext.TCPAckCompressed += held - 1
    tcp_send_ack(tp)


def tcp_compress_ack(tp: TcpControl) -> bool:
    """True if the ACK for a segment beyond a hole is held back; False if it must go now."""
    sysctl = tp.net.sysctl
    if not tp.sack_ok or tp.compressed_ack >= sysctl.tcp_comp_sack_nr:
        return False
    if tp.compressed_ack_rcv_nxt != tp.rcv_nxt:
        tp.compressed_ack_rcv_nxt = tp.rcv_nxt
        tp.dup_ack_counter = 0
    if tp.dup_ack_counter < TCP_FASTRETRANS_THRESH:
        tp.dup_ack_counter += 1
        return False
    delay = compression_delay(tp)
    if delay == 0:
        return False
    tp.compressed_ack += 1
    if tp.net.tracer is not None and tp.net.tracer.current is not None:
        facts: Facts = {"held": int(tp.compressed_ack), "delay": usec(int(delay))}
        tp.net.tracer.here(Point.TCP_COMPRESS_ACK, "ACK compressed", facts)
    timer = tp.compressed_ack_timer
    if timer is None:
        timer = tp.compressed_ack_timer = CompressedAckTimer(tp)
    if not timer.pending:
        tp.net.timers.mod_timer(timer, tp.net.now + delay)
    return True


def compression_delay(tp: TcpControl) -> i64:
    """A twentieth of the round trip, as either side measures it, but no more than the sysctl (ns)."""
    rtt = tp.rcv_rtt
    if 0 < tp.srtt < rtt:
        rtt = tp.srtt
    return min(tp.net.sysctl.tcp_comp_sack_delay_ns, rtt // 20)
