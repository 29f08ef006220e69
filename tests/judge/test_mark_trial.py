"""One trial, judged: a queue that only the end of the load stops is a break, a late generator is none."""

from __future__ import annotations

import msgspec
import pytest

from floodmark.judge.mark_trial import CARRIED, trial_of, with_carried
from floodmark.model.arrival import Constant, Flood
from floodmark.model.criterion import parse
from floodmark.model.mark import Outcome
from floodmark.model.result import CriterionResult, GeneratorUsage, Latencies, LatencySummary, ScenarioResult
from floodmark.model.scenario import Fault, Phase, Population, Scenario, Slow
from floodmark.model.verdict import Verdict

SCENARIO = Scenario(
    id="tried",
    population=Population(connections=10),
    phases=(Phase(arrival=Constant(rate_hz=100), duration_s=5),),
    criteria=(parse("lost == 0"),),
)


def result(
    verdict: Verdict = Verdict.PASS, *, load_time_s: float | None = 5.0, p50_ms: float = 5.0, lag_ms: float = 0.0, criteria: object = None
) -> ScenarioResult:
    own = CriterionResult(text="lost == 0", observed=0.0 if verdict is Verdict.PASS else 7.0, verdict=verdict, note="lost was 7")
    return ScenarioResult(
        id="tried@rate_hz=100",
        plan="",
        verdict=verdict,
        scale=1.0,
        duration_s=8.0,
        criteria=(own,) if criteria is None else criteria,  # type: ignore[arg-type]
        latency_ns=Latencies(response=LatencySummary(p50=int(p50_ms * 1e6), p99=int(p50_ms * 2e6), count=500)),
        throughput_hz=1000.0,
        generator=GeneratorUsage(lag_ns_p99=int(lag_ms * 1e6)),
        metrics={} if load_time_s is None else {"load_time": load_time_s},
    )


def of(text: str, verdict: Verdict, note: str = "") -> CriterionResult:
    return CriterionResult(text=text, observed=None, verdict=verdict, note=note)


@pytest.mark.parametrize(("load_time_s", "p50_ms"), [(5.0, 5.0), (5.2, 5.0), (6.0, 1000.0), (4.9, 1.0)])
def test_with_carried_of_a_load_delivered_in_its_time_holds(load_time_s: float, p50_ms: float) -> None:
    judged = with_carried(SCENARIO, result(load_time_s=load_time_s, p50_ms=p50_ms))

    assert judged.verdict is Verdict.PASS
    assert (judged.criteria[-1].text, judged.criteria[-1].verdict) == (CARRIED, Verdict.PASS)


def test_with_carried_of_a_queue_that_grew_throughout_fails_though_nothing_was_lost() -> None:
    judged = with_carried(SCENARIO, result(load_time_s=6.5, p50_ms=750))  # 30 % more than it takes: the last one waits for 1.5 s

    assert judged.verdict is Verdict.FAIL
    assert trial_of(100, judged).by == CARRIED
    assert "a queue grew" in trial_of(100, judged).why


def test_with_carried_takes_off_what_the_generator_itself_was_late() -> None:
    assert with_carried(SCENARIO, result(load_time_s=5.6, lag_ms=200)).verdict is Verdict.PASS
    assert with_carried(SCENARIO, result(load_time_s=5.6, lag_ms=0)).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    "scenario",
    [
        msgspec.structs.replace(SCENARIO, phases=(Phase(arrival=Flood(), messages=100),)),
        msgspec.structs.replace(SCENARIO, phases=(Phase(arrival=Constant(rate_hz=9), messages=100),)),
        msgspec.structs.replace(SCENARIO, faults=(Fault(kind="disconnect"),)),
        msgspec.structs.replace(SCENARIO, population=Population(connections=10, consumer=Slow(rate_bytes_per_s=10))),
    ],
)
def test_with_carried_of_a_load_whose_time_says_nothing_adds_nothing(scenario: Scenario) -> None:
    plain = result(load_time_s=60.0)

    assert with_carried(scenario, plain) == plain


def test_with_carried_of_a_run_that_never_came_to_its_load_adds_nothing() -> None:
    plain = result(Verdict.UNKNOWN, load_time_s=None)

    assert with_carried(SCENARIO, plain) == plain


def test_trial_of_a_pass_held_with_its_figures() -> None:
    trial = trial_of(100, result())

    assert (trial.outcome, trial.by, trial.why) == (Outcome.HELD, "", "")
    assert (trial.scenario, trial.p99_ns, trial.throughput_hz, trial.duration_s) == ("tried@rate_hz=100", 10_000_000, 1000.0, 8.0)


def test_trial_of_a_fail_broke_by_its_first_broken_criterion() -> None:
    trial = trial_of(100, result(Verdict.FAIL))

    assert (trial.outcome, trial.by, trial.why) == (Outcome.BROKE, "lost == 0", "lost was 7")


@pytest.mark.parametrize(
    "ours",
    [
        of("generator_lag_p99 <= 250ms", Verdict.UNKNOWN, "the generator itself was late, so the figures say more about it"),
        of("dropped_by_us == 0", Verdict.UNKNOWN, "the harness had no connection left"),
        of("not_opened_by_us == 0", Verdict.UNKNOWN, "this machine had no local port left"),
        of("latency_p99 < 100ms", Verdict.UNKNOWN, "was 168 ms, but the generator itself was late, so this says nothing"),
    ],
)
@pytest.mark.parametrize("verdict", [Verdict.UNKNOWN, Verdict.FAIL])
def test_trial_of_a_generator_at_its_limit_is_unknown_whatever_else_broke(ours: CriterionResult, verdict: Verdict) -> None:
    trial = trial_of(100, result(verdict, criteria=(of("lost == 0", verdict), ours)))

    assert trial.outcome is Outcome.UNKNOWN
    assert trial.generator
    assert trial.why == ours.note


def test_trial_of_a_stated_limit_of_the_generators_lag_that_was_kept_is_no_limit_of_ours() -> None:
    trial = trial_of(100, result(criteria=(of("generator_lag_p99 <= 1s", Verdict.PASS),)))

    assert trial.outcome is Outcome.HELD


def test_trial_of_a_run_without_evidence_is_unknown_and_not_the_generators() -> None:
    trial = trial_of(100, result(Verdict.UNKNOWN, criteria=(of("lost == 0", Verdict.UNKNOWN, "the load never began"),)))

    assert (trial.outcome, trial.generator) == (Outcome.UNKNOWN, False)
    assert trial.why == "lost == 0: the load never began"


def test_trial_of_an_empty_result_is_unknown() -> None:
    assert trial_of(100, result(Verdict.UNKNOWN, criteria=())).outcome is Outcome.UNKNOWN
