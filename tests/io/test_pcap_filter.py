"""Filters as libpcap compiles them, run by our machine: libpcap's own is the judge."""

from __future__ import annotations

import ctypes
from random import Random
from struct import pack

import pytest

from tests.frames import Frames
from ustack.io.pcap_filter import NAMES, BpfInsn, FilterError, check, compile_filter, compile_with, libpcap
from ustack.trace.bpf import BPF_MAXINSNS, BPF_MEMWORDS, KNOWN, Filter, Instruction

FILTERS = [
    "",
    "arp",
    "ip",
    "udp",
    "tcp or icmp",
    "not tcp",
    "udp port 7",
    "tcp dst port 80",
    "tcp portrange 1-1024",
    "src host 192.0.2.1",
    "dst net 198.51.100.0/24",
    "host 192.0.2.1 and not 192.0.2.2",
    "ether host 02:00:00:00:00:01",
    "ether broadcast",
    "ether multicast",
    "ether proto 0x0806",
    "ip multicast",
    "ip[6:2] & 0x1fff != 0",
    "ip[0] & 0xf != 5",
    "ip proto 17 and len > 100",
    "less 60",
    "greater 200",
    "icmp[icmptype] = icmp-echo",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420",
    "udp[4:2] * 2 > ip[2:2] - 4",
    "arp[6:2] = 1 and arp host 192.0.2.1",
    "ip[8] % 7 = 1 or ip[9] ^ 6 = 0",
    "vlan and ip",
    "ether[100:4] = 0",
]


@pytest.fixture(scope="module")
def pcap() -> ctypes.CDLL:
    try:
        library = libpcap()
    except FilterError as reason:
        pytest.skip(str(reason))
    library.bpf_filter.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint, ctypes.c_uint]
    library.bpf_filter.restype = ctypes.c_uint
    return library


def judge(pcap: ctypes.CDLL, program: list[Instruction], frame: bytes, length: int) -> int:
    """What libpcap's machine says."""
    insns = (BpfInsn * len(program))(*[BpfInsn(*insn) for insn in program])
    return int(pcap.bpf_filter(insns, frame, length, len(frame)))


# -- what people write


@pytest.mark.parametrize("text", FILTERS)
def test_every_filter_accepts_the_frames_that_libpcap_accepts(pcap: ctypes.CDLL, text: str) -> None:
    program = compile_filter(text)
    ours = Filter(program)
    supply = Frames(Random(1))
    accepted = 0
    for _ in range(150):
        frame = supply.frame()
        verdict = int(ours.run(frame, len(frame)))
        assert verdict == judge(pcap, program, frame, len(frame)), (text, frame)
        accepted += verdict != 0
    # all the parts of the language that were asked about were met
    assert accepted or "ether[100" in text or "vlan" in text or "0x47455420" in text


def test_a_frame_that_was_cut_is_judged_as_libpcap_does(pcap: ctypes.CDLL) -> None:
    random = Random(2)
    supply = Frames(random)
    for text in FILTERS:
        program = compile_filter(text)
        ours = Filter(program)
        for _ in range(20):
            frame = supply.frame()
            length = len(frame) + random.randrange(2000)
            frame = frame[: random.randrange(len(frame) + 1)]
            assert int(ours.run(frame, length)) == judge(pcap, program, frame, length), (text, frame)


# -- what nobody writes


def random_program(random: Random) -> list[Instruction]:
    """Ends, jumps and memory are right; what the kernel does otherwise than libpcap (shifts from 32 on, indexes that
    wrap, ancillary loads) does not come up."""
    program: list[Instruction] = [(0x02, 0, 0, word) for word in range(BPF_MEMWORDS)]
    codes = sorted(KNOWN)
    count = random.randrange(1, 40)
    for left in range(count, 0, -1):
        code = random.choice(codes)
        k = random.choice((random.randrange(80), random.randrange(1, 1 << 31)))
        if code & 7 in (2, 3) or code & 0xE7 in (0x60, 0x61):
            k %= BPF_MEMWORDS
        elif code & 0xE7 == 0x40 or code in (0x6C, 0x7C):
            code, k = 0x20, random.randrange(80)
        elif code in (0x64, 0x74):
            k %= 32
        elif code in (0x34, 0x94):
            k += 1
        elif code == 0x05:
            k = random.randrange(min(left, 3))
        program.append((code, random.randrange(min(left, 4)), random.randrange(min(left, 4)), k))
    return [*program, (0x16, 0, 0, 0)]


def test_random_programs_end_as_in_libpcap(pcap: ctypes.CDLL) -> None:
    random = Random(3)
    verdicts = set()
    for _ in range(1000):
        program = random_program(random)
        frame = random.randbytes(random.choice((0, 14, 60, 90)))
        verdict = int(Filter(program).run(frame, 1500))
        assert verdict == judge(pcap, program, frame, 1500), program
        verdicts.add(verdict)
    assert len(verdicts) > 100


# -- what cannot be compiled


@pytest.mark.parametrize(
    "text",
    ["host", "nonsense", "ip broadcast", "udp \udc80", "udp and (", "port 70000", "udp\0port 7", "ip6 host 192.0.2.1"],
)
def test_a_mistake_is_one_line(pcap: ctypes.CDLL, text: str) -> None:
    with pytest.raises(FilterError) as caught:
        compile_filter(text)
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_a_frame_alone_does_not_tell_is_a_mistake(pcap: ctypes.CDLL) -> None:
    with pytest.raises(FilterError, match="a frame alone does not tell"):
        compile_filter("inbound")


def test_long_filters(pcap: ctypes.CDLL) -> None:
    program = compile_filter(" or ".join(f"host 192.0.2.{host}" for host in range(180, 250)))
    ours = Filter(program)
    assert len(program) > 100
    frame = bytes(12) + pack(">HBBHHHBBHII", 0x800, 0x45, 0, 20, 0, 0, 64, 17, 0, 0xC000_02F0, 0xCB00_7101)
    assert ours.run(frame, len(frame)) != 0
    frame = frame.replace(b"\xc0\x00\x02\xf0", b"\xc0\x00\x03\xf0")
    assert ours.run(frame, len(frame)) == 0


def test_more_instructions_than_may_run_are_a_mistake() -> None:
    """Before the daemon is asked."""
    check("long", [(0x06, 0, 0, 1)] * BPF_MAXINSNS)
    with pytest.raises(FilterError, match="^filter of 4097 instructions: 4096 are the most$"):
        check("long", [(0x06, 0, 0, 1)] * (BPF_MAXINSNS + 1))


def test_no_words_need_no_libpcap(pcap: ctypes.CDLL) -> None:
    """What it would have compiled."""
    handle = pcap.pcap_open_dead(1, 262_144)
    for text in ("", " "):
        assert compile_filter(text) == compile_with(pcap, handle, text)
    pcap.pcap_close(handle)


def test_without_libpcap_it_is_said_what_to_install() -> None:
    assert NAMES[0] == "libpcap.so.0.8"  # the file of Debian's package that the message names
    with pytest.raises(FilterError, match="libpcap0.8"):
        libpcap(())
