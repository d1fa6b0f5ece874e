"""What ``ustack ss`` asks: every socket of a stack with its queues, timers, memory and tcp_info (Linux inet_diag.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ustack.io.control import GetSockets, SocketDiag, Sockets
from ustack.sock import (
    TCP_CLOSE_WAIT,
    TCP_ESTABLISHED,
    TCP_FIN_WAIT1,
    TCP_FIN_WAIT2,
    TCP_LISTEN,
    TCP_SYN_RECV,
    TCP_SYN_SENT,
    Sock,
)
from ustack.tcp.control import (
    ICSK_TIME_LOSS_PROBE,
    ICSK_TIME_PROBE0,
    ICSK_TIME_REO_TIMEOUT,
    ICSK_TIME_RETRANS,
    TcpControl,
)
from ustack.tcp.info import tcp_info
from ustack.timer import NSEC_PER_MSEC, Timer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ustack.stack import Stack
    from ustack.tcp.request import RequestSock
    from ustack.tcp.timewait import TimeWait

#: For what "on" stands: the retransmission timer, whatever kind of retransmission it waits for.
_ON: Final = (ICSK_TIME_RETRANS, ICSK_TIME_REO_TIMEOUT, ICSK_TIME_LOSS_PROBE)
#: States of a connection that may have sent or received data.
_KEEPALIVE: Final = (TCP_ESTABLISHED, TCP_CLOSE_WAIT, TCP_FIN_WAIT1, TCP_FIN_WAIT2, TCP_SYN_SENT)


def inet_diag(stack: Stack, request: GetSockets) -> Sockets:
    """The sockets of these kinds and states: raw ones, UDP's, then TCP's listeners and connections."""
    found: list[SocketDiag] = []
    if "raw" in request.kinds:
        found += [datagram_diag(stack, "raw", sk) for sk in stack.raw.sockets()]
    if "udp" in request.kinds:
        found += [datagram_diag(stack, "udp", sk) for held in stack.udp.table.ports.values() for sk in held]
    if "tcp" in request.kinds:
        found += tcp_diag(stack)
    wanted = [each for each in found if request.states >> each.state & 1]
    return Sockets(wanted, len(stack.tcp.tables.orphans))


def datagram_diag(stack: Stack, kind: str, sk: Sock) -> SocketDiag:
    return sock_diag(stack, kind, sk, int(sk.rmem_alloc), int(sk.wmem_alloc))


def tcp_diag(stack: Stack) -> Iterator[SocketDiag]:
    tables = stack.tcp.tables
    for listeners in tables.listeners.values():
        for tp in listeners:
            yield tcp_sock_diag(stack, tp)
    for head in tables.ehash.values():
        entry: TcpControl | None = head
        while entry is not None:
            yield tcp_sock_diag(stack, entry)
            entry = entry.ehash_next
    for req in tables.requests.all():
        yield request_diag(req)
    for tw in tables.timewait.all():
        yield timewait_diag(tw)


def tcp_sock_diag(stack: Stack, tp: TcpControl) -> SocketDiag:
    """A whole socket (tcp_diag_get_info)."""
    if tp.state == TCP_LISTEN:
        recv, send = len(tp.accept_queue or ()), int(tp.max_ack_backlog)
    else:
        recv, send = int(tp.rcv_nxt - tp.copied_seq) & 0xFFFF_FFFF, int(tp.write_seq - tp.snd_una) & 0xFFFF_FFFF
    diag = sock_diag(stack, "tcp", tp, recv, send)
    diag.congestion = tp.congestion.name
    diag.info = tcp_info(tp)
    diag.cc_info = tp.congestion.get_info(tp) if tp.state != TCP_LISTEN else b""
    tell_timer(tp, diag)
    return diag


def sock_diag(stack: Stack, kind: str, sk: Sock, recv: int, send: int) -> SocketDiag:
    """What all sockets have (inet_sk_diag_fill)."""
    dev = stack.devices.by_index(sk.bound_dev_if) if sk.bound_dev_if else None
    return SocketDiag(
        kind,
        int(sk.state),
        recv,
        send,
        int(sk.rcv_saddr),
        int(sk.num),
        int(sk.daddr),
        int(sk.dport),
        dev.name if dev is not None else "",
        int(sk.uid),
        0 if sk.dead else int(sk.cookie),
        int(sk.cookie),
        int(sk.mark),
        int(sk.tos),
        int(sk.shutdown),
        meminfo=sk.meminfo(),
    )


def tell_timer(tp: TcpControl, diag: SocketDiag) -> None:
    """The one that runs; of several the first of retransmission, window probe and keepalive."""
    pending = int(tp.icsk_pending)
    if pending in _ON:
        diag.timer, diag.retrans = "on", int(tp.retransmits)
        diag.expires = left(tp, tp.retransmit_timer)
    elif pending == ICSK_TIME_PROBE0:
        diag.timer, diag.retrans = "persist", int(tp.probes_out)
        diag.expires = left(tp, tp.retransmit_timer)
    elif tp.keepalive_timer is not None and tp.keepalive_timer.pending and tp.state in _KEEPALIVE:
        diag.timer, diag.retrans = "keepalive", int(tp.probes_out)
        diag.expires = left(tp, tp.keepalive_timer)


def left(sk: Sock, timer: Timer | None) -> int:
    """Until ``timer`` fires, ms."""
    return 0 if timer is None or not timer.pending else max(int(timer.expires - sk.net.now), 0) // int(NSEC_PER_MSEC)


def request_diag(req: RequestSock) -> SocketDiag:
    """A connection being opened from outside: its timer is the SYN-ACK's (inet_req_diag_fill)."""
    ends = (int(req.laddr), int(req.lport), int(req.raddr), int(req.rport))
    diag = SocketDiag("tcp", TCP_SYN_RECV, 0, 0, *ends, cookie=int(req.cookie), mark=int(req.mark))
    diag.uid = int(req.listener.uid)
    diag.timer, diag.retrans, diag.expires = "on", int(req.retransmits), left(req.listener, req)
    return diag


def timewait_diag(tw: TimeWait) -> SocketDiag:
    """A remembered connection (inet_twsk_diag_fill)."""
    ends = (int(tw.laddr), int(tw.lport), int(tw.raddr), int(tw.rport))
    diag = SocketDiag("tcp", int(tw.substate), 0, 0, *ends, cookie=int(tw.cookie), mark=int(tw.mark))
    remaining = int(tw.expires - tw.tables.net.now) if tw.pending else 0
    diag.timer, diag.expires = "timewait", max(remaining, 0) // int(NSEC_PER_MSEC)
    return diag
