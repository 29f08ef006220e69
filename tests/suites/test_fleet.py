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
from floodmark.judge.observe import Answers, Record, observe
from floodmark.judge.verdict import judge
from floodmark.model.arrival import Constant
from floodmark.model.result import ScenarioResult
from floodmark.model.scenario import Scenario
from floodmark.model.trial import Trial
from floodmark.model.verdict import Verdict
from floodmark.report.folder import RunFolder
from floodmark.report.terminal import Progress
from floodmark.runner.session import Session, Settings
from floodmark.runner.trial import verdict_on_trial
from floodmark.suites.fleet_common import script
from floodmark.suites.fleet_costs import CHURNING
from floodmark.suites.fleet_costs import churn as coming_and_going
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


def session(folder: Path, scenario: Scenario) -> Session:
    return Session(scenario, Settings(agents=1, seed=7), RunFolder(folder), Progress(quiet=True))


def play(folder: Path, scenario: Scenario) -> ScenarioResult:
    return asyncio.run(session(folder, scenario).play())


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


@pytest.mark.parametrize("scale", [0.01, 0.2, 1.0])
def test_churn_of_memory_has_as_many_come_as_go_and_looks_at_equal_numbers_of_workers(scale: float) -> None:
    course = coming_and_going(scale)
    workers, came, seen = 0, 0, []
    for line in parse_script(course.words):
        count = int(line.arguments.get("count", 1))
        if line.word == "measure":
            seen.append(workers)
        else:
            workers += count if line.word == "start" else -count
            came += count if line.word == "start" and line.at_s else 0

    assert came == course.comings
    assert seen == [CHURNING] * course.rounds
    assert course.rounds >= 8  # a rise is told of eight looks


@pytest.mark.parametrize(("scale", "found_bytes"), [(1.0, 10_000), (0.5, 20_000), (0.01, 50_000)])
def test_churn_of_memory_allows_half_of_what_it_is_to_find_of_each_worker(scale: float, found_bytes: int) -> None:
    scenario, course = built("churn-memory", scale=scale), coming_and_going(scale)

    [limit] = [one.limit for one in scenario.criteria if one.metric == "leak_bytes_per_message"]
    [phase] = scenario.phases
    assert isinstance(phase.arrival, Constant)
    messages = phase.arrival.rate_hz * (phase.duration_s or 0.0)

    assert limit * messages == pytest.approx(found_bytes / 2 * course.comings, rel=0.01)


def test_process_that_keeps_memory_of_workers_that_have_gone_is_found_out_and_its_twin_cleared(tmp_path: Path) -> None:
    trial = suites.entries()["liars.fleet-keep"].build(1.0)
    assert isinstance(trial, Trial)
    folders = [tmp_path / "honest", tmp_path / "lying"]
    for folder in folders:
        folder.mkdir()
    twins = [session(folder, scenario) for folder, scenario in zip(folders, (trial.honest, trial.lying), strict=True)]

    async def both() -> list[ScenarioResult]:  # beside each other: each takes the seconds that its samples need
        async with asyncio.TaskGroup() as tasks:
            playing = [tasks.create_task(twin.play()) for twin in twins]
        return [task.result() for task in playing]

    honest, lying = asyncio.run(both())
    observed = twins[1].observed
    result = verdict_on_trial(trial.id, trial.title, honest=honest, lying=lying, observed=observed, caught=trial.caught)

    assert broken(result) == {}
    assert result.verdict is Verdict.PASS
    assert set(broken(lying)) == {one.text for one in trial.lying.criteria if one.metric == "leak_bytes_per_message"}


def test_churn_of_memory_of_which_nothing_is_seen_keeps_no_promise() -> None:
    nothing = judge(built("churn-memory").criteria, observe(Record(answers=Answers())))

    kept = {criterion.text.split()[0] for criterion in nothing if criterion.verdict is Verdict.PASS}
    told = {criterion.text.split()[0]: criterion.verdict for criterion in nothing}
    assert told["leak_bytes_per_message"] is told["target.memory_rise_bytes"] is told["target.looks"] is Verdict.UNKNOWN
    assert kept <= {"disconnects", "ended", "refused", "unanswered"}  # of what was done to us, and that alone makes no run pass


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
