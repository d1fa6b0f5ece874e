"""Ports and demultiplexing (Linux udp_lib_get_port, udp_lib_lport_inuse, compute_score, ip4_datagram_connect)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ipv4.station import FAR, LOCALHOST, OURS, PEER, SUBNET_BROADCAST, Station
from ustack.sock import TCP_CLOSE, TCP_ESTABLISHED
from ustack.udp.table import compute_score

if TYPE_CHECKING:
    from ustack.udp.sock import UdpSock


def sock(station: Station, port: int = 0, addr: int = 0, dev: int = 0, **options: object) -> UdpSock:
    sk = station.udp.new_sock()
    sk.rcv_saddr = sk.saddr = addr
    sk.bound_dev_if = dev
    for name, value in options.items():
        setattr(sk, name, value)
    if port:
        sk.get_port(port)
        sk.bound_port = True
    return sk


# -- ports


@pytest.mark.parametrize(
    ("first", "second", "allowed"),
    [
        ({}, {}, False),
        ({"addr": OURS}, {"addr": LOCALHOST}, True),
        ({"addr": OURS}, {}, False),
        ({}, {"addr": OURS}, False),
        ({"dev": 1}, {"dev": 2}, True),
        ({"dev": 1}, {"dev": 1}, False),
        ({"dev": 1}, {}, False),
        ({"reuseaddr": True}, {"reuseaddr": True}, True),
        ({"reuseaddr": True}, {}, False),
        ({"reuseport": True}, {"reuseport": True}, True),
        ({"reuseport": True}, {"reuseport": True, "uid": 1}, False),
        ({"reuseport": True}, {"reuseaddr": True}, False),
    ],
)
def test_who_may_share_a_port(first: dict[str, int], second: dict[str, int], allowed: bool) -> None:
    """udp_lib_lport_inuse."""
    station = Station()
    sock(station, 7, **first)
    if allowed:
        sock(station, 7, **second)
        assert len(station.udp.sockets()) == 2
    else:
        with pytest.raises(OSError) as raised:
            sock(station, 7, **second)
        assert raised.value.errno == errno.EADDRINUSE and len(station.udp.sockets()) == 1


def test_a_port_is_free_again_once_given_back() -> None:
    station = Station()
    sk = sock(station, 7)
    sk.put_port()
    sk.put_port()
    assert sk.num == 0 and sock(station, 7).num == 7


def test_ports_are_chosen_at_random_from_the_range() -> None:
    """RFC 6056 section 3.3.1: not predictable, every one of the range possible."""
    station = Station()
    low, high = 40_000, 40_099
    station.net.sysctl.ip_local_port_range_min, station.net.sysctl.ip_local_port_range_max = low, high
    ports = []
    for _ in range(100):
        sk = station.udp.new_sock()
        sk.get_port(0)
        ports.append(int(sk.num))
    assert sorted(ports) == list(range(low, high + 1)) and ports != sorted(ports)
    with pytest.raises(OSError, match="in use"):
        station.udp.new_sock().get_port(0)
    firsts = set()
    for seed in range(30):
        sk = Station(seed=bytes((seed,)) * 16).udp.new_sock()
        sk.get_port(0)
        firsts.add(int(sk.num))
    assert len(firsts) == 30


# -- the best match


def test_connected_beats_address_beats_device_beats_any() -> None:
    station = Station()
    eth0 = int(station.eth0.ifindex)
    any_sk = sock(station, 7, reuseaddr=True)
    by_dev = sock(station, 7, dev=eth0, reuseaddr=True)
    by_addr = sock(station, 7, OURS, reuseaddr=True)
    by_peer = sock(station, 7, OURS, reuseaddr=True)
    by_peer.connect(PEER, 1000)
    table = station.udp.table
    assert table.lookup(PEER, 1000, OURS, 7, eth0) is by_peer
    assert table.lookup(PEER, 1001, OURS, 7, eth0) is by_addr
    assert table.lookup(FAR, 1000, OURS, 7, eth0) is by_addr
    assert table.lookup(PEER, 1000, LOCALHOST, 7, eth0) is by_dev
    assert table.lookup(PEER, 1000, LOCALHOST, 7, eth0 + 1) is any_sk
    assert table.lookup(PEER, 1000, OURS, 8, eth0) is None
    assert by_peer.state == TCP_ESTABLISHED


def test_of_equals_the_newest() -> None:
    """Linux puts new sockets in front of the hash chain."""
    station = Station()
    socks = [sock(station, 7, reuseaddr=True) for _ in range(3)]
    assert station.udp.table.lookup(PEER, 1, OURS, 7, 0) is socks[2]
    socks[2].close()
    assert station.udp.table.lookup(PEER, 1, OURS, 7, 0) is socks[1]


def test_reuseport_shares_flows_and_keeps_each_with_one() -> None:
    station = Station()
    group = [sock(station, 7, reuseport=True) for _ in range(4)]
    table = station.udp.table
    hits = [table.lookup(PEER, port, OURS, 7, 0) for port in range(400)]
    assert hits == [table.lookup(PEER, port, OURS, 7, 0) for port in range(400)]
    assert all(60 <= sum(hit is sk for hit in hits) <= 140 for sk in group)


@settings(max_examples=120)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, OURS, LOCALHOST]),
            st.sampled_from([None, (PEER, 1000), (PEER, 1001), (FAR, 1000)]),
            st.sampled_from([0, 1, 2]),
        ),
        max_size=8,
    ),
    st.sampled_from([PEER, FAR]),
    st.sampled_from([1000, 1001]),
    st.sampled_from([OURS, LOCALHOST]),
    st.sampled_from([1, 2]),
)
def test_the_lookup_answers_as_a_scan_of_everybody_would(
    socks: list[tuple[int, tuple[int, int] | None, int]], saddr: int, sport: int, daddr: int, dif: int
) -> None:
    station = Station()
    for addr, peer, dev in socks:
        sk = sock(station, 7, addr, reuseaddr=True)
        if peer is not None:
            sk.unhash()
            sk.rcv_saddr = addr or OURS
            sk.daddr, sk.dport = peer
        else:
            sk.unhash()
        sk.bound_dev_if = dev
        sk.hash()
    scores = [int(compute_score(sk, saddr, sport, daddr, 7, dif)) for sk in station.udp.sockets()]
    found = station.udp.table.lookup(saddr, sport, daddr, 7, dif)
    if found is None:
        assert all(score < 0 for score in scores)
    else:
        assert compute_score(found, saddr, sport, daddr, 7, dif) == max(scores)
    for sk in station.udp.sockets():
        sk.close()
    assert (station.udp.table.open, station.udp.table.connected, station.udp.table.ports) == ({}, {}, {})


def test_tuples_that_share_a_key_are_told_apart() -> None:
    station = Station()
    sk = sock(station, 7, OURS)
    sk.connect(PEER, 1000)
    (key,) = station.udp.table.connected
    # the same 62 bits from another address and port: one bit moved from one field to the other
    other_port = (1000 << 15 ^ 1 << 30) >> 15
    assert (PEER ^ 1) << 30 ^ other_port << 15 ^ 7 == key
    assert station.udp.table.lookup(PEER ^ 1, other_port, OURS, 7, 0) is None


# -- connect


def test_connect_fixes_peer_and_source() -> None:
    station = Station()
    sk = station.udp.new_sock()
    sk.connect(FAR, 9)
    assert (sk.daddr, sk.dport, sk.saddr, sk.rcv_saddr, sk.state) == (FAR, 9, OURS, OURS, TCP_ESTABLISHED)
    assert sk.num >= 32_768
    assert sk.sendmsg(b"x", 0, 0, -1) == 1
    (sent,) = station.take()
    assert (sent.ip.daddr, sent.ip.saddr) == (FAR, OURS)
    # a connected socket hears its peer and nobody else
    station.receive_udp(b"peer", 9, int(sk.num), src=FAR)
    station.receive_udp(b"else", 9, int(sk.num), src=PEER)
    got = sk.try_recv()
    assert got is not None and got.data == b"peer" and sk.try_recv() is None


def test_a_connected_socket_may_send_elsewhere() -> None:
    station = Station()
    sk = station.udp.new_sock()
    sk.connect(FAR, 9)
    sk.sendmsg(b"x", 0, PEER, 10)
    sk.sendmsg(b"y", 0, 0, -1)
    assert [sent.ip.daddr for sent in station.take()] == [PEER, FAR]


def test_connect_again_and_undo() -> None:
    station = Station()
    sk = station.udp.new_sock()
    sk.connect(FAR, 9)
    port = int(sk.num)
    sk.connect(PEER, 10)
    assert (sk.daddr, sk.dport, sk.num) == (PEER, 10, port) and len(station.udp.table.connected) == 1
    sk.disconnect()
    assert (sk.state, sk.daddr, sk.dport, sk.saddr, sk.rcv_saddr, sk.num) == (TCP_CLOSE, 0, 0, 0, 0, 0)
    assert station.udp.table.ports == {}


def test_what_was_bound_on_purpose_stays() -> None:
    """__udp_disconnect: SOCK_BINDADDR_LOCK, SOCK_BINDPORT_LOCK."""
    station = Station()
    sk = station.udp_sock(7, OURS)
    sk.connect(PEER, 10)
    sk.disconnect()
    assert (sk.rcv_saddr, sk.num) == (OURS, 7)
    assert station.udp.table.lookup(FAR, 1, OURS, 7, 0) is sk


def test_connect_errors_leave_the_socket_as_it_was() -> None:
    station = Station()
    sk = station.udp_sock(7)
    with pytest.raises(PermissionError):
        sk.connect(SUBNET_BROADCAST, 9)
    station.routing.del_route(0, 0, PEER, station.eth0)
    with pytest.raises(OSError, match="unreachable"):
        sk.connect(FAR, 9)
    assert (sk.state, sk.daddr) == (TCP_CLOSE, 0) and station.moved() == {"Ip.OutNoRoutes": 1}
    assert station.udp.table.lookup(FAR, 1, OURS, 7, 0) is sk


def test_many_connected_sockets_on_one_port_do_not_make_a_long_chain() -> None:
    """A datagram is compared with those that share its key, not with all that share its port."""
    station = Station()
    socks = [sock(station, reuseaddr=True, rcv_saddr=OURS) for _ in range(1000)]
    for n, sk in enumerate(socks):
        sk.get_port(7)
        sk.connect(PEER, n + 1)
    assert station.udp.table.lookup(PEER, 800, OURS, 7, 0) is socks[799]
    assert station.udp.table.open == {} and max(map(len, station.udp.table.connected.values())) <= 2
    for sk in socks:
        sk.close()
    assert station.udp.table.ports == {}
