"""Every setting at its ends: whatever an administrator sets, the stack goes on, and no packet is lost track of."""

from __future__ import annotations

import contextlib
from struct import pack
from typing import TYPE_CHECKING

import pytest

from tests.harness import SEC, B, Pair
from ustack.inet.family import SOCK_DGRAM, SOCK_STREAM
from ustack.inet.protosw import IPPROTO_ICMP
from ustack.inet.sockaddr import AF_INET
from ustack.stack import Stack
from ustack.sysctl_names import INT_MAX, INT_MIN, MAX_MEMORY, Setting

if TYPE_CHECKING:
    from ustack.inet.socket import Socket

SEED = bytes(32)
ECHO = pack("!BBHHH", 8, 0, 0, 0, 7)


def extremes() -> list[tuple[str, int]]:
    """(name, value) for the least and the greatest value of every setting, and 0 and 1."""
    table = Stack(SEED).sysctl
    names = [name for name in table.names() if ".lo." not in name and ".default." not in name.replace("neigh.", "")]
    pairs = []
    for name in names:
        for value in (INT_MIN, -1, 0, 1, INT_MAX, MAX_MEMORY):
            try:
                table.set(name, str(value))
            except OSError:
                continue
            pairs.append((name, value))
    return pairs


def use(pair: Pair) -> None:
    """A datagram, an echo, and a connection with some data; what comes of it is not asked here."""
    server = pair.b.socket(AF_INET, SOCK_STREAM)
    client = pair.a.socket(AF_INET, SOCK_STREAM)
    others: list[Socket] = []
    with contextlib.suppress(OSError):
        server.bind(("0.0.0.0", 2007))
        server.listen(1)
    for protocol, data in ((0, b"x"), (IPPROTO_ICMP, ECHO)):
        with contextlib.suppress(OSError):
            others.append(pair.a.socket(AF_INET, SOCK_DGRAM, protocol))
            others[-1].sendto(data, (B, 7))
    with contextlib.suppress(OSError):
        client.connect((B, 2007))
    pair.run(SEC)
    with contextlib.suppress(OSError):
        client.send(bytes(3000))
    pair.run(3 * SEC)
    for sock in (client, server, *others):
        sock.close()
    pair.run(10 * SEC)


def test_there_are_many() -> None:
    assert len(extremes()) > 200


@pytest.mark.parametrize("number", range(16))
def test_nothing_breaks(number: int) -> None:
    for name, value in extremes()[number::16]:
        pair = Pair()
        for stack in (pair.a, pair.b):
            stack.sysctl.set(name, str(value))
        use(pair)
        for stack in (pair.a, pair.b):
            assert stack.unaccounted() == 0, name


def test_a_setting_has_sane_limits() -> None:
    setting = Setting("x", "")
    assert (setting.low, setting.high, setting.attrs) == (INT_MIN, INT_MAX, ("x",))


def test_what_is_tried_works_with_the_defaults() -> None:
    pair = Pair()
    before = pair.b.net.mib.snapshot()
    use(pair)
    after = pair.b.net.mib.snapshot()
    for counter in ("Tcp.PassiveOpens", "Udp.NoPorts", "Icmp.InEchos"):
        assert after[counter] > before[counter], counter
