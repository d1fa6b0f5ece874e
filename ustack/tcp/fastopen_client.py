"""Fast Open, the client's half: connect by sending, and what the SYN's answer says (RFC 7413; Linux tcp_fastopen.c)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.sock import TCP_CLOSE, TCP_SYN_RECV, TCP_SYN_SENT, error
from ustack.tcp.connect import tcp_connect, tcp_v4_connect
from ustack.tcp.control import TFO_CLIENT_ENABLE, TcpControl
from ustack.tcp.fastopen import tcp_fastopen_add_skb
from ustack.tcp.fastopen_syn import TFO_DATA_NOT_ACKED, TFO_SYN_RETRANSMITTED
from ustack.tcp.retransmit import tcp_non_congestion_loss_retransmit
from ustack.tcp.scoreboard import tcp_mark_skb_lost
from ustack.tcp.seq import distance

if TYPE_CHECKING:
    from ustack.packet import Buffer, Packet
    from ustack.wire.tcp import TcpHeader, TcpOptions


def tcp_sendmsg_fastopen(tp: TcpControl, data: Buffer, addr: i64, port: i64) -> i64:
    """Connect to (``addr``, ``port``), or where TCP_FASTOPEN_CONNECT has been told to, with ``data`` in the SYN.

    How much of it the SYN has; 0: there is a connection already, send as usual.

    Raises EOPNOTSUPP where tcp_fastopen has no client, EALREADY while a connect is under way, EINPROGRESS if the SYN
    has none of it, EINVAL for no address, and what connect does.
    """
    if not tp.net.sysctl.tcp_fastopen & TFO_CLIENT_ENABLE:
        raise error(errno.EOPNOTSUPP)
    if tp.defer_connect:
        tp.defer_connect = False
        start(tp, data)
        tcp_connect(tp)
    elif tp.state == TCP_CLOSE:
        if port < 0:
            raise error(errno.EINVAL)
        start(tp, data)
        try:
            tcp_v4_connect(tp, addr, port)
        finally:
            tp.fastopen_req = False
            tp.fastopen_data = None
    elif tp.state == TCP_SYN_SENT or tp.state == TCP_SYN_RECV:
        raise error(errno.EALREADY)
    else:
        return 0
    tp.fastopen_req = False
    taken = distance((tp.iss + 1) & 0xFFFF_FFFF, tp.write_seq)
    if taken == 0 or tp.state == TCP_CLOSE:
        raise error(tp.take_error() or errno.EINPROGRESS)
    return taken


def start(tp: TcpControl, data: Buffer) -> None:
    tp.fastopen_req = True
    tp.fastopen_data = data


def tcp_rcv_fastopen_synack(tp: TcpControl, packet: Packet, th: TcpHeader, options: TcpOptions) -> bool:
    """The answer to a SYN with Fast Open, its ACK processed; True if data of the SYN was not acknowledged.

    RFC 7413 4.2.2: "If the server [...] acknowledges only the SYN: resend the data"; a new cookie is for next time.
    """
    data = tp.rtx_head() if tp.syn_data else None
    cache_set(tp, options)
    mib = tp.net.mib.tcpext
    if data is not None:
        tp.fastopen_client_fail = TFO_SYN_RETRANSMITTED if tp.total_retrans else TFO_DATA_NOT_ACKED
        for skb in tp.in_flight():
            tcp_mark_skb_lost(tp, skb)
        tcp_non_congestion_loss_retransmit(tp)
        mib.TCPFastOpenActiveFail += 1
        return True
    tp.syn_data_acked = tp.syn_data
    if tp.syn_data_acked:
        mib.TCPFastOpenActive += 1
        if tp.delivered > 1:
            tp.delivered -= 1  # SYN and data were one segment
    tcp_fastopen_add_skb(tp, packet, th)
    return False


def cache_set(tp: TcpControl, options: TcpOptions) -> None:
    """Remember what the server wants (tcp_fastopen_cache_set)."""
    cookie = options.cookie if tp.syn_fastopen else None  # one that nobody has asked for is none
    try_exp: i64 = 0
    # one that was sent again was bare: the server has not been asked
    if tp.syn_fastopen and not tp.total_retrans and cookie is None and not tp.syn_data:
        # asked in vain: once in the old way, then in the new way for ever
        try_exp = 2 if tp.syn_fastopen_exp else 1
    block = tp.tables.metrics.get(tp.saddr, tp.daddr)
    block.mss = options.mss or block.mss
    if cookie:
        block.cookie = cookie
        block.exp = options.cookie_exp
    elif try_exp > block.try_exp and not block.cookie:
        block.try_exp = try_exp
