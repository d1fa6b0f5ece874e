"""The identification field of datagrams that may be fragmented (Linux ip_select_ident; RFC 6864, RFC 7739).

A global counter would tell everybody how much we send to anybody (idle scans, CVE-2019-10638), so there are many, each
for the (source, destination, protocol) triples that a secret hash puts there; one that rested goes on from a random
step further.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.entropy import keyed_hash
from ustack.timer import NSEC_PER_MSEC

if TYPE_CHECKING:
    from ustack.net import Net
    from ustack.sock import Sock

#: IP_IDENTS_SZ: as few as Linux takes.
IP_IDENTS_SZ: Final = 2048
_SECRET_LEN: Final = 16


class IpIdents:
    """One stack's generators; counters are 16 bits wide."""

    def __init__(self, net: Net) -> None:
        self.net: Net = net
        self._secret: bytes = net.entropy.take(_SECRET_LEN)
        self._start: bytes = net.entropy.take(2 * IP_IDENTS_SZ)  # where each generator begins
        self._idents: dict[int, int] = {}  # of those in use: the next; a stack of many that idle has none
        self._used: dict[int, int] = {}  # and when they were last, in ms
        self._last_triple: int = -1  # whose bucket the last one was: answers come in runs, and a hash costs 1 µs
        self._last_bucket: int = 0

    def ip_select_ident_segs(self, sk: Sock | None, df: bool, saddr: i64, daddr: i64, protocol: i64, segs: i64) -> i64:
        """The first of ``segs`` identifications for datagrams to ``daddr``.

        A connected socket counts for itself. RFC 6864 section 4.1: atomic datagrams, those with DF, may have any.
        """
        if sk is not None and sk.daddr != 0:
            ident = sk.inet_id
            sk.inet_id = (ident + segs) & 0xFFFF
            return ident
        return 0 if df else self.ip_idents_reserve(saddr, daddr, protocol, segs)

    def ip_idents_reserve(self, saddr: i64, daddr: i64, protocol: i64, segs: i64) -> i64:
        """Take ``segs`` numbers from the triple's generator (__ip_select_ident); the first of them."""
        triple = int((saddr << 8 | protocol) & 0xFF_FFFF_FFFF) << 32 | int(daddr)
        if triple != self._last_triple:
            self._last_triple = triple
            self._last_bucket = int(keyed_hash(self._secret, triple.to_bytes(9, "big")) % IP_IDENTS_SZ)
        bucket = self._last_bucket
        now = int(self.net.now // NSEC_PER_MSEC)
        rested = now - self._used.get(bucket, 0)
        # "If the bucket has been unused for N jiffies, add random(0..N)"
        step = int(self.net.entropy.below(min(rested, 0xFFFF))) if rested > 0 else 0
        self._used[bucket] = now
        ident = self._idents.get(bucket, -1)
        if ident < 0:
            ident = self._start[2 * bucket] << 8 | self._start[2 * bucket + 1]
        ident += step
        self._idents[bucket] = (ident + int(segs)) & 0xFFFF
        return ident & 0xFFFF
