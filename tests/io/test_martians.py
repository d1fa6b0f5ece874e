"""log_martians: what a daemon says of packets with impossible addresses, in the kernel's words (RFC 1812 5.3.8)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from librt.strings import BytesWriter

from ustack.device.e1000 import E1000
from ustack.device.ring import NicRegisters
from ustack.io.martians import MartianLog
from ustack.stack import Stack
from ustack.timer import NSEC_PER_SEC
from ustack.wire import arp, ethernet, ipv4
from ustack.wire.ethernet import ETH_P_ARP, ETH_P_IP
from ustack.wire.ipv4 import str_to_addr

if TYPE_CHECKING:
    import pytest

OUR_MAC, PEER_MAC = 0x02_00_00_00_00_01, 0x02_00_00_00_00_09
OURS = "192.0.2.2"
HEADER = "ll header: 00000000: 02 00 00 00 00 01 02 00 00 00 00 09 08 00"


class Host:
    """us0 is 192.0.2.2/24, and its martians are logged."""

    def __init__(self) -> None:
        self.stack = Stack(bytes(16))
        self.nic = NicRegisters(256)
        self.stack.add_device(E1000(self.stack.devices, "us0", OUR_MAC, self.nic))
        self.stack.add_address(f"{OURS}/24", "us0")
        self.stack.sysctl.set("net.ipv4.conf.us0.log_martians", "1")
        self.stack.routing.input_route.martian_watchers.append(MartianLog())

    def receive(self, frame: bytes) -> None:
        assert self.nic.receive_frame(frame)
        self.nic.rx_interrupt()
        self.stack.poll(self.stack.net.now)

    def receive_ip(self, saddr: str, daddr: str) -> None:
        out = BytesWriter()
        ipv4.emit(out, 0, 20, 1, 0, 64, 17, str_to_addr(saddr), str_to_addr(daddr))
        self.receive(ethernet.header(OUR_MAC, PEER_MAC, ETH_P_IP) + out.getvalue() + bytes(26))


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Every line, all of which are warnings of the daemon's."""
    assert {(record.name, record.levelno) for record in caplog.records} <= {("ustack.daemon", logging.WARNING)}
    lines = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return lines


def test_the_words_are_the_kernels(caplog: pytest.LogCaptureFixture) -> None:
    """A source that lies is told with the frame's header, the only trace of who it was."""
    host = Host()
    for saddr, daddr in (("127.0.0.1", OURS), ("192.0.2.9", "127.0.0.1"), ("224.0.0.1", OURS), (OURS, OURS)):
        host.receive_ip(saddr, daddr)
    assert said(caplog) == [
        "martian source 192.0.2.2 from 127.0.0.1, on dev us0", HEADER,
        "martian destination 127.0.0.1 from 192.0.2.9, dev us0",
        "martian source 192.0.2.2 from 224.0.0.1, on dev us0", HEADER,
        "martian source 192.0.2.2 from 192.0.2.2, on dev us0", HEADER,
    ]  # fmt: skip


def test_a_question_of_a_martian_is_one(caplog: pytest.LogCaptureFixture) -> None:
    """arp_process asks the routes, too: who asks from nowhere fails rp_filter."""
    host = Host()
    host.stack.sysctl.set("net.ipv4.conf.us0.rp_filter", "1")
    question = arp.emit(1, PEER_MAC, str_to_addr("203.0.113.9"), 0, str_to_addr(OURS))
    host.receive(ethernet.header(OUR_MAC, PEER_MAC, ETH_P_ARP) + question + bytes(18))
    assert said(caplog) == ["martian source 192.0.2.2 from 203.0.113.9, on dev us0", HEADER.replace("08 00", "08 06")]


def test_only_where_log_martians_is_on(caplog: pytest.LogCaptureFixture) -> None:
    """IN_DEV_LOG_MARTIANS: the device's switch or that of all."""
    host = Host()
    host.stack.sysctl.set("net.ipv4.conf.us0.log_martians", "0")
    host.receive_ip("127.0.0.1", OURS)
    assert said(caplog) == [] and host.stack.net.mib.rt_cache.in_martian_src == 1
    host.stack.sysctl.set("net.ipv4.conf.all.log_martians", "1")
    host.receive_ip("127.0.0.1", OURS)
    assert len(said(caplog)) == 2


def test_a_flood_is_told_of_by_its_number(caplog: pytest.LogCaptureFixture) -> None:
    """net_ratelimit: ten in five seconds; how many more there were is said with the next."""
    host = Host()
    for _ in range(45):
        host.receive_ip("127.0.0.1", OURS)
    assert len(said(caplog)) == 2 * 10
    host.stack.poll(host.stack.net.now + 5 * NSEC_PER_SEC)
    host.receive_ip("127.0.0.1", OURS)
    assert said(caplog) == []  # the interval is not over before it has passed
    host.stack.poll(host.stack.net.now + NSEC_PER_SEC)
    host.receive_ip("127.0.0.1", OURS)
    first, *rest = said(caplog)
    assert first == "net_ratelimit: 36 callbacks suppressed"
    assert rest == ["martian source 192.0.2.2 from 127.0.0.1, on dev us0", HEADER]
