"""TcpControl: the transmission control block (RFC 9293 section 3.3.1; Linux struct tcp_sock, inet_connection_sock).

Variables carry Linux's names where RFC 9293's differ: SND.UNA snd_una, SND.NXT snd_nxt, RCV.NXT rcv_nxt, ISS iss,
IRS irs. Sequence numbers are integers in [0, 2**32), windows and sizes bytes, times ns, cwnd segments of one MSS.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.routing.uapi import RTAX_INITCWND, RTAX_QUICKACK, RTAX_RTO_MIN
from ustack.sock import PACING_UNLIMITED as PACING_UNLIMITED
from ustack.sock import TCP_CLOSE, TCP_CLOSE_WAIT, TCP_ESTABLISHED, Sock
from ustack.tcp.rtx_queue import RtxQueue
from ustack.tcp.seq import before
from ustack.tcp.states import Event, after, in_set
from ustack.timer import NSEC_PER_MSEC, NSEC_PER_SEC, NSEC_PER_USEC, Timer

if TYPE_CHECKING:
    from ustack.net import Net
    from ustack.packet import Buffer
    from ustack.tcp.congestion.base import CongestionOps, CongestionState
    from ustack.tcp.minmax import MinMax
    from ustack.tcp.ofo import OfoQueue, RcvSegment
    from ustack.tcp.ports import BindBucket
    from ustack.tcp.request import RequestSock
    from ustack.tcp.segment import TcpSkb
    from ustack.tcp.tables import TcpTables
    from ustack.tcp.tx_watch import TxWatch

# include/net/tcp.h
TCP_RTO_MAX: Final[i64] = 120 * NSEC_PER_SEC
TCP_RTO_MIN: Final[i64] = 200 * NSEC_PER_MSEC
#: RFC 6298 (2.1): "the sender SHOULD set RTO <- 1 second".
TCP_TIMEOUT_INIT: Final[i64] = 1 * NSEC_PER_SEC
#: RFC 6298 (5.7): after a SYN was lost the RTO "MUST be re-initialized to 3 seconds when data transmission begins".
TCP_TIMEOUT_FALLBACK: Final[i64] = 3 * NSEC_PER_SEC
TCP_DELACK_MIN: Final[i64] = 40 * NSEC_PER_MSEC
#: RFC 9293 MUST-40: the delay "MUST be less than 0.5 seconds".
TCP_DELACK_MAX: Final[i64] = 200 * NSEC_PER_MSEC
#: How long an ACK waits for the request after a connection was accepted or data went both ways (ATO).
TCP_ATO_MIN: Final[i64] = 40 * NSEC_PER_MSEC
TCP_MAX_QUICKACKS: Final[i64] = 16
TCP_TIMEWAIT_LEN: Final[i64] = 60 * NSEC_PER_SEC
TCP_INIT_CWND: Final[i64] = 10
TCP_INFINITE_CWND: Final[i64] = 0x7FFF_FFFF
TCP_INFINITE_SSTHRESH: Final[i64] = 0x7FFF_FFFF
#: RFC 9293 MUST-15: "default ... 536" for IPv4 without an MSS option.
TCP_MSS_DEFAULT: Final[i64] = 536
TCP_MIN_MSS: Final[i64] = 88
TCP_FASTRETRANS_THRESH: Final[i64] = 3
#: RFC 7323 section 5.5: a TS.Recent older than 24 days is no longer believed.
TCP_PAWS_24DAYS: Final[i64] = 24 * 86_400 * NSEC_PER_SEC
#: Half of what a segment costs is text, until one has come (TCP_DEFAULT_SCALING_RATIO).
TCP_DEFAULT_SCALING_RATIO: Final[i64] = 128
#: NOP, NOP, and the timestamp option (RFC 7323 appendix A; bytes).
TIMESTAMP_LEN: Final[i64] = 12
#: RFC 7323 section 5.3: how far TS.Recent may be ahead, in timestamp units, and a segment still be accepted.
TCP_PAWS_WINDOW: Final[i64] = 1

#: The states that tcpCurrEstab counts.
CURR_ESTAB: Final[i64] = (1 << TCP_ESTABLISHED) | (1 << TCP_CLOSE_WAIT)

# tcp_ca_state
TCP_CA_OPEN: Final = 0
TCP_CA_DISORDER: Final = 1
TCP_CA_CWR: Final = 2
TCP_CA_RECOVERY: Final = 3
TCP_CA_LOSS: Final = 4

# icsk_pending: what the one retransmission timer waits for
ICSK_TIME_NONE: Final = 0
ICSK_TIME_RETRANS: Final = 1
ICSK_TIME_PROBE0: Final = 3
ICSK_TIME_LOSS_PROBE: Final = 5
ICSK_TIME_REO_TIMEOUT: Final = 6

# ecn_flags
TCP_ECN_OK: Final = 1
TCP_ECN_QUEUE_CWR: Final = 2
TCP_ECN_DEMAND_CWR: Final = 4
TCP_ECN_SEEN: Final = 8

# pacing_status
SK_PACING_NONE: Final = 0
SK_PACING_NEEDED: Final = 1

# chrono_type: what holds the sender back
TCP_CHRONO_UNSPEC: Final = 0
TCP_CHRONO_BUSY: Final = 1
TCP_CHRONO_RWND_LIMITED: Final = 2
TCP_CHRONO_SNDBUF_LIMITED: Final = 3

#: "No sample yet" of a smallest round-trip time (ns).
RTT_UNKNOWN: Final[i64] = 0x7FFF_FFFF_FFFF_FFFF

# nonagle
TCP_NAGLE_OFF: Final = 1
TCP_NAGLE_CORK: Final = 2
TCP_NAGLE_PUSH: Final = 4

# ack.pending
ICSK_ACK_SCHED: Final = 1
ICSK_ACK_TIMER: Final = 2
ICSK_ACK_PUSHED: Final = 4  #: the peer may have nothing more to send: answer once it is read
ICSK_ACK_NOW: Final = 8
ICSK_ACK_PUSHED2: Final = 16
ICSK_ACK_NOMEM: Final = 32  #: a segment was refused for want of memory: say that the window is closed

# sysctl tcp_fastopen
TFO_CLIENT_ENABLE: Final[i64] = 1
TFO_SERVER_ENABLE: Final[i64] = 2
TFO_CLIENT_NO_COOKIE: Final[i64] = 4
TFO_SERVER_COOKIE_NOT_REQD: Final[i64] = 0x200
TFO_SERVER_WO_SOCKOPT1: Final[i64] = 0x400  #: every listener has Fast Open, with its backlog as queue

# urg_data
TCP_URG_VALID: Final = 0x0100
TCP_URG_NOTYET: Final = 0x0200
TCP_URG_READ: Final = 0x0400


class TcpControl(Sock):
    """One connection's variables, and the few transitions on them that need nobody else."""

    def __init__(self, net: Net, tables: TcpTables, congestion: CongestionOps) -> None:
        super().__init__(net, 1, 6)
        self.tables: TcpTables = tables
        sysctl = net.sysctl
        self.rcvbuf = sysctl.tcp_rmem_default
        self.sndbuf = sysctl.tcp_wmem_default
        self.wake_events: i64 = 0  #: what the observer is told at the end of the batch (notify.py)
        self.ehash_key: i64 = -1
        self.ehash_next: TcpControl | None = None
        self._init_send(congestion)
        self._init_recovery()
        self._init_rate()
        self._init_receive()
        self._init_receive_memory()
        self._init_timers()
        self._init_options()
        self._init_statistics()
        self._init_listen()

    def _init_send(self, congestion: CongestionOps) -> None:
        self.iss: i64 = 0
        self.snd_una: i64 = 0
        self.snd_nxt: i64 = 0
        self.snd_sml: i64 = 0  #: end of the last small segment sent (Minshall's Nagle)
        self.write_seq: i64 = 0  #: one past the last byte the user has given
        self.pushed_seq: i64 = 0
        self.snd_wnd: i64 = 0
        self.snd_wl1: i64 = 0
        self.max_window: i64 = 0
        self.snd_wscale: i64 = 0
        self.mss_cache: i64 = TCP_MSS_DEFAULT
        self.mss_clamp: i64 = TCP_MSS_DEFAULT  #: what the peer's MSS option allows
        self.user_mss: i64 = 0
        self.pmtu: i64 = 0
        self.write_queue: deque[TcpSkb] | None = None  #: not sent yet
        self.rtx_queue: RtxQueue | None = None  #: sent, not acknowledged
        self.wmem_queued: i64 = 0
        self.sock_nospace: bool = False
        self.tsq_throttled: bool = False  #: waits for its device's queue (TSQ_THROTTLED)
        self.nonagle: i64 = 0
        self.fin_queued: bool = False
        self.pseudo_sum: i64 = 0  #: pseudo-header sum without the length
        self.congestion: CongestionOps = congestion
        self.urg_mode: bool = False  #: urgent data waits or is in flight
        self.snd_up: i64 = 0  #: urgent pointer: one past the urgent byte
        self.ecn_flags: i64 = 0
        self.notsent_lowat: i64 = 0  #: bytes not sent that make the socket unwritable, 0: the sysctl
        # path MTU probing (struct icsk_mtup, mtu_probe; RFC 4821), bytes
        self.mtup_enabled: bool = False
        self.mtup_search_high: i64 = 0
        self.mtup_search_low: i64 = 0
        self.mtup_probe_size: i64 = 0  #: of the probe in flight, 0 for none
        self.mtup_probe_timestamp: i64 = 0
        self.mtu_probe_seq_start: i64 = 0
        self.mtu_probe_seq_end: i64 = 0
        # Fast Open, as client (struct tcp_fastopen_request)
        self.syn_fastopen: bool = False  #: the SYN carries or asks for a cookie
        self.syn_data: bool = False  #: the SYN carried data
        self.syn_data_acked: bool = False
        self.fastopen_connect: bool = False  #: TCP_FASTOPEN_CONNECT
        self.fastopen_no_cookie: bool = False  #: TCP_FASTOPEN_NO_COOKIE
        self.fastopen_client_fail: i64 = 0
        self.fastopen_cookie: bytes | None = None  #: for the next SYN; b"" asks for one, None: no option
        self.fastopen_exp: bool = False  #: ... in the experimental option
        self.fastopen_req: bool = False  #: a connect with Fast Open is under way (fastopen_req)
        self.syn_fastopen_exp: bool = False
        self.syn_fastopen_ch: bool = False  #: it may show that Fast Open works again
        self.fastopen_data: Buffer | None = None  #: what waits for the SYN

    def _init_recovery(self) -> None:
        """Congestion control and loss recovery; windows and counts in packets."""
        self.ca_state: i64 = TCP_CA_OPEN
        self.ca_priv: CongestionState | None = None  #: the algorithm's own variables
        self.ca_setsockopt: bool = False  #: chosen by TCP_CONGESTION
        self.ca_dst_locked: bool = False  #: chosen by the route, and locked
        self.snd_cwnd: i64 = TCP_INIT_CWND
        self.snd_cwnd_cnt: i64 = 0
        self.snd_cwnd_clamp: i64 = TCP_INFINITE_CWND
        self.snd_cwnd_stamp: i64 = 0  #: when cwnd was last changed or used
        self.snd_cwnd_used: i64 = 0  #: most packets out since then
        self.snd_ssthresh: i64 = TCP_INFINITE_SSTHRESH
        self.prior_cwnd: i64 = 0
        self.prior_ssthresh: i64 = 0
        self.max_packets_out: i64 = 0
        self.cwnd_usage_seq: i64 = 0
        self.is_cwnd_limited: bool = False
        self.packets_out: i64 = 0
        self.sacked_out: i64 = 0  #: without SACK: duplicate ACKs, each a segment that has left the network
        self.lost_out: i64 = 0
        self.retrans_out: i64 = 0
        self.total_retrans: i64 = 0
        self.high_seq: i64 = 0  #: snd_nxt when recovery began
        self.lsndtime: i64 = 0
        # scoreboard (RFC 2018, RFC 6675)
        self.rx_sacks: list[tuple[int, int]] | None = None  #: of the segment being processed
        self.recv_sack_cache: list[tuple[int, int]] = []  #: the blocks of the last ACK that had any, in order
        self.highest_sack: TcpSkb | None = None  #: first never sacked beyond the highest sacked one
        self.retransmit_skb_hint: TcpSkb | None = None  #: nothing before it waits to be sent again
        self.reordering: i64 = self.net.sysctl.tcp_reordering  #: packets
        self.reord_seen: i64 = 0
        self.dsack_dups: i64 = 0  #: segments that D-SACK said came twice
        self.is_sack_reneg: bool = False
        # RACK (RFC 8985 section 6)
        self.rack_rtt: i64 = 0
        self.rack_end_seq: i64 = 0
        self.rack_order: i64 = 0  #: the latest transmission that was delivered (TcpSkb.tx_order)
        self.rack_last_delivered: i64 = 0
        self.rack_reo_wnd_steps: i64 = 1
        self.rack_reo_wnd_persist: i64 = 0
        self.rack_dsack_seen: bool = False
        self.rack_advanced: bool = False
        # TLP (RFC 8985 section 7)
        self.tlp_high_seq: i64 = 0  #: snd_nxt at the probe, 0 for none outstanding
        self.tlp_retrans: bool = False  #: the probe was a retransmission
        # F-RTO (RFC 5682), undo, PRR (RFC 6937)
        self.frto: bool = False
        self.undo_marker: i64 = 0  #: snd_una when the window was reduced, 0: nothing to undo
        self.undo_retrans: i64 = 0  #: retransmissions that could still be shown to be needless
        self.prr_delivered: i64 = 0
        self.prr_out: i64 = 0
        self.min_rtt: i64 = RTT_UNKNOWN  #: smallest RTT of the last tcp_min_rtt_wlen seconds (ns)
        self.rtt_min: MinMax | None = None  #: the filter that says so

    def _init_rate(self) -> None:
        """Delivery rate (tcp_rate.c) and pacing."""
        self.delivered: i64 = 0  #: packets
        self.delivered_ce: i64 = 0
        self.lost: i64 = 0
        self.app_limited: i64 = -1  #: ``delivered`` that ends the bubble, 0 for none; -1: until the first delivery
        self.first_tx_mstamp: i64 = 0
        self.delivered_mstamp: i64 = 0
        self.rate_delivered: i64 = 0
        self.rate_interval: i64 = 0  #: ns
        self.rate_app_limited: bool = True
        self.pacing_rate: i64 = PACING_UNLIMITED  #: bytes a second
        self.pacing_status: i64 = SK_PACING_NONE
        self.pacing_shift: i64 = 10  #: a burst is at most pacing_rate >> this
        self.tcp_wstamp: i64 = 0  #: earliest departure of the next segment (ns)
        self.pacing_timer: Timer | None = None

    def _init_receive(self) -> None:
        self.irs: i64 = 0
        self.rcv_nxt: i64 = 0
        self.copied_seq: i64 = 0  #: first byte the user has not read
        self.rcv_wup: i64 = 0  #: rcv_nxt when the window was last advertised
        self.rcv_wnd: i64 = 0
        self.rcv_retracted: bool = False  #: the window now ends before one that was promised, at
        self.rcv_mwnd_seq: i64 = 0
        self.rcv_wscale: i64 = 0
        self.rcv_ssthresh: i64 = 0  #: how much of the buffer we dare to advertise yet
        self.window_clamp: i64 = 0
        self.rcv_mss: i64 = TCP_MSS_DEFAULT  #: guess of the peer's segment size
        self.last_seg_size: i64 = 0  #: of the last small segment that could be a full one of a small MSS
        self.advmss: i64 = 1460
        self.scaling_ratio: i64 = TCP_DEFAULT_SCALING_RATIO  #: of 256: text in what a segment costs
        self.window_limit: i64 = 0  #: what the link holds and the field says, 0 for no limit, ...
        self.user_clamp: i64 = 0  #: ... and TCP_WINDOW_CLAMP: window_clamp never grows beyond them
        self.receive_queue: deque[RcvSegment] | None = None
        self.ofo: OfoQueue | None = None
        self.fin_received: bool = False
        # delayed acknowledgement (struct icsk_ack)
        self.ack_pending: i64 = 0
        self.ack_quick: i64 = 0
        self.ack_pingpong: i64 = 0  #: answers sent within the ATO; from tcp_pingpong_thresh on it is interactive
        self.ato: i64 = 0
        self.lrcvtime: i64 = 0
        self.ack_queued: bool = False  #: on the list of ACKs that the end of the batch sends
        self.last_oow_ack_time: i64 = 0

    def _init_receive_memory(self) -> None:
        """Right-sizing, SACK to send, urgent data."""
        self.rcvq_space: i64 = 0
        self.rcvq_seq: i64 = 0
        self.rcvq_time: i64 = 0
        self.rcv_rtt: i64 = 0  #: receiver's round-trip time (rcv_rtt_est), ns
        self.rcv_rtt_seq: i64 = 0
        self.rcv_rtt_time: i64 = 0
        self.rcv_rtt_last_tsecr: i64 = 0
        self.duplicate_sack: tuple[int, int] | None = None  #: D-SACK that the next ACK reports
        self.selective_acks: list[tuple[int, int]] = []  #: most recent first, at most 4
        self.compressed_ack: i64 = 0  #: ACKs held back
        self.dup_ack_counter: i64 = 0
        self.compressed_ack_rcv_nxt: i64 = 0
        self.compressed_ack_timer: Timer | None = None
        self.rcv_ooopack: i64 = 0
        self.collapsed: i64 = 0  #: segments that the last collapse left (prune.py)
        self.urg_data: i64 = 0  #: TCP_URG_VALID and the byte, TCP_URG_NOTYET, TCP_URG_READ, 0
        self.urg_seq: i64 = 0
        self.recvmsg_inq: bool = False  #: TCP_INQ
        self.tx_watch: TxWatch | None = None  #: who asks what becomes of what is sent
        self.mem_charged: i64 = 0  #: bytes reserved of tcp_mem, whole pages (memory.py)

    def _init_timers(self) -> None:
        self.srtt: i64 = 0  #: smoothed round-trip time, 0 before the first sample
        self.mdev: i64 = TCP_TIMEOUT_INIT
        self.mdev_max: i64 = 0
        self.rttvar: i64 = TCP_TIMEOUT_INIT
        self.rtt_seq: i64 = 0
        self.rto: i64 = TCP_TIMEOUT_INIT
        self.backoff: i64 = 0
        self.probe_backoff: i64 = 0  #: the same for window probes, which say nothing about the path
        self.probes_tstamp: i64 = 0  #: when the window was first probed in vain (icsk_probes_tstamp), 0 for never
        self.retransmits: i64 = 0
        self.retrans_stamp: i64 = 0  #: when the first retransmission of this run went out, 0 for none
        self.probes_out: i64 = 0
        self.connect_time: i64 = 0  #: when the first SYN went out
        self.rcv_tstamp: i64 = 0  #: when the last segment came in
        self.icsk_pending: i64 = ICSK_TIME_NONE
        self.retransmit_timer: Timer | None = None
        self.delack_timer: Timer | None = None
        self.keepalive_timer: Timer | None = None
        self.keepidle: i64 = 0  #: 0: the sysctl
        self.keepintvl: i64 = 0
        self.keepcnt: i64 = 0
        self.syn_retries: i64 = 0
        self.linger2: i64 = 0  #: ns in FIN_WAIT2, 0: the sysctl, -1: none at all
        self.user_timeout: i64 = 0  #: ns
        self.total_rto: i64 = 0  #: timeouts, ever (tcp_info)
        self.total_rto_recoveries: i64 = 0
        self.total_rto_time: i64 = 0  #: ns
        self.rto_stamp: i64 = 0  #: when the present run of timeouts began
        self.rto_min_ns: i64 = 0  #: TCP_RTO_MIN_US, 0: the sysctl
        self.rto_max_ns: i64 = 0  #: TCP_RTO_MAX_MS, 0: the sysctl
        self.delack_max_ns: i64 = TCP_DELACK_MAX  #: TCP_DELACK_MAX_US
        self.thin_lto: bool = False  #: TCP_THIN_LINEAR_TIMEOUTS

    def _init_options(self) -> None:
        self.tstamp_ok: bool = False
        self.wscale_ok: bool = False
        self.sack_ok: bool = False
        self.ts_recent: i64 = 0
        self.ts_recent_stamp: i64 = 0
        self.tsoffset: i64 = 0  #: ms
        self.saw_tstamp: bool = False  #: of the segment being processed, as the two below
        self.rcv_tsval: i64 = 0
        self.rcv_tsecr: i64 = 0

    def _init_statistics(self) -> None:
        """What struct tcp_info tells and nothing decides."""
        self.bytes_sent: i64 = 0
        self.bytes_retrans: i64 = 0
        self.bytes_acked: i64 = 0
        self.bytes_received: i64 = 0
        self.segs_in: i64 = 0
        self.segs_out: i64 = 0
        self.data_segs_in: i64 = 0
        self.data_segs_out: i64 = 0
        self.chrono_start: i64 = 0
        self.chrono_type: i64 = TCP_CHRONO_UNSPEC
        self.chrono_busy: i64 = 0  #: ns each
        self.chrono_rwnd_limited: i64 = 0
        self.chrono_sndbuf_limited: i64 = 0

    def _init_listen(self) -> None:
        self.defer_accept: i64 = 0  #: TCP_DEFER_ACCEPT: SYN-ACKs that wait for data
        self.save_syn: i64 = 0  #: TCP_SAVE_SYN
        self.saved_syn: bytes = b""
        self.fastopen_max_qlen: i64 = 0  #: TCP_FASTOPEN: its queue, 0 for none
        self.fastopen_qlen: i64 = 0
        self.fastopen_rsk: RequestSock | None = None  #: of a Fast Open child whose handshake is not done
        self.fastopen_key: bytes = b""  #: TCP_FASTOPEN_KEY, b"": the stack's
        self.fastopen_rst: list[int] | None = None  #: until when children that were reset count in the queue (ns)
        self.synq_overflow: i64 = 0  #: when its queue last overflowed, 0 for never: only then cookies may come back
        self.bind_bucket: BindBucket | None = None
        self.max_ack_backlog: i64 = 0
        self.accept_queue: deque[TcpControl] | None = None
        self.syn_queue_len: i64 = 0
        self.syn_queue_young: i64 = 0  #: those whose SYN-ACK has gone out once only
        self.parent: TcpControl | None = None  #: the listener whose accept queue holds it

    # -- state

    def move(self, event: Event) -> None:
        """Follow ``event`` through the table of states; it must apply (an assertion, not the peer's to break)."""
        target = after(self.state, event)
        assert target is not None, (self.state, event)
        was = self.state
        self.state = int(target)
        mib = self.net.mib.tcp
        # RFC 4022: tcpCurrEstab and tcpEstabResets tell of "either ESTABLISHED or CLOSE-WAIT"
        if in_set(self.state, CURR_ESTAB):
            if not in_set(was, CURR_ESTAB):
                mib.CurrEstab += 1
        elif in_set(was, CURR_ESTAB):
            mib.CurrEstab -= 1
            if self.state == TCP_CLOSE:
                mib.EstabResets += 1

    # -- arithmetic on the control block (include/net/tcp.h)

    def tcp_wnd_end(self) -> i64:
        """One past the last byte the peer lets us send."""
        return (self.snd_una + self.snd_wnd) & 0xFFFF_FFFF

    def tcp_receive_window(self) -> i64:
        """What is left of the window we advertised; never negative."""
        left: i64 = (self.rcv_wup + self.rcv_wnd - self.rcv_nxt) & 0xFFFF_FFFF
        return 0 if left > 0x7FFF_FFFF else left

    def tcp_packets_in_flight(self) -> i64:
        """RFC 6675's pipe in packets: sent, minus left the network, plus sent again."""
        return self.packets_out - self.sacked_out - self.lost_out + self.retrans_out

    def tcp_space(self) -> i64:
        """Receive buffer still free, as window (bytes)."""
        free = self.rcvbuf - self.rmem_alloc
        return 0 if free < 0 else free * self.scaling_ratio >> 8

    def tcp_full_space(self) -> i64:
        """All of the receive buffer as window (tcp_win_from_space)."""
        return self.rcvbuf * self.scaling_ratio >> 8

    def tcp_space_from_win(self, window: i64) -> i64:
        """Buffer that a window of so many bytes takes."""
        return (window << 8) // self.scaling_ratio

    def in_slow_start(self) -> bool:
        return self.snd_cwnd < self.snd_ssthresh

    def mstamp(self) -> i64:
        """Our clock for the timestamp option: milliseconds and the connection's own offset (RFC 7323 section 5.4)."""
        return (self.net.now // NSEC_PER_MSEC + self.tsoffset) & 0xFFFF_FFFF

    # -- queues

    def send_head(self) -> TcpSkb | None:
        """The first skb that was never sent (tcp_send_head)."""
        return self.write_queue[0] if self.write_queue else None

    def rtx_head(self) -> TcpSkb | None:
        """The oldest skb in flight (tcp_rtx_queue_head)."""
        return None if self.rtx_queue is None else self.rtx_queue.first()

    def writes(self) -> deque[TcpSkb]:
        """The write queue; made on first use, so that an idle connection stays small."""
        if self.write_queue is None:
            self.write_queue = deque()
        return self.write_queue

    def in_flight(self) -> RtxQueue:
        """The retransmission queue; made on first use."""
        if self.rtx_queue is None:
            self.rtx_queue = RtxQueue()
        return self.rtx_queue

    def received(self) -> deque[RcvSegment]:
        """The receive queue; made on first use."""
        if self.receive_queue is None:
            self.receive_queue = deque()
        return self.receive_queue

    # -- timers: arming only; what happens when they fire is timers.py

    def reset_xmit_timer(self, what: i64, delay: i64) -> None:
        """Arm the retransmission timer for ``what``: it waits for one thing at a time (inet_csk_reset_xmit_timer).

        A probe is not due before pacing lets anything go (tcp_reset_xmit_timer's pace_delay).
        """
        self.icsk_pending = what
        if what == ICSK_TIME_PROBE0 or what == ICSK_TIME_LOSS_PROBE:
            delay += self.pacing_delay()
        if self.retransmit_timer is not None:
            self.net.timers.mod_timer(self.retransmit_timer, self.net.now + min(delay, self.rto_max()))

    def pacing_delay(self) -> i64:
        """How long pacing holds back what is sent next (ns; tcp_pacing_delay)."""
        return max(self.tcp_wstamp - self.net.now, 0)

    def clear_xmit_timer(self) -> None:
        """Disarm it, whatever it waited for."""
        self.icsk_pending = ICSK_TIME_NONE
        if self.retransmit_timer is not None:
            self.net.timers.del_timer(self.retransmit_timer)

    def reset_keepalive_timer(self, delay: i64) -> None:
        if self.keepalive_timer is not None:
            self.net.timers.mod_timer(self.keepalive_timer, self.net.now + delay)

    def clear_all_timers(self) -> None:
        """tcp_clear_xmit_timers: nothing of a closed connection may fire (CVE-2022-1678)."""
        self.clear_xmit_timer()
        self.ack_pending = 0
        self.clear_compressed_ack()
        for timer in (self.delack_timer, self.keepalive_timer, self.pacing_timer):
            if timer is not None:
                self.net.timers.del_timer(timer)

    def keepalive_time_when(self) -> i64:
        """Idle time before the first keepalive probe (ns)."""
        return self.keepidle or self.net.sysctl.tcp_keepalive_time * NSEC_PER_SEC

    def keepalive_intvl_when(self) -> i64:
        return self.keepintvl or self.net.sysctl.tcp_keepalive_intvl * NSEC_PER_SEC

    def keepalive_probes(self) -> i64:
        return self.keepcnt or self.net.sysctl.tcp_keepalive_probes

    def fin_timeout(self) -> i64:
        """How long FIN_WAIT2 lasts without its owner (ns): at least 3.5 RTO (tcp_fin_time)."""
        fin_timeout = self.linger2 or self.net.sysctl.tcp_fin_timeout * NSEC_PER_SEC
        return max(fin_timeout, (self.rto << 2) - (self.rto >> 1))

    # -- acknowledgement bookkeeping

    def incr_quickack(self, max_quickacks: i64) -> None:
        """So many ACKs at once as half a window needs (tcp_incr_quickack)."""
        quick = self.rcv_wnd // (2 * self.rcv_mss)
        self.ack_quick = max(self.ack_quick, min(quick if quick else 2, max_quickacks))

    def enter_quickack_mode(self, max_quickacks: i64) -> None:
        """Answer the next segments at once (tcp_enter_quickack_mode)."""
        self.incr_quickack(max_quickacks)
        self.ack_pingpong = 0
        self.ato = TCP_ATO_MIN

    def enter_pingpong_mode(self) -> None:
        self.ack_pingpong = self.net.sysctl.tcp_pingpong_thresh

    def in_pingpong_mode(self) -> bool:
        """Interactive: what is received is answered, and the ACK waits for the answer."""
        return self.ack_pingpong >= self.net.sysctl.tcp_pingpong_thresh

    def clear_compressed_ack(self) -> None:
        """No ACK is held back any more (compress.py)."""
        self.compressed_ack = 0
        if self.compressed_ack_timer is not None:
            self.net.timers.del_timer(self.compressed_ack_timer)

    def in_quickack_mode(self) -> bool:
        return (self.ack_quick > 0 and not self.in_pingpong_mode()) or self.route_metric(RTAX_QUICKACK) != 0

    # -- what the route says

    def route_metric(self, which: i64) -> i64:
        """RTAX_``which`` of the way to the peer, 0 if it has none (dst_metric)."""
        dst = self.dst_cache
        return 0 if dst is None else dst.metric(which)

    def rto_min(self) -> i64:
        """The least variance an RTO allows for, ns; a route's (ms) counts if it is locked (tcp_rto_min)."""
        dst = self.dst_cache
        if dst is not None and dst.fi is not None and dst.fi.metric_locked(RTAX_RTO_MIN):
            return dst.fi.metric(RTAX_RTO_MIN) * NSEC_PER_MSEC
        return self.rto_min_ns or self.net.sysctl.tcp_rto_min_us * NSEC_PER_USEC

    def rto_max(self) -> i64:
        """The longest RTO, ns: TCP_RTO_MAX_MS or the sysctl (tcp_rto_max)."""
        return self.rto_max_ns or self.net.sysctl.tcp_rto_max_ms * NSEC_PER_MSEC

    def init_cwnd(self) -> i64:
        """RFC 6928's ten segments, or the route's word (tcp_init_cwnd)."""
        return self.route_metric(RTAX_INITCWND) or TCP_INIT_CWND

    def charge(self, truesize: i64) -> None:
        self.rmem_alloc += truesize

    def pushed(self) -> bool:
        """Half the largest window since the last PSH: time for another (forced_push)."""
        return before((self.pushed_seq + (self.max_window >> 1)) & 0xFFFF_FFFF, self.write_seq)
