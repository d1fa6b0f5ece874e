"""Programs as people write them, compiled here or in ruby, at the host's end of the daemon's link; and what became of
their packets, as ``ustack trace`` tells it."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.netns.daemon import HOST, PATIENCE, STACK, RunningDaemon, finish, run, ustack
from tests.netns.programs import need
from ustack import socket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ustack.io.host import Namespace

SOURCES: Final = Path(__file__).resolve().parents[1] / "programs"
MUFFIN_PORT: Final = 4747
TCP_PORT: Final = 9999
RUBY: Final = f"p UDPSocket.new.send('aaaaa', 0, '{STACK}', {TCP_PORT})"

Journey = dict[str, Any]

#: From the wire to the socket: what every packet for us passes.
WAY_IN: Final = [
    "tun_do_read",
    "e1000_clean_rx_irq",
    "netif_receive_skb",
    "ip_rcv",
    "ip_rcv_core",
    "ip_rcv_finish",
    "ip_local_deliver",
    "ip_local_deliver_finish",
    "ip_protocol_deliver_rcu",
]
#: From IP to the wire.
WAY_OUT: Final = ["ip_output", "ip_finish_output", "__dev_queue_xmit", "dev_hard_start_xmit", "tun_get_user"]


@pytest.fixture
def daemon(namespace: Namespace, tmp_path: Path) -> Iterator[RunningDaemon]:
    with RunningDaemon(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The program of that name, compiled from tests/programs."""
    directory = tmp_path_factory.mktemp("programs")

    def compiled(name: str) -> str:
        need("cc")
        path = directory / name
        if not path.exists():
            command = ["cc", "-Wall", "-Wextra", "-Werror", "-o", str(path), str(SOURCES / f"{name}.c")]
            subprocess.run(command, check=True, timeout=PATIENCE)
        return str(path)

    return compiled


@contextlib.contextmanager
def waiting(program: str) -> Iterator[subprocess.Popen[str]]:
    """A server of the host's that has said it is ready."""
    with subprocess.Popen([program], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None and server.stdout.readline() == "ready\n"
            yield server
        finally:
            server.kill()


class Trace:
    """``ustack trace -j``, from when it is on; ``journeys`` waits until it has seen ``count`` and ends."""

    def __init__(self, count: int, *words: str) -> None:
        self.process = ustack("trace", "-j", "-c", str(count), *words)
        assert self.process.stderr is not None
        assert self.process.stderr.readline() == f"tracing {' '.join(words)}\n"

    def journeys(self) -> list[Journey]:
        status, out, _ = finish(self.process)
        assert status == 0
        found = [json.loads(line) for line in out.splitlines()]
        for journey in found:
            assert journey["steps_lost"] == 0
        return found


def functions(journey: Journey) -> list[str]:
    return [step["function"] for step in journey["steps"]]


def expect_way(journey: Journey, *names: str) -> None:
    """These functions in this order, whatever else there is between them."""
    passed = iter(functions(journey))
    missing = [name for name in names if name not in passed]
    assert not missing, f"not passed: {missing}; but {functions(journey)}"


def bound(kind: int, port: int) -> socket.socket:
    """A socket of the stack's, by its name everywhere."""
    ours = socket.socket(socket.AF_INET, kind)
    ours.settimeout(PATIENCE)
    ours.bind(("", port))
    return ours


# -- datagrams


def test_the_muffin_sender(daemon: RunningDaemon, programs: Callable[[str], str]) -> None:
    """getaddrinfo, sendto, and nobody answers: the muffin lies in the socket's queue."""
    with bound(socket.SOCK_DGRAM, MUFFIN_PORT) as ours:
        trace = Trace(1, "udp", "dst", "port", str(MUFFIN_PORT))
        assert run(programs("muffin_send"), STACK, "muffin") == (0, "")
        data, peer = ours.recvfrom(100)
        assert data == b"muffin" and peer is not None and peer[0] == HOST
    (journey,) = trace.journeys()
    expect_way(journey, *WAY_IN, "udp_rcv", "udp_queue_rcv_skb", "inet_recvmsg", "udp_recvmsg")
    assert journey["outcome"] == "delivered"


def test_the_muffin_sender_finds_a_name_in_the_hosts_file(
    daemon: RunningDaemon, programs: Callable[[str], str], tmp_path: Path
) -> None:
    """As the host's user would have it: in a mount namespace where the file says who ``b`` is."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    hosts = tmp_path / "hosts"
    hosts.write_text(f"{STACK} b\n")
    script = f"mount --bind {shlex.quote(str(hosts))} /etc/hosts && {shlex.quote(programs('muffin_send'))} b muffin"
    with bound(socket.SOCK_DGRAM, MUFFIN_PORT) as ours:
        assert run("unshare", "-m", "sh", "-c", script) == (0, "")
        assert ours.recv(100) == b"muffin"


def test_a_muffin_for_nobody_is_dropped_and_the_sender_told(
    daemon: RunningDaemon, programs: Callable[[str], str]
) -> None:
    """The journey says why, and what ICMP it caused."""
    trace = Trace(2, "udp or icmp")
    assert run(programs("muffin_send"), STACK, "muffin") == (0, "")
    journeys = trace.journeys()
    (muffin,) = [journey for journey in journeys if journey["outcome"] == "dropped"]
    (told,) = [journey for journey in journeys if journey is not muffin]
    assert muffin["reason"] == "NO_SOCKET"
    expect_way(muffin, *WAY_IN, "udp_rcv", "__udp4_lib_lookup", "__icmp_send", "kfree_skb_reason")
    assert (told["outcome"], told["caused_by"]) == ("sent", muffin["journey"])
    expect_way(told, *WAY_OUT)


def test_ruby(daemon: RunningDaemon) -> None:
    """UDPSocket.new.send: a socket that is neither bound nor connected."""
    if shutil.which("ruby") is None:
        pytest.skip("not installed: ruby")
    with bound(socket.SOCK_DGRAM, TCP_PORT) as ours:
        trace = Trace(1, "udp")
        assert run("ruby", "-rsocket", "-e", RUBY) == (0, "5\n")
        data, peer = ours.recvfrom(100)
        assert data == b"aaaaa" and peer is not None and peer[0] == HOST
    (journey,) = trace.journeys()
    expect_way(journey, *WAY_IN, "udp_rcv", "udp_queue_rcv_skb", "inet_recvmsg", "udp_recvmsg")


def test_a_muffin_to_the_host(daemon: RunningDaemon, programs: Callable[[str], str]) -> None:
    """The way out, by the table of it: one row after the other."""
    with waiting(programs("muffin_receive")) as server:
        trace = Trace(1, "udp")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
            assert ours.sendto(b"muffin", (HOST, MUFFIN_PORT)) == 6
        assert server.communicate(timeout=PATIENCE)[0] == f"{STACK} muffin\n"
    (journey,) = trace.journeys()
    expect_way(journey, "inet_sendmsg", "udp_sendmsg", "udp_send_skb", *WAY_OUT)
    assert journey["outcome"] == "sent"


# -- streams


def test_the_tcp_client(daemon: RunningDaemon, programs: Callable[[str], str]) -> None:
    """connect, write, read, close, against a server on the stack's own sockets."""
    with bound(socket.SOCK_STREAM, TCP_PORT) as listener:
        listener.listen(5)
        trace = Trace(1, "tcp[tcpflags] & tcp-push != 0 and dst host", STACK)
        with subprocess.Popen([programs("tcp_client"), STACK, "muffin"], stdout=subprocess.PIPE, text=True) as client:
            ours, peer = listener.accept()
            with ours:
                ours.settimeout(PATIENCE)
                assert peer[0] == HOST
                assert ours.recv(100) == b"muffin"
                ours.sendall(b"thank you")
            assert client.communicate(timeout=PATIENCE)[0] == "thank you\n"
            assert client.returncode == 0
    (journey,) = trace.journeys()
    expect_way(journey, *WAY_IN, "tcp_v4_rcv", "__inet_lookup_established", "tcp_rcv_established")


def test_the_tcp_client_against_ustack_nc(daemon: RunningDaemon, programs: Callable[[str], str]) -> None:
    """The same with a server from the command line."""
    server = ustack("nc", "-v", "-N", "-l", str(TCP_PORT))
    assert server.stderr is not None
    assert server.stderr.readline().startswith("Listening on")
    with subprocess.Popen([programs("tcp_client"), STACK, "muffin"], stdout=subprocess.PIPE, text=True) as client:
        assert finish(server, "thank you")[:2] == (0, "muffin")
        assert client.communicate(timeout=PATIENCE)[0] == "thank you\n"


def test_a_client_of_ours_and_the_tcp_server(daemon: RunningDaemon, programs: Callable[[str], str]) -> None:
    with waiting(programs("tcp_server")) as server:
        trace = Trace(1, "tcp[tcpflags] & tcp-push != 0 and src host", STACK)
        with socket.create_connection((HOST, TCP_PORT), timeout=PATIENCE) as ours:
            ours.sendall(b"muffin")
            assert ours.recv(100) == b"muffin"
            assert ours.recv(100) == b""
        assert server.communicate(timeout=PATIENCE)[0] == f"{STACK} muffin\n"
        assert server.returncode == 0
    (journey,) = trace.journeys()
    expect_way(journey, "tcp_sendmsg", "tcp_write_xmit", "__tcp_transmit_skb", "__ip_queue_xmit", *WAY_OUT)
    assert journey["outcome"] == "sent"


def test_ustack_nc_and_the_tcp_server(daemon: RunningDaemon, programs: Callable[[str], str]) -> None:
    with waiting(programs("tcp_server")) as server:
        assert finish(ustack("nc", HOST, str(TCP_PORT)), "muffin")[:2] == (0, "muffin")
        assert server.communicate(timeout=PATIENCE)[0] == f"{STACK} muffin\n"
