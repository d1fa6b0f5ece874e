"""Namespaces, links and processes of one measurement; all of it is gone afterwards, however it ended.

A namespace here has no name: it lives while a descriptor or a process holds it. Processes die with the benchmark,
even with one that was killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from pyroute2 import IPRoute

from ustack.io.host import Host, Namespace, write_sysctl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PR_SET_PDEATHSIG: Final = 1
#: Seconds that a process has to end after SIGTERM.
PATIENCE: Final = 5.0
LINK_WAIT: Final = 15.0

_libc = ctypes.CDLL(None)


class Unavailable(Exception):
    """Why something cannot be measured here, in words for the reader of the table."""


def die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Lab:
    """``cpus``: where everything that is started here runs; None for wherever the kernel likes."""

    def __init__(self, cpus: set[int] | None = None) -> None:
        self.cpus = cpus
        self._undo = contextlib.ExitStack()
        self.directory = Path(self._undo.enter_context(tempfile.TemporaryDirectory(prefix="ustack-bench-")))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._undo.close()

    # -- namespaces and links

    def namespace(self) -> Namespace:
        """A fresh one with its loopback up, where nothing speaks unasked (no IPv6)."""
        fresh = Namespace.create()
        self._undo.callback(fresh.close)
        with fresh, Host() as host:
            write_sysctl("net.ipv6.conf.all.disable_ipv6", "1")
            write_sysctl("net.ipv6.conf.default.disable_ipv6", "1")
            host.set_link("lo", up=True)
        return fresh

    def join(self, one: Namespace, other: Namespace, name: str, addresses: tuple[str, str]) -> None:
        """A veth pair, each end called ``name``, up and with its address."""
        with one:
            ip: Any = IPRoute()  # pyroute2 has no types
            with contextlib.closing(ip):
                ip.link("add", ifname=name, kind="veth", peer={"ifname": name, "net_ns_fd": other.fd})
        for namespace, cidr in zip((one, other), addresses, strict=True):
            with namespace, Host() as host:
                host.set_link(name, up=True)
                host.add_address(name, cidr)

    def wait_for_link(self, namespace: Namespace, name: str, process: Process) -> None:
        """Until ``process`` has made it. Raises Unavailable."""
        with namespace, Host() as host:
            wait_until(lambda: host.has_link(name), process, f"made no link {name}")

    # -- processes

    def start(
        self,
        namespace: Namespace,
        command: list[str],
        environment: dict[str, str] | None = None,
        fds: tuple[int, ...] = (),
    ) -> Process:
        """Run in the background, output to a file; ended with this lab. Raises Unavailable if it cannot be run.

        ``fds``: descriptors that it inherits.
        """
        log = self.directory / f"{len(list(self.directory.iterdir()))}.log"
        with self._there(namespace), log.open("wb") as output:
            try:
                child = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    cwd="/",  # nothing that lies in the current directory is imported
                    start_new_session=True,  # Ctrl-C is for us: we end it
                    preexec_fn=die_with_parent,
                    pass_fds=fds,
                )
            except OSError as reason:
                raise Unavailable(f"{command[0]}: {reason.strerror}") from None
        process = Process(child, log)
        self._undo.callback(process.end)
        return process

    def run(self, namespace: Namespace, command: list[str], timeout: float) -> str:
        """What a command prints; killed after ``timeout`` seconds. Raises Unavailable."""
        process = self.start(namespace, command)
        try:
            process.child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Unavailable(f"no answer within {timeout:.0f} s") from None
        finally:
            process.end()
        return process.output()

    @contextlib.contextmanager
    def _there(self, namespace: Namespace) -> Iterator[None]:
        """Children of this thread inherit its namespace and its processors."""
        before = os.sched_getaffinity(0)
        with namespace:
            if self.cpus is not None:
                os.sched_setaffinity(0, self.cpus)
            try:
                yield
            finally:
                os.sched_setaffinity(0, before)


def last_line(text: str) -> str:
    """What a command said last, no more of it than goes into a table."""
    lines = text.strip().splitlines()
    return lines[-1][:200] if lines else ""


class Process:
    """A child and the file that has its output."""

    def __init__(self, child: subprocess.Popen[bytes], log: Path) -> None:
        self.child = child
        self.log = log

    @property
    def pid(self) -> int:
        return self.child.pid

    def alive(self) -> bool:
        return self.child.poll() is None

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def last_words(self) -> str:
        return last_line(self.output()) or f"status {self.child.poll()}"

    def end(self) -> None:
        """SIGTERM, and SIGKILL to what does not listen."""
        if self.alive():
            self.child.terminate()
            try:
                self.child.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.child.kill()
        self.child.wait()


def wait_until(ready: Callable[[], bool], process: Process, otherwise: str) -> None:
    """Raises Unavailable if ``process`` ends first, or nothing happens."""
    end = time.monotonic() + LINK_WAIT
    while not ready():
        if not process.alive():
            raise Unavailable(f"it ended: {process.last_words()}")
        if time.monotonic() > end:
            raise Unavailable(f"it {otherwise}")
        time.sleep(0.02)
