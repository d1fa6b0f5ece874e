"""python -m tests.oracle.tcp FAMILY [FIRST[-LAST]]: scripts in which the two differ, reduced."""

from __future__ import annotations

import sys

import click

from tests.oracle.tcp.families import FAMILIES, generate
from tests.oracle.tcp.judge import differs, reduced, report


def main(family: str, seeds: str = "1-100") -> int:
    first, _, last = seeds.partition("-")
    found = 0
    for seed in range(int(first), int(last or first) + 1):
        script = generate(family, seed)
        if differs(script):
            found += 1
            click.echo(f"\n{family} {seed}:\n{report(reduced(script))}")
    click.echo(f"{found} differ")
    return 1 if found else 0


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in FAMILIES:
        sys.exit(f"usage: python -m tests.oracle.tcp {'|'.join(FAMILIES)} [FIRST[-LAST]]")
    sys.exit(main(*sys.argv[1:]))
