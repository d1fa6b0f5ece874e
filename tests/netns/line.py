"""A bad line out of the test's namespace: TAP, relay, TAP, and a kernel behind it that also forwards to a daemon.

test's namespace, 192.0.2.1 ── near ─ relay ─ far ── 192.0.2.254, ``middle``, 198.51.100.1 ── us0 ── the stack, .2
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from tests.netns.daemon import HOST, PATIENCE, SERVICES, RunningDaemon
from ustack.io.host import Host, Namespace, write_sysctl
from ustack.io.tap import Tap

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RELAY: Final = Path(__file__).resolve().parents[2] / "tools" / "benchlib" / "relay.py"
MIDDLE: Final = "192.0.2.254"
STACK_NETWORK: Final = "198.51.100.0/24"
ROUTER: Final = "198.51.100.1"
STACK: Final = "198.51.100.2"
#: Frames a TAP holds while the relay is elsewhere: what is lost is the relay's to decide.
TXQUEUELEN: Final = 10_000

Stats = dict[str, float]


class Relay:
    """tools/benchlib/relay.py between two descriptors; ``stop`` says what became of the frames each way."""

    def __init__(self, fds: Sequence[int], *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(RELAY), *map(str, fds), *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=fds,
            text=True,
        )
        assert self.process.stderr is not None
        assert self.process.stderr.readline() == "ready\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def stop(self) -> list[Stats]:
        """[there, back]; the books are right and it has nothing to complain about."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=PATIENCE)
        assert (self.process.returncode, err) == (0, "")
        both: list[Stats] = json.loads(out)
        for lane in both:
            ended = sum(lane[name] for name in ("delivered", "lost", "overlimits", "missed", "in_flight"))
            assert lane["sent"] + lane["duplicated"] == ended
        return both


class Line:
    """Made and gone with the block; the thread is in the near namespace."""

    def __init__(self, *options: str) -> None:
        self.options = options
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            self.middle = Namespace.create()
            undo.callback(self.middle.close)
            taps = [plug("near", f"{HOST}/24")]
            with self.middle:
                write_sysctl("net.ipv6.conf.all.disable_ipv6", "1")
                write_sysctl("net.ipv6.conf.default.disable_ipv6", "1")
                write_sysctl("net.ipv4.ip_forward", "1")
                taps.append(plug("far", f"{MIDDLE}/24"))
            with Host() as host:
                host.add_route(STACK_NETWORK, gateway=MIDDLE)
            self.relay = undo.enter_context(Relay([tap.fd for tap in taps], *self.options))
            for tap in taps:  # they live as long as the relay has them
                tap.close()
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._undo.close()

    @contextlib.contextmanager
    def daemon(self, directory: Path, *options: str) -> Iterator[RunningDaemon]:
        """A stack behind the middle, which is its gateway."""
        arguments = ("--serve", SERVICES, "--gateway", ROUTER, *options)
        with self.middle:
            daemon = RunningDaemon(directory, *arguments, addr=f"{STACK}/24", host_addr=f"{ROUTER}/24")
        with daemon:
            yield daemon


def plug(name: str, cidr: str) -> Tap:
    """A TAP without offload in the namespace of this thread, up."""
    tap = Tap(name, offload=False)
    with Host() as host:
        host.set_link("lo", up=True)
        host.set_link(name, up=True, txqueuelen=TXQUEUELEN)
        host.add_address(name, cidr)
    return tap
