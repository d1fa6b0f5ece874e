"""Two embedded stacks on a cable in virtual time: a client's, and one with services."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ustack.io.embed import Stack
from ustack.lab import Lab

if TYPE_CHECKING:
    from typing import Self

    from ustack.device.cable import Impairments

CLIENT = "192.0.2.1"
SERVER = "192.0.2.2"


class World:
    """``client`` and ``server`` with ``cable`` between them; leaving it checks the books of both."""

    def __init__(self, *services: str, impairments: Impairments | None = None, seed: int = 1) -> None:
        self.lab = Lab()
        self.client = Stack(lab=self.lab, addr=f"{CLIENT}/24")
        self.server = Stack(lab=self.lab, addr=f"{SERVER}/24")
        self.cable = self.client.join(self.server, seed, impairments)
        self.server.serve(*services)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        if kind is None:
            for stack in (self.client, self.server):
                assert stack.net_stack.unaccounted() == 0
        self.client.close()
        self.server.close()

    def exchange(self, port: int, data: bytes) -> bytes:
        """Send ``data`` and FIN, and everything that comes back until the server's FIN."""
        with self.client.create_connection((SERVER, port), timeout=60) as sock:
            sock.sendall(data)
            sock.shutdown(1)
            return sock.recvall()
