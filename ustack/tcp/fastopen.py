"""Fast Open, the server's half: cookies, and connections that begin with their SYN (RFC 7413; Linux tcp_fastopen.c).

Who shows the cookie that his address was given has his data taken out of the SYN; the connection can be accepted,
read and written before the handshake is done. Until then it holds its request, and with it the listener's TCP_FASTOPEN
queue, which bounds how many of them there are.
"""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.routing.uapi import RTAX_FASTOPEN_NO_COOKIE
from ustack.siphash import SipHashKey, siphash_2u32, swab32
from ustack.sock import error
from ustack.sysctl_names import TextSetting
from ustack.tcp.accept import tcp_v4_syn_recv_sock
from ustack.tcp.connect import tcp_init_transfer
from ustack.tcp.control import (
    ICSK_TIME_RETRANS,
    TCP_CA_LOSS,
    TCP_CA_RECOVERY,
    TFO_SERVER_COOKIE_NOT_REQD,
    TFO_SERVER_ENABLE,
    TcpControl,
)
from ustack.tcp.data import take_text, tcp_fin, tcp_queue_rcv
from ustack.tcp.finish import tcp_write_err
from ustack.tcp.loss import tcp_enter_loss
from ustack.tcp.memory import sk_forced_mem_schedule
from ustack.tcp.request import RequestSock, reqsk_fastopen_remove
from ustack.tcp.rtt import tcp_rearm_rto, tcp_update_rto_stats, tcp_update_rto_time
from ustack.tcp.undo import tcp_try_undo_recovery
from ustack.wire.tcp import TCPHDR_FIN, fastopen_option

if TYPE_CHECKING:
    from ustack.packet import Packet
    from ustack.tcp.tables import TcpTables
    from ustack.wire.ipv4 import Ipv4Header
    from ustack.wire.tcp import TcpHeader, TcpOptions

KEY_LEN: Final = 16
#: A key, or two, as the sysctl has them.
_KEY_TEXT: Final = re.compile(r"[0-9a-fA-F]{1,8}(-[0-9a-fA-F]{1,8}){3}")


# -- keys and cookies


def key_from_text(text: str) -> bytes | None:
    """The 16 or 32 bytes that ``a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d4`` says, None if it is not of that form."""
    keys = b""
    parts = text.strip().split(",")
    if len(parts) > 2:
        return None
    for part in parts:
        if _KEY_TEXT.fullmatch(part) is None:
            return None
        keys += b"".join(int(word, 16).to_bytes(4, "little") for word in part.split("-"))
    return keys


def key_to_text(keys: bytes) -> str:
    """The other way round."""
    words = [f"{int.from_bytes(keys[at : at + 4], 'little'):08x}" for at in range(0, len(keys), 4)]
    return ",".join("-".join(words[at : at + 4]) for at in range(0, len(words), 4))


def tcp_fastopen_keys(listener: TcpControl) -> bytes:
    """The listener's own keys, or the stack's (tcp_fastopen_get_ctx)."""
    if listener.fastopen_key:
        return listener.fastopen_key
    return stack_keys(listener.tables)


def stack_keys(tables: TcpTables) -> bytes:
    """The stack's own, random until the sysctl has said what they are."""
    if not tables.fastopen_key:
        tables.fastopen_key = tables.net.entropy.take(KEY_LEN)
    return tables.fastopen_key


class FastopenKeySetting(TextSetting):
    """net.ipv4.tcp_fastopen_key (proc_tcp_fastopen_key)."""

    def __init__(self, tables: TcpTables) -> None:
        super().__init__("tcp_fastopen_key", "key of Fast Open cookies, or two of them: the second is still good")
        self.tables: TcpTables = tables

    def read(self) -> str:
        """Zeros until there is one."""
        return key_to_text(self.tables.fastopen_key or bytes(KEY_LEN))

    def write(self, text: str) -> None:
        """EINVAL for what is no key."""
        keys = key_from_text(text)
        if keys is None:
            raise error(errno.EINVAL)
        self.tables.fastopen_key = keys


def tcp_fastopen_cookie(key: bytes, saddr: i64, daddr: i64) -> bytes:
    """The eight bytes for a client at ``saddr`` of our address ``daddr`` (__tcp_fastopen_cookie_gen_cipher)."""
    high, low = siphash_2u32(swab32(saddr), swab32(daddr), SipHashKey(key))
    return (int(high) << 32 | int(low)).to_bytes(8, "little")


def cookie_of(keys: bytes, which: i64, iph: Ipv4Header) -> bytes:
    start = which * KEY_LEN
    return tcp_fastopen_cookie(keys[start : start + KEY_LEN], iph.saddr, iph.daddr)


# -- a SYN


def tcp_try_fastopen(req: RequestSock, packet: Packet, th: TcpHeader, options: TcpOptions) -> TcpControl | None:
    """The connection that the SYN makes at once if it may; else ``req`` may be given a cookie to hand out."""
    listener = req.listener
    mib = req.tables.net.mib.tcpext
    iph = packet.iph
    assert iph is not None
    sysctl = req.tables.net.sysctl.tcp_fastopen
    cookie = options.cookie
    if cookie == b"":
        mib.TCPFastOpenCookieReqd += 1
    if not sysctl & TFO_SERVER_ENABLE or (cookie is None and th.end == th.payload):
        return None
    if not tcp_fastopen_queue_check(listener):
        return None
    if no_cookie_needed(req, sysctl):
        return tcp_fastopen_create_child(req, packet, th)
    if cookie is None:
        return None
    keys = tcp_fastopen_keys(listener)
    primary = cookie_of(keys, 0, iph)
    alternative = cookie != primary and len(keys) > KEY_LEN and cookie == cookie_of(keys, 1, iph)
    if cookie != primary:
        req.fastopen_option = fastopen_option(primary, options.cookie_exp)
    if cookie == primary or alternative:
        child = tcp_fastopen_create_child(req, packet, th)
        if child is not None and alternative:
            mib.TCPFastOpenPassiveAltKey += 1
        return child
    if cookie:
        mib.TCPFastOpenPassiveFail += 1
    return None


def no_cookie_needed(req: RequestSock, sysctl: i64) -> bool:
    """tcp_fastopen_no_cookie."""
    if sysctl & TFO_SERVER_COOKIE_NOT_REQD or req.listener.fastopen_no_cookie:
        return True
    return req.dst.metric(RTAX_FASTOPEN_NO_COOKIE) != 0


def tcp_fastopen_queue_check(listener: TcpControl) -> bool:
    """True if the queue has room for one more (RFC 7413 section 5.1: "PendingFastOpenRequests").

    One that was reset gives its place back when its time is over.
    """
    limit = listener.fastopen_max_qlen
    if limit == 0:
        return False
    if listener.fastopen_qlen >= limit:
        held = listener.fastopen_rst
        if not held or held[0] > listener.net.now:
            listener.net.mib.tcpext.TCPFastOpenListenOverflow += 1
            return False
        del held[0]
        listener.fastopen_qlen -= 1
    return True


def tcp_fastopen_create_child(req: RequestSock, packet: Packet, th: TcpHeader) -> TcpControl | None:
    """A socket in SYN_RECV that has the SYN's data already; None if the listener has no room after all."""
    child = tcp_v4_syn_recv_sock(req, packet, th)
    mib = req.tables.net.mib.tcpext
    if child is None:
        mib.TCPFastOpenPassiveFail += 1
        return None
    mib.TCPFastOpenPassive += 1
    req.listener.fastopen_qlen += 1
    child.fastopen_rsk = req
    child.syn_fastopen_child = True
    child.snd_una = child.snd_nxt
    # RFC 7323 2.2: the window of a SYN is never scaled
    child.snd_wnd = child.max_window = th.window
    child.reset_xmit_timer(ICSK_TIME_RETRANS, req.timeout())
    tcp_init_transfer(child)
    tcp_fastopen_add_skb(child, packet, th)
    req.rcv_nxt = child.rcv_wup = child.rcv_nxt
    return child


def tcp_fastopen_add_skb(tp: TcpControl, packet: Packet, th: TcpHeader) -> None:
    """Take the text of a SYN or SYN-ACK, and a FIN with it."""
    length = th.end - th.payload
    fin = th.flags & TCPHDR_FIN != 0
    if length == 0 and not fin:
        return
    first = (th.seq + 1) & 0xFFFF_FFFF
    segment = take_text(packet, th, (first + length + (1 if fin else 0)) & 0xFFFF_FFFF, fin)
    segment.seq = first
    tcp_queue_rcv(tp, segment)
    sk_forced_mem_schedule(tp)
    tp.segs_in = 1
    tp.data_segs_in += 1 if length else 0
    tp.syn_data_acked = True
    if fin:
        tcp_fin(tp)


# -- the handshake's end


def tcp_rcv_synrecv_state_fastopen(child: TcpControl) -> None:
    """The request is not needed any more; from now on the timer is for data."""
    if child.ca_state == TCP_CA_LOSS and child.packets_out == 0:
        tcp_try_undo_recovery(child)  # it was the SYN-ACK that timed out, and nothing is in flight to end that
    tcp_update_rto_time(child)
    child.retransmits = 0
    if child.ca_state < TCP_CA_RECOVERY:
        child.retrans_stamp = 0
    reqsk_fastopen_remove(child, False)
    tcp_rearm_rto(child)


def tcp_fastopen_synack_timer(child: TcpControl) -> None:
    """The SYN-ACK has not been acknowledged: again, and once more often than without Fast Open; nothing else goes
    before it has been."""
    req = child.fastopen_rsk
    assert req is not None
    net = child.net
    net.mib.tcpext.TCPTimeouts += 1
    if req.timeouts >= (child.syn_retries or net.sysctl.tcp_synack_retries + 1):
        return tcp_write_err(child)
    if child.retransmits == 1:
        tcp_enter_loss(child)
    req.send_synack_again()
    child.total_retrans += 1
    req.timeouts += 1
    tcp_update_rto_stats(child)
    if child.retrans_stamp == 0:
        child.retrans_stamp = net.now
    child.reset_xmit_timer(ICSK_TIME_RETRANS, req.timeout())
