"""What a route says of the connections that go by it (RTA_METRICS; ``ip route ... initcwnd 4 rto_min 50ms ...``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.harness import MSEC, SEC, Pair, Sniffer, code_of, connection, readable
from ustack.inet.family import SOCK_STREAM
from ustack.inet.sockaddr import AF_INET
from ustack.routing.fib_types import FibConfig
from ustack.routing.uapi import (
    NLM_F_CREATE,
    RTAX_ADVMSS,
    RTAX_CWND,
    RTAX_HOPLIMIT,
    RTAX_INITCWND,
    RTAX_INITRWND,
    RTAX_LOCK,
    RTAX_MTU,
    RTAX_QUICKACK,
    RTAX_RTO_MIN,
    RTAX_WINDOW,
)
from ustack.tcp.congestion.reno import Reno
from ustack.tcp.control import TCP_INFINITE_CWND, TcpControl
from ustack.tcp.options import IPPROTO_TCP, TCP_MAXSEG
from ustack.wire.ipv4 import str_to_addr

if TYPE_CHECKING:
    from ustack.inet.socket import Socket
    from ustack.stack import Stack
    from ustack.tcp.congestion.base import CongestionOps

HERE, THERE = "192.0.2.1", "192.0.2.2"
LOCKED_RTO = {RTAX_RTO_MIN: 50, RTAX_LOCK: 1 << RTAX_RTO_MIN}


def other() -> CongestionOps:
    """An algorithm of another name."""
    ops = Reno()
    ops.name = "other"
    return ops


def give(stack: Stack, peer: str, metrics: dict[int, int], cc_algo: str = "") -> None:
    """A route of the peer's own."""
    cfg = FibConfig(str_to_addr(peer), 32)
    cfg.oif, cfg.scope, cfg.nlflags = stack.device("eth0").ifindex, 253, NLM_F_CREATE
    cfg.metrics, cfg.cc_algo = metrics, cc_algo
    stack.routing.fib.rtm_newroute(cfg)


def tp(sock: Socket) -> TcpControl:
    sk = sock.sk
    assert isinstance(sk, TcpControl)
    return sk


def both(metrics: dict[int, int], cc_algo: str = "") -> tuple[Pair, TcpControl, TcpControl]:
    """Both ends have the metrics on the way to the other: (connecting, accepting)."""
    pair = Pair(resolved=True)
    for stack, peer in ((pair.a, THERE), (pair.b, HERE)):
        stack.tcp.tables.congestion.register(other())
        give(stack, peer, metrics, cc_algo)
    client, server = connection(pair)
    return pair, tp(client), tp(server)


def test_advmss() -> None:
    """dst_metric_advmss: what we tell the peer; RFC 9293 MUST-16. What timestamps take is no text."""
    _, active, passive = both({RTAX_ADVMSS: 1000})
    assert (active.advmss, active.mss_clamp, passive.advmss, passive.mss_clamp) == (988, 1000, 988, 1000)


def test_mtu() -> None:
    _, active, passive = both({RTAX_MTU: 1300})
    assert (active.pmtu, passive.pmtu) == (1300, 1300) and active.mss_cache <= 1260


@pytest.mark.parametrize(("metrics", "cwnd"), [({}, 10), ({RTAX_INITCWND: 4}, 4), ({RTAX_INITCWND: 30}, 30)])
def test_initcwnd(metrics: dict[int, int], cwnd: int) -> None:
    """tcp_init_cwnd, also after an idle time (tcp_cwnd_restart)."""
    pair, active, passive = both(metrics)
    pair.run(SEC)
    assert active.snd_cwnd == passive.snd_cwnd == active.init_cwnd() == cwnd


@pytest.mark.parametrize("lock", [0, 1 << RTAX_CWND])
def test_cwnd(lock: int) -> None:
    """tcp_init_metrics: a locked one is the most that the congestion window may become; another says nothing."""
    _, active, passive = both({RTAX_CWND: 12, RTAX_LOCK: lock})
    clamp = 12 if lock else TCP_INFINITE_CWND
    assert active.snd_cwnd_clamp == passive.snd_cwnd_clamp == clamp


def test_the_congestion_window_stays_below_a_locked_cwnd() -> None:
    """Slow start ends there (tcp_slow_start)."""
    pair = Pair(resolved=True)
    give(pair.a, THERE, {RTAX_CWND: 12, RTAX_LOCK: 1 << RTAX_CWND})
    client, server = connection(pair)
    client.send(bytes(1_000_000))
    for _ in range(50):
        pair.run(10 * MSEC)
        while readable(server):
            server.recv(1 << 20)
    assert tp(client).snd_cwnd == 12


def test_a_narrow_path_does_not_raise_what_the_user_wants_advertised() -> None:
    """tcp_advertise_mss: MIN_ADVMSS holds for what follows from an MTU, not for TCP_MAXSEG."""
    pair = Pair(resolved=True)
    give(pair.b, HERE, {RTAX_MTU: 120})
    server = pair.b.socket()
    server.setsockopt(IPPROTO_TCP, TCP_MAXSEG, 100)
    server.bind((THERE, 80))
    server.listen(8)
    client = pair.b.socket()
    client.setsockopt(IPPROTO_TCP, TCP_MAXSEG, 100)
    sniffer = Sniffer(pair.b)
    code_of(lambda: client.connect((HERE, 80)))
    pair.run(SEC)
    assert tp(client).advmss == 100 and any("mss 100" in line for line in sniffer.lines())


def test_window() -> None:
    """RTAX_WINDOW clamps what is advertised, unless the socket has said something."""
    _, active, passive = both({RTAX_WINDOW: 10_000})
    assert (active.window_clamp, passive.window_clamp) == (10_000, 10_000)
    assert active.rcv_wnd <= 10_000 and active.rcv_wscale == 0


def test_initrwnd() -> None:
    """The first window, in segments of the MSS we advertise."""
    _, active, passive = both({RTAX_INITRWND: 3})
    assert active.rcv_ssthresh == passive.rcv_ssthresh == 3 * 1460


@pytest.mark.parametrize(
    ("metrics", "rto_min"), [({}, 200), ({RTAX_RTO_MIN: 50}, 200), (LOCKED_RTO, 50)], ids=["none", "unlocked", "locked"]
)
def test_rto_min(metrics: dict[int, int], rto_min: int) -> None:
    """tcp_rto_min: only if it is locked, as iproute2 always has it."""
    pair, active, _ = both(metrics)
    assert active.rto_min() == rto_min * MSEC
    pair.run(SEC)
    assert rto_min * MSEC <= active.rto < (rto_min + 20) * MSEC


@pytest.mark.parametrize("quickack", [0, 1])
def test_quickack(quickack: int) -> None:
    """tcp_in_quickack_mode: no ACK is delayed."""
    pair, _, passive = both({RTAX_QUICKACK: quickack})
    passive.ack_quick = 0
    passive.enter_pingpong_mode()
    assert passive.in_quickack_mode() is bool(quickack)
    assert pair.now > 0


@pytest.mark.parametrize(("cc_algo", "name"), [("", "cubic"), ("reno", "reno"), ("other", "other")])
def test_congctl(cc_algo: str, name: str) -> None:
    """tcp_ca_dst_init, tcp_ca_openreq_child: by name."""
    _, active, passive = both({RTAX_HOPLIMIT: 64}, cc_algo)
    assert (active.congestion.name, passive.congestion.name) == (name, name)


@pytest.mark.parametrize("name", ["unheard-of", "Cubic", "OTHER", "other" * 4])
def test_an_algorithm_that_nobody_has_is_no_routes(name: str) -> None:
    """tcp_ca_get_key_by_name, in the kernel's words."""
    with pytest.raises(OSError, match="Unknown tcp congestion algorithm"):
        both({}, name)


def test_hoplimit() -> None:
    """On every segment, the SYN-ACK and the RST that belong to no socket too."""
    pair, active, _ = both({RTAX_HOPLIMIT: 9})
    sniffers = [Sniffer(pair.a), Sniffer(pair.b)]
    client = pair.a.socket(AF_INET, SOCK_STREAM)
    code_of(lambda: client.connect((THERE, 81)))
    connection(pair)
    pair.run(SEC)
    sent = [data for sniffer in sniffers for outgoing, data in sniffer.frames if outgoing]
    assert len(sent) >= 4 and {data[22] for data in sent} == {9}
    assert active.dst_cache is not None
