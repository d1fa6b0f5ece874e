"""The host's side of a measurement: the same load for every stack, standard library only.

It runs in a network namespace whose only way out is the link to the stack under test, which offers TCP discard (9; it
closes when its peer does), TCP chargen (19), UDP echo (7) and ICMP echo. Every loop ends by time or by count. One JSON
object a line on stdout, an "error" in it where the stack did not answer.

    load.py MODE HOST [--secs S] [--n N] [--outstanding K] [--size B] [--streams N] [--pid PID[,PID]] [--cc NAME]
    MODE: wait ping tcp-send tcp-recv udp-echo udp-flood connrate idle
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import resource
import socket
import statistics
import struct
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Result = dict[str, float | int | str]

ECHO, DISCARD, CHARGEN = 7, 9, 19

#: Seconds without an answer after which a stack is taken for dead.
PATIENCE: Final = 10.0
SEND_SIZE: Final = 256 * 1024
RECEIVE_SIZE: Final = 1024 * 1024
#: Datagrams that are lost must not end a measurement: after this many µs without one the window is filled again.
STALL_US: Final = 200_000
STALLS_MAX: Final = 20
#: UDP echoes between two looks at the clock.
CLOCK_EVERY: Final = 16
#: linux/udp.h; and how many datagrams the flood sends to one host at a time.
UDP_SEGMENT: Final = 103
FLOOD_RUN: Final = 16
PINGS, CONNECTIONS, IDLE_CONNECTIONS = 200, 2000, 1000
#: What the stack allocates for idle connections late (timers, delayed work) is there after this many seconds.
SETTLE: Final = 1.5
CLOSE_TOGETHER: Final = 32


class Options(argparse.Namespace):
    """The command line, typed."""

    mode: str
    host: str
    secs: float
    n: int
    outstanding: int
    size: int
    streams: int
    cc: str
    pid: str

    @property
    def pids(self) -> list[int]:
        return [int(pid) for pid in self.pid.split(",") if pid]


# -- what a process uses


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of the processes so far; those that are gone count nothing."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def resident_kib(pids: list[int]) -> int:
    """Resident memory of the processes together, KiB. Raises OSError if one is gone."""
    text = "".join(Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids)
    return sum(int(size) for size in re.findall(r"^Rss:\s+(\d+) kB", text, re.MULTILINE))


# -- the modes


def connect(options: Options, port: int) -> socket.socket:
    """Connected, with the congestion control asked for: a default of BBR paces, and that is another measurement."""
    sock = socket.socket()
    sock.settimeout(PATIENCE)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, options.cc.encode())
        sock.connect((options.host, port))
    except OSError:
        sock.close()
        raise
    return sock


def reset(sock: socket.socket) -> None:
    """Close with an RST, so that nothing of a stream without an end is left behind."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def wait(options: Options) -> Result:
    """Until discard answers, ``secs`` at most: the stack is up."""
    start = time.perf_counter()
    while True:
        try:
            with socket.create_connection((options.host, DISCARD), 1.0):
                return {"waited_s": round(time.perf_counter() - start, 3)}
        except OSError:
            if time.perf_counter() - start > options.secs:
                raise
            time.sleep(0.05)


def ping(options: Options) -> Result:
    """Round trips of ICMP echoes, µs."""
    command = ["ping", "-n", "-i", "0.01", "-c", str(options.n or PINGS), "-W", "1", options.host]
    run = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    times = sorted(float(ms) * 1000 for ms in re.findall(r"time=([\d.]+) ms", run.stdout))
    if not times:
        raise OSError("no reply")
    worst = times[int(len(times) * 0.99)]
    return {"ping_us": round(statistics.median(times), 1), "ping_p99_us": round(worst, 1), "replies": len(times)}


def tcp_send(options: Options) -> Result:
    """Bulk, host to stack; the clock stops when the stack has read everything and closed."""
    socks = [connect(options, DISCARD) for _ in range(options.streams)]
    start = time.perf_counter()
    sent = together([partial(pour, sock, start + options.secs) for sock in socks])
    took = time.perf_counter() - start
    name = socks[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()
    retransmitted = sum(map(retransmits, socks))
    for sock in socks:
        sock.close()
    return {"send_gbit_s": gbit_s(sum(sent), took), "cc": name, "retransmits": retransmitted, **shares(sent)}


def pour(sock: socket.socket, end: float) -> int:
    """Bytes sent until ``end``, once the peer has closed after the last of them."""
    data, sent = bytes(SEND_SIZE), 0
    while time.perf_counter() < end:
        sent += sock.send(data)
    sock.shutdown(socket.SHUT_WR)
    while sock.recv(RECEIVE_SIZE):
        pass
    return sent


def tcp_recv(options: Options) -> Result:
    """Bulk, stack to host; the first bytes of the last stream start the clock."""
    socks = [connect(options, CHARGEN) for _ in range(options.streams)]
    for sock in socks:
        sock.recv(RECEIVE_SIZE)
    start = time.perf_counter()
    received = together([partial(drain, sock, start + options.secs) for sock in socks])
    took = time.perf_counter() - start
    for sock in socks:
        reset(sock)
    return {"recv_gbit_s": gbit_s(sum(received), took), **shares(received)}


def drain(sock: socket.socket, end: float) -> int:
    """Bytes received until ``end``, or until the peer's."""
    buffer, received = bytearray(RECEIVE_SIZE), 0
    while time.perf_counter() < end:
        size = sock.recv_into(buffer)
        if size == 0:
            break
        received += size
    return received


def together(works: list[Callable[[], int]]) -> list[int]:
    """Each in a thread of its own; one alone in this one."""
    if len(works) == 1:
        return [works[0]()]
    with ThreadPoolExecutor(len(works)) as pool:
        return [future.result() for future in [pool.submit(work) for work in works]]


def retransmits(sock: socket.socket) -> int:
    """tcpi_total_retrans."""
    count: int = struct.unpack_from("I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 100)[0]
    return count


def shares(octets: list[int]) -> Result:
    """What of several streams the least and the most got, of an even share."""
    if len(octets) == 1:
        return {}
    even = max(sum(octets) / len(octets), 1)
    return {"streams": len(octets), "least": round(min(octets) / even, 2), "most": round(max(octets) / even, 2)}


def gbit_s(octets: int, seconds: float) -> float:
    return round(octets * 8 / seconds / 1e9, 6)


def udp_echo(options: Options) -> Result:
    """Round trips a second with ``outstanding`` datagrams on their way."""
    data, done, stalls = bytes(options.size), 0, 0
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, STALL_US))
    sock.connect((options.host, ECHO))
    first_echo(sock, data)
    start = time.perf_counter()
    end = start + options.secs
    fill(sock, data, options.outstanding)
    while done % CLOCK_EVERY or time.perf_counter() < end:
        try:
            sock.recv(2048)
        except OSError:  # EAGAIN after STALL_US, or an ICMP error
            stalls += 1
            if stalls > STALLS_MAX or time.perf_counter() >= end:
                break
            fill(sock, data, options.outstanding)
            continue
        done += 1
        sock.send(data)
    took = time.perf_counter() - start
    sock.close()
    return {f"udp{options.outstanding}_s": round(done / took), "stalls": stalls}


def first_echo(sock: socket.socket, data: bytes) -> None:
    """What is resolved only once (ARP) is not part of the measurement. Raises OSError."""
    for _ in range(STALLS_MAX):
        sock.send(data)
        try:
            sock.recv(2048)
            return
        except BlockingIOError:
            continue
    raise OSError("no echo")


def fill(sock: socket.socket, data: bytes, count: int) -> None:
    for _ in range(count):
        sock.send(data)


def udp_flood(options: Options) -> Result:
    """Datagrams to the hosts of the /24 that begins at ``host``, a few to each in turn, as fast as they leave.

    The kernel cuts them (UDP_SEGMENT), or the sender would be what is measured.
    """
    data, sent = bytes(options.size * FLOOD_RUN), 0
    network = options.host.rpartition(".")[0]
    addresses = [(f"{network}.{number}", DISCARD) for number in range(1, 255)]
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, options.size)
    sendto = sock.sendto
    start = time.perf_counter()
    end = start + options.secs
    while time.perf_counter() < end:
        for address in addresses:
            with contextlib.suppress(OSError):  # ENOBUFS: the link's queue is full
                sendto(data, address)
                sent += FLOOD_RUN
    took = time.perf_counter() - start
    sock.close()
    return {"sent_s": round(sent / took), "seconds": round(took, 3)}


def connrate(options: Options) -> Result:
    """Connections a second, one after the other: connect, FIN both ways, close."""
    count, failed = options.n or CONNECTIONS, 0
    start = time.perf_counter()
    for _ in range(count):
        sock = socket.socket()
        sock.settimeout(5)
        try:
            sock.connect((options.host, DISCARD))
            sock.shutdown(socket.SHUT_WR)
            failed += sock.recv(16) != b""
        except OSError:
            failed += 1
        sock.close()
        if failed > STALLS_MAX:
            raise OSError(f"{failed} connections failed")
    return {"conn_s": round(count / (time.perf_counter() - start)), "failed": failed}


def idle(options: Options) -> Result:
    """Memory that a connection costs the stack's processes (``--pid``) while nothing happens on it, KiB."""
    count = options.n or IDLE_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, count + 64)), hard))
    before = resident_kib(options.pids)
    connections = [connect(options, DISCARD) for _ in range(count)]
    time.sleep(SETTLE)
    after = resident_kib(options.pids)
    for number, sock in enumerate(connections):
        sock.close()
        if number % CLOSE_TOGETHER == 0:
            time.sleep(0.002)  # a thousand FINs at once would overflow a TAP, and be the next measurement's business
    return {"kib_per_conn": round((after - before) / count, 2), "idle_conns": count, "rss_kib": after}


MODES: Mapping[str, Callable[[Options], Result]] = {
    "wait": wait,
    "ping": ping,
    "tcp-send": tcp_send,
    "tcp-recv": tcp_recv,
    "udp-echo": udp_echo,
    "udp-flood": udp_flood,
    "connrate": connrate,
    "idle": idle,
}


def measure(options: Options) -> Result:
    """One measurement, with the processor time of ``--pid`` meanwhile, in percent of one core."""
    cpu, start = cpu_seconds(options.pids), time.perf_counter()
    try:
        result = MODES[options.mode](options)
    except (OSError, subprocess.SubprocessError) as reason:
        result = {"error": str(reason) or type(reason).__name__}
    if options.pids:
        spent = cpu_seconds(options.pids) - cpu
        result["stack_cpu_pct"] = round(100 * spent / (time.perf_counter() - start), 1)
    return {"test": options.mode, "load1": round(os.getloadavg()[0], 2), **result}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=list(MODES))
    parser.add_argument("host")
    parser.add_argument("--secs", type=float, default=10.0)
    parser.add_argument("--n", type=int, default=0)
    parser.add_argument("--outstanding", type=int, default=1)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--cc", default="cubic")
    parser.add_argument("--pid", default="")
    print(json.dumps(measure(parser.parse_args(namespace=Options()))), flush=True)


if __name__ == "__main__":
    main()
