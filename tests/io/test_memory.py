"""mallopt, where there is one."""

from __future__ import annotations

import ctypes

from ustack.io.memory import keep_heap


def test_the_heap_is_kept_wherever_the_c_library_lets_us() -> None:
    assert keep_heap() == hasattr(ctypes.CDLL(None), "mallopt")
