"""Over a line that loses, delays, reorders and doubles: the relay itself, the kernel at both its ends, and the stack.

Every transfer must arrive whole, both ways, whichever congestion control sends; that it takes little time is not asked
here, where everybody shares two processors: tools/bench tcp compares throughput.
"""

from __future__ import annotations

import contextlib
import hashlib
import select
import socket
import threading
import time
from typing import TYPE_CHECKING, Final

import pytest

from tests.netns.daemon import HOST, PATIENCE
from tests.netns.line import MIDDLE, STACK, Line, Relay
from tests.netns.programs import Server, pattern, settled, sha256, status_of
from tests.netns.test_offload import nothing_was_wrong
from ustack import socket as ours
from ustack.io.services import PATTERN
from ustack.tcp.congestion.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.netns.daemon import RunningDaemon
    from ustack.io.host import Namespace

#: A path as they are: 10 ms there and back, one frame of a hundred lost, some late, a few twice. With this seed each
#: way loses one of its first sixty.
BAD: Final = (
    "--delay", "5", "--loss", "0.01", "--reorder", "0.02", "--reorder-delay", "1.5", "--duplicate", "0.005",
    "--seed", "15",
)  # fmt: skip
BULK: Final = 1_000_000
CONGESTION: Final = tuple(Registry().algorithms)
FRAME: Final = bytes(12) + b"\x08\x00"
UNHARMED: Final = bytes(12) + b"\x08\x06" + bytes(46)


# -- the relay alone, between sockets that keep frames apart


@contextlib.contextmanager
def relayed(*options: str) -> Iterator[tuple[socket.socket, socket.socket, Relay]]:
    near, near_fd = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    far, far_fd = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far, near_fd, far_fd, Relay([near_fd.fileno(), far_fd.fileno()], *options) as relay:
        near_fd.close()
        far_fd.close()
        yield near, far, relay


def frames(count: int, size: int = 60) -> list[bytes]:
    return [(FRAME + number.to_bytes(4, "big")).ljust(size, b".") for number in range(count)]


def number_of(frame: bytes) -> int:
    return int.from_bytes(frame[14:18], "big")


def pour(source: socket.socket, sink: socket.socket, count: int) -> list[int]:
    """Send so many; the numbers of those that came. A frame that nothing befalls tells when no more come."""
    arrived = []
    for start in range(0, count, 50):
        for frame in frames(count)[start : start + 50]:
            source.send(frame)
        source.send(UNHARMED)
        while (frame := sink.recv(2048)) != UNHARMED:
            arrived.append(number_of(frame))
    return arrived


def waiting(sink: socket.socket, quiet: float) -> list[int]:
    """The numbers of those that come until nothing has for so long."""
    arrived = []
    while select.select([sink], [], [], quiet)[0]:
        arrived.append(number_of(sink.recv(2048)))
    return arrived


def test_a_perfect_line_delivers_all_in_order_both_ways() -> None:
    with relayed() as (near, far, relay):
        assert pour(near, far, 300) == list(range(300)) == pour(far, near, 300)
        there, back = relay.stop()
    assert there["delivered"] == back["delivered"] == 300
    assert {name: there[name] for name in there if there[name]}.keys() <= {"sent", "delivered", "octets", "latest_ms"}


def test_frames_of_the_same_number_have_the_same_fate() -> None:
    """Whatever happened before them the other way, whatever their times."""
    bad = ("--loss", "0.1", "--duplicate", "0.1", "--seed", "3")
    with relayed(*bad) as (near, far, relay):
        first = pour(near, far, 400)
        there, _ = relay.stop()
    with relayed(*bad) as (near, far, relay):
        pour(far, near, 30)
        assert pour(near, far, 400) == first
    with relayed("--loss", "0.1", "--duplicate", "0.1", "--seed", "4") as (near, far, relay):
        assert pour(near, far, 400) != first
    assert first == sorted(first), "none of this reorders"
    assert 20 < there["lost"] < 70 and 20 < there["duplicated"] < 70


def test_what_is_not_ipv4_is_not_harmed() -> None:
    """A lost ARP request costs a second; and its number is nobody's."""
    with relayed("--loss", "1") as (near, far, relay):
        near.send(UNHARMED)
        assert far.recv(100) == UNHARMED
        near.send(frames(1)[0])
        assert not select.select([far], [], [], 0.05)[0]
        there, _ = relay.stop()
    assert (there["sent"], there["lost"], there["delivered"]) == (1, 1, 0)


def test_delay_is_kept_and_a_late_frame_is_overtaken() -> None:
    with relayed("--delay", "30", "--reorder", "0.2", "--reorder-delay", "5", "--seed", "5") as (near, far, relay):
        began = time.monotonic()
        near.send(frames(1)[0])
        far.recv(100)
        assert time.monotonic() - began >= 0.03
        for frame in frames(50):
            near.send(frame)
        arrived = [number_of(far.recv(100)) for _ in range(50)]
        there, _ = relay.stop()
    assert sorted(arrived) == list(range(50)) != arrived
    assert there["reordered"] > 0 and there["lost"] == 0


def test_the_bottleneck_has_its_rate_and_a_bounded_queue() -> None:
    """A burst of 120,000 bytes before 8 Mbit/s: 20,000 wait, which takes 20 ms; the rest is dropped at the tail."""
    with relayed("--rate", "8", "--limit", "20000") as (near, far, relay):
        began = time.monotonic()
        for frame in frames(120, 1000):
            near.send(frame)
        arrived = waiting(far, quiet=0.5)
        took = time.monotonic() - began - 0.5
        there, _ = relay.stop()
    assert there["overlimits"] > 0 and len(arrived) == there["delivered"] >= 20
    assert took >= 0.9 * len(arrived) * 8000 / 8e6


def test_it_ends_with_either_end() -> None:
    with relayed() as (near, far, relay):
        far.close()
        assert relay.process.wait(PATIENCE) == 0
        there, _ = relay.stop()
        assert there["sent"] == 0


# -- the kernel at both ends


def test_kernel_to_kernel(namespace: Namespace) -> None:
    """What the others are measured against: the line is bad, and nothing else is."""
    data = pattern(BULK)
    with Line(*BAD) as line:
        with line.middle:
            listener = socket.create_server((MIDDLE, 0))
        with listener, socket.create_connection(listener.getsockname(), PATIENCE) as sock:
            server, _ = listener.accept()
            assert digest_of(sock, server, data) == sha256(data)
            assert digest_of(server, sock, data) == sha256(data)
            server.close()
        there, back = line.relay.stop()
    for lane in (there, back):
        assert lane["missed"] == lane["overlimits"] == 0
        assert lane["lost"] > 0 and lane["reordered"] > 0 and lane["duplicated"] > 0
    assert max(there["octets"] / there["sent"], back["octets"] / back["sent"]) <= 1514, "no super-segments"


def digest_of(sender: socket.socket, receiver: socket.socket, data: bytes) -> str:
    """Of what arrives of ``data`` and the FIN behind it."""
    sender.settimeout(PATIENCE)
    receiver.settimeout(PATIENCE)

    def send() -> None:
        sender.sendall(data)
        sender.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send)
    thread.start()
    digest = hashlib.sha256()
    while piece := receiver.recv(1 << 16):
        digest.update(piece)
    thread.join()
    return digest.hexdigest()


# -- the stack behind it


def intact(line: Line, daemon: RunningDaemon) -> None:
    """Nothing was malformed, nothing is left, and the line was as bad as it was meant to be."""
    assert set(settled(daemon)) <= {"TIME-WAIT"}
    nothing_was_wrong(daemon)
    for lane in line.relay.stop():
        assert lane["lost"] > 0 and lane["missed"] == lane["overlimits"] == 0


def chosen(congestion: str) -> tuple[str, ...]:
    """What a daemon is told to send with it; the default needs no words."""
    if congestion == Registry().default().name:
        return ()
    return ("--sysctl", f"net.ipv4.tcp_congestion_control={congestion}")


@pytest.mark.parametrize("congestion", CONGESTION)
def test_bulk_both_ways(namespace: Namespace, tmp_path: Path, congestion: str) -> None:
    """Up and down through echo and chargen's page, with what the stack sends under each congestion control."""
    data = pattern(BULK)
    with Line(*BAD) as line, line.daemon(tmp_path, *chosen(congestion)) as up:
        with socket.create_connection((STACK, 7), PATIENCE) as sock:
            assert digest_of(sock, sock, data) == sha256(data)
        with socket.create_connection((STACK, 80), PATIENCE) as sock:
            sock.sendall(f"GET /bytes/{BULK} HTTP/1.0\r\n\r\n".encode())
            with sock.makefile("rb") as file:
                body = file.read().partition(b"\r\n\r\n")[2]
        assert sha256(body) == sha256((PATTERN * (BULK // len(PATTERN) + 1))[:BULK])
        assert status_of(up)["counters"]["Tcp.RetransSegs"] > 0
        intact(line, up)


def converse(sock: socket.socket | ours.socket, count: int) -> None:
    """Questions that are echoed, one at a time."""
    for number in range(count):
        question = number.to_bytes(4, "big") * 8
        sock.sendall(question)
        answer = b""
        while len(answer) < len(question):
            answer += sock.recv(1024)
        assert answer == question


@contextlib.contextmanager
def kernel_echo() -> Iterator[int]:
    """The port of a server of the kernel's that echoes one connection."""

    def serve() -> None:
        with listener.accept()[0] as sock:
            while data := sock.recv(1024):
                sock.sendall(data)

    with socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(PATIENCE)


@pytest.mark.parametrize("congestion", CONGESTION)
def test_request_and_response(namespace: Namespace, tmp_path: Path, congestion: str) -> None:
    """One small segment each way at a time: what is lost is the last of its flight, no duplicate ACK tells of it."""
    with Line(*BAD) as line, line.daemon(tmp_path, *chosen(congestion)) as daemon:
        with socket.create_connection((STACK, 7), PATIENCE) as sock:
            converse(sock, 60)
        with kernel_echo() as port, ours.create_connection((HOST, port), PATIENCE) as client:
            converse(client, 60)
        intact(line, daemon)


def test_half_close_by_either_end(namespace: Namespace, tmp_path: Path) -> None:
    """The answer comes after the FIN; it is the kernel's that closes first, then the stack's."""
    request, answer = pattern(100_000, 1), pattern(150_000, 2)
    with Line(*BAD) as line, line.daemon(tmp_path) as daemon:
        with socket.create_connection((STACK, 7), PATIENCE) as sock:
            assert digest_of(sock, sock, request) == sha256(request)
        with Server(lambda received: answer if received == request else b"") as server:
            with ours.create_connection((HOST, server.port), PATIENCE) as client:
                client.sendall(request)
                client.shutdown(socket.SHUT_WR)
                with client.makefile("rb") as file:
                    assert sha256(file.read()) == sha256(answer)
        intact(line, daemon)


@pytest.mark.parametrize("congestion", CONGESTION)
@pytest.mark.parametrize("options", [(), ("--no-offload",)], ids=["offload", "plain"])
def test_many_flows_at_once(namespace: Namespace, tmp_path: Path, options: tuple[str, ...], congestion: str) -> None:
    """Sixteen, echoed: each sends and is sent to."""
    sent = [pattern(60_000, seed) for seed in range(16)]
    received: list[str] = [""] * len(sent)

    def flow(number: int) -> None:
        with socket.create_connection((STACK, 7), PATIENCE) as sock:
            received[number] = digest_of(sock, sock, sent[number])

    with Line(*BAD) as line, line.daemon(tmp_path, *chosen(congestion), *options) as daemon:
        threads = [threading.Thread(target=flow, args=(number,)) for number in range(len(sent))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert received == [sha256(data) for data in sent]
        intact(line, daemon)


def test_a_bottleneck(namespace: Namespace, tmp_path: Path) -> None:
    """10 Mbit/s with a queue of one bandwidth-delay product: what is lost is what the senders themselves overflow."""
    data = pattern(BULK // 2)
    with (
        Line("--delay", "5", "--rate", "10", "--limit", "12500") as line,
        line.daemon(tmp_path, "--no-offload") as daemon,
    ):
        with socket.create_connection((STACK, 7), PATIENCE) as sock:
            assert digest_of(sock, sock, data) == sha256(data)
        assert set(settled(daemon)) <= {"TIME-WAIT"}
        there, back = line.relay.stop()
    assert there["overlimits"] + back["overlimits"] > 0
    assert there["missed"] == back["missed"] == there["lost"] == back["lost"] == 0
