"""struct tcp_info: the kernel's layout, and every field from the variable and in the unit that Linux has."""

from __future__ import annotations

import socket
import sys

import pytest

from tests.tcp.peer import MSEC, Peer, established, listening, syn_sent
from ustack.inet.options import SO_MAX_PACING_RATE, SOL_SOCKET
from ustack.tcp.info import FIELDS, TCP_INFO_STRUCT, unpack_info
from ustack.tcp.options import IPPROTO_TCP, TCP_INFO, TCP_NODELAY

#: Where well-known fields are, bytes (include/uapi/linux/tcp.h).
OFFSETS = {
    "state": 0,
    "options": 5,
    "wscales": 6,
    "rto": 8,
    "unacked": 24,
    "last_data_sent": 44,
    "pmtu": 60,
    "rtt": 68,
    "snd_cwnd": 80,
    "total_retrans": 100,
    "pacing_rate": 104,
    "bytes_acked": 120,
    "segs_out": 136,
    "min_rtt": 148,
    "delivery_rate": 160,
    "busy_time": 168,
    "delivered": 192,
    "bytes_sent": 200,
    "dsack_dups": 216,
    "snd_wnd": 228,
    "rehash": 236,
    "total_rto": 240,
    "total_rto_time": 244,
    "received_ce": 248,
    "accecn_opt_seen": 278,
}


def info(c: Peer) -> dict[str, int]:
    return unpack_info(c.sock.getsockopt_bytes(IPPROTO_TCP, TCP_INFO, 1000))


def test_the_layout_is_the_headers() -> None:
    at, found = 0, {}
    sizes = {"B": 1, "H": 2, "I": 4, "Q": 8}
    for name, code in FIELDS:
        assert at % sizes[code] == 0, f"the compiler would put a hole before {name}"
        found[name] = at
        at += sizes[code]
    assert at == TCP_INFO_STRUCT.size == 280
    assert {name: found[name] for name in OFFSETS} == OFFSETS


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel")
def test_the_kernels_own_structure_reads_so() -> None:
    """Facts about a connection to oneself, read through our layout."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        theirs, _ = server.accept()
        with theirs:
            theirs.settimeout(5)
            client.sendall(bytes(1000))
            got = 0
            while got < 1000:
                got += len(theirs.recv(1000))
            raw = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1000)
            them = unpack_info(theirs.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1000))
    fields = unpack_info(raw)
    assert fields["state"] == 1 and fields["bytes_sent"] == 1000 and fields["data_segs_out"] >= 1
    assert them["bytes_received"] == 1000 and them["data_segs_in"] >= 1
    assert fields["bytes_acked"] in (0, 1, 1000, 1001)
    assert 40_000 <= fields["rto"] <= 3_000_000 and fields["advmss"] >= 536 and fields["snd_wnd"] > 0
    assert fields["min_rtt"] > 0 and fields["snd_ssthresh"] == 0x7FFF_FFFF
    if len(raw) >= 280:
        assert len(raw) == 280, "this kernel has more to tell than ustack knows of"


def test_a_fresh_socket() -> None:
    with Peer() as c:
        fields = info(c)
        assert fields["state"] == 7 and fields["options"] == 0
        assert fields["rto"] == 1_000_000 and fields["rttvar"] == 250_000 and fields["rtt"] == 0
        assert fields["snd_cwnd"] == 10 and fields["snd_ssthresh"] == 0x7FFF_FFFF
        assert fields["pacing_rate"] == fields["max_pacing_rate"] == 0xFFFF_FFFF_FFFF_FFFF
        assert fields["min_rtt"] == 0xFFFF_FFFF
        assert len(c.sock.getsockopt_bytes(IPPROTO_TCP, TCP_INFO, 280)) == 280


def test_a_listener_tells_of_its_accept_queue() -> None:
    """tcp_get_info: "tcpi_unacked" and "tcpi_sacked" are its length and limit."""
    with listening(backlog=5) as c:
        c.peer_syn()
        c.expect("SA")
        assert (info(c)["unacked"], info(c)["sacked"]) == (0, 5)
        c.inject("A")
        assert (info(c)["unacked"], info(c)["sacked"]) == (1, 5)
        assert info(c)["rto"] == 0 and info(c)["snd_cwnd"] == 10


def test_what_was_agreed_on() -> None:
    with established(timestamps=True, wscale=9) as c:
        fields = info(c)
        assert fields["options"] & 5 == 5, "timestamps, window scale"
        assert fields["wscales"] & 15 == 9 and fields["wscales"] >> 4 == c.tp.rcv_wscale
        assert fields["snd_mss"] == 1448 and fields["advmss"] == 1448 and fields["pmtu"] == 1500
    with established() as c:
        assert info(c)["options"] == 0 and info(c)["wscales"] == 0


def test_what_is_in_flight_and_how_long_ago() -> None:
    with established() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        c.inject("PA", bytes(500))
        c.app_recv()
        c.run(100 * MSEC)
        c.out.clear()
        c.app_send(bytes(3000))
        c.out.clear()
        c.run(50 * MSEC)
        fields = info(c)
        assert fields["unacked"] == 3 and fields["notsent_bytes"] == 0
        assert fields["last_data_sent"] == 50 and fields["last_data_recv"] == 150
        c.inject("A")
        c.run(7 * MSEC)
        fields = info(c)
        assert fields["last_ack_recv"] == 7 and fields["unacked"] == 0
        assert fields["min_rtt"] <= 50_000 and fields["rtt"] > 0


def test_bytes_and_segments_both_ways() -> None:
    """bytes_acked counts the SYN, as Linux's does for the side that called; RFC 4898's counters."""
    with established() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        before = info(c)
        c.app_send(bytes(2000))
        c.out.clear()
        c.inject("PA", bytes(700))
        c.app_recv()
        c.run(500 * MSEC)
        c.out.clear()
        fields = info(c)
        assert fields["bytes_sent"] == 2000 and fields["bytes_acked"] - before["bytes_acked"] == 2000
        assert fields["bytes_received"] == 700
        assert fields["data_segs_out"] == 2 and fields["data_segs_in"] == 1
        assert fields["segs_out"] - before["segs_out"] == 3 and fields["segs_in"] - before["segs_in"] == 1
        assert fields["delivered"] >= 2


def test_retransmissions() -> None:
    with established() as c:
        c.app_send(bytes(1000))
        c.out.clear()
        c.run(1500 * MSEC)
        c.out.clear()
        fields = info(c)
        assert fields["retransmits"] >= 1 and fields["backoff"] >= 1 and fields["total_retrans"] >= 2
        assert fields["bytes_retrans"] == 1000 * fields["total_retrans"]
        assert fields["bytes_sent"] == 1000 + fields["bytes_retrans"]
        assert fields["lost"] == 1 and fields["ca_state"] == 4 and fields["total_rto"] >= 1
        c.inject("A")
        c.out.clear()


def test_a_syn_that_nobody_answers() -> None:
    with syn_sent() as c:
        c.run(1000 * MSEC)
        c.expect("S")
        fields = info(c)
        assert fields["state"] == 2 and fields["retransmits"] == 1 and fields["unacked"] == 1
        assert fields["last_data_sent"] < 1 << 31


def test_a_pacing_limit() -> None:
    with established() as c:
        c.app_setsockopt(SOL_SOCKET, SO_MAX_PACING_RATE, 125_000)
        assert info(c)["max_pacing_rate"] == 125_000 and info(c)["pacing_rate"] <= 125_000


def test_fields_that_overflow_are_cut_as_c_cuts_them() -> None:
    with established() as c:
        c.tp.retransmits = 300
        assert info(c)["retransmits"] == 300 & 0xFF
