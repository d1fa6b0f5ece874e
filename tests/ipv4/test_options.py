"""__ip_options_compile, ip_options_get, ip_options_build, ip_options_echo (RFC 791 section 3.1, RFC 1122 3.2.1.8)."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ipv4.host import Host, datagram, head
from tests.routing.links import FAR, LOCALHOST, OURS, PEER, a
from ustack.drop import Reason
from ustack.ipv4.options import (
    NO_PROBLEM,
    IpOptions,
    ip_options_build,
    ip_options_compile,
    ip_options_echo,
    ip_options_fragment,
    ip_options_get,
    timestamp,
)
from ustack.packet import Packet
from ustack.routing.flow import Flow
from ustack.timer import NSEC_PER_MSEC
from ustack.wire.ipv4 import IPPROTO_ICMP

HOST = Host()
NOW = 5 * NSEC_PER_MSEC
TIME = b"\x80\0\0\x05"  # 5 ms, not since midnight
OUR = OURS.to_bytes(4, "big")
THEIR = FAR.to_bytes(4, "big")
EMPTY = bytes(4)


def compiled(data: bytes) -> IpOptions:
    return ip_options_compile(data, HOST.routing, OURS, NOW)


#: what, bytes, the octet the kernel's pp_ptr points at
MALFORMED = [
    ("length 0: an endless walk", b"\x07\x00\x04\x00", 20),
    ("length 1: CVE-2005-2577", b"\x07\x01\x04\x00", 20),
    ("length 0 of an unknown option", b"\x55\x00\x00\x00", 20),
    ("length 1, not at the beginning", b"\x01\x55\x01\x00", 21),
    ("longer than the header: CVE-2005-0048", b"\x07\x05\x04\x00", 20),
    ("a type and no room for its length", b"\x01\x01\x01\x07", 23),
    ("record route of two bytes", b"\x07\x02\x00\x00", 21),
    ("record route, pointer 3", b"\x07\x07\x03" + EMPTY + b"\0", 22),
    ("record route, pointer 0", b"\x07\x07\x00" + EMPTY + b"\0", 22),
    ("record route, pointer into the last word", b"\x07\x07\x05" + EMPTY + b"\0", 22),
    ("record route twice", b"\x07\x03\x04\x07\x03\x04\x00\x00", 23),
    ("timestamp of three bytes", b"\x44\x03\x05\x00", 21),
    ("timestamp, pointer 4", b"\x44\x08\x04\x00" + EMPTY, 22),
    ("timestamp, half a place left", b"\x44\x08\x06\x00" + EMPTY, 22),
    ("timestamp and address, room for one of them", b"\x44\x08\x05\x01" + EMPTY, 22),
    ("timestamp prespecified, room for one", b"\x44\x08\x05\x03" + EMPTY, 22),
    ("timestamp overflow beyond 15", b"\x44\x08\x09\xf0" + EMPTY, 23),
    ("timestamp twice", b"\x44\x04\x05\x00\x44\x04\x05\x00", 24),
    ("loose source route of two bytes", b"\x83\x02\x00\x00", 21),
    ("strict source route, pointer 0", b"\x89\x07\x00" + THEIR + b"\0", 22),
    ("loose and strict source route: RFC 1812 5.2.4.1", b"\x83\x03\x04\x89\x03\x04\x00\x00", 23),
    ("router alert of three bytes", b"\x94\x03\x00\x00", 21),
]


@pytest.mark.parametrize(("what", "data", "pointer"), MALFORMED, ids=[row[0] for row in MALFORMED])
def test_malformed_options_are_told_with_the_place(what: str, data: bytes, pointer: int) -> None:
    """RFC 1122 3.2.2.5: Parameter Problem, "pointer identifies the octet where an error was detected"."""
    assert compiled(data).pp_ptr == pointer
    host = Host()
    host.start()
    host.rx(datagram(PEER, OURS, options=data))
    assert (host.drops.reasons, host.icmp.sent) == ([Reason.IP_OPTIONS], [(12, 0, pointer)])
    assert host.moved() == {"Ip.InReceives": 1, "Ip.InHdrErrors": 1}
    assert host.udp.got == [] and host.balanced()


#: what, bytes as received, bytes as delivered
FILLED = [
    ("nothing but no-operations", b"\x01\x01\x01\x01", b"\x01\x01\x01\x01"),
    ("the end, and what hides behind it", b"\x00\xaa\xbb\xcc", bytes(4)),
    ("unknown options are ignored", b"\x55\x04\xaa\xbb", b"\x55\x04\xaa\xbb"),
    ("security, RFC 1108, is not understood", b"\x82\x04\x01\x02", b"\x82\x04\x01\x02"),
    ("router alert", b"\x94\x04\0\0", b"\x94\x04\0\0"),
    ("record route, first place", b"\x07\x0b\x04" + EMPTY + EMPTY + b"\0", b"\x07\x0b\x08" + OUR + EMPTY + b"\0"),
    ("record route, last place", b"\x07\x0b\x08" + THEIR + EMPTY + b"\0", b"\x07\x0b\x0c" + THEIR + OUR + b"\0"),
    ("record route, full", b"\x07\x07\x08" + THEIR + b"\0", b"\x07\x07\x08" + THEIR + b"\0"),
    ("timestamp", b"\x44\x08\x05\0" + EMPTY, b"\x44\x08\x09\0" + TIME),
    ("timestamp and address", b"\x44\x0c\x05\x01" + EMPTY + EMPTY, b"\x44\x0c\x0d\x01" + OUR + TIME),
    ("timestamp for us", b"\x44\x0c\x05\x03" + OUR + EMPTY, b"\x44\x0c\x0d\x03" + OUR + TIME),
    ("timestamp for somebody else", b"\x44\x0c\x05\x03" + THEIR + EMPTY, b"\x44\x0c\x05\x03" + THEIR + EMPTY),
    ("timestamp, full: one more that could not", b"\x44\x08\x09\xe0" + TIME, b"\x44\x08\x09\xf0" + TIME),
    ("timestamp prespecified, full", b"\x44\x0c\x0d\xf3" + OUR + TIME, b"\x44\x0c\x0d\xf3" + OUR + TIME),
    ("timestamp of a kind nobody knows", b"\x44\x08\x05\x02" + EMPTY, b"\x44\x08\x05\x02" + EMPTY),
]


@pytest.mark.parametrize(("what", "data", "after"), FILLED, ids=[row[0] for row in FILLED])
def test_what_asks_for_us_is_filled_in(what: str, data: bytes, after: bytes) -> None:
    """In the header that is delivered; its checksum stays as it came, as in Linux (an error quotes it)."""
    opt = compiled(data)
    assert (opt.pp_ptr, bytes(opt.data)) == (NO_PROBLEM, after)
    host = Host()
    host.net.now = NOW
    host.start()
    sent = datagram(PEER, OURS, options=data)
    host.rx(sent + b"padding")
    (packet,) = host.udp.got
    network = packet.buf[packet.network_header : packet.end]
    assert network[20 : 20 + len(data)] == after and packet.payload() == b"muffin"
    assert network[:20] == sent[:20] and host.icmp.sent == []
    assert host.moved() == {"Ip.InReceives": 1, "Ip.InDelivers": 1} and host.balanced()


@pytest.mark.parametrize(
    ("data", "flags"),
    [
        (b"\x07\x07\x04" + EMPTY + b"\0", (20, 0, 0, 0, True, False, False)),
        (b"\x01\x07\x07\x04" + EMPTY, (21, 0, 0, 0, True, False, False)),
        (b"\x07\x03\x04\0", (20, 0, 0, 0, False, False, False)),
        (b"\x44\x08\x05\0" + EMPTY, (0, 20, 0, 0, False, True, False)),
        (b"\x44\x0c\x05\x01" + EMPTY + EMPTY, (0, 20, 0, 0, False, True, True)),
        (b"\x83\x07\x04" + THEIR + b"\0", (0, 0, 20, 0, False, False, False)),
        (b"\x94\x04\0\0", (0, 0, 0, 20, False, False, False)),
        (b"\x94\x04\0\x01", (0, 0, 0, 0, False, False, False)),  # RFC 2113: other values are reserved
    ],
)
def test_where_what_stands(data: bytes, flags: tuple[int, int, int, int, bool, bool, bool]) -> None:
    """struct ip_options."""
    opt = compiled(data)
    assert (opt.rr, opt.ts, opt.srr, opt.router_alert, opt.rr_needaddr, opt.ts_needtime, opt.ts_needaddr) == flags


@settings(max_examples=300)
@given(st.binary(max_size=40))
def test_no_bytes_whatever_raise_or_grow(data: bytes) -> None:
    """Whatever an attacker writes there: a fault within the header, or the same number of bytes."""
    data += bytes(-len(data) % 4)
    opt = compiled(data)
    assert opt.pp_ptr == NO_PROBLEM or 20 <= opt.pp_ptr < 20 + len(data)
    assert len(opt.data) == len(data) == len(ip_options_fragment(data))
    if opt.pp_ptr == NO_PROBLEM:
        echo = ip_options_echo(opt, HOST.routing)
        assert len(echo.data) <= 40 and len(echo.data) % 4 == 0
        assert len(ip_options_build(echo, PEER, OURS, NOW)) == len(echo.data)


@settings(max_examples=150)
@given(st.lists(st.sampled_from([b"\x07\x0b\x04", b"\x44\x0c\x05\x01", b"\x83\x07\x04", b"\x89", b"\x01", EMPTY, OUR])))
def test_no_mixture_raises(pieces: list[bytes]) -> None:
    """Options that begin rightly and go on as they like, through the whole of input and forwarding."""
    data = b"".join(pieces)[:40]
    data += bytes(-len(data) % 4)
    host = Host()
    host.net.conf.all.accept_source_route = 1
    host.net.conf.inet_forward_change(1)
    host.route("203.0.113.0/24", "198.51.100.1")
    for daddr in (OURS, FAR):
        host.rx(datagram(PEER, daddr, options=data))
    assert host.balanced()
    for sent in host.eth1.take():
        assert head(sent).header_len == 20 + len(data)


# -- ours


@pytest.mark.parametrize(
    "data",
    [
        b"\x07\x00\x04\x00",
        b"\x55\x04\0\0",  # without CAP_NET_RAW only what is understood
        b"\x83\x07\x08" + THEIR + b"\0",  # a source route begins at its first place
        b"\x83\x03\x04\0",
        b"\x83\x06\x04\0\0\0",
        b"\x44\x08\x05\x02" + EMPTY,
        bytes(41),
    ],
)
def test_ip_options_get_refuses(data: bytes) -> None:
    """setsockopt(IP_OPTIONS): EINVAL."""
    with pytest.raises(OSError) as failure:
        ip_options_get(data)
    assert failure.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    ("data", "sent"),
    [
        (b"", b""),
        (b"\x01", b"\x01\0\0\0"),
        (b"\x94\x04\0\0", b"\x94\x04\0\0"),
        (b"\x07\x0b\x04" + EMPTY + EMPTY, b"\x07\x0b\x08" + OUR + EMPTY + b"\0"),
        (b"\x44\x08\x05\0" + EMPTY, b"\x44\x08\x09\0" + TIME),
        (b"\x44\x0c\x05\x01" + EMPTY + EMPTY, b"\x44\x0c\x0d\x01" + OUR + TIME),
        (b"\x44\x0c\x05\x03" + THEIR + EMPTY, b"\x44\x0c\x05\x03" + THEIR + EMPTY),
        # two hops and the destination: the first hop is the header's, the destination comes last
        (b"\x83\x0b\x04" + THEIR + OUR, b"\x83\x0b\x04" + OUR + PEER.to_bytes(4, "big") + b"\0"),
    ],
)
def test_ip_options_build(data: bytes, sent: bytes) -> None:
    """What the kernel puts into every packet of a socket with IP_OPTIONS; the same each time."""
    opt = ip_options_get(data)
    for _ in range(2):
        assert ip_options_build(opt, PEER, OURS, NOW) == sent
    assert opt.faddr == (FAR if data[:1] == b"\x83" else 0)


@pytest.mark.parametrize(
    ("received", "answered"),
    [
        (b"\x01\x01\x01\0", b""),
        (b"\x94\x04\0\0", b""),
        # ping -R: we are recorded twice, as destination and as sender
        (b"\x07\x0f\x04" + bytes(12) + b"\0", b"\x07\x0f\x0c" + OUR + OUR + EMPTY + b"\0"),
        (b"\x07\x07\x04" + EMPTY + b"\0", b"\x07\x07\x08" + OUR + b"\0"),
        (b"\x44\x0c\x05\0" + EMPTY + EMPTY, b"\x44\x0c\x0d\0" + TIME + TIME),
        (b"\x83\x07\x08" + THEIR + b"\0", b""),  # a source route is not reversed
        (b"\x55\x04\0\0\x07\x07\x04" + EMPTY + b"\0", b"\x07\x07\x08" + OUR + b"\0"),
    ],
)
def test_ip_options_echo(received: bytes, answered: bytes) -> None:
    """RFC 1122 3.2.2.6: record route and timestamp of an echo request go on in the reply."""
    echo = ip_options_echo(compiled(received), HOST.routing)
    assert ip_options_build(echo, PEER, OURS, NOW) == answered


def test_an_answer_with_echoed_options() -> None:
    host = Host()
    echo = ip_options_echo(compiled(b"\x07\x0b\x04" + bytes(8) + b"\0"), host.routing)
    dst = host.routing.ip_route_output(Flow(PEER))
    host.ip_output.ip_build_and_send_pkt(Packet(b"reply"), dst, OURS, PEER, IPPROTO_ICMP, 0, 64, False, None, echo)
    (sent,) = host.eth0.take()
    assert sent[20:32] == b"\x07\x0b\x0c" + OUR + OUR + b"\0" and sent[32:] == b"reply" and head(sent).total_len == 37


def test_the_address_recorded_is_one_of_the_receiving_link_for_a_broadcast() -> None:
    """fib_compute_spec_dst: never the broadcast address itself."""
    host = Host()
    host.rx(datagram(PEER, a("192.0.2.255"), options=b"\x07\x07\x04" + EMPTY + b"\0"))
    (packet,) = host.udp.got
    assert packet.buf[34:42] == b"\x07\x07\x08" + OUR + b"\0"


def test_options_to_ourselves_survive_the_loopback() -> None:
    host = Host()
    dst = host.routing.ip_route_output(Flow(LOCALHOST))
    sk = host.sock()
    sk.inet_opt = ip_options_get(b"\x07\x0b\x04" + bytes(8))
    host.ip_output.ip_send_datagram(sk, dst, LOCALHOST, LOCALHOST, 17, b"12345678", 0, 0)
    host.poll()
    (packet,) = host.udp.got
    lo = LOCALHOST.to_bytes(4, "big")
    assert packet.buf[34:46] == b"\x07\x0b\x0c" + lo + lo + b"\0" and packet.payload() == b"12345678"


@pytest.mark.parametrize(("ns", "ms"), [(0, 0), (999_999, 0), (1_000_000, 1), (0x8000_0001 * NSEC_PER_MSEC, 1)])
def test_times_say_that_they_know_no_midnight(ns: int, ms: int) -> None:
    """RFC 791: "any time may be inserted as a timestamp provided the high order bit [...] is set to one"."""
    assert timestamp(ns) == 0x8000_0000 | ms
