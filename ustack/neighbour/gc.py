"""What the neighbour table forgets, so that it stays small (Linux net/core/neighbour.c: gc_work, neigh_forced_gc).

Above gc_thresh1 what nobody uses goes after a while; above gc_thresh2 what can be spared goes now and then, and at
gc_thresh3 before anything new comes in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.drop import Reason
from ustack.neighbour.states import NUD_FAILED, NUD_IN_TIMER, NUD_NOARP
from ustack.timer import NSEC_PER_MSEC, NSEC_PER_SEC, Timer

if TYPE_CHECKING:
    from ustack.neighbour.table import Neighbour, NeighbourTable

#: The forced collector spares what changed in these last seconds, and up to gc_thresh3 it rests as long.
FLUSH_INTERVAL: Final[i64] = 5 * NSEC_PER_SEC
#: After a run that freed nothing it is not tried again for so long: a flood must not buy a scan with every packet.
FUTILE_INTERVAL: Final[i64] = 10 * NSEC_PER_MSEC


class Collector(Timer):
    """The table's slow clock (gc_work), and its collector of last resort."""

    def __init__(self, table: NeighbourTable) -> None:
        super().__init__()
        self.table: NeighbourTable = table
        self.last_flush: i64 = table.net.now
        self.own_futile: i64 = -FUTILE_INTERVAL  #: when forced collection last freed nothing, for our own need
        self.learned_futile: i64 = -FUTILE_INTERVAL  #: the same for a stranger's request

    def fire(self) -> None:
        self.neigh_periodic_work()

    def wake(self) -> None:
        """An entry has come: from gc_thresh1 on the clock ticks."""
        if not self.pending and self.table.gc_entries >= self.table.net.sysctl.gc_thresh1:
            self._arm()

    def neigh_periodic_work(self) -> None:
        """Above gc_thresh1, forget what failed or was not used for gc_stale_time (neigh_periodic_work)."""
        table = self.table
        now = table.net.now
        if table.gc_entries < table.net.sysctl.gc_thresh1:
            return
        for neighbour in table.entries():
            if not _collectable(neighbour):
                continue
            oldest = now - neighbour.dev.in_dev.arp_parms.gc_stale_time * NSEC_PER_SEC
            if neighbour.nud_state == NUD_FAILED or max(neighbour.used, neighbour.confirmed) <= oldest:
                table.neigh_remove_one(neighbour, Reason.NEIGH_DEAD)
        self._arm()

    def neigh_forced_gc(self, learned: bool) -> int:
        """Make room down to gc_thresh2 at once (neigh_forced_gc); how many went.

        What failed goes, what needs no resolution, and what is stale and unchanged for 5 s. For our own need, then what
        only strangers' requests have put here goes as well: they must not keep us from resolving (RFC 6583 section 6).
        """
        table = self.table
        table.net.mib.neigh.forced_gc_runs += 1
        surplus = table.gc_entries - table.net.sysctl.gc_thresh2
        before = table.net.now - FLUSH_INTERVAL
        shrunk = 0
        for neighbour in table.entries():
            if not _collectable(neighbour):
                continue
            unasked = neighbour.learned and not learned
            if neighbour.nud_state & (NUD_FAILED | NUD_NOARP) != 0 or neighbour.updated < before or unasked:
                table.neigh_remove_one(neighbour, Reason.NEIGH_DEAD)
                shrunk += 1
                if shrunk >= surplus:
                    break
        self.last_flush = table.net.now
        return shrunk

    def make_room(self, learned: bool) -> bool:
        """neigh_alloc's test: between gc_thresh2 and 3 collect now and then, at gc_thresh3 always, and it must help."""
        sysctl = self.table.net.sysctl
        now = self.table.net.now
        entries = self.table.gc_entries
        full = entries >= sysctl.gc_thresh3
        rested = now > self.last_flush + FLUSH_INTERVAL
        if not full and (entries < sysctl.gc_thresh2 or not rested):
            return True
        if full and now - (self.learned_futile if learned else self.own_futile) < FUTILE_INTERVAL:
            return False
        if self.neigh_forced_gc(learned) != 0:
            return True
        if learned:
            self.learned_futile = now
        else:
            self.own_futile = now
        return not full

    def _arm(self) -> None:
        """Linux's period: "cycle through all hash buckets every BASE_REACHABLE_TIME/2 ticks"."""
        net = self.table.net
        period = max(net.conf.neigh_default.base_reachable_time_ms * NSEC_PER_MSEC // 2, NSEC_PER_SEC)
        net.timers.mod_timer(self, net.now + period)


def _collectable(neighbour: Neighbour) -> bool:
    return neighbour.nud_state & NUD_IN_TIMER == 0 and not neighbour.exempt
