"""SO_BINDTODEVICE: a connection hears what comes by its device only; elsewhere its four-tuple is free (INET_MATCH)."""

from __future__ import annotations

import pytest

from tests.tcp.peer import Peer, established, fin_wait2, listening, syn_recv, time_wait
from ustack.tcp.states import State

#: A device that there is not.
ELSEWHERE = 99


@pytest.mark.parametrize("constructor", [established, fin_wait2])
def test_a_connection_does_not_hear_another_device(constructor: object) -> None:
    """inet_bound_dev_eq, on the way of early demux and of tcp_v4_rcv: the segment is nobody's."""
    assert callable(constructor)
    c: Peer = constructor()
    with c:
        ours = c.tp.bound_dev_if = c.stack.device("eth0").ifindex
        c.inject("PA", b"heard")
        c.out.clear()
        c.tp.bound_dev_if = ELSEWHERE
        c.inject("PA", b"not heard", seq=6)
        c.expect("R")
        c.tp.bound_dev_if = ours
        assert c.app_recv() == b"heard"


def test_the_lookup_compares_the_device() -> None:
    with established() as c:
        assert lookup(c, c.tp.bound_dev_if) is not None
        c.tp.bound_dev_if = ELSEWHERE
        assert lookup(c, ELSEWHERE) is not None
        assert lookup(c, 0) is None and lookup(c, ELSEWHERE + 1) is None


def lookup(c: Peer, dif: int) -> object:
    tp = c.tp
    return c.stack.tcp.tables.lookup_established(tp.daddr, tp.dport, tp.rcv_saddr, tp.num, dif)


def test_an_unbound_connection_hears_every_device() -> None:
    with established() as c:
        assert all(lookup(c, dif) is c.tp for dif in (0, 1, ELSEWHERE))


def test_a_half_open_connection_is_its_listeners_devices() -> None:
    """ir_iif."""
    with listening() as c:
        listener = c.sock.sk
        listener.bound_dev_if = c.stack.device("eth0").ifindex
        c.peer_syn()
        c.expect("SA")
        (req,) = c.stack.tcp.tables.requests.all()
        assert req.bound_dev_if == listener.bound_dev_if
        req.bound_dev_if = ELSEWHERE
        c.inject("A", seq=1, ack=1)
        c.expect("R")
        req.bound_dev_if = listener.bound_dev_if
        c.inject("A", seq=1, ack=1)
        c.app_accept()


def test_what_is_remembered_in_time_wait_is_too() -> None:
    """tw_bound_dev_if."""
    with time_wait() as c:
        (tw,) = c.stack.tcp.tables.timewait.all()
        tw.bound_dev_if = ELSEWHERE
        c.inject("FA", seq=1, ack=2)
        c.expect("R")
        tw.bound_dev_if = 0
        c.inject("FA", seq=1, ack=2)
        c.expect("A", seq=2, ack=2)


def test_by_another_device_the_same_four_tuple_is_free() -> None:
    """__inet_check_established looks with the device of who wants it, 0 for none."""
    with established() as c:
        tables, tp = c.stack.tcp.tables, c.tp
        other = tables.new_sock()
        other.daddr, other.dport, other.saddr, other.rcv_saddr = tp.daddr, tp.dport, tp.rcv_saddr, tp.rcv_saddr
        for ours, theirs, free in ((0, 0, False), (0, 7, False), (7, 7, False), (7, 8, True), (7, 0, True)):
            tp.bound_dev_if, other.bound_dev_if = ours, theirs
            assert tables.tuple_is_free(other, tp.num) is free, (ours, theirs)
        tp.bound_dev_if = 0


def test_syn_recv_of_an_unbound_listener_hears_all() -> None:
    with syn_recv() as c:
        c.inject("A", seq=1, ack=1)
        c.app_accept()
        assert c.in_state(State.ESTABLISHED)
