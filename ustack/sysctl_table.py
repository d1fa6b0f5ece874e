"""Settings by name, read and written as in /proc/sys (Linux kernel/sysctl.c, net/ipv4/devinet.c, net/core/neighbour.c).

Names have dots; a dot in a device's name is written ``/``, or the other way round throughout, as sysctl(8) has it:
``net.ipv4.conf.eth0/1.rp_filter``, ``net/ipv4/conf/eth0.1/rp_filter``. Errors: ENOENT for a name that is none, EINVAL
for a value that is none or out of range, EACCES for reading what is only written and for writing what is only read.
A value is taken whole or not at all.
"""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.net import RTM_NEWNETCONF
from ustack.sock import error
from ustack.sysctl_names import (
    RO,
    WO,
    Setting,
    TextSetting,
    conf_settings,
    core_settings,
    ip_settings,
    neigh_settings,
    neigh_table_settings,
    route_settings,
    tcp_settings,
)

if TYPE_CHECKING:
    from ustack.device.core import Devices
    from ustack.in_device import InDevice, Ipv4Devconf, NeighParms
    from ustack.net import Net

_CONF: Final = "net.ipv4.conf."
_NEIGH: Final = "net.ipv4.neigh."
_SPACE: Final = " \t\n"
#: As strtoul reads it: hexadecimal after 0x, octal after 0. The kernel looks at no more than 22 characters.
_NUMBER: Final = re.compile(r"-?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)(?=[ \t\n\0]|$)")
_DIGITS: Final = 22

#: Written, these make everything that was looked up count no more (DEVINET_SYSCTL_FLUSHING_ENTRY, devinet_conf_proc).
_FLUSHING: Final = ("promote_secondaries", "route_localnet", "drop_unicast_in_l2_multicast", "bc_forwarding")
#: Set for ``default`` they do not reach devices that exist.
_OWN: Final = ("forwarding", "promote_secondaries", "route_localnet", "drop_unicast_in_l2_multicast")
#: Those that rtnetlink tells of (inet_netconf_notify_devconf).
_TOLD: Final = ("forwarding", "rp_filter", "proxy_arp", "ignore_routes_with_linkdown")


def _plain_settings() -> dict[str, Setting]:
    """Those in net.sysctl, by their whole name."""
    table = {f"net.core.{setting.name}": setting for setting in core_settings()}
    table |= {f"net.ipv4.{setting.name}": setting for setting in ip_settings() + tcp_settings()}
    table |= {f"net.ipv4.route.{setting.name}": setting for setting in route_settings()}
    return table | {f"{_NEIGH}default.{setting.name}": setting for setting in neigh_table_settings()}


# What there is to set is the same for every stack, and never changes.
_PLAIN: Final = _plain_settings()
_CONF_SETTINGS: Final = {setting.name: setting for setting in conf_settings()}
_NEIGH_SETTINGS: Final = {setting.name: setting for setting in neigh_settings()}


class SysctlTable:
    """All settings of one stack."""

    def __init__(self, net: Net, devices: Devices) -> None:
        self.net: Net = net
        self.devices: Devices = devices
        self._texts: dict[str, Setting] = {}  # those that are kept elsewhere
        doc = "1: packets for others are forwarded: the same switch as conf.all.forwarding"
        self._ip_forward = Setting("forwarding", doc)

    def add(self, settings: list[TextSetting]) -> None:
        """Settings of net.ipv4 that are texts, and kept elsewhere."""
        for setting in settings:
            self._texts[f"net.ipv4.{setting.name}"] = setting

    # -- names

    def names(self) -> list[str]:
        """Every setting, sorted."""
        devices = [dev.name.replace(".", "/") for dev in self.devices.all()]
        names = [*_PLAIN, *self._texts, "net.ipv4.ip_forward"]
        names += [f"{_CONF}{where}.{name}" for where in ["all", "default", *devices] for name in _CONF_SETTINGS]
        names += [f"{_NEIGH}{where}.{name}" for where in ["default", *devices] for name in _NEIGH_SETTINGS]
        return sorted(names)

    def below(self, name: str) -> list[str]:
        """The setting of that name, or those in the folder of that name; "" for all."""
        wanted = canonical(name)
        if wanted == "":
            return self.names()
        return [each for each in self.names() if each == wanted or each.startswith(wanted + ".")]

    def doc(self, name: str) -> str:
        """What it means, in one line. ENOENT."""
        return self._find(canonical(name)).doc

    def readable(self, name: str) -> bool:
        """False for what is only written. ENOENT."""
        return self._find(canonical(name)).mode != WO

    # -- values

    def get(self, name: str) -> str:
        """The value as /proc/sys has it: numbers with tabs between them. ENOENT, EACCES."""
        name = canonical(name)
        setting = self._find(name)
        if setting.mode == WO:
            raise error(errno.EACCES)
        if isinstance(setting, TextSetting):
            return setting.read()
        where = self._where(name)
        return "\t".join([str(int(getattr(where, attr)) // int(setting.scale)) for attr in setting.attrs])

    def set(self, name: str, text: str) -> None:
        """As if ``text`` and a line end were written into the file. ENOENT, EACCES, EINVAL."""
        name = canonical(name)
        setting = self._find(name)
        if setting.mode == RO:
            raise error(errno.EACCES)
        if setting.mode == WO:
            self.net.conf.route_cache.flush()
            return
        if isinstance(setting, TextSetting):
            setting.write(text.partition("\n")[0].partition("\0")[0][: setting.room - 1])
            return
        values = parse_vector(text, setting)
        if name == "net.ipv4.ip_forward":
            self._set_conf(f"{_CONF}all.forwarding", setting, values[0])
        elif name.startswith(_CONF):
            self._set_conf(name, setting, values[0])
        elif name.startswith(_NEIGH) and setting.name in _NEIGH_SETTINGS:
            self._set_neigh(name, setting, values[0])
        else:
            self._set_plain(setting, values)

    def _set_plain(self, setting: Setting, values: list[int]) -> None:
        """Into net.sysctl, where several values must make sense together."""
        sysctl = self.net.sysctl
        if setting.name == "ip_local_port_range":
            values = values + [int(sysctl.ip_local_port_range_max)] * (2 - len(values))
            if values[0] > values[1] or values[0] < sysctl.ip_unprivileged_port_start:
                raise error(errno.EINVAL)
        elif setting.name == "ip_unprivileged_port_start" and values[0] > sysctl.ip_local_port_range_min:
            raise error(errno.EINVAL)
        elif setting.name == "ping_group_range":
            values = values + [int(sysctl.ping_group_range_max)] * (2 - len(values))
            if values[0] > values[1]:
                values = [1, 0]
        for attr, value in zip(setting.attrs, values, strict=False):
            setattr(sysctl, attr, value * int(setting.scale))

    # -- per device

    def _set_conf(self, name: str, setting: Setting, value: int) -> None:
        """devinet_conf_proc, devinet_sysctl_forward, ipv4_doint_and_flush."""
        conf = self.net.conf
        cnf = self._devconf(name)
        leaf = setting.name
        changed = int(getattr(cnf, leaf)) != value
        if leaf == "forwarding":
            if changed:
                self._set_forwarding(name, cnf, value)
            return
        setattr(cnf, leaf, value)
        if leaf not in _OWN:
            cnf.state.add(leaf)
            if cnf is conf.default:
                for in_dev in conf.in_devices:
                    if not in_dev.cnf.all_set and leaf not in in_dev.cnf.state:
                        setattr(in_dev.cnf, leaf, value)
        if changed and (leaf in _FLUSHING or (leaf == "accept_local" and value == 0)):
            conf.route_cache.rt_cache_flush()
        if changed and leaf in _TOLD:
            self.net.rtnl_notify(RTM_NEWNETCONF, name)

    def _set_forwarding(self, name: str, cnf: Ipv4Devconf, value: int) -> None:
        conf = self.net.conf
        if cnf is not conf.all:
            cnf.forwarding = value
            self.net.rtnl_notify(RTM_NEWNETCONF, name)
            if cnf is conf.default:
                return
        else:
            conf.inet_forward_change(value)
            devices = [dev.name.replace(".", "/") for dev in self.devices.all()]
            for where in ["all", "default", *devices]:
                self.net.rtnl_notify(RTM_NEWNETCONF, f"{_CONF}{where}.forwarding")
        conf.route_cache.rt_cache_flush()

    def _set_neigh(self, name: str, setting: Setting, value: int) -> None:
        """neigh_proc_update, neigh_copy_dflt_parms."""
        conf = self.net.conf
        parms = self._parms(name)
        attr = setting.attrs[0]
        setattr(parms, attr, value * int(setting.scale))
        parms.state.add(attr)
        if parms is conf.neigh_default:
            for in_dev in conf.in_devices:
                if not in_dev.arp_parms.all_set and attr not in in_dev.arp_parms.state:
                    setattr(in_dev.arp_parms, attr, value * int(setting.scale))

    # -- finding

    def _find(self, name: str) -> Setting:
        """The setting of a canonical name. ENOENT."""
        setting = _PLAIN.get(name)
        if setting is None:
            setting = self._texts.get(name)
        if name == "net.ipv4.ip_forward":
            return self._ip_forward
        if setting is None and name.startswith(_CONF):
            self._devconf(name)
            setting = _CONF_SETTINGS.get(name.rpartition(".")[2])
        elif setting is None and name.startswith(_NEIGH):
            self._parms(name)
            setting = _NEIGH_SETTINGS.get(name.rpartition(".")[2])
        if setting is None:
            raise error(errno.ENOENT)
        return setting

    def _where(self, name: str) -> object:
        """What has the attributes of that name, which is one."""
        if name in _PLAIN or name in self._texts:
            return self.net.sysctl
        if name.startswith(_NEIGH):
            return self._parms(name)
        return self.net.conf.all if name == "net.ipv4.ip_forward" else self._devconf(name)

    def _devconf(self, name: str) -> Ipv4Devconf:
        where = device_of(name, _CONF)
        if where == "all":
            return self.net.conf.all
        if where == "default":
            return self.net.conf.default
        return self._in_dev(where).cnf

    def _parms(self, name: str) -> NeighParms:
        where = device_of(name, _NEIGH)
        if where == "default":
            return self.net.conf.neigh_default
        return self._in_dev(where).arp_parms

    def _in_dev(self, name: str) -> InDevice:
        """The device of that name. ENOENT."""
        dev = self.devices.by_name(name)
        if dev is None:
            raise error(errno.ENOENT)
        return dev.in_dev


def canonical(name: str) -> str:
    """With dots between the parts, whichever of ``.`` and ``/`` comes first in ``name`` (sysctl(8))."""
    for character in name:
        if character == ".":
            break
        if character == "/":
            return name.translate({ord("."): "/", ord("/"): "."}).strip(".")
    return name.strip(".")


def device_of(name: str, prefix: str) -> str:
    """The device that a canonical name is about, which is what stands between ``prefix`` and the last dot; "" if there
    are more dots than that."""
    where = name[len(prefix) :].rpartition(".")[0]
    return "" if "." in where else where.replace("/", ".")


def parse_vector(text: str, setting: Setting) -> list[int]:
    """The numbers in ``text``, at most as many as the setting has; what follows them is not looked at.

    EINVAL for none, for one out of range, and for what is no number (do_proc_dointvec).
    """
    values: list[int] = []
    at: i64 = 0
    end: i64 = len(text)
    wanted: i64 = len(setting.attrs)
    while len(values) < wanted:
        while at < end and text[at] in _SPACE:
            at += 1
        if at >= end:
            break
        value, at = _parse_number(text, at)
        if not setting.low <= value <= setting.high:
            raise error(errno.EINVAL)
        values.append(value)
    if not values:
        raise error(errno.EINVAL)
    return values


def _parse_number(text: str, at: i64) -> tuple[int, int]:
    """The number at place ``at`` and the place behind it. EINVAL."""
    found = _NUMBER.match(text, at)
    if found is None or found.end() - at > _DIGITS:
        raise error(errno.EINVAL)
    digits = found.group(1)
    base = 16 if digits[:2] in ("0x", "0X") else 8 if digits[0] == "0" else 10
    value = int(digits, base)
    return (-value if text[at] == "-" else value), found.end()
