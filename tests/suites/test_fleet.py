"""The fleet's scenarios: they have the plan's names and numbers, their scripts are what they say, they pass and they bite.

Whole runs with real processes; those that take long or judge times are left to runs on a quiet machine.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from floodmark import suites
from floodmark.drivers.fleet_script import parse_script
from floodmark.model.arrival import Constant
from floodmark.model.result import ScenarioResult
from floodmark.model.scenario import Scenario
from floodmark.model.verdict import Verdict
from floodmark.report.folder import RunFolder
from floodmark.report.terminal import Progress
from floodmark.runner.session import Session, Settings
from floodmark.suites.fleet_common import script
from floodmark.suites.fleet_profiles import PROFILES, mishaps
from floodmark.suites.fleet_sharing import churn, replaced

PLANS = {
    "memory-isolated-1w-100p": "A1, 1w-100p",
    "memory-isolated-5w-100p": "A1, 5w-100p",
    "memory-isolated-10w-100p": "A1, 10w-100p",
    "memory-isolated-10w-500p": "A1, 10w-500p",
    "memory-isolated-25w-500p": "A1, 25w-500p",
    "memory-isolated": "A1",
    "memory-embedded": "A2",
    "memory-per-worker": "A3",
    "memory-per-partition": "A4",
    "scale-small": "A5",
    "scale-large": "A6",
    "rapid-scaling": "A7",
    "stability": "A8",
    "smoke": "A9",
    "id-churn": "A10",
    "ids-reclaimed": "A12",
    "churn-memory": "",
    "all-assigned": "B1",
    "unchanged": "B2",
    "affinity": "B3",
    "round-robin": "B4",
    "weighted": "B5",
    "refresh-add": "B6, add",
    "refresh-remove": "B6, remove",
    "refresh-weights": "B6, weights",
    "refresh-twice": "B6, cooldown",
    "rolling-update": "B13",
    "rolling-update-large": "B15",
    "rapid-scale": "B16",
    "churn": "B18",
    "cold-start": "B24, cold start",
    "planned-scale": "B24, planned scale",
    "thundering-herd": "B25",
    "newcomer": "B31",
    "same-ids": "B32",
    "many-workers": "",
    "blip": "B8",
    "loss": "B9",
    "two-lost": "B10",
    "crash": "B11",
    "crash-default-timing": "",
    "cascade": "B12",
    "slow-worker": "B14",
    "network-partition": "B17",
    "mass-failure": "B19",
    "mass-restart": "B24, restart",
    "leader-fails-in-rebalance": "B20",
    "slow-but-valid": "B21",
    "election-race": "B22",
    "leader-failover": "B23",
    "leader-churn": "B23, churn",
    "split-brain": "B26",
    "gray-failure": "B27",
    "publish-fails": "B28",
    "crash-masked-by-join": "B28a",
    "flapping": "B28b",
    "crash-in-cooldown": "B28c, cooldown",
    "crash-in-window": "B28c, window",
    "zombie": "B28d",
    "paused": "",
    "degraded": "B30",
    "server-restart": "",
    **{f"profile-{profile.name}": f"4.10 {profile.name}" for profile in PROFILES},
}


def built(name: str, *more: str, scale: float = 0.2, connect_limit_s: float = 15.0) -> Scenario:
    """A scenario of the suite, its target with more options; the last one of a kind counts."""
    scenario = suites.entries()[f"fleet.{name}"].build(scale)
    assert isinstance(scenario, Scenario)
    target = msgspec.structs.replace(scenario.target, args=(*scenario.target.args, *more))
    drain_limit_s = 2.0 if more else scenario.drain_limit_s
    return msgspec.structs.replace(scenario, target=target, drain_limit_s=drain_limit_s, connect_limit_s=connect_limit_s, lag_limit_s=10.0)


def play(folder: Path, scenario: Scenario) -> ScenarioResult:
    session = Session(scenario, Settings(agents=1, seed=7), RunFolder(folder), Progress(quiet=True))
    return asyncio.run(session.play())


def broken(result: ScenarioResult) -> dict[str, str]:
    return {criterion.text: criterion.note for criterion in result.criteria if criterion.verdict is not Verdict.PASS}


def test_suite_has_its_names_and_numbers() -> None:
    assert {entry.id.removeprefix("fleet."): entry.plan for entry in suites.SUITES["fleet"]} == PLANS


@pytest.mark.parametrize("scale", [0.1, 1.0])
@pytest.mark.parametrize("name", PLANS)
def test_script_is_over_before_the_load_is(name: str, scale: float) -> None:
    scenario = built(name, scale=scale)
    lines = parse_script(str(scenario.driver_options["script"]))
    seconds = sum(phase.duration_s or 0.0 for phase in scenario.phases)

    assert lines[-1].at_s < seconds
    assert any(line.word == "start" and line.at_s == 0 for line in lines)
    assert scenario.population.channels <= int(scenario.driver_options["partitions"])


@pytest.mark.parametrize("name", [name for name in PLANS if not name.startswith(("memory-", "churn-memory"))])
def test_last_word_leaves_the_fleet_its_time(name: str) -> None:
    scenario = built(name, scale=1.0)
    lines = [line for line in parse_script(str(scenario.driver_options["script"])) if line.word != "measure"]

    left_s = sum(phase.duration_s or 0.0 for phase in scenario.phases) - lines[-1].at_s

    assert left_s > float(scenario.driver_options["settle_s"]) or lines[-1].at_s == 0


@pytest.mark.parametrize(("scale", "limit"), [(0.01, 10), (0.25, 25), (1.0, 100)])
@pytest.mark.parametrize("name", ["degraded", "server-restart"])
def test_server_that_is_lost_may_leave_a_second_of_load_unanswered_and_no_more(name: str, scale: float, limit: int) -> None:
    scenario = built(name, scale=scale)

    assert [one.text for one in scenario.criteria if one.metric == "unanswered"] == [f"unanswered <= {limit}"]
    assert [phase.arrival for phase in scenario.phases] == [Constant(rate_hz=float(limit))]


def test_script_puts_words_in_order_and_keeps_those_of_one_time() -> None:
    assert (
        script("0 start 2", ("5 kill 1; 6 start 1", "5.5 measure"), "5 kill 2") == "0 start 2; 5 kill 1; 5 kill 2; 5.5 measure; 6 start 1"
    )


def test_replaced_each_worker_leaves_once() -> None:
    lines = parse_script(replaced(3, 4.0))

    assert [line.arguments["worker"] for line in lines if line.word == "stop"] == [1, 2, 3]
    assert sum(line.word == "start" for line in lines) == 4


def test_churn_stays_between_three_and_seven_workers_and_comes_again() -> None:
    workers, seen = 0, []
    for line in parse_script(churn(300.0)):
        workers += int(line.arguments.get("count", 1)) * (1 if line.word == "start" else -1)
        seen.append(workers)

    assert min(seen) >= 3
    assert max(seen) <= 7
    assert churn(300.0) == churn(300.0)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_mishaps_come_within_their_bounds_and_the_same_each_time(profile: object) -> None:
    one = next(one for one in PROFILES if one is profile)
    lines = parse_script(mishaps(one, 3_600.0))
    kinds = {line.word for line in lines}

    assert mishaps(one, 3_600.0) == mishaps(one, 3_600.0)
    assert {"start", "stop", "kill", "pause", "resume"} <= kinds
    assert any(line.arguments.get("worker") == "leader" for line in lines)


def test_smoke_of_the_honest_fleet_passes(tmp_path: Path) -> None:
    result = play(tmp_path, built("smoke"))

    assert broken(result) == {}
    assert result.verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("name", "more", "criterion"),
    [
        ("smoke", ("--lie", "lose=1"), "target.coverage_gaps == 0"),
        ("smoke", ("--lie", "drop=10"), "lost == 0"),
        ("loss", ("--set", "heartbeat_ttl_s=2.5", "--set", "emergency_grace_s=2"), "target.reassign_max_s < 2.4s"),
        ("smoke", ("--lie", "stale=1"), "target.stale_writes == 0"),
    ],
)
def test_scenario_against_a_fleet_that_is_broken_in_its_way_fails(name: str, more: tuple[str, ...], criterion: str, tmp_path: Path) -> None:
    # One that loses a partition never stands: both its start and the warm-up take all the time that they have.
    result = play(tmp_path, built(name, *more, connect_limit_s=5.0 if "lose=1" in more else 15.0))

    assert result.verdict is Verdict.FAIL
    assert criterion in broken(result)
