"""IPv4's part of a device: its settings and its neighbours' (Linux struct in_device, ipv4_devconf, neigh_parms).

A setting of a device mostly counts together with the one of ``all``: by or, by and, or by maximum, as the kernel's
IN_DEV_* macros have it (include/linux/inetdevice.h). ``default`` is what a device starts with.
"""

from __future__ import annotations

from mypy_extensions import i64, mypyc_attr

from ustack.sysctl_names import conf_settings, neigh_settings


@mypyc_attr(allow_interpreted_subclasses=True)
class RouteCache:
    """Who is told when a setting changes what routes say; nobody, before there is routing."""

    def rt_cache_flush(self) -> None:
        """Everything that was looked up before counts no more."""

    def flush(self) -> None:
        """Nor does what paths have told (net.ipv4.route.flush)."""
        self.rt_cache_flush()


class Ipv4Devconf:
    """net.ipv4.conf.{all,default,DEV}.*: Linux's names and defaults, 0 or 1 unless the comment says otherwise."""

    def __init__(self) -> None:
        self.forwarding: i64 = 0
        self.mc_forwarding: i64 = 0  #: read-only: there is no multicast routing daemon's socket
        self.bc_forwarding: i64 = 0
        self.accept_redirects: i64 = 1
        self.secure_redirects: i64 = 1
        self.send_redirects: i64 = 1
        self.shared_media: i64 = 1
        self.rp_filter: i64 = 0  #: 0 off, 1 strict, 2 loose (RFC 3704)
        self.accept_source_route: i64 = 0
        self.accept_local: i64 = 0
        self.route_localnet: i64 = 0
        self.src_valid_mark: i64 = 0
        self.log_martians: i64 = 0
        self.proxy_arp: i64 = 0
        self.proxy_arp_pvlan: i64 = 0
        self.medium_id: i64 = 0  #: -1 no proxy ARP, 0 the only device on its medium, else the medium's number
        self.arp_filter: i64 = 0
        self.arp_announce: i64 = 0  #: 0 to 2
        self.arp_ignore: i64 = 0  #: 0 to 8
        self.arp_accept: i64 = 0  #: 0 to 2
        self.arp_notify: i64 = 0
        self.arp_evict_nocarrier: i64 = 1
        self.drop_gratuitous_arp: i64 = 0
        self.drop_unicast_in_l2_multicast: i64 = 0
        self.ignore_routes_with_linkdown: i64 = 0
        self.promote_secondaries: i64 = 0
        self.state: set[str] = set()  #: what was set for this device alone, which ``default`` leaves as it is
        self.all_set: bool = False  #: that holds for everything

    def copy_from(self, other: Ipv4Devconf) -> None:
        """Take over every setting of ``other``."""
        for setting in conf_settings():
            setattr(self, setting.name, getattr(other, setting.name))
        self.state = set(other.state)


class NeighParms:
    """net.ipv4.neigh.{default,DEV}.* but for the table's own gc_* settings: seconds, or what the name ends in."""

    def __init__(self) -> None:
        self.base_reachable_time_ms: i64 = 30_000
        self.retrans_time_ms: i64 = 1000
        self.delay_first_probe_time: i64 = 5
        self.gc_stale_time: i64 = 60
        self.ucast_solicit: i64 = 3
        self.mcast_solicit: i64 = 3
        self.mcast_resolicit: i64 = 0
        self.app_solicit: i64 = 0
        self.unres_qlen_bytes: i64 = 212_992
        self.proxy_qlen: i64 = 64  #: packets
        self.proxy_delay_cs: i64 = 80  #: proxy_delay, in USER_HZ: centiseconds
        self.anycast_delay_cs: i64 = 100  #: anycast_delay, in USER_HZ
        self.locktime_cs: i64 = 100  #: locktime, in USER_HZ
        self.state: set[str] = set()  #: what was set for this device alone (data_state)
        self.all_set: bool = False
        self.qlen: i64 = 0  #: questions that wait for their proxy_delay
        self.reachable_time: i64 = 0  #: ns: base_reachable_time times 0.5 to 1.5
        self.drawn_for: i64 = -1  #: the base it was drawn from, and when
        self.drawn_at: i64 = 0

    def copy_from(self, other: NeighParms) -> None:
        """Take over every setting of ``other``."""
        for setting in neigh_settings():
            for attr in setting.attrs:
                setattr(self, attr, getattr(other, attr))
        self.state = set(other.state)


class InDevice:
    """One device's settings, ``cnf``, seen together with those of ``all`` (struct in_device)."""

    def __init__(self, everywhere: Ipv4Devconf) -> None:
        self.all: Ipv4Devconf = everywhere
        self.cnf = Ipv4Devconf()
        self.arp_parms = NeighParms()
        self.dead: bool = False  #: its device is being unregistered

    def setall(self) -> None:
        """Somebody has configured the device: a new ``default`` no longer reaches it (ipv4_devconf_setall)."""
        self.cnf.all_set = True
        self.arp_parms.all_set = True

    # IN_DEV_*: what counts for a packet

    def forward(self) -> bool:
        """IN_DEV_FORWARD: the device's alone; ``all`` is a switch that sets every device's when it is turned."""
        return self.cnf.forwarding != 0

    def bc_forward(self) -> bool:
        return self.all.bc_forwarding != 0 and self.cnf.bc_forwarding != 0

    def rp_filter(self) -> i64:
        return max(self.all.rp_filter, self.cnf.rp_filter)

    def source_route(self) -> bool:
        return self.all.accept_source_route != 0 and self.cnf.accept_source_route != 0

    def accept_local(self) -> bool:
        return self.all.accept_local != 0 or self.cnf.accept_local != 0

    def route_localnet(self) -> bool:
        return self.all.route_localnet != 0 or self.cnf.route_localnet != 0

    def log_martians(self) -> bool:
        return self.all.log_martians != 0 or self.cnf.log_martians != 0

    def src_vmark(self) -> bool:
        return self.all.src_valid_mark != 0 or self.cnf.src_valid_mark != 0

    def tx_redirects(self) -> bool:
        return self.all.send_redirects != 0 or self.cnf.send_redirects != 0

    def rx_redirects(self) -> bool:
        """Both must agree on a router; on a host either is enough."""
        everywhere, own = self.all.accept_redirects != 0, self.cnf.accept_redirects != 0
        return everywhere and own if self.forward() else everywhere or own

    def sec_redirects(self) -> bool:
        return self.all.secure_redirects != 0 or self.cnf.secure_redirects != 0

    def shared_media(self) -> bool:
        return self.all.shared_media != 0 or self.cnf.shared_media != 0

    def proxy_arp(self) -> bool:
        return self.all.proxy_arp != 0 or self.cnf.proxy_arp != 0

    def proxy_arp_pvlan(self) -> bool:
        return self.cnf.proxy_arp_pvlan != 0

    def arp_filter(self) -> bool:
        return self.all.arp_filter != 0 or self.cnf.arp_filter != 0

    def arp_accept(self) -> i64:
        return max(self.all.arp_accept, self.cnf.arp_accept)

    def arp_announce(self) -> i64:
        return max(self.all.arp_announce, self.cnf.arp_announce)

    def arp_ignore(self) -> i64:
        return max(self.all.arp_ignore, self.cnf.arp_ignore)

    def arp_notify(self) -> bool:
        return self.all.arp_notify != 0 or self.cnf.arp_notify != 0

    def arp_evict_nocarrier(self) -> bool:
        return self.all.arp_evict_nocarrier != 0 and self.cnf.arp_evict_nocarrier != 0

    def drop_gratuitous_arp(self) -> bool:
        return self.all.drop_gratuitous_arp != 0 or self.cnf.drop_gratuitous_arp != 0

    def drop_unicast_in_l2_multicast(self) -> bool:
        return self.all.drop_unicast_in_l2_multicast != 0 or self.cnf.drop_unicast_in_l2_multicast != 0

    def ignore_routes_with_linkdown(self) -> bool:
        return self.all.ignore_routes_with_linkdown != 0 or self.cnf.ignore_routes_with_linkdown != 0

    def promote_secondaries(self) -> bool:
        return self.all.promote_secondaries != 0 or self.cnf.promote_secondaries != 0


class InetConf:
    """The settings that are no device's own (netns_ipv4: devconf_all, devconf_dflt; arp_tbl.parms)."""

    def __init__(self) -> None:
        self.all = Ipv4Devconf()
        self.default = Ipv4Devconf()
        self.default.accept_source_route = 1  # a device would; "all" says no
        self.neigh_default = NeighParms()
        self.in_devices: list[InDevice] = []
        self.route_cache = RouteCache()

    def new_in_device(self) -> InDevice:
        """What a device that is registered now starts with (inetdev_init)."""
        in_dev = InDevice(self.all)
        in_dev.cnf.copy_from(self.default)
        in_dev.arp_parms.copy_from(self.neigh_default)
        self.in_devices.append(in_dev)
        return in_dev

    def forget(self, in_dev: InDevice) -> None:
        """Its device is gone (inetdev_destroy)."""
        self.in_devices.remove(in_dev)

    def inet_forward_change(self, on: i64) -> None:
        """net.ipv4.ip_forward, or conf.all.forwarding: the switch of every device, and of those to come.

        RFC 1812 4.3.3.2, RFC 1122 3.3.2: a router does not listen to redirects, a host does.
        """
        self.all.forwarding = on
        self.all.accept_redirects = 0 if on else 1
        self.default.forwarding = on
        for in_dev in self.in_devices:
            in_dev.cnf.forwarding = on
