"""Journeys as pcapng: packets with their steps as comments, read back by scapy and by tshark."""

from __future__ import annotations

import json
import shutil
import subprocess
from io import BytesIO
from typing import TYPE_CHECKING

import pytest

from tests.io.journeys import EPOCH, FRAME, Known, across, dropped, journey, sent, step, way_in, way_out
from tests.io.test_pcapng import read
from ustack.io.trace_pcapng import TracePcapng
from ustack.trace.journey import STEPS_MAX

if TYPE_CHECKING:
    from pathlib import Path

    from ustack.io.trace import JourneyInfo


def written(*journeys: JourneyInfo) -> bytes:
    file = BytesIO()
    output = TracePcapng(file, Known())
    for each in journeys:
        output.write(each)
    return file.getvalue()


def said(comments: list[bytes]) -> list[str]:
    return [each.decode() for each in comments]


def test_the_packet_its_time_its_device_and_its_steps() -> None:
    ((data, about),) = read(written(sent()))
    assert data == FRAME and about.wirelen == len(FRAME)
    assert about.tshigh << 32 | about.tslow == EPOCH + 123_456_789 and about.tsresol == 10**9
    assert about.ifname == b"eth0" and about.linktype == 1 and about.direction == 2
    assert said(about.comments) == [
        "#7  sent  caused by #6  part of #5",
        "      0        socket          sock_sendmsg               inet/socket.py:207  to 192.0.2.2:4747, length 6",
        "      0        udp            udp_sendmsg                 udp/sock.py:102",
        (
            "      0        routing       fib_lookup                   routing/route_output.py:88  "
            "unicast: rule 32766, table main, route 192.0.2.0/24 dev eth0 src 192.0.2.1"
        ),
        "      0        udp            udp_send_skb                udp/sock.py:133  checksum left to the device",
        "      0        ipv4          ip_local_out                 ipv4/output.py:288",
        (
            "      0        netfilter     nf_hook_slow                 netfilter/hooks.py:130  "
            "ACCEPT: hook LOCAL_OUT, function count_muffins, priority 0"
        ),
        "      0  eth0  ipv4          ip_output                    ipv4/output.py:301",
        "      0  eth0  neighbour    neigh_resolve_output          neighbour/table.py:333  queued: state INCOMPLETE",
        "41.2 us  eth0  neighbour    neigh_resolve_output          neighbour/table.py:333  sent: state REACHABLE",
        "41.2 us  eth0  device      __dev_queue_xmit               device/core.py:404",
        "41.2 us  eth0  device      e1000_xmit_frame               device/e1000.py:164  slot 12, cmd EOP|TXSM",
    ]


def test_drops_are_there_with_their_reason() -> None:
    ((_, about),) = read(written(dropped()))
    assert about.direction == 1 and about.ifname == b"eth0"
    first, *_, last = said(about.comments)
    assert first == "#7  dropped: NO_SOCKET"
    assert last.split("  ")[-1] == "NO_SOCKET: counters Udp.NoPorts, icmp 3/3 port unreachable"
    assert last.split()[2:4] == ["udp", "kfree_skb_reason"], "on the floor where it was"


def test_an_interface_for_each_device_and_host() -> None:
    journeys = [
        journey(way_in(dev="eth0")), journey(way_in(dev="eth1")), journey(way_out()), across(),
        journey([step("UDP_SENDMSG", 0)], "dropped", "IP_OUTNOROUTES"),
    ]  # fmt: skip
    found = [(about.ifname, about.direction) for _, about in read(written(*journeys))]
    assert found == [(b"eth0", 1), (b"eth1", 1), (b"eth0", 2), (b"a:eth0", 2), (b"none", 2)]


def test_in_from_the_first_device_and_out_on_the_last() -> None:
    through = [*way_in(dev="eth0")[:3], step("IP_FORWARD", 0, "", "eth1"), step("DEV_QUEUE_XMIT", 0, "", "eth1")]
    out = [step("UDP_SENDMSG"), step("IP_OUTPUT", 0, "", "lo"), step("DEV_QUEUE_XMIT", 0, "", "eth1")]
    found = [(about.ifname, about.direction) for _, about in read(written(journey(through), journey(out)))]
    assert found == [(b"eth0", 1), (b"eth1", 2)]


def test_a_frame_that_was_cut_tells_how_long_it_was() -> None:
    long = sent()
    long.length = 1514
    ((data, about),) = read(written(long))
    assert data == FRAME and about.wirelen == 1514


def test_each_packet_is_in_the_file_at_once(tmp_path: Path) -> None:
    with (tmp_path / "trace").open("wb") as file:
        output = TracePcapng(file, Known())
        for count in (1, 2):
            output.write(sent())
            assert len(read((tmp_path / "trace").read_bytes())) == count


def test_hosts_are_named_where_there_are_several() -> None:
    ((_, about),) = read(written(across()))
    places = [line.split()[1 if line.startswith(" " * 6) else 2] for line in said(about.comments)[1:]]
    assert {"a:eth0", "r:eth0", "r:eth1", "b:eth0"} <= set(places)


def test_the_longest_journey_fits() -> None:
    steps = [step("NF_HOOK_SLOW", at, "router", "eth0", "ACCEPT", {"hook": "LOCAL_OUT"}) for at in range(STEPS_MAX)]
    ((_, about),) = read(written(journey(steps)))
    assert len(about.comments) == STEPS_MAX + 1
    steps = [step("NF_HOOK_SLOW")] * 3
    ((_, about),) = read(written(journey(steps, lost=9)))
    assert about.comments[-1] == b"9 more steps were not kept"


def test_tshark_reads_it(tmp_path: Path) -> None:
    if shutil.which("tshark") is None:
        pytest.skip("not installed: tshark")
    file = tmp_path / "trace.pcapng"
    file.write_bytes(written(sent(), dropped(), across()))
    fields = ["frame.interface_name", "frame.time_epoch", "udp.dstport", "frame.comment"]
    command = ["tshark", "-n", "-r", str(file), "-T", "json", *(word for field in fields for word in ("-e", field))]
    done = subprocess.run(
        [*command, "-Y", 'frame.comment contains "dropped"'], capture_output=True, text=True, check=True
    )
    (only,) = json.loads(done.stdout)
    comments = only["_source"]["layers"].pop("frame.comment")
    assert only["_source"]["layers"] == {
        "frame.interface_name": ["eth0"],
        "frame.time_epoch": ["1800000000.000000000"],
        "udp.dstport": ["4747"],
    }
    ((_, about),) = read(written(dropped()))
    assert comments == said(about.comments)
