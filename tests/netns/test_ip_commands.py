"""ustack's ip beside iproute2's: the same commands, one after another, must print the same and end the same.

The commands stand in ip_commands/*.txt. Each goes to iproute2 in one namespace, through ``run`` to the kernel of
another, and through ``run`` to a stack of ours: so the grammar and the printing are judged with the kernel below both,
and then the stack is. What begins with ~ is not for the stack, which says why beside it; with ! it is for iproute2 in
the second namespace (what the kernel shows in random order).
"""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
import pytun

from tests.netns.kernel import Kernel
from tests.netns.programs import environment, need
from ustack.cli.ip.run import run
from ustack.cli.ip.transport import DirectTransport
from ustack.device.e1000 import E1000
from ustack.device.ring import NicRegisters
from ustack.io.host import Host, Namespace, write_sysctl
from ustack.rtnl.rtnetlink import Rtnetlink
from ustack.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ustack.cli.ip.transport import Transport

SCRIPTS = sorted((Path(__file__).parent / "ip_commands").glob("*.txt"))
VERSION = "iproute2-6.1"
ADDRESSES = ("192.0.2.2/24 dev us0", "198.51.100.2/24 brd + dev us1", "203.0.113.2/25 dev us2")
#: What a stack's device has otherwise: its queue discipline, and its state while it is up.
OTHERWISE = re.compile(r'qdisc \w+ |state \w+ |"(qdisc|operstate)": ?"\w+",\s*|\b(UNKNOWN|UP) +')


class Said(NamedTuple):
    """What a command came to."""

    status: int
    out: str
    err: str

    def plain(self) -> Said:
        """A usage is in words of one's own."""
        return self._replace(err="Usage\n") if self.err.startswith("Usage:") else self

    def unsorted(self) -> Said:
        """The same, whatever the order of its lines or objects."""
        try:
            found = json.loads(self.out)
        except ValueError:
            return self._replace(out="\n".join(sorted(self.out.splitlines())))
        return self._replace(out=str(sorted(map(str, found))))

    def without_queues(self) -> Said:
        return self._replace(out=OTHERWISE.sub("", self.out))


def ours(transport: Transport, words: list[str]) -> Said:
    out, err = io.StringIO(), io.StringIO()
    status = run(words, transport, out, err)
    return Said(status, out.getvalue(), err.getvalue())


class Machine:
    """A namespace with us0 and us1, which have a carrier, and us2, which has none."""

    def __init__(self, keep: ExitStack) -> None:
        self.namespace = Namespace.create()
        keep.callback(self.namespace.close)
        with self.namespace:
            for scope in ("all", "default"):
                write_sysctl(f"net.ipv6.conf.{scope}.disable_ipv6", "1")
            for name in ("us0", "us1"):
                tap = pytun.TunTapDevice(name=name, flags=pytun.IFF_TAP | pytun.IFF_NO_PI)
                keep.callback(tap.close)
            self.iproute2(["tuntap", "add", "us2", "mode", "tap"])
            with Host() as host:
                host.set_link("lo", up=True)
                for number in range(3):
                    host.set_link(f"us{number}", mac=f"02:00:00:00:00:0{number + 1}", up=True)
            self.kernel = Kernel()
            keep.callback(self.kernel.close)
        for address in ADDRESSES:
            assert self.iproute2(["addr", "add", *address.split()]).status == 0

    def iproute2(self, words: list[str]) -> Said:
        with self.namespace:
            done = subprocess.run(["ip", *words], capture_output=True, timeout=20, check=False, env=environment())
        return Said(done.returncode, done.stdout.decode(), done.stderr.decode())

    def ours(self, words: list[str]) -> Said:
        with self.namespace:  # for what is no message: sysctl
            return ours(self.kernel, words)


def same_in_a_stack() -> DirectTransport:
    """The same devices and addresses."""
    stack = Stack(bytes(32), 10**9)
    for number in range(3):
        stack.add_device(E1000(stack.devices, f"us{number}", 0x0200_0000_0001 + number, NicRegisters(64)))
    stack.devices.netif_carrier_off(stack.device("us2"))
    transport = DirectTransport(Rtnetlink(stack))
    for address in ADDRESSES:
        assert ours(transport, ["addr", "add", *address.split()]) == Said(0, "", "")
    return transport


@pytest.fixture
def machines(namespace: Namespace) -> Iterator[tuple[Machine, Machine]]:
    need("ip")
    if VERSION not in subprocess.run(["ip", "-V"], capture_output=True, text=True, check=False).stdout:
        pytest.skip(f"the ip that is installed is not of {VERSION}")
    with ExitStack() as keep:
        yield Machine(keep), Machine(keep)


def commands(script: Path) -> list[str]:
    lines = (line.split(" #")[0].strip() for line in script.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.stem for script in SCRIPTS])
def test_like_iproute2(script: Path, machines: tuple[Machine, Machine]) -> None:
    theirs, mine = machines
    stack = same_in_a_stack()
    for line in commands(script):
        words = shlex.split(line.lstrip("~!"))
        expected = (mine if line[0] == "!" else theirs).iproute2(words).plain()
        assert mine.ours(words).plain() == expected, line
        if line[0] == "~":
            continue
        found = ours(stack, words).plain()
        if line[0] == "!":
            expected, found = expected.unsorted(), found.unsorted()
        assert found.without_queues() == expected.without_queues(), f"the stack: {line}"


def test_save_and_load_again(machines: tuple[Machine, Machine], tmp_path: Path) -> None:
    """What is saved here makes the same routes there."""
    theirs, mine = machines
    for line in commands(SCRIPTS[0].with_name("save.txt")):
        assert theirs.iproute2(shlex.split(line)) == Said(0, "", ""), line
    file = str(tmp_path / "routes")
    show = ["route", "show", "table", "all"]
    stack = same_in_a_stack()
    with theirs.namespace:
        assert ours(theirs.kernel, ["route", "save", file, "table", "all"]) == Said(0, "", "")
    assert mine.ours(["route", "load", file]) == Said(0, "", "")
    assert mine.iproute2(show) == theirs.iproute2(show)
    assert ours(stack, ["route", "load", file]) == Said(0, "", "")
    assert ours(stack, show) == theirs.iproute2(show)
