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
from ustack.sock import STATE_NAMES, TCP_CLOSE, TCP_CLOSE_WAIT, TCP_ESTABLISHED, TCP_LISTEN, Sock
from ustack.tcp.rtx_queue import RtxQueue
from ustack.tcp.seq import before
from ustack.tcp.states import NO_STATE, Event, after, in_set
from ustack.timer import NSEC_PER_MSEC, NSEC_PER_SEC, NSEC_PER_USEC, Timer
from ustack.trace.points import Point

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
    from ustack.tcp.trace import Held
    from ustack.tcp.tx_watch import TxWatch
    from ustack.trace.journey import Journey

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
#: As ss tells them.
CA_STATES: Final = ("Open", "Disorder", "CWR", "Recovery", "Loss")

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

# which timer of a connection
TIMER_RETRANSMIT: Final = 0
TIMER_DELACK: Final = 1
TIMER_KEEPALIVE: Final = 2
TIMER_PACING: Final = 3

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

    tables: TcpTables
    wake_events: i64 = 0  #: what the observer is told at the end of the batch (notify.py)
    ehash_key: i64 = -1
    ehash_next: TcpControl | None = None
    # sending
    iss: i64 = 0
    snd_una: i64 = 0
    snd_nxt: i64 = 0
    snd_sml: i64 = 0  #: end of the last small segment sent (Minshall's Nagle)
    write_seq: i64 = 0  #: one past the last byte the user has given
    pushed_seq: i64 = 0
    snd_wnd: i64 = 0
    snd_wl1: i64 = 0
    max_window: i64 = 0
    snd_wscale: i64 = 0
    mss_cache: i64 = TCP_MSS_DEFAULT
    mss_clamp: i64 = TCP_MSS_DEFAULT  #: what the peer's MSS option allows
    user_mss: i64 = 0
    pmtu: i64 = 0
    write_queue: deque[TcpSkb] | None = None  #: not sent yet
    rtx_queue: RtxQueue | None = None  #: sent, not acknowledged
    wmem_queued: i64 = 0
    sock_nospace: bool = False
    tsq_throttled: bool = False  #: waits for its device's queue (TSQ_THROTTLED)
    nonagle: i64 = 0
    fin_queued: bool = False
    pseudo_sum: i64 = 0  #: pseudo-header sum without the length
    congestion: CongestionOps
    urg_mode: bool = False  #: urgent data waits or is in flight
    snd_up: i64 = 0  #: urgent pointer: one past the urgent byte
    ecn_flags: i64 = 0
    notsent_lowat: i64 = 0  #: bytes not sent that make the socket unwritable, 0: the sysctl
    # path MTU probing (struct icsk_mtup, mtu_probe; RFC 4821), bytes
    mtup_enabled: bool = False
    mtup_search_high: i64 = 0
    mtup_search_low: i64 = 0
    mtup_probe_size: i64 = 0  #: of the probe in flight, 0 for none
    mtup_probe_timestamp: i64 = 0
    mtu_probe_seq_start: i64 = 0
    mtu_probe_seq_end: i64 = 0
    # Fast Open, as client (struct tcp_fastopen_request)
    syn_fastopen: bool = False  #: the SYN carries or asks for a cookie
    syn_data: bool = False  #: the SYN carried data
    syn_data_acked: bool = False
    fastopen_connect: bool = False  #: TCP_FASTOPEN_CONNECT
    fastopen_no_cookie: bool = False  #: TCP_FASTOPEN_NO_COOKIE
    fastopen_client_fail: i64 = 0
    fastopen_cookie: bytes | None = None  #: for the next SYN; b"" asks for one, None: no option
    fastopen_exp: bool = False  #: ... in the experimental option
    fastopen_req: bool = False  #: a connect with Fast Open is under way (fastopen_req)
    syn_fastopen_exp: bool = False
    syn_fastopen_ch: bool = False  #: it may show that Fast Open works again
    fastopen_data: Buffer | None  #: what waits for the SYN
    # congestion control and loss recovery; windows and counts in packets
    ca_state: i64 = TCP_CA_OPEN
    ca_priv: CongestionState | None = None  #: the algorithm's own variables
    ca_setsockopt: bool = False  #: chosen by TCP_CONGESTION
    ca_dst_locked: bool = False  #: chosen by the route, and locked
    snd_cwnd: i64 = TCP_INIT_CWND
    snd_cwnd_cnt: i64 = 0
    snd_cwnd_clamp: i64 = TCP_INFINITE_CWND
    snd_cwnd_stamp: i64 = 0  #: when cwnd was last changed or used
    snd_cwnd_used: i64 = 0  #: most packets out since then
    snd_ssthresh: i64 = TCP_INFINITE_SSTHRESH
    prior_cwnd: i64 = 0
    prior_ssthresh: i64 = 0
    max_packets_out: i64 = 0
    cwnd_usage_seq: i64 = 0
    is_cwnd_limited: bool = False
    packets_out: i64 = 0
    sacked_out: i64 = 0  #: without SACK: duplicate ACKs, each a segment that has left the network
    lost_out: i64 = 0
    retrans_out: i64 = 0
    total_retrans: i64 = 0
    high_seq: i64 = 0  #: snd_nxt when recovery began
    lsndtime: i64 = 0
    # scoreboard (RFC 2018, RFC 6675)
    rx_sacks: list[tuple[int, int]] | None = None  #: of the segment being processed
    recv_sack_cache: list[tuple[int, int]]  #: the blocks of the last ACK that had any, in order
    highest_sack: TcpSkb | None = None  #: first never sacked beyond the highest sacked one
    retransmit_skb_hint: TcpSkb | None = None  #: nothing before it waits to be sent again
    reordering: i64  #: packets
    reord_seen: i64 = 0
    dsack_dups: i64 = 0  #: segments that D-SACK said came twice
    is_sack_reneg: bool = False
    # RACK (RFC 8985 section 6)
    rack_rtt: i64 = 0
    rack_end_seq: i64 = 0
    rack_order: i64 = 0  #: the latest transmission that was delivered (TcpSkb.tx_order)
    rack_last_delivered: i64 = 0
    rack_reo_wnd_steps: i64 = 1
    rack_reo_wnd_persist: i64 = 0
    rack_dsack_seen: bool = False
    rack_advanced: bool = False
    # TLP (RFC 8985 section 7)
    tlp_high_seq: i64 = 0  #: snd_nxt at the probe, 0 for none outstanding
    tlp_retrans: bool = False  #: the probe was a retransmission
    # F-RTO (RFC 5682), undo, PRR (RFC 6937)
    frto: bool = False
    undo_marker: i64 = 0  #: snd_una when the window was reduced, 0: nothing to undo
    undo_retrans: i64 = 0  #: retransmissions that could still be shown to be needless
    prr_delivered: i64 = 0
    prr_out: i64 = 0
    min_rtt: i64 = RTT_UNKNOWN  #: smallest RTT of the last tcp_min_rtt_wlen seconds (ns)
    rtt_min: MinMax | None = None  #: the filter that says so
    # delivery rate (tcp_rate.c) and pacing
    delivered: i64 = 0  #: packets
    delivered_ce: i64 = 0
    lost: i64 = 0
    app_limited: i64 = -1  #: ``delivered`` that ends the bubble, 0 for none; -1: until the first delivery
    first_tx_mstamp: i64 = 0
    delivered_mstamp: i64 = 0
    rate_delivered: i64 = 0
    rate_interval: i64 = 0  #: ns
    rate_app_limited: bool = True
    pacing_rate: i64 = PACING_UNLIMITED  #: bytes a second
    pacing_status: i64 = SK_PACING_NONE
    pacing_shift: i64 = 10  #: a burst is at most pacing_rate >> this
    tcp_wstamp: i64 = 0  #: earliest departure of the next segment (ns)
    pacing_timer: Timer | None = None
    # receiving
    irs: i64 = 0
    rcv_nxt: i64 = 0
    copied_seq: i64 = 0  #: first byte the user has not read
    rcv_wup: i64 = 0  #: rcv_nxt when the window was last advertised
    rcv_wnd: i64 = 0
    rcv_retracted: bool = False  #: the window now ends before one that was promised, at
    rcv_mwnd_seq: i64 = 0
    rcv_wscale: i64 = 0
    rcv_ssthresh: i64 = 0  #: how much of the buffer we dare to advertise yet
    window_clamp: i64 = 0
    rcv_mss: i64 = 0  #: guess of the peer's segment size
    last_seg_size: i64 = 0  #: of the last small segment that could be a full one of a small MSS
    advmss: i64 = 0
    scaling_ratio: i64 = TCP_DEFAULT_SCALING_RATIO  #: of 256: text in what a segment costs
    window_limit: i64 = 0  #: what the link holds and the field says, 0 for no limit, ...
    user_clamp: i64 = 0  #: ... and TCP_WINDOW_CLAMP: window_clamp never grows beyond them
    receive_queue: deque[RcvSegment] | None = None
    ofo: OfoQueue | None = None
    fin_received: bool = False
    peek_off: i64 = -1  #: SO_PEEK_OFF: where the next MSG_PEEK begins, -1: at the first byte unread
    fin_unread: bool = False  #: it has come alone, and no read has told of it
    # delayed acknowledgement (struct icsk_ack)
    ack_pending: i64 = 0
    ack_quick: i64 = 0
    ack_pingpong: i64 = 0  #: answers sent within the ATO; from tcp_pingpong_thresh on it is interactive
    ato: i64 = 0
    lrcvtime: i64 = 0
    ack_queued: bool = False  #: on the list of ACKs that the end of the batch sends
    last_oow_ack_time: i64 = 0
    # right-sizing, SACK to send, urgent data
    rcvq_space: i64 = 0
    rcvq_seq: i64 = 0
    rcvq_time: i64 = 0
    rcv_rtt: i64 = 0  #: receiver's round-trip time (rcv_rtt_est), ns
    rcv_rtt_seq: i64 = 0
    rcv_rtt_time: i64 = 0
    rcv_rtt_last_tsecr: i64 = 0
    duplicate_sack: tuple[int, int] | None = None  #: D-SACK that the next ACK reports
    selective_acks: list[tuple[int, int]]  #: most recent first, at most 4
    compressed_ack: i64 = 0  #: ACKs held back
    dup_ack_counter: i64 = 0
    compressed_ack_rcv_nxt: i64 = 0
    compressed_ack_timer: Timer | None = None
    rcv_ooopack: i64 = 0
    collapsed: i64 = 0  #: segments that the last collapse left (prune.py)
    urg_data: i64 = 0  #: TCP_URG_VALID and the byte, TCP_URG_NOTYET, TCP_URG_READ, 0
    urg_seq: i64 = 0
    recvmsg_inq: bool = False  #: TCP_INQ
    tx_watch: TxWatch | None = None  #: who asks what becomes of what is sent
    mem_charged: i64 = 0  #: bytes reserved of tcp_mem, whole pages (memory.py)
    # timers and keepalive
    srtt: i64 = 0  #: smoothed round-trip time, 0 before the first sample
    mdev: i64 = TCP_TIMEOUT_INIT
    mdev_max: i64 = 0
    rttvar: i64 = TCP_TIMEOUT_INIT
    rtt_seq: i64 = 0
    rto: i64 = TCP_TIMEOUT_INIT  #: doubled whenever the retransmission timer has backed off, until measured anew
    backoff: i64 = 0  #: of the retransmission timer, and of the window probes, which goes on from there
    probes_tstamp: i64 = 0  #: when the window was first probed in vain (icsk_probes_tstamp), 0 for never
    retransmits: i64 = 0
    retrans_stamp: i64 = 0  #: when the first retransmission of this run went out, 0 for none
    probes_out: i64 = 0
    connect_time: i64 = 0  #: when the first SYN went out
    rcv_tstamp: i64 = 0  #: when the last segment came in
    icsk_pending: i64 = ICSK_TIME_NONE
    retransmit_timer: Timer | None = None
    delack_timer: Timer | None = None
    keepalive_timer: Timer | None = None
    keepidle: i64 = 0  #: 0: the sysctl
    keepintvl: i64 = 0
    keepcnt: i64 = 0
    syn_retries: i64 = 0
    linger2: i64 = 0  #: ns in FIN_WAIT2, 0: the sysctl, -1: none at all
    user_timeout: i64 = 0  #: ns
    total_rto: i64 = 0  #: timeouts, ever (tcp_info)
    total_rto_recoveries: i64 = 0
    total_rto_time: i64 = 0  #: ns
    rto_stamp: i64 = 0  #: when the present run of timeouts began
    rto_min_ns: i64 = 0  #: TCP_RTO_MIN_US, 0: the sysctl
    rto_max_ns: i64 = 0  #: TCP_RTO_MAX_MS, 0: the sysctl
    delack_max_ns: i64 = TCP_DELACK_MAX  #: TCP_DELACK_MAX_US
    thin_lto: bool = False  #: TCP_THIN_LINEAR_TIMEOUTS
    # options of the handshake
    tstamp_ok: bool = False
    tcp_header_len: i64 = 0  #: with timestamps if they were agreed on, and while they are offered
    wscale_ok: bool = False
    sack_ok: bool = False
    ts_recent: i64 = 0
    ts_recent_stamp: i64 = 0
    tsoffset: i64 = 0  #: ms
    saw_tstamp: bool = False  #: of the segment being processed, as the two below
    rcv_tsval: i64 = 0
    rcv_tsecr: i64 = 0
    # what struct tcp_info tells and nothing decides
    bytes_sent: i64 = 0
    bytes_retrans: i64 = 0
    bytes_acked: i64 = 0
    bytes_received: i64 = 0
    segs_in: i64 = 0
    segs_out: i64 = 0
    data_segs_in: i64 = 0
    data_segs_out: i64 = 0
    chrono_start: i64 = 0
    chrono_type: i64 = TCP_CHRONO_UNSPEC
    chrono_busy: i64 = 0  #: ns each
    chrono_rwnd_limited: i64 = 0
    chrono_sndbuf_limited: i64 = 0
    # listeners
    defer_accept: i64 = 0  #: TCP_DEFER_ACCEPT: SYN-ACKs that wait for data
    save_syn: i64 = 0  #: TCP_SAVE_SYN
    saved_syn: bytes = b""
    fastopen_max_qlen: i64 = 0  #: TCP_FASTOPEN: its queue, 0 for none
    fastopen_qlen: i64 = 0
    syn_fastopen_child: bool = False  #: Fast Open has made it
    fastopen_rsk: RequestSock | None = None  #: of a Fast Open child whose handshake is not done
    fastopen_key: bytes = b""  #: TCP_FASTOPEN_KEY, b"": the stack's
    fastopen_rst: list[int] | None = None  #: until when children that were reset count in the queue (ns)
    synq_overflow: i64 = 0  #: when its queue last overflowed, 0 for never: only then cookies may come back
    bind_bucket: BindBucket | None = None
    max_ack_backlog: i64 = 0
    accept_queue: deque[TcpControl] | None = None
    syn_queue_len: i64 = 0
    syn_queue_young: i64 = 0  #: those whose SYN-ACK has gone out once only
    parent: TcpControl | None = None  #: the listener whose accept queue holds it
    journey: Journey | None = None  #: of the last segment received that is followed, for what it causes later
    held: Held | None = None  #: what kept the write queue when somebody traced it last

    def __init__(self, net: Net, tables: TcpTables, congestion: CongestionOps) -> None:
        super().__init__(net, 1, 6)
        self.tables = tables
        self.rcvbuf = net.sysctl.tcp_rmem_default
        self.sndbuf = net.sysctl.tcp_wmem_default
        self.congestion = congestion
        self.recv_sack_cache = []
        self.reordering = net.sysctl.tcp_reordering
        self.selective_acks = []
        self.fastopen_data = None  # of three types: mypyc sets no default of the class for those

    # -- state

    def move(self, event: Event) -> None:
        """Follow ``event`` through the table of states; it must apply (an assertion, not the peer's to break)."""
        was = self.state
        target = after(was, int(event))
        assert target != NO_STATE, (was, event)
        self.state = target
        if self.net.tracer is not None and target != TCP_LISTEN:  # a listener sends nothing
            decision = f"{STATE_NAMES[int(was)]} to {STATE_NAMES[int(target)]}"
            self.net.tracer.mark(Point.TCP_SET_STATE, decision, {"event": event.name})
        mib = self.net.mib.tcp
        # RFC 4022: tcpCurrEstab and tcpEstabResets tell of "either ESTABLISHED or CLOSE-WAIT"
        if in_set(target, CURR_ESTAB):
            if not in_set(was, CURR_ESTAB):
                mib.CurrEstab += 1
        elif in_set(was, CURR_ESTAB):
            mib.CurrEstab -= 1
            if target == TCP_CLOSE:
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

    def set_header_len(self, stamped: bool) -> None:
        """What the header of every segment takes, ``stamped`` if timestamps are in it."""
        self.tcp_header_len = 20 + TIMESTAMP_LEN if stamped else 20

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
        timer = self.retransmit_timer
        if timer is None:
            timer = self.retransmit_timer = self.tables.new_timer(self, TIMER_RETRANSMIT)
        self.net.timers.mod_timer(timer, self.net.now + min(delay, self.rto_max()))

    def pacing_delay(self) -> i64:
        """How long pacing holds back what is sent next (ns; tcp_pacing_delay)."""
        return max(self.tcp_wstamp - self.net.now, 0)

    def clear_xmit_timer(self) -> None:
        """Disarm it, whatever it waited for."""
        self.icsk_pending = ICSK_TIME_NONE
        if self.retransmit_timer is not None:
            self.net.timers.del_timer(self.retransmit_timer)

    def reset_delack_timer(self, due: i64) -> None:
        timer = self.delack_timer
        if timer is None:
            timer = self.delack_timer = self.tables.new_timer(self, TIMER_DELACK)
        self.net.timers.mod_timer(timer, due)

    def reset_keepalive_timer(self, delay: i64) -> None:
        timer = self.keepalive_timer
        if timer is None:
            timer = self.keepalive_timer = self.tables.new_timer(self, TIMER_KEEPALIVE)
        self.net.timers.mod_timer(timer, self.net.now + delay)

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

    def locked_metric(self, which: i64) -> i64:
        """The same if the route insists on it, else -1 (dst_metric_locked)."""
        dst = self.dst_cache
        return dst.fi.metric(which) if dst is not None and dst.fi is not None and dst.fi.metric_locked(which) else -1

    def rto_min(self) -> i64:
        """The least variance an RTO allows for, ns; a route's (ms) counts if it is locked (tcp_rto_min)."""
        locked = self.locked_metric(RTAX_RTO_MIN)
        if locked >= 0:
            return locked * NSEC_PER_MSEC
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


class TcpTimer(Timer):
    """One of a connection's timers; each subclass says what happens when it is due."""

    def __init__(self, tp: TcpControl) -> None:
        super().__init__()
        self.tp: TcpControl = tp
