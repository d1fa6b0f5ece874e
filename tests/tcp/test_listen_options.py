"""What a listener's options do to its handshakes: TCP_DEFER_ACCEPT, TCP_SAVE_SYN, tcp_reflect_tos, IP options."""

from __future__ import annotations

import pytest

from tests.tcp.peer import SEC, Peer, listening
from ustack.drop import Reason
from ustack.tcp.options import IPPROTO_TCP, TCP_DEFER_ACCEPT, TCP_SAVE_SYN
from ustack.tcp.states import State
from ustack.wire.ethernet import ETH_HLEN


def deferring(seconds: int = 5) -> Peer:
    """A listener that wants to hear of a connection when there is data."""
    c = Peer()
    c.app_setsockopt(IPPROTO_TCP, TCP_DEFER_ACCEPT, seconds)
    c.app_listen()
    c.mark()
    return c


# -- IP_MTU_DISCOVER


@pytest.mark.parametrize("pmtudisc", [0, 1, 2, 3])
def test_a_syn_ack_is_too_short_to_be_cut(pmtudisc: int) -> None:
    """ip_build_and_send_pkt: "Do not bother generating IPID for small packets (eg SYNACK)"."""
    with listening() as c:
        c.tp.pmtudisc = pmtudisc
        c.peer_syn()
        assert c.expect("SA", seq=0, ack=1).dont_fragment
        c.inject("R", seq=1)


# -- TCP_DEFER_ACCEPT


def test_a_bare_ack_makes_no_connection_data_does() -> None:
    """tcp_check_req: "While TCP_DEFER_ACCEPT is active, drop bare ACK"."""
    with deferring() as c:
        c.peer_syn()
        c.expect("SA", seq=0, ack=1)
        c.mark()
        c.inject("A")
        c.silent()
        assert c.in_state(State.SYN_RECV)
        c.counted(Reason.TCP_DEFER_ACCEPT, TCPDeferAcceptDrop=1)
        c.inject("PA", b"data")
        c.out.clear()
        c.app_accept()
        assert c.app_recv() == b"data"


def test_while_it_waits_the_syn_ack_does_not_go_again_but_for_a_last_time() -> None:
    """syn_ack_recalc: "start to resend on end of deferring period to give last chance for data or ACK"."""
    with deferring(7) as c:
        assert c.tp.defer_accept == 3
        c.peer_syn()
        c.expect("SA", seq=0, ack=1)
        c.mark()
        c.inject("A")
        c.expect("SA", seq=0, ack=1, at=7 * SEC)
        c.inject("A")
        assert c.in_state(State.ESTABLISHED), "the time is over: a bare ACK will do"
        c.app_accept()


def test_who_never_answers_is_asked_again_as_always() -> None:
    with deferring() as c:
        c.peer_syn()
        c.expect("SA", seq=0, ack=1)
        c.mark()
        for at in (1, 3, 7, 15, 31):
            c.expect("SA", at=at * SEC)
        c.silent(until=100 * SEC)
        assert c.in_state(State.LISTEN)


def test_as_a_client_it_saves_the_ack_of_the_syn_ack() -> None:
    """tcp_rcv_synsent_state_process: "Save one ACK. Data will be ready after several ticks"."""
    with Peer() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_DEFER_ACCEPT, 5)
        c.app_connect()
        c.expect("S")
        c.inject("SA", options=c.syn_options())
        c.silent()
        c.app_send(b"data")
        c.expect("PA", seq=1, ack=1, data=b"data")
        c.inject("A", ack=5)


# -- TCP_SAVE_SYN


@pytest.mark.parametrize("mode", [0, 1, 2])
def test_the_headers_of_the_syn_are_kept_for_who_wants_them(mode: int) -> None:
    """tcp_reqsk_record_syn: IP and TCP, with 2 the link's too; no data."""
    with Peer(wscale=7) as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_SAVE_SYN, mode)
        c.app_listen()
        c.inject("S", b"data", seq=0, options=c.syn_options(), tos=0x10)
        c.expect("SA", seq=0, ack=1)
        c.nxt = 1
        c.inject("A")
        c.app_accept()
        saved = c.tp.saved_syn[ETH_HLEN:] if mode == 2 else c.tp.saved_syn
        if mode == 0:
            assert saved == b""
        else:
            assert saved[:2] == b"\x45\x10" and len(saved) == 20 + 20 + 8 and saved.endswith(c.syn_options())


# -- TOS and IP options


@pytest.mark.parametrize("reflect", [0, 1])
def test_tcp_reflect_tos_answers_in_kind(reflect: int) -> None:
    """tcp_v4_send_synack, tcp_v4_syn_recv_sock: without the ECN bits."""
    with listening() as c:
        c.net.sysctl.tcp_reflect_tos = reflect
        c.inject("S", seq=0, options=c.syn_options(), tos=0x13)
        assert c.expect("SA", seq=0).tos == (0x10 if reflect else 0)
        c.inject("A", seq=1)
        c.app_accept()
        c.app_send(b"x")
        assert c.next_segment().tos == (0x10 if reflect else 0)
        c.inject("A", seq=1, ack=2)
