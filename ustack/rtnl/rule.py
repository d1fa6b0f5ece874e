"""Rules (Linux net/core/fib_rules.c: fib_nl_newrule, fib_nl_delrule, fib_nl_dumprule, fib_nl_fill_rule)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ustack.routing.fib_rules import FibRuleConfig
from ustack.rtnl.handler import Handler, in_prefix
from ustack.rtnl.messages import Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ustack.routing.fib_rules import FibRule
    from ustack.rtnl.messages import Object
    from ustack.stack import Stack


class RuleHandler(Handler[Rule]):
    def __init__(self, stack: Stack) -> None:
        self.stack: Stack = stack

    def new(self, message: Rule, flags: int) -> None:
        cfg = to_config(message)
        cfg.nlflags = flags
        self.stack.routing.fib.rules.fib_nl_newrule(cfg)

    def delete(self, message: Rule) -> None:
        self.stack.routing.fib.rules.fib_nl_delrule(to_config(message))

    def dump(self, message: Rule) -> Iterator[Object | None]:
        for rule in self.stack.routing.fib.rules.rules[:]:
            shown = self.fill(rule)
            yield shown if agrees(shown, message) else None

    def flush(self, message: Rule) -> Iterator[Object | None]:
        """All that agree but for preference 0, as iproute2 does it."""
        rules = self.stack.routing.fib.rules
        for rule in rules.rules[:]:
            shown = self.fill(rule)
            if rule.pref == 0 or not agrees(shown, message):
                yield None
                continue
            try:
                rules.fib_nl_delrule(to_config(shown))
            except OSError as reason:
                if reason.errno != errno.ENOENT:  # somebody was quicker
                    raise
            yield shown

    def fill(self, rule: FibRule) -> Rule:
        """fib_nl_fill_rule, fib4_rule_fill."""
        return Rule(
            priority=int(rule.pref),
            action=int(rule.action),
            table=int(rule.table),
            goto=int(rule.target),
            src=int(rule.src),
            src_len=int(rule.src_len),
            dst=int(rule.dst),
            dst_len=int(rule.dst_len),
            tos=0 if rule.dscp_full else int(rule.dscp),
            dscp=int(rule.dscp >> 2) if rule.dscp_full else None,
            iif=rule.iifname,
            oif=rule.oifname,
            mark=int(rule.mark),
            mask=int(rule.mark_mask) if rule.mark_mask or rule.mark else None,
            ipproto=int(rule.ip_proto),
            sport=ports(int(rule.sport_start), int(rule.sport_end)),
            dport=ports(int(rule.dport_start), int(rule.dport_end)),
            uidrange=(int(rule.uid_start), int(rule.uid_end)) if rule.uid_range_set() else None,
            suppress_prefixlength=given(int(rule.suppress_prefixlen)),
            suppress_ifgroup=given(int(rule.suppress_ifgroup)),
            protocol=int(rule.proto),
            flags=int(rule.shown_flags()),
        )


def to_config(message: Rule) -> FibRuleConfig:
    """fib_nl2rule: what is absent is -1 there."""
    cfg = FibRuleConfig(message.action, message.table, -1 if message.priority is None else message.priority)
    cfg.target = message.goto or -1
    cfg.src, cfg.src_len = message.src, message.src_len
    cfg.dst, cfg.dst_len = message.dst, message.dst_len
    cfg.tos = message.tos
    cfg.dscp = -1 if message.dscp is None else message.dscp
    cfg.iifname, cfg.oifname = message.iif, message.oif
    cfg.mark = message.mark
    cfg.mask = -1 if message.mask is None else message.mask
    cfg.ip_proto = message.ipproto
    cfg.sport, cfg.dport, cfg.uid_range = message.sport, message.dport, message.uidrange
    cfg.suppress_prefixlen = -1 if message.suppress_prefixlength is None else message.suppress_prefixlength
    cfg.suppress_ifgroup = -1 if message.suppress_ifgroup is None else message.suppress_ifgroup
    cfg.proto = message.protocol
    cfg.flags = message.flags
    return cfg


def ports(first: int, last: int) -> tuple[int, int] | None:
    return (first, last) if first else None


def given(value: int) -> int | None:
    return None if value < 0 else value


def agrees(rule: Rule, wanted: Rule) -> bool:
    """Whether a dump that asks for ``wanted`` shows ``rule`` (filter_nlmsg of iproute2's iprule.c)."""
    return (
        wanted.priority in (None, rule.priority)
        and wanted.table in (0, rule.table)
        and wanted.tos in (0, rule.tos)
        and wanted.mark in (0, rule.mark)
        and wanted.mask in (None, rule.mask)
        and wanted.iif in ("", rule.iif)
        and wanted.oif in ("", rule.oif)
        and wanted.ipproto in (0, rule.ipproto)
        and wanted.protocol in (0, rule.protocol)
        and _narrower((rule.src, rule.src_len), (wanted.src, wanted.src_len))
        and _narrower((rule.dst, rule.dst_len), (wanted.dst, wanted.dst_len))
    )


def _narrower(prefix: tuple[int, int], than: tuple[int, int]) -> bool:
    return prefix[1] >= than[1] and in_prefix(prefix[0], than)
