"""ip monitor: changes as they come."""

from __future__ import annotations

import json
import re

import pytest

from tests.cli.ip.recorder import US0, Recorder, ip, mistake
from tests.cli.ip.test_route import GATEWAY, made
from ustack.rtnl.messages import Addr, Event, Link, Neigh, Netconf, Nexthop, Rule

MAC = "    link/ether 02:00:00:00:00:01 brd ff:ff:ff:ff:ff:ff\n"
EVENTS = [
    Event(Addr(ifindex=2, local=ip("192.0.2.5"), scope=0, label="us0", flags=0x80)),
    Event(made(gateway=GATEWAY, ifindex=2)),
    Event(made(gateway=GATEWAY, ifindex=3), deleted=True),
    Event(Rule(priority=5, table=7), deleted=True),
    Event(Neigh(ifindex=2, dst=GATEWAY, state=0x20), deleted=True),
    Event(Neigh(ifindex=2, dst=GATEWAY, state=0x01), asked=True),
    Event(Nexthop(id=5, ifindex=2, scope=254)),
    Event(US0),
    Event(Netconf(name="net.ipv4.conf.us0.forwarding", value="1")),
    Event(Netconf(name="net.ipv4.conf.all.rp_filter", value="2")),
]
LINES = [
    "2: us0    inet 192.0.2.5/32 scope global us0\n       valid_lft forever preferred_lft forever\n",
    "10.1.0.0/16 via 192.0.2.1 dev us0 \n",
    "Deleted 10.1.0.0/16 via 192.0.2.1 dev us1 \n",
    "Deleted 5:\tfrom all lookup 7\n",
    "Deleted 192.0.2.1 dev us0 FAILED \n",
    "miss 192.0.2.1 dev us0 INCOMPLETE \n",
    "id 5 dev us0 scope host \n",
    f"2: us0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc pfifo state UP group default \n{MAC}",
    "inet us0 forwarding on \n",
    "inet all rp_filter loose \n",
]
LABELS = ["ADDR", "ROUTE", "ROUTE", "RULE", "NEIGH", "NEIGH", "NEXTHOP", "LINK", "NETCONF", "NETCONF"]


@pytest.fixture
def recorder() -> Recorder:
    made_up = Recorder()
    made_up.to_come = list(EVENTS)
    return made_up


def test_everything(recorder: Recorder) -> None:
    assert recorder.shows("monitor") == "".join(LINES)
    assert recorder.kinds == []


def test_labels(recorder: Recorder) -> None:
    labelled = "".join(f"[{label}]{line}" for label, line in zip(LABELS, LINES, strict=True))
    assert recorder.shows("monitor all") == recorder.shows("monitor label") == labelled


@pytest.mark.parametrize(
    ("line", "kinds"),
    [
        ("route", ["route"]), ("ro ru", ["route", "rule"]), ("a li n nex netc", ["addr", "link", "neigh", "nexthop",
                                                                                "netconf"]),
    ],
)  # fmt: skip
def test_what_is_watched(recorder: Recorder, line: str, kinds: list[str]) -> None:
    recorder.shows(f"monitor {line}")
    assert recorder.kinds == kinds


def test_one_device(recorder: Recorder) -> None:
    """Rules have none."""
    assert recorder.shows("monitor dev us1") == "Deleted 10.1.0.0/16 via 192.0.2.1 \nDeleted 5:\tfrom all lookup 7\n"
    recorder.to_come = list(EVENTS)
    assert recorder.shows("monitor dev us0").endswith("inet us0 forwarding on \n")


def test_a_dot_in_a_devices_name() -> None:
    """Which sysctl's name has as a slash."""
    recorder = Recorder(Link(ifindex=4, name="us0.5", flags=0, mtu=1500, operstate="DOWN"))
    for line in ("monitor", "monitor dev us0.5"):
        recorder.to_come = [Event(Netconf(name="net.ipv4.conf.us0/5.forwarding", value="1"))]
        assert recorder.shows(line) == "inet us0.5 forwarding on \n"


def test_names_are_learned() -> None:
    recorder = Recorder()
    renamed = Link(ifindex=9, name="new", flags=0, mtu=1500, operstate="DOWN")
    recorder.to_come = [Event(renamed), Event(made(ifindex=9)), Event(renamed, deleted=True), Event(made(ifindex=9))]
    assert [line for line in recorder.shows("-o monitor").splitlines() if "10.1" in line] == [
        "10.1.0.0/16 dev new ", "10.1.0.0/16 dev if9 ",
    ]  # fmt: skip


def test_one_object_a_line_in_json(recorder: Recorder) -> None:
    found = [json.loads(line) for line in recorder.shows("-j monitor").splitlines()]
    assert len(found) == len(EVENTS)
    assert found[1] == {"dst": "10.1.0.0/16", "gateway": "192.0.2.1", "dev": "us0", "flags": []}
    assert [event.get("deleted", False) for event in found] == [event.deleted for event in EVENTS]
    assert ["miss" in event for event in found] == [event.asked for event in EVENTS]
    assert found[-1] == {"family": "inet", "interface": "all", "rp_filter": "loose"}


def test_when(recorder: Recorder) -> None:
    assert re.match(r"\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\] 2: us0 ", recorder.shows("-ts monitor"))
    assert re.match(r"Timestamp: \w{3} \w{3} [ \d]\d [\d:]{8} \d{4} \d{6} usec\n2: us0 ", recorder.shows("-t monitor"))


def test_what_was_missed_is_told() -> None:
    recorder = Recorder()
    recorder.to_come = [Event(made(ifindex=2), lost=7)]
    assert recorder.run("monitor") == (0, "10.1.0.0/16 dev us0 \n", "7 changes were missed\n")


def test_mistakes() -> None:
    assert mistake("monitor foo") == (255, 'Argument "foo" is unknown, try "ip monitor help".\n')
    assert mistake("monitor dev us9") == (1, 'Device "us9" does not exist.\n')
    assert mistake("monitor help")[0] == 255
