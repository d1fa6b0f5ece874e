"""Which algorithm a connection has: the sysctls, TCP_CONGESTION, the listener, the route, one's own (tcp_cong.c)."""

from __future__ import annotations

import errno

import pytest

from tests.harness import SEC, Pair, connection
from tests.tcp.peer import Peer, code_of, established, tcp_sock
from ustack.stack import Stack
from ustack.tcp.congestion.base import CongestionOps, CongestionState
from ustack.tcp.congestion.bbr import BbrState
from ustack.tcp.congestion.cong import tcp_set_congestion_control
from ustack.tcp.congestion.cubic import CubicState
from ustack.tcp.congestion.registry import Registry
from ustack.tcp.control import SK_PACING_NEEDED, SK_PACING_NONE, TcpControl

SEED = b"a seed for tests"
DEFAULT = "net.ipv4.tcp_congestion_control"
AVAILABLE = "net.ipv4.tcp_available_congestion_control"
ALLOWED = "net.ipv4.tcp_allowed_congestion_control"


class Turtle(CongestionOps):
    """An algorithm that a user has written: one packet at a time, and it counts."""

    def __init__(self) -> None:
        super().__init__()
        self.name = "turtle"
        self.connections = 0

    def init(self, tp: TcpControl) -> None:
        tp.ca_priv = Steps()
        tp.snd_cwnd = 1
        self.connections += 1

    def release(self, tp: TcpControl) -> None:
        self.connections -= 1

    def ssthresh(self, tp: TcpControl) -> int:
        return 2

    def cong_avoid(self, tp: TcpControl, ack: int, acked: int) -> None:
        state = tp.ca_priv
        assert isinstance(state, Steps)
        state.count += acked
        tp.snd_cwnd = 1

    def undo_cwnd(self, tp: TcpControl) -> int:
        return 1


class Steps(CongestionState):
    def __init__(self) -> None:
        self.count = 0


# -- the sysctls


def test_linux_s_default_and_what_there_is() -> None:
    table = Stack(SEED).sysctl
    assert table.get(DEFAULT) == "cubic"
    assert table.get(AVAILABLE) == "reno cubic bbr"
    assert table.get(ALLOWED) == "reno cubic"


def test_the_default_is_for_new_sockets_and_allowed_to_all() -> None:
    stack = Stack(SEED)
    before = stack.tcp.new_sock()
    stack.sysctl.set(DEFAULT, "bbr\n")
    assert (before.congestion.name, stack.tcp.new_sock().congestion.name) == ("cubic", "bbr")
    assert stack.sysctl.get(ALLOWED) == "reno cubic bbr"


@pytest.mark.parametrize("text", ["nope", "", "cubic ", " cubic", "Cubic", "reno cubic"])
def test_names_that_are_none(text: str) -> None:
    """proc_dostring takes the line as it is."""
    table = Stack(SEED).sysctl
    assert code_of(lambda: table.set(DEFAULT, text)) == errno.ENOENT
    assert table.get(DEFAULT) == "cubic"


def test_only_the_first_line_counts_and_what_exists_is_read_only() -> None:
    table = Stack(SEED).sysctl
    table.set(DEFAULT, "reno\ncubic")
    assert table.get(DEFAULT) == "reno"
    assert code_of(lambda: table.set(AVAILABLE, "reno")) == errno.EACCES


def test_the_allowed_ones_are_set_together_or_not_at_all() -> None:
    table = Stack(SEED).sysctl
    table.set(ALLOWED, "bbr  reno")
    assert table.get(ALLOWED) == "reno bbr"
    assert code_of(lambda: table.set(ALLOWED, "cubic nope")) == errno.ENOENT
    assert table.get(ALLOWED) == "reno bbr"
    table.set(ALLOWED, "")
    assert table.get(ALLOWED) == ""


def test_names_are_unique() -> None:
    registry = Registry()
    assert code_of(lambda: registry.register(registry.find("bbr"))) == errno.EEXIST
    assert code_of(lambda: registry.find("nope")) == errno.ENOENT


# -- TCP_CONGESTION


def test_a_socket_s_own_choice() -> None:
    """ENOENT for a name that is none, EPERM for one that not everybody may have."""
    tp = Stack(SEED).tcp.new_sock()
    assert code_of(lambda: tcp_set_congestion_control(tp, "nope", True)) == errno.ENOENT
    assert code_of(lambda: tcp_set_congestion_control(tp, "bbr", False)) == errno.EPERM
    assert not tp.ca_setsockopt and tp.congestion.name == "cubic"
    tcp_set_congestion_control(tp, "reno", False)
    assert tp.ca_setsockopt and tp.congestion.name == "reno"
    tcp_set_congestion_control(tp, "bbr", True)
    assert tp.congestion.name == "bbr" and tp.pacing_status == SK_PACING_NONE  # not connected: not begun


def test_the_present_one_may_be_kept_by_anybody() -> None:
    stack = Stack(SEED)
    stack.sysctl.set(DEFAULT, "bbr")
    stack.sysctl.set(ALLOWED, "reno")
    tp = stack.tcp.new_sock()
    tcp_set_congestion_control(tp, "bbr", False)
    assert tp.ca_setsockopt


def test_a_route_may_lock_its_own() -> None:
    tp = Stack(SEED).tcp.new_sock()
    tp.ca_dst_locked = True
    assert code_of(lambda: tcp_set_congestion_control(tp, "reno", True)) == errno.EPERM


def test_a_living_connection_changes_over() -> None:
    """The new one starts afresh with the window there is."""
    with established(peer=Peer(congestion="cubic")) as c:
        assert isinstance(c.tp.ca_priv, CubicState)
        tcp_set_congestion_control(c.tp, "bbr", True)
        assert isinstance(c.tp.ca_priv, BbrState) and c.tp.pacing_status == SK_PACING_NEEDED
        tcp_set_congestion_control(c.tp, "reno", True)
        assert c.tp.ca_priv is None
        c.app_send(b"abc")
        c.expect("PA", data=b"abc")
        c.inject("A")


def test_what_is_accepted_has_the_listener_s_choice_or_the_default() -> None:
    for chosen in (False, True):
        with Peer(congestion="cubic") as c:
            c.app_listen()
            if chosen:
                tcp_set_congestion_control(tcp_sock(c.sock), "bbr", True)
            c.stack.sysctl.set(DEFAULT, "reno")
            c.inject("S", options=c.syn_options())
            c.expect("SA", seq=0, ack=1)
            c.inject("A")
            c.app_accept()
            assert c.tp.congestion.name == ("bbr" if chosen else "reno")


# -- one's own


def test_an_algorithm_written_in_plain_python() -> None:
    with Pair(resolved=True) as pair:
        turtle = Turtle()
        pair.a.tcp.tables.congestion.register(turtle)
        pair.a.sysctl.set(DEFAULT, "turtle")
        assert pair.a.sysctl.get(AVAILABLE) == "reno cubic bbr turtle"
        one, other = connection(pair)
        one.send(bytes(20_000))
        received = bytearray()

        def all_there() -> bool:
            try:
                received.extend(other.recv(1 << 16))
            except BlockingIOError:
                pass
            return len(received) == 20_000

        pair.run_until(all_there)
        pair.settle()
        state = one.sk.ca_priv if isinstance(one.sk, TcpControl) else None
        assert isinstance(state, Steps) and state.count == 14
        assert turtle.connections == 1
        one.close()
        other.close()
        pair.run(5 * SEC)
        assert turtle.connections == 0
