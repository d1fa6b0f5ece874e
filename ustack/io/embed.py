"""A stack inside a program: blocking sockets whose waiting is what drives it.

    with ustack.Stack(tap="us0", addr="192.0.2.2/24") as stack:
        with stack.create_connection(("192.0.2.1", 80)) as s:
            s.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
            print(s.recv(65536))

One thread, the caller's: while it does something else the stack stands still, and ``run`` gives it time. The same
stack runs on cables in virtual time, where waiting costs none:

    lab = Lab()
    a, b = ustack.Stack(lab=lab, addr="192.0.2.1/24"), ustack.Stack(lab=lab, addr="192.0.2.2/24")
    a.join(b, seed=1, there=Impairments(loss=0.2))
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from typing import TYPE_CHECKING, Final, TypeVar

from ustack.device.cable import Cable, Impairments, Pollable
from ustack.device.e1000 import E1000
from ustack.device.ring import NicRegisters
from ustack.inet.family import SOCK_STREAM
from ustack.inet.sockaddr import AF_INET
from ustack.io.config import SERVICES, Config, ConfigError, Device, parse_cidr
from ustack.io.daemon import RING_SIZE, SEED_LEN, Link, add_address, add_gateway, start_services
from ustack.io.loop import MAX_WAIT, Loop
from ustack.rtnl.rtnetlink import Rtnetlink
from ustack.sock import MSG_OOB, MSG_PEEK
from ustack.stack import Stack as NetStack
from ustack.tcp.close import sk_stream_closing
from ustack.tcp.control import TcpControl
from ustack.tcp.receive import recv_ends, recv_target
from ustack.timer import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from ustack.inet.socket import Socket as InetSocket
    from ustack.lab import Lab
    from ustack.timer import Waker

T = TypeVar("T")
Address = tuple[str, int]
RECV_MAX: Final = 65_536


class Clock:
    """What makes time pass for an embedded stack."""

    def now(self) -> int:
        """ns on the clock that the stack is polled with."""
        raise NotImplementedError

    def step(self, deadline: int) -> bool:
        """Let something happen, not beyond ``deadline`` (ns); False if nothing ever will."""
        raise NotImplementedError

    def push(self) -> None:
        """Put what was just sent on the wire: nobody polls the stack while its owner does something else."""


class RealTime(Clock):
    """A TAP and the monotonic clock."""

    def __init__(self, loop: Loop) -> None:
        self.loop: Loop = loop

    def now(self) -> int:
        return time.monotonic_ns()

    def step(self, deadline: int) -> bool:
        if self.loop.lost:
            raise OSError(errno.ENODEV, "the TAP device is gone")
        self.loop.step(max(0, min(deadline - self.now(), MAX_WAIT)))
        return True

    def push(self) -> None:
        if not self.loop.closed:
            self.loop.step(0)


class VirtualTime(Clock, Pollable):
    """A lab's clock; in the lab it stands for its stack and the services on it."""

    def __init__(self, lab: Lab, loop: Loop) -> None:
        self.lab: Lab = lab
        self.loop: Loop = loop
        lab.add(self)

    def now(self) -> int:
        return int(self.lab.now)

    def step(self, deadline: int) -> bool:
        if self.lab.next_deadline() <= deadline:
            return self.lab.step()
        if deadline == NEVER:
            return False
        self.lab.run_until(deadline)
        return True

    def poll(self, now: int) -> None:
        self.loop.settle(now)

    def attach(self, waker: Waker) -> bool:
        self.loop.attach(waker)
        return True

    def catch_up(self, now: int) -> None:
        self.loop.stack.catch_up(now)

    def next_deadline(self) -> int:
        return int(self.loop.next_deadline())


class Blocking:
    """How those wait who make time pass by it."""

    def __init__(self, clock: Clock) -> None:
        self.clock: Clock = clock

    def wait(self, attempt: Callable[[], T], timeout: float | None) -> T:
        """What ``attempt`` returns, tried again whenever something has happened while it raises BlockingIOError."""
        end = NEVER if timeout is None else self.clock.now() + round(timeout * 1e9)
        while True:
            try:
                return attempt()
            except BlockingIOError:
                if timeout == 0:
                    raise
            if self.clock.now() >= end:
                raise TimeoutError("timed out")
            if not self.clock.step(int(end)):
                raise OSError(errno.EDEADLK, "waiting for what can never happen")


class Stack(Blocking):
    """A stack of the program's own, with blocking sockets."""

    def __init__(
        self,
        tap: str | None = None,
        addr: str | Sequence[str] = (),
        *,
        gateway: str | None = None,
        mtu: int = 1500,
        offload: bool = True,
        host_addr: str | None = None,
        lab: Lab | None = None,
        seed: bytes | None = None,
    ) -> None:
        """On a TAP (made if it does not exist) or, with ``lab``, on cables in virtual time; one of the two.

        ``addr``: "192.0.2.2/24" or several. ``seed``: at least 16 bytes, from the operating system if not given, and
        fixed in a lab, so that runs repeat. Raises OSError (EPERM, EBUSY, …), ConfigError for what cannot be.
        """
        if (tap is None) == (lab is None):
            raise ConfigError("a Stack needs a tap or a lab, and not both")
        addresses = [addr] if isinstance(addr, str) else list(addr)
        Config(dev=tap or "eth0", addr=addresses, gateway=gateway, mtu=mtu, host_addr=host_addr).check()
        if seed is None:
            seed = os.urandom(SEED_LEN) if lab is None else "".join(addresses).encode().ljust(SEED_LEN, b"\0")
        self.net_stack = NetStack(seed, time.monotonic_ns() if lab is None else lab.now)
        self.rtnetlink = Rtnetlink(self.net_stack)  #: what ``ip`` and ``sysctl`` do, as messages
        self.loop = Loop(self.net_stack)
        self.link: Link | None = None
        try:
            super().__init__(self._open_tap(tap, offload, mtu) if lab is None else self._open_lab(lab, mtu))
            for text in addresses:
                add_address(self.net_stack, self.dev, parse_cidr(text))
            if gateway is not None:
                add_gateway(self.net_stack, gateway)
            if host_addr is not None and self.link is not None:
                self.link.configure_host(host_addr)
        except BaseException:
            self.close()
            raise

    def _open_tap(self, tap: str | None, offload: bool, mtu: int) -> Clock:
        assert tap is not None
        self.link = Link(self.net_stack, Device(name=tap, mtu=mtu, no_offload=not offload))
        self.dev: E1000 = self.link.dev
        self.loop.add_nic(self.link.nic)
        return RealTime(self.loop)

    def _open_lab(self, lab: Lab, mtu: int) -> Clock:
        self.dev = E1000(self.net_stack.devices, "eth0", 0, NicRegisters(RING_SIZE), mtu)
        # random, but from the seed: a lab repeats exactly
        self.dev.mac = self.net_stack.net.entropy.u32() | 0x0200_0000_0000
        self.net_stack.add_device(self.dev)
        return VirtualTime(lab, self.loop)

    def join(
        self,
        other: Stack,
        seed: int = 0,
        there: Impairments | None = None,
        back: Impairments | None = None,
        super_segments: bool = True,
    ) -> Cable:
        """A cable to ``other`` in the same lab; ``there`` is what it does to frames of ours, ``back`` to the others."""
        if not isinstance(self.clock, VirtualTime) or not isinstance(other.clock, VirtualTime):
            raise ConfigError("cables join stacks of a lab")
        cable = Cable(self.dev.nic, other.dev.nic, seed, there, back, super_segments=super_segments)
        self.clock.lab.add(cable)
        return cable

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let what waits leave, and take the TAP away. In a lab, which may go on without us, nothing happens."""
        if self.link is not None:
            self.loop.step(0)
            self.link.close()
            self.link = None
        self.loop.close()

    def run(self, seconds: float) -> None:
        """Let the stack work for so long."""
        end = self.clock.now() + round(seconds * 1e9)
        while self.clock.now() < end and self.clock.step(end):
            pass

    def serve(self, *names: str) -> None:
        """Start services: echo, discard, chargen, http. They work whenever the stack does."""
        for name in names:
            if name not in SERVICES:
                raise ConfigError(f"unknown service {name!r}: there are {', '.join(SERVICES)}")
        start_services(self.loop, list(names))

    # -- sockets

    def socket(self, family: int = AF_INET, type: int = SOCK_STREAM, proto: int = 0) -> Socket:
        return Socket(self, self.net_stack.socket(family, type, proto))

    def create_connection(self, address: Address, timeout: float | None = None) -> Socket:
        """A connected stream."""
        sock = self.socket()
        sock.settimeout(timeout)
        try:
            sock.connect(address)
        except BaseException:
            sock.close()
            raise
        return sock

    def create_server(self, address: Address, backlog: int = 128) -> Socket:
        """A listening stream."""
        sock = self.socket()
        try:
            sock.bind(address)
            sock.listen(backlog)
        except BaseException:
            sock.close()
            raise
        return sock


class Socket:
    """A socket of an embedded stack, as the standard library's, without a descriptor."""

    def __init__(self, stack: Blocking, inner: InetSocket) -> None:
        self.stack: Blocking = stack
        self.inner: InetSocket = inner
        self._timeout: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """With SO_LINGER on it waits until what was sent is acknowledged, or its time is over (inet_release)."""
        sk = self.inner.sk
        patience = int(sk.linger)
        self.inner.close()
        self.stack.clock.push()
        if patience > 0 and isinstance(sk, TcpControl) and self._timeout != 0:
            self._linger(sk, patience)

    def _linger(self, tp: TcpControl, patience: int) -> None:
        def closed() -> None:
            if sk_stream_closing(tp):
                raise BlockingIOError

        with contextlib.suppress(OSError):  # its time is over, or nobody is left who could answer
            self.stack.wait(closed, patience)

    def settimeout(self, value: float | None) -> None:
        """Seconds; None waits for ever, 0 not at all."""
        if value is not None and value < 0:
            raise ValueError("Timeout value out of range")
        self._timeout = value

    def gettimeout(self) -> float | None:
        return self._timeout

    def setblocking(self, flag: bool) -> None:
        self._timeout = None if flag else 0.0

    def bind(self, address: Address) -> None:
        self.inner.bind(address)

    def listen(self, backlog: int = 128) -> None:
        self.inner.listen(backlog)

    def accept(self) -> tuple[Socket, Address]:
        child = Socket(self.stack, self._wait(self.inner.accept))
        return child, child.getpeername()

    def connect(self, address: Address) -> None:
        self._wait(lambda: self.inner.connect(address))

    def getsockname(self) -> Address:
        return self.inner.getsockname().pair()

    def getpeername(self) -> Address:
        return self.inner.getpeername().pair()

    def setsockopt(self, level: int, name: int, value: int | bytes) -> None:
        self.inner.setsockopt(level, name, value)

    def getsockopt(self, level: int, name: int, room: int | None = None) -> int | bytes:
        """The value: as bytes, at most ``room``, if that is given."""
        if room is None:
            return self.inner.getsockopt(level, name)
        return self.inner.getsockopt_bytes(level, name, room)

    def shutdown(self, how: int) -> None:
        self.inner.shutdown(how)
        self.stack.clock.push()

    def send(self, data: bytes | bytearray | memoryview, flags: int = 0) -> int:
        frozen = bytes(data)  # the stack refers to it until it is acknowledged
        return self._send(lambda: self.inner.send(frozen, flags))

    def sendall(self, data: bytes | bytearray | memoryview, flags: int = 0) -> None:
        rest = memoryview(bytes(data))
        while rest:
            piece = rest
            rest = rest[self._send(lambda: self.inner.send(piece, flags)) :]  # noqa: B023

    def sendto(self, data: bytes | bytearray | memoryview, address: Address, flags: int = 0) -> int:
        frozen = bytes(data)
        return self._send(lambda: self.inner.sendto(frozen, address, flags))

    def recv(self, size: int, flags: int = 0) -> bytes:
        """b"" at the end of the stream. What is there, or with MSG_WAITALL, or SO_RCVLOWAT, as much as they ask for."""
        data = self._wait(lambda: self.inner.recv(size, flags))
        sk = self.inner.sk
        if not isinstance(sk, TcpControl) or self._timeout == 0 or flags & MSG_OOB:
            return data
        target = recv_target(sk, size, flags)
        if flags & MSG_PEEK:
            return self._peek(sk, data, size, target, flags)
        while data and len(data) < target and not recv_ends(sk):
            try:
                data += self._wait(lambda: self.inner.recv(size - len(data), flags))  # noqa: B023
            except TimeoutError:
                break
        return data

    def recv_into(self, buffer: bytearray | memoryview, nbytes: int = 0, flags: int = 0) -> int:
        data = self.recv(nbytes or len(buffer), flags)
        buffer[: len(data)] = data
        return len(data)

    def recvfrom(self, size: int, flags: int = 0) -> tuple[bytes, Address]:
        data, where = self._wait(lambda: self.inner.recvfrom(size, flags))
        return data, where.pair()

    def recvall(self) -> bytes:
        """Everything up to the end of the stream."""
        pieces = []
        while piece := self.recv(RECV_MAX):
            pieces.append(piece)
        return b"".join(pieces)

    def _peek(self, sk: TcpControl, data: bytes, size: int, target: int, flags: int) -> bytes:
        """``data`` is what a look showed: look again until it shows ``target`` bytes, or no more will come."""

        def enough() -> bytes:
            nonlocal data
            data = self.inner.recv(size, flags)
            if len(data) < target and not recv_ends(sk):
                raise BlockingIOError
            return data

        try:
            return self._wait(enough) if data else data
        except TimeoutError:
            return data

    def _wait(self, attempt: Callable[[], T]) -> T:
        return self.stack.wait(attempt, self._timeout)

    def _send(self, attempt: Callable[[], int]) -> int:
        sent = self._wait(attempt)
        self.stack.clock.push()
        return sent
