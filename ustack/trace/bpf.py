"""Classic BPF: the machine that runs filters such as libpcap compiles (Linux net/core/filter.c; McCanne and Jacobson).

A program is checked once, as the kernel checks one it is given (bpf_check_classic), and cannot do harm afterwards: it
only jumps forward, reads nothing but the frame, and every path ends in a verdict. A load beyond the frame ends it with
0, as does a division by zero. Shifts count modulo 32, as the kernel's do (libpcap's own machine answers 0 from 32 on).
"""

from __future__ import annotations

import errno
from typing import Final

from mypy_extensions import i64

from ustack.sock import error
from ustack.wire.ethernet import ETH_HLEN, ETH_P_IP
from ustack.wire.octets import u16, u32

#: Instructions of one program (BPF_MAXINSNS) and words of its memory (BPF_MEMWORDS).
BPF_MAXINSNS: Final = 4096
BPF_MEMWORDS: Final = 16

# classes (include/uapi/linux/bpf_common.h)
BPF_LD: Final[i64] = 0x00
BPF_LDX: Final[i64] = 0x01
BPF_ST: Final[i64] = 0x02
BPF_STX: Final[i64] = 0x03
BPF_ALU: Final[i64] = 0x04
BPF_JMP: Final[i64] = 0x05
BPF_RET: Final[i64] = 0x06
BPF_MISC: Final[i64] = 0x07
# how wide a load is, and where it looks
BPF_W: Final[i64] = 0x00
BPF_H: Final[i64] = 0x08
BPF_B: Final[i64] = 0x10
BPF_IMM: Final[i64] = 0x00
BPF_ABS: Final[i64] = 0x20
BPF_IND: Final[i64] = 0x40
BPF_MEM: Final[i64] = 0x60
BPF_LEN: Final[i64] = 0x80
BPF_MSH: Final[i64] = 0xA0
# arithmetic
BPF_ADD: Final[i64] = 0x00
BPF_SUB: Final[i64] = 0x10
BPF_MUL: Final[i64] = 0x20
BPF_DIV: Final[i64] = 0x30
BPF_OR: Final[i64] = 0x40
BPF_AND: Final[i64] = 0x50
BPF_LSH: Final[i64] = 0x60
BPF_RSH: Final[i64] = 0x70
BPF_NEG: Final[i64] = 0x80
BPF_MOD: Final[i64] = 0x90
BPF_XOR: Final[i64] = 0xA0
# jumps
BPF_JA: Final[i64] = 0x00
BPF_JEQ: Final[i64] = 0x10
BPF_JGT: Final[i64] = 0x20
BPF_JGE: Final[i64] = 0x30
BPF_JSET: Final[i64] = 0x40
# operands
BPF_K: Final[i64] = 0x00
BPF_X: Final[i64] = 0x08
BPF_A: Final[i64] = 0x10
BPF_TAX: Final[i64] = 0x00
BPF_TXA: Final[i64] = 0x80

# what lies at negative offsets (include/uapi/linux/filter.h)
SKF_AD_OFF: Final[i64] = -0x1000
SKF_NET_OFF: Final[i64] = -0x100000
SKF_LL_OFF: Final[i64] = -0x200000
SKF_AD_PROTOCOL: Final[i64] = 0
SKF_AD_HATYPE: Final[i64] = 28
SKF_AD_ALU_XOR_X: Final[i64] = 40
SKF_AD_VLAN_TAG: Final[i64] = 44
SKF_AD_VLAN_TAG_PRESENT: Final[i64] = 48
#: Ancillary loads that a frame alone can answer. The others (pkttype, ifindex, nlattr, mark, queue, rxhash, cpu,
#: pay_offset, random, vlan_tpid) are refused, as the kernel refuses those it does not know.
ANCILLARY: Final = frozenset(
    {SKF_AD_PROTOCOL, SKF_AD_HATYPE, SKF_AD_ALU_XOR_X, SKF_AD_VLAN_TAG, SKF_AD_VLAN_TAG_PRESENT}
)
ARPHRD_ETHER: Final[i64] = 1

U32: Final[i64] = 0xFFFF_FFFF

#: An Ethernet header that nobody has filled in, but for the type.
NO_ETHERNET: Final = bytes(12) + b"\x08\x00"

#: One instruction as it is written down: code, jt, jf, k.
Instruction = tuple[int, int, int, int]


def known_codes() -> frozenset[int]:
    """Every code that is one (chk_code_allowed)."""
    loads = [BPF_LD | width | BPF_ABS for width in (BPF_W, BPF_H, BPF_B)]
    loads += [BPF_LD | width | BPF_IND for width in (BPF_W, BPF_H, BPF_B)]
    loads += [kind | where for kind in (BPF_LD, BPF_LDX) for where in (BPF_IMM, BPF_MEM, BPF_LEN)]
    binary = (BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_OR, BPF_AND, BPF_LSH, BPF_RSH, BPF_MOD, BPF_XOR)
    alu = [BPF_ALU | operation | operand for operation in binary for operand in (BPF_K, BPF_X)]
    tests = (BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET)
    jumps = [BPF_JMP | test | operand for test in tests for operand in (BPF_K, BPF_X)]
    others = [BPF_LDX | BPF_B | BPF_MSH, BPF_ST, BPF_STX, BPF_ALU | BPF_NEG, BPF_JMP | BPF_JA]
    others += [BPF_RET | BPF_K, BPF_RET | BPF_A, BPF_MISC | BPF_TAX, BPF_MISC | BPF_TXA]
    return frozenset(int(code) for code in loads + alu + jumps + others)


KNOWN: Final = known_codes()


class SockFilter:
    """struct sock_filter."""

    def __init__(self, code: i64, jt: i64, jf: i64, k: i64) -> None:
        self.code: i64 = code
        self.jt: i64 = jt
        self.jf: i64 = jf
        self.k: i64 = k


class Filter:
    """A program that has been checked (struct bpf_prog)."""

    def __init__(self, program: list[Instruction]) -> None:
        """EINVAL if it is not a program that may run."""
        self._program: list[SockFilter] = check_classic(program)
        self._a: i64 = 0
        self._x: i64 = 0
        self._mem: list[int] = [0] * BPF_MEMWORDS

    def looks_at_link_layer(self) -> bool:
        """Whether more of the Ethernet header than its type may decide."""
        return any(reads_addresses(each) for each in self._program)

    def run(self, buf: bytes, length: i64, start: i64 = 0, end: i64 = -1) -> i64:
        """The program's verdict on a frame of ``length`` bytes that begins in ``buf``: how many of them to keep.

        The frame is seen from ``start`` to ``end`` (-1: as far as ``buf`` goes). ``start`` may be -ETH_HLEN: an IPv4
        packet without an Ethernet header, which is taken to be NO_ETHERNET. 0 is no. Never raises, whatever the frame.
        """
        if end < 0:
            end = len(buf)
        self._a = 0
        self._x = 0
        pc: i64 = 0
        while True:
            insn = self._program[pc]
            pc += 1
            kind = insn.code & 7
            if kind == BPF_JMP:
                pc += self._jump(insn)
            elif kind == BPF_LD:
                if not self._ld(insn, buf, start, end, length):
                    return 0
            elif kind == BPF_RET:
                return self._a if insn.code & 0x18 == BPF_A else insn.k
            elif kind == BPF_ALU:
                if not self._alu(insn):
                    return 0
            elif kind == BPF_LDX:
                if not self._ldx(insn, buf, start, end, length):
                    return 0
            else:
                self._move(insn)

    # -- one instruction each; False ends the program

    def _jump(self, insn: SockFilter) -> i64:
        """By how many instructions."""
        operation = insn.code & 0xF0
        if operation == BPF_JA:
            return insn.k
        value = self._x if insn.code & BPF_X else insn.k
        if operation == BPF_JEQ:
            true = self._a == value
        elif operation == BPF_JGT:
            true = self._a > value
        elif operation == BPF_JGE:
            true = self._a >= value
        else:
            true = self._a & value != 0
        return insn.jt if true else insn.jf

    def _ld(self, insn: SockFilter, buf: bytes, start: i64, end: i64, length: i64) -> bool:
        mode = insn.code & 0xE0
        if mode == BPF_ABS:
            offset = insn.k
        elif mode == BPF_IND:
            offset = (self._x + insn.k) & U32
        else:
            self._a = insn.k if mode == BPF_IMM else length & U32 if mode == BPF_LEN else self._mem[insn.k]
            return True
        if offset > 0x7FFF_FFFF:
            offset -= U32 + 1
            if offset >= SKF_AD_OFF:
                return mode == BPF_ABS and self._ancillary(offset - SKF_AD_OFF, buf, start, end)
        value = load(buf, start, end, offset, insn.code & 0x18)
        if value < 0:
            return False
        self._a = value
        return True

    def _ldx(self, insn: SockFilter, buf: bytes, start: i64, end: i64, length: i64) -> bool:
        mode = insn.code & 0xE0
        if mode == BPF_MSH:
            value = load(buf, start, end, insn.k if insn.k <= 0x7FFF_FFFF else insn.k - U32 - 1, BPF_B)
            if value < 0:
                return False
            self._x = (value & 0xF) << 2
        else:
            self._x = insn.k if mode == BPF_IMM else length & U32 if mode == BPF_LEN else self._mem[insn.k]
        return True

    def _ancillary(self, which: i64, buf: bytes, start: i64, end: i64) -> bool:
        if which == SKF_AD_PROTOCOL:
            value = load(buf, start, end, ETH_HLEN - 2, BPF_H)
            if value < 0:
                return False
            self._a = value
        elif which == SKF_AD_ALU_XOR_X:
            self._a ^= self._x
        else:
            self._a = ARPHRD_ETHER if which == SKF_AD_HATYPE else 0
        return True

    def _alu(self, insn: SockFilter) -> bool:
        operation = insn.code & 0xF0
        if operation == BPF_NEG:
            self._a = -self._a & U32
            return True
        value = self._x if insn.code & BPF_X else insn.k
        if operation == BPF_DIV or operation == BPF_MOD:
            if value == 0:
                return False
            self._a = self._a // value if operation == BPF_DIV else self._a % value
        else:
            self._a = arithmetic(operation, self._a, value)
        return True

    def _move(self, insn: SockFilter) -> None:
        kind = insn.code & 7
        if kind == BPF_ST:
            self._mem[insn.k] = self._a
        elif kind == BPF_STX:
            self._mem[insn.k] = self._x
        elif insn.code & 0xF8 == BPF_TAX:
            self._x = self._a
        else:
            self._a = self._x


def arithmetic(operation: i64, a: i64, value: i64) -> i64:
    """What cannot fail, modulo 2**32."""
    if operation == BPF_AND:
        return a & value
    if operation == BPF_ADD:
        return (a + value) & U32
    if operation == BPF_SUB:
        return (a - value) & U32
    if operation == BPF_LSH:
        return (a << (value & 31)) & U32
    if operation == BPF_RSH:
        return a >> (value & 31)
    if operation == BPF_OR:
        return a | value
    if operation == BPF_XOR:
        return a ^ value
    # halves: the whole product may need 64 bits, and an i64 has 63
    return (a * (value & 0xFFFF) + ((a * (value >> 16) & 0xFFFF) << 16)) & U32


def load(buf: bytes, start: i64, end: i64, offset: i64, width: i64) -> i64:
    """-1 for what does not lie within the frame. Negative offsets as bpf_internal_load_pointer_neg_helper."""
    if offset < 0:
        if offset >= SKF_NET_OFF:
            offset += ETH_HLEN - SKF_NET_OFF
        else:
            offset -= SKF_LL_OFF
    at = start + offset
    if offset < 0 or at >= end:
        return -1
    if at < 0:
        if offset == ETH_HLEN - 2 and width == BPF_H:
            return ETH_P_IP
        return load(NO_ETHERNET + buf[:end], 0, end - start, offset, width)
    if width == BPF_B:
        return buf[at]
    if width == BPF_H:
        return u16(buf, at) if at + 2 <= end else -1
    return u32(buf, at) if at + 4 <= end else -1


def reads_addresses(insn: SockFilter) -> bool:
    """A load from before the EtherType; one through X may be one, unless it adds to an offset behind the header."""
    kind = insn.code & 7
    mode = insn.code & 0xE0
    if kind == BPF_LD and mode == BPF_ABS or kind == BPF_LDX and mode == BPF_MSH:
        return insn.k < ETH_HLEN - 2 or SKF_LL_OFF <= insn.k - U32 - 1 < SKF_NET_OFF
    return kind == BPF_LD and mode == BPF_IND and (insn.k < ETH_HLEN or insn.k > 0x7FFF_FFFF)


# -- what may run


def check_classic(program: list[Instruction]) -> list[SockFilter]:
    """The program, ready to run. EINVAL as bpf_check_classic."""
    if not 0 < len(program) <= BPF_MAXINSNS:
        raise error(errno.EINVAL)
    checked: list[SockFilter] = []
    for code, jt, jf, k in program:
        if code not in KNOWN or not (0 <= jt <= 0xFF and 0 <= jf <= 0xFF and 0 <= k <= 0xFFFF_FFFF):
            raise error(errno.EINVAL)
        insn = SockFilter(code, jt, jf, k)
        checked.append(insn)
        if not may_run(insn, len(program) - len(checked)):
            raise error(errno.EINVAL)
    if checked[-1].code & 7 != BPF_RET:
        raise error(errno.EINVAL)
    check_load_and_stores(checked)
    return checked


def may_run(insn: SockFilter, after: i64) -> bool:
    """By itself, with ``after`` instructions after it."""
    kind = insn.code & 7
    mode = insn.code & 0xE0
    if kind == BPF_ALU and insn.code & BPF_X == 0:
        operation = insn.code & 0xF0
        if operation == BPF_DIV or operation == BPF_MOD:
            return insn.k != 0
        return insn.k < 32 or operation != BPF_LSH and operation != BPF_RSH
    if kind == BPF_JMP:
        return insn.k < after if insn.code & 0xF0 == BPF_JA else insn.jt < after and insn.jf < after
    if kind == BPF_ST or kind == BPF_STX or kind <= BPF_LDX and mode == BPF_MEM:
        return insn.k < BPF_MEMWORDS
    if kind == BPF_LD and mode == BPF_ABS:
        which = insn.k - U32 - 1 - SKF_AD_OFF
        return which < 0 or int(which) in ANCILLARY
    return True


def check_load_and_stores(program: list[SockFilter]) -> None:
    """EINVAL if a word of memory could be read that was not written: another packet's would be seen there."""
    masks = [0xFFFF] * len(program)
    written = 0
    for pc, insn in enumerate(program):
        written &= masks[pc]
        kind = insn.code & 7
        if kind == BPF_ST or kind == BPF_STX:
            written |= 1 << insn.k
        elif kind <= BPF_LDX and insn.code & 0xE0 == BPF_MEM:
            if not written & 1 << insn.k:
                raise error(errno.EINVAL)
        elif kind == BPF_JMP:
            ways = [insn.k] if insn.code & 0xF0 == BPF_JA else [insn.jt, insn.jf]
            for way in ways:
                masks[pc + 1 + way] &= written
            written = 0xFFFF
