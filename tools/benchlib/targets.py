"""The stacks that are measured, each on a fresh link of its own with the same services behind it.

load ─ kernel ─ TAP or veth ─ the stack under test ─ discard, chargen, echo
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchlib.lab import Lab, Process, Unavailable, wait_until
from ustack.io.host import Host, Namespace

if TYPE_CHECKING:
    from collections.abc import Sequence

TOOLS: Final = Path(__file__).resolve().parent.parent
TREE: Final = TOOLS.parent

#: pmd-pytcp wants "tap" and a number.
LINK: Final = "tap0"
HOST: Final = "192.0.2.1/24"
STACK: Final = "192.0.2.2/24"
NETWORK: Final = "192.0.2.0/24"

#: Python does not search the current directory for modules.
SAFE_PATH: Final = "-P"

PING, SEND, RECV, UDP, CONNRATE, IDLE = "ping", "tcp-send", "tcp-recv", "udp-echo", "connrate", "idle"
#: In this order: what idle connections take is asked of a stack that has done nothing else yet.
EVERYTHING: Final = (IDLE, PING, SEND, RECV, UDP, CONNRATE)
BULK: Final = (SEND, RECV)


@dataclass
class Running:
    """A stack that answers: where the load has to run, and whose processor time and memory counts."""

    namespace: Namespace
    processes: list[Process]

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.processes]


class Target:
    """``name`` heads its row; ``modes`` are those it has services for."""

    def __init__(self, name: str, modes: Sequence[str] = EVERYTHING) -> None:
        self.name = name
        self.modes = modes

    def start(self, lab: Lab) -> Running:
        """Raises Unavailable."""
        raise NotImplementedError


class Ustack(Target):
    """``ustack up`` by ``python``, whichever form that one imports; ``wrapper`` runs it (python -m cProfile …)."""

    def __init__(self, form: str, python: str, offload: bool = True, wrapper: Sequence[str] = ()) -> None:
        super().__init__(f"ustack {form}" + ("" if offload else ", no offload"))
        self.form = form
        self.python = python
        self.offload = offload
        self.wrapper = wrapper

    def start(self, lab: Lab) -> Running:
        self.check_form()
        namespace = lab.namespace()
        return Running(namespace, [self.launch(lab, namespace)])

    def launch(self, lab: Lab, namespace: Namespace, *options: str) -> Process:
        """On a TAP in ``namespace``."""
        command = [self.python, SAFE_PATH, *self.wrapper, "-m", "ustack", "up", "--foreground"]
        command += ["--dev", LINK, "--addr", STACK, "--host-addr", HOST, "--serve", "echo,discard,chargen"]
        command += ["--control", str(lab.directory / "control.sock"), "--log-level", "warning", *options]
        return lab.start(namespace, command + ([] if self.offload else ["--no-offload"]), self.environment())

    def environment(self) -> dict[str, str]:
        """The sources for the interpreted form; what is installed beside ``python`` for the compiled one."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        if self.form == "interpreted":
            environment["PYTHONPATH"] = str(TREE)
        return environment

    def check_form(self) -> None:
        """Nothing is worth less than figures under the wrong heading. Raises Unavailable."""
        probe = "import ustack.packet; print(ustack.packet.__file__)"
        command = [self.python, SAFE_PATH, "-c", probe]
        run = subprocess.run(command, env=self.environment(), capture_output=True, text=True, check=False, cwd="/")
        if run.returncode != 0:
            raise Unavailable(f"{self.python} has no ustack: {(run.stderr.splitlines() or ['?'])[-1]}")
        if run.stdout.strip().endswith(".py") != (self.form == "interpreted"):
            raise Unavailable(f"{self.python} has another form: {run.stdout.strip()}")


class Ceiling(Target):
    """A program that speaks just enough TCP for bulk: ``PROGRAM TAP ADDRESS gso|plain``."""

    def __init__(self, program: str, offload: bool = True) -> None:
        super().__init__("ceiling" + ("" if offload else ", no offload"), BULK)
        self.program = program
        self.offload = offload

    def start(self, lab: Lab) -> Running:
        if not Path(self.program).is_file():
            raise Unavailable(f"{self.program} is not there")
        namespace = lab.namespace()
        address = STACK.partition("/")[0]
        command = [sys.executable, str(Path(self.program).resolve()), LINK, address, "gso" if self.offload else "plain"]
        process = lab.start(namespace, command)
        lab.wait_for_link(namespace, LINK, process)
        configure_host(namespace)
        return Running(namespace, [process])


class Kernel(Target):
    """Linux itself: sockets in another namespace, over veth."""

    def __init__(self, offload: bool = True) -> None:
        super().__init__("kernel, veth" + ("" if offload else ", no offload"))
        self.offload = offload

    def start(self, lab: Lab) -> Running:
        here, there = lab.namespace(), lab.namespace()
        lab.join(here, there, LINK, (HOST, STACK))
        if not self.offload:
            for namespace in (here, there):
                switch_offload_off(lab, namespace)
        serve(lab, there)
        # the stack is no process: neither its time nor its memory has a name
        return Running(here, [])


def switch_offload_off(lab: Lab, namespace: Namespace) -> None:
    ethtool = shutil.which("ethtool", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if ethtool is None:
        raise Unavailable("ethtool is missing")
    switches = [word for name in ("tx", "rx", "tso", "gso", "gro") for word in (name, "off")]
    lab.run(namespace, [ethtool, "-K", LINK, *switches], 10)


class Slirp(Target):
    """slirp4netns: libslirp ends the connections on its TAP and makes others to the loopback of its own namespace."""

    def __init__(self) -> None:
        super().__init__("slirp4netns")

    def start(self, lab: Lab) -> Running:
        if shutil.which("slirp4netns") is None:
            raise Unavailable("slirp4netns is missing (Debian: slirp4netns)")
        here, there = lab.namespace(), lab.namespace()
        serve(lab, there)
        path = f"/proc/{os.getpid()}/fd/{here.fd}"
        command = ["slirp4netns", "--configure", "--mtu=1500", f"--cidr={NETWORK}", "--netns-type=path", path, LINK]
        process = lab.start(there, command)
        lab.wait_for_link(here, LINK, process)
        return Running(here, [process])


class Pytcp(Target):
    """pmd-pytcp, of the environment that ``python`` belongs to."""

    def __init__(self, python: str) -> None:
        super().__init__("pmd-pytcp")
        self.python = python

    def start(self, lab: Lab) -> Running:
        namespace = lab.namespace()
        command = [self.python, SAFE_PATH, "-m", "benchlib.pytcp_servers", LINK, STACK]
        process = lab.start(namespace, command, with_tools())
        lab.wait_for_link(namespace, LINK, process)
        configure_host(namespace)
        return Running(namespace, [process])


def serve(lab: Lab, namespace: Namespace, congestion: str = "") -> Process:
    """The kernel's sockets with our services on them; ``congestion``: other than the kernel's own."""
    command = [sys.executable, SAFE_PATH, "-m", "benchlib.servers", *([congestion] if congestion else [])]
    process = lab.start(namespace, command, with_tools())
    wait_until(lambda: "ready" in process.output(), process, "did not start")
    return process


def with_tools() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(TOOLS)}


def configure_host(namespace: Namespace) -> None:
    with namespace, Host() as host:
        host.set_link(LINK, up=True)
        host.add_address(LINK, HOST)
