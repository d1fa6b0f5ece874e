"""What a route may say of its paths, and how a deletion names it (ip_metrics_convert, fib_metrics_match)."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ustack.routing.fib_types import FibConfig, FibInfo
from ustack.routing.metrics import (
    DST_FEATURE_ECN_CA,
    RTAX_FEATURE_ECN,
    RTAX_FEATURE_MASK,
    TcpCaNames,
    fib_metrics_match,
    ip_metrics_convert,
)
from ustack.routing.uapi import (
    RTAX_ADVMSS,
    RTAX_CC_ALGO,
    RTAX_FEATURES,
    RTAX_HOPLIMIT,
    RTAX_INITCWND,
    RTAX_LOCK,
    RTAX_MAX,
    RTAX_MTU,
    RTAX_WINDOW,
)

NAMES = TcpCaNames()


class WithDctcp(TcpCaNames):
    """Somebody who has dctcp besides."""

    def known(self, name: str) -> bool:
        return name == "dctcp" or super().known(name)

    def needs_ecn(self, name: str) -> bool:
        return name == "dctcp"


def config(metrics: dict[int, int], cc_algo: str = "") -> FibConfig:
    cfg = FibConfig()
    cfg.metrics = metrics
    cfg.cc_algo = cc_algo
    return cfg


def info(metrics: dict[int, int], cc_algo: str = "", names: TcpCaNames = NAMES) -> FibInfo:
    fi = FibInfo()
    fi.metrics = ip_metrics_convert(metrics, cc_algo, names)
    fi.cc_algo = cc_algo
    return fi


# -- ip_metrics_convert


@pytest.mark.parametrize(
    ("which", "most"), [(RTAX_MTU, 65_520), (RTAX_ADVMSS, 65_495), (RTAX_HOPLIMIT, 255)], ids=["mtu", "advmss", "hops"]
)
def test_ip_metrics_convert_cuts_what_no_packet_can_have(which: int, most: int) -> None:
    """``if (type == RTAX_MTU && val > 65535 - 15) val = 65535 - 15``, and so on."""
    for asked in (most + 1, 70_000, 0xFFFF_FFFF):
        assert ip_metrics_convert({which: asked}, "", NAMES) == {which: most}
    for asked in (1, most - 1, most):
        assert ip_metrics_convert({which: asked}, "", NAMES) == {which: asked}


def test_ip_metrics_convert_keeps_the_others_as_they_are() -> None:
    asked = {RTAX_LOCK: 1 << RTAX_MTU, RTAX_MTU: 1400, RTAX_WINDOW: 0xFFFF_FFFF, RTAX_INITCWND: 100}
    assert ip_metrics_convert(asked, "", NAMES) == asked


def test_ip_metrics_convert_zero_is_as_good_as_absent() -> None:
    """``ip route add ... mtu 0`` shows no MTU: a metric is an entry of an array that begins as zeros."""
    assert ip_metrics_convert({RTAX_MTU: 0, RTAX_WINDOW: 5}, "", NAMES) == {RTAX_WINDOW: 5}


def test_ip_metrics_convert_skips_type_0() -> None:
    assert ip_metrics_convert({0: 7}, "", NAMES) == {}


@pytest.mark.parametrize("which", [RTAX_MAX + 1, 99, 1 << 20, -1])
def test_ip_metrics_convert_invalid_type(which: int) -> None:
    with pytest.raises(OSError, match="^.Errno 22. Invalid metric type$"):
        ip_metrics_convert({RTAX_MTU: 1400, which: 1}, "", NAMES)


@pytest.mark.parametrize("value", [-1, 1 << 32, 1 << 60])
def test_ip_metrics_convert_more_than_four_bytes(value: int) -> None:
    with pytest.raises(OSError, match="^.Errno 22. Invalid attribute in metrics$"):
        ip_metrics_convert({RTAX_WINDOW: value}, "", NAMES)


def test_ip_metrics_convert_features() -> None:
    for known in (RTAX_FEATURE_ECN, int(RTAX_FEATURE_MASK)):
        assert ip_metrics_convert({RTAX_FEATURES: known}, "", NAMES) == {RTAX_FEATURES: known}
    for unknown in (32, int(DST_FEATURE_ECN_CA), 0x3F):
        with pytest.raises(OSError, match="Unknown flag set in feature mask in metrics attribute") as caught:
            ip_metrics_convert({RTAX_FEATURES: unknown}, "", NAMES)
        assert caught.value.errno == errno.EINVAL


def test_ip_metrics_convert_congctl_is_kept_elsewhere() -> None:
    assert ip_metrics_convert({RTAX_MTU: 1400}, "reno", NAMES) == {RTAX_MTU: 1400}


@pytest.mark.parametrize("name", ["nope", "RENO", "dctcp", "reno" + 15 * "x", "x" * 100])
def test_ip_metrics_convert_unknown_congctl(name: str) -> None:
    with pytest.raises(OSError, match="^.Errno 22. Unknown tcp congestion algorithm$"):
        ip_metrics_convert({}, name, NAMES)


def test_ip_metrics_convert_a_number_is_no_congctl() -> None:
    with pytest.raises(OSError, match="Unknown tcp congestion algorithm"):
        ip_metrics_convert({RTAX_CC_ALGO: 1}, "", NAMES)


def test_ip_metrics_convert_algorithm_that_needs_ecn() -> None:
    """``if (ecn_ca) metrics[RTAX_FEATURES - 1] |= DST_FEATURE_ECN_CA``."""
    bit = int(DST_FEATURE_ECN_CA)
    assert ip_metrics_convert({}, "dctcp", WithDctcp()) == {RTAX_FEATURES: bit}
    asked = {RTAX_FEATURES: RTAX_FEATURE_ECN}
    assert ip_metrics_convert(asked, "dctcp", WithDctcp()) == {RTAX_FEATURES: bit | RTAX_FEATURE_ECN}
    assert asked == {RTAX_FEATURES: RTAX_FEATURE_ECN}


@given(st.dictionaries(st.integers(-2, 20), st.integers(-5, 1 << 33), max_size=6), st.sampled_from(["", "reno", "x"]))
def test_ip_metrics_convert_raises_einval_or_keeps_u32s(metrics: dict[int, int], name: str) -> None:
    try:
        kept = ip_metrics_convert(metrics, name, NAMES)
    except OSError as caught:
        assert caught.errno == errno.EINVAL
        return
    assert all(0 < which <= RTAX_MAX and 0 < value <= 0xFFFF_FFFF for which, value in kept.items())
    assert ip_metrics_convert(kept, name, NAMES) == kept


# -- fib_metrics_match


def test_fib_metrics_match_what_is_not_given_is_not_asked_for() -> None:
    fi = info({RTAX_MTU: 1400, RTAX_WINDOW: 5}, "reno")
    for asked in ({}, {RTAX_MTU: 1400}, {RTAX_WINDOW: 5, RTAX_MTU: 1400}, {0: 9}, {RTAX_INITCWND: 0}):
        assert fib_metrics_match(config(asked), fi)
    for wrong in ({RTAX_MTU: 1401}, {RTAX_MTU: 1400, RTAX_INITCWND: 3}, {RTAX_MTU: 0}):
        assert not fib_metrics_match(config(wrong), fi)


def test_fib_metrics_match_is_by_the_value_kept() -> None:
    """``ip route add ... mtu 70000`` is found by ``mtu 65520`` only."""
    fi = info({RTAX_MTU: 70_000})
    assert not fib_metrics_match(config({RTAX_MTU: 70_000}), fi)
    assert fib_metrics_match(config({RTAX_MTU: 65_520}), fi)


def test_fib_metrics_match_unknown_type_matches_nothing() -> None:
    assert not fib_metrics_match(config({RTAX_MAX + 1: 0}), info({}))
    assert not fib_metrics_match(config({-1: 0}), info({}))


def test_fib_metrics_match_congctl_by_name() -> None:
    fi = info({}, "reno")
    assert fib_metrics_match(config({}, "reno"), fi)
    assert fib_metrics_match(config({}), fi)
    assert not fib_metrics_match(config({}, "cubic"), fi)
    assert not fib_metrics_match(config({}, "nope"), fi)
    assert not fib_metrics_match(config({}, "reno"), info({}))


def test_fib_metrics_match_overlooks_what_the_algorithm_added() -> None:
    fi = info({RTAX_FEATURES: RTAX_FEATURE_ECN}, "dctcp", WithDctcp())
    assert fib_metrics_match(config({RTAX_FEATURES: RTAX_FEATURE_ECN}), fi)
    assert not fib_metrics_match(config({RTAX_FEATURES: 0}), fi)
    assert fib_metrics_match(config({RTAX_FEATURES: 0}), info({}, "dctcp", WithDctcp()))


def test_dst_metric_locked() -> None:
    fi = info({RTAX_LOCK: 1 << RTAX_MTU, RTAX_MTU: 1400})
    assert fi.metric_locked(RTAX_MTU) and not fi.metric_locked(RTAX_ADVMSS)
    assert fi.metric(RTAX_MTU) == 1400 and fi.metric(RTAX_ADVMSS) == 0
    assert not info({}).metric_locked(RTAX_MTU)
