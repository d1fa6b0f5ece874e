"""The settings of one stack under Linux's names, units and defaults (Documentation/networking/ip-sysctl.rst).

Names end as Linux's do and times are in Linux's unit for that name, which is seconds unless the name ends in ``_ms``
or the comment says otherwise.
"""

from __future__ import annotations

from mypy_extensions import i64


class Sysctl:
    """net.core.*, net.ipv4.* and net.ipv4.neigh.default.*; an attribute a setting."""

    # net.core
    rmem_default: i64 = 212_992
    rmem_max: i64 = 4_194_304
    wmem_default: i64 = 212_992
    wmem_max: i64 = 4_194_304
    somaxconn: i64 = 4096
    netdev_budget: i64 = 300
    netdev_max_backlog: i64 = 1000
    dev_weight: i64 = 64
    # net.ipv4
    ip_default_ttl: i64 = 64
    ip_nonlocal_bind: i64 = 0
    ip_forward_use_pmtu: i64 = 0
    ip_forward_update_priority: i64 = 1  #: what is forwarded has the priority of its TOS
    fwmark_reflect: i64 = 0  #: what answers a packet and has no socket has its mark
    ip_early_demux: i64 = 1  #: a connection's packets are found before they are routed, and go its way ...
    tcp_early_demux: i64 = 1  #: ... TCP's ...
    udp_early_demux: i64 = 1  #: ... and connected UDP's
    fib_multipath_hash_policy: i64 = 0  #: 0 addresses, 1 with ports, 2 of an inner packet, 3 as the fields say
    fib_multipath_hash_fields: i64 = 7  #: FIB_MULTIPATH_HASH_FIELD_*: source, destination, protocol
    fib_multipath_hash_seed: i64 = 0  #: 0: a secret of our own; else both we and Linux choose the same hop
    route_min_pmtu: i64 = 552
    route_mtu_expires: i64 = 600
    route_min_adv_mss: i64 = 256
    route_gc_timeout: i64 = 300
    route_redirect_number: i64 = 9  #: unheeded ones to a host until it is left alone
    route_redirect_load_ms: i64 = 20  #: before the second; doubles with each
    route_redirect_silence_ms: i64 = 20_480  #: until it may hear some again
    fib_multipath_use_neigh: i64 = 0  #: hops whose neighbour does not answer are left out
    nexthop_compat_mode: i64 = 1  #: a next-hop object's routes are told of with their hops, and when it is replaced
    ip_no_pmtu_disc: i64 = 0
    ip_local_port_range_min: i64 = 32_768
    ip_local_port_range_max: i64 = 60_999
    ip_unprivileged_port_start: i64 = 1024
    ipfrag_high_thresh: i64 = 4_194_304
    ipfrag_time: i64 = 30
    ipfrag_max_dist: i64 = 64
    ping_group_range_min: i64 = 0  #: closed to everybody while above the maximum
    ping_group_range_max: i64 = 0x7FFF_FFFF
    # ICMP
    icmp_echo_ignore_all: i64 = 0
    icmp_echo_ignore_broadcasts: i64 = 1
    icmp_ignore_bogus_error_responses: i64 = 1
    icmp_errors_use_inbound_ifaddr: i64 = 0
    icmp_ratelimit: i64 = 1000  #: ms between errors of the masked types to one peer
    icmp_ratemask: i64 = 6168  #: a bit per ICMP type: unreachable, source quench, time exceeded, parameter problem
    icmp_msgs_per_sec: i64 = 1000
    icmp_msgs_burst: i64 = 50
    # neighbours: what is no device's own (net.ipv4.neigh.default)
    gc_interval: i64 = 30
    gc_thresh1: i64 = 128
    gc_thresh2: i64 = 512
    gc_thresh3: i64 = 1024
    # TCP
    tcp_abort_on_overflow: i64 = 0
    tcp_autocorking: i64 = 1
    tcp_base_mss: i64 = 1024  #: bytes
    tcp_challenge_ack_limit: i64 = 1000
    tcp_comp_sack_delay_ns: i64 = 1_000_000
    tcp_comp_sack_nr: i64 = 44
    tcp_dsack: i64 = 1
    tcp_early_retrans: i64 = 3
    tcp_ecn: i64 = 2
    tcp_ecn_fallback: i64 = 1
    tcp_fastopen: i64 = 1
    tcp_fastopen_blackhole_timeout_sec: i64 = 0
    tcp_fin_timeout: i64 = 60
    tcp_frto: i64 = 2
    tcp_fwmark_accept: i64 = 0
    tcp_invalid_ratelimit: i64 = 500  #: ms
    tcp_keepalive_intvl: i64 = 75
    tcp_keepalive_probes: i64 = 9
    tcp_keepalive_time: i64 = 7200
    tcp_max_orphans: i64 = 65_536
    tcp_max_reordering: i64 = 300
    tcp_max_syn_backlog: i64 = 1024
    tcp_max_tw_buckets: i64 = 65_536
    tcp_mem_min: i64 = 287_898  #: pages
    tcp_mem_pressure: i64 = 383_867
    tcp_mem_max: i64 = 575_796
    tcp_min_rtt_wlen: i64 = 300  #: s
    tcp_min_snd_mss: i64 = 48
    tcp_min_tso_segs: i64 = 2
    tcp_moderate_rcvbuf: i64 = 1
    tcp_mtu_probe_floor: i64 = 48  #: bytes
    tcp_mtu_probing: i64 = 0
    tcp_notsent_lowat: i64 = 0xFFFF_FFFF  #: bytes
    tcp_orphan_retries: i64 = 0
    tcp_pacing_ca_ratio: i64 = 120  #: %
    tcp_pacing_ss_ratio: i64 = 200  #: %
    tcp_pingpong_thresh: i64 = 1
    tcp_probe_interval: i64 = 600  #: s
    tcp_probe_threshold: i64 = 8  #: bytes
    tcp_recovery: i64 = 1
    tcp_reflect_tos: i64 = 0
    tcp_reordering: i64 = 3
    tcp_retrans_collapse: i64 = 1
    tcp_retries1: i64 = 3
    tcp_retries2: i64 = 15
    tcp_rfc1337: i64 = 0
    tcp_rmem_min: i64 = 4096
    tcp_rmem_default: i64 = 131_072
    tcp_rmem_max: i64 = 6_291_456
    tcp_rto_max_ms: i64 = 120_000
    tcp_rto_min_us: i64 = 200_000
    tcp_sack: i64 = 1
    tcp_shrink_window: i64 = 0
    tcp_slow_start_after_idle: i64 = 1
    tcp_stdurg: i64 = 0
    tcp_syn_linear_timeouts: i64 = 4
    tcp_syn_retries: i64 = 6
    tcp_synack_retries: i64 = 5
    tcp_syncookies: i64 = 1
    tcp_thin_linear_timeouts: i64 = 0
    tcp_timestamps: i64 = 1
    tcp_tso_rtt_log: i64 = 9
    tcp_tso_win_divisor: i64 = 3
    tcp_tw_reuse: i64 = 2
    tcp_tw_reuse_delay: i64 = 1000  #: ms
    tcp_window_scaling: i64 = 1
    tcp_wmem_min: i64 = 4096
    tcp_wmem_default: i64 = 16_384
    tcp_wmem_max: i64 = 4_194_304
    tcp_workaround_signed_windows: i64 = 0
    # UDP
    udp_rmem_min: i64 = 4096
