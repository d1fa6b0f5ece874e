"""ustack trace: the way of packets through the stack, step by step, as pwru(1) and dropwatch(1) show the kernel's."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ustack.cli.control import control_option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import BinaryIO, Self

    from ustack.io.trace import JourneyInfo
    from ustack.io.trace_pcapng import TracePcapng

    Command = Callable[..., object]


def output_options(command: Command) -> Command:
    """How journeys are shown: ``as_json``, ``pcapng``, ``svg`` and ``color``, which Output takes."""
    for option in reversed(
        (
            click.option("-j", "--json", "as_json", is_flag=True, help="One JSON object a line for each packet."),
            click.option(
                "-w", "--write", "pcapng", metavar="FILE", help="Write pcapng, the steps as comments; - for stdout."
            ),
            click.option("--svg", metavar="FILE", help="Draw the way of the first packet."),
            click.option(
                "--color",
                type=click.Choice(["auto", "always", "never"]),
                default="auto",
                help="Colours: auto means on a terminal.",
            ),
        )
    ):
        command = option(command)
    return command


class Output:
    """Journeys to standard output and to files, each at once."""

    def __init__(
        self, as_json: bool = False, pcapng: str | None = None, svg: str | None = None, color: str = "auto"
    ) -> None:
        """Text, or JSON; neither with ``pcapng``, but JSON if that is asked for too. OSError for a file that fails."""
        from ustack.io.trace_source import Sources
        from ustack.io.trace_text import TraceText

        self.count: int = 0  #: journeys shown
        self._json: bool = as_json
        self._quiet: bool = pcapng is not None and not as_json
        self._sources: Sources = Sources()
        self._text: TraceText = TraceText(self._sources, columns(), colors(color))
        self._svg: str | None = svg
        if svg is not None:  # one that cannot be written is told before anybody waits for a packet
            open(svg, "ab").close()
        self._file: BinaryIO | None = None
        self._pcapng: TracePcapng | None = None
        if pcapng is not None:
            self._open(pcapng)

    def _open(self, pcapng: str) -> None:
        from ustack.io.trace_pcapng import TracePcapng

        self._file = sys.stdout.buffer if pcapng == "-" else open(pcapng, "wb")
        self._pcapng = TracePcapng(self._file, self._sources)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file is not None and self._file is not sys.stdout.buffer:
            self._file.close()
        if self._svg is not None and not Path(self._svg).stat().st_size:
            Path(self._svg).unlink()  # there was nothing to draw

    def show(self, journey: JourneyInfo) -> None:
        """One more."""
        self.count += 1
        if self._pcapng is not None:
            self._pcapng.write(journey)
        if self._svg is not None and self.count == 1:
            from ustack.io.trace_svg import journey_svg

            Path(self._svg).write_text(journey_svg(journey, self._sources), encoding="utf-8")
        if self._quiet:
            return
        if self._json:
            from ustack.io.trace_json import journey_line

            sys.stdout.write(journey_line(journey, self._sources))
        else:
            sys.stdout.write(("\n" if self.count > 1 else "") + self._text.render(journey))
        sys.stdout.flush()


def colors(when: str) -> bool:
    """``auto``: on a terminal that has not said otherwise (no-color.org)."""
    if when != "auto":
        return when == "always"
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def columns() -> int:
    """The terminal's; of what is no terminal $COLUMNS, else enough."""
    from ustack.io.trace_text import WIDTH

    return shutil.get_terminal_size((WIDTH, 24)).columns


@contextlib.contextmanager
def until_interrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM end what is inside, and are no error."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, leave)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("words", metavar="[FILTER]...", nargs=-1)
@click.option("-c", "--count", type=click.IntRange(min=1), help="End after so many packets.")
@output_options
@control_option
def trace(
    words: tuple[str, ...],
    count: int | None,
    as_json: bool,
    pcapng: str | None,
    svg: str | None,
    color: str,
    control: str | None,
) -> None:
    """Show the way of packets through the stack of the running daemon, until Ctrl-C.

    For each packet that matches FILTER (pcap-filter(7), as tcpdump takes it; all without one), once its way is over:
    Linux's functions in order, on which device, what was decided and what by, the line of our code; how it ended.
    With --svg alone the first packet is all.

    \b
    ustack trace icmp
    ustack trace udp port 4747
    ustack trace -c 1 --svg way.svg tcp dst port 80
    ustack trace -w - | wireshark -k -i -
    """
    from ustack.io.client import Client
    from ustack.io.pcap_filter import compile_filter

    program = compile_filter(" ".join(words))
    if svg is not None and pcapng is None and count is None:
        count = 1
    lost = 0
    with Client(control) as client, Output(as_json, pcapng, svg, color) as output:
        try:
            with until_interrupted():
                events = client.trace(program)
                click.echo(f"tracing {' '.join(words) or 'all packets'}", err=True)
                for event in events:
                    lost += event.lost
                    output.show(event.journey)
                    if output.count == count:
                        break
        finally:
            click.echo(f"{output.count} {'journey' if output.count == 1 else 'journeys'}, {lost} lost", err=True)
