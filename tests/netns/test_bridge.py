"""A bridge in the daemon between two kernels: host a ─ us0 ─ br0 ─ us1 ─ host b, all on one network."""

from __future__ import annotations

import contextlib
import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from tests.netns.daemon import HOST, STACK, RunningDaemon, run_ustack
from tests.netns.programs import MEGABYTE, output, pattern, status_of
from tests.netns.test_router import far, moved
from ustack.io.host import Host

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ustack.io.host import Namespace

__all__ = ["far"]  # the fixture
FAR = "198.51.100.1"
BULK = 5 * MEGABYTE
OFFLOAD = pytest.mark.parametrize("options", [(), ("--no-offload",)], ids=["offload", "plain"])


def ask(daemon: RunningDaemon, line: str) -> str:
    status, out, err = run_ustack(*line.split(), "--control", daemon.control)
    assert (status, err) == (0, ""), f"{line}: {err}"
    return out


@contextlib.contextmanager
def bridged(directory: Path, far: Namespace, *options: str) -> Iterator[RunningDaemon]:
    """Both hosts in 192.0.2.0/24; b has FAR as well, for moved()."""
    file = directory / "bridge.toml"
    file.write_text('[[device]]\nname = "us0"\n[[device]]\nname = "us1"\n')
    with RunningDaemon(
        directory, "--config", str(file), *options, addr="us0=203.0.113.9/32", host_addr=f"us0={HOST}/24"
    ) as daemon:
        with Host() as host:
            host.move_link("us1", far)
            host.add_route("198.51.100.0/24", gateway="192.0.2.3")
        with far, Host() as host:
            host.set_link("us1", up=True)
            host.add_address("us1", "192.0.2.3/24")
            host.add_address("us1", f"{FAR}/24")
        ask(daemon, "link add br0 type bridge")
        for line in ("link set us0 master br0", "link set us1 master br0", "link set br0 up"):
            ask(daemon, line)
        yield daemon


@OFFLOAD
def test_both_hosts_and_the_bridge_are_on_one_network(far: Namespace, tmp_path: Path, options: tuple[str, ...]) -> None:
    with bridged(tmp_path, far, *options) as daemon:
        ask(daemon, f"addr add {STACK}/24 dev br0")
        for size in ("56", "4000"):
            text = output("ping", "-n", "-c", "3", "-i", "0.02", "-W", "2", "-s", size, "192.0.2.3")
            assert " 3 received" in text and "ttl=64" in text, text
        assert " 3 received" in output("ping", "-n", "-c", "3", "-i", "0.02", "-W", "2", STACK)
        with far:
            assert " 3 received" in output("ping", "-n", "-c", "3", "-i", "0.02", "-W", "2", STACK)
        known = [line for line in ask(daemon, "bridge fdb show br br0").splitlines() if "permanent" not in line]
        assert sorted(line.split(" dev ")[1].rstrip() for line in known) == ["us0 master br0", "us1 master br0"]
        status = status_of(daemon)
    assert "Ip.ForwDatagrams" not in status["counters"]


@OFFLOAD
def test_every_byte_crosses(far: Namespace, tmp_path: Path, options: tuple[str, ...]) -> None:
    """With offload as super-segments, which nobody cuts on the way."""
    data = pattern(BULK)
    with bridged(tmp_path, far, *options) as daemon:
        assert moved(far, data) == hashlib.sha256(data).digest()
        (us1,) = json.loads(ask(daemon, "link show us1 -s -j"))
    packets = us1["stats64"]["tx"]["packets"]
    assert packets < BULK // 4000 if not options else packets > BULK // 1500
