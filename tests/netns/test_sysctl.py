"""ustack sysctl and --sysctl on a daemon, and what they change for the host."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

from librt.strings import BytesWriter

from tests.netns.daemon import HOST, PATIENCE, STACK, RunningDaemon, run_ustack
from ustack.wire import arp, ipv4
from ustack.wire.arp import ARPOP_REPLY, ARPOP_REQUEST
from ustack.wire.ethernet import ETH_BROADCAST, ETH_P_ARP, ETH_P_IP, header
from ustack.wire.ipv4 import str_to_addr

if TYPE_CHECKING:
    from pathlib import Path

    from ustack.io.host import Host, Namespace

ASKER_MAC = 0x02_00_00_00_00_99


def test_settings_of_a_daemon(namespace: Namespace, tmp_path: Path) -> None:
    options = ("--sysctl", "net.ipv4.conf.us0.arp_ignore=8", "--sysctl", "net.ipv4.conf.default.rp_filter=1")
    with RunningDaemon(tmp_path, *options):
        assert run_ustack("sysctl", "net.ipv4.conf.us0.arp_ignore") == (0, "net.ipv4.conf.us0.arp_ignore = 8\n", "")
        assert run_ustack("sysctl", "-n", "net.ipv4.conf.us0.rp_filter") == (0, "1\n", "")
        assert run_ustack("sysctl", "net.ipv4.icmp_ratemask=x", "net.ipv4.ip_forward=1") == (
            1, "net.ipv4.ip_forward = 1\n", 'sysctl: setting key "net.ipv4.icmp_ratemask": Invalid argument\n',
        )  # fmt: skip
        status, out, _ = run_ustack("sysctl", "-a", "-j")
        values = json.loads(out)
        assert status == 0 and values["net.ipv4.conf.us0.forwarding"] == "1" and len(values) > 200


def answered(patience: float) -> bool:
    """Whether somebody on us0 answers for the stack's address; its announcements are no answer."""
    question = arp.emit(ARPOP_REQUEST, ASKER_MAC, str_to_addr(HOST), 0, str_to_addr(STACK))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ARP)) as port:
        port.bind(("us0", ETH_P_ARP))
        port.settimeout(patience)
        port.send(header(ETH_BROADCAST, ASKER_MAC, ETH_P_ARP) + question)
        try:
            while True:
                frame = port.recv(2000)
                said = arp.parse(frame, 14, len(frame))
                if said is not None and said.op == ARPOP_REPLY and said.tha == ASKER_MAC:
                    return True
        except TimeoutError:
            return False


def test_a_silent_stack_speaks_again(namespace: Namespace, tmp_path: Path) -> None:
    """arp_ignore 8: nobody finds it; then 0."""
    with RunningDaemon(tmp_path, "--sysctl", "net.ipv4.conf.all.arp_ignore=8"):
        assert not answered(0.5)
        assert run_ustack("sysctl", "-q", "net.ipv4.conf.all.arp_ignore=0") == (0, "", "")
        assert answered(PATIENCE)


def test_an_unknown_setting_is_an_error_and_nothing_stays(namespace: Namespace, host: Host, tmp_path: Path) -> None:
    control = str(tmp_path / "control.sock")
    status, _, err = run_ustack("up", "--control", control, "--sysctl", "net.ipv4.conf.us9.rp_filter=1")
    assert status == 1 and err == "ustack: sysctl net.ipv4.conf.us9.rp_filter: there is no such setting\n"
    assert not host.has_link("us0")


def test_martians_are_logged(namespace: Namespace, tmp_path: Path) -> None:
    """log_martians, in the words of the kernel's log."""
    out = BytesWriter()
    ipv4.emit(out, 0, 20, 1, 0, 64, 17, str_to_addr("127.0.0.1"), str_to_addr(STACK))
    frame = header(ETH_BROADCAST, ASKER_MAC, ETH_P_IP)
    with RunningDaemon(tmp_path, "--sysctl", "net.ipv4.conf.all.log_martians=1") as daemon:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as port:
            port.bind(("us0", 0))
            port.send(frame + out.getvalue() + bytes(26))
        assert daemon.process.stderr is not None
        said = [daemon.process.stderr.readline() for _ in range(2)]
    assert said == [
        f"WARNING ustack.daemon: martian source {STACK} from 127.0.0.1, on dev us0\n",
        f"WARNING ustack.daemon: ll header: 00000000: {frame.hex(' ')}\n",
    ]
