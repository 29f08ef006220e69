"""The token scenarios pass against honest systems and bite: against one that lies in the way a scenario is about they FAIL.

Whole runs with real processes, at a small scale; what judges time, speed or memory is left to runs on a quiet machine.
"""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import msgspec
import pytest

from floodmark import suites
from floodmark.judge.observe import Answers, Record, observe
from floodmark.judge.verdict import judge
from floodmark.model.result import ScenarioResult
from floodmark.model.scenario import Fast, Scenario
from floodmark.model.trial import Trial
from floodmark.model.verdict import Verdict
from floodmark.report.folder import RunFolder
from floodmark.report.profiled import Profile
from floodmark.report.terminal import Progress
from floodmark.runner import python
from floodmark.runner.session import Session, Settings
from floodmark.runner.trial import verdict_on_trial
from floodmark.suites import token_liars
from floodmark.systems.conductor.host.lies import LIES as CONDUCTOR_LIES
from floodmark.systems.conductor.tokens.lies import LIES as TOKEN_LIES
from tests.runner.played import play as run_command

PLANS = {
    "short-1m": "T1",
    "medium-1m": "T2",
    "long-1k": "T3",
    "rapid": "T4",
    "backpressure": "T5",
    "conversations": "C1",
    "mixed": "C2",
    "error-injection": "C3",
    "network": "C4",
    "latency": "baseline",
    "hang": "hang",
    "cut": "cut",
    "limits": "limits",
    "pruning": "pruning",
    "sessions": "sessions",
}
OF_CONDUCTORS = ("pruning", "sessions")
NAMES = [*PLANS, *(f"sse-{name}" for name in PLANS if name not in OF_CONDUCTORS)]
# What only a machine that does nothing else can answer.
COSTLY = ("rss_", "throughput", "latency_p99", "ttft_", "token_gap_max", "pace_error", "close_time_max", "poll_", "quit_max_s", "stalls")

needs_py_spy = pytest.mark.skipif(bool(python.why_not_py_spy()), reason=f"cannot be tried here: {python.why_not_py_spy()}")


def built(name: str, *more: str, scale: float = 0.02) -> Scenario:
    """A scenario of the suite without what only a quiet machine can answer, its target with more options."""
    scenario = suites.entries()[f"tokens.{name}"].build(scale)
    assert isinstance(scenario, Scenario)
    target = msgspec.structs.replace(scenario.target, args=(*scenario.target.args, *more))
    costly = COSTLY if not name.endswith("hang") else COSTLY[:-1]  # whose stalls are what it is about
    criteria = tuple(one for one in scenario.criteria if not one.metric.removeprefix("target.").startswith(costly))
    drain_limit_s = 2.0 if more else scenario.drain_limit_s  # what a liar has lost will not come
    return msgspec.structs.replace(scenario, target=target, criteria=criteria, lag_limit_s=30.0, drain_limit_s=drain_limit_s)


def play(folder: Path, scenario: Scenario) -> tuple[ScenarioResult, Session]:
    session = Session(scenario, Settings(agents=1, seed=7), RunFolder(folder), Progress(quiet=True))
    return asyncio.run(session.play()), session


def broken(result: ScenarioResult) -> dict[str, str]:
    return {criterion.text: criterion.note for criterion in result.criteria if criterion.verdict is not Verdict.PASS}


def test_suite_has_its_names_and_numbers() -> None:
    found = {entry.id.removeprefix("tokens."): entry.plan for entry in suites.SUITES["tokens"]}

    assert found == {name: PLANS.get(name, "") for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_scenario_against_the_honest_system_passes(name: str, tmp_path: Path) -> None:
    result, _ = play(tmp_path, built(name))

    assert broken(result) == {}
    assert result.verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("name", "more", "criterion"),
    [
        ("short-1m", ("--lie", "skip=1"), "lost == 0"),
        ("medium-1m", ("--lie", "flip=1"), "corrupted == 0"),
        ("long-1k", ("--lie", "repeat=1"), "duplicated == 0"),
        ("rapid", ("--lie", "swap=1"), "reordered == 0"),
        ("conversations", ("--lie", "cross=1"), "corrupted == 0"),
        ("conversations", ("--lie", "stats=1"), "stats_error == 0"),
        ("backpressure", ("--overflow", "drop_oldest", "--buffer", "100"), "lost == 0"),
        ("mixed", ("--lie", "late=1"), "odd_events == 0"),
        ("error-injection", ("--lie", "error=1"), "streams_failed == 10"),
        ("hang", ("--idle-limit", "30"), "target.streams_failed == 4"),
        ("limits", ("--streams", "15"), "refused == 8"),
        ("limits", ("--streams", "20"), "refused == 8"),
        ("pruning", ("--session-messages", "2000"), "target.messages <= 1700"),
        ("sse-short-1m", ("--lie", "drop=1"), "lost == 0"),
        ("sse-long-1k", ("--lie", "truncate=1"), "delivered == 100"),
        ("sse-medium-1m", ("--lie", "usage=1"), "usage_wrong == 0"),
        ("sse-mixed", ("--lie", "repeat=1"), "duplicated == 0"),
        ("sse-conversations", ("--lie", "no-end=1"), "streams_failed == 0"),
        ("sse-error-injection", ("--lie", "error=1"), "streams_failed == 10"),
        ("sse-limits", ("--max-streams", "20"), "refused == 8"),
    ],
)
def test_scenario_against_a_system_that_is_broken_in_its_way_fails(
    name: str, more: tuple[str, ...], criterion: str, tmp_path: Path
) -> None:
    result, _ = play(tmp_path, built(name, *more))

    assert result.verdict is Verdict.FAIL
    assert criterion in broken(result)


@pytest.mark.parametrize("name", ["backpressure", "sse-backpressure"])
def test_backpressure_without_a_slow_reader_is_no_pass(name: str, tmp_path: Path) -> None:
    scenario = built(name)
    hasty = msgspec.structs.replace(scenario.population, consumer=Fast())

    result, _ = play(tmp_path, msgspec.structs.replace(scenario, population=hasty))

    assert [text.split()[0] for text in broken(result)] == ["load_time"]
    assert result.verdict is Verdict.FAIL


@pytest.mark.parametrize("name", ["cut", "network", "sse-cut", "sse-network"])
def test_scenario_whose_fault_strikes_nobody_is_no_pass(name: str, tmp_path: Path) -> None:
    scenario = built(name)
    harmless = tuple(msgspec.structs.replace(fault, ratio=0.0) for fault in scenario.faults)

    result, _ = play(tmp_path, msgspec.structs.replace(scenario, faults=harmless))

    assert result.verdict is not Verdict.PASS
    assert any(text.startswith("fault_hits") for text in broken(result))


@pytest.mark.parametrize("name", NAMES)
def test_scenario_of_which_nothing_is_seen_keeps_no_promise(name: str) -> None:
    scenario = suites.entries()[f"tokens.{name}"].build(1.0)
    assert isinstance(scenario, Scenario)

    nothing = judge(scenario.criteria, observe(Record(answers=Answers())))

    kept = {criterion.text.split()[0] for criterion in nothing if criterion.verdict is Verdict.PASS}
    # Counts of what the target did to us: none happened, and that alone makes no run pass.
    assert kept <= {"disconnects", "ended", "refused", "unanswered"}


@pytest.mark.parametrize("entry", token_liars.ENTRIES, ids=[entry.id for entry in token_liars.ENTRIES])
def test_lie_is_caught_with_the_exact_count_and_its_twin_cleared(entry: suites.Entry, tmp_path: Path) -> None:
    trial = entry.build(1.0)
    assert isinstance(trial, Trial)

    honest, _ = play(tmp_path, trial.honest)
    lying, session = play(tmp_path, trial.lying)
    result = verdict_on_trial(trial.id, trial.title, honest=honest, lying=lying, observed=session.observed, caught=trial.caught)

    assert broken(result) == {}
    assert result.verdict is Verdict.PASS


def test_liars_there_is_one_for_every_lie_that_a_conductor_and_a_token_server_know() -> None:
    told: dict[str, list[str]] = {"conductor": [], "tokens": []}
    for entry in token_liars.ENTRIES:
        trial = entry.build(1.0)
        assert isinstance(trial, Trial)
        args = trial.lying.target.args
        told[str(trial.lying.target.system)] += [lie.partition("=")[0] for word, lie in itertools.pairwise(args) if word == "--lie"]

    assert sorted(told["conductor"]) == sorted(CONDUCTOR_LIES)
    assert sorted(told["tokens"]) == sorted(TOKEN_LIES)


@pytest.mark.parametrize("kind", [pytest.param("cpu", marks=needs_py_spy), "memory"])
def test_profile_of_a_conductor_under_tokens_names_its_own_functions(kind: str, tmp_path: Path) -> None:
    run_command(tmp_path, "run", "tokens.short-1m", "--scale", "0.3", "--profile", kind)

    (file,) = (tmp_path / "runs" / "latest" / "profiles").glob(f"*.{kind}.json")
    seen = msgspec.json.decode(file.read_bytes(), type=Profile)
    assert seen.trouble == ""
    assert any("conductor" in spot.file for spot in seen.spots)
