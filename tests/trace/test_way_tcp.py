"""The way of TCP's segments: the text's client, and every decision that sends, holds, refuses or repeats one."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

import pytest

from tests.harness import B, Moved, Pair, Sniffer, code_of, connection, readable
from tests.tcp.flight import ack, connected, flight
from tests.tcp.peer import (
    MSEC,
    PEER,
    SEC,
    Peer,
    established,
    fin_wait2,
    listening,
    syn_recv,
    syn_sent,
    time_wait,
)
from tests.trace.watch import Watch, decision, functions, in_order, step
from ustack.device.cable import Impairments
from ustack.device.ring import RING_SIZE
from ustack.inet.family import SOCK_DGRAM, SOCK_STREAM
from ustack.inet.options import SO_KEEPALIVE, SOL_SOCKET
from ustack.inet.sockaddr import AF_INET
from ustack.sock import MSG_FASTOPEN, Observer, Sock
from ustack.tcp.options import IPPROTO_TCP, TCP_CORK, TCP_KEEPIDLE
from ustack.trace.journey import DELIVERED, DROPPED
from ustack.trace.points import Point
from ustack.wire.icmp import ICMP_DEST_UNREACH, ICMP_HOST_UNREACH

if TYPE_CHECKING:
    from ustack.inet.socket import Socket
    from ustack.trace.journey import Journey

PORT: Final = 9999
MSS: Final = 1460


def client(pair: Pair) -> Watch:
    """The text's program: connect to port 9999, write, read, close; the server answers and closes."""
    listener = pair.b.socket(AF_INET, SOCK_STREAM)
    listener.bind(("", PORT))
    listener.listen(8)
    sock = pair.a.socket(AF_INET, SOCK_STREAM)
    with Watch(a=pair.a, b=pair.b) as watch:
        assert code_of(lambda: sock.connect((B, PORT))) == errno.EINPROGRESS
        pair.run_until(lambda: readable(listener))
        server = listener.accept()
        sock.send(b"hello")
        pair.run_until(lambda: readable(server))
        assert server.recv(100) == b"hello"
        server.send(b"world!")
        pair.run_until(lambda: readable(sock))
        assert sock.recv(100) == b"world!"
        sock.close()
        pair.run(SEC // 2)
        server.close()
        pair.run(SEC // 2)
    return watch


def test_the_texts_client_segment_by_segment() -> None:
    """Every segment's way is whole, and who caused it is known."""
    watch = client(Pair(resolved=True))
    segments = watch.all("IP ")
    assert {journey.outcome for journey in segments} == {DELIVERED}
    syn, synack, handshake = segments[:3]
    wanted = ["__sys_connect", "__inet_stream_connect", "ip_route_output_key_hash_rcu", "tcp_v4_connect"]
    assert in_order([*wanted, "__tcp_transmit_skb", "__ip_queue_xmit", "e1000_xmit_frame"], functions(syn, "a"))
    assert decision(syn, Point.TCP_SET_STATE) == "UNCONN to SYN-SENT"
    assert functions(syn, "b")[-3:] == ["__inet_lookup_established", "__inet_lookup_listener", "tcp_conn_request"]
    assert decision(syn, Point.TCP_CONN_REQUEST) == "a request"
    assert synack.cause == syn.ident
    assert in_order(["fib_lookup", "tcp_v4_send_synack", "ip_build_and_send_pkt"], functions(synack, "b"))
    assert in_order(["__inet_lookup_established", "tcp_rcv_state_process", "tcp_set_state"], functions(synack, "a"))
    assert handshake.cause == synack.ident
    wanted = ["tcp_check_req", "tcp_v4_syn_recv_sock", "inet_csk_complete_hashdance", "tcp_rcv_state_process"]
    assert in_order([*wanted, "tcp_validate_incoming"], functions(handshake, "b"))
    states = [str(each.decision) for each in handshake.steps if each.point is Point.TCP_SET_STATE]
    assert states == ["LISTEN to SYN-RECV", "SYN-RECV to ESTAB"]


def test_the_texts_client_writes_and_reads() -> None:
    watch = client(Pair(resolved=True))
    hello = watch.one("length 5")
    wanted = ["sock_sendmsg", "security_socket_sendmsg", "inet_sendmsg", "tcp_sendmsg", "tcp_write_xmit"]
    assert functions(hello, "a")[: len(wanted)] == wanted
    assert in_order(
        ["__tcp_transmit_skb", "__ip_queue_xmit", "ip_local_out", "e1000_xmit_frame"], functions(hello, "a")
    )
    sent = step(hello, Point.TCP_TRANSMIT_SKB)
    assert (sent.facts["flags"], sent.facts["length"], sent.facts["cwnd"]) == ("PSH,ACK", 5, 10)
    assert step(hello, Point.TCP_WRITE_XMIT).facts["in_flight"] == 0
    assert decision(hello, Point.TCP_RCV_ESTABLISHED) == "header prediction holds"
    assert functions(hello, "b")[-2:] == ["__tcp_ack_snd_check", "tcp_data_ready"]
    (answer,) = [journey for journey in watch.all("IP ") if journey.cause == hello.ident]
    assert functions(answer, "b")[:3] == ["__tcp_ack_snd_check", "__tcp_send_ack", "__tcp_transmit_skb"]
    assert in_order(["tcp_v4_rcv", "tcp_rcv_established", "tcp_ack"], functions(answer, "a"))
    assert step(answer, Point.TCP_ACK).facts["acked"] == 5


def test_the_texts_client_closes() -> None:
    """Both FINs, TIME_WAIT, and the states in between."""
    watch = client(Pair(resolved=True))
    fins = watch.all("Flags [F.]")
    assert functions(fins[0], "a")[:3] == ["__sock_release", "inet_release", "tcp_set_state"]
    assert decision(fins[0], Point.TCP_SEND_FIN) == "alone"
    assert decision(fins[0], Point.TCP_DATA_QUEUE) == "in order"
    assert decision(fins[1], Point.TCP_TIMEWAIT_STATE_PROCESS) == "FIN-WAIT-2"
    assert [journey.cause for journey in watch.all("IP ") if "tcp_v4_send_ack" in functions(journey)] == [fins[1].ident]


def test_a_refused_port() -> None:
    pair = Pair(resolved=True)
    sock = pair.a.socket(AF_INET, SOCK_STREAM)
    with Watch(a=pair.a, b=pair.b) as watch:
        code_of(lambda: sock.connect((B, PORT)))
        pair.settle()
    syn, rst = watch.all("IP ")
    assert decision(syn, Point.INET_LOOKUP_LISTENER) == "none"
    assert (syn.outcome, syn.reason) == (DROPPED, "NO_SOCKET")
    assert decision(rst, Point.TCP_V4_SEND_RESET) == "NO_SOCKET"
    assert rst.cause == syn.ident
    assert (rst.outcome, rst.reason) == (DROPPED, "TCP_RESET")
    assert in_order(["tcp_rcv_state_process", "tcp_rcv_synsent_state_process"], functions(rst, "a"))


# -- one connection and a scripted peer


def watched(c: Peer) -> Watch:
    return Watch(s=c.stack)


def test_why_a_segment_takes_the_slow_path() -> None:
    with established(sack=True) as c, watched(c) as watch:
        c.inject("A", b"late", seq=101)
        c.expect("A")
        c.inject("A", bytes(100), seq=1)
        c.expect("A", ack=105)
        watch.end()
        early, filling = watch.all("IP 192.0.2.1")
        assert decision(early, Point.TCP_RCV_SLOW) == "slow path: not the next sequence number"
        assert decision(early, Point.TCP_VALIDATE_INCOMING) == "acceptable"
        assert decision(early, Point.TCP_DATA_QUEUE) == "out of order"
        assert step(early, Point.TCP_DATA_QUEUE_OFO).facts["held"] == 1
        assert decision(filling, Point.TCP_RCV_SLOW) == "slow path: a hole is open"
        assert decision(filling, Point.TCP_DATA_QUEUE) == "in order"
        c.app_recv()


@pytest.mark.parametrize(
    ("flags", "seq", "slow", "verdict"),
    [
        ("A", 70_000, "not the next sequence number", "TCP_INVALID_SEQUENCE"),
        ("R", 10, "flags", "RST in the window"),
        ("S", 10, "flags", "SYN in the window"),
        ("SA", 70_000, "flags", "TCP_INVALID_SEQUENCE"),
    ],
)
def test_what_is_refused(flags: str, seq: int, slow: str, verdict: str) -> None:
    """tcp_validate_incoming, and the answer that the segment causes: a duplicate or a challenge ACK."""
    with established() as c, watched(c) as watch:
        c.inject(flags, seq=seq)
        c.expect("A", seq=1, ack=1)
        watch.end()
        refused, answer = watch.all("IP ")
        assert decision(refused, Point.TCP_RCV_SLOW) == f"slow path: {slow}"
        assert decision(refused, Point.TCP_VALIDATE_INCOMING) == verdict
        assert refused.outcome == DROPPED
        assert answer.cause == refused.ident
        point = Point.TCP_SEND_CHALLENGE_ACK if flags != "A" else Point.TCP_SEND_DUPACK
        assert decision(answer, point) == ""


def test_old_timestamps_and_old_acks() -> None:
    with established(timestamps=True) as c, watched(c) as watch:
        c.inject("A", b"x", options=c.ts_option(tsval=1))
        c.out.clear()
        watch.end()
        assert decision(watch.by(Point.TCP_VALIDATE_INCOMING), Point.TCP_VALIDATE_INCOMING).startswith("PAWS: ")
    with established() as c, watched(c) as watch:
        c.app_send(b"x")
        c.out.clear()
        c.inject("A", ack=2)
        c.inject("A", ack=1)
        c.inject("A", ack=2, window=0)
        watch.end()
        assert decision(watch.by(Point.TCP_OLD_ACK), Point.TCP_OLD_ACK) == "older than the last"
        assert step(watch.all("IP 192.0.2.1")[-1], Point.TCP_ACK_NO_QUEUE).facts["snd_wnd"] == 0


def test_an_ack_tells_what_it_did() -> None:
    with flight(10) as c, watched(c) as watch:
        c.run(100 * MSEC)
        ack(c, 0, (1, 5))
        watch.end()
        journey = watch.all("IP 192.0.2.1")[0]
        facts = step(journey, Point.TCP_ACK).facts
        assert decision(journey, Point.TCP_ACK) == "nothing new"
        assert facts["sacked"] == 4
        assert facts["lost"] == 1
        assert facts["ca_state"] == "Recovery"
        assert decision(journey, Point.TCP_SET_CA_STATE) == "Open to Recovery"
        again = watch.by(Point.TCP_RETRANSMIT_SKB)
        assert again.cause == journey.ident
        assert decision(again, Point.TCP_RETRANSMIT_SKB) == "RACK"
        c.out.clear()


def test_retransmissions_by_their_cause() -> None:
    """The loss probe, the timer, without SACK the third duplicate ACK, and a SYN."""
    with flight(4) as c, watched(c) as watch:
        c.run(300 * MSEC)
        probe = watch.by(Point.TCP_RETRANSMIT_SKB) if watch.done else None
        c.run(SEC)
        watch.end()
        probe, timer = [journey for journey in watch.all() if Point.TCP_RETRANSMIT_SKB in points(journey)][:2]
        assert decision(probe, Point.TCP_WRITE_TIMER_HANDLER) == "loss probe (TLP)"
        assert decision(probe, Point.TCP_RETRANSMIT_SKB) == "TLP"
        assert decision(timer, Point.TCP_WRITE_TIMER_HANDLER) == "retransmission (RTO)"
        assert decision(timer, Point.TCP_RETRANSMIT_SKB) == "RTO"
        assert decision(timer, Point.TCP_SET_CA_STATE) == "Open to Loss"
        c.out.clear()
    with flight(10, sack=False) as c, watched(c) as watch:
        for _ in range(3):
            ack(c, 0)
        watch.end()
        assert decision(watch.by(Point.TCP_RETRANSMIT_SKB), Point.TCP_RETRANSMIT_SKB) == "fast retransmit"
        c.out.clear()
    with syn_sent() as c, watched(c) as watch:
        c.expect("S", at=SEC)
        watch.end()
        assert decision(watch.one("IP "), Point.TCP_RETRANSMIT_SKB) == "SYN not answered"


def points(journey: Journey) -> list[Point]:
    return [each.point for each in journey.steps]


def held(c: Peer, number: int, window: int | None = None) -> str:
    """What this ACK finds to hold the write queue."""
    with watched(c) as watch:
        c.inject("A", ack=number, window=window)
        watch.end()
    c.out.clear()
    return decision(watch.by(Point.TCP_WRITE_HELD), Point.TCP_WRITE_HELD)


def test_what_holds_the_write_queue() -> None:
    """An ACK that lets nothing, or not all, go says why."""
    with connected() as c:
        c.tp.snd_cwnd = 2
        c.app_send(bytes(10_000))
        c.out.clear()
        assert held(c, 1001) == "held by cwnd"
    with established(window=2000) as c:
        c.app_send(bytes(10_000))
        c.out.clear()
        assert held(c, 1461, window=540) == "held by the receive window"
    with established() as c:
        for _ in range(2):
            c.app_send(bytes(100))
        assert held(c, 1) == "held by Nagle"


def test_what_went_says_what_it_had_waited_for() -> None:
    """Nagle's: until the first is acknowledged, 30 ms later."""
    with established() as c, watched(c) as watch:
        for _ in range(2):
            c.app_send(bytes(100))
        c.run(30 * MSEC)
        c.inject("A", ack=101)
        watch.end()
        first, _, second = watch.all("IP ")
        assert "was" not in step(first, Point.TCP_WRITE_XMIT).facts
        facts = step(second, Point.TCP_WRITE_XMIT).facts
        assert (facts["was"], facts["waited"]) == ("held by Nagle", "30 ms")
        c.out.clear()


def test_taking_the_cork_out() -> None:
    with established() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_CORK, 1)
        c.app_send(b"x")
        assert held(c, 1, window=60_000) == "held by TCP_CORK"
        with watched(c) as watch:
            c.app_setsockopt(IPPROTO_TCP, TCP_CORK, 0)
            watch.end()
        assert functions(watch.one("IP "))[:2] == ["__sys_setsockopt", "tcp_write_xmit"]
        c.out.clear()


def test_pacing_holds_and_its_timer_lets_go() -> None:
    with connected() as c:
        c.tp.set_max_pacing_rate(100_000)
        c.tp.snd_cwnd = 100
        c.app_send(bytes(20_000))
        c.out.clear()
        with watched(c) as watch:
            c.inject("A", ack=1001)
            c.run(100 * MSEC)
            watch.end()
        assert decision(watch.by(Point.TCP_WRITE_HELD), Point.TCP_WRITE_HELD) == "held by pacing"
        assert functions(watch.by(Point.TCP_PACE_KICK))[:2] == ["tcp_pace_kick", "tcp_write_xmit"]
        c.out.clear()


def test_a_busy_device_holds_and_its_room_lets_go() -> None:
    """TCP small queues: other traffic has filled the ring when an ACK would let more go."""
    with connected() as c:
        c.tp.snd_cwnd = 100
        c.app_send(bytes(2000))
        c.out.clear()
        other = c.stack.socket(AF_INET, SOCK_DGRAM)
        for _ in range(RING_SIZE + 1):
            other.sendto(b"muffin", (PEER, 9))
        c.sock.send(bytes(2000))
        with watched(c) as watch:
            c.inject("A", ack=1001)
            watch.end()
        assert decision(watch.by(Point.TCP_WRITE_HELD), Point.TCP_WRITE_HELD).startswith("held: the device's queue")
        assert functions(watch.by(Point.TCP_TSQ_HANDLER))[:2] == ["tcp_tsq_handler", "tcp_write_xmit"]
        c.out.clear()


def test_acks_wait_or_are_compressed() -> None:
    with established(sack=True) as c:
        for _ in range(2):
            c.inject("A", bytes(1000))
        c.run(100 * MSEC)
        c.out.clear()
        c.tp.ack_quick = 0
        with watched(c) as watch:
            c.inject("A", bytes(1000))
            c.run(SEC)
            watch.end()
        data, delayed = watch.all("IP ")
        assert decision(data, Point.TCP_SEND_DELAYED_ACK).startswith("ACK in ")
        assert functions(delayed)[:2] == ["tcp_delack_timer", "__tcp_send_ack"]
        assert delayed.cause == data.ident
        c.out.clear()
        c.tp.rcv_rtt, c.tp.srtt = 10 * MSEC, 0
        with watched(c) as watch:
            for number in range(4, 9):
                c.tp.ack_quick = 0
                c.inject("A", bytes(1000), seq=1 + number * 1000)
            c.run(SEC)
            watch.end()
        assert decision(watch.by(Point.TCP_COMPRESS_ACK), Point.TCP_COMPRESS_ACK) == "ACK compressed"
        assert functions(watch.by(Point.TCP_COMPRESSED_ACK_KICK))[:2] == ["tcp_compressed_ack_kick", "__tcp_send_ack"]
        c.out.clear()
        c.app_recv()


def test_the_ack_of_a_batch() -> None:
    with established() as c, watched(c) as watch:
        with c.batch():
            for _ in range(4):
                c.inject("A", bytes(1000))
        c.expect("A", ack=4001)
        watch.end()
        *data, answer = watch.all("IP ")
        assert decision(data[0], Point.TCP_QUEUE_ACK) == "ACK with the batch"
        assert functions(answer)[:2] == ["__tcp_ack_snd_check", "__tcp_send_ack"]
        assert answer.cause == data[-1].ident
        c.app_recv()


class Echo(Observer):
    """A service inside the process: it answers from its observer, without a system call."""

    def data_ready(self, sk: Sock) -> None:
        sk.sendmsg(sk.recvmsg(100, 0).data, 0, 0, -1)


def test_a_service_that_is_woken_answers() -> None:
    """What it sends then was caused by what woke it."""
    with established() as c:
        c.sock.observe(Echo())
        with watched(c) as watch:
            c.inject("PA", b"muffin")
            c.expect("PA", data=b"muffin")
            watch.end()
        question, answer = watch.all("IP ")
        assert answer.cause == question.ident
        assert decision(answer, Point.TCP_DEF_READABLE) == "something to read"
        wanted = ["sock_def_readable", "tcp_recvmsg", "tcp_cleanup_rbuf", "tcp_sendmsg", "tcp_write_xmit"]
        assert functions(answer)[:5] == wanted


def test_a_reader_opens_the_window() -> None:
    with established(window=65_535) as c:
        c.sock.sk.rcvbuf = 4096
        while c.tp.tcp_receive_window() > 1000:
            c.inject("A", bytes(1000))
        c.run(SEC)
        c.out.clear()
        with watched(c) as watch:
            c.app_recv()
            watch.end()
        update = watch.by(Point.TCP_CLEANUP_RBUF)
        wanted = ["sock_recvmsg", "inet_recvmsg", "tcp_recvmsg", "tcp_cleanup_rbuf", "__tcp_send_ack"]
        assert in_order(wanted, functions(update))
        c.out.clear()


def test_probes() -> None:
    """A window that stays closed, a peer that stays silent."""
    with established() as c:
        c.inject("A", window=0)
        with watched(c) as watch:
            c.app_send(b"x")
            c.run(SEC)
            watch.end()
        probe = watch.by(Point.TCP_WRITE_WAKEUP)
        assert decision(probe, Point.TCP_WRITE_TIMER_HANDLER) == "window probe"
        assert decision(probe, Point.TCP_WRITE_WAKEUP) == "a probe"
        c.out.clear()
    with established() as c:
        c.app_setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
        c.app_setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, 10)
        with watched(c) as watch:
            c.run(11 * SEC)
            watch.end()
        assert functions(watch.by(Point.TCP_KEEPALIVE_TIMER))[:2] == ["tcp_keepalive_timer", "tcp_write_wakeup"]
        c.out.clear()


def test_resets_say_why() -> None:
    with established() as c:
        c.inject("PA", b"unread")
        c.out.clear()
        with watched(c) as watch:
            c.app_close()
            watch.end()
        reset = watch.one()
        assert decision(reset, Point.TCP_SEND_ACTIVE_RESET) == "closed with data unread"
        c.out.clear()
    with syn_sent() as c, watched(c) as watch:
        c.inject("A", ack=77)
        c.expect("R")
        watch.end()
        assert decision(watch.by(Point.TCP_V4_SEND_RESET), Point.TCP_V4_SEND_RESET) == "TCP_INVALID_ACK_SEQUENCE"


def test_half_open_connections() -> None:
    """The SYN-ACK's timer, a cookie and its ACK."""
    with syn_recv() as c, watched(c) as watch:
        c.expect("SA", at=SEC)
        watch.end()
        again = watch.one("IP ")
        assert functions(again)[:2] == ["reqsk_timer_handler", "tcp_v4_send_synack"]
        assert decision(again, Point.TCP_V4_SEND_SYNACK) == "again"
    with listening() as c, watched(c) as watch:
        c.net.sysctl.tcp_syncookies = 2
        c.peer_syn()
        c.expect("SA")
        c.inject("A")
        watch.end()
        assert decision(watch.by(Point.TCP_CONN_REQUEST), Point.TCP_CONN_REQUEST) == "a SYN cookie"
        made = watch.by(Point.COOKIE_V4_CHECK)
        assert decision(made, Point.COOKIE_V4_CHECK) == "a cookie of ours"
        assert in_order(["cookie_v4_check", "tcp_v4_syn_recv_sock", "inet_csk_complete_hashdance"], functions(made))
        c.app_accept()


def test_time_wait() -> None:
    with fin_wait2() as c, watched(c) as watch:
        c.inject("FA")
        c.expect("A")
        watch.end()
        fin = watch.all("IP 192.0.2.1")[0]
        assert decision(fin, Point.TCP_RCV_STATE_PROCESS) == "FIN-WAIT-2"
        assert decision(fin, Point.TCP_TIME_WAIT) == "TIME-WAIT for 60 s"
    with time_wait() as c, watched(c) as watch:
        c.inject("FA", seq=1)
        c.expect("A")
        watch.end()
        late, answer = watch.all("IP ")
        assert decision(late, Point.TCP_TIMEWAIT_STATE_PROCESS) == "TIME-WAIT"
        assert (functions(answer)[0], answer.cause) == ("tcp_v4_send_ack", late.ident)


def test_a_user_who_shuts_down() -> None:
    with established() as c, watched(c) as watch:
        c.app_shutdown()
        c.expect("FA", seq=1)
        watch.end()
        fin = watch.one()
        assert functions(fin)[:4] == ["__sys_shutdown", "inet_shutdown", "tcp_set_state", "tcp_send_fin"]
        assert decision(fin, Point.SYS_SHUTDOWN) == "SHUT_WR"
        assert decision(fin, Point.TCP_SET_STATE) == "ESTAB to FIN-WAIT-1"


def test_an_icmp_error() -> None:
    with established() as c, watched(c) as watch:
        c.app_send(b"x")
        c.expect("PA", data=b"x")
        c.icmp(ICMP_DEST_UNREACH, ICMP_HOST_UNREACH, seq=1)
        watch.end()
        error = watch.by(Point.TCP_V4_ERR)
        assert step(error, Point.TCP_V4_ERR).facts["type"] == ICMP_DEST_UNREACH
        assert decision(error, Point.TCP_V4_ERR).startswith("tcp 192.0.2.2:")


def test_a_connection_is_found_before_it_is_routed() -> None:
    """tcp_v4_early_demux: from the second segment on it is not routed."""
    with established() as c:
        c.inject("A", b"x")
        c.out.clear()
        with watched(c) as watch:
            c.inject("A", b"x")
            watch.end()
        journey = watch.all("IP 192.0.2.1")[0]
        assert "ip_route_input_slow" not in functions(journey)
        assert decision(journey, Point.INET_LOOKUP_ESTABLISHED) == "found early"
        assert decision(journey, Point.TCP_V4_EARLY_DEMUX).startswith("tcp 192.0.2.2:")
        c.out.clear()
        c.app_recv()


def test_probes_of_the_path_s_mtu_and_fast_open() -> None:
    c = Peer(window=65_535, sack=True)
    c.net.sysctl.tcp_mtu_probing = 2
    c.net.sysctl.tcp_base_mss = 512
    with established(active=True, peer=c) as c, watched(c) as watch:
        c.tp.snd_cwnd = 20
        c.app_send(bytes(6000))
        watch.end()
        probe = watch.by(Point.TCP_MTU_PROBE)
        assert step(probe, Point.TCP_MTU_PROBE).facts == {"mtu": 1026, "low": 552, "high": 1500}
        c.out.clear()
    with Peer() as c, watched(c) as watch:
        c.net.sysctl.tcp_fastopen = 1 | 4  # data needs no cookie
        c.pport = 80
        c.sock.sendto(b"muffin", ("192.0.2.1", 80), MSG_FASTOPEN)
        c.poll()
        c.out.clear()
        watch.end()
        syn = watch.by(Point.TCP_SEND_SYN_DATA)
        assert step(syn, Point.TCP_SEND_SYN_DATA).facts == {"length": 6}
        assert functions(syn)[:2] == ["sock_sendmsg", "security_socket_sendmsg"]


def bulk(watched: bool) -> tuple[list[str], dict[str, int], Watch | None]:
    """200 kB over a bad line: every line of a sniffer, every counter."""
    bad = Impairments(delay=5 * MSEC, jitter=MSEC, loss=0.05, reorder=0.05, duplicate=0.02)
    with Pair(seed=7, resolved=True, there=bad, back=bad, super_segments=False) as pair:
        watch = Watch(a=pair.a, b=pair.b) if watched else None
        sniffer, moved = Sniffer(pair.a), Moved(pair.a)
        sender, receiver = connection(pair)
        left = [200_000]
        pair.run_until(lambda: transfer(sender, receiver, left))
        pair.run(10 * SEC)
        if watch is not None:
            watch.end()
        return sniffer.lines(), moved(), watch


def transfer(sender: Socket, receiver: Socket, left: list[int]) -> bool:
    """Write and read what can be; True once nothing is left to write."""
    for _ in range(left[0] > 0):
        try:
            left[0] -= sender.send(bytes(min(left[0], 20_000)))
        except BlockingIOError:
            break
    while readable(receiver):
        receiver.recv(1 << 20)
    return left[0] == 0


def test_a_trace_changes_nothing() -> None:
    """Frame by frame and counter by counter; and of all that was sent again the cause is known."""
    lines, counters, _ = bulk(False)
    watched_lines, watched_counters, watch = bulk(True)
    assert watched_lines == lines
    assert watched_counters == counters
    assert watch is not None
    again = [journey for journey in watch.all("IP 192.0.2.1") if Point.TCP_RETRANSMIT_SKB in points(journey)]
    segments = sum(int(step(journey, Point.TCP_RETRANSMIT_SKB).facts["length"]) // 1000 or 1 for journey in again)
    assert segments >= len(again) > 3
    assert {decision(journey, Point.TCP_RETRANSMIT_SKB) for journey in again} <= {"RACK", "TLP", "RTO"}
    caused = [journey for journey in again if journey.cause]
    assert all(Point.TCP_ACK in points(cause) or cause.outcome == DROPPED for cause in causes(watch, caused))


def causes(watch: Watch, journeys: list[Journey]) -> list[Journey]:
    idents = {journey.cause for journey in journeys}
    return [journey for journey in watch.all() if journey.ident in idents]
