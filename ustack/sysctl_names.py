"""What settings there are: Linux's names, where each is kept, what values it takes, and what it means.

The limits are Linux's (net/ipv4/sysctl_net_ipv4.c, net/ipv4/devinet.c, net/core/neighbour.c), with two exceptions:
where Linux lets a time be negative, and where a value of 0 would stop the stack (netdev_budget), the limit is stricter.
Documentation: Linux's Documentation/networking/ip-sysctl.rst and Documentation/admin-guide/sysctl/net.rst.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

INT_MIN: Final = -(1 << 31)
INT_MAX: Final = (1 << 31) - 1
U8_MAX: Final = 255
#: Longest time in seconds that the kernel keeps (INT_MAX jiffies at the usual HZ of 250).
SEC_MAX: Final = INT_MAX // 250
#: bytes
MAX_MEMORY: Final = (1 << 62) - 1
SOCK_MIN_RCVBUF: Final = 2304
SOCK_MIN_SNDBUF: Final = 4608
#: What unres_qlen counts in, bytes: SKB_TRUESIZE(ETH_FRAME_LEN).
SKB_TRUESIZE_ETH: Final = 2090
#: route.redirect_load and redirect_silence are in jiffies, of 4 ms at the usual HZ of 250.
JIFFY_MS: Final = 4

#: Room for a congestion control's name, with the byte that ends it.
TCP_CA_NAME_MAX: Final[i64] = 16

RW: Final = 0o644
RO: Final = 0o444
WO: Final = 0o200


class Setting:
    """One setting: ``attrs`` are where its numbers are kept, in units of ``scale``."""

    def __init__(
        self,
        name: str,
        doc: str,
        attrs: tuple[str, ...] = (),
        low: i64 = INT_MIN,
        high: i64 = INT_MAX,
        scale: i64 = 1,
        mode: i64 = RW,
    ) -> None:
        """``attrs``: by default one, of the name itself."""
        self.name: str = name
        self.doc: str = doc
        self.attrs: tuple[str, ...] = attrs or (name,)
        self.low: i64 = low
        self.high: i64 = high
        self.scale: i64 = scale  #: the attribute is the value times this
        self.mode: i64 = mode


class TextSetting(Setting):
    """One setting that is a text, kept by whoever it is about."""

    def __init__(self, name: str, doc: str, room: i64 = 1024, mode: i64 = RW) -> None:
        """``room``: bytes that the text may take with the one that ends it; what is beyond is cut off."""
        super().__init__(name, doc, mode=mode)
        self.room: i64 = room

    def read(self) -> str:
        raise NotImplementedError

    def write(self, text: str) -> None:
        """Raises what the setting's owner says to a text that is none of his."""
        raise NotImplementedError


def core_settings() -> list[Setting]:
    """net.core.*"""
    return [
        Setting("rmem_default", "receive buffer of a new socket, bytes", low=SOCK_MIN_RCVBUF),
        Setting("rmem_max", "largest receive buffer that SO_RCVBUF gives, bytes", low=SOCK_MIN_RCVBUF),
        Setting("wmem_default", "send buffer of a new socket, bytes", low=SOCK_MIN_SNDBUF),
        Setting("wmem_max", "largest send buffer that SO_SNDBUF gives, bytes", low=SOCK_MIN_SNDBUF),
        Setting("somaxconn", "largest backlog that listen() gives", low=0),
        Setting("netdev_budget", "packets received in one go from all devices", low=1),
        Setting("netdev_max_backlog", "packets that wait on the loopback device"),
        Setting("dev_weight", "packets received in one go from one device", low=1),
    ]


def _flag(name: str, doc: str) -> Setting:
    """A byte whose only question is whether it is 0 (proc_dou8vec_minmax)."""
    return Setting(name, doc, low=0, high=U8_MAX)


def _bool(name: str, doc: str) -> Setting:
    return Setting(name, doc, low=0, high=1)


def _seconds(name: str, doc: str) -> Setting:
    return Setting(name, doc, low=0, high=SEC_MAX)


def _route(name: str, doc: str, low: i64 = 0, high: i64 = INT_MAX) -> Setting:
    return Setting(name, doc, (f"route_{name}",), low, high)


def _route_jiffies(name: str, doc: str) -> Setting:
    return Setting(name, doc, (f"route_{name}_ms",), 0, scale=JIFFY_MS)


def ip_settings() -> list[Setting]:
    """net.ipv4.*: IP, ICMP, UDP, fragments, multipath routes."""
    ports, groups = "ip_local_port_range", "ping_group_range"
    return [
        Setting("ip_default_ttl", "time to live of packets we send", low=1, high=U8_MAX),
        _flag("ip_nonlocal_bind", "1: sockets may bind to addresses that are not ours"),
        _flag("ip_forward_use_pmtu", "1: forwarding believes the path MTU that was learned, not the next link's alone"),
        _bool("ip_forward_update_priority", "1: what is forwarded has the priority of its TOS (SO_PRIORITY)"),
        _flag("fwmark_reflect", "1: what answers a packet and has no socket (ICMP, RST) has its mark"),
        _flag("ip_early_demux", "1: packets of connections are found before they are routed, and go their way"),
        _flag("tcp_early_demux", "1: TCP's are"),
        _flag("udp_early_demux", "1: those of connected UDP sockets are"),
        _bool("icmp_errors_use_inbound_ifaddr", "1: errors come from the device that what they are about came by"),
        _flag("ip_no_pmtu_disc", "path MTU discovery: 0 on, 1 off, 2 path MTU messages ignored, 3 hardened"),
        Setting(ports, "ports that are chosen from: first and last", (f"{ports}_min", f"{ports}_max"), 1, 65_535),
        Setting("ip_unprivileged_port_start", "first port that needs no right", low=0, high=65_535),
        Setting("ipfrag_high_thresh", "memory for incomplete datagrams, bytes", low=0, high=MAX_MEMORY),
        _seconds("ipfrag_time", "seconds that a datagram may stay incomplete"),
        Setting("ipfrag_max_dist", "fragments of others from the same source that end a datagram; 0: never", low=0),
        Setting(
            groups, "group ids that may use ping sockets, none if the first is above the last",
            (f"{groups}_min", f"{groups}_max"), 0, 0xFFFF_FFFE,
        ),
        Setting("fib_multipath_hash_policy", "multipath hash: 0 L3, 1 L4, 2 inner L3, 3 the fields", low=0, high=3),
        Setting("fib_multipath_hash_fields", "mask of the fields that policy 3 hashes", low=1, high=4095),
        Setting("fib_multipath_hash_seed", "seed of that hash, as Linux's; 0: a secret", low=0, high=(1 << 32) - 1),
        _bool("fib_multipath_use_neigh", "1: next hops whose neighbour has failed are passed over"),
        _bool("nexthop_compat_mode", "1: routes by next-hop objects are told of with their hops"),
        _bool("icmp_echo_ignore_all", "1: no echo request is answered"),
        _bool("icmp_echo_ignore_broadcasts", "1: no echo request to a broadcast or multicast address is answered"),
        _bool("icmp_ignore_bogus_error_responses", "1: no warning about errors that answer a broadcast"),
        Setting("icmp_ratelimit", "milliseconds between errors to one peer", low=0),
        Setting("icmp_ratemask", "mask of ICMP types that icmp_ratelimit is about"),
        Setting("icmp_msgs_per_sec", "errors a second to all peers together", low=0),
        Setting("icmp_msgs_burst", "errors at once to all peers together", low=0),
        Setting("udp_rmem_min", "least receive buffer of a UDP socket, bytes", low=1),
    ]  # fmt: skip


def tcp_settings() -> list[Setting]:
    """net.ipv4.tcp_*"""
    memory = "memory of a socket's {} buffer, bytes: least, default, most"
    rmem, wmem = [tuple(f"tcp_{kind}mem_{what}" for what in ("min", "default", "max")) for kind in "rw"]
    mem = ("tcp_mem_min", "tcp_mem_pressure", "tcp_mem_max")
    return [
        _flag("tcp_abort_on_overflow", "1: a full accept queue resets connections"),
        _flag("tcp_autocorking", "1: small writes wait while the device has some of ours"),
        Setting("tcp_base_mss", "segment size that path MTU probing begins with, bytes", low=1),
        Setting("tcp_challenge_ack_limit", "challenge ACKs a second"),
        Setting("tcp_comp_sack_delay_ns", "nanoseconds that an ACK with SACK waits for others at most", low=0),
        Setting("tcp_comp_sack_nr", "ACKs with SACK that one may stand for; 0: none waits", low=0, high=U8_MAX),
        _flag("tcp_dsack", "1: what came twice is told (RFC 2883)"),
        Setting("tcp_early_retrans", "tail loss probes: 0 off, 3 and 4 on", low=0, high=4),
        Setting("tcp_ecn", "ECN: 0 off, 1 on, 2 only if the peer asks", low=0, high=2),
        _flag("tcp_ecn_fallback", "1: a SYN that asks for ECN and is lost goes again without"),
        Setting("tcp_fastopen", "Fast Open (RFC 7413), bits: 1 client, 2 server, 4 data without cookie"),
        _seconds("tcp_fastopen_blackhole_timeout_sec", "seconds without Fast Open after it met a black hole; 0: never"),
        _seconds("tcp_fin_timeout", "seconds that an orphan stays in FIN_WAIT2"),
        _flag("tcp_frto", "0: no F-RTO (RFC 5682)"),
        _flag("tcp_fwmark_accept", "1: connections have the mark of their SYN, if the listener has none (SO_MARK)"),
        Setting("tcp_invalid_ratelimit", "milliseconds between ACKs that answer invalid segments", low=0),
        _seconds("tcp_keepalive_intvl", "seconds between keepalive probes"),
        _flag("tcp_keepalive_probes", "keepalive probes without an answer before the connection is given up"),
        _seconds("tcp_keepalive_time", "seconds of silence before the first keepalive probe"),
        Setting("tcp_max_orphans", "connections without an owner"),
        Setting("tcp_max_reordering", "most reordering that is believed, packets"),
        Setting("tcp_max_syn_backlog", "half-open connections of a listener"),
        Setting("tcp_max_tw_buckets", "connections in TIME_WAIT"),
        Setting("tcp_mem", "memory of all connections, pages: least, pressure, most", mem, low=0, high=MAX_MEMORY),
        Setting("tcp_min_rtt_wlen", "seconds over which the smallest round-trip time is taken", low=0, high=86_400),
        Setting("tcp_min_snd_mss", "least segment size that a peer can make us use, bytes", low=48, high=65_535),
        Setting("tcp_min_tso_segs", "segments of a super-segment at least", low=1, high=U8_MAX),
        _flag("tcp_moderate_rcvbuf", "1: receive buffers follow what is read (DRS)"),
        Setting("tcp_mtu_probe_floor", "least segment size of path MTU probing, bytes", low=48, high=65_535),
        Setting("tcp_mtu_probing", "path MTU probing (RFC 4821): 0 off, 1 in a black hole, 2 on", low=0, high=U8_MAX),
        Setting("tcp_notsent_lowat", "bytes not sent above which a socket is not writable", low=0, high=(1 << 32) - 1),
        _flag("tcp_orphan_retries", "retransmissions for a connection without an owner; 0: 8"),
        Setting("tcp_pacing_ca_ratio", "pacing rate in congestion avoidance, % of cwnd a round trip", low=0, high=1000),
        Setting("tcp_pacing_ss_ratio", "pacing rate in slow start, % of cwnd a round trip", low=0, high=1000),
        Setting("tcp_pingpong_thresh", "answers that make a connection interactive", low=1, high=U8_MAX),
        Setting("tcp_probe_interval", "seconds until a larger MTU is tried again", low=0, high=(1 << 32) - 1),
        Setting("tcp_probe_threshold", "bytes between what works and what does not that are worth a probe"),
        _flag("tcp_recovery", "bits: 1 RACK (RFC 8985), 2 its reordering window fixed, 4 none"),
        _flag("tcp_reflect_tos", "1: a SYN-ACK has the TOS of its SYN"),
        Setting("tcp_reordering", "duplicate ACKs that a new connection takes for reordering, packets"),
        _flag("tcp_retrans_collapse", "1: small segments are joined when sent again"),
        _flag("tcp_retries1", "retransmissions before the route is doubted"),
        _flag("tcp_retries2", "retransmissions before the connection is given up"),
        _flag("tcp_rfc1337", "1: a RST does not end TIME_WAIT"),
        Setting("tcp_rmem", memory.format("receive"), rmem, low=1),
        Setting("tcp_rto_max_ms", "longest retransmission timeout, milliseconds", low=1000, high=120_000),
        Setting("tcp_rto_min_us", "shortest retransmission timeout, microseconds", low=1),
        _flag("tcp_sack", "1: selective acknowledgements (RFC 2018)"),
        _flag("tcp_shrink_window", "1: a window that was promised may shrink when memory is short"),
        _flag("tcp_slow_start_after_idle", "1: cwnd decays while a connection is idle"),
        _flag("tcp_stdurg", "1: the urgent pointer is RFC 1122's: the last urgent byte, not the one after"),
        Setting("tcp_syn_linear_timeouts", "SYNs before their timeout doubles", low=0, high=127),
        Setting("tcp_syn_retries", "retransmissions of a SYN", low=1, high=127),
        _flag("tcp_synack_retries", "retransmissions of a SYN-ACK"),
        _flag("tcp_syncookies", "SYN cookies (RFC 4987): 0 off, 1 when the queue is full, 2 always"),
        _flag("tcp_thin_linear_timeouts", "1: a connection with few segments in flight does not back off at first"),
        _flag("tcp_timestamps", "timestamps: 0 off, 1 on with a random offset for each connection, 2 on without"),
        _flag("tcp_tso_rtt_log", "super-segments grow as the round trip is shorter than 2^this microseconds; 0: no"),
        _flag("tcp_tso_win_divisor", "part of a window that a super-segment should be"),
        Setting("tcp_tw_reuse", "connect may use a port in TIME_WAIT: 0 no, 1 yes, 2 on loopback", low=0, high=2),
        Setting("tcp_tw_reuse_delay", "milliseconds in TIME_WAIT before that", low=1, high=60_000),
        _flag("tcp_window_scaling", "1: windows above 64 KiB"),
        Setting("tcp_wmem", memory.format("send"), wmem, low=1),
        _flag("tcp_workaround_signed_windows", "1: a window without scale is at most 32,767"),
    ]  # fmt: skip


def route_settings() -> list[Setting]:
    """net.ipv4.route.*"""
    return [
        Setting("flush", "written: everything that was looked up before counts no more", mode=WO),
        _route("gc_timeout", "seconds after which a learned redirect is forgotten", high=SEC_MAX),
        _route("min_adv_mss", "least segment size that we announce, bytes"),
        _route("min_pmtu", "least path MTU that is believed, bytes", 68),
        _route("mtu_expires", "seconds after which a learned path MTU is forgotten", high=SEC_MAX),
        _route_jiffies("redirect_load", "jiffies of 4 ms before a second redirect to a host; doubles"),
        _route("redirect_number", "unheeded redirects to a host until it is left alone"),
        _route_jiffies("redirect_silence", "jiffies of 4 ms until a host may hear redirects again"),
    ]


def conf_settings() -> list[Setting]:
    """net.ipv4.conf.{all,default,DEV}.*: any number (proc_dointvec); most count as 0 or not 0."""
    return [
        Setting("accept_local", "1: packets from our own addresses are accepted"),
        Setting("accept_redirects", "1: ICMP redirects are believed"),
        Setting("accept_source_route", "1: packets with a source route are accepted"),
        Setting("arp_accept", "neighbours made by gratuitous ARP: 0 none, 1 all, 2 those of the device's subnets"),
        Setting("arp_announce", "our address in ARP: 0 the packet's, 1 one of the target's subnet, 2 the best"),
        Setting("arp_evict_nocarrier", "1: neighbours are forgotten when the carrier is lost"),
        Setting("arp_filter", "1: ARP is answered only by the device we would send to the asker by"),
        Setting("arp_ignore", "answered for: 0 our addresses, 1 the device's, 2 of its subnet, 3 global ones, 8 none"),
        Setting("arp_notify", "1: addresses are announced when the device comes up or changes its hardware address"),
        Setting("bc_forwarding", "1: directed broadcasts are forwarded"),
        Setting("drop_gratuitous_arp", "1: gratuitous ARP is dropped"),
        Setting("drop_unicast_in_l2_multicast", "1: unicast packets in multicast frames are dropped"),
        Setting("forwarding", "1: packets for others are forwarded; for all: a switch of every device"),
        Setting("ignore_routes_with_linkdown", "1: routes by the device do not count without a carrier"),
        Setting("log_martians", "1: packets with impossible addresses are logged"),
        Setting("mc_forwarding", "multicast routing: 0", mode=RO),
        Setting("medium_id", "which medium the device is on, for proxy_arp: 0 its own, -1 no proxy"),
        Setting("promote_secondaries", "1: another address takes over when the first of a subnet is removed"),
        Setting("proxy_arp", "1: ARP is answered for what we forward to"),
        Setting("proxy_arp_pvlan", "1: ARP is answered for hosts behind the same device"),
        Setting("route_localnet", "1: 127/8 may come in and go out"),
        Setting("rp_filter", "source validation: 0 none, 1 strict, 2 loose (RFC 3704)"),
        Setting("secure_redirects", "1: redirects only to gateways that we have routes by"),
        Setting("send_redirects", "1: redirects are sent"),
        Setting("shared_media", "1: redirects between subnets on one link are sent and believed"),
        Setting("src_valid_mark", "1: the packet's mark counts in source validation"),
    ]  # fmt: skip


def neigh_settings() -> list[Setting]:
    """net.ipv4.neigh.{default,DEV}.*"""
    reachable, retrans = ("base_reachable_time_ms",), ("retrans_time_ms",)
    return [
        Setting("anycast_delay", "hundredths of a second before an answer for anycast", ("anycast_delay_cs",), 0),
        Setting("app_solicit", "questions to a program that resolves addresses", low=0),
        Setting("base_reachable_time", "seconds that a confirmation holds, on average", reachable, 0, SEC_MAX, 1000),
        Setting("base_reachable_time_ms", "milliseconds that a confirmation holds, on average", low=0),
        _seconds("delay_first_probe_time", "seconds before a stale neighbour in use is asked"),
        _seconds("gc_stale_time", "seconds after which an unused neighbour may be forgotten"),
        Setting("locktime", "hundredths of a second before another hardware address is believed", ("locktime_cs",), 0),
        Setting("mcast_resolicit", "questions by broadcast after those by unicast", low=0),
        Setting("mcast_solicit", "questions by broadcast for an unknown address", low=0),
        Setting("proxy_delay", "hundredths of a second, at most, before an answer for others", ("proxy_delay_cs",), 0),
        Setting("proxy_qlen", "questions that wait for it", low=0),
        Setting("retrans_time", "hundredths of a second between questions", retrans, 0, INT_MAX // 10, 10),
        Setting("retrans_time_ms", "milliseconds between questions", low=0),
        Setting("ucast_solicit", "questions by unicast to a stale neighbour", low=0),
        Setting(
            "unres_qlen", "packets that wait for an address, as many as fit into unres_qlen_bytes",
            ("unres_qlen_bytes",), 0, INT_MAX // SKB_TRUESIZE_ETH, SKB_TRUESIZE_ETH,
        ),
        Setting("unres_qlen_bytes", "bytes of packets that wait for an address", low=0),
    ]  # fmt: skip


def neigh_table_settings() -> list[Setting]:
    """net.ipv4.neigh.default.gc_*: the whole table's."""
    return [
        _seconds("gc_interval", "seconds between collections"),
        Setting("gc_thresh1", "neighbours below which none is forgotten", low=0),
        Setting("gc_thresh2", "neighbours above which the collector hurries", low=0),
        Setting("gc_thresh3", "most neighbours", low=0),
    ]
