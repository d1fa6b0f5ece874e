"""TCP as the running kernel does it, and the judge that says so: it sees what is wrong, and says it with few steps."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from tests.oracle.tcp import judge
from tests.oracle.tcp.families import FAMILIES, generate
from tests.oracle.tcp.judge import MEANT, differences, differs, first_difference, reduced, report
from tests.oracle.tcp.ours import OurSide
from tests.oracle.tcp.script import OUT, Call, Pause, Script, Seen, Segment, Terms
from ustack.io.host import Namespace

#: What is compared with is Linux 6.18's TCP.
LINUX: Final = (6, 18)
#: Scripts of each family in the normal run.
SEEDS: Final = 10


def seeds() -> range:
    """``FIRST-LAST`` or ``COUNT`` in USTACK_ORACLE_TCP_SEEDS."""
    first, _, last = os.environ.get("USTACK_ORACLE_TCP_SEEDS", f"{SEEDS}").partition("-")
    return range(int(first), int(last) + 1) if last else range(1, int(first) + 1)


@pytest.fixture(scope="module", autouse=True)
def kernel() -> None:
    """The right to make namespaces, and the kernel that is meant."""
    release = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))
    if release < LINUX:
        pytest.skip(f"Linux {release[0]}.{release[1]} does some things otherwise than 6.18")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun is not there or not open to this user")
    try:
        Namespace.create().close()
    except PermissionError:
        pytest.skip("no right to make a network namespace: run as root")


@pytest.mark.parametrize("number", seeds())
@pytest.mark.parametrize("family", FAMILIES)
def test_both_do_the_same(family: str, number: int) -> None:
    script = generate(family, number)
    if differs(script):
        pytest.fail(f"{family} {number}:\n{report(reduced(script))}", pytrace=False)


# -- the judge itself

TALK: Final = Script(
    Terms(),
    (
        Call("listen", (5,)),
        Segment("S"),
        Pause(4),
        Segment("A"),
        Call("accept"),
        Segment("PA", 100),
        Call("recv", (1000,)),
        Call("send", (300,)),
        Pause(4),
        Segment("A", ack=(OUT, 0)),
        Call("close"),
    ),
)


def test_an_honest_talk_has_no_difference() -> None:
    assert first_difference(TALK) is None


def test_a_side_that_does_otherwise_is_found_and_the_script_reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours refuses timestamps: it shows in the SYN-ACK, for which two steps are enough, and a pause."""

    class Refusing(OurSide):
        def __init__(self, terms: Terms) -> None:
            super().__init__(replace(terms, sysctls=(*terms.sysctls, ("net.ipv4.tcp_timestamps", "0"))))

    monkeypatch.setattr(judge, "OurSide", Refusing)
    assert differs(TALK)
    least = reduced(TALK)
    assert least.steps == TALK.steps[:3]
    told = report(least)
    assert re.search(r"! +kernel SA .* ecr 101", told) and re.search(r"! +ours +SA (?!.* ecr)", told)


def test_results_segments_fields_and_counters_are_compared() -> None:
    true = Seen("100", ["PA 1:101 ack 1"], {"snd_cwnd": 10, "rtt": 5}, {"TcpExt.TCPPureAcks": 1})
    assert differences(true, replace(true, info={"snd_cwnd": 10, "rtt": 7})) == []
    assert differences(true, replace(true, result="EAGAIN")) == ["result: kernel 100, ours EAGAIN"]
    assert differences(true, replace(true, sent=[])) == ["sent:", "  kernel PA 1:101 ack 1"]
    assert differences(true, replace(true, info={"rtt": 5})) == ["info snd_cwnd: kernel 10, ours 0"]
    assert differences(true, replace(true, moved={})) == ["counter TcpExt.TCPPureAcks: kernel 1, ours 0"]


def test_what_is_meant_is_written_down() -> None:
    """The judge lets nothing pass that differences.md does not name, and a row is of a file that knows of it."""
    here = Path(__file__).parent
    table = (here.parent / "differences.md").read_text().partition("## TCP")[2]
    rows = dict(re.findall(r"^\| ([a-z-]*[a-z]) \| (.*?) \|", table, re.MULTILINE))
    assert set(MEANT) <= set(rows)
    for name, where in rows.items():
        files = re.findall(r"`tcp/(\w+\.py)`", where)
        assert files, name
        for file in files:
            assert (name if file == "judge.py" else "differences.md") in (here / file).read_text(), (name, file)
