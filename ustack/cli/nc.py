"""ustack nc: TCP and UDP out of the stack, with the options of OpenBSD's netcat."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from typing import TYPE_CHECKING, Final

import click

from ustack.cli.control import control_option

if TYPE_CHECKING:
    from ustack.io.client import Client
    from ustack.socket import socket

CHUNK: Final = 1 << 17
DATAGRAM: Final = 16_384
STDIN: Final = 0
STDOUT: Final = 1


@click.command()
@click.option("-l", "listen", is_flag=True, help="Listen instead of connecting.")
@click.option("-u", "udp", is_flag=True, help="UDP instead of TCP.")
@click.option("-k", "keep", is_flag=True, help="Keep listening after a connection has ended.")
@click.option("-p", "source_port", type=click.IntRange(0, 65_535), default=0, help="Source port.")
@click.option("-s", "source", metavar="ADDR", default="", help="Source address.")
@click.option("-w", "timeout", type=click.FloatRange(min=0), help="Seconds to connect, and of silence.")
@click.option("-q", "linger", type=float, help="Seconds to go on after the end of standard input.")
@click.option("-z", "scan", is_flag=True, help="Only see whether somebody listens; PORT may be a range 20-30.")
@click.option("-N", "half_close", is_flag=True, help="Send FIN at the end of standard input.")
@click.option("-d", "no_stdin", is_flag=True, help="Do not read standard input.")
@click.option("-v", "verbose", is_flag=True, help="Say what happens.")
@click.option("-n", "numeric", is_flag=True, expose_value=False, help="Accepted; ports are numbers anyway.")
@click.argument("where", nargs=-1, required=True, metavar="[ADDR] PORT")
@control_option
def nc(
    where: tuple[str, ...],
    listen: bool,
    udp: bool,
    keep: bool,
    source_port: int,
    source: str,
    timeout: float | None,
    linger: float | None,
    scan: bool,
    half_close: bool,
    no_stdin: bool,
    verbose: bool,
    control: str | None,
) -> None:
    """Connect to ADDR and PORT out of the stack, or listen there; standard input goes out, what comes in is printed.

    The exit status is 0 if a connection was made, 1 if not.
    """
    from ustack.io.client import Client

    address, ports = parse_where(where, listen)
    netcat = Netcat(Client(control), udp, timeout, verbose)
    if listen:
        pump = Pump(timeout, linger, half_close, no_stdin)
        netcat.listen((address, ports[0]), pump, keep)
        return
    made = 0
    for port in ports:
        sock = netcat.connect((address, port), (source, source_port))
        if sock is None:
            continue
        made += 1
        with sock:
            if not scan:
                Pump(timeout, linger, half_close, no_stdin).run(sock)
    sys.exit(0 if made else 1)


def parse_where(where: tuple[str, ...], listen: bool) -> tuple[str, list[int]]:
    """The address ("" for any) and the ports. Raises UsageError."""
    if len(where) > 2 or (len(where) == 1 and not listen):
        raise click.UsageError("ADDR and PORT are wanted")
    address = where[0] if len(where) == 2 else ""
    first, dash, last = where[-1].partition("-")
    if not first.isdigit() or (dash and not last.isdigit()):
        raise click.UsageError(f"bad port {where[-1]!r}")
    ports = list(range(int(first), int(last or first) + 1))
    if not ports or ports[-1] > 65_535:
        raise click.UsageError(f"bad port {where[-1]!r}")
    return address, ports


class Netcat:
    """Makes the connections."""

    def __init__(self, client: Client, udp: bool, timeout: float | None, verbose: bool) -> None:
        self.client: Client = client
        self.udp: bool = udp
        self.timeout: float | None = timeout
        self.verbose: bool = verbose

    def new_socket(self) -> socket:
        from ustack import socket as sockets

        kind = sockets.SOCK_DGRAM if self.udp else sockets.SOCK_STREAM
        return sockets.socket(sockets.AF_INET, kind, client=self.client)

    def connect(self, address: tuple[str, int], source: tuple[str, int]) -> socket | None:
        """A connected socket, or None once it has been said why not."""
        sock = self.new_socket()
        try:
            if source != ("", 0):
                sock.bind(source)
            sock.settimeout(self.timeout)
            sock.connect(address)
        except OSError as reason:
            sock.close()
            self.say(f"connect to {address[0]} port {address[1]} ({self.name()}) failed: {reason.strerror or reason}")
            return None
        self.say(f"Connection to {address[0]} {address[1]} port [{self.name()}] succeeded!")
        return sock

    def listen(self, address: tuple[str, int], pump: Pump, keep: bool) -> None:
        from ustack.socket import SO_REUSEADDR, SOL_SOCKET

        with self.new_socket() as listener:
            listener.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            listener.bind(address)
            if self.udp:
                self.serve_datagrams(listener, pump)
                return
            listener.listen(1)
            self.say(f"Listening on {address[0] or '0.0.0.0'} {listener.getsockname()[1]}")
            while True:
                sock, peer = listener.accept()
                self.say(f"Connection received on {peer[0]} {peer[1]}")
                with sock:
                    pump.run(sock)
                if not keep:
                    return

    def serve_datagrams(self, sock: socket, pump: Pump) -> None:
        """Whoever speaks first is who we speak with."""
        self.say(f"Bound on {sock.getsockname()[0]} {sock.getsockname()[1]}")
        data, peer = sock.recvfrom(65_535)
        assert peer is not None
        sock.connect(peer)
        self.say(f"Connection received on {peer[0]} {peer[1]}")
        write_all(data)
        pump.run(sock)

    def name(self) -> str:
        return "udp" if self.udp else "tcp"

    def say(self, text: str) -> None:
        if self.verbose:
            click.echo(text, err=True)


class Pump:
    """Standard input to the socket, the socket to standard output; neither waits for the other."""

    def __init__(self, timeout: float | None, linger: float | None, half_close: bool, no_stdin: bool) -> None:
        self.timeout: float | None = timeout
        self.linger: float | None = linger
        self.half_close: bool = half_close
        self.no_stdin: bool = no_stdin
        self.unsent: bytes | memoryview = b""  # from standard input

    def run(self, sock: socket) -> None:
        """Until the peer has sent everything, or nothing has come for the time-out. Raises OSError, ECONNRESET too."""
        sock.setblocking(False)
        self.unsent = b""
        reading = not self.no_stdin
        patience = self.timeout
        while True:
            # what is read must be sent first: a peer that is as full as we are has to be read meanwhile
            inputs = [sock.fileno(), STDIN] if reading and not self.unsent else [sock.fileno()]
            ready, writable, _ = select.select(inputs, [sock.fileno()] if self.unsent else [], [], patience)
            if not ready and not writable:
                return
            if STDIN in ready and not self.read(sock):
                reading = False
                patience = self.linger if self.linger is not None and self.linger >= 0 else patience
            if self.unsent:
                self.send(sock)
            if sock.fileno() in ready and not self.receive(sock):
                return

    def read(self, sock: socket) -> bool:
        """From standard input; False at its end."""
        from ustack.socket import SHUT_WR, SOCK_STREAM

        self.unsent = os.read(STDIN, CHUNK if sock.type == SOCK_STREAM else DATAGRAM)
        if not self.unsent and self.half_close and sock.type == SOCK_STREAM:
            sock.shutdown(SHUT_WR)
        return bool(self.unsent)

    def send(self, sock: socket) -> None:
        """As much as the socket takes now."""
        with contextlib.suppress(BlockingIOError):
            self.unsent = memoryview(self.unsent)[sock.send(self.unsent) :]

    def receive(self, sock: socket) -> bool:
        """What has come, to standard output; False at the end of a stream."""
        from ustack.socket import SOCK_STREAM

        try:
            data = sock.recv(CHUNK)
        except BlockingIOError:
            return True
        write_all(data)
        return bool(data) or sock.type != SOCK_STREAM  # an empty datagram is no end


def write_all(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(STDOUT, view) :]
