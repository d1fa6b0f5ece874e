"""What the steps of a packet's journey tell of routes, in the words of ip-route(8) and ip-rule(8)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.drop import Reason
from ustack.dst import RTN_NAMES, RTN_UNICAST
from ustack.routing.fib_types import FIB_ERRORS
from ustack.routing.uapi import (
    FR_ACT_BLACKHOLE,
    FR_ACT_PROHIBIT,
    FR_ACT_TO_TBL,
    FR_ACT_UNREACHABLE,
    RT_TABLE_DEFAULT,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
)
from ustack.trace.given import Given
from ustack.wire.ipv4 import addr_to_str

if TYPE_CHECKING:
    from ustack.dst import Dst
    from ustack.routing.fib_frontend import Fib
    from ustack.routing.fib_rules import FibRule
    from ustack.routing.fib_types import FibInfo, FibNh, FibResult
    from ustack.routing.flow import Flow
    from ustack.trace.journey import Facts

_TABLES: Final[dict[int, str]] = {RT_TABLE_LOCAL: "local", RT_TABLE_MAIN: "main", RT_TABLE_DEFAULT: "default"}
#: While nobody has added a rule, these three stand for their tables.
_DEFAULT_RULES: Final[dict[int, int]] = {RT_TABLE_LOCAL: 0, RT_TABLE_MAIN: 32766, RT_TABLE_DEFAULT: 32767}
_ACTIONS: Final[dict[int, str]] = {
    FR_ACT_BLACKHOLE: "blackhole",
    FR_ACT_UNREACHABLE: "unreachable",
    FR_ACT_PROHIBIT: "prohibit",
}


def type_name(rt_type: i64) -> str:
    """``unicast``"""
    return RTN_NAMES.get(int(rt_type), str(rt_type))


def table_name(tb_id: i64) -> str:
    """``main``; the number of one that has no name."""
    return _TABLES.get(int(tb_id), str(tb_id))


def nexthop_words(nhc: FibNh) -> str:
    """``via 192.0.2.254 dev eth0``"""
    via = f"via {addr_to_str(nhc.gateway)} " if nhc.gateway != 0 else ""
    return f"{via}dev {'?' if nhc.dev is None else nhc.dev.name}"


def route_words(rt_type: i64, network: i64, prefixlen: i64, fi: FibInfo | None) -> str:
    """``192.0.2.0/24 dev eth0 src 192.0.2.1``, ``default via 192.0.2.254 dev eth0``, ``blackhole 198.51.100.0/24``"""
    prefix = addr_to_str(network) + ("" if prefixlen == 32 else f"/{prefixlen}")
    words = ["default" if prefixlen == 0 else prefix]
    if rt_type != RTN_UNICAST:
        words.insert(0, type_name(rt_type))
    if fi is None:
        return " ".join(words)
    hops = [nhc for nhc in fi.nhs() if nhc.dev is not None]
    if len(hops) == 1:
        words.append(nexthop_words(hops[0]))
    else:
        words += [f"nexthop {nexthop_words(nhc)} weight {nhc.weight}" for nhc in hops]
    if fi.prefsrc != 0:
        words.append(f"src {addr_to_str(fi.prefsrc)}")
    if fi.priority != 0:
        words.append(f"metric {fi.priority}")
    return " ".join(words)


def lookup_name(fib: Fib, res: FibResult, err: i64) -> str:
    """What a lookup came to."""
    if err == 0:
        return type_name(res.rt_type)
    return "no route" if not _found(fib, res, err) else errno.errorcode.get(int(err), str(err))


class LookupGiven(Given):
    """Which rule and table have answered, and with which route."""

    def __init__(self, fib: Fib, flow: Flow, res: FibResult, err: i64) -> None:
        self.daddr: i64 = flow.daddr
        self.saddr: i64 = flow.saddr
        self.mark: i64 = flow.mark
        self.rule: FibRule | None = fib.rules.decided if fib.rules.has_custom else None
        self.fi: FibInfo | None = res.fi if _found(fib, res, err) else None
        self.rt_type: i64 = res.rt_type
        self.prefix: i64 = res.prefix
        self.prefixlen: i64 = res.prefixlen

    def facts(self) -> Facts:
        facts: Facts = {"to": addr_to_str(self.daddr)}
        if self.saddr != 0:
            facts["from"] = addr_to_str(self.saddr)
        if self.mark != 0:
            facts["mark"] = f"0x{self.mark:x}"
        rule, fi = self.rule, self.fi
        if rule is not None:
            facts["rule"] = rule.pref
            if rule.action != FR_ACT_TO_TBL:
                facts["action"] = _ACTIONS.get(int(rule.action), str(rule.action))
                return facts
        if fi is not None:
            if rule is None and fi.tb_id in _DEFAULT_RULES:
                facts["rule"] = _DEFAULT_RULES[fi.tb_id]
            facts["table"] = table_name(fi.tb_id)
            facts["route"] = route_words(self.rt_type, self.prefix, self.prefixlen, fi)
        return facts


def _found(fib: Fib, res: FibResult, err: i64) -> bool:
    """Whether a route has answered: with an error too, if it is one of that type; else ``res`` is an older lookup's."""
    if err == 0:
        return True
    fi = res.fi
    if fib.rules.has_custom and (fib.rules.decided is None or fib.rules.decided.action != FR_ACT_TO_TBL):
        return fib.rules.decided is not None
    if fi is None:
        return False
    nexthop = fi.nexthop
    blackhole = nexthop is not None and nexthop.blackhole and err == errno.EINVAL
    return blackhole or FIB_ERRORS.get(int(res.rt_type)) == err


def hop_facts(res: FibResult, mp_hash: i64) -> Facts:
    """Which of several next hops, and the hash that has chosen it."""
    fi, nhc = res.fi, res.nhc
    facts: Facts = {"hop": res.nh_sel, "of": 0 if fi is None else len(fi.nhs()), "hash": f"0x{mp_hash:08x}"}
    if nhc is not None:
        facts["nexthop"] = nexthop_words(nhc)
        facts["weight"] = nhc.weight
    return facts


class DstGiven(Given):
    """The way itself, whether it was kept from an earlier packet, and the source address it gave (0: none)."""

    def __init__(self, dst: Dst, cached: bool, saddr: i64 = 0) -> None:
        self.rt_type: i64 = dst.rt_type
        self.dev: str = dst.dev.name
        self.via: i64 = dst.gateway if dst.uses_gateway else -1
        self.mtu: i64 = dst.mtu
        self.cached: bool = cached
        self.redirected: bool = dst.redirected
        self.saddr: i64 = saddr

    def facts(self) -> Facts:
        facts: Facts = {"type": type_name(self.rt_type), "dev": self.dev}
        if self.via >= 0:
            facts["via"] = addr_to_str(self.via)
        facts["mtu"] = self.mtu
        if self.cached:
            facts["cached"] = True
        if self.redirected:
            facts["redirected"] = True
        if self.saddr != 0:
            facts["src"] = addr_to_str(self.saddr)
        return facts


def source_verdict(verdict: i64) -> str:
    """fib_validate_source's answer."""
    if verdict < 0:
        return f"refused: {Reason(-verdict).name}"
    return "may come in" if verdict == 0 else "may come in, and is on the link"
