"""From a seed to a world: devices, addresses, routes, next-hop objects, rules, settings; and many mistakes.

Nothing keeps a generated command from being refused: what each side says to it is compared too. Values come from small
pools, so that commands meet: duplicates, secondaries, equal prefixes, gateways that are reachable only sometimes.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from tests.oracle.generate_rules import RuleWriter
from tests.oracle.world import Device, World, addr_number, addr_text

if TYPE_CHECKING:
    from collections.abc import Callable

#: Where addresses and routes come from; nothing is sent there.
POOLS: Final = [addr_number(text) for text in ("192.0.2.0", "198.51.100.0", "203.0.113.0", "10.0.0.0", "10.1.0.0")]
#: Names alone: once a batch of iproute2 6.1 has read a number there, it takes it for the name before it.
PROTOCOLS: Final = ["static", "kernel", "boot", "bird"]
TYPES: Final = ["local", "broadcast", "multicast", "blackhole", "unreachable", "prohibit", "throw", "unicast"]
PRIVATE_TABLES: Final = ["100", "200", "300", "4096"]
TABLES: Final = ["main", "main", "main", "main", "local", "default", *PRIVATE_TABLES]
ROUTE_VERBS: Final = [("add", 55), ("append", 10), ("prepend", 4), ("replace", 10), ("change", 5), ("del", 14)]
METRICS: Final = [
    *("mtu 1400", "mtu lock 1300", "advmss 1000", "window 4000", "initcwnd 20", "initrwnd 30", "rto_min 200ms"),
    *("hoplimit 9", "quickack 1", "congctl reno", "rtt 100ms", "ssthresh 7", "cwnd lock 8", "reordering 5"),
]
ABSURD: Final = ["mtu 70000", "hoplimit 300", "advmss 80000", "quickack 7", "congctl nothing", "features 99"]
SWITCHES: Final = ["forwarding", "accept_local", "route_localnet", "ignore_routes_with_linkdown", "bc_forwarding",
                   "promote_secondaries", "src_valid_mark", "shared_media", "send_redirects"]  # fmt: skip


class Writer:
    """Writes commands for one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        count = self.random.randint(2, 5)
        devices = [Device(f"v{at}", at + 2, 0x0200_0000_0000 | at + 2) for at in range(count)]
        self.world = World(seed, devices)
        self.names = [dev.name for dev in devices]
        self.networks: list[tuple[int, int, str]] = []  #: what addresses were asked for: where gateways lie
        self.addresses: list[tuple[str, int, int]] = []
        self.prefixes: list[str] = []
        self.routes: list[str] = []
        self.nexthops: list[int] = []
        self.nexthops_have_metrics = self.random.random() < 0.5  #: the routes that use them
        self.rules = RuleWriter(self.random, self.names, self.pooled)

    # -- words

    def maybe(self, chance: float, words: str) -> str:
        return " " + words if self.random.random() < chance else ""

    def device(self) -> str:
        if self.random.random() < 0.03:
            return self.random.choice(["lo", "nodev"])
        return self.random.choice(self.names)

    def pooled(self) -> int:
        """Some address near the others."""
        base = self.random.choice(POOLS)
        return base | self.random.choice([self.random.randrange(256), self.random.randrange(4)])

    def own(self) -> int:
        """One of ours, most likely."""
        return self.random.choice(self.addresses)[1] if self.addresses else self.pooled()

    def gateway(self) -> tuple[str, str]:
        """Mostly on the link of that device, sometimes of another or of none, or none that may be.

        no-gateway: never 0.
        """
        dice = self.random.random()
        if dice < 0.9 and self.networks:
            network, length, name = self.random.choice(self.networks)
            gateway = addr_text((network or 10 << 24) + self.random.randrange(min(1 << (32 - length), 16)))
            return gateway, name if dice < 0.8 else self.device()
        if dice < 0.96:
            return addr_text(self.pooled()), self.device()
        never = self.random.choice(["224.0.0.5", "255.255.255.255", "127.0.0.1", "240.0.0.1"])
        return never, self.device()

    def prefix(self) -> str:
        """A route's destination; often one that there is already."""
        if self.prefixes and self.random.random() < 0.3:
            return self.random.choice(self.prefixes)
        dice = self.random.random()
        if dice < 0.08:
            found = self.random.choice(["default", "0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1"])
        else:
            length = self.random.choice([8, 9, 12, 15, 16, 20, 22, 23, 24, 24, 25, 26, 28, 29, 30, 31, 32, 32])
            mask = 0xFFFF_FFFF << (32 - length) & 0xFFFF_FFFF
            addr = self.pooled() & (0xFFFF_FFFF if self.random.random() < 0.02 else mask)
            found = addr_text(addr) if length == 32 and self.random.random() < 0.5 else f"{addr_text(addr)}/{length}"
        self.prefixes.append(found)
        return found

    # -- commands

    def address(self) -> str:
        dice = self.random.random()
        if self.addresses and dice < 0.16:
            name, local, length = self.random.choice(self.addresses)
            return f"addr del {addr_text(local)}/{length} dev {name}"
        name = self.device()
        if dice < 0.18:
            return f"addr flush dev {name}"
        verb = self.random.choice(["add"] * 8 + ["replace", "change"])
        length = self.random.choice([8, 16, 22, 24, 24, 24, 25, 26, 28, 29, 30, 31, 32])
        local = self.own() + self.random.choice([0, 1, 3]) if self.random.random() < 0.3 else self.pooled()
        mask = 0xFFFF_FFFF << (32 - length) & 0xFFFF_FFFF
        command = f"addr {verb} {addr_text(local)}"
        if self.random.random() < 0.1:
            peer = self.pooled()
            command += f" peer {addr_text(peer)}/{length}"
            self.networks.append((peer & mask, length, name))
        else:
            command += f"/{length}"
            self.networks.append((local & mask, length, name))
        self.addresses.append((name, local, length))
        command += self.maybe(0.3, self.random.choice(["brd +", "brd -", f"brd {addr_text(self.pooled())}"]))
        command += f" dev {name}" + self.maybe(0.12, "scope " + self.random.choice(["link", "host", "site", "global"]))
        command += self.maybe(0.08, "noprefixroute") + self.maybe(0.08, f"metric {self.random.choice([0, 50, 1024])}")
        return command + self.maybe(0.05, f"label {name}:{self.random.randrange(3)}")

    def hop(self) -> str:
        """via and dev, one of them or both."""
        dice = self.random.random()
        if dice < 0.2:
            return f"dev {self.device()}"
        gateway, name = self.gateway()
        return f"via {gateway}" if dice < 0.6 else f"via {gateway} dev {name}{self.maybe(0.15, 'onlink')}"

    def route(self) -> str:
        """add and its like, or del of one that was asked for, or of any."""
        verb = self.random.choices([verb for verb, _ in ROUTE_VERBS], [weight for _, weight in ROUTE_VERBS])[0]
        if verb == "del" and self.routes and self.random.random() < 0.7:
            words = self.random.choice(self.routes)
            if self.random.random() < 0.4:
                words = " ".join(words.split()[: 1 if words[0].isdigit() else 2])
            return f"route del {words}"
        words = self.route_words()
        self.routes.append(words)
        return f"route {verb} {words}"

    def route_words(self) -> str:
        rtype = self.random.choice(TYPES) if self.random.random() < 0.3 else ""
        prefix = self.prefix()
        if rtype == "multicast":
            prefix = self.random.choice(["224.0.0.0/4", "239.1.0.0/16", "232.0.0.1", prefix])
        words = f"{rtype} {prefix}" if rtype else prefix
        words += self.maybe(0.15, f"tos {self.random.choice(['0x04', '0x08', '0x10', '0x1c', '0xb8', '0x03'])}")
        words += self.maybe(0.35, f"table {self.random.choice(TABLES)}")
        words += self.maybe(0.4, f"metric {self.random.choice([0, 1, 10, 10, 20, 4294967295])}")
        words += self.maybe(0.15, f"scope {self.random.choice(['global', 'site', 'link', 'host', 'nowhere'])}")
        words += self.maybe(0.15, f"proto {self.random.choice(PROTOCOLS)}")
        words += self.maybe(0.2, f"src {addr_text(self.own() if self.random.random() < 0.9 else self.pooled())}")
        first, second = self.random.sample(METRICS, 2)
        metrics = self.maybe(0.2, first)
        # metric-twice: never
        metrics += self.maybe(0.1, second) if first.split()[0] != second.split()[0] else ""
        metrics += self.maybe(0.02, self.random.choice(ABSURD))
        hops = self.hops(rtype)
        if "nhid" in hops:
            # nhid-metrics: either all have some or none
            metrics = " " + self.random.choice(METRICS) if self.nexthops_have_metrics else ""
        return words + metrics + hops

    def hops(self, rtype: str) -> str:
        """Where a route leads to."""
        dice = self.random.random()
        if rtype in ("blackhole", "unreachable", "prohibit", "throw"):
            return "" if dice < 0.95 else " " + self.hop()
        if rtype in ("local", "broadcast"):
            return f" dev {self.device()}" if dice < 0.9 else " " + self.hop()
        if self.nexthops and dice < 0.15:
            return f" nhid {self.random.choice([*self.nexthops, 99])}"
        if dice < 0.32:
            count = self.random.randint(1, 4)
            return "".join(f" nexthop {self.hop()}{self.maybe(0.6, f'weight {self.weight()}')}" for _ in range(count))
        return " " + self.hop() if dice < 0.99 else ""

    def weight(self) -> int:
        return self.random.choice([1, 1, 2, 3, 10, 256])

    def nexthop(self) -> str:
        """Next-hop objects and groups of them."""
        number = self.random.choice([1, 2, 3, 4, 5, 6, 7, 8, 20, 21, 22])
        dice = self.random.random()
        if dice < 0.12:
            return f"nexthop del id {number}"
        verb = "replace" if dice < 0.25 else "add"
        if number >= 20:
            chosen = self.random.sample([1, 2, 3, 4, 5, 6, 7, 8], self.random.randint(1, 4))
            members = "/".join(f"{one}{self.random.choice(['', ',1', ',5', ',200'])}" for one in chosen)
            words = f"id {number} group {members}"
        elif dice > 0.92:
            words = f"id {number} blackhole"
        else:
            words = f"id {number} {self.nexthop_hop()}"
        self.nexthops.append(number)
        return f"nexthop {verb} {words}{self.maybe(0.1, 'proto static')}"

    def nexthop_hop(self) -> str:
        dice = self.random.random()
        if dice < 0.2:
            return f"dev {self.device()}"
        gateway, name = self.gateway()
        return f"via {gateway}" if dice < 0.25 else f"via {gateway} dev {name}{self.maybe(0.2, 'onlink')}"

    def sysctl(self) -> str:
        dice = self.random.random()
        where = self.random.choice(["all", "default", "lo", *self.names, *self.names])
        if dice < 0.3:
            return f"sysctl net.ipv4.conf.{where}.rp_filter={self.random.choice([0, 1, 1, 2])}"
        if dice < 0.45:
            return f"sysctl net.ipv4.fib_multipath_hash_policy={self.random.choice([0, 1])}"
        if dice < 0.55:
            return f"sysctl net.ipv4.ip_forward={self.random.choice([0, 1, 1])}"
        return f"sysctl net.ipv4.conf.{where}.{self.random.choice(SWITCHES)}={self.random.choice([0, 1, 1])}"

    def link(self) -> str:
        name = self.random.choice(self.names)
        dice = self.random.random()
        if dice < 0.35:
            return f"carrier {name} {self.random.choice(['on', 'off'])}"
        if dice < 0.85:
            return f"link set dev {name} {self.random.choice(['up', 'up', 'down'])}"
        return f"link set dev {name} mtu {self.random.choice([1500, 1400, 900, 68, 67, 60])}"

    def flush(self) -> str:
        """Many at once, by what they have in common. flush-nhid: not where some may have a next-hop object."""
        if self.nexthops:
            return f"nexthop flush dev {self.random.choice(self.names)}"
        return self.random.choice(
            [
                f"route flush table {self.random.choice(PRIVATE_TABLES)}",
                f"route flush dev {self.random.choice(self.names)}",
                "route flush proto static",
                f"route flush root {addr_text(self.random.choice(POOLS))}/16",
            ]
        )

    # -- worlds

    def write(self) -> World:
        """Addresses first, then everything mixed."""
        size = self.random.choice([30, 80, 150, 300, 500])
        commands = ["sysctl net.ipv4.ip_forward=1"] if self.random.random() < 0.7 else []
        commands += [self.sysctl() for _ in range(self.random.randint(0, 8))]
        commands += [self.address() for _ in range(self.random.randint(2, 10))]
        if self.random.random() < 0.6:
            commands.append("route add default via {} dev {}".format(*self.gateway()))
        commands += [self.nexthop() for _ in range(self.random.choice([0, 6, 12]))]
        rules = self.random.choice([0.0, 0.0, 0.06, 0.15])
        kinds: list[tuple[Callable[[], str], float]] = [
            (self.route, 1.0),
            (self.rules.rule, rules),
            (self.address, 0.05),
            (self.nexthop, 0.04),
            (self.sysctl, 0.03),
            (self.link, self.random.choice([0.0, 0.02])),
            (self.flush, 0.004),
        ]
        for writer in self.random.choices([kind for kind, _ in kinds], [weight for _, weight in kinds], k=size):
            commands.append(writer())
        self.world.commands = commands
        return self.world


def generate(seed: int) -> World:
    """The world of that seed, the same one each time."""
    return Writer(seed).write()
