"""A laboratory that the kernel joins through a TAP: a switch, a router and a host behind it, in real time."""

from __future__ import annotations

import hashlib
import re
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from tests.netns.daemon import PATIENCE, run_ustack
from tests.netns.programs import output
from ustack.io.host import Host, Namespace, write_sysctl
from ustack.io.services import PATTERN

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

WEB: Final = "198.51.100.2"
LAB: Final = """
    [[host]]
    name = "r"
    addr = { eth0 = "192.0.2.254/24", eth1 = "198.51.100.1/24" }
    forward = true

    [[host]]
    name = "web"
    addr = "198.51.100.2/24"
    gateway = "198.51.100.1"
    serve = ["http", "echo"]

      [[host.program]]
      run = "udp-recv"
      args = [4747]

    [[switch]]
    name = "sw"

    [[cable]]
    ends = ["r:eth0", "sw"]

    [[cable]]
    ends = ["r:eth1", "web"]
    delay = "5ms"

    [[tap]]
    name = "us0"
    end = "sw"
    host-addr = "192.0.2.1/24"
"""


class RunningLab:
    """``ustack lab`` with a route to what is behind its router; it has ended after the block, by SIGTERM if need be."""

    def __init__(self, directory: Path, text: str = LAB, *options: str) -> None:
        file = directory / "lab.toml"
        file.write_text(text)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ustack", "lab", str(file), *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.ended: tuple[int, str, str] | None = None

    def __enter__(self) -> Self:
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        if "us0 is " not in line:
            self.process.kill()
            raise AssertionError(f"the laboratory did not start: {line}{self.process.communicate()[1]}")
        with Host() as host:
            host.add_route("198.51.100.0/24", gateway="192.0.2.254")
        return self

    def __exit__(self, *exc: object) -> None:
        if self.ended is None:
            self.process.send_signal(signal.SIGTERM)
            status, _, err = self.wait()
            assert status == 0, err

    def wait(self) -> tuple[int, str, str]:
        """(status, stdout, stderr) at its end."""
        out, err = self.process.communicate(timeout=PATIENCE)
        self.ended = (self.process.returncode, out, err)
        assert "Traceback" not in err, err
        return self.ended


def test_ping_across_a_switch_and_a_router(namespace: Namespace, tmp_path: Path) -> None:
    with RunningLab(tmp_path):
        text = output("ping", "-n", "-c", "5", "-i", "0.05", "-W", "5", WEB)
    assert "5 received" in text, text
    assert "ttl=63" in text, "one router"
    times = [float(found) for found in re.findall(r"time=([\d.]+) ms", text)]
    assert min(times) >= 10.0, "5 ms there and 5 ms back"


def test_a_muffin_for_a_program_in_the_laboratory(namespace: Namespace, tmp_path: Path) -> None:
    """Its program has ended then, and so the laboratory ends."""
    with RunningLab(tmp_path) as lab, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"muffin", (WEB, 4747))
        status, out, err = lab.wait()
    assert status == 0, err
    port = r"\d+"
    assert re.search(rf'web: received "muffin" from 192\.0\.2\.1:{port}$', out, re.MULTILINE), out
    assert "2 hosts, 1 switch" in err


@pytest.mark.parametrize("offload", ["true", "false"])
def test_curl_from_a_service_in_the_laboratory(namespace: Namespace, tmp_path: Path, offload: str) -> None:
    size = 2_000_000
    with RunningLab(tmp_path, f"{LAB}    offload = {offload}\n"):
        body = subprocess.run(
            ["curl", "-sS", "--fail", "--max-time", "50", f"http://{WEB}/bytes/{size}"],
            stdout=subprocess.PIPE,
            timeout=55,
            check=True,
        ).stdout
        data = bytes(size // 2)
        answer = output(
            "curl", "-sS", "--fail", "--max-time", "50", "--data-binary", "@-", f"http://{WEB}/", stdin=data
        )
    expected = (PATTERN * (size // len(PATTERN) + 1))[:size]
    assert hashlib.sha256(body).digest() == hashlib.sha256(expected).digest()
    assert hashlib.sha256(data).hexdigest() in answer


def test_the_kernel_is_seen_in_the_trace(namespace: Namespace, tmp_path: Path) -> None:
    with RunningLab(tmp_path, LAB, "--trace", "icmp") as lab:
        output("ping", "-n", "-c", "1", "-W", "5", WEB)
        lab.process.send_signal(signal.SIGTERM)
        status, out, err = lab.wait()
    assert status == 0, err
    for function in ("tun_do_read", "br_handle_frame", "ip_forward", "icmp_rcv", "tun_get_user"):
        assert function in out, out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_and_its_tap(namespace: Namespace, tmp_path: Path, host: Host, number: signal.Signals) -> None:
    with RunningLab(tmp_path) as lab:
        assert host.has_link("us0")
        lab.process.send_signal(number)
        status, _, err = lab.wait()
    assert status == 0, err
    assert not host.has_link("us0")


def test_two_taps_are_two_ports(namespace: Namespace, tmp_path: Path) -> None:
    """Two kernels: this one, and the kernel of another namespace, with the laboratory's router between them."""
    text = LAB + '    [[tap]]\n    name = "us1"\n    end = "r:eth2"\n'
    text = text.replace('eth1 = "198.51.100.1/24" }', 'eth1 = "198.51.100.1/24", eth2 = "203.0.113.1/24" }')
    other = Namespace.create()
    with RunningLab(tmp_path, text):
        with Host() as host:
            host.move_link("us1", other)
            host.add_route("203.0.113.0/24", gateway="192.0.2.254")
        with other, Host() as host:
            write_sysctl("net.ipv6.conf.all.disable_ipv6", "1")
            host.set_link("us1", up=True)
            host.add_address("us1", "203.0.113.2/24")
            host.add_route("192.0.2.0/24", gateway="203.0.113.1")
        text = output("ping", "-n", "-c", "2", "-i", "0.05", "-W", "5", "203.0.113.2")
    other.close()
    assert "2 received" in text and "ttl=63" in text, text


def test_until_is_on_the_walls_clock(namespace: Namespace, tmp_path: Path) -> None:
    (tmp_path / "lab.toml").write_text(LAB)
    status, out, err = run_ustack("lab", str(tmp_path / "lab.toml"), "--until", "100ms")
    assert status == 1
    assert "udp-recv: has not ended after 0.1 s" in err
    assert out.splitlines() == ["    0.000000  web: waiting at UDP port 4747"]


def test_a_tap_that_somebody_else_has(namespace: Namespace, tmp_path: Path) -> None:
    with RunningLab(tmp_path):
        status, out, err = run_ustack("lab", str(tmp_path / "lab.toml"))
    assert status == 1
    assert err.strip() == "ustack: us0: the TAP is busy: another program has it open"


def test_the_tap_is_taken_away(namespace: Namespace, tmp_path: Path, host: Host) -> None:
    with RunningLab(tmp_path) as lab:
        host.delete_link("us0")
        status, _, err = lab.wait()
    assert status == 1
    assert "every TAP device is gone" in err
