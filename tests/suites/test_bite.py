"""The scenarios bite: against a hub that is broken in the way a scenario is about it FAILs, and against the honest one it passes.

Whole runs with real processes, at a small scale. The broken hub is the same one with one more option: a lie, no bounds, no history.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from floodmark import suites
from floodmark.model.result import ScenarioResult
from floodmark.model.scenario import Scenario
from floodmark.model.verdict import Verdict
from floodmark.report.folder import RunFolder
from floodmark.report.terminal import Progress
from floodmark.runner.session import Session, Settings

NO_BOUNDS = ("--queue", "100000", "--queue-bytes", "900000000")


def built(name: str, scale: float, *more: str) -> Scenario:
    """A scenario of the suite, its target with more options; the last one of a kind counts."""
    scenario = suites.entries()[f"subscriptions.{name}"].build(scale)
    assert isinstance(scenario, Scenario)
    target = msgspec.structs.replace(scenario.target, args=(*scenario.target.args, *more))
    # Nobody here judges times, and what a broken hub has lost will not come however long one waits.
    return msgspec.structs.replace(scenario, target=target, drain_limit_s=3.0, lag_limit_s=10.0)


def play(folder: Path, scenario: Scenario) -> ScenarioResult:
    session = Session(scenario, Settings(agents=1, seed=7), RunFolder(folder), Progress(quiet=True))
    return asyncio.run(session.play())


def broken(result: ScenarioResult) -> set[str]:
    return {criterion.text for criterion in result.criteria if criterion.verdict is Verdict.FAIL}


@pytest.mark.parametrize(
    ("name", "scale", "more", "criterion"),
    [
        ("failures-exact", 1.0, ("--lie", "forget=5@70"), "delivered == 3500"),
        ("failures-exact", 1.0, ("--lie", "stats=1.02"), "stats_error == 0"),
        ("broadcast", 0.1, ("--lie", "misroute=3@1000"), "delivered == 1000"),
        ("nothing-left", 0.1, ("--lie", "duplicate=3@900"), "duplicated == 0"),
        ("saturation-stuck", 0.1, ("--policy", "drop_oldest"), "lost == 0"),
        ("saturation-stuck", 0.1, ("--policy", "lag"), "delivered == 100000"),
        ("reset-storm", 0.1, ("--history", "0"), "lost == 0"),
        ("memory-limit", 1.0, NO_BOUNDS, "delivered == 8000"),
    ],
)
def test_scenario_against_a_hub_that_is_broken_in_its_way_fails(
    name: str, scale: float, more: tuple[str, ...], criterion: str, tmp_path: Path
) -> None:
    result = play(tmp_path, built(name, scale, *more))

    assert result.verdict is Verdict.FAIL
    assert criterion in broken(result)


@pytest.mark.parametrize(("name", "scale"), [("failures-exact", 1.0), ("broadcast", 0.1), ("nothing-left", 0.1), ("saturation-stuck", 0.1)])
def test_scenario_against_the_honest_hub_passes(name: str, scale: float, tmp_path: Path) -> None:
    result = play(tmp_path, built(name, scale))

    assert broken(result) == set()
    assert result.verdict is Verdict.PASS
