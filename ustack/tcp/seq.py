"""Sequence numbers: 32-bit circular comparison (RFC 9293 section 3.4; Linux before(), after(), between())."""

from __future__ import annotations

from mypy_extensions import i64


def before(a: i64, b: i64) -> bool:
    """True if ``a`` comes before ``b`` on the circle; numbers half a circle apart come before each other."""
    return ((a - b) & 0xFFFF_FFFF) > 0x7FFF_FFFF


def after(a: i64, b: i64) -> bool:
    """True if ``a`` comes after ``b``."""
    return ((b - a) & 0xFFFF_FFFF) > 0x7FFF_FFFF


def between(a: i64, low: i64, high: i64) -> bool:
    """True if ``low`` <= ``a`` <= ``high`` on the circle."""
    return ((high - low) & 0xFFFF_FFFF) >= ((a - low) & 0xFFFF_FFFF)


def distance(a: i64, b: i64) -> i64:
    """How far ``b`` lies after ``a``, in [0, 2**32)."""
    return (b - a) & 0xFFFF_FFFF


def signed_distance(a: i64, b: i64) -> i64:
    """``b - a`` in [-2**31, 2**31)."""
    d: i64 = (b - a) & 0xFFFF_FFFF
    return d - 0x1_0000_0000 if d > 0x7FFF_FFFF else d
