"""Linux's side: a world in a namespace of its own, built by iproute2, asked over rtnetlink.

The commands go through the real ``ip``: what both sides are given is then the very same text, and what the kernel says
to a bad one stands in the words that people read. Questions and dumps go over netlink, without it.
"""

from __future__ import annotations

import errno
import os
import re
import subprocess
import time
from typing import TYPE_CHECKING, Any, Final

from pyroute2 import IPRoute

from tests.oracle.getroute import RouteAsker, one_processor
from tests.oracle.world import HASH_SEED, Answer
from ustack.io.host import Namespace, write_sysctl

if TYPE_CHECKING:
    from tests.oracle.world import Query, World

#: ``link show`` of a device that is not there: it says its name on stderr, after what the command before it said.
MARK: Final = "link show dev @@"
MARK_ANSWER: Final = re.compile(r'^Device "@@(\d+)" does not exist\.$', re.MULTILINE)
COMMAND_FAILED: Final = re.compile(r"^Command failed -:\d+\n?", re.MULTILINE)
WHERE: Final = ("all", "default", "lo")
#: older-kernel: what who asks for a way is told of a source that fails validation.
OLDER: Final = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) < (6, 13)
#: Nothing may speak unasked; and what a namespace takes over from the machine's own must be what ustack starts with.
START: Final = {
    "net.ipv6.conf.all.disable_ipv6": "1",
    "net.ipv6.conf.default.disable_ipv6": "1",
    "net.ipv4.ip_forward": "0",
    HASH_SEED: "12345",
    **{f"net.ipv4.conf.{where}.{name}": "0" for where in WHERE for name in ("rp_filter", "log_martians")},
    **{f"net.ipv4.conf.{where}.{name}": "1" for where in WHERE for name in ("accept_redirects", "send_redirects")},
}


def ip_batch(commands: list[str]) -> list[str]:
    """What ``ip`` says on stderr to each; "" is success."""
    said: list[str] = []
    while len(said) < len(commands):
        rest = commands[len(said) :]
        lines = "".join(f"{command}\n{MARK}{at}\n" for at, command in enumerate(rest))
        run = subprocess.run(["ip", "-force", "-batch", "-"], input=lines, capture_output=True, text=True)
        pieces = MARK_ANSWER.split(COMMAND_FAILED.sub("", run.stderr))
        said.extend(piece.strip() for piece in pieces[0 : 2 * len(rest) : 2])
    return said


def ip_text(*words: str) -> str:
    """What ``ip`` prints, errors last."""
    run = subprocess.run(["ip", *words], capture_output=True, text=True)
    return run.stdout + run.stderr


class Kernel:
    """A context manager: its namespaces are gone afterwards. ``world.commands`` are not run by themselves."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.inside = Namespace.create()
        self.outside = Namespace.create()
        with self.outside:
            self._start()
        with self.inside:
            self._start()
            failed = [said for said in ip_batch(self._links()) if said]
            self.asker = RouteAsker()
            self.route = IPRoute()
        with self.outside:
            failed += [said for said in ip_batch([f"link set {dev.peer} up" for dev in world.devices]) if said]
            self.outer_route = IPRoute()
        assert not failed, failed
        self._await_carrier({dev.name: True for dev in world.devices})

    def _start(self) -> None:
        for name, value in START.items():
            write_sysctl(name, value)

    def _links(self) -> list[str]:
        links = ["link set lo up"]
        for dev in self.world.devices:
            links.append(
                f"link add {dev.name} index {dev.ifindex} address {dev.mac_text} type veth"
                f" peer name {dev.peer} index {dev.ifindex + 100} netns /proc/{os.getpid()}/fd/{self.outside.fd}"
            )
            links.append(f"link set {dev.name} up")
        return links

    def _await_carrier(self, wanted: dict[str, bool]) -> None:
        """linkwatch tells the routing tables of it a moment later."""
        until = time.monotonic() + 5
        while time.monotonic() < until:
            states = {link.get("ifname"): link.get("operstate") for link in self.route.get_links()}
            if all((states[name] == "UP") == up for name, up in wanted.items()):
                return
            time.sleep(0.001)
        raise TimeoutError(f"carrier: {wanted}, but {states}")

    def run(self, commands: list[str]) -> list[str]:
        """What is said to each, "" where it is done."""
        said: list[str] = []
        batch: list[str] = []
        with self.inside:
            for command in commands:
                if command.split()[0] not in ("sysctl", "carrier") and " flush " not in command:
                    batch.append(command)
                    continue
                said += [*ip_batch(batch), self._alone(command)]
                batch = []
            return said + ip_batch(batch)

    def _alone(self, command: str) -> str:
        """What is no command of ``ip``; and flushes, for in a batch it does not ask strictly for what is there."""
        first, _, rest = command.partition(" ")
        if first == "sysctl":
            return self._sysctl(rest)
        return self._carrier(rest) if first == "carrier" else ip_text(*command.split()).strip()

    def _sysctl(self, setting: str) -> str:
        name, _, value = setting.partition("=")
        try:
            write_sysctl(name, value)
        except OSError as error:
            return error.strerror or str(error)
        return ""

    def _carrier(self, words: str) -> str:
        name, state = words.split()
        dev = next(dev for dev in self.world.devices if dev.name == name)
        index = self.outer_route.link_lookup(ifname=dev.peer)[0]
        self.outer_route.link("set", index=index, state="up" if state == "on" else "down")
        if self.route.get_links(dev.ifindex)[0].get("state") == "up":
            self._await_carrier({name: state == "on"})
        return ""

    def ask(self, queries: list[Query]) -> list[Answer]:
        answers = self.asker.ask(queries)
        if OLDER:
            answers = [Answer(error=errno.EINVAL) if answer.error == errno.EXDEV else answer for answer in answers]
        return answers

    def show(self, words: str) -> str:
        """What ``ip`` prints: ``-4 route show table all``."""
        with self.inside, one_processor():
            text = ip_text(*words.split())
        return text.replace(os.strerror(errno.EXDEV), os.strerror(errno.EINVAL)) if OLDER else text

    def dump(self, what: str) -> list[dict[str, Any]]:
        """Through pyroute2: "routes", "rules", "addr", "nexthops"."""
        return list(getattr(self.route, "get_" + what)(family=2))

    def close(self) -> None:
        self.asker.close()
        self.route.close()
        self.outer_route.close()
        self.inside.close()
        self.outside.close()

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
