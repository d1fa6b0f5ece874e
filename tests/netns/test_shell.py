"""ustack shell: a network of one's own, which needs no root and leaves nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.netns.daemon import STACK, as_nobody, finish, run_ustack, ustack


@pytest.fixture(autouse=True)
def tun() -> None:
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun is not there or not open to this user")


def shell(script: str, *options: str, stdin: str = "") -> tuple[int, str, str]:
    return run_ustack("shell", *options, "--", "sh", "-c", script, stdin=stdin)


def test_the_shortest_demonstration_there_is() -> None:
    status, out, err = run_ustack("shell", "--", "ping", "-c", "3", "-i", "0.1", STACK)
    assert (status, err) == (0, "")
    assert "3 packets transmitted, 3 received, 0% packet loss" in out


def test_all_services_are_there() -> None:
    status, out, err = shell(
        f"echo tcp | nc -N {STACK} 7; echo udp | nc -u -w 1 {STACK} 7; echo gone | nc -N {STACK} 9; "
        f"nc -d {STACK} 19 | head -c 10; echo; curl -s http://{STACK}/ | grep -c ustack"
    )
    assert (status, err) == (0, "")
    assert out.splitlines() == ["tcp", "udp", " !\"#$%&'()", "2"]


def test_the_commands_inside_find_the_stack() -> None:
    command = f"{sys.executable} -m ustack"
    status, out, err = shell(f"{command} ping -c 1 192.0.2.1 && {command} status -j | grep -c uptime")
    assert (status, err) == (0, "") and out.endswith("\n1\n")


@pytest.mark.parametrize(("script", "expected"), [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137), ("false", 1)])
def test_the_exit_status_is_the_commands(script: str, expected: int) -> None:
    assert shell(script) == (expected, "", "")


def test_a_command_that_is_not_there_or_cannot_be_run(tmp_path: Path) -> None:
    status, out, err = run_ustack("shell", "--", "no-such-command")
    assert (status, out) == (127, "") and err == "ustack: no-such-command: command not found\n"
    (tmp_path / "plain").write_text("text")
    status, out, err = run_ustack("shell", "--", str(tmp_path / "plain"))
    assert (status, out) == (126, "") and err.count("\n") == 1


def test_standard_streams_are_the_commands() -> None:
    assert shell("cat; echo wrong >&2", stdin="words\n") == (0, "words\n", "wrong\n")


def test_without_a_command_it_is_a_shell() -> None:
    status, out, err = run_ustack("shell", stdin="echo $((6 * 7)); exit 3\n", env=os.environ | {"SHELL": "/bin/sh"})
    assert (status, out, err) == (3, "42\n", "")


def test_other_addresses_and_services() -> None:
    status, out, err = shell(
        "ping -c 1 203.0.113.2 >&2; ip -4 -o address show dev us0; nc -z 203.0.113.2 7; echo $?; nc -z 203.0.113.2 9",
        "--addr", "203.0.113.2/24", "--host-addr", "203.0.113.1/24", "--serve", "discard", "--mtu", "1400",
        "--no-offload",
    )  # fmt: skip
    assert status == 0, err
    assert "203.0.113.1/24" in out and out.endswith("\n1\n")


def test_nobody_else_sees_that_network() -> None:
    before = Path("/proc/net/dev").read_text()
    status, inside, _ = shell("cat /proc/net/dev; ls /sys/class/net > /dev/null")
    assert status == 0 and "us0" in inside
    assert "us0" not in before and "us0" not in Path("/proc/net/dev").read_text()


def test_what_the_command_left_running_is_ended(tmp_path: Path) -> None:
    """Also what has a session of its own and what was started by what was left."""
    pids = tmp_path / "pids"
    script = f"(sleep 1000 & echo $! >> {pids}; setsid sh -c 'echo $$ >> {pids}; sleep 1000; true' &) ; sleep 0.2"
    assert shell(script)[0] == 0
    for pid in pids.read_text().split():
        state = Path(f"/proc/{pid}/stat")
        assert not state.exists() or re.search(r"\) Z ", state.read_text())


def test_temporary_files_are_gone(tmp_path: Path) -> None:
    status, out, _ = run_ustack("shell", "--", "sh", "-c", "ls $TMPDIR; echo $USTACK_CONTROL",
                                env=os.environ | {"TMPDIR": str(tmp_path)})  # fmt: skip
    assert status == 0 and str(tmp_path) in out
    assert list(tmp_path.iterdir()) == []


def test_sigterm_is_passed_on() -> None:
    process = ustack(
        "shell", "--", "sh", "-c", "trap 'echo told; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    status, out, err = finish(process)
    assert (status, out, err) == (5, "told\n", "")


def test_an_ordinary_user_needs_no_rights() -> None:
    probe = subprocess.run(["unshare", "-Ur", "true"], user=65_534, group=65_534, extra_groups=[], check=False)
    if probe.returncode != 0:
        pytest.skip("no user namespaces for users here")
    inside = f'id -u; ping -c 1 -q {STACK} | grep -c "1 received"; curl -s http://{STACK}/bytes/100000 | wc -c; exit 9'
    assert as_nobody("shell", "--", "sh", "-c", inside, open_tun=True) == (9, "0\n1\n100000\n", "")
