"""A bare control block, for units that need no segments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ustack.stack import Stack
from ustack.tcp.control import TCP_MSS_DEFAULT

if TYPE_CHECKING:
    from ustack.tcp.sock import TcpSock

SEED = b"a seed for tests"


def control_block(seed: bytes = SEED) -> TcpSock:
    """A closed TCP socket of a fresh stack, at time zero; segments are as long as an Ethernet's, and guessed to be."""
    tp = Stack(seed).tcp.new_sock()
    tp.advmss = 1460
    tp.rcv_mss = TCP_MSS_DEFAULT
    return tp
