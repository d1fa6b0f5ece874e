"""The host's side of the links, configured by a process of its own while the daemon starts.

rtnetlink through pyroute2 takes longer to import than everything else takes to start. So a child is forked before
anything large is loaded; it imports while the stack is built, waits to be told the names of the devices, does its work,
says how it went, and is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from typing import Final

MESSAGE_MAX: Final = 65_536


class HostHelper:
    """``begin`` once the device is there, ``finish`` before the daemon says that it is up."""

    def __init__(self) -> None:
        """Forks: call it early, and from a process with one thread."""
        self.near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.begun: bool = False
        self.pid: int = os.fork()
        if self.pid == 0:
            try:
                self.near.close()
                serve(far)
            finally:
                os._exit(0)
        far.close()

    def begin(self, links: list[tuple[str, str, int]], loopback: bool) -> None:
        """Bring each device up, ``links`` being their names, addresses and MTUs, and with ``loopback`` lo too."""
        self.begun = True
        self.near.send(json.dumps([links, loopback]).encode())

    def finish(self) -> None:
        """Wait for it. Raises OSError if it failed."""
        if not self.begun:
            return
        self.begun = False
        answer = self.near.recv(MESSAGE_MAX)
        code, text, about = json.loads(answer) if answer else (5, "the host's side could not be configured", None)
        if code:
            raise OSError(code, text, about)

    def close(self) -> None:
        """Let the child go, whether or not it had anything to do."""
        self.near.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def serve(far: socket.socket) -> None:
    """The child: one request, one answer."""
    from ustack.io.host import Host

    request = far.recv(MESSAGE_MAX)
    if not request:
        return
    links, loopback = json.loads(request)
    answer: list[object] = [0, "", None]
    try:
        with Host() as host:
            if loopback:
                host.set_link("lo", up=True)
            for name, cidr, mtu in links:
                host.set_link(name, up=True, mtu=mtu)
                host.add_address(name, cidr)
    except OSError as reason:
        answer = [reason.errno or 5, reason.strerror or str(reason), reason.filename]
    far.send(json.dumps(answer).encode())
