"""ustack up, down and status: a daemon's life from start to clean end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.netns.daemon import (
    HOST,
    PATIENCE,
    SERVICES,
    STACK,
    RunningDaemon,
    as_nobody,
    finish,
    run,
    run_ustack,
    ustack,
)
from ustack.io.client import Client
from ustack.io.tap import Tap

if TYPE_CHECKING:
    from pathlib import Path

    from ustack.io.control import Status
    from ustack.io.host import Host, Namespace


def status_of(daemon: RunningDaemon) -> Status:
    with daemon.client() as client:
        return client.status()


def ping(address: str = STACK) -> int:
    return run("ping", "-c", "1", "-W", "2", address)[0]


def test_foreground_until_sigterm(namespace: Namespace, host: Host, tmp_path: Path) -> None:
    with RunningDaemon(tmp_path) as daemon:
        assert ping() == 0
        assert host.addresses("us0") == [f"{HOST}/24"]
        status, log = daemon.terminate()
    assert status == 0
    assert "INFO ustack.daemon: down" in log
    assert not host.has_link("us0"), "it was made by the daemon"
    assert not os.path.exists(daemon.control)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_other_signals_that_end_it(namespace: Namespace, tmp_path: Path, number: signal.Signals) -> None:
    with RunningDaemon(tmp_path) as daemon:
        daemon.process.send_signal(number)
        assert daemon.wait()[0] == 0


def test_behind_us_until_down(namespace: Namespace, host: Host, tmp_path: Path) -> None:
    """``up`` returns once it answers, ``down`` once everything is gone."""
    control = str(tmp_path / "control.sock")
    up = ("up", "--control", control, "--addr", f"{STACK}/24", "--host-addr", f"{HOST}/24", "--serve", "echo")
    assert run_ustack(*up) == (0, "", "")
    with Client(control) as client:
        pid = client.status().pid
    try:
        assert ping() == 0
        assert os.getsid(pid) == pid, "it has no terminal"
        assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)} == {"/dev/null"}
        assert run_ustack("down", "--control", control) == (0, "", "")
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    assert not host.has_link("us0") and not os.path.exists(control)
    status, _, err = run_ustack("down", "--control", control)
    assert status == 1 and "no daemon answers" in err


def test_it_answers_at_once(namespace: Namespace, host: Host, tmp_path: Path) -> None:
    """0.3 s is the aim on an idle machine; here only that nothing waits for a timer (SYN or ARP retries, a second)."""
    before = time.monotonic()
    with RunningDaemon(tmp_path, "--serve", SERVICES):
        assert run("nc", "-N", STACK, "7", stdin="hello") == (0, "hello")
        assert time.monotonic() - before < 10


def test_configuration_file(namespace: Namespace, host: Host, tmp_path: Path) -> None:
    """The command line wins."""
    file = tmp_path / "ustack.toml"
    file.write_text('dev = "us7"\nmtu = 1400\nserve = ["discard"]\nno-offload = true\n')
    with RunningDaemon(tmp_path, "--config", str(file), "--mtu", "1300") as daemon:
        status = status_of(daemon)
        device = status.devices[1]
        assert (device.name, device.mtu) == ("us7", 1300)
        assert host.link("us7")["mtu"] == 1300
        assert {(entry.protocol, entry.local) for entry in status.sockets} == {("tcp", "*:9"), ("udp", "*:9")}
        assert ping() == 0


def test_several_addresses_and_a_gateway(namespace: Namespace, host: Host, tmp_path: Path) -> None:
    with RunningDaemon(tmp_path, "--addr", "198.51.100.2/24", "--gateway", HOST) as daemon:
        host.add_route("198.51.100.0/24", dev="us0")
        assert ping() == 0 == ping("198.51.100.2")
        assert status_of(daemon).devices[1].addresses == [f"{STACK}/24", "198.51.100.2/24"]
        host.add_address("lo", "203.0.113.1/32")
        status, out, _ = run_ustack("ping", "-c", "1", "203.0.113.1")
        assert status == 0, out


def test_status_for_people_and_programs(namespace: Namespace, tmp_path: Path) -> None:
    with RunningDaemon(tmp_path, "--serve", SERVICES):
        ping()
        status, text, err = run_ustack("status")
        assert (status, err) == (0, "")
        for wanted in ("us0", f"inet {STACK}/24", f"{HOST}  us0", "LISTEN", "*:80", "rx packets", "rx_free"):
            assert wanted in text, wanted
        status, text, err = run_ustack("status", "-j")
        assert (status, err) == (0, "")
        seen = json.loads(text)
        assert seen["uptime"] > 0 and "type" not in seen
        assert [device["name"] for device in seen["devices"]] == ["lo", "us0"]
        assert seen["devices"][1]["stats"]["rx_packets"] > 0
        assert seen["neighbours"][0]["address"] == HOST
        assert {entry["protocol"] for entry in seen["sockets"]} == {"tcp", "udp"}
        assert seen["counters"]["Icmp.InEchos"] == 1


def test_drops_are_shown_by_reason(namespace: Namespace, tmp_path: Path) -> None:
    with RunningDaemon(tmp_path) as daemon:
        run("nc", "-u", "-w", "1", STACK, "9", stdin="nobody listens")
        assert status_of(daemon).drops.get("NO_SOCKET", 0) >= 1


def test_attach_to_a_tap_that_stays(namespace: Namespace, host: Host, tmp_path: Path) -> None:
    """What was there before is there afterwards, without what was added."""
    tap = Tap("tap7", offload=False)
    tap.persist(True)
    tap.close()
    host.add_address("tap7", "198.51.100.1/24")
    with RunningDaemon(tmp_path, "--dev", "tap7"):
        assert ping() == 0
        assert host.addresses("tap7") == ["198.51.100.1/24", f"{HOST}/24"]
    assert host.addresses("tap7") == ["198.51.100.1/24"]
    host.delete_link("tap7")


def test_an_address_that_was_there_before_stays(namespace: Namespace, host: Host, tmp_path: Path) -> None:
    """Being given it again is an error, and it is not ours to remove; what we did add goes if something else fails."""
    tap = Tap("tap7", offload=False)
    tap.persist(True)
    tap.close()
    host.add_address("tap7", f"{HOST}/24")
    assert f"{HOST}/24 on tap7: File exists" in refused(*up(tmp_path, "--dev", "tap7", "--host-addr", f"{HOST}/24"))
    assert host.addresses("tap7") == [f"{HOST}/24"]
    refused(*up(tmp_path, "--dev", "tap7", "--host-addr", "198.51.100.1/24", "--control", "/nowhere/x.sock"))
    assert host.addresses("tap7") == [f"{HOST}/24"]
    host.delete_link("tap7")


def test_capture(namespace: Namespace, tmp_path: Path) -> None:
    file = tmp_path / "frames.pcapng"
    with RunningDaemon(tmp_path, "--capture", str(file)):
        assert ping() == 0
    data = file.read_bytes()
    assert data[:4] == b"\x0a\x0d\x0d\x0a"
    assert len(data) > 4 * 42, "two ARP frames and two echoes at least"


# -- what cannot be


def refused(*arguments: str) -> str:
    status, out, err = run_ustack(*arguments)
    assert (status, out) == (1, ""), err
    assert err.startswith("ustack: ") and err.count("\n") == 1 and "Traceback" not in err, err
    return err


def up(tmp_path: Path, *options: str) -> tuple[str, ...]:
    return ("up", "--control", str(tmp_path / "other.sock"), "--addr", "198.51.100.2/24", *options)


def test_a_busy_tap(namespace: Namespace, tmp_path: Path) -> None:
    with RunningDaemon(tmp_path):
        for options in ((), ("--foreground",)):
            assert "us0: the TAP is busy" in refused(*up(tmp_path, *options))


def test_a_control_socket_that_is_taken(namespace: Namespace, host: Host, tmp_path: Path) -> None:
    with RunningDaemon(tmp_path) as daemon:
        said = refused("up", "--dev", "us1", "--control", daemon.control)
        assert f"{daemon.control}: a daemon is listening there already" in said
        assert not host.has_link("us1"), "what was made before is gone again"
        assert ping() == 0


@pytest.mark.parametrize("open_tun", [False, True])
def test_no_permission(namespace: Namespace, open_tun: bool) -> None:
    """An ordinary user may not make devices, nor open /dev/net/tun where it is root's."""
    status, out, err = as_nobody("up", "--dev", "us3", "--control", "/tmp/never.sock", open_tun=open_tun)
    assert (status, out) == (1, "")
    assert err.startswith("ustack: us3: no permission") and err.count("\n") == 1


def test_an_interface_that_is_no_tap(namespace: Namespace, tmp_path: Path) -> None:
    assert "lo: " in refused(*up(tmp_path, "--dev", "lo"))


def test_addresses_that_the_stack_will_not_have(namespace: Namespace, host: Host, tmp_path: Path) -> None:
    assert "198.51.100.2/24" in refused(*up(tmp_path, "--addr", "198.51.100.2/24"))
    assert "gateway 203.0.113.9" in refused(*up(tmp_path, "--gateway", "203.0.113.9"))
    assert not host.has_link("us0")


def test_a_capture_file_that_cannot_be(namespace: Namespace, host: Host, tmp_path: Path) -> None:
    assert "/nowhere/x.pcapng: No such file" in refused(*up(tmp_path, "--capture", "/nowhere/x.pcapng"))
    assert not host.has_link("us0")


def test_the_device_is_deleted_under_it(namespace: Namespace, host: Host, tmp_path: Path) -> None:
    with RunningDaemon(tmp_path) as daemon:
        host.delete_link("us0")
        status, log = daemon.wait()
        assert status == 1 and "us0: No such device" in log and "Traceback" not in log


# -- nothing left behind


def test_starting_again_and_again_leaves_nothing(namespace: Namespace, host: Host, tmp_path: Path) -> None:
    for _ in range(5):
        with RunningDaemon(tmp_path, "--serve", SERVICES):
            pass
    assert not host.has_link("us0")
    assert os.listdir(tmp_path) == []


def test_open_connections_are_closed_at_the_end(namespace: Namespace, tmp_path: Path) -> None:
    """What is open gets its FIN, so that no peer is left waiting."""
    with RunningDaemon(tmp_path, "--serve", "echo") as daemon:
        nc = subprocess.Popen(["nc", STACK, "7"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert nc.stdin is not None and nc.stdout is not None
        nc.stdin.write(b"hello\n")
        nc.stdin.flush()
        assert nc.stdout.readline() == b"hello\n"
        daemon.terminate()
        out, _ = nc.communicate(timeout=PATIENCE)
        assert (nc.returncode, out) == (0, b"")


def test_a_killed_daemon_does_not_stand_in_the_way(namespace: Namespace, tmp_path: Path) -> None:
    first = RunningDaemon(tmp_path)
    with first:
        first.process.kill()
        first.process.communicate(timeout=PATIENCE)
    with RunningDaemon(tmp_path):
        assert ping() == 0


def test_logging_levels(namespace: Namespace, tmp_path: Path) -> None:
    process = ustack("up", "--foreground", "--control", str(tmp_path / "c.sock"), "--log-level", "error", "--addr",
                     f"{STACK}/24")  # fmt: skip
    deadline = time.monotonic() + PATIENCE
    while not os.path.exists(tmp_path / "c.sock") and time.monotonic() < deadline:
        os.sched_yield()
    process.terminate()
    assert finish(process) == (0, "", "")
