"""ustack trace against a daemon, and packets of the kernel's on their way through it."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree

from tests.io.test_pcapng import read
from tests.netns.daemon import HOST, PATIENCE, STACK, RunningDaemon, ustack
from tests.netns.programs import need, output

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from ustack.io.host import Namespace

Object = dict[str, Any]
ECHO: Final = 7
REFUSED: Final = 4747


class Trace:
    """``ustack trace -j``, once it watches."""

    def __init__(self, *arguments: str) -> None:
        self.process = ustack("trace", "-j", *arguments)
        assert self.process.stderr is not None
        said = self.process.stderr.readline()
        assert said.startswith("tracing "), said
        self.read = ""  # what came and has not been taken

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def next(self) -> Object:
        """The next journey, as soon as it is printed."""
        assert self.process.stdout is not None
        while "\n" not in self.read:  # several may come at once
            ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
            assert ready, "no journey"
            data = os.read(self.process.stdout.fileno(), 65_536)
            assert data, "no more journeys"
            self.read += data.decode()
        line, self.read = self.read.split("\n", 1)
        found = json.loads(line)
        assert isinstance(found, dict)
        return found

    def stop(self) -> tuple[int, str, str]:
        """Ctrl-C: the status, what it had printed beyond what was read, and what it says at its end."""
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, self.read + out, err


def functions(journey: Object) -> list[str]:
    return [step["function"] for step in journey["steps"]]


def in_order(journey: Object, *names: str) -> None:
    """``names`` are among its functions, in this order."""
    rest = iter(functions(journey))
    missing = [name for name in names if name not in rest]
    assert missing == [], functions(journey)


def send(port: int, data: bytes = b"muffin") -> int:
    """A datagram to the stack; the port that it came from."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(data, (STACK, port))
        number = sock.getsockname()[1]
        assert isinstance(number, int)
        return number


def test_ping(namespace: Namespace, tmp_path: Path) -> None:
    need("ping")
    with RunningDaemon(tmp_path), Trace("icmp") as trace:
        output("ping", "-n", "-c", "1", "-W", "2", STACK)
        request, reply = trace.next(), trace.next()
        status, rest, err = trace.stop()
    assert f"IP {HOST} > {STACK}: ICMP echo request" in request["packet"]
    in_order(
        request,
        "tun_do_read",
        "e1000_clean_rx_irq",
        "netif_receive_skb",
        "ip_rcv",
        "ip_local_deliver",
        "icmp_rcv",
        "icmp_reply",
    )
    assert (request["outcome"], request["caused_by"]) == ("delivered", 0)
    assert f"IP {STACK} > {HOST}: ICMP echo reply" in reply["packet"]
    in_order(
        reply, "ip_local_out", "ip_output", "ip_finish_output2", "__dev_queue_xmit", "e1000_xmit_frame", "tun_get_user"
    )
    assert (reply["outcome"], reply["caused_by"]) == ("sent", request["journey"])
    assert (status, rest, err) == (0, "", "2 journeys, 0 lost\n")


def test_every_step_has_its_line_and_its_time(namespace: Namespace, tmp_path: Path) -> None:
    before = time.time_ns()
    with RunningDaemon(tmp_path, "--serve", "echo"), Trace("-c", "2", f"udp port {ECHO}") as trace:
        send(ECHO)
        found = [trace.next(), trace.next()]
        assert trace.process.wait(PATIENCE) == 0
    for journey in found:
        assert before <= journey["time"] <= time.time_ns()
        assert [step for step in journey["steps"] if not step["line"] or not step["floor"]] == []
        assert [step["since"] for step in journey["steps"]] == sorted(step["since"] for step in journey["steps"])
        assert {step["dev"] for step in journey["steps"]} <= {"", "us0"}


def test_a_datagram_that_is_echoed(namespace: Namespace, tmp_path: Path) -> None:
    with RunningDaemon(tmp_path, "--serve", "echo"), Trace(f"udp port {ECHO}") as trace:
        source = send(ECHO)
        there, back = trace.next(), trace.next()
    assert there["packet"] == f"IP {HOST}.{source} > {STACK}.{ECHO}: UDP, length 6"
    assert there["outcome"] == "delivered"
    in_order(there, "ip_rcv", "udp_rcv", "__udp4_lib_lookup", "sock_def_readable", "udp_recvmsg")
    assert bytes.fromhex(there["frame"]).endswith(b"muffin") and there["length"] == 48
    assert back["packet"] == f"IP {STACK}.{ECHO} > {HOST}.{source}: UDP, length 6"
    in_order(back, "udp_sendmsg", "fib_lookup", "udp_send_skb", "ip_local_out", "ip_output", "tun_get_user")
    assert back["outcome"] == "sent"


def test_a_refused_port_and_the_icmp_error_that_it_causes(namespace: Namespace, tmp_path: Path) -> None:
    with RunningDaemon(tmp_path) as daemon, Trace(f"udp port {REFUSED} or icmp") as trace:
        send(REFUSED)
        found = sorted((trace.next(), trace.next()), key=lambda journey: str(journey["outcome"]))
        with daemon.client() as client:
            status = client.status()
    lost, answer = found
    assert (lost["outcome"], lost["reason"]) == ("dropped", "NO_SOCKET")
    in_order(lost, "udp_rcv", "kfree_skb_reason")
    assert status.drops == {"NO_SOCKET": 1} and status.counters["Udp.NoPorts"] == 1
    assert (answer["outcome"], answer["caused_by"]) == ("sent", lost["journey"])
    assert "ICMP" in answer["packet"] and "unreachable" in answer["packet"]
    in_order(answer, "icmp_push_reply", "ip_local_out", "tun_get_user")


def test_of_two_flows_the_one_that_matches(namespace: Namespace, tmp_path: Path) -> None:
    with RunningDaemon(tmp_path, "--serve", "echo,discard"), Trace("udp", "dst", "port", "9") as trace:
        for _ in range(3):
            send(ECHO)
            send(9)
        found = [trace.next() for _ in range(3)]
        status, rest, err = trace.stop()
    assert [f"> {STACK}.9: UDP" in journey["packet"] for journey in found] == [True] * 3
    assert (status, rest, err) == (0, "", "3 journeys, 0 lost\n")


def test_text_a_file_and_a_picture(namespace: Namespace, tmp_path: Path) -> None:
    file, picture = tmp_path / "trace.pcapng", tmp_path / "way.svg"
    with RunningDaemon(tmp_path, "--serve", "echo"):
        text = ustack("trace", "-c", "2", "--color", "always", f"udp port {ECHO}")
        drawn = ustack("trace", "--svg", str(picture), f"udp dst port {ECHO}")
        with Trace("-c", "2", "-w", str(file), f"udp port {ECHO}") as trace:
            for process in (text, drawn):
                assert process.stderr is not None and process.stderr.readline().startswith("tracing ")
            send(ECHO)
            assert trace.process.wait(PATIENCE) == 0
        out, err = text.communicate(timeout=PATIENCE)
        shown, _ = drawn.communicate(timeout=PATIENCE)
    assert (text.returncode, drawn.returncode, err) == (0, 0, "2 journeys, 0 lost\n")
    assert out.count("\n\n") == 1 and "\x1b[1;32mdelivered" in out and "\x1b[1;32msent" in out
    assert "udp_rcv" in shown and "\x1b" not in shown
    ways = [
        (about.ifname, about.direction, b"udp_" in b" ".join(about.comments)) for _, about in read(file.read_bytes())
    ]
    assert ways == [(b"us0", 1, True), (b"us0", 2, True)]
    assert "udp_rcv" in "".join(ElementTree.parse(picture).getroot().itertext())


def test_a_reader_who_has_enough(namespace: Namespace, tmp_path: Path) -> None:
    """``ustack trace | head -1``: no word of a broken pipe."""
    with RunningDaemon(tmp_path, "--serve", "echo"):
        process = ustack("trace", "udp")
        assert process.stdout is not None and process.stderr is not None
        assert process.stderr.readline() == "tracing udp\n"
        process.stdout.close()
        end = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < end:
            send(ECHO)
            time.sleep(0.02)
        err = process.stderr.read()
        process.stderr.close()
        assert process.stdin is not None
        process.stdin.close()
    assert process.wait(PATIENCE) == 1
    assert "lost\n" in err and "Traceback" not in err and "roken" not in err, err


def test_it_ends_with_the_daemon(namespace: Namespace, tmp_path: Path) -> None:
    with RunningDaemon(tmp_path) as daemon, Trace() as trace:
        daemon.terminate()
        _, err = trace.process.communicate(timeout=PATIENCE)
    assert trace.process.returncode == 1
    assert err.endswith("0 lost\nustack: the daemon has gone\n"), err


def test_nobody_traced_leaves_nothing_behind(namespace: Namespace, tmp_path: Path) -> None:
    """With the last trace the tracer goes, and packets go their way as before."""
    with RunningDaemon(tmp_path, "--serve", "echo") as daemon:
        with Trace("-c", "1", "udp") as trace:
            send(ECHO)
            assert trace.process.wait(PATIENCE) == 0
        with daemon.client() as client:
            counted = client.status().counters["Udp.InDatagrams"]
            send(ECHO)
            end = time.monotonic() + PATIENCE
            while client.status().counters["Udp.InDatagrams"] == counted and time.monotonic() < end:
                time.sleep(0.01)
            assert client.status().counters["Udp.InDatagrams"] == counted + 1
