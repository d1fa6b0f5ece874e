"""ustack decides where a packet goes exactly as the running kernel does."""

from __future__ import annotations

import pytest

from tests.oracle.generate import generate
from tests.oracle.judge import judge


@pytest.mark.vm
@pytest.mark.usefixtures("kernel")
def test_both_say_the_same_of_a_world(seed: int, lookups: int) -> None:
    """Every command is answered the same, everything that is shown looks the same, every route that is asked for is."""
    difference = judge(generate(seed), lookups)
    assert difference is None, difference.report()
