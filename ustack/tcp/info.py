"""struct tcp_info: what a connection says of itself (Linux tcp_get_info; include/uapi/linux/tcp.h of 6.18)."""

from __future__ import annotations

from struct import Struct
from typing import Final

from mypy_extensions import i64

from ustack.sock import TCP_LISTEN
from ustack.tcp.chrono import tcp_get_info_chrono_stats
from ustack.tcp.control import (
    PACING_UNLIMITED,
    RTT_UNKNOWN,
    TCP_ECN_OK,
    TCP_ECN_SEEN,
    TcpControl,
)
from ustack.tcp.seq import distance
from ustack.timer import NSEC_PER_MSEC, NSEC_PER_SEC, NSEC_PER_USEC

# tcpi_options
TCPI_OPT_TIMESTAMPS: Final = 1
TCPI_OPT_SACK: Final = 2
TCPI_OPT_WSCALE: Final = 4
TCPI_OPT_ECN: Final = 8
TCPI_OPT_ECN_SEEN: Final = 16
TCPI_OPT_SYN_DATA: Final = 32
TCPI_OPT_TFO_CHILD: Final = 128

_U32: Final[i64] = 0xFFFF_FFFF

#: (name, format): a gap-free list, whose order and widths are the structure's.
FIELDS: Final = (
    *((name, "B") for name in "state ca_state retransmits probes backoff options wscales flags".split()),
    *((name, "I") for name in "rto ato snd_mss rcv_mss unacked sacked lost retrans fackets".split()),
    *((name, "I") for name in "last_data_sent last_ack_sent last_data_recv last_ack_recv".split()),
    *((name, "I") for name in "pmtu rcv_ssthresh rtt rttvar snd_ssthresh snd_cwnd advmss reordering".split()),
    *((name, "I") for name in "rcv_rtt rcv_space total_retrans".split()),
    *((name, "Q") for name in "pacing_rate max_pacing_rate bytes_acked bytes_received".split()),
    *((name, "I") for name in "segs_out segs_in notsent_bytes min_rtt data_segs_in data_segs_out".split()),
    *((name, "Q") for name in "delivery_rate busy_time rwnd_limited sndbuf_limited".split()),
    *((name, "I") for name in "delivered delivered_ce".split()),
    *((name, "Q") for name in "bytes_sent bytes_retrans".split()),
    *((name, "I") for name in "dsack_dups reord_seen rcv_ooopack snd_wnd rcv_wnd rehash".split()),
    *((name, "H") for name in "total_rto total_rto_recoveries".split()),
    ("total_rto_time", "I"),
    *((name, "I") for name in "received_ce delivered_e1_bytes delivered_e0_bytes delivered_ce_bytes".split()),
    *((name, "I") for name in "received_e1_bytes received_e0_bytes received_ce_bytes".split()),
    *((name, "H") for name in "accecn_fail_mode accecn_opt_seen".split()),
)
TCP_INFO_STRUCT: Final = Struct("=" + "".join(code for _, code in FIELDS))
_LIMITS: Final = {"B": 0xFF, "H": 0xFFFF, "I": 0xFFFF_FFFF, "Q": 0xFFFF_FFFF_FFFF_FFFF}


def tcp_get_info(tp: TcpControl) -> bytes:
    """The structure's 280 bytes."""
    values = tcp_info(tp)
    return TCP_INFO_STRUCT.pack(*[values.get(name, 0) & _LIMITS[code] for name, code in FIELDS])


def unpack_info(raw: bytes) -> dict[str, int]:
    """The fields of a structure, as many as ``raw`` has."""
    whole = TCP_INFO_STRUCT.unpack(raw.ljust(TCP_INFO_STRUCT.size, b"\0")[: TCP_INFO_STRUCT.size])
    return {name: number for (name, _), number in zip(FIELDS, whole, strict=True)}


def tcp_info(tp: TcpControl) -> dict[str, int]:
    """The fields by their names without tcpi_, those that are 0 by nature left out."""
    values: dict[str, int] = {
        "state": int(tp.state),
        "pacing_rate": rate(tp.pacing_rate),
        "max_pacing_rate": rate(tp.max_pacing_rate),
        "reordering": int(tp.reordering),
        "snd_cwnd": int(tp.snd_cwnd),
    }
    if tp.state == TCP_LISTEN:
        # the accept queue, in fields that a listener has no other use for
        values["unacked"] = len(tp.accept_queue) if tp.accept_queue else 0
        values["sacked"] = int(tp.max_ack_backlog)
        return values
    add_flags(tp, values)
    add_packets(tp, values)
    add_times(tp, values)
    add_windows(tp, values)
    add_totals(tp, values)
    add_chrono(tp, values)
    return values


def rate(bytes_a_second: i64) -> int:
    return 0xFFFF_FFFF_FFFF_FFFF if bytes_a_second == PACING_UNLIMITED else int(bytes_a_second)


def us(ns: i64) -> int:
    return int(ns // NSEC_PER_USEC)


def ms(ns: i64) -> int:
    return int(ns // NSEC_PER_MSEC)


def add_flags(tp: TcpControl, values: dict[str, int]) -> None:
    options = 0
    if tp.tstamp_ok:
        options |= TCPI_OPT_TIMESTAMPS
    if tp.sack_ok:
        options |= TCPI_OPT_SACK
    if tp.wscale_ok:
        options |= TCPI_OPT_WSCALE
        values["wscales"] = int(tp.snd_wscale | tp.rcv_wscale << 4)
    if tp.ecn_flags & TCP_ECN_OK:
        options |= TCPI_OPT_ECN
    if tp.ecn_flags & TCP_ECN_SEEN:
        options |= TCPI_OPT_ECN_SEEN
    if tp.syn_data_acked:
        options |= TCPI_OPT_SYN_DATA
    if tp.syn_fastopen_child:
        options |= TCPI_OPT_TFO_CHILD
    values["options"] = options
    values["ca_state"] = int(tp.ca_state)
    values["flags"] = int(tp.rate_app_limited) | int(tp.fastopen_client_fail) << 1


def add_packets(tp: TcpControl, values: dict[str, int]) -> None:
    """What is in flight, and how often it had to be tried."""
    values["retransmits"] = int(tp.retransmits)
    values["probes"] = int(tp.probes_out)
    values["backoff"] = int(tp.backoff)
    values["unacked"] = int(tp.packets_out)
    values["sacked"] = int(tp.sacked_out)
    values["lost"] = int(tp.lost_out)
    values["retrans"] = int(tp.retrans_out)
    values["total_retrans"] = int(tp.total_retrans)
    values["delivered"] = int(tp.delivered)
    values["delivered_ce"] = int(tp.delivered_ce)
    values["dsack_dups"] = int(tp.dsack_dups)
    values["reord_seen"] = int(tp.reord_seen)
    values["rcv_ooopack"] = int(tp.rcv_ooopack)


def add_times(tp: TcpControl, values: dict[str, int]) -> None:
    now = tp.net.now
    values["rto"] = us(tp.rto)
    values["ato"] = us(min(tp.ato, tp.delack_max_ns))
    values["last_data_sent"] = ms(now - tp.lsndtime)
    values["last_data_recv"] = ms(now - tp.lrcvtime)
    values["last_ack_recv"] = ms(now - tp.rcv_tstamp)
    values["rtt"] = us(tp.srtt)
    # before the first sample mdev is the initial RTO, four times what it will mean
    values["rttvar"] = us(tp.mdev if tp.srtt else tp.mdev >> 2)
    values["rcv_rtt"] = us(tp.rcv_rtt)
    values["min_rtt"] = 0xFFFF_FFFF if tp.min_rtt == RTT_UNKNOWN else us(tp.min_rtt)
    values["total_rto"] = int(tp.total_rto)
    values["total_rto_recoveries"] = int(tp.total_rto_recoveries)
    values["total_rto_time"] = ms(tp.total_rto_time + (now - tp.rto_stamp if tp.rto_stamp else 0))


def add_windows(tp: TcpControl, values: dict[str, int]) -> None:
    """Sizes: bytes, but for ssthresh."""
    values["snd_mss"] = int(tp.mss_cache)
    values["rcv_mss"] = int(tp.rcv_mss)
    values["advmss"] = int(tp.advmss)
    values["pmtu"] = int(tp.pmtu)
    values["rcv_ssthresh"] = int(tp.rcv_ssthresh)
    values["rcv_space"] = int(tp.rcvq_space)
    values["snd_ssthresh"] = int(tp.snd_ssthresh)
    values["snd_wnd"] = int(tp.snd_wnd)
    values["rcv_wnd"] = int(tp.rcv_wnd)
    values["notsent_bytes"] = notsent_bytes(tp)


def notsent_bytes(tp: TcpControl) -> int:
    """Queued, never sent; 0 where write_seq lags behind a FIN that is out."""
    ahead = distance(tp.snd_nxt, tp.write_seq)
    return int(ahead) if ahead < 0x8000_0000 else 0


def add_totals(tp: TcpControl, values: dict[str, int]) -> None:
    """Since the connection began; RFC 4898's names are in the header."""
    values["bytes_acked"] = int(tp.bytes_acked)
    values["bytes_received"] = int(tp.bytes_received)
    values["bytes_sent"] = int(tp.bytes_sent)
    values["bytes_retrans"] = int(tp.bytes_retrans)
    values["segs_out"] = int(tp.segs_out)
    values["segs_in"] = int(tp.segs_in)
    values["data_segs_in"] = int(tp.data_segs_in)
    values["data_segs_out"] = int(tp.data_segs_out)
    if tp.rate_interval > 0:
        values["delivery_rate"] = (
            int(tp.rate_delivered) * int(tp.mss_cache) * int(NSEC_PER_SEC) // int(tp.rate_interval)
        )


def add_chrono(tp: TcpControl, values: dict[str, int]) -> None:
    """What held the sender back, us."""
    busy, rwnd, sndbuf = tcp_get_info_chrono_stats(tp)
    values["busy_time"] = us(busy)
    values["rwnd_limited"] = us(rwnd)
    values["sndbuf_limited"] = us(sndbuf)
