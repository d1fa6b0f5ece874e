"""Two TAPs in one daemon, and the kernel at both ends: host a ─ us0 ─ ustack ─ us1 ─ host b, each in a namespace."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
from typing import TYPE_CHECKING, Final

import pytest

from tests.netns.daemon import HOST, PATIENCE, STACK, RunningDaemon
from tests.netns.programs import MEGABYTE, output, pattern, program, status_of
from ustack.io.host import Host, Namespace, write_sysctl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FAR_STACK: Final = "198.51.100.2"
FAR: Final = "198.51.100.1"
#: More than one super-segment, many times.
BULK: Final = 40 * MEGABYTE


@pytest.fixture
def far(namespace: Namespace) -> Iterator[Namespace]:
    """Where host b lives."""
    with contextlib.closing(Namespace.create()) as fresh:
        with fresh:
            write_sysctl("net.ipv6.conf.all.disable_ipv6", "1")
            write_sysctl("net.ipv6.conf.default.disable_ipv6", "1")
        yield fresh


@contextlib.contextmanager
def routing(directory: Path, far: Namespace, *options: str, mtu: int = 1500) -> Iterator[RunningDaemon]:
    """A daemon that forwards between here and ``far``; ``mtu`` is that of the far link."""
    file = directory / "router.toml"
    file.write_text(f"""
        [[device]]
        name = "us0"

        [[device]]
        name = "us1"
        addr = ["{FAR_STACK}/24"]
        mtu = {mtu}

        [sysctl]
        "net.ipv4.ip_forward" = "1"
    """)
    near = {"addr": f"us0={STACK}/24", "host_addr": f"us0={HOST}/24"}
    with RunningDaemon(directory, "--config", str(file), *options, **near) as daemon:
        with Host() as host:
            host.move_link("us1", far)
            host.add_route("198.51.100.0/24", gateway=STACK)
        with far, Host() as host:
            host.set_link("us1", up=True, mtu=mtu)
            host.add_address("us1", f"{FAR}/24")
            host.add_route("192.0.2.0/24", gateway=FAR_STACK)
        yield daemon


@pytest.mark.parametrize("options", [(), ("--no-offload",)], ids=["offload", "plain"])
def test_ping_through(far: Namespace, tmp_path: Path, options: tuple[str, ...]) -> None:
    """The TTL tells of one router; large datagrams pass in fragments, which a router does not put together."""
    with routing(tmp_path, far, *options) as daemon:
        for size in ("56", "1472", "4000"):
            text = output("ping", "-n", "-c", "3", "-i", "0.02", "-W", "2", "-s", size, FAR)
            assert " 3 received" in text and "ttl=63" in text, text
        with far:
            text = output("ping", "-n", "-c", "3", "-i", "0.02", "-W", "2", HOST)
            assert " 3 received" in text and "ttl=63" in text, text
        status = status_of(daemon)
    # 3 pings of one frame, 3 of one frame, 3 of three fragments, 3 the other way; there and back
    assert status["counters"]["Ip.ForwDatagrams"] == 2 * (3 + 3 + 9 + 3)
    assert "Ip.ReasmReqds" not in status["counters"]


def test_the_router_answers_for_the_way(far: Namespace, tmp_path: Path) -> None:
    """RFC 1812 5.3.1: time exceeded, from the address that the packet came in by; RFC 1812 5.2.7.1: unreachable."""
    with routing(tmp_path, far):
        status, text = program("ping", "-n", "-c", "1", "-W", "2", "-t", "1", FAR)
        assert status != 0 and f"From {STACK}" in text and "Time to live exceeded" in text, text
        with Host() as host:
            host.add_route("203.0.113.0/24", gateway=STACK)
        status, text = program("ping", "-n", "-c", "1", "-W", "2", "203.0.113.1")
        assert status != 0 and f"From {STACK}" in text and "Destination Net Unreachable" in text, text


def test_a_narrower_link_is_found_out(far: Namespace, tmp_path: Path) -> None:
    """RFC 1191: fragmentation needed, with the next hop's MTU; without DF the router cuts, and TCP finds its way."""
    with routing(tmp_path, far, mtu=1300) as daemon:
        assert " 1 received" in output("ping", "-n", "-c", "1", "-W", "2", "-M", "dont", "-s", "1400", FAR)
        status, text = program("ping", "-n", "-c", "1", "-W", "2", "-M", "do", "-s", "1400", FAR)
        assert status != 0 and f"From {STACK}" in text and "mtu = 1300" in text, text
        assert moved(far, pattern(MEGABYTE)) == hashlib.sha256(pattern(MEGABYTE)).digest()
        counters = status_of(daemon)["counters"]
    assert counters["Ip.FragOKs"] == 1 and counters["Ip.FragCreates"] == 2 and counters["Ip.FragFails"] >= 1


@pytest.mark.heavy
@pytest.mark.parametrize("options", [(), ("--no-offload",)], ids=["offload", "plain"])
def test_bulk_through(far: Namespace, tmp_path: Path, options: tuple[str, ...]) -> None:
    """Every byte arrives; with offload super-segments pass uncut, many times as few as the frames they stand for."""
    data = pattern(BULK)
    with routing(tmp_path, far, *options) as daemon:
        assert moved(far, data) == hashlib.sha256(data).digest()
        forwarded = status_of(daemon)["counters"]["Ip.ForwDatagrams"]
    assert forwarded < BULK // 4000 if not options else forwarded > BULK // 1500


def moved(far: Namespace, data: bytes) -> bytes:
    """SHA-256 of what arrives of ``data``, sent from here to host b by TCP."""
    with far:
        listener = socket.create_server((FAR, 0))
    listener.settimeout(PATIENCE)
    digest = hashlib.sha256()

    def receive() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.settimeout(PATIENCE)
            while piece := peer.recv(MEGABYTE):
                digest.update(piece)

    receiver = threading.Thread(target=receive, daemon=True)
    receiver.start()
    with listener, socket.create_connection(listener.getsockname(), PATIENCE) as sender:
        sender.sendall(data)
        sender.shutdown(socket.SHUT_WR)
        receiver.join(PATIENCE)
    assert not receiver.is_alive(), "the transfer did not end"
    return digest.digest()
