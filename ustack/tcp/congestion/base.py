"""What a congestion control algorithm decides (Linux struct tcp_congestion_ops). Windows are in packets of one MSS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

if TYPE_CHECKING:
    from ustack.tcp.control import TcpControl


class CongestionOps:
    """One object per algorithm, shared by its connections: it keeps nothing of its own."""

    name: str = "none"

    def init(self, tp: TcpControl) -> None:
        """The connection is established, or has just switched to this algorithm."""

    def ssthresh(self, tp: TcpControl) -> i64:
        """The slow start threshold after a loss; at least 2."""
        raise NotImplementedError

    def cong_avoid(self, tp: TcpControl, ack: i64, acked: i64) -> None:
        """``acked`` packets were acknowledged while the window was what limited us: open it."""
        raise NotImplementedError

    def set_state(self, tp: TcpControl, ca_state: i64) -> None:
        """The connection's ca_state is about to change."""

    def undo_cwnd(self, tp: TcpControl) -> i64:
        """The window to go back to when a loss turned out to be none."""
        raise NotImplementedError
