"""ustack ss: one grammar for its lines and for those of iproute2's ss; filters; every word of the -i line."""

from __future__ import annotations

import re
import struct

import pytest

from tests.tcp.peer import MSEC, Peer, established, listening, syn_recv, time_wait
from ustack.cli.ss import info, row, show
from ustack.cli.ss_filter import SS_ALL, SS_CONN, FilterError, Parser, states_of, take_states
from ustack.cli.ss_text import bandwidth, details_text, duration, info_text, memory_text, timer_text
from ustack.inet.options import SO_KEEPALIVE, SOL_SOCKET
from ustack.io.control import GetSockets, SocketDiag
from ustack.io.inet_diag import inet_diag
from ustack.tcp.options import IPPROTO_TCP, TCP_CONGESTION, TCP_NODELAY

EVERYTHING = dict.fromkeys(("options", "extended", "memory", "info", "numeric"), True) | {
    "no_header": False,
    "oneline": False,
}
NUMBER = r"\d+(?:\.\d+)?(?:e[+-]?\d+)?"
#: What a word of the -i line looks like, in the line's order; iproute2 6.1, ss.c, tcp_stats_print.
WORDS = [
    "ts", "sack", "ecn", "ecnseen", "fastopen", "(?:reno|cubic|bbr)", r"wscale:\d+,\d+", f"rto:{NUMBER}",
    r"backoff:\d+", f"rtt:{NUMBER}/{NUMBER}", f"ato:{NUMBER}", r"mss:\d+", r"pmtu:\d+", r"rcvmss:\d+", r"advmss:\d+",
    r"cwnd:\d+", r"ssthresh:\d+", r"bytes_sent:\d+", r"bytes_retrans:\d+", r"bytes_acked:\d+", r"bytes_received:\d+",
    r"segs_out:\d+", r"segs_in:\d+", r"data_segs_out:\d+", r"data_segs_in:\d+",
    rf"bbr:\(bw:{NUMBER}[KM]?bps,mrtt:{NUMBER}(?:,pacing_gain:{NUMBER})?(?:,cwnd_gain:{NUMBER})?\)",
    rf"send {NUMBER}[KM]?bps", r"lastsnd:\d+", r"lastrcv:\d+", r"lastack:\d+",
    rf"pacing_rate {NUMBER}[KM]?bps(?:/{NUMBER}[KM]?bps)?", rf"delivery_rate {NUMBER}[KM]?bps", r"delivered:\d+",
    r"delivered_ce:\d+", "app_limited", r"busy:\d+ms", r"rwnd_limited:\d+ms\([\d.]+%\)",
    r"sndbuf_limited:\d+ms\([\d.]+%\)", r"unacked:\d+", r"retrans:\d+/\d+", r"lost:\d+", r"sacked:\d+",
    r"dsack_dups:\d+", r"reordering:\d+", r"reord_seen:\d+", f"rcv_rtt:{NUMBER}", r"rcv_space:\d+",
    r"rcv_ssthresh:\d+", r"notsent:\d+", f"minrtt:{NUMBER}", r"rcv_ooopack:\d+", r"snd_wnd:\d+",
]  # fmt: skip
SKMEM = r"skmem:\(r\d+,rb\d+,t\d+,tb\d+,f\d+,w\d+,o\d+,bl\d+,d\d+\)"
SECOND = re.compile("".join(f"(?: ({word}))?" for word in [SKMEM, *WORDS]) + " *")
STATE = "ESTAB|SYN-SENT|SYN-RECV|FIN-WAIT-1|FIN-WAIT-2|TIME-WAIT|UNCONN|CLOSE-WAIT|LAST-ACK|LISTEN|CLOSING"
FIRST = re.compile(
    rf"(?:(?P<netid>tcp|udp|raw) +)?(?:(?P<state>{STATE}) +)?(?P<recv>\d+) +(?P<send>\d+) +"
    r"(?P<local>[\d.]+(?:%\w+)?:(?:\d+|\*)) +(?P<peer>[\d.]+:(?:\d+|\*)) *"
    r"(?P<timer>timer:\((?:on|keepalive|timewait|persist),[\w.]+,\d+\))? *"
    r"(?:uid:\d+ )?(?:ino:(?P<ino>\d+) sk:(?P<sk>[0-9a-f]+))?(?: fwmark:0x[0-9a-f]+)?(?: cgroup:\S+)?"
    r"(?: (?P<shut>[<-]-[>-]))? *"
)


def parse(text: str) -> list[tuple[re.Match[str], list[str]]]:
    """The sockets of an ``ss -tinmoe``: first line taken apart, words of the second. AssertionError for another."""
    lines = text.splitlines()
    assert re.fullmatch(
        r"(?:Netid +)?(?:State +)?Recv-Q +Send-Q +Local Address:Port +Peer Address:Port *Process *", lines[0]
    )
    found: list[tuple[re.Match[str], list[str]]] = []
    for line in lines[1:]:
        if line.startswith("\t"):
            match = SECOND.fullmatch(line[1:])
            assert match is not None, line
            found[-1][1].extend(word for word in match.groups() if word)
        else:
            first = FIRST.fullmatch(line)
            assert first is not None, line
            found.append((first, []))
    return found


def diags(c: Peer, kinds: str = "tcp", states: int = SS_ALL) -> list[SocketDiag]:
    return inet_diag(c.stack, GetSockets(kinds.split(), states)).sockets


def printed(c: Peer, capsys: pytest.CaptureFixture[str], **more: bool) -> str:
    show(diags(c), True, False, EVERYTHING | more)
    return capsys.readouterr().out


# -- one grammar


def test_ours_have_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    with established(timestamps=True, wscale=7) as c:
        c.app_setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
        c.app_setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        c.app_send(bytes(3000))
        c.out.clear()
        c.run(20 * MSEC)
        c.inject("PA", bytes(700))
        c.run(300 * MSEC)
        c.app_send(bytes(100))
        c.out.clear()
        (listener, its), (first, words) = parse(printed(c, capsys))
        assert listener["state"] == "LISTEN" and listener["local"] == "0.0.0.0:80" and listener["peer"] == "0.0.0.0:*"
        assert its[1:] == ["reno", "cwnd:10"] and its[0].startswith("skmem:(r0,rb")
        assert (first["state"], first["recv"], first["send"]) == ("ESTAB", "700", "100")
        assert (first["local"], first["peer"]) == ("192.0.2.2:80", "192.0.2.1:40000")
        assert first["timer"].startswith("timer:(on,") and first["shut"] == "<->" and first["ino"] != "0"
        assert {"ts", "reno", "mss:1448", "pmtu:1500", "unacked:1", "bytes_sent:3100", "bytes_received:700"} <= {*words}
        c.inject("A")
        c.app_recv()
        c.run(300 * MSEC)
        c.out.clear()


def test_the_states_without_a_socket(capsys: pytest.CaptureFixture[str]) -> None:
    with syn_recv() as c:
        _, (first, words) = parse(printed(c, capsys))
        assert first["state"] == "SYN-RECV" and words == [] and first["timer"].startswith("timer:(on,")
        assert first["ino"] == "0" and first["sk"] != "0" and first["shut"] is None
    with time_wait(orphan=True) as c:
        c.run(1000 * MSEC)
        _, (first, words) = parse(printed(c, capsys))
        assert first["state"] == "TIME-WAIT" and first["timer"] == "timer:(timewait,59sec,0)" and words == []


def test_one_line_each_and_none_for_titles(capsys: pytest.CaptureFixture[str]) -> None:
    with listening() as c:
        text = printed(c, capsys, oneline=True, no_header=True)
        assert text.count("\n") == 1 and "\t" not in text and text.startswith("LISTEN") and "cwnd:10" in text


def test_columns_stand_below_their_titles(capsys: pytest.CaptureFixture[str]) -> None:
    plain = dict.fromkeys(EVERYTHING, False) | {"numeric": True}
    with established() as c:
        show(diags(c), False, False, plain)
        head, *lines = capsys.readouterr().out.splitlines()
        at = head.index(":Port")
        assert [line[at] for line in lines] == [":", ":"], "addresses meet at their colons"
        assert lines[0].startswith("tcp   LISTEN")
        show(diags(c), True, True, plain)
        assert capsys.readouterr().out.splitlines()[0].startswith("Recv-Q Send-Q")


def test_services_have_names_unless_numbers_are_asked_for() -> None:
    with listening() as c:
        diag = diags(c)[0]
        assert row(diag, EVERYTHING)[5] == "80"
        assert row(diag, EVERYTHING | {"numeric": False})[5] in ("http", "80")


def test_other_protocols(capsys: pytest.CaptureFixture[str]) -> None:
    with Peer() as c:
        udp = c.stack.socket(2, 2)
        udp.bind(("192.0.2.2", 99))
        udp.sk.bound_dev_if = c.dev.ifindex
        raw = c.stack.socket(2, 3, 1)
        show(diags(c, "raw udp tcp"), False, False, EVERYTHING)
        found = parse(capsys.readouterr().out)
        assert [(first["netid"], first["state"], first["local"]) for first, _ in found] == [
            ("raw", "UNCONN", "0.0.0.0:1"),
            ("udp", "UNCONN", "192.0.2.2%eth0:99"),
        ]
        assert found[1][1][0].startswith("skmem:(r0,rb212992,t0,tb212992")
        udp.close()
        raw.close()


def test_a_connection_without_owner_has_no_number_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    with established() as c:
        c.app_close()
        c.out.clear()
        first, _ = parse(printed(c, capsys))[1]
        assert first["state"] == "FIN-WAIT-1" and first["ino"] == "0" and first["shut"] == "---"
        assert inet_diag(c.stack, GetSockets(["tcp"])).orphans == 1
        c.inject("RA", ack=1)


def test_only_the_states_that_were_asked_for() -> None:
    with established() as c:
        assert [diag.state for diag in diags(c, states=SS_CONN)] == [1]
        assert [diag.state for diag in diags(c, states=1 << 10)] == [10]


def test_the_algorithms_own_words() -> None:
    with established() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_CONGESTION, b"bbr")
        c.app_send(bytes(1000))
        c.out.clear()
        c.run(10 * MSEC)
        c.inject("A")
        diag = diags(c)[1]
        match = SECOND.fullmatch(info_text(diag, True, True))
        assert match is not None and any(word.startswith("bbr:(bw:") for word in match.groups() if word)


# -- words


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, ""), (-5, ""), (7, "007ms"), (200, "200ms"), (1234, "1.234ms"), (2000, "2sec"), (12_345, "12sec"),
     (60_000, "1min"), (62_500, "1min2sec"), (7_199_000, "119min")],
)  # fmt: skip
def test_how_long_a_timer_has_left(ms: int, text: str) -> None:
    """print_ms_timer."""
    assert duration(ms) == text
    assert timer_text(diag_of(timer="on", expires=ms, retrans=3)) == f" timer:(on,{text},3)"


@pytest.mark.parametrize(
    ("bps", "full", "short"),
    [
        (0, "0bps", "0bps"),
        (999, "999bps", "999bps"),
        (1500, "1500bps", "1.5Kbps"),
        (2.5e9, "2500000000bps", "2500.0Mbps"),
    ],
)
def test_bandwidths(bps: float, full: str, short: str) -> None:
    assert (bandwidth(bps, True), bandwidth(bps, False)) == (full, short)


def diag_of(state: int = 1, **more: object) -> SocketDiag:
    diag = SocketDiag("tcp", state, 0, 0, 0xC000_0202, 8080, 0xC000_0201, 40_000)
    for name, value in more.items():
        setattr(diag, name, value)
    return diag


def test_every_word_there_is_in_its_place() -> None:
    names = (
        "rto backoff rtt rttvar ato snd_mss pmtu rcv_mss advmss snd_cwnd snd_ssthresh bytes_sent "
        "bytes_retrans bytes_acked bytes_received segs_out segs_in data_segs_out data_segs_in "
        "last_data_sent last_data_recv last_ack_recv pacing_rate max_pacing_rate delivery_rate delivered "
        "delivered_ce busy_time rwnd_limited sndbuf_limited unacked retrans total_retrans lost sacked "
        "dsack_dups reordering reord_seen rcv_rtt rcv_space rcv_ssthresh notsent_bytes min_rtt "
        "rcv_ooopack snd_wnd"
    ).split()
    fields = {name: 2000 + at for at, name in enumerate(names)} | {"options": 63, "wscales": 0x97, "flags": 1}
    raw = struct.pack("=5I", 1_000_000, 0, 5000, 739, 512)
    text = info_text(diag_of(congestion="bbr", info=fields, cc_info=raw), True, True)
    match = SECOND.fullmatch(text)
    assert match is not None, text
    missing = [word for word, found in zip([SKMEM, *WORDS], match.groups(), strict=True) if not found]
    assert missing == [SKMEM]
    assert "wscale:7,9" in text and "retrans:2031/2032" in text and "mrtt:5,pacing_gain:2.88672,cwnd_gain:2" in text


def test_what_is_not_known_is_not_said() -> None:
    nothing = {"min_rtt": 0xFFFF_FFFF, "pacing_rate": (1 << 64) - 1, "snd_ssthresh": 0x7FFF_FFFF, "reordering": 3}
    assert info_text(diag_of(info=nothing), True, True) == ""
    assert memory_text(diag_of()) == ""
    assert details_text(diag_of(uid=7, ino=8, cookie=255, mark=16, shutdown=2)) == " uid:7 ino:8 sk:ff fwmark:0x10 <--"
    assert info(diag_of(), dict.fromkeys(EVERYTHING, False)) == ""


# -- filters


def chosen(*words: str) -> bool:
    """Whether the filter lets 192.0.2.2:8080 talking to 192.0.2.1:40000 through."""
    return Parser(list(words), lambda name: {"http-alt": 8080}[name]).parse()(diag_of())


@pytest.mark.parametrize(
    "words",
    [
        "", "sport = :8080", "sport :8080", "sport 8080", "sport eq :http-alt", "dport != :8080", "dport > :1024",
        "dport ge :40000", "dport <= 40000", "src 192.0.2.2", "src 192.0.2.0/24:8080", "dst *:40000",
        "dst != 192.0.2.9",
        "not dport = :1", "! dport = :1", "( dport = :1 or sport = :8080 )", "sport = :8080 and dst 192.0.2.1",
        "sport = :8080 dst 192.0.2.1", "sport = :1 || dport = :40000 && src 0.0.0.0/0", "autobound", "not dev = us0",
        "not ( src 192.0.2.1 | dst 192.0.2.2 )",
    ],
)  # fmt: skip
def test_filters_that_hold(words: str) -> None:
    assert chosen(*words.split())
    assert chosen(words), "as one quoted word"


@pytest.mark.parametrize(
    "words", ["sport = :80", "dport < :40000", "src 192.0.2.1", "dst 198.51.100.0/24", "not sport = :8080",
              "sport = :8080 and dport = :1", "src 192.0.2.2:1"]
)  # fmt: skip
def test_filters_that_do_not(words: str) -> None:
    assert not chosen(*words.split())


@pytest.mark.parametrize(
    "words", ["sport", "sport =", "( sport = :1", "and", "colour = red", "src 192.0.2.300", "sport = :99999",
              "sport = :1 )", "src 192.0.2.0/33"]
)  # fmt: skip
def test_what_is_no_filter(words: str) -> None:
    with pytest.raises(FilterError):
        chosen(*words.split())


def test_states_by_name() -> None:
    assert take_states(["state", "time-wait", "sport", "=", ":80"]) == (1 << 6, ["sport", "=", ":80"])
    assert take_states(["state", "established", "state", "listening"])[0] == 1 << 1 | 1 << 10
    assert take_states(["exclude", "listening"])[0] == SS_ALL & ~(1 << 10)
    assert take_states(["state", "connected", "exclude", "syn-sent"])[0] == states_of("synchronized")
    assert take_states(["sport", "=", ":80"]) == (0, ["sport", "=", ":80"])
    assert states_of("bucket") | states_of("big") == SS_ALL
    for words in (["state"], ["state", "asleep"]):
        with pytest.raises(FilterError):
            take_states(words)
