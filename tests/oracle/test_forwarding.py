"""ustack forwards as the running kernel does: the same frames in, the same frames out."""

from __future__ import annotations

import pytest

from tests.oracle.conftest import FRAMES
from tests.oracle.forwarding import judge_forwarding
from tests.oracle.frames import Frames, router


@pytest.mark.vm
@pytest.mark.usefixtures("kernel")
def test_both_routers_send_the_same(router_seed: int) -> None:
    """TTL, checksums, options, fragments; ICMP errors field by field with source and quote; redirects."""
    world = router(router_seed)
    frames = Frames(world)
    difference = judge_forwarding(world, [frames.frame() for _ in range(FRAMES)])
    assert difference is None, difference.report()
