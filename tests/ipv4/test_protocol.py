"""inet_add_protocol, ip_protocol_deliver_rcu and the raw sockets' place before it."""

from __future__ import annotations

import errno

import pytest

from tests.ipv4.host import Host, Transport, datagram
from tests.routing.links import OURS, PEER
from ustack.drop import Reason
from ustack.ipv4.protocol import MAX_INET_PROTOS, RESUBMIT_LIMIT, NetProtocol, Protocols, RawDelivery
from ustack.net import Net
from ustack.packet import Packet
from ustack.wire.ipv4 import IPPROTO_IPIP, IPPROTO_SCTP, IPPROTO_UDP


class Raw(RawDelivery):
    """A raw socket for everything."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[bytes] = []

    def raw_local_deliver(self, packet: Packet) -> bool:
        assert packet.iph is not None and packet.data == packet.transport_header
        self.copies.append(packet.clone().payload())
        return True


class Nested(NetProtocol):
    """A tunnel that finds itself inside, again and again (CVE-2016-8666)."""

    def __init__(self, protocols: Protocols) -> None:
        super().__init__()
        self.protocols = protocols
        self.depth = 0

    def handler(self, packet: Packet) -> None:
        self.depth += 1
        self.protocols.resubmit(packet, IPPROTO_IPIP)


def code_of(protocols: Protocols, add: bool, protocol: int, handler: NetProtocol) -> int | None:
    try:
        if add:
            protocols.inet_add_protocol(protocol, handler)
        else:
            protocols.inet_del_protocol(protocol, handler)
    except OSError as failure:
        return failure.errno
    return 0


def test_the_registry() -> None:
    """inet_add_protocol: a taken number is an error; inet_del_protocol: only who is there may leave."""
    protocols = Protocols(Net(bytes(16)))
    one, two = NetProtocol(), NetProtocol()
    steps = [
        (True, 17, one, 0),
        (True, 17, two, errno.EEXIST),
        (True, 6, two, 0),
        (True, -1, one, errno.EINVAL),
        (True, MAX_INET_PROTOS, one, errno.EINVAL),
        (False, 17, two, errno.ENOENT),
        (False, 17, one, 0),
        (False, 17, one, errno.ENOENT),
        (False, MAX_INET_PROTOS, one, errno.ENOENT),
        (True, 17, two, 0),
        (True, 0, one, 0),
        (True, 255, one, 0),
    ]
    for add, number, handler, code in steps:
        assert code_of(protocols, add, number, handler) == code
    assert [i for i, handler in enumerate(protocols.inet_protos) if handler is not None] == [0, 6, 17, 255]


@pytest.mark.parametrize(
    ("protocol", "raw", "delivered", "copies", "counters", "errors"),
    [
        (IPPROTO_UDP, False, 1, 0, {"Ip.InDelivers": 1}, []),
        (IPPROTO_UDP, True, 1, 1, {"Ip.InDelivers": 1}, []),
        (IPPROTO_SCTP, True, 0, 1, {"Ip.InDelivers": 1}, []),  # somebody has it: no error
        (IPPROTO_SCTP, False, 0, 0, {"Ip.InUnknownProtos": 1}, [(3, 2, 0)]),
    ],
)
def test_raw_sockets_have_theirs_first(
    protocol: int,
    raw: bool,
    delivered: int,
    copies: int,
    counters: dict[str, int],
    errors: list[tuple[int, int, int]],
) -> None:
    host = Host()
    sockets = Raw()
    if raw:
        host.protocols.raw = sockets
    host.start()
    host.rx(datagram(PEER, OURS, protocol=protocol))
    assert (len(host.udp.got), sockets.copies) == (delivered, [b"muffin"] * copies)
    assert (host.moved(), host.icmp.sent) == ({"Ip.InReceives": 1} | counters, errors)
    assert host.balanced()


def test_headers_within_headers_come_to_an_end() -> None:
    host = Host()
    tunnel = Nested(host.protocols)
    host.protocols.inet_add_protocol(IPPROTO_IPIP, tunnel)
    for rounds in (1, 2):  # the second finds the same room
        host.rx(datagram(PEER, OURS, protocol=IPPROTO_IPIP))
        assert tunnel.depth == rounds * (RESUBMIT_LIMIT + 1)
    assert host.drops.reasons == [Reason.IP_NOPROTO_QUIET] * 2 and host.icmp.sent == [] and host.balanced()


def test_a_tunnel_hands_on_what_it_carried() -> None:
    host = Host()

    class Tunnel(Transport):
        def handler(self, packet: Packet) -> None:
            packet.pull(4)
            self.host.protocols.resubmit(packet, IPPROTO_UDP)

    host.protocols.inet_add_protocol(IPPROTO_IPIP, Tunnel(host))
    host.rx(datagram(PEER, OURS, b"headmuffin", protocol=IPPROTO_IPIP))
    assert host.udp.payloads == [b"muffin"] and host.balanced()


def test_the_defaults_of_a_protocol() -> None:
    """err_handler may be left out, handler may not."""
    protocol, packet = NetProtocol(), Packet(b"")
    protocol.err_handler(packet, 3, 1, 0)
    with pytest.raises(NotImplementedError):
        protocol.handler(packet)
    assert RawDelivery().raw_local_deliver(packet) is False
    RawDelivery().raw_icmp_error(packet, 1, 3, 1, 0)
