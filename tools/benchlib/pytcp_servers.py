"""The same services on pmd-pytcp's sockets: runs in an environment of its own that has that package.

python -m benchlib.pytcp_servers TAP CIDR
"""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from typing import Any, Final

from benchlib.load import CHARGEN, DISCARD, ECHO

BLOCK: Final = bytes(range(32, 127)) * 690
#: Its send takes whatever it is given into a buffer without a limit, so here is one.
SEND_BUFFER: Final = 1024 * 1024
BACKLOG: Final = 1024
PROBE_TIME: Final = 15

sockets: Any = import_module("pmd_pytcp.socket")
stack: Any = import_module("pmd_pytcp.stack")
addresses: Any = import_module("pmd_net_addr")


async def main(name: str, cidr: str) -> None:
    stack.init()
    stack.add_interface(
        **stack.initialize_interface__tap(interface_name=name),
        ip4_host=addresses.Ip4IfAddr(cidr),
        ip6_support=False,
    )
    await stack.start()
    await owned(cidr)
    tcp = sockets.SocketType.STREAM
    await asyncio.gather(
        udp_echo(opened(cidr, sockets.SocketType.DGRAM, ECHO)),
        serve(opened(cidr, tcp, DISCARD), discard),
        serve(opened(cidr, tcp, CHARGEN), chargen),
    )


async def owned(cidr: str) -> None:
    """It probes for a conflict first (RFC 5227), some seconds long, and lets nobody bind meanwhile."""
    for _ in range(PROBE_TIME):
        try:
            opened(cidr, sockets.SocketType.DGRAM, DISCARD).close()
            return
        except OSError:
            await asyncio.sleep(1)


def opened(cidr: str, kind: Any, port: int) -> Any:
    sock = sockets.socket(sockets.AddressFamily.INET4, kind)
    sock.bind((cidr.partition("/")[0], port))
    return sock


async def serve(listener: Any, service: Any) -> None:
    listener.listen(backlog=BACKLOG)
    running: set[asyncio.Task[None]] = set()
    while True:
        sock, _ = await listener.accept()
        task = asyncio.ensure_future(guarded(service, sock))
        running.add(task)
        task.add_done_callback(running.discard)


async def guarded(service: Any, sock: Any) -> None:
    try:
        await service(sock)
    except OSError:
        pass
    finally:
        sock.close()


async def discard(sock: Any) -> None:
    while await sock.recv(65_536):
        pass


async def chargen(sock: Any) -> None:
    while True:
        if len(sock._tcp_session._tx.buffer) < SEND_BUFFER:
            await sock.send(BLOCK)
        await asyncio.sleep(0)


async def udp_echo(sock: Any) -> None:
    while True:
        data, peer = await sock.recvfrom()
        await sock.sendto(data, peer)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
