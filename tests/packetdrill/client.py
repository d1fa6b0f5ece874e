"""The plugin's part in Python: for tests of the daemon that need no packetdrill."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import TYPE_CHECKING

from librt.strings import BytesWriter

from tests.packetdrill.machine import LOCAL, REMOTE, START_USECS, Machine
from tests.packetdrill.protocol import Op, Reply, Request, receive_reply, send_request
from tests.packetdrill.server import Server
from ustack.wire import ipv4, tcp
from ustack.wire.checksum import csum_fold, csum_partial, csum_tcpudp_nofold
from ustack.wire.ipv4 import IPPROTO_TCP, str_to_addr

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from tests.packetdrill.settings import Settings

PORT = 8080
PEER_PORT = 40_000


class Client:
    """One connection to the daemon: a thread of a program. ``now`` in µs since the beginning, set by hand."""

    def __init__(self, path: Path, main: bool = True) -> None:
        self.now = 0
        self.link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.link.settimeout(10)
        self.link.connect(str(path))
        if main:
            self.call(Op.HELLO)

    def ask(
        self, op: Op, handle: int = -1, args: tuple[int, int, int, int] = (0, 0, 0, 0), payload: bytes = b""
    ) -> None:
        """Send the request, and do not wait for its answer."""
        send_request(self.link, Request(op, handle, args, payload, START_USECS + self.now))

    def answer(self) -> Reply:
        """The answer to what was asked; ``now`` counts from the beginning, and is our time from then on."""
        reply = receive_reply(self.link)
        reply.now -= START_USECS
        self.now = max(self.now, reply.now)
        return reply

    def call(
        self, op: Op, handle: int = -1, args: tuple[int, int, int, int] = (0, 0, 0, 0), payload: bytes = b""
    ) -> Reply:
        self.ask(op, handle, args, payload)
        return self.answer()

    def inject(self, flags: int, seq: int, ack: int, data: bytes = b"", options: bytes = b"") -> None:
        """A segment from the peer."""
        self.call(Op.NETDEV_SEND, payload=segment(flags, seq, ack, data, options))

    def receive(self) -> Received:
        """The next segment of the stack."""
        return Received(self.call(Op.NETDEV_RECEIVE))


class Received:
    """A segment that the stack has sent, and when (µs)."""

    def __init__(self, reply: Reply) -> None:
        self.usecs = reply.value - START_USECS
        packet = reply.payload
        iph = ipv4.parse(packet, 0, len(packet))
        assert iph is not None and ipv4.checksum_ok(packet, iph), packet
        start = int(iph.header_len)
        th = tcp.parse(packet, start, len(packet))
        assert th is not None
        pseudo = csum_tcpudp_nofold(iph.saddr, iph.daddr, len(packet) - start, IPPROTO_TCP)
        assert csum_partial(packet, start, len(packet), pseudo) == 0xFFFF
        self.seq, self.ack, self.flags = int(th.seq), int(th.ack_seq), int(th.flags)
        self.data = packet[th.payload : th.end]


def segment(flags: int, seq: int, ack: int, data: bytes = b"", options: bytes = b"") -> bytes:
    """An IPv4 packet from the peer's port to ours."""
    saddr, daddr = str_to_addr(REMOTE), str_to_addr(LOCAL)
    out = BytesWriter()
    tcp.emit(out, PEER_PORT, PORT, seq, ack, flags, 32_000, 0, 0, options)
    raw = bytearray(out.getvalue() + data)
    pseudo = csum_tcpudp_nofold(saddr, daddr, len(raw), IPPROTO_TCP)
    raw[16:18] = int(csum_fold(csum_partial(bytes(raw), 0, len(raw), pseudo))).to_bytes(2, "big")
    head = BytesWriter()
    ipv4.emit(head, 0, 20 + len(raw), 1, ipv4.IP_DF, 64, IPPROTO_TCP, saddr, daddr)
    return head.getvalue() + bytes(raw)


class Daemon:
    """A server in a thread of its own, as long as the ``with`` lasts; what goes wrong in it is raised at the end."""

    def __init__(self, folder: Path, machine: Machine | None = None, settings: Settings | None = None) -> None:
        self.path = folder / "socket"
        self.machine = machine or Machine()
        self.server = Server(self.machine, self.path, settings)
        self.trouble: BaseException | None = None
        self.clients: list[Client] = []
        self._until, self._end = os.pipe()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.server.serve(self._until, time.monotonic() + 30)
        except BaseException as trouble:
            self.trouble = trouble
            self.server.close()

    def client(self, main: bool = True) -> Client:
        """A connection, closed at the end."""
        self.clients.append(Client(self.path, main))
        return self.clients[-1]

    def __enter__(self) -> Daemon:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        os.write(self._end, b".")
        self._thread.join(30)
        self.server.close()
        for client in self.clients:
            client.link.close()
        os.close(self._until)
        os.close(self._end)
        if self.trouble is not None:
            raise self.trouble
