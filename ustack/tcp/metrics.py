"""What is remembered of hosts after their connections have ended (Linux net/ipv4/tcp_metrics.c, as far as it is used).

A Fast Open cookie with the MSS that goes with it, and that a handshake was once finished. By both addresses; the ones
that nobody has asked for longest are forgotten when there are too many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

if TYPE_CHECKING:
    from ustack.net import Net

#: Hosts remembered at most.
TCP_METRICS_MAX: Final = 4096


class TcpMetric:
    """What is known of one host (struct tcp_metrics_block, tcp_fastopen_metrics)."""

    def __init__(self) -> None:
        self.proven: bool = False  #: a handshake with it was finished
        self.mss: i64 = 0
        self.cookie: bytes = b""
        self.exp: bool = False  #: the cookie came in the experimental option
        self.try_exp: i64 = 0  #: 1: ask for one in the experimental option; 2: that was in vain too


class TcpMetrics:
    """The table of one stack."""

    def __init__(self, net: Net) -> None:
        self.net: Net = net
        self.blocks: dict[int, TcpMetric] = {}  # the one used last is the last

    def __len__(self) -> int:
        return len(self.blocks)

    def lookup(self, saddr: i64, daddr: i64) -> TcpMetric | None:
        """What is known of ``daddr`` as seen from ``saddr``."""
        return self.blocks.get(_key(saddr, daddr))

    def get(self, saddr: i64, daddr: i64) -> TcpMetric:
        """The same, from now on if nothing was."""
        key = _key(saddr, daddr)
        found = self.blocks.pop(key, None)
        if found is None:
            found = TcpMetric()
            if len(self.blocks) >= TCP_METRICS_MAX:
                del self.blocks[next(iter(self.blocks))]
                self.net.mib.tcpext.TCPMetricsEvicted += 1
        self.blocks[key] = found
        return found

    def prove(self, saddr: i64, daddr: i64) -> None:
        """A handshake with ``daddr`` is done."""
        found = self.lookup(saddr, daddr)
        if found is None:
            found = self.get(saddr, daddr)
        found.proven = True

    def is_proven(self, saddr: i64, daddr: i64) -> bool:
        """tcp_peer_is_proven."""
        found = self.lookup(saddr, daddr)
        return found is not None and found.proven

    def flush(self) -> None:
        """Forget everybody (``ip tcp_metrics flush all``)."""
        self.blocks.clear()


def _key(saddr: i64, daddr: i64) -> int:
    """63 bits are not enough for two addresses: a plain integer that may be longer, made seldom."""
    return int(saddr) << 32 | int(daddr)
