"""tools/plot: pictures of a connection's windows, round-trip time and rate over virtual time, by matplotlib.

    tools/plot FILE.svg FILE.png ...            draw a simulated connection into every file that is named
    tools/plot --csv TRACE.csv [FILE.svg ...]   write its samples as well
    tools/plot --from TRACE.csv FILE.svg        draw samples that were written before

The same scenario and seed give the same samples, and the same SVG.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.sim.bottleneck import Scenario
from tests.sim.tables import algorithms
from tests.sim.trace import NONE, Sample, read_csv, trace, write_csv
from ustack.timer import NSEC_PER_MSEC, NSEC_PER_SEC

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Points of a curve: more than a picture has columns, and few enough for a small file.
POINTS: Final = 600
#: Nanoseconds over which the delivery rate is taken.
WINDOW: Final = 100 * NSEC_PER_MSEC
COLOURS: Final = {"cwnd": "#2a6496", "in flight": "#d08a2e", "ssthresh": "#7a8b3c"}
INK, PAPER = "#1d2731", "#fbfbf8"


class Options(argparse.Namespace):
    """The command line, typed."""

    files: list[Path]
    csv: Path | None
    source: Path | None
    cc: str
    rate: float
    rtt: float
    buffer: float
    loss: float
    flows: int
    secs: float
    seed: int

    def scenario(self) -> Scenario:
        rate, rtt = int(self.rate * 1e6), int(self.rtt * 1e6)
        duration = int(self.secs * 1e9)
        like = Scenario(self.cc, self.flows, rate, rtt, loss=self.loss, duration=duration, seed=self.seed)
        return replace(like, buffer=int(like.product * self.buffer))

    def title(self) -> str:
        if self.source is not None:
            return self.source.name
        loss = f", {100 * self.loss:g} % lost" if self.loss else ""
        beside = f", beside {self.flows - 1} more" if self.flows > 1 else ""
        return f"{self.cc}: {self.rate:g} Mbit/s, {self.rtt:g} ms, a queue of {self.buffer:g} BDP{loss}{beside}"


def parse(arguments: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog="tools/plot", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("files", nargs="*", type=Path, metavar="FILE", help="pictures: PNG, SVG, PDF, by their names' ends")
    add("--csv", type=Path, metavar="FILE", help="write the samples there")
    add("--from", dest="source", type=Path, metavar="FILE", help="draw these samples, and run nothing")
    add("--cc", default=algorithms()[0], choices=algorithms(), help="the congestion control")
    add("--rate", type=float, default=20.0, metavar="MBIT", help="of the bottleneck  [20]")
    add("--rtt", type=float, default=40.0, metavar="MS", help="of the empty path  [40]")
    add("--buffer", type=float, default=1.0, metavar="BDP", help="bandwidth-delay products before it  [1]")
    add("--loss", type=float, default=0.0, metavar="P", help="of each frame, besides what the queue drops  [0]")
    add("--flows", type=int, default=1, metavar="N", help="how many share it; the first is drawn  [1]")
    add("--secs", type=float, default=20.0, metavar="S", help="of virtual time  [20]")
    add("--seed", type=int, default=1, metavar="N")
    options = parser.parse_args(arguments, namespace=Options())
    if not options.files and options.csv is None:
        parser.error("no file to write")
    return options


# -- curves


Curve = tuple[list[float], list[float]]


def curve(samples: Sequence[Sample], value: Callable[[Sample], int], scale: float = 1.0) -> Curve:
    """Seconds and values, where they change, thinned so that the least and the most of every stretch are there."""
    points = [(sample.time, value(sample)) for sample in samples if value(sample) != NONE]
    kept = thinned([point for at, point in enumerate(points) if at == 0 or point[1] != points[at - 1][1]])
    if points and kept[-1][0] != points[-1][0]:
        kept.append(points[-1])
    return [when / NSEC_PER_SEC for when, _ in kept], [each * scale for _, each in kept]


def thinned(points: list[tuple[int, int]]) -> list[tuple[int, int]]:
    if len(points) <= POINTS:
        return points
    width = (points[-1][0] - points[0][0]) * 2 // POINTS + 1
    stretches: dict[int, list[tuple[int, int]]] = {}
    for point in points:
        stretches.setdefault(point[0] // width, []).append(point)
    kept = []
    for stretch in stretches.values():
        extremes = {min(stretch, key=lambda point: point[1]), max(stretch, key=lambda point: point[1])}
        kept += sorted(extremes)
    return kept


def delivery_rate(samples: Sequence[Sample]) -> Curve:
    """Mbit/s that were acknowledged, over windows of WINDOW."""
    times, rates = [], []
    late, since = 0, samples[0]
    for sample in samples:
        if sample.time >= late + WINDOW:
            took = sample.time - since.time
            times.append(sample.time / NSEC_PER_SEC)
            rates.append((sample.delivered - since.delivered) * 8 * NSEC_PER_SEC / took / 1e6)
            late, since = sample.time, sample
    return times, rates


# -- the picture


def draw(samples: Sequence[Sample], title: str, files: Sequence[Path]) -> None:
    """Three panels over one axis of time. ImportError without matplotlib."""
    import matplotlib  # not needed for the samples

    matplotlib.use("Agg")
    # no random names in an SVG; text stays text
    matplotlib.rcParams.update({"svg.hashsalt": "ustack", "svg.fonttype": "none", "font.size": 9, "text.color": INK})
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6.4), facecolor=PAPER, layout="constrained")
    panels: Any = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 2))
    windows(panels[0], samples)
    times(panels[1], samples)
    rates(panels[2], samples)
    for panel in panels:
        dress(panel)
    panels[-1].set_xlabel("seconds")
    figure.suptitle(title, color=INK)
    for file in files:
        figure.savefig(file, dpi=120, metadata={"Date": None} if file.suffix == ".svg" else None)
        if file.suffix == ".svg":
            file.write_text(slim(file.read_text()))


def slim(svg: str) -> str:
    """Curves to a tenth of a point, and lines that do not end with blanks: half the bytes."""
    svg = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d)\d+", r"\1", path[0]), svg)
    return re.sub(r"[ \t]+$", "", svg, flags=re.MULTILINE)


def windows(panel: Any, samples: Sequence[Sample]) -> None:
    def step(name: str, value: Callable[[Sample], int], width: float, **style: str) -> None:
        panel.step(*curve(samples, value), where="post", label=name, color=COLOURS[name], linewidth=width, **style)

    step("in flight", lambda sample: sample.in_flight, 0.7)
    step("ssthresh", lambda sample: sample.ssthresh, 1.0, linestyle="--")
    step("cwnd", lambda sample: sample.cwnd, 1.3)
    # ssthresh right after a loss may lie far above all else: what is sent matters
    panel.set_ylim(0, 1.1 * max(max(sample.cwnd, sample.in_flight) for sample in samples))
    panel.set_ylabel("packets")


def times(panel: Any, samples: Sequence[Sample]) -> None:
    panel.plot(*curve(samples, lambda sample: sample.rtt, 1e-6), label="RTT", color="#d08a2e", linewidth=0.7)
    panel.plot(*curve(samples, lambda sample: sample.srtt, 1e-6), label="smoothed", color="#2a6496", linewidth=1.3)
    panel.set_ylabel("RTT, ms")
    panel.set_ylim(bottom=0)


def rates(panel: Any, samples: Sequence[Sample]) -> None:
    paced = curve(samples, lambda sample: sample.pacing_rate, 8e-6)
    panel.step(*paced, where="post", label="pacing rate", color="#c0504d", linewidth=0.9)
    delivered = delivery_rate(samples)
    panel.plot(*delivered, label="acknowledged", color="#2a6496", linewidth=1.3)
    panel.set_ylabel("Mbit/s")
    panel.set_ylim(0, 2.5 * max([1.0, *delivered[1]]))


def dress(panel: Any) -> None:
    panel.set_facecolor(PAPER)
    panel.grid(color="#d9d8d0", linewidth=0.6)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    panel.legend(loc="lower right", bbox_to_anchor=(1, 0.97), frameon=False, ncols=3, borderaxespad=0)
    panel.margins(x=0)


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    try:
        if options.source is None:
            samples = trace(options.scenario())
        else:
            with options.source.open() as file:
                samples = read_csv(file)
        if options.csv is not None:
            with options.csv.open("w") as file:
                write_csv(file, samples)
        if options.files:
            draw(samples, options.title(), options.files)
    except (OSError, ValueError, ImportError) as reason:
        sys.stderr.write(f"tools/plot: {reason}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
