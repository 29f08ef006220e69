"""The bench of the fleet's simulation: it counts what was played, and gives no figure for a seed with a violation."""

from __future__ import annotations

import pytest

from bench import fleet_simulation
from floodmark.systems.fleet.simulation.run import Wish


def test_measure_counts_every_seed_that_was_played() -> None:
    reading = fleet_simulation.measure(range(3), 1)

    assert reading.totals.seeds_count == 3
    assert reading.totals.failed_seeds == []
    assert reading.seeds_per_minute > 0
    assert reading.cpu_s > 0


def test_measure_of_a_fleet_with_a_defect_counts_its_violations() -> None:
    reading = fleet_simulation.measure(range(4), 1, Wish(defect="D8", episode="refresh"))

    assert reading.totals.failed_seeds


def test_main_prints_one_line_per_run(capsys: pytest.CaptureFixture[str]) -> None:
    fleet_simulation.main(["--seeds", "1", "--workers", "3", "--partitions", "9"])

    assert "1 seeds on 1 processes" in capsys.readouterr().out
