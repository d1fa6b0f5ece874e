"""How often ICMP may speak (Linux icmp_global_allow, icmpv4_xrlim_allow, inet_peer_xrlim_allow; RFC 1812 4.3.2.8).

Two buckets for the types in ``icmp_ratemask``: one for the whole stack, one for each host. The global one is drawn
from by a random amount, because a bucket that can be counted tells a stranger which of our ports are open (SAD DNS,
CVE-2020-25705).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.device.net_device import IFF_LOOPBACK, NetDevice
from ustack.timer import NSEC_PER_MSEC, NSEC_PER_SEC
from ustack.wire.icmp import ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, NR_ICMP_TYPES

if TYPE_CHECKING:
    from ustack.net import Net

# what the global bucket answers
REFUSED: Final = 0
EXEMPT: Final = 1  #: not a type that is limited
LIMITED: Final = 2  #: allowed, and the host's bucket decides

#: A host that was silent may have this many at once (XRLIM_BURST_FACTOR).
XRLIM_BURST_FACTOR: Final = 6
#: Hosts remembered; the one least recently spoken to is forgotten for a new one (inet_peer_threshold).
MAX_PEERS: Final = 4096
#: The bucket is refilled at most this often (HZ / 50).
_REFILL_INTERVAL: Final[i64] = NSEC_PER_SEC // 50
#: A message costs 0, 1 or 2, one on average (icmp_global_consume).
_MAX_COST: Final = 3


class IcmpPeer:
    """What one host may still hear (struct inet_peer): ``tokens`` and ``last`` in ns."""

    def __init__(self, now: i64, tokens: i64) -> None:
        self.tokens: i64 = tokens
        self.last: i64 = now


class IcmpLimits:
    """The buckets of one stack."""

    def __init__(self, net: Net) -> None:
        self.net: Net = net
        self.credit: i64 = 0
        self.stamp: i64 = net.now - NSEC_PER_SEC
        self.peers: dict[int, IcmpPeer] = {}  #: by address, least recently used first

    def global_allow(self, icmp_type: i64, code: i64, dev: NetDevice | None) -> i64:
        """REFUSED (and counted), EXEMPT or LIMITED (icmpv4_global_allow). ``dev``: where the cause came in.

        What came by a loopback device is never refused here.
        """
        if not self._masked(icmp_type, code):
            return EXEMPT
        if dev is not None and dev.flags & IFF_LOOPBACK:
            return LIMITED
        if self._has_credit():
            return LIMITED
        self.net.mib.icmp.OutRateLimitGlobal += 1
        return REFUSED

    def xrlim_allow(self, verdict: i64, daddr: i64, out_dev: NetDevice) -> bool:
        """Whether ``daddr`` may hear it, after ``global_allow`` said ``verdict`` (icmpv4_xrlim_allow)."""
        if verdict != LIMITED or out_dev.flags & IFF_LOOPBACK:
            return verdict != REFUSED
        timeout = self.net.sysctl.icmp_ratelimit * NSEC_PER_MSEC
        if timeout > 0 and not self._peer_allow(daddr, timeout):
            self.net.mib.icmp.OutRateLimitHost += 1
            return False
        self.credit -= self.net.entropy.below(_MAX_COST)
        return True

    def _masked(self, icmp_type: i64, code: i64) -> bool:
        """Whether the type is one that is limited (icmpv4_mask_allow): "Don't limit PMTU discovery"."""
        if icmp_type > NR_ICMP_TYPES or (icmp_type == ICMP_DEST_UNREACH and code == ICMP_FRAG_NEEDED):
            return False
        return (self.net.sysctl.icmp_ratemask >> icmp_type) & 1 != 0

    def _has_credit(self) -> bool:
        """icmp_global_allow: icmp_msgs_per_sec, at most icmp_msgs_burst at once."""
        if self.credit > 0:
            return True
        delta = min(self.net.now - self.stamp, NSEC_PER_SEC)
        if delta < _REFILL_INTERVAL:
            return False
        increment = self.net.sysctl.icmp_msgs_per_sec * delta // NSEC_PER_SEC
        if increment == 0:
            return False
        self.stamp = self.net.now
        self.credit = min(self.credit + increment, self.net.sysctl.icmp_msgs_burst)
        return True

    def _peer_allow(self, daddr: i64, timeout: i64) -> bool:
        """inet_peer_xrlim_allow: one message each ``timeout`` ns, with a burst."""
        now = self.net.now
        peer = self.peers.pop(daddr, None)
        if peer is None:
            self._evict()
            peer = IcmpPeer(now, XRLIM_BURST_FACTOR * timeout)
        self.peers[daddr] = peer
        peer.tokens = min(peer.tokens + now - peer.last, XRLIM_BURST_FACTOR * timeout)
        peer.last = now
        if peer.tokens < timeout:
            return False
        peer.tokens -= timeout
        return True

    def _evict(self) -> None:
        if len(self.peers) >= MAX_PEERS:
            del self.peers[next(iter(self.peers))]
            self.net.mib.icmp.PeersEvicted += 1
