"""Filters in libpcap's language (pcap-filter(7)), compiled by the system's libpcap for trace/bpf.py to run."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, Final

from ustack.io.pcapng import LINKTYPE_ETHERNET
from ustack.trace.bpf import BPF_K, BPF_MAXINSNS, BPF_RET, Filter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ustack.trace.bpf import Instruction

#: What the library is called: Debian's name first.
NAMES: Final = ("libpcap.so.0.8", "libpcap.so.1", "libpcap.so")
SNAPLEN: Final = 262_144
ACCEPT_ALL: Final = ((int(BPF_RET | BPF_K), 0, 0, SNAPLEN),)
PCAP_NETMASK_UNKNOWN: Final = 0xFFFF_FFFF


class FilterError(ValueError):
    """Not a filter, or nobody who could compile it; one line."""


class BpfInsn(ctypes.Structure):
    """struct bpf_insn."""

    _fields_ = (("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint32))


class BpfProgram(ctypes.Structure):
    """struct bpf_program."""

    _fields_ = (("bf_len", ctypes.c_uint), ("bf_insns", ctypes.POINTER(BpfInsn)))


def compile_filter(text: str) -> list[Instruction]:
    """The program for ``text`` on Ethernet frames; without a word in it, one that accepts all. Raises FilterError."""
    if not text.strip():
        return list(ACCEPT_ALL)  # needs no library
    pcap = libpcap()
    handle = pcap.pcap_open_dead(LINKTYPE_ETHERNET, SNAPLEN)
    if not handle:
        raise FilterError("libpcap has no memory")
    try:
        program = compile_with(pcap, handle, text)
    finally:
        pcap.pcap_close(handle)
    check(text, program)
    return program


def check(text: str, program: list[Instruction]) -> None:
    """Whether it may run here. Raises FilterError."""
    if len(program) > BPF_MAXINSNS:
        raise FilterError(f"filter of {len(program)} instructions: {BPF_MAXINSNS} are the most")
    try:
        Filter(program)
    except OSError:
        raise FilterError(f"filter {text!r}: asks for what a frame alone does not tell") from None


def compile_with(pcap: ctypes.CDLL, handle: int, text: str) -> list[Instruction]:
    if "\0" in text:
        raise FilterError(f"filter {text!r}: no character of any word")
    program = BpfProgram()
    if pcap.pcap_compile(handle, ctypes.byref(program), os.fsencode(text), 1, PCAP_NETMASK_UNKNOWN) != 0:
        reason = pcap.pcap_geterr(handle).decode(errors="replace").splitlines()
        raise FilterError(f"filter {text!r}: {reason[0] if reason else 'not understood'}")
    try:
        return [(insn.code, insn.jt, insn.jf, insn.k) for insn in program.bf_insns[: program.bf_len]]
    finally:
        pcap.pcap_freecode(ctypes.byref(program))


def libpcap(names: Sequence[str] = NAMES) -> ctypes.CDLL:
    """The library with its functions' types. FilterError if there is none."""
    for name in names:
        try:
            pcap = ctypes.CDLL(name)
        except OSError:
            continue
        pcap.pcap_open_dead.restype = ctypes.c_void_p
        pcap.pcap_open_dead.argtypes = [ctypes.c_int, ctypes.c_int]
        pcap.pcap_compile.argtypes = [
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_char_p,
            ctypes.c_int,
            ctypes.c_uint32,
        ]
        pcap.pcap_geterr.restype = ctypes.c_char_p
        pcap.pcap_geterr.argtypes = [ctypes.c_void_p]
        pcap.pcap_freecode.argtypes = [ctypes.c_void_p]
        pcap.pcap_freecode.restype = None
        pcap.pcap_close.argtypes = [ctypes.c_void_p]
        pcap.pcap_close.restype = None
        return pcap
    raise FilterError("filters need libpcap, please install it (Debian: apt install libpcap0.8)")
