"""ustack lab: a network of stacks from a description, in virtual time or with the kernel at one end of it."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ustack.cli.trace import output_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ustack.cli.trace import Output
    from ustack.lab.network import Network
    from ustack.trace.journey import Journey


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--seed", type=int, metavar="N", help="Of everything that is left to chance; the file's unless told.")
@click.option("--until", metavar="TIME", help='Virtual time at which it ends at the latest: "10s", "200ms".')
@click.option("--real-time", is_flag=True, help="By the wall clock, as with taps in the file.")
@click.option(
    "--trace",
    "trace_filter",
    is_flag=False,
    flag_value="",
    metavar="[FILTER]",
    help="Show the way of packets that match, as ustack trace does; of all without FILTER.",
)
@click.option("--capture", metavar="DIR", help="Write every frame to DIR, a pcapng file for each host and switch.")
@click.option("-q", "--quiet", is_flag=True, help="Nothing but what the programs print.")
@output_options
def lab(
    file: str,
    seed: int | None,
    until: str | None,
    real_time: bool,
    trace_filter: str | None,
    capture: str | None,
    quiet: bool,
    as_json: bool,
    pcapng: str | None,
    svg: str | None,
    color: str,
) -> None:
    """Build the network that FILE describes, run its programs, and print what they say and when.

    In virtual time, as fast as the machine can, and the same way every time. With taps in FILE, or --real-time, by
    the wall clock: a kernel, a browser or Wireshark may join at the taps. It ends with the last program, or with
    Ctrl-C; the exit status is 1 if a program ended badly or not in time.

    \b
    ustack lab muffin.toml
    ustack lab muffin.toml --trace udp
    ustack lab muffin.toml --svg way.svg --trace 'udp port 4747'
    """
    from ustack.lab.network import Network
    from ustack.lab.spec import load

    traced = trace_filter is not None or as_json or svg is not None or pcapng is not None
    # what is for other programs stands alone on standard output
    aside = as_json or pcapng == "-"
    with Network(load(Path(file)), seed) as network, captured(network, capture):
        network.say = lambda line: click.echo(line, err=aside)
        if traced:
            from ustack.cli.trace import Output

            with Output(as_json, pcapng, svg, color) as output:
                watch(network, trace_filter or "", output)
                ended_well = run(network, until, real_time, quiet)
                network.journeys.end_all()
        else:
            ended_well = run(network, until, real_time, quiet)
    if not ended_well:
        first, *others = network.failures
        more = f" (and {len(others)} more)" if others else ""
        raise click.ClickException(f"{first}{more}")


@contextlib.contextmanager
def captured(network: Network, directory: str | None) -> Iterator[None]:
    """Every frame of every node meanwhile, DIR made if it is not there. Raises OSError."""
    if directory is None:
        yield
        return
    from ustack.io.capture import Capture

    Path(directory).mkdir(exist_ok=True)
    with contextlib.ExitStack() as undo:
        for node in network.nodes():
            file = undo.enter_context(Path(directory, f"{node.name}.pcapng").open("wb"))
            undo.callback(Capture(file, node.stack.net, node.stack.devices).close)
        yield


def run(network: Network, until: str | None, real_time: bool, quiet: bool) -> bool:
    """True if every program has ended well. Raises OSError for taps that cannot be had, ValueError for ``until``."""
    from ustack.lab.units import duration

    began = time.monotonic()
    limit = None if until is None else duration(until)
    late = ""
    if real_time or network.taps:
        from ustack.lab.realtime import RealNetwork

        with RealNetwork(network) as real:
            if not quiet:
                for tap in network.taps:
                    click.echo(f"{tap.name} is {tap.node.name}:{tap.dev.name}", err=True)
            ended_well = real.run(limit)
            late = f", at most {real.real.late / 1e6:.1f} ms late"
    else:
        ended_well = network.run(until)
    if not quiet:
        summary(network, f"{time.monotonic() - began:.2f} s{late}")
    return ended_well


def summary(network: Network, took: str) -> None:
    """To stderr: what stands on standard output is the same at each run."""
    stats = [lane.stats for cable in network.cables for lane in (cable.there, cable.back)]
    sent, lost = (sum(int(getattr(each, name)) for each in stats) for name in ("sent", "lost"))
    lost += sum(int(each.overlimits + each.missed) for each in stats)
    parts = [f"{int(network.lab.now) / 1e9:g} s of virtual time in {took}"]
    parts.append(counted(len(network.hosts), "host") + ", " + counted(len(network.switches), "switch"))
    parts.append(f"{counted(len(network.cables), 'cable')} with {counted(sent, 'frame')}, {lost} lost")
    click.echo("; ".join(parts), err=True)


def counted(number: int, what: str) -> str:
    """``1 host``, ``2 hosts``."""
    plural = "es" if what.endswith("ch") else "s"
    return f"{number:,} {what}{'' if number == 1 else plural}"


def watch(network: Network, text: str, output: Output) -> None:
    """Show the journeys of packets that match ``text`` as they end. Raises FilterError."""
    from ustack.io.pcap_filter import compile_filter
    from ustack.io.trace import journey_info
    from ustack.trace.watcher import FilterWatcher

    class Shown(FilterWatcher):
        def journey(self, journey: Journey) -> None:
            output.show(journey_info(journey))

    network.journeys.watch(Shown(compile_filter(text)))
