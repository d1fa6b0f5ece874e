"""A network of one's own for a command: fresh namespaces, a stack in them, and nothing left afterwards."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import subprocess
import tempfile
from typing import TYPE_CHECKING, Final

from ustack.io.host_helper import HostHelper
from ustack.io.loop import EPOLLIN, Loop, Worker
from ustack.io.signals import Signals

if TYPE_CHECKING:
    from ustack.io.config import Config

CLONE_NEWUSER: Final = 0x1000_0000
CLONE_NEWNET: Final = 0x4000_0000
PR_SET_CHILD_SUBREAPER: Final = 36

#: What a shell answers with for a command that is not there, or cannot be run (POSIX, 2.8.2).
NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
SIGNALLED: Final = 128


def enter_namespaces() -> None:
    """Move this process, which must have one thread, to a new network namespace, without root also a user namespace.

    There it is root over that network. Root needs no other user namespace, and would lose rights in one. Raises
    OSError with what to do about it.
    """
    uid, gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    flags = CLONE_NEWNET if uid == 0 else CLONE_NEWNET | CLONE_NEWUSER
    if libc.unshare(flags) != 0:
        code = ctypes.get_errno()
        why = "this system lets users make no namespaces (kernel.unprivileged_userns_clone, apparmor, a container?)"
        raise OSError(code, why if code in (errno.EPERM, errno.ENOSPC) else os.strerror(code))
    if uid != 0:
        # user_namespaces(7): without a privilege outside, setgroups must be given up before gid_map may be written
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)


class Forwarder(Signals):
    """Passes signals on to the command; one that comes before there is a command waits for it."""

    PASSED_ON: Final = (signal.SIGTERM, signal.SIGHUP)
    #: The terminal sends these to everybody in the foreground, so the command has them already.
    LEFT_ALONE: Final = (signal.SIGINT, signal.SIGQUIT)

    def __init__(self, loop: Loop) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.early: list[int] = []
        super().__init__(loop, (*self.PASSED_ON, *self.LEFT_ALONE))

    def started(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        for number in self.early:
            process.send_signal(number)

    def caught(self, number: int, frame: object) -> None:
        if number not in self.PASSED_ON:
            return
        if self.process is None:
            self.early.append(number)
        else:
            self.process.send_signal(number)


class Command(Worker):
    """The command: its end stops the loop, signals that are meant for it are passed on."""

    def __init__(self, loop: Loop, command: list[str], environment: dict[str, str]) -> None:
        """Raises FileNotFoundError, PermissionError."""
        super().__init__(loop)
        # caught before there is a command: it may be told to end as soon as it runs
        self.signals = Forwarder(loop)
        self.process = subprocess.Popen(command, env=environment)
        self.signals.started(self.process)
        self.pidfd: int = os.pidfd_open(self.process.pid)
        loop.add(self.pidfd, self, EPOLLIN)

    def ready(self, events: int) -> None:
        self.loop.stop()

    def status(self) -> int:
        """The command's exit status as a shell gives it."""
        self.loop.remove(self.pidfd)
        os.close(self.pidfd)
        code = self.process.wait()
        return code if code >= 0 else SIGNALLED - code


def run_in_sandbox(config: Config, command: list[str]) -> int:
    """Run ``command`` as the host of a fresh network with a stack on it; its exit status.

    ``config.control`` is chosen here and handed to the command as $USTACK_CONTROL. Raises OSError, ConfigError.
    """
    enter_namespaces()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    helper = HostHelper()
    with tempfile.TemporaryDirectory(prefix="ustack-") as directory:
        config.control = os.path.join(directory, "control.sock")
        try:
            from ustack.io.daemon import Daemon  # the helper does not need all that

            daemon = Daemon(config, helper, loopback=True, signals=False)
        finally:
            helper.close()
        try:
            child = Command(daemon.loop, command, os.environ | {"USTACK_CONTROL": config.control})
            daemon.loop.run()
            return child.status()
        except FileNotFoundError:
            raise OSError(NOT_FOUND, "command not found", command[0]) from None
        finally:
            kill_the_rest()
            daemon.close()


def kill_the_rest() -> None:
    """End what the command has left running: as their subreaper we inherit it, generation after generation."""
    while children := my_children():
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def my_children() -> list[int]:
    with open("/proc/thread-self/children") as file:
        return [int(pid) for pid in file.read().split()]
