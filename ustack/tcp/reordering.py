"""How far the network reorders, as SACK and timestamps show it (Linux tcp_check_sack_reordering)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.tcp.scoreboard import tcp_highest_sack_seq
from ustack.tcp.seq import before, distance

if TYPE_CHECKING:
    from ustack.tcp.control import TcpControl


def tcp_check_sack_reordering(tp: TcpControl, low_seq: i64, timestamp: bool) -> None:
    """What begins at ``low_seq``, sent once, arrived after what is highest; ``timestamp``: the option shows it."""
    fack = tcp_highest_sack_seq(tp)
    if not before(low_seq, fack):
        return
    mss = tp.mss_cache
    metric = distance(low_seq, fack)
    if mss and metric > tp.reordering * mss:
        tp.reordering = min((metric + mss - 1) // mss, tp.net.sysctl.tcp_max_reordering)
    tp.reord_seen += 1
    if timestamp:
        tp.net.mib.tcpext.TCPTSReorder += 1
    else:
        tp.net.mib.tcpext.TCPSACKReorder += 1
