"""Checksums and segmentation, done by either side or left to the other: the kernel checks every frame of ours.

A mistake here shows as a frame that the kernel drops (Tcp InCsumErrors in /proc/net/snmp), as data that changed on its
way, or as segments of the wrong size.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.netns.daemon import HOST, PATIENCE, SERVICES, STACK, RunningDaemon
from tests.netns.programs import MEGABYTE, background, need, output, pattern, program, sha256, status_of
from ustack.device.net_device import (
    NETIF_F_HW_CSUM,
    NETIF_F_RXCSUM,
    NETIF_F_SG,
    NETIF_F_TSO,
    NETIF_F_TSO_ECN,
)
from ustack.io.services import PATTERN
from ustack.io.tap import TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO_ECN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ustack.io.host import Host, Namespace

SIZE: Final = 8 * MEGABYTE
PAYLOAD: Final = (PATTERN * (SIZE // len(PATTERN) + 1))[:SIZE]

TCPDUMP: Final = ("tcpdump", "-n", "-i", "us0", "--immediate-mode", "-U", "-B", "65536", "-Z", "root")

#: tcpdump's ring has a place of this length for each frame: 256 of the longest there are, 32,768 of a link's own.
SHORT: Final = ("-s", "2048")

#: A daemon whose TAP hands over what argv[1] says (TUN_F_*) and whose driver has the features argv[2] (NETIF_F_*).
TUNED: Final = """
import sys
from ustack.io.config import Config
from ustack.io.daemon import Daemon
tun, features, control, addr, host_addr, services = sys.argv[1:]
daemon = Daemon(Config(addr=[addr], host_addr=host_addr, control=control, serve=services.split(",")))
daemon.links[0].tap.set_offload(int(tun))
daemon.links[0].dev.set_features(int(features))
sys.stderr.write("up:\\n")
daemon.run()
"""


class TunedDaemon(RunningDaemon):
    """The same, with an offload of one's choice in each direction."""

    def __init__(self, directory: Path, tun: int, features: int) -> None:
        super().__init__(directory, "--version")  # says so, and is gone
        self.process.communicate(timeout=PATIENCE)
        self.process = subprocess.Popen(
            [sys.executable, "-c", TUNED, str(tun), str(features), self.control, f"{STACK}/24", f"{HOST}/24", SERVICES],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def transfer(size: int = SIZE) -> None:
    """That many bytes up and down, over one connection."""
    connection = http.client.HTTPConnection(STACK, timeout=PATIENCE)
    data = pattern(size)
    connection.request("PUT", "/body", data)
    assert json.loads(connection.getresponse().read()) == {"length": size, "sha256": sha256(data)}
    connection.request("GET", f"/bytes/{size}")
    assert sha256(connection.getresponse().read()) == sha256(PAYLOAD[:size])
    connection.close()


def datagrams() -> None:
    """Echoed: one byte, odd and even lengths, a full packet, and in fragments."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((STACK, 7))
        sock.settimeout(PATIENCE)
        for size in (1, 2, 99, 1372, 1472, 1473, 8000, 40_000):
            data = pattern(size)
            sock.send(data)
            assert sock.recv(65_536) == data


@contextlib.contextmanager
def capture(file: Path, *options: str) -> Iterator[None]:
    """tcpdump writes every IP packet of the link to ``file`` meanwhile; the last one is in it afterwards."""
    mark = os.urandom(16)
    with background(*TCPDUMP, "-w", str(file), *options, "ip", ready="listening"):
        yield
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(mark, (STACK, 9))
        deadline = time.monotonic() + PATIENCE
        while mark not in file.read_bytes()[-4096:]:
            assert time.monotonic() < deadline, "tcpdump lags behind"
            select.select([], [], [], 0.02)


def kernel_counters() -> dict[str, int]:
    """Group.Name: value, of this namespace's /proc/net/snmp."""
    found = {}
    lines = Path("/proc/thread-self/net/snmp").read_text().splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        group, _, rest = names.partition(":")
        for name, value in zip(rest.split(), values.split()[1:], strict=True):
            found[f"{group}.{name}"] = int(value)
    return found


def nothing_was_wrong(daemon: RunningDaemon) -> None:
    """Neither side has seen a bad checksum or a malformed packet."""
    suspects = ("Tcp.InErrs", "Tcp.InCsumErrors", "Udp.InCsumErrors", "Udp.InErrors", "Ip.InHdrErrors", "Ip.ReasmFails")
    theirs, ours = kernel_counters(), status_of(daemon)["counters"]
    assert {name: theirs[name] for name in suspects if theirs[name]} == {}
    assert {name: ours[name] for name in suspects if ours.get(name)} == {}


def mean_frames(daemon: RunningDaemon) -> tuple[float, float]:
    """Bytes in a frame that carries bulk, on average: received and sent by the stack."""
    stats = next(dev["stats"] for dev in status_of(daemon)["devices"] if dev["name"] == "us0")
    # Acknowledgements are frames too: what went the one way is divided by all of that way.
    return stats["rx_bytes"] / stats["rx_packets"], stats["tx_bytes"] / stats["tx_packets"]


CSUM, TSO = NETIF_F_HW_CSUM, NETIF_F_TSO | NETIF_F_TSO_ECN


@pytest.mark.heavy
@pytest.mark.parametrize(
    "features",
    [0, NETIF_F_SG, NETIF_F_SG | CSUM, NETIF_F_SG | TSO, CSUM, NETIF_F_SG | CSUM | TSO, CSUM | TSO],
    ids=["none", "sg", "sg+csum", "sg+tso", "csum", "sg+csum+tso", "csum+tso"],
)
@pytest.mark.parametrize(
    "tun", [0, TUN_F_CSUM, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO_ECN], ids=["host-none", "host-csum", "host-csum+tso"]
)
def test_every_combination(namespace: Namespace, tmp_path: Path, tun: int, features: int) -> None:
    """``tun``: what the kernel may leave to us; ``features``: what we leave to the kernel."""
    with TunedDaemon(tmp_path, tun, features | NETIF_F_RXCSUM) as daemon:
        datagrams()
        transfer()
        nothing_was_wrong(daemon)
        received, sent = mean_frames(daemon)
    # what each side may leave to the other it does leave, or the bulk would come in frames of 1,514 bytes
    assert (received > 1514) == (tun & TUN_F_TSO4 != 0)
    if features & (CSUM | TSO) == CSUM | TSO and features & NETIF_F_SG:
        assert sent > 1514
    if not features & TSO:
        assert sent <= 1514


def test_without_receive_checksums(namespace: Namespace, tmp_path: Path) -> None:
    """NETIF_F_RXCSUM off: whatever the device vouches for is verified again."""
    with TunedDaemon(tmp_path, 0, NETIF_F_SG) as daemon:
        datagrams()
        transfer(MEGABYTE)
        nothing_was_wrong(daemon)


@pytest.mark.parametrize("options", [(), ("--no-offload",)], ids=["offload", "plain"])
@pytest.mark.parametrize("mtu", [576, 1400, 1500, 9000])
def test_segments_fit_the_link(namespace: Namespace, tmp_path: Path, mtu: int, options: tuple[str, ...]) -> None:
    """Each full segment is as long as the MTU allows and no longer: MSS is MTU less 40, and timestamps take twelve."""
    need("ss", "tcpdump")
    file = tmp_path / "frames"
    with RunningDaemon(tmp_path, "--serve", SERVICES, "--mtu", str(mtu), *options) as daemon:
        with capture(file, "-s", "100"):
            with socket.create_connection((STACK, 7), PATIENCE) as sock:
                sock.sendall(b"x")
                assert sock.recv(1) == b"x"
                shown = output("ss", "-tin", "dst", STACK)
            assert f" mss:{mtu - 52} " in shown and f"advmss:{mtu - 52}" in shown, shown
            transfer(MEGABYTE)
        nothing_was_wrong(daemon)
    lengths = [
        int(length) for length in re.findall(r", length (\d+): ", output("tcpdump", "-e", "-n", "-r", str(file)))
    ]
    assert len(lengths) > 20
    if options:
        assert max(lengths) == mtu + 14
    else:
        assert max(lengths) > mtu + 14, "super-segments"


def test_every_checksum_is_right_on_the_wire(namespace: Namespace, tmp_path: Path) -> None:
    """tcpdump sums what crosses the link: TCP, UDP, ICMP and IP, from both sides, with and without data."""
    need("tcpdump")
    file = tmp_path / "frames"
    with RunningDaemon(tmp_path, "--serve", SERVICES, "--no-offload"):
        with capture(file, *SHORT):
            transfer(MEGABYTE)
            datagrams()
            output("ping", "-c", "2", "-i", "0.01", "-s", "3000", STACK)
            program("socat", "-t1", "-", f"UDP4:{STACK}:4747", stdin=b"closed")
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((STACK, 4747), PATIENCE)
    text = output("tcpdump", "-n", "-vv", "-r", str(file))
    assert text.count("(correct)") > 1000 and text.count("udp sum ok") >= 10
    assert not re.findall(r".*(?:\(incorrect|bad cksum|bad udp|wrong icmp|truncated|malformed).*", text)


def test_ends_with_different_mtus(namespace: Namespace, tmp_path: Path, host: Host) -> None:
    """Segments are as long as the smaller of both ends takes (RFC 9293 3.7.1), whichever that is."""
    with RunningDaemon(tmp_path, "--serve", SERVICES, "--mtu", "9000", "--no-offload") as daemon:
        host.set_link("us0", mtu=1400)
        transfer(MEGABYTE)
        nothing_was_wrong(daemon)
    with RunningDaemon(tmp_path, "--serve", SERVICES, "--mtu", "1400", "--no-offload") as daemon:
        host.set_link("us0", mtu=9000)
        transfer(MEGABYTE)
        nothing_was_wrong(daemon)


def test_a_frame_that_is_too_long_is_counted(namespace: Namespace, tmp_path: Path, host: Host) -> None:
    with RunningDaemon(tmp_path, "--serve", SERVICES, "--no-offload") as daemon:
        host.set_link("us0", mtu=9000)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((STACK, 7))
            sock.send(bytes(4000))
            sock.send(b"short")
            assert select.select([sock], [], [], PATIENCE)[0] and sock.recv(100) == b"short"
        stats = next(dev["stats"] for dev in status_of(daemon)["devices"] if dev["name"] == "us0")
    assert (stats["rx_errors"], stats["rx_length_errors"]) == (1, 1)
