"""Making Dsts, and keeping them on next hops (Linux rt_dst_alloc, rt_set_nexthop, rt_cache_route, rt_cache_valid)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.dst import Dst
from ustack.routing.exceptions import Exceptions, rt_set_mtu
from ustack.routing.flow import RT_SCOPE_LINK
from ustack.routing.uapi import RTAX_ADVMSS, RTAX_HOPLIMIT, RTAX_MTU

if TYPE_CHECKING:
    from ustack.device.net_device import NetDevice
    from ustack.net import Net
    from ustack.packet import PacketHandler
    from ustack.routing.exceptions import FibNhException
    from ustack.routing.fib_frontend import Fib
    from ustack.routing.fib_types import FibInfo, FibNh


class Rtable:
    """What Dsts of one stack are made of. The handlers are set by whoever wires the floors, before the first lookup."""

    def __init__(self, net: Net, fib: Fib) -> None:
        self.net: Net = net
        self.fib: Fib = fib
        self.exceptions = Exceptions(net)
        self.local_deliver: PacketHandler | None = None
        self.forward: PacketHandler | None = None
        self.output: PacketHandler | None = None
        self.mc_output: PacketHandler | None = None

    def rt_dst_alloc(self, rt_type: i64, dev: NetDevice, local: bool) -> Dst:
        """A bare one: out by ip_output, in, if it is ``local``, by ip_local_deliver."""
        dst = Dst(rt_type, dev, self.fib.genid)
        dst.output = self.output
        if local:
            dst.local = True
            dst.input = self.local_deliver
        return dst

    def rt_set_nexthop(
        self, dst: Dst, daddr: i64, nhc: FibNh, fi: FibInfo, fnhe: FibNhException | None, do_cache: bool
    ) -> None:
        """Gateway and metrics from the next hop and the route, or what ``fnhe`` says instead; kept if ``do_cache``."""
        if nhc.gateway != 0 and nhc.scope == RT_SCOPE_LINK:
            dst.gateway = nhc.gateway
            dst.uses_gateway = True
        if fi.metrics or fi.cc_algo:
            dst.fi = fi
            dst.advmss = fi.metric(RTAX_ADVMSS)
            dst.hoplimit = fi.metric(RTAX_HOPLIMIT)
            dst.mtu_locked = fi.metric_locked(RTAX_MTU)
            rt_set_mtu(dst, self.net.now)
        if fnhe is not None:
            self.exceptions.rt_bind_exception(dst, fnhe, daddr, do_cache)
        elif do_cache:
            self.rt_cache_route(nhc, dst)
        elif dst.gateway == 0:
            dst.gateway = daddr  # nobody else's: it may name the one destination it is for

    def rt_cache_route(self, nhc: FibNh, dst: Dst) -> None:
        """Keep ``dst`` on its next hop instead of the one that was there."""
        if dst.is_input:
            nhc.rth_input = dst
        else:
            nhc.rth_output = dst
