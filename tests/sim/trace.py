"""What a connection's variables were over time: samples from a run in virtual time, and as a file of CSV."""

from __future__ import annotations

import csv
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING, Final

from tests.sim.bottleneck import Flows
from ustack.device.cable import Pollable
from ustack.tcp.control import PACING_UNLIMITED, TCP_INFINITE_SSTHRESH
from ustack.tcp.sock import TcpSock
from ustack.timer import NEVER

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

    from tests.sim.bottleneck import Scenario
    from ustack.device.cable import Lane
    from ustack.sock import Sock

#: "Not known yet, not limited", in every column.
NONE: Final = -1


@dataclass(frozen=True)
class Sample:
    """Times in ns, windows in packets, rates in bytes a second; ``time`` counts from the first SYN."""

    time: int
    cwnd: int
    ssthresh: int
    in_flight: int
    srtt: int
    rtt: int  #: the latest sample
    pacing_rate: int
    delivered: int  #: bytes acknowledged
    retransmitted: int  #: segments
    queue: int  #: bytes before the bottleneck

    @property
    def state(self) -> tuple[int, ...]:
        """All but the time."""
        return astuple(self)[1:]


class Probe(Pollable):
    """Looks at one socket after every instant of the lab, and writes down what is new."""

    def __init__(self, sk: Sock, lane: Lane, began: int) -> None:
        assert isinstance(sk, TcpSock)
        self.tp = sk
        self.lane = lane
        self.began = began
        self.samples: list[Sample] = []

    def next_deadline(self) -> int:
        return NEVER

    def poll(self, now: int) -> None:
        sample = self.look(now)
        if not self.samples or sample.state != self.samples[-1].state:
            self.samples.append(sample)

    def look(self, now: int) -> Sample:
        tp = self.tp
        return Sample(
            now - self.began,
            int(tp.snd_cwnd),
            known(tp.snd_ssthresh, TCP_INFINITE_SSTHRESH),
            int(tp.tcp_packets_in_flight()),
            known(tp.srtt, 0),
            known(tp.rack_rtt, 0),
            known(tp.pacing_rate, PACING_UNLIMITED),
            acknowledged(tp),
            int(tp.total_retrans),
            int(self.lane.backlog(now)),
        )


def acknowledged(tp: TcpSock) -> int:
    """Bytes; what is sent in one picture is less than the four gigabytes after which this begins again."""
    return max(int(tp.snd_una - tp.iss & 0xFFFF_FFFF) - 1, 0)


def known(value: int, unknown: int) -> int:
    return NONE if value == unknown else int(value)


def trace(scenario: Scenario) -> list[Sample]:
    """The first flow of it, from its SYN to the end."""
    flows = Flows(scenario)
    with flows.pair as pair:
        flows.run_for(0)
        probe = Probe(flows.senders[0].sock.sk, pair.cable.there, pair.now)
        probe.poll(pair.now)
        pair.lab.add(probe)
        flows.run_for(scenario.warm_up + scenario.duration)
    return probe.samples


# -- files


HEAD: Final = tuple(field.name for field in fields(Sample))


def write_csv(file: TextIO, samples: Sequence[Sample]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(HEAD)
    writer.writerows(astuple(sample) for sample in samples)


def read_csv(file: TextIO) -> list[Sample]:
    """What ``write_csv`` wrote. ValueError for anything else."""
    rows = csv.reader(file)
    if tuple(next(rows, ())) != HEAD:
        raise ValueError(f"no trace: its head is not {','.join(HEAD)}")
    try:
        return [Sample(*(int(cell) for cell in row)) for row in rows]
    except TypeError:
        raise ValueError("no trace: a line is not as long as its head") from None
