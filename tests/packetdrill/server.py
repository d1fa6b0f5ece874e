"""The daemon: one machine, one program's calls, and the connections of the plugin's threads and of the stand-ins.

It is driven by whoever runs it: ``serve(until, latest)`` works off requests until ``until`` is readable, which is when
the program has ended. While the plugin's main thread waits, nobody else sets the clock, and it jumps to whatever is due
next; while only the other thread waits, it stays where the main thread has it.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import time
from typing import TYPE_CHECKING, Final

from tests.packetdrill.calls import Calls, Wait
from tests.packetdrill.machine import USEC
from tests.packetdrill.protocol import Op, Reply, Request, receive_request, send_reply

if TYPE_CHECKING:
    from pathlib import Path

    from tests.packetdrill.machine import Machine
    from tests.packetdrill.settings import Settings

#: How far the clock jumps for a packet or a call before it is given up, ns.
PATIENCE: Final = 200 * 1_000_000_000


class Link:
    """One connection: a thread of the plugin, or a stand-in."""

    def __init__(self, link: socket.socket) -> None:
        self.socket = link
        self.main = False
        self.waiting: Request | None = None  #: what it has asked and not been answered


class Server:
    """One script's daemon."""

    def __init__(self, machine: Machine, path: Path, settings: Settings | None = None) -> None:
        """Listen at ``path``. ``settings``: the files that show the stack's sysctls, if there are any."""
        self.machine = machine
        self.calls = Calls(machine)
        self.settings = settings
        self.links: list[Link] = []
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(path))
        self.listener.listen()

    def close(self) -> None:
        self.listener.close()
        for link in self.links:
            link.socket.close()

    def serve(self, until: int, latest: float) -> None:
        """Work until the descriptor ``until`` is readable, or ``latest`` (s, as time.monotonic has it)."""
        while (left := latest - time.monotonic()) > 0:
            readable = self._readable(until, left)
            if self.listener in readable:
                self.links.append(Link(self.listener.accept()[0]))
                continue
            # the main thread comes last: it goes on as soon as the other one sleeps, which is after it has asked
            for link in sorted(self.links, key=lambda link: link.main):
                if link.socket in readable:
                    self._request(link)
            if until in readable:
                return

    def _readable(self, until: int, timeout: float) -> set[object]:
        with selectors.DefaultSelector() as selector:
            selector.register(self.listener, selectors.EVENT_READ)
            selector.register(until, selectors.EVENT_READ)
            for link in self.links:
                selector.register(link.socket, selectors.EVENT_READ)
            return {key.fileobj for key, _ in selector.select(timeout)}

    # -- requests

    def _request(self, link: Link) -> None:
        request = receive_request(link.socket)
        if request is None:
            link.socket.close()
            self.links.remove(link)
            return
        if request.now >= 0:
            self.run_to(request.now * USEC)
        link.waiting = request
        self.attend()
        self._jump()

    def _jump(self) -> None:
        """While the main thread waits, go on to what is due next."""
        limit = self.machine.now + PATIENCE
        while any(link.main and link.waiting for link in self.links):
            deadline = self.next_deadline()
            if deadline > limit:
                return self._give_up()
            self.machine.poll(max(deadline, self.machine.now))
            self.attend()

    def _give_up(self) -> None:
        for link in self.links:
            if link.main and link.waiting is not None:
                nothing = link.waiting.op == Op.NETDEV_RECEIVE
                self._answer(link, Reply() if nothing else Reply(-1, errno.ETIMEDOUT))

    def next_deadline(self) -> int:
        """When the stack or a waiting call has something to do, ns."""
        waiting = [link.waiting.deadline for link in self.links if link.waiting is not None]
        return min([int(self.machine.stack.next_deadline()), *(when for when in waiting if when >= 0)])

    def run_to(self, when: int) -> None:
        """Everything that is due up to ``when``, each thing at its time, and the clock to ``when``."""
        while (deadline := self.next_deadline()) < when:
            self.machine.poll(max(deadline, self.machine.now))
            self.attend()
        self.machine.poll(when)
        self.attend()

    def attend(self) -> None:
        """Make every waiting call once more; those that come to an end are answered, and others may on their account.

        The main thread's are the last: its next request must find what the other thread's have done.
        """
        while sum(self._attempt(link) for link in sorted(self.links, key=lambda link: link.main)):
            self.machine.poll(self.machine.now)

    def _attempt(self, link: Link) -> bool:
        """Whether it had a call that has come to its end."""
        if link.waiting is None:
            return False
        try:
            reply = self._perform(link, link.waiting)
        except Wait as wait:
            link.waiting.deadline = wait.deadline
            return False
        self.machine.poll(self.machine.now)
        self._answer(link, reply)
        return True

    def _answer(self, link: Link, reply: Reply) -> None:
        reply.now = self.machine.now // USEC
        link.waiting = None
        with contextlib.suppress(BrokenPipeError):
            send_reply(link.socket, reply)

    def _perform(self, link: Link, request: Request) -> Reply:
        """What is not a system call, or else that."""
        if request.op == Op.HELLO:
            link.main = True
            return Reply()
        if request.op == Op.SLEEP:
            return Reply()
        if request.op == Op.NETDEV_SEND:
            self.machine.pipe.receive(request.payload)
            return Reply()
        if request.op == Op.NETDEV_RECEIVE:
            return self._receive()
        if request.op == Op.SYSTEM:
            return self._system(request.args[0] != 0)
        if request.op == Op.COMMAND:
            return Reply(-1, errno.EINVAL) if self.settings is None else self.settings.command(request.payload)
        return self.calls.call(request)

    def _receive(self) -> Reply:
        """The next packet that the stack has sent, with its time."""
        if not self.machine.pipe.sent:
            raise Wait
        when, packet = self.machine.pipe.sent.popleft()
        return Reply(when // USEC, payload=packet)

    def _system(self, after: bool) -> Reply:
        """Around a command of the script: show the settings as they are, take what was written."""
        if self.settings is not None:
            if after:
                self.settings.load()
            else:
                self.settings.store()
        return Reply()
