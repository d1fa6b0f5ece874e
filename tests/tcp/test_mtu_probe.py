"""Path MTU probing (RFC 4821; Linux tcp_mtu_probe, tcp_mtup_probe_success, tcp_mtu_probing)."""

from __future__ import annotations

from tests.tcp.peer import SEC, Peer, established
from ustack.sock import MSG_EOR
from ustack.tcp.control import SK_PACING_NEEDED


def probing(mode: int = 2, base: int = 512, cwnd: int = 20) -> Peer:
    """ESTABLISHED over a path of 1500 of which only ``base`` is known to get through."""
    c = Peer(window=65_535, sack=True)
    c.net.sysctl.tcp_mtu_probing = mode
    c.net.sysctl.tcp_base_mss = base
    established(active=True, peer=c)
    c.tp.snd_cwnd = cwnd
    return c


def sizes(c: Peer) -> list[int]:
    found = [len(s.data) for s in c.out]
    c.out.clear()
    return found


def test_it_begins_with_the_base_mss_and_probes_half_way() -> None:
    """tcp_mtup_init, tcp_mtu_probe: the middle of search_low 552 and search_high 1500 is a datagram of 1026.

    The first segments have the room of the timestamps that were offered and are not used: as in Linux they are as large
    as what search_low was before the handshake."""
    with probing() as c:
        assert c.tp.mss_cache == 524 and (c.tp.mtup_search_low, c.tp.mtup_search_high) == (552, 1500)
        c.app_send(bytes(6000))
        first = c.next_segment()
        assert len(first.data) == 986 and first.dont_fragment
        rest = sizes(c)
        assert set(rest[:-1]) == {524} and sum(rest) == 6000 - 986
        assert c.tp.mtup_probe_size == 1026 and c.tp.snd_cwnd == 19, "a probe is worth two segments"
        c.inject("A", ack=6001)
        assert c.tp.mtup_search_low == 1026 and c.tp.mss_cache == 986 and c.tp.mtup_probe_size == 0
        assert c.moved()["TcpExt.TCPMTUPSuccess"] == 1
        c.app_send(bytes(9000))
        assert len(c.next_segment().data) == (1026 + 1500) // 2 - 40
        c.out.clear()


def test_a_lost_probe_is_no_congestion() -> None:
    """RFC 4821 7.7: its loss is no signal of congestion; what it carried goes again in ordinary segments."""
    with probing() as c:
        c.app_send(bytes(6000))
        assert len(c.next_segment().data) == 986
        c.out.clear()
        for end in (2500, 4000):
            c.inject("A", ack=1, options=c.sack_option((987, end)))
        assert sizes(c)[:2] == [524, 462]
        assert c.tp.mtup_search_high == 1025 and c.tp.mtup_probe_size == 0 and c.tp.mss_cache == 524
        assert c.tp.snd_cwnd == 20 and c.moved()["TcpExt.TCPMTUPFail"] == 1
        c.inject("A", ack=6001)
        c.out.clear()


def test_without_enough_data_window_or_cwnd_there_is_no_probe() -> None:
    for size, cwnd, window in ((2500, 20, 65_535), (6000, 10, 65_535), (6000, 20, 2000)):
        with probing(cwnd=cwnd) as c:
            c.inject("A", window=window)
            c.app_send(bytes(size))
            assert max(sizes(c)) <= 524 and c.tp.mtup_probe_size == 0


def test_no_probe_joins_what_a_record_parts() -> None:
    """tcp_can_coalesce_send_queue_head: MSG_EOR."""
    with probing() as c:
        c.inject("A", window=0)
        c.app_send(bytes(300), MSG_EOR)
        c.app_send(bytes(6000))
        c.inject("A", window=65_535)
        c.out.clear()
        assert c.tp.mtup_probe_size != 986 + 40


def test_a_paced_connection_does_not_probe_before_its_time() -> None:
    """tcp_mtu_probe asks tcp_pacing_check as every burst does."""
    with probing() as c:
        c.tp.pacing_status = SK_PACING_NEEDED
        c.tp.tcp_wstamp = c.net.now + SEC
        c.app_send(bytes(6000))
        assert c.out == [] and c.tp.mtup_probe_size == 0
        c.run(SEC)
        assert len(c.next_segment().data) == 986
        c.run(10 * SEC)
        c.out.clear()


def test_off_it_does_nothing() -> None:
    with probing(mode=0) as c:
        c.app_send(bytes(6000))
        assert set(sizes(c)[:-1]) == {1460} and not c.tp.mtup_enabled


def test_a_black_hole_turns_it_on_and_makes_the_segments_small() -> None:
    """tcp_mtu_probing 1: at R1 (tcp_retries1) large segments are suspected; smaller and smaller ones follow."""
    with probing(mode=1) as c:
        c.app_send(bytes(1460))
        assert sizes(c) == [1460]
        while c.tp.mss_cache == 1460:
            c.run_to(int(c.stack.next_deadline()))
            assert c.now - c.zero < 60 * SEC
        assert c.tp.mtup_enabled and c.tp.mss_cache == 512 and 3 * SEC <= c.now - c.zero
        assert sizes(c)[-1] == 512
        while c.tp.mss_cache == 512:
            c.run_to(int(c.stack.next_deadline()))
        assert c.tp.mss_cache == 256 and sizes(c)[-1] == 256
        while c.tp.mss_cache > 48 and c.now - c.zero < 600 * SEC:
            c.run_to(int(c.stack.next_deadline()))
        assert c.tp.mss_cache == 48, "tcp_mtu_probe_floor, tcp_min_snd_mss"
        c.out.clear()


def test_the_search_begins_again_after_the_probe_interval() -> None:
    """tcp_mtu_check_reprobe: paths change."""
    with probing() as c:
        c.net.sysctl.tcp_probe_interval = 100
        c.net.sysctl.tcp_slow_start_after_idle = 0
        c.tp.mtup_search_high = c.tp.mtup_search_low + 4  # found
        c.app_send(bytes(6000))
        assert c.tp.mtup_probe_size == 0
        c.inject("A")
        c.out.clear()
        c.run(101 * SEC)
        c.tp.snd_cwnd = 20
        c.app_send(bytes(6000))
        assert c.tp.mtup_search_high == 1500
        c.inject("A")
        c.out.clear()
        c.tp.snd_cwnd = 20
        c.app_send(bytes(6000))
        assert len(c.next_segment().data) > 512
        c.out.clear()
