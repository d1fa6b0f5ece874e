"""What a route says about the paths behind it: RTAX_* (Linux net/ipv4/metrics.c, fib_metrics_match)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, mypyc_attr

from ustack.routing.uapi import RTAX_ADVMSS, RTAX_CC_ALGO, RTAX_FEATURES, RTAX_HOPLIMIT, RTAX_MAX, RTAX_MTU
from ustack.sysctl_names import TCP_CA_NAME_MAX

if TYPE_CHECKING:
    from ustack.routing.fib_types import FibConfig, FibInfo

# what RTAX_FEATURES may say (include/uapi/linux/rtnetlink.h)
RTAX_FEATURE_ECN: Final = 0x1
RTAX_FEATURE_SACK: Final = 0x2
RTAX_FEATURE_TIMESTAMP: Final = 0x4
RTAX_FEATURE_ALLFRAG: Final = 0x8
RTAX_FEATURE_TCP_USEC_TS: Final = 0x10
RTAX_FEATURE_MASK: Final[i64] = 0x1F
#: The algorithm needs ECN: beside the user's features, and not shown with them.
DST_FEATURE_ECN_CA: Final[i64] = 1 << 31


_MTU_MAX: Final[i64] = 65_535 - 15
_ADVMSS_MAX: Final[i64] = 65_535 - 40
_HOPLIMIT_MAX: Final[i64] = 255


@mypyc_attr(allow_interpreted_subclasses=True)
class TcpCaNames:
    """Which congestion control algorithms there are, for a room that knows no TCP (tcp_ca_get_key_by_name)."""

    def known(self, name: str) -> bool:
        """Whether a route may ask for ``name``. Reno is always there (tcp_cong.c registers it first)."""
        return name == "reno"

    def needs_ecn(self, name: str) -> bool:
        """TCP_CONG_NEEDS_ECN."""
        return False


def ip_metrics_convert(metrics: dict[int, int], cc_algo: str, names: TcpCaNames) -> dict[int, int]:
    """What is kept of the metrics a route was asked for with; what is 0 is as good as absent. EINVAL.

    Too much MTU, MSS or hop limit is cut to what a packet can have. ``cc_algo`` is kept by its name, elsewhere.
    """
    kept: dict[int, int] = {}
    for which, value in metrics.items():
        if which == 0:
            continue
        converted = _convert(which, value)
        if converted != 0:
            kept[which] = converted
    if cc_algo:
        _check_cc_algo(cc_algo, names)
        if names.needs_ecn(cc_algo):
            kept[RTAX_FEATURES] = kept.get(RTAX_FEATURES, 0) | DST_FEATURE_ECN_CA
    return kept


def _convert(which: i64, value: i64) -> i64:
    """One metric as it is kept."""
    if not 0 < which <= RTAX_MAX:
        raise OSError(errno.EINVAL, "Invalid metric type")
    if which == RTAX_CC_ALGO:  # a number is no name
        raise OSError(errno.EINVAL, "Unknown tcp congestion algorithm")
    if not 0 <= value <= 0xFFFF_FFFF:  # more than the attribute's four bytes
        raise OSError(errno.EINVAL, "Invalid attribute in metrics")
    if which == RTAX_ADVMSS:
        return min(value, _ADVMSS_MAX)
    if which == RTAX_MTU:
        return min(value, _MTU_MAX)
    if which == RTAX_HOPLIMIT:
        return min(value, _HOPLIMIT_MAX)
    if which == RTAX_FEATURES and value & ~RTAX_FEATURE_MASK != 0:
        raise OSError(errno.EINVAL, "Unknown flag set in feature mask in metrics attribute")
    return value


def _check_cc_algo(name: str, names: TcpCaNames) -> None:
    if len(name) >= TCP_CA_NAME_MAX or not names.known(name):
        raise OSError(errno.EINVAL, "Unknown tcp congestion algorithm")


def fib_metrics_match(cfg: FibConfig, fi: FibInfo) -> bool:
    """Whether ``fi`` has all the metrics that ``cfg`` gives, as they are kept: one that was cut is not found again."""
    for which, value in cfg.metrics.items():
        if which == 0:
            continue
        if not 0 < which <= RTAX_MAX:
            return False
        have = fi.metric(which)
        if which == RTAX_FEATURES:
            have &= ~DST_FEATURE_ECN_CA
        if have != value:
            return False
    return cfg.cc_algo == "" or cfg.cc_algo == fi.cc_algo
