"""A stack that only remembers what it was asked, and answers with what was laid out."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, TypeVar

from ustack.cli.ip.run import run
from ustack.cli.ip.transport import Transport
from ustack.rtnl.messages import Ack, Link, Loaded, Message, More, Nack, Objects, RouteBatch, Rtm
from ustack.wire.ipv4 import str_to_addr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ustack.rtnl.messages import Event, Object, RtnlAnswer, RtnlRequest

M = TypeVar("M", bound=Message)

IFF_LO = 0x10049  #: LOOPBACK, UP, RUNNING, LOWER_UP
IFF_ETH = 0x11043  #: BROADCAST, MULTICAST, UP, RUNNING, LOWER_UP
LO = Link(ifindex=1, name="lo", flags=IFF_LO, mtu=65536, qdisc="noqueue", operstate="UNKNOWN", txqlen=1000, mac=0)
US0 = Link(ifindex=2, name="us0", kind="tun", flags=IFF_ETH, mtu=1500, qdisc="pfifo", operstate="UP", txqlen=1000,
           mac=0x020000000001)  # fmt: skip
US1 = Link(ifindex=3, name="us1", kind="tun", flags=0x1003, mtu=1500, qdisc="pfifo", operstate="DOWN", txqlen=1000,
           mac=0x020000000002)  # fmt: skip


def ip(text: str) -> int:
    return int(str_to_addr(text))


class Recorder(Transport):
    """Holds lo, us0 and us1, and what else it is given."""

    def __init__(self, *objects: Object, refuse: Nack | None = None, piece: int = 1000) -> None:
        """``refuse``: the answer to every change; ``piece``: objects in one answer."""
        self.objects: list[Object] = [LO, US0, US1, *objects]
        self.refuse: Nack | None = refuse
        self.piece: int = piece
        self.asked: list[RtnlRequest] = []
        self.rest: list[Object] = []
        self.to_come: list[Event] = []
        self.kinds: list[str] = []
        self.closed: bool = False

    def ask(self, request: RtnlRequest) -> RtnlAnswer:
        if isinstance(request, More):
            return self._piece(self.rest)
        if isinstance(request, Rtm) and request.verb in ("dump", "get", "flush"):
            if not isinstance(request.object, Link):
                self.asked.append(request)
                if self.refuse is not None:
                    return self.refuse
            return self._piece([each for each in self.objects if self._is_meant(each, request.object)])
        self.asked.append(request)
        if isinstance(request, RouteBatch) and self.refuse is None:
            return Loaded(len(request.prefixes) // 5)
        return Ack() if self.refuse is None else self.refuse

    @staticmethod
    def _is_meant(found: Object, asked: Object) -> bool:
        if isinstance(found, Link) and isinstance(asked, Link):
            return asked.ifindex in (0, found.ifindex)
        return type(found) is type(asked)

    def _piece(self, objects: list[Object]) -> Objects:
        self.rest = objects[self.piece :]
        return Objects(objects[: self.piece], cursor=1 if self.rest else 0)

    def events(self, kinds: list[str]) -> Iterator[Event]:
        self.kinds = kinds
        yield from self.to_come

    def close(self) -> None:
        self.closed = True

    # -- what the tests ask

    def run(self, line: str, program: str = "ip") -> tuple[int, str, str]:
        """(status, stdout, stderr)."""
        out, err = io.StringIO(), io.StringIO()
        return run(line.split(), self, out, err, program), out.getvalue(), err.getvalue()

    def shows(self, line: str) -> str:
        """What it prints, when it is content."""
        status, out, err = self.run(line)
        assert (status, err) == (0, ""), (line, err)
        return out


def request(line: str, refuse: Nack | None = None) -> Rtm:
    """The one request that a command line makes, beside the devices."""
    recorder = Recorder(refuse=refuse)
    status, out, err = recorder.run(line)
    assert (status, out, err) == (0, "", ""), (line, err)
    (asked,) = recorder.asked
    assert isinstance(asked, Rtm)
    return asked


def mistake(line: str) -> tuple[int, str]:
    """(status, stderr) of a command that asks nothing of the stack."""
    recorder = Recorder()
    status, out, err = recorder.run(line)
    assert (out, recorder.asked) == ("", [])
    return status, err
