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

    from ustack.net import Net
    from ustack.stack import Stack
    from ustack.tcp.request import RequestSock
    from ustack.tcp.tables import TcpTables
    from ustack.tcp.timewait import TimeWait

#: For what "on" stands: the retransmission timer, whatever kind of retransmission it waits for.
_ON: Final = (ICSK_TIME_RETRANS, ICSK_TIME_REO_TIMEOUT, ICSK_TIME_LOSS_PROBE)
#: States of a connection that may have sent or received data.
_KEEPALIVE: Final = (TCP_ESTABLISHED, TCP_CLOSE_WAIT, TCP_FIN_WAIT1, TCP_FIN_WAIT2, TCP_SYN_SENT)


def inet_diag(stack: Stack, request: GetSockets) -> Sockets:
    """The sockets of these kinds and states: raw ones, UDP's, then TCP's listeners and connections."""
    states = request.states
    found: list[SocketDiag] = []
    if "raw" in request.kinds:
        found += [datagram_diag(stack, "raw", sk) for sk in stack.raw.sockets() if states >> int(sk.state) & 1]
    if "udp" in request.kinds:
        found += [datagram_diag(stack, "udp", sk) for sk in stack.udp.sockets() if states >> int(sk.state) & 1]
    if "tcp" in request.kinds:
        found += tcp_diag(stack, states)
    return Sockets(found, len(stack.tcp.tables.orphans))


def datagram_diag(stack: Stack, kind: str, sk: Sock) -> SocketDiag:
    return sock_diag(stack, kind, sk, int(sk.rmem_alloc), int(sk.wmem_alloc))


def tcp_diag(stack: Stack, states: int) -> Iterator[SocketDiag]:
    tables = stack.tcp.tables
    yield from (tcp_sock_diag(stack, tp) for tp in tcp_socks(tables) if states >> int(tp.state) & 1)
    if states >> TCP_SYN_RECV & 1:
        yield from map(request_diag, tables.requests.all())
    yield from (timewait_diag(tw) for tw in tables.timewait.all() if states >> int(tw.substate) & 1)


def tcp_socks(tables: TcpTables) -> Iterator[TcpControl]:
    """Listeners, then connections."""
    for listeners in tables.listeners.values():
        yield from listeners
    for head in tables.ehash.values():
        tp: TcpControl | None = head
        while tp is not None:
            yield tp
            tp = tp.ehash_next


def receive_queue(tp: TcpControl) -> int:
    """Bytes, or a listener's connections."""
    if tp.state == TCP_LISTEN:
        return len(tp.accept_queue or ())
    return int(tp.rcv_nxt - tp.copied_seq) & 0xFFFF_FFFF


def tcp_sock_diag(stack: Stack, tp: TcpControl) -> SocketDiag:
    """A whole socket (tcp_diag_get_info)."""
    listens = tp.state == TCP_LISTEN
    send = int(tp.max_ack_backlog) if listens else int(tp.write_seq - tp.snd_una) & 0xFFFF_FFFF
    diag = sock_diag(stack, "tcp", tp, receive_queue(tp), send)
    diag.congestion = tp.congestion.name
    diag.info = tcp_info(tp)
    diag.cc_info = b"" if listens else tp.congestion.get_info(tp)
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
        diag.expires = left(tp.net, tp.retransmit_timer)
    elif pending == ICSK_TIME_PROBE0:
        diag.timer, diag.retrans = "persist", int(tp.probes_out)
        diag.expires = left(tp.net, tp.retransmit_timer)
    elif tp.keepalive_timer is not None and tp.keepalive_timer.pending and tp.state in _KEEPALIVE:
        diag.timer, diag.retrans = "keepalive", int(tp.probes_out)
        diag.expires = left(tp.net, tp.keepalive_timer)


def left(net: Net, timer: Timer | None) -> int:
    """Until ``timer`` fires, ms."""
    return 0 if timer is None or not timer.pending else max(int(timer.expires - net.now), 0) // int(NSEC_PER_MSEC)


def request_diag(req: RequestSock) -> SocketDiag:
    """A connection being opened from outside: its timer is the SYN-ACK's (inet_req_diag_fill)."""
    ends = (int(req.laddr), int(req.lport), int(req.raddr), int(req.rport))
    diag = SocketDiag("tcp", TCP_SYN_RECV, 0, 0, *ends, cookie=int(req.cookie), mark=int(req.mark))
    diag.uid = int(req.listener.uid)
    diag.timer, diag.retrans, diag.expires = "on", int(req.retransmits), left(req.listener.net, req)
    return diag


def timewait_diag(tw: TimeWait) -> SocketDiag:
    """A remembered connection (inet_twsk_diag_fill)."""
    ends = (int(tw.laddr), int(tw.lport), int(tw.raddr), int(tw.rport))
    diag = SocketDiag("tcp", int(tw.substate), 0, 0, *ends, cookie=int(tw.cookie), mark=int(tw.mark))
    diag.timer, diag.expires = "timewait", left(tw.tables.net, tw)
    return diag
