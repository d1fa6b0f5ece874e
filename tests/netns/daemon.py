"""A daemon in the test's namespace, as a process of its own, and what tests do with it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

import ustack as ustack_package
from ustack.io.client import Client

if TYPE_CHECKING:
    from typing import Self

STACK: Final = "192.0.2.2"
HOST: Final = "192.0.2.1"
SERVICES: Final = "echo,discard,chargen,http"
#: A second between ARP requests is Linux's, and long for a test.
IMPATIENT: Final = ("--sysctl", "net.ipv4.neigh.default.retrans_time_ms=200")
#: Seconds that anything here may take, on a machine that is busy with other things; USTACK_PATIENCE times as many where
#: that says so, as on an emulated processor.
PATIENCE: Final = 20.0 * float(os.environ.get("USTACK_PATIENCE", "1"))


def ustack(*arguments: str, **options: object) -> subprocess.Popen[str]:
    """The command, in this namespace."""
    process: subprocess.Popen[str] = subprocess.Popen(
        [sys.executable, "-m", "ustack", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )
    return process


def finish(process: subprocess.Popen[str], stdin: str = "") -> tuple[int, str, str]:
    """(status, stdout, stderr) of a command once it has ended."""
    out, err = process.communicate(stdin, timeout=PATIENCE)
    return process.returncode, out, err


def run_ustack(*arguments: str, stdin: str = "", **options: object) -> tuple[int, str, str]:
    return finish(ustack(*arguments, **options), stdin)


def run(*command: str, stdin: str = "") -> tuple[int, str]:
    """(status, stdout and stderr) of somebody else's program."""
    done = subprocess.run(
        command, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE, check=False
    )
    return done.returncode, done.stdout


class RunningDaemon:
    """``ustack up --foreground``; $USTACK_CONTROL names it meanwhile, and it is gone afterwards."""

    def __init__(
        self, directory: Path, *options: str, addr: str = f"{STACK}/24", host_addr: str = f"{HOST}/24"
    ) -> None:
        self.offload: bool = "--no-offload" not in options
        self.control: str = str(directory / "control.sock")
        self.process = ustack(
            "up", "--foreground", "--control", self.control, "--addr", addr, "--host-addr", host_addr, *options
        )
        self.before = os.environ.get("USTACK_CONTROL")

    def __enter__(self) -> Self:
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        if "up:" not in line:
            self.process.kill()
            raise AssertionError(f"the daemon did not start: {line}{self.process.communicate()[1]}")
        os.environ["USTACK_CONTROL"] = self.control
        return self

    def __exit__(self, *exc: object) -> None:
        if self.before is None:
            del os.environ["USTACK_CONTROL"]
        else:
            os.environ["USTACK_CONTROL"] = self.before
        if self.process.returncode is None:  # the test has neither ended it nor waited for its end
            early = self.process.poll() is not None
            status, log = self.terminate()
            assert not early, f"the daemon ended by itself, status {status}: {log}"
            assert status == 0, log
            assert "Traceback" not in log, log

    def terminate(self) -> tuple[int, str]:
        """SIGTERM; the exit status and what it logged."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> tuple[int, str]:
        _, log = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, log

    def client(self) -> Client:
        return Client(self.control)


def as_nobody(*arguments: str, open_tun: bool) -> tuple[int, str, str]:
    """(status, stdout, stderr) of the command run by an ordinary user; only root can become one.

    In a mount namespace of its own, where everybody may read what Python is made of, wherever that lies, and with
    ``open_tun`` a /dev/net/tun that is open to all, as it is on other machines.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    paths = [path for path in (str(Path(ustack_package.__file__).parents[1]), *sys.path) if os.path.isdir(path)]
    script = ["set -e", "mount -t tmpfs tmpfs /mnt", "chmod 755 /mnt", "mkdir /mnt/python"]
    script += [f"mount --bind {shlex.quote(sys.base_prefix)} /mnt/python"]
    for number, path in enumerate(paths):
        script += [f"mkdir /mnt/{number}", f"mount --bind {shlex.quote(path)} /mnt/{number}"]
    script += ["mknod /mnt/tun c 10 200", f"chmod {666 if open_tun else 600} /mnt/tun"]
    script += ["mount --bind /mnt/tun /dev/net/tun", "cd /"]
    visible = ":".join(f"/mnt/{number}" for number in range(len(paths)))
    python = f"/mnt/python/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    become = "setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all"
    where = f"HOME=/ LD_LIBRARY_PATH=/mnt/python/lib PYTHONPATH={visible}"
    script += [f"exec {become} env {where} {python} -m ustack {shlex.join(arguments)}"]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", "\n".join(script)], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    return done.returncode, done.stdout, done.stderr
