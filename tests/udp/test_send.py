"""udp_sendmsg: errno for every misuse, checksums, fragments, corking (RFC 768; Linux net/ipv4/udp.c)."""

from __future__ import annotations

import errno

import pytest
from scapy.layers.inet import IP, UDP

from tests.ipv4.station import (
    FAR,
    GROUP,
    LIMITED_BROADCAST,
    LOCALHOST,
    OURS,
    PEER,
    PEER_MAC,
    SILENT,
    SUBNET_BROADCAST,
    Sent,
    Station,
    udp_packet,
)
from ustack.ipv4.options import ip_options_get
from ustack.neighbour.states import NUD_REACHABLE, NUD_STALE
from ustack.netfilter.hooks import NF_DROP, NF_INET_LOCAL_OUT, HookState
from ustack.packet import CHECKSUM_NONE, CHECKSUM_PARTIAL
from ustack.sock import (
    IP_PMTUDISC_DO,
    IP_PMTUDISC_DONT,
    IP_PMTUDISC_PROBE,
    IP_PMTUDISC_WANT,
    MSG_CONFIRM,
    MSG_DONTROUTE,
    MSG_MORE,
    MSG_OOB,
    SEND_SHUTDOWN,
)
from ustack.udp.sock import MSG_PROBE, SOL_UDP, UDP_CORK
from ustack.wire.checksum import csum_tcpudp_nofold, fold

OUT = {"Ip.OutRequests": 1, "Ip.OutTransmits": 1, "Udp.OutDatagrams": 1}


def only(station: Station) -> Sent:
    (sent,) = station.take()
    return sent


def refused(station: Station, code: int, data: bytes, flags: int, addr: int, port: int, **options: object) -> None:
    """A send that fails leaves no trace but its errno."""
    sk = station.udp_sock(5000)
    for name, value in options.items():
        setattr(sk, name, value)
    with pytest.raises(OSError) as raised:
        sk.sendmsg(data, flags, addr, port)
    assert raised.value.errno == code
    assert station.take() == [] and station.moved() == ({"Ip.OutNoRoutes": 1} if code == errno.ENETUNREACH else {})


@pytest.mark.parametrize("length", [0, 1, 2, 1471, 1472])
def test_one_send_is_one_datagram(length: int) -> None:
    station = Station()
    sk = station.udp_sock(5000)
    data = bytes(i & 0xFF for i in range(length))
    assert sk.sendmsg(data, 0, PEER, 9) == length
    sent = only(station)
    assert (sent.ip.saddr, sent.ip.daddr, sent.ip.ttl, sent.ip.tos) == (OURS, PEER, 64, 0)
    assert sent.l4 == udp_packet(data, 5000, 9, OURS, PEER) and sent.packet.ip_summed == CHECKSUM_NONE
    assert station.moved() == OUT


def test_scapy_believes_it() -> None:
    station = Station()
    station.udp_sock(4747).sendmsg(b"muffin", 0, FAR, 4747)
    packet = IP(bytes(station.eth0.sent[0].buf[14:]))
    assert (packet[UDP].sport, packet[UDP].dport, bytes(packet[UDP].payload)) == (4747, 4747, b"muffin")
    check = packet[UDP].chksum
    del packet[UDP].chksum
    assert IP(bytes(packet))[UDP].chksum == check


# -- errno


def test_too_long_for_any_datagram() -> None:
    refused(Station(), errno.EMSGSIZE, bytes(65_536), 0, PEER, 9)


def test_too_long_for_ip() -> None:
    """65,507 bytes are what an IP datagram carries."""
    refused(Station(), errno.EMSGSIZE, bytes(65_508), 0, PEER, 9)


def test_out_of_band() -> None:
    """ "Mirror BSD error message compatibility"."""
    refused(Station(), errno.EOPNOTSUPP, b"x", MSG_OOB, PEER, 9)


def test_port_zero() -> None:
    refused(Station(), errno.EINVAL, b"x", 0, PEER, 0)


def test_no_peer() -> None:
    refused(Station(), errno.EDESTADDRREQ, b"x", 0, 0, -1)


@pytest.mark.parametrize("dst", [SUBNET_BROADCAST, LIMITED_BROADCAST])
def test_broadcast_wants_permission(dst: int) -> None:
    """RFC 1122 3.3.6; SO_BROADCAST."""
    station = Station()
    if dst == LIMITED_BROADCAST:
        station.routing.add_route(LIMITED_BROADCAST, 32, 0, station.eth0)
    refused(station, errno.EACCES, b"x", 0, dst, 9)
    sk = station.udp_sock()
    sk.broadcast = True
    assert sk.sendmsg(b"x", 0, dst, 9) == 1
    assert only(station).packet.buf[:6] == b"\xff" * 6
    sk.broadcast = False
    with pytest.raises(PermissionError):
        sk.sendmsg(b"x", 0, dst, 9)


def test_no_route() -> None:
    station = Station()
    station.routing.del_route(0, 0, PEER, station.eth0)
    refused(station, errno.ENETUNREACH, b"x", 0, FAR, 9)


def test_after_shutdown() -> None:
    refused(Station(), errno.EPIPE, b"x", 0, PEER, 9, shutdown=SEND_SHUTDOWN)


def test_dontroute_reaches_the_link_only() -> None:
    refused(Station(), errno.ENETUNREACH, b"x", MSG_DONTROUTE, FAR, 9)
    refused(Station(), errno.ENETUNREACH, b"x", 0, FAR, 9, dontroute=True)
    station = Station()
    assert station.udp_sock().sendmsg(b"x", MSG_DONTROUTE, PEER, 9) == 1


@pytest.mark.parametrize("mode", [IP_PMTUDISC_DO, IP_PMTUDISC_PROBE])
def test_a_socket_that_forbids_fragments(mode: int) -> None:
    refused(Station(), errno.EMSGSIZE, bytes(1473), 0, PEER, 9, pmtudisc=mode)


def test_what_a_hook_refuses_is_said() -> None:
    """NF_DROP at LOCAL_OUT: EPERM."""
    station = Station()

    def drop(state: HookState) -> int:
        return NF_DROP

    station.hooks.nf_register_hook(NF_INET_LOCAL_OUT, drop)
    with pytest.raises(PermissionError) as raised:
        station.udp_sock().sendmsg(b"x", 0, PEER, 9)
    assert raised.value.errno == errno.EPERM and "Udp.OutDatagrams" not in station.moved()


def test_no_port_left() -> None:
    """inet_autobind: EAGAIN."""
    station = Station()
    station.net.sysctl.ip_local_port_range_min = station.net.sysctl.ip_local_port_range_max = 40_000
    station.udp_sock(40_000)
    with pytest.raises(BlockingIOError):
        station.udp_sock().sendmsg(b"x", 0, PEER, 9)


# -- checksums


def test_a_computed_zero_goes_out_as_all_ones() -> None:
    """RFC 768: "If the computed checksum is zero, it is transmitted as all ones"."""
    station = Station()
    sk = station.udp_sock(5000)
    for value in range(0x10000):
        data = value.to_bytes(2, "big")
        if udp_packet(data, 5000, 9, OURS, PEER)[6:8] == b"\xff\xff":
            break
    sk.sendmsg(data, 0, PEER, 9)
    assert only(station).l4[6:8] == b"\xff\xff"


def test_switched_off() -> None:
    """SO_NO_CHECK."""
    for offload in (False, True):
        station = Station(offload)
        sk = station.udp_sock(5000)
        sk.no_check_tx = True
        sk.sendmsg(b"x", 0, PEER, 9)
        sent = only(station)
        assert sent.l4[6:8] == b"\0\0" and sent.packet.ip_summed == CHECKSUM_NONE


@pytest.mark.parametrize("length", [0, 5, 1472])
def test_left_to_the_device(length: int) -> None:
    """CHECKSUM_PARTIAL: the field holds the pseudo-header's sum, the device does the rest."""
    station = Station(offload=True)
    station.udp_sock(5000).sendmsg(bytes(length), 0, PEER, 9)
    sent = only(station)
    packet = sent.packet
    assert (packet.ip_summed, packet.csum_start, packet.csum_offset) == (CHECKSUM_PARTIAL, 14 + 20, 6)
    assert int.from_bytes(sent.l4[6:8], "big") == fold(csum_tcpudp_nofold(OURS, PEER, 8 + length, 17))


@pytest.mark.parametrize("offload", [False, True])
def test_fragments_are_summed_here(offload: bool) -> None:
    station = Station(offload)
    data = bytes(i * 3 & 0xFF for i in range(5000))
    assert station.udp_sock(5000).sendmsg(data, 0, PEER, 9) == 5000
    pieces = station.take()
    assert b"".join(piece.l4 for piece in pieces) == udp_packet(data, 5000, 9, OURS, PEER)
    assert all(piece.packet.ip_summed == CHECKSUM_NONE for piece in pieces) and len(pieces) == 4
    assert station.moved()["Udp.OutDatagrams"] == 1


def test_the_largest_datagram() -> None:
    station = Station()
    sk = station.udp_sock(5000)
    assert sk.sendmsg(bytes(65_507), 0, PEER, 9) == 65_507
    assert len(b"".join(piece.l4 for piece in station.take())) == 65_515


@pytest.mark.parametrize(
    ("mode", "df"),
    [(IP_PMTUDISC_DONT, False), (IP_PMTUDISC_WANT, True), (IP_PMTUDISC_DO, True), (IP_PMTUDISC_PROBE, True)],
)
def test_dont_fragment(mode: int, df: bool) -> None:
    station = Station()
    sk = station.udp_sock()
    sk.pmtudisc = mode
    sk.sendmsg(b"x", 0, PEER, 9)
    assert only(station).ip.dont_fragment is df


def test_a_view_may_change_once_it_is_sent() -> None:
    station = Station()
    data = bytearray(b"a" * 1000)
    station.udp_sock(5000).sendmsg(memoryview(data), 0, SILENT, 9)
    data[:] = bytes(1000)
    station.neighbours.neigh_add(SILENT, station.eth0, 0x020000000077)
    assert only(station).l4[8:] == b"a" * 1000


# -- options


def test_ttl_tos_and_ip_options() -> None:
    station = Station()
    sk = station.udp_sock()
    sk.uc_ttl, sk.tos, sk.inet_opt = 3, 0x10, ip_options_get(bytes((7, 7, 4, 0, 0, 0, 0, 0)))
    sk.sendmsg(b"x", 0, PEER, 9)
    sent = only(station)
    assert (sent.ip.ttl, sent.ip.tos, sent.ip.header_len) == (3, 0x10, 28)


def test_multicast_has_a_ttl_of_its_own() -> None:
    """RFC 1112 6.1: one, if nothing else is asked for."""
    station = Station()
    sk = station.udp_sock()
    sk.mc_index, sk.mc_addr = station.eth0.ifindex, OURS
    sk.sendmsg(b"x", 0, GROUP, 9)
    sent = only(station)
    assert (sent.ip.saddr, sent.ip.daddr, sent.ip.ttl) == (OURS, GROUP, 1)


def test_the_route_is_kept_and_looked_up_anew_when_it_may_differ() -> None:
    station = Station()
    sk = station.udp_sock()
    sk.sendmsg(b"x", 0, FAR, 9)
    dst = sk.dst_cache
    sk.sendmsg(b"x", 0, FAR, 9)
    assert sk.dst_cache is dst
    sk.mark = 7
    sk.sendmsg(b"x", 0, FAR, 9)
    station.routing.rt_cache_flush()
    sk.sendmsg(b"x", 0, FAR, 9)
    assert sk.dst_cache is not dst and len(station.take()) == 4
    sk.sendmsg(b"x", 0, PEER, 9)
    assert [sent.ip.daddr for sent in station.take()] == [PEER]


def test_a_source_route_set_later_is_followed() -> None:
    """RFC 1122 3.2.1.8: the header's destination is the first hop, the last place in the option the true one."""
    station = Station()
    sk = station.udp_sock()
    sk.sendmsg(b"x", 0, FAR, 9)
    sk.inet_opt = ip_options_get(bytes((131, 7, 4)) + SILENT.to_bytes(4, "big"))
    station.neighbours.neigh_add(SILENT, station.eth0, 0x020000000077)
    sk.sendmsg(b"x", 0, FAR, 9)
    _, sent = station.take()
    assert sent.ip.daddr == SILENT and sent.packet.buf[:6] == (0x020000000077).to_bytes(6, "big")
    assert FAR.to_bytes(4, "big") in sent.packet.buf[34:42]


def test_to_nowhere_means_this_host() -> None:
    station = Station()
    server, sk = station.udp_sock(9), station.udp_sock()
    sk.sendmsg(b"x", 0, 0, 9)
    station.run()
    got = server.recvmsg(9, 0)
    assert got.addr == LOCALHOST and station.take() == []


def test_confirm_tells_the_neighbour_table() -> None:
    """MSG_CONFIRM; with MSG_PROBE and nothing to send, nothing is sent."""
    station = Station()
    sk = station.udp_sock()
    neighbour = station.neighbours.neigh_add(PEER, station.eth0, PEER_MAC, NUD_STALE)
    station.net.now = 1000
    assert sk.sendmsg(b"", MSG_CONFIRM | MSG_PROBE, PEER, 9) == 0
    assert neighbour.nud_state == NUD_REACHABLE and station.take() == []
    assert sk.sendmsg(b"x", MSG_CONFIRM, PEER, 9) == 1 and len(station.take()) == 1


# -- corking


def test_more_makes_one_datagram_of_many_sends() -> None:
    station = Station()
    sk = station.udp_sock(5000)
    assert sk.sendmsg(b"one ", MSG_MORE, PEER, 9) == 4
    assert sk.sendmsg(b"two ", MSG_MORE, FAR, 99) == 4  # the first address counts
    assert station.take() == [] and station.moved() == {}
    assert sk.sendmsg(b"three", 0, 0, -1) == 5
    sent = only(station)
    assert sent.ip.daddr == PEER and sent.l4 == udp_packet(b"one two three", 5000, 9, OURS, PEER)
    assert station.moved() == OUT


def test_cork_holds_until_it_is_pulled() -> None:
    station = Station()
    sk = station.udp_sock(5000)
    sk.setsockopt(SOL_UDP, UDP_CORK, 1)
    assert sk.getsockopt(SOL_UDP, UDP_CORK) == 1
    for piece in (b"a", b"b", b"c"):
        sk.sendmsg(piece, 0, PEER, 9)
    assert station.take() == []
    sk.setsockopt(SOL_UDP, UDP_CORK, 0)
    assert only(station).l4[8:] == b"abc"
    sk.setsockopt(SOL_UDP, UDP_CORK, 0)
    assert station.take() == []


def test_a_cork_that_grows_too_long_is_thrown_away() -> None:
    """__ip_append_data: EMSGSIZE, udp_flush_pending_frames."""
    station = Station()
    sk = station.udp_sock(5000)
    sk.sendmsg(bytes(60_000), MSG_MORE, PEER, 9)
    with pytest.raises(OSError, match="too long"):
        sk.sendmsg(bytes(6_000), MSG_MORE, PEER, 9)
    sk.sendmsg(b"new", 0, PEER, 9)
    assert only(station).l4[8:] == b"new"


def test_closing_forgets_what_is_corked() -> None:
    station = Station()
    sk = station.udp_sock(5000)
    sk.sendmsg(b"x", MSG_MORE, PEER, 9)
    sk.close()
    sk.push_pending()
    assert station.take() == []


@pytest.mark.parametrize(("level", "name"), [(SOL_UDP, 2), (6, UDP_CORK)])
def test_options_that_are_none(level: int, name: int) -> None:
    sk = Station().udp_sock()
    for call in (lambda: sk.setsockopt(level, name, 1), lambda: sk.getsockopt(level, name)):
        with pytest.raises(OSError) as raised:
            call()
        assert raised.value.errno == errno.ENOPROTOOPT
