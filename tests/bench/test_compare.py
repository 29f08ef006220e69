"""The table of how often comparisons are wrong: over made-up runs and over a folder of real ones."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from bench import compare as bench
from floodmark.judge.comparison import Change
from floodmark.model.result import ScenarioResult
from floodmark.model.verdict import Verdict
from floodmark.report import RunFolder
from tests.report import made

ID = "subscriptions.case-8"  # of made.configuration_of()


def test_main_without_a_folder_prints_a_line_for_each_case_and_noise(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--pairs", "1"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 2 * len(bench.CASES)
    assert lines[2].startswith("| calm, 5 and 5, alike | 1 |")


def test_main_with_a_folder_of_runs_compares_them_with_their_neighbours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(16):
        started = made.STARTED + timedelta(minutes=number)
        result: ScenarioResult = made.passed(8, id=ID, metrics={"rss_peak": 5e7 * (1 + number / 1e4)})
        RunFolder.create(tmp_path, "alike", started).write_result(
            made.run_of(result), made.configuration_of(), made.MACHINE, command=made.COMMAND, started=started
        )

    assert bench.main([str(tmp_path), "--pairs", "2"]) == 0

    printed = capsys.readouterr().out
    assert "| 5 and 5 neighbours | 7 | 0.0% | 0.0% | 100.0% | 0 of 7 |" in printed
    assert "| 1 and 1 by lot | 2 | 0.0% | 100.0% | 0.0% | 0 of 2 |" in printed


def test_simulated_runs_of_one_seed_are_the_same_and_a_slowdown_moves_what_it_should() -> None:
    one, again = (bench.trials(noise="calm", repetitions=(6, 6), slowdown=4.0, pairs=1) for _ in range(2))

    assert one == again
    assert bench.tally(one) == {Verdict.FAIL: 1}
    worse = {row.metric for row in one[0].comparisons if row.verdict is Change.WORSE}
    assert worse <= {name for name, kind in bench.KINDS.items() if kind.slows}
    assert bench.false_same(one, slowdown=4.0) == 0.0
