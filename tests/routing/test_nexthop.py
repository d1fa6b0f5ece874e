"""Next-hop objects: numbers, groups, replacement and removal (net/ipv4/nexthop.c).

Errors, words and events as ``ip nexthop`` and ``ip monitor nexthop route`` showed them on the kernel.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from tests.routing.hosts import NO_TEXT, Host
from tests.routing.links import a, shown
from tests.routing.tables import Ether, describe
from ustack.net import RTM_DELNEXTHOP, RTM_DELROUTE, RTM_NEWNEXTHOP, RTM_NEWROUTE, RtnlWatcher
from ustack.routing.exceptions import FibNhException, FnheTable
from ustack.routing.fib_types import FibResult
from ustack.routing.flow import RT_SCOPE_HOST, RT_SCOPE_LINK, RT_SCOPE_UNIVERSE, Flow
from ustack.routing.nexthop import NEXTHOP_MAX, NH_GRP_ENTRIES_MAX, NH_GRP_SIZE_MAX, Nexthop, NexthopObjConfig
from ustack.routing.uapi import (
    NLM_F_CREATE,
    NLM_F_REPLACE,
    RT_TABLE_MAIN,
    RTNH_F_DEAD,
    RTNH_F_ONLINK,
    RTNH_F_PERVASIVE,
    RTPROT_STATIC,
)

if TYPE_CHECKING:
    from ustack.device.net_device import NetDevice
    from ustack.routing.fib_types import FibInfo

_WORDS = {RTM_NEWNEXTHOP: "", RTM_DELNEXTHOP: "Deleted ", RTM_NEWROUTE: "", RTM_DELROUTE: "Deleted "}


class Monitor(RtnlWatcher):
    """ip monitor nexthop route"""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def changed(self, event: int, what: object) -> None:
        if event in _WORDS:
            text = line(what) if isinstance(what, Nexthop) else describe(what).split(" proto")[0].split()[1]
            self.seen.append(_WORDS[event] + text)

    def take(self) -> list[str]:
        seen, self.seen = self.seen, []
        return seen


def line(nexthop: Nexthop) -> str:
    """As ``ip nexthop`` prints it."""
    text = f"id {nexthop.id}"
    if nexthop.is_group():
        members = (f"{e.nexthop.id},{e.weight}" if e.weight > 1 else f"{e.nexthop.id}" for e in nexthop.group)
        return f"{text} group {'/'.join(members)}"
    nh = nexthop.nh
    assert nh is not None and nh.dev is not None
    if nexthop.blackhole:
        return text + " blackhole"
    if nh.gateway:
        text += f" via {shown(nh.gateway)}"
    return f"{text} dev {nh.dev.name}" + (" onlink" if nexthop.flags & RTNH_F_ONLINK else "")


class Objects(Host):
    """Host, and next-hop objects as ``ip nexthop`` makes them."""

    def __init__(self) -> None:
        super().__init__()
        self.nexthops = self.semantics.nexthops
        self.monitor = Monitor()
        self.net.rtnl_watchers = [self.monitor]

    def cfg(self, id: int = 0, via: str = "", dev: NetDevice | None = None, **given: object) -> NexthopObjConfig:
        cfg = NexthopObjConfig(id, a(via) if via else 0, dev.ifindex if dev else 0)
        cfg.nlflags = NLM_F_CREATE
        for name, value in given.items():
            setattr(cfg, name, value)
        return cfg

    def new(self, id: int = 0, via: str = "", dev: NetDevice | None = None, **given: object) -> Nexthop:
        """ip nexthop add"""
        return self.nexthops.rtm_newnexthop(self.cfg(id, via, dev, **given))

    def replace(self, id: int, via: str = "", dev: NetDevice | None = None, **given: object) -> Nexthop:
        """ip nexthop replace"""
        return self.new(id, via, dev, nlflags=NLM_F_CREATE | NLM_F_REPLACE, **given)

    def no(self, cfg: NexthopObjConfig) -> tuple[str, str]:
        """The errno's name and the kernel's words; nothing may have changed."""
        before = (self.shown(), self.nexthops.entries_count)
        with pytest.raises(OSError) as caught:
            self.nexthops.rtm_newnexthop(cfg)
        assert (self.shown(), self.nexthops.entries_count) == before and self.monitor.seen == []
        code, text = caught.value.errno or 0, caught.value.strerror or ""
        return errno.errorcode[code], NO_TEXT if text == os.strerror(code) else text

    def shown(self) -> list[str]:
        """ip nexthop"""
        return [line(nexthop) for nexthop in self.nexthops.dump()]

    def via(self, id: int, prefix: str, **given: int) -> FibInfo:
        """ip route add PREFIX nhid ID"""
        network, _, length = prefix.partition("/")
        cfg = self.config(nh_id=id, scope=RT_SCOPE_UNIVERSE, dst=a(network), dst_len=int(length))
        for name, value in given.items():
            setattr(cfg, name, value)
        table = self.fib.fib_new_table(RT_TABLE_MAIN)
        return table.fib_table_insert(cfg).fi

    def get(self, to: str) -> str:
        """The gateways of what a lookup finds, or the name of its errno."""
        res = FibResult()
        err = self.fib.fib_lookup(Flow(a(to)), res)
        if err != 0:
            return errno.errorcode[int(err)]
        assert res.fi is not None
        return " ".join(shown(nh.gateway) for nh in res.fi.nhs())


@pytest.fixture
def host() -> Objects:
    return Objects()


@pytest.fixture
def group(host: Objects) -> Objects:
    """1 via 192.0.2.2, 2 via 198.51.100.2, group 10 of both."""
    host.new(1, "192.0.2.2", host.a0)
    host.new(2, "198.51.100.2", host.a1)
    host.new(10, group=[(1, 1), (2, 1)])
    host.monitor.take()
    return host


# -- rtm_to_nh_config, nh_create_ipv4


def test_rtm_new_nexthop(host: Objects) -> None:
    new = host.new(5, "192.0.2.2", host.a0, protocol=RTPROT_STATIC)
    assert host.nexthops.get(5) is new and new.protocol == RTPROT_STATIC
    (nh,) = new.hops()
    assert (nh.dev, nh.scope, shown(nh.saddr), nh.parent) == (host.a0, RT_SCOPE_LINK, "192.0.2.1", None)
    assert host.new(6, dev=host.a1).hops()[0].scope == RT_SCOPE_HOST
    assert host.new(7, "192.0.2.1", host.a0).hops()[0].scope == RT_SCOPE_HOST, "our own address"
    onlink = host.new(8, "203.0.113.9", host.a0, flags=RTNH_F_ONLINK)
    assert onlink.flags == onlink.hops()[0].flags == RTNH_F_ONLINK
    black = host.new(9, blackhole=True)
    assert black.blackhole and black.hops()[0].dev is host.lo
    lines = [
        "id 5 via 192.0.2.2 dev a0",
        "id 6 dev a1",
        "id 7 via 192.0.2.1 dev a0",
        "id 8 via 203.0.113.9 dev a0 onlink",
        "id 9 blackhole",
    ]
    assert host.shown() == lines == host.monitor.take()


def test_rtm_to_nh_config_refusals(host: Objects) -> None:
    words = "Invalid nexthop flags in ancillary header"
    for flags in (RTNH_F_DEAD, RTNH_F_PERVASIVE, RTNH_F_ONLINK | 0x40):
        assert host.no(host.cfg(5, "192.0.2.2", host.a0, flags=flags)) == ("EINVAL", words)
    assert host.no(host.cfg(5)) == ("EINVAL", "Invalid address family")
    words = "Device attribute required for non-blackhole and non-fdb nexthops"
    assert host.no(host.cfg(5, "192.0.2.3")) == ("EINVAL", words)
    words = "Blackhole attribute can not be used with gateway, oif, encap or fdb"
    assert host.no(host.cfg(5, dev=host.a0, blackhole=True)) == ("EINVAL", words)
    assert host.no(host.cfg(5, "192.0.2.3", blackhole=True)) == ("EINVAL", words)
    words = "ONLINK flag can not be set for nexthop without a gateway"
    assert host.no(host.cfg(5, dev=host.a2, flags=RTNH_F_ONLINK)) == ("EINVAL", words)
    assert host.no(host.cfg(5, ifindex=99)) == ("EINVAL", "Invalid device index")
    assert host.no(host.cfg(5, dev=host.a2)) == ("ENETDOWN", "Nexthop device is not up")
    assert host.no(host.cfg(1 << 32, dev=host.a0)) == ("ERANGE", NO_TEXT)
    host.devices.netif_carrier_off(host.a1)
    assert host.no(host.cfg(5, dev=host.a1)) == ("ENETDOWN", "Carrier for nexthop device is down")


def test_nh_create_ipv4_refusals(host: Objects) -> None:
    words = "Nexthop has invalid gateway"
    assert host.no(host.cfg(5, "203.0.114.1", host.a0)) == ("ENETUNREACH", words)
    assert host.no(host.cfg(5, "198.51.100.2", host.a0)) == ("ENETUNREACH", words)
    assert host.no(host.cfg(5, "192.0.2.255", host.a0)) == ("EINVAL", words)
    assert host.no(host.cfg(5, "192.0.2.1", host.a0, flags=RTNH_F_ONLINK)) == ("EINVAL", words)
    words = "Invalid flags for nexthop - PERVASIVE and ONLINK can not be set"
    assert host.no(host.cfg(5, blackhole=True, flags=RTNH_F_ONLINK)) == ("EINVAL", words)
    host.devices.dev_close(host.lo)
    host.monitor.take()
    assert host.no(host.cfg(5, blackhole=True)) == ("ENETDOWN", "Device for nexthop is not up")


def test_insert_nexthop_numbers(host: Objects) -> None:
    """An object that is there already is looked at last."""
    host.new(5, dev=host.a0)
    host.monitor.take()
    assert host.no(host.cfg(5, dev=host.a1)) == ("EEXIST", NO_TEXT)
    assert host.no(host.cfg(5, dev=host.a2)) == ("ENETDOWN", "Nexthop device is not up")
    words = "Replace specified without create and no entry exists"
    assert host.no(host.cfg(6, dev=host.a0, nlflags=NLM_F_REPLACE)) == ("ENOENT", words)
    host.new(5, dev=host.a1, nlflags=NLM_F_REPLACE)
    host.new(6, dev=host.a1, nlflags=0)
    assert host.shown() == ["id 5 dev a1", "id 6 dev a1"]


def test_replace_requires_nexthop_id(host: Objects) -> None:
    words = ("EINVAL", "Replace requires nexthop id")
    nlflags = NLM_F_CREATE | NLM_F_REPLACE
    assert host.no(host.cfg(dev=host.a2, nlflags=nlflags)) == words, "before devices"
    assert host.no(host.cfg(group=[(99, 1)], nlflags=nlflags)) == words, "before members"
    words = ("EINVAL", "ONLINK flag can not be set for nexthop without a gateway")
    assert host.no(host.cfg(dev=host.a0, flags=RTNH_F_ONLINK, nlflags=nlflags)) == words


def test_nh_find_unused_id(host: Objects) -> None:
    """Numbers are given in turn, over those that are taken; one that was given comes again last."""
    host.new(1, dev=host.a0)
    host.new(3, dev=host.a0)
    assert [host.new(dev=host.a0).id for _ in range(3)] == [2, 4, 5]
    host.nexthops.rtm_delnexthop(2)
    assert host.new(dev=host.a0).id == 6


# -- nh_check_attr_group


def test_nh_check_attr_group(group: Objects) -> None:
    group.new(3, blackhole=True)
    group.monitor.take()

    def no(*members: tuple[int, int], ifindex: int = 0, blackhole: bool = False) -> tuple[str, str]:
        return group.no(group.cfg(20, group=list(members), ifindex=ifindex, blackhole=blackhole))

    assert no() == ("EINVAL", "Invalid length for nexthop group attribute")
    assert no((1, 65_536)) == no((1, 0)) == ("EINVAL", "Invalid value for weight")
    assert no((99, 1), (2, 65_536)) == ("EINVAL", "Invalid value for weight")
    assert no((99, 1), (1, 1), (1, 1)) == ("EINVAL", "Nexthop id can not be used twice in a group")
    words = "No other attributes can be set in nexthop groups"
    assert no((1, 1), ifindex=group.a0.ifindex) == no((1, 1), blackhole=True) == ("EINVAL", words)
    assert no((1, 1), (99, 1)) == ("EINVAL", "Invalid nexthop id")
    words = "Hash-threshold group can not be a nexthop within a group"
    assert no((10, 1)) == no((1, 1), (10, 1)) == ("EINVAL", words)
    words = "Blackhole nexthop can not be used in a group with more than 1 path"
    assert no((1, 1), (3, 1)) == no((3, 1), (1, 1)) == ("EINVAL", words)


def test_groups(group: Objects) -> None:
    group.new(3, blackhole=True)
    assert group.new(20, group=[(1, 65_535)]).group[0].weight == 65_535
    alone = group.new(21, group=[(3, 1)])
    assert alone.blackhole and alone.is_group()
    many = group.new(22, group=[(1, 3), (2, 5)])
    assert [shown(nh.gateway) for nh in many.hops()] == ["192.0.2.2", "198.51.100.2"]
    assert [e.upper_bound for e in many.group] == [(3 << 28) - 1, (1 << 31) - 1]
    assert not many.blackhole and group.nexthops.entries_count == 6
    assert list(many.group[0].nexthop.grp_list) == [10, 20, 22]


# -- routes that use them (fib_create_info, fib_check_nexthop)


def test_fib_check_nexthop(group: Objects) -> None:
    def no(id: int, scope: int) -> tuple[str, str]:
        return group.refused(group.config(nh_id=id, scope=scope))

    words = "Route with host scope can not have multiple nexthops"
    assert no(10, RT_SCOPE_HOST) == ("EINVAL", words)
    assert no(1, RT_SCOPE_HOST) == ("EINVAL", "Route with host scope can not have a gateway")
    group.new(4, "203.0.113.9", group.a0, flags=RTNH_F_ONLINK)
    group.new(11, group=[(4, 1), (1, 1)])
    assert no(4, RT_SCOPE_LINK) == no(11, RT_SCOPE_LINK) == ("EINVAL", "Scope mismatch with nexthop")
    group.new(5, dev=group.a0)
    assert group.create(group.config(nh_id=5, scope=RT_SCOPE_HOST)).nexthop is group.nexthops.get(5)


def test_fib_create_info_with_nexthop(group: Objects) -> None:
    fi = group.via(10, "203.0.113.0/24")
    nexthop = group.nexthops.get(10)
    assert nexthop is not None and fi.nexthop is nexthop and fi.nh == [] and fi.nhs() is nexthop.hops()
    assert group.via(10, "203.0.114.0/24") is fi and fi.treeref == 2 and list(nexthop.fi_list.values()) == [fi]
    assert group.get("203.0.113.1") == "192.0.2.2 198.51.100.2"
    words = ("EINVAL", "Invalid prefsrc address")
    assert group.refused(group.config(nh_id=10, scope=0, prefsrc=a("192.0.2.77"))) == words


def test_fib_table_lookup_blackhole(group: Objects) -> None:
    group.new(3, blackhole=True)
    group.new(30, group=[(3, 1)])
    group.via(3, "203.0.113.0/24")
    group.via(30, "203.0.114.0/24")
    assert group.get("203.0.113.1") == group.get("203.0.114.1") == "EINVAL"


# -- replace_nexthop


def test_replace_nexthop_changes_its_routes_at_once(group: Objects) -> None:
    group.via(1, "203.0.113.0/25")
    group.via(10, "203.0.113.0/24")
    group.via(2, "203.0.114.0/24")
    genid = group.fib.genid
    group.monitor.take()
    one = group.nexthops.get(1)
    assert group.replace(1, "198.51.100.9", group.a1, protocol=RTPROT_STATIC) is one
    assert group.get("203.0.113.1") == "198.51.100.9"
    assert group.get("203.0.113.200") == "198.51.100.9 198.51.100.2"
    assert group.fib.genid > genid and one is not None and one.protocol == RTPROT_STATIC
    assert group.monitor.take() == ["id 1 via 198.51.100.9 dev a1", "203.0.113.0/25", "203.0.113.0/24"]


def test_replace_nexthop_compat_mode_off_tells_of_no_routes(group: Objects) -> None:
    group.via(1, "203.0.113.0/25")
    group.monitor.take()
    group.net.sysctl.nexthop_compat_mode = 0
    group.replace(1, "192.0.2.9", group.a0)
    assert group.monitor.take() == ["id 1 via 192.0.2.9 dev a0"]


def test_replace_nexthop_that_nobody_uses_tells_of_itself(group: Objects) -> None:
    group.replace(1, "192.0.2.9", group.a0)
    assert group.monitor.take() == ["id 1 via 192.0.2.9 dev a0"]


def test_replace_nexthop_grp(group: Objects) -> None:
    group.via(10, "203.0.113.0/24")
    group.new(4, "203.0.113.9", group.a0, flags=RTNH_F_ONLINK)
    group.monitor.take()
    group.replace(10, group=[(1, 1)])
    assert group.get("203.0.113.1") == "192.0.2.2"
    group.replace(10, group=[(1, 1), (4, 3)])
    assert group.get("203.0.113.1") == "192.0.2.2 203.0.113.9"
    assert group.monitor.take() == ["id 10 group 1", "203.0.113.0/24", "id 10 group 1/4,3", "203.0.113.0/24"]
    two = group.nexthops.get(2)
    assert two is not None and two.grp_list == {} and group.nexthops.entries_count == 2


def test_replace_nexthop_refusals(group: Objects) -> None:
    def no(id: int, via: str = "", dev: NetDevice | None = None, **given: object) -> tuple[str, str]:
        nlflags = NLM_F_CREATE | NLM_F_REPLACE
        before = [group.get("203.0.113.1"), group.get("203.0.114.1")]
        answer = group.no(group.cfg(id, via, dev, nlflags=nlflags, **given))
        assert [group.get("203.0.113.1"), group.get("203.0.114.1")] == before
        return answer

    group.new(77, dev=group.a0)
    group.via(10, "203.0.113.0/24")
    group.via(77, "203.0.114.0/24", scope=RT_SCOPE_HOST)
    group.monitor.take()
    words = "Can not replace a nexthop group with a nexthop"
    assert no(10, "192.0.2.2", group.a0) == ("EINVAL", words)
    assert no(1, group=[(2, 1)]) == ("EINVAL", "Can not replace a nexthop with a nexthop group")
    words = "Route with host scope can not have a gateway"
    assert no(77, "192.0.2.9", group.a0) == ("EINVAL", words)
    words = "Blackhole nexthop can not be a member of a group with more than one path"
    assert no(2, blackhole=True) == ("EINVAL", words)
    words = "Hash-threshold group can not be a nexthop within a group"
    assert no(10, group=[(10, 1)]) == ("EINVAL", words)


def test_replace_nexthop_asks_the_routes_of_its_groups(group: Objects) -> None:
    """A group that is used at scope link can have no member with ONLINK as its first."""
    group.new(5, dev=group.a0)
    group.new(6, dev=group.a1)
    group.new(50, group=[(5, 1), (6, 1)])
    group.via(50, "203.0.113.0/24", scope=RT_SCOPE_LINK)
    group.monitor.take()
    cfg = group.cfg(5, "203.0.113.9", group.a0, flags=RTNH_F_ONLINK, nlflags=NLM_F_CREATE | NLM_F_REPLACE)
    assert group.no(cfg) == ("EINVAL", "Scope mismatch with nexthop")


def test_replace_nexthop_by_a_blackhole(group: Objects) -> None:
    group.via(1, "203.0.113.0/24")
    group.new(20, group=[(1, 1)])
    group.replace(10, group=[(2, 1)])
    group.replace(1, blackhole=True)
    single = group.nexthops.get(20)
    assert group.get("203.0.113.1") == "EINVAL" and single is not None and single.blackhole
    group.replace(1, "192.0.2.2", group.a0)
    assert group.get("203.0.113.1") == "192.0.2.2" and not single.blackhole


# -- remove_nexthop


def test_rtm_del_nexthop_refusals(host: Objects) -> None:
    for id, code, text in ((0, errno.EINVAL, "Invalid nexthop id"), (444, errno.ENOENT, os.strerror(errno.ENOENT))):
        with pytest.raises(OSError) as caught:
            host.nexthops.rtm_delnexthop(id)
        assert (caught.value.errno, caught.value.strerror) == (code, text)


def test_remove_nexthop_takes_routes_and_memberships_along(group: Objects) -> None:
    """Of the object and of its groups rtnetlink is told, of the routes not; a group's last member takes it along."""
    group.new(11, group=[(1, 3), (2, 5)])
    group.new(13, group=[(1, 256)])
    group.replace(10, group=[(2, 1), (1, 1)])
    gone = group.via(1, "203.0.113.0/25")
    group.via(10, "203.0.113.0/24")
    group.via(13, "203.0.114.0/24")
    group.monitor.take()
    group.nexthops.rtm_delnexthop(1)
    assert group.monitor.take() == [
        "Deleted id 1 via 192.0.2.2 dev a0",
        "id 10 group 2",
        "Deleted id 13 group 1,256",
        "id 11 group 2,5",
    ]
    assert group.shown() == ["id 2 via 198.51.100.2 dev a1", "id 10 group 2", "id 11 group 2,5"]
    assert group.get("203.0.113.1") == "198.51.100.2" and group.get("203.0.114.1") == "ENETUNREACH"
    assert gone.dead and gone not in group.known() and group.nexthops.entries_count == 2
    eleven = group.nexthops.get(11)
    assert eleven is not None and eleven.group[0].upper_bound == (1 << 31) - 1


def test_remove_nexthop_group_leaves_its_members(group: Objects) -> None:
    group.via(10, "203.0.113.0/24")
    group.monitor.take()
    group.nexthops.rtm_delnexthop(10)
    assert group.monitor.take() == ["Deleted id 10 group 1/2"] and group.get("203.0.113.1") == "ENETUNREACH"
    one = group.nexthops.get(1)
    assert one is not None and one.grp_list == {} and group.nexthops.entries_count == 0


def test_remove_nexthop_its_number_begins_anew(group: Objects) -> None:
    """What used the old one is nothing to the new one."""
    old = group.via(1, "203.0.113.0/24")
    group.nexthops.rtm_delnexthop(1)
    group.new(1, "192.0.2.9", group.a0)
    new = group.via(1, "203.0.113.0/24")
    assert new is not old and group.get("203.0.113.1") == "192.0.2.9"


# -- nh_netdev_event


@pytest.mark.parametrize("how", ["down", "carrier", "unregister"])
def test_nexthop_flush_dev(group: Objects, how: str) -> None:
    """Hops go with their device, or its carrier; rtnetlink hears of the device alone."""
    group.new(3, blackhole=True)
    group.new(20, group=[(1, 1)])
    group.via(1, "203.0.113.0/25")
    group.via(10, "203.0.113.0/24")
    group.via(20, "203.0.114.0/24")
    genid = group.fib.genid
    group.monitor.take()
    if how == "down":
        group.devices.dev_close(group.a0)
    elif how == "carrier":
        group.devices.netif_carrier_off(group.a0)
    else:
        group.devices.unregister_netdevice(group.a0)
    assert group.shown() == ["id 2 via 198.51.100.2 dev a1", "id 3 blackhole", "id 10 group 2"]
    assert group.get("203.0.113.1") == "198.51.100.2" and group.get("203.0.114.1") == "ENETUNREACH"
    assert [text for text in group.monitor.take() if text.startswith(("id", "Deleted id"))] == []
    assert group.fib.genid > genid


def test_nexthop_flush_dev_a_blackhole_only_if_the_device_is_gone_for_good(host: Objects) -> None:
    host.new(3, blackhole=True)
    host.devices.dev_close(host.lo)
    host.devices.dev_open(host.lo)
    assert host.shown() == ["id 3 blackhole"]
    host.devices.unregister_netdevice(host.lo)
    assert host.shown() == []


def test_nexthop_flush_dev_by_what_it_was_replaced_with(group: Objects) -> None:
    group.replace(1, "198.51.100.9", group.a1)
    group.devices.dev_close(group.a0)
    assert group.shown()[0] == "id 1 via 198.51.100.9 dev a1"
    group.devices.dev_close(group.a1)
    assert group.shown() == []


def test_nexthop_of_another_device_stays(host: Objects) -> None:
    host.new(1, dev=host.a0)
    host.add_device(Ether("a3"))
    third = host.devices.by_name("a3")
    assert third is not None
    host.devices.dev_close(third)
    assert host.shown() == ["id 1 dev a0"]


# -- nexthop_sync_mtu, fib_sync_mtu


def test_fib_sync_mtu(group: Objects) -> None:
    """What was as large as the first hop's MTU grows and shrinks with it: behind objects and routes of that device."""
    hops = [
        group.new(5, dev=group.a0).hops()[0],
        group.via(0, "203.0.113.0/24", gateway=a("192.0.2.2")).nh[0],
        group.new(6, dev=group.a1).hops()[0],
    ]
    known = []
    for nh in hops:
        fnhe = FibNhException(a("203.0.113.1"), 0)
        fnhe.pmtu = 1500
        nh.exceptions = FnheTable(0)
        nh.exceptions.insert(fnhe, 5)
        known.append(fnhe)
    for mtu in (1400, 1600):
        group.devices.dev_set_mtu(group.a0, mtu)
        assert [fnhe.pmtu for fnhe in known] == [mtu, mtu, 1500]


# -- limits where Linux has only its memory


def test_limits(group: Objects) -> None:
    group.nexthops.entries_count = NH_GRP_ENTRIES_MAX - 1
    assert group.no(group.cfg(20, group=[(1, 1), (2, 1)])) == ("ENOMEM", NO_TEXT)
    cfg = group.cfg(10, group=[(1, 1), (2, 2)], nlflags=NLM_F_CREATE | NLM_F_REPLACE)
    group.nexthops.rtm_newnexthop(cfg)
    assert group.shown()[-1] == "id 10 group 1/2,2", "no more members than before"
    group.nexthops.entries_count = 2
    for id in range(NH_GRP_SIZE_MAX + 1):
        group.new(1000 + id, dev=group.a0)
    group.monitor.take()
    members = [(1000 + id, 1) for id in range(NH_GRP_SIZE_MAX + 1)]
    assert group.no(group.cfg(20, group=members)) == ("ENOMEM", NO_TEXT)
    assert len(group.new(20, group=members[1:]).hops()) == NH_GRP_SIZE_MAX


def test_limit_of_objects(host: Objects) -> None:
    for _ in range(NEXTHOP_MAX):
        host.new(dev=host.a0)
    host.monitor.take()
    with pytest.raises(OSError) as caught:
        host.new(dev=host.a0)
    assert caught.value.errno == errno.ENOMEM and host.monitor.seen == []
    host.devices.dev_close(host.a0)
    assert host.shown() == []
