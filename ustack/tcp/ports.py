"""Local ports: who holds which, who may share, which one a connect gets (Linux inet_hashtables.c, RFC 6056)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.siphash import SipHashKey, siphash_3u32
from ustack.sock import TCP_LISTEN, error

if TYPE_CHECKING:
    from ustack.net import Net
    from ustack.tcp.control import TcpControl
    from ustack.tcp.tables import TcpTables

#: RFC 6056 section 3.3.4: entries of the table that algorithm 4 perturbs (Linux: INET_TABLE_PERTURB_SIZE is 64 Ki).
PERTURB_SIZE: Final = 1024
_SECRET_LEN: Final = 16
# bits of tw_key
TW_REUSEADDR: Final = 1
TW_REUSEPORT: Final = 2


class BindBucket:
    """Who holds one port (struct inet_bind_bucket)."""

    def __init__(self, port: i64) -> None:
        self.port: i64 = port
        self.owners: dict[TcpControl, None] = {}  # ordered, so that runs repeat
        self.timewaits: dict[int, int] = {}  #: connections in TIME_WAIT that still use it, see tw_key
        self.by_connect: bool = True  #: all owners got it from a connect: others may, to other peers

    def conflicts(self, tp: TcpControl) -> bool:
        """True if ``tp`` may not bind it too (inet_csk_bind_conflict)."""
        for key in self.timewaits:
            shared = (tp.reuseaddr and key & TW_REUSEADDR) or (tp.reuseport and key & TW_REUSEPORT)
            if not shared and (tp.rcv_saddr == 0 or tp.rcv_saddr == key >> 2):
                return True
        return any(_clash(tp, other) for other in self.owners if other is not tp)

    def listened_by_another(self, tp: TcpControl) -> bool:
        """True if a socket that ``tp`` shares the port with has begun to listen meanwhile."""
        return any(other.state == TCP_LISTEN and _clash(tp, other) for other in self.owners if other is not tp)


def tw_key(laddr: i64, reuseaddr: bool, reuseport: bool = False) -> i64:
    """What matters of a TIME_WAIT to who wants its port: its address, and how its socket agreed to share."""
    return laddr << 2 | (TW_REUSEADDR if reuseaddr else 0) | (TW_REUSEPORT if reuseport else 0)


def same_group(tp: TcpControl, other: TcpControl) -> bool:
    """Whether SO_REUSEPORT shares what comes for one between both listeners (inet_reuseport_add_sock)."""
    return (
        tp.reuseport
        and other.reuseport
        and tp.uid == other.uid
        and tp.rcv_saddr == other.rcv_saddr
        and tp.bound_dev_if == other.bound_dev_if
    )


def reuseport_select_sock(best: TcpControl, listeners: list[TcpControl], flow: i64) -> TcpControl:
    """Which one of the group of ``best`` gets a connection with the hash ``flow`` (32 bits): always the same one, as
    long as the group is."""
    group = [tp for tp in listeners if tp is best or same_group(best, tp)]
    return group[(flow * len(group)) >> 32]


def _clash(tp: TcpControl, other: TcpControl) -> bool:
    """Two sockets want one port: not on different devices or addresses, nor where both agreed to share."""
    if tp.bound_dev_if and other.bound_dev_if and tp.bound_dev_if != other.bound_dev_if:
        return False
    if tp.rcv_saddr and other.rcv_saddr and tp.rcv_saddr != other.rcv_saddr:
        return False
    if tp.reuseaddr and other.reuseaddr and other.state != TCP_LISTEN:
        return False
    return not (tp.reuseport and other.reuseport and tp.uid == other.uid)


class BindTable:
    """The ports of one stack; at most 65,535 buckets."""

    def __init__(self, net: Net) -> None:
        self.net: Net = net
        self.buckets: dict[int, BindBucket] = {}
        self.secret: SipHashKey = SipHashKey(net.entropy.take(_SECRET_LEN))
        self._perturb: bytes = net.entropy.take(4 * PERTURB_SIZE)  # what each entry begins with
        self._perturbed: dict[int, int] = {}  # the entries that have moved on

    def bind(self, tp: TcpControl, port: i64) -> None:
        """Give ``tp`` local ``port``, or a free one for 0 (inet_csk_get_port). Raises EADDRINUSE."""
        if port == 0:
            port = self._free_port(tp)
        else:
            bucket = self.buckets.get(port)
            if bucket is not None and bucket.conflicts(tp):
                raise error(errno.EADDRINUSE)
        self.hold(tp, port, False)

    def hold(self, tp: TcpControl, port: i64, by_connect: bool) -> None:
        """Enter ``tp`` as an owner of ``port``, without asking."""
        bucket = self.buckets.get(port)
        if bucket is None:
            bucket = self.buckets[port] = BindBucket(port)
        bucket.owners[tp] = None
        bucket.by_connect = bucket.by_connect and by_connect
        tp.bind_bucket = bucket
        tp.num = tp.sport = port

    def release(self, tp: TcpControl) -> None:
        """``tp`` holds its port no longer; nothing happens if it holds none (inet_put_port)."""
        bucket = tp.bind_bucket
        if bucket is not None:
            tp.bind_bucket = None
            tp.num = 0
            bucket.owners.pop(tp, None)
            self._forget_if_empty(bucket)

    def add_timewait(self, bucket: BindBucket, key: i64) -> None:
        bucket.timewaits[key] = bucket.timewaits.get(key, 0) + 1

    def drop_timewait(self, bucket: BindBucket, key: i64) -> None:
        left = bucket.timewaits[key] - 1
        if left:
            bucket.timewaits[key] = left
        else:
            del bucket.timewaits[key]
        self._forget_if_empty(bucket)

    def _forget_if_empty(self, bucket: BindBucket) -> None:
        if not bucket.owners and not bucket.timewaits:
            self.buckets.pop(bucket.port, None)

    def _range(self) -> tuple[i64, i64]:
        sysctl = self.net.sysctl
        low = sysctl.ip_local_port_range_min
        return low, sysctl.ip_local_port_range_max - low + 1

    def _free_port(self, tp: TcpControl) -> i64:
        """A random port that nobody holds, else one whose holders allow it (inet_csk_find_open_port)."""
        low, count = self._range()
        start = self.net.entropy.below(count)
        shareable: i64 = 0
        for step in range(count):
            port = low + (start + step) % count
            bucket = self.buckets.get(port)
            if bucket is None:
                return port
            if shareable == 0 and not bucket.by_connect and not bucket.conflicts(tp):
                shareable = port
        if shareable == 0:
            raise error(errno.EADDRINUSE)
        return shareable

    def port_for_connect(self, tp: TcpControl, tables: TcpTables) -> i64:
        """A port from which (daddr, dport) is not connected yet (inet_hash_connect). Raises EADDRNOTAVAIL.

        RFC 6056 section 3.3.4, double-hash port selection: the place to start depends on the peer by a secret hash, so
        ports towards one peer tell nothing about those towards another, and the step is perturbed each time.
        """
        low, count = self._range()
        high, word = siphash_3u32(tp.saddr, tp.daddr, tp.dport, self.secret)
        slot = int(word % PERTURB_SIZE)
        perturb = self._perturbed.get(slot, -1)
        if perturb < 0:
            perturb = int.from_bytes(self._perturb[4 * slot : 4 * slot + 4], "big")
        start: i64 = (high + perturb) % count
        for step in range(count):
            port: i64 = low + (start + step) % count
            bucket = self.buckets.get(port)
            if bucket is None or (bucket.by_connect and tables.tuple_is_free(tp, port)):
                # a random step forward keeps consecutive ports apart (CVE-2022-1012)
                self._perturbed[slot] = int((perturb + step + 1 + self.net.entropy.below(8)) & 0xFFFF_FFFF)
                return port
        raise error(errno.EADDRNOTAVAIL)
