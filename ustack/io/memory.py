"""What the C library is told about memory (mallopt(3))."""

from __future__ import annotations

import ctypes
from typing import Final

M_TRIM_THRESHOLD: Final = -1
#: Free memory at the top of the heap that is kept, bytes: frames come and go in bursts of megabytes.
HEAP_KEPT: Final = 64 << 20


def keep_heap() -> bool:
    """Do not give the heap back after every burst of frames, to fault it in again at the next; False without glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(M_TRIM_THRESHOLD, HEAP_KEPT) == 1
