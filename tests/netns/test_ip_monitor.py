"""What `ip monitor` shows: the kernel's events and ours, for the same commands, in the same order."""

from __future__ import annotations

import io
import subprocess
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from tests.netns.programs import environment, need
from tests.netns.test_ip_commands import OTHERWISE, Machine, ours, same_in_a_stack
from ustack.cli.ip.monitor import Monitor
from ustack.cli.ip.session import Session
from ustack.rtnl.monitor import Subscription

if TYPE_CHECKING:
    from pathlib import Path

    from ustack.cli.ip.transport import DirectTransport
    from ustack.io.host import Namespace

KINDS: Final = "link address route neigh rule nexthop"
PATIENCE: Final = 10.0
#: What shows that the watcher is there, and that it has seen everything.
FIRST: Final = "id 4241 blackhole"
LAST: Final = "id 4242 blackhole"
COMMANDS: Final = """
addr add 192.0.2.3/24 dev us0
addr add 10.1.0.1/24 brd + dev us0 label us0:x
addr add 10.2.0.1 peer 10.2.0.9/30 dev us1 metric 9
addr replace 192.0.2.3/24 dev us0
addr change 10.1.0.1/24 dev us0 metric 5
addr add 10.1.0.1/24 dev us0
route add 10.9.0.0/16 via 192.0.2.1
route add 10.9.0.0/16 via 192.0.2.1
route replace 10.9.0.0/16 via 192.0.2.7 mtu 1400
route append 10.9.0.0/16 via 192.0.2.8
route prepend 10.9.0.0/16 via 192.0.2.9
route change 10.9.0.0/16 via 192.0.2.6
route add blackhole 10.8.0.0/16 table 7
route add 10.10.0.0/16 nexthop via 192.0.2.1 weight 2 nexthop via 198.51.100.1
route add 10.11.0.0/16 via 192.0.2.1 src 10.1.0.1
route del 10.9.0.0/16 via 192.0.2.8
route flush table 7
nexthop add id 1 via 192.0.2.1 dev us0
nexthop add id 2 via 198.51.100.1 dev us1
nexthop add id 3 group 1/2,5
route add 10.20.0.0/16 nhid 3
route add 10.21.0.0/16 nhid 1
nexthop replace id 1 via 192.0.2.5 dev us0
nexthop del id 2
nexthop del id 1
rule add pref 5 from 10.0.0.0/8 table 7
rule add pref 6 goto 9
rule add pref 9 iif us0 prohibit
rule del pref 5
neigh add 192.0.2.77 lladdr 02:00:00:00:00:99 dev us0
neigh replace 192.0.2.77 lladdr 02:00:00:00:00:98 dev us0
neigh replace 192.0.2.77 lladdr 02:00:00:00:00:98 dev us0 nud stale
neigh del 192.0.2.77 dev us0
neigh add proxy 192.0.2.78 dev us0
neigh del proxy 192.0.2.78 dev us0
link set us0 mtu 1400
link set us0 txqueuelen 77
link set us0 address 02:00:00:00:00:77
link set us0 down
link set us0 up
link set us0 promisc on
addr del 10.1.0.1/24 dev us0
addr del 192.0.2.2/24 dev us0
addr flush dev us1
link set us1 down
"""


class Watched:
    """What iproute2 prints in a namespace while commands are run there."""

    def __init__(self, machine: Machine, log: Path, keep: ExitStack) -> None:
        self.machine, self.log = machine, log
        file = keep.enter_context(log.open("w"))
        with machine.namespace:
            words = ["stdbuf", "-oL", "ip", "monitor", *KINDS.split()]
            watcher = subprocess.Popen(words, stdout=file, env=environment())
        keep.callback(watcher.wait)
        keep.callback(watcher.kill)

    def wait_for(self, mark: str) -> str:
        """Make that next hop, again and again, until it shows."""
        end = time.monotonic() + PATIENCE
        while mark not in self.log.read_text():
            assert time.monotonic() < end, f"no {mark}"
            self.machine.iproute2(["nexthop", "replace", *mark.split()])
            time.sleep(0.02)
        return self.log.read_text()


def shown(transport: DirectTransport, commands: list[str]) -> str:
    """The same of a stack."""
    subscription = Subscription([])
    transport.rtnetlink.monitors.subscribe(subscription)
    session = Session(transport, io.StringIO(), io.StringIO())
    monitor = Monitor(session)
    for command in commands:
        session.links()
        ours(transport, command.split())
        while subscription.events:
            monitor.show(subscription.events.popleft())
    assert isinstance(session.out, io.StringIO)
    return session.out.getvalue()


def plain(text: str) -> list[str]:
    """Between the marks, without what a stack's device has otherwise."""
    lines = [line.rstrip() for line in OTHERWISE.sub("", text.split(LAST)[0]).splitlines()]
    return [line for line in lines if line != FIRST]


def test_events_like_the_kernels(namespace: Namespace, tmp_path: Path) -> None:
    need("ip", "stdbuf")
    commands = COMMANDS.strip().splitlines()
    with ExitStack() as keep:
        machine = Machine(keep)
        watched = Watched(machine, tmp_path / "monitor", keep)
        watched.wait_for(FIRST)
        for command in commands:
            machine.iproute2(command.split())
        theirs = plain(watched.wait_for(LAST))
    assert len(theirs) > len(commands)
    assert plain(shown(same_in_a_stack(), commands)) == theirs
