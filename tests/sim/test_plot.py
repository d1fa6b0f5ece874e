"""tools/plot: samples that repeat exactly, files that read as they were written, and pictures of them."""

from __future__ import annotations

import io
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.sim.bottleneck import Scenario
from tests.sim.plot import POINTS, Options, curve, delivery_rate, main, parse, thinned
from tests.sim.tables import algorithms
from tests.sim.trace import HEAD, NONE, Sample, read_csv, trace, write_csv
from ustack.timer import NSEC_PER_MSEC, NSEC_PER_SEC

if TYPE_CHECKING:
    from pathlib import Path

SHORT = Scenario(buffer=25_000, loss=0.01, duration=2 * NSEC_PER_SEC)
drawing = pytest.mark.skipif(find_spec("matplotlib") is None, reason="matplotlib is not installed (extra: dev)")


def sample(time: int, cwnd: int = 10, delivered: int = 0) -> Sample:
    return Sample(time, cwnd, NONE, 1, 40, 41, NONE, delivered, 0, 0)


@pytest.mark.parametrize("congestion", algorithms())
def test_the_same_seed_gives_the_same_samples(congestion: str) -> None:
    scenario = replace(SHORT, congestion=congestion)
    first = trace(scenario)
    assert trace(scenario) == first != trace(replace(scenario, seed=2))
    assert len(first) > 100


def test_samples_tell_what_happened() -> None:
    """From an initial window of ten through slow start to a loss, in the order of time, nothing said twice."""
    samples = trace(SHORT)
    assert samples[0].time == 0 and samples[0].cwnd == 10 and samples[0].ssthresh == NONE == samples[0].srtt
    assert all(late.time >= early.time and late.state != early.state for early, late in pairwise(samples))
    assert max(sample.cwnd for sample in samples) > 20
    last = samples[-1]
    assert last.retransmitted > 0 and last.ssthresh != NONE and last.srtt >= 40 * NSEC_PER_MSEC
    assert 0 < max(sample.queue for sample in samples) <= SHORT.buffer
    delivered = [sample.delivered for sample in samples]
    assert delivered == sorted(delivered) and 100_000 < delivered[-1] < SHORT.rate // 4


def test_a_file_reads_as_it_was_written() -> None:
    samples = trace(SHORT)
    file = io.StringIO()
    write_csv(file, samples)
    file.seek(0)
    assert read_csv(file) == samples


@pytest.mark.parametrize("text", ["", "time,cwnd\n1,2\n", ",".join(HEAD) + "\n1,2\n", ",".join(HEAD) + "\n" + "x," * 9])
def test_what_is_no_trace_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read_csv(io.StringIO(text))


def test_curves_leave_out_what_is_not_known_and_keep_the_extremes() -> None:
    assert curve([sample(0), sample(1), sample(2, 11)], lambda each: each.ssthresh) == ([], [])
    seconds = NSEC_PER_SEC
    flat = [sample(0), sample(seconds), sample(2 * seconds, 20), sample(3 * seconds, 20)]
    assert curve(flat, lambda each: each.cwnd) == ([0.0, 2.0, 3.0], [10, 20, 20])
    points = [(time, 1000 if time == 5003 else time % 7) for time in range(10_000)]
    kept = thinned(points)
    assert len(kept) <= POINTS + 4 and (5003, 1000) in kept and kept == sorted(kept)


def test_the_rate_is_that_of_what_was_acknowledged() -> None:
    """1000 bytes each millisecond are 8 Mbit/s."""
    samples = [sample(ms * NSEC_PER_MSEC, delivered=1000 * ms) for ms in range(1001)]
    times, rates = delivery_rate(samples)
    assert len(times) == 10 and rates == pytest.approx([8.0] * 10)


def test_the_command_line_is_a_scenario() -> None:
    options = parse("x.svg --rate 10 --rtt 20 --buffer 2 --loss 0.01 --flows 3 --secs 1.5 --seed 9".split())
    assert options.scenario() == Scenario(
        algorithms()[0], 3, 10_000_000, 20 * NSEC_PER_MSEC, 50_000, 0.01, duration=1500 * NSEC_PER_MSEC, seed=9
    )
    assert options.title() == f"{algorithms()[0]}: 10 Mbit/s, 20 ms, a queue of 2 BDP, 1 % lost, beside 2 more"
    assert isinstance(options, Options)
    for wrong in (["x.svg", "--cc", "none"], [], ["--rate", "x"]):
        with pytest.raises(SystemExit):
            parse(wrong)


@drawing
def test_pictures(tmp_path: Path) -> None:
    """SVG and PNG, from a run and from its file: the same, and small enough for a page."""
    run = ["--secs", "2", "--rate", "10", "--loss", "0.01", "--csv", str(tmp_path / "trace.csv")]
    assert main([str(tmp_path / "one.svg"), str(tmp_path / "one.png"), *run]) == 0
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    picture = (tmp_path / "one.svg").read_text()
    for word in ("cwnd", "ssthresh", "in flight", "smoothed", "pacing rate", "acknowledged", "1 % lost"):
        assert f">{word}<" in picture or word in picture
    assert len(picture) < 100_000
    for name in ("two.svg", "three.svg"):
        assert main([str(tmp_path / name), "--from", str(tmp_path / "trace.csv")]) == 0
    assert (tmp_path / "two.svg").read_text() == (tmp_path / "three.svg").read_text()


def test_mistakes_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "not.csv").write_text("1,2,3\n")
    assert main([str(tmp_path / "x.svg"), "--from", str(tmp_path / "not.csv")]) == 1
    assert main([str(tmp_path / "x.svg"), "--from", str(tmp_path / "none.csv")]) == 1
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2 and "no trace" in told[0] and "none.csv" in told[1]
