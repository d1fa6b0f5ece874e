"""Programs that nobody here wrote, and servers of the kernel, at the host's end of a daemon's link."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import pytest

from tests.netns.daemon import HOST, PATIENCE, ustack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.netns.daemon import RunningDaemon

MEGABYTE: Final = 1_000_000
#: Where root's programs lie, which not everybody has in their path.
SBIN: Final = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"


def need(*programs: str) -> None:
    """Skip the test where one of them is not installed."""
    missing = [name for name in programs if shutil.which(name, path=SBIN) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def environment() -> dict[str, str]:
    """What they print must be what tests expect."""
    return os.environ | {"LC_ALL": "C", "PATH": SBIN}


def program(*command: str, stdin: bytes = b"", seconds: float = PATIENCE) -> tuple[int, str]:
    """(status, stdout and stderr) of a program; the test is skipped where it is not installed."""
    need(command[0])
    done = subprocess.run(
        command,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=seconds,
        check=False,
        env=environment(),
    )
    return done.returncode, done.stdout.decode(errors="replace")


def output(*command: str, stdin: bytes = b"", seconds: float = PATIENCE) -> str:
    """What it prints, when it is content."""
    status, text = program(*command, stdin=stdin, seconds=seconds)
    assert status == 0, f"{command}: status {status}\n{text}"
    return text


@contextlib.contextmanager
def background(*command: str, ready: str = "", stdin: IO[bytes] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs meanwhile, from when its stderr has a line with ``ready`` in it; killed afterwards."""
    if command[0] != "ustack":
        need(command[0])
        arguments: tuple[str, ...] = command
    else:
        arguments = ustack_command(*command[1:])
    process = subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL if stdin is None else stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        start_new_session=True,
    )
    try:
        if ready:
            assert process.stderr is not None
            while ready.encode() not in (line := process.stderr.readline()):
                assert line, f"{command} ended with status {process.wait()} before it said {ready!r}"
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # and what it has started
        process.wait()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


def ustack_command(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "ustack", *arguments)


def pattern(size: int, seed: int = 4747) -> bytes:
    """Bytes in which nothing repeats that could hide a mistake."""
    return random.Random(seed).randbytes(size)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Server:
    """A TCP server of the kernel: each connection is read to its end, then answered and closed, in a thread."""

    def __init__(self, answer: Callable[[bytes], bytes] = lambda request: request, backlog: int = 128) -> None:
        self.answer = answer
        self.received: list[bytes] = []
        self.errors: list[OSError] = []
        self.sock = socket.create_server((HOST, 0), backlog=backlog)
        self.port: int = self.sock.getsockname()[1]
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Server:
        self._start(self._accept)
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)  # which wakes accept
        for thread in self._threads:
            thread.join(PATIENCE)
        self.sock.close()

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._start(self._serve, self.sock.accept()[0])

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(PATIENCE)
        try:
            with sock, sock.makefile("rb") as file:
                data = file.read()
                self.received.append(data)
                sock.sendall(self.answer(data))
        except OSError as reason:
            self.errors.append(reason)


# -- what the daemon says


def status_of(daemon: RunningDaemon) -> dict[str, Any]:
    """``ustack status -j``."""
    process = ustack("status", "-j", "--control", daemon.control)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    document: dict[str, Any] = json.loads(out)
    return document


def settled(daemon: RunningDaemon) -> list[str]:
    """The states of all TCP connections once no FIN is under way: a TAP may lose one, and it is sent again."""
    deadline = time.monotonic() + PATIENCE
    with daemon.client() as client:
        while True:
            states = [entry.state for entry in client.status().sockets if entry.protocol == "tcp"]
            found = [state for state in states if state != "LISTEN"]
            if set(found) <= {"TIME-WAIT"} or time.monotonic() > deadline:
                return found
            select.select([], [], [], 0.05)


def bulk(daemon: RunningDaemon) -> int:
    """Bytes that are many for it: frame by frame they take longer."""
    return (100 if daemon.offload else 20) * MEGABYTE


def resident(pid: int) -> int:
    """Bytes of memory that a process has in use."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")
