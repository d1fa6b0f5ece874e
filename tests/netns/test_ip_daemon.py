"""The ip commands against a daemon: processes, the control socket, and what they do to real traffic."""

from __future__ import annotations

import io
import json
import signal
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.netns.daemon import HOST, PATIENCE, STACK, RunningDaemon, run_ustack, ustack
from tests.netns.programs import output, program
from ustack.cli.ip.run import run
from ustack.cli.ip.transport import DaemonTransport
from ustack.rtnl.messages import BATCH_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ustack.io.host import Namespace

#: More than one RouteBatch, and many pieces of an answer.
ROUTES = BATCH_MAX + 100
FEW = 300


@pytest.fixture
def daemon(namespace: Namespace, tmp_path: Path) -> Iterator[RunningDaemon]:
    with RunningDaemon(tmp_path) as running:
        yield running


def shows(line: str) -> str:
    """What ``ustack LINE`` prints, over the control socket, without a process of its own."""
    out, err = io.StringIO(), io.StringIO()
    with closing(DaemonTransport(None)) as transport:
        status = run(line.removeprefix("ip ").split(), transport, out, err, "ustack")
    assert (status, err.getvalue()) == (0, ""), (line, err.getvalue())
    return out.getvalue()


def test_a_network_is_looked_at_and_changed(daemon: RunningDaemon) -> None:
    status, out, _ = run_ustack("ip", "-j", "link")
    (device,) = [link["ifname"] for link in json.loads(out) if link["ifname"] != "lo"]
    assert status == 0 and f"inet {STACK}/24" in run_ustack("addr", "show", device)[1]
    assert shows(f"route add 198.51.100.0/24 via {HOST} proto static metric 5") == ""
    assert f"198.51.100.0/24 via {HOST} dev {device} proto static metric 5 \n" in shows("r")
    assert shows("route get 198.51.100.7").startswith(f"198.51.100.7 via {HOST} dev {device} src {STACK} uid ")
    assert run_ustack("route", "add", "198.51.100.0/24", "via", HOST, "metric", "5") == (
        2, "", "RTNETLINK answers: File exists\n",
    )  # fmt: skip
    assert run_ustack("route", "add", "203.0.113.0/24", "via", "198.51.100.1") == (
        2, "", "Error: Nexthop has invalid gateway.\n",
    )  # fmt: skip
    assert run_ustack("route", "foo")[0] == 255 and run_ustack("link", "set", "us9", "up")[0] == 1
    assert shows("rule add from 192.0.2.0/24 table 7 pref 9") == ""
    assert shows("rule show pref 9") == "9:\tfrom 192.0.2.0/24 lookup 7\n"
    assert shows("rule del pref 9") == ""


def test_an_address_answers_as_soon_as_it_is_there(daemon: RunningDaemon) -> None:
    (device,) = [link["ifname"] for link in json.loads(shows("ip -j link")) if link["ifname"] != "lo"]
    assert program("ping", "-c", "1", "-W", "0.3", "192.0.2.77")[0] != 0
    shows(f"addr add 192.0.2.77/24 dev {device}")
    output("ping", "-c", "1", "-W", "5", "192.0.2.77")
    shows(f"link set {device} down")
    assert program("ping", "-c", "1", "-W", "0.3", STACK)[0] != 0
    shows(f"link set {device} up")
    output("ping", "-c", "1", "-W", "5", STACK)


def test_changes_are_watched(daemon: RunningDaemon) -> None:
    watcher = ustack("monitor", "label", "route", "rule")
    assert watcher.stdout is not None
    time.sleep(1.0)  # until it listens, of which it says nothing
    shows(f"route add 198.51.100.0/24 via {HOST}")
    shows("rule add pref 5 table 7")
    shows("route del 198.51.100.0/24")
    lines = [watcher.stdout.readline() for _ in range(3)]
    watcher.send_signal(signal.SIGINT)
    watcher.communicate(timeout=PATIENCE)
    assert watcher.returncode == 130
    assert lines[0].startswith(f"[ROUTE]198.51.100.0/24 via {HOST} dev ")
    assert lines[1] == "[RULE]5:\tfrom all lookup 7\n"
    assert lines[2].startswith("[ROUTE]Deleted 198.51.100.0/24 via ")


def test_a_table_is_loaded_and_saved(daemon: RunningDaemon, tmp_path: Path) -> None:
    file, saved = tmp_path / "table", tmp_path / "saved"
    learned = [f"10.{n >> 8}.{n & 255}.0/24 via {HOST} proto bgp metric 20 " for n in range(FEW)]
    static = [f"10.{n >> 8}.{n & 255}.0/24 via {HOST} proto static metric 20 " for n in range(FEW, ROUTES)]
    file.write_text("\n".join(learned + static) + "\nnonsense\n")
    status, out, err = run_ustack("route", "load", str(file))
    assert (status, out) == (2, "") and err.startswith(f"{file}:{ROUTES + 1}: Error: any valid prefix")
    assert shows("route show metric 20").count("\n") == ROUTES
    shows(f"route save {saved}")
    assert saved.read_text().count(" metric 20 ") == ROUTES
    assert shows("route flush proto bgp") == ""
    assert shows("route show metric 20").count("\n") == ROUTES - FEW
    again = "".join(line for line in saved.read_text().splitlines(keepends=True) if " proto bgp " in line)
    assert run_ustack("route", "load", "-", stdin=again) == (0, "", "")
    assert shows("route show proto bgp").count("\n") == FEW
