"""RFC 9293 on headers: what every segment's options, window and flags may say, sent and received (section 3.1, 3.2)."""

from __future__ import annotations

import pytest

from tests.tcp.peer import M32, MSEC, SEC, Peer, established
from ustack.drop import Reason
from ustack.sock import TCP_CLOSE
from ustack.tcp.states import State

MSS = 1460
NOP, EOL = b"\x01", b"\x00"
#: TCP options that nobody has heard of here: experiments, multipath, encryption, alternate checksums.
UNKNOWN = [bytes((kind, 2)) for kind in (6, 9, 14, 69, 252)] + [b"\x1e\x08abcdef", b"\xfd\x04\xe2\xd4", b"\xfe\x03\x00"]


def stamps(tsval: int, tsecr: int = 0) -> bytes:
    """The bare option, at no boundary of its own."""
    return b"\x08\x0a" + (tsval & M32).to_bytes(4, "big") + (tsecr & M32).to_bytes(4, "big")


def filled(options: bytes) -> bytes:
    return options + EOL * (-len(options) % 4)


# -- options


@pytest.mark.parametrize("options", UNKNOWN)
@pytest.mark.parametrize("timestamps", [False, True])
def test_an_unknown_option_is_stepped_over_by_its_length(options: bytes, timestamps: bool) -> None:
    """MUST-6: "MUST ignore without error any TCP Option it does not implement, assuming that the option has a length
    field" (MUST-68): what follows it is found."""
    with established(timestamps=timestamps) as c:
        before = c.tp.ts_recent
        c.run(5 * MSEC)
        c.inject("PA", b"text", options=filled(options + stamps(c.tsval())))
        c.expect("A", ack=5)
        assert c.app_recv() == b"text"
        assert c.tp.ts_recent == ((before + 5) & M32 if timestamps else before)
        c.silent(until=SEC)
        c.counted()


@pytest.mark.parametrize("options", UNKNOWN)
def test_an_unknown_option_of_a_syn_is_stepped_over(options: bytes) -> None:
    """MUST-6, and MUST-64 as well: the MSS begins at an odd place."""
    with Peer() as c:
        c.app_listen()
        c.inject("S", options=filled(options + b"\x02\x04" + (700).to_bytes(2, "big")))
        c.expect("SA", seq=0, ack=1)
        c.inject("A")
        c.app_accept()
        assert c.tp.mss_cache == 700


@pytest.mark.parametrize("where", range(4))
def test_options_may_begin_anywhere_in_a_word(where: int) -> None:
    """MUST-64: "TCP implementations MUST be prepared to process options even if they do not begin on a word
    boundary"."""
    with established(timestamps=True) as c:
        before = c.tp.ts_recent
        c.run(7 * MSEC)
        c.inject("PA", b"text", options=filled(NOP * where + stamps(c.tsval())))
        c.expect("A", ack=5)
        assert (c.tp.ts_recent - before) & M32 == 7
        assert c.app_recv() == b"text"


@pytest.mark.parametrize("flags", ["A", "PA", "FA", "RA"])
def test_an_option_may_come_in_any_segment(flags: str) -> None:
    """MUST-5: "A TCP implementation MUST (MUST-5) be able to receive a TCP Option in any segment"."""
    with established(timestamps=True) as c:
        before = c.tp.ts_recent
        c.run(3 * MSEC)
        c.inject(flags, b"x" if "P" in flags else b"", options=b"\x01\x01" + stamps(c.tsval()))
        c.out.clear()
        assert c.state == {"F": State.CLOSE_WAIT, "R": State.CLOSE}.get(flags[0], State.ESTABLISHED)
        assert flags[0] == "R" or (c.tp.ts_recent - before) & M32 == 3


def test_an_mss_in_a_later_segment_means_nothing() -> None:
    """MUST-65: "This option MUST NOT be sent in other segments" than a SYN; nobody is held to one that was."""
    with established() as c:
        c.inject("PA", b"x", options=b"\x02\x04\x02\x00")
        c.expect("A", ack=2)
        c.app_send(bytes(MSS))
        assert len(c.next_segment().data) == MSS


@pytest.mark.parametrize("timestamps", [False, True])
@pytest.mark.parametrize("active", [False, True])
def test_only_syns_carry_an_mss(active: bool, timestamps: bool) -> None:
    """MAY-3: always in a SYN; MUST-65: never elsewhere: in data, FIN, ACK, keepalive."""
    c = Peer(timestamps=timestamps)
    if active:
        c.app_connect()
        assert c.expect("S").mss == MSS
        c.inject("SA", options=c.syn_options())
    else:
        c.app_listen()
        c.peer_syn()
        assert c.expect("SA").mss == MSS
        c.inject("A")
        c.app_accept()
    c.app_send(b"data")
    c.inject("PA", b"more", seq=3)
    c.run(300 * MSEC)
    c.app_close()
    c.run(SEC)
    assert len(c.out) > 3
    assert all(s.mss == 0 and s.wscale == -1 and not s.sack_ok for s in c.out)
    c.out.clear()


@pytest.mark.parametrize("timestamps", [False, True])
@pytest.mark.parametrize("wscale", [None, 7])
@pytest.mark.parametrize("active", [False, True])
def test_a_header_ends_on_a_word_and_holds_nothing_but_options(
    active: bool, wscale: int | None, timestamps: bool
) -> None:
    """MUST-69: "The padding is composed of zeros": there is none, NOPs fill the words from the front as in Linux."""
    c = Peer(wscale=wscale, timestamps=timestamps)
    seen = []
    if active:
        c.app_connect()
        seen.append(c.expect("S"))
    else:
        c.app_listen()
        c.peer_syn()
        seen.append(c.expect("SA"))
        c.inject("A")
        c.app_accept()
        c.app_send(b"data")
        c.inject("PA", b"hole", seq=5)
        seen += c.out
        c.out.clear()
    for s in seen:
        assert len(s.raw_options) % 4 == 0
        assert options_in(s.raw_options) == len(s.raw_options)


def options_in(raw: bytes) -> int:
    """How many bytes whole options and NOPs take; an EOL would end them."""
    at = 0
    while at < len(raw) and raw[at]:
        at += 1 if raw[at] == 1 else raw[at + 1]
    return at


# -- the window field


@pytest.mark.parametrize("wscale", [None, 0, 7, 14])
def test_a_window_is_an_unsigned_number_of_up_to_thirty_bits(wscale: int | None) -> None:
    """MUST-1: "The window size MUST be treated as an unsigned number"; REC-1: held in 32 bits; RFC 7323 scales it."""
    largest = 65_535 << (wscale or 0)
    with established(wscale=wscale, window=largest) as c:
        c.inject("A", window=largest)
        assert c.tp.snd_wnd == largest
        assert c.tp.tcp_wnd_end() == (c.irs + 1 + largest) & M32
        c.app_send(bytes(3 * MSS))
        assert sum(len(s.data) for s in c.out) == 3 * MSS
        c.out.clear()


# -- resets


def test_a_reset_may_carry_a_text() -> None:
    """SHLD-2: "TCP implementations SHOULD allow a received RST segment to include data": why, for a human."""
    with established() as c:
        c.inject("RA", b"your presence is not required")
        c.silent(until=10 * SEC)
        assert c.tp.state == TCP_CLOSE and not c.tp.receive_queue
        c.counted(Reason.TCP_RESET, EstabResets=1, CurrEstab=-1)


def test_a_reset_with_a_text_may_refuse_a_call() -> None:
    with Peer() as c:
        c.app_connect()
        c.expect("S")
        c.inject("RA", b"no", ack=1, seq=0)
        c.silent(until=10 * SEC)
        assert c.tp.state == TCP_CLOSE
