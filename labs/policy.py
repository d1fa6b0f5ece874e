"""What labs/policy.toml has of its own: a hook function, and a program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ustack.netfilter.hooks import NF_ACCEPT, NF_DROP
from ustack.wire.ipv4 import IPPROTO_ICMP, str_to_addr

if TYPE_CHECKING:
    from ustack.lab.host import Host
    from ustack.netfilter.hooks import HookState

PHONE = str_to_addr("192.0.2.20")


class EveryThird:
    """Loses every third echo request of the phone's."""

    def __init__(self) -> None:
        self.seen: int = 0

    def __call__(self, state: HookState) -> int:
        iph = state.packet.iph
        if iph is None or iph.protocol != IPPROTO_ICMP or iph.saddr != PHONE:
            return NF_ACCEPT
        self.seen += 1
        return NF_DROP if self.seen % 3 == 0 else NF_ACCEPT


every_third = EveryThird()


async def fetch(host: Host, name: str, path: str) -> None:
    """Get ``path`` by HTTP and say how long it took."""
    began = host.now
    with host.socket() as sock:
        await sock.connect((name, 80))
        await sock.sendall(f"GET {path} HTTP/1.0\r\nHost: {name}\r\n\r\n".encode())
        answer = await sock.recvall()
    body = answer.partition(b"\r\n\r\n")[2]
    host.print(f"{len(body)} bytes of {name}{path} in {host.now - began:.3f} s")
