"""What ss says of a socket beside its addresses: timer, details, memory, tcp_info, in the words of iproute2 6.1."""

from __future__ import annotations

from struct import unpack
from typing import TYPE_CHECKING, Final

from ustack.sock import RCV_SHUTDOWN, SEND_SHUTDOWN, TCP_LISTEN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ustack.io.control import SocketDiag

#: tcpi_options and their words.
OPTIONS: Final = ((1, "ts"), (2, "sack"), (8, "ecn"), (16, "ecnseen"), (32, "fastopen"))
TCPI_OPT_WSCALE: Final = 4
#: "Not limited", "not known".
U64_MAX: Final = 0xFFFF_FFFF_FFFF_FFFF
U32_MAX: Final = 0xFFFF_FFFF
#: A slow start threshold from here on is no threshold.
SSTHRESH_MAX: Final = 0xFFFF
#: What an RTO is before there was any reason to have one, us.
RTO_UNSET: Final = 3_000_000
BBR_UNIT: Final = 256
#: Numbers that stand side by side: tcp_info's names, in the order of the line.
SIZES: Final = ("snd_mss", "pmtu", "rcv_mss", "advmss", "snd_cwnd")
TOTALS: Final = tuple(
    "bytes_sent bytes_retrans bytes_acked bytes_received segs_out segs_in data_segs_out data_segs_in".split()
)
IDLE: Final = ("last_data_sent", "last_data_recv", "last_ack_recv")
#: What ss calls those that it calls otherwise.
WORDS: Final = {
    "snd_mss": "mss", "rcv_mss": "rcvmss", "snd_cwnd": "cwnd", "last_data_sent": "lastsnd",
    "last_data_recv": "lastrcv", "last_ack_recv": "lastack", "notsent_bytes": "notsent",
}  # fmt: skip


def timer_text(diag: SocketDiag) -> str:
    """`` timer:(on,200ms,0)``; nothing if none runs."""
    return f" timer:({diag.timer},{duration(diag.expires)},{diag.retrans})" if diag.timer else ""


def duration(ms: int) -> str:
    """As much of minutes, seconds and milliseconds as is of interest (print_ms_timer)."""
    seconds, ms = divmod(max(ms, 0), 1000)
    minutes, seconds = divmod(seconds, 60)
    text = ""
    if minutes:
        ms = 0
        text = f"{minutes}min"
        seconds = 0 if minutes > 9 else seconds
    if seconds:
        ms = 0 if seconds > 9 else ms
        text += f"{seconds}." if ms else f"{seconds}sec"
    return f"{text}{ms:03d}ms" if ms else text


def details_text(diag: SocketDiag) -> str:
    """`` uid:1000 ino:7 sk:7 <->``: whose it is, which, and what is shut down."""
    text = f" uid:{diag.uid}" if diag.uid else ""
    text += f" ino:{diag.ino} sk:{diag.cookie:x}"
    if diag.mark:
        text += f" fwmark:0x{diag.mark:x}"
    if diag.shutdown >= 0:
        left = "-" if diag.shutdown & RCV_SHUTDOWN else "<"
        right = "-" if diag.shutdown & SEND_SHUTDOWN else ">"
        text += f" {left}-{right}"
    return text


def memory_text(diag: SocketDiag) -> str:
    """`` skmem:(r0,rb131072,…)``."""
    if not diag.meminfo:
        return ""
    words = zip(("r", "rb", "t", "tb", "f", "w", "o", "bl", "d"), diag.meminfo, strict=True)
    return f" skmem:({','.join(f'{name}{number}' for name, number in words)})"


def info_text(diag: SocketDiag, options: bool, numeric: bool) -> str:
    """The line of -i, with a blank before each word (tcp_stats_print); ``options``: ts, sack and their like too."""
    return "".join(f" {word}" for word in info_words(diag, options, numeric))


def info_words(diag: SocketDiag, options: bool, numeric: bool) -> Iterator[str]:
    info = diag.info
    if options:
        yield from (word for bit, word in OPTIONS if info.get("options", 0) & bit)
    if diag.congestion:
        yield diag.congestion
    if info.get("options", 0) & TCPI_OPT_WSCALE:
        yield f"wscale:{info['wscales'] & 15},{info['wscales'] >> 4}"
    yield from rtt_words(info)
    yield from numbers(info, *SIZES)
    if 0 < info.get("snd_ssthresh", 0) < SSTHRESH_MAX:
        yield f"ssthresh:{info['snd_ssthresh']}"
    yield from numbers(info, *TOTALS)
    if diag.congestion == "bbr" and diag.cc_info:
        yield bbr_word(diag.cc_info, numeric)
    yield from rate_words(info, numeric)
    yield from limit_words(info)
    yield from loss_words(diag)
    yield from receiver_words(info)


def numbers(info: dict[str, int], *names: str) -> Iterator[str]:
    """Those of them that are not 0."""
    return (f"{WORDS.get(name, name)}:{info[name]}" for name in names if info.get(name))


def ms(us: int) -> str:
    """Milliseconds of microseconds, as C's %g."""
    return f"{us / 1000:g}"


def rtt_words(info: dict[str, int]) -> Iterator[str]:
    if info.get("rto", RTO_UNSET) not in (0, RTO_UNSET):
        yield f"rto:{ms(info['rto'])}"
    yield from numbers(info, "backoff")
    if info.get("rtt"):
        yield f"rtt:{ms(info['rtt'])}/{ms(info['rttvar'])}"
    if info.get("ato"):
        yield f"ato:{ms(info['ato'])}"


def bandwidth(bps: float, numeric: bool) -> str:
    """Bits a second, with -n in full (sprint_bw)."""
    if numeric:
        return f"{bps:.0f}bps"
    if bps > 1_000_000:
        return f"{bps / 1_000_000:.1f}Mbps"
    return f"{bps / 1000:.1f}Kbps" if bps > 1000 else f"{bps:g}bps"


def bbr_word(raw: bytes, numeric: bool) -> str:
    """struct tcp_bbr_info."""
    low, high, min_rtt, pacing_gain, cwnd_gain = unpack("=5I", raw)
    text = f"bbr:(bw:{bandwidth((high << 32 | low) * 8.0, numeric)},mrtt:{ms(min_rtt)}"
    if pacing_gain:
        text += f",pacing_gain:{pacing_gain / BBR_UNIT:g}"
    if cwnd_gain:
        text += f",cwnd_gain:{cwnd_gain / BBR_UNIT:g}"
    return text + ")"


def rate_words(info: dict[str, int], numeric: bool) -> Iterator[str]:
    rtt = info.get("rtt", 0)
    if rtt and info.get("snd_mss") and info.get("snd_cwnd"):
        yield f"send {bandwidth(info['snd_cwnd'] * info['snd_mss'] * 8_000_000 / rtt, numeric)}"
    yield from numbers(info, *IDLE)
    pacing, limit = info.get("pacing_rate", U64_MAX), info.get("max_pacing_rate", U64_MAX)
    if pacing not in (0, U64_MAX) and info.get("snd_mss"):
        limited = f"/{bandwidth(limit * 8.0, numeric)}" if limit not in (0, U64_MAX) else ""
        yield f"pacing_rate {bandwidth(pacing * 8.0, numeric)}{limited}"
    if info.get("delivery_rate"):
        yield f"delivery_rate {bandwidth(info['delivery_rate'] * 8.0, numeric)}"
    yield from numbers(info, "delivered", "delivered_ce")
    if info.get("flags", 0) & 1:
        yield "app_limited"


def limit_words(info: dict[str, int]) -> Iterator[str]:
    """How long there was anything to send, and what of it was spent waiting for room."""
    busy = info.get("busy_time", 0)
    if not busy:
        return
    yield f"busy:{busy // 1000}ms"
    for name in ("rwnd_limited", "sndbuf_limited"):
        if info.get(name):
            yield f"{name}:{info[name] // 1000}ms({100 * info[name] / busy:.1f}%)"


def loss_words(diag: SocketDiag) -> Iterator[str]:
    info = diag.info
    yield from numbers(info, "unacked")
    if info.get("retrans") or info.get("total_retrans"):
        yield f"retrans:{info['retrans']}/{info['total_retrans']}"
    yield from numbers(info, "lost")
    if diag.state != TCP_LISTEN:
        yield from numbers(info, "sacked")
    yield from numbers(info, "dsack_dups")
    if info.get("reordering", 0) not in (0, 3):
        yield f"reordering:{info['reordering']}"
    yield from numbers(info, "reord_seen")


def receiver_words(info: dict[str, int]) -> Iterator[str]:
    if info.get("rcv_rtt"):
        yield f"rcv_rtt:{ms(info['rcv_rtt'])}"
    yield from numbers(info, "rcv_space", "rcv_ssthresh", "notsent_bytes")
    if info.get("min_rtt", U32_MAX) not in (0, U32_MAX):
        yield f"minrtt:{ms(info['min_rtt'])}"
    yield from numbers(info, "rcv_ooopack", "snd_wnd")
