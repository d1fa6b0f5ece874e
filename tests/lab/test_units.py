"""Times, rates, shares and sizes as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ustack.lab.units import TIME_MAX, duration, rate, share, size


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("5ms", 5_000_000), ("5 ms", 5_000_000), (".5ms", 500_000), ("100us", 100_000), ("7ns", 7), ("2s", 2 * 10**9),
        ("2", 2 * 10**9), (2, 2 * 10**9), (0.25, 250_000_000), ("1.5min", 90 * 10**9), ("1h", 3600 * 10**9), (0, 0),
    ],
)  # fmt: skip
def test_times(text: str | float, ns: int) -> None:
    assert duration(text) == ns


@pytest.mark.parametrize(
    ("text", "bits"),
    [("10mbit", 10**7), ("1gbit", 10**9), ("1.5kbit", 1500), ("8bit", 8), (64_000, 64_000), ("1mbps", 8 * 10**6)],
)
def test_rates(text: str | int, bits: int) -> None:
    """tc(8): "bps" is bytes per second."""
    assert rate(text) == bits


def test_shares_and_sizes() -> None:
    assert share("1%") == 0.01
    assert share("100%") == share(1) == 1.0
    assert share(0.25) == share("0.25") == 0.25
    assert (size("64kb"), size("1m"), size(1500), size("10b")) == (65536, 1 << 20, 1500, 10)


@pytest.mark.parametrize("text", ["", "ms", "5 parsecs", "-5ms", "5msms", "1e3s", "0x10ms", -1, float("nan"), True])
def test_what_is_no_time_is_said_in_a_line(text: str | float) -> None:
    with pytest.raises(ValueError, match="bad time .*: a number with ns, us, ms, s, min or h is wanted") as raised:
        duration(text)
    assert "\n" not in str(raised.value)


def test_more_than_there_can_be() -> None:
    with pytest.raises(ValueError, match="bad share '101%': at most 100%"):
        share("101%")
    with pytest.raises(ValueError, match="bad time '2000000h': too much"):
        duration("2000000h")
    with pytest.raises(ValueError, match="bad rate '5mile'"):
        rate("5mile")


@given(st.text() | st.integers() | st.floats())
def test_whatever_it_is_it_is_a_number_or_a_complaint(value: str | float) -> None:
    try:
        assert 0 <= duration(value) <= TIME_MAX
    except ValueError as mistake:
        assert str(mistake).startswith("bad time")
