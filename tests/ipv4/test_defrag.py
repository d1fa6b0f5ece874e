"""Reassembly (RFC 791 section 3.2, RFC 815; Linux net/ipv4/ip_fragment.c)."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from librt.strings import BytesWriter
from mypy_extensions import i64

from ustack.device.net_device import NetDevice
from ustack.drop import Reason
from ustack.dst import RTN_LOCAL, RTN_UNICAST, Dst
from ustack.ipv4.defrag import Defrag
from ustack.net import IcmpSender, Net
from ustack.packet import CHECKSUM_NONE, CHECKSUM_UNNECESSARY, SKB_OVERHEAD, Packet
from ustack.timer import NSEC_PER_SEC
from ustack.wire import ipv4
from ustack.wire.ipv4 import IP_DF, IP_MF, str_to_addr

SRC = str_to_addr("192.0.2.1")
DST = str_to_addr("192.0.2.2")
ETHERNET = bytes(range(14))


class Errors(IcmpSender):
    """Notes what would be sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[Packet, int, int]] = []

    def icmp_send(self, packet: Packet, icmp_type: i64, code: i64, info: i64) -> None:
        self.sent.append((packet, int(icmp_type), int(code)))


class Bench:
    """A Defrag and the fragments to feed it."""

    def __init__(self) -> None:
        self.net = Net(bytes(16))
        self.errors = Errors()
        self.net.icmp = self.errors
        self.defrag = Defrag(self.net)
        self.dev = NetDevice("eth0", 0x020000000002)
        self.before = self.net.mib.snapshot()

    def fragment(
        self,
        offset: int,
        payload: bytes,
        more: bool,
        ident: int = 7,
        src: int = SRC,
        tos: int = 0,
        df: bool = False,
        options: bytes = b"",
        protocol: int = 17,
        rt_type: int = RTN_LOCAL,
    ) -> Packet:
        out = BytesWriter()
        out.write(ETHERNET)
        frag_off = offset >> 3 | (IP_MF if more else 0) | (IP_DF if df else 0)
        total = 20 + len(options) + len(payload)
        ipv4.emit(out, tos, total, ident, frag_off, 64, protocol, src, DST, options)
        out.write(payload)
        packet = Packet(out.getvalue(), self.dev)
        packet.network_header = packet.data = 14
        packet.iph = ipv4.parse(packet.buf, 14, packet.end)
        packet.dst = Dst(rt_type, self.dev, 0)
        packet.transport_header = 34 + len(options)
        return packet

    def feed(self, packet: Packet) -> Packet | None:
        self.net.receive(packet)
        whole = self.defrag.ip_defrag(packet)
        self.balance(1 if whole is not None else 0)
        return whole

    def balance(self, out: int = 0) -> None:
        """received = delivered + dropped + queued + handed back, at any time."""
        path = self.net.mib.path
        self.open = getattr(self, "open", 0) + out
        assert path.received == path.delivered + path.dropped + len(self.defrag) + self.open

    def moved(self) -> dict[str, int]:
        """The counters that moved, those of the path aside."""
        after = self.net.mib.snapshot()
        return {k: after[k] - v for k, v in self.before.items() if after[k] != v and not k.startswith("Path.")}

    def wait(self, seconds: int) -> None:
        self.net.now += seconds * NSEC_PER_SEC
        self.net.timers.run(self.net.now)
        self.balance()


def payload_of(packet: Packet | None) -> bytes:
    assert packet is not None and packet.iph is not None
    return packet.buf[packet.iph.start + packet.iph.header_len : packet.end]


def cut(data: bytes, size: int) -> list[tuple[int, bytes, bool]]:
    return [(at, data[at : at + size], at + size < len(data)) for at in range(0, len(data), size)]


# -- the whole


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_fragments_in_any_order_make_the_datagram(order: tuple[int, ...]) -> None:
    bench = Bench()
    data = bytes(range(256)) * 4
    pieces = cut(data, 256)
    answers = [bench.feed(bench.fragment(*pieces[i])) for i in order]
    assert answers[:3] == [None, None, None]
    assert payload_of(answers[3]) == data
    assert bench.moved() == {"Ip.ReasmReqds": 4, "Ip.ReasmOKs": 1}
    assert (len(bench.defrag), bench.defrag.memory, bench.defrag.queues, bench.defrag.peers) == (0, 0, {}, {})


def test_the_whole_has_a_header_that_fits_it() -> None:
    """ip_frag_reasm: the whole's length and checksum, no fragment bits; the first fragment's options, link header."""
    bench = Bench()
    options = bytes((7, 7, 4, 0, 0, 0, 0, 0))
    assert bench.feed(bench.fragment(16, b"b" * 3, False)) is None
    whole = bench.feed(bench.fragment(0, b"a" * 16, True, options=options))
    assert whole is not None and whole.iph is not None
    iph = whole.iph
    assert (iph.total_len, iph.frag_off, iph.header_len, iph.ident) == (28 + 19, 0, 28, 7)
    assert ipv4.checksum_ok(whole.buf, iph)
    assert whole.buf[:14] == ETHERNET and whole.buf[34:42] == options
    assert (whole.data, whole.network_header, whole.transport_header, whole.end) == (14, 14, 42, len(whole.buf))


def test_each_fragment_ends_once() -> None:
    """The whole goes on with one packet's accounting, the others have arrived with it (decision 7)."""
    bench = Bench()
    for piece in cut(bytes(4000), 1000):
        whole = bench.feed(bench.fragment(*piece))
    assert whole is not None and whole.accounted
    assert (bench.net.mib.path.delivered, bench.net.mib.path.dropped) == (3, 0)
    bench.net.deliver(whole)
    assert bench.net.mib.path.delivered == bench.net.mib.path.received == 4


def test_the_largest_datagram_there_is() -> None:
    bench = Bench()
    data = random.Random(1).randbytes(65515)
    whole = [bench.feed(bench.fragment(*piece)) for piece in cut(data, 1480)][-1]
    assert payload_of(whole) == data


@pytest.mark.parametrize("key", [{"ident": 8}, {"src": SRC + 1}, {"protocol": 6}])
def test_fragments_of_different_datagrams_do_not_mix(key: dict[str, int]) -> None:
    """RFC 791 3.2: identification, source, destination and protocol together tell datagrams apart."""
    bench = Bench()
    assert bench.feed(bench.fragment(0, bytes(8), True)) is None
    assert bench.feed(bench.fragment(8, bytes(8), False, **key)) is None  # type: ignore[arg-type]
    assert len(bench.defrag.queues) == 2


def test_fragments_may_come_by_different_devices() -> None:
    """As in Linux: a datagram that took two paths is one datagram."""
    bench = Bench()
    bench.feed(bench.fragment(0, bytes(8), True))
    other = bench.fragment(8, bytes(8), False)
    other.dev = other.in_dev = NetDevice("eth1", 0x020000000003)
    assert bench.feed(other) is not None


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (CHECKSUM_UNNECESSARY, CHECKSUM_UNNECESSARY, CHECKSUM_UNNECESSARY),
        (CHECKSUM_UNNECESSARY, CHECKSUM_NONE, CHECKSUM_NONE),
        (CHECKSUM_NONE, CHECKSUM_NONE, CHECKSUM_NONE),
    ],
)
def test_a_checksum_is_vouched_for_only_if_every_fragment_was(first: int, second: int, expected: int) -> None:
    bench = Bench()
    a, b = bench.fragment(0, bytes(8), True), bench.fragment(8, bytes(8), False)
    a.ip_summed, b.ip_summed = first, second
    bench.feed(a)
    whole = bench.feed(b)
    assert whole is not None and whole.ip_summed == expected


@pytest.mark.parametrize(("df", "expected"), [((True, True), IP_DF), ((False, True), 0), ((False, False), 0)])
def test_dont_fragment_survives_if_the_largest_fragment_had_it(df: tuple[bool, bool], expected: int) -> None:
    bench = Bench()
    bench.feed(bench.fragment(0, bytes(16), True, df=df[0]))
    whole = bench.feed(bench.fragment(16, bytes(8), False, df=df[1]))
    assert whole is not None and whole.iph is not None and whole.iph.frag_off == expected


@pytest.mark.parametrize(
    ("tos", "expected"),
    [((0, 0), 0), ((2, 2), 2), ((2, 3), 3), ((3, 1), 3), ((1, 1), 1), ((0, 3), None), ((0, 2), None), ((1, 0), None)],
)
def test_congestion_marks_are_not_lost(tos: tuple[int, int], expected: int | None) -> None:
    """RFC 3168 5.3: CE on the whole if on any; never together with Not-ECT (ip_frag_ecn_table)."""
    bench = Bench()
    bench.feed(bench.fragment(0, bytes(8), True, tos=tos[0]))
    whole = bench.feed(bench.fragment(8, bytes(8), False, tos=tos[1]))
    if expected is None:
        assert whole is None
        assert bench.moved() == {"Ip.ReasmReqds": 2, "Ip.ReasmFails": 1}
    else:
        assert whole is not None and whole.iph is not None and whole.iph.tos == expected


# -- what is wrong with a fragment


def test_an_exact_duplicate_is_ignored() -> None:
    """inet_frag_queue_insert: IPFRAG_DUP; the network may duplicate, that is no attack."""
    bench = Bench()
    bench.feed(bench.fragment(0, b"a" * 8, True))
    assert bench.feed(bench.fragment(0, b"a" * 8, True)) is None
    assert bench.net.drops == {Reason.DUP_FRAG: 1}
    assert payload_of(bench.feed(bench.fragment(8, b"b" * 8, False))) == b"a" * 8 + b"b" * 8
    assert bench.moved() == {"Ip.ReasmReqds": 3, "Ip.ReasmOKs": 1}


def test_what_lies_within_what_came_before_is_a_duplicate_and_changes_nothing() -> None:
    """Teardrop (CVE-1999-0015): the second fragment wholly inside the first."""
    bench = Bench()
    bench.feed(bench.fragment(0, b"a" * 32, True))
    assert bench.feed(bench.fragment(8, b"X" * 8, True)) is None
    assert payload_of(bench.feed(bench.fragment(32, b"b", False))) == b"a" * 32 + b"b"


@pytest.mark.parametrize(
    ("offset", "length", "more"),
    [(8, 16, True), (0, 24, True), (40, 16, True), (24, 24, True), (8, 40, True), (40, 20, False)],
)
def test_any_other_overlap_discards_the_datagram(offset: int, length: int, more: bool) -> None:
    """RFC 5722's rule for IPv6, which Linux keeps for IPv4 too: no reassembly of what overlaps (CVE-2012-4444)."""
    bench = Bench()
    bench.feed(bench.fragment(0, bytes(16), True))
    bench.feed(bench.fragment(32, bytes(16), True))
    assert bench.feed(bench.fragment(offset, b"X" * length, more)) is None
    assert bench.moved() == {"Ip.ReasmReqds": 3, "Ip.ReasmOverlaps": 1, "Ip.ReasmFails": 1}
    assert bench.net.drops == {Reason.FRAG_OVERLAP: 1, Reason.FRAG_QUEUE_FREED: 2}
    assert len(bench.defrag) == 0 and bench.errors.sent == []
    # and nothing of it is left to be completed
    assert bench.feed(bench.fragment(16, bytes(16), True)) is None


@pytest.mark.parametrize(
    "pieces",
    [
        [(65528, 9, False)],  # beyond what a length can say: the ping of death
        [(65512, 16, True)],
        [(0, 0, True)],
        [(8, 0, False)],
        [(0, 7, True)],  # no multiple of eight, nothing left
        [(16, 8, False), (32, 8, True)],  # bits beyond the end
        [(16, 8, False), (32, 8, False)],  # two ends
        [(32, 8, True), (0, 8, False)],
    ],
)
def test_lengths_that_cannot_be_fail_the_datagram(pieces: list[tuple[int, int, bool]]) -> None:
    """Ping of death (CVE-1999-0128), Bonk, Jolt: an end beyond 65,535, an empty fragment, ends that disagree."""
    bench = Bench()
    for offset, length, more in pieces:
        assert bench.feed(bench.fragment(offset, bytes(length), more)) is None
    assert bench.moved() == {"Ip.ReasmReqds": len(pieces), "Ip.ReasmFails": 1}
    assert bench.net.drops[Reason.FRAG_INVALID] == 1
    assert (len(bench.defrag), bench.defrag.queues, bench.errors.sent) == (0, {}, [])


def test_what_is_over_a_multiple_of_eight_is_cut() -> None:
    """ip_frag_queue: "end &= ~7" for all but the last fragment."""
    bench = Bench()
    bench.feed(bench.fragment(0, b"a" * 8 + b"XYZ", True))
    assert payload_of(bench.feed(bench.fragment(8, b"b", False))) == b"a" * 8 + b"b"


# -- time


def test_time_exceeded_after_thirty_seconds_if_the_first_fragment_came() -> None:
    """RFC 792: "if fragment zero is not available then no time exceeded need be sent at all"; RFC 1122 3.3.2."""
    bench = Bench()
    first = bench.fragment(0, bytes(8), True)
    bench.feed(first)
    bench.feed(bench.fragment(16, bytes(8), True))
    bench.wait(29)
    assert bench.errors.sent == [] and len(bench.defrag) == 2
    bench.wait(1)
    assert bench.errors.sent == [(first, 11, 1)]
    assert bench.moved() == {"Ip.ReasmReqds": 2, "Ip.ReasmTimeout": 1, "Ip.ReasmFails": 1}
    assert bench.net.drops == {Reason.FRAG_REASM_TIMEOUT: 1, Reason.FRAG_QUEUE_FREED: 1}
    assert len(bench.defrag) == 0


def test_no_time_exceeded_without_the_first_fragment() -> None:
    bench = Bench()
    bench.feed(bench.fragment(8, bytes(8), True))
    bench.wait(31)
    assert bench.errors.sent == [] and bench.moved()["Ip.ReasmTimeout"] == 1


def test_no_time_exceeded_for_what_was_not_for_us() -> None:
    """CVE-2011-1927: only the destination host answers."""
    bench = Bench()
    bench.feed(bench.fragment(0, bytes(8), True, rt_type=RTN_UNICAST))
    unrouted = bench.fragment(0, bytes(8), True, ident=9)
    unrouted.dst = None
    bench.feed(unrouted)
    bench.wait(31)
    assert bench.errors.sent == [] and bench.moved()["Ip.ReasmTimeout"] == 2


def test_each_datagram_has_its_own_thirty_seconds() -> None:
    bench = Bench()
    bench.feed(bench.fragment(0, bytes(8), True, ident=1))
    bench.wait(20)
    bench.feed(bench.fragment(0, bytes(8), True, ident=2))
    bench.wait(10)
    assert len(bench.defrag) == 1
    assert bench.net.timers.next_deadline() == 50 * NSEC_PER_SEC
    bench.wait(20)
    assert len(bench.defrag) == 0 and len(bench.errors.sent) == 2


def test_a_finished_datagram_leaves_nothing_to_time_out() -> None:
    bench = Bench()
    bench.feed(bench.fragment(0, bytes(8), True))
    bench.feed(bench.fragment(8, bytes(8), False))
    bench.wait(100)
    assert bench.errors.sent == [] and "Ip.ReasmTimeout" not in bench.moved()


def test_timers_do_not_pile_up() -> None:
    """One timer for all: a flood of datagrams that complete must not leave thirty seconds' worth of timers behind."""
    bench = Bench()
    for ident in range(500):
        bench.feed(bench.fragment(0, bytes(8), True, ident=ident))
        bench.feed(bench.fragment(8, bytes(8), False, ident=ident))
    assert bench.net.timers.run(60 * NSEC_PER_SEC) == 1


# -- bounds


def test_memory_is_capped_and_the_oldest_makes_room() -> None:
    """Rose attack (CVE-2004-0744): datagrams that never end must not keep new ones out (ip_evictor)."""
    bench = Bench()
    bench.net.sysctl.ipfrag_high_thresh = 10 * (SKB_OVERHEAD + 14 + 20 + 8)
    for ident in range(100):
        bench.feed(bench.fragment(0, bytes(8), True, ident=ident))
        assert bench.defrag.memory <= bench.net.sysctl.ipfrag_high_thresh
    assert len(bench.defrag) == 10 and bench.defrag.evictions == 90
    assert bench.moved() == {"Ip.ReasmReqds": 100, "Ip.ReasmFails": 90}
    assert bench.net.drops == {Reason.FRAG_NOMEM: 90}
    assert bench.feed(bench.fragment(8, bytes(8), False, ident=99)) is not None


def test_one_datagram_cannot_have_more_than_there_is() -> None:
    bench = Bench()
    bench.net.sysctl.ipfrag_high_thresh = 5000
    for offset in range(0, 1600, 16):
        bench.feed(bench.fragment(offset, bytes(8), True))
        assert bench.defrag.memory <= 5000
    assert bench.net.drops[Reason.FRAG_NOMEM] > 1
    assert bench.net.drops[Reason.FRAG_NOMEM] == bench.moved()["Ip.ReasmFails"] == bench.defrag.evictions


def test_a_source_that_sends_too_much_in_between_loses_the_older_fragments() -> None:
    """ip_frag_too_far: after 64 others the identification may have come round (RFC 4963)."""
    bench = Bench()
    bench.feed(bench.fragment(0, b"old!old!", True, ident=1))
    for ident in range(2, 66):
        bench.feed(bench.fragment(0, bytes(8), True, ident=ident))
    assert bench.feed(bench.fragment(8, b"new", False, ident=1)) is None
    assert bench.net.drops == {Reason.FRAG_TOO_FAR: 1} and bench.moved()["Ip.ReasmFails"] == 1
    assert payload_of(bench.feed(bench.fragment(0, b"new!new!", True, ident=1))) == b"new!new!new"


@pytest.mark.parametrize(("others", "max_dist"), [(63, 64), (500, 0)])
def test_within_the_distance_or_without_one_they_are_kept(others: int, max_dist: int) -> None:
    bench = Bench()
    bench.net.sysctl.ipfrag_max_dist = max_dist
    bench.feed(bench.fragment(0, bytes(8), True, ident=1))
    for ident in range(2, 2 + others):
        bench.feed(bench.fragment(0, bytes(8), True, ident=ident))
    assert bench.feed(bench.fragment(8, bytes(8), False, ident=1)) is not None


def test_another_source_does_not_count_towards_the_distance() -> None:
    bench = Bench()
    bench.feed(bench.fragment(0, bytes(8), True, ident=1))
    for ident in range(200):
        bench.feed(bench.fragment(0, bytes(8), True, ident=ident, src=SRC + 1))
    assert bench.feed(bench.fragment(8, bytes(8), False, ident=1)) is not None


def test_tiny_fragments_in_the_worst_order_cost_runs_not_scans() -> None:
    """FragmentSmack (CVE-2018-5391): every other fragment first, then the gaps; the runs merge to one."""
    bench = Bench()
    data = random.Random(2).randbytes(8 * 4000)
    bench.net.sysctl.ipfrag_max_dist = 0
    pieces = cut(data, 8)
    for piece in pieces[::2]:
        bench.feed(bench.fragment(*piece))
    queue = next(iter(bench.defrag.queues.values()))
    assert len(queue.starts) == len(queue.ends) == 2000
    answers = [bench.feed(bench.fragment(*piece)) for piece in reversed(pieces[1::2])]
    assert payload_of(answers[-1]) == data
    assert (queue.starts, queue.ends) == ([0], [len(data)])


def test_closing_the_stack_loses_what_is_held() -> None:
    bench = Bench()
    for ident in range(3):
        bench.feed(bench.fragment(0, bytes(8), True, ident=ident))
    bench.defrag.flush()
    bench.balance()
    assert bench.net.drops == {Reason.STACK_CLOSED: 3} and bench.moved() == {"Ip.ReasmReqds": 3}


# -- properties


@settings(max_examples=60)
@given(st.binary(min_size=9, max_size=400), st.lists(st.integers(1, 49), max_size=8), st.randoms(use_true_random=False))
def test_any_cut_in_any_order_with_any_duplicates_comes_out_whole(
    data: bytes, cuts: list[int], shuffle: random.Random
) -> None:
    bench = Bench()
    edges = sorted({0, *(8 * c for c in cuts if 8 * c < len(data)), len(data)})
    pieces = [(a, data[a:b], b < len(data)) for a, b in itertools.pairwise(edges)]
    if len(pieces) < 2:
        return
    sent = pieces[:-1] + shuffle.choices(pieces[:-1], k=3)
    shuffle.shuffle(sent)
    for piece in sent:
        assert bench.feed(bench.fragment(*piece)) is None
    assert payload_of(bench.feed(bench.fragment(*pieces[-1]))) == data
    assert bench.defrag.memory == 0


@settings(max_examples=80)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 40), st.booleans(), st.integers(0, 1)), max_size=30),
    st.integers(1200, 8000),
)
def test_no_fragments_whatever_leak_or_raise(fragments: list[tuple[int, int, bool, int]], memory: int) -> None:
    bench = Bench()
    bench.net.sysctl.ipfrag_high_thresh = memory
    for offset, length, more, ident in fragments:
        whole = bench.feed(bench.fragment(8 * offset, bytes(length), more, ident=ident))
        if whole is not None:
            assert whole.iph is not None and whole.iph.total_len == whole.end - 14
        for queue in bench.defrag.queues.values():
            assert all(a < b for a, b in zip(queue.starts, queue.ends, strict=True))
            assert all(b < a for b, a in zip(queue.ends, queue.starts[1:], strict=False))
    bench.wait(31)
    assert (len(bench.defrag), bench.defrag.memory, bench.defrag.queues, bench.defrag.peers) == (0, 0, {}, {})
