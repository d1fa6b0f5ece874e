"""Where a bridge's stations are: learned from what they send, forgotten when they are silent (net/bridge/br_fdb.c).

Addresses of the bridge and of its ports are in it too, as local ones; those neither move nor age.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.timer import NEVER, NSEC_PER_MSEC, NSEC_PER_SEC, Timer

if TYPE_CHECKING:
    from ustack.device.bridge import Bridge, BridgePort

BR_DEFAULT_AGEING_TIME: Final[i64] = 300 * NSEC_PER_SEC
#: Stations that are learned at most. Linux has no limit unless told one (fdb_max_learned): we always have.
FDB_MAX_LEARNED: Final = 16_384
#: Two cleanups are at least so far apart.
_CLEANUP_APART: Final[i64] = 10 * NSEC_PER_MSEC

# what br_fdb_update has done
FDB_KNOWN: Final = 0
FDB_LEARNED: Final = 1
FDB_MOVED: Final = 2
FDB_OWN: Final = 3  #: our own address as a source: somebody lies, or there is a loop
FDB_FULL: Final = 4


class FdbEntry:
    """struct net_bridge_fdb_entry. Times in ns."""

    def __init__(self, mac: i64, port: BridgePort | None, local: bool, now: i64) -> None:
        self.mac: i64 = mac
        self.port: BridgePort | None = port  #: where it is; None for the bridge itself
        self.local: bool = local  #: BR_FDB_LOCAL: ours
        self.updated: i64 = now  #: when it last sent something
        self.used: i64 = now  #: when something was last sent to it


class FdbStats:
    """What became of addresses."""

    learned: i64 = 0
    moved: i64 = 0  #: came from another port than before
    aged: i64 = 0
    flushed: i64 = 0  #: their port went down or away
    refused: i64 = 0  #: not learned for want of room: frames to them are flooded
    own_source: i64 = 0  #: frames from outside with an address of ours as their source


class Fdb:
    """One bridge's forwarding database.

    When it is full nobody has to go: newcomers are not learned, and what is for them is flooded, until others age.
    """

    def __init__(self, bridge: Bridge) -> None:
        self.ageing_time: i64 = BR_DEFAULT_AGEING_TIME  #: ns; 0: nothing is learned, everything is flooded
        self.max_learned: i64 = FDB_MAX_LEARNED
        self.n_learned: i64 = 0  #: entries that are not local
        self.stats = FdbStats()
        self._bridge: Bridge = bridge
        self._entries: dict[int, FdbEntry] = {}
        self._gc = _Cleanup(self)

    def find(self, mac: i64) -> FdbEntry | None:
        """br_fdb_find_rcu: also one whose time is up, as long as nobody has cleaned up."""
        return self._entries.get(mac)

    def entries(self) -> list[FdbEntry]:
        """All of them, in the order they came."""
        return list(self._entries.values())

    def update(self, mac: i64, port: BridgePort) -> i64:
        """``mac`` has sent something that came in at ``port`` (br_fdb_update): what that was, FDB_*."""
        if self.ageing_time == 0:
            return FDB_KNOWN
        net = self._bridge.net
        entry = self._entries.get(mac)
        if entry is None:
            return self._learn(mac, port)
        if entry.local:
            self.stats.own_source += 1
            return FDB_OWN
        entry.updated = net.now
        if entry.port is port:
            return FDB_KNOWN
        entry.port = port
        self.stats.moved += 1
        return FDB_MOVED

    def _learn(self, mac: i64, port: BridgePort) -> i64:
        if self.n_learned >= self.max_learned:
            self.stats.refused += 1
            return FDB_FULL
        net = self._bridge.net
        self._entries[mac] = FdbEntry(mac, port, False, net.now)
        self.n_learned += 1
        self.stats.learned += 1
        if not self._gc.pending:
            net.timers.mod_timer(self._gc, net.now + self.ageing_time)
        return FDB_LEARNED

    # -- forgetting

    def set_ageing_time(self, ageing_time: i64) -> None:
        """ns (br_set_ageing_time): who has been silent for longer goes at the next cleaning, which is now."""
        self.ageing_time = ageing_time
        if self.n_learned != 0:
            self._bridge.net.timers.mod_timer(self._gc, self._bridge.net.now)

    def cleanup(self) -> None:
        """Forget who was silent for the ageing time; come again when the next one will have been (br_fdb_cleanup)."""
        now = self._bridge.net.now
        first: i64 = NEVER
        for entry in self.entries():
            if entry.local:
                continue
            until = entry.updated + self.ageing_time
            if until <= now:
                self._delete(entry)
                self.stats.aged += 1
            elif until < first:
                first = until
        if first != NEVER:
            self._bridge.net.timers.mod_timer(self._gc, max(first, now + _CLEANUP_APART))

    def delete_by_port(self, port: BridgePort) -> None:
        """Forget whoever was learned there (br_fdb_delete_by_port)."""
        for entry in self.entries():
            if entry.port is port and not entry.local:
                self._delete(entry)
                self.stats.flushed += 1

    def set_local(self, owners: list[tuple[int, BridgePort | None]]) -> None:
        """These addresses are ours, and no others; the first owner of one keeps it (br_fdb_changeaddr and its like)."""
        for entry in self.entries():
            if entry.local:
                del self._entries[entry.mac]
        for mac, port in owners:
            self.add_local(mac, port)

    def add_local(self, mac: i64, port: BridgePort | None) -> None:
        """``mac`` is ours, too, whoever seemed to have it until now (br_fdb_add_local)."""
        known = self._entries.get(mac)
        if known is not None and not known.local:
            self._delete(known)
            known = None
        if known is None:
            self._entries[mac] = FdbEntry(mac, port, True, self._bridge.net.now)

    def close(self) -> None:
        """The bridge goes away."""
        self._bridge.net.timers.del_timer(self._gc)
        self._entries.clear()
        self.n_learned = 0

    def _delete(self, entry: FdbEntry) -> None:
        del self._entries[entry.mac]
        self.n_learned -= 1


class _Cleanup(Timer):
    """gc_work: runs only while there is somebody who can age."""

    def __init__(self, fdb: Fdb) -> None:
        super().__init__()
        self.fdb: Fdb = fdb

    def fire(self) -> None:
        self.fdb.cleanup()
