"""Programs: coroutines that wait in virtual time, end as processes do, and are told of when they break."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from ustack.inet.family import SOCK_DGRAM
from ustack.inet.socket import SHUT_WR
from ustack.lab import Network, SpecError
from ustack.lab.programs import BUILT_IN, shown, speed

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ustack.lab.host import Host
    from ustack.lab.program import ProgramSocket

SO_LINGER = 13
NS = 10**9


@pytest.fixture
def network() -> Network:
    """a and b on one cable of 1 ms."""
    network = Network(seed=1)
    network.host("a", addr="192.0.2.1/24", hosts={"b": "192.0.2.2"})
    network.host("b", addr="192.0.2.2/24")
    network.cable("a", "b", delay="1ms")
    return network


def texts(network: Network) -> list[str]:
    return [f"{line.now / 1e6:g} {line.host}: {line.text}" for line in network.log]


def run(network: Network, *programs: Callable[..., Coroutine[Any, Any, object]]) -> list[str]:
    """Each on a host of its own, a first; what was said."""
    for host, program in zip(network.hosts.values(), programs, strict=False):
        host.run(program)
    network.run()
    return texts(network)


# -- time


def test_sleep_takes_virtual_time_and_no_other(network: Network) -> None:
    async def main(host: Host) -> None:
        host.print("early", host.now)
        await host.sleep(30)
        host.print("late", host.now)

    assert run(network, main) == ["0 a: early 0.0", "30000 a: late 30.0"]


def test_a_start_is_when_it_begins(network: Network) -> None:
    async def main(host: Host, word: str) -> None:
        host.print(word)

    network.hosts["a"].run(main, "second", start="2s")
    network.hosts["b"].run(main, "first", start=0.5)
    assert network.run()
    assert texts(network) == ["500 b: first", "2000 a: second"]


def test_a_run_ends_with_the_last_program_not_with_daemons(network: Network) -> None:
    async def for_ever(host: Host) -> None:
        while True:
            await host.sleep(1)

    async def main(host: Host) -> None:
        await host.sleep(3)

    network.hosts["a"].run(for_ever, daemon=True)
    assert not network.done
    network.hosts["b"].run(main)
    assert network.run()
    assert network.done
    assert network.lab.now == 3 * NS + 200_000_000


def test_a_program_that_does_not_end_is_a_failure_when_time_is_over(network: Network) -> None:
    async def deaf(host: Host) -> None:
        await host.socket(SOCK_DGRAM).recv()

    network.hosts["a"].run(deaf)
    assert not network.run("5s")
    assert [str(failure) for failure in network.failures] == ["a: deaf: has not ended after 5 s"]
    assert network.lab.now == 5 * NS
    (task,) = network.running()
    task.kill()
    network.run("6s")
    assert [str(failure) for failure in network.failures] == ["a: deaf: killed"]
    assert task.status == 137


def test_without_programs_a_run_is_as_long_as_it_is_told_to(network: Network) -> None:
    assert network.run("1s")
    assert network.lab.now == NS


# -- sockets


def test_datagrams_and_names(network: Network) -> None:
    async def main(host: Host) -> None:
        sock = host.socket(SOCK_DGRAM)
        await sock.sendto(b"muffin", ("b", 4747))
        data, peer = await sock.recvfrom()
        host.print(data, peer == (host.resolve("b"), 4747))

    async def other(host: Host) -> None:
        sock = host.socket(SOCK_DGRAM)
        sock.bind(("", 4747))
        data, peer = await sock.recvfrom()
        await sock.sendto(data.upper(), peer)

    assert run(network, main, other) == ["4 a: b'MUFFIN' True"]


def test_streams_from_connect_to_the_end(network: Network) -> None:
    size = 500_000

    async def client(host: Host) -> None:
        with host.socket() as sock:
            await sock.connect(("b", 80))
            await sock.sendall(bytes(size))
            sock.shutdown(SHUT_WR)
            host.print(await sock.recvall())

    async def server(host: Host) -> None:
        listener = host.socket()
        listener.bind(("", 80))
        listener.listen()
        sock, peer = await listener.accept()
        host.print(peer[0], sock.getsockname())
        await sock.sendall(b"%d" % len(await sock.recvall()))

    said = run(network, client, server)
    assert said[0].endswith("b: 192.0.2.1 ('192.0.2.2', 80)")
    assert said[1].endswith("a: b'500000'")
    assert network.failures == []


def test_what_nobody_listens_for_is_refused_and_told_with_its_place(network: Network) -> None:
    async def main(host: Host) -> None:
        await host.socket().connect(("b", 81))

    said = run(network, main)
    assert len(said) == 1
    (failure,) = network.failures
    assert failure.host == "a"
    assert failure.program == "main"
    assert failure.text.startswith("ConnectionRefusedError: Connection refused (test_program.py:")
    assert said[0].endswith(f"a: main: {failure.text}")


def test_a_timeout_is_one_and_a_program_may_catch_it(network: Network) -> None:
    async def main(host: Host) -> None:
        sock = host.socket(SOCK_DGRAM)
        sock.settimeout(0.25)
        try:
            await sock.recv()
        except TimeoutError as reason:
            host.print(reason.strerror)
        sock.settimeout(0)
        try:
            await sock.recv()
        except BlockingIOError:
            host.print("at once")

    assert run(network, main) == ["250 a: timed out", "250 a: at once"]
    assert network.failures == []


def test_data_that_comes_before_the_time_is_over_stops_the_clock(network: Network) -> None:
    async def main(host: Host) -> None:
        sock = host.socket(SOCK_DGRAM)
        sock.bind(("", 9))
        sock.settimeout(10)
        host.print(await sock.recv())
        await host.sleep(20)
        host.print("and no alarm is left")

    async def other(host: Host) -> None:
        await host.socket(SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 9))

    assert run(network, main, other) == ["3 a: b'x'", "20003 a: and no alarm is left"]


def test_several_programs_may_wait_for_one_socket(network: Network) -> None:
    async def one(host: Host, sock: ProgramSocket) -> None:
        host.print(await sock.recv())

    async def main(host: Host) -> None:
        sock = host.socket(SOCK_DGRAM)
        sock.bind(("", 9))
        for number in range(2):
            host.run(one, sock, name=f"reader{number}")
        await host.sleep(1)

    async def other(host: Host) -> None:
        sock = host.socket(SOCK_DGRAM)
        for word in (b"x", b"y"):
            await sock.sendto(word, ("192.0.2.1", 9))

    assert [line.split()[-1] for line in run(network, main, other)] == ["b'x'", "b'y'"]


def test_a_program_that_ends_closes_its_sockets(network: Network) -> None:
    """As exit(2) does: the peer sees the end of the stream."""

    async def client(host: Host) -> None:
        await host.socket().connect(("b", 80))

    async def server(host: Host) -> None:
        sock = host.socket()
        sock.bind(("", 80))
        sock.listen()
        child, _ = await sock.accept()
        host.print(await child.recv())

    assert run(network, client, server)[0].endswith("b: b''")


def test_a_socket_that_is_closed_under_a_reader_is_an_error_to_him(network: Network) -> None:
    async def reader(host: Host, sock: ProgramSocket) -> None:
        await sock.recv()

    async def main(host: Host) -> None:
        sock = host.socket(SOCK_DGRAM)
        host.run(reader, sock)
        await host.sleep(1)
        sock.close()

    run(network, main)
    (failure,) = network.failures
    assert (failure.program, failure.text.split(" (")[0]) == ("reader", "OSError: Bad file descriptor")


def test_options_and_names_of_sockets(network: Network) -> None:
    async def main(host: Host) -> None:
        sock = host.socket(SOCK_DGRAM)
        sock.setsockopt(0, 2, 77)  # IP_TTL
        await sock.connect(("b", 9))
        host.print(sock.getsockopt(0, 2), sock.getpeername(), sock.getsockname()[0])

    assert run(network, main) == ["0 a: 77 ('192.0.2.2', 9) 192.0.2.1"]


# -- names


def test_a_hosts_file_of_ones_own_comes_before_the_networks(network: Network) -> None:
    network.hosts_file |= {"b": "203.0.113.1", "c": "203.0.113.2"}
    a, b = network.hosts["a"], network.hosts["b"]
    assert [a.resolve(name) for name in ("b", "c", "localhost", "192.0.2.77")] == [
        "192.0.2.2", "203.0.113.2", "127.0.0.1", "192.0.2.77",
    ]  # fmt: skip
    assert b.resolve("b") == "203.0.113.1"
    with pytest.raises(OSError, match="nosuch: Name or service not known"):
        a.resolve("nosuch")


# -- how programs end


@pytest.mark.parametrize(
    ("result", "status", "said"),
    [(None, 0, []), (0, 0, []), (3, 3, ["exit status 3"]), (-1, 255, ["exit status 255"]), ("well", 1, ["well"])],
)
def test_the_exit_status_is_what_it_returns_or_exits_with(
    network: Network, result: object, status: int, said: list[str]
) -> None:
    async def returns(host: Host) -> object:
        return result

    async def exits(host: Host) -> None:
        raise SystemExit(result)

    tasks = [network.hosts["a"].run(program) for program in (returns, exits)]
    assert network.run() == (not said)
    assert [task.status for task in tasks] == [status, status]
    assert [failure.text for failure in network.failures] == said * 2


def test_a_mistake_in_one_program_costs_that_program(network: Network) -> None:
    async def broken(host: Host) -> None:
        await host.sleep(1)
        raise ValueError("oh dear")

    async def fine(host: Host) -> None:
        await host.sleep(2)
        host.print("fine")

    said = run(network, broken, fine)
    assert said[0].startswith("1000 a: broken: ValueError: oh dear (test_program.py:")
    assert said[1] == "2000 b: fine"


def test_what_awaits_real_time_is_told_that_time_is_virtual(network: Network) -> None:
    class Foreign:
        def __await__(self) -> Any:
            yield "something"

    async def main(host: Host) -> None:
        await Foreign()

    run(network, main)
    (failure,) = network.failures
    assert failure.text == "awaits something that is not the laboratory's: time here is virtual"


def test_asyncio_does_not_work_here_and_says_so(network: Network) -> None:
    async def main(host: Host) -> None:
        await asyncio.sleep(1)

    run(network, main)
    (failure,) = network.failures
    assert failure.text.startswith("RuntimeError: no running event loop")


def test_wrong_arguments_are_told_before_anything_runs(network: Network) -> None:
    async def main(host: Host, number: int) -> None:
        """Never run."""

    def plain(host: Host) -> None:
        """Never run."""

    a = network.hosts["a"]
    for program, args, said in [
        (main, (), "host 'a': program 'main': missing a required argument: 'number'"),
        (main, (1, 2), "host 'a': program 'main': too many positional arguments"),
        (plain, (), "host 'a': program 'plain': an 'async def' is wanted"),
        ("nosuch", (), "unknown program 'nosuch': there are "),
    ]:
        with pytest.raises(SpecError, match=said):
            a.run(program, *args)  # type: ignore[arg-type]
    assert a.tasks == []


def test_closing_the_network_leaves_programs_where_they_are(network: Network) -> None:
    ends: list[str] = []

    async def main(host: Host) -> None:
        try:
            await host.sleep(10)
        finally:
            ends.append("cleaned up")

    async def never(host: Host) -> None:
        """Never begins."""

    with network:
        network.hosts["a"].run(main)
        network.hosts["b"].run(never, start="1h")
        network.run("1s")
    assert ends == ["cleaned up"]


# -- those that are built in


def test_tcp_client_and_server(network: Network) -> None:
    network.hosts["a"].run("tcp-client", "b", 9999, "This is test\n", start="1ms")
    network.hosts["b"].run("tcp-server", 9999, "fine")
    assert network.run()
    said = [line.split(" ", 1)[1] for line in texts(network)]
    port = said[1].rpartition(":")[2]
    assert said == [
        "b: listening at TCP port 9999",
        f"a: connected to 192.0.2.2:9999 from 192.0.2.1:{port}",
        'a: wrote "This is test\\n"',
        f"b: accepted 192.0.2.1:{port}",
        'b: read "This is test\\n", wrote "fine"',
        'a: read "fine"',
        "a: closed",
        f"b: 192.0.2.1:{port} has closed",
    ]


def test_udp_send_and_receive_some(network: Network) -> None:
    network.hosts["a"].run("udp-send", "b", 4747, "muffin", 3, 0.5)
    network.hosts["b"].run("udp-recv", 4747, 3)
    assert network.run()
    assert [line.now for line in network.log if line.host == "b"][1:] == [3_000_000, 501_000_000, 1_001_000_000]


def test_echo_and_bulk(network: Network) -> None:
    a, b = network.hosts["a"], network.hosts["b"]
    b.run("udp-echo", 7)
    b.run("tcp-echo", 7)
    b.run("bulk-recv", 5001)
    a.run("bulk-send", "b", 5001, 1_000_000)

    async def ask(host: Host) -> None:
        udp, tcp = host.socket(SOCK_DGRAM), host.socket()
        await udp.sendto(b"one", ("b", 7))
        await tcp.connect(("b", 7))
        await tcp.sendall(b"two")
        host.print(await udp.recv(), await tcp.recv())

    a.run(ask)
    assert network.run()
    said = [line.text for line in network.log]
    assert "b'one' b'two'" in said
    assert 'echoing "one" to' in " ".join(said)
    assert [text for text in said if text.startswith("received 1000000 bytes from 192.0.2.1:")]
    assert [text for text in said if text.startswith("sent 1000000 bytes in ")]


def test_a_ping_without_an_answer_fails_and_an_icmp_error_is_told(network: Network) -> None:
    network.hosts["a"].run("ping", "192.0.2.99", 1, 1.0, 5.0)
    assert not network.run()
    assert [line.text for line in network.log] == [
        "PING 192.0.2.99 (192.0.2.99) 56(84) bytes of data.",
        "icmp_seq=1 No route to host",
        "1 packets transmitted, 0 received, 100% packet loss",
        "ping: exit status 1",
    ]


def test_how_data_is_shown() -> None:
    assert shown(b'a "b"\n') == '"a \\"b\\"\\n"'
    assert shown(b"\xff\x00") == "2 bytes"
    assert shown(b"") == "0 bytes"
    assert shown(b"x" * 61) == "61 bytes"
    assert speed(1000, 0) == "0.000000 s"
    assert speed(1_000_000, NS) == "1.000000 s, 8.00 Mbit/s"


def test_every_built_in_program_says_what_it_does() -> None:
    assert [name for name, program in BUILT_IN.items() if not program.function.__doc__] == []
