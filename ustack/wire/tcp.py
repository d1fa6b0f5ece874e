"""TCP header and options (RFC 9293, RFC 7323, RFC 2018; Linux include/uapi/linux/tcp.h, net/tcp.h).

``parse`` answers None for a segment whose data offset cannot be believed; afterwards no access can fail. Options
are parsed apart and only when somebody wants them: malformed ones end the list, they never condemn the segment.
"""

from __future__ import annotations

from typing import Final

from librt.strings import BytesWriter, read_i64_be
from mypy_extensions import i64, mypyc_attr

from ustack.wire.ipv4 import padded
from ustack.wire.octets import put_u16, put_u32, put_u64, u16, u32

TCP_HLEN: Final = 20
TCP_MAX_HLEN: Final = 60
TCP_MAX_OPTIONS: Final = 40

# flags (include/net/tcp.h)
TCPHDR_FIN: Final = 0x01
TCPHDR_SYN: Final = 0x02
TCPHDR_RST: Final = 0x04
TCPHDR_PSH: Final = 0x08
TCPHDR_ACK: Final = 0x10
TCPHDR_URG: Final = 0x20
TCPHDR_ECE: Final = 0x40
TCPHDR_CWR: Final = 0x80

# option kinds and their lengths, kind and length bytes included
TCPOPT_EOL: Final = 0
TCPOPT_NOP: Final = 1
TCPOPT_MSS: Final = 2
TCPOPT_WINDOW: Final = 3
TCPOPT_SACK_PERM: Final = 4
TCPOPT_SACK: Final = 5
TCPOPT_TIMESTAMP: Final = 8
TCPOPT_MD5SIG: Final = 19
TCPOPT_AO: Final = 29
TCPOPT_FASTOPEN: Final = 34
TCPOPT_EXP: Final = 254
#: RFC 6994's identifier of Fast Open in the experimental option, from before it had a kind of its own.
TCPOPT_FASTOPEN_MAGIC: Final = 0xF989
TCPOLEN_MSS: Final = 4
TCPOLEN_WINDOW: Final = 3
TCPOLEN_SACK_PERM: Final = 2
TCPOLEN_TIMESTAMP: Final = 10
TCPOLEN_TSTAMP_ALIGNED: Final = 12
TCPOLEN_SACK_BASE: Final = 2
TCPOLEN_SACK_BASE_ALIGNED: Final = 4
TCPOLEN_SACK_PERBLOCK: Final = 8
TCPOLEN_MD5SIG: Final = 18
TCPOLEN_AO_BASE: Final = 4
TCPOLEN_FASTOPEN_BASE: Final = 2
TCPOLEN_EXP_FASTOPEN_BASE: Final = 4
#: Bytes of a Fast Open cookie (RFC 7413 section 4.1.1: "The minimum Cookie size is 4 bytes, and the maximum is 16").
TCP_FASTOPEN_COOKIE_MIN: Final = 4
TCP_FASTOPEN_COOKIE_MAX: Final = 16

# what find_signature has found
NO_SIGNATURE: Final = 0
SIGNATURE_MD5: Final = 1
SIGNATURE_AO: Final = 2
SIGNATURE_MALFORMED: Final = 3

#: RFC 7323 2.3: "If a Window Scale option is received with a shift.cnt value larger than 14, the TCP SHOULD log the
#: error but MUST use 14 instead of the specified value."
TCP_MAX_WSCALE: Final = 14
NO_WSCALE: Final = -1

#: NOP NOP Timestamps with its length: how nearly every sender lays the option out (RFC 7323 appendix A).
_ALIGNED_TIMESTAMP: Final = 0x0101080A


@mypyc_attr(free_list_len=1, acyclic=True)
class TcpHeader:
    """One parsed header. ``options``, ``payload`` and ``end`` are offsets: first option byte, first payload byte (and
    one past the options), one past the segment. ``only_timestamps``: the options are NOP NOP Timestamps, as mostly.
    """

    def __init__(
        self,
        sport: i64,
        dport: i64,
        seq: i64,
        ack_seq: i64,
        flags: i64,
        window: i64,
        check: i64,
        urg_ptr: i64,
        options: i64,
        payload: i64,
        end: i64,
        only_timestamps: bool,
    ) -> None:
        self.sport: i64 = sport
        self.dport: i64 = dport
        self.seq: i64 = seq
        self.ack_seq: i64 = ack_seq
        self.flags: i64 = flags
        self.window: i64 = window
        self.check: i64 = check
        self.urg_ptr: i64 = urg_ptr
        self.options: i64 = options
        self.payload: i64 = payload
        self.end: i64 = end
        self.only_timestamps: bool = only_timestamps

    def end_seq(self) -> i64:
        """SEG.SEQ + SEG.LEN (RFC 9293 section 3.3.1): one past the last number, of which SYN and FIN have one each."""
        controls = (1 if self.flags & TCPHDR_SYN else 0) + (1 if self.flags & TCPHDR_FIN else 0)
        return (self.seq + (self.end - self.payload) + controls) & 0xFFFF_FFFF


@mypyc_attr(free_list_len=1, acyclic=True)
class TcpOptions:
    """What the options of one segment say (struct tcp_options_received, as far as it is read from the wire)."""

    def __init__(self) -> None:
        self.mss: i64 = 0  #: bytes; 0: not given
        self.wscale: i64 = NO_WSCALE  #: shift, at most 14; -1: not given
        self.sack_ok: bool = False
        self.saw_tstamp: bool = False
        self.tsval: i64 = 0
        self.tsecr: i64 = 0
        self.sacks: list[tuple[int, int]] | None = None  #: (first, one past the last) sequence numbers
        self.cookie: bytes | None = None  #: Fast Open: b"" asks for one, None: not given, or of an impossible length
        self.cookie_exp: bool = False  #: it was in the experimental option


def parse(b: bytes, start: i64, end: i64) -> TcpHeader | None:
    """The header at ``start``; ``end`` is where the IP payload ends.

    None if shorter than 20 bytes, or a data offset below 20 or beyond ``end`` (tcp_v4_rcv: bad_packet).
    """
    if start < 0 or end > len(b) or end - start < TCP_HLEN:
        return None
    second = read_i64_be(b, start + 8)
    payload = start + ((second >> 26) & 0x3C)
    if payload < start + TCP_HLEN or payload > end:
        return None
    first = read_i64_be(b, start)
    third = u32(b, start + 16)
    return TcpHeader(
        (first >> 48) & 0xFFFF,
        (first >> 32) & 0xFFFF,
        first & 0xFFFFFFFF,
        (second >> 32) & 0xFFFFFFFF,
        (second >> 16) & 0xFF,
        second & 0xFFFF,
        third >> 16,
        third & 0xFFFF,
        start + TCP_HLEN,
        payload,
        end,
        payload - start == TCP_HLEN + TCPOLEN_TSTAMP_ALIGNED and aligned_timestamp(b, start + TCP_HLEN),
    )


def parse_options(b: bytes, start: i64, end: i64) -> TcpOptions:
    """What the options in ``b[start:end]`` say; never fails: the first malformed one ends the list, what came before
    it counts, as in tcp_parse_options(). Of an option given twice the last counts.
    """
    found = TcpOptions()
    if start < 0 or end > len(b):
        return found
    at = start
    while at < end:
        kind = i64(b[at])
        size = _option_size(b, at, end)
        if kind == TCPOPT_EOL or size == 0:
            return found
        if kind != TCPOPT_NOP:
            _take_option(found, b, at, kind, size)
        at += size
    return found


def _option_size(b: bytes, at: i64, end: i64) -> i64:
    """Bytes of the option at ``at``, which is before ``end``: 1 for a kind without a length, 0 for a malformed one."""
    if i64(b[at]) <= TCPOPT_NOP:
        return 1
    if at + 1 >= end:
        return 0
    size = i64(b[at + 1])
    return 0 if size < 2 or at + size > end else size  # shorter than itself, or cut off


def _take_option(found: TcpOptions, b: bytes, at: i64, kind: i64, size: i64) -> None:
    """One option of believable size; a known kind with a wrong size is skipped like an unknown one."""
    if kind == TCPOPT_TIMESTAMP and size == TCPOLEN_TIMESTAMP:
        found.saw_tstamp = True
        found.tsval = u32(b, at + 2)
        found.tsecr = u32(b, at + 6)
    elif kind == TCPOPT_SACK:
        if size >= TCPOLEN_SACK_BASE + TCPOLEN_SACK_PERBLOCK and (size - TCPOLEN_SACK_BASE) & 7 == 0:
            found.sacks = _sack_blocks(b, at + TCPOLEN_SACK_BASE, at + size)
    elif kind == TCPOPT_MSS and size == TCPOLEN_MSS:
        mss = u16(b, at + 2)
        if mss != 0:
            found.mss = mss
    elif kind == TCPOPT_WINDOW and size == TCPOLEN_WINDOW:
        shift = i64(b[at + 2])
        found.wscale = TCP_MAX_WSCALE if shift > TCP_MAX_WSCALE else shift
    elif kind == TCPOPT_SACK_PERM and size == TCPOLEN_SACK_PERM:
        found.sack_ok = True
    elif kind == TCPOPT_FASTOPEN:
        _take_cookie(found, b[at + TCPOLEN_FASTOPEN_BASE : at + size], False)
    elif kind == TCPOPT_EXP and size >= TCPOLEN_EXP_FASTOPEN_BASE and u16(b, at + 2) == TCPOPT_FASTOPEN_MAGIC:
        _take_cookie(found, b[at + TCPOLEN_EXP_FASTOPEN_BASE : at + size], True)


def _take_cookie(found: TcpOptions, cookie: bytes, exp: bool) -> None:
    """RFC 7413 4.1.1: "The length MUST be even"; of other lengths than it names there is none (tcp_parse_fastopen)."""
    size: i64 = len(cookie)
    if size & 1 != 0:
        return
    found.cookie = cookie if size == 0 or TCP_FASTOPEN_COOKIE_MIN <= size <= TCP_FASTOPEN_COOKIE_MAX else None
    found.cookie_exp = exp


def find_signature(b: bytes, start: i64, end: i64) -> i64:
    """Which signature the options in ``b[start:end]`` carry: NO_SIGNATURE, SIGNATURE_MD5 (RFC 2385), SIGNATURE_AO
    (RFC 5925); SIGNATURE_MALFORMED for one of a wrong length, two of them, or any option of an impossible length where
    there is still room for a digest (tcp_do_parse_auth_options).
    """
    found: i64 = NO_SIGNATURE
    at = start
    while end - at > TCPOLEN_AO_BASE:
        kind = i64(b[at])
        if kind == TCPOPT_EOL:
            return found
        size = _option_size(b, at, end)
        if size == 0:
            return SIGNATURE_MALFORMED if end - at >= TCPOLEN_MD5SIG else found
        if kind == TCPOPT_AO or (kind == TCPOPT_MD5SIG and end - at >= TCPOLEN_MD5SIG):
            fits = size == TCPOLEN_MD5SIG if kind == TCPOPT_MD5SIG else size > TCPOLEN_AO_BASE
            if found != NO_SIGNATURE or not fits:
                return SIGNATURE_MALFORMED
            found = SIGNATURE_MD5 if kind == TCPOPT_MD5SIG else SIGNATURE_AO
        at += size
    return found


def _sack_blocks(b: bytes, at: i64, end: i64) -> list[tuple[int, int]]:
    blocks: list[tuple[int, int]] = []
    while at < end:
        blocks.append((u32(b, at), u32(b, at + 4)))
        at += TCPOLEN_SACK_PERBLOCK
    return blocks


def aligned_timestamp(b: bytes, start: i64) -> bool:
    """Whether the options at ``start`` begin with NOP NOP Timestamps (tcp_parse_aligned_timestamp()).

    If so tsval is the u32 at ``start + 4`` and tsecr that at ``start + 8``. The caller has seen that the header has
    at least 12 bytes of options; without that the bytes may be payload.
    """
    if start < 0 or start + TCPOLEN_TSTAMP_ALIGNED > len(b):
        return False
    return u32(b, start) == _ALIGNED_TIMESTAMP


def emit(
    out: BytesWriter,
    sport: i64,
    dport: i64,
    seq: i64,
    ack_seq: i64,
    flags: i64,
    window: i64,
    check: i64,
    urg_ptr: i64,
    options: bytes,
) -> None:
    """Append a header; ``check`` as it shall stand there, ``options`` filled up with TCPOPT_EOL to a multiple of four.

    Raises ValueError if the options exceed 40 bytes: no data offset can say so.
    """
    size: i64 = len(options)
    if size & 3 != 0 or size > TCP_MAX_OPTIONS:
        options = padded(options)
        size = len(options)
    put_u64(out, (sport & 0xFFFF) << 16 | (dport & 0xFFFF), seq)
    put_u64(out, ack_seq, (TCP_HLEN + size) << 26 | (flags & 0xFF) << 16 | (window & 0xFFFF))
    put_u32(out, (check & 0xFFFF) << 16 | (urg_ptr & 0xFFFF))
    if size != 0:
        out.write(options)


def timestamp_option(tsval: i64, tsecr: i64) -> bytes:
    """The 12 bytes NOP NOP Timestamps of every segment once timestamps are agreed on."""
    out = BytesWriter()
    put_u64(out, _ALIGNED_TIMESTAMP, tsval)
    put_u32(out, tsecr)
    return out.getvalue()


def syn_options(mss: i64, wscale: i64, sack_ok: bool, timestamps: bool, tsval: i64, tsecr: i64) -> bytes:
    """The options of a SYN or SYN-ACK in Linux's order (tcp_options_write()): MSS, SACK permitted, timestamps, scale.

    ``mss`` 0 and ``wscale`` -1 leave theirs out. Always a multiple of four bytes, at most 20.
    """
    out = BytesWriter()
    if mss != 0:
        put_u32(out, TCPOPT_MSS << 24 | TCPOLEN_MSS << 16 | (mss & 0xFFFF))
    if timestamps:
        # SACK permitted takes the place of the two NOPs before the timestamps
        put_u16(out, TCPOPT_SACK_PERM << 8 | TCPOLEN_SACK_PERM if sack_ok else TCPOPT_NOP << 8 | TCPOPT_NOP)
        put_u16(out, TCPOPT_TIMESTAMP << 8 | TCPOLEN_TIMESTAMP)
        put_u64(out, tsval, tsecr)
    elif sack_ok:
        put_u32(out, TCPOPT_NOP << 24 | TCPOPT_NOP << 16 | TCPOPT_SACK_PERM << 8 | TCPOLEN_SACK_PERM)
    if wscale >= 0:
        put_u32(out, TCPOPT_NOP << 24 | TCPOPT_WINDOW << 16 | TCPOLEN_WINDOW << 8 | (wscale & 0xFF))
    return out.getvalue()


def fastopen_option(cookie: bytes, exp: bool) -> bytes:
    """The Fast Open option, b"" as ``cookie`` asks for one; filled up with NOPs to a multiple of four bytes.

    ``exp``: in the experimental option, for servers older than RFC 7413.
    """
    out = BytesWriter()
    size: i64 = len(cookie)
    if exp:
        put_u32(out, TCPOPT_EXP << 24 | (TCPOLEN_EXP_FASTOPEN_BASE + size) << 16 | TCPOPT_FASTOPEN_MAGIC)
        out.write(cookie)
    else:
        put_u16(out, TCPOPT_FASTOPEN << 8 | (TCPOLEN_FASTOPEN_BASE + size))
        out.write(cookie)
        size += TCPOLEN_FASTOPEN_BASE
    if size & 3 == 2:
        put_u16(out, TCPOPT_NOP << 8 | TCPOPT_NOP)
    return out.getvalue()


def sack_option(blocks: list[tuple[int, int]]) -> bytes:
    """NOP NOP SACK with ``blocks``; b"" if there are none. Four fit into a header, three beside timestamps."""
    if not blocks:
        return b""
    out = BytesWriter()
    size: i64 = TCPOLEN_SACK_BASE + TCPOLEN_SACK_PERBLOCK * len(blocks)
    put_u32(out, TCPOPT_NOP << 24 | TCPOPT_NOP << 16 | TCPOPT_SACK << 8 | size)
    for first, beyond in blocks:
        put_u64(out, first, beyond)
    return out.getvalue()


#: tcpdump's letters, in tcpdump's order.
_LETTERS: Final = (
    (TCPHDR_FIN, "F"),
    (TCPHDR_SYN, "S"),
    (TCPHDR_RST, "R"),
    (TCPHDR_PSH, "P"),
    (TCPHDR_ACK, "."),
    (TCPHDR_URG, "U"),
    (TCPHDR_ECE, "E"),
    (TCPHDR_CWR, "W"),
)


def flags_to_str(flags: i64) -> str:
    """``S.`` for SYN and ACK; ``none`` for none."""
    letters = ""
    for bit, letter in _LETTERS:
        if flags & bit:
            letters += letter
    return letters or "none"


def describe(header: TcpHeader, b: bytes = b"") -> str:
    """``33000 > 80: Flags [S], seq 1, win 64240, options [mss 1460,sackOK], length 0``

    The options are told only if ``b`` is given, the buffer that the header was parsed from.
    """
    length = header.end - header.payload
    parts = [f"{header.sport} > {header.dport}: Flags [{flags_to_str(header.flags)}]"]
    if length > 0:
        parts.append(f"seq {header.seq}:{(header.seq + length) & 0xFFFFFFFF}")
    elif header.flags & (TCPHDR_SYN | TCPHDR_FIN | TCPHDR_RST):
        parts.append(f"seq {header.seq}")
    if header.flags & TCPHDR_ACK:
        parts.append(f"ack {header.ack_seq}")
    parts.append(f"win {header.window}")
    if header.flags & TCPHDR_URG:
        parts.append(f"urg {header.urg_ptr}")
    if b and header.payload > header.options:
        parts.append(f"options [{options_to_str(b, header.options, header.payload)}]")
    parts.append(f"length {length}")
    return ", ".join(parts)


def options_to_str(b: bytes, start: i64, end: i64) -> str:
    """``mss 1460,sackOK,TS val 1 ecr 0,nop,wscale 7``; ends with ``[bad opt]`` at the first malformed one."""
    texts: list[str] = []
    at = start
    while at < end:
        kind = i64(b[at])
        size = _option_size(b, at, end)
        if kind == TCPOPT_EOL or size == 0:
            texts.append("[bad opt]" if size == 0 else "eol")
            break
        texts.append("nop" if kind == TCPOPT_NOP else _option_to_str(b[at : at + size], kind))
        at += size
    return ",".join(texts)


def _option_to_str(option: bytes, kind: i64) -> str:
    size: i64 = len(option)
    found = TcpOptions()
    _take_option(found, option, 0, kind, size)
    if found.mss != 0:
        return f"mss {found.mss}"
    if found.wscale != NO_WSCALE:
        return f"wscale {found.wscale}"
    if found.sack_ok:
        return "sackOK"
    if found.saw_tstamp:
        return f"TS val {found.tsval} ecr {found.tsecr}"
    if found.sacks is not None:
        return f"sack {len(found.sacks)} " + "".join(f"{{{first}:{beyond}}}" for first, beyond in found.sacks)
    if found.cookie is not None:
        return ("exp-" if found.cookie_exp else "") + (
            f"tfo  cookie {found.cookie.hex()}" if found.cookie else "tfo  cookiereq"
        )
    return f"unknown-{kind} 0x{option[2:].hex()}" if size > 2 else f"unknown-{kind}"
