"""Settings by name: formats, limits and effects as in /proc/sys, compared with those of the kernel that runs here."""

from __future__ import annotations

import errno
import subprocess
from typing import TYPE_CHECKING

import pytest

from ustack.counters import counter_names
from ustack.device.net_device import NetDevice
from ustack.in_device import InDevice, Ipv4Devconf, NeighParms, RouteCache
from ustack.net import RTM_NEWNETCONF, RtnlWatcher
from ustack.stack import Stack
from ustack.sysctl import Sysctl
from ustack.sysctl_names import (
    Setting,
    conf_settings,
    core_settings,
    ip_settings,
    neigh_settings,
    neigh_table_settings,
    route_settings,
    tcp_settings,
)
from ustack.sysctl_table import SysctlTable, canonical, parse_vector

if TYPE_CHECKING:
    from ustack.packet import Packet

SEED = bytes(32)


class Netconf(RtnlWatcher):
    def __init__(self) -> None:
        self.names: list[str] = []

    def changed(self, event: int, what: object) -> None:
        if event == RTM_NEWNETCONF:
            assert isinstance(what, str)
            self.names.append(what.removeprefix("net.ipv4.conf."))


class Flushes(RouteCache):
    def __init__(self) -> None:
        self.count = 0

    def rt_cache_flush(self) -> None:
        self.count += 1


class Silent(NetDevice):
    """Takes every frame."""

    def start_xmit(self, packet: Packet) -> bool:
        return True


class World:
    """A stack with lo, eth0 and eth1, its table, and who listens to it."""

    def __init__(self) -> None:
        self.stack = Stack(SEED)
        self.eth0 = self.stack.add_device(Silent("eth0", 0x02_00_00_00_00_01))
        self.eth1 = self.stack.add_device(Silent("eth1", 0x02_00_00_00_00_02))
        self.net = self.stack.net
        self.table: SysctlTable = self.stack.sysctl
        self.told = Netconf()
        self.net.rtnl_watchers.append(self.told)
        self.flushes = Flushes()
        self.net.conf.route_cache = self.flushes

    def refuses(self, name: str, text: str = "1") -> int | None:
        """The errno of setting it, and nothing has changed."""
        before = {each: self.table.get(each) for each in self.table.names() if self.table.readable(each)}
        with pytest.raises(OSError) as raised:
            self.table.set(name, text)
        assert before == {each: self.table.get(each) for each in self.table.names() if self.table.readable(each)}
        return raised.value.errno

    def conf(self, leaf: str) -> list[str]:
        """Its values for all, default, eth0, eth1."""
        return [self.table.get(f"net.ipv4.conf.{where}.{leaf}") for where in ("all", "default", "eth0", "eth1")]


@pytest.fixture
def world() -> World:
    return World()


def every_setting() -> list[Setting]:
    plain = core_settings() + ip_settings() + tcp_settings() + route_settings()
    return plain + conf_settings() + neigh_settings() + neigh_table_settings()


# -- names


def test_every_attribute_has_its_name() -> None:
    """And every name its attributes."""
    plain = core_settings() + ip_settings() + tcp_settings() + route_settings() + neigh_table_settings()
    kept = [attr for setting in plain for attr in setting.attrs]
    assert sorted(set(kept) - {"flush"}) == sorted(counter_names(Sysctl))
    assert len(kept) == len(set(kept))
    devconf = Ipv4Devconf()
    assert all(isinstance(getattr(devconf, setting.name), int) for setting in conf_settings())
    parms = NeighParms()
    assert all(isinstance(getattr(parms, attr), int) for setting in neigh_settings() for attr in setting.attrs)


def test_names_are_sorted_and_there_is_one_for_every_device(world: World) -> None:
    names = world.table.names()
    assert names == sorted(names) and len(names) == len(set(names))
    for where in ("all", "default", "lo", "eth0", "eth1"):
        assert f"net.ipv4.conf.{where}.rp_filter" in names
        assert (f"net.ipv4.neigh.{where}.locktime" in names) == (where != "all")
    assert "net.ipv4.neigh.default.gc_thresh1" in names and "net.ipv4.neigh.eth0.gc_thresh1" not in names
    assert "net.ipv4.ip_forward" in names


def test_each_is_documented_in_one_line(world: World) -> None:
    for name in world.table.names():
        doc = world.table.doc(name)
        assert doc and len(doc) <= 100 and "\n" not in doc and not doc.endswith(".")


def test_what_is_readable_can_be_read_and_written_back(world: World) -> None:
    for name in world.table.names():
        if world.table.readable(name):
            value = world.table.get(name)
            if not name.endswith(("mc_forwarding", "available_congestion_control")):
                world.table.set(name, value)
                assert world.table.get(name) == value


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("net.ipv4.ip_forward", "net.ipv4.ip_forward"),
        ("net/ipv4/ip_forward", "net.ipv4.ip_forward"),
        ("net.ipv4.conf.eth0/1.rp_filter", "net.ipv4.conf.eth0/1.rp_filter"),
        ("net/ipv4/conf/eth0.1/rp_filter", "net.ipv4.conf.eth0/1.rp_filter"),
        ("net.ipv4.", "net.ipv4"),
        ("/net/ipv4/", "net.ipv4"),
        ("", ""),
    ],
)
def test_the_first_separator_says_which_it_is(name: str, wanted: str) -> None:
    """sysctl(8): "The '/' separator is also accepted in place of a '.'"."""
    assert canonical(name) == wanted


def test_a_device_with_dots_in_its_name(world: World) -> None:
    dev = world.stack.add_device(Silent("v.1.2", 0x02_00_00_00_00_03))
    assert "net.ipv4.conf.v/1/2.rp_filter" in world.table.names()
    world.table.set("net/ipv4/conf/v.1.2/rp_filter", "2")
    assert dev.in_dev.cnf.rp_filter == 2 and world.table.get("net.ipv4.conf.v/1/2.rp_filter") == "2"
    with pytest.raises(OSError, match="No such file"):
        world.table.get("net.ipv4.conf.v.1.2.rp_filter")


def test_names_follow_devices(world: World) -> None:
    world.stack.devices.dev_change_name(world.eth0, "wan0")
    assert world.table.get("net.ipv4.conf.wan0.rp_filter") == "0"
    assert world.refuses("net.ipv4.conf.eth0.rp_filter") == errno.ENOENT
    world.stack.remove_device(world.eth1)
    assert world.refuses("net.ipv4.conf.eth1.rp_filter") == errno.ENOENT


@pytest.mark.parametrize(
    "name",
    ["", "net", "net.ipv4", "net.ipv4.nope", "net.ipv4.conf.eth0", "net.ipv4.conf.eth9.rp_filter", "kernel.hostname",
     "net.ipv4.conf.all.nope", "net.ipv4.neigh.all.locktime", "net.ipv4.neigh.eth0.gc_thresh1", "ip_forward",
     "net.ipv4.conf..rp_filter", "net.ipv4.conf.rp_filter", "net.ipv4.ip_forward.x"],
)  # fmt: skip
def test_unknown_names(world: World, name: str) -> None:
    for call in (world.table.get, world.table.doc):
        with pytest.raises(OSError) as raised:
            call(name)
        assert raised.value.errno == errno.ENOENT
    assert world.refuses(name) == errno.ENOENT


def test_folders(world: World) -> None:
    assert world.table.below("net.ipv4.ip_forward") == ["net.ipv4.ip_forward"]
    assert world.table.below("net/ipv4/neigh/eth0")[0] == "net.ipv4.neigh.eth0.anycast_delay"
    assert len(world.table.below("net.ipv4.neigh.eth0")) == len(neigh_settings())
    assert world.table.below("") == world.table.names() and world.table.below("net.ipv4.ip") == []


# -- what is a value


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("1\n", 1), (" 1", 1), ("1 2", 1), ("0x10", 16), ("010", 8), ("-5", -5), ("2147483647", 2147483647),
     ("-2147483648", -2147483648), ("1\t", 1), ("  7  8", 7), ("1\n2", 1), ("0", 0), ("-0x10", -16)],
)  # fmt: skip
def test_numbers_are_read_as_the_kernel_reads_them(text: str, value: int) -> None:
    """do_proc_dointvec: tried on Linux 6.18."""
    assert parse_vector(text, Setting("x", "")) == [value]


@pytest.mark.parametrize(
    "text",
    ["1a", "2147483648", "-2147483649", "", "\n", "+1", "1,2", "abc", "9" * 23, "08", "0x", "--1", "- 1", "1.5", "٣",
     "0xg", "1_000", "-"],
)  # fmt: skip
def test_what_is_no_number(world: World, text: str) -> None:
    with pytest.raises(OSError) as raised:
        parse_vector(text, Setting("x", ""))
    assert raised.value.errno == errno.EINVAL
    assert world.refuses("net.ipv4.conf.eth0.rp_filter", text) == errno.EINVAL


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("ip_default_ttl", "1 64 255", "0 256 -1"),
        ("ip_nonlocal_bind", "0 1 255", "-1 256"),
        ("icmp_echo_ignore_all", "0 1", "-1 2"),
        ("icmp_ratelimit", "0 1000 2147483647", "-1 2147483648"),
        ("icmp_ratemask", "-1 0 2147483647", "4294967295"),
        ("icmp_msgs_per_sec", "0 2147483647", "-1"),
        ("tcp_syn_retries", "1 127", "0 128"),
        ("tcp_synack_retries", "0 255", "-1 256"),
        ("tcp_min_snd_mss", "48 65535", "47 65536"),
        ("tcp_max_syn_backlog", "-1 0 2147483647", "2147483648"),
        ("tcp_fin_timeout", "0 60 2147484", "2147483647"),
        ("udp_rmem_min", "1 2147483647", "0 -1"),
        ("fib_multipath_hash_policy", "0 3", "4 -1"),
        ("fib_multipath_hash_fields", "1 4095", "0 4096"),
        ("fib_multipath_use_neigh", "0 1", "2"),
        ("nexthop_compat_mode", "0 1", "2"),
        ("ipfrag_max_dist", "0 2147483647", "-1"),
        ("ipfrag_high_thresh", "4194304 4294967296", "-1"),
        ("route.min_pmtu", "68 100000", "67"),
        ("neigh.eth0.ucast_solicit", "0 2147483647", "-1"),
        ("neigh.eth0.retrans_time_ms", "0 5 2147483647", "-1 2147483648"),
        ("neigh.eth0.base_reachable_time", "0 10 2147483", "21474837"),
        ("neigh.default.gc_thresh3", "0 2147483647", "-1"),
        ("conf.eth0.rp_filter", "0 1 2 77 -1", "2147483648"),
        ("conf.default.medium_id", "-1 0 2147483647", "x"),
    ],
)
def test_limits_are_the_kernel_s(world: World, name: str, good: str, bad: str) -> None:
    """Tried on Linux 6.18, in a network namespace; times may be negative there, and not here."""
    for text in good.split():
        world.table.set(f"net.ipv4.{name}", text)
        assert world.table.get(f"net.ipv4.{name}") == text
    for text in bad.split():
        assert world.refuses(f"net.ipv4.{name}", text) == errno.EINVAL


@pytest.mark.parametrize(
    ("text", "shown"),
    [("4096 5000 6000", "4096\t5000\t6000"), ("1", "1\t131072\t6291456"), ("4096 5000 2", "4096\t5000\t2"),
     ("1 2 3 4", "1\t2\t3"), ("0x10\t010", "16\t8\t6291456")],
)  # fmt: skip
def test_vectors(world: World, text: str, shown: str) -> None:
    """Fewer values leave the others as they are; more are not looked at."""
    world.table.set("net.ipv4.tcp_rmem", text)
    assert world.table.get("net.ipv4.tcp_rmem") == shown
    assert world.net.sysctl.tcp_rmem_min == int(shown.split()[0])


@pytest.mark.parametrize("text", ["0 1 2", "5 a", "", "5,6", "1 2147483648"])
def test_a_vector_is_taken_whole_or_not_at_all(world: World, text: str) -> None:
    """Linux would have taken the 5 of "5 a"."""
    assert world.refuses("net.ipv4.tcp_rmem", text) == errno.EINVAL


@pytest.mark.parametrize(
    ("text", "shown"),
    [("40000", "40000\t60999"), ("40000 50000", "40000\t50000"), ("1024 60000", "1024\t60000"), ("50000 40000", None),
     ("0 1", None), ("1 65535", None), ("500 60000", None), ("40000 65536", None), ("61000", None)],
)  # fmt: skip
def test_the_range_of_local_ports(world: World, text: str, shown: str | None) -> None:
    """ipv4_local_port_range: in order, and none that needs a right."""
    if shown is None:
        assert world.refuses("net.ipv4.ip_local_port_range", text) == errno.EINVAL
    else:
        world.table.set("net.ipv4.ip_local_port_range", text)
        assert world.table.get("net.ipv4.ip_local_port_range") == shown


def test_unprivileged_ports_begin_at_the_range_or_before(world: World) -> None:
    """ipv4_privileged_ports."""
    for text in ("65535", "65536", "-1", "40000", "32769"):
        assert world.refuses("net.ipv4.ip_unprivileged_port_start", text) == errno.EINVAL
    for text in ("0", "32768"):
        world.table.set("net.ipv4.ip_unprivileged_port_start", text)
    assert world.refuses("net.ipv4.ip_local_port_range", "32767 60000") == errno.EINVAL


@pytest.mark.parametrize(
    ("text", "shown"),
    [("0 100", "0\t100"), ("100 0", "1\t0"), ("5", "5\t2147483647"), ("0 4294967294", "0\t4294967294"),
     ("0 4294967295", None), ("-1 5", None)],
)  # fmt: skip
def test_groups_that_may_ping(world: World, text: str, shown: str | None) -> None:
    """ipv4_ping_group_range: "Range that includes nobody" for one that is backwards."""
    if shown is None:
        assert world.refuses("net.ipv4.ping_group_range", text) == errno.EINVAL
    else:
        world.table.set("net.ipv4.ping_group_range", text)
        assert world.table.get("net.ipv4.ping_group_range") == shown


def test_the_same_number_in_several_units(world: World) -> None:
    table = world.table
    table.set("net.ipv4.neigh.eth0.retrans_time", "7")
    assert table.get("net.ipv4.neigh.eth0.retrans_time_ms") == "70"
    table.set("net.ipv4.neigh.eth0.base_reachable_time_ms", "1500")
    assert table.get("net.ipv4.neigh.eth0.base_reachable_time") == "1"
    table.set("net.ipv4.neigh.eth0.unres_qlen", "3")
    assert table.get("net.ipv4.neigh.eth0.unres_qlen_bytes") == "6270"
    table.set("net.ipv4.route.redirect_load", "10")
    assert world.net.sysctl.route_redirect_load_ms == 40


def test_read_only_and_write_only(world: World) -> None:
    assert world.refuses("net.ipv4.conf.eth0.mc_forwarding", "0") == errno.EACCES
    with pytest.raises(OSError) as raised:
        world.table.get("net.ipv4.route.flush")
    assert raised.value.errno == errno.EACCES and not world.table.readable("net.ipv4.route.flush")
    for text in ("1", "-1", "x", ""):
        world.table.set("net.ipv4.route.flush", text)
    assert world.flushes.count == 4


# -- forwarding


def test_ip_forward_turns_every_device(world: World) -> None:
    """inet_forward_change: conf.all.forwarding is the same, default follows, all no longer listens to redirects."""
    world.table.set("net.ipv4.ip_forward", "1")
    assert world.conf("forwarding") == ["1"] * 4
    assert world.conf("accept_redirects") == ["0", "1", "1", "1"]
    assert world.told.names == [f"{where}.forwarding" for where in ("all", "default", "lo", "eth0", "eth1")]
    assert world.flushes.count == 1
    assert world.stack.add_device(Silent("eth2", 0x02_00_00_00_00_03)).in_dev.forward()
    world.table.set("net.ipv4.ip_forward", "1")
    assert (len(world.told.names), world.flushes.count) == (5, 1), "nothing has changed"


def test_all_forwarding_is_ip_forward(world: World) -> None:
    world.table.set("net.ipv4.conf.all.forwarding", "2")
    assert world.table.get("net.ipv4.ip_forward") == "2" and world.conf("forwarding") == ["2"] * 4
    world.table.set("net.ipv4.conf.all.forwarding", "0")
    assert world.conf("forwarding") == ["0"] * 4 and world.conf("accept_redirects") == ["1"] * 4


def test_one_device_may_differ(world: World) -> None:
    world.table.set("net.ipv4.conf.eth0.forwarding", "1")
    assert world.conf("forwarding") == ["0", "0", "1", "0"] and world.told.names == ["eth0.forwarding"]
    assert world.conf("accept_redirects") == ["1"] * 4 and world.flushes.count == 1


def test_default_forwarding_is_for_devices_to_come(world: World) -> None:
    """And flushes nothing."""
    world.table.set("net.ipv4.conf.default.forwarding", "1")
    assert world.conf("forwarding") == ["0", "1", "0", "0"] and world.told.names == ["default.forwarding"]
    assert world.flushes.count == 0


# -- default


def test_default_reaches_devices_whose_value_nobody_set(world: World) -> None:
    """devinet_copy_dflt_conf, ipv4_devconf.state."""
    world.table.set("net.ipv4.conf.eth1.arp_ignore", "3")
    world.table.set("net.ipv4.conf.default.arp_ignore", "5")
    assert world.conf("arp_ignore") == ["0", "5", "5", "3"]
    assert world.table.get("net.ipv4.conf.lo.arp_ignore") == "0", "lo got its address when it came up"


def test_default_does_not_reach_devices_with_an_address(world: World) -> None:
    """ipv4_devconf_setall, as soon as somebody has given it one; for its neighbours' settings as well."""
    world.stack.add_address("192.0.2.1/24", world.eth0)
    world.table.set("net.ipv4.conf.default.rp_filter", "1")
    world.table.set("net.ipv4.neigh.default.mcast_solicit", "9")
    assert world.conf("rp_filter") == ["0", "1", "0", "1"]
    assert [world.table.get(f"net.ipv4.neigh.{where}.mcast_solicit") for where in ("eth0", "eth1")] == ["3", "9"]


@pytest.mark.parametrize(
    "leaf", ["forwarding", "route_localnet", "promote_secondaries", "drop_unicast_in_l2_multicast"]
)
def test_some_of_default_reaches_no_device_that_is_there(world: World, leaf: str) -> None:
    """Those with a handler of their own (DEVINET_SYSCTL_FLUSHING_ENTRY)."""
    world.table.set(f"net.ipv4.conf.default.{leaf}", "1")
    assert world.conf(leaf) == ["0", "1", "0", "0"]
    world.stack.add_device(Silent("eth2", 0x02_00_00_00_00_03))
    assert world.table.get(f"net.ipv4.conf.eth2.{leaf}") == "1"


def test_a_device_starts_with_what_default_is(world: World) -> None:
    world.table.set("net.ipv4.conf.default.rp_filter", "2")
    world.table.set("net.ipv4.neigh.default.retrans_time_ms", "300")
    world.stack.add_device(Silent("eth2", 0x02_00_00_00_00_03))
    assert world.table.get("net.ipv4.conf.eth2.rp_filter") == "2"
    assert world.table.get("net.ipv4.neigh.eth2.retrans_time_ms") == "300"


def test_neighbours_of_default_reach_devices_whose_value_nobody_set(world: World) -> None:
    """neigh_copy_dflt_parms, neigh_parms.data_state: one bit for both names of a number."""
    world.table.set("net.ipv4.neigh.eth1.retrans_time", "20")
    world.table.set("net.ipv4.neigh.default.retrans_time_ms", "300")
    assert [world.table.get(f"net.ipv4.neigh.{where}.retrans_time_ms") for where in ("lo", "eth0", "eth1")] == [
        "1000", "300", "200",
    ]  # fmt: skip


def test_every_field_is_copied_to_a_new_device() -> None:
    conf, parms = Ipv4Devconf(), NeighParms()
    for number, setting in enumerate(conf_settings()):
        setattr(conf, setting.name, 1000 + number)
    for number, setting in enumerate(neigh_settings()):
        setattr(parms, setting.attrs[0], 1000 + number)
    in_dev = InDevice(Ipv4Devconf())
    in_dev.cnf.copy_from(conf)
    in_dev.arp_parms.copy_from(parms)
    assert [getattr(in_dev.cnf, s.name) for s in conf_settings()] == [getattr(conf, s.name) for s in conf_settings()]
    attrs = [setting.attrs[0] for setting in neigh_settings()]
    assert [getattr(in_dev.arp_parms, attr) for attr in attrs] == [getattr(parms, attr) for attr in attrs]


# -- effects


@pytest.mark.parametrize(
    ("leaf", "values", "flushes"),
    [
        ("route_localnet", ["1", "1", "0"], 2),
        ("promote_secondaries", ["1", "0"], 2),
        ("drop_unicast_in_l2_multicast", ["1", "2"], 2),
        ("bc_forwarding", ["1", "1", "0"], 2),
        ("accept_local", ["1", "0", "0"], 1),
        ("rp_filter", ["1", "2", "0"], 0),
        ("log_martians", ["1", "0"], 0),
        ("send_redirects", ["0", "1"], 0),
    ],
)
def test_what_flushes_the_routes(world: World, leaf: str, values: list[str], flushes: int) -> None:
    """devinet_conf_proc, ipv4_doint_and_flush: changes alone."""
    for value in values:
        world.table.set(f"net.ipv4.conf.eth0.{leaf}", value)
    assert world.flushes.count == flushes


def test_what_rtnetlink_tells_of(world: World) -> None:
    """inet_netconf_notify_devconf; seen with ``ip monitor netconf``."""
    for setting in conf_settings():
        if setting.name != "mc_forwarding":
            old = world.table.get(f"net.ipv4.conf.eth0.{setting.name}")
            world.table.set(f"net.ipv4.conf.eth0.{setting.name}", old)
            world.table.set(f"net.ipv4.conf.eth0.{setting.name}", "7")
    assert sorted(world.told.names) == sorted(
        f"eth0.{leaf}" for leaf in ("forwarding", "ignore_routes_with_linkdown", "proxy_arp", "rp_filter")
    )
    world.told.names.clear()
    world.table.set("net.ipv4.conf.all.rp_filter", "2")
    world.table.set("net.ipv4.conf.default.proxy_arp", "1")
    assert world.told.names == ["all.rp_filter", "default.proxy_arp"]


def test_settings_are_what_the_stack_goes_by(world: World) -> None:
    world.table.set("net.ipv4.ip_default_ttl", "99")
    world.table.set("net.core.somaxconn", "5")
    world.table.set("net.ipv4.conf.eth0.rp_filter", "1")
    world.table.set("net.ipv4.neigh.eth0.locktime", "0")
    assert (world.net.sysctl.ip_default_ttl, world.net.sysctl.somaxconn) == (99, 5)
    assert (world.eth0.in_dev.rp_filter(), world.eth0.in_dev.arp_parms.locktime_cs) == (1, 0)


def test_two_stacks_have_nothing_in_common() -> None:
    one, two = World(), World()
    one.table.set("net.ipv4.ip_forward", "1")
    one.table.set("net.ipv4.tcp_rmem", "1 2 3")
    assert two.table.get("net.ipv4.ip_forward") == "0" and two.table.get("net.ipv4.tcp_rmem").startswith("4096")


# -- the judge

#: Defaults that are not this kernel's, and why.
DIFFERENT = {
    "net.core.rmem_max": "set by the system's administrator",
    "net.core.wmem_max": "set by the system's administrator",
    "net.core.rmem_default": "set by the system's administrator",
    "net.core.wmem_default": "set by the system's administrator",
    "net.core.somaxconn": "set by the system's administrator",
    "net.ipv4.ping_group_range": "open, as systemd has it: who can reach the stack has its rights",
    "net.ipv4.tcp_congestion_control": "set by the system's administrator",
    "net.ipv4.tcp_available_congestion_control": "follows the kernel's modules",
    "net.ipv4.tcp_allowed_congestion_control": "follows the kernel's modules",
    "net.ipv4.tcp_rmem": "follows the machine's memory",
    "net.ipv4.tcp_wmem": "follows the machine's memory",
    "net.ipv4.tcp_max_syn_backlog": "follows the machine's memory",
    "net.ipv4.tcp_max_tw_buckets": "follows the machine's memory",
    "net.ipv4.tcp_challenge_ack_limit": "Linux 6.7 has none any more: here the limit of RFC 5961 section 7 holds",
    "net.ipv4.neigh.lo.unres_qlen_bytes": "follows net.core.wmem_max",
}
#: Not in every network namespace: the first one's alone, which a test must not look at.
FIRST_NAMESPACE_ONLY = (
    "net.core.netdev_budget", "net.core.netdev_max_backlog", "net.core.dev_weight", "net.ipv4.tcp_max_orphans",
    "net.ipv4.tcp_mem",
    "net.ipv4.neigh.default.", "net.ipv4.route.gc_timeout", "net.ipv4.route.redirect_",
)  # fmt: skip
#: What Linux 6.18 has in its namespaces and ustack has not, without what belongs to IPsec, l3mdev and security modules.
MISSING = """
accept_ra bootp_relay disable_policy disable_xfrm force_igmp_version igmpv2_unsolicited_report_interval
igmpv3_unsolicited_report_interval tag interval_probe_time_ms fib_notify_on_flag_change icmp_echo_enable_probe
igmp_link_local_mcast_reports igmp_max_memberships igmp_max_msf igmp_qrv ip_autobind_reuse ip_dynaddr
ip_local_reserved_ports ipfrag_low_thresh tcp_adv_win_scale tcp_app_win tcp_backlog_ack_defer tcp_child_ehash_entries
tcp_ecn_option tcp_ecn_option_beacon tcp_ehash_entries tcp_fack tcp_migrate_req tcp_no_metrics_save
tcp_no_ssthresh_metrics_save tcp_plb_cong_thresh tcp_plb_enabled tcp_plb_idle_rehash_rounds tcp_plb_rehash_rounds
tcp_plb_suspend_rto_sec udp_child_hash_entries udp_hash_entries udp_wmem_min optmem_max rps_default_mask
tstamp_allow_data txrehash tcp_comp_sack_slack_ns tcp_limit_output_bytes
""".split()


@pytest.fixture(scope="module")
def kernel() -> dict[str, str]:
    """The settings of a network namespace that nobody has touched, with lo alone."""
    command = ["unshare", "--net", "--map-root-user", "sysctl", "-a", "--deprecated", "-r", r"^net\.(ipv4|core)\."]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no network namespaces, or no sysctl, here")
    pairs = [line.split(" = ", 1) for line in shown.splitlines() if " = " in line]
    return {pair[0]: pair[1] for pair in pairs}


def test_our_names_are_the_kernel_s(kernel: dict[str, str]) -> None:
    ours = {name for name in Stack(SEED).sysctl.names() if not name.startswith(FIRST_NAMESPACE_ONLY)}
    assert ours - set(kernel) - {"net.ipv4.route.flush"} == set()


def test_our_defaults_are_the_kernel_s(kernel: dict[str, str]) -> None:
    table = Stack(SEED).sysctl
    ours = {name: table.get(name) for name in table.names() if table.readable(name)}
    differing = {name for name, value in ours.items() if kernel.get(name, value) != value}
    assert differing - set(DIFFERENT) == set()


def test_what_we_have_not_is_written_down(kernel: dict[str, str]) -> None:
    """So that what is new here leaves the list. Another kernel may have more."""
    ours = {name.rpartition(".")[2] for name in Stack(SEED).sysctl.names()}
    assert ours & set(MISSING) == set()
    theirs = {name.rpartition(".")[2] for name in kernel if "xfrm" not in name and "l3mdev" not in name}
    assert len(theirs - ours - set(MISSING)) < 20


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("net.ipv4.ip_forward", ["1", "0x10", "010", "1a", "-5", "", "+1", "1 2", "1,2", "2147483648", "08"]),
        ("net.ipv4.ip_default_ttl", ["0", "1", "255", "256", "-1"]),
        ("net.ipv4.ip_local_port_range", ["40000", "40000 50000", "50000 40000", "1 65535", "40000 65536"]),
        ("net.ipv4.tcp_syn_retries", ["0", "1", "127", "128"]),
        ("net.ipv4.tcp_wmem", ["4096 5000 6000", "1 2", "0 1 2"]),
        ("net.ipv4.icmp_ratemask", ["-1", "4294967295"]),
        ("net.ipv4.conf.default.rp_filter", ["77", "-1"]),
        ("net.ipv4.neigh.lo.ucast_solicit", ["0", "-1", "7"]),
        ("net.ipv4.neigh.lo.retrans_time_ms", ["4", "-1"]),
        ("net.ipv4.route.min_pmtu", ["67", "68"]),
        ("net.ipv4.nope", ["1"]),
        ("net.ipv4.conf.lo.mc_forwarding", ["1"]),
    ],
)
def test_the_kernel_takes_and_refuses_the_same(kernel: dict[str, str], name: str, texts: list[str]) -> None:
    """Each value written to both, from the default; what is shown afterwards is compared too."""
    path = "/proc/sys/" + name.replace(".", "/")
    script = f"""cd /; old=$(cat {path} 2>/dev/null)
    for text in "$@"; do
        if printf '%s\\n' "$text" 2>/dev/null > {path}; then echo "ok $(cat {path})"; else echo refused; fi
        [ -n "$old" ] && echo "$old" > {path}
    done 2>/dev/null"""
    command = ["unshare", "--net", "--map-root-user", "sh", "-c", script, "sh", *texts]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout.splitlines()
    ours = []
    for text in texts:
        table = Stack(SEED).sysctl
        try:
            table.set(name, text)
            ours.append(f"ok {table.get(name)}")
        except OSError:
            ours.append("refused")
    assert ours == shown
