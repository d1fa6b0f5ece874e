"""nmap tells open ports of the stack from closed ones."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

import pytest

from tests.netns.daemon import SERVICES, STACK, RunningDaemon
from tests.netns.programs import output, settled, status_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ustack.io.host import Namespace

PORT = re.compile(r"^(\d+)/(?:tcp|udp) +(\S+) +\S+ +(\S+)", re.MULTILINE)
OPEN: Final = {7, 9, 19, 80}
NMAP: Final = ("nmap", "-n", "-Pn", "--host-timeout", "15s")


@pytest.fixture(params=[(), ("--no-offload",)], ids=["offload", "plain"])
def daemon(namespace: Namespace, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RunningDaemon]:
    if os.geteuid() != 0:
        pytest.skip("nmap makes raw packets only for root")
    with RunningDaemon(tmp_path, "--serve", SERVICES, *request.param) as running:
        yield running


def scan(*options: str) -> dict[int, tuple[str, str]]:
    """Port: (state, why nmap thinks so), of every port that was asked about."""
    text = output(*NMAP, "-dd", "--reason", "--max-retries", "3", *options, STACK)
    return {int(port): (state, reason) for port, state, reason in PORT.findall(text)}


def test_a_syn_scan(daemon: RunningDaemon) -> None:
    """RFC 9293 3.10.7: an open port answers SYN with SYN and ACK, a closed one with RST; nothing stays half open."""
    before = status_of(daemon)["counters"]
    found = scan("-sS", "-p", "1-100")
    assert {port for port, said in found.items() if said == ("open", "syn-ack")} == OPEN
    assert {port for port, said in found.items() if said == ("closed", "reset")} == set(range(1, 101)) - OPEN
    assert settled(daemon) == [], "the host's kernel, which knows of no connection, has reset them"
    counters = status_of(daemon)["counters"]
    assert counters["Tcp.OutRsts"] - before.get("Tcp.OutRsts", 0) >= 96
    assert counters.get("Tcp.PassiveOpens", 0) == 0


def test_a_connect_scan(daemon: RunningDaemon) -> None:
    found = scan("-sT", "-p", "1-100")
    assert {port for port, said in found.items() if said[0] == "open"} == OPEN
    assert {port for port, said in found.items() if said == ("closed", "conn-refused")} == set(range(1, 101)) - OPEN
    assert settled(daemon) == []


def test_a_udp_scan(daemon: RunningDaemon) -> None:
    """Port unreachable for the closed ones, of which a burst of six goes out (icmp_ratelimit); discard is silent."""
    found = scan("-sU", "-p", "7,9,11,13,20")
    assert found[7] == ("open", "udp-response")
    assert found[9] == ("open|filtered", "no-response")
    assert {found[port] for port in (11, 13, 20)} == {("closed", "port-unreach")}


@pytest.mark.parametrize(("flags", "closed"), [("-sF", "reset"), ("-sN", "reset"), ("-sX", "reset")])
def test_stray_segments(daemon: RunningDaemon, flags: str, closed: str) -> None:
    """RFC 9293 3.10.7.1 and 3.10.7.2: without SYN, ACK or RST a listener drops it, and a closed port resets."""
    found = scan(flags, "-p", "7,11,80", "--max-retries", "0")
    assert found == {7: ("open|filtered", "no-response"), 11: ("closed", closed), 80: ("open|filtered", "no-response")}


def test_an_ack_scan_finds_no_filter(daemon: RunningDaemon) -> None:
    """RFC 9293 3.10.7.2: "any acknowledgment is bad if it arrives on a connection still in the LISTEN state"."""
    assert scan("-sA", "-p", "7,11") == {7: ("unfiltered", "reset"), 11: ("unfiltered", "reset")}


def test_protocols(daemon: RunningDaemon) -> None:
    """RFC 1122 3.2.2.1: "2 = protocol unreachable" for what the stack does not have."""
    text = output(*NMAP, "-dd", "--reason", "-sO", "-p", "1,6,17,132", STACK)
    said = dict(re.findall(r"^(\d+) +(\S+) +\S+ +\S+", text, re.MULTILINE))
    assert said["1"] == said["6"] == said["17"] == "open" and said["132"] == "closed", text


def test_the_stack_looks_like_what_it_is(daemon: RunningDaemon) -> None:
    """nmap's fingerprint: initial sequence numbers are beyond guessing, identifiers of RST are not a counter."""
    text = output(*NMAP, "-O", "-v", "-p", "7,11", "--max-os-tries", "1", STACK)
    difficulty = re.search(r"TCP Sequence Prediction: Difficulty=(\d+)", text)
    assert difficulty and int(difficulty[1]) > 200, text
    assert "IP ID Sequence Generation: All zeros" in text, text
