"""How a rule is printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ustack.cli.ip.values import ADDRESS_BITS
from ustack.routing.uapi import (
    FIB_RULE_IIF_DETACHED,
    FIB_RULE_INVERT,
    FIB_RULE_OIF_DETACHED,
    FIB_RULE_UNRESOLVED,
    FR_ACT_GOTO,
    FR_ACT_NOP,
    FR_ACT_TO_TBL,
    RTPROT_KERNEL,
)
from ustack.wire.ipv4 import addr_to_str

if TYPE_CHECKING:
    from ustack.cli.ip.output import Printer
    from ustack.cli.ip.session import Session
    from ustack.rtnl.messages import Rule

WHOLE_MASK: Final = 0xFFFF_FFFF


def c_hex(value: int) -> str:
    """printf's %#x, which writes 0 without 0x."""
    return f"{value:#x}" if value else "0"


class RulePrinter:
    """Prints rules."""

    def __init__(self, session: Session, out: Printer) -> None:
        self.session: Session = session
        self.out: Printer = out

    def print(self, rule: Rule, *, deleted: bool = False) -> None:
        """One rule and the end of its line."""
        out = self.out
        out.open()
        if deleted:
            out.put("deleted", True, "Deleted ")
        out.put("priority", rule.priority or 0, f"{rule.priority or 0}:\t")
        if rule.flags & FIB_RULE_INVERT:
            out.put("not", None, "not ")
        self._addresses(rule)
        self._marks(rule)
        self._devices(rule)
        self._transport(rule)
        self._action(rule)
        out.text("\n")
        out.close()

    def _addresses(self, rule: Rule) -> None:
        out = self.out
        if rule.src_len:
            out.put("src", addr_to_str(rule.src), f"from {self._prefix(rule.src, rule.src_len)}")
            if rule.src_len != ADDRESS_BITS:
                out.data("srclen", rule.src_len)
        else:
            out.put("src", "all", "from all")
        if rule.dst_len:
            out.put("dst", addr_to_str(rule.dst), f" to {self._prefix(rule.dst, rule.dst_len)}")
            if rule.dst_len != ADDRESS_BITS:
                out.data("dstlen", rule.dst_len)

    @staticmethod
    def _prefix(addr: int, length: int) -> str:
        return addr_to_str(addr) + ("" if length == ADDRESS_BITS else f"/{length}")

    def _marks(self, rule: Rule) -> None:
        out = self.out
        if rule.tos:
            tos = self.session.names.tos(rule.tos)
            out.put("tos", tos, f" tos {tos}")
        mask = rule.mask or 0
        if not rule.mark and not mask:
            return
        mark = c_hex(rule.mark)
        if rule.mask in (None, WHOLE_MASK):
            out.put("fwmark", mark, f" fwmark {mark}")
        else:
            out.put("fwmark", mark, f" fwmark {mark}/{c_hex(mask)}")
            out.data("fwmask", c_hex(mask))

    def _devices(self, rule: Rule) -> None:
        out = self.out
        for key, name, detached in (
            ("iif", rule.iif, rule.flags & FIB_RULE_IIF_DETACHED),
            ("oif", rule.oif, rule.flags & FIB_RULE_OIF_DETACHED),
        ):
            if name:
                out.put(key, name, f" {key} {name}")
                if detached:
                    out.put(f"{key}_detached", None, " [detached]")

    def _transport(self, rule: Rule) -> None:
        out = self.out
        if rule.uidrange is not None:
            first, last = rule.uidrange
            out.data("uid_start", first)
            out.put("uid_end", last, f" uidrange {first}-{last}")
        if rule.ipproto:
            name = self.session.names.ip_protocol(rule.ipproto)
            out.put("ipproto", name, f" ipproto {name}")
        for key, ports in (("sport", rule.sport), ("dport", rule.dport)):
            if ports is None or ports == (0, 0):
                continue
            if ports[0] == ports[1]:
                out.put(key, ports[0], f" {key} {ports[0]}")
            else:
                out.data(f"{key}_start", ports[0])
                out.put(f"{key}_end", ports[1], f" {key} {ports[0]}-{ports[1]}")

    def _action(self, rule: Rule) -> None:
        out, names = self.out, self.session.names
        if rule.table:
            self._table(rule)
        if rule.action == FR_ACT_GOTO:
            out.put("goto", rule.goto, f" goto {rule.goto}" if rule.goto else " goto none")
            if rule.flags & FIB_RULE_UNRESOLVED:
                out.put("unresolved", None, " [unresolved]")
        elif rule.action == FR_ACT_NOP:
            out.put("nop", None, " nop")
        elif rule.action != FR_ACT_TO_TBL:
            kind = names.route_type(rule.action)
            out.put("action", kind, f" {kind}")
        details = self.session.options.details > 0
        if (rule.protocol and rule.protocol != RTPROT_KERNEL) or details:
            protocol = names.protocol(rule.protocol)
            out.put("protocol", protocol, f" proto {protocol}")

    def _table(self, rule: Rule) -> None:
        out = self.out
        table = self.session.names.table(rule.table)
        out.put("table", table, f" lookup {table}")
        if rule.suppress_prefixlength is not None:
            length = rule.suppress_prefixlength
            out.put("suppress_prefixlen", length, f" suppress_prefixlength {length}")
        if rule.suppress_ifgroup is not None:
            group = "default" if rule.suppress_ifgroup == 0 else str(rule.suppress_ifgroup)
            out.put("suppress_ifgroup", group, f" suppress_ifgroup {group}")
