"""What most scripts begin with: a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.oracle.tcp.script import Call, Pause, Segment, Terms

if TYPE_CHECKING:
    from random import Random

    from tests.oracle.tcp.script import Step


def terms(random: Random) -> Terms:
    """Any that a peer of our days would have, and some that it would not."""
    return Terms(
        active=random.random() < 0.3,
        mss=random.choice((1460, 1460, 1460, 536, 1000, None, 88)),
        wscale=random.choice((7, 7, 0, 14, None)),
        timestamps=random.random() < 0.6,
        sack=random.random() < 0.75,
        window=random.choice((65_535, 65_535, 4096, 1000)),
        iss=random.choice((0x5000_0000, 0xFFFF_FF00, 0x7FFF_FF00, 0)),
    )


def opened(terms: Terms) -> list[Step]:
    """The handshake, some milliseconds long."""
    if terms.active:
        return [Call("connect"), Pause(4), Segment("SA"), Call("connect")]
    return [Call("listen", (5,)), Segment("S"), Pause(4), Segment("A"), Call("accept")]
