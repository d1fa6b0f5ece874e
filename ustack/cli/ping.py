"""ustack ping: ICMP echo out of the stack, with the words and options of iputils' ping."""

from __future__ import annotations

import signal
import struct
import sys
import time
from typing import TYPE_CHECKING, Final

import click

from ustack.cli.control import control_option

if TYPE_CHECKING:
    from types import FrameType

    from ustack.socket import socket

ICMP_ECHOREPLY: Final = 0
ICMP_ECHO: Final = 8
IP_TTL: Final = 2
IP_RECVERR: Final = 11
HEADER: Final = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence: the stack fills 3 and 4
SIZE_MAX: Final = 65_507
NSEC: Final = 1_000_000_000


@click.command()
@click.option("-c", "count", type=click.IntRange(min=1), help="Stop after so many requests.")
@click.option("-i", "interval", type=click.FloatRange(min=0), default=1.0, help="Seconds between requests.  [1]")
@click.option("-s", "size", type=click.IntRange(0, SIZE_MAX), default=56, help="Bytes of data.  [56]")
@click.option("-W", "patience", type=click.FloatRange(min=0), default=1.0, help="Seconds to wait for a reply.  [1]")
@click.option("-w", "deadline", type=click.FloatRange(min=0), help="Seconds until it ends whatever happens.")
@click.option("-t", "ttl", type=click.IntRange(1, 255), help="Time to live.")
@click.option("-I", "source", metavar="ADDR", help="Source address.")
@click.option("-q", "quiet", is_flag=True, help="Only the summary.")
@click.option("-n", "numeric", is_flag=True, expose_value=False, help="Accepted; names are never looked up.")
@click.argument("address")
@control_option
def ping(
    address: str,
    count: int | None,
    interval: float,
    size: int,
    patience: float,
    deadline: float | None,
    ttl: int | None,
    source: str | None,
    quiet: bool,
    control: str | None,
) -> None:
    """Send ICMP echo requests out of the stack to ADDRESS.

    The exit status is 0 if anything was answered, 1 if not, 2 after another error.
    """
    from ustack.io.client import Client
    from ustack.socket import AF_INET, IPPROTO_ICMP, IPPROTO_IP, SOCK_DGRAM, resolve, socket

    host = resolve((address, 0))[0].to_bytes(4, "big")
    with socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP, client=Client(control)) as sock:
        sock.setsockopt(IPPROTO_IP, IP_RECVERR, 1)  # ICMP errors, in place of replies
        if ttl is not None:
            sock.setsockopt(IPPROTO_IP, IP_TTL, ttl)
        if source is not None:
            sock.bind((source, 0))
        pinger = Pinger(sock, ".".join(map(str, host)), size, quiet)
        click.echo(f"PING {address} ({pinger.address}) {size}({size + 28}) bytes of data.")
        signal.signal(signal.SIGINT, pinger.interrupt)
        pinger.run(count, interval, patience, deadline)
    pinger.summary()
    sys.exit(0 if pinger.received else 1)


class Pinger:
    """Requests out, replies in, and what is said about them."""

    def __init__(self, sock: socket, address: str, size: int, quiet: bool) -> None:
        self.sock: socket = sock
        self.address: str = address
        self.payload: bytes = bytes(n & 0xFF for n in range(size))
        self.quiet: bool = quiet
        self.sent: int = 0
        self.received: int = 0
        self.duplicates: int = 0
        self.errors: int = 0
        self.started: int = time.monotonic_ns()
        self.asked: dict[int, int] = {}  # sequence number: when it was sent (ns); negative once answered
        self.times: list[float] = []  # ms
        self.interrupted: bool = False

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        self.interrupted = True

    def run(self, count: int | None, interval: float, patience: float, deadline: float | None) -> None:
        end = None if deadline is None else self.started + round(deadline * NSEC)
        due = self.started
        while not self.interrupted and (count is None or self.sent < count):
            if end is not None and due >= end:
                break
            self.ask()
            due += round(interval * NSEC)
            last = count is not None and self.sent == count
            until = time.monotonic_ns() + round(patience * NSEC) if last else due
            self.listen(until if end is None else min(until, end), all_answered=last)

    def ask(self) -> None:
        self.sent += 1
        sequence = self.sent & 0xFFFF
        self.asked[sequence] = time.monotonic_ns()
        if len(self.asked) > 0x4000:
            del self.asked[next(iter(self.asked))]
        try:
            self.sock.sendto(HEADER.pack(ICMP_ECHO, 0, 0, 0, sequence) + self.payload, (self.address, 0))
        except OSError as reason:
            self.complain(reason)

    def listen(self, until: int, all_answered: bool) -> None:
        """Take in replies until ``until`` (ns), or until every request is answered."""
        while not self.interrupted and not (all_answered and self.received + self.errors >= self.sent):
            left = until - time.monotonic_ns()
            if left <= 0:
                return
            self.sock.settimeout(left / NSEC)
            try:
                message, peer = self.sock.recvfrom(65_535)
            except TimeoutError:
                return
            except OSError as reason:
                self.complain(reason)
                continue
            self.hear(message, peer[0] if peer else "?", time.monotonic_ns())

    def hear(self, message: bytes, peer: str, now: int) -> None:
        if len(message) < HEADER.size or message[0] != ICMP_ECHOREPLY:
            return
        sequence = HEADER.unpack_from(message)[4]
        when = self.asked.get(sequence)
        if when is None:
            return
        note = ""
        took = (now - abs(when)) / 1e6
        if when < 0:
            self.duplicates += 1
            note = " (DUP!)"
        else:
            self.received += 1
            self.times.append(took)
            self.asked[sequence] = -when
        if message[HEADER.size :] != self.payload:
            note += " (wrong data!)"
        if not self.quiet:
            click.echo(f"{len(message)} bytes from {peer}: icmp_seq={sequence} time={took:.3f} ms{note}")

    def complain(self, reason: OSError) -> None:
        """An ICMP error, or one of our own, in place of a reply."""
        self.errors += 1
        if not self.quiet:
            click.echo(f"From {self.address}: icmp_seq={self.sent & 0xFFFF} {reason.strerror}")

    def summary(self) -> None:
        took = (time.monotonic_ns() - self.started) // 1_000_000
        extra = f", +{self.duplicates} duplicates" if self.duplicates else ""
        extra += f", +{self.errors} errors" if self.errors else ""
        lost = 100 - 100 * self.received / self.sent if self.sent else 0
        click.echo(f"\n--- {self.address} ping statistics ---")
        click.echo(f"{self.sent} packets transmitted, {self.received} received{extra}, "
                   f"{lost:.4g}% packet loss, time {took}ms")  # fmt: skip
        if self.times:
            mean = sum(self.times) / len(self.times)
            mdev = max(0.0, sum(t * t for t in self.times) / len(self.times) - mean * mean) ** 0.5
            click.echo(f"rtt min/avg/max/mdev = {min(self.times):.3f}/{mean:.3f}/{max(self.times):.3f}/{mdev:.3f} ms")
