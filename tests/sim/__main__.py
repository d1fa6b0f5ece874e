"""tools/sim: the tables of throughput and fairness in virtual time.

tools/sim           both tables, and whether they are those that are recorded
tools/sim record    write them to tests/sim, to be committed with the change that was meant to change them
tools/sim large     the same questions at 100 Mbit/s and for 20 seconds; minutes, and not recorded
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from tests.sim.bottleneck import Scenario, run
from tests.sim.tables import TABLES, Table, algorithms, aligned
from ustack.timer import NSEC_PER_SEC

if TYPE_CHECKING:
    from collections.abc import Iterable

LARGE_RATE, LARGE_SECONDS = 100_000_000, 20
COMMANDS: Final = ("compare", "record", "large")


def rows(table: Table, scenarios: Iterable[Scenario], pool: ProcessPoolExecutor) -> list[list[str]]:
    """One process for each processor, one scenario at a time."""
    cells = list(scenarios)
    return [table.row(scenario, outcome) for scenario, outcome in zip(cells, pool.map(run, cells), strict=True)]


def standard(record: bool, pool: ProcessPoolExecutor) -> int:
    status = 0
    for table in TABLES:
        found = rows(table, (each for name in algorithms() for each in table.scenarios(name)), pool)
        sys.stdout.write(f"{table.text(found)}\n")
        if record:
            table.record(found)
        elif not table.path.exists() or table.recorded() != found:
            sys.stdout.write(f"which is not what {table.path.name} has\n\n")
            status = 1
    return status


def enlarged(scenario: Scenario) -> Scenario:
    """The same question at a higher rate and for longer."""
    return replace(
        scenario,
        rate=LARGE_RATE,
        buffer=scenario.buffer * LARGE_RATE // scenario.rate,
        warm_up=scenario.warm_up * 2,
        duration=max(scenario.duration, LARGE_SECONDS * NSEC_PER_SEC),
    )


def large(pool: ProcessPoolExecutor) -> int:
    for table in TABLES:
        scenarios = (enlarged(each) for name in algorithms() for each in table.scenarios(name))
        sys.stdout.write("\n".join(aligned([table.head, *rows(table, scenarios, pool)])) + "\n\n")
    return 0


def main(arguments: list[str]) -> int:
    command = arguments[0] if arguments else "compare"
    if command not in COMMANDS or len(arguments) > 1:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    with ProcessPoolExecutor() as pool:
        return large(pool) if command == "large" else standard(command == "record", pool)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
