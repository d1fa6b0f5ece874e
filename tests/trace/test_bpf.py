"""The classic BPF machine: each instruction, each rule of the kernel's check, and that nothing makes it raise.

That it agrees with libpcap's own is tests/io/test_pcap_filter.py's.
"""

from __future__ import annotations

import errno
from random import Random

import pytest

from ustack.trace import bpf
from ustack.trace.bpf import BPF_MAXINSNS, BPF_MEMWORDS, KNOWN, Filter, Instruction

FRAME = bytes(range(0x10, 0x40))
LENGTH = 1000

LD, LDX, ST, STX, ALU, JMP, RET, MISC = range(8)
W, H, B = 0x00, 0x08, 0x10
IMM, ABS, IND, MEM, LEN, MSH = 0x00, 0x20, 0x40, 0x60, 0x80, 0xA0
ADD, SUB, MUL, DIV, OR, AND, LSH, RSH, NEG, MOD, XOR = range(0x00, 0xB0, 0x10)
JA, JEQ, JGT, JGE, JSET = range(0x00, 0x50, 0x10)
X = 0x08
RET_A: Instruction = (RET | 0x10, 0, 0, 0)
RET_K: Instruction = (RET, 0, 0, 7)
TAX: Instruction = (MISC, 0, 0, 0)
TXA: Instruction = (MISC | 0x80, 0, 0, 0)
TOP = 0xFFFF_FFFF


def insn(code: int, k: int = 0, jt: int = 0, jf: int = 0) -> Instruction:
    return (code, jt, jf, k)


def run(*program: Instruction, frame: bytes = FRAME, length: int = LENGTH) -> int:
    return int(Filter(list(program)).run(frame, length))


def refused(*program: Instruction) -> bool:
    try:
        Filter(list(program))
    except OSError as reason:
        assert reason.errno == errno.EINVAL
        return True
    return False


# -- what each instruction does


@pytest.mark.parametrize(
    ("load", "value"),
    [
        (insn(LD | W | ABS, 4), 0x14151617),
        (insn(LD | H | ABS, 4), 0x1415),
        (insn(LD | B | ABS, 4), 0x14),
        (insn(LD | W | ABS, 44), 0x3C3D3E3F),
        (insn(LD | H | ABS, 46), 0x3E3F),
        (insn(LD | B | ABS, 47), 0x3F),
        (insn(LD | W | IND, 4), 0x16171819),
        (insn(LD | H | IND, 4), 0x1617),
        (insn(LD | B | IND, 4), 0x16),
        (insn(LD | IMM, TOP), TOP),
        (insn(LD | LEN), LENGTH),
    ],
)
def test_loads(load: Instruction, value: int) -> None:
    assert run(insn(LDX | IMM, 2), load, RET_A) == value


@pytest.mark.parametrize("width", [W, H, B])
def test_a_load_beyond_the_frame_is_a_no(width: int) -> None:
    """Not even the part of it that is there counts, nor how long the frame was on the wire."""
    last = len(FRAME) - {W: 4, H: 2, B: 1}[width]
    for mode in (ABS, IND):
        assert run(insn(LD | width | mode, last), insn(RET, 5)) == 5
        for offset in (last + 1, LENGTH - 4, 0x7FFF_FFFF, 0x8000_0000):
            assert run(insn(LD | width | mode, offset), insn(RET, 5)) == 0
        assert run(insn(LD | width | mode, 0), insn(RET, 5), frame=b"") == 0


def test_an_index_wraps_as_the_kernels() -> None:
    """bpf_gen_ld_abs adds in 32 bits."""
    assert run(insn(LDX | IMM, TOP), insn(LD | B | IND, 3), RET_A) == FRAME[2]


def test_header_length_load() -> None:
    """ldx 4*([k]&0xf), what every filter finds the transport header with."""
    assert run(insn(LDX | B | MSH, 0x5), TXA, RET_A) == 4 * 5
    assert run(insn(LDX | B | MSH, len(FRAME)), RET_K) == 0
    assert run(insn(LDX | B | MSH, TOP), RET_K) == 0


def test_index_register_loads() -> None:
    assert run(insn(LDX | IMM, 9), TXA, RET_A) == 9
    assert run(insn(LDX | LEN), TXA, RET_A) == LENGTH


def test_memory() -> None:
    program = [insn(LD | IMM, 5), insn(LDX | IMM, 6)]
    program += [insn(ST, 0), insn(STX, 15), insn(LD | MEM, 15), insn(LDX | MEM, 0)]
    assert run(*program, RET_A) == 6
    assert run(*program, TXA, RET_A) == 5


@pytest.mark.parametrize(
    ("operation", "a", "value", "result"),
    [
        (ADD, TOP, 2, 1),
        (SUB, 1, 2, TOP),
        (MUL, TOP, TOP, 1),
        (MUL, 0x1234_5678, 0x9ABC_DEF0, 0x1234_5678 * 0x9ABC_DEF0 & TOP),
        (DIV, TOP, 2, 0x7FFF_FFFF),
        (MOD, TOP, 16, 15),
        (OR, 0xF0, 0x0F, 0xFF),
        (AND, 0xF3, 0x3F, 0x33),
        (XOR, 0xFF, 0x0F, 0xF0),
        (LSH, TOP, 31, 0x8000_0000),
        (LSH, 3, 0, 3),
        (RSH, TOP, 31, 1),
    ],
)
def test_arithmetic(operation: int, a: int, value: int, result: int) -> None:
    """Modulo 2**32, with a constant and with X."""
    assert run(insn(LD | IMM, a), insn(ALU | operation, value), RET_A) == result
    assert run(insn(LD | IMM, a), insn(LDX | IMM, value), insn(ALU | operation | X), RET_A) == result


def test_negation() -> None:
    assert run(insn(LD | IMM, 1), insn(ALU | NEG), RET_A) == TOP
    assert run(insn(ALU | NEG), RET_A) == 0


def test_division_by_an_x_of_zero_is_a_no() -> None:
    for operation in (DIV, MOD):
        assert run(insn(LD | IMM, 4), insn(ALU | operation | X), RET_K) == 0


def test_shifts_by_x_count_modulo_32() -> None:
    for operation in (LSH, RSH):
        assert run(insn(LD | IMM, 4), insn(LDX | IMM, 33), insn(ALU | operation | X), RET_A) in (8, 2)


@pytest.mark.parametrize(
    ("test", "a", "value", "true"),
    [
        (JEQ, 5, 5, True),
        (JEQ, 5, 6, False),
        (JGT, 6, 5, True),
        (JGT, 5, 5, False),
        (JGT, TOP, 5, True),
        (JGE, 5, 5, True),
        (JGE, 4, 5, False),
        (JSET, 6, 2, True),
        (JSET, 6, 1, False),
    ],
)
def test_jumps(test: int, a: int, value: int, true: bool) -> None:
    """Unsigned comparisons, with a constant and with X."""
    ways = [insn(RET, 10), insn(RET, 20), insn(RET, 30)]
    begin = [insn(LD | IMM, a), insn(LDX | IMM, value)]
    assert run(*begin, insn(JMP | test, value, 1, 2), *ways) == (20 if true else 30)
    assert run(*begin, insn(JMP | test | X, 0, 1, 2), *ways) == (20 if true else 30)
    assert run(*begin, insn(JMP | test | X, 0, 2, 0), *ways) == (30 if true else 10)


def test_jump_always() -> None:
    assert run(insn(JMP | JA, 1), insn(RET, 10), insn(RET, 20)) == 20


def test_registers_move_and_begin_at_zero() -> None:
    assert run(RET_A) == 0
    assert run(TXA, RET_A) == 0
    assert run(insn(LD | IMM, 3), TAX, insn(LD | IMM, 4), TXA, RET_A) == 3


def test_nothing_stays_from_one_frame_to_the_next() -> None:
    program = Filter([insn(ALU | ADD, 1), TAX, RET_A])
    assert [int(program.run(FRAME, 1)) for _ in range(3)] == [1, 1, 1]


# -- negative offsets


def test_offsets_from_the_headers() -> None:
    """SKF_NET_OFF is the network header, SKF_LL_OFF the link layer's."""
    assert run(insn(LD | B | ABS, TOP + 1 - 0x100000 + 2), RET_A) == FRAME[16]
    assert run(insn(LD | B | ABS, TOP + 1 - 0x200000 + 2), RET_A) == FRAME[2]
    assert run(insn(LD | B | ABS, TOP + 1 - 0x300000), RET_K) == 0


def test_ancillary_loads() -> None:
    def ask(which: int, *before: Instruction) -> int:
        return run(*before, insn(LD | W | ABS, TOP + 1 - 0x1000 + which), RET_A)

    assert ask(0) == 0x1C1D  # SKF_AD_PROTOCOL
    assert run(insn(LD | W | ABS, TOP + 1 - 0x1000), RET_K, frame=bytes(13)) == 0
    assert ask(28) == 1  # SKF_AD_HATYPE
    assert ask(40, insn(LD | IMM, 6), insn(LDX | IMM, 5)) == 3  # SKF_AD_ALU_XOR_X
    assert ask(44, insn(LD | IMM, 6)) == ask(48, insn(LD | IMM, 6)) == 0  # no VLAN is stripped here
    # through X nothing ancillary is asked, in the kernel neither
    assert run(insn(LD | W | IND, TOP + 1 - 0x1000 + 28), RET_K) == 0


def test_what_a_frame_does_not_tell_is_refused() -> None:
    """pkttype, ifindex, nlattr, nlattr_nest, mark, queue, rxhash, cpu, pay_offset, random, vlan_tpid, and unknowns."""
    for which in (4, 8, 12, 16, 20, 24, 32, 36, 52, 56, 60, 64, 0xFFF):
        assert refused(insn(LD | W | ABS, TOP + 1 - 0x1000 + which), RET_A)


# -- what may run (bpf_check_classic)


def test_length_of_a_program() -> None:
    assert refused()
    assert not refused(*[RET_K] * BPF_MAXINSNS)
    assert refused(*[RET_K] * (BPF_MAXINSNS + 1))


def test_a_program_ends_in_a_verdict() -> None:
    assert refused(insn(LD | IMM, 1))
    assert refused(RET_K, TAX)
    assert not refused(RET_K, RET_A)


def test_unknown_codes_are_refused() -> None:
    """Every number that is none of chk_code_allowed's."""
    assert len(KNOWN) == 49
    for code in range(0x200):
        program = [insn(ST, word) for word in range(BPF_MEMWORDS)] + [insn(code, 1, 0, 0), RET_K, RET_K, RET_K]
        assert refused(*program) == (code not in KNOWN), hex(code)
    assert refused(insn(-1), RET_K)
    assert refused(insn(0x10000 | LD | IMM), RET_K)


def test_fields_that_no_sock_filter_can_have_are_refused() -> None:
    assert refused(insn(LD | IMM, TOP + 1), RET_K)
    assert refused(insn(LD | IMM, -1), RET_K)
    assert refused(insn(LD | IMM, 0, 256), RET_K)
    assert refused(insn(LD | IMM, 0, 0, -1), RET_K)


def test_jumps_stay_inside() -> None:
    for test in (JEQ, JGT, JGE, JSET):
        assert not refused(insn(JMP | test, 0, 1, 0), RET_K, RET_K)
        assert refused(insn(JMP | test, 0, 2, 0), RET_K, RET_K)
        assert refused(insn(JMP | test | X, 0, 0, 2), RET_K, RET_K)
    assert not refused(insn(JMP | JA, 1), RET_K, RET_K)
    assert refused(insn(JMP | JA, 2), RET_K, RET_K)
    assert refused(insn(JMP | JA, TOP), RET_K, RET_K), "backwards"


def test_constants_that_no_operation_can_have() -> None:
    for operation in (DIV, MOD):
        assert refused(insn(ALU | operation, 0), RET_K)
        assert not refused(insn(ALU | operation | X, 0), RET_K)
    for operation in (LSH, RSH):
        assert refused(insn(ALU | operation, 32), RET_K)
        assert not refused(insn(ALU | operation, 31), RET_K)


def test_memory_has_sixteen_words() -> None:
    for code in (ST, STX):
        assert not refused(insn(code, 15), RET_K)
        assert refused(insn(code, 16), RET_K)
    for code in (LD | MEM, LDX | MEM):
        assert refused(*[insn(ST, word) for word in range(16)], insn(code, 16), RET_K)


def test_memory_is_written_before_it_is_read() -> None:
    """On every way there (check_load_and_stores): what an earlier packet left could be read otherwise."""
    load = insn(LD | MEM, 3)
    assert refused(load, RET_A)
    assert refused(insn(ST, 2), load, RET_A)
    assert not refused(insn(ST, 3), load, RET_A)
    assert refused(insn(JMP | JEQ, 0, 1, 0), insn(ST, 3), load, RET_A), "one of two ways"
    assert not refused(insn(JMP | JEQ, 0, 0, 2), insn(ST, 3), insn(JMP | JA, 1), insn(STX, 3), load, RET_A)
    assert refused(insn(ST, 3), insn(JMP | JA, 0), insn(LDX | MEM, 2), RET_A)
    assert not refused(insn(ST, 3), insn(JMP | JA, 1), load, load, RET_A)


# -- who looks at Ethernet addresses


@pytest.mark.parametrize(
    ("code", "k", "looks"),
    [
        (LD | H | ABS, 12, False),
        (LD | W | ABS, 26, False),
        (LD | W | IND, 14, False),
        (LD | W | ABS, 8, True),
        (LD | B | ABS, 0, True),
        (LD | H | IND, 12, True),
        (LD | H | IND, TOP, True),
        (LDX | B | MSH, 14, False),
        (LDX | B | MSH, 0, True),
        (LD | B | ABS, TOP + 1 - 0x100000, False),
        (LD | B | ABS, TOP + 1 - 0x200000, True),
        (LD | IMM, 3, False),
        (LD | LEN, 0, False),
    ],
)
def test_who_looks_at_ethernet_addresses(code: int, k: int, looks: bool) -> None:
    assert Filter([insn(code, k), RET_A]).looks_at_link_layer() == looks


# -- whatever comes


def test_no_program_and_no_frame_makes_it_raise() -> None:
    """Random instructions: refused with EINVAL, or run to a 32-bit verdict on any frame."""
    random = Random(5)
    codes = sorted(KNOWN)
    ran = 0
    for _ in range(4000):
        program = [insn(ST, word) for word in range(random.choice((0, BPF_MEMWORDS)))]
        for left in range(random.randrange(1, 12), 0, -1):
            k = random.choice((random.randrange(64), random.randrange(64), random.getrandbits(32), TOP - 0xFFF))
            program.append(insn(random.choice(codes), k, random.randrange(left + 1), random.randrange(left + 1)))
        program.append(random.choice((RET_A, RET_K)))
        if refused(*program):
            continue
        ran += 1
        for size in (0, 1, 13, 14, 60):
            assert 0 <= run(*program, frame=random.randbytes(size), length=size) <= TOP
    assert ran > 1000


def test_names_of_numbers() -> None:
    """The module's constants are the kernel's."""
    assert (bpf.BPF_LD, bpf.BPF_LDX, bpf.BPF_ST, bpf.BPF_STX) == (LD, LDX, ST, STX)
    assert (bpf.BPF_ALU, bpf.BPF_JMP, bpf.BPF_RET, bpf.BPF_MISC) == (ALU, JMP, RET, MISC)
    assert (bpf.BPF_NEG, bpf.BPF_MOD, bpf.BPF_XOR, bpf.BPF_JSET, bpf.BPF_MSH) == (NEG, MOD, XOR, JSET, MSH)
