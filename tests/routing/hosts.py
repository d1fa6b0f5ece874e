"""A host whose routes are made without a table, to be looked at or refused."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from tests.routing.links import a
from tests.routing.tables import Ether, Tables
from ustack.routing.fib_types import FibConfig, FibInfo, NexthopConfig
from ustack.routing.flow import RT_SCOPE_LINK, RT_SCOPE_UNIVERSE
from ustack.routing.nexthop import NexthopObjConfig
from ustack.routing.uapi import NLM_F_CREATE, RT_TABLE_MAIN, RTPROT_BOOT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ustack.device.net_device import NetDevice


NO_TEXT = ""


def fields(cfg: FibConfig, given: Mapping[str, int]) -> FibConfig:
    """``cfg`` with some of its fields set."""
    for name, value in given.items():
        setattr(cfg, name, value)
    return cfg


class Host(Tables):
    """a0 has 192.0.2.1/24, a1 198.51.100.1/24; a2 is down."""

    def __init__(self) -> None:
        super().__init__()
        self.add("192.0.2.1/24", self.a0)
        self.add("198.51.100.1/24", self.a1)
        self.a2 = Ether("a2")
        self.devices.register_netdevice(self.a2)
        self.semantics = self.fib.semantics

    def config(self, via: str = "", dev: NetDevice | None = None, **given: int) -> FibConfig:
        """ip route add 203.0.113.0/24 via VIA dev DEV"""
        cfg = FibConfig(a("203.0.113.0"), 24)
        cfg.table = RT_TABLE_MAIN
        cfg.protocol = RTPROT_BOOT
        cfg.gateway = a(via) if via else 0
        cfg.oif = 0 if dev is None else dev.ifindex
        cfg.scope = RT_SCOPE_UNIVERSE if via else RT_SCOPE_LINK
        cfg.nlflags = NLM_F_CREATE
        return fields(cfg, given)

    def several(self, *hops: NexthopConfig, **given: int) -> FibConfig:
        """ip route add 203.0.113.0/24 nexthop ... nexthop ..."""
        cfg = self.config(scope=RT_SCOPE_UNIVERSE)
        cfg.multipath = list(hops)
        return fields(cfg, given)

    def create(self, cfg: FibConfig) -> FibInfo:
        return self.semantics.fib_create_info(cfg)

    def refused(self, cfg: FibConfig) -> tuple[str, str]:
        """The errno's name and the kernel's words; nothing may have been kept."""
        before = (self.known(), self.semantics.nhs_count)
        with pytest.raises(OSError) as caught:
            self.create(cfg)
        assert (self.known(), self.semantics.nhs_count) == before
        code = caught.value.errno or 0
        text = caught.value.strerror or ""
        return errno.errorcode[code], NO_TEXT if text == os.strerror(code) else text

    def known(self) -> list[FibInfo]:
        return [fi for fi in self.semantics.infos if fi is not None]

    def nexthop(self, id: int, via: str = "", dev: NetDevice | None = None, flags: int = 0) -> None:
        cfg = NexthopObjConfig(id, a(via) if via else 0, (dev or self.a0).ifindex)
        cfg.flags = flags
        cfg.nlflags = NLM_F_CREATE
        self.semantics.nexthops.rtm_newnexthop(cfg)


def hop(via: str = "", dev: NetDevice | None = None, weight: int = 1, flags: int = 0) -> NexthopConfig:
    return NexthopConfig(0 if dev is None else dev.ifindex, a(via) if via else 0, weight, flags)
