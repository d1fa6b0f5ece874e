"""A laboratory of a thousand hosts in one process: what it takes to hold and to run, as JSON.

    router ── core switch ── 40 routers, each with a switch and its hosts behind it

Every path from host to host in another network crosses six cables. Times are the processor's.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ustack.lab import spec
from ustack.lab.network import Network
from ustack.wire.ipv4 import addr_to_str

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from ustack.lab.host import Host

#: Hosts in one network.
NETWORK: Final = 25
PORT: Final = 7
#: Requests of every host, and the time between two (s).
REQUESTS: Final = 10
INTERVAL: Final = 0.1
#: Of every host in so many, and what it transfers (bytes).
EVERY: Final = 10
BODY: Final = 5_000_000
#: Of nothing but what hosts do by themselves (s).
IDLE: Final = 3600.0
DELAY: Final = "1ms"


def address(number: int) -> str:
    """Of the host with that number: networks of 64 addresses, the router has the first; of RFC 2544's range."""
    return addr_to_str(0xC6120000 + number // NETWORK * 64 + 2 + number % NETWORK)


def router(network: int) -> str:
    return addr_to_str(0xC6120000 + network * 64 + 1)


def core(network: int) -> str:
    return addr_to_str(0xC6130000 + network + 1)


def described(hosts: int) -> spec.Spec:
    """Every router knows the way to every other network."""
    networks = range((hosts + NETWORK - 1) // NETWORK)
    routes = [(network, f"{addr_to_str(0xC6120000 + network * 64)}/26 via {core(network)}") for network in networks]
    nodes = [spec.Host(name=f"h{n}", addr=f"{address(n)}/26", gateway=router(n // NETWORK)) for n in range(hosts)]
    cables = [spec.Cable(ends=[f"h{n}", f"s{n // NETWORK}"]) for n in range(hosts)]
    switches = [spec.Switch(name="core")]
    for network in networks:
        nodes.append(
            spec.Host(
                name=f"r{network}",
                addr={"eth0": f"{router(network)}/26", "eth1": f"{core(network)}/16"},
                forward=True,
                routes=[text for other, text in routes if other != network],
            )
        )
        switches.append(spec.Switch(name=f"s{network}"))
        cables.append(spec.Cable(ends=[f"r{network}:eth0", f"s{network}"]))
        cables.append(spec.Cable(ends=[f"r{network}:eth1", "core"], delay=DELAY))
    return spec.Spec(host=nodes, switch=switches, cable=cables, until="100h")


def partner(number: int, hosts: int) -> str:
    """A host of another network."""
    return address((number + hosts // 2) % hosts)


async def ask(host: Host, number: int, hosts: int) -> None:
    with host.socket(2) as sock:  # SOCK_DGRAM
        await host.sleep(INTERVAL * number / hosts)
        for _ in range(REQUESTS):
            await sock.sendto(b"muffin", (partner(number, hosts), PORT))
            await sock.recvfrom()
            await host.sleep(INTERVAL)


def resident() -> int:
    """KiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4


def delivered(network: Network) -> int:
    """Frames, on every cable."""
    return sum(int(cable.there.stats.delivered + cable.back.stats.delivered) for cable in network.cables)


def measured(network: Network, until: float | None = None) -> dict[str, float]:
    """Run to the end of the programs, or until then: frames, virtual seconds, the processor's seconds, turns."""
    frames, began, turns = delivered(network), int(network.lab.now), sum(network.lab.polls())
    start = time.process_time()
    if not network.run(until):
        raise RuntimeError(str(network.failures[0]))
    return {
        "seconds": time.process_time() - start,
        "virtual": int(network.lab.now - began) / 1e9,
        "frames": delivered(network) - frames,
        "turns": sum(network.lab.polls()) - turns,
    }


def begin(network: Network, programs: list[tuple[str, Coroutine[Any, Any, object] | str, list[object]]]) -> None:
    for name, program, args in programs:
        network.hosts[name].run(program, *args)  # type: ignore[arg-type]


def main(hosts: int) -> dict[str, object]:
    Network(described(2))  # what the first of all takes is the modules'
    gc.collect()
    before, start = resident(), time.process_time()
    network = Network(described(hosts))
    built = time.process_time() - start
    gc.collect()
    gc.freeze()
    figures: dict[str, object] = {"hosts": hosts, "built": built, "kib": (resident() - before) / hosts}
    numbers = range(hosts)
    for n in numbers:
        network.hosts[f"h{n}"].run("udp-echo", PORT)
        network.hosts[f"h{n}"].run(ask, n, hosts)
    figures["udp"] = measured(network)
    for n in numbers[::EVERY]:
        network.hosts[f"h{n}"].run("bulk-recv", PORT)
        network.hosts[f"h{(n + hosts // 2) % hosts}"].run("bulk-send", address(n), PORT, BODY)
    figures["tcp"] = measured(network)
    idle_until = int(network.lab.now) / 1e9 + IDLE
    network.hosts["h0"].run(sleeper, idle_until)
    figures["idle"] = measured(network)
    return figures


async def sleeper(host: Host, until: float) -> None:
    await host.sleep(until - host.now)


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))
