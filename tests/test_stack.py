"""Whole stacks on cables: what one host sends another does something about, and no packet is lost track of."""

from __future__ import annotations

import errno
from struct import pack
from typing import TYPE_CHECKING

import pytest

from tests.harness import MSEC, SEC, A, B, Drops, Events, Moved, Pair, Sniffer, Verdicts, code_of, readable, udp
from ustack.device.cable import Impairments
from ustack.device.e1000 import E1000, NO_OFFLOAD
from ustack.device.ring import NicRegisters
from ustack.drop import Reason
from ustack.inet.family import SOCK_DGRAM, SOCK_RAW, SOCK_STREAM
from ustack.inet.ip_sockglue import IP_BIND_ADDRESS_NO_PORT, IP_RECVERR
from ustack.inet.options import SO_BINDTODEVICE, SO_BROADCAST, SO_ERROR, SOL_IP, SOL_SOCKET
from ustack.inet.protosw import IPPROTO_ICMP
from ustack.inet.security import NOBODY_CRED
from ustack.inet.sockaddr import AF_INET, SockaddrIn
from ustack.neighbour.states import NUD_FAILED, NUD_PERMANENT, NUD_REACHABLE
from ustack.neighbour.table import NO_LLADDR
from ustack.netfilter.hooks import NF_DROP, NF_INET_LOCAL_IN, NF_INET_LOCAL_OUT, NF_QUEUE
from ustack.routing.fib_types import FibConfig, NexthopConfig
from ustack.routing.flow import Flow
from ustack.routing.uapi import NLM_F_APPEND, NLM_F_CREATE
from ustack.stack import Stack, parse_cidr
from ustack.timer import NEVER
from ustack.wire.icmp import ICMP_ECHOREPLY
from ustack.wire.ipv4 import str_to_addr

if TYPE_CHECKING:
    from ustack.inet.socket import Socket

ECHO = pack("!BBHHH", 8, 0, 0, 0, 7)  #: an echo request with sequence number 7


def ping(stack: Stack) -> Socket:
    return stack.socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP)


# -- a stack by itself


def test_a_new_stack_has_a_loopback_device_and_nothing_to_do() -> None:
    stack = Stack(bytes(16))
    lo = stack.device("lo")
    assert [(int(a.local), int(a.prefixlen)) for a in lo.addresses] == [(0x7F00_0001, 8)]
    assert stack.next_deadline() == NEVER and not stack.poll(5)
    assert stack.net.now == 5 and stack.unaccounted() == 0


def test_a_seed_is_required() -> None:
    with pytest.raises(ValueError):
        Stack(b"too short")


def test_time_never_goes_back() -> None:
    stack = Stack(bytes(16), 100)
    stack.poll(50)
    assert stack.net.now == 100


def test_a_flood_does_not_keep_poll_for_itself() -> None:
    """After MAX_SOFTIRQ_RESTART rounds the caller gets its turn, and is told that there is more."""
    stack = Stack(bytes(16))
    nic = NicRegisters(1024)
    stack.add_device(E1000(stack.devices, "eth0", 0x0200_0000_0001, nic))
    for _ in range(1024):
        assert nic.receive_frame(b"\xff" * 60)
    nic.rx_interrupt()
    assert stack.next_deadline() == 0
    assert stack.poll(1) and stack.net.mib.path.received == 640
    assert stack.next_deadline() == 1
    assert not stack.poll(1) and stack.net.mib.path.received == 1024
    assert stack.unaccounted() == 0 and stack.next_deadline() == NEVER


def test_two_stacks_share_nothing() -> None:
    one, other = Stack(bytes(16)), Stack(bytes(16))
    udp(one, "", 5000)
    udp(other, "", 5000)
    one.net.conf.inet_forward_change(1)
    assert other.net.conf.all.forwarding == 0 and other.devices.by_name("lo") is not one.devices.by_name("lo")


def test_the_same_seed_makes_the_same_choices() -> None:
    ports = []
    for seed in (bytes(16), bytes(16), bytes(15) + b"x"):
        sock = Stack(seed).socket(AF_INET, SOCK_DGRAM)
        sock.bind(("", 0))
        ports.append(sock.getsockname().port)
    assert ports[0] == ports[1] != ports[2]


@pytest.mark.parametrize("text", ["192.0.2.1/33", "192.0.2.1/-1", "192.0.2.1/", "192.0.2/24", "x", "1.2.3.4/24/1"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError):
        parse_cidr(text)


def test_addresses_and_devices_by_name() -> None:
    stack = Stack(bytes(16))
    assert parse_cidr("192.0.2.1") == (0xC000_0201, 32)
    stack.add_address("127.0.0.2/8", "lo")
    assert code_of(lambda: stack.add_address("127.0.0.2/8", "lo")) == errno.EEXIST
    assert code_of(lambda: stack.add_address("192.0.2.1/24", "eth0")) == errno.ENODEV


def test_after_close_there_are_no_sockets() -> None:
    stack = Stack(bytes(16))
    stack.close()
    stack.close()
    assert code_of(lambda: stack.socket(AF_INET, SOCK_DGRAM)) == errno.ENETDOWN


def test_every_kind_of_socket_is_registered_and_raw_needs_the_right() -> None:
    stack = Stack(bytes(16))
    kinds = [(SOCK_STREAM, 0, 6), (SOCK_DGRAM, 0, 17), (SOCK_DGRAM, IPPROTO_ICMP, 1), (SOCK_RAW, 89, 89)]
    for sock_type, protocol, number in kinds:
        assert stack.socket(AF_INET, sock_type, protocol).sk.protocol == number
    assert code_of(lambda: stack.socket(AF_INET, SOCK_RAW, 89, NOBODY_CRED)) == errno.EPERM
    assert code_of(lambda: stack.socket(10, SOCK_STREAM)) == errno.EAFNOSUPPORT


# -- loopback


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", B])
def test_what_is_ours_never_leaves(address: str) -> None:
    with Pair() as pair:
        pair.run(5 * SEC)  # past the announcements
        sent = int(pair.dev_b.stats.tx_packets)
        server, client = udp(pair.b, "", 7), udp(pair.b)
        client.sendto(b"muffin", (address, 7))
        assert not readable(server), "only poll moves packets"
        pair.settle()
        data, peer = server.recvfrom(100)
        assert data == b"muffin" and peer.addr == (str_to_addr(address) if address == B else 0x7F00_0001)
        server.sendto(data, peer)
        pair.settle()
        assert client.recv(100) == b"muffin"
        assert pair.dev_b.stats.tx_packets == sent


def test_ping_to_oneself() -> None:
    with Pair() as pair:
        sock = ping(pair.a)
        sock.sendto(ECHO, ("127.0.0.1", 0))
        pair.settle()
        assert sock.recv(100)[0] == ICMP_ECHOREPLY


def test_nobody_at_a_loopback_port() -> None:
    with Pair() as pair:
        sock = udp(pair.a)
        sock.connect(("127.0.0.1", 9))
        sock.send(b"x")
        pair.settle()
        assert code_of(lambda: sock.recv(10)) == errno.ECONNREFUSED


# -- a pair


@pytest.mark.parametrize("size", [0, 1, 56, 1472, 1473, 8000, 65_507])
def test_ping(size: int) -> None:
    """Sizes beyond the MTU go in fragments both ways."""
    with Pair() as pair:
        sock = ping(pair.a)
        moved = Moved(pair.b)
        payload = bytes(at & 0xFF for at in range(size))
        assert sock.sendto(ECHO + payload, (B, 0)) == 8 + size
        pair.run_until(lambda: readable(sock))
        reply, peer = sock.recvfrom(65_535)
        ident = sock.getsockname().port
        assert reply[:2] == b"\0\0" and reply[4:] == pack("!HH", ident, 7) + payload
        assert peer == SockaddrIn(str_to_addr(B), 0)
        assert moved("Icmp") == {"Icmp.InMsgs": 1, "Icmp.InEchos": 1, "Icmp.OutMsgs": 1, "Icmp.OutEchoReps": 1}
        assert moved("Ip").get("Ip.ReasmOKs", 0) == (1 if size > 1472 else 0)


def test_udp_echo_and_who_sees_what() -> None:
    with Pair(resolved=True) as pair:
        server, client = udp(pair.b, "", 7), udp(pair.a, "", 5000)
        events = Events()
        server.observe(events)
        sniffer = Sniffer(pair.a)
        before, counted = Moved(pair.a), Moved(pair.b)
        client.sendto(b"muffin", (B, 7))
        pair.run_until(lambda: readable(server))
        data, peer = server.recvfrom(100)
        server.sendto(data.upper(), peer)
        pair.run_until(lambda: readable(client))
        assert client.recvfrom(100) == (b"MUFFIN", SockaddrIn(str_to_addr(B), 7))
        assert sniffer.lines() == [
            "> IP 192.0.2.1.5000 > 192.0.2.2.7: UDP, length 6",
            "< IP 192.0.2.2.7 > 192.0.2.1.5000: UDP, length 6",
        ]
        assert events.seen == ["data"]
        for moved in (before, counted):
            assert moved("Udp") == {"Udp.InDatagrams": 1, "Udp.OutDatagrams": 1}
            assert moved("Path") == {"Path.received": 1, "Path.delivered": 1}


@pytest.mark.parametrize("features", [NO_OFFLOAD, 0])
def test_udp_without_offload(features: int) -> None:
    with Pair(features=features) as pair:
        server, client = udp(pair.b, "", 7), udp(pair.a)
        for size in (0, 1, 2, 1471, 1472, 1473, 30_001):
            client.sendto(bytes(size), (B, 7))
            pair.run_until(lambda: readable(server))
            assert server.recv(65_535) == bytes(size)


def test_a_closed_port_is_said_to_be_closed() -> None:
    """RFC 1122 4.1.3.1: "UDP SHOULD send an ICMP Port Unreachable message", and 4.1.3.3 that it reaches the user."""
    with Pair(resolved=True) as pair:
        sock = udp(pair.a)
        sock.connect((B, 9))
        events = Events()
        sock.observe(events)
        refused, drops = Moved(pair.b), Drops(pair.b)
        sock.send(b"anybody?")
        pair.run_until(lambda: bool(events.seen))
        assert events.seen == ["error"]
        assert sock.getsockopt(SOL_SOCKET, SO_ERROR) == errno.ECONNREFUSED
        assert sock.getsockopt(SOL_SOCKET, SO_ERROR) == 0
        assert refused("Udp", "Icmp") == {
            "Udp.NoPorts": 1,
            "Icmp.OutMsgs": 1,
            "Icmp.OutDestUnreachs": 1,
        }
        assert drops.reasons == [Reason.NO_SOCKET]


def test_an_unconnected_socket_hears_nothing_of_it() -> None:
    with Pair(resolved=True) as pair:
        sock = udp(pair.a)
        sock.sendto(b"anybody?", (B, 9))
        pair.run(SEC)
        assert sock.getsockopt(SOL_SOCKET, SO_ERROR) == 0 and not readable(sock)


def test_a_protocol_nobody_speaks() -> None:
    with Pair(resolved=True) as pair:
        sock, drops = pair.a.socket(AF_INET, SOCK_RAW, 89), Drops(pair.b)
        sock.connect((B, 0))
        sock.send(b"anybody?")  # an error must quote eight bytes to be believed
        pair.run(SEC)
        assert code_of(lambda: sock.recv(10)) == errno.ENOPROTOOPT
        assert drops.reasons == [Reason.IP_NOPROTO]


def test_a_neighbour_that_does_not_answer() -> None:
    """Three questions, a second apart, then every packet that waited fails as unreachable host."""
    with Pair() as pair:
        pair.run(5 * SEC)
        sock = udp(pair.a)
        sock.setsockopt(SOL_IP, IP_RECVERR, 1)
        sock.connect(("192.0.2.9", 7))
        began = pair.now
        sniffer, drops = Sniffer(pair.a, arp=True), Drops(pair.a)
        sock.send(b"anybody?")
        pair.run_until(lambda: sock.sk.err != 0)
        assert pair.now - began == 3 * SEC
        assert code_of(lambda: sock.recv(10)) == errno.EHOSTUNREACH
        asked = [line for line in sniffer.lines() if line.startswith("> ARP")]
        assert asked == ["> ARP, Request who-has 192.0.2.9 tell 192.0.2.1"] * 3
        assert drops.reasons == [Reason.NEIGH_FAILED]


def test_a_stream_to_a_neighbour_that_does_not_answer() -> None:
    with Pair() as pair:
        sock = pair.a.socket(AF_INET, SOCK_STREAM)
        assert code_of(lambda: sock.connect(("192.0.2.9", 80))) == errno.EINPROGRESS
        pair.run_until(lambda: sock.sk.err != 0)
        assert code_of(lambda: sock.connect(("192.0.2.9", 80))) == errno.EHOSTUNREACH
        sock.close()


def test_no_route_and_no_device() -> None:
    with Pair() as pair:
        sock = udp(pair.a)
        assert code_of(lambda: sock.sendto(b"x", ("203.0.113.1", 7))) == errno.ENETUNREACH
        stream = pair.a.socket(AF_INET, SOCK_STREAM)
        assert code_of(lambda: stream.connect(("203.0.113.1", 7))) == errno.ENETUNREACH
        pair.a.set_down(pair.dev_a)
        assert code_of(lambda: sock.sendto(b"x", (B, 7))) in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN)
        pair.a.set_up(pair.dev_a)
        sock.sendto(b"x", (B, 7))


def test_broadcast_needs_its_option_and_reaches_who_is_bound() -> None:
    with Pair() as pair:
        server, client = udp(pair.b, "", 7), udp(pair.a)
        assert code_of(lambda: client.sendto(b"x", ("192.0.2.255", 7))) == errno.EACCES
        client.setsockopt(SOL_SOCKET, SO_BROADCAST, 1)
        client.sendto(b"all", ("192.0.2.255", 7))
        pair.run_until(lambda: readable(server))
        assert server.recv(10) == b"all"


def test_a_socket_bound_to_a_device_hears_only_that() -> None:
    with Pair() as pair:
        server, client = udp(pair.b, "", 7), udp(pair.a)
        server.setsockopt(SOL_SOCKET, SO_BINDTODEVICE, b"lo")
        client.connect((B, 7))
        client.send(b"x")
        pair.run(SEC)
        assert code_of(lambda: client.recv(10)) == errno.ECONNREFUSED and not readable(server)


def test_a_raw_socket_sees_a_copy_and_the_stack_still_answers() -> None:
    with Pair(resolved=True) as pair:
        raw, sock = pair.b.socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), ping(pair.a)
        sock.sendto(ECHO, (B, 0))
        pair.run_until(lambda: readable(sock))
        copy, peer = raw.recvfrom(100)
        assert copy[0] == 0x45 and copy[20] == 8 and peer.addr == str_to_addr(A)


def test_a_cable_that_is_out() -> None:
    with Pair(resolved=True) as pair:
        server, client = udp(pair.b, "", 7), udp(pair.a)
        pair.cable.plug(False)
        client.sendto(b"lost", (B, 7))
        pair.run(SEC)
        pair.cable.plug(True)
        client.sendto(b"found", (B, 7))
        pair.run_until(lambda: readable(server))
        assert server.recv(10) == b"found"


@pytest.mark.parametrize("seed", range(5))
def test_the_books_balance_over_a_bad_cable(seed: int) -> None:
    """Loss, duplicates, reordering, corruption and fragments; what arrives is intact or not there."""
    bad = Impairments(delay=5 * MSEC, jitter=4 * MSEC, loss=0.2, duplicate=0.1, reorder=0.2, corrupt=0.1)
    with Pair(seed, bad) as pair:
        server, client = udp(pair.b, "", 7), udp(pair.a)
        sent = [bytes([number]) * (1 + number * 37 % 4000) for number in range(200)]
        for message in sent:
            client.sendto(message, (B, 7))
            pair.run(MSEC)
        pair.run(40 * SEC)  # past the timeout of what stays in pieces
        arrived = []
        while readable(server):
            arrived.append(server.recv(65_535))
        assert 20 < len(arrived) < 250 and set(arrived) <= set(sent)
        assert pair.b.queued() == 0


def test_a_burst_fills_the_receive_buffer_and_is_counted() -> None:
    with Pair(resolved=True) as pair:
        server, client = udp(pair.b, "", 7), udp(pair.a)
        counted = Moved(pair.b)
        for _ in range(1000):
            client.sendto(b"x", (B, 7))
        pair.run(SEC)
        lost = counted("Udp")["Udp.RcvbufErrors"]
        received = 0
        while readable(server):
            server.recv(1)
            received += 1
        assert received + lost == 1000 and 300 < received < 1000


# -- streams, as far as the socket layer sees them


def listening(stack: Stack, port: int = 80, backlog: int = 5) -> Socket:
    sock = stack.socket(AF_INET, SOCK_STREAM)
    sock.bind(("", port))
    sock.listen(backlog)
    return sock


def test_a_stream_from_connect_to_close() -> None:
    with Pair() as pair:
        listener, client = listening(pair.b), pair.a.socket(AF_INET, SOCK_STREAM)
        events = Events()
        client.observe(events)
        assert code_of(listener.accept) == errno.EAGAIN
        assert code_of(lambda: client.connect((B, 80))) == errno.EINPROGRESS
        assert code_of(lambda: client.connect((B, 80))) == errno.EALREADY
        assert code_of(client.getpeername) == errno.ENOTCONN
        pair.run_until(lambda: readable(listener))
        client.connect((B, 80))
        assert code_of(lambda: client.connect((B, 80))) == errno.EISCONN
        assert "state" in events.seen
        server = listener.accept()
        assert server.getpeername() == client.getsockname() and client.getpeername() == server.getsockname()
        assert code_of(lambda: server.recv(1)) == errno.EAGAIN
        client.send(b"muffin")
        client.shutdown(1)
        pair.run_until(lambda: readable(server))
        assert server.recv(100) == b"muffin"
        pair.run_until(lambda: readable(server))
        assert server.recv(100) == b""
        assert code_of(lambda: client.send(b"more")) == errno.EPIPE
        for sock in (server, client, listener):
            sock.close()
        pair.run(130 * SEC)
        assert pair.a.next_deadline() == pair.b.next_deadline() == NEVER


def test_a_connection_that_is_refused_and_tried_again() -> None:
    with Pair() as pair:
        sock = pair.a.socket(AF_INET, SOCK_STREAM)
        code_of(lambda: sock.connect((B, 80)))
        pair.run_until(lambda: sock.sk.err != 0)
        assert code_of(lambda: sock.connect((B, 80))) == errno.ECONNREFUSED
        listener = listening(pair.b)
        code_of(lambda: sock.connect((B, 80)))
        pair.run_until(lambda: readable(listener))
        sock.connect((B, 80))
        assert sock.getpeername() == SockaddrIn(str_to_addr(B), 80)


def test_what_a_refusal_leaves_for_so_error() -> None:
    with Pair() as pair:
        sock = pair.a.socket(AF_INET, SOCK_STREAM)
        code_of(lambda: sock.connect((B, 80)))
        pair.run_until(lambda: sock.sk.err != 0)
        assert sock.getsockopt(SOL_SOCKET, SO_ERROR) == errno.ECONNREFUSED
        assert sock.getsockopt(SOL_SOCKET, SO_ERROR) == 0


def test_a_stream_is_disconnected_by_unspec_and_connected_again() -> None:
    with Pair() as pair:
        listener, sock = listening(pair.b), pair.a.socket(AF_INET, SOCK_STREAM)
        for _ in range(2):
            code_of(lambda: sock.connect((B, 80)))
            pair.run_until(lambda: readable(listener))
            sock.connect((B, 80))
            accepted = listener.accept()
            sock.connect(bytes(2))
            assert code_of(sock.getpeername) == errno.ENOTCONN
            pair.settle()
            assert code_of(lambda a=accepted: a.recv(1)) == errno.ECONNRESET  # type: ignore[misc]


def test_ports_of_streams() -> None:
    """Taken is EADDRINUSE, a listener without a port gets one, IP_BIND_ADDRESS_NO_PORT leaves it to connect."""
    with Pair() as pair:
        listener = listening(pair.b)
        other = pair.b.socket(AF_INET, SOCK_STREAM)
        assert code_of(lambda: other.bind(("", 80))) == errno.EADDRINUSE
        other.listen(1)
        assert other.getsockname().port >= 32_768
        client = pair.a.socket(AF_INET, SOCK_STREAM)
        client.setsockopt(SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        client.bind((A, 0))
        assert client.getsockname() == SockaddrIn(str_to_addr(A), 0)
        code_of(lambda: client.connect((B, 80)))
        pair.run_until(lambda: readable(listener))
        assert client.getsockname().port >= 32_768


def test_a_listener_that_is_shut_down_stops_listening() -> None:
    with Pair() as pair:
        listener, sock = listening(pair.b), pair.a.socket(AF_INET, SOCK_STREAM)
        listener.shutdown(0)
        assert code_of(listener.accept) == errno.EINVAL
        code_of(lambda: sock.connect((B, 80)))
        pair.run_until(lambda: sock.sk.err != 0)
        assert sock.sk.err == errno.ECONNREFUSED
        listener.listen(1)
        code_of(lambda: sock.connect((B, 80)))


# -- hooks in the way


def test_what_waits_for_a_verdict_is_on_the_books() -> None:
    with Pair(resolved=True) as pair:
        listener = Verdicts()
        pair.b.hooks.nf_register_queue_handler(listener)
        pair.b.hooks.nf_register_hook(NF_INET_LOCAL_IN, lambda state: NF_QUEUE)
        server = udp(pair.b, "", 7)
        udp(pair.a).sendto(b"x", (B, 7))
        pair.run(SEC)
        assert pair.b.queued() == 1 and pair.b.unaccounted() == 0 and not readable(server)
        pair.b.hooks.nf_reinject(listener.entries[0], 1)
        assert readable(server) and pair.b.queued() == 0


def test_our_own_packets_in_a_queue_are_not_received_ones() -> None:
    with Pair(resolved=True) as pair:
        pair.a.hooks.nf_register_queue_handler(Verdicts())
        pair.a.hooks.nf_register_hook(NF_INET_LOCAL_OUT, lambda state: NF_QUEUE)
        udp(pair.a).sendto(b"x", (B, 7))
        assert pair.a.queued() == 0 and len(pair.a.hooks.waiting()) == 1


def test_a_hook_that_refuses() -> None:
    with Pair(resolved=True) as pair:
        pair.b.hooks.nf_register_hook(NF_INET_LOCAL_IN, lambda state: NF_DROP)
        drops = Drops(pair.b)
        udp(pair.a).sendto(b"x", (B, 7))
        pair.run(SEC)
        assert drops.reasons == [Reason.NETFILTER_DROP]


# -- devices that go


def test_a_device_that_is_removed_takes_its_routes_along() -> None:
    with Pair() as pair:
        sock = udp(pair.a)
        sock.sendto(b"x", ("192.0.2.9", 7))  # waits for its neighbour
        pair.a.remove_device(pair.dev_a)
        assert pair.a.devices.by_name("eth0") is None
        assert code_of(lambda: sock.sendto(b"x", (B, 7))) == errno.ENETUNREACH
        assert pair.a.queued() == 0


# -- what routing learns from the rooms beside it


def default_routes(stack: Stack, *gateways: str) -> None:
    """``ip route append default via ...``: as good as each other."""
    for gateway in gateways:
        cfg = FibConfig()
        cfg.gateway, cfg.nlflags = str_to_addr(gateway), NLM_F_CREATE | NLM_F_APPEND
        stack.routing.fib.rtm_newroute(cfg)


def ways(stack: Stack, daddr: str, count: int) -> list[int]:
    """The gateways that as many packets to ``daddr`` would go by, one after the other."""
    return [int(stack.routing.ip_route_output(Flow(str_to_addr(daddr))).gateway) for _ in range(count)]


def test_a_default_gateway_that_neighbours_know_to_be_dead_makes_way() -> None:
    """fib_detect_death: routing asks the neighbour table how each gateway stands."""
    with Pair() as pair:
        stack, dead, alive = pair.a, str_to_addr("192.0.2.9"), str_to_addr("192.0.2.10")
        default_routes(stack, "192.0.2.9", "192.0.2.10")
        assert ways(stack, "203.0.113.1", 2) == [dead, dead]  # never asked: as good as alive
        stack.neighbours.neigh_add(dead, pair.dev_a, NO_LLADDR, NUD_FAILED)
        stack.neighbours.neigh_add(alive, pair.dev_a, 0x0200_0000_0042, NUD_REACHABLE)
        assert ways(stack, "203.0.113.2", 3) == [alive, alive, alive]
        stack.neighbours.neigh_add(dead, pair.dev_a, 0x0200_0000_0041, NUD_PERMANENT)
        stack.neighbours.neigh_add(alive, pair.dev_a, NO_LLADDR, NUD_FAILED)
        assert ways(stack, "203.0.113.3", 3) == [dead, dead, dead]


@pytest.mark.parametrize("use_neigh", [0, 1])
def test_a_hop_that_neighbours_know_to_be_dead_is_passed_over(use_neigh: int) -> None:
    """fib_good_nh, with fib_multipath_use_neigh."""
    with Pair() as pair:
        stack, one, two = pair.a, str_to_addr("192.0.2.9"), str_to_addr("192.0.2.10")
        stack.sysctl.set("net.ipv4.fib_multipath_use_neigh", str(use_neigh))
        cfg = FibConfig(str_to_addr("198.51.100.0"), 24)
        cfg.multipath = [NexthopConfig(0, one), NexthopConfig(0, two)]
        cfg.nlflags = NLM_F_CREATE
        stack.routing.fib.rtm_newroute(cfg)
        stack.neighbours.neigh_add(one, pair.dev_a, NO_LLADDR, NUD_FAILED)
        used = {ways(stack, f"198.51.100.{host}", 1)[0] for host in range(1, 33)}
        assert used == ({two} if use_neigh else {one, two})


def test_a_route_may_name_the_algorithms_that_tcp_has() -> None:
    """RTAX_CC_ALGO: nothing but what is registered, in the kernel's words."""
    with Pair() as pair:
        cfg = FibConfig(str_to_addr("198.51.100.0"), 24)
        cfg.gateway, cfg.nlflags, cfg.cc_algo = str_to_addr(B), NLM_F_CREATE, "nosuch"
        with pytest.raises(OSError, match="^.Errno 22. Unknown tcp congestion algorithm$"):
            pair.a.routing.fib.rtm_newroute(cfg)
        for name in pair.a.tcp.tables.congestion.algorithms:
            cfg.cc_algo, cfg.priority = name, cfg.priority + 1
            pair.a.routing.fib.rtm_newroute(cfg)
            assert pair.a.routing.ip_route_output(Flow(str_to_addr("198.51.100.1"))).gateway == str_to_addr(B)


def test_route_flush_forgets_what_paths_have_told() -> None:
    """net.ipv4.route.flush: rt_cache_flush and fnhe_genid_bump; another setting flushes the answers alone."""
    with Pair() as pair:
        pair.a.routing.update_pmtu(Flow(str_to_addr(B)), 1000)
        pair.a.sysctl.set("net.ipv4.conf.all.rp_filter", "1")
        assert pair.a.routing.ip_route_output(Flow(str_to_addr(B))).mtu == 1000
        pair.a.sysctl.set("net.ipv4.route.flush", "1")
        assert pair.a.routing.ip_route_output(Flow(str_to_addr(B))).mtu == 1500


def test_an_owner_who_is_to_be_told_makes_the_stack_want_a_poll() -> None:
    """A disconnect outside a poll wakes whoever watches: next_deadline says at once, or nobody would hear of it."""
    with Pair(resolved=True) as pair:
        server, client = pair.b.socket(), pair.a.socket()
        server.bind((B, 80))
        server.listen(1)
        assert code_of(lambda: client.connect((B, 80))) == errno.EINPROGRESS
        pair.run_until(lambda: readable(server))
        events = Events()
        client.observe(events)
        assert pair.a.next_deadline() > pair.a.net.now
        client.sk.disconnect()
        assert pair.a.next_deadline() <= pair.a.net.now
        pair.a.poll(pair.a.net.now)
        assert events.seen == ["error", "state"]
        client.close()
        server.close()
