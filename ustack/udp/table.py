"""Who owns which UDP port, and which socket a datagram is for (Linux udp_table, udp_lib_get_port, compute_score).

A socket is in ``ports`` while it has a port, and in one of two more places while packets can find it: with its peer
in ``connected``, keyed by one integer, or without in ``open``, by port. A connected socket that matches always scores
higher than any other, so looking there first answers as compute_score would.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.entropy import keyed_hash
from ustack.sock import error

if TYPE_CHECKING:
    from ustack.net import Net
    from ustack.udp.sock import UdpSock

# where a socket can be found (UdpSock.hashed)
NOWHERE: Final = 0
OPEN: Final = 1
CONNECTED: Final = 2

_SECRET_LEN: Final = 16
# what compute_score weighs: an address beats everything, as Linux looks into that hash slot first
_SCORE_ADDRESS: Final = 4
_SCORE_PEER: Final = 2
_SCORE_DEVICE: Final = 2


def tuple_key(faddr: i64, fport: i64, lport: i64) -> i64:
    """62 bits of (foreign address, foreign port, local port): equal tuples have equal keys, not the other way round."""
    return (faddr << 30) ^ (fport << 15) ^ lport


class UdpTable:
    """One stack's UDP sockets. Only our own applications put anything in here; nothing grows by what arrives."""

    def __init__(self, net: Net) -> None:
        self.net: Net = net
        self.ports: dict[int, dict[UdpSock, None]] = {}
        self.open: dict[int, list[UdpSock]] = {}
        self.connected: dict[int, list[UdpSock]] = {}
        self._secret: bytes = net.entropy.take(_SECRET_LEN)

    # -- ports

    def get_port(self, sk: UdpSock, port: i64) -> None:
        """Give ``sk`` the port, or one of the local range for 0. Raises EADDRINUSE (udp_lib_get_port)."""
        if port == 0:
            port = self._choose(sk)
        elif self._in_use(sk, port):
            raise error(errno.EADDRINUSE)
        sk.num = port
        owners = self.ports.get(port)
        if owners is None:
            owners = self.ports[port] = {}
        owners[sk] = None
        self.hash(sk)

    def put_port(self, sk: UdpSock) -> None:
        """Take it back; not an error without one (udp_lib_unhash)."""
        if sk.num == 0:
            return
        self.unhash(sk)
        owners = self.ports[sk.num]
        del owners[sk]
        if not owners:
            del self.ports[sk.num]
        sk.num = 0

    def _choose(self, sk: UdpSock) -> i64:
        """RFC 6056 section 3.3.1, simple port randomization: a random start, then the next that is free."""
        low, high = self.net.sysctl.ip_local_port_range_min, self.net.sysctl.ip_local_port_range_max
        count = high - low + 1
        first = self.net.entropy.below(count)
        for step in range(count):
            port = low + (first + step) % count
            if not self._in_use(sk, port):
                return port
        raise error(errno.EADDRINUSE)

    def _in_use(self, sk: UdpSock, port: i64) -> bool:
        """Whether a socket there excludes ``sk`` (udp_lib_lport_inuse)."""
        owners = self.ports.get(port)
        if owners is None:
            return False
        for other in owners:
            if conflicts(sk, other):
                return True
        return False

    # -- finding

    def hash(self, sk: UdpSock) -> None:
        """Let packets find it under its addresses of now; not without a port."""
        if sk.num == 0 or sk.hashed != NOWHERE:
            return
        if sk.daddr != 0 and sk.dport != 0:
            sk.hash_key = tuple_key(sk.daddr, sk.dport, sk.num)
            sk.hashed = CONNECTED
            chain(self.connected, sk.hash_key, sk)
        else:
            sk.hash_key = sk.num
            sk.hashed = OPEN
            chain(self.open, sk.num, sk)

    def unhash(self, sk: UdpSock) -> None:
        """No longer let them; not an error if they cannot."""
        if sk.hashed != NOWHERE:
            unchain(self.connected if sk.hashed == CONNECTED else self.open, sk.hash_key, sk)
            sk.hashed = NOWHERE

    def lookup(self, saddr: i64, sport: i64, daddr: i64, dport: i64, dif: i64) -> UdpSock | None:
        """The socket for a datagram from (saddr, sport) to (daddr, dport) that came by ``dif`` (__udp4_lib_lookup)."""
        sk = self.demux_lookup(saddr, sport, daddr, dport, dif)
        if sk is not None:
            return sk
        chained = self.open.get(dport)
        if chained is None:
            return None
        sk = best_of(chained, saddr, sport, daddr, dport, dif)
        if sk is None or not sk.reuseport or len(chained) == 1:
            return sk
        return self._reuseport_select(sk, chained, saddr, sport, daddr, dport)

    def demux_lookup(self, saddr: i64, sport: i64, daddr: i64, dport: i64, dif: i64) -> UdpSock | None:
        """The same among connected sockets alone (__udp4_lib_demux_lookup)."""
        chained = self.connected.get(tuple_key(saddr, sport, dport))
        return None if chained is None else best_of(chained, saddr, sport, daddr, dport, dif)

    def listeners(self, saddr: i64, sport: i64, daddr: i64, dport: i64, dif: i64) -> list[UdpSock]:
        """Every socket that hears a broadcast or multicast (__udp_is_mcast_sock)."""
        return [sk for sk in self.ports.get(dport, ()) if compute_score(sk, saddr, sport, daddr, dport, dif) >= 0]

    def _reuseport_select(
        self, best: UdpSock, chained: list[UdpSock], saddr: i64, sport: i64, daddr: i64, dport: i64
    ) -> UdpSock:
        """One of the group that shares the port with ``best``, the same for the same flow (reuseport_select_sock)."""
        group = [sk for sk in chained if same_group(sk, best)]
        flow = keyed_hash(self._secret, b"%d %d %d %d" % (saddr, sport, daddr, dport))
        return group[flow % len(group)]


def compute_score(sk: UdpSock, saddr: i64, sport: i64, daddr: i64, dport: i64, dif: i64) -> i64:
    """How well ``sk`` fits, -1 for not at all."""
    score: i64 = 0
    if sk.num != dport:
        return -1
    if sk.rcv_saddr != 0:
        if sk.rcv_saddr != daddr:
            return -1
        score += _SCORE_ADDRESS
    if sk.daddr != 0:
        if sk.daddr != saddr or (sk.dport != 0 and sk.dport != sport):
            return -1
        score += _SCORE_PEER
    if sk.bound_dev_if != 0:
        if sk.bound_dev_if != dif:
            return -1
        score += _SCORE_DEVICE
    return score


def best_of(chained: list[UdpSock], saddr: i64, sport: i64, daddr: i64, dport: i64, dif: i64) -> UdpSock | None:
    """The one with the best score; of equals the newest, which Linux's hash chains hold in front."""
    best: UdpSock | None = None
    best_score: i64 = -1
    for sk in chained:
        score = compute_score(sk, saddr, sport, daddr, dport, dif)
        if score >= 0 and score >= best_score:
            best, best_score = sk, score
    return best


def conflicts(sk: UdpSock, other: UdpSock) -> bool:
    """Whether two sockets cannot have the same port: the rules of SO_REUSEADDR, SO_REUSEPORT and SO_BINDTODEVICE."""
    if sk is other or (sk.reuseaddr and other.reuseaddr):
        return False
    if sk.bound_dev_if != 0 and other.bound_dev_if != 0 and sk.bound_dev_if != other.bound_dev_if:
        return False
    if sk.rcv_saddr != 0 and other.rcv_saddr != 0 and sk.rcv_saddr != other.rcv_saddr:
        return False
    return not (sk.reuseport and other.reuseport and sk.uid == other.uid)


def same_group(sk: UdpSock, other: UdpSock) -> bool:
    """Whether SO_REUSEPORT shares the traffic of one between both (reuseport_add_sock)."""
    return (
        sk.reuseport
        and sk.rcv_saddr == other.rcv_saddr
        and sk.bound_dev_if == other.bound_dev_if
        and sk.daddr == other.daddr
        and sk.uid == other.uid
    )


def chain(table: dict[int, list[UdpSock]], key: i64, sk: UdpSock) -> None:
    chained = table.get(key)
    if chained is None:
        table[key] = [sk]
    else:
        chained.append(sk)


def unchain(table: dict[int, list[UdpSock]], key: i64, sk: UdpSock) -> None:
    chained = table[key]
    chained.remove(sk)
    if not chained:
        del table[key]
