"""The laboratories that come with ustack: they run, they say what happened, and they say it every time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ustack.lab import Network, load

LABS = Path(__file__).resolve().parent.parent.parent / "labs"
pytestmark = pytest.mark.skipif(not LABS.is_dir(), reason="the tests stand alone here, beside no laboratories")
FILES = sorted(LABS.glob("*.toml"))


def run(name: str) -> Network:
    network = Network(load(LABS / f"{name}.toml"))
    assert network.run(), network.failures
    return network


def texts(network: Network) -> list[str]:
    """Ports that were chosen by chance are named PORT."""
    return [re.sub(r":(3[2-9]|[45]\d|60)\d{3}\b", ":PORT", f"{line.host}: {line.text}") for line in network.log]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_runs_and_runs_the_same_way_again(file: Path) -> None:
    first, second = run(file.stem), run(file.stem)
    assert list(first.log) == list(second.log) != []
    assert first.title
    assert [node.stack.unaccounted() for node in first.nodes()] == [0] * len(first.nodes())


def test_there_are_those_that_the_texts_tell_of() -> None:
    assert {file.stem for file in FILES} >= {"muffin", "policy", "tcp-client", "kernel"}


def test_the_muffin_arrives() -> None:
    network = run("muffin")
    assert texts(network) == [
        "b: waiting at UDP port 4747",
        "a: b is 192.0.2.2",
        'a: sent "muffin" to 192.0.2.2:4747',
        'b: received "muffin" from 192.0.2.1:PORT',
    ]
    sent, received = network.log[2].now, network.log[3].now
    assert 30_000 <= received - sent < 35_000  # two cables of 5 us: ARP there, back, and the muffin there
    switch = network.switches["switch"].bridge
    assert int(switch.fdb.n_learned) == 2
    assert network.hosts["b"].stack.net.mib.udp.InDatagrams == 1


def test_the_tcp_client_gets_its_answer() -> None:
    network = run("tcp-client")
    assert texts(network) == [
        "server: listening at TCP port 9999",
        "client: connected to 203.0.113.2:9999 from 192.0.2.2:PORT",
        'client: wrote "This is test\\n"',
        "server: accepted 192.0.2.2:PORT",
        'server: read "This is test\\n", wrote "Test passed\\n"',
        'client: read "Test passed\\n"',
        "client: closed",
        "server: 192.0.2.2:PORT has closed",
    ]
    client = network.hosts["client"].stack.net.mib
    assert (client.tcp.ActiveOpens, client.tcp.RetransSegs, client.tcp.EstabResets) == (1, 0, 0)
    for name in ("r1", "r2"):
        mib = network.hosts[name].stack.net.mib
        assert mib.ip.ForwDatagrams == client.ip.OutRequests + client.ip.InReceives
        assert mib.ip.InDelivers == 0


def test_rule_and_hook_do_what_the_policy_says() -> None:
    network = run("policy")
    said = texts(network)
    assert "office: 3 packets transmitted, 3 received, 0% packet loss" in said
    assert "phone: 6 packets transmitted, 4 received, 33% packet loss" in said
    times = {
        host: [float(found[1]) for text in said if (found := re.match(rf"{host}: 64 .*time=([\d.]+) ms", text))]
        for host in ("office", "phone")
    }
    assert max(times["office"]) < 20 < 60 < min(times["phone"])
    slow = network.hosts["r1"].devices["eth2"]
    assert slow.stats.rx_bytes > 300_000  # what the phone fetched
