"""The pipeline's scenarios pass against the honest pipeline and bite: against one that lies in the way a scenario is about they FAIL.

Whole runs with real processes, at a small scale; what judges time, speed or memory is left to runs on a quiet machine.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from floodmark import suites
from floodmark.model.result import ScenarioResult
from floodmark.model.scenario import Scenario
from floodmark.model.trial import Trial
from floodmark.model.verdict import Verdict
from floodmark.report.folder import RunFolder
from floodmark.report.terminal import Progress
from floodmark.runner.session import Session, Settings
from floodmark.runner.trial import verdict_on_trial

PLANS = {
    "cancellation": "P000-1",
    "error-recovery": "P000-2",
    "rapid-cycles": "P000-3",
    "large-dataset": "P000-4",
    "backpressure": "P000-5",
    "groups": "P000-6",
    "concurrent": "P000-7",
    "varying-load": "P000-8",
    "sustained": "P000-9",
    "network-failure": "P000-D",
    "network-cut": "P000-D, cut",
    "constant-memory": "IN-18",
    "throughput": "IN-19",
    "throughput-wide": "IN-06",
    "first-record": "IN-20",
}
# What only a machine that does nothing else can answer.
COSTLY = (
    "rss_",
    "first_record",
    "first_seen_p99_s",
    "first_seen_s",
    "measured_hz",
    "latency",
    "ack_latency",
    "load_time",
)


def built(name: str, *more: str, scale: float = 0.02) -> Scenario:
    """A scenario of the suite without what only a quiet machine can answer, its target with more options."""
    scenario = suites.entries()[f"pipeline.{name}"].build(scale)
    assert isinstance(scenario, Scenario)
    target = msgspec.structs.replace(scenario.target, args=(*scenario.target.args, *more))
    criteria = tuple(one for one in scenario.criteria if not one.metric.removeprefix("target.").startswith(COSTLY))
    drain_limit_s = 2.0 if more else scenario.drain_limit_s  # what a liar has lost will not come
    return msgspec.structs.replace(scenario, target=target, criteria=criteria, lag_limit_s=30.0, drain_limit_s=drain_limit_s)


def play(folder: Path, scenario: Scenario) -> tuple[ScenarioResult, Session]:
    session = Session(scenario, Settings(agents=1, seed=7), RunFolder(folder), Progress(quiet=True))
    return asyncio.run(session.play()), session


def broken(result: ScenarioResult) -> dict[str, str]:
    return {criterion.text: criterion.note for criterion in result.criteria if criterion.verdict is not Verdict.PASS}


def test_suite_has_its_names_and_numbers() -> None:
    found = {entry.id.removeprefix("pipeline."): entry.plan for entry in suites.SUITES["pipeline"]}

    assert found == PLANS


@pytest.mark.parametrize("name", PLANS)
def test_scenario_against_the_honest_pipeline_passes(name: str, tmp_path: Path) -> None:
    result, _ = play(tmp_path, built(name))

    assert broken(result) == {}
    assert result.verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("name", "lie", "criterion"),
    [
        ("groups", "miscount=1", "target.groups_wrong == 0"),
        ("backpressure", "ahead=200", "target.in_flight_max <= 150"),
        ("backpressure", "ahead=200", "target.in_flight_seen <= 150"),
        ("backpressure", "ahead=200", "target.ahead_seen < 50"),
        ("backpressure", "overemit=1", "target.unasked == 0"),
        ("network-failure", "repeat=1", "duplicated == 0"),
        ("network-cut", "repeat=1", "duplicated == 0"),
        ("network-cut", "skip=1", "lost == 0"),
        ("rapid-cycles", "skip=1", "delivered == 500"),
        ("varying-load", "skip=1", "lost == 0"),
        ("throughput", "miscount=1", "target.groups_wrong == 0"),
    ],
)
def test_scenario_against_a_pipeline_that_is_broken_in_its_way_fails(name: str, lie: str, criterion: str, tmp_path: Path) -> None:
    result, _ = play(tmp_path, built(name, "--lie", lie))

    assert result.verdict is Verdict.FAIL
    assert criterion in broken(result)


def test_criterion_on_a_number_that_the_target_does_not_know_is_unknown_and_names_those_it_does(tmp_path: Path) -> None:
    scenario = built("rapid-cycles")
    unknown = msgspec.structs.replace(scenario.criteria[0], text="target.grupps == 0", metric="target.grupps", operator="==", limit=0.0)

    result, _ = play(tmp_path, msgspec.structs.replace(scenario, criteria=(*scenario.criteria, unknown)))

    assert result.verdict is Verdict.UNKNOWN
    assert "target.grupps was not observed" in broken(result)["target.grupps == 0"]
    assert "groups_wrong" in broken(result)["target.grupps == 0"]


@pytest.mark.parametrize("name", [entry.id for entry in suites.SUITES["liars"] if entry.id.startswith("liars.pipeline-")])
def test_lie_is_caught_with_the_exact_count_and_its_twin_cleared(name: str, tmp_path: Path) -> None:
    trial = suites.entries()[name].build(1.0)
    assert isinstance(trial, Trial)

    honest, _ = play(tmp_path, trial.honest)
    lying, session = play(tmp_path, trial.lying)
    result = verdict_on_trial(trial.id, trial.title, honest=honest, lying=lying, observed=session.observed, caught=trial.caught)

    assert broken(result) == {}
    assert result.verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("options", "verdict"),
    [
        pytest.param({"network": "latency=1ms limit=1GB reset=1h"}, Verdict.FAIL, id="a network that cuts nothing"),
        pytest.param({"store": "memory", "network": ""}, Verdict.UNKNOWN, id="no network"),
    ],
)
def test_network_cut_without_a_cut_is_no_pass(options: dict[str, str], verdict: Verdict, tmp_path: Path) -> None:
    scenario = built("network-cut")
    harmless = msgspec.structs.replace(scenario, driver_options={**scenario.driver_options, **options})

    result, _ = play(tmp_path, harmless)

    told = {criterion.text.split()[0]: criterion.verdict for criterion in result.criteria}
    assert result.verdict is not Verdict.PASS
    assert told["target.network_limit_hits"] is told["target.network_reset_hits"] is verdict
    assert result.delivery is not None
    assert (result.delivery.lost, result.delivery.duplicated) == (0, 0)
