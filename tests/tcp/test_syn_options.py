"""Options of SYN and SYN-ACK: MSS (RFC 9293 3.7.1, RFC 6691), window scale and timestamps (RFC 7323), and nonsense."""

from __future__ import annotations

import errno

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.tcp.peer import SEC, Peer, code_of, established, listening
from ustack.device.e1000 import E1000_FEATURES
from ustack.drop import Reason
from ustack.tcp.options import IPPROTO_TCP, TCP_MAXSEG
from ustack.tcp.states import State
from ustack.wire import tcp

TIMESTAMP_LEN = 12


# -- MSS


@pytest.mark.parametrize("active", [False, True])
@pytest.mark.parametrize("mtu", [1500, 576, 9000, 296])
def test_the_mss_we_announce_is_the_mtu_without_the_fixed_headers(active: bool, mtu: int) -> None:
    """MUST-67: "the MSS value to be sent in an MSS Option should be equal to the effective MTU minus the fixed IP and
    TCP headers"; options are for the sender to subtract (RFC 6691)."""
    c = Peer(mtu=mtu, timestamps=True)
    if active:
        c.app_connect()
        assert c.expect("S").mss == mtu - 40
    else:
        c.app_listen()
        c.peer_syn()
        assert c.expect("SA").mss == mtu - 40
    c.check()


@pytest.mark.parametrize("active", [False, True])
def test_without_an_mss_option_536_bytes_are_sent_at_most(active: bool) -> None:
    """MUST-15: "If an MSS Option is not received at connection setup, TCP implementations MUST assume a default send
    MSS of 536"."""
    with established(active=active, mss=None) as c:
        c.app_send(bytes(1000))
        assert len(c.next_segment().data) == 536
        c.inject("A", ack=537)
        assert len(c.next_segment(at=SEC).data) == 464


@pytest.mark.parametrize("active", [False, True])
@pytest.mark.parametrize("timestamps", [False, True])
def test_the_peers_mss_is_respected_and_our_options_come_out_of_it(active: bool, timestamps: bool) -> None:
    """MUST-16: "the maximum size of a segment that a TCP endpoint really sends [...] MUST be the smaller"; RFC 6691."""
    with established(active=active, mss=1000, timestamps=timestamps) as c:
        c.app_send(bytes(3000))
        assert len(c.next_segment().data) == 1000 - (TIMESTAMP_LEN if timestamps else 0)
        c.out.clear()


@pytest.mark.parametrize("mss", [1, 10, 47])
def test_an_mss_below_tcp_min_snd_mss_is_not_followed(mss: int) -> None:
    """CVE-2019-11479: tiny segments cost the sender, not who asked for them."""
    with established(mss=mss, timestamps=True) as c:
        c.app_send(bytes(100))
        assert len(c.next_segment().data) == 48 - TIMESTAMP_LEN
        c.out.clear()


def test_an_mss_larger_than_the_path_is_of_no_use() -> None:
    with established(mss=65_535, window=65_535) as c:
        c.app_send(bytes(4000))
        assert len(c.next_segment().data) == 1460
        c.out.clear()


def test_with_offload_a_super_segment_says_how_to_cut_it() -> None:
    with established(mss=1000, features=E1000_FEATURES) as c:
        c.app_send(bytes(4000))
        s = c.next_segment()
        assert len(s.data) == 4000 and s.gso_size == 1000


def test_tcp_maxseg_limits_both_directions() -> None:
    with Peer() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_MAXSEG, 500)
        c.app_connect()
        assert c.expect("S").mss == 500
        c.inject("SA", options=c.syn_options())
        c.expect("A")
        c.app_send(bytes(600))
        assert len(c.next_segment().data) == 500
        c.out.clear()


# -- window scale


@pytest.mark.parametrize("active", [False, True])
@pytest.mark.parametrize(("wscale", "offered"), [(None, 0), (0, 0), (7, 7), (14, 14), (15, 14), (255, 14)])
def test_window_scaling_needs_both_sides(active: bool, wscale: int | None, offered: int) -> None:
    """RFC 7323 2.2: "both sides MUST send Window Scale options in their <SYN> segments"; 2.3: above 14, 14 is used."""
    c = Peer(wscale=wscale)
    if active:
        c.app_connect()
        s = c.expect("S")
        assert s.wscale >= 0
        c.inject("SA", options=c.syn_options())
        c.expect("A")
    else:
        c.app_listen()
        c.peer_syn()
        s = c.expect("SA")
        assert (s.wscale >= 0) == (wscale is not None)
        c.inject("A", window=0)
        c.app_accept()
    assert c.tp.snd_wscale == offered
    if wscale is None:
        assert c.tp.rcv_wscale == 0
    c.check()


def test_with_scaling_off_we_neither_offer_nor_follow() -> None:
    with Peer(wscale=5) as c:
        c.net.sysctl.tcp_window_scaling = 0
        c.app_listen()
        c.peer_syn()
        assert c.expect("SA").wscale == -1


def test_the_window_of_a_syn_is_never_scaled() -> None:
    """RFC 7323 2.2: "The window field in a segment where the SYN bit is set (i.e., a <SYN> or <SYN,ACK>) MUST NOT be
    scaled."; later ones are."""
    with Peer(wscale=8, window=1000) as c:
        c.app_connect()
        c.expect("S")
        c.inject("SA", options=c.syn_options())
        c.expect("A")
        assert c.tp.snd_wnd == 1000
        c.inject("A", window=512 * 256)
        assert c.tp.snd_wnd == 512 * 256


# -- timestamps


@pytest.mark.parametrize("active", [False, True])
@pytest.mark.parametrize("theirs", [False, True])
@pytest.mark.parametrize("ours", [False, True])
def test_timestamps_are_used_if_both_syns_had_them(active: bool, theirs: bool, ours: bool) -> None:
    """RFC 7323 3.2: "Once TSopt has been successfully negotiated [...] the TSopt MUST be sent in every non-<RST>
    segment"."""
    c = Peer(timestamps=theirs)
    c.net.sysctl.tcp_timestamps = int(ours)
    if active:
        c.app_connect()
        s = c.expect("S")
        assert s.saw_tstamp is ours and s.tsecr == 0
        c.inject("SA", options=c.syn_options())
        s = c.expect("A")
    else:
        c.app_listen()
        c.peer_syn()
        s = c.expect("SA")
        assert s.saw_tstamp is (ours and theirs)
        c.inject("A")
        c.app_accept()
        c.app_send(b"x")
        s = c.expect("PA", data=b"x")
    assert s.saw_tstamp is (ours and theirs)
    assert not s.saw_tstamp or s.tsecr == c.tsval()
    c.check()


# -- SACK permitted (RFC 2018 section 2)


@pytest.mark.parametrize("active", [False, True])
@pytest.mark.parametrize("theirs", [False, True])
@pytest.mark.parametrize("ours", [0, 1])
def test_sack_is_used_if_both_syns_permitted_it(active: bool, theirs: bool, ours: int) -> None:
    """RFC 2018 2: the option "may be sent in a SYN by a TCP that has been extended to receive" SACK."""
    with Peer(sack=theirs) as c:
        c.net.sysctl.tcp_sack = ours
        if active:
            c.app_connect()
            assert c.expect("S").sack_ok is bool(ours)
            c.inject("SA", options=c.syn_options())
            c.expect("A")
        else:
            c.app_listen()
            c.peer_syn()
            assert c.expect("SA").sack_ok is (theirs and bool(ours))
            c.inject("A")
            c.app_accept()
        assert c.tp.sack_ok is (theirs and bool(ours))


@pytest.mark.parametrize(("timestamps", "room"), [(False, 4), (True, 3)])
def test_as_many_blocks_as_the_header_holds_are_sent(timestamps: bool, room: int) -> None:
    """RFC 2018 3: "a TCP option [...] of 40 bytes [...] can specify a maximum of 4 blocks", 3 beside timestamps; a
    D-SACK is the first of them and told once (RFC 2883 4)."""
    with established(peer=Peer(timestamps=timestamps, sack=True)) as c:
        blocks = [(c.tp.rcv_nxt + 1000 * n, c.tp.rcv_nxt + 1000 * n + 10) for n in range(1, 6)]
        c.tp.selective_acks = blocks
        c.tp.duplicate_sack = (c.tp.rcv_nxt - 1, c.tp.rcv_nxt)
        c.app_send(b"x")
        s = c.next_segment()
        assert s.sacks == [(c.tp.rcv_nxt - 1, c.tp.rcv_nxt), *blocks][:room]
        assert len(s.raw_options) == (12 if timestamps else 0) + 4 + 8 * room
        assert c.tp.duplicate_sack is None
        c.inject("A", ack=2)
        c.app_send(b"y")
        assert c.next_segment().sacks == blocks[:room]
        c.tp.selective_acks = []


def test_what_sack_takes_comes_out_of_the_text() -> None:
    """tcp_current_mss: a segment with SACK on it is no longer than one without."""
    with established(peer=Peer(sack=True)) as c:
        c.tp.selective_acks = [(c.tp.rcv_nxt + 10, c.tp.rcv_nxt + 20)]
        c.app_send(bytes(3000))
        s = c.next_segment()
        assert len(s.data) == 1460 - 12 and len(s.raw_options) == 12
        c.tp.selective_acks = []
        c.out.clear()


def test_all_of_one_burst_is_cut_alike_though_only_its_head_tells_of_a_duplicate() -> None:
    """tcp_write_xmit computes the MSS once; the second super-segment has no D-SACK and is cut like the first."""
    with established(peer=Peer(sack=True, mss=100)) as c:
        c.tp.snd_cwnd = 40
        c.tp.duplicate_sack = (c.tp.rcv_nxt - 1, c.tp.rcv_nxt)
        c.app_send(bytes(88 * 30))
        sent = [c.next_segment() for _ in range(len(c.out))]
        assert {len(s.data) for s in sent} == {88} and [bool(s.sacks) for s in sent][-1] is False
        c.inject("A", ack=1 + 88 * 30)


# -- signatures (RFC 2385, RFC 5925)


NOPS = b"\x01" * 16


def signed(kind: int, length: int) -> bytes:
    option = bytes((kind, length)) + bytes(max(length - 2, 0))
    return option + b"\x01" * (-len(option) % 4)


@pytest.mark.parametrize(
    ("options", "reason", "counter"),
    [
        (signed(19, 18), Reason.TCP_MD5UNEXPECTED, "TCPMD5Unexpected"),
        (signed(29, 16), Reason.TCP_AOUNEXPECTED, "TCPAOKeyNotFound"),
        (signed(19, 3) + NOPS, Reason.TCP_AUTH_HDR, ""),
        (signed(19, 17), Reason.TCP_AUTH_HDR, ""),
        (signed(29, 4) + NOPS, Reason.TCP_AUTH_HDR, ""),
        (signed(19, 18) + signed(19, 18), Reason.TCP_AUTH_HDR, ""),
        (signed(19, 18) + signed(29, 16), Reason.TCP_AUTH_HDR, ""),
        (b"\x13\x16" + NOPS + b"\x01\x01", Reason.TCP_AUTH_HDR, ""),  # longer than the header
        (b"\x02\x00" + NOPS + b"\x01\x01", Reason.TCP_AUTH_HDR, ""),  # a length that none has, before room for one
        (b"\xfe\x15" + NOPS + b"\x01\x01", Reason.TCP_AUTH_HDR, ""),
    ],
)
@pytest.mark.parametrize("state", ["closed", "listen", "syn_recv", "established"])
def test_what_is_signed_is_dropped_in_silence(state: str, options: bytes, reason: Reason, counter: str) -> None:
    """tcp_inbound_hash: without a key "TCP-MD5 hash unexpected", "TCP-AO key not found", or no header at all.

    Where there is no socket nothing is counted, but nobody is reset either (tcp_v4_send_reset).
    """
    if state == "established":
        c = established()
    elif state == "closed":
        c = Peer()
    else:
        c = listening()
    if state == "syn_recv":
        c.peer_syn()
        c.expect("SA")
    was = c.state
    c.mark()
    c.inject("A" if state in ("syn_recv", "established") else "S", options=options)
    c.silent(until=500 * 1_000_000)
    if state == "closed":
        c.counted(Reason.NO_SOCKET)
    else:
        c.counted(reason, **({counter: 1} if counter else {}))
    assert c.in_state(was)


@pytest.mark.parametrize(
    "options",
    [
        b"\x13\x12\x00\x00",  # a digest that is cut off
        b"\x01\x01\x01\x1d",
        b"\x02\x00" + bytes(14),
        b"\x01\x01\x01\x05\xff" + bytes(15),  # 17 bytes from the impossible one on
        b"\x00\x02\x00" + bytes(17),  # after the end of the list
    ],
)
def test_options_that_cannot_be_read_are_passed_over_where_no_digest_has_room(options: bytes) -> None:
    """tcp_do_parse_auth_options: "If not enough data remaining, we can short cut"."""
    with established() as c:
        c.inject("PA", b"text", options=options)
        c.expect("A", ack=5)
        assert c.app_recv() == b"text"


@pytest.mark.parametrize("name", [14, 32, 38, 39, 40, 41])
def test_no_key_can_be_set(name: int) -> None:
    """TCP_MD5SIG, TCP_MD5SIG_EXT, TCP_AO_*: as a kernel without CONFIG_TCP_MD5SIG and CONFIG_TCP_AO."""
    with Peer() as c:
        assert code_of(lambda: c.sock.setsockopt(IPPROTO_TCP, name, bytes(216))) == errno.ENOPROTOOPT
        assert code_of(lambda: c.sock.getsockopt(IPPROTO_TCP, name)) == errno.ENOPROTOOPT


def test_a_handshake_goes_on_past_what_was_signed() -> None:
    with listening() as c:
        c.peer_syn()
        c.expect("SA", seq=0, ack=1)
        c.inject("A", options=signed(19, 18))
        c.inject("A")
        c.app_accept()


def test_two_peers_see_different_timestamp_clocks() -> None:
    """RFC 7323 5.4: a random offset per connection or host pair, so that nobody reads our uptime."""
    seen = []
    for src in ("192.0.2.1", "192.0.2.77"):
        c = Peer(timestamps=True)
        c.app_listen()
        c.inject("S", src=src, seq=0, options=c.syn_options())
        seen.append(c.expect("SA", dst=src).tsval)
    assert seen[0] != seen[1]


# -- peers with nothing, and with nonsense


@pytest.mark.parametrize("active", [False, True])
def test_a_peer_without_any_option_is_served(active: bool) -> None:
    with established(active=active, mss=None) as c:
        c.app_send(b"plain")
        s = c.expect("PA", data=b"plain")
        assert s.raw_options == b""


@pytest.mark.parametrize(
    "options",
    [
        b"\x02\x00\x00\x00",  # MSS, length 0
        b"\x02\x01\x00\x00",
        b"\x02\x04\x00\x00",  # an MSS of 0 says nothing
        b"\x02\x03\x05\x00",
        b"\x03\x02\x00\x00",
        b"\x08\x0a\x00\x00",  # timestamps beyond the header
        b"\x22\x05\x00\x00",  # a Fast Open cookie beyond the header
        b"\xfe\x04\xf9\x89",  # asks for one in the experimental option, where none is given
        b"\xfe\xff\x00\x00",
        b"\x01" * 39 + b"\x02",  # a kind without a length at the very end
        b"\x00\x02\x04\x00",  # after the end of the list
        b"\x01" * 24 + b"\xff" * 16,
    ],
)
def test_malformed_options_in_a_syn_are_as_good_as_none(options: bytes) -> None:
    """MUST-7: "a TCP implementation MUST be prepared to handle an illegal option length (e.g., zero)"."""
    with listening() as c:
        c.inject("S", options=options)
        s = c.expect("SA", seq=0, ack=1)
        assert not s.saw_tstamp and s.wscale == -1
        c.inject("A")
        c.app_accept()
        assert c.tp.mss_cache == 536


@settings(max_examples=150)
@given(st.binary(max_size=40))
def test_whatever_the_options_of_a_syn_say_the_connection_opens(options: bytes) -> None:
    options += bytes(-len(options) % 4)
    assume(tcp.find_signature(options, 0, len(options)) == tcp.NO_SIGNATURE)
    c = listening()
    c.inject("S", options=options)
    s = c.expect("SA", seq=0, ack=1)
    c.tsecr = s.tsval
    c.ts_ok = s.saw_tstamp
    found = tcp.parse_options(options, 0, len(options))
    c.inject("A", options=c.ts_option(tsval=found.tsval) if s.saw_tstamp else b"")
    assert c.in_state(State.ESTABLISHED)
    c.app_accept()
    assert 36 <= c.tp.mss_cache <= 1460 and 0 <= c.tp.snd_wscale <= 14
    c.check()
