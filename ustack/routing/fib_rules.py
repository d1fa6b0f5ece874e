"""Policy routing: which table is asked about which packet (Linux net/core/fib_rules.c, net/ipv4/fib_rules.c).

Rules stand in the order of their preference; the first that matches and whose table knows a route decides. A jump goes
forward only, so a lookup ends after every rule at most.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.device.core import NETDEV_CHANGENAME, NETDEV_REGISTER, NETDEV_UNREGISTER, NetdevNotifier
from ustack.net import RTM_DELRULE, RTM_NEWRULE
from ustack.routing.fib_types import EAGAIN, ENETUNREACH, prefix_mask
from ustack.routing.flow import INET_DSCP_LEGACY_TOS_MASK, INET_DSCP_MASK
from ustack.routing.uapi import (
    FIB_RULE_IIF_DETACHED,
    FIB_RULE_INVERT,
    FIB_RULE_OIF_DETACHED,
    FIB_RULE_PERMANENT,
    FIB_RULE_UNRESOLVED,
    FR_ACT_GOTO,
    FR_ACT_NOP,
    FR_ACT_PROHIBIT,
    FR_ACT_TO_TBL,
    FR_ACT_UNREACHABLE,
    NLM_F_EXCL,
    RT_TABLE_DEFAULT,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    RTPROT_KERNEL,
    RTPROT_UNSPEC,
)
from ustack.sock import error

if TYPE_CHECKING:
    from ustack.device.core import Devices
    from ustack.device.net_device import NetDevice
    from ustack.net import Net
    from ustack.routing.fib_frontend import Fib
    from ustack.routing.fib_types import FibResult
    from ustack.routing.flow import Flow

#: Linux has only its memory as a limit, and says ENOMEM when that is used up; so does this number.
FIB_MAX_RULES: Final = 1 << 16

_DETACHED: Final = -1  #: a rule's device by a name that no device has
_MARK_ALL: Final[i64] = 0xFFFF_FFFF
_UID_INVALID: Final[i64] = 0xFFFF_FFFF
_IPTOS_TOS_MASK: Final[i64] = 0x1E


class FibRuleConfig:
    """A rule to be added, or the pattern of one to be deleted (struct fib_rule_hdr with its attributes).

    -1 and "" stand for an attribute that was not given. Addresses and marks in host order.
    """

    def __init__(self, action: i64 = FR_ACT_TO_TBL, table: i64 = 0, priority: i64 = -1) -> None:
        self.action: i64 = action  #: FR_ACT_*; 0 in a deletion: any
        self.table: i64 = table  #: 0: an empty one that is made for it; in a deletion: any
        self.priority: i64 = priority
        self.target: i64 = -1  #: FRA_GOTO
        self.src: i64 = 0
        self.src_len: i64 = 0
        self.dst: i64 = 0
        self.dst_len: i64 = 0
        self.tos: i64 = 0
        self.dscp: i64 = -1  #: 0 to 63
        self.iifname: str = ""
        self.oifname: str = ""
        self.mark: i64 = 0
        self.mask: i64 = -1
        self.ip_proto: i64 = 0
        self.sport: tuple[int, int] | None = None  #: first and last, 1 to 65534
        self.dport: tuple[int, int] | None = None
        self.uid_range: tuple[int, int] | None = None
        self.suppress_prefixlen: i64 = -1
        self.suppress_ifgroup: i64 = -1
        self.proto: i64 = RTPROT_UNSPEC  #: who made it: RTPROT_*
        self.flags: i64 = 0  #: FIB_RULE_INVERT, FIB_RULE_PERMANENT
        self.nlflags: i64 = 0  #: NLM_F_EXCL


class FibRule:
    """One rule (struct fib4_rule with its fib_rule). ``src`` and ``dst`` as given, bits beyond the prefix and all."""

    def __init__(self, pref: i64, action: i64, table: i64) -> None:
        self.pref: i64 = pref
        self.action: i64 = action
        self.table: i64 = table
        self.flags: i64 = 0  #: as given; ``shown_flags`` has those of its state
        self.proto: i64 = RTPROT_UNSPEC
        self.target: i64 = 0  #: the preference a goto jumps to
        self.ctarget: FibRule | None = None  #: the rule that is; None while there is none
        self.next: FibRule | None = None
        self.iifname: str = ""
        self.iifindex: i64 = 0  #: 0 any, -1 a device that is not there
        self.oifname: str = ""
        self.oifindex: i64 = 0
        self.mark: i64 = 0
        self.mark_mask: i64 = 0
        self.uid_start: i64 = 0
        self.uid_end: i64 = _UID_INVALID
        self.src: i64 = 0
        self.src_len: i64 = 0
        self.srcmask: i64 = 0
        self.dst: i64 = 0
        self.dst_len: i64 = 0
        self.dstmask: i64 = 0
        self.dscp: i64 = 0  #: as bits of the TOS byte
        self.dscp_full: bool = False  #: selected by DSCP, all six bits; else by TOS, the lower three
        self.ip_proto: i64 = 0
        self.sport_start: i64 = 0  #: 0: any
        self.sport_end: i64 = 0
        self.dport_start: i64 = 0
        self.dport_end: i64 = 0
        self.suppress_prefixlen: i64 = -1
        self.suppress_ifgroup: i64 = -1

    def uid_range_set(self) -> bool:
        """Whether it asks for whose packet it is."""
        return self.uid_end != _UID_INVALID

    def shown_flags(self) -> i64:
        """The flags with what became of its names: unresolved, detached (fib_nl_fill_rule)."""
        flags = self.flags
        if self.action == FR_ACT_GOTO and self.ctarget is None:
            flags |= FIB_RULE_UNRESOLVED
        if self.iifindex == _DETACHED:
            flags |= FIB_RULE_IIF_DETACHED
        if self.oifindex == _DETACHED:
            flags |= FIB_RULE_OIF_DETACHED
        return flags

    def matches(self, flow: Flow) -> bool:
        """fib_rule_match: every selector that is set must hold; ``not`` turns the answer round."""
        return self._selects(flow) != (self.flags & FIB_RULE_INVERT != 0)

    def _selects(self, flow: Flow) -> bool:
        """The selectors every family has, in the kernel's order."""
        if self.iifindex != 0 and self.iifindex != flow.iif:
            return False
        if self.oifindex != 0 and self.oifindex != flow.oif:
            return False
        if (self.mark ^ flow.mark) & self.mark_mask != 0:
            return False
        if flow.uid < self.uid_start or flow.uid > self.uid_end:
            return False
        return self._fib4_rule_match(flow)

    def _fib4_rule_match(self, flow: Flow) -> bool:
        """IPv4's own selectors."""
        if (flow.saddr ^ self.src) & self.srcmask != 0 or (flow.daddr ^ self.dst) & self.dstmask != 0:
            return False
        if self.dscp_full:
            if self.dscp != flow.tos & INET_DSCP_MASK:
                return False
        elif self.dscp != 0 and self.dscp != flow.tos & INET_DSCP_LEGACY_TOS_MASK:
            return False
        if self.ip_proto != 0 and self.ip_proto != flow.proto:
            return False
        if self.sport_start != 0 and not self.sport_start <= flow.sport <= self.sport_end:
            return False
        return self.dport_start == 0 or self.dport_start <= flow.dport <= self.dport_end

    def suppresses(self, res: FibResult) -> bool:
        """fib4_rule_suppress: what the table said does not count: prefix too short, or a device of that group."""
        if res.prefixlen <= self.suppress_prefixlen:
            return True
        if self.suppress_ifgroup == -1 or res.fi is None:
            return False
        hops = res.fi.nhs()
        dev = hops[0].dev if hops else None
        return dev is not None and dev.group == self.suppress_ifgroup


class FibRules:
    """The rules of one stack (struct fib_rules_ops of AF_INET)."""

    def __init__(self, net: Net, devices: Devices, fib: Fib) -> None:
        """With the three rules every stack begins with: local, main, default."""
        self.net: Net = net
        self.devices: Devices = devices
        self.fib: Fib = fib
        self.rules: list[FibRule] = []  #: in the order they are asked, which is the order of a dump
        self.has_custom: bool = False  #: fib_has_custom_rules: a rule was added or deleted once
        self.decided: FibRule | None = None  #: whose answer the last lookup was, None if it was nobody's
        self._first: FibRule | None = None
        self._nr_goto_rules: i64 = 0
        self._unresolved_rules: i64 = 0
        self._link(_default_rule(0, RT_TABLE_LOCAL))
        self._link(_default_rule(0x7FFE, RT_TABLE_MAIN))
        self._link(_default_rule(0x7FFF, RT_TABLE_DEFAULT))
        devices.register_netdevice_notifier(_RulesNotifier(self))

    # -- lookup

    def fib_rules_lookup(self, flow: Flow, res: FibResult, fib_flags: i64 = 0) -> i64:
        """Ask rule after rule: 0 and ``res`` filled, or the errno of what decided; ENETUNREACH if nothing did."""
        rule = self._first
        while rule is not None:
            if rule.matches(flow):
                if rule.action == FR_ACT_GOTO:
                    if rule.ctarget is not None:
                        rule = rule.ctarget
                        continue
                elif rule.action != FR_ACT_NOP:
                    err = self._fib4_rule_action(rule, flow, res, fib_flags)
                    if err == 0 and rule.suppresses(res):
                        err = EAGAIN
                    if err != EAGAIN:
                        self.decided = rule
                        return err
            rule = rule.next
        self.decided = None
        return ENETUNREACH

    def _fib4_rule_action(self, rule: FibRule, flow: Flow, res: FibResult, fib_flags: i64) -> i64:
        """What a rule that matches says; EAGAIN: go on to the next."""
        action = rule.action
        if action == FR_ACT_TO_TBL:
            table = self.fib.fib_get_table(rule.table)
            return EAGAIN if table is None else table.fib_table_lookup(flow, res, fib_flags)
        if action == FR_ACT_UNREACHABLE:
            return ENETUNREACH
        # blackhole, and whatever else somebody may have asked for
        return errno.EACCES if action == FR_ACT_PROHIBIT else errno.EINVAL

    # -- change

    def fib_nl_newrule(self, cfg: FibRuleConfig) -> FibRule:
        """Add a rule after those of the same preference (fib_newrule).

        EEXIST with NLM_F_EXCL if there is one like it; EINVAL or ERANGE for what makes no sense; ENOMEM beyond
        FIB_MAX_RULES, ENOBUFS if it needs a table and there are too many.
        """
        rule = self._fib_nl2rule(cfg)
        if cfg.nlflags & NLM_F_EXCL != 0 and self._rule_exists(rule, cfg):
            raise error(errno.EEXIST)
        _fib4_rule_configure(rule, cfg)
        if len(self.rules) >= FIB_MAX_RULES:
            raise error(errno.ENOMEM)
        # before local and main part: nobody would ask local if this failed in between
        if rule.table == 0 and rule.action == FR_ACT_TO_TBL:
            rule.table = self.fib.fib_empty_table().tb_id
        self.fib.fib_unmerge()
        self.has_custom = True
        self._link(rule)
        self._resolve(rule)
        self.net.rtnl_notify(RTM_NEWRULE, rule)
        self.fib.rt_cache_flush()
        return rule

    def fib_nl_delrule(self, cfg: FibRuleConfig) -> FibRule:
        """Delete the first rule that has everything ``cfg`` gives (fib_delrule).

        ENOENT if none has; EPERM for a permanent one; EINVAL for a pattern that could not be a rule.
        """
        pattern = self._fib_nl2rule(cfg)
        rule = self._rule_find(pattern, cfg)
        if rule is None:
            raise error(errno.ENOENT)
        if rule.flags & FIB_RULE_PERMANENT != 0:
            raise error(errno.EPERM)
        self.fib.fib_unmerge()
        self.has_custom = True
        self._unlink(rule)
        self.net.rtnl_notify(RTM_DELRULE, rule)
        self.fib.rt_cache_flush()
        return rule

    def fib_default_rule_pref(self) -> i64:
        """What a rule gets that asks for no preference: the place right before the second rule."""
        if len(self.rules) > 1 and self.rules[1].pref != 0:
            return self.rules[1].pref - 1
        return 0

    def _fib_nl2rule(self, cfg: FibRuleConfig) -> FibRule:
        """What ``cfg`` says, checked as far as the kernel checks additions and deletions alike."""
        rule = FibRule(max(cfg.priority, 0), cfg.action, cfg.table)
        rule.proto, rule.flags = cfg.proto, cfg.flags
        if cfg.src_len > 32:
            raise OSError(errno.EINVAL, "Invalid source address")
        if cfg.dst_len > 32:
            raise OSError(errno.EINVAL, "Invalid dst address")
        if cfg.dscp > 63:
            raise OSError(errno.ERANGE, "Error parsing msg")
        rule.mark = cfg.mark
        # "compatibility: if the mark value is non-zero all bits are compared unless a mask is explicitly specified"
        rule.mark_mask = cfg.mask if cfg.mask >= 0 else _MARK_ALL if cfg.mark else 0
        rule.suppress_prefixlen, rule.suppress_ifgroup = cfg.suppress_prefixlen, cfg.suppress_ifgroup
        rule.ip_proto = cfg.ip_proto
        _check_goto(cfg)
        _set_ranges(rule, cfg)
        if cfg.priority < 0:
            rule.pref = self.fib_default_rule_pref()
        if cfg.target >= 0:
            rule.target = cfg.target
            if rule.target <= rule.pref:
                raise OSError(errno.EINVAL, "Backward goto not supported")
        rule.iifname, rule.iifindex = cfg.iifname, self._ifindex(cfg.iifname)
        rule.oifname, rule.oifindex = cfg.oifname, self._ifindex(cfg.oifname)
        return rule

    def _ifindex(self, name: str) -> i64:
        if not name:
            return 0
        dev = self.devices.by_name(name)
        return _DETACHED if dev is None else dev.ifindex

    def _rule_exists(self, rule: FibRule, cfg: FibRuleConfig) -> bool:
        """rule_exists: the same in all that families share, and not contradicting it in the rest: a rule that is
        narrower in addresses or TOS only counts as the same."""
        for index in range(self._lower_bound(rule.pref), len(self.rules)):
            other = self.rules[index]
            if other.pref != rule.pref:
                return False
            if _same(other, rule) and _fib4_rule_compare(other, cfg):
                return True
        return False

    def _rule_find(self, pattern: FibRule, cfg: FibRuleConfig) -> FibRule | None:
        """rule_find: what the pattern leaves open fits everything; so does a preference that was not given."""
        start = self._lower_bound(pattern.pref) if cfg.priority >= 0 else 0
        for index in range(start, len(self.rules)):
            rule = self.rules[index]
            if cfg.priority >= 0 and rule.pref != pattern.pref:
                return None
            if _fits(rule, pattern) and _fib4_rule_compare(rule, cfg):
                return rule
        return None

    # -- the list

    def _lower_bound(self, pref: i64) -> int:
        """The place of the first rule of ``pref`` or more."""
        low, high = 0, len(self.rules)
        while low < high:
            middle = (low + high) // 2
            if self.rules[middle].pref < pref:
                low = middle + 1
            else:
                high = middle
        return low

    def _link(self, rule: FibRule) -> None:
        """Put it behind the last of its preference."""
        at = self._lower_bound(rule.pref + 1)
        rule.next = self.rules[at] if at < len(self.rules) else None
        if at > 0:
            self.rules[at - 1].next = rule
        else:
            self._first = rule
        self.rules.insert(at, rule)

    def _resolve(self, rule: FibRule) -> None:
        """Find its target, and be the target of those that waited for one."""
        if rule.action == FR_ACT_GOTO:
            self._nr_goto_rules += 1
            at = self._lower_bound(rule.target)
            if at < len(self.rules) and self.rules[at].pref == rule.target:
                rule.ctarget = self.rules[at]
            else:
                self._unresolved_rules += 1
        if self._unresolved_rules == 0:
            return
        for other in self.rules:
            if other.action == FR_ACT_GOTO and other.target == rule.pref and other.ctarget is None:
                other.ctarget = rule
                self._unresolved_rules -= 1

    def _unlink(self, rule: FibRule) -> None:
        """Take it out; who jumped to it jumps to the next of its preference, or nowhere."""
        at = self._lower_bound(rule.pref)
        while self.rules[at] is not rule:
            at += 1
        if at > 0:
            self.rules[at - 1].next = rule.next
        else:
            self._first = rule.next
        del self.rules[at]
        if rule.action == FR_ACT_GOTO:
            self._nr_goto_rules -= 1
            if rule.ctarget is None:
                self._unresolved_rules -= 1
        if self._nr_goto_rules == 0:
            return
        heir = rule.next if rule.next is not None and rule.next.pref == rule.pref else None
        for other in self.rules:
            if other.ctarget is rule:
                other.ctarget = heir
                if heir is None:
                    self._unresolved_rules += 1

    # -- devices

    def attach_rules(self, dev: NetDevice) -> None:
        """A device of that name has come."""
        for rule in self.rules:
            if rule.iifindex == _DETACHED and rule.iifname == dev.name:
                rule.iifindex = dev.ifindex
            if rule.oifindex == _DETACHED and rule.oifname == dev.name:
                rule.oifindex = dev.ifindex

    def detach_rules(self, dev: NetDevice) -> None:
        """Its device has gone, or has another name now."""
        for rule in self.rules:
            if rule.iifindex == dev.ifindex:
                rule.iifindex = _DETACHED
            if rule.oifindex == dev.ifindex:
                rule.oifindex = _DETACHED


class _RulesNotifier(NetdevNotifier):
    """fib_rules_event."""

    def __init__(self, rules: FibRules) -> None:
        self.rules: FibRules = rules

    def netdev_event(self, event: i64, dev: NetDevice) -> None:
        if event == NETDEV_CHANGENAME or event == NETDEV_UNREGISTER:
            self.rules.detach_rules(dev)
        if event == NETDEV_CHANGENAME or event == NETDEV_REGISTER:
            self.rules.attach_rules(dev)


def _default_rule(pref: i64, table: i64) -> FibRule:
    """fib_default_rule_add."""
    rule = FibRule(pref, FR_ACT_TO_TBL, table)
    rule.proto = RTPROT_KERNEL
    return rule


def _check_goto(cfg: FibRuleConfig) -> None:
    """A target belongs to a goto, and a goto to a target."""
    if cfg.target >= 0 and cfg.action != FR_ACT_GOTO:
        raise OSError(errno.EINVAL, "Unexpected goto")
    if cfg.target < 0 and cfg.action == FR_ACT_GOTO:
        raise OSError(errno.EINVAL, "Missing goto target for action goto")


def _set_ranges(rule: FibRule, cfg: FibRuleConfig) -> None:
    """Users and ports; EINVAL for a range that is none."""
    if cfg.uid_range is not None:
        rule.uid_start, rule.uid_end = cfg.uid_range
        if rule.uid_start > rule.uid_end or rule.uid_end >= _UID_INVALID:
            raise OSError(errno.EINVAL, "Invalid uid range")
    if cfg.sport is not None:
        if not _port_range_valid(cfg.sport):
            raise OSError(errno.EINVAL, "Invalid sport range")
        rule.sport_start, rule.sport_end = cfg.sport
    if cfg.dport is not None:
        if not _port_range_valid(cfg.dport):
            raise OSError(errno.EINVAL, "Invalid dport range")
        rule.dport_start, rule.dport_end = cfg.dport


def _port_range_valid(ports: tuple[int, int]) -> bool:
    """fib_rule_port_range_valid; 65535 is beyond it, as in the kernel."""
    first, last = ports
    return 0 < first <= last < 0xFFFF


def _fib4_rule_configure(rule: FibRule, cfg: FibRuleConfig) -> None:
    """What only IPv4 has: addresses and TOS or DSCP."""
    if cfg.tos & ~INET_DSCP_MASK != 0:
        raise OSError(errno.EINVAL, "Invalid dsfield (tos): ECN bits must be 0")
    if cfg.tos & ~_IPTOS_TOS_MASK != 0:
        raise OSError(errno.EINVAL, "Invalid tos")
    rule.dscp = cfg.tos
    if cfg.dscp >= 0:
        if cfg.tos != 0:
            raise OSError(errno.EINVAL, "Cannot specify both TOS and DSCP")
        rule.dscp, rule.dscp_full = cfg.dscp << 2, True
    rule.src_len, rule.dst_len = cfg.src_len, cfg.dst_len
    rule.src, rule.srcmask = (cfg.src, prefix_mask(cfg.src_len)) if cfg.src_len else (0, 0)
    rule.dst, rule.dstmask = (cfg.dst, prefix_mask(cfg.dst_len)) if cfg.dst_len else (0, 0)


def _fib4_rule_compare(rule: FibRule, cfg: FibRuleConfig) -> bool:
    """Whether ``rule`` has what ``cfg`` gives of addresses and TOS."""
    if cfg.src_len != 0 and (rule.src_len != cfg.src_len or rule.src != cfg.src):
        return False
    if cfg.dst_len != 0 and (rule.dst_len != cfg.dst_len or rule.dst != cfg.dst):
        return False
    if cfg.tos != 0 and (rule.dscp_full or rule.dscp != cfg.tos):
        return False
    return cfg.dscp < 0 or (rule.dscp_full and rule.dscp == cfg.dscp << 2)


def _same(a: FibRule, b: FibRule) -> bool:
    """Equal in everything that rules of all families have."""
    return (
        a.action == b.action
        and a.table == b.table
        and a.iifname == b.iifname
        and a.oifname == b.oifname
        and a.mark == b.mark
        and a.mark_mask == b.mark_mask
        and a.suppress_ifgroup == b.suppress_ifgroup
        and a.suppress_prefixlen == b.suppress_prefixlen
        and a.uid_start == b.uid_start
        and a.uid_end == b.uid_end
        and a.ip_proto == b.ip_proto
        and a.proto == b.proto
        and _same_ports(a, b)
    )


def _same_ports(a: FibRule, b: FibRule) -> bool:
    return (
        a.sport_start == b.sport_start
        and a.sport_end == b.sport_end
        and a.dport_start == b.dport_start
        and a.dport_end == b.dport_end
    )


def _fits(rule: FibRule, pattern: FibRule) -> bool:
    """Whether ``rule`` has everything that is set in ``pattern``."""
    return (
        pattern.action in (0, rule.action)
        and pattern.table in (0, rule.table)
        and pattern.iifname in ("", rule.iifname)
        and pattern.oifname in ("", rule.oifname)
        and pattern.mark in (0, rule.mark)
        and pattern.mark_mask in (0, rule.mark_mask)
        and pattern.suppress_ifgroup in (-1, rule.suppress_ifgroup)
        and pattern.suppress_prefixlen in (-1, rule.suppress_prefixlen)
        and pattern.ip_proto in (0, rule.ip_proto)
        and pattern.proto in (RTPROT_UNSPEC, rule.proto)
        and _fits_ranges(rule, pattern)
    )


def _fits_ranges(rule: FibRule, pattern: FibRule) -> bool:
    if pattern.uid_range_set() and (rule.uid_start, rule.uid_end) != (pattern.uid_start, pattern.uid_end):
        return False
    if pattern.sport_start != 0 and (rule.sport_start, rule.sport_end) != (pattern.sport_start, pattern.sport_end):
        return False
    return pattern.dport_start == 0 or (rule.dport_start, rule.dport_end) == (pattern.dport_start, pattern.dport_end)
