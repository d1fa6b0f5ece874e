"""Active opens (RFC 9293 section 3.10.1 and 3.10.7.3; Linux tcp_v4_connect, tcp_connect, tcp_finish_connect)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.dst import to_many
from ustack.routing.flow import Flow
from ustack.sock import TCP_CLOSE, error
from ustack.tcp.control import (
    TCP_CA_OPEN,
    TCP_INFINITE_SSTHRESH,
    TCP_MSS_DEFAULT,
    TCP_TIMEOUT_INIT,
    TcpControl,
)
from ustack.tcp.notify import STATE_CHANGE, WRITE_SPACE, tcp_wake
from ustack.tcp.output import tcp_rearm_rto, tcp_sync_mss
from ustack.tcp.request import advertised_mss, link_window
from ustack.tcp.segment import TcpSkb
from ustack.tcp.states import Event
from ustack.tcp.transmit import tcp_transmit_skb
from ustack.tcp.window import tcp_select_initial_window
from ustack.wire.checksum import csum_tcpudp_nofold
from ustack.wire.ipv4 import IPPROTO_TCP
from ustack.wire.tcp import TCPHDR_SYN

if TYPE_CHECKING:
    from ustack.dst import Dst


def tcp_v4_connect(tp: TcpControl, addr: i64, port: i64) -> None:
    """Send a SYN to (``addr``, ``port``). Raises ENETUNREACH and the like, EADDRNOTAVAIL without a free port."""
    tables = tp.tables
    flow = Flow(addr, tp.saddr, tp.bound_dev_if, tp.tos, IPPROTO_TCP, tp.num, port, tp.mark, uid=tp.uid)
    dst = tables.routing.ip_route_output(flow)
    if to_many(dst):
        raise error(errno.ENETUNREACH)
    tp.dst_cache = dst
    tp.daddr = flow.daddr
    tp.dport = port
    if tp.saddr == 0:
        tp.saddr = flow.saddr
    if tp.rcv_saddr == 0:
        tp.rcv_saddr = tp.saddr
    try:
        take_port(tp)
    except OSError:
        unconnected(tp)
        raise
    tables.insert(tp)
    tp.tsoffset = tables.secure_tcp_ts_off(tp.saddr, tp.daddr)
    tp.iss = tables.secure_tcp_seq(tp.saddr, tp.daddr, tp.num, tp.dport)
    tp.pseudo_sum = csum_tcpudp_nofold(tp.saddr, tp.daddr, 0, IPPROTO_TCP)
    tcp_connect(tp)


def unconnected(tp: TcpControl) -> None:
    """The open failed before it began: as if it had not been asked for."""
    tp.dst_cache = None
    tp.daddr = tp.dport = 0
    if not tp.bound_addr:
        tp.saddr = tp.rcv_saddr = 0


def take_port(tp: TcpControl) -> None:
    """The local port: the bound one if its four-tuple is free, else one chosen for the peer (inet_hash_connect)."""
    tables = tp.tables
    if tp.num:
        if not tables.tuple_is_free(tp, tp.num):
            raise error(errno.EADDRNOTAVAIL)
    else:
        tables.ports.hold(tp, tables.ports.port_for_connect(tp, tables), True)


def tcp_connect(tp: TcpControl) -> None:
    """Set the control block up and send <SEQ=ISS><CTL=SYN>."""
    dst = tp.dst_cache
    assert dst is not None
    sysctl = tp.net.sysctl
    advmss = advertised_mss(dst, tp.user_mss)
    tp.mss_clamp = TCP_MSS_DEFAULT  # until the peer says more (RFC 9293 MUST-15)
    tp.tstamp_ok = False
    scaling = sysctl.tcp_window_scaling != 0
    tcp_ca_dst_init(tp, dst)
    tcp_select_initial_window(tp, advmss, link_window(dst, advmss), scaling, dst).apply(tp)
    tcp_sync_mss(tp, dst.mtu)
    tp.snd_una = tp.snd_nxt = tp.write_seq = tp.snd_sml = tp.pushed_seq = tp.iss
    tp.snd_wnd = 0
    tp.rcv_nxt = tp.rcv_wup = tp.copied_seq = 0
    forget_former(tp)
    tp.move(Event.ACTIVE_OPEN)
    tp.net.mib.tcp.ActiveOpens += 1
    syn = TcpSkb(tp.iss, TCPHDR_SYN)
    tp.write_seq = tp.snd_nxt = (tp.iss + 1) & 0xFFFF_FFFF
    tp.cwnd_usage_seq = tp.rtt_seq = tp.snd_nxt
    tp.retrans_stamp = 0
    tp.packets_out = 1
    tp.in_flight().append(syn)
    tcp_transmit_skb(tp, syn)
    if tp.state != TCP_CLOSE:
        tcp_rearm_rto(tp)


def tcp_ca_dst_init(tp: TcpControl, dst: Dst) -> None:
    """A route may name the congestion control of its connections (RTAX_CC_ALGO), if we have it."""
    fi = dst.fi
    if fi is not None and fi.cc_algo:
        ops = tp.tables.find_congestion(fi.cc_algo)
        if ops is not None:
            tp.congestion = ops


def forget_former(tp: TcpControl) -> None:
    """A socket may connect again after a refusal or a disconnect; nothing of before counts (tcp_disconnect)."""
    tp.err = tp.err_soft = 0
    tp.retransmits = tp.backoff = tp.probes_out = 0
    tp.connect_time = tp.net.now
    tp.srtt = 0
    tp.mdev = tp.rttvar = tp.rto = TCP_TIMEOUT_INIT
    tp.mdev_max = 0
    tp.tstamp_ok = tp.saw_tstamp = tp.wscale_ok = False
    tp.ts_recent = tp.ts_recent_stamp = 0
    tp.snd_wscale = 0
    tp.max_window = 0
    tp.ack_quick = tp.ato = tp.lrcvtime = tp.last_oow_ack_time = 0
    tp.ack_pingpong = False
    tp.rcv_mss = TCP_MSS_DEFAULT
    tp.high_seq = 0


def tcp_init_transfer(tp: TcpControl) -> None:
    """Data may flow: windows and congestion control start from here (tcp_init_transfer)."""
    # RFC 5681 3.1: "if the SYN or SYN/ACK is lost, the initial window [...] SHOULD be [...] at most one segment"; Linux
    # forgives a single loss
    tp.snd_cwnd = tp.init_cwnd() if tp.retransmits <= 1 else 1
    tp.snd_ssthresh = TCP_INFINITE_SSTHRESH
    tp.ca_state = TCP_CA_OPEN
    tp.retrans_stamp = 0
    tp.retransmits = 0
    tp.congestion.init(tp)
    tp.lsndtime = tp.net.now
    tp.rcvq_time = tp.net.now
    tp.rcvq_seq = tp.copied_seq
    if tp.keepopen:
        tp.reset_keepalive_timer(tp.keepalive_time_when())
    if tp.dst_cache is not None:
        tcp_sync_mss(tp, tp.dst_cache.mtu)


def tcp_finish_connect(tp: TcpControl) -> None:
    """Our SYN is acknowledged and theirs has come: established (tcp_finish_connect)."""
    tcp_init_transfer(tp)
    tcp_wake(tp, STATE_CHANGE | WRITE_SPACE)
