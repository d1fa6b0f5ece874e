"""A laboratory built by a program: who hears whom, what is the same every time, what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ustack.inet.family import SOCK_DGRAM
from ustack.lab import Network, Spec, SpecError, load
from ustack.lab.spec import parse
from ustack.trace.journey import Journey, TraceWatcher
from ustack.wire.ethernet import mac_to_str

if TYPE_CHECKING:
    from pathlib import Path

    from ustack.lab.host import Host
    from ustack.lab.network import Line


def star(seed: int = 1, **cable: object) -> Network:
    """a, b and c around a switch."""
    network = Network(seed=seed)
    sw = network.switch("sw")
    for number, name in enumerate("abc", 1):
        network.cable(network.host(name, addr=f"192.0.2.{number}/24"), sw, delay="1ms", **cable)
    return network


def texts(network: Network) -> list[str]:
    return [f"{line.host}: {line.text}" for line in network.log]


# -- who hears whom


def test_a_ping_across_a_switch() -> None:
    network = star()
    network.hosts["a"].run("ping", "192.0.2.2", 2)
    assert network.run()
    assert texts(network) == [
        "a: PING 192.0.2.2 (192.0.2.2) 56(84) bytes of data.",
        "a: 64 bytes from 192.0.2.2: icmp_seq=1 time=8.000 ms",  # ARP and back, ICMP and back, 1 ms for each cable
        "a: 64 bytes from 192.0.2.2: icmp_seq=2 time=4.000 ms",
        "a: 2 packets transmitted, 2 received, 0% packet loss",
    ]


def test_the_switch_learns_and_c_hears_only_what_is_for_all() -> None:
    network = star()
    network.hosts["a"].run("ping", "192.0.2.2", 2)
    network.run()
    fdb = network.switches["sw"].bridge.fdb
    known = {mac_to_str(int(e.mac)): e.port.dev.name for e in fdb.entries() if not e.local and e.port is not None}
    a, b = (network.hosts[name].devices["eth0"] for name in "ab")
    assert known == {mac_to_str(int(a.mac)): "eth0", mac_to_str(int(b.mac)): "eth1"}
    c = network.hosts["c"].devices["eth0"]
    assert (c.stats.rx_packets, c.stats.tx_packets) == (1, 0)  # the question who has 192.0.2.2


def test_addresses_of_nics_say_whose_they_are() -> None:
    network = star()
    macs = [mac_to_str(int(dev.mac)) for node in network.nodes() for dev in node.devices.values()]
    assert macs == [
        "02:00:00:01:00:00", "02:00:00:01:00:01", "02:00:00:01:00:02",
        "02:00:00:02:00:00", "02:00:00:03:00:00", "02:00:00:04:00:00",
    ]  # fmt: skip


def test_sockets_that_block_let_time_pass() -> None:
    network = star()
    a, b = network.hosts["a"], network.hosts["b"]
    with b.sock() as server, a.sock() as client:
        server.bind(("", 80))
        server.listen()
        client.connect(("192.0.2.2", 80))
        child, peer = server.accept()
        client.sendall(b"hello")
        assert child.recv(100) == b"hello"
        assert peer[0] == "192.0.2.1"
        child.close()
        assert client.recv(100) == b""
    assert network.lab.now > 0
    with a.sock(SOCK_DGRAM) as deaf:
        deaf.settimeout(2)
        before = int(network.lab.now)
        with pytest.raises(TimeoutError):
            deaf.recv(100)
        assert int(network.lab.now) == before + 2 * 10**9


def test_services_are_those_of_the_daemon() -> None:
    network = star()
    server = network.host("web", addr="192.0.2.9/24", serve=["echo", "http"])
    network.cable(server, "sw")
    with network.hosts["a"].sock() as client:
        client.connect(("192.0.2.9", 80))
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert client.recvall().startswith(b"HTTP/1.1 200 OK")
    with network.hosts["b"].sock() as client:
        client.connect(("192.0.2.9", 7))
        client.sendall(b"again")
        assert client.recv(100) == b"again"


def test_routes_rules_and_settings_in_the_words_of_ip() -> None:
    network = Network()
    host = network.host(
        "r",
        addr={"eth0": "192.0.2.1/24", "eth1": "198.51.100.1/24"},
        forward=True,
        gateway="192.0.2.254",
        routes=["203.0.113.0/24 via 198.51.100.2 dev eth1 metric 5", "blackhole 203.0.113.128/25"],
        rules=["from 192.0.2.7 table 100 priority 1000"],
        sysctl={"net.ipv4.ip_default_ttl": 32},
    )
    assert host.stack.sysctl.get("net.ipv4.ip_forward") == "1"
    assert host.stack.sysctl.get("net.ipv4.ip_default_ttl") == "32"
    assert host.ip("route show").splitlines() == [
        "default via 192.0.2.254 dev eth0 linkdown ",
        "192.0.2.0/24 dev eth0 proto kernel scope link src 192.0.2.1 linkdown ",
        "198.51.100.0/24 dev eth1 proto kernel scope link src 198.51.100.1 linkdown ",
        "203.0.113.0/24 via 198.51.100.2 dev eth1 metric 5 linkdown ",
        "blackhole 203.0.113.128/25 ",
    ]
    assert "1000:\tfrom 192.0.2.7 lookup 100" in host.ip("rule show")


def test_a_hook_sees_what_passes() -> None:
    network = star()
    seen: list[str] = []

    def look(state: object) -> int:
        seen.append("packet")
        return 1  # NF_ACCEPT

    network.hosts["b"].hook("LOCAL_IN", look)
    network.hosts["a"].run("ping", "192.0.2.2", 3)
    network.run()
    assert len(seen) == 3


# -- the same every time


def story(seed: int) -> tuple[list[Line], list[dict[str, int]], list[tuple[int, int, int, int]]]:
    """What was said, every counter, and what the cables did, of a run over bad cables."""
    network = star(seed, loss="10%", jitter="500us", duplicate="5%", reorder="5%", rate="10mbit")
    network.hosts["b"].run("bulk-recv", 5001)
    network.hosts["a"].run("bulk-send", "192.0.2.2", 5001, 300_000)
    network.hosts["c"].run("ping", "192.0.2.1", 10, 0.1)
    assert network.run()
    cables = [
        (int(lane.stats.sent), int(lane.stats.lost), int(lane.stats.duplicated), int(lane.stats.delivered))
        for cable in network.cables
        for lane in (cable.there, cable.back)
    ]
    return list(network.log), [node.stack.net.mib.snapshot() for node in network.nodes()], cables


def test_the_same_seed_gives_the_same_run_and_another_one_another() -> None:
    first = story(1)
    assert sum(lost for _, lost, _, _ in first[2]) > 0
    assert story(1) == first
    other = story(2)
    assert other[0] != first[0]
    assert other[2] != first[2]


def test_the_description_has_the_seed_unless_one_is_given() -> None:
    assert Network(Spec(seed=5)).seed == 5
    assert Network(Spec(seed=5), seed=0).seed == 0
    assert (
        Network(Spec(seed=5)).seed_of("a") != Network(Spec(seed=6)).seed_of("a") != Network(Spec(seed=6)).seed_of("b")
    )


def test_every_stacks_books_balance() -> None:
    network = star(3, loss="10%")
    network.hosts["b"].run("bulk-recv", 5001)
    network.hosts["a"].run("bulk-send", "192.0.2.2", 5001, 100_000)
    network.run()
    assert [node.stack.unaccounted() for node in network.nodes()] == [0, 0, 0, 0]


# -- loops


def triangle(delay: str) -> Network:
    network = Network(Spec(allow_loops=True))
    for name in ("s1", "s2", "s3"):
        network.switch(name)
    network.cable("s1", "s2", delay=delay)
    network.cable("s2", "s3", delay=delay)
    network.cable("s3", "s1", delay=delay)
    network.cable(network.host("a", addr="192.0.2.1/24"), "s1")
    return network


def test_a_loop_is_refused_unless_it_is_asked_for() -> None:
    with pytest.raises(SpecError, match="a loop of switches, and they have no spanning tree"):
        parse(
            b"[[switch]]\nname = 's1'\n[[switch]]\nname = 's2'\n"
            b"[[cable]]\nends = ['s1', 's2']\n[[cable]]\nends = ['s1', 's2']"
        )
    network = Network()
    network.switch("s1")
    network.switch("s2")
    network.cable("s1", "s2")
    with pytest.raises(SpecError, match="a loop of switches"):
        network.cable("s2", "s1")


def test_in_a_loop_a_broadcast_goes_round_until_the_end_of_time() -> None:
    """As it would between real switches without a spanning tree; the run ends when it was told to."""
    network = triangle("1ms")
    network.hosts["a"].run("ping", "192.0.2.99", 1)
    assert not network.run("2s")
    assert network.lab.now < 2 * 10**9  # ping gave up after a second
    rounds = network.switches["s1"].devices["eth0"].stats.rx_packets
    assert 333 < rounds < 1000
    assert network.switches["s1"].bridge.fdb.stats.moved > 333  # the station seems to be everywhere


def test_in_a_loop_of_no_length_time_stands_still_and_that_is_said() -> None:
    network = triangle("0")
    network.lab.max_rounds = 1000
    network.hosts["a"].run("ping", "192.0.2.99", 1)
    with pytest.raises(RuntimeError, match="no progress at"):
        network.run("2s")


# -- ports and cables


def test_ports_are_taken_in_turn_or_by_name() -> None:
    network = Network()
    a = network.host("a", addr={"eth0": "192.0.2.1/24", "wan": "198.51.100.1/24"})
    sw = network.switch("sw")
    assert [bool(dev.carrier) for dev in a.devices.values()] == [False, False]
    network.cable("a:wan", sw)
    assert [bool(dev.carrier) for dev in a.devices.values()] == [False, True]
    network.cable(a, sw)
    network.cable(a, "sw:uplink")
    assert list(a.devices) == ["eth0", "wan", "eth2"]
    assert list(sw.devices) == ["eth0", "eth1", "uplink"]
    with pytest.raises(SpecError, match=r"cable \(a:wan - sw\): a:wan has a cable already"):
        network.cable("a:wan", sw)


def test_a_tap_takes_a_port() -> None:
    network = star()
    port = network.tap("us0", "sw", host_addr="192.0.2.100/24")
    assert (port.name, port.node.name, port.dev.name, port.host_addr, port.offload) == (
        "us0", "sw", "eth3", "192.0.2.100/24", True,
    )  # fmt: skip
    described = Network(parse(b"[[switch]]\nname = 's'\n[[tap]]\nname = 'us1'\nend = 's:up'"))
    assert [(tap.name, tap.dev.name) for tap in described.taps] == [("us1", "up")]


# -- refused


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"nonsense": 1}, "unknown key 'nonsense'"),
        ({"addr": 5}, "addr: expected"),
        ({"addr": ["192.0.2.1/24", "192.0.2.1/24"]}, "host 'x': addr: 192.0.2.1/24: File exists"),
        ({"addr": "192.0.2.1/24", "gateway": "203.0.113.1"},
         "host 'x': gateway: 203.0.113.1: Nexthop has invalid gateway"),
        ({"sysctl": {"net.ipv4.nosuch": 1}}, "host 'x': sysctl: net.ipv4.nosuch = 1: there is no such setting"),
        ({"sysctl": {"net.ipv4.ip_forward": "maybe"}},
         "host 'x': sysctl: net.ipv4.ip_forward = maybe: Invalid argument"),
        ({"routes": ["default via 203.0.113.1"]},
         "host 'x': routes: 'default via 203.0.113.1': Error: Nexthop has invalid gateway."),
        ({"routes": ["default via"]}, "host 'x': routes: 'default via': Command line is not complete."),
        ({"rules": ["from nowhere"]}, "host 'x': rules: 'from nowhere': Error: "),
        ({"hook": [{"point": "FORWARD", "function": "nosuch.py:f"}]},
         "host 'x': hook: function: nosuch.py: no such Python file"),
        ({"program": [{"run": "ping"}]}, "host 'x': program 'ping': missing a required argument: 'name'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_a_line(settings: dict[str, object], said: str) -> None:
    with pytest.raises(SpecError) as raised:
        Network().host("x", **settings)
    assert str(raised.value).startswith(said)
    assert "\n" not in str(raised.value)


def test_names_are_given_once() -> None:
    network = star()
    with pytest.raises(SpecError, match="'a': name: there is a host or switch of that name already"):
        network.switch("a")
    with pytest.raises(SpecError, match="there is no host or switch 'z'"):
        network.cable("a", "z")


def test_files_of_functions_are_found_beside_the_description(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "seen = []\n"
        "async def main(host, word):\n    host.print(word, len(seen))\n"
        "def drop(state):\n    seen.append(1)\n    return 0\n"
        "broken = 5\n"
    )
    (tmp_path / "lab.toml").write_text(
        "[[host]]\nname = 'x'\n[[host.program]]\nrun = 'mine.py:main'\nargs = ['word']\n"
        "[[host.hook]]\npoint = 'LOCAL_OUT'\nfunction = 'mine.py:drop'\n"
    )
    network = Network(load(tmp_path / "lab.toml"))
    assert network.run()
    assert texts(network) == ["x: word 0"]
    for function, said in [
        ("nosuch", "there is no function 'nosuch'"),
        ("broken", "there is no function 'broken'"),
        ("drop", "host 'y': program 'drop': an 'async def' is wanted"),
    ]:
        with pytest.raises(SpecError, match=said):
            Network().host("y", program=[{"run": f"{tmp_path}/mine.py:{function}"}])
    (tmp_path / "mine.py").write_text("1/0")
    with pytest.raises(SpecError, match="mine.py: ZeroDivisionError: division by zero"):
        Network().host("y", program=[{"run": f"{tmp_path}/mine.py:main"}])


# -- looking


class Watcher(TraceWatcher):
    def __init__(self) -> None:
        super().__init__()
        self.journeys: list[Journey] = []

    def matches(self, frame: bytes, length: int) -> bool:
        return b"muffin" in frame

    def journey(self, journey: Journey) -> None:
        self.journeys.append(journey)


def test_a_packet_is_followed_through_the_switch() -> None:
    network = star()
    watcher = Watcher()
    network.journeys.watch(watcher)
    late = network.host("late", addr="192.0.2.4/24")
    network.cable(late, "sw")
    network.hosts["b"].run("udp-recv", 4747)
    network.hosts["a"].run("udp-send", "192.0.2.2", 4747, "muffin")
    assert network.run()
    network.journeys.end_all()
    steps = [(step.host, step.point.linux) for journey in watcher.journeys for step in journey.steps]
    hosts = [host for at, (host, _) in enumerate(steps) if at == 0 or steps[at - 1][0] != host]
    assert hosts == ["a", "sw", "b"]
    assert [name for host, name in steps if name.startswith("br_")] == [
        "br_handle_frame", "br_fdb_update", "br_forward", "br_dev_queue_push_xmit",
    ]  # fmt: skip
    received = {
        step.host: step.decision
        for journey in watcher.journeys
        for step in journey.steps
        if step.point.name == "NETIF_RECEIVE_SKB"
    }
    assert received == {"sw": "to br_handle_frame", "b": "to ip_rcv"}
    assert late.stack.net.tracer is not None
    network.journeys.unwatch(watcher)
    assert late.stack.net.tracer is None


def test_the_log_says_when_and_who(capsys: pytest.CaptureFixture[str]) -> None:
    network = star()
    network.say = print

    async def main(host: Host) -> None:
        await host.sleep(1.5)
        host.print("one", 2)

    network.hosts["a"].run(main)
    assert network.run()
    assert capsys.readouterr().out == "    1.500000  a: one 2\n"
    assert network.log[0] == (1_500_000_000, "a", "main", "one 2")
    assert network.lines == 1
