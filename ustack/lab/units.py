"""Times, rates, shares and sizes as people write them: "5ms", "10mbit", "1%", "64kb" (tc(8), "PARAMETERS").

A number alone is in the unit that a Python program would use: seconds, bits a second, a probability, bytes. Everything
that cannot be is a ValueError in one line.
"""

from __future__ import annotations

import re
from typing import Final

Quantity = str | int | float

_QUANTITY: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-z%]*)\Z")

#: To nanoseconds.
TIMES: Final = {
    "ns": 1, "us": 1_000, "usec": 1_000, "ms": 1_000_000, "msec": 1_000_000, "": 10**9, "s": 10**9, "sec": 10**9,
    "m": 60 * 10**9, "min": 60 * 10**9, "h": 3600 * 10**9,
}  # fmt: skip
#: To bits a second; tc's "bps" is bytes.
RATES: Final = {
    "": 1, "bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9, "tbit": 10**12,
    "bps": 8, "kbps": 8 * 10**3, "mbps": 8 * 10**6, "gbps": 8 * 10**9,
}  # fmt: skip
#: To bytes; as in tc, k is 1024.
SIZES: Final = {"": 1, "b": 1, "k": 1 << 10, "kb": 1 << 10, "m": 1 << 20, "mb": 1 << 20, "g": 1 << 30, "gb": 1 << 30}
SHARES: Final = {"": 1.0, "%": 0.01}

#: What fits 63 bits of nanoseconds with room to spare: a hundred years.
TIME_MAX: Final = 100 * 365 * 86_400 * 10**9


def duration(value: Quantity) -> int:
    """ns."""
    return _whole(value, TIMES, "time", "with ns, us, ms, s, min or h", TIME_MAX)


def rate(value: Quantity) -> int:
    """Bits a second."""
    return _whole(value, RATES, "rate", "with bit, kbit, mbit or gbit, or with bps for bytes", 10**15)


def size(value: Quantity) -> int:
    """Bytes."""
    return _whole(value, SIZES, "size", "with b, kb or mb", 1 << 50)


def share(value: Quantity) -> float:
    """A probability, 0 to 1: "1%", or 0.01."""
    found = _scaled(value, SHARES, "share", "with %, or one from 0 to 1")
    if found > 1.0:
        raise ValueError(f"bad share {value!r}: at most 100%, which is 1, is possible")
    return found


def _whole(value: Quantity, units: dict[str, int], what: str, wanted: str, most: int) -> int:
    found = round(_scaled(value, units, what, wanted))
    if found > most:
        raise ValueError(f"bad {what} {value!r}: too much")
    return found


def _scaled(value: Quantity, units: dict[str, int] | dict[str, float], what: str, wanted: str) -> float:
    complaint = f"bad {what} {value!r}: a number {wanted} is wanted"
    if isinstance(value, bool):
        raise ValueError(complaint)
    if not isinstance(value, str):
        if not 0 <= value < float("inf"):
            raise ValueError(complaint)
        return value * units[""]
    found = _QUANTITY.match(value.strip())
    unit = None if found is None else units.get(found.group(2).lower())
    if found is None or unit is None:
        raise ValueError(complaint)
    digits = found.group(1)
    return (float(digits) if "." in digits else int(digits)) * unit
