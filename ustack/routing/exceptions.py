"""What paths have told us about their MTU (RFC 1191; Linux fib_nh_exception, ip_rt_update_pmtu)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.timer import NEVER, NSEC_PER_SEC, Timer

if TYPE_CHECKING:
    from ustack.net import Net
    from ustack.routing.route import Routing

#: Destinations remembered (FNHE_HASH_SIZE); the oldest makes room.
FNHE_MAX: Final = 2048


class FibNhException:
    """One destination's path MTU in bytes (struct fib_nh_exception), until ``expires`` (ns)."""

    def __init__(self, pmtu: i64, locked: bool, expires: i64) -> None:
        self.pmtu: i64 = pmtu
        self.locked: bool = locked
        self.expires: i64 = expires


class PmtuExceptions(Timer):
    """Path MTUs by destination. Every change makes the routes given so far out of date."""

    def __init__(self, net: Net, routing: Routing) -> None:
        super().__init__()
        self.net: Net = net
        self.routing: Routing = routing
        self._by_daddr: dict[int, FibNhException] = {}

    def find(self, daddr: i64) -> FibNhException | None:
        """What is known of ``daddr`` (find_exception)."""
        return self._by_daddr.get(int(daddr))

    def entries(self) -> list[tuple[int, FibNhException]]:
        """All, oldest first."""
        return list(self._by_daddr.items())

    def update(self, daddr: i64, mtu: i64, old_mtu: i64) -> None:
        """A router says that only ``mtu`` bytes fit on the way to ``daddr``, where we thought ``old_mtu`` do.

        RFC 1191 section 3: "A host MUST never raise its estimate of the Path MTU in response to a Datagram Too Big
        message". Below route_min_pmtu the estimate stays there and the path's packets go without DF.
        """
        sysctl = self.net.sysctl
        if mtu >= old_mtu or mtu < 0:
            return
        locked = mtu < sysctl.route_min_pmtu
        if locked:
            mtu = min(old_mtu, sysctl.route_min_pmtu)
        expires = self.net.now + sysctl.route_mtu_expires * NSEC_PER_SEC
        known = self._by_daddr.pop(int(daddr), None)
        if known is None and len(self._by_daddr) >= FNHE_MAX:
            del self._by_daddr[next(iter(self._by_daddr))]
        self._by_daddr[int(daddr)] = FibNhException(mtu, locked, expires)
        if known is None or known.pmtu != mtu or known.locked != locked:
            self.routing.new_genid()
        if not self.pending:
            self.net.timers.mod_timer(self, expires)

    def flush(self) -> None:
        """Forget everything: routes or addresses have changed, so the paths may have."""
        self._by_daddr.clear()
        self.net.timers.del_timer(self)

    def fire(self) -> None:
        """RFC 1191 section 6.3: forget what is old, so that a path that has become wider is found again."""
        now = self.net.now
        old = [daddr for daddr, known in self._by_daddr.items() if known.expires <= now]
        for daddr in old:
            del self._by_daddr[daddr]
        if old:
            self.routing.new_genid()
        soonest = min([known.expires for known in self._by_daddr.values()], default=NEVER)
        if soonest != NEVER:
            self.net.timers.mod_timer(self, soonest)
