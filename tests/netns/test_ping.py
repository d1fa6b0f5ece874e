"""ping and arping against the daemon, and the stack's ping against the kernel."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from tests.netns.daemon import HOST, IMPATIENT, PATIENCE, STACK, RunningDaemon, run_ustack
from tests.netns.programs import output, program, status_of

if TYPE_CHECKING:
    from pathlib import Path

    from ustack.io.host import Host, Namespace

#: Echo data in one packet of 1,500 bytes, and in several: 1,473 is the first that does not fit, 65,507 the last of all.
WHOLE: Final = (0, 1, 15, 16, 17, 56, 511, 1471, 1472)
FRAGMENTED: Final = (1473, 2952, 2953, 4000, 65_507)

ANSWERED = re.compile(r"(\d+) packets transmitted, (\d+) (?:packets )?received,")


def answered(text: str) -> tuple[int, int]:
    """(requests, replies) that ping counted."""
    found = ANSWERED.search(text)
    assert found, text
    return int(found[1]), int(found[2])


def ping(*options: str, address: str = STACK) -> str:
    """What ping prints: it compares the data, and says so if it is not what it sent."""
    text = output("ping", "-n", "-i", f"{PATIENCE / 400:g}", "-W", f"{PATIENCE / 10:g}", *options, address)
    assert "wrong" not in text and "DUP!" not in text and "truncated" not in text, text
    return text


@pytest.mark.vm
@pytest.mark.parametrize("options", [(), ("--no-offload",)], ids=["offload", "plain"])
def test_every_size_is_answered(namespace: Namespace, tmp_path: Path, options: tuple[str, ...]) -> None:
    with RunningDaemon(tmp_path, *options) as daemon:
        for size in WHOLE:
            text = ping("-c", "3", "-s", str(size), "-M", "do")
            assert answered(text) == (3, 3), text
        before = status_of(daemon)
        for size in FRAGMENTED:
            text = ping("-c", "3", "-s", str(size))
            assert answered(text) == (3, 3), text
        after = status_of(daemon)
    assert after["drops"] == before["drops"], "nothing of a datagram in fragments is lost"
    requests = 3 * len(FRAGMENTED)
    for name, moved in {"Icmp.InEchos": requests, "Icmp.OutEchoReps": requests, "Ip.ReasmOKs": requests}.items():
        assert after["counters"].get(name, 0) - before["counters"].get(name, 0) == moved, name
    # RFC 791: each fragment but the last is as long as the link allows, in units of eight bytes
    fragments = sum(3 * -(-(size + 8) // 1480) for size in FRAGMENTED)
    assert after["counters"]["Ip.ReasmReqds"] - before["counters"].get("Ip.ReasmReqds", 0) == fragments
    assert after["counters"]["Ip.FragCreates"] - before["counters"].get("Ip.FragCreates", 0) == fragments


@pytest.mark.parametrize("mtu", [68, 576, 1400, 9000])
def test_other_mtus(namespace: Namespace, tmp_path: Path, mtu: int) -> None:
    """From the smallest of RFC 791 to jumbo frames: the largest whole packet, one byte more, and many pieces."""
    with RunningDaemon(tmp_path, "--mtu", str(mtu)):
        assert answered(ping("-c", "2", "-s", str(mtu - 28), "-M", "do")) == (2, 2)
        status, text = program("ping", "-n", "-c", "1", "-W", "1", "-s", str(mtu - 27), "-M", "do", STACK)
        assert status == 1 and f"mtu={mtu}" in text.replace(" ", ""), "the host itself knows that this is too long"
        for size in (mtu - 27, 2000, 20_000):
            # -S: ping reckons its buffer without the kernel's cost of hundreds of small fragments
            assert answered(ping("-c", "2", "-S", "4000000", "-s", str(size))) == (2, 2)


@pytest.mark.parametrize("options", [(), ("--no-offload",)], ids=["offload", "plain"])
def test_a_flood_of_pings_loses_nothing(namespace: Namespace, tmp_path: Path, options: tuple[str, ...]) -> None:
    """Two seconds, as fast as answers come; the request that is under way when time is over is not a loss."""
    with RunningDaemon(tmp_path, *options) as daemon:
        before = status_of(daemon)["counters"]
        text = output("ping", "-n", "-q", "-f", "-w", "2", STACK)
        after = status_of(daemon)
    sent, received = answered(text)
    assert sent > 1000 and received >= sent - 1, text
    moved = {name: after["counters"][name] - before.get(name, 0) for name in ("Icmp.InEchos", "Icmp.OutEchoReps")}
    assert moved == {"Icmp.InEchos": sent, "Icmp.OutEchoReps": sent}
    assert "ICMP" not in "".join(after["drops"])


def test_a_flood_in_fragments_loses_nothing(namespace: Namespace, tmp_path: Path) -> None:
    with RunningDaemon(tmp_path):
        sent, received = answered(output("ping", "-n", "-q", "-f", "-w", "1", "-s", "8000", STACK))
    assert sent > 100 and received >= sent - 1


def test_many_in_flight_lose_nothing(namespace: Namespace, tmp_path: Path) -> None:
    """A hundred requests at once, before any answer."""
    with RunningDaemon(tmp_path):
        assert answered(output("ping", "-n", "-q", "-f", "-l", "100", "-c", "2000", STACK)) == (2000, 2000)


@pytest.mark.vm
def test_options_come_back(namespace: Namespace, tmp_path: Path) -> None:
    """RFC 1122 3.2.2.6: a record route or timestamp option of an echo is updated and sent back in the reply."""
    with RunningDaemon(tmp_path):
        route = output("ping", "-n", "-c", "1", "-R", STACK)
        stamps = output("ping", "-n", "-c", "1", "-T", "tsandaddr", STACK)
    assert re.search(rf"RR:\s+{HOST}\s+{STACK}\s+{STACK}\s+{HOST}", route), route
    assert len(re.findall(STACK, stamps.partition("TS:")[2])) >= 2, stamps


@pytest.mark.vm
def test_a_broadcast_is_not_answered(namespace: Namespace, tmp_path: Path) -> None:
    """icmp_echo_ignore_broadcasts, on since Linux 2.6.14."""
    with RunningDaemon(tmp_path) as daemon:
        status, text = program("ping", "-n", "-b", "-c", "2", "-i", "0.1", "-W", "0.3", "192.0.2.255")
        counters = status_of(daemon)["counters"]
    assert (status, answered(text)) == (1, (2, 0))
    assert counters["Icmp.InEchos"] == 2 and "Icmp.OutEchoReps" not in counters


@pytest.mark.vm
def test_every_address_of_the_stack_answers(namespace: Namespace, tmp_path: Path, host: Host) -> None:
    with RunningDaemon(tmp_path, "--addr", "192.0.2.20/24", "--addr", "198.51.100.2/24"):
        host.add_route("198.51.100.0/24", dev="us0")
        for address in (STACK, "192.0.2.20", "198.51.100.2"):
            assert answered(ping("-c", "2", address=address)) == (2, 2)
        status, text = program("ping", "-n", "-c", "1", "-W", "0.2", "192.0.2.21")
        assert (status, answered(text)) == (1, (1, 0)), "not one of its own"


# -- arping: iputils' and Habets' are both called that


def arping(address: str, count: int, *options: str) -> tuple[int, str]:
    _, about = program("arping", "--help")
    interface = "-i" if "Habets" in about else "-I"
    return program("arping", "-c", str(count), interface, "us0", *options, address)


@pytest.mark.vm
def test_arping_hears_the_stack_and_nobody_else(namespace: Namespace, tmp_path: Path) -> None:
    with RunningDaemon(tmp_path) as daemon:
        mac = next(dev["mac"] for dev in status_of(daemon)["devices"] if dev["name"] == "us0")
        status, text = arping(STACK, 2)
        assert status == 0 and text.lower().count(mac) == 2, text
        status, text = arping("192.0.2.3", 1)
        assert status == 1 and mac not in text.lower(), text
        assert "lladdr" not in output("ip", "neighbour", "show", "192.0.2.3")


@pytest.mark.vm
def test_the_kernel_resolves_and_keeps_the_stack(namespace: Namespace, tmp_path: Path, host: Host) -> None:
    with RunningDaemon(tmp_path) as daemon:
        mac = next(dev["mac"] for dev in status_of(daemon)["devices"] if dev["name"] == "us0")
        ping("-c", "1")
        assert f"lladdr {mac}" in output("ip", "neighbour", "show", STACK)
        neighbours = {entry["address"]: entry for entry in status_of(daemon)["neighbours"]}
        assert neighbours[HOST]["mac"] == host.link("us0")["address"]


# -- ustack ping


@pytest.mark.parametrize("options", [(), ("--no-offload",)], ids=["offload", "plain"])
def test_the_stack_pings_the_kernel(namespace: Namespace, tmp_path: Path, options: tuple[str, ...]) -> None:
    with RunningDaemon(tmp_path, *options):
        for size in (0, 1, 56, 1471, 1472, 1473, 4000, 65_507):
            status, out, err = run_ustack("ping", "-c", "3", "-i", "0.01", "-s", str(size), HOST)
            assert (status, err) == (0, ""), err
            assert answered(out) == (3, 3) and "wrong" not in out, out
            assert out.count(f"{size + 8} bytes from {HOST}: icmp_seq=") == 3


def test_what_the_stack_cannot_ping(namespace: Namespace, tmp_path: Path) -> None:
    """The kernel's ping says the same: after three ARP requests without a reply, and at once without a route."""
    with RunningDaemon(tmp_path, *IMPATIENT):
        status, out, _ = run_ustack("ping", "-c", "1", "-W", "5", "192.0.2.99")
        assert status == 1 and answered(out) == (1, 0)
        assert "No route to host" in out and "+1 errors" in out, out
        status, out, _ = run_ustack("ping", "-c", "1", "203.0.113.1")
        assert status == 1 and "Network is unreachable" in out


@pytest.mark.vm
def test_a_ttl_that_is_used_up_is_told(namespace: Namespace, tmp_path: Path, host: Host) -> None:
    """The host routes, and is the gateway of the stack."""
    from ustack.io.host import write_sysctl

    write_sysctl("net.ipv4.ip_forward", "1")
    with RunningDaemon(tmp_path, "--gateway", HOST):
        status, out, _ = run_ustack("ping", "-c", "1", "-t", "1", "-W", "3", "203.0.113.1")
        assert status == 1 and answered(out) == (1, 0) and "+1 errors" in out, out
