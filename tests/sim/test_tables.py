"""Throughput over buffer, loss and delay, and fairness, for every algorithm: as they were when they were recorded.

Whoever changes what a sender does sees here what that does to all of it, and records it with ``tools/sim record``.
"""

from __future__ import annotations

import pytest

from tests.sim.__main__ import main
from tests.sim.bottleneck import Scenario, jain, run
from tests.sim.tables import BUFFERS, FAIR, FAIRNESS, FLOWS, LOSSES, RTTS, TABLES, THROUGHPUT, Table, algorithms
from ustack.timer import NSEC_PER_MSEC, NSEC_PER_SEC

MEANT = "if that was meant: tools/sim record"


def rows_of(table: Table, congestion: str) -> list[list[str]]:
    return [row for row in table.recorded() if row[0] == congestion]


PARTS = [
    pytest.param(table, congestion, numbers, id=f"{table.name}-{congestion}-{part}")
    for table in TABLES
    for congestion in algorithms()
    for part, numbers in table.parts(congestion).items()
]


@pytest.mark.parametrize(("table", "congestion", "numbers"), PARTS)
def test_it_is_what_was_recorded(table: Table, congestion: str, numbers: list[int]) -> None:
    """To the byte and to the packet."""
    recorded = rows_of(table, congestion)
    assert table.compute(congestion, numbers) == [recorded[number] for number in numbers], MEANT


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_no_algorithm_is_left_out(table: Table) -> None:
    names = [row[0] for row in table.recorded()]
    assert list(dict.fromkeys(names)) == algorithms(), MEANT
    assert table.text(table.recorded()) == table.path.read_text(), "written by nobody's hand"


def test_flows_with_equal_delays_share_fairly() -> None:
    """Jain's index, of every algorithm and number of flows."""
    rows = [dict(zip(FAIRNESS.head, row, strict=True)) for row in FAIRNESS.recorded()]
    assert {(row["congestion"], int(row["flows"])) for row in rows} == {(a, n) for a in algorithms() for n in FLOWS}
    assert [row for row in rows if float(row["jain"]) < FAIR] == []
    assert all(int(row["least"]) > 0 for row in rows), "nobody starves"


def test_every_loss_and_delay_and_buffer_is_there() -> None:
    for congestion in algorithms():
        rows = rows_of(THROUGHPUT, congestion)
        assert len(rows) == len(RTTS) * len(BUFFERS) * len(LOSSES)
        assert all(int(row[4]) > 0 for row in rows)


def test_loss_costs_throughput_and_nothing_else_loses() -> None:
    """Over the columns of one path with room enough: what is lost more often never arrives sooner."""
    for congestion in algorithms():
        rows = [row for row in rows_of(THROUGHPUT, congestion) if row[1:3] == ["40", "100000"]]
        delivered = [int(row[4]) for row in rows]
        assert len(delivered) == len(LOSSES)
        assert delivered[0] == max(delivered)


# -- the instruments


def test_jains_index() -> None:
    assert jain([5, 5, 5, 5]) == 1.0
    assert jain([1, 0, 0, 0]) == 0.25
    assert jain([0, 0]) == 0.0
    assert jain([1, 2, 3]) == 36 / (3 * 14)


def test_the_same_seed_is_the_same_outcome_and_another_one_another() -> None:
    bad = Scenario(loss=0.02, duration=NSEC_PER_SEC)
    assert run(bad) == run(bad) != run(Scenario(loss=0.02, duration=NSEC_PER_SEC, seed=2))


def test_an_outcome_adds_up() -> None:
    """What is delivered takes its time at the bottleneck; without loss and with room for all nothing is sent twice."""
    scenario = Scenario(flows=3, buffer=30_000_000, warm_up=NSEC_PER_SEC, duration=2 * NSEC_PER_SEC)
    outcome = run(scenario)
    assert len(outcome.delivered) == 3 and outcome.overlimits == outcome.lost == outcome.timeouts == 0
    assert outcome.retransmitted == 0
    most = scenario.rate * scenario.duration // (8 * NSEC_PER_SEC)
    assert most * 9 // 10 < sum(outcome.delivered) < most
    assert Scenario(rate=8_000_000, rtt=100 * NSEC_PER_MSEC).product == 100_000


def test_the_command_says_what_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    """tools/sim."""
    for wrong in (["tables"], ["record", "now"]):
        assert main(wrong) == 2
        assert "tools/sim record" in capsys.readouterr().err
