"""A bare control block, for units that need no segments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ustack.stack import Stack

if TYPE_CHECKING:
    from ustack.tcp.sock import TcpSock

SEED = b"a seed for tests"


def control_block(seed: bytes = SEED) -> TcpSock:
    """A closed TCP socket of a fresh stack, at time zero."""
    return Stack(seed).tcp.new_sock()
