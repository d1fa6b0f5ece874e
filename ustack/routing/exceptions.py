"""What next hops have told us of single destinations: a smaller MTU, a better gateway (RFC 1191, RFC 1122 3.2.2.2).

Linux fib_nh_exception, find_exception, update_or_create_fnhe. Anybody on the path can make us remember something, so
a next hop's table has a bounded number of short chains under a secret hash, and everything in it expires.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.dst import DST_OBSOLETE_KILL, IP_MAX_MTU
from ustack.routing.multipath import mix
from ustack.routing.uapi import RTAX_MTU
from ustack.timer import NEVER, NSEC_PER_SEC, Timer

if TYPE_CHECKING:
    from ustack.dst import Dst
    from ustack.net import Net
    from ustack.routing.fib_types import FibNh

#: Chains of one next hop, and how long a chain may become; at random up to twice that, or its length would tell.
FNHE_HASH_SIZE: Final[i64] = 2048
FNHE_RECLAIM_DEPTH: Final[i64] = 5
#: A gateway's MTU that we do not believe in further than this: below it we fragment (bytes; ip_dst_mtu_maybe_forward).
LOCKED_GATEWAY_MTU: Final[i64] = 576
#: Those that have expired are looked for no more often than this.
_EXPIRY_GRAIN: Final[i64] = NSEC_PER_SEC


class FibNhException:
    """What is different for one destination behind a next hop (struct fib_nh_exception)."""

    def __init__(self, daddr: i64, genid: i64) -> None:
        self.daddr: i64 = daddr
        self.genid: i64 = genid
        self.gateway: i64 = 0  #: fnhe_gw: go this way instead; 0: as the next hop says
        self.pmtu: i64 = 0  #: bytes; 0: as the next hop says
        self.mtu_locked: bool = False
        self.expires: i64 = 0  #: ns
        self.stamp: i64 = 0  #: when it was last used for a route, or changed; the oldest makes room
        self.rth_input: Dst | None = None
        self.rth_output: Dst | None = None

    def flush_routes(self) -> None:
        """No answer that goes by it holds any longer (fnhe_flush_routes)."""
        if self.rth_input is not None:
            self.rth_input.genid = DST_OBSOLETE_KILL
            self.rth_input = None
        if self.rth_output is not None:
            self.rth_output.genid = DST_OBSOLETE_KILL
            self.rth_output = None


class FnheTable:
    """The exceptions of one next hop (nhc_exceptions). A chain has its newest first."""

    def __init__(self, secret: i64) -> None:
        self.secret: i64 = secret
        self.count: i64 = 0
        self.listed: bool = False  #: looked through when exceptions expire
        self._chains: dict[int, list[FibNhException]] = {}

    def chain(self, daddr: i64) -> list[FibNhException] | None:
        return self._chains.get(self._fnhe_hashfun(daddr))

    def find(self, daddr: i64) -> FibNhException | None:
        """The exception of ``daddr``, expired or not."""
        chain = self._chains.get(self._fnhe_hashfun(daddr))
        if chain is not None:
            for fnhe in chain:
                if fnhe.daddr == daddr:
                    return fnhe
        return None

    def entries(self) -> list[FibNhException]:
        return [fnhe for chain in self._chains.values() for fnhe in chain]

    def insert(self, fnhe: FibNhException, max_depth: i64) -> i64:
        """Put it in front; what makes the chain longer than ``max_depth`` and one more goes, the oldest first.

        How many had to go.
        """
        chain = self._chains.setdefault(self._fnhe_hashfun(fnhe.daddr), [])
        evicted: i64 = 0
        while len(chain) > max_depth:
            self._remove_oldest(chain)
            evicted += 1
        chain.insert(0, fnhe)
        self.count += 1
        return evicted

    def delete(self, fnhe: FibNhException) -> None:
        """Forget it (ip_del_fnhe)."""
        key = self._fnhe_hashfun(fnhe.daddr)
        chain = self._chains[key]
        chain.remove(fnhe)
        if not chain:
            del self._chains[key]
        self.count -= 1
        fnhe.flush_routes()

    def update_mtu(self, new: i64, orig: i64) -> None:
        """The first hop's MTU was ``orig`` and is ``new`` (fib_nhc_update_mtu).

        A path's MTU above it makes no sense any more; one that was equal to it was limited by it, and may be larger
        now. A locked one says only that the path's is below route_min_pmtu, until the link itself tells as much.
        """
        for fnhe in self.entries():
            if fnhe.mtu_locked:
                if new <= fnhe.pmtu:
                    fnhe.pmtu = new
                    fnhe.mtu_locked = False
            elif new < fnhe.pmtu or orig == fnhe.pmtu:
                fnhe.pmtu = new

    def _remove_oldest(self, chain: list[FibNhException]) -> None:
        """fnhe_remove_oldest."""
        oldest = chain[0]
        for fnhe in chain:
            if fnhe.stamp < oldest.stamp:
                oldest = fnhe
        chain.remove(oldest)
        self.count -= 1
        oldest.flush_routes()

    def _fnhe_hashfun(self, daddr: i64) -> i64:
        return mix(self.secret, daddr) & (FNHE_HASH_SIZE - 1)


class Exceptions(Timer):
    """The exceptions of all next hops: made here, found here, and their expiry."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net: Net = net
        self.fnhe_genid: i64 = 0  #: moves when all are to be forgotten (net.ipv4.route.flush)
        self._secret: i64 = net.entropy.u32()
        self._tables: list[FnheTable] = []  # those that have any

    def find_exception(self, nhc: FibNh, daddr: i64) -> FibNhException | None:
        """What is different for ``daddr`` behind ``nhc``, None for nothing; what has expired is forgotten here."""
        table = nhc.exceptions
        if table is None:
            return None
        fnhe = table.find(daddr)
        if fnhe is None or self.net.now < fnhe.expires:
            return fnhe
        table.delete(fnhe)
        return None

    def update_or_create_fnhe(
        self, nhc: FibNh, daddr: i64, gateway: i64, pmtu: i64, locked: bool, expires: i64
    ) -> FibNhException:
        """Remember for ``daddr`` behind ``nhc`` another gateway, or another MTU, 0 standing for "as before"."""
        table = nhc.exceptions
        if table is None:
            table = nhc.exceptions = FnheTable(self._secret)
        fnhe = table.find(daddr)
        if fnhe is None:
            fnhe = self._create(nhc, table, daddr)
        fnhe.genid = self.fnhe_genid
        if gateway != 0:
            fnhe.gateway = gateway
        if pmtu != 0:
            fnhe.pmtu = pmtu
            fnhe.mtu_locked = locked
        fnhe.expires = expires
        fnhe.stamp = self.net.now
        if fnhe.rth_input is not None:
            fill_route_from_fnhe(fnhe.rth_input, fnhe, self.net.now)
        if fnhe.rth_output is not None:
            fill_route_from_fnhe(fnhe.rth_output, fnhe, self.net.now)
        if not self.pending or expires < self.expires:
            self.net.timers.mod_timer(self, expires)
        return fnhe

    def rt_bind_exception(self, dst: Dst, fnhe: FibNhException, daddr: i64, do_cache: bool) -> bool:
        """Let ``dst`` go by ``fnhe``, and be kept by it; False if it is not kept."""
        if fnhe.genid != self.fnhe_genid:
            fnhe.genid = self.fnhe_genid
            fnhe.gateway = fnhe.pmtu = fnhe.expires = 0
            fnhe.mtu_locked = False
            fnhe.flush_routes()
        fill_route_from_fnhe(dst, fnhe, self.net.now)
        if dst.gateway == 0:
            dst.gateway = daddr
        fnhe.stamp = self.net.now
        if not do_cache:
            return False
        if dst.is_input:
            fnhe.rth_input = dst
        else:
            fnhe.rth_output = dst
        return True

    def flush(self) -> None:
        """Forget all (fnhe_genid_bump); each when it is asked for next."""
        self.fnhe_genid += 1

    def entries(self) -> list[FibNhException]:
        """All that hold, of all next hops."""
        everything = [fnhe for table in self._tables for fnhe in table.entries()]
        return [fnhe for fnhe in everything if fnhe.genid == self.fnhe_genid and self.net.now < fnhe.expires]

    def fire(self) -> None:
        """RFC 1191 section 6.3: forget what is old, so that a path that has become wider is found again."""
        now = self.net.now
        soonest: i64 = NEVER
        for table in self._tables:
            for fnhe in table.entries():
                if fnhe.expires <= now:
                    table.delete(fnhe)
                elif fnhe.expires < soonest:
                    soonest = fnhe.expires
            table.listed = table.count != 0
        self._tables = [table for table in self._tables if table.listed]
        if soonest != NEVER:
            self.net.timers.mod_timer(self, max(soonest, now + _EXPIRY_GRAIN))

    def _create(self, nhc: FibNh, table: FnheTable, daddr: i64) -> FibNhException:
        """The second half of update_or_create_fnhe.

        "Exception created; mark the cached routes for the nexthop stale, so anyone caching it rechecks if this
        exception applies to them."
        """
        fnhe = FibNhException(daddr, self.fnhe_genid)
        if not table.listed:
            table.listed = True
            self._tables.append(table)
        depth = FNHE_RECLAIM_DEPTH + self.net.entropy.below(FNHE_RECLAIM_DEPTH)
        self.net.mib.rt_cache.fnhe_evicted += table.insert(fnhe, depth)
        if nhc.rth_input is not None:
            nhc.rth_input.genid = DST_OBSOLETE_KILL
        if nhc.rth_output is not None:
            nhc.rth_output.genid = DST_OBSOLETE_KILL
        return fnhe


def fill_route_from_fnhe(dst: Dst, fnhe: FibNhException, now: i64) -> None:
    """What ``fnhe`` says, for those who use ``dst`` from now on."""
    dst.pmtu = fnhe.pmtu
    dst.mtu_locked = fnhe.mtu_locked or (dst.fi is not None and dst.fi.metric_locked(RTAX_MTU))
    dst.expires = fnhe.expires
    if fnhe.gateway != 0:
        dst.redirected = True
        dst.uses_gateway = True
        dst.gateway = fnhe.gateway
    rt_set_mtu(dst, now)


def rt_set_mtu(dst: Dst, now: i64) -> None:
    """``mtu`` and ``mtu_forward`` from what route, device and path say (ip_dst_mtu_maybe_forward)."""
    mtu = dst.metric(RTAX_MTU)
    if mtu == 0:
        mtu = dst.dev.mtu
        if dst.mtu_locked and dst.uses_gateway and mtu > LOCKED_GATEWAY_MTU:
            mtu = LOCKED_GATEWAY_MTU
    mtu = min(mtu, IP_MAX_MTU)
    path = min(dst.pmtu, IP_MAX_MTU) if dst.pmtu != 0 and now < dst.expires else mtu
    dst.mtu = path
    dst.mtu_forward = path if dst.mtu_locked else mtu
