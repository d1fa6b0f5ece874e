"""Active opens (RFC 9293 section 3.10.1 and 3.10.7.3; Linux tcp_v4_connect, tcp_connect, tcp_finish_connect)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.dst import to_many
from ustack.ipv4.output import first_hop
from ustack.routing.flow import Flow
from ustack.routing.uapi import RTAX_CC_ALGO, RTAX_CWND
from ustack.sock import TCP_CLOSE, error
from ustack.tcp.congestion.cong import tcp_init_congestion_control, tcp_take_congestion_control
from ustack.tcp.control import (
    SK_PACING_NEEDED,
    TCP_INFINITE_SSTHRESH,
    TCP_MSS_DEFAULT,
    TCP_TIMEOUT_FALLBACK,
    TcpControl,
)
from ustack.tcp.ecn import tcp_ecn_send_syn
from ustack.tcp.fastopen_syn import tcp_fastopen_defer_connect, tcp_send_syn_data
from ustack.tcp.mss import tcp_mtup_init, tcp_sync_mss
from ustack.tcp.notify import STATE_CHANGE, WRITE_SPACE, tcp_wake
from ustack.tcp.request import advertised_mss, link_window
from ustack.tcp.rtt import tcp_rearm_rto
from ustack.tcp.scoreboard import tcp_skb_timestamp_ts
from ustack.tcp.segment import TcpSkb
from ustack.tcp.states import Event
from ustack.tcp.tables import NO_ISN
from ustack.tcp.timewait import tcp_twsk_take
from ustack.tcp.transmit import tcp_transmit_skb
from ustack.tcp.window import tcp_init_receive, tcp_initialize_rcv_mss, tcp_select_initial_window
from ustack.trace.points import Point
from ustack.trace.words import socket_name
from ustack.wire.checksum import csum_tcpudp_nofold
from ustack.wire.ipv4 import IPPROTO_TCP
from ustack.wire.tcp import TCPHDR_SYN

if TYPE_CHECKING:
    from ustack.dst import Dst


def tcp_v4_connect(tp: TcpControl, addr: i64, port: i64) -> None:
    """Send a SYN to (``addr``, ``port``). Raises ENETUNREACH and the like, EADDRNOTAVAIL without a free port."""
    tables = tp.tables
    nexthop = first_hop(tp.inet_opt, addr)
    flow = Flow(nexthop, tp.saddr, tp.bound_dev_if, tp.tos, IPPROTO_TCP, tp.num, port, tp.mark, uid=tp.uid)
    dst = tables.routing.ip_route_output(flow)
    if to_many(dst):
        raise error(errno.ENETUNREACH)
    tp.dst_cache = dst
    tp.daddr = flow.daddr if nexthop == addr else addr
    tp.dport = port
    if tp.saddr == 0:
        tp.saddr = tp.rcv_saddr = flow.saddr  # also where it was bound to a group's address
    tp.err = tp.err_soft = 0
    try:
        take_port(tp)
    except OSError:
        unconnected(tp)
        raise
    tp.iss = tcp_twsk_take(tp)
    if tp.iss == NO_ISN:
        # what was connected before goes on where it left off (tcp_disconnect)
        tp.iss = tp.write_seq or tables.secure_tcp_seq(tp.saddr, tp.daddr, tp.num, tp.dport)
    tables.insert(tp)
    tp.move(Event.ACTIVE_OPEN)
    tp.tsoffset = tables.secure_tcp_ts_off(tp.saddr, tp.daddr)
    tp.pseudo_sum = csum_tcpudp_nofold(tp.saddr, tp.daddr, 0, IPPROTO_TCP)
    if tp.net.tracer is not None:
        tp.net.tracer.note(Point.TCP_V4_CONNECT, f"from port {tp.num}", {"socket": socket_name(tp)})
    if not tcp_fastopen_defer_connect(tp):
        tcp_connect(tp)
    tp.fastopen_req = False


def unconnected(tp: TcpControl) -> None:
    """No peer any more, or none yet where an open failed before it began."""
    tp.dst_cache = None
    tp.daddr = tp.dport = 0
    if not tp.bound_addr:
        tp.saddr = tp.rcv_saddr = 0


def take_port(tp: TcpControl) -> None:
    """The local port: the bound one if its four-tuple is free, else one chosen for the peer (inet_hash_connect)."""
    tables = tp.tables
    if tp.num:
        if not tables.tuple_is_free(tp, tp.num, False):
            raise error(errno.EADDRNOTAVAIL)
    else:
        tables.ports.hold(tp, tables.ports.port_for_connect(tp, tables), True)


def tcp_connect(tp: TcpControl) -> None:
    """Set the control block up and send <SEQ=ISS><CTL=SYN>, with data if Fast Open has some."""
    dst = tp.dst_cache
    assert dst is not None
    tcp_connect_init(tp, dst)
    tp.connect_time = tp.net.now
    tp.snd_una = tp.snd_nxt = tp.write_seq = tp.snd_sml = tp.iss
    tp.snd_wnd = 0
    tp.rcv_nxt = tp.rcv_wup = tp.copied_seq = 0
    tp.net.mib.tcp.ActiveOpens += 1
    syn = TcpSkb(tp.iss, TCPHDR_SYN)
    tp.write_seq = tp.cwnd_usage_seq = tp.rtt_seq = (tp.iss + 1) & 0xFFFF_FFFF
    tp.retrans_stamp = tp.net.now  # so that what all SYNs together may take counts from the first
    tp.packets_out = 1
    tp.in_flight().append(syn)
    tcp_ecn_send_syn(tp, syn)
    if tp.fastopen_req:
        tcp_send_syn_data(tp, syn)
    else:
        tcp_transmit_skb(tp, syn)
    tp.snd_nxt = tp.pushed_seq = tp.write_seq  # only now: until then the SYN counts as new (Tcp.OutSegs)
    if tp.state != TCP_CLOSE:
        tcp_rearm_rto(tp)


def tcp_connect_init(tp: TcpControl, dst: Dst) -> None:
    """Sizes of segments and windows before the peer has said anything."""
    sysctl = tp.net.sysctl
    # RFC 9293 MUST-15: 536 if the peer names no MSS, or what the user says that it takes
    tp.mss_clamp = tp.user_mss or TCP_MSS_DEFAULT
    tp.tstamp_ok = False
    tp.set_header_len(sysctl.tcp_timestamps != 0)
    tp.max_window = 0
    tp.retransmits = 0
    tcp_mtup_init(tp)
    tcp_sync_mss(tp, dst.mtu)
    tcp_ca_dst_init(tp, dst)
    tp.advmss = advertised_mss(dst, tp.user_mss)
    tcp_initialize_rcv_mss(tp)
    scaling = sysctl.tcp_window_scaling != 0
    # the connection that this one follows had timestamps: this one will
    stamped = tp.ts_recent_stamp != 0 and sysctl.tcp_timestamps != 0
    link = link_window(dst, tp.advmss)
    tcp_select_initial_window(tp, tp.advmss, link, scaling, dst, stamped).apply(tp)


def tcp_ca_dst_init(tp: TcpControl, dst: Dst) -> None:
    """A route may name the congestion control of its connections (RTAX_CC_ALGO), if we have it."""
    fi = dst.fi
    if fi is not None and fi.cc_algo:
        ops = tp.tables.find_congestion(fi.cc_algo)
        if ops is not None:
            tp.ca_dst_locked = fi.metric_locked(RTAX_CC_ALGO)
            tcp_take_congestion_control(tp, ops)


def tcp_init_transfer(tp: TcpControl) -> None:
    """Data may flow: windows and congestion control start from here (tcp_init_transfer)."""
    # RFC 5681 3.1: "if the SYN or SYN/ACK is lost, the initial window [...] SHOULD be [...] at most one segment"; Linux
    # forgives a single loss
    tp.snd_cwnd = 1 if tp.total_retrans > 1 and tp.undo_marker else tp.init_cwnd()
    clamp = tp.locked_metric(RTAX_CWND)
    if clamp > 0:
        tp.snd_cwnd_clamp = clamp
    tp.snd_ssthresh = TCP_INFINITE_SSTHRESH
    tp.retrans_stamp = 0
    tp.retransmits = 0
    if tp.srtt == 0:
        # RFC 6298 (5.7): "the RTO MUST be re-initialized to 3 seconds when data transmission begins" where a SYN was
        # lost; as in Linux wherever the handshake has measured nothing (tcp_init_metrics)
        tp.rto = tp.mdev = tp.mdev_max = tp.rttvar = TCP_TIMEOUT_FALLBACK
    tcp_init_congestion_control(tp)
    if tp.dst_cache is not None and tp.dst_cache.dev.paced:
        tp.pacing_status = SK_PACING_NEEDED
    tp.lsndtime = tp.lrcvtime = tp.snd_cwnd_stamp = tp.net.now
    if tp.keepopen:
        tp.reset_keepalive_timer(tp.keepalive_time_when())
    tcp_mtup_init(tp)
    tcp_init_receive(tp)
    tp.tables.metrics.prove(tp.saddr, tp.daddr)


def tcp_try_undo_spurious_syn(tp: TcpControl) -> None:
    """A SYN or SYN-ACK went again in vain: the timestamp echoed is that of the first. Nothing was lost."""
    if tp.undo_marker and tp.retrans_stamp and tp.saw_tstamp:
        if tp.rcv_tsecr == tcp_skb_timestamp_ts(tp, tp.retrans_stamp):
            tp.undo_marker = 0


def tcp_finish_connect(tp: TcpControl) -> None:
    """Our SYN is acknowledged and theirs has come: established (tcp_finish_connect)."""
    tcp_init_transfer(tp)
    tcp_wake(tp, STATE_CHANGE | WRITE_SPACE)
