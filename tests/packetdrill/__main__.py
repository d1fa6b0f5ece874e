"""``python -m tests.packetdrill``: run scripts, print how each went and what the failing ones said."""

from __future__ import annotations

import argparse
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.packetdrill.expected import STANDING, read_expected
from tests.packetdrill.runner import Place, Result, Unavailable, build, run_script


def main(arguments: list[str] | None = None) -> int:
    """1 if a script fails that is listed as passing, or was asked for by name; 2 if none can be run."""
    options = _parse(arguments)
    try:
        place = Place.find(options.packetdrill, options.scripts)
        names = [name for name in place.names() if not options.names or any(n in name for n in options.names)]
        with tempfile.TemporaryDirectory() as folder:
            build(Path(folder))
            results = _run(place, Path(folder), names, options.jobs, ("--verbose",) * options.trace)
    except Unavailable as why:
        print(why, file=sys.stderr)  # noqa: T201
        return 2
    return _tell(results, bool(options.names), options.verbose)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.packetdrill", description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of names; without one, every script for IPv4")
    parser.add_argument("--packetdrill", help="the program (default: $USTACK_PACKETDRILL, then PATH)")
    parser.add_argument(
        "--scripts", help="gtests/net/tcp (default: $USTACK_PACKETDRILL_SCRIPTS, then beside the program)"
    )
    parser.add_argument("-j", "--jobs", type=int, default=2, help="scripts at a time (default: 2)")
    parser.add_argument("-v", "--verbose", action="store_true", help="show what the failing scripts said")
    parser.add_argument("-t", "--trace", action="count", default=0, help="have packetdrill show every packet")
    return parser.parse_args(arguments)


def _run(place: Place, built: Path, names: list[str], jobs: int, flags: tuple[str, ...]) -> list[Result]:
    with ProcessPoolExecutor(jobs) as pool:
        waiting = [pool.submit(run_script, place, built, name, flags) for name in names]
        return [future.result() for future in waiting]


def _tell(results: list[Result], asked_for: bool, verbose: bool) -> int:
    expected = read_expected()
    worse = [r for r in results if not r.passed and (asked_for or expected.get(r.name) == STANDING)]
    for result in results:
        listed = expected.get(result.name, "not listed")
        remark = "" if result.passed == (listed == STANDING) else f"  listed: {listed}"
        print(f"{'pass' if result.passed else 'FAIL'}  {result.seconds:5.1f} s  {result.name}{remark}")  # noqa: T201
        if verbose and (not result.passed or asked_for) and result.output:
            print("      " + result.output.rstrip().replace("\n", "\n      "))  # noqa: T201
    print(f"{sum(r.passed for r in results)} of {len(results)} pass")  # noqa: T201
    return 1 if worse else 0


if __name__ == "__main__":
    raise SystemExit(main())
