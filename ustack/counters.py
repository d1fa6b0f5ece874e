"""The SNMP counters of one stack, by Linux's names (net/ipv4/proc.c; RFC 1213, RFC 2011 to 2013).

One class a group of /proc/net/snmp and /proc/net/netstat; an attribute a counter, so that counting is one addition.
"""

from __future__ import annotations

from mypy_extensions import i64


class IpMib:
    """The Ip and IpExt groups."""

    InReceives: i64 = 0
    InHdrErrors: i64 = 0
    InAddrErrors: i64 = 0
    ForwDatagrams: i64 = 0
    InUnknownProtos: i64 = 0
    InDiscards: i64 = 0
    InDelivers: i64 = 0
    OutRequests: i64 = 0
    OutDiscards: i64 = 0
    OutNoRoutes: i64 = 0
    OutTransmits: i64 = 0
    ReasmTimeout: i64 = 0
    ReasmReqds: i64 = 0
    ReasmOKs: i64 = 0
    ReasmFails: i64 = 0
    ReasmOverlaps: i64 = 0
    FragOKs: i64 = 0
    FragFails: i64 = 0
    FragCreates: i64 = 0
    InNoRoutes: i64 = 0
    InTruncatedPkts: i64 = 0
    InMcastPkts: i64 = 0
    OutMcastPkts: i64 = 0
    InBcastPkts: i64 = 0
    OutBcastPkts: i64 = 0
    InCsumErrors: i64 = 0


class IcmpMib:
    """The Icmp group."""

    InMsgs: i64 = 0
    InErrors: i64 = 0
    InCsumErrors: i64 = 0
    InDestUnreachs: i64 = 0
    InTimeExcds: i64 = 0
    InParmProbs: i64 = 0
    InSrcQuenchs: i64 = 0
    InRedirects: i64 = 0
    InEchos: i64 = 0
    InEchoReps: i64 = 0
    InTimestamps: i64 = 0
    InTimestampReps: i64 = 0
    OutMsgs: i64 = 0
    OutErrors: i64 = 0
    OutRateLimitGlobal: i64 = 0
    OutRateLimitHost: i64 = 0
    PeersEvicted: i64 = 0  #: hosts whose rate limit was forgotten to make room for others
    OutDestUnreachs: i64 = 0
    OutTimeExcds: i64 = 0
    OutParmProbs: i64 = 0
    OutRedirects: i64 = 0
    OutEchos: i64 = 0
    OutEchoReps: i64 = 0
    OutTimestampReps: i64 = 0
    RedirectPeersEvicted: i64 = 0  #: ours: hosts whose redirects are no longer counted, for others' sake


class UdpMib:
    """The Udp group."""

    InDatagrams: i64 = 0
    NoPorts: i64 = 0
    InErrors: i64 = 0
    OutDatagrams: i64 = 0
    RcvbufErrors: i64 = 0
    SndbufErrors: i64 = 0
    InCsumErrors: i64 = 0
    IgnoredMulti: i64 = 0
    MemErrors: i64 = 0


class TcpMib:
    """The Tcp group."""

    ActiveOpens: i64 = 0
    PassiveOpens: i64 = 0
    AttemptFails: i64 = 0
    EstabResets: i64 = 0
    CurrEstab: i64 = 0
    InSegs: i64 = 0
    OutSegs: i64 = 0
    RetransSegs: i64 = 0
    InErrs: i64 = 0
    OutRsts: i64 = 0
    InCsumErrors: i64 = 0


class TcpExtMib:
    """The TcpExt group (enum LINUX_MIB_*), in Linux's order, without those that nothing here could move."""

    SyncookiesSent: i64 = 0
    SyncookiesRecv: i64 = 0
    SyncookiesFailed: i64 = 0
    EmbryonicRsts: i64 = 0  #: half-open connections ended by a RST or a bad SYN
    PruneCalled: i64 = 0
    RcvPruned: i64 = 0
    OfoPruned: i64 = 0
    OutOfWindowIcmps: i64 = 0
    ArpFilter: i64 = 0
    TW: i64 = 0
    TWRecycled: i64 = 0
    TWKilled: i64 = 0
    PAWSActive: i64 = 0
    PAWSEstab: i64 = 0
    BeyondWindow: i64 = 0
    TSEcrRejected: i64 = 0
    PAWSOldAck: i64 = 0
    PAWSTimewait: i64 = 0
    DelayedACKs: i64 = 0
    DelayedACKLost: i64 = 0
    ListenOverflows: i64 = 0
    ListenDrops: i64 = 0
    TCPHPHits: i64 = 0
    TCPPureAcks: i64 = 0
    TCPHPAcks: i64 = 0
    TCPRenoRecovery: i64 = 0
    TCPSackRecovery: i64 = 0
    TCPSACKReneging: i64 = 0
    TCPSACKReorder: i64 = 0
    TCPRenoReorder: i64 = 0
    TCPTSReorder: i64 = 0
    TCPFullUndo: i64 = 0
    TCPPartialUndo: i64 = 0
    TCPDSACKUndo: i64 = 0
    TCPLossUndo: i64 = 0
    TCPLostRetransmit: i64 = 0
    TCPRenoFailures: i64 = 0
    TCPSackFailures: i64 = 0
    TCPLossFailures: i64 = 0
    TCPFastRetrans: i64 = 0
    TCPSlowStartRetrans: i64 = 0
    TCPTimeouts: i64 = 0
    TCPLossProbes: i64 = 0
    TCPLossProbeRecovery: i64 = 0
    TCPRenoRecoveryFail: i64 = 0
    TCPSackRecoveryFail: i64 = 0
    TCPRcvCollapsed: i64 = 0
    TCPDSACKOldSent: i64 = 0
    TCPDSACKOfoSent: i64 = 0
    TCPDSACKRecv: i64 = 0
    TCPDSACKOfoRecv: i64 = 0
    TCPAbortOnData: i64 = 0
    TCPAbortOnClose: i64 = 0
    TCPAbortOnMemory: i64 = 0
    TCPAbortOnTimeout: i64 = 0
    TCPAbortOnLinger: i64 = 0
    TCPMemoryPressures: i64 = 0
    TCPMemoryPressuresChrono: i64 = 0
    TCPSACKDiscard: i64 = 0
    TCPDSACKIgnoredOld: i64 = 0
    TCPDSACKIgnoredNoUndo: i64 = 0
    TCPSpuriousRTOs: i64 = 0
    TCPMD5Unexpected: i64 = 0
    TCPSackMerged: i64 = 0
    TCPMinTTLDrop: i64 = 0
    TCPDeferAcceptDrop: i64 = 0
    IPReversePathFilter: i64 = 0
    TCPTimeWaitOverflow: i64 = 0
    TCPReqQFullDoCookies: i64 = 0
    TCPReqQFullDrop: i64 = 0
    TCPRetransFail: i64 = 0
    TCPRcvCoalesce: i64 = 0
    TCPOFOQueue: i64 = 0
    TCPOFODrop: i64 = 0
    TCPOFOMerge: i64 = 0
    TCPChallengeACK: i64 = 0
    TCPSYNChallenge: i64 = 0
    TCPFastOpenActive: i64 = 0
    TCPFastOpenActiveFail: i64 = 0
    TCPFastOpenPassive: i64 = 0
    TCPFastOpenPassiveFail: i64 = 0
    TCPFastOpenListenOverflow: i64 = 0
    TCPFastOpenCookieReqd: i64 = 0
    TCPFastOpenBlackhole: i64 = 0
    TCPAutoCorking: i64 = 0
    TCPFromZeroWindowAdv: i64 = 0
    TCPToZeroWindowAdv: i64 = 0
    TCPWantZeroWindowAdv: i64 = 0
    TCPSynRetrans: i64 = 0
    TCPOrigDataSent: i64 = 0
    TCPHystartTrainDetect: i64 = 0
    TCPHystartTrainCwnd: i64 = 0
    TCPHystartDelayDetect: i64 = 0
    TCPHystartDelayCwnd: i64 = 0
    TCPACKSkippedSynRecv: i64 = 0
    TCPACKSkippedPAWS: i64 = 0
    TCPACKSkippedSeq: i64 = 0
    TCPACKSkippedFinWait2: i64 = 0
    TCPACKSkippedTimeWait: i64 = 0
    TCPACKSkippedChallenge: i64 = 0
    TCPWinProbe: i64 = 0
    TCPKeepAlive: i64 = 0
    TCPMTUPFail: i64 = 0
    TCPMTUPSuccess: i64 = 0
    TCPDelivered: i64 = 0
    TCPDeliveredCE: i64 = 0
    TCPAckCompressed: i64 = 0
    TCPZeroWindowDrop: i64 = 0
    TCPRcvQDrop: i64 = 0
    TCPWqueueTooBig: i64 = 0
    TCPFastOpenPassiveAltKey: i64 = 0
    TCPDSACKRecvSegs: i64 = 0
    TCPDSACKIgnoredDubious: i64 = 0
    TCPAOKeyNotFound: i64 = 0
    TCPMetricsEvicted: i64 = 0  #: ours: hosts forgotten for others


class NeighMib:
    """/proc/net/stat/arp_cache."""

    allocs: i64 = 0
    destroys: i64 = 0
    hash_grows: i64 = 0
    lookups: i64 = 0
    hits: i64 = 0
    res_failed: i64 = 0
    rcv_probes_mcast: i64 = 0
    rcv_probes_ucast: i64 = 0
    forced_gc_runs: i64 = 0
    unresolved_discards: i64 = 0
    table_fulls: i64 = 0
    conflicts: i64 = 0  #: frames that claimed one of our addresses (RFC 5227)


class RtCacheMib:
    """/proc/net/stat/rt_cache."""

    in_hit: i64 = 0
    in_slow_tot: i64 = 0
    in_slow_mc: i64 = 0
    in_no_route: i64 = 0
    in_brd: i64 = 0
    in_martian_dst: i64 = 0
    in_martian_src: i64 = 0
    out_hit: i64 = 0
    out_slow_tot: i64 = 0
    out_slow_mc: i64 = 0
    fnhe_evicted: i64 = 0  #: ours: exceptions of next hops that made room for others


class NetfilterMib:
    """What Linux has no counter for."""

    hook_errors: i64 = 0  #: hook functions that raised, or answered with no verdict


class PathAccount:
    """Where every packet that a device received has ended; with what is queued it always balances (decision 7)."""

    received: i64 = 0
    delivered: i64 = 0
    forwarded: i64 = 0
    dropped: i64 = 0


class Mib:
    """struct netns_mib: every group, under the name that /proc gives it."""

    def __init__(self) -> None:
        self.ip = IpMib()
        self.icmp = IcmpMib()
        self.udp = UdpMib()
        self.tcp = TcpMib()
        self.tcpext = TcpExtMib()
        self.neigh = NeighMib()
        self.netfilter = NetfilterMib()
        self.rt_cache = RtCacheMib()
        self.path = PathAccount()

        self._groups: dict[str, object] = {
            "Ip": self.ip,
            "Icmp": self.icmp,
            "Udp": self.udp,
            "Tcp": self.tcp,
            "TcpExt": self.tcpext,
            "Neigh": self.neigh,
            "Netfilter": self.netfilter,
            "RtCache": self.rt_cache,
            "Path": self.path,
        }

    def groups(self) -> dict[str, object]:
        """Group name to its object, in the order they are shown."""
        return self._groups

    def snapshot(self) -> dict[str, int]:
        """Every counter as ``Group.Name``; what tests compare before and after."""
        return {
            f"{group}.{name}": getattr(counters, name)
            for group, counters in self.groups().items()
            for name in counter_names(type(counters))
        }

    def bump(self, name: str) -> None:
        """Add one to ``Group.Name``: the slow way, for tables of counters (drop reasons)."""
        group, _, counter = name.partition(".")
        target = self._groups[group]
        setattr(target, counter, getattr(target, counter) + 1)


def counter_names(group: type) -> tuple[str, ...]:
    """The counters of a group in the order of its class, compiled or not (a native class has no annotations)."""
    native: tuple[str, ...] | None = getattr(group, "__mypyc_attrs__", None)
    return tuple(group.__annotations__) if native is None else native
